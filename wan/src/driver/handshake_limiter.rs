//! Bounds what those cost who have not said yet who they are.
//!
//! Anybody can send a first packet, under any address, and each one that is answered costs a
//! handshake and state until that is over. So only so many handshakes go on at a time: of all
//! together, and of each [`Prefix`], so that no one address takes the places of all others. While
//! they are few, whoever comes is answered at once. When they are more, whoever comes first proves
//! with a retry that its address is its own: that costs a round trip, and us nothing, and who lies
//! about its address never gets further. Beyond the bound nobody is answered, or told so if its
//! address is its own; peers dial again.
//!
//! An address at which a peer should be, or was when a link was up, has places of its own that
//! nobody else can take: who holds them has proven that the address is its own, but for a few.
//!
//! Kind: driver, but for `Admissions`, which is time-free.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use datacenter::prefix::Prefix;
use quinn::Incoming;
use tokio::time::sleep;

use super::paths::canonical;
use crate::message::ServerId;
use crate::transport::Endpoint;

/// Handshakes, hellos included, that may go on at a time, and those that failed of late and may
/// still take memory: quinn keeps a connection that is closed by its very first packet until it
/// would have been silent for too long. A handshake that is not over within 10 s is given up.
#[derive(Clone, Copy, Debug)]
struct Limits {
    in_progress: usize,
    remains: usize,
    /// While so many go on or have failed of late, further ones are only begun with those who prove
    /// their address.
    unproven: usize,
}

/// Of all that come from anywhere.
const OF_ALL: Limits = Limits { in_progress: 256, remains: 1024, unproven: 64 };
/// Of those that come from one prefix.
const OF_PREFIX: Limits = Limits { in_progress: 64, remains: 256, unproven: 32 };
/// Of those that come from where a peer is known to be: it may open two connections at a time, and
/// tries again as these fail.
const OF_PEER: Limits = Limits { in_progress: 16, remains: 64, unproven: 8 };

/// Lets dialers in, one by one.
#[derive(Clone, Debug)]
pub(super) struct HandshakeLimiter {
    endpoint: Endpoint,
    known: Known,
    admissions: Arc<Mutex<Admissions>>,
}

/// Addresses at which peers are. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(Arc<Mutex<KnownAddresses>>);

#[derive(Debug, Default)]
struct KnownAddresses {
    /// As settings have them.
    set: BTreeSet<SocketAddr>,
    /// What the names of a peer stood for when they were last looked up.
    found: BTreeMap<ServerId, Vec<SocketAddr>>,
    /// Where a peer was when it last had a link.
    linked: BTreeMap<ServerId, SocketAddr>,
}

impl Known {
    /// Peers are at these addresses.
    pub(super) fn set(&self, addresses: impl IntoIterator<Item = SocketAddr>) {
        self.lock().set.extend(addresses.into_iter().map(canonical));
    }

    /// What was found for the name of `peer`.
    pub(super) fn find(&self, peer: ServerId, addresses: &[SocketAddr]) {
        // Nobody's name needs more, whatever a name server says.
        const MOST: usize = 64;
        let addresses = addresses.iter().copied().take(MOST).map(canonical).collect();
        self.lock().found.insert(peer, addresses);
    }

    /// `peer`, which the node has taken for one, has a link from `address`.
    pub(super) fn link(&self, peer: ServerId, address: SocketAddr) {
        self.lock().linked.insert(peer, canonical(address));
    }

    fn has(&self, address: SocketAddr) -> bool {
        let known = self.lock();
        known.set.contains(&address)
            || known.linked.values().any(|linked| *linked == address)
            || known.found.values().any(|found| found.contains(&address))
    }

    fn lock(&self) -> MutexGuard<'_, KnownAddresses> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a first packet comes from, as far as that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PacketSource {
    /// Where a peer is known to be.
    Peer(SocketAddr),
    /// Anywhere else.
    Elsewhere(Prefix),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    in_progress: usize,
    remains: usize,
}

/// What becomes of a first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Begin,
    Prove,
    Refuse,
    Ignore,
}

