//! The kernel as a black box: what a tester that sees outputs alone can certify of it, honest and with faults put in.
//!
//! Neighbouring inputs go through the same steps as in a run: answers are added to a tally, and the tally is released
//! many times, with fresh noise each time. A fault is a [`Mechanism`] that was tampered with before the release, so that
//! every test here would notice the same mistake in the product.

use glovebox_audit::{Certificate, Claim, Observation, certify};

use super::groups::GroupTally;
use super::mechanism::Mechanism;
use super::*;
use crate::provision::Unit;
use crate::room::{Delta, Epsilon, NoiseChoice};
use crate::sandbox::Contribution;

const CONFIDENCE: f64 = 0.9999;
const RUNS: usize = 40_000;

/// Two cells, a count, and a sum of values up to 10.
fn manifest(join: &str) -> Manifest {
    let text = format!(
        "version = 1\nname = \"t\"\nkind = \"analytical\"\nisolation = \"sealed\"\ndescription = \"t\"\n\
         [[view]]\nslot = \"a\"\njoin = \"required\"\ncolumns = [{{ name = \"x\", type = \"int64\" }}]\n\
         [[view]]\nslot = \"b\"\njoin = \"{join}\"\ncolumns = [{{ name = \"x\", type = \"int64\" }}]\n\
         [[group]]\nname = \"g\"\ndomain = [\"here\", \"there\"]\n\
         [[measure]]\nname = \"count\"\nreducer = \"count\"\n\
         [[measure]]\nname = \"sum\"\nreducer = \"sum\"\nrange = [0.0, 10.0]\n\
         [bounds]\nmax_rows_per_unit = 10\n"
    );
    Manifest::parse(text.as_bytes()).unwrap()
}

fn controls(noise: NoiseChoice, epsilon_micros: u64) -> Controls {
    Controls {
        noise,
        k_min: 1,
        epsilon_micros: Epsilon::from_micros(epsilon_micros),
        delta_femtos: Delta::from_femtos(1_000_000_000),
        ..Controls::default()
    }
}

/// A question under test, perhaps with a fault.
struct Trial {
    manifest: Manifest,
    controls: Controls,
    mechanism: Mechanism,
    seeds: Seeds,
}

/// Where the noise of a release comes from.
#[derive(Clone, Copy, PartialEq)]
enum Seeds {
    Fresh,
    Reused,
}

impl Trial {
    fn new(join: &str, controls: Controls) -> Self {
        let manifest = manifest(join);
        let mechanism = Mechanism::new(&manifest, &controls);
        Self { manifest, controls, mechanism, seeds: Seeds::Fresh }
    }

    /// Many releases of what these groups' units contribute, each with the value of a sum.
    fn releases(&self, units: &[(&str, f64)], salt: u64) -> Vec<Observation> {
        let mut tally = GroupTally::new(&self.manifest, &self.controls, Setting::of_one_owner());
        for (key, (group, value)) in (0..).zip(units) {
            let contribution = Contribution { group: vec![(*group).into()], values: vec![*value] };
            tally.add(&Unit::of_one_view(key), &[contribution]);
        }
        let mut random = Random::from_seed([u8::try_from(salt).unwrap(); 32]);
        let release = |_| {
            let mut fixed = Random::from_seed([7; 32]);
            let random = if self.seeds == Seeds::Fresh { &mut random } else { &mut fixed };
            let table = tally.clone().release(&self.manifest, &self.mechanism, random).unwrap();
            Observation(numbers(&table))
        };
        (0..RUNS).map(release).collect()
    }

    fn certify(&self, left: &[(&str, f64)], right: &[(&str, f64)]) -> Certificate {
        let delta = self.mechanism.cost().delta_femtos.femtos() as f64 * 1e-15;
        certify(&self.releases(left, 1), &self.releases(right, 2), delta, CONFIDENCE).unwrap()
    }
}

/// All counts and sums of a table, row by row.
fn numbers(table: &RecordBatch) -> Vec<Option<f64>> {
    let text = crate::show::preview_of(table);
    let row = |row: &Vec<Option<String>>| {
        let cells = row[1..].iter().map(|cell| cell.as_ref().map(|cell| cell.parse().unwrap()));
        cells.collect::<Vec<Option<f64>>>()
    };
    text.rows.iter().flat_map(row).collect()
}

const OTHERS: [(&str, f64); 3] = [("here", 4.0), ("here", 5.0), ("there", 6.0)];

