//! The task that owns a node.
//!
//! It waits for one event, takes whatever else has already come, and then sends everything that follows from it: so a
//! clock that completes on several shards at once costs one control message, and answers leave before anything waits.
//!
//! Kind: driver.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use datacenter::local::{Call, Refusal};
use datacenter::message::{ReadReply, Request, Standing};
use datacenter::metrics::Holds;
use datacenter::{Clock, DatacenterId, ShardId, WorkerId};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info, warn};

use crate::driver::link::{Goodbye, LinkHandle, UpdateFrame};
use crate::driver::queue::{EVENT_QUEUE, EventReceiver};
use crate::inbox::PeerError;
use crate::message::{ServerId, ShardControl, Update};
use crate::metrics::LinkMetrics;
use crate::node::{GivenUp, Greeting, Node};
use crate::wire;

/// How long a clock that is complete on some shards waits for the others before it crosses the WAN: workers flush to
/// all shards at about the same time, and one message for all of them costs half as much as one for each.
const OUTPUT_DELAY: Duration = Duration::from_millis(2);

/// Events applied before the node's output is looked at.
const BATCH: usize = 256;

/// What the links, and the process around them, tell the node's task.
pub enum Event {
    /// A link is about to say hello: what is to be said of ourselves?
    Greet {
        /// The peer's datacenter.
        datacenter: DatacenterId,
        /// Where to answer.
        answer: oneshot::Sender<Greeting>,
    },
    /// A link is up.
    Up {
        /// The peer.
        peer: ServerId,
        /// How to send over it.
        handle: Box<LinkHandle>,
        /// What the peer says of itself.
        greeting: Greeting,
        /// The path's round-trip time.
        rtt: Duration,
        /// Hears whether the node takes the link, before which it hears no update of it; dropped if it does not.
        taken: oneshot::Sender<()>,
    },
    /// A link is down.
    Down {
        /// The peer.
        peer: ServerId,
        /// Which link.
        session: u64,
        /// What it said, if its process has stopped of its own will, having shipped all it had.
        goodbye: Option<Goodbye>,
    },
    /// The control queue of a link has room again.
    Writable {
        /// The peer.
        peer: ServerId,
    },
    /// A peer's control message.
    Control {
        /// The peer.
        peer: ServerId,
        /// Over which link.
        session: u64,
        /// What it says of each shard.
        controls: Vec<ShardControl>,
        /// The path's round-trip time.
        rtt: Duration,
        /// Whether it loses packets.
        is_lossy: bool,
    },
    /// A peer's update.
    Update {
        /// The peer.
        peer: ServerId,
        /// Over which link.
        session: u64,
        /// The update.
        update: Update,
        /// The size of its payload.
        bytes: u64,
    },
    /// An operator says that a datacenter has left for good.
    Depart {
        /// Which one.
        datacenter: DatacenterId,
        /// Where to tell whether that is news.
        answer: oneshot::Sender<bool>,
    },
    /// May a server of a datacenter be dead?
    IsDoubtful {
        /// Which datacenter.
        datacenter: DatacenterId,
        /// Where to answer.
        answer: oneshot::Sender<bool>,
    },
    /// A server of a datacenter that hosts none of our shards has answered.
    Sighted {
        /// Which datacenter.
        datacenter: DatacenterId,
    },
    /// A peer says that our own datacenter has left for good.
    Expelled {
        /// In its words.
        reason: String,
    },
    /// The first values of a shard are there.
    Begin {
        /// Which one.
        shard: ShardId,
        /// For each table, shape `[slots * width]`.
        values: Vec<Vec<f32>>,
    },
    /// A worker comes.
    Worker(Call),
    /// Somebody wants to look at the node.
    Inspect(Inspect),
}

/// A look at a node, taken in its task.
pub type Inspect = Box<dyn FnOnce(&Node) + Send>;

/// Hears of a node's progress, in its task: it should be quick.
pub trait Observer: Send {
    /// All hosted shards have completed `clock`.
    fn clock(&mut self, node: &Node, clock: Clock, now: Instant);

    /// What has come so far is in the node, and what follows from it is on its way.
    fn handled(&mut self, _node: &Node, _now: Instant) {}

    /// Another process has taken the place of this one, to which nobody talks any more.
    fn superseded(&mut self) {}

