//! A server that has lost everything: when it serves again, what that takes of the links, and what becomes of it.

use std::time::{Duration, Instant};

use datacenter::message::{Flush, Read, Request, RowGroup};
use datacenter::shard::Shard;
use datacenter::{Clock, DatacenterId, Elements, ShardId, ShardTable, TableId, WorkerId};
use wan::message::{Origin, ServerId};
use wan::node::{Grace, Node, PeerConfig};
use wan::policy::{Lead, Policy};
use wan::replica::Replica;

const SHARD: ShardId = ShardId(0);
const TABLE: TableId = TableId(0);
const SHAPE: ShardTable = ShardTable { slots: 10_000, width: 8 };
/// Longer than anything takes here.
const GRACE: Duration = Duration::from_secs(3600);
const MODEL_BYTES: u64 = SHAPE.slots as u64 * SHAPE.width as u64 * 4;

/// Datacenters of one server and one worker each, all linked, nothing of which takes any time.
struct Sites {
    nodes: Vec<Node>,
    clocks: Vec<u32>,
    /// Payload that has crossed, and how much of it was sums of all, by receiver.
    received: Vec<(u64, u64)>,
    now: Instant,
}

fn node(at: usize, count: usize, lead: Lead, is_new: bool, transfer_bytes_per_sec: Option<u64>) -> Node {
    let policy = Policy::naive(lead);
    let shard = Shard::new(SHARD, &[SHAPE], vec![vec![1.0; SHAPE.elements()]], 1, Some(0));
    let others: Vec<_> = (0..count).filter(|other| *other != at).map(|id| DatacenterId(id as u16)).collect();
    let replica = Replica::new(shard, &policy, others.iter().copied());
    let replica = if is_new { replica.without_state() } else { replica };
    let configured = |id: &DatacenterId| PeerConfig {
        id: *id,
        rate_bytes_per_sec: None,
        window_bytes: None,
        transfer_bytes_per_sec,
    };
    let peers: Vec<_> = others.iter().map(configured).collect();
    let grace = Grace { workers: GRACE, server: GRACE, datacenter: GRACE };
    let node = Node::new(vec![replica], &peers, &policy).giving_up(grace);
    let mut node = node.in_life(if is_new { 2 } else { 1 });
    others.iter().for_each(|id| assert!(node.peer(ServerId::first(*id)).is_some()));
    node
}

impl Sites {
    #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]
    fn new(count: usize, lead: Lead, transfer: Option<u64>) -> Self {
        let nodes = (0..count).map(|at| node(at, count, lead, false, transfer)).collect();
        let (clocks, received) = (vec![0; count], vec![(0, 0); count]);
        let mut sites = Self { nodes, clocks, received, now: Instant::now() };
        for one in 0..count {
            (one + 1..count).for_each(|other| sites.link(one, other));
        }
        sites
    }

    fn place(at: usize, of: usize) -> usize {
        if of > at { of - 1 } else { of }
    }

    fn link(&mut self, one: usize, other: usize) {
        let [ours, theirs] =
            [(one, other), (other, one)].map(|(from, to)| self.nodes[from].greeting(DatacenterId(to as u16)));
        let now = self.now;
        assert_eq!(self.nodes[one].handle_up(Self::place(one, other), &theirs, now), Ok(()));
        assert_eq!(self.nodes[other].handle_up(Self::place(other, one), &ours, now), Ok(()));
    }

    /// Lets one update cross, with what there is to be said. Yields whether there was one.
    fn pass_one(&mut self, from: usize, to: usize) -> bool {
        let (there, back) = (Self::place(from, to), Self::place(to, from));
        let Some(outgoing) = self.nodes[from].poll_update(there, self.now) else { return false };
        let is_sum = outgoing.update.rows.as_ref().is_some_and(|rows| rows.origin == Origin::All);
        self.received[to].0 += outgoing.bytes;
        self.received[to].1 += if is_sum { outgoing.bytes } else { 0 };
        self.nodes[to]
            .handle_update(back, &outgoing.update, outgoing.bytes, self.now)
            .expect("it makes sense");
        true
    }

    fn say(&mut self, from: usize, to: usize) -> bool {
        let controls = self.nodes[from].poll_control(Self::place(from, to), self.now);
        let is_anything = !controls.is_empty();
        self.nodes[to].handle_control(Self::place(to, from), &controls, self.now).expect("it makes sense");
        is_anything
    }

