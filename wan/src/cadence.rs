//! How often a shard releases: messages may be rarer than clocks (time-free).
//!
//! The problem: a message for each clock and peer costs what its headers cost, however little it says, and once values take
//! a bit or two that is most of what crosses the WAN. Where reads [anticipate](crate::anticipation) what the others will say there is
//! no hurry to say it: more signal and less noise is in what accumulates for several clocks, and the estimate that reads go by
//! becomes steadier. Where the others' updates undo our own, every clock without their answer costs.
//!
//! So a shard releases, and states its clock, at every `r`-th clock. `r` is a power of two, by default one that follows how alike
//! updates are: with `l` the estimate of the gain for each peer, of the least alike table, `r` doubles as far as it may where `l` is
//! clearly positive, comes to four where it is nearly nothing, and to one where it is negative. It is never more than an eighth of the clocks so far: training
//! changes the faster the younger it is. Peers are told by how many clocks a statement may be behind, and
//! allow for it in the lead that they derive. Where nobody trains, or a link has come up, everything is stated at once.

use datacenter::Clock;

use crate::anticipation::OPPOSED;
use crate::policy::{Lead, ReleaseEvery};

/// The most clocks between two releases.
pub const MOST_CLOCKS: u32 = 32;

/// The most where updates are hardly alike: as they are once training has come to rest, or where what is learned of one row
/// says little of another.
const FEW_CLOCKS: u32 = 4;

/// Which part of the clocks so far may pass between two releases, where that is derived.
const PART: u32 = 8;

/// A likeness from which updates are alike, and one below which they are hardly so.
const ALIKE: f64 = 0.4;
const HARDLY_ALIKE: f64 = 0.1;

/// What a likeness of updates comes to, in a word or two.
pub fn in_words(likeness: f64) -> &'static str {
    match likeness {
        l if l < OPPOSED => "opposed",
        l if l < HARDLY_ALIKE => "hardly alike",
        l if l < ALIKE => "somewhat alike",
        _ => "alike",
    }
}

/// When a shard releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    every: u32,
    /// How far `every` may grow, where it is derived.
    most: Option<u32>,
    /// How far a budget lets it grow.
    bound: u32,
    /// The last clock that was completed, and the last at which something was released.
    completed: Clock,
    stated: Clock,
}

impl Cadence {
    /// As a policy says, which has its lead too: of a bounded one at most half is given away.
    pub fn new(release_every: ReleaseEvery, lead: Lead) -> Self {
        let most = match lead {
            Lead::Limit(limit) => (limit / 2).max(1),
            Lead::Derived | Lead::Unlimited => u32::MAX,
        };
        let (every, most) = match release_every {
            ReleaseEvery::Clocks(clocks) => (clocks.clamp(1, most.min(MOST_CLOCKS)), None),
            ReleaseEvery::Derived { most: derived } => (1, Some(most.min(derived).min(MOST_CLOCKS))),
        };
        Self { every, most, bound: u32::MAX, completed: Clock(0), stated: Clock(0) }
    }

    /// How many clocks there are from one release to the next.
    pub fn every(&self) -> u32 {
        self.every
    }

    /// By how many clocks what is stated may be behind.
    pub fn unstated(&self) -> u32 {
        self.every - 1
    }

    /// Whether what is stated is behind `clock`.
    pub fn is_behind(&self, clock: Clock) -> bool {
        self.stated < clock
    }

    /// `clock` is complete: whether it is time to release. It always is where clocks were left out.
    pub fn is_due(&mut self, clock: Clock) -> bool {
        let before = std::mem::replace(&mut self.completed, clock);
        clock.lead_over(before) > 1 || clock.0 / self.every > self.stated.0 / self.every
    }

    /// No more than so many clocks may pass between releases, where that is derived, until something else is said.
    pub fn bound(&mut self, most: Option<u32>) {
        self.bound = most.unwrap_or(u32::MAX).max(1);
    }

