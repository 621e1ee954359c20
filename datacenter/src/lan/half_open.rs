//! Connections that have yet to say who they are.
//!
//! Anybody can open connections, and each takes a place until its handshake is over or given up. So
//! there is a bound on all of them, and on those from one [`Prefix`]. Where a bound is reached,
//! whoever comes takes the place of one that has got less far, the oldest first: somebody who opens
//! connections and says nothing, or begins handshakes and never ends one, takes places from itself,
//! and a worker that comes from the same address has its certificate looked at in the time in which
//! as many others come as there are places. One whose certificate is good is safe from others.
//!
//! Within half a second, which a handshake on a LAN ends in, the oldest is no better choice than
//! any other: where all are younger, one is drawn. To hang up on whoever comes would be to have a
//! worker wait for the luck to come just when a place is free, and to have the first to go would be
//! to give every handshake the same time, however few are that quick: of those who are drawn, the
//! quick ones end soon and the slow ones sometimes. At 4,000 strangers a second from a worker's own
//! address, of 128 places one is taken 31 times a second, and a handshake of 20 ms ends in more
//! than half of all tries.
//!
//! Kind: time-passed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::prefix::Prefix;

/// Connections that may be in their handshakes at a time.
pub(super) const MAX_HALF_OPEN: usize = 512;
/// Those of one prefix, so that whoever else comes has a place.
pub(super) const MAX_HALF_OPEN_OF_ONE: usize = 128;

/// For how long nothing follows from how far somebody has got.
const UNDISTURBED: Duration = Duration::from_millis(500);

/// All that are half open. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct HalfOpen(Arc<Mutex<Registry>>);

#[derive(Debug)]
struct Registry {
    next: u64,
    drawing: Drawing,
    /// In the order in which they came.
    connections: BTreeMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    prefix: Prefix,
    stage: Stage,
    since: Instant,
    evicted: Arc<Notify>,
}

/// How far a connection has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Nothing has come over it.
    Silent,
    /// Something has.
    Speaking,
    /// It has shown a certificate of our authority.
    Proven,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    half_open: HalfOpen,
    number: u64,
    evicted: Arc<Notify>,
}

impl HalfOpen {
    /// None yet; `seed` decides who is drawn.
    pub(super) fn new(seed: u64) -> Self {
        let registry = Registry { next: 0, drawing: Drawing(seed), connections: BTreeMap::new() };
        Self(Arc::new(Mutex::new(registry)))
    }

    /// A place for a connection from `address`, if need be that of another one; none where all
    /// others are proven.
    pub(super) fn come(&self, address: IpAddr, now: Instant) -> Option<Place> {
        let mut registry = self.lock();
        let prefix = Prefix::of(address);
        registry.make_room(prefix, now)?;
        let (number, evicted) = (registry.next, Arc::<Notify>::default());
        registry.next += 1;
        let connection = Connection { prefix, stage: Stage::Silent, since: now, evicted: evicted.clone() };
        registry.connections.insert(number, connection);
        Some(Place { half_open: self.clone(), number, evicted })
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().connections.len()
    }
}

impl Registry {
    /// Makes room for one more of `prefix`.
    fn make_room(&mut self, prefix: Prefix, now: Instant) -> Option<()> {
        let mut counts = BTreeMap::<Prefix, usize>::new();
        self.connections.values().for_each(|one| *counts.entry(one.prefix).or_default() += 1);
        let own = counts.get(&prefix).copied().unwrap_or(0);
        let from = if own >= MAX_HALF_OPEN_OF_ONE {
            prefix
        } else if self.connections.len() >= MAX_HALF_OPEN {
            // Whoever has most gives.
            *counts.iter().max_by_key(|(_, count)| **count)?.0
        } else {
            return Some(());
        };
        let may_go = |one: &Connection| one.prefix == from && one.stage < Stage::Proven;
        let given = self.connections.iter().filter(|(_, one)| may_go(one));
        let is_old = |one: &Connection| now.saturating_duration_since(one.since) >= UNDISTURBED;
        let old =
            given.clone().filter(|(_, one)| is_old(one)).map(|(number, one)| (one.stage, *number)).min();
        let number = match old {
            Some((_, number)) => number,
            None => {
                let young: Vec<_> = given.map(|(number, _)| *number).collect();
                *young.get(self.drawing.below(young.len())?)?
            }
        };
        if let Some(evicted) = self.connections.remove(&number) {
            evicted.evicted.notify_one();
        }
        Some(())
    }
}

/// Draws numbers: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). What is drawn decides over
/// nothing but who dials again.
#[derive(Debug)]
struct Drawing(u64);

impl Drawing {
    /// A number below `count`; none where there is none.
    fn below(&mut self, count: usize) -> Option<usize> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).checked_rem(count as u64).map(|drawn| drawn as usize)
    }
}

