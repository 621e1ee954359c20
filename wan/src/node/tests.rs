use datacenter::message::{Flush, Read, Request, RowGroup, Wait};
use datacenter::shard::{RequestError, Shard};
use datacenter::{Elements, ShardTable, TableId, WorkerId};

use super::*;
use crate::inbox::MAX_LIFE;
use crate::leeway::Leeway;
use crate::message::{Barrier, Origin, Progress, Resume, WholeRows};
use crate::policy::{
    Budget, BudgetScope, FilterConfig, Goal, Lead, Limit, ReleaseEvery, Schedule, Selection, Significance,
    ValueFormat,
};

const SHARD: ShardId = ShardId(0);
const TABLE: TableId = TableId(0);
const PEER: DatacenterId = DatacenterId(1);

fn policy(lead: Lead, barrier_max_delay: Option<Duration>) -> Policy {
    Policy { barrier_max_delay, ..Policy::naive(lead) }
}

/// A replica with one worker and one mirror, which ships everything.
fn replica(lead: Lead) -> Replica {
    let shape = ShardTable { slots: 20_000, width: 1 };
    let shard = Shard::new(SHARD, &[shape], vec![vec![0.0; shape.elements()]], 1, Some(0));
    Replica::new(shard, &policy(lead, None), [PEER])
}

/// A node of one shard with one worker and one peer, which ships everything.
fn node(lead: Lead, barrier_max_delay: Option<Duration>) -> Node {
    let peer = PeerConfig {
        id: PEER,
        rate_bytes_per_sec: Some(1_000_000),
        window_bytes: None,
        transfer_bytes_per_sec: None,
    };
    let mut node = Node::new(vec![replica(lead)], &[peer], &policy(lead, barrier_max_delay));
    assert_eq!(node.peer(ServerId::first(PEER)), Some(0));
    node
}

fn flush(clock: u32, elements: u32) -> Request {
    let indexes: Vec<u32> = (0..elements).collect();
    // Round values would be sent in a bit or two each.
    let value = |index: &u32| 1.0 + (index.wrapping_mul(0x9e37_79b9) >> 9) as f32 / 8_388_608.0;
    let values = indexes.iter().map(value).collect();
    let deltas = [Elements { table: TABLE, indexes, values }];
    Request::Flush(Flush::of_elements(
        WorkerId(0),
        Clock(clock),
        &deltas,
        &[ShardTable { slots: 20_000, width: 1 }],
    ))
}

fn read(clock: u32) -> Request {
    let groups = vec![RowGroup { table: TABLE, since: 0, slots: [0].into() }];
    Request::Read(Read { worker: WorkerId(0), clock: Clock(clock), groups })
}

fn nothing_applied() -> Greeting {
    Greeting { life: 1, resumes: vec![Resume { shard: SHARD, ..Resume::default() }], ..Greeting::default() }
}

#[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]
fn start() -> Instant {
    Instant::now()
}

#[test]
fn the_derived_lead_follows_round_trip_and_clock_length() {
    // Two and a half clocks there and back: DS is 2 + 3.
    let (start, clock) = (start(), Duration::from_millis(100));
    let mut node = node(Lead::Derived, None);
    node.handle_rtt(0, Duration::from_millis(250), start);
    node.handle_up(0, &nothing_applied(), start).unwrap();
    for own in 1..=6 {
        let now = start + clock * own;
        node.handle_request(SHARD, flush(own, 1), now).unwrap();
        let reply = node.handle_request(SHARD, read(own), now).unwrap();
        let held: Vec<_> = node.replicas()[0].shard().waiting().collect();
        match own {
            ..=5 => assert!(reply.is_some(), "held at a lead of {own}: {held:?}"),
            _ => assert_eq!((reply, held), (None, vec![(WorkerId(0), Wait::MirrorClock(PEER))])),
        }
    }
    // The peer's first clock comes, and with it one of ours.
    let progress =
        Some(Progress { clock: Clock(1), covered: Clock(1), covered_seq: 0, ..Progress::default() });
    let control = ShardControl { shard: SHARD, progress, ..ShardControl::default() };
    node.handle_control(0, &[control], start + clock * 7).unwrap();
    assert!(node.poll_reply(start + clock * 7).is_some());
}

#[test]
fn a_shard_that_has_jumped_ahead_judges_the_lead_by_its_reader() {
    // The peer has gone on without this node, is at 9 and has sent nothing yet: the node takes that clock for its own.
    let now = start();
    let mut node = node(Lead::Limit(2), None);
    node.handle_up(0, &nothing_applied(), now).unwrap();
    node.handle_down(0);
    let resume = Resume { shard: SHARD, clock: Clock(9), life: 1, went_on: true, ..Resume::default() };
    node.handle_up(0, &Greeting { life: 1, resumes: vec![resume], ..Greeting::default() }, now).unwrap();
    assert_eq!(node.replicas()[0].shard().clock(), Clock(9));
    // A worker at 2 does not lead the peer by more than 2, whatever the shard does. At 3 it does.
    assert!(node.handle_request(SHARD, read(2), now).unwrap().is_some());
    assert_eq!(node.handle_request(SHARD, read(3), now), Ok(None));
    let held: Vec<_> = node.replicas()[0].shard().waiting().collect();
    assert_eq!(held, [(WorkerId(0), Wait::MirrorClock(PEER))]);
}

/// The peer has completed `clock`, and its data up to `covered` is here.
fn covers(stream: u32, clock: u32, covered: u32) -> ShardControl {
    let (clock, covered_count) = (Clock(clock), covered);
    let progress = Progress { clock, covered: Clock(covered), covered_count, ..Progress::default() };
    ShardControl { shard: SHARD, stream, progress: Some(progress), ..ShardControl::default() }
}

/// What a node has to say to its peer of whether it waits for it.
fn told_to_go_on(node: &mut Node, now: Instant) -> Option<bool> {
    let progress = node.poll_control(0, now).first().and_then(|control| control.progress);
    progress.map(|progress| progress.went_on)
}

/// A node whose worker is at 4, and whose peer was at 1 when its process died and another came in its place.
fn with_a_peer_that_is_back(now: Instant) -> Node {
    let mut node = node(Lead::Limit(2), Some(Duration::ZERO));
    node.handle_up(0, &nothing_applied(), now).unwrap();
    node.handle_control(0, &[covers(0, 1, 1)], now).unwrap();
    (1..=4).for_each(|clock| _ = node.handle_request(SHARD, flush(clock, 1), now).unwrap());
    assert_eq!(node.handle_request(SHARD, read(4), now), Ok(None), "it leads by three");
    while node.poll_update(0, now).is_some() {}
    assert_eq!(told_to_go_on(&mut node, now), Some(false), "and waits");
    node.handle_down(0);
    assert_eq!(node.poll_reply(now), None, "it may be back soon");
    node.handle_up(0, &Greeting { life: 2, ..nothing_applied() }, now).unwrap();
    node
}

#[test]
fn nobody_waits_for_whoever_is_back_until_it_has_caught_up() {
    let now = start();
    let mut node = with_a_peer_that_is_back(now);
    assert!(node.poll_reply(now).is_some() && node.replicas()[0].is_excused(0));
    assert_eq!(told_to_go_on(&mut node, now), Some(true), "it hears that");
    // Nor for rows that it announces, whatever becomes of the link.
    let barriers = vec![Barrier { table: TABLE, slots: vec![0], from_seq: 1 }];
    node.handle_control(0, &[ShardControl { barriers, ..covers(1, 1, 0) }], now).unwrap();
    node.handle_down(0);
    let knows_us = Resume { shard: SHARD, life: 1, stream: 1, ..Resume::default() };
    node.handle_up(0, &Greeting { life: 2, resumes: vec![knows_us], ..Greeting::default() }, now).unwrap();
    (5..=9).for_each(|clock| _ = node.handle_request(SHARD, flush(clock, 1), now).unwrap());
    assert!(node.handle_request(SHARD, read(9), now).unwrap().is_some());

    // We were at 4 when it came back, and are at 9. It may be behind by two.
    node.handle_control(0, &[covers(1, 9, 1)], now).unwrap();
    assert!(node.replicas()[0].is_excused(0));
    node.handle_control(0, &[covers(1, 9, 7)], now).unwrap();
    assert!(!node.replicas()[0].is_excused(0));
    while node.poll_update(0, now).is_some() {}
    assert_eq!(told_to_go_on(&mut node, now), Some(false), "it hears that too");
    node.handle_request(SHARD, flush(10, 1), now).unwrap();
    assert_eq!(node.handle_request(SHARD, read(10), now), Ok(None), "and is waited for as before");
}

#[test]
fn whoever_does_not_gain_is_waited_for_all_the_same() {
    let now = start();
    let mut node = with_a_peer_that_is_back(now);
    // Each time what was due before is here, as much more is on its way.
    (5..=30).for_each(|clock| _ = node.handle_request(SHARD, flush(clock, 1), now).unwrap());
    node.handle_control(0, &[covers(1, 14, 4)], now).unwrap();
    assert!(node.replicas()[0].is_excused(0), "ten behind");
    node.handle_control(0, &[covers(1, 22, 14)], now).unwrap();
    assert!(node.replicas()[0].is_excused(0), "eight behind: it gains");
    node.handle_control(0, &[covers(1, 30, 21)], now).unwrap();
    assert!(!node.replicas()[0].is_excused(0), "nine behind: it does not");
}

