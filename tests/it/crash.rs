//! A process that is killed leaves a room that goes on working: nothing is released and not charged, nothing that was
//! approved or withdrawn is lost, and whatever stands half done is finished, or named with a remedy that works.
//!
//! strace kills the real program right before its N-th call of a kind, for every N, in a fresh copy of the room each
//! time. The program has no hooks for this.

mod strace;

pub(crate) use strace::traced;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Stdio;

use chrono::{DateTime, TimeDelta, Utc};
use glovebox::{
    Clock, Code, Outcome, Request, StateStatus, load_key, registry_status, run, state_status, verify, verify_log,
};
use serde_json::Value;

use crate::support::forge::{EVIL, payload, sha256};
use crate::support::{CONTROLS, Fixture, PEOPLE, Ran, now, text};
use strace::killed_at_each;

/// What an evil question on its best behaviour costs of every account, in millionths of epsilon.
const COST_MICROS: u64 = 10_000_000;

/// Why the gate refuses what is withdrawn, or not approved by all.
const NOT_IN_FORCE: [Code; 4] = [Code::Revoked, Code::RevocationsMissing, Code::OwnerMissing, Code::QuorumMissing];

/// All calls that change what others see of a file system.
const CHANGES: &[&str] =
    &["mkdir", "mkdirat", "write", "pwrite64", "fsync", "fdatasync", "renameat", "linkat", "unlinkat"];

#[test]
fn a_killed_change_of_the_registry_leaves_the_old_version_or_the_new_one() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);

    let new_key = ["key", "new", "--party", "brand", "--person", "eve", "--key", "keys/eve.pem", "--json"];
    let points = killed_at_each(&room, &new_key, CHANGES, |at| {
        assert_eq!(version(&room), 1, "{at}");
        assert!(is_admitted(&room, &agreement), "{at}");
        let again = room.glovebox(&new_key);
        if again.exit_code != 0 {
            // The private key is there already; whether the draft has it too is what `key add` finds out.
            again.failed("KEY_EXISTS", 2);
            room.write("eve.pub", public_key(&room, "keys/eve.pem", "pem").as_bytes());
            let add = room.glovebox(&["key", "add", "eve.pub", "--party", "brand", "--person", "eve", "--json"]);
            if add.exit_code != 0 {
                add.failed("KEY_DUPLICATE", 3);
            }
        }
        room.sign_registry();
        assert_eq!(version(&room), 2, "{at}");
        let registered = room.read_text("registry/2/registry.json");
        assert!(registered.contains(&public_key(&room, "keys/eve.pem", "hex")), "{at}: {registered}");
    });
    assert!(points > 8, "{points}");

    let renew = ["registry", "renew", "--json"];
    let points = killed_at_each(&room, &renew, CHANGES, |at| {
        assert_eq!(version(&room), 1, "{at}");
        assert!(is_admitted(&room, &agreement), "{at}");
        room.glovebox(&renew).succeeded();
        room.sign_registry();
        assert_eq!(version(&room), 2, "{at}");
        assert!(is_admitted(&room, &agreement), "{at}");
    });
    assert!(points > 4, "{points}");

    room.glovebox(&renew).succeeded();
    room.glovebox(&["registry", "sign", "--key", "keys/retailer.ana.pem", "--json"]).succeeded();
    let sign = ["registry", "sign", "--key", "keys/brand.dan.pem", "--json"];
    let mut versions = Vec::new();
    let points = killed_at_each(&room, &sign, CHANGES, |at| {
        versions.push(version(&room));
        assert!(is_admitted(&room, &agreement), "{at}");
        if version(&room) == 1 {
            room.glovebox(&sign).succeeded();
        }
        assert_eq!(version(&room), 2, "{at}");
        assert!(is_admitted(&room, &agreement), "{at}");
    });
    assert!(points > 4 && versions.contains(&1) && versions.contains(&2), "{points}: {versions:?}");
}

