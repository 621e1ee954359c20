use super::*;

use crate::ledger::Ledger;

const TABLE: TableId = TableId(0);
const SHAPES: [ShardTable; 2] = [ShardTable { slots: 50, width: 2 }, ShardTable { slots: 4, width: 7000 }];

fn outbox() -> Outbox {
    Outbox::new(ShardId(0), &SHAPES)
}

fn ledgers() -> Ledgers {
    Ledgers { own: Ledger::new(&SHAPES), mirrors: Vec::new() }
}

fn poll(outbox: &mut Outbox) -> Option<Outgoing> {
    outbox.poll_update(1, &ledgers(), 0, true, UPDATE_TARGET_BYTES)
}

fn delta(table: u16, elements: &[(u32, f32)]) -> Elements {
    let (indexes, values) = elements.iter().copied().unzip();
    Elements { table: TableId(table), indexes, values }
}

fn seqs(outbox: &mut Outbox) -> Vec<u64> {
    std::iter::from_fn(|| poll(outbox)).map(|u| u.update.seq).collect()
}

#[test]
fn what_waits_is_summed_and_goes_once() {
    let mut outbox = outbox();
    outbox.push(&delta(0, &[(2, 1.0), (9, 4.0)]));
    outbox.push(&delta(0, &[(2, 2.0), (3, 5.0)]));
    let Outgoing { update, bytes, is_repeat, .. } = poll(&mut outbox).expect("something waits");
    assert!(!is_repeat);
    assert_eq!((update.seq, update.deltas.as_slice()), (1, &[delta(0, &[(2, 3.0), (3, 5.0), (9, 4.0)])][..]));
    assert_eq!(poll(&mut outbox), None);
    assert!(!outbox.is_drained());
    assert_eq!(outbox.handle_applied(1), Ok(bytes));
    assert!(outbox.is_drained());
}

#[test]
fn memory_is_bounded_by_the_model_however_much_is_pushed() {
    let mut outbox = outbox();
    for round in 0..1000 {
        let all: Vec<(u32, f32)> = (0..100).map(|i| (i, (round + i) as f32 + 1.0)).collect();
        outbox.push(&delta(0, &all));
        outbox.complete(Clock(round + 1), round + 1);
    }
    assert_eq!(outbox.waiting.tables[0].slab.len(), 100);
    assert_eq!(outbox.waiting.queue.len(), 50);
    assert!(outbox.marks.len() <= MAX_MARKS);
    assert_eq!(outbox.waiting_bytes(), 100 * WAITING_ELEMENT_BYTES);
    seqs(&mut outbox);
    assert_eq!(outbox.progress().covered, Clock(1000));
}

#[test]
fn a_clock_is_covered_when_all_that_waited_at_its_end_is_numbered() {
    let mut outbox = outbox();
    // Rows of 7,000 elements: each fills an update of its own.
    let row = |slot: u32| -> Vec<(u32, f32)> { (0..7000).map(|c| (slot * 7000 + c, 1.5)).collect() };
    outbox.push(&delta(1, &row(0)));
    outbox.push(&delta(1, &row(1)));
    outbox.push(&delta(1, &row(2)));
    outbox.complete(Clock(1), 1);
    assert_eq!(outbox.progress(), Progress { clock: Clock(1), ..Progress::default() });
    poll(&mut outbox).unwrap();
    // Row 0 waits again, behind the others, and belongs to clock 2.
    outbox.push(&delta(1, &row(0)));
    outbox.complete(Clock(2), 2);
    poll(&mut outbox).unwrap();
    poll(&mut outbox).unwrap();
    assert_eq!(outbox.progress().covered, Clock(1));
    let seq = outbox.progress().covered_seq;
    assert_eq!(seqs(&mut outbox).last().copied(), Some(outbox.progress().covered_seq));
    assert!(outbox.progress().covered_seq > seq);
    assert_eq!(outbox.progress().covered, Clock(2));
}

