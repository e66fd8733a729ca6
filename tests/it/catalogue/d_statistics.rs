//! D. Statistics of many, combined until they tell of one.

use super::{EXACT, FreshNoise, Market, NOISY, Row, SECRET, SUM, TARGET, exact_host, fact};
use super::{households, manifest, number, report, spent};
use crate::support::Released;

const K: usize = 50;

/// Asks for all, then for all but one.
#[test]
fn atk_d1_differencing_two_groups() {
    let people = households(100);
    let without = people.iter().filter(|row| row.household != TARGET);
    let (all, rest) = (exact_host(&people, K).unwrap(), exact_host(without, K).unwrap());
    assert_eq!(all.1 - rest.1, SECRET, "the attack is dead");

    let market = Market::new(EXACT, &people);
    market.offer("others_only", "SELECT household_id, number, amount FROM people WHERE household_id <> 7");
    market.question("totals", &["-1"], SUM);
    let released = market.asked("totals", "people");
    // Sums are rounded to two here.
    assert!((number(&released, "amount") - all.1).abs() <= 1.0, "a released number has no noise");
    let ran = market.room.run(&market.agreed("totals", "others_only"));
    market.room.is_refused(&ran, "DIFFERENCE_TOO_SMALL", 5);
    // Explained, but not which group and which earlier run: that is for the auditor.
    assert!(fact(&ran).contains("almost the same as behind a number that was released before"), "{ran:?}");
    // Names and digests in the rest of the output have any digits.
    assert!(!fact(&ran).contains(char::is_numeric), "{ran:?}");
    assert!(market.room.outputs().is_empty());
    report(
        "D1",
        "difference of two large groups",
        format!("a k-only host: {} of {SECRET}, exactly", all.1 - rest.1),
        "the second run is DIFFERENCE_TOO_SMALL: 0 numbers",
    );
}

/// A general tracker (Denning and Schlörer): every set asked about and its complement are large.
#[test]
fn atk_d2_general_tracker() {
    let people = households(200);
    let tracker = |row: &&Row| row.household > 100;
    let target = |row: &&Row| row.household == TARGET;
    let sum = |keep: &dyn Fn(&&Row) -> bool| exact_host(people.iter().filter(|row| keep(row)), K).unwrap().1;
    let combine = |with: f64, or_not: f64, inside: f64, outside: f64| with + or_not - inside - outside;
    let recovered = combine(
        sum(&|row| tracker(row) || target(row)),
        sum(&|row| !tracker(row) || target(row)),
        sum(&tracker),
        sum(&|row| !tracker(row)),
    );
    assert_eq!(recovered, SECRET, "the attack is dead");

    let queries = [
        ("with", "household_id > 100 OR household_id = 7"),
        ("or_not", "household_id <= 100 OR household_id = 7"),
        ("inside", "household_id > 100"),
        ("outside", "household_id <= 100"),
    ];
    let market = |controls: &str| {
        let market = Market::new(controls, &people);
        for (view, filter) in queries {
            market.offer(view, &format!("SELECT household_id, number, amount FROM people WHERE {filter}"));
        }
        market.question("totals", &["-1"], SUM);
        market
    };
    // Exact numbers: one of the four sets is almost another one.
    let exact = market(EXACT);
    exact.asked("totals", "inside");
    let ran = exact.room.run(&exact.agreed("totals", "with"));
    exact.room.is_refused(&ran, "DIFFERENCE_TOO_SMALL", 5);
    // With noise all four are answered, and the error is that of four answers.
    let noisy = market(NOISY);
    let answers = queries.map(|(view, _)| noisy.asked("totals", view));
    let deviation = stated_deviation(&answers[0], 1);
    let [with, or_not, inside, outside] = answers.each_ref().map(|answer| number(answer, "amount"));
    let error = combine(with, or_not, inside, outside) - SECRET;
    // Half of epsilon for sums of up to 100 each, and twice that where rows are replaced.
    assert!((deviation - 2.0 * 2.0_f64.sqrt() * 100.0 / 0.5).abs() < 1.0, "a deviation of {deviation}");
    assert!(error != 0.0 && error.abs() < 4.0 * 20.0 * deviation, "an error of {error}");
    assert_eq!(spent(&noisy.room), 4_000_000, "four answers cost four");
    report(
        "D2",
        "general tracker",
        format!("a k-only host: {recovered} of {SECRET}, exactly"),
        format!(
            "sealed-k: DIFFERENCE_TOO_SMALL; sealed-dp: off by {:.0}, with noise of standard deviation {:.0} stated",
            error.abs(),
            2.0 * deviation
        ),
    );
}