#[test]
fn a_room_whose_first_command_was_killed_can_be_begun_again() {
    let room = Fixture::unsigned(CONTROLS);
    for folder in ["registry", "keys"] {
        fs::remove_dir_all(room.path(folder)).unwrap();
    }
    let first = ["key", "new", "--party", "retailer", "--person", "ana", "--json"];
    let points = killed_at_each(&room, &first, CHANGES, |at| {
        let again = room.glovebox(&first);
        if again.exit_code != 0 {
            again.failed("KEY_EXISTS", 2);
            fs::remove_file(room.path("keys/retailer.ana.pem")).unwrap();
            room.glovebox(&first).succeeded();
        }
        room.draft_key("brand", "dan");
        room.draft_service("retailer", "host", "runtime");
        room.sign_registry();
        assert_eq!(version(&room), 1, "{at}");
        assert!(room.spent().is_empty(), "{at}");
    });
    assert!(points > 10, "{points}");
}

/// What the host gets with its first room, key and ledger and anchor, is there in full or can be made again.
#[test]
fn a_host_whose_first_command_was_killed_can_be_begun_again() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let root = sha256(&room.read("registry/1/registry.json"));
    fs::remove_dir_all(room.state()).unwrap();
    let trust = ["state", "trust", &root, "--json"];
    let points = killed_at_each(&room, &trust, CHANGES, |at| {
        room.glovebox(&trust).succeeded();
        assert!(room.spent().is_empty(), "{at}");
        assert!(is_admitted(&room, &agreement), "{at}");
    });
    assert!(points > 8, "{points}");
    room.glovebox(&trust).succeeded();
    room.released(&agreement);
}

#[test]
fn a_killed_approval_is_there_or_can_be_given_again() {
    let room = Fixture::new();
    let agree = [&["agree", "questions/evil.wasm", "--json"], EVIL].concat();
    let points = killed_at_each(&room, &agree, &["mkdir", "mkdirat", "fsync", "linkat", "unlinkat"], |at| {
        let folder = text(&room.glovebox(&agree).succeeded()["agreement"]);
        PEOPLE.iter().for_each(|(party, person)| room.approve(&folder, &format!("{party}.{person}")));
        assert!(is_admitted(&room, &folder), "{at}");
    });
    assert!(points > 4, "{points}");

    let agreement = room.agree("evil", EVIL);
    room.approve(&agreement, "retailer.ana");
    let before = room.read(&format!("{agreement}/retailer.ana.dsse.json"));
    let approve = ["approve", &agreement, "--key", "keys/brand.dan.pem", "--json"];
    let mut admitted = Vec::new();
    let points = killed_at_each(&room, &approve, CHANGES, |at| {
        assert_eq!(room.read(&format!("{agreement}/retailer.ana.dsse.json")), before, "{at}");
        admitted.push(is_admitted(&room, &agreement));
        room.glovebox(&approve).succeeded();
        assert!(is_admitted(&room, &agreement), "{at}");
    });
    assert!(points > 20 && admitted.contains(&false) && admitted.contains(&true), "{points}: {admitted:?}");
}

#[test]
fn a_killed_withdrawal_is_there_or_can_be_made_again_and_none_before_it_is_lost() {
    let room = Fixture::new();
    let (ran, kept) = (room.agreed("evil", EVIL), room.agreed("evil", &[EVIL, &["--beside"]].concat()));
    let receipt = room.released(&ran).receipt;
    let withdrawn = room.agreed("evil", &[EVIL, &["--beside"]].concat());
    room.glovebox(&["revoke", &withdrawn, "--key", "keys/brand.dan.pem", "--json"]).succeeded();

    let revoke = ["revoke", &kept, "--key", "keys/brand.dan.pem", "--json"];
    let mut admitted = Vec::new();
    let points = killed_at_each(&room, &revoke, CHANGES, |at| {
        assert!(!is_admitted(&room, &withdrawn), "{at}");
        admitted.push(is_admitted(&room, &kept));
        room.glovebox(&revoke).succeeded();
        assert!(!is_admitted(&room, &kept) && !is_admitted(&room, &withdrawn), "{at}");
        verify(&room.dir(), &receipt, None, now()).expect(at);
    });
    assert!(points > 4 && admitted.contains(&false) && admitted.contains(&true), "{points}: {admitted:?}");
}

