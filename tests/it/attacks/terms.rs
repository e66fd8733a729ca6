//! Attacks on what was agreed: another view, policy, destination or question under a consent that was given for these.
//!
//! Every approval here is validly signed. What an approval must look like by itself: `trust/tests/approval.rs`.

use std::fs;

use glovebox::Scope;
use serde_json::{Value, json};

use crate::support::Fixture;
use crate::support::forge::{EVIL, seal, sha256};

const REACH: &[&str] = &["--destination", "reports"];

/// Signs an approval of several things, of none, or of something that a digest of another kind names.
#[test]
fn c01_an_approval_of_other_than_one_subject() {
    let (room, agreement) = Fixture::with_evil();
    let id = room.id_of(&agreement);
    let right = json!({"name": "agreement.json", "digest": {"sha256": id}});
    let other = json!({"name": "agreement.json", "digest": {"sha256": sha256(b"another")}});
    let digest = |digest: Value| json!([{"name": "agreement.json", "digest": digest}]);
    for (subjects, code) in [
        (json!([]), "SUBJECT_MISMATCH"),
        (json!([right, right]), "SUBJECT_MISMATCH"),
        (json!([other, right]), "SUBJECT_MISMATCH"),
        (json!([other]), "SUBJECT_MISMATCH"),
        (digest(json!({"sha256": id.to_uppercase()})), "SUBJECT_MISMATCH"),
        (digest(json!({"sha512": id})), "MALFORMED"),
        (digest(json!({"md5": "00", "sha256": id})), "MALFORMED"),
    ] {
        let mut statement = room.anas(&agreement);
        statement["subject"] = subjects.clone();
        let sealed = seal(statement.to_string().as_bytes(), &room.key("retailer.ana"));
        println!("{subjects}");
        room.denied_with_approval(&agreement, sealed.to_string().as_bytes(), code);
    }
    room.is_unharmed(&agreement);
}

/// Takes the consent to one revision for the next, which nobody has signed.
#[test]
fn c02_an_approval_of_an_earlier_revision() {
    let (room, first) = Fixture::with_evil();
    let second = room.agree("evil", EVIL);
    for who in super::forge::approvers() {
        let name = format!("{who}.dsse.json");
        fs::copy(room.path(&format!("{first}/{name}")), room.path(&format!("{second}/{name}"))).unwrap();
    }
    room.denied(&second, "SUBJECT_MISMATCH");
    room.is_unharmed(&first);
}

/// Keeps the module that was approved, and puts another view under it: in the agreement, so that the consent is to
/// something else; or in the room.
#[test]
fn c03_another_view_under_an_approved_module() {
    let (room, agreement) = Fixture::with_evil();
    let path = format!("{agreement}/agreement.json");
    let terms = room.read("room.toml");
    let honest = room.read(&path);
    for (from, to) in [
        ("\"id\": \"rows\"", "\"id\": \"purchases\""),
        ("value <= 60", "value <= 61"),
        ("\"name\": \"value\"", "\"name\": \"other\""),
    ] {
        room.edit(&path, from, to);
        room.denied(&agreement, "SUBJECT_MISMATCH");
        room.write(&path, &honest);
    }
    for (from, to) in [
        ("WHERE value <= 60", "WHERE value <= 61"),
        ("SELECT household_id, value FROM", "SELECT household_id, value * 1000 AS value FROM"),
        ("households.parquet", "purchases.parquet"),
    ] {
        room.edit("room.toml", from, to);
        room.denied(&agreement, "VIEW_CHANGED");
        room.write("room.toml", &terms);
    }
    room.is_unharmed(&agreement);
}

/// Both parties sign terms that contradict themselves or the question: its digest of a view is of another one, it shows
/// the code columns that the question did not ask for, or charges other accounts.
#[test]
fn c03_terms_that_contradict_themselves() {
    let (room, agreement) = Fixture::with_evil();
    let honest = room.read(&format!("{agreement}/agreement.json"));
    let changes: [(&str, Value); 5] = [
        ("/views/0/definition_sha256", json!(sha256(b"another"))),
        ("/views/0/view/sql", json!("SELECT household_id, value FROM households")),
        ("/views/0/columns", json!([])),
        ("/budget/accounts", json!(["retailer to agency, per household"])),
        ("/runners", json!([])),
    ];
    for (pointer, value) in changes {
        room.forge(&agreement, |terms| *terms.pointer_mut(pointer).unwrap() = value);
        println!("{pointer}");
        room.denied(&agreement, "AGREEMENT_INVALID");
        room.write(&format!("{agreement}/agreement.json"), &honest);
    }
    super::forge::approvers().iter().for_each(|who| room.approve(&agreement, who));
    room.is_unharmed(&agreement);
}

