//! What a run cost: bytes on every link, and what filters saw.

use std::sync::atomic::Ordering;

use tokio::sync::oneshot;
use wan::driver::server::Event;
use wan::emulation::host_address;
use wan::filter::FilterCounters;
use wan::message::ServerId;
use wan::node::{Node, Sent};
use wan::transport::{Endpoint, bulk_wire_bytes};

use super::cluster::Cluster;
use super::recorder::copy_shards;
use super::site::{Running, server_id};
use crate::model::ShardValues;
use crate::outcome::LinkBytes;

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
            let total = site.endpoint.meter().traffic(host_address(other as u32)).sent_bytes;
            let peer = server_id(other);
            let sent = sent.iter().find(|(id, _)| *id == peer).map(|(_, sent)| *sent).unwrap_or_default();
            let payload = sent.payload_bytes + site.stretched_payload[other].load(Ordering::Relaxed);
            // A run ends when all updates are confirmed: what they carry has crossed. Of a stretched one the last answers
            // may be on their way.
            let crossed = site.tally.crossed_bytes(peer);
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

pub(super) fn wan_bytes(endpoint: &Endpoint) -> u64 {
    endpoint.meter().remotes().values().map(|traffic| traffic.sent_bytes).sum()
}

pub(super) type Inspected = (Vec<(usize, ShardValues)>, FilterCounters, Vec<(ServerId, Sent)>);

/// The final state of a site's node.
pub(super) async fn inspect(site: &Running) -> Inspected {
    look(site, |node| {
        let mut counters = FilterCounters::default();
        for one in node.replicas().iter().map(|r| r.filter().counters()) {
            counters.elements_updated += one.elements_updated;
            counters.elements_shipped += one.elements_shipped;
            counters.naive_payload_bytes += one.naive_payload_bytes;
        }
        let sent = node.peers().enumerate().map(|(at, id)| (id, node.sent(at))).collect();
        (copy_shards(node), counters, sent)
    })
    .await
}

/// What `see` makes of a site's node.
pub(super) async fn look<T: Send + 'static>(
    site: &Running,
    see: impl FnOnce(&Node) -> T + Send + 'static,
) -> T {
    let (answer, seen) = oneshot::channel();
    let look = move |node: &Node| _ = answer.send(see(node));
    let sent = site.events.send(Event::Inspect(Box::new(look))).await;
    assert!(sent.is_ok(), "a site's server runs as long as its channels");
    seen.await.expect("a server answers every look")
}
