//! The key registry: what it refuses, how versions follow, and what its keys may sign.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod common;

use std::collections::BTreeSet;

use chrono::TimeDelta;
use common::{
    ANA, ANA_ALSO, BEN, CLEO, DAN, ENGINE, EVE, ROOM, STRANGER, add, at, draft, is_hint, key, mutations, now, parse,
    record, refused, registry, reseal, rewrap, signatures, who,
};
use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::CompressedEdwardsY;
use glovebox_trust::approval::Role;
use glovebox_trust::envelope::{self, IN_TOTO};
use glovebox_trust::keys::Signer;
use glovebox_trust::log::note::{Algorithm, VerifierKey};
use glovebox_trust::quorum::Kind;
use glovebox_trust::registry::{MemberKind, REGISTRY_TYPE, Registry, RegistryFile, Scope, Signed, Status};
use glovebox_trust::{Denial, Reason};
use serde_json::{Value, json};

const ROOT: [(&str, u8); 2] = [("retailer/ana", ANA), ("brand/dan", DAN)];

fn edited(edit: impl FnOnce(&mut Value)) -> Result<Registry, Denial> {
    let mut file = serde_json::to_value(draft()).unwrap();
    edit(&mut file);
    Registry::parse(&serde_json::to_vec(&file).unwrap())
}

fn with_key(hex: &str) -> Result<Registry, Denial> {
    edited(|file| file["parties"][0]["members"][0]["keys"][0]["ed25519"] = hex.into())
}

/// Version 2, after an edit.
fn draft_2(edit: impl FnOnce(&mut RegistryFile)) -> Vec<u8> {
    let mut file = draft();
    file.version = 2;
    edit(&mut file);
    file.to_bytes()
}

fn next(document: &[u8], envelopes: &[Vec<u8>]) -> Result<Registry, Denial> {
    registry().next(&Signed { document, envelopes })
}

fn first(document: &[u8], envelopes: &[Vec<u8>]) -> Result<Registry, Denial> {
    Registry::first(&Signed { document, envelopes }, ROOM)
}

#[test]
fn a_registry_says_what_its_file_says() {
    let registry = registry();
    assert_eq!((registry.version(), registry.room()), (1, ROOM));
    assert_eq!(registry.sha256(), glovebox_trust::sha256_hex(&draft().to_bytes()));
    assert_eq!(registry.expires(), at("2027-01-01T00:00:00Z"));
    assert_eq!(registry.parties().collect::<Vec<_>>(), ["retailer", "brand"]);
    assert!(registry.has_party("brand") && !registry.has_party("agency"));
    let people = ["retailer/ana", "retailer/ben", "retailer/cleo"].map(who);
    assert_eq!(registry.people_of("retailer"), people);
    assert_eq!(registry.holder_of(&key(ENGINE).public()), Some(who("retailer/engine")));
    assert_eq!(registry.holder_of(&key(STRANGER).public()), None);
    let holders = |scope| registry.keys(scope).map(|(holder, _)| holder.to_string()).collect::<Vec<_>>();
    assert_eq!(holders(Scope::Root), ["retailer/ana", "retailer/ana", "brand/dan"]);
    assert_eq!(holders(Scope::Runtime), ["retailer/engine"]);
    assert_eq!(holders(Scope::Author), ["retailer/cleo"]);
    assert_eq!((registry.log().origin.as_str(), registry.auditor()), ("glovebox/grocery", None));
    assert_eq!(registry.file(), &draft());
}

