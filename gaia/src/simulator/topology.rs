//! Which datacenter hosts which shards and workers under a strategy.

use datacenter::{ShardId, WorkerId};

use crate::job::scenario::Simulation;
use crate::job::strategy::Strategy;

/// The datacenters of a run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Topology {
    pub(super) sites: Vec<Site>,
    /// Whether sites mirror each other's shards.
    pub(super) mirrored: bool,
    /// Whether workers use the shards of other sites.
    pub(super) stretched: bool,
    /// How many copies of the model there are.
    pub(super) models: usize,
}

/// One datacenter of a run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Site {
    pub(super) name: String,
    /// What each of its server processes hosts. Regions without mirrors have one process, whatever
    /// their settings say: it makes no difference to what is learned, nor to what crosses the WAN.
    pub(super) servers: Vec<Vec<ShardId>>,
    pub(super) workers: Vec<WorkerSite>,
    /// Which copy of the model its shards belong to.
    pub(super) model: usize,
    /// How many machines' ports each of these processes has on the LAN: over all sites as many
    /// under every strategy, so that a `lan` of all workers has as many as the regions together.
    pub(super) ports: u64,
}

/// A worker of a site.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct WorkerSite {
    /// Which part of the data it trains on: counts over all sites.
    pub(super) part: usize,
    /// How fast it computes.
    pub(super) speed: f64,
}

impl Topology {
    pub(super) fn new(simulation: &Simulation, strategy: Strategy) -> Self {
        let mut next_part = 0..;
        let workers_of = simulation.regions.iter().map(|region| {
            let speed = region.speed;
            let parts = next_part.by_ref().take(region.workers as usize);
            parts.map(|part| WorkerSite { part, speed }).collect::<Vec<_>>()
        });
        let workers_of: Vec<_> = workers_of.collect();
        let all_shards: Vec<_> = (0..simulation.job.shards).map(ShardId).collect();
        let count = simulation.regions.len();
        if strategy == Strategy::Lan {
            let workers = workers_of.concat();
            let ports = simulation.regions.iter().map(|region| u64::from(region.servers)).sum();
            let site = Site { name: "lan".into(), servers: vec![all_shards], workers, model: 0, ports };
            return Self { sites: vec![site], mirrored: false, stretched: false, models: 1 };
        }
        let stretched = strategy == Strategy::Stretched;
        let mirrored = !stretched && strategy != Strategy::Isolated;
        // Dealt out among so many, those of one.
        let dealt = |among: usize, to: usize| {
            all_shards.iter().filter(move |shard| shard.index() % among == to).copied().collect::<Vec<_>>()
        };
        let sites = workers_of.into_iter().enumerate().map(|(at, workers)| {
            let region = &simulation.regions[at];
            let among = usize::from(region.servers);
            let (servers, ports) = match () {
                () if mirrored => ((0..among).map(|to| dealt(among, to)).collect(), 1),
                () if stretched => (vec![dealt(count, at)], u64::from(region.servers)),
                () => (vec![all_shards.clone()], u64::from(region.servers)),
            };
            let model = if stretched { 0 } else { at };
            Site { name: region.name.clone(), servers, workers, model, ports }
        });
        Self { sites: sites.collect(), mirrored, stretched, models: if stretched { 1 } else { count } }
    }

    /// The servers that host shards, as (site, server): of a stretched parameter server with fewer
    /// shards than there are sites, some host none.
    pub(super) fn hosts(&self) -> impl Iterator<Item = (usize, usize)> {
        let servers = |(at, site): (usize, &Site)| {
            let hosts = site.servers.iter().enumerate().filter(|(_, shards)| !shards.is_empty());
            hosts.map(|(server, _)| (at, server)).collect::<Vec<_>>()
        };
        self.sites.iter().enumerate().flat_map(servers)
    }

    /// The parts of the data that the model of `site` is trained on.
    pub(super) fn parts_of(&self, site: usize) -> Vec<usize> {
        let together = |other: &&Site| self.mirrored || other.model == self.sites[site].model;
        self.sites.iter().filter(together).flat_map(|s| s.workers.iter().map(|w| w.part)).collect()
    }

    /// The site of `worker`, as the shards of `site` number it.
    pub(super) fn site_of(&self, site: usize, worker: WorkerId) -> usize {
        if !self.stretched {
            return site;
        }
        let is_here = |other: &Site| other.workers.iter().any(|w| w.part == worker.index());
        self.sites.iter().position(is_here).unwrap_or(site)
    }

    /// How many workers the shards of `site` serve.
    pub(super) fn workers_served(&self, site: usize) -> usize {
        match self.stretched {
            true => self.sites.iter().map(|s| s.workers.len()).sum(),
            false => self.sites[site].workers.len(),
        }
    }
}
