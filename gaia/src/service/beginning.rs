//! What a server begins with: the checkpoints of its shards; for those without, the model's first
//! values, and what other regions have of them.
//!
//! First values of a large model take a while to draw. What other regions have is on its way
//! meanwhile: all of it adds up.
//!
//! Kind: driver (reads checkpoints).

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use datacenter::shard::Shard;
use datacenter::sums::MAX_SUM;
use datacenter::{Clock, ShardId};
use tracing::info;
use wan::node::{Node, PeerConfig, StartPolicy, life_after};
use wan::replica::Replica;

use super::ServiceError;
use super::setup::Setup;
use crate::job::DeltaBound;
use crate::learning::application::{ShardValues, initial_values_of};
use crate::service::checkpoint::{Archive, Begun, Checkpoint, Counts, Keeper, Schedule, Subject};

/// What tells a server the first values of a shard; false once it does not want them any more.
pub(super) type Tell = dyn Fn(ShardId, ShardValues) -> bool + Sync;

/// A server's shards as they begin, and who keeps their checkpoints.
pub(super) struct Beginning {
    pub(super) node: Node,
    pub(super) keeping: Option<Keeping>,
    /// The shards whose first values have yet to be [drawn](draw).
    pub(super) to_draw: Vec<ShardId>,
}

/// Makes checkpoints of a server's shards.
pub(super) struct Keeping {
    pub(super) keeper: Arc<Keeper>,
    pub(super) schedule: Schedule,
    pub(super) archive: Archive,
    /// What the processes before this one have counted.
    pub(super) counts: Counts,
}

/// Reads what server `index` begins with. Blocks.
///
/// # Errors
///
/// If there are checkpoints, and none can be used.
pub(super) fn read(setup: &Setup, index: u16) -> Result<Beginning, ServiceError> {
    let region = &setup.region;
    let last = Clock(region.job.clocks);
    let mut keeping = None;
    let mut checkpoints = Vec::new();
    if let Some(settings) = &region.checkpoint {
        let archive = Archive::new(settings, Arc::new(Subject::from(setup)));
        let mut schedule = Schedule::new(settings, last, tokio::time::Instant::now().into_std());
        let begins = in_parallel(cores(), setup.shards_of(index).collect(), |shard| archive.begin(shard));
        let begins = begins.into_iter().collect::<Result<Vec<Begun>, _>>()?;
        checkpoints = begins.into_iter().filter_map(|begun| begun.checkpoint).collect();
        let counts = archive.begin_counts(index, region.servers);
        let keeper = Keeper::start(archive.clone()).map_err(ServiceError::Thread)?;
        setup.shards_of(index).for_each(|shard| keeper.expect(shard));
        for checkpoint in &checkpoints {
            schedule.begin(checkpoint.state.shard, checkpoint.state.clock);
            keeper.begin(checkpoint);
        }
        keeping = Some(Keeping { keeper: Arc::new(keeper), schedule, archive, counts });
    }
    let has_state = |id: &ShardId| checkpoints.iter().any(|checkpoint| checkpoint.state.shard == *id);
    let to_draw = setup.shards_of(index).filter(|id| !has_state(id)).collect();
    Ok(Beginning { node: node(setup, index, checkpoints)?, keeping, to_draw })
}

