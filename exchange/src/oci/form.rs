//! The form of what is stored: media types, manifests as they are written, and what is accepted when they are read.

use std::collections::BTreeMap;

use oci_client::manifest::{ImageIndexEntry, OciDescriptor, OciImageManifest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agreement::Wrapping;
use crate::component::Interface;
use crate::digest::Digest;
use crate::error::{Code, Fault, Result};
use crate::files::{COMPONENT_BYTES_MAX, TEXT_BYTES_MAX};

/// An OCI manifest.
pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// A list of manifests.
pub(crate) const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
const COMPONENT_TYPE: &str = "application/wasm";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// The configuration of an artifact that has none.
pub(crate) const EMPTY: &[u8] = b"{}";
const AGREEMENT_TYPE: &str = "application/vnd.glovebox.agreement+json";
/// The annotation that holds `question.toml`.
const QUESTION_ANNOTATION: &str = "dev.glovebox.question.toml";
const TITLE_ANNOTATION: &str = "org.opencontainers.image.title";
/// The agreement that an approval is for. Whoever looks for approvals can tell by it; a pull reads the approval itself.
const AGREEMENT_ANNOTATION: &str = "dev.glovebox.agreement.sha256";

/// The configuration of a component's artifact.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WasmConfig {
    created: String,
    architecture: String,
    os: String,
    layer_digests: Vec<String>,
    component: Option<ComponentConfig>,
}

/// The target is left out: it names a world that no reader could check.
#[derive(Debug, Serialize, Deserialize)]
struct ComponentConfig {
    exports: Vec<String>,
    imports: Vec<String>,
}

/// A part of a manifest, with its digest read and its size within bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// A question's manifest, as far as it is needed.
#[derive(Debug)]
pub(crate) struct QuestionManifest {
    pub(crate) config: Part,
    pub(crate) component: Part,
    pub(crate) question_toml: String,
}

/// What a referrer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An `agreement.json`.
    Agreement,
    /// An approval, so wrapped.
    Approval(Wrapping),
}

impl Kind {
    /// The artifact type, which is the media type of the layer as well.
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Agreement => AGREEMENT_TYPE,
            Self::Approval(wrapping) => wrapping.media_type(),
        }
    }

    /// The kind of an artifact type; other people's referrers are of none.
    pub(crate) fn of(artifact_type: &str) -> Option<Self> {
        let approvals = Wrapping::ALL.map(Self::Approval);
        [Self::Agreement].into_iter().chain(approvals).find(|kind| kind.media_type() == artifact_type)
    }
}

/// A referrer's manifest, as far as it is needed.
#[derive(Debug)]
pub(crate) struct ReferrerManifest {
    pub(crate) layer: Part,
    pub(crate) title: String,
}

/// The configuration of a question. The same question has the same bytes whenever it is pushed, so that referrers of
/// an earlier push stay its referrers: the time is that of `SOURCE_DATE_EPOCH`'s default, the beginning of 1970.
pub(crate) fn config(component: &Digest, interface: Interface) -> Result<Vec<u8>> {
    let config = WasmConfig {
        created: "1970-01-01T00:00:00Z".into(),
        architecture: "wasm".into(),
        os: "wasip2".into(),
        layer_digests: vec![component.to_string()],
        component: Some(ComponentConfig { exports: interface.exports, imports: interface.imports }),
    };
    to_json(&config)
}

/// The manifest of a question.
pub(crate) fn question(config: &[u8], component: &[u8], question_toml: &str) -> Result<Vec<u8>> {
    let bytes = to_json(&OciImageManifest {
        media_type: Some(MANIFEST_TYPE.into()),
        config: descriptor(CONFIG_TYPE, config),
        layers: vec![descriptor(COMPONENT_TYPE, component)],
        annotations: Some(BTreeMap::from([(QUESTION_ANNOTATION.into(), question_toml.into())])),
        ..OciImageManifest::default()
    })?;
    if bytes.len() as u64 > TEXT_BYTES_MAX {
        return Err(Fault::new(Code::Oversize, "question.toml is too long for a manifest", "make it shorter"));
    }
    Ok(bytes)
}

