//! One session of a worker with all its servers after the other.
//!
//! A worker waits for its servers, joins them, trains, and leaves. When a server is about to stop,
//! the worker leaves all of them, and waits for it to come back. A server that has gone without a
//! word is waited for too. When it has started anew the worker begins a new session with all servers,
//! in which it says first what the server's former incarnation had not confirmed. A server that has
//! forgotten the model is waited for while it may get it from another region; where there is none,
//! there is nothing to go on with.

use std::time::Duration;

use datacenter::local::{Session, SessionError};
use datacenter::message::Standing;
use datacenter::{Clock, TableId, WorkerId};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::{Connection, Held};
use crate::learning::application::RowSet;
use crate::service::ServiceError;
use crate::service::notes::Doing;
use crate::service::session::{LeftOver, Links, Together};
use crate::service::setup::Setup;
use crate::service::status::ScoreStatus;

/// Until a server that has forgotten the model is asked again.
const AGAIN: Duration = Duration::from_secs(3);

/// How a worker ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::service) struct Ended {
    /// Whether it trained all clocks, and the whole job is done.
    pub(in crate::service) is_finished: bool,
    /// The score of the region's copy at the end.
    pub(in crate::service) score: Option<ScoreStatus>,
    /// What the result lacks, as the servers have said.
    pub(in crate::service) lacks: Option<String>,
}

/// What became of a read.
pub(in crate::service) enum Fetched {
    /// The rows are there.
    Ready,
    /// A server is about to stop, or has started anew: the worker has left, and has to join again.
    /// What it had added since its last clock is added again then, unless it is discarded.
    Moved,
    /// It has left for good.
    Ended(Ended),
}

/// What follows the last clock.
pub(in crate::service) enum Completion {
    /// The job is done everywhere.
    Settled(Ended),
    /// The result is not to be had: the process stops, or the region leaves.
    Ended(Ended),
    /// A server has started anew before that, so that it is to be told again.
    Again,
}

/// A session that the worker has joined.
pub(super) struct Joined {
    pub(super) links: Links,
    pub(super) session: Session,
    /// Whether the servers know that the worker trains no more.
    has_left: bool,
}

/// Why a session came to its end, if not by an error.
enum Stopped {
    /// The process is to stop.
    Asked,
    /// A server is about to stop, or has started anew.
    Servers(Together),
}

/// What a worker keeps from one session with its servers to the next.
pub(super) struct Between {
    /// The furthest clock at which it has been.
    pub(super) seen: Clock,
    /// What it had added since its last clock.
    pub(super) added: Vec<(TableId, u32, Vec<f32>)>,
    /// What servers had not confirmed when they started anew.
    left_over: LeftOver,
    /// Which server has forgotten the model, in words.
    forgotten: Option<String>,
    /// Whether all servers have the model, as far as is known: one that has not is told nothing, or
    /// it would take that for the beginning of one.
    may_be_told: bool,
}

impl Default for Between {
    fn default() -> Self {
        Self {
            seen: Clock(0),
            added: Vec::new(),
            left_over: LeftOver::new(),
            forgotten: None,
            may_be_told: true,
        }
    }
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

impl Connection {
    /// Joins the servers, unless that is done; waits until all of them are there. Yields how the
    /// worker has ended where it will not train any more.
    pub(in crate::service) async fn join(&mut self) -> Result<Option<Ended>, ServiceError> {
        if std::mem::take(&mut self.is_reading) && self.joined.is_some() {
            // The answers to a read that was given up would be taken for those to the next one.
            if let Some(ended) = self.part(Ok(Stopped::Servers(Together::Lost))).await? {
                return Ok(Some(ended));
            }
        }
        while self.joined.is_none() {
            let (links, session, at) = match self.begin().await? {
                Begun::Ready(links, session, at) => (links, session, at),
                Begun::Again => continue,
                Begun::Ended(ended) => return Ok(Some(ended)),
            };
            let joined = tokio::select! {
                joined = links.join(at, self.setup.region.grace.server) => joined.map_err(Stopped::Servers),
                () = asked(self.stop.clone()) => Err(Stopped::Asked),
            };
            self.joined = Some(Joined { links, session, has_left: false });
            match joined {
                Ok(at) => self.begin_to_train(at),
                Err(stopped) => {
                    if let Some(ended) = self.part(Ok(stopped)).await? {
                        return Ok(Some(ended));
                    }
                }
            }
        }
        Ok(None)
    }

