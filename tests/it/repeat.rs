//! What is asked again: the same question on the same data gets the same answer, at no cost; and an agreement pauses that
//! is run too often, or too often without a result.

use std::fs;

use chrono::TimeDelta;
use glovebox::Clock;
use serde_json::{Value, json};

use crate::support::data::{floats, ints, write_parquet};
use crate::support::forge::EVIL;
use crate::support::{CONTROLS, Fixture, LIST, Released, now, text};

const HOUSEHOLDS: &str = "data/retailer/households.parquet";

/// Enough for one run and no more.
const ONE_RUN: &str = "epsilon = 10.0, delta = 1e-6, k_min = 20, lifetime = { epsilon = 10.0, delta = 1e-3 }";

/// A run whose answer is another's: free, with a receipt that says whose, and that verifies.
#[track_caller]
fn repeats(room: &Fixture, agreement: &str, first: &Released) -> Released {
    let spent = room.spent();
    let repeat = room.released(agreement);
    assert_eq!(repeat.json["charges"], json!([]));
    assert_eq!(room.spent(), spent, "the ledger has changed");
    let predicate = &repeat.record["predicate"];
    assert_eq!((&predicate["charges"], &predicate["repeat_of"]), (&json!([]), &first.json["run_id"]));
    assert_ne!(repeat.json["run_id"], first.json["run_id"]);
    assert_eq!(repeat.table.rows, first.table.rows);
    let said = room.verify(&repeat.receipt).expect("it verifies").checks;
    let run = text(&first.json["run_id"]);
    assert!(said.iter().any(|check| check.what.contains(&run)), "{said:?}");
    repeat
}

/// A run that is asked and paid for.
#[track_caller]
fn is_charged(room: &Fixture, agreement: &str) -> Released {
    let spent = room.spent();
    let released = room.released(agreement);
    assert_ne!(released.json["charges"], json!([]), "it was free");
    assert_ne!(room.spent(), spent, "the ledger has not changed");
    assert_eq!(released.record["predicate"]["repeat_of"], Value::Null);
    released
}

/// Noise of its own would tell more with every run. The salt beside it is new, so that commitments tell nothing.
#[test]
fn a_repeat_is_free_and_byte_for_byte_the_same() {
    let room = Fixture::new();
    for (question, arguments) in [("reach", ["--destination", "reports"].as_slice()), ("nonredeemers", LIST)] {
        let agreement = room.agreed(question, arguments);
        let first = is_charged(&room, &agreement);
        let (bytes, opening) = (room.read(&first.output), room.read(&format!("{}.opening.json", first.output)));
        room.take(&first);
        for _ in 0..2 {
            // Not the run in between: that one has asked nothing.
            let repeat = repeats(&room, &agreement, &first);
            assert_eq!(room.read(&repeat.output), bytes, "{question}");
            assert_ne!(room.read(&format!("{}.opening.json", repeat.output)), opening);
            let committed = |run: &Released| run.record["predicate"]["released"]["output_commitment"].clone();
            assert_ne!(committed(&repeat), committed(&first));
            room.take(&repeat);
        }
        // The next revision is another agreement on the same question.
        let next = room.agreed(question, arguments);
        assert_eq!(room.read(&repeats(&room, &next, &first).output), bytes, "{question}");
    }
    room.glovebox(&["log", "verify", "--json"]).succeeded();
    room.glovebox(&["state", "show", "--json"]).succeeded();
}

/// The form in which a table is written tells nothing new. A list does, elsewhere: there its units have other names.
#[test]
fn a_repeat_in_another_format_is_the_same_table() {
    let room = Fixture::new();
    let [reports, sheets, frames] =
        ["reports", "sheets", "frames"].map(|id| room.agreed("reach", &["--destination", id, "--beside"]));
    let first = is_charged(&room, &reports);
    for agreement in [sheets, frames] {
        let repeat = repeats(&room, &agreement, &first);
        assert_eq!(repeat.table.columns, first.table.columns);
        assert_ne!(room.read(&repeat.output), room.read(&first.output));
    }
    is_charged(&room, &room.agreed("nonredeemers", LIST));
    is_charged(&room, &room.agreed("nonredeemers", &[&LIST[..LIST.len() - 1], &["frames"]].concat()));
}

