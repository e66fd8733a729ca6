//! Step 3. Runs the question once per privacy unit, in an instance that has never seen another unit.
//!
//! The question is in worker processes ([`glovebox_sandbox`]), one per core: a guest gets typed columns and gives back
//! numbers; it has no imports, so nothing else goes in or out. Whatever one unit's run does wrong (trap, no fuel, an
//! answer out of bounds) becomes "contributes nothing" and is told to no one; only the wall clock, or the end of a worker,
//! ends the whole run. Answers go straight into the [`Tally`], which alone knows how to bound them.

mod asking;
mod compiled;
mod figures;
#[cfg(test)]
mod inprocess;
#[cfg(test)]
mod isolation;
mod lower;
#[cfg(test)]
mod tests;

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

pub(crate) use glovebox_sandbox::{
    Answer, COMPONENT_BYTES_MAX, Contribution, Program, WASMTIME_VERSION, Wall, isa, profile_sha256, screen, world,
};
use glovebox_sandbox::{Asked, Spec, Worker};

pub use asking::Asking;
pub(crate) use compiled::Compiled;
pub(crate) use figures::Figures;
use lower::Lowering;

use crate::error::{Code, Fault, Result};
use crate::gate::Approved;
use crate::privacy::{Tally, UnitSeeds};
use crate::provision::Unit;
use crate::room::{Limits, Manifest, Slot, Value};

/// Chunks of units that wait for a worker, per worker: enough to keep all busy, few enough to bound memory.
const CHUNKS_WAITING: usize = 2;

/// What a sandbox may use of this host and of this run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grounds<'a> {
    /// What serves as a worker.
    pub(crate) program: &'a Program,
    /// What was compiled before.
    pub(crate) compiled: &'a Compiled,
    /// Workers, which are processes.
    pub(crate) workers: usize,
    /// How long each worker may live and compute.
    pub(crate) worker_seconds: u64,
    /// What units get where the question has a place for it.
    pub(crate) seeds: &'a UnitSeeds,
}

/// Workers that have loaded a question, and have seen no data.
#[derive(Debug)]
pub(crate) struct Sandbox {
    workers: Vec<Worker>,
    slots: Vec<Slot>,
    parameters: Vec<Value>,
    seeds: Option<UnitSeeds>,
}

impl Sandbox {
    /// Starts workers for an approved question. What is wrong with it shows here, before any data is read.
    pub(crate) fn start(approved: &Approved, grounds: &Grounds<'_>) -> Result<Self> {
        let agreement = approved.agreement();
        let may_lack = &agreement.controls.sandbox.may_lack;
        let spec = spec(approved.manifest(), approved.parameters(), &agreement.limits);
        Self::new(approved.component(), spec, &approved.manifest().slots, may_lack, grounds)
    }

    pub(crate) fn new(
        component: &[u8],
        spec: Spec,
        slots: &[Slot],
        may_lack: &[Wall],
        grounds: &Grounds<'_>,
    ) -> Result<Self> {
        let mut sandbox = Self::started(&spec, slots, grounds)?;
        grounds.compiled.with(grounds.program, component, &spec.limits, may_lack, |code| {
            sandbox.workers.iter_mut().try_for_each(|worker| worker.load(code, &spec, may_lack))
        })?;
        Ok(sandbox)
    }

    /// Workers for a question that this host has compiled and screened.
    pub(crate) fn of_code(
        code: &[u8],
        spec: Spec,
        slots: &[Slot],
        may_lack: &[Wall],
        grounds: &Grounds<'_>,
    ) -> Result<Self> {
        let mut sandbox = Self::started(&spec, slots, grounds)?;
        sandbox.workers.iter_mut().try_for_each(|worker| worker.load(code, &spec, may_lack))?;
        Ok(sandbox)
    }

    fn started(spec: &Spec, slots: &[Slot], grounds: &Grounds<'_>) -> Result<Self> {
        let start = |_| Worker::start(grounds.program, &spec.limits, grounds.worker_seconds);
        let workers: Vec<Worker> = (0..grounds.workers.max(1)).map(start).collect::<Result<_, _>>()?;
        let seeds = spec.seed().map(|_| grounds.seeds.clone());
        Ok(Self { workers, slots: slots.to_vec(), parameters: spec.parameters.clone(), seeds })
    }

    /// The walls that stand around every worker.
    pub(crate) fn walls(&self) -> Vec<Wall> {
        let stands = |wall: &Wall| self.workers.iter().all(|worker| worker.walls().contains(wall));
        Wall::ALL.into_iter().filter(stands).collect()
    }

    /// Asks about every unit of a stream, in all workers.
    pub(crate) fn ask_all(
        &mut self,
        empty: &Tally,
        next: impl FnMut() -> Result<Option<Vec<Unit>>>,
    ) -> Result<(Tally, Figures)> {
        ask_in_parallel(self.askers().collect(), empty, next)
    }