/// Weakens the controls in the agreement, or in the room after all have signed.
#[test]
fn c04_a_weaker_policy() {
    let (room, agreement) = Fixture::with_evil();
    let path = format!("{agreement}/agreement.json");
    let (honest, terms) = (room.read(&path), room.read("room.toml"));
    room.edit(&path, "\"k_min\": 20", "\"k_min\": 2");
    room.denied(&agreement, "SUBJECT_MISMATCH");
    room.write(&path, &honest);

    room.edit("room.toml", "k_min = 20", "k_min = 2");
    room.denied(&agreement, "CONTROL_CHANGED");
    // Both sign the weaker numbers, but the owner's own are what they were.
    room.write("room.toml", &terms);
    room.forge(&agreement, |terms| terms["controls"]["k_min"] = json!(2));
    room.denied(&agreement, "CONTROL_CHANGED");
    room.write(&path, &honest);
    super::forge::approvers().iter().for_each(|who| room.approve(&agreement, who));
    room.is_unharmed(&agreement);
}

/// Sends the result elsewhere: to another destination, or to another place under the destination's name.
#[test]
fn c05_another_destination() {
    let (room, agreement) = Fixture::with_evil();
    let path = format!("{agreement}/agreement.json");
    let (honest, terms) = (room.read(&path), room.read("room.toml"));
    room.edit(&path, "\"recipient\": \"brand\"", "\"recipient\": \"agency\"");
    room.denied(&agreement, "SUBJECT_MISMATCH");
    room.write(&path, &honest);
    for (from, to) in [
        ("folder = \"out/reports\"", "folder = \"out/elsewhere\""),
        ("recipient = \"brand\"", "recipient = \"agency\""),
        ("id = \"reports\"", "id = \"report\""),
    ] {
        room.edit("room.toml", from, to);
        room.denied(&agreement, "DESTINATION_CHANGED");
        room.write("room.toml", &terms);
    }
    room.is_unharmed(&agreement);
}

/// Writes a number in a way that another reader takes for another number. Both parties have signed the text.
#[test]
fn c06_a_number_with_another_spelling() {
    let (room, agreement) = Fixture::with_evil();
    let path = format!("{agreement}/agreement.json");
    let honest = room.read_text(&path);
    for spelling in
        ["1e1", "10.0", "\"10\"", "\"١٠\"", "-0", "010", "0x0a", "9007199254740993", "18446744073709551616", "1e400"]
    {
        for field in ["epsilon_micros", "runs_max", "fuel_per_unit"] {
            let start = honest.find(&format!("\"{field}\": ")).unwrap() + field.len() + 4;
            let digits = honest[start..].find(|c: char| !c.is_ascii_digit()).unwrap();
            let changed = format!("{}{spelling}{}", &honest[..start], &honest[start + digits..]);
            room.sign_bytes(&agreement, changed.as_bytes());
            println!("{field}: {spelling}");
            room.denied(&agreement, "AGREEMENT_INVALID");
        }
    }
    room.write(&path, honest.as_bytes());
    super::forge::approvers().iter().for_each(|who| room.approve(&agreement, who));
    room.is_unharmed(&agreement);
}

/// Sets a parameter to what the manifest does not allow, sets one that it does not have, or leaves one out.
#[test]
fn c07_a_parameter_outside_of_its_domain() {
    let (room, agreement) = Fixture::with_evil();
    let honest = room.read(&format!("{agreement}/agreement.json"));
    let changes: [&dyn Fn(&mut Value); 5] = [
        &|terms| terms["parameters"][0]["value"] = json!("everything"),
        &|terms| terms["parameters"][1]["value"] = json!("1000001"),
        &|terms| terms["parameters"][1]["value"] = json!("1e3"),
        &|terms| terms["parameters"][1]["name"] = json!("another"),
        &|terms| drop(terms["parameters"].as_array_mut().unwrap().pop()),
    ];
    for change in changes {
        room.forge(&agreement, change);
        room.denied(&agreement, "PARAMETER_INVALID");
        room.write(&format!("{agreement}/agreement.json"), &honest);
    }
    super::forge::approvers().iter().for_each(|who| room.approve(&agreement, who));
    room.is_unharmed(&agreement);
}

