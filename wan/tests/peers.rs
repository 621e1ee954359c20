//! What peers get that dial, and what those get who only seem to be peers.

mod common;

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{World, long_link, long_path, name};
use datacenter::{DatacenterId, Elements, ShardId, ShardTable, TableId};
use emulation::link::LinkConfig;
use emulation::{VirtualClock, host_address};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, interval, sleep, timeout};
use wan::driver::address::Address;
use wan::driver::hello::Terms;
use wan::driver::job_settings::JobSettings;
use wan::driver::link::{
    DataConnection, Goodbye, Link, LinkError, LinkHandle, LinkTraffic, UpdateFrame, close_code,
};
use wan::driver::link_registry::LinkRegistry;
use wan::driver::names::Names;
use wan::driver::paths::Paths;
use wan::driver::peers::{Peer, Peers, Turn};
use wan::driver::queue::{EventReceiver, event_queue};
use wan::driver::server::Event;
use wan::inbox::PeerError;
use wan::message::{ServerId, Update};
use wan::node::Greeting;
use wan::transport::{Authority, Carries, DialError, Endpoint, EndpointConfig, Entropy, Path};
use wan::wire::{self, Shapes};

fn endpoint(authority: &Authority, region: u32) -> Endpoint {
    let config = EndpointConfig {
        identity: authority.issue(&name(region)),
        entropy: Entropy::System,
        accept: Path::default().accepted(Carries::Updates),
    };
    Endpoint::over_udp(config, UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap()
}

/// Of a job of two shards.
fn terms(region: u16, server: u16) -> Terms {
    let other = 1 - region;
    Terms {
        datacenter: name(region.into()).datacenter().to_owned(),
        server,
        job_digest: vec![7; 32],
        shards: 2,
        settings: JobSettings::default(),
        peers: vec![(name(other.into()).datacenter().to_owned(), DatacenterId(other))],
    }
}

/// A server of region 0, whose only peer is region 1.
struct Host {
    address: SocketAddr,
    registry: LinkRegistry,
    traffic: LinkTraffic,
}

/// What a node may make of a link.
#[derive(Clone, Copy)]
enum Node {
    Takes,
    Refuses,
}

impl Node {
    async fn run(self, mut events: EventReceiver) {
        let mut kept = Vec::new();
        while let Some(event) = events.recv().await {
            match event {
                Event::Greet { answer, .. } => answer.send(Greeting::default()).unwrap(),
                Event::Up { handle, taken, .. } => match self {
                    Self::Takes => {
                        taken.send(()).unwrap();
                        kept.push(handle);
                    }
                    Self::Refuses => handle.refuse.send(PeerError::NothingShared).unwrap(),
                },
                _ => {}
            }
        }
    }
}

impl Host {
    fn start(authority: &Authority, paths: Paths, node: Node) -> Self {
        let endpoint = endpoint(authority, 0);
        let address = endpoint.local_address().unwrap();
        let (registry, traffic) = (LinkRegistry::default(), LinkTraffic::default());
        let (events, queue) = event_queue();
        tokio::spawn(node.run(queue));
        let shapes = Shapes::new(Vec::new());
        let peers = Peers::new(endpoint, terms(0, 0), shapes, events, traffic.clone(), registry.clone());
        tokio::spawn(peers.accept(paths));
        Self { address, registry, traffic }
    }
}

/// How many bytes somebody takes who does not read them.
async fn room(from: &Endpoint, to: &Host, path: &Path) -> usize {
    let connection = from.connect(to.address, &name(0), &path.data()).await.unwrap();
    let chunk = vec![0; 100_000];
    let mut room = 0;
    for _ in 0..path.data().bulk_streams + 1 {
        let mut stream = connection.open_uni().await.unwrap();
        while let Ok(written) = timeout(Duration::from_millis(100), stream.write(&chunk)).await {
            room += written.unwrap();
        }
        // Dropped, it would be finished; that needs no room.
    }
    room
}

#[tokio::test]
async fn who_dials_gets_the_windows_of_its_path() {
    let authority = Authority::new(1);
    let wide = Path {
        rate_bytes_per_sec: Some(62_500_000),
        round_trip: Some(Duration::from_millis(160)),
        ..Path::default()
    };
    let dialer = endpoint(&authority, 1);
    let mut paths = Paths::default();
    paths.know(DatacenterId(1), wide);
    let known = room(&dialer, &Host::start(&authority, paths, Node::Takes), &wide).await;
    let window = wide.data().connection_window_bytes as usize;
    assert!((window / 20 * 19..=window).contains(&known), "{known} of {window}");
    // Where nothing is known of it, there is less.
    let unknown = room(&dialer, &Host::start(&authority, Paths::default(), Node::Takes), &wide).await;
    assert!(unknown <= Path::default().data().connection_window_bytes as usize, "{unknown}");
}

/// Dials from one address with a certificate that nobody knows, until it is dropped.
struct Flood {
    _dialling: JoinSet<()>,
    /// How often it has dialled.
    dialled: watch::Receiver<u64>,
    /// How often its handshake was refused before it had begun, since it has all that one address may have.
    refused: watch::Receiver<u64>,
}

/// Dials `host` so many times a second.
fn flood(host: &Host, rate: u32) -> Flood {
    let (mut flood, address) = (JoinSet::new(), host.address);
    let stranger = endpoint(&Authority::new(99), 1);
    let ((more_dialled, dialled), (more_refused, refused)) = (watch::channel(0), watch::channel(0));
    flood.spawn(async move {
        let mut ticks = interval(Duration::from_secs(1) / rate);
        let mut dialling = JoinSet::new();
        loop {
            ticks.tick().await;
            let stranger = stranger.clone();
            let refused = more_refused.clone();
            more_dialled.send_modify(|count| *count += 1);
            dialling.spawn(async move {
                let error = stranger.connect(address, &name(0), &Path::default().control()).await;
                let error = error.expect_err("nobody knows its certificate");
                if let DialError::Handshake(quinn::ConnectionError::ConnectionClosed(close)) = error
                    && close.error_code == quinn::TransportErrorCode::CONNECTION_REFUSED
                {
                    refused.send_modify(|count| *count += 1);
                }
            });
            while dialling.try_join_next().is_some() {}
        }
    });
    Flood { _dialling: flood, dialled, refused }
}

/// `GAIA_FLOOD_SECONDS` says for how long: a peer whose link breaks all the time has another within 3 s each time.
#[tokio::test]
async fn a_peer_that_is_known_links_beside_a_flood_of_handshakes_from_one_address() {
    let seconds = std::env::var("GAIA_FLOOD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let authority = Authority::new(1);
    let dialer = endpoint(&authority, 1);
    let mut paths = Paths::default();
    paths.know_address(dialer.local_address().unwrap(), Path::default());
    let host = Host::start(&authority, paths, Node::Takes);
    let mut flood = flood(&host, 400);
    // Until it has taken all places that it can get. Where machines are slow, handshakes end sooner than further ones come.
    let under_way = flood.dialled.wait_for(|dialled| *dialled >= 800);
    timeout(Duration::from_secs(30), under_way).await.expect("it dials").expect("it goes on");
    let (dialled_before, refused_before) = (*flood.dialled.borrow(), *flood.refused.borrow());
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut slowest, mut links) = (Duration::ZERO, 0);
    while Instant::now() < until {
        let (registry, dialled) = (LinkRegistry::default(), Instant::now());
        let dialling = dialling(&dialer, &host, 0, &registry);
        let id = ServerId { datacenter: DatacenterId(0), index: 0 };
        timeout(Duration::from_secs(20), registry.up_with(id)).await.expect("it gets a link");
        (slowest, links) = (slowest.max(dialled.elapsed()), links + 1);
        dialling.abort();
        sleep(Duration::from_millis(500)).await;
    }
    println!("{links} links, the slowest after {slowest:?}");
    let dialled = *flood.dialled.borrow() - dialled_before;
    let refused = *flood.refused.borrow() - refused_before;
    // An eighth of what is wanted will do on a busy machine.
    assert!(dialled >= 50 * seconds, "it dialled {dialled} times meanwhile");
    println!("{refused} of {dialled} handshakes were refused at once");
    assert!(slowest < Duration::from_secs(3), "it took {slowest:?}");
}

/// Server `index` of region 1 dials `host`, and notes on `registry` how it goes.
fn dialling(from: &Endpoint, host: &Host, index: u16, registry: &LinkRegistry) -> JoinHandle<()> {
    let (events, queue) = event_queue();
    tokio::spawn(Node::Takes.run(queue));
    let (shapes, traffic) = (Shapes::new(Vec::new()), LinkTraffic::default());
    let peers = Peers::new(from.clone(), terms(1, index), shapes, events, traffic, registry.clone());
    let id = ServerId { datacenter: DatacenterId(0), index: 0 };
    let addresses = vec![Address::Socket(host.address)];
    let peer = Peer { id, name: name(0), addresses, path: Path::default() };
    tokio::spawn(peers.dial(peer, Turn::First, ChaCha8Rng::seed_from_u64(1)))
}

/// What server `index` of region 1 is told that dials `host`: nothing if it gets a link.
async fn dial(authority: &Authority, host: &Host, index: u16) -> Option<String> {
    let registry = LinkRegistry::default();
    let id = ServerId { datacenter: DatacenterId(0), index: 0 };
    let dialling = dialling(&endpoint(authority, 1), host, index, &registry);
    let told = timeout(Duration::from_secs(20), async {
        loop {
            match registry.links().remove(&id) {
                Some(note) if note.problem.is_some() => return note.problem,
                Some(_) if !host.registry.links().is_empty() => return None,
                _ => sleep(Duration::from_millis(5)).await,
            }
        }
    });
    let told = told.await.expect("it gets a link or is told why not");
    dialling.abort();
    told
}

#[tokio::test]
async fn nothing_is_noted_of_a_peer_before_the_node_has_taken_its_link() {
    let authority = Authority::new(1);
    let id = |index| ServerId { datacenter: DatacenterId(1), index };
    let host = Host::start(&authority, Paths::default(), Node::Takes);
    // There are two shards, and so two servers at most.
    for index in [2, u16::MAX] {
        let told = dial(&authority, &host, index).await.expect("it is refused");
        assert!(told.contains(&format!("it says that it is server {index}, and of the 2 shards")), "{told}");
    }
    assert!(host.registry.links().is_empty());
    assert_eq!(dial(&authority, &host, 1).await, None);
    assert!(host.registry.is_up(id(1)) && host.traffic.wire_bytes(id(1)).0 > 0);

    // Nor is one that could be a peer, and shares nothing with us.
    let host = Host::start(&authority, Paths::default(), Node::Refuses);
    let told = dial(&authority, &host, 1).await.expect("its link ends");
    assert!(told.contains("the peer refused us"), "{told}");
    assert!(host.registry.links().is_empty(), "{:?}", host.registry.links());
    assert_eq!(host.traffic.wire_bytes(id(1)), (0, 0));
}

/// Of one shard with a table of 4096 elements.
fn shapes() -> Shapes {
    Shapes::new(vec![(ShardId(0), vec![ShardTable { slots: 4096, width: 1 }])])
}

/// An update of the first so many elements.
fn update(seq: u64, elements: u32) -> UpdateFrame {
    let mut delta = Elements::new(TableId(0));
    // No two alike, so that they take what they say.
    (0..elements).for_each(|index| delta.push(index, (index as f32 + 1.5).sqrt()));
    let update = Update { shard: ShardId(0), seq, count: 1, deltas: vec![delta], ..Update::default() };
    UpdateFrame { frame: wire::encode_update(&update), payload_bytes: 4 * u64::from(elements) }
}

/// A node that takes a link: how to send over it, once it is up, and the numbers of updates that come.
fn node(mut events: EventReceiver) -> (oneshot::Receiver<Box<LinkHandle>>, mpsc::UnboundedReceiver<u64>) {
    let (linked, link) = oneshot::channel();
    let (arrived, updates) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut linked = Some(linked);
        while let Some(event) = events.recv().await {
            match event {
                Event::Greet { answer, .. } => answer.send(Greeting::default()).unwrap(),
                Event::Up { handle, taken, .. } => {
                    taken.send(()).unwrap();
                    linked.take().expect("one link comes up").send(handle).unwrap();
                }
                Event::Update { update, .. } => arrived.send(update.seq).unwrap(),
                _ => {}
            }
        }
    });
    (link, updates)
}

