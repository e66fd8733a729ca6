//! Step 1: whatever is not exactly what every affected party approved is refused, before it costs anything.

use std::fs;
use std::os::unix::fs::symlink;

use chrono::{DateTime, TimeDelta, Utc};
use data_encoding::BASE64;
use glovebox::{Clock, Fault, Request};
use serde_json::{Value, json};

use crate::support::Fixture;
use crate::support::data::{ints, texts, write_parquet};
use crate::support::forge::{EVIL, payload, seal, sha256, statement};

const REACH: &[&str] = &["--destination", "reports"];

#[test]
fn no_approval() {
    let room = Fixture::new();
    let agreement = room.agree("evil", EVIL);
    room.refused(&agreement, "NOT_APPROVED", 3);
}

#[test]
fn one_owner_missing() {
    let room = Fixture::new();
    let agreement = room.agree("reach", REACH);
    room.approve(&agreement, "brand.dan");
    let ran = room.refused(&agreement, "OWNER_MISSING", 3);
    assert!(ran.stderr.contains("not approved by: retailer\n"), "{}", ran.stderr);
}

/// The brand owns no view of this run; it only receives.
#[test]
fn recipient_missing() {
    let room = Fixture::new();
    let agreement = room.agree("evil", EVIL);
    room.approve(&agreement, "retailer.ana");
    let ran = room.refused(&agreement, "OWNER_MISSING", 3);
    assert!(ran.stderr.contains("not approved by: brand\n"), "{}", ran.stderr);
}

#[test]
fn a_party_that_approves_twice_does_not_stand_for_the_other() {
    let room = Fixture::new();
    room.new_key("retailer", "bob");
    let agreement = room.agree("evil", EVIL);
    room.approve(&agreement, "retailer.ana");
    room.approve(&agreement, "retailer.bob");
    room.refused(&agreement, "OWNER_MISSING", 3);
    // Nor does the same envelope under two names.
    fs::copy(room.path(&format!("{agreement}/retailer.ana.dsse.json")), room.path(&format!("{agreement}/b.dsse.json")))
        .unwrap();
    room.refused(&agreement, "OWNER_MISSING", 3);
}

#[test]
fn an_envelope_renamed_to_the_other_partys_does_not_stand_for_it() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let [ana, dan] = ["retailer.ana", "brand.dan"].map(|who| room.path(&format!("{agreement}/{who}.dsse.json")));
    fs::rename(dan, ana).unwrap();
    let ran = room.refused(&agreement, "OWNER_MISSING", 3);
    assert!(ran.stderr.contains("not approved by: retailer\n"), "{}", ran.stderr);
}

#[test]
fn a_signature_by_an_unregistered_key() {
    let (room, stranger) = (Fixture::new(), Fixture::new());
    let agreement = room.agreed("evil", EVIL);
    let statement = statement(&room.id_of(&agreement), "retailer", "ana").to_string();
    let key = stranger.key("retailer.ana");
    room.put_approval(&agreement, "retailer.ana", &seal(statement.as_bytes(), &key));
    room.refused(&agreement, "SIGNATURE_INVALID", 3);

    let key = stranger.path("keys/retailer.ana.pem");
    let ran = room.glovebox(&["approve", &agreement, "--key", key.to_str().unwrap(), "--json"]);
    ran.failed("SIGNATURE_INVALID", 3);
}

#[test]
fn a_signature_by_a_runtime_key() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    room.glovebox(&["approve", &agreement, "--key", "keys/runtime.pem", "--json"]).failed("SIGNATURE_INVALID", 3);
    let statement = statement(&room.id_of(&agreement), "retailer", "ana").to_string();
    room.put_approval(&agreement, "retailer.ana", &seal(statement.as_bytes(), &room.key("runtime")));
    room.refused(&agreement, "SIGNATURE_INVALID", 3);
}

#[test]
fn a_signature_of_one_party_under_the_name_of_another() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let statement = statement(&room.id_of(&agreement), "retailer", "ana").to_string();
    room.put_approval(&agreement, "retailer.ana", &seal(statement.as_bytes(), &room.key("brand.dan")));
    room.refused(&agreement, "APPROVAL_INVALID", 3);
}

#[test]
fn a_key_that_was_replaced_in_the_registry() {
    let (room, other) = (Fixture::new(), Fixture::new());
    let agreement = room.agreed("evil", EVIL);
    let hex =
        |fixture: &Fixture| data_encoding::HEXLOWER.encode(fixture.key("retailer.ana").verifying_key().as_bytes());
    room.edit("registry.json", &hex(&room), &hex(&other));
    room.refused(&agreement, "SIGNATURE_INVALID", 3);
}

