//! One datacenter of the real stack: a node behind its server task, and links over an emulated
//! network.

use std::sync::Arc;

use datacenter::local::REQUEST_QUEUE;
use datacenter::message::{ReadReply, Request};
use datacenter::shard::Shard;
use datacenter::{DatacenterId, Placement, ShardId, ShardTable, TableId, TableSpec, shard_tables};
use emulation::seed;
use emulation::{Network, VirtualClock, host_address};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tokio::sync::{mpsc, oneshot, watch};
use wan::driver::hello::Terms;
use wan::driver::job_settings::JobSettings;
use wan::driver::link::LinkTraffic;
use wan::driver::link_registry::LinkRegistry;
use wan::driver::paths::Paths;
use wan::driver::peers::{Peer, Peers, Turn};
use wan::driver::queue::{EventSender, event_queue};
use wan::driver::server::{Event, Observer, Server};
use wan::message::ServerId;
use wan::node::{Node, PeerConfig};
use wan::policy::Policy;
use wan::replica::Replica;
use wan::transport::{Authority, Carries, Endpoint, EndpointConfig, Entropy, Path, PeerName, Role};
use wan::wire::Shapes;

/// What all datacenters of a test share.
pub struct World {
    /// The time of this run.
    pub clock: VirtualClock,
    /// The WAN.
    pub network: Network,
    /// Issues certificates.
    pub authority: Authority,
    /// Decides everything.
    pub seed: u64,
}

impl World {
    /// A world without datacenters.
    pub fn new(clock: &VirtualClock, seed: u64) -> Self {
        let authority = Authority::new(seed);
        Self { clock: clock.clone(), network: Network::new(clock, seed), authority, seed }
    }

    /// An endpoint of host `at`, which shows a certificate of `authority`.
    pub fn endpoint(&self, at: u16, name: &PeerName, authority: &Authority) -> Endpoint {
        let socket =
            self.network.bind(host_address(at.into())).expect("every host has an address of its own");
        let config = EndpointConfig {
            identity: authority.issue(name),
            entropy: Entropy::Seeded(seed::derive(self.seed, &[u64::from(at)])),
            accept: Path::default().accepted(Carries::Updates),
        };
        Endpoint::new(config, socket, Arc::new(self.clock.clone()))
            .expect("an emulated socket has an address")
    }
}

/// The name of datacenter `at`.
pub fn site_name(at: u16) -> String {
    format!("region-{at}")
}

/// The server of datacenter `at`, as its certificate names it.
pub fn server_name(at: u16) -> PeerName {
    PeerName::new(&site_name(at), Role::Server).expect("a valid name")
}

/// The tables of a job, and how they lie on shards.
#[derive(Clone, Debug)]
pub struct Model {
    /// The tables.
    pub specs: Vec<TableSpec>,
    /// Where rows are.
    pub placement: Placement,
    /// By shard.
    pub shapes: Vec<Vec<ShardTable>>,
}

impl Model {
    /// A model of zeros.
    pub fn new(specs: Vec<TableSpec>, shards: u16) -> Self {
        let placement = Placement::new(shards);
        let shapes = (0..shards).map(|s| shard_tables(&specs, placement, ShardId(s))).collect();
        Self { specs, placement, shapes }
    }

    /// What decoding checks against.
    pub fn wire_shapes(&self) -> Shapes {
        Shapes::new((0..).map(ShardId).zip(self.shapes.clone()).collect())
    }

    /// Zeros of a shard, by table.
    pub fn zeros(&self, shard: usize) -> Vec<Vec<f32>> {
        self.shapes[shard].iter().map(|table| vec![0.0; table.elements()]).collect()
    }
}

/// What one datacenter is made of.
#[derive(Clone, Debug)]
pub struct SitePlan {
    /// Its number.
    pub at: u16,
    /// Its workers.
    pub workers: usize,
    /// `s` inside it.
    pub staleness: Option<u32>,
    /// What crosses the WAN.
    pub policy: Policy,
    /// Its peers and what it knows of the paths to them.
    pub peers: Vec<(u16, Path)>,
    /// How much may be on its way to a peer; `None` for what the node derives.
    pub window_bytes: Option<u64>,
    /// What all datacenters must agree on.
    pub job_digest: Vec<u8>,
}