#[test]
fn whoever_was_given_up_is_waited_for_when_it_has_caught_up() {
    let (start, second) = (start(), Duration::from_secs(1));
    let grace = Grace { workers: second, server: second, datacenter: second };
    // It comes back with a hello, or was up all along.
    for with_hello in [true, false] {
        let mut node = node(Lead::Limit(2), None).giving_up(grace);
        node.judge(start);
        node.handle_up(0, &nothing_applied(), start).unwrap();
        node.handle_control(0, &[covers(0, 1, 1)], start).unwrap();
        let now = start + second;
        node.judge(now);
        assert!(node.replicas()[0].is_gone(0));
        (1..=50).for_each(|clock| _ = node.handle_request(SHARD, flush(clock, 1), now).unwrap());
        if with_hello {
            node.handle_down(0);
            let resume = Resume { shard: SHARD, clock: Clock(2), life: 1, ..Resume::default() };
            node.handle_up(0, &Greeting { life: 1, resumes: vec![resume], ..Greeting::default() }, now)
                .unwrap();
        }
        // What is under way of it may come before what it has completed is heard.
        for (clock, covered) in [(2, 1), (3, 3)] {
            node.handle_control(0, &[covers(0, clock, covered)], now).unwrap();
            assert!(node.replicas()[0].is_excused(0), "it is at {covered}, and we at 50");
            assert!(node.handle_request(SHARD, read(50), now).unwrap().is_some());
            assert!(node.greeting(PEER).resumes[0].went_on);
        }
        // It has heard that, and takes our clock.
        node.handle_control(0, &[covers(0, 50, 49)], now).unwrap();
        assert!(!node.replicas()[0].is_excused(0) && !node.greeting(PEER).resumes[0].went_on);

        // So it goes each time.
        let now = now + second;
        node.judge(now);
        (51..=90).for_each(|clock| _ = node.handle_request(SHARD, flush(clock, 1), now).unwrap());
        node.handle_control(0, &[covers(0, 51, 51)], now).unwrap();
        assert!(node.replicas()[0].is_excused(0), "it is at 51, and we at 90");
        let now = now + second;
        node.judge(now);
        (91..=99).for_each(|clock| _ = node.handle_request(SHARD, flush(clock, 1), now).unwrap());
        node.handle_control(0, &[], now).unwrap();
        node.handle_control(0, &[covers(0, 90, 90)], now).unwrap();
        assert!(node.replicas()[0].is_excused(0), "it was away again, and we are at 99");
    }
}

#[test]
fn nobody_waits_for_a_stream_that_begins_anew_until_it_has_caught_up() {
    let now = start();
    let mut node = with_a_peer_that_is_back(now);
    node.handle_control(0, &[covers(1, 4, 4)], now).unwrap();
    assert!(!node.replicas()[0].is_excused(0));
    // It has had rows of us from others, or we have of it: the process is the same.
    node.handle_control(0, &[covers(2, 4, 0)], now).unwrap();
    assert!(node.replicas()[0].is_excused(0));
    // What it says of a clock that was here before counts when it is here again.
    let again = Progress { covered_seq: 1, ..covers(2, 4, 3).progress.unwrap() };
    node.handle_control(0, &[ShardControl { progress: Some(again), ..covers(2, 4, 3) }], now).unwrap();
    assert!(node.replicas()[0].is_excused(0));
    let update = Update { shard: SHARD, stream: 2, seq: 1, clock: Clock(4), ..Update::default() };
    node.handle_update(0, &update, 1, now).unwrap();
    assert!(!node.replicas()[0].is_excused(0));
}

#[test]
fn whoever_is_back_and_has_nothing_to_say_has_caught_up() {
    let now = start();
    let mut node = with_a_peer_that_is_back(now);
    let idle = Progress { clock: Clock(1), pauses: 1, last_seq: Some(0), ..Progress::default() };
    let control = ShardControl { shard: SHARD, stream: 1, progress: Some(idle), ..ShardControl::default() };
    node.handle_control(0, &[control], now).unwrap();
    assert!(!node.replicas()[0].is_excused(0));
    assert!(node.handle_request(SHARD, read(4), now).unwrap().is_some(), "it has no workers");
}

#[test]
fn whoever_was_given_up_and_has_nothing_to_say_has_caught_up() {
    let (start, second) = (start(), Duration::from_secs(1));
    let grace = Grace { workers: second, server: second, datacenter: second };
    let mut node = node(Lead::Limit(2), None).giving_up(grace);
    node.judge(start);
    node.handle_up(0, &nothing_applied(), start).unwrap();
    let idle = Progress { clock: Clock(1), pauses: 1, last_seq: Some(0), ..Progress::default() };
    let control = ShardControl { shard: SHARD, progress: Some(idle), ..ShardControl::default() };
    node.handle_control(0, &[control], start).unwrap();
    (1..=4).for_each(|clock| _ = node.handle_request(SHARD, flush(clock, 1), start).unwrap());
    let now = start + second;
    node.judge(now);
    assert!(node.replicas()[0].is_gone(0));
    // A heartbeat says nothing of most shards.
    node.handle_control(0, &[], now).unwrap();
    assert!(!node.replicas()[0].is_gone(0) && !node.replicas()[0].is_excused(0));
}

#[test]
fn a_shard_that_nobody_has_trained_on_for_long_goes_on_where_the_others_are() {
    let (start, second) = (start(), Duration::from_secs(1));
    let grace = Grace { workers: 3 * second, server: second, datacenter: 60 * second };
    let worker = WorkerId(0);
    for (seconds, expected) in [(2, 1), (3, 40)] {
        for is_suspended in [true, false] {
            let mut node = node(Lead::Limit(2), None).giving_up(grace);
            node.handle_up(0, &nothing_applied(), start).unwrap();
            node.handle_request(SHARD, flush(1, 1), start).unwrap();
            match is_suspended {
                true => _ = node.suspend(worker, start),
                false => _ = node.handle_request(SHARD, Request::Leave(worker), start).unwrap(),
            }
            node.judge(start);
            node.handle_control(0, &[covers(0, 40, 40)], start + second).unwrap();
            let now = start + second * seconds;
            if is_suspended {
                node.resume_worker(worker, now);
            } else {
                assert!(!node.resume_worker(worker, now), "it has left");
                assert_eq!(node.replicas()[0].shard().clock(), Clock(1));
                node.join(worker, Clock(1), now);
            }
            assert_eq!(node.replicas()[0].shard().clock_of(worker), Some(Clock(expected)), "{seconds} s");
        }
    }
}

#[test]
fn who_is_not_waited_for_takes_the_clock_of_those_who_go_on() {
    let now = start();
    let mut node = node(Lead::Limit(3), None);
    node.handle_up(0, &nothing_applied(), now).unwrap();
    let says = |clock: u32, went_on| {
        let progress = Progress { clock: Clock(clock), went_on, ..Progress::default() };
        ShardControl { shard: SHARD, progress: Some(progress), ..ShardControl::default() }
    };
    for (clock, went_on, expected) in
        [(9, false, 0), (3, true, 0), (9, true, 9), (12, true, 9), (13, true, 13)]
    {
        node.handle_control(0, &[says(clock, went_on)], now).unwrap();
        assert_eq!(node.replicas()[0].shard().clock(), Clock(expected), "at {clock}, {went_on}");
    }
    // Where any lead is allowed nobody will have to wait for it, and it leaves nothing out.
    let mut free = self::node(Lead::Unlimited, None);
    free.handle_up(0, &nothing_applied(), now).unwrap();
    free.handle_control(0, &[says(900, true)], now).unwrap();
    assert_eq!(free.replicas()[0].shard().clock(), Clock(0));
}

#[test]
fn nobody_is_beyond_the_end_of_the_job() {
    let now = start();
    let mut node = node(Lead::Unlimited, None).ending_at(Clock(9));
    let worker = WorkerId(0);
    let beyond = Err(RequestError::BeyondEnd { worker, found: Clock(10), end: Clock(9) });
    assert_eq!(node.handle_request(SHARD, flush(10, 1), now), beyond);
    assert_eq!(node.handle_request(SHARD, read(10), now), beyond);
    assert_eq!(node.join(worker, Clock(10), now), [(SHARD, Clock(9))]);

    let beyond = |found| PeerError::BeyondEnd { found: Clock(found), end: Clock(9) };
    let greeting = |life, resume| Greeting { life, resumes: vec![resume], ..Greeting::default() };
    let ahead = Resume { shard: SHARD, clock: Clock(11), ..Resume::default() };
    assert_eq!(node.handle_up(0, &greeting(1, ahead), now), Err(beyond(11)));
    let heard = Resume { shard: SHARD, heard_clock: Clock(12), ..Resume::default() };
    assert_eq!(node.handle_up(0, &greeting(1, heard), now), Err(beyond(12)));
    // Nor has anybody started after the last process that there can be.
    let absurd = Err(PeerError::AbsurdLife { micros: u64::MAX });
    assert_eq!(
        node.handle_up(0, &greeting(u64::MAX, Resume { shard: SHARD, ..Resume::default() }), now),
        absurd
    );
    let known = Resume { shard: SHARD, life: u64::MAX, ..Resume::default() };
    assert_eq!(node.handle_up(0, &greeting(1, known), now), absurd);
    // Nor is there a number for us after the last.
    let last = Resume { shard: SHARD, life: MAX_LIFE, ..Resume::default() };
    let absurd = |found: Result<(), PeerError>| matches!(found, Err(PeerError::AbsurdLife { .. }));
    assert!(absurd(node.handle_up(0, &greeting(1, last), now)));

    node.handle_up(0, &nothing_applied(), now).unwrap();
    let rows = WholeRows { origin: Origin::Sender, stamps: Vec::new(), is_last: true, life: MAX_LIFE + 1 };
    let update = Update { shard: SHARD, seq: 1, rows: Some(rows), ..Update::default() };
    assert!(absurd(node.handle_update(0, &update, 1, now)));
    let update = Update { shard: SHARD, seq: 1, clock: Clock(13), ..Update::default() };
    assert_eq!(node.handle_update(0, &update, 1, now), Err(beyond(13)));
    let progress = Some(Progress { clock: Clock(14), ..Progress::default() });
    let control = ShardControl { shard: SHARD, progress, ..ShardControl::default() };
    assert_eq!(node.handle_control(0, &[control], now), Err(beyond(14)));
}

