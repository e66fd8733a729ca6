//! One run, top to bottom. Each step consumes what only the step before can make, so none can be left out or moved.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use glovebox_trust::keys::SigningKey;
use serde::Serialize;

use crate::clock::Clock;
use crate::deliver;
use crate::destination::{self, Delivered, RenderedResult};
use crate::error::{Code, Fault, Result};
use crate::privacy::{self, Charge, MeasureNoise, Mechanism, ShardKey};
use crate::provision::{self, Resources, Split};
use crate::random::Random;
use crate::receipt::{self, Trace};
use crate::session::Session;
use crate::shards::Parts;

/// A request for one run. It points at an agreement and decides nothing else about what is released.
#[derive(Debug)]
pub struct Request<'a> {
    /// The room's folder.
    pub room: &'a Path,
    /// The agreement's folder inside the room.
    pub agreement: &'a str,
    /// The runtime's key, which signs the receipt.
    pub key: &'a SigningKey,
    /// How many cores to use; more than there are make no difference.
    pub threads: usize,
    /// Into how many groups of shards the units are split; each but the first is asked by a process of its own.
    pub groups: u16,
    /// Memory for sorting views, in bytes; what does not fit is spilled to a private folder.
    pub sort_memory_bytes: usize,
    /// The folder of this host's anchors, outside of any room.
    pub state: &'a Path,
    /// The server of the host's ledger, where it is not in that folder.
    pub store: Option<&'a str>,
    /// Names the request; a second one of the same name is refused. By default it is random.
    pub nonce: Option<&'a str>,
    /// For how many minutes the run's principal may act.
    pub minutes: u32,
    /// The time.
    pub clock: Clock,
    /// The program that serves as a worker, where it is not the one that runs.
    pub worker: Option<&'a Path>,
}

/// A step of the run, for progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Checking approvals.
    Gate,
    /// Opening views.
    Provision,
    /// Running the question.
    Sandbox,
    /// Applying the controls.
    Privacy,
    /// Writing the result.
    Destination,
    /// Writing the receipt.
    Receipt,
}

/// How a run ended. Either way there is a receipt.
#[derive(Debug)]
pub struct Outcome {
    /// The run.
    pub run_id: String,
    /// The receipt's path in the room.
    pub receipt: String,
    /// What it cost, also where it was refused after it was charged.
    pub charges: Vec<Charge>,
    /// The run whose answer this one repeats.
    pub repeat_of: Option<String>,
    /// The released result, or why there is none.
    pub result: Result<ReleasedResult>,
}

/// A released result.
#[derive(Clone, Debug, Serialize)]
pub struct ReleasedResult {
    /// The file's path in the room.
    pub path: String,
    /// Rows of the released table.
    pub rows: usize,
    /// k: the fewest distinct units of a released group.
    pub k_min: u32,
    /// What the noisy count above k - 1 had to reach; none where every group is shown.
    pub threshold: Option<u64>,
    /// The noise of each measure.
    pub noise: Vec<MeasureNoise>,
    /// What is promised, and what is not.
    pub guarantee: String,
}

/// Runs a question, if every affected party approved it, and writes a receipt whatever happens.
pub fn run(request: &Request<'_>, progress: &dyn Fn(Step)) -> Result<Outcome> {
    let mut session = Session::open(request)?;

    // What could not be recorded does not begin.
    receipt::prepare(&session.dir, &session.trace.run_id)?;

    // 1 to 4, or the first refusal.
    let rendered = catch_unwind(AssertUnwindSafe(|| release(request, &mut session, progress))).unwrap_or_else(|_| {
        Err(Fault::new(Code::Internal, "the run ended by a defect", "report it with the run's id"))
    });

    // 5 and 6. The gate lets the result out even now; it is written whole or not at all, and gets its name once the
    // receipt, which the run's principal signs, is in the log. Refusals are receipted and logged as well.
    progress(Step::Destination);
    let (receipt, delivered) = session.close(rendered)?;
    progress(Step::Receipt);

    // The result is out. What goes wrong from here on can be tried again for nothing.
    let delivered = delivered.and_then(|delivered| {
        if delivered.approved.agreement().destination.deliver.is_some() {
            deliver::deliver(&session.dir, request.state, &receipt, request.clock.now())?;
        }
        Ok(delivered)
    });
    let Trace { run_id, charges, repeat_of, .. } = session.trace;
    Ok(Outcome { run_id, receipt, charges, repeat_of, result: delivered.map(ReleasedResult::from) })
}

fn release(request: &Request<'_>, session: &mut Session<'_>, progress: &dyn Fn(Step)) -> Result<RenderedResult> {
    // 1. Gate: exactly these bytes, views, controls and destination, approved by every affected party.
    progress(Step::Gate);
    let approved = session.admit()?;
    destination::prepare(&approved, &session.dir)?;
    deliver::prepare(request.state, &approved.agreement().destination)?;
    let mut noise = Random::from_seed(session.seed());

    // An identical run of the same data gets the answer that was released before, and costs nothing.
    let snapshot = provision::snapshot(&approved, &session.host(), &[])?;
    if let Some(answer) = session.recall(&approved, &snapshot)? {
        session.certify(&approved)?;
        return destination::render(privacy::recalled(approved, &answer)?, &*session.setting()?, &mut noise);
    }
    session.ledger()?.check(&privacy::charges(approved.agreement(), approved.manifest()))?;
    let parts = Parts::of(&approved, request.groups, cores(request.threads))?;
    let sandbox = session.sandbox(&approved, parts.workers())?;

    // 2. Provision: the budget is reserved; the run's own principal opens the agreed views; the budget is settled before
    // the first row is looked at, and from there on everything that goes wrong is told as one thing.
    progress(Step::Provision);
    session.certify(&approved)?;
    let (threads, room_key) = (cores(request.threads), session.room_key()?);
    let split = Split::whole(ShardKey::of_run(&session.seed()), approved.manifest().shards());
    let resources = parts.share(Resources { memory_bytes: request.sort_memory_bytes, threads, room_key, split });
    if snapshot.infers_types() {
        session.begin_to_read()?;
    }
    let opened = provision::provision(approved, session.principal()?, &resources, &snapshot)?;
    session.begin_to_read()?;
    let provisioned = opened.read()?;
    // A state that a server keeps is in its way.
    let snapshot = snapshot.let_go();

    // 3. Sandbox: ask about one unit at a time, shard by shard. Nothing leaves yet.
    progress(Step::Sandbox);
    let funded = privacy::charge(provisioned, &session.trace.run_id, &session.ledger()?)?;
    let (raw, figures) = session.ask(sandbox, funded, parts, resources, &snapshot)?;
    session.keep_figures(figures, raw.sha256()?);

    // 4. Privacy: threshold and noise.
    progress(Step::Privacy);
    let released = privacy::release(raw, &mut noise)?;
    session.keep_answer(&released)?;
    destination::render(released, &*session.setting()?, &mut noise)
}

/// At most one worker per core: more would only make units wait for each other until the clock ends the run.
pub(crate) fn cores(asked: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    asked.clamp(1, cores)
}

impl From<Delivered> for ReleasedResult {
    fn from(delivered: Delivered) -> Self {
        let agreement = delivered.approved.agreement();
        let mechanism = Mechanism::new(delivered.approved.manifest(), &agreement.controls);
        Self {
            path: delivered.path,
            rows: delivered.rows,
            k_min: mechanism.k_min,
            threshold: mechanism.threshold,
            noise: mechanism.measures().to_vec(),
            guarantee: agreement.guarantee.clone(),
        }
    }
}
