//! Hooks for `runtime/benches`: the sealed path alone, on one core, against what the engine can do at best.
//!
//! Hidden from the documentation; nothing in the data path calls it.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use glovebox_sandbox::Question;
pub use glovebox_sandbox::bench::{KernelBench, LoopBench, LoopSeconds};
use glovebox_trust::registry::Scope;

use crate::clock::Clock;
use crate::error::{Code, Fault, Result};
use crate::gate::{self, Approved, Chain, Inquiry};
use crate::journal::Facts;
use crate::privacy::{HostKey, Noise, RoomKey, Setting, ShardKey, Tally, UnitSeeds};
use crate::provision::{self, Host, Provisioned, Resources, Split, Unit, UnitStream};
use crate::random::Random;
use crate::receipt::Trace;
use crate::sandbox::{Compiled, Figures, Grounds, Program, Sandbox, spec};
use crate::show::{Preview, preview_of};

/// Units per second of an agreement's question over all of its units, which are read beforehand, in so many workers.
pub fn sealed_units_per_second(room: &Path, agreement: &str, worker: &Path, workers: usize) -> Result<f64> {
    let Laid { mut sandbox, empty, units } = Laid::new(room, agreement, worker, workers)?;
    let count: usize = units.iter().map(Vec::len).sum();
    let start = Instant::now();
    let mut chunks = units.into_iter();
    sandbox.ask_all(&empty, || Ok(chunks.next()))?;
    Ok(per_second(count, start))
}

/// What an agreement's question comes to without noise or rules, to be compared with what another engine comes to.
pub fn exact_answer(room: &Path, agreement: &str, worker: &Path, workers: usize) -> Result<Preview> {
    let dir = crate::open_room(room)?;
    let approved = admit(&dir, agreement)?;
    let (mut sandbox, empty) = loaded(&approved, worker, workers)?;
    let Provisioned { approved, mut units } = provisioned(room, &dir, approved, workers)?;
    let (tally, _) = sandbox.ask_all(&empty, || next_chunk(&mut units))?;
    let table = tally.of_made_up_units(approved.manifest(), &approved.agreement().controls)?;
    Ok(preview_of(&table))
}

/// What `count` says of this thread while it has some units asked, and while it has all of them asked, which are at least
/// twice as many; each in one batch, by a worker that was asked before.
pub fn counted_while_asking(
    room: &Path,
    agreement: &str,
    worker: &Path,
    count: impl Fn() -> u64,
) -> Result<[(usize, u64); 2]> {
    let Laid { mut sandbox, empty: mut tally, units } = Laid::new(room, agreement, worker, 1)?;
    let units: Vec<Unit> = units.into_iter().flatten().collect();
    let mut figures = Figures::default();
    sandbox.ask_here(&units, &mut tally, &mut figures)?;
    let mut counted = |units: &[Unit]| -> Result<(usize, u64)> {
        let before = count();
        sandbox.ask_here(units, &mut tally, &mut figures)?;
        Ok((units.len(), count() - before))
    };
    Ok([counted(&units[..units.len() / 2])?, counted(&units)?])
}

/// Workers that have loaded an agreement's question, and all of its units.
struct Laid {
    sandbox: Sandbox,
    empty: Tally,
    units: Vec<Vec<Unit>>,
}

impl Laid {
    fn new(room: &Path, agreement: &str, worker: &Path, workers: usize) -> Result<Self> {
        let dir = crate::open_room(room)?;
        let approved = admit(&dir, agreement)?;
        let (sandbox, empty) = loaded(&approved, worker, workers)?;
        let mut units = Vec::new();
        let mut stream = provisioned(room, &dir, approved, 1)?.units;
        while let Some(chunk) = next_chunk(&mut stream)? {
            units.push(chunk);
        }
        Ok(Self { sandbox, empty, units })
    }
}

