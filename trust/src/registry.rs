//! The key registry: parties, their people and services, and the keys that sign for them.
//!
//! A version follows the one before only if the root quorum of both has signed it, as roots of TUF do, so that whoever
//! holds any version can check every later one. A public key stands once in the whole registry: nobody can sign for
//! two. What a key is worth is judged after its signature verified, never by what the signed file says about itself.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::denial::{Denial, Reason, Result};
use crate::envelope::{self, IN_TOTO, Statement, Subject};
use crate::keys::{PublicKey, SignError, Signer};
use crate::log::note::{Algorithm, VerifierKey};
use crate::log::policy::Policy as LogPolicy;
use crate::principal::Principal;
use crate::quorum::{Kind, Policy};
use crate::{INTEGER_MAX, is_id, is_name, json, sha256_hex, time_from_text, time_to_text};

mod file;

pub use file::{Custody, KeyRecord, LogRecord, MemberKind, MemberRecord, PartyRecord, RegistryFile, Scope, Status};

/// The predicate type of a signature on a registry.
pub const REGISTRY_TYPE: &str = "https://glovebox.dev/registry/v1";
const SUBJECT_NAME: &str = "registry.json";
const FORMAT: u64 = 1;
const FILE_BYTES_MAX: usize = 1 << 20;
const PARTIES_MAX: usize = 64;
const MEMBERS_MAX: usize = 64;
const KEYS_MAX: usize = 16;
const ENVELOPES_MAX: usize = 256;
/// The group of all parties in the quorum that is written by default.
const EVERYONE: &str = "everyone";

/// A registry of the right form. [`Registry::first`] and [`Registry::next`] give out those that are signed as well.
#[derive(Clone, Debug)]
pub struct Registry {
    file: RegistryFile,
    sha256: String,
    expires: DateTime<Utc>,
    policy: Policy,
    log_policy: LogPolicy,
    keys: Vec<RegisteredKey>,
}

#[derive(Clone, Debug)]
struct RegisteredKey {
    holder: Principal,
    key: PublicKey,
    scopes: Vec<Scope>,
    not_before: DateTime<Utc>,
    not_after: DateTime<Utc>,
    status: Status,
}

/// The bytes of a registry and the envelopes with the signatures on it.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// The bytes of `registry.json`.
    pub document: &'a [u8],
    /// Signatures in any order. Those that do not count are passed over.
    pub envelopes: &'a [Vec<u8>],
}

/// An envelope that a key of the registry opened, and that this key was entitled to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedBy {
    /// Whose key it is.
    pub principal: Principal,
    /// The key.
    pub key: PublicKey,
    /// The signed bytes.
    pub payload: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RegistrySignature {
    room: String,
    version: u64,
    party: String,
    member: String,
    signed_at: String,
}

