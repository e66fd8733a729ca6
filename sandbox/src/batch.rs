//! Units as they lie in the memory that host and worker share: the contract's columns, one after the other.
//!
//! The host writes each column once, straight from where it was read; the worker lends it to the engine, which copies it
//! into the guest. Everything is a sequence of lists: the number of its items as a `u64`, then the items, filled up with
//! zeros to eight bytes, in the byte order of the machine. A slot is its number of rows and its columns; a column is its
//! validity (a list of no bytes where no row is null) and its values: bytes for booleans, numbers, offsets and bytes for
//! texts, codes and then texts for dictionaries. Before its slots a unit has its seed, eight bytes, if the question has a
//! place for one. All of that is in the [`Spec`], which both sides have.

use bytemuck::Pod;

use crate::contract::{Arguments, Column, Dictionary, Parameter, Rows, Strings, Values};
use crate::denial::{Denial, Result};
use crate::terms::{ColumnType, Spec};

const ALIGNMENT: usize = 8;

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

    /// Takes back everything from `len` on: a unit of which only a part had room.
    pub fn truncate(&mut self, len: usize) {
        self.at = self.at.min(len);
    }

    /// A unit begins that has a seed.
    pub fn seed(&mut self, seed: i64) -> Result<(), Full> {
        self.put(bytemuck::bytes_of(&seed))
    }

    /// A slot begins.
    pub fn rows(&mut self, count: usize) -> Result<(), Full> {
        self.put(bytemuck::bytes_of(&(count as u64)))
    }

    /// A list, as it lies.
    pub fn list<T: Pod>(&mut self, items: &[T]) -> Result<(), Full> {
        self.rows(items.len())?;
        self.put(bytemuck::cast_slice(items))
    }

    /// A list of so many zeros, to be filled by the caller.
    pub fn zeros<T: Pod>(&mut self, count: usize) -> Result<&mut [T], Full> {
        self.rows(count)?;
        let bytes = count.checked_mul(size_of::<T>()).ok_or(Full)?;
        let place = self.take(bytes)?;
        place.fill(0);
        // Places begin at multiples of eight in memory that begins at one; were it not so, nothing would be written.
        bytemuck::try_cast_slice_mut(&mut place[..bytes]).map_err(|_| Full)
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
        let end = bytes.checked_next_multiple_of(ALIGNMENT).and_then(|padded| self.at.checked_add(padded));
        let end = end.filter(|end| *end <= self.bytes.len()).ok_or(Full)?;
        let place = &mut self.bytes[self.at..end];
        self.at = end;
        Ok(place)
    }
}

/// The units of a batch, lent from where they lie.
pub(crate) struct Units<'a> {
    seeds: Vec<i64>,
    columns: Vec<Column<'a>>,
    counts: Vec<u32>,
    spec: &'a Spec,
}

impl<'a> Units<'a> {
    /// Reads a whole batch: nothing may be left of it.
    pub(crate) fn read(bytes: &'a [u8], units: usize, spec: &'a Spec) -> Result<Self> {
        let (has_seed, slots) = (spec.seed().is_some(), &spec.slots);
        let columns_of_unit: usize = slots.iter().map(Vec::len).sum();
        let capacity = |per_unit: usize| per_unit.saturating_mul(units).min(bytes.len());
        let mut reader = Reader { bytes };
        let mut seeds = Vec::with_capacity(capacity(has_seed.into()));
        let mut columns = Vec::with_capacity(capacity(columns_of_unit));
        let mut counts = Vec::with_capacity(capacity(slots.len()));
        for _ in 0..units {
            if has_seed {
                seeds.push(reader.word()?);
            }
            for kinds in slots {
                counts.push(reader.number()?);
                for kind in kinds {
                    columns.push(reader.column(*kind)?);
                }
            }
        }
        if reader.bytes.is_empty() { Ok(Self { seeds, columns, counts, spec }) } else { Err(malformed()) }
    }

