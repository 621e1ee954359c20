//! One server of a region: its shards and their task, its WAN socket and links, and the listener
//! through which workers come.
//!
//! Kind: driver.

mod ending;
mod failure_detector;
mod sockets;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use datacenter::identity::Identity;
use datacenter::lan::server::{Listener, Operators};
use datacenter::lan::{Incarnations, Presence};
use datacenter::local::{Call, REQUEST_QUEUE};
use datacenter::message::{Notice, Request};
use datacenter::refusals::Refusals;
use datacenter::{Clock, DatacenterId, ShardId, WorkerId};
use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{Instrument, Span, debug, info, info_span, warn};
use wan::decisions::{Decisions, Standing};
use wan::driver::address::Address;
use wan::driver::hello::Terms;
use wan::driver::link::{Goodbye, LinkTraffic};
use wan::driver::link_registry::LinkRegistry;
use wan::driver::paths::Paths;
use wan::driver::peers::{Peer, Peers, Turn};
use wan::driver::queue::{EventSender, event_queue};
use wan::driver::server::{Event, Observer, Server as NodeTask};
use wan::message::ServerId;
use wan::metrics::LinkLabels;
use wan::node::Node;
use wan::transport::{Carries, Endpoint, EndpointConfig, Entropy, Path, PeerName, Role};
use wan::wire::Shapes;

use self::failure_detector::{Suspensions, WorkerFailureDetector};
pub(super) use self::sockets::{Sockets, own_address};
use super::beginning::{self, Beginning, Keeping};
use super::counting::Counting;
use super::orders::OrderBook;
use super::session::InProcessServer;
use super::setup::Setup;
use crate::job::region::PeerRegion;
use crate::learning::application::ShardValues;
use crate::service::checkpoint::{Counts, Keeper, Schedule};
use crate::service::participation::{Participation, RegionPart};

/// A server that runs.
pub(super) struct Server {
    pub(super) index: u16,
    pub(super) setup: Arc<Setup>,
    requests: mpsc::Sender<(ShardId, Request)>,
    calls: mpsc::Sender<Call>,
    events: EventSender,
    notice: watch::Sender<Notice>,
    /// Once the job is done: which regions took part. Decided once.
    pub(super) settled: watch::Receiver<Option<Participation>>,
    /// Another process has taken its place.
    superseded: watch::Sender<bool>,
    /// An operator wants the region to leave for good.
    departing: watch::Sender<bool>,
    /// Others say that the region has left for good, in these words.
    expelled: watch::Sender<Option<String>>,
    /// What it says when it ends: that it has stopped, or that its region leaves for good.
    goodbye: Mutex<Goodbye>,
    /// Who writes its checkpoints, if anybody does.
    pub(super) keeper: Option<Arc<Keeper>>,
    pub(super) endpoint: Endpoint,
    pub(super) counting: Counting,
    pub(super) board: LinkRegistry,
    pub(super) lan_refusals: Refusals,
    pub(super) presence: watch::Sender<Presence>,
    /// How often the others went on without a worker.
    pub(super) suspensions: Suspensions,
    /// Whether workers are processes of their own.
    listens_to_workers: bool,
    /// Everything that runs for this server; dropped, it stops.
    tasks: JoinSet<()>,
}

/// Tells how far the shards are, and makes checkpoints of them.
struct Watch {
    clock: watch::Sender<Clock>,
    superseded: watch::Sender<bool>,
    expelled: watch::Sender<Option<String>>,
    settled: watch::Sender<Option<Participation>>,
    setup: Arc<Setup>,
    here: DatacenterId,
    keeper: Option<(Arc<Keeper>, Schedule)>,
    counting: Counting,
    /// By shard that it hosts.
    decisions: Vec<Decisions>,
}

