//! Probes: over an emulated link, whose figures they should find, and between endpoints on loopback.

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use common::{ONE_WAY, RATE_BYTES_PER_SEC, World, long_link, long_path, name};
use datacenter::DatacenterId;
use emulation::link::LinkConfig;
use emulation::{VirtualClock, host_address};
use wan::driver::address::Address;
use wan::driver::hello::Terms;
use wan::driver::job_settings::JobSettings;
use wan::driver::link::LinkTraffic;
use wan::driver::link_registry::LinkRegistry;
use wan::driver::paths::Paths;
use wan::driver::peers::{ConnectError, Peer, Peers};
use wan::driver::probe::{Answers, MOST_BYTES, Probe, ProbeError, RUNNING_BYTES, probe};
use wan::driver::queue::event_queue;
use wan::message::ServerId;
use wan::transport::{Authority, Carries, Endpoint, EndpointConfig, Entropy, Path};
use wan::wire::{CallBack, ProbeRequest, Shapes};

fn server(region: u32) -> ServerId {
    ServerId { datacenter: DatacenterId(region as u16), index: 0 }
}

fn terms(region: u32) -> Terms {
    let others = (0..3).filter(|other| *other != region);
    Terms {
        datacenter: name(region).datacenter().to_owned(),
        server: 0,
        job_digest: vec![7; 32],
        shards: 1,
        settings: JobSettings::default(),
        peers: others.map(|other| (name(other).datacenter().to_owned(), server(other).datacenter)).collect(),
    }
}

fn peer(region: u32, address: SocketAddr, path: Path) -> Peer {
    Peer { id: server(region), name: name(region), addresses: vec![Address::Socket(address)], path }
}

const ALL: ProbeRequest = ProbeRequest { bytes: MOST_BYTES, call_back: true };

#[test]
fn a_probe_finds_what_the_path_is_like() {
    for path in [Path::default(), long_path()] {
        let clock = VirtualClock::new();
        let found = clock.run(Duration::from_secs(60), async {
            let world = World::new(&clock, 1, 2, &long_link(1.0, 0.0), path);
            let answers = Answers::new(world.endpoints[1].clone(), terms(1), LinkRegistry::default());
            tokio::spawn(answers.serve());
            let to = peer(1, host_address(1), path);
            probe(&world.endpoints[0], &terms(0), &to, &to.addresses[0], 1, ALL).await.unwrap()
        });
        let found = found.unwrap();
        let off = found.round_trip.abs_diff(2 * ONE_WAY);
        assert!(off < Duration::from_millis(5), "{found:?}");
        for rate in [found.rate_there, found.rate_back] {
            let share = rate.expect("it was measured") / RATE_BYTES_PER_SEC as f64;
            assert!((0.65..1.1).contains(&share), "{share}: {found:?}");
        }
        assert_eq!((found.linked, &found.call_back), (false, &CallBack::NoAddress));
    }
}

/// Those who send first packets from an address that is not theirs, or hear of no answer.
#[test]
fn a_flood_of_first_packets_costs_little_and_keeps_nobody_out() {
    let clock = VirtualClock::new();
    clock
        .run(Duration::from_secs(120), async {
            let world = World::new(&clock, 1, 3, &long_link(1.0, 0.0), long_path());
            let deaf = LinkConfig { loss: 1.0, ..long_link(1.0, 0.0) };
            world.network.set_link(world.ip(0), world.ip(2), deaf);
            let server = &world.endpoints[0];
            tokio::spawn(Answers::new(server.clone(), terms(0), LinkRegistry::default()).serve());
            let mut flood = Vec::new();
            for _ in 0..500 {
                let flooder = world.endpoints[2].clone();
                flood.push(tokio::spawn(async move {
                    let _ = flooder.connect(host_address(0), &name(0), &Path::default().data()).await;
                }));
            }
            clock.sleep_until(clock.now() + Duration::from_secs(1)).await;
            assert_eq!(server.quinn().open_connections(), 32, "as many as one address may have unproven");
            let to = peer(0, host_address(0), long_path());
            let request = ProbeRequest::default();
            probe(&world.endpoints[1], &terms(1), &to, &to.addresses[0], 1, request).await.unwrap();
            // Nor does it last.
            flood.iter().for_each(|flooder| flooder.abort());
            clock.sleep_until(clock.now() + Duration::from_secs(12)).await;
            let remains = server.quinn().open_connections();
            assert!(remains <= 32, "{remains} of the flood");
        })
        .unwrap();
}

struct Place {
    endpoint: Endpoint,
    address: SocketAddr,
}