    /// Nobody waits any more for a datacenter, as far as `shards` go; `at_start` if it had not come at the start of the job.
    fn given_up(&mut self, _datacenter: DatacenterId, _shards: &[ShardId], _at_start: bool) {}

    /// The job is done: told once, before anybody else hears of it.
    fn settled(&mut self, _node: &Node) {}

    /// A datacenter has left for good.
    fn departed(&mut self, _datacenter: DatacenterId) {}

    /// Our own datacenter has left for good, as a peer says in these words.
    fn expelled(&mut self, _reason: String) {}
}

/// An observer that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn clock(&mut self, _: &Node, _: Clock, _: Instant) {}
}

/// A node and all its channels.
pub struct Server<O> {
    node: Node,
    observer: O,
    requests: mpsc::Receiver<(ShardId, Request)>,
    /// By worker; none for one whose session has ended.
    replies: Vec<Option<mpsc::Sender<ReadReply>>>,
    /// Where workers are told why their sessions are ended.
    refusals: BTreeMap<WorkerId, Refusal>,
    events: EventReceiver,
    links: Vec<Option<ActiveLink>>,
    holds: Holds,
    clock: Clock,
    output_delay: OutputDelay,
    settled: watch::Sender<bool>,
    /// Workers that have come before the node was ready for them.
    early: Vec<Attaching>,
    /// Workers whose processes have joined.
    joined: BTreeSet<WorkerId>,
    /// Who is known to have left for good.
    departed: BTreeSet<DatacenterId>,
}

/// A worker that waits to be attached.
struct Attaching {
    worker: WorkerId,
    replies: mpsc::Sender<ReadReply>,
    refusal: Refusal,
    answer: oneshot::Sender<Vec<Standing>>,
}

/// Whether output to the WAN waits for shards whose clock is about to complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutputDelay {
    /// All shards are at the same clock.
    Aligned,
    /// They are not; output waits until then.
    Until(Instant),
    /// They still are not, and output has waited long enough.
    Expired,
}

impl OutputDelay {
    fn update(&mut self, is_aligned: bool, now: Instant) {
        *self = match *self {
            _ if is_aligned => Self::Aligned,
            Self::Aligned => Self::Until(now + OUTPUT_DELAY),
            Self::Until(at) if at <= now => Self::Expired,
            waiting => waiting,
        };
    }

    fn until(self) -> Option<Instant> {
        match self {
            Self::Until(at) => Some(at),
            Self::Aligned | Self::Expired => None,
        }
    }
}

/// A link that is up, and control frames for which it had no room yet: at most those of one look at the node.
struct ActiveLink {
    handle: LinkHandle,
    frames: VecDeque<Bytes>,
    metrics: LinkMetrics,
}

impl<O: Observer> Server<O> {
    /// A server of `node`, which answers worker `w` through `replies[w]`. The receiver turns true once the node is
    /// [settled](Node::is_settled), and stays so: whoever joins afterwards reads the result, and undoes nothing.
    pub fn new(
        node: Node,
        observer: O,
        requests: mpsc::Receiver<(ShardId, Request)>,
        replies: Vec<Option<mpsc::Sender<ReadReply>>>,
        events: EventReceiver,
    ) -> (Self, watch::Receiver<bool>) {
        let (settled, receiver) = watch::channel(false);
        // Those that its checkpoints know of are no news.
        let departed = node.departed().collect();
        let holds = Holds::new(node.replicas().iter().map(|replica| replica.shard().id()));
        let server = Self {
            node,
            observer,
            requests,
            replies,
            refusals: BTreeMap::new(),
            events,
            links: Vec::new(),
            holds,
            clock: Clock(0),
            output_delay: OutputDelay::Aligned,
            settled,
            early: Vec::new(),
            joined: BTreeSet::new(),
            departed,
        };
        (server, receiver)
    }

