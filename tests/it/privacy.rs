//! Step 4, end to end: what is released against the same numbers counted by hand, and what the budget allows.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::data::{campaigns, purchases, redemptions};
use crate::support::forge::EVIL;
use crate::support::{CONTROLS, Fixture, LIST, Ran, Released, text};

const K: u32 = 20;

/// A tail of e^-20 either way: no test fails by chance.
const SCALES: f64 = 20.0;

const REACH: &[&str] = &["--destination", "sheets"];

/// What the reach question comes to, by group: units, spend, mean basket.
type Cells = BTreeMap<(String, String), (u32, f64, f64)>;

/// Counted by hand, with every household in its first `groups_max` groups.
fn reach_by_hand(groups_max: usize) -> Cells {
    let mut spend: BTreeMap<i64, (f64, BTreeSet<i64>, &str)> = BTreeMap::new();
    for purchase in purchases() {
        let entry = spend.entry(purchase.household).or_insert((0.0, BTreeSet::new(), purchase.income_band));
        entry.0 += purchase.sales_value;
        entry.1.insert(purchase.basket);
    }
    let mut kinds: BTreeMap<i64, BTreeSet<&str>> = BTreeMap::new();
    for campaign in campaigns() {
        kinds.entry(campaign.household).or_default().insert(campaign.kind);
    }
    let mut cells = Cells::new();
    for (household, (spend, baskets, band)) in spend {
        for kind in kinds.get(&household).into_iter().flatten().take(groups_max) {
            let cell = cells.entry(((*kind).to_owned(), band.to_owned())).or_default();
            *cell = (cell.0 + 1, cell.1 + spend, cell.2 + spend / baskets.len() as f64);
        }
    }
    cells
}

/// Checks every cell of a release against the count by hand; `scale` is the noise scale of the counts.
#[track_caller]
fn is_reach(released: &Released, by_hand: &Cells, scale: f64) {
    let threshold = released.json["output"]["threshold"].as_f64().unwrap() + f64::from(K) - 1.0;
    let deviation = |measure: usize| released.json["output"]["noise"][measure]["standard_deviation"].as_f64().unwrap();
    // Of the discrete Laplace distribution.
    let q = (-1.0 / scale).exp();
    assert!((deviation(0) / ((2.0 * q).sqrt() / (1.0 - q)) - 1.0).abs() < 1e-6, "{} for {scale}", deviation(0));
    assert_eq!(released.table.total, 12, "a row for every cell of the closed domain");
    let (counts, spends, means) =
        (released.numbers("buyers"), released.numbers("spend"), released.numbers("mean_basket"));
    let (mut shown, mut hidden) = (0, 0);
    for (row, cells) in released.table.rows.iter().enumerate() {
        let key = (cells[0].clone().unwrap(), cells[1].clone().unwrap());
        let (units, spend, baskets) = by_hand.get(&key).copied().unwrap_or_default();
        match (counts[row], spends[row], means[row]) {
            (None, None, None) => {
                assert!(f64::from(units) < threshold + SCALES * scale, "{key:?} of {units} is suppressed");
                hidden += usize::from(units > 0);
            }
            (Some(count), Some(noisy_spend), Some(mean)) => {
                assert!(units >= K, "{key:?} of {units} is released");
                assert!(count >= threshold, "{key:?}: {count} is below the threshold {threshold}");
                assert!((count - f64::from(units)).abs() <= SCALES * scale, "{key:?}: {count} for {units}");
                assert!((noisy_spend - spend).abs() <= SCALES * deviation(1), "{key:?}: {noisy_spend} for {spend}");
                let off = (mean - baskets / f64::from(units)).abs();
                assert!((0.0..=200.0).contains(&mean) && off <= SCALES * deviation(2), "{key:?}: {mean}");
                shown += 1;
            }
            cell => panic!("{key:?} is suppressed in part: {cell:?}"),
        }
    }
    assert!(shown >= 4 && hidden >= 1, "the fixture shows nothing: {shown} shown, {hidden} hidden");
}

#[test]
fn counts_are_those_counted_by_hand() {
    let room = Fixture::new();
    let released = room.released(&room.agreed("reach", REACH));
    is_reach(&released, &reach_by_hand(3), 0.6);
}

#[test]
fn a_unit_counts_in_no_more_groups_than_the_owners_allow() {
    let room = Fixture::with_controls(&format!("{CONTROLS}, contrib = {{ l0 = 1 }}"));
    let released = room.released(&room.agreed("reach", REACH));
    is_reach(&released, &reach_by_hand(1), 0.2);
}

