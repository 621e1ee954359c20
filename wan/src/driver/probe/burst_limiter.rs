//! How much a probe may send, so that it harms nobody.
//!
//! Kind: time-passed.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{MOST_BYTES, PAUSE, RUNNING_BYTES};
use crate::message::ServerId;

/// Remembers who had a burst of late.
#[derive(Debug, Default)]
pub struct BurstLimiter {
    /// When each may have the next one.
    next: BTreeMap<ServerId, Instant>,
}

impl BurstLimiter {
    /// How many of the `wanted` bytes `caller` may send, and gets back; `is_running` if there are
    /// links to be spared.
    pub fn grant(&mut self, caller: ServerId, wanted: u64, is_running: bool, now: Instant) -> u64 {
        self.next.retain(|_, next| *next > now);
        let most = if is_running { RUNNING_BYTES } else { MOST_BYTES };
        if wanted == 0 || self.next.contains_key(&caller) {
            return 0;
        }
        self.next.insert(caller, now + PAUSE);
        wanted.min(most)
    }
}

#[cfg(test)]
mod tests {
    use datacenter::DatacenterId;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_has_one_burst_at_a_time_and_less_of_it_beside_a_run() {
        let mut limiter = BurstLimiter::default();
        let (now, server) = (Instant::now(), |index| ServerId { datacenter: DatacenterId(1), index });
        assert_eq!(limiter.grant(server(0), 0, false, now), 0);
        assert_eq!(limiter.grant(server(0), u64::MAX, false, now), MOST_BYTES);
        assert_eq!(limiter.grant(server(0), u64::MAX, false, now + PAUSE / 2), 0);
        assert_eq!(limiter.grant(server(1), u64::MAX, true, now + PAUSE / 2), RUNNING_BYTES);
        assert_eq!(limiter.grant(server(0), 1000, true, now + PAUSE), 1000);
        assert_eq!(limiter.next.len(), 2);
    }
}
