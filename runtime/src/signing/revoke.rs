//! A party's list of what it has withdrawn: complete, versioned, and valid for some weeks.

use cap_std::fs::Dir;
use chrono::{DateTime, TimeDelta, Utc};
use glovebox_trust::Principal;
use glovebox_trust::json;
use glovebox_trust::keys::Signer;
use glovebox_trust::registry::{Registry, Scope};
use glovebox_trust::revocations::{self, Entry, REVOCATIONS_TYPE, RevocationKind, RevocationsFile};

use super::lock;
use crate::error::{Code, Fault, Result};
use crate::files::{self, Existing};
use crate::gate::{self, Chain, latest_list, list_path};
use crate::room::sha256_hex;

/// A list that is valid for less than this is renewed when its party approves something.
const STALE_DAYS: i64 = 7;
/// For how long a list is valid.
pub const LIST_DAYS: u32 = 30;

/// What is to be withdrawn.
#[derive(Clone, Copy, Debug)]
pub struct Withdrawal<'a> {
    /// The agreement's folder in the room.
    pub agreement: Option<&'a str>,
    /// Anything else: its kind, and what is named.
    pub other: Option<(RevocationKind, &'a str)>,
    /// Why, in a line.
    pub reason: &'a str,
    /// For how many days the list is valid.
    pub days: u32,
}

/// A list that was signed.
#[derive(Clone, Debug)]
pub struct Revoked {
    /// Who signed.
    pub principal: Principal,
    /// The list's path in the room.
    pub path: String,
    /// Its version.
    pub version: u64,
    /// How many entries it has.
    pub entries: usize,
    /// Until when it is valid.
    pub expires: DateTime<Utc>,
}

/// Signs the next list of the key's party. With nothing to withdraw it is the same list with a later end.
pub fn revoke(dir: &Dir, what: &Withdrawal<'_>, key: &dyn Signer, now: DateTime<Utc>) -> Result<Revoked> {
    let room = gate::read_room(dir)?;
    let chain = Chain::read(dir, &room.id)?;
    let principal = revoker(chain.current(), key)?;
    let mut entries = Vec::new();
    if let Some(folder) = what.agreement {
        let agreement_id = sha256_hex(&gate::read_agreement(dir, folder.trim_end_matches('/'))?);
        entries.push(Entry::new(RevocationKind::Agreement, &agreement_id, what.reason, now));
    }
    if let Some((kind, value)) = what.other {
        entries.push(Entry::new(kind, value, what.reason, now));
    }
    let _lock = lock(dir)?;
    sign(dir, &chain, &principal, &entries, key, now, what.days)
}

/// Signs a list for a party that has none, or one that ends soon. Returns its path.
pub(super) fn renew_if_stale(
    dir: &Dir,
    chain: &Chain,
    principal: &Principal,
    key: &dyn Signer,
    now: DateTime<Utc>,
) -> Result<Option<String>> {
    let registry = chain.current();
    if !registry.keys(Scope::Revoke).any(|(holder, known)| holder == *principal && known == key.public()) {
        return Ok(None);
    }
    let fresh_until = now + TimeDelta::days(STALE_DAYS);
    let is_fresh = match latest_list(dir, &principal.party)? {
        Some(version) => gate::open_list(dir, registry, &principal.party, version, now)
            .is_ok_and(|list| list.expires() > fresh_until),
        None => false,
    };
    if is_fresh {
        return Ok(None);
    }
    sign(dir, chain, principal, &[], key, now, LIST_DAYS).map(|signed| Some(signed.path))
}

fn revoker(registry: &Registry, key: &dyn Signer) -> Result<Principal> {
    let public = key.public();
    let holder = registry.keys(Scope::Revoke).find(|(_, known)| *known == public).map(|(holder, _)| holder);
    holder.ok_or_else(|| {
        Fault::new(
            Code::KeyScope,
            "the key is not one of a person who withdraws, in the registry that is in force",
            "sign with a key of scope revoke",
        )
    })
}

