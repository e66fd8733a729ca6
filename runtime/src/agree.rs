//! Composes an agreement from a room and a question: every term of one run in one file, for people to read and sign.

mod diff;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use cap_std::fs::Dir;
use chrono::{DateTime, TimeDelta, Utc};
use glovebox_trust::Principal;
use glovebox_trust::registry::Scope;

use crate::clock;
use crate::deliver;
use crate::error::{Code, Fault, Result};
use crate::files::{self, Existing};
use crate::gate::{self, AGREEMENT_FILE, Chain};
use crate::privacy::{Guarantee, Mechanism};
use crate::provision::{self, Host};
use crate::random::Random;
use crate::room::{
    Agreement, BoundParameter, BoundView, Budget, FileDigest, Kind, Limits, Manifest, Reducer, Room, Runtime, UnitRule,
    View, sha256_hex,
};
use crate::sandbox::{Asking, spec};
use crate::signing;

/// An agreement names at most so many that it replaces, the latest first.
const SUPERSEDED_MAX: usize = 64;

/// What someone proposes to agree on.
#[derive(Debug)]
pub struct Proposal<'a> {
    /// The component's path in the room.
    pub component: &'a str,
    /// The manifest's path in the room.
    pub manifest: &'a str,
    /// Slot and view; a slot that is not named is bound to the view of its own name.
    pub bindings: &'a [(String, String)],
    /// Parameter and value.
    pub parameters: &'a [(String, String)],
    /// The destination's id.
    pub destination: &'a str,
    /// For how many days from now it holds.
    pub days: u32,
    /// How many runs may be begun under it.
    pub runs_max: u32,
    /// Whether the revision before stays valid beside it.
    pub beside: bool,
    /// The folder of this host's state, where the ways to tables outside of the room are.
    pub state: &'a Path,
}

/// A composed agreement, not yet approved by anyone.
#[derive(Debug)]
pub struct Composed {
    /// Its folder in the room.
    pub folder: String,
    /// SHA-256 of its bytes: what the parties sign.
    pub agreement_id: String,
    /// The parties whose approval it needs.
    pub needs: Vec<String>,
    /// How units are asked.
    pub asking: Asking,
    /// The views whose SQL may compute one unit's rows from another's.
    pub across_units: Vec<String>,
    summary: String,
}

impl Composed {
    /// What the code can see and what can leave, for people.
    #[must_use]
    pub fn summary(&self) -> &str {
        &self.summary
    }
}

