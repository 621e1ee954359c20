//! A look at the path to a peer: whether it answers, how far away it is, what the path carries, and whether both sides
//! mean the same job.
//!
//! Whoever sets up a job wants to know that before it runs, and from one side. So a probe is a connection like a link's,
//! with the same certificates and the same hello, that is for nothing else: [`probe`] dials, [`Answers`] answers. Both
//! sides tell their clock and their job, and send each other a burst, of which the receiver times the later half.
//!
//! **It must not harm a run.** A burst ends after [`MOST_BYTES`] or [`LONGEST`], whichever comes first, and after
//! [`RUNNING_BYTES`] if the accepting side has a link to anybody. A server gets one burst in [`PAUSE`]; a probe that comes
//! sooner is answered without. A job that differs is no reason to refuse it: that is what it wants to know.
//!
//! Kind: driver. [`BurstTimer`] and [`BurstLimiter`] are time-passed.

mod answers;
mod burst_limiter;
mod burst_timer;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use datacenter::identity;
use quinn::{Connection, RecvStream, VarInt, WriteError};
use thiserror::Error;
use tokio::time::{Instant, timeout};

use crate::driver::address::Address;
use crate::driver::frames::{self, FrameError};
use crate::driver::hello::Terms;
use crate::driver::link::{self, close_code};
use crate::driver::peers::{ConnectError, Peer};
use crate::node::Greeting;
use crate::transport::{DialError, Endpoint, peer_name, said};
use crate::wire::{self, CallBack, Channel, Hello, MAX_HELLO_BYTES, ProbeRequest};

pub use answers::Answers;
pub(in crate::driver) use answers::{Heard, hear};
pub use burst_limiter::BurstLimiter;
pub use burst_timer::BurstTimer;

/// What one side sends at most: enough to leave the slow start of a path of 100 Mbit/s and 100 ms.
pub const MOST_BYTES: u64 = 4_000_000;
/// The same while a run is under way: a few updates' worth.
pub const RUNNING_BYTES: u64 = 256 * 1024;
/// For how long a burst is received, from its first byte on.
pub const LONGEST: Duration = Duration::from_secs(2);
/// From one burst of a server to its next, and longer than both bursts of a probe can take.
pub const PAUSE: Duration = Duration::from_secs(10);
/// How long the first byte of a burst may take: a round trip, and what a lost packet costs.
const FIRST_BYTE: Duration = Duration::from_secs(3);
/// How long a handshake may take at least until nobody is said to be there: its first packet is sent three times by then.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// Frames of a probe are a few numbers and a sentence.
const MAX_FRAME_BYTES: usize = 4096;

/// What a probe has found.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Where the peer answers.
    pub address: SocketAddr,
    /// Its hello: which server it is, and of which job.
    pub hello: Hello,
    /// There and back, without what queues of our own burst add.
    pub round_trip: Duration,
    /// How far its clock is ahead of ours, in milliseconds; by half a round trip more or less.
    pub clock_ahead_millis: i64,
    /// Whether it has a link to our server at present.
    pub linked: bool,
    /// What the path carried from here to there, in bytes a second, headers left out; none if it was not measured.
    pub rate_there: Option<f64>,
    /// The same for the way back.
    pub rate_back: Option<f64>,
    /// Whether it reaches our server by itself.
    pub call_back: CallBack,
}

/// Why a probe came to nothing.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// No packet came back.
    #[error("nothing answers at {address} over UDP")]
    Silent {
        /// Where.
        address: SocketAddr,
    },
    /// One side does not accept the other's certificate.
    #[error("{_0}")]
    Certificate(identity::Refused),
    /// The other side closed the connection.
    #[error("it refuses us: {reason}")]
    Closed {
        /// What it says.
        reason: String,
    },
    /// Anything else.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Looks at the path over `endpoint` to `peer` at `address`; `session` tells this probe from others, and `request` says
/// what is wanted of the other side.
///
/// # Errors
///
/// If there is no answer, or none of this peer's.
pub async fn probe(
    endpoint: &Endpoint,
    terms: &Terms,
    peer: &Peer,
    address: &Address,
    session: u64,
    request: ProbeRequest,
) -> Result<Probe, ProbeError> {
    let unresolved = |source| ConnectError::Resolve { address: address.clone(), source };
    let local = endpoint.local_address().map_err(unresolved)?;
    let found = address.resolve(local).await.map_err(unresolved)?;
    let (mut tried, mut to) = (Err(ProbeError::Silent { address: found[0] }), found[0]);
    // The first that answers, whatever it says: as a link would come about.
    for candidate in found {
        (tried, to) = (dial(endpoint, peer, candidate).await, candidate);
        if !matches!(tried, Err(ProbeError::Silent { .. })) {
            break;
        }
    }
    let connection = tried?;
    let looked = look(&connection, endpoint, terms, peer, session, request);
    // Each of its steps ends in time, and so does the whole.
    let hello = peer.path.handshake_timeout();
    let most = 2 * hello + 2 * (FIRST_BYTE.max(hello / 2) + LONGEST) + HANDSHAKE.max(hello / 2);
    let found = timeout(most, looked).await.map_err(|_| ConnectError::Silent).flatten();
    let (code, reason) = match &found {
        Ok(_) => (close_code::LEAVING, "the probe is over".to_owned()),
        Err(error) => error.told(),
    };
    link::close(&connection, code, &reason);
    found.map_err(|error| explained(error, endpoint, to))
}

async fn dial(endpoint: &Endpoint, peer: &Peer, to: SocketAddr) -> Result<Connection, ProbeError> {
    let within = HANDSHAKE.max(peer.path.handshake_timeout() / 2);
    match timeout(within, endpoint.connect(to, &peer.name, &peer.path.data())).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(explained(error.into(), endpoint, to)),
        Err(_) => Err(ProbeError::Silent { address: to }),
    }
}

