//! One worker's life: it waits for its servers, joins them, trains, and leaves.
//!
//! Computing blocks, so a worker has a thread of its own; its connections live in the process's
//! runtime. When a server is about to stop, the worker ends its clock, leaves, and waits for it to
//! come back. A server that has gone without a word is waited for too. When it has started anew the
//! worker begins a new session with all servers, in which it says first what the server's former
//! life had not confirmed. A server that has forgotten the model is waited for while it may get it
//! from another region; where there is none, there is nothing to go on with.
//!
//! Kind: driver.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use datacenter::local::{Session, SessionError};
use datacenter::message::Standing;
use datacenter::{Clock, WorkerId};
use emulation::seed;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{Instrument, info, info_span, warn};

use super::ServiceError;
use super::evaluation::{Evaluator, score};
use super::session::{LeftOver, Links, Route, Together};
use super::setup::Setup;
use crate::human::with_causes;
use crate::learning::application::{Learner, RowSet, StepError, Work, Workspace};
use crate::seeds::purpose;
use crate::service::admin::WorkerMetrics;
use crate::service::status::{ScoreStatus, WorkerStatus};

/// Until a server that has forgotten the model is asked again.
const AGAIN: Duration = Duration::from_secs(3);

/// Until a step that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The worker that scores the region's copy of the model.
pub(super) const EVALUATOR: u32 = 0;

/// What is known of a worker from outside.
#[derive(Clone, Default)]
pub(super) struct Notes(Arc<Mutex<Noted>>);

#[derive(Clone, Default)]
pub(super) struct Noted {
    pub(super) status: WorkerStatus,
    pub(super) waiting: Vec<String>,
    /// Whether it trains, or has trained to the end.
    pub(super) is_training: bool,
    pub(super) is_finished: bool,
    /// What it does, and since when; none where that is not counted.
    doing: Option<(Doing, Instant)>,
}

/// What a worker's time goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Computing,
    Waiting,
}

impl Noted {
    /// Does something else from `now` on, and counts what the time until then went into; yields
    /// both.
    fn turn_to(&mut self, doing: Option<Doing>, now: Instant) -> Option<(Doing, Duration)> {
        let doing = doing.map(|doing| (doing, now));
        let (done, since) = std::mem::replace(&mut self.doing, doing)?;
        let sum = match done {
            Doing::Computing => &mut self.status.compute_seconds,
            Doing::Waiting => &mut self.status.wait_seconds,
        };
        *sum += (now - since).as_secs_f64();
        Some((done, now - since))
    }
}

impl Notes {
    /// As of `now`: a wait that goes on counts like one that is over, or a worker that is held for
    /// long would seem to compute.
    pub(super) fn read(&self, now: Instant) -> Noted {
        let mut noted = self.lock().clone();
        noted.turn_to(None, now);
        noted
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a worker ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ended {
    /// Whether it trained all clocks, and the whole job is done.
    pub(super) is_finished: bool,
    /// The score of the region's copy at the end.
    pub(super) score: Option<ScoreStatus>,
    /// What the result lacks, as the servers have said.
    pub(super) lacks: Option<String>,
}

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
                index,
                learner: setup.application.learner(examples, share, seed(purpose::LEARNER)),
                jitter: ChaCha8Rng::seed_from_u64(seed(purpose::JITTER)),
                evaluator: (index == EVALUATOR).then(|| Evaluator::start(&setup)),
                setup: &setup,
                route,
                stop,
                notes,
                metrics: WorkerMetrics::new(index),
            };
            // Nobody is there any more only if the process is ending.
            let _ = ended.send(runtime.block_on(worker.run().instrument(span)));
        })
        .expect("the system has room for another thread");
    result
}

struct Worker<'a> {
    index: u32,
    setup: &'a Arc<Setup>,
    learner: Box<dyn Learner + 'a>,
    /// Of a declared cost of computing.
    jitter: ChaCha8Rng,
    evaluator: Option<Evaluator>,
    route: Route,
    stop: watch::Receiver<bool>,
    notes: Notes,
    metrics: WorkerMetrics,
}

