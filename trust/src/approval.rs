//! An approval: one person's signed consent to one agreement, and what it takes for an agreement to be approved.
//!
//! An approval names the whole agreement by its digest, as the only subject of an in-toto Statement: nobody can carry
//! a consent from one question, view or policy to another. Whose consent it is, the key decides that verified it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::denial::{Denial, Reason, Result};
use crate::envelope::{self, IN_TOTO, Statement, Subject};
use crate::keys::{SignError, Signer};
use crate::principal::Principal;
use crate::quorum::Kind;
use crate::registry::{OpenedBy, Registry, Scope};
use crate::words::words;
use crate::{CLOCK_SKEW, INTEGER_MAX, sha256_hex, time_from_text, time_to_text};

/// The predicate type of an approval.
pub const APPROVAL_TYPE: &str = "https://glovebox.dev/approval/v1";
const SUBJECT_NAME: &str = "agreement.json";
const APPROVE: &str = "approve";

words! {
    /// As what a party approves.
    Role {
        DataOwner = "data-owner" "It owns a view that the question reads.",
        Recipient = "recipient" "It owns none of them, and receives the answer.",
        Member = "member" "Neither: it takes part in the room.",
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Predicate {
    room: String,
    party: String,
    person: String,
    role: Role,
    /// Any text, so that a refusal that someone signed is told from a file that is no approval.
    decision: String,
    agreement_id: String,
    sequence: u64,
    registry_version: u64,
    approved_at: String,
    not_after: String,
    nonce: String,
}

/// What is to be approved, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// The room.
    pub room: &'a str,
    /// Who approves.
    pub principal: &'a Principal,
    /// As what their party does; see [`Terms::role_of`].
    pub role: Role,
    /// SHA-256 over the bytes of the agreement, in hex.
    pub agreement_id: &'a str,
    /// The number of this approval among all of this person; greater than any before.
    pub sequence: u64,
    /// The version of the registry that the person has seen.
    pub registry_version: u64,
    /// Now.
    pub approved_at: DateTime<Utc>,
    /// The last moment at which it counts.
    pub not_after: DateTime<Utc>,
    /// Random.
    pub nonce: [u8; 16],
}

/// Signs an approval.
pub fn seal(draft: &Draft<'_>, key: &dyn Signer) -> Result<Vec<u8>, SignError> {
    let predicate = Predicate {
        room: draft.room.into(),
        party: draft.principal.party.clone(),
        person: draft.principal.member.clone(),
        role: draft.role,
        decision: APPROVE.into(),
        agreement_id: draft.agreement_id.into(),
        sequence: draft.sequence,
        registry_version: draft.registry_version,
        approved_at: time_to_text(draft.approved_at),
        not_after: time_to_text(draft.not_after),
        nonce: data_encoding::HEXLOWER.encode(&draft.nonce),
    };
    check_form(&predicate).map_err(|denial| denial.to_string())?;
    let statement = Statement::new(Subject::new(SUBJECT_NAME, draft.agreement_id), APPROVAL_TYPE, predicate);
    envelope::seal(IN_TOTO, &statement.to_bytes(), key)
}

/// An approval that verified. There is no other way to come by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    principal: Principal,
    key_fingerprint: String,
    role: Role,
    agreement_id: String,
    sequence: u64,
    registry_version: u64,
    not_after: DateTime<Utc>,
    sha256: String,
}

/// Verifies an approval of an agreement in the registry's room: first the signature, then whether the key may approve,
/// then that the statement says what it must. `is_logged`: see [`Registry::open`].
pub fn verify(
    bytes: &[u8],
    registry: &Registry,
    agreement_id: &str,
    now: DateTime<Utc>,
    is_logged: bool,
) -> Result<Approval> {
    let opened = registry.open(bytes, IN_TOTO, Scope::Approve, now, is_logged)?;
    let statement: Statement<Predicate> = Statement::parse(&opened.payload, APPROVAL_TYPE)?;
    let predicate = &statement.predicate;
    check_signer(predicate, &opened)?;
    let is_about = statement.is_about(&Subject::new(SUBJECT_NAME, agreement_id));
    if !is_about || predicate.agreement_id != agreement_id {
        return Err(Denial::new(Reason::SubjectMismatch, "it approves another agreement"));
    }
    if predicate.room != registry.room() {
        let (room, here) = (&predicate.room, registry.room());
        return Err(Denial::new(Reason::SubjectMismatch, format!("it is for room {room}, this is room {here}")));
    }
    if predicate.decision != APPROVE {
        let (signer, decision) = (&opened.principal, &predicate.decision);
        return Err(Denial::new(Reason::NotApproved, format!("{signer} signed `{decision}`")));
    }
    let (approved_at, not_after) = check_form(predicate)?;
    if predicate.registry_version > registry.version() {
        let (seen, version) = (predicate.registry_version, registry.version());
        return Err(Denial::new(
            Reason::RegistryInvalid,
            format!("{} has seen version {seen} of the registry, this is version {version}", opened.principal),
        ));
    }
    check_window(approved_at, not_after, now)?;
    Ok(Approval {
        principal: opened.principal,
        key_fingerprint: opened.key.fingerprint(),
        role: predicate.role,
        agreement_id: agreement_id.into(),
        sequence: predicate.sequence,
        registry_version: predicate.registry_version,
        not_after,
        sha256: sha256_hex(bytes),
    })
}

