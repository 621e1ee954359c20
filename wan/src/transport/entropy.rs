//! Where the randomness of an endpoint comes from.
//!
//! Kind: time-free.

use quinn::ConnectionIdGenerator;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use emulation::seed;

/// Where keys, connection ids and quinn's own choices come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entropy {
    /// From a seed, so that a simulation repeats itself. Offers no secrecy at all.
    Seeded(u64),
    /// From the operating system.
    System,
}

/// What a generator of an endpoint is for.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Connection = 1,
    ConnectionIds = 2,
    FirstConnectionIds = 3,
    ResetKey = 4,
    TokenKey = 5,
    Certificate = 6,
}

impl Entropy {
    /// The randomness of one of several endpoints that share a seed; the system's needs no telling apart.
    #[must_use]
    pub fn derive(self, label: u64) -> Self {
        match self {
            Self::Seeded(seed) => Self::Seeded(seed::derive(seed, &[label])),
            Self::System => Self::System,
        }
    }

    /// A generator for one purpose; nothing where the system decides.
    pub(super) fn generator(self, purpose: Purpose) -> Option<ChaCha8Rng> {
        match self {
            Self::Seeded(seed) => Some(ChaCha8Rng::seed_from_u64(seed::derive(seed, &[purpose as u64]))),
            Self::System => None,
        }
    }

    /// Fills `bytes`.
    ///
    /// # Panics
    ///
    /// If the operating system has no randomness to give, where no key could be made either.
    pub(super) fn fill(self, purpose: Purpose, bytes: &mut [u8]) {
        match self.generator(purpose) {
            Some(mut generator) => generator.fill_bytes(bytes),
            None => ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), bytes)
                .expect("the operating system gives randomness"),
        }
    }
}

/// Connection ids from a seed.
pub(super) struct SeededConnectionIds(pub(super) ChaCha8Rng);

impl ConnectionIdGenerator for SeededConnectionIds {
    fn generate_cid(&mut self) -> quinn::ConnectionId {
        let mut bytes = [0; CONNECTION_ID_BYTES];
        self.0.fill_bytes(&mut bytes);
        quinn::ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

/// As long as those that quinn generates, so that packets of a simulation have the sizes of real ones.
pub(super) const CONNECTION_ID_BYTES: usize = 8;
