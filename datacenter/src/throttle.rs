//! How many lines of a log strangers may cause.
//!
//! Kind: time-passed.

use std::time::Duration;

use tokio::time::Instant;

/// Lines that may follow each other at once,
const BURST: u32 = 32;
/// and how long one of them takes to come back.
const REFILL: Duration = Duration::from_secs(1);
/// The same of what is the same each time.
const RARE_REFILL: Duration = Duration::from_secs(60);

/// Lets some through, and counts the others.
#[derive(Debug)]
pub struct Throttle {
    burst: u32,
    refill: Duration,
    left: u32,
    /// Up to when what came back is in `left`.
    at: Instant,
    unsaid: u64,
}

impl Throttle {
    /// Nothing has been said up to `now`.
    pub fn new(now: Instant) -> Self {
        Self { burst: BURST, refill: REFILL, left: BURST, at: now, unsaid: 0 }
    }

    /// For what says the same each time: one line, and one a minute.
    pub fn rare(now: Instant) -> Self {
        Self { burst: 1, refill: RARE_REFILL, left: 1, at: now, unsaid: 0 }
    }

    /// If something may be said: how much was not said since the last time. Else it is counted.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        let Self { burst, refill, .. } = *self;
        let back = now.saturating_duration_since(self.at).as_secs() / refill.as_secs();
        if back > 0 {
            self.left = burst.min(self.left.saturating_add(u32::try_from(back).unwrap_or(burst)));
            self.at += refill * u32::try_from(back).unwrap_or(u32::MAX);
        }
        if self.left == 0 {
            self.unsaid += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_summed_up_and_a_pause_forgives() {
        let start = Instant::now();
        let mut throttle = Throttle::new(start);
        let said = (0..1000).filter(|_| throttle.pass(start) == Some(0)).count();
        assert_eq!(said, BURST as usize);
        let later = start + REFILL * 3 / 2;
        assert_eq!(throttle.pass(later), Some(1000 - u64::from(BURST)));
        assert_eq!(throttle.pass(later), None);
        assert_eq!(throttle.pass(start + REFILL * 2), Some(1));
        let much_later = later + Duration::from_secs(86_400);
        assert_eq!((0..1000).filter(|_| throttle.pass(much_later).is_some()).count(), BURST as usize);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_the_same_each_time_is_said_once_a_minute() {
        let start = Instant::now();
        let mut throttle = Throttle::rare(start);
        let tenths = (0..1801).map(|tenth| throttle.pass(start + Duration::from_millis(100) * tenth));
        let said: Vec<_> = tenths.flatten().collect();
        assert_eq!(said, [0, 599, 599, 599]);
    }
}
