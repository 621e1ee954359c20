//! Peers that are not who they should be, or do not keep to the protocol: each costs its
//! connection, and the others go on.

use std::time::Duration;

use bytes::Bytes;
use datacenter::local::{Call, Refusal};
use datacenter::message::{Flush, Request};
use datacenter::{Clock, Elements, ShardId, ShardTable, TableId, TableSpec, WorkerId};
use emulation::link::LinkConfig;
use emulation::{VirtualClock, host_address};
use gaia_tests::site::{Model, Site, SitePlan, World, copy_values, keep_links, server_name, site_name};
use quinn::{Connection, ConnectionError};
use tokio::sync::{mpsc, oneshot};
use wan::driver::frames;
use wan::driver::link::close_code;
use wan::driver::server::{Event, Unobserved};
use wan::message::{Origin, Resume, Update, WholeRows};
use wan::policy::{Lead, Policy};
use wan::transport::{Authority, Endpoint, Path, PeerName, Role};
use wan::wire::{self, Channel, Hello, VERSION};

/// Of each of the two shards.
const SHAPE: ShardTable = ShardTable { slots: 5, width: 3 };

const DIGEST: [u8; 32] = [7; 32];
/// A datacenter of the job that never comes; a stranger may have its certificate.
const THIRD: u16 = 2;
/// The hosts of strangers.
const STRANGERS: std::ops::Range<u16> = 5..15;

/// Two honest datacenters, and a stranger who can reach the second.
struct Scene {
    world: World,
    model: Model,
    sites: Vec<(Site, Endpoint)>,
    clock: Clock,
    strangers: std::ops::Range<u16>,
}

impl Scene {
    /// The second knows of a third datacenter, which is one of the strangers, if it is there.
    fn new(clock: &VirtualClock) -> Self {
        Self::of(clock, &[THIRD])
    }

    /// The second knows of these besides the first.
    fn of(clock: &VirtualClock, others: &[u16]) -> Self {
        let world = World::new(clock, 1);
        let model = Model::new(vec![TableSpec::new("weights", 10, 3)], 2);
        let link = LinkConfig::clean(12_500_000, Duration::from_millis(20));
        for other in STRANGERS.chain([0]) {
            let ip = |at: u16| host_address(at.into()).ip();
            world.network.set_link(ip(other), ip(1), link.clone());
            world.network.set_link(ip(1), ip(other), link.clone());
        }
        let site = |at| {
            let policy = Policy::naive(Lead::Unlimited);
            let plan = SitePlan {
                at,
                workers: 1,
                staleness: None,
                policy,
                peers: std::iter::once(1 - at)
                    .chain(others.iter().copied().filter(|_| at == 1))
                    .map(|peer| (peer, Path::default()))
                    .collect(),
                window_bytes: None,
                job_digest: DIGEST.to_vec(),
            };
            let site = Site::start(&plan, &model, Unobserved);
            let endpoint = world.endpoint(at, &server_name(at), &world.authority);
            keep_links(&world, &plan, &model, &endpoint, site.events.clone());
            (site, endpoint)
        };
        let sites = vec![site(0), site(1)];
        Self { world, model, sites, clock: Clock(0), strangers: STRANGERS }
    }

    /// The honest datacenters still exchange updates.
    async fn check_honest(&mut self) {
        self.clock = self.clock.next();
        for shard in 0..2 {
            let mut delta = Elements::new(TableId(0));
            delta.push(0, 1.0);
            let flush = Flush::of_elements(WorkerId(0), self.clock, &[delta], &[SHAPE]);
            let request = (ShardId(shard), Request::Flush(flush));
            self.sites[0].0.requests.send(request).await.expect("the server runs");
        }
        self.world.clock.sleep(Duration::from_secs(3)).await;
        let values = self.sites[1].0.inspect(copy_values).await;
        assert!(
            values.iter().all(|shard| shard[0][0] == self.clock.0 as f32),
            "{values:?} at {}",
            self.clock
        );
    }

    /// A stranger with a certificate of the right authority.
    fn stranger(&mut self, name: &PeerName) -> Endpoint {
        let host = self.strangers.next().expect("there are enough hosts");
        self.world.endpoint(host, name, &self.world.authority)
    }
}

