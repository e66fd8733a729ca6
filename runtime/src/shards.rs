//! Asks about a run's units shard by shard, and adds up what the shards come to.
//!
//! A unit's shard is a keyed hash of its key modulo a number that the manifest fixes, so groups of shards can be asked
//! wherever the pinned data can be read. What comes out is the same for any groups: sums are exact and sets are sorted.
//! Whoever adds up believes no group: each shard must come once, from its group; all groups must have read the same rows;
//! and the rows that they kept must add up to those. A part that is missing is never a smaller answer, but none.

pub(crate) mod group;
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cap_std::fs::Dir;

use self::process::Queue;
use crate::error::{Code, Fault, Result};
use crate::gate::Approved;
use crate::privacy::{Funded, RawOutput, Setting, Tally};
use crate::provision::{Intake, Multiset, Provisioned, Resources, Snapshot, Split, UnitStream, differ};
use crate::room::{Place, Source};
use crate::sandbox::{Compiled, Figures, Sandbox};

/// The program that runs, whatever became of its file since.
pub(crate) const THIS_PROGRAM: &str = "/proc/self/exe";

/// The least memory for sorting a group's rows.
const GROUP_BYTES_MIN: usize = 16 << 20;

/// Into how many groups a run's shards are split, and how many of them are asked at a time. The first is the run's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    groups: u16,
    threads: usize,
}

impl Parts {
    /// No more groups than shards; and one, where a group's process could not read what the run can.
    pub(crate) fn of(approved: &Approved, groups: u16, threads: usize) -> Result<Self> {
        let is_behind = |source: &Source| matches!(source.place(), Place::Behind { .. });
        let mut sources = approved.agreement().all_views().flat_map(|view| &view.sources);
        if groups > 1 && sources.any(is_behind) {
            return Err(Fault::new(
                Code::Usage,
                "tables behind a connection are read in one group",
                "leave --groups out, or bind views of files and tables in the room",
            ));
        }
        Ok(Self { groups: groups.clamp(1, approved.manifest().shards()), threads: threads.max(1) })
    }

    /// Workers of the run's own group: each other group has one of its own.
    pub(crate) const fn workers(&self) -> usize {
        if self.groups > 1 { 1 } else { self.threads }
    }

    /// What the run's own group may use; each other group may use as much.
    pub(crate) fn share(&self, all: Resources) -> Resources {
        if self.groups == 1 {
            return all;
        }
        let at_a_time = self.threads.min(self.groups.into());
        let memory_bytes = (all.memory_bytes / at_a_time).max(GROUP_BYTES_MIN);
        Resources { memory_bytes, threads: 1, split: all.split.of_group(0, self.groups), ..all }
    }
}

/// What the groups that are processes of their own are started with.
pub(crate) struct Groups<'a> {
    pub(crate) parts: Parts,
    /// Of the run's own group.
    pub(crate) resources: Resources,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) dir: &'a Dir,
    /// The program that serves as a group and as a worker.
    pub(crate) program: &'a Path,
    pub(crate) compiled: &'a Compiled,
    pub(crate) worker_seconds: u64,
    /// The key of the units' seeds.
    pub(crate) unit_seeds: [u8; 32],
    /// Is told of every shard that is done: exact figures, for whoever may see them.
    pub(crate) progress: &'a (dyn Fn(ShardsDone) + Sync),
}

