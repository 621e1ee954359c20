//! The date that certificates are judged by.
//!
//! Kind: time-free, except that [`Dates::System`] asks the machine.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use rustls::{pki_types::UnixTime, time_provider::TimeProvider};
use x509_parser::time::ASN1Time;

/// The date that certificates are checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dates {
    /// The machine's.
    System,
    /// Always the same one, in seconds since 1970.
    Fixed(u64),
}

impl Dates {
    /// The date of simulations: the start of 2026.
    pub const SIMULATED: Self = Self::Fixed(1_767_225_600);

    /// The date now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the dates of real certificates are judged by the real date"
    )]
    pub fn now(self) -> SystemTime {
        match self {
            Self::System => SystemTime::now(),
            Self::Fixed(seconds) => SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        }
    }
}

impl TimeProvider for Dates {
    fn current_time(&self) -> Option<UnixTime> {
        match *self {
            Self::System => Some(UnixTime::now()),
            Self::Fixed(seconds) => Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds))),
        }
    }
}

/// A date in a certificate, in seconds since 1970; shown as the day it falls on, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(pub i64);

impl Date {
    /// Seconds of a day.
    pub const DAY_SECONDS: i64 = 24 * 60 * 60;

    /// Whole days from `earlier` to here; negative if it is later.
    pub fn days_since(self, earlier: Self) -> i64 {
        (self.0 - earlier.0).div_euclid(Self::DAY_SECONDS)
    }

    /// The distance from `now` in words: "today", "in 3 days", "19 days ago".
    pub fn from_here(self, now: Self) -> String {
        let plural = |days: i64| if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
        match (self.0 - now.0) / Self::DAY_SECONDS {
            0 if self < now => "less than a day ago".to_owned(),
            0 => "in less than a day".to_owned(),
            days if days > 0 => format!("in {}", plural(days)),
            days => format!("{} ago", plural(-days)),
        }
    }
}

impl From<SystemTime> for Date {
    fn from(time: SystemTime) -> Self {
        let seconds = |since: Duration| i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => Self(seconds(since)),
            Err(before) => Self(-seconds(before.duration())),
        }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ASN1Time::from_timestamp(self.0) {
            Ok(time) => write!(f, "{}", time.to_datetime().date()),
            // Beyond the year 9999.
            Err(_) => write!(f, "{} s since 1970", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_shown_as_days() {
        let start = Date::from(Dates::SIMULATED.now());
        assert_eq!(start.to_string(), "2026-01-01");
        let later = |days: i64| Date(start.0 + days * Date::DAY_SECONDS);
        assert_eq!(Date(later(0).0 - 1).to_string(), "2025-12-31");
        for (days, words) in [(1, "in 1 day"), (-1, "1 day ago"), (3, "in 3 days"), (-19, "19 days ago")] {
            assert_eq!(later(days).from_here(start), words);
            assert_eq!(later(days).days_since(start), days);
        }
        assert_eq!(Date(start.0 + 5).from_here(start), "in less than a day");
        assert_eq!(Date(start.0 - 5).from_here(start), "less than a day ago");
    }
}
