//! The budget ledger of a host: what each owner's data has told so far, to all recipients and from all rooms together.
//!
//! It lies in the host's state folder, not in a room, so that two rooms over the same data share it and nobody who can
//! write to a room can write to it. Entries are only ever added, each with the hash of the one before, and every change
//! is one immediate transaction, synced to disk before it returns: a run's amount is reserved before a row is read,
//! committed before a unit is shown to a question, and nothing is released before that. What is reserved counts as
//! spent: a process that is killed in between has told something, perhaps.

use std::collections::HashSet;
use std::os::fd::AsRawFd;
use std::time::Duration;

use cap_std::fs::Dir;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::accountant::{Curve, Filter};
use super::mechanism::{Cost, as_micros, femtos};
use crate::error::{Code, Fault, Result};
use crate::room::{Controls, Delta, Epsilon, sha256_hex};

/// The ledger's file in the state folder.
const LEDGER_FILE: &str = "ledger.sqlite";

/// What an account may spend in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifetime {
    /// Privacy loss, in millionths.
    pub epsilon_micros: Epsilon,
    /// Failure probability, in units of 1e-15.
    pub delta_femtos: Delta,
    /// Bits told about each identifier.
    pub bits_per_id: u32,
}

/// One run's cost to one account, and the account's limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charge {
    /// Whose data, per what unit.
    pub account: String,
    /// What is charged.
    pub cost: Cost,
    /// What the account may spend in all.
    pub lifetime: Lifetime,
}

impl Charge {
    pub(super) fn new(account: String, cost: Cost, controls: &Controls) -> Self {
        let lifetime = Lifetime {
            epsilon_micros: controls.lifetime_epsilon_micros,
            delta_femtos: controls.lifetime_delta_femtos,
            bits_per_id: controls.list.bits_per_id_lifetime,
        };
        Self { account, cost, lifetime }
    }

    /// Whether the account can pay this, after all that it paid before.
    pub(crate) fn check_affordable<'a>(&self, paid: impl IntoIterator<Item = &'a Cost>) -> Result<()> {
        let mut spent = Spent::default();
        paid.into_iter().for_each(|cost| spent.add(cost));
        let before = spent.clone();
        spent.add(&self.cost);
        if spent.is_within(&self.lifetime) { Ok(()) } else { Err(exhausted(self, &before)) }
    }
}

/// What an account has spent, in both ways of adding up.
#[derive(Clone, Debug, Default)]
struct Spent {
    epsilon_micros: u64,
    delta_femtos: u64,
    key_delta_femtos: u64,
    curve: Curve,
    bits_per_id: u32,
}

impl Spent {
    fn add(&mut self, cost: &Cost) {
        self.epsilon_micros = self.epsilon_micros.saturating_add(cost.epsilon_micros.micros());
        self.delta_femtos = self.delta_femtos.saturating_add(cost.delta_femtos.femtos());
        self.key_delta_femtos = self.key_delta_femtos.saturating_add(cost.key_delta_femtos.femtos());
        self.curve = self.curve.plus(&Curve::of(&cost.losses));
        self.bits_per_id = self.bits_per_id.saturating_add(cost.bits_per_id);
    }

    /// Either way of adding up will do, and each has half of the lifetime's delta: on every path that one of them admits,
    /// that one bounds the loss (docs/decisions/025).
    fn is_within(&self, lifetime: &Lifetime) -> bool {
        self.bits_per_id <= lifetime.bits_per_id && (self.adds_up(lifetime) || self.composes(lifetime))
    }

    /// Basic composition: epsilons and deltas are added.
    fn adds_up(&self, lifetime: &Lifetime) -> bool {
        self.epsilon_micros <= lifetime.epsilon_micros.micros()
            && self.delta_femtos <= lifetime.delta_femtos.femtos() / 2
    }

    /// A Rényi filter at the one order that the lifetime's numbers set, with a quarter of delta for its conversion.
    fn composes(&self, lifetime: &Lifetime) -> bool {
        let quarter = lifetime.delta_femtos.femtos() / 4;
        self.key_delta_femtos <= quarter
            && Filter::new(lifetime.epsilon_micros.micros(), femtos(quarter)).allows(&self.curve)
    }

