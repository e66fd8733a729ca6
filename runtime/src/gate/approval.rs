//! An approval: an in-toto Statement in a DSSE envelope, whose only subject is the agreement.

use cap_std::fs::Dir;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::envelope::{self, IN_TOTO, OpenError, Statement, Subject};
use super::registry::{KeyHolder, Registry};
use super::{
    AGREEMENT_FILE, APPROVAL_SUFFIX, ApprovalRecord, SigningKey, TEXT_BYTES_MAX, read, read_registry, read_room,
};
use crate::clock;
use crate::error::{Code, Fault, Result};
use crate::files::{self, Existing};
use crate::room::{Agreement, sha256_hex};

pub(crate) const APPROVAL_TYPE: &str = "https://glovebox.dev/approval/v1";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Approval {
    room: String,
    party: String,
    person: String,
    decision: Decision,
    agreement_id: String,
    approved_at: String,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Decision {
    Approve,
}

/// Signs an agreement for the key's holder and writes the approval beside it. Returns the file's path in the room.
pub fn approve(dir: &Dir, folder: &str, key: &SigningKey, now: DateTime<Utc>) -> Result<(KeyHolder, String)> {
    let room = read_room(dir)?;
    let registry = read_registry(dir)?.registry;
    let bytes = read(dir, &format!("{folder}/{AGREEMENT_FILE}"), TEXT_BYTES_MAX, Code::AgreementInvalid)?;
    let agreement = Agreement::parse(&bytes)?;
    let holder = registry.holder_of(&key.0.verifying_key()).cloned();
    let Some(KeyHolder::Person { party, person }) = &holder else {
        return Err(Fault::new(
            Code::SignatureInvalid,
            "the key does not belong to a person in the registry",
            "register one with `glovebox key new --party PARTY --person PERSON`",
        ));
    };
    if agreement.room != room.id {
        return Err(invalid(AGREEMENT_FILE, &format!("it is for room {}, this is room {}", agreement.room, room.id)));
    }
    let agreement_id = sha256_hex(&bytes);
    let approval = Approval {
        room: room.id,
        party: party.clone(),
        person: person.clone(),
        decision: Decision::Approve,
        agreement_id: agreement_id.clone(),
        approved_at: clock::to_text(now),
    };
    let statement = Statement::new(Subject::new(AGREEMENT_FILE, &agreement_id), APPROVAL_TYPE, approval);
    let path = format!("{folder}/{party}.{person}{APPROVAL_SUFFIX}");
    let sealed = serde_json::to_vec(&statement).and_then(|payload| envelope::seal(IN_TOTO, &payload, &key.0));
    let sealed = sealed.map_err(|error| invalid(&path, &error.to_string()))?;
    files::write(dir, &path, &sealed, Existing::Replace).map_err(|error| invalid(&path, &error.to_string()))?;
    Ok((KeyHolder::Person { party: party.clone(), person: person.clone() }, path))
}

/// Verifies an approval: first the signature, then the statement, then that signer and statement agree.
pub(super) fn verify(
    bytes: &[u8],
    name: &str,
    registry: &Registry,
    room: &str,
    agreement_id: &str,
) -> Result<ApprovalRecord> {
    let ((party, person), payload) =
        envelope::open(bytes, IN_TOTO, registry.approvers()).map_err(|error| match error {
            OpenError::Malformed(why) => invalid(name, &why),
            OpenError::Signature => Fault::new(
                Code::SignatureInvalid,
                format!("the signature of {name} verifies with no registered key"),
                "let the person sign again with the key that is in the registry",
            ),
        })?;
    let statement: Statement<Approval> =
        Statement::parse(&payload, APPROVAL_TYPE).map_err(|why| invalid(name, &why))?;
    let approval = &statement.predicate;
    if (approval.party.as_str(), approval.person.as_str()) != (party, person) {
        return Err(invalid(
            name,
            &format!("it says {}/{}, and {party}/{person} signed it", approval.party, approval.person),
        ));
    }
    if statement.subject_sha256() != agreement_id || approval.agreement_id != agreement_id {
        return Err(invalid(name, "it approves another agreement"));
    }
    if approval.room != room {
        return Err(invalid(name, &format!("it is for room {}, this is room {room}", approval.room)));
    }
    if clock::from_text(&approval.approved_at).is_none() {
        return Err(invalid(name, "its `approved_at` is not a time in UTC"));
    }
    Ok(ApprovalRecord { party: party.into(), person: person.into(), sha256: sha256_hex(bytes) })
}

fn invalid(name: &str, why: &str) -> Fault {
    Fault::new(
        Code::ApprovalInvalid,
        format!("the approval {name} is not valid: {why}"),
        "remove it, and let the person sign this agreement with `glovebox approve`",
    )
}
