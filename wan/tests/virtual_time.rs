//! The emulated network and its clock. These also guard upgrades of tokio, on whose park hook the clock
//! leans.

mod common;

use std::{net::UdpSocket, sync::Arc, time::Duration};

use common::*;
use emulation::link::LinkConfig;
use emulation::{OutOfTime, Trace, VirtualClock, host_address};
use wan::transport::{
    Authority, Cause, DialError, Endpoint, EndpointConfig, Entropy, Party, Path, Traffic, peer_name,
};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn sleeps_are_exact_and_tokio_agrees() {
    let clock = VirtualClock::new();
    clock
        .run(LIMIT, async {
            for (length, expected) in [(1, 1), (300_000, 300_001), (1_700_000, 2_000_001), (5, 2_000_006)] {
                clock.sleep(Duration::from_nanos(length)).await;
                assert_eq!(clock.now(), Duration::from_nanos(expected));
            }
            // Tokio's own timers are rounded up to its millisecond, on the same clock.
            tokio::time::sleep(Duration::from_millis(3)).await;
            assert_eq!(clock.now(), Duration::from_millis(6));
            let start = tokio::time::Instant::now();
            let (exact, rounded) = tokio::join!(
                biased;
                async { clock.sleep(Duration::from_micros(1500)).await; clock.now() },
                async { tokio::time::sleep(Duration::from_millis(1)).await; clock.now() },
            );
            assert_eq!(exact, Duration::from_micros(7500));
            assert_eq!(rounded, Duration::from_millis(7));
            assert_eq!(start.elapsed(), Duration::from_micros(1500));
        })
        .unwrap();
}

#[test]
fn a_timer_of_a_task_that_has_ended_does_not_stop_time() {
    let clock = VirtualClock::new();
    clock
        .run(LIMIT, async {
            let mut abandoned = clock.timer(Duration::from_millis(10));
            let polling = tokio::spawn(async move {
                std::future::poll_fn(|context| {
                    let _ = abandoned.poll(context);
                    std::task::Poll::Ready(())
                })
                .await;
                abandoned
            });
            let abandoned = polling.await.unwrap();
            // Nothing of tokio's, or it would keep the runtime going.
            let sleeper = clock.clone();
            tokio::spawn(async move { sleeper.sleep(Duration::from_secs(1)).await }).await.unwrap();
            assert_eq!(clock.now(), Duration::from_secs(1));
            drop(abandoned);
        })
        .unwrap();
}

#[test]
fn a_simulation_that_waits_for_nothing_ends_at_its_limit() {
    let clock = VirtualClock::new();
    let result = clock.run(LIMIT, std::future::pending::<()>());
    assert_eq!(result, Err(OutOfTime { limit: LIMIT }));
    let clock = VirtualClock::new();
    assert_eq!(clock.run(LIMIT, clock.clone().sleep(LIMIT)), Ok(()), "exactly in time");
}

#[test]
fn a_round_trip_is_two_distances_and_the_bytes() {
    let clock = VirtualClock::new();
    clock
        .run(LIMIT, async {
            let world = World::new(&clock, 1, 2, &long_link(1.0, 0.0), long_path());
            let (from, to) = world.connect_control(0, 1).await;
            let echo = tokio::spawn(async move {
                while let Ok(datagram) = to.read_datagram().await {
                    to.send_datagram(datagram).unwrap();
                }
            });
            for _ in 0..20 {
                clock.sleep(Duration::from_micros(123_456)).await;
                let (sent, before) =
                    (clock.now(), world.network.counters(world.ip(0), world.ip(1)).offered_bytes);
                from.send_datagram(bytes::Bytes::from_static(&[1; 32])).unwrap();
                from.read_datagram().await.unwrap();
                let bytes = world.network.counters(world.ip(0), world.ip(1)).offered_bytes - before;
                // 80 ns a byte, each way; an acknowledgement may be in front of ours.
                let least = 2 * ONE_WAY + Duration::from_nanos(2 * 80 * 85);
                let round_trip = clock.now() - sent;
                assert!(round_trip >= least, "{round_trip:?} for {bytes} bytes");
                assert!(round_trip <= least + Duration::from_micros(20), "{round_trip:?} for {bytes} bytes");
            }
            echo.abort();
        })
        .unwrap();
}

/// Bulk and control over a link on which everything goes wrong.
fn trace(seed: u64) -> Trace {
    let link = LinkConfig {
        jitter: Duration::from_millis(3),
        reorder: true,
        duplicate: 0.001,
        ..long_link(0.5, 0.005)
    };
    let clock = VirtualClock::new();
    clock
        .run(LIMIT, async {
            let world = World::new(&clock, seed, 3, &link, long_path());
            let (from, to) = world.connect(0, 1).await;
            let (other_from, other_to) = world.connect(2, 1).await;
            let (control_from, control_to) = world.connect_control(0, 1).await;
            tokio::join!(
                biased;
                transfer(&clock, &from, &to, 4, 5_000_000),
                transfer(&clock, &other_from, &other_to, 4, 5_000_000),
                control_delays(&clock, &control_from, &control_to, Some(from.clone()), 10),
            );
            world.trace()
        })
        .unwrap()
}

#[test]
fn the_same_seed_gives_the_same_packets() {
    let first = trace(1);
    assert!(first.datagrams > 7000, "{first:?}");
    assert_eq!(trace(1), first);
    assert_ne!(trace(2).hash, first.hash);
}

#[test]
fn each_end_knows_the_other() {
    let clock = VirtualClock::new();
    clock
        .run(LIMIT, async {
            let world = World::new(&clock, 1, 2, &long_link(1.0, 0.0), long_path());
            let (from, to) = world.connect(0, 1).await;
            assert_eq!(peer_name(&from).unwrap(), name(1));
            assert_eq!(peer_name(&to).unwrap(), name(0));
        })
        .unwrap();
}