impl Watch {
    /// Logs what the shards have decided otherwise than before.
    fn tell_decisions(&mut self, node: &Node) {
        self.decisions.resize_with(node.replicas().len(), Decisions::default);
        for (replica, decisions) in node.replicas().iter().zip(&mut self.decisions) {
            let shard = replica.shard().id().0;
            for decision in decisions.news(Standing::of(replica)) {
                let table = decision.table().map(|table| self.setup.specs[table.index()].name.as_str());
                info!(shard, table, "{decision}");
            }
        }
    }
}

impl Observer for Watch {
    fn clock(&mut self, node: &Node, clock: Clock, now: std::time::Instant) {
        debug!(clock = clock.0, "clock complete");
        self.clock.send_replace(clock);
        self.tell_decisions(node);
        let Some((keeper, schedule)) = &mut self.keeper else { return };
        for replica in node.replicas().iter().filter(|replica| replica.may_be_kept()) {
            let shard = replica.shard();
            if schedule.is_due(shard.id(), shard.clock(), now) {
                self.counting.note(node, now);
                keeper.offer(replica.state(self.here));
            }
        }
    }

    fn superseded(&mut self) {
        self.superseded.send_replace(true);
    }

    fn given_up(&mut self, datacenter: DatacenterId, shards: &[ShardId], at_start: bool) {
        let (peer, grace) = (self.setup.name(datacenter), self.setup.region.grace);
        let shards = shards.iter().map(|shard| shard.0).collect::<Vec<_>>();
        let is_in_part = shards.len() < self.setup.shards_of(self.counting.index).count();
        match at_start {
            true if is_in_part => warn!(
                peer, ?shards, waited = ?grace.start,
                "servers of a region have not come: starting without it on the shards that they host; if they do not come later, the \
                 result lacks what it does there"
            ),
            true => warn!(
                peer, ?shards, waited = ?grace.start,
                "a region has not come: starting without it; if it does not come later, the result lacks it"
            ),
            false => warn!(
                peer,
                ?shards,
                "a region has been silent for longer than the grace time: going on without it; if it does not come back, the \
                 result lacks what it does from now on"
            ),
        }
    }

    fn settled(&mut self, node: &Node) {
        self.settled.send_replace(Some(participation(&self.setup, node)));
    }

    fn departed(&mut self, datacenter: DatacenterId) {
        info!(peer = self.setup.name(datacenter), "a region has left this job for good: going on without it");
    }

    fn expelled(&mut self, reason: String) {
        self.expelled.send_replace(Some(reason));
    }
}