fn sign(
    dir: &Dir,
    chain: &Chain,
    principal: &Principal,
    entries: &[Entry],
    key: &dyn Signer,
    now: DateTime<Utc>,
    days: u32,
) -> Result<Revoked> {
    let party = &principal.party;
    let previous = previous(dir, chain, party, now)?;
    let expires = now + TimeDelta::days(i64::from(days));
    let list = RevocationsFile::next(chain.current().room(), party, previous.as_ref(), entries, now, expires);
    let sealed = revocations::seal(&list, key).map_err(|why| {
        Fault::new(Code::Usage, format!("cannot sign the list: {why}"), "see `glovebox revoke --help`")
    })?;
    let path = list_path(party, list.version);
    files::write(dir, &path, &sealed, Existing::Refuse).map_err(|error| {
        Fault::new(Code::RevocationsMissing, format!("cannot write {path}: {error}"), "make the room's folder writable")
    })?;
    Ok(Revoked { principal: principal.clone(), path, version: list.version, entries: list.entries.len(), expires })
}

/// A party's latest list, however old, with all that any of its lists has withdrawn: nothing is forgotten.
fn previous(dir: &Dir, chain: &Chain, party: &String, now: DateTime<Utc>) -> Result<Option<RevocationsFile>> {
    let Some(version) = latest_list(dir, party)? else { return Ok(None) };
    let mut latest = read_list(dir, chain, party, version, now)?;
    for earlier in (1..version).rev() {
        // What cannot be read any more was copied into the lists that came after.
        let Ok(list) = read_list(dir, chain, party, earlier, now) else { continue };
        for entry in list.entries {
            if !latest.entries.iter().any(|known| (known.kind, &known.value) == (entry.kind, &entry.value)) {
                latest.entries.push(entry);
            }
        }
    }
    Ok(Some(latest))
}

/// Reads a list whatever has become of its signer since: who has left the registry, or whose key is compromised, stands in
/// an earlier version of it. What they may have left out stands in the lists before.
fn read_list(dir: &Dir, chain: &Chain, party: &String, version: u64, now: DateTime<Utc>) -> Result<RevocationsFile> {
    let path = list_path(party, version);
    let bytes = gate::read(dir, &path, 1 << 20, Code::RevocationsMissing)?;
    let remedy = "bring back the party's lists as they were";
    let open = |registry: &Registry| registry.open(&bytes, REVOCATIONS_TYPE, Scope::Revoke, now, true);
    let registry = chain.current();
    let mut opened = open(registry);
    for before in (1..registry.version()).rev() {
        if opened.is_ok() {
            break;
        }
        opened = open(Chain::read_until(dir, registry.room(), before)?.current());
    }
    let opened = opened.map_err(|denial| Fault::of(&format!("the list {path}"), &denial, remedy))?;
    let list: RevocationsFile = json::parse(&opened.payload)
        .map_err(|why| Fault::new(Code::RevocationsMissing, format!("the list {path}: {why}"), remedy))?;
    let is_it = (&opened.principal.party, &list.party, list.version, list.room.as_str())
        == (party, party, version, registry.room());
    if is_it {
        return Ok(list);
    }
    Err(Fault::new(Code::RevocationsMissing, format!("{path} is not version {version} of {party}'s list"), remedy))
}

/// The highest number of a person's approvals that the party has withdrawn.
pub(super) fn withdrawn_through(dir: &Dir, chain: &Chain, person: &Principal, now: DateTime<Utc>) -> Result<u64> {
    let list = previous(dir, chain, &person.party, now)?;
    let entries = list.iter().flat_map(|list| &list.entries);
    let through = entries.filter(|entry| entry.kind == RevocationKind::ApprovalsThrough);
    let number = through.filter_map(|entry| entry.value.strip_prefix(&person.member)?.strip_prefix(':')?.parse().ok());
    Ok(number.max().unwrap_or(0))
}
