//! The relay over real sockets on loopback. Lower bounds of times are the model's; upper ones allow for a busy machine.

use std::{io, net::SocketAddr, time::Duration};

use emulation::link::wire_bytes;
use emulation::link::{Fate, Link, LinkConfig};
use emulation::seed;
use tokio::{
    net::UdpSocket,
    task::yield_now,
    time::{Instant, sleep, timeout},
};
use wan::relay::{Direction, DirectionCounters, Relay, RelayError, RelayLink, RelayRoute};

const MS: Duration = Duration::from_millis(1);
/// How much later than the model says something may happen on a busy machine.
const SLACK: Duration = Duration::from_secs(2);
const LOOPBACK: &str = "127.0.0.1:0";

async fn bind(address: &str) -> UdpSocket {
    UdpSocket::bind(address).await.expect("a free port")
}

fn address(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("a bound socket")
}

fn route(target: impl ToString) -> RelayRoute {
    let listen = LOOPBACK.parse().expect("an address");
    RelayRoute { listen, target: target.to_string(), direction: Direction::Forward }
}

fn link(forward: LinkConfig, backward: LinkConfig, routes: Vec<RelayRoute>) -> RelayLink {
    let ends = ["a", "b"].map(str::to_owned);
    RelayLink { name: "a-b".to_owned(), ends, forward, backward, routes }
}

fn fast(delay: Duration) -> LinkConfig {
    LinkConfig::clean(1_000_000_000, delay)
}

/// A client of the relay's route number `route`.
async fn client(relay: &Relay, route: usize) -> UdpSocket {
    let socket = bind(LOOPBACK).await;
    socket.connect(relay.routes()[route].listen).await.expect("loopback");
    socket
}

async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2048];
    let received = timeout(SLACK, socket.recv_from(&mut buffer)).await.expect("it comes");
    let (length, from) = received.expect("a sound socket");
    (buffer[..length].to_vec(), from)
}

fn forward(relay: &Relay) -> DirectionCounters {
    relay.counters()[0].forward
}

#[tokio::test]
async fn each_direction_has_its_delay_and_its_counts() {
    let target = bind(LOOPBACK).await;
    let routes = vec![route(address(&target))];
    let relay = Relay::start(vec![link(fast(40 * MS), fast(20 * MS), routes)], 1).expect("it starts");
    let client = client(&relay, 0).await;
    let start = Instant::now();
    client.send(b"question").await.expect("it is sent");
    let (question, from) = receive(&target).await;
    let there = start.elapsed();
    target.send_to(b"answer!", from).await.expect("it is sent");
    let (answer, _) = receive(&client).await;
    let back = start.elapsed() - there;
    assert_eq!((question.as_slice(), answer.as_slice()), (b"question".as_slice(), b"answer!".as_slice()));
    assert!(there >= 40 * MS && there < 40 * MS + SLACK, "{there:?}");
    assert!(back >= 20 * MS && back < 20 * MS + SLACK, "{back:?}");
    let counters = &relay.counters()[0];
    assert_eq!((counters.forward.link.delivered, counters.forward.link.delivered_bytes), (1, 28 + 8));
    assert_eq!((counters.backward.link.delivered, counters.backward.link.delivered_bytes), (1, 28 + 7));
}