impl Server {
    /// Starts server `index`, which is `identity`.
    pub(super) fn start(
        setup: &Arc<Setup>,
        index: u16,
        identity: &Identity,
        sockets: Sockets,
        beginning: Beginning,
    ) -> Self {
        let span = info_span!("server", region = setup.region.name, server = index);
        let in_span = span.clone();
        let _entered = in_span.enter();
        let mut tasks = JoinSet::new();
        let (requests, request_queue) = mpsc::channel(REQUEST_QUEUE);
        let (events, event_queue) = event_queue();
        let (calls, mut call_queue) = mpsc::channel(REQUEST_QUEUE);
        let (clock, _) = watch::channel(Clock(0));
        let workers = setup.region.workers() as usize;
        let Beginning { node, keeping, to_draw } = beginning;
        let config = EndpointConfig {
            identity: identity.clone(),
            entropy: Entropy::System,
            accept: Path::default().accepted(Carries::Updates),
        };
        let endpoint = match setup.region.egress_bytes_per_sec {
            Some(limit) => Endpoint::over_capped_udp(config, sockets.wan, limit),
            None => Endpoint::over_udp(config, sockets.wan),
        };
        let endpoint = endpoint.expect("a bound socket knows its address");
        let (keeper, archive, base) = match keeping {
            Some(Keeping { keeper, schedule, archive, counts }) => {
                (Some((keeper, schedule)), Some(archive), counts)
            }
            None => (None, None, Counts::default()),
        };
        let names = setup.region.members.iter().map(|member| member.name.clone());
        let counting = Counting {
            setup: setup.clone(),
            index,
            base: Arc::new(base),
            archive,
            traffic: LinkTraffic::new(LinkLabels::new(index, names)),
            endpoint: endpoint.clone(),
        };
        let here = setup.datacenter(&setup.region.name).expect("a region is a member");
        let superseded = watch::channel(false).0;
        let expelled = watch::channel(None).0;
        let (to_settle, settled) = watch::channel(None);
        let watch = Watch {
            clock,
            settled: to_settle,
            superseded: superseded.clone(),
            expelled: expelled.clone(),
            setup: setup.clone(),
            here,
            keeper: keeper.clone(),
            counting: counting.clone(),
            decisions: Vec::new(),
        };
        let (task, _) = NodeTask::new(node, watch, request_queue, vec![None; workers], event_queue);
        let (to_node, of_server) = (events.clone(), setup.clone());
        #[expect(clippy::disallowed_methods, reason = "this is real time, in which drawing takes long")]
        let drawing = tokio::task::spawn_blocking(move || {
            let tell = move |shard, values| to_node.blocking_send(Event::Begin { shard, values }).is_ok();
            beginning::draw(&of_server, to_draw, &tell);
        });
        let serving = async move {
            tokio::select! {
                () = task.run() => {}
                // Without first values it would wait for ever.
                Err(failed) = drawing => if failed.is_panic() { std::panic::resume_unwind(failed.into_panic()) },
            }
        };
        tasks.spawn(serving.instrument(span.clone()));
        let to_node = events.clone();
        tasks.spawn(async move {
            while let Some(call) = call_queue.recv().await {
                if to_node.send(Event::Worker(call)).await.is_err() {
                    return;
                }
            }
        });

        let mut server = Self {
            index,
            setup: setup.clone(),
            requests,
            calls,
            events,
            notice: watch::channel(Notice::Serving).0,
            settled,
            superseded,
            departing: watch::channel(false).0,
            expelled,
            goodbye: Mutex::new(Goodbye::Stopped),
            keeper: keeper.map(|(keeper, _)| keeper),
            endpoint,
            counting,
            board: LinkRegistry::default(),
            lan_refusals: Refusals::default(),
            presence: watch::channel(Presence::new(Instant::now())).0,
            suspensions: Suspensions::new(index),
            listens_to_workers: sockets.for_workers,
            tasks,
        };
        server.keep_links(&span);
        if let Some(listener) = sockets.lan {
            server.listen_to_workers(listener, identity, &span);
        }
        server
    }

    fn listen_to_workers(&mut self, listener: TcpListener, identity: &Identity, span: &Span) {
        let (orders, queue) = mpsc::channel(1);
        let order_book = OrderBook {
            setup: self.setup.clone(),
            events: self.events.clone(),
            departing: self.departing.clone(),
        };
        self.tasks.spawn(order_book.keep(queue).instrument(span.clone()));
        let workers = Listener {
            operators: Some(Operators { identity: identity.clone(), orders }),
            terms: self.setup.terms(),
            server: self.index,
            incarnation: rand::rng().random(),
            security: self.setup.security(Some(identity)),
            shapes: self.setup.shapes.clone(),
            // In the same process, they do not come by the listener.
            workers: if self.listens_to_workers { self.setup.region.workers() } else { 0 },
            requests: self.requests.clone(),
            calls: self.calls.clone(),
            notice: self.notice.subscribe(),
            refusals: self.lan_refusals.clone(),
            incarnations: Incarnations::default(),
            presence: self.presence.clone(),
        };
        self.tasks.spawn(workers.serve(listener).instrument(span.clone()));
        if !self.listens_to_workers {
            return;
        }
        let failure_detector = WorkerFailureDetector {
            events: self.events.clone(),
            calls: self.calls.clone(),
            presence: self.presence.subscribe(),
            grace: self.setup.region.grace.worker,
            suspensions: self.suspensions.clone(),
        };
        self.tasks.spawn(failure_detector.keep().instrument(span.clone()));
    }

