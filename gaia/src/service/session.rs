//! How a worker reaches its shards: through sockets, or straight where both are in one process.
//!
//! Kind: driver.

use std::time::Duration;

use datacenter::client::Client;
use datacenter::lan::worker::{Handle, Line, Plan, State};
use datacenter::local::{Call, Port, REQUEST_QUEUE, Session};
use datacenter::message::{Notice, Request, Standing};
use datacenter::{Clock, ShardId, WorkerId};
use futures_util::future::{join_all, select_all};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::setup::Setup;

/// How often a worker that waits says what for.
const LOOK: Duration = Duration::from_millis(500);

/// The way to a server in the same process.
#[derive(Clone)]
pub(super) struct Counter {
    pub(super) requests: mpsc::Sender<(ShardId, Request)>,
    pub(super) calls: mpsc::Sender<Call>,
    pub(super) notice: watch::Receiver<Notice>,
}

/// How a worker gets at the servers of its region, by index.
pub(super) enum Route {
    /// In this process.
    Here(Vec<Counter>),
    /// Over the LAN.
    Lan(Vec<Plan>),
}

/// A worker's links to all its servers.
pub(super) struct Links {
    worker: WorkerId,
    ends: Vec<End>,
    /// The lines' tasks, which end when they have delivered what the session said.
    lines: JoinSet<()>,
}

enum End {
    Here(Counter, Vec<Standing>),
    Lan(Handle),
}

/// How servers are, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Together {
    /// All serve, or some are away for a moment.
    Serving,
    /// All say that the job is done everywhere.
    Settled,
    /// One is about to stop.
    Leaving,
    /// One has started anew.
    Lost,
}

impl Links {
    /// Links of `worker` over `route`, and the session's side of them.
    pub(super) async fn open(setup: &Setup, worker: WorkerId, route: &Route) -> (Self, Session) {
        let (replies, answers) = mpsc::channel(2 * usize::from(setup.region.job.shards));
        let mut lines = JoinSet::new();
        let (mut ends, mut ways) = (Vec::new(), Vec::new());
        match route {
            Route::Here(counters) => {
                for counter in counters {
                    let (answer, standings) = oneshot::channel();
                    let attach = Call::Attach { worker, replies: replies.clone(), answer };
                    // A server of this process is there as long as its workers.
                    let _ = counter.calls.send(attach).await;
                    ends.push(End::Here(counter.clone(), standings.await.unwrap_or_default()));
                    ways.push(counter.requests.clone());
                }
            }
            Route::Lan(plans) => {
                for plan in plans {
                    let (requests, queue) = mpsc::channel(REQUEST_QUEUE);
                    let (line, handle) = Line::new(plan.clone(), queue, replies.clone());
                    lines.spawn(line.run());
                    ends.push(End::Lan(handle));
                    ways.push(requests);
                }
            }
        }
        let shards = (0..setup.region.job.shards).map(|s| ways[usize::from(setup.host(ShardId(s)))].clone());
        let port = Port { shards: shards.collect(), replies: answers };
        let client = Client::new(worker, &setup.specs, setup.placement, setup.region.job.staleness);
        (Self { worker, ends, lines }, Session::new(client, port))
    }

    /// Waits until all servers are there and serve; says meanwhile what is waited for.
    pub(super) async fn ready(&self, mut tell: impl FnMut(Vec<String>)) -> Vec<Standing> {
        loop {
            let waiting: Vec<String> =
                self.ends.iter().enumerate().filter_map(|(i, e)| e.why_not(i)).collect();
            if waiting.is_empty() {
                tell(Vec::new());
                return self.ends.iter().flat_map(End::standings).collect();
            }
            tell(waiting);
            let changes = self.ends.iter().map(|end| Box::pin(end.changed()));
            tokio::select! {
                _ = select_all(changes) => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    /// Counts the worker among those that train, at `clock` or later, the same on all shards; yields that clock.
    pub(super) async fn join(&self, clock: Clock) -> Clock {
        let mut proposed = clock;
        loop {
            let joined = join_all(self.ends.iter().map(|end| end.join(self.worker, proposed))).await;
            let clocks = joined.iter().flatten().flatten().map(|(_, clock)| *clock);
            let (least, latest) = (clocks.clone().min(), clocks.max());
            match (joined.iter().all(Option::is_some), least, latest) {
                (true, Some(least), Some(latest)) if least == latest => return latest,
                // Shards of different servers were at different clocks: the latest holds for all.
                (true, _, Some(latest)) => proposed = latest,
                // A connection broke meanwhile.
                _ => sleep(LOOK).await,
            }
        }
    }

    /// How the servers are.
    pub(super) fn together(&self) -> Together {
        let notices = || self.ends.iter().map(End::notice);
        if self.ends.iter().any(End::is_lost) {
            Together::Lost
        } else if notices().any(|notice| notice == Some(Notice::Leaving)) {
            Together::Leaving
        } else if notices().all(|notice| notice == Some(Notice::Settled)) {
            Together::Settled
        } else {
            Together::Serving
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

    /// What servers are waited for, as of now.
    pub(super) fn waiting(&self) -> Vec<String> {
        self.ends.iter().enumerate().filter_map(|(index, end)| end.why_not(index)).collect()
    }

    /// Waits until all that the session said, which is dropped, has been delivered.
    pub(super) async fn close(mut self) {
        while self.lines.join_next().await.is_some() {}
    }
}

impl End {
    fn why_not(&self, index: usize) -> Option<String> {
        match self {
            Self::Here(..) => None,
            Self::Lan(handle) => match &*handle.state.borrow() {
                State::Waiting(why) => Some(format!("server {index}: {why}")),
                State::Connected { notice: Notice::Leaving, .. } => {
                    Some(format!("server {index}, which is stopping"))
                }
                State::Connected { .. } => None,
                State::Lost => Some(format!("server {index}, which has started anew")),
            },
        }
    }

    fn standings(&self) -> Vec<Standing> {
        match self {
            Self::Here(_, standings) => standings.clone(),
            Self::Lan(handle) => match &*handle.state.borrow() {
                State::Connected { standings, .. } => standings.clone(),
                State::Waiting(_) | State::Lost => Vec::new(),
            },
        }
    }

    fn notice(&self) -> Option<Notice> {
        match self {
            Self::Here(counter, _) => Some(*counter.notice.borrow()),
            Self::Lan(handle) => match &*handle.state.borrow() {
                State::Connected { notice, .. } => Some(*notice),
                State::Waiting(_) | State::Lost => None,
            },
        }
    }

    fn is_lost(&self) -> bool {
        match self {
            Self::Here(..) => false,
            Self::Lan(handle) => *handle.state.borrow() == State::Lost,
        }
    }

    async fn changed(&self) {
        let ended = match self {
            // What has changed already was looked at; what changes in between is found at the next look.
            Self::Here(counter, _) => {
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
            Self::Here(counter, _) => {
                let (answer, joined) = oneshot::channel();
                counter.calls.send(Call::Join { worker, clock, answer }).await.ok()?;
                joined.await.ok()
            }
            Self::Lan(handle) => handle.join(clock).await,
        }
    }
}