fn place(authority: &Authority, region: u32) -> Place {
    let config = EndpointConfig {
        identity: authority.issue(&name(region)),
        entropy: Entropy::System,
        accept: Path::default().accepted(Carries::Updates),
    };
    let endpoint = Endpoint::over_udp(config, UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    let address = endpoint.local_address().unwrap();
    Place { endpoint, address }
}

async fn look(from: &Place, terms: &Terms, to: &Peer) -> Result<Probe, ProbeError> {
    let request = ProbeRequest { bytes: 200_000, call_back: true };
    probe(&from.endpoint, terms, to, &to.addresses[0], 1, request).await
}

#[tokio::test]
async fn both_sides_of_a_path_are_looked_at() {
    let authority = Authority::new(1);
    let (here, there) = (place(&authority, 0), place(&authority, 1));
    let there_is = peer(1, there.address, Path::default());
    let answers = Answers::new(
        there.endpoint.clone(),
        Terms { job_digest: vec![8; 32], ..terms(1) },
        LinkRegistry::default(),
    );
    tokio::spawn(answers.clone().serve());
    tokio::spawn(Answers::new(here.endpoint.clone(), terms(0), LinkRegistry::default()).serve());

    // Another job is no reason not to answer, and nobody has told them where we are.
    let found = look(&here, &terms(0), &there_is).await.unwrap();
    assert_eq!((found.address, found.hello.server), (there.address, 0));
    assert_eq!((&found.hello.datacenter[..], &found.hello.job_digest), ("region-1", &vec![8; 32]));
    assert_eq!((found.linked, &found.call_back), (false, &CallBack::NoAddress));
    assert!(found.rate_there.is_some() && found.rate_back.is_some(), "{found:?}");
    assert!(found.round_trip < Duration::from_secs(1) && found.clock_ahead_millis.abs() < 1000);

    // Now they know; and another burst would come too soon.
    answers.know(&peer(0, here.address, Path::default()));
    let found = look(&here, &terms(0), &there_is).await.unwrap();
    assert_eq!((found.call_back, found.rate_there, found.rate_back), (CallBack::Reached, None, None));

    // They look for us in the wrong place.
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    answers.know(&peer(0, nobody.local_addr().unwrap(), Path::default()));
    let found = look(&here, &terms(0), &there_is).await.unwrap();
    let expected = format!("nothing answers at {} over UDP", nobody.local_addr().unwrap());
    assert_eq!(found.call_back, CallBack::Failed(expected));
}

#[tokio::test]
async fn a_probe_that_comes_to_nothing_says_why() {
    let authority = Authority::new(1);
    let (here, there) = (place(&authority, 0), place(&authority, 1));
    let only_two = Terms { peers: vec![("region-2".to_owned(), DatacenterId(2))], ..terms(1) };
    tokio::spawn(Answers::new(there.endpoint.clone(), only_two, LinkRegistry::default()).serve());
    let there_is = peer(1, there.address, Path::default());

    let error = look(&here, &terms(0), &there_is).await.unwrap_err().to_string();
    assert_eq!(error, "it refuses us: datacenter 'region-0' is not one of our peers (region-2)");

    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = look(&here, &terms(0), &peer(1, nobody, Path::default())).await.unwrap_err();
    assert_eq!(error.to_string(), format!("nothing answers at {nobody} over UDP"));

    let stranger = place(&Authority::new(2), 0);
    let error = look(&stranger, &terms(0), &there_is).await.unwrap_err();
    assert!(matches!(error, ProbeError::Certificate(_)), "{error}");

    let third = place(&authority, 2);
    let second_server = Peer { id: ServerId { index: 1, ..server(1) }, ..there_is };
    let error = look(&third, &terms(2), &second_server).await.unwrap_err();
    assert!(matches!(error, ProbeError::Connect(ConnectError::Server { expected: 1, found: 0 })), "{error}");
}

#[tokio::test]
async fn a_server_that_runs_a_job_answers_too() {
    let authority = Authority::new(1);
    let (here, there) = (place(&authority, 0), place(&authority, 1));
    let (events, _kept) = event_queue();
    let (shapes, registry) = (Shapes::new(Vec::new()), LinkRegistry::default());
    let peers = Peers::new(
        there.endpoint.clone(),
        terms(1),
        shapes,
        events,
        LinkTraffic::default(),
        registry.clone(),
    );
    tokio::spawn(peers.accept(Paths::default()));
    let there_is = peer(1, there.address, Path::default());
    let found = look(&here, &terms(0), &there_is).await.unwrap();
    assert_eq!(found.hello.job_digest, vec![7; 32]);
    assert!(found.rate_there.is_some());
    assert!(registry.refusals().all().is_empty(), "a probe is no refusal");
    const { assert!(RUNNING_BYTES < MOST_BYTES) };
}
