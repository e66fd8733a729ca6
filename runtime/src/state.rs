//! What a host remembers of its rooms: a folder of its own, and a ledger in that folder or on a server.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use cap_std::fs::Dir;

use crate::error::{Code, Fault, Result};
use crate::files;
use crate::privacy::Ledger;

/// Where a host remembers its rooms.
#[derive(Clone, Copy, Debug)]
pub struct StateAt<'a> {
    /// The folder.
    pub folder: &'a Path,
    /// The server of the ledger, as `postgres://USER@HOST/DATABASE`; without one the ledger is in the folder.
    pub store: Option<&'a str>,
}

impl<'a, P: AsRef<Path>> From<&'a P> for StateAt<'a> {
    fn from(folder: &'a P) -> Self {
        Self { folder: folder.as_ref(), store: None }
    }
}

/// A host's state, open.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) dir: Dir,
    store: Option<String>,
}

impl State {
    /// Opens the folder, and makes it where it is missing.
    pub(crate) fn open(at: StateAt<'_>) -> Result<Self> {
        // It holds what was released and the secret that names units: no one else's to read.
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(at.folder);
        let dir = made.and_then(|()| files::open_dir(at.folder)).map_err(|error| {
            let folder = at.folder.display();
            unusable(&format!("cannot open {folder}, the folder of this host's state: {error}"))
        })?;
        Ok(Self { dir, store: at.store.map(str::to_owned) })
    }

    /// Another handle of the same.
    pub(crate) fn try_clone(&self) -> Result<Self> {
        Ok(Self { dir: self.try_clone_dir()?, store: self.store.clone() })
    }

    /// Another handle of the folder.
    pub(crate) fn try_clone_dir(&self) -> Result<Dir> {
        let lost = |error: io::Error| unusable(&format!("the folder of this host's state: {error}"));
        self.dir.try_clone().map_err(lost)
    }

    /// The host's budget ledger.
    pub(crate) fn ledger(&self) -> Result<Ledger> {
        Ledger::open(&self.dir, self.store.as_deref())
    }

    /// A host that trusts its first room gets a ledger and a key. One that has rooms already has had them, and new ones
    /// would be a fresh budget.
    pub(crate) fn begin(&self) -> Result<()> {
        Ledger::create(&self.dir, self.store.as_deref())
    }
}

fn unusable(fact: &str) -> Fault {
    Fault::new(Code::StateMissing, fact, "name another folder with --state")
}
