//! Checks a receipt against the published files that it names, with nothing but the registry's first version as a root
//! of trust: no clock of the host that ran, no word of its operator.

use cap_std::fs::Dir;
use chrono::{DateTime, TimeDelta, Utc};
use glovebox_trust::Principal;
use glovebox_trust::approval::Approval;
use glovebox_trust::envelope::{self, IN_TOTO, Statement};
use glovebox_trust::log::proof::Proof;
use glovebox_trust::registry::{OpenedBy, Scope};
use serde::Serialize;

use super::{Decision, RECEIPT_TYPE, ReleaseRecord, RunRecord, SandboxRecord, certificate_path, file_name, proof_path};
use crate::clock;
use crate::destination::{self, Opening, opening_path};
use crate::error::{Code, Fault, Result};
use crate::gate::{self, ApprovalRecord, Chain, ListRecord, Signers};
use crate::journal;
use crate::parse;
use crate::principal::Certified;
use crate::privacy::{self, Charge, Guarantee, MeasureNoise, Mechanism};
use crate::room::{Agreement, Manifest, RegistryPin, sha256_hex};
use crate::sandbox::Wall;

const FILE_BYTES_MAX: u64 = 1 << 30;
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What holds, or what could not be looked at.
    pub what: String,
    /// Whether it holds; what could not be looked at neither holds nor fails.
    pub holds: bool,
}

/// What a receipt that verifies says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The run.
    pub run_id: String,
    /// `released` or `refused`.
    pub decision: String,
    /// Why it was refused.
    pub code: Option<String>,
    /// The runtime that ran it, as `party/service`.
    pub runtime: String,
    /// The agreement that the receipt is about.
    pub agreement_id: String,
    /// SHA-256 of the registry's first version: the root of trust, to be compared with what the parties know.
    pub registry_sha256: String,
    /// What was checked, in order.
    pub checks: Vec<Check>,
}

/// A receipt of a release that verified, with the terms under which it ran.
#[derive(Debug)]
pub(crate) struct Evidence {
    record: RunRecord,
    agreement: Agreement,
    agreement_id: String,
    approvals: Vec<ApprovalRecord>,
    registry: RegistryPin,
    revocations: Vec<ListRecord>,
}

impl Evidence {
    pub(crate) fn charges(&self) -> &[Charge] {
        &self.record.charges
    }

    pub(crate) fn run_id(&self) -> &str {
        &self.record.run_id
    }

    pub(crate) fn sealed_sha256(&self) -> Option<&str> {
        self.record.sealed_sha256.as_deref()
    }

    pub(crate) fn output_commitment(&self) -> &str {
        self.record.released.as_ref().map_or("", |released| &released.output_commitment)
    }

    /// The terms, and what they were approved under.
    pub(crate) fn into_terms(self) -> (Agreement, String, Vec<ApprovalRecord>, RegistryPin, Vec<ListRecord>) {
        (self.agreement, self.agreement_id, self.approvals, self.registry, self.revocations)
    }
}

/// Verifies a receipt of the room. A released one needs its agreement, approvals, lists, manifest, certificate and proof
/// to be there. The root of trust is the registry's first version: `root`, if it is given, must be its digest.
pub fn verify(dir: &Dir, path: &str, root: Option<&str>, now: DateTime<Utc>) -> Result<Verified> {
    examine(dir, path, root, now).map(|(verified, _)| verified)
}

/// Verifies the receipt of a release, for what needs its terms.
pub(crate) fn evidence(dir: &Dir, path: &str, root: Option<&str>, now: DateTime<Utc>) -> Result<Evidence> {
    let (verified, evidence) = examine(dir, path, root, now)?;
    evidence.ok_or_else(|| {
        let fact = format!("run {} was {}: it has no result", verified.run_id, verified.decision);
        Fault::new(Code::NotReplayable, fact, "name the receipt of a release")
    })
}

/// What has been found in order so far.
#[derive(Default)]
struct Findings(Vec<Check>);

impl Findings {
    fn require(&mut self, holds: bool, what: &str) -> Result<()> {
        if !holds {
            return Err(invalid(&format!("this does not hold: {what}")));
        }
        self.0.push(Check { what: what.into(), holds });
        Ok(())
    }

