//! The only place that reads the time. Tests and replays pass their own.

use chrono::{DateTime, DurationRound, SubsecRound, TimeDelta, Utc};

/// Tells the time of a run.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The operating system's clock.
    System,
    /// One moment, for tests and replays.
    Fixed(DateTime<Utc>),
}

impl Clock {
    /// Now, to the second.
    #[must_use]
    pub fn now(self) -> DateTime<Utc> {
        match self {
            Self::System => Utc::now().trunc_subsecs(0),
            Self::Fixed(moment) => moment,
        }
    }
}

pub(crate) use glovebox_trust::{time_from_text as from_text, time_to_text as to_text};

/// How long something took is an output too: the minute is what may be told of a run's times.
#[must_use]
pub(crate) fn to_the_minute(moment: DateTime<Utc>) -> DateTime<Utc> {
    moment.duration_trunc(TimeDelta::minutes(1)).unwrap_or(moment)
}
