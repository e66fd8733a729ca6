//! `registry.json` as it is written: for drafts, which become a registry only once they are signed.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::denial::Result;
use crate::keys::PublicKey;
use crate::principal::Principal;
use crate::quorum::Kind;
use crate::time_to_text;
use crate::words::words;

use super::{EVERYONE, FORMAT, invalid};

words! {
    /// Who holds keys.
    MemberKind {
        Person = "person" "Someone who can decide.",
        Service = "service" "A program: it can neither approve nor revoke.",
    }
}

words! {
    /// What a key may sign.
    Scope {
        Approve = "approve" "Approvals of agreements; people only.",
        Author = "author" "Questions and their manifests.",
        Log = "log" "Checkpoints of the transparency log; services only.",
        Revoke = "revoke" "The party's list of revocations; people only.",
        Root = "root" "The next version of the registry; people only.",
        Runtime = "runtime" "Receipts; services only.",
    }
}

impl Scope {
    /// Whether such a member may have a key for this.
    #[must_use]
    pub const fn is_for(self, kind: MemberKind) -> bool {
        match self {
            Self::Approve | Self::Revoke | Self::Root => matches!(kind, MemberKind::Person),
            Self::Log | Self::Runtime => matches!(kind, MemberKind::Service),
            Self::Author => true,
        }
    }
}

words! {
    /// Where a private key is kept; a note among people.
    Custody {
        File = "file" "In a file.",
        SshAgent = "ssh-agent" "In an agent.",
        Fido = "fido" "On a security key.",
        Kms = "kms" "In a key management service.",
        Other = "other" "Elsewhere.",
    }
}

words! {
    /// Whether a key is in use.
    Status {
        Active = "active" "It signs.",
        Retired = "retired" "It signs no more; what it signed before stands.",
        Compromised = "compromised" "Someone else may have signed with it: nothing that it signed stands.",
    }
}

/// `registry.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryFile {
    /// The format: 1.
    pub format: u64,
    /// The room.
    pub room: String,
    /// The version: one more than that of the registry before.
    pub version: u64,
    /// When it ends to be valid.
    pub expires: String,
    /// The parties.
    pub parties: Vec<PartyRecord>,
    /// The lines of [`Policy`](crate::quorum::Policy).
    pub quorum: Vec<String>,
    /// The transparency log.
    pub log: LogRecord,
    /// An age recipient, to whom what only an auditor may read is sealed.
    pub auditor: Option<String>,
}

/// A party.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartyRecord {
    /// Its name.
    pub id: String,
    /// Its people and services.
    pub members: Vec<MemberRecord>,
}

/// A person or a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberRecord {
    /// The name.
    pub id: String,
    /// Which of both.
    pub kind: MemberKind,
    /// The keys, of which any signs for the member within its scopes.
    pub keys: Vec<KeyRecord>,
}

/// A key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// The public key in hex.
    pub ed25519: String,
    /// What it may sign, in the order of the alphabet.
    pub scopes: Vec<Scope>,
    /// From when it signs.
    pub not_before: String,
    /// The last moment at which it signs.
    pub not_after: String,
    /// Where the private key is kept.
    pub custody: Custody,
    /// Whether it is in use.
    pub status: Status,
}

/// The transparency log that the parties agreed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogRecord {
    /// The log's name in its checkpoints.
    pub origin: String,
    /// The lines of a c2sp.org/tlog-policy: the witnesses, and how many of them it takes.
    pub witnesses: Vec<String>,
}

impl KeyRecord {
    /// A key in use. The scopes are put in order.
    #[must_use]
    pub fn new(key: &PublicKey, scopes: &[Scope], from: DateTime<Utc>, until: DateTime<Utc>, custody: Custody) -> Self {
        let mut scopes = scopes.to_vec();
        scopes.sort_unstable();
        scopes.dedup();
        Self {
            ed25519: key.to_hex(),
            scopes,
            not_before: time_to_text(from),
            not_after: time_to_text(until),
            custody,
            status: Status::Active,
        }
    }