    fn note(&mut self, what: impl Into<String>) {
        self.0.push(Check { what: what.into(), holds: false });
    }
}

fn examine(dir: &Dir, path: &str, root: Option<&str>, now: DateTime<Utc>) -> Result<(Verified, Option<Evidence>)> {
    let chain = Chain::read_any(dir)?;
    if root.is_some_and(|root| root != chain.first_sha256()) {
        return Err(invalid("the registry's first version is not the one that you trust"));
    }
    let mut findings = Findings::default();
    findings.require(true, &format!("the registry is signed from version 1 to {}", chain.current().version()))?;

    let bytes = gate::read(dir, path, TEXT_BYTES_MAX, Code::ReceiptInvalid)?;
    let run_id = run_id_of(path).ok_or_else(|| invalid("it is not filed under its run"))?;
    let is_logged = check_proof(dir, &chain, &bytes, run_id, &mut findings)?;
    let signers = Signing { dir, chain: &chain, run_id, now, is_logged };
    let (runtime, certified) = signers.certificate()?;
    let (payload, runtime) = match (&certified, runtime) {
        (Some((certified, _)), Some(runtime)) => {
            let opened =
                envelope::open(&bytes, IN_TOTO, [((), certified.key)]).map_err(|denial| invalid(denial.fact()))?;
            (opened.payload, runtime)
        }
        _ => {
            let opened = signers.open(&bytes)?;
            (opened.payload, opened.principal)
        }
    };
    let statement: Statement<RunRecord> =
        Statement::parse(&payload, RECEIPT_TYPE).map_err(|denial| invalid(denial.fact()))?;
    let record = statement.predicate.clone();
    if record.run_id != run_id {
        return Err(invalid(&format!("it is of run {}, and filed as another's", record.run_id)));
    }
    let certificate_sha256 = certified.as_ref().map(|(_, sha256)| sha256.clone());
    findings.require(certificate_sha256 == record.certificate_sha256, &signed_by(&runtime, certified.is_some()))?;

    let agreement_id = statement.subject_sha256().to_owned();
    let evidence = match (record.decision, &record.released, &record.code) {
        (Decision::Refused, None, Some(_)) => None,
        (Decision::Released, Some(released), None) => {
            let Some((certified, _)) = &certified else { return Err(invalid("the run had no principal")) };
            if !is_logged {
                let fact = "the receipt does not verify: there is no proof that it is in the log";
                let remedy =
                    "make the proof with `glovebox log prove`; a receipt that the log does not have counts for nothing";
                return Err(Fault::new(Code::ReceiptInvalid, fact, remedy));
            }
            let release =
                Release { dir, chain: &chain, record: &record, released, certified, agreement_id: &agreement_id };
            Some(release.verify(&runtime, now, &mut findings)?)
        }
        _ => return Err(invalid("its decision contradicts the rest of it")),
    };
    let verified = Verified {
        run_id: record.run_id.clone(),
        decision: if record.decision == Decision::Released { "released".into() } else { "refused".into() },
        code: record.code.clone(),
        runtime: runtime.to_string(),
        agreement_id,
        registry_sha256: chain.first_sha256().into(),
        checks: findings.0,
    };
    Ok((verified, evidence))
}

/// A repeat runs nothing.
fn was_confined(sandbox: Option<&SandboxRecord>, is_repeat: bool, may_lack: &[Wall]) -> bool {
    let stood = |walls: &[Wall]| Wall::ALL.iter().all(|wall| walls.contains(wall) || may_lack.contains(wall));
    sandbox.map_or(is_repeat, |sandbox| stood(&sandbox.walls))
}

fn signed_by(runtime: &Principal, has_principal: bool) -> String {
    if has_principal {
        format!("signed by the run's own principal, which runtime {runtime} certified for this agreement")
    } else {
        format!("signed by runtime {runtime}; the run was refused before it had a principal")
    }
}

fn run_id_of(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next()?;
    let run_id = name.strip_suffix(".dsse.json")?;
    (file_name(run_id) == name && !run_id.contains('.')).then_some(run_id)
}

