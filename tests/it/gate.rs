//! Step 1: whatever is not exactly what every affected party approved is refused, before it costs anything.

use std::fs;
use std::os::unix::fs::symlink;

use chrono::{DateTime, TimeDelta, Utc};
use data_encoding::{BASE64, HEXLOWER};
use glovebox::{Clock, Fault};
use serde_json::{Value, json};

use crate::support::data::{ints, texts, write_parquet};
use crate::support::forge::{EVIL, payload, registry_signature, seal, sha256, statement, witness_line};
use crate::support::{CONTROLS, Fixture, now};

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
    ran.failed("KEY_SCOPE", 3);
}

#[test]
fn a_signature_by_a_runtime_key() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    room.glovebox(&["approve", &agreement, "--key", "keys/runtime.pem", "--json"]).failed("KEY_SCOPE", 3);
    let statement = statement(&room.id_of(&agreement), "retailer", "ana").to_string();
    room.put_approval(&agreement, "retailer.ana", &seal(statement.as_bytes(), &room.key("runtime")));
    room.refused(&agreement, "KEY_SCOPE", 3);
}

#[test]
fn a_signature_of_one_party_under_the_name_of_another() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let statement = statement(&room.id_of(&agreement), "retailer", "ana").to_string();
    room.put_approval(&agreement, "retailer.ana", &seal(statement.as_bytes(), &room.key("brand.dan")));
    room.refused(&agreement, "SIGNER_MISMATCH", 3);
}

/// Nobody replaces a key in a version that is signed; and where the parties replace it in the next version, what the
/// former key signed counts no longer.
#[test]
fn a_key_that_was_replaced_in_the_registry() {
    let (room, other) = (Fixture::new(), Fixture::new());
    let agreement = room.agreed("evil", EVIL);
    let hex = |fixture: &Fixture| HEXLOWER.encode(fixture.key("retailer.ana").verifying_key().as_bytes());
    let honest = room.read("registry/1/registry.json");
    room.edit("registry/1/registry.json", &hex(&room), &hex(&other));
    // Without a registry no receipt verifies, so only the refusal itself is checked.
    room.run(&agreement).failed("QUORUM_MISSING", 3);
    assert!(room.outputs().is_empty() && room.spent().is_empty());
    room.write("registry/1/registry.json", &honest);

    glovebox::renew_registry(&room.dir(), now()).unwrap();
    room.edit("registry/2/registry.json", &hex(&room), &hex(&other));
    let next = room.read("registry/2/registry.json");
    for (name, person, key) in [
        ("former", "retailer/ana", room.key("retailer.ana")),
        ("new", "retailer/ana", other.key("retailer.ana")),
        ("dan", "brand/dan", room.key("brand.dan")),
    ] {
        let signature = registry_signature(&next, 2, person, &key);
        room.write(&format!("registry/2/{name}.dsse.json"), signature.to_string().as_bytes());
    }
    room.refused(&agreement, "SIGNATURE_INVALID", 3);
    // The list of what the retailer has withdrawn was signed with the former key as well.
    let statement = statement(&room.id_of(&agreement), "retailer", "ana").to_string();
    room.put_approval(&agreement, "retailer.ana", &seal(statement.as_bytes(), &other.key("retailer.ana")));
    let ran = room.refused(&agreement, "SIGNATURE_INVALID", 3);
    assert!(ran.stderr.contains("revocations/retailer/1.dsse.json"), "{}", ran.stderr);
    let key = other.path("keys/retailer.ana.pem");
    fs::remove_file(room.path("revocations/retailer/1.dsse.json")).unwrap();
    room.glovebox(&["approve", &agreement, "--key", key.to_str().unwrap(), "--json"]).succeeded();
    room.released(&agreement);
}

/// Someone retires a key and takes another in one version: the former one signs as the version before asks, and the new
/// one as the next does.
#[test]
fn a_person_who_changes_keys() {
    let room = Fixture::new();
    fs::rename(room.path("keys/retailer.ana.pem"), room.path("keys/former.pem")).unwrap();
    room.draft_key("retailer", "ana");
    let former = room.glovebox(&["key", "public", "keys/former.pem", "--json"]).succeeded()["public"].clone();
    room.write("former.pub", former.as_str().unwrap().as_bytes());
    room.glovebox(&["key", "retire", "former.pub", "--json"]).succeeded();
    let sign = |key: &str| room.glovebox(&["registry", "sign", "--key", key, "--json"]).succeeded();
    for key in ["keys/former.pem", "keys/retailer.ana.pem"] {
        assert_eq!(sign(key)["in_force"], false);
    }
    assert_eq!(sign("keys/brand.dan.pem")["in_force"], true);

    let agreement = room.agreed("evil", EVIL);
    room.released(&agreement);
    let refused = room.glovebox(&["approve", &agreement, "--key", "keys/former.pem", "--json"]);
    refused.failed("KEY_SCOPE", 3);
}

