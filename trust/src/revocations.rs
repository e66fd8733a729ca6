//! What a party has withdrawn: one complete list for each party, with a version and an end.
//!
//! A single revocation could be deleted and nobody would miss it. A list that must be there, must be fresh, and holds
//! all that its party ever withdrew, cannot; and since every party has its own, none can leave out what is another's.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::approval::Approval;
use crate::denial::{Denial, Reason, Result};
use crate::envelope;
use crate::keys::{PublicKey, SignError, Signer};
use crate::principal::Principal;
use crate::registry::{Registry, Scope};
use crate::words::words;
use crate::{CLOCK_SKEW, INTEGER_MAX, is_id, is_name, json, sha256_hex, time_from_text, time_to_text};

/// The payload type of a list.
pub const REVOCATIONS_TYPE: &str = "application/vnd.glovebox.revocations+json";
const FORMAT: u64 = 1;
/// No list is valid for longer.
pub const VALIDITY_MAX: TimeDelta = TimeDelta::days(90);
const ENTRIES_MAX: usize = 1024;
const PAYLOAD_BYTES_MAX: usize = 128 << 10;
const REASON_BYTES_MAX: usize = 200;

words! {
    /// What can be withdrawn.
    RevocationKind {
        Agreement = "agreement" "An agreement, by its digest.",
        Component = "component" "A component, by its digest.",
        RuntimeKey = "runtime-key" "A runtime, by the fingerprint of its key.",
        Key = "key" "All that a key of the party signed, by its fingerprint.",
        Person = "person" "All that a person of the party signed.",
        Sdk = "sdk" "All questions made with a version of the development kit.",
        ApprovalsThrough = "approvals-through" "A person's approvals up to a number: `PERSON:NUMBER`.",
    }
}

/// One thing that a party withdrew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What it is.
    pub kind: RevocationKind,
    /// Which one.
    pub value: String,
    /// Why, in a line of ASCII.
    pub reason: String,
    /// Since when; a note. An entry counts as soon as it is in the list.
    pub since: String,
}

/// A list as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationsFile {
    /// The format: 1.
    pub format: u64,
    /// The room.
    pub room: String,
    /// The party whose list it is.
    pub party: String,
    /// The version: greater than that of every list before.
    pub version: u64,
    /// When it was made.
    pub issued_at: String,
    /// When it ends to be valid.
    pub expires: String,
    /// All that the party has withdrawn.
    pub entries: Vec<Entry>,
}

impl Entry {
    /// An entry of now.
    #[must_use]
    pub fn new(kind: RevocationKind, value: &str, reason: &str, now: DateTime<Utc>) -> Self {
        Self { kind, value: value.into(), reason: reason.into(), since: time_to_text(now) }
    }

    fn check(&self) -> Result<()> {
        let value = self.value.as_str();
        let is_right = match self.kind {
            RevocationKind::Agreement
            | RevocationKind::Component
            | RevocationKind::RuntimeKey
            | RevocationKind::Key => value.len() == 64 && data_encoding::HEXLOWER.decode(value.as_bytes()).is_ok(),
            RevocationKind::Person => is_name(value),
            RevocationKind::Sdk => (1..=64).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic()),
            RevocationKind::ApprovalsThrough => parse_through(value).is_some(),
        };
        if !is_right {
            return Err(malformed(format!("`{}` is not a {} to revoke", value, self.kind)));
        }
        let reason = self.reason.as_bytes();
        if reason.len() > REASON_BYTES_MAX || !reason.iter().all(|byte| (0x20..0x7f).contains(byte)) {
            return Err(malformed(format!("a reason is not a line of ASCII of at most {REASON_BYTES_MAX} characters")));
        }
        time(&self.since).map(drop)
    }
}

/// `PERSON:NUMBER`.
fn parse_through(value: &str) -> Option<(&str, u64)> {
    let (person, digits) = value.split_once(':').filter(|(person, _)| is_name(person))?;
    let number: u64 = digits.parse().ok().filter(|number| (1..=INTEGER_MAX).contains(number))?;
    (number.to_string() == digits).then_some((person, number))
}

