//! How long a shard's clock takes.
//!
//! Kind: time-passed.

use std::time::{Duration, Instant};

/// Weight of a new sample in the average clock length.
const CLOCK_GAIN: f64 = 0.125;

/// The average time between two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClockLength {
    /// When the last clock was complete, if one was since this process started.
    last_at: Option<Instant>,
    average: Option<Duration>,
}

impl ClockLength {
    /// A clock is complete.
    pub(super) fn measure(&mut self, now: Instant) {
        if let Some(last) = self.last_at.replace(now) {
            let sample = now.saturating_duration_since(last);
            let length = self.average.get_or_insert(sample);
            *length = length.mul_f64(1.0 - CLOCK_GAIN) + sample.mul_f64(CLOCK_GAIN);
        }
    }

    pub(super) fn last_at(&self) -> Option<Instant> {
        self.last_at
    }

    /// The average; none before two clocks were complete.
    pub(super) fn average(&self) -> Option<Duration> {
        self.average
    }
}
