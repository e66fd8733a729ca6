//! Releases that differ by too few units are refused, and a history that is not what was written stops every run.

use std::collections::BTreeSet;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::provision::UnitKey;

const LIMIT: u64 = 50;

fn state() -> (TempDir, Dir) {
    let folder = tempfile::tempdir().unwrap();
    let dir = files::open_dir(folder.path()).unwrap();
    (folder, dir)
}

fn units(range: std::ops::Range<u64>) -> Digests {
    Digests::from(range.collect::<Vec<_>>())
}

fn set(label: &str, digests: Digests) -> ReleasedSet {
    ReleasedSet { label: Some(label.into()), digests }
}

fn release(run: &str, groups: Vec<ReleasedSet>) -> Release {
    Release::new(run.into(), "agency".into(), SetKind::Groups, vec!["shop/orders".into(), "bank/cards".into()], groups)
}

fn denied(result: Result<(), Denial>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_group_that_differs_by_one_unit_is_refused_and_explained() {
    let (_folder, dir) = state();
    let history = History::open(&dir).unwrap();
    history
        .record(&release("x-1", vec![set("Type A/35K", units(0..500)), set("Type B/35K", units(600..900))]))
        .unwrap();

    let next = release("x-2", vec![set("Type A/35K", units(0..501)), set("Type B/35K", units(600..900))]);
    let denial = history.check(&next, LIMIT).unwrap_err();
    assert_eq!(denial.to_string(), "the group Type A/35K differs from a set of run x-1 by fewer than 50 units");
    assert_eq!(Fault::from(denial).code(), Code::DifferenceTooSmall);
}

#[test]
fn equal_sets_and_clearly_different_ones_pass() {
    let (_folder, dir) = state();
    let history = History::open(&dir).unwrap();
    history.record(&release("x-1", vec![set("a", units(0..500))])).unwrap();
    for (range, is_allowed) in [(0..500, true), (0..549, false), (0..550, true), (50..500, true), (51..500, true)] {
        let next = release("x-2", vec![set("a", units(range.clone()))]);
        assert_eq!(history.check(&next, LIMIT).is_ok(), is_allowed, "{range:?}");
    }
    assert!(history.check(&release("x-3", vec![set("a", units(25..525))]), LIMIT).is_ok(), "25 left and 25 came");
    assert!(history.check(&release("x-3", vec![set("a", units(24..524))]), LIMIT).is_err());
    assert!(history.check(&release("x-3", vec![set("a", units(1..500))]), 1).is_ok(), "a limit of one refuses nothing");
}

/// Someone who makes up units for one of two sets makes them differ by as many as are asked for.
#[test]
fn units_that_not_all_parties_know_do_not_make_a_difference_large_enough() {
    let (_folder, dir) = state();
    let history = History::open(&dir).unwrap();
    history.record(&release("x-1", vec![set("a", units(0..500))])).unwrap();
    let with_made_up = |range: std::ops::Range<u64>, made_up: u64| {
        let made_up = (1_000..1_000 + made_up).map(|hash| marked(hash, false));
        release("x-2", vec![set("a", Digests::from(range.chain(made_up).collect::<Vec<_>>()))])
    };
    assert!(history.check(&with_made_up(0..500, 0), LIMIT).is_ok());
    assert!(history.check(&with_made_up(0..500, 100), LIMIT).is_err(), "they are somebody, for all we know");
    assert!(history.check(&with_made_up(1..500, 49), LIMIT).is_err());
    assert!(history.check(&with_made_up(1..500, 100), LIMIT).is_err());
    assert!(history.check(&with_made_up(50..500, 100), LIMIT).is_ok(), "fifty that all know");
}

/// Someone who takes its own rows of a unit away changes who knows it, not whose it is.
#[test]
fn a_unit_that_fewer_parties_know_is_the_same_unit() {
    let (_folder, dir) = state();
    let history = History::open(&dir).unwrap();
    history.record(&release("x-1", vec![set("a", units(0..500))])).unwrap();
    let forgotten = (1..500).map(|hash| marked(hash, hash >= 100)).collect::<Vec<_>>();
    assert!(history.check(&release("x-2", vec![set("a", Digests::from(forgotten))]), LIMIT).is_err());
}

#[test]
fn only_a_shared_lineage_counts_whoever_received_it() {
    let (_folder, dir) = state();
    let history = History::open(&dir).unwrap();
    history.record(&release("x-1", vec![set("a", units(0..500))])).unwrap();
    let next = |lineage: &str| {
        let groups = vec![set("a", units(1..500))];
        Release::new("x-2".into(), "someone else".into(), SetKind::Groups, vec!["z".into(), lineage.into()], groups)
    };
    assert!(history.check(&next("shop/returns"), LIMIT).is_ok());
    assert!(history.check(&next("bank/cards"), LIMIT).is_err());
}

#[test]
fn all_groups_together_are_held_against_earlier_ones() {
    let (_folder, dir) = state();
    let history = History::open(&dir).unwrap();
    history.record(&release("x-1", vec![set("all", units(0..1_000))])).unwrap();
    history.record(&release("x-2", vec![set("p", units(2_000..2_400)), set("q", units(2_400..3_000))])).unwrap();

    let split = release("x-3", vec![set("a", units(0..400)), set("b", units(400..999))]);
    assert_eq!(
        denied(history.check(&split, LIMIT)),
        "the table as a whole differs from a set of run x-1 by fewer than 50 units"
    );
    let joined = release("x-3", vec![set("a", units(2_001..3_000)), set("b", units(5_000..6_000))]);
    assert_eq!(
        denied(history.check(&joined, LIMIT)),
        "the group a differs from a set of run x-2 by fewer than 50 units"
    );
}

#[test]
fn groups_of_one_run_are_held_against_each_other() {
    let (_folder, dir) = state();
    let history = History::open(&dir).unwrap();
    let next = release("x-1", vec![set("a", units(0..500)), set("b", units(1..500)), set("c", units(900..1_000))]);
    assert_eq!(
        denied(history.check(&next, LIMIT)),
        "the group b differs from another set of this run by fewer than 50 units"
    );
}

#[test]
fn a_denial_tells_neither_open_keys_nor_numbers() {
    let (_folder, dir) = state();
    let history = History::open(&dir).unwrap();
    let open = |digests| ReleasedSet { label: None, digests };
    history.record(&release("x-1", vec![open(units(0..500)), open(units(600..900))])).unwrap();
    let next = release("x-2", vec![open(units(0..493)), open(units(600..900))]);
    assert_eq!(denied(history.check(&next, LIMIT)), "a group differs from a set of run x-1 by fewer than 50 units");

    let list = |label: Option<&str>, digests| {
        let groups = vec![ReleasedSet { label: label.map(Into::into), digests }];
        Release::new("x-2".into(), "agency".into(), SetKind::List, vec!["bank/cards".into()], groups)
    };
    for (label, name) in [(None, "the list"), (Some("gold"), "the segment gold")] {
        let text = denied(history.check(&list(label, units(0..493)), LIMIT));
        assert_eq!(text, format!("{name} differs from a set of run x-1 by fewer than 50 units"));
    }
    assert_eq!(format!("{:?}", units(0..3)), "Digests(..)");
}

#[test]
fn a_file_that_is_not_what_was_written_stops_every_run() {
    let (folder, dir) = state();
    let history = History::open(&dir).unwrap();
    history.record(&release("x-1", vec![set("a", units(0..100))])).unwrap();
    let path = folder.path().join("contributors/x-1.sets");
    let whole = std::fs::read(&path).unwrap();
    let other = Release { lineages: vec!["another".into()], ..release("x-2", vec![]) };
    assert!(history.check(&other, LIMIT).is_ok());

    let refuses = |bytes: &[u8], what: &str| {
        std::fs::write(&path, bytes).unwrap();
        let denial = history.check(&other, LIMIT).unwrap_err();
        let Denial::History(fault) = denial else { panic!("{what}: {denial}") };
        assert_eq!(fault.code(), Code::HistoryFailed, "{what}");
        assert!(fault.fact().contains("contributors/x-1.sets"), "{what}");
    };
    for length in 0..whole.len() {
        refuses(&whole[..length], "cut short");
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        refuses(&changed, "changed");
    }
    refuses(&[&whole[..], b"\n"].concat(), "longer");
    // Hashes that fit do not make another version, or other lengths, readable.
    let sealed = |text: &str| [text.as_bytes(), &Sha256::digest(text)].concat();
    let header = r#"{"run":"x","recipient":"r","kind":"groups","lineages":[],"sets":[{"label":null,"units":1}]}"#;
    refuses(&sealed(&format!("glovebox contributors 2\n{header}\n12345678")), "of another version");
    refuses(&sealed(&format!("glovebox contributors 1\n{header}\n1234567")), "short of hashes");
    refuses(&sealed(&format!("glovebox contributors 1\n{header}")), "without an end of the header");
    refuses(
        &sealed(&format!("glovebox contributors 1\n{}\n12345678", header.replace("run", "ran"))),
        "of unknown fields",
    );
    refuses(
        &sealed(&format!("glovebox contributors 1\n{}\n", header.replace(":1}", ":2305843009213693952}"))),
        "too many",
    );
    std::fs::write(&path, sealed(&format!("glovebox contributors 1\n{header}\n12345678"))).unwrap();
    assert!(history.check(&other, LIMIT).is_ok());
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(history.check(&other, LIMIT).is_err(), "not a file");
}

#[test]
fn a_file_holds_every_set_and_their_union() {
    let sets = [units(5..9), units(0..0), units(7..12)];
    let mut bytes = Vec::new();
    record::write(&release("x-1", sets.iter().cloned().map(|units| set("a", units)).collect()), &mut bytes).unwrap();
    let record = Record::parse(bytes).unwrap();
    assert_eq!((record.run(), record.lineages().len()), ("x-1", 2));
    let read: Vec<Vec<u64>> = record.sets().map(Iterator::collect).collect();
    assert_eq!(read, [vec![5, 6, 7, 8], vec![], vec![7, 8, 9, 10, 11], (5..12).collect()]);
}

#[test]
fn what_a_crash_left_behind_is_no_release() {
    let (folder, dir) = state();
    let history = History::open(&dir).unwrap();
    std::fs::write(folder.path().join("contributors/.x-1.sets.7-0.tmp"), b"half").unwrap();
    assert!(history.check(&release("x-1", vec![set("a", units(0..100))]), LIMIT).is_ok());
    history.record(&release("x-1", vec![set("a", units(0..100))])).unwrap();
    assert!(history.check(&release("x-2", vec![set("a", units(1..100))]), LIMIT).is_err());
}

#[test]
fn a_run_is_recorded_once_and_under_its_own_name() {
    let (_folder, dir) = state();
    let history = History::open(&dir).unwrap();
    history.record(&release("x-1", vec![])).unwrap();
    assert_eq!(history.record(&release("x-1", vec![])).unwrap_err().code(), Code::HistoryFailed);
    for name in ["", "../x", "a/b", ".x", "x y", "x.sets", &"x".repeat(129)] {
        assert!(history.record(&release(name, vec![])).is_err(), "{name}");
    }
}

#[test]
fn what_was_recorded_is_there_for_the_next_process() {
    let (_folder, dir) = state();
    History::open(&dir).unwrap().record(&release("x-1", vec![set("a", units(0..100))])).unwrap();
    let history = History::open(&dir).unwrap();
    assert!(history.check(&release("x-2", vec![set("a", units(1..100))]), LIMIT).is_err());
}

#[test]
fn two_runs_cannot_check_at_the_same_time() {
    let (_folder, dir) = state();
    let first = History::open(&dir).unwrap();
    assert!(files::open_lock(&dir, LOCK).unwrap().try_lock().is_err());
    drop(first);
    assert!(files::open_lock(&dir, LOCK).unwrap().try_lock().is_ok());
}

#[test]
fn hashes_are_those_that_another_implementation_computes() {
    let digester = Digester::new(&[7; 32]);
    assert_eq!(digester.digest(&UnitKey::Int64(-42)), 0x5183_5e37_dcc1_6143);
    assert_eq!(digester.digest(&UnitKey::Utf8("anna@example.org".into())), 0x8f1e_4cd0_38ea_e406);
    assert_ne!(Digester::new(&[8; 32]).digest(&UnitKey::Int64(-42)), 0x5183_5e37_dcc1_6143);
}

proptest! {
    #[test]
    fn differences_are_those_of_ordinary_sets(
        one in btree_set(0..60u64, 0..40),
        two in btree_set(0..60u64, 0..40),
        limit in 0..60u64,
    ) {
        let exact = one.symmetric_difference(&two).count() as u64;
        let digests = |set: &BTreeSet<u64>| Digests::from(set.iter().rev().copied().collect::<Vec<_>>());
        let expected = (exact < limit).then_some(exact);
        prop_assert_eq!(digests(&one).symmetric_difference_below(&digests(&two), limit), expected);
        prop_assert_eq!(digests(&two).symmetric_difference_below(&digests(&one), limit), expected);
    }

    #[test]
    fn a_set_has_each_unit_once(units in vec(0..30u64, 0..60)) {
        let exact: BTreeSet<u64> = units.iter().copied().collect();
        let digests = Digests::from(units);
        prop_assert!(digests.iter().eq(exact.iter().copied()));
        prop_assert!(Digests::union([&digests, &digests].into_iter()) == digests);
    }

    /// The verdict after a round trip through the files is that of comparing the sets themselves.
    #[test]
    fn the_verdict_is_that_of_comparing_all_sets(
        earlier in vec(btree_set(0..14u64, 1..12), 1..4),
        new in vec(btree_set(0..14u64, 1..12), 1..3),
        limit in 1..5u64,
    ) {
        let (_folder, dir) = state();
        let history = History::open(&dir).unwrap();
        let groups = |sets: &[BTreeSet<u64>]| {
            sets.iter().map(|units| set("g", Digests::from(units.iter().copied().collect::<Vec<_>>()))).collect()
        };
        history.record(&release("x-1", groups(&earlier))).unwrap();
        let with_whole = |sets: &[BTreeSet<u64>]| {
            let whole = sets.iter().flatten().copied().collect();
            [sets, &[whole]].concat()
        };
        let (earlier, all) = (with_whole(&earlier), with_whole(&new));
        let is_close = |one: &BTreeSet<u64>, two: &BTreeSet<u64>| {
            (1..limit).contains(&(one.symmetric_difference(two).count() as u64))
        };
        let refused = all.iter().any(|one| earlier.iter().chain(&all).any(|two| is_close(one, two)));
        prop_assert_eq!(history.check(&release("x-2", groups(&new)), limit).is_err(), refused);
    }
}

#[test]
fn a_record_that_the_ledger_knows_must_be_there() {
    let (_folder, dir) = state();
    let history = History::open(&dir).unwrap();
    let sha256 = history.record(&release("x-1", vec![set("a", units(0..100))])).unwrap();
    let known = [("x-1".to_owned(), sha256)];
    assert!(history.check_whole(&known).is_ok());
    assert!(history.check_whole(&[("x-1".to_owned(), "00".repeat(32))]).is_err());
    dir.remove_file("contributors/x-1.sets").unwrap();
    assert_eq!(history.check_whole(&known).unwrap_err().code(), Code::HistoryFailed);
}
