//! `room.toml`: the views, controls and destinations that a room offers. Local and pinned: a run never writes it.

use std::collections::BTreeMap;

use glovebox_source_protocol::Target;
use serde::{Deserialize, Serialize};

use super::controls::StatedControls;
use super::{Controls, UnitRule, is_id, is_inner_path};
use crate::error::{Code, Fault, Result};
use crate::parse;

/// What one identifier is shared by: a household, not a town.
const UNITS_PER_ID_MAX: u32 = 64;

/// A file or a table that a view's SQL sees as a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    /// The table's name in the SQL.
    pub table: String,
    /// The file inside the room: `.parquet`, `.csv` or `.arrow`; a folder of such files ends in `/`. Or `delta:` and the folder
    /// of a Delta table inside the room; or a connection of the host, a colon, and a table behind it.
    pub path: String,
}

/// Where a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// A file inside the room.
    File(&'a str),
    /// A Delta table in a folder inside the room.
    Delta(&'a str),
    /// A table behind a connection of the host that runs.
    Behind {
        /// The connection's name.
        connection: &'a str,
        /// The table's.
        table: &'a str,
    },
}

impl Source {
    /// Where it is. A word before a colon is no folder.
    pub(crate) fn place(&self) -> Place<'_> {
        match self.path.split_once(':') {
            Some(("delta", path)) => Place::Delta(path),
            Some((connection, table)) if is_id(connection) => Place::Behind { connection, table },
            _ => Place::File(&self.path),
        }
    }
}

/// What makes of a view one that says whose an identifier is: its rows are pairs of an identifier and a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mapping {
    /// The column of identifiers.
    pub id_column: String,
    /// What is done to their texts, in order, before rows are joined by them.
    pub id_rules: Vec<UnitRule>,
    /// How many units one identifier may be mapped to: more end a run.
    pub max_units_per_id: u32,
}

/// What a party offers: one `SELECT` over its own files, with a column that names the privacy unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct View {
    /// The view's id.
    pub id: String,
    /// The party whose data it is.
    pub owner: String,
    /// The column that names the privacy unit; empty for a view that is not about units.
    pub unit: String,
    /// What is done to the unit column's texts, in order, before units are joined by them.
    pub unit_rules: Vec<UnitRule>,
    /// The view that says whose the identifiers in the unit column are; none where they are units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_via: Option<Box<View>>,
    /// For a view that others name in `unit_via`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Mapping>,
    /// For a view that is not about units: the parties that may learn all of it. Nothing keeps a result from telling it.
    pub learnable_by: Vec<String>,
    /// The dataset that its rows come from, for the ledger: views of one lineage share a budget, in all rooms of a host.
    pub lineage: String,
    /// One `SELECT`.
    pub sql: String,
    /// The tables of the SQL.
    pub sources: Vec<Source>,
}

impl View {
    /// Whether the view is about units, and so protected.
    pub(crate) fn is_protected(&self) -> bool {
        self.learnable_by.is_empty()
    }

    /// The view and the one that it names in `unit_via`: all that its rows follow from.
    pub(crate) fn with_mapping(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.unit_via.as_deref())
    }

    /// Whether its SQL may name values by the room's key. A wrong yes costs little.
    pub(crate) fn may_write_pseudonyms(&self) -> bool {
        self.sql.to_lowercase().contains("pseudonym")
    }

    /// SHA-256 of the definition, as it stands in an agreement.
    pub(crate) fn sha256(&self) -> String {
        // Texts alone: writing them cannot fail.
        glovebox_trust::sha256_hex(&serde_json::to_vec(self).unwrap_or_default())
    }
}

/// The format of a released file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values with a header.
    Csv,
    /// Arrow IPC file.
    Arrow,
}

impl Format {
    /// The file name's ending.
    #[must_use]
    pub(crate) const fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Arrow => "arrow",
        }
    }
}

/// Where a result goes, and whose it is then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Destination {
    /// The destination's id.
    pub id: String,
    /// The party that receives.
    pub recipient: String,
    /// The folder inside the room.
    pub folder: String,
    /// The format of the file.
    pub format: Format,
    /// Where the file is carried on to, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver: Option<Delivery>,
}

