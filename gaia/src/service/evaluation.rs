//! The region's copy of the model, scored on the region's data while it is trained.
//!
//! Scoring may take longer than a clock, and must not delay the worker that has the model at hand:
//! so it is given a copy and a thread of its own, one at a time. While one is being scored, others
//! are not even copied.
//!
//! Kind: driver.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use datacenter::client::Client;
use datacenter::{Clock, TableId};
use tracing::info;

use super::setup::Setup;
use crate::learning::application::Model;
use crate::service::status::ScoreStatus;

/// Scores copies of the model.
pub(super) struct Evaluator {
    copies: SyncSender<(Clock, Model)>,
    is_idle: Arc<AtomicBool>,
    score: Arc<Mutex<Option<ScoreStatus>>>,
}

impl Evaluator {
    /// An evaluator of the model of `setup`.
    pub(super) fn start(setup: &Arc<Setup>) -> Self {
        let (copies, queue) = sync_channel(1);
        let score = Arc::<Mutex<Option<ScoreStatus>>>::default();
        let is_idle = Arc::new(AtomicBool::new(true));
        let (setup, latest, done) = (setup.clone(), score.clone(), is_idle.clone());
        thread::Builder::new()
            .name("evaluation".into())
            .spawn(move || score_all(&setup, &queue, &latest, &done))
            .expect("the system has room for another thread");
        Self { copies, is_idle, score }
    }

    /// The latest score.
    pub(super) fn score(&self) -> Option<ScoreStatus> {
        self.score.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Offers a copy of the model, all of which `client` has read.
    pub(super) fn offer(&self, setup: &Setup, client: &Client, clock: Clock) {
        if self.is_idle.swap(false, Ordering::Relaxed) {
            let taken = self.copies.try_send((clock, copy(setup, client)));
            debug_assert!(taken.is_ok(), "there is room for one, and it scores until we are dropped");
        }
    }
}

/// Scores the model that `client` has read.
pub(super) fn score(setup: &Setup, client: &Client, clock: Clock) -> ScoreStatus {
    score_one(setup, clock, &copy(setup, client))
}

fn copy(setup: &Setup, client: &Client) -> Model {
    let values = (0..setup.specs.len() as u16).map(|table| client.values(TableId(table)).to_vec());
    Model::of_tables(&setup.specs, values)
}

fn score_one(setup: &Setup, clock: Clock, model: &Model) -> ScoreStatus {
    let evaluation = setup.application.evaluate(model);
    ScoreStatus {
        clock: clock.0,
        objective: evaluation.objective,
        metric: evaluation.metric.name.to_owned(),
        value: evaluation.metric.value,
    }
}

fn score_all(
    setup: &Setup,
    queue: &Receiver<(Clock, Model)>,
    latest: &Mutex<Option<ScoreStatus>>,
    done: &AtomicBool,
) {
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
        done.store(true, Ordering::Relaxed);
    }
}