    fn line(self, account: String) -> LedgerLine {
        let for_conversion = femtos((self.delta_femtos - self.key_delta_femtos).max(1_000_000));
        LedgerLine {
            account,
            epsilon_micros: Epsilon::from_micros(self.epsilon_micros),
            composed_epsilon: self.curve.epsilon(for_conversion).min(as_micros(self.epsilon_micros)),
            delta_femtos: Delta::from_femtos(self.delta_femtos),
            bits_per_id: self.bits_per_id,
        }
    }
}

/// What an account has spent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LedgerLine {
    /// Whose data, per what unit.
    pub account: String,
    /// Privacy loss, every run's added up, in millionths.
    pub epsilon_micros: Epsilon,
    /// Privacy loss by Rényi composition, at the delta that is spent and not on keys (at least 1e-9).
    pub composed_epsilon: f64,
    /// Failure probability, every run's added up, in units of 1e-15.
    pub delta_femtos: Delta,
    /// Bits told about each identifier.
    pub bits_per_id: u32,
}

/// What one run was charged on one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Posting {
    pub(crate) run_id: String,
    pub(crate) account: String,
    pub(crate) cost: Cost,
    /// Whether a unit may have been shown to a question. What is reserved and not given back is charged as well, but the
    /// log need not know of it: the process may have been killed in between.
    pub(crate) is_settled: bool,
}

/// How many entries the ledger has, and the hash of the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LedgerHead {
    pub(crate) entries: u64,
    pub(crate) sha256: String,
}

/// What is kept of a release.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept<'a> {
    /// The name of the question with its data.
    pub(crate) question: &'a str,
    pub(crate) answer: &'a [u8],
    pub(crate) sets_sha256: Option<&'a str>,
}

/// An answer that was released before.
#[derive(Clone, Debug)]
pub(crate) struct StoredAnswer {
    pub(crate) run_id: String,
    pub(crate) bytes: Vec<u8>,
}

/// A line of the ledger, as it is hashed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    room: String,
    run_id: String,
    state: State,
    /// What is reserved; empty in the entries that follow on a reservation.
    charges: Vec<Charge>,
    /// The name of the question with its data that the released answer is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    question: Option<String>,
    /// SHA-256 of the released answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer_sha256: Option<String>,
    /// SHA-256 of the record of who contributed, where no noise hides it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sets_sha256: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// The run may read data.
    Reserved,
    /// The run may show units to a question.
    Committed,
    /// The run's answer is kept, and may leave.
    Released,
    /// The run ended before it read a row.
    Cancelled,
}