/// The noise that a release states for one of its measures.
fn stated_deviation(released: &Released, measure: usize) -> f64 {
    released.json["output"]["noise"][measure]["standard_deviation"].as_f64().expect("a deviation")
}

/// Asks the same a thousand times, and takes the mean.
#[test]
fn atk_d3_averaging_repeats() {
    const REPEATS: usize = 30;
    let people = households(100);
    let truth = exact_host(&people, K).unwrap().1;
    let market = Market::new(NOISY, &people);
    market.question("totals", &["-1"], SUM);
    let first = market.asked("totals", "people");
    let deviation = stated_deviation(&first, 1);
    let mut fresh = FreshNoise::new(1);
    let scale = deviation / 2.0_f64.sqrt();
    let mean = (0..1_000).map(|_| truth + fresh.laplace(scale)).sum::<f64>() / 1_000.0;
    assert!((mean - truth).abs() < deviation / 5.0, "the attack is dead: {mean} of {truth}");

    for _ in 0..REPEATS {
        let again = market.asked("totals", "people");
        assert_eq!(again.table.rows, first.table.rows);
        assert_eq!(again.json["charges"], serde_json::json!([]));
    }
    assert_eq!(spent(&market.room), 1_000_000, "a repeat is charged");
    // Code that differs by nothing that runs is other code: its noise is fresh, and paid for.
    let nop = [super::census(), custom_section("nop")].concat();
    market.question_of("totals", &manifest("totals", &["-1"], SUM), &nop);
    let varied = market.asked("totals", "people");
    assert_ne!(varied.table.rows, first.table.rows);
    assert_eq!(spent(&market.room), 2_000_000, "a variation is free");
    report(
        "D3",
        "averaging a thousand repeats",
        format!("fresh noise of deviation {deviation:.0} for each: the mean is off by {:.1}", (mean - truth).abs()),
        format!("{} repeats are 1 answer, for 1 charge; a changed byte of code is charged again", REPEATS + 1),
    );
}

/// A custom section of a component, which nothing reads.
pub(super) fn custom_section(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).expect("a short name");
    [&[0, length + 1, length], name.as_bytes()].concat()
}

/// Three groups, one of them small; and the total of all.
#[test]
fn atk_d4_a_suppressed_group_from_the_total() {
    let mut people = households(170);
    for row in &mut people {
        row.number = if row.household <= 10 { 1 } else { 2 + i64::from(row.household > 70) };
    }
    let of = |number: i64| people.iter().filter(move |row| row.number == number);
    let total = exact_host(&people, K).unwrap().1;
    let small: f64 = of(1).map(|row| row.amount).sum();
    assert_eq!(exact_host(of(1), K), None);
    let leaked = total - exact_host(of(2), K).unwrap().1 - exact_host(of(3), K).unwrap().1;
    assert_eq!(leaked, small, "the attack is dead");

    let market = Market::new(EXACT, &people);
    market.question("groups", &["-1", "-2", "-3"], SUM);
    let groups = market.asked("groups", "people");
    let shown: Vec<Option<f64>> = groups.numbers("amount");
    assert_eq!((shown[0], shown[1]), (None, None), "the small group, and one more that would give it away");
    assert!(shown[2].is_some());
    market.offer("whole", "SELECT household_id, 1 AS number, amount FROM people");
    market.question("totals", &["-1"], SUM);
    let together = number(&market.asked("totals", "whole"), "amount") - shown[2].unwrap();
    let hidden = exact_host(people.iter().filter(|row| row.number < 3), K).unwrap();
    // Sums are rounded to two here, and these are two.
    assert!((together - hidden.1).abs() <= 2.0, "{together}");
    report(
        "D4",
        "a small group as total minus the others",
        format!("primary suppression alone: {leaked} for a group of 10, exactly"),
        format!("a second group is left out: what is left is a sum over {} households", hidden.0),
    );
}

