//! The only place that reads the time. Tests and replays pass their own.

use std::time::{Duration, Instant};

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

/// Runs from the moment it is made. How long a run takes is told in whole slots and no more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// How many slots have begun since.
    pub(crate) fn slots(self, slot: Duration) -> u32 {
        u32::try_from(self.0.elapsed().as_nanos().div_ceil(slot.as_nanos().max(1))).unwrap_or(u32::MAX)
    }

    /// Waits for the end of so many slots.
    pub(crate) fn wait(self, slot: Duration, slots: u32) {
        std::thread::sleep(slot.saturating_mul(slots).saturating_sub(self.0.elapsed()));
    }
}

/// How long something took is an output too: the minute is what may be told of a run's times.
#[must_use]
pub(crate) fn to_the_minute(moment: DateTime<Utc>) -> DateTime<Utc> {
    moment.duration_trunc(TimeDelta::minutes(1)).unwrap_or(moment)
}
