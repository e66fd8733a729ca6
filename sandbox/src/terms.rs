//! What the parties agreed about a question, as far as the sandbox must know it.

use serde::{Deserialize, Serialize};

/// What kind of answer a question gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Aggregates per group.
    Analytical,
    /// Identifiers for activation.
    List,
}

impl Kind {
    /// The name in files and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Analytical => "analytical",
            Self::List => "list",
        }
    }
}

/// The type of a column as it crosses into the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// True or false.
    Boolean,
    /// Any integer column that fits 64 signed bits.
    Int64,
    /// A floating-point column.
    Float64,
    /// Days since 1970-01-01.
    Date,
    /// Microseconds since 1970-01-01T00:00:00Z.
    Timestamp,
    /// Text.
    Utf8,
    /// Text that repeats: sent as codes and words of this unit's rows.
    Dictionary,
}

/// A parameter's value, checked against its domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// A boolean.
    Boolean(bool),
    /// An integer.
    Int64(i64),
    /// A number.
    Float64(f64),
    /// One of the allowed texts.
    Utf8(String),
    /// No value that anyone has agreed: a number of each unit's own, which the host draws and writes before its rows.
    Seed,
}

/// What one unit's run may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Fuel of one unit, about an instruction each.
    pub fuel_per_unit: u64,
    /// Memory and tables of one unit's instance, in bytes.
    pub memory_bytes_per_unit: u64,
    /// The wall clock of one unit; it ends the whole run.
    pub milliseconds_per_unit: u64,
    /// What one unit's answer may take in this host, in bytes.
    pub answer_bytes_per_unit: u64,
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
    #[must_use]
    pub fn are_in_range(&self) -> bool {
        (1..=1 << 50).contains(&self.fuel_per_unit)
            && (64 << 10..=4 << 30).contains(&self.memory_bytes_per_unit)
            && (1..=3_600_000).contains(&self.milliseconds_per_unit)
            && (1..=64 << 20).contains(&self.answer_bytes_per_unit)
    }
}

/// How a question is asked, in every call alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// What it answers.
    pub kind: Kind,
    /// What one call may use.
    pub limits: Limits,
    /// The parameters, in the manifest's order.
    pub parameters: Vec<Value>,
    /// The types of each slot's columns.
    pub slots: Vec<Vec<ColumnType>>,
}

impl Spec {
    /// The place of the seed among the parameters.
    #[must_use]
    pub fn seed(&self) -> Option<usize> {
        self.parameters.iter().position(|parameter| *parameter == Value::Seed)
    }
}
