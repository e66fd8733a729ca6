//! Step 3. Runs the question once per privacy unit, in an instance that has never seen another unit.
//!
//! A guest gets typed columns and gives back numbers; it has no imports, so nothing else goes in or out. Whatever
//! one unit's run does wrong (trap, no fuel, an answer out of bounds) becomes "contributes nothing" and is told to no
//! one; only the wall clock ends the whole run. Answers go straight into the [`Tally`](crate::privacy::Tally), which alone knows how to bound them.

mod contract;
mod engine;
mod figures;
#[cfg(test)]
mod isolation;
mod lower;
mod profile;
mod screen;
#[cfg(test)]
mod tests;
mod world;

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

pub(crate) use contract::{Answer, Contribution};
pub(crate) use engine::Question;
pub(crate) use figures::Figures;
pub(crate) use profile::profile_sha256;
pub(crate) use screen::screen;
pub(crate) use world::world;

use crate::error::{Code, Fault, Result};
use crate::privacy::{Funded, RawOutput, Setting, Tally};
use crate::provision::{Provisioned, Unit};
use lower::LoweredUnit;

/// The engine's version, as it stands in agreements and receipts.
pub(crate) const WASMTIME_VERSION: &str = "48.0.8";

/// Chunks of units that wait for a worker, per worker: enough to keep all busy, few enough to bound memory.
const CHUNKS_WAITING: usize = 2;

/// Runs the question over every unit, on as many threads as it was compiled for. The budget has been charged by now.
///
/// The figures are exact, so they are for the auditor's eyes alone.
pub(crate) fn execute(question: &Question, funded: Funded, setting: &Arc<Setting>) -> Result<(RawOutput, Figures)> {
    let Provisioned { approved, mut units } = funded.into_provisioned();
    let empty = Tally::new(approved.manifest(), &approved.agreement().controls, Arc::clone(setting));
    let (tally, figures) = ask_in_parallel(question, &empty, || units.next_chunk())?;
    Ok((RawOutput::new(approved, tally), figures))
}

/// Asks about all units of a stream. What comes out is the same for any number of threads.
fn ask_in_parallel(
    question: &Question,
    empty: &Tally,
    next: impl FnMut() -> Result<Option<Vec<Unit>>>,
) -> Result<(Tally, Figures)> {
    let threads = question.threads();
    let (sender, receiver) = sync_channel::<Vec<Unit>>(threads * CHUNKS_WAITING);
    let receiver = Arc::new(Mutex::new(receiver));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let (receiver, tally) = (Arc::clone(&receiver), empty.clone());
                scope.spawn(move || work(&receiver, question, tally))
            })
            .collect();
        // The workers hold the only other ends: when the last one fails, sending fails and the reading stops.
        drop(receiver);
        let read = feed(&sender, next);
        drop(sender);
        let (mut tally, mut figures) = (empty.clone(), Figures::new(question.slots().len()));
        for worker in workers {
            let (part, its_figures) = worker.join().map_err(|_| failed("a worker thread stopped"))??;
            tally.merge(part);
            figures.merge(&its_figures);
        }
        read.map(|()| (tally, figures))
    })
}

fn feed(sender: &SyncSender<Vec<Unit>>, mut next: impl FnMut() -> Result<Option<Vec<Unit>>>) -> Result<()> {
    while let Some(chunk) = next()? {
        if sender.send(chunk).is_err() {
            // Every worker has ended early; their own faults say why.
            return Ok(());
        }
    }
    Ok(())
}

fn work(receiver: &Mutex<Receiver<Vec<Unit>>>, question: &Question, mut tally: Tally) -> Result<(Tally, Figures)> {
    let mut figures = Figures::new(question.slots().len());
    loop {
        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(chunk) = next else { return Ok((tally, figures)) };
        figures.merge(&ask_all(question, &chunk, &mut tally)?);
    }
}

/// Asks about each unit in turn, each in an instance of its own.
pub(crate) fn ask_all(question: &Question, units: &[Unit], tally: &mut Tally) -> Result<Figures> {
    let mut figures = Figures::new(question.slots().len());
    for unit in units {
        let asked = question.ask(&LoweredUnit::new(unit, question.slots()))?;
        figures.add(unit, &asked);
        tally.add(unit, asked.answer);
    }
    Ok(figures)
}

fn failed(fact: impl Into<String>) -> Fault {
    Fault::new(Code::SandboxFailed, fact, "run again; if it happens again, report it with the code and the version")
}
