//! The names in certificates.
//!
//! Kind: time-free.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// The domain of all names in certificates.
pub(super) const DOMAIN: &str = "gaia";
/// The longest label that DNS allows.
const MAX_LABEL_BYTES: usize = 63;

/// What a certificate lets its holder do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Holds shards, and exchanges updates with the servers of other datacenters.
    Server,
    /// Computes deltas inside its datacenter.
    Worker,
    /// Takes datacenters out of the job for good, by its own datacenter's servers. It is not needed
    /// to look at status.
    Operator,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Server, Self::Worker, Self::Operator];

    /// The role as a label of a name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Worker => "worker",
            Self::Operator => "operator",
        }
    }
}

/// The name in a certificate: a datacenter and a role, written `virginia.server.gaia`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerName {
    datacenter: String,
    role: Role,
}

/// Why something is not a [`PeerName`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PeerNameError {
    /// The datacenter's name is no label of DNS.
    #[error(
        "{found:?} cannot name a datacenter: 1 to {MAX_LABEL_BYTES} lower-case letters, digits and inner \
         hyphens can"
    )]
    NotALabel {
        /// What was given.
        found: String,
    },
    /// Not of the form `datacenter.role.gaia`.
    #[error(
        "{found:?} is not of the form datacenter.role.{DOMAIN} with a role of server, worker or operator"
    )]
    NotAPeer {
        /// What was given.
        found: String,
    },
}

impl PeerName {
    /// The name of a role in a datacenter.
    ///
    /// # Errors
    ///
    /// [`PeerNameError::NotALabel`] when the datacenter's name cannot stand in a certificate.
    pub fn new(datacenter: &str, role: Role) -> Result<Self, PeerNameError> {
        let is_label = (1..=MAX_LABEL_BYTES).contains(&datacenter.len())
            && datacenter.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !datacenter.starts_with('-')
            && !datacenter.ends_with('-');
        if !is_label {
            return Err(PeerNameError::NotALabel { found: datacenter.to_owned() });
        }
        Ok(Self { datacenter: datacenter.to_owned(), role })
    }

    /// The datacenter.
    pub fn datacenter(&self) -> &str {
        &self.datacenter
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The name of one process of this role, which stands in its certificate beside this one.
    pub fn with_index(&self, index: u32) -> String {
        format!("{index}.{self}")
    }
}

/// The index in the name of one process of `peer`, written `2.virginia.worker.gaia`. It has a label
/// more than a [`PeerName`], so that neither is ever taken for the other.
pub(super) fn index_in(name: &str, peer: &PeerName) -> Option<u32> {
    let (index, rest) = name.split_once('.')?;
    (rest == peer.to_string()).then(|| index.parse().ok())?
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{DOMAIN}", self.datacenter, self.role.as_str())
    }
}

impl FromStr for PeerName {
    type Err = PeerNameError;

    fn from_str(name: &str) -> Result<Self, PeerNameError> {
        let not_a_peer = || PeerNameError::NotAPeer { found: name.to_owned() };
        let labels: Vec<&str> = name.split('.').collect();
        let &[datacenter, role, DOMAIN] = labels.as_slice() else {
            return Err(not_a_peer());
        };
        let role = Role::ALL.into_iter().find(|known| known.as_str() == role).ok_or_else(not_a_peer)?;
        Self::new(datacenter, role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for role in Role::ALL {
            let name = PeerName::new("us-east-1", role).unwrap();
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        let name: PeerName = "virginia.server.gaia".parse().unwrap();
        assert_eq!((name.datacenter(), name.role()), ("virginia", Role::Server));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let worker = PeerName::new("virginia", Role::Worker).unwrap();
        assert_eq!(index_in(&worker.with_index(12), &worker), Some(12));
        assert!(worker.with_index(12).parse::<PeerName>().is_err(), "it is not a peer's");
        for other in ["virginia.worker.gaia", "x.virginia.worker.gaia", "1.virginia.server.gaia"] {
            assert_eq!(index_in(other, &worker), None, "{other}");
        }
        for label in ["", "Virginia", "a.b", "-a", "a-", "a_b", &"a".repeat(64)] {
            assert!(PeerName::new(label, Role::Server).is_err(), "{label:?}");
        }
        for name in
            ["virginia", "virginia.server", "virginia.king.gaia", "virginia.server.example", ".server.gaia"]
        {
            assert!(name.parse::<PeerName>().is_err(), "{name:?}");
        }
    }
}
