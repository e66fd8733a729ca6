//! Who stood behind every number that left: a history of keyed hashes, so that no two releases differ by a few units.
//!
//! Exact numbers over two sets that differ by one unit give that unit away. A run is refused if one of its sets of
//! contributors and one that was released before, from data of a shared lineage, differ by more than nobody and by fewer
//! units that all parties know than the limit: units that one party alone has could be made up to make the difference
//! large enough. Equal sets may be released again. To whom the earlier release went does not matter: recipients
//! can meet. Groups of one run may share units, so they are held against each other as well. More than two sets at a
//! time are not looked at: in general that is intractable.
//!
//! Each run is one file, written whole and durable before its numbers leave. A file that is not exactly what was written
//! stops every run until it is restored: a history that forgets would allow what it is there to refuse. One earlier file
//! is in memory at a time. Hosts that have a ledger in common have their records there as well, and each keeps copies.

mod digests;
mod record;

use std::fmt;
use std::io;

use cap_std::fs::Dir;
use glovebox_source_protocol::store::RecordName;
use serde::{Deserialize, Serialize};

use self::digests::difference_below;
pub(crate) use self::digests::{Digester, Digests, marked};
use self::record::Record;
use super::ledger::Ledger;
use crate::error::{Code, Fault, Result};
use crate::files::{self, Existing};

const FOLDER: &str = "contributors";
const LOCK: &str = "contributors/.lock";
const ENDING: &str = ".sets";
/// A hundred sets of a million units.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// What a run is about to release.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    run: String,
    recipient: String,
    kind: SetKind,
    lineages: Vec<String>,
    groups: Vec<ReleasedSet>,
    whole: Digests,
}

/// What a set of contributors is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SetKind {
    /// Groups of a table.
    Groups,
    /// A list, or its segments.
    List,
}

/// The contributors of one released group or segment.
#[derive(Clone, Debug)]
pub(crate) struct ReleasedSet {
    /// None where keys are open: then even its name is the guest's, and must not reach a message.
    pub(crate) label: Option<String>,
    pub(crate) digests: Digests,
}

impl Release {
    /// The sets are those of released groups alone; together they are the whole.
    pub(crate) fn new(
        run: String,
        recipient: String,
        kind: SetKind,
        lineages: Vec<String>,
        groups: Vec<ReleasedSet>,
    ) -> Self {
        let whole = Digests::union(groups.iter().map(|group| &group.digests));
        Self { run, recipient, kind, lineages, groups, whole }
    }

    fn sets(&self) -> impl Iterator<Item = (Part<'_>, &Digests)> {
        let groups = self.groups.iter().map(|group| (Part::Group(group.label.as_deref()), &group.digests));
        groups.chain(std::iter::once((Part::Whole, &self.whole)))
    }

    fn too_close(&self, part: Part<'_>, earlier: Option<&str>, limit: u64) -> Denial {
        let label = match part {
            Part::Group(label) => label.map(str::to_owned),
            Part::Whole => None,
        };
        let is_whole = matches!(part, Part::Whole);
        Denial::TooClose { earlier: earlier.map(str::to_owned), kind: self.kind, is_whole, label, limit }
    }
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Group(Option<&'a str>),
    Whole,
}

/// Why a release must not happen. It never says by how many units two sets differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// A new set is almost one that was released.
    TooClose {
        /// The earlier run; none for another set of the same run.
        earlier: Option<String>,
        kind: SetKind,
        /// Whether the set is that of all groups together.
        is_whole: bool,
        label: Option<String>,
        limit: u64,
    },
    /// The history is not what was written.
    History(Fault),
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::TooClose { earlier, kind, is_whole, label, limit } = self else {
            return f.write_str("the history of earlier releases cannot be used");
        };
        match (kind, is_whole, label) {
            (SetKind::Groups, true, _) => f.write_str("the table as a whole"),
            (SetKind::Groups, false, Some(label)) => write!(f, "the group {label}"),
            (SetKind::Groups, false, None) => f.write_str("a group"),
            (SetKind::List, true, _) | (SetKind::List, false, None) => f.write_str("the list"),
            (SetKind::List, false, Some(label)) => write!(f, "the segment {label}"),
        }?;
        match earlier {
            Some(run) => write!(f, " differs from a set of run {run} by fewer than {limit} units"),
            None => write!(f, " differs from another set of this run by fewer than {limit} units"),
        }
    }
}

impl From<Denial> for Fault {
    fn from(denial: Denial) -> Self {
        let fact = denial.to_string();
        match denial {
            Denial::History(fault) => fault,
            Denial::TooClose { .. } => Self::new(
                Code::DifferenceTooSmall,
                fact,
                "ask a question whose groups are the same or clearly different",
            ),
        }
    }
}

impl From<Fault> for Denial {
    fn from(fault: Fault) -> Self {
        Self::History(fault)
    }
}

/// The released sets of all runs on this host. While one process has it open, others wait: what was checked is still so
/// when it is recorded.
#[derive(Debug)]
pub(crate) struct History {
    state: Dir,
    _lock: std::fs::File,
}

impl History {
    /// Opens the history in the host's state folder, and makes it where there is none.
    pub(crate) fn open(state: &Dir) -> Result<Self> {
        let locked = || {
            let lock = files::open_lock(state, LOCK)?;
            lock.lock()?;
            Ok(Self { state: state.try_clone()?, _lock: lock })
        };
        locked().map_err(|error: io::Error| unusable(FOLDER, &error))
    }

    /// Opens the history of all hosts of the ledger, if none of what must be there is missing.
    pub(crate) fn whole(state: &Dir, ledger: &Ledger) -> Result<Self> {
        let history = Self::open(state)?;
        history.catch_up(ledger)?;
        Ok(history)
    }

