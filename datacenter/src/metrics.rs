//! The metrics of this crate's drivers: name, unit, labels and meaning of each.
//!
//! Drivers record what happens where it happens, through the facade of the crate `metrics`. Who
//! listens, if anybody does, is for the program to say: it installs a recorder, and tells it what
//! the names mean with [`Metric::describe`]. Without one, as in simulations, nothing is recorded
//! and it costs next to nothing.
//!
//! Names follow Prometheus: a prefix, base units last, `_total` for what only grows.
//!
//! **Invariant:** the number of series is bounded by what is configured. What a peer says becomes
//! no label; a cause that it names, and that is not known here, is `other`.
//!
//! Kind: driver.

use std::collections::BTreeMap;

use metrics::{Counter, Histogram, counter, describe_counter, describe_gauge, describe_histogram, histogram};

use crate::ShardId;
use crate::message::ReadReply;
use crate::refusals::{Refused, Scope};

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, complete.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The unit of its values; its name ends in it.
    pub unit: Unit,
    /// Its labels, without those of the process.
    pub labels: &'static [&'static str],
    /// What it says, in a sentence without a period.
    pub help: &'static str,
}

/// What a metric's values do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// They only grow while a process lives; some go on from those of the process before.
    Counter,
    /// They come and go.
    Gauge,
    /// They are counted by size, up to each of these bounds (ascending, inclusive); their sum is
    /// kept too.
    Histogram(&'static [f64]),
}

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things, as the name says, or nothing.
    None,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Bytes a second.
    BytesPerSecond,
}

impl Unit {
    /// How names end that have this unit, before `_total`.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Seconds => "_seconds",
            Self::Bytes => "_bytes",
            Self::BytesPerSecond => "_bytes_per_second",
        }
    }

    /// The same, as the facade has it, which knows no bytes a second.
    fn of_facade(self) -> Option<metrics::Unit> {
        match self {
            Self::None | Self::BytesPerSecond => None,
            Self::Seconds => Some(metrics::Unit::Seconds),
            Self::Bytes => Some(metrics::Unit::Bytes),
        }
    }
}

impl Kind {
    /// Its name, as Prometheus writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

impl Metric {
    /// One that only grows.
    pub const fn counter(
        name: &'static str,
        unit: Unit,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Counter, unit, labels, help }
    }

    /// One that comes and goes.
    pub const fn gauge(
        name: &'static str,
        unit: Unit,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Gauge, unit, labels, help }
    }

    /// Waits, in seconds, counted by [`WAIT_BUCKETS`].
    pub const fn waits(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Histogram(&WAIT_BUCKETS), unit: Unit::Seconds, labels, help }
    }

    /// Sizes, in bytes, counted by [`SIZE_BUCKETS`].
    pub const fn sizes(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Histogram(&SIZE_BUCKETS), unit: Unit::Bytes, labels, help }
    }

    /// Tells the current recorder what it means.
    pub fn describe(&self) {
        let Self { name, kind, unit, help, .. } = *self;
        match (kind, unit.of_facade()) {
            (Kind::Counter, Some(unit)) => describe_counter!(name, unit, help),
            (Kind::Counter, None) => describe_counter!(name, help),
            (Kind::Gauge, Some(unit)) => describe_gauge!(name, unit, help),
            (Kind::Gauge, None) => describe_gauge!(name, help),
            (Kind::Histogram(_), Some(unit)) => describe_histogram!(name, unit, help),
            (Kind::Histogram(_), None) => describe_histogram!(name, help),
        }
    }
}

/// Bounds of waits, in seconds, two to a decade: from what a clock on one machine takes to what
/// comes after the time of grace.
pub const WAIT_BUCKETS: [f64; 11] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0];

