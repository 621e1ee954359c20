//! The vector clock of a shard's workers, and its minimum.
//!
//! Of each worker two clocks are kept. One says which of its flushes are in: by it a flush that is
//! said again is known. The other says how far it counts as having come, which may be further: a
//! worker that joins begins where the others are. Flushes of its former life, or of before its
//! connection broke, may still come then, and are new all the same.
//!
//! Kind: time-free.

use crate::{Clock, WorkerId};

/// One logical clock for each worker; the shard's own clock is the least of the live ones, and
/// never goes back.
#[derive(Clone, Debug)]
pub struct VectorClock {
    workers: Vec<Entry>,
    minimum: Clock,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// All its flushes up to this clock are in, as far as it has made any.
    flushed: Clock,
    /// How far it counts as having come: at least `flushed`.
    at: Clock,
    standing: Standing,
}

/// Whether a worker is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Live,
    /// Not now, as nothing is heard of it; it goes on when it is back.
    Suspended,
    /// Not until it joins.
    Gone,
}

impl VectorClock {
    /// Clocks at zero for `workers` live workers.
    pub fn new(workers: usize) -> Self {
        Self { workers: vec![Entry::default(); workers], minimum: Clock(0) }
    }

    /// Clocks as they were at some time: the minimum, and of each worker the last flush that was
    /// in. Nobody is live.
    pub fn restored(minimum: Clock, flushed: &[Clock]) -> Self {
        let gone = |&flushed: &Clock| Entry { flushed, at: flushed, standing: Standing::Gone };
        Self { workers: flushed.iter().map(gone).collect(), minimum }
    }

    /// The least clock of the live workers: all their updates stamped below it are in. With no live
    /// worker it stays.
    ///
    /// After a [jump](Self::jump) some of them may be behind it; what they have yet to flush of
    /// before is not waited for.
    pub fn minimum(&self) -> Clock {
        self.minimum
    }

    /// The clock of `worker`, if it is known and live.
    pub fn clock_of(&self, worker: WorkerId) -> Option<Clock> {
        self.workers
            .get(worker.index())
            .filter(|entry| entry.standing == Standing::Live)
            .map(|entry| entry.at)
    }

    /// The clock of the last flush of `worker` that is in, whether it is live or not; none if there
    /// is no such worker.
    pub fn flushed(&self, worker: WorkerId) -> Option<Clock> {
        self.workers.get(worker.index()).map(|entry| entry.flushed)
    }

    /// How many workers there are, live or not.
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// The live workers with their clocks.
    pub fn live(&self) -> impl Iterator<Item = (WorkerId, Clock)> {
        self.with(Standing::Live)
    }

    /// The suspended workers with their clocks.
    pub fn suspended(&self) -> impl Iterator<Item = (WorkerId, Clock)> {
        self.with(Standing::Suspended)
    }

    fn with(&self, standing: Standing) -> impl Iterator<Item = (WorkerId, Clock)> {
        let entries = (0..).map(WorkerId).zip(&self.workers);
        entries.filter(move |(_, entry)| entry.standing == standing).map(|(worker, entry)| (worker, entry.at))
    }

    /// Waits for `worker` from now on, which is at `clock` or, if others are further all of them,
    /// with the last of those. Yields the clock that it has then; `None` if there is no such
    /// worker. Its clock never goes back.
    pub fn join(&mut self, worker: WorkerId, clock: Clock) -> Option<Clock> {
        let entry = self.workers.get_mut(worker.index())?;
        let clock = clock.max(self.minimum).max(entry.at);
        (entry.at, entry.standing) = (clock, Standing::Live);
        // With nobody else it sets the pace.
        self.advance();
        Some(clock)
    }

    /// Takes note of a flush of `worker`; yields the new minimum if it moved. A clock never goes
    /// back.
    pub fn tick(&mut self, worker: WorkerId, clock: Clock) -> Option<Clock> {
        let entry = self.workers.get_mut(worker.index())?;
        entry.flushed = clock.max(entry.flushed);
        entry.at = entry.flushed.max(entry.at);
        self.advance()
    }

