//! What an author or an agent hands over: refused when an agreement is composed, and again when it is run.
//!
//! The second time the terms are forged and signed by both parties, so that the run alone stands in the way.

use serde_json::json;

use crate::support::forge::EVIL;
use crate::support::{Fixture, LIST};

#[test]
fn malformed_manifests() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let (honest, component) = (room.read_text("questions/evil.toml"), room.component("evil"));
    for (what, from, to) in [
        ("unknown field", "version = 1", "version = 1\nauthor = \"me\""),
        ("unknown field of a slot", "join = \"required\"", "join = \"required\"\nwhere = \"true\""),
        ("unknown field of a measure", "reducer = \"count\"", "reducer = \"count\"\nnoise = false"),
        ("unknown field of the bounds", "max_rows_per_unit", "sampling = 1\nmax_rows_per_unit"),
        ("unknown version", "version = 1", "version = 2"),
        ("no version", "version = 1", ""),
        ("unknown kind", "kind = \"analytical\"", "kind = \"reviewed\""),
        ("a list with measures", "kind = \"analytical\"", "kind = \"list\""),
        ("unknown isolation", "isolation = \"sealed\"", "isolation = \"open\""),
        ("unknown reducer", "reducer = \"sum\"", "reducer = \"max\""),
        ("NaN range", "range = [0.0, 10.0]", "range = [nan, 10.0]"),
        ("infinite range", "range = [0.0, 10.0]", "range = [0.0, inf]"),
        ("empty range", "range = [0.0, 10.0]", "range = [10.0, 10.0]"),
        ("reversed range", "range = [0.0, 10.0]", "range = [10.0, 0.0]"),
        ("range beyond what sums can hold", "range = [0.0, 10.0]", "range = [0.0, 1e300]"),
        ("sum without a range", "range = [0.0, 10.0]", ""),
        ("parameter with a NaN range", "range = [-1, 1000000]", "range = [nan, 1.0]"),
        ("parameter without a domain", "range = [-1, 1000000]", ""),
        ("no required slot", "join = \"required\"", "join = \"optional\""),
        ("empty domain", "domain = [\"all\"]", "domain = []"),
        ("repeated domain value", "domain = [\"all\"]", "domain = [\"all\", \"all\"]"),
        ("two columns of one name", "name = \"units\"", "name = \"group\""),
        ("name that is no id", "name = \"evil\"", "name = \"../evil\""),
        ("no rows allowed", "max_rows_per_unit = 10000", "max_rows_per_unit = 0"),
        (
            "array for a table",
            "columns = [{ name = \"value\", type = \"float64\" }]",
            "columns = [[\"value\", \"float64\"]]",
        ),
        ("no TOML", "version = 1", "version: 1"),
    ] {
        assert!(honest.contains(from), "{what}");
        println!("{what}");
        let manifest = honest.replacen(from, to, 1);
        refused_twice(&room, &agreement, &component, manifest.as_bytes(), "MANIFEST_INVALID");
    }
    refused_twice(&room, &agreement, &component, b"\xff\xfe", "MANIFEST_INVALID");
}

/// Each measure takes its part of epsilon, and each part of a key its part of the host's memory.
#[test]
fn manifests_beyond_the_caps() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let (honest, component) = (room.read_text("questions/evil.toml"), room.component("evil"));
    let sums: String =
        (0..63).map(|at| format!("[[measure]]\nname = \"m{at}\"\nreducer = \"sum\"\nrange = [0.0, 1.0]\n")).collect();
    let groups: String = (0..16).map(|at| format!("[[group]]\nname = \"g{at}\"\ndomain = [\"a\"]\n")).collect();
    for manifest in [
        format!("{honest}\n{sums}"),
        format!("{honest}\n{groups}"),
        honest.replacen("range = [0.0, 10.0]", "range = [0.0, 1e-10]", 1),
    ] {
        refused_twice(&room, &agreement, &component, manifest.as_bytes(), "MANIFEST_INVALID");
    }
}

