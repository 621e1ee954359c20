//! Where in a [`Status`] the values of metrics are.
//!
//! Kind: time-free. Each function here walks one kind of thing, and makes the labels that go with
//! it.

use std::collections::BTreeMap;

use datacenter::metrics::REASONS;

use crate::filters::FilterStatus;
use crate::filters::by_table;
use crate::service::status::{
    Absence, HoldStatus, JobStatus, KeptStatus, LinkStatus, MirrorStatus, Phase, ScoreStatus, ServerStatus,
    ShardStatus, Status, WorkerStatus,
};

/// One series' value now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    /// The values of the metric's labels, in its order.
    pub(super) labels: Vec<String>,
    pub(super) value: f64,
}

impl Sample {
    fn new<const N: usize>(labels: [String; N], value: f64) -> Self {
        Self { labels: labels.into(), value }
    }
}

/// Stands for whatever is not known here, so that no peer can make series.
pub(super) const OTHER: &str = "other";

pub(super) fn single(value: f64) -> Vec<Sample> {
    vec![Sample::new([], value)]
}

pub(super) fn build(status: &Status) -> Vec<Sample> {
    vec![Sample::new([status.version.clone()], 1.0)]
}

pub(super) fn info(status: &Status) -> Vec<Sample> {
    let JobStatus { name, digest, strategy, .. } = &status.job;
    if name.is_empty() {
        return vec![];
    }
    vec![Sample::new([name.clone(), digest.clone(), strategy.clone()], 1.0)]
}

/// Of the job, once it has been read.
pub(super) fn job(status: &Status, value: impl Fn(&JobStatus) -> f64) -> Vec<Sample> {
    if status.job.name.is_empty() { vec![] } else { single(value(&status.job)) }
}

pub(super) fn phases(status: &Status) -> Vec<Sample> {
    let sample =
        |phase: Phase| Sample::new([phase.name().to_owned()], f64::from(u8::from(phase == status.phase)));
    Phase::ALL.map(sample).into()
}

pub(super) fn servers(status: &Status, value: impl Fn(&ServerStatus) -> f64) -> Vec<Sample> {
    status.servers.iter().map(|server| Sample::new([server.index.to_string()], value(server))).collect()
}

/// By server and by what it makes of them.
pub(super) fn missing(status: &Status) -> Vec<Sample> {
    const STATES: [(Absence, &str); 2] = [(Absence::Suspected, "suspected"), (Absence::Gone, "gone")];
    let of_server = |server: &ServerStatus| {
        STATES.map(|(state, name)| {
            let count = server.missing_workers.iter().filter(|missing| missing.state == state).count();
            Sample::new([server.index.to_string(), name.to_owned()], count as f64)
        })
    };
    status.servers.iter().flat_map(of_server).collect()
}

pub(super) fn shards(status: &Status, value: impl Fn(&ShardStatus) -> Option<f64>) -> Vec<Sample> {
    let shards = status.servers.iter().flat_map(|server| &server.shards);
    shards.filter_map(|shard| Some(Sample::new([shard.shard.to_string()], value(shard)?))).collect()
}

/// By table, over all shards of the process: there may be many of both.
pub(super) fn filters(status: &Status, value: impl Fn(&FilterStatus) -> Option<f64>) -> Vec<Sample> {
    let shards = status.servers.iter().flat_map(|server| &server.shards);
    let tables = by_table(shards.flat_map(|shard| &shard.filters));
    tables.iter().filter_map(|filter| Some(Sample::new([filter.table.clone()], value(filter)?))).collect()
}

/// Of shards of which there is a checkpoint that is safely there.
pub(super) fn kept(status: &Status, value: impl Fn(&KeptStatus) -> Option<f64>) -> Vec<Sample> {
    shards(status, |shard| shard.checkpoint.as_ref()?.kept.as_ref().and_then(&value))
}

pub(super) fn mirrors(status: &Status, value: impl Fn(&MirrorStatus) -> Option<f64>) -> Vec<Sample> {
    let mut samples = Vec::new();
    for shard in status.servers.iter().flat_map(|server| &server.shards) {
        samples.extend(shard.mirrors.iter().filter_map(|mirror| {
            let labels = [shard.shard.to_string(), mirror.datacenter.clone()];
            Some(Sample::new(labels, value(mirror)?))
        }));
    }
    samples
}

/// For each shard and reason, from the reads that are held for it now; also where there are none.
pub(super) fn holds(status: &Status, value: impl Fn(&[&HoldStatus]) -> f64) -> Vec<Sample> {
    let mut samples = Vec::new();
    for shard in status.servers.iter().flat_map(|server| &server.shards) {
        for reason in REASONS.into_iter().chain([OTHER]) {
            let is_it = |hold: &&HoldStatus| known(&REASONS, &hold.reason) == reason;
            let now: Vec<_> = shard.holds.iter().filter(is_it).collect();
            if reason != OTHER || !now.is_empty() {
                samples.push(Sample::new([shard.shard.to_string(), reason.to_owned()], value(&now)));
            }
        }
    }
    samples
}

pub(super) fn links(status: &Status, value: impl Fn(&LinkStatus) -> Option<f64>) -> Vec<Sample> {
    let mut samples = Vec::new();
    for server in &status.servers {
        samples.extend(server.links.iter().filter_map(|link| {
            let labels = [server.index.to_string(), link.datacenter.clone(), link.server.to_string()];
            Some(Sample::new(labels, value(link)?))
        }));
    }
    samples
}

pub(super) fn link_figures(status: &Status, value: impl Fn(&LinkStatus) -> u64) -> Vec<Sample> {
    links(status, |link| Some(value(link) as f64))
}

pub(super) fn workers(status: &Status, value: impl Fn(&WorkerStatus) -> f64) -> Vec<Sample> {
    status.workers.iter().map(|worker| Sample::new([worker.index.to_string()], value(worker))).collect()
}

/// Of each score the labels behind `worker`, and the value.
pub(super) fn scores(status: &Status, value: impl Fn(&ScoreStatus) -> (Vec<String>, f64)) -> Vec<Sample> {
    let scored = status.workers.iter().filter_map(|worker| Some((worker.index, worker.score.as_ref()?)));
    scored
        .map(|(index, score)| {
            let (labels, value) = value(score);
            Sample { labels: std::iter::once(index.to_string()).chain(labels).collect(), value }
        })
        .collect()
}

/// By name; servers of one region in one process have certificates of the same name.
pub(super) fn certificates(status: &Status) -> Vec<Sample> {
    let mut first = BTreeMap::new();
    for own in &status.certificates {
        let seconds: &mut f64 = first.entry(&own.name).or_insert(f64::INFINITY);
        *seconds = seconds.min(own.seconds_to_expiry);
    }
    first.into_iter().map(|(name, seconds)| Sample::new([name.clone()], seconds)).collect()
}

/// `name` if it is one of `names`, else [`OTHER`].
fn known(names: &[&'static str], name: &str) -> &'static str {
    names.iter().find(|known| **known == name).unwrap_or(&OTHER)
}
