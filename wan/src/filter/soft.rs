//! The soft threshold: idle bandwidth spent on updates below the hard threshold (time-free).
//!
//! The problem: the hard threshold says what must be shipped, and on a fast link leaves most of it idle, though every
//! update that arrives earlier helps. The paper (section 4) has a second, lower threshold for that. The idea here:
//! it is the hard one times a factor, and the factor probes like a congestion window. While what was released drains
//! within its clock the factor falls by an eighth a clock; once a queue remains it doubles, because what queues are
//! significant updates too; when a whole clock's worth waits the factor is back at one at once.
//!
//! Each peer has a [factor of its own](SoftThreshold), which follows its own link. What a release ships it ships to every
//! peer: to decide for each peer apart would need accumulators for each, a model's worth of memory a peer. So a release goes
//! by the largest factor of the [peers that count](SoftThresholds). A peer whose link carries nothing does not count, nor
//! does it until what has piled up for it meanwhile has drained: that queue says nothing of what the link can carry. A
//! link that is up and overloaded counts, since all that is released would queue there ahead of what is significant.

use std::time::Duration;

/// Below this part of a clock the backlog counts as drained: the links were idle.
const IDLE: f64 = 0.1;
/// From this part of a clock on the links are queueing. Between the two the factor rests.
const QUEUEING: f64 = 0.5;
/// What the factor is multiplied by after an idle clock.
const FALL: f64 = 0.875;
/// What the factor is multiplied by after a clock that left a queue.
const RISE: f64 = 2.0;

/// What a node knows of the link to a peer when a clock completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reachability {
    /// Something of it has come lately: its link needs `backlog` for what waits.
    Heard {
        /// How long the link needs for what waits, just before the release.
        backlog: Duration,
    },
    /// The same, for the first time after it was away.
    Returned {
        /// How long the link needs for what waits, just before the release.
        backlog: Duration,
    },
    /// Nothing has come since the clock before: what waits may wait for a link that is slow, or for one that is cut.
    Unheard,
    /// It is not linked, or has been silent for longer than any queue explains, or nobody waits for it.
    Away,
}

/// Whether a peer's factor counts in what is released.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Participation {
    Counted,
    Away,
    /// It is back, and the link had this load, in clocks, when it was looked at last. Infinite before the first look.
    Draining {
        load: f64,
    },
}

/// The factor between hard and soft threshold that suits one peer.
///
/// Always in `[min, 1]`, so the soft threshold is never above the hard one.
#[derive(Clone, Debug, PartialEq)]
pub struct SoftThreshold {
    min: f64,
    factor: f64,
    participation: Participation,
}

impl Default for SoftThreshold {
    /// A factor down to 1/64: below that nearly every update passes, and each further one matters less.
    fn default() -> Self {
        Self::new(1.0 / 64.0)
    }
}

impl SoftThreshold {
    /// A factor that starts at one and never falls below `min`.
    ///
    /// # Panics
    ///
    /// If `min` is not above zero and at most one.
    pub fn new(min: f64) -> Self {
        assert!(min > 0.0 && min <= 1.0, "the smallest factor is in (0, 1], not {min}");
        Self { min, factor: 1.0, participation: Participation::Counted }
    }

    /// What the hard threshold is to be multiplied by.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// Whether what is released is to go by it.
    pub fn counts(&self) -> bool {
        self.participation == Participation::Counted
    }

    /// Takes in, once a clock, how the peer is reached, against how long the clock took.
    ///
    /// Where no time has passed, any backlog counts as a whole clock's.
    pub fn observe(&mut self, reach: Reachability, clock_length: Duration) {
        match reach {
            Reachability::Away => self.participation = Participation::Away,
            Reachability::Unheard => {}
            Reachability::Returned { backlog } => {
                self.participation = Participation::Draining { load: f64::INFINITY };
                self.follow(load(backlog, clock_length));
            }
            Reachability::Heard { backlog } => self.follow(load(backlog, clock_length)),
        }
    }

