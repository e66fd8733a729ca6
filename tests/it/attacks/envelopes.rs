//! Attacks on envelopes: another kind of document, another spelling, more than one reading, too much of everything.
//!
//! The format by itself, case by case and byte by byte: `trust/tests/approval.rs` and `trust/tests/envelope.rs`.

use data_encoding::{BASE64, BASE64URL};
use glovebox::Export;
use serde_json::{Value, json};

use super::forge::seal_as;
use crate::support::forge::{IN_TOTO, payload, seal};
use crate::support::{Fixture, now, text};

/// What ana has signed, as it lies in the room.
fn honest(room: &Fixture, agreement: &str) -> Value {
    serde_json::from_slice(&room.read(&format!("{agreement}/retailer.ana.dsse.json"))).unwrap()
}

/// Puts in place of an approval whatever else the same key has signed, or a runtime: another type, so another thing.
#[test]
fn b01_a_signed_document_of_another_kind() {
    let (room, agreement) = Fixture::with_evil();
    // A refusal's receipt, which the runtime's own key has signed.
    let receipt = text(&room.denied("agreements/nothing-r9", "AGREEMENT_INVALID").json()["receipt"]);
    let link = {
        let folder = format!("{agreement}/foreign/retailer.ana");
        let names = std::fs::read_dir(room.path(&folder)).unwrap().map(|entry| entry.unwrap().file_name());
        let name = names.map(|name| name.into_string().unwrap()).find(|name| name.ends_with(".link")).unwrap();
        room.read(&format!("{folder}/{name}"))
    };
    for (file, code) in [
        (room.read("registry/1/retailer.ana.dsse.json"), "PREDICATE_TYPE"),
        (room.read("revocations/retailer/1.dsse.json"), "PAYLOAD_TYPE"),
        (room.read(&receipt), "KEY_SCOPE"),
        // An in-toto link is no in-toto Statement.
        (link, "MALFORMED"),
    ] {
        room.denied_with_approval(&agreement, &file, code);
    }
    // The other way round: an approval for a list of revocations.
    let list = room.read("revocations/retailer/1.dsse.json");
    let approval = room.read(&format!("{agreement}/retailer.ana.dsse.json"));
    room.write("revocations/retailer/1.dsse.json", &approval);
    room.denied(&agreement, "PAYLOAD_TYPE");
    room.write("revocations/retailer/1.dsse.json", &list);
    room.is_unharmed(&agreement);
}

/// Relabels an approval, or signs the right words under another label, or other words under the right one.
#[test]
fn b01_a_type_that_was_changed() {
    let (room, agreement) = Fixture::with_evil();
    let list = "application/vnd.glovebox.revocations+json";
    let key = room.key("retailer.ana");
    let mut relabelled = honest(&room, &agreement);
    relabelled["payloadType"] = json!(list);
    room.denied_with_approval(&agreement, relabelled.to_string().as_bytes(), "PAYLOAD_TYPE");
    let statement = room.anas(&agreement);
    let mislabelled = seal_as(list, statement.to_string().as_bytes(), &key);
    room.denied_with_approval(&agreement, mislabelled.to_string().as_bytes(), "PAYLOAD_TYPE");
    // The label is signed too: putting the right one on does not help.
    let mut corrected = mislabelled;
    corrected["payloadType"] = json!(IN_TOTO);
    room.denied_with_approval(&agreement, corrected.to_string().as_bytes(), "SIGNATURE_INVALID");
    for (field, other) in [
        ("predicateType", "https://glovebox.dev/registry/v1"),
        ("predicateType", "https://glovebox.dev/run/v1"),
        ("predicateType", "https://glovebox.dev/approval/v2"),
        ("_type", "https://in-toto.io/Statement/v0.1"),
    ] {
        let mut changed = statement.clone();
        changed[field] = json!(other);
        room.denied_with_approval(
            &agreement,
            seal(changed.to_string().as_bytes(), &key).to_string().as_bytes(),
            "PREDICATE_TYPE",
        );
    }
    room.is_unharmed(&agreement);
}

