//! Why a run has stopped for good: which region is where, and what it waits for.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use datacenter::message::Wait;
use datacenter::{DatacenterId, WorkerId};
use wan::node::Node;

use super::accounting::look;
use super::cluster::Cluster;
use super::site::Running;
use crate::human::seconds;

impl Cluster<'_> {
    /// Ends when nothing has moved for too long.
    pub(super) async fn watch(&self) {
        loop {
            let at = self.watchdog.give_up_at();
            if at <= self.time.now() {
                return;
            }
            self.time.sleep_until(at).await;
        }
    }

    /// What every region waits for.
    pub(super) async fn stalled(&self, sites: &[Running]) -> Stalled {
        let mut waits = vec![BTreeSet::new(); sites.len()];
        let mut unconfirmed = Vec::new();
        for (at, site) in sites.iter().enumerate() {
            let mut behind = BTreeSet::new();
            for server in &site.servers {
                let (held, peers) = look(server, reasons).await;
                behind.extend(peers);
                for (worker, why) in held {
                    waits[self.topology.site_of(at, worker)].insert(self.in_words(why));
                }
            }
            unconfirmed.push(behind);
        }
        let clocks = self.simulation.job.clocks;
        let stuck = self.topology.sites.iter().zip(waits).zip(unconfirmed).map(|((site, held), peers)| {
            let clock = site.workers.iter().map(|worker| self.watchdog.clock(worker.part)).min().unwrap_or(0);
            let waits_for = if clock == clocks {
                peers
                    .into_iter()
                    .map(|peer| format!("{} to confirm its last updates", self.name(peer)))
                    .collect()
            } else if held.is_empty() {
                vec!["answers to its reads (network)".to_owned()]
            } else {
                held.into_iter().collect()
            };
            Stuck { region: site.name.clone(), clock, waits_for }
        });
        Stalled {
            still: self.time.now().saturating_sub(self.watchdog.still_since()),
            clocks,
            regions: stuck.filter(|stuck| !stuck.waits_for.is_empty()).collect(),
        }
    }

    fn in_words(&self, why: Wait) -> String {
        match why {
            Wait::Stale => "the updates of other workers (stale)".to_owned(),
            Wait::Barrier(peer) => format!("rows announced by {} (barrier)", self.name(peer)),
            Wait::MirrorClock(peer) => format!("the clock of {} (mirror clock)", self.name(peer)),
            Wait::Fetching => "its state (fetching)".to_owned(),
        }
    }

    fn name(&self, datacenter: DatacenterId) -> &str {
        self.topology.sites.get(datacenter.index()).map_or("?", |site| &site.name)
    }
}

/// Whose reads are held and why, and which peers have not confirmed everything.
fn reasons(node: &Node) -> (Vec<(WorkerId, Wait)>, Vec<DatacenterId>) {
    let held = node.replicas().iter().flat_map(|replica| replica.shard().waiting());
    let is_behind = |at: usize| node.replicas().iter().any(|replica| !replica.outbox(at).is_drained());
    let behind = node.datacenters().enumerate().filter(|(at, _)| is_behind(*at)).map(|(_, peer)| peer);
    (held.collect(), behind.collect())
}

/// A run in which nothing moves any more.
#[derive(Clone, Debug, PartialEq)]
pub struct Stalled {
    /// For how long.
    still: Duration,
    /// How many clocks there were to do.
    clocks: u32,
    /// The regions that are not done.
    regions: Vec<Stuck>,
}

/// A region that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stuck {
    region: String,
    /// The clock of its slowest worker.
    clock: u32,
    /// What for, in words; each reason once.
    waits_for: Vec<String>,
}

impl std::error::Error for Stalled {}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 4;
        write!(f, "given up after {} without progress", seconds(self.still.as_secs_f64()))?;
        for stuck in self.regions.iter().take(SHOWN) {
            let Stuck { region, clock, waits_for } = stuck;
            write!(
                f,
                "\n  {region}, at clock {clock} of {}, waits for {}",
                self.clocks,
                waits_for.join(", ")
            )?;
        }
        if self.regions.len() > SHOWN {
            write!(f, "\n  and {} more regions", self.regions.len() - SHOWN)?;
        }
        // See `LONGEST_OUTAGE`.
        f.write_str("\nIs a link down for more than a day, or too thin?")
    }
}
