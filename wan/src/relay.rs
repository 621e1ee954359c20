//! A WAN between real processes on one machine or a few: links made of models, as a relay of UDP datagrams.
//!
//! Kind: driver.
//!
//! What a slow link does to a job is shown in virtual time by [`emulation`]. But a deployment has real sockets,
//! clocks and kernels, and to slow a kernel's own network down takes privileges. So here the same [`Link`] stands
//! between two UDP ports: processes dial the relay instead of each other, and each datagram arrives when its link says,
//! or never.
//!
//! A [`RelayLink`] is a physical link between two places. Any number of [`RelayRoute`]s run over it and share its rate
//! and its queue: one for each server that can be dialled through it. Like a NAT, a route gives each client address a
//! socket of its own towards the target (a *session*), so that the target tells its peers apart; all connections of one
//! client address share one.
//!
//! **Time.** Datagrams never arrive early. How late is up to the machine's scheduler, usually a tenth of a millisecond:
//! a thread of its own sends what is due, since tokio's timers are a millisecond apart.
//!
//! **Memory.** What is under way in one direction is bounded by its link: `queue_bytes` plus the rate times delay and
//! jitter, twice that where datagrams are duplicated; each datagram costs about 150 bytes on top of its payload. A route
//! has at most [`MAX_SESSIONS`] sessions; datagrams of further clients are dropped and counted until others have been
//! idle for three minutes.
//!
//! What is not carried over: ECN marks and other IP header fields. Datagrams beyond [`MAX_WIRE_BYTES`] are dropped, as by
//! a path that must not fragment: it is how QUIC finds the path's MTU. What the kernel drops before the relay sees it,
//! because the relay's socket buffers are full, is counted by the kernel alone.

mod delay_line;
mod lanes;
mod route;
mod target;

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::task::JoinSet;

use self::{delay_line::DelayLine, lanes::LaneId, route::Route};
use emulation::link::{Link, LinkConfig, LinkCounters};
use emulation::seed;

#[cfg(doc)]
use emulation::link::MAX_WIRE_BYTES;

/// The most client addresses that a route serves at a time.
pub const MAX_SESSIONS: usize = 256;

/// A physical link and what runs over it.
#[derive(Clone, Debug, PartialEq)]
pub struct RelayLink {
    /// Its name, which no other link has.
    pub name: String,
    /// What it joins.
    pub ends: [String; 2],
    /// What it does from the first end to the second.
    pub forward: LinkConfig,
    /// What it does on the way back.
    pub backward: LinkConfig,
    /// Who can be dialled through it.
    pub routes: Vec<RelayRoute>,
}

/// One address that can be dialled through a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayRoute {
    /// Where clients send their datagrams.
    pub listen: SocketAddr,
    /// Where they go, as `host:port`. A name is resolved again when nothing comes back.
    pub target: String,
    /// Which way the clients' datagrams go; answers go the other way.
    pub direction: Direction,
}

/// One of the two ways over a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the link's first end to its second.
    Forward,
    /// From the second to the first.
    Backward,
}

impl Direction {
    /// The way back.
    pub fn reverse(self) -> Self {
        match self {
            Self::Forward => Self::Backward,
            Self::Backward => Self::Forward,
        }
    }
}

/// Why there is no relay.
#[derive(Debug, Error)]
pub enum RelayError {
    /// Addresses that cannot be listened on: all of them, each with its link.
    #[error("cannot listen on {}", Listed(_0))]
    Listen(Vec<(String, SocketAddr, io::Error)>),
    /// The system has no thread for the relay.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// Addresses with what is wrong with each.
struct Listed<'a>(&'a [(String, SocketAddr, io::Error)]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (link, address, error)) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{address} for {link}: {error}")?;
        }
        Ok(())
    }
}

/// A link that the relay does not have.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("there is no link {name:?}")]
pub struct NoSuchLink {
    /// What it was called.
    pub name: String,
}

/// What one direction of a link has done so far; all numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectionCounters {
    /// What became of the datagrams that were offered to the link.
    pub link: LinkCounters,
    /// Datagrams too large for a path of [`MAX_WIRE_BYTES`]: never offered.
    pub oversized: u64,
    /// Datagrams that had nowhere to go: the target's name could not be resolved, or the route had no session left.
    /// Never offered.
    pub unroutable: u64,
    /// Datagrams that the link delivered and this machine could not send on.
    pub unsent: u64,
}

/// What a link has done so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayCounters {
    /// The link's name.
    pub name: String,
    /// What it joins.
    pub ends: [String; 2],
    /// From its first end to its second.
    pub forward: DirectionCounters,
    /// From the second to the first.
    pub backward: DirectionCounters,
}

/// A route that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedRoute {
    /// The name of its link.
    pub link: String,
    /// The end at which clients are, and the end at which the target is.
    pub ends: [String; 2],
    /// Where clients send: as configured, with the port that the system chose where that was 0.
    pub listen: SocketAddr,
    /// Where their datagrams go.
    pub target: String,
    /// Which way.
    pub direction: Direction,
}

