//! `agreement.json`: every term of one run in one file. Its id is the SHA-256 of its bytes as they lie.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use glovebox_trust::Principal;
use glovebox_trust::sha256_hex;
use serde::{Deserialize, Serialize};

use super::{Column, Controls, Destination, Kind, Limits, View};
use crate::clock;
use crate::error::{Code, Fault, Result};
use crate::parse;

/// What identifies a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileDigest {
    /// SHA-256 of the bytes, in hex.
    pub sha256: String,
    /// Length in bytes.
    pub size: u64,
}

impl FileDigest {
    /// Digests bytes in memory.
    #[must_use]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { sha256: sha256_hex(bytes), size: bytes.len() as u64 }
    }
}

/// A view bound to a slot: its whole definition, so that a reviewer reads what runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BoundView {
    /// The slot of the manifest.
    pub slot: String,
    /// The view as it stands in the room.
    pub view: View,
    /// SHA-256 of the view's definition: owner, unit, rules, SQL and sources, as they stand above.
    pub definition_sha256: String,
    /// SHA-256 of the view's schema: names and types of its columns.
    pub schema_sha256: String,
    /// The columns that the code sees.
    pub columns: Vec<Column>,
}

/// The interface that the component has, as its own bytes say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct World {
    /// The world's name.
    pub name: String,
    /// The package of its interfaces, which the SDK brings.
    pub sdk: String,
    /// The package's version.
    pub sdk_version: String,
    /// SHA-256 of the world, printed as WIT from the decoded component.
    pub wit_sha256: String,
}

/// The registry under which an agreement was composed; later versions of the same chain will do as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegistryPin {
    /// The version.
    pub version: u64,
    /// SHA-256 of that version's bytes.
    pub sha256: String,
}

/// What runs under the agreement may spend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budget {
    /// The accounts that every run charges: lineage and unit.
    pub accounts: Vec<String>,
    /// How many runs may be begun.
    pub runs_max: u32,
}

/// The transparency log in which the runs are recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogPin {
    /// The log's origin.
    pub origin: String,
    /// SHA-256 of the witness policy's lines.
    pub witnesses_sha256: String,
}

/// A parameter and the text form of its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BoundParameter {
    /// The parameter's name.
    pub name: String,
    /// The value, in the form that the manifest's type reads.
    pub value: String,
}

/// The runtime that the parties agreed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Runtime {
    pub(crate) glovebox: String,
    pub(crate) wasmtime: String,
    pub(crate) contract_sha256: String,
    /// SHA-256 of the engine's profile: every setting that can change an answer.
    pub(crate) engine_sha256: String,
}

impl Runtime {
    /// The one that is running.
    pub(crate) fn this() -> Self {
        Self {
            glovebox: env!("CARGO_PKG_VERSION").into(),
            wasmtime: crate::sandbox::WASMTIME_VERSION.into(),
            contract_sha256: sha256_hex(include_bytes!("../../../sdk/wit/question.wit")),
            engine_sha256: crate::sandbox::profile_sha256(),
        }
    }
}

/// Every term of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Agreement {
    pub(crate) version: u32,
    /// The room's id.
    pub room: String,
    /// What a privacy unit is.
    pub unit: String,
    /// The question's name.
    pub question: String,
    /// The question's kind.
    pub kind: Kind,
    /// Path of the component inside the room.
    pub component_path: String,
    /// The component's bytes.
    pub component: FileDigest,
    /// Path of the manifest inside the room.
    pub manifest_path: String,
    /// The manifest's bytes.
    pub manifest: FileDigest,
    /// The component's interface.
    pub world: World,
    /// The key registry.
    pub registry: RegistryPin,
    /// The views, in the order of the manifest's slots.
    pub views: Vec<BoundView>,
    /// The parameters, in the order of the manifest.
    pub parameters: Vec<BoundParameter>,
    /// The output controls.
    pub controls: Controls,
    /// What these terms promise, and what they do not.
    pub guarantee: String,
    /// What the code sees besides one unit's rows: results may tell the recipient all of it.
    pub unprotected: Vec<String>,
    /// What may be spent.
    pub budget: Budget,
    /// Where the result goes.
    pub destination: Destination,
    pub(crate) limits: Limits,
    /// The services that may run it.
    pub runners: Vec<Principal>,
    pub(crate) runtime: Runtime,
    /// Where runs are recorded.
    pub log: LogPin,
    /// Counts the agreements on this question in this room.
    pub revision: u32,
    /// The agreements that this one replaces: once it has run, they do not run any more.
    pub supersedes: Vec<String>,
    pub(crate) not_before: String,
    pub(crate) not_after: String,
    pub(crate) nonce: String,
}

