//! What the log says has happened in a room so far.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use glovebox_trust::envelope::Statement;
use glovebox_trust::sha256_hex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::error::{Code, Fault, Result};
use crate::gate::{ApprovalRecord, ListRecord};
use crate::parse::unverified_payload;
use crate::principal::{CERTIFICATE_TYPE, Certificate, DECOMMISSION_TYPE, Decommission};
use crate::privacy::{Charge, LedgerHead, Posting};
use crate::receipt::{RECEIPT_TYPE, RunRecord};
use crate::room::{Agreement, RegistryPin};

/// What a list of records of the log comes to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    registry: Option<RegistryPin>,
    revocations: BTreeMap<String, ListRecord>,
    superseded: BTreeSet<String>,
    /// The approval that each person's sequence number stands on.
    sequences: BTreeMap<String, BTreeMap<u64, String>>,
    approvals: BTreeSet<String>,
    runs: BTreeMap<String, u32>,
    /// When the runs of each agreement began, and how many of them read data and had no result.
    begun: BTreeMap<String, Vec<DateTime<Utc>>>,
    withheld: BTreeMap<String, u32>,
    nonces: BTreeSet<String>,
    /// Runs that have a principal and no end yet.
    open: BTreeMap<String, OpenRun>,
    /// What every run that was certified may have been charged, and what those that ended were charged.
    certified: BTreeMap<String, Vec<Charge>>,
    charged: BTreeMap<String, Vec<Charge>>,
    latest: Option<DateTime<Utc>>,
    records: u64,
    /// The host's ledger as the last certificate saw it, and which record that was.
    ledger: Option<(u64, LedgerHead)>,
}

/// A run whose principal has not ended.
#[derive(Clone, Debug)]
pub(crate) struct OpenRun {
    pub(crate) run_id: String,
    pub(crate) agreement_id: String,
    pub(crate) principal: String,
    pub(crate) not_after: Option<DateTime<Utc>>,
}

/// The facts in numbers, as the anchor keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Summary {
    registry_version: u64,
    revocation_versions: BTreeMap<String, u64>,
    superseded: u64,
    sequences: BTreeMap<String, u64>,
    runs_used: BTreeMap<String, u32>,
    nonces: u64,
    ledger_sha256: String,
}

impl Facts {
    /// Takes in one record. Records were checked before they were logged, and the checkpoint vouches that these are
    /// the ones; what is none of ours changes nothing.
    pub(crate) fn learn(&mut self, entry: &[u8]) -> Result<()> {
        let payload = unverified_payload(entry).ok_or_else(unreadable)?;
        let predicate_type = payload.get("predicateType").and_then(|kind| kind.as_str()).unwrap_or_default().to_owned();
        match predicate_type.as_str() {
            CERTIFICATE_TYPE => self.learn_certificate(&parse(payload, CERTIFICATE_TYPE)?),
            DECOMMISSION_TYPE => {
                let statement: Statement<Decommission> = parse(payload, DECOMMISSION_TYPE)?;
                self.open.remove(&statement.predicate.run_id);
                self.learn_time(&statement.predicate.at);
            }
            RECEIPT_TYPE => {
                let statement: Statement<RunRecord> = parse(payload, RECEIPT_TYPE)?;
                if statement.predicate.was_withheld() {
                    *self.withheld.entry(statement.subject_sha256().to_owned()).or_default() += 1;
                }
                self.learn_receipt(&statement.predicate);
            }
            _ => return Err(unreadable()),
        }
        self.records += 1;
        Ok(())
    }

    fn learn_certificate(&mut self, statement: &Statement<Certificate>) {
        let certificate = &statement.predicate;
        let agreement_id = statement.subject_sha256().to_owned();
        self.learn_time(&certificate.not_before);
        self.learn_registry(&certificate.registry);
        certificate.revocations.iter().for_each(|list| self.learn_list(list));
        for approval in &certificate.approvals {
            let sequences = self.sequences.entry(approval.name()).or_default();
            sequences.insert(approval.sequence, approval.sha256.clone());
            self.approvals.insert(approval.sha256.clone());
        }
        self.superseded.extend(certificate.supersedes.iter().cloned());
        *self.runs.entry(agreement_id.clone()).or_default() += 1;
        let begun = clock::from_text(&certificate.not_before);
        self.begun.entry(agreement_id.clone()).or_default().extend(begun);
        self.ledger = Some((self.records, certificate.ledger.clone()));
        self.nonces.insert(certificate.nonce.clone());
        self.certified.insert(certificate.run_id.clone(), certificate.charges.clone());
        let open = OpenRun {
            run_id: certificate.run_id.clone(),
            agreement_id,
            principal: certificate.principal.clone(),
            not_after: clock::from_text(&certificate.not_after),
        };
        self.open.insert(certificate.run_id.clone(), open);
    }

