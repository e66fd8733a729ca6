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

/// After which slot a run of so many slots ends. How late one is that takes more than it may tells something too, so that
/// is told as a power of two.
pub(crate) const fn last_slot(slots: u32, most: u32) -> u32 {
    if slots <= most { slots } else { most.saturating_mul(slots.div_ceil(most).next_power_of_two()) }
}

/// How long something took is an output too: the minute is what may be told of a run's times.
#[must_use]
pub(crate) fn to_the_minute(moment: DateTime<Utc>) -> DateTime<Utc> {
    moment.duration_trunc(TimeDelta::minutes(1)).unwrap_or(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_late_a_run_is_shows_as_a_power_of_two() {
        assert_eq!([1, 2, 4].map(|slots| last_slot(slots, 4)), [1, 2, 4]);
        assert_eq!([5, 8, 9, 15, 16, 17].map(|slots| last_slot(slots, 4)), [8, 8, 16, 16, 16, 32]);
    }
}
