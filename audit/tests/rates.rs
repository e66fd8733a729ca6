//! Intervals and one-run bounds against SciPy's, and against what the paper prints.

use glovebox_audit::{Error, Guesses, canaries, rate};

/// Successes, trials, confidence, then `scipy.stats.beta` 1.17 at both ends.
const RATES: [(usize, usize, f64, f64, f64); 13] = [
    (0, 10, 0.95, 0.0, 3.0849710782e-01),
    (1, 10, 0.95, 2.5285785445e-03, 4.4501611703e-01),
    (5, 10, 0.95, 1.8708602845e-01, 8.1291397155e-01),
    (10, 10, 0.95, 6.9150289218e-01, 1.0),
    (3, 20, 0.9, 4.2169407886e-02, 3.4366380431e-01),
    (1, 1, 0.99, 5.0e-03, 1.0),
    (2, 3, 0.5, 3.2635182233e-01, 9.0856029642e-01),
    (7, 1000, 0.999, 1.3515103174e-03, 2.0513437493e-02),
    (73_106, 100_000, 0.9999, 7.2557575912e-01, 7.3649600575e-01),
    (26_894, 100_000, 0.9999, 2.6350399425e-01, 2.7442424088e-01),
    (0, 100_000, 0.9999, 0.0, 9.9029971734e-05),
    (99_999, 100_000, 0.9999, 9.9987494048e-01, 9.9999999950e-01),
    (1_234_567, 100_000_000, 0.999_999, 1.2291729426e-02, 1.2399769428e-02),
];

/// Canaries, guesses, right, delta, confidence, and the bound from SciPy's binomials.
const BOUNDS: [(usize, usize, usize, f64, f64, f64); 8] = [
    (1000, 100, 75, 1e-4, 0.95, 0.672_984_664), // appendix D of the paper prints 0.673
    (1000, 600, 600, 0.0, 0.95, 5.297_243_473),
    (1000, 600, 600, 1e-5, 0.95, 5.270_399_464),
    (2000, 2000, 1300, 0.0, 0.999, 0.473_985_651),
    (2000, 1500, 1300, 1e-6, 0.99, 1.695_264_215),
    (100, 100, 50, 0.0, 0.95, 0.0),
    (20, 5, 5, 0.0, 0.99, 0.0),
    (1000, 100, 100, 1e-2, 0.95, 0.0),
];

#[test]
fn rates_are_those_of_scipy() {
    for (successes, trials, confidence, lower, upper) in RATES {
        let (low, high) = rate(successes, trials, confidence).unwrap();
        let close = |ours: f64, theirs: f64| (ours - theirs).abs() <= 1e-9 * theirs;
        assert!(close(low, lower) && close(high, upper), "{successes} of {trials}: {low:e} {high:e}");
    }
}

#[test]
fn rates_cover_every_probability_as_often_as_they_say() {
    let (trials, confidence) = (30, 0.9);
    let intervals: Vec<_> = (0..=trials).map(|successes| rate(successes, trials, confidence).unwrap()).collect();
    for p in (1..100).map(|percent| f64::from(percent) / 100.0) {
        let odds = p / (1.0 - p);
        let mut mass = (1.0 - p).powi(30);
        let mut missed = [0.0, 0.0];
        for (successes, &(lower, upper)) in intervals.iter().enumerate() {
            missed[0] += if p < lower { mass } else { 0.0 };
            missed[1] += if p > upper { mass } else { 0.0 };
            mass *= (trials - successes) as f64 / (successes + 1) as f64 * odds;
        }
        assert!(missed[0] <= 0.05 && missed[1] <= 0.05, "p = {p} is missed with {missed:?}");
    }
}

#[test]
fn one_run_bounds_are_those_of_scipy() {
    for (canaries_thrown, made, right, delta, confidence, expected) in BOUNDS {
        let bound = canaries(Guesses { canaries: canaries_thrown, made, right }, delta, confidence).unwrap();
        assert!((bound - expected).abs() < 1e-7, "{right} of {made}: {bound}");
    }
}

#[test]
fn one_run_bound_grows_with_right_guesses_and_shrinks_with_delta() {
    let bound = |right, delta| canaries(Guesses { canaries: 500, made: 200, right }, delta, 0.95).unwrap();
    for right in 100..200 {
        assert!(bound(right + 1, 0.0) >= bound(right, 0.0));
        assert!(bound(right, 1e-4) <= bound(right, 1e-5) && bound(right, 1e-5) <= bound(right, 0.0));
    }
}

#[test]
fn nonsense_is_refused() {
    for confidence in [0.0, 1.0, 95.0, -0.5, f64::NAN] {
        assert!(matches!(rate(1, 2, confidence), Err(Error::Confidence(_))));
        assert!(canaries(Guesses { canaries: 2, made: 2, right: 1 }, 0.0, confidence).is_err());
    }
    assert_eq!(rate(3, 2, 0.9), Err(Error::Counts { successes: 3, trials: 2 }));
    assert_eq!(rate(0, 0, 0.9), Err(Error::Counts { successes: 0, trials: 0 }));
    for (made, right, delta) in [(3, 1, 0.0), (2, 3, 0.0), (0, 0, 0.0), (2, 1, -0.1), (2, 1, 1.0), (2, 1, f64::NAN)] {
        assert!(canaries(Guesses { canaries: 2, made, right }, delta, 0.9).is_err());
    }
}
