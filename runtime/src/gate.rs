//! Step 1. Lets a run through only if these exact bytes, views, controls and destination were approved by every
//! affected party.
//!
//! The order is that of trust: the registry, the envelopes, their signatures, and only then what was signed; then
//! what was agreed against the room as it is. What passes is an [`Approved`], which nothing else can make and which
//! carries the very bytes that were checked. Right before a result gets its name, [`confirm`] asks once more.

mod approvals;
mod chain;
mod revocations;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cap_std::fs::Dir;
use chrono::{DateTime, Utc};
use glovebox_trust::Principal;
use glovebox_trust::approval::{self, Approval, Terms};
use glovebox_trust::keys::PublicKey;
use glovebox_trust::quorum;
use glovebox_trust::registry::{Registry, Scope};
use glovebox_trust::revocations::RunFacts;

pub use approvals::ApprovalRecord;
pub(crate) use approvals::{Signers, read_approvals, read_recorded};
pub(crate) use chain::{Chain, REGISTRY_FILE, folder_of as registry_folder, read_version};
pub(crate) use revocations::{ListRecord, Lists, latest as latest_list, open as open_list, path_of as list_path};

use crate::clock;
use crate::destination::RenderedResult;
use crate::error::{Code, Fault, Result};
use crate::files;
use crate::journal::Facts;
use crate::privacy::{self, Guarantee};
use crate::receipt::{Evidence, Trace};
use crate::room::{
    Agreement, BoundView, FileDigest, Join, Kind, LogPin, Manifest, Parameter, RegistryPin, Room, Slot, Value, View,
    World, sha256_hex,
};
use crate::sandbox::{self, COMPONENT_BYTES_MAX};

/// File names and size limits of a room.
pub(crate) const ROOM_FILE: &str = "room.toml";
pub(crate) const AGREEMENT_FILE: &str = "agreement.json";
pub(crate) const SIGNATURE_SUFFIX: &str = ".dsse.json";
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Proof that every affected party approved these terms, and that the room is still as they approved it.
#[derive(Debug)]
pub(crate) struct Approved {
    terms: CheckedTerms,
    folders: BTreeMap<String, String>,
    manifest: Manifest,
    component: Arc<[u8]>,
    parameters: Vec<Value>,
}

/// Terms that are approved in full, and under what.
#[derive(Debug)]
struct CheckedTerms {
    agreement: Agreement,
    agreement_id: String,
    registry: RegistryPin,
    auditor: Option<String>,
    approvals: Vec<ApprovalRecord>,
    revocations: Vec<ListRecord>,
}

impl Approved {
    /// The terms.
    #[must_use]
    pub(crate) const fn agreement(&self) -> &Agreement {
        &self.terms.agreement
    }

    /// SHA-256 of the terms' bytes.
    pub(crate) fn agreement_id(&self) -> &str {
        &self.terms.agreement_id
    }

    /// The registry under which they were approved.
    pub(crate) const fn registry(&self) -> &RegistryPin {
        &self.terms.registry
    }

    /// To whom figures and seed are sealed.
    pub(crate) fn auditor(&self) -> Option<&str> {
        self.terms.auditor.as_deref()
    }

    pub(crate) fn approvals(&self) -> &[ApprovalRecord] {
        &self.terms.approvals
    }

    pub(crate) fn revocations(&self) -> &[ListRecord] {
        &self.terms.revocations
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

    /// The folder of an owner of a bound view.
    pub(crate) fn folder_of(&self, owner: &str) -> &str {
        self.folders.get(owner).map_or("", String::as_str)
    }

    /// Each bound view with its slot.
    pub(crate) fn bound(&self) -> Vec<(&BoundView, &Slot)> {
        self.agreement().views.iter().zip(&self.manifest.slots).collect()
    }
}

/// Who asks for which run, when.
pub(crate) struct Inquiry<'a> {
    pub(crate) dir: &'a Dir,
    /// The agreement's folder inside the room.
    pub(crate) folder: &'a str,
    pub(crate) now: DateTime<Utc>,
    /// The key of the runtime that is to run it.
    pub(crate) runtime: &'a PublicKey,
    /// What the room's log says.
    pub(crate) facts: &'a Facts,
}

