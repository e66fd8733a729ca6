//! The whole runtime as a black box: from files that differ by one unit to a lower bound on the epsilon of what comes out.
//!
//! A run releases thousands of cells, each with a unit of its own or without it, so one pair of runs is thousands of
//! trials of what one unit can change. The tester knows nothing of the mechanism; it looks for the event that tells the
//! two inputs apart best. `runtime/src/privacy/tests.rs` shows that it notices a fault.

use glovebox_audit::{Certificate, Claim, Observation, certify};

use crate::support::data::{floats, ints, write_parquet};
use crate::support::{Fixture, Released};

/// Cells, and so trials, of a run.
const CELLS: i64 = 12_000;
const CONFIDENCE: f64 = 0.9999;

/// A room of whole-number households, each in the cell of its own number.
struct Census {
    room: Fixture,
    agreement: String,
}

impl Census {
    /// `join` is that of the brand's rows.
    fn new(controls: &str, join: &str, keys: &[String]) -> Self {
        let controls = format!("k_min = 1, epsilon = 1.0, delta = 1e-6, lifetime = {{ delta = 1e-3 }}, {controls}");
        let room = Fixture::with_controls(&controls);
        let views = "\
            [[view]]\nid = \"people\"\nowner = \"retailer\"\nunit = \"id\"\n\
            sources = { people = \"data/retailer/people.parquet\" }\nsql = \"SELECT id, number, amount FROM people\"\n\
            [[view]]\nid = \"others\"\nowner = \"brand\"\nunit = \"id\"\n\
            sources = { others = \"data/brand/others.parquet\" }\nsql = \"SELECT id, mark FROM others\"\n\
            [[view]]\nid = \"prices\"\nowner = \"retailer\"\nlearnable_by = [\"brand\"]\n\
            sources = { prices = \"data/retailer/prices.parquet\" }\nsql = \"SELECT price FROM prices\"\n";
        room.write("room.toml", format!("{}\n{views}", room.read_text("room.toml")).as_bytes());
        write_parquet(&room.path("data/retailer/prices.parquet"), &[("price", floats([0.0].into_iter()))]);
        let manifest = room.read_text("questions/census.toml");
        let (head, _) = manifest.split_once("[[group]]").expect("a group");
        let head = head.replace("join = \"optional\"", &format!("join = \"{join}\""));
        let domain = keys.iter().map(|key| format!("\"{key}\"")).collect::<Vec<_>>().join(",");
        let manifest = format!(
            "{head}[[group]]\nname = \"number\"\ndomain = [{domain}]\n[[measure]]\nname = \"people\"\nreducer = \"count\"\n\
             [bounds]\nmax_rows_per_unit = 4\n"
        );
        room.write("questions/census.toml", manifest.as_bytes());
        let census = Self { room, agreement: String::new() };
        census.lay(&[0], &[]);
        let agreement = census.room.agreed("census", &["--set", "values=0", "--destination", "sheets"]);
        Self { agreement, ..census }
    }

    /// Who is in the retailer's file, each in the cell of its number, and who is in the brand's.
    fn lay(&self, people: &[i64], others: &[i64]) {
        let (people, others) = (people.to_vec(), others.to_vec());
        let amounts = floats(people.iter().map(|_| 1.0));
        let columns = [("id", ints(people.clone())), ("number", ints(people)), ("amount", amounts)];
        write_parquet(&self.room.path("data/retailer/people.parquet"), &columns);
        // A view may not be empty.
        let others: Vec<i64> = others.into_iter().chain([-1]).collect();
        let columns = [("id", ints(others.clone())), ("mark", ints(others))];
        write_parquet(&self.room.path("data/brand/others.parquet"), &columns);
    }

    fn counts(&self, people: &[i64], others: &[i64]) -> Vec<f64> {
        self.lay(people, others);
        let released = self.room.released(&self.agreement);
        let counts =
            released.numbers("people").into_iter().map(|count| count.expect("every cell has a number")).collect();
        self.room.take(&released);
        counts
    }
}

/// The noise is that of the system, so what is certified differs from run to run, by a standard deviation of up to 0.04
/// here: `at_least` lies five of them below what is usual.
#[track_caller]
fn near_and_never_above(mode: &str, certificate: &Certificate, claim: (f64, f64), at_least: f64) {
    let claim = Claim::new(claim.0, claim.1).expect("a claim");
    println!("EPSILON | {mode} | {}", certificate.against(&claim, &["count", "other count"]));
    assert!(!certificate.refutes(&claim), "{mode}: {certificate:?}");
    assert!(certificate.epsilon_lower >= at_least, "{mode} shows too little to notice a fault: {certificate:?}");
}

