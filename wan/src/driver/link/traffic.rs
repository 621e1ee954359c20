//! What crosses the links of a process, over all connections to each peer.
//!
//! Kind: driver.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quinn::Connection;

use crate::message::ServerId;
use crate::metrics::{LinkLabels, LinkMetrics};
use emulation::link::wire_bytes;

use crate::transport::PACKET_HEADER_BYTES;

/// What crossed to each peer for the sake of payload, over all its connections so far: payload, and
/// what QUIC or the protocol sent again.
///
/// QUIC does not tell which of the bytes written to a stream have left. On a connection that lives
/// until all is confirmed they all have, and beside them the packets that were lost. One that
/// breaks takes down with it what was written and still waited for its turn; but it cannot have
/// carried more than it sent. So what crossed on a connection is the lesser of the two: the payload
/// written to it and the bytes of its lost packets, or all that it sent but for the headers of
/// packets.
#[derive(Clone, Debug, Default)]
pub struct LinkTraffic {
    peers: Arc<Mutex<BTreeMap<ServerId, PeerTraffic>>>,
    labels: LinkLabels,
}

#[derive(Debug, Default)]
struct PeerTraffic {
    /// On connections that are closed.
    crossed_bytes: u64,
    /// Sent and received on them, likewise.
    wire_bytes: (u64, u64),
    open: Vec<Counted>,
    /// The most that was told: a path that changes begins to count its losses anew, and payload
    /// that is handed to a connection before it is written to it takes the place of what was
    /// repeated. Neither takes back what was told.
    told: Crossed,
}

/// What crossed to a peer for the sake of payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crossed {
    /// Payload, each byte counted once.
    pub payload_bytes: u64,
    /// What was sent again.
    pub repeated_bytes: u64,
}

impl Crossed {
    /// What is to be told after `self`, where `crossed_bytes` have crossed by now, and
    /// `payload_bytes` of payload were handed over. Neither number ever falls.
    fn then(self, crossed_bytes: u64, payload_bytes: u64) -> Self {
        let crossed_bytes = crossed_bytes.max(self.payload_bytes + self.repeated_bytes);
        let repeated_bytes = crossed_bytes.saturating_sub(payload_bytes).max(self.repeated_bytes);
        Self { payload_bytes: crossed_bytes - repeated_bytes, repeated_bytes }
    }
}

#[derive(Debug)]
struct Counted {
    connection: Connection,
    /// Payload written to its streams.
    written: Arc<AtomicU64>,
}

impl Counted {
    fn wire_bytes(&self) -> (u64, u64) {
        let stats = self.connection.stats();
        let headers = |datagrams: u64| datagrams * wire_bytes(self.connection.remote_address().ip(), 0);
        let bytes = |side: &quinn::UdpStats| side.bytes + headers(side.datagrams);
        (bytes(&stats.udp_tx), bytes(&stats.udp_rx))
    }

    fn crossed_bytes(&self) -> u64 {
        let stats = self.connection.stats();
        let most = self.written.load(Ordering::Relaxed) + stats.path.lost_bytes;
        // A datagram too small for its share of headers carries no data either.
        most.min(stats.udp_tx.bytes.saturating_sub(stats.udp_tx.datagrams * PACKET_HEADER_BYTES))
    }
}

impl LinkTraffic {
    /// Of the links that metrics call so.
    pub fn new(labels: LinkLabels) -> Self {
        Self { peers: Arc::default(), labels }
    }

    /// Metrics of the link to `peer`, which are there from now on.
    pub fn metrics(&self, peer: ServerId) -> LinkMetrics {
        self.labels.link(peer)
    }

    /// Counts these connections to `peer` too, each with the payload that is written to it.
    pub fn begin<'a>(
        &self,
        peer: ServerId,
        connections: impl IntoIterator<Item = (&'a Connection, Arc<AtomicU64>)>,
    ) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let traffic = peers.entry(peer).or_default();
        let (closed, open): (Vec<_>, Vec<_>) = std::mem::take(&mut traffic.open)
            .into_iter()
            .partition(|c| c.connection.close_reason().is_some());
        for counted in &closed {
            let (sent, received) = counted.wire_bytes();
            traffic.crossed_bytes += counted.crossed_bytes();
            traffic.wire_bytes = (traffic.wire_bytes.0 + sent, traffic.wire_bytes.1 + received);
        }
        traffic.open = open;
        let counted =
            |(connection, written): (&Connection, _)| Counted { connection: connection.clone(), written };
        traffic.open.extend(connections.into_iter().map(counted));
    }

    /// Bytes on the wire to `peer` and from it, over all its connections so far, headers of IP and
    /// UDP included.
    pub fn wire_bytes(&self, peer: ServerId) -> (u64, u64) {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(traffic) = peers.get(&peer) else { return (0, 0) };
        let open = traffic.open.iter().map(Counted::wire_bytes);
        open.fold(traffic.wire_bytes, |(sent, received), (more, back)| (sent + more, received + back))
    }

    /// What crossed to `peer`, where `payload_bytes` of payload were handed to its link, each
    /// counted once. Neither number ever falls.
    pub fn crossed(&self, peer: ServerId, payload_bytes: u64) -> Crossed {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(traffic) = peers.get_mut(&peer) else { return Crossed::default() };
        traffic.told = traffic.told.then(traffic.crossed_bytes(), payload_bytes);
        traffic.told
    }

    /// Bytes of payload that crossed to `peer`, with what crossed again. No less than the payload
    /// that `peer` has confirmed, and less than what the socket sent to it.
    pub fn crossed_bytes(&self, peer: ServerId) -> u64 {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.get(&peer).map_or(0, PeerTraffic::crossed_bytes)
    }
}

impl PeerTraffic {
    fn crossed_bytes(&self) -> u64 {
        self.crossed_bytes + self.open.iter().map(Counted::crossed_bytes).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_to_have_crossed_is_never_taken_back() {
        // Handed over, and crossed: the last update is not written yet; a new path has lost nothing
        // so far; all is well again.
        let seen = [(90, 100), (140, 100), (140, 150), (140, 145), (200, 230)];
        let told: Vec<_> = seen
            .iter()
            .scan(Crossed::default(), |told, (payload, crossed)| {
                *told = told.then(*crossed, *payload);
                Some((told.payload_bytes, told.repeated_bytes))
            })
            .collect();
        assert_eq!(told, [(90, 10), (90, 10), (140, 10), (140, 10), (200, 30)]);
    }
}