/// Bounds of sizes, in bytes, powers of four: from what fits a packet with others to the largest
/// frames.
pub const SIZE_BUCKETS: [f64; 10] = [
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

const HOLD_SECONDS: &str = "gaia_hold_seconds";
const FLUSH_BYTES: &str = "gaia_flush_bytes";
const REFUSALS: &str = "gaia_refusals_total";

/// All metrics of this crate.
pub static METRICS: [Metric; 3] = [
    Metric::waits(
        HOLD_SECONDS,
        &["shard", "reason"],
        "For how long reads were held that have been answered, each counted once for each reason",
    ),
    Metric::sizes(
        FLUSH_BYTES,
        &["server"],
        "What came from a worker with the deltas of a clock for one shard",
    ),
    Metric::counter(
        REFUSALS,
        Unit::None,
        &["scope", "cause", "by"],
        "Connections that were refused, by us or by the other side",
    ),
];

/// Why reads are held; the names of [`Wait`](crate::message::Wait).
pub const REASONS: [&str; 4] = ["stale", "barrier", "mirror_clock", "fetching"];

/// For how long reads were held, for the task that answers them.
#[derive(Clone, Debug, Default)]
pub struct Holds(BTreeMap<(ShardId, &'static str), Histogram>);

impl Holds {
    /// For the answers of these shards. All reasons are there from the start, so that a rate sees
    /// the first read that is held.
    pub fn new(shards: impl IntoIterator<Item = ShardId>) -> Self {
        let of_shard = |shard: ShardId| {
            REASONS.map(|reason| {
                let waits = histogram!(HOLD_SECONDS, "shard" => shard.0.to_string(), "reason" => reason);
                ((shard, reason), waits)
            })
        };
        Self(shards.into_iter().flat_map(of_shard).collect())
    }

    /// A read has been answered.
    pub fn record(&self, reply: &ReadReply) {
        for (why, time) in &reply.held {
            if let Some(waits) = self.0.get(&(reply.shard, why.name())) {
                waits.record(*time);
            }
        }
    }
}

/// Sizes of the flushes that come to a server.
pub fn flush_bytes(server: u16) -> Histogram {
    histogram!(FLUSH_BYTES, "server" => server.to_string())
}

/// How often connections were refused in this way.
pub fn refusals(scope: Scope, refused: Refused) -> Counter {
    let by = if refused.by_us { "us" } else { "them" };
    counter!(REFUSALS, "scope" => scope.name(), "cause" => refused.cause, "by" => by)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use super::*;
    use crate::message::Wait;
    use crate::refusals::Refusals;
    use crate::{Clock, DatacenterId, WorkerId};

    /// What is recorded while `run` runs, by name and labels.
    fn recorded(run: impl FnOnce()) -> BTreeMap<String, DebugValue> {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        metrics::with_local_recorder(&recorder, run);
        let all = snapshotter.snapshot().into_vec().into_iter();
        all.map(|(key, .., value)| {
            let key = key.key();
            let labels: Vec<_> =
                key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            (format!("{} {}", key.name(), labels.join(" ")), value)
        })
        .collect()
    }

    fn values(values: &[f64]) -> DebugValue {
        DebugValue::Histogram(values.iter().map(|value| (*value).into()).collect())
    }

    #[test]
    fn a_read_is_counted_for_each_reason_that_held_it() {
        let peer = DatacenterId(1);
        let (half, two) = (Duration::from_millis(500), Duration::from_secs(2));
        let reply = ReadReply {
            shard: ShardId(3),
            worker: WorkerId(0),
            clock: Clock(1),
            version: 1,
            blocks: vec![],
            held: vec![(Wait::Stale, half), (Wait::Barrier(peer), two)],
            is_last: true,
        };
        let recorded = recorded(|| {
            let holds = Holds::new([ShardId(3), ShardId(4)]);
            holds.record(&reply);
            holds.record(&ReadReply { held: vec![(Wait::Stale, two)], ..reply.clone() });
        });
        assert_eq!(recorded.len(), 2 * REASONS.len(), "what never occurred is there too");
        assert_eq!(recorded["gaia_hold_seconds shard=3 reason=stale"], values(&[0.5, 2.0]));
        assert_eq!(recorded["gaia_hold_seconds shard=3 reason=barrier"], values(&[2.0]));
        assert_eq!(recorded["gaia_hold_seconds shard=4 reason=stale"], values(&[]));
    }

    #[test]
    fn reasons_have_the_names_of_waits() {
        let peer = DatacenterId(0);
        let waits = [Wait::Stale, Wait::Barrier(peer), Wait::MirrorClock(peer), Wait::Fetching];
        assert_eq!(waits.map(Wait::name), REASONS);
    }

    #[test]
    fn refusals_are_counted_where_they_happen_and_what_a_peer_names_makes_no_series() {
        let recorded = recorded(|| {
            let (lan, wan) = (Refusals::default(), Refusals::new(Scope::Wan));
            for words in ["job", "\"} 1\n", "made up"] {
                lan.count(Refused::by_them(words));
            }
            wan.count(Refused { cause: "expired", by_us: true });
        });
        let series: Vec<_> = recorded.into_iter().collect();
        let counted =
            |labels: &str, count| (format!("gaia_refusals_total {labels}"), DebugValue::Counter(count));
        assert_eq!(
            series,
            [
                counted("scope=lan cause=job by=them", 1),
                counted("scope=lan cause=other by=them", 2),
                counted("scope=wan cause=expired by=us", 1),
            ]
        );
    }

    #[test]
    fn bounds_ascend() {
        for bounds in [&WAIT_BUCKETS[..], &SIZE_BUCKETS] {
            assert!(bounds.is_sorted_by(|one, next| one < next), "{bounds:?}");
        }
    }
}
