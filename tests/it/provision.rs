//! Step 2 from outside: views that are not what the question needs. What a view may be is tested beside the code.

mod files;

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use serde_json::json;

use crate::support::data::{EVIL_HOUSEHOLDS, floats, ints, write_parquet};
use crate::support::forge::EVIL;
use crate::support::{CONTROLS, Fixture, Ran};

const HOUSEHOLDS: &str = "data/retailer/households.parquet";

#[test]
fn columns_that_do_not_fit() {
    for (code, sql) in [
        ("COLUMN_TYPE", "SELECT household_id, CAST(value AS VARCHAR) AS value FROM"),
        ("COLUMN_TYPE", "SELECT household_id, CAST(value AS BIGINT) AS value FROM"),
        ("COLUMN_MISSING", "SELECT household_id, value AS amount FROM"),
        ("COLUMN_MISSING", "SELECT value FROM"),
        ("COLUMN_TYPE", "SELECT value > 1 AS household_id, value FROM"),
        ("VIEW_INVALID", "SELECT nothing FROM"),
        ("VIEW_INVALID", "DELETE FROM"),
    ] {
        let room = Fixture::new();
        room.edit("room.toml", "SELECT household_id, value FROM", sql);
        room.not_agreed("evil", EVIL, code, 3);
    }
}

/// The same once everybody has signed: a manifest that the parties forged together asks for another type.
#[test]
fn columns_that_do_not_fit_an_agreed_question() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let manifest = room.read_text("questions/evil.toml");
    let column = |name: &str, kind: &str| json!({"name": name, "type": kind, "nullable": false});
    for (code, to, columns) in [
        ("COLUMN_TYPE", "type = \"utf8\" }", json!([column("value", "utf8")])),
        (
            "COLUMN_MISSING",
            "type = \"float64\" }, { name = \"none\", type = \"int64\" }",
            json!([column("value", "float64"), column("none", "int64")]),
        ),
    ] {
        let changed = manifest.replacen("type = \"float64\" }", to, 1);
        assert_ne!(changed, manifest, "the manifest has no such column");
        room.forge_question(&agreement, &room.component("evil"), changed.as_bytes());
        // The columns that the code sees are a term of their own.
        room.refused(&agreement, "AGREEMENT_INVALID", 3);
        room.forge(&agreement, |terms| terms["views"][0]["columns"] = columns);
        room.refused(&agreement, code, 3);
    }
}

/// Numbers here and text there would join no unit, and look like an empty answer.
#[test]
fn unit_columns_of_two_types() {
    let room = Fixture::new();
    room.edit(
        "room.toml",
        "SELECT household_id, basket_id",
        "SELECT CAST(household_id AS VARCHAR) AS household_id, basket_id",
    );
    let agreement = room.agreed("reach", &["--destination", "reports"]);
    room.refused(&agreement, "COLUMN_TYPE", 3);
}

#[test]
fn a_unit_column_of_nulls_only() {
    let room = Fixture::audited(CONTROLS);
    let nulls: ArrayRef = Arc::new(Int64Array::from(vec![None::<i64>; 3]));
    write_parquet(&room.path(HOUSEHOLDS), &[("household_id", nulls), ("value", floats([1.0, 2.0, 3.0].into_iter()))]);
    let agreement = room.agreed("evil", EVIL);
    room.withheld(&agreement, "UNIT_NULL");
}

#[test]
fn an_empty_view() {
    let room = Fixture::audited(CONTROLS);
    let agreement = room.agreed("evil", EVIL);
    write_parquet(&room.path(HOUSEHOLDS), &[("household_id", ints(vec![])), ("value", floats([].into_iter()))]);
    room.withheld(&agreement, "VIEW_EMPTY");
    // Rows there are, but none that the view's SQL keeps.
    write_parquet(&room.path(HOUSEHOLDS), &[("household_id", ints(vec![1])), ("value", floats([61.0].into_iter()))]);
    room.withheld(&agreement, "VIEW_EMPTY");
    // The room goes on working.
    write_parquet(&room.path(HOUSEHOLDS), &[("household_id", ints(vec![1])), ("value", floats([60.0].into_iter()))]);
    room.released(&agreement);
}

