//! Why no link could be made, and who refused whom.

use datacenter::identity::{Cause, Party};
use datacenter::refusals::Refused;
use quinn::TransportErrorCode;
use thiserror::Error;
use tracing::debug;

use crate::driver::address::Address;
use crate::driver::frames::FrameError;
use crate::driver::hello::Refusal;
use crate::driver::link::close_code;
use crate::transport::{DialError, Endpoint, IdentityError, lost, not_written};

/// Why no link could be made.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nobody there, or not who we want.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection broke.
    #[error("the connection ended: {}", lost(_0))]
    Connection(quinn::ConnectionError),
    /// The hello could not be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The hello could not be sent.
    #[error("the hello could not be sent: {}", not_written(_0))]
    Write(quinn::WriteError),
    /// The certificate names nobody.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// We do not talk to this peer.
    #[error("we refused it: {0}")]
    Refused(#[from] Refusal),
    /// The peer does not talk to us.
    #[error("the peer refused us: \"{reason}\"")]
    ByPeer {
        /// As metrics name it.
        cause: &'static str,
        /// In the peer's words.
        reason: String,
    },
    /// The hello does not decode.
    #[error("no valid hello: {0}")]
    Hello(#[from] datacenter::wire::WireError),
    /// It took too long.
    #[error("no hello in time")]
    Silent,
    /// A name that cannot be looked up.
    #[error("cannot look up {address}: {source}")]
    Resolve {
        /// The name.
        address: Address,
        /// Why.
        source: std::io::Error,
    },
    /// The peer says that it is another server than the one we look for.
    #[error("server {found} answers where server {expected} should be")]
    Server {
        /// Whom we look for.
        expected: u16,
        /// Who answers.
        found: u16,
    },
    /// A data connection of a link that is not there, or has one.
    #[error("its connection for bulk belongs to no link")]
    NoLink,
    /// The node's task is gone.
    #[error("this process is stopping")]
    Stopping,
}

// What quinn says is no source of ours: it is told in an operator's words.
impl From<quinn::ConnectionError> for ConnectError {
    fn from(error: quinn::ConnectionError) -> Self {
        Self::Connection(error)
    }
}

impl From<quinn::WriteError> for ConnectError {
    fn from(error: quinn::WriteError) -> Self {
        Self::Write(error)
    }
}

impl ConnectError {
    /// If the connection was lost: how.
    pub(in crate::driver) fn lost(&self) -> Option<&quinn::ConnectionError> {
        match self {
            Self::Connection(error) | Self::Dial(DialError::Handshake(error)) => Some(error),
            Self::Frame(FrameError::Stream(quinn::ReadError::ConnectionLost(error))) => Some(error),
            Self::Write(quinn::WriteError::ConnectionLost(error)) => Some(error),
            _ => None,
        }
    }

    /// Whether the other side has given up the connection by itself, without a word against us: as of two that dial each
    /// other at the same time, the one does whose link would be the second.
    pub(super) fn is_withdrawn(&self) -> bool {
        // Its link has ended meanwhile.
        if let Self::NoLink = self {
            return true;
        }
        match self.lost() {
            Some(quinn::ConnectionError::ApplicationClosed(close)) => {
                [close_code::DROPPED, close_code::LEAVING, close_code::REPLACED].contains(&close.error_code)
            }
            // The same in a handshake, where QUIC does not pass on an application's code.
            Some(quinn::ConnectionError::ConnectionClosed(close)) => {
                close.error_code == TransportErrorCode::APPLICATION_ERROR
            }
            _ => false,
        }
    }

    /// The same, as who refused whom where that is why the connection was lost. What QUIC says of it is lost with that, and
    /// not shown to operators: the debug log has it.
    pub(super) fn explained(self, endpoint: &Endpoint) -> Self {
        let Some(lost) = self.lost() else { return self };
        debug!(?lost, "the connection in QUIC's words");
        if let Some((cause, reason)) = close_code::refusal(lost) {
            return Self::ByPeer { cause, reason };
        }
        // Whether a dialer's certificate is accepted shows at its first use.
        endpoint.explain(lost).map_or(self, |refused| Self::Dial(DialError::Refused(refused)))
    }

    /// If this is a refusal, [explained](Self::explained): why, and by whom.
    pub(in crate::driver) fn refused(&self) -> Option<Refused> {
        match self {
            Self::Refused(refusal) => Some(Refused { cause: refusal.cause(), by_us: true }),
            Self::ByPeer { cause, .. } => Some(Refused { cause, by_us: false }),
            Self::Identity(_) => Some(Refused { cause: "name", by_us: true }),
            Self::Hello(_)
            | Self::Server { .. }
            | Self::Silent
            | Self::Frame(FrameError::Wire(_) | FrameError::Truncated) => {
                Some(Refused { cause: "protocol", by_us: true })
            }
            Self::Dial(DialError::Refused(refused)) => Some(refused.into()),
            _ => None,
        }
    }

    /// Whether trying again changes nothing as long as both sides are what they are: somebody has to put something right.
    ///
    /// Only what a party has said that a certificate of ours names counts.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_lasting(),
            Self::ByPeer { cause, .. } => {
                ["version", "job", "unknown_datacenter", "own_name", "role", "name"].contains(cause)
            }
            Self::Identity(_) | Self::Server { .. } => true,
            Self::Dial(DialError::Refused(refused)) => {
                refused.by == Party::Us && matches!(refused.cause, Cause::Name | Cause::Role)
            }
            Self::Dial(_)
            | Self::Connection(_)
            | Self::Frame(_)
            | Self::Write(_)
            | Self::Hello(_)
            | Self::Silent
            | Self::Resolve { .. }
            | Self::NoLink
            | Self::Stopping => false,
        }
    }

    /// Whether somebody who has dialled us runs another job, or another version of the protocol.
    pub(super) fn is_another_job(&self) -> bool {
        match self {
            Self::Refused(refusal) => matches!(refusal, Refusal::Job { .. } | Refusal::Version { .. }),
            Self::ByPeer { cause, .. } => ["version", "job"].contains(cause),
            _ => false,
        }
    }

    /// With which code and in which words the peer is told that we want no connection with it.
    pub(in crate::driver) fn told(&self) -> (quinn::VarInt, String) {
        let code = self.refused().map_or(close_code::REPLACED, |refused| close_code::of_cause(refused.cause));
        match self {
            Self::Refused(refusal) => (code, refusal.to_string()),
            Self::Server { expected, found } => {
                (code, format!("it is server {found}, and server {expected} should be at this address"))
            }
            error => (code, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::transport::{Authority, Carries, EndpointConfig, Entropy, Path, PeerName, Role};

    fn endpoint(authority: &Authority) -> (Endpoint, PeerName) {
        let name = PeerName::new("oslo", Role::Server).unwrap();
        let config = EndpointConfig {
            identity: authority.issue(&name),
            entropy: Entropy::System,
            accept: Path::default().accepted(Carries::Updates),
        };
        (Endpoint::over_udp(config, UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap(), name)
    }

    /// How it ends for `here` when a dialer with an identity of `authority` drops the connection: at once, or once it stands.
    async fn dropped(authority: &Authority, others: &Authority, is_at_once: bool) -> ConnectError {
        let ((here, name), (there, _)) = (endpoint(authority), endpoint(others));
        let (address, settings) = (here.local_address().unwrap(), Path::default().control());
        let dialling = async { there.connect(address, &name, &settings).await };
        let accepting = async { here.incoming().await.unwrap() };
        if is_at_once {
            let incoming = tokio::select! {
                biased;
                incoming = accepting => incoming,
                _ = dialling => panic!("nobody has answered"),
            };
            return here.admit(incoming, &settings).await.expect_err("it is dropped").into();
        }
        let admitted = async { here.admit(accepting.await, &settings).await };
        let (dialled, admitted) = tokio::join!(dialling, admitted);
        match admitted {
            Ok(connection) => {
                drop(dialled);
                ConnectError::from(connection.closed().await)
            }
            Err(error) => error.into(),
        }
    }

    #[tokio::test]
    async fn who_thinks_better_of_it_is_told_from_who_is_refused() {
        let (authority, other) = (Authority::new(1), Authority::new(2));
        for is_at_once in [true, false] {
            let error = dropped(&authority, &authority, is_at_once).await;
            assert!(error.is_withdrawn() && error.refused().is_none(), "{is_at_once}: {error:?}");
        }
        let error = dropped(&authority, &other, false).await;
        assert!(!error.is_withdrawn(), "{error:?}");
        assert!(!ConnectError::Silent.is_withdrawn());
    }
}
