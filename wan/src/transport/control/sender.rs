//! The sending half of control messages.
//!
//! Kind: driver.

use std::{collections::VecDeque, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{Connection, SendStream, WriteError};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{ControlError, QUEUE_MESSAGES, check_size, encode};

/// What fits a datagram at QUIC's smallest MTU, with room to spare: larger messages have no copies.
const MAX_COPY_BYTES: usize = 1000;
/// Between a message and its copy, and between copies. Two copies stay within a third of the 20 ms that a
/// control message may be late.
const COPY_SPACING: Duration = Duration::from_millis(3);
/// Packets on the path since the last message that say that bulk is under way.
const BULK_PACKETS: u64 = 64;
/// Copies that may wait; beyond it the oldest is forgotten, as its message is on the stream anyway.
const MAX_WAITING_COPIES: usize = 256;

/// Sends control messages over a connection. Dropping the last clone finishes the stream after what was sent.
#[derive(Clone, Debug)]
pub struct ControlSender {
    queue: mpsc::Sender<Bytes>,
}

impl ControlSender {
    /// A sender over `stream` and the datagrams of its `connection`.
    ///
    /// `data` is the data connection on the same path, once there is one, whose losses count too:
    /// bulk data meets a lossy path long before sparse control does.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn new(
        connection: Connection,
        stream: SendStream,
        data: watch::Receiver<Option<Connection>>,
    ) -> Self {
        let (queue, messages) = mpsc::channel(QUEUE_MESSAGES);
        let task = SendTask {
            loss_counters: vec![LossCounter::new(connection.clone())],
            data,
            connection,
            stream,
            messages,
            next_sequence: 0,
            copies: VecDeque::new(),
            loss: Loss::default(),
        };
        tokio::spawn(task.run());
        Self { queue }
    }

    /// Sends a message; waits while too many are waiting.
    ///
    /// # Errors
    ///
    /// When it is too large, or the connection has ended.
    pub async fn send(&self, message: Bytes) -> Result<(), ControlError> {
        check_size(message.len())?;
        self.queue.send(message).await.map_err(|_| ControlError::Closed)
    }

    /// Sends a message without waiting.
    ///
    /// # Errors
    ///
    /// When it is too large, too many are waiting, or the connection has ended.
    pub fn try_send(&self, message: Bytes) -> Result<(), ControlError> {
        check_size(message.len())?;
        self.queue.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ControlError::Full,
            mpsc::error::TrySendError::Closed(_) => ControlError::Closed,
        })
    }
}

struct SendTask {
    connection: Connection,
    stream: SendStream,
    messages: mpsc::Receiver<Bytes>,
    next_sequence: u32,
    /// In the order in which they are due.
    copies: VecDeque<(Instant, Bytes)>,
    loss_counters: Vec<LossCounter>,
    /// The data connection, once it is there: the second of those that are counted.
    data: watch::Receiver<Option<Connection>>,
    loss: Loss,
}

impl SendTask {
    async fn run(mut self) {
        loop {
            let due = self.copies.front().map_or_else(Instant::now, |&(due, _)| due);
            tokio::select! {
                biased;
                _ = self.connection.closed() => return,
                message = self.messages.recv() => {
                    let Some(message) = message else { break };
                    if let Err(error) = self.send(message).await {
                        tracing::debug!(%error, "control stream ended");
                        return;
                    }
                }
                () = tokio::time::sleep_until(due), if !self.copies.is_empty() => self.send_copy(),
            }
        }
        self.finish().await;
    }

    /// Sends a message, and with it in one packet all others that are waiting.
    async fn send(&mut self, first: Bytes) -> Result<(), WriteError> {
        let mut frames = BytesMut::new();
        let mut count = 0;
        let mut next = Some(first);
        while let Some(message) = next {
            encode(&message, &mut frames);
            count += 1;
            next = if frames.len() < MAX_COPY_BYTES / 2 { self.messages.try_recv().ok() } else { None };
        }
        let frames = frames.freeze();
        self.schedule_copies(&frames);
        self.next_sequence = self.next_sequence.wrapping_add(count);
        self.stream.write_all_chunks(&mut [frames]).await
    }

