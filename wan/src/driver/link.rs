//! An established link: one connection to a peer or two, and the tasks that serve them.
//!
//! Control frames go over the control connection, and so do updates of a few packets, each in the packet of the statement that
//! comes with it. Bulk goes over several unidirectional streams of the [data connection](DataConnection): whichever stream is
//! free takes the next, so that a lost packet delays only its own stream. The link ends when either connection does, or
//! when the peer breaks the protocol; then both connections are closed.
//!
//! Kind: driver.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use datacenter::identity::Certificate;
use datacenter::refusals::Refused;
use quinn::{Connection, SendStream, VarInt};
use thiserror::Error;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::driver::frames::{self, FrameError};
use crate::driver::hello::{LEFT, Refusal};
use crate::driver::peers::ConnectError;
use crate::driver::queue::EventSender;
use crate::driver::server::Event;
use crate::inbox::PeerError;
use crate::message::ServerId;
use crate::node::Greeting;
use crate::outbox::UPDATE_TARGET_BYTES;
use crate::transport::{
    ControlError, ControlReceiver, ControlSender, Endpoint, Farewell, lost, not_written, peer_certificate,
    peer_name,
};
use crate::wire::{self, Shapes};

mod data;
mod traffic;

pub(super) use self::data::Awaited;
pub use self::data::DataConnection;
pub use self::traffic::{Crossed, LinkTraffic};

/// Control messages that may wait for the control connection; what does not fit stays in the node, where newer
/// statements replace older ones.
const CONTROL_QUEUE: usize = 16;

/// The application's codes in QUIC close frames.
pub mod close_code {
    use quinn::VarInt;

    use crate::driver::hello::LEFT;
    use crate::transport::said;

    /// What quinn says for a connection of which the last handle is dropped: somebody has given it up half made. It means nothing for
    /// a link.
    pub const DROPPED: VarInt = VarInt::from_u32(0);
    /// The receiver's hello or certificate is not acceptable, for a reason that has no code of its own.
    pub const REFUSED: VarInt = VarInt::from_u32(1);
    /// The receiver broke the protocol.
    pub const PROTOCOL: VarInt = VarInt::from_u32(2);
    /// The other connection of the link broke, or a newer link replaces it.
    pub const REPLACED: VarInt = VarInt::from_u32(3);

    /// The sender is done or restarting, and has shipped all it had.
    pub const LEAVING: VarInt = VarInt::from_u32(5);
    /// The sender's datacenter leaves the job for good, and has shipped all it had.
    pub const DEPARTED: VarInt = VarInt::from_u32(4);

    /// Codes of refusals, and how metrics name their causes.
    pub const CAUSES: [(VarInt, &str); 8] = [
        (VarInt::from_u32(16), "version"),
        (VarInt::from_u32(17), "job"),
        (VarInt::from_u32(18), "unknown_datacenter"),
        (VarInt::from_u32(19), "own_name"),
        (VarInt::from_u32(20), "role"),
        (VarInt::from_u32(21), "name"),
        (VarInt::from_u32(22), "revoked"),
        (VarInt::from_u32(23), LEFT),
    ];

    /// The code of a refusal with this cause.
    pub fn of_cause(cause: &str) -> VarInt {
        CAUSES.iter().find(|(_, name)| *name == cause).map_or(REFUSED, |(code, _)| *code)
    }

    /// The cause of a refusal with this code; none where a connection ends as any may.
    pub fn cause_of(code: VarInt) -> Option<&'static str> {
        if [REFUSED, PROTOCOL].contains(&code) {
            return Some("protocol");
        }
        CAUSES.iter().find(|(known, _)| *known == code).map(|(_, name)| *name)
    }

    /// Why the other side refused us, and in which words, if that is how a connection ended.
    pub fn refusal(error: &quinn::ConnectionError) -> Option<(&'static str, String)> {
        let quinn::ConnectionError::ApplicationClosed(close) = error else { return None };
        Some((cause_of(close.error_code)?, said(&close.reason)))
    }
}

/// Opens the data connection of a link.
pub type OpenData = Pin<Box<dyn Future<Output = Result<Connection, ConnectError>> + Send>>;