#[test]
fn a_hello_names_the_shards_that_are_shared() {
    let policy = Policy::naive(Lead::Unlimited);
    let shape = ShardTable { slots: 2, width: 1 };
    let replica = |id| {
        let shard = Shard::new(ShardId(id), &[shape], vec![vec![0.0; 2]], 1, Some(0));
        Replica::new(shard, &policy, [PEER])
    };
    let peer =
        PeerConfig { id: PEER, rate_bytes_per_sec: None, window_bytes: None, transfer_bytes_per_sec: None };
    let mut node = Node::new([0, 2, 4].map(replica).into(), &[peer], &policy);
    let resumes = |shards: &[u16]| -> Vec<Resume> {
        shards.iter().map(|&s| Resume { shard: ShardId(s), is_whole: true, ..Resume::default() }).collect()
    };
    let greeting = |shards: &[u16]| Greeting { life: 1, resumes: resumes(shards), ..Greeting::default() };
    assert_eq!(node.greeting(PEER).resumes, resumes(&[0, 2, 4]));
    assert_eq!(node.greeting(DatacenterId(7)).resumes, []);

    // The peer's datacenter has three servers where ours has two.
    let servers: Vec<_> =
        (0..3).map(|index| node.peer(ServerId { datacenter: PEER, index }).unwrap()).collect();
    assert_eq!(node.peer(ServerId::first(DatacenterId(7))), None);
    assert_eq!(node.handle_up(servers[0], &greeting(&[0, 3]), start()), Ok(()));
    assert_eq!(node.handle_up(servers[1], &greeting(&[1, 4]), start()), Ok(()));
    assert_eq!(node.handle_up(servers[2], &greeting(&[1, 3]), start()), Err(PeerError::NothingShared));
    let doubled = PeerError::HostedTwice { shard: ShardId(4), by: 1 };
    assert_eq!(node.handle_up(servers[2], &greeting(&[2, 4]), start()), Err(doubled));
    assert_eq!(node.handle_up(servers[2], &greeting(&[2, 5]), start()), Ok(()));

    // What is flushed goes to where its shard is mirrored.
    for shard in [0, 2, 4].map(ShardId) {
        node.handle_request(shard, flush(1, 1), start()).unwrap();
    }
    let sent = servers.iter().map(|&at| node.poll_update(at, start()).unwrap().update.shard.0);
    assert_eq!(sent.collect::<Vec<_>>(), [0, 4, 2]);
    let update = Update { shard: ShardId(4), seq: 1, ..Update::default() };
    assert_eq!(
        node.handle_update(servers[0], &update, 1, start()),
        Err(PeerError::UnknownShard(ShardId(4))),
        "another server's"
    );
    assert_eq!(node.handle_update(servers[1], &update, 1, start()), Ok(()));
}

#[test]
fn nobody_waits_for_a_mirror_without_workers() {
    let now = start();
    let mut node = node(Lead::Limit(0), None);
    node.handle_up(0, &nothing_applied(), now).unwrap();
    node.handle_request(SHARD, flush(1, 1), now).unwrap();
    let held = |node: &Node| node.replicas()[0].shard().waiting().next();
    assert_eq!(node.handle_request(SHARD, read(1), now), Ok(None));
    assert_eq!(held(&node), Some((WorkerId(0), Wait::MirrorClock(PEER))));

    // It says that its workers have left, and that update 1 is its last: only when that has come there is nothing to wait for.
    let say = |node: &mut Node, pauses, last_seq| {
        let progress = Some(Progress { pauses, last_seq, ..Progress::default() });
        let control = ShardControl { shard: SHARD, progress, ..ShardControl::default() };
        node.handle_control(0, &[control], now).unwrap();
        node.poll_reply(now)
    };
    assert_eq!(say(&mut node, 1, None), None);
    assert_eq!(say(&mut node, 1, Some(1)), None);
    assert_eq!(say(&mut node, 1, None), None, "an earlier word that comes late");
    node.handle_update(0, &Update { shard: SHARD, seq: 1, ..Update::default() }, 1, now).unwrap();
    assert!(node.poll_reply(now).is_some());

    // They are back.
    assert_eq!(say(&mut node, 2, None), None);
    assert_eq!(node.handle_request(SHARD, read(1), now), Ok(None));
    assert_eq!(held(&node), Some((WorkerId(0), Wait::MirrorClock(PEER))));
    // Its process stops of its own will.
    node.handle_left(0);
    assert!(node.poll_reply(now).is_some());
    assert!(!node.is_settled(), "our own worker is there");
    node.handle_request(SHARD, Request::Leave(WorkerId(0)), now).unwrap();
    assert!(node.is_settled());
    assert_eq!(node.join(WorkerId(0), Clock(0), now), [(SHARD, Clock(1))]);
    assert!(!node.is_settled());
}

#[test]
fn where_nobody_trains_any_more_the_clocks_since_the_last_release_are_stated_at_once() {
    let now = start();
    let mut node = node_that_speaks_rarely(now);
    (1..=6).for_each(|clock| _ = node.handle_request(SHARD, flush(clock, 1), now).unwrap());
    let stated = |node: &mut Node| {
        while node.poll_update(0, now).is_some() {}
        let said = node.poll_control(0, now);
        said.first().and_then(|control| control.progress).map(|progress| progress.clock.0)
    };
    assert_eq!(stated(&mut node), Some(4), "at every fourth");
    node.handle_request(SHARD, Request::Leave(WorkerId(0)), now).unwrap();
    assert_eq!(stated(&mut node), Some(6));
}

/// A node of one shard with one worker, which releases at every fourth clock.
fn node_that_speaks_rarely(now: Instant) -> Node {
    let rarely = Policy { release_every: ReleaseEvery::Clocks(4), ..policy(Lead::Unlimited, None) };
    let shape = ShardTable { slots: 4, width: 1 };
    let shard = Shard::new(SHARD, &[shape], vec![vec![0.0; shape.elements()]], 1, None);
    let peer =
        PeerConfig { id: PEER, rate_bytes_per_sec: None, window_bytes: None, transfer_bytes_per_sec: None };
    let mut node = Node::new(vec![Replica::new(shard, &rarely, [PEER])], &[peer], &rarely);
    node.peer(ServerId::first(PEER)).unwrap();
    node.handle_up(0, &nothing_applied(), now).unwrap();
    node
}

#[test]
fn what_has_come_is_confirmed_with_the_next_statement_and_in_a_second_to_whoever_trains_no_more() {
    let (now, second) = (start(), Duration::from_secs(1));
    let mut node = node_that_speaks_rarely(now);
    let train = |node: &mut Node, clock: u32| {
        let at = now + clock * second;
        node.handle_request(SHARD, flush(clock, 1), at).unwrap();
        while node.poll_update(0, at).is_some() {}
        node.poll_control(0, at).first().and_then(|control| control.applied)
    };
    let comes = |node: &mut Node, seq, at| {
        node.handle_update(0, &Update { shard: SHARD, seq, ..Update::default() }, 1, at).unwrap();
    };
    (1..=4).for_each(|clock| _ = train(&mut node, clock));
    comes(&mut node, 1, now + 5 * second);
    assert_eq!([5, 6, 7, 8].map(|clock| train(&mut node, clock)), [None, None, None, Some(1)]);
    comes(&mut node, 2, now + 9 * second);
    let paused = Some(Progress { pauses: 1, ..Progress::default() });
    let control = ShardControl { shard: SHARD, progress: paused, ..ShardControl::default() };
    node.handle_control(0, &[control], now + 9 * second).unwrap();
    assert_eq!(node.poll_control(0, now + 9 * second), []);
    assert_eq!(node.poll_timeout(0), Some(now + 10 * second));
    assert_eq!(node.poll_control(0, now + 10 * second)[0].applied, Some(2));
}

#[test]
fn the_window_bounds_what_flies_and_a_confirmation_makes_room() {
    let now = start();
    let mut node = node(Lead::Unlimited, None);
    // A window of the least size and an update more: some eight of 32 KiB.
    node.handle_up(0, &nothing_applied(), now).unwrap();
    let mut sent: Vec<_> = Vec::new();
    for clock in 1..100 {
        node.handle_request(SHARD, flush(clock, 20_000), now).unwrap();
        sent.extend(std::iter::from_fn(|| node.poll_update(0, now)));
    }
    let flying: u64 = sent.iter().map(|o| o.bytes).sum();
    let bound = node.window_bytes(0) + 2 * crate::outbox::UPDATE_TARGET_BYTES as u64;
    assert!((node.window_bytes(0)..bound).contains(&flying), "{flying} of {bound}");
    let control = ShardControl { shard: SHARD, applied: Some(2), ..ShardControl::default() };
    node.handle_control(0, &[control], now).unwrap();
    assert!(node.poll_update(0, now).is_some());
}