fn with(unit: (&'static str, f64)) -> Vec<(&'static str, f64)> {
    OTHERS.into_iter().chain([unit]).collect()
}

/// What the tester certifies of a trial in which one unit is added, at its largest value.
fn added(trial: &Trial) -> Certificate {
    trial.certify(&OTHERS, &with(("here", 10.0)))
}

/// The same where a unit's rows are replaced, and it moves from one cell to the other.
fn moved(trial: &Trial) -> Certificate {
    trial.certify(&with(("here", 10.0)), &with(("there", 10.0)))
}

fn claim(trial: &Trial) -> Claim {
    let cost = trial.mechanism.cost();
    Claim::new(cost.epsilon_micros.micros() as f64 * 1e-6, cost.delta_femtos.femtos() as f64 * 1e-15).unwrap()
}

#[track_caller]
fn holds(name: &str, trial: &Trial, certificate: &Certificate, at_least: f64) {
    println!("{name}: {}", certificate.against(&claim(trial), &["here count", "here sum", "there count", "there sum"]));
    assert!(!certificate.refutes(&claim(trial)), "{name}: {certificate:?}");
    assert!(certificate.epsilon_lower >= at_least, "{name} certifies too little to notice a fault: {certificate:?}");
}

#[track_caller]
fn is_caught(name: &str, trial: &Trial, certificate: &Certificate) {
    println!("{name}: {}", certificate.against(&claim(trial), &["here count", "here sum", "there count", "there sum"]));
    assert!(certificate.refutes(&claim(trial)), "{name} was not noticed: {certificate:?}");
}

/// Counts and sums take half of epsilon each, and one unit moves both: for Laplace noise the bound is near what is
/// claimed. Gaussian noise spends its epsilon in tails that are rarer than what so few runs show.
#[test]
fn an_honest_release_keeps_its_epsilon_and_nearly_spends_it() {
    for (name, noise, least) in [("laplace", NoiseChoice::Laplace, 0.75), ("gaussian", NoiseChoice::Gaussian, 0.05)] {
        let trial = Trial::new("required", controls(noise, 2_000_000));
        holds(&format!("added, {name}"), &trial, &added(&trial), least);
        let trial = Trial::new("optional", controls(noise, 2_000_000));
        holds(&format!("replaced, {name}"), &trial, &moved(&trial), least);
    }
}

#[test]
fn half_the_sensitivity_is_caught() {
    for noise in [NoiseChoice::Laplace, NoiseChoice::Gaussian] {
        let mut trial = Trial::new("required", controls(noise, 2_000_000));
        trial.mechanism.tamper(|noise| noise.louder_by(1, 4));
        is_caught("a quarter of the noise", &trial, &added(&trial));
    }
    let mut trial = Trial::new("required", controls(NoiseChoice::Laplace, 2_000_000));
    trial.mechanism.tamper(|noise| noise.louder_by(1, 2));
    is_caught("half the sensitivity", &trial, &added(&trial));
}

/// As if epsilon had been taken for the whole and not for its parts.
#[test]
fn a_wrong_scale_is_caught() {
    let mut trial = Trial::new("required", controls(NoiseChoice::Laplace, 2_000_000));
    trial.mechanism.tamper(|noise| noise.louder_by(6, 10));
    is_caught("a scale of 0.6", &trial, &added(&trial));
}

#[test]
fn reused_noise_is_caught() {
    let mut trial = Trial::new("required", controls(NoiseChoice::Laplace, 2_000_000));
    trial.seeds = Seeds::Reused;
    is_caught("noise that is drawn once", &trial, &added(&trial));
}

/// The outer join's releases with the noise of the inner join.
#[test]
fn noise_for_adding_where_units_are_replaced_is_caught() {
    let mut trial = Trial::new("optional", controls(NoiseChoice::Laplace, 2_000_000));
    trial.mechanism = Mechanism::new(&manifest("required"), &trial.controls);
    is_caught("add/remove noise for an outer join", &trial, &moved(&trial));
}

/// What one unit above k - 1 shows is a group that nobody else is in: its probability is bounded by delta alone.
#[test]
fn a_threshold_off_by_one_is_caught() {
    let mut controls = controls(NoiseChoice::Laplace, 4_000_000);
    controls.k_min = 2;
    controls.delta_femtos = Delta::from_femtos(20_000_000_000_000);
    let mut trial = Trial::new("required", controls);
    let alone = |trial: &Trial| trial.certify(&[("here", 1.0)], &[("here", 1.0), ("here", 1.0)]);
    let honest = alone(&trial);
    assert!(!honest.refutes(&claim(&trial)), "{honest:?}");
    trial.mechanism.threshold = trial.mechanism.threshold.map(|threshold| threshold - 1);
    is_caught("a threshold of one less", &trial, &alone(&trial));
}
