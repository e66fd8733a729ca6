//! Dates and timestamps as the contract carries them: days and microseconds since 1970-01-01, without a time zone.
//!
//! Just enough of the calendar for a question to group by year or month. There is no "now": the sandbox has no clock.

const MICROSECONDS_PER_DAY: i64 = 24 * 60 * 60 * 1_000_000;

/// A day of the proleptic Gregorian calendar.
///
/// ```
/// use glovebox_sdk::Date;
///
/// let day = Date::new(2024, 2, 29);
/// assert_eq!((day.year(), day.month(), day.day()), (2024, 2, 29));
/// assert_eq!(day.days() + 1, Date::new(2024, 3, 1).days());
/// assert!(day < Date::new(2025, 1, 1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(i32);

impl Date {
    /// The day that lies `days` after 1970-01-01.
    pub const fn from_days(days: i32) -> Self {
        Self(days)
    }

    /// The given day; a month or day outside the calendar counts on, as in 31 February = 2 or 3 March.
    pub const fn new(year: i32, month: u32, day: u32) -> Self {
        // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil: years start in March,
        // so that the leap day is the last of a year.
        let months = year as i64 * 12 + month as i64 - 3;
        let march_year = months.div_euclid(12);
        let march_month = months.rem_euclid(12);
        let era = march_year.div_euclid(400);
        let year_of_era = march_year.rem_euclid(400);
        let day_of_year = (153 * march_month + 2) / 5 + day as i64 - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        Self((era * 146_097 + day_of_era - 719_468) as i32)
    }

    /// Days since 1970-01-01.
    pub const fn days(self) -> i32 {
        self.0
    }

    /// The year, 1 BC being 0.
    pub const fn year(self) -> i32 {
        self.civil().0
    }

    /// The month, 1 to 12.
    pub const fn month(self) -> u32 {
        self.civil().1
    }

    /// The day of the month, 1 to 31.
    pub const fn day(self) -> u32 {
        self.civil().2
    }

    const fn civil(self) -> (i32, u32, u32) {
        // The same paper, civil_from_days.
        let days = self.0 as i64 + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + era * 400 + (month <= 2) as i64;
        (year as i32, month as u32, day as u32)
    }
}

/// A point in time, in microseconds.
///
/// ```
/// use glovebox_sdk::{Date, Timestamp};
///
/// let moment = Timestamp::from_microseconds(-1);
/// assert_eq!(moment.date(), Date::new(1969, 12, 31));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The point in time that lies `microseconds` after 1970-01-01T00:00:00Z.
    pub const fn from_microseconds(microseconds: i64) -> Self {
        Self(microseconds)
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub const fn microseconds(self) -> i64 {
        self.0
    }

    /// The day in UTC.
    pub const fn date(self) -> Date {
        let days = self.0.div_euclid(MICROSECONDS_PER_DAY);
        // An i64 of microseconds spans 107 million days either way, which an i32 holds.
        Date(days as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_eight_centuries_survives_the_round_trip() {
        for days in -150_000..150_000 {
            let date = Date::from_days(days);
            assert_eq!(Date::new(date.year(), date.month(), date.day()), date);
        }
    }

    #[test]
    fn known_days() {
        assert_eq!(Date::new(1970, 1, 1).days(), 0);
        assert_eq!(Date::new(2000, 3, 1).days(), 11_017);
        assert_eq!(Date::new(1600, 1, 1).days(), -135_140);
    }

    #[test]
    fn timestamps_at_the_edges_have_a_date() {
        assert_eq!(Timestamp::from_microseconds(MICROSECONDS_PER_DAY).date().days(), 1);
        assert_eq!(Timestamp::from_microseconds(i64::MIN).date().days(), -106_751_992);
    }
}
