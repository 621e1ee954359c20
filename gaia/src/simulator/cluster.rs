//! Builds the datacenters of a run, and runs them to the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datacenter::{Placement, ShardId, TableSpec, shard_tables};
use emulation::seed;
use emulation::{Network, VirtualClock};
use futures_util::future::{join_all, try_join_all};
use tokio::sync::mpsc;
use wan::driver::remote::ShardShapes;
use wan::transport::Authority;

use super::accounting::{Totals, inspect};
use super::recorder::{Layout, Recorder, Sample, SampleEvent, ScoredClocks, Scorer, point};
use super::site::Running;
use super::topology::{Site, Topology};
use super::watchdog::Watchdog;
use super::worker::{Cause, Spent};
use super::{Observer, Progress, RunError};
use crate::job::scenario::Simulation;
use crate::job::strategy::Strategy;
use crate::learning::application::{Application, Evaluation, ShardValues, initial_values};
use crate::seeds::purpose;
use crate::simulator::results::{MetricValue, Point, RegionWait, Run};

/// Virtual time after which a run is given up though it moves: no job that is worth simulating
/// takes a hundred days. One that does not move is given up long before, see [`Watchdog`].
const LIMIT: Duration = Duration::from_secs(100 * 24 * 3600);

/// Runs `application` under `strategy`.
pub(super) fn run(
    simulation: &Simulation,
    application: &dyn Application,
    strategy: Strategy,
    observer: &dyn Observer,
) -> Result<Run, RunError> {
    let cluster = Cluster::new(simulation, application, strategy, observer);
    let time = cluster.time.clone();
    let run = time.run(LIMIT, cluster.run())??;
    observer.run_finished(&run);
    Ok(run)
}

/// Everything that is known of a run before it starts.
pub(super) struct Cluster<'a> {
    pub(super) simulation: &'a Simulation,
    pub(super) application: &'a dyn Application,
    pub(super) strategy: Strategy,
    pub(super) observer: &'a dyn Observer,
    pub(super) topology: Topology,
    pub(super) specs: Vec<TableSpec>,
    pub(super) placement: Placement,
    /// By shard.
    pub(super) shapes: ShardShapes,
    pub(super) time: VirtualClock,
    pub(super) network: Network,
    /// The examples of each worker, over all sites.
    pub(super) parts: Vec<Vec<u32>>,
    pub(super) watchdog: Watchdog,
    pub(super) scored: ScoredClocks,
    /// The model at the start, by shard and table.
    pub(super) initial: Vec<ShardValues>,
}

impl<'a> Cluster<'a> {
    fn new(
        simulation: &'a Simulation,
        application: &'a dyn Application,
        strategy: Strategy,
        observer: &'a dyn Observer,
    ) -> Self {
        let specs = application.tables();
        let placement = Placement::new(simulation.job.shards);
        let shapes = (0..simulation.job.shards).map(|s| shard_tables(&specs, placement, ShardId(s)));
        let time = VirtualClock::new();
        let elements = specs.iter().map(|spec| u64::from(spec.rows) * u64::from(spec.width)).sum();
        Self {
            watchdog: Watchdog::new(simulation, elements),
            scored: ScoredClocks::new(simulation.job.evaluate_every, simulation.job.clocks),
            initial: initial_values(application, &specs, placement),
            topology: Topology::new(simulation, strategy),
            shapes: Arc::new(shapes.collect()),
            network: Network::new(&time, seed::derive(simulation.seed, &[purpose::NETWORK])),
            parts: application.partition(simulation.worker_count() as usize),
            simulation,
            application,
            strategy,
            observer,
            specs,
            placement,
            time,
        }
    }