impl Registry {
    /// Reads a registry and checks all that can be checked without its signatures.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(Denial::new(Reason::TooLarge, format!("registry.json is longer than {FILE_BYTES_MAX} bytes")));
        }
        let file: RegistryFile = json::parse(bytes).map_err(invalid)?;
        check_head(&file)?;
        let expires = time(&file.expires)?;
        let keys = read_members(&file)?;
        let policy = Policy::parse(&file.quorum, &people(&file))?;
        let log_policy = read_log_policy(&file.log, &keys)?;
        Ok(Self { sha256: sha256_hex(bytes), file, expires, policy, log_policy, keys })
    }

    /// The first version for a room, signed by its own root quorum. That it is the right one can only be told by its
    /// digest, which the parties have to compare.
    pub fn first(signed: &Signed<'_>, room: &str) -> Result<Self> {
        let first = Self::parse(signed.document)?;
        if first.file.room != room {
            return Err(invalid(format!("the registry is for room {}, this is room {room}", first.file.room)));
        }
        if first.file.version != 1 {
            return Err(invalid(format!("the first registry has version {}", first.file.version)));
        }
        first.check_root_quorum(&first, signed.envelopes)?;
        Ok(first)
    }

    /// The version after this one, signed by the root quorum of both.
    pub fn next(&self, signed: &Signed<'_>) -> Result<Self> {
        let next = Self::parse(signed.document)?;
        if next.file.room != self.file.room {
            return Err(invalid(format!("the registry is for room {}, not {}", next.file.room, self.file.room)));
        }
        if Some(next.file.version) != self.file.version.checked_add(1) {
            let (version, known) = (next.file.version, self.file.version);
            return Err(invalid(format!("version {version} of the registry cannot follow version {known}")));
        }
        self.check_root_quorum(&next, signed.envelopes)?;
        next.check_root_quorum(&next, signed.envelopes)?;
        Ok(next)
    }

    /// Whether this registry's root quorum has signed a registry. When they signed is their own claim, and a chain of
    /// versions is replayed long after: so no window is looked at, only that the keys are in use.
    fn check_root_quorum(&self, document: &Self, envelopes: &[Vec<u8>]) -> Result<()> {
        if envelopes.len() > ENVELOPES_MAX {
            return Err(Denial::new(Reason::TooLarge, format!("a registry has more than {ENVELOPES_MAX} signatures")));
        }
        let mut signers = BTreeSet::new();
        let mut passed_over = String::new();
        for envelope in envelopes {
            match self.root_signer(document, envelope) {
                Ok(signer) => drop(signers.insert(signer)),
                // The other version's people sign as well.
                Err(denial) if denial.reason() == Reason::SignatureInvalid => {}
                Err(denial) => passed_over = format!("; a signature does not count: {denial}"),
            }
        }
        self.policy.check(Kind::Root, &signers).map_err(|denial| {
            let (version, known) = (document.file.version, self.file.version);
            let fact = denial.fact();
            Denial::new(
                denial.reason(),
                format!(
                    "version {version} of the registry lacks the root quorum of version {known}: {fact}{passed_over}"
                ),
            )
        })
    }

    fn root_signer(&self, document: &Self, envelope: &[u8]) -> Result<Principal> {
        let keys = self.keys.iter().map(|key| (key, key.key));
        let opened = envelope::open(envelope, IN_TOTO, keys)?;
        opened.signer.check_in_use()?;
        opened.signer.check_scope(Scope::Root)?;
        let statement: Statement<RegistrySignature> = Statement::parse(&opened.payload, REGISTRY_TYPE)?;
        let signature = &statement.predicate;
        let holder = &opened.signer.holder;
        if (&signature.party, &signature.member) != (&holder.party, &holder.member) {
            let claimed = format!("{}/{}", signature.party, signature.member);
            return Err(Denial::new(Reason::SignerMismatch, format!("it says {claimed}, and {holder} signed it")));
        }
        let is_about = statement.is_about(&Subject::new(SUBJECT_NAME, &document.sha256));
        if !is_about || signature.room != document.file.room || signature.version != document.file.version {
            return Err(Denial::new(Reason::SubjectMismatch, "it signs another registry"));
        }
        time(&signature.signed_at)?;
        Ok(holder.clone())
    }

    /// Whether it is still valid.
    pub fn check_expiry(&self, now: DateTime<Utc>) -> Result<()> {
        if now < self.expires {
            return Ok(());
        }
        let (version, expires) = (self.file.version, &self.file.expires);
        Err(Denial::new(Reason::RegistryExpired, format!("version {version} of the registry expired at {expires}")))
    }

    /// Opens an envelope with whatever key of the registry verifies it, and then judges that key: whether it may sign
    /// this, and may do so now. What was logged while the key was in use stands after the key is retired, but not if
    /// the key was compromised: then nobody can tell its holder's signatures from another's.
    pub fn open(
        &self,
        bytes: &[u8],
        payload_type: &str,
        scope: Scope,
        now: DateTime<Utc>,
        is_logged: bool,
    ) -> Result<OpenedBy> {
        let opened = envelope::open(bytes, payload_type, self.keys.iter().map(|key| (key, key.key)))?;
        let signer = opened.signer;
        signer.check_compromise()?;
        signer.check_scope(scope)?;
        signer.check_window(now, is_logged)?;
        Ok(OpenedBy { principal: signer.holder.clone(), key: signer.key, payload: opened.payload })
    }

    /// Whose key it is, if it may sign such things now.
    pub fn check_key(&self, key: &PublicKey, scope: Scope, now: DateTime<Utc>) -> Result<Principal> {
        let known = self.keys.iter().find(|known| known.key == *key);
        let known = known.ok_or_else(|| Denial::new(Reason::KeyScope, "the key is not registered"))?;
        known.check_compromise()?;
        known.check_scope(scope)?;
        known.check_window(now, false)?;
        Ok(known.holder.clone())
    }

    /// Whose key it is, whatever its scopes and status.
    #[must_use]
    pub fn holder_of(&self, key: &PublicKey) -> Option<Principal> {
        self.keys.iter().find(|known| known.key == *key).map(|known| known.holder.clone())
    }

    /// The keys in use for a scope.
    pub fn keys(&self, scope: Scope) -> impl Iterator<Item = (Principal, PublicKey)> {
        let keys = self.keys.iter().filter(move |key| key.is_in_use_for(scope));
        keys.map(|key| (key.holder.clone(), key.key))
    }

    /// The version.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.file.version
    }

    /// The room.
    #[must_use]
    pub fn room(&self) -> &str {
        &self.file.room
    }

    /// SHA-256 over the bytes of the file, in hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// From when on it is no longer valid.
    #[must_use]
    pub const fn expires(&self) -> DateTime<Utc> {
        self.expires
    }

    /// The file, from which a draft of the next version can be made.
    #[must_use]
    pub const fn file(&self) -> &RegistryFile {
        &self.file
    }

    /// Who has to sign.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The transparency log.
    #[must_use]
    pub const fn log(&self) -> &LogRecord {
        &self.file.log
    }

    /// Whose checkpoints count: those of the keys in use for the log, with the witnesses that the parties agreed on.
    #[must_use]
    pub const fn log_policy(&self) -> &LogPolicy {
        &self.log_policy
    }

    /// The age recipient to whom what only an auditor may read is sealed.
    #[must_use]
    pub fn auditor(&self) -> Option<&str> {
        self.file.auditor.as_deref()
    }

    /// The names of the parties.
    pub fn parties(&self) -> impl Iterator<Item = &str> {
        self.file.parties.iter().map(|party| party.id.as_str())
    }

    /// Whether there is such a party.
    #[must_use]
    pub fn has_party(&self, party: &str) -> bool {
        self.parties().any(|known| known == party)
    }

    /// The people of a party.
    #[must_use]
    pub fn people_of(&self, party: &str) -> Vec<Principal> {
        people(&self.file).into_iter().filter(|person| person.party == party).collect()
    }
}

