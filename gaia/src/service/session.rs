//! How a worker reaches its shards: through sockets, or straight where both are in one process.
//!
//! Kind: driver.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use datacenter::client::Client;
use datacenter::lan::worker::{Handle, LinkState, Plan, ServerLink, Unsent};
use datacenter::local::{Call, Port, REQUEST_QUEUE, Refusal, Session, SessionError};
use datacenter::message::{Notice, Request, Standing};
use datacenter::{Clock, ShardId, WorkerId};
use futures_util::future::{join_all, select_all};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::ServiceError;
use super::setup::Setup;

/// How often a worker that waits says what for.
const LOOK: Duration = Duration::from_millis(500);

/// For how long a worker that is asked to stop waits until its servers have what it said.
const DELIVERY: Duration = Duration::from_secs(10);

/// The way to a server in the same process.
#[derive(Clone)]
pub(super) struct InProcessServer {
    pub(super) requests: mpsc::Sender<(ShardId, Request)>,
    pub(super) calls: mpsc::Sender<Call>,
    pub(super) notice: watch::Receiver<Notice>,
}

/// How a worker gets at the servers of its region, by index.
pub(super) enum Route {
    /// In this process.
    Here(Vec<InProcessServer>),
    /// Over the LAN.
    Lan(Vec<Plan>),
}

impl Route {
    /// Tells servers of this process that a worker which has not joined them will not.
    pub(super) async fn leave(&self, setup: &Setup, worker: WorkerId) {
        let Self::Here(counters) = self else { return };
        for shard in (0..setup.region.job.shards).map(ShardId) {
            let counter = &counters[usize::from(setup.host(shard))];
            // One that is gone does not wait for it.
            let _ = counter.requests.send((shard, Request::Leave(worker))).await;
        }
    }
}

/// A worker's links to all its servers.
pub(super) struct Links {
    worker: WorkerId,
    ends: Vec<End>,
    /// The lines' tasks, which end when they have delivered what the session said.
    lines: JoinSet<Ended>,
}

/// By server, what it did not take before it started anew: to be said to its new life before
/// anything else.
pub(super) type LeftOver = BTreeMap<usize, Unsent>;

/// How a line ended.
struct Ended {
    server: usize,
    left_over: Unsent,
}

enum End {
    Here(InProcessServer, Vec<Standing>, Refusal),
    Lan(Handle),
}

/// What a worker has heard last of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Notice(Notice),
    /// It is not there.
    Nothing,
    /// It does not know the session any more.
    Lost,
    /// It has refused what the session said.
    Refused,
}

impl Heard {
    fn is_settled(&self) -> bool {
        matches!(self, Self::Notice(Notice::Settled { .. }))
    }
}

/// How servers are, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Together {
    /// All serve, or some are away for a moment.
    Serving,
    /// One has been away for longer than a moment.
    Away,
    /// All say that the job is done everywhere.
    Settled,
    /// One is about to stop.
    Leaving,
    /// One has started anew, or given the worker's place to another process.
    Lost,
    /// The region leaves the job for good.
    Departing,
    /// It has left, as others say.
    Expelled,
    /// One has refused what the session said.
    Refused,
}

impl Together {
    /// Of servers each of which was looked at once: what one says may change between two looks.
    fn of(heard: impl Iterator<Item = Heard>) -> Self {
        let heard: Vec<Heard> = heard.collect();
        let any = |wanted: Heard| heard.contains(&wanted);
        match () {
            () if any(Heard::Refused) => Self::Refused,
            () if any(Heard::Notice(Notice::Expelled)) => Self::Expelled,
            () if any(Heard::Notice(Notice::Departing)) => Self::Departing,
            () if any(Heard::Lost) => Self::Lost,
            () if any(Heard::Notice(Notice::Leaving)) => Self::Leaving,
            () if heard.iter().all(Heard::is_settled) => Self::Settled,
            () => Self::Serving,
        }
    }
}