/// Composes an agreement and writes it to a new folder of the room.
pub fn agree(dir: &Dir, proposal: &Proposal<'_>, now: DateTime<Utc>, random: &mut Random) -> Result<Composed> {
    let room = gate::read_room(dir)?;
    let chain = Chain::read(dir, &room.id)?;
    let (component, manifest_bytes, manifest) = gate::read_question(dir, proposal.component, proposal.manifest)?;
    let host = Host { dir, state: proposal.state };
    let (views, across_units) = bind_views(&host, &room, &manifest, proposal.bindings)?;
    let parameters = bind_parameters(&manifest, proposal.parameters)?;
    let destination = room.destination(proposal.destination).cloned().ok_or_else(|| {
        let known = room.destination_ids().collect::<Vec<_>>().join(", ");
        Fault::new(
            Code::Usage,
            format!("the room has no destination {}", proposal.destination),
            format!("name one of: {known}"),
        )
    })?;
    let controls =
        room.controls(views.iter().flat_map(|bound| bound.view.with_mapping()).map(|view| view.owner.as_str()));
    let controls = controls.unwrap_or_default();
    let _lock = signing::lock(dir)?;
    let (folder, revision) = next_folder(dir, &manifest.name);
    let replaced = if proposal.beside { None } else { previous(dir, &manifest.name, revision)? };
    let accounts = Agreement::accounts(&views, &room.unit);
    let mut agreement = Agreement {
        version: Agreement::VERSION,
        room: room.id.clone(),
        unit: room.unit.clone(),
        question: manifest.name.clone(),
        kind: manifest.kind,
        component_path: proposal.component.into(),
        component: FileDigest::of(&component),
        manifest_path: proposal.manifest.into(),
        manifest: FileDigest::of(&manifest_bytes),
        world: gate::world_of(&component)?,
        registry: chain.pin(),
        views,
        parameters,
        controls,
        guarantee: String::new(),
        unprotected: Vec::new(),
        budget: Budget { accounts, runs_max: proposal.runs_max },
        destination,
        limits: Limits::default(),
        runners: runners(&chain)?,
        runtime: Runtime::this(),
        log: gate::log_pin(chain.current()),
        revision,
        supersedes: replaced.as_ref().map(Replaced::ids).unwrap_or_default(),
        not_before: clock::to_text(now),
        not_after: clock::to_text(now + TimeDelta::days(i64::from(proposal.days))),
        nonce: data_encoding::HEXLOWER.encode(&random.bytes::<16>()),
    };
    let promised = Guarantee::of(&agreement, &manifest);
    (agreement.guarantee, agreement.unprotected) = (promised.sentence, promised.unprotected);
    gate::check_question(&agreement, &manifest)?;
    let bytes = agreement.to_bytes()?;
    let path = format!("{folder}/{AGREEMENT_FILE}");
    files::write(dir, &path, &bytes, Existing::Refuse).map_err(|error| {
        Fault::new(Code::RoomInvalid, format!("cannot write {path}: {error}"), "make the room's folder writable")
    })?;
    let parameters = gate::read_parameters(&agreement, &manifest)?;
    let asking = Asking::of(&component, &spec(&manifest, &parameters, &agreement.limits));
    let summary = summarise(&agreement, &manifest, &asking, &across_units, replaced.as_ref())?;
    let needs = agreement.required_parties().into_iter().map(str::to_owned).collect();
    Ok(Composed { folder, agreement_id: sha256_hex(&bytes), needs, asking, across_units, summary })
}

/// Binds each slot to a view; also names the views that may compute across units.
fn bind_views(
    host: &Host<'_>,
    room: &Room,
    manifest: &Manifest,
    bindings: &[(String, String)],
) -> Result<(Vec<BoundView>, Vec<String>)> {
    let mut across_units = Vec::new();
    let is_slot = |name: &str| manifest.slots.iter().any(|slot| slot.slot == name);
    if let Some((unknown, _)) = bindings.iter().find(|(slot, _)| !is_slot(slot)) {
        let slots = manifest.slots.iter().map(|slot| slot.slot.as_str()).collect::<Vec<_>>().join(", ");
        return Err(slot_fault(format!("the question has no slot {unknown}"), format!("its slots are: {slots}")));
    }
    if let Some(twice) = first_repeated(bindings) {
        return Err(slot_fault(format!("slot {twice} is bound twice"), "bind each slot to one view".into()));
    }
    let mut bind = |slot: &crate::room::Slot| {
        let named = bindings.iter().find(|(name, _)| *name == slot.slot).map_or(&slot.slot, |(_, view)| view);
        let view = room.view(named).cloned().ok_or_else(|| {
            let views = room.view_ids().collect::<Vec<_>>().join(", ");
            slot_fault(
                format!("slot {} has no view: the room has no view {named}", slot.slot),
                format!("bind one with --bind {}=VIEW; the room has: {views}", slot.slot),
            )
        })?;
        let schema = provision::describe(host, &view)?;
        // What would be refused at every run is refused before people read and sign it.
        schema.check_slot(slot)?;
        for across in schema.across_units() {
            if !across_units.contains(across) {
                across_units.push(across.clone());
            }
        }
        let (definition_sha256, schema_sha256) = (view.sha256(), schema.sha256());
        Ok(BoundView { slot: slot.slot.clone(), view, definition_sha256, schema_sha256, columns: slot.columns.clone() })
    };
    let views = manifest.slots.iter().map(&mut bind).collect::<Result<_>>()?;
    Ok((views, across_units))
}

