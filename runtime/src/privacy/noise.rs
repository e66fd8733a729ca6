//! Exact samplers over integers, and what their noise can do to a count.
//!
//! Source: Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy" (2020), Algorithms 1, 2 and 3.
//! Probabilities are rationals and every draw is an integer comparison, so no float attack applies. Floats appear only
//! in what is derived from a scale and never touches data: thresholds, which err upward, and standard deviations.

use crate::random::Random;

/// Where the samplers take their random bits from. Tests give them every string of bits, or of choices, in turn.
pub(crate) trait Words {
    /// The number of bits of a word, at most 64.
    const BITS: u32;

    /// That many uniform bits.
    fn word(&mut self) -> u64;

    /// Uniform in `0..n` for a positive n.
    fn below(&mut self, n: u128) -> u128
    where
        Self: Sized,
    {
        uniform_below(n, self)
    }
}

impl Words for Random {
    const BITS: u32 = u64::BITS;

    fn word(&mut self) -> u64 {
        self.next_u64()
    }
}

/// Noise on a whole number: a distribution over the integers, symmetric about 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noise {
    /// P(x) is proportional to exp(-|x|/b), where b is the scale.
    Laplace(Scale),
    /// P(x) is proportional to exp(-x²/2σ²), where σ is the scale.
    Gaussian(Scale),
}

/// A positive fraction in lowest terms, in units of the number that the noise is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scale {
    numerator: u128,
    denominator: u128,
}

/// Numerator and denominator of a Laplace scale stay below this, which leaves the sampler room for 2^28 times the scale.
const LAPLACE_MAX: u128 = 1 << 100;
/// The largest numerator of a variance: σ up to 2^56 fits, and its square times 2.
const VARIANCE_NUMERATOR_MAX: u128 = 1 << 112;
/// The largest denominator of a variance.
const VARIANCE_DENOMINATOR_MAX: u128 = 1 << 60;
/// σ is a fraction whose numerator has at most this many bits, unless it is a greater whole number. Its square, doubled,
/// is then well below a random word, where draws are fastest.
const SIGMA_BITS: u32 = 28;

impl Noise {
    /// Discrete Laplace noise of scale b = numerator/denominator. The mechanism of L1 sensitivity Δ is ε-DP if
    /// b >= Δ/ε.
    ///
    /// Both must be positive and below 2^100. Anything else is a defect and ends the process: no other scale would keep
    /// what was charged.
    pub(crate) fn laplace(numerator: u128, denominator: u128) -> Self {
        let range = 1..LAPLACE_MAX;
        assert!(range.contains(&numerator) && range.contains(&denominator), "a scale outside the sampler's range");
        Self::Laplace(Scale::new(numerator, denominator))
    }

    /// Discrete Gaussian noise of parameter σ² = numerator/denominator. The mechanism of L2 sensitivity Δ is ρ-zCDP if
    /// σ² >= Δ²/2ρ.
    ///
    /// Both must be positive, the numerator at most 2^112 and the denominator at most 2^60; anything else is a defect
    /// and ends the process. σ itself is rounded up, never down, to a multiple of a power of two: 2^-27 where σ is at most
    /// 1, at most 2^-26 of σ above, and never more than 1 or less than 2^-27. So there is never less noise than asked
    /// for, and exactly as much if σ is such a multiple, for example a whole number.
    pub(crate) fn gaussian(variance_numerator: u128, variance_denominator: u128) -> Self {
        assert!(
            (1..=VARIANCE_NUMERATOR_MAX).contains(&variance_numerator)
                && (1..=VARIANCE_DENOMINATOR_MAX).contains(&variance_denominator),
            "a variance outside the sampler's range"
        );
        Self::Gaussian(Scale::root(variance_numerator, variance_denominator))
    }

    /// Draws once.
    pub(crate) fn sample(self, words: &mut impl Words) -> i128 {
        match self {
            Self::Laplace(scale) => laplace(scale, words),
            Self::Gaussian(sigma) => gaussian(sigma, words),
        }
    }

