//! Step 6. A signed record of every run, refusals included, that anyone can verify offline.
//!
//! A receipt is an in-toto Statement whose subject is the agreement, signed by the run's principal and logged. Nothing
//! in it depends on one unit: no counts, no fuel, no error text, times to the minute, and a salted commitment instead of
//! the output's hash. Exact figures and the seed of the noise go into a part that is sealed to the room's auditor alone,
//! for an owner may attack another. (In SCITT and COSE a *receipt* is a proof of inclusion in a log; here it is the
//! record of a run.)

mod sealed;
mod verify;

use std::io::Write;

use cap_std::fs::Dir;
use chrono::{DateTime, Utc};
use glovebox_trust::envelope::{self, IN_TOTO, Statement, Subject};
use glovebox_trust::keys::SigningKey;
use serde::{Deserialize, Serialize};

pub(crate) use sealed::check_recipient;
pub use sealed::new_auditor;
pub(crate) use sealed::{CAUSE_BYTES_MAX, SEALED_BYTES_MAX, Sealed, open as open_sealed, path_of as sealed_path};
pub use verify::{Check, Verified, verify};
pub(crate) use verify::{Evidence, evidence};

use crate::clock;
use crate::destination::RenderedResult;
use crate::error::{Code, Fault, Result};
use crate::files::{self, Existing, Staged};
use crate::gate::{AGREEMENT_FILE, ApprovalRecord, ListRecord};
use crate::principal::RunPrincipal;
use crate::privacy::{Charge, MeasureNoise, Mechanism};
use crate::room::{RegistryPin, Runtime, sha256_hex};
use crate::sandbox::Wall;

pub(crate) const RECEIPT_TYPE: &str = "https://glovebox.dev/run/v1";
pub(crate) const RECEIPTS_FOLDER: &str = "receipts";

/// What a receipt says of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunRecord {
    run_id: String,
    decision: Decision,
    code: Option<String>,
    started_at: String,
    finished_at: String,
    agreement_path: String,
    /// SHA-256 of the principal's certificate; none where the gate refused before there was one.
    certificate_sha256: Option<String>,
    /// The registry and the lists of revocations that were seen last; a refusal that saw them counts as seeing them.
    registry: Option<RegistryPin>,
    revocations: Vec<ListRecord>,
    approvals: Vec<ApprovalRecord>,
    runtime: Runtime,
    /// Where the question ran; none where no worker was started for it.
    sandbox: Option<SandboxRecord>,
    /// SHA-256 of the program that ran.
    build_sha256: String,
    charges: Vec<Charge>,
    /// The run whose answer this one repeats, at no cost.
    repeat_of: Option<String>,
    released: Option<ReleaseRecord>,
    /// SHA-256 of what is sealed to the auditor; none where the room has no auditor, or nothing to seal.
    sealed_sha256: Option<String>,
}

/// What a question ran behind, and on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SandboxRecord {
    /// The walls that stood around every worker.
    pub(crate) walls: Vec<Wall>,
    /// The processor, as far as compiled code depends on it.
    pub(crate) isa: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Decision {
    Released,
    Refused,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseRecord {
    component_sha256: String,
    manifest_sha256: String,
    guarantee: String,
    unprotected: Vec<String>,
    k_min: u32,
    threshold: Option<u64>,
    l0: u32,
    mechanism: String,
    noise: Vec<MeasureNoise>,
    output_path: String,
    output_commitment: String,
}

impl RunRecord {
    pub(crate) fn run_id(&self) -> &str {
        &self.run_id
    }

    pub(crate) fn finished_at(&self) -> &str {
        &self.finished_at
    }

    pub(crate) fn charges(&self) -> &[Charge] {
        &self.charges
    }

    /// Whether data was read and nothing came of it.
    pub(crate) fn was_withheld(&self) -> bool {
        [Code::Withheld, Code::DifferenceTooSmall].map(|code| Some(code.as_str())).contains(&self.code.as_deref())
    }

    pub(crate) const fn registry(&self) -> Option<&RegistryPin> {
        self.registry.as_ref()
    }

    pub(crate) fn revocations(&self) -> &[ListRecord] {
        &self.revocations
    }
}

/// What is known of a run so far; a refusal's receipt can say no more than this.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub(crate) run_id: String,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) agreement_path: String,
    pub(crate) agreement_id: Option<String>,
    pub(crate) registry: Option<RegistryPin>,
    pub(crate) revocations: Vec<ListRecord>,
    pub(crate) approvals: Vec<ApprovalRecord>,
    pub(crate) certificate_sha256: Option<String>,
    pub(crate) charges: Vec<Charge>,
    pub(crate) repeat_of: Option<String>,
    pub(crate) sandbox: Option<SandboxRecord>,
    /// Whether a row may have been read: from then on a refusal tells something, and is told as one thing.
    pub(crate) has_read: bool,
    pub(crate) sealed_sha256: Option<String>,
}