fn hello(channel: Channel, session: u64) -> Hello {
    let datacenter = "region-0".into();
    let resumes = (0..2).map(|shard| Resume { shard: ShardId(shard), ..Resume::default() }).collect();
    Hello {
        version: VERSION,
        datacenter,
        server: 0,
        job_digest: DIGEST.to_vec(),
        channel,
        session,
        life: 1,
        departed: Vec::new(),
        resumes,
    }
}

async fn connect(endpoint: &Endpoint) -> Connection {
    let (peer, settings) = (server_name(1), Path::default().control());
    endpoint.connect(host_address(1), &peer, &settings).await.expect("the second datacenter answers")
}

/// Says hello, and waits for the answer where one is expected.
async fn greet(connection: &Connection, hello: &Hello) -> Option<Hello> {
    let (mut send, mut receive) = connection.open_bi().await.ok()?;
    frames::write(&mut send, [wire::encode_hello(hello)]).await.ok()?;
    let frame = frames::read(&mut receive, 1 << 20).await.ok()??;
    wire::decode_hello(frame).ok()
}

/// Why the other side closed.
async fn closed(connection: &Connection) -> (quinn::VarInt, String) {
    match connection.closed().await {
        ConnectionError::ApplicationClosed(close) => {
            (close.error_code, String::from_utf8_lossy(&close.reason).into())
        }
        other => panic!("{other}"),
    }
}

fn in_time<F: Future>(clock: &VirtualClock, test: F) -> F::Output {
    clock.run(Duration::from_secs(600), test).expect("in time")
}

#[test]
fn who_is_not_meant_is_told_why() {
    let clock = VirtualClock::new();
    in_time(&clock, async {
        let mut scene = Scene::new(&clock);
        let name = |datacenter: &str, role| PeerName::new(datacenter, role).expect("a valid name");
        let good = hello(Channel::Control, 1);
        for (cause, name, hello, reason) in [
            (
                "unknown_datacenter",
                name("region-9", Role::Server),
                good.clone(),
                "datacenter 'region-9' is not one of our peers",
            ),
            (
                "own_name",
                name("region-1", Role::Server),
                good.clone(),
                "it calls itself 'region-1', and so do we",
            ),
            ("role", name("region-0", Role::Worker), good.clone(), "role 'worker', 'server' is needed"),
            (
                "name",
                server_name(0),
                Hello { datacenter: "region-1".into(), ..good.clone() },
                "its hello says 'region-1', its certificate 'region-0'",
            ),
            ("job", server_name(0), Hello { job_digest: vec![9; 32], ..good.clone() }, "its digest is 0909"),
            (
                "version",
                server_name(0),
                Hello { version: 99, ..good.clone() },
                "protocol version 99, we speak 5",
            ),
        ] {
            let endpoint = scene.stranger(&name);
            let connection = connect(&endpoint).await;
            // Whoever runs another job is told ours, so that both can say what differs.
            assert_eq!(greet(&connection, &hello).await.is_some(), cause == "job");
            let (code, told) = closed(&connection).await;
            assert_eq!(close_code::cause_of(code), Some(cause), "{told}");
            assert!(told.contains(reason), "{told} lacks {reason}");
        }
        let host = scene.strangers.next().expect("there are enough hosts");
        let other = scene.world.endpoint(host, &server_name(0), &Authority::new(99));
        let path = Path::default();
        assert!(other.connect(host_address(1), &server_name(1), &path.control()).await.is_err());
        scene.check_honest().await;
    });
}