#[test]
fn a_repeat_costs_nothing_when_the_budget_is_exhausted() {
    let room = Fixture::with_controls(ONE_RUN);
    let agreement = room.agreed("evil", EVIL);
    let first = is_charged(&room, &agreement);
    room.take(&first);
    let other = ["--set", "attack=none", "--set", "only_unit_with=100", "--destination", "reports", "--beside"];
    room.refused(&room.agreed("evil", &other), "BUDGET_EXHAUSTED", 5);
    let repeat = repeats(&room, &agreement, &first);
    room.take(&repeat);
    // On other files it is another question, until these are there again.
    let files = room.read(HOUSEHOLDS);
    room.renew_data();
    room.refused(&agreement, "BUDGET_EXHAUSTED", 5);
    room.write(HOUSEHOLDS, &files);
    repeats(&room, &agreement, &first);
}

/// One thing of the question, its data or its terms is another in each of these.
#[test]
fn what_is_not_the_same_question_is_charged() {
    let room = Fixture::new();
    let beside = [EVIL, &["--beside"]].concat();
    let first = is_charged(&room, &room.agreed("evil", &beside));
    let asked = |room: &Fixture| is_charged(room, &room.agreed("evil", &beside));

    // Parameters.
    let other = ["--set", "attack=none", "--set", "only_unit_with=100", "--destination", "reports", "--beside"];
    is_charged(&room, &room.agreed("evil", &other));
    // Code: the same instructions, with a section that no one reads.
    let component = room.component("evil");
    room.write("questions/evil.wasm", &[component.as_slice(), &[0, 2, 1, b'x']].concat());
    asked(&room);
    room.write("questions/evil.wasm", &component);
    // The question's own description.
    let manifest = room.read("questions/evil.toml");
    room.edit("questions/evil.toml", "one per run", "one a run");
    asked(&room);
    room.write("questions/evil.toml", &manifest);
    // Controls, and what a view takes from its files, though it takes the same rows.
    let terms = room.read("room.toml");
    for (from, to) in [("k_min = 20", "k_min = 21"), ("value <= 60", "value < 61")] {
        room.edit("room.toml", from, to);
        asked(&room);
        room.write("room.toml", &terms);
    }
    // Limits.
    let agreement = room.agreed("evil", &beside);
    room.forge(&agreement, |terms| terms["limits"]["fuel_per_unit"] = 10_000_000.into());
    is_charged(&room, &agreement);
    // Data, also where its rows are the same; and none of all these in between has changed the first answer.
    let files = room.read(HOUSEHOLDS);
    room.renew_data();
    asked(&room);
    room.write(HOUSEHOLDS, &files);
    repeats(&room, &room.agreed("evil", &beside), &first);
}

/// Whoever holds the runtime's key says of a run that was paid for that it was a repeat, or of a repeat that it was paid
/// for, or leaves out which run it repeats.
#[test]
fn a_repeats_receipt_that_was_changed() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let first = is_charged(&room, &agreement);
    let charges = first.record["predicate"]["charges"].clone();
    room.take(&first);
    let repeat = repeats(&room, &agreement, &first);
    let verify = || room.glovebox(&["verify", &repeat.receipt, "--json"]);
    room.forge_run(&repeat.receipt, |_, _| {});
    verify().succeeded();
    for (repeat_of, of_receipt, of_certificate) in [
        (Value::Null, json!([]), json!([])),
        (json!(first.json["run_id"]), charges.clone(), json!([])),
        (json!(first.json["run_id"]), json!([]), charges.clone()),
        (json!(first.json["run_id"]), charges.clone(), charges),
    ] {
        room.forge_run(&repeat.receipt, |record, certificate| {
            record["predicate"]["repeat_of"] = repeat_of;
            record["predicate"]["charges"] = of_receipt;
            certificate["predicate"]["charges"] = of_certificate;
        });
        verify().failed("RECEIPT_INVALID", 3);
    }
}

