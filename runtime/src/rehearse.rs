//! Tries an agreement on made-up data: nothing is spent, no owner's file is opened, and everything may be shown.
//!
//! The question runs in the same sandbox, under the same limits and controls, and its numbers go through the same
//! privacy kernel as in a real run. Texts are drawn from the words that the manifest itself names, so that a question
//! that looks for one of them finds it.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::record_batch::RecordBatch;
use cap_std::fs::Dir;
use serde::Serialize;

use crate::error::{Code, Fault, Result};
use crate::gate;
use crate::privacy::{HostKey, Setting, Tally, UnitSeeds};
use crate::provision::{Rows, Unit, UnitKey, slot_schema};
use crate::random::Random;
use crate::room::{Agreement, ColumnType, Join, Manifest, Slot};
use crate::sandbox::{Asking, Compiled, Grounds, Program, Sandbox, spec};
use crate::show::{Preview, preview_of};

/// What a rehearsal came to. All of it is about made-up units.
#[derive(Debug, Serialize)]
pub struct Rehearsal {
    /// How they were asked.
    #[serde(flatten)]
    pub asking: Asking,
    /// Units that were made up.
    pub units: u64,
    /// Units for which the question failed, and which contributed nothing.
    pub trapped: u64,
    /// Fuel per unit, on average, and the limit.
    pub fuel: [u64; 2],
    /// The most bytes that one unit's instance had, and the limit.
    pub memory_bytes: [u64; 2],
    /// The table with noise and suppression; none where the controls would let nothing out.
    #[serde(skip)]
    pub released: Result<Preview>,
    /// The same without either.
    #[serde(skip)]
    pub exact: Result<Preview>,
}

const ROWS_PER_UNIT: u64 = 4;
const CHUNK: u64 = 1_000;
/// Processor time of the worker: an hour.
const WORKER_SECONDS: u64 = 3_600;

/// Runs an agreement's question over so many made-up units. The same seed makes up the same units.
pub fn rehearse(dir: &Dir, agreement: &str, units: u64, seed: u64) -> Result<Rehearsal> {
    let agreement = Agreement::parse(&gate::read_agreement(dir, agreement.trim_end_matches('/'))?)?;
    let (component, _, manifest) = gate::read_question(dir, &agreement.component_path, &agreement.manifest_path)?;
    gate::check_question(&agreement, &manifest)?;
    let parameters = gate::read_parameters(&agreement, &manifest)?;
    let (program, compiled) = (Program::this(), Compiled::none());
    let seed = seed_of(seed);
    let grounds = Grounds {
        program: &program,
        compiled: &compiled,
        workers: 1,
        worker_seconds: WORKER_SECONDS,
        seeds: &UnitSeeds::of_run(&seed),
    };
    let may_lack = &agreement.controls.sandbox.may_lack;
    let spec = spec(&manifest, &parameters, &agreement.limits);
    let asking = Asking::of(&component, &spec);
    let mut sandbox = Sandbox::new(&component, spec, &manifest.slots, may_lack, &grounds)?;
    let host = HostKey::none();
    let destination = host.destination(&agreement.room, &agreement.destination.id);
    let setting = Arc::new(Setting::new(&agreement, &host, destination));
    let words = Words::of(&manifest);
    let mut random = Random::from_seed(seed);
    let mut chunks = (0..units).step_by(CHUNK as usize).map(|first| first..units.min(first + CHUNK));
    let empty = Tally::new(&manifest, &agreement.controls, setting);
    let (tally, figures) = sandbox
        .ask_all(&empty, || chunks.next().map(|chunk| words.units(&manifest.slots, chunk, &mut random)).transpose())?;
    let exact = tally.clone().of_made_up_units(&manifest, &agreement.controls).map(|table| preview_of(&table));
    let released = tally.release(&manifest, &agreement.controls, &mut random).map(|(table, _)| preview_of(&table));
    Ok(Rehearsal {
        asking,
        units,
        trapped: figures.trapped,
        fuel: [figures.fuel / units.max(1), agreement.limits.fuel_per_unit],
        memory_bytes: [figures.memory_bytes_max, agreement.limits.memory_bytes_per_unit],
        released,
        exact,
    })
}

