//! The types of `sdk/wit/question.wit` on the host's side.
//!
//! Written with wasmtime's derives instead of generated, so that every kind shares one set of types and columns
//! are lowered straight from Arrow buffers. The engine checks them against each component's own types.

use wasmtime::component::{ComponentType, Lift, Lower};

use crate::room::Kind;

/// The package of `sdk/wit/question.wit`.
pub(super) const PACKAGE: &str = "glovebox:question";

/// Its worlds, each with the interfaces that it exports, sorted.
pub(super) const WORLDS: [(&str, [&str; 2]); 2] =
    [("analytical-question", ["analytical", "data"]), ("list-question", ["data", "selection"])];

/// The exported interface and function of a kind.
pub(super) const fn export_of(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Analytical => ("glovebox:question/analytical@0.1.0", "measure"),
        Kind::List => ("glovebox:question/selection@0.1.0", "select"),
    }
}

#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(record)]
pub(super) struct Strings<'a> {
    pub(super) offsets: &'a [u32],
    pub(super) bytes: &'a [u8],
}

#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(record)]
pub(super) struct Dictionary<'a> {
    pub(super) codes: &'a [u32],
    pub(super) words: Strings<'a>,
}

#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(variant)]
pub(super) enum Values<'a> {
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
pub(super) struct Column<'a> {
    pub(super) validity: Option<&'a [u8]>,
    pub(super) values: Values<'a>,
}

#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(record)]
pub(super) struct Rows<'a> {
    pub(super) count: u32,
    pub(super) columns: &'a [Column<'a>],
}

#[derive(Clone, Copy, Debug, ComponentType, Lower)]
#[component(variant)]
pub(super) enum Parameter<'a> {
    #[component(name = "boolean")]
    Boolean(bool),
    #[component(name = "int64")]
    Int64(i64),
    #[component(name = "float64")]
    Float64(f64),
    #[component(name = "utf8")]
    Utf8(&'a str),
}

/// What one unit adds to one group, as the guest claims it.
#[derive(Clone, ComponentType, Lift)]
#[component(record)]
pub(crate) struct Contribution {
    pub(crate) group: Vec<String>,
    pub(crate) values: Vec<f64>,
}

/// One unit's answer. It has no Debug: it is raw data.
pub(crate) enum Answer {
    Contributions(Vec<Contribution>),
    Selected(Option<u32>),
    /// The unit's run went wrong in some way that no one is told.
    Nothing,
}
