//! Approvals: what verifies says to another reader what it says to us, and counts for nothing and nobody else.

use std::sync::LazyLock;

use glovebox_trust::approval::{APPROVAL_TYPE, Draft, Role, seal, verify};
use glovebox_trust::envelope::{self, IN_TOTO, Statement, Subject};
use glovebox_trust::registry::Registry;
use glovebox_trust::time_from_text;
use serde_json::Value;

use super::{Seed, accepted, parties};

const AGREEMENT: &str = "7d865e959b2466918c9863afca942d0fb89d7c9ac0c99bafc3749504ded97730";
const OTHER: &str = "8d865e959b2466918c9863afca942d0fb89d7c9ac0c99bafc3749504ded97730";
/// The number of the only approval that a seed has signed.
const SEQUENCE: u64 = 7;

static HERE: LazyLock<Registry> = LazyLock::new(|| Registry::parse(&parties::registry("demo").to_bytes()).unwrap());
static ELSEWHERE: LazyLock<Registry> = LazyLock::new(|| Registry::parse(&parties::registry("x").to_bytes()).unwrap());

/// Reads the data as an envelope that someone made up, and as a statement that ana and others sign.
pub fn check(data: &[u8]) {
    let [(ana, ana_key), (_, ben_key), (_, dan_key)] = parties::people();
    let today = time_from_text(parties::TODAY).unwrap();
    if let Some(approval) = accepted(verify(data, &HERE, AGREEMENT, today, false)) {
        assert_eq!((approval.principal(), approval.sequence()), (&ana, SEQUENCE), "nobody signed this approval");
    }

    let sealed = envelope::seal(IN_TOTO, data, &ana_key).unwrap();
    let Some(approval) = accepted(verify(&sealed, &HERE, AGREEMENT, today, false)) else { return };
    assert_eq!(approval.principal(), &ana);
    assert_eq!(approval.agreement_id(), AGREEMENT);
    let statement: Value = serde_json::from_slice(data).unwrap();
    for (path, text) in [
        ("/_type", "https://in-toto.io/Statement/v1"),
        ("/predicateType", APPROVAL_TYPE),
        ("/subject/0/digest/sha256", AGREEMENT),
        ("/predicate/agreement_id", AGREEMENT),
        ("/predicate/room", "demo"),
        ("/predicate/party", "retailer"),
        ("/predicate/person", "ana"),
        ("/predicate/role", approval.role().as_str()),
        ("/predicate/decision", "approve"),
    ] {
        assert_eq!(statement.pointer(path), Some(&Value::from(text)), "another reader finds another {path}");
    }
    assert_eq!(statement["subject"].as_array().unwrap().len(), 1);
    assert_eq!(statement.pointer("/predicate/sequence").and_then(Value::as_u64), Some(approval.sequence()));

    let later = approval.not_after() + std::time::Duration::from_secs(1);
    assert!(accepted(verify(&sealed, &HERE, OTHER, today, false)).is_none(), "for another agreement");
    assert!(accepted(verify(&sealed, &ELSEWHERE, AGREEMENT, today, false)).is_none(), "in another room");
    assert!(accepted(verify(&sealed, &HERE, AGREEMENT, later, true)).is_none(), "after its end");
    for key in [ben_key, dan_key] {
        let sealed = envelope::seal(IN_TOTO, data, &key).unwrap();
        assert!(accepted(verify(&sealed, &HERE, AGREEMENT, today, false)).is_none(), "signed by another");
    }
    let other = envelope::seal("application/vnd.other+json", data, &ana_key).unwrap();
    assert!(accepted(verify(&other, &HERE, AGREEMENT, today, false)).is_none(), "as another kind of document");
}

/// Where the fuzzer begins.
pub fn seeds() -> Vec<Seed> {
    let [(ana, key), ..] = parties::people();
    let draft = Draft {
        room: "demo",
        principal: &ana,
        role: Role::DataOwner,
        agreement_id: AGREEMENT,
        sequence: SEQUENCE,
        registry_version: 1,
        approved_at: time_from_text("2026-05-31T12:00:00Z").unwrap(),
        not_after: time_from_text("2026-06-30T12:00:00Z").unwrap(),
        nonce: [9; 16],
    };
    let sealed = seal(&draft, &key).unwrap();
    let payload = accepted(HERE.open(
        &sealed,
        IN_TOTO,
        glovebox_trust::registry::Scope::Approve,
        time_from_text(parties::TODAY).unwrap(),
        false,
    ));
    let payload = payload.unwrap().payload;
    let text = String::from_utf8(payload.clone()).unwrap();
    let other: Statement<Value> = Statement::new(Subject::new("run", AGREEMENT), "https://x/v1", Value::from(1));
    vec![
        ("envelope", sealed),
        ("payload", payload),
        ("reject", text.replace("\"approve\"", "\"reject\"").into_bytes()),
        ("control", text.replace("\"approve\"", "\"\\u001b[2J\\n\"").into_bytes()),
        ("other-room", text.replace("\"demo\"", "\"x\"").into_bytes()),
        ("array", text.replace("{\"sha256\":", "[").replacen('}', "]", 1).into_bytes()),
        ("other-type", other.to_bytes()),
    ]
}
