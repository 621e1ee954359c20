//! What a process tells of itself: the content of `/status`, and what `/metrics` and `gaia status`
//! are made of.
//!
//! Kind: time-free. One value, taken at one moment, from which all faces are derived, so that they
//! never disagree. Counters only grow while a process lives; those of bytes between regions, of
//! elements and of holds go on from where the process before it was, as far as that was kept
//! (`checkpoint::Counts`). Durations are in seconds, sizes in bytes on the wire unless a name says
//! payload.

pub mod fetch;
#[cfg(test)]
pub(crate) mod made_up;
pub mod totals;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::filters::FilterStatus;
use crate::service::participation::RegionPart;

/// One process: some of a region's servers and workers, often one of either.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The region.
    pub datacenter: String,
    /// What this process is: `server-0`, `worker-2`, or `region` for all of a region's roles in
    /// one. Logs and metrics call it the same.
    pub role: String,
    /// How far it is.
    pub phase: Phase,
    /// What it waits for, in words, one for each thing; empty where it does not wait.
    pub waiting_for: Vec<String>,
    /// Since it started.
    pub uptime_seconds: f64,
    /// What is trained.
    pub job: JobStatus,
    /// Which regions have taken part in the model that its servers have, and up to which clock of
    /// each; empty where it has none.
    #[serde(default)]
    pub regions: Vec<RegionPart>,
    /// The servers in this process.
    pub servers: Vec<ServerStatus>,
    /// The workers in this process.
    pub workers: Vec<WorkerStatus>,
    /// Its certificates.
    pub certificates: Vec<CertificateStatus>,
    /// Connections that were refused, here or by the other side, by scope (`lan`, `wan`) and cause.
    pub refusals: Vec<Refusals>,
}

/// The role of a process that has all of its region's.
pub const WHOLE_REGION: &str = "region";

/// How far a process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It reads its settings and data, and opens its sockets.
    #[default]
    Starting,
    /// It waits for others before it can train; see `waiting_for`.
    Waiting,
    /// It trains, or serves those who do.
    Training,
    /// It was asked to stop, and hands over what it has.
    Draining,
    /// The job is done; it serves until it is stopped.
    Finished,
}

impl Phase {
    /// All of them, in the order in which a process goes through them.
    pub const ALL: [Self; 5] =
        [Self::Starting, Self::Waiting, Self::Training, Self::Draining, Self::Finished];

    /// Whether the process goes as soon as it can: that it no longer answers is no surprise then.
    pub fn is_end(self) -> bool {
        match self {
            Self::Starting | Self::Waiting | Self::Training => false,
            Self::Draining | Self::Finished => true,
        }
    }

    /// Its name, as JSON and metrics write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Waiting => "waiting",
            Self::Training => "training",
            Self::Draining => "draining",
            Self::Finished => "finished",
        }
    }
}

/// The job, as this process knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Its name.
    pub name: String,
    /// The first bytes of its digest, in hex; the same in every process of the job.
    pub digest: String,
    /// What crosses the WAN: `asp`, `bsp`.
    pub strategy: String,
    /// How many clocks every worker runs.
    pub clocks: u32,
}

/// One server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Its index in its region.
    pub index: u16,
    /// The shards that it hosts.
    pub shards: Vec<ShardStatus>,
    /// The workers that train on them: connected and counted in the shards' clocks.
    pub workers: Vec<u32>,
    /// Workers that should train on them and are not connected.
    pub missing_workers: Vec<MissingWorker>,
    /// How often the others went on without a worker that was gone.
    pub suspensions: u64,
    /// Its links to servers of other regions.
    pub links: Vec<LinkStatus>,
    /// All that its WAN socket sent, whoever it went to.
    pub wan_sent_bytes: u64,
    /// All that its WAN socket received.
    pub wan_received_bytes: u64,
}

/// A worker that a server hears nothing of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MissingWorker {
    /// Which one.
    pub worker: u32,
    /// What the server makes of it.
    pub state: Absence,
    /// Since something was last heard of it; since the server started where it has never come.
    pub seconds: f64,
    /// How its connection ended; none if it has never come.
    pub reason: Option<String>,
}

