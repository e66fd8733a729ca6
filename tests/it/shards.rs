//! Groups of shards through the program: any of them come to the same, and one that ends takes its run with it.

use std::process::Stdio;
use std::time::Duration;

use crate::support::forge::EVIL;
use crate::support::{CONTROLS, Fixture, LIST, Ran, text};
use crate::worker::{children, signal};

const REACH: &[&str] = &["--destination", "sheets"];
const SPEND: &[&str] = &["--set", "large_from=50", "--destination", "sheets"];
const SEED: &[&str] = &["--set", "attack=seed", "--set", "only_unit_with=-1", "--destination", "reports"];

fn run(room: &Fixture, agreement: &str, groups: &str) -> Ran {
    room.glovebox(&["run", agreement, "--json", "--threads", "2", "--sort-memory", "64", "--groups", groups])
}

/// Runs in three groups, and again in others: what the units came to, and what was released, is the same to the byte.
#[track_caller]
fn is_the_same_in_any_groups(controls: &str, question: &str, terms: &[&str]) {
    let room = Fixture::audited(controls);
    let ran = run(&room, &room.agreed(question, terms), "3").succeeded();
    assert_eq!(ran["decision"], "released");
    let receipt = text(&ran["receipt"]);
    room.verify(&receipt).expect("the receipt verifies");
    let raw_sha256 = text(&room.sealed(&receipt)["raw_sha256"]);
    let commitment = &room.record(&receipt)["predicate"]["released"]["output_commitment"];
    for (groups, threads) in [("1", "1"), ("2", "2"), ("16", "2")] {
        let replay = ["replay", &receipt, "--identity", "keys/auditor.txt", "--threads", threads, "--groups", groups];
        let replayed = room.glovebox(&[&replay[..], &["--json"]].concat()).succeeded();
        let again = text(&replayed["raw_sha256"]);
        println!("SHARDS | {question} of 3 groups, again in {groups} | before any noise {again}");
        assert_eq!((&replayed["output_commitment"], &again), (commitment, &raw_sha256));
    }
}

#[test]
fn a_table_is_the_same_in_any_groups() {
    is_the_same_in_any_groups(CONTROLS, "reach", REACH);
}

#[test]
fn an_exact_table_is_the_same_in_any_groups() {
    is_the_same_in_any_groups(&format!("mode = \"sealed-k\", {CONTROLS}"), "reach", REACH);
}

#[test]
fn a_list_is_the_same_in_any_groups() {
    is_the_same_in_any_groups(CONTROLS, "nonredeemers", LIST);
}

#[test]
fn a_kernels_sums_are_the_same_in_any_groups() {
    is_the_same_in_any_groups(CONTROLS, "spend", SPEND);
}

/// The sum hangs on every unit's seed.
#[test]
fn seeds_are_the_same_in_any_groups() {
    is_the_same_in_any_groups(CONTROLS, "evil", SEED);
}

/// Who contributed is written down alike: the same numbers of the same units may leave again, however they are split.
#[test]
fn the_difference_guard_sees_the_same_units_in_any_groups() {
    let room = Fixture::audited(&format!("mode = \"sealed-k\", {CONTROLS}"));
    let agreement = room.agreed("reach", REACH);
    for groups in ["1", "3"] {
        let released = run(&room, &agreement, groups).succeeded();
        assert_eq!((&released["decision"], &released["repeat_of"]), (&"released".into(), &serde_json::Value::Null));
        let output = text(&released["output"]["path"]);
        for file in [output.clone(), format!("{output}.opening.json")] {
            std::fs::remove_file(room.path(&file)).expect("a result");
        }
        room.renew_data();
    }
}

/// The processes of a run that are groups.
fn groups_of(run: u32) -> Vec<u32> {
    let is_group = |id: &u32| {
        let command = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        command.split(|byte| *byte == 0).nth(1) == Some(glovebox::group::COMMAND.as_bytes())
    };
    children(run).into_iter().filter(is_group).collect()
}

/// A part that is missing is no smaller answer, but none; it is paid for once.
#[test]
fn a_run_whose_group_is_killed_is_withheld() {
    let room = Fixture::audited(CONTROLS);
    let agreement = room.agreed("evil", EVIL);
    let (outputs, spent) = (room.outputs(), room.spent());
    let mut command = room.command();
    command.args(["run", &agreement, "--json", "--threads", "2", "--sort-memory", "64", "--groups", "4"]);
    let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let group = loop {
        assert!(std::fs::exists(format!("/proc/{}/task", run.id())).expect("proc"), "the run ended");
        match groups_of(run.id()).first() {
            Some(group) => break *group,
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    signal(group, "KILL");
    let ran = Ran::of(run.wait_with_output().expect("it ends"));
    room.is_refused(&ran, "WITHHELD", 5);
    room.is_caused_by(&text(&ran.json()["receipt"]), "SHARDS_DIFFER");
    assert_eq!(ran.json()["charges"].as_array().map(Vec::len), Some(room.spent().len()));
    assert_ne!(room.spent(), spent, "free");
    assert_eq!(room.outputs(), outputs, "something stands in the destination");
    let paid = room.spent();
    run_of_one_group_costs_as_much(&room, &agreement, &paid);
}

/// The run that was withheld was charged what a released one is.
fn run_of_one_group_costs_as_much(
    room: &Fixture,
    agreement: &str,
    paid: &std::collections::BTreeMap<String, (u64, u32)>,
) {
    run(room, agreement, "1").succeeded();
    for (account, (epsilon, _)) in room.spent() {
        assert_eq!(epsilon, 2 * paid[&account].0, "{account}");
    }
}

#[test]
fn more_groups_than_there_are_shards_are_no_error() {
    let room = Fixture::audited(CONTROLS);
    room.edit("questions/evil.toml", "version = 1", "version = 1\nshards = 2");
    let agreement = room.agreed("evil", EVIL);
    run(&room, &agreement, "16").succeeded();
    room.edit("questions/evil.toml", "shards = 2", "shards = 0");
    room.not_agreed("evil", EVIL, "MANIFEST_INVALID", 3);
    room.edit("questions/evil.toml", "shards = 0", "shards = 4097");
    room.not_agreed("evil", EVIL, "MANIFEST_INVALID", 3);
}
