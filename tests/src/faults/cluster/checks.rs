//! What must hold: after every event, when somebody dies, and in the end.

use std::collections::{BTreeMap, BTreeSet};

use datacenter::{DatacenterId, ShardId, TableId};
use wan::node::Node;
use wan::replica::Replica;

use super::servers::Process;
use super::{Cluster, SHARDS};
use crate::faults::scenario::{Fault, Server};

impl Cluster {
    /// What is left of what a process has taken, once it is dead or replaced.
    pub(super) fn account_for(&mut self, site: usize, process: usize) {
        if std::mem::replace(&mut self.processes[process].is_written_off, true) {
            return;
        }
        let Some(node) = &self.processes[process].node else { return };
        for replica in node.replicas() {
            let id = replica.shard().id();
            let saved = self.sites[site].disk[id.index()].back().filter(|_| self.disk_will_be_read(site, id));
            let alive = self.processes.iter().filter(|p| p.server.0 != site && !p.is_frozen);
            let others = alive.filter_map(|p| p.node.as_ref()).flat_map(|node| node.replicas());
            let others: Vec<_> = others.filter(|other| other.shard().id() == id).collect();
            // One that stands still may yet tell others what it has, before they hear of who has
            // replaced it.
            let is_final = !self.processes[process].is_frozen;
            let is_exact = others.len() + 1 == self.sites.len() && !replica.is_recovering() && is_final;
            let owner = DatacenterId(site as u16);
            let ledgers = others.iter().filter_map(|other| {
                other.ledgers().mirrors.iter().find(|(of, _)| *of == owner).map(|(_, ledger)| ledger)
            });
            self.account.die(site, id, saved, ledgers, is_exact);
            for other in (0..self.sites.len()).filter(|other| *other != site) {
                let alive = self.processes.iter().filter(|p| p.server.0 == other);
                let replicas = alive.filter_map(|p| p.node.as_ref()).flat_map(|node| node.replicas());
                let mut of_shard = replicas.filter(|r| r.shard().id() == id);
                if of_shard.next().is_none_or(|r| r.is_recovering()) {
                    let saved = self.sites[other].disk[id.index()].back();
                    self.account.weaken(other, id, saved.filter(|_| self.disk_will_be_read(other, id)));
                }
            }
        }
    }

    /// Whether the next process that hosts a shard will begin from the disk.
    fn disk_will_be_read(&self, of: usize, shard: ShardId) -> bool {
        let is_host = |(site, server): Server| site == of && shard.0 % self.sites[of].servers == server;
        let next = self.story.iter().find_map(|(_, fault)| match fault {
            Fault::Return(server) => is_host(*server).then_some(true),
            Fault::ReturnEmpty(server) => is_host(*server).then_some(false),
            Fault::ReturnDatacenter(site) => (*site == of).then_some(true),
            Fault::ReturnDatacenterEmpty(site) => (*site == of).then_some(false),
            Fault::ReturnAll => Some(true),
            _ => None,
        });
        // One that is being replaced right now is so from its disk.
        next.unwrap_or(self.is_replacing)
    }

    pub(super) fn is_settled(&self) -> bool {
        let running = || self.processes.iter().filter(|p| !p.is_frozen && p.node.is_some());
        let sites: BTreeSet<usize> = running().map(|p| p.server.0).collect();
        // Who is there must have found each other again.
        let is_settled = |p: &Process| {
            let node = p.node.as_ref().expect("it runs");
            let mirrors = || (0..).zip(node.datacenters()).filter(|(_, id)| sites.contains(&id.index()));
            node.is_settled()
                && node.replicas().iter().all(|replica| mirrors().all(|(at, _)| !replica.is_gone(at)))
        };
        !sites.is_empty() && running().all(is_settled)
    }

    pub(super) fn check_end(&self) -> Result<(), String> {
        for node in self.processes.iter().filter(|p| !p.is_frozen).filter_map(|p| p.node.as_ref()) {
            self.check_departed(node)?;
        }
        for shard in (0..SHARDS).map(ShardId) {
            let running = self.processes.iter().filter(|p| !p.is_frozen).filter_map(|p| {
                let node = p.node.as_ref()?;
                let replica = node.replicas().iter().find(|r| r.shard().id() == shard)?;
                Some((p.server.0, replica))
            });
            let running: Vec<_> = running.collect();
            for t in 0..self.shapes[shard.index()].len() as u16 {
                let (_, first) = running[0];
                for (site, replica) in &running {
                    let parts = replica.ledgers();
                    let mut sums = parts.own.sums(TableId(t)).to_vec();
                    for (_, ledger) in &parts.mirrors {
                        sums.iter_mut().zip(ledger.sums(TableId(t))).for_each(|(sum, part)| *sum += part);
                    }
                    if replica.shard().values(TableId(t)) != sums {
                        return Err(format!(
                            "the values of {shard} at {site} are not the sum of their parts"
                        ));
                    }
                    let own = DatacenterId(*site as u16);
                    for (other, there) in &running {
                        let theirs = there.ledgers().mirrors.iter().find(|(id, _)| *id == own);
                        if theirs.is_some_and(|(_, l)| l.sums(TableId(t)) != parts.own.sums(TableId(t))) {
                            return Err(format!(
                                "{other} differs from {site} in what {site} has released of {shard}"
                            ));
                        }
                    }
                    if replica.shard().values(TableId(t)) != first.shard().values(TableId(t)) {
                        let of = |replica: &Replica, id: DatacenterId| {
                            let ledgers = replica.ledgers();
                            let mirror = ledgers.mirrors.iter().find(|(of, _)| *of == id);
                            mirror.map_or(&ledgers.own, |(_, ledger)| ledger).clone()
                        };
                        let parts = (0..self.sites.len() as u16).map(DatacenterId).filter(|id| {
                            of(first, *id).sums(TableId(t)) != of(replica, *id).sums(TableId(t))
                        });
                        return Err(format!(
                            "law 1: datacenters {} and {site} differ in table {t} of {shard}, in what {:?} has released",
                            running[0].0,
                            parts.collect::<Vec<_>>()
                        ));
                    }
                }
                let parts = first.ledgers();
                let of: Vec<_> =
                    parts.mirrors.iter().map(|(id, l)| (id.index(), l.sums(TableId(t)))).collect();
                let checked = self.account.check(shard, TableId(t), first.shard().values(TableId(t)));
                checked.map_err(|error| {
                    let at: usize = error.split(' ').nth(3).and_then(|n| n.parse().ok()).unwrap_or(0);
                    let own = (running[0].0, parts.own.sums(TableId(t)));
                    let sums: BTreeMap<_, _> = of.iter().chain([&own]).map(|(s, v)| (*s, v[at])).collect();
                    format!("{error}; found {sums:?}")
                })?;
            }
        }
        Ok(())
    }