/// Whether the log has the receipt. A proof that is there must hold.
fn check_proof(dir: &Dir, chain: &Chain, receipt: &[u8], run_id: &str, findings: &mut Findings) -> Result<bool> {
    let path = proof_path(run_id);
    if !dir.exists(&path) {
        findings.note("there is no proof that the log has it");
        return Ok(false);
    }
    let proof = gate::read(dir, &path, TEXT_BYTES_MAX, Code::ReceiptInvalid)?;
    let policy = journal::log_policy(chain.current())?;
    let proven = Proof::parse(&proof).and_then(|proof| proof.verify(receipt, &policy, None));
    let proven = proven.map_err(|denial| Fault::of(&path, &denial, "ask for the proof again: `glovebox log prove`"))?;
    let size = proven.checkpoint.checkpoint().size;
    let witnesses: Vec<&str> = proven.cosignatures.iter().map(|cosignature| cosignature.witness.as_str()).collect();
    let witnessed =
        if witnesses.is_empty() { String::new() } else { format!(", witnessed by {}", witnesses.join(", ")) };
    findings.require(true, &format!("it is record {} of {size} in the log{witnessed}", proven.index))?;
    Ok(true)
}

struct Signing<'a> {
    dir: &'a Dir,
    chain: &'a Chain,
    run_id: &'a str,
    now: DateTime<Utc>,
    is_logged: bool,
}

type CertifiedFile = (Certified, String);

impl Signing<'_> {
    /// The certificate of the run's principal, if there is one, and the runtime that signed it.
    fn certificate(&self) -> Result<(Option<Principal>, Option<CertifiedFile>)> {
        let path = certificate_path(self.run_id);
        if !self.dir.exists(&path) {
            return Ok((None, None));
        }
        let bytes = gate::read(self.dir, &path, TEXT_BYTES_MAX, Code::ReceiptInvalid)?;
        let opened = self.open(&bytes)?;
        let runtime = opened.principal;
        let certified = Certified::parse(&opened.payload, &opened.key).map_err(|denial| invalid(denial.fact()))?;
        if certified.certificate.runtime != runtime.to_string() || certified.certificate.run_id != self.run_id {
            return Err(invalid("the certificate is of another run or runtime"));
        }
        Ok((Some(runtime), Some((certified, sha256_hex(&bytes)))))
    }

    /// What a registered runtime signed.
    fn open(&self, bytes: &[u8]) -> Result<OpenedBy> {
        let opened = self.chain.current().open(bytes, IN_TOTO, Scope::Runtime, self.now, self.is_logged);
        opened.map_err(|denial| invalid(denial.fact()))
    }
}

/// The receipt of a release, and what is needed to check it.
struct Release<'a> {
    dir: &'a Dir,
    chain: &'a Chain,
    record: &'a RunRecord,
    released: &'a ReleaseRecord,
    certified: &'a Certified,
    agreement_id: &'a str,
}

