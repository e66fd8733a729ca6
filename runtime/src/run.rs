//! One run, top to bottom. Each step consumes what only the step before can make, so none can be left out or moved.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde::Serialize;

use crate::clock::Clock;
use crate::destination::{self, Delivered};
use crate::error::{Code, Fault, Result};
use crate::gate::{self, SigningKey};
use crate::privacy::{self, Charge, Ledger, MeasureNoise, Mechanism};
use crate::provision::{self, Resources};
use crate::random::Random;
use crate::receipt::{self, Trace};
use crate::sandbox::{self, Question};

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
    let dir = crate::open_room(request.room)?;
    gate::check_runtime_key(&dir, request.key)?;
    let mut random = Random::from_os()?;
    let run_id = data_encoding::HEXLOWER.encode(&random.bytes::<16>());
    let mut trace = Trace::new(run_id, request.clock.now(), request.agreement);

    // What could not be recorded does not begin.
    receipt::prepare(&dir, &trace.run_id)?;

    // 1 to 5, or the first refusal.
    let delivered = catch_unwind(AssertUnwindSafe(|| release(request, &dir, &mut random, &mut trace, progress)))
        .unwrap_or_else(|_| {
            Err(Fault::new(Code::Internal, "the run ended by a defect", "report it with the run's id"))
        });

    // 6. Receipt: signed, for refusals as well.
    progress(Step::Receipt);
    let decision = delivered.as_ref().map_err(Fault::code);
    let receipt = receipt::seal(decision, &trace, &dir, request.key, request.clock.now())?;
    let result = delivered.map(ReleasedResult::from);
    Ok(Outcome { run_id: trace.run_id, receipt, charges: trace.charges, result })
}

fn release(
    request: &Request<'_>,
    dir: &cap_std::fs::Dir,
    random: &mut Random,
    trace: &mut Trace,
    progress: &dyn Fn(Step),
) -> Result<Delivered> {
    // 1. Gate: exactly these bytes, views, controls and destination, approved by every affected party.
    progress(Step::Gate);
    let agreement = trace.agreement_path.clone();
    let approved = gate::admit(dir, &agreement, request.clock.now(), trace)?;
    let mut ledger = Ledger::open(dir)?;
    let threads = threads(request);
    let question = refuse_early(&approved, dir, &mut ledger, threads)?;

    // 2. Provision: open only the agreed views, and join them by unit.
    progress(Step::Provision);
    let resources = Resources { memory_bytes: request.sort_memory_bytes, threads };
    let provisioned = provision::provision(approved, dir, &resources)?;

    // 3. Sandbox: charge the budget, then ask about one unit at a time. Nothing leaves yet.
    progress(Step::Sandbox);
    let funded = privacy::charge(provisioned, trace, &mut ledger)?;
    let raw = sandbox::execute(&question, funded)?;

    // 4. Privacy: threshold and noise.
    progress(Step::Privacy);
    let released = privacy::release(raw, random)?;

    // 5. Destination: all or nothing.
    progress(Step::Destination);
    destination::deliver(released, dir, random)
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
