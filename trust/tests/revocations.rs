//! Lists of revocations: what they withdraw, from whom, and how long they are good for.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod common;

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use common::{
    AGREEMENT, ANA, ANA_ALSO, BEN, DAN, ENGINE, OTHER_AGREEMENT, ROOM, STRANGER, approval, approval_draft, draft,
    is_hint, key, mutations, now, parse, refused, registry, reseal, rewrap, who,
};
use glovebox_trust::approval::{self, Approval, Role, Terms, check_approvals};
use glovebox_trust::envelope::{self, IN_TOTO};
use glovebox_trust::keys::Signer;
use glovebox_trust::quorum::Kind;
use glovebox_trust::registry::Status;
use glovebox_trust::revocations::{
    Entry, REVOCATIONS_TYPE, RevocationKind, RevocationList, RevocationsFile, RunFacts, seal,
};
use glovebox_trust::{Denial, Reason};
use serde_json::{Value, json};

const COMPONENT: &str = "7d1f6a0e5bbf6b5a0bd7b6a1c0b9b6f5b8a2f0f2a7f4c3f8a1d5e6b7c8d9e0f1";

fn until() -> DateTime<Utc> {
    now() + TimeDelta::days(30)
}

fn entry(kind: RevocationKind, value: &str) -> Entry {
    Entry::new(kind, value, "it had to be", now())
}

fn file(entries: &[Entry]) -> RevocationsFile {
    RevocationsFile::next(ROOM, "retailer", None, entries, now(), until())
}

fn sealed(entries: &[Entry]) -> Vec<u8> {
    seal(&file(entries), &key(ANA)).unwrap()
}

fn open(bytes: &[u8]) -> Result<RevocationList, Denial> {
    RevocationList::open(bytes, &registry(), "retailer", now())
}

fn list(entries: &[Entry]) -> RevocationList {
    open(&sealed(entries)).unwrap()
}

fn edited(edit: impl FnOnce(&mut Value)) -> Result<RevocationList, Denial> {
    open(&reseal(&sealed(&[entry(RevocationKind::Person, "ben")]), REVOCATIONS_TYPE, ANA, edit))
}

fn approved(name: &str, seed: u8, sequence: u64) -> Approval {
    let principal = who(name);
    let bytes = approval::seal(&approval_draft(&principal, Role::DataOwner, sequence), &key(seed)).unwrap();
    approval::verify(&bytes, &registry(), AGREEMENT, now(), false).unwrap()
}

#[test]
fn a_list_says_what_it_holds() {
    let bytes = sealed(&[entry(RevocationKind::Sdk, "0.1.0")]);
    let list = open(&bytes).unwrap();
    assert_eq!((list.party(), list.version(), list.expires()), ("retailer", 1, until()));
    assert_eq!(list.sha256(), glovebox_trust::sha256_hex(&bytes));
    assert_eq!(*list.file(), file(&[entry(RevocationKind::Sdk, "0.1.0")]));
    assert_eq!(
        serde_json::to_value(list.file()).unwrap(),
        json!({
            "format": 1, "room": "grocery", "party": "retailer", "version": 1,
            "issued_at": "2026-11-22T12:00:00Z", "expires": "2026-12-22T12:00:00Z",
            "entries": [{"kind": "sdk", "value": "0.1.0", "reason": "it had to be", "since": "2026-11-22T12:00:00Z"}],
        })
    );
}

#[test]
fn what_a_party_revoked_does_not_run() {
    let runtime = key(ENGINE).public().fingerprint();
    let run = RunFacts {
        agreement_id: AGREEMENT,
        component_sha256: COMPONENT,
        sdk: "0.1.0",
        runtime_key_fingerprint: &runtime,
    };
    list(&[]).check(&run).unwrap();
    for (kind, value) in [
        (RevocationKind::Agreement, AGREEMENT),
        (RevocationKind::Component, COMPONENT),
        (RevocationKind::Sdk, "0.1.0"),
        (RevocationKind::RuntimeKey, &runtime),
    ] {
        let others = [entry(kind, if kind == RevocationKind::Sdk { "0.1.1" } else { OTHER_AGREEMENT })];
        list(&others).check(&run).unwrap();
        let denied = list(&[&others[..], &[entry(kind, value)]].concat()).check(&run);
        let fact = format!("retailer revoked the {kind} since 2026-11-22T12:00:00Z: it had to be");
        refused(denied, Reason::Revoked, &fact);
    }
    // A digest names one thing: that of an agreement is none of a component.
    let crossed = [entry(RevocationKind::Agreement, COMPONENT), entry(RevocationKind::Component, AGREEMENT)];
    list(&crossed).check(&run).unwrap();
}

