//! One worker: a learner that trains over a [`Connection`], clock by clock.
//!
//! Computing blocks, so a worker has a thread of its own; its connections live in the process's
//! runtime.
//!
//! Kind: driver.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use datacenter::Clock;
use emulation::seed;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{Instrument, info, info_span, warn};

use super::ServiceError;
use super::connection::{Completion, Connection, Ended, Fetched, asked};
use super::evaluation::{Evaluator, score};
use super::notes::Notes;
use super::session::Route;
use super::setup::Setup;
use crate::human::with_causes;
use crate::learning::application::{Learner, RowSet, StepError, Work, Workspace};
use crate::seeds::purpose;
use crate::service::status::WorkerStatus;

/// Until a step that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The worker that scores the region's copy of the model.
pub(super) const EVALUATOR: u32 = 0;

/// Starts worker `index` of the region in a thread of its own. It stops early, in order, when
/// `stop` turns true.
pub(super) fn start(
    setup: Arc<Setup>,
    index: u32,
    (examples, share): (Vec<u32>, f64),
    route: Route,
    stop: watch::Receiver<bool>,
    notes: Notes,
) -> oneshot::Receiver<Result<Ended, ServiceError>> {
    let (ended, result) = oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    let span = info_span!("worker", region = setup.region.name, worker = index);
    thread::Builder::new()
        .name(format!("worker {index}"))
        .spawn(move || {
            notes.lock().status =
                WorkerStatus { index, examples: examples.len() as u64, ..Default::default() };
            let which = u64::from(setup.region.first_worker() + index);
            let seed = |purpose| seed::derive(setup.region.seed, &[purpose, which]);
            let worker = Worker {
                learner: setup.application.learner(examples, share, seed(purpose::LEARNER)),
                jitter: ChaCha8Rng::seed_from_u64(seed(purpose::JITTER)),
                evaluator: (index == EVALUATOR).then(|| Evaluator::start(&setup)),
                connection: Connection::new(setup.clone(), index, route, stop.clone(), notes.clone()),
                setup: &setup,
                stop,
                notes,
            };
            // Nobody is there any more only if the process is ending.
            let _ = ended.send(runtime.block_on(worker.run().instrument(span)));
        })
        .expect("the system has room for another thread");
    result
}

struct Worker<'a> {
    setup: &'a Arc<Setup>,
    connection: Connection,
    learner: Box<dyn Learner + 'a>,
    /// Of a declared cost of computing.
    jitter: ChaCha8Rng,
    evaluator: Option<Evaluator>,
    stop: watch::Receiver<bool>,
    notes: Notes,
}

/// What became of a step.
enum Step {
    /// It is done.
    Done(Work),
    /// It came to nothing.
    Failed(StepError),
    /// A server is about to stop, or has started anew: what the step has done is given up.
    Moved,
    /// The process is to stop: the same.
    Ended(Ended),
}

