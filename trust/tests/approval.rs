//! Approvals: what is one, and when an agreement is approved.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod common;

use std::collections::BTreeSet;

use chrono::TimeDelta;
use common::{
    AGREEMENT, ANA, ANA_ALSO, BEN, CLEO, DAN, ENGINE, EVE, Model, OTHER_AGREEMENT, ROOM, STRANGER, add, approval,
    approval_draft, at, draft, edited_approval, is_hint, key, mutations, now, parse, payload_of, random_lines, refused,
    registry, rewrap, signatures, who, with_quorum,
};
use curve25519_dalek::scalar::Scalar;
use glovebox_trust::approval::{self, Approval, Role, Terms, check_approvals};
use glovebox_trust::envelope::{self, IN_TOTO, pre_authentication_encoding};
use glovebox_trust::keys::Signer;
use glovebox_trust::quorum::Kind;
use glovebox_trust::registry::{MemberKind, Registry, Scope, Status};
use glovebox_trust::revocations::{REVOCATIONS_TYPE, RevocationsFile};
use glovebox_trust::{Denial, Principal, Reason, minisign, revocations, ssh};
use proptest::prelude::{any, prop_assert, prop_assert_eq};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

fn verify(bytes: &[u8]) -> Result<Approval, Denial> {
    approval::verify(bytes, &registry(), AGREEMENT, now(), false)
}

fn of_ana() -> Vec<u8> {
    approval("retailer/ana", ANA, Role::DataOwner)
}

fn edited(edit: impl FnOnce(&mut Value)) -> Result<Approval, Denial> {
    verify(&edited_approval(ANA, edit))
}

fn verified(name: &str, seed: u8, role: Role) -> Approval {
    verify(&approval(name, seed, role)).unwrap()
}

/// The retailer owns the data, the brand receives the answer.
fn check(registry: &Registry, kind: Kind, approvals: &[Approval]) -> Result<(), Denial> {
    let terms = Terms { agreement_id: AGREEMENT, kind, owners: &BTreeSet::from(["retailer"]), recipient: "brand" };
    check_approvals(registry, &terms, approvals)
}

fn owner() -> Approval {
    verified("retailer/ana", ANA, Role::DataOwner)
}

fn recipient() -> Approval {
    verified("brand/dan", DAN, Role::Recipient)
}

#[test]
fn an_approval_says_who_approved_what() {
    let sealed = of_ana();
    let approval = verify(&sealed).unwrap();
    assert_eq!(*approval.principal(), who("retailer/ana"));
    assert_eq!(approval.key_fingerprint(), key(ANA).public().fingerprint());
    assert_eq!((approval.role(), approval.agreement_id()), (Role::DataOwner, AGREEMENT));
    assert_eq!((approval.sequence(), approval.registry_version()), (1, 1));
    assert_eq!(approval.not_after(), now() + TimeDelta::days(30));
    assert_eq!(approval.sha256(), glovebox_trust::sha256_hex(&sealed));
    assert_eq!(
        payload_of(&sealed, IN_TOTO, ANA),
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "agreement.json", "digest": {"sha256": AGREEMENT}}],
            "predicateType": "https://glovebox.dev/approval/v1",
            "predicate": {
                "room": "grocery", "party": "retailer", "person": "ana", "role": "data-owner", "decision": "approve",
                "agreement_id": AGREEMENT, "sequence": 1, "registry_version": 1,
                "approved_at": "2026-11-22T12:00:00Z", "not_after": "2026-12-22T12:00:00Z",
                "nonce": "09090909090909090909090909090909",
            },
        })
    );
}

#[test]
fn nothing_is_sealed_that_would_not_be_read() {
    let ana = who("retailer/ana");
    for (sequence, version) in [(0, 1), (1, 0), (1 << 53, 1)] {
        let mut draft = approval_draft(&ana, Role::Member, sequence);
        draft.registry_version = version;
        assert!(approval::seal(&draft, &key(ANA)).unwrap_err().contains("from 1 to 2^53-1"));
    }
    let mut draft = approval_draft(&ana, Role::Member, 1);
    draft.not_after = draft.approved_at - TimeDelta::seconds(1);
    assert!(approval::seal(&draft, &key(ANA)).unwrap_err().contains("ends to be valid before it begins"));
}

