use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// 1.5 MB/s: a full datagram takes a millisecond.
fn config() -> LinkConfig {
    LinkConfig { queue_bytes: 6000, ..LinkConfig::clean(1_500_000, 10 * MS) }
}

fn arrival(fate: Fate) -> Duration {
    match fate {
        Fate::Delivered { at, .. } => at,
        Fate::Dropped(cause) => panic!("dropped: {cause:?}"),
    }
}

#[test]
fn a_datagram_takes_its_bytes_and_the_distance() {
    let mut link = Link::new(config(), 1);
    assert_eq!(arrival(link.offer(Duration::ZERO, 1500)), 11 * MS);
    assert_eq!(arrival(link.offer(Duration::ZERO, 1500)), 12 * MS, "behind the first");
    assert_eq!(link.backlog_bytes(MS / 2), 2250);
    assert_eq!(arrival(link.offer(5 * MS, 750)), 15 * MS + MS / 2, "the link was idle");
}

#[test]
fn a_full_queue_drops_what_comes_last() {
    let mut link = Link::new(config(), 1);
    for _ in 0..4 {
        arrival(link.offer(Duration::ZERO, 1500));
    }
    assert_eq!(link.offer(Duration::ZERO, 40), Fate::Dropped(DropCause::QueueFull));
    assert_eq!(arrival(link.offer(MS, 1500)), 15 * MS, "one has left");
    assert_eq!(link.counters().dropped_queue_full, 1);
    assert_eq!(link.counters().peak_backlog_bytes, 6000);
}

#[test]
fn an_outage_takes_what_is_offered_and_what_is_under_way() {
    let outages = vec![Outage { start: 20 * MS, length: 10 * MS }];
    let mut link = Link::new(LinkConfig { outages, ..config() }, 1);
    assert_eq!(arrival(link.offer(9 * MS, 1500)), 20 * MS, "just in time");
    assert_eq!(link.offer(9 * MS, 1500), Fate::Dropped(DropCause::Outage), "under way");
    assert_eq!(link.offer(20 * MS, 1500), Fate::Dropped(DropCause::Outage));
    assert_eq!(link.offer(29 * MS, 1500), Fate::Dropped(DropCause::Outage));
    assert_eq!(arrival(link.offer(30 * MS, 1500)), 41 * MS, "the queue was emptied");
    assert_eq!(link.counters().dropped_outage, 3);
}

#[test]
fn a_changed_link_keeps_its_queue() {
    let outages = vec![Outage { start: 20 * MS, length: 10 * MS }];
    let mut link = Link::new(LinkConfig { outages, ..config() }, 1);
    assert_eq!(arrival(link.offer(40 * MS, 1500)), 51 * MS);
    link.reconfigure(40 * MS, LinkConfig { rate_bytes_per_sec: 3_000_000, ..link.config().clone() });
    assert_eq!(arrival(link.offer(40 * MS, 1500)), 51 * MS + MS / 2, "behind the first, twice as fast");
}

#[test]
fn impossible_links_are_refused() {
    let table: [(LinkConfig, &str); 5] = [
        (LinkConfig { rate_bytes_per_sec: 0, ..config() }, "the rate of a link is zero"),
        (
            LinkConfig { queue_bytes: 1499, ..config() },
            "a queue of 1499 bytes cannot hold one datagram of 1500",
        ),
        (LinkConfig { loss: 1.1, ..config() }, "loss is 1.1, and a probability lies between 0 and 1"),
        (
            LinkConfig { duplicate: f64::NAN, ..config() },
            "duplicate is NaN, and a probability lies between 0 and 1",
        ),
        (
            LinkConfig {
                outages: vec![Outage { start: MS, length: 2 * MS }, Outage { start: 2 * MS, length: MS }],
                ..config()
            },
            "the outage at 2ms begins before an earlier one has ended",
        ),
    ];
    for (config, message) in table {
        assert_eq!(config.validate().unwrap_err().to_string(), message);
    }
}

#[test]
fn chances_come_at_their_rates() {
    let config = LinkConfig { loss: 0.01, duplicate: 0.1, queue_bytes: u64::MAX, ..config() };
    let mut link = Link::new(config, 7);
    for _ in 0..100_000 {
        link.offer(Duration::ZERO, 1000);
    }
    let counters = link.counters();
    assert!((900..1100).contains(&counters.dropped_loss), "{counters:?}");
    assert!((9_500..10_500).contains(&counters.duplicated), "{counters:?}");
}

#[test]
fn what_happens_to_a_datagram_depends_on_its_number_alone() {
    let lossy = LinkConfig { loss: 0.3, queue_bytes: u64::MAX, ..config() };
    let lost = |sizes: u64| {
        let mut link = Link::new(lossy.clone(), 3);
        (0..1000)
            .map(|_| link.offer(Duration::ZERO, sizes) == Fate::Dropped(DropCause::Loss))
            .collect::<Vec<_>>()
    };
    assert_eq!(lost(100), lost(1500));
}

fn any_config() -> impl Strategy<Value = LinkConfig> {
    (
        (1_000u64..10_000_000_000, 0u32..500, 0u32..50, any::<bool>()),
        (0.0..0.5f64, 0.0..0.5f64, 1500u64..1_000_000),
        prop::option::of((0u32..200, 0u32..200)),
    )
        .prop_map(|((rate, delay, jitter, reorder), (loss, duplicate, queue_bytes), outage)| {
            LinkConfig {
                rate_bytes_per_sec: rate,
                one_way_delay: delay * MS,
                jitter: jitter * MS,
                reorder,
                loss,
                duplicate,
                queue_bytes,
                outages: outage
                    .map(|(start, length)| Outage { start: start * MS, length: length * MS })
                    .into_iter()
                    .collect(),
            }
        })
}

proptest! {
    #[test]
    fn laws_of_links(
        config in any_config(),
        seed in any::<u64>(),
        offers in prop::collection::vec((0u64..5_000, 1u64..=1500), 1..300),
    ) {
        let mut link = Link::new(config.clone(), seed);
        let mut now = Duration::ZERO;
        let mut last = Duration::ZERO;
        let mut carried_bytes = 0;
        for (gap_micros, bytes) in offers {
            now += Duration::from_micros(gap_micros);
            let fate = link.offer(now, bytes);
            prop_assert!(link.backlog_bytes(now) <= config.queue_bytes, "the backlog is bounded");
            let Fate::Delivered { at, again_at } = fate else { continue };
            prop_assert!(at >= now + config.one_way_delay);
            if !config.reorder {
                prop_assert!(at >= last, "first in, first out");
                prop_assert!(again_at.is_none_or(|again_at| again_at >= at));
                last = at;
            }
            // All that has arrived by now has passed the link, which never exceeds its rate.
            carried_bytes += bytes;
            let busy = at.max(now + config.one_way_delay) - config.one_way_delay;
            if config.jitter.is_zero() {
                let most = u128::from(config.rate_bytes_per_sec) * busy.as_nanos() / 1_000_000_000;
                prop_assert!(u128::from(carried_bytes) <= most, "the rate is never exceeded");
            }
        }
        let c = link.counters();
        prop_assert_eq!(c.offered, c.delivered + c.dropped_queue_full + c.dropped_loss + c.dropped_outage);
        prop_assert!(c.delivered_bytes <= c.offered_bytes);
    }
}