impl Links {
    /// Links of `worker` over `route`, and the session's side of them; they say first what former
    /// links were left with.
    pub(super) async fn open(
        setup: &Setup,
        worker: WorkerId,
        route: &Route,
        mut left_over: LeftOver,
    ) -> (Self, Session) {
        let (replies, answers) = mpsc::channel(2 * usize::from(setup.region.job.shards));
        let mut lines = JoinSet::new();
        let (mut ends, mut ways) = (Vec::new(), Vec::new());
        match route {
            Route::Here(counters) => {
                for counter in counters {
                    let (answer, standings) = oneshot::channel();
                    let refusal = Refusal::default();
                    let attach = Call::Attach {
                        worker,
                        is_new: true,
                        replies: replies.clone(),
                        refusal: refusal.clone(),
                        answer,
                    };
                    // A server of this process is there as long as its workers.
                    let _ = counter.calls.send(attach).await;
                    ends.push(End::Here(counter.clone(), standings.await.unwrap_or_default(), refusal));
                    ways.push(counter.requests.clone());
                }
            }
            Route::Lan(plans) => {
                for (server, plan) in plans.iter().enumerate() {
                    let (requests, queue) = mpsc::channel(REQUEST_QUEUE);
                    let (line, handle) = ServerLink::new(plan.clone(), queue, replies.clone());
                    let line = line.carrying(left_over.remove(&server).unwrap_or_default());
                    lines.spawn(async move { Ended { server, left_over: line.run().await } });
                    ends.push(End::Lan(handle));
                    ways.push(requests);
                }
            }
        }
        let shards = (0..setup.region.job.shards).map(|s| ways[usize::from(setup.host(ShardId(s)))].clone());
        let port = Port { shards: shards.collect(), replies: answers };
        let job = &setup.region.job;
        let client = Client::new(worker, &setup.specs, setup.placement, job.staleness);
        let client = client.with_non_finite(job.non_finite);
        (Self { worker, ends, lines }, Session::new(client, port))
    }

