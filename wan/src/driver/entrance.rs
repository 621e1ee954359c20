//! Bounds what those cost who have not said yet who they are.
//!
//! Anybody can send a first packet, under any address, and each one that is answered costs a handshake and state until that
//! is over. So only so many handshakes go on at a time. While they are few, whoever comes is answered at once. When they are
//! more, whoever comes first proves with a retry that its address is its own: that costs a round trip, and us nothing, and who
//! lies about its address never gets further. Beyond the bound nobody is answered, or told so if its address is its own;
//! peers dial again.
//!
//! Kind: driver, but for `verdict`, which is time-free.

use std::sync::Arc;
use std::time::Duration;

use quinn::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use crate::transport::Endpoint;

/// Handshakes, hellos included, that may go on at a time. One that is not over within 10 s is given up.
pub(super) const MAX_HANDSHAKES: usize = 256;
/// While so many go on or have failed of late, further ones are only begun with those who prove their address.
pub(super) const UNPROVEN_HANDSHAKES: usize = 64;

/// Handshakes that failed of late and may still take memory: quinn keeps a connection that is closed by its very first
/// packet until it would have been silent for too long.
const MAX_REMAINS: usize = 1024;

/// Lets dialers in, one by one.
#[derive(Clone, Debug)]
pub(super) struct Entrance {
    endpoint: Endpoint,
    room: Arc<Semaphore>,
    remains: Arc<Semaphore>,
}

/// Whoever holds it may have its handshake.
#[derive(Debug)]
pub(super) struct Ticket {
    permit: OwnedSemaphorePermit,
    remains: Arc<Semaphore>,
}

impl Ticket {
    /// The handshake has failed; what may remain of it counts for as long as a connection may be silent.
    pub(super) async fn fail(self, idle_timeout: Duration) {
        let Self { permit, remains } = self;
        let remains = remains.try_acquire_owned();
        if remains.is_ok() {
            drop(permit);
        }
        sleep(idle_timeout).await;
    }
}

/// What becomes of a first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Begin,
    Prove,
    Refuse,
    Ignore,
}

fn verdict(in_progress: usize, remains: usize, is_proven: bool) -> Verdict {
    let is_full = in_progress >= MAX_HANDSHAKES || remains >= MAX_REMAINS;
    match is_proven {
        true if is_full => Verdict::Refuse,
        false if is_full => Verdict::Ignore,
        false if in_progress + remains >= UNPROVEN_HANDSHAKES => Verdict::Prove,
        true | false => Verdict::Begin,
    }
}

impl Entrance {
    /// The way into `endpoint`.
    pub(super) fn new(endpoint: Endpoint) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { endpoint, room: semaphore(MAX_HANDSHAKES), remains: semaphore(MAX_REMAINS) }
    }

    /// The next one whose handshake may begin; nothing once the endpoint is closed.
    pub(super) async fn next(&self) -> Option<(Incoming, Ticket)> {
        loop {
            let incoming = self.endpoint.incoming().await?;
            let in_progress = MAX_HANDSHAKES - self.room.available_permits();
            let remains = MAX_REMAINS - self.remains.available_permits();
            match verdict(in_progress, remains, incoming.remote_address_validated()) {
                // Nobody else takes tickets, so that there is one where the verdict counted one.
                Verdict::Begin => match self.room.clone().try_acquire_owned() {
                    Ok(permit) => return Some((incoming, Ticket { permit, remains: self.remains.clone() })),
                    Err(_) => incoming.refuse(),
                },
                // It fails only with those whose address is proven.
                Verdict::Prove => drop(incoming.retry()),
                Verdict::Refuse => incoming.refuse(),
                Verdict::Ignore => incoming.ignore(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_there_are_the_more_is_asked() {
        for (in_progress, remains, unproven, proven) in [
            (0, 0, Verdict::Begin, Verdict::Begin),
            (63, 0, Verdict::Begin, Verdict::Begin),
            (64, 0, Verdict::Prove, Verdict::Begin),
            (60, 4, Verdict::Prove, Verdict::Begin),
            (255, 1023, Verdict::Prove, Verdict::Begin),
            (256, 0, Verdict::Ignore, Verdict::Refuse),
            (0, 1024, Verdict::Ignore, Verdict::Refuse),
        ] {
            let found = (verdict(in_progress, remains, false), verdict(in_progress, remains, true));
            assert_eq!(found, (unproven, proven), "{in_progress}, {remains}");
        }
    }
}
