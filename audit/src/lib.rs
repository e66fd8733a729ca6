//! A black-box tester of differential privacy claims.
//!
//! A mechanism is (ε, δ)-differentially private if, for every two neighbouring inputs and every event E over its
//! outputs, `P[E on one] <= e^ε P[E on the other] + δ`. Whoever can run the mechanism often on two neighbouring inputs
//! can look for an event that breaks this. [`certify`] does so. [`canaries()`] makes do with one run, on an input into
//! which many units were put by chance.
//!
//! ```
//! use glovebox_audit::{Claim, Observation, certify};
//!
//! // A count that is released as it is: 57 with the unit, 56 without.
//! let with: Vec<Observation> = (0..1000).map(|_| [57.0].into()).collect();
//! let without: Vec<Observation> = (0..1000).map(|_| [56.0].into()).collect();
//! let claim = Claim::new(1.0, 0.0)?;
//! let certificate = certify(&with, &without, claim.delta(), 0.999)?;
//! assert!(certificate.refutes(&claim));
//! let line = certificate.against(&claim, &["count"]).to_string();
//! assert_eq!(line, "certified epsilon >= 4.179 (claimed 1.000) by `count >= 57`");
//! # Ok::<(), glovebox_audit::Error>(())
//! ```
//!
//! # What it shows
//!
//! A lower bound. At confidence 0.9999, a mechanism whose true ε is below the certified one is accused in at most one
//! audit of 10,000, whatever the mechanism is. This holds if the observations of a side are independent runs, each with
//! noise of its own, and if the number of runs was fixed before the first one. An accused claim is wrong, up to that
//! risk, for the mechanism *as it was run*: with its sampler, its arithmetic and its bugs. Whoever makes many audits
//! adds up their risks.
//!
//! # What it cannot show
//!
//! That a claim is true. The search looks at few kinds of [`Event`], at one pair of inputs and with finitely many runs.
//! A leak that none of the events sees, that needs another pair, or that is rarer than one in the number of runs passes
//! unseen; a δ of 1e-9 can be broken a hundredfold without a trace. Zero certified is no sign of privacy. What is
//! suspected to leak (a status, a length in bytes, a time, a remainder) should be a feature of the observations.
//!
//! # Sources
//!
//! * Choosing an event on some samples and judging it on others: StatDP (Ding, Wang, Wang, Zhang, Kifer: Detecting
//!   Violations of Differential Privacy, CCS 2018) and DP-Sniper (Bichsel, Steffen, Bogunovic, Vechev, S&P 2021).
//! * [`rate`]: Clopper and Pearson, Biometrika 26, 1934.
//! * [`canaries()`]: Steinke, Nasr, Jagielski: Privacy Auditing with One (1) Training Run, NeurIPS 2023.

mod binomial;
mod canaries;
mod certificate;
mod error;
mod event;
mod search;

pub use binomial::rate;
pub use canaries::{Guesses, canaries};
pub use certificate::{Certificate, Claim, Side, certify};
pub use error::{Error, Result};
pub use event::Event;

/// One released output as features; `None` is a feature that was suppressed or absent.
///
/// Features are told apart by their place. Those that a shorter observation lacks are absent from it. Values are
/// ordered by [`f64::total_cmp`], because a reader can tell -0 from 0 and NaN from a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation(pub Vec<Option<f64>>);

impl<const N: usize> From<[f64; N]> for Observation {
    fn from(features: [f64; N]) -> Self {
        Self(features.into_iter().map(Some).collect())
    }
}
