//! Attacks on a run's own principal: one that acts too long, another's certificate, one that somebody else made.
//!
//! Which views and files a principal opens is tested in `runtime/src/principal.rs`.

use std::fs;

use chrono::TimeDelta;
use ed25519_dalek::SigningKey;
use glovebox::{Clock, Step};
use serde_json::{Value, json};

use super::forge::Asked;
use crate::support::forge::{EVIL, payload, seal, sha256};
use crate::support::{CONTROLS, Fixture, Released, now};

fn certificate_of(receipt: &str) -> String {
    receipt.replace(".dsse.json", ".certificate.dsse.json")
}

#[track_caller]
fn is_invalid(room: &Fixture, receipt: &str) {
    room.glovebox(&["verify", receipt, "--json"]).failed("RECEIPT_INVALID", 3);
}

/// Two runs of one agreement, and one of another. No two are on the same files: each is asked and charged.
fn three_runs() -> (Fixture, [Released; 3]) {
    let (room, agreement) = Fixture::with_evil();
    let first = room.released(&agreement);
    room.take_output(&first.output);
    room.renew_data();
    let second = room.released(&agreement);
    room.renew_data();
    let third = room.released(&room.agreed("evil", &[EVIL, &["--beside"]].concat()));
    (room, [first, second, third])
}

/// Goes on after the principal's minutes are over. It is paid for, and nothing comes out.
#[test]
fn a_principal_that_acts_too_long() {
    let room = Fixture::audited(CONTROLS);
    let agreement = room.agreed("evil", EVIL);
    let other = room.agreed("reach", &["--destination", "sheets"]);
    let outcome = room.ask(&agreement, &Asked { minutes: 5, ..Asked::default() }, &|step| {
        // Time goes on: another run is logged ten minutes later.
        if step == Step::Privacy {
            let later = Clock::Fixed(now() + TimeDelta::minutes(10));
            assert!(room.ask(&other, &Asked { clock: later, ..Asked::default() }, &|_| {}).result.is_ok());
            fs::remove_dir_all(room.path("out")).unwrap();
        }
    });
    // How long a run takes may depend on rows: it is told like everything that does.
    assert_eq!(outcome.result.expect_err("stopped").code().as_str(), "WITHHELD");
    room.is_caused_by(&outcome.receipt, "PRINCIPAL_EXPIRED");
    assert_eq!(outcome.charges.len(), 1);
    assert!(room.outputs().is_empty());
    let verified = glovebox::verify(&room.dir(), &outcome.receipt, None, now()).unwrap();
    assert_eq!(verified.code.as_deref(), Some("WITHHELD"));
    room.is_unharmed(&agreement);
}

/// A principal lives as long as its run: its end is logged, whatever became of the run.
#[test]
fn a_principal_that_outlives_its_run() {
    let room = Fixture::audited(CONTROLS);
    let agreement = room.agreed("evil", EVIL);
    let open_runs = || room.glovebox(&["log", "verify", "--json"]).succeeded()["open_runs"].clone();
    let outcome = room.ask(&agreement, &Asked::default(), &|step| {
        if step == Step::Sandbox {
            assert_eq!(open_runs(), 1);
            panic!("a defect, on purpose");
        }
    });
    assert_eq!(outcome.result.expect_err("failed").code().as_str(), "WITHHELD");
    room.is_caused_by(&outcome.receipt, "INTERNAL");
    assert_eq!(open_runs(), 0);
    room.is_unharmed(&agreement);
    assert_eq!(open_runs(), 0);
}

/// Puts the certificate of another run, or of another agreement's, in the place of a receipt's own.
#[test]
fn a_certificate_of_another_run() {
    let (room, runs) = three_runs();
    let [_, second, third] = &runs;
    let own = room.read(&certificate_of(&second.receipt));
    for other in [&runs[0], third] {
        room.write(&certificate_of(&second.receipt), &room.read(&certificate_of(&other.receipt)));
        is_invalid(&room, &second.receipt);
    }
    fs::remove_file(room.path(&certificate_of(&second.receipt))).unwrap();
    is_invalid(&room, &second.receipt);
    room.write(&certificate_of(&second.receipt), &own);
    room.glovebox(&["verify", &second.receipt, "--json"]).succeeded();
}

