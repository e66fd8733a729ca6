//! What a run holds besides its data: the room, the journal, the ledger, its principal, and what is known of it so far.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cap_std::fs::Dir;
use chrono::{DateTime, Utc};
use glovebox_trust::Principal;
use glovebox_trust::keys::{PublicKey, Signer, SigningKey};

use crate::clock::{self, Stopwatch};
use crate::destination::{self, Delivered, RenderedResult, StagedResult};
use crate::error::{Code, Fault, Result};
use crate::gate::{self, Approved, Chain, Confirmed, Inquiry};
use crate::journal::{Facts, Held, Journal, OpenRun};
use crate::principal::{self, Decommission, End, Paid, Places, RunNames, RunPrincipal, Tenure};
use crate::privacy::{
    self, Funded, History, HostKey, Kept, Ledger, RawOutput, Release, Released, ReleasedSet, RoomKey, SetKind, Setting,
    StoredAnswer, UnitSeeds,
};
use crate::provision::{Host, Resources, Snapshot, SourceDigest};
use crate::random::Random;
use crate::receipt::{
    self, CAUSE_BYTES_MAX, ReceiptSigner, SandboxRecord, Sealed, Trace, certificate_path, proof_path, sealed_path,
};
use crate::room::{Controls, Kind, View, begin_build_sha256, is_inner_path, sha256_hex};
use crate::run::Request;
use crate::sandbox::{Compiled, Figures, Grounds, Program, Sandbox, isa};
use crate::shards::{self, Groups, Parts, THIS_PROGRAM};
use crate::state::{State, StateAt};

const AGREEMENT_PATH_MAX: usize = 200;

/// A run in a room.
pub(crate) struct Session<'a> {
    pub(crate) dir: Dir,
    pub(crate) trace: Trace,
    request: &'a Request<'a>,
    key: &'a SigningKey,
    public: PublicKey,
    state: State,
    /// None where the registry cannot be read: then the gate refuses, and the receipt cannot be logged.
    desk: Result<Rc<Desk>>,
    principal: Option<RunPrincipal>,
    random: Random,
    seed: [u8; 32],
    began: Stopwatch,
    /// What is to be sealed and kept of a run that may read data; none before that.
    affairs: Option<Affairs>,
}

/// What a run that may read data leaves behind besides its result.
struct Affairs {
    controls: Controls,
    auditor: Option<String>,
    setting: Arc<Setting>,
    room_key: RoomKey,
    /// The name of the question with its data: the same one has the same answer.
    question: String,
    lineages: Vec<String>,
    recipient: String,
    kind: SetKind,
    slots: usize,
    sources: Vec<SourceDigest>,
    figures: Option<Figures>,
    raw_sha256: Option<String>,
    answer: Option<Answer>,
    /// Why there is no result, for the auditor.
    cause: Option<Fault>,
}

/// A released answer, to be kept: what later runs are compared with, and what an identical run gets again.
struct Answer {
    bytes: Vec<u8>,
    sets: Vec<ReleasedSet>,
    /// Of the record of the sets, once it is written.
    sets_sha256: Option<String>,
}

/// Where runs are recorded, and as whom.
struct Desk {
    journal: Journal,
    runtime: Principal,
}

impl<'a> Session<'a> {
    /// Opens the room for a run. Without a registered runtime key no run begins: nobody could verify its receipt.
    pub(crate) fn open(request: &'a Request<'a>) -> Result<Self> {
        begin_build_sha256();
        let dir = crate::open_room(request.room)?;
        let mut random = Random::from_os()?;
        // What is no path of an agreement does not stand in the receipt, which must fit into the log.
        let agreement = check_path(request.agreement).unwrap_or_default();
        let trace = Trace::new(hex(&random.bytes::<16>()), request.clock.now(), agreement);
        let public = request.key.public();
        let chain = gate::read_room(&dir).and_then(|room| Chain::read(&dir, &room.id));
        let runtime = gate::runtime_of(chain.as_ref().ok(), &public)?;
        let state = State::open(StateAt { folder: request.state, store: request.store })?;
        let desk = chain.and_then(|chain| {
            let runtime = runtime.ok_or_else(|| Fault::new(Code::KeyUnknown, "there is no registry", "make one"))?;
            Ok(Rc::new(Desk { journal: Journal::new(&dir, state.try_clone()?, &chain)?, runtime }))
        });
        let seed = random.bytes();
        let (key, principal, began, affairs) = (request.key, None, Stopwatch::start(), None);
        Ok(Self { dir, trace, request, key, public, state, desk, principal, random, seed, began, affairs })
    }