/// Checks everything that can be checked before a row is read.
pub(crate) fn admit(inquiry: &Inquiry<'_>, trace: &mut Trace) -> Result<Approved> {
    let dir = inquiry.dir;
    let bytes = read_agreement(dir, inquiry.folder)?;
    trace.agreement_id = Some(sha256_hex(&bytes));
    let (terms, room) = check_terms(inquiry, &bytes, trace)?;
    let agreement = &terms.agreement;
    inquiry.facts.check_agreement(agreement, &terms.agreement_id)?;

    read_approved(dir, terms, &room)
}

/// Reads the question that the terms name, and compares it with them.
fn read_approved(dir: &Dir, terms: CheckedTerms, room: &Room) -> Result<Approved> {
    let agreement = &terms.agreement;
    let component = read(dir, &agreement.component_path, COMPONENT_BYTES_MAX as u64, Code::ComponentInvalid)?;
    same_file(&agreement.component, &component, Code::ComponentChanged, &agreement.component_path)?;
    let manifest = read(dir, &agreement.manifest_path, TEXT_BYTES_MAX, Code::ManifestInvalid)?;
    same_file(&agreement.manifest, &manifest, Code::ManifestChanged, &agreement.manifest_path)?;
    let manifest = Manifest::parse(&manifest)?;
    check_question(agreement, &manifest)?;
    let parameters = read_parameters(agreement, &manifest)?;
    sandbox::screen(&component)?;
    check_world(agreement, &component)?;

    let folder = |owner: &str| Some((owner.to_owned(), room.folder(owner)?.to_owned()));
    let folders = agreement.owners().filter_map(folder).collect();
    Ok(Approved { terms, folders, manifest, component: component.into(), parameters })
}

/// Approves terms again that a verified receipt says were approved, to replay its run: the files must be the same.
pub(crate) fn readmit(dir: &Dir, evidence: Evidence) -> Result<Approved> {
    let (agreement, agreement_id, approvals, registry, revocations) = evidence.into_terms();
    let room = read_room(dir)?;
    check_room(&agreement, &room)?;
    let terms = CheckedTerms { agreement, agreement_id, registry, auditor: None, approvals, revocations };
    read_approved(dir, terms, &room)
}

/// Proof that a result may still go out, right before it does.
#[derive(Debug)]
pub(crate) struct Confirmed(RenderedResult);

impl Confirmed {
    pub(crate) fn into_result(self) -> RenderedResult {
        self.0
    }
}

/// Asks once more: whoever has withdrawn meanwhile, or changed the room, stops the result.
pub(crate) fn confirm(result: RenderedResult, inquiry: &Inquiry<'_>, trace: &mut Trace) -> Result<Confirmed> {
    let bytes = read_agreement(inquiry.dir, inquiry.folder)?;
    let (terms, _) = check_terms(inquiry, &bytes, trace)?;
    inquiry.facts.check_superseded(&terms.agreement_id)?;
    if terms.agreement_id == result.approved.agreement_id() {
        return Ok(Confirmed(result));
    }
    let fact = format!("{AGREEMENT_FILE} is not the one that the run began with");
    Err(Fault::new(Code::AgreementInvalid, fact, "leave the agreement's folder alone while it runs"))
}

