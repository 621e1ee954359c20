//! What one server counts of what costs money, on top of what the processes before it have counted.
//!
//! Kind: driver.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tracing::debug;
use wan::driver::link::LinkTraffic;
use wan::node::Node;
use wan::transport::{Endpoint, Traffic, bulk_wire_bytes};

use super::setup::Setup;
use crate::human::with_causes;
use crate::service::checkpoint::{Archive, Counts, LinkCounts, ServerCounts, ShardCounts};

/// Where the counts of a server come from.
#[derive(Clone)]
pub(super) struct Counting {
    pub(super) setup: Arc<Setup>,
    pub(super) index: u16,
    /// What the processes before this one have counted.
    pub(super) base: Arc<Counts>,
    /// Keeps it for the next process; none where no checkpoints are made.
    pub(super) archive: Option<Archive>,
    pub(super) traffic: LinkTraffic,
    pub(super) endpoint: Endpoint,
}

impl Counting {
    /// All that has been counted so far. Never less than at any time before.
    pub(super) fn so_far(&self, node: &Node, now: Instant) -> Counts {
        let shards = node.replicas().iter().map(|replica| {
            let counters = replica.filter().counters();
            let mut held_seconds = BTreeMap::new();
            for (why, time) in replica.shard().held(now) {
                *held_seconds.entry(why.name().to_owned()).or_insert(0.0) += time.as_secs_f64();
            }
            let counts = ShardCounts {
                updated_elements: counters.elements_updated,
                shipped_elements: counters.elements_shipped,
                held_seconds,
            };
            (replica.shard().id().0, counts)
        });
        let (shards, server) = (shards.collect(), self.server(node));
        let here = Counts { servers: BTreeMap::from([(self.index, server)]), shards };
        Counts::clone(&self.base).plus(&here)
    }

    /// Has all that has been counted so far in the checkpoints to come.
    pub(super) fn note(&self, node: &Node, now: Instant) {
        if let Some(archive) = &self.archive {
            archive.count(&self.so_far(node, now));
        }
    }

    /// What this process has counted by itself of its WAN socket and links.
    fn server(&self, node: &Node) -> ServerCounts {
        let mut links: BTreeMap<String, BTreeMap<u16, LinkCounts>> = BTreeMap::new();
        for (at, id) in node.peers().enumerate() {
            let sent = node.sent(at);
            let (sent_bytes, received_bytes) = self.traffic.wire_bytes(id);
            let crossed = self.traffic.crossed(id, sent.payload_bytes);
            let link = LinkCounts {
                sent_bytes,
                received_bytes,
                payload_bytes: crossed.payload_bytes,
                repeated_bytes: crossed.repeated_bytes,
                naive_bytes: bulk_wire_bytes(sent.naive_payload_bytes),
                announced_rows: sent.announced_rows,
            };
            links.entry(self.setup.name(id.datacenter).to_owned()).or_default().insert(id.index, link);
        }
        let meter = self.endpoint.meter();
        let (remotes, others) = (meter.remotes(), meter.others());
        let sum = |of: fn(&Traffic) -> u64| remotes.values().map(of).sum::<u64>() + of(&others);
        ServerCounts {
            sent_bytes: sum(|traffic| traffic.sent_bytes),
            received_bytes: sum(|traffic| traffic.received_bytes),
            links,
        }
    }

    /// Keeps what is about to be told, so that the next process does not tell less.
    pub(super) async fn keep(&self, counts: Counts) {
        let Some(archive) = self.archive.clone() else { return };
        let index = self.index;
        #[expect(clippy::disallowed_methods, reason = "this is real time, in which a disk may take long")]
        let writing = tokio::task::spawn_blocking(move || {
            archive.count(&counts);
            archive.keep_counts(index)
        });
        if let Ok(Err(error)) = writing.await {
            // The next checkpoint has them too, and says it louder if it cannot be written.
            debug!(error = with_causes(&error), "counts could not be kept");
        }
    }
}
