//! A large update over a long link, by the way that the product sends it: what of the link it uses,
//! and whether clocks and barriers keep coming meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use datacenter::message::{Flush, Request};
use datacenter::{Clock, Elements, ShardId, ShardTable, TableId, TableSpec, WorkerId};
use emulation::link::LinkConfig;
use emulation::{VirtualClock, host_address};
use gaia_tests::site::{Model, Site, SitePlan, World, keep_links, server_name};
use wan::driver::queue::event_queue;
use wan::driver::server::{Event, Unobserved};
use wan::node::Node;
use wan::policy::{Lead, Policy};
use wan::transport::Path;

const RATE: u64 = 12_500_000;
const ONE_WAY: Duration = Duration::from_millis(80);
/// How late a clock or a barrier may be.
const LATE: Duration = Duration::from_millis(20);
/// Clocks that change a row anew: four seconds of the six that the transfer takes.
const DIRTY_CLOCKS: u32 = 80;
/// Elements of a row.
const WIDTH: u32 = 100;

/// How a bulk update went.
#[derive(Debug)]
struct Report {
    payload_bytes: u64,
    /// With all headers, and what was lost and sent again.
    wire_bytes: u64,
    took: Duration,
    /// How late each message about a clock was, beyond the link's delay.
    late: Vec<Duration>,
    /// The same of the barriers that hold the rows changed meanwhile.
    barriers_late: Vec<Duration>,
}

impl Report {
    /// The share of the link that `bytes` take.
    fn share(&self, bytes: u64) -> f64 {
        bytes as f64 / (RATE as f64 * self.took.as_secs_f64())
    }
}

/// What has come to the receiver, and when.
#[derive(Default)]
struct Seen {
    progress: Vec<(Clock, Duration)>,
    /// By slot.
    barriers: BTreeMap<u32, Duration>,
    payload_bytes: u64,
    last_update: Duration,
}

/// One region flushes `elements` values at its first clock, and then a clock each 50 ms: clock `c`
/// changes row `c`, which has left by then, waits again behind all others, and so has to be
/// announced.
fn run(seed: u64, loss: f64, queue_bdp: f64, elements: u32) -> Report {
    let clock = VirtualClock::new();
    clock
        .run(Duration::from_secs(300), send(clock.clone(), seed, loss, queue_bdp, elements))
        .expect("in time")
}

/// A value in which all bits count: round ones would be sent in a bit or two.
fn delta(index: u32) -> f32 {
    1.0 + (index.wrapping_mul(0x9e37_79b9) >> 9) as f32 / 8_388_608.0
}

