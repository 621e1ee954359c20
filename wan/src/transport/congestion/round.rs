//! What one round trip has shown, and the last few of them.
//!
//! Kind: time-passed.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Rounds shorter than this measure quinn's timers rather than the link.
const MIN_ROUND: Duration = Duration::from_millis(5);

/// What one acknowledgement says, by the packet in it that was sent last: earlier ones had to wait for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    /// When that packet was sent.
    pub(super) sent: Instant,
    /// How long its acknowledgement took.
    pub(super) round_trip: Duration,
}

impl Batch {
    /// Adds an acknowledged packet to the batch, the first or a further one.
    pub(super) fn add(batch: &mut Option<Self>, now: Instant, sent: Instant) {
        if batch.is_none_or(|known| known.sent < sent) {
            *batch = Some(Self { sent, round_trip: now.saturating_duration_since(sent) });
        }
    }
}

/// Acknowledgements since the round began. It ends with the first one of a packet that was sent in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    start: Instant,
    acked_bytes: u64,
    lost_bytes: u64,
    round_trips: Duration,
    batches: u32,
    is_limited: bool,
}

impl Round {
    pub(super) fn new(start: Instant) -> Self {
        Self {
            start,
            acked_bytes: 0,
            lost_bytes: 0,
            round_trips: Duration::ZERO,
            batches: 0,
            is_limited: false,
        }
    }

    /// Begins the next round; returns the one that was.
    pub(super) fn restart(&mut self, now: Instant) -> Self {
        std::mem::replace(self, Self::new(now))
    }

    pub(super) fn acknowledge(&mut self, bytes: u64, is_limited: bool) {
        self.acked_bytes += bytes;
        self.is_limited |= is_limited;
    }

    /// Notes that the application had too little to send.
    pub(super) fn limit(&mut self) {
        self.is_limited = true;
    }

    pub(super) fn lose(&mut self, bytes: u64) {
        self.lost_bytes += bytes;
    }

    pub(super) fn add_round_trip(&mut self, round_trip: Duration) {
        self.round_trips += round_trip;
        self.batches += 1;
    }

    /// The mean of the acknowledgements.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        (self.batches > 0).then(|| self.round_trips / self.batches)
    }

    /// Whether the application at any time had nothing to send.
    pub(super) fn is_limited(&self) -> bool {
        self.is_limited
    }

    /// Whether the acknowledgement of a packet `sent` at that time ends the round.
    pub(super) fn is_over(&self, now: Instant, sent: Instant) -> bool {
        sent >= self.start && now.saturating_duration_since(self.start) >= MIN_ROUND
    }

    pub(super) fn bytes(&self) -> u64 {
        self.acked_bytes + self.lost_bytes
    }

    /// The share of bytes that was lost.
    pub(super) fn loss(&self) -> f64 {
        self.lost_bytes as f64 / self.bytes().max(1) as f64
    }

    /// Bytes a second that were delivered until `now`.
    pub(super) fn rate(&self, now: Instant) -> f64 {
        self.acked_bytes as f64 / now.saturating_duration_since(self.start).max(MIN_ROUND).as_secs_f64()
    }

    /// The rate, where the round is at least `least` old: bursts make shorter times worthless.
    pub(super) fn rate_so_far(&self, now: Instant, least: Duration) -> Option<f64> {
        let age = now.saturating_duration_since(self.start);
        (age >= least.max(MIN_ROUND)).then(|| self.rate(now))
    }
}

/// The last few values of something.
#[derive(Clone, Debug)]
pub(super) struct Recent<T> {
    values: VecDeque<T>,
    limit: usize,
}

impl<T: Copy + PartialOrd> Recent<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self { values: VecDeque::with_capacity(limit), limit }
    }

    pub(super) fn push(&mut self, value: T) {
        self.keep_last(self.limit - 1);
        self.values.push_back(value);
    }

    /// Forgets all but the last `count`.
    pub(super) fn keep_last(&mut self, count: usize) {
        self.values.drain(..self.values.len().saturating_sub(count));
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn max(&self) -> Option<T> {
        self.values.iter().copied().reduce(|a, b| if b > a { b } else { a })
    }

    pub(super) fn min(&self) -> Option<T> {
        self.values.iter().copied().reduce(|a, b| if b < a { b } else { a })
    }
}

impl Recent<f64> {
    pub(super) fn mean_of_last(&self, count: usize) -> Option<f64> {
        let count = count.min(self.values.len());
        (count > 0).then(|| self.values.iter().rev().take(count).sum::<f64>() / count as f64)
    }
}
