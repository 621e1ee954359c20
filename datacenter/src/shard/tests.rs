use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const TABLE: TableId = TableId(0);

fn shard(workers: usize, staleness: Option<u32>) -> Shard {
    let shape = ShardTable { slots: 4, width: 2 };
    Shard::new(ShardId(0), &[shape], vec![vec![0.0; 8]], workers, staleness)
}

fn flush(worker: u32, clock: u32, elements: &[(u32, f32)]) -> Flush {
    let (indexes, values) = elements.iter().copied().unzip();
    let deltas = [Elements { table: TABLE, indexes, values }];
    // Also rows that the shard has not.
    Flush::of_elements(WorkerId(worker), Clock(clock), &deltas, &[ShardTable { slots: 9, width: 2 }])
}

fn read(worker: u32, clock: u32, since: u64, slots: &[u32]) -> Read {
    let groups = vec![RowGroup { table: TABLE, since, slots: slots.to_vec().into() }];
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
    assert_eq!(reply.blocks, [RowBlock::new(TABLE, [1], vec![2.5, 4.0])]);
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
    assert_eq!(*first.blocks[0].slots(), [0, 1, 3].into(), "a reader without anything gets every row");
    shard.handle_flush(&flush(0, 1, &[(7, 1.0)])).unwrap();
    let second = shard.handle_read(read(0, 1, first.version, &[0, 1, 3]), now, &Open).unwrap().unwrap();
    assert_eq!(*second.blocks[0].slots(), [3].into());
    assert_eq!(second.blocks[0].values()[..], [0.0, 1.0]);
}

struct Gate(Option<Wait>, Vec<u32>);

