//! A token bucket: what may be spent comes in as time passes, and is kept up to a capacity.
//!
//! Rates and capacities are the callers', since some of them change: a budget is shared among as
//! many links as there are. What is spent beyond what there is is owed.
//!
//! Kind: time-passed.

use std::time::Instant;

/// Tokens, and up to when those that came in are among them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenBucket {
    level: f64,
    filled_at: Option<Instant>,
}

impl TokenBucket {
    /// A bucket that holds `level` tokens, and begins to fill when it is [refilled](Self::refill)
    /// for the first time.
    pub(crate) fn new(level: f64) -> Self {
        Self { level, filled_at: None }
    }

    /// Takes in what has come at `per_sec` since the last time, of which no more than `capacity` is
    /// kept. Yields how much came in.
    pub(crate) fn refill(&mut self, per_sec: f64, capacity: f64, now: Instant) -> f64 {
        let before = *self.filled_at.get_or_insert(now);
        let tokens = per_sec * now.saturating_duration_since(before).as_secs_f64();
        self.filled_at = Some(before.max(now));
        self.add(tokens, capacity);
        tokens
    }

    /// So many tokens come in at once; no more than `capacity` is kept, but for what there is.
    pub(crate) fn add(&mut self, tokens: f64, capacity: f64) {
        self.level = (self.level + tokens).min(capacity.max(self.level));
    }

    /// Forgets what is owed beyond `most`.
    pub(crate) fn forgive(&mut self, most: f64) {
        self.level = self.level.max(-most);
    }

    /// So many are spent.
    pub(crate) fn spend(&mut self, tokens: f64) {
        self.level -= tokens;
    }

    /// How many there are; below zero where some are owed.
    pub(crate) fn level(&self) -> f64 {
        self.level
    }

    /// How many are owed.
    pub(crate) fn debt(&self) -> f64 {
        (-self.level).max(0.0)
    }

    /// When it was refilled last.
    pub(crate) fn filled_at(&self) -> Option<Instant> {
        self.filled_at
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]
    fn what_comes_in_pays_debts_first_and_is_kept_up_to_the_capacity() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(5.0);
        for (millis, spent, came, level) in [
            (0, 0.0, 0.0, 5.0),
            (1000, 30.0, 10.0, -15.0),
            (1500, 0.0, 5.0, -10.0),
            (3000, 0.0, 15.0, 5.0),
            (2000, 0.0, 0.0, 5.0),
            (60_000, 0.0, 570.0, 20.0),
        ] {
            assert_eq!(bucket.refill(10.0, 20.0, start + Duration::from_millis(millis)), came);
            bucket.spend(spent);
            assert_eq!((bucket.level(), bucket.debt()), (level, f64::max(-level, 0.0)), "{millis} ms");
        }
        bucket.add(1.0, 10.0);
        assert_eq!(bucket.level(), 20.0, "a smaller capacity takes nothing away");
        bucket.spend(50.0);
        bucket.forgive(12.0);
        assert_eq!(bucket.level(), -12.0);
    }
}
