//! Reads a simulation file: regions, the network between and inside them, what computing costs, and
//! the job.

use std::collections::BTreeSet;
use std::time::Duration;

use super::agreement::{Agreement, MOST_REGIONS, agreement, new_name};
use super::job;
use super::links::links;
use crate::job::region::Member;
use crate::job::scenario::{ComputeSettings, Congestion, LanSettings, Links, Region, Simulation};
use crate::job::strategy::Strategy;
use crate::learning::application::ModelKinds;
use crate::settings::Section;
use crate::settings::kind::{delay, duration, list, name, not_empty, parsed, rate, real, share, whole};

/// Reads the root table.
pub(super) fn simulation(s: &Section<'_>, kinds: &ModelKinds) -> Option<Simulation> {
    let called = s.required("name", name());
    // The job's table may name the seed and the regions, which are needed before its turn.
    let job = |s: &Section<'_>| {
        let called = called.as_deref().unwrap_or("unnamed");
        let read = |s: &Section<'_>| Some((job::job(s, Some(called), kinds), agreement(s)));
        s.section(job::KEY, read).unwrap_or_default()
    };
    let ((job, Agreement { strategy, .. }), world) = s.ahead(job, |s, (_, agreement)| world(s, agreement));
    let World { seed, strategies, regions, links, lan, compute, congestion } = world?;
    let strategy = strategy.unwrap_or(Strategy::Asp);
    let (name, job) = (called?, job?);
    if let Some(region) = regions.iter().find(|region| region.servers > job.shards) {
        let Region { name, servers, .. } = region;
        let message = format!(
            "{name} has {servers} servers; allowed: at most {}, one for each of job.shards",
            job.shards
        );
        s.problem("regions[].servers", message);
        return None;
    }
    Some(Simulation { name, seed, job, regions, links, lan, compute, congestion, strategy, strategies })
}

/// What a simulation file says beside the job.
struct World {
    seed: u64,
    strategies: Vec<Strategy>,
    regions: Vec<Region>,
    links: Links,
    lan: LanSettings,
    compute: ComputeSettings,
    congestion: Congestion,
}

fn world(s: &Section<'_>, agreement: &Agreement) -> Option<World> {
    let seed = s.or("seed", agreement.seed.unwrap_or(1), whole(0..=u64::MAX));
    let strategies = strategies(s);
    let regions = regions(s, agreement.members.as_deref());
    // Links to regions that could not be read would only be called unknown.
    let names: Option<Vec<_>> =
        regions.as_ref().map(|regions| regions.iter().map(|region| region.name.clone()).collect());
    let links = links(s, names.as_deref());
    let lan = s.section("lan", lan);
    let compute = s.section("compute", compute);
    let congestion = s.section("transport", |s| {
        Some(s.or(
            "congestion",
            Congestion::default(),
            parsed(Congestion::ALL.map(Congestion::name).into_iter()),
        ))
    });
    Some(World {
        seed,
        strategies: strategies?,
        regions: regions?,
        links: links?,
        lan: lan?,
        compute: compute?,
        congestion: congestion?,
    })
}

fn strategies(s: &Section<'_>) -> Option<Vec<Strategy>> {
    let kind = not_empty(list(parsed(Strategy::ALL.map(Strategy::name).into_iter())));
    let strategies = s.or("strategies", Strategy::DEFAULT.to_vec(), kind);
    for (index, strategy) in strategies.iter().enumerate() {
        if strategies[..index].contains(strategy) {
            s.problem("strategies", format!("names {strategy} twice; allowed: each strategy once"));
            return None;
        }
    }
    Some(strategies)
}

/// Reads the regions, which are those of the job unless the file has others: `None` there if they
/// could not be read.
fn regions(s: &Section<'_>, members: Option<&[Member]>) -> Option<Vec<Region>> {
    // Under `stretched` each worker has a stream of its own on its region's connections, and there
    // are no more of these.
    const MOST_WORKERS: u32 = 128;
    let mut names = BTreeSet::new();
    let regions = s.sections("regions", |s| {
        let name = s.required("name", name());
        let servers = s.or("servers", 1, whole(1..=job::MOST_SHARDS));
        let workers = s.or("workers", 1, whole(1..=MOST_WORKERS));
        let speed = s.or("speed", 1.0, real(0.001..=1000.0));
        Some(Region { name: new_name(s, name?, &mut names)?, servers, workers, speed })
    });
    if !s.has("regions") {
        return of_the_job(s, members?, MOST_WORKERS);
    }
    if !(1..=MOST_REGIONS).contains(&regions.len()) {
        let found = regions.len();
        s.problem("regions", format!("found {found} regions; allowed: 1 to {MOST_REGIONS}"));
        return None;
    }
    regions.into_iter().collect()
}

fn of_the_job(s: &Section<'_>, members: &[Member], most_workers: u32) -> Option<Vec<Region>> {
    if members.is_empty() {
        s.problem("regions", "missing; allowed: at least one [[regions]] table".to_owned());
        return None;
    }
    if let Some(large) = members.iter().find(|member| member.workers > most_workers) {
        let Member { name, workers } = large;
        let message =
            format!("the job has {workers} workers in {name}; allowed: 1 to {most_workers} in a simulation");
        s.problem("regions", message);
        return None;
    }
    let region = |member: &Member| {
        let Member { name, workers } = member.clone();
        Region { name, servers: 1, workers, speed: 1.0 }
    };
    Some(members.iter().map(region).collect())
}

fn lan(s: &Section<'_>) -> Option<LanSettings> {
    let default = LanSettings::default();
    Some(LanSettings {
        rate_bytes_per_sec: s.or("rate", default.rate_bytes_per_sec, rate()),
        one_way_delay: s.or("one_way_delay", default.one_way_delay, delay()),
    })
}

/// Reads what computing costs.
pub(super) fn compute(s: &Section<'_>) -> Option<ComputeSettings> {
    let examples_per_second = s.required("examples_per_second", real(0.001..=1e12));
    let overhead = s.or("overhead", Duration::ZERO, duration());
    let jitter = s.or("jitter", 0.0, share().only(", at most 10", |jitter| *jitter <= 10.0));
    Some(ComputeSettings { examples_per_second: examples_per_second?, overhead, jitter })
}
