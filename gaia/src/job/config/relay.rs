//! Reads a file of links between real processes: the same links as in simulations, and what can be
//! dialled over each.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use wan::relay::{Direction, RelayLink, RelayRoute};

use super::links::{RawLink, link};
use crate::settings::Section;
use crate::settings::kind::{host_and_port, list, name, socket_address, whole};

/// Links between real processes, for [`wan::relay::Relay`].
#[derive(Clone, Debug, PartialEq)]
pub struct LinkFile {
    /// Decides losses, jitter and duplicates. Default 1.
    pub seed: u64,
    /// At least one, with distinct names; with at least one route, and no two of them at the same
    /// address.
    pub links: Vec<RelayLink>,
}

/// A route costs a socket and a task.
const MOST_ROUTES: usize = 4096;

/// Reads the root table.
pub(super) fn link_file(s: &Section<'_>) -> Option<LinkFile> {
    let seed = s.or("seed", 1, whole(0..=u64::MAX));
    let base = s.section("link", link);
    let mut seen = Seen::default();
    let links = s.sections("links", |s| {
        // A base that is wrong has been said: what links lack because of it is not their fault.
        relay_link(s, base.as_ref(), &mut seen)
    });
    if links.is_empty() && !s.has("links") {
        let message = "missing; allowed: at least one [[links]] table".to_owned();
        s.problem("links", message);
        return None;
    }
    let links: Vec<_> = links.into_iter().collect::<Option<_>>()?;
    let routes: usize = links.iter().map(|link: &RelayLink| link.routes.len()).sum();
    if !(1..=MOST_ROUTES).contains(&routes) {
        s.problem("links", format!("found {routes} routes in all; allowed: 1 to {MOST_ROUTES}"));
        return None;
    }
    Some(LinkFile { seed, links })
}

/// What must not be said twice.
#[derive(Default)]
struct Seen {
    names: BTreeSet<String>,
    addresses: BTreeSet<SocketAddr>,
}

fn relay_link(s: &Section<'_>, base: Option<&RawLink>, seen: &mut Seen) -> Option<RelayLink> {
    let called = s.required("name", name());
    let ends = ends(s);
    let is_new = called.as_ref().is_none_or(|called| seen.names.insert(called.clone()));
    if let Some(called) = called.as_ref().filter(|_| !is_new) {
        let message = format!("found {called:?} a second time; allowed: a name that no other link has");
        s.problem("name", message);
    }
    let both = link(s);
    let [there, back] = ["forward", "backward"].map(|way| s.section(way, link));
    let routes = s.sections("routes", |s| route(s, ends.as_ref(), seen));
    let way = |over: Option<RawLink>| {
        let mut raw = base?.clone();
        raw.overlay(both.as_ref()?);
        raw.overlay(&over?);
        Some(raw)
    };
    let (there, back) = (way(there)?, way(back)?);
    let lacking: BTreeSet<_> = there.lacking().chain(back.lacking()).collect();
    for key in &lacking {
        s.problem(key, "missing; allowed: said here, in [link], or in both forward and backward".to_owned());
    }
    if !lacking.is_empty() {
        return None;
    }
    let (forward, backward) = (there.finish(back.delay()), back.finish(there.delay()));
    for config in [&forward, &backward] {
        if let Err(error) = config.validate() {
            s.problem("outages", error.to_string());
            return None;
        }
    }
    Some(RelayLink {
        name: called.filter(|_| is_new)?,
        ends: ends?,
        forward,
        backward,
        routes: routes.into_iter().collect::<Option<_>>()?,
    })
}

/// The two places that a link joins; the first is where `forward` begins.
fn ends(s: &Section<'_>) -> Option<[String; 2]> {
    let between = s.required("between", list(name()))?;
    match <[String; 2]>::try_from(between) {
        Ok([one, other]) if one == other => {
            s.problem("between", format!("found {one:?} twice; allowed: two regions"));
            None
        }
        Ok(ends) => Some(ends),
        Err(found) => {
            let found = found.len();
            s.problem("between", format!("found {found} names; allowed: the names of two regions"));
            None
        }
    }
}

fn route(s: &Section<'_>, ends: Option<&[String; 2]>, seen: &mut Seen) -> Option<RelayRoute> {
    let listen = s.required("listen", socket_address());
    let target = s.required("target", host_and_port());
    let from = s.optional("from", name());
    // Port 0 is a new one each time.
    if let Some(listen) = listen.filter(|listen| listen.port() != 0 && !seen.addresses.insert(*listen)) {
        let message =
            format!("found \"{listen}\" a second time; allowed: an address that no other route has");
        s.problem("listen", message);
        return None;
    }
    let direction = match (ends?, from) {
        ([first, _], from) if from.as_ref().is_none_or(|from| from == first) => Direction::Forward,
        ([_, second], Some(from)) if from == *second => Direction::Backward,
        ([first, second], from) => {
            let found = from.unwrap_or_default();
            s.problem("from", format!("found {found:?}; allowed: {first:?} or {second:?}, as in between"));
            return None;
        }
    };
    // A datagram would go round for ever.
    let (listen, target) = (listen?, target?);
    if target.parse() == Ok(listen) {
        s.problem("target", "is the address that the route listens on; allowed: another one".to_owned());
        return None;
    }
    Some(RelayRoute { listen, target, direction })
}