    /// Lets everything cross.
    fn settle(&mut self) {
        let pairs = |count: usize| (0..count).flat_map(move |from| (0..count).map(move |to| (from, to)));
        loop {
            let mut is_done = true;
            for (from, to) in pairs(self.nodes.len()).filter(|(from, to)| from != to) {
                while self.pass_one(from, to) {
                    is_done = false;
                }
                is_done &= !self.say(from, to);
            }
            if is_done {
                return;
            }
            self.now += Duration::from_millis(1);
        }
    }

    /// Everybody who is left goes on without the last datacenter.
    fn give_up_the_last(&mut self) {
        let last = self.nodes.len() - 1;
        self.nodes.iter_mut().for_each(|node| _ = node.judge(self.now));
        self.now += GRACE;
        for (from, to) in (0..last).flat_map(|from| (0..last).map(move |to| (from, to))) {
            if from != to {
                self.say(from, to);
            }
        }
        for at in 0..last {
            self.nodes[at].judge(self.now);
            assert!(self.nodes[at].replicas()[0].is_gone(Self::place(at, last)));
        }
    }

    /// A worker adds `value` to each element from `first` on, every `step`-th.
    fn train(&mut self, at: usize, first: u32, step: usize, value: f32) {
        let indexes = (first..SHAPE.elements() as u32).step_by(step);
        self.train_on(at, indexes.map(|index| (index, value)));
    }

    /// A worker adds to each of these elements.
    fn train_on(&mut self, at: usize, deltas: impl Iterator<Item = (u32, f32)>) {
        self.clocks[at] += 1;
        let (indexes, values) = deltas.unzip();
        let deltas = [Elements { table: TABLE, indexes, values }];
        let flush = Flush::of_elements(WorkerId(0), Clock(self.clocks[at]), &deltas, &[SHAPE]);
        self.nodes[at].handle_request(SHARD, Request::Flush(flush), self.now).expect("it makes sense");
    }

    fn values(&self, at: usize) -> &[f32] {
        self.nodes[at].replicas()[0].shard().values(TABLE)
    }

    /// Whether a read at the shard's clock is answered.
    fn reads(&mut self, at: usize) -> bool {
        let clock = self.nodes[at].replicas()[0].shard().clock();
        let groups = vec![RowGroup { table: TABLE, since: 0, slots: [0].into() }];
        let read = Read { worker: WorkerId(0), clock, groups };
        if self.nodes[at]
            .handle_request(SHARD, Request::Read(read), self.now)
            .expect("it makes sense")
            .is_some()
        {
            return true;
        }
        self.nodes[at].poll_reply(self.now).is_some()
    }

    fn is_equal_everywhere(&self) -> bool {
        (1..self.nodes.len()).all(|at| self.values(at) == self.values(0))
    }
}

/// All have trained on everything, and the first has lost it.
fn lost(count: usize, lead: Lead, transfer: Option<u64>) -> Sites {
    let mut sites = Sites::new(count, lead, transfer);
    for round in 0..3 {
        for at in 0..count {
            let value = (1 + at + round) as f32;
            // Exact in sums, and in no fewer bits than an f32 has.
            let bits =
                |index: u32| if round == 0 { (index.wrapping_mul(0x9e37_79b9) >> 11) as f32 } else { 0.0 };
            sites.train_on(at, (0..SHAPE.elements() as u32).map(|index| (index, value + bits(index))));
        }
        sites.settle();
    }
    assert!(sites.is_equal_everywhere());
    for other in 1..count {
        sites.nodes[other].handle_down(0);
    }
    sites.nodes[0] = node(0, count, lead, true, transfer);
    sites.received[0] = (0, 0);
    sites
}

#[test]
fn it_serves_when_one_model_has_come() {
    for lead in [Lead::Unlimited, Lead::Limit(2)] {
        let mut sites = lost(3, lead, None);
        let expected = sites.values(1).to_vec();
        (1..3).for_each(|other| sites.link(0, other));
        assert!(!sites.reads(0), "it has nothing yet");
        let mut crossed = 0;
        while sites.nodes[0].poll_reply(sites.now).is_none() {
            assert!(sites.pass_one(1, 0), "the donor has more");
            crossed += 1;
            // The other link carries as much in the same time.
            sites.pass_one(2, 0);
            if crossed == 3 {
                // Meanwhile the others train on.
                sites.train(1, 5, 16, 1.0);
                sites.train(2, 7, 16, 1.0);
            }
            for other in 1..3 {
                sites.say(0, other);
                sites.say(other, 0);
            }
        }
        let (all, sums) = sites.received[0];
        assert!(sums > 0 && all - sums <= all / 2 + 100_000, "{sums} of {all}");
        assert!(sums < MODEL_BYTES * 105 / 100, "{sums} for {MODEL_BYTES}");
        let apart = sites.values(0).iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart <= 2.0, "it has all but what has been added meanwhile, {apart} apart");
        // It trains from what it has, while the rest comes.
        assert!(!sites.nodes[0].replicas()[0].is_whole());
        sites.clocks[0] = sites.nodes[0].replicas()[0].shard().clock().0;
        sites.train(0, 3, 5, 4.0);
        sites.settle();
        assert!(sites.nodes[0].replicas()[0].is_whole());
        assert!(sites.is_equal_everywhere(), "{lead:?}");
        let sum = |values: &[f32]| values.iter().map(|value| f64::from(*value)).sum::<f64>();
        assert_eq!(sum(sites.values(0)), sum(&expected) + 2.0 * 5_000.0 + 4.0 * 16_000.0);
    }
}

