//! The samplers against their distributions, exactly where they are small, and the thresholds against published ones.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const MILLION: u128 = 1_000_000;

fn cases(oracle: &str) -> Vec<Value> {
    let golden: Value = serde_json::from_str(include_str!("../golden/golden.json")).unwrap();
    golden[oracle].as_array().unwrap().clone()
}

fn number(case: &Value, key: &str) -> f64 {
    case[key].as_f64().unwrap_or_else(|| panic!("{key} in {case}"))
}

fn whole(case: &Value, key: &str) -> u64 {
    case[key].as_u64().unwrap_or_else(|| panic!("{key} in {case}"))
}

fn scale(noise: Noise) -> Scale {
    match noise {
        Noise::Laplace(scale) | Noise::Gaussian(scale) => scale,
    }
}

/// The mass at x, up to a factor.
fn weight(noise: Noise, x: f64) -> f64 {
    match noise {
        Noise::Laplace(b) => (-x.abs() / b.as_f64()).exp(),
        Noise::Gaussian(sigma) => (-0.5 * (x / sigma.as_f64()).powi(2)).exp(),
    }
}

/// The distance of a chi-square statistic from its mean, in standard deviations.
fn z_of(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (mut statistic, mut cells) = (0.0, 0.0);
    for (seen, expected) in pairs {
        assert!(expected > 5.0, "a cell of {expected}");
        statistic += (seen - expected).powi(2) / expected;
        cells += 1.0;
    }
    (statistic - (cells - 1.0)) / (2.0 * (cells - 1.0f64)).sqrt()
}

/// Chi-square of draws in cells of some width, symmetric about 0, against sums of the mass function; the outermost
/// two cells hold the tails.
fn chi_square_z(noise: Noise, width: i128, cells: i128, draws: u32) -> f64 {
    let cell = |x: i128| ((x.abs() + width / 2) / width).min(cells) * x.signum();
    let mut random = Random::from_seed([42; 32]);
    let mut seen: BTreeMap<i128, f64> = BTreeMap::new();
    for _ in 0..draws {
        *seen.entry(cell(noise.sample(&mut random))).or_default() += 1.0;
    }
    let mut expected: BTreeMap<i128, f64> = BTreeMap::new();
    let far = 10 * width * cells;
    for x in -far..=far {
        *expected.entry(cell(x)).or_default() += weight(noise, x as f64);
    }
    let total: f64 = expected.values().sum();
    z_of(expected.iter().map(|(cell, mass)| (seen.get(cell).copied().unwrap_or(0.0), f64::from(draws) * mass / total)))
}

#[test]
fn discrete_laplace_has_its_mass_function() {
    for (numerator, denominator, width, cells) in [
        (1, 2, 1, 3),
        (1, 1, 1, 7),
        (7, 3, 1, 12),
        (6 * MILLION, 500_000, 1, 40),
        (1000, 1, 150, 30),
        (1000 * MILLION + 7, MILLION - 1, 150, 30),
    ] {
        let z = chi_square_z(Noise::laplace(numerator, denominator), width, cells, 200_000);
        assert!(z.abs() < 4.0, "scale {numerator}/{denominator}: z = {z}");
    }
}

#[test]
fn discrete_gaussian_has_its_mass_function() {
    for (numerator, denominator, width, cells) in [
        (1, 4, 1, 1),
        (1, 1, 1, 3),
        (2, 1, 1, 4),
        (41, 2, 1, 14),
        (MILLION * MILLION, 48_712_000_000, 1, 14),
        (10_000, 1, 10, 30),
        (1000 * 1000, 1, 100, 30),
    ] {
        let z = chi_square_z(Noise::gaussian(numerator, denominator), width, cells, 200_000);
        assert!(z.abs() < 4.0, "variance {numerator}/{denominator}: z = {z}");
    }
}

/// Answers from a list. Once it is used up, `asked` says among how many the next one would be, and fillers end the
/// draw.
struct Script<'a> {
    rest: std::slice::Iter<'a, u64>,
    asked: Option<u64>,
    filler: Random,
}