#[test]
fn an_approval_of_another_agreement() {
    let room = Fixture::new();
    let first = room.agreed("evil", EVIL);
    let second = room.agree("evil", EVIL);
    for who in ["retailer.ana", "brand.dan"] {
        let name = format!("{who}.dsse.json");
        fs::copy(room.path(&format!("{first}/{name}")), room.path(&format!("{second}/{name}"))).unwrap();
    }
    room.refused(&second, "APPROVAL_INVALID", 3);
}

#[test]
fn an_approval_for_another_room() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let mut statement = statement(&room.id_of(&agreement), "retailer", "ana");
    statement["predicate"]["room"] = json!("bakery");
    room.put_approval(&agreement, "retailer.ana", &seal(statement.to_string().as_bytes(), &room.key("retailer.ana")));
    room.refused(&agreement, "APPROVAL_INVALID", 3);
}

#[test]
fn an_agreement_for_another_room() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    room.forge(&agreement, |terms| terms["room"] = json!("bakery"));
    room.refused(&agreement, "AGREEMENT_INVALID", 3);
    room.glovebox(&["approve", &agreement, "--key", "keys/brand.dan.pem", "--json"]).failed("APPROVAL_INVALID", 3);
}

#[test]
fn a_changed_component() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let honest = room.component("evil");
    let mut flipped = honest.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for bytes in [flipped, room.component("nothing"), [honest.as_slice(), &[0]].concat(), Vec::new()] {
        room.write("questions/evil.wasm", &bytes);
        room.refused(&agreement, "COMPONENT_CHANGED", 3);
    }
}

#[test]
fn a_changed_manifest() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    room.edit("questions/evil.toml", "range = [0.0, 10.0]", "range = [0.0, 11.0]");
    room.refused(&agreement, "MANIFEST_CHANGED", 3);
}

#[test]
fn a_changed_view_definition() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let terms = room.read("room.toml");
    for (from, to) in [
        ("WHERE value <= 60", "WHERE value <= 61"),
        (
            "{ households = \"data/retailer/households.parquet\" }",
            "{ households = \"data/retailer/purchases.parquet\" }",
        ),
        ("unit = \"household_id\"", "unit = \"value\""),
        ("id = \"rows\"", "id = \"lines\""),
    ] {
        room.edit("room.toml", from, to);
        room.refused(&agreement, "VIEW_CHANGED", 3);
        room.write("room.toml", &terms);
    }
    // Whose a view is follows from where its files are.
    room.edit("room.toml", "owner = \"retailer\"", "owner = \"brand\"");
    room.refused(&agreement, "ROOM_INVALID", 2);
}

/// The definition is the one that was agreed; what lies behind it is not.
#[test]
fn a_changed_view_schema() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let path = room.path("data/retailer/households.parquet");
    write_parquet(&path, &[("household_id", ints(vec![1, 2])), ("value", ints(vec![1, 2]))]);
    room.refused(&agreement, "VIEW_CHANGED", 3);
    let names = texts([Some("1"), Some("2")].into_iter());
    write_parquet(&path, &[("household_id", names), ("value", crate::support::data::floats([1.0, 2.0].into_iter()))]);
    room.refused(&agreement, "VIEW_CHANGED", 3);
}

/// Whether it becomes looser or stricter: the parties have signed numbers.
#[test]
fn a_changed_control() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let terms = room.read("room.toml");
    for (from, to) in [
        ("group_size_min = 20", "group_size_min = 2000"),
        ("epsilon = 10.0", "epsilon = 9.0"),
        ("lifetime_epsilon = 100.0", "lifetime_epsilon = 99.0"),
        ("list_size_min = 20", "list_size_min = 21"),
    ] {
        room.edit("room.toml", from, to);
        room.refused(&agreement, "CONTROL_CHANGED", 3);
        room.write("room.toml", &terms);
    }
    let loosened = room.read_text("room.toml").replace("group_size_min = 20", "group_size_min = 2");
    room.write("room.toml", loosened.as_bytes());
    room.refused(&agreement, "CONTROL_CHANGED", 3);
}