/// The strictest owner's number holds, whichever owner it is.
#[test]
fn the_strictest_owner_wins() {
    let room = Fixture::new();
    // The text has the retailer first; the brand's k stands second.
    let at = room.read_text("room.toml").rfind("k_min = 20").unwrap();
    let mut terms = room.read_text("room.toml");
    terms.replace_range(at.., &terms[at..].replacen("k_min = 20", "k_min = 90", 1));
    room.write("room.toml", terms.as_bytes());
    let released = room.released(&room.agreed("reach", REACH));
    assert_eq!(released.json["output"]["k_min"], 90);
    let by_hand = reach_by_hand(3);
    for (row, count) in released.table.rows.iter().zip(released.numbers("buyers")) {
        let key = (row[0].clone().unwrap(), row[1].clone().unwrap());
        let units = by_hand.get(&key).map_or(0, |cell| cell.0);
        assert!(count.is_none() || units >= 90, "{key:?} of {units}");
    }
}

/// Five runs of one agreement, each on other files: groups below k stay away, and no two runs draw the same noise.
#[test]
fn small_groups_never_leave_and_noise_is_fresh() {
    let room = Fixture::new();
    let agreement = room.agreed("reach", REACH);
    let by_hand = reach_by_hand(3);
    let mut seen = Vec::new();
    for _ in 0..5 {
        let released = room.released(&agreement);
        is_reach(&released, &by_hand, 0.6);
        assert_eq!(released.record["predicate"]["repeat_of"], serde_json::Value::Null);
        room.take(&released);
        room.renew_data();
        let spends: Vec<_> = released.numbers("spend").into_iter().flatten().map(f64::to_bits).collect();
        assert!(!seen.contains(&spends), "two runs with the same noise");
        seen.push(spends);
    }
}

/// Identifier and segment.
fn list_by_hand() -> BTreeSet<(String, String)> {
    let reached: BTreeSet<i64> = campaigns().iter().map(|campaign| campaign.household).collect();
    let redeemed: BTreeSet<i64> = redemptions().into_iter().map(|(household, _)| household).collect();
    let mut bought: BTreeMap<i64, usize> = BTreeMap::new();
    for purchase in purchases().iter().filter(|purchase| purchase.category == Some("SOFT DRINKS")) {
        *bought.entry(purchase.household).or_default() += 1;
    }
    let is_in = |household: &i64| reached.contains(household) && !redeemed.contains(household);
    let segment = |lines: usize| if lines >= 2 { "heavy" } else { "light" };
    let row = |(household, lines): (i64, usize)| (household.to_string(), segment(lines).to_owned());
    bought.into_iter().filter(|(household, _)| is_in(household)).map(row).collect()
}

/// The cells of a column, in order.
fn texts(released: &Released, column: &str) -> Vec<String> {
    let at = released.table.columns.iter().position(|name| name == column).unwrap();
    released.table.rows.iter().map(|row| row[at].clone().unwrap()).collect()
}

/// What the recipient finds of a list among its own identifiers, in a file of the room.
#[track_caller]
fn identified(room: &Fixture, list: &str, ids: &str) -> BTreeSet<(String, String)> {
    let arguments = ["identify", list, "--ids", ids, "--column", "household_id", "--out", "found.csv", "--json"];
    let said = room.glovebox(&arguments).succeeded();
    let found = glovebox::preview(&room.path("found.csv"), usize::MAX).unwrap();
    std::fs::remove_file(room.path("found.csv")).unwrap();
    assert_eq!(found.columns, ["household_id", "segment"]);
    assert_eq!((said["found"].as_u64(), said["path"].as_str()), (Some(found.total as u64), Some("found.csv")));
    let rows: BTreeSet<_> =
        found.rows.into_iter().map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap())).collect();
    assert_eq!(rows.len(), found.total, "an identifier was found twice");
    rows
}

/// The brand's own identifiers, all of them, and others of which none is in the list.
const OWN: &str = "data/brand/campaigns.parquet";
const REDEEMED: &str = "data/brand/redemptions.parquet";

#[test]
fn a_list_holds_the_recipients_own_units_sorted_and_once() {
    let room = Fixture::new();
    let released = room.released(&room.agreed("nonredeemers", LIST));
    assert_eq!(released.table.columns, ["pseudonym", "segment"]);
    assert!(released.table.total > 100);
    let pseudonyms = texts(&released, "pseudonym");
    assert!(pseudonyms.is_sorted_by(|a, b| a < b), "their order tells something, or one comes twice");
    // They are no names that anyone else has: no text of the list is an identifier.
    let own: BTreeSet<String> = campaigns().iter().map(|campaign| campaign.household.to_string()).collect();
    assert!(pseudonyms.iter().all(|pseudonym| !own.contains(pseudonym)));
    assert_eq!(room.spent().values().copied().collect::<Vec<_>>(), [(0, 2), (0, 2)]);

    // Its recipient finds exactly the list that is counted by hand, and nobody in it who is not.
    let found = identified(&room, &released.output, OWN);
    assert_eq!(found, list_by_hand());
    assert_eq!(found.len(), released.table.total, "the list has units that its recipient does not hold");
    assert_eq!(identified(&room, &released.output, REDEEMED), BTreeSet::new());
}

