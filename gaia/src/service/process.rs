//! One process of a region: starts its parts, answers for them, and stops them in order.
//!
//! Asked to stop (SIGTERM, Ctrl-C), its workers end their clock and leave, its servers ship all they have and wait until
//! the other regions have confirmed it. A second signal ends it at once.
//!
//! Kind: driver.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use datacenter::WorkerId;
use datacenter::identity::{Dates, Identity, PeerName, Role};
use datacenter::lan::worker::Plan;
use datacenter::refusals::Refusals;
use futures_util::future::{join_all, try_join_all};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{Instrument, info, warn};
use wan::driver::address::Address;

use super::report::{Answers, State};
use super::server::{Server, Sockets, own_address};
use super::session::Route;
use super::setup::Setup;
use super::worker::{self, Ended, Notes};
use super::{ServiceError, output};
use crate::admin;
use crate::certificates::{ProcessName, TlsFiles, Watcher};
use crate::logs;
use crate::region::{AtEnd, Region};
use crate::status::{Phase, ScoreStatus, WHOLE_REGION};

/// How long a process that was asked to stop may take to hand over what it has.
const DRAIN: Duration = Duration::from_secs(60);

/// How often certificates are looked at.
const LOOK_AT_CERTIFICATES: Duration = Duration::from_secs(10);

/// Who has asked for the status so lately will ask again: somebody watches.
const WATCHED: Duration = Duration::from_secs(3);
/// How long a process that ends waits for that, so that its end is not taken for a crash.
const LAST_ANSWER: Duration = Duration::from_secs(2);
/// How long the last answer may take on its way out.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// For how long a server whose job is done waits for its workers to read the result.
const LAST_READS: Duration = Duration::from_secs(30);

/// Which part of a region a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Region,
    /// One server.
    Server(u16),
    /// One worker.
    Worker(u32),
}

impl Part {
    /// As status, logs and metrics name it.
    pub fn role(self) -> String {
        match self {
            Self::Region => WHOLE_REGION.into(),
            Self::Server(index) => format!("server-{index}"),
            Self::Worker(index) => format!("worker-{index}"),
        }
    }

    fn servers(self, region: &Region) -> Vec<u16> {
        match self {
            Self::Region => (0..region.servers).collect(),
            Self::Server(index) => vec![index],
            Self::Worker(_) => Vec::new(),
        }
    }

    fn workers(self, region: &Region) -> Vec<u32> {
        match self {
            Self::Region => (0..region.workers()).collect(),
            Self::Server(_) => Vec::new(),
            Self::Worker(index) => vec![index],
        }
    }

    /// Whether the process with this role and index is one of it.
    pub(crate) fn is(self, role: Role, index: u32) -> bool {
        match self {
            Self::Region => true,
            Self::Server(own) => role == Role::Server && index == u32::from(own),
            Self::Worker(own) => role == Role::Worker && index == own,
        }
    }

    /// Whether `region` has such a process.
    pub(crate) fn check(self, region: &Region) -> Result<(), ServiceError> {
        let (role, index, count) = match self {
            Self::Region => return Ok(()),
            Self::Server(index) => ("server", u32::from(index), u32::from(region.servers)),
            Self::Worker(index) => ("worker", index, region.workers()),
        };
        if index < count {
            return Ok(());
        }
        Err(ServiceError::Index { role, index, region: region.name.clone(), count })
    }
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The job is done; with the score of the region's copy, where this process has made it.
    Finished(Option<ScoreStatus>),
    /// It was asked to stop, and has handed over what it had.
    Stopped,
}

