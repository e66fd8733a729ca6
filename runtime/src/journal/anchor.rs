//! What this host remembers of a room outside of the room's folder: whoever restores a backup of the one does not
//! restore the other.

use std::time::Duration;

use cap_std::fs::Dir;
use glovebox_trust::log::tree::Hash;
use serde::{Deserialize, Serialize};

use super::facts::Summary;
use crate::error::{Code, Fault, Result};
use crate::files::{self, Existing};
use crate::parse;
use crate::privacy::LedgerHead;

const VERSION: u32 = 3;
const BYTES_MAX: u64 = 16 << 20;

/// The size and the root of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Head {
    pub(crate) size: u64,
    pub(crate) root: String,
}

impl Head {
    pub(crate) fn new(size: u64, root: &Hash) -> Self {
        Self { size, root: data_encoding::HEXLOWER.encode(root) }
    }
}

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Anchor {
    version: u32,
    pub(super) room: String,
    /// SHA-256 of the room's first registry.
    pub(super) registry_sha256: String,
    /// What the log has come to.
    pub(super) log: Head,
    /// What it comes to if an append that had begun was finished.
    pub(super) pending: Option<Head>,
    /// What the records of `log` come to.
    pub(super) summary: Summary,
    /// How many records the log had when this host took the room over: those before speak of another host's ledger.
    pub(super) adopted: u64,
    /// The host's ledger as it was when this was written: rooms share it, and each has seen another end of it.
    pub(super) ledger: LedgerHead,
}

impl Anchor {
    pub(super) fn new(
        room: &str,
        registry_sha256: &str,
        log: Head,
        summary: Summary,
        adopted: u64,
        ledger: LedgerHead,
    ) -> Self {
        let (room, registry_sha256) = (room.into(), registry_sha256.into());
        Self { version: VERSION, room, registry_sha256, log, pending: None, summary, adopted, ledger }
    }

    /// The same, with an append about to begin.
    pub(super) fn intending(self, pending: Head) -> Self {
        Self { pending: Some(pending), ..self }
    }
}

/// Where a room's anchor lies.
#[derive(Debug)]
pub(super) struct AnchorFile {
    folder: Dir,
    name: String,
    room: String,
    registry_sha256: String,
}

/// For how long a command waits for another one that writes to the same room.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);

impl AnchorFile {
    /// One file per room, named after its first registry: another room of the same name is another room.
    pub(super) fn new(folder: Dir, room: &str, registry_sha256: &str) -> Self {
        let name = format!("{room}-{}.json", registry_sha256.get(..16).unwrap_or(registry_sha256));
        Self { folder, name, room: room.into(), registry_sha256: registry_sha256.into() }
    }

    /// One writer of a room at a time. The lock lies beside the anchor, where no one who writes to the room can remove
    /// it; the system gives it back when a process ends, however it ends.
    pub(super) fn lock(&self) -> Result<std::fs::File> {
        let file = files::open_lock(&self.folder, &format!("{}.lock", self.name));
        let file = file.map_err(|error| self.damaged(&error.to_string()))?;
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(std::fs::TryLockError::WouldBlock) if waited < PATIENCE => {
                    std::thread::sleep(PAUSE);
                    waited += PAUSE;
                }
                Err(error) => return Err(self.damaged(&format!("it stays locked: {error}"))),
            }
        }
    }

    pub(super) fn read(&self) -> Result<Option<Anchor>> {
        let bytes = match files::read(&self.folder, &self.name, BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.damaged(&error.to_string())),
        };
        let anchor = self.parse(&bytes)?;
        if (&anchor.room, &anchor.registry_sha256) != (&self.room, &self.registry_sha256) {
            return Err(self.damaged("it is of another room"));
        }
        Ok(Some(anchor))
    }

    fn parse(&self, bytes: &[u8]) -> Result<Anchor> {
        let anchor: Anchor = parse::json(bytes).map_err(|why| self.damaged(&why))?;
        if anchor.version == VERSION { Ok(anchor) } else { Err(self.damaged("it has an unknown version")) }
    }

    /// Where the host's ledger was when each of the host's rooms last wrote its anchor.
    pub(super) fn ledgers(&self) -> Result<Vec<LedgerHead>> {
        let names = files::list(&self.folder, ".", ".json").map_err(|error| self.damaged(&error.to_string()))?;
        let head = |name: String| {
            let other =
                Self { folder: self.folder.try_clone()?, name, room: String::new(), registry_sha256: String::new() };
            let bytes = files::read(&other.folder, &other.name, BYTES_MAX)?;
            Ok(other.parse(&bytes).map(|anchor| anchor.ledger))
        };
        let heads = names.into_iter().map(head).collect::<std::io::Result<Vec<Result<LedgerHead>>>>();
        heads.map_err(|error| self.damaged(&error.to_string()))?.into_iter().collect()
    }

    pub(super) fn write(&self, anchor: &Anchor) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(anchor).map_err(|error| self.damaged(&error.to_string()))?;
        files::write(&self.folder, &self.name, &bytes, Existing::Replace)
            .map_err(|error| self.damaged(&error.to_string()))
    }

    /// The room's name among this host's rooms.
    pub(super) fn room_name(&self) -> &str {
        self.name.trim_end_matches(".json")
    }

    fn damaged(&self, why: &str) -> Fault {
        Fault::new(
            Code::StateMissing,
            format!("this host's state of the room, {}, cannot be used: {why}", self.name),
            "see `glovebox state` for where it lies; `glovebox state adopt` makes it anew from a checkpoint that a partner holds",
        )
    }
}
