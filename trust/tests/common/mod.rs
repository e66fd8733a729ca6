//! A room with two parties, and ways to forge what they sign.

#![allow(dead_code, reason = "every test file uses another part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a fixture that cannot be made is a failed test")]

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use glovebox_trust::approval::{Draft, Role};
use glovebox_trust::envelope::{self, IN_TOTO};
use glovebox_trust::keys::{Signer, SigningKey};
use glovebox_trust::quorum::Kind;
use glovebox_trust::registry::{Custody, KeyRecord, MemberKind, Registry, RegistryFile, Scope, sign_registry};
use glovebox_trust::{Denial, Principal, Reason, time_from_text};
use serde_json::Value;

pub(crate) const ROOM: &str = "grocery";
pub(crate) const AGREEMENT: &str = "5d1f6a0e5bbf6b5a0bd7b6a1c0b9b6f5b8a2f0f2a7f4c3f8a1d5e6b7c8d9e0f1";
pub(crate) const OTHER_AGREEMENT: &str = "6d1f6a0e5bbf6b5a0bd7b6a1c0b9b6f5b8a2f0f2a7f4c3f8a1d5e6b7c8d9e0f1";

pub(crate) const ANA: u8 = 1;
pub(crate) const BEN: u8 = 2;
pub(crate) const CLEO: u8 = 3;
pub(crate) const ENGINE: u8 = 4;
pub(crate) const DAN: u8 = 5;
pub(crate) const EVE: u8 = 6;
pub(crate) const ANA_ALSO: u8 = 11;
pub(crate) const STRANGER: u8 = 99;

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn who(text: &str) -> Principal {
    text.parse().unwrap()
}

pub(crate) fn at(text: &str) -> DateTime<Utc> {
    time_from_text(text).unwrap()
}

pub(crate) fn now() -> DateTime<Utc> {
    at("2026-11-22T12:00:00Z")
}

pub(crate) fn record(seed: u8, scopes: &[Scope]) -> KeyRecord {
    let (from, until) = (at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
    KeyRecord::new(&key(seed).public(), scopes, from, until, Custody::File)
}

pub(crate) fn add(file: &mut RegistryFile, name: &str, kind: MemberKind, seed: u8, scopes: &[Scope]) {
    file.add_key(&who(name), kind, record(seed, scopes)).unwrap();
}

/// Any one of retailer/ana and retailer/ben, and any one of brand/dan and brand/eve.
pub(crate) fn draft() -> RegistryFile {
    let all = [Scope::Approve, Scope::Revoke, Scope::Root];
    let mut file = RegistryFile::new(ROOM, at("2027-01-01T00:00:00Z"));
    add(&mut file, "retailer/ana", MemberKind::Person, ANA, &all);
    add(&mut file, "retailer/ana", MemberKind::Person, ANA_ALSO, &all);
    add(&mut file, "retailer/ben", MemberKind::Person, BEN, &[Scope::Approve]);
    add(&mut file, "retailer/cleo", MemberKind::Person, CLEO, &[Scope::Author]);
    add(&mut file, "retailer/engine", MemberKind::Service, ENGINE, &[Scope::Log, Scope::Runtime]);
    add(&mut file, "brand/dan", MemberKind::Person, DAN, &all);
    add(&mut file, "brand/eve", MemberKind::Person, EVE, &[Scope::Approve]);
    file.set_default_quorum();
    file
}

pub(crate) fn parse(file: &RegistryFile) -> Registry {
    Registry::parse(&file.to_bytes()).unwrap()
}

pub(crate) fn registry() -> Registry {
    parse(&draft())
}

pub(crate) fn with_quorum(lines: &[&str]) -> Result<Registry, Denial> {
    let mut file = draft();
    file.quorum = lines.iter().map(ToString::to_string).collect();
    Registry::parse(&file.to_bytes())
}

pub(crate) fn signatures(document: &[u8], signers: &[(&str, u8)]) -> Vec<Vec<u8>> {
    signers.iter().map(|(name, seed)| sign_registry(document, &who(name), now(), &key(*seed)).unwrap()).collect()
}

pub(crate) fn approval_draft<'a>(principal: &'a Principal, role: Role, sequence: u64) -> Draft<'a> {
    Draft {
        room: ROOM,
        principal,
        role,
        agreement_id: AGREEMENT,
        sequence,
        registry_version: 1,
        approved_at: now(),
        not_after: now() + TimeDelta::days(30),
        nonce: [9; 16],
    }
}

pub(crate) fn approval(name: &str, seed: u8, role: Role) -> Vec<u8> {
    glovebox_trust::approval::seal(&approval_draft(&who(name), role, 1), &key(seed)).unwrap()
}

/// The payload of an envelope, which one must have signed with the key.
pub(crate) fn payload_of(sealed: &[u8], payload_type: &str, seed: u8) -> Value {
    let opened = envelope::open(sealed, payload_type, [((), key(seed).public())]).unwrap();
    serde_json::from_slice(&opened.payload).unwrap()
}

/// Signs anew what an edit makes of a signed payload.
pub(crate) fn reseal(sealed: &[u8], payload_type: &str, seed: u8, edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut payload = payload_of(sealed, payload_type, seed);
    edit(&mut payload);
    envelope::seal(payload_type, &serde_json::to_vec(&payload).unwrap(), &key(seed)).unwrap()
}

/// An approval whose statement was edited before it was signed.
pub(crate) fn edited_approval(seed: u8, edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let sealed = approval("retailer/ana", ANA, Role::DataOwner);
    let mut payload = payload_of(&sealed, IN_TOTO, ANA);
    edit(&mut payload);
    envelope::seal(IN_TOTO, &serde_json::to_vec(&payload).unwrap(), &key(seed)).unwrap()
}