#[test]
fn nonsense_costs_the_link_and_nothing_else() {
    let clock = VirtualClock::new();
    in_time(&clock, async {
        let mut scene = Scene::new(&clock);
        scene.check_honest().await;
        let endpoint = scene.stranger(&server_name(0));
        let update = |shard, seq, index| {
            let mut delta = Elements::new(TableId(0));
            delta.push(index, 1.0);
            let update =
                Update { shard: ShardId(shard), seq, count: 1, deltas: vec![delta], ..Update::default() };
            wire::encode_update(&update)
        };
        let framed = |frame: Bytes| {
            let mut bytes = vec![frame.len() as u8];
            bytes.extend_from_slice(&frame);
            bytes
        };
        let cases = [
            ("garbage as data", Channel::Data, vec![5, 0xff, 0xff, 0xff, 0xff, 0xff]),
            ("a frame of 30 GB", Channel::Data, vec![0xff, 0xff, 0xff, 0xff, 0x7f]),
            ("an endless length", Channel::Data, vec![0xff; 20]),
            ("an unknown shard", Channel::Data, framed(update(9, 1, 0))),
            ("an element beyond the table", Channel::Data, framed(update(0, 1, 1000))),
            ("garbage as control", Channel::Control, vec![5, 0xff, 0xff, 0xff, 0xff, 0xff]),
            ("an oversize control message", Channel::Control, vec![0xff, 0xff, 0x7f, 0]),
            ("an endless control length", Channel::Control, vec![0xff; 20]),
        ];
        for (number, (what, channel, bytes)) in (1..).zip(cases) {
            let (control, data) = (connect(&endpoint).await, connect(&endpoint).await);
            assert!(greet(&control, &hello(Channel::Control, number)).await.is_some());
            assert!(greet(&data, &hello(Channel::Data, number)).await.is_some());
            let at = if channel == Channel::Data { &data } else { &control };
            let mut stream = at.open_uni().await.expect("streams may be opened");
            stream.write_all(&bytes).await.expect("bytes may be written");
            let (code, told) = closed(at).await;
            assert_eq!(code, close_code::PROTOCOL, "{what}: {told}");
            // The honest datacenter was shut out while its name was used, and comes back.
            scene.world.clock.sleep(Duration::from_secs(5)).await;
            scene.check_honest().await;
        }
        // Well-formed, and wrong in what it says: the node refuses.
        let (control, data) = (connect(&endpoint).await, connect(&endpoint).await);
        assert!(greet(&control, &hello(Channel::Control, 100)).await.is_some());
        assert!(greet(&data, &hello(Channel::Data, 100)).await.is_some());
        let mut stream = data.open_uni().await.expect("streams may be opened");
        stream.write_all(&framed(update(0, 1 << 40, 0))).await.expect("bytes may be written");
        let (code, told) = closed(&data).await;
        assert_eq!(code, close_code::PROTOCOL, "{told}");
        assert!(told.contains("ahead of the last applied one"), "{told}");
        scene.world.clock.sleep(Duration::from_secs(5)).await;
        scene.check_honest().await;
        assert_eq!(scene.model.shapes.len(), 2);
    });
}

#[test]
fn many_streams_and_data_connections_cost_no_more_than_connections() {
    let clock = VirtualClock::new();
    in_time(&clock, async {
        let mut scene = Scene::new(&clock);
        scene.check_honest().await;
        let endpoint = scene.stranger(&server_name(0));
        // Of links that there are not.
        for session in 0..100 {
            let data = connect(&endpoint).await;
            assert!(greet(&data, &hello(Channel::Data, session)).await.is_none());
            assert_eq!(closed(&data).await.0, close_code::REPLACED);
        }
        scene.check_honest().await;

        let control = connect(&endpoint).await;
        assert!(greet(&control, &hello(Channel::Control, 1000)).await.is_some());
        let data = connect(&endpoint).await;
        assert!(greet(&data, &hello(Channel::Data, 1000)).await.is_some());
        for _ in 0..100 {
            let another = connect(&endpoint).await;
            assert!(greet(&another, &hello(Channel::Data, 1000)).await.is_none(), "a link has one");
        }
        let mut streams = Vec::new();
        for _ in 0..1000 {
            // Until the limit, or until the honest datacenter has its place back.
            let opened = tokio::time::timeout(Duration::from_secs(1), data.open_uni()).await;
            let Ok(Ok(mut stream)) = opened else { break };
            // Each claims a long frame and sends a little of it.
            if stream.write_all(&[200, 1, 0, 0]).await.is_err() {
                break;
            }
            streams.push(stream);
        }
        assert!(streams.len() < 200, "{} streams are open", streams.len());
        data.close(close_code::LEAVING, b"");
        scene.world.clock.sleep(Duration::from_secs(40)).await;
        scene.check_honest().await;
    });
}

fn frame_of(update: &Update) -> Vec<u8> {
    let frame = wire::encode_update(update);
    let mut bytes = vec![u8::try_from(frame.len()).expect("it is short")];
    bytes.extend_from_slice(&frame);
    bytes
}

