//! Where a job is simulated: regions, the links between them, and what computing costs.
//!
//! Like [`crate::job`], these are checked settings in code's units: `config` makes them from TOML,
//! tests make them directly, and whoever holds one may rely on the stated ranges.

use std::str::FromStr;
use std::time::Duration;

use emulation::link::LinkConfig;

use crate::job::Job;
use crate::job::strategy::Strategy;
use crate::learning::application::Work;
use crate::settings::suggest::NotOneOf;

/// A job over regions in virtual time: the content of one simulation file.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulation {
    /// Its name, for people.
    pub name: String,
    /// The seed of every random choice. Default 1.
    pub seed: u64,
    /// What is trained.
    pub job: Job,
    /// The datacenters, at least one, with distinct names, in the order of the file.
    pub regions: Vec<Region>,
    /// The links between every two of them.
    pub links: Links,
    /// The network inside each datacenter (and, under the strategy `lan`, between all workers).
    pub lan: LanSettings,
    /// What computing costs.
    pub compute: ComputeSettings,
    /// The congestion controller of the WAN transport, the same for all strategies.
    pub congestion: Congestion,
    /// What `gaia simulate` runs unless told otherwise: the job's. Default `asp`.
    pub strategy: Strategy,
    /// What `gaia compare` compares unless told otherwise; at least one, all distinct.
    pub strategies: Vec<Strategy>,
}

impl Simulation {
    /// `job` over `regions` of equal speed, each with one server and its number of workers, joined
    /// as `link(from, to)` says. Everything else is as documented for its field; change what should
    /// differ.
    pub fn new(
        job: Job,
        regions: &[(&str, u32)],
        compute: ComputeSettings,
        link: impl FnMut(usize, usize) -> LinkConfig,
    ) -> Self {
        let region = |&(name, workers): &(&str, u32)| Region {
            name: name.to_owned(),
            servers: 1,
            workers,
            speed: 1.0,
        };
        Self {
            name: job.name.clone(),
            seed: 1,
            job,
            regions: regions.iter().map(region).collect(),
            links: Links::new(regions.len(), link),
            lan: LanSettings::default(),
            compute,
            congestion: Congestion::default(),
            strategy: Strategy::Asp,
            strategies: Strategy::DEFAULT.to_vec(),
        }
    }

    /// What is allowed and yet worth a thought before these strategies are compared.
    pub fn remarks(&self, strategies: &[Strategy]) -> Vec<String> {
        let (shards, regions) = (usize::from(self.job.shards), self.regions.len());
        let is_narrow = strategies.contains(&Strategy::Stretched) && shards < regions;
        let narrow = is_narrow.then(|| {
            format!(
                "stretched has its parameter server in {shards} of the {regions} regions, as job.shards is {shards}; \
                 with {regions} or more it would use all links"
            )
        });
        narrow.into_iter().collect()
    }

    /// Workers over all regions.
    pub fn worker_count(&self) -> u32 {
        self.regions.iter().map(|region| region.workers).sum()
    }
}

/// One datacenter.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// Its name: lower-case letters, digits and hyphens.
    pub name: String,
    /// How many server processes host its shards: shard `i` is on server `i` mod this. At least
    /// one, at most as many as there are shards. Default 1.
    pub servers: u16,
    /// How many workers train there; at least one.
    pub workers: u32,
    /// How fast its workers compute, as a multiple of the declared cost; above zero. Default 1.
    pub speed: f64,
}

/// The directed links between regions: a full matrix without its diagonal.
#[derive(Clone, Debug, PartialEq)]
pub struct Links {
    regions: usize,
    /// Row by row, from `links[0]` = 0 -> 1; the diagonal is left out.
    links: Vec<LinkConfig>,
}

impl Links {
    /// Asks `link(from, to)` for every two of `regions` regions, in row-major order.
    pub fn new(regions: usize, mut link: impl FnMut(usize, usize) -> LinkConfig) -> Self {
        let links = Self::pairs_of(regions).map(|(from, to)| link(from, to)).collect();
        Self { regions, links }
    }

    /// The link from region `from` to region `to`.
    ///
    /// # Panics
    ///
    /// If the two are the same or one is no region.
    pub fn get(&self, from: usize, to: usize) -> &LinkConfig {
        assert!(from != to && from < self.regions && to < self.regions, "no link from {from} to {to}");
        &self.links[from * (self.regions - 1) + to - usize::from(to > from)]
    }

