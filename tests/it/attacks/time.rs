//! Attacks on time: something is used before or after it counts, once more, or after what came later was taken away.

use std::fs;
use std::process::Stdio;

use chrono::{DateTime, TimeDelta, Utc};
use glovebox::{Clock, Outcome, Step};
use serde_json::{Value, json};

use super::forge::{Asked, approvers};
use crate::support::forge::{EVIL, seal, sha256};
use crate::support::{Fixture, Ran, now, text};

const REACH: &[&str] = &["--destination", "reports"];
const NONCE: &str = "0123456789abcdef0123456789abcdef";

fn at(moment: DateTime<Utc>) -> Asked<'static> {
    Asked { clock: Clock::Fixed(moment), ..Asked::default() }
}

/// A release at some moment, on files that no run has read; the output is taken away, so that there is room for the next.
#[track_caller]
fn released_at(room: &Fixture, agreement: &str, moment: DateTime<Utc>) {
    room.renew_data();
    let released = room.ask(agreement, &at(moment), &|_| {}).result.expect("released");
    room.take_output(&released.path);
}

/// A moment that an agreement states.
fn stated(room: &Fixture, agreement: &str, field: &str) -> DateTime<Utc> {
    let terms: Value = serde_json::from_slice(&room.read(&format!("{agreement}/agreement.json"))).unwrap();
    terms[field].as_str().unwrap().parse().unwrap()
}

