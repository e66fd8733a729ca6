//! The program as people and agents meet it: help, exit codes, JSON, and files that other tools read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use data_encoding::{BASE64, HEXLOWER};
use expect_test::expect;
use serde_json::Value;

use crate::support::forge::{EVIL, IN_TOTO, payload, pre_authentication_encoding, sha256};
use crate::support::{CONTROLS, Fixture, LIST, text};

const VERBS: &[&[&str]] = &[
    &["key", "new"],
    &["key", "add"],
    &["key", "retire"],
    &["key", "compromise"],
    &["key", "auditor"],
    &["key", "public"],
    &["registry", "show"],
    &["registry", "sign"],
    &["registry", "quorum"],
    &["registry", "witnesses"],
    &["registry", "auditor"],
    &["registry", "renew"],
    &["agree"],
    &["approve"],
    &["revoke"],
    &["run"],
    &["verify"],
    &["replay"],
    &["export"],
    &["log", "verify"],
    &["log", "prove"],
    &["log", "checkpoint"],
    &["log", "witness-request"],
    &["log", "cosign"],
    &["state", "show"],
    &["state", "trust"],
    &["state", "adopt"],
    &["show"],
    &["try"],
    &["identify"],
    &["ledger", "show"],
    &["ledger", "quote"],
    &["codes"],
    &["completions"],
];

#[test]
fn every_verb_has_help_that_explains_it() {
    let room = Fixture::new();
    for verb in VERBS.iter().copied() {
        for flag in ["--help", "-h"] {
            let ran = room.glovebox(&[verb, &[flag]].concat());
            assert_eq!((ran.exit_code, ran.stderr.as_str()), (0, ""), "{verb:?}");
            let usage = format!("Usage: glovebox {}", verb.join(" "));
            assert!(ran.stdout.contains(&usage) && !ran.stdout.starts_with("Usage"), "{verb:?}: {}", ran.stdout);
        }
    }
    let help = room.glovebox(&["--help"]).stdout;
    // Nothing is left out of the list.
    for folder in ["key", "registry", "log", "state", "ledger"] {
        let help = room.glovebox(&[folder, "--help"]).stdout;
        let listed = help.lines().filter(|line| line.starts_with("  ") && line.trim_start() == &line[2..]);
        let listed: Vec<&str> = listed.filter_map(|line| line.split_whitespace().next()).collect();
        let known = VERBS.iter().filter(|verb| verb[0] == folder).map(|verb| verb[1]);
        let listed = listed.into_iter().filter(|word| *word != "help" && !word.starts_with('-'));
        assert_eq!(listed.collect::<BTreeSet<_>>(), known.collect::<BTreeSet<_>>(), "{help}");
    }
    assert!(VERBS.iter().all(|verb| help.contains(&format!("\n  {} ", verb[0]))), "{help}");
    assert!((0..=7).all(|code| code == 1 || help.contains(&format!("\n  {code}  "))), "{help}");
    assert!(room.glovebox(&["--version"]).stdout.starts_with("glovebox "));
}

/// An example that does not parse is worse than none. Here each runs in an empty folder, and fails for that alone.
#[test]
fn examples_in_help_parse() {
    let room = Fixture::new();
    let mut examples = 0;
    for verb in VERBS.iter().copied() {
        let help = room.glovebox(&[verb, &["--help"]].concat()).stdout.replace("\\\n", " ");
        for line in help.lines().map(str::trim).filter(|line| line.starts_with("glovebox ")) {
            let folder = tempfile::tempdir().unwrap();
            // A missing file that only its user can know of is a usage error as well.
            fs::write(folder.path().join("cosignature"), "").unwrap();
            write_list(folder.path());
            let command = line.replacen("glovebox", &format!("'{}' --json", env!("CARGO_BIN_EXE_glovebox")), 1);
            let output = Command::new("sh")
                .args(["-c", &command])
                .current_dir(folder.path())
                .env("XDG_STATE_HOME", folder.path().join("state"))
                .output()
                .unwrap();
            let json: Value =
                serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{line}: {e}: {output:?}"));
            assert_ne!(json["code"], "USAGE", "{line}: {json}");
            examples += 1;
        }
    }
    assert!(examples >= 6, "{examples} examples");
}

