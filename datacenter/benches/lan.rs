//! How fast rows go from workers to a server and back over loopback, beside bare TCP with as many
//! bytes: everything in turns in one run, medians of five turns.
//!
//! `cargo bench -p datacenter --bench lan`

#![expect(clippy::disallowed_methods, reason = "a bench measures the time of day")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use datacenter::client::Client;
use datacenter::lan::server::Listener;
use datacenter::lan::worker::{Handle, LinkState, Plan, ServerLink};
use datacenter::lan::{Incarnations, Presence, Security, Terms};
use datacenter::local::{Call, Port, REQUEST_QUEUE, Session};
use datacenter::message::{Notice, ReadReply, Request};
use datacenter::refusals::Refusals;
use datacenter::shard::{Open, Shard};
use datacenter::wire::Shapes;
use datacenter::{Clock, Placement, ShardId, TableId, TableSpec, WorkerId, shard_tables};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

const TURNS: usize = 5;
const TABLE: TableId = TableId(0);
const SHARD: ShardId = ShardId(0);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        println!("a 100 MB model pushed and pulled by each of two workers, ms a clock");
        rounds(100_000_000).await;
        println!("\na push until the server has it, us");
        for bytes in [64, 4 << 10, 64 << 10, 1 << 20, 4 << 20] {
            pushes(bytes).await;
        }
        println!("\n10,000 of 20,000 rows of 32 values, M rows/s");
        rows().await;
    });
}

/// A server of one table on one shard for so many workers, with a task as small as can be.
async fn serve(spec: &TableSpec, workers: usize) -> (String, Arc<Shapes>) {
    let specs = [spec.clone()];
    let shapes = Arc::new(Shapes(vec![shard_tables(&specs, Placement::new(1), SHARD)]));
    let initial = shapes.0[0].iter().map(|shape| vec![0.0; shape.elements()]).collect();
    let mut shard = Shard::new(SHARD, &shapes.0[0], initial, workers, Some(0));
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("it is bound").to_string();
    let (requests, mut queue) = mpsc::channel::<(ShardId, Request)>(REQUEST_QUEUE);
    let (calls, mut asked) = mpsc::channel(16);
    let listener = Listener {
        terms: terms(),
        server: 0,
        incarnation: 1,
        security: Security::Plaintext,
        shapes: Arc::clone(&shapes),
        workers: workers as u32,
        requests,
        calls,
        notice: watch::channel(Notice::Serving).1,
        refusals: Refusals::default(),
        incarnations: Incarnations::default(),
        presence: watch::channel(Presence::new(tokio::time::Instant::now())).0,
        operators: None,
    };
    tokio::spawn(listener.serve(socket));
    tokio::spawn(async move {
        let mut replies: Vec<Option<mpsc::Sender<ReadReply>>> = vec![None; workers];
        // A refusal that nobody holds would end the session.
        let mut refusals = Vec::new();
        loop {
            let mut answers = Vec::new();
            tokio::select! {
                Some((_, request)) = queue.recv() => {
                    match request {
                        Request::Flush(flush) => _ = shard.handle_flush(&flush).expect("it makes sense"),
                        Request::Read(read) => {
                            answers.extend(shard.handle_read(read, Instant::now(), &Open).expect("it makes sense"));
                        }
                        Request::Leave(worker) => _ = shard.remove_worker(worker),
                    }
                    answers.extend(std::iter::from_fn(|| shard.poll_reply(Instant::now(), &Open)));
                }
                Some(call) = asked.recv() => match call {
                    Call::Attach { worker, replies: to, refusal, answer, .. } => {
                        replies[worker.index()] = Some(to);
                        refusals.push(refusal);
                        let _ = answer.send(vec![shard.standing(worker)]);
                    }
                    Call::Suspend { answer, .. } => _ = answer.send(false),
                    Call::Join { worker, clock, answer } => {
                        let clock = shard.join(worker, clock).expect("it is known");
                        let _ = answer.send(vec![(SHARD, clock)]);
                    }
                },
                else => return,
            }
            for answer in answers {
                if let Some(to) = &replies[answer.worker.index()] {
                    let _ = to.send(answer).await;
                }
            }
        }
    });
    (address, shapes)
}

