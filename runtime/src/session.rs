//! What a run holds besides its data: the room, the journal, its principal, and what is known of it so far.

use std::rc::Rc;

use cap_std::fs::Dir;
use chrono::{DateTime, Utc};
use glovebox_trust::Principal;
use glovebox_trust::keys::{PublicKey, Signer, SigningKey};

use crate::clock;
use crate::destination::{self, Delivered, RenderedResult, StagedResult};
use crate::error::{Code, Fault, Result};
use crate::files;
use crate::gate::{self, Approved, Chain, Confirmed, Inquiry};
use crate::journal::{Facts, Held, Journal, OpenRun};
use crate::principal::{self, Decommission, End, RunNames, RunPrincipal, Tenure};
use crate::privacy::{self, Mechanism};
use crate::provision::SourceDigest;
use crate::random::Random;
use crate::receipt::{self, ReceiptSigner, Sealed, Trace, certificate_path, proof_path, sealed_path};
use crate::room::{is_inner_path, sha256_hex};
use crate::run::Request;
use crate::sandbox::Figures;

const AGREEMENT_PATH_MAX: usize = 200;

/// A run in a room.
pub(crate) struct Session<'a> {
    pub(crate) dir: Dir,
    pub(crate) trace: Trace,
    request: &'a Request<'a>,
    key: &'a SigningKey,
    public: PublicKey,
    /// None where the registry cannot be read: then the gate refuses, and the receipt cannot be logged.
    desk: Result<Rc<Desk>>,
    principal: Option<RunPrincipal>,
    random: Random,
    seed: [u8; 32],
}

/// Where runs are recorded, and as whom.
struct Desk {
    journal: Journal,
    runtime: Principal,
}

impl<'a> Session<'a> {
    /// Opens the room for a run. Without a registered runtime key no run begins: nobody could verify its receipt.
    pub(crate) fn open(request: &'a Request<'a>) -> Result<Self> {
        let dir = crate::open_room(request.room)?;
        let mut random = Random::from_os()?;
        // What is no path of an agreement does not stand in the receipt, which must fit into the log.
        let agreement = check_path(request.agreement).unwrap_or_default();
        let trace = Trace::new(hex(&random.bytes::<16>()), request.clock.now(), agreement);
        let public = request.key.public();
        let chain = gate::read_room(&dir).and_then(|room| Chain::read(&dir, &room.id));
        let runtime = gate::runtime_of(chain.as_ref().ok(), &public)?;
        let state = open_state(request.state)?;
        let desk = chain.and_then(|chain| {
            let runtime = runtime.ok_or_else(|| Fault::new(Code::KeyUnknown, "there is no registry", "make one"))?;
            Ok(Rc::new(Desk { journal: Journal::new(&dir, state, &chain)?, runtime }))
        });
        let seed = random.bytes();
        Ok(Self { dir, trace, request, key: request.key, public, desk, principal: None, random, seed })
    }

    /// Asks the gate.
    pub(crate) fn admit(&mut self) -> Result<Approved> {
        check_path(self.request.agreement)?;
        let folder = self.trace.agreement_path.clone();
        let desk = self.desk.as_ref().map_err(Clone::clone)?;
        let held = desk.journal.hold()?;
        let inquiry = inquiry(&self.dir, &folder, held.now(self.request.clock.now()), &self.public, held.facts());
        gate::admit(&inquiry, &mut self.trace)
    }

