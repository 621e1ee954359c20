//! The model of one directed link.
//!
//! Kind: time-passed.
//!
//! A WAN link is a rate, a distance and a queue in front of them; what goes wrong on it is loss, jitter and
//! outage. Both the simulator and the relay between real processes need the same answers, and tests need them
//! without waiting. So [`Link`] is a plain value that is told the time and each datagram's size, and answers
//! at once what becomes of the datagram ([`Fate`]). It holds no datagrams: a drop-tail queue in front of a
//! constant rate is no more than the time at which the link will next be free.
//!
//! Times are whole nanoseconds, and the rest of each division is carried over to the next datagram, so that a
//! long run carries exactly `rate * time` bytes. Chance comes from a generator of the link's own, which is
//! drawn from the same number of times for each datagram: what happens to the n-th datagram of a link depends
//! on nothing that other links carry.

use std::net::IpAddr;
use std::time::Duration;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use thiserror::Error;

/// The largest datagram that a link is asked to carry: an Ethernet frame's payload, IP and UDP headers
/// included.
pub const MAX_WIRE_BYTES: u64 = 1500;

/// IPv4 header without options, and UDP header.
pub const IPV4_HEADER_BYTES: u64 = 20 + 8;
/// IPv6 header without extensions, and UDP header.
const IPV6_HEADER_BYTES: u64 = 40 + 8;

/// The bytes that a UDP payload takes on the wire, IP and UDP headers included.
pub fn wire_bytes(remote: IpAddr, payload_bytes: usize) -> u64 {
    // A socket for both families shows IPv4 peers in mapped addresses.
    let header_bytes = match remote.to_canonical() {
        IpAddr::V4(_) => IPV4_HEADER_BYTES,
        IpAddr::V6(_) => IPV6_HEADER_BYTES,
    };
    header_bytes + payload_bytes as u64
}

/// What a link does to datagrams.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// Bytes a second, IP and UDP headers included.
    pub rate_bytes_per_sec: u64,
    /// Propagation delay in one direction, on top of the time that the bytes take.
    pub one_way_delay: Duration,
    /// Extra delay, uniform between zero and this.
    pub jitter: Duration,
    /// Whether jitter may change the order of datagrams.
    pub reorder: bool,
    /// Probability that a datagram is lost after it has used the link.
    pub loss: f64,
    /// Probability that a datagram arrives twice.
    pub duplicate: f64,
    /// Bytes that may wait for the link, the datagram on the wire included; more are dropped at the tail.
    pub queue_bytes: u64,
    /// When the link carries nothing.
    pub outages: Vec<Outage>,
}

/// A time during which a link drops everything that is offered to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When it begins, from the start of the run.
    pub start: Duration,
    /// How long it lasts.
    pub length: Duration,
}

impl Outage {
    /// When the link carries again.
    fn end(&self) -> Duration {
        self.start.saturating_add(self.length)
    }
}

/// Why a [`LinkConfig`] describes no link.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum LinkConfigError {
    /// Nothing would ever arrive.
    #[error("the rate of a link is zero")]
    NoRate,
    /// Not even one full datagram would pass.
    #[error("a queue of {found} bytes cannot hold one datagram of {MAX_WIRE_BYTES}")]
    QueueTooSmall {
        /// The configured limit.
        found: u64,
    },
    /// Not between zero and one.
    #[error("{name} is {found}, and a probability lies between 0 and 1")]
    NotAProbability {
        /// Which of the two probabilities.
        name: &'static str,
        /// Its value.
        found: f64,
    },
    /// Outages are listed in the order of time, each ending before the next begins.
    #[error("the outage at {start:?} begins before an earlier one has ended")]
    OutagesOverlap {
        /// When the offending outage begins.
        start: Duration,
    },
}

impl LinkConfig {
    /// A link that only has a rate, a distance and a queue of one bandwidth-delay product of the round trip.
    pub fn clean(rate_bytes_per_sec: u64, one_way_delay: Duration) -> Self {
        let round_trip_bytes =
            u128::from(rate_bytes_per_sec) * (2 * one_way_delay).as_nanos() / NANOS_PER_SEC;
        Self {
            rate_bytes_per_sec,
            one_way_delay,
            jitter: Duration::ZERO,
            reorder: false,
            loss: 0.0,
            duplicate: 0.0,
            queue_bytes: saturate(round_trip_bytes).max(SMALL_QUEUE_BYTES),
            outages: Vec::new(),
        }
    }