fn seed_of(seed: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes
}

/// The texts that made-up rows hold.
struct Words(Vec<String>);

impl Words {
    /// Those of the manifest: what a group may be called, and what a parameter may be.
    fn of(manifest: &Manifest) -> Self {
        let domains = manifest.groups.iter().filter_map(|group| group.domain.as_ref()).flatten();
        let allowed = manifest.parameters.iter().flat_map(|parameter| &parameter.allowed);
        let mut words: Vec<String> = domains.chain(allowed).cloned().collect();
        if words.is_empty() {
            words = ["red", "green", "blue"].map(str::to_owned).to_vec();
        }
        Self(words)
    }

    fn units(&self, slots: &[Slot], keys: std::ops::Range<u64>, random: &mut Random) -> Result<Vec<Unit>> {
        let counts: Vec<Vec<usize>> =
            keys.clone().map(|_| slots.iter().map(|slot| rows_of(slot, random)).collect()).collect();
        let batches = slots.iter().enumerate().map(|(at, slot)| {
            let rows = counts.iter().map(|counts| counts[at]).sum();
            self.batch(slot, rows, random).map(Arc::new)
        });
        let batches: Vec<Arc<RecordBatch>> = batches.collect::<Result<_>>()?;
        let mut starts = vec![0; slots.len()];
        let unit = |(key, counts): (u64, &Vec<usize>)| {
            let mut rows = Vec::with_capacity(slots.len());
            for (at, count) in counts.iter().enumerate() {
                rows.push(Rows { batch: Arc::clone(&batches[at]), start: starts[at], count: *count });
                starts[at] += count;
            }
            Unit { key: UnitKey::Int64(key.cast_signed()), views: rows }
        };
        Ok(keys.zip(&counts).map(unit).collect())
    }

    fn batch(&self, slot: &Slot, rows: usize, random: &mut Random) -> Result<RecordBatch> {
        let columns = slot.columns.iter().map(|column| self.column(column.kind, rows, random)).collect();
        RecordBatch::try_new(slot_schema(slot), columns)
            .map_err(|error| Fault::new(Code::Internal, error.to_string(), "report it with the question's manifest"))
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "draws are small")]
    fn column(&self, kind: ColumnType, rows: usize, random: &mut Random) -> ArrayRef {
        let mut draw = |below: u64| random.next_u64() % below;
        match kind {
            ColumnType::Boolean => Arc::new((0..rows).map(|_| Some(draw(2) == 1)).collect::<BooleanArray>()),
            ColumnType::Int64 => Arc::new(Int64Array::from_iter_values((0..rows).map(|_| draw(100) as i64))),
            ColumnType::Float64 => {
                Arc::new(Float64Array::from_iter_values((0..rows).map(|_| f64::from(draw(10_000) as u32) / 100.0)))
            }
            ColumnType::Date => Arc::new(Date32Array::from_iter_values((0..rows).map(|_| 19_000 + draw(730) as i32))),
            ColumnType::Timestamp => {
                let moment = |_| (19_000 * 86_400 + draw(730 * 86_400) as i64) * 1_000_000;
                Arc::new(TimestampMicrosecondArray::from_iter_values((0..rows).map(moment)))
            }
            ColumnType::Utf8 | ColumnType::Dictionary => {
                let word = |_| self.0[draw(self.0.len() as u64) as usize].as_str();
                Arc::new(StringArray::from_iter_values((0..rows).map(word)))
            }
        }
    }
}

/// One to a few rows; none for every fourth unit, where a slot may be without.
fn rows_of(slot: &Slot, random: &mut Random) -> usize {
    let draw = random.next_u64();
    if slot.join == Join::Optional && draw.is_multiple_of(4) {
        0
    } else {
        1 + (draw >> 8) as usize % ROWS_PER_UNIT as usize
    }
}
