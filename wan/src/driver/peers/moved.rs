//! Peers that are somewhere else than they were.
//!
//! A name is looked up before each try to dial, but a try may take as long as a connection may be silent, and so may a link
//! whose end does not show. A peer that came back under another address would be found that late. So names of whoever does not
//! answer are looked up again meanwhile. What a name stood for is given up only where nothing answers there and the name
//! stands for something else: a look-up that fails, or yields some of many addresses each time, ends no link that works.
//!
//! Kind: driver, but for [`Silence`], which is time-passed.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use quinn::Connection;
use tokio::time::{Instant, sleep};

use super::{Peer, Peers};
use crate::driver::address::Address;

/// How often a name is looked up again.
const LOOK_UP: Duration = Duration::from_secs(2);

/// A link is silent when nothing has come for so long, and more than a packet went unanswered.
const SILENT: Duration = Duration::from_secs(3);
const UNANSWERED: u64 = 2;

impl Peers {
    /// Returns once `to`, a name, does not stand for `address` any more.
    pub(super) async fn stands_elsewhere(&self, to: &Address, address: SocketAddr) {
        if let Address::Socket(_) = to {
            return pending().await;
        }
        loop {
            sleep(LOOK_UP).await;
            if self.find(to).await.is_some_and(|found| !found.contains(&address)) {
                return;
            }
        }
    }

    /// Returns once nothing comes of a link any more, and none of the peer's addresses stands for where it goes.
    pub(super) async fn moved(&self, connection: &Connection, peer: &Peer) {
        if !peer.addresses.iter().any(|address| matches!(address, Address::Name(_))) {
            return pending().await;
        }
        let address = connection.remote_address();
        let mut silence = Silence::new(Instant::now());
        loop {
            sleep(LOOK_UP).await;
            let stats = connection.stats();
            let silent = silence.look(Instant::now(), stats.udp_rx.datagrams, stats.udp_tx.datagrams);
            if silent >= SILENT && self.all_stand_elsewhere(peer, address).await {
                return;
            }
        }
    }

    async fn all_stand_elsewhere(&self, peer: &Peer, address: SocketAddr) -> bool {
        for to in &peer.addresses {
            if self.find(to).await.is_none_or(|found| found.contains(&address)) {
                return false;
            }
        }
        true
    }

    async fn find(&self, to: &Address) -> Option<Vec<SocketAddr>> {
        to.resolve_with(&self.names, self.endpoint.local_address().ok()?).await.ok()
    }
}

/// For how long a connection has been without an answer.
#[derive(Clone, Copy, Debug)]
struct Silence {
    received: u64,
    sent: u64,
    since: Instant,
}

impl Silence {
    fn new(now: Instant) -> Self {
        Self { received: 0, sent: 0, since: now }
    }

    /// So many datagrams have been received and sent in all.
    fn look(&mut self, now: Instant, received: u64, sent: u64) -> Duration {
        if received != self.received {
            *self = Self { received, sent, since: now };
        }
        // Who is sent nothing has nothing to answer.
        let is_unanswered = sent.saturating_sub(self.sent) >= UNANSWERED;
        if is_unanswered { now - self.since } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_sent_nothing_is_not_silent() {
        let start = Instant::now();
        let mut silence = Silence::new(start);
        for (seconds, received, sent, expected) in [
            (2, 5, 7, 0),
            (4, 5, 7, 0),
            (6, 5, 8, 0),
            (8, 5, 9, 6),
            (10, 5, 9, 8),
            (12, 6, 9, 0),
            (14, 6, 11, 2),
        ] {
            let silent = silence.look(start + Duration::from_secs(seconds), received, sent);
            assert_eq!(silent, Duration::from_secs(expected), "after {seconds} s");
        }
    }
}
