//! The room's memory: a transparency log on disk, and this host's anchor outside of the room.
//!
//! Everything that must not be forgotten is a record of the log: which registry, lists, approvals and requests were
//! used, what was charged, how runs ended. The facts are recomputed from the log whenever they are needed, and compared
//! with the anchor and the ledger, so that none of the three can be rolled back alone. The log is a C2SP tiled log
//! (c2sp.org/tlog-tiles) with RFC 6962 hashes, which partners can read and witness with tools of their own.

mod anchor;
mod facts;

use cap_std::fs::Dir;
use chrono::{DateTime, Utc};
use glovebox_trust::keys::{PublicKey, Signer, SigningKey};
use glovebox_trust::log::checkpoint::{Checkpoint, SignedCheckpoint};
use glovebox_trust::log::note::{Algorithm, VerifierKey};
use glovebox_trust::log::policy::Policy;
use glovebox_trust::log::proof::Proof;
use glovebox_trust::log::tile::{self, Tiles};
use glovebox_trust::log::tree;
use glovebox_trust::registry::{Registry, Scope, Status};

pub(crate) use anchor::Head;
use anchor::{Anchor, AnchorFile};
use facts::rolled_back;
pub(crate) use facts::{Facts, OpenRun};

use crate::error::{Code, Fault, Result};
use crate::files::{self, Existing};
use crate::gate::Chain;
use crate::privacy::Ledger;
use crate::state::State;

/// The log's folder in a room.
pub(crate) const LOG_FOLDER: &str = "log";
const CHECKPOINT_FILE: &str = "log/checkpoint";
/// The log's verifier key, for the tools of others; whoever relies on it compares it with the registry.
const VKEY_FILE: &str = "log/vkey";
const CHECKPOINT_BYTES_MAX: u64 = 64 << 10;
const TILE_BYTES_MAX: u64 = 32 << 20;

/// A room's log and this host's anchor of it.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: Dir,
    state: State,
    anchor: AnchorFile,
    room: String,
    registry_sha256: String,
    /// Every key that ever wrote this log; the anchor says which checkpoint is the last.
    logs: Vec<VerifierKey>,
}

/// Keys of a registry's log, by the log's origin.
fn keys_of(registry: &Registry, counts: impl Fn(Status) -> bool) -> Result<Vec<VerifierKey>> {
    let members = registry.file().parties.iter().flat_map(|party| &party.members);
    let keys = members.flat_map(|member| &member.keys);
    let keys = keys.filter(|key| key.scopes.contains(&Scope::Log) && counts(key.status));
    let named = |hex: &str| VerifierKey::new(&registry.log().origin, Algorithm::Ed25519, PublicKey::from_hex(hex)?);
    keys.map(|key| named(&key.ed25519)).collect::<Result<_, _>>().map_err(|denial| damaged(denial.fact()))
}

/// The keys that may have written a registry's log: those in use, and those that were until they were retired.
pub(crate) fn log_keys(registry: &Registry) -> Result<Vec<VerifierKey>> {
    keys_of(registry, |status| status != Status::Compromised)
}

/// Whose signatures a registry asks for on a checkpoint: the log's, and those of the witnesses that it lists.
pub(crate) fn log_policy(registry: &Registry) -> Result<Policy> {
    let logs = log_keys(registry)?.into_iter().map(|key| format!("log {key}\n")).collect::<String>();
    let text = format!("{logs}{}\n", registry.log().witnesses.join("\n"));
    Policy::parse(text.as_bytes())
        .map_err(|denial| Fault::of("the registry's log", &denial, "correct it in the registry's next version"))
}

impl Journal {
    /// The journal of the room of this registry.
    pub(crate) fn new(dir: &Dir, state: State, chain: &Chain) -> Result<Self> {
        let (registry, first) = (chain.current(), chain.first_sha256());
        Ok(Self {
            dir: dir.try_clone().map_err(|error| unwritable(&error))?,
            anchor: AnchorFile::new(state.try_clone_dir()?, registry.room(), first),
            state,
            room: registry.room().into(),
            registry_sha256: first.into(),
            logs: keys_of(registry, |_| true)?,
        })
    }