#[test]
fn the_models_first_values_may_come_last() {
    for lead in [Lead::Unlimited, Lead::Limit(2)] {
        let mut sites = lost(3, lead, None);
        let expected = sites.values(1).to_vec();
        let policy = Policy::naive(lead);
        let shard = Shard::new(SHARD, &[SHAPE], vec![vec![0.0; SHAPE.elements()]], 1, Some(0));
        let others = [1, 2].map(DatacenterId);
        let replica = Replica::new(shard, &policy, others).without_state().without_first_values();
        let peers = others.map(|id| PeerConfig {
            id,
            rate_bytes_per_sec: None,
            window_bytes: None,
            transfer_bytes_per_sec: None,
        });
        sites.nodes[0] = Node::new(vec![replica], &peers, &policy).in_life(2);
        others.iter().for_each(|id| assert!(sites.nodes[0].peer(ServerId::first(*id)).is_some()));
        (1..3).for_each(|other| sites.link(0, other));
        sites.settle();
        let replica = &sites.nodes[0].replicas()[0];
        assert!(replica.is_whole() && !replica.may_be_kept(), "all but the first values are here");
        assert!(!sites.nodes[0].is_ready(), "nobody may come");
        for _ in 0..2 {
            sites.nodes[0].begin_with(SHARD, &[vec![1.0; SHAPE.elements()]]);
            assert_eq!(sites.values(0), expected, "they count once");
        }
        assert!(sites.nodes[0].is_ready() && sites.nodes[0].replicas()[0].may_be_kept());
        assert!(sites.reads(0));
    }
}

#[test]
fn it_serves_though_the_donor_dies() {
    let mut sites = lost(3, Lead::Unlimited, None);
    let expected = sites.values(1).to_vec();
    (1..3).for_each(|other| sites.link(0, other));
    for _ in 0..5 {
        assert!(sites.pass_one(1, 0));
    }
    // It begins again, and has lost everything too.
    (0..3).filter(|other| *other != 1).for_each(|at| sites.nodes[at].handle_down(Sites::place(at, 1)));
    sites.nodes[1] = node(1, 3, Lead::Unlimited, true, None);
    [0, 2].iter().for_each(|other| sites.link(1, *other));
    sites.settle();
    assert!(sites.reads(0) && sites.reads(1));
    assert!(sites.nodes.iter().all(|node| node.replicas()[0].is_whole()));
    assert!(sites.is_equal_everywhere());
    assert_eq!(sites.values(0), expected);
}

#[test]
fn what_is_new_does_not_wait_for_what_was_lost() {
    const RATE: u64 = 150_000;
    let mut sites = lost(2, Lead::Unlimited, Some(RATE));
    sites.link(0, 1);
    // As far as it has been given values, it is given what is new at once.
    let mut late = 0;
    for tenth in 0..50 {
        sites.now += Duration::from_millis(100);
        sites.train(1, 0, 4000, 1.0);
        while sites.pass_one(1, 0) {}
        late += u64::from(sites.nodes[1].replicas()[0].outbox(0).waiting_delta_bytes() > 0);
        sites.say(0, 1);
        sites.say(1, 0);
        let most = RATE * (tenth + 2) / 10 + 40_000;
        assert!(sites.received[0].0 <= most, "{} after {tenth} tenths", sites.received[0].0);
    }
    assert_eq!(late, 0);
    assert!(sites.received[0].0 > RATE * 4, "{}", sites.received[0].0);
    assert!(sites.nodes[1].backlog(0) == Duration::ZERO, "it is no backlog of the link");
    while sites.nodes[1].replicas()[0].outbox(0).has_rows() {
        sites.now += Duration::from_millis(100);
        sites.settle();
    }
    assert!(sites.is_equal_everywhere());
}

