use std::collections::VecDeque;

use super::*;
use emulation::link::{Fate, Link, LinkConfig, Outage};

const PACKET_BYTES: u64 = 1450;
const MBIT: u64 = 125_000;

/// A greedy sender, paced as quinn paces, over a link in one direction and a mere delay in the other.
struct Sender {
    epoch: Instant,
    now: Duration,
    link: Link,
    steady: Steady,
    /// Sent and not acknowledged: when sent, and when the acknowledgement arrives, if at all.
    in_flight: VecDeque<(Duration, Option<Duration>)>,
    next_send: Duration,
    round_trip: Duration,
    delivered_bytes: u64,
}

impl Sender {
    fn new(link: LinkConfig, expected_bdp_bytes: Option<u64>) -> Self {
        let epoch = Instant::now();
        let config = SteadyConfig {
            initial_window_bytes: expected_bdp_bytes.map_or(38_400, |bdp| bdp / 2),
            expected_bdp_bytes,
            min_window_bytes: 0,
            max_window_bytes: u64::MAX,
        };
        let round_trip = 2 * link.one_way_delay;
        Self {
            epoch,
            now: Duration::ZERO,
            link: Link::new(link, 1),
            steady: Steady::new(config, epoch, 1452),
            in_flight: VecDeque::new(),
            next_send: Duration::ZERO,
            round_trip,
            delivered_bytes: 0,
        }
    }

    fn in_flight_bytes(&self) -> u64 {
        self.in_flight.len() as u64 * PACKET_BYTES
    }

    fn at(&self, time: Duration) -> Instant {
        self.epoch + time
    }

    /// Sends and acknowledges until `end`; returns the share of the link that was delivered meanwhile.
    fn run_until(&mut self, end: Duration) -> f64 {
        let (start, before) = (self.now, self.delivered_bytes);
        while self.now < end {
            self.acknowledge();
            while self.in_flight_bytes() + PACKET_BYTES < self.steady.window() && self.next_send <= self.now {
                self.send();
            }
            self.now += Duration::from_micros(50);
        }
        let rate = self.link.config().rate_bytes_per_sec as f64;
        (self.delivered_bytes - before) as f64 / (rate * (end - start).as_secs_f64())
    }

    fn send(&mut self) {
        self.steady.on_sent(self.at(self.now), PACKET_BYTES, 0);
        let back = match self.link.offer(self.now, PACKET_BYTES) {
            Fate::Delivered { at, .. } => Some(at + self.round_trip / 2),
            Fate::Dropped(_) => None,
        };
        self.in_flight.push_back((self.now, back));
        let pace = self.round_trip.as_secs_f64() * PACKET_BYTES as f64 / (1.25 * self.steady.window() as f64);
        self.next_send = self.next_send.max(self.now.saturating_sub(BURST)) + Duration::from_secs_f64(pace);
    }

    /// Takes for lost what was sent before something that is acknowledged, or three seconds ago.
    fn acknowledge(&mut self) {
        let newest = self.in_flight.iter().rposition(|&(_, back)| back.is_some_and(|back| back <= self.now));
        let Some(newest) = newest else {
            if self.in_flight.front().is_some_and(|&(sent, _)| self.now - sent > Duration::from_secs(3)) {
                // A probe time-out: one packet gets through, or not.
                self.send();
                self.in_flight.pop_front();
            }
            return;
        };
        let (mut lost, mut oldest_lost, mut newest_lost) = (0, None, None);
        for _ in 0..=newest {
            let (sent, back) = self.in_flight.pop_front().expect("as many as were found");
            if back.is_some() {
                self.steady.acknowledge(self.at(self.now), self.at(sent), PACKET_BYTES, false);
                self.delivered_bytes += PACKET_BYTES;
            } else {
                lost += PACKET_BYTES;
                oldest_lost = oldest_lost.or(Some(sent));
                newest_lost = Some(sent);
            }
        }
        self.steady.end_acknowledgement(self.at(self.now), self.in_flight_bytes());
        if let (Some(oldest), Some(newest)) = (oldest_lost, newest_lost) {
            let is_persistent = newest - oldest > 3 * self.round_trip;
            self.steady.on_congestion_event(self.at(self.now), self.at(newest), is_persistent, lost);
        }
    }

    /// The longest queue from here to `end`.
    fn longest_queue_until(&mut self, end: Duration) -> Duration {
        let mut longest = Duration::ZERO;
        while self.now < end {
            self.run_until(self.now + Duration::from_millis(1));
            let backlog = self.link.backlog_bytes(self.now);
            let rate = self.link.config().rate_bytes_per_sec;
            longest = longest.max(Duration::from_nanos(backlog * 1_000_000_000 / rate));
        }
        longest
    }
}

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn long_link() -> LinkConfig {
    LinkConfig::clean(100 * MBIT, Duration::from_millis(80))
}