    /// Writes down what is released unless a set of it is almost one that was released before: of two hosts that do so at
    /// once, one compares with the other's. Returns the record's SHA-256.
    pub(crate) fn admit(&self, release: &Release, limit: u64, ledger: &Ledger) -> Result<String, Denial> {
        loop {
            let common = self.catch_up(ledger)?;
            self.check(release, limit)?;
            match common {
                Some(known) if !share(release, known, ledger)? => {}
                _ => return Ok(self.record(release)?),
            }
        }
    }

    /// Brings the records of other hosts, and refuses a history that lacks a record which the ledger knows. Returns how
    /// many records hosts have in common, if they have any.
    fn catch_up(&self, ledger: &Ledger) -> Result<Option<u64>> {
        let common = ledger.records()?;
        common.iter().flatten().try_for_each(|name| self.bring(name, ledger))?;
        let names = common.iter().flatten().map(|name| (name.run.clone(), name.sha256.clone()));
        let known: Vec<_> = ledger.records_of_contributors()?.into_iter().chain(names).collect();
        self.check_whole(&known)?;
        Ok(common.map(|common| common.len() as u64))
    }

    /// A copy of another host's record, once it is found to be what was written.
    fn bring(&self, name: &RecordName, ledger: &Ledger) -> Result<()> {
        let path = path_of(&name.run)?;
        if self.state.exists(&path) {
            return Ok(());
        }
        let bytes = ledger.record(&name.run)?.unwrap_or_default();
        let record = Record::parse(bytes.clone()).map_err(|error| unusable(&path, &error))?;
        if data_encoding::HEXLOWER.encode(&record.sha256()) != name.sha256 {
            return Err(unusable(&path, &io::Error::other("the ledger's server has another one")));
        }
        files::write(&self.state, &path, &bytes, Existing::Refuse).map_err(|error| unusable(&path, &error))
    }

    /// Refuses a release of which a set is almost one that was released before from a shared lineage.
    pub(crate) fn check(&self, release: &Release, limit: u64) -> Result<(), Denial> {
        check_against_itself(release, limit)?;
        for path in self.paths()? {
            let record = self.read(&path)?;
            if record.lineages().iter().any(|lineage| release.lineages.contains(lineage)) {
                check_against(release, &record, limit)?;
            }
        }
        Ok(())
    }

    /// Writes down what is released, durably. To be called before anything leaves. Returns the record's SHA-256, by
    /// which the ledger knows it.
    pub(crate) fn record(&self, release: &Release) -> Result<String> {
        let path = path_of(&release.run)?;
        let mut sha256 = [0; 32];
        let fill = |file: &mut _| record::write(release, file).map(|hash| sha256 = hash);
        let written = files::write_with(&self.state, &path, Existing::Refuse, fill);
        written.map_err(|error| unusable(&path, &error))?;
        Ok(data_encoding::HEXLOWER.encode(&sha256))
    }

    /// Refuses a history that lacks a record which the ledger knows: of run and SHA-256.
    pub(crate) fn check_whole(&self, known: &[(String, String)]) -> Result<()> {
        for (run, sha256) in known {
            let path = format!("{FOLDER}/{run}{ENDING}");
            if data_encoding::HEXLOWER.encode(&self.read(&path)?.sha256()) != *sha256 {
                return Err(unusable(&path, &io::Error::other("it is not the one that was released")));
            }
        }
        Ok(())
    }

    fn paths(&self) -> Result<Vec<String>> {
        let names = files::list(&self.state, FOLDER, ENDING).map_err(|error| unusable(FOLDER, &error))?;
        Ok(names.into_iter().map(|name| format!("{FOLDER}/{name}")).collect())
    }

    fn read(&self, path: &str) -> Result<Record> {
        let read = files::read(&self.state, path, FILE_BYTES_MAX).and_then(Record::parse);
        read.map_err(|error| unusable(path, &error))
    }
}

/// Gives the other hosts a record, if they still have so many. Says whether it did.
fn share(release: &Release, known: u64, ledger: &Ledger) -> Result<bool> {
    let mut bytes = Vec::new();
    let sha256 = record::write(release, &mut bytes).map_err(|error| unusable(&release.run, &error))?;
    let name = RecordName { run: release.run.clone(), sha256: data_encoding::HEXLOWER.encode(&sha256) };
    ledger.keep(known, &name, &bytes)
}

/// A run's id becomes a file's name.
fn path_of(run: &str) -> Result<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..=128).contains(&run.len()) && run.bytes().all(is_plain) {
        return Ok(format!("{FOLDER}/{run}{ENDING}"));
    }
    Err(unusable(FOLDER, &io::Error::new(io::ErrorKind::InvalidInput, "not an id of a run")))
}

fn check_against_itself(release: &Release, limit: u64) -> Result<(), Denial> {
    for (at, (part, set)) in release.sets().enumerate() {
        for (_, other) in release.sets().take(at) {
            if difference_below(set.iter(), other.iter(), limit).is_some_and(|units| units > 0) {
                return Err(release.too_close(part, None, limit));
            }
        }
    }
    Ok(())
}

fn check_against(release: &Release, record: &Record, limit: u64) -> Result<(), Denial> {
    for (part, set) in release.sets() {
        for earlier in record.sets() {
            if difference_below(set.iter(), earlier, limit).is_some_and(|units| units > 0) {
                return Err(release.too_close(part, Some(record.run()), limit));
            }
        }
    }
    Ok(())
}

fn unusable(path: &str, error: &io::Error) -> Fault {
    Fault::new(
        Code::HistoryFailed,
        format!("the history of earlier releases, {path}, cannot be used: {error}"),
        "restore the host's state folder from its backup: without its history nothing exact may be released",
    )
}

#[cfg(test)]
mod tests;
