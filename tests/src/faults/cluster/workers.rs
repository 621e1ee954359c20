//! Workers: what they say to their servers, and say again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use datacenter::message::{Flush, Read, ReadReply, Request, RowGroup, Wait};
use datacenter::{Clock, Elements, ShardId, TableId, WorkerId};
use rand::RngExt;

use super::{CONFIRMED, Cluster, Event, GRACE, NOTICE, REDIAL, SHARDS, Sabotage};

pub(super) struct Worker {
    pub(super) is_alive: bool,
    pub(super) life: u32,
    pub(super) clock: u32,
    pub(super) is_done: bool,
    /// What is to be said to each server, which is not there.
    pub(super) pending: BTreeMap<u16, VecDeque<(ShardId, Request)>>,
    /// Servers that count it.
    pub(super) joined: BTreeSet<u16>,
    pub(super) asked: BTreeMap<u16, Read>,
    /// The last flush to each shard, and when it was said: it may have been taken without the word
    /// of that having come.
    pub(super) last: BTreeMap<u16, (Duration, Flush)>,
    /// The time at which each server was lost last.
    pub(super) lost: BTreeMap<u16, Duration>,
}

impl Worker {
    pub(super) fn new() -> Self {
        Self {
            is_alive: true,
            life: 0,
            clock: 0,
            is_done: false,
            pending: BTreeMap::new(),
            joined: BTreeSet::new(),
            asked: BTreeMap::new(),
            last: BTreeMap::new(),
            lost: BTreeMap::new(),
        }
    }
}

impl Cluster {
    pub(super) fn kill_worker(&mut self, site: usize, worker: usize) -> Result<(), String> {
        let life = self.sites[site].workers[worker].life + 1;
        self.sites[site].workers[worker] = Worker { is_alive: false, life, ..Worker::new() };
        if self.plan.sabotage == Some(Sabotage::NoGrace) {
            return Ok(());
        }
        // Whoever watches the connections suspends it after the time of grace.
        self.at(self.now + GRACE.workers, Event::Suspend { site, worker, life });
        Ok(())
    }

    /// Nobody waits for a worker at servers that its process has not joined.
    pub(super) fn suspend(&mut self, site: usize, worker: usize) -> Result<(), String> {
        let now = self.start + self.now;
        for process in self.sites[site].process.clone().into_iter().flatten() {
            let server = self.processes[process].server.1;
            let has_joined = self.sites[site].workers[worker].joined.contains(&server);
            if let Some(node) = self.node(process).filter(|_| !has_joined) {
                node.suspend(WorkerId(worker as u32), now);
                self.flush(process)?;
            }
        }
        Ok(())
    }

    /// Workers that cannot go on without one server leave the others, so that nobody waits for
    /// them.
    pub(super) fn leave_servers(&mut self, site: usize) -> Result<(), String> {
        for worker in 0..self.sites[site].workers.len() {
            for server in std::mem::take(&mut self.sites[site].workers[worker].joined) {
                let Some(process) = self.open_process(site, server) else { continue };
                let servers = self.sites[site].servers;
                for shard in (0..SHARDS).filter(|shard| shard % servers == server) {
                    self.say(process, ShardId(shard), Request::Leave(WorkerId(worker as u32)))?;
                    let here = &mut self.sites[site].workers[worker];
                    if let Some(read) = here.asked.get(&shard).cloned() {
                        let pending = here.pending.entry(server).or_default();
                        pending.push_back((ShardId(shard), Request::Read(read)));
                    }
                }
                self.flush(process)?;
            }
        }
        Ok(())
    }

    /// A server is gone: workers will join the one that comes in its place.
    pub(super) fn forget_joins(&mut self, site: usize, server: u16) {
        let servers = self.sites[site].servers;
        for worker in &mut self.sites[site].workers {
            worker.joined.remove(&server);
            worker.lost.insert(server, self.now);
            // Whatever was not confirmed will be said again.
            for (shard, read) in worker.asked.iter().filter(|(shard, _)| **shard % servers == server) {
                let pending = worker.pending.entry(server).or_default();
                pending.push_back((ShardId(*shard), Request::Read(read.clone())));
            }
        }
    }

