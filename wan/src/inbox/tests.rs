use datacenter::Elements;

use super::*;

const TABLE: TableId = TableId(0);

fn inbox() -> Inbox {
    Inbox::new(ShardId(0), &[ShardTable { slots: 10, width: 2 }])
}

fn delta(indexes: &[u32]) -> Vec<Elements> {
    vec![Elements { table: TABLE, indexes: indexes.to_vec(), values: vec![1.0; indexes.len()] }]
}

fn update(seq: u64, deltas: Vec<Elements>) -> Update {
    Update { seq, count: 1, deltas, ..Update::default() }
}

fn progress(clock: u32, covered: u32, covered_seq: u64) -> Progress {
    Progress { clock: Clock(clock), covered: Clock(covered), covered_seq, ..Progress::default() }
}

#[test]
fn each_number_is_new_once_in_any_order() {
    let mut inbox = inbox();
    let mut settled = Vec::new();
    let arrivals = [2, 1, 2, 5, 1, 4, 5, 3, 3].map(|seq| {
        let arrival = inbox.handle_update(&update(seq, vec![])).unwrap();
        settled.extend((arrival == Arrival::InOrder).then_some(seq));
        settled.extend(std::iter::from_fn(|| inbox.next_settled()).map(|early| early.seq));
        arrival
    });
    let (early, again, next) = (Arrival::Early, Arrival::Again, Arrival::InOrder);
    assert_eq!(arrivals, [early, next, again, early, again, early, again, next, again]);
    assert_eq!(settled, [1, 2, 3, 4, 5], "each has its turn once");
    assert_eq!(inbox.resume(), Resume { through: 5, ..Resume::default() });
    inbox.handle_update(&update(8, vec![])).unwrap();
    assert_eq!(inbox.resume().beyond, [8]);
    assert_eq!(inbox.handle_update(&update(0, vec![])), Ok(Arrival::Again), "numbers start at one");
}

#[test]
fn a_barrier_holds_its_rows_until_they_come() {
    let mut inbox = inbox();
    inbox.handle_barrier(&Barrier { table: TABLE, slots: vec![1, 4], from_seq: 3 }).unwrap();
    assert!(inbox.holds_any(TABLE, &[0, 4].into()));
    assert!(!inbox.holds_any(TABLE, &[0, 2, 3].into()), "other rows stay readable");
    inbox.handle_update(&update(1, vec![])).unwrap();
    inbox.handle_update(&update(2, delta(&[2, 8]))).unwrap();
    assert_eq!(inbox.held_rows(), 2, "an older update does not free them");
    inbox.handle_update(&update(3, delta(&[3]))).unwrap();
    assert!(!inbox.holds_any(TABLE, &[1].into()));
    assert!(inbox.holds_any(TABLE, &[4].into()));
    inbox.handle_update(&update(4, delta(&[8, 9]))).unwrap();
    assert_eq!(inbox.held_rows(), 0);
}

#[test]
fn a_later_update_does_not_free_a_row_whose_announced_values_are_still_missing() {
    let mut inbox = inbox();
    inbox.handle_barrier(&Barrier { table: TABLE, slots: vec![1], from_seq: 2 }).unwrap();
    inbox.handle_update(&update(1, vec![])).unwrap();
    // The row's announced values are in 2, on a stream that lost a packet; 3 has the row as well.
    inbox.handle_update(&update(3, delta(&[2]))).unwrap();
    assert!(inbox.holds_any(TABLE, &[1].into()));
    inbox.handle_update(&update(2, delta(&[3]))).unwrap();
    assert_eq!(inbox.held_rows(), 0);
}