    /// Serves until nobody can send it events any more.
    pub async fn run(mut self) {
        loop {
            let timeout = self.poll_timeout().map(tokio::time::Instant::from_std);
            let wake = async {
                match timeout {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some((shard, request)) = self.requests.recv() => self.handle_request(shard, request),
                event = self.events.recv() => match event {
                    Some(event) => self.handle_event(event),
                    None => return,
                },
                () = wake => {}
            }
            for _ in 0..BATCH {
                // One of each in turn: neither workers nor peers can keep the others waiting, and no control waits behind
                // updates, of which there may be many.
                let (request, control) = (self.requests.try_recv().ok(), self.events.try_control());
                let update = self.events.try_update();
                if request.is_none() && control.is_none() && update.is_none() {
                    break;
                }
                request.into_iter().for_each(|(shard, request)| self.handle_request(shard, request));
                control.into_iter().for_each(|event| self.handle_event(event));
                update.into_iter().for_each(|event| self.handle_event(event));
            }
            self.send_all();
        }
    }

    fn handle_request(&mut self, shard: ShardId, request: Request) {
        let worker = request.worker();
        match self.node.handle_request(shard, request, now()) {
            Ok(Some(reply)) => self.answer(reply),
            Ok(None) => {}
            // It would wait for an answer for ever: its session ends instead. Its clock stands still, as that of any worker
            // that is gone, until somebody takes it out of the shards' vector clocks.
            Err(error) => {
                warn!(shard = shard.0, worker = worker.0, %error, "refused a worker's request: ending its session");
                if let Some(refusal) = self.refusals.get(&worker) {
                    refusal.give(error.to_string());
                }
                if let Some(replies) = self.replies.get_mut(worker.index()) {
                    *replies = None;
                }
            }
        }
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Greet { datacenter, answer } => _ = answer.send(self.node.greeting(datacenter)),
            Event::Up { peer, handle, greeting, rtt, taken } => {
                self.handle_up(peer, *handle, &greeting, rtt, taken);
            }
            Event::Down { peer, session, goodbye } => self.handle_down(peer, session, goodbye),
            Event::Writable { .. } => {}
            Event::Control { peer, session, controls, rtt, is_lossy } => {
                if let Some(at) = self.index_of_link(peer, session) {
                    self.node.handle_rtt(at, rtt, now());
                    self.node.handle_loss(at, is_lossy);
                    let outcome = self.node.handle_control(at, &controls, now());
                    self.heed(at, outcome);
                }
            }
            Event::Update { peer, session, update, bytes } => {
                if let Some(at) = self.index_of_link(peer, session) {
                    self.links[at].iter().for_each(|l| l.metrics.received_update_bytes.record(bytes as f64));
                    let outcome = self.node.handle_update(at, &update, bytes, now());
                    self.heed(at, outcome);
                }
            }
            Event::Depart { datacenter, answer } => _ = answer.send(self.node.depart(datacenter)),
            Event::IsDoubtful { datacenter, answer } => {
                let _ = answer.send(self.node.is_doubtful(datacenter, now()));
            }
            Event::Sighted { datacenter } => self.node.handle_sighted(datacenter, now()),
            Event::Expelled { reason } => self.observer.expelled(reason),
            Event::Begin { shard, values } => self.node.begin_with(shard, &values),
            Event::Worker(call) => self.handle_call(call),
            Event::Inspect(look) => look(&self.node),
        }
    }

    fn handle_call(&mut self, call: Call) {
        match call {
            Call::Attach { worker, is_new, replies, refusal, answer } => {
                if is_new {
                    self.joined.remove(&worker);
                }
                // It begins at the shards' clocks, which may yet become those of the others, with
                // values that may have yet to come.
                self.early.retain(|other| other.worker != worker);
                self.early.push(Attaching { worker, replies, refusal, answer });
                self.attach_early();
            }
            Call::Suspend { worker, answer } => {
                let _ = answer.send(!self.is_attached(worker) && self.node.suspend(worker, now()));
            }
            Call::Join { worker, clock, answer } => {
                self.joined.insert(worker);
                let _ = answer.send(self.node.join(worker, clock, now()));
            }
        }
    }

    fn handle_up(
        &mut self,
        peer: ServerId,
        handle: LinkHandle,
        greeting: &Greeting,
        rtt: Duration,
        taken: oneshot::Sender<()>,
    ) {
        let Some(at) = self.node.peer(peer) else { return };
        self.links.resize_with(self.node.peers().len(), || None);
        self.node.handle_down(at);
        self.node.handle_rtt(at, rtt, now());
        let metrics = handle.traffic.metrics(peer);
        let connects = metrics.connects.clone();
        self.links[at] = Some(ActiveLink { handle, frames: VecDeque::new(), metrics });
        debug!(%peer, ?rtt, "link up");
        let outcome = self.node.handle_up(at, greeting, now());
        if outcome.is_ok() {
            connects.increment(1);
            // The link may have ended meanwhile.
            let _ = taken.send(());
            self.part_with_replaced();
        } else {
            // Before the link hears why.
            drop(taken);
        }
        self.heed(at, outcome);
    }