    /// Waits until all servers are there and serve; says meanwhile what is waited for. None if a
    /// server has started anew since it was there.
    pub(super) async fn ready(&self, mut tell: impl FnMut(Vec<String>)) -> Option<Vec<Standing>> {
        loop {
            if self.together() == Together::Lost {
                return None;
            }
            // Looked at once: a connection that breaks between two looks would be there without a
            // standing.
            let (mut waiting, mut standings) = (Vec::new(), Vec::new());
            for (index, end) in self.ends.iter().enumerate() {
                match end.standings(index) {
                    Ok(of_server) => standings.extend(of_server),
                    Err(why) => waiting.push(why),
                }
            }
            if waiting.is_empty() {
                tell(Vec::new());
                return Some(standings);
            }
            tell(waiting);
            let changes = self.ends.iter().map(|end| Box::pin(end.changed()));
            tokio::select! {
                _ = select_all(changes) => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    /// Counts the worker among those that train, at `clock` or later, the same on all shards;
    /// yields that clock.
    ///
    /// # Errors
    ///
    /// How the servers are, if one has started anew meanwhile, so that there is nothing to join
    /// with these links, or has been away for `grace`: those that count the worker already would
    /// wait for it as long.
    pub(super) async fn join(&self, clock: Clock, grace: Duration) -> Result<Clock, Together> {
        tokio::select! {
            joined = self.join_all(clock) => joined.ok_or(Together::Lost),
            () = self.away_for(grace) => Err(Together::Away),
        }
    }

    async fn join_all(&self, clock: Clock) -> Option<Clock> {
        let mut proposed = clock;
        loop {
            let joined = join_all(self.ends.iter().map(|end| end.join(self.worker, proposed))).await;
            let clocks = joined.iter().flatten().flatten().map(|(_, clock)| *clock);
            let (least, latest) = (clocks.clone().min(), clocks.max());
            match (joined.iter().all(Option::is_some), least, latest) {
                (true, Some(least), Some(latest)) if least == latest => return Some(latest),
                // Shards of different servers were at different clocks: the latest holds for all.
                (true, _, Some(latest)) => proposed = latest,
                _ if self.together() == Together::Lost => return None,
                // A connection broke meanwhile.
                _ => sleep(LOOK).await,
            }
        }
    }

    /// How the servers are.
    pub(super) fn together(&self) -> Together {
        Together::of(self.ends.iter().map(End::heard))
    }

    /// What the result of a job that is done lacks, as the servers say it, each of its own shards;
    /// none if it lacks nothing.
    pub(super) fn lacks(&self) -> Option<String> {
        let said = self.ends.iter().filter_map(|end| match end.heard() {
            Heard::Notice(Notice::Settled { lacks }) => lacks,
            Heard::Notice(_) | Heard::Nothing | Heard::Lost | Heard::Refused => None,
        });
        let mut said: Vec<String> = said.collect();
        said.sort();
        said.dedup();
        (!said.is_empty()).then(|| said.join("; "))
    }

    /// Why a server has ended the session, if one has.
    pub(super) fn refusal(&self) -> Option<String> {
        self.ends.iter().find_map(End::refusal)
    }

    /// Returns once some server has been away for `grace`, neither sooner nor later: other regions
    /// wait for as long.
    pub(super) async fn away_for(&self, grace: Duration) {
        let mut until = None;
        loop {
            until = match self.waiting().is_empty() {
                true => None,
                false => Some(until.unwrap_or_else(|| Instant::now() + grace)),
            };
            if until.is_some_and(|until| until <= Instant::now()) {
                return;
            }
            let next = Instant::now() + LOOK;
            let changes = self.ends.iter().map(|end| Box::pin(end.changed()));
            tokio::select! {
                _ = select_all(changes) => {}
                () = sleep_until(until.map_or(next, |until| until.min(next))) => {}
            }
        }
    }

    /// Returns once the servers are `at_least` that far from serving.
    pub(super) async fn until(&self, at_least: Together) -> Together {
        loop {
            let together = self.together();
            if together >= at_least {
                return together;
            }
            let changes = self.ends.iter().map(|end| Box::pin(end.changed()));
            tokio::select! {
                _ = select_all(changes) => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    /// Says now and then what servers are waited for, for ever: beside something that takes long
    /// only while they are away.
    pub(super) async fn keep_telling(&self, mut tell: impl FnMut(Vec<String>)) -> Infallible {
        loop {
            sleep(LOOK).await;
            tell(self.waiting());
        }
    }

    /// What servers are waited for, as of now.
    pub(super) fn waiting(&self) -> Vec<String> {
        self.ends.iter().enumerate().filter_map(|(index, end)| end.why_not(index)).collect()
    }

    /// Waits until all that the session said, which is dropped, has been delivered; says meanwhile
    /// what is waited for. Yields what servers did not take that have started anew.
    ///
    /// There is no other limit to that than `stop`: the servers wait for it too, and would for
    /// ever. Who is asked to stop gives them [`DELIVERY`] more.
    ///
    /// # Errors
    ///
    /// If it cannot be delivered.
    pub(super) async fn deliver(
        mut self,
        mut stop: watch::Receiver<bool>,
        mut tell: impl FnMut(Vec<String>),
    ) -> Result<LeftOver, ServiceError> {
        let worker = self.worker.0;
        let mut left = LeftOver::new();
        let limit = async {
            if stop.wait_for(|stop| *stop).await.is_err() {
                // Nobody can ask any more.
                std::future::pending::<()>().await;
            }
            sleep(DELIVERY).await;
        };
        tokio::pin!(limit);
        loop {
            tokio::select! {
                ended = self.lines.join_next() => match ended {
                    None => break,
                    Some(Ok(Ended { left_over, .. })) if left_over.is_empty() => {}
                    Some(Ok(Ended { server, left_over })) => _ = left.insert(server, left_over),
                    Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
                },
                () = &mut limit => {
                    let what = format!("worker {worker}: the servers did not say that they have its last clock");
                    return Err(ServiceError::Undelivered(what));
                }
                () = sleep(LOOK) => tell(self.waiting()),
            }
        }
        match self.refusal() {
            None => Ok(left),
            Some(reason) => Err(ServiceError::Session { worker, source: SessionError::Refused(reason) }),
        }
    }
}

impl End {
    fn why_not(&self, index: usize) -> Option<String> {
        match self {
            Self::Here(..) => None,
            Self::Lan(handle) => why_not(&handle.state.borrow(), index),
        }
    }

    /// What the server has of its shards, and of the worker; why not, if it is not there.
    fn standings(&self, index: usize) -> Result<Vec<Standing>, String> {
        match self {
            Self::Here(_, standings, _) => Ok(standings.clone()),
            Self::Lan(handle) => {
                let state = handle.state.borrow();
                match (why_not(&state, index), &*state) {
                    (None, LinkState::Connected { standings, .. }) => Ok(standings.clone()),
                    (why, _) => Err(why.unwrap_or_default()),
                }
            }
        }
    }

    fn heard(&self) -> Heard {
        match self {
            Self::Here(_, _, refusal) if refusal.reason().is_some() => Heard::Refused,
            Self::Here(counter, ..) => Heard::Notice(counter.notice.borrow().clone()),
            Self::Lan(handle) => match &*handle.state.borrow() {
                LinkState::Connected { notice, .. } => Heard::Notice(notice.clone()),
                LinkState::Departed(_) => Heard::Notice(Notice::Expelled),
                LinkState::Waiting(_) => Heard::Nothing,
                LinkState::Refused(_) => Heard::Refused,
                LinkState::Lost => Heard::Lost,
            },
        }
    }

    fn refusal(&self) -> Option<String> {
        match self {
            Self::Here(_, _, refusal) => refusal.reason().map(str::to_owned),
            Self::Lan(handle) => match &*handle.state.borrow() {
                LinkState::Refused(why) => Some(why.clone()),
                LinkState::Waiting(_)
                | LinkState::Connected { .. }
                | LinkState::Departed(_)
                | LinkState::Lost => None,
            },
        }
    }

    async fn changed(&self) {
        let ended = match self {
            // What has changed already was looked at; what changes in between is found at the next
            // look.
            Self::Here(counter, ..) => {
                let mut notice = counter.notice.clone();
                notice.mark_unchanged();
                notice.changed().await.is_err()
            }
            Self::Lan(handle) => {
                let mut state = handle.state.clone();
                state.mark_unchanged();
                state.changed().await.is_err()
            }
        };
        if ended {
            std::future::pending::<()>().await;
        }
    }

    async fn join(&self, worker: WorkerId, clock: Clock) -> Option<Vec<(ShardId, Clock)>> {
        match self {
            Self::Here(counter, ..) => {
                let (answer, joined) = oneshot::channel();
                counter.calls.send(Call::Join { worker, clock, answer }).await.ok()?;
                joined.await.ok()
            }
            Self::Lan(handle) => handle.join(clock).await,
        }
    }
}

/// Why a server that is in `state` does not serve, if it does not.
fn why_not(state: &LinkState, index: usize) -> Option<String> {
    match state {
        LinkState::Waiting(why) | LinkState::Departed(why) | LinkState::Refused(why) => {
            Some(format!("server {index}: {why}"))
        }
        LinkState::Connected { notice: Notice::Leaving | Notice::Departing | Notice::Expelled, .. } => {
            Some(format!("server {index}, which is stopping"))
        }
        LinkState::Connected { .. } => None,
        LinkState::Lost => Some(format!("server {index}, which does not know this session any more")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datacenter::lan::{Security, Terms};
    use datacenter::refusals::Refusals;
    use datacenter::wire::{Shapes, ToWorker, VERSION, Welcome};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn servers_taken_together_are_what_the_worst_of_them_is() {
        let of = |heard: &[&Heard]| Together::of(heard.iter().copied().cloned());
        let [serving, leaving, departing, expelled] =
            [Notice::Serving, Notice::Leaving, Notice::Departing, Notice::Expelled].map(Heard::Notice);
        let settled =
            |lacks: Option<&str>| Heard::Notice(Notice::Settled { lacks: lacks.map(str::to_owned) });
        let (all, without) = (settled(None), settled(Some("oslo (clock 7 of 9)")));
        assert_eq!(of(&[&all, &all]), Together::Settled);
        assert_eq!(of(&[&all, &without]), Together::Settled);
        assert_eq!(of(&[&all, &serving]), Together::Serving);
        assert_eq!(of(&[&all, &Heard::Nothing]), Together::Serving);
        assert_eq!(of(&[&all, &leaving]), Together::Leaving);
        assert_eq!(of(&[&Heard::Lost, &leaving]), Together::Lost);
        assert_eq!(of(&[&Heard::Lost, &departing]), Together::Departing);
        assert_eq!(of(&[&expelled, &Heard::Lost]), Together::Expelled);
    }

    fn links(lines: JoinSet<Ended>) -> Links {
        Links { worker: WorkerId(1), ends: Vec::new(), lines }
    }

    fn line_for(seconds: u64, left_over: Unsent) -> JoinSet<Ended> {
        let mut lines = JoinSet::new();
        lines.spawn(async move {
            sleep(Duration::from_secs(seconds)).await;
            Ended { server: 2, left_over }
        });
        lines
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_said_is_delivered_however_long_that_takes() {
        let (_stop, asked) = watch::channel(false);
        let start = Instant::now();
        let delivered = links(line_for(3600, vec![])).deliver(asked, |_| {}).await;
        assert!(delivered.is_ok(), "{delivered:?}");
        assert_eq!(start.elapsed(), Duration::from_secs(3600));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_asked_to_stop_says_what_it_could_not_deliver() {
        let (stop, asked) = watch::channel(false);
        let start = Instant::now();
        let asking = async {
            sleep(Duration::from_secs(60)).await;
            stop.send_replace(true);
        };
        let (delivered, ()) = tokio::join!(links(line_for(3600, vec![])).deliver(asked, |_| {}), asking);
        assert!(matches!(delivered, Err(ServiceError::Undelivered(_))), "{delivered:?}");
        assert_eq!(start.elapsed(), Duration::from_secs(60) + DELIVERY);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_server_did_not_take_is_kept_for_its_next_life() {
        let (_stop, asked) = watch::channel(false);
        let request = Request::Leave(WorkerId(1));
        let left = links(line_for(1, vec![(ShardId(0), request.clone())])).deliver(asked, |_| {}).await;
        assert_eq!(left.unwrap(), BTreeMap::from([(2, vec![(ShardId(0), request)])]));
    }

    /// Lets a worker in, as the given life of server 0, and hangs up at the next thing that it
    /// says.
    async fn welcome_once(listener: &TcpListener, incarnation: u64) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut said = [0; 1024];
        assert!(stream.read(&mut said).await.unwrap() > 0, "a hello");
        let standings = vec![Standing { shard: ShardId(0), clock: Clock(0), worker: None, is_new: true }];
        let welcome = Welcome { version: VERSION, server: 0, incarnation, standings };
        let frame = ToWorker::Welcome(welcome).encode();
        stream.write_all(&(frame.len() as u32).to_be_bytes()).await.unwrap();
        stream.write_all(&frame.to_bytes()).await.unwrap();
        let _ = stream.read(&mut said).await.unwrap();
    }

    /// Links to one server at `listener`, and the session's side of them, which keeps them open.
    fn to_one(listener: &TcpListener) -> (Links, mpsc::Sender<(ShardId, Request)>) {
        let (requests, queue) = mpsc::channel(1);
        let plan = Plan {
            terms: Terms { datacenter: "oslo".into(), job_digest: Vec::new() },
            worker: WorkerId(1),
            incarnation: 1,
            server: 0,
            address: listener.local_addr().unwrap().to_string(),
            security: Security::Plaintext,
            shapes: Arc::new(Shapes(vec![Vec::new()])),
            refusals: Refusals::default(),
        };
        let (line, handle) = ServerLink::new(plan, queue, mpsc::channel(1).0);
        let mut links = links(JoinSet::new());
        links.ends.push(End::Lan(handle));
        links.lines.spawn(async move { Ended { server: 0, left_over: line.run().await } });
        (links, requests)
    }

    #[tokio::test]
    async fn joining_ends_when_a_server_has_been_away_for_long() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (links, _requests) = to_one(&listener);
        tokio::spawn(async move { welcome_once(&listener, 1).await });
        let joined = async {
            assert!(links.ready(|_| {}).await.is_some());
            links.join(Clock(0), Duration::from_secs(1)).await
        };
        assert_eq!(timeout(Duration::from_secs(20), joined).await, Ok(Err(Together::Away)));
    }

    #[tokio::test]
    async fn joining_ends_when_a_server_starts_anew_meanwhile() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (links, _requests) = to_one(&listener);
        tokio::spawn(async move {
            welcome_once(&listener, 1).await;
            welcome_once(&listener, 2).await;
        });
        let joined = async {
            assert!(links.ready(|_| {}).await.is_some());
            links.join(Clock(0), Duration::from_secs(60)).await
        };
        assert_eq!(timeout(Duration::from_secs(20), joined).await, Ok(Err(Together::Lost)));
        assert!(links.ready(|_| {}).await.is_none(), "nor is it waited for any more");
    }

    #[tokio::test]
    async fn a_session_ends_whose_server_refuses_what_it_said() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (links, _requests) = to_one(&listener);
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            let standings = Vec::new();
            let welcome = Welcome { version: VERSION, server: 0, incarnation: 1, standings };
            let refused = ToWorker::Refused { cause: "request".into(), reason: "it is too large".into() };
            for frame in [ToWorker::Welcome(welcome).encode(), refused.encode()] {
                stream.write_all(&(frame.len() as u32).to_be_bytes()).await.unwrap();
                stream.write_all(&frame.to_bytes()).await.unwrap();
            }
            // It does not come back.
            assert!(timeout(Duration::from_secs(60), listener.accept()).await.is_err());
        });
        let refused = timeout(Duration::from_secs(20), links.until(Together::Refused)).await;
        assert_eq!((refused, links.refusal().as_deref()), (Ok(Together::Refused), Some("it is too large")));
        let (_stop, asked) = watch::channel(false);
        let error = links.deliver(asked, |_| {}).await.unwrap_err().to_string();
        assert_eq!(error, "worker 1: a server of its region has ended the session: it is too large");
    }
}
