//! When it is time for a checkpoint.
//!
//! Kind: time-passed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use datacenter::{Clock, ShardId};

use crate::job::region::CheckpointSettings;

/// Says at which clocks a server's shards are kept.
///
/// All of them at the same clocks: a model is put together from checkpoints of one clock. Those
/// that are due by their number are the same on all servers of a region; one that is due by the
/// time that has passed is for the first clock that no shard here has completed yet.
#[derive(Clone, Debug)]
pub struct Schedule {
    every_clocks: Option<u32>,
    every: Option<Duration>,
    /// The last clock of the job, which is kept in any case.
    last: Clock,
    /// Since when the next one is waited for.
    since: Instant,
    /// What is due by the time that has passed.
    target: Option<Clock>,
    /// By shard, the last clock that it was asked for. Shards skip clocks when their slowest worker
    /// leaves.
    seen: BTreeMap<ShardId, Clock>,
}

impl Schedule {
    /// A schedule for a job that ends with the clock `last`, from `now`.
    pub fn new(settings: &CheckpointSettings, last: Clock, now: Instant) -> Self {
        let CheckpointSettings { every_clocks, every, .. } = *settings;
        Self { every_clocks, every, last, since: now, target: None, seen: BTreeMap::new() }
    }

    /// `shard` begins with the state of `clock`, which has no need to be kept again.
    pub fn begin(&mut self, shard: ShardId, clock: Clock) {
        self.seen.insert(shard, clock);
    }

    /// `shard` has completed `clock`: whether its state is to be kept now.
    pub fn is_due(&mut self, shard: ShardId, clock: Clock, now: Instant) -> bool {
        let newest = self.seen.values().copied().max().unwrap_or_default();
        if self.every.is_some_and(|every| now.duration_since(self.since) >= every) {
            self.since = now;
            // This shard may be the first to complete this very clock, and the others do so after
            // it.
            self.target = Some(if clock > newest { clock } else { newest.next() });
        }
        let before = self.seen.insert(shard, clock).unwrap_or_default();
        let passes = |due: Clock| before < due && due <= clock;
        let by_number = self.every_clocks.is_some_and(|every| before.0 / every < clock.0 / every);
        by_number || self.target.is_some_and(passes) || passes(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::region::CheckpointStart;
    use crate::learning::data::DataRoot;

    fn schedule(every_clocks: Option<u32>, every: Option<u64>, now: Instant) -> Schedule {
        let every = every.map(Duration::from_secs);
        let location = DataRoot::Directory("x".into());
        let settings =
            CheckpointSettings { location, every_clocks, every, keep: 1, start: CheckpointStart::Newest };
        Schedule::new(&settings, Clock(50), now)
    }

    /// A moment to begin with.
    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn some_time() -> Instant {
        Instant::now()
    }

    #[test]
    fn clocks_are_counted_also_where_some_are_skipped() {
        let start = some_time();
        let mut schedule = schedule(Some(10), None, start);
        let shard = ShardId(3);
        let mut due = |clock| schedule.is_due(shard, Clock(clock), start);
        let clocks = [1, 9, 10, 11, 19, 21, 22, 45, 46, 49, 50, 50];
        let kept: Vec<_> = clocks.into_iter().filter(|clock| due(*clock)).collect();
        assert_eq!(kept, [10, 21, 45, 50]);
        schedule.begin(shard, Clock(20));
        assert!(!schedule.is_due(shard, Clock(21), start), "it has begun with that of clock 20");
        assert!(schedule.is_due(shard, Clock(30), start));
    }

    #[test]
    fn the_shards_of_a_server_are_kept_at_the_same_clock() {
        let start = some_time();
        let mut schedule = schedule(None, Some(60), start);
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut due = |shard, clock, seconds| schedule.is_due(ShardId(shard), Clock(clock), at(seconds));
        assert!(!due(0, 1, 30) && !due(1, 1, 30) && !due(0, 2, 59));
        // The first that comes after a minute is one clock behind the other: both are kept at the
        // next.
        assert!(!due(1, 2, 61));
        assert!(due(0, 3, 62) && due(1, 3, 70));
        assert!(!due(0, 4, 120), "not a minute later");
        // And here it leads.
        assert!(due(0, 5, 122) && !due(1, 4, 123) && due(1, 6, 124));
        assert!(!due(0, 6, 124));
    }

    #[test]
    fn the_end_of_the_job_is_kept() {
        let start = some_time();
        let mut schedule = schedule(Some(100), None, start);
        assert!(!schedule.is_due(ShardId(0), Clock(49), start));
        assert!(schedule.is_due(ShardId(0), Clock(50), start));
        assert!(!schedule.is_due(ShardId(0), Clock(50), start));
    }
}
