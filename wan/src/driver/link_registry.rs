//! What is known of the links of a process: for those who dial, and for those who watch.
//!
//! Kind: time-passed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use datacenter::refusals::{Refusals, Scope};
use datacenter::{DatacenterId, printable};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::driver::link::LinkError;
use crate::message::ServerId;

/// For how long a refusal that nothing can heal goes on before it is believed: longer than the
/// longest pause between two tries, twice.
const HOPELESS: Duration = Duration::from_secs(10);

/// How often it is looked for such.
const LOOK: Duration = Duration::from_millis(500);

/// Notes on links, shared by everyone who makes one.
#[derive(Clone, Debug)]
pub struct LinkRegistry(Arc<Registry>);

#[derive(Debug)]
struct Registry {
    notes: Mutex<Notes>,
    /// Changes whenever a link comes up or goes down.
    changed: watch::Sender<u64>,
    refusals: Refusals,
}

#[derive(Debug, Default)]
struct Notes {
    links: BTreeMap<ServerId, LinkNote>,
    /// Whether there has been any link.
    was_linked: bool,
    /// Refusals that nothing heals but that somebody puts something right, by datacenter.
    refusals: BTreeMap<DatacenterId, LastingRefusal>,
}

/// A peer and we refuse each other, again and again.
#[derive(Debug)]
struct LastingRefusal {
    first: Instant,
    last: Instant,
    why: String,
}

impl LastingRefusal {
    /// Whether it has gone on for long enough at `now`, and not ended meanwhile.
    fn is_hopeless(&self, now: Instant) -> bool {
        now >= self.first + HOPELESS && self.last >= self.first + HOPELESS / 2
    }
}

/// What is known of the link to one peer.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkNote {
    /// The session of the link that is up.
    pub session: Option<u64>,
    /// Since when it is up or down.
    pub since: Instant,
    /// Where the peer is, or was when it was up last.
    pub address: Option<SocketAddr>,
    /// How often it has come up.
    pub connects: u64,
    /// Why it is not up.
    pub problem: Option<String>,
    /// Whether it is not up since the peer has left: then nobody expects it.
    pub has_left: bool,
}

impl Default for LinkRegistry {
    fn default() -> Self {
        Self(Arc::new(Registry {
            notes: Mutex::default(),
            changed: watch::channel(0).0,
            refusals: Refusals::new(Scope::Wan),
        }))
    }
}

impl LinkRegistry {
    /// All peers of which anything is known.
    pub fn links(&self) -> BTreeMap<ServerId, LinkNote> {
        self.notes().links.clone()
    }

    /// Where refusals are counted.
    pub fn refusals(&self) -> &Refusals {
        &self.0.refusals
    }

    /// Whether a link to `peer` is up.
    pub fn is_up(&self, peer: ServerId) -> bool {
        self.notes().links.get(&peer).is_some_and(|note| note.session.is_some())
    }

    /// Returns once there is no link to `peer`.
    pub async fn down(&self, peer: ServerId) {
        let mut changed = self.0.changed.subscribe();
        // The sender lives as long as we do.
        let _ = changed.wait_for(|_| !self.is_up(peer)).await;
    }

    /// Returns once there is a link to `peer`.
    pub async fn up_with(&self, peer: ServerId) {
        let mut changed = self.0.changed.subscribe();
        let _ = changed.wait_for(|_| self.is_up(peer)).await;
    }

    /// Returns once links have come up or gone down after the `seen`-th time; yields the number of
    /// times.
    pub async fn changed(&self, seen: u64) -> u64 {
        let mut changed = self.0.changed.subscribe();
        changed.wait_for(|times| *times > seen).await.map_or(seen, |times| *times)
    }

    /// A peer that is looked for.
    pub fn expect(&self, peer: ServerId) {
        self.notes().note(peer);
    }

    pub(super) fn up(&self, peer: ServerId, session: u64, address: SocketAddr) {
        let mut notes = self.notes();
        let note = notes.note(peer);
        *note = LinkNote {
            session: Some(session),
            since: Instant::now(),
            address: Some(address),
            connects: note.connects + 1,
            problem: None,
            has_left: false,
        };
        notes.was_linked = true;
        notes.refusals.clear();
        drop(notes);
        self.0.changed.send_modify(|times| *times += 1);
    }

