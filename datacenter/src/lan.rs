//! Workers and servers in different processes: frames over TLS on TCP.
//!
//! A worker's process keeps one connection to each server of its datacenter ([`worker`]); a
//! server's process accepts them ([`server`]). Operators come to the same listener ([`operator`]).
//! Both sides show a certificate of the job's authority, which must name this datacenter and the
//! right role; then the hello says whether they run the same job over the same protocol.
//! Connections break; a worker dials again and says again what was not confirmed, and as flushes
//! count by their clock, that does no harm.
//!
//! Whoever refuses the other says why before it hangs up, also when that shows later, as when a
//! revocation list comes that names the other's certificate.
//!
//! Frames are preceded by their length, four bytes, big-endian; what is in them is
//! [`wire`](crate::wire)'s. Many rows take many frames of about 256 KiB, so that one is coded while
//! the other is on its way.
//!
//! Kind: driver.

mod half_open;
mod incarnations;
mod life;
pub mod operator;
mod presence;
pub mod server;
pub mod worker;

pub use self::incarnations::{Incarnations, incarnation};
pub use self::presence::{Loss, Presence};

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::codec::{Decoder, Encoder, Framed, LengthDelimitedCodec};

use self::life::Heard;
pub use self::life::SILENCE;
use crate::causes::of_connection;
use crate::identity::handshake::{HandshakeError, LINGER, linger};
use crate::identity::{self, Certificate, Identity, Shown};
use crate::refusals::Refused;
use crate::wire::{Frame, WireError};
use crate::{Clock, WorkerId};

/// How long a connection may take for its handshakes.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The cause that tells a worker of a later start of the same.
const REPLACED: &str = "replaced";

/// The cause that tells a worker that its datacenter has left the job for good.
const DEPARTED: &str = "left";

/// The cause that tells a worker that a request of it makes no sense, which it is not to say again.
const SENSELESS: &str = "request";

/// The clock of a worker that has left, in the server's word that it knows.
const LEFT: Clock = Clock(u32::MAX);

/// How connections inside a datacenter are protected.
#[derive(Clone, Debug)]
pub enum Security {
    /// Mutual TLS: both sides show who they are.
    Mutual(Identity),
    /// None: for a LAN on which everybody is trusted.
    Plaintext,
}

/// What both sides must agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The datacenter.
    pub datacenter: String,
    /// What all regions must agree on, hashed.
    pub job_digest: Vec<u8>,
}