impl Counts {
    fn is_full(self, limits: Limits) -> bool {
        self.in_progress >= limits.in_progress || self.remains >= limits.remains
    }

    fn is_doubted(self, limits: Limits) -> bool {
        self.in_progress + self.remains >= limits.unproven
    }
}

/// All that go on or have failed of late.
#[derive(Debug, Default)]
struct Admissions {
    /// Of those from elsewhere.
    strangers: Counts,
    /// Of each source that has any.
    by_source: BTreeMap<PacketSource, Counts>,
}

impl Admissions {
    fn verdict(&self, source: PacketSource, is_proven: bool) -> Verdict {
        let own = self.by_source.get(&source).copied().unwrap_or_default();
        let (is_full, is_doubted) = match source {
            PacketSource::Peer(_) => (own.is_full(OF_PEER), own.is_doubted(OF_PEER)),
            PacketSource::Elsewhere(_) => (
                own.is_full(OF_PREFIX) || self.strangers.is_full(OF_ALL),
                own.is_doubted(OF_PREFIX) || self.strangers.is_doubted(OF_ALL),
            ),
        };
        match is_proven {
            true if is_full => Verdict::Refuse,
            false if is_full => Verdict::Ignore,
            false if is_doubted => Verdict::Prove,
            true | false => Verdict::Begin,
        }
    }

    /// Changes the counts of `source`, and those that it is a part of.
    fn change(&mut self, source: PacketSource, change: impl Fn(&mut Counts)) {
        let own = self.by_source.entry(source).or_default();
        change(own);
        if *own == Counts::default() {
            self.by_source.remove(&source);
        }
        if matches!(source, PacketSource::Elsewhere(_)) {
            change(&mut self.strangers);
        }
    }
}

/// Whoever holds it may have its handshake.
#[derive(Debug)]
pub(super) struct HandshakePermit {
    admissions: Arc<Mutex<Admissions>>,
    source: PacketSource,
    has_failed: bool,
}

impl HandshakePermit {
    fn new(admissions: Arc<Mutex<Admissions>>, source: PacketSource) -> Self {
        let permit = Self { admissions, source, has_failed: false };
        permit.change(|counts| counts.in_progress += 1);
        permit
    }

    /// The handshake has failed; what may remain of it counts for as long as a connection may be
    /// silent.
    pub(super) async fn fail(mut self, idle_timeout: Duration) {
        self.become_failed();
        sleep(idle_timeout).await;
    }

    fn become_failed(&mut self) {
        self.has_failed = true;
        self.change(|counts| {
            counts.in_progress -= 1;
            counts.remains += 1;
        });
    }

    fn change(&self, change: impl Fn(&mut Counts)) {
        let mut admissions = self.admissions.lock().unwrap_or_else(PoisonError::into_inner);
        admissions.change(self.source, change);
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        match self.has_failed {
            true => self.change(|counts| counts.remains -= 1),
            false => self.change(|counts| counts.in_progress -= 1),
        }
    }
}

impl HandshakeLimiter {
    /// The way into `endpoint`, with places for those who are where peers are `known` to be.
    pub(super) fn new(endpoint: Endpoint, known: Known) -> Self {
        Self { endpoint, known, admissions: Arc::default() }
    }