/// A link whose hellos are done.
pub struct Link {
    /// The peer.
    pub peer: ServerId,
    /// For control messages and small updates.
    pub control: Connection,
    /// For bulk.
    pub data: DataConnection,
    /// How to open it, if that is for us to do.
    pub open_data: Option<OpenData>,
    /// How many streams bulk is striped over.
    pub bulk_streams: usize,
    /// Updates that come together and are no larger than this go beside control.
    pub small_bytes: usize,
    /// What the peer says of itself.
    pub greeting: Greeting,
    /// Tells this link from earlier ones to the same peer.
    pub session: u64,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("peer", &self.peer)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// How the node's task sends over a link.
#[derive(Debug)]
pub struct LinkHandle {
    /// Tells this link from earlier ones to the same peer.
    pub session: u64,
    /// Encoded control messages.
    pub control: mpsc::Sender<Bytes>,
    /// Encoded updates. No bound of its own is needed: the node's window bounds what it hands out.
    pub updates: mpsc::UnboundedSender<UpdateFrame>,
    /// Ends the link, and tells the peer what it did wrong. Dropping it ends the link as well.
    pub refuse: oneshot::Sender<PeerError>,
    /// What has crossed the links of this process.
    pub traffic: LinkTraffic,
}

/// An update on its way to the link.
#[derive(Clone, Debug)]
pub struct UpdateFrame {
    /// The update, encoded.
    pub frame: Bytes,
    /// How much of it is payload.
    pub payload_bytes: u64,
}

/// How a peer's process went of its own will, having shipped all it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goodbye {
    /// It has stopped, and may come back.
    Stopped,
    /// Its datacenter leaves the job.
    ForGood,
}

impl Goodbye {
    const ALL: [Self; 2] = [Self::Stopped, Self::ForGood];

    /// How it is said over QUIC.
    pub fn farewell(self) -> Farewell {
        match self {
            Self::Stopped => (close_code::LEAVING, "leaving"),
            Self::ForGood => (close_code::DEPARTED, "leaving for good"),
        }
    }
}