/// An open ledger.
#[derive(Debug)]
pub struct Ledger(Connection);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS entry (
        number INTEGER PRIMARY KEY,
        text TEXT NOT NULL,
        sha256 TEXT NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS answer (
        key TEXT PRIMARY KEY,
        run TEXT NOT NULL,
        bytes BLOB NOT NULL
    ) STRICT;";

impl Ledger {
    /// Makes the ledger of a host that has none.
    pub(crate) fn create(state: &Dir) -> Result<()> {
        let connection = connect(state, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        connection.execute_batch(SCHEMA).map_err(failed)
    }

    /// Opens the ledger of a host and checks its chain. A host whose ledger is gone has no budget: an empty one would be
    /// a fresh one.
    pub(crate) fn open(state: &Dir) -> Result<Self> {
        let connection = connect(state, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('entry', 'answer')";
        if connection.query_row(tables, [], |row| row.get::<_, i64>(0)).map_err(failed)? != 2 {
            return Err(no_ledger("holds no accounts"));
        }
        let ledger = Self(connection);
        ledger.entries()?;
        Ok(ledger)
    }

    /// Whether the accounts can pay, without charging them. A later reservation may still be refused.
    pub(crate) fn check(&self, charges: &[Charge]) -> Result<()> {
        check_affordable(&self.entries()?, charges)
    }

    /// Whether an account can pay for so many runs.
    pub(crate) fn check_repeatedly(&self, charge: &Charge, runs: u32) -> Result<()> {
        let entries = self.entries()?;
        let paid = charged(&entries).filter(|paid| paid.account == charge.account).map(|paid| &paid.cost);
        charge.check_affordable(paid.chain(std::iter::repeat_n(&charge.cost, runs.saturating_sub(1) as usize)))
    }

    /// Reserves a run's amounts on all accounts or none, durably, before a row is read.
    pub(crate) fn reserve(&mut self, room: &str, run_id: &str, charges: &[Charge]) -> Result<()> {
        let transaction = begin(&mut self.0)?;
        let entries = read_entries(&transaction)?;
        if entries.iter().any(|entry| entry.run_id == run_id) {
            return Err(damaged(&format!("run {run_id} has been charged before")));
        }
        check_affordable(&entries, charges)?;
        let entry = Entry::new(room, run_id, State::Reserved);
        append(&transaction, &Entry { charges: charges.to_vec(), ..entry })?;
        transaction.commit().map_err(failed)
    }

    /// Settles what is reserved, durably, before a unit is shown to a question. It is never given back from here on.
    pub(crate) fn commit(&mut self, room: &str, run_id: &str) -> Result<()> {
        self.follow(&Entry::new(room, run_id, State::Committed), State::Reserved, |_| Ok(()))
    }

    /// Whether a run's amounts are settled.
    pub(crate) fn is_committed(&self, run_id: &str) -> Result<bool> {
        Ok(self.entries()?.iter().any(|entry| entry.run_id == run_id && entry.state == State::Committed))
    }

    /// Gives back what a run has reserved that ended before it read a row.
    pub(crate) fn cancel(&mut self, room: &str, run_id: &str) -> Result<()> {
        self.follow(&Entry::new(room, run_id, State::Cancelled), State::Reserved, |_| Ok(()))
    }

    /// Keeps a run's answer under the name of its question, durably, before it leaves.
    pub(crate) fn release(&mut self, room: &str, run_id: &str, release: &Kept<'_>) -> Result<()> {
        let entry = Entry {
            question: Some(release.question.to_owned()),
            answer_sha256: Some(sha256_hex(release.answer)),
            sets_sha256: release.sets_sha256.map(str::to_owned),
            ..Entry::new(room, run_id, State::Released)
        };
        self.follow(&entry, State::Committed, |transaction| {
            let insert = "INSERT OR IGNORE INTO answer VALUES (?1, ?2, ?3)";
            transaction.execute(insert, params![release.question, run_id, release.answer]).map_err(failed).map(drop)
        })
    }

    /// The records of contributors that there must be: of run and SHA-256.
    pub(crate) fn records_of_contributors(&self) -> Result<Vec<(String, String)>> {
        let entries = self.entries()?.into_iter();
        Ok(entries.filter_map(|entry| Some((entry.run_id, entry.sets_sha256?))).collect())
    }

    /// Adds an entry that may only follow on one of another state.
    fn follow(&mut self, entry: &Entry, after: State, also: impl Fn(&Transaction<'_>) -> Result<()>) -> Result<()> {
        let transaction = begin(&mut self.0)?;
        let last = read_entries(&transaction)?.into_iter().rfind(|known| known.run_id == entry.run_id);
        if last.is_none_or(|last| last.state != after || last.room != entry.room) {
            return Err(damaged(&format!("run {} is not where it must be in the ledger", entry.run_id)));
        }
        also(&transaction)?;
        append(&transaction, entry)?;
        transaction.commit().map_err(failed)
    }

    /// The answer that was released to the same question before.
    pub(crate) fn answer(&self, key: &str) -> Result<Option<StoredAnswer>> {
        let query = "SELECT run, bytes FROM answer WHERE key = ?1";
        let row = self.0.query_row(query, [key], |row| Ok(StoredAnswer { run_id: row.get(0)?, bytes: row.get(1)? }));
        let stored = match row {
            Err(rusqlite::Error::QueryReturnedNoRows) => return Ok(None),
            other => other.map_err(failed)?,
        };
        let digest = sha256_hex(&stored.bytes);
        let is_its = |entry: &Entry| {
            entry.run_id == stored.run_id
                && entry.question.as_deref() == Some(key)
                && entry.answer_sha256.as_ref() == Some(&digest)
        };
        if self.entries()?.iter().any(is_its) {
            return Ok(Some(stored));
        }
        Err(damaged("a stored answer is not the one that was released"))
    }

    /// How long the ledger is, and what it comes to.
    pub(crate) fn head(&self) -> Result<LedgerHead> {
        let query = "SELECT count(*), coalesce((SELECT sha256 FROM entry ORDER BY number DESC LIMIT 1), '') FROM entry";
        let head = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get(1)?));
        let (entries, sha256) = self.0.query_row(query, [], head).map_err(failed)?;
        Ok(LedgerHead { entries: entries.unsigned_abs(), sha256 })
    }

    /// Whether the ledger still has what it had when its head was that.
    pub(crate) fn extends(&self, head: &LedgerHead) -> Result<bool> {
        if head.entries == 0 {
            return Ok(head.sha256.is_empty());
        }
        let query = "SELECT sha256 FROM entry WHERE number = ?1";
        match self.0.query_row(query, [head.entries.cast_signed()], |row| row.get::<_, String>(0)) {
            Err(rusqlite::Error::QueryReturnedNoRows) => Ok(false),
            other => Ok(other.map_err(failed)? == head.sha256),
        }
    }

    /// Every charge of a room's runs that was not given back, by run and account.
    pub(crate) fn postings(&self, room: &str) -> Result<Vec<Posting>> {
        let entries = self.entries()?;
        let runs_of = |state: State| -> HashSet<&str> {
            entries.iter().filter(|entry| entry.state == state).map(|entry| entry.run_id.as_str()).collect()
        };
        let (committed, cancelled) = (runs_of(State::Committed), runs_of(State::Cancelled));
        let reserved = entries.iter().filter(|entry| entry.room == room && entry.state == State::Reserved);
        let kept = reserved.filter(|entry| !cancelled.contains(entry.run_id.as_str()));
        let posting = |entry: &Entry, charge: &Charge| Posting {
            run_id: entry.run_id.clone(),
            account: charge.account.clone(),
            cost: charge.cost.clone(),
            is_settled: committed.contains(entry.run_id.as_str()),
        };
        let posting = &posting;
        let postings = kept.flat_map(|entry| entry.charges.iter().map(move |charge| posting(entry, charge)));
        let mut postings: Vec<Posting> = postings.collect();
        postings.sort_by(|one, other| (&one.run_id, &one.account).cmp(&(&other.run_id, &other.account)));
        Ok(postings)
    }

    /// What every account has spent.
    pub fn lines(&self) -> Result<Vec<LedgerLine>> {
        let entries = self.entries()?;
        let mut accounts = std::collections::BTreeMap::<String, Spent>::new();
        for charge in charged(&entries) {
            accounts.entry(charge.account.clone()).or_default().add(&charge.cost);
        }
        Ok(accounts.into_iter().map(|(account, spent)| spent.line(account)).collect())
    }

    /// Takes in the charges that a room's log has and this ledger has not: for a room that has run elsewhere.
    pub(crate) fn adopt(&mut self, room: &str, charged: &[(String, Vec<Charge>)]) -> Result<()> {
        let transaction = begin(&mut self.0)?;
        let known = read_entries(&transaction)?;
        for (run_id, charges) in charged {
            if known.iter().any(|entry| entry.run_id == *run_id) {
                continue;
            }
            let reserved = Entry { charges: charges.clone(), ..Entry::new(room, run_id, State::Reserved) };
            append(&transaction, &reserved)?;
            append(&transaction, &Entry::new(room, run_id, State::Committed))?;
        }
        transaction.commit().map_err(failed)
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        read_entries(&self.0)
    }
}

impl Entry {
    fn new(room: &str, run_id: &str, state: State) -> Self {
        Self {
            room: room.into(),
            run_id: run_id.into(),
            state,
            charges: Vec::new(),
            question: None,
            answer_sha256: None,
            sets_sha256: None,
        }
    }
}

/// All that was ever reserved and not given back.
fn charged(entries: &[Entry]) -> impl Iterator<Item = &Charge> {
    let cancelled = entries.iter().filter(|entry| entry.state == State::Cancelled);
    let cancelled: HashSet<&str> = cancelled.map(|entry| entry.run_id.as_str()).collect();
    entries.iter().filter(move |entry| !cancelled.contains(entry.run_id.as_str())).flat_map(|entry| &entry.charges)
}

fn check_affordable(entries: &[Entry], charges: &[Charge]) -> Result<()> {
    charges.iter().try_for_each(|charge| {
        let paid = charged(entries).filter(|paid| paid.account == charge.account).map(|paid| &paid.cost);
        charge.check_affordable(paid)
    })
}

fn begin(connection: &mut Connection) -> Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)
}

