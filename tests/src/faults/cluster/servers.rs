//! Server processes: how they die, return, stand still and leave, and what they keep.

use std::collections::BTreeSet;
use std::time::Duration;

use datacenter::message::Request;
use datacenter::shard::Shard;
use datacenter::{Clock, DatacenterId, ShardId, WorkerId};
use rand::RngExt;
use wan::node::{Grace, Node, PeerConfig, life_after};
use wan::replica::Replica;

use super::disks::Keeper;
use super::workers::Worker;
use super::{Cluster, Event, GRACE, SHARDS, Sabotage, WORKERS};
use crate::faults::scenario::Server;

pub(super) struct Process {
    pub(super) server: Server,
    pub(super) node: Option<Node>,
    pub(super) is_frozen: bool,
    /// It is known what it has left behind.
    pub(super) is_written_off: bool,
    /// Workers may come.
    pub(super) is_open: bool,
    pub(super) poll_at: Option<Duration>,
    pub(super) keeper: Keeper,
    /// Datacenters that it has had a link with.
    pub(super) linked: BTreeSet<usize>,
}

impl Cluster {
    pub(super) fn kill(&mut self, (site, server): Server) {
        let Some(process) = self.sites[site].process[usize::from(server)].take() else { return };
        self.bury((site, server), process);
    }

    /// A process is no more: what only it knew is lost.
    pub(super) fn bury(&mut self, (site, server): Server, process: usize) {
        self.account_for(site, process);
        self.processes[process].node = None;
        if self.sites[site].process.get(usize::from(server)).is_some_and(Option::is_none) {
            self.forget_joins(site, server);
            self.at(self.now + GRACE.server, Event::Away { site, server });
        }
        self.break_links(process);
    }

    pub(super) fn return_server(&mut self, (site, server): Server, empty: bool, is_new: bool) {
        if self.sites[site].process[usize::from(server)].is_some() {
            return;
        }
        let shards: Vec<u16> = (0..SHARDS).filter(|s| s % self.sites[site].servers == server).collect();
        if empty {
            shards.iter().for_each(|s| {
                self.sites[site].disk[usize::from(*s)].clear();
            });
        }
        // One that stands still is replaced.
        for process in 0..self.processes.len() {
            if self.processes[process].server == (site, server) && self.processes[process].is_frozen {
                self.is_replacing = true;
                self.account_for(site, process);
                self.is_replacing = false;
            }
        }
        let here = DatacenterId(site as u16);
        let peers: Vec<DatacenterId> =
            (0..self.sites.len()).filter(|s| *s != site).map(|s| DatacenterId(s as u16)).collect();
        let saved: Vec<_> =
            shards.iter().filter_map(|s| self.sites[site].disk[usize::from(*s)].back()).collect();
        let begins = saved.iter().map(|state| (state.shard, state.clock)).collect::<Vec<_>>().into_iter();
        let known = saved.iter().filter_map(|state| state.life_of(here)).max();
        // As `gaia::service` has it: by the clock of the machine, and later than those that the
        // checkpoints know.
        let date = self.date(site);
        let life = match self.plan.sabotage {
            Some(Sabotage::SameLife) => 1,
            _ => life_after(known.unwrap_or(0), date.as_micros() as u64),
        };
        let replicas = shards.iter().map(|&s| {
            let shapes = &self.shapes[usize::from(s)];
            let zeros = shapes.iter().map(|t| vec![0.0; t.elements()]).collect();
            let shard = Shard::new(ShardId(s), shapes, zeros, WORKERS as usize, self.plan.staleness);
            let replica = Replica::new(shard, &self.plan.policy, peers.iter().copied());
            match self.sites[site].disk[usize::from(s)].back().cloned() {
                Some(state) => replica.restored(state, here).expect("it is of this shard"),
                None if is_new => replica,
                None => replica.without_state(),
            }
        });
        let configs: Vec<_> = peers
            .iter()
            .map(|&id| PeerConfig {
                id,
                rate_bytes_per_sec: Some(1_000_000),
                window_bytes: None,
                transfer_bytes_per_sec: self.plan.scenario.transfer_bytes_per_sec,
            })
            .collect();
        let grace = match self.plan.sabotage {
            Some(Sabotage::NoGrace) => Grace {
                workers: Duration::from_secs(9999),
                server: Duration::from_secs(9999),
                datacenter: Duration::from_secs(9999),
            },
            _ => GRACE,
        };
        let node = Node::new(replicas.collect(), &configs, &self.plan.policy)
            .ending_at(Clock(self.plan.clocks))
            .in_life(life)
            .giving_up(grace);
        self.processes.push(Process {
            server: (site, server),
            node: Some(node),
            is_frozen: false,
            is_written_off: false,
            is_open: is_new,
            poll_at: None,
            keeper: Keeper::new(begins),
            linked: BTreeSet::new(),
        });
        let process = self.processes.len() - 1;
        self.sites[site].process[usize::from(server)] = Some(process);
        self.dial_all(process);
        self.at(self.now, Event::Poll { process });
        if is_new {
            self.come_to(site, server);
        }
    }