/// Sums that are no numbers, of deltas that are: by whole rows and by deltas, one after the other
/// and ahead of each other.
#[test]
fn sums_that_overflow_cost_the_link_and_change_nothing() {
    let clock = VirtualClock::new();
    in_time(&clock, async {
        let mut scene = Scene::new(&clock);
        scene.check_honest().await;
        let endpoint = scene.stranger(&server_name(THIRD));
        let update = |seq, value| {
            let deltas = vec![Elements { table: TableId(0), indexes: vec![5], values: vec![value] }];
            Update { shard: ShardId(0), seq, count: seq as u32, deltas, ..Update::default() }
        };
        let rows = |origin, value: f32| {
            let deltas = vec![Elements { table: TableId(0), indexes: vec![3, 4, 5], values: vec![value; 3] }];
            let rows = WholeRows { origin, stamps: vec![vec![9]], is_last: true, life: 1 };
            Update { rows: Some(rows), deltas, ..update(1, 0.0) }
        };
        let cases = [
            ("two that overflow together", vec![update(1, 3e38), update(2, 3e38)]),
            ("a single one near the end", vec![update(1, -3e38)]),
            ("many, each of which may be", vec![update(1, 3e29), update(2, 3e29), update(3, 3e29)]),
            ("early ones", vec![update(3, 3e38), update(2, 3e38), update(1, 3e38)]),
            ("whole rows", vec![rows(Origin::Sender, f32::MAX)]),
            ("what the receiver is said to have lost", vec![rows(Origin::Receiver, f32::MAX)]),
        ];
        for (number, (what, updates)) in (1..).zip(cases) {
            let (control, data) = (connect(&endpoint).await, connect(&endpoint).await);
            let hello = |channel| Hello { datacenter: site_name(THIRD), ..hello(channel, number) };
            let answer = greet(&control, &hello(Channel::Control)).await.expect("it is let in");
            assert!(greet(&data, &hello(Channel::Data)).await.is_some());
            let Resume { stream: counted, through, .. } = answer.resumes[0];
            let mut stream = data.open_uni().await.expect("streams may be opened");
            for update in &updates {
                let update = Update { stream: counted, seq: through + update.seq, ..update.clone() };
                // The link may be closed by now.
                let _ = stream.write_all(&frame_of(&update)).await;
            }
            let (code, told) = closed(&data).await;
            assert_eq!(code, close_code::PROTOCOL, "{what}: {told}");
            assert!(told.contains("would have contributed"), "{what}: {told}");
            let values = scene.sites[1].0.inspect(copy_values).await;
            assert!(values.iter().flatten().flatten().all(|value| value.is_finite()), "{what}: {values:?}");
            scene.world.clock.sleep(Duration::from_secs(5)).await;
            scene.check_honest().await;
        }
    });
}

/// A worker with a good certificate that wants the model to overflow: it is told, and nobody else
/// is refused, here or elsewhere.
#[test]
fn a_worker_that_makes_sums_overflow_costs_itself_alone() {
    let clock = VirtualClock::new();
    in_time(&clock, async {
        let mut scene = Scene::of(&clock, &[]);
        scene.check_honest().await;
        let mut told = Vec::new();
        for round in 0..20 {
            let (replies, mut answers) = mpsc::channel(2);
            let (refusal, (answer, attached)) = (Refusal::default(), oneshot::channel());
            let worker = WorkerId(0);
            let attach = Call::Attach { worker, is_new: false, replies, refusal: refusal.clone(), answer };
            scene.sites[1].0.events.send(Event::Worker(attach)).await.expect("the server runs");
            attached.await.expect("it is attached");
            for (clock, value) in (1..).zip([3e28, 3e28, 3e28, f32::MAX, -3e38]) {
                let deltas = [Elements { table: TableId(0), indexes: vec![4], values: vec![value] }];
                let flush = Flush::of_elements(worker, Clock(10 * round + clock), &deltas, &[SHAPE]);
                let request = (ShardId(1), Request::Flush(flush));
                scene.sites[1].0.requests.send(request).await.expect("the server runs");
            }
            assert_eq!(answers.recv().await, None, "its session ends");
            told.push(refusal.reason().expect("it is told why").to_owned());
            scene.check_honest().await;
        }
        let first = "worker 0 flushed a delta of 3e28 at clock 3, which would bring 6e28 beyond";
        assert!(told[0].starts_with(first), "{}", told[0]);
        for site in [0, 1] {
            let values = scene.sites[site].0.inspect(copy_values).await;
            assert!((6e28..8e28).contains(&values[1][0][4]), "what it might add is everywhere: {values:?}");
            let others = values.iter().flatten().flatten().filter(|value| **value < 1e28);
            assert_eq!(others.count(), 29, "{values:?}");
        }
    });
}