/// A second connection costs two handshakes, so there is none until somebody has bulk: the dialer, or whoever was dialled.
#[tokio::test]
async fn a_link_is_one_connection_until_there_is_bulk() {
    for bulk_of_dialer in [false, true] {
        let authority = Authority::new(1);
        let endpoints = [0, 1].map(|region| endpoint(&authority, region));
        let traffic = LinkTraffic::default();
        let mut nodes = Vec::new();
        for (region, endpoint) in (0..).zip(&endpoints) {
            let (events, queue) = event_queue();
            nodes.push(node(queue));
            let traffic = if region == 0 { traffic.clone() } else { LinkTraffic::default() };
            let (terms, registry) = (terms(region, 0), LinkRegistry::default());
            let peers = Peers::new(endpoint.clone(), terms, shapes(), events, traffic, registry);
            if region == 0 {
                tokio::spawn(peers.accept(Paths::default()));
            } else {
                let id = ServerId { datacenter: DatacenterId(0), index: 0 };
                let addresses = vec![Address::Socket(endpoints[0].local_address().unwrap())];
                let path = Path { model_bytes: Some(4 * 4096), ..Path::default() };
                let peer = Peer { id, name: name(0), addresses, path };
                tokio::spawn(peers.dial(peer, Turn::First, ChaCha8Rng::seed_from_u64(1)));
            }
        }
        let [(host, to_host), (dialer, to_dialer)] =
            nodes.try_into().unwrap_or_else(|_| panic!("there are two"));
        let links = [host.await.expect("it is up"), dialer.await.expect("it is up")];
        let mut arrivals = [to_host, to_dialer];
        let id = ServerId { datacenter: DatacenterId(1), index: 0 };
        let crossed = || traffic.wire_bytes(id).0 + traffic.wire_bytes(id).1;

        let mut sent = async |from: usize, seq, elements| {
            links[from].updates.send(update(seq, elements)).expect("the link is up");
            let arrived = timeout(Duration::from_secs(10), arrivals[1 - from].recv()).await;
            assert_eq!(arrived.expect("it arrives"), Some(seq));
        };
        for from in [0, 1] {
            sent(from, 1, 20).await;
        }
        let set_up = crossed();
        assert!(set_up < 6000, "{set_up} bytes");
        let from = usize::from(bulk_of_dialer);
        sent(from, 2, 4000).await;
        assert!(crossed() > set_up + 16_000 + 2400, "{} bytes, and {set_up} before", crossed());
        // From then on there are both, each way.
        sent(1 - from, 3, 4000).await;
        let before = crossed();
        sent(from, 4, 20).await;
        assert!(crossed() < before + 2000, "{} bytes, and {before} before", crossed());
    }
}

