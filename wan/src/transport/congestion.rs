//! Our congestion controller: fills a long link, keeps its queue short, and does not mind random loss.
//!
//! Kind: time-passed.
//!
//! Controllers that take loss for congestion leave a few Mbit/s of any long link that loses one packet in a
//! thousand. Those that fill the queue until it overflows make everything else on the link late, our own
//! control messages among it. So [`Steady`] goes by what it measures: the *rate* at which bytes are delivered
//! and the *base*, the round-trip time without a queue of ours. Their product is what the link itself holds;
//! a window a few milliseconds larger keeps the link busy at the price of those few milliseconds of queue.
//!
//! Both measurements only show one thing at a time: the rate shows only when the window is too large, the
//! base only when it is too small. So each cycle of about ten round trips adds a little for two (*probe*),
//! and takes a little away for one (*drain*). A larger window that delivers more is kept and grown (*climb*);
//! one that only makes packets late is taken back at once. The round-trip time after a drain is the new base,
//! whatever it was before: a delay that stays when our queue is gone is jitter, a longer route, or somebody
//! else's queue. That somebody may be another `Steady` that waits for us, so when the base has been above the
//! shortest one known for ten seconds, half the window is given up for one round trip.
//!
//! Time is divided into *rounds*: one ends when the first packet sent in it is acknowledged. The round-trip
//! time of a round is its mean, not its minimum: with jitter, the mean is what a window has to span. quinn
//! paces packets by window and smoothed round-trip time alone, so the window is all that there is to set.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

mod phases;
mod round;

use phases::Phase;
use round::{Batch, Recent, Round};

/// What a [`Steady`] starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SteadyConfig {
    /// The window of the first round.
    pub initial_window_bytes: u64,
    /// The bandwidth-delay product, where it is known: growth turns careful shortly before it.
    pub expected_bdp_bytes: Option<u64>,
    /// The least window. A connection that seldom sends much at once cannot know what the link would carry.
    pub min_window_bytes: u64,
    /// The largest window.
    pub max_window_bytes: u64,
}

impl ControllerFactory for SteadyConfig {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(Steady::new(*self, now, mtu))
    }
}

/// A congestion controller by delivery rate and round-trip time.
///
/// It fills a long link, keeps a queue of a few milliseconds, and takes no notice of a few per cent of random
/// loss.
#[derive(Clone, Debug)]
pub struct Steady {
    config: SteadyConfig,
    mtu: u64,
    window_bytes: u64,
    phase: Phase,
    /// The BDP that start-up may approach fast.
    goal_bytes: Option<u64>,
    round: Round,
    /// The acknowledgement that is being handled.
    batch: Option<Batch>,
    /// Acknowledgements in a row that came late.
    late_acks: u32,
    /// Nothing is under way: the next packet begins a new round.
    is_idle: bool,
    /// Delivery rates of the last rounds, in bytes a second.
    rates: Recent<f64>,
    /// Round-trip times of the rounds since the last drain.
    round_trips: Recent<Duration>,
    /// Shares of bytes lost in the last rounds.
    losses: Recent<f64>,
    /// The shortest base ever, or since half the window was last given up.
    shortest: Duration,
    /// When half the window was last given up.
    yielded_at: Instant,
}

/// Rounds of which the best rate counts: one cycle.
const RATE_ROUNDS: usize = 10;
/// Rounds of which the shortest round trip counts, where no drain comes in between.
const ROUND_TRIP_ROUNDS: usize = 20;
/// So many late acknowledgements in a row are a queue; a single one may just have been put off by the
/// receiver.
const LATE_ACKS: u32 = 4;
/// A sudden loss of more than this share of a round is an overflow, not chance.
const OVERFLOW_LOSS: f64 = 0.1;
/// A round with less than this part of the window was limited by what there was to send.
const LIMITED_PART: u64 = 4;
/// Packets below which the share that was lost means nothing.
const MIN_LOSS_PACKETS: u64 = 64;
/// quinn sends in bursts of a millisecond or two, which are no queue,
const BURST: Duration = Duration::from_millis(2);
/// and of ten packets at least, which take a thin link longer,
const BURST_PACKETS: u64 = 10;
/// but not as long as this on any link that training could use.
const MAX_BURST: Duration = Duration::from_millis(8);

impl Steady {
    fn new(config: SteadyConfig, now: Instant, mtu: u16) -> Self {
        Self {
            config,
            mtu: u64::from(mtu),
            window_bytes: config.initial_window_bytes,
            phase: Phase::Startup { flat_rounds: 0 },
            goal_bytes: config.expected_bdp_bytes,
            round: Round::new(now),
            batch: None,
            late_acks: 0,
            is_idle: true,
            rates: Recent::new(RATE_ROUNDS),
            round_trips: Recent::new(ROUND_TRIP_ROUNDS),
            losses: Recent::new(RATE_ROUNDS),
            shortest: Duration::MAX,
            yielded_at: now,
        }
    }

    /// The round-trip time without a queue of ours.
    fn base(&self) -> Duration {
        self.round_trips.min().or(self.round.round_trip()).unwrap_or(BURST)
    }

