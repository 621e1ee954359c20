//! Beside senders that fill the queue until it overflows.
//!
//! Kind: time-passed.
//!
//! Whoever keeps its own queue short gets what others leave, and beside a sender of the usual kind that is next to nothing in
//! a long queue. In a short one it is nearly everything, since the overflow that makes the other one give way looks like loss
//! by chance. Both are unfair, so where such a rival shows, [`Steady`](super::Steady) does as it does: the window follows Cubic's
//! curve, and what is lost while there is a queue ends it.
//!
//! A rival shows in two ways. A queue that stays when ours is gone is somebody's who does not give way; a longer route looks like
//! that too, but it is the same each time, and a larger window delivers more until the link is full. And loss by chance comes at
//! any time, so that a round in which all loss comes while the queue is longer than we have made it has seen an overflow. We are
//! rid of the rival once we have all that the link has carried. A link may have become slower, so after half a minute without an
//! overflow the window is taken back for a round, to see whether the queue goes with it.
//!
//! Cubic takes minutes to be fair over a long queue, from wherever it starts. Where the link's rate is known there is no need:
//! with less than 45 % of what is under way, the window grows fast; with more than 60 %, more is given up at an overflow, and
//! the window rests for a while. That is fair beside one rival. Beside several of them it is more than an equal share, as it is
//! less where we are several: nothing shows how many there are.

use std::time::{Duration, Instant};

use super::phases::{CRUISE_ROUNDS, DEEP_DRAIN};
use super::{Phase, Round, Steady};

/// Cubic's constant, in packets a second to the third (RFC 9438, section 5.1).
const CUBIC: f64 = 0.4;
/// What Cubic keeps of its window at an overflow (section 4.6),
const KEPT: f64 = 0.7;
/// and what we keep with more than a fair share.
const KEPT_WITH_MUCH: f64 = 0.5;
/// Shares that are less and more than a fair one, beside one other sender.
const LITTLE: f64 = 0.45;
const MUCH: f64 = 0.6;
/// Who delivers so much of the link has it alone.
const ALONE: f64 = 0.95;
/// The same of who has just given up its queue.
const NEARLY_ALONE: f64 = 0.9;
/// Rounds whose mean rate is the share.
const SHARE_ROUNDS: usize = 4;
/// Drains that find the same queue, until it is no longer taken for a longer route.
const SIGHTINGS: u32 = 3;
/// From one look at what becomes of the queue without ours to the next.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// How long somebody has to come up to us, who has much less.
const HOLD: Duration = Duration::from_secs(10);

/// Cubic's window over time: up to the window of the last overflow, slowly past it, then faster and faster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Curve {
    start: Instant,
    /// The window of the last overflow.
    plateau_bytes: f64,
    /// How long it takes to get there, in seconds.
    rise_secs: f64,
}

impl Curve {
    /// From `window_bytes` at `start`.
    fn new(start: Instant, window_bytes: f64, plateau_bytes: f64, mtu: u64) -> Self {
        let rise_packets = (plateau_bytes - window_bytes).max(0.0) / mtu as f64;
        Self { start, plateau_bytes, rise_secs: libm::cbrt(rise_packets / CUBIC) }
    }

    fn at(&self, now: Instant, mtu: u64) -> f64 {
        let secs = now.saturating_duration_since(self.start).as_secs_f64() - self.rise_secs;
        self.plateau_bytes + CUBIC * secs * secs * secs * mtu as f64
    }
}

/// How we compete.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Contest {
    curve: Curve,
    /// The base, while it may be that of a longer route: then a larger window makes no queue, and the window may grow fast.
    route: Option<Duration>,
    /// When the window was last given up: what was sent before shows nothing of that.
    conceded_at: Instant,
    /// When it is to be looked whether there still is a rival.
    check_at: Instant,
}

/// What the next round without our queue is for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum After {
    /// To find the base, or a rival.
    Search,
    /// To see whether there still is a rival; with this window and curve we go on then.
    Check(u64, Curve),
    /// To find the base once the link is all ours: whatever it is, it is no queue.
    Alone,
}

/// What is known of others on the link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rivals {
    /// The most that the link has carried for us, or is said to carry, in bytes a second; zero before anything is known.
    link_rate: f64,
    /// The last round trip of all.
    latest: Duration,
    /// What the last drain found, where a queue had stayed, and how many in a row have found one.
    stayed: Option<(Duration, u32)>,
    after: After,
}

impl Rivals {
    pub(super) fn new(link_rate: f64) -> Self {
        Self { link_rate, latest: Duration::ZERO, stayed: None, after: After::Search }
    }

    pub(super) fn note_round_trip(&mut self, round_trip: Duration) {
        self.latest = round_trip;
    }

    pub(super) fn note_rate(&mut self, rate: f64) {
        self.link_rate = self.link_rate.max(rate);
    }
}

/// What a round without our queue has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    /// The queue was ours, or the route is longer.
    Base,
    /// Something has stayed that has not been seen before.
    New,
    /// The same has stayed: a longer route, or a queue that somebody keeps full.
    Same,
    /// Somebody else's queue.
    Rival,
}