impl Groups<'_> {
    fn add(&self, sum: &Mutex<Sum>, group: &Split, answer: Answer) -> Result<()> {
        let mut sum = lock(sum);
        sum.add(group, answer)?;
        (self.progress)(sum.done());
        Ok(())
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardsDone {
    /// Shards that are done.
    pub done: u16,
    /// All shards.
    pub shards: u16,
    /// Rows that were shown to the question.
    pub rows: u64,
    /// Units that were asked about.
    pub units: u64,
}

/// What one shard came to, before any noise.
pub(crate) struct Answer {
    pub(crate) shard: u16,
    pub(crate) tally: Tally,
    pub(crate) figures: Figures,
}

/// Asks about every unit of a group, shard after shard. Says what was read when all has been.
pub(crate) fn ask(
    units: &mut UnitStream,
    mut ask_all: impl FnMut(&mut UnitStream) -> Result<(Tally, Figures)>,
    mut take: impl FnMut(Answer) -> Result<()>,
) -> Result<Vec<Intake>> {
    while let Some(shard) = units.next_shard()? {
        let (tally, figures) = ask_all(units)?;
        take(Answer { shard, tally, figures })?;
    }
    units.intakes()
}

/// Runs the question over every unit. The budget has been charged by now.
///
/// The figures are exact, so they are for the auditor's eyes alone.
pub(crate) fn execute(
    mut sandbox: Sandbox,
    funded: Funded,
    setting: &Arc<Setting>,
    groups: &Groups<'_>,
) -> Result<(RawOutput, Figures)> {
    let Provisioned { approved, mut units } = funded.into_provisioned();
    let empty = Tally::new(approved.manifest(), &approved.agreement().controls, Arc::clone(setting));
    let split = groups.resources.split;
    let sum = Mutex::new(Sum::new(split, empty.clone()));
    let own = || {
        let ask_all = |units: &mut UnitStream| sandbox.ask_all(&empty, || units.next_chunk());
        let intakes = ask(&mut units, ask_all, |answer| groups.add(&sum, &split, answer))?;
        lock(&sum).end(&split, &intakes)
    };
    let queue = Queue::new(groups, &approved, setting, &empty)?;
    queue.work_beside(&sum, own)?;
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (tally, figures) = sum.finish()?;
    Ok((RawOutput::new(approved, tally), figures))
}

fn lock(sum: &Mutex<Sum>) -> MutexGuard<'_, Sum> {
    sum.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all groups come to together.
pub(crate) struct Sum {
    tally: Tally,
    figures: Figures,
    shards: u16,
    missing: BTreeSet<u16>,
    /// By slot, of the groups that have ended: what each of them read, and what all of them kept.
    slots: Option<Vec<Slot>>,
}

#[derive(PartialEq, Eq)]
struct Slot {
    read: Multiset,
    /// None where every group keeps all.
    kept: Option<Multiset>,
}

impl Sum {
    pub(crate) fn new(split: Split, empty: Tally) -> Self {
        let missing = (0..split.count()).collect();
        Self { tally: empty, figures: Figures::default(), shards: split.count(), missing, slots: None }
    }

    #[expect(clippy::cast_possible_truncation, reason = "no more than there are shards")]
    fn done(&self) -> ShardsDone {
        let done = self.shards - self.missing.len() as u16;
        let rows = self.figures.rows_per_slot.iter().sum();
        ShardsDone { done, shards: self.shards, rows, units: self.figures.units }
    }

    /// Adds a shard that a group has answered.
    pub(crate) fn add(&mut self, group: &Split, answer: Answer) -> Result<()> {
        if !group.has(answer.shard) || !self.missing.remove(&answer.shard) {
            return Err(differ("a shard came twice, or from a group that it is not in"));
        }
        self.tally.merge(answer.tally);
        self.figures.merge(&answer.figures);
        Ok(())
    }

    /// Takes what a group says that it read and kept.
    pub(crate) fn end(&mut self, group: &Split, intakes: &[Intake]) -> Result<()> {
        let mut kept = intakes.iter().filter_map(|intake| intake.kept.as_ref()).flat_map(|kept| kept.keys());
        if kept.any(|shard| !group.has(*shard)) {
            return Err(differ("a group kept rows of another group's shard"));
        }
        let slots = intakes.iter().map(Slot::of);
        let Some(known) = &mut self.slots else {
            self.slots = Some(slots.collect());
            return Ok(());
        };
        if known.len() != intakes.len() {
            return Err(differ("two groups read other slots"));
        }
        known.iter_mut().zip(slots).try_for_each(|(known, slot)| known.add(&slot))
    }

    /// What all units come to, if they are all.
    pub(crate) fn finish(self) -> Result<(Tally, Figures)> {
        if !self.missing.is_empty() {
            return Err(differ("a shard is missing"));
        }
        let slots = self.slots.ok_or_else(|| differ("no group has ended"))?;
        if slots.iter().any(|slot| slot.kept.is_some_and(|kept| kept != slot.read)) {
            return Err(differ("the rows of all shards are not those that were read"));
        }
        Ok((self.tally, self.figures))
    }
}

impl Slot {
    fn of(intake: &Intake) -> Self {
        let sum = |kept: &BTreeMap<u16, Multiset>| {
            let mut sum = Multiset::default();
            kept.values().for_each(|rows| sum.add(*rows));
            sum
        };
        Self { read: intake.read, kept: intake.kept.as_ref().map(sum) }
    }

    fn add(&mut self, other: &Self) -> Result<()> {
        if self.read != other.read || self.kept.is_some() != other.kept.is_some() {
            return Err(differ("two groups read other rows"));
        }
        if let (Some(kept), Some(more)) = (&mut self.kept, other.kept) {
            kept.add(more);
        }
        Ok(())
    }
}