#[test]
fn a_backlog_raises_a_barrier_once_a_clock() {
    let now = start();
    let mut node = node(Lead::Unlimited, Some(Duration::from_millis(50)));
    node.handle_up(0, &nothing_applied(), now).unwrap();
    // Over a link of 1 MB/s, 20,000 elements take a tenth of a second; most fly within the window.
    let mut announced = Vec::new();
    for clock in 1..=8 {
        node.handle_request(SHARD, flush(clock, 20_000), now).unwrap();
        while node.poll_update(0, now).is_some() {}
        let controls = node.poll_control(0, now);
        announced.push(controls.iter().flat_map(|c| &c.barriers).map(|b| b.slots.len()).sum::<usize>());
        assert!(node.poll_control(0, now).iter().all(|c| c.barriers.is_empty()), "said once");
    }
    assert_eq!(announced[0], 0, "nothing waits behind the window yet");
    assert!(announced.iter().any(|rows| *rows > 0), "{announced:?}");
    let rows: u64 = announced.iter().map(|rows| *rows as u64).sum();
    assert_eq!(node.sent(0).announced_rows, rows);
}

#[test]
fn a_suspended_worker_holds_up_nobody_and_what_comes_late_of_it_is_shipped() {
    let now = start();
    let mut node = node(Lead::Unlimited, None);
    node.handle_up(0, &nothing_applied(), now).unwrap();
    assert!(node.suspend(WorkerId(0), now));
    assert!(!node.suspend(WorkerId(0), now), "nobody waits for it any more");
    assert!(node.is_idle());
    let told = node.poll_control(0, now).remove(0).progress.expect("nobody trains here now");
    assert_eq!((told.pauses, told.last_seq), (1, Some(0)));
    node.handle_request(SHARD, flush(1, 2), now).unwrap();
    let late = node.poll_update(0, now).expect("nothing follows that could take it along");
    assert_eq!(late.update.deltas[0].indexes, [0, 1]);
    assert_eq!(node.replicas()[0].shard().clock(), Clock(0));
    assert!(node.resume_worker(WorkerId(0), now));
    assert!(!node.resume_worker(WorkerId(0), now));
    assert_eq!(node.poll_control(0, now).remove(0).progress.map(|progress| progress.pauses), Some(2));
    node.handle_request(SHARD, flush(2, 1), now).unwrap();
    assert_eq!(node.replicas()[0].shard().clock(), Clock(2));
}

#[test]
fn what_is_applied_in_new_numbers_is_confirmed_also_where_it_is_as_much_as_before() {
    let now = start();
    let mut node = node(Lead::Unlimited, None);
    node.handle_up(0, &nothing_applied(), now).unwrap();
    for stream in [0, 1] {
        let update = Update { shard: SHARD, stream, seq: 1, count: 1, ..Update::default() };
        node.handle_update(0, &update, 1, now).unwrap();
        let said = node.poll_control(0, now + CONFIRM_DELAY);
        let said: Vec<_> = said.iter().map(|control| (control.applied_stream, control.applied)).collect();
        assert_eq!(said, [(stream, Some(1))]);
    }
}

#[test]
fn a_process_that_has_been_replaced_is_not_let_in() {
    let (now, mut node) = (start(), node(Lead::Unlimited, None));
    let of = |life| Greeting { life, ..nothing_applied() };
    node.handle_up(0, &of(5), now).unwrap();
    assert_eq!(node.handle_up(0, &of(4), now), Err(PeerError::FormerLife));
    node.handle_down(0);
    assert_eq!(node.handle_up(0, &of(4), now), Err(PeerError::FormerLife), "nor when it comes alone");
    node.handle_up(0, &of(6), now).unwrap();
}

#[test]
fn the_next_process_knows_how_far_the_others_had_come() {
    const HERE: DatacenterId = DatacenterId(0);
    let now = start();
    let first = || node(Lead::Unlimited, None);
    let mut before = first();
    before.handle_up(0, &nothing_applied(), now).unwrap();
    let progress = Some(Progress { clock: Clock(7), ..Progress::default() });
    let control = ShardControl { shard: SHARD, progress, ..ShardControl::default() };
    before.handle_control(0, &[control], now).unwrap();
    let state = before.replicas[0].state(HERE);

    let begins = |state| replica(Lead::Unlimited).restored(state, HERE);
    let mut after = first();
    after.replicas = replicas::Replicas::new(vec![begins(state.clone()).unwrap()]);
    assert_eq!(after.greeting(PEER).resumes[0].heard_clock, Clock(7));
    // And a checkpoint that says what nobody can have heard is none.
    let mut absurd = state.clone();
    absurd.origins[1].heard_clock = Clock(u32::MAX);
    assert!(begins(absurd).is_err());
    let mut absurd = state;
    absurd.origins[1].life = u64::MAX;
    assert!(begins(absurd).is_err());
}

#[test]
fn processes_that_know_of_the_same_one_take_numbers_of_their_own_whatever_the_clock_says() {
    let hour = 3_600_000_000;
    let (first, second) = (life_after(hour, 1_000_250), life_after(hour, 31_000_300));
    assert_eq!((first, second), (hour + 251, hour + 301));
    assert_eq!(life_after(hour, hour + 1), hour + 1);
}

#[test]
fn who_has_left_for_good_is_not_waited_for_nor_let_in_nor_kept_anything_for() {
    let start = start();
    let mut node = node(Lead::Limit(0), None);
    node.handle_up(0, &nothing_applied(), start).unwrap();
    node.handle_request(SHARD, flush(1, 3), start).unwrap();
    assert_eq!(node.handle_request(SHARD, read(1), start).unwrap(), None, "the peer is behind");
    assert!(node.depart(PEER), "it is news");
    assert!(!node.depart(PEER) && !node.depart(DatacenterId(7)), "and that is not");
    assert!(node.poll_reply(start).is_some(), "nobody waits for it");
    assert_eq!((node.poll_update(0, start), node.poll_control(0, start)), (None, vec![]), "nor talks to it");
    node.handle_request(SHARD, flush(2, 3), start).unwrap();
    assert_eq!((node.waiting_bytes(0), node.is_drained()), (0, true), "nor keeps anything for it");
    assert_eq!(node.presence(0, 0, start).0, Presence::Left);
    let departed = Err(PeerError::Departed(PEER));
    assert_eq!(node.handle_up(0, &nothing_applied(), start), departed);
    assert!(node.is_departed(0), "its link is to be closed");
    let control = ShardControl { shard: SHARD, applied: Some(77), ..ShardControl::default() };
    assert_eq!(node.handle_control(0, &[control], start), Ok(()), "what is still under way means nothing");
    assert_eq!(node.greeting(PEER).departed, [PEER], "so that it is refused");
}

#[test]
fn the_naive_baseline_is_charged_to_a_link_while_its_peer_is_there_and_no_longer() {
    let now = start();
    let mut node = node(Lead::Unlimited, None);
    node.handle_up(0, &nothing_applied(), now).unwrap();
    let counted = |node: &mut Node, clocks: std::ops::RangeInclusive<u32>| {
        clocks.for_each(|clock| _ = node.handle_request(SHARD, flush(clock, 100), now).unwrap());
        while node.poll_update(0, now).is_some() {}
        node.poll_control(0, now);
        node.sent(0).naive_payload_bytes
    };
    let all = |node: &Node| node.replicas()[0].filter().counters().naive_payload_bytes;
    let there = counted(&mut node, 1..=3);
    assert!(there > 0 && there == all(&node));
    // It may be back soon, and is sent then what was completed meanwhile.
    node.handle_down(0);
    assert_eq!(counted(&mut node, 4..=5), there, "nothing goes over a link that is down");
    node.handle_up(0, &nothing_applied(), now).unwrap();
    let back = counted(&mut node, 6..=6);
    assert_eq!(back, all(&node));

    // It is gone: nobody would send it anything, and nobody makes up for that in numbers when it returns.
    node.handle_down(0);
    node.handle_request(SHARD, flush(7, 100), now).unwrap();
    node.replicas.change(0, |replica| replica.give_up(0));
    assert_eq!(counted(&mut node, 8..=20), back);
    node.replicas.change(0, |replica| replica.take_up(0));
    node.handle_up(0, &nothing_applied(), now).unwrap();
    let before = all(&node);
    let returned = counted(&mut node, 21..=22);
    assert_eq!(returned - back, all(&node) - before, "only what was completed since");

    // It has left for good.
    node.depart(PEER);
    assert_eq!(counted(&mut node, 23..=30), returned);
}

#[test]
fn nobody_says_of_itself_or_of_us_that_it_has_left() {
    let mut node = node(Lead::Unlimited, None);
    for id in [PEER, DatacenterId(0), DatacenterId(9)] {
        let greeting = Greeting { departed: vec![id], ..nothing_applied() };
        assert_eq!(node.handle_up(0, &greeting, start()), Err(PeerError::UnknownOrigin(id)));
    }
    assert_eq!(node.departed().count(), 0);
}