    /// All links, as `(from, to, link)`, in row-major order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize, &LinkConfig)> {
        Self::pairs_of(self.regions).zip(&self.links).map(|((from, to), link)| (from, to, link))
    }

    fn pairs_of(regions: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..regions)
            .flat_map(move |from| (0..regions).filter(move |to| *to != from).map(move |to| (from, to)))
    }
}

/// The network inside a datacenter: without loss, with one queue at each receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LanSettings {
    /// Of each machine's port. Default 10 Gbit/s.
    pub rate_bytes_per_sec: u64,
    /// From one machine to another. Default 50 us.
    pub one_way_delay: Duration,
}

impl Default for LanSettings {
    fn default() -> Self {
        Self { rate_bytes_per_sec: 1_250_000_000, one_way_delay: Duration::from_micros(50) }
    }
}

/// What computing costs in virtual time. It is declared, not measured, so that results do not
/// depend on the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ComputeSettings {
    /// What one worker of a region with speed 1 processes; above zero.
    pub examples_per_second: f64,
    /// Of every clock, whatever it processes. Default zero.
    pub overhead: Duration,
    /// A clock takes up to this share longer, at random: 0.1 is up to 10 %. At or above zero.
    /// Default zero.
    pub jitter: f64,
}

impl ComputeSettings {
    /// The virtual time of a clock that did `work` in a region of `speed`.
    ///
    /// It is `(overhead + examples / examples_per_second / speed) * (1 + jitter * draw)`, where
    /// `draw` is uniform in `0..1` and comes from the run's seeded generator. Time that the work
    /// says was measured stands in the place of `examples / examples_per_second / speed`.
    pub fn clock_time(&self, work: Work, speed: f64, draw: f64) -> Duration {
        let declared = work.examples as f64 / self.examples_per_second / speed;
        let seconds = work.measured.map_or(declared, |measured| measured.as_secs_f64());
        Duration::from_secs_f64((self.overhead.as_secs_f64() + seconds) * (1.0 + self.jitter * draw))
    }
}

/// A congestion controller of the WAN transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// Gaia's own: paced by the delivery rate it measures, and not discouraged by random loss.
    #[default]
    Steady,
    /// quinn's default.
    Cubic,
    /// quinn's.
    NewReno,
    /// quinn's.
    Bbr,
}

impl Congestion {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Steady, Self::Cubic, Self::NewReno, Self::Bbr];

    /// Its name in configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Cubic => "cubic",
            Self::NewReno => "newreno",
            Self::Bbr => "bbr",
        }
    }
}

impl FromStr for Congestion {
    type Err = NotOneOf;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        NotOneOf::find(name, Self::ALL, Self::name)
    }
}

impl From<Congestion> for wan::transport::Congestion {
    fn from(congestion: Congestion) -> Self {
        match congestion {
            Congestion::Steady => Self::Steady,
            Congestion::Cubic => Self::Cubic,
            Congestion::NewReno => Self::NewReno,
            Congestion::Bbr => Self::Bbr,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(rate_bytes_per_sec: u64) -> LinkConfig {
        LinkConfig {
            rate_bytes_per_sec,
            one_way_delay: Duration::ZERO,
            jitter: Duration::ZERO,
            reorder: false,
            loss: 0.0,
            duplicate: 0.0,
            queue_bytes: 1,
            outages: Vec::new(),
        }
    }

    #[test]
    fn links_are_found_by_their_ends() {
        for regions in 0..6 {
            let links = Links::new(regions, |from, to| link((from * 10 + to) as u64));
            let mut seen = 0;
            for (from, to, found) in links.iter() {
                assert_eq!(found.rate_bytes_per_sec, (from * 10 + to) as u64);
                assert_eq!(found, links.get(from, to));
                seen += 1;
            }
            assert_eq!(seen, regions * regions.saturating_sub(1));
        }
    }

    #[test]
    fn a_clock_costs_its_overhead_and_its_examples() {
        let compute =
            ComputeSettings { examples_per_second: 100.0, overhead: Duration::from_millis(500), jitter: 0.5 };
        let work = Work::examples(200);
        assert_eq!(compute.clock_time(work, 1.0, 0.0), Duration::from_millis(2500));
        assert_eq!(compute.clock_time(work, 2.0, 0.0), Duration::from_millis(1500));
        assert_eq!(compute.clock_time(work, 2.0, 1.0), Duration::from_millis(2250));
        let measured = work.measured(Duration::from_millis(700));
        assert_eq!(compute.clock_time(measured, 2.0, 0.0), Duration::from_millis(1200));
    }
}