#[test]
fn a_party_withdraws_approvals_of_its_own_people_only() {
    let (ana, ben, dan) =
        (approved("retailer/ana", ANA, 1), approved("retailer/ben", BEN, 1), approved("brand/dan", DAN, 1));
    let withdrawn = |kind, value: &str| {
        let list = list(&[entry(kind, value)]);
        [&ana, &ben, &dan].map(|approval| list.withdraws(approval))
    };
    let fingerprint = |seed| key(seed).public().fingerprint();
    assert_eq!(withdrawn(RevocationKind::Person, "ana"), [true, false, false]);
    assert_eq!(withdrawn(RevocationKind::Person, "dan"), [false; 3]);
    assert_eq!(withdrawn(RevocationKind::Key, &fingerprint(BEN)), [false, true, false]);
    assert_eq!(withdrawn(RevocationKind::Key, &fingerprint(ANA_ALSO)), [false; 3]);
    assert_eq!(withdrawn(RevocationKind::Key, &fingerprint(DAN)), [false; 3]);
    assert_eq!(withdrawn(RevocationKind::ApprovalsThrough, "ana:1"), [true, false, false]);
    assert_eq!(withdrawn(RevocationKind::ApprovalsThrough, "dan:1"), [false; 3]);
    assert_eq!(withdrawn(RevocationKind::Agreement, AGREEMENT), [false; 3]);
    assert_eq!(withdrawn(RevocationKind::RuntimeKey, &fingerprint(ANA)), [false; 3]);
    let signer =
        |kind, value: &str, name, seed| list(&[entry(kind, value)]).withdraws_signer(&who(name), &key(seed).public());
    assert!(signer(RevocationKind::Person, "cleo", "retailer/cleo", 3));
    assert!(!signer(RevocationKind::Person, "cleo", "brand/cleo", 3));
    assert!(signer(RevocationKind::Key, &fingerprint(3), "retailer/cleo", 3));
    assert!(!signer(RevocationKind::Key, &fingerprint(3), "retailer/cleo", 4));
}

#[test]
fn approvals_are_withdrawn_up_to_a_number() {
    let through = list(&[entry(RevocationKind::ApprovalsThrough, "ana:7")]);
    for (sequence, is_withdrawn) in [(1, true), (7, true), (8, false)] {
        assert_eq!(through.withdraws(&approved("retailer/ana", ANA, sequence)), is_withdrawn, "{sequence}");
    }
    // Her second key does not bring them back.
    assert!(through.withdraws(&approved("retailer/ana", ANA_ALSO, 7)));
}

#[test]
fn what_is_withdrawn_is_missing() {
    let approvals = [approved("retailer/ana", ANA, 1), {
        let bytes = approval("brand/dan", DAN, Role::Recipient);
        approval::verify(&bytes, &registry(), AGREEMENT, now(), false).unwrap()
    }];
    let check = |list: &RevocationList| {
        let terms = Terms {
            agreement_id: AGREEMENT,
            kind: Kind::List,
            owners: &BTreeSet::from(["retailer"]),
            recipient: "brand",
        };
        let standing: Vec<Approval> = approvals.iter().filter(|approval| !list.withdraws(approval)).cloned().collect();
        check_approvals(&registry(), &terms, &standing)
    };
    check(&list(&[])).unwrap();
    let withdrawn = list(&[entry(RevocationKind::ApprovalsThrough, "ana:1")]);
    refused(check(&withdrawn), Reason::OwnerMissing, "not approved by: retailer");
}

#[test]
fn a_list_is_signed_by_someone_of_its_party_who_may_revoke() {
    let by = |seed| open(&seal(&file(&[]), &key(seed)).unwrap());
    by(ANA).unwrap();
    by(ANA_ALSO).unwrap();
    refused(by(BEN), Reason::KeyScope, "retailer/ben is not registered for revoke");
    refused(by(DAN), Reason::SignerMismatch, "it is the list of retailer, and brand/dan signed it");
    refused(by(STRANGER), Reason::SignatureInvalid, "");
    let of_brand = RevocationsFile::next(ROOM, "brand", None, &[], now(), until());
    let of_brand = seal(&of_brand, &key(DAN)).unwrap();
    refused(open(&of_brand), Reason::SubjectMismatch, "it is the list of brand in room grocery");
    RevocationList::open(&of_brand, &registry(), "brand", now()).unwrap();
    refused(edited(|list| list["room"] = "bakery".into()), Reason::SubjectMismatch, "in room bakery");
    for status in [Status::Retired, Status::Compromised] {
        let mut file = draft();
        file.key_mut(&key(ANA).public()).unwrap().status = status;
        let denied = RevocationList::open(&sealed(&[]), &parse(&file), "retailer", now());
        let reason = if status == Status::Retired { Reason::KeyExpired } else { Reason::Revoked };
        refused(denied, reason, "retailer/ana");
    }
}