    fn handle_down(&mut self, peer: ServerId, session: u64, goodbye: Option<Goodbye>) {
        self.hear_updates();
        let Some(at) = self.index_of_link(peer, session) else { return };
        self.links[at] = None;
        match goodbye {
            None => self.node.handle_down(at),
            Some(Goodbye::Stopped) => self.node.handle_left(at),
            Some(Goodbye::ForGood) => self.node.handle_goodbye(at),
        }
        debug!(%peer, ?goodbye, "link down");
    }

    /// Closes the link with the peer at place `at` if what it said made no sense.
    fn heed(&mut self, at: usize, outcome: Result<(), PeerError>) {
        let Err(error) = outcome else { return };
        let peer = self.node.peers().nth(at);
        let peer = peer.map(tracing::field::display);
        match error.is_routine() {
            true => debug!(peer, %error, "closing a link"),
            false => warn!(peer, %error, "the peer broke the protocol: closing its link"),
        }
        if self.node.is_superseded() {
            self.observer.superseded();
        }
        self.node.handle_down(at);
        if let Some(link) = self.links[at].take() {
            // It may have ended by itself.
            let _ = link.handle.refuse.send(error);
        }
    }

    /// Hears what came over a link before its end, and would be void after it.
    fn hear_updates(&mut self) {
        for _ in 0..EVENT_QUEUE {
            let Some(update) = self.events.try_update() else { return };
            self.handle_event(update);
        }
    }

    fn send_all(&mut self) {
        let now = now();
        self.judge(now);
        if self.node.poll_departures() {
            self.part_with_departed();
        }
        self.attach_early();
        while let Some(reply) = self.node.poll_reply(now) {
            self.answer(reply);
        }
        let clocks = || self.node.replicas().iter().map(|r| r.shard().clock());
        let least = clocks().min().unwrap_or_default();
        self.output_delay.update(clocks().all(|clock| clock == least), now);
        if self.output_delay.until().is_none() {
            (0..self.links.len()).for_each(|at| self.send_to_peer(at, now));
        }
        if least > self.clock {
            self.clock = least;
            self.observer.clock(&self.node, least, now);
        }
        self.observer.handled(&self.node, now);
        if !*self.settled.borrow() && self.node.is_settled() {
            self.observer.settled(&self.node);
            self.settled.send_replace(true);
        }
    }

    /// Goes on without whoever has been silent for too long.
    fn judge(&mut self, now: Instant) {
        let mut gone: BTreeMap<(DatacenterId, bool), Vec<ShardId>> = BTreeMap::new();
        for GivenUp { datacenter, shard, at_start } in self.node.judge(now) {
            gone.entry((datacenter, at_start)).or_default().push(shard);
        }
        for ((datacenter, at_start), shards) in gone {
            self.observer.given_up(datacenter, &shards, at_start);
        }
    }

    /// Ends the links with those in whose place another server is linked: dead ones, whose links do not show it yet.
    fn part_with_replaced(&mut self) {
        for (at, link) in self.links.iter_mut().enumerate() {
            if !self.node.is_up(at)
                && !self.node.is_departed(at)
                && let Some(link) = link.take()
            {
                // It may have ended by itself.
                let _ = link.handle.refuse.send(PeerError::FormerLife);
            }
        }
    }

    /// Ends the links with those who have left for good.
    fn part_with_departed(&mut self) {
        for id in self.node.departed() {
            if self.departed.insert(id) {
                self.observer.departed(id);
            }
        }
        for (at, link) in self.links.iter_mut().enumerate() {
            if self.node.is_departed(at)
                && let Some(link) = link.take()
            {
                let id = self.node.peers().nth(at).expect("links are counted as peers are").datacenter;
                // It may have ended by itself.
                let _ = link.handle.refuse.send(PeerError::Departed(id));
            }
        }
    }

