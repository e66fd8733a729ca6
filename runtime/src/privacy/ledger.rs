//! The budget ledger of a host: what each owner's data has told so far, to all recipients and from all rooms together.
//!
//! It lies in the host's state folder, or on a server that hosts have in common, and not in a room: so two rooms over the
//! same data share it, and nobody who can write to a room can write to it. Entries are only ever added, each with the
//! hash of the one before. A change is decided on the entries as they are, added only if no other was added meanwhile, and
//! durable before it returns: a run's amount is reserved before a row is read, committed before a unit is shown to a
//! question, and nothing is released before that. What is reserved counts as spent: a process that is killed in between
//! has told something, perhaps.

use std::collections::HashSet;

use cap_std::fs::Dir;
use glovebox_source_protocol::store::{RecordName, Row};
use serde::{Deserialize, Serialize};

use super::accountant::{Curve, Filter};
use super::mechanism::{Cost, as_micros, femtos};
use super::store::{self, Store};
use crate::error::{Code, Fault, Result};
use crate::room::{Controls, Delta, Epsilon, sha256_hex};

/// How often a change begins anew because someone else was first. Of those who race one always comes through.
const ATTEMPTS: usize = 10_000;

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
pub struct Ledger(Box<dyn Store>);

impl Ledger {
    /// Makes the ledger of a host that has none, and the host's key. `place` names a server; without one it is in the
    /// folder.
    pub(crate) fn create(state: &Dir, place: Option<&str>) -> Result<()> {
        store::create(state, place)
    }

    /// Opens the ledger of a host and checks its chain. A host whose ledger is gone has no budget: an empty one would be
    /// a fresh one.
    pub(crate) fn open(state: &Dir, place: Option<&str>) -> Result<Self> {
        let ledger = Self(store::open(state, place)?);
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
        let reserved = Entry { charges: charges.to_vec(), ..Entry::new(room, run_id, State::Reserved) };
        self.change(None, |entries| {
            if entries.iter().any(|entry| entry.run_id == run_id) {
                return Err(damaged(&format!("run {run_id} has been charged before")));
            }
            check_affordable(entries, charges)?;
            Ok(vec![reserved.clone()])
        })
    }

    /// Settles what is reserved, durably, before a unit is shown to a question. It is never given back from here on.
    pub(crate) fn commit(&mut self, room: &str, run_id: &str) -> Result<()> {
        self.follow(&Entry::new(room, run_id, State::Committed), State::Reserved, None)
    }

    /// Whether a run's amounts are settled.
    pub(crate) fn is_committed(&self, run_id: &str) -> Result<bool> {
        Ok(self.entries()?.iter().any(|entry| entry.run_id == run_id && entry.state == State::Committed))
    }

    /// Gives back what a run has reserved that ended before it read a row.
    pub(crate) fn cancel(&mut self, room: &str, run_id: &str) -> Result<()> {
        self.follow(&Entry::new(room, run_id, State::Cancelled), State::Reserved, None)
    }

    /// Keeps a run's answer under the name of its question, durably, before it leaves.
    pub(crate) fn release(&mut self, room: &str, run_id: &str, release: &Kept<'_>) -> Result<()> {
        let entry = Entry {
            question: Some(release.question.to_owned()),
            answer_sha256: Some(sha256_hex(release.answer)),
            sets_sha256: release.sets_sha256.map(str::to_owned),
            ..Entry::new(room, run_id, State::Released)
        };
        self.follow(&entry, State::Committed, Some(release))
    }

    /// The records of contributors that there must be: of run and SHA-256.
    pub(crate) fn records_of_contributors(&self) -> Result<Vec<(String, String)>> {
        let entries = self.entries()?.into_iter();
        Ok(entries.filter_map(|entry| Some((entry.run_id, entry.sets_sha256?))).collect())
    }

    /// The records of contributors that the ledger's hosts have in common, in order; none of a ledger of one host.
    pub(super) fn records(&self) -> Result<Option<Vec<RecordName>>> {
        self.0.records()
    }

    /// One of these records.
    pub(super) fn record(&self, run: &str) -> Result<Option<Vec<u8>>> {
        self.0.record(run)
    }

    /// Adds such a record, durably, if there are still just so many: whoever compared with those must compare again with
    /// more. Says whether it was added.
    pub(super) fn keep(&self, after: u64, name: &RecordName, bytes: &[u8]) -> Result<bool> {
        self.0.keep(after, name, bytes)
    }