/// An endpoint closes one connection after the other, and a link closes one when it loses the other: here the endpoint never gets
/// to the second.
#[tokio::test]
async fn both_connections_of_a_link_end_with_the_same_goodbye() {
    for (goodbye, code) in [(Goodbye::Stopped, close_code::LEAVING), (Goodbye::ForGood, close_code::DEPARTED)]
    {
        let authority = Authority::new(1);
        let host = endpoint(&authority, 0);
        let (leaving, other) = (endpoint(&authority, 1), endpoint(&authority, 1));
        let connect = async |from: &Endpoint| {
            let settings = Path::default().control();
            let address = host.local_address().unwrap();
            let (name, accepted) = (name(0), async { host.incoming().await.unwrap().await.unwrap() });
            let (dialled, accepted) = tokio::join!(from.connect(address, &name, &settings), accepted);
            (dialled.unwrap(), accepted)
        };
        let ((control, control_there), (data, data_there)) = (connect(&leaving).await, connect(&other).await);
        let peer = ServerId { datacenter: DatacenterId(0), index: 0 };
        let link = Link {
            peer,
            control,
            data: DataConnection::open(data),
            open_data: None,
            bulk_streams: 1,
            small_bytes: 1000,
            greeting: Greeting::default(),
            session: 1,
        };
        let (events, queue) = event_queue();
        tokio::spawn(Node::Takes.run(queue));
        let (shapes, traffic) = (Shapes::new(Vec::new()).into(), LinkTraffic::default());
        let farewell = goodbye.farewell();
        let ended = link.run(&leaving, shapes, events, &traffic, || leaving.close(farewell)).await;
        assert!(matches!(ended, LinkError::Stopping), "{ended}");
        for connection in [control_there, data_there] {
            let quinn::ConnectionError::ApplicationClosed(close) = connection.closed().await else {
                panic!("{goodbye:?}: it ended otherwise");
            };
            assert_eq!(close.error_code, code, "{goodbye:?}");
        }
    }
}