impl RevocationsFile {
    /// The list after another, or a party's first: with all its entries and more of them.
    #[must_use]
    pub fn next(
        room: &str,
        party: &str,
        previous: Option<&Self>,
        entries: &[Entry],
        now: DateTime<Utc>,
        expires: DateTime<Utc>,
    ) -> Self {
        let mut all = previous.map(|list| list.entries.clone()).unwrap_or_default();
        for entry in entries {
            if !all.iter().any(|known| (known.kind, &known.value) == (entry.kind, &entry.value)) {
                all.push(entry.clone());
            }
        }
        Self {
            format: FORMAT,
            room: room.into(),
            party: party.into(),
            version: previous.map_or(1, |list| list.version.saturating_add(1)),
            issued_at: time_to_text(now),
            expires: time_to_text(expires),
            entries: all,
        }
    }

    /// Checks what does not depend on where the list is used. Returns from when to when it is valid.
    fn check(&self) -> Result<(DateTime<Utc>, DateTime<Utc>)> {
        if self.format != FORMAT {
            return Err(malformed(format!("it has format {}, this program reads {FORMAT}", self.format)));
        }
        if !is_id(&self.room) || !is_name(&self.party) {
            return Err(Denial::new(Reason::IdInvalid, "its room or party is not a name"));
        }
        if !(1..=INTEGER_MAX).contains(&self.version) {
            return Err(malformed(format!("{} is no version", self.version)));
        }
        if self.entries.len() > ENTRIES_MAX {
            return Err(malformed(format!("it has more than {ENTRIES_MAX} entries")));
        }
        self.entries.iter().try_for_each(Entry::check)?;
        let (issued_at, expires) = (time(&self.issued_at)?, time(&self.expires)?);
        if !(issued_at < expires && expires - issued_at <= VALIDITY_MAX) {
            return Err(malformed(format!("it is not valid for at most {} days", VALIDITY_MAX.num_days())));
        }
        Ok((issued_at, expires))
    }
}

/// Signs a list for a person of the party.
pub fn seal(list: &RevocationsFile, key: &dyn Signer) -> Result<Vec<u8>, SignError> {
    list.check().map_err(|denial| denial.to_string())?;
    let payload = serde_json::to_vec(list).map_err(|error| error.to_string())?;
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(format!("the list is longer than {PAYLOAD_BYTES_MAX} bytes"));
    }
    envelope::seal(REVOCATIONS_TYPE, &payload, key)
}

/// A fresh list that a person of its party signed.
#[derive(Clone, Debug)]
pub struct RevocationList {
    file: RevocationsFile,
    expires: DateTime<Utc>,
    sha256: String,
}

/// What a run is made of, as far as a party can withdraw it.
#[derive(Clone, Copy, Debug)]
pub struct RunFacts<'a> {
    /// SHA-256 over the agreement.
    pub agreement_id: &'a str,
    /// SHA-256 over the component.
    pub component_sha256: &'a str,
    /// The version of the development kit that the question was made with.
    pub sdk: &'a str,
    /// The fingerprint of the key of the runtime that runs it.
    pub runtime_key_fingerprint: &'a str,
}

