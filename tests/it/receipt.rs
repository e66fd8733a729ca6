//! Step 6: a receipt holds for the files it names and for no others, and tells nothing about one unit.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use glovebox::{Clock, Code, Step};
use serde_json::Value;

use crate::support::data::HOUSEHOLDS;
use crate::support::forge::{EVIL, payload, proof_of, seal, sha256};
use crate::support::{CONTROLS, Fixture, Released};

fn released() -> (Fixture, Released) {
    let room = Fixture::new();
    let released = room.released(&room.agreed("evil", EVIL));
    (room, released)
}

/// The program and the library say the same.
#[track_caller]
fn is_invalid(room: &Fixture, receipt: &str) {
    fails(room, receipt, "RECEIPT_INVALID");
}

#[track_caller]
fn fails(room: &Fixture, receipt: &str, code: &str) {
    room.glovebox(&["verify", receipt, "--json"]).failed(code, 3);
}

/// The path of another file of the same run.
fn beside(receipt: &str, ending: &str) -> String {
    format!("{}.{ending}", receipt.strip_suffix(".dsse.json").unwrap())
}

/// Puts another text in a receipt's place, and a proof that a log has it, as whoever holds the runtime's key can make.
fn replace(room: &Fixture, receipt: &str, bytes: &[u8]) {
    room.write(receipt, bytes);
    let proof = proof_of(bytes, "glovebox/grocery", &room.key("runtime"));
    room.write(&beside(receipt, "tlog-proof"), proof.as_bytes());
}

#[test]
fn receipts_of_releases_and_refusals_verify() {
    let (room, released) = released();
    let verified = room.glovebox(&["verify", &released.receipt, "--json"]).succeeded();
    assert_eq!((&verified["decision"], &verified["code"]), (&"released".into(), &Value::Null));
    assert!(verified["checks"].as_array().unwrap().len() >= 8, "{verified}");

    let refused = room.refused("agreements/evil-r1", "DESTINATION_EXISTS", 6);
    let receipt = refused.json()["receipt"].as_str().unwrap().to_owned();
    let verified = room.glovebox(&["verify", &receipt, "--json"]).succeeded();
    assert_eq!((&verified["decision"], &verified["code"]), (&"refused".into(), &"DESTINATION_EXISTS".into()));
}

/// A salt that ends in the beginning of the file has the same commitment with the rest of the file alone.
#[test]
fn a_piece_of_the_result_moved_into_the_salt() {
    let (room, released) = released();
    let opening = format!("{}.opening.json", released.output);
    let salt = room.read_text(&opening).replace("\"}", "PAR1\"}");
    let output = room.read(&released.output);
    assert!(output.starts_with(b"PAR1"));
    room.write(&opening, salt.as_bytes());
    room.write(&released.output, &output[4..]);
    is_invalid(&room, &released.receipt);
}

/// The log has every byte of it. Where a log has the changed one, all but the key id is signed, which is a hint and
/// decides nothing.
#[test]
fn every_flipped_byte_of_a_receipt() {
    let (room, released) = released();
    let honest = room.read(&released.receipt);
    let proof = room.read(&beside(&released.receipt, "tlog-proof"));
    let text = String::from_utf8(honest.clone()).unwrap();
    let hint = text.find("\"keyid\"").unwrap()..text.find("\"sig\"").unwrap();
    for at in 0..honest.len() {
        let mut flipped = honest.clone();
        flipped[at] ^= 1;
        room.write(&released.receipt, &flipped);
        room.write(&beside(&released.receipt, "tlog-proof"), &proof);
        let fault = room.verify(&released.receipt).expect_err("flipped");
        assert_eq!(fault.code().as_str(), "LOG_INVALID", "byte {at}: {fault}");
        if !hint.contains(&at) {
            replace(&room, &released.receipt, &flipped);
            let fault = room.verify(&released.receipt).expect_err("flipped and logged");
            assert_eq!(fault.code().as_str(), "RECEIPT_INVALID", "byte {at}: {fault}");
        }
    }
    replace(&room, &released.receipt, &honest[..honest.len() / 2]);
    is_invalid(&room, &released.receipt);
    replace(&room, &released.receipt, &honest);
    room.glovebox(&["verify", &released.receipt, "--json"]).succeeded();
}

