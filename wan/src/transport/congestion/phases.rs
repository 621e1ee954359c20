//! What each round does: how the window moves.
//!
//! Kind: time-passed.
//!
//! ```text
//! Startup -> Climb -> Drain -> Measure -> Cruise -> Probe -> Drain ...
//!    |         ^        ^                    |        |
//!    +------------------+      Yield <-------+        +-> Climb, where more was delivered
//! ```

use std::time::{Duration, Instant};

use super::{Round, Steady};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Phase {
    /// Grows fast: twofold a round without a goal, half as fast with one.
    Startup {
        /// Rounds that delivered hardly more than the best before.
        flat_rounds: u32,
    },
    /// Grows by `step_bytes` a round while that delivers more and nothing is late.
    Climb {
        /// What a round adds.
        step_bytes: u64,
        /// Rounds that delivered hardly more than the best before.
        flat_rounds: u32,
    },
    /// Gives up the queue, for one round.
    Drain {
        /// Rounds to cruise afterwards.
        cruise_rounds: u32,
        /// Whether to go by the shortest base known, since the last one may have seen a queue.
        is_deep: bool,
    },
    /// Sees the base: what is acknowledged in this round was sent when the queue was gone.
    Measure {
        /// Rounds to cruise afterwards.
        cruise_rounds: u32,
        /// Whether so much had been given up that no other base can be shorter.
        is_shortest: bool,
    },
    /// Holds what has been found.
    Cruise {
        /// Rounds until the next probe.
        rounds_left: u32,
    },
    /// Adds a little, to see whether more is delivered than `before`.
    Probe {
        /// The first round still delivers what was sent before it.
        is_first: bool,
        /// The rate without the probe, in bytes a second.
        before: f64,
    },
    /// Gives up half the window, for one round.
    Yield,
}

/// Rounds between finding the base and the next probe.
const CRUISE_ROUNDS: u32 = 5;
/// The same when growth has just ended: it may have ended too early.
const SHORT_CRUISE_ROUNDS: u32 = 1;
/// What ends a probe.
const DRAIN: Phase = Phase::Drain { cruise_rounds: CRUISE_ROUNDS, is_deep: false };
/// What ends growth.
const SHORT_DRAIN: Phase = Phase::Drain { cruise_rounds: SHORT_CRUISE_ROUNDS, is_deep: false };
/// What a drain leaves of what the link holds. The rest is idle for a round trip in each cycle, so it is only as much as the rate
/// and the base may be too large, which are the best and the mean of a few rounds.
const DRAINED: f64 = 0.975;
/// The same while the base is above the shortest one, which may be an old queue of our own.
const DEEPLY_DRAINED: f64 = 0.95;
/// Rounds without growth of the rate after which growth of the window ends.
const FLAT_ROUNDS: u32 = 3;
/// More than this share of a round is lost to an outage, after which the link is likely to be what it was.
const OUTAGE_LOSS: f64 = 0.5;
/// Rounds whose mean rate a probe is compared with.
const BEFORE_ROUNDS: usize = 4;
/// How long a base above the shortest one is put up with.
const YIELD_INTERVAL: Duration = Duration::from_secs(10);

impl Phase {
    /// How late acknowledgements may be before they tell of a queue that growth has made.
    pub(super) fn tolerates(self, steady: &Steady) -> Option<Duration> {
        match self {
            Self::Startup { .. } | Self::Climb { .. } => Some(steady.headroom() + steady.burst()),
            Self::Probe { .. } => Some(steady.headroom() + steady.probe() / 2 + steady.burst()),
            Self::Drain { .. } | Self::Measure { .. } | Self::Cruise { .. } | Self::Yield => None,
        }
    }
}