#[test]
fn files_that_cannot_be_read() {
    let room = Fixture::audited(CONTROLS);
    let agreement = room.agreed("evil", EVIL);
    let (path, honest) = (room.path(HOUSEHOLDS), room.read(HOUSEHOLDS));
    for bytes in
        [&honest[..honest.len() / 2], &honest[..honest.len() - 1], &honest[..4], b"", b"household_id,value\n1,2\n"]
    {
        room.write(HOUSEHOLDS, bytes);
        room.refused(&agreement, "VIEW_UNREADABLE", 3);
        room.not_agreed("evil", EVIL, "VIEW_UNREADABLE", 3);
    }
    // The footer is whole and the rows are not: found out only when they are read, and then it may tell of them.
    let mut torn = honest.clone();
    torn[4..64].fill(0xff);
    room.write(HOUSEHOLDS, &torn);
    room.withheld(&agreement, "VIEW_UNREADABLE");

    fs::remove_file(&path).unwrap();
    room.refused(&agreement, "VIEW_UNREADABLE", 3);
    fs::create_dir(&path).unwrap();
    room.refused(&agreement, "VIEW_UNREADABLE", 3);
}

#[test]
fn a_source_behind_a_symlink() {
    let (room, other) = (Fixture::new(), Fixture::new());
    let agreement = room.agreed("evil", EVIL);
    let path = room.path(HOUSEHOLDS);
    fs::remove_file(&path).unwrap();
    for target in [other.path(HOUSEHOLDS), room.path("data/brand/campaigns.parquet"), "/dev/zero".into()] {
        symlink(&target, &path).unwrap();
        room.refused(&agreement, "VIEW_UNREADABLE", 3);
        fs::remove_file(&path).unwrap();
    }
    fs::rename(room.path("data/retailer"), room.path("data/aside")).unwrap();
    symlink(other.path("data/retailer"), room.path("data/retailer")).unwrap();
    room.refused(&agreement, "VIEW_UNREADABLE", 3);
}

/// A party could otherwise provision what is another's, with no approval but its own.
#[test]
fn a_view_over_another_partys_file() {
    let path = "data/retailer/households.parquet";
    for (from, to) in [
        ("owner = \"retailer\"", "owner = \"brand\""),
        (path, "data/brand/campaigns.parquet"),
        (path, "out/reports/earlier.parquet"),
        ("id = \"brand\"", "id = \"brand\"\nfolder = \"data/retailer/inner\""),
    ] {
        let room = Fixture::new();
        room.edit("room.toml", from, to);
        room.not_agreed("evil", EVIL, "ROOM_INVALID", 2);
    }
    let room = Fixture::new();
    fs::create_dir(room.path("data/retailer/inner")).unwrap();
    fs::rename(room.path(path), room.path("data/brand/households.parquet")).unwrap();
    room.edit("room.toml", path, "data/retailer/link/households.parquet");
    symlink("../brand", room.path("data/retailer/link")).unwrap();
    room.not_agreed("evil", EVIL, "VIEW_UNREADABLE", 3);
}