/// Every key has an end, also that of the runtime.
#[test]
fn a_runtime_key_outside_its_window() {
    for (field, moment) in [("not_after", "2026-01-01T00:00:00Z"), ("not_before", "2028-01-01T00:00:00Z")] {
        let room = Fixture::unsigned(CONTROLS);
        let mut draft: Value = serde_json::from_slice(&room.read("registry/1/registry.json")).unwrap();
        let parties = draft["parties"].as_array_mut().unwrap();
        let members = parties.iter_mut().flat_map(|party| party["members"].as_array_mut().unwrap());
        let runtime = members.into_iter().find(|member| member["id"] == "host").unwrap();
        if field == "not_after" {
            runtime["keys"][0]["not_before"] = json!("2025-01-01T00:00:00Z");
        }
        runtime["keys"][0][field] = json!(moment);
        room.write("registry/1/registry.json", draft.to_string().as_bytes());
        room.sign_registry();
        let agreement = room.agreed("evil", EVIL);
        room.run(&agreement).failed("KEY_EXPIRED", 3);
        assert!(room.outputs().is_empty() && room.spent().is_empty());
    }
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
    room.refused(&second, "SUBJECT_MISMATCH", 3);
}

#[test]
fn an_approval_for_another_room() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let mut statement = statement(&room.id_of(&agreement), "retailer", "ana");
    statement["predicate"]["room"] = json!("bakery");
    room.put_approval(&agreement, "retailer.ana", &seal(statement.to_string().as_bytes(), &room.key("retailer.ana")));
    room.refused(&agreement, "SUBJECT_MISMATCH", 3);
}

#[test]
fn an_agreement_for_another_room() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    room.forge(&agreement, |terms| terms["room"] = json!("bakery"));
    room.refused(&agreement, "AGREEMENT_INVALID", 3);
    room.glovebox(&["approve", &agreement, "--key", "keys/brand.dan.pem", "--json"]).failed("AGREEMENT_INVALID", 3);
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

/// What is longer than any component may be is not read, and so not compared.
#[test]
fn a_component_of_the_greatest_length_and_a_longer_one() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let lengthen = |bytes: u64| {
        let file = fs::File::options().write(true).open(room.path("questions/evil.wasm")).unwrap();
        file.set_len(bytes).unwrap();
    };
    lengthen(8 << 20);
    room.refused(&agreement, "COMPONENT_CHANGED", 3);
    lengthen((8 << 20) + 1);
    let ran = room.refused(&agreement, "COMPONENT_INVALID", 3);
    assert!(ran.stderr.contains("longer than 8388608 bytes"), "{}", ran.stderr);
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
        ("k_min = 20", "k_min = 2000"),
        ("epsilon = 10.0", "epsilon = 9.0"),
        ("lifetime = { epsilon = 100.0", "lifetime = { epsilon = 99.0"),
        ("min_size = 20", "min_size = 21"),
    ] {
        room.edit("room.toml", from, to);
        room.refused(&agreement, "CONTROL_CHANGED", 3);
        room.write("room.toml", &terms);
    }
    let loosened = room.read_text("room.toml").replace("k_min = 20", "k_min = 2");
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

/// The registry may grow along its chain; whoever it asks for from then on has to approve as well.
#[test]
fn a_changed_registry() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    room.new_key("agency", "eve");
    room.refused(&agreement, "QUORUM_MISSING", 3);
    room.approve(&agreement, "agency.eve");
    room.released(&agreement);

    // Another chain is not the one that was agreed, nor is one that ends before.
    let agreement = room.agreed("evil", EVIL);
    room.approve(&agreement, "agency.eve");
    room.forge(&agreement, |terms| terms["registry"]["sha256"] = json!(sha256(b"another registry")));
    room.approve(&agreement, "agency.eve");
    room.refused(&agreement, "REGISTRY_ROLLBACK", 3);
    room.forge(&agreement, |terms| terms["registry"] = json!({"version": 3, "sha256": sha256(b"to come")}));
    room.approve(&agreement, "agency.eve");
    room.refused(&agreement, "REGISTRY_ROLLBACK", 3);
}

