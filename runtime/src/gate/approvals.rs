//! The approvals in an agreement's folder.

use std::collections::BTreeSet;

use cap_std::fs::Dir;
use chrono::{DateTime, Utc};
use glovebox_trust::approval::{self, Approval};
use glovebox_trust::registry::Registry;
use serde::{Deserialize, Serialize};

use super::{SIGNATURE_SUFFIX, TEXT_BYTES_MAX, list_files, read};
use crate::error::{Code, Fault, Result};

const APPROVALS_MAX: usize = 64;

/// Who approved, and in which file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRecord {
    /// The approving party.
    pub party: String,
    /// The approving person.
    pub person: String,
    /// The person's own count of approvals.
    pub sequence: u64,
    /// SHA-256 of the envelope's bytes.
    pub sha256: String,
}

impl ApprovalRecord {
    pub(crate) fn of(approval: &Approval) -> Self {
        Self {
            party: approval.principal().party.clone(),
            person: approval.principal().member.clone(),
            sequence: approval.sequence(),
            sha256: approval.sha256().into(),
        }
    }

    /// `party/person`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.party, self.person)
    }
}

/// What approvals are checked against.
pub(crate) struct Signers<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) now: DateTime<Utc>,
    /// Whether an approval, by its digest, stood in the log before its key was retired.
    pub(crate) is_logged: &'a dyn Fn(&str) -> bool,
}

/// Reads and verifies every approval in an agreement's folder.
pub(crate) fn read_approvals(
    dir: &Dir,
    folder: &str,
    agreement_id: &str,
    signers: &Signers<'_>,
) -> Result<Vec<Approval>> {
    let names = list_files(dir, folder, SIGNATURE_SUFFIX, APPROVALS_MAX, Code::AgreementInvalid)?;
    if names.is_empty() {
        return Err(Fault::new(
            Code::NotApproved,
            format!("no approval stands in {folder}"),
            "let each party sign with `glovebox approve`",
        ));
    }
    let verified = names.iter().map(|name| verify(dir, folder, name, agreement_id, signers));
    verified.collect::<Result<_>>().map(distinct)
}

/// A copy under another name is the same approval.
fn distinct(mut approvals: Vec<Approval>) -> Vec<Approval> {
    let mut seen = BTreeSet::new();
    approvals.retain(|approval| seen.insert(approval.sha256().to_owned()));
    approvals
}

/// Reads those approvals that a receipt names, whatever stands beside them by now.
pub(crate) fn read_recorded(
    dir: &Dir,
    folder: &str,
    agreement_id: &str,
    signers: &Signers<'_>,
    records: &[ApprovalRecord],
) -> Result<Vec<Approval>> {
    let names = list_files(dir, folder, SIGNATURE_SUFFIX, APPROVALS_MAX, Code::AgreementInvalid)?;
    let is_recorded = |name: &&String| {
        let bytes = read(dir, &format!("{folder}/{name}"), TEXT_BYTES_MAX, Code::AgreementInvalid);
        let sha256 = bytes.map(|bytes| glovebox_trust::sha256_hex(&bytes));
        sha256.is_ok_and(|sha256| records.iter().any(|record| record.sha256 == sha256))
    };
    let recorded = names.iter().filter(is_recorded);
    let verified = recorded.map(|name| verify(dir, folder, name, agreement_id, signers));
    verified.collect::<Result<_>>().map(distinct)
}

fn verify(dir: &Dir, folder: &str, name: &str, agreement_id: &str, signers: &Signers<'_>) -> Result<Approval> {
    let bytes = read(dir, &format!("{folder}/{name}"), TEXT_BYTES_MAX, Code::AgreementInvalid)?;
    let Signers { registry, now, is_logged } = *signers;
    let is_logged = is_logged(&glovebox_trust::sha256_hex(&bytes));
    approval::verify(&bytes, registry, agreement_id, now, is_logged).map_err(|denial| {
        let remedy = "remove it, and let the person sign this agreement with `glovebox approve`";
        Fault::of(&format!("the approval {name}"), &denial, remedy)
    })
}