    fn keep_links(&mut self, span: &Span) {
        let setup = self.setup.clone();
        let region = &setup.region;
        let terms = Terms {
            datacenter: region.name.clone(),
            server: self.index,
            job_digest: setup.digest.to_vec(),
            shards: region.job.shards,
            settings: setup.job_settings(),
            peers: region
                .peers
                .iter()
                .filter_map(|p| Some((p.name.clone(), setup.datacenter(&p.name)?)))
                .collect(),
        };
        let hosted = setup.shards_of(self.index).map(|shard| (shard, setup.shapes.0[shard.index()].clone()));
        let shapes = Shapes::new(hosted.collect());
        let peers = Peers::new(
            self.endpoint.clone(),
            terms,
            shapes,
            self.events.clone(),
            self.counting.traffic.clone(),
            self.board.clone(),
        );
        let mut paths = Paths::default();
        for region in &setup.region.peers {
            setup.datacenter(&region.name).into_iter().for_each(|id| paths.know(id, self.path(region)));
            let (linked, siblings) = self.servers_of(region);
            let rng = ChaCha8Rng::from_rng(&mut rand::rng());
            let heartbeat = setup.grace().heartbeat();
            let looking = peers.clone().look_for(siblings, heartbeat, rng);
            self.tasks.spawn(looking.instrument(span.clone()));
            for peer in linked {
                // There before the link is, so that a rate sees it come up.
                drop(self.counting.traffic.metrics(peer.id));
                // It dials from the socket on which it listens, unless something on the way
                // translates addresses.
                let numbers = peer.addresses.iter().filter_map(|address| match address {
                    Address::Socket(address) => Some(*address),
                    Address::Name(_) => None,
                });
                numbers.for_each(|address| paths.know_address(address, peer.path));
                // Of two that can both be dialled, the first by name does it.
                let is_second = region.name < setup.region.name && setup.region.wan_listen.is_some();
                let turn = if is_second { Turn::Second } else { Turn::First };
                let rng = ChaCha8Rng::from_rng(&mut rand::rng());
                self.tasks.spawn(peers.clone().dial(peer, turn, rng).instrument(span.clone()));
            }
        }
        self.tasks.spawn(peers.accept(paths).instrument(span.clone()));
    }

    /// What is configured of the path to another region.
    fn path(&self, region: &PeerRegion) -> Path {
        let shards = self.setup.shards_of(self.index);
        let elements = shards.flat_map(|shard| &self.setup.shapes.0[shard.index()]).map(|t| t.elements());
        Path {
            model_bytes: Some((elements.sum::<usize>() * size_of::<f32>()) as u64),
            rate_bytes_per_sec: region.rate_bytes_per_sec,
            round_trip: region.round_trip,
            congestion: self.setup.region.congestion.into(),
            ..Path::default()
        }
    }

    /// The servers of another region that host some of our shards, and of those that do not the
    /// ones that can be dialled.
    fn servers_of(&self, region: &PeerRegion) -> (Vec<Peer>, Vec<Peer>) {
        let Some(datacenter) = self.setup.datacenter(&region.name) else { return Default::default() };
        let count = region.servers.len() as u16;
        let shares = |index: u16| self.setup.shards_of(self.index).any(|shard| shard.0 % count == index);
        let path = self.path(region);
        let peer = |(index, addresses): (u16, &Vec<Address>)| Peer {
            id: ServerId { datacenter, index },
            name: PeerName::new(&region.name, Role::Server).expect("configuration checks region names"),
            addresses: addresses.clone(),
            path,
        };
        let servers = (0..count).zip(&region.servers).map(peer);
        let (linked, mut siblings): (Vec<_>, Vec<_>) = servers.partition(|peer| shares(peer.id.index));
        siblings.retain(|sibling| !sibling.addresses.is_empty());
        (linked, siblings)
    }

