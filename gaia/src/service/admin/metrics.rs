//! Every metric: its name, type, unit, labels and meaning, and where in a [`Status`] it is found.
//!
//! Kind: time-free. [`METRICS`] is the only place that knows a metric. The exporter describes and
//! fills what is there, and a test holds docs/OPERATIONS.md against it.
//!
//! Names follow Prometheus: a prefix, base units last, `_total` for what only grows. Each series
//! also carries `datacenter` and `role` of its process (`server-0`, `worker-2`, `region`).
//!
//! **Invariant:** the number of series is bounded by what is configured: shards, tables, servers,
//! workers, peers. No address, problem or other text of a peer becomes a label; a reason or cause
//! that is not known here is written `other`.

use super::sources::{
    Sample, build, certificates, checkpoints, filters, holds, info, job, kept, link_figures, links, mirrors,
    missing, phases, refusals, scores, servers, shards, single, workers,
};
use crate::service::status::{MirrorPresence, Status};

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
    /// Where its values are; none where this process has nothing of the kind.
    pub(super) read: fn(&Status) -> Vec<Sample>,
}

/// What a metric's values do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They only grow while a process lives; some go on from those of the process before.
    Counter,
    /// They come and go.
    Gauge,
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
}

impl Kind {
    /// Its name, as Prometheus writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

const SHARD: &[&str] = &["shard"];
const TABLE: &[&str] = &["table"];
const MIRROR: &[&str] = &["shard", "peer"];
const HOLD: &[&str] = &["shard", "reason"];
const SERVER: &[&str] = &["server"];
const LINK: &[&str] = &["server", "peer", "peer_server"];
const WORKER: &[&str] = &["worker"];

/// All metrics, in the order in which docs/OPERATIONS.md explains them.
pub static METRICS: &[Metric] = &[
    // The process.
    gauge("gaia_build_info", Unit::None, &["version"], "Always 1; the version is its label", build),
    gauge(
        "gaia_job_info",
        Unit::None,
        &["name", "digest", "strategy"],
        "Always 1; the job's name, the digest of its settings and what crosses the WAN are its labels",
        info,
    ),
    gauge("gaia_job_clocks", Unit::None, &[], "Clocks that every worker of the job runs", |status| {
        job(status, |job| job.clocks.into())
    }),
    gauge(
        "gaia_phase",
        Unit::None,
        &["phase"],
        "1 for the phase that the process is in, 0 for others",
        phases,
    ),
    gauge(
        "gaia_waiting_for",
        Unit::None,
        &[],
        "Things that the process waits for; /status names them",
        |status| single(status.waiting_for.len() as f64),
    ),
    gauge("gaia_uptime_seconds", Unit::Seconds, &[], "Since the process started", |status| {
        single(status.uptime_seconds)
    }),
    // Shards and their mirrors.
    gauge(
        "gaia_shard_clock",
        Unit::None,
        SHARD,
        "Clocks that all workers of the region have completed",
        |status| shards(status, |shard| Some(shard.clock.into())),
    ),
    gauge(
        "gaia_mirror_clock",
        Unit::None,
        MIRROR,
        "The last clock of the shard's mirror in a peer whose data has all arrived",
        |status| mirrors(status, |mirror| Some(mirror.clock.into())),
    ),
    gauge(
        "gaia_mirror_lead",
        Unit::None,
        MIRROR,
        "Clocks by which the shard leads its mirror in a peer",
        |status| mirrors(status, |mirror| Some(mirror.lead.into())),
    ),
    gauge(
        "gaia_mirror_lead_limit",
        Unit::None,
        MIRROR,
        "Clocks by which the shard may lead; absent where that is not bounded or not known yet",
        |status| mirrors(status, |mirror| mirror.lead_limit.map(f64::from)),
    ),
    gauge(
        "gaia_mirror_idle",
        Unit::None,
        MIRROR,
        "1 where the mirror has no workers, so that nobody waits for it",
        |status| mirrors(status, |mirror| Some(f64::from(u8::from(mirror.idle)))),
    ),
    gauge(
        "gaia_mirror_gone",
        Unit::None,
        MIRROR,
        "1 where the mirror has been silent for longer than the grace time, so that nobody waits for it",
        |status| mirrors(status, |mirror| Some(f64::from(u8::from(mirror.presence == MirrorPresence::Gone)))),
    ),
    gauge(
        "gaia_mirror_behind",
        Unit::None,
        MIRROR,
        "1 where the mirror is back and has yet to catch up, so that nobody waits for it until it has",
        |status| {
            mirrors(status, |mirror| Some(f64::from(u8::from(mirror.presence == MirrorPresence::Behind))))
        },
    ),
    gauge(
        "gaia_mirror_left",
        Unit::None,
        MIRROR,
        "1 where the mirror's region has left the job for good",
        |status| mirrors(status, |mirror| Some(f64::from(u8::from(mirror.presence == MirrorPresence::Left)))),
    ),
    gauge(
        "gaia_mirror_silent_seconds",
        Unit::Seconds,
        MIRROR,
        "For how long nothing has been heard from the mirror's server",
        |status| mirrors(status, |mirror| Some(mirror.silent_seconds)),
    ),
    gauge("gaia_holds", Unit::None, HOLD, "Reads that are held now", |status| {
        holds(status, |holds, _| holds.len() as f64)
    }),
    gauge(
        "gaia_hold_longest_seconds",
        Unit::Seconds,
        HOLD,
        "For how long the longest read that is held now has been held",
        |status| holds(status, |holds, _| holds.iter().map(|hold| hold.seconds).fold(0.0, f64::max)),
    ),
    counter(
        "gaia_hold_seconds_total",
        Unit::Seconds,
        HOLD,
        "For how long reads have been held, those of all workers added up",
        |status| holds(status, |_, total| total),
    ),
    counter(
        "gaia_updated_elements_total",
        Unit::None,
        SHARD,
        "Elements that local updates have touched, counted once a clock",
        |status| shards(status, |shard| Some(shard.updated_elements as f64)),
    ),
    counter(
        "gaia_shipped_elements_total",
        Unit::None,
        SHARD,
        "Updated elements that were significant, and shipped",
        |status| shards(status, |shard| Some(shard.shipped_elements as f64)),
    ),
    gauge(
        "gaia_release_every",
        Unit::None,
        SHARD,
        "Clocks from one release of the shard to the next",
        |status| shards(status, |shard| shard.release_every.map(f64::from)),
    ),
    gauge(
        "gaia_filter_significance_threshold",
        Unit::None,
        TABLE,
        "What the significance of an update has to exceed to be shipped, in units of its function",
        |status| filters(status, |filter| filter.significance_threshold),
    ),
    gauge(
        "gaia_filter_raised",
        Unit::None,
        TABLE,
        "By what a budget has raised that, 1 where it is not in the way; absent without a budget",
        |status| filters(status, |filter| filter.raised),
    ),
    gauge(
        "gaia_filter_threshold",
        Unit::None,
        TABLE,
        "The magnitude that an accumulated update has to exceed; absent where each element has its own",
        |status| filters(status, |filter| filter.threshold),
    ),
    gauge(
        "gaia_filter_usual_update",
        Unit::None,
        TABLE,
        "By how much a clock usually updates an element; absent where that is not measured",
        |status| filters(status, |filter| filter.usual_update),
    ),
    gauge(
        "gaia_filter_step",
        Unit::None,
        TABLE,
        "Of what shipped values are multiples; absent where they are not rounded",
        |status| filters(status, |filter| filter.step),
    ),
    gauge(
        "gaia_filter_gain",
        Unit::None,
        TABLE,
        "How many times what is unanswered reads add; absent where they do not anticipate",
        |status| filters(status, |filter| filter.gain),
    ),
    gauge(
        "gaia_filter_likeness",
        Unit::None,
        TABLE,
        "How alike the updates of each other region are: near 1 where it does the same, negative where it undoes it",
        |status| filters(status, |filter| filter.likeness),
    ),
    gauge(
        "gaia_checkpoint_clock",
        Unit::None,
        SHARD,
        "The clock of the newest checkpoint of the shard that is safely there",
        |status| kept(status, |kept| Some(kept.clock.into())),
    ),
    gauge(
        "gaia_checkpoint_age_seconds",
        Unit::Seconds,
        SHARD,
        "Since that checkpoint has been there",
        |status| kept(status, |kept| Some(kept.age_seconds)),
    ),
    gauge("gaia_checkpoint_bytes", Unit::Bytes, SHARD, "How large that checkpoint is", |status| {
        kept(status, |kept| Some(kept.bytes as f64))
    }),
    gauge(
        "gaia_checkpoint_write_seconds",
        Unit::Seconds,
        SHARD,
        "How long that checkpoint took to be written; absent for one of a former process",
        |status| kept(status, |kept| kept.write_seconds),
    ),
    counter(
        "gaia_checkpoint_failures_total",
        Unit::None,
        SHARD,
        "Checkpoints that could not be written",
        |status| checkpoints(status, |checkpoint| Some(checkpoint.failures as f64)),
    ),
    // Servers and their links.
    gauge(
        "gaia_workers_connected",
        Unit::None,
        SERVER,
        "Workers that train on the server's shards",
        |status| servers(status, |server| server.workers.len() as f64),
    ),
    gauge(
        "gaia_workers_missing",
        Unit::None,
        &["server", "state"],
        "Workers that should train on the server's shards and are not connected",
        missing,
    ),
    counter(
        "gaia_worker_suspensions_total",
        Unit::None,
        SERVER,
        "How often the others went on without a worker that was gone",
        |status| servers(status, |server| server.suspensions as f64),
    ),
    counter("gaia_wan_sent_bytes_total", Unit::Bytes, SERVER, "All that the WAN socket sent", |status| {
        servers(status, |server| server.wan_sent_bytes as f64)
    }),
    counter(
        "gaia_wan_received_bytes_total",
        Unit::Bytes,
        SERVER,
        "All that the WAN socket received",
        |status| servers(status, |server| server.wan_received_bytes as f64),
    ),
    gauge("gaia_link_up", Unit::None, LINK, "1 while the link is up, 0 otherwise", |status| {
        links(status, |link| Some(f64::from(u8::from(link.up))))
    }),
    gauge(
        "gaia_link_state_age_seconds",
        Unit::Seconds,
        LINK,
        "Since the link came up or went down",
        |status| links(status, |link| Some(link.since_seconds)),
    ),
    counter("gaia_link_connects_total", Unit::None, LINK, "How often the link has come up", |status| {
        link_figures(status, |link| link.connects)
    }),
    gauge("gaia_link_round_trip_seconds", Unit::Seconds, LINK, "There and back", |status| {
        links(status, |link| link.round_trip_seconds)
    }),
    gauge(
        "gaia_link_rate_bytes_per_second",
        Unit::BytesPerSecond,
        LINK,
        "Payload that the link has been seen to carry, or what the settings say",
        |status| links(status, |link| link.rate_bytes_per_sec),
    ),
    gauge(
        "gaia_link_budget_bytes_per_second",
        Unit::BytesPerSecond,
        LINK,
        "What the budget allowed to send in the last ten seconds, on the wire; absent without a budget",
        |status| links(status, |link| link.budget_bytes_per_sec),
    ),
    gauge(
        "gaia_link_budget_used",
        Unit::None,
        LINK,
        "Which share of that was sent; absent without a budget",
        |status| links(status, |link| link.budget_used),
    ),
    gauge("gaia_link_backlog_bytes", Unit::Bytes, LINK, "Payload that waits to be sent", |status| {
        link_figures(status, |link| link.backlog_bytes)
    }),
    gauge(
        "gaia_link_backlog_seconds",
        Unit::Seconds,
        LINK,
        "How long the link needs for its backlog",
        |status| links(status, |link| Some(link.backlog_seconds)),
    ),
    gauge("gaia_link_in_flight_bytes", Unit::Bytes, LINK, "Payload sent and not confirmed", |status| {
        link_figures(status, |link| link.in_flight_bytes)
    }),
    counter("gaia_link_sent_bytes_total", Unit::Bytes, LINK, "Bytes sent, on the wire", |status| {
        link_figures(status, |link| link.sent_bytes)
    }),
    counter("gaia_link_received_bytes_total", Unit::Bytes, LINK, "Bytes received, on the wire", |status| {
        link_figures(status, |link| link.received_bytes)
    }),
    counter(
        "gaia_link_sent_payload_bytes_total",
        Unit::Bytes,
        LINK,
        "Of the bytes sent, payload of updates, each counted once",
        |status| link_figures(status, |link| link.sent_payload_bytes),
    ),
    counter(
        "gaia_link_repeated_bytes_total",
        Unit::Bytes,
        LINK,
        "Of the bytes sent, those that were sent again",
        |status| link_figures(status, |link| link.repeated_bytes),
    ),
    counter(
        "gaia_link_naive_bytes_total",
        Unit::Bytes,
        LINK,
        "What shipping every update would have sent, on the wire, as long as the region was there",
        |status| link_figures(status, |link| link.naive_bytes),
    ),
    counter(
        "gaia_link_announced_rows_total",
        Unit::None,
        LINK,
        "Rows announced by selective barriers",
        |status| link_figures(status, |link| link.announced_rows),
    ),
    // Workers.
    gauge("gaia_worker_clock", Unit::None, WORKER, "Clocks that the worker has completed", |status| {
        workers(status, |worker| worker.clock.into())
    }),
    gauge("gaia_worker_examples", Unit::None, WORKER, "Examples that the worker trains on", |status| {
        workers(status, |worker| worker.examples as f64)
    }),
    counter(
        "gaia_worker_processed_examples_total",
        Unit::None,
        WORKER,
        "Examples that the worker has processed",
        |status| workers(status, |worker| worker.processed_examples as f64),
    ),
    counter(
        "gaia_worker_compute_seconds_total",
        Unit::Seconds,
        WORKER,
        "Of the worker's time, what went into computing",
        |status| workers(status, |worker| worker.compute_seconds),
    ),
    counter(
        "gaia_worker_wait_seconds_total",
        Unit::Seconds,
        WORKER,
        "Of the worker's time, what went into waiting for rows",
        |status| workers(status, |worker| worker.wait_seconds),
    ),
    counter(
        "gaia_worker_failed_steps_total",
        Unit::None,
        WORKER,
        "Steps of the model that failed on the worker",
        |status| workers(status, |worker| worker.failed_steps as f64),
    ),
    gauge(
        "gaia_model_objective",
        Unit::None,
        WORKER,
        "The training objective of the region's copy of the model, on the region's data",
        |status| scores(status, |score| (vec![], score.objective)),
    ),
    gauge(
        "gaia_model_metric",
        Unit::None,
        &["worker", "metric"],
        "The metric of the region's copy of the model; its name is a label",
        |status| scores(status, |score| (vec![score.metric.clone()], score.value)),
    ),
    gauge(
        "gaia_model_score_clock",
        Unit::None,
        WORKER,
        "The clock at which objective and metric were computed",
        |status| scores(status, |score| (vec![], score.clock.into())),
    ),
    // Trust.
    gauge(
        "gaia_certificate_expiry_seconds",
        Unit::Seconds,
        &["certificate"],
        "Until the first certificate of a name expires, negative after that; divide by 86400 for days",
        certificates,
    ),
    counter(
        "gaia_refusals_total",
        Unit::None,
        &["scope", "cause", "by"],
        "Connections that were refused, by us or by the other side",
        refusals,
    ),
];

const fn gauge(
    name: &'static str,
    unit: Unit,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Status) -> Vec<Sample>,
) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, labels, help, read }
}

const fn counter(
    name: &'static str,
    unit: Unit,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Status) -> Vec<Sample>,
) -> Metric {
    Metric { name, kind: Kind::Counter, unit, labels, help, read }
}
