//! Counts of connections that were refused, by cause.
//!
//! Kind: driver.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::identity::{self, Party};
use crate::metrics;

/// Which connections are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Those inside a datacenter.
    #[default]
    Lan,
    /// Those between datacenters.
    Wan,
}

impl Scope {
    /// Its name, as metrics and status write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Wan => "wan",
        }
    }
}

/// A kind of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    /// Why, as metrics name it.
    pub cause: &'static str,
    /// Whether it was us who refused.
    pub by_us: bool,
}

/// Causes that one side tells the other by name, before it closes a connection; TLS has names of
/// its own for those of handshakes, [`identity::Cause`](crate::identity::Cause).
const CAUSES: [&str; 12] = [
    "version",
    "job",
    "name",
    "role",
    "no_certificate",
    "unknown_worker",
    "replaced",
    "left",
    "revoked",
    "plaintext",
    "request",
    "protocol",
];

impl From<&identity::Refused> for Refused {
    fn from(refused: &identity::Refused) -> Self {
        Self { cause: refused.cause.as_str(), by_us: refused.by == Party::Us }
    }
}

impl Refused {
    /// What the other side says of why it refused us.
    pub fn by_them(cause: &str) -> Self {
        let known = CAUSES.into_iter().find(|known| *known == cause);
        Self { cause: known.unwrap_or("other"), by_us: false }
    }
}

/// How often each kind has occurred; each is [recorded](metrics::refusals) too. Cheap to clone;
/// clones count together.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    scope: Scope,
    counts: Arc<Mutex<BTreeMap<Refused, u64>>>,
}

impl Refusals {
    /// None so far.
    pub fn new(scope: Scope) -> Self {
        Self { scope, counts: Arc::default() }
    }

    /// Of which connections.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// One more.
    pub fn count(&self, refused: Refused) {
        *self.counts().entry(refused).or_default() += 1;
        metrics::refusals(self.scope, refused).increment(1);
    }

    /// All so far.
    pub fn all(&self) -> BTreeMap<Refused, u64> {
        self.counts().clone()
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<Refused, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
