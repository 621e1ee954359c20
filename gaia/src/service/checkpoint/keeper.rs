//! Writes checkpoints beside the training.
//!
//! One thread for all shards of a server writes one file at a time: so only one file is in memory,
//! and disks are written in order. Where states come faster than they are written, a newer one of a
//! shard takes the place of the one that waits.
//!
//! A state that cannot be written is given up: the log says so, it is counted, and the next one is
//! tried as if nothing had been. Training goes on.
//!
//! Kind: driver.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use datacenter::{Clock, ShardId};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, error, warn};
use wan::state::ReplicaState;

use super::archive::Archive;
use super::format::Checkpoint;
use crate::service::admin::CheckpointMetrics;
use crate::service::status::{CheckpointStatus, KeptStatus};

/// Takes states, and keeps them.
#[derive(Debug)]
pub struct Keeper {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Something waits, or nothing more will.
    changed: Condvar,
    notes: Mutex<BTreeMap<ShardId, Note>>,
    durable: watch::Sender<BTreeMap<ShardId, Clock>>,
}

/// What waits to be written; at most one state of each shard.
#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeMap<ShardId, ReplicaState>,
    /// Which shard's state is being written.
    busy: Option<ShardId>,
    /// Whose turn was last.
    last: Option<ShardId>,
    is_closed: bool,
}

/// How the checkpoints of a shard are.
#[derive(Clone, Debug)]
struct Note {
    metrics: CheckpointMetrics,
    kept: Option<Kept>,
    failures: u64,
    problem: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    clock: Clock,
    bytes: u64,
    /// Since when that is known, and how old it was then.
    at: Instant,
    age: Duration,
    /// None for one of a former process.
    took: Option<Duration>,
}

impl Note {
    fn new(shard: ShardId) -> Self {
        Self { metrics: CheckpointMetrics::new(shard), kept: None, failures: 0, problem: None }
    }
}

impl Keeper {
    /// A keeper for the shards of one server.
    ///
    /// # Errors
    ///
    /// If the system has no room for another thread.
    pub fn start(archive: Archive) -> io::Result<Self> {
        let shared = Arc::new(Shared::new());
        let of_thread = shared.clone();
        thread::Builder::new().name("checkpoints".into()).spawn(move || write_all(&archive, &of_thread))?;
        Ok(Self { shared })
    }

    /// A shard has begun with `checkpoint`, which is safely there: the newest, until there is
    /// another.
    pub fn begin(&self, checkpoint: &Checkpoint) {
        let Checkpoint { state, written_at, bytes, .. } = checkpoint;
        let age = date().duration_since(*written_at).unwrap_or_default();
        let kept = Kept { clock: state.clock, bytes: *bytes, at: Instant::now(), age, took: None };
        self.shared.keep(state.shard, kept);
    }

    /// States of `shard` will be offered.
    pub fn expect(&self, shard: ShardId) {
        self.shared.notes().entry(shard).or_insert_with(|| Note::new(shard));
    }

    /// Takes a state to be written, in the place of an older one of the same shard that waits.
    /// Never blocks.
    pub fn offer(&self, state: ReplicaState) {
        let (shard, clock) = (state.shard, state.clock);
        let former = self.shared.queue().waiting.insert(shard, state);
        if let Some(former) = former {
            // Not a failure, but it says that checkpoints are asked for faster than they can be
            // written.
            debug!(shard = shard.0, clock = former.clock.0, newer = clock.0, "a checkpoint was overtaken");
        }
        self.shared.changed.notify_all();
    }

    /// By shard, the clock of the newest checkpoint that is safely there.
    pub fn durable(&self) -> watch::Receiver<BTreeMap<ShardId, Clock>> {
        self.shared.durable.subscribe()
    }

    /// Whether everything that was offered has been written, or given up.
    pub fn is_idle(&self) -> bool {
        let queue = self.shared.queue();
        queue.waiting.is_empty() && queue.busy.is_none()
    }

