//! What is to happen in a simulated cluster, in order of time; at the same time in the order in
//! which it was said.

use std::collections::BTreeMap;
use std::time::Duration;

/// Events to come.
#[derive(Clone, Debug)]
pub struct Queue<E> {
    events: BTreeMap<(Duration, u64), E>,
    sequence: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { events: BTreeMap::new(), sequence: 0 }
    }
}

impl<E> Queue<E> {
    /// `event` is to happen `at` this time since the start.
    pub fn push(&mut self, at: Duration, event: E) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    /// The next event, and its time.
    pub fn pop(&mut self) -> Option<(Duration, E)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }
}

/// A pair of ends, the lower one first.
pub fn ordered(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}