#[test]
fn limits_and_controls_that_no_room_could_state() {
    let room = Fixture::new();
    for (part, field, value) in [
        ("limits", "fuel_per_unit", 0),
        ("limits", "memory_bytes_per_unit", 1_u64 << 40),
        ("limits", "milliseconds_per_unit", 0),
        ("limits", "answer_bytes_per_unit", 0),
        ("controls", "k_min", 0),
        ("controls", "epsilon_micros", 0),
        ("controls", "l0", 0),
    ] {
        // Beside it: what such an agreement would replace no one can read.
        let agreement = room.agreed("evil", &[EVIL, &["--beside"]].concat());
        room.forge(&agreement, |terms| terms[part][field] = value.into());
        room.refused(&agreement, "AGREEMENT_INVALID", 3);
        room.not_agreed("evil", EVIL, "AGREEMENT_INVALID", 3);
    }
}

#[test]
fn bytes_that_are_no_component() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let manifest = room.read("questions/evil.toml");
    let evil = room.component("evil");
    let memory64 = "(component (core module $m (memory i64 80000 80000)) (core instance (instantiate $m)))";
    for (what, bytes) in [
        ("no bytes", Vec::new()),
        ("some text", b"not a component".to_vec()),
        ("a core module", wasm("(module)")),
        ("WebAssembly text", b"(component)".to_vec()),
        ("WebAssembly text after a blank", b" (component)".to_vec()),
        ("half a component", evil[..evil.len() / 2].to_vec()),
        ("a component and a byte", [evil.as_slice(), &[0]].concat()),
        ("a script", b"#!/bin/sh\n".to_vec()),
        ("64-bit memory of 5 GB", wasm(memory64)),
        ("shared memory", wasm("(component (core module (memory 1 1 shared)))")),
        ("a memory without a maximum", wasm("(component (core module (memory 1)))")),
        ("two memories in a module", wasm("(component (core module (memory 1 1) (memory 1 1)))")),
    ] {
        println!("{what}");
        refused_twice(&room, &agreement, &bytes, &manifest, "COMPONENT_INVALID");
    }
}