fn one_number(counts: &[f64]) -> Vec<Observation> {
    counts.iter().map(|count| Observation::from([*count])).collect()
}

fn keys(sides: &[&str], cells: i64) -> Vec<String> {
    sides.iter().flat_map(|side| (0..=cells).map(move |number| format!("{side}{number}"))).collect()
}

/// Every cell once with its household and once without it. The household of cell 0 is always there.
#[test]
fn adding_a_household_changes_what_comes_out_by_its_epsilon_at_most() {
    // Of Gaussian noise little can be certified at this delta: of fewer trials, nothing at all now and then.
    for (noise, cells, least) in [("laplace", CELLS, 0.6), ("gaussian", 40_000, 0.06)] {
        let everybody: Vec<i64> = (0..=cells).collect();
        let census = Census::new(&format!("noise = \"{noise}\""), "required", &keys(&["-"], cells));
        let with = census.counts(&everybody, &everybody);
        let without = census.counts(&[0], &everybody);
        assert_eq!((with.len(), without.len()), (everybody.len(), everybody.len()), "zeros have noise too");
        let certificate = certify(&one_number(&with[1..]), &one_number(&without[1..]), 1e-6, CONFIDENCE).unwrap();
        near_and_never_above(&format!("sealed-dp, {noise}, one household"), &certificate, (1.0, 1e-6), least);
    }
}

/// The brand's rows decide in which of two cells a household counts: hiding them moves it from one to the other.
#[test]
fn hiding_one_partys_rows_changes_what_comes_out_by_its_epsilon_at_most() {
    let everybody: Vec<i64> = (0..=CELLS).collect();
    let census = Census::new("noise = \"laplace\"", "optional", &keys(&["", "-"], CELLS));
    let pairs = |counts: &[f64]| -> Vec<Observation> {
        let (here, there) = counts.split_at(everybody.len());
        here.iter().zip(there).skip(1).map(|(here, there)| Observation::from([*here, *there])).collect()
    };
    let (shown, hidden) = (census.counts(&everybody, &everybody), census.counts(&everybody, &[]));
    let certificate = certify(&pairs(&shown), &pairs(&hidden), 1e-6, CONFIDENCE).unwrap();
    near_and_never_above("sealed-dp, laplace, one party's rows hidden", &certificate, (1.0, 1e-6), 0.55);
}

/// Every household is in or out by the bits of its own number; the answer for it is flipped now and then.
#[test]
fn a_flipped_answer_tells_of_its_household_by_its_epsilon_at_most() {
    let list = "list = { rr_epsilon = 2.0, min_size = 2, min_overlap = 2, max_fraction = 1.0 }";
    let room = Fixture::with_controls(list);
    let destination =
        "[[destination]]\nid = \"own\"\nrecipient = \"retailer\"\nfolder = \"out/own\"\nformat = \"csv\"\n";
    room.write("room.toml", format!("{}\n{destination}", room.read_text("room.toml")).as_bytes());
    room.edit("room.toml", " WHERE value <= 60", "");
    let arguments = ["--set", "attack=own_bit", "--set", "only_unit_with=-1", "--destination", "own"];
    let agreement = room.agreed("evil-list", &arguments);
    let run = |value: f64| -> Vec<Observation> {
        let ids: Vec<i64> = (0..CELLS).collect();
        let values = floats(ids.iter().map(|_| value));
        write_parquet(
            &room.path("data/retailer/households.parquet"),
            &[("household_id", ints(ids)), ("value", values)],
        );
        let released = room.released(&agreement);
        room.take(&released);
        answers(&released)
    };
    // An odd number of bits, and an even one.
    let (is_in, is_out) = (run(2.0), run(3.0));
    let certificate = certify(&is_in, &is_out, 0.0, CONFIDENCE).unwrap();
    near_and_never_above("list-sealed, randomised response", &certificate, (2.0, 0.0), 1.6);
}

/// Each household's answer: out, or the number of its segment. A list has those that are in first, and the tester judges
/// by one half what it found in the other, so they are mixed.
fn answers(released: &Released) -> Vec<Observation> {
    let listed = released.table.rows.iter().map(|row| if row[1].as_deref() == Some("even") { 1.0 } else { 2.0 });
    let out = usize::try_from(CELLS).unwrap() - released.table.total;
    let answers: Vec<f64> = listed.chain(std::iter::repeat_n(0.0, out)).collect();
    // 7919 is a prime that does not divide the number of answers.
    (0..answers.len()).map(|at| Observation::from([answers[at * 7919 % answers.len()]])).collect()
}
