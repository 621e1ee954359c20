//! Connections between processes, and what passes on them.

use std::collections::BTreeSet;
use std::time::Duration;

use datacenter::{Clock, DatacenterId};
use rand::RngExt;
use wan::inbox::PeerError;
use wan::message::{ServerId, ShardControl, Update};
use wan::node::{Greeting, Node};
use wan::outbox::Outgoing;

use super::{Cluster, Event, NOTICE, REDIAL, Sabotage};
use crate::faults::scenario::Server;
use crate::queue::ordered;

/// Two processes, and the latest connection between them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Link {
    /// Counts the connections.
    pub(super) number: u64,
    /// Whether anything passes on the latest.
    pub(super) is_up: bool,
    /// The connection that each end takes to be up, the lower end first. An end has one since it
    /// has had the other's hello, and until it notices that there is no more, or has another.
    pub(super) sessions: [Option<u64>; 2],
}

/// What passes on a connection.
#[derive(Clone, Debug)]
pub(super) enum Frame {
    Hello { greeting: Greeting, is_answer: bool },
    Update { update: Update, bytes: u64 },
    Control(Vec<ShardControl>),
}

/// Which of the two ends of a link `here` is.
fn end(here: usize, there: usize) -> usize {
    usize::from(here > there)
}

impl Cluster {
    /// As `wan::driver::peers` has it: whoever dials asks its node first, whether or not anybody is
    /// there, and says hello once there is a connection.
    pub(super) fn dial(&mut self, one: usize, other: usize) {
        let is_up = self.link(one, other).is_up;
        let is_there = self.processes[other].node.is_some();
        let (site, _) = self.processes[other].server;
        let Some(node) = self.node(one).filter(|_| !is_up) else { return };
        let asked = node.greeting(DatacenterId(site as u16));
        if !is_there {
            // Another process of that server may come. Until then the dialer goes on.
            if self.sites[site].process.contains(&None) {
                self.at(self.now + 4 * REDIAL, Event::Dial { one, other });
            }
            return;
        }
        let passes = self.passes(one, other) && self.passes(other, one);
        if !passes || self.processes[one].is_frozen || self.processes[other].is_frozen {
            self.at(self.now + REDIAL, Event::Dial { one, other });
            return;
        }
        if !self.share(one, other) {
            return;
        }
        for (from, to) in [(one, other), (other, one)] {
            let there = DatacenterId(self.processes[to].server.0 as u16);
            let is_departed = match from == one {
                true => asked.departed.contains(&there),
                false => self.node(from).is_some_and(|node| node.departed().any(|id| id == there)),
            };
            if is_departed {
                self.after_delay(Event::Expelled { process: to });
                return;
            }
        }
        let link = self.link(one, other);
        (link.is_up, link.number) = (true, link.number + 1);
        let number = link.number;
        let greeting = self.greeting(one, other);
        self.after_delay(Event::Frame {
            from: one,
            to: other,
            number,
            frame: Frame::Hello { greeting, is_answer: false },
        });
    }

    fn greeting(&mut self, from: usize, to: usize) -> Greeting {
        let datacenter = DatacenterId(self.processes[to].server.0 as u16);
        let mut greeting = self.processes[from].node.as_mut().expect("it is there").greeting(datacenter);
        for resume in &mut greeting.resumes {
            match self.plan.sabotage {
                Some(Sabotage::NoReturn) => resume.lost_after = resume.lost_after.map(|_| u32::MAX),
                Some(Sabotage::ForgetFlushes) => resume.heard_clock = Clock(0),
                _ => {}
            }
        }
        greeting
    }

    /// What has come on a connection, or is lost with it.
    pub(super) fn arrive(&mut self, from: usize, to: usize, number: u64, frame: Frame) -> Result<(), String> {
        let link = *self.link(from, to);
        let is_latest = link.is_up && link.number == number;
        if self.processes[to].is_frozen || self.processes[to].node.is_none() {
            return Ok(());
        }
        if let Frame::Hello { greeting, is_answer } = frame {
            return if is_latest { self.greet(from, to, number, greeting, is_answer) } else { Ok(()) };
        }
        if link.sessions[end(to, from)] != Some(number) {
            if is_latest {
                // It has overtaken the hello, and waits at the door.
                self.after_delay(Event::Frame { from, to, number, frame });
            }
            return Ok(());
        }
        // Of what was on its way when a connection broke some comes, as long as this end has not
        // noticed. Nothing does of who is dead: what is left of it has been counted.
        if !is_latest && (self.processes[from].is_written_off || self.rng.random_bool(0.5)) {
            return Ok(());
        }
        let now = self.start + self.now;
        let peer = self.peer_of(to, from);
        let no_holdings = self.plan.sabotage == Some(Sabotage::NoHoldings);
        let node = self.node(to).expect("it is there");
        let outcome = match frame {
            Frame::Update { update, bytes } => node.handle_update(peer, &update, bytes, now),
            Frame::Control(mut controls) => {
                if no_holdings {
                    controls.iter_mut().for_each(|control| control.gone.clear());
                }
                node.handle_control(peer, &controls, now)
            }
            Frame::Hello { .. } => Ok(()),
        };
        match outcome {
            Ok(()) => {}
            Err(PeerError::VoidStream { .. }) => self.hang_up(to, from, number),
            Err(PeerError::Departed(_)) => self.expel(from),
            Err(error) => return Err(format!("{error}: {from} to {to}")),
        }
        self.flush(to)
    }