#[test]
fn the_default_quorum_asks_every_party() {
    assert_eq!(
        draft().quorum,
        [
            "group retailer any retailer/ana retailer/ben",
            "group brand any brand/dan brand/eve",
            "group everyone all retailer brand",
            "group root.retailer any retailer/ana",
            "group root.brand any brand/dan",
            "group root.everyone all root.retailer root.brand",
            "quorum root root.everyone",
            "quorum analytical everyone",
            "quorum list everyone",
            "quorum cleanml everyone",
        ]
    );
    let mut file = RegistryFile::new(ROOM, now());
    file.set_default_quorum();
    assert!(file.quorum.is_empty());
    add(&mut file, "a/b", MemberKind::Person, 1, &[Scope::Root, Scope::Approve]);
    add(&mut file, "a/c", MemberKind::Person, 2, &[Scope::Author]);
    add(&mut file, "operator/log", MemberKind::Service, 3, &[Scope::Log]);
    file.set_default_quorum();
    assert_eq!(file.quorum[..3], ["group a any a/b", "group everyone all a", "quorum root everyone"]);
    file.key_mut(&key(1).public()).unwrap().status = Status::Retired;
    file.set_default_quorum();
    assert!(file.quorum.is_empty());
    assert!(file.key_mut(&key(STRANGER).public()).is_none());
}

#[test]
fn a_member_is_a_person_or_a_service() {
    let mut file = draft();
    let denied = file.add_key(&who("retailer/ana"), MemberKind::Service, record(50, &[Scope::Log]));
    refused(denied, Reason::RegistryInvalid, "retailer/ana is a person");
    for scope in Scope::ALL {
        for kind in MemberKind::ALL {
            let mut file = draft();
            add(&mut file, "brand/new", *kind, 50, &[*scope]);
            let parsed = Registry::parse(&file.to_bytes());
            if scope.is_for(*kind) {
                parsed.unwrap();
            } else {
                refused(parsed, Reason::KeyScope, &format!("brand/new is a {kind}: it can have no key for {scope}"));
            }
        }
    }
    for scope in [Scope::Approve, Scope::Revoke, Scope::Root] {
        assert!(!scope.is_for(MemberKind::Service));
    }
    for scope in [Scope::Log, Scope::Runtime] {
        assert!(!scope.is_for(MemberKind::Person));
    }
}

/// A6: in hex there is one way to write a key, and files in other formats are turned into it.
#[test]
fn a06_a_key_stands_once_in_the_whole_registry() {
    for name in ["retailer/ana", "retailer/ben", "brand/dan", "agency/new"] {
        let mut file = draft();
        add(&mut file, name, MemberKind::Person, BEN, &[Scope::Author]);
        refused(Registry::parse(&file.to_bytes()), Reason::KeyDuplicate, "stands twice");
    }
    refused(with_key(&key(BEN).public().to_hex()), Reason::KeyDuplicate, "retailer/ben stands twice");
    refused(with_key(&key(STRANGER).public().to_hex().to_uppercase()), Reason::KeyFormat, "retailer/ana");
}

/// A10, A11: keys that verify what nobody signed, however they are written.
#[test]
fn a10_a11_weak_keys_and_keys_in_other_encodings_are_refused() {
    let hex = |bytes: &[u8; 32]| data_encoding::HEXLOWER.encode(bytes);
    let mut identity = [0; 32];
    identity[0] = 1;
    refused(with_key(&hex(&identity)), Reason::KeyWeak, "retailer/ana");
    let small: BTreeSet<[u8; 32]> = EIGHT_TORSION.iter().map(|point| point.compress().to_bytes()).collect();
    assert_eq!(small.len(), 8);
    for bytes in &small {
        refused(with_key(&hex(bytes)), Reason::KeyWeak, "small order");
    }
    // y = p + k for every k below 19 and both signs, and x = 0 with a sign: no other encodings are not canonical.
    let mut other_encodings = 0;
    for sign in [0, 0x80] {
        for k in 0..19 {
            let mut bytes = [0xff; 32];
            bytes[0] = 0xed + k;
            bytes[31] = 0x7f | sign;
            refused(with_key(&hex(&bytes)), Reason::KeyNotCanonical, "not a point in its canonical form");
            other_encodings += u32::from(CompressedEdwardsY(bytes).decompress().is_some());
        }
    }
    assert!(other_encodings >= 20, "{other_encodings} of these are points");
    for y in [1u8, 0xec] {
        let mut bytes = if y == 1 { [0; 32] } else { [0xff; 32] };
        bytes[0] = y;
        bytes[31] |= 0x80;
        refused(with_key(&hex(&bytes)), Reason::KeyNotCanonical, "not a point in its canonical form");
    }
}

