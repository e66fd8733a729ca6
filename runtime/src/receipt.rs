//! Step 6. A signed record of every run, refusals included, that anyone can verify offline.
//!
//! A receipt is an in-toto Statement whose subject is the agreement. Nothing in it depends on one unit: no counts, no
//! fuel, no error text, times to the minute, and a salted commitment instead of the output's hash. (In SCITT and
//! COSE a *receipt* is a proof of inclusion in a log; here it is the record of a run.)

mod verify;

use std::io::Write;

use cap_std::fs::Dir;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

pub use verify::{Check, Verified, verify};

use crate::clock;
use crate::destination::Delivered;
use crate::error::{Code, Fault, Result};
use crate::files::{self, Existing, Staged};
use crate::gate::{ApprovalRecord, IN_TOTO, SigningKey, Statement, Subject, seal_envelope};
use crate::privacy::{Charge, MeasureNoise, Mechanism};
use crate::room::{Runtime, sha256_hex};

pub(crate) const RECEIPT_TYPE: &str = "https://glovebox.dev/run/v1";

/// What a receipt says of a run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunRecord {
    run_id: String,
    decision: Decision,
    code: Option<String>,
    started_at: String,
    finished_at: String,
    agreement_path: String,
    approvals: Vec<ApprovalRecord>,
    runtime: Runtime,
    charges: Vec<Charge>,
    released: Option<ReleaseRecord>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Decision {
    Released,
    Refused,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseRecord {
    component_sha256: String,
    manifest_sha256: String,
    guarantee: String,
    group_size_min: u32,
    threshold: u64,
    groups_per_unit: u32,
    noise: Vec<MeasureNoise>,
    output_path: String,
    output_commitment: String,
}

/// What is known of a run so far; a refusal's receipt can say no more than this.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub(crate) run_id: String,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) agreement_path: String,
    pub(crate) agreement_id: Option<String>,
    pub(crate) approvals: Vec<ApprovalRecord>,
    pub(crate) charges: Vec<Charge>,
}

impl Trace {
    pub(crate) fn new(run_id: String, started_at: DateTime<Utc>, agreement: &str) -> Self {
        let agreement_path = agreement.trim_end_matches('/').to_owned();
        Self { run_id, started_at, agreement_path, agreement_id: None, approvals: Vec::new(), charges: Vec::new() }
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

/// Signs the receipt of a run and writes it. Returns its path in the room.
pub(crate) fn seal(
    outcome: Result<&Delivered, Code>,
    trace: &Trace,
    dir: &Dir,
    key: &SigningKey,
    now: DateTime<Utc>,
) -> Result<String> {
    let record = RunRecord {
        run_id: trace.run_id.clone(),
        decision: if outcome.is_ok() { Decision::Released } else { Decision::Refused },
        code: outcome.err().map(|code| code.as_str().into()),
        started_at: to_the_minute(trace.started_at),
        finished_at: to_the_minute(now),
        agreement_path: trace.agreement_path.clone(),
        approvals: trace.approvals.clone(),
        runtime: Runtime::this(),
        charges: trace.charges.clone(),
        released: outcome.ok().map(ReleaseRecord::of),
    };
    // Where not even an agreement could be read, the receipt is about nothing: the digest of no bytes.
    let agreement_id = trace.agreement_id.clone().unwrap_or_else(|| sha256_hex(b""));
    let statement = Statement::new(Subject::new("agreement.json", &agreement_id), RECEIPT_TYPE, record);
    let sealed = serde_json::to_vec(&statement).and_then(|payload| seal_envelope(IN_TOTO, &payload, &key.0));
    let path = path_of(&trace.run_id);
    let written =
        sealed.map_err(std::io::Error::other).and_then(|bytes| files::write(dir, &path, &bytes, Existing::Refuse));
    written.map_err(|error| unwritable(&path, &error))?;
    Ok(path)
}

fn unwritable(path: &str, error: &std::io::Error) -> Fault {
    Fault::new(
        Code::ReceiptFailed,
        format!("cannot write {path}: {error}"),
        "make room in the room's folder, and let `receipts` be a folder that can be written to",
    )
}

fn path_of(run_id: &str) -> String {
    format!("receipts/{}", file_name(run_id))
}

/// A receipt is filed under its run, so that no other can stand in its place.
fn file_name(run_id: &str) -> String {
    format!("{run_id}.dsse.json")
}

impl ReleaseRecord {
    fn of(delivered: &Delivered) -> Self {
        let agreement = delivered.approved.agreement();
        let mechanism = Mechanism::new(delivered.approved.manifest(), &agreement.controls);
        Self {
            component_sha256: agreement.component.sha256.clone(),
            manifest_sha256: agreement.manifest.sha256.clone(),
            guarantee: mechanism.sentence().into(),
            group_size_min: mechanism.group_size_min,
            threshold: mechanism.threshold,
            groups_per_unit: mechanism.groups_per_unit,
            noise: mechanism.measures().to_vec(),
            output_path: delivered.path.clone(),
            output_commitment: delivered.commitment.clone(),
        }
    }
}

/// How long a run took is an output too; the minute is what remains of it.
fn to_the_minute(moment: DateTime<Utc>) -> String {
    clock::to_text(moment.duration_trunc(TimeDelta::minutes(1)).unwrap_or(moment))
}