    fn greet(
        &mut self,
        from: usize,
        to: usize,
        number: u64,
        greeting: Greeting,
        is_answer: bool,
    ) -> Result<(), String> {
        let answer = (!is_answer).then(|| self.greeting(to, from));
        // Whatever there was with that server is replaced, whether this is taken or not.
        let server = self.processes[from].server;
        for other in 0..self.processes.len() {
            if self.processes[other].server != server {
                continue;
            }
            self.link(to, other).sessions[end(to, other)] = None;
            if other != from {
                self.break_link(to, other);
            }
        }
        let now = self.start + self.now;
        let peer = self.peer_of(to, from);
        let node = self.node(to).expect("it is there");
        node.handle_down(peer);
        node.handle_rtt(peer, Duration::from_millis(20), now);
        let outcome = node.handle_up(peer, &greeting, now);
        let is_superseded = node.is_superseded();
        match outcome {
            Ok(()) => {
                self.processes[to].linked.insert(server.0);
                self.link(to, from).sessions[end(to, from)] = Some(number);
                self.part_with_replaced(to, server.0);
            }
            Err(PeerError::NothingShared | PeerError::FormerLife | PeerError::HostedTwice { .. }) => {
                node.handle_down(peer);
            }
            Err(PeerError::Departed(_)) => {
                self.expel(from);
                return Ok(());
            }
            Err(error) => return Err(error.to_string()),
        }
        // Who is refused has the answer all the same.
        let delay = self.random_delay();
        if let Some(greeting) = answer {
            let frame = Frame::Hello { greeting, is_answer: true };
            self.at(self.now + delay, Event::Frame { from: to, to: from, number, frame });
        }
        match outcome {
            Ok(()) => self.flush(to)?,
            Err(PeerError::NothingShared) => {}
            Err(_) => self.at(self.now + delay, Event::Down { at: from, peer: to, number }),
        }
        if is_superseded {
            // It ends, and what it had in memory is lost.
            let (site, index) = self.processes[to].server;
            if self.sites[site].process[usize::from(index)] == Some(to) {
                self.sites[site].process[usize::from(index)] = None;
            }
            self.bury((site, index), to);
        }
        Ok(())
    }

    /// Ends the links with servers of a datacenter in whose place another one has come.
    fn part_with_replaced(&mut self, here: usize, site: usize) {
        for other in 0..self.processes.len() {
            let is_linked =
                self.links.get(&ordered(here, other)).is_some_and(|l| l.sessions[end(here, other)].is_some());
            if self.processes[other].server.0 != site || !is_linked {
                continue;
            }
            let place = self.peer_of(here, other);
            if self.node(here).is_some_and(|node| !node.is_up(place)) {
                self.link(here, other).sessions[end(here, other)] = None;
                self.break_link(here, other);
            }
        }
    }

    /// An end notices that a connection is no more, and tries again.
    pub(super) fn down(&mut self, at: usize, peer: usize, number: u64) {
        let link = self.link(at, peer);
        link.is_up &= link.number != number;
        if link.sessions[end(at, peer)] == Some(number) {
            link.sessions[end(at, peer)] = None;
            let place = self.peer_of(at, peer);
            if let Some(node) = self.node(at) {
                node.handle_down(place);
            }
        }
        self.at(self.now + REDIAL, Event::Dial { one: at, other: peer });
    }

    /// `here` makes no sense of what the other says: it closes the connection, of which the other
    /// learns.
    fn hang_up(&mut self, here: usize, there: usize, number: u64) {
        if self.link(here, there).number == number {
            self.break_link(here, there);
        }
        self.down(here, there, number);
    }

    fn link(&mut self, one: usize, other: usize) -> &mut Link {
        self.links.entry(ordered(one, other)).or_default()
    }