    /// Waits until no one else writes, and recomputes what has happened so far.
    pub(crate) fn hold(&self) -> Result<Held<'_>> {
        let lock = self.anchor.lock()?;
        let anchor = self.anchor.read()?.ok_or_else(|| self.unknown())?;
        let ledger = self.state.ledger()?;
        let Some(log) = self.read_checkpoint()?.map(|signed| signed.checkpoint().clone()) else {
            if anchor.log.size > 0 {
                let seen = anchor.log.size;
                return Err(rolled_back(&format!("the log is gone, and this host has seen {seen} records of it")));
            }
            self.check_ledger(&ledger, &anchor, &Facts::default())?;
            return Ok(Held {
                journal: self,
                _lock: lock,
                size: 0,
                root: tree::empty_root(),
                facts: Facts::default(),
                adopted: 0,
            });
        };
        let facts = self.recompute(&log)?;
        self.compare(&anchor, &log, &facts)?;
        self.check_ledger(&ledger, &anchor, &facts)?;
        Ok(Held { journal: self, _lock: lock, size: log.size, root: log.root, facts, adopted: anchor.adopted })
    }

    /// The room's name in this host's state.
    pub(crate) fn name(&self) -> &str {
        self.anchor.room_name()
    }

    /// The ledger must be the one that the log has seen, or a later one, and both must know the same charges.
    fn check_ledger(&self, ledger: &Ledger, anchor: &Anchor, facts: &Facts) -> Result<()> {
        if anchor.adopted > anchor.log.size {
            return Err(rolled_back("this host's state says that it took over more of the log than there is"));
        }
        if let Some(head) = facts.ledger_since(anchor.adopted)
            && !ledger.extends(head)?
        {
            return Err(rolled_back(&format!(
                "the ledger does not go on from its {} entries that the log has seen",
                head.entries
            )));
        }
        // What another room of this host has spent since is in no record of this room's log.
        for head in self.anchor.ledgers()? {
            if !ledger.extends(&head)? {
                return Err(rolled_back(&format!(
                    "the ledger does not go on from its {} entries that a room of this host has seen",
                    head.entries
                )));
            }
        }
        facts.check_ledger(&ledger.postings(self.name())?)
    }

    /// The log's latest checkpoint, with its signature verified; none where there is no log yet.
    pub(crate) fn read_checkpoint(&self) -> Result<Option<SignedCheckpoint>> {
        match files::read(&self.dir, CHECKPOINT_FILE, CHECKPOINT_BYTES_MAX) {
            Ok(note) => self.open_checkpoint(&note).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(damaged(&error.to_string())),
        }
    }

    /// Reads a checkpoint of this log from bytes that come from elsewhere.
    pub(crate) fn open_checkpoint(&self, note: &[u8]) -> Result<SignedCheckpoint> {
        let opened = self.logs.iter().map(|log| SignedCheckpoint::open(note, log)).find(Result::is_ok);
        match opened {
            Some(Ok(checkpoint)) => Ok(checkpoint),
            _ => Err(damaged("the checkpoint is not signed by the registry's log")),
        }
    }

    fn recompute(&self, log: &Checkpoint) -> Result<Facts> {
        let read = |path: &str| self.read_tile(path);
        let entries = tile::verify_all(log.size, &log.root, &read).map_err(|denial| damaged(denial.fact()))?;
        let mut facts = Facts::default();
        entries.iter().try_for_each(|entry| facts.learn(entry))?;
        Ok(facts)
    }

    fn read_tile(&self, path: &str) -> Option<Vec<u8>> {
        files::read(&self.dir, &format!("{LOG_FOLDER}/{path}"), TILE_BYTES_MAX).ok()
    }

    /// The log must be what this host has seen last, or what it was about to write.
    fn compare(&self, anchor: &Anchor, log: &Checkpoint, facts: &Facts) -> Result<()> {
        let head = Head::new(log.size, &log.root);
        if anchor.log == head {
            return if anchor.summary == facts.summary() {
                Ok(())
            } else {
                Err(rolled_back("this host's state contradicts the log"))
            };
        }
        if anchor.pending.as_ref() == Some(&head) {
            return self.anchor.write(&self.anchor_of(head, facts, anchor.adopted)?);
        }
        let seen = anchor.log.size;
        Err(rolled_back(&format!("the log has {} records, and this host has seen {seen} of another history", log.size)))
    }

    fn anchor_of(&self, head: Head, facts: &Facts, adopted: u64) -> Result<Anchor> {
        let ledger = self.state.ledger()?.head()?;
        Ok(Anchor::new(&self.room, &self.registry_sha256, head, facts.summary(), adopted, ledger))
    }

    /// A host runs rooms that its operator has said to trust, and no other: whoever can write a room's folder can write
    /// another registry into it.
    fn unknown(&self) -> Fault {
        Fault::new(
            Code::StateMissing,
            format!("this host does not trust the registry that begins with sha256 {}", self.registry_sha256),
            "compare that digest with the parties, then run `glovebox state trust SHA256`; for a room that has run \
             elsewhere, `glovebox state adopt`",
        )
    }

    /// Begins to trust the room on this host.
    pub(crate) fn trust(&self) -> Result<Head> {
        let _lock = self.anchor.lock()?;
        let head = Head::new(0, &tree::empty_root());
        match self.anchor.read()? {
            Some(anchor) => Ok(anchor.log),
            None if self.read_checkpoint()?.is_some() => Err(Fault::new(
                Code::StateMissing,
                "the room has a log already",
                "adopt it with `glovebox state adopt SHA256 --checkpoint FILE`, from a checkpoint that a partner holds",
            )),
            None => {
                self.prepare_host()?;
                self.anchor.write(&self.anchor_of(head.clone(), &Facts::default(), 0)?)?;
                Ok(head)
            }
        }
    }

    /// Makes the anchor anew from a log that extends a checkpoint which someone else holds.
    pub(crate) fn adopt(&self, held: &SignedCheckpoint) -> Result<Head> {
        let _lock = self.anchor.lock()?;
        let signed = self.read_checkpoint()?.ok_or_else(|| damaged("there is no log"))?;
        let (log, held) = (signed.checkpoint().clone(), held.checkpoint());
        let read = |path: &str| self.read_tile(path);
        let tiles = Tiles::open(log.size, log.root, &read).map_err(|denial| damaged(denial.fact()))?;
        let extends = held.size <= log.size
            && tree::root(&tiles, held.size).map_err(|denial| damaged(denial.fact()))? == held.root;
        if !extends {
            return Err(rolled_back(&format!(
                "the log of {} records does not extend that checkpoint of {}",
                log.size, held.size
            )));
        }
        // What this host has seen itself counts as much as what others hold.
        if let Some(seen) = self.anchor.read()?.map(|anchor| anchor.log) {
            let is_known = seen.size <= log.size
                && tree::root(&tiles, seen.size).is_ok_and(|root| Head::new(seen.size, &root) == seen);
            if !is_known {
                return Err(rolled_back(&format!("this host has seen {} records of another history", seen.size)));
            }
        }
        let facts = self.recompute(&log)?;
        self.prepare_host()?;
        let mut ledger = self.state.ledger()?;
        ledger.adopt(self.name(), &facts.all_charges())?;
        facts.check_ledger(&ledger.postings(self.name())?)?;
        let head = Head::new(log.size, &log.root);
        self.anchor.write(&self.anchor_of(head.clone(), &facts, log.size)?)?;
        Ok(head)
    }

    /// A host that trusts its first room gets a ledger and a key of its own. One that has rooms already has had them, and
    /// new ones would be a fresh budget.
    fn prepare_host(&self) -> Result<()> {
        let rooms = files::list(&self.state.dir, ".", ".json").map_err(|error| unwritable(&error))?;
        if !rooms.is_empty() {
            return Ok(());
        }
        self.state.begin()
    }

    /// Verifies the whole log against its checkpoint.
    pub(crate) fn verify(&self) -> Result<Option<(SignedCheckpoint, Facts)>> {
        let Some(signed) = self.read_checkpoint()? else { return Ok(None) };
        let facts = self.recompute(signed.checkpoint())?;
        Ok(Some((signed, facts)))
    }

    /// Calls `with` on the tiles of the latest checkpoint.
    pub(crate) fn with_tiles<T>(
        &self,
        with: impl FnOnce(&Tiles<'_>, &SignedCheckpoint) -> glovebox_trust::Result<T>,
    ) -> Result<T> {
        let signed = self.read_checkpoint()?.ok_or_else(|| damaged("there is no log"))?;
        let log = signed.checkpoint();
        let read = |path: &str| self.read_tile(path);
        let tiles = Tiles::open(log.size, log.root, &read).map_err(|denial| damaged(denial.fact()))?;
        with(&tiles, &signed).map_err(|denial| damaged(denial.fact()))
    }

    /// The proof that a record is in the log, at its latest checkpoint.
    pub(crate) fn prove(&self, index: u64) -> Result<Vec<u8>> {
        self.with_tiles(|tiles, signed| {
            let hashes = tree::inclusion_proof(tiles, index, tiles.size())?;
            Ok(Proof::new(index, hashes, signed).to_bytes())
        })
    }

    /// Where in the log a record stands.
    pub(crate) fn find(&self, record: &[u8]) -> Result<Option<u64>> {
        self.with_tiles(|tiles, _| {
            for index in 0..tiles.size() {
                if tiles.entry(index)? == record {
                    return Ok(Some(index));
                }
            }
            Ok(None)
        })
    }

    /// Replaces the checkpoint by the same one with more signatures.
    pub(crate) fn put_checkpoint(&self, signed: &SignedCheckpoint) -> Result<()> {
        let _lock = self.anchor.lock()?;
        let before = self.read_checkpoint()?;
        if before.is_none_or(|before| before.checkpoint() != signed.checkpoint()) {
            return Err(damaged("the log has grown meanwhile"));
        }
        files::write(&self.dir, CHECKPOINT_FILE, &signed.to_bytes(), Existing::Replace)
            .map_err(|error| unwritable(&error))
    }
}

