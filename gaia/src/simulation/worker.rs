//! One worker's loop: read, compute, flush.

use std::collections::BTreeMap;
use std::time::Duration;

use datacenter::TableId;
use datacenter::client::Client;
use datacenter::local::{Session, SessionError};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wan::emulation::VirtualClock;

use super::vigil::Vigil;
use crate::application::{Learner, RowAccess, RowSet};
use crate::scenario::ComputeSettings;

/// Seconds that a worker's reads were held, by reason.
pub(super) type Holds = BTreeMap<&'static str, Duration>;

/// What a worker is made of.
pub(super) struct Worker<'a> {
    /// Which part of the data it trains on.
    pub(super) part: usize,
    pub(super) learner: Box<dyn Learner + 'a>,
    pub(super) session: Session,
    pub(super) tables: usize,
    pub(super) clocks: u32,
    pub(super) compute: ComputeSettings,
    pub(super) speed: f64,
    /// For the jitter of its clocks.
    pub(super) seed: u64,
}

impl Worker<'_> {
    /// Trains for all clocks.
    pub(super) async fn run(mut self, time: VirtualClock, vigil: &Vigil) -> Result<Holds, SessionError> {
        let mut holds = Holds::new();
        let mut rows = RowSet::new(self.tables);
        let mut jitter = ChaCha8Rng::seed_from_u64(self.seed);
        for clock in 0..self.clocks {
            rows.clear();
            self.learner.rows(clock, &mut rows);
            let held = self.session.fetch(rows.sorted()).await?;
            // A worker waits for the slowest answer; reasons of the same name (two peers' barriers) do not add up.
            let mut longest = Holds::new();
            for (why, time) in held {
                let entry = longest.entry(why.name()).or_default();
                *entry = time.max(*entry);
            }
            longest.into_iter().for_each(|(why, time)| *holds.entry(why).or_default() += time);
            let work = self.learner.step(clock, &mut Rows(self.session.client()));
            // The deltas exist already, but nobody sees them before the declared time has passed.
            let done_at =
                time.now().saturating_add(self.compute.clock_time(work, self.speed, jitter.random()));
            vigil.computes(done_at);
            time.sleep_until(done_at).await;
            self.session.clock().await?;
            vigil.completed(self.part, clock + 1, time.now());
        }
        Ok(holds)
    }
}

/// A learner's view of its cache.
struct Rows<'a>(&'a mut Client);

impl RowAccess for Rows<'_> {
    fn row(&self, table: TableId, row: u32) -> &[f32] {
        self.0.row(table, row)
    }

    fn add(&mut self, table: TableId, row: u32, delta: &[f32]) {
        self.0.add(table, row, delta);
    }
}
