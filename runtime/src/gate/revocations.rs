//! What the parties have withdrawn: one list of each, complete, versioned, and fresh.

use cap_std::fs::Dir;
use chrono::{DateTime, Utc};
use glovebox_trust::approval::Approval;
use glovebox_trust::registry::Registry;
use glovebox_trust::revocations::{RevocationList, RunFacts};
use serde::{Deserialize, Serialize};

use super::{SIGNATURE_SUFFIX, TEXT_BYTES_MAX, list_files, read};
use crate::error::{Code, Fault, Result};

const LISTS_MAX: usize = 100_000;

/// Which of a party's lists was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListRecord {
    pub(crate) party: String,
    pub(crate) version: u64,
    pub(crate) sha256: String,
}

/// The lists of the parties that a run needs.
#[derive(Clone, Debug)]
pub(crate) struct Lists(Vec<RevocationList>);

/// The folder of a party's lists.
pub(crate) fn folder_of(party: &str) -> String {
    format!("revocations/{party}")
}

/// The path of a party's list.
pub(crate) fn path_of(party: &str, version: u64) -> String {
    format!("{}/{version}{SIGNATURE_SUFFIX}", folder_of(party))
}

impl Lists {
    /// Reads the latest list of each party. Without a fresh list of one of them nothing runs.
    pub(crate) fn read<'a>(
        dir: &Dir,
        registry: &Registry,
        parties: impl IntoIterator<Item = &'a str>,
        now: DateTime<Utc>,
    ) -> Result<Self> {
        let read = |party: &'a str| {
            let version = latest(dir, party)?.ok_or_else(|| missing(party))?;
            open(dir, registry, party, version, now)
        };
        parties.into_iter().map(read).collect::<Result<_>>().map(Self)
    }

    /// Reads lists that were looked at before, as of then.
    pub(crate) fn at(dir: &Dir, registry: &Registry, records: &[ListRecord], at: DateTime<Utc>) -> Result<Self> {
        let read = |record: &ListRecord| {
            let list = open(dir, registry, &record.party, record.version, at)?;
            if list.sha256() == record.sha256 {
                return Ok(list);
            }
            let fact = format!("{} has another list of version {}", record.party, record.version);
            Err(Fault::new(Code::RevocationsRollback, fact, "ask for the party's lists as they were"))
        };
        records.iter().map(read).collect::<Result<_>>().map(Self)
    }

    /// Refuses what a party has withdrawn: the agreement, the component, the runtime, or one of the approvals.
    pub(crate) fn check(&self, run: &RunFacts<'_>, approvals: &[Approval]) -> Result<()> {
        let remedy = "ask the party; what is withdrawn stays withdrawn, a new revision can be approved";
        for list in &self.0 {
            list.check(run).map_err(|denial| Fault::of("withdrawn", &denial, remedy))?;
            if let Some(approval) = approvals.iter().find(|approval| list.withdraws(approval)) {
                let fact = format!("the approval {} of {} is withdrawn", approval.sequence(), approval.principal());
                return Err(Fault::new(Code::Revoked, fact, remedy));
            }
        }
        Ok(())
    }

    /// Which lists these are.
    pub(crate) fn records(&self) -> Vec<ListRecord> {
        let record = |list: &RevocationList| ListRecord {
            party: list.party().into(),
            version: list.version(),
            sha256: list.sha256().into(),
        };
        self.0.iter().map(record).collect()
    }
}

/// The version of a party's latest list.
pub(crate) fn latest(dir: &Dir, party: &str) -> Result<Option<u64>> {
    let folder = folder_of(party);
    if !dir.exists(&folder) {
        return Ok(None);
    }
    let names = list_files(dir, &folder, SIGNATURE_SUFFIX, LISTS_MAX, Code::RevocationsMissing)?;
    let version = |name: &String| {
        let number = name.strip_suffix(SIGNATURE_SUFFIX)?;
        number.parse().ok().filter(|version: &u64| version.to_string() == number)
    };
    Ok(names.iter().filter_map(version).max())
}

/// Opens one of a party's lists.
pub(crate) fn open(
    dir: &Dir,
    registry: &Registry,
    party: &str,
    version: u64,
    now: DateTime<Utc>,
) -> Result<RevocationList> {
    let path = path_of(party, version);
    let bytes = read(dir, &path, TEXT_BYTES_MAX, Code::RevocationsMissing)?;
    let remedy = "let a person of the party sign a fresh list with `glovebox revoke`";
    let list = RevocationList::open(&bytes, registry, party, now)
        .map_err(|denial| Fault::of(&format!("the list {path}"), &denial, remedy))?;
    if list.version() == version {
        return Ok(list);
    }
    Err(Fault::new(Code::RevocationsMissing, format!("{path} holds version {}", list.version()), remedy))
}

fn missing(party: &str) -> Fault {
    Fault::new(
        Code::RevocationsMissing,
        format!("there is no list of what {party} has withdrawn"),
        "let a person of the party sign one with `glovebox revoke`; an empty one will do",
    )
}
