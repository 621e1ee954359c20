use std::time::{Duration, Instant};

use super::*;

const TABLE: TableId = TableId(0);

fn shard(workers: usize, staleness: Option<u32>) -> Shard {
    let shape = ShardTable { slots: 4, width: 2 };
    Shard::new(ShardId(0), &[shape], vec![vec![0.0; 8]], workers, staleness)
}

fn flush(worker: u32, clock: u32, elements: &[(u32, f32)]) -> Flush {
    let (indexes, values) = elements.iter().copied().unzip();
    Flush {
        worker: WorkerId(worker),
        clock: Clock(clock),
        deltas: vec![Elements { table: TABLE, indexes, values }],
    }
}

fn read(worker: u32, clock: u32, since: u64, slots: &[u32]) -> Read {
    let groups = vec![RowGroup { table: TABLE, since, slots: slots.to_vec() }];
    Read { worker: WorkerId(worker), clock: Clock(clock), groups }
}

#[test]
fn bsp_answers_when_every_worker_has_flushed() {
    let (mut shard, now) = (shard(2, Some(0)), Instant::now());
    assert_eq!(shard.handle_flush(&flush(0, 1, &[(2, 1.5)])), Ok(Flushed::Now(None)));
    assert_eq!(shard.handle_read(read(0, 1, 0, &[1]), now, &Open), Ok(None));
    assert_eq!(shard.waiting().collect::<Vec<_>>(), [(WorkerId(0), Wait::Stale)]);
    assert_eq!(shard.poll_reply(now, &Open), None);

    let later = now + Duration::from_secs(3);
    assert_eq!(shard.handle_flush(&flush(1, 1, &[(2, 1.0), (3, 4.0)])), Ok(Flushed::Now(Some(Clock(1)))));
    let reply = shard.poll_reply(later, &Open).expect("both workers are at clock 1");
    assert_eq!(reply.blocks, [RowBlock { table: TABLE, slots: vec![1], values: vec![2.5, 4.0] }]);
    assert_eq!(reply.held, [(Wait::Stale, Duration::from_secs(3))]);
    assert_eq!(shard.poll_reply(later, &Open), None, "answered once");
}

#[test]
fn staleness_is_how_far_a_reader_may_lead() {
    // (staleness, reader's clock, answered at once while the other worker is at clock 0)
    let table =
        [(Some(0), 0, true), (Some(0), 1, false), (Some(2), 2, true), (Some(2), 3, false), (None, 9, true)];
    for (staleness, clock, answered) in table {
        let mut shard = shard(2, staleness);
        for c in 1..=clock {
            shard.handle_flush(&flush(0, c, &[])).unwrap();
        }
        let reply = shard.handle_read(read(0, clock, 0, &[0]), Instant::now(), &Open).unwrap();
        assert_eq!(reply.is_some(), answered, "s = {staleness:?}, c = {clock}");
    }
}

#[test]
fn only_rows_that_changed_are_sent_again() {
    let (mut shard, now) = (shard(1, Some(0)), Instant::now());
    let first = shard.handle_read(read(0, 0, 0, &[0, 1, 3]), now, &Open).unwrap().unwrap();
    assert_eq!(first.blocks[0].slots, [0, 1, 3], "a reader without anything gets every row");
    shard.handle_flush(&flush(0, 1, &[(7, 1.0)])).unwrap();
    let second = shard.handle_read(read(0, 1, first.version, &[0, 1, 3]), now, &Open).unwrap().unwrap();
    assert_eq!(second.blocks[0].slots, [3]);
    assert_eq!(second.blocks[0].values, [0.0, 1.0]);
}

struct Gate(Option<Wait>, Vec<u32>);

impl ReadGate for Gate {
    fn why_all_held(&self) -> Option<Wait> {
        self.0
    }
    fn why_rows_held(&self, _: TableId, slots: &[u32]) -> Option<Wait> {
        let peer = crate::DatacenterId(1);
        slots.iter().any(|s| self.1.contains(s)).then_some(Wait::Barrier(peer))
    }
}