#[test]
fn a12_a_key_of_mixed_order_is_refused() {
    let honest = CompressedEdwardsY(key(STRANGER).public().to_bytes()).decompress().unwrap();
    for torsion in &EIGHT_TORSION[1..] {
        let bytes = (honest + torsion).compress().to_bytes();
        refused(with_key(&data_encoding::HEXLOWER.encode(&bytes)), Reason::KeyNotTorsionFree, "mixed order");
    }
    with_key(&key(STRANGER).public().to_hex()).unwrap();
}

/// C9.
#[test]
fn c09_names_that_look_like_others_are_refused() {
    let names = [
        "Ana",
        "an\u{430}",
        "ana.",
        "an.a",
        "ana\u{200b}",
        "an\u{61}\u{301}",
        "\u{212a}",
        "",
        " ana",
        "ana ",
        "a/b",
        "../ana",
        "a\0",
        "\u{661}",
    ];
    for name in names.into_iter().map(str::to_owned).chain(["a".repeat(65)]) {
        refused(edited(|file| file["parties"][0]["id"] = name.clone().into()), Reason::IdInvalid, "not of the form");
        let member = edited(|file| file["parties"][0]["members"][0]["id"] = name.clone().into());
        refused(member, Reason::IdInvalid, "not of the form");
    }
    refused(edited(|file| file["room"] = "Grocery".into()), Reason::IdInvalid, "not of the form");
    refused(edited(|file| file["parties"][0]["id"] = "everyone".into()), Reason::IdInvalid, "cannot be called");
    refused(edited(|file| file["parties"][1]["id"] = "retailer".into()), Reason::RegistryInvalid, "stands twice");
    let twice = edited(|file| file["parties"][0]["members"][1]["id"] = "ana".into());
    refused(twice, Reason::RegistryInvalid, "`ana` stands twice");
}

#[test]
fn a_file_has_one_reading() {
    let text = String::from_utf8(draft().to_bytes()).unwrap();
    let invalid = |text: &[u8], fact: &str| refused(Registry::parse(text), Reason::RegistryInvalid, fact);
    invalid(text.replacen('{', "{\"extra\": 1,", 1).as_bytes(), "unknown field");
    invalid(text.replacen('{', "{\"room\": \"grocery\",", 1).as_bytes(), "duplicate field");
    invalid(text.replacen('{', "{\"r\\u006fom\": \"grocery\",", 1).as_bytes(), "duplicate field");
    invalid(format!("{text}{text}").as_bytes(), "trailing characters");
    invalid(format!("\u{feff}{text}").as_bytes(), "expected value");
    invalid(text.replace("\"version\": 1", "\"version\": 1.0").as_bytes(), "floating point");
    invalid(text.replace("\"version\": 1", "\"version\": \"1\"").as_bytes(), "expected u64");
    invalid(text.replace("\"person\"", "{\"person\": null}").as_bytes(), "expected a string");
    invalid(text.replace("\"person\"", "\"Person\"").as_bytes(), "is not one of: person, service");
    invalid("[".repeat(100_000).as_bytes(), "");
    for at in 0..text.len() - 1 {
        assert!(Registry::parse(&text.as_bytes()[..at]).is_err(), "cut at {at}");
    }
    let log = edited(|file| file["log"] = json!(["glovebox/grocery", ["quorum none"]]));
    refused(log, Reason::RegistryInvalid, "an array stands where named fields must");
    refused(Registry::parse(&vec![b' '; (1 << 20) + 1]), Reason::TooLarge, "longer than 1048576");
}

