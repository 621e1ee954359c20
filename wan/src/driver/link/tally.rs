//! What crosses the links of a process, over all connections to each peer.
//!
//! Kind: driver.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quinn::Connection;

use crate::message::ServerId;
use crate::transport::{PACKET_HEADER_BYTES, wire_bytes};

/// What crossed to each peer for the sake of payload, over all its connections so far: payload, and what QUIC or the
/// protocol sent again.
///
/// QUIC does not tell which of the bytes written to a stream have left. On a connection that lives until all is
/// confirmed they all have, and beside them the packets that were lost. One that breaks takes down with it what was
/// written and still waited for its turn; but it cannot have carried more than it sent. So what crossed on a connection
/// is the lesser of the two: the payload written to it and the bytes of its lost packets, or all that it sent but for the
/// headers of packets.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<ServerId, PeerTally>>>);

#[derive(Debug, Default)]
struct PeerTally {
    /// On connections that are closed.
    crossed_bytes: u64,
    /// Sent and received on them, likewise.
    wire_bytes: (u64, u64),
    open: Vec<Counted>,
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

impl Tally {
    /// Counts these connections to `peer` too, each with the payload that is written to it.
    pub fn begin<'a>(
        &self,
        peer: ServerId,
        connections: impl IntoIterator<Item = (&'a Connection, Arc<AtomicU64>)>,
    ) {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = peers.entry(peer).or_default();
        let (closed, open): (Vec<_>, Vec<_>) =
            std::mem::take(&mut tally.open).into_iter().partition(|c| c.connection.close_reason().is_some());
        for counted in &closed {
            let (sent, received) = counted.wire_bytes();
            tally.crossed_bytes += counted.crossed_bytes();
            tally.wire_bytes = (tally.wire_bytes.0 + sent, tally.wire_bytes.1 + received);
        }
        tally.open = open;
        let counted =
            |(connection, written): (&Connection, _)| Counted { connection: connection.clone(), written };
        tally.open.extend(connections.into_iter().map(counted));
    }

    /// Bytes on the wire to `peer` and from it, over all its connections so far, headers of IP and UDP included.
    pub fn wire_bytes(&self, peer: ServerId) -> (u64, u64) {
        let peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tally) = peers.get(&peer) else { return (0, 0) };
        let open = tally.open.iter().map(Counted::wire_bytes);
        open.fold(tally.wire_bytes, |(sent, received), (more, back)| (sent + more, received + back))
    }

    /// Bytes of payload that crossed to `peer`, with what crossed again. No less than the payload that `peer` has
    /// confirmed, and less than what the socket sent to it.
    pub fn crossed_bytes(&self, peer: ServerId) -> u64 {
        let peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        peers
            .get(&peer)
            .map_or(0, |t| t.crossed_bytes + t.open.iter().map(Counted::crossed_bytes).sum::<u64>())
    }
}