    /// Asks one worker about units from this thread.
    pub(crate) fn ask_here(&mut self, units: &[Unit], tally: &mut Tally, figures: &mut Figures) -> Result<()> {
        self.askers().take(1).try_for_each(|mut asker| asker.ask(units, tally, figures))
    }

    fn askers(&mut self) -> impl Iterator<Item = Asker<'_>> {
        let Self { workers, slots, parameters, seeds } = self;
        let (slots, parameters, seeds) = (&*slots, &*parameters, &*seeds);
        workers.iter_mut().map(|worker| Asker { worker, slots, lowering: Lowering::new(parameters, seeds.clone()) })
    }
}

/// How a question is asked.
pub(crate) fn spec(manifest: &Manifest, parameters: &[Value], limits: &Limits) -> Spec {
    let types = |slot: &Slot| slot.columns.iter().map(|column| column.kind).collect();
    Spec {
        kind: manifest.kind,
        limits: limits.clone(),
        parameters: parameters.to_vec(),
        slots: manifest.slots.iter().map(types).collect(),
    }
}

/// Asks about each unit in turn, each in an instance of its own.
trait Ask: Send {
    fn ask(&mut self, units: &[Unit], tally: &mut Tally, figures: &mut Figures) -> Result<()>;
}

/// Asks one worker.
struct Asker<'a> {
    worker: &'a mut Worker,
    slots: &'a [Slot],
    lowering: Lowering,
}

impl Ask for Asker<'_> {
    /// In as few batches as there is room for.
    fn ask(&mut self, mut units: &[Unit], tally: &mut Tally, figures: &mut Figures) -> Result<()> {
        while !units.is_empty() {
            let mut batch = self.worker.batch();
            let fit = units.iter().take_while(|unit| self.lowering.write(&mut batch, unit, self.slots).is_ok()).count();
            let bytes = batch.len();
            // A unit that does not fit the memory by itself fits no instance's memory either: it contributes nothing.
            let (asked, rest) = units.split_at(fit.max(1));
            let mut asked = asked.iter();
            let mut take = |answer: &Asked| {
                if let Some(unit) = asked.next() {
                    count(unit, answer, tally, figures);
                }
            };
            if fit == 0 {
                take(&Asked::default());
            } else {
                self.worker.ask(fit, bytes, take)?;
            }
            units = rest;
        }
        Ok(())
    }
}

fn count(unit: &Unit, asked: &Asked, tally: &mut Tally, figures: &mut Figures) {
    figures.add(unit, asked);
    tally.add(unit, &asked.answer);
}

/// Asks about all units of a stream, on a thread for each of those who ask. What comes out is the same for any number.
fn ask_in_parallel(
    askers: Vec<impl Ask>,
    empty: &Tally,
    next: impl FnMut() -> Result<Option<Vec<Unit>>>,
) -> Result<(Tally, Figures)> {
    let (sender, receiver) = sync_channel::<Vec<Unit>>(askers.len() * CHUNKS_WAITING);
    let receiver = Arc::new(Mutex::new(receiver));
    thread::scope(|scope| {
        let threads: Vec<_> = askers
            .into_iter()
            .map(|asker| {
                let (receiver, tally) = (Arc::clone(&receiver), empty.clone());
                scope.spawn(move || work(&receiver, asker, tally))
            })
            .collect();
        // The threads hold the only other ends: when the last one fails, sending fails and the reading stops.
        drop(receiver);
        let read = feed(&sender, next);
        drop(sender);
        let (mut tally, mut figures) = (empty.clone(), Figures::default());
        for thread in threads {
            let (part, its_figures) = thread.join().map_err(|_| failed("a thread stopped"))??;
            tally.merge(part);
            figures.merge(&its_figures);
        }
        read.map(|()| (tally, figures))
    })
}

fn feed(sender: &SyncSender<Vec<Unit>>, mut next: impl FnMut() -> Result<Option<Vec<Unit>>>) -> Result<()> {
    while let Some(chunk) = next()? {
        if sender.send(chunk).is_err() {
            // Everyone has ended early; their own faults say why.
            return Ok(());
        }
    }
    Ok(())
}

fn work(receiver: &Mutex<Receiver<Vec<Unit>>>, mut asker: impl Ask, mut tally: Tally) -> Result<(Tally, Figures)> {
    let mut figures = Figures::default();
    loop {
        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(chunk) = next else { return Ok((tally, figures)) };
        asker.ask(&chunk, &mut tally, &mut figures)?;
    }
}

fn failed(fact: impl Into<String>) -> Fault {
    Fault::new(Code::SandboxFailed, fact, "run again; if it happens again, report it with the code and the version")
}
