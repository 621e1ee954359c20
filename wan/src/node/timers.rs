//! When to look who is there (time-free).
//!
//! Most of what arrives only moves deadlines further away. So a timer holds the earliest time at which there may be something to
//! judge, and to hear somebody costs nothing; when it fires, what it is about is judged by when who was heard, and it is set
//! again. What may bring a deadline nearer sets the timer. After quinn's `TimerTable`.

use std::time::Instant;

/// What is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Whether workers of this datacenter are waited for.
    Workers,
    /// Whether the datacenter at this place is waited for.
    Mirror(usize),
}

/// One time for each timer.
#[derive(Clone, Debug)]
pub(super) struct TimerTable {
    times: Vec<Option<Instant>>,
}

impl Timer {
    fn index(self) -> usize {
        match self {
            Self::Workers => 0,
            Self::Mirror(place) => place + 1,
        }
    }
}

impl TimerTable {
    /// One in which nothing is set, for so many other datacenters.
    pub(super) fn new(mirrors: usize) -> Self {
        Self { times: vec![None; mirrors + 1] }
    }

    pub(super) fn set(&mut self, timer: Timer, time: Option<Instant>) {
        self.times[timer.index()] = time;
    }

    /// Stops a timer if it has expired; yields whether it had.
    pub(super) fn expire(&mut self, timer: Timer, now: Instant) -> bool {
        self.times[timer.index()].take_if(|time| *time <= now).is_some()
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.times.iter().flatten().min().copied()
    }
}