    /// Whether this describes a link.
    ///
    /// # Errors
    ///
    /// The first value that is impossible.
    pub fn validate(&self) -> Result<(), LinkConfigError> {
        if self.rate_bytes_per_sec == 0 {
            return Err(LinkConfigError::NoRate);
        }
        if self.queue_bytes < MAX_WIRE_BYTES {
            return Err(LinkConfigError::QueueTooSmall { found: self.queue_bytes });
        }
        for (name, found) in [("loss", self.loss), ("duplicate", self.duplicate)] {
            // Written so that a NaN is refused too.
            if !(0.0..=1.0).contains(&found) {
                return Err(LinkConfigError::NotAProbability { name, found });
            }
        }
        for pair in self.outages.windows(2) {
            if pair[1].start < pair[0].end() {
                return Err(LinkConfigError::OutagesOverlap { start: pair[1].start });
            }
        }
        Ok(())
    }
}

/// Enough for a burst of a few dozen datagrams on links whose bandwidth-delay product is tiny.
const SMALL_QUEUE_BYTES: u64 = 64 * 1024;
const NANOS_PER_SEC: u128 = 1_000_000_000;

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Delivered {
        /// When, from the start of the run.
        at: Duration,
        /// When it arrives for the second time, if it was duplicated; never before `at` unless `reorder` is
        /// set.
        again_at: Option<Duration>,
    },
    /// It never arrives.
    Dropped(DropCause),
}

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropCause {
    /// The queue had no room for it.
    QueueFull,
    /// Chance, after it had used the link.
    Loss,
    /// It was offered during an outage, or still under way when one began.
    Outage,
}

/// What a link has done so far; all numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Datagrams offered.
    pub offered: u64,
    /// Their bytes on the wire.
    pub offered_bytes: u64,
    /// Datagrams that arrive, duplicates not counted.
    pub delivered: u64,
    /// Their bytes on the wire.
    pub delivered_bytes: u64,
    /// Datagrams that arrive for a second time.
    pub duplicated: u64,
    /// Datagrams dropped because the queue was full.
    pub dropped_queue_full: u64,
    /// Datagrams dropped by chance.
    pub dropped_loss: u64,
    /// Datagrams dropped by an outage.
    pub dropped_outage: u64,
    /// The most bytes that have waited at one time, the datagram on the wire included.
    pub peak_backlog_bytes: u64,
}

/// One directed link.
#[derive(Clone, Debug)]
pub struct Link {
    config: LinkConfig,
    chance: ChaCha8Rng,
    /// When the last bit of what was accepted leaves, rounded down to nanoseconds.
    free_at_nanos: u64,
    /// What that rounding cut off, in units of `1 / rate` nanoseconds; less than the rate.
    free_at_rest: u64,
    /// The latest arrival so far: without reordering, no datagram arrives before it.
    last_arrival_nanos: u64,
    /// Outages before this one have ended.
    next_outage: usize,
    counters: LinkCounters,
}

impl Link {
    /// A link that is idle at the start of the run. `seed` decides losses, jitter and duplicates.
    ///
    /// # Panics
    ///
    /// If the configuration is not [valid](LinkConfig::validate): settings are checked where they are read.
    pub fn new(config: LinkConfig, seed: u64) -> Self {
        Self {
            config: checked(config),
            chance: ChaCha8Rng::seed_from_u64(seed),
            free_at_nanos: 0,
            free_at_rest: 0,
            last_arrival_nanos: 0,
            next_outage: 0,
            counters: LinkCounters::default(),
        }
    }

    /// Changes the link from `now` on. What is under way arrives as it was promised; what waits keeps its
    /// place.
    ///
    /// # Panics
    ///
    /// If the configuration is not [valid](LinkConfig::validate).
    pub fn reconfigure(&mut self, now: Duration, config: LinkConfig) {
        self.config = checked(config);
        self.free_at_rest = 0;
        // Outages that are over have emptied the queue already.
        self.next_outage = self.config.outages.partition_point(|outage| outage.end() <= now);
    }

    /// The current configuration.
    pub fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// What the link has done so far.
    pub fn counters(&self) -> LinkCounters {
        self.counters
    }

    /// Bytes that wait for the link at `now`, the rest of the datagram on the wire included.
    pub fn backlog_bytes(&self, now: Duration) -> u64 {
        let waiting_nanos = self.free_at_nanos.saturating_sub(nanos(now));
        if waiting_nanos == 0 {
            return 0;
        }
        let scaled = u128::from(waiting_nanos) * u128::from(self.config.rate_bytes_per_sec)
            + u128::from(self.free_at_rest);
        saturate(scaled.div_ceil(NANOS_PER_SEC))
    }

    /// Offers a datagram of `wire_bytes`, IP and UDP headers included, to the link at `now`.
    ///
    /// `now` never goes back from one call to the next.
    pub fn offer(&mut self, now: Duration, wire_bytes: u64) -> Fate {
        let draws = Draws::new(&mut self.chance);
        self.counters.offered += 1;
        self.counters.offered_bytes += wire_bytes;
        let fate = self.decide(now, wire_bytes, &draws);
        match fate {
            Fate::Delivered { again_at, .. } => {
                self.counters.delivered += 1;
                self.counters.delivered_bytes += wire_bytes;
                self.counters.duplicated += u64::from(again_at.is_some());
            }
            Fate::Dropped(DropCause::QueueFull) => self.counters.dropped_queue_full += 1,
            Fate::Dropped(DropCause::Loss) => self.counters.dropped_loss += 1,
            Fate::Dropped(DropCause::Outage) => self.counters.dropped_outage += 1,
        }
        fate
    }