    fn is_in_use_for(&self, scope: Scope) -> bool {
        self.status == Status::Active && self.scopes.contains(&scope)
    }
}

impl RegistryFile {
    /// The first version for a room, as yet without parties.
    #[must_use]
    pub fn new(room: &str, expires: DateTime<Utc>) -> Self {
        Self {
            format: FORMAT,
            room: room.into(),
            version: 1,
            expires: time_to_text(expires),
            parties: Vec::new(),
            quorum: Vec::new(),
            log: LogRecord { origin: format!("glovebox/{room}"), witnesses: vec!["quorum none".into()] },
            auditor: None,
        }
    }

    /// The bytes of the file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings and numbers alone: writing them cannot fail.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Adds a key, and its holder and party where they are new.
    pub fn add_key(&mut self, holder: &Principal, kind: MemberKind, key: KeyRecord) -> Result<()> {
        let party = find_or_push(
            &mut self.parties,
            |party| party.id == holder.party,
            || PartyRecord { id: holder.party.clone(), members: Vec::new() },
        );
        let member = find_or_push(
            &mut party.members,
            |member| member.id == holder.member,
            || MemberRecord { id: holder.member.clone(), kind, keys: Vec::new() },
        );
        if member.kind != kind {
            return Err(invalid(format!("{holder} is a {}, and cannot be a {kind} as well", member.kind)));
        }
        member.keys.push(key);
        Ok(())
    }

    /// The record of a key.
    pub fn key_mut(&mut self, key: &PublicKey) -> Option<&mut KeyRecord> {
        let hex = key.to_hex();
        let members = self.parties.iter_mut().flat_map(|party| &mut party.members);
        members.flat_map(|member| &mut member.keys).find(|record| record.ed25519 == hex)
    }

    /// Writes the quorum anew: for every kind, any one of the people of every party that has people with such keys.
    pub fn set_default_quorum(&mut self) {
        let (approvers, owners) = (self.people_with(Scope::Approve), self.people_with(Scope::Root));
        let mut lines = any_of_each("", &approvers);
        // Parties have no dots in their names, so that none is called like these groups.
        let root = if owners == approvers { "" } else { "root." };
        if owners != approvers {
            lines.extend(any_of_each(root, &owners));
        }
        if !owners.is_empty() {
            lines.push(format!("quorum {} {root}{EVERYONE}", Kind::Root));
        }
        if !approvers.is_empty() {
            let kinds = Kind::ALL.iter().filter(|kind| **kind != Kind::Root);
            lines.extend(kinds.map(|kind| format!("quorum {kind} {EVERYONE}")));
        }
        self.quorum = lines;
    }

    /// The parties that have people with keys in use for this, and those people.
    fn people_with(&self, scope: Scope) -> Vec<(String, Vec<String>)> {
        let parties = self.parties.iter().map(|party| {
            let has_key = |member: &&MemberRecord| member.keys.iter().any(|key| key.is_in_use_for(scope));
            let people = party.members.iter().filter(|member| member.kind == MemberKind::Person).filter(has_key);
            (party.id.clone(), people.map(|person| format!("{}/{}", party.id, person.id)).collect())
        });
        parties.filter(|(_, people): &(String, Vec<String>)| !people.is_empty()).collect()
    }
}

/// A group for every party, and one of all these groups.
fn any_of_each(prefix: &str, parties: &[(String, Vec<String>)]) -> Vec<String> {
    let mut lines: Vec<String> =
        parties.iter().map(|(party, people)| format!("group {prefix}{party} any {}", people.join(" "))).collect();
    let names: Vec<String> = parties.iter().map(|(party, _)| format!("{prefix}{party}")).collect();
    if !names.is_empty() {
        lines.push(format!("group {prefix}{EVERYONE} all {}", names.join(" ")));
    }
    lines
}

fn find_or_push<T>(list: &mut Vec<T>, is_it: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> &mut T {
    let index = list.iter().position(is_it).unwrap_or_else(|| {
        list.push(new());
        list.len() - 1
    });
    &mut list[index]
}