/// Runs `part` of `region` until the job is done or the process is asked to stop.
///
/// # Errors
///
/// If it cannot start, or cannot do its work.
pub async fn run(region: Region, part: Part) -> Result<Outcome, ServiceError> {
    part.check(&region)?;
    let log = logs::Process { region: region.name.clone(), role: part.role() };
    logs::init_process(region.log, &log);
    let started = Instant::now();
    let stop = stop_on_signals()?;

    // Ports that are taken, and certificates that cannot be used, show before the data is read.
    let identities = Identities::load(&region, part)?;
    let listener = admin_listener(&region, part).await?;
    if let Some(directory) = region.output.as_ref().filter(|_| !part.servers(&region).is_empty()) {
        output::prepare(directory)?;
    }
    let setup = Arc::new(Setup::new(region, part)?);
    let region = &setup.region;
    info!(job = region.job.name, digest = super::report::short(&setup.digest), "starting");
    let for_workers = part != Part::Region;
    let mut servers = Vec::new();
    for index in part.servers(region) {
        let sockets = Sockets::open(&setup, index, for_workers).await?;
        let identity = identities.server(index).expect("loaded for every server of this process");
        servers.push(Server::start(&setup, index, identity, sockets));
    }
    let servers = Arc::new(servers);
    let lan_refusals = Refusals::default();
    let notes: Vec<Notes> = part.workers(region).iter().map(|_| Notes::default()).collect();
    let state = watch::channel(State::default()).0;
    let told = watch::channel(None).0;
    let answers = Arc::new(Answers {
        setup: setup.clone(),
        part,
        started,
        servers: servers.clone(),
        workers: notes.clone(),
        refusals: lan_refusals.clone(),
        identities: identities.all(),
        state: state.subscribe(),
        told: told.clone(),
    });
    let waits = tokio::spawn({
        let answers = answers.clone();
        async move { answers.log_waits().await }.in_current_span()
    });
    let serving = listener.map(|listener| tokio::spawn(admin::serve(listener, answers)));

    let mut parts: Vec<_> = setup.parts().into_iter().map(Some).collect();
    let workers = part.workers(region).into_iter().zip(notes).map(|(index, notes)| {
        let route = match part {
            Part::Region => Route::Here(servers.iter().map(Server::counter).collect()),
            Part::Server(_) | Part::Worker(_) => Route::Lan(plans(&setup, index, &identities, &lan_refusals)),
        };
        let data = parts[index as usize].take().expect("each worker has one part");
        worker::start(setup.clone(), index, data, route, stop.clone(), notes)
    });
    let workers: Vec<_> = workers.collect();

    let working = async {
        let ended = workers.into_iter().map(|worker| async {
            let ended = worker.await;
            ended.unwrap_or_else(|_| panic!("a worker's thread ends with a result"))
        });
        // Servers say when the job is done, and workers read the result then: neither can wait for the other.
        let (ended, ()) = tokio::try_join!(try_join_all(ended), serve_to_end(&servers, &stop, &state, part))?;
        Ok::<Vec<Ended>, ServiceError>(ended)
    };
    let result = working.await;
    let outcome = match result {
        Err(error) => Err(error),
        Ok(ended) if *stop.borrow() && !is_done(&setup, &servers, &ended).await => Ok(Outcome::Stopped),
        Ok(ended) => Ok(Outcome::Finished(ended.into_iter().find_map(|ended| ended.score))),
    };
    match outcome {
        Ok(Outcome::Finished(_)) => state.send_modify(|state| state.phase = Some(Phase::Finished)),
        Ok(Outcome::Stopped) => state.send_modify(|state| state.phase = Some(Phase::Draining)),
        Err(_) => {}
    }
    if matches!(outcome, Ok(Outcome::Finished(_))) {
        if let Some(directory) = &setup.region.output {
            write_output(&setup, &servers, directory).await?;
        }
        if setup.region.at_end == AtEnd::Stay {
            info!("answering until this process is stopped");
            let _ = stop.clone().wait_for(|stop| *stop).await;
        }
    }
    waits.abort();
    let _ = waits.await;
    if let Some(serving) = serving {
        if outcome.is_ok() {
            tell_of_the_end(told.subscribe()).await;
        }
        serving.abort();
        let _ = serving.await;
    }
    match Arc::into_inner(servers) {
        Some(servers) => drop(join_all(servers.into_iter().map(Server::leave)).await),
        // Somebody still asks for the status: then peers learn of it a little later, by themselves.
        None => warn!("leaving without a goodbye"),
    }
    outcome
}