impl Worker<'_> {
    /// Trains until there is nothing more to do.
    async fn run(mut self) -> Result<Ended, ServiceError> {
        loop {
            if let Some(ended) = self.train().await? {
                return Ok(ended);
            }
            if let Some(ended) = self.result().await? {
                drop(self.evaluator.take());
                self.connection.deliver_last().await?;
                return Ok(ended);
            }
        }
    }

    /// Trains until all clocks are done; yields how the worker has ended if it has before that.
    async fn train(&mut self) -> Result<Option<Ended>, ServiceError> {
        let job = &self.setup.region.job;
        let mut workspace = Workspace::new(self.setup.specs.len());
        let mut failures = 0;
        loop {
            if let Some(ended) = self.connection.join().await? {
                return Ok(Some(ended));
            }
            let clock = self.connection.at();
            if clock.0 >= job.clocks {
                return Ok(None);
            }
            if *self.stop.borrow() {
                return self.connection.stop().await.map(Some);
            }
            match self.fetch(&mut workspace, clock).await? {
                Fetched::Ready => {}
                Fetched::Moved => continue,
                Fetched::Ended(ended) => return Ok(Some(ended)),
            }
            let fetched = Instant::now();
            let work = match self.step(&mut workspace, clock).await? {
                Step::Done(work) => work,
                Step::Moved => continue,
                Step::Ended(ended) => return Ok(Some(ended)),
                Step::Failed(source) => match self.count_failure(&mut failures, clock, source).await {
                    Ok(()) => continue,
                    Err(error) => return self.connection.fail(error).await.map(Some),
                },
            };
            failures = 0;
            if let Some(compute) = self.setup.region.compute {
                sleep_until(fetched + compute.clock_time(work, 1.0, self.jitter.random())).await;
            }
            if let Some(ended) = self.connection.flush().await? {
                return Ok(Some(ended));
            }
            self.note(work);
        }
    }

    /// Reads what the learner declares for a clock, and scores the model where that is due.
    async fn fetch(&mut self, workspace: &mut Workspace, clock: Clock) -> Result<Fetched, ServiceError> {
        let rows = workspace.begin(&mut *self.learner, clock.0);
        let evaluator = self.evaluator.as_ref().filter(|_| clock.0 > 0);
        let every = self.setup.region.job.evaluate_every;
        let evaluator = evaluator.filter(|_| clock.0.is_multiple_of(every));
        let fetched = match evaluator {
            Some(_) => self.connection.fetch_once(&mut with_all(self.setup, rows)).await?,
            None => self.connection.fetch_once(rows).await?,
        };
        if !matches!(fetched, Fetched::Ready) {
            return Ok(fetched);
        }
        let now_at = self.connection.at();
        if now_at > clock {
            warn!(clock = now_at.0, left = clock.0, "others went on without this worker: going on there");
            return Ok(Fetched::Moved);
        }
        if let Some(evaluator) = evaluator {
            evaluator.offer(self.setup, self.connection.client(), clock);
        }
        Ok(Fetched::Ready)
    }

    /// Has the learner train for one clock, whose rows are there.
    async fn step(&mut self, workspace: &mut Workspace, clock: Clock) -> Result<Step, ServiceError> {
        loop {
            match workspace.step(&mut *self.learner, clock.0, self.connection.client()) {
                Ok(Some(work)) => return Ok(Step::Done(work)),
                Ok(None) => {}
                Err(error) => {
                    self.connection.discard();
                    return Ok(Step::Failed(error));
                }
            }
            match self.connection.fetch_once(workspace.extension()).await? {
                Fetched::Ready => {}
                Fetched::Moved => {
                    self.connection.discard();
                    return Ok(Step::Moved);
                }
                Fetched::Ended(ended) => return Ok(Step::Ended(ended)),
            }
        }
    }

    /// Counts a step that failed, and waits until it is tried again; fails where that has been done
    /// often enough.
    async fn count_failure(
        &self,
        failures: &mut u32,
        clock: Clock,
        source: StepError,
    ) -> Result<(), ServiceError> {
        let allowed = self.setup.region.step_retries;
        self.notes.turn_to(None, Instant::now());
        self.notes.lock().status.failed_steps += 1;
        self.notes.metrics.failed_steps.increment(1);
        if *failures == allowed {
            let worker = self.connection.worker();
            return Err(ServiceError::Step { worker, clock: clock.0, source });
        }
        *failures += 1;
        warn!(
            clock = clock.0,
            error = with_causes(&*source),
            "a step of the model failed; trying it again in {} s, {failures} of {allowed}",
            RETRY.as_secs()
        );
        tokio::select! {
            () = sleep(RETRY) => {}
            () = asked(self.stop.clone()) => {}
        }
        Ok(())
    }

    /// Notes that a clock has ended, for whoever asks.
    fn note(&self, work: Work) {
        let mut notes = self.notes.lock();
        notes.status.processed_examples += work.examples;
        self.notes.metrics.processed_examples.increment(work.examples);
        if let Some(evaluator) = &self.evaluator {
            notes.status.score = evaluator.score().or(notes.status.score.take());
        }
    }

    /// Waits until the job is done everywhere, and hears what its result lacks; scores it, where
    /// this worker does so. None if a server starts anew before that.
    async fn result(&mut self) -> Result<Option<Ended>, ServiceError> {
        let mut ended = match self.connection.complete().await? {
            Completion::Settled(ended) => ended,
            Completion::Ended(ended) => return Ok(Some(ended)),
            Completion::Again => return Ok(None),
        };
        if self.evaluator.is_none() {
            return Ok(Some(ended));
        }
        match self.connection.fetch_result().await? {
            Some(true) => {}
            Some(false) => return Ok(Some(ended)),
            None => return Ok(None),
        }
        let clock = self.connection.at();
        let last = score(self.setup, self.connection.client(), clock);
        info!(clock = clock.0, objective = last.objective, metric = last.metric, value = last.value, "done");
        ended.score = Some(last.clone());
        self.notes.lock().status.score = Some(last);
        Ok(Some(ended))
    }
}

/// `rows` and all others that there are.
fn with_all(setup: &Setup, rows: &RowSet) -> RowSet {
    let mut all = rows.clone();
    all.insert_tables(&setup.specs);
    all
}