#[test]
fn a_changed_destination() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let terms = room.read("room.toml");
    for (from, to) in [
        ("folder = \"out/reports\"", "folder = \"out/elsewhere\""),
        ("format = \"parquet\"", "format = \"csv\""),
        ("recipient = \"brand\"", "recipient = \"agency\""),
        ("id = \"reports\"", "id = \"renamed\""),
    ] {
        room.edit("room.toml", from, to);
        room.refused(&agreement, "DESTINATION_CHANGED", 3);
        room.write("room.toml", &terms);
    }
}

#[test]
fn a_changed_registry() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    room.new_key("agency", "eve");
    room.refused(&agreement, "REGISTRY_CHANGED", 3);
}

#[test]
fn another_runtime() {
    let room = Fixture::new();
    for field in ["glovebox", "wasmtime", "contract_sha256"] {
        let agreement = room.agreed("evil", EVIL);
        room.forge(&agreement, |terms| terms["runtime"][field] = json!("another"));
        room.refused(&agreement, "RUNTIME_CHANGED", 3);
    }
}

/// The receipt, and why the run was refused.
fn run_at(room: &Fixture, agreement: &str, now: DateTime<Utc>) -> (String, Option<Fault>) {
    let key = glovebox::load_key(&room.path("keys/runtime.pem")).unwrap();
    let request = Request {
        room: room.root(),
        agreement,
        key: &key,
        threads: 1,
        sort_memory_bytes: 64 << 20,
        clock: Clock::Fixed(now),
    };
    let outcome = glovebox::run(&request, &|_| {}).unwrap();
    (outcome.receipt, outcome.result.err())
}

#[test]
fn outside_the_window() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let terms: Value = serde_json::from_slice(&room.read(&format!("{agreement}/agreement.json"))).unwrap();
    let moment = |field: &str| terms[field].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    let second = TimeDelta::seconds(1);
    for (now, is_inside) in [
        (moment("not_before") - second, false),
        (moment("not_after"), false),
        (moment("not_after") + TimeDelta::days(1000), false),
        (moment("not_after") - second, true),
    ] {
        let (receipt, refusal) = run_at(&room, &agreement, now);
        assert!(glovebox::verify(&room.dir(), &receipt).is_ok(), "{now}");
        match refusal {
            None => assert!(is_inside, "released at {now}"),
            Some(fault) => {
                assert!(!is_inside, "{now}: {fault}");
                assert_eq!(fault.to_string().lines().count(), 2);
                assert!(fault.to_string().starts_with("AGREEMENT_EXPIRED: "), "{fault}");
                assert!(room.outputs().is_empty() && room.spent().is_empty());
            }
        }
    }
}

/// Both parties signed these bytes, so nothing but the parser stands between them and a run.
#[test]
fn an_agreement_that_has_more_than_one_reading() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let honest = room.read_text(&format!("{agreement}/agreement.json"));
    let terms: Value = serde_json::from_str(&honest).unwrap();
    let listed = |object: &Value| Value::Array(object.as_object().unwrap().values().cloned().collect());
    // The order of fields matters in an array: take it from the text, not from the sorted map.
    let controls = controls_as_array(&honest);
    let rows = [
        ("duplicate key", honest.replacen("\"version\": 1", "\"version\": 1, \"version\": 1", 1)),
        (
            "duplicate nested key",
            honest.replacen("\"group_size_min\": 20", "\"group_size_min\": 2, \"group_size_min\": 20", 1),
        ),
        ("unknown field", honest.replacen("\"version\": 1", "\"version\": 1, \"waiver\": true", 1)),
        ("unknown nested field", honest.replacen("\"group_size_min\": 20", "\"group_size_min\": 20, \"x\": 1", 1)),
        ("array for object", listed(&terms).to_string()),
        ("array for nested object", controls),
        ("trailing bytes", format!("{honest}{{}}")),
        ("trailing text", format!("{honest} x")),
        ("byte order mark", format!("\u{feff}{honest}")),
        ("cut short", honest[..honest.len() - 10].to_owned()),
        ("another version", honest.replacen("\"version\": 1", "\"version\": 2", 1)),
        ("a number as text", honest.replacen("\"version\": 1", "\"version\": \"1\"", 1)),
        ("a time with an offset", honest.replacen("Z\",\n  \"not_after\"", "+00:00\",\n  \"not_after\"", 1)),
        ("no bytes", String::new()),
    ];
    for (what, bytes) in rows {
        assert_ne!(bytes, honest, "{what}");
        room.sign_bytes(&agreement, bytes.as_bytes());
        println!("{what}");
        room.refused(&agreement, "AGREEMENT_INVALID", 3);
        room.glovebox(&["approve", &agreement, "--key", "keys/brand.dan.pem", "--json"]).failed("AGREEMENT_INVALID", 3);
    }
}

