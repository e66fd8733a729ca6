use std::fmt;

use crate::Observation;
use crate::binomial::rate;
use crate::error::{self, Error, Result};
use crate::event::Event;
use crate::search::search;

/// What a mechanism is said to be: (epsilon, delta)-differentially private.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Claim {
    epsilon: f64,
    delta: f64,
}

impl Claim {
    /// Epsilon is a natural logarithm of a ratio of probabilities, delta a probability.
    ///
    /// # Errors
    ///
    /// [`Error::Epsilon`] unless finite and at least 0; [`Error::Delta`] outside of [0, 1).
    pub fn new(epsilon: f64, delta: f64) -> Result<Self> {
        error::check_delta(delta)?;
        if epsilon >= 0.0 && epsilon.is_finite() { Ok(Self { epsilon, delta }) } else { Err(Error::Epsilon(epsilon)) }
    }

    /// A natural logarithm of a ratio of probabilities.
    #[must_use]
    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// A probability.
    #[must_use]
    pub fn delta(&self) -> f64 {
        self.delta
    }
}

/// One of the two neighbouring inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first argument of [`certify`].
    Left,
    /// The second.
    Right,
}

/// What an event shows about a mechanism: a lower bound on its true epsilon, for one pair of inputs.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Certificate {
    /// No epsilon below this one is true together with `delta`; at least 0, and 0 shows nothing.
    pub epsilon_lower: f64,
    /// The delta that was granted.
    pub delta: f64,
    /// The probability with which an audit like this one makes no false statement.
    pub confidence: f64,
    /// The event that the two inputs do not share as they should.
    pub event: Event,
    /// The input for which the event is more probable.
    pub likelier: Side,
    /// The event has at least this probability for the likelier input.
    pub probability_lower: f64,
    /// The event has at most this probability for the other input.
    pub probability_upper: f64,
}

/// Bounds epsilon from below, from outputs for two neighbouring inputs.
///
/// The first half of either side chooses an [`Event`]; the second half judges it, so that the search costs no
/// confidence: `epsilon_lower = ln((p − delta) / q)` with the Clopper-Pearson bounds p and q of the event's
/// probabilities, as in StatDP and DP-Sniper. The same observations give the same certificate. The work grows with the
/// square of the number of features, because of their sums and differences.
///
/// # Errors
///
/// [`Error::Confidence`] outside of (0, 1); [`Error::Delta`] outside of [0, 1); [`Error::Observations`] if a side has
/// fewer than two.
pub fn certify(left: &[Observation], right: &[Observation], delta: f64, confidence: f64) -> Result<Certificate> {
    error::check_delta(delta)?;
    let risk = error::risk(confidence)? / 2.0;
    let ([left_search, left_judge], [right_search, right_judge]) = (halves(left)?, halves(right)?);
    let toward_left = search(left_search, right_search, delta, risk);
    let toward_right = search(right_search, left_search, delta, risk);
    let (event, likelier, [inside, outside]) = if toward_left.ratio >= toward_right.ratio {
        (toward_left.event, Side::Left, [left_judge, right_judge])
    } else {
        (toward_right.event, Side::Right, [right_judge, left_judge])
    };
    let (probability_lower, _) = frequency(&event, inside, confidence)?;
    let (_, probability_upper) = frequency(&event, outside, confidence)?;
    // A logarithm of nothing or of less is NaN or minus infinity; `max` turns both into 0.
    let epsilon_lower = ((probability_lower - delta) / probability_upper).ln().max(0.0);
    Ok(Certificate { epsilon_lower, delta, confidence, event, likelier, probability_lower, probability_upper })
}

fn halves(observations: &[Observation]) -> Result<[&[Observation]; 2]> {
    match observations.len() {
        count @ (0 | 1) => Err(Error::Observations(count)),
        count => Ok(observations.split_at(count / 2).into()),
    }
}

fn frequency(event: &Event, observations: &[Observation], confidence: f64) -> Result<(f64, f64)> {
    let hits = observations.iter().filter(|observation| event.holds(observation)).count();
    rate(hits, observations.len(), confidence)
}

impl Certificate {
    /// Whether the claim is false, at this confidence. A claim with another delta than the granted one may be asked for.
    #[must_use]
    pub fn refutes(&self, claim: &Claim) -> bool {
        self.probability_lower > claim.epsilon.exp() * self.probability_upper + claim.delta
    }

    /// One line for people: what was certified, what was claimed, and by which event, with the features under these
    /// names.
    pub fn against<'a>(&'a self, claim: &'a Claim, names: &'a [&'a str]) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| {
            let Self { epsilon_lower, delta, .. } = self;
            write!(f, "certified epsilon >= {epsilon_lower:.3}")?;
            if *delta > 0.0 {
                write!(f, " at delta {delta}")?;
            }
            write!(f, " (claimed {:.3}) by `{}`", claim.epsilon, self.event.named(names))
        })
    }
}
