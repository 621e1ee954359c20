//! What has crossed between regions in all, as far as anybody knows.
//!
//! Kind: time-free.
//!
//! What is paid for does not become less because a process dies. Its own counts go with it; but the
//! other end of each of its links has counted what arrived there. So of what a link has carried,
//! the larger of the two counts holds: that of the sender, which also has what was lost on the way,
//! and that of the receiver. Whoever goes on watching remembers besides what was told before. A
//! server that starts anew goes on from its checkpoint, and from what it had told where checkpoints
//! lie in a directory.
//!
//! What is lost for all that: what a dead server had sent and nobody received since it was last
//! asked.

use std::collections::BTreeMap;

use super::Status;

/// A server: its region, and its index there.
type Server = (String, u16);

/// Of servers and links. Nothing in it ever falls.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    servers: BTreeMap<Server, Own>,
    /// By sender and receiver.
    links: BTreeMap<(Server, Server), Link>,
}

/// What a server said of itself.
#[derive(Clone, Copy, Debug, Default)]
struct Own {
    sent_bytes: u64,
    received_bytes: u64,
    /// Of those sent, what went over no link: handshakes, and what was refused.
    beside_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// As its sender counts.
    sent_bytes: u64,
    /// As its receiver counts.
    arrived_bytes: u64,
    naive_bytes: u64,
}

impl Totals {
    /// What these processes say.
    pub fn of<'a>(statuses: impl IntoIterator<Item = &'a Status>) -> Self {
        let mut totals = Self::default();
        statuses.into_iter().for_each(|status| totals.add(status));
        totals
    }

    /// Takes in what a process says. In what order, and how often, is no matter.
    pub fn add(&mut self, status: &Status) {
        for server in &status.servers {
            let here = (status.datacenter.clone(), server.index);
            let mut over_links = 0;
            for link in &server.links {
                let there = (link.datacenter.clone(), link.server);
                over_links = sum([over_links, link.sent_bytes]);
                let towards = self.links.entry((here.clone(), there.clone())).or_default();
                raise(&mut towards.sent_bytes, link.sent_bytes);
                raise(&mut towards.naive_bytes, link.naive_bytes);
                raise(
                    &mut self.links.entry((there, here.clone())).or_default().arrived_bytes,
                    link.received_bytes,
                );
            }
            let own = self.servers.entry(here).or_default();
            raise(&mut own.sent_bytes, server.wan_sent_bytes);
            raise(&mut own.received_bytes, server.wan_received_bytes);
            raise(&mut own.beside_bytes, server.wan_sent_bytes.saturating_sub(over_links));
        }
    }

    /// What the servers of `region` have sent, all in all.
    pub fn sent_bytes(&self, region: &str) -> u64 {
        let beside = self.of_region(region).map(|own| own.beside_bytes);
        let over_links = self.links_of(region).map(|link| link.sent_bytes.max(link.arrived_bytes));
        sum(beside.chain(over_links))
    }

    /// What they have received, as far as they have told that.
    pub fn received_bytes(&self, region: &str) -> u64 {
        sum(self.of_region(region).map(|own| own.received_bytes))
    }

    /// What shipping every update would have sent instead, as far as they have told that.
    pub fn naive_bytes(&self, region: &str) -> u64 {
        sum(self.links_of(region).map(|link| link.naive_bytes))
    }

    /// What they say themselves that they have sent: what is to be compared with
    /// [`naive_bytes`](Self::naive_bytes), of which the others know nothing either.
    pub fn told_sent_bytes(&self, region: &str) -> u64 {
        sum(self.of_region(region).map(|own| own.sent_bytes))
    }

    fn of_region(&self, region: &str) -> impl Iterator<Item = &Own> {
        self.servers.iter().filter(move |((name, _), _)| name == region).map(|(_, own)| own)
    }

    fn links_of(&self, region: &str) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(move |(((name, _), _), _)| name == region).map(|(_, link)| link)
    }
}

fn raise(known: &mut u64, told: u64) {
    *known = told.max(*known);
}