    async fn run(self) -> Result<Run, RunError> {
        let names: Vec<String> = self.topology.sites.iter().map(|s| s.name.clone()).collect();
        self.observer.run_started(self.strategy, &names, self.simulation.job.clocks);
        // Without a bound of its own: a sample stands for a clock, which takes a flush of every
        // worker, and workers advance in the same task that takes samples first. So there are no
        // more than flushes that fit into the queue of a server.
        let (samples, mut sampled) = mpsc::unbounded_channel();
        let authority = Authority::new(self.seed(purpose::AUTHORITY, 0));
        let mut sites = Vec::new();
        for site in 0..names.len() {
            sites.push(self.start_site(site, &authority, &samples));
        }
        drop(samples);
        if self.topology.stretched {
            self.connect_stretched(&mut sites).await?;
        }

        let scorer = Scorer::new(self.application, &self.specs, self.placement);
        let first = scorer.score(&self.initial);
        let mut recorder = Recorder::new(Layout {
            models: self.topology.models,
            servers: self.topology.hosts().count(),
            initial: self.topology.mirrored.then_some(&*self.initial),
            scored: self.scored.clone(),
        });
        let recording = self.record(&mut recorder, &scorer, &mut sampled, &sites);
        let training = async {
            let spent = try_join_all((0..sites.len()).map(|site| self.train_site(site, &sites))).await?;
            let trained_at = self.time.now();
            // Once every region is done, what filters hold back is shipped, so that all end with
            // the same model. A server without shards has nothing to settle, and nobody ever wakes
            // it to say so.
            join_all(self.topology.hosts().map(|(site, server)| {
                let mut settled = sites[site].servers[server].settled.clone();
                async move { _ = settled.wait_for(|settled| *settled).await }
            }))
            .await;
            Ok::<_, RunError>((spent, trained_at))
        };
        // Recording never ends by itself: the sites' tasks hold its senders.
        let (spent, trained_at) = tokio::select! {
            biased;
            () = recording => unreachable!("sites run until their channels are dropped"),
            trained = training => trained?,
            () = self.watch() => return Err(self.stalled(&sites).await.into()),
        };
        let ended_at = self.time.now();

        let mut totals = Totals::default();
        let mut copies: Vec<BTreeMap<usize, ShardValues>> = vec![BTreeMap::new(); self.topology.models];
        for (at, site) in sites.iter().enumerate() {
            let mut all_sent = Vec::new();
            for server in &site.servers {
                let (values, counters, sent) = inspect(server).await;
                copies[self.topology.sites[at].model].extend(values);
                totals.add_filter(counters, sites.len() as u64 - 1);
                all_sent.extend(sent);
            }
            totals.links.extend(self.link_bytes(at, &sites, &all_sent));
        }
        let last: Vec<Evaluation> =
            copies.into_iter().map(|c| scorer.score(&c.into_values().collect::<Vec<_>>())).collect();
        let total = sites.iter().map(Running::wan_bytes).sum();
        let mut curve = vec![point(Duration::ZERO, 0, &[first], 0)];
        let (points, filter) = recorder.finish();
        curve.extend(points);
        curve.push(point(ended_at, self.simulation.job.clocks, &last, total));
        let run = self.outcome(curve, totals, &spent, trained_at, &last);
        Ok(Run { filter, ..run })
    }