/// All files of a folder, from the agreement to what the auditor reads; and one that is no longer of one kind.
#[test]
fn a_folder_as_a_source() {
    let room = Fixture::audited(CONTROLS);
    room.edit("room.toml", HOUSEHOLDS, "data/retailer/households/");
    fs::create_dir(room.path("data/retailer/households")).unwrap();
    fs::rename(room.path(HOUSEHOLDS), room.path("data/retailer/households/2026-01.parquet")).unwrap();
    let february = "data/retailer/households/2026-02.parquet";
    write_parquet(&room.path(february), &[("household_id", ints(vec![1])), ("value", floats([1.0].into_iter()))]);
    let agreement = room.agreed("evil", EVIL);
    let sources = |receipt: &str| {
        let sealed = room.sealed(receipt);
        let of = |source: &serde_json::Value| {
            let path = source["source"].as_str().unwrap().to_owned();
            assert_eq!(source["sha256"], crate::support::forge::sha256(&room.read(&path)));
            path
        };
        sealed["sources"].as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    let released = room.released(&agreement);
    assert_eq!(sources(&released.receipt), ["data/retailer/households/2026-01.parquet", february]);
    room.take(&released);

    // New data of the same kind may come: an agreement does not fix the rows.
    let march = "data/retailer/households/2026-03.parquet";
    write_parquet(&room.path(march), &[("household_id", ints(vec![2])), ("value", floats([2.0].into_iter()))]);
    let released = room.released(&agreement);
    assert_eq!(sources(&released.receipt).len(), 3);
    room.take(&released);

    write_parquet(&room.path(march), &[("household_id", ints(vec![2])), ("value", ints(vec![2]))]);
    let refused = room.refused(&agreement, "VIEW_UNREADABLE", 3);
    assert_eq!(
        refused.stderr.lines().next().unwrap(),
        format!(
            "VIEW_UNREADABLE: source `{march}` of view rows has other columns than \
             `data/retailer/households/2026-01.parquet`"
        )
    );
    fs::remove_file(room.path(march)).unwrap();
    room.write("data/retailer/households/2026-03.csv", b"household_id,value\n2,2.0\n");
    room.refused(&agreement, "VIEW_UNREADABLE", 3);
    room.not_agreed("evil", EVIL, "VIEW_UNREADABLE", 3);
    fs::remove_dir_all(room.path("data/retailer/households")).unwrap();
    fs::create_dir(room.path("data/retailer/households")).unwrap();
    room.refused(&agreement, "VIEW_UNREADABLE", 3);
}

/// The types of a CSV file are those of its records, so opening it looks at rows: one that changes a type is told like
/// any other, and charged.
#[test]
fn a_row_that_changes_the_types_of_a_csv_file() {
    let room = Fixture::audited(CONTROLS);
    room.edit("room.toml", HOUSEHOLDS, "data/retailer/households.csv");
    let rows = |odd: &str| {
        let rows = (1..=60).map(|id| format!("{id},{id}.5\n")).collect::<String>();
        format!("household_id,value\n{rows}{odd}")
    };
    let csv = "data/retailer/households.csv";
    room.write(csv, rows("").as_bytes());
    let agreement = room.agreed("evil", EVIL);
    room.write(csv, rows("61,odd\n").as_bytes());
    room.withheld(&agreement, "VIEW_CHANGED");
    room.write(csv, rows("").as_bytes());
    room.released(&agreement);
}

/// One party has addresses as people type them, the other has digests of them that somebody wrote in capitals. Each says
/// what that is, and they have the same households in common as by number.
#[test]
fn two_owners_with_rules_of_their_own_join_on_equal_keys() {
    let room = Fixture::audited(CONTROLS);
    let units = |agreement: &str| {
        let released = room.released(agreement);
        room.take(&released);
        room.sealed(&released.receipt)["figures"]["units"].as_u64().unwrap()
    };
    let reach = ["--destination", "reports"].as_slice();
    let by_number = units(&room.agreed("reach", reach));
    assert!(by_number > 300);

    let rules = |id: &str, rules: &str| {
        let view = format!("id = \"{id}\"");
        room.edit("room.toml", &view, &format!("{view}\nunit_rules = {rules}"));
    };
    rules("purchases", "[\"email\", \"sha256\"]");
    room.not_agreed("reach", reach, "COLUMN_TYPE", 3);
    let typed = "concat(' House.', household_id, '@Example.ORG\t') AS household_id";
    room.edit("room.toml", "SELECT household_id, basket_id", &format!("SELECT {typed}, basket_id"));
    let digests = "upper(encode(sha256(concat('house.', household_id, '@example.org')), 'hex')) AS household_id";
    room.edit(
        "room.toml",
        "SELECT household_id, campaign_id, campaign_type",
        &format!("SELECT {digests}, campaign_type"),
    );
    // Without a rule, capitals are other letters.
    assert_eq!(units(&room.agreed("reach", reach)), 0);
    rules("campaigns", "[\"hex\"]");
    let composed = room.glovebox(&[&["agree", "questions/reach.wasm"], reach].concat()).stdout;
    assert!(composed.contains("  views[slot=\"campaigns\"].view.unit_rules[0]: + \"hex\"\n"), "{composed}");
    assert!(composed.contains("\n    units by household_id, after: email, sha256\n"), "{composed}");
    assert_eq!(units(&room.agreed("reach", reach)), by_number);

    // The rules are terms: others are not what was signed.
    let agreement = room.agreed("reach", reach);
    room.edit("room.toml", "[\"hex\"]", "[\"trim\"]");
    room.refused(&agreement, "VIEW_CHANGED", 3);
    for unknown in ["[\"sha1\"]", "[\"sha256\", \"trim\"]", "[\"phone\"]", "\"trim\""] {
        let terms = room.read("room.toml");
        room.edit("room.toml", "[\"trim\"]", unknown);
        room.refused(&agreement, "ROOM_INVALID", 2);
        room.write("room.toml", &terms);
    }
}

/// What the brand knows of its campaigns' households is two addresses of each; the retailer says whose they are.
fn mapped() -> Fixture {
    let room = Fixture::audited(CONTROLS);
    let campaigns = "id = \"campaigns\"\nowner = \"brand\"\nunit = \"household_id\"";
    room.edit("room.toml", campaigns, "id = \"campaigns\"\nowner = \"brand\"\nunit = \"address\"\nunit_via = \"ids\"");
    let addresses = "SELECT concat(' House.', household_id, '@', campaign_id % 2) AS address";
    room.edit(
        "room.toml",
        "SELECT household_id, campaign_id, campaign_type",
        &format!("{addresses}, campaign_id, campaign_type"),
    );
    let pairs =
        |at: u32| format!("SELECT household_id, concat('house.', household_id, '@{at}') AS address FROM purchases");
    let ids = format!(
        "[[view]]\nid = \"ids\"\nowner = \"retailer\"\nunit = \"household_id\"\nid_column = \"address\"\n\
         id_rules = [\"lowercase\"]\nsources = {{ purchases = \"data/retailer/purchases.parquet\" }}\n\
         sql = \"\"\"{} UNION ALL {}\"\"\"\n\n[[destination]]\nid = \"reports\"",
        pairs(0),
        pairs(1)
    );
    room.edit("room.toml", "[[destination]]\nid = \"reports\"", &ids);
    room
}

const REACH: &[&str] = &["--destination", "reports"];

#[test]
fn several_identifiers_of_a_unit_join_through_a_mapping() {
    let by_number = {
        let room = Fixture::audited(CONTROLS);
        let released = room.released(&room.agreed("reach", REACH));
        room.sealed(&released.receipt)["figures"]["units"].clone()
    };
    let room = mapped();
    // Without its rule, an address is other than the mapping's.
    room.withheld(&room.agreed("reach", REACH), "UNIT_NULL");
    room.edit("room.toml", "unit_via = \"ids\"", "unit_via = \"ids\"\nunit_rules = [\"lowercase\"]");
    let composed = room.glovebox(&[&["agree", "questions/reach.wasm"], REACH].concat()).stdout;
    for line in [
        "\n    identifiers by address, after: lowercase, whose they are by retailer's mapping ids\n",
        "\n      from address, after: lowercase to household_id: one of them is mapped to at most 1 household(s)\n",
        " in retailer's purchases, brand's campaigns, retailer's ids were left out",
        " Rows of brand's campaigns are of those households to whom retailer's ids maps their identifier, at most 1, ",
    ] {
        assert!(composed.contains(line), "{composed}");
    }
    let agreement = room.agreed("reach", REACH);
    let released = room.released(&agreement);
    let sealed = room.sealed(&released.receipt);
    assert_eq!(sealed["figures"]["units"], by_number);
    let sources: Vec<_> = sealed["sources"].as_array().unwrap().iter().map(|source| source["view"].clone()).collect();
    assert_eq!(sources, ["purchases", "campaigns", "ids"]);
    let replay = ["replay", &released.receipt, "--identity", "keys/auditor.txt", "--json"];
    room.glovebox(&replay).succeeded();
    room.take(&released);

    // All of the mapping is terms, and stands in the view that goes through it.
    for (from, to) in [
        ("id_rules = [\"lowercase\"]", "id_rules = [\"trim\"]"),
        ("id_column = \"address\"", "id_column = \"address\"\nmax_units_per_id = 2"),
        ("'house.', household_id, '@1'", "'house.', household_id, '@2'"),
    ] {
        let terms = room.read("room.toml");
        room.edit("room.toml", from, to);
        room.refused(&agreement, "VIEW_CHANGED", 3);
        room.write("room.toml", &terms);
    }
    // A household moves in at another one's address.
    room.edit("room.toml", "concat('house.', household_id, '@1')", "concat('house.', greatest(household_id, 2), '@1')");
    room.withheld(&room.agreed("reach", REACH), "UNIT_SHARED");
}

/// Whose the mapping is approves like any other, its controls hold, and its dataset pays.
#[test]
fn a_mapping_of_a_party_that_has_not_approved() {
    let room = Fixture::audited(CONTROLS);
    fs::create_dir_all(room.path("data/agency")).unwrap();
    fs::copy(room.path(HOUSEHOLDS), room.path("data/agency/ids.parquet")).unwrap();
    let rows = "id = \"rows\"\nowner = \"retailer\"\nunit = \"household_id\"";
    let ids = "[[view]]\nid = \"ids\"\nowner = \"agency\"\nunit = \"household\"\nid_column = \"household_id\"\n\
               sources = { ids = \"data/agency/ids.parquet\" }\n\
               sql = \"SELECT household_id, household_id AS household FROM ids\"\n\n[[view]]\n";
    room.edit("room.toml", &format!("[[view]]\n{rows}"), &format!("{ids}{rows}\nunit_via = \"ids\""));
    room.not_agreed("evil", EVIL, "CONTROL_UNMET", 3);
    room.edit("room.toml", "id = \"agency\"", "id = \"agency\"\ncontrols = { max_param_domain = 10_000_000 }");
    let agreement = room.agreed("evil", EVIL);
    let terms: serde_json::Value =
        serde_json::from_str(&room.read_text(&format!("{agreement}/agreement.json"))).unwrap();
    assert_eq!(terms["budget"]["accounts"], json!(["agency, per household", "retailer, per household"]));
    let refused = room.refused(&agreement, "OWNER_MISSING", 3);
    assert!(refused.stderr.contains("agency"), "{}", refused.stderr);
}

/// A list holds identifiers that its recipient has itself: not those that another party's mapping makes of them.
#[test]
fn a_list_of_units_that_the_recipient_has_by_anothers_mapping_alone() {
    let room = mapped();
    room.not_agreed("nonredeemers", crate::support::LIST, "AGREEMENT_INVALID", 3);
}

#[test]
fn mappings_that_contradict_themselves() {
    for (from, to) in [
        ("unit_via = \"ids\"", "unit_via = \"none\""),
        ("unit_via = \"ids\"", "unit_via = \"campaigns\""),
        ("unit_via = \"ids\"", "unit_via = \"purchases\""),
        ("unit_via = \"ids\"", "unit_via = [\"ids\"]"),
        ("unit = \"address\"\nunit_via", "learnable_by = [\"brand\"]\nunit_via"),
        // Two mappings that name each other, and one that names itself.
        ("id_column = \"address\"", "id_column = \"address\"\nunit_via = \"ids\""),
        ("unit_via = \"ids\"", "unit_via = \"ids\"\nid_column = \"campaign_type\""),
        ("id_column = \"address\"", "id_column = \"household_id\""),
        ("id_column = \"address\"\n", ""),
        ("id_column = \"address\"", "id_column = \"address\"\nmax_units_per_id = 0"),
        ("id_column = \"address\"", "id_column = \"address\"\nmax_units_per_id = 65"),
        ("id_column = \"address\"", "id_column = \"address\"\nmax_units_per_id = -1"),
        ("id_rules = [\"lowercase\"]", "id_rules = [\"sha256\", \"trim\"]"),
        ("id_rules = [\"lowercase\"]", "id_rules = [\"sha1\"]"),
    ] {
        let room = mapped();
        room.edit("room.toml", from, to);
        // The second of two that name each other.
        if to.contains("campaign_type") {
            room.edit("room.toml", "id_column = \"address\"", "id_column = \"address\"\nunit_via = \"campaigns\"");
        }
        room.not_agreed("reach", REACH, "ROOM_INVALID", 2);
    }
}

/// Rows that a view keeps by a pseudonym of its unit: which, hangs on the key alone.
const BY_PSEUDONYM: [&str; 2] = ["WHERE value <= 60", "WHERE value <= 60 AND pseudonym(household_id) < '8'"];

/// What the reviewer reads is what runs: the masks stand in the SQL of the agreement, and an auditor's replay, which
/// knows no key of the host's, comes to the same.
#[test]
fn masks_are_what_the_agreement_says_and_what_a_replay_does() {
    let room = Fixture::audited(CONTROLS);
    room.edit("room.toml", BY_PSEUDONYM[0], BY_PSEUDONYM[1]);
    room.edit("room.toml", "household_id, value FROM", "household_id, bucket(value, 10) AS value FROM");
    let agreement = room.agreed("evil", EVIL);
    let terms: serde_json::Value =
        serde_json::from_str(&room.read_text(&format!("{agreement}/agreement.json"))).unwrap();
    assert_eq!(
        terms["views"][0]["view"]["sql"],
        format!("SELECT household_id, bucket(value, 10) AS value FROM households {}", BY_PSEUDONYM[1])
    );
    let first = room.released(&agreement);
    let units = room.sealed(&first.receipt)["figures"]["units"].clone();
    assert!((1..EVIL_HOUSEHOLDS).contains(&units.as_i64().unwrap()), "{units}");
    let replay = ["replay", &first.receipt, "--identity", "keys/auditor.txt", "--json"];
    room.glovebox(&replay).succeeded();
    // Another run of the room has the same key, also on data that is no repeat.
    room.take(&first);
    room.renew_data();
    let second = room.released(&agreement);
    assert_eq!((&room.sealed(&second.receipt)["figures"]["units"], &second.json["repeat_of"]), (&units, &json!(null)));

    for (code, mask) in [
        ("VIEW_INVALID", "mask(value)"),
        ("VIEW_INVALID", "bucket(value, random())"),
        ("VIEW_INVALID", "bucket(value)"),
        ("VIEW_INVALID", "uuid()"),
        ("COLUMN_TYPE", "generalise(CAST(value AS VARCHAR), 1)"),
    ] {
        let terms = room.read("room.toml");
        room.edit("room.toml", "bucket(value, 10) AS value", &format!("{mask} AS value"));
        room.not_agreed("evil", EVIL, code, 3);
        room.refused(&agreement, "VIEW_CHANGED", 3);
        room.write("room.toml", &terms);
    }
}

/// The same question of the same data is another one where values have other names.
#[test]
fn another_room_of_the_host_has_other_pseudonyms_and_repeats_no_answer() {
    for (sql, repeats) in [(BY_PSEUDONYM[0], true), (BY_PSEUDONYM[1], false)] {
        let first = Fixture::new();
        let second = Fixture::unsigned(CONTROLS);
        second.rename("elsewhere");
        let root = crate::support::forge::sha256(&second.read("registry/1/registry.json"));
        glovebox::trust_room(&second.dir(), &first.state(), &root).unwrap();
        for room in [&first, &second] {
            room.edit("room.toml", BY_PSEUDONYM[0], sql);
        }
        let released = first.released(&first.agreed("evil", EVIL));
        let state = first.state();
        let run = ["--state", state.to_str().unwrap(), "run", &second.agreed("evil", EVIL), "--json"];
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_glovebox"));
        let ran = Ran::of(program.current_dir(second.root()).args(run).output().unwrap());
        let repeat_of = ran.succeeded()["repeat_of"].clone();
        assert_eq!(repeat_of, if repeats { released.json["run_id"].clone() } else { json!(null) });
    }
}

/// People who sign are told where the promise rests on the SQL that they read.
#[test]
fn a_view_that_computes_across_units_is_named_when_it_is_agreed_on() {
    let room = Fixture::new();
    let note = "\nThe SQL of view rows may compute one household's rows from another's: what is promised protects its rows \
                as they come out, and what one of them tells of other households is its owner's own doing.\n";
    for (condition, views) in
        [("value <= 60", json!([])), ("value <= 60 AND value < (SELECT avg(value) FROM households)", json!(["rows"]))]
    {
        room.edit("room.toml", "WHERE value <= 60", &format!("WHERE {condition}"));
        let composed = room.glovebox(&[&["agree", "questions/evil.wasm"], EVIL].concat());
        assert_eq!(composed.stdout.contains(note), views != json!([]), "{}", composed.stdout);
        let json = room.glovebox(&[&["agree", "questions/evil.wasm", "--json"], EVIL].concat()).succeeded();
        assert_eq!(json["across_units"], views);
    }
}