#[tokio::test]
async fn routes_share_the_rate_of_their_link() {
    // 2 x 100 datagrams of 1250 bytes on the wire are 250 kB, which takes 0.8 s at 2.5 Mbit/s.
    const EACH: usize = 100;
    let targets = [bind(LOOPBACK).await, bind(LOOPBACK).await];
    let slow = LinkConfig { queue_bytes: 2_000_000, ..LinkConfig::clean(312_500, MS) };
    let routes = targets.iter().map(|target| route(address(target))).collect();
    let relay = Relay::start(vec![link(slow, fast(MS), routes)], 1).expect("it starts");
    let clients = [client(&relay, 0).await, client(&relay, 1).await];
    let start = Instant::now();
    let payload = [7; 1250 - 28];
    for number in 0..EACH as u64 {
        for client in &clients {
            client.send(&payload).await.expect("it is sent");
        }
        // The relay runs in this thread too, and a burst would be lost before it has seen it.
        while forward(&relay).link.offered < 2 * (number + 1) {
            yield_now().await;
        }
    }
    for _ in 0..EACH {
        tokio::join!(receive(&targets[0]), receive(&targets[1]));
    }
    let taken = start.elapsed();
    assert!(taken >= 801 * MS && taken < 801 * MS + SLACK, "{taken:?}");
    let counters = forward(&relay).link;
    assert_eq!((counters.offered, counters.delivered_bytes), (2 * EACH as u64, 250_000));
    assert!(counters.peak_backlog_bytes > 125_000, "{counters:?}");
}

#[tokio::test]
async fn the_seed_decides_what_is_lost() {
    // A socket has room for some 250, whoever reads it and when.
    const SENT: u32 = 200;
    let config = LinkConfig { loss: 0.25, ..fast(MS) };
    let mut model = Link::new(config.clone(), seed::derive(9, &[0, 0]));
    let bytes = wire_bytes([127, 0, 0, 1].into(), 4);
    let survives = |_: &u32| matches!(model.offer(Duration::ZERO, bytes), Fate::Delivered { .. });
    let expected: Vec<u32> = (0..SENT).filter(survives).collect();

    let target = bind(LOOPBACK).await;
    let relay =
        Relay::start(vec![link(config, fast(MS), vec![route(address(&target))])], 9).expect("it starts");
    let client = client(&relay, 0).await;
    for number in 0..SENT {
        client.send(&number.to_be_bytes()).await.expect("it is sent");
        while forward(&relay).link.offered <= u64::from(number) {
            yield_now().await;
        }
    }
    let mut received = Vec::new();
    while received.len() < expected.len() {
        let (payload, _) = receive(&target).await;
        received.push(u32::from_be_bytes(payload.try_into().expect("four bytes")));
    }
    assert_eq!(received, expected);
    let counters = forward(&relay).link;
    assert_eq!(counters.delivered, expected.len() as u64);
    assert_eq!(counters.delivered + counters.dropped_loss, u64::from(SENT));
}

#[tokio::test]
async fn clients_are_told_apart_and_keep_their_addresses() {
    let target = bind(LOOPBACK).await;
    let routes = vec![route(address(&target))];
    let relay = Relay::start(vec![link(fast(MS), fast(MS), routes)], 1).expect("it starts");
    let clients = [client(&relay, 0).await, client(&relay, 0).await];
    let mut seen = Vec::new();
    for round in 0..2 {
        for (index, client) in clients.iter().enumerate() {
            client.send(&[index as u8]).await.expect("it is sent");
            let (_, from) = receive(&target).await;
            target.send_to(&[index as u8], from).await.expect("it is sent");
            assert_eq!(receive(client).await.0, [index as u8], "round {round}");
            seen.push(from);
        }
    }
    assert_eq!(seen[..2], seen[2..]);
    assert_ne!(seen[0], seen[1]);
}

#[tokio::test]
async fn a_target_may_come_later_and_under_a_name() {
    let target = bind(LOOPBACK).await;
    let place = address(&target);
    drop(target);
    // The name may stand for ::1 too, where nobody will ever listen.
    let routes = vec![route(place), route(format!("localhost:{}", place.port()))];
    let relay = Relay::start(vec![link(fast(MS), fast(MS), routes)], 1).expect("it starts");
    let clients = [client(&relay, 0).await, client(&relay, 1).await];
    clients[0].send(b"early").await.expect("it is sent");
    while forward(&relay).link.offered == 0 {
        yield_now().await;
    }
    sleep(50 * MS).await;
    let target = UdpSocket::bind(place).await.expect("it is free again");
    for client in &clients {
        let start = Instant::now();
        loop {
            client.send(b"late").await.expect("it is sent");
            let mut buffer = [0; 16];
            if let Ok(received) = timeout(50 * MS, target.recv_from(&mut buffer)).await {
                assert_eq!(received.expect("a sound socket").0, 4);
                break;
            }
            assert!(start.elapsed() < 5 * SLACK, "the target is never found");
        }
    }
}

