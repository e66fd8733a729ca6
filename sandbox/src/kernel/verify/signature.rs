//! What a kernel's functions take and return: numbers, columns of rows, and the phases that they belong to.

use serde::{Deserialize, Serialize};
use wasmparser::ValType;

use crate::terms;

/// A value that a kernel computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Scalar {
    I32,
    I64,
    F64,
}

impl Scalar {
    const fn of(ty: ValType) -> Option<Self> {
        match ty {
            ValType::I32 => Some(Self::I32),
            ValType::I64 => Some(Self::I64),
            ValType::F64 => Some(Self::F64),
            _ => None,
        }
    }
}

/// A column of the rows. A nullable one gives the kernel two values: the value, and 1 where it is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) kind: terms::ColumnType,
    pub(crate) is_nullable: bool,
}

impl Column {
    /// What a byte of the section says: a letter of the type, a capital where rows may be null.
    ///
    /// Texts have none: a kernel has no memory for them, and the codes of a dictionary are those of one unit's own words.
    pub(super) fn read(byte: u8) -> Option<Self> {
        let kind = match byte.to_ascii_lowercase() {
            b'b' => terms::ColumnType::Boolean,
            b'i' => terms::ColumnType::Int64,
            b'f' => terms::ColumnType::Float64,
            b'd' => terms::ColumnType::Date,
            b't' => terms::ColumnType::Timestamp,
            _ => return None,
        };
        Some(Self { kind, is_nullable: byte.is_ascii_uppercase() })
    }

    pub(crate) const fn scalar(self) -> Scalar {
        match self.kind {
            terms::ColumnType::Int64 | terms::ColumnType::Timestamp => Scalar::I64,
            terms::ColumnType::Float64 => Scalar::F64,
            // Days and truth values; nothing else is read.
            _ => Scalar::I32,
        }
    }

    /// What the kernel sees of a row.
    pub(crate) fn scalars(self) -> impl Iterator<Item = Scalar> {
        std::iter::once(self.scalar()).chain(self.is_nullable.then_some(Scalar::I32))
    }
}

/// What the exports take and return.
///
/// `init_*(parameters) -> state`, `step_*(parameters, state, row) -> state`, `emit_*(parameters, state) -> group, values`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) parameters: Vec<Scalar>,
    pub(crate) state: Vec<Scalar>,
    pub(crate) columns: Vec<Column>,
    /// How many numbers stand behind the group.
    pub(crate) values: usize,
}

/// The three things a kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Init,
    Step,
    Emit,
}

impl Phase {
    pub(crate) const ALL: [Self; 3] = [Self::Init, Self::Step, Self::Emit];

    pub(super) const fn prefix(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Step => "step",
            Self::Emit => "emit",
        }
    }
}

/// All of them, if they are numbers.
pub(super) fn scalars(types: &[ValType]) -> Option<Vec<Scalar>> {
    types.iter().map(|ty| Scalar::of(*ty)).collect()
}

pub(super) const fn is_number(ty: &ValType) -> bool {
    Scalar::of(*ty).is_some()
}