#[test]
fn whoever_is_not_meant_or_not_certified_is_refused() {
    let clock = VirtualClock::new();
    clock
        .run(LIMIT, async {
            let world = World::new(&clock, 1, 3, &long_link(1.0, 0.0), long_path());
            let settings = long_path().data();
            let answering = world.endpoints[1].clone();
            let accept = settings.clone();
            tokio::spawn(async move {
                while let Some(incoming) = answering.incoming().await {
                    let _ = answering.accept(incoming, &accept).unwrap().await;
                }
            });
            let wrong = world.endpoints[0].connect(host_address(1), &name(2), &settings).await;
            assert_eq!(refusal(wrong), (Party::Us, Cause::Name));

            // A stranger with the right name from another authority.
            let socket = world.network.bind(host_address(9)).unwrap();
            for (a, b) in [(9, 1), (1, 9)] {
                world.network.set_link(host_address(a).ip(), host_address(b).ip(), long_link(1.0, 0.0));
            }
            let config = EndpointConfig {
                identity: Authority::new(99).issue(&name(0)),
                entropy: Entropy::Seeded(99),
                accept: settings.clone(),
            };
            let stranger = Endpoint::new(config, socket, Arc::new(clock.clone())).unwrap();
            let refused = stranger.connect(host_address(1), &name(1), &settings).await;
            assert_eq!(refusal(refused), (Party::Us, Cause::UnknownAuthority));
        })
        .unwrap();
}

fn refusal(connected: Result<quinn::Connection, DialError>) -> (Party, Cause) {
    match connected {
        Err(DialError::Refused(refused)) => (refused.by, refused.cause),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_meter_counts_what_the_links_carry() {
    let clock = VirtualClock::new();
    clock
        .run(LIMIT, async {
            let world = World::new(&clock, 1, 2, &long_link(1.0, 0.01), long_path());
            let (from, to) = world.connect(0, 1).await;
            transfer(&clock, &from, &to, 4, 5_000_000).await;
            // What is still under way has been sent, and not received.
            from.close(0u32.into(), b"");
            clock.sleep(Duration::from_secs(5)).await;
            let there = world.network.counters(world.ip(0), world.ip(1));
            let back = world.network.counters(world.ip(1), world.ip(0));
            let traffic = world.endpoints[0].meter().traffic(host_address(1));
            let expected = Traffic {
                sent_datagrams: there.offered,
                sent_bytes: there.offered_bytes,
                received_datagrams: back.delivered,
                received_bytes: back.delivered_bytes,
            };
            assert_eq!(traffic, expected);
        })
        .unwrap();
}

/// quinn closes a connection when one stream has more than 1024 gaps. It is why stream windows are small:
/// should this test fail, the limit is gone and windows may grow.
#[test]
fn a_large_stream_window_still_kills_a_connection() {
    let clock = VirtualClock::new();
    clock
        .run(LIMIT, async {
            // 1 Gbit/s over 80 ms hold 14,000 packets, of which one in ten is lost.
            let link = LinkConfig { loss: 0.1, ..LinkConfig::clean(10 * RATE_BYTES_PER_SEC, ONE_WAY) };
            let path = Path { rate_bytes_per_sec: Some(10 * RATE_BYTES_PER_SEC), ..long_path() };
            let world = World::new(&clock, 1, 2, &link, path);
            let mut settings = path.data();
            settings.initial_window_bytes = 20_000_000;
            settings.stream_window_bytes = 64 << 20;
            settings.connection_window_bytes = 256 << 20;
            settings.send_window_bytes = 256 << 20;
            let (from, to) = world.connect_with(0, 1, &settings).await;
            let sending = async {
                let mut stream = from.open_uni().await?;
                for _ in 0..1000 {
                    stream.write_all(&[0; 65536]).await.map_err(std::io::Error::from)?;
                }
                stream.finish()?;
                stream.stopped().await.map_err(std::io::Error::from)?;
                Ok::<(), std::io::Error>(())
            };
            let receiving = async {
                let mut stream = to.accept_uni().await.unwrap();
                while let Ok(Some(_)) = stream.read_chunk(usize::MAX, true).await {}
            };
            let (sent, ()) = tokio::join!(biased; sending, receiving);
            assert!(sent.is_err());
            let reason = to.close_reason().expect("closed").to_string();
            assert!(reason.contains("too many gaps"), "{reason}");
        })
        .unwrap();
}

/// The same code over real sockets and the real clock.
#[test]
fn real_sockets_work_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let authority = Authority::new(1);
        let path = Path::default();
        let endpoint = |index| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let config = EndpointConfig {
                identity: authority.issue(&name(index)),
                entropy: Entropy::System,
                accept: path.data(),
            };
            Endpoint::over_udp(config, socket).unwrap()
        };
        let (dialer, acceptor) = (endpoint(0), endpoint(1));
        let address = acceptor.local_address().unwrap();
        let accepted = async {
            let incoming = acceptor.incoming().await.unwrap();
            acceptor.accept(incoming, &path.data()).unwrap().await.unwrap()
        };
        let (settings, peer) = (path.data(), name(1));
        let (from, to) = tokio::join!(dialer.connect(address, &peer, &settings), accepted);
        let from = from.unwrap();
        assert_eq!(peer_name(&to).unwrap(), name(0));
        let mut stream = from.open_uni().await.unwrap();
        stream.write_all(&[5; 100_000]).await.unwrap();
        stream.finish().unwrap();
        let received = to.accept_uni().await.unwrap().read_to_end(200_000).await.unwrap();
        assert_eq!(received.len(), 100_000);
        assert!(dialer.meter().traffic(address).sent_bytes > 100_000);
    });
}
