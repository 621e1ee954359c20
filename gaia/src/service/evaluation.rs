//! The region's copy of the model, scored on the region's data while it is trained.
//!
//! Scoring may take longer than a clock, and must not delay the worker that has the model at hand: so it is given a copy
//! and a thread of its own, one at a time. A copy that comes while the last one is still being scored is passed over.
//!
//! Kind: driver.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use datacenter::client::Client;
use datacenter::{Clock, TableId};
use tracing::info;

use super::setup::Setup;
use crate::model::Tables;
use crate::status::ScoreStatus;

/// Scores copies of the model.
pub(super) struct Evaluator {
    copies: SyncSender<(Clock, Tables)>,
    score: Arc<Mutex<Option<ScoreStatus>>>,
}

impl Evaluator {
    /// An evaluator of the model of `setup`.
    pub(super) fn start(setup: &Arc<Setup>) -> Self {
        let (copies, queue) = sync_channel(1);
        let score = Arc::<Mutex<Option<ScoreStatus>>>::default();
        let (setup, latest) = (setup.clone(), score.clone());
        thread::Builder::new()
            .name("evaluation".into())
            .spawn(move || score_all(&setup, &queue, &latest))
            .expect("the system has room for another thread");
        Self { copies, score }
    }

    /// The latest score.
    pub(super) fn score(&self) -> Option<ScoreStatus> {
        self.score.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Offers a copy of the model, all of which `client` has read.
    pub(super) fn offer(&self, setup: &Setup, client: &Client, clock: Clock) {
        // Copying costs as much as reading; only worth it if it will be scored.
        match self.copies.try_send((clock, copy(setup, client))) {
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => unreachable!("it scores until we are dropped"),
        }
    }
}

/// Scores the model that `client` has read.
pub(super) fn score(setup: &Setup, client: &Client, clock: Clock) -> ScoreStatus {
    score_one(setup, clock, &copy(setup, client))
}

fn copy(setup: &Setup, client: &Client) -> Tables {
    let values = (0..setup.specs.len() as u16).map(|table| client.values(TableId(table)).to_vec());
    Tables::new(&setup.specs, values.collect())
}

fn score_one(setup: &Setup, clock: Clock, tables: &Tables) -> ScoreStatus {
    let evaluation = setup.application.evaluate(tables);
    ScoreStatus {
        clock: clock.0,
        objective: evaluation.objective,
        metric: evaluation.metric.name.to_owned(),
        value: evaluation.metric.value,
    }
}

fn score_all(setup: &Setup, queue: &Receiver<(Clock, Tables)>, latest: &Mutex<Option<ScoreStatus>>) {
    while let Ok((clock, tables)) = queue.recv() {
        let score = score_one(setup, clock, &tables);
        info!(
            clock = clock.0,
            objective = score.objective,
            metric = score.metric,
            value = score.value,
            "scored"
        );
        *latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(score);
    }
}
