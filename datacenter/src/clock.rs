//! The vector clock of a shard's workers, and its minimum.
//!
//! Kind: time-free.

use crate::{Clock, WorkerId};

/// One logical clock for each worker; the shard's own clock is the least of the live ones.
#[derive(Clone, Debug)]
pub struct VectorClock {
    /// `None` for a worker that nobody waits for.
    clocks: Vec<Option<Clock>>,
    minimum: Clock,
}

impl VectorClock {
    /// Clocks at zero for `workers` live workers.
    pub fn new(workers: usize) -> Self {
        Self { clocks: vec![Some(Clock(0)); workers], minimum: Clock(0) }
    }

    /// The least clock of the live workers: all their updates stamped below it are in. With no live worker it stays.
    pub fn minimum(&self) -> Clock {
        self.minimum
    }

    /// The clock of `worker`, if it is known and live.
    pub fn clock_of(&self, worker: WorkerId) -> Option<Clock> {
        self.clocks.get(worker.index()).copied().flatten()
    }

    /// How many workers there are, live or not.
    pub fn worker_count(&self) -> usize {
        self.clocks.len()
    }

    /// The live workers with their clocks.
    pub fn live(&self) -> impl Iterator<Item = (WorkerId, Clock)> {
        (0..).map(WorkerId).zip(&self.clocks).filter_map(|(worker, clock)| Some((worker, (*clock)?)))
    }

    /// Waits for `worker` from now on, which is at `clock` or, if others are further all of them, with the last of those.
    /// Yields the clock that it has then; `None` if there is no such worker. Of one that is live already the clock never
    /// goes back.
    pub fn join(&mut self, worker: WorkerId, clock: Clock) -> Option<Clock> {
        let slot = self.clocks.get_mut(worker.index())?;
        let clock = clock.max(self.minimum).max(slot.unwrap_or_default());
        *slot = Some(clock);
        // With nobody else it sets the pace.
        self.advance();
        Some(clock)
    }

    /// Sets the clock of a live worker; yields the new minimum if it moved. A clock never goes back.
    pub fn tick(&mut self, worker: WorkerId, clock: Clock) -> Option<Clock> {
        let slot = self.clocks.get_mut(worker.index())?.as_mut()?;
        *slot = clock.max(*slot);
        self.advance()
    }

    /// Stops waiting for `worker`; yields the new minimum if it moved.
    pub fn remove(&mut self, worker: WorkerId) -> Option<Clock> {
        *self.clocks.get_mut(worker.index())? = None;
        self.advance()
    }

    fn advance(&mut self) -> Option<Clock> {
        let least = self.clocks.iter().flatten().min().copied()?;
        (least > self.minimum).then(|| {
            self.minimum = least;
            least
        })
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