#[test]
fn a01_an_approval_without_a_signature_is_refused() {
    let stripped = rewrap(&of_ana(), |envelope| envelope["signatures"] = json!([]));
    refused(verify(&stripped), Reason::SignatureMissing, "0 signatures");
}

#[test]
fn a02_an_envelope_without_one_of_its_fields_is_refused() {
    for field in ["payload", "payloadType", "signatures"] {
        let without = rewrap(&of_ana(), |envelope| drop(envelope.as_object_mut().unwrap().remove(field)));
        refused(verify(&without), Reason::Malformed, "missing field");
    }
    let without = rewrap(&of_ana(), |e| drop(e["signatures"][0].as_object_mut().unwrap().remove("sig")));
    refused(verify(&without), Reason::Malformed, "missing field");
}

#[test]
fn a03_a_second_signature_never_counts() {
    for second in [json!({"sig": "AAAA"}), json!({"keyid": "", "sig": ""})] {
        let two = rewrap(&of_ana(), |envelope| envelope["signatures"].as_array_mut().unwrap().push(second.clone()));
        refused(verify(&two), Reason::SignatureMissing, "2 signatures");
    }
}

/// A4, A5: copies of a file and second keys of a person count once.
#[test]
fn a04_a05_a_person_counts_once() {
    let registry = with_quorum(&[
        "group two 2 retailer/ana retailer/ben",
        "group everyone all two brand/dan",
        "quorum root everyone",
        "quorum list everyone",
    ])
    .unwrap();
    let ana = who("retailer/ana");
    let also = approval::seal(&approval_draft(&ana, Role::DataOwner, 2), &key(ANA_ALSO)).unwrap();
    let also = verify(&also).unwrap();
    let with = |more: &[Approval]| check(&registry, Kind::List, &[&[owner(), recipient()], more].concat());
    for more in [vec![], vec![owner(), owner()], vec![also]] {
        refused(with(&more), Reason::QuorumMissing, "group two has 1 of 2: retailer/ben");
    }
    with(&[verified("retailer/ben", BEN, Role::DataOwner)]).unwrap();
}

#[test]
fn a07_a_key_id_does_not_make_a_signer() {
    let hint = key(DAN).public().fingerprint();
    let hinted = rewrap(&of_ana(), |envelope| envelope["signatures"][0]["keyid"] = hint.clone().into());
    assert_eq!(*verify(&hinted).unwrap().principal(), who("retailer/ana"));
    let claimed = edited_approval(ANA, |statement| {
        statement["predicate"]["party"] = "brand".into();
        statement["predicate"]["person"] = "dan".into();
    });
    let claimed = rewrap(&claimed, |envelope| envelope["signatures"][0]["keyid"] = hint.into());
    refused(verify(&claimed), Reason::SignerMismatch, "it says brand/dan, and retailer/ana signed it");
    let claimed = edited(|statement| statement["predicate"]["person"] = "ben".into());
    refused(claimed, Reason::SignerMismatch, "it says retailer/ben");
    let claimed = edited(|statement| statement["predicate"]["party"] = "brand".into());
    refused(claimed, Reason::SignerMismatch, "it says brand/ana");
}

#[test]
fn a08_a_key_id_may_be_missing_or_wrong() {
    for hint in [json!(""), json!("x"), json!("\u{212a}")] {
        verify(&rewrap(&of_ana(), |envelope| envelope["signatures"][0]["keyid"] = hint)).unwrap();
    }
    verify(&rewrap(&of_ana(), |e| drop(e["signatures"][0].as_object_mut().unwrap().remove("keyid")))).unwrap();
}

fn with_signature(signature: &[u8]) -> Vec<u8> {
    let text = data_encoding::BASE64.encode(signature);
    rewrap(&of_ana(), |envelope| envelope["signatures"][0]["sig"] = text.into())
}

fn signature_of(sealed: &[u8]) -> Vec<u8> {
    let envelope: Value = serde_json::from_slice(sealed).unwrap();
    data_encoding::BASE64.decode(envelope["signatures"][0]["sig"].as_str().unwrap().as_bytes()).unwrap()
}