    fn schedule_copies(&mut self, frames: &Bytes) {
        if self.loss_counters.len() == 1
            && let Some(connection) = self.data.borrow().clone()
        {
            self.loss_counters.push(LossCounter::new(connection));
        }
        let passed: u64 = self.loss_counters.iter_mut().map(|counter| counter.report(&mut self.loss)).sum();
        let copies = self.loss.copies(passed >= BULK_PACKETS);
        if copies == 0 || frames.len() > MAX_COPY_BYTES {
            return;
        }
        let mut datagram = BytesMut::with_capacity(4 + frames.len());
        datagram.put_u32(self.next_sequence);
        datagram.put_slice(frames);
        let datagram = datagram.freeze();
        let now = Instant::now();
        for number in 1..=copies {
            let due = now + COPY_SPACING * number;
            let index = self.copies.partition_point(|&(other, _)| other <= due);
            self.copies.insert(index, (due, datagram.clone()));
        }
        let excess = self.copies.len().saturating_sub(MAX_WAITING_COPIES);
        self.copies.drain(..excess);
    }

    fn send_copy(&mut self) {
        if let Some((_, datagram)) = self.copies.pop_front() {
            // A copy that cannot be sent is a copy less: the stream has the message.
            if let Err(error) = self.connection.send_datagram(datagram) {
                tracing::trace!(%error, "copy of a control message not sent");
            }
        }
    }

    async fn finish(mut self) {
        while let Some(&(due, _)) = self.copies.front() {
            tokio::time::sleep_until(due).await;
            self.send_copy();
        }
        // Fails only when the stream has ended already.
        let _ = self.stream.finish();
    }
}

/// One connection's losses, as far as they have been counted.
struct LossCounter {
    connection: Connection,
    sent_packets: u64,
    lost_packets: u64,
}

impl LossCounter {
    fn new(connection: Connection) -> Self {
        Self { connection, sent_packets: 0, lost_packets: 0 }
    }

    /// Adds what is new to `loss`; yields how many packets were sent.
    fn report(&mut self, loss: &mut Loss) -> u64 {
        let path = self.connection.stats().path;
        let sent = path.sent_packets.saturating_sub(self.sent_packets);
        loss.add(sent, path.lost_packets.saturating_sub(self.lost_packets));
        (self.sent_packets, self.lost_packets) = (path.sent_packets, path.lost_packets);
        sent
    }
}

/// The share of packets that were lost of late.
#[derive(Clone, Copy, Debug, Default)]
struct Loss {
    sent_packets: u64,
    lost_packets: u64,
}

impl Loss {
    /// Memory: half of what was seen is forgotten after so many packets.
    const MEMORY_PACKETS: u64 = 20_000;
    /// How rarely a message may lose its packet and all copies.
    const ACCEPTED: f64 = 1e-4;
    /// Enough up to a loss of 4.6 %; beyond it, data suffers more than control.
    const MAX_COPIES: u32 = 2;

    fn add(&mut self, sent_packets: u64, lost_packets: u64) {
        self.sent_packets += sent_packets;
        self.lost_packets += lost_packets;
        while self.sent_packets > Self::MEMORY_PACKETS {
            self.sent_packets /= 2;
            self.lost_packets /= 2;
        }
    }

    /// What a path is taken to lose before it has shown otherwise: so many packets in so many.
    const PRIOR: (u64, u64) = (1, 100);

    /// Copies after which all are lost rarely enough.
    ///
    /// A loss is known a round trip late, and what was said until then comes late if it is lost, with all behind it on
    /// the stream. So while bulk is under way, next to which copies cost nothing, a path is expected to lose until it
    /// has shown otherwise. On a quiet path copies would be a good part of the traffic.
    fn copies(self, in_bulk: bool) -> u32 {
        let (lost, sent) = if in_bulk { Self::PRIOR } else { (0, 0) };
        let (lost, sent) = (self.lost_packets + lost, self.sent_packets + sent);
        if sent == 0 {
            return 0;
        }
        let share = (lost as f64 / sent as f64).min(1.0);
        let mut all_lost = share;
        let mut copies = 0;
        while all_lost > Self::ACCEPTED && copies < Self::MAX_COPIES {
            all_lost *= share;
            copies += 1;
        }
        copies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_follow_the_loss() {
        for (sent, lost, quiet, in_bulk) in [
            (0, 0, 0, 1),
            (1000, 0, 0, 1),
            (20_000, 0, 0, 0),
            (20_000, 1, 0, 0),
            (10_000, 10, 1, 1),
            (1000, 10, 1, 1),
            (1000, 30, 2, 2),
        ] {
            let mut loss = Loss::default();
            loss.add(sent, lost);
            assert_eq!((loss.copies(false), loss.copies(true)), (quiet, in_bulk), "{lost} of {sent}");
        }
    }
}