/// The manifest of a referrer, and its entry in a list of referrers.
pub(crate) fn referrer(
    kind: Kind,
    title: &str,
    agreement: &Digest,
    content: &[u8],
    subject: &OciDescriptor,
) -> Result<(Vec<u8>, ImageIndexEntry)> {
    let annotations = BTreeMap::from([(AGREEMENT_ANNOTATION.to_owned(), agreement.hex())]);
    let mut layer = descriptor(kind.media_type(), content);
    layer.annotations = Some(BTreeMap::from([(TITLE_ANNOTATION.into(), title.into())]));
    let manifest = to_json(&OciImageManifest {
        media_type: Some(MANIFEST_TYPE.into()),
        artifact_type: Some(kind.media_type().into()),
        config: descriptor(EMPTY_TYPE, EMPTY),
        layers: vec![layer],
        subject: Some(subject.clone()),
        annotations: Some(annotations.clone()),
        ..OciImageManifest::default()
    })?;
    let entry = ImageIndexEntry {
        media_type: MANIFEST_TYPE.into(),
        digest: Digest::of(&manifest).to_string(),
        size: length(&manifest),
        platform: None,
        annotations: Some(annotations),
        artifact_type: Some(kind.media_type().into()),
    };
    Ok((manifest, entry))
}

/// Describes these bytes.
pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> OciDescriptor {
    OciDescriptor {
        media_type: media_type.into(),
        digest: Digest::of(bytes).to_string(),
        size: length(bytes),
        ..OciDescriptor::default()
    }
}

/// What is written was bounded when it was read.
fn length(bytes: &[u8]) -> i64 {
    i64::try_from(bytes.len()).unwrap_or(i64::MAX)
}

/// One line of JSON in the order of the fields: the same content has the same digest.
pub(crate) fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|error| Fault::new(Code::Internal, format!("cannot write JSON: {error}"), "report it"))
}

/// Reads the manifest of a question.
pub(crate) fn read_question(bytes: &[u8]) -> Result<QuestionManifest> {
    let manifest = read_manifest(bytes)?;
    if manifest.config.media_type != CONFIG_TYPE {
        return Err(invalid(format!(
            "the configuration is of type {:?}, a question's is {CONFIG_TYPE}",
            manifest.config.media_type
        )));
    }
    if manifest.subject.is_some() {
        return Err(invalid("the manifest refers to another, so it is no question".into()));
    }
    let layer = only_layer(&manifest)?;
    if layer.media_type != COMPONENT_TYPE {
        return Err(invalid(format!("the layer is of type {:?}, a component's is {COMPONENT_TYPE}", layer.media_type)));
    }
    let component = part(layer, COMPONENT_BYTES_MAX)?;
    let question_toml = manifest
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(QUESTION_ANNOTATION))
        .ok_or_else(|| invalid(format!("the manifest has no annotation {QUESTION_ANNOTATION}")))?;
    Ok(QuestionManifest {
        config: part(&manifest.config, TEXT_BYTES_MAX)?,
        component,
        question_toml: question_toml.clone(),
    })
}

/// Checks that a configuration is that of this component.
pub(crate) fn check_config(bytes: &[u8], component: &Digest) -> Result<()> {
    let config: WasmConfig =
        serde_json::from_slice(bytes).map_err(|error| invalid(format!("the configuration cannot be read: {error}")))?;
    if config.architecture != "wasm" || config.os != "wasip2" || config.component.is_none() {
        return Err(invalid("the configuration is not that of a component".into()));
    }
    if config.layer_digests != [component.to_string()] {
        return Err(invalid("the configuration lists other layers than the manifest".into()));
    }
    Ok(())
}

/// Reads the manifest of a referrer that a list said is of this kind.
pub(crate) fn read_referrer(bytes: &[u8], kind: Kind, subject: &Digest) -> Result<ReferrerManifest> {
    let manifest = read_manifest(bytes)?;
    let Some(actual) = &manifest.subject else {
        return Err(mismatch("a listed referrer has no subject".into()));
    };
    let actual: Digest = actual.digest.parse()?;
    if actual != *subject {
        return Err(mismatch(format!("a listed referrer is about {actual}, asked for was {subject}")));
    }
    let layer = only_layer(&manifest)?;
    if manifest.artifact_type.as_deref() != Some(kind.media_type()) || layer.media_type != kind.media_type() {
        return Err(Fault::new(
            Code::ReferrersInvalid,
            format!("a referrer is listed as {} and says of itself that it is another", kind.media_type()),
            "ask whoever runs the registry; nothing was written",
        ));
    }
    let title = layer.annotations.as_ref().and_then(|annotations| annotations.get(TITLE_ANNOTATION));
    Ok(ReferrerManifest { layer: part(layer, TEXT_BYTES_MAX)?, title: title.cloned().unwrap_or_default() })
}

