//! Signs an agreement for a person's party.

use cap_std::fs::Dir;
use chrono::{DateTime, TimeDelta, Utc};
use glovebox_trust::approval::{self, Approval, Draft, Terms};
use glovebox_trust::envelope::{self, IN_TOTO};
use glovebox_trust::keys::{PublicKey, Signer};
use glovebox_trust::registry::Scope;
use glovebox_trust::{INTEGER_MAX, Principal};

use super::foreign::{foreign_folder, sign_for_others};
use super::lock;
use super::revoke::{renew_if_stale, withdrawn_through};
use crate::error::{Code, Fault, Result};
use crate::files::{self, Existing};
use crate::gate::{self, Chain, SIGNATURE_SUFFIX, quorum_of};
use crate::random::Random;
use crate::room::{Agreement, sha256_hex};

const ENVELOPE_BYTES_MAX: u64 = 1 << 20;

/// An approval that was signed.
#[derive(Clone, Debug)]
pub struct Approved {
    /// Who approved.
    pub principal: Principal,
    /// The file's path in the room.
    pub path: String,
    /// The list of revocations that was signed along with it, because the party had no fresh one.
    pub list: Option<String>,
}

/// Signs an agreement for the key's holder and writes the approval beside it. `expected` is the id of the agreement that
/// the person has read. Who has approved it already, has: the approval stays as it is.
pub fn approve(
    dir: &Dir,
    folder: &str,
    expected: Option<&str>,
    key: &dyn Signer,
    now: DateTime<Utc>,
    random: &mut Random,
) -> Result<Approved> {
    let room = gate::read_room(dir)?;
    let chain = Chain::read(dir, &room.id)?;
    let bytes = gate::read_agreement(dir, folder)?;
    let agreement = Agreement::parse(&bytes)?;
    if agreement.room != room.id {
        let fact = format!("{folder} is for room {}, this is room {}", agreement.room, room.id);
        return Err(Fault::new(Code::AgreementInvalid, fact, "name an agreement of this room"));
    }
    let registry = chain.current();
    let public = key.public();
    let principal = registry.keys(Scope::Approve).find(|(_, known)| *known == public).map(|(holder, _)| holder);
    let principal = principal.ok_or_else(|| {
        Fault::new(
            Code::KeyScope,
            "the key is not one of a person who approves, in the registry that is in force",
            "register one with `glovebox key new --party PARTY --person PERSON`, and let the parties sign the registry",
        )
    })?;
    let _lock = lock(dir)?;
    let agreement_id = sha256_hex(&bytes);
    if expected.is_some_and(|expected| expected != agreement_id) {
        let fact = format!("{folder} has the id {agreement_id}, which is not what you have read");
        return Err(Fault::new(Code::SubjectMismatch, fact, "read the agreement that is there now"));
    }
    let owners = agreement.owners().collect();
    let recipient = agreement.destination.recipient.as_str();
    let terms = Terms { agreement_id: &agreement_id, kind: quorum_of(agreement.kind), owners: &owners, recipient };
    let role = terms.role_of(&principal.party);
    let withdrawn = withdrawn_through(dir, &chain, &principal, now)?;
    let path = format!("{folder}/{}.{}{SIGNATURE_SUFFIX}", principal.party, principal.member);
    // Only one that counts as this person's stays: not what someone else has put there, nor what was withdrawn.
    let stays =
        |there: &Approval| (there.principal(), there.role()) == (&principal, role) && there.sequence() > withdrawn;
    if files::read(dir, &path, ENVELOPE_BYTES_MAX)
        .is_ok_and(|there| approval::verify(&there, registry, &agreement_id, now, false).is_ok_and(|a| stays(&a)))
    {
        let list = renew_if_stale(dir, &chain, &principal, key, now)?;
        return Ok(Approved { principal, path, list });
    }
    let (_, not_after) = agreement.window()?;
    let draft = Draft {
        room: &room.id,
        principal: &principal,
        role,
        agreement_id: &agreement_id,
        sequence: next_sequence(dir, &principal, &key.public(), withdrawn)?,
        registry_version: registry.version(),
        approved_at: now,
        not_after: not_after + TimeDelta::seconds(1),
        nonce: random.bytes(),
    };
    let sealed = approval::seal(&draft, key).map_err(|why| cannot_sign(&why))?;
    sign_for_others(dir, &foreign_folder(folder, &principal), &principal, &bytes, key)?;
    write(dir, &path, &sealed)?;
    let list = renew_if_stale(dir, &chain, &principal, key, now)?;
    Ok(Approved { principal, path, list })
}

/// A person's approvals are counted over all agreements of the room, so that any of them can be withdrawn by its number.
/// Only what this key has signed is counted: whatever else lies there could name any number.
fn next_sequence(dir: &Dir, person: &Principal, key: &PublicKey, withdrawn: u64) -> Result<u64> {
    let name = format!("{}.{}{SIGNATURE_SUFFIX}", person.party, person.member);
    let folders = files::list(dir, "agreements", "").map_err(|error| {
        Fault::new(Code::AgreementInvalid, format!("cannot list agreements: {error}"), "name the room's folder")
    })?;
    let sequence = |folder: &String| {
        let bytes = files::read(dir, &format!("agreements/{folder}/{name}"), ENVELOPE_BYTES_MAX).ok()?;
        let opened = envelope::open(&bytes, IN_TOTO, [((), *key)]).ok()?;
        let statement: serde_json::Value = serde_json::from_slice(&opened.payload).ok()?;
        statement.get("predicate")?.get("sequence")?.as_u64()
    };
    let last = folders.iter().filter_map(sequence).max().unwrap_or(0);
    let next = last.max(withdrawn).saturating_add(1);
    if next <= INTEGER_MAX {
        return Ok(next);
    }
    let fact = format!("{person} has no number left to sign with");
    Err(Fault::new(Code::ApprovalReplayed, fact, "register the person under another name"))
}

fn cannot_sign(why: &str) -> Fault {
    Fault::new(Code::KeyUnreadable, format!("cannot sign: {why}"), "check the key, or the agent that holds it")
}

fn write(dir: &Dir, path: &str, bytes: &[u8]) -> Result<()> {
    files::write(dir, path, bytes, Existing::Replace).map_err(|error| {
        Fault::new(
            Code::AgreementInvalid,
            format!("cannot write {path}: {error}"),
            "make the agreement's folder writable",
        )
    })
}
