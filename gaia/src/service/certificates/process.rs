//! Which process a certificate is for.

use std::fmt;
use std::str::FromStr;

use datacenter::identity::{PeerName, PeerNameError, Role};
use thiserror::Error;

/// A process: `virginia-server-0`, by which its files are named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessName {
    peer: PeerName,
    index: u32,
}

/// Why something does not name a process.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ProcessError {
    /// Not of the form `datacenter-role-index`.
    #[error("{found:?} names no process; expected datacenter-role-index, such as virginia-server-0")]
    NotAProcess {
        /// What was given.
        found: String,
    },
    /// No name for a datacenter.
    #[error(transparent)]
    Peer(#[from] PeerNameError),
}

impl ProcessName {
    /// The process of that role and number in a datacenter.
    pub fn new(peer: PeerName, index: u32) -> Self {
        Self { peer, index }
    }

    /// Its datacenter and role, the name in its certificate.
    pub fn peer(&self) -> &PeerName {
        &self.peer
    }

    /// Its number among those of its role.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// What its certificate calls it, for people: "virginia server 0".
    pub fn common_name(&self) -> String {
        format!("{} {} {}", self.peer.datacenter(), self.peer.role().as_str(), self.index)
    }
}

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.peer.datacenter(), self.peer.role().as_str(), self.index)
    }
}

impl FromStr for ProcessName {
    type Err = ProcessError;

    fn from_str(name: &str) -> Result<Self, ProcessError> {
        let not_a_process = || ProcessError::NotAProcess { found: name.to_owned() };
        // From the right: a datacenter's name may have hyphens of its own.
        let mut parts = name.rsplitn(3, '-');
        let mut part = || parts.next().ok_or_else(not_a_process);
        let (index, role, datacenter) = (part()?, part()?, part()?);
        let index = index.parse().map_err(|_| not_a_process())?;
        let role = Role::ALL.into_iter().find(|known| known.as_str() == role).ok_or_else(not_a_process)?;
        Ok(Self::new(PeerName::new(datacenter, role)?, index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in ["virginia-server-0", "us-east-1-worker-12", "virginia-operator-3"] {
            assert_eq!(name.parse::<ProcessName>().unwrap().to_string(), name);
        }
        let name: ProcessName = "us-east-1-worker-12".parse().unwrap();
        assert_eq!(name.common_name(), "us-east-1 worker 12");
        assert_eq!(name.peer().to_string(), "us-east-1.worker.gaia");
        for name in ["virginia", "virginia-server", "virginia-king-0", "virginia-server-x", "-server-0"] {
            assert!(name.parse::<ProcessName>().is_err(), "{name}");
        }
    }
}
