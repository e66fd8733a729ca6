//! Why a question cannot be run: a reason from a closed set, a line of fact and a line of remedy.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Facts may quote names from a component; they are cut, and cannot move a terminal's cursor.
const TEXT_BYTES_MAX: usize = 400;

/// Result of every fallible step.
pub type Result<T, E = Denial> = std::result::Result<T, E>;

/// Why a question cannot be run. The text form is stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The bytes are no WebAssembly component of an accepted shape.
    ComponentInvalid,
    /// The component imports something.
    ComponentImports,
    /// The component cannot be compiled under the engine's profile.
    CompileFailed,
    /// The component does not export the interface of its kind.
    ContractMismatch,
    /// A unit ran into the wall clock.
    TimedOut,
    /// This kernel cannot confine a worker as the terms demand.
    WallMissing,
    /// The sandbox itself failed.
    SandboxFailed,
}

impl Reason {
    /// Every reason there is.
    pub const ALL: &'static [Self] = &[
        Self::ComponentInvalid,
        Self::ComponentImports,
        Self::CompileFailed,
        Self::ContractMismatch,
        Self::TimedOut,
        Self::WallMissing,
        Self::SandboxFailed,
    ];

    /// The stable text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ComponentInvalid => "COMPONENT_INVALID",
            Self::ComponentImports => "COMPONENT_IMPORTS",
            Self::CompileFailed => "COMPILE_FAILED",
            Self::ContractMismatch => "CONTRACT_MISMATCH",
            Self::TimedOut => "TIMED_OUT",
            Self::WallMissing => "WALL_MISSING",
            Self::SandboxFailed => "SANDBOX_FAILED",
        }
    }
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    reason: Reason,
    fact: String,
    remedy: String,
}

impl Denial {
    pub(crate) fn new(reason: Reason, fact: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason, fact: fact.into(), remedy: remedy.into() }
    }

    /// A failure of this host.
    pub(crate) fn failed(fact: impl Into<String>) -> Self {
        let remedy = "run again; if it happens again, report it with the code and the version";
        Self::new(Reason::SandboxFailed, fact, remedy)
    }

    /// What a process said that may be under a guest's control: its reason stands, its text is cut to one plain line.
    pub(crate) fn from_stranger(denial: Self) -> Self {
        let plain = |text: String| text.escape_debug().take(TEXT_BYTES_MAX).collect::<String>();
        Self { reason: denial.reason, fact: plain(denial.fact), remedy: plain(denial.remedy) }
    }

    /// The reason.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// What is so.
    #[must_use]
    pub fn fact(&self) -> &str {
        &self.fact
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\nhint: {}", self.reason.as_str(), self.fact, self.remedy)
    }
}

impl std::error::Error for Denial {}