/// Whether the job was done before the process was asked to stop. Without workers all is settled too, whatever the clock.
async fn is_done(setup: &Setup, servers: &[Server], workers: &[Ended]) -> bool {
    for server in servers {
        let clock = server.look(|node| node.replicas().iter().map(|replica| replica.shard().clock()).min());
        let is_trained = clock.await.flatten().is_none_or(|clock| clock.0 >= setup.region.job.clocks);
        if !is_trained || !*server.settled.borrow() {
            return false;
        }
    }
    workers.iter().all(|worker| worker.is_finished)
}

/// Waits a little for whoever watches, if anybody does, to be told that this process comes to its end.
async fn tell_of_the_end(mut told: watch::Receiver<Option<(Instant, Phase)>>) {
    if told.borrow().is_none_or(|(at, _)| at.elapsed() > WATCHED) {
        return;
    }
    let knows = told.wait_for(|told| told.is_some_and(|(_, phase)| phase.is_end()));
    if timeout(LAST_ANSWER, knows).await.is_ok() {
        sleep(LAST_WORDS).await;
    }
}

/// Waits until the job is done everywhere, or hands over what there is when asked to stop.
async fn serve_to_end(
    servers: &[Server],
    stop: &watch::Receiver<bool>,
    state: &watch::Sender<State>,
    part: Part,
) -> Result<(), ServiceError> {
    if servers.is_empty() {
        return Ok(());
    }
    let settled = join_all(servers.iter().map(|server| async {
        let mut settled = server.settled.clone();
        let _ = settled.wait_for(|settled| *settled).await;
    }));
    let mut asked = stop.clone();
    tokio::select! {
        _ = settled => {
            info!("the job is done: everything has arrived everywhere");
            servers.iter().for_each(Server::tell_settled);
            if part != Part::Region {
                let last_reads = join_all(servers.iter().map(Server::no_worker_connected));
                let _ = timeout(LAST_READS, last_reads).await;
            }
            Ok(())
        }
        _ = asked.wait_for(|stop| *stop) => {
            state.send_modify(|state| state.phase = Some(Phase::Draining));
            try_join_all(servers.iter().map(|server| server.drain(DRAIN))).await.map(|_| ())
        }
    }
}

async fn write_output(setup: &Setup, servers: &[Server], directory: &Path) -> Result<(), ServiceError> {
    for server in servers {
        for (shard, (clock, tables)) in server.values().await.unwrap_or_default() {
            let path = output::write_shard(setup, directory, shard, clock, &tables)?;
            info!(shard, path = %path.display(), "wrote the trained tables");
        }
    }
    Ok(())
}

/// Turns true when the process is asked to stop; a second signal ends the process at once.
fn stop_on_signals() -> Result<watch::Receiver<bool>, ServiceError> {
    let (stop, asked) = watch::channel(false);
    let handle = |kind| signal(kind).map_err(ServiceError::Signals);
    let (mut terminate, mut interrupt) = (handle(SignalKind::terminate())?, handle(SignalKind::interrupt())?);
    tokio::spawn(async move {
        for count in 0.. {
            let code = tokio::select! {
                _ = terminate.recv() => 128 + 15,
                _ = interrupt.recv() => 128 + 2,
            };
            if count > 0 {
                warn!("asked to stop a second time: stopping at once");
                std::process::exit(code);
            }
            info!("asked to stop: finishing the clock, handing over what is left; once more to stop at once");
            stop.send_replace(true);
        }
    });
    Ok(asked)
}

/// Lines to all servers of the region.
fn plans(setup: &Setup, worker: u32, identities: &Identities, refusals: &Refusals) -> Vec<Plan> {
    let addresses = setup.region.server_addresses.iter().enumerate();
    let incarnation = datacenter::lan::incarnation();
    let plan = |(server, address): (usize, &Address)| Plan {
        terms: setup.terms(),
        worker: WorkerId(worker),
        incarnation,
        server: server as u16,
        address: address.to_string(),
        security: setup.security(identities.worker.as_ref()),
        shapes: setup.shapes.clone(),
        refusals: refusals.clone(),
    };
    addresses.map(plan).collect()
}

