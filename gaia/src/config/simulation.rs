//! Reads a simulation file: regions, the network between and inside them, what computing costs, and the job.

use std::time::Duration;

use super::job;
use super::kind::{delay, duration, list, name, not_empty, parsed, rate, real, share, whole};
use super::links::links;
use super::reader::Section;
use crate::scenario::{ComputeSettings, Congestion, LanSettings, Region, Simulation};
use crate::strategy::Strategy;

/// Reads the root table.
pub(super) fn simulation(s: &Section<'_>) -> Option<Simulation> {
    let called = s.required("name", name());
    let seed = s.or("seed", 1, whole(0..=u64::MAX));
    let strategies = strategies(s);
    let regions = regions(s);
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
    let job = s.section(job::KEY, |s| job::job(s, Some(called.as_deref().unwrap_or("unnamed"))));
    Some(Simulation {
        name: called?,
        seed,
        job: job?,
        regions: regions?,
        links: links?,
        lan: lan?,
        compute: compute?,
        congestion: congestion?,
        strategies: strategies?,
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

fn regions(s: &Section<'_>) -> Option<Vec<Region>> {
    // More than a simulation has been tried with.
    const MOST_REGIONS: usize = 64;
    // Under `stretched` each worker has a stream of its own on its region's connections, and there are no more of these.
    const MOST_WORKERS: u32 = 128;
    let mut names: Vec<String> = Vec::new();
    let regions = s.sections("regions", |s| {
        let name = s.required("name", name());
        let workers = s.or("workers", 1, whole(1..=MOST_WORKERS));
        let speed = s.or("speed", 1.0, real(0.001..=1000.0));
        let name = name?;
        if names.contains(&name) {
            s.problem(
                "name",
                format!("found {name:?} a second time; allowed: a name that no other region has"),
            );
            return None;
        }
        names.push(name.clone());
        Some(Region { name, workers, speed })
    });
    if regions.is_empty() && !s.has("regions") {
        s.problem("regions", "missing; allowed: at least one [[regions]] table".to_owned());
        return None;
    }
    if !(1..=MOST_REGIONS).contains(&regions.len()) {
        let found = regions.len();
        s.problem("regions", format!("found {found} regions; allowed: 1 to {MOST_REGIONS}"));
        return None;
    }
    regions.into_iter().collect()
}

fn lan(s: &Section<'_>) -> Option<LanSettings> {
    let default = LanSettings::default();
    Some(LanSettings {
        rate_bytes_per_sec: s.or("rate", default.rate_bytes_per_sec, rate()),
        one_way_delay: s.or("one_way_delay", default.one_way_delay, delay()),
    })
}

fn compute(s: &Section<'_>) -> Option<ComputeSettings> {
    let examples_per_second = s.required("examples_per_second", real(0.001..=1e12));
    let overhead = s.or("overhead", Duration::ZERO, duration());
    let jitter = s.or("jitter", 0.0, share().only(", at most 10", |jitter| *jitter <= 10.0));
    Some(ComputeSettings { examples_per_second: examples_per_second?, overhead, jitter })
}
