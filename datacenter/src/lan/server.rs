//! The server's side: lets workers in, and passes their requests to the shards and the answers
//! back.
//!
//! Kind: driver.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{Instrument, debug, info, info_span, warn};

use super::half_open::{HalfOpen, Place, Stage};
use super::incarnations::{Incarnations, Registration};
use super::life::{HEARTBEAT, Heard};
use super::presence::Presence;
use super::{
    DEPARTED, Frames, HANDSHAKE, LEFT, LanError, SENSELESS, Security, Terms, Way, dismiss, framed, next,
};
use crate::buffer::Guard;
use crate::causes::with_causes;
use crate::identity::{self, Identity, PeerName, Role, handshake};
use crate::local::{Call, Refusal};
use crate::message::{Flush, Notice, ReadReply, Request, Standing};
use crate::refusals::Refusals;
use crate::throttle::Throttle;
use crate::wire::{Frame, OperatorHello, Shapes, ToServer, ToWorker, VERSION, Welcome, WorkerHello};
use crate::{ShardId, WorkerId};

/// Frames other than answers that may wait for a connection: more than a worker has flushes
/// unconfirmed, so that reading never waits for writing, on which the worker may be waiting. One
/// that does not keep to that slows itself down.
const OUT_QUEUE: usize = 2 * super::worker::MAX_UNCONFIRMED;

/// How long to wait when the system has no connection to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Who says nothing at all for so long is hung up on: a worker speaks first, and at once.
const FIRST_WORD: Duration = Duration::from_secs(2);

/// A server's way to its shards, and what it lets workers in by.
#[derive(Clone)]
pub struct Listener {
    /// What both sides must agree on.
    pub terms: Terms,
    /// Our index in the datacenter.
    pub server: u16,
    /// Which life of this server it is.
    pub incarnation: u64,
    /// How connections are protected.
    pub security: Security,
    /// By shard, those hosted elsewhere too.
    pub shapes: Arc<Shapes>,
    /// How many workers the datacenter has.
    pub workers: u32,
    /// Requests to shards.
    pub requests: mpsc::Sender<(ShardId, Request)>,
    /// Everything else that workers ask.
    pub calls: mpsc::Sender<Call>,
    /// What all workers are told.
    pub notice: watch::Receiver<Notice>,
    /// Where refusals are counted.
    pub refusals: Refusals,
    /// Which processes the workers are.
    pub incarnations: Incarnations,
    /// The workers that are connected, and how the others went.
    pub presence: watch::Sender<Presence>,
    /// Who does what operators want; none where they are not let in.
    pub operators: Option<Operators>,
}

impl Listener {
    /// Lets workers in that come to `socket`, for ever.
    pub async fn serve(self, socket: TcpListener) {
        // Whoever could foresee who is drawn would gain nothing: it is a stranger's place as often
        // as before.
        let half_open = HalfOpen::new(self.incarnation);
        let throttle = Arc::new(Mutex::new(Throttle::new(Instant::now())));
        let mut failures = Throttle::rare(Instant::now());
        loop {
            let (stream, address) = match socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: others may be given back.
                    if let Some(unsaid) = failures.pass(Instant::now()) {
                        warn!(%error, unsaid, "cannot accept a connection, will try again");
                    }
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = half_open.come(address.ip(), Instant::now().into_std()) else { continue };
            let serving = self.clone().serve_one(stream, place, throttle.clone());
            tokio::spawn(serving.instrument(info_span!("lan", %address)));
        }
    }