async fn send(clock: VirtualClock, seed: u64, loss: f64, queue_bdp: f64, elements: u32) -> Report {
    const CLOCK: Duration = Duration::from_millis(50);
    let world = World::new(&clock, seed);
    let mut link = LinkConfig::clean(RATE, ONE_WAY);
    link.queue_bytes = (2_000_000.0 * queue_bdp) as u64;
    link.loss = loss;
    let path = Path { rate_bytes_per_sec: Some(RATE), round_trip: Some(2 * ONE_WAY), ..Path::default() };
    let model = Model::new(vec![TableSpec::new("weights", elements / WIDTH, WIDTH)], 1);
    let barrier_max_delay = Some(Duration::from_millis(200));
    let policy = Policy { barrier_max_delay, ..Policy::naive(Lead::Unlimited) };
    let mut sites = Vec::new();
    let (told, mut tap) = event_queue();
    for at in 0..2 {
        let peers = vec![(1 - at, path)];
        let policy = policy.clone();
        let plan = SitePlan {
            at,
            workers: 1,
            staleness: None,
            policy,
            peers,
            window_bytes: None,
            job_digest: vec![1; 32],
        };
        let ip = |at: u16| host_address(at.into()).ip();
        world.network.set_link(ip(at), ip(1 - at), link.clone());
        let site = Site::start(&plan, &model, Unobserved);
        let endpoint = world.endpoint(at, &server_name(at), &world.authority);
        let events = if at == 0 { site.events.clone() } else { told.clone() };
        keep_links(&world, &plan, &model, &endpoint, events);
        sites.push((site, endpoint));
    }
    // Who receives: sees what arrives when, and passes it on.
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (to, log, time) = (sites[1].0.events.clone(), seen.clone(), clock.clone());
    tokio::spawn(async move {
        while let Some(event) = tap.recv().await {
            let now = time.now();
            match &event {
                Event::Control { controls, .. } => {
                    let mut log = log.lock().expect("no panic");
                    log.progress.extend(controls.iter().filter_map(|c| c.progress).map(|p| (p.clock, now)));
                    for slot in controls.iter().flat_map(|c| &c.barriers).flat_map(|b| &b.slots) {
                        log.barriers.entry(*slot).or_insert(now);
                    }
                }
                Event::Update { bytes, .. } => {
                    let mut log = log.lock().expect("no panic");
                    log.payload_bytes += bytes;
                    log.last_update = now;
                }
                _ => {}
            }
            if to.send(event).await.is_err() {
                return;
            }
        }
    });
    clock.sleep(Duration::from_secs(2)).await;
    let start = clock.now();
    let mut deltas = Elements::new(TableId(0));
    (0..elements / WIDTH * WIDTH).for_each(|index| deltas.push(index, delta(index)));
    let shapes = [ShardTable { slots: elements / WIDTH, width: WIDTH }];
    let mut flush = Flush::of_elements(WorkerId(0), Clock(1), &[deltas], &shapes);
    let (from, endpoint) = &sites[0];
    let sent_bytes = || endpoint.meter().traffic(host_address(1)).sent_bytes;
    let sent_before = sent_bytes();
    let total = loop {
        let mut next = Flush { clock: flush.clock.next(), deltas: vec![], ..flush };
        if next.clock.0 <= DIRTY_CLOCKS {
            let mut row = Elements::new(TableId(0));
            row.push(next.clock.0 * WIDTH, 1.0);
            next = Flush::of_elements(next.worker, next.clock, &[row], &shapes);
        }
        from.requests.send((ShardId(0), Request::Flush(flush))).await.expect("the server runs");
        flush = next;
        clock.sleep(CLOCK).await;
        let is_drained = from.inspect(|node| node.is_drained()).await;
        if is_drained {
            break from.inspect(|node| node.sent(0).payload_bytes).await;
        }
    };
    let seen = seen.lock().expect("no panic");
    assert_eq!(seen.payload_bytes, total, "everything comes once");
    let mut late: Vec<Duration> = Vec::new();
    for number in 1..flush.clock.0 {
        let said = start + CLOCK * (number - 1);
        let first = seen.progress.iter().filter(|(clock, _)| clock.0 >= number).map(|(_, at)| *at).min();
        late.extend(first.map(|at| at.saturating_sub(said + ONE_WAY)));
    }
    let barriers_late = (2..=DIRTY_CLOCKS).filter_map(|clock| {
        let said = start + CLOCK * (clock - 1);
        seen.barriers.get(&clock).map(|at| at.saturating_sub(said + ONE_WAY))
    });
    Report {
        payload_bytes: total,
        wire_bytes: sent_bytes() - sent_before,
        took: seen.last_update - start,
        late,
        barriers_late: barriers_late.collect(),
    }
}

