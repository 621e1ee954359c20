//! An outbox and the inbox at its other end, over a link that reorders, repeats and breaks.
//!
//! The model knows sums, which numbers have come, and which announcements have been heard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use datacenter::{Clock, Elements, ShardId, ShardTable, TableId};
use wan::inbox::{Arrival, Inbox};
use wan::ledger::{Ledger, Ledgers};
use wan::message::{Barrier, Progress, Update};
use wan::outbox::{Outbox, UPDATE_TARGET_BYTES};

use super::operations::operations;

const SHAPES: [ShardTable; 2] = [ShardTable { slots: 6, width: 3 }, ShardTable { slots: 24, width: 300 }];

/// What happens. Places in queues count modulo their lengths.
#[derive(Arbitrary, Debug)]
enum Operation {
    /// Deltas of some elements: the first, how far apart they are, and their values.
    Push {
        table: bool,
        first: u16,
        step: u8,
        values: [i8; 3],
    },
    /// Deltas of one value for many rows.
    PushMany {
        value: i8,
    },
    Complete,
    Send,
    Announce,
    Deliver {
        place: u8,
        again: bool,
    },
    DeliverBarrier {
        place: u8,
        again: bool,
    },
    DeliverProgress {
        place: u8,
    },
    Confirm,
    Reconnect,
    Pause(bool),
    /// A peer that is confused: numbers that were never sent, or will not be for long.
    Nonsense(u64),
}

/// How often much is pushed at once, at most: it takes longer than all else together.
const MOST_BULK: u32 = 2;

/// A list of operations; then the link heals, and everything must come to rest.
pub fn mirrors(data: &[u8]) {
    let mut link = Link::new();
    for operation in operations(&mut Unstructured::new(data)) {
        link.apply(operation);
        link.check();
    }
    link.settle();
}

struct Link {
    ledgers: Ledgers,
    /// How many updates have had their turn.
    settled: u64,
    outbox: Outbox,
    inbox: Inbox,
    clock: Clock,
    paused: bool,
    bulk: u32,
    /// Sent on the present connection and not delivered, or to be delivered again.
    updates: Vec<Arc<Update>>,
    barriers: Vec<Barrier>,
    progress: Vec<Progress>,
    /// By table and element: what was pushed, and what has been applied.
    pushed: Vec<Vec<i64>>,
    applied: Vec<Vec<i64>>,
    /// The rows of each number that was ever sent.
    rows: BTreeMap<u64, BTreeSet<(u16, u32)>>,
    delivered: BTreeSet<u64>,
    /// Rows that were announced, by the highest first number that the receiver has heard of.
    announced: BTreeMap<(u16, u32), u64>,
}