#[test]
fn a_link_is_filled_and_its_queue_stays_short() {
    let mut sender = Sender::new(long_link(), Some(2_000_000));
    assert!(sender.longest_queue_until(secs(8)) < Duration::from_millis(20));
    assert!(sender.run_until(secs(12)) > 0.97);
    assert_eq!(sender.link.counters().dropped_queue_full, 0);
}

#[test]
fn random_loss_does_not_matter() {
    for loss in [0.001, 0.01, 0.03] {
        let mut sender = Sender::new(LinkConfig { loss, ..long_link() }, Some(2_000_000));
        sender.run_until(secs(4));
        let share = sender.run_until(secs(12));
        assert!(share > 0.95 * (1.0 - loss), "{share} at a loss of {loss}");
    }
}

#[test]
fn a_rate_that_is_not_known_is_found() {
    for mbit in [10, 100, 400] {
        let mut sender = Sender::new(LinkConfig::clean(mbit * MBIT, Duration::from_millis(40)), None);
        sender.run_until(secs(5));
        let share = sender.run_until(secs(8));
        assert!(share > 0.9, "{share} of {mbit} Mbit/s");
    }
}

#[test]
fn a_wrong_statement_does_little_harm() {
    for bdp in [200_000, 10_000_000] {
        let mut sender = Sender::new(long_link(), Some(bdp));
        sender.run_until(secs(7));
        let share = sender.run_until(secs(12));
        assert!(share > 0.9, "{share} when told of {bdp} bytes");
    }
}

#[test]
fn a_slower_link_is_noticed() {
    let mut sender = Sender::new(long_link(), Some(2_000_000));
    sender.run_until(secs(4));
    sender.link.reconfigure(sender.now, LinkConfig { rate_bytes_per_sec: 20 * MBIT, ..long_link() });
    sender.run_until(secs(10));
    assert!(sender.longest_queue_until(secs(14)) < Duration::from_millis(30));
    assert!(sender.run_until(secs(18)) > 0.9);
}

#[test]
fn a_longer_route_is_noticed() {
    let mut sender = Sender::new(long_link(), Some(2_000_000));
    sender.run_until(secs(4));
    // 60 ms more in this direction.
    sender
        .link
        .reconfigure(sender.now, LinkConfig { one_way_delay: Duration::from_millis(140), ..long_link() });
    sender.run_until(secs(14));
    assert!(sender.run_until(secs(18)) > 0.9);
}

#[test]
fn it_comes_back_after_an_outage() {
    let outages = vec![Outage { start: secs(4), length: secs(5) }];
    let mut sender = Sender::new(LinkConfig { outages, ..long_link() }, Some(2_000_000));
    sender.run_until(secs(13));
    assert!(sender.run_until(secs(16)) > 0.9);
}

#[test]
fn a_connection_that_only_answers_keeps_what_it_knows() {
    let mut sender = Sender::new(long_link(), Some(2_000_000));
    sender.run_until(secs(4));
    let window = sender.steady.window();
    for answer in 0..100 {
        // Forty bytes that grant the peer more credit, acknowledged late since nothing else is under way.
        let sent = secs(5) + answer * Duration::from_millis(250);
        sender.steady.on_sent(sender.at(sent), 41, 0);
        let acknowledged = sender.at(sent + Duration::from_millis(200));
        sender.steady.acknowledge(acknowledged, sender.at(sent), 41, false);
        sender.steady.end_acknowledgement(acknowledged, 0);
    }
    assert!(sender.steady.window() > window / 10 * 9, "{} of {window}", sender.steady.window());
}

#[test]
fn a_window_never_falls_below_the_least() {
    let mut sender = Sender::new(LinkConfig::clean(MBIT, Duration::from_millis(80)), None);
    sender.steady.config.min_window_bytes = 38_400;
    for second in 1..20 {
        sender.run_until(secs(second));
        assert!(sender.steady.window() >= 38_400, "{} after {second} s", sender.steady.window());
    }
}

#[test]
fn an_idle_connection_keeps_what_it_knows() {
    let mut steady = Sender::new(long_link(), Some(2_000_000)).steady;
    let window = steady.window();
    let mut now = Instant::now();
    for _ in 0..1000 {
        steady.on_sent(now, 100, 0);
        now += Duration::from_millis(160);
        steady.acknowledge(now, now - Duration::from_millis(160), 100, true);
        steady.end_acknowledgement(now, 0);
    }
    assert_eq!(steady.window(), window);
}