    /// Another process of a worker is there: it comes to the servers, and joins when all of them
    /// are there.
    pub(super) fn return_worker(&mut self, site: usize, worker: usize) -> Result<(), String> {
        self.sites[site].workers[worker].is_alive = true;
        let life = self.sites[site].workers[worker].life;
        self.after_step(Event::Step { site, worker, life });
        self.suspend(site, worker)
    }

    /// A server is there for the workers of its datacenter.
    pub(super) fn come_to(&mut self, site: usize, server: u16) {
        for worker in 0..self.sites[site].workers.len() {
            if self.sites[site].workers[worker].is_alive {
                let life = self.sites[site].workers[worker].life;
                self.after_delay(Event::Step { site, worker, life });
            }
        }
        if let Some(process) = self.open_process(site, server) {
            self.at(self.now + GRACE.workers, Event::Absent { process });
        }
    }

    pub(super) fn open_process(&self, site: usize, server: u16) -> Option<usize> {
        let process = *self.sites[site].process.get(usize::from(server))?.as_ref()?;
        (self.processes[process].is_open && !self.processes[process].is_frozen).then_some(process)
    }

    /// One worker's turn: it says what it has to say, and if it waits for nothing, ends its clock.
    pub(super) fn step(&mut self, site: usize, worker: usize) -> Result<(), String> {
        let id = WorkerId(worker as u32);
        let servers = self.sites[site].servers;
        // Who is with none of the servers joins when all are there, or those that are would wait
        // for it.
        let may_join = !self.sites[site].workers[worker].joined.is_empty()
            || (0..servers).all(|server| self.open_process(site, server).is_some());
        for server in 0..servers {
            let Some(process) = self.open_process(site, server) else { continue };
            let here = &mut self.sites[site].workers[worker];
            let mut requests = here.pending.remove(&server).unwrap_or_default();
            if !here.joined.contains(&server)
                && let Some(&lost) = here.lost.get(&server).filter(|_| self.plan.staleness == Some(0))
            {
                // The word that the last flush was taken may not have come.
                let shards = here.last.iter().filter(|(s, _)| **s % servers == server);
                let unconfirmed = shards.filter(|(_, (said, _))| lost.saturating_sub(*said) < CONFIRMED);
                let again = unconfirmed.map(|(s, (_, flush))| (ShardId(*s), Request::Flush(flush.clone())));
                let again: Vec<_> = again.collect();
                again.into_iter().rev().for_each(|request| requests.push_front(request));
            }
            let mut reads = Vec::new();
            for (shard, request) in requests {
                match request {
                    Request::Read(read) => reads.push((shard, read)),
                    request => self.say(process, shard, request)?,
                }
            }
            if may_join
                && !self.sites[site].workers[worker].is_done
                && self.sites[site].workers[worker].joined.insert(server)
            {
                self.join_all(site, worker)?;
            }
            for (shard, read) in reads {
                self.say(process, shard, Request::Read(read))?;
            }
            self.flush(process)?;
        }
        if self.sites[site].workers[worker].clock >= self.plan.clocks {
            // The others have done the rest without it.
            return self.finish(site, worker);
        }
        let here = &self.sites[site].workers[worker];
        let all_joined = (0..self.sites[site].servers).all(|server| here.joined.contains(&server));
        if here.is_done || !here.asked.is_empty() || !all_joined {
            return Ok(());
        }
        self.sites[site].workers[worker].clock += 1;
        self.progress_at = self.now;
        let clock = Clock(self.sites[site].workers[worker].clock);
        let is_done = clock.0 >= self.plan.clocks;
        for shard in (0..SHARDS).map(ShardId) {
            let deltas = self.random_deltas(shard);
            self.account.make(site, shard, &deltas);
            let flush = Flush::of_elements(id, clock, &deltas, &self.shapes[shard.index()]);
            self.sites[site].workers[worker].last.insert(shard.0, (self.now, flush.clone()));
            self.send(site, worker, shard, Request::Flush(flush))?;
            if is_done {
                self.send(site, worker, shard, Request::Leave(id))?;
            } else {
                let read = Read { worker: id, clock, groups: self.random_rows(shard) };
                self.sites[site].workers[worker].asked.insert(shard.0, read);
            }
        }
        self.sites[site].workers[worker].is_done = is_done;
        for (shard, read) in self.sites[site].workers[worker].asked.clone() {
            self.send(site, worker, ShardId(shard), Request::Read(read))?;
        }
        for server in 0..self.sites[site].servers {
            if let Some(process) = self.open_process(site, server) {
                self.flush(process)?;
            }
        }
        Ok(())
    }

