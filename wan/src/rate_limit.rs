//! How much of a link whole rows may take: those that a server gets back after a loss come beside
//! what is new.
//!
//! Kind: time-passed.

use std::time::{Duration, Instant};

use crate::token_bucket::TokenBucket;

/// What has not been spent is kept for so long.
const KEPT: Duration = Duration::from_millis(100);

/// A bound on bytes per second; there may be none.
#[derive(Clone, Debug)]
pub struct RateLimit {
    bytes_per_sec: Option<f64>,
    bucket: TokenBucket,
}

impl RateLimit {
    /// So many bytes a second, unbounded for none.
    pub fn new(bytes_per_sec: Option<u64>) -> Self {
        let bytes_per_sec = bytes_per_sec.map(|rate| rate.max(1) as f64);
        Self { bytes_per_sec, bucket: TokenBucket::new(0.0) }
    }

    /// Whether there is a bound.
    pub fn is_bounded(&self) -> bool {
        self.bytes_per_sec.is_some()
    }

    /// Whether something may be spent. What is spent beyond what is left is owed.
    pub fn may_spend(&mut self, now: Instant) -> bool {
        let Some(rate) = self.bytes_per_sec else { return true };
        self.bucket.refill(rate, rate * KEPT.as_secs_f64(), now);
        self.bucket.level() >= 0.0
    }

    /// So much was spent.
    pub fn spend(&mut self, bytes: u64) {
        if self.is_bounded() {
            self.bucket.spend(bytes as f64);
        }
    }

    /// When something may be spent again, if not now.
    pub fn next_at(&self) -> Option<Instant> {
        let owed = self.bucket.debt() / self.bytes_per_sec?;
        let wait = Duration::try_from_secs_f64(owed).unwrap_or(Duration::MAX);
        let wait = wait.saturating_add(Duration::from_millis(1));
        self.bucket.filled_at()?.checked_add(wait).filter(|_| self.bucket.level() < 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn it_gives_as_much_as_its_rate_whenever_it_is_asked() {
        for step in [1, 7, 40, 900] {
            let start = start();
            let (mut limit, mut spent) = (RateLimit::new(Some(1_000_000)), 0);
            for millis in (0..10_000).step_by(step) {
                while limit.may_spend(start + Duration::from_millis(millis)) {
                    limit.spend(32_000);
                    spent += 32_000;
                }
                assert!(limit.next_at().is_some_and(|at| at > start + Duration::from_millis(millis)));
            }
            // One piece more than is due, and what came too late to be kept less.
            let kept = if step > 100 { 10 * 100_000 * 11 / 10 } else { 10_000_000 };
            assert!(spent <= 10_000_000 + 132_000, "{spent}, every {step} ms");
            assert!(spent + 132_000 >= kept, "{spent}, every {step} ms");
        }
    }

    #[test]
    fn without_a_rate_everything_may_be_spent() {
        let mut limit = RateLimit::new(None);
        limit.spend(u64::MAX);
        assert!(limit.may_spend(start()));
        assert_eq!(limit.next_at(), None);
    }
}
