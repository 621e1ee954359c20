use datacenter::message::{Flush, Read, RowGroup};
use datacenter::shard::Shard;
use datacenter::{Elements, ShardTable, TableId};
use metrics::set_default_local_recorder;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use super::*;
use crate::driver::link::LinkTraffic;
use crate::driver::queue::{EventSender, event_queue};
use crate::message::{Progress, Resume};
use crate::metrics::LinkLabels;
use crate::node::PeerConfig;
use crate::policy::{Lead, Policy};
use crate::replica::Replica;

const SHARD: ShardId = ShardId(0);
const WORKERS: usize = 2;

struct TestServer {
    requests: mpsc::Sender<(ShardId, Request)>,
    events: EventSender,
    /// Where answers go, kept so that sessions last.
    replies: Vec<mpsc::Receiver<ReadReply>>,
}

impl TestServer {
    async fn attach(&mut self, worker: u32, is_new: bool) {
        let (replies, kept) = mpsc::channel(1);
        let (answer, attached) = oneshot::channel();
        let attach =
            Call::Attach { worker: WorkerId(worker), is_new, replies, refusal: Refusal::default(), answer };
        self.events.send(Event::Worker(attach)).await.unwrap();
        attached.await.unwrap();
        self.replies.push(kept);
    }

    async fn join(&self, worker: u32) {
        let (answer, joined) = oneshot::channel();
        let join = Call::Join { worker: WorkerId(worker), clock: Clock(0), answer };
        self.events.send(Event::Worker(join)).await.unwrap();
        joined.await.unwrap();
    }

    async fn flush(&self, worker: u32, clock: u32) {
        let flush = Flush { worker: WorkerId(worker), clock: Clock(clock), deltas: Vec::new() };
        self.requests.send((SHARD, Request::Flush(flush))).await.unwrap();
    }

    /// The shard's clock, and who is waited for.
    async fn look(&self) -> (u32, Vec<u32>) {
        // Whatever was asked before has been done, whichever queue it was in.
        while self.requests.capacity() < self.requests.max_capacity() {
            tokio::task::yield_now().await;
        }
        let (answer, seen) = oneshot::channel();
        let look = move |node: &Node| {
            let shard = node.replicas()[0].shard();
            let live = shard.live_workers().map(|(worker, _)| worker.0).collect();
            let _ = answer.send((shard.clock().0, live));
        };
        self.events.send(Event::Inspect(Box::new(look))).await.unwrap();
        seen.await.unwrap()
    }
}

fn open() -> TestServer {
    let policy = Policy::naive(Lead::Unlimited);
    let shape = ShardTable { slots: 1, width: 1 };
    let shard = Shard::new(SHARD, &[shape], vec![vec![0.0]], WORKERS, Some(0));
    let node = Node::new(vec![Replica::new(shard, &policy, [])], &[], &policy);
    let ((requests, queue), (events, event_queue)) = (mpsc::channel(8), event_queue());
    let (server, _) = Server::new(node, Unobserved, queue, vec![None; WORKERS], event_queue);
    tokio::spawn(server.run());
    TestServer { requests, events, replies: Vec::new() }
}

#[tokio::test]
async fn a_worker_that_has_started_anew_is_waited_for_when_it_has_joined() {
    let mut server = open();
    server.attach(0, true).await;
    server.attach(1, true).await;
    assert_eq!(server.look().await, (0, vec![0, 1]), "a job waits for all to begin");
    server.join(0).await;
    server.join(1).await;
    server.flush(0, 1).await;
    server.flush(1, 1).await;
    server.flush(0, 2).await;
    // Its connection has broken.
    server.attach(1, false).await;
    assert_eq!(server.look().await, (1, vec![0, 1]));
    // It has started anew, and may have to wait for other servers; also where its connection breaks meanwhile.
    for is_new in [true, false] {
        server.attach(1, is_new).await;
        assert_eq!(server.look().await, (2, vec![0]));
    }
    server.join(1).await;
    assert_eq!(server.look().await, (2, vec![0, 1]));
}

/// Counts how often it hears that the job is done.
struct Ends(mpsc::UnboundedSender<()>);

impl Observer for Ends {
    fn clock(&mut self, _: &Node, _: Clock, _: Instant) {}

    fn settled(&mut self, node: &Node) {
        assert!(node.is_settled());
        self.0.send(()).unwrap();
    }
}