#[test]
fn a_registry_that_is_older_than_one_used_before() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    room.new_key("retailer", "bob");
    room.released(&agreement);
    fs::remove_dir_all(room.path("registry/2")).unwrap();
    let next = room.agreed("evil", EVIL);
    room.refused(&next, "REGISTRY_ROLLBACK", 3);
}

/// Whom the parties trust to watch the log is one of the terms.
#[test]
fn another_log_or_other_witnesses() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    room.forge(&agreement, |terms| terms["log"]["origin"] = json!("glovebox/bakery"));
    room.refused(&agreement, "LOG_INVALID", 3);

    let agreement = room.agreed("evil", EVIL);
    let witness = witness_line("watcher", &room.key("brand.dan"));
    glovebox::set_witnesses(&room.dir(), &format!("{witness}\nquorum none"), now()).unwrap();
    room.sign_registry();
    room.refused(&agreement, "LOG_INVALID", 3);
}

/// A person of the party has to say, again and again, that nothing was withdrawn: silence is no consent.
#[test]
fn a_party_without_a_list_of_what_it_has_withdrawn() {
    for party in ["retailer", "brand"] {
        let room = Fixture::new();
        let agreement = room.agreed("evil", EVIL);
        fs::remove_dir_all(room.path(&format!("revocations/{party}"))).unwrap();
        room.refused(&agreement, "REVOCATIONS_MISSING", 3);
    }
}

#[test]
fn another_runtime() {
    let room = Fixture::new();
    for field in ["glovebox", "wasmtime", "contract_sha256", "engine_sha256"] {
        let agreement = room.agreed("evil", EVIL);
        room.forge(&agreement, |terms| terms["runtime"][field] = json!("another"));
        room.refused(&agreement, "RUNTIME_CHANGED", 3);
    }
}

/// The receipt, and why the run was refused.
fn run_at(room: &Fixture, agreement: &str, now: DateTime<Utc>) -> (String, Option<Fault>) {
    let outcome = room.run_here(agreement, Clock::Fixed(now), &|_| {});
    (outcome.receipt, outcome.result.err())
}