    /// Everything up to `clock` is released and stated. `likeness` is what the least alike table has, if that is known.
    pub fn state(&mut self, clock: Clock, likeness: Option<f64>) {
        self.stated = clock;
        if let Some((likeness, most)) = likeness.zip(self.most) {
            let most = most.min(clock.0 / PART).max(1);
            let aim = match likeness {
                l if l >= ALIKE => most,
                l if l >= HARDLY_ALIKE => most.min(FEW_CLOCKS.max(self.every)),
                l if l >= OPPOSED => most.min(FEW_CLOCKS),
                _ => 1,
            };
            let aim = aim.min(self.bound);
            self.every = match self.every {
                _ if aim == 1 => 1,
                every if 2 * every <= aim => 2 * every,
                every if every > aim => every / 2,
                every => every,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DERIVED: ReleaseEvery = ReleaseEvery::Derived { most: 8 };

    /// The clocks at which a cadence releases, of so many, where updates are as alike as `likeness` says at each.
    fn releases(mut cadence: Cadence, clocks: u32, likeness: impl Fn(u32) -> Option<f64>) -> Vec<u32> {
        let mut due = Vec::new();
        for clock in 1..=clocks {
            if cadence.is_due(Clock(clock)) {
                cadence.state(Clock(clock), likeness(clock));
                due.push(clock);
            }
        }
        due
    }

    #[test]
    fn releases_become_rarer_where_updates_are_alike_and_frequent_where_they_are_not() {
        let derived = Cadence::new(DERIVED, Lead::Derived);
        let alike = releases(derived, 96, |_| Some(0.9));
        let expected: Vec<u32> = (1..16)
            .chain((16..32).step_by(2))
            .chain((32..64).step_by(4))
            .chain((64..=96).step_by(8))
            .collect();
        assert_eq!(alike, expected);
        assert_eq!(releases(derived, 5, |_| None), [1, 2, 3, 4, 5]);
        let somewhat: Vec<u32> = (1..16).chain((16..32).step_by(2)).chain((32..=96).step_by(4)).collect();
        assert_eq!(releases(derived, 96, |_| Some(0.3)), somewhat);
        let turns = |clock| Some(if clock < 80 { 0.5 } else { -0.1 });
        assert_eq!(releases(derived, 84, turns).split_off(31), [64, 72, 80, 81, 82, 83, 84]);
        let rarely = Cadence::new(ReleaseEvery::Derived { most: 32 }, Lead::Derived);
        let fades = |clock| Some(if clock < 320 { 0.5 } else { -0.04 });
        let found = releases(rarely, 384, fades);
        assert_eq!(
            found[found.len() - 13..],
            [320, 336, 344, 348, 352, 356, 360, 364, 368, 372, 376, 380, 384][..]
        );
    }

    #[test]
    fn the_fewer_steps_a_clock_is_the_further_apart_releases_may_be() {
        let most = |steps| match ReleaseEvery::derived(steps) {
            ReleaseEvery::Derived { most } => most,
            ReleaseEvery::Clocks(_) => 0,
        };
        assert_eq!([1, 2, 4, 50, u32::MAX].map(|steps| most(Some(steps))), [32, 16, 8, 8, 8]);
        assert_eq!(most(None), 8);
    }

    #[test]
    fn a_bounded_lead_bounds_it() {
        let every = |release, lead| Cadence::new(release, lead).every();
        assert_eq!(every(ReleaseEvery::Clocks(8), Lead::Derived), 8);
        assert_eq!(every(ReleaseEvery::Clocks(8), Lead::Limit(0)), 1);
        assert_eq!(every(ReleaseEvery::Clocks(8), Lead::Limit(5)), 2);
        assert_eq!(every(ReleaseEvery::Clocks(0), Lead::Unlimited), 1);
        assert_eq!(
            every(ReleaseEvery::Clocks(64), Lead::Unlimited),
            MOST_CLOCKS,
            "as much as peers allow for"
        );
        let bounded = Cadence::new(DERIVED, Lead::Limit(4));
        assert_eq!(
            releases(bounded, 42, |_| Some(1.0)).split_off(15),
            (16..=42).step_by(2).collect::<Vec<_>>()
        );
    }

    #[test]
    fn clocks_that_are_left_out_are_stated_at_once() {
        let mut cadence = Cadence::new(ReleaseEvery::Clocks(8), Lead::Derived);
        let due: Vec<bool> = [1, 2, 5, 6, 8, 9].map(|clock| cadence.is_due(Clock(clock))).into();
        assert_eq!(due, [false, false, true, false, true, true]);
        cadence.state(Clock(9), Some(1.0));
        assert_eq!((cadence.every(), cadence.unstated()), (8, 7));
        assert!(cadence.is_behind(Clock(10)) && !cadence.is_behind(Clock(9)));
    }
}