fn terms() -> Terms {
    Terms { datacenter: "bench".into(), job_digest: vec![7; 32] }
}

/// Workers that have joined.
async fn workers(spec: &TableSpec, count: u32) -> Vec<(Session, Handle)> {
    let (address, shapes) = serve(spec, count as usize).await;
    let mut workers = Vec::new();
    for worker in (0..count).map(WorkerId) {
        let plan = Plan {
            terms: terms(),
            worker,
            incarnation: 1,
            server: 0,
            address: address.clone(),
            security: Security::Plaintext,
            shapes: Arc::clone(&shapes),
            refusals: Refusals::default(),
        };
        let (requests, queue) = mpsc::channel(16);
        let (replies, answers) = mpsc::channel(4);
        let client = Client::new(worker, std::slice::from_ref(spec), Placement::new(1), Some(0));
        let (link, handle) = ServerLink::new(plan, queue, replies);
        tokio::spawn(link.run());
        let mut state = handle.state.clone();
        state.wait_for(|state| matches!(state, LinkState::Connected { .. })).await.expect("it runs");
        workers.push((Session::new(client, Port { shards: vec![requests], replies: answers }), handle));
    }
    for (_, handle) in &workers {
        handle.join(Clock(0)).await.expect("the server is there");
    }
    workers
}

/// Two workers that change and read everything, by turns with two connections that carry as much.
async fn rounds(bytes: usize) {
    let width = 1000;
    let spec = TableSpec::new("t", (bytes / 4) as u32 / width, width);
    let rows: Arc<Vec<u32>> = Arc::new((0..spec.rows).collect());
    let mut workers = workers(&spec, 2).await;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for turn in 0..=TURNS {
        let start = Instant::now();
        let tasks: Vec<_> = workers
            .drain(..)
            .map(|(mut session, handle)| {
                let rows = Arc::clone(&rows);
                tokio::spawn(async move {
                    session.fetch([(TABLE, &rows[..])].into_iter()).await.expect("it is answered");
                    let mut learnt = Duration::ZERO;
                    if turn == 0 {
                        let delta = vec![1e-3; width as usize];
                        rows.iter().for_each(|row| session.client().add(TABLE, *row, &delta));
                        session.clock().await.expect("it is sent");
                        return ((session, handle), learnt);
                    }
                    let before = Instant::now();
                    let delta = vec![1e-3; width as usize];
                    rows.iter().for_each(|row| session.client().add(TABLE, *row, &delta));
                    learnt += before.elapsed();
                    session.clock().await.expect("it is sent");
                    ((session, handle), learnt)
                })
            })
            .collect();
        let mut learning = Duration::ZERO;
        for task in tasks {
            let (worker, learnt) = task.await.expect("no panic");
            learning = learning.max(learnt);
            workers.push(worker);
        }
        if turn > 0 {
            ours.push(millis(start.elapsed().saturating_sub(learning)));
            bare.push(millis(bare_round(bytes).await));
        }
    }
    report("push and pull, plain", &mut ours, &mut bare);
}

