use std::f64::consts::PI;

use crate::error::{self, Result};

/// Both ends of a bracket are neighbouring floats before this many halvings.
const HALVINGS: usize = 80;

/// Enough for more than a billion trials: the continued fraction needs about the square root of their number.
const TERMS_MAX: u32 = 1_000_000;

/// The probability of success, from so many successes in independent trials: a lower and an upper bound.
///
/// Each bound is wrong with probability at most (1 − `confidence`) / 2, for every true probability, and both together
/// hold with at least `confidence`. Bounds are exact to about nine digits.
///
/// Source: Clopper and Pearson, The use of confidence or fiducial limits illustrated in the case of the binomial,
/// Biometrika 26 (1934): the lower bound is the p at which that many successes or more have probability
/// (1 − `confidence`) / 2.
///
/// # Errors
///
/// [`Error::Confidence`](crate::Error::Confidence) outside of (0, 1); [`Error::Counts`](crate::Error::Counts) if there
/// are no trials or more successes than trials.
pub fn rate(successes: usize, trials: usize, confidence: f64) -> Result<(f64, f64)> {
    let risk = error::risk(confidence)? / 2.0;
    error::check_counts(successes, trials)?;
    Ok((lower(successes, trials, risk), 1.0 - lower(trials - successes, trials, risk)))
}

fn lower(successes: usize, trials: usize, risk: f64) -> f64 {
    if successes == 0 {
        return 0.0;
    }
    // The median of a binomial with a whole mean is that mean, so that no risk below one half lies above the estimate.
    let estimate = successes as f64 / trials as f64;
    last_below(estimate, |p| tail(successes, trials, p, 1.0 - p) < risk)
}

/// The greatest point of [0, `end`] at which the condition holds; it holds from 0 up to there.
pub(crate) fn last_below(end: f64, holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, end);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        *if holds(middle) { &mut low } else { &mut high } = middle;
    }
    low
}

/// `P[Binomial(trials, p) >= least]`, where `q` is 1 − `p`. Source: DLMF 8.17.5.
pub(crate) fn tail(least: usize, trials: usize, p: f64, q: f64) -> f64 {
    match least {
        0 => 1.0,
        _ if least > trials => 0.0,
        _ => beta(least as f64, (trials - least + 1) as f64, p, q),
    }
}

/// `ln P[Binomial(trials, p) = hits]`, from the logarithms of p and 1 − p.
pub(crate) fn ln_mass(hits: usize, trials: usize, ln_p: f64, ln_q: f64) -> f64 {
    let ways = ln_factorial(trials) - ln_factorial(hits) - ln_factorial(trials - hits);
    ways + hits as f64 * ln_p + (trials - hits) as f64 * ln_q
}

/// The regularised incomplete beta function I_x(a, b), where `y` is 1 − `x`: small values of either keep their digits.
fn beta(a: f64, b: f64, x: f64, y: f64) -> f64 {
    // The fraction converges fast on this side; I_x(a, b) = 1 − I_y(b, a) leads from the other to it (DLMF 8.17.4).
    if x * (a + b + 2.0) < a + 1.0 { beta_by_fraction(a, b, x, y) } else { 1.0 - beta_by_fraction(b, a, y, x) }
}

/// Source: DLMF 8.17.22.
fn beta_by_fraction(a: f64, b: f64, x: f64, y: f64) -> f64 {
    let ln_front = a * x.ln() + b * y.ln() + ln_gamma(a + b) - ln_gamma(a + 1.0) - ln_gamma(b);
    ln_front.exp() / fraction(|term| coefficient(a, b, x, term))
}

fn coefficient(a: f64, b: f64, x: f64, term: u32) -> f64 {
    let (step, place) = (f64::from(term / 2), a + f64::from(term));
    let product = if term.is_multiple_of(2) { step * (b - step) } else { -(a + step) * (a + b + step) };
    product * x / ((place - 1.0) * place)
}

/// The continued fraction 1 + c(1) / (1 + c(2) / (1 + ...)), from its front by the modified method of Lentz
/// (Thompson and Barnett, Journal of Computational Physics 64, 1986).
fn fraction(coefficient: impl Fn(u32) -> f64) -> f64 {
    let (mut value, mut upper, mut lower) = (1.0, 1.0, 0.0);
    for term in 1..TERMS_MAX {
        let c = coefficient(term);
        upper = not_zero(1.0 + c / upper);
        lower = 1.0 / not_zero(1.0 + c * lower);
        let change = upper * lower;
        value *= change;
        if (change - 1.0_f64).abs() < f64::EPSILON {
            break;
        }
    }
    value
}

fn not_zero(x: f64) -> f64 {
    if x == 0.0 { f64::MIN_POSITIVE } else { x }
}

fn ln_factorial(n: usize) -> f64 {
    ln_gamma(n as f64 + 1.0)
}

/// ln Γ(x) for x > 0. Source: Stirling's series, DLMF 5.11.1, after Γ(x + 1) = x Γ(x) has moved x to where it is good.
fn ln_gamma(mut x: f64) -> f64 {
    let mut moved = 1.0;
    while x < 16.0 {
        moved *= x;
        x += 1.0;
    }
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    let series = inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)));
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * PI).ln() + series - f64::ln(moved)
}