#[test]
fn a_changed_file_that_the_receipt_names() {
    let (room, released) = released();
    let opening = format!("{}.opening.json", released.output);
    for (file, changed, removed) in [
        (opening.as_str(), "RECEIPT_INVALID", "RECEIPT_INVALID"),
        (&beside(&released.receipt, "certificate.dsse.json"), "RECEIPT_INVALID", "RECEIPT_INVALID"),
        (&beside(&released.receipt, "tlog-proof"), "LOG_INVALID", "RECEIPT_INVALID"),
        ("agreements/evil-r1/agreement.json", "RECEIPT_INVALID", "RECEIPT_INVALID"),
        ("agreements/evil-r1/retailer.ana.dsse.json", "RECEIPT_INVALID", "RECEIPT_INVALID"),
        ("questions/evil.toml", "RECEIPT_INVALID", "RECEIPT_INVALID"),
        ("revocations/retailer/1.dsse.json", "RECEIPT_INVALID", "RECEIPT_INVALID"),
        ("revocations/brand/1.dsse.json", "RECEIPT_INVALID", "RECEIPT_INVALID"),
        ("registry/1/registry.json", "REGISTRY_INVALID", "REGISTRY_INVALID"),
        ("registry/1/brand.dan.dsse.json", "QUORUM_MISSING", "QUORUM_MISSING"),
    ] {
        println!("{file}");
        let honest = room.read(file);
        let mut flipped = honest.clone();
        let at = flipped.len() / 2;
        flipped[at] ^= 1;
        room.write(file, &flipped);
        fails(&room, &released.receipt, changed);
        fs::remove_file(room.path(file)).unwrap();
        fails(&room, &released.receipt, removed);
        room.write(file, &honest);
    }
    room.glovebox(&["verify", &released.receipt, "--json"]).succeeded();

    // An output that is not here cannot be compared; one that is here must be the one.
    let honest = room.read(&released.output);
    let mut flipped = honest.clone();
    flipped[honest.len() / 2] ^= 1;
    room.write(&released.output, &flipped);
    fails(&room, &released.receipt, "RECEIPT_INVALID");
    fs::remove_file(room.path(&released.output)).unwrap();
    let verified = room.glovebox(&["verify", &released.receipt, "--json"]).succeeded();
    assert!(verified["checks"].as_array().unwrap().iter().any(|check| check["holds"] == false), "{verified}");
}

#[test]
fn an_approval_removed_or_added() {
    let (room, released) = released();
    let approval = "agreements/evil-r1/brand.dan.dsse.json";
    let honest = room.read(approval);
    fs::remove_file(room.path(approval)).unwrap();
    is_invalid(&room, &released.receipt);
    room.write("agreements/evil-r1/renamed.dsse.json", &honest);
    room.glovebox(&["verify", &released.receipt, "--json"]).succeeded();

    // What came later does not undo what was approved by then, nor stand for it.
    room.write(approval, b"{}");
    room.new_key("retailer", "bob");
    room.approve("agreements/evil-r1", "retailer.bob");
    room.glovebox(&["verify", &released.receipt, "--json"]).succeeded();
    fs::remove_file(room.path("agreements/evil-r1/renamed.dsse.json")).unwrap();
    fs::remove_file(room.path(approval)).unwrap();
    room.approve("agreements/evil-r1", "brand.dan");
    is_invalid(&room, &released.receipt);
}