async fn look(
    connection: &Connection,
    endpoint: &Endpoint,
    terms: &Terms,
    peer: &Peer,
    session: u64,
    request: ProbeRequest,
) -> Result<Probe, ConnectError> {
    let certified = peer_name(connection)?;
    terms.identify(&certified)?;
    let (mut send, mut receive) = connection.open_bi().await?;
    let ours = terms.hello(Channel::Probe, session, Greeting::default());
    let (asked, asked_at) = (endpoint.identity().dates().now(), Instant::now());
    frames::write(&mut send, [wire::encode_hello(&ours), wire::encode_probe_request(request)]).await?;
    let frame = frames::read(&mut receive, MAX_HELLO_BYTES).await?.ok_or(FrameError::Truncated)?;
    let hello = wire::decode_hello(frame)?;
    terms.check_speaker(&hello, &certified)?;
    Terms::check_answer(&ours, &hello)?;
    if hello.server != peer.id.index {
        return Err(ConnectError::Server { expected: peer.id.index, found: hello.server });
    }
    let answer = wire::decode_probe_answer(frame_of(&mut receive).await?)?;
    let answered_in = asked_at.elapsed();
    let round_trip = connection.rtt().min(answered_in);
    let clock_ahead_millis = ahead(answer.unix_millis, asked + answered_in / 2);
    let granted = answer.granted_bytes.min(request.bytes).min(MOST_BYTES);
    let back = exchange_bursts(connection, granted).await?;
    let report = wire::decode_probe_report(frame_of(&mut receive).await?)?;
    Ok(Probe {
        address: connection.remote_address(),
        hello,
        round_trip,
        clock_ahead_millis,
        linked: answer.linked,
        rate_there: burst_timer::rate(report.bytes, Duration::from_micros(report.micros)),
        rate_back: back.later_half().and_then(|(bytes, time)| burst_timer::rate(bytes, time)),
        call_back: report.call_back,
    })
}

async fn frame_of(receive: &mut RecvStream) -> Result<Bytes, ConnectError> {
    Ok(frames::read(receive, MAX_FRAME_BYTES).await?.ok_or(FrameError::Truncated)?)
}

/// Sends a burst and receives the other side's, both at once: a controller that has only answered for a while takes its
/// own restraint for the link's.
async fn exchange_bursts(connection: &Connection, bytes: u64) -> Result<BurstTimer, ConnectError> {
    if bytes == 0 {
        return Ok(BurstTimer::default());
    }
    let (received, ()) = tokio::try_join!(receive_burst(connection, bytes), send_burst(connection, bytes))?;
    Ok(received)
}

/// Sends a burst, until the other side has had enough of it.
async fn send_burst(connection: &Connection, bytes: u64) -> Result<(), ConnectError> {
    static CHUNK: [u8; 16 * 1024] = [0; 16 * 1024];
    let mut send = connection.open_uni().await?;
    let mut left = bytes;
    while left > 0 {
        let length = left.min(CHUNK.len() as u64);
        match send.write_chunk(Bytes::from_static(&CHUNK[..length as usize])).await {
            Ok(()) => left -= length,
            Err(WriteError::Stopped(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    // It fails only on a stream that is over already.
    let _ = send.finish();
    // Until all has arrived, or nobody wants it any more.
    let _ = send.stopped().await;
    Ok(())
}

/// Receives a burst of at most `most_bytes`, for as long as it is of use.
async fn receive_burst(connection: &Connection, most_bytes: u64) -> Result<BurstTimer, ConnectError> {
    let mut burst_timer = BurstTimer::default();
    let Ok(receive) = timeout(FIRST_BYTE, connection.accept_uni()).await else { return Ok(burst_timer) };
    let (mut receive, mut limit, mut started) = (receive?, FIRST_BYTE, Instant::now());
    while burst_timer.bytes() < most_bytes {
        let left = limit.saturating_sub(started.elapsed());
        let Ok(chunk) = timeout(left, receive.read_chunk(usize::MAX, true)).await else { break };
        let Some(chunk) = chunk.map_err(FrameError::from)? else { break };
        if burst_timer.bytes() == 0 {
            (limit, started) = (LONGEST, Instant::now());
        }
        burst_timer.arrived(Instant::now(), chunk.bytes.len() as u64);
    }
    // What is still under way is of no use; on a stream that is over there is nothing.
    let _ = receive.stop(VarInt::from_u32(0));
    Ok(burst_timer)
}

fn unix_millis(date: SystemTime) -> u64 {
    date.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn ahead(theirs: u64, ours: SystemTime) -> i64 {
    let ours = i64::try_from(unix_millis(ours)).unwrap_or(i64::MAX);
    i64::try_from(theirs).unwrap_or(i64::MAX).saturating_sub(ours)
}

/// The same error, as somebody wants to hear it who asked for a probe.
fn explained(error: ConnectError, endpoint: &Endpoint, address: SocketAddr) -> ProbeError {
    if let ConnectError::Dial(DialError::Refused(refused)) = error {
        return ProbeError::Certificate(refused);
    }
    match error.lost() {
        Some(quinn::ConnectionError::TimedOut) => ProbeError::Silent { address },
        Some(quinn::ConnectionError::ApplicationClosed(close)) => {
            ProbeError::Closed { reason: said(&close.reason) }
        }
        Some(lost) => match endpoint.explain(lost) {
            Some(refused) => ProbeError::Certificate(refused),
            None => error.into(),
        },
        None => error.into(),
    }
}