#[test]
fn whole_rows_that_are_none_are_refused() {
    let now = start();
    let mut node = node(Lead::Unlimited, None);
    node.handle_up(0, &nothing_applied(), now).unwrap();
    for origin in [Origin::All, Origin::Sender, Origin::Receiver] {
        let rows = Some(WholeRows { origin, stamps: vec![vec![]], is_last: true, life: 1 });
        let update = Update {
            shard: SHARD,
            seq: 1,
            count: 1,
            deltas: vec![Elements::new(TABLE)],
            rows,
            ..Update::default()
        };
        assert_eq!(node.handle_update(0, &update, 1, now), Err(PeerError::TornRows { seq: 1, table: TABLE }));
    }
}

/// A node of so many shards, each with two workers and the same mirrors, of which each has one server or more.
fn mesh(shards: u16, mirrors: &[ServerId], policy: &Policy, make: impl Fn(Replica) -> Replica) -> Node {
    let mut ids: Vec<_> = mirrors.iter().map(|server| server.datacenter).collect();
    ids.dedup();
    let shape = ShardTable { slots: 1000, width: 1 };
    let replica = |id| {
        let shard = Shard::new(ShardId(id), &[shape], vec![vec![0.0; shape.elements()]], 2, Some(0));
        make(Replica::new(shard, policy, ids.iter().copied()))
    };
    let config = |id: &DatacenterId| PeerConfig {
        id: *id,
        rate_bytes_per_sec: Some(100_000),
        window_bytes: Some(100_000),
        transfer_bytes_per_sec: None,
    };
    let configs: Vec<_> = ids.iter().map(config).collect();
    let mut node = Node::new((0..shards).map(replica).collect(), &configs, policy);
    (0..).zip(mirrors).for_each(|(at, server)| assert_eq!(node.peer(*server), Some(at)));
    node
}

const SERVERS: [ServerId; 2] =
    [ServerId { datacenter: PEER, index: 0 }, ServerId { datacenter: PEER, index: 1 }];

const OTHERS: [ServerId; 2] =
    [ServerId { datacenter: PEER, index: 0 }, ServerId { datacenter: DatacenterId(2), index: 0 }];

/// What a process says that hosts these shards and has everything.
fn hosts(life: u64, shards: &[u16]) -> Greeting {
    let resume =
        |shard: &u16| Resume { shard: ShardId(*shard), newest: 3, is_whole: true, ..Resume::default() };
    Greeting { life, resumes: shards.iter().map(resume).collect(), ..Greeting::default() }
}

fn is_asked_for_values(node: &mut Node, peer: usize, now: Instant) -> bool {
    while node.poll_update(peer, now).is_some() {}
    node.poll_control(peer, now).iter().any(|control| control.wants_values)
}

#[test]
fn values_are_wanted_of_whom_there_is_a_link_with_and_to_ask_what_to_say_first_makes_none() {
    let now = start();
    let mut node = mesh(1, &OTHERS, &policy(Lead::Limit(2), None), Replica::without_state);
    // The first is dead, and dialled again and again.
    (0..3).for_each(|_| assert_eq!(node.greeting(PEER).resumes.len(), 1));
    assert_eq!(node.replicas()[0].donor(), None);
    node.handle_up(1, &hosts(1, &[0]), now).unwrap();
    assert!(is_asked_for_values(&mut node, 1, now));
    assert!(!is_asked_for_values(&mut node, 1, now), "once");
    // What was said on a link may be lost with it.
    node.handle_down(1);
    node.handle_up(1, &hosts(1, &[0]), now).unwrap();
    assert!(is_asked_for_values(&mut node, 1, now));
    // Of one at a time; the next is asked as soon as that one is gone.
    node.handle_up(0, &hosts(1, &[0]), now).unwrap();
    assert!(!is_asked_for_values(&mut node, 0, now));
    node.handle_left(1);
    assert!(is_asked_for_values(&mut node, 0, now));
}

#[test]
fn whoever_asks_for_values_twice_is_given_them_once() {
    let now = start();
    let mut node = node(Lead::Unlimited, None);
    node.handle_up(0, &nothing_applied(), now).unwrap();
    node.handle_request(SHARD, flush(1, 3), now).unwrap();
    let asks = ShardControl { shard: SHARD, wants_values: true, ..ShardControl::default() };
    let mut sums = 0;
    for _ in 0..2 {
        node.handle_control(0, std::slice::from_ref(&asks), now).unwrap();
        while let Some(outgoing) = node.poll_update(0, now) {
            sums += usize::from(outgoing.update.rows.as_ref().is_some_and(|rows| rows.origin == Origin::All));
        }
    }
    assert_eq!(sums, 1);
}

#[test]
fn reads_that_waited_for_workers_are_answered_when_the_last_one_is_gone() {
    let (now, policy) = (start(), policy(Lead::Unlimited, None));
    let (one, other) = (WorkerId(0), WorkerId(1));
    for is_suspended in [true, false] {
        let mut node = mesh(1, &OTHERS, &policy, |replica| replica);
        node.handle_up(0, &nothing_applied(), now).unwrap();
        node.handle_request(SHARD, flush(1, 1), now).unwrap();
        assert_eq!(node.handle_request(SHARD, read(1), now), Ok(None), "the other is at 0");
        node.suspend(one, now);
        let update = Update { shard: SHARD, seq: 1, ..Update::default() };
        node.handle_update(0, &update, 1, now).unwrap();
        assert_eq!(node.poll_reply(now), None);
        while node.poll_update(0, now).is_some() {}
        node.poll_control(0, now);
        let update = Update { shard: SHARD, seq: 2, ..Update::default() };
        node.handle_update(0, &update, 1, now).unwrap();
        assert_eq!(node.poll_reply(now), None);
        match is_suspended {
            true => assert!(node.suspend(other, now)),
            false => _ = node.handle_request(SHARD, Request::Leave(other), now).unwrap(),
        }
        assert_eq!(node.replicas()[0].shard().clock(), Clock(0), "it has not moved");
        assert!(node.poll_reply(now).is_some(), "nobody is left to wait for");
        while node.poll_update(0, now).is_some() {}
        let said = node.poll_control(0, now);
        assert_eq!(said[0].applied, Some(2), "nothing follows that could take the confirmation along");
        assert_eq!(said[0].progress.map(|progress| progress.pauses), Some(1));
    }
}

#[test]
fn reads_that_a_longer_path_allows_are_answered_when_it_is_known() {
    let now = start();
    let mut node = node(Lead::Derived, None);
    node.handle_up(0, &nothing_applied(), now).unwrap();
    let clock = Duration::from_millis(100);
    for own in 1..=3 {
        node.handle_request(SHARD, flush(own, 1), now + clock * own).unwrap();
    }
    assert_eq!(node.handle_request(SHARD, read(3), now + clock * 3), Ok(None), "it leads by three");
    assert_eq!(node.poll_reply(now + clock * 3), None);
    node.handle_rtt(0, Duration::from_millis(250), now + clock * 3);
    assert!(node.poll_reply(now + clock * 4).is_some(), "five are allowed on such a path");
}

#[test]
fn a_server_that_began_with_nothing_is_ready_when_all_who_could_give_it_something_have_left() {
    let now = start();
    let mut node = mesh(1, &OTHERS[..1], &policy(Lead::Limit(2), None), Replica::without_state);
    node.handle_up(0, &hosts(1, &[0]), now).unwrap();
    assert!(!node.is_ready(), "it is to give back what it has");
    node.handle_left(0);
    assert!(node.is_ready());
}

#[test]
fn a_region_that_returns_with_fewer_servers_is_let_in_while_the_link_of_a_dead_one_is_up() {
    let now = start();
    for (life, expected) in [
        (9, Ok(())),
        (7, Err(PeerError::HostedTwice { shard: ShardId(1), by: 1 })),
        (6, Err(PeerError::FormerLife)),
    ] {
        let mut node = mesh(2, &SERVERS, &policy(Lead::Limit(2), None), |replica| replica);
        node.handle_up(0, &hosts(5, &[0]), now).unwrap();
        node.handle_up(1, &hosts(7, &[1]), now).unwrap();
        // Its own link is replaced by the driver, as it is the same server.
        node.handle_down(0);
        assert_eq!(node.handle_up(0, &hosts(life, &[0, 1]), now), expected, "process {life}");
        assert_eq!(node.is_up(1), expected.is_err(), "process {life}");
        if expected.is_ok() {
            assert_eq!(node.shared(0).count(), 2);
            let update = Update { shard: ShardId(1), seq: 1, ..Update::default() };
            assert!(node.handle_update(1, &update, 1, now).is_err(), "what is left of the dead one");
            // The one that is replaced may live, and says so again.
            assert_eq!(node.handle_up(1, &hosts(7, &[1]), now), Err(PeerError::FormerLife));
        }
    }
}

/// What happens of a region of two servers, each of which hosts one of our two shards, in milliseconds.
struct Heard {
    /// When something comes of each; from the first time on, it has a link.
    servers: [Vec<u64>; 2],
    /// When a server answers that hosts none of our shards.
    sighted: Vec<u64>,
}

