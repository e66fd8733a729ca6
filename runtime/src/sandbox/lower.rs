//! One unit's rows as the contract's columns, borrowed from Arrow buffers wherever the buffer holds nothing else.
//!
//! Whatever a buffer holds beyond this unit must not cross: offsets are rebased to 0, bitmaps are cut to the rows,
//! values under a null are zeroed, and a dictionary has this unit's words only.

use std::borrow::Cow;
use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};

use super::contract::{Column, Dictionary, Rows, Strings, Values};
use crate::provision::{self, Unit};
use crate::room::{ColumnType, Slot};

/// A unit's rows, ready to be lent to the engine.
pub(super) struct LoweredUnit<'a> {
    views: Vec<LoweredRows<'a>>,
}

struct LoweredRows<'a> {
    count: u32,
    columns: Vec<LoweredColumn<'a>>,
}

struct LoweredColumn<'a> {
    validity: Option<Vec<u8>>,
    values: LoweredValues<'a>,
}

enum LoweredValues<'a> {
    Boolean(Vec<u8>),
    Int64(Cow<'a, [i64]>),
    Float64(Cow<'a, [f64]>),
    Date(Cow<'a, [i32]>),
    Timestamp(Cow<'a, [i64]>),
    Utf8(LoweredText<'a>),
    Dictionary(Vec<u32>, LoweredText<'a>),
}

struct LoweredText<'a> {
    offsets: Vec<u32>,
    bytes: Cow<'a, [u8]>,
}

impl<'a> LoweredUnit<'a> {
    pub(super) fn new(unit: &'a Unit, slots: &[Slot]) -> Self {
        Self { views: unit.views.iter().zip(slots).map(|(rows, slot)| LoweredRows::new(rows, slot)).collect() }
    }

    /// The columns of all views, one after the other.
    pub(super) fn columns(&self) -> Vec<Column<'_>> {
        self.views.iter().flat_map(|rows| rows.columns.iter().map(LoweredColumn::lend)).collect()
    }

    /// The views, with their columns taken from [`columns`](Self::columns).
    pub(super) fn rows<'b>(&self, columns: &'b [Column<'b>]) -> Vec<Rows<'b>> {
        let mut rest = columns;
        let lend = |rows: &LoweredRows<'_>| {
            let (columns, others) = rest.split_at(rows.columns.len());
            rest = others;
            Rows { count: rows.count, columns }
        };
        self.views.iter().map(lend).collect()
    }
}

impl<'a> LoweredRows<'a> {
    fn new(rows: &'a provision::Rows, slot: &Slot) -> Self {
        let lower = |(index, column): (usize, &crate::room::Column)| {
            LoweredColumn::new(rows.batch.column(index), column.kind, rows.start, rows.count)
        };
        let count = u32::try_from(rows.count).unwrap_or(u32::MAX);
        Self { count, columns: slot.columns.iter().enumerate().map(lower).collect() }
    }
}

impl<'a> LoweredColumn<'a> {
    fn new(array: &'a ArrayRef, kind: ColumnType, start: usize, count: usize) -> Self {
        let nulls = array.nulls().map(|nulls| nulls.slice(start, count)).filter(|nulls| nulls.null_count() > 0);
        let validity = nulls.as_ref().map(|nulls| bits(nulls.inner()));
        let nulls = nulls.as_ref();
        let values = match kind {
            ColumnType::Boolean => LoweredValues::Boolean(booleans(array, start, count, nulls)),
            ColumnType::Int64 => {
                LoweredValues::Int64(present(&array.as_primitive::<Int64Type>().values()[start..start + count], nulls))
            }
            ColumnType::Float64 => LoweredValues::Float64(present(
                &array.as_primitive::<Float64Type>().values()[start..start + count],
                nulls,
            )),
            ColumnType::Date => {
                LoweredValues::Date(present(&array.as_primitive::<Date32Type>().values()[start..start + count], nulls))
            }
            ColumnType::Timestamp => LoweredValues::Timestamp(present(
                &array.as_primitive::<TimestampMicrosecondType>().values()[start..start + count],
                nulls,
            )),
            ColumnType::Utf8 => LoweredValues::Utf8(text(array.as_string(), start, count, nulls)),
            ColumnType::Dictionary => dictionary(array.as_string(), start, count),
        };
        Self { validity, values }
    }

    fn lend(&self) -> Column<'_> {
        let values = match &self.values {
            LoweredValues::Boolean(bits) => Values::Boolean(bits),
            LoweredValues::Int64(values) => Values::Int64(values),
            LoweredValues::Float64(values) => Values::Float64(values),
            LoweredValues::Date(values) => Values::Date(values),
            LoweredValues::Timestamp(values) => Values::Timestamp(values),
            LoweredValues::Utf8(text) => Values::Utf8(text.lend()),
            LoweredValues::Dictionary(codes, words) => Values::Dictionary(Dictionary { codes, words: words.lend() }),
        };
        Column { validity: self.validity.as_deref(), values }
    }
}

impl LoweredText<'_> {
    fn lend(&self) -> Strings<'_> {
        Strings { offsets: &self.offsets, bytes: &self.bytes }
    }
}