    /// The next one whose handshake may begin; nothing once the endpoint is closed.
    pub(super) async fn next(&self) -> Option<(Incoming, HandshakePermit)> {
        loop {
            let incoming = self.endpoint.incoming().await?;
            let address = canonical(incoming.remote_address());
            let source = match self.known.has(address) {
                true => PacketSource::Peer(address),
                false => PacketSource::Elsewhere(Prefix::of(address.ip())),
            };
            let verdict = {
                let admissions = self.admissions.lock().unwrap_or_else(PoisonError::into_inner);
                admissions.verdict(source, incoming.remote_address_validated())
            };
            match verdict {
                // Nobody else gives permits out, so that there is room where the verdict found
                // some.
                Verdict::Begin => {
                    return Some((incoming, HandshakePermit::new(self.admissions.clone(), source)));
                }
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

    const PEER: &str = "192.0.2.1:4433";

    fn stranger(network: u8) -> PacketSource {
        PacketSource::Elsewhere(Prefix::of([198, 51, 100, network].into()))
    }

    fn peer() -> PacketSource {
        PacketSource::Peer(PEER.parse().unwrap())
    }

    /// Permits of one source: so many in progress, and so many that have failed.
    fn permits(
        of: &Arc<Mutex<Admissions>>,
        source: PacketSource,
        in_progress: usize,
        failed: usize,
    ) -> Vec<HandshakePermit> {
        let mut permits: Vec<_> =
            (0..in_progress + failed).map(|_| HandshakePermit::new(of.clone(), source)).collect();
        permits[in_progress..].iter_mut().for_each(HandshakePermit::become_failed);
        permits
    }

    fn verdicts(of: &Arc<Mutex<Admissions>>, source: PacketSource) -> (Verdict, Verdict) {
        let admissions = of.lock().unwrap();
        (admissions.verdict(source, false), admissions.verdict(source, true))
    }

    #[test]
    fn the_more_there_are_the_more_is_asked() {
        let (begin, prove) = ((Verdict::Begin, Verdict::Begin), (Verdict::Prove, Verdict::Begin));
        let full = (Verdict::Ignore, Verdict::Refuse);
        for (source, in_progress, failed, expected) in [
            (stranger(1), 0, 0, begin),
            (stranger(1), 20, 11, begin),
            (stranger(1), 20, 12, prove),
            (stranger(1), 63, 255, prove),
            (stranger(1), 64, 0, full),
            (stranger(1), 0, 256, full),
            (peer(), 4, 3, begin),
            (peer(), 4, 4, prove),
            (peer(), 16, 0, full),
            (peer(), 0, 64, full),
        ] {
            let admissions = Arc::default();
            let held = permits(&admissions, source, in_progress, failed);
            assert_eq!(verdicts(&admissions, source), expected, "{source:?}: {in_progress}, {failed}");
            drop(held);
            assert!(admissions.lock().unwrap().by_source.is_empty(), "nothing is kept of who has gone");
            assert_eq!(admissions.lock().unwrap().strangers, Counts::default());
        }
    }

    #[test]
    fn one_address_keeps_nobody_else_out_and_all_of_them_no_peer() {
        let admissions = Arc::default();
        let mut held = permits(&admissions, stranger(0), 64, 256);
        assert_eq!(verdicts(&admissions, stranger(1)), (Verdict::Prove, Verdict::Begin));
        assert_eq!(verdicts(&admissions, peer()), (Verdict::Begin, Verdict::Begin));
        for network in 1..4 {
            held.extend(permits(&admissions, stranger(network), 64, 256));
        }
        assert_eq!(verdicts(&admissions, stranger(9)), (Verdict::Ignore, Verdict::Refuse));
        assert_eq!(verdicts(&admissions, peer()), (Verdict::Begin, Verdict::Begin));
        drop(held);
        assert_eq!(verdicts(&admissions, stranger(9)), (Verdict::Begin, Verdict::Begin));
    }

    #[test]
    fn a_peer_is_known_by_its_settings_its_name_and_its_last_link() {
        let known = Known::default();
        let id = |index| ServerId { datacenter: datacenter::DatacenterId(1), index };
        let at = |address: &str| address.parse::<SocketAddr>().unwrap();
        known.set([at("10.0.0.1:1")]);
        known.find(id(0), &[at("[::ffff:10.0.0.2]:1"), at("10.0.0.3:1")]);
        known.link(id(0), at("10.0.0.4:5555"));
        for address in ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:5555"] {
            assert!(known.has(at(address)), "{address}");
        }
        assert!(!known.has(at("10.0.0.1:2")), "another process of the same machine");
        known.find(id(0), &[]);
        known.link(id(0), at("10.0.0.5:5555"));
        assert!(!known.has(at("10.0.0.3:1")) && !known.has(at("10.0.0.4:5555")));
    }
}