/// When each shard's server is given up, in milliseconds; judged only when the node wants to be woken, or something comes.
fn given_up(shards: u16, heard: &Heard, server: u64, datacenter: u64) -> Vec<Option<u64>> {
    let grace = Grace {
        workers: Duration::from_secs(3600),
        server: Duration::from_millis(server),
        datacenter: Duration::from_millis(datacenter),
    };
    let mut node = mesh(shards, &SERVERS, &policy(Lead::Limit(2), None), |replica| replica).giving_up(grace);
    let start = start();
    let mut gone = vec![None; usize::from(shards)];
    node.judge(start);
    for shard in 0..shards {
        node.handle_up(usize::from(shard), &hosts(1, &[shard]), start).unwrap();
    }
    let (mut at, end) = (0, 100_000);
    while at < end {
        let now = start + Duration::from_millis(at);
        for (peer, times) in heard.servers.iter().enumerate() {
            if times.contains(&at) {
                node.handle_control(peer, &[], now).unwrap();
            }
        }
        if heard.sighted.contains(&at) {
            node.handle_sighted(PEER, now);
        }
        node.judge(now);
        for (shard, gone) in gone.iter_mut().enumerate() {
            let is_gone = node.replicas()[shard].is_gone(0);
            *gone = if is_gone { gone.or(Some(at)) } else { None };
        }
        let events = heard.servers.iter().flatten().chain(&heard.sighted).copied();
        let wake = node.poll_judgement().map(|wake| (wake - start).as_millis() as u64);
        at = events.filter(|event| *event > at).chain(wake).min().unwrap_or(end);
    }
    gone
}

#[test]
fn a_server_is_given_up_sooner_than_its_region_if_others_of_that_are_heard() {
    let often = |until: u64| (1..=until).map(|second| second * 1000).collect::<Vec<_>>();
    let to_the_end = || often(100);
    let table = [
        (
            "a sibling is linked",
            2,
            [vec![1000], to_the_end()],
            vec![],
            (15_000, 20_000),
            [Some(16_000), None],
        ),
        ("nobody is heard", 2, [often(2), often(5)], vec![], (15_000, 20_000), [Some(22_000), Some(25_000)]),
        (
            "all but one die later",
            2,
            [often(2), often(8)],
            vec![],
            (15_000, 20_000),
            [Some(22_000), Some(28_000)],
        ),
        (
            "a sibling that is not linked answers",
            1,
            [often(2), vec![]],
            vec![10_000, 12_000, 14_000, 16_000],
            (15_000, 20_000),
            [Some(17_000), None],
        ),
        (
            "it has answered long ago",
            1,
            [often(2), vec![]],
            vec![8_000, 9_000],
            (15_000, 20_000),
            [Some(22_000), None],
        ),
        ("it answers late", 1, [often(2), vec![]], vec![19_000], (15_000, 20_000), [Some(19_000), None]),
        ("no sibling answers", 1, [often(2), vec![]], vec![], (15_000, 20_000), [Some(22_000), None]),
        (
            "a region is waited for less than a server, and silent",
            2,
            [often(2), often(3)],
            vec![],
            (60_000, 20_000),
            [Some(22_000), Some(23_000)],
        ),
        ("the same, and heard", 2, [often(2), to_the_end()], vec![], (60_000, 20_000), [Some(62_000), None]),
    ];
    for (what, shards, servers, sighted, (server, datacenter), expected) in table {
        let found = given_up(shards, &Heard { servers, sighted }, server, datacenter);
        assert_eq!(found, expected[..usize::from(shards)], "{what}");
    }
}

#[test]
fn a_server_is_doubted_in_time_to_ask_its_siblings() {
    let (start, second) = (start(), Duration::from_secs(1));
    let grace = Grace { workers: 60 * second, server: 16 * second, datacenter: 20 * second };
    let mut node = mesh(1, &OTHERS[..1], &policy(Lead::Limit(2), None), |replica| replica).giving_up(grace);
    node.judge(start);
    node.handle_up(0, &hosts(1, &[0]), start).unwrap();
    assert!(!node.is_doubtful(PEER, start + 5 * second), "a heartbeat may be late");
    assert!(node.is_doubtful(PEER, start + 6 * second));
    assert!(!node.is_doubtful(DatacenterId(7), start + 6 * second), "it is none of ours");
    node.handle_control(0, &[], start + 7 * second).unwrap();
    assert!(!node.is_doubtful(PEER, start + 8 * second));
    node.handle_left(0);
    assert!(!node.is_doubtful(PEER, start + 60 * second), "it has said so");
}

#[test]
fn what_arrives_costs_no_look_at_who_is_there() {
    let (start, second) = (start(), Duration::from_secs(1));
    let grace = Grace { workers: 60 * second, server: 30 * second, datacenter: 60 * second };
    let (shards, mirrors) = (64, 8);
    let peers: Vec<_> = (1..=mirrors).map(|id| ServerId::first(DatacenterId(id))).collect();
    let mut node = mesh(shards, &peers, &policy(Lead::Limit(2), None), |replica| replica).giving_up(grace);
    node.judge(start);
    let all: Vec<u16> = (0..shards).collect();
    (0..peers.len()).for_each(|peer| node.handle_up(peer, &hosts(1, &all), start).unwrap());
    let mut looks = Vec::new();
    for batches in [10_000, 100_000] {
        let before = node.detector.looks;
        // A minute of them in any case.
        for batch in 0..batches {
            let now = start
                + (looks.len() as u32 * 60) * second
                + (60 * second).mul_f64(f64::from(batch) / f64::from(batches));
            (0..peers.len()).for_each(|peer| node.handle_control(peer, &[], now).unwrap());
            node.judge(now);
        }
        looks.push(node.detector.looks - before);
    }
    let most = 3 * u64::from(shards) * u64::from(mirrors);
    assert!(looks.iter().all(|looks| *looks <= most), "{looks:?}, {most} allowed");
}

/// By clock: the soft factor of a shard with two mirrors, of which `reaches(clock)` says whether the second is reached.
fn factors(clocks: u32, is_reached: impl Fn(u32) -> bool) -> Vec<f64> {
    let filter = crate::policy::FilterConfig {
        function: crate::policy::Significance::Absolute,
        threshold: 0.5,
        schedule: crate::policy::Schedule::Constant,
        values: crate::policy::ValueFormat::F32,
        numbers: datacenter::Numbers::Real,
    };
    let selection =
        Selection::Significant { filters: vec![filter], goal: Goal::Fastest, leeway: Leeway::default() };
    let policy = Policy { selection, ..Policy::naive(Lead::Unlimited) };
    let mut node = mesh(1, &OTHERS, &policy, |replica| replica);
    let (start, clock_length) = (start(), Duration::from_millis(400));
    (0..2).for_each(|peer| node.handle_up(peer, &nothing_applied(), start).unwrap());
    node.suspend(WorkerId(1), start);
    // Numbered and not confirmed yet, by peer.
    let mut last = [0, 0];
    let mut factors = Vec::new();
    for clock in 1..=clocks {
        let now = start + clock_length * clock;
        node.handle_request(SHARD, flush(clock, 1000), now).unwrap();
        factors.push(node.replicas()[0].filter().soft_factor());
        for (peer, last) in last.iter_mut().enumerate() {
            while let Some(outgoing) = node.poll_update(peer, now) {
                *last = outgoing.update.seq;
            }
            node.poll_control(peer, now);
            if peer == 0 || is_reached(clock) {
                let applied = ShardControl { shard: SHARD, applied: Some(*last), ..ShardControl::default() };
                node.handle_control(peer, &[applied], now + clock_length / 4).unwrap();
            }
        }
    }
    factors
}

#[test]
fn a_region_that_is_cut_off_takes_nothing_from_the_links_of_the_others() {
    let (clocks, cut) = (200, 60..123);
    let without = factors(clocks, |_| true);
    assert_eq!(without.last(), Some(&(1.0 / 64.0)));
    assert_eq!(factors(clocks, |clock| !cut.contains(&clock)), without);
}

/// Two others are configured; `min` of all suffice after `wait`.
fn of_three(start: StartPolicy) -> Node {
    let policy = Policy::naive(Lead::Limit(2));
    let shard = Shard::new(SHARD, &[ShardTable { slots: 4, width: 1 }], vec![vec![0.0; 4]], 1, Some(0));
    let others = [PEER, DatacenterId(2)];
    let peers = others.map(|id| PeerConfig {
        id,
        rate_bytes_per_sec: None,
        window_bytes: None,
        transfer_bytes_per_sec: None,
    });
    let second = Duration::from_secs(1);
    let grace = Grace { workers: 60 * second, server: second, datacenter: second };
    let mut node = Node::new(vec![Replica::new(shard, &policy, others)], &peers, &policy)
        .ending_at(Clock(9))
        .giving_up(grace)
        .starting(start);
    others.iter().for_each(|id| assert!(node.peer(ServerId::first(*id)).is_some()));
    node
}