/// The bits of these rows alone, from bit 0 on, with nothing behind the last row.
fn bits(buffer: &BooleanBuffer) -> Vec<u8> {
    let mut bytes = vec![0; buffer.len().div_ceil(8)];
    for index in buffer.set_indices() {
        bytes[index / 8] |= 1 << (index % 8);
    }
    bytes
}

fn booleans(array: &ArrayRef, start: usize, count: usize, nulls: Option<&NullBuffer>) -> Vec<u8> {
    let values = array.as_boolean().values().slice(start, count);
    match nulls {
        None => bits(&values),
        Some(nulls) => bits(&(&values & nulls.inner())),
    }
}

/// Lends the values as they lie, or a copy with 0 wherever a row is null.
fn present<'a, T: Copy + Default>(values: &'a [T], nulls: Option<&NullBuffer>) -> Cow<'a, [T]> {
    let Some(nulls) = nulls else { return Cow::Borrowed(values) };
    let value_or_zero = |(index, value): (usize, &T)| if nulls.is_valid(index) { *value } else { T::default() };
    Cow::Owned(values.iter().enumerate().map(value_or_zero).collect())
}

fn text<'a>(array: &'a StringArray, start: usize, count: usize, nulls: Option<&NullBuffer>) -> LoweredText<'a> {
    if nulls.is_some() {
        return gather((start..start + count).map(|row| if array.is_valid(row) { array.value(row) } else { "" }));
    }
    let offsets = &array.value_offsets()[start..=start + count];
    let first = offsets[0];
    let (from, to) = (as_index(first), as_index(offsets[count]));
    LoweredText {
        offsets: offsets.iter().map(|offset| (offset - first).unsigned_abs()).collect(),
        bytes: Cow::Borrowed(&array.value_data()[from..to]),
    }
}

fn as_index(offset: i32) -> usize {
    usize::try_from(offset).unwrap_or(0)
}

fn gather<'a>(values: impl Iterator<Item = &'a str>) -> LoweredText<'static> {
    let mut offsets = vec![0];
    let mut bytes = Vec::new();
    for value in values {
        bytes.extend_from_slice(value.as_bytes());
        offsets.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    }
    LoweredText { offsets, bytes: Cow::Owned(bytes) }
}

/// Codes by the sorted order of this unit's words; a null row has code 0 and its validity bit clear.
fn dictionary(array: &StringArray, start: usize, count: usize) -> LoweredValues<'static> {
    let mut words: BTreeMap<&str, u32> = BTreeMap::new();
    let rows = || (start..start + count).map(|row| array.is_valid(row).then(|| array.value(row)));
    for word in rows().flatten() {
        words.entry(word).or_default();
    }
    for (code, (_, slot)) in (0..).zip(words.iter_mut()) {
        *slot = code;
    }
    let codes = rows().map(|word| word.and_then(|word| words.get(word)).copied().unwrap_or(0)).collect();
    LoweredValues::Dictionary(codes, gather(words.keys().copied()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Float64Array, Int64Array};
    use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
    use proptest::prelude::*;

    use super::*;

    fn lower(array: &ArrayRef, kind: ColumnType, start: usize, count: usize) -> String {
        let column = LoweredColumn::new(array, kind, start, count);
        format!("{:?}", column.lend())
    }

    /// What a unit is shown must be the same whether its rows stand alone or between those of others.
    fn assert_alone(between: &ArrayRef, alone: &ArrayRef, kind: ColumnType, start: usize) {
        assert_eq!(lower(between, kind, start, alone.len()), lower(alone, kind, 0, alone.len()));
    }

    #[test]
    fn values_under_a_null_do_not_cross() {
        let nulls = Some(NullBuffer::from(vec![true, false, true]));
        let masked: ArrayRef = Arc::new(Int64Array::new(ScalarBuffer::from(vec![1, 777, 3]), nulls.clone()));
        assert!(!lower(&masked, ColumnType::Int64, 0, 3).contains("777"));
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