/// Why a link ended.
#[derive(Debug, Error)]
pub enum LinkError {
    /// A connection is gone.
    #[error("the connection ended: {}", lost(_0))]
    Connection(quinn::ConnectionError),
    /// The data connection could not be opened.
    #[error("no connection for bulk: {0}")]
    Data(#[source] Box<ConnectError>),
    /// A stream broke or carried nonsense.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A stream could not be written.
    #[error("a stream could not be written: {}", not_written(_0))]
    Write(quinn::WriteError),
    /// The control channel failed.
    #[error("the control channel failed: {0}")]
    Control(#[from] ControlError),
    /// A frame does not decode.
    #[error("the peer sent a frame that does not decode: {0}")]
    Wire(#[from] datacenter::wire::WireError),
    /// The peer's messages contradict each other, or the job.
    #[error("the peer broke the protocol: {0}")]
    Refused(#[from] PeerError),
    /// The peer's process has stopped of its own will.
    #[error("it has left")]
    Left,
    /// The same, and its datacenter does not come back.
    #[error("its region has left this job for good")]
    Departed,
    /// This process closes its endpoint.
    #[error("this process is stopping")]
    Stopping,
    /// The peer's certificate has been revoked meanwhile.
    #[error("we refused it: its certificate {0} has been revoked")]
    Revoked(Box<Certificate>),
    /// The peer has refused us, although it had let us in.
    #[error("the peer refused us: \"{reason}\"")]
    ByPeer {
        /// As metrics name it.
        cause: &'static str,
        /// In the peer's words.
        reason: String,
    },
    /// The node's task is gone, or wants no more of this link.
    #[error("the link is no longer wanted")]
    Unwanted,
}

impl From<quinn::ConnectionError> for LinkError {
    fn from(error: quinn::ConnectionError) -> Self {
        Self::Connection(error)
    }
}

impl From<quinn::WriteError> for LinkError {
    fn from(error: quinn::WriteError) -> Self {
        Self::Write(error)
    }
}

impl LinkError {
    /// Whether the peer is to blame.
    fn is_protocol(&self) -> bool {
        if let Self::Refused(error) = self {
            return !error.is_routine();
        }
        matches!(
            self,
            Self::Wire(_)
                | Self::Frame(FrameError::Wire(_) | FrameError::Truncated)
                | Self::Control(ControlError::Malformed | ControlError::TooLarge { .. })
        )
    }

    /// If one side refused the other: why, and who.
    pub(super) fn refused(&self) -> Option<Refused> {
        match self {
            Self::ByPeer { cause, .. } => Some(Refused { cause, by_us: false }),
            Self::Refused(PeerError::Departed(_)) => Some(Refused { cause: LEFT, by_us: true }),
            Self::Revoked(_) => Some(Refused { cause: "revoked", by_us: true }),
            Self::Data(error) => error.refused(),
            error => error.is_protocol().then_some(Refused { cause: "protocol", by_us: true }),
        }
    }

    /// What to tell the peer.
    fn told(&self) -> (VarInt, String) {
        match self {
            Self::Revoked(certificate) => {
                (close_code::of_cause("revoked"), format!("its certificate {certificate} has been revoked"))
            }
            error if error.is_protocol() => (close_code::PROTOCOL, error.to_string()),
            Self::Refused(error) => (close_code::REPLACED, error.to_string()),
            _ => (close_code::REPLACED, "the link is down".into()),
        }
    }
}

impl Link {
    /// Runs the link, one of `endpoint`, until it breaks, or our revocation lists name the peer's
    /// certificate; tells the node's task when it is up and when it is down. Until the node has
    /// taken the link, which `on_taken` hears, nothing is noted of the peer: it may be none of
    /// ours.
    pub async fn run(
        mut self,
        endpoint: &Endpoint,
        shapes: Arc<Shapes>,
        events: EventSender,
        traffic: &LinkTraffic,
        on_taken: impl FnOnce(),
    ) -> LinkError {
        let (peer, session) = (self.peer, self.session);
        let (control, data) = (self.control.clone(), self.data.clone());
        let (handle, queues) = LinkHandle::new(session, traffic.clone());
        let (taken, is_taken) = oneshot::channel();
        let greeting = std::mem::take(&mut self.greeting);
        let up = Event::Up { peer, handle: Box::new(handle), greeting, rtt: control.rtt(), taken };
        if events.send(up).await.is_err() {
            return LinkError::Unwanted;
        }

        let written = Written::default();
        let (may_receive, is_expected) = watch::channel(false);
        let noting = async {
            if is_taken.await.is_ok() {
                may_receive.send_replace(true);
                traffic.begin(peer, [(&control, written.small.clone())]);
                on_taken();
                traffic.begin(peer, [(&data.there().await, written.bulk.clone())]);
            }
            std::future::pending::<LinkError>().await
        };
        let source = Source { peer, session, shapes, events: events.clone(), is_expected };
        let mut tasks = self.spawn(queues, source, &written);
        let error = tokio::select! {
            biased;
            never = noting => never,
            ended = tasks.join_next() => match ended {
                Some(Ok(Err(error))) => error,
                // The tasks end only with an error, and nobody else aborts them.
                _ => LinkError::Unwanted,
            },
            revoked = revoked(endpoint, &control, &data) => LinkError::Revoked(Box::new(revoked)),
        };
        let connections: Vec<_> = std::iter::once(control.clone()).chain(data.get()).collect();
        let (error, goodbye) = explained(error, &connections, endpoint).await;
        let (code, reason) = last_words(&error, &control, endpoint);
        // Before the tasks end, and with them their streams, so that the peer hears the reason
        // first.
        connections.iter().for_each(|connection| close(connection, code, &reason));
        tasks.shutdown().await;
        let _ = events.send(Event::Down { peer, session, goodbye }).await;
        error
    }

    /// Starts the tasks that serve the link, each of which ends only with an error.
    fn spawn(self, queues: Queues, source: Source, written: &Written) -> JoinSet<Result<(), LinkError>> {
        let Self { peer, control, data, open_data, bulk_streams, small_bytes, .. } = self;
        let Queues { control: control_queue, updates, refused } = queues;
        let mut tasks = JoinSet::new();
        tasks.spawn(async { Err(refused.await.map_or(LinkError::Unwanted, LinkError::Refused)) });
        let asks = open_data.is_none().then(|| data.clone());
        let (is_open, after_control) = oneshot::channel();
        let (connection, on_data, writable) = (control.clone(), data.watch(), source.events.clone());
        tasks.spawn(async move {
            // The first of the connection's streams: by that the peer knows it.
            let stream = connection.open_uni().await?;
            let _ = is_open.send(());
            let sender = ControlSender::new(connection, stream, on_data);
            send_control(sender, asks, control_queue, peer, writable).await
        });
        tasks.spawn(receive_control(control.clone(), data.clone(), source.clone()));
        let (batches, bulk_queue) = mpsc::channel(1);
        let lanes = Lanes { control, data: data.clone(), batches, small_bytes };
        let small = written.small.clone();
        tasks.spawn(async {
            match after_control.await {
                Ok(()) => send_updates(lanes, updates, small).await,
                // What went wrong is told by who was to open it.
                Err(_) => std::future::pending().await,
            }
        });
        let queue = Arc::new(Mutex::new(bulk_queue));
        let bulk = Bulk { queue, streams: bulk_streams, written: written.bulk.clone() };
        tasks.spawn(bulk.run(data, open_data, source));
        tasks
    }
}

impl LinkHandle {
    /// A handle, and what is put into it.
    fn new(session: u64, traffic: LinkTraffic) -> (Self, Queues) {
        let (control, control_queue) = mpsc::channel(CONTROL_QUEUE);
        let (updates, update_queue) = mpsc::unbounded_channel();
        let (refuse, refused) = oneshot::channel();
        let queues = Queues { control: control_queue, updates: update_queue, refused };
        (Self { session, control, updates, refuse, traffic }, queues)
    }
}

/// What the node's task has for a link.
struct Queues {
    control: mpsc::Receiver<Bytes>,
    updates: mpsc::UnboundedReceiver<UpdateFrame>,
    refused: oneshot::Receiver<PeerError>,
}

/// Payload bytes of updates that were written to a link.
#[derive(Default)]
struct Written {
    /// Beside control.
    small: Arc<AtomicU64>,
    /// Over the data connection.
    bulk: Arc<AtomicU64>,
}

/// Waits until a certificate of the peer is revoked. It may have been renewed between the two
/// connections.
async fn revoked(endpoint: &Endpoint, control: &Connection, data: &DataConnection) -> Certificate {
    let of = |connection: &Connection| peer_certificate(connection).into_iter().collect::<Vec<_>>();
    let (of_control, of_data) = (of(control), async { of(&data.there().await) });
    tokio::select! {
        biased;
        revoked = endpoint.identity().revoked(&of_control) => revoked,
        revoked = async { endpoint.identity().revoked(&of_data.await).await } => revoked,
    }
}

/// Why a link ended, of which a task ended with `error`: what the peer has said of it comes first.
/// With what it said if it has stopped of its own will.
async fn explained(
    error: LinkError,
    connections: &[Connection],
    endpoint: &Endpoint,
) -> (LinkError, Option<Goodbye>) {
    let is_cut_short = matches!(error, LinkError::Frame(FrameError::Truncated));
    let by_peer = refusal(connections, is_cut_short).await;
    let goodbye = connections.iter().find_map(goodbye);
    let is_closed = |connection: &Connection| {
        matches!(connection.close_reason(), Some(quinn::ConnectionError::LocallyClosed))
    };
    let error = match by_peer {
        _ if goodbye == Some(Goodbye::Stopped) => LinkError::Left,
        _ if goodbye == Some(Goodbye::ForGood) => LinkError::Departed,
        Some((cause, reason)) => LinkError::ByPeer { cause, reason },
        None if endpoint.farewell().is_some() && connections.iter().any(is_closed) => LinkError::Stopping,
        None => error,
    };
    (error, goodbye)
}

/// What the peer is told when a link ends.
fn last_words(error: &LinkError, control: &Connection, endpoint: &Endpoint) -> (VarInt, String) {
    match (error, peer_name(control)) {
        (LinkError::Refused(PeerError::Departed(_)), Ok(certified)) => {
            let refusal = Refusal::Left { name: certified.datacenter().to_owned() };
            (close_code::of_cause(LEFT), refusal.to_string())
        }
        // The endpoint closes one connection after the other: whichever is left says the same.
        (LinkError::Stopping, _) => {
            let (code, reason) = endpoint.farewell().unwrap_or(Goodbye::Stopped.farewell());
            (code, reason.to_owned())
        }
        _ => error.told(),
    }
}

/// What the peer said when it closed a connection since it is leaving.
fn goodbye(connection: &Connection) -> Option<Goodbye> {
    let Some(quinn::ConnectionError::ApplicationClosed(close)) = connection.close_reason() else {
        return None;
    };
    Goodbye::ALL.into_iter().find(|goodbye| goodbye.farewell().0 == close.error_code)
}

/// Why, and in which words, the peer refuses us, if that is how one of these connections ended. A peer that closes a
/// connection ends its streams as well, and what arrives first is a matter of luck: so where a stream was cut short,
/// this waits a little for more.
pub(super) async fn refusal(
    connections: &[Connection],
    is_cut_short: bool,
) -> Option<(&'static str, String)> {
    if is_cut_short {
        let mut closed = JoinSet::new();
        for connection in connections {
            let connection = connection.clone();
            closed.spawn(async move { connection.closed().await });
        }
        let _ = timeout(LAST_WORD, closed.join_next()).await;
    }
    connections.iter().filter_map(Connection::close_reason).find_map(|lost| close_code::refusal(&lost))
}

/// Closes with a reason that fits into one packet.
pub fn close(connection: &Connection, code: VarInt, reason: &str) {
    let end = (0..=reason.len().min(512)).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
    connection.close(code, &reason.as_bytes()[..end]);
}

/// Sends what is queued, and asks for the connection that is wanted, where that is for the peer to open.
async fn send_control(
    sender: ControlSender,
    mut asks: Option<DataConnection>,
    mut queue: mpsc::Receiver<Bytes>,
    peer: ServerId,
    events: EventSender,
) -> Result<(), LinkError> {
    loop {
        let wanted = async {
            match &asks {
                Some(data) => data.wanted().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            message = queue.recv() => sender.send(message.ok_or(LinkError::Unwanted)?).await?,
            () = wanted => {
                asks = None;
                sender.send(wire::encode_wants_data()).await?;
                continue;
            }
        }
        if queue.is_empty() {
            // The node may have kept statements back while the queue was full.
            events.send(Event::Writable { peer }).await.map_err(|_| LinkError::Unwanted)?;
        }
    }
}

/// Whether a connection has lost more than one packet in two thousand: below that a hole is rare enough not to matter.
fn is_lossy(connection: &Connection) -> bool {
    let path = connection.stats().path;
    path.lost_packets.saturating_mul(2000) > path.sent_packets
}

/// Where messages come from, and where they go.
#[derive(Clone)]
struct Source {
    peer: ServerId,
    session: u64,
    shapes: Arc<Shapes>,
    events: EventSender,
    /// Whether the node knows of the link: it hears of updates by another way.
    is_expected: watch::Receiver<bool>,
}

async fn receive_control(
    connection: Connection,
    data: DataConnection,
    source: Source,
) -> Result<(), LinkError> {
    let stream = connection.accept_uni().await?;
    let mut receiver = ControlReceiver::new(connection.clone(), stream);
    let updates = receive_updates(connection.clone(), source.clone());
    let Source { peer, session, shapes, events, .. } = source;
    let hearing = async {
        while let Some(message) = receiver.recv().await? {
            let control = wire::decode_control(message, &shapes)?;
            if control.wants_data {
                data.want();
            }
            let is_lossy = is_lossy(&data.get().unwrap_or_else(|| connection.clone()));
            let event =
                Event::Control { peer, session, controls: control.shards, rtt: connection.rtt(), is_lossy };
            events.send(event).await.map_err(|_| LinkError::Unwanted)?;
        }
        Err::<(), LinkError>(FrameError::Truncated.into())
    };
    tokio::try_join!(hearing, updates).map(|_| ())
}

/// Where updates may go.
struct Lanes {
    control: Connection,
    data: DataConnection,
    batches: mpsc::Sender<Vec<UpdateFrame>>,
    small_bytes: usize,
}

/// Sends updates as they come: a few packets beside control, more as bulk.
async fn send_updates(
    lanes: Lanes,
    mut queue: mpsc::UnboundedReceiver<UpdateFrame>,
    written: Arc<AtomicU64>,
) -> Result<(), LinkError> {
    let mut stream = None;
    loop {
        let first = queue.recv().await.ok_or(LinkError::Unwanted)?;
        let mut bytes = first.frame.len();
        let mut batch = vec![first];
        // Small updates of several shards share a packet.
        while bytes < UPDATE_TARGET_BYTES
            && let Ok(next) = queue.try_recv()
        {
            bytes += next.frame.len();
            batch.push(next);
        }
        if bytes > lanes.small_bytes {
            lanes.data.want();
            lanes.batches.send(batch).await.map_err(|_| LinkError::Unwanted)?;
            continue;
        }
        write_updates(&lanes.control, &mut stream, batch, &written).await?;
    }
}

/// What goes over the data connection: batches of updates, each over whichever stream is free.
struct Bulk {
    queue: Arc<Mutex<mpsc::Receiver<Vec<UpdateFrame>>>>,
    streams: usize,
    written: Arc<AtomicU64>,
}

impl Bulk {
    /// Carries it, once it is there and its connection is. That is opened here if that is for us to do.
    async fn run(
        self,
        data: DataConnection,
        open: Option<OpenData>,
        source: Source,
    ) -> Result<(), LinkError> {
        if let Some(open) = open {
            data.wanted().await;
            data.offer(open.await.map_err(|error| LinkError::Data(Box::new(error)))?);
        }
        let missed = async {
            data.wanted().await;
            sleep(DATA_TIMEOUT).await;
        };
        let connection = tokio::select! {
            biased;
            connection = data.there() => connection,
            () = missed => return Err(LinkError::Data(Box::new(ConnectError::Silent))),
        };
        let mut tasks = JoinSet::new();
        for _ in 0..self.streams {
            tasks.spawn(send_bulk(connection.clone(), self.queue.clone(), self.written.clone()));
        }
        tasks.spawn(receive_updates(connection, source));
        tasks.join_next().await.and_then(Result::ok).unwrap_or(Err(LinkError::Unwanted))
    }
}

async fn send_bulk(
    connection: Connection,
    queue: Arc<Mutex<mpsc::Receiver<Vec<UpdateFrame>>>>,
    written: Arc<AtomicU64>,
) -> Result<(), LinkError> {
    let mut stream = None;
    loop {
        let batch = queue.lock().await.recv().await.ok_or(LinkError::Unwanted)?;
        write_updates(&connection, &mut stream, batch, &written).await?;
    }
}

/// Writes updates to a stream, which is opened with the first: on a quiet link one stream carries everything.
async fn write_updates(
    connection: &Connection,
    stream: &mut Option<SendStream>,
    batch: Vec<UpdateFrame>,
    written: &AtomicU64,
) -> Result<(), LinkError> {
    let stream = match stream {
        Some(stream) => stream,
        None => {
            let opened = stream.insert(connection.open_uni().await?);
            // Behind control, where that shares the connection; it fails for a stream that has ended, as writing does.
            let _ = opened.set_priority(-1);
            opened
        }
    };
    written.fetch_add(batch.iter().map(|update| update.payload_bytes).sum(), Ordering::Relaxed);
    Ok(frames::write(stream, batch.into_iter().map(|update| update.frame)).await?)
}

async fn receive_updates(connection: Connection, mut source: Source) -> Result<(), LinkError> {
    source.is_expected.wait_for(|is_expected| *is_expected).await.map_err(|_| LinkError::Unwanted)?;
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            stream = connection.accept_uni() => {
                let mut stream = stream?;
                let Source { peer, session, shapes, events, .. } = source.clone();
                streams.spawn(async move {
                    let max_bytes = shapes.max_update_bytes();
                    while let Some(frame) = frames::read(&mut stream, max_bytes).await? {
                        let (update, bytes) = wire::decode_update(frame, &shapes)?;
                        let event = Event::Update { peer, session, update, bytes };
                        events.send(event).await.map_err(|_| LinkError::Unwanted)?;
                    }
                    Ok::<(), LinkError>(())
                });
            }
            Some(ended) = streams.join_next() => {
                if let Ok(Err(error)) = ended {
                    return Err(error);
                }
            }
        }
    }
}

/// How long the data connection may take once it is wanted: longer than a handshake on any path that links work on.
const DATA_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a peer's reason may take to arrive after its stream has ended.
const LAST_WORD: Duration = Duration::from_secs(1);

/// How long a connection may take to say hello.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