    fn begin_to_train(&mut self, at: Clock) {
        let added = std::mem::take(&mut self.between.added);
        let client = self.client();
        client.start_at(at);
        added.iter().for_each(|(table, row, delta)| client.add(*table, *row, delta));
        info!(clock = at.0, "training");
        self.notes.lock().is_training = true;
    }

    /// Opens a session with all servers, tells them what former ones had not confirmed, and waits
    /// until all of them have the model.
    async fn begin(&mut self) -> Result<Begun, ServiceError> {
        let said = std::mem::take(&mut self.between.left_over);
        let (said, held_back) = match self.between.may_be_told {
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
            self.route.leave(&self.setup, WorkerId(self.index)).await;
            return Ok(Begun::Ended(Ended::default()));
        };
        let tell = |mut waiting: Vec<String>| {
            waiting.extend(self.between.forgotten.clone());
            self.notes.lock().waiting = waiting;
        };
        let standings = tokio::select! {
            biased;
            () = asked(self.stop.clone()) => {
                drop(session);
                if is_owing {
                    self.deliver_all(links).await?;
                } else if !held_back.is_empty() && self.between.forgotten.is_none() {
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
                self.between.forgotten = self.check(standings)?;
                self.between.may_be_told = self.between.forgotten.is_none();
            }
            None => {
                warn!("a server does not know this session any more; beginning again");
                self.between.may_be_told = false;
            }
        }
        if let Some(standings) =
            standings.as_ref().filter(|_| self.between.may_be_told && held_back.is_empty())
        {
            let clock = |standing: &Standing| standing.worker.unwrap_or_default().max(standing.clock);
            let at = standings.iter().map(clock).max().unwrap_or_default();
            return Ok(Begun::Ready(links, session, at.max(self.between.seen)));
        }
        drop(session);
        self.between.left_over = self.deliver(links).await?;
        self.between.left_over.extend(held_back);
        if self.between.forgotten.is_some() && standings.is_some() {
            tokio::select! {
                () = sleep(AGAIN) => {}
                () = asked(self.stop.clone()) => {}
            }
        }
        Ok(Begun::Again)
    }

    /// Reads rows, once the worker has joined. Whoever stops here has told nobody anything of this
    /// clock, and so loses nothing.
    pub(in crate::service) async fn fetch_once(
        &mut self,
        rows: &mut RowSet,
    ) -> Result<Fetched, ServiceError> {
        self.notes.turn_to(Some(Doing::Waiting), Instant::now());
        let Joined { links, session, .. } = self.joined.as_mut().expect("joined before");
        let notes = &self.notes;
        self.is_reading = true;
        let stopped = tokio::select! {
            biased;
            () = asked(self.stop.clone()) => Ok(Stopped::Asked),
            fetched = session.fetch(rows.sorted()) => match fetched {
                Ok(held) => {
                    self.is_reading = false;
                    let held = Held::all(&self.setup, held);
                    if !held.is_empty() {
                        self.held = held;
                    }
                    self.notes.lock().waiting.clear();
                    self.notes.turn_to(Some(Doing::Computing), Instant::now());
                    return Ok(Fetched::Ready);
                }
                Err(error) => Err(error),
            },
            together = links.until(Together::Leaving) => Ok(Stopped::Servers(together)),
            // The other servers, and with them the other regions, are not to wait for this worker.
            () = links.away_for(self.setup.region.grace.server) => Ok(Stopped::Servers(Together::Away)),
            never = links.keep_telling(|waiting| notes.lock().waiting = waiting) => match never {},
        };
        self.is_reading = false;
        Ok(self.part(stopped).await?.map_or(Fetched::Moved, Fetched::Ended))
    }

    /// Ends the clock of a worker that has joined. Yields how the worker has ended if it has.
    pub(in crate::service) async fn flush(&mut self) -> Result<Option<Ended>, ServiceError> {
        self.notes.turn_to(None, Instant::now());
        let joined = self.joined.as_mut().expect("joined before");
        match joined.session.clock().await {
            Ok(()) => {
                let clock = joined.session.client().clock();
                self.notes.lock().status.clock = clock.0;
                Ok(None)
            }
            // Nothing was sent, and the clock has not ended.
            Err(error @ SessionError::NotFinite(_)) => Err(self.failed(error)),
            Err(error) => self.part(Err(error)).await,
        }
    }

    /// Leaves the servers in the middle of training as the process is to stop.
    pub(in crate::service) async fn stop(&mut self) -> Result<Ended, ServiceError> {
        Ok(self.part(Ok(Stopped::Asked)).await?.unwrap_or_default())
    }

    /// What is to become of a worker whose model has failed with `error`: where a server has refused
    /// what was said, that is the news.
    pub(in crate::service) async fn fail(&mut self, error: ServiceError) -> Result<Ended, ServiceError> {
        match self.joined.as_ref().is_some_and(|joined| joined.links.refusal().is_some()) {
            true => Ok(self.part(Ok(Stopped::Servers(Together::Refused))).await?.unwrap_or_default()),
            false => Err(error),
        }
    }

    /// Ends the session, as is due after it has stopped. Yields how the worker has ended if there is
    /// to be no other one.
    async fn part(&mut self, stopped: Result<Stopped, SessionError>) -> Result<Option<Ended>, ServiceError> {
        let Joined { links, mut session, .. } = self.joined.take().expect("only who has joined can part");
        let client = session.client();
        let clock = self.between.seen.max(client.clock());
        self.between.seen = clock;
        self.between.added.extend(client.added().map(|(table, row, delta)| (table, row, delta.to_vec())));
        self.notes.lock().is_training = false;
        self.notes.turn_to(None, Instant::now());
        match stopped {
            Ok(Stopped::Asked) => {
                info!(clock = clock.0, "stopping: leaving the servers");
                session.leave().await.map_err(|e| self.failed(e))?;
                drop(session);
                self.deliver_all(links).await?;
                return Ok(Some(Ended::default()));
            }
            // What a server has refused would be refused again.
            Ok(_) | Err(_) if links.refusal().is_some() => {
                let _ = session.leave().await;
                drop(session);
                return self.depart(Together::Refused, links).await.map(Some);
            }
            Ok(Stopped::Servers(together @ (Together::Departing | Together::Expelled))) => {
                info!(clock = clock.0, "the region leaves the job for good: leaving the servers");
                let _ = session.leave().await;
                drop(session);
                return self.depart(together, links).await.map(Some);
            }
            Ok(Stopped::Servers(together)) => {
                info!(clock = clock.0, ?together, "leaving the servers, to wait for one of them");
                let _ = session.leave().await;
            }
            Err(SessionError::Closed(_) | SessionError::NoReply) => {
                warn!("a server does not know this session any more; beginning again");
            }
            Err(error) => return Err(self.failed(error)),
        }
        self.close(links, session).await?;
        Ok(None)
    }

    /// Delivers what was said in a session that another one follows.
    async fn close(&mut self, links: Links, session: Session) -> Result<(), ServiceError> {
        self.notes.lock().waiting = links.waiting();
        drop(session);
        self.between.left_over = self.deliver(links).await?;
        self.between.may_be_told = self.between.left_over.is_empty();
        Ok(())
    }

    /// Says that all clocks are done, and waits until the job is done everywhere.
    pub(in crate::service) async fn complete(&mut self) -> Result<Completion, ServiceError> {
        if let Some(ended) = self.join().await? {
            return Ok(Completion::Ended(ended));
        }
        let Joined { links, session, has_left } = self.joined.as_mut().expect("joined just now");
        session.leave().await.map_err(|source| ServiceError::Session { worker: self.index, source })?;
        *has_left = true;
        {
            self.notes.turn_to(None, Instant::now());
            let mut notes = self.notes.lock();
            notes.is_training = false;
            notes.waiting = vec!["the last updates of other regions".into()];
        }
        let mut ended = Ended { is_finished: true, ..Ended::default() };
        let together = tokio::select! {
            together = links.until(Together::Settled) => together,
            () = asked(self.stop.clone()) => return Ok(Completion::Ended(ended)),
        };
        match together {
            Together::Settled => {
                ended.lacks = links.lacks();
                Ok(Completion::Settled(ended))
            }
            Together::Lost => {
                self.begin_again().await?;
                Ok(Completion::Again)
            }
            Together::Leaving
            | Together::Away
            | Together::Serving
            | Together::Departing
            | Together::Expelled
            | Together::Refused => Ok(Completion::Ended(ended)),
        }
    }

    /// Reads all rows of a job that is done. Yields whether somebody wants them still; none if a
    /// server has started anew, so that the worker has to say again that it is done.
    pub(in crate::service) async fn fetch_result(&mut self) -> Result<Option<bool>, ServiceError> {
        let mut rows = RowSet::new(self.setup.specs.len());
        rows.insert_tables(&self.setup.specs);
        let Joined { links, session, .. } = self.joined.as_mut().expect("it has completed the job");
        let fetched = tokio::select! {
            fetched = session.fetch(rows.sorted()) => fetched,
            together = links.until(Together::Lost) => {
                if together != Together::Lost {
                    // Of a region that leaves, nobody wants the result.
                    return Ok(Some(false));
                }
                self.begin_again().await?;
                return Ok(None);
            }
            () = asked(self.stop.clone()) => return Ok(Some(false)),
        };
        fetched.map_err(|e| self.failed(e))?;
        Ok(Some(true))
    }

    async fn begin_again(&mut self) -> Result<(), ServiceError> {
        info!("a server did not know this session any more before it had told the result; beginning again");
        let Joined { links, session, .. } = self.joined.take().expect("it has completed the job");
        self.close(links, session).await
    }

    /// Says all that there is to say, and ends.
    pub(in crate::service) async fn deliver_last(&mut self) -> Result<(), ServiceError> {
        let Some(Joined { links, session, .. }) = self.joined.take() else { return Ok(()) };
        {
            let mut notes = self.notes.lock();
            (notes.waiting, notes.is_finished) = (Vec::new(), true);
        }
        drop(session);
        self.deliver_all(links).await?;
        self.notes.lock().waiting = Vec::new();
        Ok(())
    }

    /// Leaves the servers, whatever is left to do.
    pub(super) async fn part_for_good(&mut self) -> Result<(), ServiceError> {
        let Some(Joined { links, mut session, has_left }) = self.joined.take() else { return Ok(()) };
        if !has_left {
            // A server that is gone does not wait for this worker.
            let _ = session.leave().await;
        }
        drop(session);
        // They are given as long as somebody who is asked to stop gives them.
        self.stop = watch::channel(true).1;
        self.deliver_all(links).await
    }

    async fn open(&self, left_over: LeftOver) -> (Links, Session) {
        Links::open(&self.setup, WorkerId(self.index), &self.route, left_over).await
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
    fn check(&self, standings: &[Standing]) -> Result<Option<String>, ServiceError> {
        let (setup, region): (&Setup, _) = (&self.setup, &self.setup.region);
        let Some((lost, known)) = forgotten(standings, self.between.seen, region.job.staleness) else {
            return Ok(None);
        };
        let server = setup.host(lost.shard);
        let has_mirrors = region.strategy.policy(&region.job, &setup.specs).is_some();
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
pub(in crate::service) async fn asked(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // Nobody can ask any more.
        std::future::pending::<()>().await;
    }
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
}
