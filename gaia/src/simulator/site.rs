//! One datacenter of a run: its servers, their endpoints, and their links to others.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use datacenter::local::REQUEST_QUEUE;
use datacenter::message::Request;
use datacenter::shard::Shard;
use datacenter::{Clock, DatacenterId, NonFinite, ShardId, WorkerId};
use emulation::host_address;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tokio::sync::{mpsc, watch};
use tracing::{Instrument, Span, info_span};
use wan::driver::hello::Terms;
use wan::driver::job_settings::JobSettings;
use wan::driver::link::LinkTraffic;
use wan::driver::link_registry::LinkRegistry;
use wan::driver::paths::Paths;
use wan::driver::peers::{Peer, Peers, Turn};
use wan::driver::queue::{EventSender, event_queue};
use wan::driver::remote::Answers;
use wan::driver::server::Server;
use wan::message::ServerId;
use wan::node::{Node, PeerConfig};
use wan::policy::{Lead, Policy};
use wan::replica::Replica;
use wan::transport::{Authority, Carries, Endpoint, EndpointConfig, Entropy, Path, PeerName, Role};
use wan::wire::Shapes;

use super::cluster::Cluster;
use super::lan;
use super::recorder::{SampleEvent, Sampler};
use crate::seeds::purpose;

/// A datacenter that runs.
pub(super) struct Running {
    pub(super) servers: Vec<RunningServer>,
    /// By other site: payload bytes of a stretched parameter server sent there.
    pub(super) stretched_payload: Vec<Arc<AtomicU64>>,
    /// By other site: the connection to it, where the parameter server is stretched.
    pub(super) connections: BTreeMap<usize, quinn::Connection>,
}

/// One of its servers.
pub(super) struct RunningServer {
    pub(super) requests: mpsc::Sender<(ShardId, Request)>,
    /// By worker that the server serves; taken as sessions or remote streams are made.
    pub(super) answers: Answers,
    pub(super) events: EventSender,
    pub(super) settled: watch::Receiver<bool>,
    pub(super) endpoint: Endpoint,
    pub(super) traffic: LinkTraffic,
    /// Wires of the server's port: in and out.
    pub(super) ports: [lan::Wire; 2],
}

impl Running {
    /// What the site has sent over the WAN.
    pub(super) fn wan_bytes(&self) -> u64 {
        let remotes = self.servers.iter().map(|server| server.endpoint.meter().remotes());
        remotes.flat_map(|remotes| remotes.into_values()).map(|traffic| traffic.sent_bytes).sum()
    }
}

/// A server of a site.
pub(super) fn server_id(site: usize, index: usize) -> ServerId {
    ServerId { datacenter: DatacenterId(site as u16), index: index as u16 }
}

/// Where it is: a site is one host, whose servers share its links.
pub(super) fn server_address(site: usize, index: usize) -> SocketAddr {
    let mut address = host_address(site as u32);
    address.set_port(address.port() + index as u16);
    address
}

/// Tells servers apart where something is derived from them.
fn label(site: usize, index: usize) -> u64 {
    (index as u64) << 32 | site as u64
}

