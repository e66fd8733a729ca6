//! Where everything lies in the memory of the finished module. The kernel cannot see it.
//!
//! The memory holds a batch of units just as the host wrote it ([`crate::batch`]), so that it is filled by one copy; before
//! it lie the parameters and the answers of some units. The loop finds each unit's columns by the lengths that lead them.

use super::verify::{Scalar, Signature};
use crate::terms::ColumnType;

pub(crate) const PAGE: u64 = 1 << 16;
/// A memory never has more of a batch than this, so that no sum of an address and a length leaves 32 bits.
pub(crate) const BATCH_BYTES_MAX: u64 = 1 << 30;
/// Answers that there is room for. The host reads them and calls again.
pub(crate) const UNITS_PER_CALL: u32 = 1_024;

/// Where the unit behind the one at hand begins, for the host to go on after a trap.
pub(crate) const NEXT: u32 = 0;
/// Where the answer of the unit at hand lies.
pub(crate) const OUT: u32 = 4;
/// A byte of ones: the validity of columns in which no row is null.
pub(crate) const ONES: u32 = 8;
const PARAMETERS: u32 = 64;
/// Areas begin on a cache line.
const LINE: u64 = 64;

/// Within an answer: how many rows the unit has, whether it was answered, the group and the values.
pub(crate) const ROWS_AT: u32 = 0;
pub(crate) const ANSWERED_AT: u32 = 4;
pub(crate) const GROUP_AT: u32 = 8;
pub(crate) const VALUES_AT: u32 = 16;

/// What leads a list in a batch, the number of its items, and a column, its type.
pub(crate) const WORD_BYTES: u32 = 8;

/// How the loop reads a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    Bit,
    I32,
    I64,
    F64,
}

impl Width {
    pub(crate) const fn of(kind: ColumnType) -> Self {
        match kind {
            ColumnType::Boolean => Self::Bit,
            ColumnType::Int64 | ColumnType::Timestamp => Self::I64,
            ColumnType::Float64 => Self::F64,
            _ => Self::I32,
        }
    }
}

/// A load or a store of the loop, as it stands in the finished module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    LoadByte(u32),
    LoadI32(u32),
    LoadI64(u32),
    LoadF64(u32),
    StoreI32(u32),
    StoreF64(u32),
}

/// The addresses for kernels with so many parameters and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Where the answers begin, one [`stride`](Self::stride) each.
    pub(crate) answers: u32,
    pub(crate) stride: u32,
    /// Where the batch begins.
    pub(crate) batch: u32,
}

impl Layout {
    /// Nothing where there are more than anyone needs.
    pub(crate) fn new(parameters: usize, values: usize) -> Option<Self> {
        const MOST: usize = 1_000;
        if parameters > MOST || values > MOST {
            return None;
        }
        let answers = (u64::from(PARAMETERS) + 8 * parameters as u64).next_multiple_of(LINE);
        let stride = u64::from(VALUES_AT) + 8 * values as u64;
        let batch = (answers + stride * u64::from(UNITS_PER_CALL)).next_multiple_of(LINE);
        let [answers, stride, batch] = [answers, stride, batch].map(|address| u32::try_from(address).ok());
        Some(Self { answers: answers?, stride: stride?, batch: batch? })
    }

    pub(crate) const fn parameter(position: usize) -> u32 {
        PARAMETERS + 8 * position as u32
    }

    /// Where a unit's one slot begins, behind its length, so many parameters of two words each, and the number of both.
    pub(crate) const fn slot(parameters: usize) -> u32 {
        WORD_BYTES * (3 + 2 * parameters as u32)
    }

    /// The pages that hold a batch of so many bytes.
    pub(crate) fn pages(self, batch_bytes: u64) -> u64 {
        (u64::from(self.batch) + batch_bytes).div_ceil(PAGE)
    }

    /// Every load and store in the order in which the loop has them.
    pub(crate) fn accesses(signature: &Signature) -> Vec<Access> {
        let parameters = signature.parameters.iter().enumerate().map(|(position, scalar)| match scalar {
            Scalar::I32 => Access::LoadI32(Self::parameter(position)),
            Scalar::I64 => Access::LoadI64(Self::parameter(position)),
            Scalar::F64 => Access::LoadF64(Self::parameter(position)),
        });
        // The rows' number, and of each column the lengths of its validity and of its values.
        let rows = Access::LoadI32(Self::slot(signature.parameters.len()));
        let lengths = std::iter::repeat_n(Access::LoadI32(0), 2 * signature.columns.len());
        let begin = [Access::StoreI32(NEXT), Access::StoreI32(OUT), Access::StoreI32(ROWS_AT)];
        let row = signature.columns.iter().flat_map(|column| {
            let value = match Width::of(column.kind) {
                Width::Bit => Access::LoadByte(0),
                Width::I32 => Access::LoadI32(0),
                Width::I64 => Access::LoadI64(0),
                Width::F64 => Access::LoadF64(0),
            };
            [Some(value), column.is_nullable.then_some(Access::LoadByte(0))].into_iter().flatten()
        });
        let values = (0..signature.values).rev().map(|value| Access::StoreF64(Self::value(value)));
        parameters
            .chain([rows])
            .chain(lengths)
            .chain(begin)
            .chain([Access::StoreI32(ANSWERED_AT)])
            .chain(row)
            .chain(values)
            .chain([Access::StoreI32(GROUP_AT), Access::StoreI32(ANSWERED_AT)])
            .collect()
    }

    pub(crate) const fn value(position: usize) -> u32 {
        VALUES_AT + 8 * position as u32
    }
}
