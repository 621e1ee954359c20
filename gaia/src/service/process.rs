//! One process of a region: starts its parts, answers for them, and stops them in order.
//!
//! Asked to stop (SIGTERM, Ctrl-C), its workers end their clock and leave, its servers ship all
//! they have and wait until the other regions have confirmed it. A second signal ends it at once.
//!
//! Kind: driver.

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use datacenter::WorkerId;
use datacenter::lan::worker::Plan;
use datacenter::refusals::Refusals;
use futures_util::future::{join_all, select_all, try_join_all};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{Instrument, info, warn};
use wan::driver::address::Address;

use super::connection::{Ended, asked};
use super::identities::Identities;
use super::notes::Notes;
use super::part::Part;
use super::report::{Answers, Reported, StatusReporter, Told};
use super::server::{Server, Sockets, own_address};
use super::session::Route;
use super::setup::Setup;
use super::worker;
use super::{ServiceError, beginning, output};
use crate::job::region::{AtEnd, Region};
use crate::learning::models::is_external;
use crate::service::admin::{self, Recorded};
use crate::service::logs;
use crate::service::participation::Participation;
use crate::service::status::{Phase, ScoreStatus};

/// Who has asked for the status so lately will ask again: somebody watches.
const WATCHED: Duration = Duration::from_secs(3);
/// How long a process that ends waits for that, so that its end is not taken for a crash.
const LAST_ANSWER: Duration = Duration::from_secs(2);
/// How long the last answer may take on its way out.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// For how long a server whose job is done waits for its workers to read the result.
const LAST_READS: Duration = Duration::from_secs(30);

/// How a process ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The job is done.
    Finished {
        /// The score of the region's copy, where this process has made it.
        score: Option<ScoreStatus>,
        /// What the result lacks, in words, if it is not all that the job's file says.
        lacks: Option<String>,
    },
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
    if !matches!(part, Part::Server(_)) && is_external(&region.job.model) {
        return Err(ServiceError::External);
    }
    let log = logs::Process { region: region.name.clone(), role: part.role() };
    logs::init_process(region.log, &log);
    let started = Instant::now();
    let stop = stop_on_signals()?;

    let mut front = Front::open(&region, part, started).await?;
    if let Some(directory) = region.output.as_ref().filter(|_| !part.servers(&region).is_empty()) {
        output::prepare(directory)?;
    }
    if let Some(checkpoint) = region.checkpoint.as_ref().filter(|_| !part.servers(&region).is_empty()) {
        super::checkpoint::prepare(checkpoint)?;
    }
    let outcome = train(region, part, &mut front, &stop).await;
    match outcome.is_ok() {
        true => front.close().await,
        false => front.shut().await,
    }
    outcome
}

/// What a process has from its start, whatever its parts: its certificates, and where it tells how
/// it is.
pub(super) struct Front {
    pub(super) identities: Identities,
    reporter: Arc<StatusReporter>,
    tasks: JoinSet<()>,
    state: watch::Sender<Reported>,
}

impl Front {
    /// Ports that are taken, and certificates that cannot be used, show here, before the data is
    /// read.
    pub(super) async fn open(region: &Region, part: Part, started: Instant) -> Result<Self, ServiceError> {
        let identities = Identities::load(region, part)?;
        let listener = admin_listener(region, part).await?;
        // Where nobody can ask, nothing is recorded.
        let recorded = listener.as_ref().and_then(|_| Recorded::install(&region.name, &part.role()));
        let mut tasks = JoinSet::new();
        if let Some(recorded) = recorded.clone() {
            tasks.spawn(recorded.add_up());
        }
        let reporter = Arc::new(StatusReporter::new(region, part, started, recorded));
        if let Some(listener) = listener {
            tasks.spawn(admin::serve(listener, reporter.clone()));
        }
        Ok(Self { identities, reporter, tasks, state: watch::channel(Reported::default()).0 })
    }

    /// Answers from now on for these parts, and logs for whom they wait. Yields where refusals are to
    /// be counted.
    pub(super) fn answer(
        &mut self,
        setup: &Arc<Setup>,
        part: Part,
        servers: Arc<Vec<Server>>,
        workers: Vec<Notes>,
    ) -> Refusals {
        let refusals = Refusals::default();
        let answers = Arc::new(Answers {
            setup: setup.clone(),
            part,
            started: self.reporter.started(),
            servers,
            workers,
            refusals: refusals.clone(),
            identities: self.identities.all(),
            state: self.state.subscribe(),
        });
        self.reporter.open(answers.clone());
        self.tasks.spawn(async move { answers.log_waits().await }.in_current_span());
        refusals
    }

