//! What every process of a region starts from: its settings, its model, and who it is.
//!
//! Kind: driver (reads the data).

use std::sync::Arc;

use datacenter::identity::Identity;
use datacenter::lan::{Security, Terms};
use datacenter::wire::Shapes;
use datacenter::{DatacenterId, Placement, ShardId, TableSpec, shard_tables};
use tracing::warn;
use wan::driver::job_settings::JobSettings;
use wan::node::Grace;
use wan::policy::{Lead, Policy};

use super::ServiceError;
use super::part::Part;
use super::worker::EVALUATOR;
use crate::job::region::Region;
use crate::job::strategy::check_tables;
use crate::learning::application::Application;
use crate::learning::data::DataScope;

/// A region's settings, with the model that they make.
pub struct Setup {
    /// The settings.
    pub region: Region,
    /// The model and its data.
    pub application: Box<dyn Application>,
    /// The model's tables.
    pub specs: Vec<TableSpec>,
    /// How their rows lie on shards.
    pub placement: Placement,
    /// By shard.
    pub shapes: Arc<Shapes>,
    /// What all regions must agree on, hashed.
    pub digest: [u8; 32],
}

impl Setup {
    /// Reads the data of `region`, as far as `part` of it needs it, and makes its model.
    ///
    /// # Errors
    ///
    /// If the data cannot be used, or the job does not fit its model.
    pub fn new(region: Region, part: Part) -> Result<Self, ServiceError> {
        let (parts, first) = match region.job.data_scope {
            DataScope::Shared => (region.all_workers(), region.first_worker()),
            DataScope::Own => (region.workers(), 0),
        };
        let slice = |mine: &[usize]| region.job.input(region.seed).parts(parts as usize, mine).application();
        let application = match part {
            // A server needs no more than the shapes of the tables.
            Part::Server(_) => slice(&[])?,
            Part::Worker(index) if index != EVALUATOR => slice(&[(first + index) as usize])?,
            // Who scores the model does so on all there is.
            Part::Worker(_) | Part::Region => region.job.input(region.seed).application()?,
        };
        if matches!(part, Part::Server(0) | Part::Region) {
            application.remarks().iter().for_each(|remark| warn!("of the data: {remark}"));
        }
        let specs = application.tables();
        check_tables(&region.job, &specs)?;
        let rows = specs.iter().map(|table| table.rows).max().unwrap_or(0);
        if u32::from(region.job.shards) > rows {
            return Err(ServiceError::Shards { found: region.job.shards, rows });
        }
        let placement = Placement::new(region.job.shards);
        let shapes = (0..region.job.shards).map(|shard| shard_tables(&specs, placement, ShardId(shard)));
        let shapes = Arc::new(Shapes(shapes.collect()));
        let digest = region.digest(&specs, application.vocabulary().as_deref());
        Ok(Self { application, specs, placement, shapes, digest, region })
    }

    /// What the rows and columns of the model stand for, as it goes into the metadata of files.
    pub(crate) fn vocabulary(&self) -> Option<String> {
        let vocabulary = self.application.vocabulary()?;
        let text = vocabulary.to_metadata();
        if text.is_none() {
            warn!(
                "there are too many names to write them beside the model: to use it, the job's data will be needed"
            );
        }
        text
    }

    /// What crosses the WAN.
    pub(super) fn policy(&self) -> Policy {
        self.region.strategy.policy(&self.region.job, &self.specs).unwrap_or(Policy::naive(Lead::Unlimited))
    }

    /// How long others are waited for.
    pub(super) fn grace(&self) -> Grace {
        let grace = self.region.grace;
        Grace { workers: grace.worker, server: grace.server, datacenter: grace.datacenter }
    }

    /// What the digest is made of, for a region whose digest differs.
    pub fn job_settings(&self) -> JobSettings {
        self.region.job_settings(&self.specs, self.application.vocabulary().as_deref())
    }

    /// What workers and servers of the region must agree on.
    pub(super) fn terms(&self) -> Terms {
        Terms { datacenter: self.region.name.clone(), job_digest: self.digest.to_vec() }
    }

    /// How connections inside the region are protected, for a process that is `identity`.
    pub(super) fn security(&self, identity: Option<&Identity>) -> Security {
        match identity {
            Some(identity) if !self.region.tls.plaintext_lan => Security::Mutual(identity.clone()),
            _ => Security::Plaintext,
        }
    }

    /// The number of a member.
    pub(super) fn datacenter(&self, name: &str) -> Option<DatacenterId> {
        let place = self.region.members.iter().position(|member| member.name == name)?;
        Some(DatacenterId(place as u16))
    }

    /// The name of a member.
    pub(super) fn name(&self, id: DatacenterId) -> &str {
        self.region.members.get(id.index()).map_or("?", |member| &member.name)
    }

    /// The shards of one of this region's servers.
    pub(crate) fn shards_of(&self, server: u16) -> impl Iterator<Item = ShardId> {
        (0..self.region.job.shards).filter(move |shard| shard % self.region.servers == server).map(ShardId)
    }

    /// The server of this region that hosts `shard`.
    pub(super) fn host(&self, shard: ShardId) -> u16 {
        shard.0 % self.region.servers
    }

    /// The examples of each of this region's workers, and each one's share of all that train the
    /// model.
    pub(crate) fn parts(&self) -> Vec<(Vec<u32>, f64)> {
        let (first, count) = (self.region.first_worker() as usize, self.region.workers() as usize);
        let all = self.region.all_workers() as usize;
        if self.region.job.data_scope == DataScope::Shared {
            let parts = self.application.partition(all);
            let total: usize = parts.iter().map(Vec::len).sum();
            let own = parts.into_iter().skip(first).take(count);
            return own
                .map(|part| (part.len() as f64 / total.max(1) as f64, part))
                .map(|(s, p)| (p, s))
                .collect();
        }
        // Each region has files of its own, and nobody knows how many examples the others have: its
        // workers count.
        let parts = self.application.partition(count);
        let total: usize = parts.iter().map(Vec::len).sum();
        let weight = count as f64 / all as f64;
        parts
            .into_iter()
            .map(|part| {
                let share = weight * part.len() as f64 / total.max(1) as f64;
                (part, share)
            })
            .collect()
    }
}
