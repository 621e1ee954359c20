//! The metrics of this crate's drivers: name, unit, labels and meaning of each.
//!
//! They are recorded in the node's task, through the facade of the crate `metrics`; see
//! [`datacenter::metrics`] for who listens. What crosses a socket in bytes of the wire is counted
//! [there](crate::transport::Endpoint::meter) and by [`LinkTraffic`](crate::driver::link::LinkTraffic),
//! for whoever asks: packets are too many to tell of each.
//!
//! **Invariant:** the number of series is bounded by the links that are configured. A peer says no
//! more of its labels than the number of its server, once the node has taken a link with it.
//!
//! Kind: driver.

use std::sync::Arc;

use datacenter::metrics::{Metric, Unit};
use datacenter::{DatacenterId, printable};
use metrics::{Counter, Histogram, counter, histogram};

use crate::message::ServerId;

const CONNECTS: &str = "gaia_link_connects_total";
const SENT_UPDATE_BYTES: &str = "gaia_link_sent_update_bytes";
const RECEIVED_UPDATE_BYTES: &str = "gaia_link_received_update_bytes";

const LINK: &[&str] = &["server", "peer", "peer_server"];

/// All metrics of this crate.
pub static METRICS: [Metric; 3] = [
    Metric::counter(CONNECTS, Unit::None, LINK, "How often the link has come up"),
    Metric::sizes(SENT_UPDATE_BYTES, LINK, "Payload of each update that was handed to the link"),
    Metric::sizes(RECEIVED_UPDATE_BYTES, LINK, "Payload of each update that came over the link"),
];

/// What the links of a server are called in metrics.
#[derive(Clone, Debug, Default)]
pub struct LinkLabels {
    server: u16,
    datacenters: Arc<[String]>,
}

impl LinkLabels {
    /// For the links of `server`; `datacenters` has the names of all, by id.
    pub fn new(server: u16, datacenters: impl IntoIterator<Item = String>) -> Self {
        Self { server, datacenters: datacenters.into_iter().map(printable::line_of).collect() }
    }

    /// Metrics of the link to `peer`, which are there from now on.
    pub fn link(&self, peer: ServerId) -> LinkMetrics {
        let labels = [
            ("server", self.server.to_string()),
            ("peer", self.name(peer.datacenter)),
            ("peer_server", peer.index.to_string()),
        ];
        LinkMetrics {
            connects: counter!(CONNECTS, &labels),
            sent_update_bytes: histogram!(SENT_UPDATE_BYTES, &labels),
            received_update_bytes: histogram!(RECEIVED_UPDATE_BYTES, &labels),
        }
    }

    /// A datacenter that has no name here is called by its number.
    fn name(&self, datacenter: DatacenterId) -> String {
        self.datacenters.get(datacenter.index()).cloned().unwrap_or_else(|| datacenter.0.to_string())
    }
}

/// Metrics of one link.
#[derive(Clone, Debug)]
pub struct LinkMetrics {
    /// How often it has come up.
    pub connects: Counter,
    /// Sizes of updates sent; their number is that of messages.
    pub sent_update_bytes: Histogram,
    /// Of those received.
    pub received_update_bytes: Histogram,
}