    /// A worker has nothing left to do.
    fn finish(&mut self, site: usize, worker: usize) -> Result<(), String> {
        self.sites[site].workers[worker].is_done = true;
        self.sites[site].workers[worker].asked.clear();
        for server in std::mem::take(&mut self.sites[site].workers[worker].joined) {
            let servers = self.sites[site].servers;
            for shard in (0..SHARDS).filter(|shard| shard % servers == server) {
                self.send(site, worker, ShardId(shard), Request::Leave(WorkerId(worker as u32)))?;
            }
            if let Some(process) = self.open_process(site, server) {
                self.flush(process)?;
            }
        }
        Ok(())
    }

    /// A server has waited for its workers as long as it does.
    pub(super) fn suspend_absent(&mut self, process: usize) -> Result<(), String> {
        let ((site, server), now) = (self.processes[process].server, self.start + self.now);
        let is_absent = |worker: &Worker| !worker.is_alive || !worker.joined.contains(&server);
        let absent: Vec<_> = (0..).zip(&self.sites[site].workers).filter(|(_, w)| is_absent(w)).collect();
        let absent: Vec<_> = absent.into_iter().map(|(id, _)| WorkerId(id)).collect();
        for worker in absent {
            if let Some(node) = self.node(process) {
                node.suspend(worker, now);
            }
        }
        self.flush(process)
    }

    /// A worker counts as equally far at all servers that it has joined.
    fn join_all(&mut self, site: usize, worker: usize) -> Result<(), String> {
        let now = self.start + self.now;
        loop {
            let clock = self.sites[site].workers[worker].clock;
            let mut latest = clock;
            for server in self.sites[site].workers[worker].joined.clone() {
                let Some(process) = self.open_process(site, server) else { continue };
                let node = self.node(process).expect("it is there");
                let joined = node.join(WorkerId(worker as u32), Clock(clock), now);
                latest = joined.iter().map(|(_, clock)| clock.0).max().unwrap_or(0).max(latest);
                self.flush(process)?;
            }
            if latest == clock {
                return Ok(());
            }
            self.sites[site].workers[worker].clock = latest;
        }
    }

    /// Says something to the server of a shard, or keeps it until that is there.
    fn send(&mut self, site: usize, worker: usize, shard: ShardId, request: Request) -> Result<(), String> {
        let server = shard.0 % self.sites[site].servers;
        match self.open_process(site, server) {
            Some(process) => self.say(process, shard, request),
            None => {
                let pending = self.sites[site].workers[worker].pending.entry(server).or_default();
                pending.push_back((shard, request));
                Ok(())
            }
        }
    }

    pub(super) fn say(&mut self, process: usize, shard: ShardId, request: Request) -> Result<(), String> {
        let now = self.start + self.now;
        let site = self.processes[process].server.0;
        let node = self.node(process).expect("it is there");
        if let Request::Flush(flush) = &request {
            let known = node.replicas().iter().find(|r| r.shard().id() == shard);
            let is_new = known.and_then(|r| r.shard().flushed(flush.worker)) < Some(flush.clock);
            if is_new {
                self.account.take(site, shard, flush);
            }
        }
        let node = self.node(process).expect("it is there");
        let reply = node.handle_request(shard, request, now).map_err(|e| e.to_string())?;
        reply.map_or(Ok(()), |reply| self.answered(site, reply))
    }

