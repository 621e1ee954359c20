//! Connections between processes, and what passes on them.

use std::time::Duration;

use datacenter::{Clock, DatacenterId};
use rand::RngExt;
use wan::inbox::PeerError;
use wan::message::ServerId;
use wan::node::{Greeting, Node};
use wan::outbox::Outgoing;

use super::{Cluster, Event, NOTICE, REDIAL, Sabotage};
use crate::faults::scenario::Server;
use crate::queue::ordered;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Link {
    pub(super) is_up: bool,
    pub(super) generation: u64,
    /// The ends that have had the other's hello: the lower and the higher one.
    pub(super) greeted: [bool; 2],
}

impl Cluster {
    pub(super) fn dial(&mut self, one: usize, other: usize) -> Result<(), String> {
        let is_there = |p: usize| self.processes[p].node.is_some();
        if !is_there(one) || !is_there(other) || self.links.get(&ordered(one, other)).is_some_and(|l| l.is_up)
        {
            return Ok(());
        }
        let passes = self.passes(one, other) && self.passes(other, one);
        if !passes || self.processes[one].is_frozen || self.processes[other].is_frozen {
            self.at(self.now + REDIAL, Event::Dial { one, other });
            return Ok(());
        }
        let link = self.links.entry(ordered(one, other)).or_default();
        *link = Link { is_up: true, generation: link.generation + 1, greeted: [false; 2] };
        let generation = link.generation;
        for (from, to) in [(one, other), (other, one)] {
            let to_site = self.processes[to].server.0;
            let greeting = self.node(from).map(|node| node.greeting(DatacenterId(to_site as u16)));
            let mut greeting = greeting.expect("both are there");
            for resume in &mut greeting.resumes {
                match self.plan.sabotage {
                    Some(Sabotage::NoReturn) => resume.lost_after = resume.lost_after.map(|_| u32::MAX),
                    Some(Sabotage::ForgetFlushes) => resume.heard_clock = Clock(0),
                    _ => {}
                }
            }
            self.after_delay(Event::Hello { from, to, generation, greeting });
        }
        Ok(())
    }

