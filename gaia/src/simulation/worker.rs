//! One worker's loop: read, compute, flush.

use std::collections::BTreeMap;
use std::time::Duration;

use datacenter::local::{Session, SessionError};
use datacenter::message::Wait;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wan::emulation::VirtualClock;

use super::vigil::Vigil;
use crate::application::{Learner, RowSet};
use crate::model::CachedRows;
use crate::scenario::ComputeSettings;

/// For how long a worker's reads were held, by reason.
pub(super) type Holds = BTreeMap<&'static str, Duration>;

/// What reads of a stretched parameter server wait for when no shard holds them.
pub(super) const NETWORK: &str = "network";

/// What a worker is made of.
pub(super) struct Worker<'a> {
    /// Which part of the data it trains on.
    pub(super) part: usize,
    pub(super) learner: Box<dyn Learner + 'a>,
    pub(super) session: Session,
    pub(super) tables: usize,
    pub(super) clocks: u32,
    /// Whether its shards stand in other datacenters too, so that the way to them is worth an account.
    pub(super) is_remote: bool,
    pub(super) compute: ComputeSettings,
    pub(super) speed: f64,
    /// For the jitter of its clocks.
    pub(super) seed: u64,
}

impl Worker<'_> {
    /// Trains for all clocks.
    pub(super) async fn run(mut self, time: VirtualClock, vigil: &Vigil) -> Result<Holds, SessionError> {
        let mut holds = Holds::new();
        let mut rows = RowSet::new(self.tables);
        let mut jitter = ChaCha8Rng::seed_from_u64(self.seed);
        for clock in 0..self.clocks {
            rows.clear();
            self.learner.rows(clock, &mut rows);
            let asked_at = time.now();
            let held = self.session.fetch(rows.sorted()).await?;
            let waited = time.now().saturating_sub(asked_at);
            for (why, time) in shares(held, waited, self.is_remote) {
                *holds.entry(why).or_default() += time;
            }
            let work = self.learner.step(clock, &mut CachedRows(self.session.client()));
            // The deltas exist already, but nobody sees them before the declared time has passed.
            let done_at =
                time.now().saturating_add(self.compute.clock_time(work, self.speed, jitter.random()));
            vigil.computes(done_at);
            time.sleep_until(done_at).await;
            self.session.clock().await?;
            vigil.completed(self.part, clock + 1, time.now());
        }
        self.session.leave().await?;
        Ok(holds)
    }
}

/// What of the time that a read `waited` goes to which reason. Shards hold at the same time, so that of each reason the
/// longest counts (two peers' barriers are one reason), and together they cannot be longer than the read took.
fn shares(held: Vec<(Wait, Duration)>, waited: Duration, is_remote: bool) -> Holds {
    let mut longest = Holds::new();
    for (why, time) in held {
        let entry = longest.entry(why.name()).or_default();
        *entry = time.max(*entry);
    }
    let sum: Duration = longest.values().sum();
    if sum > waited {
        let share = waited.as_secs_f64() / sum.as_secs_f64();
        longest.values_mut().for_each(|time| *time = time.mul_f64(share));
    } else if is_remote {
        longest.insert(NETWORK, waited - sum);
    }
    longest
}

#[cfg(test)]
mod tests {
    use datacenter::DatacenterId;

    use super::*;

    #[test]
    fn reasons_share_the_time_that_a_read_took() {
        let ms = Duration::from_millis;
        let barrier = |peer| Wait::Barrier(DatacenterId(peer));
        for (held, waited, is_remote, expected) in [
            (vec![(Wait::Stale, ms(20))], 30, false, vec![("stale", ms(20))]),
            (vec![(Wait::Stale, ms(20))], 30, true, vec![("network", ms(10)), ("stale", ms(20))]),
            (vec![], 30, true, vec![("network", ms(30))]),
            (vec![(barrier(1), ms(20)), (barrier(2), ms(10))], 20, false, vec![("barrier", ms(20))]),
            // One shard was behind while the other one's rows were announced.
            (
                vec![(Wait::Stale, ms(20)), (barrier(1), ms(20))],
                20,
                false,
                vec![("barrier", ms(10)), ("stale", ms(10))],
            ),
        ] {
            assert_eq!(shares(held, ms(waited), is_remote), expected.into_iter().collect());
        }
    }
}