/// Signatures over the agreement's digest come first; only then are its bytes parsed.
fn check_terms(inquiry: &Inquiry<'_>, bytes: &[u8], trace: &mut Trace) -> Result<(CheckedTerms, Room)> {
    let Inquiry { dir, folder, now, facts, .. } = *inquiry;
    let room = read_room(dir)?;
    let chain = Chain::read(dir, &room.id)?;
    chain.check(facts)?;
    trace.registry = Some(chain.pin());
    let registry = chain.current();
    registry.check_expiry(now).map_err(|denial| {
        Fault::of("the registry", &denial, "let the parties sign a next version with `glovebox registry renew`")
    })?;

    let agreement_id = sha256_hex(bytes);
    let signers = Signers { registry, now, is_logged: &|sha256| facts.has_approval(sha256) };
    let approvals = read_approvals(dir, folder, &agreement_id, &signers)?;
    let agreement = Agreement::parse(bytes)?;
    // Whoever has not approved needs no list yet: that would be the wrong thing to ask for.
    check_quorum(&agreement, &agreement_id, &approvals, registry)?;
    let records: Vec<ApprovalRecord> = approvals.iter().map(ApprovalRecord::of).collect();
    trace.approvals.clone_from(&records);
    let lists = Lists::read(dir, registry, concerned(&agreement, &records), now)?;
    let revocations = lists.records();
    facts.check_revocations(&revocations)?;
    // From here on they are known, whatever becomes of the run: a list that goes missing is noticed.
    trace.revocations.clone_from(&revocations);
    let fingerprint = inquiry.runtime.fingerprint();
    lists.check(&run_facts(&agreement, &agreement_id, &fingerprint), &approvals)?;
    facts.check_sequences(&records)?;
    check_window(&agreement, now)?;
    check_runner(&agreement, registry, inquiry.runtime, now)?;
    check_registry(&agreement, &chain)?;
    check_room(&agreement, &room)?;
    let (registry, auditor) = (chain.pin(), chain.current().auditor().map(str::to_owned));
    Ok((CheckedTerms { agreement, agreement_id, registry, auditor, approvals: records, revocations }, room))
}

/// The parties whose withdrawals count: those who must approve, and those who did.
pub(crate) fn concerned<'a>(agreement: &'a Agreement, approvals: &'a [ApprovalRecord]) -> BTreeSet<&'a str> {
    let approved = approvals.iter().map(|approval| approval.party.as_str());
    agreement.required_parties().into_iter().chain(approved).collect()
}

/// What of a run a party can withdraw.
pub(crate) fn run_facts<'a>(agreement: &'a Agreement, agreement_id: &'a str, runtime: &'a str) -> RunFacts<'a> {
    RunFacts {
        agreement_id,
        component_sha256: &agreement.component.sha256,
        sdk: &agreement.world.sdk_version,
        runtime_key_fingerprint: runtime,
    }
}

/// Every owner of a bound view and the recipient, and then the registry's quorum for the kind.
pub(crate) fn check_quorum(
    agreement: &Agreement,
    agreement_id: &str,
    approvals: &[Approval],
    registry: &Registry,
) -> Result<()> {
    let owners: BTreeSet<&str> = agreement.owners().collect();
    let recipient = agreement.destination.recipient.as_str();
    let terms = Terms { agreement_id, kind: quorum_of(agreement.kind), owners: &owners, recipient };
    approval::check_approvals(registry, &terms, approvals).map_err(|denial| {
        let code = Code::of(denial.reason());
        Fault::new(code, denial.fact(), "let a person of each of these parties sign with `glovebox approve`")
    })
}

pub(crate) const fn quorum_of(kind: Kind) -> quorum::Kind {
    match kind {
        Kind::Analytical => quorum::Kind::Analytical,
        Kind::List => quorum::Kind::List,
    }
}

pub(crate) fn read_agreement(dir: &Dir, folder: &str) -> Result<Vec<u8>> {
    read(dir, &format!("{folder}/{AGREEMENT_FILE}"), TEXT_BYTES_MAX, Code::AgreementInvalid)
}

pub(crate) fn read_room(dir: &Dir) -> Result<Room> {
    Room::parse(&read(dir, ROOM_FILE, TEXT_BYTES_MAX, Code::RoomInvalid)?)
}

/// A receipt must verify for someone else. A registry that cannot be read is for [`admit`] to refuse, with a receipt.
pub(crate) fn runtime_of(chain: Option<&Chain>, key: &PublicKey) -> Result<Option<Principal>> {
    let Some(chain) = chain else { return Ok(None) };
    let mut runtimes = chain.current().keys(Scope::Runtime);
    let known = runtimes.find(|(_, known)| known == key).map(|(runtime, _)| runtime);
    known.map(Some).ok_or_else(|| {
        Fault::new(
            Code::KeyUnknown,
            "the key is not registered as a runtime's",
            "register one with `glovebox key new --party PARTY --service ID`, or name the registered one with --key",
        )
    })
}

