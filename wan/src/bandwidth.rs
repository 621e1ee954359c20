//! At what rate a link drains an outbox, measured.
//!
//! Only time during which the outbox kept the link busy says anything about the link; an idle link would seem as slow
//! as the traffic on it. So confirmed bytes are counted over stretches in which something waited throughout, and
//! such a stretch becomes a sample once it is long enough to average over confirmations coming in bursts. Samples
//! enter an exponential average. Until the first one, the configured rate (if any) stands.
//!
//! Kind: time-passed.

use std::time::{Duration, Instant};

/// The shortest stretch that makes a sample; also never shorter than a round trip.
const MIN_STRETCH: Duration = Duration::from_millis(100);

/// Weight of a new sample.
const GAIN: f64 = 0.3;

/// Estimates the rate of one link from confirmations.
#[derive(Clone, Debug)]
pub struct DrainRate {
    bytes_per_sec: Option<f64>,
    stretch: Option<Stretch>,
}

#[derive(Clone, Copy, Debug)]
struct Stretch {
    start: Instant,
    bytes: u64,
}

impl DrainRate {
    /// An estimate that starts from the configured rate, if there is one.
    pub fn new(configured_bytes_per_sec: Option<u64>) -> Self {
        Self { bytes_per_sec: configured_bytes_per_sec.map(|r| r as f64), stretch: None }
    }

    /// The estimate, bytes of payload a second; `None` while nothing is known.
    pub fn bytes_per_sec(&self) -> Option<f64> {
        self.bytes_per_sec
    }

    /// How long `bytes` take to drain, as far as is known.
    pub fn time_for(&self, bytes: u64) -> Duration {
        let rate = self.bytes_per_sec.unwrap_or(f64::INFINITY).max(1.0);
        Duration::try_from_secs_f64(bytes as f64 / rate).unwrap_or(Duration::MAX)
    }

    /// `bytes` were confirmed at `now`; `busy` tells whether more waits behind them.
    pub fn handle_confirmed(&mut self, bytes: u64, busy: bool, rtt: Duration, now: Instant) {
        if let Some(stretch) = &mut self.stretch {
            stretch.bytes += bytes;
            let length = now.saturating_duration_since(stretch.start);
            if length >= MIN_STRETCH.max(rtt) {
                let sample = stretch.bytes as f64 / length.as_secs_f64();
                let rate = self.bytes_per_sec.get_or_insert(sample);
                *rate += GAIN * (sample - *rate);
                self.stretch = None;
            }
        }
        if !busy {
            self.stretch = None;
        } else if self.stretch.is_none() {
            self.stretch = Some(Stretch { start: now, bytes: 0 });
        }
    }

    /// The link went down: what was being measured is void.
    pub fn handle_down(&mut self) {
        self.stretch = None;
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(160);

    /// Confirms 10 kB every 10 ms for `millis`.
    fn drain(rate: &mut DrainRate, start: Instant, millis: u64, busy: bool) {
        for t in (0..=millis).step_by(10) {
            rate.handle_confirmed(10_000, busy, RTT, start + Duration::from_millis(t));
        }
    }

    #[test]
    fn a_busy_link_is_measured() {
        let (mut rate, now) = (DrainRate::new(None), Instant::now());
        drain(&mut rate, now, 1000, true);
        let measured = rate.bytes_per_sec().expect("measured");
        assert!((measured - 1e6).abs() < 1e4, "{measured}");
        assert_eq!(rate.time_for(500_000).as_millis() / 10, 50);
    }

    #[test]
    fn an_idle_link_keeps_its_estimate() {
        let (mut rate, now) = (DrainRate::new(Some(12_500_000)), Instant::now());
        drain(&mut rate, now, 5000, false);
        assert_eq!(rate.bytes_per_sec(), Some(12_500_000.0));
    }

    #[test]
    fn the_estimate_follows_the_link() {
        let (mut rate, now) = (DrainRate::new(Some(10_000_000)), Instant::now());
        drain(&mut rate, now, 8000, true);
        let measured = rate.bytes_per_sec().expect("configured");
        assert!((measured - 1e6).abs() < 5e4, "{measured}");
    }

    #[test]
    fn an_unknown_rate_promises_nothing() {
        let unknown = DrainRate::new(None);
        assert_eq!(unknown.bytes_per_sec(), None);
        assert_eq!(unknown.time_for(u64::MAX), Duration::ZERO, "no barrier on a guess");
    }
}