    /// When to send again if nothing happens before. What cannot be sent yet, since output waits for a clock or a link
    /// for room, is not waited for: to wake for it would be to spin.
    fn poll_timeout(&self) -> Option<Instant> {
        let has_room = |at: &usize| self.links[*at].as_ref().is_some_and(|link| link.frames.is_empty());
        let links = || (0..self.links.len()).filter(has_room);
        let of_links = || links().filter_map(|at| self.node.poll_timeout(at)).min();
        let judgement = self.node.poll_judgement();
        self.output_delay.until().or_else(of_links).into_iter().chain(judgement).min()
    }

    fn send_to_peer(&mut self, at: usize, now: Instant) {
        let Some(link) = &mut self.links[at] else { return };
        let peer = self.node.peers().nth(at).filter(|_| self.node.has_budget());
        if let Some(peer) = peer {
            self.node.handle_sent(at, link.handle.traffic.wire_bytes(peer).0);
        }
        while let Some(outgoing) = self.node.poll_update(at, now) {
            // A send fails only when the link is ending; then the hello of the next one sorts it out.
            let frame = wire::encode_outgoing(&outgoing);
            link.metrics.sent_update_bytes.record(outgoing.bytes as f64);
            let _ = link.handle.updates.send(UpdateFrame { frame, payload_bytes: outgoing.bytes });
        }
        // While the link is busy, what is to be said stays in the node, where newer statements replace older ones.
        if link.frames.is_empty() {
            let controls = self.node.poll_control(at, now);
            if !controls.is_empty() {
                link.frames.extend(wire::encode_control(&controls));
            }
        }
        while let Some(frame) = link.frames.pop_front() {
            if let Err(TrySendError::Full(frame)) = link.handle.control.try_send(frame) {
                link.frames.push_front(frame);
                break;
            }
        }
    }

    fn answer(&mut self, reply: ReadReply) {
        let worker = reply.worker;
        self.holds.record(&reply);
        let Some(Some(replies)) = self.replies.get(worker.index()) else { return };
        match replies.try_send(reply) {
            Ok(()) => {}
            Err(TrySendError::Closed(_)) => {
                debug!(worker = worker.0, "the worker is gone, its answer is dropped");
                self.replies[worker.index()] = None;
            }
            // There is room for one answer of each shard, and a worker reads one at a time from each.
            Err(TrySendError::Full(_)) => {
                warn!(worker = worker.0, "the worker asks without taking its answers: ending its session");
                self.replies[worker.index()] = None;
            }
        }
    }

    /// Attaches who has come, once the values are there and it is known how far the other datacenters are.
    fn attach_early(&mut self) {
        if self.early.is_empty() || !self.node.is_ready() {
            return;
        }
        for Attaching { worker, replies, refusal, answer } in std::mem::take(&mut self.early) {
            self.refusals.insert(worker, refusal);
            let _ = answer.send(self.attach(worker, replies));
        }
    }

    /// Answers `worker` through `replies` from now on; what it was sent on a former way and did not take is lost.
    fn attach(&mut self, worker: WorkerId, replies: mpsc::Sender<ReadReply>) -> Vec<Standing> {
        let Some(current) = self.replies.get_mut(worker.index()) else { return Vec::new() };
        *current = Some(replies);
        let has_begun = self.node.replicas().iter().any(|replica| replica.shard().clock() > Clock(0));
        if self.joined.contains(&worker) {
            if self.node.resume_worker(worker, now()) {
                info!(worker = worker.0, "a worker that was gone is back");
            }
        } else if has_begun && self.node.suspend(worker, now()) {
            // It may have to wait for other servers of its datacenter before it can.
            info!(worker = worker.0, "a worker has started anew: nobody waits for it until it has joined");
        }
        self.node.replicas().iter().map(|replica| replica.shard().standing(worker)).collect()
    }

    /// Whether somebody would hear what a worker is answered.
    fn is_attached(&self, worker: WorkerId) -> bool {
        let replies = self.replies.get(worker.index()).and_then(Option::as_ref);
        replies.is_some_and(|replies| !replies.is_closed())
    }

    /// The peer, unless another link has replaced this one: what was still queued of a former link is void. Updates in
    /// it will be sent again, and neither its end nor its errors concern the new one.
    fn index_of_link(&self, peer: ServerId, session: u64) -> Option<usize> {
        let is_current = |at: &usize| self.links[*at].as_ref().is_some_and(|l| l.handle.session == session);
        self.node.known_peer(peer).filter(is_current)
    }
}

/// Tokio's clock, which is virtual in a simulation.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
