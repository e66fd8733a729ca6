//! Exact samplers over integers.
//!
//! Source: Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy" (2020), Algorithms 1 and 2.
//! Probabilities are rationals and every draw is an integer comparison, so no float attack applies.

use crate::random::Random;

/// The scale `b` of a discrete Laplace distribution, as a fraction of whole numbers: P(x) is proportional to exp(-|x|/b).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scale {
    numerator: u128,
    denominator: u128,
}

impl Scale {
    /// Both must be positive and below 2^100, which leaves room for the factors of the sampler.
    pub(super) fn new(numerator: u128, denominator: u128) -> Self {
        const MAX: u128 = 1 << 100;
        assert!(
            (1..MAX).contains(&numerator) && (1..MAX).contains(&denominator),
            "a scale outside the sampler's range"
        );
        Self { numerator, denominator }
    }

    #[expect(clippy::cast_precision_loss, reason = "for thresholds, which round up, and for display")]
    pub(super) fn as_f64(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }

    /// The standard deviation, up to a factor that is 1 for scales well above 1.
    pub(super) fn standard_deviation(self) -> f64 {
        std::f64::consts::SQRT_2 * self.as_f64()
    }
}

/// Draws from the discrete Laplace distribution (Algorithm 2).
pub(super) fn discrete_laplace(scale: Scale, random: &mut Random) -> i128 {
    let Scale { numerator: s, denominator: t } = scale;
    loop {
        let u = uniform_below(s, random);
        if !bernoulli_exp(u, s, random) {
            continue;
        }
        let mut v: u128 = 0;
        while bernoulli_exp(1, 1, random) {
            v += 1;
        }
        let magnitude = (u + s * v) / t;
        let negative = random.next_u64() & 1 == 1;
        if negative && magnitude == 0 {
            // Zero would otherwise be drawn twice as often.
            continue;
        }
        let magnitude = i128::try_from(magnitude).unwrap_or(i128::MAX);
        return if negative { -magnitude } else { magnitude };
    }
}

/// True with probability exp(-numerator/denominator), for a fraction of at most 1 (Algorithm 1).
fn bernoulli_exp(numerator: u128, denominator: u128, random: &mut Random) -> bool {
    let mut k: u128 = 1;
    while uniform_below(denominator * k, random) < numerator {
        k += 1;
    }
    k % 2 == 1
}

/// Uniform in `0..n`, by rejection of what lies beyond a power of two.
fn uniform_below(n: u128, random: &mut Random) -> u128 {
    let mask = n.next_power_of_two() - 1;
    loop {
        let low = u128::from(random.next_u64());
        let high = if mask > u128::from(u64::MAX) { u128::from(random.next_u64()) << 64 } else { 0 };
        let draw = (high | low) & mask;
        if draw < n {
            return draw;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Chi-square against the probability mass function, with the tails pooled.
    fn chi_square_z(scale: Scale, reach: i128, draws: u32) -> f64 {
        let mut random = Random::from_seed([42; 32]);
        let mut seen: BTreeMap<i128, f64> = BTreeMap::new();
        for _ in 0..draws {
            *seen.entry(discrete_laplace(scale, &mut random).clamp(-reach, reach)).or_default() += 1.0;
        }
        let q = (-1.0 / scale.as_f64()).exp();
        let at_zero = (1.0 - q) / (1.0 + q);
        #[expect(clippy::cast_possible_truncation, reason = "small in this test")]
        let mass = |x: i128| at_zero * q.powi(x.unsigned_abs() as i32);
        let tail = |x: i128| mass(x) / (1.0 - q);
        let statistic: f64 = (-reach..=reach)
            .map(|x| {
                let expected = f64::from(draws) * if x.abs() == reach { tail(x) } else { mass(x) };
                (seen.get(&x).copied().unwrap_or(0.0) - expected).powi(2) / expected
            })
            .sum();
        #[expect(clippy::cast_precision_loss, reason = "small in this test")]
        let degrees = (2 * reach) as f64;
        (statistic - degrees) / (2.0 * degrees).sqrt()
    }

    #[test]
    fn discrete_laplace_has_its_mass_function() {
        for (numerator, denominator, reach) in [(1, 2, 3), (1, 1, 7), (7, 3, 12), (6_000_000, 500_000, 40)] {
            let z = chi_square_z(Scale::new(numerator, denominator), reach, 200_000);
            assert!(z.abs() < 5.0, "scale {numerator}/{denominator}: z = {z}");
        }
    }

    #[test]
    fn large_scales_stay_in_range() {
        let scale = Scale::new(1 << 60, 3);
        let mut random = Random::from_seed([1; 32]);
        let sum: f64 = (0..20_000)
            .map(|_| {
                #[expect(clippy::cast_precision_loss, reason = "a mean over many draws")]
                let draw = discrete_laplace(scale, &mut random) as f64;
                draw.abs()
            })
            .sum();
        // The mean of |X| is b for large b; its standard error over 20,000 draws is below 1 %.
        let ratio = sum / 20_000.0 / scale.as_f64();
        assert!((ratio - 1.0).abs() < 0.04, "{ratio}");
    }
}