/// Makes `endpoint` a server of region 1 that takes links.
fn serve(endpoint: Endpoint) {
    let (events, queue) = event_queue();
    tokio::spawn(Node::Takes.run(queue));
    let (shapes, traffic) = (Shapes::new(Vec::new()), LinkTraffic::default());
    let peers = Peers::new(endpoint, terms(1, 0), shapes, events, traffic, LinkRegistry::default());
    tokio::spawn(peers.accept(Paths::default()));
}

/// How long it takes until region 1 is found where its name points to, after it has moved there: with a link to where it was, or
/// while that is dialled.
fn found_after_a_move(is_linked: bool) -> Duration {
    let clock = VirtualClock::new();
    let found = clock.run(Duration::from_secs(120), async {
        let world = World::new(&clock, 1, 2, &long_link(1.0, 0.0), long_path());
        let config = EndpointConfig {
            identity: Authority::new(1).issue(&name(1)),
            entropy: Entropy::Seeded(7),
            accept: Path::default().accepted(Carries::Updates),
        };
        let socket = world.network.bind(host_address(2)).unwrap();
        let elsewhere = Endpoint::new(config, socket, Arc::new(clock.clone())).unwrap();
        let set_links = |host: u32, link: LinkConfig| {
            let ip = |index| host_address(index).ip();
            world.network.set_link(ip(0), ip(host), link.clone());
            world.network.set_link(ip(host), ip(0), link);
        };
        let deaf = LinkConfig { loss: 1.0, ..long_link(1.0, 0.0) };
        set_links(2, long_link(1.0, 0.0));
        serve(world.endpoints[1].clone());
        serve(elsewhere);
        let names = BTreeMap::from([("region-1:1".to_owned(), vec![host_address(1)])]);
        let names = Arc::new(Mutex::new(names));

        let (events, queue) = event_queue();
        tokio::spawn(Node::Takes.run(queue));
        let (shapes, traffic, registry) =
            (Shapes::new(Vec::new()), LinkTraffic::default(), LinkRegistry::default());
        let peers =
            Peers::new(world.endpoints[0].clone(), terms(0, 0), shapes, events, traffic, registry.clone());
        let id = ServerId { datacenter: DatacenterId(1), index: 0 };
        let addresses = vec!["region-1:1".parse::<Address>().unwrap()];
        let peer = Peer { id, name: name(1), addresses, path: long_path() };
        if !is_linked {
            set_links(1, deaf.clone());
        }
        let dialling = peers.looking_up(Names::Table(names.clone()));
        tokio::spawn(dialling.dial(peer, Turn::First, ChaCha8Rng::seed_from_u64(1)));
        sleep(Duration::from_secs(5)).await;
        assert_eq!(registry.is_up(id), is_linked);
        set_links(1, deaf);
        names.lock().unwrap().insert("region-1:1".to_owned(), vec![host_address(2)]);
        let moved = clock.now();
        while registry.links()[&id].address != Some(host_address(2)) {
            sleep(Duration::from_millis(100)).await;
        }
        assert!(registry.is_up(id));
        clock.now() - moved
    });
    found.expect("it is found")
}