pub(crate) fn read(dir: &Dir, path: &str, max: u64, code: Code) -> Result<Vec<u8>> {
    files::read(dir, path, max).map_err(|error| {
        Fault::new(code, format!("cannot read {path}: {error}"), "check that the file is there, in the room's folder")
    })
}

/// The names of the files in a folder that have an ending, in order.
pub(crate) fn list_files(dir: &Dir, folder: &str, ending: &str, max: usize, code: Code) -> Result<Vec<String>> {
    let names = files::list(dir, folder, ending).map_err(|error| {
        Fault::new(
            code,
            format!("cannot list {folder}: {error}"),
            "check that the folder is there, in the room's folder",
        )
    })?;
    if names.len() > max {
        let fact = format!("{} files *{ending} stand in {folder}, at most {max} are read", names.len());
        return Err(Fault::new(code, fact, "remove those that are not needed"));
    }
    Ok(names)
}

/// Reads a question's two files and checks them as far as they can be checked without the terms.
pub(crate) fn read_question(dir: &Dir, component: &str, manifest: &str) -> Result<(Vec<u8>, Vec<u8>, Manifest)> {
    let component = read(dir, component, COMPONENT_BYTES_MAX as u64, Code::ComponentInvalid)?;
    sandbox::screen(&component)?;
    let bytes = read(dir, manifest, TEXT_BYTES_MAX, Code::ManifestInvalid)?;
    let manifest = Manifest::parse(&bytes)?;
    Ok((component, bytes, manifest))
}

/// What a component's own bytes say of its interface.
pub(crate) fn world_of(component: &[u8]) -> Result<World> {
    let world = sandbox::world(component)?;
    Ok(World { name: world.name, sdk: world.package, sdk_version: world.version, wit_sha256: world.sha256 })
}