    pub(super) fn greet(
        &mut self,
        from: usize,
        to: usize,
        generation: u64,
        greeting: Greeting,
    ) -> Result<(), String> {
        if !self.is_current(from, to, generation) {
            return Ok(());
        }
        let now = self.start + self.now;
        let peer = self.peer_of(to, from);
        let node = self.node(to).expect("a link is up between nodes");
        node.handle_rtt(peer, Duration::from_millis(20));
        match node.handle_up(peer, &greeting, now) {
            Ok(()) => {
                let link = self.links.get_mut(&ordered(from, to)).expect("it is up");
                link.greeted[usize::from(to > from)] = true;
                self.flush(to)
            }
            Err(PeerError::NothingShared) => Ok(()),
            Err(PeerError::FormerLife | PeerError::HostedTwice { .. }) => {
                let superseded = node.is_superseded();
                self.refuse(from, to, superseded);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// `to` does not want to talk to `from`.
    fn refuse(&mut self, from: usize, to: usize, superseded: bool) {
        let generation = self.links[&ordered(from, to)].generation;
        self.at(self.now, Event::Down { at: from, peer: to, generation });
        if superseded {
            // It ends, and what it had in memory is lost.
            let server = self.processes[to].server;
            let (site, index) = server;
            if self.sites[site].process[usize::from(index)] == Some(to) {
                self.sites[site].process[usize::from(index)] = None;
            }
            self.bury(server, to);
            return;
        }
        self.at(self.now + REDIAL, Event::Dial { one: from, other: to });
    }

    /// An end notices that a connection is no more.
    pub(super) fn down(&mut self, at: usize, peer: usize, generation: u64) {
        let link = self.links.entry(ordered(at, peer)).or_default();
        if link.generation != generation {
            return;
        }
        link.is_up = false;
        link.generation += 1;
        for (here, there) in [(at, peer), (peer, at)] {
            if self.is_linked(here, self.processes[there].server) {
                // With the process that has taken its place.
                continue;
            }
            let place = self.peer_of(here, there);
            if let Some(node) = self.node(here) {
                node.handle_down(place);
            }
        }
    }

    fn is_linked(&self, process: usize, server: Server) -> bool {
        let others = (0..self.processes.len()).filter(|other| self.processes[*other].server == server);
        others.map(|other| ordered(process, other)).any(|pair| self.links.get(&pair).is_some_and(|l| l.is_up))
    }

    pub(super) fn break_links(&mut self, process: usize) {
        for other in 0..self.processes.len() {
            self.break_link(process, other);
        }
    }

    pub(super) fn break_between(&mut self, one: usize, other: usize) {
        for a in 0..self.processes.len() {
            for b in 0..self.processes.len() {
                if (self.processes[a].server.0, self.processes[b].server.0) == (one, other) {
                    self.break_link(a, b);
                }
            }
        }
    }

    /// Nothing passes any more on this connection; its ends notice that later, and try again.
    pub(super) fn break_link(&mut self, one: usize, other: usize) {
        if let Some(link) = self.links.get_mut(&ordered(one, other)).filter(|link| link.is_up) {
            // What is on its way is lost at once.
            link.generation += 1;
            let generation = link.generation;
            let notice = NOTICE.mul_f64(self.rng.random_range(0.1..1.0));
            self.at(self.now + notice, Event::Down { at: one, peer: other, generation });
            self.at(self.now + notice + REDIAL, Event::Dial { one, other });
        }
    }

    pub(super) fn passes(&self, from: usize, to: usize) -> bool {
        !self.cuts.contains(&(self.processes[from].server.0, self.processes[to].server.0))
    }

    pub(super) fn is_current(&self, from: usize, to: usize, generation: u64) -> bool {
        let link = self.links.get(&ordered(from, to)).copied().unwrap_or_default();
        link.is_up && link.generation == generation && !self.processes[to].is_frozen
    }

    pub(super) fn peer_of(&mut self, here: usize, there: usize) -> usize {
        let (site, index) = self.processes[there].server;
        let id = ServerId { datacenter: DatacenterId(site as u16), index };
        self.node(here).and_then(|node| node.peer(id)).unwrap_or(0)
    }

    pub(super) fn node(&mut self, process: usize) -> Option<&mut Node> {
        self.processes[process].node.as_mut()
    }

    /// Sends what a node has to send.
    pub(super) fn flush(&mut self, process: usize) -> Result<(), String> {
        if self.processes[process].is_frozen || self.processes[process].node.is_none() {
            return Ok(());
        }
        let now = self.start + self.now;
        let (site, server) = self.processes[process].server;
        let node = self.node(process).expect("it is there");
        node.judge(now);
        while let Some(reply) = self.node(process).and_then(|node| node.poll_reply(now)) {
            self.answered(site, reply)?;
        }
        for peer in 0..self.node(process).map_or(0, |node| node.peers().len()) {
            let id = self.node(process).and_then(|node| node.peers().nth(peer)).expect("counted");
            let to = (0..self.processes.len()).find(|&to_be| {
                let link = self.links.get(&ordered(process, to_be)).copied().unwrap_or_default();
                let other = &self.processes[to_be];
                link.is_up
                    && link.greeted[usize::from(process > to_be)]
                    && other.node.is_some()
                    && other.server == (id.datacenter.index(), id.index)
            });
            let Some(to) = to else { continue };
            let generation = self.links[&ordered(process, to)].generation;
            while let Some(Outgoing { update, bytes, .. }) =
                self.node(process).and_then(|node| node.poll_update(peer))
            {
                let update =
                    Event::Update { from: process, to, generation, update: (*update).clone(), bytes };
                if self.rng.random_bool(0.05) {
                    self.after_delay(update.clone());
                }
                self.after_delay(update);
            }
            let controls = self.node(process).expect("it is there").poll_control(peer, now);
            if !controls.is_empty() {
                self.after_delay(Event::Control { from: process, to, generation, controls });
            }
        }
        self.save(process);
        if !self.processes[process].is_open && self.node(process).is_some_and(|node| node.is_oriented()) {
            self.processes[process].is_open = true;
            self.come_to(site, server);
        }
        self.leave_if_drained(process);
        self.schedule_poll(process);
        Ok(())
    }

    fn schedule_poll(&mut self, process: usize) {
        let now = self.start + self.now;
        let Some(node) = self.processes[process].node.as_ref() else { return };
        let of_links = (0..node.peers().len()).filter_map(|peer| node.poll_timeout(peer)).min();
        let Some(at) = of_links.into_iter().chain(node.poll_judgement(now)).min() else { return };
        let at = at.saturating_duration_since(self.start).max(self.now + Duration::from_millis(1));
        if self.processes[process].poll_at.is_none_or(|known| at < known || known <= self.now) {
            self.processes[process].poll_at = Some(at);
            self.at(at, Event::Poll { process });
        }
    }
}