/// Units that the attacker has made up fill a group up to k: only the target in it is real.
#[test]
fn atk_d5_padding_with_made_up_ids() {
    let mut people = vec![Row { household: TARGET, number: 1, amount: SECRET }];
    // Nobody else knows them. The group of a household that the brand does not know has no minus before it.
    people.extend((1..K as i64).map(|fake| Row { household: Market::KNOWN + fake, number: -1, amount: 1.0 }));
    let leaked = exact_host(&people, K).unwrap().1 - (K - 1) as f64;
    assert_eq!(leaked, SECRET, "the attack is dead");

    let market = Market::new(EXACT, &people);
    market.question("totals", &["-1"], SUM);
    let released = market.asked("totals", "people");
    assert_eq!((released.numbers("people")[0], released.numbers("amount")[0]), (None, None));
    report(
        "D5",
        "k reached with 49 made-up ids",
        format!("a host that counts ids: {leaked} of {SECRET}, exactly"),
        "a unit that not all parties know does not count: the group of 1 is left out",
    );
}

/// The made-up units are in the second set alone: it differs by as many units as the guard asks for, and by one person.
#[test]
fn atk_d5_padding_the_difference_with_made_up_ids() {
    let people = households(100);
    let fakes = (1..K as i64).map(|fake| Row { household: Market::KNOWN + fake, number: -1, amount: 0.0 });
    let padded: Vec<Row> = people.iter().filter(|row| row.household != TARGET).copied().chain(fakes).collect();
    // The guard as it would be if it counted ids.
    let ids = |rows: &[Row]| rows.iter().map(|row| row.household).collect::<std::collections::BTreeSet<_>>();
    assert!(ids(&people).symmetric_difference(&ids(&padded)).count() >= K, "the attack is dead");
    let leaked = exact_host(&people, K).unwrap().1 - exact_host(&padded, K).unwrap().1;
    assert_eq!(leaked, SECRET, "the attack is dead");

    let market = Market::new(EXACT, &people);
    market.question("totals", &["-1"], SUM);
    market.asked("totals", "people");
    market.write_people(&padded);
    let ran = market.room.run(&market.agreed("totals", "people"));
    market.room.is_refused(&ran, "DIFFERENCE_TOO_SMALL", 5);
    report(
        "D5",
        "the guard against differences met with 49 made-up ids",
        format!("a guard that counts ids: {leaked} of {SECRET}, exactly"),
        "units that not all parties know do not fill a difference: DIFFERENCE_TOO_SMALL",
    );
}

/// The owner takes one household out of its file between two runs of the same question.
#[test]
fn atk_d6_changed_inputs() {
    let (people, mut changed) = (households(100), households(100));
    changed.retain(|row| row.household != TARGET);
    let leaked = exact_host(&people, K).unwrap().1 - exact_host(&changed, K).unwrap().1;
    assert_eq!(leaked, SECRET, "the attack is dead");

    let exact = Market::new(EXACT, &people);
    exact.question("totals", &["-1"], SUM);
    let agreement = exact.agreed("totals", "people");
    let released = exact.room.released(&agreement);
    exact.room.take(&released);
    exact.write_people(&changed);
    let ran = exact.room.run(&agreement);
    exact.room.is_refused(&ran, "DIFFERENCE_TOO_SMALL", 5);

    // A new file is no new budget: the ledger is about where the rows come from.
    let noisy = Market::new(&NOISY.replace("epsilon = 100.0", "epsilon = 1.0"), &people);
    noisy.question("totals", &["-1"], SUM);
    let agreement = noisy.agreed("totals", "people");
    let released = noisy.room.released(&agreement);
    noisy.room.take(&released);
    noisy.write_people(&changed);
    noisy.room.refused(&agreement, "BUDGET_EXHAUSTED", 5);
    report(
        "D6",
        "the same question before and after one household is taken out",
        format!("a ledger and history per file: {leaked} of {SECRET}, exactly"),
        "sealed-k: DIFFERENCE_TOO_SMALL; sealed-dp: BUDGET_EXHAUSTED",
    );
}

/// How many households two parties share, asked with and without one (Guo et al., 2022).
#[test]
fn atk_d7_overlap_sizes() {
    let people = households(100);
    let market = Market::new(&NOISY.replace("epsilon = 100.0", "epsilon = 10.0"), &people);
    market.question("overlap", &["-1"], "");
    let agreement = market.agreed("overlap", "people");
    let quote = market.room.glovebox(&["ledger", "quote", &agreement, "--json"]).succeeded();
    let left = quote["runs_left"][0].as_u64().unwrap();
    let deviation = quote["noise"][0]["standard_deviation"].as_f64().unwrap();
    // Replaced rows move two counts.
    assert!((deviation - 2.0 * 2.0_f64.sqrt()).abs() < 0.2, "{deviation}");
    assert!((10..135).contains(&left), "{left} sizes are to be had");
    // With the best guess from one answer, membership is right this often; from an exact size, always.
    let mut noise = FreshNoise::new(2);
    let guessed = (0..100_000).filter(|_| noise.laplace(deviation / 2.0_f64.sqrt()) < 0.5).count();
    let guessed = guessed as f64 / 1_000.0;
    report(
        "D7",
        "membership from the size of the overlap",
        "exact sizes: 1 person per question, right 100% of the time",
        format!("noise of deviation {deviation:.1}: right {guessed:.0}% of the time, for {left} questions in all"),
    );
}