    /// Serves whoever has come, to the end of the connection.
    async fn serve_one(self, stream: TcpStream, place: Place, throttle: Arc<Mutex<Throttle>>) {
        let evicted = place.evicted();
        let welcomed = tokio::select! {
            biased;
            () = evicted.notified() => Err(LanError::Crowded),
            welcomed = self.welcome_in_time(stream, place) => welcomed,
        };
        match welcomed {
            Ok(Welcomed::Operator(mut frames, hello)) => self.attend(&mut frames, hello).await,
            Ok(Welcomed::Worker(session)) => self.serve_worker(session).await,
            Err(error) => {
                let error = error.explained(&self.security);
                error.refused().into_iter().for_each(|refused| self.refusals.count(refused));
                let passed = throttle.lock().unwrap_or_else(PoisonError::into_inner).pass(Instant::now());
                if let Some(unsaid) = passed {
                    debug!(?error, "the connection in the system's words");
                    warn!(error = %with_causes(&error), unsaid, "a connection was not let in");
                }
            }
        }
    }

    async fn serve_worker(&self, session: WorkerSession) {
        let worker = session.worker;
        info!(worker = worker.0, "a worker is connected");
        let heard = session.frames.get_ref().heard.clone();
        self.presence.send_modify(|presence| presence.come(worker));
        let error = self.host(session).await;
        self.presence.send_modify(|presence| presence.go(worker, heard.last(), error.to_string()));
        debug!(?error, "the connection in the system's words");
        match error.refused() {
            Some(refused) => {
                self.refusals.count(refused);
                warn!(worker = worker.0, %error, "a worker's connection ended");
            }
            None => info!(worker = worker.0, %error, "a worker's connection ended"),
        }
    }

    async fn welcome_in_time(&self, stream: TcpStream, place: Place) -> Result<Welcomed, LanError> {
        let spoken = timeout(FIRST_WORD, stream.peek(&mut [0])).await;
        let _ = spoken.map_err(|_| LanError::Silent)?;
        place.reach(Stage::Speaking);
        timeout(HANDSHAKE, self.welcome(stream, place)).await.map_err(|_| LanError::Silent).flatten()
    }

    async fn welcome(&self, stream: TcpStream, place: Place) -> Result<Welcomed, LanError> {
        // Frames are small and waited for.
        stream.set_nodelay(true)?;
        let identity = match (&self.security, &self.operators) {
            (Security::Mutual(identity), _) => Some(identity),
            // An operator shows who it is also where workers need not.
            (Security::Plaintext, Some(operators)) if speaks_tls(&stream).await? => Some(&operators.identity),
            (Security::Plaintext, _) => None,
        };
        let (stream, name) = match identity {
            Some(identity) => {
                let (stream, name) = handshake::accept(identity, stream).await?;
                place.reach(Stage::Proven);
                (Way::Accepted(Box::new(stream)), Some(name))
            }
            None => (Way::Plain(stream), None),
        };
        let mut frames = framed(stream);
        match self.greet(&mut frames, name.as_ref(), place).await {
            Ok(Greeted::Operator(hello)) => Ok(Welcomed::Operator(frames, hello)),
            Ok(Greeted::Worker(worker, registration, answers, refusal)) => {
                frames.codec_mut().set_max_frame_length(self.shapes.max_frame_bytes());
                Ok(Welcomed::Worker(WorkerSession { worker, registration, frames, answers, refusal }))
            }
            Err(error) => {
                dismiss_for(&mut frames, &error).await;
                Err(error)
            }
        }
    }

