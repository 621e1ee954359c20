//! Which process is a worker, where several say so.
//!
//! A worker that is started again may find its former life still running: cut off and back, or
//! never stopped. Both would take the worker's place from each other for ever. So a hello says when
//! its process started, and as long as the later one is there, the earlier one is not let in.
//!
//! Clocks of machines differ, so the order is not kept for longer than that: a worker that has
//! moved to a machine whose clock is behind is let in once its former life has been gone for a
//! while.
//!
//! Kind: time-passed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::time::Instant;

use super::life::SILENCE;
use crate::WorkerId;

/// The incarnations of all workers of a datacenter, as one server sees them. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Incarnations(Arc<Mutex<BTreeMap<WorkerId, Incarnation>>>);

#[derive(Debug)]
struct Incarnation {
    incarnation: u64,
    connections: usize,
    /// When it was last connected, or found to be.
    seen: Instant,
}

/// A connection of a worker that counts, until it is dropped.
#[derive(Debug)]
pub(super) struct Registration {
    incarnations: Incarnations,
    worker: WorkerId,
    incarnation: u64,
    /// Whether it is the first connection of this life.
    pub(super) is_new: bool,
}

/// What a process that starts now calls this life of its worker: the time in microseconds since
/// 1970.
#[expect(clippy::disallowed_methods, reason = "two real processes are told apart by when they started")]
pub fn incarnation() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

impl Incarnations {
    /// Lets a connection in that this life of `worker` has made.
    ///
    /// # Errors
    ///
    /// If a later life is there, or was a moment ago.
    pub(super) fn admit(&self, worker: WorkerId, incarnation: u64, now: Instant) -> Result<Registration, ()> {
        let mut incarnations = self.lock();
        let mut is_new = !incarnations.contains_key(&worker);
        let life =
            incarnations.entry(worker).or_insert(Incarnation { incarnation, connections: 0, seen: now });
        let is_there = life.connections > 0 || now < life.seen + SILENCE;
        if incarnation < life.incarnation && is_there {
            return Err(());
        }
        if incarnation != life.incarnation {
            *life = Incarnation { incarnation, connections: 0, seen: now };
            is_new = true;
        }
        (life.connections, life.seen) = (life.connections + 1, now);
        Ok(Registration { incarnations: self.clone(), worker, incarnation, is_new })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<WorkerId, Incarnation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// Whether another life of the worker has come meanwhile.
    pub(super) fn is_over(&self) -> bool {
        self.incarnations.lock().get(&self.worker).is_some_and(|life| life.incarnation != self.incarnation)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(life) = self.incarnations.lock().get_mut(&self.worker)
            && life.incarnation == self.incarnation
        {
            (life.connections, life.seen) = (life.connections - 1, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_later_start_counts_while_it_is_there_and_a_moment_longer() {
        let (incarnations, worker) = (Incarnations::default(), WorkerId(2));
        let admit = |incarnation| incarnations.admit(worker, incarnation, Instant::now());
        let former = admit(5).unwrap();
        let later = admit(7).unwrap();
        assert!(former.is_over() && !later.is_over());
        assert!(former.is_new && later.is_new);
        assert!(admit(5).is_err(), "the later one is there");
        drop(former);
        let again = admit(7).unwrap();
        assert!(!again.is_new);
        drop(later);
        tokio::time::advance(SILENCE * 2).await;
        assert!(admit(5).is_err(), "on another connection");
        drop(again);
        tokio::time::advance(SILENCE - Duration::from_millis(1)).await;
        assert!(admit(5).is_err(), "it may only have been cut off");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(admit(5).is_ok(), "nobody else is there any more");
    }
}
