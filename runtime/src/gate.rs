//! Step 1. Lets a run through only if these exact bytes, views, controls and destination were approved by every
//! affected party.
//!
//! Signatures are verified before the signed bytes are parsed. What passes is an [`Approved`], which nothing else
//! can make and which carries the very bytes that were checked.

mod approval;
mod envelope;
mod keys;
mod registry;

use std::collections::BTreeSet;
use std::sync::Arc;

use cap_std::fs::Dir;
use chrono::{DateTime, Utc};

pub use approval::approve;
pub(crate) use envelope::{IN_TOTO, Statement, Subject, open as open_envelope, seal as seal_envelope};
pub use keys::{SigningKey, load_key, new_key};
pub use registry::KeyHolder;
pub(crate) use registry::Registry;

use crate::clock;
use crate::error::{Code, Fault, Result};
use crate::files;
use crate::receipt::Trace;
use crate::room::{Agreement, BoundView, FileDigest, Kind, Manifest, Room, Slot, Value, sha256_hex};
use crate::sandbox;

/// File names and size limits of a room.
pub(crate) const ROOM_FILE: &str = "room.toml";
pub(crate) const REGISTRY_FILE: &str = "registry.json";
pub(crate) const AGREEMENT_FILE: &str = "agreement.json";
const APPROVAL_SUFFIX: &str = ".dsse.json";
const TEXT_BYTES_MAX: u64 = 1 << 20;
const COMPONENT_BYTES_MAX: u64 = 64 << 20;
const APPROVALS_MAX: usize = 64;

/// Proof that every affected party approved these terms, and that the room is still as they approved it.
#[derive(Debug)]
pub(crate) struct Approved {
    agreement: Agreement,
    manifest: Manifest,
    component: Arc<[u8]>,
    parameters: Vec<Value>,
}

/// Who approved, and in which file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRecord {
    /// The approving party.
    pub party: String,
    /// The approving person.
    pub person: String,
    /// SHA-256 of the envelope's bytes.
    pub sha256: String,
}

impl Approved {
    /// The terms.
    #[must_use]
    pub(crate) const fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// The question's manifest.
    #[must_use]
    pub(crate) const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(crate) fn component(&self) -> &Arc<[u8]> {
        &self.component
    }

    pub(crate) fn parameters(&self) -> &[Value] {
        &self.parameters
    }

    /// Each bound view with its slot.
    pub(crate) fn bound(&self) -> Vec<(&BoundView, &Slot)> {
        self.agreement.views.iter().zip(&self.manifest.slots).collect()
    }
}

/// Checks everything that can be checked before a row is read.
///
/// `folder` is the agreement's folder inside the room.
pub(crate) fn admit(dir: &Dir, folder: &str, now: DateTime<Utc>, trace: &mut Trace) -> Result<Approved> {
    let room = read_room(dir)?;
    let registry = read_registry(dir)?;
    let bytes = read_agreement(dir, folder)?;
    trace.agreement_id = Some(sha256_hex(&bytes));

    let Agreed { agreement, approvals, .. } = check_approvals(dir, folder, &bytes, &registry.registry, &room)?;
    trace.approvals = approvals;
    check_window(&agreement, now)?;
    check_room(&agreement, &room, &registry)?;

    let component = read(dir, &agreement.component_path, COMPONENT_BYTES_MAX, Code::ComponentInvalid)?;
    same_file(&agreement.component, &component, Code::ComponentChanged, &agreement.component_path)?;
    let manifest = read(dir, &agreement.manifest_path, TEXT_BYTES_MAX, Code::ManifestInvalid)?;
    same_file(&agreement.manifest, &manifest, Code::ManifestChanged, &agreement.manifest_path)?;
    let manifest = Manifest::parse(&manifest)?;
    check_question(&agreement, &manifest)?;
    let parameters = read_parameters(&agreement, &manifest)?;
    sandbox::screen(&component)?;

    Ok(Approved { agreement, manifest, component: component.into(), parameters })
}

/// An agreement with the approvals that make it complete.
#[derive(Debug)]
pub(crate) struct Agreed {
    pub(crate) agreement: Agreement,
    pub(crate) agreement_id: String,
    pub(crate) approvals: Vec<ApprovalRecord>,
}

/// Reads an agreement and checks that it is approved in full, whatever the room has become since.
pub(crate) fn read_agreed(dir: &Dir, folder: &str) -> Result<Agreed> {
    let bytes = read_agreement(dir, folder)?;
    check_approvals(dir, folder, &bytes, &read_registry(dir)?.registry, &read_room(dir)?)
}