/// Writes the same bytes in another spelling of base64. Both alphabets are fine, sloppiness is not.
#[test]
fn b02_base64_with_slack() {
    let (room, agreement) = Fixture::with_evil();
    let mut statement = room.anas(&agreement).to_string();
    // One byte more than a multiple of three: there are two padding signs and four bits to spare. White space at the end
    // means nothing in JSON.
    while statement.len() % 3 != 1 {
        statement.push(' ');
    }
    let sealed = seal(statement.as_bytes(), &room.key("retailer.ana"));
    let canonical = text(&sealed["payload"]);
    assert!(canonical.ends_with("=="));
    let with = |payload: String| {
        let mut envelope = sealed.clone();
        envelope["payload"] = json!(payload);
        envelope.to_string()
    };
    let last = canonical.len() - 3;
    let mut spare = canonical.clone().into_bytes();
    assert_eq!(spare[last], b'A' + (spare[last] - b'A') / 16 * 16, "the last digit has no spare bits set");
    spare[last] += 1;
    for spelling in [
        format!("{}\n{}", &canonical[..40], &canonical[40..]),
        format!("{canonical}\n"),
        canonical.trim_end_matches('=').to_owned(),
        format!("{canonical}="),
        String::from_utf8(spare).unwrap(),
    ] {
        assert_ne!(spelling, canonical);
        room.denied_with_approval(&agreement, with(spelling).as_bytes(), "MALFORMED");
    }
    let other_alphabet = BASE64URL.encode(statement.as_bytes());
    room.write(&format!("{agreement}/retailer.ana.dsse.json"), with(other_alphabet).as_bytes());
    room.is_unharmed(&agreement);
}

/// Writes an envelope that one parser reads in one way and another in another.
#[test]
fn b03_b04_b05_an_envelope_with_two_readings() {
    let (room, agreement) = Fixture::with_evil();
    let honest = honest(&room, &agreement).to_string();
    let parsed: Value = serde_json::from_str(&honest).unwrap();
    let other = BASE64.encode(b"{}");
    let utf16: Vec<u8> = honest.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let rows: [(&str, Vec<u8>); 10] = [
        ("a second payload", honest.replacen("{", &format!("{{\"payload\":\"{other}\","), 1).into()),
        ("a second payload, escaped", honest.replacen("{", &format!("{{\"\\u0070ayload\":\"{other}\","), 1).into()),
        ("a second type", honest.replacen("{", "{\"payloadType\":\"text/plain\",", 1).into()),
        ("a second list of signatures", honest.replacen("{", "{\"signatures\":[],", 1).into()),
        ("an array", json!([parsed["payloadType"], parsed["payload"], parsed["signatures"]]).to_string().into()),
        ("a second document", format!("{honest}{honest}").into()),
        ("a byte order mark", format!("\u{feff}{honest}").into()),
        ("another encoding", utf16),
        ("a zero byte", format!("{honest}\0").into()),
        ("nothing", Vec::new()),
    ];
    for (what, bytes) in rows {
        println!("{what}");
        room.denied_with_approval(&agreement, &bytes, "MALFORMED");
    }
    room.is_unharmed(&agreement);
}

/// Sends more than any honest file has, or less. (Cut at every byte: `trust/tests/approval.rs`, b06.)
#[test]
fn b06_an_envelope_that_is_deep_long_or_cut() {
    let (room, agreement) = Fixture::with_evil();
    let honest = honest(&room, &agreement);
    let signature = honest["signatures"][0].to_string();
    let mut padded = honest.clone();
    padded["hint"] = json!("x".repeat(300 << 10));
    let with_signatures =
        |count: usize| honest.to_string().replacen(&signature, &vec![signature.as_str(); count].join(","), 1);
    let rows: [(&str, Vec<u8>, &str); 6] = [
        ("deep", [vec![b'['; 100_000], vec![b']'; 100_000]].concat(), "MALFORMED"),
        ("long", padded.to_string().into(), "TOO_LARGE"),
        ("a thousand signatures", with_signatures(1000).into(), "SIGNATURE_MISSING"),
        ("ten thousand signatures", with_signatures(3000).into(), "TOO_LARGE"),
        // Not even read to its end.
        ("two mebibytes", vec![b' '; 2 << 20], "AGREEMENT_INVALID"),
        ("half", honest.to_string()[..200].into(), "MALFORMED"),
    ];
    for (what, bytes, code) in rows {
        println!("{what}");
        room.denied_with_approval(&agreement, &bytes, code);
    }
    // So many files that nobody would read them.
    for at in 0..65 {
        room.write(&format!("{agreement}/{at}.dsse.json"), honest.to_string().as_bytes());
    }
    room.denied(&agreement, "AGREEMENT_INVALID");
    (0..65).for_each(|at| std::fs::remove_file(room.path(&format!("{agreement}/{at}.dsse.json"))).unwrap());
    room.is_unharmed(&agreement);
}