    /// The best rate of the last rounds.
    fn rate(&self) -> f64 {
        self.rates.max().unwrap_or(0.0)
    }

    /// The share of bytes that chance takes. What other rounds lost beyond it may have been our own doing.
    fn chance(&self) -> f64 {
        let is_known = self.losses.len() >= RATE_ROUNDS / 2;
        self.losses.min().filter(|_| is_known).unwrap_or(0.0).min(OVERFLOW_LOSS)
    }

    /// The queue that we allow ourselves: enough to keep the link busy between two acknowledgements.
    fn headroom(&self) -> Duration {
        (self.base() / 32).clamp(Duration::from_millis(2), Duration::from_millis(5))
    }

    /// How long the link needs for a burst.
    fn burst(&self) -> Duration {
        let expected = self.goal_bytes.map_or(0.0, |goal| goal as f64 / self.base().as_secs_f64());
        let rate = self.rate().max(expected).max(1.0);
        Duration::from_secs_f64((BURST_PACKETS * self.mtu) as f64 / rate).clamp(BURST, MAX_BURST)
    }

    /// What a probe adds to it. Both together stay below the 20 ms that a control message may be late.
    fn probe(&self) -> Duration {
        (self.base() / 16).clamp(Duration::from_millis(2), Duration::from_millis(8))
    }

    /// What the link holds at `rate`, with a queue that takes it `queue` to send.
    fn bytes_for(&self, rate: f64, queue: Duration) -> u64 {
        (rate * (self.base() + queue).as_secs_f64()) as u64
    }

    /// The window that keeps the link busy. What chance takes was carried too.
    fn busy_window(&self, queue: Duration) -> u64 {
        let rate = self.rate() / (1.0 - self.chance());
        self.bytes_for(rate, queue).max(self.bytes_for(rate, Duration::ZERO) + 4 * self.mtu)
    }

    fn set_window(&mut self, bytes: u64) {
        // Below four packets, a loss would have to wait for a time-out.
        let least = self.config.min_window_bytes.max(4 * self.mtu);
        self.window_bytes = bytes.clamp(least, self.config.max_window_bytes.max(least));
    }

    fn is_overflow(&self, round: &Round) -> bool {
        round.bytes() > MIN_LOSS_PACKETS * self.mtu && round.loss() > self.chance() + OVERFLOW_LOSS
    }

    /// Whether this acknowledgement is one too many that came late.
    fn is_late(&mut self, round_trip: Duration) -> bool {
        let is_late = self.phase.tolerates(self).is_some_and(|delay| round_trip > self.base() + delay);
        self.late_acks = if is_late { self.late_acks + 1 } else { 0 };
        self.late_acks >= LATE_ACKS
    }

    fn acknowledge(&mut self, now: Instant, sent: Instant, bytes: u64, is_limited: bool) {
        self.round.acknowledge(bytes, is_limited);
        Batch::add(&mut self.batch, now, sent);
        if !is_limited {
            self.grow(bytes);
        }
    }

    fn end_acknowledgement(&mut self, now: Instant, in_flight_bytes: u64) {
        self.is_idle = in_flight_bytes == 0;
        let Some(batch) = self.batch.take() else { return };
        self.round.add_round_trip(batch.round_trip);
        if self.is_late(batch.round_trip) {
            self.stop_growth(now);
        } else if self.round.is_over(now, batch.sent) {
            self.end_round(now);
        }
    }

    fn end_round(&mut self, now: Instant) {
        let mut round = self.round.restart(now);
        // quinn's word is that of the moment in which an acknowledgement is handled. A connection that only answers,
        // with a packet now and then, is never told to be limited, and would seem to be a link of nearly no rate.
        if round.bytes() < self.window_bytes / LIMITED_PART {
            round.limit();
        }
        let best_before = self.rate();
        if !round.is_limited() || round.rate(now) > best_before {
            self.rates.push(round.rate(now));
        }
        let is_overflow = self.is_overflow(&round);
        if round.bytes() > MIN_LOSS_PACKETS * self.mtu {
            self.losses.push(round.loss());
        }
        if let Some(round_trip) = round.round_trip() {
            self.round_trips.push(round_trip);
        }
        self.next_phase(now, &round, best_before, is_overflow);
    }
}

impl Controller for Steady {
    fn on_sent(&mut self, now: Instant, _bytes: u64, _last_packet_number: u64) {
        if self.is_idle {
            self.is_idle = false;
            self.round.restart(now);
        }
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, _rtt: &RttEstimator) {
        self.acknowledge(now, sent, bytes, app_limited);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, _app_limited: bool, _largest: Option<u64>) {
        self.end_acknowledgement(now, in_flight);
    }

    fn on_congestion_event(&mut self, now: Instant, _sent: Instant, is_persistent: bool, lost_bytes: u64) {
        self.round.lose(lost_bytes);
        if is_persistent {
            self.start_over(now);
        }
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.mtu = u64::from(mtu);
    }

    fn window(&self) -> u64 {
        self.window_bytes
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.config.initial_window_bytes
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]
mod tests;