impl ReadGate for Gate {
    fn why_all_held(&self, _: Clock) -> Option<Wait> {
        self.0
    }
    fn why_rows_held(&self, _: TableId, slots: &Slots) -> Option<Wait> {
        let peer = crate::DatacenterId(1);
        slots.iter().any(|s| self.1.contains(&s)).then_some(Wait::Barrier(peer))
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
    assert_eq!(far, Err(RequestError::OutOfRange { table: TABLE, what: "rows", found: 4, allowed: 4 }));
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
    assert_eq!(*reply.blocks[0].slots(), [1].into());
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
    assert_eq!(shard.handle_flush(&flush(0, 2, &[(2, 1.0)])), Ok(Flushed::Now(None)), "late, but not lost");
    assert_eq!((shard.clock(), shard.values(TABLE)[2]), (Clock(1), 1.0));
    assert_eq!(shard.join(WorkerId(0), Clock(0)), Some(Clock(2)));
    assert_eq!(shard.handle_flush(&flush(0, 3, &[])), Ok(Flushed::Now(Some(Clock(3)))));
}

#[test]
fn a_removed_worker_delays_nobody() {
    let (mut shard, now) = (shard(2, Some(0)), Instant::now());
    shard.handle_flush(&flush(0, 1, &[])).unwrap();
    assert_eq!(shard.handle_read(read(0, 1, 0, &[0]), now, &Open), Ok(None));
    assert_eq!(shard.remove_worker(WorkerId(1)), Some(Clock(1)));
    assert!(shard.poll_reply(now, &Open).is_some());
}

#[test]
fn deltas_that_are_no_numbers_are_refused_whole_and_named() {
    for (bad, what) in [(f32::NAN, "NaN"), (f32::INFINITY, "infinite")] {
        let flush = flush(1, 1, &[(2, 1.5), (7, bad)]);
        let mut shard = shard(2, Some(0));
        let (worker, clock) = (WorkerId(1), Clock(1));
        let error = RequestError::NotFinite { worker, clock, table: TABLE, slot: 3, what };
        assert_eq!(shard.handle_flush(&flush), Err(error));
        assert!(shard.values(TABLE).iter().all(|v| *v == 0.0), "nothing of it is in");
        assert_eq!(shard.clock_of(WorkerId(1)), Some(Clock(0)));
        let mut shard = shard.with_non_finite(NonFinite::Pass);
        assert_eq!(shard.handle_flush(&flush), Ok(Flushed::Now(None)));
        assert!(!shard.values(TABLE)[7].is_finite());
    }
}

#[test]
fn sums_that_would_be_too_large_are_refused_whole_and_named() {
    // What came before, and what is too much then; an f32 could hold all but the last.
    for (before, delta) in [(0.0, 1e29), (7e28, 3e28), (-7e28, -3e28), (0.0, f32::MAX), (7e28, f32::MAX)] {
        let mut shard = shard(2, Some(0));
        shard.handle_flush(&flush(0, 1, &[(7, before)])).unwrap();
        let refused = shard.handle_flush(&flush(1, 1, &[(2, 1.5), (7, delta)]));
        let Err(RequestError::SumTooLarge { worker, clock, table, slot, .. }) = &refused else {
            panic!("{before} + {delta}: {refused:?}")
        };
        assert_eq!((*worker, *clock, *table, *slot), (WorkerId(1), Clock(1), TABLE, 3));
        let told = refused.unwrap_err().to_string();
        assert!(told.contains(&format!("a delta of {delta:e}")), "{told}");
        assert_eq!((shard.values(TABLE)[2], shard.values(TABLE)[7]), (0.0, before), "nothing of it is in");
        assert_eq!(shard.clock_of(WorkerId(1)), Some(Clock(0)));
        // Nobody else is refused for what the first has done.
        assert!(shard.handle_flush(&flush(1, 1, &[(2, 1.5), (7, 1e3)])).is_ok());
        let mut shard = shard.with_non_finite(NonFinite::Pass);
        assert!(shard.handle_flush(&flush(1, 2, &[(7, delta)])).is_ok());
    }
}

#[test]
fn one_worker_brings_no_value_to_where_the_others_are_refused() {
    let mut shard = shard(2, None);
    let mut refused = 0;
    for clock in 1..200 {
        refused += u32::from(shard.handle_flush(&flush(0, clock, &[(0, 1e27), (1, -3e38)])).is_err());
        refused += u32::from(shard.handle_flush(&flush(0, clock, &[(0, 1e27)])).is_err());
        let honest = flush(1, clock, &[(0, 0.1), (1, -1e6)]);
        assert!(matches!(shard.handle_flush(&honest), Ok(Flushed::Now(_))), "at {clock}");
        assert!(shard.values(TABLE).iter().all(|value| value.abs() <= MAX_SUM));
    }
    assert!(refused > 300, "{refused}");
}

#[test]
fn deltas_beyond_what_the_job_allows_are_refused_and_named() {
    let mut shard = shard(2, None).with_max_delta(vec![Some(2.0)]);
    assert_eq!(shard.handle_flush(&flush(0, 1, &[(0, 2.0), (3, -2.0)])), Ok(Flushed::Now(None)));
    let refused = shard.handle_flush(&flush(0, 2, &[(0, 1.0), (3, -2.5)])).unwrap_err();
    let told = "worker 0 flushed a delta of -2.5e0 at clock 2: table 0, row in slot 1 of this shard; job.max_delta allows 2e0";
    assert_eq!(refused.to_string(), told);
    assert_eq!(shard.values(TABLE)[..4], [2.0, 0.0, 0.0, -2.0], "nothing of it is in");
    let mut shard = shard.with_max_delta(vec![None]);
    assert!(shard.handle_flush(&flush(0, 2, &[(0, 1e9)])).is_ok());
}

#[test]
fn deltas_beyond_many_times_the_usual_are_refused_and_named() {
    let mut shard = shard(2, None).with_max_times_usual(vec![Some(1000.0)]);
    for clock in 1..=8 {
        for worker in 0..2 {
            // Nothing is known yet, and nothing is refused.
            let size = if (worker, clock) == (0, 1) { 2.0 } else { 1.0 };
            let flushed = shard.handle_flush(&flush(worker, clock, &[(0, size), (3, -size)]));
            assert!(matches!(flushed, Ok(Flushed::Now(_))));
        }
    }
    let before = shard.values(TABLE).to_vec();
    let refused = shard.handle_flush(&flush(0, 9, &[(0, 1.0), (3, -1e6)])).unwrap_err();
    let told = "worker 0 flushed a delta of -1e6 at clock 9: table 0, row in slot 1 of this shard; job.max_delta allows ";
    let allowed = refused.to_string().strip_prefix(told).map(|allowed| allowed.parse::<f32>());
    assert!(matches!(allowed, Some(Ok(1000.0..1200.0))), "{refused}");
    assert_eq!(shard.values(TABLE), before, "nothing of it is in");
    // What is refused is not learnt from, and nobody else is refused for it.
    assert!(shard.handle_flush(&flush(1, 9, &[(0, 1.0), (3, 900.0)])).is_ok());
    assert!(shard.handle_flush(&flush(0, 9, &[(0, 1.0), (3, -1e6)])).is_err());
}

#[test]
fn a_flush_becomes_what_it_has_changed() {
    let mut shard = shard(1, None);
    // The first is as coarse as its value, 1e8, is; the second is exact.
    let mut values = [0.0f32; 2];
    for clock in 1..=1000 {
        let flush = flush(0, clock, &[(0, if clock == 1 { 1e8 } else { 0.3 }), (1, 0.25)]);
        let most = shard.check_flush(&flush).unwrap().expect("it has not come before");
        let mut changes = Vec::new();
        shard.add_flush(&flush, most, Some(&mut changes));
        values.iter_mut().zip(&changes[0].values).for_each(|(value, change)| *value += change);
        assert_eq!(shard.values(TABLE)[..2], values, "what is told is what was added");
    }
    assert_eq!(values[1], 250.0);
    assert!((values[0] - 1e8 - 300.0).abs() <= 16.0, "{values:?}");
}

#[test]
fn a_clock_that_jumps_waits_for_nobody_and_loses_nothing() {
    let (mut shard, now) = (shard(2, Some(0)), Instant::now());
    shard.handle_flush(&flush(0, 1, &[])).unwrap();
    assert_eq!(shard.handle_read(read(0, 1, 0, &[0]), now, &Open), Ok(None));
    assert_eq!(shard.jump(Clock(5)), Some(Clock(5)));
    let reply = shard.poll_reply(now, &Open).expect("the shard is at clock 5");
    assert_eq!(reply.clock, Clock(5), "by which the worker sees that it may go on there");
    assert_eq!(
        shard.handle_flush(&flush(0, 6, &[(0, 1.0)])),
        Ok(Flushed::Now(None)),
        "worker 1 is not that far"
    );
    assert_eq!(shard.handle_flush(&flush(1, 1, &[(0, 2.0)])), Ok(Flushed::Now(None)), "late");
    assert_eq!(shard.handle_flush(&flush(0, 4, &[(0, 9.0)])), Ok(Flushed::Before), "left out is left out");
    assert_eq!(shard.handle_flush(&flush(1, 6, &[(0, 4.0)])), Ok(Flushed::Now(Some(Clock(6)))));
    assert_eq!(shard.values(TABLE)[0], 7.0);
}

#[test]
fn a_restored_shard_knows_what_it_has() {
    let shape = ShardTable { slots: 4, width: 2 };
    let shard = Shard::new(ShardId(0), &[shape], vec![vec![1.0; 8]], 2, Some(0));
    let mut shard = shard.restored(Clock(7), &[Clock(7), Clock(8)]);
    assert!(shard.is_idle());
    assert_eq!(shard.clock(), Clock(7));
    assert_eq!(shard.handle_flush(&flush(1, 8, &[(0, 9.0)])), Ok(Flushed::Before));
    assert_eq!(shard.handle_flush(&flush(0, 8, &[(0, 1.0)])), Ok(Flushed::Now(None)));
    assert_eq!(shard.join(WorkerId(0), Clock(8)), Some(Clock(8)));
    assert_eq!(shard.join(WorkerId(1), Clock(8)), Some(Clock(8)));
    assert_eq!((shard.clock(), shard.values(TABLE)[0]), (Clock(8), 2.0));
    shard.presume_flushed(Clock(9));
    assert_eq!(shard.handle_flush(&flush(0, 9, &[(0, 9.0)])), Ok(Flushed::Before));
}

#[test]
fn values_that_are_replaced_are_new_to_everybody() {
    let (mut shard, now) = (shard(1, None), Instant::now());
    let first = shard.handle_read(read(0, 0, 0, &[0, 1, 3]), now, &Open).unwrap().unwrap();
    shard.overwrite(TABLE, vec![2.0; 8]);
    let second = shard.handle_read(read(0, 0, first.version, &[0, 1, 3]), now, &Open).unwrap().unwrap();
    assert_eq!(second.blocks, [RowBlock::new(TABLE, [0, 1, 3], vec![2.0; 6])]);
}

/// What may happen to a shard of three workers.
#[derive(Clone, Debug)]
enum Step {
    /// The worker ends this many clocks at once.
    Flush(u32, u32),
    /// It says its last flush again, or an earlier one.
    Again(u32, usize),
    Read(u32),
    Suspend(u32),
    Resume(u32),
    Leave(u32),
    Join(u32),
    Jump(u32),
    /// The server starts anew with all that it had.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let worker = || 0..3u32;
    let step = prop_oneof![
        8 => (worker(), prop_oneof![5 => Just(1u32), 1 => 2..5u32]).prop_map(|(w, by)| Step::Flush(w, by)),
        2 => (worker(), 0..4usize).prop_map(|(w, back)| Step::Again(w, back)),
        5 => worker().prop_map(Step::Read),
        1 => worker().prop_map(Step::Suspend),
        1 => worker().prop_map(Step::Resume),
        1 => worker().prop_map(Step::Leave),
        1 => worker().prop_map(Step::Join),
        1 => (1..4u32).prop_map(Step::Jump),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..80)
}

/// A worker as it should be.
#[derive(Clone, Debug, Default)]
struct Model {
    clock: u32,
    flushed: Vec<u32>,
    /// Whether a read may count on it: live without a break since this clock.
    live_since: Option<u32>,
}

proptest! {
    /// Whatever becomes of workers and clocks: each flush counts once, the clock never goes back
    /// nor waits for who is not live, and what a read sees holds all that was flushed as early as
    /// staleness promises, by whoever was live all along.
    #[test]
    fn clocks_that_jump_and_workers_that_come_and_go_lose_nothing(steps in steps(), staleness in 0..3u32) {
        let (mut shard, now) = (shard(3, Some(staleness)), Instant::now());
        let mut workers = vec![Model { live_since: Some(0), ..Model::default() }; 3];
        let (mut sum, mut last) = (0.0, Clock(0));
        for step in steps {
            match step {
                Step::Flush(w, by) => {
                    let worker = &mut workers[w as usize];
                    worker.clock += by;
                    worker.flushed.push(worker.clock);
                    sum += 1.0;
                    let flushed = shard.handle_flush(&flush(w, worker.clock, &[(0, 1.0)]));
                    prop_assert!(matches!(flushed, Ok(Flushed::Now(_))), "{flushed:?}");
                }
                Step::Again(w, back) => {
                    let worker = &workers[w as usize];
                    let Some(&clock) = worker.flushed.iter().rev().nth(back) else { continue };
                    prop_assert_eq!(shard.handle_flush(&flush(w, clock, &[(0, 1.0)])), Ok(Flushed::Before));
                }
                Step::Read(w) => {
                    let clock = workers[w as usize].clock;
                    let reply = shard.handle_read(read(w, clock, 0, &[0]), now, &Open).unwrap();
                    let least = clock.saturating_sub(staleness);
                    // Where nobody trains, there is nothing to wait for.
                    prop_assert_eq!(reply.is_some(), shard.clock().0 >= least || shard.is_idle());
                    if let Some(reply) = reply {
                        prop_assert_eq!(reply.clock, shard.clock());
                        prop_assert_eq!(reply.blocks[0].values()[0], sum);
                        // Who was live all along has flushed its clocks up to then, unless the
                        // shard has jumped past it.
                        for live in workers.iter().filter(|worker| worker.live_since.is_some()) {
                            prop_assert!(live.clock >= least, "{live:?}, {least}");
                        }
                        // As the client does.
                        let worker = &mut workers[w as usize];
                        worker.clock = worker.clock.max(reply.clock.0);
                    }
                }
                Step::Suspend(w) => {
                    shard.suspend(WorkerId(w));
                    workers[w as usize].live_since = None;
                }
                Step::Resume(w) => {
                    if let Some(clock) = shard.resume(WorkerId(w)) {
                        prop_assert!(clock >= last, "{clock} {last}");
                    }
                }
                Step::Leave(w) => {
                    shard.remove_worker(WorkerId(w));
                    workers[w as usize].live_since = None;
                }
                Step::Join(w) => {
                    let worker = &mut workers[w as usize];
                    let clock = shard.join(WorkerId(w), Clock(worker.clock)).unwrap();
                    worker.clock = clock.0;
                    worker.live_since = Some(clock.0);
                }
                Step::Jump(by) => {
                    shard.jump(Clock(shard.clock().0 + by));
                    workers.iter_mut().for_each(|worker| worker.live_since = None);
                }
                Step::Restart => {
                    let flushed: Vec<_> = (0..3).map(|w| shard.flushed(WorkerId(w)).unwrap()).collect();
                    let shape = ShardTable { slots: 4, width: 2 };
                    let values = vec![shard.values(TABLE).to_vec()];
                    let fresh = Shard::new(ShardId(0), &[shape], values, 3, Some(staleness));
                    shard = fresh.restored(shard.clock(), &flushed);
                    workers.iter_mut().for_each(|worker| worker.live_since = None);
                }
            }
            prop_assert!(shard.clock() >= last, "the clock goes back");
            last = shard.clock();
            prop_assert_eq!(shard.values(TABLE)[0], sum);
            if let Some(least) = shard.live_workers().map(|(_, clock)| clock).min() {
                prop_assert!(shard.clock() >= least, "it waits for nobody who is not live");
            }
        }
    }
}

#[test]
fn a_rule_makes_changes_of_gradients_and_tells_them() {
    let rule = Rule::Adagrad { rate: 0.5 };
    let mut shard = shard(2, None).with_rules(&[rule]);
    let pushed = flush(0, 1, &[(2, 3.0)]);
    let most = shard.check_flush(&pushed).unwrap().expect("it is new");
    let mut changes = Vec::new();
    shard.add_flush(&pushed, most, Some(&mut changes));
    assert_eq!(changes[0].values, [-0.5], "what others are to add");
    shard.handle_flush(&flush(1, 1, &[(2, 4.0), (3, -1.0)])).unwrap();
    assert_eq!(shard.values(TABLE), [0.0, 0.0, -0.9, 0.5, 0.0, 0.0, 0.0, 0.0]);
    // What comes from elsewhere are changes already.
    let mut elsewhere = Elements::new(TABLE);
    elsewhere.push(2, 1.0);
    shard.apply(&elsewhere);
    assert!((shard.values(TABLE)[2] - 0.1).abs() < 1e-6);
    // Another process goes on with what was remembered.
    let remembered: Vec<_> =
        shard.remembered().map(|(table, name, values)| (table, name, values.to_vec())).collect();
    assert_eq!(remembered[0].2, [0.0, 0.0, 25.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    let mut again = self::shard(2, None).with_rules(&[rule]);
    assert!(remembered.iter().all(|(table, name, values)| again.remember(*table, name, values)));
    again.handle_flush(&flush(0, 1, &[(2, 12.0)])).unwrap();
    assert!((again.values(TABLE)[2] + 0.5 * 12.0 / 13.0).abs() < 1e-6);
    assert!(!again.remember(TABLE, "velocity", &[0.0; 8]));
}

#[test]
fn a_step_that_would_go_too_far_is_not_made() {
    let mut shard = shard(1, None).with_rules(&[Rule::Sgd { rate: 1e30 }]);
    shard.handle_flush(&flush(0, 1, &[(0, 1e10), (1, 1e-30)])).unwrap();
    assert_eq!(shard.values(TABLE)[0], 0.0);
    assert!((shard.values(TABLE)[1] + 1.0).abs() < 1e-6);
}

#[test]
fn a_worker_that_reads_is_known_to_have_read() {
    let mut shard = shard(2, None).with_rules(&[Rule::Adarevision { rate: 1.0 }]);
    let now = Instant::now();
    for worker in 0..2 {
        shard.handle_read(read(worker, 0, 0, &[0, 1, 2, 3]), now, &Open).unwrap().expect("it is answered");
    }
    shard.handle_flush(&flush(0, 1, &[(0, 2.0)])).unwrap();
    let alone = shard.values(TABLE)[0];
    shard.handle_flush(&flush(1, 1, &[(0, 2.0)])).unwrap();
    // As one step of both, with the squares of their sum: 1 + 4^2.
    assert!(
        (shard.values(TABLE)[0] + 4.0 / 17f32.sqrt()).abs() < 1e-6,
        "{} of {alone}",
        shard.values(TABLE)[0]
    );
}

#[test]
fn a_flush_has_each_row_once_and_as_wide_as_its_table() {
    let mut shard = shard(1, None);
    let row = |slots: std::ops::Range<u32>, width: usize| {
        let values = vec![1.0; slots.len() * width];
        RowBlock::new(TABLE, slots, values)
    };
    let mut flush = |deltas| shard.handle_flush(&Flush { worker: WorkerId(0), clock: Clock(1), deltas });
    assert_eq!(flush(vec![row(0..2, 3)]), Err(RequestError::Width { table: TABLE, found: 3, allowed: 2 }));
    for again in [row(0..1, 2), row(1..3, 2)] {
        let refused = flush(vec![row(0..2, 2), again]);
        assert_eq!(refused, Err(RequestError::Disordered { table: TABLE }));
    }
    assert_eq!(flush(vec![row(0..2, 2), row(3..4, 2)]), Ok(Flushed::Now(Some(Clock(1)))));
    assert_eq!(shard.values(TABLE), [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]);
}

#[test]
fn rows_are_new_only_where_something_was_added() {
    let (mut shard, now) = (shard(1, None), Instant::now());
    let first = shard.handle_read(read(0, 0, 0, &[0, 1, 2, 3]), now, &Open).unwrap().unwrap();
    let deltas = vec![RowBlock::new(TABLE, 0..4, vec![0.0, 0.0, 0.0, 1.0, -0.0, 0.0, 2.0, 0.0])];
    shard.handle_flush(&Flush { worker: WorkerId(0), clock: Clock(1), deltas }).unwrap();
    let second = shard.handle_read(read(0, 1, first.version, &[0, 1, 2, 3]), now, &Open).unwrap().unwrap();
    assert_eq!(second.blocks, [RowBlock::new(TABLE, [1, 3], vec![0.0, 1.0, 2.0, 0.0])]);
}

proptest! {
    /// What nobody else is told of is added in the same way as what somebody is.
    #[test]
    fn values_do_not_depend_on_whether_changes_are_told(
        flushes in prop::collection::vec(prop::collection::vec((0u32..8, -1e3f32..1e3), 0..8), 1..30),
    ) {
        let (mut told, mut untold) = (shard(1, None), shard(1, None));
        for (elements, clock) in flushes.into_iter().zip(1..) {
            let elements: BTreeMap<u32, f32> = elements.into_iter().collect();
            let flush = flush(0, clock, &elements.into_iter().collect::<Vec<_>>());
            let most = told.check_flush(&flush).unwrap().expect("it is new");
            told.add_flush(&flush, most, Some(&mut Vec::new()));
            untold.add_flush(&flush, most, None);
            prop_assert_eq!(told.values(TABLE), untold.values(TABLE));
        }
    }
}