    /// Takes note that a live worker is at `clock` without having flushed: it has left out what is
    /// before. Yields the new minimum if it moved.
    pub fn reach(&mut self, worker: WorkerId, clock: Clock) -> Option<Clock> {
        let entry = self.workers.get_mut(worker.index()).filter(|entry| entry.standing == Standing::Live)?;
        entry.at = clock.max(entry.at);
        self.advance()
    }

    /// Stops waiting for `worker`, which has left; yields the new minimum if it moved.
    pub fn remove(&mut self, worker: WorkerId) -> Option<Clock> {
        self.workers.get_mut(worker.index())?.standing = Standing::Gone;
        self.advance()
    }

    /// Stops waiting for `worker` until it [resumes](Self::resume); yields the new minimum if it
    /// moved. Of one that is not live nothing changes.
    pub fn suspend(&mut self, worker: WorkerId) -> Option<Clock> {
        let entry = self.workers.get_mut(worker.index()).filter(|entry| entry.standing == Standing::Live)?;
        entry.standing = Standing::Suspended;
        self.advance()
    }

    /// Waits again for `worker`, if it was suspended; yields the clock as which it counts then, at
    /// which the others are at least.
    pub fn resume(&mut self, worker: WorkerId) -> Option<Clock> {
        let minimum = self.minimum;
        let entry = self.workers.get_mut(worker.index()).filter(|e| e.standing == Standing::Suspended)?;
        (entry.at, entry.standing) = (entry.at.max(minimum), Standing::Live);
        let clock = entry.at;
        // All the others may have been suspended too.
        self.advance();
        Some(clock)
    }

    /// Makes the minimum at least `clock`, wherever the workers are, whose own clocks stay; yields
    /// it if it moved.
    pub fn jump(&mut self, clock: Clock) -> Option<Clock> {
        (clock > self.minimum).then(|| {
            self.minimum = clock;
            clock
        })
    }

    /// Takes all flushes up to `clock`, of every worker, to be in, wherever they came from.
    pub fn presume_flushed(&mut self, clock: Clock) {
        for entry in &mut self.workers {
            entry.flushed = clock.max(entry.flushed);
            entry.at = entry.flushed.max(entry.at);
        }
        self.advance();
    }