#[tokio::test]
async fn a_job_that_is_done_stays_done_when_a_worker_joins() {
    let policy = Policy::naive(Lead::Unlimited);
    let shard = Shard::new(SHARD, &[ShardTable { slots: 1, width: 1 }], vec![vec![0.0]], WORKERS, Some(0));
    let node = Node::new(vec![Replica::new(shard, &policy, [])], &[], &policy).ending_at(Clock(1));
    let ((requests, queue), (events, event_queue)) = (mpsc::channel(8), event_queue());
    let (ends, mut ended) = mpsc::unbounded_channel();
    let (server, mut settled) = Server::new(node, Ends(ends), queue, vec![None; WORKERS], event_queue);
    tokio::spawn(server.run());
    let mut server = TestServer { requests, events, replies: Vec::new() };
    for worker in 0..2 {
        server.attach(worker, true).await;
        server.join(worker).await;
        server.flush(worker, 1).await;
        server.requests.send((SHARD, Request::Leave(WorkerId(worker)))).await.unwrap();
    }
    settled.wait_for(|settled| *settled).await.unwrap();
    // It has been restarted, and reads the result.
    server.attach(0, true).await;
    server.join(0).await;
    assert_eq!(server.look().await, (1, vec![0]));
    assert!(*settled.borrow(), "that was decided");
    server.requests.send((SHARD, Request::Leave(WorkerId(0)))).await.unwrap();
    assert_eq!(server.look().await, (1, vec![]));
    assert!(ended.recv().await.is_some() && ended.try_recv().is_err(), "once");
}

/// A server with one peer, which ships everything, and a link to it.
async fn linked() -> (EventSender, LinkHandleEnds) {
    let peer = DatacenterId(1);
    let policy = Policy::naive(Lead::Unlimited);
    let shape = ShardTable { slots: 1, width: 1 };
    let shard = Shard::new(SHARD, &[shape], vec![vec![0.0]], WORKERS, Some(0));
    let config =
        PeerConfig { id: peer, rate_bytes_per_sec: None, window_bytes: None, transfer_bytes_per_sec: None };
    let node = Node::new(vec![Replica::new(shard, &policy, [peer])], &[config], &policy);
    let (events, queue) = event_queue();
    let (_, requests) = mpsc::channel(1);
    let (server, _) = Server::new(node, Unobserved, requests, vec![None; WORKERS], queue);
    tokio::spawn(server.run());
    let ((control, controls), (updates, sent)) = (mpsc::channel(16), mpsc::unbounded_channel());
    let ((refuse, refused), (taken, is_taken)) = (oneshot::channel(), oneshot::channel());
    let names = ["virginia", "ireland"].map(str::to_owned);
    let traffic = LinkTraffic::new(LinkLabels::new(1, names));
    let handle = Box::new(LinkHandle { session: 1, control, updates, refuse, traffic });
    let resume = Resume { shard: SHARD, ..Resume::default() };
    let greeting = Greeting { life: 1, resumes: vec![resume], departed: Vec::new() };
    let up = Event::Up { peer: ServerId::first(peer), handle, greeting, rtt: Duration::ZERO, taken };
    events.send(up).await.unwrap();
    is_taken.await.unwrap();
    (events, (controls, sent, refused))
}

/// Where a link hears of what its node has to say.
type LinkHandleEnds =
    (mpsc::Receiver<Bytes>, mpsc::UnboundedReceiver<UpdateFrame>, oneshot::Receiver<PeerError>);

fn update(seq: u64) -> Event {
    let deltas = vec![Elements { table: TableId(0), indexes: vec![0], values: vec![1.0] }];
    let update = Update { shard: SHARD, seq, clock: Clock(1), count: 1, deltas, ..Update::default() };
    Event::Update { peer: ServerId::first(DatacenterId(1)), session: 1, update, bytes: 8 }
}

/// How many updates the peer's inbox has applied, and the clock that the peer has told.
async fn heard(events: &EventSender) -> (u64, Clock) {
    let (answer, seen) = oneshot::channel();
    let look = move |node: &Node| {
        let inbox = node.replicas()[0].inbox(0);
        let _ = answer.send((inbox.applied_through(), inbox.reported_clock()));
    };
    events.send(Event::Inspect(Box::new(look))).await.unwrap();
    seen.await.unwrap()
}