#[test]
fn components_that_import() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let manifest = room.read("questions/evil.toml");
    for (what, text) in [
        ("a function", r#"(component (import "log" (func)))"#),
        ("the environment", r#"(component (import "wasi:cli/environment@0.2.0" (instance)))"#),
        ("the clock", r#"(component (import "wasi:clocks/monotonic-clock@0.2.0" (instance)))"#),
        ("a component", r#"(component (import "other" (component)))"#),
        ("a name with a line break", "(component (import \"a:b/c\" (instance)) (import \"d\" (func)))"),
    ] {
        println!("{what}");
        refused_twice(&room, &agreement, &wasm(text), &manifest, "COMPONENT_IMPORTS");
    }
}

/// What only the engine can find out. It does so on no data at all.
#[test]
fn components_that_do_not_start() {
    let room = Fixture::new();
    let manifest = room.read("questions/evil.toml");
    let two =
        "(core module $big (memory 40000 40000)) (core instance (instantiate $big)) (core instance (instantiate $big))";
    let growing = "(memory 1 65536) (func $start (if (i32.eq (memory.grow (i32.const 65535)) (i32.const -1)) \
                   (then unreachable))) (start $start)";
    let spinning = "(func $start (loop br 0)) (start $start)";
    for (what, bytes) in [
        ("4 GB of memory", wasm(&measuring("(memory 65536 65536)"))),
        ("5 GB of memory in two", wasm(&measuring_beside(two, ""))),
        ("17 MB of memory", wasm(&measuring("(memory 272 272)"))),
        ("4 GB asked for at start", wasm(&measuring(growing))),
        ("a loop at start", wasm(&measuring(spinning))),
        ("a trap at start", wasm(&measuring("(func $start unreachable) (start $start)"))),
    ] {
        println!("{what}");
        refused_when_run(&room, &bytes, &manifest, "COMPILE_FAILED");
    }
}

/// A component says by itself which interface it has; that it has that of its kind, the engine finds out.
#[test]
fn components_of_another_contract() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", &[EVIL, &["--beside"]].concat());
    let manifest = room.read("questions/evil.toml");
    for (what, bytes) in [
        ("nothing", wasm("(component)")),
        ("memory and no function", wasm("(component (core module $m (memory 1 1)) (core instance (instantiate $m)))")),
        ("an interface of another package", wasm(&measuring("").replace("glovebox:question", "other:question"))),
    ] {
        println!("{what}");
        refused_twice(&room, &agreement, &bytes, &manifest, "COMPONENT_INVALID");
    }
    for (what, bytes) in [
        ("the function of another kind", room.component("nonredeemers")),
        ("the function with other types", wasm(&measuring(""))),
    ] {
        println!("{what}");
        refused_when_run(&room, &bytes, &manifest, "CONTRACT_MISMATCH");
        // The parties agreed on the interface of the evil question.
        room.forge_question(&agreement, &bytes, &manifest);
        room.refused(&agreement, "WORLD_CHANGED", 3);
    }
}

#[test]
fn slots_without_a_view() {
    let room = Fixture::new();
    room.not_agreed("evil", &[EVIL, &["--bind", "rows=nothing"]].concat(), "SLOT_MISSING", 3);
    room.not_agreed("evil", &[EVIL, &["--bind", "lines=rows"]].concat(), "SLOT_MISSING", 3);
    room.edit("room.toml", "id = \"rows\"", "id = \"lines\"");
    room.not_agreed("evil", EVIL, "SLOT_MISSING", 3);
    room.edit("room.toml", "id = \"lines\"", "id = \"rows\"");

    let agreement = room.agreed("evil", EVIL);
    room.forge(&agreement, |terms| terms["views"][0]["slot"] = json!("lines"));
    room.refused(&agreement, "SLOT_MISSING", 3);
    room.forge(&agreement, |terms| terms["views"] = json!([]));
    // Without a view there is no owner either, and nobody's controls.
    room.refused(&agreement, "CONTROL_CHANGED", 3);
}

#[test]
fn parameters_outside_their_domain() {
    let room = Fixture::new();
    let attack = ["--set", "attack=none"].as_slice();
    let unit = ["--set", "only_unit_with=-1"].as_slice();
    for given in [
        &[attack, unit, &["--set", "until=noon"]].concat(),
        attack,
        unit,
        &[unit, &["--set", "attack=kindness"]].concat(),
        &[unit, &["--set", "attack="]].concat(),
        &[unit, &["--set", "attack=None"]].concat(),
        &[attack, &["--set", "only_unit_with=-2"]].concat(),
        &[attack, &["--set", "only_unit_with=1000001"]].concat(),
        &[attack, &["--set", "only_unit_with=0.5"]].concat(),
        &[attack, &["--set", "only_unit_with=nan"]].concat(),
        &[attack, &["--set", "only_unit_with=99999999999999999999"]].concat(),
    ] {
        println!("{given:?}");
        room.not_agreed("evil", &[given, ["--destination", "reports"].as_slice()].concat(), "PARAMETER_INVALID", 3);
    }

    let agreement = room.agreed("evil", EVIL);
    room.forge(&agreement, |terms| terms["parameters"][0]["value"] = json!("kindness"));
    room.refused(&agreement, "PARAMETER_INVALID", 3);
    room.forge(&agreement, |terms| terms["parameters"] = json!([]));
    room.refused(&agreement, "PARAMETER_INVALID", 3);
    room.forge(&agreement, |terms| {
        terms["parameters"] = json!([{"name": "only_unit_with", "value": "-1"}, {"name": "attack", "value": "none"}]);
    });
    room.refused(&agreement, "PARAMETER_INVALID", 3);
}

/// Who could set it could choose whom it falls on. The people who sign are told of it in a line.
#[test]
fn nobody_sets_a_seed() {
    let room = Fixture::new();
    room.not_agreed("evil", &[EVIL, &["--set", "seed=7"]].concat(), "PARAMETER_INVALID", 3);
    let composed = room.glovebox(&[&["agree", "questions/evil.wasm"], EVIL].concat()).stdout;
    assert!(composed.contains("\n  parameter seed: a random number of each household's own, "), "{composed}");
    let agreement = room.agreed("evil", EVIL);
    let terms: serde_json::Value =
        serde_json::from_str(&room.read_text(&format!("{agreement}/agreement.json"))).unwrap();
    let agreed = json!([{"name": "attack", "value": "none"}, {"name": "only_unit_with", "value": "-1"}]);
    assert_eq!(terms["parameters"], agreed);
    assert!(!terms["unprotected"].to_string().contains("seed"), "{}", terms["unprotected"]);
    room.forge(&agreement, |terms| {
        terms["parameters"].as_array_mut().unwrap().push(json!({"name": "seed", "value": "7"}));
    });
    room.refused(&agreement, "PARAMETER_INVALID", 3);
}

/// The guard compares who contributed: it must not be chance who did.
#[test]
fn a_seed_where_no_noise_hides_who_contributed() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    room.edit("room.toml", "k_min = 20", "mode = \"sealed-k\", k_min = 20");
    room.not_agreed("evil", EVIL, "CONTROL_UNMET", 3);
    room.forge(&agreement, |terms| terms["controls"]["mode"] = json!("sealed-k"));
    room.refused(&agreement, "CONTROL_UNMET", 3);

    let room = Fixture::new();
    room.agree("nonredeemers", LIST);
    let list = room.read_text("questions/nonredeemers.toml");
    let seed = "[[parameter]]\nname = \"seed\"\ntype = \"seed\"\n\n[list]";
    room.write("questions/nonredeemers.toml", list.replace("[list]", seed).as_bytes());
    room.not_agreed("nonredeemers", LIST, "CONTROL_UNMET", 3);
}

/// Whoever may choose among many values may ask many questions: how many, is the owners' choice. Both when it is agreed
/// on, and when a run finds it agreed.
#[test]
fn a_parameter_with_more_values_than_the_owners_allow() {
    let room = Fixture::new();
    // From -1 to 1,000,000.
    let values = 1_000_002;
    room.edit("room.toml", "max_param_domain = 10_000_000", &format!("max_param_domain = {values}"));
    let agreement = room.agreed("evil", EVIL);
    room.edit("room.toml", &format!("max_param_domain = {values}"), &format!("max_param_domain = {}", values - 1));
    room.not_agreed("evil", EVIL, "CONTROL_UNMET", 3);
    room.refused(&agreement, "CONTROL_CHANGED", 3);
    room.forge(&agreement, |terms| terms["controls"]["max_param_domain"] = json!(values - 1));
    room.refused(&agreement, "CONTROL_UNMET", 3);
}

/// Which of the two would count, a reader of the command could not tell.
#[test]
fn parameters_and_slots_given_twice() {
    let room = Fixture::new();
    room.not_agreed("evil", &[EVIL, &["--set", "attack=spin"]].concat(), "PARAMETER_INVALID", 3);
    room.not_agreed("evil", &[EVIL, &["--bind", "rows=rows", "--bind", "rows=purchases"]].concat(), "SLOT_MISSING", 3);
}

#[test]
fn an_unknown_destination() {
    let room = Fixture::new();
    let elsewhere = ["--set", "attack=none", "--set", "only_unit_with=-1", "--destination", "elsewhere"];
    room.not_agreed("evil", &elsewhere, "USAGE", 2);
    let agreement = room.agreed("evil", EVIL);
    room.forge(&agreement, |terms| terms["destination"]["id"] = json!("elsewhere"));
    room.refused(&agreement, "DESTINATION_CHANGED", 3);
}

/// A list tells its recipient about identifiers that it must already hold.
#[test]
fn a_list_for_a_recipient_without_a_view() {
    let room = Fixture::new();
    room.edit("room.toml", "recipient = \"brand\"", "recipient = \"agency\"");
    let list = ["--bind", "purchases=categories", "--set", "category=CHEESE", "--set", "heavy_from=2"];
    room.not_agreed("nonredeemers", &[list.as_slice(), &["--destination", "reports"]].concat(), "AGREEMENT_INVALID", 3);
}

#[test]
fn malformed_rooms() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let honest = room.read("room.toml");
    let text = room.read_text("room.toml");
    let controls = text.lines().find(|line| line.starts_with("controls = ")).unwrap();
    for (what, from, to) in [
        ("unknown field", "version = 1", "version = 1\nowner = \"me\""),
        ("unknown control", "k_min = 20", "k_min = 20, quorum = 0"),
        ("unknown version", "version = 1", "version = 2"),
        ("k of none", "k_min = 20", "k_min = 0"),
        ("k of one without noise", "k_min = 20", "mode = \"sealed-k\", k_min = 1"),
        ("a mode that is to come", "k_min = 20", "mode = \"opaque\", k_min = 20"),
        ("a slot of no length", "slot = \"100ms\"", "slot = \"0s\""),
        ("no epsilon", "epsilon = 10.0", "epsilon = 0.0"),
        ("epsilon NaN", "epsilon = 10.0", "epsilon = nan"),
        ("too much epsilon", "epsilon = 10.0", "epsilon = 11.0"),
        ("too much delta", "delta = 1e-6", "delta = 0.1"),
        ("array for a table", controls, "controls = [20]"),
        ("a party twice", "id = \"agency\"", "id = \"brand\""),
        ("a view twice", "id = \"purchases\"", "id = \"rows\""),
        ("a view of a stranger", "owner = \"retailer\"", "owner = \"stranger\""),
        ("a destination of a stranger", "recipient = \"brand\"", "recipient = \"stranger\""),
        ("a source outside of the room", "\"data/retailer/households.parquet\"", "\"../households.parquet\""),
        ("an absolute source", "\"data/retailer/households.parquet\"", "\"/data/households.parquet\""),
        ("a destination outside of the room", "folder = \"out/reports\"", "folder = \"../reports\""),
        ("no TOML", "version = 1", "version: 1"),
    ] {
        println!("{what}");
        room.edit("room.toml", from, to);
        room.refused(&agreement, "ROOM_INVALID", 2);
        room.not_agreed("evil", EVIL, "ROOM_INVALID", 2);
        room.write("room.toml", &honest);
    }
}