impl Steady {
    /// Learns the base from a round without our queue, or that there is another queue, and decides what comes next.
    pub(super) fn learn_base(&mut self, now: Instant, round: &Round, is_shortest: bool, cruise_rounds: u32) {
        let after = std::mem::replace(&mut self.rivals.after, After::Search);
        let base = self.base();
        let finding = if round.is_limited() { Finding::Base } else { self.find_rival(base, after) };
        let found_before = self.rivals.stayed.map_or(0, |(_, count)| count);
        self.rivals.stayed = (finding != Finding::Base).then_some((base, found_before + 1));
        match finding {
            Finding::Base => {
                self.shortest = if is_shortest { base } else { self.shortest.min(base) };
                self.enter(Phase::Cruise { rounds_left: cruise_rounds });
            }
            Finding::New => self.become_drain(now, DEEP_DRAIN),
            // A probe tells: on a longer route more is delivered until the link is full.
            Finding::Same => self.enter(Phase::Cruise { rounds_left: 0 }),
            Finding::Rival => match after {
                After::Check(window_bytes, curve) => self.go_on(now, window_bytes, curve, None),
                After::Search | After::Alone => self.join(now, found_before),
            },
        }
    }

    /// Begins to compete with what we have of a queue that stays.
    fn join(&mut self, now: Instant, found_before: u32) {
        let known = self.rates.mean_of_last(2).unwrap_or(0.0);
        let window_bytes = self.bytes_for(known, Duration::ZERO).max(self.window_bytes);
        let curve = Curve::new(now, window_bytes as f64, window_bytes as f64, self.mtu);
        // Where it has always been the same, it may be a longer route after all.
        let route = (found_before >= SIGHTINGS).then(|| self.base());
        self.go_on(now, window_bytes, curve, route);
    }

    fn find_rival(&self, base: Duration, after: After) -> Finding {
        let stays = base > self.shortest.saturating_add(self.foreign_queue());
        let is_alone = self.share_of_last(2).is_some_and(|share| share >= NEARLY_ALONE);
        match self.rivals.stayed {
            _ if !stays || is_alone || after == After::Alone => Finding::Base,
            _ if matches!(after, After::Check(..)) => Finding::Rival,
            None => Finding::New,
            Some((before, _)) if before.abs_diff(base) > self.headroom() => Finding::Rival,
            Some((_, count)) if count < SIGHTINGS => Finding::Same,
            Some(_) => Finding::Rival,
        }
    }

    /// A queue that two others of our kind would not make together.
    fn foreign_queue(&self) -> Duration {
        2 * self.headroom() + self.probe() + self.burst()
    }

    /// Whether what is lost now is lost while the queue is longer than we have made it.
    pub(super) fn is_overflow_of_rivals(&self) -> bool {
        let own = match self.phase {
            // The queue may be what growth has made.
            Phase::Startup { .. } => return false,
            Phase::Drain { cruise_rounds, .. } | Phase::Measure { cruise_rounds, .. }
                if cruise_rounds != CRUISE_ROUNDS =>
            {
                return false;
            }
            Phase::Climb { .. } | Phase::Probe { .. } => self.headroom() + self.probe() / 2 + self.burst(),
            Phase::Drain { .. } | Phase::Measure { .. } | Phase::Cruise { .. } | Phase::Yield => {
                self.headroom() + self.burst() + self.headroom() / 2
            }
            Phase::Compete(_) => self.headroom() + self.burst(),
        };
        self.rivals.latest > self.shortest.saturating_add(own)
    }

    /// Whether a round has lost packets to somebody else's queue, and who has made it has a part of the link.
    pub(super) fn is_overflow_shown(&self, round: &Round) -> bool {
        !round.is_limited()
            && round.is_lost_to_rivals()
            && self.share_of_last(SHARE_ROUNDS).is_none_or(|share| share < ALONE)
    }

    /// Begins to compete with an overflow.
    pub(super) fn become_rival(&mut self, now: Instant) {
        let curve = Curve::new(now, self.window_bytes as f64, self.window_bytes as f64, self.mtu);
        self.go_on(now, self.window_bytes, curve, None);
        self.concede(now);
    }

    /// Competes on `curve`.
    fn go_on(&mut self, now: Instant, window_bytes: u64, curve: Curve, route: Option<Duration>) {
        self.rivals.stayed = None;
        self.set_window(window_bytes);
        self.enter(Phase::Compete(Contest {
            curve,
            route,
            conceded_at: now,
            check_at: now + CHECK_INTERVAL,
        }));
    }

    /// The share of the link that the last rounds had, where its rate is known.
    fn share_of_last(&self, rounds: usize) -> Option<f64> {
        let rate = self.rates.mean_of_last(rounds)?;
        (self.rivals.link_rate > 0.0).then(|| rate / self.rivals.link_rate)
    }

    /// Whether we have all that the link carries, of what is under way and of what arrives.
    fn is_alone(&self) -> bool {
        let shares = [self.share(), self.share_of_last(2)];
        shares.iter().all(|share| share.is_some_and(|share| share >= ALONE))
    }

