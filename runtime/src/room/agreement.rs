//! `agreement.json`: every term of one run in one file. Its id is the SHA-256 of its bytes as they lie.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Controls, Destination, Kind, View};
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
    /// SHA-256 of the view's schema: names and types of its columns.
    pub schema_sha256: String,
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

/// What one unit's run in the sandbox may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) fuel_per_unit: u64,
    pub(crate) memory_bytes_per_unit: u64,
    pub(crate) milliseconds_per_unit: u64,
    pub(crate) answer_bytes_per_unit: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel_per_unit: 20_000_000,
            memory_bytes_per_unit: 16 << 20,
            milliseconds_per_unit: 10_000,
            answer_bytes_per_unit: 64 << 10,
        }
    }
}

impl Limits {
    /// What the sandbox can honour, and what ends in a time that someone would wait for.
    fn are_in_range(&self) -> bool {
        (1..=1 << 50).contains(&self.fuel_per_unit)
            && (64 << 10..=4 << 30).contains(&self.memory_bytes_per_unit)
            && (1..=3_600_000).contains(&self.milliseconds_per_unit)
            && (1..=64 << 20).contains(&self.answer_bytes_per_unit)
    }
}

/// The runtime that the parties agreed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Runtime {
    pub(crate) glovebox: String,
    pub(crate) wasmtime: String,
    pub(crate) contract_sha256: String,
}

impl Runtime {
    /// The one that is running.
    pub(crate) fn this() -> Self {
        Self {
            glovebox: env!("CARGO_PKG_VERSION").into(),
            wasmtime: crate::sandbox::WASMTIME_VERSION.into(),
            contract_sha256: sha256_hex(include_bytes!("../../../sdk/wit/question.wit")),
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
    /// The key registry's bytes.
    pub registry: FileDigest,
    /// The views, in the order of the manifest's slots.
    pub views: Vec<BoundView>,
    /// The parameters, in the order of the manifest.
    pub parameters: Vec<BoundParameter>,
    /// The output controls.
    pub controls: Controls,
    /// Where the result goes.
    pub destination: Destination,
    pub(crate) limits: Limits,
    pub(crate) runtime: Runtime,
    /// Counts the agreements on this question in this room.
    pub revision: u32,
    not_before: String,
    not_after: String,
    nonce: String,
}

/// The window and the nonce of a new agreement.
#[derive(Clone, Debug)]
pub(crate) struct Validity {
    pub(crate) not_before: DateTime<Utc>,
    pub(crate) not_after: DateTime<Utc>,
    pub(crate) nonce: [u8; 16],
}

/// The terms that are not fixed by the runtime.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) room: String,
    pub(crate) unit: String,
    pub(crate) question: String,
    pub(crate) kind: Kind,
    pub(crate) component_path: String,
    pub(crate) component: FileDigest,
    pub(crate) manifest_path: String,
    pub(crate) manifest: FileDigest,
    pub(crate) registry: FileDigest,
    pub(crate) views: Vec<BoundView>,
    pub(crate) parameters: Vec<BoundParameter>,
    pub(crate) controls: Controls,
    pub(crate) destination: Destination,
    pub(crate) revision: u32,
}

impl Agreement {
    pub(crate) fn compose(terms: Terms, validity: &Validity) -> Self {
        Self {
            version: 1,
            room: terms.room,
            unit: terms.unit,
            question: terms.question,
            kind: terms.kind,
            component_path: terms.component_path,
            component: terms.component,
            manifest_path: terms.manifest_path,
            manifest: terms.manifest,
            registry: terms.registry,
            views: terms.views,
            parameters: terms.parameters,
            controls: terms.controls,
            destination: terms.destination,
            limits: Limits::default(),
            runtime: Runtime::this(),
            revision: terms.revision,
            not_before: clock::to_text(validity.not_before),
            not_after: clock::to_text(validity.not_after),
            nonce: data_encoding::HEXLOWER.encode(&validity.nonce),
        }
    }

    /// Parses the bytes of an `agreement.json`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let agreement: Self = parse::json(bytes).map_err(|error| invalid(format!("agreement.json: {error}")))?;
        if agreement.version != 1 {
            return Err(invalid(format!(
                "agreement.json has version {}, this runtime reads version 1",
                agreement.version
            )));
        }
        agreement.window()?;
        if !agreement.limits.are_in_range() || !agreement.controls.are_in_range() {
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
    pub(crate) fn required_parties(&self) -> std::collections::BTreeSet<&str> {
        self.owners().chain([self.destination.recipient.as_str()]).collect()
    }

    /// The owners of the bound views, in slot order.
    pub(crate) fn owners(&self) -> impl Iterator<Item = &str> {
        self.views.iter().map(|bound| bound.view.owner.as_str())
    }
}

/// SHA-256 in hex.
#[must_use]
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(bytes))
}

fn invalid(fact: impl Into<String>) -> Fault {
    Fault::new(Code::AgreementInvalid, fact, "compose it again with `glovebox agree`")
}
