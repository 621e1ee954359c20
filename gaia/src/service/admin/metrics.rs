//! The metrics of a process: name, type, unit, labels and meaning of each.
//!
//! There are two kinds. What *is* so, and what counts that go on from a former process have come to
//! ([`STATE`]), is found in a [`Status`] and told anew with each scrape: nothing outlives what it
//! tells of, and it agrees with `/status`. What *happens* ([`EVENTS`], and those of the crates
//! [`datacenter::metrics`] and [`wan::metrics`]) is recorded by the drivers where it happens.
//! [`all`] has both; a test holds docs/OPERATIONS.md against it.
//!
//! Each series also carries `datacenter` and `role` of its process (`server-0`, `worker-2`,
//! `region`).
//!
//! **Invariant:** the number of series is bounded by what is configured: shards, tables, servers,
//! workers, peers. No address, problem or other text of a peer becomes a label; a reason or cause
//! that is not known here is written `other`.
//!
//! Kind: driver.

use datacenter::ShardId;
use datacenter::metrics::{Kind, Metric, Unit};
use datacenter::printable;
use datacenter::refusals::{Refused, Scope};
use metrics::{Counter, Histogram, Label, counter, gauge, histogram};

use super::sources::{
    Sample, build, certificates, filters, holds, info, job, kept, link_figures, links, mirrors, missing,
    phases, scores, servers, shards, single, workers,
};
use crate::service::status::{MirrorPresence, Status};

/// A metric that is told anew with each scrape.
#[derive(Clone, Copy, Debug)]
pub(super) struct StateMetric {
    /// What it is.
    pub(super) metric: Metric,
    /// Where its values are; none where this process has nothing of the kind.
    read: fn(&Status) -> Vec<Sample>,
}

impl StateMetric {
    /// Tells the current recorder what `status` says of it.
    pub(super) fn tell(&self, status: &Status) {
        for sample in (self.read)(status) {
            let values = sample.labels.iter().map(|text| label_value(text));
            let labels: Vec<Label> =
                self.metric.labels.iter().zip(values).map(|(name, value)| Label::new(*name, value)).collect();
            match self.metric.kind {
                // Were it negative or not a number, it would count as nothing.
                Kind::Counter => counter!(self.metric.name, labels).absolute(sample.value as u64),
                Kind::Gauge => gauge!(self.metric.name, labels).set(sample.value),
                Kind::Histogram(_) => debug_assert!(false, "a state has one value"),
            }
        }
    }
}

/// A text from outside, as the value of a label: one line of bounded length.
///
/// The exporter escapes it, but takes two backslashes for one that is escaped already; so they are
/// doubled here, and what is scraped is what was meant.
pub(super) fn label_value(text: &str) -> String {
    printable::line(text).replace('\\', "\\\\")
}

/// All metrics of a process: what is so, and what happens.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    STATE.iter().map(|state| &state.metric).chain(events())
}

/// What happens, in all crates.
pub(super) fn events() -> impl Iterator<Item = &'static Metric> {
    datacenter::metrics::METRICS.iter().chain(&wan::metrics::METRICS).chain(&EVENTS)
}

const SHARD: &[&str] = &["shard"];
const TABLE: &[&str] = &["table"];
const MIRROR: &[&str] = &["shard", "peer"];
const HOLD: &[&str] = &["shard", "reason"];
const SERVER: &[&str] = &["server"];
const LINK: &[&str] = &["server", "peer", "peer_server"];
const WORKER: &[&str] = &["worker"];

const COMPUTE_SECONDS: &str = "gaia_worker_compute_seconds";
const WAIT_SECONDS: &str = "gaia_worker_wait_seconds";
const PROCESSED_EXAMPLES: &str = "gaia_worker_processed_examples_total";
const FAILED_STEPS: &str = "gaia_worker_failed_steps_total";
const SUSPENSIONS: &str = "gaia_worker_suspensions_total";
const CHECKPOINT_WRITE_SECONDS: &str = "gaia_checkpoint_write_seconds";
const CHECKPOINT_FAILURES: &str = "gaia_checkpoint_failures_total";