impl Link {
    fn new() -> Self {
        let zeros = || SHAPES.iter().map(|shape| vec![0; shape.elements()]).collect::<Vec<_>>();
        Self {
            ledgers: Ledgers { own: Ledger::new(&SHAPES), mirrors: Vec::new() },
            settled: 0,
            outbox: Outbox::new(ShardId(0), &SHAPES),
            inbox: Inbox::new(ShardId(0), &SHAPES),
            clock: Clock(0),
            paused: false,
            bulk: 0,
            updates: Vec::new(),
            barriers: Vec::new(),
            progress: Vec::new(),
            pushed: zeros(),
            applied: zeros(),
            rows: BTreeMap::new(),
            delivered: BTreeSet::new(),
            announced: BTreeMap::new(),
        }
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Push { table, first, step, values } => {
                let table = usize::from(table);
                let indexes = (0..).map(|i| usize::from(first) + i * (usize::from(step) + 1));
                let fits = |(index, _): &(usize, i8)| *index < SHAPES[table].elements();
                self.push(table, indexes.zip(values).take_while(fits));
            }
            Operation::PushMany { value } => {
                self.bulk += 1;
                if self.bulk > MOST_BULK {
                    return;
                }
                self.push(1, (0..SHAPES[1].elements()).map(|index| (index, value)));
            }
            Operation::Complete => {
                self.clock = self.clock.next();
                self.outbox.complete(self.clock, self.clock.0);
                self.progress.push(self.outbox.progress());
            }
            Operation::Send => self.send(),
            Operation::Announce => self.barriers.extend(self.outbox.announce()),
            Operation::Deliver { place, again } => {
                if let Some(update) = take(&mut self.updates, place, again) {
                    self.deliver(&update);
                }
            }
            Operation::DeliverBarrier { place, again } => {
                if let Some(barrier) = take(&mut self.barriers, place, again) {
                    self.announce(&barrier);
                }
            }
            Operation::DeliverProgress { place } => {
                if let Some(progress) = take(&mut self.progress, place, false) {
                    self.inbox.handle_progress(progress).expect("it makes sense");
                }
            }
            Operation::Confirm => {
                let before = self.outbox.in_flight_bytes();
                let freed = self.outbox.handle_applied(self.inbox.applied_through()).expect("all were sent");
                assert_eq!(self.outbox.in_flight_bytes() + freed, before);
            }
            Operation::Reconnect => self.reconnect(),
            Operation::Pause(paused) => {
                self.paused = paused;
                self.outbox.set_paused(paused);
                self.progress.push(self.outbox.progress());
            }
            Operation::Nonsense(number) => {
                let last = self.rows.last_key_value().map_or(0, |(seq, _)| *seq);
                assert!(self.outbox.handle_applied(last.saturating_add(number.max(1))).is_err());
                // A number that may come is noted, so only absurd ones can be tried.
                let absurd = number.max(self.inbox.applied_through().saturating_add(1 << 20));
                let absurd = Update { seq: absurd, ..Update::default() };
                assert!(self.inbox.handle_update(&absurd).is_err());
            }
        }
    }

    fn push(&mut self, table: usize, elements: impl Iterator<Item = (usize, i8)>) {
        let mut delta = Elements::new(TableId(table as u16));
        for (index, value) in elements {
            delta.push(index as u32, f32::from(value));
            self.pushed[table][index] += i64::from(value);
        }
        self.outbox.push(&delta);
    }

    fn send(&mut self) {
        let has_repeat = self.outbox.has_repeat();
        let Some(outgoing) = self.outbox.poll_update(1, &self.ledgers, 0, true, UPDATE_TARGET_BYTES) else {
            return;
        };
        assert_eq!(outgoing.is_repeat, has_repeat);
        let update = outgoing.update;
        let rows = update.deltas.iter().flat_map(|delta| {
            let width = SHAPES[delta.table.index()].width;
            delta.indexes.iter().map(move |index| (delta.table.0, index / width))
        });
        let mut rows: Vec<_> = rows.collect();
        rows.dedup();
        let (rows, next) = (BTreeSet::from_iter(rows), self.rows.len() as u64 + 1);
        match self.rows.insert(update.seq, rows.clone()) {
            Some(before) => assert!(outgoing.is_repeat && before == rows, "an update never changes"),
            None => assert!(!outgoing.is_repeat && update.seq == next, "numbers have no gaps"),
        }
        self.updates.push(update);
    }

    fn deliver(&mut self, update: &Update) {
        let arrival = self.inbox.handle_update(update).expect("it makes sense");
        let is_new = arrival != Arrival::Again;
        if arrival == Arrival::InOrder {
            self.settled += 1;
            assert_eq!(update.seq, self.settled, "each has its turn");
            while let Some(early) = self.inbox.next_settled() {
                self.settled += 1;
                assert_eq!(early.seq, self.settled, "each has its turn");
            }
        }
        assert_eq!(is_new, self.delivered.insert(update.seq), "each is applied once");
        if is_new {
            for delta in &update.deltas {
                let sums = &mut self.applied[delta.table.index()];
                delta.indexes.iter().zip(&delta.values).for_each(|(i, v)| sums[*i as usize] += *v as i64);
            }
        }
    }

    fn announce(&mut self, barrier: &Barrier) {
        self.inbox.handle_barrier(barrier).expect("it makes sense");
        for slot in &barrier.slots {
            let first = self.announced.entry((barrier.table.0, *slot)).or_default();
            *first = barrier.from_seq.max(*first);
        }
    }

    fn reconnect(&mut self) {
        self.updates.clear();
        self.progress = vec![self.outbox.progress()];
        self.barriers = self.outbox.handle_resume(&self.inbox.resume()).expect("all were sent");
    }

    /// Nothing that was announced and has not arrived may be read, and no clock has arrived before
    /// its data.
    fn check(&self) {
        let through = (1..).take_while(|seq| self.delivered.contains(seq)).last().unwrap_or(0);
        assert_eq!(self.inbox.applied_through(), through);
        for (row, from_seq) in &self.announced {
            let mut brings = self.rows.range(from_seq..).filter(|(_, rows)| rows.contains(row));
            let has_come = brings.next().is_some_and(|(seq, _)| *seq <= through);
            let is_held = self.inbox.holds_any(TableId(row.0), &[row.1].into());
            assert!(has_come || is_held, "row {row:?}, announced from {from_seq} on, can be read");
        }
        assert!(self.inbox.arrived_clock() <= self.inbox.reported_clock());
        assert!(self.inbox.reported_clock() <= self.clock);
        let elements: usize = SHAPES.iter().map(|shape| shape.elements()).sum();
        assert!(self.outbox.waiting_bytes() <= 5 * elements as u64, "one model waits at most");
    }

    /// When links heal, everything arrives, once, and nobody is held.
    fn settle(&mut self) {
        self.reconnect();
        while !self.outbox.is_drained() {
            let before = self.delivered.len();
            self.send();
            for update in std::mem::take(&mut self.updates) {
                self.deliver(&update);
            }
            self.apply(Operation::Confirm);
            assert!(self.delivered.len() > before || self.outbox.is_drained(), "something comes");
        }
        for barrier in std::mem::take(&mut self.barriers) {
            self.announce(&barrier);
        }
        let progress = self.outbox.progress();
        assert_eq!((progress.clock, progress.covered), (self.clock, self.clock));
        self.inbox.handle_progress(progress).expect("it makes sense");
        self.check();
        assert_eq!(self.applied, self.pushed);
        assert_eq!((self.inbox.held_rows(), self.inbox.arrived_clock()), (0, self.clock));
        assert_eq!(self.inbox.is_settled(), self.paused);
    }
}

/// One of `queue`, which keeps it if it is to come `again`.
fn take<T: Clone>(queue: &mut Vec<T>, place: u8, again: bool) -> Option<T> {
    let place = usize::from(place).checked_rem(queue.len())?;
    if again { queue.get(place).cloned() } else { Some(queue.remove(place)) }
}
