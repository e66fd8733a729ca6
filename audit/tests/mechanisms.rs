//! Honest mechanisms pass, and the usual mistakes are found with about the epsilon that theory gives them.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use glovebox_audit::{Certificate, Claim, Error, Observation, Side, certify, rate};

const RUNS: usize = 200_000;
const CONFIDENCE: f64 = 1.0 - 1e-4;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let once = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let twice = (once ^ (once >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        twice ^ (twice >> 31)
    }

    /// Uniform in (0, 1].
    fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / 2f64.powi(53)
    }

    /// P[k] proportional to e^(−|k| / scale): the difference of two geometric numbers.
    fn laplace(&mut self, scale: f64) -> f64 {
        let mut geometric = || (-self.unit().ln() * scale).floor();
        geometric() - geometric()
    }
}

/// So many outputs of a mechanism for a pair of neighbours, from seeds of their own.
fn sides(runs: usize, seed: u64, mechanism: impl Fn(Side, &mut Random) -> Observation) -> [Vec<Observation>; 2] {
    [Side::Left, Side::Right].map(|side| {
        let mut random = Random(seed ^ if side == Side::Left { 0 } else { 1 << 63 });
        (0..runs).map(|_| mechanism(side, &mut random)).collect()
    })
}

fn audit(runs: usize, delta: f64, mechanism: impl Fn(Side, &mut Random) -> Observation) -> Certificate {
    let [left, right] = sides(runs, 7, mechanism);
    certify(&left, &right, delta, CONFIDENCE).unwrap()
}

/// A count of 57 and its neighbour, `step` less, with noise.
fn count(side: Side, step: f64, noise: f64) -> Observation {
    [noise + if side == Side::Left { 57.0 } else { 57.0 - step }].into()
}

fn assert_between(low: f64, certificate: &Certificate, high: f64) {
    let epsilon = certificate.epsilon_lower;
    assert!((low..=high).contains(&epsilon), "{epsilon} by {}", certificate.event);
}

fn claim(epsilon: f64, delta: f64) -> Claim {
    Claim::new(epsilon, delta).unwrap()
}

#[test]
fn honest_count_is_certified_nearly_and_never_beyond_its_epsilon() {
    let certificate = audit(RUNS, 0.0, |side, random| count(side, 1.0, random.laplace(1.0)));
    assert_between(0.96, &certificate, 1.0);
    assert!(!certificate.refutes(&claim(1.0, 0.0)) && certificate.refutes(&claim(0.95, 0.0)));
    let line = certificate.against(&claim(1.0, 0.0), &["count"]).to_string();
    assert!(line.starts_with("certified epsilon >= 0.9") && line.contains(" (claimed 1.000) by `count "), "{line}");
}

#[test]
fn sensitivity_off_by_two_is_found() {
    let certificate = audit(RUNS, 0.0, |side, random| count(side, 2.0, random.laplace(1.0)));
    assert_between(1.93, &certificate, 2.0);
    assert!(certificate.refutes(&claim(1.0, 0.0)));
}

#[test]
fn too_small_a_scale_is_found() {
    let certificate = audit(RUNS, 0.0, |side, random| count(side, 1.0, random.laplace(0.8)));
    assert_between(1.19, &certificate, 1.25);
    assert!(certificate.refutes(&claim(1.0, 0.0)));
}

#[test]
fn reused_noise_is_found() {
    let certificate = audit(RUNS, 0.0, |side, _| count(side, 1.0, Random(3).laplace(1.0)));
    assert_between(9.0, &certificate, 9.3);
}

#[test]
fn either_side_may_be_the_likelier_one() {
    let spike = |at: Side| move |side, random: &mut Random| [f64::from(side == at && random.unit() < 0.2)].into();
    for at in [Side::Left, Side::Right] {
        let certificate = audit(2_000, 0.0, spike(at));
        assert_eq!(certificate.likelier, at);
        assert_between(2.0, &certificate, 4.0);
    }
}

#[test]
fn one_value_that_is_too_frequent_is_found() {
    let certificate = audit(4_000, 0.0, |side, random| {
        let spread = (random.unit() * 100.0).ceil();
        [if side == Side::Left && random.unit() < 0.3 { 50.0 } else { spread }].into()
    });
    assert_between(2.0, &certificate, (31f64).ln());
    assert_eq!(certificate.event.to_string(), "feature 0 = 50");
}