    fn advance(&mut self) -> Option<Clock> {
        let least = self.live().map(|(_, clock)| clock).min()?;
        self.jump(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_moves_with_the_slowest_live_worker() {
        let mut clocks = VectorClock::new(3);
        assert_eq!(clocks.tick(WorkerId(0), Clock(1)), None);
        assert_eq!(clocks.tick(WorkerId(1), Clock(2)), None);
        assert_eq!(clocks.tick(WorkerId(2), Clock(1)), Some(Clock(1)));
        assert_eq!(clocks.remove(WorkerId(0)), None, "worker 2 is at 1 still");
        assert_eq!(clocks.remove(WorkerId(2)), Some(Clock(2)));
        assert_eq!(clocks.remove(WorkerId(1)), None, "nobody is left, the clock stays");
        assert_eq!(clocks.minimum(), Clock(2));
    }

    #[test]
    fn a_worker_that_joins_is_waited_for_again() {
        let mut clocks = VectorClock::new(2);
        clocks.tick(WorkerId(0), Clock(5));
        assert_eq!(clocks.remove(WorkerId(1)), Some(Clock(5)));
        assert_eq!(clocks.join(WorkerId(1), Clock(3)), Some(Clock(5)), "the others are further");
        assert_eq!(clocks.join(WorkerId(1), Clock(7)), Some(Clock(7)), "as its other shards have it");
        assert_eq!(clocks.join(WorkerId(1), Clock(6)), Some(Clock(7)), "never back");
        assert_eq!(clocks.join(WorkerId(2), Clock(0)), None);
        assert_eq!(clocks.tick(WorkerId(0), Clock(9)), Some(Clock(7)));
        assert_eq!(clocks.live().collect::<Vec<_>>(), [(WorkerId(0), Clock(9)), (WorkerId(1), Clock(7))]);
        assert_eq!(clocks.flushed(WorkerId(1)), Some(Clock(0)), "it has flushed nothing yet");
    }

    #[test]
    fn a_suspended_worker_is_not_waited_for_until_it_is_back() {
        let mut clocks = VectorClock::new(2);
        clocks.tick(WorkerId(0), Clock(4));
        clocks.tick(WorkerId(1), Clock(2));
        assert_eq!(clocks.suspend(WorkerId(1)), Some(Clock(4)));
        assert_eq!(clocks.suspend(WorkerId(1)), None, "once is enough");
        assert_eq!(clocks.suspended().collect::<Vec<_>>(), [(WorkerId(1), Clock(2))]);
        assert_eq!(clocks.tick(WorkerId(1), Clock(3)), None, "late, and of no consequence to others");
        assert_eq!(clocks.flushed(WorkerId(1)), Some(Clock(3)));
        assert_eq!(clocks.resume(WorkerId(1)), Some(Clock(4)), "the others are further");
        assert_eq!(clocks.flushed(WorkerId(1)), Some(Clock(3)), "clock 4 of it may still come");
        assert_eq!(clocks.resume(WorkerId(1)), None);
        assert_eq!(clocks.tick(WorkerId(0), Clock(6)), None, "it is waited for again");
        assert_eq!(clocks.tick(WorkerId(1), Clock(6)), Some(Clock(6)));
        // Who has left joins, and does not resume.
        clocks.remove(WorkerId(1));
        assert_eq!(clocks.suspend(WorkerId(1)), None);
        assert_eq!(clocks.resume(WorkerId(1)), None);
    }

    #[test]
    fn a_jump_leaves_the_workers_where_they_are() {
        let mut clocks = VectorClock::new(2);
        clocks.tick(WorkerId(0), Clock(3));
        assert_eq!(clocks.jump(Clock(10)), Some(Clock(10)));
        assert_eq!(clocks.jump(Clock(10)), None);
        assert_eq!(clocks.jump(Clock(9)), None, "never back");
        assert_eq!(clocks.clock_of(WorkerId(0)), Some(Clock(3)));
        assert_eq!(clocks.tick(WorkerId(0), Clock(4)), None);
        assert_eq!(clocks.tick(WorkerId(0), Clock(12)), None, "worker 1 has not come that far");
        assert_eq!(clocks.tick(WorkerId(1), Clock(11)), Some(Clock(11)));
    }

    #[test]
    fn restored_clocks_know_what_is_in_and_wait_for_nobody() {
        let mut clocks = VectorClock::restored(Clock(7), &[Clock(8), Clock(7), Clock(0)]);
        assert_eq!((clocks.minimum(), clocks.live().count(), clocks.worker_count()), (Clock(7), 0, 3));
        assert_eq!(clocks.flushed(WorkerId(0)), Some(Clock(8)));
        assert_eq!(clocks.tick(WorkerId(1), Clock(9)), None, "said again to the new life, before it joins");
        assert_eq!(clocks.join(WorkerId(1), Clock(9)), Some(Clock(9)));
        assert_eq!(clocks.minimum(), Clock(9), "it is alone");
        clocks.presume_flushed(Clock(10));
        let flushed = (0..3).map(|worker| clocks.flushed(WorkerId(worker)).unwrap());
        assert_eq!(flushed.collect::<Vec<_>>(), [Clock(10); 3]);
    }

    #[test]
    fn unknown_workers_and_old_clocks_change_nothing() {
        let mut clocks = VectorClock::new(1);
        assert_eq!(clocks.tick(WorkerId(7), Clock(9)), None);
        assert_eq!(clocks.tick(WorkerId(0), Clock(4)), Some(Clock(4)));
        assert_eq!(clocks.tick(WorkerId(0), Clock(2)), None);
        assert_eq!(clocks.clock_of(WorkerId(0)), Some(Clock(4)));
    }
}
