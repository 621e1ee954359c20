//! Processes that do not exist, for tests of what is shown of them.
//!
//! Three regions of two servers and three workers each. What they say follows from how far they
//! are, so that a view of them moves: virginia is ahead, ireland has a barrier open to it,
//! singapore is slow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;

use super::fetch::{FetchError, Fetched, Target};
use super::*;

const REGIONS: [&str; 3] = ["virginia", "ireland", "singapore"];
const CLOCKS: u32 = 200;
const SHARDS: u16 = 4;

/// All processes, region by region, when the slowest shard has completed `clock`.
pub(crate) fn processes(clock: u32) -> Vec<Status> {
    let mut processes = Vec::new();
    for region in 0..REGIONS.len() {
        processes.extend((0..2).map(|index| server_process(region, index, clock)));
        processes.extend((0..3).map(|index| worker_process(region, index, clock)));
    }
    processes
}

/// One process that is everything in its region, and has something of everything.
pub(crate) fn whole_region() -> Status {
    let mut status = process(0, "region".to_owned(), 118);
    status.servers = (0..2).map(|index| server(0, index, 118)).collect();
    status.workers = (0..3).map(|index| worker(0, index, 118)).collect();
    status.waiting_for = vec!["server 1 of ireland".to_owned()];
    let refused = |scope: &str, cause: &str, by: &str, count| Refusals {
        scope: scope.to_owned(),
        cause: cause.to_owned(),
        by: by.to_owned(),
        count,
    };
    status.refusals = vec![refused("wan", "expired", "us", 3), refused("lan", "a new cause", "them", 1)];
    status
}

/// The processes as they were fetched: all answer but singapore's second worker.
pub(crate) fn fetched(clock: u32) -> Vec<Fetched> {
    let answers = processes(clock).into_iter().enumerate().map(|(at, status)| {
        let url = format!("127.0.0.1:{}", 7500 + at).parse().expect("a URL");
        let name = Some((status.datacenter.clone(), status.role.clone()));
        let refused = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let silent = status.datacenter == "singapore" && status.role == "worker-1";
        let status = if silent { Err(FetchError::Connect(refused())) } else { Ok(status) };
        Fetched { target: Target { url, name }, status }
    });
    answers.collect()
}

fn process(region: usize, role: String, clock: u32) -> Status {
    let name = if role.starts_with("worker") { "worker" } else { "server" };
    Status {
        version: "0.1.0".to_owned(),
        datacenter: REGIONS[region].to_owned(),
        role,
        phase: if clock >= CLOCKS { Phase::Finished } else { Phase::Training },
        waiting_for: vec![],
        uptime_seconds: 12.0 + f64::from(clock) / 3.0,
        job: JobStatus {
            name: "digits".to_owned(),
            digest: "3f9a1c7e".to_owned(),
            strategy: "asp".to_owned(),
            clocks: CLOCKS,
        },
        certificates: vec![CertificateStatus {
            name: format!("{}.{name}.gaia", REGIONS[region]),
            serial: "1f2e".to_owned(),
            seconds_to_expiry: 86_400.0 * if region == 1 { 12.5 } else { 364.0 },
        }],
        ..Status::default()
    }
}

/// How far a region is when the slowest is at `clock`.
fn reached(region: usize, clock: u32) -> u32 {
    (clock + [5, 3, 0][region]).min(CLOCKS)
}

fn server_process(region: usize, index: u16, clock: u32) -> Status {
    let mut status = process(region, format!("server-{index}"), clock);
    status.servers = vec![server(region, index, clock)];
    if region == 2 && index == 1 {
        let refusals = [("unknown_authority", 2), ("job", 1)];
        status.refusals = refusals
            .map(|(cause, count)| Refusals {
                scope: "wan".to_owned(),
                cause: cause.to_owned(),
                by: "us".to_owned(),
                count,
            })
            .into();
    }
    status
}

fn server(region: usize, index: u16, clock: u32) -> ServerStatus {
    let shards = (0..SHARDS).filter(|shard| shard % 2 == index);
    let peers = (0..REGIONS.len()).filter(|peer| *peer != region);
    let links: Vec<_> = peers.map(|peer| link(region, peer, index, clock)).collect();
    ServerStatus {
        index,
        shards: shards.map(|number| shard(region, number, clock)).collect(),
        workers: vec![0, 1, 2],
        missing_workers: vec![],
        suspensions: 0,
        // Handshakes belong to no link.
        wan_sent_bytes: links.iter().map(|link| link.sent_bytes).sum::<u64>() + 12_000,
        wan_received_bytes: links.iter().map(|link| link.received_bytes).sum::<u64>() + 9_000,
        links,
    }
}

