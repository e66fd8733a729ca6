//! Writes one unit's rows into the memory of a worker, as the contract's columns, straight from Arrow's buffers.
//!
//! Whatever a buffer holds beyond this unit must not cross: offsets are rebased to 0, bitmaps are cut to the rows,
//! values under a null are zeroed, and a dictionary has this unit's words only.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use bytemuck::Pod;
use glovebox_sandbox::{Full, Writer};

use crate::privacy::UnitSeeds;
use crate::provision::{Rows, Unit};
use crate::room::{ColumnType, Slot, Value};

/// Writes units. What it keeps between them is room, so that no unit costs an allocation.
pub(crate) struct Lowering {
    parameters: Vec<Value>,
    /// None where the question has no place for a seed.
    seeds: Option<UnitSeeds>,
    /// Rows of a dictionary column, in the order of their words.
    sorted: Vec<usize>,
}

/// The rows of one column that belong to the unit.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    count: usize,
}

impl Lowering {
    pub(crate) fn new(parameters: &[Value], seeds: Option<UnitSeeds>) -> Self {
        Self { parameters: parameters.to_vec(), seeds, sorted: Vec::new() }
    }

    /// Writes a whole unit, or nothing of it.
    pub(crate) fn write(&mut self, writer: &mut Writer<'_>, unit: &Unit, slots: &[Slot]) -> Result<(), Full> {
        let Self { parameters, seeds, sorted } = self;
        let seed = seeds.as_ref().map_or(0, |seeds| seeds.of(&unit.key));
        writer.unit(parameters, seed, slots.len(), |writer| {
            unit.views.iter().zip(slots).try_for_each(|(rows, slot)| slot_rows(writer, rows, slot, sorted))
        })
    }
}

fn slot_rows(writer: &mut Writer<'_>, rows: &Rows, slot: &Slot, sorted: &mut Vec<usize>) -> Result<(), Full> {
    writer.slot(rows.count, slot.columns.len())?;
    let span = Span { start: rows.start, count: rows.count };
    let mut columns = slot.columns.iter().zip(rows.batch.columns());
    columns.try_for_each(|(column, array)| column_rows(writer, array, column.kind, span, sorted))
}

fn column_rows(
    writer: &mut Writer<'_>,
    array: &ArrayRef,
    kind: ColumnType,
    span: Span,
    sorted: &mut Vec<usize>,
) -> Result<(), Full> {
    let nulls = array.nulls().map(|nulls| nulls.slice(span.start, span.count)).filter(|n| n.null_count() > 0);
    let nulls = nulls.as_ref();
    writer.column(kind)?;
    validity(writer, nulls)?;
    match kind {
        ColumnType::Boolean => booleans(writer, array.as_boolean(), span, nulls),
        ColumnType::Int64 => numbers::<Int64Type>(writer, array, span, nulls),
        ColumnType::Float64 => numbers::<Float64Type>(writer, array, span, nulls),
        ColumnType::Date => numbers::<Date32Type>(writer, array, span, nulls),
        ColumnType::Timestamp => numbers::<TimestampMicrosecondType>(writer, array, span, nulls),
        ColumnType::Utf8 => texts(writer, span.count, |row| present(array.as_string(), span.start + row)),
        ColumnType::Dictionary => dictionary(writer, array.as_string(), span, sorted),
    }
}

/// Codes by the sorted order of this unit's words; a null row has code 0 and its validity bit clear.
fn dictionary(writer: &mut Writer<'_>, array: &StringArray, span: Span, sorted: &mut Vec<usize>) -> Result<(), Full> {
    sorted.clear();
    let present = || (span.start..span.start + span.count).filter(|row| array.is_valid(*row));
    // Rows are sorted, so that words mostly stand in runs.
    for row in present() {
        if sorted.last().is_none_or(|last| array.value(*last) != array.value(row)) {
            sorted.push(row);
        }
    }
    sorted.sort_unstable_by_key(|row| array.value(*row));
    sorted.dedup_by_key(|row| array.value(*row));
    let codes = writer.zeros::<u32>(span.count)?;
    // Where there is an empty text, it is the first of all words.
    let mut last = ("", 0);
    for row in present() {
        let word = array.value(row);
        if word != last.0 {
            let found = sorted.binary_search_by_key(&word, |row| array.value(*row));
            last = (word, u32::try_from(found.unwrap_or(0)).unwrap_or(u32::MAX));
        }
        codes[row - span.start] = last.1;
    }
    texts(writer, sorted.len(), |word| array.value(sorted[word]))
}

/// The bits of these rows alone, from bit 0 on, with nothing behind the last row; no bytes where no row is null.
fn validity(writer: &mut Writer<'_>, nulls: Option<&NullBuffer>) -> Result<(), Full> {
    let Some(nulls) = nulls else { return writer.list::<u8>(&[]) };
    bits(writer, nulls.len(), |row| nulls.is_valid(row))
}

fn booleans(writer: &mut Writer<'_>, array: &BooleanArray, span: Span, nulls: Option<&NullBuffer>) -> Result<(), Full> {
    let values = array.values();
    bits(writer, span.count, |row| nulls.is_none_or(|nulls| nulls.is_valid(row)) && values.value(span.start + row))
}

fn bits(writer: &mut Writer<'_>, count: usize, is_set: impl Fn(usize) -> bool) -> Result<(), Full> {
    let bytes = writer.zeros::<u8>(count.div_ceil(8))?;
    for row in (0..count).filter(|row| is_set(*row)) {
        bytes[row / 8] |= 1 << (row % 8);
    }
    Ok(())
}

