//! What a run cost: bytes on every link, and what filters saw.

use std::sync::atomic::Ordering;

use tokio::sync::oneshot;
use wan::driver::server::Event;
use wan::filter::FilterCounters;
use wan::message::ServerId;
use wan::node::{Node, Sent};
use wan::transport::bulk_wire_bytes;

use super::cluster::Cluster;
use super::recorder::copy_shards;
use super::site::{Running, RunningServer, server_address, server_id};
use crate::learning::application::ShardValues;
use crate::simulator::results::LinkBytes;

impl Cluster<'_> {
    pub(super) fn link_bytes(
        &self,
        at: usize,
        sites: &[Running],
        sent: &[(ServerId, Sent)],
    ) -> Vec<LinkBytes> {
        let others = (0..sites.len()).filter(|other| *other != at);
        let link = |other: usize| {
            let site = &sites[at];
            let there = || 0..sites[other].servers.len();
            let total = |server: &RunningServer| {
                let traffic = server.endpoint.meter().remotes();
                there()
                    .filter_map(|i| traffic.get(&server_address(other, i)))
                    .map(|t| t.sent_bytes)
                    .sum::<u64>()
            };
            let crossed = |server: &RunningServer| {
                there().map(|i| server.traffic.crossed_bytes(server_id(other, i))).sum::<u64>()
            };
            let sent = sent.iter().filter(|(id, _)| id.datacenter.index() == other);
            let payload = sent.map(|(_, sent)| sent.payload_bytes).sum::<u64>()
                + site.stretched_payload[other].load(Ordering::Relaxed);
            // A run ends when all updates are confirmed: what they carry has crossed. Of a
            // stretched one the last answers may be on their way.
            let total: u64 = site.servers.iter().map(total).sum();
            let crossed: u64 = site.servers.iter().map(crossed).sum();
            let payload = payload.min(crossed);
            LinkBytes {
                from: self.topology.sites[at].name.clone(),
                to: self.topology.sites[other].name.clone(),
                payload,
                framing: total.checked_sub(crossed).expect("a socket sends all that its connections do"),
                retransmitted: crossed - payload,
                total,
            }
        };
        others.map(link).filter(|link| link.total > 0).collect()
    }
}

/// Sums over sites.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) links: Vec<LinkBytes>,
    pub(super) updated: u64,
    pub(super) shipped: u64,
    pub(super) naive_wan_bytes: u64,
}

impl Totals {
    pub(super) fn add_filter(&mut self, counters: FilterCounters, peers: u64) {
        self.updated += counters.elements_updated;
        self.shipped += counters.elements_shipped;
        self.naive_wan_bytes += peers * bulk_wire_bytes(counters.naive_payload_bytes);
    }
}

pub(super) type Inspected = (Vec<(usize, ShardValues)>, FilterCounters, Vec<(ServerId, Sent)>);

/// The final state of a server's node.
pub(super) async fn inspect(server: &RunningServer) -> Inspected {
    look(server, |node| {
        let counters = node.replicas().iter().map(|replica| replica.filter().counters()).sum();
        let sent = node.peers().enumerate().map(|(at, id)| (id, node.sent(at))).collect();
        (copy_shards(node), counters, sent)
    })
    .await
}

/// What `see` makes of a server's node.
pub(super) async fn look<T: Send + 'static>(
    server: &RunningServer,
    see: impl FnOnce(&Node) -> T + Send + 'static,
) -> T {
    let (answer, seen) = oneshot::channel();
    let look = move |node: &Node| _ = answer.send(see(node));
    let sent = server.events.send(Event::Inspect(Box::new(look))).await;
    assert!(sent.is_ok(), "a server runs as long as its channels");
    seen.await.expect("a server answers every look")
}