    async fn greet(
        &self,
        frames: &mut Frames,
        name: Option<&PeerName>,
        place: Place,
    ) -> Result<Greeted, LanError> {
        let refused = |(cause, reason)| LanError::Refused { cause, reason, by_us: true };
        let tls = || refused(("plaintext", "you speak TLS, and we do not".to_owned()));
        if frames.get_ref().tls_in_plaintext().await?.is_some() {
            return Err(tls());
        }
        let hello = match ToServer::decode(next(frames).await?, &self.shapes)? {
            ToServer::Hello(hello) => hello,
            ToServer::Operator(hello) => {
                self.check_operator(&hello, name).map_err(refused)?;
                return Ok(Greeted::Operator(hello));
            }
            ToServer::Join(_)
            | ToServer::Request(..)
            | ToServer::Flush { .. }
            | ToServer::Refused { .. }
            | ToServer::Alive
            | ToServer::Confirm => {
                return Err(LanError::OutOfTurn("a hello comes first"));
            }
        };
        if matches!(self.security, Security::Plaintext) && name.is_some() {
            return Err(tls());
        }
        self.check(&hello, name).map_err(refused)?;
        frames.get_ref().check_index(hello.worker.0)?;
        let registration = self.incarnations.admit(hello.worker, hello.incarnation, Instant::now());
        let registration = registration.map_err(|()| LanError::superseded(hello.worker))?;
        // It is no stranger, and may have to wait for long.
        drop(place);
        let (replies, answers) = mpsc::channel(self.shapes.0.len());
        let (refusal, (answer, standings)) = (Refusal::default(), oneshot::channel());
        let attach = Call::Attach {
            worker: hello.worker,
            is_new: registration.is_new,
            replies,
            refusal: refusal.clone(),
            answer,
        };
        self.calls.send(attach).await.map_err(|_| LanError::Stopping)?;
        let mut notice = self.notice.clone();
        let standings: Vec<Standing> = tokio::select! {
            biased;
            Ok(_) = notice.wait_for(|notice| matches!(notice, Notice::Departing | Notice::Expelled)) => {
                let reason = format!("region {} has left this job for good", self.terms.datacenter);
                return Err(refused((DEPARTED, reason)));
            }
            standings = standings => standings.map_err(|_| LanError::Stopping)?,
        };
        let (server, incarnation) = (self.server, self.incarnation);
        let welcome = Welcome { version: VERSION, server, incarnation, standings };
        frames.send(ToWorker::Welcome(welcome).encode()).await?;
        Ok(Greeted::Worker(hello.worker, registration, answers, refusal))
    }

    fn check(&self, hello: &WorkerHello, name: Option<&PeerName>) -> Result<(), (&'static str, String)> {
        let ours = &self.terms.datacenter;
        if hello.version != VERSION {
            let found = hello.version;
            return Err(("version", format!("you speak protocol version {found}, we speak {VERSION}")));
        }
        if let Some(name) = name {
            if name.role() != Role::Worker {
                let role = name.role().as_str();
                let reason = format!("your certificate {name} is for the role '{role}', 'worker' is needed");
                return Err(("role", reason));
            }
            if name.datacenter() != ours {
                return Err(("name", format!("your certificate is that of {name}, this is {ours}")));
            }
        }
        if hello.datacenter != *ours {
            return Err((
                "name",
                format!("you look for datacenter '{}', this is '{ours}'", hello.datacenter),
            ));
        }
        if hello.job_digest != self.terms.job_digest {
            return Err(self.other_job(&hello.job_digest));
        }
        if hello.worker.0 >= self.workers {
            let (worker, workers) = (hello.worker, self.workers);
            return Err(("unknown_worker", format!("you are {worker}, of {workers} counted from 0")));
        }
        Ok(())
    }

    /// Whoever shows no operator's certificate of this datacenter has nothing to say in its name.
    fn check_operator(
        &self,
        hello: &OperatorHello,
        name: Option<&PeerName>,
    ) -> Result<(), (&'static str, String)> {
        let ours = &self.terms.datacenter;
        if hello.version != VERSION {
            let found = hello.version;
            return Err(("version", format!("you speak protocol version {found}, we speak {VERSION}")));
        }
        let Some(name) = name else {
            return Err(("no_certificate", "an operator's certificate is needed".to_owned()));
        };
        if name.role() != Role::Operator {
            let role = name.role().as_str();
            let reason = format!("your certificate {name} is for the role '{role}', 'operator' is needed");
            return Err(("role", reason));
        }
        if name.datacenter() != ours {
            return Err(("name", format!("your certificate is that of {name}, this is {ours}")));
        }
        if hello.datacenter != *ours {
            let reason = format!("you look for datacenter '{}', this is '{ours}'", hello.datacenter);
            return Err(("name", reason));
        }
        if self.operators.is_none() {
            return Err(("role", "operators are not let in here".to_owned()));
        }
        if hello.job_digest.is_empty() {
            return Err((
                "job",
                "your program does not say which job it means; use one of our version".to_owned(),
            ));
        }
        if !hello.means(&self.terms.job_digest) {
            return Err(self.other_job(&hello.job_digest));
        }
        Ok(())
    }