impl Release<'_> {
    fn verify(&self, runtime: &Principal, now: DateTime<Utc>, findings: &mut Findings) -> Result<Evidence> {
        let Self { record, released, certified, .. } = *self;
        let certificate = &certified.certificate;
        let bytes = gate::read_agreement(self.dir, &record.agreement_path).map_err(contradicted)?;
        findings.require(
            sha256_hex(&bytes) == self.agreement_id && certified.agreement_id == self.agreement_id,
            "the agreement is the one that the receipt and the certificate name",
        )?;
        let began = clock::from_text(&certificate.not_before).ok_or_else(|| invalid("the certificate has no time"))?;
        // The minute is all that is told of it: people may have signed within it.
        let began = began + TimeDelta::seconds(59);
        let approvals = self.approvals(&bytes, &certificate.registry, began)?;
        let agreement = approvals.1;
        let records: Vec<ApprovalRecord> = approvals.0.iter().map(ApprovalRecord::of).collect();
        findings.require(
            records == record.approvals && records == certificate.approvals,
            "every owner of a view and the recipient approved exactly this agreement, and the quorum was reached",
        )?;
        self.lists(&agreement, &approvals.0, &certificate.registry, &certificate.revocations, began)?;
        let ended = clock::from_text(&record.finished_at).ok_or_else(|| invalid("it has no end"))?;
        let confirmed = record.registry.as_ref().ok_or_else(|| invalid("it names no registry"))?;
        self.lists(&agreement, &approvals.0, confirmed, &record.revocations, ended)?;
        findings.require(true, "no party had withdrawn anything, when it began and when the output got its name")?;

        findings.require(
            agreement.runners.contains(runtime) && within(certificate, &record.started_at, &record.finished_at),
            "it ran where it was agreed to run, while its principal could act",
        )?;
        findings.require(
            released.component_sha256 == agreement.component.sha256,
            "the component that ran is the one that was agreed",
        )?;
        findings
            .require(record.runtime == agreement.runtime, "the runtime and its engine are those that were agreed")?;
        let manifest = self.manifest(&agreement, findings)?;
        // A repeat costs nothing, and names the run whose answer it is.
        let charges = match record.repeat_of {
            None => privacy::charges(&agreement, &manifest),
            Some(_) => Vec::new(),
        };
        findings.require(
            record.charges == charges && certificate.charges == charges,
            "every dataset's budget was charged what that costs",
        )?;
        if let Some(run) = &record.repeat_of {
            findings.note(format!("the answer is that of run {run} on the same data, and cost nothing"));
        }
        findings.require(within_window(&agreement, &record.started_at)?, "the run began within the agreed window")?;
        let may_lack = &agreement.controls.sandbox.may_lack;
        findings.require(
            was_confined(record.sandbox.as_ref(), record.repeat_of.is_some(), may_lack),
            "the question ran behind every wall that the owners demand, or did not run again",
        )?;
        findings.require(
            released.output_path == destination::path_of(&agreement),
            "the output went to the agreed destination",
        )?;
        self.output(findings)?;
        self.since(&agreement, &approvals.0, now, findings);
        Ok(Evidence {
            record: record.clone(),
            agreement,
            agreement_id: self.agreement_id.into(),
            approvals: records,
            registry: confirmed.clone(),
            revocations: record.revocations.clone(),
        })
    }

    /// The approvals as they were when the run began, under the registry of that time.
    fn approvals(&self, bytes: &[u8], pin: &RegistryPin, began: DateTime<Utc>) -> Result<(Vec<Approval>, Agreement)> {
        let chain = self.chain_at(pin)?;
        let registry = chain.current();
        registry.check_expiry(began).map_err(|denial| invalid(denial.fact()))?;
        let signers = Signers { registry, now: began, is_logged: &|_| true };
        let folder = &self.record.agreement_path;
        let records = &self.record.approvals;
        let approvals = gate::read_recorded(self.dir, folder, self.agreement_id, &signers, records);
        let approvals = approvals.map_err(contradicted)?;
        let agreement = Agreement::parse(bytes).map_err(contradicted)?;
        gate::check_quorum(&agreement, self.agreement_id, &approvals, registry).map_err(contradicted)?;
        Ok((approvals, agreement))
    }

    fn chain_at(&self, pin: &RegistryPin) -> Result<Chain> {
        if !self.chain.contains(pin) {
            return Err(invalid("the registry under which it ran is not in the chain"));
        }
        Chain::read_until(self.dir, self.chain.current().room(), pin.version)
    }

    /// The lists that were looked at: they are those, were fresh, and withdrew nothing of the run.
    fn lists(
        &self,
        agreement: &Agreement,
        approvals: &[Approval],
        pin: &RegistryPin,
        records: &[ListRecord],
        at: DateTime<Utc>,
    ) -> Result<()> {
        let chain = self.chain_at(pin)?;
        let parties: Vec<&str> = records.iter().map(|list| list.party.as_str()).collect();
        if !parties.iter().copied().eq(gate::concerned(agreement, &self.record.approvals)) {
            return Err(invalid("it does not name a list of revocations of every party"));
        }
        let lists = gate::Lists::at(self.dir, chain.current(), records, at).map_err(contradicted)?;
        let run = gate::run_facts(agreement, self.agreement_id, &self.certified.runtime_fingerprint);
        lists.check(&run, approvals).map_err(contradicted)
    }

    fn manifest(&self, agreement: &Agreement, findings: &mut Findings) -> Result<Manifest> {
        let manifest = gate::read(self.dir, &agreement.manifest_path, TEXT_BYTES_MAX, Code::ReceiptInvalid)?;
        let digest = sha256_hex(&manifest);
        findings.require(
            digest == agreement.manifest.sha256 && self.released.manifest_sha256 == digest,
            "the manifest is the one that was agreed",
        )?;
        let manifest = Manifest::parse(&manifest).map_err(contradicted)?;
        let mechanism = Mechanism::new(&manifest, &agreement.controls);
        let promised = Guarantee::of(agreement, &manifest);
        let released = self.released;
        findings.require(
            (&released.guarantee, &released.unprotected) == (&promised.sentence, &promised.unprotected)
                && agreement.guarantee == promised.sentence
                && (released.k_min, released.threshold, released.l0)
                    == (mechanism.k_min, mechanism.threshold, mechanism.l0)
                && released.mechanism == mechanism.noise_name()
                && released.noise == reread(mechanism.measures())?,
            "threshold, noise and guarantee follow from the agreed controls",
        )?;
        Ok(manifest)
    }

    /// Whoever has not received the output can still check all the rest.
    fn output(&self, findings: &mut Findings) -> Result<()> {
        let path = &self.released.output_path;
        if !self.dir.exists(path) {
            findings.note("the output is not here, so its commitment was not opened");
            return Ok(());
        }
        let output = gate::read(self.dir, path, FILE_BYTES_MAX, Code::ReceiptInvalid)?;
        let opening = gate::read(self.dir, &opening_path(path), TEXT_BYTES_MAX, Code::ReceiptInvalid)?;
        let opening: Opening = parse::json(&opening).map_err(|why| invalid(&why))?;
        let matches = opening.is_well_formed() && opening.commit(&output) == self.released.output_commitment;
        findings.require(matches, "the output is the one that was released")
    }

    /// What has been withdrawn since does not undo the run, but whoever relies on it should know.
    fn since(&self, agreement: &Agreement, approvals: &[Approval], now: DateTime<Utc>, findings: &mut Findings) {
        let run = gate::run_facts(agreement, self.agreement_id, &self.certified.runtime_fingerprint);
        let parties = gate::concerned(agreement, &self.record.approvals);
        if let Ok(lists) = gate::Lists::read(self.dir, self.chain.current(), parties, now)
            && let Err(fault) = lists.check(&run, approvals)
        {
            findings.note(format!("since then, {}", fault.fact()));
        }
    }
}