/// Signatures over the agreement's digest come first; only then are its bytes parsed.
fn check_approvals(dir: &Dir, folder: &str, bytes: &[u8], registry: &Registry, room: &Room) -> Result<Agreed> {
    let agreement_id = sha256_hex(bytes);
    let approvals = read_approvals(dir, folder, registry, &room.id, &agreement_id)?;
    let agreement = Agreement::parse(bytes)?;
    check_quorum(&agreement, &approvals)?;
    Ok(Agreed { agreement, agreement_id, approvals })
}

pub(crate) fn read_agreement(dir: &Dir, folder: &str) -> Result<Vec<u8>> {
    read(dir, &format!("{folder}/{AGREEMENT_FILE}"), TEXT_BYTES_MAX, Code::AgreementInvalid)
}

/// A registry and the digest of its bytes.
#[derive(Debug)]
pub(crate) struct PinnedRegistry {
    pub(crate) registry: Registry,
    pub(crate) digest: FileDigest,
}

pub(crate) fn read_room(dir: &Dir) -> Result<Room> {
    Room::parse(&read(dir, ROOM_FILE, TEXT_BYTES_MAX, Code::RoomInvalid)?)
}

pub(crate) fn read_registry(dir: &Dir) -> Result<PinnedRegistry> {
    let bytes = read(dir, REGISTRY_FILE, TEXT_BYTES_MAX, Code::RegistryInvalid)?;
    Ok(PinnedRegistry { registry: Registry::parse(&bytes)?, digest: FileDigest::of(&bytes) })
}

/// A receipt must verify for someone else. A registry that cannot be read is for [`admit`] to refuse, with a receipt.
pub(crate) fn check_runtime_key(dir: &Dir, key: &SigningKey) -> Result<()> {
    let Ok(PinnedRegistry { registry, .. }) = read_registry(dir) else { return Ok(()) };
    match registry.holder_of(&key.0.verifying_key()) {
        Some(KeyHolder::Runtime { .. }) => Ok(()),
        _ => Err(Fault::new(
            Code::KeyUnknown,
            "the key is not registered as a runtime's",
            "register one with `glovebox key new --runtime ID`, or name the registered one with --key",
        )),
    }
}

pub(crate) fn read(dir: &Dir, path: &str, max: u64, code: Code) -> Result<Vec<u8>> {
    files::read(dir, path, max).map_err(|error| {
        Fault::new(code, format!("cannot read {path}: {error}"), "check that the file is there, in the room's folder")
    })
}

/// Reads a question's two files and checks them as far as they can be checked without the terms.
pub(crate) fn read_question(dir: &Dir, component: &str, manifest: &str) -> Result<(Vec<u8>, Vec<u8>, Manifest)> {
    let component = read(dir, component, COMPONENT_BYTES_MAX, Code::ComponentInvalid)?;
    sandbox::screen(&component)?;
    let bytes = read(dir, manifest, TEXT_BYTES_MAX, Code::ManifestInvalid)?;
    let manifest = Manifest::parse(&bytes)?;
    Ok((component, bytes, manifest))
}

fn read_approvals(
    dir: &Dir,
    folder: &str,
    registry: &Registry,
    room: &str,
    agreement_id: &str,
) -> Result<Vec<ApprovalRecord>> {
    let unreadable = |error: std::io::Error| {
        Fault::new(Code::AgreementInvalid, format!("cannot list {folder}: {error}"), "name the agreement's folder")
    };
    let mut names = Vec::new();
    for entry in dir.read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        match name.to_str() {
            Some(name) if name.ends_with(APPROVAL_SUFFIX) => names.push(name.to_owned()),
            _ => {}
        }
    }
    if names.is_empty() {
        return Err(Fault::new(
            Code::NotApproved,
            format!("no approval stands in {folder}"),
            "let each party sign with `glovebox approve`",
        ));
    }
    if names.len() > APPROVALS_MAX {
        return Err(Fault::new(
            Code::ApprovalInvalid,
            format!("{} approvals stand in {folder}, at most {APPROVALS_MAX} are read", names.len()),
            "remove those that are not needed",
        ));
    }
    names.sort();
    let read_one = |name: &String| {
        let bytes = read(dir, &format!("{folder}/{name}"), TEXT_BYTES_MAX, Code::ApprovalInvalid)?;
        approval::verify(&bytes, name, registry, room, agreement_id)
    };
    names.iter().map(read_one).collect()
}

/// Every owner of a bound view, and the recipient. No text anywhere can weaken this.
fn check_quorum(agreement: &Agreement, approvals: &[ApprovalRecord]) -> Result<()> {
    let approved: BTreeSet<&str> = approvals.iter().map(|approval| approval.party.as_str()).collect();
    let missing: Vec<&str> = agreement.required_parties().difference(&approved).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Fault::new(
        Code::OwnerMissing,
        format!("not approved by: {}", missing.join(", ")),
        "let a person of each of these parties sign with `glovebox approve`",
    ))
}