    /// What a datacenter's machines take the time to be.
    fn date(&mut self, site: usize) -> Duration {
        let is_told = !self.plan.scenario.clocks.is_empty();
        let minutes = match site {
            // They differ by more than processes live.
            1 if !is_told => self.rng.random_range(-60..=60),
            _ => self.sites[site].clock_ahead_minutes,
        };
        Duration::from_secs((24 * 60 + minutes).unsigned_abs() * 60) + self.now
    }

    fn dial_all(&mut self, process: usize) {
        let site = self.processes[process].server.0;
        for other in 0..self.processes.len() {
            if self.processes[other].server.0 == site {
                continue;
            }
            match self.processes[other].node.is_some() {
                true => self.after_delay(Event::Dial { one: process, other }),
                // Nobody knows who is dead, and whoever dials may begin with those.
                false if self.is_latest(other) => self.at(self.now, Event::Dial { one: process, other }),
                false => {}
            }
        }
    }

    /// Whether no later process of its server has come.
    fn is_latest(&self, process: usize) -> bool {
        let server = self.processes[process].server;
        self.processes[process + 1..].iter().all(|later| later.server != server)
    }

    /// A process neither dies nor goes on.
    pub(super) fn freeze(&mut self, (site, server): Server) {
        let Some(process) = self.sites[site].process[usize::from(server)].take() else { return };
        self.processes[process].is_frozen = true;
        self.forget_joins(site, server);
        self.at(self.now + GRACE.server, Event::Away { site, server });
        self.break_links(process);
    }

    /// A process goes on, perhaps beside the one that has taken its place.
    pub(super) fn thaw(&mut self, (site, server): Server) {
        let frozen = (0..self.processes.len())
            .find(|&p| self.processes[p].is_frozen && self.processes[p].server == (site, server));
        let Some(process) = frozen else { return };
        self.processes[process].is_frozen = false;
        let place = &mut self.sites[site].process[usize::from(server)];
        if place.is_none() {
            *place = Some(process);
            self.come_to(site, server);
        }
        self.dial_all(process);
        self.at(self.now, Event::Poll { process });
    }

    pub(super) fn kill_datacenter(&mut self, site: usize) {
        for server in 0..self.sites[site].process.len() as u16 {
            self.kill((site, server));
        }
        for worker in 0..WORKERS as usize {
            let life = self.sites[site].workers[worker].life + 1;
            self.sites[site].workers[worker] = Worker { is_alive: false, life, ..Worker::new() };
        }
    }

    pub(super) fn return_datacenter(&mut self, site: usize, is_new: bool) {
        let servers = self.sites[site].servers;
        self.sites[site].process.resize(usize::from(servers), None);
        for worker in &mut self.sites[site].workers {
            (worker.is_alive, worker.life) = (true, worker.life + 1);
        }
        for worker in 0..WORKERS as usize {
            let life = self.sites[site].workers[worker].life;
            self.after_step(Event::Step { site, worker, life });
        }
        (0..servers).for_each(|server| self.return_server((site, server), false, is_new));
    }

    pub(super) fn leave(&mut self, site: usize) -> Result<(), String> {
        for worker in 0..WORKERS as usize {
            let life = self.sites[site].workers[worker].life + 1;
            self.sites[site].workers[worker] = Worker { is_alive: false, life, ..Worker::new() };
        }
        self.sites[site].has_left = true;
        for process in self.sites[site].process.clone().into_iter().flatten() {
            let now = self.start + self.now;
            let node = self.node(process).expect("it runs");
            let shards: Vec<ShardId> = node.replicas().iter().map(|r| r.shard().id()).collect();
            for (shard, worker) in shards.iter().flat_map(|s| (0..WORKERS).map(|w| (*s, WorkerId(w)))) {
                node.handle_request(shard, Request::Leave(worker), now).map_err(|e| e.to_string())?;
            }
            self.flush(process)?;
        }
        Ok(())
    }

    /// A process has been told that its datacenter has left for good, and ends.
    pub(super) fn expel(&mut self, process: usize) {
        let server = self.processes[process].server;
        if self.processes[process].node.is_none() {
            return;
        }
        let place = &mut self.sites[server.0].process[usize::from(server.1)];
        *place = place.filter(|current| *current != process);
        self.bury(server, process);
    }

    /// A datacenter that is to leave does so when everybody has all it had.
    pub(super) fn leave_if_drained(&mut self, process: usize) {
        let (site, server) = self.processes[process].server;
        if !self.sites[site].has_left || !self.node(process).is_some_and(|node| node.is_drained()) {
            return;
        }
        self.processes[process].node = None;
        self.sites[site].process[usize::from(server)] = None;
        self.say_goodbye(process);
    }
}