/// Runs an agreement a second before it holds, or in the second in which it ends.
#[test]
fn d01_an_agreement_outside_of_its_window() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    let (from, until) = (now() + TimeDelta::days(1), now() + TimeDelta::days(5));
    room.forge(&agreement, |terms| {
        terms["not_before"] = json!(from.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
        terms["not_after"] = json!(until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
    });
    let second = TimeDelta::seconds(1);
    room.denied_at(&agreement, from - second, "AGREEMENT_EXPIRED");
    released_at(&room, &agreement, from);
    released_at(&room, &agreement, until - second);
    room.denied_at(&agreement, until, "AGREEMENT_EXPIRED");
    room.denied_at(&agreement, until + TimeDelta::days(1), "AGREEMENT_EXPIRED");
}

/// Uses an approval after its end, or before it was given. Seconds at the ends: `trust/tests/approval.rs`, d01.
#[test]
fn d01_an_approval_outside_of_its_window() {
    let (room, agreement) = Fixture::with_evil();
    let moment = |hours: i64| {
        let moment = now() + TimeDelta::hours(hours);
        json!(moment.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
    };
    for (from, until) in [(-2, -1), (1, 2)] {
        let mut statement = room.anas(&agreement);
        statement["predicate"]["approved_at"] = moment(from);
        statement["predicate"]["not_after"] = moment(until);
        let sealed = seal(statement.to_string().as_bytes(), &room.key("retailer.ana"));
        room.denied_with_approval(&agreement, sealed.to_string().as_bytes(), "APPROVAL_EXPIRED");
    }
    room.is_unharmed(&agreement);
}

/// Goes on after the lists of revocations have ended, and after the registry has. Whoever renews them can go on.
#[test]
fn d01_lists_and_a_registry_that_have_ended() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", &[EVIL, &["--days", "200"]].concat());
    let list: Value =
        serde_json::from_slice(&crate::support::forge::payload(&room.read("revocations/brand/1.dsse.json"))).unwrap();
    let registry: Value = serde_json::from_slice(&room.read("registry/1/registry.json")).unwrap();
    let ends = |json: &Value| json["expires"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    let (lists_end, registry_ends, second) = (ends(&list), ends(&registry), TimeDelta::seconds(1));
    assert!(lists_end < registry_ends);
    released_at(&room, &agreement, lists_end - TimeDelta::minutes(1));
    room.denied_at(&agreement, lists_end, "REVOCATIONS_MISSING");
    let renew_lists = |moment| {
        for who in approvers() {
            let key = glovebox::load_key(&room.path(&format!("keys/{who}.pem"))).unwrap();
            let nothing = glovebox::Withdrawal { agreement: None, other: None, reason: "renewed", days: 30 };
            glovebox::revoke(&room.dir(), &nothing, &key, moment).unwrap();
        }
    };
    renew_lists(registry_ends - TimeDelta::days(1));
    released_at(&room, &agreement, registry_ends - second);
    room.denied_at(&agreement, registry_ends, "REGISTRY_EXPIRED");

    glovebox::renew_registry(&room.dir(), registry_ends).unwrap();
    for who in approvers() {
        let key = glovebox::load_key(&room.path(&format!("keys/{who}.pem"))).unwrap();
        glovebox::sign_registry(&room.dir(), None, &key, registry_ends).unwrap();
    }
    released_at(&room, &agreement, registry_ends);
}

/// Sets the clock back, so that what has ended counts again. The log knows the time.
#[test]
fn d02_a_clock_that_is_set_back() {
    let room = Fixture::new();
    let short = room.agreed("evil", &[EVIL, &["--days", "2"]].concat());
    let long = room.agreed("reach", REACH);
    let begin = stated(&room, &short, "not_before");
    released_at(&room, &short, begin + TimeDelta::days(1));
    released_at(&room, &long, begin + TimeDelta::days(3));
    // Approvals last as long as what they approve.
    room.denied_at(&short, begin + TimeDelta::days(3), "APPROVAL_EXPIRED");
    for back in [TimeDelta::hours(1), TimeDelta::days(1), TimeDelta::days(365)] {
        room.denied_at(&short, begin + TimeDelta::days(1) - back, "APPROVAL_EXPIRED");
    }
    // The other one still holds, at whatever time the clock shows.
    released_at(&room, &long, begin + TimeDelta::days(1));
}

/// Brings back the registry, the agreement or the list that was there before.
#[test]
fn d03_what_was_there_before() {
    let room = Fixture::new();
    let first = room.agreed("evil", EVIL);
    let old_registry = room.backup("registry");
    room.new_key("retailer", "bob");
    let old_lists = room.backup("revocations");
    room.revoke("retailer.ana", &[]);
    let second = room.agreed("evil", EVIL);
    let (new_registry, new_lists) = (room.backup("registry"), room.backup("revocations"));
    let released = room.released(&second);
    room.take_output(&released.output);

    old_registry.restore();
    room.denied(&second, "REGISTRY_ROLLBACK");
    new_registry.restore();
    old_lists.restore();
    room.denied(&second, "REVOCATIONS_ROLLBACK");
    new_lists.restore();
    room.denied(&first, "AGREEMENT_SUPERSEDED");
    room.is_unharmed(&second);
}

/// A party has two lists with one number: shows one to this run and the other to that.
#[test]
fn d03_two_lists_of_one_version() {
    let (room, agreement) = Fixture::with_evil();
    let released = room.released(&agreement);
    room.take_output(&released.output);
    let path = "revocations/retailer/1.dsse.json";
    let seen = room.read(path);
    fs::remove_file(room.path(path)).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    room.revoke("retailer.ana", &[]);
    assert_ne!(room.read(path), seen);
    room.denied(&agreement, "REVOCATIONS_ROLLBACK");
    room.write(path, &seen);
    room.is_unharmed(&agreement);
}

/// Skips a version of the registry, or jumps to the last number that there is, so that no other can follow. Neither
/// counts, and the version before stays in force.
#[test]
fn d03_a_registry_that_skips_versions() {
    let (room, agreement) = Fixture::with_evil();
    room.draft_registry(2, |registry| registry["version"] = json!(3));
    approvers().iter().for_each(|who| {
        let (party, person) = who.split_once('.').unwrap();
        room.sign_draft(2, party, person);
    });
    let in_force = || room.glovebox(&["registry", "show", "--json"]).succeeded()["current"]["version"].clone();
    assert_eq!(in_force(), 1);
    fs::rename(room.path("registry/2"), room.path("registry/3")).unwrap();
    assert_eq!(in_force(), 1);
    room.draft_registry(2, |registry| registry["version"] = json!((1u64 << 53) - 1));
    for who in approvers() {
        let (party, person) = who.split_once('.').unwrap();
        room.sign_draft(2, party, person);
    }
    assert_eq!(in_force(), 1);
    // An agreement on a version that nobody reached.
    let honest = room.backup(&agreement);
    room.forge(&agreement, |terms| terms["registry"]["version"] = json!(3));
    room.denied(&agreement, "REGISTRY_ROLLBACK");
    honest.restore();
    room.is_unharmed(&agreement);
}

/// Replaces the registry with the signatures of one side alone; in it, the attacker would be the other side as well.
#[test]
fn d04_d05_a_registry_that_not_all_have_signed() {
    let (room, agreement) = Fixture::with_evil();
    room.draft_key("retailer", "mallory");
    room.sign_draft(2, "brand", "dan");
    let forged = crate::support::forge::statement(&room.id_of(&agreement), "retailer", "mallory").to_string();
    let mallorys = seal(forged.as_bytes(), &room.key("retailer.mallory"));
    room.denied_with_approval(&agreement, mallorys.to_string().as_bytes(), "SIGNATURE_INVALID");
    // By the new key alone, under the name of a person who signs.
    room.sign_draft(2, "retailer", "mallory");
    room.denied_with_approval(&agreement, mallorys.to_string().as_bytes(), "SIGNATURE_INVALID");

    // The rejected version was not remembered: the one before is in force, and counts in the certificate.
    let released = room.released(&agreement);
    let certificate = released.receipt.replace(".dsse.json", ".certificate.dsse.json");
    assert_eq!(room.record(&certificate)["predicate"]["registry"]["version"], 1);
    fs::remove_dir_all(room.path("registry/2")).unwrap();
    room.take_output(&released.output);
    room.is_unharmed(&agreement);
}

/// Another chain under the room's name, complete and signed by keys of the attacker's own.
#[test]
fn d03_a_registry_of_another_chain() {
    let (room, agreement) = Fixture::with_evil();
    let released = room.released(&agreement);
    room.take_output(&released.output);
    let (honest, other) = (room.backup("registry"), Fixture::new());
    fs::remove_dir_all(room.path("registry")).unwrap();
    super::forge::copy(&other.path("registry"), &room.path("registry"));
    // The runtime's key is not in it: no run begins.
    room.run(&agreement).failed("KEY_UNKNOWN", 2);
    // With that runtime's key it is another room, of which nobody has told this host.
    let key = other.path("keys/runtime.pem");
    let ran = room.glovebox(&["run", &agreement, "--json", "--key", key.to_str().unwrap()]);
    ran.failed("STATE_MISSING", 3);
    honest.restore();
    room.is_unharmed(&agreement);
}

fn run_with_nonce(room: &Fixture, agreement: &str, nonce: &str) -> Ran {
    room.glovebox(&["run", agreement, "--json", "--threads", "1", "--nonce", nonce])
}

/// Sends a request a second time.
#[test]
fn d06_a_request_that_is_sent_again() {
    let (room, agreement) = Fixture::with_evil();
    let first = run_with_nonce(&room, &agreement, NONCE).succeeded();
    room.take_output(&text(&first["output"]["path"]));
    let (spent, outputs) = (room.spent(), room.outputs());
    let ran = run_with_nonce(&room, &agreement, NONCE);
    room.is_refused(&ran, "RUN_REPLAYED", 3);
    // For another agreement as well.
    let reach = room.agreed("reach", REACH);
    let ran = run_with_nonce(&room, &reach, NONCE);
    room.is_refused(&ran, "RUN_REPLAYED", 3);
    assert_eq!((room.spent(), room.outputs()), (spent, outputs));
    for malformed in ["", "00", &NONCE.to_uppercase(), &format!("{NONCE}0")] {
        let ran = run_with_nonce(&room, &agreement, malformed);
        room.is_refused(&ran, "USAGE", 2);
    }
    room.is_unharmed(&agreement);
}

/// Sends a request again while the first is still running, and several at once.
#[test]
fn d06_a_request_that_is_sent_twice_at_once() {
    let (room, agreement) = Fixture::with_evil();
    let asked = || Asked { nonce: Some(NONCE), ..Asked::default() };
    let outcome = room.ask(&agreement, &asked(), &|step| {
        if step == Step::Sandbox {
            let second = room.ask(&agreement, &asked(), &|_| {});
            assert_eq!(second.result.expect_err("refused").code().as_str(), "RUN_REPLAYED");
            assert!(second.charges.is_empty());
        }
    });
    assert!(outcome.result.is_ok());

    let reach = room.agreed("reach", &["--destination", "sheets", "--runs", "1"]);
    let start = |_| {
        let mut command = room.command();
        command.args(["run", &reach, "--json", "--threads", "1", "--nonce", &NONCE.replace('0', "f")]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<_> = (0..3).map(start).collect();
    let ran: Vec<Ran> = running.into_iter().map(|child| Ran::of(child.wait_with_output().unwrap())).collect();
    let (released, refused): (Vec<_>, Vec<_>) = ran.iter().partition(|ran| ran.exit_code == 0);
    assert_eq!((released.len(), refused.len()), (1, 2), "{ran:?}");
    for ran in refused {
        let json = ran.json();
        assert!(
            ["RUN_REPLAYED", "RUNS_EXHAUSTED", "DESTINATION_EXISTS"].contains(&json["code"].as_str().unwrap()),
            "{json}"
        );
        assert_eq!(json["charges"], json!([]));
    }
}

/// A run that was let out of the gate, charged, and then stopped before its result got its name.
#[track_caller]
fn is_stopped(room: &Fixture, outcome: &Outcome, code: &str) {
    let fault = outcome.result.as_ref().expect_err("stopped");
    assert_eq!((fault.code().as_str(), fault.code().stage().exit_code()), (code, 3), "{fault}");
    assert_eq!(outcome.charges.len(), 1, "{code}: what a guest saw is paid for");
    assert!(room.outputs().is_empty(), "{code}: a result was left");
    let verified = glovebox::verify(&room.dir(), &outcome.receipt, None, now()).expect("the receipt verifies");
    assert_eq!((verified.decision.as_str(), verified.code.as_deref()), ("refused", Some(code)));
    assert!(room.path(&outcome.receipt.replace(".dsse.json", ".tlog-proof")).exists());
}

/// Withdraws while the question runs: by agreement, component, approval and person. There is no result.
#[test]
fn d07_a_withdrawal_while_it_runs() {
    for what in ["agreement", "component", "approvals-through", "person", "key"] {
        let (room, agreement) = Fixture::with_evil();
        let value = match what {
            "component" => format!("component={}", sha256(&room.component("evil"))),
            "approvals-through" => "approvals-through=ana:1".into(),
            "person" => "person=ana".into(),
            _ => {
                let path = format!("{agreement}/retailer.ana.dsse.json");
                let envelope: Value = serde_json::from_slice(&room.read(&path)).unwrap();
                format!("key={}", envelope["signatures"][0]["keyid"].as_str().unwrap())
            }
        };
        let arguments = if what == "agreement" { vec![agreement.as_str()] } else { vec!["--what", &value] };
        let outcome = room.ask(&agreement, &Asked::default(), &|step| {
            if step == Step::Privacy {
                room.revoke("retailer.ana", &arguments);
            }
        });
        println!("{what}");
        is_stopped(&room, &outcome, "REVOKED");
        assert_eq!(room.spent().values().copied().collect::<Vec<_>>(), [(10_000_000, 0)]);
        room.denied(&agreement, "REVOKED");
    }
}

/// Changes the room while the question runs: whatever the gate asks for at the beginning, it asks for at the end.
#[test]
fn d07_a_room_that_changes_while_it_runs() {
    type Change = fn(&Fixture, &str);
    let changes: [(&str, Change); 6] = [
        ("OWNER_MISSING", |room, agreement| {
            fs::remove_file(room.path(&format!("{agreement}/retailer.ana.dsse.json"))).unwrap();
        }),
        ("CONTROL_CHANGED", |room, _| room.edit("room.toml", "k_min = 20", "k_min = 21")),
        ("DESTINATION_CHANGED", |room, _| room.edit("room.toml", "out/reports", "out/elsewhere")),
        ("REVOCATIONS_MISSING", |room, _| fs::remove_dir_all(room.path("revocations/brand")).unwrap()),
        ("AGREEMENT_INVALID", |room, agreement| {
            // One that is approved as well.
            let other = room.agreed("evil", &[EVIL, &["--beside"]].concat());
            fs::remove_dir_all(room.path(agreement)).unwrap();
            fs::rename(room.path(&other), room.path(agreement)).unwrap();
        }),
        ("REVOKED", |room, _| {
            let public = room.path(&room.public("retailer.ana"));
            room.new_key("retailer", "bob");
            glovebox::change_key(&room.dir(), &public, glovebox::Change::Compromise, now()).unwrap();
            for (party, person) in [("retailer", "ana"), ("retailer", "bob"), ("brand", "dan")] {
                room.sign_draft(3, party, person);
            }
        }),
    ];
    for (code, change) in changes {
        let (room, agreement) = Fixture::with_evil();
        let outcome = room.ask(&agreement, &Asked::default(), &|step| {
            if step == Step::Privacy {
                change(&room, &agreement);
            }
        });
        println!("{code}");
        is_stopped(&room, &outcome, code);
    }
}

/// Deletes the lists of revocations, one party's or all; or those of a party's latest version that no run has seen.
#[test]
fn d08_lists_that_were_deleted() {
    let (room, agreement) = Fixture::with_evil();
    let lists = room.backup("revocations");
    for folder in ["revocations/retailer", "revocations/brand", "revocations"] {
        fs::remove_dir_all(room.path(folder)).unwrap();
        room.denied(&agreement, "REVOCATIONS_MISSING");
        lists.restore_to(&room.path("revocations"));
    }
    // An empty folder is none either, nor is a list under another number.
    let path = room.path("revocations/retailer/1.dsse.json");
    fs::rename(&path, room.path("revocations/retailer/2.dsse.json")).unwrap();
    room.denied(&agreement, "REVOCATIONS_MISSING");
    fs::remove_file(room.path("revocations/retailer/2.dsse.json")).unwrap();
    room.denied(&agreement, "REVOCATIONS_MISSING");
    // The other party's list in its place.
    fs::copy(room.path("revocations/brand/1.dsse.json"), path).unwrap();
    room.denied(&agreement, "SUBJECT_MISMATCH");
    lists.restore_to(&room.path("revocations"));
    room.is_unharmed(&agreement);
}

/// Withdraws, sees the run refused, and then deletes the list: what the gate has seen once, it does not forget.
#[test]
fn d08_a_list_that_was_seen_by_a_refused_run_alone() {
    let (room, agreement) = Fixture::with_evil();
    room.revoke("retailer.ana", &[&agreement]);
    room.denied(&agreement, "REVOKED");
    fs::remove_file(room.path("revocations/retailer/2.dsse.json")).unwrap();
    room.denied(&agreement, "REVOCATIONS_ROLLBACK");
}

/// The same with a registry in which a key is compromised.
#[test]
fn d03_a_registry_that_was_seen_by_a_refused_run_alone() {
    let room = Fixture::new();
    room.new_key("retailer", "bob");
    let agreement = room.agree("evil", EVIL);
    room.approve(&agreement, "retailer.bob");
    room.approve(&agreement, "brand.dan");
    let public = room.path(&room.public("retailer.bob"));
    glovebox::change_key(&room.dir(), &public, glovebox::Change::Compromise, now()).unwrap();
    room.sign_registry();
    room.denied(&agreement, "REVOKED");
    fs::remove_dir_all(room.path("registry/3")).unwrap();
    room.denied(&agreement, "REGISTRY_ROLLBACK");
}

/// Restores a backup of the host's state, of what it remembers of the room, of its ledger, and of the log, while the rest
/// goes on.
#[test]
fn d09_backups_of_the_parts_of_a_room() {
    let (room, agreement) = Fixture::with_evil();
    let anchor_and_ledger = || {
        let anchors: Vec<_> = room.anchors().into_iter().collect();
        let [(path, anchor)] = &anchors[..] else { panic!("{anchors:?}") };
        (path.clone(), anchor.clone(), fs::read(room.ledger()).unwrap())
    };
    let first = room.released(&agreement);
    room.take_output(&first.output);
    let (old_state, old_log, (path, old_anchor, old_ledger)) =
        (room.backup_of_state(), room.backup("log"), anchor_and_ledger());
    room.renew_data();
    let second = room.released(&agreement);
    room.take_output(&second.output);
    let (new_state, new_log, (_, new_anchor, new_ledger)) =
        (room.backup_of_state(), room.backup("log"), anchor_and_ledger());
    assert!(old_ledger != new_ledger && old_anchor != new_anchor);

    fs::write(&path, &old_anchor).unwrap();
    room.denied_unlogged(&agreement, "STATE_ROLLBACK", || new_state.restore());
    fs::write(room.ledger(), &old_ledger).unwrap();
    room.denied_unlogged(&agreement, "STATE_ROLLBACK", || new_state.restore());
    old_log.restore();
    room.denied_unlogged(&agreement, "STATE_ROLLBACK", || new_log.restore());
    // All that the host has, and not the log; all that is about the room, and not the ledger.
    old_state.restore();
    room.denied_unlogged(&agreement, "STATE_ROLLBACK", || new_state.restore());
    fs::write(&path, &old_anchor).unwrap();
    old_log.restore();
    room.denied_unlogged(&agreement, "STATE_ROLLBACK", || {
        new_state.restore();
        new_log.restore();
    });
    // One of the three is gone.
    fs::remove_dir_all(room.path("log")).unwrap();
    room.denied_unlogged(&agreement, "STATE_ROLLBACK", || new_log.restore_to(&room.path("log")));
    fs::remove_file(&path).unwrap();
    room.denied_unlogged(&agreement, "STATE_MISSING", || new_state.restore());
    fs::remove_file(room.ledger()).unwrap();
    room.denied_unlogged(&agreement, "LEDGER_FAILED", || new_state.restore());
    room.is_unharmed(&agreement);
}

/// Restores everything in the room: the host remembers. It goes on once a person adopts the log, against a checkpoint
/// that someone else holds; and a log that does not go on from there is not adopted.
#[test]
fn d09_a_backup_of_everything_in_the_room() {
    let (room, agreement) = Fixture::with_evil();
    let first = room.released(&agreement);
    room.take_output(&first.output);
    let old = room.backup("");
    let partner = tempfile::tempdir().unwrap();
    let [earlier, later] = ["earlier", "later"].map(|name| partner.path().join(name));
    fs::copy(room.path("log/checkpoint"), &earlier).unwrap();
    room.renew_data();
    let second = room.released(&agreement);
    fs::copy(room.path("log/checkpoint"), &later).unwrap();
    let new = room.backup("");
    old.restore();
    room.run(&agreement).failed("STATE_ROLLBACK", 3);
    room.glovebox(&["state", "show", "--json"]).failed("STATE_ROLLBACK", 3);
    // The partner has seen what the backup lacks; and whoever has not, does not know better than this host.
    room.adopt(&later).failed("STATE_ROLLBACK", 3);
    room.adopt(&earlier).failed("STATE_ROLLBACK", 3);
    room.run(&agreement).failed("STATE_ROLLBACK", 3);
    new.restore();
    room.take_output(&second.output);
    room.is_unharmed(&agreement);

    // Another host, or one that has lost its state: it takes over what the log says was spent.
    let spent = room.spent();
    fs::remove_dir_all(room.state()).unwrap();
    room.take_output(&second.output);
    room.denied_unlogged(&agreement, "STATE_MISSING", || {
        room.glovebox(&["state", "show", "--json"]).failed("STATE_MISSING", 3);
        room.adopt(&later).succeeded();
    });
    assert_eq!(room.spent(), spent);
    room.is_unharmed(&agreement);
}

/// Edits the host's state: what it says must be what the log comes to.
#[test]
fn d09_a_state_that_was_edited() {
    let (room, agreement) = Fixture::with_evil();
    let released = room.released(&agreement);
    room.take_output(&released.output);
    let honest = room.backup_of_state();
    let anchors = room.anchors();
    assert_eq!(anchors.len(), 1);
    for (path, bytes) in anchors {
        let state: Value = serde_json::from_slice(&bytes).unwrap();
        for (pointer, value, code) in [
            ("/log/size", json!(1), "STATE_ROLLBACK"),
            ("/log/root", json!("00".repeat(32)), "STATE_ROLLBACK"),
            ("/summary/nonces", json!(0), "STATE_ROLLBACK"),
            ("/summary/registry_version", json!(9), "STATE_ROLLBACK"),
            ("/summary/runs_used", json!({}), "STATE_ROLLBACK"),
            ("/adopted", json!(1_000), "STATE_ROLLBACK"),
            ("/version", json!(2), "STATE_MISSING"),
            ("/version", json!(4), "STATE_MISSING"),
        ] {
            let mut edited = state.clone();
            *edited.pointer_mut(pointer).unwrap() = value;
            fs::write(&path, edited.to_string()).unwrap();
            println!("{pointer}");
            room.denied_unlogged(&agreement, code, || honest.restore());
        }
        for junk in [&b""[..], b"{}", &bytes[..bytes.len() / 2]] {
            fs::write(&path, junk).unwrap();
            room.denied_unlogged(&agreement, "STATE_MISSING", || honest.restore());
        }
    }
    room.is_unharmed(&agreement);
}

/// Runs once more than was agreed.
#[test]
fn d10_one_run_too_many() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", &[EVIL, &["--runs", "2"]].concat());
    for _ in 0..2 {
        let released = room.released(&agreement);
        room.take_output(&released.output);
    }
    // The second was a repeat, and free; it counts like any other.
    room.denied(&agreement, "RUNS_EXHAUSTED");
    room.renew_data();
    // A run that was stopped after it was charged counts as well: the number is of runs that were begun.
    let once = room.agreed("evil", &[EVIL, &["--runs", "1", "--beside"]].concat());
    fs::remove_dir_all(room.path("out")).unwrap();
    let outcome = room.ask(&once, &Asked::default(), &|step| {
        if step == Step::Privacy {
            fs::rename(room.path("revocations"), room.path("taken")).unwrap();
        }
    });
    is_stopped(&room, &outcome, "REVOCATIONS_MISSING");
    fs::rename(room.path("taken"), room.path("revocations")).unwrap();
    room.denied(&once, "RUNS_EXHAUSTED");
    // A new revision can be approved.
    let next = room.agreed("evil", EVIL);
    room.is_unharmed(&next);
}

/// Signs two approvals with one number, so that one of them survives when the other is withdrawn by it.
#[test]
fn two_approvals_with_one_number() {
    let (room, agreement) = Fixture::with_evil();
    let key = room.key("retailer.ana");
    let mut statement = room.anas(&agreement);
    let put = |name: &str, statement: &Value| {
        room.put_approval(&agreement, name, &seal(statement.to_string().as_bytes(), &key));
    };
    put("retailer.ana", &statement);
    statement["predicate"]["nonce"] = json!("11".repeat(16));
    put("retailer.ana.more", &statement);
    room.denied(&agreement, "APPROVAL_REPLAYED");
    fs::remove_file(room.path(&format!("{agreement}/retailer.ana.more.dsse.json"))).unwrap();
    let released = room.released(&agreement);
    room.take_output(&released.output);
    // Nor may the second come after a run that has used the first.
    let first = room.read(&format!("{agreement}/retailer.ana.dsse.json"));
    put("retailer.ana", &statement);
    room.denied(&agreement, "APPROVAL_REPLAYED");
    room.write(&format!("{agreement}/retailer.ana.dsse.json"), &first);
    room.is_unharmed(&agreement);
}

/// Whoever signed a party's latest list has left, or their key was stolen. The list counts no more, so nothing runs; the
/// party's others sign the next, and it holds all that the party has ever withdrawn, also what a thief left out.
#[test]
fn a_list_whose_signer_is_gone() {
    let component = |room: &Fixture| format!("component={}", sha256(&room.component("reach")));
    for is_stolen in [false, true] {
        let room = Fixture::new();
        room.new_key("retailer", "bob");
        let agreement = room.agree("evil", EVIL);
        room.approve(&agreement, "brand.dan");
        room.approve(&agreement, "retailer.ana");
        room.revoke("retailer.ana", &["--what", &component(&room)]);
        if is_stolen {
            // The thief forgets what was withdrawn.
            let honest = room.read("revocations/retailer/2.dsse.json");
            let mut list: Value = serde_json::from_slice(&crate::support::forge::payload(&honest)).unwrap();
            (list["version"], list["entries"]) = (json!(3), json!([]));
            let kind = "application/vnd.glovebox.revocations+json";
            let forged = super::forge::seal_as(kind, list.to_string().as_bytes(), &room.key("retailer.bob"));
            room.write("revocations/retailer/3.dsse.json", forged.to_string().as_bytes());
            let public = room.path(&room.public("retailer.bob"));
            glovebox::change_key(&room.dir(), &public, glovebox::Change::Compromise, now()).unwrap();
            room.sign_registry();
        } else {
            room.revoke("retailer.bob", &[]);
            room.draft_registry(3, |registry| {
                let members = registry["parties"][0]["members"].as_array_mut().unwrap();
                members.retain(|member| member["id"] != "bob");
                let lines = registry["quorum"].as_array_mut().unwrap();
                lines.iter_mut().for_each(|line| *line = json!(line.as_str().unwrap().replace(" retailer/bob", "")));
            });
            for who in approvers() {
                let (party, person) = who.split_once('.').unwrap();
                room.sign_draft(3, party, person);
            }
        }
        room.denied(&agreement, if is_stolen { "REVOKED" } else { "SIGNATURE_INVALID" });
        room.approve(&agreement, "retailer.ana");
        let list = room.read("revocations/retailer/4.dsse.json");
        let list: Value = serde_json::from_slice(&crate::support::forge::payload(&list)).unwrap();
        assert_eq!(list["entries"].as_array().map(Vec::len), Some(1), "{list}");
        room.is_unharmed(&agreement);
        let reach = room.agreed("reach", REACH);
        room.denied(&reach, "REVOKED");
    }
}

/// Withdraws an approval, and then gives it again: what stands there does not count any more, so it is signed anew.
#[test]
fn an_approval_that_was_withdrawn_and_given_again() {
    let (room, agreement) = Fixture::with_evil();
    room.revoke("retailer.ana", &["--what", "approvals-through=ana:1"]);
    room.denied(&agreement, "REVOKED");
    room.approve(&agreement, "retailer.ana");
    room.is_unharmed(&agreement);
}