/// Two connections over which everything goes there, and then back.
async fn bare_round(bytes: usize) -> Duration {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("it is bound");
    let data = Arc::new(vec![1u8; 256 << 10]);
    let mut dialled = Vec::new();
    for _ in 0..2 {
        let stream = TcpStream::connect(address).await.expect("it listens");
        dialled.push((stream, socket.accept().await.expect("somebody comes").0));
    }
    let start = Instant::now();
    let tasks: Vec<_> = dialled
        .into_iter()
        .map(|(mut here, mut there)| {
            let data = Arc::clone(&data);
            let echo = Arc::clone(&data);
            let server = tokio::spawn(async move {
                take(&mut there, bytes).await;
                give(&mut there, &echo, bytes).await;
            });
            tokio::spawn(async move {
                give(&mut here, &data, bytes).await;
                take(&mut here, bytes).await;
                server.await.expect("no panic");
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    start.elapsed()
}

async fn give(stream: &mut TcpStream, data: &[u8], bytes: usize) {
    let mut left = bytes;
    while left > 0 {
        let part = left.min(data.len());
        stream.write_all(&data[..part]).await.expect("somebody reads");
        left -= part;
    }
}

async fn take(stream: &mut TcpStream, bytes: usize) {
    let mut buffer = vec![0; 256 << 10];
    let mut left = bytes;
    while left > 0 {
        left -= stream.read(&mut buffer[..left.min(256 << 10)]).await.expect("somebody writes");
    }
}

/// A push of so many bytes until it is acknowledged, by turns with bare TCP.
async fn pushes(bytes: usize) {
    let width = (bytes / 4).min(1024) as u32;
    let spec = TableSpec::new("t", (bytes / 4) as u32 / width, width);
    let rows: Vec<u32> = (0..spec.rows).collect();
    let delta = vec![1e-3; width as usize];
    let (mut session, handle) = workers(&spec, 1).await.remove(0);
    session.fetch([(TABLE, &rows[..])].into_iter()).await.expect("it is answered");
    let times = (100_000_000 / bytes).clamp(20, 500);
    let mut echo = Echo::new(bytes).await;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let mut turn = Vec::new();
        for _ in 0..times {
            rows.iter().for_each(|row| session.client().add(TABLE, *row, &delta));
            let start = Instant::now();
            session.clock().await.expect("it is sent");
            let clock = session.client().clock();
            assert!(handle.flushed(SHARD, clock).await);
            turn.push(micros(start.elapsed()));
        }
        ours.push(median(&mut turn));
        let mut turn = Vec::new();
        for _ in 0..times {
            let start = Instant::now();
            echo.push().await;
            turn.push(micros(start.elapsed()));
        }
        bare.push(median(&mut turn));
    }
    report(&format!("push of {bytes} bytes"), &mut ours, &mut bare);
}

/// A connection whose other end acknowledges every so many bytes.
struct Echo {
    stream: TcpStream,
    data: Vec<u8>,
}

impl Echo {
    async fn new(bytes: usize) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let stream = TcpStream::connect(socket.local_addr().expect("it is bound")).await.expect("it listens");
        stream.set_nodelay(true).expect("it is TCP");
        let (mut there, _) = socket.accept().await.expect("somebody comes");
        there.set_nodelay(true).expect("it is TCP");
        tokio::spawn(async move {
            let mut buffer = vec![0; bytes];
            while there.read_exact(&mut buffer).await.is_ok() {
                there.write_all(&[1]).await.expect("somebody reads");
            }
        });
        Self { stream, data: vec![1; bytes] }
    }

    async fn push(&mut self) {
        self.stream.write_all(&self.data).await.expect("somebody reads");
        self.stream.read_exact(&mut [0]).await.expect("it is acknowledged");
    }
}

/// Every other row is pushed, and read again.
async fn rows() {
    let spec = TableSpec::new("t", 20_000, 32);
    let rows: Vec<u32> = (0..spec.rows).step_by(2).collect();
    let (mut session, handle) = workers(&spec, 1).await.remove(0);
    session.fetch([(TABLE, &rows[..])].into_iter()).await.expect("it is answered");
    let (mut push, mut pull) = (Vec::new(), Vec::new());
    for _ in 0..20 * TURNS {
        rows.iter().for_each(|row| session.client().add(TABLE, *row, &[1e-3; 32]));
        let start = Instant::now();
        session.clock().await.expect("it is sent");
        let clock = session.client().clock();
        assert!(handle.flushed(SHARD, clock).await);
        push.push(rows.len() as f64 / micros(start.elapsed()));
        let start = Instant::now();
        session.fetch([(TABLE, &rows[..])].into_iter()).await.expect("it is answered");
        pull.push(rows.len() as f64 / micros(start.elapsed()));
    }
    println!("{:28} {:10.2}", "push", median(&mut push));
    println!("{:28} {:10.2}", "pull", median(&mut pull));
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn median(of: &mut [f64]) -> f64 {
    of.sort_unstable_by(f64::total_cmp);
    of[of.len() / 2]
}

fn report(what: &str, ours: &mut [f64], bare: &mut [f64]) {
    let (ours, bare) = (median(ours), median(bare));
    println!("{what:28} {ours:10.1}   bare TCP {bare:10.1}   ratio {:5.2}", ours / bare);
}