/// The values as they lie, with 0 wherever a row is null.
fn numbers<T: ArrowPrimitiveType>(
    writer: &mut Writer<'_>,
    array: &ArrayRef,
    span: Span,
    nulls: Option<&NullBuffer>,
) -> Result<(), Full>
where
    T::Native: Pod,
{
    let values = &array.as_primitive::<T>().values()[span.start..span.start + span.count];
    let Some(nulls) = nulls else { return writer.list(values) };
    let places = writer.zeros(span.count)?;
    for row in nulls.valid_indices() {
        places[row] = values[row];
    }
    Ok(())
}

fn present(array: &StringArray, row: usize) -> &str {
    if array.is_valid(row) { array.value(row) } else { "" }
}

/// Offsets from 0 on, and the texts behind one another.
fn texts<'a>(writer: &mut Writer<'_>, count: usize, text: impl Fn(usize) -> &'a str) -> Result<(), Full> {
    let offsets = writer.zeros::<u32>(count + 1)?;
    let mut end = 0_usize;
    for (row, offset) in offsets[1..].iter_mut().enumerate() {
        end += text(row).len();
        // What does not fit 32 bits does not fit the memory that it is written to either.
        *offset = u32::try_from(end).map_err(|_| Full)?;
    }
    let mut bytes = writer.zeros::<u8>(end)?;
    for row in 0..count {
        let (place, rest) = std::mem::take(&mut bytes).split_at_mut(text(row).len());
        place.copy_from_slice(text(row).as_bytes());
        bytes = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Float64Array, Int64Array};
    use arrow::buffer::{BooleanBuffer, Buffer, OffsetBuffer, ScalarBuffer};
    use proptest::prelude::*;

    use super::*;

    /// What is written of a column's rows, byte for byte.
    fn lower(array: &ArrayRef, kind: ColumnType, start: usize, count: usize) -> Vec<u8> {
        let mut memory = vec![u64::MAX; 4096];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut memory);
        let mut writer = Writer::new(bytes);
        column_rows(&mut writer, array, kind, Span { start, count }, &mut Vec::new()).unwrap();
        let len = writer.len();
        bytemuck::cast_slice(&memory)[..len].to_vec()
    }

    /// What a unit is shown must be the same whether its rows stand alone or between those of others.
    fn assert_alone(between: &ArrayRef, alone: &ArrayRef, kind: ColumnType, start: usize) {
        assert_eq!(lower(between, kind, start, alone.len()), lower(alone, kind, 0, alone.len()));
    }

    #[test]
    fn values_under_a_null_do_not_cross() {
        let nulls = Some(NullBuffer::from(vec![true, false, true]));
        let masked: ArrayRef = Arc::new(Int64Array::new(ScalarBuffer::from(vec![1, 777, 3]), nulls.clone()));
        let secret = 777_i64.to_ne_bytes();
        assert!(!lower(&masked, ColumnType::Int64, 0, 3).windows(8).any(|bytes| bytes == secret));
        let text = "yes_secret_no";
        let offsets = OffsetBuffer::new(ScalarBuffer::from(vec![0, 4, 11, 13]));
        let masked: ArrayRef = Arc::new(StringArray::new(offsets, Buffer::from(text.as_bytes()), nulls.clone()));
        let plain: ArrayRef = Arc::new(StringArray::from(vec![Some("yes_"), None, Some("no")]));
        assert_alone(&masked, &plain, ColumnType::Utf8, 0);
        assert_alone(&masked, &plain, ColumnType::Dictionary, 0);
        let masked: ArrayRef = Arc::new(BooleanArray::new(BooleanBuffer::from(vec![true, true, false]), nulls));
        let plain: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]));
        assert_alone(&masked, &plain, ColumnType::Boolean, 0);
    }

    #[test]
    fn a_unit_without_nulls_has_no_validity_even_if_its_neighbour_has() {
        let array: ArrayRef = Arc::new(Float64Array::from(vec![None, Some(1.0), Some(2.0), None]));
        let alone: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0]));
        assert_alone(&array, &alone, ColumnType::Float64, 1);
    }

    proptest! {
        /// The neighbours' bytes, offsets, bits and words never cross.
        #[test]
        fn neighbours_never_cross(
            before in proptest::collection::vec(proptest::option::of("[a-c]{0,3}"), 0..20),
            own in proptest::collection::vec(proptest::option::of("[a-c]{0,3}"), 1..20),
            after in proptest::collection::vec(proptest::option::of("[a-c]{0,3}"), 0..20),
        ) {
            let all: Vec<Option<String>> = [before.clone(), own.clone(), after].concat();
            let start = before.len();
            let texts = |rows: &[Option<String>]| Arc::new(StringArray::from(rows.to_vec())) as ArrayRef;
            for kind in [ColumnType::Utf8, ColumnType::Dictionary] {
                assert_alone(&texts(&all), &texts(&own), kind, start);
            }
            let bools = |rows: &[Option<String>]| {
                let bit = |row: &Option<String>| row.as_ref().map(|text| text.len() % 2 == 1);
                Arc::new(rows.iter().map(bit).collect::<BooleanArray>()) as ArrayRef
            };
            assert_alone(&bools(&all), &bools(&own), ColumnType::Boolean, start);
            let ints = |rows: &[Option<String>]| {
                let number = |row: &Option<String>| row.as_ref().map(|text| text.len() as i64 + 7);
                Arc::new(rows.iter().map(number).collect::<Int64Array>()) as ArrayRef
            };
            assert_alone(&ints(&all), &ints(&own), ColumnType::Int64, start);
        }
    }
}