/// Receipts are signed by the run's principal, and its certificate by a registered runtime.
#[test]
fn another_runtimes_key() {
    let (room, stranger) = (Fixture::new(), Fixture::new());
    stranger.new_service("retailer", "other", "other");
    let released = room.released(&room.agreed("evil", EVIL));
    let (receipt, certificate) = (&released.receipt, beside(&released.receipt, "certificate.dsse.json"));
    let (honest, certified) = (room.read(receipt), room.read(&certificate));
    // Not even the runtime's own key, which may sign but one kind of receipt: of runs that got no principal.
    for key in [stranger.key("other"), room.key("retailer.ana"), room.key("runtime")] {
        replace(&room, receipt, seal(&payload(&honest), &key).to_string().as_bytes());
        is_invalid(&room, receipt);
        fs::remove_file(room.path(&certificate)).unwrap();
        is_invalid(&room, receipt);
        room.write(&certificate, &certified);
    }
    replace(&room, receipt, &honest);
    for key in [stranger.key("other"), room.key("retailer.ana")] {
        room.write(&certificate, seal(&payload(&certified), &key).to_string().as_bytes());
        is_invalid(&room, receipt);
    }
    room.write(&certificate, &certified);
    room.glovebox(&["verify", receipt, "--json"]).succeeded();
}

/// Whoever knows the registry's first version from the parties is not shown another room.
#[test]
fn a_receipt_under_another_root_of_trust() {
    let (room, released) = released();
    let root = sha256(&room.read("registry/1/registry.json"));
    let verify = |root: &str| room.glovebox(&["verify", &released.receipt, "--root", root, "--json"]);
    assert_eq!(verify(&root).succeeded()["registry_sha256"], root.as_str());
    verify(&sha256(b"another registry")).failed("RECEIPT_INVALID", 3);
}

/// A receipt is filed under its run: another one in its place is noticed, however valid it is by itself.
#[test]
fn a_receipt_of_another_run() {
    let (room, first) = released();
    let second = room.released(&room.agreed("evil", EVIL));
    let (one, two) = (room.read(&first.receipt), room.read(&second.receipt));
    room.write(&first.receipt, &two);
    room.write(&second.receipt, &one);
    fails(&room, &first.receipt, "LOG_INVALID");
    fails(&room, &second.receipt, "LOG_INVALID");
    // With proof and certificate of its own it is still the other run's.
    for ending in ["tlog-proof", "certificate.dsse.json"] {
        let (one, two) = (beside(&first.receipt, ending), beside(&second.receipt, ending));
        let aside = room.path("aside");
        fs::rename(room.path(&one), &aside).unwrap();
        fs::rename(room.path(&two), room.path(&one)).unwrap();
        fs::rename(&aside, room.path(&two)).unwrap();
        is_invalid(&room, &first.receipt);
        is_invalid(&room, &second.receipt);
    }
}

/// The same agreement run twice, on other files: the first run's receipt does not vouch for the second run's output.
#[test]
fn an_output_of_another_run() {
    let (room, first) = released();
    let output = room.read(&first.output);
    room.take(&first);
    room.renew_data();
    let second = room.released("agreements/evil-r1");
    is_invalid(&room, &first.receipt);
    room.write(&second.output, &output);
    is_invalid(&room, &first.receipt);
    is_invalid(&room, &second.receipt);
}