#[tokio::test]
async fn a_target_without_an_address_is_counted() {
    let routes = vec![route("no-such-host.invalid:1")];
    let relay = Relay::start(vec![link(fast(MS), fast(MS), routes)], 1).expect("it starts");
    let client = client(&relay, 0).await;
    client.send(b"?").await.expect("it is sent");
    while forward(&relay).unroutable == 0 {
        sleep(MS).await;
    }
    assert_eq!(forward(&relay).link.offered, 0);
}

#[tokio::test]
async fn a_link_is_cut_and_healed_while_it_runs() {
    let target = bind(LOOPBACK).await;
    let routes = vec![RelayRoute { direction: Direction::Backward, ..route(address(&target)) }];
    let relay = Relay::start(vec![link(fast(MS), fast(2 * MS), routes)], 1).expect("it starts");
    assert_eq!(relay.routes()[0].ends, ["b", "a"]);
    let client = client(&relay, 0).await;
    let healthy = relay.link("a-b", Direction::Backward).expect("it is there");
    assert_eq!(healthy.one_way_delay, 2 * MS);
    let cut = LinkConfig { loss: 1.0, ..healthy.clone() };
    relay.set_link("a-b", Direction::Backward, cut).expect("it is there");
    client.send(b"lost").await.expect("it is sent");
    while relay.counters()[0].backward.link.dropped_loss == 0 {
        sleep(MS).await;
    }
    relay.set_link("a-b", Direction::Backward, healthy).expect("it is there");
    client.send(b"found").await.expect("it is sent");
    assert_eq!(receive(&target).await.0, b"found");
    assert_eq!(forward(&relay), DirectionCounters::default());
    let error = relay.link("b-a", Direction::Forward).expect_err("there is none");
    assert_eq!(error.to_string(), "there is no link \"b-a\"");
}

#[tokio::test]
async fn both_families_are_relayed() {
    let target = match UdpSocket::bind("[::1]:0").await {
        Ok(target) => target,
        Err(error) => return println!("skipped: no IPv6 here: {error}"),
    };
    let listen = "[::1]:0".parse().expect("an address");
    let routes = vec![route(address(&target)), RelayRoute { listen, ..route(address(&target)) }];
    let relay = Relay::start(vec![link(fast(MS), fast(MS), routes)], 1).expect("it starts");
    for (number, from) in [LOOPBACK, "[::1]:0"].into_iter().enumerate() {
        let client = bind(from).await;
        client.connect(relay.routes()[number].listen).await.expect("loopback");
        client.send(b"x").await.expect("it is sent");
        let (_, from) = receive(&target).await;
        target.send_to(b"y", from).await.expect("it is sent");
        assert_eq!(receive(&client).await.0, b"y");
    }
    assert_eq!(forward(&relay).link.delivered_bytes, 29 + 49, "headers are those of the client's family");
}

#[tokio::test]
async fn all_addresses_that_are_taken_are_named() {
    let taken = [bind(LOOPBACK).await, bind(LOOPBACK).await];
    let routes = taken.iter().map(|socket| RelayRoute { listen: address(socket), ..route("127.0.0.1:1") });
    let error =
        Relay::start(vec![link(fast(MS), fast(MS), routes.collect())], 1).expect_err("they are taken");
    let RelayError::Listen(failures) = &error else { panic!("{error}") };
    assert_eq!(failures.len(), 2);
    assert!(failures.iter().all(|(.., error)| error.kind() == io::ErrorKind::AddrInUse));
    let message = error.to_string();
    assert!(message.starts_with(&format!("cannot listen on {} for a-b: ", address(&taken[0]))), "{message}");
}
