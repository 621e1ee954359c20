//! What operators want of a server: that a region leaves the job for good.
//!
//! Kind: driver.

use std::sync::Arc;

use datacenter::lan::server::Order;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::warn;
use wan::driver::queue::EventSender;
use wan::driver::server::Event;
use wan::node::{Node, Presence};

use super::server::look;
use super::setup::Setup;

/// Judges orders, and has them done.
pub(super) struct OrderBook {
    pub(super) setup: Arc<Setup>,
    pub(super) events: EventSender,
    /// Set where the region itself is to leave.
    pub(super) departing: watch::Sender<bool>,
}

/// Who is there beside a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Others {
    /// How many have not left for good.
    remaining: usize,
    /// Whether each shard has a mirror that is heard.
    are_heard: bool,
}

impl OrderBook {
    /// Takes orders, one after the other.
    pub(super) async fn keep(self, mut orders: mpsc::Receiver<Order>) {
        while let Some(Order { leaving, is_confirmed, answer }) = orders.recv().await {
            let done = self.follow(&leaving, is_confirmed).await;
            if is_confirmed {
                warn!(leaving, ?done, "an operator wants a region to leave this job for good");
            }
            // Who does not wait for the answer has gone.
            let _ = answer.send(done);
        }
    }

    /// Does it if it can be done, and is confirmed. Yields whether it was done before.
    async fn follow(&self, leaving: &str, is_confirmed: bool) -> Result<bool, String> {
        let here = &self.setup.region.name;
        let stopping = || "the server is stopping".to_owned();
        let Some(id) = self.setup.datacenter(leaving) else {
            let members: Vec<_> = self.setup.region.members.iter().map(|m| m.name.as_str()).collect();
            return Err(format!("found {leaving:?}; allowed: a region of the job, {}", members.join(", ")));
        };
        if leaving == here {
            if *self.departing.borrow() {
                return Ok(true);
            }
            let others = look(&self.events, others).await.ok_or_else(stopping)?;
            others.may_lose(here)?;
            if is_confirmed {
                self.departing.send_replace(true);
            }
            return Ok(false);
        }
        let before = look(&self.events, move |node| node.departed().any(|departed| departed == id)).await;
        if before.ok_or_else(stopping)? || !is_confirmed {
            return Ok(before == Some(true));
        }
        let (answer, is_news) = oneshot::channel();
        self.events.send(Event::Depart { datacenter: id, answer }).await.map_err(|_| stopping())?;
        is_news.await.map(|is_news| !is_news).map_err(|_| stopping())
    }
}

impl Others {
    /// Whether somebody is there to whom region `here` can hand over what it has.
    fn may_lose(self, here: &str) -> Result<(), String> {
        if self.remaining == 0 {
            return Err(format!(
                "{here} is the last region of the job: nobody remains to go on; stop it instead"
            ));
        }
        if !self.are_heard {
            return Err(format!(
                "{here} hears no other region, and what it has would be lost; wait until one is there, or stop it instead"
            ));
        }
        Ok(())
    }
}

fn others(node: &Node) -> Others {
    let now = tokio::time::Instant::now().into_std();
    let mirrors = node.datacenters().len();
    let is_heard = |place: usize| {
        let presence = |mirror| node.presence(place, mirror, now).0;
        (0..mirrors).any(|mirror| matches!(presence(mirror), Presence::Live | Presence::Behind))
    };
    Others {
        remaining: mirrors - node.departed().count(),
        are_heard: (0..node.replicas().len()).all(is_heard),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_leaves_only_where_somebody_takes_what_it_has() {
        let judge = |remaining, are_heard| Others { remaining, are_heard }.may_lose("oslo");
        assert_eq!(judge(1, true), Ok(()));
        let last = "oslo is the last region of the job: nobody remains to go on; stop it instead";
        assert_eq!(judge(0, true), Err(last.to_owned()), "one of a job without others hears all of them");
        assert!(judge(2, false).is_err_and(|problem| problem.starts_with("oslo hears no other region")));
    }
}