#[test]
fn fields_have_their_form() {
    let invalid = |path: &str, value: Value, fact: &str| {
        let result = edited(|file| *file.pointer_mut(path).unwrap() = value.clone());
        refused(result, Reason::RegistryInvalid, fact);
    };
    invalid("/format", json!(2), "format 2");
    invalid("/version", json!(0), "0 is no version");
    invalid("/version", json!(1u64 << 53), "9007199254740992 is no version");
    invalid("/expires", json!("2027-01-01T00:00:00+00:00"), "not a time in UTC");
    invalid("/log/origin", json!(""), "origin");
    invalid("/log/origin", json!("a b"), "origin");
    invalid("/log/origin", json!("a+b"), "origin");
    invalid("/auditor", json!("age1xyz"), "age recipient");
    let key = "/parties/0/members/0/keys/0";
    invalid(&format!("{key}/not_before"), json!("2026-01-01 00:00:00Z"), "not a time in UTC");
    invalid(&format!("{key}/not_after"), json!("2025-12-31T23:59:59Z"), "ends to be valid before it begins");
    for scopes in [json!([]), json!(["root", "approve"]), json!(["approve", "approve"])] {
        invalid(&format!("{key}/scopes"), scopes, "not in order, each once");
    }
    invalid(&format!("{key}/scopes"), json!(["witness"]), "is not one of");
    invalid(&format!("{key}/status"), json!("revoked"), "is not one of");
    invalid(&format!("{key}/custody"), json!("cloud"), "is not one of");
    let auditor = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    edited(|file| file["auditor"] = auditor.into()).unwrap();
    edited(|file| file["version"] = json!((1u64 << 53) - 1)).unwrap();
}

#[test]
fn there_are_most_of_everything() {
    let with = |parties: usize, members: usize, keys: usize| {
        let mut file = RegistryFile::new(ROOM, now());
        add(&mut file, "p0/m0", MemberKind::Person, 0, &[Scope::Root]);
        let mut bytes = [7; 32];
        let names = (1..parties).map(|p| format!("p{p}/m0")).chain((1..members).map(|m| format!("p0/m{m}")));
        for (i, name) in names.chain((1..keys).map(|_| "p0/m0".to_owned())).enumerate() {
            bytes[0] = u8::try_from(i).unwrap();
            let mut record = record(0, &[Scope::Author]);
            record.ed25519 = glovebox_trust::keys::SigningKey::from_bytes(&bytes).public().to_hex();
            file.add_key(&who(&name), MemberKind::Person, record).unwrap();
        }
        file.set_default_quorum();
        Registry::parse(&file.to_bytes())
    };
    with(64, 64, 16).unwrap();
    refused(with(65, 1, 1), Reason::RegistryInvalid, "more than 64 parties");
    refused(with(1, 65, 1), Reason::RegistryInvalid, "more than 64 members");
    refused(with(1, 1, 17), Reason::RegistryInvalid, "more than 16 keys");
}

/// C15: the registry's quorum is checked with it.
#[test]
fn c15_a_registry_with_a_quorum_that_cannot_hold_is_refused() {
    for lines in [json!([]), json!(["quorum root none"]), json!(["quorum root retailer/engine"])] {
        refused(edited(|file| file["quorum"] = lines), Reason::PolicyInvalid, "");
    }
    edited(|file| file["quorum"] = json!(["quorum root retailer/cleo"])).unwrap();
}

#[test]
fn the_witnesses_are_read_with_the_registry() {
    let logs = |registry: &Registry| registry.log_policy().logs().iter().map(|log| log.public()).collect::<Vec<_>>();
    assert_eq!(logs(&registry()), [key(ENGINE).public()]);
    assert_eq!(registry().log_policy().logs()[0].name(), "glovebox/grocery");
    let witness = |seed| VerifierKey::new("w.example", Algorithm::Cosignature, key(seed).public()).unwrap();
    let lines = |lines: Value| edited(|file| file["log"]["witnesses"] = lines);
    let witnessed = lines(json!([format!("witness w {}", witness(STRANGER)), "quorum w"])).unwrap();
    assert!(!witnessed.log_policy().is_satisfied(&[]) && witnessed.log_policy().is_satisfied(&["w"]));
    let log = VerifierKey::new("other", Algorithm::Ed25519, key(STRANGER).public()).unwrap();
    for bad in [
        json!([]),
        json!(["quorum w"]),
        json!(["quorum none", "quorum none"]),
        json!(["quorum none\n"]),
        json!([format!(" log {log}"), "quorum none"]),
        json!([format!("quorum none\nlog {log}")]),
        json!([format!("witness w {}", witness(ENGINE)), "quorum w"]),
    ] {
        refused(lines(bad), Reason::PolicyInvalid, "");
    }
    let mut file = draft();
    file.key_mut(&key(ENGINE).public()).unwrap().status = Status::Retired;
    assert!(logs(&parse(&file)).is_empty());
}