    fn other_job(&self, theirs: &[u8]) -> (&'static str, String) {
        let hex = |digest: &[u8]| digest.iter().take(8).map(|b| format!("{b:02x}")).collect::<String>();
        let (theirs, ours) = (hex(theirs), hex(&self.terms.job_digest));
        ("job", format!("your job digest is {theirs}, ours is {ours}"))
    }

    /// Does what an operator wants.
    async fn attend(&self, frames: &mut Frames, hello: OperatorHello) {
        let OperatorHello { leaving, .. } = hello;
        info!(leaving, "an operator asks whether a datacenter can leave for good");
        if let Err(error) = self.obey(frames, &leaving).await {
            dismiss_for(frames, &error).await;
            warn!(error = %with_causes(&error), "an operator's connection ended");
        }
    }

    async fn obey(&self, frames: &mut Frames, leaving: &str) -> Result<(), LanError> {
        let Some(operators) = &self.operators else { return Ok(()) };
        for is_confirmed in [false, true] {
            if is_confirmed {
                // It asks all servers before it confirms to any.
                let confirmed = timeout(2 * HANDSHAKE, next(frames)).await.map_err(|_| LanError::Silent)?;
                if ToServer::decode(confirmed?, &self.shapes)? != ToServer::Confirm {
                    return Err(LanError::OutOfTurn("a confirmation comes next"));
                }
            }
            let (answer, answered) = oneshot::channel();
            let order = Order { leaving: leaving.to_owned(), is_confirmed, answer };
            operators.orders.send(order).await.map_err(|_| LanError::Stopping)?;
            let answered = answered.await.map_err(|_| LanError::Stopping)?;
            let (problem, is_known) = match answered {
                Ok(is_known) => (String::new(), is_known),
                Err(problem) => (problem, false),
            };
            let is_over = !problem.is_empty();
            frames.send(ToWorker::Answer { problem, is_known }.encode()).await?;
            if is_over {
                break;
            }
        }
        // Whoever asked hangs up.
        let _ = timeout(HANDSHAKE, next(frames)).await;
        Ok(())
    }

    /// Serves a worker until its connection ends.
    pub(super) async fn host(&self, session: WorkerSession) -> LanError {
        let WorkerSession { worker, registration, mut frames, answers, refusal } = session;
        let (peer, heard) = (frames.get_ref().peer(), frames.get_ref().heard.clone());
        let (sink, stream) = (&mut frames).split();
        let (out, queue) = mpsc::channel::<ToWorker>(OUT_QUEUE);
        let ended = tokio::select! {
            ended = self.tell(sink, answers, queue) => ended,
            ended = self.hear(worker, stream, &heard, out) => ended,
            error = self.security.revoked(peer) => Err(error),
        };
        let error = match ended {
            Err(LanError::Replaced) if registration.is_over() => LanError::superseded(worker),
            Err(LanError::Replaced) => match refusal.reason() {
                Some(reason) => {
                    LanError::Refused { cause: SENSELESS, reason: reason.to_owned(), by_us: true }
                }
                None => LanError::Replaced,
            },
            Err(error) => error,
            Ok(never) => match never {},
        };
        dismiss_for(&mut frames, &error).await;
        error
    }