/// A13: the order of the group added to S, and lengths that are not that of a signature.
#[test]
fn a13_other_forms_of_a_signature_are_refused() {
    let honest = signature_of(&of_ana());
    verify(&with_signature(&honest)).unwrap();
    // L = 2^252 + 27742317777372353535851937790883648493.
    let mut order = Scalar::ZERO.as_bytes().to_owned();
    let minus_one = (Scalar::ZERO - Scalar::ONE).to_bytes();
    order.copy_from_slice(&minus_one);
    order[0] += 1;
    let (mut malleated, mut carry) = (honest.clone(), 0u16);
    for i in 0..32 {
        let sum = u16::from(honest[32 + i]) + u16::from(order[i]) + carry;
        (malleated[32 + i], carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    assert_ne!(malleated, honest);
    let mut high = honest.clone();
    high[63] |= 0xe0;
    for forged in [malleated, high, honest[..63].to_vec(), [honest.as_slice(), &[0]].concat(), vec![0; 64], vec![]] {
        refused(verify(&with_signature(&forged)), Reason::SignatureInvalid, "");
    }
}

/// A14: the same key signed the same bytes, but for another use.
#[test]
fn a14_signatures_of_other_formats_are_refused() {
    let sealed = of_ana();
    let payload = envelope::open(&sealed, IN_TOTO, [((), key(ANA).public())]).unwrap().payload;
    let encoded = pre_authentication_encoding(IN_TOTO, &payload);
    let raw = key(ANA).sign(&payload).unwrap();
    let other_type = key(ANA).sign(&pre_authentication_encoding("text/plain", &payload)).unwrap();
    for signature in [raw, other_type] {
        refused(verify(&with_signature(&signature)), Reason::SignatureInvalid, "");
    }
    for message in [&payload, &encoded] {
        let over_ssh = key(ANA).sign(&ssh::signed_bytes("approval@glovebox", message)).unwrap();
        refused(verify(&with_signature(&over_ssh)), Reason::SignatureInvalid, "");
        let mini = minisign::sign(message, "", &key(ANA)).unwrap();
        let line = mini.lines().nth(1).unwrap();
        let line = data_encoding::BASE64.decode(line.as_bytes()).unwrap();
        refused(verify(&with_signature(&line[10..74])), Reason::SignatureInvalid, "");
    }
    verify(&with_signature(&key(ANA).sign(&encoded).unwrap())).unwrap();
}

/// A16: a retired key's approvals stand if they were logged; a compromised one's do not.
#[test]
fn a16_a_key_that_is_no_longer_in_use_does_not_approve() {
    let with = |status, is_logged| {
        let mut file = draft();
        file.key_mut(&key(ANA).public()).unwrap().status = status;
        approval::verify(&of_ana(), &parse(&file), AGREEMENT, now(), is_logged)
    };
    refused(with(Status::Retired, false), Reason::KeyExpired, "retired");
    with(Status::Retired, true).unwrap();
    refused(with(Status::Compromised, true), Reason::Revoked, "compromised");
}

#[test]
fn a17_an_approval_by_someone_who_left_is_refused() {
    let mut file = draft();
    file.parties[0].members.remove(0);
    file.set_default_quorum();
    file.quorum.push("quorum root brand".into());
    let registry = parse(&{
        file.quorum.retain(|line| !line.starts_with("quorum root root"));
        file
    });
    refused(approval::verify(&of_ana(), &registry, AGREEMENT, now(), true), Reason::SignatureInvalid, "");
}

/// B1: one kind of document is never read as another.
#[test]
fn b01_other_documents_are_no_approvals() {
    let registry_signature = signatures(&draft().to_bytes(), &[("retailer/ana", ANA)]).remove(0);
    refused(verify(&registry_signature), Reason::PredicateType, "its predicate type is not");
    let list = RevocationsFile::next(ROOM, "retailer", None, &[], now(), now() + TimeDelta::days(1));
    let list = revocations::seal(&list, &key(ANA)).unwrap();
    refused(verify(&list), Reason::PayloadType, "");
    let relabelled = rewrap(&list, |envelope| envelope["payloadType"] = IN_TOTO.into());
    refused(verify(&relabelled), Reason::SignatureInvalid, "");
    let relabelled = rewrap(&of_ana(), |envelope| envelope["payloadType"] = REVOCATIONS_TYPE.into());
    refused(verify(&relabelled), Reason::PayloadType, "");
    let statement = edited(|statement| statement["_type"] = "https://in-toto.io/Statement/v0.1".into());
    refused(statement, Reason::PredicateType, "not an in-toto Statement v1");
    let run = edited(|statement| statement["predicateType"] = "https://glovebox.dev/run/v1".into());
    refused(run, Reason::PredicateType, "");
    // What a runtime signs is no approval whatever it says.
    refused(
        verify(&edited_approval(ENGINE, |_| {})),
        Reason::KeyScope,
        "retailer/engine is not registered for approve",
    );
}

/// B2.
#[test]
fn b02_base64_has_one_spelling_in_each_alphabet() {
    let sealed = of_ana();
    for field in ["/payload", "/signatures/0/sig"] {
        let respelled = |spell: &dyn Fn(&str) -> String| {
            rewrap(&sealed, |envelope| {
                let text = envelope.pointer_mut(field).unwrap();
                *text = spell(text.as_str().unwrap()).into();
            })
        };
        verify(&respelled(&|text| text.replace('+', "-").replace('/', "_"))).unwrap();
        for bad in [
            respelled(&|text| format!("{text}\n")),
            respelled(&|text| format!("{}\n{}", &text[..4], &text[4..])),
            respelled(&|text| format!(" {text}")),
            respelled(&|text| format!("{text}=")),
            respelled(&|text| format!("{text}====")),
        ] {
            refused(verify(&bad), Reason::Malformed, "is not base64");
        }
    }
    // A signature ends in two characters of padding; the last of its letters has four bits that mean nothing.
    let text = data_encoding::BASE64.encode(&signature_of(&sealed));
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let last = letters.iter().position(|letter| *letter == text.as_bytes()[85]).unwrap();
    let trailing = format!("{}{}==", &text[..85], char::from(letters[last + 1]));
    for bad in [trailing, text.trim_end_matches('=').to_owned()] {
        let bad = rewrap(&sealed, |envelope| envelope["signatures"][0]["sig"] = bad.into());
        refused(verify(&bad), Reason::Malformed, "its signature is not base64");
    }
}

/// B3, B4, B5: JSON with more than one reading.
#[test]
fn b03_b04_b05_an_envelope_has_one_reading() {
    let text = String::from_utf8(of_ana()).unwrap();
    let malformed = |bytes: &[u8]| refused(verify(bytes), Reason::Malformed, "");
    for field in ["payload", "payloadType", "p\\u0061yload", "signatures"] {
        malformed(text.replacen('{', &format!("{{\"{field}\": \"\","), 1).as_bytes());
    }
    let value: Value = serde_json::from_str(&text).unwrap();
    let array = json!([value["payloadType"], value["payload"], value["signatures"]]);
    refused(verify(&serde_json::to_vec(&array).unwrap()), Reason::Malformed, "an array stands");
    let signature = &value["signatures"][0];
    let array = rewrap(text.as_bytes(), |e| e["signatures"] = json!([[signature["keyid"], signature["sig"]]]));
    refused(verify(&array), Reason::Malformed, "an array stands");
    malformed(format!("{text}{text}").as_bytes());
    malformed(format!("{text}\0").as_bytes());
    malformed(format!("\u{feff}{text}").as_bytes());
    malformed(&text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>());
    // The same within what was signed.
    let in_array = edited(|statement| {
        statement["predicate"] = statement["predicate"].as_object().unwrap().values().cloned().collect();
    });
    refused(in_array, Reason::Malformed, "");
    let subject_in_array =
        edited(|statement| statement["subject"] = json!([["agreement.json", {"sha256": AGREEMENT}]]));
    refused(subject_in_array, Reason::Malformed, "an array stands");
    let payload = payload_of(text.as_bytes(), IN_TOTO, ANA).to_string();
    for twice in ["decision", "agreement_id", "\\u0072ole"] {
        let twice = payload.replacen("\"predicate\":{", &format!("\"predicate\":{{\"{twice}\":\"x\","), 1);
        assert_ne!(twice, payload);
        malformed(&envelope::seal(IN_TOTO, twice.as_bytes(), &key(ANA)).unwrap());
    }
}

/// B6: files made to cost time or memory.
#[test]
fn b06_files_that_are_deep_long_or_cut_are_refused() {
    let sealed = of_ana();
    for at in 0..sealed.len() - 1 {
        refused(verify(&sealed[..at]), Reason::Malformed, "");
    }
    let deep = format!("{{\"extra\":{}{},", "[".repeat(20_000), "]".repeat(20_000));
    let deep = String::from_utf8(sealed.clone()).unwrap().replacen('{', &deep, 1);
    refused(verify(deep.as_bytes()), Reason::Malformed, "recursion limit");
    refused(verify("[".repeat(200_000).as_bytes()), Reason::Malformed, "");
    let many = rewrap(&sealed, |e| e["signatures"] = vec![json!({"sig": ""}); 20_000].into());
    refused(verify(&many), Reason::SignatureMissing, "20000 signatures");
    refused(verify(&vec![b'{'; (256 << 10) + 1]), Reason::TooLarge, "");
    refused(verify(&vec![b' '; 1 << 30]), Reason::TooLarge, "");
}

/// B8: a valid signature does not make a document.
#[test]
fn b08_a_signed_payload_that_cannot_be_read_is_refused() {
    for payload in [b"".as_slice(), b"{", b"null", b"\xff\xfe", b"[]", b"{}", b"{\"_type\":1}"] {
        refused(verify(&envelope::seal(IN_TOTO, payload, &key(ANA)).unwrap()), Reason::Malformed, "");
    }
}

/// B10: outside the signature unknown fields mean nothing; inside one may be a restriction.
#[test]
fn b10_unknown_fields_are_ignored_outside_and_refused_inside() {
    let more = rewrap(&of_ana(), |envelope| {
        envelope["extra"] = json!({"a": [1]});
        envelope["signatures"][0]["extra"] = 1.into();
    });
    verify(&more).unwrap();
    for path in ["", "/predicate", "/subject/0", "/subject/0/digest"] {
        let more = edited(|statement| statement.pointer_mut(path).unwrap()["maximum_runs"] = 1.into());
        refused(more, Reason::Malformed, "unknown field `maximum_runs`");
    }
}

#[test]
fn c01_an_approval_has_one_subject_with_one_digest() {
    let subject = |subject: Value| edited(|statement| statement["subject"] = subject);
    let right = json!({"name": "agreement.json", "digest": {"sha256": AGREEMENT}});
    let wrong = json!({"name": "agreement.json", "digest": {"sha256": OTHER_AGREEMENT}});
    subject(json!([right])).unwrap();
    refused(subject(json!([])), Reason::SubjectMismatch, "0 subjects");
    refused(subject(json!([right, right])), Reason::SubjectMismatch, "2 subjects");
    refused(subject(json!([wrong, right])), Reason::SubjectMismatch, "2 subjects");
    refused(subject(json!([wrong])), Reason::SubjectMismatch, "another agreement");
    let digest = |digest: Value| subject(json!([{"name": "agreement.json", "digest": digest}]));
    refused(digest(json!({"sha512": AGREEMENT})), Reason::Malformed, "unknown field `sha512`");
    refused(digest(json!({"sha256": AGREEMENT, "md5": "00"})), Reason::Malformed, "unknown field `md5`");
    refused(digest(json!({"sha256": AGREEMENT.to_uppercase()})), Reason::SubjectMismatch, "another agreement");
    let name = subject(json!([{"name": "manifest.json", "digest": {"sha256": AGREEMENT}}]));
    refused(name, Reason::SubjectMismatch, "another agreement");
}

#[test]
fn c02_an_approval_of_one_agreement_is_none_of_another() {
    let other = approval::verify(&of_ana(), &registry(), OTHER_AGREEMENT, now(), false);
    refused(other, Reason::SubjectMismatch, "another agreement");
    let half = edited(|statement| statement["predicate"]["agreement_id"] = OTHER_AGREEMENT.into());
    refused(half, Reason::SubjectMismatch, "another agreement");
    // Nor does it count among approvals of the other.
    let terms = Terms {
        agreement_id: OTHER_AGREEMENT,
        kind: Kind::List,
        owners: &BTreeSet::from(["retailer"]),
        recipient: "brand",
    };
    let denied = check_approvals(&registry(), &terms, &[owner(), recipient()]);
    refused(denied, Reason::OwnerMissing, "not approved by: brand, retailer");
}

#[test]
fn c06_numbers_have_one_spelling() {
    let payload = payload_of(&of_ana(), IN_TOTO, ANA).to_string();
    for number in ["1.0", "1e0", "-0", "\"1\"", "01", "18446744073709551616", "\u{661}", "true", "null"] {
        let changed = payload.replace("\"sequence\":1", &format!("\"sequence\":{number}"));
        assert_ne!(changed, payload);
        refused(verify(&envelope::seal(IN_TOTO, changed.as_bytes(), &key(ANA)).unwrap()), Reason::Malformed, "");
    }
    for field in ["sequence", "registry_version"] {
        for number in [0, 1u64 << 53] {
            let changed = edited(|statement| statement["predicate"][field] = number.into());
            refused(changed, Reason::Malformed, "not from 1 to 2^53-1");
        }
    }
    edited(|statement| statement["predicate"]["sequence"] = ((1u64 << 53) - 1).into()).unwrap();
}

#[test]
fn c08_an_approval_in_one_room_is_none_in_another() {
    let mut file = draft();
    file.room = "bakery".into();
    let other_room = approval::verify(&of_ana(), &parse(&file), AGREEMENT, now(), false);
    refused(other_room, Reason::SubjectMismatch, "it is for room grocery, this is room bakery");
}

#[test]
fn c12_another_decision_is_no_approval() {
    for decision in ["reject", "withdraw", "Approve", "approve ", "", "\u{430}pprove"] {
        let decided = edited(|statement| statement["predicate"]["decision"] = decision.into());
        refused(decided, Reason::NotApproved, "retailer/ana signed");
    }
}

#[test]
fn c13_an_author_approves_nothing() {
    refused(verify(&edited_approval(CLEO, |_| {})), Reason::KeyScope, "retailer/cleo is not registered for approve");
    // An author of the one party, who may approve for it, approves for no other party.
    let mut file = draft();
    add(&mut file, "brand/writer", MemberKind::Person, 30, &[Scope::Approve, Scope::Author]);
    file.quorum = vec!["quorum root retailer/ana".into(), "quorum list brand/writer".into()];
    let registry = parse(&file);
    let by_writer = |role| {
        let sealed = approval("brand/writer", 30, role);
        approval::verify(&sealed, &registry, AGREEMENT, now(), false).unwrap()
    };
    for role in Role::ALL {
        let fact =
            if *role == Role::Recipient { "not approved by: retailer" } else { "not approved by: brand, retailer" };
        let denial = check(&registry, Kind::List, &[by_writer(*role)]).unwrap_err();
        assert_eq!((denial.reason(), denial.fact()), (Reason::OwnerMissing, fact));
    }
    check(&registry, Kind::List, &[by_writer(Role::Recipient), owner()]).unwrap();
}

/// C14: whatever the quorum says, every owner of a view and the recipient have to approve.
#[test]
fn c14_no_quorum_stands_in_for_an_owner_or_the_recipient() {
    let lax = with_quorum(&["group one any retailer/ben brand/eve", "quorum root one", "quorum list one"]).unwrap();
    let [ben, eve] = [("retailer/ben", BEN, Role::DataOwner), ("brand/eve", EVE, Role::Recipient)]
        .map(|(name, seed, role)| verified(name, seed, role));
    for (approvals, fact) in [
        (vec![], "not approved by: brand, retailer"),
        (vec![ben.clone()], "not approved by: brand"),
        (vec![eve.clone()], "not approved by: retailer"),
    ] {
        let denial = check(&lax, Kind::List, &approvals).unwrap_err();
        assert_eq!((denial.reason(), denial.fact()), (Reason::OwnerMissing, fact));
    }
    check(&lax, Kind::List, &[ben.clone(), eve.clone()]).unwrap();
    // And the owners do not stand in for a quorum.
    refused(check(&lax, Kind::List, &[owner(), recipient()]), Reason::QuorumMissing, "group one has 0 of 1");
    refused(check(&lax, Kind::Cleanml, &[ben, eve]), Reason::QuorumMissing, "no quorum for cleanml");
}

#[test]
fn an_approval_counts_in_the_role_that_its_party_has() {
    let registry = registry();
    check(&registry, Kind::List, &[owner(), recipient()]).unwrap();
    for role in [Role::Recipient, Role::Member] {
        let denied = check(&registry, Kind::List, &[verified("retailer/ana", ANA, role), recipient()]);
        refused(denied, Reason::OwnerMissing, "not approved by: retailer");
    }
    for role in [Role::DataOwner, Role::Member] {
        let denied = check(&registry, Kind::List, &[owner(), verified("brand/dan", DAN, role)]);
        refused(denied, Reason::OwnerMissing, "not approved by: brand");
    }
    let owners = BTreeSet::from(["retailer"]);
    let terms = |recipient| Terms { agreement_id: AGREEMENT, kind: Kind::List, owners: &owners, recipient };
    assert_eq!(terms("retailer").role_of("retailer"), Role::DataOwner);
    assert_eq!(terms("brand").role_of("brand"), Role::Recipient);
    assert_eq!(terms("retailer").role_of("brand"), Role::Member);
    let as_member = verified("brand/dan", DAN, Role::Member);
    check_approvals(&registry, &terms("retailer"), &[owner(), as_member]).unwrap();
    refused(check_approvals(&registry, &terms("nobody"), &[owner()]), Reason::OwnerMissing, "not approved by: nobody");
}

#[test]
fn d01_an_approval_counts_in_its_window() {
    let at_time = |time| approval::verify(&of_ana(), &registry(), AGREEMENT, time, false);
    let second = TimeDelta::seconds(1);
    let (from, until) = (now() - TimeDelta::minutes(5), now() + TimeDelta::days(30));
    at_time(from).unwrap();
    at_time(until).unwrap();
    refused(at_time(from - second), Reason::ApprovalExpired, "still to come");
    refused(at_time(until + second), Reason::ApprovalExpired, "it was valid until 2026-12-22T12:00:00Z");
    // The log keeps a signature, not a consent that ended.
    let logged = approval::verify(&of_ana(), &registry(), AGREEMENT, until + second, true);
    refused(logged, Reason::ApprovalExpired, "");
    for (field, time) in [("approved_at", "2026-11-22"), ("not_after", "2026-12-22T12:00:00.0Z")] {
        let changed = edited(|statement| statement["predicate"][field] = time.into());
        refused(changed, Reason::Malformed, "times are not in UTC");
    }
    let backwards = edited(|statement| statement["predicate"]["not_after"] = "2026-11-22T11:59:59Z".into());
    refused(backwards, Reason::Malformed, "before it begins");
    assert_eq!(at("2026-12-22T12:00:00Z"), until);
}

#[test]
fn an_approver_has_not_seen_a_later_registry() {
    let seen = |version: u64| edited(|statement| statement["predicate"]["registry_version"] = version.into());
    refused(seen(2), Reason::RegistryInvalid, "has seen version 2 of the registry, this is version 1");
    let mut file = draft();
    file.version = 3;
    for version in [1u64, 3] {
        let sealed = edited_approval(ANA, |statement| statement["predicate"]["registry_version"] = version.into());
        let approval = approval::verify(&sealed, &parse(&file), AGREEMENT, now(), false).unwrap();
        assert_eq!(approval.registry_version(), version);
    }
}

#[test]
fn a_role_and_a_nonce_have_their_form() {
    for role in [json!("owner"), json!("Member"), json!({"member": null}), json!(null)] {
        refused(edited(|statement| statement["predicate"]["role"] = role), Reason::Malformed, "");
    }
    for nonce in ["", "0", &"0".repeat(31), &"0".repeat(34), &"A".repeat(32), &"g".repeat(32)] {
        let changed = edited(|statement| statement["predicate"]["nonce"] = nonce.into());
        refused(changed, Reason::Malformed, "nonce");
    }
}

#[test]
fn two_approvals_with_one_number_are_refused() {
    let again = edited(|statement| statement["predicate"]["nonce"] = "0".repeat(32).into()).unwrap();
    let denied = check(&registry(), Kind::List, &[owner(), again.clone(), recipient()]);
    refused(denied, Reason::ApprovalReplayed, "retailer/ana signed two approvals with the number 1");
    // The same number of two people, or a later one of the same person, is fine.
    let later = edited(|statement| statement["predicate"]["sequence"] = 2.into()).unwrap();
    check(&registry(), Kind::List, &[owner(), later, recipient()]).unwrap();
    check(&registry(), Kind::List, &[owner(), owner(), recipient()]).unwrap();
}

#[test]
fn a_strangers_approval_is_refused() {
    refused(verify(&edited_approval(STRANGER, |_| {})), Reason::SignatureInvalid, "no key that may have made it");
}

#[test]
fn every_changed_byte_of_an_approval_is_refused() {
    let (sealed, registry) = (of_ana(), registry());
    for (at, changed) in mutations(&sealed) {
        if is_hint(&sealed, at) {
            continue;
        }
        let result = approval::verify(&changed, &registry, AGREEMENT, now(), true);
        assert!(result.is_err(), "byte {at} of an approval can be changed");
    }
    for at in (0..sealed.len()).filter(|at| !is_hint(&sealed, *at)) {
        let mut shorter = sealed.clone();
        shorter.remove(at);
        let result = approval::verify(&shorter, &registry, AGREEMENT, now(), true);
        assert!(result.is_err(), "byte {at} of an approval can be left out");
    }
}

/// Every way in which someone of the room could approve, each with a number of its own.
fn all_approvals(people: &[(&str, u8)]) -> Vec<Approval> {
    let mut approvals = Vec::new();
    let mut sequence = 0;
    for (name, seed) in people {
        for role in Role::ALL {
            sequence += 1;
            let sealed = approval::seal(&approval_draft(&who(name), *role, sequence), &key(*seed)).unwrap();
            approvals.push(verify(&sealed).unwrap());
        }
    }
    approvals
}

/// Against whoever reads the rules in a simple way; and no approval more makes of a yes a no.
#[test]
fn approvals_are_checked_as_a_reader_would_and_more_never_hurts() {
    let people: BTreeSet<Principal> =
        registry().file().parties.iter().flat_map(|party| registry().people_of(&party.id)).collect();
    let approvals =
        all_approvals(&[("retailer/ana", ANA), ("retailer/ben", BEN), ("brand/dan", DAN), ("brand/eve", EVE)]);
    assert_eq!(approvals.len(), 12);
    let seen = std::cell::Cell::new((0u32, 0u32));
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let numbers = proptest::collection::vec(any::<u8>(), 40);
    runner
        .run(&(numbers, any::<u16>(), 0usize..4, 1usize..4, 0usize..2), |(numbers, chosen, kind, owners, recipient)| {
            let lines = random_lines(&numbers, &people);
            let Some(model) = Model::parse(&lines, &people) else { return Ok(()) };
            let registry = with_quorum(&lines.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
            let parties = ["retailer", "brand"];
            let owners: BTreeSet<&str> = (0..2).filter(|i| owners >> i & 1 == 1).map(|i| parties[i]).collect();
            let terms = Terms {
                agreement_id: AGREEMENT,
                kind: Kind::ALL[kind],
                owners: &owners,
                recipient: parties[recipient],
            };
            let given = |chosen: u16| -> Vec<Approval> {
                (0..12).filter(|i| chosen >> i & 1 == 1).map(|i| approvals[i].clone()).collect()
            };
            let is_allowed = |chosen: u16| check_approvals(&registry, &terms, &given(chosen)).is_ok();
            let expected = |chosen: u16| {
                let mut counted = BTreeSet::new();
                for approval in given(chosen) {
                    let party = approval.principal().party.as_str();
                    let is_owner = owners.contains(party);
                    let is_recipient = party == terms.recipient;
                    let counts = match approval.role() {
                        Role::DataOwner => is_owner,
                        Role::Recipient => is_recipient && !is_owner,
                        Role::Member => !is_recipient && !is_owner,
                    };
                    if counts {
                        counted.insert(approval.principal().clone());
                    }
                }
                let has = |party: &str| counted.iter().any(|person| person.party == party);
                owners.iter().all(|owner| has(owner)) && has(terms.recipient) && model.allows(terms.kind, &counted)
            };
            let allowed = is_allowed(chosen);
            prop_assert_eq!(allowed, expected(chosen), "{:?} {:?}", lines, terms);
            let (yes, no) = seen.get();
            seen.set((yes + u32::from(allowed), no + u32::from(!allowed)));
            for i in 0..12 {
                let (with, without) = (chosen | 1 << i, chosen & !(1 << i));
                prop_assert!(is_allowed(with) || !is_allowed(without), "{:?} {:?} {}", lines, terms, i);
            }
            Ok(())
        })
        .unwrap();
    let (yes, no) = seen.get();
    assert!(yes > 20 && no > 20, "{yes} were allowed and {no} denied");
}