/// A name that is given more than once: a reader of the command could not tell which one counts.
fn first_repeated(given: &[(String, String)]) -> Option<&str> {
    let names: Vec<&str> = given.iter().map(|(name, _)| name.as_str()).collect();
    (1..names.len()).find(|at| names[..*at].contains(&names[*at])).map(|at| names[at])
}

fn slot_fault(fact: String, remedy: String) -> Fault {
    Fault::new(Code::SlotMissing, fact, remedy)
}

fn bind_parameters(manifest: &Manifest, given: &[(String, String)]) -> Result<Vec<BoundParameter>> {
    for (name, value) in given {
        let known = manifest.parameters.iter().find(|parameter| parameter.name == *name);
        let parameter = known.ok_or_else(|| {
            Fault::new(
                Code::ParameterInvalid,
                format!("the question has no parameter {name}"),
                "see its question.toml for the parameters it has",
            )
        })?;
        parameter.read(value)?;
    }
    if let Some(twice) = first_repeated(given) {
        return Err(Fault::new(
            Code::ParameterInvalid,
            format!("parameter {twice} is set twice"),
            "give each parameter one value",
        ));
    }
    let bind = |parameter: &crate::room::Parameter| {
        let (name, value) = given.iter().find(|(name, _)| *name == parameter.name).ok_or_else(|| {
            Fault::new(
                Code::ParameterInvalid,
                format!("parameter {} has no value", parameter.name),
                format!("give {} with --set {}=VALUE", parameter.domain(), parameter.name),
            )
        })?;
        Ok(BoundParameter { name: name.clone(), value: value.clone() })
    };
    manifest.set_parameters().map(bind).collect()
}

/// Agreements are never written over: a change is a new revision in a folder of its own. A folder with nothing in it is
/// what a process left that was killed before it wrote the agreement.
fn next_folder(dir: &Dir, question: &str) -> (String, u32) {
    let folder = |revision: u32| format!("agreements/{question}-r{revision}");
    let is_free =
        |folder: String| !dir.exists(&folder) || files::list(dir, &folder, "").is_ok_and(|names| names.is_empty());
    let revision = (1..).find(|revision| is_free(folder(*revision))).unwrap_or(u32::MAX);
    (folder(revision), revision)
}

/// The services that may run it: all that the registry knows as runtimes.
fn runners(chain: &Chain) -> Result<Vec<Principal>> {
    let runners: BTreeSet<Principal> = chain.current().keys(Scope::Runtime).map(|(runtime, _)| runtime).collect();
    if runners.is_empty() {
        return Err(Fault::new(
            Code::RunnerUnknown,
            "the registry has no runtime that could run it",
            "register one with `glovebox key new --party PARTY --service ID`, and let the parties sign the registry",
        ));
    }
    Ok(runners.into_iter().collect())
}

/// The revision that an agreement replaces.
struct Replaced {
    id: String,
    agreement: Agreement,
}

impl Replaced {
    /// Its id, and those of all that it replaced itself.
    fn ids(&self) -> Vec<String> {
        let ids = [&self.id].into_iter().chain(&self.agreement.supersedes);
        ids.take(SUPERSEDED_MAX).cloned().collect()
    }
}

fn previous(dir: &Dir, question: &str, revision: u32) -> Result<Option<Replaced>> {
    if revision < 2 {
        return Ok(None);
    }
    let bytes = gate::read_agreement(dir, &format!("agreements/{question}-r{}", revision - 1))?;
    Ok(Some(Replaced { id: sha256_hex(&bytes), agreement: Agreement::parse(&bytes)? }))
}