impl Cluster<'_> {
    /// Starts a datacenter's servers and their links to others.
    pub(super) fn start_site(
        &self,
        at: usize,
        authority: &Authority,
        samples: &mpsc::UnboundedSender<SampleEvent>,
    ) -> Running {
        for other in self.others(at) {
            let link = self.simulation.links.get(at, other).clone();
            self.network.set_link(host_address(at as u32).ip(), host_address(other as u32).ip(), link);
        }
        let servers = 0..self.topology.sites[at].servers.len();
        Running {
            servers: servers.map(|index| self.start_server(at, index, authority, samples.clone())).collect(),
            stretched_payload: self.topology.sites.iter().map(|_| Arc::default()).collect(),
            connections: BTreeMap::new(),
        }
    }

    fn start_server(
        &self,
        at: usize,
        index: usize,
        authority: &Authority,
        samples: mpsc::UnboundedSender<SampleEvent>,
    ) -> RunningServer {
        let site = &self.topology.sites[at];
        let job = &self.simulation.job;
        let policy = self.strategy.policy(job, &self.specs).unwrap_or(Policy::naive(Lead::Unlimited));
        let mirrors = self.others(at).filter(|_| self.topology.mirrored);
        let peer_configs: Vec<PeerConfig> = mirrors
            .map(|other| PeerConfig {
                id: DatacenterId(other as u16),
                rate_bytes_per_sec: Some(self.simulation.links.get(at, other).rate_bytes_per_sec),
                window_bytes: None,
                transfer_bytes_per_sec: None,
            })
            .collect();
        let workers = self.topology.workers_served(at);
        let rules: Vec<_> = self.specs.iter().map(|spec| spec.rule).collect();
        let numbers: Vec<_> = self.specs.iter().map(|spec| spec.numbers).collect();
        let replicas = site.servers[index].iter().map(|&id| {
            let values = self.initial[id.index()].clone();
            let shard = Shard::new(id, &self.shapes[id.index()], values, workers, job.staleness);
            let shard = shard.with_non_finite(NonFinite::Pass).with_rules(&rules).with_numbers(&numbers);
            Replica::new(shard, &policy, peer_configs.iter().map(|p| p.id))
        });
        let node = Node::new(replicas.collect(), &peer_configs, &policy).ending_at(Clock(job.clocks));

        let (requests, request_queue) = mpsc::channel(REQUEST_QUEUE);
        let (events, event_queue) = event_queue();
        let answer_channels = (0..workers).map(|_| mpsc::channel(job.shards as usize));
        let (replies, answers): (Vec<_>, Vec<_>) =
            answer_channels.map(|(replies, answers)| (Some(replies), answers)).unzip();
        let sampler = Sampler {
            site: at,
            server: index,
            is_mirrored: self.topology.mirrored,
            specs: self.specs.clone().into(),
            scored: self.scored.clone(),
            last: 0,
            incomplete: VecDeque::new(),
            start: (tokio::time::Instant::now() - self.time.now()).into_std(),
            events: samples,
        };
        let (server, settled) = Server::new(node, sampler, request_queue, replies, event_queue);
        tokio::spawn(server.run().instrument(self.span(at, index)));

        let endpoint = self.endpoint(at, index, authority);
        let traffic = LinkTraffic::default();
        if self.topology.mirrored {
            self.keep_links(at, index, &endpoint, &events, &traffic);
        }
        let answers = (0..).map(WorkerId).zip(answers).collect();
        let port = || lan::Wire::new(self.simulation.lan, site.ports);
        RunningServer {
            requests,
            answers: Arc::new(Mutex::new(answers)),
            events,
            settled,
            endpoint,
            traffic,
            ports: [port(), port()],
        }
    }

    fn others(&self, at: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.topology.sites.len()).filter(move |other| *other != at)
    }

    fn endpoint(&self, at: usize, index: usize, authority: &Authority) -> Endpoint {
        let address = server_address(at, index);
        let socket = self.network.bind(address).expect("every server has an address of its own");
        let config = EndpointConfig {
            identity: authority.issue(&self.peer_name(at)),
            entropy: Entropy::Seeded(self.seed(purpose::ENDPOINT, label(at, index))),
            accept: Path::default().accepted(Carries::Updates),
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
        let elements = self.shapes.iter().flatten().map(|table| table.elements());
        Path {
            model_bytes: Some((elements.sum::<usize>() * size_of::<f32>()) as u64),
            rate_bytes_per_sec: Some(there.rate_bytes_per_sec),
            round_trip: Some(there.one_way_delay + back.one_way_delay),
            congestion: self.simulation.congestion.into(),
            ..Path::default()
        }
    }

    /// Dials the servers of sites after this one that have a shard in common with it, and accepts
    /// those of sites before it.
    fn keep_links(
        &self,
        at: usize,
        index: usize,
        endpoint: &Endpoint,
        events: &EventSender,
        traffic: &LinkTraffic,
    ) {
        let sites = &self.topology.sites;
        let hosted = &sites[at].servers[index];
        let terms = Terms {
            datacenter: sites[at].name.clone(),
            server: index as u16,
            job_digest: self.simulation.job.digest(self.simulation.seed, self.strategy.name()).to_vec(),
            shards: self.simulation.job.shards,
            settings: JobSettings::default(),
            peers: self.others(at).map(|o| (sites[o].name.clone(), DatacenterId(o as u16))).collect(),
        };
        let shapes = Shapes::new(hosted.iter().map(|&s| (s, self.shapes[s.index()].clone())).collect());
        let peers = Peers::new(
            endpoint.clone(),
            terms,
            shapes,
            events.clone(),
            traffic.clone(),
            LinkRegistry::default(),
        );
        let mut known = Paths::default();
        for other in self.others(at) {
            for (there, shards) in sites[other].servers.iter().enumerate() {
                let (address, path) = (server_address(other, there), self.path(at, other));
                known.know_address(address, path);
                if other < at || !shards.iter().any(|shard| hosted.contains(shard)) {
                    continue;
                }
                let peer = Peer {
                    id: server_id(other, there),
                    name: self.peer_name(other),
                    addresses: vec![address.into()],
                    path,
                };
                let pair = (there as u64) << 48 | label(at, index) << 16 | other as u64;
                let rng = ChaCha8Rng::seed_from_u64(self.seed(purpose::DIAL, pair));
                let dialling = peers.clone().dial(peer, Turn::First, rng);
                tokio::spawn(dialling.instrument(self.span(at, index)));
            }
        }
        tokio::spawn(peers.accept(known).instrument(self.span(at, index)));
    }

    /// What a server's tasks log says which run and region they belong to.
    fn span(&self, at: usize, index: usize) -> Span {
        info_span!("server", strategy = %self.strategy, region = self.topology.sites[at].name, server = index)
    }
}