    /// Values are wanted only of whom there has been a link with: whoever is dialled may be dead.
    pub(super) fn check_donors(&self) -> Result<(), String> {
        for process in &self.processes {
            if let Some(node) = &process.node {
                let donors = node.replicas().iter().filter_map(|replica| replica.donor());
                let sites = donors.filter_map(|place| node.datacenters().nth(place)).map(|id| id.index());
                if let Some(site) = sites.into_iter().find(|site| !process.linked.contains(site)) {
                    return Err(format!(
                        "{:?} wants values of {site}, with which it has no link",
                        process.server
                    ));
                }
            }
        }
        Ok(())
    }

    /// What a replica has is what it began with, all that was released, and what is held back.
    pub(super) fn check_sums(&mut self) -> Result<(), String> {
        for process in std::mem::take(&mut self.touched) {
            let process = &self.processes[process];
            let site = process.server.0;
            for replica in process.node.iter().flat_map(|node| node.replicas()) {
                let state = replica.state(DatacenterId(site as u16));
                for (t, values) in state.values.iter().enumerate() {
                    let mut sums = vec![0.0; values.len()];
                    for origin in &state.origins {
                        sums.iter_mut().zip(&origin.tables[t].sums).for_each(|(sum, part)| *sum += part);
                    }
                    for held in state.remainders.iter().filter(|held| held.table.index() == t) {
                        held.indexes.iter().zip(&held.values).for_each(|(i, v)| sums[*i as usize] += v);
                    }
                    if *values != sums {
                        let at = values.iter().zip(&sums).position(|(v, s)| v != s).unwrap_or(0);
                        return Err(format!(
                            "{} at {:?} is not the sum of its parts: {} is {} and not {}",
                            state.shard, process.server, at, values[at], sums[at]
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Everybody knows who has left for good, and keeps nothing for them.
    fn check_departed(&self, node: &Node) -> Result<(), String> {
        let departed: BTreeSet<_> = node.departed().collect();
        if departed != self.departed {
            return Err(format!("{departed:?} are known to have left for good, and not {:?}", self.departed));
        }
        let is_open = |r: &Replica| {
            (0..).zip(node.datacenters()).any(|(at, id)| {
                let outbox = r.outbox(at);
                let is_kept = outbox.waiting_bytes() + outbox.in_flight_bytes() > 0;
                departed.contains(&id) && (outbox.is_open() || is_kept)
            })
        };
        if let Some(replica) = node.replicas().iter().find(|r| is_open(r)) {
            return Err(format!("{} keeps something for who has left for good", replica.shard().id()));
        }
        if let Some(replica) = node.replicas().iter().find(|r| !departed.is_empty() && !r.is_whole()) {
            return Err(format!("{} still waits for what it may have lost", replica.shard().id()));
        }
        Ok(())
    }

    pub(super) fn why(&self) -> String {
        let processes = self.processes.iter().filter_map(|p| Some((p, p.node.as_ref()?)));
        let each = processes.map(|(p, node)| {
            let replicas = node.replicas().iter().map(|r| {
                let mirrors: Vec<_> = (0..node.datacenters().len())
                    .map(|m| {
                        (
                            r.inbox(m).arrived_clock().0,
                            r.inbox(m).arrived_count(),
                            r.is_gone(m),
                            r.outbox(m).is_drained(),
                            r.outbox(m).progress(),
                        )
                    })
                    .collect();
                let waiting: Vec<_> = r.shard().waiting().map(|(w, why)| (w.0, why)).collect();
                let live: Vec<_> = r.shard().live_workers().map(|(w, c)| (w.0, c.0)).collect();
                format!(
                    "{} at {} live {live:?} waiting {waiting:?} mirrors {mirrors:?}",
                    r.shard().id(),
                    r.shard().clock().0
                )
            });
            let replicas: Vec<_> = replicas.collect();
            format!("\n{:?} open {} frozen {}: {}", p.server, p.is_open, p.is_frozen, replicas.join("; "))
        });
        let workers = self.sites.iter().enumerate().map(|(s, site)| {
            let each =
                site.workers.iter().map(|w| (w.is_alive, w.clock, w.is_done, w.asked.len(), &w.joined));
            format!("\nworkers of {s}: {:?}", each.collect::<Vec<_>>())
        });
        let links = self
            .links
            .iter()
            .filter(|((a, b), _)| self.processes[*a].node.is_some() && self.processes[*b].node.is_some());
        let links = links.map(|((a, b), link)| {
            format!("\n{:?} {:?} {link:?}", self.processes[*a].server, self.processes[*b].server)
        });
        each.chain(workers).chain(links).collect()
    }
}