/// Why training stopped.
enum Stopped {
    /// All clocks are done.
    Done,
    /// The process is to stop.
    Asked,
    /// A server is about to stop, or has started anew.
    Servers(Together),
}

/// What became of a step.
enum Step {
    /// It is done.
    Done(Work),
    /// It came to nothing.
    Failed(StepError),
    /// The process is to stop, or a server: what it has done is given up.
    Stopped(Stopped),
}

/// Why a worker cannot train.
enum Failure {
    Session(SessionError),
    /// Its model fails, as often as it is tried.
    Step {
        clock: Clock,
        source: StepError,
    },
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

/// What a worker keeps from one session with its servers to the next.
struct Between {
    /// The furthest clock at which it has been.
    seen: Clock,
    /// What servers had not confirmed when they started anew.
    left_over: LeftOver,
    /// Which server has forgotten the model, in words.
    forgotten: Option<String>,
    /// Whether all servers have the model, as far as is known: one that has not is told nothing, or
    /// it would take that for the beginning of one.
    may_be_told: bool,
}

/// How the beginning of a session went.
enum Begun {
    /// All servers are there, and the worker may join them at this clock or later.
    Ready(Links, Session, Clock),
    /// It did not; the next may.
    Again,
    /// There is nothing more to do.
    Ended(Ended),
}

/// What follows the end of training in a session.
enum Next {
    /// Another session.
    Session,
    /// The job is done.
    Finish(Ended),
    /// The process stops.
    Stop,
    /// The region leaves, or a server has refused what was said.
    Depart(Together),
}

impl Worker<'_> {
    /// One session with all servers after the other, until there is nothing more to do.
    async fn run(mut self) -> Result<Ended, ServiceError> {
        let mut between =
            Between { seen: Clock(0), left_over: LeftOver::new(), forgotten: None, may_be_told: true };
        loop {
            let (links, mut session, at) = match self.begin(&mut between).await? {
                Begun::Ready(links, session, at) => (links, session, at),
                Begun::Again => continue,
                Begun::Ended(ended) => return Ok(ended),
            };
            let stopped = self.join_and_train(&mut session, &links, at, &mut between.seen).await;
            let next = self.conclude(stopped, &mut session, &links, between.seen).await?;
            match next {
                Next::Session => {}
                Next::Finish(ended) => return self.finish(ended, session, links).await,
                Next::Stop => {
                    drop(session);
                    self.deliver_all(links).await?;
                    return Ok(Ended::default());
                }
                Next::Depart(together) => {
                    drop(session);
                    return self.depart(together, links).await;
                }
            }
            self.notes.lock().waiting = links.waiting();
            drop(session);
            between.left_over = self.deliver(links).await?;
            between.may_be_told = between.left_over.is_empty();
        }
    }

    /// Opens a session with all servers, tells them what former ones had not confirmed, and waits until
    /// all of them have the model.
    async fn begin(&mut self, between: &mut Between) -> Result<Begun, ServiceError> {
        let said = std::mem::take(&mut between.left_over);
        let (said, held_back) = match between.may_be_told {
            true => (said, LeftOver::new()),
            false => (LeftOver::new(), said),
        };
        let is_owing = !said.is_empty();
        let opened = tokio::select! {
            biased;
            opened = self.open(said) => Some(opened),
            () = asked(self.stop.clone()) => None,
        };
        let Some((links, session)) = opened else {
            // Servers of this process answer when they may be joined: before that nothing was said
            // that they could lack.
            self.route.leave(self.setup, WorkerId(self.index)).await;
            return Ok(Begun::Ended(Ended::default()));
        };
        let tell = |mut waiting: Vec<String>| {
            waiting.extend(between.forgotten.clone());
            self.notes.lock().waiting = waiting;
        };
        let standings = tokio::select! {
            biased;
            () = asked(self.stop.clone()) => {
                drop(session);
                if is_owing {
                    self.deliver_all(links).await?;
                } else if !held_back.is_empty() && between.forgotten.is_none() {
                    let (links, session) = self.open(held_back).await;
                    drop(session);
                    self.deliver_all(links).await?;
                }
                return Ok(Begun::Ended(Ended::default()));
            }
            standings = links.ready(tell) => standings,
            together = links.until(Together::Departing) => {
                drop(session);
                return self.depart(together, links).await.map(Begun::Ended);
            }
        };
        match &standings {
            Some(standings) => {
                between.forgotten = self.check(standings, between.seen)?;
                between.may_be_told = between.forgotten.is_none();
            }
            None => {
                warn!("a server does not know this session any more; beginning again");
                between.may_be_told = false;
            }
        }
        if let Some(standings) = standings.as_ref().filter(|_| between.may_be_told && held_back.is_empty()) {
            let clock = |standing: &Standing| standing.worker.unwrap_or_default().max(standing.clock);
            let at = standings.iter().map(clock).max().unwrap_or_default();
            return Ok(Begun::Ready(links, session, at.max(between.seen)));
        }
        drop(session);
        between.left_over = self.deliver(links).await?;
        between.left_over.extend(held_back);
        if between.forgotten.is_some() && standings.is_some() {
            tokio::select! {
                () = sleep(AGAIN) => {}
                () = asked(self.stop.clone()) => {}
            }
        }
        Ok(Begun::Again)
    }

