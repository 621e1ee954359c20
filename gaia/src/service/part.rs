//! Which of a region's servers and workers a process is.
//!
//! Kind: time-free.

use datacenter::identity::Role;

use super::ServiceError;
use crate::job::region::Region;
use crate::service::status::WHOLE_REGION;

/// Which part of a region a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Region,
    /// One server.
    Server(u16),
    /// One worker.
    Worker(u32),
}

impl Part {
    /// As status, logs and metrics name it.
    pub fn role(self) -> String {
        match self {
            Self::Region => WHOLE_REGION.into(),
            Self::Server(index) => format!("server-{index}"),
            Self::Worker(index) => format!("worker-{index}"),
        }
    }

    pub(super) fn servers(self, region: &Region) -> Vec<u16> {
        match self {
            Self::Region => (0..region.servers).collect(),
            Self::Server(index) => vec![index],
            Self::Worker(_) => Vec::new(),
        }
    }

    pub(super) fn workers(self, region: &Region) -> Vec<u32> {
        match self {
            Self::Region => (0..region.workers()).collect(),
            Self::Server(_) => Vec::new(),
            Self::Worker(index) => vec![index],
        }
    }

    /// Whether the process with this role and index is one of it.
    pub(crate) fn is(self, role: Role, index: u32) -> bool {
        match self {
            Self::Region => true,
            Self::Server(own) => role == Role::Server && index == u32::from(own),
            Self::Worker(own) => role == Role::Worker && index == own,
        }
    }

    /// Whether `region` has such a process.
    pub(crate) fn check(self, region: &Region) -> Result<(), ServiceError> {
        let (role, index, count) = match self {
            Self::Region => return Ok(()),
            Self::Server(index) => ("server", u32::from(index), u32::from(region.servers)),
            Self::Worker(index) => ("worker", index, region.workers()),
        };
        if index < count {
            return Ok(());
        }
        Err(ServiceError::Index { role, index, region: region.name.clone(), count })
    }
}