fn check_signer(predicate: &Predicate, opened: &OpenedBy) -> Result<()> {
    let signer = &opened.principal;
    if (&predicate.party, &predicate.person) == (&signer.party, &signer.member) {
        return Ok(());
    }
    let Predicate { party, person, .. } = predicate;
    Err(Denial::new(Reason::SignerMismatch, format!("it says {party}/{person}, and {signer} signed it")))
}

/// Checks what does not depend on where the approval is used. Returns from when to when it counts.
fn check_form(predicate: &Predicate) -> Result<(DateTime<Utc>, DateTime<Utc>)> {
    let malformed = |fact: &str| Denial::new(Reason::Malformed, fact);
    if ![predicate.sequence, predicate.registry_version].iter().all(|number| (1..=INTEGER_MAX).contains(number)) {
        return Err(malformed("its sequence and registry version are not from 1 to 2^53-1"));
    }
    if predicate.nonce.len() != 32 || data_encoding::HEXLOWER.decode(predicate.nonce.as_bytes()).is_err() {
        return Err(malformed("its nonce is not 32 digits of lower-case hex"));
    }
    let time = |text: &str| time_from_text(text).ok_or_else(|| malformed("its times are not in UTC"));
    let (approved_at, not_after) = (time(&predicate.approved_at)?, time(&predicate.not_after)?);
    if approved_at > not_after {
        return Err(malformed("it ends to be valid before it begins"));
    }
    Ok((approved_at, not_after))
}

fn check_window(approved_at: DateTime<Utc>, not_after: DateTime<Utc>, now: DateTime<Utc>) -> Result<()> {
    let expired = |fact| Err(Denial::new(Reason::ApprovalExpired, fact));
    if now < approved_at - CLOCK_SKEW {
        return expired(format!("it is from {}, which is still to come", time_to_text(approved_at)));
    }
    if now > not_after {
        return expired(format!("it was valid until {}", time_to_text(not_after)));
    }
    Ok(())
}

impl Approval {
    /// Who approved.
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The fingerprint of the key that signed.
    #[must_use]
    pub fn key_fingerprint(&self) -> &str {
        &self.key_fingerprint
    }

    /// As what the party approved.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The agreement.
    #[must_use]
    pub fn agreement_id(&self) -> &str {
        &self.agreement_id
    }

    /// The number of this approval among all of this person.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The version of the registry that the person had seen.
    #[must_use]
    pub const fn registry_version(&self) -> u64 {
        self.registry_version
    }

    /// The last moment at which it counts.
    #[must_use]
    pub const fn not_after(&self) -> DateTime<Utc> {
        self.not_after
    }

    /// SHA-256 over the envelope, in hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// What of an agreement decides who has to approve it.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// SHA-256 over the bytes of the agreement, in hex.
    pub agreement_id: &'a str,
    /// The kind of question.
    pub kind: Kind,
    /// The parties that own the views it reads.
    pub owners: &'a BTreeSet<&'a str>,
    /// The party that receives the answer.
    pub recipient: &'a str,
}

impl Terms<'_> {
    /// As what a party approves. An owner that also receives the answer approves as owner.
    #[must_use]
    pub fn role_of(&self, party: &str) -> Role {
        if self.owners.contains(party) {
            Role::DataOwner
        } else if self.recipient == party {
            Role::Recipient
        } else {
            Role::Member
        }
    }
}

/// Whether an agreement is approved: by every owner of a view, by the recipient, and by the quorum for its kind. The
/// first two hold whatever the quorum's text says. Approvals of other agreements, and those in another role than their
/// party has, are passed over; people count once.
pub fn check_approvals(registry: &Registry, terms: &Terms<'_>, approvals: &[Approval]) -> Result<()> {
    check_sequences(approvals)?;
    let counted = approvals.iter().filter(|approval| {
        approval.agreement_id == terms.agreement_id && approval.role == terms.role_of(&approval.principal.party)
    });
    let counted: BTreeSet<Principal> = counted.map(|approval| approval.principal.clone()).collect();
    let needed: BTreeSet<&str> = terms.owners.iter().copied().chain([terms.recipient]).collect();
    let approved: BTreeSet<&str> = counted.iter().map(|person| person.party.as_str()).collect();
    let missing: Vec<&str> = needed.difference(&approved).copied().collect();
    if !missing.is_empty() {
        return Err(Denial::new(Reason::OwnerMissing, format!("not approved by: {}", missing.join(", "))));
    }
    registry.policy().check(terms.kind, &counted)
}

/// Two approvals with one number cannot both be withdrawn or counted by that number.
fn check_sequences(approvals: &[Approval]) -> Result<()> {
    let mut seen = BTreeMap::new();
    for approval in approvals {
        let known = seen.entry((&approval.principal, approval.sequence)).or_insert(&approval.sha256);
        if *known != &approval.sha256 {
            let (person, sequence) = (&approval.principal, approval.sequence);
            return Err(Denial::new(
                Reason::ApprovalReplayed,
                format!("{person} signed two approvals with the number {sequence}"),
            ));
        }
    }
    Ok(())
}