/// The journal while no one else writes to it. What it says stays true until it is dropped.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    journal: &'a Journal,
    _lock: std::fs::File,
    size: u64,
    root: tree::Hash,
    facts: Facts,
    adopted: u64,
}

impl Held<'_> {
    pub(crate) const fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(crate) fn head(&self) -> Head {
        Head::new(self.size, &self.root)
    }

    /// The name under which a key writes the log. Refuses one that may not.
    pub(crate) fn writer(&self, key: &SigningKey) -> Result<&VerifierKey> {
        self.journal.logs.iter().find(|log| log.public() == key.public()).ok_or_else(|| {
            Fault::new(
                Code::KeyScope,
                "the runtime's key is not registered to write the log",
                "give it the scope log in the registry's next version",
            )
        })
    }

    /// Appends records, durably: all of them or none. Returns the index of the first.
    pub(crate) fn append(&mut self, entries: &[Vec<u8>], key: &SigningKey) -> Result<u64> {
        let Journal { dir, anchor, .. } = self.journal;
        let log = self.writer(key)?;
        let read = |path: &str| self.journal.read_tile(path);
        let growth = Tiles::open(self.size, self.root, &read)
            .and_then(|tiles| tiles.appended(entries))
            .map_err(|denial| damaged(denial.fact()))?;
        let grown = Head::new(growth.size, &growth.root);
        let signed = SignedCheckpoint::sign(growth.size, growth.root, log, key).map_err(|why| damaged(&why))?;

        let mut facts = self.facts.clone();
        entries.iter().try_for_each(|entry| facts.learn(entry))?;

        // First the intent, then the files, then the checkpoint: whatever of these a crash leaves behind is understood.
        let before = self.journal.anchor_of(Head::new(self.size, &self.root), &self.facts, self.adopted)?;
        anchor.write(&before.intending(grown.clone()))?;
        for (path, bytes) in &growth.files {
            let path = format!("{LOG_FOLDER}/{path}");
            files::write(dir, &path, bytes, Existing::Replace).map_err(|error| unwritable(&error))?;
        }
        files::write(dir, CHECKPOINT_FILE, &signed.to_bytes(), Existing::Replace)
            .map_err(|error| unwritable(&error))?;
        if self.size == 0 {
            let vkey = format!("{log}\n");
            files::write(dir, VKEY_FILE, vkey.as_bytes(), Existing::Replace).map_err(|error| unwritable(&error))?;
        }
        let first = self.size;
        (self.size, self.root) = (growth.size, growth.root);
        self.facts = facts;
        anchor.write(&self.journal.anchor_of(grown, &self.facts, self.adopted)?)?;
        Ok(first)
    }

    /// The time, which never runs back behind what the log has seen.
    pub(crate) fn now(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.facts.not_before(now)
    }
}

fn unwritable(error: &std::io::Error) -> Fault {
    Fault::new(
        Code::ReceiptFailed,
        format!("cannot write the log: {error}"),
        "make room in the room's folder, and let `log` be a folder that can be written to",
    )
}

fn damaged(why: &str) -> Fault {
    Fault::new(Code::LogInvalid, format!("the log does not verify: {why}"), "bring back the room's log as it was")
}