    /// The datacenter of `peer` has left for good.
    pub(super) fn departed(&self, peer: ServerId) {
        let mut notes = self.notes();
        let note = notes.note(peer);
        (note.has_left, note.problem) = (true, Some(LinkError::Departed.to_string()));
    }

    /// Whether `peer` has left, and has not come back.
    pub(super) fn has_left(&self, peer: ServerId) -> bool {
        self.notes().links.get(&peer).is_some_and(|note| note.has_left)
    }

    /// The link with this session is no more, as `error` says.
    pub(super) fn gone(&self, peer: ServerId, session: u64, error: &LinkError) {
        let mut notes = self.notes();
        // A newer one may have taken its place, or the node may never have taken it.
        if let Some(note) = notes.links.get_mut(&peer).filter(|note| note.session == Some(session)) {
            (note.session, note.since, note.problem) = (None, Instant::now(), Some(error.to_string()));
            note.has_left = matches!(error, LinkError::Left | LinkError::Departed);
        }
        drop(notes);
        self.0.changed.send_modify(|times| *times += 1);
    }

    /// Whether there is a link to `peer`, and it is another one than `session`.
    pub(super) fn has_other(&self, peer: ServerId, session: u64) -> bool {
        self.notes().links.get(&peer).and_then(|note| note.session).is_some_and(|known| known != session)
    }

    /// A configured peer and we have refused each other, for a reason that trying again does not
    /// change.
    pub(super) fn refused(&self, datacenter: DatacenterId, why: String) {
        let mut notes = self.notes();
        if notes.was_linked {
            return;
        }
        let now = Instant::now();
        let known = notes.refusals.get(&datacenter).filter(|known| now < known.last + HOPELESS);
        let first = known.map_or(now, |known| known.first);
        // Some of it are a peer's words.
        let why = printable::line_of(why);
        notes.refusals.insert(datacenter, LastingRefusal { first, last: now, why });
    }

    /// Returns once some peer and we have refused each other for a while for a reason that no
    /// waiting heals, and there has never been a link to anybody; yields the reason.
    pub async fn hopeless(&self) -> String {
        loop {
            let now = Instant::now();
            let hopeless = |refusal: &&LastingRefusal| refusal.is_hopeless(now);
            if let Some(refusal) = self.notes().refusals.values().find(hopeless) {
                return refusal.why.clone();
            }
            sleep(LOOK).await;
        }
    }

    /// A try to make a link failed.
    pub(super) fn failed(&self, peer: ServerId, problem: String) {
        let mut notes = self.notes();
        let note = notes.note(peer);
        if !note.has_left {
            note.problem = Some(problem);
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    fn note(&mut self, peer: ServerId) -> &mut LinkNote {
        self.links.entry(peer).or_insert_with(|| LinkNote {
            session: None,
            since: Instant::now(),
            address: None,
            connects: 0,
            problem: None,
            has_left: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::time::timeout;

    use super::*;

    const PEER: ServerId = ServerId { datacenter: DatacenterId(1), index: 0 };

    /// Whether it is believed that no link comes about, `seconds` after the first of refusals at
    /// `times`.
    async fn is_hopeless(times: &[u64], seconds: u64, was_linked: bool) -> bool {
        let (registry, start) = (LinkRegistry::default(), Instant::now());
        if was_linked {
            registry.up(PEER, 1, (Ipv4Addr::LOCALHOST, 1).into());
        }
        let refusing = async {
            for time in times {
                tokio::time::sleep_until(start + Duration::from_secs(*time)).await;
                registry.refused(PEER.datacenter, "another job".to_owned());
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = refusing => false,
            found = timeout(Duration::from_secs(seconds), registry.hopeless()) => found.is_ok(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_refused_for_good_from_the_start_is_believed_after_a_while() {
        assert!(is_hopeless(&[0, 1, 3, 7], 11, false).await);
        assert!(!is_hopeless(&[0, 1, 3, 7], 9, false).await, "it may be put right");
        assert!(!is_hopeless(&[0, 1, 3], 60, false).await, "it was");
        assert!(!is_hopeless(&[0, 20, 21], 29, false).await, "it came again");
        assert!(!is_hopeless(&[0, 1, 3, 7, 11], 60, true).await, "others were linked");
    }
}
