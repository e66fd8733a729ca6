use std::fmt;

/// What was asked makes no sense; an answer to it would look like a test that passed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A confidence that is not between 0 and 1, both excluded. Percentages are a usual cause.
    Confidence(f64),
    /// An epsilon that is negative, infinite or not a number.
    Epsilon(f64),
    /// A delta that is not in [0, 1).
    Delta(f64),
    /// Fewer than two observations of one side: nothing is left to certify on.
    Observations(usize),
    /// More successes than trials, or no trials.
    Counts {
        /// How many trials succeeded.
        successes: usize,
        /// How many trials there were.
        trials: usize,
    },
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Confidence(confidence) => write!(f, "confidence {confidence} is not between 0 and 1"),
            Self::Epsilon(epsilon) => write!(f, "epsilon {epsilon} is not a finite number of at least 0"),
            Self::Delta(delta) => write!(f, "delta {delta} is not in [0, 1)"),
            Self::Observations(count) => write!(f, "one side has {count} observations, an audit needs at least 2"),
            Self::Counts { successes, trials } => write!(f, "{successes} of {trials} trials cannot have succeeded"),
        }
    }
}

/// The risk that a confidence leaves, in (0, 1).
pub(crate) fn risk(confidence: f64) -> Result<f64> {
    let risk = 1.0 - confidence;
    if risk > 0.0 && risk < 1.0 { Ok(risk) } else { Err(Error::Confidence(confidence)) }
}

pub(crate) fn check_delta(delta: f64) -> Result<()> {
    if (0.0..1.0).contains(&delta) { Ok(()) } else { Err(Error::Delta(delta)) }
}

pub(crate) fn check_counts(successes: usize, trials: usize) -> Result<()> {
    if trials > 0 && successes <= trials { Ok(()) } else { Err(Error::Counts { successes, trials }) }
}