impl Script<'_> {
    fn next(&mut self, n: u64) -> u64 {
        self.rest.next().copied().unwrap_or_else(|| {
            self.asked.get_or_insert(n);
            uniform_below(n.into(), &mut self.filler) as u64
        })
    }
}

/// Every string of words of five bits.
struct ByWord<'a>(Script<'a>);

impl Words for ByWord<'_> {
    const BITS: u32 = 5;

    fn word(&mut self) -> u64 {
        self.0.next(1 << Self::BITS)
    }
}

/// Every string of choices, whatever the words are from which they are made.
struct ByChoice<'a>(Script<'a>);

impl Words for ByChoice<'_> {
    const BITS: u32 = 0;

    fn word(&mut self) -> u64 {
        panic!("only choices are asked for")
    }

    fn below(&mut self, n: u128) -> u128 {
        if n == 1 { 0 } else { self.0.next(n as u64).into() }
    }
}

/// Answers and how many they stand for. A draw below 24 has four meanings, which one test takes apart; the others
/// would else spend all their time there.
fn answers(n: u64, lump: bool) -> Vec<(u64, f64)> {
    if lump && n == 24 {
        vec![(0, 12.0), (12, 8.0), (20, 3.0), (23, 1.0)]
    } else {
        (0..n).map(|answer| (answer, 1.0)).collect()
    }
}