    /// Makes the run's principal, and logs its certificate: from here on the run counts, whatever becomes of it.
    pub(crate) fn certify(&mut self, approved: &Approved) -> Result<&RunPrincipal> {
        let nonce = match self.request.nonce {
            Some(nonce) => check_nonce(nonce)?.to_owned(),
            None => hex(&self.random.bytes::<16>()),
        };
        let desk = self.desk.as_ref().map_err(Clone::clone)?;
        let mut held = desk.journal.hold()?;
        let now = held.now(self.request.clock.now());
        held.facts().check_nonce(&nonce)?;
        held.facts().check_agreement(approved.agreement(), approved.agreement_id())?;
        let mechanism = Mechanism::new(approved.manifest(), &approved.agreement().controls);
        let charges = privacy::charges(approved.agreement(), &mechanism);
        held.facts().check_budget(&charges)?;
        let mut records = self.end_lost_runs(held.facts(), now)?;

        let runtime = desk.runtime.to_string();
        let names = RunNames { run_id: &self.trace.run_id, nonce: &nonce, runtime: &runtime };
        let tenure = Tenure { from: now, minutes: self.request.minutes };
        let principal = RunPrincipal::new(approved, names, charges, tenure, &self.dir, &mut self.random)?;
        let certificate = principal.certify(approved.agreement_id(), self.key)?;
        records.push(certificate.clone());
        held.append(&records, self.key)?;
        // Only now: a certificate that the log did not take would speak against the receipt of that refusal.
        receipt::put(&self.dir, &certificate_path(&self.trace.run_id), &certificate)?;
        self.trace.certificate_sha256 = Some(sha256_hex(&certificate));
        Ok(self.principal.insert(principal))
    }

    /// Principals of processes that were killed can act no more: their end is logged by the next run.
    fn end_lost_runs(&self, facts: &Facts, now: DateTime<Utc>) -> Result<Vec<Vec<u8>>> {
        let end = |run: OpenRun| {
            let (run_id, principal) = (run.run_id, run.principal);
            let at = clock::to_text(clock::to_the_minute(now));
            let record = Decommission { run_id, principal, end: End::Lost, at };
            principal::decommissioned(record, &run.agreement_id, self.key)
        };
        facts.lost_runs(now).into_iter().map(end).collect()
    }

    /// The seed of the run's noise and salt.
    pub(crate) const fn seed(&self) -> [u8; 32] {
        self.seed
    }

    /// Seals exact figures and the seed to the room's auditor. Where there is none, they are dropped.
    pub(crate) fn seal_figures(
        &mut self,
        approved: &Approved,
        figures: Figures,
        sources: Vec<SourceDigest>,
    ) -> Result<()> {
        let Some(auditor) = approved.auditor() else { return Ok(()) };
        let sealed = Sealed {
            run_id: self.trace.run_id.clone(),
            seed: hex(&self.seed),
            started_at: clock::to_text(self.trace.started_at),
            finished_at: clock::to_text(self.request.clock.now()),
            figures,
            sources,
        };
        let sealed = sealed.seal(auditor)?;
        receipt::put(&self.dir, &sealed_path(&self.trace.run_id), &sealed)?;
        self.trace.sealed_sha256 = Some(sha256_hex(&sealed));
        Ok(())
    }

    /// Asks the gate once more about a result, writes it, writes the receipt, ends the principal, logs both, and gives
    /// the result its name: all while no one else writes to the room.
    pub(crate) fn close(&mut self, rendered: Result<RenderedResult>) -> Result<(String, Result<Delivered>)> {
        let desk = self.desk.clone();
        let held = desk.as_ref().map_err(Clone::clone).and_then(|desk| desk.journal.hold());
        let mut held = match held {
            Ok(held) => held,
            // What the log cannot take is a refusal's receipt, and stands by itself.
            Err(fault) => {
                let refused = rendered.err().unwrap_or(fault);
                let (path, _) = self.receipt(Err(refused.code()), self.request.clock.now())?;
                return Ok((path, Err(refused)));
            }
        };
        let now = held.now(self.request.clock.now());
        let confirmed = rendered.and_then(|result| self.confirm(result, held.facts(), now));
        let staged = confirmed.and_then(|confirmed| destination::stage(confirmed, &self.dir));
        let outcome = staged.as_ref().map(StagedResult::result).map_err(Fault::code);
        let (path, records) = self.receipt(outcome, now)?;
        let logged = held.append(&records, self.key).and_then(|index| self.prove(index));
        match (staged, logged) {
            // A result whose receipt is not in the log gets no name.
            (Ok(_), Err(fault)) => Err(fault),
            (Ok(staged), Ok(())) => Ok((path, self.publish(staged, &mut held, now))),
            (Err(refused), _) => Ok((path, Err(refused))),
        }
    }