/// What happens in this crate.
pub(super) static EVENTS: [Metric; 7] = [
    Metric::waits(CHECKPOINT_WRITE_SECONDS, SHARD, "How long checkpoints took to be written"),
    Metric::counter(CHECKPOINT_FAILURES, Unit::None, SHARD, "Checkpoints that could not be written"),
    Metric::counter(
        SUSPENSIONS,
        Unit::None,
        SERVER,
        "How often the others went on without a worker that was gone",
    ),
    Metric::counter(PROCESSED_EXAMPLES, Unit::None, WORKER, "Examples that the worker has processed"),
    Metric::waits(COMPUTE_SECONDS, WORKER, "How long the worker computed, each time until it waited"),
    Metric::waits(WAIT_SECONDS, WORKER, "How long the worker waited for rows, each time"),
    Metric::counter(FAILED_STEPS, Unit::None, WORKER, "Steps of the model that failed on the worker"),
];

/// What happens to a worker.
#[derive(Clone, Debug)]
pub(in crate::service) struct WorkerMetrics {
    pub(in crate::service) compute_seconds: Histogram,
    pub(in crate::service) wait_seconds: Histogram,
    pub(in crate::service) processed_examples: Counter,
    pub(in crate::service) failed_steps: Counter,
}

impl WorkerMetrics {
    /// Of this worker; they are there from now on.
    pub(in crate::service) fn new(worker: u32) -> Self {
        let labels = [("worker", worker.to_string())];
        Self {
            compute_seconds: histogram!(COMPUTE_SECONDS, &labels),
            wait_seconds: histogram!(WAIT_SECONDS, &labels),
            processed_examples: counter!(PROCESSED_EXAMPLES, &labels),
            failed_steps: counter!(FAILED_STEPS, &labels),
        }
    }
}

/// What happens to the checkpoints of a shard.
#[derive(Clone, Debug)]
pub(in crate::service) struct CheckpointMetrics {
    pub(in crate::service) write_seconds: Histogram,
    pub(in crate::service) failures: Counter,
}

impl CheckpointMetrics {
    /// Of this shard; they are there from now on.
    pub(in crate::service) fn new(shard: ShardId) -> Self {
        let labels = [("shard", shard.0.to_string())];
        Self {
            write_seconds: histogram!(CHECKPOINT_WRITE_SECONDS, &labels),
            failures: counter!(CHECKPOINT_FAILURES, &labels),
        }
    }
}

/// How often the others went on without a worker of this server.
pub(in crate::service) fn suspensions(server: u16) -> Counter {
    counter!(SUSPENSIONS, "server" => server.to_string())
}

/// Why connections are refused.
pub(super) const CAUSES: [&str; 17] = [
    "unknown_authority",
    "expired",
    "not_yet_valid",
    "revoked",
    "name",
    "role",
    "no_certificate",
    "plaintext",
    "version",
    "job",
    "unknown_datacenter",
    "own_name",
    "unknown_worker",
    "replaced",
    "left",
    "request",
    "protocol",
];

/// Begins to count every known kind of refusal: an alert on the first one needs the zero before it.
pub(super) fn begin_refusals() {
    for scope in [Scope::Lan, Scope::Wan] {
        for cause in CAUSES {
            for by_us in [true, false] {
                datacenter::metrics::refusals(scope, Refused { cause, by_us }).absolute(0);
            }
        }
    }
}