/// A datacenter that runs.
pub struct Site {
    /// Requests of its workers.
    pub requests: mpsc::Sender<(ShardId, Request)>,
    /// Answers, by worker.
    pub answers: Vec<mpsc::Receiver<ReadReply>>,
    /// Straight to the node's task.
    pub events: EventSender,
    /// Whether its workers have left, and all that there is has arrived everywhere.
    pub settled: watch::Receiver<bool>,
}

impl Site {
    /// Starts the server task.
    pub fn start(plan: &SitePlan, model: &Model, observer: impl Observer + 'static) -> Self {
        let ids = || plan.peers.iter().map(|(peer, _)| DatacenterId(*peer));
        let replicas = (0..model.shapes.len()).map(|s| {
            let (id, tables) = (ShardId(s as u16), &model.shapes[s]);
            let shard = Shard::new(id, tables, model.zeros(s), plan.workers, plan.staleness);
            Replica::new(shard, &plan.policy, ids())
        });
        let configs: Vec<_> = ids()
            .zip(&plan.peers)
            .map(|(id, (_, path))| PeerConfig {
                id,
                rate_bytes_per_sec: path.rate_bytes_per_sec,
                window_bytes: plan.window_bytes,
                transfer_bytes_per_sec: None,
            })
            .collect();
        let node = Node::new(replicas.collect(), &configs, &plan.policy);
        let (requests, request_queue) = mpsc::channel(REQUEST_QUEUE);
        let (events, event_queue) = event_queue();
        let channels = (0..plan.workers).map(|_| mpsc::channel(model.shapes.len()));
        let (replies, answers) = channels.map(|(replies, answers)| (Some(replies), answers)).unzip();
        let (server, settled) = Server::new(node, observer, request_queue, replies, event_queue);
        tokio::spawn(server.run());
        Self { requests, answers, events, settled }
    }

    /// Looks at the node.
    ///
    /// # Panics
    ///
    /// If its task is gone.
    pub async fn inspect<T: Send + 'static>(&self, look: impl FnOnce(&Node) -> T + Send + 'static) -> T {
        let (answer, inspected) = oneshot::channel();
        let look = Box::new(move |node: &Node| drop(answer.send(look(node))));
        assert!(self.events.send(Event::Inspect(look)).await.is_ok(), "the server runs");
        inspected.await.expect("a server answers every look")
    }
}

/// Keeps the links of a datacenter, which tell `events` what comes: it dials the peers after it and
/// accepts those before it.
pub fn keep_links(world: &World, plan: &SitePlan, model: &Model, endpoint: &Endpoint, events: EventSender) {
    let peer = |(at, path): &(u16, Path)| Peer {
        id: ServerId::first(DatacenterId(*at)),
        name: server_name(*at),
        addresses: vec![host_address((*at).into()).into()],
        path: *path,
    };
    let terms = Terms {
        datacenter: site_name(plan.at),
        server: 0,
        job_digest: plan.job_digest.clone(),
        shards: u16::MAX,
        settings: JobSettings::default(),
        peers: plan.peers.iter().map(|(at, _)| (site_name(*at), DatacenterId(*at))).collect(),
    };
    let peers = Peers::new(
        endpoint.clone(),
        terms,
        model.wire_shapes(),
        events,
        LinkTraffic::default(),
        LinkRegistry::default(),
    );
    for to in plan.peers.iter().filter(|(at, _)| *at > plan.at) {
        let seed = seed::derive(world.seed, &[u64::from(plan.at), u64::from(to.0)]);
        tokio::spawn(peers.clone().dial(peer(to), Turn::First, ChaCha8Rng::seed_from_u64(seed)));
    }
    let mut known = Paths::default();
    plan.peers.iter().for_each(|(at, path)| known.know_address(host_address((*at).into()), *path));
    tokio::spawn(peers.accept(known));
}

/// A copy of a node's values, by shard and table.
pub fn copy_values(node: &Node) -> Vec<Vec<Vec<f32>>> {
    let tables =
        |shard: &Shard| (0..shard.table_count()).map(|t| shard.values(TableId(t as u16)).to_vec()).collect();
    node.replicas().iter().map(|replica| tables(replica.shard())).collect()
}
