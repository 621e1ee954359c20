//! How a server ends: its workers leave, everything is shipped and kept, and the others hear
//! goodbye.
//!
//! Kind: driver.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use datacenter::message::{Notice, Request};
use datacenter::{ShardId, WorkerId};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};
use wan::driver::link::Goodbye;
use wan::node::Node;
use wan::replica::Replica;

use super::Server;
use crate::service::ServiceError;

/// Of the time that a server has to stop, what it keeps for shipping: workers have the rest to end
/// their clocks.
const SHIPPING: f64 = 0.25;

/// How often something that has no signal of its own is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// For how long others may take to confirm that they have heard goodbye.
const FAREWELL: Duration = Duration::from_secs(3);

/// For how long workers may take to hear that there is nobody to train with.
const LAST_NOTICE: Duration = Duration::from_secs(5);

impl Server {
    /// Hands over what there is: asks the workers to leave at the end of their clocks, ships
    /// everything, and waits until all peers that are there have confirmed it. Workers that are not
    /// connected are not waited for.
    ///
    /// # Errors
    ///
    /// With whose clock did not end, or what was not delivered, within the time that the settings
    /// allow.
    pub(in crate::service) async fn drain(&self) -> Result<(), ServiceError> {
        let (started, within) = (Instant::now(), self.setup.region.drain);
        if *self.notice.borrow() == Notice::Serving {
            let departs = *self.departing.borrow();
            self.notice.send_replace(if departs { Notice::Departing } else { Notice::Leaving });
        }
        match self.look(Node::has_begun).await {
            Some(false) => info!(server = self.index, "the job has not begun: nothing was trained"),
            _ => info!(server = self.index, "draining: waiting for workers to end their clocks"),
        }
        let mut unfinished = BTreeSet::new();
        while self.look(Node::is_idle).await == Some(false) {
            let is_late = started.elapsed() > within.mul_f64(1.0 - SHIPPING);
            unfinished.extend(self.take_out_workers(is_late).await);
            sleep(LOOK).await;
        }
        info!(server = self.index, "draining: shipping what is left");
        let left = within.saturating_sub(started.elapsed());
        let delivered = timeout(left, async {
            while self.look(Node::is_drained).await == Some(false) {
                sleep(LOOK).await;
            }
        });
        if delivered.await.is_ok() {
            let names: Vec<_> = unfinished.iter().map(|worker: &WorkerId| worker.to_string()).collect();
            return match names.is_empty() {
                true => Ok(()),
                false => Err(ServiceError::Unfinished(names.join(", "))),
            };
        }
        let undelivered = self.look(undelivered).await.unwrap_or_default();
        let name =
            |(at, bytes): &(usize, u64)| format!("{bytes} bytes for {}", self.setup.region.peers[*at].name);
        let what: Vec<_> = undelivered.iter().map(name).collect();
        Err(ServiceError::Undelivered(format!("server {}: {}", self.index, what.join(", "))))
    }

    /// Takes out workers that are gone, and where it is late all the others too; yields these. As
    /// long as none may join there is no clock that one could end.
    async fn take_out_workers(&self, is_late: bool) -> BTreeSet<WorkerId> {
        let mut unfinished = BTreeSet::new();
        let may_train = self.look(Node::is_ready).await.unwrap_or_default();
        let live = self.look(|node| {
            let live = |replica: &Replica| {
                let id = replica.shard().id();
                replica.shard().live_workers().map(|(worker, _)| (id, worker)).collect::<Vec<_>>()
            };
            node.replicas().iter().flat_map(live).collect::<Vec<_>>()
        });
        for (shard, worker) in live.await.unwrap_or_default() {
            if may_train && self.is_connected(worker) {
                if !is_late {
                    continue;
                }
                unfinished.insert(worker);
            }
            if may_train {
                warn!(shard = shard.0, worker = worker.0, "draining without a worker that has not left");
            }
            let _ = self.requests.send((shard, Request::Leave(worker))).await;
        }
        unfinished
    }

    /// Returns once an operator wants the region to leave for good.
    pub(in crate::service) async fn departing(&self) {
        let _ = self.departing.subscribe().wait_for(|departing| *departing).await;
    }

    /// It has nothing left to hand over, and will say goodbye for good. One that was not asked to
    /// leave is now.
    pub(in crate::service) fn depart(&self) {
        *self.goodbye.lock().unwrap_or_else(PoisonError::into_inner) = Goodbye::ForGood;
    }