#[test]
fn at_the_start_all_are_waited_for_however_long_that_takes() {
    let (start, second) = (start(), Duration::from_secs(1));
    let mut node = of_three(StartPolicy::default());
    for seconds in [0, 1, 2, 63, 100_000] {
        assert_eq!(node.judge(start + second * seconds), [], "{seconds} s");
        assert!(!node.is_ready() && !node.has_begun());
        assert!(node.poll_judgement().is_none(), "there is nothing to wake up for");
    }
    // One comes, goes, and comes back after the grace time; then the other is there as well.
    let now = start + second * 100_000;
    node.handle_up(0, &nothing_applied(), now).unwrap();
    assert!(node.judge(now + 5 * second).is_empty() && !node.is_ready());
    node.handle_down(0);
    node.handle_up(1, &nothing_applied(), now + 60 * second).unwrap();
    assert!(node.judge(now + 600 * second).is_empty() && !node.is_ready(), "it is not there any more");
    let now = now + 600 * second;
    node.handle_up(0, &nothing_applied(), now).unwrap();
    assert!(node.judge(now).is_empty() && node.is_ready());
    // From then on the grace time holds, from the beginning on for those not heard since.
    assert!(node.judge(now + second / 2).is_empty());
    let given_up = node.judge(now + second);
    let of = |datacenter| GivenUp { datacenter, shard: SHARD, at_start: false };
    assert_eq!(given_up, [of(PEER), of(DatacenterId(2))]);
}

#[test]
fn at_the_start_those_who_have_not_come_are_left_out_as_the_operator_says() {
    let (start, second) = (start(), Duration::from_secs(1));
    for (min_datacenters, comes, begins) in
        [(1, false, true), (2, false, false), (2, true, true), (3, true, false)]
    {
        let mut node = of_three(StartPolicy { wait: Some(10 * second), min_datacenters });
        assert!(node.judge(start).is_empty());
        if comes {
            node.handle_up(0, &nothing_applied(), start + second).unwrap();
        }
        assert!(node.judge(start + 9 * second).is_empty() && !node.is_ready());
        let given_up = node.judge(start + 10 * second);
        assert_eq!(node.is_ready(), begins, "{min_datacenters}, {comes}");
        let missing: Vec<_> = given_up.iter().map(|g| (g.datacenter.0, g.at_start)).collect();
        let expected: &[_] = match (begins, comes) {
            (false, _) => &[],
            (true, true) => &[(2, true)],
            (true, false) => &[(1, true), (2, true)],
        };
        assert_eq!(missing, expected);
    }
}

#[test]
fn at_the_start_servers_that_have_not_come_are_left_out_where_others_of_their_datacenter_have() {
    let (start, second) = (start(), Duration::from_secs(1));
    for min_datacenters in [1, 2, 3] {
        let grace = Grace { workers: 60 * second, server: 60 * second, datacenter: 60 * second };
        let mut node = mesh(2, &SERVERS, &policy(Lead::Limit(2), None), |replica| replica)
            .giving_up(grace)
            .starting(StartPolicy { wait: Some(3 * second), min_datacenters });
        assert!(node.judge(start).is_empty());
        node.handle_up(0, &hosts(1, &[0]), start).unwrap();
        assert!(node.judge(start + 2 * second).is_empty() && !node.is_ready());
        let given_up = node.judge(start + 3 * second);
        let missing = GivenUp { datacenter: PEER, shard: ShardId(1), at_start: true };
        let expected = if min_datacenters < 3 { vec![missing] } else { Vec::new() };
        assert_eq!(given_up, expected, "{min_datacenters}");
        assert_eq!((node.has_begun(), node.is_ready()), (min_datacenters < 3, min_datacenters < 3));
    }
}

#[test]
fn whoever_hears_that_others_have_begun_waits_no_longer_than_grace() {
    let (start, second) = (start(), Duration::from_secs(1));
    let mut node = of_three(StartPolicy::default());
    node.judge(start);
    let now = start + 1000 * second;
    let resume = Resume { shard: SHARD, clock: Clock(3), ..Resume::default() };
    let begun = Greeting { life: 1, resumes: vec![resume], ..Greeting::default() };
    node.handle_up(0, &begun, now).unwrap();
    assert!(node.judge(now).is_empty() && !node.is_ready(), "the other may be about to come");
    let given_up = node.judge(now + second);
    assert!(given_up.contains(&GivenUp { datacenter: DatacenterId(2), shard: SHARD, at_start: false }));
    assert!(node.is_ready());
}

#[test]
fn the_part_of_a_datacenter_stays_with_what_is_here() {
    let (start, second) = (start(), Duration::from_secs(1));
    let mut node = of_three(StartPolicy::default());
    node.handle_up(0, &nothing_applied(), start).unwrap();
    node.handle_up(1, &nothing_applied(), start).unwrap();
    node.handle_control(0, &[covers(0, 7, 5)], start).unwrap();
    let parts = |node: &Node| node.parts().map(|part| (part.clock.0, part.has_departed)).collect::<Vec<_>>();
    assert_eq!(parts(&node), [(5, false), (0, false)]);
    // Its next process numbers anew, and says nothing of what was.
    node.handle_down(0);
    let resume = Resume { shard: SHARD, life: 1, ..Resume::default() };
    let again = Greeting { life: 2, resumes: vec![resume], ..Greeting::default() };
    node.handle_up(0, &again, start + second).unwrap();
    assert_eq!(parts(&node), [(5, false), (0, false)]);
    node.handle_control(0, &[covers(0, 3, 3)], start + second).unwrap();
    assert_eq!(parts(&node), [(5, false), (0, false)], "it has less than that when it begins");
    // A process that begins with what this one has knows it too.
    let state = node.replicas()[0].state(DatacenterId(0));
    let policy = Policy::naive(Lead::Limit(2));
    let shard = Shard::new(SHARD, &[ShardTable { slots: 4, width: 1 }], vec![vec![0.0; 4]], 1, Some(0));
    let replica = Replica::new(shard, &policy, [PEER, DatacenterId(2)]);
    let restored = replica.restored(state, DatacenterId(0)).unwrap();
    assert_eq!(restored.included_clock(0), Clock(5));
    node.depart(DatacenterId(2));
    assert_eq!(parts(&node), [(5, false), (0, true)]);
}

/// Node after it was told by its peer, at 141, that it had got to 64 itself and had left out 2 clocks.
fn back_from_a_checkpoint_of_60(now: Instant) -> Node {
    let mut state = node(Lead::Limit(2), None).replicas()[0].state(DatacenterId(0));
    (state.clock, state.workers) = (Clock(60), vec![Clock(60)]);
    let replica = replica(Lead::Limit(2)).restored(state, DatacenterId(0)).unwrap();
    let mut node = node_of(replica);
    let resume = Resume {
        shard: SHARD,
        clock: Clock(141),
        heard_clock: Clock(64),
        heard_left_out: 2,
        went_on: true,
        ..Resume::default()
    };
    node.handle_up(0, &Greeting { life: 1, resumes: vec![resume], ..Greeting::default() }, now).unwrap();
    node
}

fn node_of(replica: Replica) -> Node {
    let policy = policy(Lead::Limit(2), None);
    let peer =
        PeerConfig { id: PEER, rate_bytes_per_sec: None, window_bytes: None, transfer_bytes_per_sec: None };
    let second = Duration::from_secs(1);
    let grace = Grace { workers: 9 * second, server: second, datacenter: second };
    let mut node = Node::new(vec![replica], &[peer], &policy).ending_at(Clock(250)).giving_up(grace);
    node.peer(ServerId::first(PEER)).unwrap();
    node
}

#[test]
fn clocks_that_were_jumped_over_count_as_left_out_for_ever_and_everywhere() {
    let now = start();
    let mut node = back_from_a_checkpoint_of_60(now);
    // Those up to 64 were trained by the process before, but for two.
    assert_eq!(node.own_part(), (Clock(141), 79));
    assert_eq!(node.join(WorkerId(0), Clock(141), now), [(SHARD, Clock(141))]);
    for clock in 142..=250 {
        node.handle_request(SHARD, flush(clock, 1), now).unwrap();
    }
    assert_eq!(node.own_part(), (Clock(250), 79), "what it trains is not left out");
    while node.poll_update(0, now).is_some() {}
    let said = node.poll_control(0, now);
    let progress = said[0].progress.expect("it says how far it is");
    assert_eq!((progress.clock, progress.left_out), (Clock(250), 79));
    // A process that begins from here knows it, and so does one at the other end.
    let state = node.replicas()[0].state(DatacenterId(0));
    let restored = replica(Lead::Limit(2)).restored(state, DatacenterId(0)).unwrap();
    assert_eq!(restored.left_out(), 79);
    let mut other = node_of(replica(Lead::Limit(2)));
    other.handle_up(0, &nothing_applied(), now).unwrap();
    let progress = Progress { covered: Clock(250), covered_count: 250, covered_seq: 0, ..progress };
    let control =
        |progress| ShardControl { shard: SHARD, progress: Some(progress), ..ShardControl::default() };
    other.handle_control(0, &[control(progress)], now).unwrap();
    let parts = |node: &Node| node.parts().map(|part| (part.clock.0, part.left_out)).collect::<Vec<_>>();
    assert_eq!(parts(&other), [(250, 79)]);
    let state = other.replicas()[0].state(DatacenterId(0));
    let other = node_of(replica(Lead::Limit(2)).restored(state, DatacenterId(0)).unwrap());
    assert_eq!(parts(&other), [(250, 79)]);
    assert_eq!(other.replicas()[0].resume(0).heard_left_out, 79, "and tells the peer's next process");
}