    /// Joins the servers at `at` or later, and trains.
    async fn join_and_train(
        &mut self,
        session: &mut Session,
        links: &Links,
        at: Clock,
        seen: &mut Clock,
    ) -> Result<Stopped, Failure> {
        let joined = tokio::select! {
            joined = links.join(at, self.setup.region.grace.server) => joined.map_err(Stopped::Servers),
            () = asked(self.stop.clone()) => Err(Stopped::Asked),
        };
        let stopped = match joined {
            Ok(at) => {
                session.client().start_at(at);
                info!(clock = at.0, "training");
                let stopped = self.train(session, links).await;
                *seen = session.client().clock();
                stopped
            }
            Err(stopped) => Ok(stopped),
        };
        self.notes.lock().is_training = false;
        self.turn_to(None);
        stopped
    }

    /// Does something else from now on.
    fn turn_to(&self, doing: Option<Doing>) {
        match self.notes.lock().turn_to(doing, Instant::now()) {
            Some((Doing::Computing, time)) => self.metrics.compute_seconds.record(time),
            Some((Doing::Waiting, time)) => self.metrics.wait_seconds.record(time),
            None => {}
        }
    }

    /// Leaves the servers, or hears the result, as it is due after training has stopped at `seen`.
    async fn conclude(
        &mut self,
        stopped: Result<Stopped, Failure>,
        session: &mut Session,
        links: &Links,
        seen: Clock,
    ) -> Result<Next, ServiceError> {
        match stopped {
            Ok(Stopped::Done) => {
                session.leave().await.map_err(|e| self.failed(e))?;
                let result = self.result(session, links).await?;
                if result.is_none() {
                    info!(
                        "a server did not know this session any more before it had told the result; beginning again"
                    );
                }
                Ok(result.map_or(Next::Session, Next::Finish))
            }
            Ok(Stopped::Asked) => {
                info!(clock = seen.0, "stopping: leaving the servers");
                session.leave().await.map_err(|e| self.failed(e))?;
                Ok(Next::Stop)
            }
            // What a server has refused would be refused again.
            Ok(_) | Err(_) if links.refusal().is_some() => {
                let _ = session.leave().await;
                Ok(Next::Depart(Together::Refused))
            }
            Ok(Stopped::Servers(together @ (Together::Departing | Together::Expelled))) => {
                info!(clock = seen.0, "the region leaves the job for good: leaving the servers");
                let _ = session.leave().await;
                Ok(Next::Depart(together))
            }
            Ok(Stopped::Servers(together)) => {
                info!(clock = seen.0, ?together, "leaving the servers, to wait for one of them");
                let _ = session.leave().await;
                Ok(Next::Session)
            }
            Err(Failure::Session(SessionError::Closed(_) | SessionError::NoReply)) => {
                warn!("a server does not know this session any more; beginning again");
                Ok(Next::Session)
            }
            Err(Failure::Session(error)) => Err(self.failed(error)),
            Err(Failure::Step { clock, source }) => {
                Err(ServiceError::Step { worker: self.index, clock: clock.0, source })
            }
        }
    }

