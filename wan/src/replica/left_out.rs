//! Clocks that a shard counts as complete although nobody has trained them.
//!
//! A region that was away goes on where the others are, so that nobody waits for it, and what its workers would have done
//! meanwhile is never done. Its clock alone does not show that: it ends at the job's last one, as if nothing were missing. So each
//! clock is either trained, when a flush of it comes, or counted here. One that was under way when the shard's clock moved on
//! counts as left out: its flush may come or not.
//!
//! Kind: time-free.

use datacenter::Clock;

/// How many clocks of a shard were left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    count: u32,
    /// Every clock up to this one is trained, or counted.
    through: Clock,
    /// A worker has flushed something to this process.
    has_trained: bool,
}

impl LeftOut {
    /// As an earlier process has kept it: `count` of the clocks up to `through`.
    pub(super) fn restored(count: u32, through: Clock) -> Self {
        Self { count, through, has_trained: false }
    }

    /// How many were, where the shard is at `clock`. Never less than before.
    pub(super) fn at(&self, clock: Clock) -> u32 {
        self.count.saturating_add(clock.lead_over(self.through))
    }

    /// A worker has flushed `flushed`; before that the shard was at `clock`.
    pub(super) fn train(&mut self, flushed: Clock, clock: Clock) {
        self.move_to(clock.max(Clock(flushed.0.saturating_sub(1))));
        self.through = self.through.max(flushed);
        self.has_trained = true;
    }

    /// Whether a worker has flushed anything to this process.
    pub(super) fn has_trained(&self) -> bool {
        self.has_trained
    }

    /// The processes before this one had trained all clocks up to `through`, but for `count` of them.
    pub(super) fn presume(&mut self, count: u32, through: Clock) {
        self.count = self.count.max(count);
        self.through = self.through.max(through);
    }

    fn move_to(&mut self, clock: Clock) {
        self.count = self.at(clock);
        self.through = self.through.max(clock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_clock_is_trained_or_left_out() {
        let mut left_out = LeftOut::default();
        (1..=10).for_each(|clock| left_out.train(Clock(clock), Clock(clock - 1)));
        assert_eq!(left_out.at(Clock(10)), 0);
        // The shard takes the clock of the others; a flush that was under way changes nothing.
        assert_eq!(left_out.at(Clock(20)), 10);
        left_out.train(Clock(11), Clock(20));
        assert_eq!(left_out.at(Clock(20)), 10);
        left_out.train(Clock(21), Clock(20));
        assert_eq!(left_out.at(Clock(21)), 10);
        // Its worker has heard of a later clock on another shard.
        left_out.train(Clock(25), Clock(21));
        assert_eq!(left_out.at(Clock(25)), 13);
        // A faster worker is ahead of the shard.
        left_out.train(Clock(26), Clock(25));
        left_out.train(Clock(26), Clock(25));
        assert_eq!(left_out.at(Clock(26)), 13);
    }

    #[test]
    fn the_next_process_counts_on_from_what_others_have_heard() {
        let mut left_out = LeftOut::restored(2, Clock(60));
        left_out.presume(5, Clock(64));
        left_out.presume(0, Clock(62));
        assert_eq!((left_out.at(Clock(60)), left_out.at(Clock(141))), (5, 82));
    }
}