/// A place outside of the room for a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Delivery {
    /// A connection of the host that runs; the recipient's own.
    pub connection: String,
    /// A folder or a table behind it.
    pub to: Target,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartyTerms {
    id: String,
    /// Where the party's files are; `data/ID` where it is not said.
    #[serde(default)]
    folder: Option<String>,
    #[serde(default)]
    controls: StatedControls,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ViewTerms {
    id: String,
    owner: String,
    #[serde(default)]
    unit: Option<String>,
    #[serde(default)]
    unit_rules: Vec<UnitRule>,
    #[serde(default)]
    unit_via: Option<String>,
    #[serde(default)]
    id_column: Option<String>,
    #[serde(default)]
    id_rules: Vec<UnitRule>,
    #[serde(default)]
    max_units_per_id: Option<u32>,
    #[serde(default)]
    learnable_by: Vec<String>,
    /// The owner's id where it is not said: all of an owner's data is one dataset.
    #[serde(default)]
    lineage: Option<String>,
    sql: String,
    sources: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RoomFile {
    version: u32,
    id: String,
    unit: String,
    #[serde(default)]
    party: Vec<PartyTerms>,
    #[serde(default)]
    view: Vec<ViewTerms>,
    #[serde(default)]
    destination: Vec<Destination>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Party {
    folder: String,
    controls: Controls,
}

/// A checked `room.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// The room's id.
    pub id: String,
    /// What a privacy unit is, in a word: person, household, account.
    pub unit: String,
    parties: BTreeMap<String, Party>,
    views: BTreeMap<String, View>,
    destinations: BTreeMap<String, Destination>,
}

impl Room {
    /// Parses and checks the text of a `room.toml`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|_| invalid("room.toml is not UTF-8 text"))?;
        let file: RoomFile = parse::toml(text).map_err(|why| invalid(format!("room.toml: {why}")))?;
        if file.version != 1 {
            return Err(invalid(format!("room.toml has version {}, this runtime reads version 1", file.version)));
        }
        if !is_id(&file.id) || !is_id(&file.unit) {
            return Err(invalid("the room's `id` or `unit` is not of the form [a-z0-9._-]{1,64}"));
        }
        let mut room = Self {
            id: file.id,
            unit: file.unit,
            parties: BTreeMap::new(),
            views: BTreeMap::new(),
            destinations: BTreeMap::new(),
        };
        for PartyTerms { id, folder, controls } in file.party {
            let folder = folder.unwrap_or_else(|| format!("data/{id}"));
            room.check_party_folder(&id, &folder)?;
            let party = Party { folder, controls: controls.check(&id)? };
            insert(&mut room.parties, "party", id, party)?;
        }
        let mut mapped = Vec::new();
        for mut view in file.view {
            let via = view.unit_via.take();
            let view = room.check_view(view)?;
            mapped.extend(via.map(|via| (view.id.clone(), via)));
            insert(&mut room.views, "view", view.id.clone(), view)?;
        }
        room.map_units(&mapped)?;
        for destination in file.destination {
            room.check_party(&destination.recipient, "destination", &destination.id)?;
            check_path(&destination.folder)?;
            if let Some(Delivery { connection, to: Target::Folder(name) | Target::Table(name) }) = &destination.deliver
            {
                check_path(name)?;
                if !is_id(connection) {
                    return Err(invalid(format!("destination {} delivers through no connection", destination.id)));
                }
            }
            insert(&mut room.destinations, "destination", destination.id.clone(), destination)?;
        }
        Ok(room)
    }

    /// The view of that id.
    #[must_use]
    pub(crate) fn view(&self, id: &str) -> Option<&View> {
        self.views.get(id)
    }

    /// The destination of that id.
    #[must_use]
    pub(crate) fn destination(&self, id: &str) -> Option<&Destination> {
        self.destinations.get(id)
    }

    /// The folder of a party's files.
    #[must_use]
    pub(crate) fn folder(&self, party: &str) -> Option<&str> {
        self.parties.get(party).map(|party| party.folder.as_str())
    }

    /// The ids of all views.
    pub(crate) fn view_ids(&self) -> impl Iterator<Item = &str> {
        self.views.keys().map(String::as_str)
    }

    /// The ids of all destinations.
    pub(crate) fn destination_ids(&self) -> impl Iterator<Item = &str> {
        self.destinations.keys().map(String::as_str)
    }

    /// Whether the room has that party.
    #[must_use]
    pub(crate) fn has_party(&self, id: &str) -> bool {
        self.parties.contains_key(id)
    }

    /// The strictest controls of the parties named.
    #[must_use]
    pub(crate) fn controls<'a>(&self, owners: impl Iterator<Item = &'a str>) -> Option<Controls> {
        owners.map(|owner| self.parties.get(owner)).try_fold(None, |strictest: Option<Controls>, party| {
            let controls = &party?.controls;
            Some(Some(strictest.map_or_else(|| controls.clone(), |other| other.strictest(controls))))
        })?
    }

    /// Puts its mapping into each view that names one. A mapping names units itself, so none goes round in a circle.
    fn map_units(&mut self, mapped: &[(String, String)]) -> Result<()> {
        for (id, via) in mapped {
            let mapping = self.views.get(via).filter(|view| view.mapping.is_some()).cloned().ok_or_else(|| {
                invalid(format!("view {id}: `unit_via` names `{}`, no view with an `id_column`", via.escape_debug()))
            })?;
            if mapped.iter().any(|(id, _)| id == via) {
                return Err(invalid(format!("view {id}: `unit_via` names {via}, which has a `unit_via` itself")));
            }
            let Some(view) = self.views.get_mut(id).filter(|view| view.is_protected()) else {
                return Err(invalid(format!("view {id} has `unit_via` and no `unit`")));
            };
            view.unit_via = Some(Box::new(mapping));
        }
        Ok(())
    }

    fn check_view(&self, view: ViewTerms) -> Result<View> {
        let mapping = check_mapping(&view)?;
        let ViewTerms { id, owner, unit, unit_rules, learnable_by, lineage, sql, sources, .. } = view;
        self.check_party(&owner, "view", &id)?;
        if unit.is_some() != learnable_by.is_empty() {
            return Err(invalid(format!("view {id} has either a `unit` or parties that it is `learnable_by`")));
        }
        if unit.is_none() && !unit_rules.is_empty() {
            return Err(invalid(format!("view {id} has `unit_rules` and no `unit`")));
        }
        UnitRule::check(&unit_rules).map_err(|why| invalid(format!("view {id} {why}")))?;
        learnable_by.iter().try_for_each(|party| self.check_party(party, "view", &id))?;
        let unit = unit.unwrap_or_default();
        let lineage = lineage.unwrap_or_else(|| owner.clone());
        if !is_id(&lineage) {
            return Err(invalid(format!("view {id}: the `lineage` is not of the form [a-z0-9._-]{{1,64}}")));
        }
        if sources.is_empty() {
            return Err(invalid(format!("view {id} has no `sources`")));
        }
        let sources: Vec<_> = sources.into_iter().map(|(table, path)| Source { table, path }).collect();
        for source in &sources {
            let table = &source.table;
            if !is_id(table) {
                return Err(invalid(format!(
                    "view {id}: the table name `{table}` is not of the form [a-z0-9._-]{{1,64}}"
                )));
            }
            let path = match source.place() {
                Place::File(path) => path.strip_suffix('/').unwrap_or(path),
                Place::Delta(path) => path,
                // Whose it is, the connection says.
                Place::Behind { table, .. } => {
                    check_path(table)?;
                    continue;
                }
            };
            check_path(path)?;
            let folder = self.parties.get(&owner).map_or("", |party| &party.folder);
            if !is_below(path, folder) {
                return Err(invalid(format!(
                    "view {id}: {path} does not lie in {folder}, the folder of its owner {owner}"
                )));
            }
        }
        Ok(View { id, owner, unit, unit_rules, unit_via: None, mapping, learnable_by, lineage, sql, sources })
    }

    /// No party's files lie among another's: who owns a file is decided by where it is.
    fn check_party_folder(&self, id: &str, folder: &str) -> Result<()> {
        check_path(folder)?;
        let shares = |other: &Party| is_below(folder, &other.folder) || is_below(&other.folder, folder);
        match self.parties.iter().find(|(_, other)| shares(other)) {
            Some((other, _)) => Err(invalid(format!("the folder {folder} of party {id} overlaps that of {other}"))),
            None => Ok(()),
        }
    }

    fn check_party(&self, party: &str, what: &str, id: &str) -> Result<()> {
        if self.has_party(party) {
            Ok(())
        } else {
            Err(invalid(format!("{what} {id} names the unknown party {party}")))
        }
    }
}

