//! How many usual updates may be held back, by what is known of the other regions' updates (time-free).
//!
//! The problem: when a job begins nobody knows whether its regions learn alike, and that is when updates are the largest and all go
//! one way. Whoever holds much back then learns late that its updates undo those of the others, and by then each region has
//! run off towards an optimum of its own, which a falling learning rate may never make good.
//!
//! So a replica begins by holding back one usual update, or a few where a clock is a step or two of training, and
//! is given more leeway with each clock: two fifths more where updates are found to be somewhat alike, and a
//! twenty-fifth where they are not, or nothing is known. Where they undo each other a third of what the goal says
//! is held back at most: reads see what everybody has then, and what is held back is progress that nobody sees.
//!
//! Why more where clocks are short: the shorter a clock is, the more of its updates a model bears. Three updates of a
//! clock of one step are no further to run off than one of a clock of several, and if but one is held back, a large
//! model ships more in its first clocks than in all others together.
//!
//! A process that starts again from a checkpoint begins anew: it knows no likeness, and ships in its first clocks most of what the
//! former one had held back.

/// What is held back at first, in usual updates, where nothing else is said.
const FIRST: f64 = 1.0;

/// A likeness from which on updates are alike enough for more: with so little held back much of what is released is noise, which
/// no two regions share.
const ALIKE_ENOUGH: f64 = 0.2;

/// By what that grows in a clock where updates are alike enough, and elsewhere.
const GROWTH: f64 = 1.4;
const SLOW_GROWTH: f64 = 1.04;

/// More is never asked for.
const MOST: f64 = 1e9;

/// What thresholds that follow updates are multiplied by where the others' updates undo our own.
const TIGHT: f64 = 1.0 / 3.0;

/// How much may be held back where thresholds follow updates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Leeway {
    most: f64,
    tightness: f64,
}

impl Default for Leeway {
    /// That of a job that begins.
    fn default() -> Self {
        Self::beginning_with(FIRST)
    }
}

impl Leeway {
    /// That of a job that begins, and may hold back so many usual updates then.
    pub fn beginning_with(updates: f64) -> Self {
        Self { most: updates.max(FIRST), tightness: 1.0 }
    }

    /// A clock has ended. `likeness` is that of the least alike table, if it is known; below zero, updates may be `opposed`.
    pub fn end_clock(&mut self, likeness: Option<f64>, opposed: bool) {
        let is_alike = likeness.is_some_and(|likeness| likeness >= ALIKE_ENOUGH);
        let growth = if is_alike && !opposed { GROWTH } else { SLOW_GROWTH };
        self.most = (self.most * growth).min(MOST);
        self.tightness = if opposed { TIGHT } else { 1.0 };
    }

    /// How many usual updates are held back where `threshold` is asked for.
    pub fn bound(self, threshold: f64) -> f64 {
        (threshold * self.tightness).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is held back of thirty usual updates after so many clocks.
    fn after(clocks: u32, likeness: Option<f64>, opposed: bool) -> f64 {
        let mut leeway = Leeway::default();
        (0..clocks).for_each(|_| leeway.end_clock(likeness, opposed));
        leeway.bound(30.0)
    }

    #[test]
    fn it_begins_with_one_update_and_grows_fast_only_where_updates_are_known_to_be_alike() {
        assert_eq!(Leeway::default().bound(30.0), 1.0);
        assert_eq!(Leeway::default().bound(0.5), 0.5, "no more than is asked for");
        assert!((7.0..8.0).contains(&after(6, Some(0.9), false)), "{}", after(6, Some(0.9), false));
        assert_eq!(after(11, Some(ALIKE_ENOUGH), false), 30.0);
        for unknown in [None, Some(0.19), Some(0.0), Some(f64::NAN)] {
            assert!((2.0..3.0).contains(&after(24, unknown, false)), "{unknown:?}");
            assert_eq!(after(100, unknown, false), 30.0, "{unknown:?}");
        }
        assert_eq!(after(u16::MAX.into(), Some(1.0), false), 30.0);
        assert_eq!([0.5, 3.0].map(|first| Leeway::beginning_with(first).bound(30.0)), [1.0, 3.0]);
    }

    #[test]
    fn where_updates_are_opposed_a_third_is_held_back_at_most_and_what_was_given_is_kept() {
        assert!(after(24, Some(-0.3), true) < 3.0);
        assert_eq!(after(1000, Some(-0.3), true), 10.0);
        let mut leeway = Leeway::default();
        (0..20).for_each(|_| leeway.end_clock(Some(0.8), false));
        leeway.end_clock(Some(-0.1), true);
        assert_eq!(leeway.bound(30.0), 10.0);
        leeway.end_clock(Some(0.0), false);
        assert_eq!(leeway.bound(30.0), 30.0);
    }
}
