//! A large update over a long link, by the way that the product sends it: what of the link it uses, and whether clocks and
//! barriers keep coming meanwhile.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use datacenter::message::{Flush, Request};
use datacenter::{Clock, Elements, ShardId, TableId, TableSpec, WorkerId};
use gaia_tests::site::{Model, Site, SitePlan, World, keep_links, server_name};
use tokio::sync::mpsc;
use wan::driver::server::{EVENT_QUEUE, Event, Unobserved};
use wan::emulation::{VirtualClock, host_address};
use wan::link::LinkConfig;
use wan::policy::{Lead, Policy, Selection};
use wan::transport::Path;

const RATE: u64 = 12_500_000;
const ONE_WAY: Duration = Duration::from_millis(80);
/// How late a clock or a barrier may be.
const LATE: Duration = Duration::from_millis(20);

/// How a bulk update went.
#[derive(Debug)]
struct Report {
    payload_bytes: u64,
    took: Duration,
    /// How late each message about a clock was, beyond the link's delay.
    late: Vec<Duration>,
    barrier_late: Option<Duration>,
}

impl Report {
    fn share(&self) -> f64 {
        self.payload_bytes as f64 / (RATE as f64 * self.took.as_secs_f64())
    }
}

/// What has come to the receiver, and when.
#[derive(Default)]
struct Seen {
    progress: Vec<(Clock, Duration)>,
    first_barrier: Option<Duration>,
    payload_bytes: u64,
    last_update: Duration,
}

/// One region flushes `elements` values at its first clock, and then an empty clock each 50 ms.
fn run(seed: u64, loss: f64, queue_bdp: f64, elements: u32) -> Report {
    let clock = VirtualClock::new();
    clock
        .run(Duration::from_secs(300), send(clock.clone(), seed, loss, queue_bdp, elements))
        .expect("in time")
}

async fn send(clock: VirtualClock, seed: u64, loss: f64, queue_bdp: f64, elements: u32) -> Report {
    const CLOCK: Duration = Duration::from_millis(50);
    let world = World::new(&clock, seed);
    let mut link = LinkConfig::clean(RATE, ONE_WAY);
    link.queue_bytes = (2_000_000.0 * queue_bdp) as u64;
    link.loss = loss;
    let path = Path { rate_bytes_per_sec: Some(RATE), round_trip: Some(2 * ONE_WAY), ..Path::default() };
    let model = Model::new(vec![TableSpec { name: "weights".into(), rows: elements / 100, width: 100 }], 1);
    let barrier_max_delay = Some(Duration::from_millis(200));
    let policy = Policy { selection: Selection::Everything, barrier_max_delay, lead: Lead::Unlimited };
    let mut sites = Vec::new();
    let (told, mut tap) = mpsc::channel(EVENT_QUEUE);
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
                    if controls.iter().any(|c| !c.barriers.is_empty()) {
                        log.first_barrier.get_or_insert(now);
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
    (0..elements / 100 * 100).for_each(|index| deltas.push(index, 1.0));
    let mut flush = Flush { worker: WorkerId(0), clock: Clock(1), deltas: vec![deltas] };
    let from = &sites[0].0;
    let total = loop {
        let next = Flush { clock: flush.clock.next(), deltas: vec![], ..flush };
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
    Report {
        payload_bytes: total,
        took: seen.last_update - start,
        late,
        barrier_late: seen.first_barrier.map(|at| at.saturating_sub(start + ONE_WAY)),
    }
}

/// Asserts what a link of this loss and queue must do; shorter transfers are not judged, as the first round trips and the
/// last cannot be full.
fn check(loss: f64, queue_bdp: f64) {
    let report = run(1, loss, queue_bdp, 17_500_000);
    let in_time = report.late.iter().filter(|late| **late <= LATE).count();
    let what = format!("loss {loss}, queue of {queue_bdp} BDP");
    println!(
        "{what}: {} bytes in {:?}, {:.1} % of the link; {in_time} of {} clocks in time, the worst {:?} late; barrier {:?} late",
        report.payload_bytes,
        report.took,
        100.0 * report.share(),
        report.late.len(),
        report.late.iter().max(),
        report.barrier_late,
    );
    assert!(report.share() >= 0.85, "{what}: {}", report.share());
    assert!(
        report.barrier_late.is_some_and(|late| late <= LATE),
        "{what}: barrier {:?}",
        report.barrier_late
    );
    // A message may be lost before the first loss was seen, after which each is sent more than once.
    let most = if loss == 0.0 { 0 } else { 1 };
    assert!(in_time + most >= report.late.len(), "{what}: {in_time} of {}", report.late.len());
}

#[test]
fn seventy_megabytes_fill_a_link() {
    for queue_bdp in [0.1, 1.0, 4.0] {
        check(0.0, queue_bdp);
    }
}

#[test]
fn seventy_megabytes_fill_a_link_that_loses_packets() {
    for loss in [0.001, 0.01] {
        for queue_bdp in [0.1, 1.0, 4.0] {
            check(loss, queue_bdp);
        }
    }
}