#[test]
fn of_clocks_that_have_yet_to_arrive_it_is_open_whether_they_were_left_out() {
    let now = start();
    let mut node = node_of(replica(Lead::Limit(2)));
    node.handle_up(0, &nothing_applied(), now).unwrap();
    // It was at 64 and went on at 141: what has arrived of it is from before.
    let progress = |clock, covered| Progress {
        clock: Clock(clock),
        covered: Clock(covered),
        covered_count: covered,
        left_out: 77,
        ..Progress::default()
    };
    for (clock, covered, left_out) in [(141, 64, 0), (141, 141, 77), (150, 145, 72), (150, 150, 77)] {
        let progress = Some(progress(clock, covered));
        let control = ShardControl { shard: SHARD, progress, ..ShardControl::default() };
        node.handle_control(0, &[control], now).unwrap();
        let part = node.parts().next().unwrap();
        assert_eq!((part.clock.0, part.left_out), (covered, left_out), "at {clock}");
    }
}

#[test]
fn a_datacenter_without_workers_that_takes_the_end_of_the_others_for_its_own_has_left_out_the_rest() {
    let (start, second) = (start(), Duration::from_secs(1));
    let mut node = node_of(replica(Lead::Limit(2)));
    node.judge(start);
    node.handle_up(0, &nothing_applied(), start).unwrap();
    node.judge(start);
    assert_eq!(node.join(WorkerId(0), Clock(0), start), [(SHARD, Clock(0))]);
    for clock in 1..=3 {
        node.handle_request(SHARD, flush(clock, 1), start).unwrap();
    }
    node.handle_request(SHARD, Request::Leave(WorkerId(0)), start).unwrap();
    while node.poll_update(0, start).is_some() {}
    let progress = covers(0, 250, 250);
    node.handle_control(0, &[progress], start).unwrap();
    node.judge(start + 10 * second);
    assert_eq!(node.own_part(), (Clock(250), 247));
    // Its checkpoint has it, and its peer hears it.
    let state = node.replicas()[0].state(DatacenterId(0));
    assert_eq!((state.clock, state.left_out), (Clock(250), 247));
    let said = node.poll_control(0, start + 10 * second);
    let progress = said.iter().find_map(|control| control.progress).expect("it says how far it is");
    assert_eq!((progress.clock, progress.left_out), (Clock(250), 247));
}

#[test]
fn a_queue_on_the_path_makes_neither_lead_nor_window_larger() {
    let (start, second) = (start(), Duration::from_secs(1));
    let mut node = node(Lead::Derived, None);
    node.handle_up(0, &nothing_applied(), start).unwrap();
    node.handle_rtt(0, Duration::from_millis(200), start);
    let window = node.window_bytes(0);
    for i in 1..20 {
        node.handle_rtt(0, second * i, start + second * i);
        assert_eq!((node.rtt(0), node.window_bytes(0)), (Duration::from_millis(200), window), "{i} s");
    }
}

/// Whoever took it for done would end without what it has yet to ship.
#[test]
fn who_has_begun_with_something_held_back_has_more_to_say_until_that_is_shipped() {
    let now = start();
    let held = Elements { table: TABLE, indexes: vec![3], values: vec![0.25] };
    for remainders in [vec![], vec![held]] {
        let holds_back = !remainders.is_empty();
        let mut state = node(Lead::Limit(2), None).replicas()[0].state(DatacenterId(0));
        (state.clock, state.workers, state.remainders) = (Clock(9), vec![Clock(9)], remainders);
        let policy = policy(Lead::Limit(2), None);
        let shape = ShardTable { slots: 20_000, width: 1 };
        let shard = Shard::new(SHARD, &[shape], vec![vec![0.0; shape.elements()]], 1, Some(0));
        let replica = Replica::new(shard, &policy, [PEER]).restored(state, DatacenterId(0)).unwrap();
        let peer = PeerConfig {
            id: PEER,
            rate_bytes_per_sec: None,
            window_bytes: None,
            transfer_bytes_per_sec: None,
        };
        let mut node = Node::new(vec![replica], &[peer], &policy).ending_at(Clock(9));
        node.peer(ServerId::first(PEER)).unwrap();
        let resume = Resume { shard: SHARD, clock: Clock(9), is_whole: true, ..Resume::default() };
        node.handle_up(0, &Greeting { life: 1, resumes: vec![resume], ..Greeting::default() }, now).unwrap();
        let told = |node: &mut Node| {
            let mut updates = 0;
            while node.poll_update(0, now).is_some() {
                updates += 1;
            }
            let said = node.poll_control(0, now);
            (updates, said.first().and_then(|control| control.progress))
        };
        let (_, progress) = told(&mut node);
        let progress = progress.expect("it says how far it is");
        assert_eq!(progress.pauses % 2, 1, "nobody trains yet");
        assert_eq!(progress.last_seq.is_none(), holds_back, "{progress:?}");
        // Its worker comes, finds the job done, and leaves.
        node.join(WorkerId(0), Clock(9), now);
        node.handle_request(SHARD, Request::Leave(WorkerId(0)), now).unwrap();
        let (updates, progress) = told(&mut node);
        assert_eq!(updates > 0, holds_back);
        assert!(progress.is_some_and(|progress| progress.last_seq.is_some()));
    }
}

/// A node of one shard with one worker and one peer, which may send so much.
fn node_with_budget(limit: Limit, selection: Selection, now: Instant) -> Node {
    node_with_budget_and_window(limit, selection, u64::MAX, now)
}

fn node_with_budget_and_window(limit: Limit, selection: Selection, window_bytes: u64, now: Instant) -> Node {
    let budget = Some(Budget { limit, scope: BudgetScope::Region });
    let policy = Policy { budget, selection, ..policy(Lead::Unlimited, None) };
    let shape = ShardTable { slots: 20_000, width: 1 };
    let shard = Shard::new(SHARD, &[shape], vec![vec![0.0; shape.elements()]], 1, None);
    let peer = PeerConfig {
        id: PEER,
        rate_bytes_per_sec: None,
        window_bytes: Some(window_bytes),
        transfer_bytes_per_sec: None,
    };
    let mut node = Node::new(vec![Replica::new(shard, &policy, [PEER])], &[peer], &policy);
    node.peer(ServerId::first(PEER)).unwrap();
    node.handle_up(0, &nothing_applied(), now).unwrap();
    node
}

#[test]
fn who_waits_for_a_window_and_a_budget_is_not_to_ask_again_at_once() {
    let start = start();
    let limit = Limit::BytesPerSec(100_000.0);
    let mut node = node_with_budget_and_window(limit, Selection::Everything, 1, start);
    node.handle_request(SHARD, flush(1, 20_000), start).unwrap();
    for step in 0..100 {
        let at = start + step * Duration::from_millis(100);
        while node.poll_update(0, at).is_some() {}
        node.poll_control(0, at);
        let next = node.poll_timeout(0);
        assert!(next.is_none_or(|next| next > at), "{:?} after {next:?}", at - start);
    }
    assert!(node.in_flight_bytes(0) > 0 && node.waiting_bytes(0) > 0);
}

#[test]
fn updates_wait_for_a_budget_which_pays_for_all_that_crosses_and_not_once_nobody_trains() {
    const RATE: f64 = 10_000.0;
    let start = start();
    let mut node = node_with_budget(Limit::BytesPerSec(RATE), Selection::Everything, start);
    assert!(node.has_budget());
    node.handle_sent(0, 3000);
    node.handle_request(SHARD, flush(1, 20_000), start).unwrap();
    let (mut wire, mut payload) = (3000, 0);
    let mut at = start;
    while at < start + Duration::from_secs(5) {
        while let Some(outgoing) = node.poll_update(0, at) {
            payload += outgoing.bytes;
            // A quarter more for headers.
            wire += outgoing.bytes * 5 / 4;
        }
        node.handle_sent(0, wire);
        let next = node.poll_timeout(0).expect("updates wait");
        at = next.max(at + Duration::from_millis(1));
    }
    assert!((0.95..1.05).contains(&(wire as f64 / 5.0 / RATE)), "{wire} on the wire");
    assert!(payload < wire * 5 / 6 && node.waiting_bytes(0) > 0);
    node.handle_request(SHARD, Request::Leave(WorkerId(0)), at).unwrap();
    while let Some(outgoing) = node.poll_update(0, at) {
        payload += outgoing.bytes;
    }
    assert_eq!(node.waiting_bytes(0), 0);
    assert!(payload > 60_000, "{payload}");
}

#[test]
fn releases_are_fitted_to_a_budget_as_sizes_before_have_shown() {
    const OF_CLOCK: f64 = 2000.0;
    let start = start();
    let filter = FilterConfig {
        function: Significance::Absolute,
        threshold: 0.5,
        schedule: Schedule::Constant,
        values: ValueFormat::F32,
        numbers: datacenter::Numbers::Real,
    };
    let selection =
        Selection::Significant { filters: vec![filter], goal: Goal::Cheapest, leeway: Leeway::default() };
    let mut node = node_with_budget(Limit::BytesPerClock(OF_CLOCK), selection, start);
    let mut sent = Vec::new();
    for clock in 1..=40 {
        let now = start + clock * Duration::from_millis(500);
        node.handle_request(SHARD, flush(clock, 20_000), now).unwrap();
        sent.push(std::iter::from_fn(|| node.poll_update(0, now)).map(|o| o.bytes).sum::<u64>());
        assert_eq!(node.waiting_bytes(0), 0, "clocks may wait for what is released");
    }
    let replica = &node.replicas()[0];
    assert!(replica.raised().is_some_and(|raised| raised > 1.0), "{:?}", replica.raised());
    let late: u64 = sent[20..].iter().sum();
    assert!((0.9..1.05).contains(&(late as f64 / 20.0 / OF_CLOCK)), "{sent:?}");
}