    /// Adds an entry that may only follow on one of another state.
    fn follow(&mut self, entry: &Entry, after: State, kept: Option<&Kept<'_>>) -> Result<()> {
        self.change(kept.map(|kept| (entry.run_id.as_str(), kept)), |entries| {
            let last = entries.iter().rfind(|known| known.run_id == entry.run_id);
            if last.is_none_or(|last| last.state != after || last.room != entry.room) {
                return Err(damaged(&format!("run {} is not where it must be in the ledger", entry.run_id)));
            }
            Ok(vec![entry.clone()])
        })
    }

    /// Adds what follows from the entries that there are, all of it or nothing, and begins anew where someone else has
    /// added to them meanwhile.
    fn change(
        &mut self,
        answer: Option<(&str, &Kept<'_>)>,
        make: impl Fn(&[Entry]) -> Result<Vec<Entry>>,
    ) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let (entries, head) = self.read()?;
            let rows = chain(&head, &make(&entries)?)?;
            let Some(first) = rows.first() else { return Ok(()) };
            match self.0.append(&head, &rows, answer) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                // The commit may have come through, and only its answer not.
                Err(lost) if lost.code() == Code::StoreUnreachable => {
                    let is_there = self.0.rows(first.number).is_ok_and(|there| there.starts_with(&rows));
                    return if is_there { Ok(()) } else { Err(lost) };
                }
                Err(fault) => return Err(fault),
            }
        }
        Err(damaged("others are always first, or its head is not that of its entries"))
    }

    /// The answer that was released to the same question before.
    pub(crate) fn answer(&self, key: &str) -> Result<Option<StoredAnswer>> {
        let Some(stored) = self.0.answer(key)? else { return Ok(None) };
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
        self.0.head()
    }

    /// Whether the ledger still has what it had when its head was that.
    pub(crate) fn extends(&self, head: &LedgerHead) -> Result<bool> {
        if head.entries == 0 {
            return Ok(head.sha256.is_empty());
        }
        let first = self.0.rows(head.entries)?.into_iter().next();
        Ok(first.is_some_and(|row| (row.number, row.sha256) == (head.entries, head.sha256.clone())))
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
        self.change(None, |known| {
            let is_new = |run_id: &String| known.iter().all(|entry| entry.run_id != *run_id);
            let new = charged.iter().filter(|(run_id, _)| is_new(run_id));
            let entries = new.flat_map(|(run_id, charges)| {
                let reserved = Entry { charges: charges.clone(), ..Entry::new(room, run_id, State::Reserved) };
                [reserved, Entry::new(room, run_id, State::Committed)]
            });
            Ok(entries.collect())
        })
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        self.read().map(|(entries, _)| entries)
    }

    /// All entries, if each is the one that was written after the one before it, and what they come to.
    fn read(&self) -> Result<(Vec<Entry>, LedgerHead)> {
        let mut entries = Vec::new();
        let mut head = LedgerHead { entries: 0, sha256: String::new() };
        for Row { number, text, sha256 } in self.0.rows(1)? {
            if number != head.entries + 1 || chained(&head.sha256, &text) != sha256 {
                return Err(damaged(&format!("entry {number} does not follow on the one before it")));
            }
            entries.push(serde_json::from_str(&text).map_err(|error| damaged(&error.to_string()))?);
            head = LedgerHead { entries: number, sha256 };
        }
        Ok((entries, head))
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

/// Entries as they are kept after that head.
fn chain(head: &LedgerHead, entries: &[Entry]) -> Result<Vec<Row>> {
    let (mut number, mut before) = (head.entries, head.sha256.clone());
    let row = |entry: &Entry| {
        let text = serde_json::to_string(entry).map_err(|error| damaged(&error.to_string()))?;
        number += 1;
        before = chained(&before, &text);
        Ok(Row { number, text, sha256: before.clone() })
    };
    entries.iter().map(row).collect()
}

/// SHA-256 over the hash before, a line break, and the entry's text.
fn chained(before: &str, text: &str) -> String {
    sha256_hex(format!("{before}\n{text}").as_bytes())
}

fn damaged(why: &str) -> Fault {
    Fault::new(
        Code::LedgerFailed,
        format!("the ledger: {why}"),
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

#[cfg(test)]
mod tests;