#[tokio::test]
async fn control_does_not_wait_behind_updates() {
    const UPDATES: u64 = 100;
    let (events, _ends) = linked().await;
    // Nothing is taken until this task waits, which tokio has it do after 128 sends.
    for seq in 1..=UPDATES {
        events.send(update(seq)).await.unwrap();
    }
    let progress = Progress { clock: Clock(1), ..Progress::default() };
    let controls = vec![ShardControl { shard: SHARD, progress: Some(progress), ..ShardControl::default() }];
    let (peer, rtt) = (ServerId::first(DatacenterId(1)), Duration::ZERO);
    events.send(Event::Control { peer, session: 1, controls, rtt, is_lossy: false }).await.unwrap();
    let (applied, clock) = heard(&events).await;
    assert_eq!(clock, Clock(1));
    assert!(applied < 10, "{applied} updates went first");
    while heard(&events).await.0 < UPDATES {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_came_before_the_end_of_a_link_counts() {
    let (events, _ends) = linked().await;
    for seq in 1..=200 {
        events.send(update(seq)).await.unwrap();
    }
    let peer = ServerId::first(DatacenterId(1));
    events.send(Event::Down { peer, session: 1, goodbye: Some(Goodbye::Stopped) }).await.unwrap();
    assert_eq!(heard(&events).await.0, 200);
}

/// What was recorded since it was asked last, by name and the values of labels.
fn all_recorded(recorder: &Snapshotter) -> BTreeMap<(String, Vec<String>), DebugValue> {
    let labels = |key: &metrics::Key| key.labels().map(|label| label.value().to_owned()).collect();
    let all = recorder.snapshot().into_vec().into_iter();
    all.map(|(key, .., value)| ((key.key().name().to_owned(), labels(key.key())), value)).collect()
}

fn values<const N: usize>(values: [f64; N]) -> DebugValue {
    DebugValue::Histogram(values.map(Into::into).into())
}

#[tokio::test(start_paused = true)]
async fn for_how_long_a_read_was_held_is_recorded_when_it_is_answered() {
    let recorder = DebuggingRecorder::new();
    let (_guard, recorded_so_far) = (set_default_local_recorder(&recorder), recorder.snapshotter());
    let held = |reason: &str| {
        let series = ("gaia_hold_seconds".to_owned(), vec!["0".to_owned(), reason.to_owned()]);
        all_recorded(&recorded_so_far).remove(&series)
    };
    let mut server = open();
    for worker in 0..2 {
        server.attach(worker, true).await;
        server.join(worker).await;
    }
    server.flush(0, 1).await;
    let groups = vec![RowGroup { table: TableId(0), since: 0, slots: [0].into() }];
    let read = Read { worker: WorkerId(0), clock: Clock(1), groups };
    server.requests.send((SHARD, Request::Read(read))).await.unwrap();
    server.look().await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(held("stale"), Some(values([])), "it is held still");
    server.flush(1, 1).await;
    assert!(server.replies[0].recv().await.is_some());
    // Tokio's clock goes by milliseconds.
    match held("stale") {
        Some(DebugValue::Histogram(stale)) => {
            assert!(matches!(stale[..], [held] if (2.5..2.6).contains(&held.0)), "{stale:?}")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn links_and_their_updates_are_recorded_by_the_names_of_their_peers() {
    let recorder = DebuggingRecorder::new();
    let (_guard, recorded_so_far) = (set_default_local_recorder(&recorder), recorder.snapshotter());
    let (events, _ends) = linked().await;
    for seq in 1..=3 {
        events.send(update(seq)).await.unwrap();
    }
    while heard(&events).await.0 < 3 {
        tokio::task::yield_now().await;
    }
    // A look takes what there was, so this is one.
    let all = all_recorded(&recorded_so_far);
    let link = ["1", "ireland", "0"].map(str::to_owned).to_vec();
    let found = |name: &str| all.get(&(name.to_owned(), link.clone()));
    assert_eq!(found("gaia_link_connects_total"), Some(&DebugValue::Counter(1)));
    assert_eq!(found("gaia_link_received_update_bytes"), Some(&values([8.0; 3])));
    assert_eq!(found("gaia_link_sent_update_bytes"), Some(&values([])), "it has nothing to ship");
}