/// Two that got lists under their own pseudonyms cannot put them together, though the units are the same.
#[test]
fn two_destinations_share_no_pseudonym() {
    let room = Fixture::new();
    let at = |destination| [&LIST[..LIST.len() - 1], &[destination]].concat();
    let [sheets, reports] =
        ["sheets", "reports"].map(|destination| room.released(&room.agreed("nonredeemers", &at(destination))));
    let [one, other] = [&sheets, &reports].map(|list| BTreeSet::from_iter(texts(list, "pseudonym")));
    assert_eq!(one.len(), other.len());
    assert!(one.is_disjoint(&other));
    for list in [&sheets, &reports] {
        assert_eq!(identified(&room, &list.output, OWN), list_by_hand());
    }
    // Nor does one's key open the other's list.
    let opening = |list: &Released| format!("{}.opening.json", list.output);
    room.write(&opening(&sheets), &room.read(&opening(&reports)));
    assert_eq!(identified(&room, &sheets.output, OWN), BTreeSet::new());
}

/// What is no list, or has no such column, or a file that is there already.
#[test]
fn identify_writes_nothing_where_it_finds_nothing_to_read() {
    let room = Fixture::new();
    let list = room.released(&room.agreed("nonredeemers", LIST)).output;
    let table = room.released(&room.agreed("evil", EVIL)).output;
    room.write("taken.csv", b"mine");
    for (list, ids, column, out) in [
        (table.as_str(), OWN, "household_id", "found.csv"),
        (&list, OWN, "household", "found.csv"),
        (&list, "data/brand/none.parquet", "household_id", "found.csv"),
        (&list, "room.toml", "household_id", "found.csv"),
        ("out/none.csv", OWN, "household_id", "found.csv"),
        (&list, OWN, "household_id", "taken.csv"),
    ] {
        println!("{list} {ids} {column} {out}");
        let arguments = ["identify", list, "--ids", ids, "--column", column, "--out", out, "--json"];
        room.glovebox(&arguments).failed("USAGE", 2);
        assert!(!room.path("found.csv").exists());
    }
    assert_eq!(room.read("taken.csv"), b"mine");
}

/// Also where it is asked anew: a destination keeps its pseudonyms.
#[test]
fn a_list_is_the_same_every_time() {
    let room = Fixture::new();
    let agreement = room.agreed("nonredeemers", LIST);
    let [first, second] = [1, 2].map(|_| {
        room.renew_data();
        let released = room.released(&agreement);
        assert_eq!(released.json["charges"].as_array().map(Vec::len), Some(2), "it was asked anew");
        let bytes = room.read(&released.output);
        room.take(&released);
        bytes
    });
    assert_eq!(first, second);
    room.renew_data();
    let third = room.released(&room.agreed("nonredeemers", LIST));
    assert_eq!(first, room.read(&third.output), "another agreement, the same destination");
}

/// The size of a list is known only after the run, and refusing it tells something: the run is charged, and told like
/// every other that ends without a result.
#[test]
fn a_list_that_is_too_small() {
    for (what, list) in [
        ("too few", "min_size = 1000, min_overlap = 20, max_fraction = 1.0"),
        ("too large a part", "min_size = 20, min_overlap = 20, max_fraction = 0.05"),
        ("too few in common", "min_size = 20, min_overlap = 1000, max_fraction = 1.0"),
    ] {
        println!("{what}");
        let room = Fixture::audited(&format!("list = {{ {list} }}"));
        let agreement = room.agreed("nonredeemers", LIST);
        let ran = room.withheld(&agreement, "LIST_UNFIT");
        assert_eq!(room.spent().values().copied().collect::<Vec<_>>(), [(0, 2), (0, 2)]);
        assert_eq!(ran.json()["charges"].as_array().unwrap().len(), 2);
        assert!(!ran.stderr.contains(&list_by_hand().len().to_string()), "{}", ran.stderr);
    }
}