#[test]
fn the_first_version_is_signed_by_its_own_root_quorum() {
    let document = draft().to_bytes();
    let signed = signatures(&document, &ROOT);
    assert_eq!(first(&document, &signed).unwrap().sha256(), registry().sha256());
    refused(first(&document, &signed[..1]), Reason::QuorumMissing, "group root.brand has 0 of 1: brand/dan");
    refused(first(&document, &[]), Reason::QuorumMissing, "version 1");
    let document_2 = draft_2(|_| {});
    let signed_2 = signatures(&document_2, &ROOT);
    refused(first(&document_2, &signed_2), Reason::RegistryInvalid, "the first registry has version 2");
    let other_room = Registry::first(&Signed { document: &document, envelopes: &signed }, "bakery");
    refused(other_room, Reason::RegistryInvalid, "this is room bakery");
}

/// A4, A5: people are counted.
#[test]
fn a04_a05_copies_and_second_keys_count_once() {
    let document = draft().to_bytes();
    let two_of = {
        let mut file = draft();
        file.quorum = vec!["group two 2 retailer/ana brand/dan".into(), "quorum root two".into()];
        file.to_bytes()
    };
    for document in [document, two_of] {
        let both = signatures(&document, &[("retailer/ana", ANA), ("retailer/ana", ANA_ALSO)]);
        refused(first(&document, &both), Reason::QuorumMissing, "brand/dan");
        let copies = vec![both[0].clone(); 5];
        refused(first(&document, &copies), Reason::QuorumMissing, "brand/dan");
    }
}

#[test]
fn signatures_that_do_not_count_are_passed_over_and_named() {
    let document = draft().to_bytes();
    let mut envelopes = signatures(&document, &[("retailer/ana", ANA), ("brand/eve", EVE)]);
    refused(first(&document, &envelopes), Reason::QuorumMissing, "KEY_SCOPE: the key of brand/eve");
    envelopes.extend(signatures(&document, &[("brand/dan", STRANGER), ("retailer/engine", ENGINE)]));
    envelopes.push(b"{}".to_vec());
    refused(first(&document, &envelopes), Reason::QuorumMissing, "brand/dan; a signature does not count: MALFORMED");
    envelopes.extend(signatures(&document, &[("brand/dan", DAN)]));
    first(&document, &envelopes).unwrap();
    let many = vec![envelopes[0].clone(); 257];
    refused(first(&document, &many), Reason::TooLarge, "more than 256 signatures");
}

#[test]
fn a_root_quorum_counts_keys_for_root_alone() {
    let mut file = draft();
    file.quorum = vec!["group two all retailer/ana brand/eve".into(), "quorum root two".into()];
    let signers = [("retailer/ana", ANA), ("brand/eve", EVE)];
    let document = file.to_bytes();
    refused(first(&document, &signatures(&document, &signers)), Reason::QuorumMissing, "has 1 of 2: brand/eve");
    file.key_mut(&key(EVE).public()).unwrap().scopes.push(Scope::Root);
    let document = file.to_bytes();
    first(&document, &signatures(&document, &signers)).unwrap();
}

