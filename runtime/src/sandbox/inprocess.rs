//! Asks a question in the tests' own process: the same engine, without the walls around it.

use glovebox_sandbox::{Question, Spec, Ticker, Writer};

use super::lower::Lowering;
use super::{Ask, Asked, Figures, count};
use crate::error::Result;
use crate::privacy::{Tally, UnitSeeds};
use crate::provision::Unit;
use crate::room::{Slot, Value};

/// Memory for one unit.
const UNIT_BYTES: usize = 64 << 20;

/// A question that any number of threads may ask.
pub(super) struct InProcess {
    question: Question,
    slots: Vec<Slot>,
    seeds: Option<UnitSeeds>,
    _ticker: Ticker,
}

impl InProcess {
    pub(super) fn new(component: &[u8], spec: Spec, slots: &[Slot], threads: u32) -> Self {
        Self::of(Question::new(component, spec, threads).unwrap(), slots)
    }

    pub(super) fn of(question: Question, slots: &[Slot]) -> Self {
        let _ticker = Ticker::of(&question);
        let seeds = seeds(question.spec());
        Self { question, slots: slots.to_vec(), seeds, _ticker }
    }

    pub(super) fn lower(&self, unit: &Unit) -> Option<Lowered> {
        lower(unit, &self.slots, &self.question.spec().parameters, self.seeds.as_ref())
    }

    pub(super) fn ask_one(&self, unit: &Unit) -> Asked {
        let Some(lowered) = self.lower(unit) else { return Asked::default() };
        let mut answers = self.question.ask_all(lowered.bytes(), 1).unwrap();
        answers.pop().unwrap()
    }
}

impl Ask for &InProcess {
    fn ask(&mut self, units: &[Unit], tally: &mut Tally, figures: &mut Figures) -> Result<()> {
        units.iter().for_each(|unit| count(unit, &self.ask_one(unit), tally, figures));
        Ok(())
    }
}

/// One unit as it crosses to a worker.
pub(super) struct Lowered(Vec<u64>, usize);

impl Lowered {
    pub(super) fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.0)[..self.1]
    }
}

/// Those of one and the same run, if the question has a place for them.
pub(super) fn seeds(spec: &Spec) -> Option<UnitSeeds> {
    spec.seed().map(|_| UnitSeeds::of_run(&[7; 32]))
}

pub(super) fn lower(unit: &Unit, slots: &[Slot], parameters: &[Value], seeds: Option<&UnitSeeds>) -> Option<Lowered> {
    let mut memory = vec![0_u64; UNIT_BYTES / 8];
    let mut writer = Writer::new(bytemuck::cast_slice_mut(&mut memory));
    // As for a worker: what has no room there has none in an instance.
    Lowering::new(parameters, seeds.cloned()).write(&mut writer, unit, slots).ok()?;
    let len = writer.len();
    memory.truncate(len.div_ceil(8));
    Some(Lowered(memory, len))
}