    /// The way for workers in this process.
    pub(super) fn in_process(&self) -> InProcessServer {
        let notice = self.notice.subscribe();
        InProcessServer { requests: self.requests.clone(), calls: self.calls.clone(), notice }
    }

    /// Tells workers that the job is done everywhere, and what its result lacks, if anything.
    pub(super) fn tell_settled(&self, lacks: Option<&str>) {
        self.notice.send_replace(Notice::Settled { lacks: lacks.map(str::to_owned) });
    }

    /// Whether a worker can be heard of: one of this process always can.
    pub(super) fn is_connected(&self, worker: WorkerId) -> bool {
        !self.listens_to_workers || self.presence.borrow().is_here(worker)
    }

    /// Returns once no worker of another process is connected.
    pub(super) async fn no_worker_connected(&self) {
        let _ = self.presence.subscribe().wait_for(Presence::is_empty).await;
    }

    /// What `see` makes of the node; none if its task is gone.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        see: impl FnOnce(&Node) -> T + Send + 'static,
    ) -> Option<T> {
        look(&self.events, see).await
    }

    /// Which regions have taken part so far; as it was decided once the job is done.
    pub(super) async fn participation(&self) -> Option<Participation> {
        let decided = self.settled.borrow().clone();
        let setup = self.setup.clone();
        match decided {
            Some(decided) => Some(decided),
            None => self.look(move |node| participation(&setup, node)).await,
        }
    }

    /// Returns once it is certain that this server and another region's refuse each other for as
    /// long as nobody puts something right, and the job has not begun; yields what differs.
    pub(super) async fn hopeless(&self) -> String {
        let why = self.board.hopeless().await;
        if self.look(Node::has_begun).await != Some(false) {
            // It trains with what it has, as it would if that region were lost.
            std::future::pending::<()>().await;
        }
        why
    }

    /// Returns once another process has taken this one's place.
    pub(super) async fn superseded(&self) {
        // The sender lives as long as we do.
        let _ = self.superseded.subscribe().wait_for(|superseded| *superseded).await;
    }

    /// Copies of the values of the shards hosted here, by shard and table.
    pub(super) async fn values(&self) -> Option<BTreeMap<u16, (Clock, ShardValues)>> {
        self.look(|node| {
            let copies = node.replicas().iter().map(|replica| {
                let shard = replica.shard();
                let tables =
                    (0..shard.table_count() as u16).map(|t| shard.values(datacenter::TableId(t)).to_vec());
                (shard.id().0, (shard.clock(), tables.collect()))
            });
            copies.collect()
        })
        .await
    }
}

/// Which regions have taken part in what `node` has, as far as it has their updates.
fn participation(setup: &Setup, node: &Node) -> Participation {
    let parts: Vec<_> = node.parts().collect();
    let of = |at: usize, name: &str| {
        let part = parts.iter().find(|part| part.datacenter.index() == at);
        let (clock, left_out) = part.map_or_else(|| node.own_part(), |part| (part.clock, part.left_out));
        let left = part.is_some_and(|part| part.has_departed);
        RegionPart { datacenter: name.to_owned(), clock: clock.0, left_out, left }
    };
    let members = setup.region.members.iter().enumerate();
    // Of a strategy that does not mirror, a model is that of its region alone.
    let members = members
        .filter(|(at, _)| *at == setup.region.place() || parts.iter().any(|p| p.datacenter.index() == *at));
    Participation {
        clocks: setup.region.job.clocks,
        regions: members.map(|(at, member)| of(at, &member.name)).collect(),
    }
}

/// What `see` makes of the node that takes `events`; none if its task is gone.
pub(super) async fn look<T: Send + 'static>(
    events: &EventSender,
    see: impl FnOnce(&Node) -> T + Send + 'static,
) -> Option<T> {
    let (answer, seen) = oneshot::channel();
    let look = move |node: &Node| _ = answer.send(see(node));
    events.send(Event::Inspect(Box::new(look))).await.ok()?;
    seen.await.ok()
}

#[cfg(test)]
mod tests;