/// An answer that is kept leaves again only as it was released, and for the question that it was released for.
#[test]
fn a_stored_answer_that_was_changed() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let first = is_charged(&room, &agreement);
    room.take(&first);
    let other = ["--set", "attack=none", "--set", "only_unit_with=7", "--destination", "sheets", "--beside"];
    is_charged(&room, &room.agreed("evil", &other));
    let honest = fs::read(room.ledger()).unwrap();
    let run = text(&first.json["run_id"]);
    for (what, change) in [
        ("a byte", format!("UPDATE answer SET bytes = CAST(bytes || x'00' AS BLOB) WHERE run = '{run}'")),
        ("all bytes", format!("UPDATE answer SET bytes = x'' WHERE run = '{run}'")),
        ("another's", format!("UPDATE answer SET bytes = (SELECT bytes FROM answer WHERE run <> '{run}')")),
        ("whose it is", format!("UPDATE answer SET run = (SELECT run FROM answer WHERE run <> '{run}')")),
        (
            "what it answers",
            format!(
                "UPDATE answer SET key = 'aside' WHERE run <> '{run}';
                 UPDATE answer SET bytes = (SELECT bytes FROM answer WHERE key = 'aside'),
                     run = (SELECT run FROM answer WHERE key = 'aside') WHERE key <> 'aside'"
            ),
        ),
    ] {
        println!("{what}");
        rusqlite::Connection::open(room.ledger()).unwrap().execute_batch(&change).unwrap();
        let outputs = room.outputs();
        let ran = room.run(&agreement);
        room.is_refused(&ran, "LEDGER_FAILED", 7);
        assert_eq!((&ran.json()["charges"], room.outputs()), (&json!([]), outputs));
        fs::write(room.ledger(), &honest).unwrap();
    }
    repeats(&room, &agreement, &first);
}

/// Each owner says how often a day; repeats count, for they tell when they end. Another day, and another agreement, have
/// runs of their own.
#[test]
fn an_agreement_pauses_that_was_run_too_often_in_a_day() {
    let room = Fixture::new();
    room.edit("room.toml", "max_runs_per_day = 1_000", "max_runs_per_day = 2");
    let agreement = room.agreed("evil", EVIL);
    let first = is_charged(&room, &agreement);
    room.take(&first);
    let second = repeats(&room, &agreement, &first);
    room.take(&second);
    room.refused(&agreement, "RUNS_PAUSED", 5);
    room.renew_data();
    room.refused(&agreement, "RUNS_PAUSED", 5);
    is_charged(&room, &room.agreed("evil", &[EVIL, &["--beside"]].concat()));

    let run_after = |hours| {
        let outcome = room.run_here(&agreement, Clock::Fixed(now() + TimeDelta::hours(hours)), &|_| {});
        outcome.result.map(drop).map_err(|fault| fault.code().as_str())
    };
    assert_eq!(run_after(23), Err("RUNS_PAUSED"));
    assert_eq!(run_after(25), Ok(()));
}

/// That nothing comes out tells something, and every time it tells it better. What was refused before data was read does
/// not count.
#[test]
fn an_agreement_pauses_that_had_no_result_too_often() {
    let room = Fixture::audited(CONTROLS);
    room.edit("room.toml", "max_failed_runs = 100", "max_failed_runs = 2");
    let agreement = room.agreed("evil", EVIL);
    let honest = room.read(HOUSEHOLDS);
    let empty = [("household_id", ints(vec![])), ("value", floats([].into_iter()))];
    write_parquet(&room.path(HOUSEHOLDS), &empty);
    room.withheld(&agreement, "VIEW_EMPTY");
    room.write(HOUSEHOLDS, b"no Parquet");
    room.refused(&agreement, "VIEW_UNREADABLE", 3);
    room.write(HOUSEHOLDS, &honest);
    let released = is_charged(&room, &agreement);
    room.take(&released);
    write_parquet(&room.path(HOUSEHOLDS), &empty);
    room.withheld(&agreement, "VIEW_EMPTY");

    // Whatever the files are by now, the owners have to agree again.
    room.refused(&agreement, "RUNS_PAUSED", 5);
    room.write(HOUSEHOLDS, &honest);
    room.refused(&agreement, "RUNS_PAUSED", 5);
    room.released(&room.agreed("evil", EVIL));
}