/// Changes a certificate, and signs it again with the runtime's own key: the receipt names another.
#[test]
fn a_certificate_that_was_changed_afterwards() {
    let (room, [_, released, third]) = three_runs();
    let path = certificate_of(&released.receipt);
    let own = room.read(&path);
    let other_agreement = room.record(&third.receipt)["subject"][0]["digest"]["sha256"].clone();
    for (pointer, value) in [
        ("/predicate/not_after", json!("2099-01-01T00:00:00Z")),
        ("/predicate/not_after", json!("2020-01-01T00:00:00Z")),
        ("/predicate/views", json!([{"view": "campaigns", "owner": "brand"}])),
        ("/predicate/approvals", json!([])),
        ("/predicate/charges", json!([])),
        ("/predicate/nonce", json!("00".repeat(16))),
        ("/subject/0/digest/sha256", other_agreement),
    ] {
        let mut certificate: Value = serde_json::from_slice(&payload(&own)).unwrap();
        *certificate.pointer_mut(pointer).unwrap() = value;
        room.write(&path, seal(certificate.to_string().as_bytes(), &room.key("runtime")).to_string().as_bytes());
        println!("{pointer}");
        is_invalid(&room, &released.receipt);
    }
    room.write(&path, &own);
    room.glovebox(&["verify", &released.receipt, "--json"]).succeeded();
}

/// The operator, who has the runtime's key, makes a principal and all of a run's papers: certificate and receipt agree
/// with each other, with the terms, and with an output. But the log has neither.
#[test]
fn a_principal_that_the_operator_made_up() {
    let (room, [_, released, _]) = three_runs();
    let (runtime, own) = (room.key("runtime"), SigningKey::from_bytes(&[8; 32]));
    let run_id = "ab".repeat(16);
    let forged = format!("receipts/{run_id}.dsse.json");
    let mut certificate: Value =
        serde_json::from_slice(&payload(&room.read(&certificate_of(&released.receipt)))).unwrap();
    certificate["predicate"]["run_id"] = json!(run_id);
    certificate["predicate"]["principal"] = json!(data_encoding::HEXLOWER.encode(own.verifying_key().as_bytes()));
    let certificate = seal(certificate.to_string().as_bytes(), &runtime).to_string();
    let mut receipt = released.record.clone();
    receipt["predicate"]["run_id"] = json!(run_id);
    receipt["predicate"]["certificate_sha256"] = json!(sha256(certificate.as_bytes()));
    room.write(&certificate_of(&forged), certificate.as_bytes());
    let put = |key: &SigningKey| {
        room.write(&forged, seal(receipt.to_string().as_bytes(), key).to_string().as_bytes());
    };
    put(&own);
    let ran = room.glovebox(&["verify", &forged, "--json"]);
    ran.failed("RECEIPT_INVALID", 3);
    assert!(ran.stderr.contains("no proof that it is in the log"), "{}", ran.stderr);
    room.glovebox(&["log", "prove", &forged, "--json"]).failed("LOG_INVALID", 3);
    let proof = |receipt: &str| receipt.replace(".dsse.json", ".tlog-proof");
    room.write(&proof(&forged), &room.read(&proof(&released.receipt)));
    room.glovebox(&["verify", &forged, "--json"]).failed("LOG_INVALID", 3);
    fs::remove_file(room.path(&proof(&forged))).unwrap();
    // A principal that no runtime certified.
    let certificate = String::from_utf8(payload(certificate.as_bytes())).unwrap();
    room.write(&certificate_of(&forged), seal(certificate.as_bytes(), &room.key("brand.dan")).to_string().as_bytes());
    is_invalid(&room, &forged);
    // And the runtime in its principal's place.
    room.write(&certificate_of(&forged), seal(certificate.as_bytes(), &runtime).to_string().as_bytes());
    put(&runtime);
    is_invalid(&room, &forged);
}

/// Runs on another runtime than was agreed, although the room knows it.
#[test]
fn a_runtime_that_was_not_agreed_on() {
    let (room, agreement) = Fixture::with_evil();
    room.new_service("brand", "host", "brands");
    let key = room.path("keys/brands.pem");
    let outputs = room.outputs();
    let ran = room.glovebox(&["run", &agreement, "--json", "--threads", "1", "--key", key.to_str().unwrap()]);
    room.is_refused(&ran, "RUNNER_UNKNOWN", 3);
    assert_eq!((ran.json()["charges"].clone(), room.outputs()), (json!([]), outputs));
    // One that the room does not know cannot even sign a receipt.
    let stranger = Fixture::new();
    let key = stranger.path("keys/runtime.pem");
    let ran = room.glovebox(&["run", &agreement, "--json", "--key", key.to_str().unwrap()]);
    ran.failed("KEY_UNKNOWN", 2);
    assert!(ran.json().get("receipt").is_none_or(Value::is_null), "{ran:?}");
    room.is_unharmed(&agreement);
}