    /// The standard deviation of the discrete distribution, for display.
    pub(crate) fn standard_deviation(self) -> f64 {
        match self {
            // The variance is 2q/(1-q)² with q = e^(-1/b).
            Self::Laplace(scale) => (std::f64::consts::SQRT_2 * (0.5 / scale.as_f64()).sinh()).recip(),
            Self::Gaussian(sigma) => gaussian_deviation(sigma.as_f64()),
        }
    }

    /// The least t >= 0 with P[X >= t] <= probability, or somewhat more where floats or sums over many numbers are
    /// not sure; never less.
    ///
    /// `u64::MAX` stands for "no t": the probability is 0, below 1e-280 or not a number, or t does not fit.
    pub(crate) fn reach(self, probability: f64) -> u64 {
        // Below this the terms of the sums could underflow.
        if probability.is_nan() || probability < 1e-280 {
            return u64::MAX;
        }
        let probability = probability.min(1.0);
        match self {
            Self::Laplace(scale) => laplace_reach(scale.as_f64(), probability),
            Self::Gaussian(sigma) => gaussian_reach(sigma.as_f64(), probability),
        }
    }

    /// What a noisy count must reach so that a count of one unit does with probability at most delta.
    ///
    /// P[1 + X >= τ] <= δ holds for τ = 1 + reach(δ). `u64::MAX` means that nothing may be released.
    pub(crate) fn threshold(self, delta: f64) -> u64 {
        self.reach(delta).saturating_add(1)
    }
}

#[cfg(test)]
impl Noise {
    /// Noise of another scale, for tests that must notice it.
    pub(super) fn louder_by(self, numerator: u128, denominator: u128) -> Self {
        let scaled = |scale: Scale| Scale::new(scale.numerator * numerator, scale.denominator * denominator);
        match self {
            Self::Laplace(scale) => Self::Laplace(scaled(scale)),
            Self::Gaussian(scale) => Self::Gaussian(scaled(scale)),
        }
    }
}

impl Scale {
    fn new(numerator: u128, denominator: u128) -> Self {
        let common = gcd(numerator, denominator);
        Self { numerator: numerator / common, denominator: denominator / common }
    }

    /// The square root of a fraction within the range of variances, rounded up to a multiple of a power of two.
    fn root(numerator: u128, denominator: u128) -> Self {
        // The fraction is below 2^bits, so its root has at most SIGMA_BITS bits after scaling, and the scaled numerator
        // is below 2^62 times the denominator, unless there is no scaling.
        let bits = numerator.div_ceil(denominator).ilog2() + 1;
        let shift = SIGMA_BITS.saturating_sub(bits.div_ceil(2));
        let square = (numerator << (2 * shift)).div_ceil(denominator);
        let floor = square.isqrt();
        Self::new(if floor * floor == square { floor } else { floor + 1 }, 1 << shift)
    }

