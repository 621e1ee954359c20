//! Control messages that arrive in time although packets are lost.
//!
//! Kind: driver.
//!
//! A control message tells a peer what to wait for, so a late one stalls workers. A connection of its own
//! keeps it out of the queue behind data, but a lost packet is only known to be lost after a round trip, and
//! sent again it comes one and a half round trips late. Control messages are small, so it is cheaper to send
//! them twice than to wait.
//!
//! Every message goes over a reliable stream. While the path loses packets, or bulk is under way on a path
//! that has not yet shown whether it does, each is also sent as one or two *copies* in unreliable datagrams, a few
//! milliseconds apart, since what overflows a queue takes several packets in a row. The receiver counts messages: the n-th on the stream has number n, a copy carries its
//! number, and whichever comes first is delivered. So each message is delivered exactly once, but **out of
//! order** when a copy has overtaken a lost packet: messages should be statements whose newest wins, or carry
//! their own order.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn::{ConnectionError, ReadError};
use thiserror::Error;

use crate::transport::{lost, not_read};

mod receiver;
mod sender;

pub use receiver::{Arrivals, ControlReceiver};
pub use sender::ControlSender;

/// The largest control message. Larger things are data.
pub const MAX_CONTROL_BYTES: usize = 256 * 1024;
/// Messages that may wait to be sent; at the bound, senders wait.
const QUEUE_MESSAGES: usize = 256;

/// Why a control message could not be sent or received.
#[derive(Debug, Error)]
pub enum ControlError {
    /// Too many messages are waiting already.
    #[error("{QUEUE_MESSAGES} control messages are waiting to be sent")]
    Full,
    /// The message, ours or the peer's, exceeds [`MAX_CONTROL_BYTES`].
    #[error("a control message of {found} bytes exceeds {MAX_CONTROL_BYTES}")]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// The connection or its stream has ended.
    #[error("the control connection has ended")]
    Closed,
    /// The connection was lost while receiving.
    #[error("the control connection was lost: {}", lost(_0))]
    Lost(ConnectionError),
    /// The stream broke while receiving.
    #[error("the control stream broke: {}", not_read(_0))]
    Broken(ReadError),
    /// The peer broke the rules of framing.
    #[error("the peer sent a malformed control message")]
    Malformed,
}

impl From<ConnectionError> for ControlError {
    fn from(error: ConnectionError) -> Self {
        Self::Lost(error)
    }
}

impl From<ReadError> for ControlError {
    fn from(error: ReadError) -> Self {
        Self::Broken(error)
    }
}

fn check_size(bytes: usize) -> Result<(), ControlError> {
    if bytes > MAX_CONTROL_BYTES { Err(ControlError::TooLarge { found: bytes }) } else { Ok(()) }
}

/// A message behind its length, which takes one byte up to 127.
fn encode(message: &[u8], frames: &mut BytesMut) {
    prost::encode_length_delimiter(message.len(), frames).expect("the buffer grows");
    frames.put_slice(message);
}

/// Takes the first message; nothing while it is not whole.
fn decode(frames: &mut BytesMut) -> Result<Option<Bytes>, ControlError> {
    /// A length of 256 KiB takes three bytes.
    const MAX_LENGTH_BYTES: usize = 3;
    let mut rest = &frames[..];
    let Ok(length) = prost::decode_length_delimiter(&mut rest) else {
        return if frames.len() < MAX_LENGTH_BYTES { Ok(None) } else { Err(ControlError::Malformed) };
    };
    check_size(length)?;
    if rest.len() < length {
        return Ok(None);
    }
    frames.advance(frames.len() - rest.len());
    Ok(Some(frames.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_split_as_they_were_joined() {
        let messages = [vec![], vec![1; 60], vec![2; 128], vec![3; MAX_CONTROL_BYTES]];
        let mut frames = BytesMut::new();
        for message in &messages {
            encode(message, &mut frames);
        }
        let mut partial = BytesMut::new();
        let mut found = Vec::new();
        for piece in frames.chunks(1000) {
            partial.put_slice(piece);
            while let Some(message) = decode(&mut partial).unwrap() {
                found.push(message.to_vec());
            }
        }
        assert_eq!(found, messages);
        assert!(partial.is_empty());
    }

    #[test]
    fn malformed_frames_are_refused() {
        assert!(matches!(decode(&mut BytesMut::from(&[0xff; 10][..])), Err(ControlError::Malformed)));
        let too_large = &[0x81, 0x80, 0x10][..];
        assert!(matches!(
            decode(&mut BytesMut::from(too_large)),
            Err(ControlError::TooLarge { found: 262_145 })
        ));
    }
}