/// The sum of what processes have told, each of which may tell what it likes.
pub(crate) fn sum(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::service::status::{LinkStatus, ServerStatus};

    const REGIONS: [&str; 3] = ["virginia", "ireland", "singapore"];

    fn sum_of(totals: &Totals) -> u64 {
        REGIONS.iter().map(|region| totals.sent_bytes(region)).sum()
    }

    /// What three regions of one server have counted.
    #[derive(Clone, Debug, Default)]
    struct World {
        sent: [[u64; 3]; 3],
        arrived: [[u64; 3]; 3],
        beside: [u64; 3],
        /// What each had counted when it last kept it.
        kept: [([u64; 3], [u64; 3], u64); 3],
        is_dead: [bool; 3],
    }

    impl World {
        fn statuses(&self) -> Vec<Status> {
            let alive = (0..3).filter(|at| !self.is_dead[*at]);
            let status = |at: usize| {
                let links = (0..3).filter(|other| *other != at).map(|other| LinkStatus {
                    datacenter: REGIONS[other].to_owned(),
                    sent_bytes: self.sent[at][other],
                    received_bytes: self.arrived[at][other],
                    ..LinkStatus::default()
                });
                let server = ServerStatus {
                    wan_sent_bytes: self.sent[at].iter().sum::<u64>() + self.beside[at],
                    links: links.collect(),
                    ..ServerStatus::default()
                };
                Status { datacenter: REGIONS[at].to_owned(), servers: vec![server], ..Status::default() }
            };
            alive.map(status).collect()
        }

        fn restart(&mut self, at: usize) {
            (self.sent[at], self.arrived[at], self.beside[at]) = self.kept[at];
            self.is_dead[at] = false;
        }
    }

    #[derive(Clone, Debug)]
    enum Act {
        Send { from: usize, to: usize, bytes: u64, is_lost: bool },
        Handshake(usize, u64),
        Keep(usize),
        Die(usize),
        Restart(usize),
    }

    fn act() -> impl Strategy<Value = Act> {
        let send = (0..3usize, 1..3usize, 1..1000u64, any::<bool>());
        prop_oneof![
            6 => send.prop_map(|(from, step, bytes, is_lost)| Act::Send { from, to: (from + step) % 3, bytes, is_lost }),
            1 => (0..3usize, 1..100u64).prop_map(|(at, bytes)| Act::Handshake(at, bytes)),
            2 => (0..3usize).prop_map(Act::Keep),
            1 => (0..3usize).prop_map(Act::Die),
            2 => (0..3usize).prop_map(Act::Restart),
        ]
    }

    #[test]
    fn whatever_processes_tell_has_a_sum() {
        let link = |datacenter: &str| LinkStatus {
            datacenter: datacenter.to_owned(),
            sent_bytes: u64::MAX,
            received_bytes: u64::MAX,
            naive_bytes: u64::MAX,
            ..LinkStatus::default()
        };
        let server = ServerStatus {
            links: vec![link("ireland"), link("singapore")],
            wan_sent_bytes: u64::MAX,
            wan_received_bytes: u64::MAX,
            ..ServerStatus::default()
        };
        let servers = vec![server.clone(), ServerStatus { index: 1, ..server }];
        let totals =
            Totals::of([&Status { datacenter: "virginia".to_owned(), servers, ..Status::default() }]);
        let all = [Totals::sent_bytes, Totals::received_bytes, Totals::naive_bytes, Totals::told_sent_bytes];
        assert_eq!(all.map(|of| of(&totals, "virginia")), [u64::MAX; 4]);
    }

    proptest! {
        /// Whatever dies and comes back from whatever it has kept, who watches never sees a sum
        /// fall. Who asks once sees no less than what arrived at those who live.
        #[test]
        fn sums_never_fall(acts in prop::collection::vec(act(), 1..80)) {
            let (mut world, mut watched, mut before) = (World::default(), Totals::default(), 0);
            for act in acts {
                match act {
                    Act::Send { from, to, bytes, is_lost } if !world.is_dead[from] => {
                        world.sent[from][to] += bytes;
                        if !is_lost && !world.is_dead[to] {
                            world.arrived[to][from] += bytes;
                        }
                    }
                    Act::Handshake(at, bytes) if !world.is_dead[at] => world.beside[at] += bytes,
                    Act::Keep(at) if !world.is_dead[at] => {
                        world.kept[at] = (world.sent[at], world.arrived[at], world.beside[at]);
                    }
                    Act::Die(at) => world.is_dead[at] = true,
                    Act::Restart(at) if world.is_dead[at] => world.restart(at),
                    _ => {}
                }
                let statuses = world.statuses();
                statuses.iter().for_each(|status| watched.add(status));
                let now = sum_of(&watched);
                prop_assert!(now >= before, "{before} before, {now} now, after {act:?}");
                before = now;
                let once = sum_of(&Totals::of(&statuses));
                let arrived = (0..3).filter(|at| !world.is_dead[*at]).map(|at| world.arrived[at].iter().sum::<u64>());
                prop_assert!(once <= now && once >= arrived.sum::<u64>());
            }
        }

        /// With nothing lost on the way, and everything kept before it is told, who asks anew each
        /// time sees none fall either but for what was said beside the links, while its process is
        /// away.
        #[test]
        fn who_asks_once_sees_the_share_of_the_dead(acts in prop::collection::vec(act(), 1..80), victim in 0..3usize) {
            let mut world = World::default();
            for act in acts {
                if let Act::Send { from, to, bytes, .. } = act {
                    world.sent[from][to] += bytes;
                    world.arrived[to][from] += bytes;
                }
            }
            let before = sum_of(&Totals::of(&world.statuses()));
            world.kept[victim] = (world.sent[victim], world.arrived[victim], world.beside[victim]);
            world.is_dead[victim] = true;
            prop_assert_eq!(sum_of(&Totals::of(&world.statuses())), before);
            world.restart(victim);
            prop_assert_eq!(sum_of(&Totals::of(&world.statuses())), before);
        }
    }
}
