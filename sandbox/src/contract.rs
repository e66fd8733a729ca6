//! The types of `sdk/wit/question.wit` on the host's side.
//!
//! Written with wasmtime's derives instead of generated, so that every kind shares one set of types and columns
//! are lowered straight from the memory that the host shares. The engine checks them against each component's own types.

use serde::{Deserialize, Serialize};
use wasmtime::component::{ComponentType, Lift, Lower};

use crate::terms::{Kind, Value};

/// The package of `sdk/wit/question.wit`.
pub(crate) const PACKAGE: &str = "glovebox:question";

/// Its worlds, each with the interfaces that it exports, sorted.
pub(crate) const WORLDS: [(&str, [&str; 2]); 2] =
    [("analytical-question", ["analytical", "data"]), ("list-question", ["data", "selection"])];

/// The exported interface and function of a kind.
pub(crate) const fn export_of(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Analytical => ("glovebox:question/analytical@0.1.0", "measure"),
        Kind::List => ("glovebox:question/selection@0.1.0", "select"),
    }
}

#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Strings<'a> {
    pub(crate) offsets: &'a [u32],
    pub(crate) bytes: &'a [u8],
}

#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Dictionary<'a> {
    pub(crate) codes: &'a [u32],
    pub(crate) words: Strings<'a>,
}

#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(variant)]
pub(crate) enum Values<'a> {
    #[component(name = "boolean")]
    Boolean(&'a [u8]),
    #[component(name = "int64")]
    Int64(&'a [i64]),
    #[component(name = "float64")]
    Float64(&'a [f64]),
    #[component(name = "date")]
    Date(&'a [i32]),
    #[component(name = "timestamp")]
    Timestamp(&'a [i64]),
    #[component(name = "utf8")]
    Utf8(Strings<'a>),
    #[component(name = "dictionary")]
    Dictionary(Dictionary<'a>),
}

#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Column<'a> {
    pub(crate) validity: Option<&'a [u8]>,
    pub(crate) values: Values<'a>,
}

#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Rows<'a> {
    pub(crate) count: u32,
    pub(crate) columns: &'a [Column<'a>],
}

#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(variant)]
pub(crate) enum Parameter<'a> {
    #[component(name = "boolean")]
    Boolean(bool),
    #[component(name = "int64")]
    Int64(i64),
    #[component(name = "float64")]
    Float64(f64),
    #[component(name = "utf8")]
    Utf8(&'a str),
}

/// The value as it is agreed; a seed is not, and stands open.
impl<'a> From<&'a Value> for Parameter<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Boolean(value) => Self::Boolean(*value),
            Value::Int64(value) => Self::Int64(*value),
            Value::Float64(value) => Self::Float64(*value),
            Value::Utf8(value) => Self::Utf8(value),
            Value::Seed => Self::Int64(0),
        }
    }
}

/// What every kind's function takes.
pub(crate) type Arguments<'a> = (&'a [Parameter<'a>], &'a [Rows<'a>]);

/// What one unit adds to one group, as the guest claims it. It has no Debug: it is raw data.
#[derive(Clone, ComponentType, Lift, Serialize, Deserialize)]
#[component(record)]
#[expect(missing_debug_implementations, reason = "raw data never reaches a log line")]
pub struct Contribution {
    /// One part per group column.
    pub group: Vec<String>,
    /// One number per measure that is not a count.
    pub values: Vec<f64>,
}

/// One unit's answer. It has no Debug: it is raw data.
#[derive(Serialize, Deserialize)]
#[expect(missing_debug_implementations, reason = "raw data never reaches a log line")]
pub enum Answer {
    /// Of an analytical question.
    Contributions(Vec<Contribution>),
    /// Of a list: the segment, if the unit is in.
    Selected(Option<u32>),
    /// The unit's run went wrong in some way that no one is told.
    Nothing,
}