fn read_manifest(bytes: &[u8]) -> Result<OciImageManifest> {
    let unreadable = |error: serde_json::Error| invalid(format!("the manifest cannot be read: {error}"));
    // Looked at first: a list has other fields than a manifest, and would be told to lack some.
    let value: Value = serde_json::from_slice(bytes).map_err(unreadable)?;
    let media_type = value.get("mediaType").and_then(Value::as_str).unwrap_or_default();
    if media_type != MANIFEST_TYPE {
        return Err(invalid(format!("the digest names a {media_type:?}, not a manifest")));
    }
    let manifest: OciImageManifest = serde_json::from_slice(bytes).map_err(unreadable)?;
    if manifest.schema_version == 2 {
        Ok(manifest)
    } else {
        Err(invalid("the manifest's schema version is not 2".into()))
    }
}

/// With two layers, one could be checked and the other one run.
fn only_layer(manifest: &OciImageManifest) -> Result<&OciDescriptor> {
    match manifest.layers.as_slice() {
        [one] => Ok(one),
        all => Err(invalid(format!("the manifest has {} layers, one is allowed", all.len()))),
    }
}

/// Reads digest and size of a descriptor.
pub(crate) fn part(descriptor: &OciDescriptor, max: u64) -> Result<Part> {
    sized(&descriptor.digest, descriptor.size, max)
}

/// Reads a digest and a size, before anything of that size is fetched.
pub(crate) fn sized(digest: &str, size: i64, max: u64) -> Result<Part> {
    let digest = digest.parse()?;
    match u64::try_from(size) {
        Ok(size) if size <= max => Ok(Part { digest, size }),
        _ => Err(Fault::new(
            Code::Oversize,
            format!("{digest} is said to have {size} bytes, at most {max} are accepted"),
            "a question is at most 8 MiB, everything else at most 1 MiB",
        )),
    }
}

fn invalid(fact: String) -> Fault {
    Fault::new(Code::ArtifactInvalid, fact, "name the digest that `glovebox-exchange push` printed")
}

fn mismatch(fact: String) -> Fault {
    Fault::new(Code::SubjectMismatch, fact, "ask whoever runs the registry; nothing was written")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Value {
        let bytes = question(b"{}", b"component", "name = \"reach\"\n").unwrap();
        assert_eq!(read_question(&bytes).unwrap().question_toml, "name = \"reach\"\n");
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn manifests_that_no_registry_would_keep_are_refused_as_well() {
        for (pointer, value) in [
            ("/schemaVersion", serde_json::json!(1)),
            ("/mediaType", serde_json::json!("application/vnd.docker.distribution.manifest.v2+json")),
            ("/layers", serde_json::json!({})),
            ("/annotations", serde_json::json!({QUESTION_ANNOTATION: 1})),
            ("/config", Value::Null),
        ] {
            let mut manifest = written();
            *manifest.pointer_mut(pointer).unwrap() = value;
            let refused = read_question(manifest.to_string().as_bytes()).unwrap_err();
            assert_eq!(refused.code(), Code::ArtifactInvalid, "{pointer}");
        }
        let twice = written().to_string().replacen('{', "{\"layers\":[],", 1);
        assert_eq!(read_question(twice.as_bytes()).unwrap_err().code(), Code::ArtifactInvalid);
        assert_eq!(read_question(b"").unwrap_err().code(), Code::ArtifactInvalid);
    }

    #[test]
    fn a_question_has_the_same_digest_whenever_it_is_pushed() {
        let digest = Digest::of(b"component");
        assert_eq!(config(&digest, Interface::default()).unwrap(), config(&digest, Interface::default()).unwrap());
        assert!(question(b"{}", b"component", &"\n".repeat(600 << 10)).is_err(), "each line feed takes two bytes");
    }

    #[test]
    fn kinds_are_told_by_their_artifact_type() {
        for kind in [Kind::Agreement, Kind::Approval(Wrapping::Envelope), Kind::Approval(Wrapping::Bundle)] {
            assert_eq!(Kind::of(kind.media_type()), Some(kind));
        }
        assert_eq!(Kind::of("application/spdx+json"), None);
    }
}