impl RevocationList {
    /// Opens a party's list in the registry's room.
    pub fn open(bytes: &[u8], registry: &Registry, party: &str, now: DateTime<Utc>) -> Result<Self> {
        let opened = registry.open(bytes, REVOCATIONS_TYPE, Scope::Revoke, now, false)?;
        if opened.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(Denial::new(Reason::TooLarge, format!("it is longer than {PAYLOAD_BYTES_MAX} bytes")));
        }
        let file: RevocationsFile = json::parse(&opened.payload).map_err(malformed)?;
        let (issued_at, expires) = file.check()?;
        if opened.principal.party != file.party {
            let (list, signer) = (&file.party, &opened.principal);
            return Err(Denial::new(
                Reason::SignerMismatch,
                format!("it is the list of {list}, and {signer} signed it"),
            ));
        }
        if file.party != party || file.room != registry.room() {
            let fact = format!("it is the list of {} in room {}", file.party, file.room);
            return Err(Denial::new(Reason::SubjectMismatch, fact));
        }
        if now < issued_at - CLOCK_SKEW {
            return Err(not_fresh(format!("the list of {party} is from {}, which is still to come", file.issued_at)));
        }
        if now >= expires {
            return Err(not_fresh(format!("the list of {party} expired at {}", file.expires)));
        }
        Ok(Self { file, expires, sha256: sha256_hex(bytes) })
    }

    /// Refuses a list that is older than one that was seen, or another of the same version.
    pub fn check_seen(&self, version: u64, sha256: &str) -> Result<()> {
        let (party, own) = (&self.file.party, self.file.version);
        if own < version {
            return Err(not_fresh(format!("the list of {party} has version {own}, version {version} was seen")));
        }
        if own == version && self.sha256 != sha256 {
            return Err(not_fresh(format!("{party} has two lists of version {version}")));
        }
        Ok(())
    }

    /// Whether the party has withdrawn nothing that the run is made of.
    pub fn check(&self, run: &RunFacts<'_>) -> Result<()> {
        let revoked = self.file.entries.iter().find(|entry| match entry.kind {
            RevocationKind::Agreement => entry.value == run.agreement_id,
            RevocationKind::Component => entry.value == run.component_sha256,
            RevocationKind::RuntimeKey => entry.value == run.runtime_key_fingerprint,
            RevocationKind::Sdk => entry.value == run.sdk,
            // These take back signatures, which then are missing.
            RevocationKind::Key | RevocationKind::Person | RevocationKind::ApprovalsThrough => false,
        });
        match revoked {
            None => Ok(()),
            Some(Entry { kind, since, reason, .. }) => {
                let party = &self.file.party;
                Err(Denial::new(Reason::Revoked, format!("{party} revoked the {kind} since {since}: {reason}")))
            }
        }
    }

    /// Whether the party has withdrawn an approval of its own.
    #[must_use]
    pub fn withdraws(&self, approval: &Approval) -> bool {
        let (signer, sequence) = (approval.principal(), approval.sequence());
        let is_through = |entry: &Entry| {
            entry.kind == RevocationKind::ApprovalsThrough
                && parse_through(&entry.value).is_some_and(|(person, last)| person == signer.member && sequence <= last)
        };
        self.withdraws_fingerprint(signer, approval.key_fingerprint())
            || (signer.party == self.file.party && self.file.entries.iter().any(is_through))
    }

    /// Whether the party has withdrawn all that a member of its own signed with this key.
    #[must_use]
    pub fn withdraws_signer(&self, signer: &Principal, key: &PublicKey) -> bool {
        self.withdraws_fingerprint(signer, &key.fingerprint())
    }

    fn withdraws_fingerprint(&self, signer: &Principal, fingerprint: &str) -> bool {
        let is_signer = |entry: &Entry| match entry.kind {
            RevocationKind::Person => entry.value == signer.member,
            RevocationKind::Key => entry.value == fingerprint,
            _ => false,
        };
        signer.party == self.file.party && self.file.entries.iter().any(is_signer)
    }

    /// The party.
    #[must_use]
    pub fn party(&self) -> &str {
        &self.file.party
    }

    /// The version.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.file.version
    }

    /// SHA-256 over the envelope, in hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// From when on it is no longer valid.
    #[must_use]
    pub const fn expires(&self) -> DateTime<Utc> {
        self.expires
    }

    /// The list, from which the next can be made.
    #[must_use]
    pub const fn file(&self) -> &RevocationsFile {
        &self.file
    }
}

fn time(text: &str) -> Result<DateTime<Utc>> {
    time_from_text(text).ok_or_else(|| malformed(format!("`{}` is not a time in UTC", text)))
}

fn malformed(fact: impl Into<String>) -> Denial {
    Denial::new(Reason::Malformed, fact)
}

fn not_fresh(fact: impl Into<String>) -> Denial {
    Denial::new(Reason::RevocationsMissing, fact)
}