/// Where nobody audits, nobody is told: nothing is sealed, and the words are the same.
#[test]
fn why_there_is_no_result_is_dropped_without_an_auditor() {
    let room = Fixture::with_controls("list = { min_size = 1000, min_overlap = 20, max_fraction = 1.0 }");
    let ran = room.run(&room.agreed("nonredeemers", LIST));
    room.is_refused(&ran, "WITHHELD", 5);
    let receipt = text(&ran.json()["receipt"]);
    assert_eq!(room.record(&receipt)["predicate"]["sealed_sha256"], serde_json::Value::Null);
    assert!(!room.path(&receipt.replace(".dsse.json", ".sealed.age")).exists());
    let told = [ran.stdout, ran.stderr, room.read_text(&receipt), format!("{:?}", room.logged())].concat();
    assert!(!told.contains("LIST_UNFIT"), "{told}");
}

/// Runs until the budget is spent; then nothing more comes out, and the ledger stands at its cap.
#[test]
fn a_budget_ends() {
    for (controls, question, arguments, cap) in [
        ("epsilon = 10.0, lifetime = { epsilon = 20.0 }, k_min = 20", "evil", EVIL, (20_000_000, 0)),
        // What is left is less than a run costs.
        ("epsilon = 2.0, lifetime = { epsilon = 3.9 }, k_min = 20", "evil", EVIL, (2_000_000, 0)),
        // Deltas may add up to half of what the lifetime has.
        ("delta = 1e-6, lifetime = { delta = 4e-6 }, k_min = 20", "evil", EVIL, (2_000_000, 0)),
        (
            "list = { bits_per_id_lifetime = 3, min_size = 20, min_overlap = 20, max_fraction = 1.0 }",
            "nonredeemers",
            LIST,
            (0, 2),
        ),
    ] {
        let room = Fixture::with_controls(controls);
        let agreement = room.agreed(question, arguments);
        let mut runs = 0;
        while room.spent().values().max() != Some(&cap) {
            room.renew_data();
            let released = room.released(&agreement);
            room.take(&released);
            runs += 1;
            assert!(runs <= 2, "{controls}: {:?}", room.spent());
        }
        room.renew_data();
        room.refused(&agreement, "BUDGET_EXHAUSTED", 5);
        // A new agreement has no new budget.
        let next = room.agreed(question, arguments);
        room.refused(&next, "BUDGET_EXHAUSTED", 5);
        assert!(room.spent().values().all(|spent| *spent == cap), "{controls}");
    }
}

/// Four processes at once on a budget for two.
#[test]
fn a_budget_ends_for_processes_that_race() {
    let room = Fixture::with_controls("epsilon = 10.0, lifetime = { epsilon = 20.0 }, k_min = 20");
    let agreements = room.four_evil_agreements();
    let start = |agreement: &String| {
        let mut command = room.command();
        command.args(["run", agreement, "--json", "--threads", "1"]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<_> = agreements.iter().map(start).collect();
    let ran: Vec<Ran> = running.into_iter().map(|child| Ran::of(child.wait_with_output().unwrap())).collect();
    let (released, refused): (Vec<_>, Vec<_>) = ran.iter().partition(|ran| ran.exit_code == 0);
    assert_eq!((released.len(), refused.len()), (2, 2), "{ran:?}");
    refused.iter().for_each(|ran| room.is_refused(ran, "BUDGET_EXHAUSTED", 5));
    assert!(refused.iter().all(|ran| ran.json()["charges"] == serde_json::json!([])));
    let files: Vec<String> = released.iter().map(|ran| text(&ran.json()["output"]["path"])).collect();
    assert_eq!(room.outputs().len(), 2 * files.len(), "outputs and their openings, and nothing else");
    assert_eq!(room.spent().values().copied().collect::<Vec<_>>(), [(20_000_000, 0)]);
}

#[test]
fn a_damaged_ledger_stops_every_run() {
    let room = Fixture::new();
    let agreement = room.agreed("evil", EVIL);
    std::fs::write(room.ledger(), [b'x'; 8192]).unwrap();
    let ran = room.run(&agreement);
    room.is_refused(&ran, "LEDGER_FAILED", 7);
    assert!(room.outputs().is_empty());
}

/// Randomised answers and exact ones have rules of their own, and neither owner may choose for the other.
#[test]
fn owners_who_differ_on_randomised_response() {
    let room = Fixture::new();
    let list = "list = { min_size = 20";
    let terms = room.read_text("room.toml");
    let at = terms.rfind(list).expect("the brand's controls");
    let one = format!("{}list = {{ rr_epsilon = 1.0, min_size = 20{}", &terms[..at], &terms[at + list.len()..]);
    room.write("room.toml", one.as_bytes());
    let ran = room.glovebox(&[&["agree", "questions/nonredeemers.wasm", "--json"], LIST].concat());
    ran.failed("CONTROL_UNMET", 3);
    assert!(text(&ran.json()["fact"]).contains("some owners state `list.rr_epsilon` and some do not"), "{ran:?}");
    room.write("room.toml", terms.as_bytes());
    room.agree("nonredeemers", LIST);
}