    async fn tell(
        &self,
        mut sink: SplitSink<&mut Frames, Frame>,
        mut answers: mpsc::Receiver<ReadReply>,
        mut queue: mpsc::Receiver<ToWorker>,
    ) -> Result<Infallible, LanError> {
        let mut notice = self.notice.clone();
        notice.mark_changed();
        loop {
            let message = tokio::select! {
                reply = answers.recv() => {
                    for part in ToWorker::of_reply(reply.ok_or(LanError::Replaced)?) {
                        sink.send(part.encode()).await?;
                    }
                    continue;
                }
                Some(message) = queue.recv() => message,
                Ok(()) = notice.changed() => match notice.borrow_and_update().clone() {
                    Notice::Serving => continue,
                    told => ToWorker::Notice(told),
                },
                () = sleep(HEARTBEAT) => ToWorker::Alive,
            };
            sink.send(message.encode()).await?;
        }
    }

    async fn hear(
        &self,
        worker: WorkerId,
        mut stream: SplitStream<&mut Frames>,
        heard: &Heard,
        out: mpsc::Sender<ToWorker>,
    ) -> Result<Infallible, LanError> {
        let mut arriving = Arriving::new(&self.shapes);
        let (flush_bytes, mut arrived_bytes) = (crate::metrics::flush_bytes(self.server), 0);
        loop {
            let frame = tokio::select! {
                // First, as what has come while the shards were busy was not read.
                biased;
                frame = next(&mut stream) => frame?,
                () = heard.silence() => return Err(LanError::Gone),
            };
            let room = tokio::select! {
                room = arriving.room_for(&frame) => room,
                // What waits is its own, and what is missing of it never comes.
                () = heard.silence() => return Err(LanError::Gone),
            };
            let bytes = frame.len();
            let message = ToServer::decode_holding(frame, &self.shapes, Some(room))?;
            if let ToServer::Flush { is_last, .. } = message {
                arrived_bytes += bytes;
                if is_last {
                    flush_bytes.record(std::mem::take(&mut arrived_bytes) as f64);
                }
            }
            if let Some(answer) = self.take(worker, message, &mut arriving).await? {
                out.send(answer).await.map_err(|_| LanError::Closed)?;
            }
        }
    }

    /// Takes a worker's message; yields what to tell it.
    async fn take(
        &self,
        worker: WorkerId,
        message: ToServer,
        arriving: &mut Arriving,
    ) -> Result<Option<ToWorker>, LanError> {
        let (shard, request) = match message {
            ToServer::Operator(_) | ToServer::Confirm => {
                return Err(LanError::OutOfTurn("a worker is no operator"));
            }
            ToServer::Hello(_) => return Err(LanError::OutOfTurn("the hello is over")),
            ToServer::Refused { cause, reason } => return Err(LanError::by_them(&cause, reason)),
            ToServer::Alive => return Ok(None),
            ToServer::Join(clock) => {
                let (answer, joined) = oneshot::channel();
                let join = Call::Join { worker, clock, answer };
                self.calls.send(join).await.map_err(|_| LanError::Stopping)?;
                let joined = joined.await.map_err(|_| LanError::Stopping)?;
                debug!(?joined, "joined");
                return Ok(Some(ToWorker::Joined(joined)));
            }
            ToServer::Flush { shard, clock, deltas, is_last } => {
                arriving.add(shard, Flush { worker, clock, deltas })?;
                match arriving.flush.take_if(|_| is_last) {
                    Some((shard, flush)) => (shard, Request::Flush(flush)),
                    None => return Ok(None),
                }
            }
            ToServer::Request(shard, request) => (shard, request),
        };
        if request.worker() != worker {
            return Err(LanError::OutOfTurn("a worker speaks for itself alone"));
        }
        let accepted = match &request {
            Request::Flush(flush) => Some(ToWorker::Accepted(shard, flush.clock)),
            Request::Leave(_) => Some(ToWorker::Accepted(shard, LEFT)),
            Request::Read(_) => None,
        };
        self.requests.send((shard, request)).await.map_err(|_| LanError::Stopping)?;
        Ok(accepted)
    }
}

