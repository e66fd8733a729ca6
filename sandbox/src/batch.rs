//! Units as they lie in the memory that host and worker share: the contract's lists, one after the other.
//!
//! A unit is the number of its words, eight bytes each, and the words: `sdk/wit/question.wit` says what they are. The host
//! writes each column once, straight from where it was read; the worker lends a unit's words to the engine, which copies
//! them into the guest in one piece, and never looks at them. Words are little-endian, as guests see them; so are the
//! machines that this program is for.

use bytemuck::Pod;

use crate::denial::{Denial, Result};
use crate::terms::{ColumnType, Value};

const WORD: usize = size_of::<u64>();

/// The batch has no room for what was to be written; what was written before it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Writes units into memory, the first at its beginning.
#[derive(Debug)]
pub struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// An empty batch.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes are written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.at
    }

    /// Whether nothing is written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.at == 0
    }

    /// A whole unit, or nothing of it: the parameters, of which `seed` is the value that no one has agreed, the number of
    /// slots, and what `slots` writes of them.
    pub fn unit(
        &mut self,
        parameters: &[Value],
        seed: i64,
        slots: usize,
        write: impl FnOnce(&mut Self) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let start = self.at;
        let written = self.whole_unit(parameters, seed, slots, write);
        written.inspect_err(|Full| self.at = start)
    }

    fn whole_unit(
        &mut self,
        parameters: &[Value],
        seed: i64,
        slots: usize,
        write: impl FnOnce(&mut Self) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let start = self.at;
        self.word(0)?;
        self.number(parameters.len())?;
        parameters.iter().try_for_each(|value| self.parameter(value, seed))?;
        self.number(slots)?;
        write(self)?;
        let words = (self.at - start) / WORD - 1;
        self.bytes[start..start + WORD].copy_from_slice(&(words as u64).to_le_bytes());
        Ok(())
    }

    fn parameter(&mut self, value: &Value, seed: i64) -> Result<(), Full> {
        let (kind, word) = match value {
            Value::Boolean(value) => (ColumnType::Boolean, u64::from(*value)),
            Value::Int64(value) => (ColumnType::Int64, value.cast_unsigned()),
            Value::Seed => (ColumnType::Int64, seed.cast_unsigned()),
            Value::Float64(value) => (ColumnType::Float64, value.to_bits()),
            Value::Utf8(text) => {
                self.word(tag(ColumnType::Utf8))?;
                return self.list(text.as_bytes());
            }
        };
        self.word(tag(kind))?;
        self.word(word)
    }

    /// A slot begins.
    pub fn slot(&mut self, rows: usize, columns: usize) -> Result<(), Full> {
        self.number(rows)?;
        self.number(columns)
    }

    /// A column begins: its type, and the validity of its rows, without bytes where none is null.
    pub fn column(&mut self, kind: ColumnType) -> Result<(), Full> {
        self.word(tag(kind))
    }

    /// A list, as it lies.
    pub fn list<T: Pod>(&mut self, items: &[T]) -> Result<(), Full> {
        self.number(items.len())?;
        self.put(bytemuck::cast_slice(items))
    }

    /// A list of so many zeros, to be filled by the caller.
    pub fn zeros<T: Pod>(&mut self, count: usize) -> Result<&mut [T], Full> {
        self.number(count)?;
        let bytes = count.checked_mul(size_of::<T>()).ok_or(Full)?;
        let place = self.take(bytes)?;
        place.fill(0);
        // Places begin at multiples of eight in memory that begins at one; were it not so, nothing would be written.
        bytemuck::try_cast_slice_mut(&mut place[..bytes]).map_err(|_| Full)
    }

    fn number(&mut self, number: usize) -> Result<(), Full> {
        self.word(number as u64)
    }

    fn word(&mut self, word: u64) -> Result<(), Full> {
        self.put(&word.to_le_bytes())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let place = self.take(bytes.len())?;
        let (own, padding) = place.split_at_mut(bytes.len());
        own.copy_from_slice(bytes);
        padding.fill(0);
        Ok(())
    }

    /// The next bytes, and those that fill them up to the alignment.
    fn take(&mut self, bytes: usize) -> Result<&mut [u8], Full> {
        let end = bytes.checked_next_multiple_of(WORD).and_then(|padded| self.at.checked_add(padded));
        let end = end.filter(|end| *end <= self.bytes.len()).ok_or(Full)?;
        let place = &mut self.bytes[self.at..end];
        self.at = end;
        Ok(place)
    }
}

/// How the type of a column or a parameter is told in a unit.
const fn tag(kind: ColumnType) -> u64 {
    match kind {
        ColumnType::Boolean => 1,
        ColumnType::Int64 => 2,
        ColumnType::Float64 => 3,
        ColumnType::Date => 4,
        ColumnType::Timestamp => 5,
        ColumnType::Utf8 => 6,
        ColumnType::Dictionary => 7,
    }
}