impl Agreement {
    /// The version of the form that this runtime reads and writes.
    pub(crate) const VERSION: u32 = 3;

    /// Parses the bytes of an `agreement.json`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let agreement: Self = parse::json(bytes).map_err(|error| invalid(format!("agreement.json: {error}")))?;
        if agreement.version != Self::VERSION {
            let (found, known) = (agreement.version, Self::VERSION);
            return Err(invalid(format!("agreement.json has version {found}, this runtime reads version {known}")));
        }
        agreement.window()?;
        if let Some(bound) = agreement.views.iter().find(|bound| bound.view.sha256() != bound.definition_sha256) {
            return Err(invalid(format!("agreement.json contradicts itself about view {}", bound.view.id)));
        }
        if agreement.runners.is_empty() {
            return Err(invalid("agreement.json names no runner"));
        }
        if !agreement.limits.are_in_range()
            || !(1..=1_000_000).contains(&agreement.budget.runs_max)
            || agreement.controls.check().is_err()
        {
            return Err(invalid("a limit or control of agreement.json is outside its range"));
        }
        Ok(agreement)
    }

    /// The bytes to write, hash and sign.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|error| invalid(error.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// From when and until when the agreement holds.
    pub(crate) fn window(&self) -> Result<(DateTime<Utc>, DateTime<Utc>)> {
        let read = |text: &str| clock::from_text(text).ok_or_else(|| invalid(format!("`{text}` is not a time in UTC")));
        Ok((read(&self.not_before)?, read(&self.not_after)?))
    }

    /// The parties whose approval the run needs: every owner of a bound view, and the recipient.
    #[must_use]
    pub(crate) fn required_parties(&self) -> BTreeSet<&str> {
        self.owners().chain([self.destination.recipient.as_str()]).collect()
    }

    /// The budget's accounts: what each dataset has told, to whomever, per unit.
    pub(crate) fn accounts(views: &[BoundView], unit: &str) -> Vec<String> {
        let protected = views.iter().flat_map(|bound| bound.view.with_mapping()).filter(|view| view.is_protected());
        // A dataset is its owner's: nobody else's view can spend its budget.
        let name = |view: &View| {
            if view.lineage == view.owner { view.owner.clone() } else { format!("{}'s {}", view.owner, view.lineage) }
        };
        let lineages: BTreeSet<String> = protected.map(name).collect();
        lineages.into_iter().map(|lineage| format!("{lineage}, per {unit}")).collect()
    }

    /// The bound views and the mappings that they name.
    pub(crate) fn all_views(&self) -> impl Iterator<Item = &View> {
        self.views.iter().flat_map(|bound| bound.view.with_mapping())
    }

    /// The owners of the bound views and of their mappings.
    pub(crate) fn owners(&self) -> impl Iterator<Item = &str> {
        self.all_views().map(|view| view.owner.as_str())
    }
}

fn invalid(fact: impl Into<String>) -> Fault {
    Fault::new(Code::AgreementInvalid, fact, "compose it again with `glovebox agree`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(owner: &str, lineage: &str, learnable_by: &[&str]) -> BoundView {
        let view = View {
            id: "v".into(),
            owner: owner.into(),
            unit: "id".into(),
            unit_rules: Vec::new(),
            unit_via: None,
            mapping: None,
            learnable_by: learnable_by.iter().map(ToString::to_string).collect(),
            lineage: lineage.into(),
            sql: String::new(),
            sources: Vec::new(),
        };
        let (definition_sha256, schema_sha256) = (String::new(), String::new());
        BoundView { slot: "s".into(), view, definition_sha256, schema_sha256, columns: Vec::new() }
    }

    #[test]
    fn nobody_spends_the_budget_of_anothers_dataset() {
        let views = [
            bound("retailer", "retailer", &[]),
            bound("retailer", "loyalty", &[]),
            bound("brand", "retailer", &[]),
            bound("brand", "prices", &["retailer"]),
        ];
        assert_eq!(
            Agreement::accounts(&views, "household"),
            ["brand's retailer, per household", "retailer, per household", "retailer's loyalty, per household"]
        );
    }
}
