//! List answers: identifiers of the recipient's own view, each at most once, under pseudonyms and in their order.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use super::Setting;
use super::contributors::{Digests, ReleasedSet};
use super::noise::randomised_response;
use crate::error::{Code, Fault, Result};
use crate::provision::{Unit, UnitKey};
use crate::random::Random;
use crate::room::{Controls, Manifest};

/// Out; a segment is its number, from 1.
const OUT: u32 = 0;

/// What the question said of the recipient's units.
#[derive(Clone)]
pub(crate) struct ListTally {
    segments: Arc<[String]>,
    setting: Arc<Setting>,
    /// Of every unit that the recipient holds.
    answers: BTreeMap<UnitKey, Told>,
    /// Units that all parties hold.
    overlap: u64,
}

/// What the question said of a unit, as it is written.
type Row = (Key, u32, bool);

/// A unit's key, as it is written.
#[derive(Serialize, Deserialize)]
enum Key {
    Number(i64),
    Text(String),
}

impl From<UnitKey> for Key {
    fn from(key: UnitKey) -> Self {
        match key {
            UnitKey::Int64(number) => Self::Number(number),
            UnitKey::Utf8(text) => Self::Text((*text).to_owned()),
        }
    }
}

impl From<Key> for UnitKey {
    fn from(key: Key) -> Self {
        match key {
            Key::Number(number) => Self::Int64(number),
            Key::Text(text) => Self::Utf8(text.into()),
        }
    }
}

/// What the question said of a unit.
#[derive(Clone, Copy)]
struct Told {
    /// Out, or in which segment.
    answer: u32,
    /// Whether all parties hold the unit: what one party can make up counts for no size.
    is_everyones: bool,
}

impl ListTally {
    pub(super) fn new(manifest: &Manifest, setting: Arc<Setting>) -> Self {
        Self { segments: manifest.segments().into(), setting, answers: BTreeMap::new(), overlap: 0 }
    }

    /// The host takes the identifier from its own join; a guest cannot name one.
    pub(super) fn add(&mut self, unit: &Unit, segment: Option<u32>) {
        let is_everyones = self.setting.is_everyones(unit);
        self.overlap += u64::from(is_everyones);
        if self.setting.is_recipients(unit) {
            let known = segment.filter(|segment| (*segment as usize) < self.segments.len());
            let answer = known.map_or(OUT, |segment| segment + 1);
            self.answers.insert(unit.key.clone(), Told { answer, is_everyones });
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.answers.extend(other.answers);
        self.overlap += other.overlap;
    }

    pub(super) fn write(&self, to: &mut dyn Write) -> postcard::Result<()> {
        let told = |(key, told): (&UnitKey, &Told)| -> Row { (key.clone().into(), told.answer, told.is_everyones) };
        let answers: Vec<Row> = self.answers.iter().map(told).collect();
        postcard::to_io(&(self.overlap, answers), to).map(drop)
    }

    pub(super) fn read(&self, bytes: &[u8]) -> postcard::Result<Self> {
        let (overlap, answers): (u64, Vec<Row>) = postcard::from_bytes(bytes)?;
        let told = |(key, answer, is_everyones): Row| (key.into(), Told { answer, is_everyones });
        let answers = answers.into_iter().map(told).collect();
        Ok(Self { segments: Arc::clone(&self.segments), setting: Arc::clone(&self.setting), answers, overlap })
    }

    /// The members by identifier, each with its segment.
    #[cfg(test)]
    pub(super) fn exact(&self) -> impl Iterator<Item = (&UnitKey, u32)> {
        let members = self.answers.iter().filter(|(_, told)| told.answer != OUT);
        members.map(|(key, told)| (key, told.answer - 1))
    }

    /// The identifiers that are in, and their digests.
    pub(super) fn release(mut self, controls: &Controls, random: &mut Random) -> Result<(RecordBatch, ReleasedSet)> {
        let is_flipped = controls.list.rr_epsilon_micros.is_some();
        let shown = self.answers.len() as u64;
        // Every rule that follows looks at flipped answers only.
        if let Some(epsilon) = controls.list.rr_epsilon_micros {
            self.flip(epsilon.micros(), random);
        }
        self.answers.retain(|_, told| told.answer != OUT);
        let listed = self.answers.len() as u64;
        let overlap_listed = self.answers.values().filter(|told| told.is_everyones).count() as u64;
        let sizes =
            if is_flipped { vec![(listed, shown)] } else { vec![(listed, shown), (overlap_listed, self.overlap)] };
        check(is_flipped || self.overlap >= controls.list.min_overlap.into(), "fewer units in common")?;
        for (listed, shown) in sizes {
            check(listed >= controls.list.min_size.into(), "fewer identifiers")?;
            let most = shown.saturating_mul(controls.list.max_fraction_thousandths.into());
            check(listed.saturating_mul(1_000) <= most, "a larger part of all units")?;
        }
        let digests: Vec<u64> =
            self.answers.iter().map(|(key, told)| self.setting.digest(key, told.is_everyones)).collect();
        Ok((self.table()?, ReleasedSet { label: None, digests: Digests::from(digests) }))
    }

    /// All identifiers that are in, whatever the rules say: for units that nobody has.
    pub(super) fn everyone(mut self) -> Result<RecordBatch> {
        self.answers.retain(|_, told| told.answer != OUT);
        self.table()
    }

    fn flip(&mut self, epsilon_micros: u64, random: &mut Random) {
        let others = u32::try_from(self.segments.len()).unwrap_or(u32::MAX);
        for Told { answer, .. } in self.answers.values_mut() {
            if let Some(other) = randomised_response(epsilon_micros, others, random) {
                // The other answers, in order, without the true one.
                *answer = if other < *answer { other } else { other + 1 };
            }
        }
    }

    /// Pseudonyms in their own order: one that nobody who lacks the destination's key can have chosen.
    fn table(&self) -> Result<RecordBatch> {
        let segment = |answer: &u32| self.segments[*answer as usize - 1].as_str();
        let rows = self.answers.iter().map(|(key, told)| (self.setting.pseudonym(key), segment(&told.answer)));
        let rows: BTreeMap<String, &str> = rows.collect();
        let schema = Schema::new(vec![
            Field::new("pseudonym", DataType::Utf8, false),
            Field::new("segment", DataType::Utf8, false),
        ]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(rows.keys())),
            Arc::new(StringArray::from_iter_values(rows.values())),
        ];
        RecordBatch::try_new(Arc::new(schema), columns)
            .map_err(|error| Fault::new(Code::Internal, error.to_string(), "report it with the question's manifest"))
    }
}

fn check(holds: bool, what: &str) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Fault::new(
        Code::ListUnfit,
        format!("the list would have {what} than the owners allow"),
        "ask a broader or a narrower question, or let every owner agree to other `list` controls",
    ))
}
