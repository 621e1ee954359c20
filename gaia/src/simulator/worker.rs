//! One worker's loop: read, compute, flush.

use std::collections::BTreeMap;
use std::time::Duration;

use datacenter::DatacenterId;
use datacenter::local::{Session, SessionError};
use datacenter::message::Wait;
use emulation::VirtualClock;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::RunError;
use super::watchdog::Watchdog;
use crate::job::scenario::ComputeSettings;
use crate::learning::application::{Learner, RowSet, Workspace};

/// For how long a worker's reads were held, by cause.
pub(super) type Holds = BTreeMap<Cause, Duration>;

/// Why a read was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cause {
    /// By name.
    pub(super) reason: &'static str,
    /// For which datacenter, where it was for one.
    pub(super) peer: Option<DatacenterId>,
}

impl From<Wait> for Cause {
    fn from(why: Wait) -> Self {
        let peer = match why {
            Wait::Barrier(peer) | Wait::MirrorClock(peer) => Some(peer),
            Wait::Stale | Wait::Fetching => None,
        };
        Self { reason: why.name(), peer }
    }
}

/// Where a worker's time went, but for what it spent on the way to its shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spent {
    pub(super) computing: Duration,
    pub(super) holds: Holds,
}

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
    /// Whether its shards stand in other datacenters too, so that the way to them is worth an
    /// account.
    pub(super) is_remote: bool,
    pub(super) compute: ComputeSettings,
    pub(super) speed: f64,
    /// For the jitter of its clocks.
    pub(super) seed: u64,
}

impl Worker<'_> {
    /// Trains for all clocks.
    pub(super) async fn run(mut self, time: VirtualClock, watchdog: &Watchdog) -> Result<Spent, RunError> {
        let mut spent = Spent::default();
        let mut workspace = Workspace::new(self.tables);
        let mut jitter = ChaCha8Rng::seed_from_u64(self.seed);
        for clock in 0..self.clocks {
            let rows = workspace.begin(&mut *self.learner, clock);
            self.fetch(rows, &time, &mut spent).await?;
            let work = loop {
                let step = workspace.step(&mut *self.learner, clock, self.session.client());
                let step = step.map_err(|source| RunError::Step { worker: self.part, clock, source })?;
                if let Some(work) = step {
                    break work;
                }
                self.fetch(workspace.extension(), &time, &mut spent).await?;
            };
            // The deltas exist already, but nobody sees them before the declared time has passed.
            let computing = self.compute.clock_time(work, self.speed, jitter.random());
            spent.computing = spent.computing.saturating_add(computing);
            let done_at = time.now().saturating_add(computing);
            watchdog.computes(done_at);
            time.sleep_until(done_at).await;
            self.session.clock().await?;
            watchdog.completed(self.part, clock + 1, time.now());
        }
        self.session.leave().await?;
        Ok(spent)
    }

    /// Reads rows, and counts what that was held for.
    async fn fetch(
        &mut self,
        rows: &mut RowSet,
        time: &VirtualClock,
        spent: &mut Spent,
    ) -> Result<(), SessionError> {
        let asked_at = time.now();
        let held = self.session.fetch(rows.sorted()).await?;
        let waited = time.now().saturating_sub(asked_at);
        for (why, time) in shares(held, waited, self.is_remote) {
            *spent.holds.entry(why).or_default() += time;
        }
        Ok(())
    }
}

/// What of the time that a read `waited` goes to which cause. Shards hold at the same time, so that
/// of each reason the longest counts (two peers' barriers are one reason, and the peer is the one
/// that took longest), and together they cannot be longer than the read took.
fn shares(held: Vec<(Wait, Duration)>, waited: Duration, is_remote: bool) -> Holds {
    let mut longest: BTreeMap<&'static str, (Duration, Cause)> = BTreeMap::new();
    for (why, time) in held {
        let entry = longest.entry(why.name()).or_insert((time, why.into()));
        if time > entry.0 {
            *entry = (time, why.into());
        }
    }
    let mut longest: Holds = longest.into_values().map(|(time, cause)| (cause, time)).collect();
    let sum: Duration = longest.values().sum();
    if sum > waited {
        let share = waited.as_secs_f64() / sum.as_secs_f64();
        longest.values_mut().for_each(|time| *time = time.mul_f64(share));
    } else if is_remote {
        longest.insert(Cause { reason: NETWORK, peer: None }, waited - sum);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_share_the_time_that_a_read_took() {
        let ms = Duration::from_millis;
        let barrier = |peer| Wait::Barrier(DatacenterId(peer));
        let network = Cause { reason: NETWORK, peer: None };
        let stale = Cause::from(Wait::Stale);
        for (held, waited, is_remote, expected) in [
            (vec![(Wait::Stale, ms(20))], 30, false, vec![(stale, ms(20))]),
            (vec![(Wait::Stale, ms(20))], 30, true, vec![(network, ms(10)), (stale, ms(20))]),
            (vec![], 30, true, vec![(network, ms(30))]),
            (vec![(barrier(1), ms(20)), (barrier(2), ms(10))], 20, false, vec![(barrier(1).into(), ms(20))]),
            (vec![(barrier(1), ms(10)), (barrier(2), ms(20))], 20, false, vec![(barrier(2).into(), ms(20))]),
            // One shard was behind while the other one's rows were announced.
            (
                vec![(Wait::Stale, ms(20)), (barrier(1), ms(20))],
                20,
                false,
                vec![(barrier(1).into(), ms(10)), (stale, ms(10))],
            ),
        ] {
            assert_eq!(shares(held, ms(waited), is_remote), expected.into_iter().collect());
        }
    }
}