    fn follow(&mut self, load: f64) {
        match self.participation {
            Participation::Counted => {}
            Participation::Away if load >= QUEUEING => {
                return self.participation = Participation::Draining { load };
            }
            // A queue that does not shrink is no remainder of the silence: the link is overloaded, as any may be.
            Participation::Draining { load: before } if load >= QUEUEING && load < before => {
                return self.participation = Participation::Draining { load };
            }
            Participation::Away | Participation::Draining { .. } => {
                self.participation = Participation::Counted
            }
        }
        self.move_by(load);
    }

    fn move_by(&mut self, load: f64) {
        self.factor = if load >= 1.0 {
            1.0
        } else if load >= QUEUEING {
            (self.factor * RISE).min(1.0)
        } else if load <= IDLE {
            (self.factor * FALL).max(self.min)
        } else {
            self.factor
        };
    }
}

/// How many clocks a link needs for what waits.
fn load(backlog: Duration, clock_length: Duration) -> f64 {
    if backlog.is_zero() { 0.0 } else { backlog.as_secs_f64() / clock_length.as_secs_f64() }
}

/// The factors of all peers of a shard.
#[derive(Clone, Debug, PartialEq)]
pub struct SoftThresholds(Vec<SoftThreshold>);

impl SoftThresholds {
    /// One for each of so many peers.
    pub fn new(peers: usize) -> Self {
        Self(vec![SoftThreshold::default(); peers])
    }

    /// Takes in how each peer is reached, in the order of the peers.
    pub fn observe(&mut self, reached: impl IntoIterator<Item = Reachability>, clock_length: Duration) {
        self.0.iter_mut().zip(reached).for_each(|(soft, reach)| soft.observe(reach, clock_length));
        if !self.0.iter().any(SoftThreshold::counts) {
            self.0.iter_mut().for_each(|soft| soft.move_by(0.0));
        }
    }

    /// What the hard threshold is to be multiplied by: the largest factor of those that count.
    ///
    /// If none does, of all, which fall then as over idle links: no link carries what is released. To hold back more than the
    /// process before this one did would lose it: what a checkpoint has of an element as held back is taken for released by the
    /// next process if a mirror has more of the row (`replica/recovery.rs`), which is so only where no less was released.
    pub fn factor(&self) -> f64 {
        let counted = self.0.iter().filter(|soft| soft.counts()).map(SoftThreshold::factor).reduce(f64::max);
        counted.or_else(|| self.each().reduce(f64::max)).unwrap_or(1.0)
    }

