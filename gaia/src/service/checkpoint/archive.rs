//! A region's checkpoints: names, the newest that can be used, and how many are kept.
//!
//! Kind: driver.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use datacenter::{Clock, ShardId};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::{info, warn};
use wan::state::ReplicaState;

use super::counts::Counts;
use super::format::{Checkpoint, DecodeError, decode, encode};
use super::place::Place;
use super::seal::hex;
use super::subject::Subject;
use crate::human::with_causes;
use crate::job::region::{CheckpointSettings, CheckpointStart};

/// The checkpoints of a region.
#[derive(Clone, Debug)]
pub struct Archive {
    place: Place,
    subject: Arc<Subject>,
    keep: usize,
    start: CheckpointStart,
    known: Arc<Mutex<Known>>,
    /// What goes into each checkpoint besides its state.
    counts: Arc<Mutex<Counts>>,
}

/// A file of counts with more bytes than this is none. 64 regions of 16 servers make 200 kB.
const MOST_COUNTS_BYTES: u64 = 4 << 20;

/// The counts of one server, beside the checkpoints.
#[derive(Debug, Serialize, Deserialize)]
struct CountsFile {
    /// The job's digest.
    digest: String,
    counts: Counts,
}

/// Whose the files are.
#[derive(Debug, Default)]
struct Known {
    /// Of this process, or of one before it.
    ours: BTreeSet<(ShardId, Clock)>,
    /// There when a shard began, which did not begin with them; or of a process whose place this
    /// one has taken.
    outdated: BTreeSet<(ShardId, Clock)>,
}

/// What a shard begins with.
#[derive(Debug, Default)]
pub struct Begun {
    /// The newest checkpoint that can be used; none for a shard that begins at clock 0.
    pub checkpoint: Option<Checkpoint>,
    /// Newer ones that cannot, newest first.
    pub passed_over: Vec<PassedOver>,
}

/// A checkpoint that cannot be used.
#[derive(Debug, Error)]
#[error("{file} {}", with_causes(reason))]
pub struct PassedOver {
    /// What people call it.
    pub file: String,
    /// Why not.
    pub reason: Unusable,
}

/// Why a checkpoint cannot be used.
#[derive(Debug, Error)]
pub enum Unusable {
    /// It cannot be read.
    #[error("cannot be read")]
    Read(#[source] io::Error),
    /// It is not what it should be.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Why a shard cannot begin.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// Nobody knows what there is.
    #[error("the checkpoints in {place} cannot be listed")]
    List {
        /// Where.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// There are checkpoints, and none can be used. To begin at clock 0 all the same is for
    /// somebody to decide.
    #[error(
        "shard {shard} has checkpoints, and none can be used{}\n  to begin at clock 0 all the same, say checkpoint.start = \"zero\"",
        lines(passed_over)
    )]
    NoneUsable {
        /// Which one.
        shard: u16,
        /// Each with its reason.
        passed_over: Vec<PassedOver>,
    },
}

fn lines(passed_over: &[PassedOver]) -> String {
    passed_over.iter().map(|passed| format!("\n  {passed}")).collect()
}

impl Archive {
    /// The checkpoints of `subject` where `settings` say.
    pub fn new(settings: &CheckpointSettings, subject: Arc<Subject>) -> Self {
        let keep = settings.keep.max(1) as usize;
        let place = (&settings.location).into();
        let (known, counts) = (Arc::default(), Arc::default());
        Self { place, subject, keep, start: settings.start, known, counts }
    }

    /// The same in another place.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// Whose checkpoints these are.
    pub fn subject(&self) -> &Arc<Subject> {
        &self.subject
    }

    /// Where they are.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Deletes what former processes have left half written of `shard`.
    fn sweep(&self, shard: ShardId) -> io::Result<()> {
        self.place.sweep(&self.folder(shard))
    }