    /// Where even that fails, because someone else has taken the name or the disk has gone, the log says so.
    fn publish(&self, staged: StagedResult, held: &mut Held<'_>, now: DateTime<Utc>) -> Result<Delivered> {
        destination::publish(staged, &self.dir).inspect_err(|_| {
            let (run_id, at) = (self.trace.run_id.clone(), clock::to_text(clock::to_the_minute(now)));
            let record = Decommission { run_id, principal: String::new(), end: End::Undelivered, at };
            // If the log fails as well, there is no place left to say it.
            let record = principal::decommissioned(record, &self.trace.subject(), self.key);
            let _ = record.and_then(|record| held.append(&[record], self.key));
        })
    }

    fn confirm(&mut self, result: RenderedResult, facts: &Facts, now: DateTime<Utc>) -> Result<Confirmed> {
        if let Some(principal) = &self.principal {
            principal.check(now)?;
        }
        let folder = self.trace.agreement_path.clone();
        gate::confirm(result, &inquiry(&self.dir, &folder, now, &self.public, facts), &mut self.trace)
    }

    /// The receipt, which is written, and the records to log: it, and the end of the principal.
    fn receipt(
        &mut self,
        outcome: Result<&RenderedResult, Code>,
        now: DateTime<Utc>,
    ) -> Result<(String, Vec<Vec<u8>>)> {
        let principal = self.principal.take();
        let signer = principal.as_ref().map_or(ReceiptSigner::Runtime(self.key), ReceiptSigner::Principal);
        let (path, sealed) = receipt::seal(outcome, &self.trace, &self.dir, &signer, now)?;
        let mut records = vec![sealed];
        if let Some(principal) = principal {
            records.push(principal.decommission(&self.trace.subject(), self.key, now)?);
        }
        Ok((path, records))
    }

    fn prove(&self, index: u64) -> Result<()> {
        let desk = self.desk.as_ref().map_err(Clone::clone)?;
        receipt::put(&self.dir, &proof_path(&self.trace.run_id), &desk.journal.prove(index)?)
    }
}

fn inquiry<'a>(
    dir: &'a Dir,
    folder: &'a str,
    now: DateTime<Utc>,
    runtime: &'a PublicKey,
    facts: &'a Facts,
) -> Inquiry<'a> {
    Inquiry { dir, folder, now, runtime, facts }
}

/// Opens the folder of this host's anchors, and makes it where it is missing.
pub(crate) fn open_state(path: &std::path::Path) -> Result<Dir> {
    std::fs::create_dir_all(path).and_then(|()| files::open_dir(path)).map_err(|error| {
        Fault::new(
            Code::StateMissing,
            format!("cannot open {}, the folder of this host's state: {error}", path.display()),
            "name another folder with --state",
        )
    })
}

fn check_path(agreement: &str) -> Result<&str> {
    let agreement = agreement.trim_end_matches('/');
    if is_inner_path(agreement) && agreement.len() <= AGREEMENT_PATH_MAX {
        return Ok(agreement);
    }
    let fact = format!("an agreement is a folder inside the room, in at most {AGREEMENT_PATH_MAX} characters");
    Err(Fault::new(Code::AgreementInvalid, fact, "name it as `agreements/NAME-rN`"))
}

fn check_nonce(nonce: &str) -> Result<&str> {
    if nonce.len() == 32 && data_encoding::HEXLOWER.decode(nonce.as_bytes()).is_ok() {
        return Ok(nonce);
    }
    Err(Fault::new(Code::Usage, "a nonce is 32 digits of lower-case hex", "leave --nonce out for a random one"))
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
