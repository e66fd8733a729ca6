//! The room's log for auditors and witnesses: verify it, prove records of it, have it witnessed, adopt it on a new host.

use std::path::Path;

use cap_std::fs::Dir;
use chrono::{DateTime, Utc};
use glovebox_trust::log::note::VerifierKey;
use glovebox_trust::log::tree;
use glovebox_trust::log::witness::{self, AddCheckpoint};
use serde::Serialize;

use crate::error::{Code, Fault, Result};
use crate::gate::{self, Chain};
use crate::journal::{self, Head, Journal};
use crate::receipt::proof_path;
use crate::state::{State, StateAt};

/// What a log is found to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogStatus {
    /// The log's name in its checkpoints.
    pub origin: String,
    /// How many records it has.
    pub size: u64,
    /// Its root hash, in hex.
    pub root: String,
    /// Verifier keys of those that may sign its checkpoints.
    pub vkeys: Vec<String>,
    /// The witnesses that cosigned the latest checkpoint.
    pub witnesses: Vec<String>,
    /// Runs whose principal has not ended yet.
    pub open_runs: usize,
}

/// What this host knows of a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateStatus {
    /// The folder of this host's anchors.
    pub folder: String,
    /// How many records of the log this host has seen.
    pub size: u64,
    /// The root hash that it has seen, in hex.
    pub root: String,
}

impl StateStatus {
    fn new(state: StateAt<'_>, Head { size, root }: Head) -> Self {
        Self { folder: state.folder.display().to_string(), size, root }
    }
}

/// The body of a request to a witness (c2sp.org/tlog-witness).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessRequest(pub Vec<u8>);

fn open<'a>(dir: &Dir, state: impl Into<StateAt<'a>>) -> Result<Journal> {
    let chain = Chain::read_any(dir)?;
    Journal::new(dir, State::open(state.into())?, &chain)
}

/// Verifies every record, tile and hash of the log against its checkpoint, and what the records say against each other.
pub fn verify_log(dir: &Dir, state: &Path, now: DateTime<Utc>) -> Result<LogStatus> {
    let chain = Chain::read_any(dir)?;
    let journal = Journal::new(dir, State::open((&state).into())?, &chain)?;
    let (signed, facts) = journal.verify()?.ok_or_else(no_log)?;
    let policy = journal::log_policy(chain.current())?;
    let witnessed = policy.open(&signed.to_bytes(), Some(now)).map_err(|denial| {
        Fault::of("the checkpoint", &denial, "have it witnessed: `glovebox log witness-request`, then `log cosign`")
    })?;
    let checkpoint = signed.checkpoint();
    Ok(LogStatus {
        origin: checkpoint.origin.clone(),
        size: checkpoint.size,
        root: data_encoding::HEXLOWER.encode(&checkpoint.root),
        vkeys: journal::log_keys(chain.current())?.iter().map(ToString::to_string).collect(),
        witnesses: witnessed.cosignatures.into_iter().map(|cosignature| cosignature.witness).collect(),
        open_runs: facts.open_runs(),
    })
}

/// The latest checkpoint, as it was signed.
pub fn checkpoint(dir: &Dir, state: &Path) -> Result<Vec<u8>> {
    Ok(open(dir, &state)?.read_checkpoint()?.ok_or_else(no_log)?.to_bytes())
}

/// Makes the proof that a receipt is in the log anew, at the latest checkpoint. Returns its path in the room.
pub fn prove(dir: &Dir, state: &Path, receipt: &str) -> Result<String> {
    let journal = open(dir, &state)?;
    let record = gate::read(dir, receipt, 1 << 20, Code::ReceiptInvalid)?;
    let index = journal.find(&record)?.ok_or_else(|| {
        Fault::new(Code::LogInvalid, format!("the log does not have {receipt}"), "name a receipt of this room")
    })?;
    let name = receipt.rsplit('/').next().unwrap_or(receipt);
    let path = proof_path(name.strip_suffix(".dsse.json").unwrap_or(name));
    let proof = journal.prove(index)?;
    crate::files::write(dir, &path, &proof, crate::files::Existing::Replace).map_err(|error| {
        Fault::new(Code::ReceiptFailed, format!("cannot write {path}: {error}"), "make the room's folder writable")
    })?;
    Ok(path)
}