    /// Refusals count as well: what a party has withdrawn stays withdrawn, though nothing ran.
    fn learn_receipt(&mut self, record: &RunRecord) {
        if let Some(registry) = record.registry() {
            self.learn_registry(registry);
        }
        record.revocations().iter().for_each(|list| self.learn_list(list));
        // A run without a certificate has no time that anyone vouches for.
        if self.certified.contains_key(record.run_id()) {
            self.learn_time(record.finished_at());
            self.charged.insert(record.run_id().into(), record.charges().to_vec());
        }
    }

    fn learn_registry(&mut self, registry: &RegistryPin) {
        if self.registry.as_ref().is_none_or(|known| known.version < registry.version) {
            self.registry = Some(registry.clone());
        }
    }

    fn learn_list(&mut self, list: &ListRecord) {
        if self.revocations.get(&list.party).is_none_or(|known| known.version < list.version) {
            self.revocations.insert(list.party.clone(), list.clone());
        }
    }

    fn learn_time(&mut self, text: &str) {
        self.latest = self.latest.max(clock::from_text(text));
    }

    /// The time, which never runs back behind what the log has seen: a clock that was set back revives nothing.
    pub(crate) fn not_before(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.latest.map_or(now, |latest| latest.max(now))
    }

    /// Whether an approval stood in the log before.
    pub(crate) fn has_approval(&self, sha256: &str) -> bool {
        self.approvals.contains(sha256)
    }

    /// The registry that was used last.
    pub(crate) const fn registry(&self) -> Option<&RegistryPin> {
        self.registry.as_ref()
    }

    /// Refuses lists of revocations that are older than those used before.
    pub(crate) fn check_revocations(&self, lists: &[ListRecord]) -> Result<()> {
        for list in lists {
            let Some(seen) = self.revocations.get(&list.party) else { continue };
            if list.version < seen.version || (list.version == seen.version && list.sha256 != seen.sha256) {
                return Err(Fault::new(
                    Code::RevocationsRollback,
                    format!(
                        "{} has list {} of revocations, and version {} was used before",
                        list.party, list.version, seen.version
                    ),
                    "bring the party's latest list into the room, or let the party sign a later one with `glovebox revoke`",
                ));
            }
        }
        Ok(())
    }

    /// Refuses two approvals that share a person's sequence number.
    pub(crate) fn check_sequences(&self, approvals: &[ApprovalRecord]) -> Result<()> {
        let replayed = |approval: &&ApprovalRecord| {
            let seen = self.sequences.get(&approval.name()).and_then(|sequences| sequences.get(&approval.sequence));
            seen.is_some_and(|sha256| *sha256 != approval.sha256)
        };
        match approvals.iter().find(replayed) {
            None => Ok(()),
            Some(approval) => Err(Fault::new(
                Code::ApprovalReplayed,
                format!("approval {} of {} is another one than was used before", approval.sequence, approval.name()),
                "let the person sign again with `glovebox approve`",
            )),
        }
    }

    /// Refuses a run that its accounts cannot pay. The log is what counts, for it cannot be rolled back alone: a run that
    /// was certified and has no receipt may have been charged, and so counts as charged.
    pub(crate) fn check_budget(&self, charges: &[Charge]) -> Result<()> {
        let paid = |run: &String, certified: &'_ Vec<Charge>| self.charged.get(run).unwrap_or(certified).clone();
        let all: Vec<Charge> = self.certified.iter().flat_map(|(run, certified)| paid(run, certified)).collect();
        charges.iter().try_for_each(|charge| {
            let spent = all.iter().filter(|paid| paid.account == charge.account).map(|paid| &paid.cost);
            charge.check_affordable(spent)
        })
    }

    /// Refuses an agreement that was replaced, or run as often as it allows.
    pub(crate) fn check_agreement(&self, agreement: &Agreement, agreement_id: &str) -> Result<()> {
        self.check_superseded(agreement_id)?;
        let used = self.runs.get(agreement_id).copied().unwrap_or(0);
        if used >= agreement.budget.runs_max {
            return Err(Fault::new(
                Code::RunsExhausted,
                format!("{used} of {} runs were begun", agreement.budget.runs_max),
                "compose and approve a new revision, with more --runs",
            ));
        }
        Ok(())
    }

    /// Refuses an agreement that is run too often: what a run without a result tells, many tell better.
    pub(crate) fn check_pace(&self, agreement: &Agreement, agreement_id: &str, now: DateTime<Utc>) -> Result<()> {
        let allowed = &agreement.controls.repeat;
        let yesterday = now - TimeDelta::days(1);
        let today = self.begun.get(agreement_id).map_or(0, |begun| begun.iter().filter(|at| **at > yesterday).count());
        let withheld = self.withheld.get(agreement_id).copied().unwrap_or(0);
        if withheld >= allowed.max_failed_runs {
            return Err(Fault::new(
                Code::RunsPaused,
                format!("{withheld} runs read data and had no result, and {} may", allowed.max_failed_runs),
                "let the auditor see why, then compose and approve a new revision",
            ));
        }
        if today >= allowed.max_runs_per_day as usize {
            return Err(Fault::new(
                Code::RunsPaused,
                format!("{today} runs began within a day, and {} may", allowed.max_runs_per_day),
                "wait, or let every owner raise `repeat.max_runs_per_day` in a new revision",
            ));
        }
        Ok(())
    }

