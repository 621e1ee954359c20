//! Bulk data, and control beside it, over a long link: 100 Mbit/s over 80 ms each way.
//!
//! All times are virtual, so the figures are the same on every machine.

mod common;

use std::{cell::Cell, rc::Rc, time::Duration};

use common::*;
use emulation::VirtualClock;
use emulation::link::{LinkConfig, LinkCounters, Outage};
use wan::transport::{Congestion, Path, Settings};

const MB: u64 = 1_000_000;

/// What a bulk transfer with control beside it has shown.
struct Report {
    transfer: Transfer,
    /// How late control messages were, beyond the link's delay.
    late: Vec<Duration>,
    dropped_queue_full: u64,
}

/// Sends 100 MB over one data connection, and meanwhile a control message each 100 ms over another.
fn run(seed: u64, link: &LinkConfig, path: Path) -> Report {
    let clock = VirtualClock::new();
    clock
        .run(Duration::from_secs(120), async {
            let world = World::new(&clock, seed, 2, link, path);
            let (from, to) = world.connect(0, 1).await;
            let (control_from, control_to) = world.connect_control(0, 1).await;
            let streams = path.data().bulk_streams;
            let (transfer, delays) = tokio::join!(
                biased;
                transfer(&clock, &from, &to, streams, 100 * MB),
                control_delays(&clock, &control_from, &control_to, Some(from.clone()), 85),
            );
            assert_eq!(from.close_reason(), None);
            Report {
                transfer,
                late: delays.into_iter().map(|delay| delay - link.one_way_delay).collect(),
                dropped_queue_full: world.network.counters(world.ip(0), world.ip(1)).dropped_queue_full,
            }
        })
        .unwrap()
}

#[test]
fn bulk_fills_the_link_and_control_is_in_time() {
    let mut late = Vec::new();
    for loss in [0.0, 0.001, 0.01] {
        for queue_bdp in [0.1, 0.5, 1.0, 4.0] {
            for seed in 1..=2 {
                let report = run(seed, &long_link(queue_bdp, loss), long_path());
                let share = report.transfer.share(RATE_BYTES_PER_SEC);
                let what = format!("loss {loss}, queue of {queue_bdp} BDP, seed {seed}");
                println!(
                    "{what}: {:.1} % of the link, {} dropped by the queue, control at most {:?} late",
                    100.0 * share,
                    report.dropped_queue_full,
                    report.late.iter().max(),
                );
                assert!(share >= 0.85, "{what}: {share}");
                if loss == 0.0 {
                    assert!(report.late.iter().all(|&late| late <= LATE), "{what}");
                    assert_eq!(report.dropped_queue_full, 0, "{what}");
                }
                late.extend(report.late);
            }
        }
    }
    // A message may be lost with all its copies, or before the first loss was seen.
    let in_time = late.iter().filter(|&&late| late <= LATE).count();
    assert!(in_time * 1000 >= late.len() * 999, "{in_time} of {}", late.len());
}

/// How late a control message may be.
const LATE: Duration = Duration::from_millis(20);

