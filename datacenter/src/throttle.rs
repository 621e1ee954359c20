//! How many lines of a log others may cause: strangers, and those who are tried again and again.
//!
//! Kind: time-passed.

use std::collections::BTreeMap;
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

/// So many things are told apart; who they are about may be chosen by others.
const MOST_REPEATED: usize = 256;

/// What is said again and again: of each thing, which has a key, one line, and one a minute with a
/// count of the others.
#[derive(Debug)]
pub struct Repeats<K>(BTreeMap<K, Throttle>);

impl<K> Default for Repeats<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Repeats<K> {
    /// If `key` may be said: how often it was not since the last time. Else it is counted.
    pub fn pass(&mut self, key: &K, now: Instant) -> Option<u64> {
        if !self.0.contains_key(key) && self.0.len() >= MOST_REPEATED {
            let oldest = self.0.iter().min_by_key(|(_, throttle)| throttle.at).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| self.0.remove(&oldest));
        }
        self.0.entry(key.clone()).or_insert_with(|| Throttle::rare(now)).pass(now)
    }

    /// What is over, and will be news when it comes again.
    pub fn forget(&mut self, is_over: impl Fn(&K) -> bool) {
        self.0.retain(|key, _| !is_over(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_thing_is_said_once_a_minute_by_itself() {
        let start = Instant::now();
        let mut repeats = Repeats::default();
        let seconds = |n| start + Duration::from_secs(n);
        let said: Vec<_> = (0..=60).filter_map(|n| repeats.pass(&"oslo", seconds(n))).collect();
        assert_eq!(said, [0, 59]);
        assert_eq!((repeats.pass(&"rome", seconds(60)), repeats.pass(&"rome", seconds(61))), (Some(0), None));
        repeats.forget(|key| *key == "rome");
        assert_eq!((repeats.pass(&"rome", seconds(62)), repeats.pass(&"oslo", seconds(62))), (Some(0), None));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_of_others_take_no_memory() {
        let start = Instant::now();
        let mut repeats = Repeats::default();
        for key in 0..10_000u64 {
            assert_eq!(repeats.pass(&key, start + Duration::from_millis(key)), Some(0));
        }
        assert_eq!(repeats.0.len(), MOST_REPEATED);
        assert_eq!(repeats.pass(&9_999, start + Duration::from_secs(10)), None, "the newest are kept");
    }

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