/// Its log, its receipts and its destination have no folder yet.
#[test]
fn a_killed_first_run_releases_nothing_that_is_not_charged() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let points = kill_runs(&room, &agreement, &["mkdir", "mkdirat", "pwrite64", "fdatasync", "renameat", "linkat"]);
    assert!(points > 30, "{points}");
}

#[test]
fn a_killed_run_releases_nothing_that_is_not_charged() {
    let room = Fixture::new();
    room.released(&room.agreed("evil", EVIL));
    let agreement = room.agreed("evil", &[EVIL, &["--beside"]].concat());
    room.renew_data();
    let points = kill_runs(&room, &agreement, &["fsync"]);
    assert!(points > 30, "{points}");
}

/// Kills a run of an agreement at each call, and lets another one follow.
fn kill_runs(room: &Fixture, agreement: &str, calls: &[&str]) -> usize {
    let arguments = ["run", agreement, "--threads", "1", "--sort-memory", "64", "--json"];
    let before = Standing::of(room);
    let (mut seen, mut repeated) = (BTreeMap::<_, usize>::new(), BTreeMap::<_, usize>::new());
    let points = killed_at_each(room, &arguments, calls, |at| {
        let killed = Standing::of(room);
        let is_new = |name: &&String| !before.results.contains(name);
        let result = killed.results.iter().find(is_new);
        let is_charged = killed.spent_micros == before.spent_micros + COST_MICROS;
        assert!(is_charged || (killed.spent_micros == before.spent_micros && result.is_none()), "{at}: {killed:?}");
        let is_certified = killed.records.certified.len() > before.records.certified.len();
        let has_ended = killed.records.ended.len() > before.records.ended.len();
        // Amounts are reserved before the log knows of the run: what is spent is never less than what the log says.
        assert!(is_charged || !is_certified, "{at}: {killed:?}");
        *seen.entry((is_certified, is_charged, result.is_some(), has_ended)).or_default() += 1;
        receipts_stand(room, &before.records, at);

        // A result, or an opening whose result did not get its name any more, is moved away first.
        let opening =
            room.path(&format!("out/reports/{}.parquet.opening.json", agreement.trim_start_matches("agreements/")));
        if result.is_some() || opening.exists() {
            let again = run_after_the_window(room, agreement);
            assert_eq!(again.result.expect_err(at).code(), Code::DestinationExists, "{at}");
            assert!(room.path(&format!("receipts/{}.dsse.json", again.run_id)).exists());
            fs::rename(opening, room.path("opening-moved-away")).expect(at);
            if let Some(result) = result {
                fs::rename(room.path(result), room.path("moved-away")).unwrap();
            }
        }
        let again = run_after_the_window(room, agreement);
        let released = again.result.expect(at);
        verify(&room.dir(), &again.receipt, None, later()).expect(at);
        let after = Standing::of(room);
        assert!(after.results.contains(&released.path), "{at}: {after:?}");
        // An answer that the killed run had paid for and kept may leave, and costs nothing more.
        let is_charged_again = match &again.repeat_of {
            Some(run) => {
                assert!(is_charged && is_new_run(&killed.records, &before.records, run), "{at}: {killed:?}");
                false
            }
            None => true,
        };
        assert_eq!(again.charges.is_empty(), !is_charged_again, "{at}");
        assert_eq!(after.spent_micros, killed.spent_micros + u64::from(is_charged_again) * COST_MICROS, "{at}");
        *repeated.entry(!is_charged_again).or_default() += 1;
        // Whoever had a principal and did not end it, was lost; every other one ended with its run.
        let mut ends = killed.records.ended.clone();
        let open = killed.records.certified.iter().filter(|run| !killed.records.ended.contains_key(*run));
        ends.extend(open.map(|run| (run.clone(), "lost".to_owned())));
        ends.insert(again.run_id, "closed".into());
        assert_eq!(after.records.ended, ends, "{at}");
    });
    // Nothing of this would be tested if no kill fell between two of these states.
    for state in [
        (false, false, false, false),
        (false, true, false, false),
        (true, true, false, false),
        (true, true, false, true),
    ] {
        assert!(seen.contains_key(&state), "no kill left {state:?}: {seen:?}");
    }
    assert_eq!(repeated.len(), 2, "no kill fell before, or after, the answer was kept: {repeated:?}");
    // A result has its name once the log has its receipt, and not before.
    assert!(!seen.contains_key(&(true, true, true, false)), "{seen:?}");
    points
}