/// Workers that have loaded an agreement's question, and what no unit comes to.
fn loaded(approved: &Approved, worker: &Path, workers: usize) -> Result<(Sandbox, Tally)> {
    let (program, compiled) = (Program::at(worker), Compiled::none());
    let seeds = &UnitSeeds::of_run(&[7; 32]);
    let grounds = Grounds { program: &program, compiled: &compiled, workers, worker_seconds: 3_600, seeds };
    let sandbox = Sandbox::start(approved, &grounds)?;
    let host = HostKey::none();
    let destination = host.destination("bench", "bench");
    let setting = Arc::new(Setting::new(approved.agreement(), &host, destination));
    Ok((sandbox, Tally::new(approved.manifest(), &approved.agreement().controls, setting)))
}

/// Units of an agreement's views, read, sorted and joined by so many threads, and the seconds that it takes.
pub fn provision_seconds(room: &Path, agreement: &str, threads: usize) -> Result<(usize, f64)> {
    let dir = crate::open_room(room)?;
    let approved = admit(&dir, agreement)?;
    let start = Instant::now();
    let mut stream = provisioned(room, &dir, approved, threads)?.units;
    let mut count = 0;
    while let Some(chunk) = next_chunk(&mut stream)? {
        count += chunk.len();
    }
    Ok((count, start.elapsed().as_secs_f64()))
}

/// The next units of any shard.
fn next_chunk(stream: &mut UnitStream) -> Result<Option<Vec<Unit>>> {
    loop {
        if let Some(chunk) = stream.next_chunk()? {
            return Ok(Some(chunk));
        }
        if stream.next_shard()?.is_none() {
            return Ok(None);
        }
    }
}

fn provisioned(room: &Path, dir: &cap_std::fs::Dir, approved: Approved, threads: usize) -> Result<Provisioned> {
    let split = Split::whole(ShardKey::of_run(&[7; 32]), approved.manifest().shards());
    let resources = Resources { memory_bytes: 1 << 30, threads, room_key: RoomKey::none(), split };
    let host = Host { dir, state: room };
    let snapshot = provision::snapshot(&approved, &host, &[])?;
    provision::provision(approved, &host, &resources, &snapshot)?.read()
}

/// Fresh stores and instances per second on one core, each called once with nothing, without anything of ours around.
pub fn bare_instances_per_second(room: &Path, agreement: &str, count: usize) -> Result<f64> {
    let approved = admit(&crate::open_room(room)?, agreement)?;
    let spec = spec(approved.manifest(), approved.parameters(), &approved.agreement().limits);
    let question = Question::new(approved.component(), spec, 1)?;
    let start = Instant::now();
    question.call_bare(count);
    Ok(per_second(count, start))
}

fn admit(dir: &cap_std::fs::Dir, agreement: &str) -> Result<Approved> {
    let now = Clock::System.now();
    let mut trace = Trace::new("bench".into(), now, agreement);
    let runtime = Chain::read_any(dir)?.current().keys(Scope::Runtime).next().map(|(_, key)| key);
    let runtime = runtime.ok_or_else(|| Fault::new(Code::KeyUnknown, "no runtime is registered", "register one"))?;
    let inquiry = Inquiry { dir, folder: agreement, now, runtime: &runtime, facts: &Facts::default() };
    gate::admit(&inquiry, &mut trace)
}

/// Samples of discrete Laplace and of discrete Gaussian noise per second, at a scale of a thousand.
#[must_use]
pub fn noise_samples_per_second() -> [f64; 2] {
    const DRAWS: usize = 2_000_000;
    [Noise::laplace(1_000, 1), Noise::gaussian(1_000_000, 1)].map(|noise| {
        let mut random = Random::from_seed([7; 32]);
        let start = Instant::now();
        let sum: i128 = (0..DRAWS).map(|_| noise.sample(&mut random)).sum();
        std::hint::black_box(sum);
        per_second(DRAWS, start)
    })
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn per_second(count: usize, start: Instant) -> f64 {
    count as f64 / start.elapsed().as_secs_f64()
}