    async fn open(&self, left_over: LeftOver) -> (Links, Session) {
        Links::open(self.setup, WorkerId(self.index), &self.route, left_over).await
    }

    async fn deliver(&self, links: Links) -> Result<LeftOver, ServiceError> {
        links.deliver(self.stop.clone(), |waiting| self.notes.lock().waiting = waiting).await
    }

    /// The same, also what servers did not take before they started anew: for a worker that has
    /// nothing else to do.
    async fn deliver_all(&self, links: Links) -> Result<(), ServiceError> {
        let mut left_over = self.deliver(links).await?;
        while !left_over.is_empty() {
            let (links, session) = self.open(left_over).await;
            drop(session);
            left_over = self.deliver(links).await?;
        }
        Ok(())
    }

    /// Ends with the region's part in the job: its servers wait for what was said to them, unless
    /// nobody wants it any more.
    async fn depart(&mut self, together: Together, links: Links) -> Result<Ended, ServiceError> {
        if let Some(reason) = links.refusal() {
            return Err(self.failed(SessionError::Refused(reason)));
        }
        if together == Together::Expelled {
            let region = self.setup.region.name.clone();
            return Err(ServiceError::Left { reason: format!("region {region} has left this job for good") });
        }
        // They do not come back.
        self.stop = watch::channel(true).1;
        self.deliver_all(links).await?;
        Ok(Ended::default())
    }

    fn failed(&self, source: SessionError) -> ServiceError {
        ServiceError::Session { worker: self.index, source }
    }

    /// What is waited for where a server has forgotten the model: that it gets it from another
    /// region, which it may not have heard for the time of grace.
    ///
    /// # Errors
    ///
    /// If there is no other region.
    fn check(&self, standings: &[Standing], seen: Clock) -> Result<Option<String>, ServiceError> {
        let region = &self.setup.region;
        let Some((lost, known)) = forgotten(standings, seen, region.job.staleness) else {
            return Ok(None);
        };
        let server = self.setup.host(lost.shard);
        let has_mirrors = region.strategy.policy(&region.job, &self.setup.specs).is_some();
        if has_mirrors && !region.peers.is_empty() {
            return Ok(Some(format!(
                "server {server}, which has forgotten the model, and hears no other region"
            )));
        }
        let reason = format!(
            "server {server} has {} at {}, and the region was at {known}: it has started anew and forgotten the model",
            lost.shard, lost.clock
        );
        Err(ServiceError::Forgotten { worker: self.index, reason })
    }

    /// Trains until all clocks are done, or something is in the way.
    async fn train(&mut self, session: &mut Session, links: &Links) -> Result<Stopped, Failure> {
        let job = &self.setup.region.job;
        let mut workspace = Workspace::new(self.setup.specs.len());
        let mut failures = 0;
        self.notes.lock().is_training = true;
        while session.client().clock().0 < job.clocks {
            let clock = session.client().clock();
            if *self.stop.borrow() {
                return Ok(Stopped::Asked);
            }
            let rows = workspace.begin(&mut *self.learner, clock.0);
            let is_due =
                self.evaluator.is_some() && clock.0 > 0 && clock.0.is_multiple_of(job.evaluate_every);
            let stopped = match is_due {
                true => self.fetch(&mut with_all(self.setup, rows), session, links).await?,
                false => self.fetch(rows, session, links).await?,
            };
            if let Some(stopped) = stopped {
                return Ok(stopped);
            }
            if session.client().clock() > clock {
                warn!(
                    clock = session.client().clock().0,
                    left = clock.0,
                    "others went on without this worker: going on there"
                );
                continue;
            }
            let fetched = Instant::now();
            if let Some(evaluator) = self.evaluator.as_ref().filter(|_| is_due) {
                evaluator.offer(self.setup, session.client(), clock);
            }
            let work = match self.step(&mut workspace, clock, session, links).await? {
                Step::Done(work) => work,
                Step::Stopped(stopped) => return Ok(stopped),
                Step::Failed(source) => {
                    self.count_failure(&mut failures, clock, source).await?;
                    continue;
                }
            };
            failures = 0;
            if let Some(compute) = self.setup.region.compute {
                sleep_until(fetched + compute.clock_time(work, 1.0, self.jitter.random())).await;
            }
            self.turn_to(None);
            session.clock().await?;
            self.note(clock.0 + 1, work);
        }
        Ok(Stopped::Done)
    }

