//! The date that certificates are judged by.
//!
//! Kind: time-free, except that it may be asked for the machine's date.

use std::time::{Duration, SystemTime};

use rustls::{pki_types::UnixTime, time_provider::TimeProvider};

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
