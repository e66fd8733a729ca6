//! One run, top to bottom. Each step consumes what only the step before can make, so none can be left out or moved.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use glovebox_trust::keys::SigningKey;
use serde::Serialize;

use crate::clock::Clock;
use crate::destination::{self, Delivered, RenderedResult};
use crate::error::{Code, Fault, Result};
use crate::gate;
use crate::privacy::{self, Charge, Ledger, MeasureNoise, Mechanism};
use crate::provision::{self, Resources};
use crate::random::Random;
use crate::receipt::{self, Trace};
use crate::sandbox::{self, Question};
use crate::session::Session;

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
    /// Memory for sorting views, in bytes; what does not fit is spilled to a private folder.
    pub sort_memory_bytes: usize,
    /// The folder of this host's anchors, outside of any room.
    pub state: &'a Path,
    /// Names the request; a second one of the same name is refused. By default it is random.
    pub nonce: Option<&'a str>,
    /// For how many minutes the run's principal may act.
    pub minutes: u32,
    /// The time.
    pub clock: Clock,
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

impl Step {
    /// All steps in order.
    pub const ALL: [Self; 6] =
        [Self::Gate, Self::Provision, Self::Sandbox, Self::Privacy, Self::Destination, Self::Receipt];

    /// What happens, for people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Gate => "checking approvals",
            Self::Provision => "opening views",
            Self::Sandbox => "asking one unit at a time",
            Self::Privacy => "applying the controls",
            Self::Destination => "writing the result",
            Self::Receipt => "signing the receipt",
        }
    }
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
    pub group_size_min: u32,
    /// What the noisy count above k - 1 had to reach.
    pub threshold: u64,
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
    let Trace { run_id, charges, .. } = session.trace;
    Ok(Outcome { run_id, receipt, charges, result: delivered.map(ReleasedResult::from) })
}

fn release(request: &Request<'_>, session: &mut Session<'_>, progress: &dyn Fn(Step)) -> Result<RenderedResult> {
    // 1. Gate: exactly these bytes, views, controls and destination, approved by every affected party.
    progress(Step::Gate);
    let approved = session.admit()?;
    let mut ledger = Ledger::open(&session.dir)?;
    let threads = threads(request);
    let question = refuse_early(&approved, &session.dir, &mut ledger, threads)?;

    // 2. Provision: the run's own principal opens the agreed views, and they are joined by unit.
    progress(Step::Provision);
    let principal = session.certify(&approved)?;
    let digest_sources = approved.auditor().is_some();
    let resources = Resources { memory_bytes: request.sort_memory_bytes, threads, digest_sources };
    let provisioned = provision::provision(approved, principal, &resources)?;

    // 3. Sandbox: charge the budget, then ask about one unit at a time. Nothing leaves yet.
    progress(Step::Sandbox);
    let sources = provisioned.sources().to_vec();
    let funded = privacy::charge(provisioned, &mut session.trace, &mut ledger)?;
    let (raw, figures) = sandbox::execute(&question, funded)?;

    // 4. Privacy: threshold and noise.
    progress(Step::Privacy);
    let mut noise = Random::from_seed(session.seed());
    let released = privacy::release(raw, &mut noise)?;
    session.seal_figures(&released.approved, figures, sources)?;
    destination::render(released, &mut noise)
}

/// What would be refused after a row is read is refused before it, while it is free. Budget and destination are
/// checked again when they count.
fn refuse_early(
    approved: &gate::Approved,
    dir: &cap_std::fs::Dir,
    ledger: &mut Ledger,
    threads: usize,
) -> Result<Question> {
    let mechanism = Mechanism::new(approved.manifest(), &approved.agreement().controls);
    ledger.check(&privacy::charges(approved.agreement(), &mechanism))?;
    destination::prepare(approved, dir)?;
    Question::compile(approved, threads)
}

/// At most one thread per core: more would only make units wait for each other until the clock ends the run.
fn threads(request: &Request<'_>) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    request.threads.clamp(1, cores)
}

impl From<Delivered> for ReleasedResult {
    fn from(delivered: Delivered) -> Self {
        let mechanism = Mechanism::new(delivered.approved.manifest(), &delivered.approved.agreement().controls);
        Self {
            path: delivered.path,
            rows: delivered.rows,
            group_size_min: mechanism.group_size_min,
            threshold: mechanism.threshold,
            noise: mechanism.measures().to_vec(),
            guarantee: mechanism.sentence().into(),
        }
    }
}