impl RegisteredKey {
    fn is_in_use_for(&self, scope: Scope) -> bool {
        self.status == Status::Active && self.scopes.contains(&scope)
    }

    fn check_compromise(&self) -> Result<()> {
        if self.status == Status::Compromised {
            return Err(Denial::new(Reason::Revoked, format!("the key of {} is compromised", self.holder)));
        }
        Ok(())
    }

    fn check_in_use(&self) -> Result<()> {
        self.check_compromise()?;
        if self.status == Status::Retired {
            return Err(Denial::new(Reason::KeyExpired, format!("the key of {} is retired", self.holder)));
        }
        Ok(())
    }

    fn check_scope(&self, scope: Scope) -> Result<()> {
        if self.scopes.contains(&scope) {
            return Ok(());
        }
        Err(Denial::new(Reason::KeyScope, format!("the key of {} is not registered for {scope}", self.holder)))
    }

    fn check_window(&self, now: DateTime<Utc>, is_logged: bool) -> Result<()> {
        if now < self.not_before {
            let from = time_to_text(self.not_before);
            return Err(Denial::new(Reason::KeyExpired, format!("the key of {} is valid from {from}", self.holder)));
        }
        if is_logged {
            return Ok(());
        }
        self.check_in_use()?;
        if now > self.not_after {
            let until = time_to_text(self.not_after);
            return Err(Denial::new(Reason::KeyExpired, format!("the key of {} was valid until {until}", self.holder)));
        }
        Ok(())
    }
}

/// Signs a registry for one of those whom its own root quorum, or that of the version before, asks for.
pub fn sign_registry(
    document: &[u8],
    signer: &Principal,
    now: DateTime<Utc>,
    key: &dyn Signer,
) -> Result<Vec<u8>, SignError> {
    let registry = Registry::parse(document).map_err(|denial| denial.to_string())?;
    let signature = RegistrySignature {
        room: registry.file.room,
        version: registry.file.version,
        party: signer.party.clone(),
        member: signer.member.clone(),
        signed_at: time_to_text(now),
    };
    let statement = Statement::new(Subject::new(SUBJECT_NAME, &registry.sha256), REGISTRY_TYPE, signature);
    envelope::seal(IN_TOTO, &statement.to_bytes(), key)
}

fn check_head(file: &RegistryFile) -> Result<()> {
    if file.format != FORMAT {
        return Err(invalid(format!("registry.json has format {}, this program reads {FORMAT}", file.format)));
    }
    if !(1..=INTEGER_MAX).contains(&file.version) {
        return Err(invalid(format!("{} is no version", file.version)));
    }
    if !is_id(&file.room) {
        return Err(bad_name(&file.room));
    }
    // A log's name is that of its key (c2sp.org/signed-note): no white space, no plus sign.
    let origin = &file.log.origin;
    if !(1..=255).contains(&origin.len()) || !origin.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'+') {
        return Err(invalid("the log's origin is not a name of printable ASCII without spaces and plus signs"));
    }
    if file.auditor.as_deref().is_some_and(|recipient| !is_age_recipient(recipient)) {
        return Err(invalid("the auditor is not an age recipient"));
    }
    Ok(())
}

