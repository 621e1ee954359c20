//! The worker's side: one connection to each server, made again when it breaks.
//!
//! A [`ServerLink`] keeps the connection to one server. It stands between a worker's
//! [`Session`](crate::local::Session) and the server's shards, and hides from the session that
//! connections break: a flush is kept until the server says that its shard has it, a read until it
//! is answered, and on a new connection both are said again. Flushes count by their clock and a
//! worker has one read at a time on a shard, so that does no harm.
//!
//! What a link cannot hide is a server that has started anew: what the worker has read there means
//! nothing to the new life. Then the link only takes what its session still says, and ends with it;
//! the worker begins a new session, whose link says first to the new life what the former one had
//! not confirmed. The shards know by the clocks what they have.
//!
//! Kind: driver.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::life::HEARTBEAT;
use super::{
    DEPARTED, Frames, HANDSHAKE, LEFT, LINGER, LanError, MAX_HELLO_BYTES, REPLACED, SENSELESS, Security,
    Terms, Way, dismiss, framed, next,
};
use crate::causes::with_causes;
use crate::identity::{PeerName, Role, handshake};
use crate::message::{Notice, Read, ReadReply, Request, Standing};
use crate::refusals::Refusals;
use crate::throttle::Repeats;
use crate::wire::{Shapes, ToServer, ToWorker, VERSION, Welcome, WorkerHello};
use crate::{Clock, ShardId, WorkerId};

/// The first pause before dialling again, and the longest.
const BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(3)];

/// A connection that has lasted that long was a good one: after it the pauses start from the first
/// again.
const STABLE: Duration = Duration::from_secs(10);

/// The pause of a worker whose place a later start has taken. It does not give up, as that one may
/// end.
const REPLACED_PAUSE: Duration = Duration::from_secs(60);

/// Flushes that may wait for the server's word; a session that is further ahead waits.
pub(super) const MAX_UNCONFIRMED: usize = 256;

/// And how many bytes they may have, if there are several.
const MAX_UNCONFIRMED_BYTES: usize = 64 << 20;

/// Who dials whom, and how.
#[derive(Clone)]
pub struct Plan {
    /// What both sides must agree on.
    pub terms: Terms,
    /// Who we are.
    pub worker: WorkerId,
    /// When our process started, in microseconds since 1970.
    pub incarnation: u64,
    /// Which server it is.
    pub server: u16,
    /// Where it is, `host:port`; names are looked up each time anew.
    pub address: String,
    /// How the connection is protected.
    pub security: Security,
    /// By shard.
    pub shapes: Arc<Shapes>,
    /// Where refusals are counted.
    pub refusals: Refusals,
}

/// A request to join at a clock, and where to answer with the worker's clock on each shard.
type Joining = (Clock, oneshot::Sender<Vec<(ShardId, Clock)>>);

/// How a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It is not connected; why, as far as that is known.
    Waiting(String),
    /// It is connected: how far the server's shards were then, and how the server is.
    Connected {
        /// The shards.
        standings: Vec<Standing>,
        /// Which life of the server it is.
        incarnation: u64,
        /// What the server says of itself.
        notice: Notice,
    },
    /// The datacenter has left the job for good, as the server says.
    Departed(String),
    /// The server has refused what the session said, and ended it; why, as the server says.
    Refused(String),
    /// The server has started anew, and what was read of it is of no use any more; or another
    /// process has taken the worker's place, and who comes back to it has to join again.
    Lost,
}

/// A link's other end, for the session's owner.
#[derive(Debug)]
pub struct Handle {
    /// How the link is.
    pub state: watch::Receiver<LinkState>,
    accepted: watch::Receiver<BTreeMap<ShardId, Clock>>,
    joins: mpsc::Sender<Joining>,
}

impl Handle {
    /// Says that the worker trains from now on, at `clock` or later; yields its clock on each of
    /// the server's shards. None if the connection broke meanwhile: ask again.
    pub async fn join(&self, clock: Clock) -> Option<Vec<(ShardId, Clock)>> {
        let (answer, joined) = oneshot::channel();
        self.joins.send((clock, answer)).await.ok()?;
        joined.await.ok()
    }