/// Draws the first values of `shards`, and tells them as they come. Blocks.
pub(super) fn draw(setup: &Setup, shards: Vec<ShardId>, tell: &Tell) {
    let is_wanted = AtomicBool::new(true);
    // One is left to those who take what others send meanwhile: if it came late, their links would
    // seem slow.
    in_parallel(cores() - 1, shards, |shard| {
        if is_wanted.load(Ordering::Relaxed) {
            let values = initial_values_of(shard, setup.application.as_ref(), &setup.specs, setup.placement);
            is_wanted.fetch_and(tell(shard, values), Ordering::Relaxed);
        }
    });
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Does something for each shard, with so many threads, at least one.
fn in_parallel<T: Send>(threads: usize, shards: Vec<ShardId>, act: impl Fn(ShardId) -> T + Sync) -> Vec<T> {
    let part = shards.len().div_ceil(threads.max(1)).max(1);
    let act = &act;
    thread::scope(|scope| {
        let of_part = |part: &[ShardId]| part.iter().map(|shard| act(*shard)).collect::<Vec<_>>();
        let parts: Vec<_> = shards.chunks(part).map(|part| scope.spawn(move || of_part(part))).collect();
        let joined = parts.into_iter().map(|part| part.join().unwrap_or_else(|failed| resume_unwind(failed)));
        joined.flatten().collect()
    })
}

fn node(setup: &Setup, index: u16, mut checkpoints: Vec<Checkpoint>) -> Result<Node, ServiceError> {
    let region = &setup.region;
    let policy = setup.policy();
    let mirrored = region.strategy.policy(&region.job, &setup.specs).is_some();
    let others = region.peers.iter().filter(|_| mirrored);
    let peers: Vec<PeerConfig> = others
        .map(|peer| PeerConfig {
            id: setup.datacenter(&peer.name).expect("configuration checks that peers are members"),
            rate_bytes_per_sec: peer.rate_bytes_per_sec,
            window_bytes: None,
            transfer_bytes_per_sec: peer.transfer_bytes_per_sec,
        })
        .collect();
    // A process that starts later has a larger number, also where the machine's clock says
    // otherwise.
    let here = setup.datacenter(&region.name);
    let lives = checkpoints.iter().filter_map(|checkpoint| checkpoint.state.life_of(here?));
    let life = life_after(lives.max().unwrap_or(0), datacenter::lan::incarnation());
    let max_deltas = || setup.specs.iter().map(|table| region.job.max_delta.of(&table.name));
    // No region has more flushes than all workers in all clocks.
    let flushes = region.all_workers() as f32 * region.job.clocks as f32;
    let magnitude = |bound: Option<DeltaBound>| match bound? {
        DeltaBound::Magnitude(most) => Some(most),
        DeltaBound::TimesTheUsual(_) => None,
    };
    let times_usual = |bound: Option<DeltaBound>| match bound? {
        DeltaBound::Magnitude(_) => None,
        DeltaBound::TimesTheUsual(times) => Some(times),
    };
    let contribution = |bound| magnitude(bound).map_or(MAX_SUM, |most: f32| (most * flushes).min(MAX_SUM));
    let replica = |id: ShardId| {
        let shapes = &setup.shapes.0[id.index()];
        let zeros = shapes.iter().map(|shape| vec![0.0; shape.elements()]).collect();
        let workers = region.workers() as usize;
        let shard = Shard::new(id, shapes, zeros, workers, region.job.staleness)
            .with_non_finite(region.job.non_finite)
            .with_rules(&setup.specs.iter().map(|spec| spec.rule).collect::<Vec<_>>())
            .with_numbers(&setup.specs.iter().map(|spec| spec.numbers).collect::<Vec<_>>())
            .with_max_delta(max_deltas().map(magnitude).collect())
            .with_max_times_usual(max_deltas().map(times_usual).collect());
        let replica = Replica::new(shard, &policy, peers.iter().map(|peer| peer.id))
            .with_max_contribution(max_deltas().map(contribution).collect())
            .with_max_flushes(flushes);
        let Some(at) = checkpoints.iter().position(|checkpoint| checkpoint.state.shard == id) else {
            return Ok(replica.without_state().without_first_values());
        };
        let Checkpoint { state, bytes, .. } = checkpoints.swap_remove(at);
        info!(shard = id.0, clock = state.clock.0, bytes, "begins with its checkpoint");
        let here = setup.datacenter(&region.name).expect("a region is a member");
        replica.restored(state, here).map_err(|misfit| ServiceError::Misfit { shard: id.0, misfit })
    };
    let replicas = setup.shards_of(index).map(replica).collect::<Result<Vec<_>, _>>()?;
    let start = StartPolicy { wait: region.grace.start, min_datacenters: region.min_regions as usize };
    let node = Node::new(replicas, &peers, &policy).ending_at(Clock(region.job.clocks)).in_life(life);
    Ok(node.giving_up(setup.grace()).starting(start))
}