/// What is so, in the order in which docs/OPERATIONS.md explains it.
pub(super) static STATE: &[StateMetric] = &[
    // The process.
    state_gauge("gaia_build_info", Unit::None, &["version"], "Always 1; the version is its label", build),
    state_gauge(
        "gaia_job_info",
        Unit::None,
        &["name", "digest", "strategy"],
        "Always 1; the job's name, the digest of its settings and what crosses the WAN are its labels",
        info,
    ),
    state_gauge("gaia_job_clocks", Unit::None, &[], "Clocks that every worker of the job runs", |status| {
        job(status, |job| job.clocks.into())
    }),
    state_gauge(
        "gaia_phase",
        Unit::None,
        &["phase"],
        "1 for the phase that the process is in, 0 for others",
        phases,
    ),
    state_gauge(
        "gaia_waiting_for",
        Unit::None,
        &[],
        "Things that the process waits for; /status names them",
        |status| single(status.waiting_for.len() as f64),
    ),
    state_gauge("gaia_uptime_seconds", Unit::Seconds, &[], "Since the process started", |status| {
        single(status.uptime_seconds)
    }),
    // Shards and their mirrors.
    state_gauge(
        "gaia_shard_clock",
        Unit::None,
        SHARD,
        "Clocks that all workers of the region have completed",
        |status| shards(status, |shard| Some(shard.clock.into())),
    ),
    state_gauge(
        "gaia_mirror_clock",
        Unit::None,
        MIRROR,
        "The last clock of the shard's mirror in a peer whose data has all arrived",
        |status| mirrors(status, |mirror| Some(mirror.clock.into())),
    ),
    state_gauge(
        "gaia_mirror_lead",
        Unit::None,
        MIRROR,
        "Clocks by which the shard leads its mirror in a peer",
        |status| mirrors(status, |mirror| Some(mirror.lead.into())),
    ),
    state_gauge(
        "gaia_mirror_lead_limit",
        Unit::None,
        MIRROR,
        "Clocks by which the shard may lead; absent where that is not bounded or not known yet",
        |status| mirrors(status, |mirror| mirror.lead_limit.map(f64::from)),
    ),
    state_gauge(
        "gaia_mirror_idle",
        Unit::None,
        MIRROR,
        "1 where the mirror has no workers, so that nobody waits for it",
        |status| mirrors(status, |mirror| Some(f64::from(u8::from(mirror.idle)))),
    ),
    state_gauge(
        "gaia_mirror_gone",
        Unit::None,
        MIRROR,
        "1 where the mirror has been silent for longer than the grace time, so that nobody waits for it",
        |status| mirrors(status, |mirror| Some(f64::from(u8::from(mirror.presence == MirrorPresence::Gone)))),
    ),
    state_gauge(
        "gaia_mirror_behind",
        Unit::None,
        MIRROR,
        "1 where the mirror is back and has yet to catch up, so that nobody waits for it until it has",
        |status| {
            mirrors(status, |mirror| Some(f64::from(u8::from(mirror.presence == MirrorPresence::Behind))))
        },
    ),
    state_gauge(
        "gaia_mirror_left",
        Unit::None,
        MIRROR,
        "1 where the mirror's region has left the job for good",
        |status| mirrors(status, |mirror| Some(f64::from(u8::from(mirror.presence == MirrorPresence::Left)))),
    ),
    state_gauge(
        "gaia_mirror_silent_seconds",
        Unit::Seconds,
        MIRROR,
        "For how long nothing has been heard from the mirror's server",
        |status| mirrors(status, |mirror| Some(mirror.silent_seconds)),
    ),
    state_gauge("gaia_holds", Unit::None, HOLD, "Reads that are held now", |status| {
        holds(status, |holds| holds.len() as f64)
    }),
    state_gauge(
        "gaia_hold_longest_seconds",
        Unit::Seconds,
        HOLD,
        "For how long the longest read that is held now has been held",
        |status| holds(status, |holds| holds.iter().map(|hold| hold.seconds).fold(0.0, f64::max)),
    ),
    state_counter(
        "gaia_updated_elements_total",
        Unit::None,
        SHARD,
        "Elements that local updates have touched, counted once a clock",
        |status| shards(status, |shard| Some(shard.updated_elements as f64)),
    ),
    state_counter(
        "gaia_shipped_elements_total",
        Unit::None,
        SHARD,
        "Updated elements that were significant, and shipped",
        |status| shards(status, |shard| Some(shard.shipped_elements as f64)),
    ),
    state_gauge(
        "gaia_release_every",
        Unit::None,
        SHARD,
        "Clocks from one release of the shard to the next",
        |status| shards(status, |shard| shard.release_every.map(f64::from)),
    ),
    state_gauge(
        "gaia_filter_significance_threshold",
        Unit::None,
        TABLE,
        "What the significance of an update has to exceed to be shipped, in units of its function",
        |status| filters(status, |filter| filter.significance_threshold),
    ),
    state_gauge(
        "gaia_filter_raised",
        Unit::None,
        TABLE,
        "By what a budget has raised that, 1 where it is not in the way; absent without a budget",
        |status| filters(status, |filter| filter.raised),
    ),
    state_gauge(
        "gaia_filter_threshold",
        Unit::None,
        TABLE,
        "The magnitude that an accumulated update has to exceed; absent where each element has its own",
        |status| filters(status, |filter| filter.threshold),
    ),
    state_gauge(
        "gaia_filter_usual_update",
        Unit::None,
        TABLE,
        "By how much a clock usually updates an element; absent where that is not measured",
        |status| filters(status, |filter| filter.usual_update),
    ),
    state_gauge(
        "gaia_filter_step",
        Unit::None,
        TABLE,
        "Of what shipped values are multiples; absent where they are not rounded",
        |status| filters(status, |filter| filter.step),
    ),
    state_gauge(
        "gaia_filter_gain",
        Unit::None,
        TABLE,
        "How many times what is unanswered reads add; absent where they do not anticipate",
        |status| filters(status, |filter| filter.gain),
    ),
    state_gauge(
        "gaia_filter_likeness",
        Unit::None,
        TABLE,
        "How alike the updates of each other region are: near 1 where it does the same, negative where it undoes it",
        |status| filters(status, |filter| filter.likeness),
    ),
    state_gauge(
        "gaia_checkpoint_clock",
        Unit::None,
        SHARD,
        "The clock of the newest checkpoint of the shard that is safely there",
        |status| kept(status, |kept| Some(kept.clock.into())),
    ),
    state_gauge(
        "gaia_checkpoint_age_seconds",
        Unit::Seconds,
        SHARD,
        "Since that checkpoint has been there",
        |status| kept(status, |kept| Some(kept.age_seconds)),
    ),
    state_gauge("gaia_checkpoint_bytes", Unit::Bytes, SHARD, "How large that checkpoint is", |status| {
        kept(status, |kept| Some(kept.bytes as f64))
    }),
    // Servers and their links.
    state_gauge(
        "gaia_workers_connected",
        Unit::None,
        SERVER,
        "Workers that train on the server's shards",
        |status| servers(status, |server| server.workers.len() as f64),
    ),
    state_gauge(
        "gaia_workers_missing",
        Unit::None,
        &["server", "state"],
        "Workers that should train on the server's shards and are not connected",
        missing,
    ),
    state_counter(
        "gaia_wan_sent_bytes_total",
        Unit::Bytes,
        SERVER,
        "All that the WAN socket sent",
        |status| servers(status, |server| server.wan_sent_bytes as f64),
    ),
    state_counter(
        "gaia_wan_received_bytes_total",
        Unit::Bytes,
        SERVER,
        "All that the WAN socket received",
        |status| servers(status, |server| server.wan_received_bytes as f64),
    ),
    state_gauge("gaia_link_up", Unit::None, LINK, "1 while the link is up, 0 otherwise", |status| {
        links(status, |link| Some(f64::from(u8::from(link.up))))
    }),
    state_gauge(
        "gaia_link_state_age_seconds",
        Unit::Seconds,
        LINK,
        "Since the link came up or went down",
        |status| links(status, |link| Some(link.since_seconds)),
    ),
    state_gauge("gaia_link_round_trip_seconds", Unit::Seconds, LINK, "There and back", |status| {
        links(status, |link| link.round_trip_seconds)
    }),
    state_gauge(
        "gaia_link_rate_bytes_per_second",
        Unit::BytesPerSecond,
        LINK,
        "Payload that the link has been seen to carry, or what the settings say",
        |status| links(status, |link| link.rate_bytes_per_sec),
    ),
    state_gauge(
        "gaia_link_budget_bytes_per_second",
        Unit::BytesPerSecond,
        LINK,
        "What the budget allowed to send in the last ten seconds, on the wire; absent without a budget",
        |status| links(status, |link| link.budget_bytes_per_sec),
    ),
    state_gauge(
        "gaia_link_budget_used",
        Unit::None,
        LINK,
        "Which share of that was sent; absent without a budget",
        |status| links(status, |link| link.budget_used),
    ),
    state_gauge("gaia_link_backlog_bytes", Unit::Bytes, LINK, "Payload that waits to be sent", |status| {
        link_figures(status, |link| link.backlog_bytes)
    }),
    state_gauge(
        "gaia_link_backlog_seconds",
        Unit::Seconds,
        LINK,
        "How long the link needs for its backlog",
        |status| links(status, |link| Some(link.backlog_seconds)),
    ),
    state_gauge("gaia_link_in_flight_bytes", Unit::Bytes, LINK, "Payload sent and not confirmed", |status| {
        link_figures(status, |link| link.in_flight_bytes)
    }),
    state_counter("gaia_link_sent_bytes_total", Unit::Bytes, LINK, "Bytes sent, on the wire", |status| {
        link_figures(status, |link| link.sent_bytes)
    }),
    state_counter(
        "gaia_link_received_bytes_total",
        Unit::Bytes,
        LINK,
        "Bytes received, on the wire",
        |status| link_figures(status, |link| link.received_bytes),
    ),
    state_counter(
        "gaia_link_sent_payload_bytes_total",
        Unit::Bytes,
        LINK,
        "Of the bytes sent, payload of updates, each counted once",
        |status| link_figures(status, |link| link.sent_payload_bytes),
    ),
    state_counter(
        "gaia_link_repeated_bytes_total",
        Unit::Bytes,
        LINK,
        "Of the bytes sent, those that were sent again",
        |status| link_figures(status, |link| link.repeated_bytes),
    ),
    state_counter(
        "gaia_link_naive_bytes_total",
        Unit::Bytes,
        LINK,
        "What shipping every update would have sent, on the wire, as long as the region was there",
        |status| link_figures(status, |link| link.naive_bytes),
    ),
    state_counter(
        "gaia_link_announced_rows_total",
        Unit::None,
        LINK,
        "Rows announced by selective barriers",
        |status| link_figures(status, |link| link.announced_rows),
    ),
    // Workers.
    state_gauge("gaia_worker_clock", Unit::None, WORKER, "Clocks that the worker has completed", |status| {
        workers(status, |worker| worker.clock.into())
    }),
    state_gauge("gaia_worker_examples", Unit::None, WORKER, "Examples that the worker trains on", |status| {
        workers(status, |worker| worker.examples as f64)
    }),
    state_gauge(
        "gaia_model_objective",
        Unit::None,
        WORKER,
        "The training objective of the region's copy of the model, on the region's data",
        |status| scores(status, |score| (vec![], score.objective)),
    ),
    state_gauge(
        "gaia_model_metric",
        Unit::None,
        &["worker", "metric"],
        "The metric of the region's copy of the model; its name is a label",
        |status| scores(status, |score| (vec![score.metric.clone()], score.value)),
    ),
    state_gauge(
        "gaia_model_score_clock",
        Unit::None,
        WORKER,
        "The clock at which objective and metric were computed",
        |status| scores(status, |score| (vec![], score.clock.into())),
    ),
    // Trust.
    state_gauge(
        "gaia_certificate_expiry_seconds",
        Unit::Seconds,
        &["certificate"],
        "Until the first certificate of a name expires, negative after that; divide by 86400 for days",
        certificates,
    ),
];

const fn state_gauge(
    name: &'static str,
    unit: Unit,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Status) -> Vec<Sample>,
) -> StateMetric {
    StateMetric { metric: Metric::gauge(name, unit, labels, help), read }
}

const fn state_counter(
    name: &'static str,
    unit: Unit,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Status) -> Vec<Sample>,
) -> StateMetric {
    StateMetric { metric: Metric::counter(name, unit, labels, help), read }
}
