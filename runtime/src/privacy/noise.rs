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
mod tests;