#[test]
fn a_peer_that_came_back_under_another_address_is_found_while_it_is_silent() {
    for is_linked in [true, false] {
        let found = found_after_a_move(is_linked);
        assert!(found < Duration::from_secs(12), "linked before: {is_linked}: {found:?}");
    }
}

/// Of a region whose server 0 is silent, server 1 answers, with which nobody here has a link.
#[tokio::test]
async fn a_sibling_of_a_server_that_may_be_dead_is_asked_whether_it_is_there() {
    let authority = Authority::new(1);
    let host = Host::start(&authority, Paths::default(), Node::Takes);
    for (digest, is_doubtful, expected) in [(7, true, true), (7, false, false), (8, true, false)] {
        let (events, mut queue) = event_queue();
        let terms = Terms { job_digest: vec![digest; 32], ..terms(1, 0) };
        let (shapes, traffic) = (Shapes::new(Vec::new()), LinkTraffic::default());
        let peers =
            Peers::new(endpoint(&authority, 1), terms, shapes, events, traffic, LinkRegistry::default());
        let id = ServerId { datacenter: DatacenterId(0), index: 0 };
        let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
        let silent = Peer {
            id: ServerId { index: 1, ..id },
            name: name(0),
            addresses: vec![nobody.local_addr().unwrap().into()],
            path: Path::default(),
        };
        let sibling = Peer { id, addresses: vec![host.address.into()], ..silent.clone() };
        let heartbeat = Duration::from_millis(400);
        let looking =
            tokio::spawn(peers.look_for(vec![silent, sibling], heartbeat, ChaCha8Rng::seed_from_u64(1)));
        let sighted = async {
            while let Some(event) = queue.recv().await {
                match event {
                    Event::IsDoubtful { answer, .. } => answer.send(is_doubtful).unwrap(),
                    Event::Sighted { datacenter } => return assert_eq!(datacenter, id.datacenter),
                    _ => panic!("nothing else is asked"),
                }
            }
        };
        let patience = if expected { Duration::from_secs(20) } else { 5 * heartbeat };
        assert_eq!(timeout(patience, sighted).await.is_ok(), expected, "{digest}, {is_doubtful}");
        looking.abort();
    }
}