fn shard(region: usize, number: u16, clock: u32) -> ShardStatus {
    let own = reached(region, clock) - u32::from(number == 3 && region == 0);
    let mirror = |peer: usize| MirrorStatus {
        datacenter: REGIONS[peer].to_owned(),
        clock: reached(peer, clock).saturating_sub(1),
        lead: (own + 1).saturating_sub(reached(peer, clock)),
        lead_limit: Some(6),
        idle: false,
        presence: MirrorPresence::Live,
        silent_seconds: 0.04,
    };
    let hold = |worker, reason: &str, peer: Option<usize>, seconds| HoldStatus {
        worker,
        reason: reason.to_owned(),
        datacenter: peer.map(|peer| REGIONS[peer].to_owned()),
        seconds,
    };
    let holds = match (region, number) {
        (0, 1) => vec![
            hold(2, "barrier", Some(1), 1.2),
            hold(0, "mirror_clock", Some(2), 0.31),
            hold(1, "mirror_clock", Some(2), 0.28),
        ],
        (1, 0) if clock.is_multiple_of(2) => vec![hold(1, "stale", None, 0.04)],
        _ => vec![],
    };
    ShardStatus {
        shard: number,
        fetching: false,
        clock: own,
        slowest_workers: vec![],
        mirrors: (0..REGIONS.len()).filter(|peer| *peer != region).map(mirror).collect(),
        holds,
        held_seconds: BTreeMap::from([
            ("barrier".to_owned(), f64::from(own) / 16.0),
            ("stale".to_owned(), f64::from(own) / 64.0),
        ]),
        updated_elements: 1960 * u64::from(own),
        shipped_elements: 84 * u64::from(own),
        release_every: Some(if region == 2 { 4 << (number % 2) } else { 8 }),
        filters: vec![filter(region, own)],
        checkpoint: Some(CheckpointStatus {
            kept: Some(KeptStatus {
                clock: own / 10 * 10,
                age_seconds: f64::from(own % 10) / 3.0,
                bytes: 10_400,
                write_seconds: Some(0.0125),
            }),
            failures: u64::from(region == 2 && number == 1),
            problem: None,
        }),
    }
}

/// The regions' updates are alike, but for those of singapore.
fn filter(region: usize, clock: u32) -> FilterStatus {
    let usual_update = 0.031 / f64::from(clock + 1);
    let likeness = if region == 2 { -0.4 } else { 0.85 };
    FilterStatus {
        table: "weights".to_owned(),
        function: "usual-update".to_owned(),
        significance_threshold: Some(10.0),
        raised: Some(if region == 2 { 2.5 } else { 1.0 }),
        threshold: Some(10.0 * usual_update),
        step: Some(1.0 / 512.0),
        usual_update: Some(usual_update),
        gain: Some(2.0 * likeness),
        likeness: Some(likeness),
        updated_elements: 1960 * u64::from(clock),
        shipped_elements: 84 * u64::from(clock),
    }
}

fn link(region: usize, peer: usize, index: u16, clock: u32) -> LinkStatus {
    let own = u64::from(reached(region, clock));
    // The thin one.
    let is_thin = region == 2 || peer == 2;
    let is_up = (region, peer, index) != (2, 1, 1);
    LinkStatus {
        datacenter: REGIONS[peer].to_owned(),
        server: index,
        up: is_up,
        problem: (!is_up).then(|| {
            "ireland-1.example.net:7200: ireland refused our certificate: it expired on 2026-11-20".to_owned()
        }),
        since_seconds: if is_up { 40.0 + own as f64 / 3.0 } else { 12.3 },
        address: is_up.then(|| format!("203.0.113.{}:7200", 10 * peer + usize::from(index))),
        connects: 1,
        round_trip_seconds: is_up.then_some(if is_thin { 0.1724 } else { 0.0721 }),
        rate_bytes_per_sec: Some(if is_thin { 1_870_000.0 } else { 12_500_000.0 }),
        budget_bytes_per_sec: is_thin.then_some(62_500.0),
        budget_used: is_thin.then_some(0.97),
        backlog_bytes: if is_thin { 34_000 + 700 * (own % 7) } else { 0 },
        backlog_seconds: if is_thin { 0.018 } else { 0.0 },
        in_flight_bytes: if is_thin { 320_000 } else { 41_000 },
        sent_bytes: 4_100 * own,
        received_bytes: 3_900 * own,
        sent_payload_bytes: 3_300 * own,
        repeated_bytes: 90 * own,
        naive_bytes: 90_500 * own,
        announced_rows: 3 * own,
    }
}

fn worker_process(region: usize, index: u32, clock: u32) -> Status {
    let mut status = process(region, format!("worker-{index}"), clock);
    status.workers = vec![worker(region, index, clock)];
    if region == 2 && index == 2 {
        status.phase = Phase::Waiting;
        status.waiting_for = vec!["server 1 of singapore at singapore-1.example.net:7100".to_owned()];
    }
    status
}

fn worker(region: usize, index: u32, clock: u32) -> WorkerStatus {
    let own = reached(region, clock);
    WorkerStatus {
        index,
        clock: own,
        examples: 160,
        processed_examples: 32 * u64::from(own),
        compute_seconds: 0.27 * f64::from(own),
        wait_seconds: 0.06 * f64::from(own),
        failed_steps: 0,
        score: (index == 0).then(|| ScoreStatus {
            clock: own - own % 5,
            objective: 0.08 + 2.2 / (1.0 + f64::from(own) / 4.0),
            metric: "accuracy".to_owned(),
            value: 0.97 - 0.8 / (1.0 + f64::from(own) / 4.0),
        }),
    }
}

/// Serves what moves, on the ports that [`fetched`] names, to be looked at: `cargo test -p gaia
/// --lib made_up -- --ignored`, and then `gaia status --watch --url 127.0.0.1:7500 ...`.
#[test]
#[ignore = "serves for ten minutes, to be looked at"]
fn serve() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let clock = Arc::new(AtomicU32::new(20));
        for (at, fetched) in fetched(20).into_iter().enumerate() {
            if fetched.status.is_err() {
                continue;
            }
            let listener =
                TcpListener::bind(format!("127.0.0.1:{}", 7500 + at)).await.expect("the port is free");
            let clock = Arc::clone(&clock);
            let source = move || {
                let clock = clock.load(Ordering::Relaxed);
                async move { processes(clock).swap_remove(at) }
            };
            tokio::spawn(crate::service::admin::serve(listener, Arc::new(source)));
        }
        for _ in 0..1800 {
            tokio::time::sleep(Duration::from_millis(330)).await;
            clock.fetch_add(1, Ordering::Relaxed);
        }
    });
}