    /// Off by at most three roundings.
    #[expect(clippy::cast_precision_loss, reason = "for thresholds, which round up, and for display")]
    fn as_f64(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Draws from the discrete Laplace distribution (Algorithm 2).
///
/// With s/t in lowest terms, u + sv is geometric of ratio e^(-1/s), since u of ratio e^(-1/s) is below s and v has the
/// ratio e^-1; cut into pieces of t it is geometric of ratio e^(-t/s).
fn laplace(scale: Scale, words: &mut impl Words) -> i128 {
    let Scale { numerator: s, denominator: t } = scale;
    loop {
        // The sign comes with the same draw, since random words are what takes the time.
        let draw = words.below(2 * s);
        let (u, negative) = (draw / 2, draw % 2 == 1);
        if !bernoulli_exp(u, s, words) {
            continue;
        }
        let mut v: u128 = 0;
        while bernoulli_one_over_e(words) {
            v += 1;
        }
        // Neither bound is ever met: the scale leaves room for v up to 2^28, which has probability e^(-2^28).
        let magnitude = i128::try_from(s.saturating_mul(v).saturating_add(u) / t).unwrap_or(i128::MAX);
        if negative && magnitude == 0 {
            // Zero would otherwise be drawn twice as often.
            continue;
        }
        return if negative { -magnitude } else { magnitude };
    }
}

/// Draws from the discrete Gaussian distribution (Algorithm 3): Laplace draws y of scale σ = s/t, of which each is kept
/// with probability exp(-(|y| - σ)²/2σ²).
///
/// The product of both is exp(-y²/2σ² - 1/2). Algorithm 3 allows any Laplace scale; with σ itself the exponent is
/// (|y|t - s)²/2s².
fn gaussian(sigma: Scale, words: &mut impl Words) -> i128 {
    let Scale { numerator: s, denominator: t } = sigma;
    loop {
        let y = laplace(sigma, words);
        // Saturation begins beyond 2^8 σ, where y has probability e^(-2^8) and is kept with e^(-2^14).
        let off = y.unsigned_abs().saturating_mul(t).abs_diff(s);
        if bernoulli_exp(off.saturating_mul(off), 2 * s * s, words) {
            return y;
        }
    }
}

/// True with probability exp(-numerator/denominator) (Algorithm 1). The denominator is positive.
pub(crate) fn bernoulli_exp(mut numerator: u128, denominator: u128, words: &mut impl Words) -> bool {
    while numerator >= denominator {
        if !bernoulli_one_over_e(words) {
            return false;
        }
        numerator -= denominator;
    }
    numerator == 0 || first_failure_is_odd(numerator, denominator, 1, words)
}

/// Makes trials of probability γ/k, from k on, for a fraction γ of at most 1, and tells whether the first that fails is
/// odd. From k = 1 on that is so with probability e^-γ. A trial is two, of probability γ and 1/k, so no product can
/// overflow.
fn first_failure_is_odd(numerator: u128, denominator: u128, mut k: u128, words: &mut impl Words) -> bool {
    while words.below(denominator) < numerator && words.below(k) == 0 {
        k += 1;
    }
    k % 2 == 1
}

/// The same for γ = 1, where one draw stands for the trials up to k = 4: 12 of 24 fail at 2, 8 at 3, 3 at 4, and one at
/// none of them.
fn bernoulli_one_over_e(words: &mut impl Words) -> bool {
    match words.below(24) {
        0..12 | 20..23 => false,
        12..20 => true,
        _ => first_failure_is_odd(1, 1, 5, words),
    }
}

/// Uniform in `0..n` for a positive n.
pub(crate) fn uniform_below<W: Words>(n: u128, words: &mut W) -> u128 {
    match u64::try_from(n) {
        Ok(1) => 0,
        Ok(narrow) if n >> W::BITS == 0 => u128::from(uniform_below_narrow(narrow, words)),
        _ => uniform_below_wide(n, words),
    }
}

/// The high half of n times a word, where each value is the share of equally many words once those with the lowest
/// halves are rejected (Lemire, "Fast Random Integer Generation in an Interval", 2019).
#[expect(clippy::cast_possible_truncation, reason = "the high half is below n")]
fn uniform_below_narrow<W: Words>(n: u64, words: &mut W) -> u64 {
    loop {
        let product = u128::from(words.word()) * u128::from(n);
        let low = product & ((1 << W::BITS) - 1);
        // The remainder is below n and costs more than a draw.
        if low >= u128::from(n) || low >= (1 << W::BITS) % u128::from(n) {
            return (product >> W::BITS) as u64;
        }
    }
}

/// As many bits as n has, by rejection of what is not below it.
fn uniform_below_wide<W: Words>(n: u128, words: &mut W) -> u128 {
    let bits = u128::BITS - n.leading_zeros();
    loop {
        let draw = (0..bits).step_by(W::BITS as usize).fold(0, |draw, at| draw | u128::from(words.word()) << at);
        let draw = draw & (u128::MAX >> n.leading_zeros());
        if draw < n {
            return draw;
        }
    }
}

/// Randomised response over a true answer and a number of alternatives to it: `None` keeps the true one, with
/// probability e^ε/(e^ε + alternatives), and `Some(i)` puts alternative i in its place, each with the same probability.
///
/// It is ε-DP for ε in millionths (Kairouz, Oh, Viswanath, "Extremal Mechanisms for Local Differential Privacy", 2016).
/// All answers are equally likely to be drawn; the true one is kept, any other one with probability e^-ε, and
/// otherwise the draw is repeated. That takes alternatives + 1 draws on average at most, and about e^ε at most.
pub(crate) fn randomised_response(epsilon_micros: u64, alternatives: u32, words: &mut impl Words) -> Option<u32> {
    loop {
        let answer = words.below(u128::from(alternatives) + 1);
        let alternative = u32::try_from(answer).ok().filter(|&answer| answer < alternatives);
        if alternative.is_none() || bernoulli_exp(u128::from(epsilon_micros), 1_000_000, words) {
            return alternative;
        }
    }
}

/// P[X >= t] = e^(-t/b) / (1 + e^(-1/b)) for t >= 0, solved for t.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates, as it should")]
fn laplace_reach(b: f64, probability: f64) -> u64 {
    let nats = -probability.ln() - (-1.0 / b).exp().ln_1p();
    // Both logarithms, the scale and the product err by a few parts in 1e16 of their size.
    let margin = 1e-13 * (1.0 - probability.ln());
    (b * (nats + margin)).ceil() as u64
}

/// Adds up the mass from far out toward 0, in blocks of whole numbers, for as long as the sum allows.
///
/// The sum is an upper bound, since
/// - P[X >= t] <= exp(-t²/2σ²), as for the continuous distribution (CKS20, by its bound on the moments), where it starts;
/// - the mass falls with distance from 0, so a block weighs at most its length times the mass at its near end;
/// - [`gaussian_weight`] is a lower bound of the normaliser.
///
/// Up to σ = 2048 a block is one number, and what is not exact is in the floats alone.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "positive, and at most 2^62; a rounding of 2^-53 is within the margin"
)]
fn gaussian_reach(sigma: f64, probability: f64) -> u64 {
    let block = (sigma / 1024.0).max(1.0).floor();
    let weight = gaussian_weight(sigma);
    // What lies beyond the start is e^-45 of the probability; it counts in full.
    let start = sigma * (2.0 * (45.0 - probability.ln())).sqrt();
    let mut tail = probability * (-45f64).exp();
    let mut blocks = (start / block).ceil().max(1.0) as u64;
    while blocks > 0 {
        let near = (blocks - 1) as f64 * block;
        tail += block * (-0.5 * (near / sigma).powi(2)).exp() / weight;
        // Exponents of at most 700, and a sum of at most 1e5 terms, err by less.
        if tail * (1.0 + 1e-10) > probability {
            break;
        }
        blocks -= 1;
    }
    blocks * block as u64
}