    /// What `shard` begins with, as the settings say: the newest checkpoint that can be used, or
    /// nothing where there are none. Asked for once, by the process that is to write them: what
    /// another has left half written is deleted.
    ///
    /// # Errors
    ///
    /// If there are some and none can be used.
    pub fn begin(&self, shard: ShardId) -> Result<Begun, RestoreError> {
        if let Err(error) = self.sweep(shard) {
            warn!(shard = shard.0, %error, "what was left half written stays");
        }
        let mut passed_over = Vec::new();
        if self.start == CheckpointStart::Zero {
            let clocks = self.clocks(shard).unwrap_or_default();
            self.known().outdated.extend(clocks.into_iter().map(|clock| (shard, clock)));
            return Ok(Begun::default());
        }
        let clocks = self.clocks(shard)?;
        for clock in clocks.iter().copied().rev() {
            match self.read(shard, clock) {
                Ok(checkpoint) => {
                    let there = clocks.iter().filter(|there| **there <= clock);
                    self.known().ours.extend(there.map(|clock| (shard, *clock)));
                    self.count(&checkpoint.counts);
                    return Ok(Begun { checkpoint: Some(checkpoint), passed_over });
                }
                Err(passed) => {
                    warn!(shard = shard.0, "passed over: {passed}");
                    self.known().outdated.insert((shard, clock));
                    passed_over.push(passed);
                }
            }
        }
        if passed_over.is_empty() {
            return Ok(Begun::default());
        }
        Err(RestoreError::NoneUsable { shard: shard.0, passed_over })
    }