#[test]
fn a_row_that_ripens_frees_with_the_numbers_before_it() {
    let mut inbox = inbox();
    // 3 is the first to have the row, and comes first; whether 1 or 2 have it too cannot be known before they come.
    inbox.handle_update(&update(3, delta(&[2]))).unwrap();
    inbox.handle_barrier(&Barrier { table: TABLE, slots: vec![1], from_seq: 2 }).unwrap();
    assert!(inbox.holds_any(TABLE, &[1].into()));
    inbox.handle_update(&update(2, vec![])).unwrap();
    assert!(inbox.holds_any(TABLE, &[1].into()));
    inbox.handle_update(&update(1, vec![])).unwrap();
    assert_eq!(inbox.held_rows(), 0);
    // A newer barrier is not freed by what ripened for the older one.
    inbox.handle_update(&update(5, delta(&[2]))).unwrap();
    inbox.handle_barrier(&Barrier { table: TABLE, slots: vec![1], from_seq: 4 }).unwrap();
    inbox.handle_barrier(&Barrier { table: TABLE, slots: vec![1], from_seq: 6 }).unwrap();
    inbox.handle_update(&update(4, vec![])).unwrap();
    assert!(inbox.holds_any(TABLE, &[1].into()));
    inbox.handle_update(&update(6, delta(&[2]))).unwrap();
    assert_eq!(inbox.held_rows(), 0);
}

#[test]
fn announcing_again_and_again_does_not_grow_memory() {
    let mut inbox = inbox();
    // 1 is missing, so that everything ripens.
    for seq in 2..1000 {
        inbox.handle_barrier(&Barrier { table: TABLE, slots: vec![1, 2], from_seq: seq }).unwrap();
        inbox.handle_update(&update(seq, delta(&[2, 4]))).unwrap();
    }
    assert!(inbox.awaited.ripening_rows() <= 2 * 10 + 2);
    assert_eq!(inbox.held_rows(), 2);
    inbox.handle_update(&update(1, vec![])).unwrap();
    assert_eq!(inbox.held_rows(), 0);
}

#[test]
fn values_that_overtake_their_barrier_leave_nothing_held() {
    let mut inbox = inbox();
    for seq in 1..=3 {
        inbox.handle_update(&update(seq, delta(&[2]))).unwrap();
    }
    inbox.handle_barrier(&Barrier { table: TABLE, slots: vec![1, 2], from_seq: 3 }).unwrap();
    assert!(!inbox.holds_any(TABLE, &[1].into()));
    assert!(inbox.holds_any(TABLE, &[2].into()));
}

#[test]
fn a_mirror_is_as_far_as_its_data_has_come() {
    let mut inbox = inbox();
    inbox.handle_progress(progress(1, 1, 2)).unwrap();
    assert_eq!((inbox.reported_clock(), inbox.arrived_clock()), (Clock(1), Clock(0)));
    inbox.handle_progress(progress(4, 2, 3)).unwrap();
    inbox.handle_update(&update(2, vec![])).unwrap();
    inbox.handle_update(&update(3, vec![])).unwrap();
    assert_eq!(inbox.arrived_clock(), Clock(0));
    inbox.handle_update(&update(1, vec![])).unwrap();
    assert_eq!((inbox.reported_clock(), inbox.arrived_clock()), (Clock(4), Clock(2)));
    inbox.handle_progress(progress(3, 1, 2)).unwrap();
    assert_eq!(inbox.arrived_clock(), Clock(2), "an old report changes nothing");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut inbox = inbox();
    assert!(matches!(inbox.handle_update(&update(MAX_GAP + 1, vec![])), Err(PeerError::TooFarAhead { .. })));
    assert!(matches!(
        inbox.handle_update(&update(1, delta(&[20]))),
        Err(PeerError::OutOfRange { found: 20, .. })
    ));
    let nowhere = Barrier { table: TableId(3), slots: vec![], from_seq: 1 };
    assert_eq!(inbox.handle_barrier(&nowhere), Err(PeerError::UnknownTable(TableId(3))));
    let far = Barrier { table: TABLE, slots: vec![10], from_seq: 1 };
    assert!(matches!(inbox.handle_barrier(&far), Err(PeerError::OutOfRange { found: 10, allowed: 10, .. })));
    let never = Barrier { table: TABLE, slots: vec![1], from_seq: u64::MAX };
    assert!(matches!(inbox.handle_barrier(&never), Err(PeerError::TooFarAhead { .. })));
    let never = progress(1, 1, u64::MAX);
    assert!(matches!(inbox.handle_progress(never), Err(PeerError::TooFarAhead { .. })));
    assert_eq!((inbox.held_rows(), inbox.reported_clock()), (0, Clock(0)), "nothing was taken over");
    assert!(matches!(inbox.handle_progress(progress(1, 2, 0)), Err(PeerError::CoversTheFuture { .. })));
    assert_eq!(inbox.resume(), Resume::default());
}