impl Trace {
    pub(crate) fn new(run_id: String, started_at: DateTime<Utc>, agreement: &str) -> Self {
        let agreement_path = agreement.trim_end_matches('/').to_owned();
        Self {
            run_id,
            started_at,
            agreement_path,
            agreement_id: None,
            registry: None,
            revocations: Vec::new(),
            approvals: Vec::new(),
            certificate_sha256: None,
            charges: Vec::new(),
            repeat_of: None,
            sandbox: None,
            has_read: false,
            sealed_sha256: None,
        }
    }

    /// Where not even an agreement could be read, the receipt is about nothing: the digest of no bytes.
    pub(crate) fn subject(&self) -> String {
        self.agreement_id.clone().unwrap_or_else(|| sha256_hex(b""))
    }
}

/// Space that must be free for a receipt before a run begins.
const PROBE_BYTES: usize = 64 << 10;

/// Makes sure that a receipt can be written, while there is nothing to record yet.
pub(crate) fn prepare(dir: &Dir, run_id: &str) -> Result<()> {
    let path = path_of(run_id);
    let probe = Staged::create(dir, &path, |file| file.write_all(&[0; PROBE_BYTES]));
    probe.map(drop).map_err(|error| unwritable(&path, &error))
}

/// Who signs a receipt: the run's principal, or the runtime where the run got none.
pub(crate) enum ReceiptSigner<'a> {
    Principal(&'a RunPrincipal),
    Runtime(&'a SigningKey),
}

/// Signs the receipt of a run and writes it. Returns its path in the room and its bytes, which are to be logged.
pub(crate) fn seal(
    outcome: Result<&RenderedResult, Code>,
    trace: &Trace,
    dir: &Dir,
    signer: &ReceiptSigner<'_>,
    now: DateTime<Utc>,
) -> Result<(String, Vec<u8>)> {
    let record = RunRecord {
        run_id: trace.run_id.clone(),
        decision: if outcome.is_ok() { Decision::Released } else { Decision::Refused },
        code: outcome.err().map(|code| code.as_str().into()),
        started_at: clock::to_text(clock::to_the_minute(trace.started_at)),
        finished_at: clock::to_text(clock::to_the_minute(now)),
        agreement_path: trace.agreement_path.clone(),
        certificate_sha256: trace.certificate_sha256.clone(),
        registry: trace.registry.clone(),
        revocations: trace.revocations.clone(),
        approvals: trace.approvals.clone(),
        runtime: Runtime::this(),
        sandbox: trace.sandbox.clone(),
        build_sha256: crate::room::build_sha256(),
        charges: trace.charges.clone(),
        repeat_of: trace.repeat_of.clone(),
        released: outcome.ok().map(ReleaseRecord::of),
        sealed_sha256: trace.sealed_sha256.clone(),
    };
    let statement = Statement::new(Subject::new(AGREEMENT_FILE, &trace.subject()), RECEIPT_TYPE, record);
    let sealed = match signer {
        ReceiptSigner::Principal(principal) => principal.sign(&statement.to_bytes())?,
        ReceiptSigner::Runtime(key) => envelope::seal(IN_TOTO, &statement.to_bytes(), *key)
            .map_err(|why| Fault::new(Code::ReceiptFailed, why, "check the runtime's key"))?,
    };
    let path = path_of(&trace.run_id);
    put(dir, &path, &sealed)?;
    Ok((path, sealed))
}

/// Writes one of a run's files beside its receipt.
pub(crate) fn put(dir: &Dir, path: &str, bytes: &[u8]) -> Result<()> {
    files::write(dir, path, bytes, Existing::Refuse).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &str, error: &std::io::Error) -> Fault {
    Fault::new(
        Code::ReceiptFailed,
        format!("cannot write {path}: {error}"),
        "make room in the room's folder, and let `receipts` be a folder that can be written to",
    )
}

fn path_of(run_id: &str) -> String {
    format!("{RECEIPTS_FOLDER}/{}", file_name(run_id))
}

/// A receipt is filed under its run, so that no other can stand in its place.
fn file_name(run_id: &str) -> String {
    format!("{run_id}.dsse.json")
}

/// The path of the certificate of a run's principal.
pub(crate) fn certificate_path(run_id: &str) -> String {
    format!("{RECEIPTS_FOLDER}/{run_id}.certificate.dsse.json")
}

/// The path of the proof that a receipt is in the log.
pub(crate) fn proof_path(run_id: &str) -> String {
    format!("{RECEIPTS_FOLDER}/{run_id}.tlog-proof")
}

impl ReleaseRecord {
    fn of(result: &RenderedResult) -> Self {
        let agreement = result.approved.agreement();
        let mechanism = Mechanism::new(result.approved.manifest(), &agreement.controls);
        Self {
            component_sha256: agreement.component.sha256.clone(),
            manifest_sha256: agreement.manifest.sha256.clone(),
            guarantee: agreement.guarantee.clone(),
            unprotected: agreement.unprotected.clone(),
            k_min: mechanism.k_min,
            threshold: mechanism.threshold,
            l0: mechanism.l0,
            mechanism: mechanism.noise_name().into(),
            noise: mechanism.measures().to_vec(),
            output_path: result.path.clone(),
            output_commitment: result.commitment.clone(),
        }
    }
}
