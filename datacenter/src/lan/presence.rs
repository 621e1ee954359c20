//! Which workers are connected to a server, and since when the others are not.
//!
//! A worker whose connection has broken dials again at once, and is back in moments unless it is
//! gone. So it is waited for during a time of grace, counted from when something was last heard of
//! it.
//!
//! Kind: time-passed.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::WorkerId;

/// Of what a worker says of why it goes, so much is kept, in characters.
const LONGEST: usize = 200;

/// Who is there.
#[derive(Clone, Debug)]
pub struct Presence {
    /// Each as often as it is connected.
    connected: Vec<WorkerId>,
    lost: BTreeMap<WorkerId, Loss>,
    /// Since when anybody could have come.
    start: Instant,
}

/// How a worker went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// When something was last heard of it.
    pub since: Instant,
    /// How its connection ended; none if it never had one.
    pub why: Option<String>,
}

impl Presence {
    /// Nobody has come yet.
    pub fn new(now: Instant) -> Self {
        Self { connected: Vec::new(), lost: BTreeMap::new(), start: now }
    }

    /// A worker has connected.
    pub fn come(&mut self, worker: WorkerId) {
        self.connected.push(worker);
        self.lost.remove(&worker);
    }

    /// A connection of a worker has ended, over which something was last `heard` then.
    pub fn go(&mut self, worker: WorkerId, heard: Instant, why: String) {
        if let Some(place) = self.connected.iter().position(|connected| *connected == worker) {
            self.connected.swap_remove(place);
        }
        if !self.is_here(worker) {
            let why = why.chars().take(LONGEST).collect();
            self.lost.insert(worker, Loss { since: heard, why: Some(why) });
        }
    }

    /// Whether a worker is connected.
    pub fn is_here(&self, worker: WorkerId) -> bool {
        self.connected.contains(&worker)
    }

    /// Whether no worker is connected.
    pub fn is_empty(&self) -> bool {
        self.connected.is_empty()
    }

    /// Since when a worker is not connected, and why; none if it is.
    pub fn loss(&self, worker: WorkerId) -> Option<Loss> {
        let never = || Loss { since: self.start, why: None };
        (!self.is_here(worker)).then(|| self.lost.get(&worker).cloned().unwrap_or_else(never))
    }

    /// The workers of `live` that have been away for `grace`, with how they went. Who has never
    /// come counts only if the others `have_begun`: at the start of a job all are waited for,
    /// however long they take.
    pub fn overdue(
        &self,
        live: impl IntoIterator<Item = WorkerId>,
        have_begun: bool,
        grace: Duration,
        now: Instant,
    ) -> Vec<(WorkerId, Loss)> {
        let lost = live.into_iter().filter_map(|worker| Some((worker, self.loss(worker)?)));
        let is_due = |(_, loss): &(_, Loss)| {
            (have_begun || loss.why.is_some()) && now.saturating_duration_since(loss.since) >= grace
        };
        lost.filter(is_due).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_away_for_longer_than_the_grace_is_overdue() {
        let start = Instant::now();
        let (grace, at) = (Duration::from_secs(20), |seconds| start + Duration::from_secs(seconds));
        let mut presence = Presence::new(start);
        let workers = || (0..3).map(WorkerId);
        let overdue = |presence: &Presence, have_begun, seconds| {
            let overdue = presence.overdue(workers(), have_begun, grace, at(seconds));
            overdue.into_iter().map(|(worker, loss)| (worker.0, loss.why)).collect::<Vec<_>>()
        };
        assert!(overdue(&presence, false, 999).is_empty(), "a job waits for all to begin");
        assert_eq!(overdue(&presence, true, 999).len(), 3, "one that goes on does not");
        workers().for_each(|worker| presence.come(worker));
        assert!(overdue(&presence, true, 999).is_empty());
        presence.go(WorkerId(1), at(100), "cut".into());
        assert_eq!(presence.loss(WorkerId(1)).unwrap().since, at(100));
        assert!(overdue(&presence, false, 119).is_empty());
        assert_eq!(overdue(&presence, false, 120), [(1, Some("cut".into()))]);
        presence.come(WorkerId(1));
        assert_eq!(presence.loss(WorkerId(1)), None);
        // Its former connection is noticed to be over only now.
        presence.come(WorkerId(1));
        presence.go(WorkerId(1), at(101), "replaced".into());
        assert!(presence.is_here(WorkerId(1)) && overdue(&presence, false, 999).is_empty());
    }
}