fn check_window(agreement: &Agreement, now: DateTime<Utc>) -> Result<()> {
    let (from, until) = agreement.window()?;
    if (from..until).contains(&now) {
        return Ok(());
    }
    let (from, until, now) = (clock::to_text(from), clock::to_text(until), clock::to_text(now));
    Err(Fault::new(
        Code::AgreementExpired,
        format!("the agreement holds from {from} until {until}, and it is {now}"),
        "compose and approve a new revision",
    ))
}

/// Compares what was agreed with the room as it is now.
fn check_room(agreement: &Agreement, room: &Room, registry: &PinnedRegistry) -> Result<()> {
    let again = "restore what was agreed, or compose and approve a new revision";
    let changed = |code, fact: String| Err(Fault::new(code, fact, again));
    if agreement.registry != registry.digest {
        return changed(Code::RegistryChanged, format!("{REGISTRY_FILE} is not the one that was agreed"));
    }
    if (agreement.room.as_str(), agreement.unit.as_str()) != (room.id.as_str(), room.unit.as_str()) {
        return changed(
            Code::AgreementInvalid,
            format!(
                "the agreement is for room {} by {}, this is room {} by {}",
                agreement.room, agreement.unit, room.id, room.unit
            ),
        );
    }
    for bound in &agreement.views {
        if room.view(&bound.view.id) != Some(&bound.view) {
            return changed(
                Code::ViewChanged,
                format!("the definition of view {} is not the one that was agreed", bound.view.id),
            );
        }
    }
    if room.controls(agreement.owners()).as_ref() != Some(&agreement.controls) {
        return changed(Code::ControlChanged, "the owners' controls are not those that were agreed".into());
    }
    if room.destination(&agreement.destination.id) != Some(&agreement.destination) {
        let id = &agreement.destination.id;
        return changed(Code::DestinationChanged, format!("destination {id} is not the one that was agreed"));
    }
    if agreement.runtime != crate::room::Runtime::this() {
        return changed(Code::RuntimeChanged, "the agreement names another runtime, engine or contract".into());
    }
    Ok(())
}

fn same_file(agreed: &FileDigest, bytes: &[u8], code: Code, path: &str) -> Result<()> {
    let found = FileDigest::of(bytes);
    if *agreed == found {
        return Ok(());
    }
    Err(Fault::new(
        code,
        format!("{path} has sha256 {}, agreed was {}", found.sha256, agreed.sha256),
        "restore the file that was agreed, or compose and approve a new revision",
    ))
}

pub(crate) fn check_question(agreement: &Agreement, manifest: &Manifest) -> Result<()> {
    let agreed: Vec<&str> = agreement.views.iter().map(|bound| bound.slot.as_str()).collect();
    let slots: Vec<&str> = manifest.slots.iter().map(|slot| slot.slot.as_str()).collect();
    if agreed != slots {
        return Err(Fault::new(
            Code::SlotMissing,
            format!("the question has the slots {}, the agreement binds {}", slots.join(", "), agreed.join(", ")),
            "compose the agreement again with `glovebox agree`",
        ));
    }
    let recipient = agreement.destination.recipient.as_str();
    if manifest.kind == Kind::List && !agreement.owners().any(|owner| owner == recipient) {
        return Err(Fault::new(
            Code::AgreementInvalid,
            format!(
                "the recipient {recipient} owns none of the bound views; a list holds identifiers of its own view only"
            ),
            "bind a view of the recipient, or name another destination",
        ));
    }
    if agreement.kind != manifest.kind || agreement.question != manifest.name {
        return Err(Fault::new(
            Code::AgreementInvalid,
            format!("the agreement is for a {} question {}", agreement.kind.as_str(), agreement.question),
            "compose the agreement again with `glovebox agree`",
        ));
    }
    Ok(())
}

fn read_parameters(agreement: &Agreement, manifest: &Manifest) -> Result<Vec<Value>> {
    let agreed = agreement.parameters.iter().map(|bound| bound.name.as_str());
    if !agreed.eq(manifest.parameters.iter().map(|parameter| parameter.name.as_str())) {
        return Err(Fault::new(
            Code::ParameterInvalid,
            "the agreement does not bind the question's parameters one by one",
            "compose the agreement again with `glovebox agree`",
        ));
    }
    manifest
        .parameters
        .iter()
        .zip(&agreement.parameters)
        .map(|(parameter, bound)| parameter.read(&bound.value))
        .collect()
}