    /// Reads rows. Yields why training has to stop, if it has: whoever stops here has told nobody
    /// anything of this clock, and so loses nothing.
    async fn fetch(
        &self,
        rows: &mut RowSet,
        session: &mut Session,
        links: &Links,
    ) -> Result<Option<Stopped>, SessionError> {
        self.turn_to(Some(Doing::Waiting));
        tokio::select! {
            biased;
            () = asked(self.stop.clone()) => return Ok(Some(Stopped::Asked)),
            fetched = session.fetch(rows.sorted()) => drop(fetched?),
            together = links.until(Together::Leaving) => return Ok(Some(Stopped::Servers(together))),
            // The other servers, and with them the other regions, are not to wait for this worker.
            () = links.away_for(self.setup.region.grace.server) => {
                return Ok(Some(Stopped::Servers(Together::Away)));
            }
            never = links.keep_telling(|waiting| self.notes.lock().waiting = waiting) => match never {},
        }
        self.notes.lock().waiting.clear();
        self.turn_to(Some(Doing::Computing));
        Ok(None)
    }

    /// Has the learner train for one clock, whose rows are there.
    async fn step(
        &mut self,
        workspace: &mut Workspace,
        clock: Clock,
        session: &mut Session,
        links: &Links,
    ) -> Result<Step, SessionError> {
        loop {
            match workspace.step(&mut *self.learner, clock.0, session.client()) {
                Ok(Some(work)) => return Ok(Step::Done(work)),
                Ok(None) => {}
                Err(error) => {
                    session.client().discard();
                    return Ok(Step::Failed(error));
                }
            }
            if let Some(stopped) = self.fetch(workspace.extension(), session, links).await? {
                session.client().discard();
                return Ok(Step::Stopped(stopped));
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
    ) -> Result<(), Failure> {
        let allowed = self.setup.region.step_retries;
        self.turn_to(None);
        self.notes.lock().status.failed_steps += 1;
        self.metrics.failed_steps.increment(1);
        if *failures == allowed {
            return Err(Failure::Step { clock, source });
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
    fn note(&self, clock: u32, work: Work) {
        let mut notes = self.notes.lock();
        notes.status.clock = clock;
        notes.status.processed_examples += work.examples;
        self.metrics.processed_examples.increment(work.examples);
        if let Some(evaluator) = &self.evaluator {
            notes.status.score = evaluator.score().or(notes.status.score.take());
        }
    }

    /// Waits until the job is done everywhere, and hears what its result lacks; scores it, where
    /// this worker does so. None if a server starts anew before that.
    async fn result(&mut self, session: &mut Session, links: &Links) -> Result<Option<Ended>, ServiceError> {
        let mut ended = Ended { is_finished: true, ..Ended::default() };
        self.notes.lock().waiting = vec!["the last updates of other regions".into()];
        let together = tokio::select! {
            together = links.until(Together::Settled) => together,
            () = asked(self.stop.clone()) => return Ok(Some(ended)),
        };
        match together {
            Together::Settled => {}
            Together::Lost => return Ok(None),
            Together::Leaving
            | Together::Away
            | Together::Serving
            | Together::Departing
            | Together::Expelled
            | Together::Refused => {
                return Ok(Some(ended));
            }
        }
        ended.lacks = links.lacks();
        if self.evaluator.is_none() {
            return Ok(Some(ended));
        }
        let mut rows = with_all(self.setup, &RowSet::new(self.setup.specs.len()));
        let fetched = tokio::select! {
            fetched = session.fetch(rows.sorted()) => fetched,
            together = links.until(Together::Lost) => {
                // Of a region that leaves, nobody wants the result.
                return Ok((together != Together::Lost).then_some(ended));
            }
            () = asked(self.stop.clone()) => return Ok(Some(ended)),
        };
        fetched.map_err(|e| self.failed(e))?;
        let clock = session.client().clock();
        let last = score(self.setup, session.client(), clock);
        info!(clock = clock.0, objective = last.objective, metric = last.metric, value = last.value, "done");
        ended.score = Some(last.clone());
        self.notes.lock().status.score = Some(last);
        Ok(Some(ended))
    }

    /// Says all that there is to say, and ends.
    async fn finish(mut self, ended: Ended, session: Session, links: Links) -> Result<Ended, ServiceError> {
        drop(self.evaluator.take());
        {
            let mut notes = self.notes.lock();
            (notes.waiting, notes.is_finished) = (Vec::new(), true);
        }
        drop(session);
        self.deliver_all(links).await?;
        self.notes.lock().waiting = Vec::new();
        Ok(ended)
    }
}

/// A shard that is far behind the others, or what has been `seen` of them, and has not come back
/// with what it had: its server has forgotten the model. With it how far the others are.
fn forgotten(standings: &[Standing], seen: Clock, staleness: Option<u32>) -> Option<(Standing, Clock)> {
    let known = standings.iter().map(|s| s.clock).max().unwrap_or_default().max(seen);
    // What another worker may be ahead by, at the beginning too: its staleness, and the clock that
    // it is in.
    let slack = staleness?.saturating_add(1);
    standings.iter().find(|s| s.is_new && known.lead_over(s.clock) > slack).map(|s| (*s, known))
}

/// Returns once the process is asked to stop.
async fn asked(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // Nobody can ask any more.
        std::future::pending::<()>().await;
    }
}

/// `rows` and all others that there are.
fn with_all(setup: &Setup, rows: &RowSet) -> RowSet {
    let mut all = rows.clone();
    all.insert_tables(&setup.specs);
    all
}

#[cfg(test)]
mod tests {
    use datacenter::ShardId;

    use super::*;

    #[test]
    fn who_comes_back_with_what_it_had_has_forgotten_nothing() {
        let standing = |(shard, (clock, is_new))| Standing {
            shard: ShardId(shard),
            clock: Clock(clock),
            worker: None,
            is_new,
        };
        for (standings, seen, staleness, lost) in [
            // All begin, one of them a little later.
            (vec![(0, true), (1, true)], 0, Some(0), None),
            (vec![(0, true), (2, true)], 1, Some(0), Some(0)),
            (vec![(0, true), (2, true)], 1, Some(1), None),
            (vec![(50, true), (0, true)], 50, Some(0), Some(1)),
            (vec![(0, true), (0, true)], 50, Some(3), Some(0)),
            // It had been saved a while ago.
            (vec![(50, true), (40, false)], 50, Some(0), None),
            (vec![(50, true), (0, false)], 50, Some(0), None),
            // Nobody can tell how far apart they may be.
            (vec![(50, true), (0, true)], 50, None, None),
        ] {
            let of_shards: Vec<_> = (0..).zip(standings.iter().copied()).map(standing).collect();
            let found = forgotten(&of_shards, Clock(seen), staleness).map(|(lost, _)| lost.shard.0);
            assert_eq!(found, lost, "{standings:?}, {seen}, {staleness:?}");
        }
    }

    #[test]
    fn a_wait_counts_while_it_goes_on() {
        let (notes, start) = (Notes::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let times = |now| {
            let WorkerStatus { compute_seconds, wait_seconds, .. } = notes.read(at(now)).status;
            (compute_seconds, wait_seconds)
        };
        assert_eq!(times(1), (0.0, 0.0));
        notes.lock().turn_to(Some(Doing::Waiting), at(1));
        assert_eq!(times(3), (0.0, 2.0));
        notes.lock().turn_to(Some(Doing::Computing), at(4));
        assert_eq!(times(9), (5.0, 3.0));
        notes.lock().turn_to(Some(Doing::Waiting), at(10));
        // Whoever stops in the middle of a wait has waited all the same: counters never go back.
        assert_eq!(times(30), (6.0, 23.0));
        notes.lock().turn_to(None, at(30));
        assert_eq!(times(99), (6.0, 23.0));
    }
}