/// The exact probability of each outcome over all strings of answers that are at least this likely, and the
/// probability of the others.
fn exactly<T: Ord>(least: f64, lump: bool, draw: impl Fn(Script<'_>) -> (T, Option<u64>)) -> (BTreeMap<T, f64>, f64) {
    let (mut outcomes, mut open) = (BTreeMap::new(), 0.0);
    let mut strings = vec![(Vec::new(), 1.0)];
    while let Some((string, share)) = strings.pop() {
        match draw(Script { rest: string.iter(), asked: None, filler: Random::from_seed([1; 32]) }) {
            (outcome, None) => *outcomes.entry(outcome).or_insert(0.0) += share,
            (_, Some(_)) if share < least => open += share,
            (_, Some(n)) => {
                let next = |(answer, of)| ([string.as_slice(), &[answer]].concat(), share * of / n as f64);
                strings.extend(answers(n, lump).into_iter().map(next));
            }
        }
    }
    (outcomes, open)
}

fn by_choice<T: Ord>(least: f64, lump: bool, draw: impl Fn(&mut ByChoice<'_>) -> T) -> (BTreeMap<T, f64>, f64) {
    exactly(least, lump, |script| {
        let mut words = ByChoice(script);
        (draw(&mut words), words.0.asked)
    })
}

fn assert_between(exact: f64, low: f64, open: f64, what: &str) {
    assert!((low - 1e-12..=low + open + 1e-12).contains(&exact), "{what}: {exact} is not in {low} + {open}");
}

#[test]
fn every_string_of_words_gives_uniform_numbers() {
    // From 32 on a number takes two words or more.
    for n in (1..=40).chain([63, 64, 65, 100]) {
        let (outcomes, open) = exactly(1e-4, false, |script| {
            let mut words = ByWord(script);
            (uniform_below(n, &mut words), words.0.asked)
        });
        assert!(outcomes.keys().copied().eq(0..n), "{n}");
        let shares: Vec<f64> = outcomes.into_values().collect();
        assert!(shares.iter().all(|share| (share - shares[0]).abs() < 1e-12), "{n}");
        assert!(open <= 0.5, "{n}: {open} undecided");
        assert_between(1.0 / n as f64, shares[0], open, &n.to_string());
    }
}

#[test]
fn every_string_of_choices_gives_the_exponential() {
    for (numerator, denominator) in [(0, 1), (1, 2), (3, 4), (1, 3), (5, 7), (1, 1), (3, 2), (3, 1), (14, 3)] {
        let (outcomes, open) = by_choice(1e-5, false, |words| bernoulli_exp(numerator, denominator, words));
        let exact = (-(numerator as f64) / denominator as f64).exp();
        let low = outcomes.get(&true).copied().unwrap_or(0.0);
        assert!(open < 0.03, "{numerator}/{denominator}: {open} undecided");
        assert_between(exact, low, open, &format!("{numerator}/{denominator}"));
    }
}

#[test]
fn every_string_of_choices_gives_symmetric_noise() {
    for noise in [
        Noise::laplace(1, 2),
        Noise::laplace(1, 1),
        Noise::laplace(2, 1),
        Noise::laplace(3, 2),
        Noise::gaussian(1, 4),
        Noise::gaussian(1, 1),
        Noise::gaussian(4, 1),
    ] {
        let (outcomes, open) = by_choice(1e-6, true, |words| noise.sample(words));
        let total: f64 = (-200..=200).map(|x| weight(noise, f64::from(x))).sum();
        assert!(open < 0.25, "{noise:?}: {open} undecided");
        for (&x, &share) in &outcomes {
            let mirrored = outcomes.get(&-x).copied().unwrap_or(0.0);
            assert!((share - mirrored).abs() < 1e-12, "{noise:?} at {x}: {share} and {mirrored}");
            assert_between(weight(noise, x as f64) / total, share, open, &format!("{noise:?} at {x}"));
        }
    }
}

#[test]
fn every_string_of_choices_gives_an_even_response() {
    for (epsilon_micros, alternatives) in [(0, 0), (0, 1), (0, 4), (1_000_000, 1), (1_000_000, 3), (2_000_000, 2)] {
        let (outcomes, open) = by_choice(1e-6, true, |words| randomised_response(epsilon_micros, alternatives, words));
        let lie = (-(epsilon_micros as f64) / 1e6).exp();
        let all = 1.0 + f64::from(alternatives) * lie;
        assert!(open < 0.06, "{epsilon_micros} micros: {open} undecided");
        assert!(outcomes.keys().flatten().copied().eq(0..alternatives));
        for (&answer, &share) in &outcomes {
            let exact = if answer.is_none() { 1.0 / all } else { lie / all };
            assert_between(exact, share, open, &format!("{epsilon_micros} micros, {answer:?}"));
            assert!(answer.is_none() || (share - outcomes[&Some(0)]).abs() < 1e-12, "alternatives are equal");
        }
    }
}

#[test]
fn responses_are_kept_as_often_as_published() {
    const DRAWS: u32 = 100_000;
    for case in cases("responses") {
        let alternatives = u32::try_from(whole(&case, "alternatives")).unwrap();
        let keep = number(&case, "keep");
        let mut random = Random::from_seed([9; 32]);
        let mut seen = vec![0.0; alternatives as usize + 1];
        for _ in 0..DRAWS {
            let answer = randomised_response(whole(&case, "epsilon_micros"), alternatives, &mut random);
            seen[answer.map_or(alternatives as usize, |at| at as usize)] += 1.0;
        }
        let lie = (1.0 - keep) / f64::from(alternatives.max(1));
        let expected = |at: usize| f64::from(DRAWS) * if at == alternatives as usize { keep } else { lie };
        if alternatives == 0 {
            assert_eq!(seen, [f64::from(DRAWS)]);
        } else {
            let z = z_of(seen.iter().enumerate().map(|(at, &seen)| (seen, expected(at))));
            assert!(z < 4.0, "{case}: z = {z}");
        }
    }
}

#[test]
fn wide_numbers_are_uniform() {
    let mut random = Random::from_seed([3; 32]);
    for n in [(1 << 64) - 1, 1 << 64, (1 << 64) + 1, 3 << 70, (1 << 100) + 12_345, u128::MAX] {
        let mut seen = [0.0; 16];
        let mut low = [0.0; 16];
        for _ in 0..32_000 {
            let draw = uniform_below(n, &mut random);
            assert!(draw < n);
            seen[(draw / n.div_ceil(16)) as usize] += 1.0;
            low[(draw % 16) as usize] += 1.0;
        }
        for cells in [seen, low] {
            let z = z_of(cells.into_iter().map(|seen| (seen, 2000.0)));
            assert!(z.abs() < 4.0, "{n}: z = {z}");
        }
    }
}

#[test]
fn large_scales_keep_their_range_and_size() {
    let mean = |noise: Noise| {
        let mut random = Random::from_seed([1; 32]);
        (0..20_000).map(|_| noise.sample(&mut random).abs() as f64).sum::<f64>() / 20_000.0
    };
    // The mean of |X| is b, or σ√(2/π); its standard error over 20,000 draws is below 1 %.
    for (numerator, denominator) in [(1 << 60, 3), (1 << 75, 1), (1 << 75, (1 << 40) - 1), ((1 << 100) - 1, 7)] {
        let ratio = mean(Noise::laplace(numerator, denominator)) * denominator as f64 / numerator as f64;
        assert!((ratio - 1.0).abs() < 0.03, "{numerator}/{denominator}: {ratio}");
    }
    for (numerator, denominator) in [
        (1 << 110, 1),
        (1 << 112, 1),
        (1 << 110, 1 << 60),
        ((1 << 110) + 1, (1 << 60) - 1),
        (1 << 64, 3),
        ((MILLION * MILLION) << 40, 3_000_000_000),
    ] {
        let sigma = (numerator as f64 / denominator as f64).sqrt();
        let ratio = mean(Noise::gaussian(numerator, denominator)) / sigma / (2.0 / std::f64::consts::PI).sqrt();
        assert!((ratio - 1.0).abs() < 0.03, "{numerator}/{denominator}: {ratio}");
    }
}

#[test]
fn tiny_scales_give_zero() {
    let mut random = Random::from_seed([5; 32]);
    for noise in [Noise::laplace(1, 1 << 40), Noise::laplace(1, (1 << 100) - 1), Noise::gaussian(1, 1 << 60)] {
        assert!((0..1000).all(|_| noise.sample(&mut random) == 0));
        assert_eq!(noise.standard_deviation(), 0.0);
        assert_eq!(noise.reach(1e-9), 1);
    }
}

#[test]
fn scales_outside_the_range_are_defects() {
    for (numerator, denominator) in [(0, 1), (1, 0), (1 << 100, 1), (1, 1 << 100)] {
        assert!(std::panic::catch_unwind(|| Noise::laplace(numerator, denominator)).is_err());
    }
    for (numerator, denominator) in [(0, 1), (1, 0), ((1 << 112) + 1, 1), (1, (1 << 60) + 1)] {
        assert!(std::panic::catch_unwind(|| Noise::gaussian(numerator, denominator)).is_err());
    }
}

/// What an attack on noise in floats sees: outputs that only one of two true values can give. Here both give every
/// whole number, down to the last bit, however wide the noise.
#[test]
fn outputs_do_not_tell_the_true_value_by_their_form() {
    for noise in [Noise::laplace(1, 1), Noise::gaussian(4, 1)] {
        for truth in [0, 1, i128::from(i64::MAX)] {
            let mut random = Random::from_seed([8; 32]);
            let seen: std::collections::BTreeSet<i128> =
                (0..20_000).map(|_| truth + noise.sample(&mut random)).collect();
            assert!((truth - 4..=truth + 4).all(|value| seen.contains(&value)), "{noise:?} about {truth}");
        }
    }
    for noise in [Noise::laplace(1 << 75, 3), Noise::gaussian(1 << 110, 3)] {
        for truth in [0, 1, i128::from(i64::MAX)] {
            let mut random = Random::from_seed([8; 32]);
            let mut low = [0.0; 16];
            for _ in 0..32_000 {
                low[(truth + noise.sample(&mut random)).rem_euclid(16) as usize] += 1.0;
            }
            let z = z_of(low.into_iter().map(|seen| (seen, 2000.0)));
            assert!(z.abs() < 4.0, "{noise:?} about {truth}: z = {z}");
        }
    }
}

#[test]
fn published_thresholds() {
    for (b, delta, tau) in [(1, 1e-6, 15), (1, 1e-9, 22), (2, 1e-6, 28), (10, 1e-6, 133), (10, 1e-9, 202)] {
        assert_eq!(Noise::laplace(b, 1).threshold(delta), tau, "b = {b}, delta = {delta}");
    }
    for (sigma, delta, tau) in [(2, 1e-6, 11), (4, 1e-6, 21), (10, 1e-6, 50), (10, 1e-9, 62)] {
        assert_eq!(Noise::gaussian(sigma * sigma, 1).threshold(delta), tau, "sigma = {sigma}, delta = {delta}");
    }
}

#[test]
fn thresholds_and_deviations_are_those_of_exact_sums() {
    type Make = fn(u128, u128) -> Noise;
    for (oracle, make) in [("laplace_tails", Noise::laplace as Make), ("gaussian_tails", Noise::gaussian)] {
        for case in cases(oracle) {
            let noise = make(whole(&case, "numerator").into(), whole(&case, "denominator").into());
            assert_eq!(noise.threshold(number(&case, "delta")), whole(&case, "threshold"), "{case}");
            let (ours, exact) = (noise.standard_deviation(), number(&case, "deviation"));
            assert!((ours / exact - 1.0).abs() < 1e-6 || exact < 1e-15, "{case}: {ours}");
        }
    }
}

#[test]
fn thresholds_of_wide_gaussians_err_upward_and_little() {
    for case in cases("wide_gaussian_tails") {
        let sigma = u128::from(whole(&case, "sigma"));
        let (ours, exact) =
            (Noise::gaussian(sigma * sigma, 1).threshold(number(&case, "delta")), whole(&case, "threshold"));
        let slack = if sigma <= 2047 { 0 } else { exact / 1000 + whole(&case, "sigma") / 1000 };
        assert!((exact..=exact + slack).contains(&ours), "{case}: {ours}");
    }
}

#[test]
fn scales_cost_what_another_implementation_says() {
    for case in cases("maps") {
        let (sensitivity, amount) = (u128::from(whole(&case, "sensitivity")), u128::from(whole(&case, "amount")));
        let (noise, unit) = match case["kind"].as_str() {
            Some("laplace") => (Noise::laplace(sensitivity * MILLION, amount), 1e-6),
            _ => (Noise::gaussian(sensitivity * sensitivity * MILLION * MILLION, 2 * amount), 1e-12),
        };
        let ratio = scale(noise).as_f64() / number(&case, "scale");
        assert!((1.0 - 1e-12..1.0 + 2e-8).contains(&ratio), "{case}: {ratio}");
        assert!((number(&case, "claimed") / (amount as f64 * unit) - 1.0).abs() < 1e-12, "{case}");
    }
}

#[test]
fn impossible_probabilities_release_nothing() {
    for noise in [Noise::laplace(1, 1), Noise::gaussian(1, 1)] {
        for delta in [0.0, -1.0, f64::NAN, 1e-300, f64::NEG_INFINITY] {
            assert_eq!(noise.threshold(delta), u64::MAX);
        }
        for delta in [1.0, 2.0, f64::INFINITY] {
            assert_eq!(noise.reach(delta), 0);
        }
    }
    assert_eq!(Noise::laplace(1 << 75, 1).threshold(1e-9), u64::MAX, "it does not fit");
    assert!(Noise::gaussian(1 << 112, 1).reach(1e-280) < 1 << 62);
}

#[test]
fn sigma_is_rounded_up_and_hardly() {
    assert_eq!(scale(Noise::gaussian(4, 1)), Scale { numerator: 2, denominator: 1 });
    assert_eq!(scale(Noise::gaussian(1, 4)), Scale { numerator: 1, denominator: 2 });
    assert_eq!(scale(Noise::gaussian(9 * 7, 4 * 7)), Scale { numerator: 3, denominator: 2 });
    assert_eq!(scale(Noise::gaussian(1 << 110, 1)), Scale { numerator: 1 << 55, denominator: 1 });
    assert_eq!(scale(Noise::gaussian((1 << 110) + 1, 1)), Scale { numerator: (1 << 55) + 1, denominator: 1 });
    assert_eq!(scale(Noise::gaussian(1, 1 << 60)), Scale { numerator: 1, denominator: 1 << 27 });
}

/// Is (a/b)² below n/d? For a and b up to 2^57, by long division.
fn square_is_below(root: Scale, numerator: u128, denominator: u128) -> bool {
    // a²/b² < n/d if and only if the whole parts, or else the rests, compare so.
    let (mut a, mut b) = (root.numerator.pow(2), root.denominator.pow(2));
    let (mut n, mut d) = (numerator, denominator);
    loop {
        if a / b != n / d {
            return a / b < n / d;
        }
        (a, n) = (a % b, n % d);
        if a == 0 || n == 0 {
            return a == 0 && n != 0;
        }
        // Both are below 1 now; the greater has the smaller inverse.
        (a, b, n, d) = (d, n, b, a);
    }
}

fn any_noise() -> impl Strategy<Value = Noise> {
    let laplace = (1..1u128 << 30, 1..1u128 << 20).prop_map(|(n, d)| Noise::laplace(n, d));
    let gaussian = (1..1u128 << 50, 1..1u128 << 40).prop_map(|(n, d)| Noise::gaussian(n, d));
    prop_oneof![laplace, gaussian]
}

/// P[X >= t] by its definition, from above but for floats, for scales up to some hundreds.
fn tail(noise: Noise, t: u64) -> f64 {
    let far = t as i64 + 40 * (scale(noise).as_f64() as i64 + 2);
    let sum = |from: i64| (from..far).map(|x| weight(noise, x as f64)).sum::<f64>();
    sum(t as i64) / (2.0 * sum(1) + 1.0)
}

proptest! {
    #[test]
    fn sigma_is_never_rounded_down(n in 1..=1u128 << 112, shift in 0..112u32, d in 1..=1u128 << 60, by in 0..60u32) {
        let (n, d) = ((n >> shift).max(1), (d >> by).max(1));
        let sigma = scale(Noise::gaussian(n, d));
        prop_assert!(!square_is_below(sigma, n, d), "{sigma:?} for {n}/{d}");
        let ratio = sigma.as_f64() / (n as f64 / d as f64).sqrt();
        let step = 2f64.powi(-27) / (n as f64 / d as f64).sqrt();
        prop_assert!(ratio < 1.0 + 2f64.powi(-26).max(step) + 1e-12, "{sigma:?} for {n}/{d}: {ratio}");
    }

    #[test]
    fn thresholds_fall_with_delta(noise in any_noise(), exponents in (0.0..40.0f64, 0.0..40.0f64)) {
        let (low, high) = (exponents.0.max(exponents.1), exponents.0.min(exponents.1));
        prop_assert!(noise.threshold((-low).exp()) >= noise.threshold((-high).exp()));
    }

    #[test]
    fn thresholds_rise_with_the_scale(n in 1..1u128 << 30, d in 1..1u128 << 20, more in 0..1u128 << 30) {
        prop_assert!(Noise::laplace(n, d).threshold(1e-9) <= Noise::laplace(n + more, d).threshold(1e-9));
        prop_assert!(Noise::gaussian(n, d).threshold(1e-9) <= Noise::gaussian(n + more, d).threshold(1e-9));
    }

    #[test]
    fn a_count_of_one_reaches_the_threshold_with_at_most_delta(
        hundredths in 1..20_000u128,
        gaussian in any::<bool>(),
        exponent in 0.0..30.0f64,
    ) {
        let make = if gaussian { Noise::gaussian } else { Noise::laplace };
        let (noise, delta) = (make(hundredths, 100), (-exponent).exp());
        let reach = noise.reach(delta);
        prop_assert_eq!(noise.threshold(delta), reach + 1);
        prop_assert!(tail(noise, reach) <= delta * (1.0 + 1e-9), "{:?}: {} of {}", noise, tail(noise, reach), delta);
        // And it is the least that does.
        prop_assert!(reach == 0 || tail(noise, reach - 1) > delta * (1.0 - 1e-9));
    }
}