    /// The share that the window will have of all that is under way. It is the rate's, a round trip earlier.
    fn share(&self) -> Option<f64> {
        let held_bytes = self.rivals.link_rate * self.rivals.latest.as_secs_f64();
        (held_bytes > 0.0).then(|| self.window_bytes as f64 / held_bytes)
    }

    /// Grows with an acknowledged packet, as far as the curve has come.
    pub(super) fn grow_beside_rivals(&mut self, now: Instant, sent: Instant, bytes: u64) {
        let Phase::Compete(contest) = self.phase else { return };
        if sent <= contest.conceded_at {
            return;
        }
        if self.share().is_some_and(|share| share < LITTLE) {
            self.set_window(self.window_bytes + bytes / 2);
            let window = self.window_bytes as f64;
            if window > contest.curve.at(now, self.mtu) {
                let plateau = contest.curve.plateau_bytes.max(window);
                let curve = Curve::new(contest.curve.start.max(now), window, plateau, self.mtu);
                self.phase = Phase::Compete(Contest { curve, ..contest });
            }
            return;
        }
        if let Some(route) = contest.route {
            let is_route = self.rivals.latest <= route + 2 * self.headroom();
            if is_route {
                self.set_window(self.window_bytes + bytes / 4);
            }
            let window = self.window_bytes as f64;
            let curve = Curve::new(now, window, window, self.mtu);
            self.phase =
                Phase::Compete(Contest { curve, route: contest.route.filter(|_| is_route), ..contest });
            return;
        }
        let room = contest.curve.at(now + self.rivals.latest, self.mtu) - self.window_bytes as f64;
        if room > 0.0 {
            // In a round trip a window is acknowledged. Half as much again is the most (RFC 9438, section 4.2).
            let growth = (room / self.window_bytes as f64).min(0.5) * bytes as f64;
            self.set_window(self.window_bytes + growth as u64);
        }
    }

    /// Gives way at an overflow, once for all that was sent before: the newest packet that is lost was `sent` then.
    pub(super) fn lose_beside_rivals(&mut self, now: Instant, sent: Instant) {
        let Phase::Compete(contest) = self.phase else { return };
        if !self.is_overflow_of_rivals() || sent <= contest.conceded_at {
            return;
        }
        if self.is_alone() { self.leave(now) } else { self.concede(now) }
    }

    fn leave(&mut self, now: Instant) {
        self.rivals.after = After::Alone;
        self.become_drain(now, DEEP_DRAIN);
    }

    /// Gives up a part of the window, and grows on a new curve.
    fn concede(&mut self, now: Instant) {
        let Phase::Compete(contest) = self.phase else { return };
        let window = self.window_bytes as f64;
        let has_much = self.share().is_some_and(|share| share > MUCH);
        let (kept, plateau) = if has_much {
            (KEPT_WITH_MUCH, KEPT_WITH_MUCH * window)
        } else if window < contest.curve.plateau_bytes {
            // Fast convergence (section 4.7): who has not come to where it was leaves some to others.
            (KEPT, window * (1.0 + KEPT) / 2.0)
        } else {
            (KEPT, window)
        };
        self.set_window((window * kept) as u64);
        let check_at = now + CHECK_INTERVAL;
        // Others are to come up to where we are, which they do faster while nothing overflows.
        let start = if has_much { now + HOLD } else { now };
        let window = self.window_bytes as f64;
        let curve = Curve::new(start, window, plateau.max(window), self.mtu);
        self.phase = Phase::Compete(Contest { curve, route: None, conceded_at: now, check_at });
    }

    /// Looks from time to time whether the queue goes when ours does.
    pub(super) fn check_rivals(&mut self, now: Instant, contest: Contest) {
        if self.is_alone() {
            self.leave(now);
        } else if now >= contest.check_at {
            self.rivals.after = After::Check(self.window_bytes, contest.curve);
            self.become_drain(now, DEEP_DRAIN);
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]
mod tests {
    use super::*;

    #[test]
    fn a_curve_rises_to_the_last_overflow_and_then_past_it() {
        let start = Instant::now();
        // 300 packets below it: the third root of 750 s is 9.1 s.
        let curve = Curve::new(start, 700_000.0, 1_000_000.0, 1000);
        let at = |secs| curve.at(start + Duration::from_secs_f64(secs), 1000);
        let table = [
            (0.0, 700_000.0),
            (4.5, 961_000.0),
            (9.1, 1_000_000.0),
            (13.6, 1_037_000.0),
            (18.2, 1_301_000.0),
        ];
        for (secs, expected) in table {
            assert!((at(secs) - expected).abs() < 2000.0, "{} after {secs} s", at(secs));
        }
    }

    #[test]
    fn a_curve_without_a_rise_begins_flat() {
        let start = Instant::now();
        let curve = Curve::new(start + HOLD, 1e6, 1e6, 1000);
        assert_eq!(curve.at(start, 1000), 1e6);
        assert_eq!(curve.at(start + HOLD, 1000), 1e6);
        assert_eq!(curve.at(start + HOLD + Duration::from_secs(10), 1000), 1.4e6);
    }
}