/// The agreement's text with its controls as a bare list of values in the order of the fields.
fn controls_as_array(honest: &str) -> String {
    let start = honest.find("\"controls\": {").unwrap() + "\"controls\": ".len();
    let end = start + honest[start..].find('}').unwrap() + 1;
    let values: Vec<&str> = honest[start..end]
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(_, value)| value.trim_end_matches(','))
        .collect();
    format!("{}[{}]{}", &honest[..start], values.join(","), &honest[end..])
}

/// Signed by the right key, and still not what an approval must look like.
#[test]
fn an_approval_that_has_more_than_one_reading() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let id = room.id_of(&agreement);
    let key = room.key("retailer.ana");
    let honest = statement(&id, "retailer", "ana").to_string();
    let signed = |payload: &str| seal(payload.as_bytes(), &key).to_string();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut value = statement(&id, "retailer", "ana");
        change(&mut value);
        signed(&value.to_string())
    };
    let subject = json!({"name": "agreement.json", "digest": {"sha256": id}});
    let enveloped = |change: &dyn Fn(&mut Value)| {
        let mut envelope = seal(honest.as_bytes(), &key);
        change(&mut envelope);
        envelope.to_string()
    };
    let as_array =
        |envelope: &Value| json!([envelope["payloadType"], envelope["payload"], envelope["signatures"]]).to_string();
    let rows = [
        ("duplicate key", signed(&honest.replacen("\"room\"", "\"room\":\"grocery\",\"room\"", 1))),
        ("unknown field", changed(&|value| value["comment"] = json!("fine"))),
        ("unknown field of the predicate", changed(&|value| value["predicate"]["until"] = json!("noon"))),
        (
            "array for the predicate",
            changed(&|value| {
                value["predicate"] = json!(["grocery", "retailer", "ana", "approve", id, "2026-01-01T00:00:00Z"]);
            }),
        ),
        ("array for the subject", changed(&|value| value["subject"] = json!([["agreement.json", {"sha256": id}]]))),
        (
            "array for the statement",
            changed(&|value| {
                *value = json!([value["_type"], value["subject"], value["predicateType"], value["predicate"]]);
            }),
        ),
        ("trailing bytes in the payload", signed(&format!("{honest}{{}}"))),
        ("two subjects", changed(&|value| value["subject"] = json!([subject, subject]))),
        ("no subject", changed(&|value| value["subject"] = json!([]))),
        ("another digest", changed(&|value| value["subject"][0]["digest"]["sha256"] = json!(sha256(b"")))),
        ("another digest in the predicate", changed(&|value| value["predicate"]["agreement_id"] = json!(sha256(b"")))),
        ("another predicate type", changed(&|value| value["predicateType"] = json!("https://glovebox.dev/run/v1"))),
        ("another statement type", changed(&|value| value["_type"] = json!("https://in-toto.io/Statement/v2"))),
        ("a rejection", changed(&|value| value["predicate"]["decision"] = json!("reject"))),
        ("no time", changed(&|value| value["predicate"]["approved_at"] = json!("yesterday"))),
        ("trailing bytes in the envelope", format!("{}{{}}", signed(&honest))),
        ("duplicate key in the envelope", signed(&honest).replacen("\"payload\"", "\"payload\":\"\",\"payload\"", 1)),
        ("array for the envelope", as_array(&seal(honest.as_bytes(), &key))),
        (
            "array for a signature",
            enveloped(&|value| {
                value["signatures"] = json!([["", value["signatures"][0]["sig"]]]);
            }),
        ),
        (
            "two signatures",
            enveloped(&|value| {
                value["signatures"] = json!([value["signatures"][0], value["signatures"][0]]);
            }),
        ),
        ("no signature", enveloped(&|value| value["signatures"] = json!([]))),
        ("another payload type", enveloped(&|value| value["payloadType"] = json!("application/json"))),
        ("no base64", enveloped(&|value| value["payload"] = json!("{}"))),
    ];
    for (what, envelope) in rows {
        println!("{what}");
        room.write(&format!("{agreement}/retailer.ana.dsse.json"), envelope.as_bytes());
        room.refused(&agreement, "APPROVAL_INVALID", 3);
    }
    room.write(&format!("{agreement}/retailer.ana.dsse.json"), signed(&honest).as_bytes());
    room.released(&agreement);
}

