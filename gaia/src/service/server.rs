//! One server of a region: its shards and their task, its WAN socket and links, and the door through which workers come.
//!
//! Kind: driver.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use datacenter::causes::with_causes;
use datacenter::identity::Identity;
use datacenter::lan::server::{Door, Operators};
use datacenter::lan::{Lives, Presence};
use datacenter::local::{Call, REQUEST_QUEUE};
use datacenter::message::{Notice, Request};
use datacenter::refusals::Refusals;
use datacenter::shard::Shard;
use datacenter::{Clock, DatacenterId, ShardId, WorkerId};
use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{Instrument, Span, debug, error, info, info_span, warn};
use wan::driver::address::Address;
use wan::driver::board::Board;
use wan::driver::hello::Terms;
use wan::driver::link::{Goodbye, Tally, close_code};
use wan::driver::paths::Paths;
use wan::driver::peers::{Peer, Peers, Turn};
use wan::driver::server::{EVENT_QUEUE, Event, Observer, Server as NodeTask};
use wan::message::ServerId;
use wan::node::Node;
use wan::replica::Replica;
use wan::transport::{Endpoint, EndpointConfig, Entropy, Path, PeerName, Role};
use wan::wire::Shapes;

use super::ServiceError;
use super::beginning::{Beginning, Keeping};
use super::orders::OrderBook;
use super::session::Counter;
use super::setup::Setup;
use crate::checkpoint::Keeper;
use crate::model::ShardValues;
use crate::region::PeerRegion;

/// What the kernel may keep of a WAN socket's datagrams: a burst of a fast link while this process is busy.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Of the time that a server has to stop, what it keeps for shipping: workers have the rest to end their clocks.
const SHIPPING: f64 = 0.25;

/// How often something that has no signal of its own is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// For how long workers may take to hear that there is nobody to train with.
const LAST_NOTICE: Duration = Duration::from_secs(5);

/// How often it is looked for workers that are gone.
const LOOK_FOR_LOSSES: Duration = Duration::from_secs(1);

/// A server that runs.
pub(super) struct Server {
    pub(super) index: u16,
    pub(super) setup: Arc<Setup>,
    requests: mpsc::Sender<(ShardId, Request)>,
    calls: mpsc::Sender<Call>,
    events: mpsc::Sender<Event>,
    notice: watch::Sender<Notice>,
    pub(super) settled: watch::Receiver<bool>,
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
    pub(super) tally: Tally,
    pub(super) board: Board,
    pub(super) lan_refusals: Refusals,
    pub(super) presence: watch::Sender<Presence>,
    /// How often the others went on without a worker.
    pub(super) suspensions: Arc<AtomicU64>,
    /// Whether workers are processes of their own.
    has_door: bool,
    /// Everything that runs for this server; dropped, it stops.
    tasks: JoinSet<()>,
}

/// The sockets of a server, opened before anything else so that a port that is taken shows at once.
pub(super) struct Sockets {
    lan: Option<TcpListener>,
    wan: UdpSocket,
    for_workers: bool,
}

impl Sockets {
    /// Opens the sockets of server `index`. Where its workers are in the same process, its door is for operators alone, and
    /// it does without where there can be none.
    pub(super) async fn open(setup: &Setup, index: u16, for_workers: bool) -> Result<Self, ServiceError> {
        let region = &setup.region;
        let at = usize::from(index);
        let listening = async {
            let (address, what) = match &region.server_listen {
                Some(listen) => (listen[at], "workers, servers.listen"),
                None => {
                    let address = own_address("servers.addresses", &region.server_addresses[at]).await?;
                    (address, "workers, servers.addresses")
                }
            };
            let listening = TcpListener::bind(address).await;
            listening.map_err(|error| ServiceError::Listen { address, what, error })
        };
        let lan = match listening.await {
            Ok(listener) => Some(listener),
            Err(error) if for_workers => return Err(error),
            Err(error) => {
                info!(server = index, error = %with_causes(&error), "`gaia leave` will not reach this server");
                None
            }
        };
        let wan = match &region.wan_listen {
            Some(listen) => bind(listen[at])?,
            // A region that only dials: any port, of both families where the machine has both.
            None => bind(SocketAddr::from(([0u16; 8], 0)))
                .or_else(|_| bind(SocketAddr::from(([0, 0, 0, 0], 0))))?,
        };
        Ok(Self { lan, wan, for_workers })
    }
}