#[test]
fn keys_that_are_there_or_not() {
    let room = Fixture::new();
    let ana = room.read("keys/retailer.ana.pem");
    let new = |arguments: &[&str]| room.glovebox(&[&["key", "new", "--json"], arguments].concat());
    new(&["--party", "retailer", "--person", "ana"]).failed("KEY_EXISTS", 2);
    new(&["--party", "agency", "--person", "eve", "--key", "keys/brand.dan.pem"]).failed("KEY_EXISTS", 2);
    for (party, person) in [("Agency", "eve"), ("agency.eu", "eve"), ("agency", "Eve"), ("agency", "e/ve"), ("", "eve")]
    {
        new(&["--party", party, "--person", person, "--key", "keys/second.pem"]).failed("ID_INVALID", 3);
    }
    // A service is no person, and the key of one cannot be that of the other.
    new(&["--party", "retailer", "--service", "ana", "--key", "keys/second.pem"]).failed("REGISTRY_INVALID", 3);
    let mixed = ["--party", "retailer", "--service", "batch", "--scope", "approve", "--key", "keys/second.pem"];
    new(&mixed).failed("KEY_SCOPE", 3);
    assert!(!room.path("keys/second.pem").exists());
    assert!(!room.path("registry/2").exists(), "a refused key is in the registry's draft");
    assert_eq!(room.read("keys/retailer.ana.pem"), ana);

    // A second key of a person has its place in the draft, and is worth nothing before the parties sign that.
    let agreement = room.agree("evil", EVIL);
    let approve = |key: &str| room.glovebox(&["approve", &agreement, "--key", key, "--json"]);
    new(&["--party", "retailer", "--person", "ana", "--key", "keys/second.pem"]).succeeded();
    approve("keys/second.pem").failed("KEY_SCOPE", 3);
    room.sign_registry();
    approve("keys/second.pem").succeeded();

    approve("nowhere/ana.pem").failed("KEY_UNREADABLE", 2);
    assert!(!room.path("nowhere").exists(), "reading a key has made a folder");
    approve("room.toml").failed("KEY_UNREADABLE", 2);
    approve("keys").failed("KEY_UNREADABLE", 2);
    room.glovebox(&["run", &agreement, "--key", "keys/none.pem", "--json"]).failed("KEY_UNREADABLE", 2);
}