    /// The other servers of this process leave as well.
    pub(in crate::service) fn set_departing(&self) {
        self.departing.send_replace(true);
    }

    /// Returns once others have said that the region has left for good, with what they said.
    pub(in crate::service) async fn expelled(&self) -> String {
        let mut expelled = self.expelled.subscribe();
        let reason = expelled.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_default()
    }

    /// Tells workers that the region has left for good, and waits a little until they have heard
    /// it.
    pub(in crate::service) async fn tell_expelled(&self) {
        self.notice.send_replace(Notice::Expelled);
        if self.listens_to_workers {
            // Also those who are not connected yet, and would wait for ever.
            sleep(LAST_NOTICE).await;
        }
    }

    /// Makes a checkpoint of everything now, and waits until it is written, if checkpoints are
    /// kept.
    ///
    /// # Errors
    ///
    /// If it could not be written.
    pub(in crate::service) async fn save(&self) -> Result<(), ServiceError> {
        let Some(keeper) = self.keeper.clone() else { return Ok(()) };
        let here = self.setup.datacenter(&self.setup.region.name).expect("a region is a member");
        let kept = keeper.clone();
        let (counting, now) = (self.counting.clone(), Instant::now().into_std());
        let offered = self.look(move |node| {
            counting.note(node, now);
            for replica in node.replicas() {
                match replica.may_be_kept() {
                    true => kept.offer(replica.state(here)),
                    false => warn!(
                        shard = replica.shard().id().0,
                        "no checkpoint: another region may still have releases of this one that were lost; the last one stays"
                    ),
                }
            }
        });
        if offered.await.is_some() && timeout(self.setup.region.drain, self.kept()).await.is_err() {
            let problem = "it took longer than `drain`".to_owned();
            return Err(self.not_kept(self.setup.shards_of(self.index).next(), problem));
        }
        self.check_kept()
    }

    /// Whether the last checkpoint of each shard could be written.
    ///
    /// # Errors
    ///
    /// With the first that could not.
    pub(in crate::service) fn check_kept(&self) -> Result<(), ServiceError> {
        let Some(keeper) = &self.keeper else { return Ok(()) };
        let problem = |shard| Some((shard, keeper.status(shard).problem?));
        match self.setup.shards_of(self.index).find_map(problem) {
            None => Ok(()),
            Some((shard, problem)) => Err(self.not_kept(Some(shard), problem)),
        }
    }

    /// That a checkpoint could not be written, with what is safe.
    fn not_kept(&self, shard: Option<ShardId>, problem: String) -> ServiceError {
        let kept = |shard| self.keeper.as_ref().and_then(|keeper| keeper.status(shard).kept);
        let safe = self.setup.shards_of(self.index).map(|shard| kept(shard).map(|kept| kept.clock));
        // A model is as old as the oldest of its shards.
        let safe = safe.min().flatten();
        ServiceError::NotKept { shard: shard.map_or(0, |shard| shard.0), problem, safe }
    }

    /// Waits until every checkpoint that was asked for is written.
    pub(in crate::service) async fn kept(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.idle().await;
        }
    }

    /// Says goodbye to other regions and stops.
    pub(in crate::service) async fn leave(&self) {
        let goodbye = *self.goodbye.lock().unwrap_or_else(PoisonError::into_inner);
        self.endpoint.close(goodbye.farewell());
        // Connections that never came about have nobody who could hear it.
        let is_linked = self.board.links().into_iter().any(|(_, note)| note.session.is_some());
        let within = if is_linked { FAREWELL } else { LOOK };
        let _ = timeout(within, self.endpoint.quinn().wait_idle()).await;
        // The last words cost too.
        let (counting, now) = (self.counting.clone(), Instant::now().into_std());
        if let Some(counts) = self.look(move |node| counting.so_far(node, now)).await {
            self.counting.keep(counts).await;
        }
    }
}

/// Payload bytes that a peer's region has not confirmed, by its place.
fn undelivered(node: &Node) -> Vec<(usize, u64)> {
    let waiting = |at: usize| {
        let outboxes = node.replicas().iter().filter(|r| !r.has_left(at)).map(|r| r.outbox(at));
        (at, outboxes.map(|outbox| outbox.waiting_bytes() + outbox.in_flight_bytes()).sum())
    };
    (0..node.datacenters().len()).map(waiting).filter(|(_, bytes)| *bytes > 0).collect()
}