    pub(super) fn answered(&mut self, site: usize, reply: ReadReply) -> Result<(), String> {
        self.outcome.reads += 1;
        if self.plan.bystanders.contains(&site) {
            self.check_lead(site, &reply)?;
            let remote = reply.held.iter().filter(|(why, _)| !matches!(why, Wait::Stale));
            let longest = remote.map(|(_, time)| *time).max().unwrap_or_default();
            self.outcome.longest_hold = self.outcome.longest_hold.max(longest);
            // The grace, two round trips, and a step of whoever is waited for.
            let bound = GRACE.datacenter * self.plan.scenario.graces
                + 4 * self.plan.max_delay
                + 3 * self.plan.max_step
                + 2 * REDIAL
                + NOTICE;
            if longest > bound {
                let held = &reply.held;
                return Err(format!("law 5: a read was held for {longest:?}, {bound:?} allowed: {held:?}"));
            }
        }
        let here = &mut self.sites[site].workers[reply.worker.index()];
        if here.asked.remove(&reply.shard.0).is_none() {
            // Asked again, and answered twice.
            return Ok(());
        }
        here.clock = here.clock.max(reply.clock.0.min(self.plan.clocks - 1));
        if here.asked.is_empty() {
            let (worker, life) = (reply.worker.index(), here.life);
            self.after_step(Event::Step { site, worker, life });
        }
        Ok(())
    }

    /// Law 4 between two to whom nothing happens, whatever becomes of the others: a read leads a
    /// mirror by no more than it may.
    fn check_lead(&self, site: usize, reply: &ReadReply) -> Result<(), String> {
        let process = self.open_process(site, reply.shard.0 % self.sites[site].servers);
        let Some(node) = process.and_then(|at| self.processes[at].node.as_ref()) else { return Ok(()) };
        let replica =
            node.replicas().iter().find(|r| r.shard().id() == reply.shard).expect("it has answered");
        // What is asked again is answered twice.
        let asked = self.sites[site].workers[reply.worker.index()].asked.get(&reply.shard.0);
        let Some(own) = asked.map(|read| read.clock.min(reply.clock)) else { return Ok(()) };
        for (place, id) in node.datacenters().enumerate() {
            let (inbox, limit) = (replica.inbox(place), replica.lead_limit(place));
            let lead = own.lead_over(inbox.arrived_clock());
            if self.plan.bystanders.contains(&id.index())
                && limit.is_some_and(|limit| lead > limit)
                && !inbox.is_settled()
            {
                return Err(format!(
                    "law 4: site {site} reads at {own} and leads {id} by {lead}, {limit:?} allowed"
                ));
            }
        }
        Ok(())
    }

    fn random_deltas(&mut self, shard: ShardId) -> Vec<Elements> {
        let mut deltas = Vec::new();
        for (t, shape) in (0..).zip(&self.shapes[shard.index()]) {
            let mut delta = Elements::new(TableId(t));
            for index in 0..shape.elements() as u32 {
                if self.rng.random_bool(0.3) {
                    delta.push(index, f32::from(self.rng.random_range(1u8..4)));
                }
            }
            deltas.push(delta);
        }
        deltas.retain(|d| !d.is_empty());
        deltas
    }

    fn random_rows(&mut self, shard: ShardId) -> Vec<RowGroup> {
        let tables = (0..).map(TableId).zip(&self.shapes[shard.index()]);
        let rng = &mut self.rng;
        let groups = tables.map(|(table, shape)| RowGroup {
            table,
            since: 0,
            slots: (0..shape.slots).filter(|_| rng.random_bool(0.3)).collect(),
        });
        groups.collect()
    }
}
