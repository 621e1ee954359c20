//! One datacenter of a run: its server, its endpoint, and its links to others.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use datacenter::local::REQUEST_QUEUE;
use datacenter::message::Request;
use datacenter::shard::Shard;
use datacenter::{DatacenterId, ShardId, WorkerId};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tokio::sync::{mpsc, watch};
use tracing::{Instrument, Span, info_span};
use wan::driver::board::Board;
use wan::driver::hello::Terms;
use wan::driver::link::Tally;
use wan::driver::peers::{Peer, Peers, Turn};
use wan::driver::remote::Answers;
use wan::driver::server::{EVENT_QUEUE, Event, Server};
use wan::emulation::host_address;
use wan::message::ServerId;
use wan::node::{Node, PeerConfig};
use wan::policy::{Lead, Policy, Selection};
use wan::replica::Replica;
use wan::transport::{Authority, Endpoint, EndpointConfig, Entropy, Path, PeerName, Role};
use wan::wire::Shapes;

use super::cluster::Cluster;
use super::lan;
use super::recorder::{Sample, Sampler};
use crate::seeds::purpose;

/// A datacenter that runs.
pub(super) struct Running {
    pub(super) requests: mpsc::Sender<(ShardId, Request)>,
    /// By worker that the site serves; taken as sessions or remote streams are made.
    pub(super) answers: Answers,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) settled: watch::Receiver<bool>,
    pub(super) endpoint: Endpoint,
    pub(super) tally: Tally,
    /// Wires of the server's port: in and out.
    pub(super) ports: [lan::Wire; 2],
    /// By other site: payload bytes of a stretched parameter server sent there.
    pub(super) stretched_payload: Vec<Arc<AtomicU64>>,
    /// By other site: the connection to it, where the parameter server is stretched.
    pub(super) connections: BTreeMap<usize, quinn::Connection>,
}

/// The server of a site, which has one.
pub(super) fn server_id(site: usize) -> ServerId {
    ServerId::first(DatacenterId(site as u16))
}