    /// Returns once the server has the worker's flush of `clock` to `shard`, which needs not be
    /// kept any longer; false if the link ends before.
    pub async fn flushed(&self, shard: ShardId, clock: Clock) -> bool {
        let has_it =
            |accepted: &BTreeMap<ShardId, Clock>| accepted.get(&shard).is_some_and(|at| *at >= clock);
        self.accepted.clone().wait_for(has_it).await.is_ok()
    }
}

/// Flushes for the shards of a server that it has not confirmed, in order.
pub type Unsent = Vec<(ShardId, Request)>;

/// What has been said to a server and may have to be said again.
#[derive(Debug, Default)]
struct Unconfirmed {
    /// In order.
    flushes: VecDeque<(ShardId, Request)>,
    /// Of the values of these.
    bytes: usize,
    reads: BTreeMap<ShardId, Read>,
    leaves: Vec<(ShardId, Request)>,
}

/// The connection to one server, for as long as its session wants it.
#[derive(Debug)]
pub struct ServerLink {
    plan: Plan,
    requests: mpsc::Receiver<(ShardId, Request)>,
    replies: mpsc::Sender<ReadReply>,
    joins: mpsc::Receiver<Joining>,
    state: watch::Sender<LinkState>,
    accepted: watch::Sender<BTreeMap<ShardId, Clock>>,
    unconfirmed: Unconfirmed,
    incarnation: Option<u64>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to server {} at {}", self.worker, self.server, self.address)
    }
}

impl ServerLink {
    /// A link that takes `requests` of a session to the server of `plan`, and puts its answers into
    /// `replies`.
    pub fn new(
        plan: Plan,
        requests: mpsc::Receiver<(ShardId, Request)>,
        replies: mpsc::Sender<ReadReply>,
    ) -> (Self, Handle) {
        let (state, watched) = watch::channel(LinkState::Waiting("not tried yet".into()));
        let (join, joins) = mpsc::channel(1);
        let (accepted, has_accepted) = watch::channel(BTreeMap::new());
        let unconfirmed = Unconfirmed::default();
        let link = Self { plan, requests, replies, joins, state, accepted, unconfirmed, incarnation: None };
        (link, Handle { state: watched, accepted: has_accepted, joins: join })
    }

    /// The same, saying first what a former link to this server was left with.
    #[must_use]
    pub fn carrying(mut self, carried: Unsent) -> Self {
        carried.into_iter().for_each(|(shard, request)| self.unconfirmed.note(shard, request));
        self
    }