/// A list of nobody with its opening, and a file of nobody's identifiers.
fn write_list(folder: &std::path::Path) {
    fs::create_dir_all(folder.join("out/activation")).unwrap();
    let digits = "00".repeat(32);
    let opening = format!("{{\"salt\":\"{digits}\",\"pseudonym_key\":\"{digits}\"}}");
    for (file, text) in [
        ("out/activation/nonredeemers-r1.csv", "pseudonym,segment\na,light\n"),
        ("out/activation/nonredeemers-r1.csv.opening.json", opening.as_str()),
        ("customers.csv", "household_id\n1\n"),
    ] {
        fs::write(folder.join(file), text).unwrap();
    }
}

#[test]
fn usage_errors_end_with_2() {
    let room = Fixture::new();
    for arguments in [
        ["frobnicate"].as_slice(),
        &["run"],
        &["run", "agreements/x", "--force"],
        &["run", "agreements/x", "--threads", "0"],
        &["agree", "questions/evil.wasm"],
        &["agree", "questions/evil.wasm", "--destination", "reports", "--set", "attack"],
        &["agree", "questions/evil.wasm", "--destination", "reports", "--days", "0"],
        &["approve", "agreements/x"],
        &["key", "new"],
        &["key", "new", "--party", "retailer"],
        &["key", "new", "--party", "retailer", "--person", "ana", "--service", "host"],
        &["key", "new", "--party", "retailer", "--service", "host", "--scope", "everything"],
        &["approve", "agreements/x", "--key", "keys/retailer.ana.pem", "--agent", "keys/retailer.ana.pub"],
        &["run", "agreements/x", "--within", "0"],
        &["agree", "questions/evil.wasm", "--destination", "reports", "--runs", "0"],
        &["revoke", "agreements/x", "--what", "sdk=0.1.0", "--key", "keys/retailer.ana.pem"],
        &["revoke", "--days", "91", "--key", "keys/retailer.ana.pem"],
        &["revoke", "--what", "everything=1", "--key", "keys/retailer.ana.pem"],
        &["state", "adopt"],
        &["log", "cosign", "nothing"],
        &["completions", "cobol"],
        &["ledger"],
        &["ledger", "quote"],
        &["try"],
        &["try", "agreements/x", "--units", "0"],
        &["identify", "list.csv"],
        &["identify", "list.csv", "--ids", "ids.csv", "--column", "id", "--out", "found.csv"],
        &["show", "room.toml"],
        &["show", "nothing.parquet"],
    ] {
        let people = room.glovebox(arguments);
        assert_eq!((people.exit_code, people.stdout.as_str()), (2, ""), "{arguments:?}: {people:?}");
        assert!(!people.stderr.is_empty());
        room.glovebox(&[arguments, &["--json"]].concat()).failed("USAGE", 2);
    }
    for arguments in [
        ["run", "x", "--key", "keys/runtime.pem"].as_slice(),
        &["verify", "x"],
        &["try", "x"],
        &["ledger", "quote", "x"],
    ] {
        room.glovebox(&[arguments, &["--room", "nowhere", "--json"]].concat()).failed("ROOM_INVALID", 2);
    }
}