#[test]
fn a_signature_is_about_this_registry_and_by_whom_it_says() {
    let document = draft().to_bytes();
    let of_ana = &signatures(&document, &ROOT)[0];
    let of_dan = signatures(&document, &ROOT).remove(1);
    let resealed = |edit: &dyn Fn(&mut Value)| reseal(&of_dan, IN_TOTO, DAN, edit);
    let denied = |envelope: Vec<u8>, fact: &str| {
        refused(first(&document, &[of_ana.clone(), envelope]), Reason::QuorumMissing, fact);
    };
    first(&document, &[of_ana.clone(), resealed(&|_| {})]).unwrap();
    denied(resealed(&|s| s["subject"][0]["digest"]["sha256"] = "0".repeat(64).into()), "SUBJECT_MISMATCH");
    denied(resealed(&|s| s["subject"][0]["name"] = "agreement.json".into()), "SUBJECT_MISMATCH");
    denied(resealed(&|s| s["subject"] = json!([s["subject"][0], s["subject"][0]])), "2 subjects");
    denied(resealed(&|s| s["predicate"]["room"] = "bakery".into()), "SUBJECT_MISMATCH");
    denied(resealed(&|s| s["predicate"]["version"] = 2.into()), "SUBJECT_MISMATCH");
    denied(resealed(&|s| s["predicate"]["party"] = "retailer".into()), "SIGNER_MISMATCH");
    denied(resealed(&|s| s["predicate"]["member"] = "eve".into()), "it says brand/eve, and brand/dan signed it");
    denied(resealed(&|s| s["predicate"]["signed_at"] = "today".into()), "not a time");
    denied(resealed(&|s| s["predicate"]["extra"] = 1.into()), "unknown field");
    denied(resealed(&|s| s["predicateType"] = "https://glovebox.dev/approval/v1".into()), "PREDICATE_TYPE");
    assert_eq!(REGISTRY_TYPE, "https://glovebox.dev/registry/v1");
    let approval = common::approval("brand/dan", DAN, Role::DataOwner);
    denied(approval, "PREDICATE_TYPE");
    let other_type = envelope::seal("application/json", b"{}", &key(DAN)).unwrap();
    denied(other_type, "PAYLOAD_TYPE");
}

#[test]
fn a_version_follows_if_both_root_quorums_sign() {
    let document = draft_2(|file| add(file, "agency/fay", MemberKind::Person, 20, &[Scope::Author]));
    let followed = next(&document, &signatures(&document, &ROOT)).unwrap();
    assert_eq!(followed.version(), 2);
    assert!(followed.has_party("agency"));
    for one in ROOT {
        refused(next(&document, &signatures(&document, &[one])), Reason::QuorumMissing, "of version 1");
    }
}

/// D4: new people replace old ones with the consent of both.
#[test]
fn d04_neither_old_nor_new_people_can_replace_a_registry_alone() {
    let document = draft_2(|file| {
        file.parties[1].members[0].keys[0].status = Status::Retired;
        add(file, "brand/eve", MemberKind::Person, 21, &[Scope::Root]);
        file.set_default_quorum();
    });
    let old = [("retailer/ana", ANA), ("brand/dan", DAN)];
    let new = [("retailer/ana", ANA), ("brand/eve", 21)];
    let lacks = |signers: &[(&str, u8)], fact: &str| {
        refused(next(&document, &signatures(&document, signers)), Reason::QuorumMissing, fact);
    };
    lacks(&new, "version 2 of the registry lacks the root quorum of version 1: group root.brand has 0 of 1: brand/dan");
    lacks(&old, "version 2 of the registry lacks the root quorum of version 2: group root.brand has 0 of 1: brand/eve");
    next(&document, &signatures(&document, &[old[0], old[1], new[1]])).unwrap();
}

/// D4: a key counts for a version only as what it is there.
#[test]
fn d04_a_key_counts_as_it_stands_in_each_version() {
    for status in [Status::Retired, Status::Compromised] {
        let document = draft_2(|file| file.key_mut(&key(ANA).public()).unwrap().status = status);
        let denied = next(&document, &signatures(&document, &ROOT));
        refused(denied, Reason::QuorumMissing, "version 2: group root.retailer has 0 of 1: retailer/ana");
        let both = [ROOT[0], ROOT[1], ("retailer/ana", ANA_ALSO)];
        let followed = next(&document, &signatures(&document, &both)).unwrap();
        // And so it no longer counts for a third.
        let mut file = followed.file().clone();
        file.version = 3;
        let document = file.to_bytes();
        let signed = signatures(&document, &ROOT);
        refused(
            followed.next(&Signed { document: &document, envelopes: &signed }),
            Reason::QuorumMissing,
            "of version 2",
        );
    }
    // The key changes hands: who signed cannot be two people.
    let document = draft_2(|file| {
        file.parties[1].members[0].id = "dora".into();
        file.set_default_quorum();
    });
    let as_both = [ROOT[0], ROOT[1], ("brand/dora", DAN)];
    next(&document, &signatures(&document, &as_both)).unwrap();
    refused(next(&document, &signatures(&document, &as_both[..2])), Reason::QuorumMissing, "SIGNER_MISMATCH");
}