fn check_mapping(view: &ViewTerms) -> Result<Option<Mapping>> {
    let ViewTerms { id, unit, id_column, id_rules, max_units_per_id, .. } = view;
    let Some(id_column) = id_column.clone() else {
        return if id_rules.is_empty() && max_units_per_id.is_none() {
            Ok(None)
        } else {
            Err(invalid(format!("view {id} has `id_rules` or `max_units_per_id` and no `id_column`")))
        };
    };
    if unit.as_ref().is_none_or(|unit| *unit == id_column) {
        return Err(invalid(format!("view {id} has an `id_column` and no other column as its `unit`")));
    }
    UnitRule::check(id_rules).map_err(|why| invalid(format!("view {id}, in its `id_rules`, {why}")))?;
    let max_units_per_id = max_units_per_id.unwrap_or(1);
    if !(1..=UNITS_PER_ID_MAX).contains(&max_units_per_id) {
        return Err(invalid(format!("view {id}: `max_units_per_id` is not from 1 to {UNITS_PER_ID_MAX}")));
    }
    Ok(Some(Mapping { id_column, id_rules: id_rules.clone(), max_units_per_id }))
}

fn insert<T>(map: &mut BTreeMap<String, T>, what: &str, id: String, value: T) -> Result<()> {
    if !is_id(&id) {
        return Err(invalid(format!("the {what} id `{}` is not of the form [a-z0-9._-]{{1,64}}", id.escape_debug())));
    }
    if map.contains_key(&id) {
        return Err(invalid(format!("the {what} {id} stands twice")));
    }
    map.insert(id, value);
    Ok(())
}

/// Whether a path is a folder or lies below it.
fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn check_path(path: &str) -> Result<()> {
    if is_inner_path(path) {
        Ok(())
    } else {
        Err(invalid(format!("the path `{}` does not stay inside the room", path.escape_debug())))
    }
}

fn invalid(fact: impl Into<String>) -> Fault {
    Fault::new(Code::RoomInvalid, fact, "see docs/architecture.md for the fields of room.toml")
}