/// Rows of the same unit in both parties' views, of which one is taken away: the noise must cover what that moves.
#[test]
fn atk_d10_outer_join() {
    let people = households(100);
    let market = Market::new(NOISY, &people);
    market.question("outer", &["1", "-1"], "");
    let inner = manifest("inner", &["1", "-1"], "")
        .replace("slot = \"others\"\njoin = \"optional\"", "slot = \"others\"\njoin = \"required\"");
    market.question_of("inner", &inner, &super::census());
    let deviation = |question: &str| {
        let agreement = market.agreed(question, "people");
        let quote = market.room.glovebox(&["ledger", "quote", &agreement, "--json"]).succeeded();
        quote["noise"][0]["standard_deviation"].as_f64().unwrap()
    };
    let (outer, inner) = (deviation("outer"), deviation("inner"));
    // Without its mark the target leaves one count and comes into another: two counts move by one.
    let moved = 2.0;
    let loss = |deviation: f64| moved / (deviation / 2.0_f64.sqrt());
    assert!(loss(inner) > 1.9, "the attack is dead: {}", loss(inner));
    assert!(loss(outer) <= 1.05, "the noise of an outer join is for half of what moves: {}", loss(outer));
    report(
        "D10",
        "one party's rows of a unit taken out of an outer join",
        format!("noise for adding and removing: a loss of epsilon = {:.2} for 1 agreed", loss(inner)),
        format!("noise for replacing: epsilon = {:.2}", loss(outer)),
    );
}

/// One household makes up nearly all of a group's sum.
#[test]
fn atk_d12_one_unit_dominates() {
    let mut people = households(60);
    people.iter_mut().filter(|row| row.household != TARGET).for_each(|row| row.amount = 0.01);
    let (_, sum) = exact_host(&people, K).unwrap();
    assert!((sum - SECRET).abs() / SECRET < 0.01, "the attack is dead");
    let market = Market::new(EXACT, &people);
    market.question("totals", &["-1"], SUM);
    let released = market.asked("totals", "people");
    assert_eq!(released.numbers("amount"), [None]);
    report(
        "D12",
        "a sum of 60 that is one household's",
        format!("a k-only host: {sum:.2} for {SECRET}, within {:.1}%", (sum / SECRET - 1.0) * 100.0),
        "a group of which one unit has more than the agreed part is left out",
    );
}

/// A number without noise beside the same one with noise takes the noise off.
#[test]
fn atk_d13_exact_numbers_beside_noisy_ones() {
    let market = Market::new(NOISY, &households(100));
    let measures = format!(
        "{SUM}[[measure]]\nname = \"again\"\nreducer = \"sum\"\nrange = [0.0, 100.0]\n\
         [[measure]]\nname = \"mean\"\nreducer = \"mean\"\nrange = [0.0, 100.0]\n"
    );
    market.question("totals", &["-1"], &measures);
    let released = market.asked("totals", "people");
    let deviations: Vec<f64> = (0..4).map(|measure| stated_deviation(&released, measure)).collect();
    assert!(deviations.iter().all(|deviation| *deviation > 0.0), "{deviations:?}");
    assert_ne!(released.numbers("amount"), released.numbers("again"), "two sums share their noise");

    // Weaker modes are the owners' alone to name, and no owner's alone: the strictest holds for the whole run.
    market.room.edit("room.toml", "epsilon = 1.0", "mode = \"sealed-k\", epsilon = 1.0");
    market.room.edit("room.toml", "k_min = 1", "k_min = 2");
    let stricter = market.asked("totals", "people");
    assert!(stated_deviation(&stricter, 0) > 0.0, "one owner's exact mode holds for another's data");
    // What another sum of the same run would tell if it had no noise.
    let truth = exact_host(&households(100), K).unwrap().1;
    let noise = number(&released, "amount") - truth;
    report(
        "D13",
        "an exact sum beside a noisy one",
        format!("the noise of {noise:.0} is read off, and with it every other number that shares it"),
        format!("all {} numbers of the run have noise of their own", deviations.len()),
    );
}
