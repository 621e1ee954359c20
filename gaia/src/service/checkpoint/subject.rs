//! Whose state checkpoints hold.
//!
//! Kind: time-free.

use datacenter::{DatacenterId, Placement, ShardId, ShardTable, TableSpec, shard_tables};

use super::content::MAX_HEADER_BYTES;
use crate::service::Setup;

/// What is written into the checkpoints of a region, and what one has to say to be used by it.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// The job's name.
    pub job: String,
    /// The job's digest, whole.
    pub job_digest: [u8; 32],
    /// The region.
    pub region: String,
    /// How many workers it has.
    pub workers: u32,
    /// The names of all regions, in the job's order: files have names, where code has a
    /// [`DatacenterId`].
    pub members: Vec<String>,
    /// How many shards the model is cut into.
    pub shards: u16,
    /// The tables of the model, with distinct names.
    pub tables: Vec<TableSpec>,
    /// What their rows and columns stand for ([`crate::learning::data::Vocabulary`]), as it goes
    /// into the metadata.
    pub vocabulary: Option<String>,
}

impl From<&Setup> for Subject {
    fn from(setup: &Setup) -> Self {
        let region = &setup.region;
        Self {
            job: region.job.name.clone(),
            job_digest: setup.digest,
            region: region.name.clone(),
            workers: region.workers(),
            members: region.members.iter().map(|member| member.name.clone()).collect(),
            shards: region.job.shards,
            tables: setup.specs.clone(),
            vocabulary: setup.vocabulary(),
        }
    }
}

impl Subject {
    /// The tables of `shard`.
    pub fn shapes(&self, shard: ShardId) -> Vec<ShardTable> {
        shard_tables(&self.tables, Placement::new(self.shards), shard)
    }

    /// More bytes than this no checkpoint of `shard` has: nothing larger is read.
    pub fn most_bytes(&self, shard: ShardId) -> u64 {
        let origins = self.members.len() as u64;
        let table = |shape: ShardTable| {
            let elements = shape.elements() as u64;
            // Values, a remainder of all elements with their indexes, and of each origin sums and
            // stamps.
            4 * (3 * elements + origins * (elements + u64::from(shape.slots)))
        };
        MAX_HEADER_BYTES + self.shapes(shard).into_iter().map(table).sum::<u64>()
    }

    /// The name of a region.
    pub(super) fn name(&self, datacenter: DatacenterId) -> &str {
        &self.members[datacenter.index()]
    }

    /// The region of a name.
    pub(super) fn datacenter(&self, name: &str) -> Option<DatacenterId> {
        let place = self.members.iter().position(|member| member == name)?;
        Some(DatacenterId(place as u16))
    }
}
