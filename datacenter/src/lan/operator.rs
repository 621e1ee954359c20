//! The operator's side: asks a server whether a datacenter can leave the job for good, and has it
//! done.
//!
//! An operator speaks to each server of a datacenter by itself, as they do not speak to each other.
//! It asks all of them before it confirms to any: what one of them has to object to stops it before
//! anything has happened.
//!
//! Kind: driver.

use futures_util::SinkExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Frames, HANDSHAKE, LanError, Security, Way, dismiss, framed, next};
use crate::identity::{Identity, PeerName, Role, handshake};
use crate::wire::{OperatorHello, Shapes, ToServer, ToWorker, VERSION};

/// A server that has been asked.
pub struct Asked {
    frames: Frames,
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It can be done, or is done; whether it was before.
    Done {
        /// Whether it was.
        before: bool,
    },
    /// It cannot be done.
    Problem(String),
}

/// Asks the server of `datacenter` at `address` whether the datacenter `leaving` can leave the job
/// with this digest; shows it the certificate of `identity`.
///
/// # Errors
///
/// If it cannot be reached, or one side refuses the other.
pub async fn ask(
    identity: &Identity,
    datacenter: &str,
    address: &str,
    leaving: &str,
    job_digest: &[u8],
) -> Result<(Asked, Answer), LanError> {
    let asking = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let server = PeerName::new(datacenter, Role::Server);
        let server = server.map_err(|error| std::io::Error::other(error.to_string()))?;
        let stream = handshake::connect(identity, &server, stream).await?;
        let frames = framed(Way::Dialled(Box::new(stream)));
        let hello = OperatorHello {
            version: VERSION,
            datacenter: datacenter.into(),
            leaving: leaving.into(),
            job_digest: job_digest.to_vec(),
        };
        let mut asked = Asked { frames };
        let answer = asked.say(ToServer::Operator(hello)).await?;
        Ok((asked, answer))
    };
    let asked = timeout(HANDSHAKE, asking).await.map_err(|_| LanError::Silent).flatten();
    asked.map_err(|error: LanError| error.explained(&Security::Mutual(identity.clone())))
}

impl Asked {
    /// Has it done.
    ///
    /// # Errors
    ///
    /// If the connection breaks: it may have been done.
    pub async fn confirm(mut self) -> Result<Answer, LanError> {
        timeout(HANDSHAKE, self.say(ToServer::Confirm)).await.map_err(|_| LanError::Silent).flatten()
    }

    async fn say(&mut self, message: ToServer) -> Result<Answer, LanError> {
        self.frames.send(message.encode()).await?;
        let no_shapes = Shapes(Vec::new());
        match ToWorker::decode(next(&mut self.frames).await?, &no_shapes)? {
            ToWorker::Answer { problem, is_known } if problem.is_empty() => {
                Ok(Answer::Done { before: is_known })
            }
            ToWorker::Answer { problem, .. } => Ok(Answer::Problem(problem)),
            ToWorker::Refused { cause, reason } => Err(LanError::by_them(&cause, reason)),
            _ => {
                let error = LanError::OutOfTurn("an operator is answered");
                if let Some((cause, reason)) = error.told() {
                    dismiss(&mut self.frames, ToServer::Refused { cause, reason }.encode()).await;
                }
                Err(error)
            }
        }
    }
}