/// The numbers whose mass matters where σ is below [`SMALL_SIGMA`].
const SMALL_RANGE: std::ops::RangeInclusive<i32> = 1..=64;
/// From here on sums over whole numbers equal integrals up to e^(-2π²σ²), which is less than a float can tell.
const SMALL_SIGMA: f64 = 4.0;

/// The sum of exp(-x²/2σ²) over all integers, from below: by Poisson's formula it is σ√2π (1 + 2e^(-2π²σ²) + ..).
fn gaussian_weight(sigma: f64) -> f64 {
    if sigma >= SMALL_SIGMA {
        return sigma * std::f64::consts::TAU.sqrt();
    }
    1.0 + 2.0 * SMALL_RANGE.map(|x| (-0.5 * (f64::from(x) / sigma).powi(2)).exp()).sum::<f64>()
}

fn gaussian_deviation(sigma: f64) -> f64 {
    if sigma >= SMALL_SIGMA {
        return sigma;
    }
    let moment = |x: i32| f64::from(x).powi(2) * (-0.5 * (f64::from(x) / sigma).powi(2)).exp();
    (2.0 * SMALL_RANGE.map(moment).sum::<f64>() / gaussian_weight(sigma)).sqrt()
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "numbers are small in tests")]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const MILLION: u128 = 1_000_000;

    fn cases(oracle: &str) -> Vec<Value> {
        let golden: Value = serde_json::from_str(include_str!("golden/golden.json")).unwrap();
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
        z_of(
            expected
                .iter()
                .map(|(cell, mass)| (seen.get(cell).copied().unwrap_or(0.0), f64::from(draws) * mass / total)),
        )
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
    fn exactly<T: Ord>(
        least: f64,
        lump: bool,
        draw: impl Fn(Script<'_>) -> (T, Option<u64>),
    ) -> (BTreeMap<T, f64>, f64) {
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
            let (outcomes, open) =
                by_choice(1e-6, true, |words| randomised_response(epsilon_micros, alternatives, words));
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
}