/// Every code ends with the exit code that it is listed with.
#[test]
fn codes_are_listed_with_their_exit_codes() {
    let listed = Fixture::new().glovebox(&["codes", "--json"]).succeeded();
    let listed: Vec<(String, u64)> = listed["codes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|code| (code["code"].as_str().unwrap().to_owned(), code["exit_code"].as_u64().unwrap()))
        .collect();
    let known = glovebox::Code::ALL.iter().map(|code| (code.as_str().to_owned(), u64::from(code.stage().exit_code())));
    assert_eq!(listed, known.collect::<Vec<_>>());
    assert_eq!(listed.iter().map(|(code, _)| code).collect::<BTreeSet<_>>().len(), listed.len());
}

#[test]
fn every_verb_prints_one_json_object_with_stable_keys() {
    let room = Fixture::unsigned(CONTROLS);
    let mut shapes = String::new();
    let mut note = |what: &str, json: &Value| {
        let mut objects = BTreeMap::new();
        collect_keys(what, json, &mut objects);
        objects.iter().for_each(|(path, keys)| shapes += &format!("{path}: {}\n", keys.join(" ")));
    };
    let succeeds = |arguments: &[&str]| room.glovebox(&[arguments, &["--json"]].concat()).succeeded();
    let [ana, dan] = [["--key", "keys/retailer.ana.pem"], ["--key", "keys/brand.dan.pem"]];

    note("key auditor", &succeeds(&["key", "auditor"]));
    note("registry sign", &succeeds(&[["registry", "sign"], ana].concat()));
    succeeds(&[["registry", "sign"], dan].concat());
    let root = sha256(&room.read("registry/1/registry.json"));
    note("state trust", &succeeds(&["state", "trust", &root]));
    note("key new", &succeeds(&["key", "new", "--party", "agency", "--person", "eve"]));
    note("key public", &succeeds(&["key", "public", "keys/agency.eve.pem"]));
    note("registry renew", &succeeds(&["registry", "renew"]));
    note("registry show", &succeeds(&["registry", "show"]));

    note("agree", &succeeds(&[&["agree", "questions/evil.wasm"], EVIL].concat()));
    let approve = |key: [&str; 2]| succeeds(&[["approve", "agreements/evil-r1"], key].concat());
    note("try", &succeeds(&["try", "agreements/evil-r1", "--units", "100"]));
    note("ledger quote", &succeeds(&["ledger", "quote", "agreements/evil-r1"]));
    note("approve", &approve(ana));
    approve(dan);
    let run = room.run("agreements/evil-r1").succeeded();
    let receipt = run["receipt"].as_str().unwrap();
    note("run", &run);
    note("run, refused", &room.run("agreements/evil-r1").json());
    note(
        "agree, refused",
        &room.glovebox(&["agree", "questions/none.wasm", "--destination", "reports", "--json"]).json(),
    );
    note("verify", &succeeds(&["verify", receipt]));
    note("replay", &succeeds(&["replay", receipt, "--identity", "keys/auditor.txt"]));
    note("log verify", &succeeds(&["log", "verify"]));
    note("log prove", &succeeds(&["log", "prove", receipt]));
    note("log checkpoint", &succeeds(&["log", "checkpoint"]));
    note("log witness-request", &succeeds(&["log", "witness-request", "--out", "request"]));
    note("state show", &succeeds(&["state", "show"]));
    note("export", &succeeds(&[["export", "agreements/evil-r1", "--to", "exported"].as_slice(), &dan].concat()));
    note("revoke", &succeeds(&[["revoke", "agreements/evil-r1"], ana].concat()));
    note("show", &succeeds(&["show", run["output"]["path"].as_str().unwrap()]));
    note("ledger show", &succeeds(&["ledger", "show"]));
    let list = room.released(&room.agreed("nonredeemers", LIST)).output;
    let ids = ["--ids", "data/brand/campaigns.parquet", "--column", "household_id", "--out", "found.csv"];
    note("identify", &succeeds(&[&["identify", &list], ids.as_slice()].concat()));
    note("codes", &succeeds(&["codes"]));
    note("completions", &succeeds(&["completions", "bash"]));
    expect![[r#"
        key auditor: auditor key ok registry_version
        registry sign: in_force lacks ok registry_version sha256 signed_by
        state trust: folder ok root size
        key new: fingerprint holder ok registry_version
        key public: fingerprint ok public
        registry renew: ok registry_version
        registry show: current draft first_sha256 ok
        registry show.current: auditor expires format log parties quorum room version
        registry show.current.log: origin witnesses
        registry show.current.parties[]: id members
        registry show.current.parties[].members[]: id keys kind
        registry show.current.parties[].members[].keys[]: custody ed25519 not_after not_before scopes status
        registry show.draft: in_force lacks sha256 version
        agree: across_units agreement agreement_id needs ok register_kernel
        try: exact fuel memory_bytes ok register_kernel released trapped units
        try.exact: columns ok rows total
        try.released: columns ok rows total
        ledger quote: charges guarantee k_min mechanism mode noise ok runs_left threshold
        ledger quote.charges[]: account cost lifetime
        ledger quote.charges[].cost: bits_per_id delta_femtos epsilon_micros key_delta_femtos losses
        ledger quote.charges[].cost.losses[]: pure
        ledger quote.charges[].cost.losses[].pure: epsilon_micros
        ledger quote.charges[].lifetime: bits_per_id delta_femtos epsilon_micros
        ledger quote.noise[]: name standard_deviation
        approve: approval approved_by ok revocations
        run: charges decision ok output receipt run_id
        run.charges[]: account cost lifetime
        run.charges[].cost: bits_per_id delta_femtos epsilon_micros key_delta_femtos losses
        run.charges[].cost.losses[]: pure
        run.charges[].cost.losses[].pure: epsilon_micros
        run.charges[].lifetime: bits_per_id delta_femtos epsilon_micros
        run.output: guarantee k_min noise path rows threshold
        run.output.noise[]: name standard_deviation
        run, refused: charges code decision fact ok receipt remedy run_id
        agree, refused: code fact ok remedy
        verify: agreement_id checks code decision ok registry_sha256 run_id runtime
        verify.checks[]: holds what
        replay: ok output_commitment raw_sha256 rows run_id
        log verify: ok open_runs origin root size vkeys witnesses
        log prove: ok proof
        log checkpoint: checkpoint ok
        log witness-request: ok request
        state show: folder ok root size
        export: files ok to
        revoke: entries expires list ok revoked_by version
        show: columns ok rows total
        ledger show: accounts ok
        ledger show.accounts[]: account bits_per_id composed_epsilon delta_femtos epsilon_micros
        identify: found listed ok path
        codes: codes ok
        codes.codes[]: code exit_code meaning
        completions: ok script
    "#]]
    .assert_eq(&shapes);
}

/// The sorted keys of every object, by its path; the elements of an array share one.
fn collect_keys(at: &str, json: &Value, objects: &mut BTreeMap<String, Vec<String>>) {
    match json {
        Value::Object(fields) => {
            objects.insert(at.to_owned(), fields.keys().cloned().collect());
            fields.iter().for_each(|(name, value)| collect_keys(&format!("{at}.{name}"), value, objects));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_keys(&format!("{at}[]"), value, objects)),
        _ => {}
    }
}

/// Without `--json`: results on stdout, complaints on stderr, and the table as people read it.
#[test]
fn a_session_as_people_see_it() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let agreed = room.glovebox(&[&["agree", "questions/evil.wasm"], EVIL].concat());
    for piece in
        ["rows (retailer's view rows): value", "to brand (out/reports)", "Needs the approval of: brand, retailer."]
    {
        assert!(agreed.stdout.contains(piece), "{}", agreed.stdout);
    }
    let ran = room.glovebox(&["run", &agreement]);
    assert_eq!((ran.exit_code, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.starts_with("released out/reports/evil-r1.parquet (1 rows)\n"), "{}", ran.stdout);
    let again = room.glovebox(&["run", &agreement]);
    assert_eq!(again.exit_code, 6);
    assert!(again.stdout.starts_with("refused: DESTINATION_EXISTS\nreceipt: receipts/"), "{}", again.stdout);
    assert_eq!(again.stderr.lines().count(), 2);
    let shown = room.glovebox(&["show", "out/reports/evil-r1.parquet"]).stdout;
    assert!(shown.contains("│ group ┆ units ┆ value"), "{shown}");
    let codes = room.glovebox(&["codes"]).stdout;
    assert!(glovebox::Code::ALL.iter().all(|code| codes.contains(code.as_str())));
    let ledger = room.glovebox(&["ledger", "show"]).stdout;
    assert!(ledger.contains("retailer, per household") && ledger.contains(" 10 "), "{ledger}");
    // A repeat is free, and says whose answer it is.
    fs::remove_dir_all(room.path("out")).unwrap();
    let first = room.record(&receipt_in(&ran.stdout))["predicate"]["run_id"].as_str().unwrap().to_owned();
    let repeat = room.glovebox(&["run", &agreement]).stdout;
    assert!(repeat.contains(&format!("the answer of run {first}")) && !repeat.contains("charged"), "{repeat}");
    assert_eq!(room.glovebox(&["ledger", "show"]).stdout, ledger);

    let quote = room.glovebox(&["ledger", "quote", &agreement]).stdout;
    for piece in ["retailer, per household: epsilon 10 of 100", "such runs", "Nothing was spent"] {
        assert!(quote.contains(piece), "{quote}");
    }
    let tried = room.glovebox(&["try", &agreement, "--units", "100"]).stdout;
    for piece in ["100 made-up units", "exact:\n", "released:\n", "│ group ┆ units ┆ value", "nothing was spent"]
    {
        assert!(tried.contains(piece), "{tried}");
    }
    assert_eq!(room.glovebox(&["ledger", "show"]).stdout, ledger);
    let list = room.released(&room.agreed("nonredeemers", LIST));
    let ids = ["--ids", "data/brand/campaigns.parquet", "--column", "household_id", "--out", "found.csv"];
    let found = room.glovebox(&[&["identify", &list.output], ids.as_slice()].concat()).stdout;
    let rows = list.table.total;
    assert_eq!(found, format!("{rows} of {rows} listed units are yours: found.csv\n"));
}

/// The path of the receipt that a command names.
fn receipt_in(text: &str) -> String {
    text.lines().find_map(|line| line.strip_prefix("receipt: ")).expect("a receipt").to_owned()
}

#[test]
fn completions_for_every_shell() {
    let room = Fixture::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = room.glovebox(&["completions", shell]);
        assert!(ran.exit_code == 0 && ran.stdout.contains("glovebox") && ran.stdout.len() > 1_000, "{shell}: {ran:?}");
    }
}

/// A reader that has seen enough is no failure.
#[test]
fn a_closed_pipe() {
    let room = Fixture::new();
    let program = env!("CARGO_BIN_EXE_glovebox");
    let script = format!("('{program}' codes; echo $? > code) | true");
    assert!(Command::new("sh").args(["-c", &script]).current_dir(room.root()).status().unwrap().success());
    assert_eq!(room.read_text("code"), "0\n");
}

#[test]
fn private_keys_are_pem_files_for_their_owner_alone() {
    let room = Fixture::new();
    room.glovebox(&["key", "new", "--party", "agency", "--person", "eve", "--json"]).succeeded();
    let second = ["--party", "retailer", "--service", "second", "--key", "keys/second.pem"];
    room.glovebox(&[["key", "new", "--json"].as_slice(), &second].concat()).succeeded();
    for key in ["keys/agency.eve.pem", "keys/second.pem"] {
        let mode = fs::metadata(room.path(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key} has mode {mode:o}");
        assert!(room.read_text(key).starts_with("-----BEGIN PRIVATE KEY-----\n"));
        let Some(public) = openssl(&room, &["pkey", "-in", key, "-pubout", "-outform", "DER"]) else { return };
        // The last 32 bytes of the DER form are the key itself.
        let hex = HEXLOWER.encode(&public[public.len() - 32..]);
        assert!(room.read_text("registry/2/registry.json").contains(&hex), "openssl reads another key");
    }
}

/// Whoever distrusts this program checks approvals, lists, certificates and receipts with another.
#[test]
fn openssl_verifies_approvals_and_receipts() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let released = room.released(&agreement);
    let certificate = released.receipt.replace(".dsse.json", ".certificate.dsse.json");
    for key in ["retailer.ana", "runtime"] {
        let (private, public) = (format!("keys/{key}.pem"), format!("{key}.pub"));
        if openssl(&room, &["pkey", "-in", &private, "-pubout", "-out", &public]).is_none() {
            return;
        }
    }
    // The certificate names the principal's key.
    let certified: Value = serde_json::from_slice(&payload(&room.read(&certificate))).unwrap();
    let principal = HEXLOWER.decode(certified["predicate"]["principal"].as_str().unwrap().as_bytes()).unwrap();
    let spki = [HEXLOWER.decode(b"302a300506032b6570032100").unwrap(), principal].concat();
    room.write(
        "principal.pub",
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64.encode(&spki)).as_bytes(),
    );

    for (file, key, kind) in [
        (&format!("{agreement}/retailer.ana.dsse.json"), "retailer.ana", IN_TOTO),
        (&"registry/1/retailer.ana.dsse.json".into(), "retailer.ana", IN_TOTO),
        (&"revocations/retailer/1.dsse.json".into(), "retailer.ana", "application/vnd.glovebox.revocations+json"),
        (&certificate, "runtime", IN_TOTO),
        (&released.receipt, "principal", IN_TOTO),
    ] {
        let envelope: Value = serde_json::from_slice(&room.read(file)).unwrap();
        let signature = BASE64.decode(envelope["signatures"][0]["sig"].as_str().unwrap().as_bytes()).unwrap();
        room.write("signature", &signature);
        room.write("message", &pre_authentication_encoding(kind, &payload(&room.read(file))));
        let key = format!("{key}.pub");
        let verify =
            ["pkeyutl", "-verify", "-pubin", "-inkey", &key, "-rawin", "-in", "message", "-sigfile", "signature"];
        let said = String::from_utf8(openssl(&room, &verify).unwrap()).unwrap();
        assert!(said.contains("Signature Verified Successfully"), "{file}: {said}");
    }
}

/// What openssl prints; nothing, and a note, where it is not installed.
#[track_caller]
fn openssl(room: &Fixture, arguments: &[&str]) -> Option<Vec<u8>> {
    let Ok(output) = Command::new("openssl").args(arguments).current_dir(room.root()).output() else {
        println!("openssl is not installed: its reading of keys and signatures is not compared");
        return None;
    };
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

#[test]
fn a_plan_is_shown_and_nothing_is_spent() {
    let room = Fixture::new();
    let agreement = room.agree("reach", &["--destination", "reports"]);
    let state = || (room.spent(), room.outputs(), fs::read(room.path("log/checkpoint")).ok());
    let before = state();
    let shown = room.glovebox(&["run", &agreement, "--explain", "--json"]).succeeded();
    let slots = shown["slots"].as_array().unwrap();
    let told = slots.iter().map(|slot| [text(&slot["slot"]), text(&slot["view"]), text(&slot["join"])]);
    let told: Vec<_> = told.collect();
    assert_eq!(told, [["purchases", "purchases", "required"], ["campaigns", "campaigns", "required"]]);
    assert!(slots.iter().all(|slot| slot["scans"][0]["row_groups"].as_u64() >= Some(1)), "{shown}");
    let printed = room.glovebox(&["run", &agreement, "--explain"]).stdout;
    assert!(printed.contains("row groups") && printed.contains("Nothing was run or spent"), "{printed}");
    assert_eq!(state(), before);
    assert_eq!(fs::read_dir(room.path("receipts")).map_or(0, Iterator::count), 0);
}
