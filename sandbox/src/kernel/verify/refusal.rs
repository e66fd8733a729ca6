//! Why a module is no register kernel: one reason, the first that was found.

use std::fmt;

use wasmparser::BinaryReaderError;

use super::signature::Phase;
use super::{CALLS_DEEP_MAX, MODULE_BYTES_MAX, WORK_MAX};

/// Why a module is no register kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotACoreModule,
    TooLarge {
        bytes: usize,
    },
    /// Malformed, ill-typed, or written for a feature that no question may use.
    Invalid {
        message: String,
        offset: usize,
    },
    Import {
        module: String,
        name: String,
    },
    Start,
    /// A custom section that every kernel has is not there, is there twice, or says something else.
    Section {
        name: &'static str,
    },
    NotAFunction {
        export: String,
    },
    /// The first export of a phase.
    Missing {
        phase: Phase,
    },
    /// An export of a phase takes something else than the others and the columns say.
    Arguments {
        export: String,
    },
    /// The results of a phase's exports, one after another, are no state or no answer.
    Results {
        phase: Phase,
    },
    Operator {
        forbidden: Forbidden,
        function: u32,
        offset: usize,
    },
    /// A parameter, a result or a local, of a function or a block, that is no number that kernels compute with.
    Type {
        function: u32,
    },
    Recursion {
        function: u32,
    },
    CallsTooDeep {
        function: u32,
    },
    TooMuchWork {
        function: u32,
    },
    /// It has more parameters or values than there is room for.
    NotWritten,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotACoreModule => write!(f, "a kernel is a core WebAssembly module in binary form"),
            Self::TooLarge { bytes } => write!(f, "the module has {bytes} bytes, more than {MODULE_BYTES_MAX}"),
            Self::Invalid { message, offset } => write!(f, "the module is invalid at byte {offset}: {message}"),
            Self::Import { module, name } => write!(f, "the module imports `{module}` `{name}`"),
            Self::Start => write!(f, "the module has a start function"),
            Self::Section { name } => write!(f, "the module has no sound section `{name}`"),
            Self::NotAFunction { export } => write!(f, "the export `{export}` is not a function"),
            Self::Missing { phase } => write!(f, "the module does not export `{}_0`", phase.prefix()),
            Self::Arguments { export } => write!(f, "the export `{export}` takes other types than the rest says"),
            Self::Results { phase: Phase::Emit } => {
                write!(f, "the exports `emit_0`, `emit_1`, … do not return a group (i32) and values (f64)")
            }
            Self::Results { phase } => {
                write!(f, "the exports `{}_0` and so on return other types than the state has", phase.prefix())
            }
            Self::Operator { forbidden, function, offset } => {
                write!(f, "function {function} may keep state: {forbidden:?} at byte {offset}")
            }
            Self::Type { function } => write!(f, "function {function} holds a value that is no i32, i64 or f64"),
            Self::Recursion { function } => write!(f, "function {function} can call itself"),
            Self::CallsTooDeep { function } => {
                write!(f, "calls of function {function} nest deeper than {CALLS_DEEP_MAX}")
            }
            Self::NotWritten => write!(f, "the module has more parameters or values than there is room for"),
            Self::TooMuchWork { function } => {
                write!(f, "with function {function} and what it calls there are more than {WORK_MAX} operators")
            }
        }
    }
}

impl From<BinaryReaderError> for Refusal {
    fn from(error: BinaryReaderError) -> Self {
        Self::Invalid { message: error.message().to_owned(), offset: error.offset() }
    }
}

/// What an operator would do that a kernel may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forbidden {
    MemoryLoad,
    MemoryStore,
    MemorySize,
    MemoryGrow,
    MemoryBulk,
    GlobalGet,
    GlobalSet,
    Table,
    CallIndirect,
    FunctionReference,
    Vector,
    /// An operator that no list here names.
    Unknown,
}
