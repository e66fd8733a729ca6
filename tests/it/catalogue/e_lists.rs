//! E. Lists: who is in them, in what order, and how many. What a question can try through the segments that it names
//! stands in `encodings.rs`.

use std::collections::{BTreeMap, BTreeSet};

use super::{World, report};
use crate::support::data::{EVIL_HOUSEHOLDS, HOUSEHOLDS, campaigns, floats, ints, write_parquet};
use crate::support::forge::sha256;
use crate::support::{CONTROLS, Fixture, Released, text};

/// The brand's households among those that the evil questions get.
fn known() -> BTreeSet<i64> {
    campaigns().iter().map(|campaign| campaign.household).filter(|household| *household <= EVIL_HOUSEHOLDS).collect()
}

fn terms(attack: &str, destination: &str) -> Vec<String> {
    [
        "--set",
        &format!("attack={attack}"),
        "--set",
        "only_unit_with=-1",
        "--destination",
        destination,
        "--runs",
        "100",
        "--beside",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn agreed(room: &Fixture, question: &str, attack: &str, destination: &str) -> String {
    room.agreed(question, &terms(attack, destination).iter().map(String::as_str).collect::<Vec<_>>())
}

/// The retailer's households, with a value each.
fn write_households(room: &Fixture, households: impl Iterator<Item = i64> + Clone) {
    let columns =
        [("household_id", ints(households.clone().collect())), ("value", floats(households.map(|h| h as f64)))];
    write_parquet(&room.path("data/retailer/households.parquet"), &columns);
}

fn pseudonyms(released: &Released) -> Vec<String> {
    released.table.rows.iter().map(|row| row[0].clone().expect("a pseudonym")).collect()
}

/// The recipient's identifiers in a list, with their segments.
fn identified(room: &Fixture, released: &Released) -> BTreeMap<i64, String> {
    let (ids, out) = (room.path("data/brand/campaigns.parquet"), room.path("listed.csv"));
    glovebox::identify(&room.path(&released.output), &ids, "household_id", &out).expect("a list");
    let listed = std::fs::read_to_string(&out).expect("a file");
    std::fs::remove_file(&out).expect("a file");
    let line = |line: &str| {
        let (id, segment) = line.split_once(',').expect("two columns");
        (id.parse().expect("a household"), segment.to_owned())
    };
    listed.lines().skip(1).map(line).collect()
}

/// Identifiers of people whom the recipient does not know, and texts that are nobody's.
#[test]
fn atk_e2_foreign_ids() {
    let room = Fixture::with_controls(&CONTROLS.replace("min_size = 20", "min_size = 2"));
    let released = room.released(&agreed(&room, "evil-list", "none", "sheets"));
    let listed: BTreeSet<i64> = identified(&room, &released).into_keys().collect();
    assert_eq!(listed, known());
    assert_eq!(released.table.total, listed.len(), "pseudonyms of someone whom the recipient does not know");
    let foreign = EVIL_HOUSEHOLDS as usize - listed.len();
    assert!(foreign > 0, "the attack is dead");
    report(
        "E2",
        "a question that puts everybody into the list",
        format!("a host that lists whom it is told to: {foreign} identifiers that the recipient did not hold"),
        format!("0 of {}: the host lists rows of its own join", listed.len()),
    );
}

/// The order of rows, and a unit that is there several times.
#[test]
fn atk_e3_order_and_repetition() {
    let room = Fixture::new();
    let agreement = agreed(&room, "evil-list", "none", "sheets");
    let mut lists = Vec::new();
    let orders: [Vec<i64>; 3] = [
        (1..=HOUSEHOLDS).collect(),
        (1..=HOUSEHOLDS).rev().collect(),
        (1..=HOUSEHOLDS).chain(1..=HOUSEHOLDS).collect(),
    ];
    for order in &orders {
        write_households(&room, order.iter().copied());
        let released = room.released(&agreement);
        let pseudonyms = pseudonyms(&released);
        assert!(pseudonyms.is_sorted_by(|one, other| one < other), "an order that is not the pseudonyms' own");
        lists.push(room.read(&released.output));
        room.take(&released);
    }
    assert!(lists.iter().all(|list| *list == lists[0]));
    let spelled: BTreeSet<Vec<i64>> =
        orders.iter().map(|order| order.iter().copied().filter(|id| known().contains(id)).collect()).collect();
    assert_eq!(spelled.len(), 3, "the attack is dead");
    let bits: f64 = (1..=known().len()).map(|n| (n as f64).log2()).sum();
    report(
        "E3",
        "the order of a list, and who is in it twice",
        format!("a list in the order of the rows: {} lists, up to {bits:.0} bits", spelled.len()),
        "1 list, in the order of keyed hashes",
    );
}

/// Too few in common, too few listed, too large a part: and made-up identifiers to get past each.
#[test]
fn atk_e4_sizes_and_overlap() {
    let in_common = known().len();
    for (control, is_met) in [
        (format!("min_overlap = {}", in_common + 1), false),
        (format!("min_overlap = {in_common}"), true),
        (format!("min_size = {}", in_common + 1), false),
        (format!("min_size = {in_common}"), true),
        // Everybody whom the recipient holds and who is asked about is in.
        ("max_fraction = 0.9".to_owned(), false),
        ("max_fraction = 1.0".to_owned(), true),
    ] {
        let name = control.split(' ').next().unwrap_or_default().to_owned();
        let usual = ["min_size = 20", "min_overlap = 20", "max_fraction = 1.0"];
        let kept = usual.iter().filter(|usual| !usual.starts_with(&name)).map(|usual| format!(", {usual}"));
        let list = format!("list = {{ {control}{} }}", kept.collect::<String>());
        let room = Fixture::with_controls(&format!("epsilon = 10.0, k_min = 20, {list}"));
        // Households that the retailer has made up, and that the brand does not know: they are no overlap.
        let padded = (1..=EVIL_HOUSEHOLDS).chain(10_000..10_400);
        let columns = [
            ("household_id", ints(padded.clone().collect())),
            ("value", floats(padded.map(|household| (household % 60) as f64))),
        ];
        write_parquet(&room.path("data/retailer/households.parquet"), &columns);
        let ran = room.run(&agreed(&room, "evil-list", "none", "sheets"));
        if is_met {
            assert_eq!(text(&ran.succeeded()["decision"]), "released", "{control}");
        } else {
            room.is_refused(&ran, "WITHHELD", 5);
            assert!(!ran.stderr.contains(char::is_numeric), "{control}: {ran:?}");
        }
    }
    report(
        "E4",
        "a list of too few, padded with 400 made-up ids",
        format!("a host that counts the retailer's ids: {} for {in_common} real ones", in_common + 400),
        format!("each limit holds at {in_common} and refuses at one more, without saying how many"),
    );
}

/// One household more between two runs of the same list.
#[test]
fn atk_e5_the_difference_of_two_lists() {
    let room = Fixture::new();
    let target = *known().last().expect("somebody");
    let agreement = agreed(&room, "evil-list", "none", "sheets");
    let first = room.released(&agreement);
    room.take(&first);
    write_households(&room, (1..=HOUSEHOLDS).filter(move |household| *household != target));
    let ran = room.run(&agreement);
    room.is_refused(&ran, "DIFFERENCE_TOO_SMALL", 5);
    assert!(text(&ran.json()["fact"]).contains("released before"), "{ran:?}");
    let before = known();
    let after: BTreeSet<i64> = before.iter().copied().filter(|household| *household != target).collect();
    let told: Vec<&i64> = before.difference(&after).collect();
    assert_eq!(told, [&target], "the attack is dead");
    report(
        "E5",
        "a list today without a list yesterday",
        format!("lists without a history: {} household that has left the retailer, by name", told.len()),
        "DIFFERENCE_TOO_SMALL: no second list",
    );
}

/// What a segment tells is counted against what all lists may tell of an identifier.
#[test]
fn atk_e6_segments_tell_bits() {
    let controls = CONTROLS.replace("list = {", "list = { bits_per_id_lifetime = 4,");
    let room = Fixture::with_controls(&controls);
    let mut runs = 0;
    // Other questions about the same households: each tells in, out, and in which of two segments.
    for attack in ["none", "own_bit", "counter", "parity", "foreign"] {
        let agreement = agreed(&room, "evil-list", attack, "sheets");
        let ran = room.run(&agreement);
        if ran.json()["code"] == "BUDGET_EXHAUSTED" {
            break;
        }
        runs += 1;
        let _ = std::fs::remove_dir_all(room.path("out/sheets"));
    }
    let bits = room.spent().values().map(|(_, bits)| *bits).max().unwrap_or(0);
    assert_eq!((runs, bits), (2, 4));
    report(
        "E6",
        "attributes told as segments, list after list",
        "lists that count as membership alone: log2(3) = 1.6 bits per run and identifier, for any number of runs",
        format!("{runs} runs of 2 bits each, then BUDGET_EXHAUSTED at {bits}"),
    );
}

/// The same people at two destinations.
#[test]
fn atk_e7_linking_two_destinations() {
    let room = Fixture::new();
    let lists = ["sheets", "frames"].map(|destination| room.released(&agreed(&room, "evil-list", "none", destination)));
    let [one, other] = lists.each_ref().map(|list| pseudonyms(list).into_iter().collect::<BTreeSet<_>>());
    let ids = lists.each_ref().map(|list| identified(&room, list));
    assert_eq!(ids[0], ids[1], "the same people, to their recipient");
    assert!(!ids[0].is_empty());
    let linked = one.intersection(&other).count();
    assert_eq!(linked, 0);
    let plain = |ids: &BTreeMap<i64, String>| ids.keys().map(|id| sha256(id.to_string().as_bytes())).collect();
    let [hashed, hashed_too]: [BTreeSet<String>; 2] = [plain(&ids[0]), plain(&ids[1])];
    let leaked = hashed.intersection(&hashed_too).count();
    assert_eq!(leaked, ids[0].len(), "the attack is dead");
    // Whoever knows an identifier cannot find it without the destination's key, either.
    assert!(hashed.iter().all(|hash| !one.iter().any(|pseudonym| hash.starts_with(pseudonym.as_str()))));
    report(
        "E7",
        "joining the lists of two destinations",
        format!("plain hashes of identifiers: {leaked} of {} linked", ids[0].len()),
        format!("pseudonyms per destination: {linked} linked"),
    );
}

/// With randomised response an answer is another one at the rate that epsilon sets.
#[test]
fn atk_e5_randomised_response_flips_at_its_rate() {
    let epsilon: f64 = 1.0;
    let controls = CONTROLS.replace("list = {", "list = { rr_epsilon = 1.0,");
    let room = Fixture::with_controls(&controls);
    // The retailer's slot is optional: a question is asked about every household that the brand holds.
    let usual = room.read_text("questions/evil-list.toml");
    let flipped =
        usual.replace("join = \"required\"", "join = \"HELD\"").replace("join = \"optional\"", "join = \"required\"");
    room.write(
        "questions/flipped.toml",
        flipped.replace("HELD", "optional").replace("\"evil-list\"", "\"flipped\"").as_bytes(),
    );
    room.write("questions/flipped.wasm", &room.component("evil-list"));
    // Being asked about would tell of rows at the retailer's.
    room.not_agreed(
        "evil-list",
        &terms("none", "sheets").iter().map(String::as_str).collect::<Vec<_>>(),
        "CONTROL_UNMET",
        3,
    );

    let agreement = agreed(&room, "flipped", "none", "sheets");
    let released = room.released(&agreement);
    let guarantee = text(&released.json["output"]["guarantee"]);
    assert!(guarantee.contains("randomised response") && guarantee.contains("epsilon = 1"), "{guarantee}");
    let listed = identified(&room, &released);
    // Three answers: out, even, odd. All that are asked about with rows say even; without rows the call fails, which is out.
    let kept = epsilon.exp() / (epsilon.exp() + 2.0);
    let (mut as_said, mut of, mut wrongly_in, mut out) = (0.0_f64, 0.0_f64, 0.0_f64, 0.0_f64);
    for household in campaigns().iter().map(|campaign| campaign.household).collect::<BTreeSet<_>>() {
        if household <= EVIL_HOUSEHOLDS {
            of += 1.0;
            as_said += f64::from(u8::from(listed.get(&household).is_some_and(|segment| segment == "even")));
        } else {
            out += 1.0;
            wrongly_in += f64::from(u8::from(listed.contains_key(&household)));
        }
    }
    let is_near = |count: f64, of: f64, rate: f64| (count - of * rate).abs() <= 6.0 * (of * rate * (1.0 - rate)).sqrt();
    assert!(is_near(as_said, of, kept), "{as_said} of {of} as they are, expected {kept}");
    assert!(is_near(wrongly_in, out, 1.0 - kept), "{wrongly_in} of {out} flipped, expected {}", 1.0 - kept);
    assert!(as_said < of, "nothing is flipped");
    // Asking again flips nothing anew.
    room.take(&released);
    let again = room.released(&agreement);
    assert_eq!(again.table.rows, released.table.rows);
    let spent = room.spent().values().map(|(epsilon, _)| *epsilon).max();
    assert_eq!(spent, Some(1_000_000));
    report(
        "E5",
        "membership of one household from a list with randomised response",
        format!("an exact list: {of:.0} of {of:.0} right"),
        format!(
            "{as_said:.0} of {of:.0} kept and {wrongly_in:.0} of {out:.0} flipped; stated: {kept:.3} and {:.3}",
            1.0 - kept
        ),
    );
}

/// One household's secret, spelled by who else is in the list.
#[test]
fn atk_e1_a_secret_in_others_membership() {
    let room = Fixture::with_controls(&CONTROLS.replace("min_size = 20", "min_size = 2"));
    let agreement = agreed(&room, "evil-list", "own_bit", "sheets");
    let (with, without) = (World::of(&room), World::of(&room));
    let target = 7;
    // Another value of the target, with another number of ones.
    let households = 1..=HOUSEHOLDS;
    let columns = [
        ("household_id", ints(households.clone().collect())),
        ("value", floats(households.map(|household| if household == target { 3.5 } else { household as f64 }))),
    ];
    write_parquet(&without.path("data/retailer/households.parquet"), &columns);
    let list = |world: &World| -> BTreeSet<String> {
        let ran = world.run(&agreement);
        let output = text(&ran.succeeded()["output"]["path"]);
        let table = glovebox::preview(&world.path(&output), usize::MAX).expect("a list");
        table.rows.iter().map(|row| row[0].clone().expect("a pseudonym")).collect()
    };
    let moved = list(&with).symmetric_difference(&list(&without)).count();
    assert!(moved <= 1, "one household's value moves {moved} others");
    // A host that shows all rows at once lets every member carry a bit: `isolation.rs` runs that attack in a shared instance.
    let carried = known().len() - 1;
    report(
        "E1",
        "one household's value in the membership of others",
        format!("all rows in one instance: {carried} bits of one household"),
        format!("{moved} bit, about the household itself"),
    );
}
