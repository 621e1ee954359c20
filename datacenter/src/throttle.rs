//! How many lines of a log strangers may cause.
//!
//! Kind: time-passed.

use std::time::Duration;

use tokio::time::Instant;

/// Lines that may follow each other at once,
const BURST: u32 = 32;
/// and how long one of them takes to come back.
const REFILL: Duration = Duration::from_secs(1);

/// Lets some through, and counts the others.
#[derive(Debug)]
pub struct Throttle {
    left: u32,
    /// Up to when what came back is in `left`.
    at: Instant,
    unsaid: u64,
}

impl Throttle {
    /// Nothing has been said up to `now`.
    pub fn new(now: Instant) -> Self {
        Self { left: BURST, at: now, unsaid: 0 }
    }

    /// If something may be said: how much was not said since the last time. Else it is counted.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        let back = now.saturating_duration_since(self.at).as_secs() / REFILL.as_secs();
        if back > 0 {
            self.left = BURST.min(self.left.saturating_add(u32::try_from(back).unwrap_or(BURST)));
            self.at += REFILL * u32::try_from(back).unwrap_or(u32::MAX);
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
}
