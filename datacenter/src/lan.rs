//! Workers and servers in different processes: frames over TLS on TCP.
//!
//! A worker's process keeps one connection to each server of its datacenter ([`worker`]); a server's process accepts
//! them ([`server`]). Both sides show a certificate of the job's authority, which must name this datacenter and the
//! right role; then the hello says whether they run the same job over the same protocol. Connections break; a worker
//! dials again and says again what was not confirmed, and as flushes count by their clock, that does no harm.
//!
//! Frames are preceded by their length, four bytes, big-endian; what is in them is [`wire`](crate::wire)'s.
//!
//! Kind: driver.

pub mod server;
pub mod worker;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::Clock;
use crate::identity::handshake::HandshakeError;
use crate::identity::{self, Identity, Shown};
use crate::refusals::Refused;
use crate::wire::WireError;

/// How long a connection may take for its handshakes.
const HANDSHAKE: Duration = Duration::from_secs(10);

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
    /// The connection could not be made, or broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// TLS could not be agreed on.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// One side refused the other's certificate after the handshake, as TLS 1.3 has it for dialers.
    #[error(transparent)]
    Certificate(identity::Refused),
    /// A frame does not decode.
    #[error("a frame does not decode: {0}")]
    Wire(#[from] WireError),
    /// The other side does not agree with us, or we not with it.
    #[error("{}{reason}", if *by_us { "refused: " } else { "refused by the other side: " })]
    Refused {
        /// As metrics name it.
        cause: &'static str,
        /// In words.
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
    /// A newer connection of the same worker has taken its place.
    #[error("a newer connection of this worker has taken its place")]
    Replaced,
    /// This process is stopping.
    #[error("this process is stopping")]
    Stopping,
}

/// A connection, whatever protects it.
enum Stream {
    Dialled(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    Accepted(Box<tokio_rustls::server::TlsStream<TcpStream>>),
    Plain(TcpStream),
}

/// A connection as frames.
type Frames = Framed<Stream, LengthDelimitedCodec>;

fn framed(stream: Stream, max_frame_bytes: usize) -> Frames {
    let codec = LengthDelimitedCodec::builder().max_frame_length(max_frame_bytes).new_codec();
    Framed::new(stream, codec)
}

/// The next frame.
async fn next(
    frames: &mut (impl futures_util::Stream<Item = io::Result<BytesMut>> + Unpin),
) -> Result<Bytes, LanError> {
    Ok(frames.next().await.ok_or(LanError::Closed)??.freeze())
}

impl LanError {
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
            | Self::Replaced
            | Self::Stopping => None,
        }
    }
}

/// An error and its causes, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Dialled(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Accepted(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Dialled(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Accepted(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Dialled(stream) => Pin::new(stream).poll_flush(cx),
            Self::Accepted(stream) => Pin::new(stream).poll_flush(cx),
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Dialled(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Accepted(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests;
