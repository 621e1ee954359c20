//! Servers with which we have no link, as they host none of our shards.
//!
//! Of one that is silent, nobody can say from here alone whether it has died or its whole region cannot be reached: for that it
//! matters whether others of its region are heard. Where regions have as many servers as each other, each has a link to one
//! of them only. So while that one may be dead, the others are asked whether they are there, by a probe without a burst.
//!
//! Kind: driver.

use std::time::Duration;

use datacenter::DatacenterId;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Peer, Peers};
use crate::driver::probe::probe;
use crate::driver::server::Event;
use crate::wire::ProbeRequest;

/// How many of them are asked at a time; in turn, where there are more.
const ASKED: usize = 8;

impl Peers {
    /// Looks, as long as a server of their datacenter may be dead, whether one of `siblings` is there: none of them hosts a shard
    /// that we host. `heartbeat` is the most that passes between two words of a server that is there.
    pub async fn look_for(self, siblings: Vec<Peer>, heartbeat: Duration, mut rng: ChaCha8Rng) {
        let Some(datacenter) = siblings.first().map(|sibling| sibling.id.datacenter) else { return };
        let mut asked = siblings.iter().cycle();
        loop {
            sleep(heartbeat.mul_f64(rng.random_range(0.4..0.5))).await;
            let Some(is_doubtful) = self.is_doubtful(datacenter).await else { return };
            if !is_doubtful {
                continue;
            }
            let mut looking = JoinSet::new();
            for sibling in asked.by_ref().take(ASKED.min(siblings.len())) {
                looking.spawn(self.clone().sees(sibling.clone(), heartbeat, rng.random()));
            }
            while let Some(seen) = looking.join_next().await {
                if seen.is_ok_and(|seen| seen) {
                    // The node's task may be gone; then the next look finds out.
                    let _ = self.events.send(Event::Sighted { datacenter }).await;
                    break;
                }
            }
        }
    }

    async fn is_doubtful(&self, datacenter: DatacenterId) -> Option<bool> {
        let (answer, is_doubtful) = oneshot::channel();
        self.events.send(Event::IsDoubtful { datacenter, answer }).await.ok()?;
        is_doubtful.await.ok()
    }

    async fn sees(self, sibling: Peer, patience: Duration, session: u64) -> bool {
        let request = ProbeRequest { bytes: 0, call_back: false };
        for address in &sibling.addresses {
            let looking = probe(&self.endpoint, &self.terms, &sibling, address, session, request);
            if let Ok(Ok(found)) = timeout(patience, looking).await {
                return self.terms.check(&found.hello, &sibling.name).is_ok();
            }
        }
        false
    }
}