/// D3.
#[test]
fn d03_only_the_very_next_version_follows() {
    for (version, follows) in [(1, false), (2, true), (3, false), ((1 << 53) - 1, false)] {
        let document = draft_2(|file| file.version = version);
        let result = next(&document, &signatures(&document, &ROOT));
        if follows {
            result.unwrap();
        } else {
            refused(result, Reason::RegistryInvalid, "cannot follow version 1");
        }
    }
    let document = draft_2(|_| {});
    let second = next(&document, &signatures(&document, &ROOT)).unwrap();
    let old = draft().to_bytes();
    let signed = signatures(&old, &ROOT);
    refused(second.next(&Signed { document: &old, envelopes: &signed }), Reason::RegistryInvalid, "cannot follow");
    let last = parse(&serde_json::from_slice(&draft_2(|file| file.version = (1 << 53) - 1)).unwrap());
    let document = draft_2(|file| file.version = 1 << 53);
    refused(last.next(&Signed { document: &document, envelopes: &[] }), Reason::RegistryInvalid, "is no version");
}

/// C8.
#[test]
fn c08_a_registry_of_another_room_does_not_follow() {
    let document = draft_2(|file| file.room = "bakery".into());
    refused(next(&document, &signatures(&document, &ROOT)), Reason::RegistryInvalid, "for room bakery, not grocery");
}

#[test]
fn a_registry_expires() {
    let registry = registry();
    registry.check_expiry(registry.expires() - TimeDelta::seconds(1)).unwrap();
    refused(registry.check_expiry(registry.expires()), Reason::RegistryExpired, "expired at 2027-01-01T00:00:00Z");
}

#[test]
fn every_changed_byte_of_a_registry_or_its_signatures_is_refused() {
    let mut small = RegistryFile::new(ROOM, at("2027-01-01T00:00:00Z"));
    for (name, seed) in ROOT {
        add(&mut small, name, MemberKind::Person, seed, &[Scope::Root]);
    }
    small.set_default_quorum();
    let document = small.to_bytes();
    let signed = signatures(&document, &ROOT);
    first(&document, &signed).unwrap();
    for at in 0..document.len() {
        let mut changed = document.clone();
        changed[at] ^= 1;
        assert!(first(&changed, &signed).is_err(), "byte {at} of the registry can be changed");
    }
    for which in 0..signed.len() {
        for (at, changed) in mutations(&signed[which]) {
            let mut signed = signed.clone();
            let is_hint = is_hint(&signed[which], at);
            signed[which] = changed;
            assert!(first(&document, &signed).is_err() || is_hint, "byte {at} of signature {which} can be changed");
        }
    }
}

fn opened(file: &RegistryFile, seed: u8, scope: Scope, time: &str, is_logged: bool) -> Result<String, Denial> {
    let sealed = envelope::seal("application/test", b"payload", &key(seed)).unwrap();
    let opened = parse(file).open(&sealed, "application/test", scope, at(time), is_logged)?;
    assert_eq!((opened.payload.as_slice(), opened.key), (b"payload".as_slice(), key(seed).public()));
    Ok(opened.principal.to_string())
}

/// A16, C13.
#[test]
fn a16_a_key_signs_only_what_it_is_registered_for() {
    let noon = "2026-11-22T12:00:00Z";
    for (seed, name) in
        [(ANA, "retailer/ana"), (CLEO, "retailer/cleo"), (ENGINE, "retailer/engine"), (EVE, "brand/eve")]
    {
        let scopes: BTreeSet<Scope> = match seed {
            ANA => [Scope::Approve, Scope::Revoke, Scope::Root].into(),
            CLEO => [Scope::Author].into(),
            ENGINE => [Scope::Log, Scope::Runtime].into(),
            _ => [Scope::Approve].into(),
        };
        for scope in Scope::ALL {
            let result = opened(&draft(), seed, *scope, noon, false);
            if scopes.contains(scope) {
                assert_eq!(result.unwrap(), name);
            } else {
                refused(result, Reason::KeyScope, &format!("the key of {name} is not registered for {scope}"));
            }
        }
    }
    refused(opened(&draft(), STRANGER, Scope::Approve, noon, true), Reason::SignatureInvalid, "");
}