#[test]
fn after_a_reconnect_what_was_not_applied_goes_again_under_its_number() {
    let mut outbox = outbox();
    for i in 0..5 {
        outbox.push(&delta(0, &[(i, 1.0)]));
        poll(&mut outbox).unwrap();
    }
    outbox.push(&delta(0, &[(7, 1.0)]));
    let resume = Resume { through: 2, beyond: vec![4], ..Resume::default() };
    assert_eq!(outbox.handle_resume(&resume), Ok(vec![]));
    assert!(outbox.has_repeat());
    assert_eq!(seqs(&mut outbox), [3, 5, 6], "4 came early, 6 is new");
    assert!(!outbox.has_repeat());
    outbox.handle_applied(6).unwrap();
    assert!(outbox.is_drained());
    assert_eq!(outbox.in_flight_bytes(), 0);
}

#[test]
fn confirming_what_was_never_sent_is_refused() {
    let mut outbox = outbox();
    outbox.push(&delta(0, &[(0, 1.0)]));
    assert_eq!(outbox.handle_applied(1), Err(NeverSent { seq: 1, last: 0 }));
    poll(&mut outbox).unwrap();
    let beyond = Resume { beyond: vec![9], ..Resume::default() };
    assert_eq!(outbox.handle_resume(&beyond), Err(NeverSent { seq: 9, last: 1 }));
}

#[test]
fn a_row_is_announced_once_and_again_after_a_reconnect() {
    let mut outbox = outbox();
    outbox.push(&delta(0, &[(4, 1.0), (8, 1.0)]));
    let barrier = Barrier { table: TABLE, slots: vec![2, 4], from_seq: 1 };
    assert_eq!(outbox.announce(), [barrier]);
    outbox.push(&delta(0, &[(4, 1.0), (20, 1.0)]));
    assert_eq!(outbox.announce(), [Barrier { table: TABLE, slots: vec![10], from_seq: 1 }]);
    let all = Barrier { table: TABLE, slots: vec![2, 4, 10], from_seq: 1 };
    assert_eq!(outbox.handle_resume(&Resume::default()), Ok(vec![all]));
    let sent = poll(&mut outbox).unwrap();
    assert_eq!(outbox.announce(), []);
    // The announcement may have gone down with the connection, and so may the update: it names the number now.
    outbox.push(&delta(0, &[(8, 1.0)]));
    let flying = Barrier { table: TABLE, slots: vec![2, 4, 10], from_seq: sent.update.seq };
    assert_eq!(outbox.handle_resume(&Resume::default()), Ok(vec![flying]));
    let resume = Resume { through: sent.update.seq, ..Resume::default() };
    assert_eq!(outbox.handle_resume(&resume), Ok(vec![]), "what was applied holds nobody");
}

#[test]
fn no_more_updates_fly_than_a_receiver_remembers() {
    let mut outbox = outbox();
    for i in 0..=MAX_IN_FLIGHT {
        outbox.push(&delta(0, &[(0, 1.0)]));
        assert_eq!(poll(&mut outbox).is_some(), i < MAX_IN_FLIGHT);
    }
    outbox.handle_applied(1).unwrap();
    assert_eq!(poll(&mut outbox).map(|o| o.update.seq), Some(MAX_IN_FLIGHT + 1));
}

#[test]
fn an_announced_row_comes_even_if_its_sums_cancel() {
    let mut outbox = outbox();
    outbox.push(&delta(0, &[(4, 1.0)]));
    outbox.announce();
    outbox.push(&delta(0, &[(4, -1.0)]));
    assert_eq!(poll(&mut outbox).unwrap().update.deltas, [delta(0, &[(4, 0.0)])]);
}

#[test]
fn a_row_that_cancelled_unannounced_leaves_an_empty_update() {
    let mut outbox = outbox();
    outbox.push(&delta(0, &[(4, 1.0)]));
    outbox.push(&delta(0, &[(4, -1.0)]));
    outbox.complete(Clock(1), 1);
    // A number is spent, so that coverage moves; the payload is next to nothing.
    assert!(poll(&mut outbox).unwrap().update.deltas.iter().all(Elements::is_empty));
    assert_eq!(outbox.progress().covered, Clock(1));
}