#[test]
fn b01_another_document_is_no_list() {
    refused(open(&approval("retailer/ana", ANA, Role::DataOwner)), Reason::PayloadType, "");
    let as_statement = envelope::seal(IN_TOTO, &serde_json::to_vec(&file(&[])).unwrap(), &key(ANA)).unwrap();
    refused(open(&as_statement), Reason::PayloadType, "");
    let relabelled = rewrap(&as_statement, |envelope| envelope["payloadType"] = REVOCATIONS_TYPE.into());
    refused(open(&relabelled), Reason::SignatureInvalid, "");
}

#[test]
fn d01_a_list_is_fresh_or_missing() {
    let bytes = sealed(&[]);
    let at = |time| RevocationList::open(&bytes, &registry(), "retailer", time);
    let second = TimeDelta::seconds(1);
    at(now() - TimeDelta::minutes(5)).unwrap();
    at(until() - second).unwrap();
    let early = at(now() - TimeDelta::minutes(5) - second);
    refused(early, Reason::RevocationsMissing, "the list of retailer is from 2026-11-22T12:00:00Z");
    refused(at(until()), Reason::RevocationsMissing, "the list of retailer expired at 2026-12-22T12:00:00Z");
}

#[test]
fn a_list_is_valid_for_90_days_at_most() {
    let valid_for = |time| {
        let file = RevocationsFile::next(ROOM, "retailer", None, &[], now(), now() + time);
        seal(&file, &key(ANA)).map(|bytes| open(&bytes).unwrap())
    };
    valid_for(TimeDelta::days(90)).unwrap();
    valid_for(TimeDelta::seconds(1)).unwrap();
    for time in [TimeDelta::days(90) + TimeDelta::seconds(1), TimeDelta::zero(), TimeDelta::days(-1)] {
        assert!(valid_for(time).unwrap_err().contains("at most 90 days"));
    }
    refused(edited(|list| list["expires"] = "2027-02-20T12:00:01Z".into()), Reason::Malformed, "at most 90 days");
    edited(|list| list["expires"] = "2027-02-20T12:00:00Z".into()).unwrap();
}

/// D3.
#[test]
fn d03_a_list_is_not_older_than_one_that_was_seen() {
    let first = list(&[entry(RevocationKind::Person, "ben")]);
    let second = RevocationsFile::next(ROOM, "retailer", Some(first.file()), &[], now(), until());
    let second = open(&seal(&second, &key(ANA)).unwrap()).unwrap();
    second.check_seen(first.version(), first.sha256()).unwrap();
    first.check_seen(first.version(), first.sha256()).unwrap();
    let rolled_back = first.check_seen(second.version(), second.sha256());
    refused(rolled_back, Reason::RevocationsMissing, "the list of retailer has version 1, version 2 was seen");
    let split = list(&[]).check_seen(first.version(), first.sha256());
    refused(split, Reason::RevocationsMissing, "retailer has two lists of version 1");
}

#[test]
fn the_next_list_keeps_what_the_last_one_held() {
    let first = file(&[entry(RevocationKind::Person, "ben"), entry(RevocationKind::Sdk, "0.1.0")]);
    let later = now() + TimeDelta::days(1);
    let again = Entry::new(RevocationKind::Person, "ben", "once more", later);
    let more = Entry::new(RevocationKind::Agreement, AGREEMENT, "", later);
    let second = RevocationsFile::next(ROOM, "retailer", Some(&first), &[again, more.clone()], later, until());
    assert_eq!((second.version, second.issued_at.as_str()), (2, "2026-11-23T12:00:00Z"));
    assert_eq!(second.entries, [first.entries[0].clone(), first.entries[1].clone(), more]);
    let renewed = RevocationsFile::next(ROOM, "retailer", Some(&second), &[], later, until());
    assert_eq!((renewed.version, renewed.entries), (3, second.entries));
}