fn check_world(agreement: &Agreement, component: &[u8]) -> Result<()> {
    if world_of(component)? == agreement.world {
        return Ok(());
    }
    let fact = "the component's interface is not the one that the agreement states";
    Err(Fault::new(Code::WorldChanged, fact, "compose and approve a new revision"))
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

/// Only the runtimes that the parties agreed on run it, with a key that is in use.
fn check_runner(agreement: &Agreement, registry: &Registry, runtime: &PublicKey, now: DateTime<Utc>) -> Result<()> {
    let runner = registry.check_key(runtime, Scope::Runtime, now).map_err(|denial| {
        Fault::of("the runtime's key", &denial, "register another one, and let the parties sign the registry")
    })?;
    if agreement.runners.contains(&runner) {
        return Ok(());
    }
    Err(Fault::new(
        Code::RunnerUnknown,
        "the agreement does not name this runtime as a runner",
        "run it where it was agreed, or compose and approve a new revision",
    ))
}

/// The registry may have grown since, but along the chain that was agreed.
fn check_registry(agreement: &Agreement, chain: &Chain) -> Result<()> {
    if !chain.contains(&agreement.registry) {
        return Err(Fault::new(
            Code::RegistryRollback,
            format!(
                "version {} of the registry, which was agreed, is not in the room's chain",
                agreement.registry.version
            ),
            "bring back the folder `registry` with all of its versions and signatures",
        ));
    }
    if log_pin(chain.current()) == agreement.log {
        return Ok(());
    }
    let fact = "the log or its witnesses are not those that were agreed";
    Err(Fault::new(Code::LogInvalid, fact, "compose and approve a new revision"))
}

/// The log that a registry names.
pub(crate) fn log_pin(registry: &Registry) -> LogPin {
    let log = registry.log();
    LogPin { origin: log.origin.clone(), witnesses_sha256: sha256_hex(log.witnesses.join("\n").as_bytes()) }
}

/// Compares what was agreed with the room as it is now.
fn check_room(agreement: &Agreement, room: &Room) -> Result<()> {
    let again = "restore what was agreed, or compose and approve a new revision";
    let changed = |code, fact: String| Err(Fault::new(code, fact, again));
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
    let own = agreement.views.iter().map(|bound| &bound.view);
    let mut own = own.filter(|view| view.is_protected() && view.owner == recipient).peekable();
    // Units that another party's mapping names are none of the recipient's identifiers.
    let is_own = |view: &View| view.unit_via.as_ref().is_none_or(|via| via.owner == recipient);
    if manifest.kind == Kind::List && (own.peek().is_none() || !own.all(is_own)) {
        return Err(Fault::new(
            Code::AgreementInvalid,
            format!(
                "the recipient {recipient} owns none of the bound views, or knows whose its rows are by another party's \
                 mapping alone; a list holds identifiers of its own view only"
            ),
            "bind a view of the recipient, or name another destination",
        ));
    }
    let columns = agreement.views.iter().map(|bound| &bound.columns);
    if !columns.eq(manifest.slots.iter().map(|slot| &slot.columns)) {
        return Err(Fault::new(
            Code::AgreementInvalid,
            "the agreement shows the code other columns than the question asks for",
            "compose the agreement again with `glovebox agree`",
        ));
    }
    if agreement.budget.accounts != Agreement::accounts(&agreement.views, &agreement.unit) {
        return Err(Fault::new(
            Code::AgreementInvalid,
            "the agreement charges other accounts than those of its views",
            "compose the agreement again with `glovebox agree`",
        ));
    }
    if agreement.kind != manifest.kind || agreement.question != manifest.name {
        return Err(Fault::new(
            Code::AgreementInvalid,
            format!("the agreement is for a {} question {}", agreement.kind.as_str(), agreement.question),
            "compose the agreement again with `glovebox agree`",
        ));
    }
    check_lookups(agreement, manifest)?;
    privacy::check_terms(agreement, manifest)?;
    let promised = Guarantee::of(agreement, manifest);
    if (&agreement.guarantee, &agreement.unprotected) != (&promised.sentence, &promised.unprotected) {
        return Err(Fault::new(
            Code::AgreementInvalid,
            "the agreement promises something else than its terms come to",
            "compose the agreement again with `glovebox agree`",
        ));
    }
    Ok(())
}

/// A view that is not about units is shown whole to all of them, so the recipient may learn it whole.
fn check_lookups(agreement: &Agreement, manifest: &Manifest) -> Result<()> {
    let recipient = &agreement.destination.recipient;
    for (bound, slot) in agreement.views.iter().zip(&manifest.slots) {
        let (view, is_lookup) = (&bound.view, slot.join == Join::Lookup);
        if is_lookup == view.is_protected() {
            let fact = format!("view {} is about units, or it is not; slot {} needs the other", view.id, slot.slot);
            return Err(Fault::new(
                Code::SlotMissing,
                fact,
                "bind a view with `learnable_by` to a slot of `join = \"lookup\"`, and only there",
            ));
        }
        if is_lookup && !view.learnable_by.contains(recipient) {
            return Err(Fault::new(
                Code::ControlUnmet,
                format!(
                    "{}'s view {} is not `learnable_by` {recipient}, and results may tell all of it",
                    view.owner, view.id
                ),
                "let its owner allow that in room.toml, or name another destination",
            ));
        }
    }
    Ok(())
}

pub(crate) fn read_parameters(agreement: &Agreement, manifest: &Manifest) -> Result<Vec<Value>> {
    let agreed = agreement.parameters.iter().map(|bound| bound.name.as_str());
    if !agreed.eq(manifest.set_parameters().map(|parameter| parameter.name.as_str())) {
        return Err(Fault::new(
            Code::ParameterInvalid,
            "the agreement does not bind the question's parameters one by one",
            "compose the agreement again with `glovebox agree`",
        ));
    }
    let mut bound = agreement.parameters.iter().map(|bound| bound.value.as_str());
    let read = |parameter: &Parameter| {
        if parameter.is_seed() { Ok(Value::Seed) } else { parameter.read(bound.next().unwrap_or_default()) }
    };
    manifest.parameters.iter().map(read).collect()
}