/// What a worker has said of a flush that is not complete, and how much may wait for the shards of
/// what it has said before.
struct Arriving {
    flush: Option<(ShardId, Flush)>,
    /// What it has so far, of values.
    bytes: usize,
    /// No flush has more.
    most: usize,
    /// In KiB.
    room: Arc<Semaphore>,
    all_room: u32,
}

/// What may wait beside the largest flush that there is.
const ROOM: usize = 16 << 20;

impl Arriving {
    fn new(shapes: &Shapes) -> Self {
        let most = shapes.max_values_bytes();
        let frames = most.saturating_add(shapes.max_frame_bytes());
        let all_room = u32::try_from(frames.saturating_add(ROOM) / 1024).unwrap_or(u32::MAX);
        let room = Arc::new(Semaphore::new((all_room as usize).min(Semaphore::MAX_PERMITS)));
        Self { flush: None, bytes: 0, most, room, all_room }
    }

    /// Room for what is in `frame`, once there is.
    async fn room_for(&self, frame: &[u8]) -> Guard {
        let wanted = u32::try_from(frame.len().div_ceil(1024)).unwrap_or(u32::MAX).min(self.all_room);
        match Arc::clone(&self.room).acquire_many_owned(wanted).await {
            Ok(permit) => Box::new(permit),
            Err(closed) => Box::new(closed),
        }
    }

    /// One more part.
    fn add(&mut self, shard: ShardId, part: Flush) -> Result<(), LanError> {
        let bytes = part.value_bytes();
        match &mut self.flush {
            None => {
                self.flush = Some((shard, part));
                self.bytes = bytes;
            }
            Some((of, flush)) if *of == shard && flush.clock == part.clock => {
                flush.deltas.extend(part.deltas);
                self.bytes += bytes;
            }
            Some(_) => return Err(LanError::OutOfTurn("a flush comes in one go")),
        }
        match self.bytes <= self.most {
            true => Ok(()),
            false => Err(LanError::OutOfTurn("a flush has each row once")),
        }
    }
}

/// Tells a worker why it is refused, if it is, and hangs up.
async fn dismiss_for(frames: &mut Frames, error: &LanError) {
    if let Some((cause, reason)) = error.told() {
        dismiss(frames, ToWorker::Refused { cause, reason }.encode()).await;
    }
}

/// What an operator wants of a server.
#[derive(Debug)]
pub struct Order {
    /// The datacenter that is to leave the job for good.
    pub leaving: String,
    /// Whether it is to be done, and not only asked whether it can.
    pub is_confirmed: bool,
    /// Where to tell whether it was done before, or why it cannot be.
    pub answer: oneshot::Sender<Result<bool, String>>,
}

/// By what operators are let in, and where their orders go.
#[derive(Clone, Debug)]
pub struct Operators {
    /// What the server shows them.
    pub identity: Identity,
    /// What they want.
    pub orders: mpsc::Sender<Order>,
}

/// Who comes.
enum Greeted {
    Worker(WorkerId, Registration, mpsc::Receiver<ReadReply>, Refusal),
    Operator(OperatorHello),
}

/// Who was let in.
enum Welcomed {
    Worker(WorkerSession),
    Operator(Frames, OperatorHello),
}

/// Whether whoever has come speaks TLS.
async fn speaks_tls(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0; 3];
    let length = stream.peek(&mut first).await?;
    Ok(identity::Refused::in_plaintext(&first[..length]).is_some())
}

/// A worker that was let in.
pub(super) struct WorkerSession {
    pub(super) worker: WorkerId,
    pub(super) registration: Registration,
    pub(super) frames: Frames,
    pub(super) answers: mpsc::Receiver<ReadReply>,
    pub(super) refusal: Refusal,
}
