//! What the evil questions try to spell with group keys and with who is in a list, and what is left of it.

use std::collections::BTreeSet;

use crate::support::data::{EVIL_HOUSEHOLDS, campaigns};
use crate::support::{CONTROLS, Fixture, Released};

/// The unit that attacks where only one does.
const ATTACKER: i64 = 7;

/// Thirty noise scales of a count in four groups.
const COUNT_NOISE_MAX: f64 = 24.0;

fn agreed(room: &Fixture, question: &str, attack: &str, only_unit_with: i64) -> String {
    let (attack, unit) = (format!("attack={attack}"), format!("only_unit_with={only_unit_with}"));
    room.agreed(question, &["--set", &attack, "--set", &unit, "--destination", "sheets"])
}

/// What every unit's attack through keys comes to, where answers may be long enough for it.
fn keys(attack: &str) -> Vec<String> {
    let room = Fixture::new();
    let agreement = agreed(&room, "evil-keys", attack, -1);
    room.forge(&agreement, |terms| terms["limits"]["answer_bytes_per_unit"] = (1 << 20).into());
    let released = room.released(&agreement);
    for count in released.numbers("units") {
        let off = (count.unwrap() - EVIL_HOUSEHOLDS as f64).abs();
        assert!(off <= COUNT_NOISE_MAX, "{attack}: a group of {count:?}");
    }
    released.table.rows.iter().map(|row| row[0].clone().unwrap()).collect()
}

/// A unit counts in the agreed number of groups, the first by key, and once in each.
#[test]
fn attack_many_keys() {
    assert_eq!(keys("many"), ["0", "1", "10", "100"]);
    assert_eq!(keys("repeat"), ["east"]);
}

/// A key that only one unit has is never released, so it spells nothing.
#[test]
fn attack_secret_key() {
    assert_eq!(keys("secret"), [""; 0]);
}

/// An answer with a key that is too long or holds a control character counts for nothing, with all its other keys.
#[test]
fn attack_keys_that_are_not_text() {
    assert_eq!(keys("control"), [""; 0]);
    assert_eq!(keys("long"), [""; 0]);
}

/// Keys that differ by what nobody sees count for nothing; others are different groups, and a unit counts in no more of
/// them than in others.
#[test]
fn attack_keys_that_look_alike() {
    for attack in ["whitespace", "zero_width", "combining"] {
        assert_eq!(keys(attack), [""; 0], "{attack}");
    }
    for attack in ["case", "homoglyph"] {
        assert_eq!(keys(attack).len(), 4, "{attack}");
    }
}

#[test]
fn attack_order_of_keys() {
    let sorted = ["east", "north", "south", "west"];
    assert_eq!(keys("none"), sorted);
    assert_eq!(keys("order"), sorted);
}

/// The households that both parties know, of those that the evil questions get.
fn known() -> Vec<String> {
    let known: BTreeSet<i64> = campaigns().iter().map(|campaign| campaign.household).collect();
    known.into_iter().filter(|household| *household <= EVIL_HOUSEHOLDS).map(|household| household.to_string()).collect()
}

/// The list by the recipient's own identifiers, in their order.
fn ids(room: &Fixture, released: &Released) -> Vec<String> {
    let (ids, out) = (room.path("data/brand/campaigns.parquet"), room.path("listed.csv"));
    let identified = glovebox::identify(&room.path(&released.output), &ids, "household_id", &out).expect("a list");
    assert_eq!(identified.found, identified.listed, "someone who is none of the recipient's");
    let listed = std::fs::read_to_string(&out).expect("a file");
    std::fs::remove_file(&out).expect("a file");
    let mut ids: Vec<i64> =
        listed.lines().skip(1).map(|line| line.split(',').next().unwrap().parse().expect("a household")).collect();
    ids.sort_unstable();
    ids.iter().map(i64::to_string).collect()
}

fn room_for_short_lists() -> Fixture {
    Fixture::with_controls(&CONTROLS.replace("min_size = 20", "min_size = 2"))
}

/// Every unit is put in, also those that the recipient has no rows of.
#[test]
fn attack_foreign_ids() {
    let room = room_for_short_lists();
    let released = room.released(&agreed(&room, "evil-list", "none", -1));
    assert_eq!(ids(&room, &released), known());
    assert!(released.table.total < EVIL_HOUSEHOLDS as usize, "the recipient knows everybody");
    is_refused_as_empty(&room, "foreign", -1);
}

/// What depends on how many were asked before is the same as if nobody had been: not a byte of the list changes.
#[test]
fn attack_list_by_turns() {
    let room = Fixture::new();
    let list = |attack: &str| {
        let released = room.released(&agreed(&room, "evil-list", attack, -1));
        let bytes = room.read(&released.output);
        room.take(&released);
        bytes
    };
    let honest = list("none");
    assert_eq!(list("counter"), honest);
    assert_eq!(list("parity"), honest);
}

/// One unit's value is not spelled by who else is in: nobody else is.
#[test]
fn attack_list_by_others_bits() {
    is_refused_as_empty(&room_for_short_lists(), "others_bits", ATTACKER);
}

/// A segment that is not declared, and a call that fails, leave the unit out and nobody else.
#[test]
fn attack_segments() {
    let others: Vec<String> = known().into_iter().filter(|id| *id != ATTACKER.to_string()).collect();
    assert!(others.len() < known().len(), "the attacker is on no list anyway");
    for attack in ["outside", "far_outside", "unreachable", "spin"] {
        let room = room_for_short_lists();
        let released = room.released(&agreed(&room, "evil-list", attack, ATTACKER));
        assert_eq!(ids(&room, &released), others, "{attack}");
    }
}

/// Too short a list is withheld; why is for the auditor.
#[track_caller]
fn is_refused_as_empty(room: &Fixture, attack: &str, only_unit_with: i64) {
    let ran = room.run(&agreed(room, "evil-list", attack, only_unit_with));
    room.is_refused(&ran, "WITHHELD", 5);
}
