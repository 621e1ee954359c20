//! Connections that wait for the other one of their link.
//!
//! Kind: driver.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use quinn::Connection;

use crate::driver::link::{self, close_code};
use crate::message::ServerId;
use crate::node::Greeting;
use crate::wire::Channel;

/// Connections of one server that wait for their other half; one that opens more loses one of its own. Of a datacenter as
/// many more may wait as it can have servers.
const MAX_HALVES: usize = 16;

/// A connection that waits for the other one of its link.
pub(super) struct Half {
    pub(super) connection: Connection,
    pub(super) greeting: Greeting,
}

/// All that wait, by server and session.
pub(super) struct Halves {
    waiting: Mutex<BTreeMap<(ServerId, u64), (Channel, Half)>>,
    most_of_datacenter: usize,
}

impl Halves {
    /// None, of a job with so many shards.
    pub(super) fn new(shards: u16) -> Self {
        Self { waiting: Mutex::default(), most_of_datacenter: MAX_HALVES + usize::from(shards) }
    }

    /// Keeps a half, or yields both as `(control, data)`.
    pub(super) fn join(
        &self,
        peer: ServerId,
        session: u64,
        channel: Channel,
        half: Half,
    ) -> Option<(Half, Half)> {
        let mut halves = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Those whose dialer has given up will never be joined.
        halves.retain(|_, (_, half)| half.connection.close_reason().is_none());
        match halves.remove(&(peer, session)) {
            Some((Channel::Control, control)) if channel == Channel::Data => return Some((control, half)),
            Some((Channel::Data, data)) if channel == Channel::Control => return Some((half, data)),
            _ => {}
        }
        let keys = || halves.keys().copied();
        let surplus = surplus(keys().filter(|(server, _)| *server == peer), MAX_HALVES).or_else(|| {
            let of_datacenter = keys().filter(|(server, _)| server.datacenter == peer.datacenter);
            surplus(of_datacenter, self.most_of_datacenter)
        });
        if let Some((_, surplus)) = surplus.and_then(|key| halves.remove(&key)) {
            link::close(
                &surplus.connection,
                close_code::REPLACED,
                "too many connections wait for their other half",
            );
        }
        halves.insert((peer, session), (channel, half));
        None
    }

    /// Closes a connection if it still waits for its other half.
    pub(super) fn give_up(&self, connection: &Connection) {
        let mut halves = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |(_, half): &(Channel, Half)| half.connection.stable_id() == connection.stable_id();
        if let Some(key) = halves.iter().find_map(|(key, half)| waits(half).then_some(*key)) {
            halves.remove(&key);
            link::close(connection, close_code::REPLACED, "the other connection of the link never came");
        }
    }
}

/// Which one has to go, if there are as many as there may be.
fn surplus(keys: impl Iterator<Item = (ServerId, u64)>, most: usize) -> Option<(ServerId, u64)> {
    let mut keys = keys.peekable();
    let first = keys.peek().copied();
    first.filter(|_| keys.count() >= most)
}

#[cfg(test)]
mod tests {
    use datacenter::DatacenterId;

    use super::*;

    #[test]
    fn one_of_too_many_has_to_go() {
        let key = |index, session| (ServerId { datacenter: DatacenterId(1), index }, session);
        assert_eq!(surplus([].into_iter(), 2), None);
        assert_eq!(surplus([key(0, 7)].into_iter(), 2), None);
        assert_eq!(surplus([key(0, 7), key(1, 3)].into_iter(), 2), Some(key(0, 7)));
    }
}