async fn admin_listener(region: &Region, part: Part) -> Result<Option<TcpListener>, ServiceError> {
    let of = |addresses: &Option<Vec<Address>>, index: usize| addresses.as_ref().map(|a| a[index].clone());
    let address = match part {
        Part::Region => of(&region.admin.servers, 0),
        Part::Server(index) => of(&region.admin.servers, usize::from(index)),
        Part::Worker(index) => of(&region.admin.workers, index as usize),
    };
    let (address, what) = match (region.admin.listen, address, part) {
        (Some(listen), ..) => (listen, "HTTP, admin.listen"),
        (None, Some(address), Part::Region | Part::Server(_)) => {
            (own_address("admin.servers", &address).await?, "HTTP, admin.servers")
        }
        (None, Some(address), Part::Worker(_)) => {
            (own_address("admin.workers", &address).await?, "HTTP, admin.workers")
        }
        (None, None, _) => return Ok(None),
    };
    let listener = TcpListener::bind(address).await;
    listener.map(Some).map_err(|error| ServiceError::Listen { address, what, error })
}

/// Who this process is, by the certificates of its parts. They are watched, and replaced when their files change.
struct Identities {
    servers: Vec<(u16, Identity)>,
    worker: Option<Identity>,
}

impl Identities {
    fn load(region: &Region, part: Part) -> Result<Self, ServiceError> {
        let hurry = Arc::new(Notify::new());
        let load = |role, index| {
            let peer = PeerName::new(&region.name, role).expect("configuration checks region names");
            let files = TlsFiles::of(&region.tls, &ProcessName::new(peer.clone(), index));
            let (watcher, warnings) = Watcher::start(files, &peer, Dates::System)?;
            for warning in warnings {
                warn!("{warning}");
            }
            let identity = watcher.identity().clone();
            tokio::spawn(watcher.run(LOOK_AT_CERTIFICATES, hurry.clone()));
            Ok::<_, ServiceError>(identity)
        };
        let servers = part.servers(region).into_iter();
        let servers = servers
            .map(|index| Ok((index, load(Role::Server, index.into())?)))
            .collect::<Result<_, ServiceError>>()?;
        let worker = match part {
            Part::Worker(index) if !region.tls.plaintext_lan => Some(load(Role::Worker, index)?),
            Part::Region | Part::Server(_) | Part::Worker(_) => None,
        };
        let mut hangup = signal(SignalKind::hangup()).map_err(ServiceError::Signals)?;
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                hurry.notify_waiters();
            }
        });
        Ok(Self { servers, worker })
    }

    fn server(&self, index: u16) -> Option<&Identity> {
        self.servers.iter().find_map(|(known, identity)| (*known == index).then_some(identity))
    }

    fn all(&self) -> Vec<Identity> {
        self.servers.iter().map(|(_, identity)| identity.clone()).chain(self.worker.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_and_metrics_name_a_process_alike_and_in_one_word() {
        let roles = [Part::Region, Part::Server(0), Part::Worker(12)].map(Part::role);
        assert_eq!(roles, ["region", "server-0", "worker-12"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_watches_is_told_of_the_end_and_nobody_else_is_waited_for() {
        let taken = async |told: &watch::Sender<_>, later: Option<Phase>| {
            let start = Instant::now();
            let asked_again = async {
                sleep(Duration::from_millis(700)).await;
                if let Some(phase) = later {
                    told.send_replace(Some((Instant::now(), phase)));
                }
            };
            tokio::join!(
                async {
                    tell_of_the_end(told.subscribe()).await;
                    start.elapsed()
                },
                asked_again
            )
            .0
        };
        let told = watch::channel(None).0;
        assert_eq!(taken(&told, None).await, Duration::ZERO);
        told.send_replace(Some((Instant::now(), Phase::Training)));
        let waited = taken(&told, Some(Phase::Finished)).await;
        assert!((800..900).contains(&waited.as_millis()), "{waited:?}");
        told.send_replace(Some((Instant::now(), Phase::Training)));
        let waited = taken(&told, None).await;
        assert!((2000..2100).contains(&waited.as_millis()), "whoever watched has gone: {waited:?}");
        sleep(WATCHED).await;
        assert_eq!(taken(&told, None).await, Duration::ZERO);
    }
}