/// Whether a run was begun in between.
fn is_new_run(after: &Records, before: &Records, run: &String) -> bool {
    after.certified.contains(run) && !before.certified.contains(run)
}

/// Receipts of earlier runs verify; one of the killed run does as soon as the log has it and its proof is made.
fn receipts_stand(room: &Fixture, before: &Records, at: &str) {
    let records = Records::of(room);
    let receipts = fs::read_dir(room.path("receipts")).into_iter().flatten();
    let names = receipts.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_receipt =
        |name: &String| !name.starts_with('.') && name.matches('.').count() == 2 && name.ends_with(".dsse.json");
    for name in names.filter(is_receipt) {
        let path = format!("receipts/{name}");
        let run_id = name.trim_end_matches(".dsse.json");
        if before.receipts.iter().any(|known| known == run_id) {
            verify(&room.dir(), &path, None, now()).expect(at);
        } else if records.receipts.iter().any(|known| known == run_id) {
            room.glovebox(&["log", "prove", &path, "--json"]).succeeded();
            verify(&room.dir(), &path, None, now()).expect(at);
        } else {
            assert_eq!(verify(&room.dir(), &path, None, now()).expect_err(at).code(), Code::ReceiptInvalid, "{at}");
        }
    }
}

#[test]
fn runs_at_once_are_each_charged_logged_and_ended_once() {
    let room = Fixture::new();
    let agreements = room.four_evil_agreements();
    let arguments = |agreement: &String| vec!["run".to_owned(), agreement.clone(), "--json".into()];
    let ran = at_once(&room, "mkdir,mkdirat,linkat", &agreements.iter().map(arguments).collect::<Vec<_>>());
    for ran in ran {
        verify(&room.dir(), &text(&ran.succeeded()["receipt"]), None, now()).expect("a receipt");
    }
    let standing = Standing::of(&room);
    assert_eq!((standing.spent_micros, standing.results.len()), (4 * COST_MICROS, 4), "{standing:?}");
    assert_eq!(standing.records.ended.len(), 4, "{standing:?}");
    assert!(standing.records.ended.values().all(|end| end == "closed"), "{standing:?}");
    assert_eq!((standing.records.receipts.len(), standing.records.size), (4, 12), "{standing:?}");
}

#[test]
fn keys_that_are_made_at_once_are_all_registered() {
    let room = Fixture::new();
    let people = ["a", "b", "c", "d"];
    let arguments = people
        .map(|person| ["key", "new", "--party", "brand", "--person", person, "--json"].map(str::to_owned).to_vec());
    at_once(&room, "renameat", &arguments).iter().for_each(|ran| drop(ran.succeeded()));
    room.sign_registry();
    let registered = room.read_text("registry/2/registry.json");
    for person in people {
        let key = public_key(&room, &format!("keys/brand.{person}.pem"), "hex");
        assert!(registered.contains(&key), "the key of {person} is lost: {registered}");
    }
}

