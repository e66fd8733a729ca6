//! What holds a room together over time: the host's trust, the log that counts, withdrawals of whoever approved, replays.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;

use crate::support::Fixture;
use crate::support::data::{floats, ints, write_parquet};
use crate::support::forge::{EVIL, sha256};

/// Whoever can write the room's folder can write another registry into it: only the operator says which one is right.
#[test]
fn a_room_that_its_operator_did_not_name() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    fs::remove_dir_all(room.state()).unwrap();
    room.refused(&agreement, "STATE_MISSING", 3);
    room.glovebox(&["state", "trust", &"00".repeat(32), "--json"]).failed("REGISTRY_INVALID", 3);
    room.refused(&agreement, "STATE_MISSING", 3);
    let root = sha256(&room.read("registry/1/registry.json"));
    room.glovebox(&["state", "trust", &root, "--json"]).succeeded();
    room.released(&agreement);
    // Once it has run, trust cannot begin anew: what was spent would be forgotten.
    fs::remove_dir_all(room.state()).unwrap();
    room.glovebox(&["state", "trust", &root, "--json"]).failed("STATE_MISSING", 3);
}

/// Whoever gets at the host's ledger sets back what was spent: in an entry, in all of them with new hashes, or by taking
/// some away. The log has seen what the ledger came to.
#[test]
fn a_ledger_whose_sums_were_set_back() {
    let room = Fixture::with_controls(
        "epsilon = 10.0, delta = 1e-6, lifetime = { epsilon = 10.0, delta = 1e-3 }, k_min = 20, \
         list = { min_size = 20, min_overlap = 20, max_fraction = 1.0 }",
    );
    let agreement = room.agreed("evil", EVIL);
    let released = room.released(&agreement);
    room.take(&released);
    room.renew_data();
    let honest = fs::read(room.ledger()).unwrap();
    let cheaper = "UPDATE entry SET text = replace(text, '\"epsilon_micros\":10000000', '\"epsilon_micros\":10000')";
    for (what, code, exit_code, is_rehashed, change) in [
        ("an entry", "LEDGER_FAILED", 7, false, cheaper),
        ("every hash", "STATE_ROLLBACK", 3, true, cheaper),
        (
            "who paid",
            "STATE_ROLLBACK",
            3,
            true,
            "UPDATE entry SET text = replace(text, 'retailer, per', 'nobody, per')",
        ),
        ("the first entry", "LEDGER_FAILED", 7, false, "DELETE FROM entry WHERE number = 1"),
        ("the last entries", "STATE_ROLLBACK", 3, false, "DELETE FROM entry WHERE number > 1"),
        ("all entries", "STATE_ROLLBACK", 3, false, "DELETE FROM entry"),
        ("all of it", "LEDGER_FAILED", 7, false, "DROP TABLE entry"),
    ] {
        println!("{what}");
        let ledger = rusqlite::Connection::open(room.ledger()).unwrap();
        ledger.execute_batch(change).unwrap();
        if is_rehashed {
            rehash(&ledger);
        }
        drop(ledger);
        let ran = room.run(&agreement);
        room.is_refused(&ran, code, exit_code);
        assert_eq!(ran.json()["charges"], json!([]));
        assert!(room.outputs().is_empty());
        fs::write(room.ledger(), &honest).unwrap();
    }
    room.refused(&agreement, "BUDGET_EXHAUSTED", 5);
}

/// Chains the entries of a ledger anew, as anyone can: each hash is over the one before, a line break and the text.
fn rehash(ledger: &rusqlite::Connection) {
    let mut query = ledger.prepare("SELECT number, text FROM entry ORDER BY number").unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let rows: Vec<(i64, String)> = rows.map(Result::unwrap).collect();
    let mut before = String::new();
    for (number, text) in rows {
        before = sha256(format!("{before}\n{text}").as_bytes());
        ledger.execute("UPDATE entry SET sha256 = ?1 WHERE number = ?2", rusqlite::params![before, number]).unwrap();
    }
}

/// A party that owns nothing here and receives nothing had to approve, by the quorum: so it can withdraw as well.
#[test]
fn a_party_that_only_the_quorum_needs_withdraws() {
    let room = Fixture::new();
    room.new_key("agency", "rex");
    let agreement = room.agreed("evil", EVIL);
    room.refused(&agreement, "QUORUM_MISSING", 3);
    room.approve(&agreement, "agency.rex");
    let released = room.released(&agreement);
    room.take(&released);
    room.glovebox(&["revoke", &agreement, "--key", "keys/agency.rex.pem", "--json"]).succeeded();
    let ran = room.refused(&agreement, "REVOKED", 3);
    assert!(ran.stderr.contains("agency"), "{}", ran.stderr);
}

/// An auditor's replay is no oracle: other data is refused before a unit is shown, and nothing is said of what differs.
#[test]
fn a_replay_over_other_data() {
    let room = Fixture::unsigned(crate::support::CONTROLS);
    room.glovebox(&["key", "auditor", "--json"]).succeeded();
    room.sign_registry();
    let released = room.released(&room.agreed("evil", EVIL));
    let replay = ["replay", &released.receipt, "--identity", "keys/auditor.txt", "--json"];
    let commitment = &released.record["predicate"]["released"]["output_commitment"];
    for threads in ["1", "2"] {
        let replayed = room.glovebox(&[replay.as_slice(), &["--threads", threads]].concat()).succeeded();
        assert_eq!(&replayed["output_commitment"], commitment);
    }
    assert_eq!(room.outputs().len(), 2, "a replay writes nothing");

    let honest = room.read("data/retailer/households.parquet");
    write_parquet(
        &room.path("data/retailer/households.parquet"),
        &[("household_id", ints((0..500).collect())), ("value", floats((0..500).map(f64::from)))],
    );
    let ran = room.glovebox(&replay);
    ran.failed("NOT_REPLAYABLE", 3);
    assert!(!ran.stderr.contains(commitment.as_str().unwrap()), "{}", ran.stderr);
    room.write("data/retailer/households.parquet", &honest);
    room.glovebox(&replay).succeeded();

    // Nor does another's identity open what was sealed.
    room.glovebox(&["key", "auditor", "--key", "keys/other.txt", "--json"]).succeeded();
    let other = ["replay", &released.receipt, "--identity", "keys/other.txt", "--json"];
    room.glovebox(&other).failed("NOT_REPLAYABLE", 3);
}

/// Someone takes the name between the receipt and the result: nothing is written over theirs, and the log says so.
#[test]
fn a_name_that_is_taken_at_the_last_moment() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let is_over = AtomicBool::new(false);
    let ran = thread::scope(|scope| {
        scope.spawn(|| {
            let is_receipt = |name: String| name.matches('.').count() == 2 && name.ends_with(".dsse.json");
            while !is_over.load(Ordering::Relaxed) {
                let names = fs::read_dir(room.path("receipts")).into_iter().flatten();
                let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
                if names.filter(|name| !name.starts_with('.')).any(is_receipt) {
                    room.write("out/reports/evil-r1.parquet", b"theirs");
                    break;
                }
            }
        });
        let ran = room.run(&agreement);
        is_over.store(true, Ordering::Relaxed);
        ran
    });
    ran.failed("DESTINATION_EXISTS", 6);
    assert_eq!(room.outputs().into_values().collect::<Vec<_>>(), [b"theirs"]);
    let ends = room.logged().into_iter().filter_map(|record| record["predicate"]["end"].as_str().map(str::to_owned));
    assert_eq!(ends.collect::<Vec<_>>(), ["closed", "undelivered"]);
    room.glovebox(&["log", "verify", "--json"]).succeeded();
}