/// A16.
#[test]
fn a16_a_key_signs_only_in_its_window() {
    let approve = |time: &str, is_logged| opened(&draft(), ANA, Scope::Approve, time, is_logged);
    let (first, last) = ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
    for time in [first, last] {
        approve(time, false).unwrap();
    }
    for is_logged in [false, true] {
        refused(approve("2025-12-31T23:59:59Z", is_logged), Reason::KeyExpired, "valid from 2026-01-01T00:00:00Z");
    }
    refused(approve("2027-01-01T00:00:01Z", false), Reason::KeyExpired, "valid until 2027-01-01T00:00:00Z");
    approve("2028-01-01T00:00:00Z", true).unwrap();
}

/// A16: a retired key's signatures stand if they were logged, a compromised one's never do.
#[test]
fn a16_retired_and_compromised_keys_differ() {
    let noon = "2026-11-22T12:00:00Z";
    let with = |status| {
        let mut file = draft();
        file.key_mut(&key(BEN).public()).unwrap().status = status;
        file
    };
    let retired = with(Status::Retired);
    refused(opened(&retired, BEN, Scope::Approve, noon, false), Reason::KeyExpired, "retailer/ben is retired");
    opened(&retired, BEN, Scope::Approve, noon, true).unwrap();
    refused(opened(&retired, BEN, Scope::Root, noon, true), Reason::KeyScope, "");
    let compromised = with(Status::Compromised);
    for is_logged in [false, true] {
        for scope in [Scope::Approve, Scope::Root] {
            refused(opened(&compromised, BEN, scope, noon, is_logged), Reason::Revoked, "retailer/ben is compromised");
        }
    }
    for status in [Status::Retired, Status::Compromised] {
        let registry = parse(&with(status));
        assert!(registry.keys(Scope::Approve).all(|(holder, _)| holder != who("retailer/ben")));
        assert_eq!(registry.holder_of(&key(BEN).public()), Some(who("retailer/ben")));
    }
}

/// A17.
#[test]
fn a17_a_key_that_was_removed_signs_nothing() {
    let document = draft_2(|file| {
        file.parties[1].members.remove(1);
        file.set_default_quorum();
    });
    let second = next(&document, &signatures(&document, &ROOT)).unwrap();
    let noon = "2026-11-22T12:00:00Z";
    opened(registry().file(), EVE, Scope::Approve, noon, false).unwrap();
    refused(opened(second.file(), EVE, Scope::Approve, noon, true), Reason::SignatureInvalid, "no key");
}

/// A9: a key in the file is no key of the registry.
#[test]
fn a09_a_key_that_comes_with_the_signature_is_ignored() {
    let sealed = envelope::seal(IN_TOTO, b"{}", &key(STRANGER)).unwrap();
    let with_key = rewrap(&sealed, |envelope| {
        envelope["signatures"][0]["publicKey"] = key(STRANGER).public().to_hex().into();
        envelope["publicKey"] = key(STRANGER).public().to_hex().into();
        envelope["signatures"][0]["keyid"] = key(ANA).public().fingerprint().into();
    });
    let denied = registry().open(&with_key, IN_TOTO, Scope::Approve, now(), true);
    refused(denied, Reason::SignatureInvalid, "no key that may have made it");
}

#[test]
fn a_rejected_version_leaves_the_old_one_as_it_was() {
    let registry = registry();
    let bad = draft_2(|_| {});
    let signed = signatures(&bad, &ROOT);
    refused(registry.next(&Signed { document: &bad, envelopes: &signed[..1] }), Reason::QuorumMissing, "");
    assert_eq!(registry.version(), 1);
    registry.next(&Signed { document: &bad, envelopes: &signed }).unwrap();
    registry.policy().check(Kind::Root, &["retailer/ana", "brand/dan"].map(who).into()).unwrap();
}
