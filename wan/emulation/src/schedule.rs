//! The timers of a virtual clock, in the order of their deadlines.
//!
//! Kind: time-passed.
//!
//! Deadlines are nanoseconds from the start of the run.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    pin::Pin,
    task::{Context, Poll, Waker},
};

/// The deadline of a timer that waits to be set.
pub(super) const NEVER: u64 = u64::MAX;

/// All timers, and when to look at each.
#[derive(Default)]
pub(super) struct Schedule {
    /// When to look at which timer; the sequence number makes ties first come, first served.
    queue: BinaryHeap<Reverse<Entry>>,
    next_sequence: u64,
    timers: Vec<Slot>,
    free: Vec<usize>,
    /// Keeps tokio from jumping past our next entry.
    guard: Option<Pin<Box<tokio::time::Sleep>>>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    at: u64,
    sequence: u64,
    id: usize,
}

#[derive(Default)]
struct Slot {
    deadline: u64,
    /// The entry of the queue that speaks for this timer; others of its id are stale.
    queued: Option<Entry>,
    waker: Option<Waker>,
}

impl Schedule {
    pub(super) fn add_timer(&mut self, deadline: u64) -> usize {
        let id = self.free.pop().unwrap_or_else(|| {
            self.timers.push(Slot::default());
            self.timers.len() - 1
        });
        self.timers[id].deadline = deadline;
        self.enqueue(id);
        id
    }

    pub(super) fn remove_timer(&mut self, id: usize) {
        // A stale entry for this id may stay queued: it will not match the slot's next entry.
        self.timers[id] = Slot::default();
        self.free.push(id);
    }

    fn enqueue(&mut self, id: usize) {
        if self.timers[id].deadline == NEVER {
            return;
        }
        let entry = Entry { at: self.timers[id].deadline, sequence: self.next_sequence, id };
        self.next_sequence += 1;
        self.timers[id].queued = Some(entry);
        self.queue.push(Reverse(entry));
    }

    pub(super) fn reset(&mut self, id: usize, deadline: u64) {
        let slot = &mut self.timers[id];
        slot.deadline = deadline;
        // quinn moves its deadlines back with nearly every acknowledgement. An entry that is too early may
        // stay, and the timer is looked at again then: far cheaper than an entry for each move.
        if slot.queued.is_none_or(|entry| entry.at > deadline) {
            self.enqueue(id);
        }
    }

    pub(super) fn poll(&mut self, id: usize, now: u64, waker: &Waker) -> Poll<()> {
        let slot = &mut self.timers[id];
        if slot.deadline <= now {
            return Poll::Ready(());
        }
        match &mut slot.waker {
            Some(known) => known.clone_from(waker),
            None => slot.waker = Some(waker.clone()),
        }
        if slot.queued.is_none() {
            self.enqueue(id);
        }
        Poll::Pending
    }

    pub(super) fn next(&self) -> Option<u64> {
        self.queue.peek().map(|Reverse(entry)| entry.at)
    }

    /// Who is to be woken at `now`, in the order of their deadlines.
    pub(super) fn take_due(&mut self, now: u64) -> Vec<Waker> {
        let mut due = Vec::new();
        while let Some(&Reverse(entry)) = self.queue.peek()
            && entry.at <= now
        {
            self.queue.pop();
            let slot = &mut self.timers[entry.id];
            if slot.queued != Some(entry) {
                continue;
            }
            slot.queued = None;
            if slot.deadline > now {
                self.enqueue(entry.id);
            } else {
                due.extend(slot.waker.take());
            }
        }
        due
    }

    pub(super) fn guard_tick(&mut self, tick: tokio::time::Instant) {
        let guard = self.guard.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(tick)));
        if guard.deadline() != tick {
            guard.as_mut().reset(tick);
        }
        // Registers the timer; nobody needs to be woken, since the hook runs again after the jump.
        let _ = guard.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
}
