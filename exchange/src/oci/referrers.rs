//! Lists of referrers: the registry's own, or the list under a tag that clients keep where a registry has none.
//!
//! A list is only a hint where to look. Every manifest in it is fetched by digest and must say for itself what it is
//! and what it is about. That an entry was left out cannot be seen here; the gate then misses an approval.

use oci_client::manifest::{ImageIndexEntry, OciImageIndex};

use super::form::{self, INDEX_TYPE, Kind, MANIFEST_TYPE};
use super::registry::Registry;
use crate::digest::Digest;
use crate::error::{Code, Fault, Result};
use crate::files::TEXT_BYTES_MAX;

/// Agreements and approvals of one question that are looked at.
const REFERRERS_MAX: usize = 256;

/// A referrer with its content, all digests checked.
#[derive(Debug)]
pub(super) struct Referrer {
    pub(super) kind: Kind,
    pub(super) title: String,
    pub(super) content: Vec<u8>,
}

/// The agreements and approvals that refer to a manifest, and how many other referrers there are.
pub(super) async fn fetch(registry: &Registry, subject: &Digest) -> Result<(Vec<Referrer>, usize)> {
    let entries = list(registry, subject).await?;
    let ours: Vec<(Kind, &ImageIndexEntry)> =
        entries.iter().filter_map(|entry| Some((Kind::of(entry.artifact_type.as_deref()?)?, entry))).collect();
    if ours.len() > REFERRERS_MAX {
        return Err(Fault::new(
            Code::Oversize,
            format!("{} agreements and approvals are listed, at most {REFERRERS_MAX} are read", ours.len()),
            "push the question to a repository of its own",
        ));
    }
    let mut referrers = Vec::new();
    for (kind, entry) in &ours {
        referrers.push(fetch_one(registry, *kind, entry, subject).await?);
    }
    Ok((referrers, entries.len() - ours.len()))
}

async fn fetch_one(registry: &Registry, kind: Kind, entry: &ImageIndexEntry, subject: &Digest) -> Result<Referrer> {
    if entry.media_type != MANIFEST_TYPE {
        return Err(lie(&format!("a referrer is listed as {:?}, not as a manifest", entry.media_type)));
    }
    let part = form::sized(&entry.digest, entry.size, TEXT_BYTES_MAX)?;
    let bytes = registry.manifest(&part.digest).await.map_err(|fault| match fault.code() {
        Code::NotFound => lie(&format!("{} is listed as a referrer and is not there", part.digest)),
        _ => fault,
    })?;
    if bytes.len() as u64 != part.size {
        return Err(lie(&format!("{} is listed with another size than it has", part.digest)));
    }
    let manifest = form::read_referrer(&bytes, kind, subject)?;
    Ok(Referrer { kind, title: manifest.title, content: registry.blob(manifest.layer).await? })
}

async fn list(registry: &Registry, subject: &Digest) -> Result<Vec<ImageIndexEntry>> {
    let pages = match registry.referrers(subject).await? {
        Some(pages) => pages,
        None => registry.tagged_index(&subject.referrers_tag()).await?.into_iter().collect(),
    };
    let mut entries: Vec<ImageIndexEntry> = Vec::new();
    for page in pages {
        for entry in read_index(&page)?.manifests {
            // Pages may overlap when something is pushed meanwhile.
            if !entries.iter().any(|known| known.digest == entry.digest) {
                entries.push(entry);
            }
        }
    }
    Ok(entries)
}

/// Adds entries to the list under the tag. Two that do so at the same moment can undo each other's work: the
/// specification has no remedy, and pushing again heals it.
pub(super) async fn add_to_tag(registry: &Registry, subject: &Digest, new: Vec<ImageIndexEntry>) -> Result<()> {
    let tag = subject.referrers_tag();
    let mut index = match registry.tagged_index(&tag).await? {
        // What is there and cannot be read is not ours to replace.
        Some(bytes) => read_index(&bytes)?,
        None => OciImageIndex {
            schema_version: 2,
            media_type: Some(INDEX_TYPE.into()),
            manifests: Vec::new(),
            artifact_type: None,
            annotations: None,
        },
    };
    for entry in new {
        if !index.manifests.iter().any(|known| known.digest == entry.digest) {
            index.manifests.push(entry);
        }
    }
    registry.push_index(&tag, &form::to_json(&index)?).await
}

fn read_index(bytes: &[u8]) -> Result<OciImageIndex> {
    let index: OciImageIndex = serde_json::from_slice(bytes)
        .map_err(|error| lie(&format!("the list of referrers cannot be read: {error}")))?;
    match index.media_type.as_deref() {
        Some(INDEX_TYPE) | None if index.schema_version == 2 => Ok(index),
        _ => Err(lie("the list of referrers is no list of manifests")),
    }
}

fn lie(fact: &str) -> Fault {
    Fault::new(Code::ReferrersInvalid, fact, "ask whoever runs the registry; nothing was written")
}
