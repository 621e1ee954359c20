//! Notices a run that has stopped for good, so that it ends with a reason instead of never.
//!
//! A worker that computes will be done; a worker that waits may wait for ever, behind a link that
//! is down or so thin that nothing worth the name crosses it. So the time counts in which nobody
//! computes and no clock completes. How much of it is too much follows from the links: several
//! times what a whole model takes, within an hour and a day, and on top of it any outage of which
//! the settings say that it ends.
//!
//! Kind: time-passed.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use emulation::link::Outage;

use crate::job::scenario::Simulation;

/// The least patience: connections that died in an outage are made again many times within it.
const LEAST: Duration = Duration::from_secs(3600);
/// The most: a job whose clock waits longer than a day for the network is not worth simulating.
const MOST: Duration = Duration::from_secs(24 * 3600);
/// How many models, there and back and with losses, may cross the slowest link between two clocks.
const MODELS: f64 = 20.0;
/// An outage longer than this is a link that never heals.
pub(super) const LONGEST_OUTAGE: Duration = Duration::from_secs(24 * 3600);

/// What workers are doing, and since when nothing has moved.
pub(super) struct Watchdog {
    patience: Duration,
    /// Those that end, by their start.
    outages: Vec<Outage>,
    /// Clocks that each worker has completed, over all sites.
    clocks: RefCell<Vec<u32>>,
    /// Until when something is known to move.
    moving_until: Cell<Duration>,
}

impl Watchdog {
    /// A watchdog over the workers of `simulation`, whose model has `elements` values.
    pub(super) fn new(simulation: &Simulation, elements: u64) -> Self {
        let links = || simulation.links.iter().map(|(_, _, link)| link);
        let rates = links().map(|link| link.rate_bytes_per_sec).chain([simulation.lan.rate_bytes_per_sec]);
        let delays = links().map(|link| link.one_way_delay).chain([simulation.lan.one_way_delay]);
        let slowest = rates.min().unwrap_or(1).max(1);
        let model = elements as f64 * size_of::<f32>() as f64 / slowest as f64;
        let travel = delays.max().unwrap_or_default().as_secs_f64();
        let mut outages: Vec<Outage> = links().flat_map(|link| link.outages.iter().copied()).collect();
        outages.retain(|outage| outage.length <= LONGEST_OUTAGE);
        outages.sort_by_key(|outage| outage.start);
        Self {
            patience: Duration::try_from_secs_f64(MODELS * (model + 2.0 * travel))
                .unwrap_or(MOST)
                .clamp(LEAST, MOST),
            outages,
            clocks: RefCell::new(vec![0; simulation.worker_count() as usize]),
            moving_until: Cell::default(),
        }
    }

    /// A worker computes until `until`.
    pub(super) fn computes(&self, until: Duration) {
        self.moving_until.set(until.max(self.moving_until.get()));
    }

    /// The worker that trains on `part` completed `clock` at `now`.
    pub(super) fn completed(&self, part: usize, clock: u32, now: Duration) {
        self.clocks.borrow_mut()[part] = clock;
        self.computes(now);
    }

    /// The clocks that the worker of `part` has completed.
    pub(super) fn clock(&self, part: usize) -> u32 {
        self.clocks.borrow()[part]
    }

    /// Since when nothing moves, if nothing does.
    pub(super) fn still_since(&self) -> Duration {
        self.moving_until.get()
    }

    /// When to give up if nothing has moved by then.
    pub(super) fn give_up_at(&self) -> Duration {
        let patient_until = self.still_since().saturating_add(self.patience);
        self.outages.iter().fold(patient_until, |until, outage| {
            let healed = outage.start.saturating_add(outage.length);
            // A connection that lives on tries again at intervals that double: it may need as long
            // again to find out.
            let noticed = healed.saturating_add(self.patience.max(outage.length));
            if outage.start <= until { until.max(noticed) } else { until }
        })
    }
}

#[cfg(test)]
mod tests {
    use emulation::link::LinkConfig;

    use super::*;
    use crate::job::scenario::ComputeSettings;
    use crate::job::tests::job;

    const HOUR: Duration = LEAST;

    fn watchdog(rate_bytes_per_sec: u64, outages: &[(u64, u64)]) -> Watchdog {
        let compute = ComputeSettings { examples_per_second: 1.0, overhead: Duration::ZERO, jitter: 0.0 };
        let outage = |&(start, length): &(u64, u64)| Outage {
            start: Duration::from_secs(start),
            length: Duration::from_secs(length),
        };
        let link = LinkConfig {
            outages: outages.iter().map(outage).collect(),
            ..LinkConfig::clean(rate_bytes_per_sec, Duration::from_millis(80))
        };
        let simulation = Simulation::new(job(), &[("a", 1), ("b", 1)], compute, |_, _| link.clone());
        Watchdog::new(&simulation, 1000)
    }

    #[test]
    fn patience_follows_the_links_and_has_bounds() {
        assert_eq!(watchdog(1_000_000, &[]).give_up_at(), HOUR);
        let thin = watchdog(20, &[]).give_up_at();
        assert_eq!(thin, Duration::from_secs_f64(20.0 * (200.0 + 0.16)));
        assert_eq!(watchdog(1, &[]).give_up_at(), Duration::from_secs_f64(20.0 * 4000.16));
    }

    #[test]
    fn what_moves_moves_the_end() {
        let watchdog = watchdog(1_000_000, &[]);
        watchdog.computes(Duration::from_secs(500));
        watchdog.completed(1, 3, Duration::from_secs(20));
        assert_eq!((watchdog.clock(0), watchdog.clock(1)), (0, 3));
        assert_eq!(watchdog.give_up_at(), HOUR + Duration::from_secs(500));
    }

    #[test]
    fn outages_are_waited_for_if_they_end_within_a_day() {
        let at = |outages: &[(u64, u64)]| watchdog(1_000_000, outages).give_up_at();
        let secs = Duration::from_secs;
        assert_eq!(at(&[(10, 60)]), HOUR + secs(70));
        assert_eq!(at(&[(10, 7200)]), secs(10 + 2 * 7200), "as long again to find out");
        assert_eq!(at(&[(9000, 7200), (10, 7200)]), secs(9000 + 2 * 7200), "one after the other");
        assert_eq!(at(&[(3601, 7200)]), HOUR, "it begins too late to be the cause");
        assert_eq!(at(&[(10, 24 * 3600 + 1)]), HOUR, "it never heals");
    }
}
