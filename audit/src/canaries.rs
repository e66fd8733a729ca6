use crate::binomial::{last_below, ln_mass, tail};
use crate::error::{self, Result};

/// No number of guesses that fits into memory rejects an epsilon as great as this.
const EPSILON_MAX: f64 = 64.0;

/// What somebody guessed about canaries: units that were put into the input, each by a fair coin of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guesses {
    /// How many coins were thrown.
    pub canaries: usize,
    /// For how many of them a guess was made, after a look at the output; the others were passed over.
    pub made: usize,
    /// How many guesses were right.
    pub right: usize,
}

/// A lower bound on epsilon from one run: the greatest epsilon that these guesses reject at this confidence, at least 0.
///
/// The claim under test is about one canary that is present or absent, everything else being equal. All that was
/// chosen about the guesses (which, how many, by which threshold) must not depend on the coins but through the output;
/// taking the best of several thresholds afterwards needs a share of the risk for each.
///
/// Source: Steinke, Nasr, Jagielski: Privacy Auditing with One (1) Training Run (NeurIPS 2023, arXiv:2305.08846),
/// appendix D. Under (ε, δ) the probability of so many right guesses is at most `P[W >= right] + 2 δ canaries A`,
/// where W is Binomial(made, e^ε / (1 + e^ε)) and A is the greatest `P[right > W >= right - i] / i` over i from 1 to
/// `right`.
///
/// # Errors
///
/// [`Error::Counts`](crate::Error::Counts) if there are more right guesses than guesses, more guesses than canaries, or
/// no guesses; [`Error::Delta`](crate::Error::Delta) outside of [0, 1);
/// [`Error::Confidence`](crate::Error::Confidence) outside of (0, 1).
pub fn canaries(guesses: Guesses, delta: f64, confidence: f64) -> Result<f64> {
    let risk = error::risk(confidence)?;
    error::check_delta(delta)?;
    error::check_counts(guesses.right, guesses.made)?;
    error::check_counts(guesses.made, guesses.canaries)?;
    Ok(last_below(EPSILON_MAX, |epsilon| probability(guesses, epsilon, delta) < risk))
}

/// At most so probable are that many right guesses under (`epsilon`, `delta`); may exceed 1.
///
/// Below 1 it grows with epsilon: evident without delta, found numerically with it. So the epsilons that are rejected
/// begin at 0 and have no gap.
fn probability(guesses: Guesses, epsilon: f64, delta: f64) -> f64 {
    let (p, q) = (1.0 / (1.0 + (-epsilon).exp()), 1.0 / (1.0 + epsilon.exp()));
    let pure = tail(guesses.right, guesses.made, p, q);
    if delta == 0.0 {
        return pure;
    }
    pure + 2.0 * delta * guesses.canaries as f64 * slope(guesses, p, q)
}

/// The greatest mean of the probabilities next below `right`: of one number of right guesses, of two, and so on.
fn slope(guesses: Guesses, p: f64, q: f64) -> f64 {
    let (ln_p, ln_q) = (p.ln(), q.ln());
    let mut sum = 0.0;
    let means = (1..=guesses.right).map(|count| {
        sum += ln_mass(guesses.right - count, guesses.made, ln_p, ln_q).exp();
        sum / count as f64
    });
    means.fold(0.0, f64::max)
}