/// What is logged at WARN.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Notes what this thread logs, until the guard is dropped.
    fn warnings() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn lines(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.0.lock().unwrap()).lines().map(str::to_owned).collect()
    }
}

/// They dial each other on two connections each, again and again.
#[tokio::test]
async fn two_that_refuse_each_other_say_so_once() {
    let (log, _guard) = Log::warnings();
    let authority = Authority::new(1);
    let start = |region: u16| {
        let endpoint = endpoint(&authority, region.into());
        let (events, queue) = event_queue();
        tokio::spawn(Node::Takes.run(queue));
        let of = Terms { job_digest: vec![region as u8; 32], ..terms(region, 0) };
        let shapes = Shapes::new(Vec::new());
        let peers =
            Peers::new(endpoint.clone(), of, shapes, events, LinkTraffic::default(), LinkRegistry::default());
        tokio::spawn(peers.clone().accept(Paths::default()));
        (endpoint, peers)
    };
    let all = [start(0), start(1)];
    for (region, other) in [(0, 1), (1, 0)] {
        let id = ServerId { datacenter: DatacenterId(other as u16), index: 0 };
        let addresses = vec![Address::Socket(all[other].0.local_address().unwrap())];
        let peer = Peer { id, name: name(other as u32), addresses, path: Path::default() };
        let turn = [Turn::First, Turn::Second][region];
        tokio::spawn(all[region].1.clone().dial(peer, turn, ChaCha8Rng::seed_from_u64(1)));
    }
    sleep(Duration::from_secs(6)).await;
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "one on each side: {lines:#?}");
    assert!(lines.iter().all(|line| line.contains("its job is another one")), "{lines:#?}");
}

#[tokio::test]
async fn two_that_run_different_jobs_both_hear_which_settings_differ() {
    let authority = Authority::new(1);
    let of = |region: u16, clocks: &str| Terms {
        job_digest: vec![clocks.len() as u8 + region as u8; 32],
        settings: [("job.clocks", clocks), ("job.name", "digits")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into_iter()
            .collect(),
        ..terms(region, 0)
    };
    let start = |region: u16, clocks: &str| {
        let endpoint = endpoint(&authority, region.into());
        let registry = LinkRegistry::default();
        let (events, queue) = event_queue();
        tokio::spawn(Node::Takes.run(queue));
        let shapes = Shapes::new(Vec::new());
        let peers = Peers::new(
            endpoint.clone(),
            of(region, clocks),
            shapes,
            events,
            LinkTraffic::default(),
            registry.clone(),
        );
        tokio::spawn(peers.clone().accept(Paths::default()));
        (endpoint, registry, peers)
    };
    let (host, there, _) = start(0, "20");
    let (_, here, peers) = start(1, "21\u{1b}[31m");
    let id = ServerId { datacenter: DatacenterId(0), index: 0 };
    let addresses = vec![Address::Socket(host.local_address().unwrap())];
    let peer = Peer { id, name: name(0), addresses, path: Path::default() };
    tokio::spawn(peers.dial(peer, Turn::First, ChaCha8Rng::seed_from_u64(1)));
    let both = timeout(Duration::from_secs(20), async { tokio::join!(here.hopeless(), there.hopeless()) });
    let (here, there) = both.await.expect("no waiting heals it");
    let said = |text: &str, one: &str, other: &str| {
        assert!(text.contains(one) && text.contains(other), "{text}");
        assert!(text.contains("job.clocks is ") && !text.contains("job.name"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    };
    for text in [here, there] {
        said(&text, "20 in region-0", "21\\u{1b}[31m in region-1");
    }
}

#[tokio::test]
async fn a_knock_is_answered_where_somebody_is() {
    let authority = Authority::new(1);
    let (from, to) = (endpoint(&authority, 0), endpoint(&authority, 1));
    assert!(from.knock(to.local_address().unwrap(), Duration::from_secs(10)).await);
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(!from.knock(nobody.local_addr().unwrap(), Duration::from_millis(300)).await);
    let mut knock = [0; 64];
    assert_eq!(nobody.recv(&mut knock).unwrap(), 22, "that is all");
}