    /// Gives `ask` the parameters and each unit's rows in turn.
    pub(crate) fn each(&self, mut ask: impl FnMut(Arguments<'_>) -> Result<()>) -> Result<()> {
        let Spec { parameters, slots, .. } = self.spec;
        let mut parameters: Vec<Parameter<'_>> = parameters.iter().map(Parameter::from).collect();
        let (place, mut seeds) = (self.spec.seed(), self.seeds.iter());
        let (mut columns, mut views) = (self.columns.as_slice(), Vec::with_capacity(slots.len()));
        for counts in self.counts.chunks_exact(slots.len().max(1)) {
            if let Some((place, seed)) = place.zip(seeds.next()) {
                parameters[place] = Parameter::Int64(*seed);
            }
            views.clear();
            for (count, kinds) in counts.iter().zip(slots) {
                let (own, rest) = columns.split_at(kinds.len());
                columns = rest;
                views.push(Rows { count: *count, columns: own });
            }
            ask((&parameters, &views))?;
        }
        Ok(())
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn word<T: Pod>(&mut self) -> Result<T> {
        bytemuck::try_pod_read_unaligned(self.take(size_of::<T>())?).map_err(|_| malformed())
    }

    fn number(&mut self) -> Result<u32> {
        let count: u64 = self.word()?;
        u32::try_from(count).map_err(|_| malformed())
    }

    fn list<T: Pod>(&mut self) -> Result<&'a [T]> {
        let count = self.number()? as usize;
        let bytes = count.checked_mul(size_of::<T>()).ok_or_else(malformed)?;
        bytemuck::try_cast_slice(self.take(bytes)?).map_err(|_| malformed())
    }

    fn strings(&mut self) -> Result<Strings<'a>> {
        Ok(Strings { offsets: self.list()?, bytes: self.list()? })
    }

    fn column(&mut self, kind: ColumnType) -> Result<Column<'a>> {
        let validity: &[u8] = self.list()?;
        let values = match kind {
            ColumnType::Boolean => Values::Boolean(self.list()?),
            ColumnType::Int64 => Values::Int64(self.list()?),
            ColumnType::Float64 => Values::Float64(self.list()?),
            ColumnType::Date => Values::Date(self.list()?),
            ColumnType::Timestamp => Values::Timestamp(self.list()?),
            ColumnType::Utf8 => Values::Utf8(self.strings()?),
            ColumnType::Dictionary => Values::Dictionary(Dictionary { codes: self.list()?, words: self.strings()? }),
        };
        Ok(Column { validity: (!validity.is_empty()).then_some(validity), values })
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let padded = bytes.checked_next_multiple_of(ALIGNMENT).filter(|padded| *padded <= self.bytes.len());
        let (place, rest) = self.bytes.split_at(padded.ok_or_else(malformed)?);
        self.bytes = rest;
        Ok(&place[..bytes])
    }
}