/// Carries consent from one room to another: with the same names and other keys, or with the same keys and another name.
#[test]
fn c08_an_approval_of_another_room() {
    let ((room, agreement), (other, others)) = (Fixture::with_evil(), Fixture::with_evil());
    // All of the agreement, with its approvals, from the room of the same name.
    let terms = other.read(&format!("{others}/agreement.json"));
    let honest = room.backup(&agreement);
    room.write(&format!("{agreement}/agreement.json"), &terms);
    for who in super::forge::approvers() {
        let file = other.read(&format!("{others}/{who}.dsse.json"));
        room.write(&format!("{agreement}/{who}.dsse.json"), &file);
    }
    room.denied(&agreement, "SIGNATURE_INVALID");
    // Signed here as well, it is still about the other room's registry.
    for who in super::forge::approvers() {
        let role = if who == "brand.dan" { "recipient" } else { "data-owner" };
        let (party, person) = who.split_once('.').unwrap();
        let statement = crate::support::forge::statement_as(role, &sha256(&terms), party, person);
        room.put_approval(&agreement, &who, &seal(statement.to_string().as_bytes(), &room.key(&who)));
    }
    room.denied(&agreement, "REGISTRY_ROLLBACK");
    honest.restore();

    let mut statement = room.anas(&agreement);
    statement["predicate"]["room"] = json!("bakery");
    let sealed = seal(statement.to_string().as_bytes(), &room.key("retailer.ana"));
    room.denied_with_approval(&agreement, sealed.to_string().as_bytes(), "SUBJECT_MISMATCH");
    room.forge(&agreement, |terms| terms["room"] = json!("bakery"));
    room.denied(&agreement, "AGREEMENT_INVALID");
    honest.restore();
    room.is_unharmed(&agreement);
}

/// Uses names that look like others: Cyrillic letters, composed and decomposed ones, capitals, a trailing dot, a space of
/// no width. Names are ASCII; whatever is not is refused where it would come to be, and matches nothing where it is used.
#[test]
fn c09_names_that_look_alike() {
    let (room, agreement) = Fixture::with_evil();
    let terms = room.read("room.toml");
    for name in ["ret\u{430}iler", "re\u{301}tailer", "Retailer", "retailer.", "retailer\u{200b}", "retailer\u{212a}"] {
        println!("{}", name.escape_unicode());
        let ran = room.glovebox(&["key", "new", "--party", name, "--person", "eve", "--json"]);
        ran.failed("ID_INVALID", 3);
        let mut statement = room.anas(&agreement);
        statement["predicate"]["party"] = json!(name);
        let sealed = seal(statement.to_string().as_bytes(), &room.key("retailer.ana"));
        room.denied_with_approval(&agreement, sealed.to_string().as_bytes(), "SIGNER_MISMATCH");
    }
    // As the id of a view, there is no room.
    for id in ["r\u{43e}ws", "ro\u{301}ws", "Rows", "rows\u{200b}", " rows"] {
        room.edit("room.toml", "id = \"rows\"", &format!("id = \"{id}\""));
        room.denied_unlogged(&agreement, "ROOM_INVALID", || room.write("room.toml", &terms));
    }
    let honest = room.backup(&agreement);
    for look_alike in ["r\u{43e}ws", "Rows", "rows."] {
        room.forge(&agreement, |terms| {
            terms["views"][0]["view"]["id"] = json!(look_alike);
            // The digest that goes with it, so that only the name is wrong.
            let view = &terms["views"][0]["view"];
            let text = format!(
                "{{\"id\":{},\"owner\":{},\"unit\":{},\"unit_rules\":[],\"learnable_by\":[],\"lineage\":{},\"sql\":{},\"sources\":[{{\"table\":{},\"path\":{}}}]}}",
                view["id"],
                view["owner"],
                view["unit"],
                view["lineage"],
                view["sql"],
                view["sources"][0]["table"],
                view["sources"][0]["path"]
            );
            terms["views"][0]["definition_sha256"] = json!(sha256(text.as_bytes()));
        });
        room.denied(&agreement, "VIEW_CHANGED");
        honest.restore();
    }
    room.is_unharmed(&agreement);
}