fn bind(address: SocketAddr) -> Result<UdpSocket, ServiceError> {
    let opened = || {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // The system may allow less, and that is no reason not to run.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
        socket.bind(&address.into())?;
        Ok(UdpSocket::from(socket))
    };
    opened().map_err(|error| ServiceError::Listen { address, what: "other regions, wan.listen", error })
}

/// The address of this machine that a setting names.
pub(super) async fn own_address(key: &'static str, address: &Address) -> Result<SocketAddr, ServiceError> {
    let any = SocketAddr::from(([0u16; 8], 0));
    let found = |source| ServiceError::Name { key, found: address.to_string(), source };
    match address {
        Address::Socket(address) => Ok(*address),
        Address::Name(_) => Ok(address.resolve(any).await.map_err(found)?[0]),
    }
}

/// Tells how far the shards are, and makes checkpoints of them.
struct Watch {
    clock: watch::Sender<Clock>,
    superseded: watch::Sender<bool>,
    expelled: watch::Sender<Option<String>>,
    setup: Arc<Setup>,
    here: DatacenterId,
    keeping: Option<Keeping>,
}

impl Observer for Watch {
    fn clock(&mut self, node: &Node, clock: Clock, now: std::time::Instant) {
        debug!(clock = clock.0, "clock complete");
        self.clock.send_replace(clock);
        let Some(Keeping { keeper, schedule }) = &mut self.keeping else { return };
        for replica in node.replicas().iter().filter(|replica| replica.may_be_kept()) {
            let shard = replica.shard();
            if schedule.is_due(shard.id(), shard.clock(), now) {
                keeper.offer(replica.state(self.here));
            }
        }
    }

    fn superseded(&mut self) {
        self.superseded.send_replace(true);
    }