#[test]
fn agreements_approvals_and_withdrawals_at_once_are_all_counted() {
    let room = Fixture::new();
    let command = |name: &'static str, rest: &[&str]| {
        let rest: Vec<String> = rest.iter().map(|&argument| argument.to_owned()).collect();
        move |what: &String| [&[name.to_owned(), what.clone(), "--json".into()], rest.as_slice()].concat()
    };
    let question = "questions/evil.wasm".to_owned();
    let agree = command("agree", &[EVIL, &["--beside"]].concat());
    let folders = at_once(&room, "linkat", &[agree(&question), agree(&question), agree(&question)]);
    let folders: Vec<String> = folders.iter().map(|ran| text(&ran.succeeded()["agreement"])).collect();
    let withdrawn: Vec<String> = (0..3).map(|_| room.agreed("evil", &[EVIL, &["--beside"]].concat())).collect();

    let key = ["--key", "keys/brand.dan.pem"];
    let approvals = folders.iter().map(command("approve", &key));
    let all: Vec<_> = approvals.chain(withdrawn.iter().map(command("revoke", &key))).collect();
    at_once(&room, "renameat,linkat", &all).iter().for_each(|ran| drop(ran.succeeded()));
    for folder in &withdrawn {
        assert!(!is_admitted(&room, folder), "{folder} is not withdrawn");
    }
    for folder in &folders {
        room.approve(folder, "retailer.ana");
        assert!(is_admitted(&room, folder), "{folder} is not approved");
    }
    let sequence = |folder: &String| {
        let approval = payload(&room.read(&format!("{folder}/brand.dan.dsse.json")));
        serde_json::from_slice::<Value>(&approval).unwrap()["predicate"]["sequence"].as_u64().unwrap()
    };
    let sequences: BTreeSet<u64> = folders.iter().chain(&withdrawn).map(sequence).collect();
    assert_eq!(sequences, (1..=6).collect(), "approvals share a number");
}

/// A runtime without the right to write the log gets no principal; its certificate must not stand beside the receipt.
#[test]
fn what_the_log_does_not_take_is_refused_with_a_receipt_that_verifies() {
    let room = Fixture::new();
    let key = "keys/spare.pem";
    let service = ["--party", "retailer", "--service", "spare", "--scope", "runtime", "--key", key, "--json"];
    room.glovebox(&[&["key", "new"], service.as_slice()].concat()).succeeded();
    room.sign_registry();
    let agreement = room.agreed("evil", EVIL);
    let ran = room.glovebox(&["run", &agreement, "--key", key, "--json"]);
    room.is_refused(&ran, "KEY_SCOPE", 3);
    assert_eq!(ran.json()["charges"], serde_json::json!([]));
    assert!(room.outputs().is_empty() && room.spent().is_empty());
}

/// Starts all of these commands, and waits for all of them. Each holds on before every call of these kinds: what one
/// has read, the others get time to change.
fn at_once(room: &Fixture, calls: &str, commands: &[Vec<String>]) -> Vec<Ran> {
    let start = |arguments: &Vec<String>| {
        traced(room, calls, "delay_enter=200000")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace does not start: install the package strace")
    };
    let children: Vec<_> = commands.iter().map(start).collect();
    children.into_iter().map(|child| Ran::of(child.wait_with_output().expect("the program ends"))).collect()
}

/// What stands in a room. To read it is to check it: the log verifies, and host, log and ledger agree.
#[derive(Debug)]
struct Standing {
    results: Vec<String>,
    spent_micros: u64,
    records: Records,
}

impl Standing {
    fn of(room: &Fixture) -> Self {
        let (state, records) = (state(room), Records::of(room));
        assert_eq!(state.size, records.size, "the host has seen another log");
        match verify_log(&room.dir(), &room.state(), now()) {
            Ok(log) => {
                assert_eq!((log.size, log.open_runs), (records.size, records.certified.len() - records.ended.len()))
            }
            Err(fault) => assert_eq!((fault.fact(), records.size), ("the room has no log yet", 0)),
        }
        let inner =
            |path: &Path| path.strip_prefix(room.root()).expect("in the room").to_str().expect("text").to_owned();
        let is_result = |path: &String| {
            let name = path.rsplit('/').next().unwrap();
            !name.starts_with('.') && !name.ends_with(".opening.json")
        };
        let results = room.outputs().keys().map(|path| inner(path)).filter(is_result).collect();
        let mut spent = room.spent().into_values().map(|(epsilon_micros, _)| epsilon_micros);
        let spent_micros = spent.next().unwrap_or(0);
        assert!(spent.all(|other| other == spent_micros), "the accounts are charged differently");
        Self { results, spent_micros, records }
    }
}