/// Why there is no session.
#[derive(Debug, Error)]
pub enum LanError {
    /// The connection could not be made, or broke. It is no source: what it says is for those who
    /// know TLS and TCP.
    #[error("{}", of_connection(_0))]
    Io(io::Error),
    /// TLS could not be agreed on.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// One side refused the other's certificate after the handshake, as TLS 1.3 has it for dialers;
    /// or it speaks TLS and we do not.
    #[error(transparent)]
    Certificate(identity::Refused),
    /// A frame does not decode.
    #[error("a frame does not decode: {0}")]
    Wire(#[from] WireError),
    /// The other side does not agree with us, or we not with it.
    #[error("{}{reason}", if *by_us { "refused, and told why: " } else { "refused by the other side: " })]
    Refused {
        /// As metrics name it.
        cause: &'static str,
        /// In words, to the one who is refused.
        reason: String,
        /// Who refuses.
        by_us: bool,
    },
    /// The other side says something out of turn.
    #[error("the other side does not keep to the protocol: {0}")]
    OutOfTurn(&'static str),
    /// The connection was closed.
    #[error("the connection was closed")]
    Closed,
    /// It took too long.
    #[error("no answer within {HANDSHAKE:?}")]
    Silent,
    /// The connection was made, and nobody is at its other end any more.
    #[error("nothing was heard for {SILENCE:?}")]
    Gone,
    /// So many others came from its address that its place was needed.
    #[error("too many connections from its address do not say who they are; it had to make room")]
    Crowded,
    /// A newer connection of the same worker has taken its place.
    #[error("a newer connection of this worker has taken its place")]
    Replaced,
    /// This process is stopping.
    #[error("this process is stopping")]
    Stopping,
}

impl From<io::Error> for LanError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A connection, and when something last came over it.
struct Stream {
    way: Way,
    heard: Heard,
}

/// A connection, whatever protects it.
enum Way {
    Dialled(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    Accepted(Box<tokio_rustls::server::TlsStream<TcpStream>>),
    Plain(TcpStream),
    #[cfg(test)]
    Memory(tokio::io::DuplexStream),
}

/// A connection as frames.
type Frames = Framed<Stream, FrameCodec>;

/// Frames with their lengths before them.
struct FrameCodec(LengthDelimitedCodec);

impl FrameCodec {
    fn set_max_frame_length(&mut self, bytes: usize) {
        self.0.set_max_frame_length(bytes);
    }
}

impl Decoder for FrameCodec {
    type Item = BytesMut;
    type Error = io::Error;

    fn decode(&mut self, source: &mut BytesMut) -> io::Result<Option<BytesMut>> {
        self.0.decode(source)
    }
}

impl Encoder<Frame> for FrameCodec {
    type Error = io::Error;

    fn encode(&mut self, frame: Frame, out: &mut BytesMut) -> io::Result<()> {
        let length = u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        out.reserve(size_of::<u32>() + frame.len());
        out.put_u32(length);
        frame.write(out);
        Ok(())
    }
}

/// The longest frame before both sides know each other: whoever comes may claim as much.
const MAX_HELLO_BYTES: usize = 64 * 1024;

fn framed(way: Way) -> Frames {
    let stream = Stream { way, heard: Heard::now() };
    let codec = LengthDelimitedCodec::builder().max_frame_length(MAX_HELLO_BYTES).new_codec();
    Framed::new(stream, FrameCodec(codec))
}

/// Says why the other side is refused, and hangs up once it has. If we did so with bytes of its own
/// unread, TCP would reset the connection, and a reset overtakes what was said.
async fn dismiss(frames: &mut Frames, told: Frame) {
    // It is refused already; how it takes that changes nothing.
    if let Ok(Ok(())) = timeout(LINGER, frames.send(told)).await {
        linger(frames.get_mut()).await;
    }
}

/// The next frame.
async fn next(
    frames: &mut (impl futures_util::Stream<Item = io::Result<BytesMut>> + Unpin),
) -> Result<Bytes, LanError> {
    Ok(frames.next().await.ok_or(LanError::Closed)??.freeze())
}

impl Security {
    /// Returns once the certificate of `peer` is revoked; never where nobody has one.
    async fn revoked(&self, peer: Option<CertificateDer<'static>>) -> LanError {
        let (Self::Mutual(identity), Some(peer)) = (self, peer) else {
            return std::future::pending().await;
        };
        let certificate = identity.revoked(&[peer]).await;
        let reason = format!("your certificate {certificate} has been revoked");
        LanError::Refused { cause: "revoked", reason, by_us: true }
    }
}

impl LanError {
    /// A worker's former life is refused.
    fn superseded(worker: WorkerId) -> Self {
        let reason =
            format!("another process that is {worker} was started later than you, and has your place");
        Self::Refused { cause: REPLACED, reason, by_us: true }
    }

    /// If it is us who refuse the other side: the cause, and what to tell it.
    fn told(&self) -> Option<(String, String)> {
        let (cause, reason) = match self {
            Self::Refused { cause, reason, by_us: true } => (*cause, reason.clone()),
            Self::Wire(error) => ("protocol", format!("your frame does not decode: {error}")),
            Self::OutOfTurn(what) => ("protocol", format!("you do not keep to the protocol: {what}")),
            _ => return None,
        };
        Some((cause.to_owned(), reason))
    }

    /// What the other side says of why it refuses us.
    fn by_them(cause: &str, reason: String) -> Self {
        Self::Refused { cause: Refused::by_them(cause).cause, reason, by_us: false }
    }

    /// The same, where TLS has an explanation for it.
    fn explained(self, security: &Security) -> Self {
        match (self, security) {
            (Self::Io(error), Security::Mutual(identity)) => {
                match identity.explain(&error, &Shown::default()) {
                    Some(refused) => Self::Certificate(refused),
                    None => Self::Io(error),
                }
            }
            (error, _) => error,
        }
    }

    /// If this is a refusal: why, and by whom.
    fn refused(&self) -> Option<Refused> {
        match self {
            Self::Refused { cause, by_us, .. } => Some(Refused { cause, by_us: *by_us }),
            Self::Certificate(refused) | Self::Handshake(HandshakeError::Refused(refused)) => {
                Some(refused.into())
            }
            Self::Handshake(HandshakeError::Identity(_)) => Some(Refused { cause: "name", by_us: true }),
            Self::Wire(_) | Self::OutOfTurn(_) => Some(Refused { cause: "protocol", by_us: true }),
            Self::Handshake(HandshakeError::Io(_))
            | Self::Io(_)
            | Self::Closed
            | Self::Silent
            | Self::Gone
            | Self::Crowded
            | Self::Replaced
            | Self::Stopping => None,
        }
    }
}

impl Stream {
    /// Checks that the other side's certificate, if it has one, is that of the process with this
    /// index.
    fn check_index(&self, index: u32) -> Result<(), LanError> {
        let Some(certificate) = self.peer().and_then(|peer| Certificate::read(&peer).ok()) else {
            return Ok(());
        };
        let refused = |reason| LanError::Refused { cause: "name", reason, by_us: true };
        certificate.check_index(index).map_err(refused)
    }

    /// The other side's certificate.
    fn peer(&self) -> Option<CertificateDer<'static>> {
        let chain = match &self.way {
            Way::Dialled(stream) => stream.get_ref().1.peer_certificates(),
            Way::Accepted(stream) => stream.get_ref().1.peer_certificates(),
            Way::Plain(_) => None,
            #[cfg(test)]
            Way::Memory(_) => None,
        };
        chain?.first().cloned()
    }

    /// Whether the other side speaks TLS although we do not, once it has said something.
    async fn tls_in_plaintext(&self) -> io::Result<Option<identity::Refused>> {
        let Way::Plain(stream) = &self.way else { return Ok(None) };
        let mut first = [0; 3];
        let length = stream.peek(&mut first).await?;
        Ok(identity::Refused::in_plaintext(&first[..length]))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { way, heard } = self.get_mut();
        let before = buf.filled().len();
        let read = match way {
            Way::Dialled(stream) => Pin::new(stream).poll_read(cx, buf),
            Way::Accepted(stream) => Pin::new(stream).poll_read(cx, buf),
            Way::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(test)]
            Way::Memory(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if buf.filled().len() > before {
            heard.note();
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().way {
            Way::Dialled(stream) => Pin::new(stream).poll_write(cx, buf),
            Way::Accepted(stream) => Pin::new(stream).poll_write(cx, buf),
            Way::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(test)]
            Way::Memory(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().way {
            Way::Dialled(stream) => Pin::new(stream).poll_flush(cx),
            Way::Accepted(stream) => Pin::new(stream).poll_flush(cx),
            Way::Plain(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(test)]
            Way::Memory(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().way {
            Way::Dialled(stream) => Pin::new(stream).poll_shutdown(cx),
            Way::Accepted(stream) => Pin::new(stream).poll_shutdown(cx),
            Way::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(test)]
            Way::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests;