/// The words of each unit of a batch, lent from where they lie: so many units, of which nothing may be left.
pub(crate) fn units(bytes: &[u8], units: usize) -> Result<impl Iterator<Item = &[u64]>> {
    let batch: &[u64] = bytemuck::try_cast_slice(bytes).map_err(|_| malformed())?;
    let mut rest = batch;
    for _ in 0..units {
        rest = split(rest).ok_or_else(malformed)?.1;
    }
    let mut left = batch;
    let next = move || {
        let (unit, rest) = split(left)?;
        left = rest;
        Some(unit)
    };
    if rest.is_empty() { Ok(std::iter::from_fn(next)) } else { Err(malformed()) }
}

/// A unit's words, and those behind them.
fn split(words: &[u64]) -> Option<(&[u64], &[u64])> {
    let (count, rest) = words.split_first()?;
    rest.split_at_checked(usize::try_from(*count).ok()?)
}

fn malformed() -> Denial {
    Denial::failed("a batch of units is not of the agreed form")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory that begins where a mapping does: at a multiple of eight.
    fn memory(bytes: usize) -> Vec<u64> {
        vec![u64::MAX; bytes / 8]
    }

    fn write(writer: &mut Writer<'_>, parameters: &[Value], first: i64) -> Result<(), Full> {
        writer.unit(parameters, first, 2, |writer| {
            writer.slot(3, 2)?;
            writer.column(ColumnType::Int64)?;
            writer.list::<u8>(&[])?;
            writer.list(&[first, first + 1, first + 2])?;
            writer.column(ColumnType::Boolean)?;
            writer.list::<u8>(&[0b101])?;
            writer.zeros::<u8>(1)?.copy_from_slice(&[0b100]);
            writer.slot(1, 1)?;
            writer.column(ColumnType::Dictionary)?;
            writer.list::<u8>(&[])?;
            writer.list(&[0_u32])?;
            writer.list(&[0_u32, 3])?;
            writer.list(b"red")
        })
    }

    /// The words of two units as `question.wit` has them, each parameter's value and every column's in its place.
    #[test]
    fn units_are_lent_as_the_contract_has_them() {
        let parameters = [Value::Boolean(true), Value::Seed, Value::Float64(0.5), Value::Utf8("ninebytes".into())];
        let mut memory = memory(4096);
        let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut memory));
        [-1, 20].into_iter().for_each(|first| write(&mut writer, &parameters, first).unwrap());
        let len = writer.len();
        let seen: Vec<&[u64]> = units(&bytemuck::cast_slice(&memory)[..len], 2).unwrap().collect();
        let text = [u64::from_le_bytes(*b"ninebyte"), u64::from(b's')];
        for (unit, first) in seen.into_iter().zip([-1_i64, 20]) {
            let [first, second, third] = [0, 1, 2].map(|more| (first + more).cast_unsigned());
            let parameters = [4, 1, 1, 2, first, 3, 0.5_f64.to_bits(), 6, 9, text[0], text[1]];
            let numbers = [2, 3, 2, 2, 0, 3, first, second, third];
            let others = [1, 1, 0b101, 1, 0b100, 1, 1, 7, 0, 1, 0, 2, 3 << 32, 3, 0x64_65_72];
            assert_eq!(unit, [&parameters[..], &numbers, &others].concat());
        }
    }

    #[test]
    fn no_other_length_and_no_other_number_of_units_is_read() {
        let mut memory = memory(4096);
        let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut memory));
        write(&mut writer, &[], 1).unwrap();
        let len = writer.len();
        let is_read = |count, bytes: std::ops::Range<usize>| {
            units(&bytemuck::cast_slice::<u64, u8>(&memory)[bytes], count).is_ok()
        };
        assert!(is_read(1, 0..len));
        for (count, bytes) in [(1, 0..len - 8), (1, 0..len - 1), (1, 0..len + 8), (2, 0..len), (0, 0..len), (1, 4..len)]
        {
            assert!(!is_read(count, bytes.clone()), "{count} units in {bytes:?}");
        }
        assert!(is_read(0, 0..0) && !is_read(usize::MAX, 0..len));
        assert!(units(bytemuck::cast_slice(&[u64::MAX, 0]), 1).is_err());
    }

    /// What lay in the memory before is no part of a batch, not even between its items.
    #[test]
    fn nothing_of_an_earlier_batch_is_left_between_items() {
        let written = |before: u64| {
            let mut memory = vec![before; 64];
            let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut memory));
            write(&mut writer, &[Value::Utf8("x".into())], 7).unwrap();
            let len = writer.len();
            bytemuck::cast_slice::<u64, u8>(&memory)[..len].to_vec()
        };
        assert_eq!(written(0), written(u64::MAX));
    }

    #[test]
    fn a_unit_without_room_is_taken_back() {
        let mut memory = memory(300);
        let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut memory));
        write(&mut writer, &[], 1).unwrap();
        let len = writer.len();
        assert_eq!(write(&mut writer, &[], 2), Err(Full));
        assert_eq!(writer.len(), len);
        assert!(units(&bytemuck::cast_slice(&memory)[..len], 1).is_ok());
    }
}