    /// The host's ledger as the last certificate saw it, if that certificate is not older than this host's own memory.
    pub(crate) fn ledger_since(&self, record: u64) -> Option<&LedgerHead> {
        self.ledger.as_ref().filter(|(index, _)| *index >= record).map(|(_, head)| head)
    }

    /// What runs were charged: those that ended by their receipts, others by their certificates.
    pub(crate) fn all_charges(&self) -> Vec<(String, Vec<Charge>)> {
        let paid = |(run, certified): (&String, &Vec<Charge>)| {
            (run.clone(), self.charged.get(run).unwrap_or(certified).clone())
        };
        self.certified.iter().map(paid).filter(|(_, charges)| !charges.is_empty()).collect()
    }

    /// Refuses an agreement that another one has replaced by running.
    pub(crate) fn check_superseded(&self, agreement_id: &str) -> Result<()> {
        if !self.superseded.contains(agreement_id) {
            return Ok(());
        }
        Err(Fault::new(
            Code::AgreementSuperseded,
            "a later revision, which replaces this one, has been run",
            "run the later revision, or compose and approve a new one",
        ))
    }

    /// Refuses a request that was made before.
    pub(crate) fn check_nonce(&self, nonce: &str) -> Result<()> {
        if !self.nonces.contains(nonce) {
            return Ok(());
        }
        Err(Fault::new(
            Code::RunReplayed,
            format!("the request {nonce} was run before"),
            "make a request with a nonce of its own; the earlier run's receipt stands in `receipts`",
        ))
    }

    /// How many principals have not ended.
    pub(crate) fn open_runs(&self) -> usize {
        self.open.len()
    }

    /// Runs whose principal can act no more and whose end is not logged: their process was killed.
    pub(crate) fn lost_runs(&self, now: DateTime<Utc>) -> Vec<OpenRun> {
        self.open.values().filter(|run| run.not_after.is_none_or(|until| until <= now)).cloned().collect()
    }

    /// Compares what the ledger was charged with what the log says: neither may be older than the other.
    pub(crate) fn check_ledger(&self, postings: &[Posting]) -> Result<()> {
        let mut posted: BTreeMap<&str, Vec<(&str, _)>> = BTreeMap::new();
        let mut settled: BTreeSet<&str> = BTreeSet::new();
        for posting in postings {
            posted.entry(&posting.run_id).or_default().push((&posting.account, &posting.cost));
            settled.extend(posting.is_settled.then_some(posting.run_id.as_str()));
        }
        let matches = |charges: &[Charge], run: &str| {
            let mut charges: Vec<_> = charges.iter().map(|charge| (charge.account.as_str(), &charge.cost)).collect();
            charges.sort_by_key(|(account, _)| *account);
            posted.get(run).is_some_and(|posted| *posted == charges)
        };
        let mut paid = self.charged.iter().filter(|(_, charges)| !charges.is_empty());
        if let Some((run, _)) = paid.find(|(run, charges)| !matches(charges, run)) {
            return Err(rolled_back(&format!("the ledger does not have the charge of run {run}, which the log has")));
        }
        let unknown = |run: &&&str| !self.certified.get(**run).is_some_and(|charges| matches(charges, run));
        match settled.iter().find(unknown) {
            Some(run) => {
                Err(rolled_back(&format!("the ledger has a charge of run {run}, which the log does not have")))
            }
            None => Ok(()),
        }
    }

    /// The facts in numbers.
    pub(crate) fn summary(&self) -> Summary {
        let charged = serde_json::to_vec(&self.charged).unwrap_or_default();
        Summary {
            registry_version: self.registry.as_ref().map_or(0, |registry| registry.version),
            revocation_versions: self.revocations.iter().map(|(party, list)| (party.clone(), list.version)).collect(),
            superseded: self.superseded.len() as u64,
            sequences: self
                .sequences
                .iter()
                .filter_map(|(name, known)| Some((name.clone(), *known.keys().last()?)))
                .collect(),
            runs_used: self.runs.clone(),
            nonces: self.nonces.len() as u64,
            ledger_sha256: sha256_hex(&charged),
        }
    }
}

/// A record's statement. Its signature was verified before it was logged.
fn parse<P: Serialize + DeserializeOwned>(payload: serde_json::Value, kind: &str) -> Result<Statement<P>> {
    Statement::parse(payload.to_string().as_bytes(), kind).map_err(|_| unreadable())
}

fn unreadable() -> Fault {
    Fault::new(
        Code::LogInvalid,
        "the log has a record that this runtime does not read",
        "read the room with the runtime that wrote it",
    )
}

pub(super) fn rolled_back(fact: &str) -> Fault {
    Fault::new(
        Code::StateRollback,
        fact,
        "a backup was restored or a file was lost: bring back the latest files of the room; what they had spent cannot be known without them",
    )
}