/// What is made of a worker that is not connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Absence {
    /// It is waited for: it may be back soon, or has yet to come.
    #[default]
    Suspected,
    /// It has been away for longer than the grace time, and the others go on without it.
    Gone,
}

/// A worker that is behind the others of its shard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Straggler {
    /// Which one.
    pub worker: u32,
    /// How many clocks it is behind the first.
    pub clocks: u32,
    /// For how long others have been waiting for it by now; 0 if nobody does.
    pub seconds: f64,
}

/// One shard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Which one.
    pub shard: u16,
    /// How many clocks its workers have completed.
    pub clock: u32,
    /// Whether it has begun with nothing, and what the other regions have of it is not here yet.
    /// Workers do not come before.
    #[serde(default)]
    pub fetching: bool,
    /// Its mirrors in the other regions.
    pub mirrors: Vec<MirrorStatus>,
    /// Where its workers are not all at the same clock: those that are behind all others.
    pub slowest_workers: Vec<Straggler>,
    /// Reads that are held now.
    pub holds: Vec<HoldStatus>,
    /// For how long reads have been held in all, by reason, those of all workers added up.
    pub held_seconds: BTreeMap<String, f64>,
    /// Elements that local updates have touched, counted once a clock.
    pub updated_elements: u64,
    /// Those of them that were significant, and shipped.
    pub shipped_elements: u64,
    /// How many clocks there are from one release to the next; none where a process does not tell.
    #[serde(default)]
    pub release_every: Option<u32>,
    /// What its tables are filtered by; empty where everything is shipped.
    #[serde(default)]
    pub filters: Vec<FilterStatus>,
    /// How its checkpoints are; none where none are made.
    #[serde(default)]
    pub checkpoint: Option<CheckpointStatus>,
}

/// The checkpoints of a shard, as far as this process has made them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckpointStatus {
    /// The newest that is safely there.
    pub kept: Option<KeptStatus>,
    /// How many could not be written.
    pub failures: u64,
    /// Why the last one could not, if it could not.
    pub problem: Option<String>,
}

/// A checkpoint that is safely there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeptStatus {
    /// At which clock it was made.
    pub clock: u32,
    /// Since it has been there.
    pub age_seconds: f64,
    /// How large it is.
    pub bytes: u64,
    /// How long it took to be written; none for one of a former process.
    pub write_seconds: Option<f64>,
}

/// What a shard knows of its mirror in another region.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MirrorStatus {
    /// The region.
    pub datacenter: String,
    /// The last clock of it whose data has all arrived.
    pub clock: u32,
    /// By how many clocks this shard leads it.
    pub lead: u32,
    /// By how many it may (`DS`); none where that is not bounded or not known yet.
    pub lead_limit: Option<u32>,
    /// Whether nobody waits for it: it has no workers now.
    pub idle: bool,
    /// Whether it is there.
    #[serde(default)]
    pub presence: MirrorPresence,
    /// For how long nothing has been heard from its server.
    #[serde(default)]
    pub silent_seconds: f64,
}

/// Whether a shard's mirror in another region is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MirrorPresence {
    /// It is heard.
    #[default]
    Live,
    /// It is not heard, and waited for.
    Suspected,
    /// It is back and has yet to catch up: nobody waits for it until it has.
    Behind,
    /// Its server has been stopped, and may come back.
    Stopped,
    /// It has been silent for longer than the grace time, and nobody waits for it.
    Gone,
    /// Its region has left the job for good.
    Left,
}

/// A read that is held.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HoldStatus {
    /// Who reads.
    pub worker: u32,
    /// Why: `stale`, `barrier`, `mirror_clock`, `fetching`.
    pub reason: String,
    /// The region that is waited for, where there is one.
    pub datacenter: Option<String>,
    /// For how long, by now.
    pub seconds: f64,
}

