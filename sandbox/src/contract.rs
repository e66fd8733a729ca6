//! The types of `sdk/wit/question.wit` on the host's side.
//!
//! Written with wasmtime's derives instead of generated, so that every kind shares one set of types and a unit is lowered
//! straight from the memory that the host shares. The engine checks them against each component's own types.

use wasmtime::component::{ComponentType, Lift};

use crate::terms::Kind;

/// The package of `sdk/wit/question.wit`.
pub(crate) const PACKAGE: &str = "glovebox:question";

/// Its worlds, each with the interface that it exports.
pub(crate) const WORLDS: [(&str, &str); 2] = [("analytical-question", "analytical"), ("list-question", "selection")];

/// The exported interface and function of a kind.
pub(crate) const fn export_of(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Analytical => ("glovebox:question/analytical@0.2.0", "measure"),
        Kind::List => ("glovebox:question/selection@0.2.0", "select"),
    }
}

/// What every kind's function takes: a unit's words.
pub(crate) type Arguments<'a> = (&'a [u64],);

/// What one unit adds to one group, as the guest claims it. It has no Debug: it is raw data.
#[derive(Clone, Default, ComponentType, Lift)]
#[component(record)]
#[expect(missing_debug_implementations, reason = "raw data never reaches a log line")]
pub struct Contribution {
    /// One part per group column.
    pub group: Vec<String>,
    /// One number per measure that is not a count.
    pub values: Vec<f64>,
}

/// One unit's answer. It has no Debug: it is raw data.
#[derive(Clone, Default)]
#[expect(missing_debug_implementations, reason = "raw data never reaches a log line")]
pub enum Answer {
    /// Of an analytical question.
    Contributions(Vec<Contribution>),
    /// Of a list: the segment, if the unit is in.
    Selected(Option<u32>),
    /// The unit's run went wrong in some way that no one is told.
    #[default]
    Nothing,
}