impl Place {
    /// It has got so far.
    pub(super) fn reach(&self, stage: Stage) {
        if let Some(connection) = self.half_open.lock().connections.get_mut(&self.number) {
            connection.stage = stage;
        }
    }

    /// Notified when somebody else has got the place.
    pub(super) fn evicted(&self) -> Arc<Notify> {
        self.evicted.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.half_open.lock().connections.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// The `n`th of moments that are just far enough apart.
    fn moment(n: u32) -> Instant {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a test")]
        let start = *START.get_or_init(Instant::now);
        start + UNDISTURBED * n
    }

    fn is_evicted(place: &Place) -> bool {
        place.evicted.notified().now_or_never().is_some()
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn one_address_takes_places_from_itself_alone() {
        let half_open = HalfOpen::new(1);
        let other = half_open.come(address(2), moment(0)).unwrap();
        let mut flood: Vec<_> =
            (0..MAX_HALF_OPEN_OF_ONE).map(|_| half_open.come(address(1), moment(0)).unwrap()).collect();
        flood[0].reach(Stage::Speaking);
        flood[1].reach(Stage::Proven);
        let mut evicted = Vec::new();
        for n in 1..=MAX_HALF_OPEN_OF_ONE as u32 {
            flood.push(half_open.come(address(1), moment(n)).unwrap());
            flood.last().unwrap().reach(Stage::Speaking);
            evicted.extend(flood.iter().position(is_evicted));
            flood.remove(*evicted.last().unwrap());
        }
        // The silent ones, in their order, and then the oldest that speak.
        let silent = MAX_HALF_OPEN_OF_ONE - 2;
        assert!(evicted[..silent].iter().all(|index| *index == 2), "{evicted:?}");
        assert_eq!(evicted[silent..], [0, 1], "the proven one is first by then");
        assert!(!is_evicted(&other) && flood.iter().all(|place| !is_evicted(place)));
        assert_eq!(half_open.len(), MAX_HALF_OPEN_OF_ONE + 1);
        flood.iter().for_each(|place| place.reach(Stage::Proven));
        assert!(half_open.come(address(1), moment(999)).is_none(), "who is proven is safe");
        assert!(half_open.come(address(3), moment(999)).is_some());
        drop((flood, other));
        assert_eq!(half_open.len(), 0, "nothing is kept of who has gone");
    }

    /// The strangers and the worker are behind one address. Each stranger says something at once
    /// and never ends its handshake; the worker's takes 20 ms, and when it is hung up on it dials
    /// again a tenth of a second later.
    #[test]
    fn a_worker_comes_in_beside_thousands_of_strangers_a_second_from_its_own_address() {
        const RATE: u32 = 4_000;
        let handshake = Duration::from_millis(20);
        let mut slowest = Duration::ZERO;
        for seed in 0..20 {
            let half_open = HalfOpen::new(seed);
            let mut strangers = Vec::new();
            let mut worker: Option<(Place, Instant)> = None;
            // Not in step with the strangers, who have all places by then.
            let begun = moment(0) + Duration::from_micros(200_000 + 1_370 * seed);
            let mut dials = begun;
            let mut let_in = None;
            for n in 0..5 * RATE {
                let now = moment(0) + Duration::from_secs(1) / RATE * n;
                strangers.extend(half_open.come(address(1), now));
                strangers
                    .iter()
                    .next_back()
                    .into_iter()
                    .for_each(|place: &Place| place.reach(Stage::Speaking));
                // Whoever is hung up on goes.
                strangers.retain(|place| !is_evicted(place));
                if worker.as_ref().is_some_and(|(place, _)| is_evicted(place)) {
                    (worker, dials) = (None, now + Duration::from_millis(100));
                }
                match &worker {
                    Some((_, since)) if now >= *since + handshake => {
                        let_in = Some(now - begun);
                        break;
                    }
                    None if now >= dials => {
                        worker = half_open.come(address(1), now).map(|place| {
                            place.reach(Stage::Speaking);
                            (place, now)
                        });
                        dials = now + Duration::from_millis(100);
                    }
                    Some(_) | None => {}
                }
            }
            slowest = slowest.max(let_in.unwrap_or_else(|| panic!("seed {seed}: it never comes in")));
        }
        assert!(slowest < Duration::from_secs(2), "it took {slowest:?}");
    }

    #[test]
    fn many_addresses_leave_room_for_one_more() {
        let half_open = HalfOpen::new(1);
        let mut flood = Vec::new();
        for last in 10..10 + u8::try_from(MAX_HALF_OPEN / MAX_HALF_OPEN_OF_ONE).unwrap() {
            flood
                .extend((0..MAX_HALF_OPEN_OF_ONE).map(|_| half_open.come(address(last), moment(0)).unwrap()));
        }
        let late = half_open.come(address(1), moment(1)).unwrap();
        assert_eq!(half_open.len(), MAX_HALF_OPEN);
        assert!(!is_evicted(&late));
        assert_eq!(flood.iter().filter(|place| is_evicted(place)).count(), 1);
    }
}