/// A receipt tells the minute only.
fn within(certificate: &crate::principal::Certificate, started_at: &str, finished_at: &str) -> bool {
    let time = |text: &str| clock::from_text(text);
    let times = (time(&certificate.not_before), time(&certificate.not_after), time(started_at), time(finished_at));
    let (Some(from), Some(until), Some(started), Some(finished)) = times else { return false };
    started <= from && from <= finished + TimeDelta::minutes(1) && finished < until
}

fn within_window(agreement: &Agreement, started_at: &str) -> Result<bool> {
    let (from, until) = agreement.window()?;
    let minute = TimeDelta::minutes(1);
    Ok(clock::from_text(started_at).is_some_and(|start| start + minute > from && start < until))
}

/// The noise as it reads once it was written: the parser of JSON may be off by a number's last bit.
fn reread(noise: &[MeasureNoise]) -> Result<Vec<MeasureNoise>> {
    let written = serde_json::to_vec(noise).map_err(|error| invalid(&error.to_string()))?;
    parse::json(&written).map_err(|why| invalid(&why))
}

/// What the gate would refuse today, the receipt says of a run that was let through.
fn contradicted(fault: Fault) -> Fault {
    invalid(&format!("{}: {}", fault.code(), fault.fact()))
}

fn invalid(why: &str) -> Fault {
    Fault::new(
        Code::ReceiptInvalid,
        format!("the receipt does not verify: {why}"),
        "ask the runtime's operator for the run's files as they were",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_without_a_wall_that_was_demanded_does_not_verify() {
        let behind = |walls: &[Wall]| SandboxRecord { walls: walls.to_vec(), isa: String::new() };
        let (all, some) = (behind(&Wall::ALL), behind(&Wall::ALL[1..]));
        assert!(was_confined(Some(&all), false, &[]) && !was_confined(Some(&some), false, &[]));
        assert!(
            was_confined(Some(&some), false, &Wall::ALL[..1]) && !was_confined(Some(&some), false, &Wall::ALL[1..])
        );
        assert!(was_confined(None, true, &[]) && !was_confined(None, false, &Wall::ALL));
    }
}