/// One server's link to a server of another region.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The region.
    pub datacenter: String,
    /// Which of its servers.
    pub server: u16,
    /// Whether it is up.
    pub up: bool,
    /// Why it is not, where that is known.
    pub problem: Option<String>,
    /// Since it came up or went down.
    pub since_seconds: f64,
    /// Where the other end is, while it is up.
    pub address: Option<String>,
    /// How often it has come up.
    pub connects: u64,
    /// There and back.
    pub round_trip_seconds: Option<f64>,
    /// What it has been seen to carry, or what the settings say, in bytes of payload a second.
    pub rate_bytes_per_sec: Option<f64>,
    /// What the budget allowed to send in the last ten seconds, in bytes a second on the wire; none
    /// without a budget.
    pub budget_bytes_per_sec: Option<f64>,
    /// Which share of that was sent.
    pub budget_used: Option<f64>,
    /// Payload that waits to be sent.
    pub backlog_bytes: u64,
    /// How long the link needs for that.
    #[serde(deserialize_with = "number")]
    pub backlog_seconds: f64,
    /// Payload sent and not confirmed.
    pub in_flight_bytes: u64,
    /// Bytes sent, on the wire.
    pub sent_bytes: u64,
    /// Bytes received, on the wire.
    pub received_bytes: u64,
    /// Of those sent, payload of updates, each counted once.
    pub sent_payload_bytes: u64,
    /// Of those sent, what was sent again.
    pub repeated_bytes: u64,
    /// What shipping every update would have sent, on the wire, as long as the region was there.
    pub naive_bytes: u64,
    /// Rows announced by selective barriers.
    pub announced_rows: u64,
}

/// One worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its index in its region.
    pub index: u32,
    /// How many clocks it has completed.
    pub clock: u32,
    /// How many examples it trains on.
    pub examples: u64,
    /// How many it has processed.
    pub processed_examples: u64,
    /// Of its time, what went into computing.
    pub compute_seconds: f64,
    /// And what into waiting for rows.
    pub wait_seconds: f64,
    /// How many of its steps have failed.
    #[serde(default)]
    pub failed_steps: u64,
    /// The region's copy of the model, scored on the region's data; the worker with index 0 does
    /// that.
    pub score: Option<ScoreStatus>,
}

/// A score of a region's copy of the model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScoreStatus {
    /// At which clock.
    pub clock: u32,
    /// The training objective; not a number once training has diverged.
    #[serde(deserialize_with = "number")]
    pub objective: f64,
    /// The name of the metric.
    pub metric: String,
    /// Its value; not a number once training has diverged.
    #[serde(deserialize_with = "number")]
    pub value: f64,
}

/// A certificate in use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// Whose: `virginia.server.gaia`, or the authority's name.
    pub name: String,
    /// Its serial number, in hex.
    pub serial: String,
    /// Until it expires, negative after that.
    pub seconds_to_expiry: f64,
}

/// How often connections were refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusals {
    /// `lan` or `wan`.
    pub scope: String,
    /// `unknown_authority`, `expired`, `not_yet_valid`, `revoked`, `name`, `role`,
    /// `no_certificate`, `plaintext`, `version`, `job`, `unknown_datacenter`, `own_name`,
    /// `unknown_worker`, `replaced`, `left`, `protocol`.
    pub cause: String,
    /// Who refused: `us` or `them`.
    pub by: String,
    /// How often.
    pub count: u64,
}

/// A number, or `null`, which is how JSON writes one that is infinite or none.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_has_diverged_can_still_be_told_of() {
        let score =
            ScoreStatus { clock: 3, objective: f64::NAN, metric: "rmse".to_owned(), value: f64::INFINITY };
        let json = serde_json::to_string(&score).expect("plain data");
        let read: ScoreStatus = serde_json::from_str(&json).expect("what was written");
        assert!(read.objective.is_nan() && read.value.is_nan(), "{json}");
    }

    #[test]
    fn phases_are_written_as_they_are_named() {
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).expect("plain data"), phase.name());
        }
    }
}
