//! Counts what really crosses the wire, for each remote address.
//!
//! Kind: driver.
//!
//! What a WAN provider charges for is bytes on the wire: payload, QUIC's framing, acknowledgements,
//! retransmissions and the IP and UDP headers around them. Connections know only their part of it.
//! So the socket counts: [`CountingSocket`] wraps any socket of quinn's, emulated or real, and
//! changes nothing.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, ready},
};

use emulation::link::{IPV4_HEADER_BYTES, wire_bytes};
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

/// The smallest headers that QUIC puts around data: of a packet with its tag, 26 bytes, and of a
/// stream frame, two.
pub const PACKET_HEADER_BYTES: u64 = 28;
/// A knock: the shortest datagram that is answered with a stateless reset. That has 16 bytes of
/// token and five more, and one that answered it in turn would be shorter than a reset can be.
pub(super) const KNOCK_BYTES: usize = 22;
const ANSWER_BYTES: usize = KNOCK_BYTES - 1;
/// Anyone can send us datagrams from any address: beyond this many, addresses share one count.
const MAX_REMOTES: usize = 4096;

/// The bytes that `payload_bytes` of bulk data take on the wire in full packets over IPv4: an
/// estimate for traffic that was not sent.
///
/// A packet of 1452 bytes of UDP payload carries 1424 of frames' payload at QUIC's smallest
/// headers; acknowledgements and retransmissions are not counted, which favours whoever is
/// estimated.
pub fn bulk_wire_bytes(payload_bytes: u64) -> u64 {
    const PACKET_PAYLOAD_BYTES: u64 = 1424;
    const PACKET_OVERHEAD_BYTES: u64 = PACKET_HEADER_BYTES + IPV4_HEADER_BYTES;
    payload_bytes + payload_bytes.div_ceil(PACKET_PAYLOAD_BYTES) * PACKET_OVERHEAD_BYTES
}

/// Datagrams and bytes on the wire; all numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams sent.
    pub sent_datagrams: u64,
    /// Their bytes on the wire.
    pub sent_bytes: u64,
    /// Datagrams received.
    pub received_datagrams: u64,
    /// Their bytes on the wire.
    pub received_bytes: u64,
}

/// A socket that counts.
#[derive(Debug)]
pub struct CountingSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    remotes: BTreeMap<SocketAddr, Traffic>,
    others: Traffic,
    /// By address that was knocked at: how often it was answered.
    answers: BTreeMap<SocketAddr, u64>,
}

impl Counts {
    fn of(&mut self, remote: SocketAddr) -> &mut Traffic {
        if self.remotes.len() >= MAX_REMOTES && !self.remotes.contains_key(&remote) {
            return &mut self.others;
        }
        self.remotes.entry(remote).or_default()
    }
}

impl CountingSocket {
    /// Counts what passes through `inner` from now on.
    pub fn new(inner: Arc<dyn AsyncUdpSocket>) -> Arc<Self> {
        Arc::new(Self { inner, counts: Mutex::default() })
    }

    /// What was exchanged with `remote`.
    pub fn traffic(&self, remote: SocketAddr) -> Traffic {
        self.counts().remotes.get(&remote).copied().unwrap_or_default()
    }

    /// What was exchanged with each remote address.
    pub fn remotes(&self) -> BTreeMap<SocketAddr, Traffic> {
        self.counts().remotes.clone()
    }

    /// What was exchanged with addresses beyond the first 4096.
    pub fn others(&self) -> Traffic {
        self.counts().others
    }

    /// Knocks at `remote`, with a datagram of a few bytes that belongs to no connection: `id` is
    /// that of none. Yields how often it has answered so far.
    ///
    /// QUIC answers a packet of a connection that it does not know, or no longer, with a stateless
    /// reset (RFC 9000, section 10.3), which is shorter than what it answers. So whether somebody
    /// is there costs 50 bytes, where the first packet of a handshake costs 1228.
    pub(super) async fn knock(
        self: Arc<Self>,
        remote: SocketAddr,
        mut id: [u8; KNOCK_BYTES],
    ) -> io::Result<u64> {
        let answered = *self.counts().answers.entry(remote).or_default();
        // A short header, with the bit that is fixed.
        id[0] = (id[0] & 0x3f) | 0x40;
        let contents = &id[..];
        let knock = Transmit { destination: remote, ecn: None, contents, segment_size: None, src_ip: None };
        let mut poller = self.clone().create_io_poller();
        while let Err(error) = self.try_send(&knock) {
            match error.kind() {
                io::ErrorKind::WouldBlock => {
                    poll_fn(|context| poller.as_mut().poll_writable(context)).await?
                }
                _ => return Err(error),
            }
        }
        Ok(answered)
    }

    /// How often `remote` has answered a knock.
    pub(super) fn answered(&self, remote: SocketAddr) -> u64 {
        self.counts().answers.get(&remote).copied().unwrap_or_default()
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("no one panics while counting")
    }
}

impl AsyncUdpSocket for CountingSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)?;
        let segment_bytes = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        let mut counts = self.counts();
        let traffic = counts.of(transmit.destination);
        for segment in transmit.contents.chunks(segment_bytes) {
            traffic.sent_datagrams += 1;
            traffic.sent_bytes += wire_bytes(transmit.destination.ip(), segment.len());
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(self.inner.poll_recv(context, buffers, meta))?;
        let mut counts = self.counts();
        for received in &meta[..count] {
            // No packet of a connection is so short.
            if received.len == ANSWER_BYTES
                && let Some(answers) = counts.answers.get_mut(&received.addr)
            {
                *answers += 1;
            }
            let traffic = counts.of(received.addr);
            // One buffer may hold several datagrams of `stride` bytes, the last one shorter.
            let datagrams = received.len.div_ceil(received.stride.max(1)).max(1) as u64;
            traffic.received_datagrams += datagrams;
            traffic.received_bytes += received.len as u64 + datagrams * wire_bytes(received.addr.ip(), 0);
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_depend_on_the_family() {
        assert_eq!(wire_bytes("10.0.0.1".parse().unwrap(), 1472), 1500);
        assert_eq!(wire_bytes("2001:db8::1".parse().unwrap(), 1452), 1500);
        assert_eq!(wire_bytes("::ffff:10.0.0.1".parse().unwrap(), 1472), 1500);
    }
}
