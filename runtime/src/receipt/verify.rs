//! Checks a receipt against the files that it names, with nothing but the room's registry as a root of trust.

use cap_std::fs::Dir;
use chrono::TimeDelta;
use serde::Serialize;

use super::{Decision, RECEIPT_TYPE, ReleaseRecord, RunRecord, file_name};
use crate::clock;
use crate::destination::{self, Opening, opening_path};
use crate::error::{Code, Fault, Result};
use crate::gate::{self, IN_TOTO, Statement, open_envelope};
use crate::parse;
use crate::privacy::{self, MeasureNoise, Mechanism};
use crate::room::{Agreement, Manifest};

const FILE_BYTES_MAX: u64 = 1 << 30;
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// One thing that was checked and holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What holds.
    pub what: String,
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
    /// The runtime that signed.
    pub runtime: String,
    /// The agreement that the receipt is about.
    pub agreement_id: String,
    /// What was checked, in order.
    pub checks: Vec<Check>,
}

/// Verifies a receipt of the room. A released one needs its agreement, approvals, manifest and output to be there.
pub fn verify(dir: &Dir, path: &str) -> Result<Verified> {
    let registry = gate::read_registry(dir)?.registry;
    let bytes = gate::read(dir, path, TEXT_BYTES_MAX, Code::ReceiptInvalid)?;
    let (runtime, payload) = open_envelope(&bytes, IN_TOTO, registry.runtimes())
        .map_err(|_| invalid("its signature verifies with no registered runtime's key"))?;
    let statement: Statement<RunRecord> = Statement::parse(&payload, RECEIPT_TYPE).map_err(|why| invalid(&why))?;
    let record = &statement.predicate;
    if path.rsplit('/').next() != Some(file_name(&record.run_id).as_str()) {
        return Err(invalid(&format!("it is of run {}, and filed as another's", record.run_id)));
    }
    let mut checks = vec![holds(format!("signed by runtime {runtime}"))];

    match (record.decision, &record.released, &record.code) {
        (Decision::Refused, None, Some(_)) => {}
        (Decision::Released, Some(released), None) => {
            checks.extend(verify_release(dir, &statement, released)?);
        }
        _ => return Err(invalid("its decision contradicts the rest of it")),
    }
    Ok(Verified {
        run_id: record.run_id.clone(),
        decision: if record.decision == Decision::Released { "released".into() } else { "refused".into() },
        code: record.code.clone(),
        runtime: runtime.into(),
        agreement_id: statement.subject_sha256().into(),
        checks,
    })
}

fn verify_release(dir: &Dir, statement: &Statement<RunRecord>, released: &ReleaseRecord) -> Result<Vec<Check>> {
    let record = &statement.predicate;
    let agreed = gate::read_agreed(dir, &record.agreement_path).map_err(contradicted)?;
    let mut checks = Vec::new();
    let mut check = |holds_true: bool, what: &str| {
        if holds_true {
            checks.push(holds(what));
            Ok(())
        } else {
            Err(invalid(&format!("this does not hold: {what}")))
        }
    };

    check(agreed.agreement_id == statement.subject_sha256(), "the agreement is the one that the receipt names")?;
    check(
        agreed.approvals == record.approvals,
        "every owner of a view and the recipient approved exactly this agreement",
    )?;
    let agreement = &agreed.agreement;
    check(
        released.component_sha256 == agreement.component.sha256,
        "the component that ran is the one that was agreed",
    )?;
    check(record.runtime == agreement.runtime, "the runtime is the one that was agreed")?;
    let manifest = gate::read(dir, &agreement.manifest_path, TEXT_BYTES_MAX, Code::ReceiptInvalid)?;
    check(
        crate::room::sha256_hex(&manifest) == agreement.manifest.sha256
            && released.manifest_sha256 == agreement.manifest.sha256,
        "the manifest is the one that was agreed",
    )?;
    let mechanism = Mechanism::new(&Manifest::parse(&manifest).map_err(contradicted)?, &agreement.controls);
    check(
        released.guarantee == mechanism.sentence()
            && (released.group_size_min, released.threshold, released.groups_per_unit)
                == (mechanism.group_size_min, mechanism.threshold, mechanism.groups_per_unit)
            && released.noise == reread(mechanism.measures())?,
        "threshold, noise and guarantee follow from the agreed controls",
    )?;
    check(
        record.charges == privacy::charges(agreement, &mechanism),
        "every owner's budget was charged what that costs",
    )?;
    check(within_window(agreement, &record.started_at)?, "the run began within the agreed window")?;
    check(released.output_path == destination::path_of(agreement), "the output went to the agreed destination")?;
    check(output_matches(dir, released)?, "the output is the one that was released")?;
    Ok(checks)
}

/// A receipt tells the minute only.
fn within_window(agreement: &Agreement, started_at: &str) -> Result<bool> {
    let (from, until) = agreement.window()?;
    let minute = TimeDelta::minutes(1);
    Ok(clock::from_text(started_at).is_some_and(|start| start + minute > from && start < until))
}

fn output_matches(dir: &Dir, released: &ReleaseRecord) -> Result<bool> {
    let output = gate::read(dir, &released.output_path, FILE_BYTES_MAX, Code::ReceiptInvalid)?;
    let opening = gate::read(dir, &opening_path(&released.output_path), TEXT_BYTES_MAX, Code::ReceiptInvalid)?;
    let opening: Opening = parse::json(&opening).map_err(|why| invalid(&why))?;
    Ok(opening.is_well_formed() && opening.commit(&output) == released.output_commitment)
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

fn holds(what: impl Into<String>) -> Check {
    Check { what: what.into() }
}

fn invalid(why: &str) -> Fault {
    Fault::new(
        Code::ReceiptInvalid,
        format!("the receipt does not verify: {why}"),
        "ask the runtime's operator for the run's files as they were",
    )
}
