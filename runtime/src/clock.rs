//! The only place that reads the time. Tests and replays pass their own.

use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};

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

/// RFC 3339 in UTC, to the second: the one form in which times stand in files.
#[must_use]
pub(crate) fn to_text(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Reads the form that [`to_text`] writes, and no other.
pub(crate) fn from_text(text: &str) -> Option<DateTime<Utc>> {
    let moment = DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc);
    (to_text(moment) == text).then_some(moment)
}