/// What the runtime's key signs and logs is not believed where it contradicts the files.
#[test]
fn a_receipt_that_contradicts_the_terms() {
    let (room, released) = released();
    room.forge_run(&released.receipt, |_, _| {});
    room.glovebox(&["verify", &released.receipt, "--json"]).succeeded();
    let honest = released.record;
    let another = || Value::from(sha256(b"another"));
    for (pointer, value) in [
        ("/predicate/decision", "refused".into()),
        ("/predicate/code", "BUDGET_EXHAUSTED".into()),
        ("/predicate/released", Value::Null),
        ("/predicate/run_id", "00".repeat(16).into()),
        ("/predicate/charges", Value::Array(Vec::new())),
        ("/predicate/charges/0/cost/epsilon_micros", 1.into()),
        ("/predicate/charges/0/cost/losses", Value::Array(Vec::new())),
        // A repeat is free: what was charged is none.
        ("/predicate/repeat_of", "00".repeat(16).into()),
        ("/predicate/approvals", Value::Array(Vec::new())),
        ("/predicate/approvals/0/sequence", 7.into()),
        ("/predicate/runtime/glovebox", "9.9.9".into()),
        ("/predicate/runtime/engine_sha256", another()),
        ("/predicate/released/threshold", 1.into()),
        ("/predicate/released/k_min", 1.into()),
        ("/predicate/released/threshold", Value::Null),
        ("/predicate/released/l0", 7.into()),
        ("/predicate/released/mechanism", "gaussian".into()),
        ("/predicate/released/unprotected", Value::Array(Vec::new())),
        ("/predicate/released/guarantee", "nothing can be learned".into()),
        ("/predicate/released/noise/0/standard_deviation", 99.0.into()),
        ("/predicate/released/component_sha256", "00".into()),
        ("/predicate/released/manifest_sha256", "00".into()),
        ("/predicate/released/output_path", "questions/evil.toml".into()),
        ("/predicate/released/output_commitment", another()),
        ("/predicate/registry", Value::Null),
        ("/predicate/registry/version", 2.into()),
        ("/predicate/registry/sha256", another()),
        ("/predicate/revocations", Value::Array(Vec::new())),
        ("/predicate/revocations/0/sha256", another()),
        ("/predicate/revocations/0/version", 2.into()),
        ("/predicate/started_at", "2020-01-01T00:00:00Z".into()),
        ("/predicate/started_at", "2999-01-01T00:00:00Z".into()),
        ("/predicate/finished_at", "2020-01-01T00:00:00Z".into()),
        ("/predicate/finished_at", "2999-01-01T00:00:00Z".into()),
        ("/subject/0/digest/sha256", "00".into()),
        ("/predicateType", "https://glovebox.dev/approval/v1".into()),
    ] {
        println!("receipt {pointer}");
        room.forge_run(&released.receipt, |record, _| {
            record.clone_from(&honest);
            *record.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        });
        is_invalid(&room, &released.receipt);
    }

    room.forge_run(&released.receipt, |record, _| record.clone_from(&honest));
    room.glovebox(&["verify", &released.receipt, "--json"]).succeeded();
    let path = beside(&released.receipt, "certificate.dsse.json");
    let certified: Value = serde_json::from_slice(&payload(&room.read(&path))).unwrap();
    for (pointer, value) in [
        ("/predicate/run_id", "00".repeat(16).into()),
        ("/predicate/runtime", "retailer/ana".into()),
        ("/predicate/registry/version", 2.into()),
        ("/predicate/registry/sha256", another()),
        ("/predicate/revocations", Value::Array(Vec::new())),
        ("/predicate/revocations/0/sha256", another()),
        ("/predicate/revocations/0/version", 2.into()),
        ("/predicate/approvals", Value::Array(Vec::new())),
        ("/predicate/approvals/1/sha256", another()),
        ("/predicate/charges", Value::Array(Vec::new())),
        ("/predicate/not_before", "2020-01-01T00:00:00Z".into()),
        ("/predicate/not_before", "2999-01-01T00:00:00Z".into()),
        ("/predicate/not_after", "2020-01-01T00:00:00Z".into()),
        ("/subject/0/digest/sha256", another()),
        ("/predicateType", "https://glovebox.dev/run/v1".into()),
    ] {
        println!("certificate {pointer}");
        room.forge_run(&released.receipt, |record, certificate| {
            record.clone_from(&honest);
            certificate.clone_from(&certified);
            *certificate.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        });
        is_invalid(&room, &released.receipt);
    }
}