#[test]
fn it_counts_on_above_what_it_hears_late_of_itself() {
    // The second datacenter is cut off from the first, and misses what the third has of it.
    let mut sites = Sites::new(3, Lead::Unlimited, None);
    (0..3).for_each(|at| sites.train(at, 0, 1, 1.0));
    sites.settle();
    for at in 0..2 {
        sites.nodes[at].handle_down(0);
    }
    for _ in 0..30 {
        sites.train(0, 0, 16, 1.0);
        while sites.pass_one(0, 2) || sites.say(0, 2) || sites.say(2, 0) {}
    }
    sites.nodes[2].handle_down(0);
    // It comes back with nothing and finds the second alone; what it releases then, of other rows, it counts as it counted what
    // was lost: the third would take it for what it has.
    sites.nodes[0] = node(0, 3, Lead::Unlimited, true, None);
    sites.link(0, 1);
    sites.nodes[0].judge(sites.now);
    sites.now += GRACE;
    sites.say(1, 0);
    sites.nodes[0].judge(sites.now);
    while sites.pass_one(1, 0) || sites.say(1, 0) || sites.say(0, 1) {}
    assert!(sites.reads(0), "the third is not there");
    sites.clocks[0] = sites.nodes[0].replicas()[0].shard().clock().0;
    for _ in 0..3 {
        sites.train(0, 8, 16, 10.0);
        while sites.pass_one(0, 1) {}
    }
    sites.link(0, 2);
    sites.settle();
    assert!(sites.is_equal_everywhere());
    let rows = f32::from(u16::try_from(SHAPE.slots).unwrap());
    // All began with one everywhere.
    let expected = 8.0 * rows * (1.0 + 3.0) + (30.0 + 3.0 * 10.0) * rows / 2.0;
    assert_eq!(sites.values(0).iter().sum::<f32>(), expected);
}

#[test]
fn what_it_serves_has_all_of_who_is_gone_from_the_first_read_on() {
    let mut sites = lost(3, Lead::Unlimited, None);
    let expected = sites.values(1).to_vec();
    sites.nodes[1].handle_down(1);
    sites.link(0, 1);
    sites.give_up_the_last();
    let mut is_served = false;
    loop {
        let is_something = [sites.pass_one(1, 0), sites.pass_one(0, 1), sites.say(0, 1), sites.say(1, 0)];
        is_served = is_served || sites.reads(0);
        if is_served {
            assert_eq!(sites.values(0), expected);
        }
        if !is_something.contains(&true) {
            break;
        }
    }
    assert!(is_served && sites.nodes[0].replicas()[0].ledgers().mirrors.iter().all(|(_, l)| l.newest() > 0));
}

/// Of two that have lost everything, each gives the other nothing at first, and has nothing to give: what it had released comes
/// once the third has given it back.
#[test]
fn of_two_that_have_lost_everything_neither_serves_without_what_the_other_had_released() {
    let mut sites = lost(3, Lead::Limit(2), None);
    let expected = sites.values(2).to_vec();
    sites.nodes[2].handle_down(1);
    sites.nodes[1] = node(1, 3, Lead::Limit(2), true, None);
    // Each asks the third for values, as it hears that the other has none.
    let places = |one, other| (Sites::place(one, other), Sites::place(other, one));
    let greet = |sites: &mut Sites, from: usize, to: u16| sites.nodes[from].greeting(DatacenterId(to));
    let pairs = [(0, 1), (0, 2), (1, 2)];
    let greetings = pairs
        .map(|(one, other)| (greet(&mut sites, one, other as u16), greet(&mut sites, other, one as u16)));
    for ((one, other), (ours, theirs)) in pairs.into_iter().zip(greetings) {
        let (there, back) = places(one, other);
        assert_eq!(sites.nodes[one].handle_up(there, &theirs, sites.now), Ok(()));
        assert_eq!(sites.nodes[other].handle_up(back, &ours, sites.now), Ok(()));
    }
    let cross = |sites: &mut Sites, one: usize, other: usize| {
        let passed = [sites.pass_one(one, other), sites.pass_one(other, one)];
        let said = [sites.say(one, other), sites.say(other, one)];
        passed.contains(&true) || said.contains(&true)
    };
    // The way between the two is slow: only what is said crosses.
    loop {
        let is_something =
            [cross(&mut sites, 0, 2), cross(&mut sites, 1, 2), sites.say(0, 1), sites.say(1, 0)];
        for at in 0..2 {
            assert!(!sites.nodes[at].is_ready() || sites.values(at) == expected, "what {at} serves");
        }
        if !is_something.contains(&true) {
            break;
        }
    }
    sites.settle();
    assert!((0..2).all(|at| sites.reads(at)) && sites.is_equal_everywhere());
    assert_eq!(sites.values(0), expected);
}