/// A public key that someone brings along is in the draft once, or not at all.
#[test]
fn public_keys_that_are_none() {
    let room = Fixture::new();
    let add = |key: &[u8]| {
        room.write("key.pub", key);
        room.glovebox(&["key", "add", "key.pub", "--party", "agency", "--person", "eve", "--json"])
    };
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    add(b"").failed("KEY_FORMAT", 3);
    add(&room.read("keys/retailer.ana.pem")).failed("KEY_FORMAT", 3);
    add(hex(&[[1].as_slice(), &[0; 31]].concat()).as_bytes()).failed("KEY_WEAK", 3);
    add(hex(&[0xff; 32]).as_bytes()).failed("KEY_NOT_CANONICAL", 3);
    add(hex(room.key("brand.dan").verifying_key().as_bytes()).as_bytes()).failed("KEY_DUPLICATE", 3);
    assert!(!room.path("registry/2").exists(), "a refused key is in the registry's draft");
}

/// A key of a runtime that no one registered runs nothing: its receipts would verify for nobody.
#[test]
fn a_runtime_key_that_is_not_registered() {
    let (room, stranger) = (Fixture::new(), Fixture::new());
    stranger.new_service("retailer", "other", "other");
    let agreement = room.agreed("evil", EVIL);
    for key in [stranger.path("keys/other.pem"), room.path("keys/brand.dan.pem")] {
        room.glovebox(&["run", &agreement, "--key", key.to_str().unwrap(), "--json"]).failed("KEY_UNKNOWN", 2);
    }
    assert!(room.outputs().is_empty() && room.spent().is_empty());
}