fn summarise(
    agreement: &Agreement,
    manifest: &Manifest,
    asking: &Asking,
    across_units: &[String],
    replaced: Option<&Replaced>,
) -> Result<String> {
    let mut text = String::new();
    let mechanism = Mechanism::new(manifest, &agreement.controls);
    // Writing to a string cannot fail.
    let _ = write_summary(&mut text, agreement, manifest, asking, &mechanism, agreement.window()?);
    let _ = write_across_units(&mut text, agreement, across_units);
    if let Some(replaced) = replaced {
        let _ = write_changes(&mut text, &replaced.agreement, agreement);
    }
    Ok(text)
}

fn write_summary(
    text: &mut String,
    agreement: &Agreement,
    manifest: &Manifest,
    asking: &Asking,
    mechanism: &Mechanism,
    (from, until): (DateTime<Utc>, DateTime<Utc>),
) -> std::fmt::Result {
    writeln!(text, "{} question {}: {}", manifest.kind.as_str(), manifest.name, manifest.description)?;
    writeln!(text, "\nThe code can see, of one {} at a time:", agreement.unit)?;
    for (bound, slot) in agreement.views.iter().zip(&manifest.slots) {
        let columns = slot.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        writeln!(text, "  {} ({}'s view {}): {columns}", slot.slot, bound.view.owner, bound.view.id)?;
        write_units(text, &bound.view, &agreement.unit)?;
    }
    for parameter in &agreement.parameters {
        writeln!(text, "  parameter {} = {}", parameter.name, parameter.value)?;
    }
    if let Some(seed) = manifest.seed() {
        writeln!(
            text,
            "  parameter {seed}: a random number of each {}'s own, which the host draws anew in every run",
            agreement.unit
        )?;
    }
    let limits = &agreement.limits;
    writeln!(
        text,
        "  (in at most {} fuel, {} MiB of memory and {} s per {})",
        limits.fuel_per_unit,
        limits.memory_bytes_per_unit >> 20,
        limits.milliseconds_per_unit / 1_000,
        agreement.unit
    )?;
    writeln!(text, "  ({asking})")?;
    let may_lack = &agreement.controls.sandbox.may_lack;
    if !may_lack.is_empty() {
        let walls = may_lack.iter().map(|wall| wall.as_str()).collect::<Vec<_>>().join(", ");
        writeln!(text, "  (in processes that a host's kernel may confine without: {walls})")?;
    }
    writeln!(text, "\nWhat can leave, to {} ({}):", agreement.destination.recipient, agreement.destination.folder)?;
    if let Some(delivery) = &agreement.destination.deliver {
        writeln!(text, "  (and from there, by the host that runs, to {})", deliver::place(delivery))?;
    }
    match manifest.kind {
        Kind::Analytical => write_groups(text, manifest, mechanism)?,
        Kind::List => {
            let recipient = &agreement.destination.recipient;
            writeln!(
                text,
                "  pseudonyms of identifiers that {recipient} already holds, each in one of: {}",
                manifest.segments().join(", ")
            )?;
        }
    }
    writeln!(text, "\n{}", agreement.guarantee)?;
    writeln!(text, "Not protected, for the code sees it whole: {}.", agreement.unprotected.join(", "))?;
    writeln!(
        text,
        "\nValid from {} until {}, for {} runs, on: {}.",
        clock::to_text(from),
        clock::to_text(until),
        agreement.budget.runs_max,
        agreement.runners.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )?;
    let parties = agreement.required_parties().into_iter().collect::<Vec<_>>().join(", ");
    writeln!(text, "Needs the approval of: {parties}.")
}