impl Cluster<'_> {
    /// Starts a datacenter's server and its links to others.
    pub(super) fn start_site(
        &self,
        at: usize,
        authority: &Authority,
        samples: mpsc::UnboundedSender<Sample>,
    ) -> Running {
        let site = &self.topology.sites[at];
        let job = &self.simulation.job;
        let policy = self.strategy.policy(job, &self.specs).unwrap_or(Policy {
            selection: Selection::Everything,
            barrier_max_delay: None,
            lead: Lead::Unlimited,
        });
        let others: Vec<usize> = match self.topology.mirrored {
            true => (0..self.topology.sites.len()).filter(|other| *other != at).collect(),
            false => Vec::new(),
        };
        let peer_configs: Vec<PeerConfig> = others
            .iter()
            .map(|&other| PeerConfig {
                id: DatacenterId(other as u16),
                rate_bytes_per_sec: Some(self.simulation.links.get(at, other).rate_bytes_per_sec),
                window_bytes: None,
            })
            .collect();
        let workers = self.topology.workers_served(at);
        let replicas = site.shards.iter().map(|&id| {
            let values = self.initial[id.index()].clone();
            let shard = Shard::new(id, &self.shapes[id.index()], values, workers, job.staleness);
            Replica::new(shard, &policy, peer_configs.iter().map(|p| p.id))
        });
        let node = Node::new(replicas.collect(), &peer_configs, &policy);

        let (requests, request_queue) = mpsc::channel(REQUEST_QUEUE);
        let (events, event_queue) = mpsc::channel(EVENT_QUEUE);
        let answer_channels = (0..workers).map(|_| mpsc::channel(job.shards as usize));
        let (replies, answers): (Vec<_>, Vec<_>) =
            answer_channels.map(|(replies, answers)| (Some(replies), answers)).unzip();
        let sampler = Sampler {
            site: at,
            every: job.evaluate_every,
            end: job.clocks,
            last: 0,
            start: (tokio::time::Instant::now() - self.time.now()).into_std(),
            samples,
        };
        let (server, settled) = Server::new(node, sampler, request_queue, replies, event_queue);
        tokio::spawn(server.run().instrument(self.span(at)));

        let endpoint = self.endpoint(at, authority);
        let tally = Tally::default();
        if self.topology.mirrored {
            self.keep_links(at, &others, &endpoint, &events, &tally);
        }
        let answers = (0..).map(WorkerId).zip(answers).collect();
        let port = || lan::Wire::new(self.simulation.lan, self.topology.sites[at].servers);
        Running {
            requests,
            answers: Arc::new(Mutex::new(answers)),
            events,
            settled,
            endpoint,
            tally,
            ports: [port(), port()],
            stretched_payload: self.topology.sites.iter().map(|_| Arc::default()).collect(),
            connections: BTreeMap::new(),
        }
    }

    pub(super) fn endpoint(&self, at: usize, authority: &Authority) -> Endpoint {
        let address = host_address(at as u32);
        let sites = self.topology.sites.len();
        for other in (0..sites).filter(|other| *other != at) {
            let link = self.simulation.links.get(at, other).clone();
            self.network.set_link(address.ip(), host_address(other as u32).ip(), link);
        }
        let socket = self.network.bind(address).expect("every site has an address of its own");
        let config = EndpointConfig {
            identity: authority.issue(&self.peer_name(at)),
            entropy: Entropy::Seeded(self.seed(purpose::ENDPOINT, at as u64)),
            accept: Path::default().accepted(),
        };
        Endpoint::new(config, socket, Arc::new(self.time.clone()))
            .expect("an emulated socket knows its address")
    }

    pub(super) fn peer_name(&self, at: usize) -> PeerName {
        PeerName::new(&self.topology.sites[at].name, Role::Server).expect("configuration checks region names")
    }

    /// What `at` knows of the path to `other`.
    pub(super) fn path(&self, at: usize, other: usize) -> Path {
        let links = &self.simulation.links;
        let (there, back) = (links.get(at, other), links.get(other, at));
        Path {
            rate_bytes_per_sec: Some(there.rate_bytes_per_sec),
            round_trip: Some(there.one_way_delay + back.one_way_delay),
            congestion: self.simulation.congestion.into(),
            ..Path::default()
        }
    }

    /// Dials the sites after this one and accepts those before it.
    pub(super) fn keep_links(
        &self,
        at: usize,
        others: &[usize],
        endpoint: &Endpoint,
        events: &mpsc::Sender<Event>,
        tally: &Tally,
    ) {
        let peer = |&other: &usize| Peer {
            id: server_id(other),
            name: self.peer_name(other),
            addresses: vec![host_address(other as u32).into()],
            path: self.path(at, other),
        };
        let terms = Terms {
            datacenter: self.topology.sites[at].name.clone(),
            server: 0,
            job_digest: self.simulation.job.digest(self.simulation.seed, self.strategy.name()).to_vec(),
            peers: others
                .iter()
                .map(|&o| (self.topology.sites[o].name.clone(), DatacenterId(o as u16)))
                .collect(),
        };
        let shards = self.topology.sites[at].shards.iter().map(|&s| (s, self.shapes[s.index()].clone()));
        let shapes = Shapes::new(shards.collect());
        let peers =
            Peers::new(endpoint.clone(), terms, shapes, events.clone(), tally.clone(), Board::default());
        for other in others.iter().filter(|other| **other > at) {
            let rng = ChaCha8Rng::seed_from_u64(self.seed(purpose::DIAL, (at << 16 | other) as u64));
            tokio::spawn(peers.clone().dial(peer(other), Turn::First, rng).instrument(self.span(at)));
        }
        let known = |&other: &usize| (host_address(other as u32), self.path(at, other));
        tokio::spawn(peers.accept(others.iter().map(known).collect()).instrument(self.span(at)));
    }

    /// What a site's tasks log says which run and region they belong to.
    fn span(&self, at: usize) -> Span {
        info_span!("site", strategy = %self.strategy, region = self.topology.sites[at].name)
    }
}
