//! Registries: written again they are the same, a key stands once, and a quorum is reached by those whose keys signed.

use std::collections::BTreeMap;

use glovebox_trust::keys::{PublicKey, Signer, SigningKey};
use glovebox_trust::quorum::Kind;
use glovebox_trust::registry::{KeyRecord, Registry, Scope, Signed, Status, sign_registry};
use glovebox_trust::{Principal, sha256_hex, time_from_text};

use super::{Seed, accepted, parties};

/// Reads the data as a registry, and lets every set of the people that we know sign it.
pub fn check(data: &[u8]) {
    let Some(registry) = accepted(Registry::parse(data)) else { return };
    let written = registry.file().to_bytes();
    assert_eq!(Registry::parse(&written).unwrap().file(), registry.file());
    assert_eq!(registry.sha256(), sha256_hex(data));
    let keys = keys(&registry);

    let today = time_from_text(parties::TODAY).unwrap();
    let people = parties::people();
    let signatures: Vec<Vec<u8>> =
        people.iter().map(|(principal, key)| sign_registry(data, principal, today, key).unwrap()).collect();
    let is_first = |envelopes: &[Vec<u8>]| {
        accepted(Registry::first(&Signed { document: data, envelopes }, registry.room())).is_some()
    };
    for set in 0..1 << people.len() {
        let is_in = |index: usize| set >> index & 1 == 1;
        let envelopes: Vec<Vec<u8>> = (0..people.len()).filter(|i| is_in(*i)).map(|i| signatures[i].clone()).collect();
        let count = |index: usize| {
            let (principal, key) = &people[index];
            keys.get(&key.public().to_bytes()).is_some_and(|(holder, record)| {
                holder == principal && record.status == Status::Active && record.scopes.contains(&Scope::Root)
            })
        };
        let signers = (0..people.len()).filter(|i| is_in(*i) && count(*i)).map(|i| people[i].0.clone()).collect();
        let expected = registry.version() == 1 && registry.policy().check(Kind::Root, &signers).is_ok();
        assert_eq!(is_first(&envelopes), expected, "signed by {signers:?}");
        assert!(!(expected && signers.is_empty()), "a registry stands that nobody signed");
        let twice = [envelopes.as_slice(), &envelopes].concat();
        assert_eq!(is_first(&twice), expected, "a signature counts twice");
        assert!(registry.next(&Signed { document: data, envelopes: &envelopes }).is_err(), "it follows itself");
    }
}

/// Whose each key is; none has two holders.
fn keys(registry: &Registry) -> BTreeMap<[u8; 32], (Principal, &KeyRecord)> {
    let mut keys = BTreeMap::new();
    for party in &registry.file().parties {
        for member in &party.members {
            for record in &member.keys {
                let key = PublicKey::from_hex(&record.ed25519).unwrap().to_bytes();
                let known = keys.insert(key, (Principal::new(&party.id, &member.id), record));
                assert!(known.is_none(), "a key stands twice");
            }
        }
    }
    keys
}

/// Where the fuzzer begins.
pub fn seeds() -> Vec<Seed> {
    let file = parties::registry("demo");
    let compact = |file| {
        let text: String = String::from_utf8(glovebox_trust::registry::RegistryFile::to_bytes(file)).unwrap();
        text.lines().map(str::trim).collect::<String>()
    };
    let mut small = file.clone();
    small.parties.truncate(1);
    small.parties[0].members.truncate(1);
    small.quorum = vec!["quorum root retailer/ana".into()];
    let mut twice = small.clone();
    let record = twice.parties[0].members[0].keys[0].clone();
    twice.parties[0].members[0].keys.push(record);
    let mut retired = file.clone();
    retired.key_mut(&SigningKey::from_bytes(&[3; 32]).public()).unwrap().status = Status::Retired;
    let mut second = small.clone();
    second.version = 2;
    vec![
        ("pretty", small.to_bytes()),
        ("two-parties", compact(&file).into_bytes()),
        ("key-twice", compact(&twice).into_bytes()),
        ("retired", compact(&retired).into_bytes()),
        ("second", compact(&second).into_bytes()),
        ("control", compact(&small).replacen("\"demo\"", "\"\\u001b[2J\\n\"", 1).into_bytes()),
    ]
}