    fn decide(&mut self, now: Duration, wire_bytes: u64, draws: &Draws) -> Fate {
        if self.is_out(now) {
            return Fate::Dropped(DropCause::Outage);
        }
        let backlog_bytes = self.backlog_bytes(now).saturating_add(wire_bytes);
        if backlog_bytes > self.config.queue_bytes {
            return Fate::Dropped(DropCause::QueueFull);
        }
        self.counters.peak_backlog_bytes = self.counters.peak_backlog_bytes.max(backlog_bytes);
        let arrival_nanos = self.serialise(nanos(now), wire_bytes) + nanos(self.config.one_way_delay);
        let at_nanos = self.in_order(arrival_nanos + draws.jitter_nanos(self.config.jitter));
        // An outage also takes what it finds in the queue and on the wire.
        if self.config.outages.get(self.next_outage).is_some_and(|outage| nanos(outage.start) < at_nanos) {
            return Fate::Dropped(DropCause::Outage);
        }
        if draws.is_lost(self.config.loss) {
            return Fate::Dropped(DropCause::Loss);
        }
        self.last_arrival_nanos = self.last_arrival_nanos.max(at_nanos);
        let again_at = draws.is_duplicated(self.config.duplicate).then(|| {
            let again_nanos = arrival_nanos + draws.second_jitter_nanos(self.config.jitter);
            // Without reordering the copy follows its original at once.
            Duration::from_nanos(if self.config.reorder { again_nanos } else { at_nanos })
        });
        Fate::Delivered { at: Duration::from_nanos(at_nanos), again_at }
    }

    /// Whether `now` lies in an outage; one that has begun also empties the queue.
    fn is_out(&mut self, now: Duration) -> bool {
        while let Some(outage) = self.config.outages.get(self.next_outage) {
            if now < outage.start {
                return false;
            }
            self.free_at_nanos = self.free_at_nanos.min(nanos(outage.start));
            self.free_at_rest = 0;
            if now < outage.end() {
                return true;
            }
            self.next_outage += 1;
        }
        false
    }

    /// Puts a datagram on the wire after what is there already; returns when its last bit leaves, rounded up.
    fn serialise(&mut self, now_nanos: u64, wire_bytes: u64) -> u64 {
        if self.free_at_nanos < now_nanos {
            self.free_at_nanos = now_nanos;
            self.free_at_rest = 0;
        }
        let rate = u128::from(self.config.rate_bytes_per_sec);
        let scaled = u128::from(wire_bytes) * NANOS_PER_SEC + u128::from(self.free_at_rest);
        self.free_at_nanos += saturate(scaled / rate);
        self.free_at_rest = saturate(scaled % rate);
        self.free_at_nanos + u64::from(self.free_at_rest > 0)
    }

    fn in_order(&self, at_nanos: u64) -> u64 {
        if self.config.reorder { at_nanos } else { at_nanos.max(self.last_arrival_nanos) }
    }
}

/// The chances of one datagram, drawn whether they are needed or not.
struct Draws([u64; 4]);

impl Draws {
    fn new(chance: &mut ChaCha8Rng) -> Self {
        Self(std::array::from_fn(|_| chance.next_u64()))
    }

    fn is_lost(&self, probability: f64) -> bool {
        happens(self.0[0], probability)
    }

    fn is_duplicated(&self, probability: f64) -> bool {
        happens(self.0[1], probability)
    }

    fn jitter_nanos(&self, most: Duration) -> u64 {
        uniform_nanos(self.0[2], most)
    }

    fn second_jitter_nanos(&self, most: Duration) -> u64 {
        uniform_nanos(self.0[3], most)
    }
}

/// Compares 53 bits, which a double holds exactly: the same answer on every machine, and 1.0 is certain.
fn happens(draw: u64, probability: f64) -> bool {
    const SCALE: f64 = (1u64 << 53) as f64;
    (draw >> 11) < (probability * SCALE) as u64
}

/// Uniform in `0..=most`.
fn uniform_nanos(draw: u64, most: Duration) -> u64 {
    saturate((u128::from(draw) * (most.as_nanos() + 1)) >> 64)
}

fn checked(config: LinkConfig) -> LinkConfig {
    if let Err(error) = config.validate() {
        panic!("{error}");
    }
    config
}

/// A run of 584 years is long enough.
fn nanos(time: Duration) -> u64 {
    saturate(time.as_nanos())
}

fn saturate(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