/// Calls an analytical question a list, for which another quorum may be enough.
#[test]
fn c10_another_kind() {
    let (room, agreement) = Fixture::with_evil();
    let honest = room.backup(&agreement);
    room.forge(&agreement, |terms| terms["kind"] = json!("list"));
    room.denied(&agreement, "AGREEMENT_INVALID");
    honest.restore();
    room.new_quorum(
        "group everyone all retailer/ana brand/dan\nquorum root everyone\nquorum list retailer/ana\n\
         quorum analytical everyone",
    );
    room.forge(&agreement, |terms| terms["kind"] = json!("list"));
    room.denied(&agreement, "AGREEMENT_INVALID");
    honest.restore();
    room.is_unharmed(&agreement);
}

/// States another interface than the component has, or binds a component that asks for more than the manifest says.
#[test]
fn c11_another_interface() {
    let (room, agreement) = Fixture::with_evil();
    let honest = room.backup(&agreement);
    for field in ["name", "sdk", "sdk_version", "wit_sha256"] {
        room.forge(&agreement, |terms| terms["world"][field] = json!("another"));
        room.denied(&agreement, "WORLD_CHANGED");
        honest.restore();
    }
    let manifest = room.read("questions/evil.toml");
    let importing = wat::parse_str("(component (import \"wasi:cli/environment@0.2.0\" (instance)))").unwrap();
    room.forge_question(&agreement, &importing, &manifest);
    room.denied(&agreement, "COMPONENT_IMPORTS");
    honest.restore();
    // A component with another world than the one it is said to have, under its own digest.
    room.forge_question(&agreement, &room.component("nonredeemers"), &manifest);
    room.denied(&agreement, "WORLD_CHANGED");
    honest.restore();
    // And another question's manifest.
    room.forge_question(&agreement, &room.component("evil"), &room.read("questions/reach.toml"));
    room.denied(&agreement, "SLOT_MISSING");
    honest.restore();
    room.is_unharmed(&agreement);
}

/// Counts a signed no, or anything that is not a yes.
#[test]
fn c12_a_signed_refusal() {
    let (room, agreement) = Fixture::with_evil();
    for decision in ["reject", "approve ", "Approve", "", "withdraw"] {
        let mut statement = room.anas(&agreement);
        statement["predicate"]["decision"] = json!(decision);
        let sealed = seal(statement.to_string().as_bytes(), &room.key("retailer.ana"));
        room.denied_with_approval(&agreement, sealed.to_string().as_bytes(), "NOT_APPROVED");
    }
    room.is_unharmed(&agreement);
}

/// The author of a question, who has a key of the retailer's, says that he owns its data.
#[test]
fn c13_an_author_in_the_owners_place() {
    let room = Fixture::new();
    room.new_key_for("retailer", "vic", "retailer.vic", &[Scope::Author]);
    let agreement = room.agree("evil", EVIL);
    room.approve(&agreement, "brand.dan");
    let statement = crate::support::forge::statement(&room.id_of(&agreement), "retailer", "vic").to_string();
    room.put_approval(&agreement, "retailer.vic", &seal(statement.as_bytes(), &room.key("retailer.vic")));
    room.denied(&agreement, "KEY_SCOPE");
    fs::remove_file(room.path(&format!("{agreement}/retailer.vic.dsse.json"))).unwrap();
    room.approve(&agreement, "retailer.ana");
    room.is_unharmed(&agreement);
}

/// Reaches a weak quorum without an owner, or without the recipient: no text of a quorum can do without them.
#[test]
fn c14_a_quorum_without_an_owner() {
    let room = Fixture::new();
    room.new_quorum(
        "group everyone all retailer/ana brand/dan\ngroup someone any retailer/ana brand/dan\nquorum root everyone\n\
         quorum analytical someone\nquorum list someone",
    );
    let agreement = room.agree("reach", REACH);
    room.approve(&agreement, "brand.dan");
    let ran = room.denied(&agreement, "OWNER_MISSING");
    assert!(ran.stderr.contains("not approved by: retailer\n"), "{}", ran.stderr);
    // In a role that the party does not have, a signature does not count.
    let statement =
        crate::support::forge::statement_as("recipient", &room.id_of(&agreement), "retailer", "ana").to_string();
    room.put_approval(&agreement, "retailer.ana", &seal(statement.as_bytes(), &room.key("retailer.ana")));
    room.denied(&agreement, "OWNER_MISSING");
    room.approve(&agreement, "retailer.ana");
    room.is_unharmed(&agreement);

    let evil = room.agree("evil", EVIL);
    room.approve(&evil, "retailer.ana");
    let ran = room.denied(&evil, "OWNER_MISSING");
    assert!(ran.stderr.contains("not approved by: brand\n"), "{}", ran.stderr);
}