/// The form of an age X25519 recipient; the check sum is for whoever encrypts to it.
fn is_age_recipient(text: &str) -> bool {
    let data = text.strip_prefix("age1").unwrap_or_default();
    data.len() == 58 && data.bytes().all(|byte| b"qpzry9x8gf2tvdw0s3jn54khce6mua7l".contains(&byte))
}

fn read_members(file: &RegistryFile) -> Result<Vec<RegisteredKey>> {
    check_list("parties", file.parties.iter().map(|party| party.id.as_str()), PARTIES_MAX)?;
    let mut keys = Vec::new();
    let mut seen = BTreeSet::new();
    for party in &file.parties {
        if party.id == EVERYONE {
            return Err(Denial::new(Reason::IdInvalid, format!("a party cannot be called {EVERYONE}")));
        }
        check_list("members of a party", party.members.iter().map(|member| member.id.as_str()), MEMBERS_MAX)?;
        for member in &party.members {
            let holder = Principal::new(&party.id, &member.id);
            if member.keys.len() > KEYS_MAX {
                return Err(invalid(format!("{holder} has more than {KEYS_MAX} keys")));
            }
            for record in &member.keys {
                let key = read_key(&holder, member.kind, record)?;
                if !seen.insert(key.key.to_bytes()) {
                    let fact = format!("a key of {holder} stands twice in the registry");
                    return Err(Denial::new(Reason::KeyDuplicate, fact));
                }
                keys.push(key);
            }
        }
    }
    Ok(keys)
}

fn read_key(holder: &Principal, kind: MemberKind, record: &KeyRecord) -> Result<RegisteredKey> {
    let key = PublicKey::from_hex(&record.ed25519)
        .map_err(|denial| Denial::new(denial.reason(), format!("{holder}: {}", denial.fact())))?;
    if record.scopes.is_empty() || !record.scopes.is_sorted_by(|a, b| a < b) {
        return Err(invalid(format!("the scopes of a key of {holder} are not in order, each once")));
    }
    if let Some(scope) = record.scopes.iter().find(|scope| !scope.is_for(kind)) {
        return Err(Denial::new(Reason::KeyScope, format!("{holder} is a {kind}: it can have no key for {scope}")));
    }
    let (not_before, not_after) = (time(&record.not_before)?, time(&record.not_after)?);
    if not_before > not_after {
        return Err(invalid(format!("a key of {holder} ends to be valid before it begins")));
    }
    Ok(RegisteredKey {
        holder: holder.clone(),
        key,
        scopes: record.scopes.clone(),
        not_before,
        not_after,
        status: record.status,
    })
}

/// The log's keys are those of the registry, so that no line can name another.
fn read_log_policy(log: &LogRecord, keys: &[RegisteredKey]) -> Result<LogPolicy> {
    let mut text = String::new();
    for key in keys.iter().filter(|key| key.is_in_use_for(Scope::Log)) {
        text.push_str(&format!("log {}\n", VerifierKey::new(&log.origin, Algorithm::Ed25519, key.key)?));
    }
    for line in &log.witnesses {
        if line.contains('\n') || line.split([' ', '\t']).find(|word| !word.is_empty()) == Some("log") {
            return Err(Denial::new(Reason::PolicyInvalid, "a line about witnesses is two lines, or names a log"));
        }
        text.push_str(&format!("{line}\n"));
    }
    LogPolicy::parse(text.as_bytes())
}

fn check_list<'a>(what: &str, names: impl Iterator<Item = &'a str>, most: usize) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !is_name(name) {
            return Err(bad_name(name));
        }
        if !seen.insert(name) {
            return Err(invalid(format!("`{name}` stands twice among the {what}")));
        }
    }
    if seen.len() > most { Err(invalid(format!("there are more than {most} {what}"))) } else { Ok(()) }
}

fn people(file: &RegistryFile) -> BTreeSet<Principal> {
    let members = file.parties.iter().flat_map(|party| party.members.iter().map(move |member| (party, member)));
    let people = members.filter(|(_, member)| member.kind == MemberKind::Person);
    people.map(|(party, person)| Principal::new(&party.id, &person.id)).collect()
}

fn time(text: &str) -> Result<DateTime<Utc>> {
    time_from_text(text).ok_or_else(|| invalid(format!("`{}` is not a time in UTC", text)))
}

fn bad_name(name: &str) -> Denial {
    Denial::new(Reason::IdInvalid, format!("`{name}` is not of the form [a-z0-9_-], 1 to 64 characters"))
}

fn invalid(fact: impl Into<String>) -> Denial {
    Denial::new(Reason::RegistryInvalid, fact)
}
