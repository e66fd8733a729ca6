//! Step 6: a receipt holds for the files it names and for no others, and tells nothing about one unit.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use glovebox::{Clock, Code, KeyHolder, Request, Step, load_key, run};
use serde_json::Value;

use crate::support::data::HOUSEHOLDS;
use crate::support::forge::{EVIL, seal};
use crate::support::{Fixture, Released};

fn released() -> (Fixture, Released) {
    let room = Fixture::new();
    let released = room.released(&room.agreed("evil", EVIL));
    (room, released)
}

/// The program and the library say the same.
#[track_caller]
fn is_invalid(room: &Fixture, receipt: &str) {
    room.glovebox(&["verify", receipt, "--json"]).failed("RECEIPT_INVALID", 3);
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

/// All but the key id, which is a hint and decides nothing.
#[test]
fn every_flipped_byte_of_a_receipt() {
    let (room, released) = released();
    let honest = room.read(&released.receipt);
    let text = String::from_utf8(honest.clone()).unwrap();
    let hint = text.find("\"keyid\"").unwrap()..text.find("\"sig\"").unwrap();
    for at in (0..honest.len()).filter(|at| !hint.contains(at)) {
        let mut flipped = honest.clone();
        flipped[at] ^= 1;
        room.write(&released.receipt, &flipped);
        let fault = glovebox::verify(&room.dir(), &released.receipt).expect_err("flipped");
        assert_eq!(fault.code().as_str(), "RECEIPT_INVALID", "byte {at}: {fault}");
    }
    room.write(&released.receipt, &honest[..honest.len() / 2]);
    is_invalid(&room, &released.receipt);
}

#[test]
fn a_changed_file_that_the_receipt_names() {
    let (room, released) = released();
    let opening = format!("{}.opening.json", released.output);
    for file in [
        released.output.as_str(),
        &opening,
        "agreements/evil-r1/agreement.json",
        "agreements/evil-r1/retailer.ana.dsse.json",
        "questions/evil.toml",
    ] {
        let honest = room.read(file);
        let mut flipped = honest.clone();
        let at = flipped.len() / 2;
        flipped[at] ^= 1;
        room.write(file, &flipped);
        is_invalid(&room, &released.receipt);
        fs::remove_file(room.path(file)).unwrap();
        is_invalid(&room, &released.receipt);
        room.write(file, &honest);
    }
    room.glovebox(&["verify", &released.receipt, "--json"]).succeeded();
}

#[test]
fn an_approval_removed_or_added() {
    let (room, released) = released();
    let approval = "agreements/evil-r1/brand.dan.dsse.json";
    let honest = room.read(approval);
    fs::remove_file(room.path(approval)).unwrap();
    is_invalid(&room, &released.receipt);
    room.write(approval, &honest);
    room.write("agreements/evil-r1/again.dsse.json", &honest);
    is_invalid(&room, &released.receipt);
}

/// A room has two runtimes; a third signs as well.
#[test]
fn another_runtimes_key() {
    let (room, stranger) = (Fixture::new(), Fixture::new());
    stranger.make_key(&KeyHolder::Runtime { id: "other".into() }, "other");
    let released = room.released(&room.agreed("evil", EVIL));
    let payload = crate::support::forge::payload(&room.read(&released.receipt));
    for key in [stranger.key("other"), room.key("retailer.ana")] {
        room.write(&released.receipt, seal(&payload, &key).to_string().as_bytes());
        is_invalid(&room, &released.receipt);
    }
    room.write(&released.receipt, seal(&payload, &room.key("runtime")).to_string().as_bytes());
    room.glovebox(&["verify", &released.receipt, "--json"]).succeeded();
}

/// A receipt is filed under its run: another one in its place is noticed, however valid it is by itself.
#[test]
fn a_receipt_of_another_run() {
    let (room, first) = released();
    let second = room.released(&room.agreed("evil", EVIL));
    let (one, two) = (room.read(&first.receipt), room.read(&second.receipt));
    room.write(&first.receipt, &two);
    room.write(&second.receipt, &one);
    is_invalid(&room, &first.receipt);
    is_invalid(&room, &second.receipt);
}

/// The same agreement run twice: the first run's receipt does not vouch for the second run's output.
#[test]
fn an_output_of_another_run() {
    let (room, first) = released();
    let output = room.read(&first.output);
    fs::remove_file(room.path(&first.output)).unwrap();
    let second = room.released("agreements/evil-r1");
    is_invalid(&room, &first.receipt);
    room.write(&second.output, &output);
    is_invalid(&room, &first.receipt);
    is_invalid(&room, &second.receipt);
}

/// What the runtime's key signs is not believed where it contradicts the files.
#[test]
fn a_receipt_that_contradicts_the_terms() {
    let (room, released) = released();
    let key = room.key("runtime");
    for (pointer, value) in [
        ("/predicate/decision", "refused".into()),
        ("/predicate/code", "BUDGET_EXHAUSTED".into()),
        ("/predicate/released", Value::Null),
        ("/predicate/charges", Value::Array(Vec::new())),
        ("/predicate/charges/0/cost/epsilon_micros", 1.into()),
        ("/predicate/approvals", Value::Array(Vec::new())),
        ("/predicate/runtime/glovebox", "9.9.9".into()),
        ("/predicate/released/threshold", 1.into()),
        ("/predicate/released/group_size_min", 1.into()),
        ("/predicate/released/guarantee", "nothing can be learned".into()),
        ("/predicate/released/noise/0/standard_deviation", 99.0.into()),
        ("/predicate/released/component_sha256", "00".into()),
        ("/predicate/released/output_path", "questions/evil.toml".into()),
        ("/predicate/started_at", "2020-01-01T00:00:00Z".into()),
        ("/predicate/started_at", "2999-01-01T00:00:00Z".into()),
        ("/subject/0/digest/sha256", "00".into()),
        ("/predicateType", "https://glovebox.dev/approval/v1".into()),
    ] {
        let mut record = released.record.clone();
        *record.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        room.write(&released.receipt, seal(record.to_string().as_bytes(), &key).to_string().as_bytes());
        println!("{pointer}");
        is_invalid(&room, &released.receipt);
    }
}

/// A defect on the way is recorded like a refusal; what was charged by then stays charged.
#[test]
fn a_panic_ends_in_a_receipt() {
    for (at, is_charged) in [(Step::Provision, false), (Step::Privacy, true)] {
        let room = Fixture::new();
        let agreement = room.agreed("evil", EVIL);
        let request = Request {
            room: room.root(),
            agreement: &agreement,
            key: &load_key(&room.path("keys/runtime.pem")).unwrap(),
            threads: 1,
            sort_memory_bytes: 64 << 20,
            clock: Clock::System,
        };
        let outcome = run(&request, &|step| assert!(step != at, "a defect")).unwrap();
        assert_eq!(outcome.result.unwrap_err().code(), Code::Internal);
        assert_eq!((!outcome.charges.is_empty(), !room.spent().is_empty()), (is_charged, is_charged));
        let verified = glovebox::verify(&room.dir(), &outcome.receipt).unwrap();
        assert_eq!((verified.decision.as_str(), verified.code.as_deref()), ("refused", Some("INTERNAL")));
        assert!(room.outputs().is_empty());
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
            let moment = record["predicate"][moment].as_str().unwrap();
            assert!(moment.ends_with(":00Z") && moment.len() == "2026-01-01T00:00:00Z".len(), "{moment}");
        }
        assert_eq!(mentions(record, HOUSEHOLDS), None);
    }
    let keys: Vec<&String> = released.record["predicate"].as_object().unwrap().keys().collect();
    let same: Vec<&String> = refused["predicate"].as_object().unwrap().keys().collect();
    assert_eq!(keys, same);
    // The search itself works: epsilon stands in the receipt.
    assert!(mentions(&released.record, 10_000_000).is_some());
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