impl Steady {
    /// Grows with each acknowledgement, so that growth is spread over the round.
    pub(super) fn grow(&mut self, acked_bytes: u64) {
        match self.phase {
            Phase::Startup { .. } => {
                let growth = if self.goal_bytes.is_some() { acked_bytes / 2 } else { acked_bytes };
                self.set_window(self.window_bytes + growth);
                let careful_from = self.careful_from();
                if self.window_bytes >= careful_from {
                    self.set_window(careful_from);
                    self.become_climb();
                }
            }
            Phase::Climb { step_bytes, .. } => {
                // A window's worth is acknowledged in a round.
                let growth = u128::from(step_bytes) * u128::from(acked_bytes) / u128::from(self.window_bytes);
                self.set_window(self.window_bytes + growth as u64);
            }
            Phase::Drain { .. }
            | Phase::Measure { .. }
            | Phase::Cruise { .. }
            | Phase::Probe { .. }
            | Phase::Yield => {}
        }
    }

    /// Where start-up ends when all goes well: quinn paces at five fourths of the window, so a window beyond
    /// four fifths of the goal already exceeds the link's rate for a part of each round.
    fn careful_from(&self) -> u64 {
        self.goal_bytes.map_or(u64::MAX, |goal| goal / 5 * 4)
    }

    /// Growth has made a queue.
    pub(super) fn stop_growth(&mut self, now: Instant) {
        // The drain's round begins here: what was sent before it tells nothing about it.
        let is_probe = matches!(self.phase, Phase::Probe { .. });
        self.become_drain(now, if is_probe { DRAIN } else { SHORT_DRAIN });
        if let Some(round_trip) = self.round.restart(now).round_trip() {
            self.round_trips.push(round_trip);
        }
    }

    /// Nothing came through for a while. What the link carried before is a goal, and no more.
    pub(super) fn start_over(&mut self, now: Instant) {
        let known = self.bytes_for(self.rate(), Duration::ZERO).max(self.config.initial_window_bytes);
        self.goal_bytes = Some(known);
        self.set_window(known / 2);
        self.phase = Phase::Startup { flat_rounds: 0 };
        self.round.restart(now);
        self.late_acks = 0;
    }

    /// Decides what the next round does.
    pub(super) fn next_phase(&mut self, now: Instant, round: &Round, best_before: f64, is_overflow: bool) {
        match self.phase {
            Phase::Startup { .. } => {}
            // quinn speaks of persistent congestion only where nothing at all was acknowledged in between.
            _ if is_overflow && round.loss() > OUTAGE_LOSS => {
                self.start_over(now);
                // Should the link have become slow instead, this is its rate.
                self.rates.keep_last(1);
                return;
            }
            _ => {}
        }
        match self.phase {
            Phase::Drain { cruise_rounds, is_deep } => {
                self.enter(Phase::Measure { cruise_rounds, is_shortest: is_deep });
            }
            Phase::Yield => {
                self.enter(Phase::Measure { cruise_rounds: CRUISE_ROUNDS, is_shortest: true });
            }
            Phase::Measure { cruise_rounds, is_shortest } => {
                self.measured(round, is_shortest);
                self.enter(Phase::Cruise { rounds_left: cruise_rounds });
            }
            // Without enough to send, nothing can be learned about the link.
            _ if round.is_limited() => {}
            Phase::Startup { .. } | Phase::Climb { .. } if is_overflow => {
                self.become_drain(now, SHORT_DRAIN);
            }
            Phase::Startup { flat_rounds } => {
                let flat_rounds = if round.rate(now) >= 1.25 * best_before { 0 } else { flat_rounds + 1 };
                self.phase = Phase::Startup { flat_rounds };
                self.end_growth_when_flat(now, flat_rounds);
            }
            Phase::Climb { step_bytes, flat_rounds } => {
                let growth = step_bytes as f64 / self.window_bytes as f64;
                let has_grown = round.rate(now) >= best_before * (1.0 + growth / 4.0);
                let flat_rounds = if has_grown { 0 } else { flat_rounds + 1 };
                self.phase = Phase::Climb { step_bytes: self.next_step(step_bytes), flat_rounds };
                self.end_growth_when_flat(now, flat_rounds);
            }
            Phase::Cruise { rounds_left } => self.cruise(now, round, rounds_left, is_overflow),
            Phase::Probe { is_first: true, before } => self.phase = Phase::Probe { is_first: false, before },
            Phase::Probe { is_first: false, before } => {
                let share = self.probe().as_secs_f64() / self.base().as_secs_f64();
                if round.rate(now) > before * (1.0 + share / 2.0) {
                    self.become_climb();
                } else {
                    self.become_drain(now, DRAIN);
                }
            }
        }
    }

