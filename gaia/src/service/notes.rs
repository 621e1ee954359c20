//! What a worker tells of itself while it trains: how far it is, what it waits for, and what its time
//! has gone into.
//!
//! Kind: time-passed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::service::admin::WorkerMetrics;
use crate::service::status::WorkerStatus;

/// What is known of a worker from outside, and its metrics.
#[derive(Clone)]
pub(super) struct Notes {
    noted: Arc<Mutex<Noted>>,
    pub(super) metrics: Arc<WorkerMetrics>,
}

#[derive(Clone, Default)]
pub(super) struct Noted {
    pub(super) status: WorkerStatus,
    pub(super) waiting: Vec<String>,
    /// Whether it trains, or has trained to the end.
    pub(super) is_training: bool,
    pub(super) is_finished: bool,
    /// What it does, and since when; none where that is not counted.
    doing: Option<(Doing, Instant)>,
}

/// What a worker's time goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Computing,
    Waiting,
}

impl Noted {
    /// Does something else from `now` on, and counts what the time until then went into; yields
    /// both.
    fn turn_to(&mut self, doing: Option<Doing>, now: Instant) -> Option<(Doing, Duration)> {
        let doing = doing.map(|doing| (doing, now));
        let (done, since) = std::mem::replace(&mut self.doing, doing)?;
        let sum = match done {
            Doing::Computing => &mut self.status.compute_seconds,
            Doing::Waiting => &mut self.status.wait_seconds,
        };
        *sum += (now - since).as_secs_f64();
        Some((done, now - since))
    }
}

impl Notes {
    /// Those of worker `index` of the region.
    pub(super) fn new(index: u32) -> Self {
        let noted = Noted { status: WorkerStatus { index, ..WorkerStatus::default() }, ..Noted::default() };
        Self { noted: Arc::new(Mutex::new(noted)), metrics: Arc::new(WorkerMetrics::new(index)) }
    }

    /// The worker does something else from `now` on.
    pub(super) fn turn_to(&self, doing: Option<Doing>, now: Instant) {
        match self.lock().turn_to(doing, now) {
            Some((Doing::Computing, time)) => self.metrics.compute_seconds.record(time),
            Some((Doing::Waiting, time)) => self.metrics.wait_seconds.record(time),
            None => {}
        }
    }

    /// As of `now`: a wait that goes on counts like one that is over, or a worker that is held for
    /// long would seem to compute.
    pub(super) fn read(&self, now: Instant) -> Noted {
        let mut noted = self.lock().clone();
        noted.turn_to(None, now);
        noted
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_counts_while_it_goes_on() {
        let (notes, start) = (Notes::new(0), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let times = |now| {
            let WorkerStatus { compute_seconds, wait_seconds, .. } = notes.read(at(now)).status;
            (compute_seconds, wait_seconds)
        };
        assert_eq!(times(1), (0.0, 0.0));
        notes.turn_to(Some(Doing::Waiting), at(1));
        assert_eq!(times(3), (0.0, 2.0));
        notes.turn_to(Some(Doing::Computing), at(4));
        assert_eq!(times(9), (5.0, 3.0));
        notes.turn_to(Some(Doing::Waiting), at(10));
        // Whoever stops in the middle of a wait has waited all the same: counters never go back.
        assert_eq!(times(30), (6.0, 23.0));
        notes.turn_to(None, at(30));
        assert_eq!(times(99), (6.0, 23.0));
    }
}