/// Writes a quorum that always holds, or never, or counts someone twice. All of these: `trust/tests/quorum.rs`.
#[test]
fn c15_a_quorum_that_means_nothing() {
    let (room, agreement) = Fixture::with_evil();
    for lines in [
        "group a 0 retailer/ana\nquorum root a",
        "group a 3 retailer/ana brand/dan\nquorum root a",
        "group a any\nquorum root a",
        "group a any b\ngroup b any a\nquorum root a",
        "group a any retailer/ana retailer/ana\nquorum root a",
        "group a any retailer/ana\ngroup b all a retailer/ana\nquorum root b",
        "quorum root nobody",
        "quorum root none",
        "quorum analytical retailer/ana",
    ] {
        room.write("quorum", lines.as_bytes());
        println!("{lines}");
        room.glovebox(&["registry", "quorum", "quorum", "--json"]).failed("POLICY_INVALID", 3);

        // Signed by all, as the first version, it makes no registry.
        let honest = room.read("registry/1/registry.json");
        let mut registry: Value = serde_json::from_slice(&honest).unwrap();
        registry["quorum"] = lines.lines().collect();
        room.write("registry/1/registry.json", registry.to_string().as_bytes());
        room.denied_unlogged(&agreement, "POLICY_INVALID", || room.write("registry/1/registry.json", &honest));
    }
    // A kind for which there is no quorum: nobody can approve it.
    room.new_quorum("group everyone all retailer/ana brand/dan\nquorum root everyone\nquorum list everyone");
    room.denied(&agreement, "QUORUM_MISSING");
    room.new_quorum("group everyone all retailer/ana brand/dan\nquorum root everyone\nquorum analytical everyone");
    room.is_unharmed(&agreement);
}

/// Swaps one of two approved agreements' parts for the other's: its view, its controls, its destination, its component.
/// Each was approved, but not in this company.
#[test]
fn four_swaps_between_two_approved_agreements() {
    let (room, first) = Fixture::with_evil();
    let second = room.agreed("reach", &["--destination", "sheets"]);
    let [honest, other]: [Value; 2] = [&first, &second]
        .map(|agreement| serde_json::from_slice(&room.read(&format!("{agreement}/agreement.json"))).unwrap());
    let backup = room.backup(&first);
    for parts in [
        &["views"][..],
        &["controls"],
        &["destination"],
        &["component", "component_path", "manifest", "manifest_path", "world"],
    ] {
        let mut swapped = honest.clone();
        for part in parts {
            swapped[part] = other[part].clone();
        }
        if parts == ["controls"] {
            // They are the same in this room: another agreement's would be looser.
            swapped["controls"]["k_min"] = json!(2);
        }
        assert_ne!(swapped, honest);
        // Nobody has signed the mixture,
        room.write(&format!("{first}/agreement.json"), swapped.to_string().as_bytes());
        room.denied(&first, "SUBJECT_MISMATCH");
        // and approvals of the other one do not help either.
        for who in super::forge::approvers() {
            room.write(&format!("{first}/{who}.dsse.json"), &room.read(&format!("{second}/{who}.dsse.json")));
        }
        room.denied(&first, "SUBJECT_MISMATCH");
        backup.restore();
    }
    room.is_unharmed(&first);
    room.is_unharmed(&second);
}

/// The same four in the room, under an agreement that all have approved.
#[test]
fn four_swaps_in_the_room() {
    let (room, agreement) = Fixture::with_evil();
    let (terms, component) = (room.read("room.toml"), room.read("questions/evil.wasm"));
    for (from, to, code) in [
        (
            "SELECT household_id, value FROM households",
            "SELECT household_id, 1.0 AS value FROM households",
            "VIEW_CHANGED",
        ),
        ("epsilon = 10.0", "epsilon = 9.0", "CONTROL_CHANGED"),
        ("folder = \"out/reports\"", "folder = \"out/sheets\"", "DESTINATION_CHANGED"),
    ] {
        room.edit("room.toml", from, to);
        room.denied(&agreement, code);
        room.write("room.toml", &terms);
    }
    room.write("questions/evil.wasm", &room.component("reach"));
    room.denied(&agreement, "COMPONENT_CHANGED");
    room.write("questions/evil.wasm", &component);
    room.is_unharmed(&agreement);
}