#[test]
fn fields_have_their_form() {
    let malformed = |path: &str, value: Value, fact: &str| {
        refused(edited(|list| *list.pointer_mut(path).unwrap() = value), Reason::Malformed, fact);
    };
    malformed("/format", json!(2), "format 2");
    malformed("/version", json!(0), "0 is no version");
    malformed("/version", json!(1u64 << 53), "is no version");
    malformed("/version", json!(1.0), "");
    malformed("/issued_at", json!("2026-11-22T12:00:00+00:00"), "not a time in UTC");
    malformed("/entries/0/since", json!("yesterday"), "not a time in UTC");
    malformed("/entries/0/kind", json!("all"), "is not one of");
    malformed("/entries/0/kind", json!({"person": null}), "expected a string");
    malformed("/entries/0/reason", json!("x".repeat(201)), "line of ASCII");
    malformed("/entries/0/reason", json!("two\nlines"), "line of ASCII");
    malformed("/entries/0/reason", json!("\u{212a}"), "line of ASCII");
    malformed("/entries/0", json!(["person", "ben", "", "2026-11-22T12:00:00Z"]), "");
    malformed("/entries", json!({}), "");
    edited(|list| list["entries"][0]["reason"] = "x".repeat(200).into()).unwrap();
    refused(edited(|list| list["extra"] = 1.into()), Reason::Malformed, "unknown field");
    refused(edited(|list| list["entries"][0]["extra"] = 1.into()), Reason::Malformed, "unknown field");
    refused(edited(|list| drop(list.as_object_mut().unwrap().remove("entries"))), Reason::Malformed, "missing field");
    for party in ["Retailer", "retailer.", ""] {
        refused(edited(|list| list["party"] = party.into()), Reason::IdInvalid, "");
    }
    refused(edited(|list| list["room"] = "a room".into()), Reason::IdInvalid, "");
}

#[test]
fn values_are_of_their_kind() {
    let is_right = |kind, value: &str| {
        let is_sealed = seal(&file(&[entry(kind, value)]), &key(ANA)).is_ok();
        let opened = edited(|list| list["entries"][0] = serde_json::to_value(entry(kind, value)).unwrap());
        assert_eq!(is_sealed, opened.is_ok());
        is_sealed
    };
    use RevocationKind::{Agreement, ApprovalsThrough, Component, Key, Person, RuntimeKey, Sdk};
    for kind in [Agreement, Component, RuntimeKey, Key] {
        assert!(is_right(kind, AGREEMENT));
        for bad in ["", &AGREEMENT[..63], &AGREEMENT.to_uppercase(), &format!("{AGREEMENT}00"), "ben"] {
            assert!(!is_right(kind, bad), "{kind} {bad}");
        }
    }
    assert!(
        is_right(Person, "ben") && is_right(Sdk, "0.1.0-rc.1+b") && is_right(ApprovalsThrough, "ben:9007199254740991")
    );
    for bad in ["", "Ben", "retailer/ben", "ben ", "b.n"] {
        assert!(!is_right(Person, bad), "{bad}");
    }
    for bad in ["", "0.1 0", "\u{661}", &"1".repeat(65)] {
        assert!(!is_right(Sdk, bad), "{bad}");
    }
    for bad in ["ben", "ben:", ":1", "ben:0", "ben:01", "ben:+1", "ben:9007199254740992", "ben:1:1", "Ben:1", "ben: 1"]
    {
        assert!(!is_right(ApprovalsThrough, bad), "{bad}");
    }
}

#[test]
fn a_list_has_an_end() {
    let many = |count: usize, reason: &str| {
        let entries: Vec<Entry> =
            (0..count).map(|i| Entry::new(RevocationKind::Sdk, &i.to_string(), reason, now())).collect();
        file(&entries)
    };
    let full = seal(&many(1024, ""), &key(ANA)).unwrap();
    assert_eq!(open(&full).unwrap().file().entries.len(), 1024);
    assert!(seal(&many(1025, ""), &key(ANA)).unwrap_err().contains("more than 1024 entries"));
    let long = many(1024, &"x".repeat(200));
    assert!(seal(&long, &key(ANA)).unwrap_err().contains("longer than 131072 bytes"));
    let by_hand = |file: &RevocationsFile| {
        open(&envelope::seal(REVOCATIONS_TYPE, &serde_json::to_vec(file).unwrap(), &key(ANA)).unwrap())
    };
    refused(by_hand(&long), Reason::TooLarge, "");
    refused(by_hand(&many(1025, "")), Reason::Malformed, "more than 1024 entries");
}

#[test]
fn every_changed_byte_of_a_list_is_refused() {
    let bytes = sealed(&[entry(RevocationKind::Person, "ben")]);
    let registry = registry();
    for (at, changed) in mutations(&bytes) {
        let result = RevocationList::open(&changed, &registry, "retailer", now());
        assert!(result.is_err() || is_hint(&bytes, at), "byte {at} of a list can be changed");
    }
}