/// Seeds for each loss and queue: one, and with `GAIA_BULK_SEEDS=10` ten.
fn seeds() -> std::ops::RangeInclusive<u64> {
    1..=std::env::var("GAIA_BULK_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// 70 MB over a link whose rate is known, measured on the wire: headers count, what the queue drops does not.
///
/// The whole transfer includes the 80 ms until the first byte arrives. Where packets are lost it also includes a round trip and
/// a half for the last of them to be sent again, or two of these where that is lost too: chance that no sender can help, so with
/// loss only the time while there is something to send has a limit for every seed.
#[test]
fn a_known_link_is_filled() {
    const SENDING: Duration = Duration::from_millis(5600);
    for loss in [0.0, 0.001, 0.01] {
        for queue_bdp in [0.1, 0.5, 1.0, 4.0] {
            for seed in seeds() {
                let clock = VirtualClock::new();
                let (while_sending, whole, stats, counters) = clock
                    .run(Duration::from_secs(120), async {
                        let world = World::new(&clock, seed, 2, &long_link(queue_bdp, loss), long_path());
                        let (from, to) = world.connect(0, 1).await;
                        let counters = || world.network.counters(world.ip(0), world.ip(1));
                        let share = |time: Duration| {
                            let LinkCounters { offered, offered_bytes, dropped_queue_full, .. } = counters();
                            let carried =
                                offered_bytes as f64 * (1.0 - dropped_queue_full as f64 / offered as f64);
                            carried / (RATE_BYTES_PER_SEC as f64 * time.as_secs_f64())
                        };
                        let streams = world.path.data().bulk_streams;
                        let (transfer, while_sending) = tokio::join!(
                            biased;
                            async {
                                let transfer = transfer(&clock, &from, &to, streams, 70 * MB).await;
                                (share(transfer.took), transfer)
                            },
                            async {
                                clock.sleep(SENDING).await;
                                share(SENDING)
                            },
                        );
                        (while_sending, transfer, from.stats(), counters())
                    })
                    .unwrap();
                let (share, transfer) = whole;
                let what = format!("loss {loss}, queue of {queue_bdp} BDP, seed {seed}");
                println!(
                    "{what}: {:.1} % of the wire while there is something to send, {:.1} % in all, payload {:.1} %",
                    100.0 * while_sending,
                    100.0 * share,
                    100.0 * transfer.share(RATE_BYTES_PER_SEC),
                );
                assert!(while_sending >= 0.94, "{what}: {while_sending}");
                assert!(share >= if loss == 0.0 { 0.94 } else { 0.89 }, "{what}: {share}");
                // Nothing is sent twice but what was lost.
                let lost = counters.dropped_loss + counters.dropped_queue_full;
                assert!(stats.path.lost_packets <= lost + 2, "{what}: {} of {lost}", stats.path.lost_packets);
            }
        }
    }
}

/// How a flow of ours and one of Cubic share a link for a minute, and two of Cubic for comparison: a measurement, printed. `first`
/// has been alone for five seconds.
#[test]
#[ignore = "takes half a minute and asserts nothing: no aim is reached yet"]
fn flows_of_two_kinds_share_a_link() {
    use Congestion::{Cubic, Steady};
    for queue_bdp in [0.1, 0.5, 1.0, 4.0] {
        for [first, second] in [[Steady, Cubic], [Cubic, Steady], [Cubic, Cubic]] {
            let clock = VirtualClock::new();
            clock
                .run(Duration::from_secs(120), async {
                    let world = World::new(&clock, 1, 2, &long_link(queue_bdp, 0.0), long_path());
                    let settings = [first, second].map(|congestion| {
                        let data = Path { congestion, ..long_path() }.data();
                        // Somebody else's Cubic knows nothing of the path.
                        let is_ours = congestion == Steady;
                        Settings {
                            initial_window_bytes: if is_ours { data.initial_window_bytes } else { 14_720 },
                            ..data
                        }
                    });
                    let [one, other] = [
                        world.connect_with(0, 1, &settings[0]).await,
                        world.connect_with(0, 1, &settings[1]).await,
                    ];
                    let received: [Rc<Cell<u64>>; 2] = Default::default();
                    let watched = async {
                        clock.sleep(Duration::from_secs(5)).await;
                        let before = received.each_ref().map(|bytes| bytes.get());
                        clock.sleep(Duration::from_secs(60)).await;
                        [0, 1].map(|flow| (received[flow].get() - before[flow]) as f64)
                    };
                    let [a, b] = tokio::select! {
                        biased;
                        bytes = watched => bytes,
                        _ = transfer_watched(&clock, &one.0, &one.1, 4, 2000 * MB, &received[0]) => unreachable!(),
                        _ = async {
                            clock.sleep(Duration::from_secs(5)).await;
                            transfer_watched(&clock, &other.0, &other.1, 4, 2000 * MB, &received[1]).await
                        } => unreachable!(),
                    };
                    println!(
                        "queue of {queue_bdp} BDP, {first:?} then {second:?}: the first has {:.1} % of {:.1} % of the link",
                        100.0 * a / (a + b),
                        100.0 * (a + b) / 60.0 / RATE_BYTES_PER_SEC as f64,
                    );
                })
                .unwrap();
        }
    }
}

#[test]
fn jitter_is_not_taken_for_a_queue() {
    for reorder in [false, true] {
        let link = LinkConfig { jitter: Duration::from_millis(5), reorder, ..long_link(1.0, 0.0) };
        let share = run(1, &link, long_path()).transfer.share(RATE_BYTES_PER_SEC);
        assert!(share > 0.85, "{share}, reorder {reorder}");
    }
}

#[test]
fn a_path_that_is_not_known_is_explored() {
    let share = run(1, &long_link(1.0, 0.0), Path::default()).transfer.share(RATE_BYTES_PER_SEC);
    assert!(share > 0.75, "{share}");
}

#[test]
fn two_transfers_share_a_link() {
    let clock = VirtualClock::new();
    clock
        .run(Duration::from_secs(120), async {
            let world = World::new(&clock, 1, 2, &long_link(1.0, 0.0), long_path());
            let (first_from, first_to) = world.connect(0, 1).await;
            let (second_from, second_to) = world.connect(0, 1).await;
            let (first, second) = tokio::join!(
                biased;
                transfer(&clock, &first_from, &first_to, 4, 100 * MB),
                async {
                    clock.sleep(Duration::from_secs(2)).await;
                    transfer(&clock, &second_from, &second_to, 4, 50 * MB).await
                },
            );
            // 150 MB take 12.5 s. The one that came first gives way slowly, but the link is not left idle.
            assert!(first.took < Duration::from_secs(13), "{first:?}");
            assert!(second.took < Duration::from_secs(16), "{second:?}");
        })
        .unwrap();
}

#[test]
fn an_outage_is_survived() {
    let outage = Outage { start: Duration::from_secs(4), length: Duration::from_secs(5) };
    let link = LinkConfig { outages: vec![outage], ..long_link(1.0, 0.0) };
    let clock = VirtualClock::new();
    clock
        .run(Duration::from_secs(120), async {
            let world = World::new(&clock, 1, 2, &link, long_path());
            let (from, to) = world.connect(0, 1).await;
            let received = Rc::new(Cell::new(0));
            let watch = async {
                // quinn tries again after 0.2, 0.4, 0.8 and so on seconds: at worst as long again as the
                // outage.
                clock.sleep_until(outage.start + 2 * outage.length).await;
                let before = received.get();
                clock.sleep(Duration::from_secs(2)).await;
                received.get() - before
            };
            let (transfer, meanwhile) =
                tokio::join!(biased; transfer_watched(&clock, &from, &to, 4, 150 * MB, &received), watch);
            assert!(meanwhile as f64 > 0.85 * 2.0 * RATE_BYTES_PER_SEC as f64, "{meanwhile}");
            assert!(transfer.took < Duration::from_secs(25), "{transfer:?}");
        })
        .unwrap();
}
