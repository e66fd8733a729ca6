//! Runs a released run again, from the data and the sealed seed, and compares what comes out with what was released.
//!
//! Nothing is charged, written or logged: the result is thrown away once its commitment was compared.

use std::path::Path;
use std::sync::Arc;

use cap_std::fs::Dir;
use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use serde::Serialize;

use crate::destination;
use crate::error::{Code, Fault, Result};
use crate::gate;
use crate::privacy::{self, DestinationKey, HostKey, RoomKey, Setting, ShardKey, UnitSeeds};
use crate::provision::{self, Host, Resources, Split};
use crate::random::Random;
use crate::receipt::{self, SEALED_BYTES_MAX, Sealed, open_sealed, sealed_path};
use crate::room::sha256_hex;
use crate::sandbox::{Compiled, Grounds, Program, Sandbox};
use crate::shards::{self, Groups, Parts, ShardsDone, THIS_PROGRAM};

/// What to replay, and with what.
#[derive(Clone, Copy, Debug)]
pub struct Replay<'a> {
    /// The receipt's path in the room.
    pub receipt: &'a str,
    /// The auditor's identity: an age file.
    pub identity: &'a Path,
    /// SHA-256 of the registry's first version, if it is known from elsewhere.
    pub root: Option<&'a str>,
    /// How many cores to use; the answer is the same for any number.
    pub threads: usize,
    /// Into how many groups of shards the units are split; the answer is the same for any number.
    pub groups: u16,
    /// Memory for sorting views, in bytes.
    pub sort_memory_bytes: usize,
    /// The folder of this host's state, where the ways to tables outside of the room are.
    pub state: &'a Path,
    /// The program that serves as a worker, where it is not the one that runs.
    pub worker: Option<&'a Path>,
}

/// Processor time of a replay's workers: a day.
const WORKER_SECONDS: u64 = 86_400;

/// A run that was replayed to the same output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// The run.
    pub run_id: String,
    /// The commitment that both runs came to.
    pub output_commitment: String,
    /// SHA-256 of what the units came to before any noise, in both runs.
    pub raw_sha256: String,
    /// Rows of the output.
    pub rows: usize,
}

/// Replays a run whose receipt verifies. The auditor, who has the run's exact figures, is told of each shard.
pub fn replay(
    dir: &Dir,
    replay: &Replay<'_>,
    now: DateTime<Utc>,
    progress: &(dyn Fn(ShardsDone) + Sync),
) -> Result<Replayed> {
    let evidence = receipt::evidence(dir, replay.receipt, replay.root, now)?;
    let (run_id, committed) = (evidence.run_id().to_owned(), evidence.output_commitment().to_owned());
    let sealed = read_sealed(dir, &run_id, evidence.sealed_sha256(), replay.identity)?;
    let seed = sealed.seed().ok_or_else(|| not_replayable("the sealed part has no seed"))?;

    let paid = evidence.charges().to_vec();
    let approved = gate::readmit(dir, evidence)?;
    let program = replay.worker.map_or_else(Program::this, Program::at);
    let parts = Parts::of(&approved, replay.groups, crate::run::cores(replay.threads))?;
    let compiled = Compiled::none();
    let grounds = Grounds {
        program: &program,
        compiled: &compiled,
        workers: parts.workers(),
        worker_seconds: WORKER_SECONDS,
        seeds: &UnitSeeds::of_run(&seed),
    };
    let sandbox = Sandbox::start(&approved, &grounds)?;
    let room_key = RoomKey::from_hex(&sealed.room_key);
    let room_key = room_key.ok_or_else(|| not_replayable("the sealed part has no key of the room"))?;
    let split = Split::whole(ShardKey::of_run(&seed), approved.manifest().shards());
    let resources = Resources { memory_bytes: replay.sort_memory_bytes, threads: replay.threads, room_key, split };
    let resources = parts.share(resources);
    let host = Host { dir, state: replay.state };
    let snapshot = provision::snapshot(&approved, &host, &sealed.sources)?;
    // Other data would make every replay an answer about what differs, which no one has paid for.
    if snapshot.sources() != sealed.sources {
        return Err(not_replayable("the data is not that of the run"));
    }
    let destination = DestinationKey::from_hex(&sealed.destination_key)
        .ok_or_else(|| not_replayable("the sealed part has no key of the destination"))?;
    // The history that this key names units for is not asked again.
    let setting = Arc::new(Setting::new(approved.agreement(), &HostKey::none(), destination));
    let provisioned = provision::provision(approved, &host, &resources, &snapshot)?.read()?;
    let groups = Groups {
        parts,
        resources,
        snapshot: &snapshot,
        dir,
        program: replay.worker.unwrap_or_else(|| Path::new(THIS_PROGRAM)),
        compiled: &compiled,
        worker_seconds: WORKER_SECONDS,
        unit_seeds: UnitSeeds::key_of_run(&seed),
        progress,
    };
    let (raw, _) = shards::execute(sandbox, privacy::replayed(provisioned, &paid)?, &setting, &groups)?;
    let raw_sha256 = HEXLOWER.encode(&raw.sha256()?);
    let mut noise = Random::from_seed(seed);
    let released = privacy::release(raw, &mut noise)?;
    let rendered = destination::render(released, &setting, &mut noise)?;
    if rendered.commitment == committed && sealed.raw_sha256.as_ref() == Some(&raw_sha256) {
        return Ok(Replayed { run_id, output_commitment: committed, raw_sha256, rows: rendered.rows });
    }
    Err(Fault::new(
        Code::ReplayDiffers,
        format!("the replay of run {run_id} comes to another output than its receipt commits to"),
        "the runtime or its engine computes something else, or the receipt is not of what ran",
    ))
}

fn read_sealed(dir: &Dir, run_id: &str, sealed_sha256: Option<&str>, identity: &Path) -> Result<Sealed> {
    let expected = sealed_sha256.ok_or_else(|| not_replayable("the run sealed nothing"))?;
    let bytes = gate::read(dir, &sealed_path(run_id), SEALED_BYTES_MAX, Code::NotReplayable)?;
    if sha256_hex(&bytes) != expected {
        return Err(not_replayable("the sealed part is not the one that the receipt names"));
    }
    let sealed = open_sealed(&bytes, identity)?;
    if sealed.run_id == run_id { Ok(sealed) } else { Err(not_replayable("the sealed part is of another run")) }
}

fn not_replayable(fact: &str) -> Fault {
    let remedy = "replay with the data of the run, and what it sealed to the room's auditor";
    Fault::new(Code::NotReplayable, fact, remedy)
}