/// Can be agreed on, and is refused when it is to run.
#[track_caller]
fn refused_when_run(room: &Fixture, component: &[u8], manifest: &[u8], code: &str) {
    room.write("questions/forged.wasm", component);
    room.write("questions/forged.toml", manifest);
    let agreement = room.agreed("forged", &[EVIL, &["--beside"]].concat());
    room.refused(&agreement, code, 4);
}

/// Refused when it is agreed on, and when a run finds it agreed.
#[track_caller]
fn refused_twice(room: &Fixture, agreement: &str, component: &[u8], manifest: &[u8], code: &str) {
    room.forge_question(agreement, component, manifest);
    room.refused(agreement, code, 3);
    room.not_agreed("forged", EVIL, code, 3);
}

fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the test's own text")
}

/// A component that exports `measure` where the contract wants it, with a type of its own and this core module.
fn measuring(module: &str) -> String {
    measuring_beside("", module)
}

/// The same with more in the component.
fn measuring_beside(more: &str, module: &str) -> String {
    format!(
        r#"(component
            {more}
            (core module $m {module} (func (export "measure") (param i32) (result i32) local.get 0))
            (core instance $i (instantiate $m))
            (func $measure (param "x" u32) (result u32) (canon lift (core func $i "measure")))
            (instance (export "glovebox:question/analytical@0.2.0") (export "measure" (func $measure))))"#
    )
}