/// Whose a view's rows are, where that is not plain from its unit column.
fn write_units(text: &mut String, view: &View, unit: &str) -> std::fmt::Result {
    let Some(via) = &view.unit_via else {
        let rules = after(&view.unit_rules);
        return if rules.is_empty() { Ok(()) } else { writeln!(text, "    units by {}{rules}", view.unit) };
    };
    writeln!(
        text,
        "    identifiers by {}{}, whose they are by {}'s mapping {}",
        view.unit,
        after(&view.unit_rules),
        via.owner,
        via.id
    )?;
    let Some(mapping) = &via.mapping else { return Ok(()) };
    writeln!(
        text,
        "      from {}{} to {}{}: one of them is mapped to at most {} {unit}(s)",
        mapping.id_column,
        after(&mapping.id_rules),
        via.unit,
        after(&via.unit_rules),
        mapping.max_units_per_id
    )
}

fn after(rules: &[UnitRule]) -> String {
    let rules = rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if rules.is_empty() { rules } else { format!(", after: {rules}") }
}

/// What a view's own SQL does is not in the host's hand.
fn write_across_units(text: &mut String, agreement: &Agreement, across_units: &[String]) -> std::fmt::Result {
    across_units.iter().try_for_each(|view| {
        writeln!(
            text,
            "The SQL of view {view} may compute one {unit}'s rows from another's: what is promised protects its rows as \
             they come out, and what one of them tells of other {unit}s is its owner's own doing.",
            unit = agreement.unit
        )
    })
}

/// Nonce, window and revision differ by themselves; the rest is what people have to look at again.
fn write_changes(text: &mut String, before: &Agreement, after: &Agreement) -> std::fmt::Result {
    let json = |agreement: &Agreement| {
        let mut json = serde_json::to_value(agreement).unwrap_or_default();
        for own in ["nonce", "not_before", "not_after", "revision", "supersedes"] {
            if let Some(terms) = json.as_object_mut() {
                terms.remove(own);
            }
        }
        json
    };
    let changes = diff::diff(&json(before), &json(after));
    writeln!(text, "\nReplaces revision {}, once it has run. Changed terms: {}", before.revision, changes.len())?;
    changes.iter().try_for_each(|change| writeln!(text, "  {change}"))
}

fn write_groups(text: &mut String, manifest: &Manifest, mechanism: &Mechanism) -> std::fmt::Result {
    let groups = manifest.groups.iter().map(|group| group.name.as_str()).collect::<Vec<_>>().join(", ");
    let top = manifest.top.as_ref().map(|top| format!(", the first {} by {}", top.limit, top.by)).unwrap_or_default();
    let which = match (mechanism.k_min, manifest.has_open_keys()) {
        (1, false) => ", for every cell, also an empty one, of:".to_owned(),
        (1, true) => " that enough units share, of:".to_owned(),
        (k, _) => format!(", where at least {k} units are in the group, of:"),
    };
    writeln!(text, "  one row per {groups}{top}{which}")?;
    for (measure, noise) in manifest.measures.iter().zip(mechanism.measures()) {
        let (what, on) = match measure.reducer {
            Reducer::Count => ("count", ""),
            Reducer::Sum => ("sum", ""),
            Reducer::Mean => ("mean", " on the sum behind it"),
            Reducer::Variance => ("variance", " on the sum behind it"),
            Reducer::Histogram => ("histogram", " on each bin"),
            Reducer::Quantiles => ("quantiles", " on each node of the tree behind them"),
            Reducer::Cdf => ("distribution", " on each node of the tree behind it"),
            Reducer::Ratio => ("ratio of two sums", " on the sum above the line"),
        };
        let noise = match noise.standard_deviation {
            0.0 => "rounded, without noise".to_owned(),
            deviation => format!("with noise of standard deviation {deviation:.2}{on}"),
        };
        writeln!(text, "  {} ({what}), {noise}", measure.name)?;
    }
    match mechanism.threshold {
        Some(threshold) if mechanism.k_min > 1 => {
            let below = mechanism.k_min - 1;
            writeln!(text, "  (a group is shown if its noisy count above {below} reaches {threshold})")
        }
        Some(threshold) => writeln!(text, "  (a group is shown if its noisy count reaches {threshold})"),
        None => Ok(()),
    }
}