#[test]
fn an_approval_whose_payload_or_signature_was_changed() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let honest = room.read(&format!("{agreement}/retailer.ana.dsse.json"));
    let mut value: Value = serde_json::from_slice(&honest).unwrap();
    let payload = String::from_utf8(payload(&honest)).unwrap();
    value["payload"] = json!(BASE64.encode(payload.replace("Z\"", "Z\" ").as_bytes()));
    room.put_approval(&agreement, "retailer.ana", &value);
    room.refused(&agreement, "SIGNATURE_INVALID", 3);

    let mut value: Value = serde_json::from_slice(&honest).unwrap();
    value["signatures"][0]["sig"] = json!(BASE64.encode(&[0; 64]));
    room.put_approval(&agreement, "retailer.ana", &value);
    room.refused(&agreement, "SIGNATURE_INVALID", 3);
}

/// One broken envelope beside two good ones is a room that someone has tampered with.
#[test]
fn a_stray_file_among_the_approvals() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    room.write(&format!("{agreement}/z.dsse.json"), b"{}");
    room.refused(&agreement, "APPROVAL_INVALID", 3);
}

#[test]
fn symlinks_for_agreement_or_approval() {
    for name in ["agreement.json", "retailer.ana.dsse.json"] {
        let room = Fixture::new();
        let agreement = room.agreed("evil", EVIL);
        let (path, aside) = (room.path(&format!("{agreement}/{name}")), room.path("aside"));
        fs::rename(&path, &aside).unwrap();
        symlink(&aside, &path).unwrap();
        let code = if name == "agreement.json" { "AGREEMENT_INVALID" } else { "APPROVAL_INVALID" };
        room.refused(&agreement, code, 3);
    }
}

#[test]
fn an_agreement_that_is_not_there_or_not_in_the_room() {
    let (room, other) = (Fixture::new(), Fixture::new());
    let elsewhere = other.agreed("evil", EVIL);
    let absolute = other.path(&elsewhere);
    let climbing = format!("../{}/{elsewhere}", other.root().file_name().unwrap().to_str().unwrap());
    for agreement in ["agreements/nothing-r9", "", ".", absolute.to_str().unwrap(), &climbing] {
        println!("`{agreement}`");
        room.refused(agreement, "AGREEMENT_INVALID", 3);
    }
}

/// A byte here and there, each of its bits in turn: the id is a digest of the bytes, not of a reading of them.
#[test]
fn every_flipped_byte_of_an_agreement() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let path = format!("{agreement}/agreement.json");
    let honest = room.read(&path);
    let now: DateTime<Utc> = Utc::now();
    for (turn, at) in (0..honest.len()).step_by(13).enumerate() {
        let mut flipped = honest.clone();
        flipped[at] ^= 1 << (turn % 8);
        room.write(&path, &flipped);
        let fault = run_at(&room, &agreement, now).1.unwrap();
        assert_eq!(fault.code().as_str(), "APPROVAL_INVALID", "byte {at}: {fault}");
    }
    assert!(room.outputs().is_empty() && room.spent().is_empty());
}

#[test]
fn registries_that_could_be_read_in_two_ways() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let honest = room.read_text("registry.json");
    let key_of = |who: &str| data_encoding::HEXLOWER.encode(room.key(who).verifying_key().as_bytes());
    let (ana, dan) = (key_of("retailer.ana"), key_of("brand.dan"));
    let rows = [
        ("one key for two people", honest.replace(&ana, &dan)),
        ("upper-case hex", honest.replace(&ana, &ana.to_uppercase())),
        ("an unknown field", honest.replacen("\"version\": 1", "\"version\": 1, \"quorum\": 0", 1)),
        ("a weak key", honest.replace(&ana, &format!("01{}", "00".repeat(31)))),
        ("another version", honest.replacen("\"version\": 1", "\"version\": 2", 1)),
        ("no JSON", "parties:".into()),
    ];
    for (what, bytes) in rows {
        assert_ne!(bytes, honest, "{what}");
        room.write("registry.json", bytes.as_bytes());
        // Without a registry no receipt verifies, so only the refusal itself is checked.
        room.run(&agreement).failed("REGISTRY_INVALID", 3);
        assert!(room.outputs().is_empty() && room.spent().is_empty(), "{what}");
    }
}