    /// Waits until that is so.
    pub async fn idle(&self) {
        // For the last checkpoints of a process that stops: nothing else waits, and a few more
        // milliseconds are no matter.
        const LOOK: Duration = Duration::from_millis(20);
        while !self.is_idle() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How the checkpoints of `shard` are.
    pub fn status(&self, shard: ShardId) -> CheckpointStatus {
        let notes = self.shared.notes();
        let Some(note) = notes.get(&shard) else { return CheckpointStatus::default() };
        let kept = note.kept.map(|kept| KeptStatus {
            clock: kept.clock.0,
            age_seconds: (kept.at.elapsed() + kept.age).as_secs_f64(),
            bytes: kept.bytes,
            write_seconds: kept.took.map(|took| took.as_secs_f64()),
        });
        CheckpointStatus { kept, failures: note.failures, problem: note.problem.clone() }
    }
}

impl Drop for Keeper {
    /// What waits is written still, if the process lives that long.
    fn drop(&mut self) {
        self.shared.queue().is_closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn new() -> Self {
        Self {
            queue: Mutex::default(),
            changed: Condvar::new(),
            notes: Mutex::default(),
            durable: watch::channel(BTreeMap::new()).0,
        }
    }

    /// Notes that a checkpoint is safely there; yields whether the one before could not be written.
    fn keep(&self, shard: ShardId, kept: Kept) -> bool {
        let mut notes = self.notes();
        let note = notes.entry(shard).or_insert_with(|| Note::new(shard));
        note.kept = Some(kept);
        kept.took.into_iter().for_each(|took| note.metrics.write_seconds.record(took));
        let had_problem = note.problem.take().is_some();
        drop(notes);
        self.durable.send_modify(|durable| {
            durable.insert(shard, kept.clock);
        });
        had_problem
    }

    /// Notes that one could not be written; yields how many those are by now.
    fn fail(&self, shard: ShardId, problem: &io::Error) -> u64 {
        let mut notes = self.notes();
        let note = notes.entry(shard).or_insert_with(|| Note::new(shard));
        note.metrics.failures.increment(1);
        note.failures += 1;
        note.problem = Some(problem.to_string());
        note.failures
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notes(&self) -> MutexGuard<'_, BTreeMap<ShardId, Note>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next state to be written; none when there will be no more.
    fn next(&self) -> Option<ReplicaState> {
        let mut queue = self.queue();
        queue.busy = None;
        loop {
            // In turn, so that a shard whose states come fast does not keep others waiting.
            let after = |shard: &ShardId| queue.last.is_none_or(|last| *shard > last);
            let next = queue.waiting.keys().copied().find(after).or(queue.waiting.keys().next().copied());
            if let Some(shard) = next {
                (queue.busy, queue.last) = (Some(shard), Some(shard));
                return queue.waiting.remove(&shard);
            }
            if queue.is_closed {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn write_all(archive: &Archive, shared: &Shared) {
    while let Some(state) = shared.next() {
        let (shard, clock) = (state.shard, state.clock);
        let started = Instant::now();
        let written = archive.write(&state, date());
        drop(state);
        match written {
            Ok(bytes) => {
                let at = Instant::now();
                let took = at - started;
                let kept = Kept { clock, bytes, at, age: Duration::ZERO, took: Some(took) };
                debug!(shard = shard.0, clock = clock.0, bytes, seconds = took.as_secs_f64(), "kept");
                if shared.keep(shard, kept) {
                    warn!(shard = shard.0, clock = clock.0, "checkpoints can be written again");
                }
            }
            Err(problem) => {
                let failures = shared.fail(shard, &problem);
                error!(
                    shard = shard.0, clock = clock.0, failures, place = %archive.place(), error = %problem,
                    "a checkpoint could not be written; the next one is tried"
                );
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "files of real processes carry the real date")]
fn date() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::checkpoint::tests::{archive, state};

    /// A keeper whose thread has yet to come.
    fn idle_keeper() -> Keeper {
        Keeper { shared: Arc::new(Shared::new()) }
    }

    #[test]
    fn a_newer_state_takes_the_place_of_one_that_waits_and_shards_take_turns() {
        let keeper = idle_keeper();
        for (shard, clock) in [(0, 1), (1, 1), (0, 2)] {
            keeper.offer(state(shard, clock));
        }
        let next = || keeper.shared.next().map(|state| (state.shard.0, state.clock.0));
        assert_eq!(next(), Some((0, 2)));
        assert!(!keeper.is_idle());
        keeper.offer(state(0, 3));
        assert_eq!(next(), Some((1, 1)), "it has waited longer than the other");
        assert_eq!(next(), Some((0, 3)));
        let shared = keeper.shared.clone();
        keeper.offer(state(1, 2));
        drop(keeper);
        assert!(shared.next().is_some(), "what waits is written still");
        assert_eq!(shared.next(), None);
    }

    #[tokio::test]
    async fn what_is_offered_becomes_durable_and_failures_are_counted_and_forgotten() {
        let directory = tempfile::tempdir().expect("a directory");
        let archive = archive(directory.path());
        let keeper = Keeper::start(archive.clone()).expect("a thread");
        let mut durable = keeper.durable();
        keeper.offer(state(0, 7));
        let is_there = |durable: &BTreeMap<_, _>| durable.get(&ShardId(0)) == Some(&Clock(7));
        assert!(durable.wait_for(is_there).await.is_ok());
        keeper.idle().await;
        let status = keeper.status(ShardId(0));
        assert_eq!(status.kept.as_ref().map(|kept| kept.clock), Some(7));
        assert_eq!(keeper.status(ShardId(1)), CheckpointStatus::default());

        // Where the folders of another shard would be, there is a file.
        let blocked = directory.path().join("digits/virginia/shard-1");
        std::fs::write(&blocked, "").expect("a file");
        keeper.offer(state(1, 8));
        keeper.offer(state(0, 8));
        keeper.idle().await;
        let failed = keeper.status(ShardId(1));
        assert_eq!((failed.kept, failed.failures), (None, 1));
        assert!(failed.problem.is_some());
        assert_eq!(keeper.status(ShardId(0)).kept.map(|kept| kept.clock), Some(8), "others go on");

        std::fs::remove_file(&blocked).expect("it is there");
        keeper.offer(state(1, 9));
        keeper.idle().await;
        let status = keeper.status(ShardId(1));
        assert_eq!((status.kept.map(|kept| kept.clock), status.failures, status.problem), (Some(9), 1, None));
        let begun = archive.begin(ShardId(1)).expect("it can be used").checkpoint.expect("there is one");
        assert_eq!(begun.state, state(1, 9));

        // The next process knows of it too.
        let next = idle_keeper();
        next.begin(&begun);
        assert_eq!(next.durable().borrow().get(&ShardId(1)), Some(&Clock(9)));
        let kept = next.status(ShardId(1)).kept.expect("it is there");
        assert_eq!((kept.clock, kept.bytes, kept.write_seconds), (9, begun.bytes, None));
        assert!(kept.age_seconds < 60.0);
    }
}
