//! Handshakes over TCP, with refusals that arrive.
//!
//! Kind: driver.
//!
//! In TLS 1.3 the dialer is done before the acceptor has looked at its certificate, and may already
//! be sending. If the acceptor then closed its socket with those bytes unread, TCP would reset the
//! connection, and a reset overtakes the alert: the dialer would learn that something is wrong, and
//! never what. So the acceptor lingers.

use std::{io, time::Duration};

use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_rustls::{client, server};

use super::{Identity, IdentityError, PeerName, Refused, Shown, peer_name_of, server_name};
use crate::causes::of_connection;

/// How long a refused peer may take to hang up.
pub(crate) const LINGER: Duration = Duration::from_secs(1);
/// How much of what it had sent already is read away.
const LINGER_BYTES: u64 = 64 * 1024;

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// One side refused the other.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The connection broke. It is no source: what it says is for those who know TLS and TCP.
    #[error("no handshake: {}", of_connection(_0))]
    Io(io::Error),
    /// The certificate names nobody.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Accepts TLS on `io`, and says who has come. How long that may take is for the caller to bound.
///
/// # Errors
///
/// When the handshake fails.
pub async fn accept<IO>(
    identity: &Identity,
    io: IO,
) -> Result<(server::TlsStream<IO>, PeerName), HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let shown = Shown::default();
    match identity.acceptor_seeing(&shown).accept(io).into_fallible().await {
        Ok(stream) => {
            let peer = peer_name_of(stream.get_ref().1.peer_certificates())?;
            Ok((stream, peer))
        }
        Err((error, io)) => {
            let error = explained(identity, error, &shown);
            if matches!(error, HandshakeError::Refused(_)) {
                linger(io).await;
            }
            Err(error)
        }
    }
}

/// Dials TLS on `io`, to `peer` and nobody else.
///
/// Its success says that we accept the peer. Whether it accepts us shows at the first read, whose
/// error [`Identity::explain`] explains.
///
/// # Errors
///
/// When the handshake fails.
pub async fn connect<IO>(
    identity: &Identity,
    peer: &PeerName,
    io: IO,
) -> Result<client::TlsStream<IO>, HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let shown = Shown::default();
    let connecting = identity.connector_seeing(&shown).connect(server_name(peer), io);
    connecting.await.map_err(|error| explained(identity, error, &shown))
}

fn explained(identity: &Identity, error: io::Error, shown: &Shown) -> HandshakeError {
    identity.explain(&error, shown).map_or(HandshakeError::Io(error), HandshakeError::Refused)
}

/// Hangs up on a refused peer so that it learns of it: once it has hung up too, or after
/// [`LINGER`].
pub(crate) async fn linger<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO) {
    let hang_up = async {
        io.shutdown().await?;
        tokio::io::copy(&mut io.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // It has been refused already; how it takes that changes nothing.
    let _ = timeout(LINGER, hang_up).await;
}