/// Moves a piece of the payload into the type, so that the signed bytes stay the same but for the lengths in them.
/// More of these: `trust/tests/envelope.rs`, b07.
#[test]
fn b07_a_type_that_reaches_into_the_payload() {
    let (room, agreement) = Fixture::with_evil();
    let statement = room.anas(&agreement).to_string();
    let key = room.key("retailer.ana");
    for payload_type in
        [format!("{IN_TOTO} {} {}", statement.len(), &statement[..10]), format!("{IN_TOTO} "), format!("{IN_TOTO}é")]
    {
        let forged = seal_as(&payload_type, statement.as_bytes(), &key);
        room.denied_with_approval(&agreement, forged.to_string().as_bytes(), "PAYLOAD_TYPE");
        let mut relabelled = forged;
        relabelled["payloadType"] = json!(IN_TOTO);
        room.denied_with_approval(&agreement, relabelled.to_string().as_bytes(), "SIGNATURE_INVALID");
    }
    room.is_unharmed(&agreement);
}

/// Signs with the right key something that cannot be read: that a signature verifies is not enough.
#[test]
fn b08_a_signed_payload_that_cannot_be_read() {
    let (room, agreement) = Fixture::with_evil();
    let statement = room.anas(&agreement).to_string();
    for payload in [
        &b""[..],
        b"approve",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        statement.replacen("\"nonce\"", "\"\\u0000\"", 1).as_bytes(),
        &statement.as_bytes()[..statement.len() - 1],
    ] {
        let sealed = seal(payload, &room.key("retailer.ana"));
        room.denied_with_approval(&agreement, sealed.to_string().as_bytes(), "MALFORMED");
    }
    room.is_unharmed(&agreement);
}

/// Puts the approval in the form that it was exported in, a bundle with an envelope inside, and one whose other signature
/// is of something else. The gate knows one form.
#[test]
fn b09_an_envelope_inside_a_bundle() {
    let (room, agreement) = Fixture::with_evil();
    let folder = tempfile::tempdir().unwrap();
    let key = glovebox::load_key(&room.path("keys/runtime.pem")).unwrap();
    let to = folder.path().join("export");
    let export = Export { agreement: &agreement, to: &to, layout_key: &key };
    glovebox::export(&room.dir(), &export, now()).unwrap();
    let mut files = Vec::new();
    collect(&to, &mut files);
    let parse = |path: &std::path::PathBuf| {
        let json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).ok()?;
        json.get("dsseEnvelope").is_some().then_some(json)
    };
    let bundle = files.iter().find_map(parse).expect("an exported bundle");
    room.denied_with_approval(&agreement, bundle.to_string().as_bytes(), "MALFORMED");
    let mut mismatching = bundle;
    mismatching["messageSignature"] = json!({"signature": BASE64.encode(&[7; 64])});
    room.denied_with_approval(&agreement, mismatching.to_string().as_bytes(), "MALFORMED");
    // Around a good envelope, such fields are what DSSE calls unknown: they mean nothing.
    let mut inside = honest(&room, &agreement);
    inside["messageSignature"] = mismatching["messageSignature"].clone();
    room.put_approval(&agreement, "retailer.ana", &inside);
    room.is_unharmed(&agreement);
}

fn collect(folder: &std::path::Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), files);
        } else {
            files.push(entry.path());
        }
    }
}

/// Adds fields: around the payload they mean nothing, as DSSE demands; inside, one might be a restriction that this
/// program does not know.
#[test]
fn b10_unknown_fields_outside_and_inside() {
    let (room, agreement) = Fixture::with_evil();
    let key = room.key("retailer.ana");
    for pointer in ["", "/predicate", "/subject/0", "/subject/0/digest"] {
        let mut statement = room.anas(&agreement);
        statement.pointer_mut(pointer).unwrap()["runs_max"] = json!(1);
        let sealed = seal(statement.to_string().as_bytes(), &key);
        room.denied_with_approval(&agreement, sealed.to_string().as_bytes(), "MALFORMED");
    }
    let mut envelope = honest(&room, &agreement);
    (envelope["note"], envelope["signatures"][0]["note"]) = (json!({"a": [1]}), json!(1));
    room.put_approval(&agreement, "retailer.ana", &envelope);
    assert_eq!(
        payload(&room.read(&format!("{agreement}/retailer.ana.dsse.json"))),
        payload(envelope.to_string().as_bytes())
    );
    room.is_unharmed(&agreement);
}
