//! What the job makes of its data: parts, memory, and the digest that regions compare.

use std::fs;
use std::time::Duration;

use datacenter::{ShardId, ShardTable};
use wan::replica::Replica;

use super::Finding;
use crate::human::{bytes, counted};
use crate::learning::application::Work;
use crate::learning::data::partition::idle_workers;
use crate::service::{Part, Setup, short};

/// Looks at the model; `sizes` are those of the parts of our workers.
pub(super) fn findings(setup: &Setup, sizes: &[usize], part: Part) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("data", data(setup, sizes))];
    let remarks = setup.application.remarks().into_iter().chain(idle_workers(sizes));
    findings.extend(remarks.map(|remark| Finding::ok("note", remark)));
    findings.push(Finding::ok("digest", format!("{}; the same in every region", short(&setup.digest))));
    findings.push(memory(setup, part, available_bytes()));
    findings
}

/// How long a clock takes, where that is declared.
pub(super) fn clock_length(setup: &Setup, sizes: &[usize]) -> Option<Duration> {
    let compute = setup.region.compute?;
    let most = sizes.iter().max().map(|most| *most as u64)?;
    let examples = setup.region.job.model.training().clock?.examples(most);
    Some(compute.clock_time(Work::examples(examples), 1.0, 0.0))
}

fn data(setup: &Setup, sizes: &[usize]) -> String {
    let (least, most) = (sizes.iter().min().unwrap_or(&0), sizes.iter().max().unwrap_or(&0));
    let each = if least == most { format!("{most}") } else { format!("{least} to {most}") };
    let shapes: Vec<_> = setup.specs.iter().map(|t| format!("{} {} x {}", t.name, t.rows, t.width)).collect();
    let elements: u64 = setup.specs.iter().map(|t| u64::from(t.rows) * u64::from(t.width)).sum();
    format!(
        "{} here, {each} for each of {}; model of {elements} values: {}",
        counted(sizes.iter().sum::<usize>(), "training example"),
        counted(sizes.len(), "worker"),
        shapes.join(", ")
    )
}

/// What processes keep of the model at most: a server has values, what its filter holds back, and
/// for each other region what it has released and what may wait for it; a worker has its cache and
/// its deltas.
fn memory(setup: &Setup, part: Part, available: Option<u64>) -> Finding {
    let region = &setup.region;
    let elements = |tables: &Vec<ShardTable>| tables.iter().map(|table| table.elements() as u64).sum::<u64>();
    let value = size_of::<f32>() as u64;
    let server = |index| {
        let replica =
            |shard: ShardId| Replica::most_bytes(&setup.shapes.0[shard.index()], region.peers.len() as u64);
        setup.shards_of(index).map(replica).sum::<u64>()
    };
    let worker = 2 * value * setup.shapes.0.iter().map(elements).sum::<u64>();
    let largest = (0..region.servers).map(server).max().unwrap_or(0);
    let (needed, what) = match part {
        Part::Region => {
            let all = (0..region.servers).map(server).sum::<u64>() + u64::from(region.workers()) * worker;
            let (one, other) = (bytes(largest as f64), bytes(worker as f64));
            (all, format!("{} in all: {one} for a server, {other} for a worker", bytes(all as f64)))
        }
        Part::Server(index) => (server(index), bytes(server(index) as f64)),
        Part::Worker(_) => (worker, bytes(worker as f64)),
    };
    match available.filter(|available| needed > *available) {
        Some(available) => Finding::failed(
            "memory",
            format!(
                "the model takes up to {what}, and this machine has {} to give; run fewer processes on it, or \
                 cut the model over more servers",
                bytes(available as f64)
            ),
        ),
        None => Finding::ok("memory", format!("the model takes up to {what}; the data comes on top")),
    }
}

/// What this machine can give, where it says so.
fn available_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