/// What to post to a witness that has cosigned the log when it had `from` records.
pub fn witness_request(dir: &Dir, state: &Path, from: u64) -> Result<WitnessRequest> {
    let journal = open(dir, &state)?;
    journal.with_tiles(|tiles, signed| {
        // A witness that has seen nothing asks for no proof.
        let proof = if from == 0 { Vec::new() } else { tree::consistency_proof(tiles, from, tiles.size())? };
        Ok(WitnessRequest(AddCheckpoint::new(from, proof, signed).to_bytes()))
    })
}

/// Adds the cosignatures that a witness answered with to the latest checkpoint. Returns the names of those that the
/// registry lists.
pub fn attach_cosignatures(dir: &Dir, state: &Path, answer: &[u8], now: DateTime<Utc>) -> Result<Vec<String>> {
    let chain = Chain::read_any(dir)?;
    let journal = Journal::new(dir, State::open((&state).into())?, &chain)?;
    let policy = journal::log_policy(chain.current())?;
    let witnesses: Vec<VerifierKey> = policy.witnesses().map(|(_, key)| key.clone()).collect();
    let mut signed = journal.read_checkpoint()?.ok_or_else(no_log)?;
    let refused = |denial: &glovebox_trust::Denial| {
        Fault::of("the cosignatures", denial, "list the witness in the registry, and post the latest checkpoint to it")
    };
    let added = witness::attach(&mut signed, answer, &witnesses, Some(now)).map_err(|denial| refused(&denial))?;
    if added.is_empty() {
        return Err(Fault::new(
            Code::WitnessMissing,
            "none of these cosignatures is of a witness that the registry lists",
            "list it with `glovebox registry witnesses FILE`, and let the parties sign the registry",
        ));
    }
    journal.put_checkpoint(&signed)?;
    Ok(added.into_iter().map(|cosignature| cosignature.witness).collect())
}

/// What this host has seen of the room, if it agrees with the log and the ledger.
pub fn state_status<'a>(dir: &Dir, state: impl Into<StateAt<'a>>) -> Result<StateStatus> {
    let state = state.into();
    let head = open(dir, state)?.hold()?.head();
    Ok(StateStatus::new(state, head))
}

/// Begins to run the room on this host. `root` is SHA-256 of the registry's first version, as the operator knows it from
/// the parties: whoever can write the room's folder could have written another registry into it.
pub fn trust_room<'a>(dir: &Dir, state: impl Into<StateAt<'a>>, root: &str) -> Result<StateStatus> {
    let state = state.into();
    let head = open_named(dir, state, root)?.trust()?;
    Ok(StateStatus::new(state, head))
}

/// The journal of the room whose registry begins with this digest, and of no other.
fn open_named(dir: &Dir, state: StateAt<'_>, root: &str) -> Result<Journal> {
    let chain = Chain::read_any(dir)?;
    if chain.first_sha256() == root {
        return Journal::new(dir, State::open(state)?, &chain);
    }
    Err(Fault::new(
        Code::RegistryInvalid,
        format!("the room's registry begins with sha256 {}", chain.first_sha256()),
        "compare it with the parties; this may be another room",
    ))
}

/// Makes this host's state of a room anew, from a log that extends a checkpoint which someone else holds. `root`: see
/// [`trust_room`].
pub fn adopt_state<'a>(dir: &Dir, state: impl Into<StateAt<'a>>, root: &str, checkpoint: &[u8]) -> Result<StateStatus> {
    let state = state.into();
    let journal = open_named(dir, state, root)?;
    let held = journal.open_checkpoint(checkpoint)?;
    let head = journal.adopt(&held)?;
    Ok(StateStatus::new(state, head))
}

fn no_log() -> Fault {
    Fault::new(Code::LogInvalid, "the room has no log yet", "the first run begins it")
}