/// All entries, if each is the one that was written after the one before it.
fn read_entries(connection: &Connection) -> Result<Vec<Entry>> {
    let mut query = connection.prepare("SELECT number, text, sha256 FROM entry ORDER BY number").map_err(failed)?;
    let rows = query
        .query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))
        .map_err(failed)?;
    let mut entries = Vec::new();
    let mut before = String::new();
    for row in rows {
        let (number, text, sha256) = row.map_err(failed)?;
        let is_next = usize::try_from(number).is_ok_and(|number| number == entries.len() + 1);
        if !is_next || chained(&before, &text) != sha256 {
            return Err(damaged(&format!("entry {number} does not follow on the one before it")));
        }
        entries.push(serde_json::from_str(&text).map_err(|error| damaged(&error.to_string()))?);
        before = sha256;
    }
    Ok(entries)
}

fn append(connection: &Connection, entry: &Entry) -> Result<()> {
    let text = serde_json::to_string(entry).map_err(|error| damaged(&error.to_string()))?;
    let last = "SELECT number, sha256 FROM entry ORDER BY number DESC LIMIT 1";
    let last = connection.query_row(last, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)));
    let (number, before) = match last {
        Err(rusqlite::Error::QueryReturnedNoRows) => (0, String::new()),
        other => other.map_err(failed)?,
    };
    let insert = "INSERT INTO entry VALUES (?1, ?2, ?3)";
    connection.execute(insert, params![number + 1, text, chained(&before, &text)]).map_err(failed).map(drop)
}