/// A defect on the way is recorded like a refusal; what was charged by then stays charged. Once data was read it may be
/// due to a row: then it is told like everything else that may be.
#[test]
fn a_panic_ends_in_a_receipt() {
    for (at, is_charged) in [(Step::Provision, false), (Step::Sandbox, true), (Step::Privacy, true)] {
        let room = Fixture::audited(CONTROLS);
        let agreement = room.agreed("evil", EVIL);
        let outcome = room.run_here(&agreement, Clock::System, &|step| assert!(step != at, "a defect"));
        let code = if is_charged { Code::Withheld } else { Code::Internal };
        assert_eq!(outcome.result.unwrap_err().code(), code);
        assert_eq!((!outcome.charges.is_empty(), !room.spent().is_empty()), (is_charged, is_charged));
        let verified = room.verify(&outcome.receipt).unwrap();
        assert_eq!((verified.decision.as_str(), verified.code.as_deref()), ("refused", Some(code.as_str())));
        if is_charged {
            room.is_caused_by(&outcome.receipt, "INTERNAL");
        }
        assert!(room.outputs().is_empty());
        // The room goes on working.
        room.released(&agreement);
    }
}

/// A run that could not be recorded does not begin.
#[test]
fn a_receipt_that_cannot_be_written() {
    for place in [
        |receipts: &Path| fs::write(receipts, "a file").unwrap(),
        |receipts: &Path| symlink(std::env::temp_dir(), receipts).unwrap(),
    ] {
        let room = Fixture::new();
        let agreement = room.agreed("evil", EVIL);
        place(&room.path("receipts"));
        room.run(&agreement).failed("RECEIPT_FAILED", 7);
        assert!(room.outputs().is_empty() && room.spent().is_empty());
    }
}

/// No count, no exact time, no word of what went on inside.
#[test]
fn receipts_tell_nothing_of_units() {
    let room = Fixture::new();
    room.edit("room.toml", " WHERE value <= 60", "");
    let agreement = room.agreed("evil", EVIL);
    let released = room.released(&agreement);
    let refused = room.refused(&agreement, "DESTINATION_EXISTS", 6);
    let refused = room.record(refused.json()["receipt"].as_str().unwrap());
    for record in [&released.record, &refused] {
        for moment in ["started_at", "finished_at"] {
            assert_to_the_minute(&record["predicate"][moment]);
        }
        assert_eq!(mentions(record, HOUSEHOLDS), None);
    }
    // The log is for partners and witnesses to read: certificate, receipt and end of the first run, and the refusal.
    let logged = room.logged();
    assert_eq!(logged.len(), 4);
    assert_to_the_minute(&logged[2]["predicate"]["at"]);
    assert!(logged.iter().all(|record| mentions(record, HOUSEHOLDS).is_none()), "{logged:?}");
    let keys: Vec<&String> = released.record["predicate"].as_object().unwrap().keys().collect();
    let same: Vec<&String> = refused["predicate"].as_object().unwrap().keys().collect();
    assert_eq!(keys, same);
    // The search itself works: epsilon stands in the receipt.
    assert!(mentions(&released.record, 10_000_000).is_some());
}

#[track_caller]
fn assert_to_the_minute(moment: &Value) {
    let moment = moment.as_str().unwrap();
    assert!(moment.ends_with(":00Z") && moment.len() == "2026-01-01T00:00:00Z".len(), "{moment}");
}

/// A place where the number stands, as a number or as a word of a text.
fn mentions(json: &Value, number: i64) -> Option<String> {
    let is_word =
        |text: &String| text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == number.to_string());
    match json {
        Value::Object(fields) => fields.values().find_map(|value| mentions(value, number)),
        Value::Array(values) => values.iter().find_map(|value| mentions(value, number)),
        Value::Number(found) if found.as_f64() == Some(number as f64) => Some(found.to_string()),
        Value::String(text) if is_word(text) => Some(text.clone()),
        _ => None,
    }
}