fn malformed() -> Denial {
    Denial::failed("a batch of units is not of the agreed form")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::{Kind, Limits, Value};

    /// Memory that begins where a mapping does: at a multiple of eight.
    fn memory(bytes: usize) -> Vec<u64> {
        vec![u64::MAX; bytes / 8]
    }

    fn spec(parameters: &[Value]) -> Spec {
        let slots = vec![vec![ColumnType::Int64, ColumnType::Boolean], vec![ColumnType::Dictionary]];
        Spec { kind: Kind::Analytical, limits: Limits::default(), parameters: parameters.to_vec(), slots }
    }

    fn write(writer: &mut Writer<'_>, first: i64) -> Result<(), Full> {
        writer.rows(3)?;
        writer.list::<u8>(&[])?;
        writer.list(&[first, first + 1, first + 2])?;
        writer.list::<u8>(&[0b101])?;
        writer.zeros::<u8>(1)?.copy_from_slice(&[0b100]);
        writer.rows(1)?;
        writer.list::<u8>(&[])?;
        writer.list(&[0_u32])?;
        writer.list(&[0_u32, 3])?;
        writer.list(b"red")
    }

    /// The arguments of each unit's call.
    fn seen(bytes: &[u8], units: usize, spec: &Spec) -> Vec<String> {
        let mut seen = Vec::new();
        let see = |arguments: Arguments<'_>| {
            seen.push(format!("{arguments:?}"));
            Ok(())
        };
        Units::read(bytes, units, spec).unwrap().each(see).unwrap();
        seen
    }

    #[test]
    fn units_are_read_as_they_were_written() {
        let mut memory = memory(4096);
        let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut memory));
        [10, 20].into_iter().for_each(|first| write(&mut writer, first).unwrap());
        let len = writer.len();
        let spec = spec(&[]);
        let seen = seen(&bytemuck::cast_slice(&memory)[..len], 2, &spec);
        assert_eq!(seen.len(), 2);
        assert!(seen[1].contains("Int64([20, 21, 22])") && seen[1].contains("Some([5])"), "{}", seen[1]);
        assert!(seen[1].contains("validity: None") && seen[1].contains("bytes: [114, 101, 100]"), "{}", seen[1]);
    }

    /// Every unit has its own at the parameter's place, and the others' values around it.
    #[test]
    fn seeds_stand_among_the_parameters() {
        let (plain, seeded) = (spec(&[]), spec(&[Value::Boolean(true), Value::Seed, Value::Int64(7)]));
        let mut memory = memory(4096);
        let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut memory));
        for seed in [i64::MIN, -1] {
            writer.seed(seed).and_then(|()| write(&mut writer, 1)).unwrap();
        }
        let len = writer.len();
        let bytes = &bytemuck::cast_slice(&memory)[..len];
        for (seen, seed) in seen(bytes, 2, &seeded).iter().zip([i64::MIN, -1]) {
            assert!(seen.starts_with(&format!("([Boolean(true), Int64({seed}), Int64(7)], ")), "{seen}");
            assert!(seen.contains("Int64([1, 2, 3])"), "{seen}");
        }
        // What has no seeds is no batch of this question, and the other way round.
        assert!(Units::read(bytes, 2, &plain).is_err());
        assert!(Units::read(&bytes[8..len / 2], 1, &seeded).is_err());
    }

    #[test]
    fn no_other_length_and_no_other_number_of_units_is_read() {
        let mut memory = memory(4096);
        let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut memory));
        write(&mut writer, 1).unwrap();
        let len = writer.len();
        let spec = spec(&[]);
        for (units, bytes) in [(1, 0..len - 8), (1, 0..len + 8), (2, 0..len), (0, 0..len), (1, 8..len)] {
            let bytes = &bytemuck::cast_slice::<u64, u8>(&memory)[bytes];
            assert!(Units::read(bytes, units, &spec).is_err(), "{units} units of {} bytes", bytes.len());
        }
    }

    /// What lay in the memory before is no part of a batch, not even between its items.
    #[test]
    fn nothing_of_an_earlier_batch_is_left_between_items() {
        let written = |before: u64| {
            let mut memory = vec![before; 64];
            let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut memory));
            write(&mut writer, 7).unwrap();
            let len = writer.len();
            bytemuck::cast_slice::<u64, u8>(&memory)[..len].to_vec()
        };
        assert_eq!(written(0), written(u64::MAX));
    }

    #[test]
    fn a_unit_without_room_is_taken_back() {
        let mut memory = memory(200);
        let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut memory));
        write(&mut writer, 1).unwrap();
        let len = writer.len();
        assert_eq!(write(&mut writer, 2), Err(Full));
        writer.truncate(len);
        assert!(Units::read(&bytemuck::cast_slice(&memory)[..len], 1, &spec(&[])).is_ok());
    }
}