    /// Keeps the connection until the session is dropped and all it said is confirmed; or, if the
    /// server has started anew, until the session is dropped. Yields what is not confirmed then,
    /// for the next link to [carry](Self::carrying).
    pub async fn run(mut self) -> Unsent {
        let mut pause = BACKOFF[0];
        let mut said = Repeats::default();
        loop {
            let dialled = Instant::now();
            let connected = timeout(HANDSHAKE, self.connect()).await.map_err(|_| LanError::Silent).flatten();
            let error = match connected {
                Ok((frames, welcome)) => {
                    if self.incarnation.is_some_and(|known| known != welcome.incarnation) {
                        warn!(link = ?self.plan, "the server has started anew");
                        drop(frames);
                        self.state.send_replace(LinkState::Lost);
                        return self.left_over().await;
                    }
                    self.incarnation = Some(welcome.incarnation);
                    info!(link = ?self.plan, "connected");
                    let since = Instant::now();
                    let talked = self.talk(frames, welcome).await;
                    if since.elapsed() >= STABLE {
                        pause = BACKOFF[0];
                        said.forget(|_| true);
                    }
                    match talked {
                        Ok(()) => return Unsent::new(),
                        Err(error) => error,
                    }
                }
                Err(error) => {
                    // A server that keeps us at its listener is there: we are back before it opens.
                    if dialled.elapsed() >= HANDSHAKE / 2 {
                        pause = BACKOFF[0];
                    }
                    error
                }
            };
            let error = error.explained(&self.plan.security);
            error.refused().into_iter().for_each(|refused| self.plan.refusals.count(refused));
            let problem = with_causes(&error);
            debug!(?error, "the connection in the system's words");
            // A server that is away or refuses us says the same at every try.
            let cause = error.refused().map_or_else(|| problem.clone(), |refused| refused.cause.to_owned());
            match said.pass(&cause, Instant::now()) {
                None => debug!(link = ?self.plan, error = %problem, "still no connection"),
                Some(unsaid) => {
                    let times = (unsaid > 0).then_some(unsaid + 1);
                    warn!(link = ?self.plan, times, error = %problem, "no connection, will try again");
                }
            }
            if let LanError::Refused { cause: SENSELESS, reason, .. } = &error {
                // To say it again would be to be refused again.
                self.state.send_replace(LinkState::Refused(reason.clone()));
                return Unsent::new();
            }
            self.state.send_replace(match &error {
                LanError::Refused { cause: DEPARTED, reason, .. } => LinkState::Departed(reason.clone()),
                _ => LinkState::Waiting(problem),
            });
            if self.requests.is_closed() && self.requests.is_empty() && self.unconfirmed.is_empty() {
                return Unsent::new();
            }
            if matches!(error, LanError::Refused { cause: REPLACED, .. }) {
                if self.incarnation.is_some() {
                    self.state.send_replace(LinkState::Lost);
                    return self.left_over().await;
                }
                pause = REPLACED_PAUSE;
            }
            sleep(pause).await;
            pause = (pause * 2).min(BACKOFF[1]);
        }
    }

    /// What the server has not confirmed, once the session is dropped: what it has yet to say of
    /// the clock that it is in must not be lost, for the other servers have it.
    async fn left_over(self) -> Unsent {
        let Self { mut requests, mut unconfirmed, joins, .. } = self;
        // Who wants to join must not wait for an answer.
        drop(joins);
        while let Some((shard, request)) = requests.recv().await {
            unconfirmed.note(shard, request);
        }
        unconfirmed.flushes.into()
    }

    async fn connect(&self) -> Result<(Frames, Welcome), LanError> {
        let Plan { terms, security, shapes, .. } = &self.plan;
        let stream = TcpStream::connect(&self.plan.address).await?;
        stream.set_nodelay(true)?;
        let stream = match security {
            Security::Mutual(identity) => {
                let server = PeerName::new(&terms.datacenter, Role::Server);
                let server = server.map_err(|error| std::io::Error::other(error.to_string()))?;
                Way::Dialled(Box::new(handshake::connect(identity, &server, stream).await?))
            }
            Security::Plaintext => Way::Plain(stream),
        };
        let mut frames = framed(stream);
        // A welcome has a standing for each shard.
        frames.codec_mut().set_max_frame_length(MAX_HELLO_BYTES + 32 * shapes.0.len());
        match self.greet(&mut frames).await {
            Ok(welcome) => {
                frames.codec_mut().set_max_frame_length(shapes.max_frame_bytes());
                Ok((frames, welcome))
            }
            Err(error) => {
                dismiss_for(&mut frames, &error).await;
                Err(error)
            }
        }
    }

