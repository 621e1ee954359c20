//! The receiving half of control messages.
//!
//! Kind: driver.

use std::collections::{BTreeSet, VecDeque};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn::{Connection, RecvStream};

use super::{ControlError, MAX_CONTROL_BYTES, decode};

/// How far a copy may be ahead of the stream.
const MAX_AHEAD: u32 = 4096;

/// Receives what a [`super::ControlSender`] at the other end sends.
#[derive(Debug)]
pub struct ControlReceiver {
    connection: Connection,
    stream: RecvStream,
    arrivals: Arrivals,
}

impl ControlReceiver {
    /// A receiver over `stream` and the datagrams of its `connection`.
    pub fn new(connection: Connection, stream: RecvStream) -> Self {
        Self { connection, stream, arrivals: Arrivals::default() }
    }

    /// The next message, each exactly once; nothing when the sender has finished. Can be cancelled without
    /// loss.
    ///
    /// # Errors
    ///
    /// When the connection is lost, or the peer breaks the rules: then close it.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, ControlError> {
        loop {
            if let Some(message) = self.arrivals.poll_message() {
                return Ok(Some(message));
            }
            tokio::select! {
                biased;
                chunk = self.stream.read_chunk(MAX_CONTROL_BYTES, true) => match chunk? {
                    Some(chunk) => self.arrivals.handle_stream(&chunk.bytes)?,
                    None if self.arrivals.is_between_messages() => return Ok(None),
                    None => return Err(ControlError::Malformed),
                },
                datagram = self.connection.read_datagram() => self.arrivals.handle_datagram(datagram?)?,
            }
        }
    }
}

/// What has arrived of a stream and of the copies beside it, and which messages that makes.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// Of the stream, not yet a whole message.
    partial: BytesMut,
    order: Order,
    /// Delivered by the network, and not yet to the caller.
    ready: VecDeque<Bytes>,
}

impl Arrivals {
    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    ///
    /// If they break the rules of framing.
    pub fn handle_stream(&mut self, bytes: &[u8]) -> Result<(), ControlError> {
        self.partial.put_slice(bytes);
        while let Some(message) = decode(&mut self.partial)? {
            if self.order.on_stream() {
                self.ready.push_back(message);
            }
        }
        Ok(())
    }

    /// Takes a datagram with copies.
    ///
    /// # Errors
    ///
    /// If it breaks the rules of framing.
    pub fn handle_datagram(&mut self, datagram: Bytes) -> Result<(), ControlError> {
        let mut frames = BytesMut::from(datagram);
        let mut sequence = frames.try_get_u32().map_err(|_| ControlError::Malformed)?;
        while let Some(message) = decode(&mut frames)? {
            if self.order.on_copy(sequence) {
                self.ready.push_back(message);
            }
            sequence = sequence.wrapping_add(1);
        }
        if frames.is_empty() { Ok(()) } else { Err(ControlError::Malformed) }
    }

    /// The next message, each exactly once.
    pub fn poll_message(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }

    /// Whether the stream may end here.
    pub fn is_between_messages(&self) -> bool {
        self.partial.is_empty()
    }
}

/// Which messages have been delivered.
#[derive(Debug, Default)]
struct Order {
    /// The number of the next message on the stream.
    next: u64,
    /// Delivered ahead of the stream; at most [`MAX_AHEAD`].
    ahead: BTreeSet<u64>,
}

impl Order {
    /// Whether the next message of the stream is new.
    fn on_stream(&mut self) -> bool {
        self.next += 1;
        !self.ahead.remove(&(self.next - 1))
    }

    /// Whether a copy, whose number is known up to 2^32, is new. One too far ahead is left to the stream.
    fn on_copy(&mut self, sequence: u32) -> bool {
        let ahead = sequence.wrapping_sub(self.next as u32);
        ahead < MAX_AHEAD && self.ahead.insert(self.next + u64::from(ahead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_delivered_once() {
        let mut order = Order::default();
        assert!(order.on_copy(0), "its packet was lost");
        assert!(order.on_copy(1));
        assert!(!order.on_copy(1), "the second copy");
        assert!(!order.on_stream(), "message 0");
        assert!(!order.on_stream(), "message 1");
        assert!(order.on_stream(), "message 2");
        assert!(!order.on_copy(2));
        assert!(order.ahead.is_empty());
        assert!(!order.on_copy(3 + MAX_AHEAD), "too far ahead");
    }

    #[test]
    fn numbers_go_on_past_their_width() {
        let mut order = Order { next: u64::from(u32::MAX), ahead: BTreeSet::new() };
        assert!(order.on_copy(0), "message 2^32");
        assert!(order.on_stream());
        assert!(!order.on_stream());
    }
}
