//! A worker's session over real sockets, on connections that break.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::half_open::MAX_HALF_OPEN_OF_ONE;
use super::life::{HEARTBEAT, SILENCE};

use super::server::{Listener, WorkerSession};
use super::worker::{LinkState, Plan, ServerLink, Unsent};
use super::{Incarnations, LanError, Presence, Security, Terms, Way, framed};
use crate::client::Client;
use crate::local::{Call, Port, Refusal, Session};
use crate::message::{Notice, ReadReply, Request};
use crate::refusals::{Refusals, Refused};
use crate::rows::RowBlock;
use crate::shard::{Open, Shard};
use crate::wire::{Shapes, ToServer, ToWorker, VERSION, Welcome};
use crate::{Clock, Placement, ShardId, TableId, TableSpec, WorkerId, shard_tables};

const LIMIT: Duration = Duration::from_secs(20);

fn specs() -> Vec<TableSpec> {
    vec![TableSpec::new("w", 4, 2)]
}

fn shapes() -> Arc<Shapes> {
    shapes_of(1)
}

fn shapes_of(shards: u16) -> Arc<Shapes> {
    let tables = |shard| shard_tables(&specs(), Placement::new(shards), ShardId(shard));
    Arc::new(Shapes((0..shards).map(tables).collect()))
}

fn terms() -> Terms {
    Terms { datacenter: "oslo".into(), job_digest: vec![7; 32] }
}