#[test]
fn search_passes_over_what_delta_grants() {
    // The first feature leaks everything, but less often than delta; the second leaks a factor of five.
    let certificate = audit(20_000, 0.02, |side, random| {
        let (rare, common) = if side == Side::Left { (0.01, 0.5) } else { (0.0, 0.1) };
        [rare, common].map(|probability| f64::from(random.unit() <= probability)).into()
    });
    assert_between(1.3, &certificate, 5f64.ln());
}

/// One unit's key is released if its noisy count reaches the threshold; without the unit there is no key.
fn key(side: Side, threshold: f64, random: &mut Random) -> Observation {
    let noisy = 1.0 + random.laplace(1.0);
    Observation(vec![(side == Side::Left && noisy >= threshold).then_some(noisy)])
}

#[test]
fn key_threshold_off_by_one_is_found() {
    // P[1 + X >= t] is e^(1 − t) / (1 + 1/e): 0.0049 for 6 and 0.0134 for 5.
    let (delta, honest, wrong) = (0.01, 6.0, 5.0);
    let certificate = audit(RUNS, delta, |side, random| key(side, honest, random));
    assert_eq!(certificate.epsilon_lower, 0.0, "{}", certificate.event);
    let certificate = audit(RUNS, delta, |side, random| key(side, wrong, random));
    assert_between(2.0, &certificate, 4.0);
    assert!(certificate.refutes(&claim(1.0, delta)) && !certificate.refutes(&claim(1.0, 0.015)));
    let line = certificate.against(&claim(1.0, delta), &["count"]).to_string();
    assert!(line.ends_with(" at delta 0.01 (claimed 1.000) by `count is present`"), "{line}");
}

#[test]
fn a_key_that_only_hides_is_found_as_well() {
    let certificate = audit(2_000, 0.0, |side, random| key(side, -3.0, random));
    assert_between(4.0, &certificate, 6.0);
}

#[test]
fn replaced_unit_under_noise_for_an_added_one_is_found() {
    let certificate = audit(RUNS, 0.0, |side, random| {
        let (here, there) = if side == Side::Left { (11.0, 20.0) } else { (10.0, 21.0) };
        [here + random.laplace(1.0), there + random.laplace(1.0)].into()
    });
    assert_between(1.93, &certificate, 2.0);
}

#[test]
fn unit_that_counts_in_four_cells_is_found() {
    let certificate = audit(40_000, 0.0, |side, random| {
        let count = if side == Side::Left { 1.0 } else { 0.0 };
        [0; 4].map(|_| count + random.laplace(1.0)).into()
    });
    assert_between(3.35, &certificate, 4.0);
}

#[test]
fn floating_point_noise_is_found_by_the_grid_that_it_leaves() {
    // Noise on the grid of 2^-53 around 0 and on that of 2^-52 around 1 (Mironov 2012).
    let certificate = audit(4_000, 0.0, |side, random| {
        let noise = -random.unit().ln() * if random.bits() & 1 == 0 { 1.0 } else { -1.0 };
        [noise + if side == Side::Left { 0.0 } else { 1.0 }].into()
    });
    assert_between(2.0, &certificate, 7.0);
    assert!(certificate.event.to_string().contains("not a multiple of 2^-5"), "{}", certificate.event);
}

#[test]
fn parity_is_found() {
    let certificate = audit(4_000, 0.0, |side, random| {
        let even = random.laplace(1_000_000.0) * 2.0;
        [if side == Side::Left { even } else { even + 1.0 }].into()
    });
    assert_between(5.0, &certificate, 7.0);
    assert!(certificate.event.to_string().contains("multiple of 2^"), "{}", certificate.event);
}

#[test]
fn noise_that_cancels_in_a_sum_or_difference_is_found() {
    for sign in [1.0, -1.0] {
        let certificate = audit(2_000, 0.0, |side, random| {
            let noise = random.laplace(1_000.0);
            [noise + if side == Side::Left { 1.0 } else { 0.0 }, sign * noise].into()
        });
        assert_between(4.0, &certificate, 6.0);
        let operator = if sign > 0.0 { "-" } else { "+" };
        assert!(certificate.event.to_string().starts_with(&format!("feature 0 {operator} feature 1 ")));
    }
}

