//! A worker's session over real sockets, on connections that break.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::life::{HEARTBEAT, SILENCE};
use super::server::{Callers, Door, Guest, MAX_HANDSHAKES_OF_ONE};
use super::worker::{Line, Plan, State};
use super::{LanError, Lives, Security, Terms, Way, framed};
use crate::client::Client;
use crate::local::{Call, Port, Session};
use crate::message::{Notice, ReadReply, Request, Standing};
use crate::refusals::{Refusals, Refused};
use crate::shard::{Open, Shard};
use crate::wire::{Shapes, ToServer, ToWorker, VERSION, Welcome};
use crate::{Clock, Placement, ShardId, TableId, TableSpec, WorkerId, shard_tables};

const LIMIT: Duration = Duration::from_secs(20);

fn specs() -> Vec<TableSpec> {
    vec![TableSpec { name: "w".into(), rows: 4, width: 2 }]
}

fn shapes() -> Arc<Shapes> {
    Arc::new(Shapes(vec![shard_tables(&specs(), Placement::new(1), ShardId(0))]))
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
}

async fn host(workers: u32) -> Host {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (requests, mut queue) = mpsc::channel::<(ShardId, Request)>(16);
    let (calls, mut asked) = mpsc::channel(16);
    let (notice, noticed) = watch::channel(Notice::Serving);
    let refusals = Refusals::default();
    let door = Door {
        terms: terms(),
        server: 0,
        incarnation: 1,
        security: Security::Plaintext,
        shapes: shapes(),
        workers,
        requests,
        calls,
        notice: noticed,
        refusals: refusals.clone(),
        lives: Lives::default(),
        connected: watch::channel(Vec::new()).0,
    };
    tokio::spawn(door.serve(listener));
    let tables = shapes().0[0].clone();
    let shard = Shard::new(ShardId(0), &tables, vec![vec![0.0; 8]], workers as usize, Some(0));
    let shard = Arc::new(std::sync::Mutex::new(shard));
    let task = shard.clone();
    tokio::spawn(async move {
        let mut replies: Vec<Option<mpsc::Sender<ReadReply>>> = vec![None; workers as usize];
        loop {
            let now = tokio::time::Instant::now().into_std();
            let mut answers = Vec::new();
            tokio::select! {
                Some((_, request)) = queue.recv() => {
                    let mut shard = task.lock().unwrap();
                    match request {
                        Request::Flush(flush) => drop(shard.handle_flush(&flush).unwrap()),
                        Request::Read(read) => answers.extend(shard.handle_read(read, now, &Open).unwrap()),
                        Request::Leave(worker) => drop(shard.remove_worker(worker)),
                    }
                    answers.extend(std::iter::from_fn(|| shard.poll_reply(now, &Open)));
                }
                Some(call) = asked.recv() => {
                    let mut shard = task.lock().unwrap();
                    match call {
                        Call::Attach { worker, replies: to, answer } => {
                            replies[worker.index()] = Some(to);
                            let (clock, worker) = (shard.clock(), shard.clock_of(worker));
                            let _ = answer.send(vec![Standing { shard: ShardId(0), clock, worker }]);
                        }
                        Call::Join { worker, clock, answer } => {
                            let clock = shard.join(worker, clock).unwrap();
                            let _ = answer.send(vec![(ShardId(0), clock)]);
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
    Host { address, notice, refusals, shard }
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

fn open(plan: Plan) -> (Session, super::worker::Handle, tokio::task::JoinHandle<usize>) {
    let (requests, queue) = mpsc::channel(16);
    let (replies, answers) = mpsc::channel(4);
    let client = Client::new(plan.worker, &specs(), Placement::new(1), Some(0));
    let (line, handle) = Line::new(plan, queue, replies);
    let running = tokio::spawn(line.run());
    (Session::new(client, Port { shards: vec![requests], replies: answers }), handle, running)
}

async fn connected(handle: &super::worker::Handle) {
    let mut state = handle.state.clone();
    timeout(LIMIT, state.wait_for(|state| matches!(state, State::Connected { .. }))).await.unwrap().unwrap();
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
            assert_eq!(timeout(LIMIT, running).await.unwrap().unwrap(), 0);
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
    assert_eq!(timeout(LIMIT * 3, running).await.unwrap().unwrap(), 0);
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
        let told = |state: &State| matches!(state, State::Waiting(why) if why.starts_with("refused by the other side"));
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
    let told = |state: &State| matches!(state, State::Waiting(why) if why.contains("you are server 0"));
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
    let leaving = |state: &State| matches!(state, State::Connected { notice: Notice::Leaving, .. });
    timeout(LIMIT, state.wait_for(leaving)).await.unwrap().unwrap();
    counted(&host, "protocol").await;
}

/// A door to no shards, for a connection that is let in already.
fn bare_door() -> (Door, watch::Sender<Notice>, mpsc::Receiver<(ShardId, Request)>) {
    let (requests, queue) = mpsc::channel(16);
    let (notice, noticed) = watch::channel(Notice::Serving);
    let door = Door {
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
        lives: Lives::default(),
        connected: watch::channel(Vec::new()).0,
    };
    (door, notice, queue)
}

/// Serves worker 0 over memory until the connection ends; yields its end and the worker's.
fn served(door: Door) -> (tokio::task::JoinHandle<(LanError, Duration)>, DuplexStream) {
    let (ours, theirs) = duplex(64);
    let serving = tokio::spawn(async move {
        let (_replies, answers) = mpsc::channel(1);
        let frames = framed(Way::Memory(ours));
        let start = Instant::now();
        let stay = door.lives.admit(WorkerId(0), 1, start).unwrap();
        (door.host(Guest { worker: WorkerId(0), stay, frames, answers }).await, start.elapsed())
    });
    (serving, theirs)
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_vanishes_is_let_go_and_one_that_only_waits_is_kept() {
    let (door, _notice, _queue) = bare_door();
    let (serving, _vanished) = served(door.clone());
    let (error, lasted) = serving.await.unwrap();
    assert!(matches!(error, LanError::Gone), "{error}");
    assert_eq!(lasted, SILENCE);

    let (serving, waiting) = served(door);
    let mut frames = Framed::new(waiting, LengthDelimitedCodec::new());
    for _ in 0..20 {
        // It hears of the server as often as the server of it.
        let frame = timeout(HEARTBEAT * 2, frames.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(ToWorker::decode(frame.freeze(), &shapes()).unwrap(), ToWorker::Alive);
        frames.send(ToServer::Alive.encode()).await.unwrap();
    }
    assert!(!serving.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_takes_minutes_is_a_sign_of_life() {
    let (door, _notice, mut queue) = bare_door();
    let (serving, mut slow) = served(door);
    let request = Request::Leave(WorkerId(0));
    let frame = ToServer::Request(ShardId(0), request.clone()).encode();
    let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(&frame);
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
        let (mut line, _handle) = Line::new(plan("nowhere", 0), queue, mpsc::channel(1).0);
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
        let error = line.talk(frames, welcome).await.unwrap_err();
        assert!(matches!(error, LanError::Gone), "{error}");
        assert_eq!(start.elapsed(), SILENCE);
        let mut said = Vec::new();
        theirs.read_to_end(&mut said).await.unwrap();
        assert!(is_writing || said.ends_with(&ToServer::Alive.encode()), "{said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_says_again_does_not_keep_it_from_listening() {
    let (requests, queue) = mpsc::channel(16);
    let (mut line, handle) = Line::new(plan("nowhere", 0), queue, mpsc::channel(1).0);
    requests.send((ShardId(0), Request::Leave(WorkerId(0)))).await.unwrap();
    for life in 0..2 {
        let (ours, theirs) = duplex(64);
        let welcome = Welcome { version: VERSION, server: 0, incarnation: 1, standings: Vec::new() };
        let frames = framed(Way::Memory(ours));
        let server = async {
            let mut frames = Framed::new(theirs, LengthDelimitedCodec::new());
            frames.send(ToWorker::Notice(Notice::Leaving).encode()).await.unwrap();
            let frame = frames.next().await.unwrap().unwrap().freeze();
            let leave = ToServer::Request(ShardId(0), Request::Leave(WorkerId(0)));
            assert_eq!(ToServer::decode(frame, &shapes()).unwrap(), leave, "life {life}");
        };
        let (talked, ()) = tokio::join!(line.talk(frames, welcome), server);
        assert!(matches!(talked, Err(LanError::Closed | LanError::Io(_))), "{talked:?}");
        let noticed = matches!(*handle.state.borrow(), State::Connected { notice: Notice::Leaving, .. });
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
    for handle in [&former, &earlier] {
        let mut state = handle.state.clone();
        let told = |state: &State| matches!(state, State::Waiting(why) if why.contains("was started later"));
        timeout(LIMIT, state.wait_for(told)).await.unwrap().unwrap();
    }
    counted(&host, "replaced").await;
    // They do not come back at once, to take the place again.
    sleep(Duration::from_secs(1)).await;
    assert!(!former.state.has_changed().unwrap() || matches!(*former.state.borrow(), State::Waiting(_)));
    assert!(matches!(*later.state.borrow(), State::Connected { .. }));
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

#[test]
fn one_address_cannot_take_all_places() {
    let callers = Callers::default();
    let [flooder, other] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
    let mut calls: Vec<_> = (0..MAX_HANDSHAKES_OF_ONE).map(|_| callers.come(flooder).unwrap()).collect();
    assert!(callers.come(flooder).is_none());
    assert!(callers.come(other).is_some());
    calls.pop();
    assert!(callers.come(flooder).is_some(), "a place is free again");
    drop(calls);
    assert!(callers.is_empty(), "nothing is kept of who has gone");
}