#[test]
fn a_held_read_is_charged_to_each_reason_in_turn() {
    let (mut shard, start) = (shard(2, Some(0)), Instant::now());
    let at = |s| start + Duration::from_secs(s);
    let peer = crate::DatacenterId(1);
    let lead = Wait::MirrorClock(peer);
    shard.handle_flush(&flush(0, 1, &[])).unwrap();
    assert_eq!(shard.handle_read(read(0, 1, 0, &[2]), at(0), &Gate(None, vec![2])), Ok(None));
    shard.handle_flush(&flush(1, 1, &[])).unwrap();
    assert_eq!(shard.poll_reply(at(1), &Gate(Some(lead), vec![2])), None);
    assert_eq!(shard.poll_reply(at(3), &Gate(None, vec![2])), None);
    assert_eq!(shard.poll_reply(at(4), &Gate(None, vec![2])), None, "the same reason still");
    let reply = shard.poll_reply(at(7), &Gate(None, vec![])).expect("nothing holds");
    let seconds: Vec<_> = reply.held.iter().map(|(why, d)| (*why, d.as_secs())).collect();
    assert_eq!(seconds, [(Wait::Stale, 1), (lead, 2), (Wait::Barrier(peer), 4)]);
}

#[test]
fn rows_without_a_hold_stay_readable() {
    let mut shard = shard(1, Some(0));
    let gate = Gate(None, vec![2]);
    assert!(shard.handle_read(read(0, 0, 0, &[0, 1, 3]), Instant::now(), &gate).unwrap().is_some());
}

#[test]
fn requests_that_make_no_sense_are_refused_and_change_nothing() {
    let (mut shard, now) = (shard(2, Some(0)), Instant::now());
    assert_eq!(shard.handle_flush(&flush(9, 1, &[])), Err(RequestError::UnknownWorker(WorkerId(9))));
    let far = shard.handle_flush(&flush(0, 1, &[(0, 1.0), (8, 1.0)]));
    assert_eq!(far, Err(RequestError::OutOfRange { table: TABLE, what: "elements", found: 8, allowed: 8 }));
    let twice = shard.handle_flush(&flush(0, 2, &[]));
    assert_eq!(twice, Err(RequestError::ClockSkipped { worker: WorkerId(0), last: 0, found: 2 }));
    let row = shard.handle_read(read(0, 0, 0, &[4]), now, &Open);
    assert_eq!(row, Err(RequestError::OutOfRange { table: TABLE, what: "rows", found: 4, allowed: 4 }));
    shard.handle_flush(&flush(0, 1, &[])).unwrap();
    let nobody = shard.handle_read(read(2, 1, 0, &[0]), now, &Open);
    assert_eq!(nobody, Err(RequestError::UnknownWorker(WorkerId(2))));
    assert!(shard.values(TABLE).iter().all(|v| *v == 0.0));
}

#[test]
fn what_a_worker_says_again_counts_once() {
    let (mut shard, now) = (shard(2, Some(0)), Instant::now());
    let flushed = flush(0, 1, &[(2, 1.5)]);
    assert_eq!(shard.handle_flush(&flushed), Ok(Flushed::Now(None)));
    assert_eq!(shard.handle_flush(&flushed), Ok(Flushed::Before));
    assert_eq!(shard.values(TABLE)[2], 1.5);
    // Its connection broke while it waited.
    assert_eq!(shard.handle_read(read(0, 1, 0, &[0]), now, &Open), Ok(None));
    assert_eq!(shard.handle_read(read(0, 1, 0, &[1]), now, &Open), Ok(None));
    assert_eq!(shard.handle_flush(&flush(1, 1, &[])), Ok(Flushed::Now(Some(Clock(1)))));
    let reply = shard.poll_reply(now, &Open).expect("both are at clock 1");
    assert_eq!(reply.blocks[0].slots, [1]);
    assert_eq!(shard.poll_reply(now, &Open), None, "one read, one answer");
}

#[test]
fn a_worker_that_left_may_look_on() {
    let (mut shard, now) = (shard(1, Some(0)), Instant::now());
    assert!(!shard.is_idle());
    shard.handle_flush(&flush(0, 1, &[])).unwrap();
    assert_eq!(shard.remove_worker(WorkerId(0)), None);
    assert!(shard.is_idle());
    assert!(shard.handle_read(read(0, 1, 0, &[0]), now, &Open).unwrap().is_some());
    assert_eq!(shard.handle_flush(&flush(0, 2, &[])), Err(RequestError::UnknownWorker(WorkerId(0))));
    assert_eq!(shard.join(WorkerId(0), Clock(0)), Some(Clock(1)));
    assert_eq!(shard.handle_flush(&flush(0, 2, &[])), Ok(Flushed::Now(Some(Clock(2)))));
}

#[test]
fn a_removed_worker_delays_nobody() {
    let (mut shard, now) = (shard(2, Some(0)), Instant::now());
    shard.handle_flush(&flush(0, 1, &[])).unwrap();
    assert_eq!(shard.handle_read(read(0, 1, 0, &[0]), now, &Open), Ok(None));
    assert_eq!(shard.remove_worker(WorkerId(1)), Some(Clock(1)));
    assert!(shard.poll_reply(now, &Open).is_some());
}