    /// The process of a server that `here` has a connection with, as far as it knows, and which.
    fn session_with(&self, here: usize, server: Server) -> Option<(usize, u64)> {
        (0..self.processes.len()).filter(|other| self.processes[*other].server == server).find_map(|other| {
            Some((other, self.links.get(&ordered(here, other))?.sessions[end(here, other)]?))
        })
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

    /// What comes from one datacenter to another is nonsense: whoever gets it hangs up.
    pub(super) fn garble(&mut self, one: usize, other: usize) {
        for from in 0..self.processes.len() {
            for to in 0..self.processes.len() {
                let link = *self.link(from, to);
                if (self.processes[from].server.0, self.processes[to].server.0) == (one, other) && link.is_up
                {
                    self.hang_up(to, from, link.number);
                }
            }
        }
    }

    /// Nothing passes any more on this connection; its ends notice that later, each at its time,
    /// and try again.
    fn break_link(&mut self, one: usize, other: usize) {
        let Some(link) = self.links.get_mut(&ordered(one, other)).filter(|link| link.is_up) else { return };
        link.is_up = false;
        let number = link.number;
        for (at, peer) in [(one, other), (other, one)] {
            let notice = NOTICE.mul_f64(self.rng.random_range(0.1..1.0));
            self.at(self.now + notice, Event::Down { at, peer, number });
        }
    }

    /// `process` has stopped of its own will, and says so on its connections.
    pub(super) fn say_goodbye(&mut self, process: usize) {
        for other in 0..self.processes.len() {
            let link = self.link(process, other);
            if !std::mem::take(&mut link.is_up) {
                continue;
            }
            if link.sessions[end(other, process)].take() == Some(link.number) {
                let place = self.peer_of(other, process);
                let is_for_good =
                    self.departed.contains(&DatacenterId(self.processes[process].server.0 as u16));
                match self.node(other) {
                    Some(node) if is_for_good => node.handle_goodbye(place),
                    Some(node) => node.handle_left(place),
                    None => {}
                }
            }
        }
    }

    /// Ends the links with those who have left for good.
    fn tell_departed(&mut self, process: usize) {
        for other in 0..self.processes.len() {
            let is_linked = self.links.get(&ordered(process, other)).is_some_and(|link| link.is_up);
            if !is_linked || self.processes[other].node.is_none() {
                continue;
            }
            let place = self.peer_of(process, other);
            if self.node(process).is_some_and(|node| node.peers().len() > place && node.is_departed(place)) {
                self.after_delay(Event::Expelled { process: other });
            }
        }
    }

    /// Whether two processes host a shard that is the same.
    fn share(&self, one: usize, other: usize) -> bool {
        let hosted = |process: usize| {
            let node = self.processes[process].node.iter();
            node.flat_map(|node| node.replicas()).map(|r| r.shard().id()).collect::<BTreeSet<_>>()
        };
        !hosted(one).is_disjoint(&hosted(other))
    }

    fn passes(&self, from: usize, to: usize) -> bool {
        !self.cuts.contains(&(self.processes[from].server.0, self.processes[to].server.0))
    }

    pub(super) fn peer_of(&mut self, here: usize, there: usize) -> usize {
        let (site, index) = self.processes[there].server;
        let id = ServerId { datacenter: DatacenterId(site as u16), index };
        self.node(here).and_then(|node| node.peer(id)).unwrap_or(0)
    }

    pub(super) fn node(&mut self, process: usize) -> Option<&mut Node> {
        self.touched.insert(process);
        self.processes[process].node.as_mut()
    }

    /// Sends what a node has to send.
    pub(super) fn flush(&mut self, process: usize) -> Result<(), String> {
        if self.processes[process].is_frozen || self.processes[process].node.is_none() {
            return Ok(());
        }
        let now = self.start + self.now;
        let (site, server) = self.processes[process].server;
        self.tell_departed(process);
        let node = self.node(process).expect("it is there");
        node.judge(now);
        while let Some(reply) = self.node(process).and_then(|node| node.poll_reply(now)) {
            self.answered(site, reply)?;
        }
        for peer in 0..self.node(process).map_or(0, |node| node.peers().len()) {
            let id = self.node(process).and_then(|node| node.peers().nth(peer)).expect("counted");
            let Some((to, number)) = self.session_with(process, (id.datacenter.index(), id.index)) else {
                continue;
            };
            let link = *self.link(process, to);
            // What is said on a connection that is no more is lost.
            let arrives = link.is_up && link.number == number;
            while let Some(Outgoing { update, bytes, .. }) =
                self.node(process).and_then(|node| node.poll_update(peer, now))
            {
                let frame = Frame::Update { update: (*update).clone(), bytes };
                let update = Event::Frame { from: process, to, number, frame };
                if arrives && self.rng.random_bool(0.05) {
                    self.after_delay(update.clone());
                }
                if arrives {
                    self.after_delay(update);
                }
            }
            let controls = self.node(process).expect("it is there").poll_control(peer, now);
            if arrives && !controls.is_empty() {
                let frame = Frame::Control(controls);
                self.after_delay(Event::Frame { from: process, to, number, frame });
            }
        }
        self.save(process);
        if !self.processes[process].is_open && self.node(process).is_some_and(|node| node.is_ready()) {
            self.processes[process].is_open = true;
            self.come_to(site, server);
        }
        self.leave_if_drained(process);
        self.schedule_poll(process);
        Ok(())
    }

    fn schedule_poll(&mut self, process: usize) {
        let Some(node) = self.processes[process].node.as_ref() else { return };
        let of_links = (0..node.peers().len()).filter_map(|peer| node.poll_timeout(peer)).min();
        let Some(at) = of_links.into_iter().chain(node.poll_judgement()).min() else { return };
        let at = at.saturating_duration_since(self.start).max(self.now + Duration::from_millis(1));
        if self.processes[process].poll_at.is_none_or(|known| at < known || known <= self.now) {
            self.processes[process].poll_at = Some(at);
            self.at(at, Event::Poll { process });
        }
    }
}
