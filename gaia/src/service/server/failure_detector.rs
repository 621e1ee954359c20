//! Which *workers* are gone; which other regions are silent is `wan::node`'s business.
//!
//! Kind: driver.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datacenter::lan::Presence;
use datacenter::local::Call;
use datacenter::shard::Shard;
use datacenter::{Clock, WorkerId};
use metrics::Counter;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};
use tracing::warn;
use wan::driver::queue::EventSender;
use wan::node::Node;
use wan::replica::Replica;

use super::look;
use crate::service::admin;

/// How often it is looked for workers that are gone.
const LOOK_FOR_LOSSES: Duration = Duration::from_secs(1);

/// How often the others went on without a worker: for the status, and recorded. Clones count
/// together.
#[derive(Clone)]
pub(in crate::service) struct Suspensions {
    count: Arc<AtomicU64>,
    recorded: Counter,
}

impl Suspensions {
    /// Of the workers of this server.
    pub(super) fn new(server: u16) -> Self {
        Self { count: Arc::default(), recorded: admin::suspensions(server) }
    }

    fn count(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.recorded.increment(1);
    }

    /// How many so far.
    pub(in crate::service) fn so_far(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// Looks after workers that train: those of which nothing is heard for too long are not waited for
/// any more.
pub(super) struct WorkerFailureDetector {
    pub(super) events: EventSender,
    pub(super) calls: mpsc::Sender<Call>,
    pub(super) presence: watch::Receiver<Presence>,
    pub(super) grace: Duration,
    pub(super) suspensions: Suspensions,
}

impl WorkerFailureDetector {
    pub(super) async fn keep(self) {
        loop {
            sleep(LOOK_FOR_LOSSES).await;
            let Some((live, clock)) = look(&self.events, live_workers).await else { return };
            let overdue = {
                let presence = self.presence.borrow();
                presence.overdue(live, clock > Clock(0), self.grace, Instant::now())
            };
            for (worker, loss) in overdue {
                let (answer, is_suspended) = oneshot::channel();
                if self.calls.send(Call::Suspend { worker, answer }).await.is_err() {
                    return;
                }
                if is_suspended.await == Ok(true) {
                    self.suspensions.count();
                    let (unheard, reason) = (loss.since.elapsed(), loss.why.unwrap_or_default());
                    warn!(
                        worker = worker.0,
                        ?unheard,
                        reason,
                        "a worker is gone: the others go on without it"
                    );
                }
            }
        }
    }
}

/// Who trains here, and the latest clock that a shard has completed.
fn live_workers(node: &Node) -> (BTreeSet<WorkerId>, Clock) {
    let shards = || node.replicas().iter().map(Replica::shard);
    let live = shards().flat_map(Shard::live_workers).map(|(worker, _)| worker);
    (live.collect(), shards().map(Shard::clock).max().unwrap_or_default())
}