fn state(room: &Fixture) -> StateStatus {
    state_status(&room.dir(), &room.state()).expect("the host knows the room")
}

/// What the log says of runs, read by a reader of its own from the tiles' bytes.
#[derive(Debug, Default)]
struct Records {
    size: u64,
    certified: Vec<String>,
    receipts: Vec<String>,
    /// How each run's principal ended.
    ended: BTreeMap<String, String>,
}

impl Records {
    fn of(room: &Fixture) -> Self {
        if !room.path("log/checkpoint").exists() {
            return Self::default();
        }
        let checkpoint = room.read_text("log/checkpoint");
        let size: u64 = checkpoint.lines().nth(1).and_then(|line| line.parse().ok()).expect("a size");
        assert!((1..256).contains(&size), "more than one bundle");
        let bundle = room.read(&format!("log/tile/entries/000.p/{size}"));
        let mut records = Self { size, ..Self::default() };
        let mut rest = bundle.as_slice();
        while let [high, low, tail @ ..] = rest {
            let (entry, after) = tail.split_at(usize::from(u16::from_be_bytes([*high, *low])));
            records.learn(&serde_json::from_slice(&payload(entry)).expect("a statement"));
            rest = after;
        }
        records
    }

    fn learn(&mut self, statement: &Value) {
        let predicate = &statement["predicate"];
        let run_id = text(&predicate["run_id"]);
        match statement["predicateType"].as_str().expect("a type") {
            "https://glovebox.dev/certificate/v1" => self.certified.push(run_id),
            "https://glovebox.dev/run/v1" => self.receipts.push(run_id),
            _ => {
                let twice = self.ended.insert(run_id, text(&predicate["end"]));
                assert!(twice.is_none(), "a principal ended twice: {statement}");
            }
        }
    }
}

fn public_key(room: &Fixture, file: &str, format: &str) -> String {
    text(&room.glovebox(&["key", "public", file, "--format", format, "--json"]).succeeded()["public"])
}

/// The version of the registry that is in force.
fn version(room: &Fixture) -> u64 {
    registry_status(&room.dir()).expect("a registry").current.expect("a version in force").version
}

/// Whether the gate lets a run through. It ends before it has a principal, by a nonce that is none.
fn is_admitted(room: &Fixture, agreement: &str) -> bool {
    match ask(room, agreement, Some("none"), now()).result {
        Err(fault) if fault.code() == Code::Usage => true,
        Err(fault) if NOT_IN_FORCE.contains(&fault.code()) => false,
        other => panic!("{agreement}: {other:?}"),
    }
}

/// When every principal that there is has ended.
fn later() -> DateTime<Utc> {
    now() + TimeDelta::hours(2)
}

fn run_after_the_window(room: &Fixture, agreement: &str) -> Outcome {
    ask(room, agreement, None, later())
}

fn ask(room: &Fixture, agreement: &str, nonce: Option<&str>, at: DateTime<Utc>) -> Outcome {
    let (root, state) = (room.root(), room.state());
    let key = load_key(&room.path("keys/runtime.pem")).expect("a key");
    let request = Request {
        room: &root,
        agreement,
        key: &key,
        threads: 1,
        groups: 1,
        sort_memory_bytes: 64 << 20,
        state: &state,
        store: None,
        nonce,
        minutes: 60,
        clock: Clock::Fixed(at),
        worker: Some(Path::new(env!("CARGO_BIN_EXE_glovebox"))),
    };
    run(&request, &|_| {}).expect("a run that is recorded")
}