/// A running relay; it ends when it is dropped, and what was under way is lost.
#[derive(Debug)]
pub struct Relay {
    links: Vec<(String, [String; 2])>,
    routes: Vec<ServedRoute>,
    delay_line: DelayLine,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Binds all routes and begins to serve them. `seed` decides losses, jitter and duplicates of all links. The links'
    /// outages count from now.
    ///
    /// # Errors
    ///
    /// If an address cannot be listened on. That a target is not there (yet) is no error: its datagrams are lost.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time, or if a link's configuration is not
    /// [valid](LinkConfig::validate).
    pub fn start(links: Vec<RelayLink>, seed: u64) -> Result<Self, RelayError> {
        let bound = bind(&links)?;
        let models = links.iter().zip(0..).flat_map(|(link, index)| {
            let model =
                |config: &LinkConfig, way| Link::new(config.clone(), seed::derive(seed, &[index, way]));
            [model(&link.forward, 0), model(&link.backward, 1)]
        });
        let delay_line = DelayLine::start(models.collect()).map_err(RelayError::Thread)?;
        let mut tasks = JoinSet::new();
        let mut routes = Vec::new();
        for (index, listen, listener) in bound {
            let (link, route) = (&links[index.0], &links[index.0].routes[index.1]);
            let [first, second] = link.ends.clone();
            routes.push(ServedRoute {
                link: link.name.clone(),
                ends: match route.direction {
                    Direction::Forward => [first, second],
                    Direction::Backward => [second, first],
                },
                listen,
                target: route.target.clone(),
                direction: route.direction,
            });
            let lanes = [route.direction, route.direction.reverse()].map(|way| LaneId::new(index.0, way));
            let route = Route::new(delay_line.queue(), Arc::new(listener), &route.target, lanes);
            tasks.spawn(route.run());
        }
        let links = links.into_iter().map(|link| (link.name, link.ends)).collect();
        Ok(Self { links, routes, delay_line, _tasks: tasks })
    }

    /// The routes, in the order in which they were given.
    pub fn routes(&self) -> &[ServedRoute] {
        &self.routes
    }

    /// The time since the start, from which outages count.
    pub fn elapsed(&self) -> Duration {
        self.delay_line.queue().now()
    }

    /// What one direction of a link does now.
    ///
    /// # Errors
    ///
    /// If there is no such link.
    pub fn link(&self, name: &str, direction: Direction) -> Result<LinkConfig, NoSuchLink> {
        let lane = self.lane(name, direction)?;
        Ok(self.delay_line.queue().with_lanes(|lanes, _| lanes.config(lane).clone()))
    }

    /// Changes one direction of a link from now on: what is under way arrives as it was promised. A loss of 1 cuts it.
    ///
    /// # Errors
    ///
    /// If there is no such link.
    ///
    /// # Panics
    ///
    /// If the configuration is not [valid](LinkConfig::validate).
    pub fn set_link(&self, name: &str, direction: Direction, config: LinkConfig) -> Result<(), NoSuchLink> {
        let lane = self.lane(name, direction)?;
        if let Err(error) = config.validate() {
            panic!("{error}");
        }
        self.delay_line.queue().with_lanes(|lanes, now| lanes.reconfigure(now, lane, config));
        Ok(())
    }

    /// What each link has done so far, in the order in which they were given.
    pub fn counters(&self) -> Vec<RelayCounters> {
        let of_link = |(index, (name, ends)): (usize, &(String, [String; 2]))| {
            self.delay_line.queue().with_lanes(|lanes, _| RelayCounters {
                name: name.clone(),
                ends: ends.clone(),
                forward: lanes.counters(LaneId::new(index, Direction::Forward)),
                backward: lanes.counters(LaneId::new(index, Direction::Backward)),
            })
        };
        self.links.iter().enumerate().map(of_link).collect()
    }

    fn lane(&self, name: &str, direction: Direction) -> Result<LaneId, NoSuchLink> {
        let index = self.links.iter().position(|(each, _)| each == name);
        let index = index.ok_or_else(|| NoSuchLink { name: name.to_owned() })?;
        Ok(LaneId::new(index, direction))
    }
}

type Bound = ((usize, usize), SocketAddr, tokio::net::UdpSocket);

/// Binds the routes of all links, each with the indexes of its link and of itself.
fn bind(links: &[RelayLink]) -> Result<Vec<Bound>, RelayError> {
    let (mut bound, mut failures) = (Vec::new(), Vec::new());
    for (index, link) in links.iter().enumerate() {
        for (number, route) in link.routes.iter().enumerate() {
            let listener = route::socket(route.listen).and_then(|socket| Ok((socket.local_addr()?, socket)));
            match listener {
                Ok((address, listener)) => bound.push(((index, number), address, listener)),
                Err(error) => failures.push((link.name.clone(), route.listen, error)),
            }
        }
    }
    if failures.is_empty() { Ok(bound) } else { Err(RelayError::Listen(failures)) }
}