/// Edits the envelope itself.
pub(crate) fn rewrap(sealed: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut envelope: Value = serde_json::from_slice(sealed).unwrap();
    edit(&mut envelope);
    serde_json::to_vec(&envelope).unwrap()
}

#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Denial>, reason: Reason, fact: &str) {
    match result {
        Ok(accepted) => panic!("accepted: {accepted:?}"),
        Err(denial) => {
            assert_eq!(denial.reason(), reason, "{denial}");
            assert!(denial.fact().contains(fact), "{denial}");
        }
    }
}

/// Files that differ from this one in one byte, and how: with the place of the byte.
pub(crate) fn mutations(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..bytes.len()).flat_map(move |at| {
        [0x01, 0x20, 0x80].into_iter().map(move |flip| {
            let mut changed = bytes.to_vec();
            changed[at] ^= flip;
            (at, changed)
        })
    })
}

/// Whether a byte of an envelope decides nothing: white space outside of text, and the hint which key it was.
pub(crate) fn is_hint(envelope: &[u8], at: usize) -> bool {
    let text = std::str::from_utf8(envelope).unwrap();
    let hint = text.find("\"keyid\"").unwrap()..text.find("\"sig\"").unwrap();
    hint.contains(&at) || envelope[at].is_ascii_whitespace()
}

/// A quorum's text as whoever reads it first would evaluate it: recursively, with sets, and without a thought of time.
pub(crate) struct Model {
    groups: BTreeMap<String, (usize, Vec<String>)>,
    quorums: BTreeMap<String, String>,
}

impl Model {
    /// None if the text breaks a rule.
    pub(crate) fn parse(lines: &[String], people: &BTreeSet<Principal>) -> Option<Self> {
        let mut model = Self { groups: BTreeMap::new(), quorums: BTreeMap::new() };
        let is_person = |name: &str| people.iter().any(|person| person.to_string() == name);
        for line in lines {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            if words[0] == "group" {
                let (name, members) = (words[1].clone(), words[3..].to_vec());
                let is_known = members.iter().all(|member| is_person(member) || model.groups.contains_key(member));
                let distinct: BTreeSet<&String> = members.iter().collect();
                let threshold = match words[2].as_str() {
                    "any" => 1,
                    "all" => members.len(),
                    number => number.parse().ok()?,
                };
                let is_right = is_known && distinct.len() == members.len();
                if !is_right || threshold < 1 || threshold > members.len() || model.groups.contains_key(&name) {
                    return None;
                }
                model.groups.insert(name, (threshold, members));
            } else {
                let (kind, target) = (words[1].clone(), words[2].clone());
                if !(is_person(&target) || model.groups.contains_key(&target)) || model.quorums.contains_key(&kind) {
                    return None;
                }
                let mut names = Vec::new();
                model.expand(&target, &mut names);
                let distinct: BTreeSet<&String> = names.iter().collect();
                if distinct.len() != names.len() {
                    return None;
                }
                model.quorums.insert(kind, target);
            }
        }
        model.quorums.contains_key("root").then_some(model)
    }

    fn expand(&self, name: &str, names: &mut Vec<String>) {
        names.push(name.to_owned());
        // Enough to see that a name comes twice.
        if let Some((_, members)) = self.groups.get(name).filter(|_| names.len() < 1000) {
            members.iter().for_each(|member| self.expand(member, names));
        }
    }

    pub(crate) fn allows(&self, kind: Kind, signed: &BTreeSet<Principal>) -> bool {
        self.quorums.get(kind.as_str()).is_some_and(|target| self.holds(target, signed))
    }

    fn holds(&self, name: &str, signed: &BTreeSet<Principal>) -> bool {
        match self.groups.get(name) {
            Some((k, members)) => members.iter().filter(|member| self.holds(member, signed)).count() >= *k,
            None => signed.iter().any(|person| person.to_string() == name),
        }
    }
}

/// Turns numbers into a quorum's lines: groups of people and of earlier groups, mostly such that all names count once.
pub(crate) fn random_lines(numbers: &[u8], people: &BTreeSet<Principal>) -> Vec<String> {
    let mut numbers = numbers.iter().copied().map(usize::from).cycle();
    let mut draw = move |below: usize| numbers.next().unwrap() % below;
    let mut free: Vec<String> = people.iter().map(ToString::to_string).collect();
    let mut used: Vec<String> = Vec::new();
    let mut lines = Vec::new();
    for group in 0..1 + draw(6) {
        let mut members = Vec::new();
        for _ in 0..1 + draw(4) {
            // Now and then a name that stands in another group already, or nowhere.
            let member = match draw(40) {
                0 if !used.is_empty() => used[draw(used.len())].clone(),
                1 => "nobody".to_owned(),
                _ if free.is_empty() => break,
                _ => free.remove(draw(free.len())),
            };
            members.push(member);
        }
        let threshold = match draw(12) {
            0..3 => "any".to_owned(),
            3..6 => "all".to_owned(),
            6 => draw(members.len() + 2).to_string(),
            _ => (1 + draw(members.len().max(1))).to_string(),
        };
        lines.push(format!("group g{group} {threshold} {}", members.join(" ")));
        used.extend(members);
        free.push(format!("g{group}"));
    }
    let kinds = &Kind::ALL[..1 + draw(4)];
    for kind in kinds {
        let targets = free.len();
        lines.push(format!("quorum {kind} {}", free[targets - 1 - draw(targets.min(3))]));
    }
    lines
}