    async fn greet(&self, frames: &mut Frames) -> Result<Welcome, LanError> {
        let Plan { terms, shapes, .. } = &self.plan;
        let hello = WorkerHello {
            version: VERSION,
            datacenter: terms.datacenter.clone(),
            job_digest: terms.job_digest.clone(),
            worker: self.plan.worker,
            incarnation: self.plan.incarnation,
        };
        frames.send(ToServer::Hello(hello).encode()).await?;
        if let Some(refused) = frames.get_ref().tls_in_plaintext().await? {
            return Err(LanError::Certificate(refused));
        }
        let welcome = match ToWorker::decode(next(frames).await?, shapes)? {
            ToWorker::Welcome(welcome) => welcome,
            ToWorker::Refused { cause, reason } => return Err(LanError::by_them(&cause, reason)),
            _ => return Err(LanError::OutOfTurn("a welcome comes first")),
        };
        if welcome.version != VERSION {
            let reason = format!("you speak protocol version {}, we speak {VERSION}", welcome.version);
            return Err(LanError::Refused { cause: "version", reason, by_us: true });
        }
        if welcome.server != self.plan.server {
            let (found, expected) = (welcome.server, self.plan.server);
            let reason = format!("you are server {found}, and server {expected} should be at this address");
            return Err(LanError::Refused { cause: "name", reason, by_us: true });
        }
        frames.get_ref().check_index(welcome.server.into())?;
        Ok(welcome)
    }

    /// Talks over a connection until it breaks, or nobody has anything to say any more, or the
    /// server's certificate is revoked.
    pub(super) async fn talk(&mut self, mut frames: Frames, welcome: Welcome) -> Result<(), LanError> {
        let (security, peer) = (self.plan.security.clone(), frames.get_ref().peer());
        let talked = tokio::select! {
            talked = self.exchange(&mut frames, welcome) => talked,
            error = security.revoked(peer) => Err(error),
        };
        if let Err(error) = &talked {
            dismiss_for(&mut frames, error).await;
        }
        talked
    }

    /// The same; whatever it waits for, it may be dropped then, and nothing is forgotten that was
    /// not confirmed.
    async fn exchange(&mut self, frames: &mut Frames, welcome: Welcome) -> Result<(), LanError> {
        let heard = frames.get_ref().heard.clone();
        let (mut sink, mut stream) = frames.split();
        self.unconfirmed.forget_known(&welcome.standings);
        let mut unsaid: VecDeque<ToServer> = self.unconfirmed.to_repeat().collect();
        // An answer that the session has yet to take.
        let mut arrived = None;
        let Welcome { standings, incarnation, .. } = welcome;
        self.state.send_replace(LinkState::Connected { standings, incarnation, notice: Notice::Serving });
        let mut joining: Option<oneshot::Sender<Vec<(ShardId, Clock)>>> = None;
        let (mut is_open, mut is_flushed) = (true, true);
        let mut said = Instant::now();
        loop {
            // One frame at a time is under way, and it is read meanwhile: the other side may wait
            // for that, and it is also how we know that it is there.
            if is_flushed && let Some(message) = unsaid.pop_front() {
                sink.feed(message.encode()).await?;
                is_flushed = false;
            }
            let may_take = is_open && unsaid.is_empty() && self.unconfirmed.has_room();
            tokio::select! {
                flushed = sink.flush(), if !is_flushed => {
                    flushed?;
                    (is_flushed, said) = (true, Instant::now());
                }
                room = self.replies.reserve(), if arrived.is_some() => {
                    // A session that is gone wants no answers.
                    if let (Ok(room), Some(reply)) = (room, arrived.take()) {
                        room.send(reply);
                    }
                }
                frame = stream.next(), if arrived.is_none() => {
                    let frame = frame.ok_or(LanError::Closed)??.freeze();
                    match ToWorker::decode(frame, &self.plan.shapes)? {
                        ToWorker::Reply(reply) => arrived = self.unconfirmed.answered(reply),
                        ToWorker::Accepted(shard, clock) => {
                            self.unconfirmed.confirm(shard, clock);
                            self.accepted.send_modify(|accepted| _ = accepted.insert(shard, clock));
                        }
                        ToWorker::Joined(joined) => {
                            if let Some(answer) = joining.take() {
                                let _ = answer.send(joined);
                            }
                        }
                        ToWorker::Notice(told) => self.state.send_modify(|state| {
                            if let LinkState::Connected { notice, .. } = state {
                                *notice = told;
                            }
                        }),
                        ToWorker::Refused { cause, reason } => return Err(LanError::by_them(&cause, reason)),
                        ToWorker::Alive => {}
                        ToWorker::Answer { .. } => {
                            return Err(LanError::OutOfTurn("a worker is no operator"));
                        }
                        ToWorker::Welcome(_) => return Err(LanError::OutOfTurn("the hello is over")),
                    }
                }
                request = self.requests.recv(), if may_take => match request {
                    Some((shard, request)) => {
                        unsaid.extend(ToServer::of_request(shard, request.clone()));
                        self.unconfirmed.note(shard, request);
                    }
                    None => is_open = false,
                },
                Some((clock, answer)) = self.joins.recv(), if is_flushed => {
                    // Who no longer waits for it may have left meanwhile, and must not be counted
                    // again.
                    if answer.is_closed() {
                        continue;
                    }
                    sink.feed(ToServer::Join(clock).encode()).await?;
                    (joining, is_flushed) = (Some(answer), false);
                }
                () = sleep_until(said + HEARTBEAT), if is_flushed => {
                    sink.feed(ToServer::Alive.encode()).await?;
                    is_flushed = false;
                }
                () = heard.silence(), if arrived.is_none() => return Err(LanError::Gone),
            }
            if !is_open && self.unconfirmed.is_empty() {
                // All is delivered, so that whether the server hears the last word does not matter.
                let _ = timeout(LINGER, sink.close()).await;
                return Ok(());
            }
        }
    }
}

