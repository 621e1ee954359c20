//! Why no link could be made, and who refused whom.

use datacenter::identity::{Cause, Party};
use datacenter::refusals::Refused;
use thiserror::Error;

use crate::driver::address::Address;
use crate::driver::frames::FrameError;
use crate::driver::hello::Refusal;
use crate::driver::link::{HELLO_TIMEOUT, close_code};
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
    #[error("no hello within {HELLO_TIMEOUT:?}")]
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

    /// The same, as who refused whom where that is why the connection was lost.
    pub(super) fn explained(self, endpoint: &Endpoint) -> Self {
        let Some(lost) = self.lost() else { return self };
        if let Some((cause, reason)) = close_code::refusal(lost) {
            return Self::ByPeer { cause, reason };
        }
        // Whether a dialer's certificate is accepted shows at its first use.
        endpoint.explain(lost).map_or(self, |refused| Self::Dial(DialError::Refused(refused)))
    }

    /// If this is a refusal, [explained](Self::explained): why, and by whom.
    pub(super) fn refused(&self) -> Option<Refused> {
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