/// SHA-256 over the hash before, a line break, and the entry's text.
fn chained(before: &str, text: &str) -> String {
    sha256_hex(format!("{before}\n{text}").as_bytes())
}

/// Opens the file through the folder's handle: a path could name another folder by now.
fn connect(dir: &Dir, access: OpenFlags) -> Result<Connection> {
    match dir.symlink_metadata(LEDGER_FILE) {
        Ok(ledger) if ledger.is_file() => {}
        Ok(_) => return Err(no_ledger("is not a regular file")),
        Err(_) if access.contains(OpenFlags::SQLITE_OPEN_CREATE) => {}
        Err(error) => return Err(no_ledger(&format!("cannot be opened: {error}"))),
    }
    let path = format!("/proc/self/fd/{}/{LEDGER_FILE}", dir.as_raw_fd());
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
    connection.busy_timeout(Duration::from_secs(30)).map_err(failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    // Without FULL a power loss could forget the last entries.
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    Ok(connection)
}

fn no_ledger(why: &str) -> Fault {
    Fault::new(
        Code::LedgerFailed,
        format!("{LEDGER_FILE} of this host's state {why}"),
        "restore the host's own ledger; a host gets one when it trusts its first room",
    )
}

fn damaged(why: &str) -> Fault {
    Fault::new(
        Code::LedgerFailed,
        format!("{LEDGER_FILE}: {why}"),
        "restore the host's own ledger as it was; what it had spent cannot be known without it",
    )
}

fn exhausted(charge: &Charge, spent: &Spent) -> Fault {
    let Charge { account, cost, lifetime } = charge;
    let fact = if cost.bits_per_id > 0 {
        format!(
            "the run costs {} bits per identifier, and {} of {} are spent ({account})",
            cost.bits_per_id, spent.bits_per_id, lifetime.bits_per_id
        )
    } else {
        format!(
            "the run costs epsilon {} and delta {}, and epsilon {} of {} and delta {} of {} are spent \
             ({account})",
            cost.epsilon_micros,
            cost.delta_femtos,
            Epsilon::from_micros(spent.epsilon_micros),
            lifetime.epsilon_micros,
            Delta::from_femtos(spent.delta_femtos),
            lifetime.delta_femtos
        )
    };
    Fault::new(
        Code::BudgetExhausted,
        fact,
        "a budget does not refresh, but an identical run is free; the owners can agree to a larger budget",
    )
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn failed(error: rusqlite::Error) -> Fault {
    Fault::new(
        Code::LedgerFailed,
        format!("{LEDGER_FILE}: {error}"),
        "keep the host's state on a local disk with space left, and restore the ledger if it is damaged",
    )
}

#[cfg(test)]
mod tests {
    use super::super::accountant::Loss;
    use super::*;

    /// Without delta there is no other way to add up than adding.
    fn charge(epsilon: u64, lifetime: u64) -> Charge {
        let cost = Cost {
            epsilon_micros: Epsilon::from_micros(epsilon),
            delta_femtos: Delta::default(),
            key_delta_femtos: Delta::default(),
            losses: vec![Loss::Pure { epsilon_micros: epsilon }],
            bits_per_id: 0,
        };
        let lifetime =
            Lifetime { epsilon_micros: Epsilon::from_micros(lifetime), delta_femtos: Delta::default(), bits_per_id: 0 };
        Charge { account: "retailer, per household".into(), cost, lifetime }
    }

    fn kept(answer: &[u8]) -> Kept<'_> {
        Kept { question: "key", answer, sets_sha256: None }
    }

    fn new_ledger(state: &tempfile::TempDir) -> Ledger {
        let dir = crate::open_room(state.path()).unwrap();
        Ledger::create(&dir).unwrap();
        Ledger::open(&dir).unwrap()
    }

    #[test]
    fn a_ledger_that_is_gone_or_emptied_is_no_fresh_budget() {
        let state = tempfile::tempdir().unwrap();
        let dir = crate::open_room(state.path()).unwrap();
        assert_eq!(Ledger::open(&dir).unwrap_err().code(), Code::LedgerFailed);
        dir.write(LEDGER_FILE, b"").unwrap();
        assert_eq!(Ledger::open(&dir).unwrap_err().code(), Code::LedgerFailed);
        dir.remove_file(LEDGER_FILE).unwrap();
        dir.create("elsewhere").unwrap();
        dir.symlink("elsewhere", LEDGER_FILE).unwrap();
        assert_eq!(Ledger::open(&dir).unwrap_err().code(), Code::LedgerFailed);
    }

    fn spent(ledger: &Ledger) -> u64 {
        ledger.lines().unwrap().iter().map(|line| line.epsilon_micros.micros()).sum()
    }

    #[test]
    fn a_reservation_outlives_the_process_and_counts_as_spent() {
        let state = tempfile::tempdir().unwrap();
        new_ledger(&state).reserve("room", "run-1", &[charge(400, 1_000)]).unwrap();
        let mut ledger = new_ledger(&state);
        assert_eq!(spent(&ledger), 400);
        ledger.reserve("other room", "run-2", &[charge(600, 1_000)]).unwrap();
        let fault = ledger.reserve("room", "run-3", &[charge(1, 1_000)]).unwrap_err();
        assert_eq!((fault.code(), spent(&ledger)), (Code::BudgetExhausted, 1_000));
    }

    #[test]
    fn only_what_is_not_committed_is_given_back() {
        let state = tempfile::tempdir().unwrap();
        let mut ledger = new_ledger(&state);
        ledger.reserve("room", "run-1", &[charge(400, 1_000)]).unwrap();
        ledger.cancel("room", "run-1").unwrap();
        assert_eq!(spent(&ledger), 0);
        ledger.reserve("room", "run-2", &[charge(400, 1_000)]).unwrap();
        ledger.commit("room", "run-2").unwrap();
        assert!(ledger.cancel("room", "run-2").is_err());
        assert!(ledger.commit("room", "run-2").is_err(), "a run is committed once");
        assert!(ledger.release("room", "run-1", &kept(b"answer")).is_err(), "a cancelled run releases nothing");
        assert!(ledger.commit("room", "run-3").is_err(), "what is not reserved cannot be committed");
        assert_eq!(spent(&ledger), 400);
    }

    #[test]
    fn all_accounts_are_charged_or_none() {
        let state = tempfile::tempdir().unwrap();
        let mut ledger = new_ledger(&state);
        let poor = Charge { account: "other, per household".into(), ..charge(2, 1) };
        assert!(ledger.reserve("room", "run-1", &[charge(1, 1_000), poor]).is_err());
        assert_eq!(spent(&ledger), 0);
    }

    #[test]
    fn a_run_is_charged_once() {
        let state = tempfile::tempdir().unwrap();
        let mut ledger = new_ledger(&state);
        ledger.reserve("room", "run-1", &[charge(1, 1_000)]).unwrap();
        assert!(ledger.reserve("room", "run-1", &[charge(1, 1_000)]).is_err());
        assert_eq!(spent(&ledger), 1);
    }

    #[test]
    fn an_answer_is_the_one_that_was_released_first() {
        let state = tempfile::tempdir().unwrap();
        let mut ledger = new_ledger(&state);
        for (run, answer) in [("run-1", "one"), ("run-2", "two")] {
            ledger.reserve("room", run, &[charge(1, 1_000)]).unwrap();
            ledger.commit("room", run).unwrap();
            ledger.release("room", run, &kept(answer.as_bytes())).unwrap();
        }
        let stored = ledger.answer("key").unwrap().unwrap();
        assert_eq!((stored.run_id.as_str(), stored.bytes.as_slice()), ("run-1", b"one".as_slice()));
        assert!(ledger.answer("another").unwrap().is_none());
        ledger.0.execute("UPDATE answer SET bytes = ?1", [b"six".as_slice()]).unwrap();
        assert_eq!(ledger.answer("key").unwrap_err().code(), Code::LedgerFailed);
    }

    #[test]
    fn a_changed_or_missing_entry_is_noticed() {
        for change in [
            "UPDATE entry SET text = replace(text, '400', '4') WHERE number = 1",
            "DELETE FROM entry WHERE number = 1",
            "UPDATE entry SET number = 7 WHERE number = 2",
        ] {
            let state = tempfile::tempdir().unwrap();
            let mut ledger = new_ledger(&state);
            ledger.reserve("room", "run-1", &[charge(400, 1_000)]).unwrap();
            ledger.commit("room", "run-1").unwrap();
            ledger.0.execute_batch(change).unwrap();
            let dir = crate::open_room(state.path()).unwrap();
            assert_eq!(Ledger::open(&dir).unwrap_err().code(), Code::LedgerFailed, "{change}");
        }
    }

    #[test]
    fn a_shorter_ledger_does_not_extend_a_longer_one() {
        let state = tempfile::tempdir().unwrap();
        let mut ledger = new_ledger(&state);
        let empty = ledger.head().unwrap();
        ledger.reserve("room", "run-1", &[charge(1, 1_000)]).unwrap();
        let (head, of_another) = (ledger.head().unwrap(), LedgerHead { entries: 1, sha256: "00".into() });
        let extends = |ledger: &Ledger| [&empty, &head, &of_another].map(|head| ledger.extends(head).unwrap());
        assert_eq!(extends(&ledger), [true, true, false]);
        ledger.0.execute_batch("DELETE FROM entry").unwrap();
        assert_eq!(extends(&ledger), [true, false, false]);
    }

    /// Many Gaussian runs cost less together than their epsilons add up to; few Laplace runs cost what they add up to.
    #[test]
    fn an_account_pays_by_the_better_of_two_ways_to_add_up() {
        let affordable = |losses: Vec<Loss>, epsilon: u64, delta: u64| {
            let cost = Cost {
                epsilon_micros: Epsilon::from_micros(epsilon),
                delta_femtos: Delta::from_femtos(delta),
                key_delta_femtos: Delta::from_femtos(0),
                losses,
                bits_per_id: 0,
            };
            let charge = Charge { cost: cost.clone(), ..charge(0, 10_000_000) };
            let charge = Charge {
                lifetime: Lifetime { delta_femtos: Delta::from_femtos(1_000_000_000), ..charge.lifetime },
                ..charge
            };
            (0..200).take_while(|runs| charge.check_affordable(std::iter::repeat_n(&cost, *runs)).is_ok()).count()
        };
        // (1, 1e-9) by Gaussian noise, and epsilon 1 by Laplace noise in one and in eleven parts.
        let gaussian = affordable(vec![Loss::Gaussian { rho_picos: 14_973_000_000 }], 1_000_000, 1_000_000);
        assert!((80..110).contains(&gaussian), "{gaussian}");
        assert_eq!(affordable(vec![Loss::Pure { epsilon_micros: 1_000_000 }], 1_000_000, 0), 10);
        assert!(affordable(vec![Loss::Pure { epsilon_micros: 90_909 }; 11], 1_000_000, 0) > 30);
    }

    /// Reading what is spent and writing it back in two transactions would overspend here by about a quarter.
    #[test]
    fn many_writers_at_once_never_overspend() {
        let state = tempfile::tempdir().unwrap();
        new_ledger(&state);
        let write = |writer: u32| {
            let mut ledger = new_ledger(&state);
            (0..40)
                .filter(|run| ledger.reserve("room", &format!("{writer}-{run}"), &[charge(10, 1_000)]).is_ok())
                .count()
        };
        let paid: usize = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4).map(|writer| scope.spawn(move || write(writer))).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).sum()
        });
        assert_eq!((paid, spent(&new_ledger(&state))), (100, 1_000));
    }
}