    /// Scores samples as they come, and tells the observer; never ends.
    async fn record(
        &self,
        recorder: &mut Recorder<'_>,
        scorer: &Scorer<'_>,
        sampled: &mut mpsc::UnboundedReceiver<SampleEvent>,
        sites: &[Running],
    ) {
        let mut last = vec![(Duration::ZERO, 0); sites.len()];
        let mut clocks: Vec<_> = sites.iter().map(|site| vec![0; site.servers.len()]).collect();
        // By model, those that its region has not told of yet.
        let mut scores: Vec<Option<f64>> = vec![None; self.topology.models];
        let mut is_thinned = false;
        while let Some(event) = sampled.recv().await {
            let sample = match event {
                SampleEvent::Completed(sample) => sample,
                SampleEvent::Arrived { clock, at } => {
                    let total = sites.iter().map(Running::wan_bytes).sum();
                    recorder.arrive(clock, at, total);
                    continue;
                }
            };
            let Sample { site, server, clock, at, parts } = sample;
            let model = self.topology.sites[site].model;
            let complete = parts.and_then(|parts| recorder.complete(clock, parts, model, scorer));
            if let Some(complete) = complete {
                scores = complete.iter().map(|score| Some(score.objective)).collect();
            }
            if recorder.thin_out().is_some() && !is_thinned {
                is_thinned = true;
                self.observer.remark(&format!(
                    "{}: at clock {} of the first a region is so far behind that too many models wait to be scored; only \
                     every other one is from there on, or fewer, and the last one",
                    self.strategy, clock.0
                ));
            }
            // A region has completed a clock once all its servers have.
            clocks[site][server] = clock.0;
            if clocks[site].iter().any(|other| *other < clock.0) {
                continue;
            }
            let sent = sites[site].wan_bytes();
            let (last_at, last_sent) = std::mem::replace(&mut last[site], (at, sent));
            let passed = at.saturating_sub(last_at).as_secs_f64().max(1e-9);
            let progress = Progress {
                region: site,
                clock: clock.0,
                seconds: at.as_secs_f64(),
                objective: scores[model].take(),
                wan_bytes_per_sec: (sent - last_sent) as f64 / passed,
            };
            self.observer.clock(self.strategy, &progress);
        }
    }

    pub(super) fn seed(&self, purpose: u64, which: u64) -> u64 {
        seed::derive(self.simulation.seed, &[purpose, which])
    }

    fn outcome(
        &self,
        curve: Vec<Point>,
        totals: Totals,
        spent: &[Vec<Spent>],
        trained_at: Duration,
        last: &[Evaluation],
    ) -> Run {
        let end = curve.last().expect("the end is a point").clone();
        let clocks = self.simulation.job.clocks;
        let workers = spent.concat();
        let mut holds = BTreeMap::new();
        for (cause, time) in workers.iter().flat_map(|spent| &spent.holds) {
            *holds.entry(cause.reason.to_owned()).or_insert(0.0) += time.as_secs_f64() / workers.len() as f64;
        }
        let computing = workers.iter().map(|spent| spent.computing.as_secs_f64()).sum::<f64>();
        let metric = last[0].metric;
        Run {
            strategy: self.strategy.name().into(),
            reached_target: false,
            seconds_to_target: None,
            wan_bytes_to_target: None,
            seconds: end.seconds,
            wan_bytes: end.wan_bytes,
            wan_payload_bytes: totals.links.iter().map(|l| l.payload).sum(),
            naive_wan_bytes: self.topology.mirrored.then_some(totals.naive_wan_bytes),
            clocks,
            objective: end.objective,
            metric: MetricValue {
                name: metric.name.into(),
                value: end.metric,
                larger_is_better: metric.larger_is_better,
            },
            holds,
            computing_seconds: computing / workers.len() as f64,
            waits: self.waits(spent),
            links: totals.links,
            curve,
            clock_seconds: trained_at.as_secs_f64() / f64::from(clocks),
            filter_hit_rate: (self.topology.mirrored && totals.updated > 0)
                .then(|| totals.shipped as f64 / totals.updated as f64),
            filter: Vec::new(),
        }
    }

    /// Which region's workers waited for what, and for which region.
    fn waits(&self, spent: &[Vec<Spent>]) -> Vec<RegionWait> {
        let of_site = |(site, workers): (&Site, &Vec<Spent>)| {
            let mut sums = BTreeMap::new();
            for (cause, time) in workers.iter().flat_map(|spent| &spent.holds) {
                *sums.entry(*cause).or_insert(0.0) += time.as_secs_f64() / workers.len() as f64;
            }
            let wait = |(cause, seconds): (Cause, f64)| RegionWait {
                region: site.name.clone(),
                reason: cause.reason.to_owned(),
                waits_for: cause.peer.map(|peer| self.topology.sites[peer.index()].name.clone()),
                seconds,
            };
            sums.into_iter().map(wait).collect::<Vec<_>>()
        };
        self.topology.sites.iter().zip(spent).flat_map(of_site).collect()
    }
}