/// The window begins in an hour and lasts for one, so that keys and lists hold all along.
#[test]
fn outside_the_window() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let (from, until) = (now() + TimeDelta::hours(1), now() + TimeDelta::hours(2));
    room.forge(&agreement, |terms| {
        let text = |moment: DateTime<Utc>| json!(moment.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
        (terms["not_before"], terms["not_after"]) = (text(from), text(until));
    });
    let later = room.agreed("evil", &[EVIL, &["--beside"]].concat());
    let (second, day, expired) = (TimeDelta::seconds(1), TimeDelta::days(1), Some("AGREEMENT_EXPIRED"));
    for (agreement, now, code) in [
        (&agreement, from - second, expired),
        (&agreement, until - second, None),
        (&agreement, until, expired),
        (&agreement, until + day * 20, expired),
        (&agreement, until - second, None),
        // Once the log has seen a run of a later time, setting the clock back does not help.
        (&later, until + day, None),
        (&agreement, until - second, expired),
        (&agreement, until + day * 1000, Some("REGISTRY_EXPIRED")),
    ] {
        let (outputs, spent) = (room.outputs(), room.spent());
        let (receipt, refusal) = run_at(&room, agreement, now);
        assert!(glovebox::verify(&room.dir(), &receipt, None, now).is_ok(), "{now}");
        assert_eq!(refusal.as_ref().map(|fault| fault.code().as_str()), code, "{now}: {refusal:?}");
        match refusal {
            None => fs::remove_dir_all(room.path("out")).unwrap(),
            Some(fault) => {
                assert_eq!(fault.to_string().lines().count(), 2);
                assert_eq!((room.outputs(), room.spent()), (outputs, spent), "{now}");
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
        ("duplicate key", honest.replacen("\"version\": 3", "\"version\": 3, \"version\": 3", 1)),
        ("duplicate nested key", honest.replacen("\"k_min\": 20", "\"k_min\": 2, \"k_min\": 20", 1)),
        ("unknown field", honest.replacen("\"version\": 3", "\"version\": 3, \"waiver\": true", 1)),
        ("unknown nested field", honest.replacen("\"k_min\": 20", "\"k_min\": 20, \"x\": 1", 1)),
        ("array for object", listed(&terms).to_string()),
        ("array for nested object", controls),
        ("trailing bytes", format!("{honest}{{}}")),
        ("trailing text", format!("{honest} x")),
        ("byte order mark", format!("\u{feff}{honest}")),
        ("cut short", honest[..honest.len() - 10].to_owned()),
        ("another version", honest.replacen("\"version\": 3", "\"version\": 2", 1)),
        ("a number as text", honest.replacen("\"version\": 3", "\"version\": \"3\"", 1)),
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
    let start = honest.find("\"controls\": {").unwrap() + "\"controls\": {".len();
    let end = start + honest[start..].find("\n  }").unwrap();
    // Names of the object's own fields are indented by four; those of objects in it stay.
    let value = |line: &str| match line.strip_prefix("    \"").and_then(|field| field.split_once("\": ")) {
        Some((_, value)) => format!("{value}\n"),
        None => format!("{line}\n"),
    };
    let values: String = honest[start..end].lines().map(value).collect();
    format!("{}[{values}]{}", honest[..start].trim_end_matches('{'), &honest[end + "\n  }".len()..])
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
        ("MALFORMED", "duplicate key", signed(&honest.replacen("\"room\"", "\"room\":\"grocery\",\"room\"", 1))),
        ("MALFORMED", "unknown field", changed(&|value| value["comment"] = json!("fine"))),
        ("MALFORMED", "unknown field of the predicate", changed(&|value| value["predicate"]["until"] = json!("noon"))),
        (
            "MALFORMED",
            "array for the predicate",
            changed(&|value| {
                let times = ["2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z"];
                value["predicate"] = json!([
                    "grocery",
                    "retailer",
                    "ana",
                    "data-owner",
                    "approve",
                    id,
                    1,
                    1,
                    times[0],
                    times[1],
                    "00".repeat(16),
                ]);
            }),
        ),
        (
            "MALFORMED",
            "array for the subject",
            changed(&|value| value["subject"] = json!([["agreement.json", {"sha256": id}]])),
        ),
        (
            "MALFORMED",
            "array for the statement",
            changed(&|value| {
                *value = json!([value["_type"], value["subject"], value["predicateType"], value["predicate"]]);
            }),
        ),
        ("MALFORMED", "trailing bytes in the payload", signed(&format!("{honest}{{}}"))),
        ("SUBJECT_MISMATCH", "two subjects", changed(&|value| value["subject"] = json!([subject, subject]))),
        ("SUBJECT_MISMATCH", "no subject", changed(&|value| value["subject"] = json!([]))),
        (
            "SUBJECT_MISMATCH",
            "another digest",
            changed(&|value| value["subject"][0]["digest"]["sha256"] = json!(sha256(b""))),
        ),
        (
            "SUBJECT_MISMATCH",
            "another digest in the predicate",
            changed(&|value| value["predicate"]["agreement_id"] = json!(sha256(b""))),
        ),
        (
            "PREDICATE_TYPE",
            "another predicate type",
            changed(&|value| value["predicateType"] = json!("https://glovebox.dev/run/v1")),
        ),
        (
            "PREDICATE_TYPE",
            "another statement type",
            changed(&|value| value["_type"] = json!("https://in-toto.io/Statement/v2")),
        ),
        ("NOT_APPROVED", "a rejection", changed(&|value| value["predicate"]["decision"] = json!("reject"))),
        ("MALFORMED", "no time", changed(&|value| value["predicate"]["approved_at"] = json!("yesterday"))),
        ("MALFORMED", "trailing bytes in the envelope", format!("{}{{}}", signed(&honest))),
        (
            "MALFORMED",
            "duplicate key in the envelope",
            signed(&honest).replacen("\"payload\"", "\"payload\":\"\",\"payload\"", 1),
        ),
        ("MALFORMED", "array for the envelope", as_array(&seal(honest.as_bytes(), &key))),
        (
            "MALFORMED",
            "array for a signature",
            enveloped(&|value| {
                value["signatures"] = json!([["", value["signatures"][0]["sig"]]]);
            }),
        ),
        (
            "SIGNATURE_MISSING",
            "two signatures",
            enveloped(&|value| {
                value["signatures"] = json!([value["signatures"][0], value["signatures"][0]]);
            }),
        ),
        ("SIGNATURE_MISSING", "no signature", enveloped(&|value| value["signatures"] = json!([]))),
        ("PAYLOAD_TYPE", "another payload type", enveloped(&|value| value["payloadType"] = json!("application/json"))),
        ("MALFORMED", "no base64", enveloped(&|value| value["payload"] = json!("{}"))),
    ];
    for (code, what, envelope) in rows {
        println!("{what}");
        room.write(&format!("{agreement}/retailer.ana.dsse.json"), envelope.as_bytes());
        room.refused(&agreement, code, 3);
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
    room.refused(&agreement, "MALFORMED", 3);
}

#[test]
fn symlinks_for_agreement_or_approval() {
    for name in ["agreement.json", "retailer.ana.dsse.json"] {
        let room = Fixture::new();
        let agreement = room.agreed("evil", EVIL);
        let (path, aside) = (room.path(&format!("{agreement}/{name}")), room.path("aside"));
        fs::rename(&path, &aside).unwrap();
        symlink(&aside, &path).unwrap();
        room.refused(&agreement, "AGREEMENT_INVALID", 3);
    }
}

#[test]
fn an_agreement_that_is_not_there_or_not_in_the_room() {
    let (room, other) = (Fixture::new(), Fixture::new());
    let elsewhere = other.agreed("evil", EVIL);
    let absolute = other.path(&elsewhere);
    let outside = other.root().parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    let climbing = format!("../../{outside}/room/{elsewhere}");
    assert!(room.path(&climbing).exists(), "{climbing} leads nowhere");
    let (absolute, long) = (absolute.to_str().unwrap(), "a".repeat(201));
    for agreement in ["agreements/nothing-r9", "agreements", "room.toml", "", ".", "/", absolute, &climbing, &long] {
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
    let now = now();
    for (turn, at) in (0..honest.len()).step_by(13).enumerate() {
        let mut flipped = honest.clone();
        flipped[at] ^= 1 << (turn % 8);
        room.write(&path, &flipped);
        let fault = run_at(&room, &agreement, now).1.unwrap();
        assert_eq!(fault.code().as_str(), "SUBJECT_MISMATCH", "byte {at}: {fault}");
    }
    assert!(room.outputs().is_empty() && room.spent().is_empty());
}

#[test]
fn registries_that_could_be_read_in_two_ways() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let path = "registry/1/registry.json";
    let honest = room.read_text(path);
    let key_of = |who: &str| HEXLOWER.encode(room.key(who).verifying_key().as_bytes());
    let (ana, dan) = (key_of("retailer.ana"), key_of("brand.dan"));
    let rows = [
        ("KEY_DUPLICATE", "one key for two people", honest.replace(&ana, &dan)),
        ("KEY_FORMAT", "upper-case hex", honest.replace(&ana, &ana.to_uppercase())),
        ("REGISTRY_INVALID", "an unknown field", honest.replacen("\"version\": 1", "\"version\": 1, \"waiver\": 0", 1)),
        ("REGISTRY_INVALID", "a field twice", honest.replacen("\"version\": 1", "\"version\": 1, \"version\": 1", 1)),
        ("REGISTRY_INVALID", "trailing bytes", format!("{honest}{{}}")),
        ("KEY_WEAK", "a weak key", honest.replace(&ana, &format!("01{}", "00".repeat(31)))),
        ("REGISTRY_INVALID", "another version", honest.replacen("\"version\": 1", "\"version\": 2", 1)),
        ("REGISTRY_INVALID", "another format", honest.replacen("\"format\": 1", "\"format\": 2", 1)),
        ("REGISTRY_INVALID", "no JSON", "parties:".into()),
    ];
    for (code, what, bytes) in rows {
        assert_ne!(bytes, honest, "{what}");
        println!("{what}");
        room.write(path, bytes.as_bytes());
        // Without a registry no receipt verifies, so only the refusal itself is checked.
        room.run(&agreement).failed(code, 3);
        assert!(room.outputs().is_empty() && room.spent().is_empty(), "{what}");
    }
    room.write(path, honest.as_bytes());
    room.released(&agreement);
}