    /// The host's budget ledger.
    pub(crate) fn ledger(&self) -> Result<Ledger> {
        self.state.ledger()
    }

    /// The room and the host's connections, for a look at what the views' sources are.
    pub(crate) const fn host(&self) -> Host<'_> {
        Host { dir: &self.dir, state: self.request.state }
    }

    /// Workers for the question, and which walls stand around them.
    pub(crate) fn sandbox(&mut self, approved: &Approved, workers: usize) -> Result<Sandbox> {
        let compiled = Compiled::of(self.state.try_clone_dir()?, HostKey::open(&self.state.dir)?);
        let program = self.request.worker.map_or_else(Program::this, Program::at);
        // No worker computes for longer than its run may last.
        let worker_seconds = u64::from(self.request.minutes) * 60;
        let seeds = UnitSeeds::of_run(&self.seed);
        let grounds = Grounds { program: &program, compiled: &compiled, workers, worker_seconds, seeds: &seeds };
        let sandbox = Sandbox::start(approved, &grounds)?;
        self.trace.sandbox = Some(SandboxRecord { walls: sandbox.walls(), isa: isa() });
        Ok(sandbox)
    }

    /// Asks about all units, in groups of shards.
    pub(crate) fn ask(
        &self,
        sandbox: Sandbox,
        funded: Funded,
        parts: Parts,
        resources: Resources,
        snapshot: &Snapshot,
    ) -> Result<(RawOutput, Figures)> {
        let groups = Groups {
            parts,
            resources,
            snapshot,
            dir: &self.dir,
            program: self.request.worker.unwrap_or_else(|| Path::new(THIS_PROGRAM)),
            compiled: &Compiled::of(self.state.try_clone_dir()?, HostKey::open(&self.state.dir)?),
            worker_seconds: u64::from(self.request.minutes) * 60,
            unit_seeds: UnitSeeds::key_of_run(&self.seed),
            // How many units a shard has, and when it is done, is about data.
            progress: &|_| (),
        };
        shards::execute(sandbox, funded, &self.setting()?, &groups)
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

    /// Looks whether the same question was answered on the same data under the same terms: then that is the answer.
    pub(crate) fn recall(&mut self, approved: &Approved, snapshot: &Snapshot) -> Result<Option<StoredAnswer>> {
        let agreement = approved.agreement();
        let host = HostKey::open(&self.state.dir)?;
        let question = question_name(approved, snapshot);
        let answer = self.ledger()?.answer(&question)?;
        self.trace.repeat_of = answer.as_ref().map(|answer| answer.run_id.clone());
        let destination = host.destination(&agreement.room, &agreement.destination.id);
        self.affairs = Some(Affairs {
            controls: agreement.controls.clone(),
            auditor: approved.auditor().map(str::to_owned),
            setting: Arc::new(Setting::new(agreement, &host, destination)),
            room_key: host.room(&agreement.room),
            question,
            lineages: agreement.budget.accounts.clone(),
            recipient: agreement.destination.recipient.clone(),
            kind: if agreement.kind == Kind::List { SetKind::List } else { SetKind::Groups },
            slots: approved.manifest().slots.len(),
            sources: snapshot.sources(),
            figures: None,
            raw_sha256: None,
            answer: None,
            cause: None,
        });
        Ok(answer)
    }

    /// Makes the run's principal, reserves what the run costs, and logs the principal's certificate: from here on the run
    /// counts, whatever becomes of it. A repeat costs nothing.
    pub(crate) fn certify(&mut self, approved: &Approved) -> Result<()> {
        let nonce = match self.request.nonce {
            Some(nonce) => check_nonce(nonce)?.to_owned(),
            None => hex(&self.random.bytes::<16>()),
        };
        let desk = self.desk.clone()?;
        let mut held = desk.journal.hold()?;
        let now = held.now(self.request.clock.now());
        let (agreement, id) = (approved.agreement(), approved.agreement_id());
        held.facts().check_nonce(&nonce)?;
        held.facts().check_agreement(agreement, id)?;
        held.facts().check_pace(agreement, id, now)?;
        let is_repeat = self.trace.repeat_of.is_some();
        let charges = if is_repeat { Vec::new() } else { privacy::charges(agreement, approved.manifest()) };
        held.facts().check_budget(&charges)?;
        let mut records = self.end_lost_runs(held.facts(), now)?;

        // What the log would not take, or the history could not compare, must cost nothing.
        held.writer(self.key)?;
        let mut ledger = self.ledger()?;
        if !is_repeat && privacy::keeps_history(agreement) {
            History::whole(&self.state.dir, &ledger)?;
        }
        let room = desk.journal.name();
        if !is_repeat {
            ledger.reserve(room, &self.trace.run_id, &charges)?;
        }
        self.trace.charges.clone_from(&charges);
        let runtime = desk.runtime.to_string();
        let names = RunNames { run_id: &self.trace.run_id, nonce: &nonce, runtime: &runtime };
        let tenure = Tenure { from: now, minutes: self.request.minutes };
        let places = Places { dir: &self.dir, state: self.request.state };
        let paid = Paid { charges, ledger: ledger.head()? };
        let principal = RunPrincipal::new(approved, names, paid, tenure, places, &mut self.random)?;
        let certificate = principal.certify(approved.agreement_id(), self.key)?;
        records.push(certificate.clone());
        held.append(&records, self.key)?;
        // Only now: a certificate that the log did not take would speak against the receipt of that refusal.
        receipt::put(&self.dir, &certificate_path(&self.trace.run_id), &certificate)?;
        self.trace.certificate_sha256 = Some(sha256_hex(&certificate));
        self.principal = Some(principal);
        Ok(())
    }

    /// The run's own identity, once it is certified.
    pub(crate) fn principal(&self) -> Result<&RunPrincipal> {
        self.principal.as_ref().ok_or_else(|| Fault::new(Code::Internal, "the run has no principal", "report it"))
    }

    /// The slots' owners and this host's keys.
    pub(crate) fn setting(&self) -> Result<Arc<Setting>> {
        let affairs = self.affairs.as_ref().map(|affairs| Arc::clone(&affairs.setting));
        affairs.ok_or_else(|| Fault::new(Code::Internal, "the run has no setting", "report it"))
    }

    /// The key of the pseudonyms that this room's views write on this host.
    pub(crate) fn room_key(&self) -> Result<RoomKey> {
        let affairs = self.affairs.as_ref().map(|affairs| affairs.room_key);
        affairs.ok_or_else(|| Fault::new(Code::Internal, "the run has no key of its room", "report it"))
    }

    /// Settles what is reserved, durably, before the first row is looked at: from here on whatever happens may depend on
    /// one unit. It is never given back.
    pub(crate) fn begin_to_read(&mut self) -> Result<()> {
        if self.trace.has_read {
            return Ok(());
        }
        let mut ledger = self.ledger()?;
        let committed = ledger.commit(self.room_name()?, &self.trace.run_id);
        // Where the answer was lost, the commit may have come through: then nothing is given back either.
        let is_unknown = committed.as_ref().is_err_and(|fault| fault.code() == Code::StoreUnreachable);
        self.trace.has_read = committed.is_ok() || is_unknown;
        committed
    }

    /// Gives back what was reserved where no row was read.
    fn settle(&mut self) -> Result<()> {
        if self.trace.has_read || self.trace.charges.is_empty() {
            return Ok(());
        }
        self.trace.charges.clear();
        self.ledger()?.cancel(self.room_name()?, &self.trace.run_id)
    }

    /// The room's name in this host's state.
    pub(crate) fn room_name(&self) -> Result<&str> {
        self.desk.as_ref().map(|desk| desk.journal.name()).map_err(Clone::clone)
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

    /// The seed of all that the run draws but its names: its noise and salt, and the seeds of its units.
    pub(crate) const fn seed(&self) -> [u8; 32] {
        self.seed
    }

    /// Keeps the exact figures for the auditor, and the digest of what there was before any noise.
    pub(crate) fn keep_figures(&mut self, figures: Figures, raw_sha256: [u8; 32]) {
        if let Some(affairs) = &mut self.affairs {
            affairs.figures = Some(figures);
            affairs.raw_sha256 = Some(hex(&raw_sha256));
        }
    }

    /// Keeps a released answer until it leaves.
    pub(crate) fn keep_answer(&mut self, released: &Released) -> Result<()> {
        let bytes = released.to_bytes()?;
        if let Some(affairs) = &mut self.affairs {
            affairs.answer = Some(Answer { bytes, sets: released.groups.clone(), sets_sha256: None });
        }
        Ok(())
    }

    /// Asks the gate once more about a result, writes it, writes the receipt, ends the principal, logs both, and gives
    /// the result its name: all while no one else writes to the room, and at the end of a slot.
    pub(crate) fn close(&mut self, rendered: Result<RenderedResult>) -> Result<(String, Result<Delivered>)> {
        let rendered = self.settle().and(rendered);
        let rendered = rendered.and_then(|result| self.guard().map(|()| result));
        let rendered = self.withhold(rendered);
        let rendered = self.wait_for_slot(rendered);
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
        let remembered = confirmed.and_then(|confirmed| self.remember().map(|()| confirmed));
        let staged = remembered.and_then(|confirmed| destination::stage(confirmed, &self.dir));
        self.seal()?;
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

    /// Whatever goes wrong after a row was read may depend on that row: all of it is told as one thing, and why is for
    /// the auditor. A full disk or a damaged ledger is the host's, and stays what it is.
    fn withhold<T>(&mut self, outcome: Result<T>) -> Result<T> {
        let is_the_hosts = |fault: &Fault| {
            matches!(
                fault.code(),
                Code::DestinationExists
                    | Code::DestinationFailed
                    | Code::LedgerFailed
                    | Code::StoreUnreachable
                    | Code::HistoryFailed
            )
        };
        let fault = match outcome {
            Err(fault) if self.trace.has_read && !is_the_hosts(&fault) => fault,
            other => return other,
        };
        // Which group it is, and which earlier release, would tell more than that there is one.
        let is_too_close = fault.code() == Code::DifferenceTooSmall;
        if let Some(affairs) = &mut self.affairs {
            affairs.cause = Some(fault);
        }
        if is_too_close {
            return Err(Fault::new(
                Code::DifferenceTooSmall,
                "who is behind one of the numbers is almost the same as behind a number that was released before",
                "ask a question whose groups are the same or clearly different; the auditor can see which group it is",
            ));
        }
        Err(Fault::new(
            Code::Withheld,
            "no result: the run ended after data was read, and is charged",
            "let the room's auditor, if it has one, open the run's sealed part, which says why; `glovebox try` runs the \
             question on made-up data",
        ))
    }

    /// When a run ends is told to the slot and no more. A run that takes too many has no result.
    fn wait_for_slot<T>(&mut self, outcome: Result<T>) -> Result<T> {
        let Some(affairs) = &self.affairs else { return outcome };
        if !self.trace.has_read && self.trace.repeat_of.is_none() {
            return outcome;
        }
        let slot = Duration::from_millis(affairs.controls.release.slot_milliseconds);
        let (slots, most) = (self.began.slots(slot), affairs.controls.release.max_slots);
        let outcome = if slots > most {
            let late = Fault::new(Code::TimedOut, "the run took more slots than it may", "agree on longer slots");
            self.withhold(outcome.and(Err(late)))
        } else {
            outcome
        };
        self.began.wait(slot, clock::last_slot(slots, most));
        outcome
    }

    /// Compares who contributed with earlier releases where no noise hides it, and writes it down: a result that leaves is
    /// in the history, though not all that is in the history has left.
    fn guard(&mut self) -> Result<()> {
        let Some(affairs) = &mut self.affairs else { return Ok(()) };
        let Some(answer) = affairs.answer.as_mut().filter(|answer| !answer.sets.is_empty()) else { return Ok(()) };
        let (run, lineages) = (self.trace.run_id.clone(), affairs.lineages.clone());
        let sets = std::mem::take(&mut answer.sets);
        let release = Release::new(run, affairs.recipient.clone(), affairs.kind, lineages, sets);
        let (history, ledger) = (History::open(&self.state.dir)?, self.state.ledger()?);
        answer.sets_sha256 = Some(history.admit(&release, affairs.controls.min_sym_diff.into(), &ledger)?);
        Ok(())
    }

    /// Keeps the answer: from here on it may leave, and leaves again for an identical run.
    fn remember(&mut self) -> Result<()> {
        let room = self.room_name()?.to_owned();
        let Some(affairs) = &mut self.affairs else { return Ok(()) };
        let Some(answer) = affairs.answer.take() else { return Ok(()) };
        let (question, sets_sha256) = (affairs.question.as_str(), answer.sets_sha256.as_deref());
        let kept = Kept { question, answer: &answer.bytes, sets_sha256 };
        self.state.ledger()?.release(&room, &self.trace.run_id, &kept)
    }

    /// Seals exact figures, the seed, and why there is no result, to the room's auditor. Where there is none, they are
    /// dropped.
    fn seal(&mut self) -> Result<()> {
        let Some(affairs) = self.affairs.take() else { return Ok(()) };
        let Some(auditor) = affairs.auditor.filter(|_| self.trace.has_read) else { return Ok(()) };
        let sealed = Sealed {
            run_id: self.trace.run_id.clone(),
            seed: hex(&self.seed),
            destination_key: affairs.setting.destination().to_hex(),
            room_key: affairs.room_key.to_hex(),
            started_at: clock::to_text(self.trace.started_at),
            finished_at: clock::to_text(self.request.clock.now()),
            slots: affairs.slots,
            figures: affairs.figures,
            raw_sha256: affairs.raw_sha256,
            cause: affairs.cause.map(|fault| {
                let cause = format!("{}: {}", fault.code(), fault.fact());
                // So that a character is a byte in JSON too.
                let is_plain = |c: char| (c.is_ascii_graphic() || c == ' ') && !matches!(c, '"' | '\\');
                cause.chars().map(|c| if is_plain(c) { c } else { '?' }).take(CAUSE_BYTES_MAX).collect()
            }),
            sources: affairs.sources,
        };
        let sealed = sealed.seal(&auditor)?;
        receipt::put(&self.dir, &sealed_path(&self.trace.run_id), &sealed)?;
        self.trace.sealed_sha256 = Some(sha256_hex(&sealed));
        Ok(())
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
            let checked = principal.check(now);
            // How long a run takes depends on data.
            self.withhold(checked)?;
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

/// What makes two runs one question: the code, what it is asked, of which data, and under which terms. A list is another
/// question at another destination, where identifiers have other names; and whatever may name values by the room's key is
/// another question in another room.
fn question_name(approved: &Approved, snapshot: &Snapshot) -> String {
    let agreement = approved.agreement();
    let destination = (agreement.kind == Kind::List).then_some((&agreement.room, &agreement.destination));
    let may_name = agreement.all_views().any(View::may_write_pseudonyms);
    let room = may_name.then_some(&agreement.room);
    let views: Vec<&str> = agreement.views.iter().map(|bound| bound.definition_sha256.as_str()).collect();
    let question = serde_json::json!({
        "component": agreement.component.sha256,
        "manifest": agreement.manifest.sha256,
        "parameters": agreement.parameters,
        "unit": agreement.unit,
        "views": views,
        "sources": snapshot.sources(),
        "controls": agreement.controls,
        "limits": agreement.limits,
        "runtime": agreement.runtime,
        "destination": destination,
        "room": room,
    });
    sha256_hex(question.to_string().as_bytes())
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