    /// Ends, once whoever watches knows.
    pub(super) async fn close(self) {
        tell_of_the_end(self.reporter.told()).await;
        self.shut().await;
    }

    async fn shut(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Reads the data, and trains.
async fn train(
    region: Region,
    part: Part,
    front: &mut Front,
    stop: &watch::Receiver<bool>,
) -> Result<Outcome, ServiceError> {
    #[expect(clippy::disallowed_methods, reason = "this is real time, in which reading takes long")]
    let reading = tokio::task::spawn_blocking(move || Setup::new(region, part));
    let setup = tokio::select! {
        read = reading => Arc::new(read.unwrap_or_else(|failed| resume_unwind(failed.into_panic()))?),
        () = asked(stop.clone()) => return Ok(Outcome::Stopped),
    };
    let region = &setup.region;
    info!(job = region.job.name, digest = super::report::short(&setup.digest), "starting");
    let for_workers = part != Part::Region;
    let mut servers = Vec::new();
    for index in part.servers(region) {
        let sockets = Sockets::open(&setup, index, for_workers).await?;
        let identity = front.identities.server(index).expect("loaded for every server of this process");
        let of_server = setup.clone();
        #[expect(clippy::disallowed_methods, reason = "this is real time, in which reading takes long")]
        let reading = tokio::task::spawn_blocking(move || beginning::read(&of_server, index));
        let beginning = tokio::select! {
            read = reading => read.unwrap_or_else(|failed| resume_unwind(failed.into_panic()))?,
            () = asked(stop.clone()) => return Ok(Outcome::Stopped),
        };
        servers.push(Server::start(&setup, index, identity, sockets, beginning));
    }
    let servers = Arc::new(servers);
    let notes: Vec<Notes> = part.workers(region).iter().copied().map(Notes::new).collect();
    let refusals = front.answer(&setup, part, servers.clone(), notes.clone());
    let front: &Front = front;
    let state = &front.state;

    let mut parts: Vec<_> = setup.parts().into_iter().map(Some).collect();
    let workers = part.workers(region).into_iter().zip(notes).map(|(index, notes)| {
        let route = match part {
            Part::Region => Route::Here(servers.iter().map(Server::in_process).collect()),
            Part::Server(_) | Part::Worker(_) => worker_route(&setup, index, &front.identities, &refusals),
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
        // Servers say when the job is done, and workers read the result then: neither can wait for
        // the other.
        tokio::try_join!(try_join_all(ended), serve_to_end(&servers, stop, state, part))
    };
    let outcome = match working.await {
        Ok((ended, served)) => conclude(&setup, &servers, ended, served, stop, state).await,
        Err(error) => Err(error),
    };
    // Also of one that failed: nobody should wait for it.
    join_all(servers.iter().map(Server::leave)).await;
    outcome
}

/// Says how the job ended, and writes its result if it is done.
async fn conclude(
    setup: &Setup,
    servers: &[Server],
    workers: Vec<Ended>,
    served: Served,
    stop: &watch::Receiver<bool>,
    state: &watch::Sender<Reported>,
) -> Result<Outcome, ServiceError> {
    let participation = match served {
        Served::Done(participation) => Some(participation),
        Served::Nobody if workers.iter().all(|ended| ended.is_finished) => None,
        Served::Nobody | Served::Stopped => {
            state.send_modify(|state| state.phase = Some(Phase::Draining));
            return Ok(Outcome::Stopped);
        }
    };
    state.send_modify(|state| state.phase = Some(Phase::Finished));
    join_all(servers.iter().map(Server::kept)).await;
    if let (Some(directory), Some(participation)) = (&setup.region.output, &participation) {
        write_output(setup, servers, participation, directory).await?;
    }
    // With the output the model is safe; without it, it is where the checkpoints are, or nowhere.
    if setup.region.output.is_none() {
        servers.iter().try_for_each(Server::check_kept)?;
    }
    if setup.region.at_end == AtEnd::Stay {
        info!("answering until this process is stopped");
        asked(stop.clone()).await;
    }
    let lacks = match &participation {
        Some(participation) => participation.lacking().next().map(|_| participation.lacks()),
        // They have it from their servers.
        None => workers.iter().find_map(|worker| worker.lacks.clone()),
    };
    let score = workers.into_iter().find_map(|worker| worker.score);
    Ok(Outcome::Finished { score, lacks })
}

/// Waits a little for whoever watches, if anybody does, to be told that this process comes to its
/// end.
async fn tell_of_the_end(mut told: watch::Receiver<Told>) {
    if told.borrow().is_none_or(|(at, _)| at.elapsed() > WATCHED) {
        return;
    }
    let knows = told.wait_for(|told| told.is_some_and(|(_, phase)| phase.is_end()));
    if timeout(LAST_ANSWER, knows).await.is_ok() {
        sleep(LAST_WORDS).await;
    }
}

/// How the servers of a process ended: decided once, by whoever has seen it first.
enum Served {
    /// The job is done.
    Done(Participation),
    /// They were asked to stop, and have handed over what there was.
    Stopped,
    /// There are none.
    Nobody,
}

/// Waits until the job is done everywhere, or hands over what there is when asked to stop.
async fn serve_to_end(
    servers: &[Server],
    stop: &watch::Receiver<bool>,
    state: &watch::Sender<Reported>,
    part: Part,
) -> Result<Served, ServiceError> {
    if servers.is_empty() {
        return Ok(Served::Nobody);
    }
    let settled = join_all(servers.iter().map(|server| async {
        let mut settled = server.settled.clone();
        settled.wait_for(Option::is_some).await.ok().and_then(|settled| settled.clone())
    }));
    tokio::select! {
        biased;
        settled = settled => {
            let participation = settled.into_iter().reduce(|all, one| Some(all?.and(&one?))).flatten();
            let participation = participation.ok_or(ServiceError::Died)?;
            let lacks = participation.lacking().next().map(|_| participation.lacks());
            match &lacks {
                None => info!(regions = %participation, "the job is done: everything has arrived everywhere"),
                Some(lacks) => {
                    warn!(regions = %participation, "the job has ended without all updates of {lacks}");
                }
            }
            servers.iter().for_each(|server| server.tell_settled(lacks.as_deref()));
            if part != Part::Region {
                let last_reads = join_all(servers.iter().map(Server::no_worker_connected));
                // Those wait for the other servers of the region too, which may yet have somebody
                // to give up.
                let graces = servers.iter().map(|server| server.setup.region.grace);
                let grace = graces.map(|grace| grace.server.max(grace.datacenter)).max().unwrap_or_default();
                let _ = timeout(LAST_READS + grace, last_reads).await;
            }
            Ok(Served::Done(participation))
        }
        () = asked(stop.clone()) => drain(servers, state).await.map(|()| Served::Stopped),
        _ = select_all(servers.iter().map(|server| Box::pin(server.departing()))) => {
            info!("an operator has asked the region to leave this job for good");
            servers.iter().for_each(Server::set_departing);
            drain(servers, state).await?;
            servers.iter().for_each(Server::depart);
            Ok(Served::Stopped)
        }
        (reason, ..) = select_all(servers.iter().map(|server| Box::pin(server.expelled()))) => {
            join_all(servers.iter().map(Server::tell_expelled)).await;
            Err(ServiceError::Left { reason })
        }
        (reason, ..) = select_all(servers.iter().map(|server| Box::pin(server.hopeless()))) => {
            Err(ServiceError::Refused { reason })
        }
        _ = select_all(servers.iter().map(|server| Box::pin(server.superseded()))) => {
            Err(ServiceError::Superseded)
        }
    }
}

/// Hands over what there is.
async fn drain(servers: &[Server], state: &watch::Sender<Reported>) -> Result<(), ServiceError> {
    state.send_modify(|state| state.phase = Some(Phase::Draining));
    let drained = try_join_all(servers.iter().map(Server::drain)).await;
    // Also of what could not be handed over: it comes from there.
    let saved = join_all(servers.iter().map(Server::save)).await;
    drained?;
    saved.into_iter().collect()
}

async fn write_output(
    setup: &Setup,
    servers: &[Server],
    participation: &Participation,
    directory: &Path,
) -> Result<(), ServiceError> {
    let mut staged = output::Staged::new(directory);
    for server in servers {
        for (shard, (clock, tables)) in server.values().await.unwrap_or_default() {
            staged.add_shard(setup, participation, shard, clock, &tables)?;
        }
    }
    for path in staged.publish()? {
        info!(path = %path.display(), "wrote the trained tables");
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
pub(super) fn worker_route(
    setup: &Setup,
    worker: u32,
    identities: &Identities,
    refusals: &Refusals,
) -> Route {
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
    Route::Lan(addresses.map(plan).collect())
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