/// Tells a server why it is refused, if it is, and hangs up.
async fn dismiss_for(frames: &mut Frames, error: &LanError) {
    if let Some((cause, reason)) = error.told() {
        dismiss(frames, ToServer::Refused { cause, reason }.encode()).await;
    }
}

impl Unconfirmed {
    fn is_empty(&self) -> bool {
        self.flushes.is_empty() && self.leaves.is_empty()
    }

    /// Whether the session may say more.
    fn has_room(&self) -> bool {
        self.flushes.len() < MAX_UNCONFIRMED && self.bytes < MAX_UNCONFIRMED_BYTES
    }

    /// An answer, if it was asked for: one may come twice, as the question was said again.
    fn answered(&mut self, reply: ReadReply) -> Option<ReadReply> {
        let is_wanted = self.reads.contains_key(&reply.shard);
        if reply.is_last {
            self.reads.remove(&reply.shard);
        }
        is_wanted.then_some(reply)
    }

    fn note(&mut self, shard: ShardId, request: Request) {
        match request {
            Request::Flush(ref flush) => {
                self.bytes += flush.value_bytes();
                self.flushes.push_back((shard, request));
            }
            Request::Read(read) => drop(self.reads.insert(shard, read)),
            Request::Leave(_) => self.leaves.push((shard, request)),
        }
    }

    fn confirm(&mut self, shard: ShardId, clock: Clock) {
        let bytes = &mut self.bytes;
        self.flushes.retain(|(of, request)| match request {
            Request::Flush(flush) if *of == shard && flush.clock <= clock => {
                *bytes -= flush.value_bytes();
                false
            }
            Request::Flush(_) | Request::Read(_) | Request::Leave(_) => true,
        });
        if clock == LEFT {
            self.leaves.retain(|(of, _)| *of != shard);
        }
    }

    /// Forgets what the server has, by the worker's clock on its shards.
    fn forget_known(&mut self, standings: &[Standing]) {
        for standing in standings {
            if let Some(clock) = standing.worker {
                self.confirm(standing.shard, clock);
            }
        }
    }

    /// What is to be said again on a new connection, in order.
    fn to_repeat(&self) -> impl Iterator<Item = ToServer> {
        let reads = self.reads.iter().map(|(shard, read)| (*shard, Request::Read(read.clone())));
        let all = self.flushes.iter().cloned().chain(reads).chain(self.leaves.iter().cloned());
        all.flat_map(|(shard, request)| ToServer::of_request(shard, request))
    }
}