/// A server of one shard, whose task is as small as can be.
struct Host {
    address: String,
    notice: watch::Sender<Notice>,
    refusals: Refusals,
    shard: Arc<std::sync::Mutex<Shard>>,
    presence: watch::Receiver<Presence>,
    /// Requests, as they come to the shard.
    heard: Arc<std::sync::Mutex<Vec<Request>>>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Host {
    /// Stops at once, as a process does that is killed. Yields where it was, so that another life
    /// may begin there.
    async fn kill(self) -> (String, Arc<std::sync::Mutex<Shard>>) {
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
        (self.address, self.shard)
    }
}

fn new_shard(workers: u32) -> Shard {
    Shard::new(ShardId(0), &shapes().0[0], vec![vec![0.0; 8]], workers as usize, Some(0))
}

async fn host(workers: u32) -> Host {
    life("127.0.0.1:0", 1, new_shard(workers), 1).await
}

/// One life of a server, which hosts one of so many shards and has its number.
async fn life(address: &str, incarnation: u64, shard: Shard, shards: u16) -> Host {
    life_of(address, incarnation, shard, shapes_of(shards)).await
}

/// The same, with tables of these shapes.
async fn life_of(address: &str, incarnation: u64, shard: Shard, shapes: Arc<Shapes>) -> Host {
    let binding = async {
        loop {
            match TcpListener::bind(address).await {
                Ok(socket) => return socket,
                // Connections of the former life are about to close.
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let socket = timeout(LIMIT, binding).await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let (requests, mut queue) = mpsc::channel::<(ShardId, Request)>(16);
    let (calls, mut asked) = mpsc::channel(16);
    let (notice, noticed) = watch::channel(Notice::Serving);
    let refusals = Refusals::default();
    let (presence, present) = watch::channel(Presence::new(Instant::now()));
    let workers = shard.worker_count();
    let listener = Listener {
        terms: terms(),
        server: shard.id().0,
        incarnation,
        security: Security::Plaintext,
        shapes,
        workers: workers as u32,
        requests,
        calls,
        notice: noticed,
        refusals: refusals.clone(),
        incarnations: Incarnations::default(),
        presence,
        operators: None,
    };
    let serving = tokio::spawn(listener.serve(socket));
    let shard = Arc::new(std::sync::Mutex::new(shard));
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (task, hearing) = (shard.clone(), heard.clone());
    let working = tokio::spawn(async move {
        let mut replies: Vec<Option<mpsc::Sender<ReadReply>>> = vec![None; workers];
        let mut refused = vec![Refusal::default(); workers];
        loop {
            let now = tokio::time::Instant::now().into_std();
            let mut answers = Vec::new();
            tokio::select! {
                Some((_, request)) = queue.recv() => {
                    let mut shard = task.lock().unwrap();
                    hearing.lock().unwrap().push(request.clone());
                    match request {
                        Request::Flush(flush) => {
                            let worker = flush.worker.index();
                            if let Err(error) = shard.handle_flush(&flush) {
                                refused[worker].give(error.to_string());
                                replies[worker] = None;
                            }
                        }
                        Request::Read(read) => answers.extend(shard.handle_read(read, now, &Open).unwrap()),
                        Request::Leave(worker) => _ = shard.remove_worker(worker),
                    }
                    answers.extend(std::iter::from_fn(|| shard.poll_reply(now, &Open)));
                }
                Some(call) = asked.recv() => {
                    let mut shard = task.lock().unwrap();
                    match call {
                        Call::Attach { worker, replies: to, refusal, answer, .. } => {
                            (replies[worker.index()], refused[worker.index()]) = (Some(to), refusal);
                            shard.resume(worker);
                            let _ = answer.send(vec![shard.standing(worker)]);
                        }
                        Call::Suspend { worker, answer } => {
                            shard.suspend(worker);
                            let _ = answer.send(true);
                        }
                        Call::Join { worker, clock, answer } => {
                            let clock = shard.join(worker, clock).unwrap();
                            let _ = answer.send(vec![(shard.id(), clock)]);
                        }
                    }
                }
                else => return,
            }
            for answer in answers {
                if let Some(to) = &replies[answer.worker.index()] {
                    let _ = to.send(answer).await;
                }
            }
        }
    });
    Host { address, notice, refusals, shard, presence: present, heard, tasks: [serving, working] }
}

fn plan(address: &str, worker: u32) -> Plan {
    Plan {
        terms: terms(),
        worker: WorkerId(worker),
        incarnation: 1,
        server: 0,
        address: address.into(),
        security: Security::Plaintext,
        shapes: shapes(),
        refusals: Refusals::default(),
    }
}

fn open(plan: Plan) -> (Session, super::worker::Handle, tokio::task::JoinHandle<Unsent>) {
    open_carrying(plan, Unsent::new())
}

fn open_carrying(
    plan: Plan,
    carried: Unsent,
) -> (Session, super::worker::Handle, tokio::task::JoinHandle<Unsent>) {
    let (requests, queue) = mpsc::channel(16);
    let (replies, answers) = mpsc::channel(4);
    let client = Client::new(plan.worker, &specs(), Placement::new(1), Some(0));
    let (link, handle) = ServerLink::new(plan, queue, replies);
    let running = tokio::spawn(link.carrying(carried).run());
    (Session::new(client, Port { shards: vec![requests], replies: answers }), handle, running)
}

async fn connected(handle: &super::worker::Handle) {
    let mut state = handle.state.clone();
    timeout(LIMIT, state.wait_for(|state| matches!(state, LinkState::Connected { .. })))
        .await
        .unwrap()
        .unwrap();
}

async fn one_clock(session: &mut Session) {
    let rows = [0, 1, 2, 3];
    timeout(LIMIT, session.fetch([(TableId(0), &rows[..])].into_iter())).await.unwrap().unwrap();
    session.client().add(TableId(0), 1, &[1.0, 2.0]);
    session.clock().await.unwrap();
}

#[tokio::test]
async fn two_workers_train_over_sockets_and_leave() {
    let host = host(2).await;
    let mut workers = Vec::new();
    for worker in 0..2 {
        let (mut session, handle, running) = open(plan(&host.address, worker));
        connected(&handle).await;
        workers.push(tokio::spawn(async move {
            let joined = handle.join(Clock(0)).await;
            assert_eq!(joined, Some(vec![(ShardId(0), Clock(0))]));
            for _ in 0..20 {
                one_clock(&mut session).await;
            }
            session.leave().await.unwrap();
            drop(session);
            // It ends when all that was said has been delivered.
            assert_eq!(timeout(LIMIT, running).await.unwrap().unwrap(), []);
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
    let shard = host.shard.lock().unwrap();
    assert!(shard.is_idle());
    assert_eq!(shard.clock(), Clock(20));
    assert_eq!(&shard.values(TableId(0))[2..4], [40.0, 80.0]);
}

#[tokio::test]
async fn a_worker_whose_flush_is_refused_is_told_why_and_does_not_come_back() {
    let host = host(2).await;
    let (mut honest, handle, _running) = open(plan(&host.address, 1));
    connected(&handle).await;
    let (mut session, handle, running) = open(plan(&host.address, 0));
    connected(&handle).await;
    for delta in [5e28, 5e28] {
        timeout(LIMIT, session.fetch([(TableId(0), &[1][..])].into_iter())).await.unwrap().unwrap();
        session.client().add(TableId(0), 1, &[delta, 0.0]);
        session.clock().await.unwrap();
        one_clock(&mut honest).await;
    }
    let mut state = handle.state.clone();
    let refused =
        timeout(LIMIT, state.wait_for(|state| matches!(state, LinkState::Refused(_)))).await.unwrap();
    let LinkState::Refused(why) = refused.unwrap().clone() else { unreachable!("waited for") };
    assert!(
        why.contains("worker 0 flushed a delta of 5e28 at clock 2, which would bring 5e28 beyond"),
        "{why}"
    );
    // It says nothing of that again.
    assert_eq!(timeout(LIMIT, running).await.unwrap().unwrap(), []);
    counted(&host, "request").await;
    let shard = host.shard.lock().unwrap();
    assert_eq!((shard.values(TableId(0))[2], shard.values(TableId(0))[3]), (5e28, 4.0));
}

/// Passes connections on, and cuts each after it has carried so many bytes either way.
async fn cutting(to: String, cut_after: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut allowed = cut_after;
        while let Ok((mut client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(&to).await else { continue };
            // Not the same each time, so that other frames are cut.
            allowed += 37;
            let (mut from_client, mut to_client) = client.split();
            let (from_server, mut to_server) = server.into_split();
            let mut from_server = from_server.take(allowed);
            let mut from_client = (&mut from_client).take(allowed);
            tokio::select! {
                _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
            }
            let _ = to_server.shutdown().await;
        }
    });
    address
}

#[tokio::test]
async fn a_session_lives_through_connections_that_break() {
    let host = host(1).await;
    let relay = cutting(host.address.clone(), 400).await;
    let (mut session, handle, running) = open(plan(&relay, 0));
    connected(&handle).await;
    for _ in 0..40 {
        one_clock(&mut session).await;
    }
    session.leave().await.unwrap();
    drop(session);
    assert_eq!(timeout(LIMIT * 3, running).await.unwrap().unwrap(), []);
    let shard = host.shard.lock().unwrap();
    assert_eq!(shard.clock(), Clock(40));
    assert_eq!(&shard.values(TableId(0))[2..4], [40.0, 80.0], "each delta counts once");
}

#[tokio::test]
async fn who_does_not_agree_is_told_why_on_both_sides() {
    let host = host(1).await;
    let good = || plan(&host.address, 0);
    let elsewhere = Terms { datacenter: "rome".into(), ..terms() };
    let other_job = Terms { job_digest: vec![9; 32], ..terms() };
    for (cause, plan) in [
        ("job", Plan { terms: other_job, ..good() }),
        ("name", Plan { terms: elsewhere, ..good() }),
        ("unknown_worker", plan(&host.address, 7)),
    ] {
        let theirs = plan.refusals.clone();
        let (_session, handle, running) = open(plan);
        let mut state = handle.state.clone();
        let told = |state: &LinkState| matches!(state, LinkState::Waiting(why) if why.starts_with("refused by the other side"));
        timeout(LIMIT, state.wait_for(told)).await.unwrap().unwrap();
        running.abort();
        assert!(theirs.all().contains_key(&Refused { cause, by_us: false }), "{cause}: {:?}", theirs.all());
        counted(&host, cause).await;
    }
}

/// Waits until the host has counted that it refused somebody: it lets them hang up first.
async fn counted(host: &Host, cause: &'static str) {
    let counting = async {
        while !host.refusals.all().contains_key(&Refused { cause, by_us: true }) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let counted = timeout(LIMIT, counting).await;
    counted.unwrap_or_else(|_| panic!("{cause}: {:?}", host.refusals.all()));
}

#[tokio::test]
async fn tls_where_none_is_spoken_is_told() {
    let host = host(1).await;
    let mut stranger = TcpStream::connect(&host.address).await.unwrap();
    // The start of a client's hello, and more than is read before the answer.
    let mut record = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc];
    record.resize(517, 7);
    stranger.write_all(&record).await.unwrap();
    let mut length = [0; 4];
    stranger.read_exact(&mut length).await.unwrap();
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stranger.read_exact(&mut frame).await.unwrap();
    let told = ToWorker::decode(frame.into(), &shapes()).unwrap();
    let reason = "you speak TLS, and we do not".to_owned();
    assert_eq!(told, ToWorker::Refused { cause: "plaintext".into(), reason });
    drop(stranger);
    counted(&host, "plaintext").await;
}

#[tokio::test]
async fn a_worker_tells_the_server_whom_it_has_found() {
    let host = host(1).await;
    let plan = Plan { server: 3, ..plan(&host.address, 0) };
    let theirs = plan.refusals.clone();
    let (_session, handle, running) = open(plan);
    let mut state = handle.state.clone();
    let told =
        |state: &LinkState| matches!(state, LinkState::Waiting(why) if why.contains("you are server 0"));
    timeout(LIMIT, state.wait_for(told)).await.unwrap().unwrap();
    running.abort();
    assert!(theirs.all().contains_key(&Refused { cause: "name", by_us: true }), "{:?}", theirs.all());
    let heard = async {
        while !host.refusals.all().contains_key(&Refused { cause: "name", by_us: false }) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, heard).await.unwrap_or_else(|_| panic!("{:?}", host.refusals.all()));
}

#[tokio::test]
async fn nonsense_costs_its_connection_and_notices_reach_the_others() {
    let host = host(1).await;
    let (mut session, handle, _running) = open(plan(&host.address, 0));
    connected(&handle).await;
    for nonsense in [&[0xff; 64][..], &[0, 0, 0, 2, 0xff, 0xff], &[0, 0, 0, 0]] {
        let mut stranger = TcpStream::connect(&host.address).await.unwrap();
        stranger.write_all(nonsense).await.unwrap();
        let mut rest = Vec::new();
        let closed = timeout(LIMIT, stranger.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "closed on {nonsense:?}");
    }
    one_clock(&mut session).await;
    host.notice.send_replace(Notice::Leaving);
    let mut state = handle.state.clone();
    let leaving = |state: &LinkState| matches!(state, LinkState::Connected { notice: Notice::Leaving, .. });
    timeout(LIMIT, state.wait_for(leaving)).await.unwrap().unwrap();
    counted(&host, "protocol").await;
}

/// A listener to no shards, for a connection that is let in already.
fn bare_listener() -> (Listener, watch::Sender<Notice>, mpsc::Receiver<(ShardId, Request)>) {
    let (requests, queue) = mpsc::channel(16);
    let (notice, noticed) = watch::channel(Notice::Serving);
    let listener = Listener {
        operators: None,
        terms: terms(),
        server: 0,
        incarnation: 1,
        security: Security::Plaintext,
        shapes: shapes(),
        workers: 1,
        requests,
        calls: mpsc::channel(1).0,
        notice: noticed,
        refusals: Refusals::default(),
        incarnations: Incarnations::default(),
        presence: watch::channel(Presence::new(Instant::now())).0,
    };
    (listener, notice, queue)
}

/// Serves worker 0 over memory until the connection ends; yields its end and the worker's.
fn served(listener: Listener) -> (tokio::task::JoinHandle<(LanError, Duration)>, DuplexStream) {
    let (ours, theirs) = duplex(64);
    let serving = tokio::spawn(async move {
        let (_replies, answers) = mpsc::channel(1);
        let frames = framed(Way::Memory(ours));
        let start = Instant::now();
        let registration = listener.incarnations.admit(WorkerId(0), 1, start).unwrap();
        (
            listener
                .host(WorkerSession {
                    worker: WorkerId(0),
                    registration,
                    frames,
                    answers,
                    refusal: Refusal::default(),
                })
                .await,
            start.elapsed(),
        )
    });
    (serving, theirs)
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_vanishes_is_let_go_and_one_that_only_waits_is_kept() {
    let (listener, _notice, _queue) = bare_listener();
    let (serving, _vanished) = served(listener.clone());
    let (error, lasted) = serving.await.unwrap();
    assert!(matches!(error, LanError::Gone), "{error}");
    assert_eq!(lasted, SILENCE);

    let (serving, waiting) = served(listener);
    let mut frames = Framed::new(waiting, LengthDelimitedCodec::new());
    for _ in 0..20 {
        // It hears of the server as often as the server of it.
        let frame = timeout(HEARTBEAT * 2, frames.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(ToWorker::decode(frame.freeze(), &shapes()).unwrap(), ToWorker::Alive);
        frames.send(ToServer::Alive.encode().to_bytes()).await.unwrap();
    }
    assert!(!serving.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_takes_minutes_is_a_sign_of_life() {
    let (listener, _notice, mut queue) = bare_listener();
    let (serving, mut slow) = served(listener);
    let request = Request::Leave(WorkerId(0));
    let frame = ToServer::Request(ShardId(0), request.clone()).encode();
    let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(&frame.to_bytes());
    for byte in bytes {
        sleep(SILENCE - Duration::from_secs(1)).await;
        slow.write_all(&[byte]).await.unwrap();
        // What it is told must not pile up, as it would not in a socket.
        let _ = timeout(Duration::ZERO, slow.read(&mut [0; 64])).await;
    }
    assert_eq!(queue.recv().await, Some((ShardId(0), request)));
    assert!(!serving.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_vanishes_is_noticed_also_while_it_is_written_to() {
    for is_writing in [false, true] {
        let (requests, queue) = mpsc::channel(16);
        let (mut link, _handle) = ServerLink::new(plan("nowhere", 0), queue, mpsc::channel(1).0);
        let (ours, mut theirs) = duplex(64);
        if is_writing {
            // More than the connection holds, to a machine that takes nothing any more.
            for _ in 0..16 {
                requests.send((ShardId(0), Request::Leave(WorkerId(0)))).await.unwrap();
            }
        }
        let welcome = Welcome { version: VERSION, server: 0, incarnation: 1, standings: Vec::new() };
        let frames = framed(Way::Memory(ours));
        let start = Instant::now();
        let error = link.talk(frames, welcome).await.unwrap_err();
        assert!(matches!(error, LanError::Gone), "{error}");
        assert_eq!(start.elapsed(), SILENCE);
        let mut said = Vec::new();
        theirs.read_to_end(&mut said).await.unwrap();
        assert!(is_writing || said.ends_with(&ToServer::Alive.encode().to_bytes()), "{said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_says_again_does_not_keep_it_from_listening() {
    let (requests, queue) = mpsc::channel(16);
    let (mut link, handle) = ServerLink::new(plan("nowhere", 0), queue, mpsc::channel(1).0);
    requests.send((ShardId(0), Request::Leave(WorkerId(0)))).await.unwrap();
    for life in 0..2 {
        let (ours, theirs) = duplex(64);
        let welcome = Welcome { version: VERSION, server: 0, incarnation: 1, standings: Vec::new() };
        let frames = framed(Way::Memory(ours));
        let server = async {
            let mut frames = Framed::new(theirs, LengthDelimitedCodec::new());
            frames.send(ToWorker::Notice(Notice::Leaving).encode().to_bytes()).await.unwrap();
            let frame = frames.next().await.unwrap().unwrap().freeze();
            let leave = ToServer::Request(ShardId(0), Request::Leave(WorkerId(0)));
            assert_eq!(ToServer::decode(frame, &shapes()).unwrap(), leave, "life {life}");
        };
        let (talked, ()) = tokio::join!(link.talk(frames, welcome), server);
        assert!(matches!(talked, Err(LanError::Closed | LanError::Io(_))), "{talked:?}");
        let noticed = matches!(*handle.state.borrow(), LinkState::Connected { notice: Notice::Leaving, .. });
        assert!(noticed, "life {life}");
    }
}

#[tokio::test]
async fn of_two_processes_that_are_one_worker_the_later_start_has_its_place() {
    let host = host(1).await;
    let start = |incarnation| open(Plan { incarnation, ..plan(&host.address, 0) });
    let (_session, former, _running) = start(1);
    connected(&former).await;
    let (_session, later, _running) = start(2);
    connected(&later).await;
    let (_session, earlier, _running) = start(0);
    let mut state = earlier.state.clone();
    let told =
        |state: &LinkState| matches!(state, LinkState::Waiting(why) if why.contains("was started later"));
    timeout(LIMIT, state.wait_for(told)).await.unwrap().unwrap();
    // If it comes back, it is not counted any more.
    lost(&former).await;
    counted(&host, "replaced").await;
    // They do not come back at once, to take the place again.
    sleep(Duration::from_secs(1)).await;
    assert!(matches!(*earlier.state.borrow(), LinkState::Waiting(_)));
    assert!(matches!(*later.state.borrow(), LinkState::Connected { .. }));
}

#[tokio::test]
async fn a_stranger_cannot_claim_a_long_frame() {
    let host = host(1).await;
    let mut stranger = TcpStream::connect(&host.address).await.unwrap();
    stranger.write_all(&(super::MAX_HELLO_BYTES as u32 + 1).to_be_bytes()).await.unwrap();
    let mut rest = Vec::new();
    // At once: the length alone is too much, and nothing is waited for.
    let closed = timeout(Duration::from_secs(2), stranger.read_to_end(&mut rest)).await;
    assert!(closed.is_ok());
}

#[tokio::test]
async fn who_says_nothing_is_hung_up_on_before_its_handshake_would_be_over() {
    let host = host(1).await;
    let mut silent = TcpStream::connect(&host.address).await.unwrap();
    let mut rest = Vec::new();
    let closed = timeout(super::HANDSHAKE - Duration::from_secs(2), silent.read_to_end(&mut rest)).await;
    assert!(closed.is_ok());
}

/// As long as their server fetches its state, which may be long.
#[tokio::test]
async fn workers_that_wait_to_be_attached_keep_nobody_from_the_door() {
    let waiting = MAX_HALF_OPEN_OF_ONE as u32;
    let (mut listener, _notice, _queue) = bare_listener();
    let (calls, mut asked) = mpsc::channel(1);
    (listener.calls, listener.workers) = (calls, waiting + 1);
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(listener.serve(socket));
    let mut lines: Vec<_> = (0..waiting).map(|worker| open(plan(&address, worker))).collect();
    let mut unanswered = Vec::new();
    while unanswered.len() < lines.len() {
        unanswered.push(timeout(LIMIT, asked.recv()).await.unwrap().unwrap());
    }
    lines.push(open(plan(&address, waiting)));
    // Later, those who came first would have given up and left.
    let soon = super::HANDSHAKE - Duration::from_secs(2);
    assert!(timeout(soon, asked.recv()).await.is_ok(), "it is not let in");
}

/// Connections that say a little and never who they are, until it is dropped.
struct Flood {
    _opening: tokio::task::JoinSet<()>,
    /// How many have been opened.
    opened: watch::Receiver<usize>,
    /// How many of them were hung up on before their handshake would have been given up.
    hung_up: watch::Receiver<usize>,
}

/// Opens so many a second.
fn flood(address: &str, rate: u32) -> Flood {
    let (mut opening, address) = (tokio::task::JoinSet::new(), address.to_owned());
    let ((more_opened, opened), (more_hung_up, hung_up)) = (watch::channel(0), watch::channel(0));
    opening.spawn(async move {
        let mut strangers = tokio::task::JoinSet::new();
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
        loop {
            ticks.tick().await;
            let address = address.clone();
            let (opened, hung_up) = (more_opened.clone(), more_hung_up.clone());
            strangers.spawn(async move {
                let Ok(mut stranger) = TcpStream::connect(&address).await else { return };
                let _ = stranger.write_all(b"\x00").await;
                opened.send_modify(|count| *count += 1);
                if timeout(super::HANDSHAKE - Duration::from_secs(2), stranger.read(&mut [0])).await.is_ok() {
                    hung_up.send_modify(|count| *count += 1);
                }
            });
            while strangers.try_join_next().is_some() {}
        }
    });
    Flood { _opening: opening, opened, hung_up }
}

/// `GAIA_FLOOD_SECONDS` says for how long: a worker that restarts all the time comes in within 3 s
/// each time.
#[tokio::test]
async fn a_worker_comes_in_beside_strangers_from_its_own_address() {
    let seconds = std::env::var("GAIA_FLOOD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let (mut listener, _notice, _queue) = bare_listener();
    let (calls, mut asked) = mpsc::channel(1);
    listener.calls = calls;
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(listener.serve(socket));
    let mut flood = flood(&address, 400);
    // Until they have taken all that they can get: then some are hung up on for others.
    let full = flood.hung_up.wait_for(|hung_up| *hung_up >= MAX_HALF_OPEN_OF_ONE);
    timeout(LIMIT, full).await.expect("its share of places is full").expect("it goes on");
    let before = *flood.opened.borrow();
    assert!(before >= 2 * MAX_HALF_OPEN_OF_ONE, "{before} have come");
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut slowest = Duration::ZERO;
    while Instant::now() < until {
        let dialled = Instant::now();
        let (_session, _handle, running) = open(plan(&address, 0));
        let attached = timeout(LIMIT, asked.recv()).await.expect("it is let in");
        slowest = slowest.max(dialled.elapsed());
        running.abort();
        drop(attached);
        sleep(Duration::from_millis(200)).await;
    }
    let during = *flood.opened.borrow() - before;
    // An eighth of what is wanted will do on a busy machine.
    assert!(during as u64 >= 50 * seconds, "{during} came meanwhile");
    assert!(slowest < Duration::from_secs(3), "it took {slowest:?}");
}

/// The shard as it was, in another life of its server.
fn restored(shard: &std::sync::Mutex<Shard>) -> Shard {
    let shard = shard.lock().unwrap();
    let flushed: Vec<_> =
        (0..shard.worker_count() as u32).map(|w| shard.flushed(WorkerId(w)).unwrap()).collect();
    let values = shard.values(TableId(0)).to_vec();
    let shape = shard.shape(TableId(0)).unwrap();
    let fresh = Shard::new(shard.id(), &[shape], vec![values], flushed.len(), Some(0));
    fresh.restored(shard.clock(), &flushed)
}

async fn lost(handle: &super::worker::Handle) {
    let mut state = handle.state.clone();
    timeout(LIMIT, state.wait_for(|state| *state == LinkState::Lost)).await.unwrap().unwrap();
}

/// The clocks of what is a flush.
fn flushes<'a>(requests: impl IntoIterator<Item = &'a Request>) -> Vec<u32> {
    let clock = |request: &Request| match request {
        Request::Flush(flush) => Some(flush.clock.0),
        Request::Read(_) | Request::Leave(_) => None,
    };
    requests.into_iter().filter_map(clock).collect()
}

async fn all_in(host: &Host, clock: u32) {
    let waiting = async {
        while host.shard.lock().unwrap().flushed(WorkerId(0)) < Some(Clock(clock)) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, waiting).await.unwrap();
}

/// Ends a clock without having read for it, as a worker does whose server has gone while it
/// computed.
async fn blind_clock(session: &mut Session) {
    session.client().add(TableId(0), 1, &[1.0, 2.0]);
    session.clock().await.unwrap();
}

#[tokio::test]
async fn a_new_life_of_a_server_hears_first_what_the_former_had_not_confirmed_and_once() {
    let first = host(1).await;
    let (mut session, handle, running) = open(plan(&first.address, 0));
    connected(&handle).await;
    for _ in 0..5 {
        one_clock(&mut session).await;
    }
    // A read is answered after what was said before it, so that all clocks are confirmed.
    let rows = [0];
    session.fetch([(TableId(0), &rows[..])].into_iter()).await.unwrap();
    let (address, shard) = first.kill().await;
    blind_clock(&mut session).await;
    let second = life(&address, 2, restored(&shard), 1).await;
    lost(&handle).await;
    // It was in the middle of a clock, of which other servers have their part.
    blind_clock(&mut session).await;
    drop(session);
    let carried = timeout(LIMIT, running).await.unwrap().unwrap();
    assert_eq!(flushes(carried.iter().map(|(_, request)| request)), [6, 7], "the others were confirmed");

    let (mut session, handle, running) = open_carrying(plan(&address, 0), carried);
    connected(&handle).await;
    assert_eq!(handle.join(Clock(7)).await, Some(vec![(ShardId(0), Clock(7))]));
    session.client().start_at(Clock(7));
    one_clock(&mut session).await;
    session.leave().await.unwrap();
    drop(session);
    assert_eq!(timeout(LIMIT, running).await.unwrap().unwrap(), []);
    let heard = second.heard.lock().unwrap();
    assert_eq!(flushes(&heard[..2]), [6, 7], "before anything else: {heard:?}");
    assert_eq!(flushes(&*heard), [6, 7, 8]);
    let shard = second.shard.lock().unwrap();
    assert_eq!((shard.clock(), shard.values(TableId(0))[2]), (Clock(8), 8.0));
}

#[tokio::test]
async fn what_a_new_life_has_already_is_not_said_to_it_again() {
    let first = host(1).await;
    let (mut session, handle, running) = open(plan(&first.address, 0));
    connected(&handle).await;
    one_clock(&mut session).await;
    all_in(&first, 1).await;
    let (address, shard) = first.kill().await;
    for _ in 0..2 {
        blind_clock(&mut session).await;
    }
    // The second clock had come before the end, though nobody was told so any more.
    let mut saved = restored(&shard);
    saved.presume_flushed(Clock(2));
    let second = life(&address, 2, saved, 1).await;
    lost(&handle).await;
    drop(session);
    let carried = timeout(LIMIT, running).await.unwrap().unwrap();
    let (session, _handle, running) = open_carrying(plan(&address, 0), carried);
    drop(session);
    // Also where nobody joins any more: it ends when all is delivered.
    assert_eq!(timeout(LIMIT, running).await.unwrap().unwrap(), []);
    all_in(&second, 3).await;
    assert_eq!(flushes(&*second.heard.lock().unwrap()), [3]);
}

#[tokio::test]
async fn a_server_that_dies_again_while_it_is_told_loses_nothing() {
    let flush = |clock| {
        let deltas = vec![RowBlock::new(TableId(0), [1], vec![1.0, 0.0])];
        let flush = crate::message::Flush { worker: WorkerId(0), clock: Clock(clock), deltas };
        (ShardId(0), Request::Flush(flush))
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (session, handle, running) = open_carrying(plan(&address, 0), vec![flush(4), flush(6)]);
    let joining = tokio::spawn(async move {
        connected(&handle).await;
        (handle.join(Clock(6)).await, handle)
    });
    // It lets the worker in, and is gone at the first thing that it is told.
    let (stream, _) = listener.accept().await.unwrap();
    let mut frames = framed(Way::Plain(stream));
    super::next(&mut frames).await.unwrap();
    let standing = new_shard(1).standing(WorkerId(0));
    let welcome = Welcome { version: VERSION, server: 0, incarnation: 1, standings: vec![standing] };
    frames.send(ToWorker::Welcome(welcome).encode()).await.unwrap();
    super::next(&mut frames).await.unwrap();
    drop((frames, listener));
    let (joined, handle) = timeout(LIMIT, joining).await.unwrap().unwrap();
    assert_eq!(joined, None, "nobody hangs who joins");
    let next = life(&address, 2, new_shard(1).restored(Clock(3), &[Clock(3)]), 1).await;
    lost(&handle).await;
    drop(session);
    let carried = timeout(LIMIT, running).await.unwrap().unwrap();
    assert_eq!(carried, [flush(4), flush(6)]);
    let (session, handle, _running) = open_carrying(plan(&address, 0), carried);
    connected(&handle).await;
    assert_eq!(handle.join(Clock(6)).await, Some(vec![(ShardId(0), Clock(6))]));
    all_in(&next, 6).await;
    assert_eq!(flushes(&*next.heard.lock().unwrap()), [4, 6]);
    assert_eq!(next.shard.lock().unwrap().values(TableId(0))[2], 2.0);
    drop(session);
}

#[tokio::test]
async fn of_several_servers_one_starts_anew_and_the_others_keep_what_they_have() {
    let placement = Placement::new(2);
    let fresh = |shard| {
        Shard::new(ShardId(shard), &shapes_of(2).0[usize::from(shard)], vec![vec![0.0; 4]], 1, Some(0))
    };
    let kept = life("127.0.0.1:0", 1, fresh(0), 2).await;
    let restarted = life("127.0.0.1:0", 1, fresh(1), 2).await;
    let addresses = [kept.address.clone(), restarted.address.clone()];
    let open = |carried: [Unsent; 2]| {
        let (replies, answers) = mpsc::channel(4);
        let (mut ways, mut handles, mut lines) = (Vec::new(), Vec::new(), Vec::new());
        for (server, carried) in carried.into_iter().enumerate() {
            let (requests, queue) = mpsc::channel(16);
            let plan = Plan { server: server as u16, shapes: shapes_of(2), ..plan(&addresses[server], 0) };
            let (link, handle) = ServerLink::new(plan, queue, replies.clone());
            lines.push(tokio::spawn(link.carrying(carried).run()));
            ways.push(requests);
            handles.push(handle);
        }
        let client = Client::new(WorkerId(0), &specs(), placement, Some(0));
        (Session::new(client, Port { shards: ways, replies: answers }), handles, lines)
    };
    let every_row = async |session: &mut Session| {
        let rows = [0, 1, 2, 3];
        timeout(LIMIT, session.fetch([(TableId(0), &rows[..])].into_iter())).await.unwrap().unwrap();
        (0..4).for_each(|row| session.client().add(TableId(0), row, &[1.0, 0.0]));
        session.clock().await.unwrap();
    };
    let (mut session, handles, lines) = open([Unsent::new(), Unsent::new()]);
    for _ in 0..5 {
        every_row(&mut session).await;
    }
    all_in(&restarted, 5).await;
    let (address, shard) = restarted.kill().await;
    // The last clock that was saved is one before the last that was confirmed: that one is gone.
    let mut saved = restored(&shard);
    saved.overwrite(TableId(0), vec![4.0, 0.0, 4.0, 0.0]);
    let restarted = life(&address, 2, saved.restored(Clock(4), &[Clock(4)]), 2).await;
    lost(&handles[1]).await;
    (0..4).for_each(|row| session.client().add(TableId(0), row, &[1.0, 0.0]));
    session.clock().await.unwrap();
    session.leave().await.unwrap();
    drop(session);
    let mut carried = Vec::new();
    for link in lines {
        carried.push(timeout(LIMIT, link).await.unwrap().unwrap());
    }
    assert!(carried[0].is_empty(), "the other one has it all");
    let carried: [Unsent; 2] = carried.try_into().unwrap();
    let (mut session, handles, _lines) = open(carried);
    for (at, handle) in handles.iter().enumerate() {
        connected(handle).await;
        assert_eq!(handle.join(Clock(6)).await, Some(vec![(ShardId(at as u16), Clock(6))]));
    }
    session.client().start_at(Clock(6));
    for _ in 0..2 {
        every_row(&mut session).await;
    }
    all_in(&kept, 8).await;
    all_in(&restarted, 8).await;
    assert_eq!(kept.shard.lock().unwrap().values(TableId(0)), [8.0, 0.0, 8.0, 0.0]);
    let values = restarted.shard.lock().unwrap().values(TableId(0)).to_vec();
    assert_eq!(flushes(&*restarted.heard.lock().unwrap())[0], 6);
    assert_eq!(values, [7.0, 0.0, 7.0, 0.0], "all but what had been confirmed and not saved");
}

#[tokio::test]
async fn a_server_knows_who_is_there_and_how_the_others_went() {
    let mut host = host(2).await;
    let (session, handle, running) = open(plan(&host.address, 1));
    connected(&handle).await;
    let here = |presence: &Presence| presence.is_here(WorkerId(1));
    timeout(LIMIT, host.presence.wait_for(here)).await.unwrap().unwrap();
    assert_eq!(host.presence.borrow().loss(WorkerId(1)), None);
    running.abort();
    timeout(LIMIT, host.presence.wait_for(|presence| !here(presence))).await.unwrap().unwrap();
    let loss = host.presence.borrow().loss(WorkerId(1)).unwrap();
    assert!(loss.why.is_some() && loss.since.elapsed() < LIMIT, "{loss:?}");
    assert_eq!(host.presence.borrow().loss(WorkerId(0)).unwrap().why, None, "it has never come");
    drop(session);
}

/// A part of worker 0's flush of `clock`: these rows, all of ones.
fn part_of(clock: u32, rows: std::ops::Range<u32>, is_last: bool) -> ToServer {
    let values = vec![1.0; 2 * rows.len()];
    let deltas = vec![RowBlock::new(TableId(0), rows, values)];
    ToServer::Flush { shard: ShardId(0), clock: Clock(clock), deltas, is_last }
}

#[tokio::test(start_paused = true)]
async fn a_flush_counts_when_its_last_part_is_in() {
    let (listener, _notice, mut queue) = bare_listener();
    let (serving, theirs) = served(listener);
    let mut frames = framed(Way::Memory(theirs));
    for part in [part_of(1, 0..1, false), part_of(1, 1..3, false)] {
        frames.send(part.encode()).await.unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    assert!(queue.try_recv().is_err(), "it is not complete");
    frames.send(part_of(1, 3..4, true).encode()).await.unwrap();
    let Some((_, Request::Flush(flush))) = queue.recv().await else { panic!("a flush is complete") };
    assert_eq!((flush.clock, flush.elements()[0].len()), (Clock(1), 8));
    let told = super::next(&mut frames).await.unwrap();
    assert_eq!(ToWorker::decode(told, &shapes()).unwrap(), ToWorker::Accepted(ShardId(0), Clock(1)));
    assert!(!serving.is_finished());
}

#[tokio::test(start_paused = true)]
async fn parts_that_make_no_flush_end_the_connection() {
    for (parts, why) in [
        ([part_of(1, 0..1, false), part_of(2, 1..2, true)], "a flush comes in one go"),
        ([part_of(1, 0..4, false), part_of(1, 0..1, true)], "a flush has each row once"),
    ] {
        let (listener, _notice, mut queue) = bare_listener();
        let (serving, theirs) = served(listener);
        let mut frames = framed(Way::Memory(theirs));
        for part in parts {
            frames.send(part.encode()).await.unwrap();
        }
        let told = timeout(LIMIT, frames.next()).await.unwrap().unwrap().unwrap();
        let told = ToWorker::decode(told.freeze(), &shapes()).unwrap();
        assert!(matches!(&told, ToWorker::Refused { reason, .. } if reason.contains(why)), "{told:?}");
        drop(frames);
        assert!(matches!(serving.await.unwrap().0, LanError::OutOfTurn(found) if found == why));
        assert!(queue.try_recv().is_err(), "nothing of it is taken");
    }
}

#[tokio::test]
async fn a_model_of_many_pieces_goes_there_and_back() {
    let (rows, width) = (1000, 300);
    let spec = [TableSpec::new("w", rows, width)];
    let shapes = Arc::new(Shapes(vec![shard_tables(&spec, Placement::new(1), ShardId(0))]));
    let shard = Shard::new(ShardId(0), &shapes.0[0], vec![vec![0.0; 300_000]], 1, Some(0));
    let host = life_of("127.0.0.1:0", 1, shard, Arc::clone(&shapes)).await;
    let (requests, queue) = mpsc::channel(16);
    let (replies, answers) = mpsc::channel(1);
    let client = Client::new(WorkerId(0), &spec, Placement::new(1), Some(0));
    let (link, handle) = ServerLink::new(Plan { shapes, ..plan(&host.address, 0) }, queue, replies);
    let _running = tokio::spawn(link.run());
    let mut session = Session::new(client, Port { shards: vec![requests], replies: answers });
    connected(&handle).await;
    handle.join(Clock(0)).await.expect("the server is there");
    let all: Vec<u32> = (0..rows).collect();
    for clock in 1..=2u8 {
        timeout(LIMIT, session.fetch([(TableId(0), &all[..])].into_iter())).await.unwrap().unwrap();
        for row in &all {
            assert_eq!(session.client().row(TableId(0), *row), vec![f32::from(clock - 1) * *row as f32; 300]);
            session.client().add(TableId(0), *row, &vec![*row as f32; 300]);
        }
        session.clock().await.unwrap();
        assert!(timeout(LIMIT, handle.flushed(ShardId(0), Clock(clock.into()))).await.unwrap());
    }
}