    /// What server `index` of `servers` goes on with of what has been counted before: once each of
    /// its shards has [begun](Self::begin). Nothing where it begins at clock 0 all the same.
    pub fn begin_counts(&self, index: u16, servers: u16) -> Counts {
        if self.start == CheckpointStart::Zero {
            return Counts::default();
        }
        let entries = self.place.list(&self.counts_folder()).unwrap_or_else(|error| {
            warn!(%error, "what was counted since the last checkpoint is lost: its files cannot be listed");
            Vec::new()
        });
        for entry in entries.iter().filter(|entry| entry.name.ends_with(".json")) {
            match self.read_counts(&entry.name) {
                Ok(counts) => self.count(&counts),
                Err(problem) => warn!(file = self.place.named(&entry.name), "passed over: {problem}"),
            }
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts = std::mem::take(&mut *counts).of_server(index, servers);
        counts.clone()
    }

    fn read_counts(&self, name: &str) -> Result<Counts, String> {
        let file = self.place.get(name, MOST_COUNTS_BYTES).map_err(|error| error.to_string())?;
        let file: CountsFile = serde_json::from_slice(&file).map_err(|error| error.to_string())?;
        let expected = hex(&self.subject.job_digest);
        if file.digest == expected { Ok(file.counts) } else { Err("it is of another job".to_owned()) }
    }

    /// Has this in every checkpoint from now on, as far as it is more than what was there before.
    pub fn count(&self, counts: &Counts) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).raise(counts);
    }

    /// Writes that now, beside the checkpoints of server `index`, for a process that begins before
    /// there is another checkpoint. Only in a directory, where that costs next to nothing; it
    /// outlives the process, though not always a crash of the machine.
    ///
    /// # Errors
    ///
    /// If it cannot be written; what was there is there still.
    pub fn keep_counts(&self, index: u16) -> io::Result<()> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let file = CountsFile { digest: hex(&self.subject.job_digest), counts };
        let content = serde_json::to_vec(&file).expect("plain data");
        self.place.note(&format!("{}/server-{index}.json", self.counts_folder()), &content)
    }

    fn counts_folder(&self) -> String {
        format!("{}/{}/counts", self.subject.job, self.subject.region)
    }

    /// The clocks of which there are checkpoints of `shard`, ascending.
    ///
    /// # Errors
    ///
    /// If the place cannot be listed.
    pub fn clocks(&self, shard: ShardId) -> Result<Vec<Clock>, RestoreError> {
        let folder = self.folder(shard);
        let listed = self.place.list(&folder);
        let entries =
            listed.map_err(|source| RestoreError::List { place: self.place.named(&folder), source })?;
        let clock = |name: &str| clock_of(name.strip_prefix(&folder)?.strip_prefix('/')?);
        let mut clocks: Vec<_> = entries.iter().filter_map(|entry| clock(&entry.name)).collect();
        clocks.sort_unstable();
        Ok(clocks)
    }

    /// Reads the checkpoint of `shard` at `clock`.
    ///
    /// # Errors
    ///
    /// If it cannot be used, with its name and the reason.
    pub fn read(&self, shard: ShardId, clock: Clock) -> Result<Checkpoint, PassedOver> {
        let name = self.name(shard, clock);
        self.read_file(shard, clock, &name)
            .map_err(|reason| PassedOver { file: self.place.named(&name), reason })
    }

    fn read_file(&self, shard: ShardId, clock: Clock, name: &str) -> Result<Checkpoint, Unusable> {
        let file = self.place.get(name, self.subject.most_bytes(shard)).map_err(Unusable::Read)?;
        let checkpoint = decode(&self.subject, shard, &file)?;
        if checkpoint.state.clock != clock {
            let what = format!("its name says {clock}, and its content {}", checkpoint.state.clock);
            return Err(DecodeError::Inconsistent { what }.into());
        }
        Ok(checkpoint)
    }

    /// Writes `state`; yields how many bytes. When this returns it is safely there, and then those
    /// that are not kept any longer are deleted: all but the newest, and those of later clocks that
    /// this shard has passed over when it began. Those that have come since are of a process that
    /// has taken this one's place, and stay.
    ///
    /// # Errors
    ///
    /// If it could not be written, or a process that was started later keeps checkpoints there;
    /// whatever was there is there still. That an old one could not be deleted is only logged.
    pub fn write(&self, state: &ReplicaState, written_at: SystemTime) -> io::Result<u64> {
        self.see_who_else_writes(state)?;
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let file = encode(&self.subject, state, &counts, written_at);
        let bytes = file.len() as u64;
        self.place.put(&self.name(state.shard, state.clock), file)?;
        self.known().ours.insert((state.shard, state.clock));
        match self.clocks(state.shard) {
            Ok(clocks) => self.retire(state.shard, state.clock, &clocks),
            Err(error) => warn!(shard = state.shard.0, "old checkpoints stay: {}", with_causes(&error)),
        }
        Ok(bytes)
    }

    /// Another process of the same server may write here too: one that has taken this one's place,
    /// or the one before it.
    fn see_who_else_writes(&self, state: &ReplicaState) -> io::Result<()> {
        let Some(here) = self.subject.datacenter(&self.subject.region) else { return Ok(()) };
        // That there may be no list yet is for the writing to find out.
        for clock in self.clocks(state.shard).unwrap_or_default() {
            let file = (state.shard, clock);
            if self.known().ours.contains(&file) || self.known().outdated.contains(&file) {
                continue;
            }
            let Ok(found) = self.read(state.shard, clock) else { continue };
            match found.state.life_of(here).cmp(&state.life_of(here)) {
                Ordering::Greater => {
                    return Err(io::Error::other("a process that was started later keeps checkpoints there"));
                }
                Ordering::Equal => self.known().ours.insert(file),
                Ordering::Less => self.known().outdated.insert(file),
            };
        }
        Ok(())
    }

    /// Deletes those of `clocks` (ascending) that are not kept when `newest` is there.
    fn retire(&self, shard: ShardId, newest: Clock, clocks: &[Clock]) {
        let (ours, mut later): (Vec<_>, Vec<_>) = clocks.iter().partition(|clock| **clock <= newest);
        let old = &ours[..ours.len().saturating_sub(self.keep)];
        later.retain(|clock| self.known().outdated.contains(&(shard, *clock)));
        for clock in old.iter().chain(&later) {
            let name = self.name(shard, *clock);
            match self.place.remove(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    warn!(%error, file = self.place.named(&name), "an old checkpoint could not be deleted");
                }
                _ if *clock > newest => {
                    info!(file = self.place.named(&name), "deleted a checkpoint that was passed over");
                }
                _ => {}
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, shard: ShardId) -> String {
        format!("{}/{}/shard-{}", self.subject.job, self.subject.region, shard.0)
    }

    fn name(&self, shard: ShardId, clock: Clock) -> String {
        format!("{}/clock-{:06}.safetensors", self.folder(shard), clock.0)
    }
}

/// The clock in the name of a file.
fn clock_of(name: &str) -> Option<Clock> {
    let digits = name.strip_prefix("clock-")?.strip_suffix(".safetensors")?;
    let clock = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    // As we write it, so that there is one file for each clock.
    (digits == format!("{clock:06}")).then_some(Clock(clock))
}