/// Asserts what a link of this loss and queue must do; shorter transfers are not judged, as the
/// first round trips and the last cannot be full.
fn check(seed: u64, loss: f64, queue_bdp: f64) {
    let report = run(seed, loss, queue_bdp, 17_500_000);
    let late = |all: &[Duration]| all.iter().filter(|late| **late > LATE).count();
    let (clocks, barriers) = (late(&report.late), late(&report.barriers_late));
    let what = format!("loss {loss}, queue of {queue_bdp} BDP, seed {seed}");
    println!(
        "{what}: {:.2?}, {:.1} % of the link, {:.1} % for payload; late {clocks} of {} clocks, {barriers} of {} barriers, the worst by {:?}",
        report.took,
        100.0 * report.share(report.wire_bytes),
        100.0 * report.share(report.payload_bytes),
        report.late.len(),
        report.barriers_late.len(),
        report.late.iter().chain(&report.barriers_late).max(),
    );
    assert!(report.share(report.wire_bytes) >= 0.85, "{what}: {report:?}");
    // What is lost and sent again must not be what fills the link.
    let least = if loss > 0.0 { 0.8 } else { 0.85 };
    assert!(report.share(report.payload_bytes) >= least, "{what}: {report:?}");
    assert!(report.barriers_late.len() >= 60, "{what}: {} barriers", report.barriers_late.len());
    // The first message may be lost: only after it does bulk begin, during which each is sent more
    // than once.
    let most = usize::from(loss > 0.0);
    assert!(clocks <= most && barriers == 0, "{what}: {clocks} clocks and {barriers} barriers are late");
}

#[test]
fn seventy_megabytes_fill_a_link() {
    for queue_bdp in [0.1, 1.0, 4.0] {
        check(1, 0.0, queue_bdp);
    }
}

#[test]
fn seventy_megabytes_fill_a_link_that_loses_one_packet_in_a_thousand() {
    for seed in 1..=3 {
        for queue_bdp in [0.1, 1.0, 4.0] {
            check(seed, 0.001, queue_bdp);
        }
    }
}

#[test]
fn seventy_megabytes_fill_a_link_that_loses_one_packet_in_a_hundred() {
    for seed in 1..=3 {
        for queue_bdp in [0.1, 1.0, 4.0] {
            check(seed, 0.01, queue_bdp);
        }
    }
}

/// What crosses the wire until two regions with a small model are linked and have said their first,
/// both ways.
#[test]
fn a_pair_is_set_up_with_few_bytes() {
    let clock = VirtualClock::new();
    let bytes = clock.run(Duration::from_secs(60), set_up(clock.clone())).expect("in time");
    println!("{bytes} bytes");
    // A handshake has three packets of 1228 bytes, below which QUIC pads none of them.
    assert!(bytes < 6_000, "{bytes} bytes");
}

async fn set_up(clock: VirtualClock) -> u64 {
    let world = World::new(&clock, 1);
    let link = LinkConfig::clean(RATE, ONE_WAY);
    let model = Model::new(vec![TableSpec::new("weights", 65, 10)], 1);
    let path = Path {
        rate_bytes_per_sec: Some(RATE),
        round_trip: Some(2 * ONE_WAY),
        model_bytes: Some(65 * 10 * 4),
        ..Path::default()
    };
    let ip = |at: u16| host_address(at.into()).ip();
    let mut sites = Vec::new();
    for at in 0..2 {
        let policy = Policy::naive(Lead::Unlimited);
        let plan = SitePlan {
            at,
            workers: 1,
            staleness: None,
            policy,
            peers: vec![(1 - at, path)],
            window_bytes: None,
            job_digest: vec![1; 32],
        };
        world.network.set_link(ip(at), ip(1 - at), link.clone());
        let site = Site::start(&plan, &model, Unobserved);
        let endpoint = world.endpoint(at, &server_name(at), &world.authority);
        keep_links(&world, &plan, &model, &endpoint, site.events.clone());
        sites.push((site, endpoint));
    }
    // The first clock is said as soon as both are there.
    for (site, _) in &sites {
        let flush = Flush { worker: WorkerId(0), clock: Clock(1), deltas: Vec::new() };
        site.requests.send((ShardId(0), Request::Flush(flush))).await.expect("the server runs");
    }
    clock.sleep(Duration::from_secs(3)).await;
    for (site, _) in &sites {
        let heard = |node: &Node| node.replicas()[0].inbox(0).reported_clock();
        assert_eq!(site.inspect(heard).await, Clock(1));
    }
    [(0, 1), (1, 0)].map(|(from, to)| world.network.counters(ip(from), ip(to)).offered_bytes).iter().sum()
}