    fn departed(&mut self, datacenter: DatacenterId) {
        info!(peer = self.setup.name(datacenter), "a region has left this job for good: going on without it");
        // Where nobody else is left, only a checkpoint knows of it.
        if let Some(keeping) = &mut self.keeping {
            keeping.schedule.hasten();
        }
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
        let (events, event_queue) = mpsc::channel(EVENT_QUEUE);
        let (calls, mut call_queue) = mpsc::channel(REQUEST_QUEUE);
        let (clock, _) = watch::channel(Clock(0));
        let workers = setup.region.workers() as usize;
        let Beginning { node, keeping } = beginning;
        let keeper = keeping.as_ref().map(|keeping| keeping.keeper.clone());
        let here = setup.datacenter(&setup.region.name).expect("a region is a member");
        let superseded = watch::channel(false).0;
        let expelled = watch::channel(None).0;
        let watch = Watch {
            clock,
            superseded: superseded.clone(),
            expelled: expelled.clone(),
            setup: setup.clone(),
            here,
            keeping,
        };
        let (task, settled) = NodeTask::new(node, watch, request_queue, vec![None; workers], event_queue);
        tasks.spawn(task.run().instrument(span.clone()));
        let to_node = events.clone();
        tasks.spawn(async move {
            while let Some(call) = call_queue.recv().await {
                if to_node.send(Event::Worker(call)).await.is_err() {
                    return;
                }
            }
        });

        let config = EndpointConfig {
            identity: identity.clone(),
            entropy: Entropy::System,
            accept: Path::default().accepted(),
        };
        let endpoint = match setup.region.egress_bytes_per_sec {
            Some(limit) => Endpoint::over_capped_udp(config, sockets.wan, limit),
            None => Endpoint::over_udp(config, sockets.wan),
        };
        let endpoint = endpoint.expect("a bound socket knows its address");
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
            keeper,
            endpoint,
            tally: Tally::default(),
            board: Board::default(),
            lan_refusals: Refusals::default(),
            presence: watch::channel(Presence::new(Instant::now())).0,
            suspensions: Arc::default(),
            has_door: sockets.for_workers,
            tasks,
        };
        server.keep_links(&span);
        if let Some(listener) = sockets.lan {
            server.open_door(listener, identity, &span);
        }
        server
    }

    fn open_door(&mut self, listener: TcpListener, identity: &Identity, span: &Span) {
        let (orders, queue) = mpsc::channel(1);
        let order_book = OrderBook {
            setup: self.setup.clone(),
            events: self.events.clone(),
            departing: self.departing.clone(),
        };
        self.tasks.spawn(order_book.keep(queue).instrument(span.clone()));
        let door = Door {
            operators: Some(Operators { identity: identity.clone(), orders }),
            terms: self.setup.terms(),
            server: self.index,
            incarnation: rand::rng().random(),
            security: self.setup.security(Some(identity)),
            shapes: self.setup.shapes.clone(),
            // In the same process, they do not come by the door.
            workers: if self.has_door { self.setup.region.workers() } else { 0 },
            requests: self.requests.clone(),
            calls: self.calls.clone(),
            notice: self.notice.subscribe(),
            refusals: self.lan_refusals.clone(),
            lives: Lives::default(),
            presence: self.presence.clone(),
        };
        self.tasks.spawn(door.serve(listener).instrument(span.clone()));
        if !self.has_door {
            return;
        }
        let vigil = Vigil {
            events: self.events.clone(),
            calls: self.calls.clone(),
            presence: self.presence.subscribe(),
            grace: self.setup.region.grace.worker,
            suspensions: self.suspensions.clone(),
        };
        self.tasks.spawn(vigil.keep().instrument(span.clone()));
    }

    fn keep_links(&mut self, span: &Span) {
        let setup = self.setup.clone();
        let region = &setup.region;
        let terms = Terms {
            datacenter: region.name.clone(),
            server: self.index,
            job_digest: setup.digest.to_vec(),
            shards: region.job.shards,
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
            self.tally.clone(),
            self.board.clone(),
        );
        let mut paths = Paths::default();
        for region in &setup.region.peers {
            setup.datacenter(&region.name).into_iter().for_each(|id| paths.know(id, self.path(region)));
            for peer in self.servers_of(region) {
                // It dials from the socket on which it listens, unless something on the way translates addresses.
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
        Path {
            rate_bytes_per_sec: region.rate_bytes_per_sec,
            round_trip: region.round_trip,
            congestion: self.setup.region.congestion.into(),
            ..Path::default()
        }
    }

    /// The servers of another region that can be dialled and host some of our shards.
    fn servers_of(&self, region: &PeerRegion) -> Vec<Peer> {
        let Some(datacenter) = self.setup.datacenter(&region.name) else { return Vec::new() };
        let count = region.servers.len() as u16;
        let shares = |index: u16| self.setup.shards_of(self.index).any(|shard| shard.0 % count == index);
        let path = self.path(region);
        let servers = (0..count).zip(&region.servers).filter(|(index, _)| shares(*index));
        let peer = |(index, addresses): (u16, &Vec<Address>)| Peer {
            id: ServerId { datacenter, index },
            name: PeerName::new(&region.name, Role::Server).expect("configuration checks region names"),
            addresses: addresses.clone(),
            path,
        };
        servers.map(peer).collect()
    }

    /// The way for workers in this process.
    pub(super) fn counter(&self) -> Counter {
        let notice = self.notice.subscribe();
        Counter { requests: self.requests.clone(), calls: self.calls.clone(), notice }
    }

    /// Tells workers that the job is done everywhere.
    pub(super) fn tell_settled(&self) {
        self.notice.send_replace(Notice::Settled);
    }

    /// Whether a worker can be heard of: one of this process always can.
    pub(super) fn is_connected(&self, worker: WorkerId) -> bool {
        !self.has_door || self.presence.borrow().is_here(worker)
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

    /// Hands over what there is: asks the workers to leave at the end of their clocks, ships everything, and waits until all
    /// peers that are there have confirmed it. Workers that are not connected are not waited for.
    ///
    /// # Errors
    ///
    /// With whose clock did not end, or what was not delivered, within the time that the settings allow.
    pub(super) async fn drain(&self) -> Result<(), ServiceError> {
        let (started, within) = (Instant::now(), self.setup.region.drain);
        if *self.notice.borrow() == Notice::Serving {
            let departs = *self.departing.borrow();
            self.notice.send_replace(if departs { Notice::Departing } else { Notice::Leaving });
        }
        info!(server = self.index, "draining: waiting for workers to end their clocks");
        let mut unfinished = BTreeSet::new();
        while self.look(Node::is_idle).await == Some(false) {
            let is_late = started.elapsed() > within.mul_f64(1.0 - SHIPPING);
            unfinished.extend(self.take_out_workers(is_late).await);
            sleep(LOOK).await;
        }
        info!(server = self.index, "draining: shipping what is left");
        let left = within.saturating_sub(started.elapsed());
        let delivered = timeout(left, async {
            while self.look(Node::is_drained).await == Some(false) {
                sleep(LOOK).await;
            }
        });
        if delivered.await.is_ok() {
            let names: Vec<_> = unfinished.iter().map(|worker: &WorkerId| worker.to_string()).collect();
            return match names.is_empty() {
                true => Ok(()),
                false => Err(ServiceError::Unfinished(names.join(", "))),
            };
        }
        let undelivered = self.look(undelivered).await.unwrap_or_default();
        let name =
            |(at, bytes): &(usize, u64)| format!("{bytes} bytes for {}", self.setup.region.peers[*at].name);
        let what: Vec<_> = undelivered.iter().map(name).collect();
        Err(ServiceError::Undelivered(format!("server {}: {}", self.index, what.join(", "))))
    }

    /// Takes out workers that are gone, and where it is late all the others too; yields these.
    async fn take_out_workers(&self, is_late: bool) -> BTreeSet<WorkerId> {
        let mut unfinished = BTreeSet::new();
        let live = self.look(|node| {
            let live = |replica: &Replica| {
                let id = replica.shard().id();
                replica.shard().live_workers().map(|(worker, _)| (id, worker)).collect::<Vec<_>>()
            };
            node.replicas().iter().flat_map(live).collect::<Vec<_>>()
        });
        for (shard, worker) in live.await.unwrap_or_default() {
            if self.is_connected(worker) {
                if !is_late {
                    continue;
                }
                unfinished.insert(worker);
            }
            warn!(shard = shard.0, worker = worker.0, "draining without a worker that has not left");
            let _ = self.requests.send((shard, Request::Leave(worker))).await;
        }
        unfinished
    }

    /// Returns once another process has taken this one's place.
    pub(super) async fn superseded(&self) {
        // The sender lives as long as we do.
        let _ = self.superseded.subscribe().wait_for(|superseded| *superseded).await;
    }

    /// Returns once an operator wants the region to leave for good.
    pub(super) async fn departing(&self) {
        let _ = self.departing.subscribe().wait_for(|departing| *departing).await;
    }

    /// It has nothing left to hand over, and will say goodbye for good. One that was not asked to leave is now.
    pub(super) fn depart(&self) {
        *self.goodbye.lock().unwrap_or_else(PoisonError::into_inner) = Goodbye::ForGood;
    }

    /// The other servers of this process leave as well.
    pub(super) fn set_departing(&self) {
        self.departing.send_replace(true);
    }

    /// Returns once others have said that the region has left for good, with what they said.
    pub(super) async fn expelled(&self) -> String {
        let mut expelled = self.expelled.subscribe();
        let reason = expelled.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_default()
    }

    /// Tells workers that the region has left for good, and waits a little until they have heard it.
    pub(super) async fn tell_expelled(&self) {
        self.notice.send_replace(Notice::Expelled);
        if self.has_door {
            // Also those who are not connected yet, and would wait for ever.
            sleep(LAST_NOTICE).await;
        }
    }

    /// Makes a checkpoint of everything now, and waits until it is written, if checkpoints are kept.
    pub(super) async fn save(&self) {
        let Some(keeper) = self.keeper.clone() else { return };
        let here = self.setup.datacenter(&self.setup.region.name).expect("a region is a member");
        let kept = keeper.clone();
        let offered = self.look(move |node| {
            for replica in node.replicas() {
                match replica.may_be_kept() {
                    true => kept.offer(replica.state(here)),
                    false => warn!(
                        shard = replica.shard().id().0,
                        "no checkpoint: another region may still have releases of this one that were lost; the last one stays"
                    ),
                }
            }
        });
        if offered.await.is_some() && timeout(self.setup.region.drain, self.kept()).await.is_err() {
            error!(
                server = self.index,
                "the last checkpoints took longer than `drain` to write: the ones before stay"
            );
        }
    }

    /// Waits until every checkpoint that was asked for is written.
    pub(super) async fn kept(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.idle().await;
        }
    }

    /// Says goodbye to other regions and stops.
    pub(super) async fn leave(&self) {
        let goodbye = *self.goodbye.lock().unwrap_or_else(PoisonError::into_inner);
        match goodbye {
            Goodbye::Stopped => self.endpoint.quinn().close(close_code::LEAVING, b"leaving"),
            Goodbye::ForGood => self.endpoint.quinn().close(close_code::DEPARTED, b"leaving for good"),
        }
        let _ = timeout(Duration::from_secs(3), self.endpoint.quinn().wait_idle()).await;
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

/// What `see` makes of the node that takes `events`; none if its task is gone.
pub(super) async fn look<T: Send + 'static>(
    events: &mpsc::Sender<Event>,
    see: impl FnOnce(&Node) -> T + Send + 'static,
) -> Option<T> {
    let (answer, seen) = oneshot::channel();
    let look = move |node: &Node| _ = answer.send(see(node));
    events.send(Event::Inspect(Box::new(look))).await.ok()?;
    seen.await.ok()
}

/// Looks after workers that train: those of which nothing is heard for too long are not waited for any more.
struct Vigil {
    events: mpsc::Sender<Event>,
    calls: mpsc::Sender<Call>,
    presence: watch::Receiver<Presence>,
    grace: Duration,
    suspensions: Arc<AtomicU64>,
}

impl Vigil {
    async fn keep(self) {
        loop {
            sleep(LOOK_FOR_LOSSES).await;
            let Some((live, clock)) = look(&self.events, live_workers).await else { return };
            let overdue = {
                let presence = self.presence.borrow();
                presence.overdue(live, clock > Clock(0), self.grace, Instant::now())
            };
            for (worker, loss) in overdue {
                let (answer, is_suspended) = oneshot::channel();
                if self.calls.send(Call::Suspend { worker, answer }).await.is_err() {
                    return;
                }
                if is_suspended.await == Ok(true) {
                    self.suspensions.fetch_add(1, Ordering::Relaxed);
                    let (unheard, reason) = (loss.since.elapsed(), loss.why.unwrap_or_default());
                    warn!(
                        worker = worker.0,
                        ?unheard,
                        reason,
                        "a worker is gone: the others go on without it"
                    );
                }
            }
        }
    }
}

/// Who trains here, and the latest clock that a shard has completed.
fn live_workers(node: &Node) -> (BTreeSet<WorkerId>, Clock) {
    let shards = || node.replicas().iter().map(Replica::shard);
    let live = shards().flat_map(Shard::live_workers).map(|(worker, _)| worker);
    (live.collect(), shards().map(Shard::clock).max().unwrap_or_default())
}

/// Payload bytes that a peer's region has not confirmed, by its place.
fn undelivered(node: &Node) -> Vec<(usize, u64)> {
    let waiting = |at: usize| {
        let outboxes = node.replicas().iter().filter(|r| !r.has_left(at)).map(|r| r.outbox(at));
        (at, outboxes.map(|outbox| outbox.waiting_bytes() + outbox.in_flight_bytes()).sum())
    };
    (0..node.datacenters().len()).map(waiting).filter(|(_, bytes)| *bytes > 0).collect()
}

#[cfg(test)]
mod tests;
