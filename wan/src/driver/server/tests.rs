use datacenter::ShardTable;
use datacenter::message::Flush;
use datacenter::shard::Shard;

use super::*;
use crate::policy::{Lead, Policy, Selection};
use crate::replica::Replica;

const SHARD: ShardId = ShardId(0);
const WORKERS: usize = 2;

struct Desk {
    requests: mpsc::Sender<(ShardId, Request)>,
    events: mpsc::Sender<Event>,
    /// Where answers go, kept so that sessions last.
    replies: Vec<mpsc::Receiver<ReadReply>>,
}

impl Desk {
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

fn open() -> Desk {
    let policy = Policy { selection: Selection::Everything, barrier_max_delay: None, lead: Lead::Unlimited };
    let shape = ShardTable { slots: 1, width: 1 };
    let shard = Shard::new(SHARD, &[shape], vec![vec![0.0]], WORKERS, Some(0));
    let node = Node::new(vec![Replica::new(shard, &policy, [])], &[], &policy);
    let ((requests, queue), (events, event_queue)) = (mpsc::channel(8), mpsc::channel(8));
    let (server, _) = Server::new(node, Unobserved, queue, vec![None; WORKERS], event_queue);
    tokio::spawn(server.run());
    Desk { requests, events, replies: Vec::new() }
}

#[tokio::test]
async fn a_worker_that_has_started_anew_is_waited_for_when_it_has_joined() {
    let mut desk = open();
    desk.attach(0, true).await;
    desk.attach(1, true).await;
    assert_eq!(desk.look().await, (0, vec![0, 1]), "a job waits for all to begin");
    desk.join(0).await;
    desk.join(1).await;
    desk.flush(0, 1).await;
    desk.flush(1, 1).await;
    desk.flush(0, 2).await;
    // Its connection has broken.
    desk.attach(1, false).await;
    assert_eq!(desk.look().await, (1, vec![0, 1]));
    // It has started anew, and may have to wait for other servers; also where its connection breaks meanwhile.
    for is_new in [true, false] {
        desk.attach(1, is_new).await;
        assert_eq!(desk.look().await, (2, vec![0]));
    }
    desk.join(1).await;
    assert_eq!(desk.look().await, (2, vec![0, 1]));
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
    let policy = Policy { selection: Selection::Everything, barrier_max_delay: None, lead: Lead::Unlimited };
    let shard = Shard::new(SHARD, &[ShardTable { slots: 1, width: 1 }], vec![vec![0.0]], WORKERS, Some(0));
    let node = Node::new(vec![Replica::new(shard, &policy, [])], &[], &policy).ending_at(Clock(1));
    let ((requests, queue), (events, event_queue)) = (mpsc::channel(8), mpsc::channel(8));
    let (ends, mut ended) = mpsc::unbounded_channel();
    let (server, mut settled) = Server::new(node, Ends(ends), queue, vec![None; WORKERS], event_queue);
    tokio::spawn(server.run());
    let mut desk = Desk { requests, events, replies: Vec::new() };
    for worker in 0..2 {
        desk.attach(worker, true).await;
        desk.join(worker).await;
        desk.flush(worker, 1).await;
        desk.requests.send((SHARD, Request::Leave(WorkerId(worker)))).await.unwrap();
    }
    settled.wait_for(|settled| *settled).await.unwrap();
    // It has been restarted, and reads the result.
    desk.attach(0, true).await;
    desk.join(0).await;
    assert_eq!(desk.look().await, (1, vec![0]));
    assert!(*settled.borrow(), "that was decided");
    desk.requests.send((SHARD, Request::Leave(WorkerId(0)))).await.unwrap();
    assert_eq!(desk.look().await, (1, vec![]));
    assert!(ended.recv().await.is_some() && ended.try_recv().is_err(), "once");
}