#[test]
fn sign_of_zero_and_nan_are_found() {
    for (one, other) in [(0.0, -0.0), (f64::NAN, 1.0), (f64::INFINITY, f64::NAN)] {
        let certificate = audit(2_000, 0.0, |side, _| [if side == Side::Left { one } else { other }].into());
        assert_between(4.0, &certificate, 5.0);
    }
}

#[test]
fn what_does_not_depend_on_the_input_certifies_nothing() {
    for constant in [Observation(vec![]), Observation(vec![None]), [5.0].into(), [f64::NAN, -0.0].into()] {
        let certificate = audit(2_000, 0.0, |_, _| constant.clone());
        assert_eq!(certificate.epsilon_lower, 0.0);
        assert_eq!(certificate.event.to_string(), "any output");
        assert!(!certificate.refutes(&claim(0.0, 0.0)));
    }
}

#[test]
fn too_few_observations_for_delta_certify_nothing() {
    let certificate = audit(4, 0.9, |side, _| count(side, 1.0, 0.0));
    assert_eq!((certificate.epsilon_lower, certificate.event.to_string().as_str()), (0.0, "any output"));
}

#[test]
fn certificate_follows_from_the_second_halves_alone() {
    let [mut left, mut right] = sides(2_000, 11, |side, random| count(side, 3.0, random.laplace(1.0)));
    let certificate = certify(&left, &right, 0.0, 0.99).unwrap();
    let (inside, outside) = if certificate.likelier == Side::Left { (&left, &right) } else { (&right, &left) };
    let hits = |sample: &[Observation]| sample[1_000..].iter().filter(|each| certificate.event.holds(each)).count();
    assert_eq!(rate(hits(inside), 1_000, 0.99).unwrap().0, certificate.probability_lower);
    assert_eq!(rate(hits(outside), 1_000, 0.99).unwrap().1, certificate.probability_upper);
    // Nothing that the search saw is left in the bound: halves that agree show nothing about halves that differ.
    right[1_000..].clone_from_slice(&left[1_000..]);
    assert_eq!(certify(&left, &right, 0.0, 0.99).unwrap().epsilon_lower, 0.0);
    left.reverse();
    assert!(!certify(&left, &right, 0.0, 0.99).unwrap().refutes(&claim(20.0, 0.0)));
}

#[test]
fn honest_mechanisms_are_accused_no_more_often_than_the_confidence_allows() {
    const SEEDS: u64 = 200;
    let confidence = 0.9;
    let accused = |epsilon: f64, mechanism: fn(Side, &mut Random) -> Observation| {
        let refuted = |seed: &u64| {
            let [left, right] = sides(300, *seed, mechanism);
            certify(&left, &right, 0.0, confidence).unwrap().refutes(&claim(epsilon, 0.0))
        };
        (0..SEEDS).filter(refuted).count()
    };
    let allowed = SEEDS as usize / 10;
    assert!(accused(1.0, |side, random| count(side, 1.0, random.laplace(1.0))) <= allowed);
    assert!(accused(0.0, |_, random| [random.unit(), random.unit()].into()) <= allowed);
}

#[test]
fn nonsense_is_refused() {
    let some = vec![Observation::from([1.0]); 2];
    assert_eq!(certify(&some, &some[..1], 0.0, 0.9), Err(Error::Observations(1)));
    assert_eq!(certify(&[], &some, 0.0, 0.9), Err(Error::Observations(0)));
    assert_eq!(certify(&some, &some, 0.0, 99.0), Err(Error::Confidence(99.0)));
    assert_eq!(certify(&some, &some, -1e-9, 0.9), Err(Error::Delta(-1e-9)));
    assert_eq!(Claim::new(f64::INFINITY, 0.0), Err(Error::Epsilon(f64::INFINITY)));
    assert_eq!(Claim::new(-1.0, 0.0), Err(Error::Epsilon(-1.0)));
    assert!(Claim::new(f64::NAN, 0.0).is_err() && Claim::new(1.0, 1.0).is_err());
}