    /// The factor of each peer.
    pub fn each(&self) -> impl Iterator<Item = f64> {
        self.0.iter().map(SoftThreshold::factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: Duration = Duration::from_millis(100);

    fn after(loads: &[f64]) -> f64 {
        let mut soft = SoftThreshold::default();
        loads.iter().for_each(|load| soft.observe(heard(*load), CLOCK));
        soft.factor()
    }

    fn heard(load: f64) -> Reachability {
        Reachability::Heard { backlog: CLOCK.mul_f64(load) }
    }

    fn returned(load: f64) -> Reachability {
        Reachability::Returned { backlog: CLOCK.mul_f64(load) }
    }

    #[test]
    fn a_peer_that_is_cut_off_changes_nothing_for_the_others_until_its_queue_has_drained() {
        let mut soft = SoftThresholds::new(2);
        (0..100).for_each(|_| soft.observe([heard(0.0), heard(0.0)], CLOCK));
        assert_eq!(soft.factor(), 1.0 / 64.0);
        // The queue grows without a word of the peer, which is then taken for away; when it is back, it drains.
        let away = [
            Reachability::Unheard,
            Reachability::Unheard,
            Reachability::Away,
            Reachability::Away,
            returned(9.0),
            heard(5.0),
        ];
        for reach in away.into_iter().chain([heard(1.0), Reachability::Unheard, heard(0.4), heard(0.0)]) {
            soft.observe([heard(0.0), reach], CLOCK);
            assert_eq!(soft.factor(), 1.0 / 64.0, "{reach:?}");
        }
        // From then on it is as any other.
        soft.observe([heard(0.0), heard(0.6)], CLOCK);
        assert_eq!(soft.factor(), 1.0 / 32.0);
        soft.observe([heard(0.0), heard(1.0)], CLOCK);
        assert_eq!(soft.each().collect::<Vec<_>>(), [1.0 / 64.0, 1.0]);
        assert_eq!(soft.factor(), 1.0);
    }

    #[test]
    fn a_peer_that_is_back_and_whose_queue_does_not_shrink_is_overloaded() {
        for away in [Reachability::Away, Reachability::Unheard] {
            let mut soft = SoftThresholds::new(2);
            (0..10).for_each(|_| soft.observe([heard(0.0), heard(0.0)], CLOCK));
            let before = soft.factor();
            soft.observe([heard(0.0), away], CLOCK);
            soft.observe([heard(0.0), returned(9.0)], CLOCK);
            assert!(soft.factor() <= before, "it may yet drain");
            soft.observe([heard(0.0), heard(9.0)], CLOCK);
            assert_eq!(soft.factor(), 1.0);
        }
    }

    #[test]
    fn where_nobody_is_reached_no_link_is_in_the_way() {
        let (mut soft, away) = (SoftThresholds::new(2), Reachability::Away);
        soft.observe([away, away], CLOCK);
        assert_eq!(soft.factor(), 0.875);
        (0..100).for_each(|_| soft.observe([away, away], CLOCK));
        assert_eq!(soft.factor(), 1.0 / 64.0);
        // What has piled up is no reason for one that is back; what piles up then is.
        soft.observe([returned(9.0), away], CLOCK);
        soft.observe([heard(0.0), away], CLOCK);
        assert_eq!(soft.factor(), 1.0 / 64.0);
        soft.observe([heard(1.0), away], CLOCK);
        assert_eq!(soft.factor(), 1.0);
        assert_eq!(SoftThresholds::new(0).factor(), 1.0);
    }

    #[test]
    fn it_falls_when_idle_rests_when_busy_and_rises_when_queueing() {
        assert_eq!(after(&[]), 1.0);
        assert_eq!(after(&[0.0]), 0.875);
        assert_eq!(after(&[0.0, 0.1, 0.3]), 0.765_625);
        assert_eq!(after(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.6]), 2.0 * 0.875f64.powi(6));
        assert_eq!(after(&[0.0, 0.5]), 1.0);
        assert_eq!(after(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]), 1.0);
        assert_eq!(after(&[0.0; 100]), 1.0 / 64.0);
    }

    #[test]
    fn clocks_of_no_length_are_neither_idle_nor_a_division_by_zero() {
        let mut soft = SoftThreshold::default();
        soft.observe(heard(0.0), Duration::ZERO);
        assert_eq!(soft.factor(), 0.875);
        soft.observe(Reachability::Heard { backlog: Duration::from_nanos(1) }, Duration::ZERO);
        assert_eq!(soft.factor(), 1.0);
    }

    /// A link that carries a fixed volume a clock, and updates of which a part `1 - factor / 2` passes.
    #[test]
    fn it_finds_the_rate_of_the_link() {
        for capacity in [0.3, 0.55, 0.7, 0.9] {
            let mut soft = SoftThreshold::default();
            let (mut queue, mut carried, mut worst) = (0.0f64, 0.0, 0.0f64);
            for clock in 0..1000 {
                soft.observe(heard(queue / capacity), CLOCK);
                queue += 1.0 - soft.factor() / 2.0;
                let sent = queue.min(capacity);
                queue -= sent;
                if clock >= 100 {
                    carried += sent;
                    worst = worst.max(queue / capacity);
                }
            }
            if capacity < 0.5 {
                // Even the hard threshold alone is too much for this link: nothing is added to it.
                assert_eq!(soft.factor(), 1.0);
            } else {
                assert!(
                    carried / 900.0 > 0.85 * capacity,
                    "capacity {capacity}: carried {}",
                    carried / 900.0
                );
                assert!(worst < 1.5, "capacity {capacity}: {worst} clocks of backlog");
            }
        }
    }
}