    /// Learns the base from a round without a queue of ours.
    fn measured(&mut self, round: &Round, is_shortest: bool) {
        // The drain's own round still had the queue: it counts only where this one had no packets.
        self.round_trips.keep_last(if round.round_trip().is_some() { 1 } else { 2 });
        let base = self.base();
        self.shortest = if is_shortest { base } else { self.shortest.min(base) };
    }

    fn cruise(&mut self, now: Instant, round: &Round, rounds_left: u32, is_overflow: bool) {
        let limit = self.base() + self.headroom() + self.probe() + self.burst();
        if is_overflow || round.round_trip().is_some_and(|round_trip| round_trip > limit) {
            // The link has become slower or longer than it was.
            self.rates.keep_last(1);
            self.become_drain(now, Phase::Drain { cruise_rounds: SHORT_CRUISE_ROUNDS, is_deep: true });
        } else if self.base() > self.shortest + self.headroom() && now - self.yielded_at >= YIELD_INTERVAL {
            self.yielded_at = now;
            self.enter(Phase::Yield);
        } else if rounds_left == 0 {
            let before = self.rates.mean_of_last(BEFORE_ROUNDS).unwrap_or(0.0);
            self.enter(Phase::Probe { is_first: true, before });
        } else {
            self.enter(Phase::Cruise { rounds_left: rounds_left - 1 });
        }
    }

    /// Enters a phase whose window follows from what is known.
    fn enter(&mut self, phase: Phase) {
        let headroom = self.headroom();
        match phase {
            Phase::Measure { .. } | Phase::Cruise { .. } => self.set_window(self.busy_window(headroom)),
            Phase::Probe { .. } => self.set_window(self.busy_window(headroom + self.probe())),
            Phase::Yield => self.set_window(self.bytes_for(self.rate(), Duration::ZERO) / 2),
            Phase::Startup { .. } | Phase::Climb { .. } | Phase::Drain { .. } => {}
        }
        self.late_acks = 0;
        self.phase = phase;
    }

    /// Steps are as small as probes, so that one too many is no harm.
    fn become_climb(&mut self) {
        let step = self.window_bytes as f64 * self.probe().as_secs_f64() / self.base().as_secs_f64();
        self.enter(Phase::Climb { step_bytes: (step as u64).max(2 * self.mtu), flat_rounds: 0 });
    }

    /// Beyond where the limit was expected, steps grow: it may be far away.
    fn next_step(&self, step_bytes: u64) -> u64 {
        let is_beyond_goal = self.goal_bytes.is_none_or(|goal| self.window_bytes > goal + goal / 10);
        if is_beyond_goal { (2 * step_bytes).min(self.window_bytes / 8) } else { step_bytes }
    }

    fn end_growth_when_flat(&mut self, now: Instant, flat_rounds: u32) {
        if flat_rounds >= FLAT_ROUNDS {
            self.become_drain(now, SHORT_DRAIN);
        }
    }

    /// Takes back what made the queue, and a little more, so that the base shows.
    fn become_drain(&mut self, now: Instant, drain: Phase) {
        let so_far = self.round.rate_so_far(now, self.base() / 2).unwrap_or(0.0);
        let base = match drain {
            Phase::Drain { is_deep: true, .. } => self.base().min(self.shortest),
            _ => self.base(),
        };
        let is_doubtful = self.base() > self.shortest.saturating_add(self.headroom());
        let share = if is_doubtful { DEEPLY_DRAINED } else { DRAINED };
        let known = (so_far.max(self.rate()) * base.as_secs_f64() * share) as u64;
        // The rates of the first rounds may be those of a handshake.
        let is_startup = matches!(self.phase, Phase::Startup { .. });
        self.set_window(if is_startup { known.max(self.window_bytes / 4) } else { known });
        self.enter(drain);
    }
}
