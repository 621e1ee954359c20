//! What a process tells of itself, put together from its parts.
//!
//! Kind: driver.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use datacenter::identity::{Date, Identity};
use datacenter::message::Wait;
use datacenter::refusals::Refusals;
use datacenter::shard::Shard;
use datacenter::{Clock, ShardId, WorkerId};
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::info;
use wan::message::ServerId;
use wan::node::{Node, Presence};
use wan::replica::Replica;

use super::notes::Notes;
use super::part::Part;
use super::server::Server;
use super::setup::Setup;
use crate::filters::FilterStatus;
use crate::job::region::Region;
use crate::service::admin::{Recorded, StatusSource};
use crate::service::participation::Participation;
use crate::service::status::{
    Absence, CertificateStatus, HoldStatus, JobStatus, LinkStatus, MirrorPresence, MirrorStatus,
    MissingWorker, Phase, ServerStatus, ShardStatus, Status, Straggler,
};

/// How often a process looks for whom it waits, to log it.
const LOOK_FOR_WAITS: Duration = Duration::from_secs(5);
/// How often it logs the same again.
const REPEAT_WAITS: Duration = Duration::from_secs(60);

/// What a process knows of itself as a whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Reported {
    /// How far it is, where its parts do not say.
    pub(super) phase: Option<Phase>,
}

/// Where a process answers from its start: first that it starts, and then what its parts say.
pub(super) struct StatusReporter {
    starting: Status,
    started: Instant,
    answers: OnceLock<Arc<Answers>>,
    recorded: Option<Recorded>,
    /// When the status was last asked for, and the phase that was told.
    told: watch::Sender<Told>,
}

/// See [`StatusReporter`].
pub(super) type Told = Option<(Instant, Phase)>;

impl StatusReporter {
    pub(super) fn new(region: &Region, part: Part, started: Instant, recorded: Option<Recorded>) -> Self {
        let starting = Status {
            version: env!("CARGO_PKG_VERSION").into(),
            datacenter: region.name.clone(),
            role: part.role(),
            ..Status::default()
        };
        Self { starting, started, answers: OnceLock::new(), recorded, told: watch::channel(None).0 }
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// The parts are there.
    pub(super) fn open(&self, answers: Arc<Answers>) {
        let is_first = self.answers.set(answers).is_ok();
        debug_assert!(is_first, "a process starts its parts once");
    }

    pub(super) fn told(&self) -> watch::Receiver<Told> {
        self.told.subscribe()
    }
}

impl StatusSource for StatusReporter {
    fn status(&self) -> BoxFuture<'_, Status> {
        Box::pin(async {
            let status = match self.answers.get() {
                Some(answers) => answers.tell().await,
                None => {
                    let uptime_seconds = self.started.elapsed().as_secs_f64();
                    Status { uptime_seconds, ..self.starting.clone() }
                }
            };
            self.told.send_replace(Some((Instant::now(), status.phase)));
            status
        })
    }

    fn recorded(&self) -> Option<&Recorded> {
        self.recorded.as_ref()
    }
}

/// Answers for a process.
pub(super) struct Answers {
    pub(super) setup: Arc<Setup>,
    pub(super) part: Part,
    pub(super) started: Instant,
    pub(super) servers: Arc<Vec<Server>>,
    pub(super) workers: Vec<Notes>,
    pub(super) refusals: Refusals,
    pub(super) identities: Vec<Identity>,
    pub(super) state: watch::Receiver<Reported>,
}

/// The first bytes of a digest, in hex.
pub(crate) fn short(digest: &[u8]) -> String {
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

impl Answers {
    async fn tell(&self) -> Status {
        let region = &self.setup.region;
        let mut servers = Vec::new();
        for server in self.servers.iter() {
            servers.extend(server.status().await);
        }
        let notes: Vec<_> = self.workers.iter().map(|notes| notes.read(Instant::now())).collect();
        let mut waiting_for: Vec<String> = notes.iter().flat_map(|note| note.waiting.clone()).collect();
        waiting_for.extend(servers.iter().flat_map(|server| self.missing(server)));
        waiting_for.dedup();
        let is_settled =
            !self.servers.is_empty() && self.servers.iter().all(|s| s.settled.borrow().is_some());
        let mut participation: Option<Participation> = None;
        for server in self.servers.iter() {
            let Some(of_server) = server.participation().await else { continue };
            participation = Some(participation.map_or(of_server.clone(), |all| all.and(&of_server)));
        }
        let phase = match self.state.borrow().phase {
            Some(phase) => phase,
            None if is_settled || (!notes.is_empty() && notes.iter().all(|n| n.is_finished)) => {
                Phase::Finished
            }
            None if servers.iter().any(|server| self.is_new(server)) => Phase::Waiting,
            None if notes.is_empty() || notes.iter().any(|n| n.is_training) => Phase::Training,
            None => Phase::Waiting,
        };
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            datacenter: region.name.clone(),
            role: self.part.role(),
            phase,
            waiting_for: if phase == Phase::Finished { Vec::new() } else { waiting_for },
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            job: JobStatus {
                name: region.job.name.clone(),
                digest: short(&self.setup.digest),
                strategy: region.strategy.name().into(),
                clocks: region.job.clocks,
            },
            regions: participation.map(|participation| participation.regions).unwrap_or_default(),
            servers,
            workers: notes.into_iter().map(|note| note.status).collect(),
            certificates: self.identities.iter().map(certificate).collect(),
            refusals: self.refusals(),
        }
    }

    /// Whether somebody whom a server waits for has never been there. What is lost later is waited
    /// for as well, but does not keep it from serving.
    fn is_new(&self, server: &ServerStatus) -> bool {
        let clock = server.shards.iter().map(|shard| shard.clock).min();
        let untried = expected_links(server).any(|link| !link.up && link.connects == 0);
        let no_workers = clock == Some(0) && awaited(server).next().is_some();
        untried || no_workers || self.is_deserted(server) || unheard(server).next().is_some()
    }

    /// Whether all workers of a server have left before the end.
    fn is_deserted(&self, server: &ServerStatus) -> bool {
        let clock = server.shards.iter().map(|shard| shard.clock).min();
        let is_over = clock.is_none_or(|clock| clock >= self.setup.region.job.clocks);
        !is_over && server.workers.is_empty() && awaited(server).next().is_none()
    }

    /// Whom a server waits for.
    fn missing(&self, server: &ServerStatus) -> Vec<String> {
        let missing: Vec<_> = awaited(server).map(|missing| missing.worker.to_string()).collect();
        let workers = match missing.as_slice() {
            [] => self.is_deserted(server).then(|| "workers, all of which have left".to_owned()),
            [one] => Some(format!("worker {one}, which is not connected")),
            _ => Some(format!("workers {}, which are not connected", missing.join(", "))),
        };
        let is_down = |link: &&LinkStatus| !link.up;
        let link = |link: &LinkStatus| match &link.problem {
            Some(problem) => format!("{} server {}: {problem}", link.datacenter, link.server),
            None => format!("{} server {}", link.datacenter, link.server),
        };
        let is_fetching =
            server.shards.iter().any(|shard| shard.fetching) && server.links.iter().any(|l| l.up);
        let state = is_fetching.then(|| "what other regions have of its shards".to_owned());
        let unheard = unheard(server).map(|datacenter| format!("{datacenter}: it has not dialled yet"));
        let links = expected_links(server).filter(is_down).map(link);
        workers.into_iter().chain(state).chain(links).chain(unheard).collect()
    }

    /// Logs for whom this process waits: when that changes, and now and then while it lasts.
    pub(super) async fn log_waits(&self) {
        let (mut told, mut told_at) = (Vec::new(), Instant::now());
        loop {
            sleep(LOOK_FOR_WAITS).await;
            let waits = self.tell().await.waiting_for;
            if waits == told && (waits.is_empty() || told_at.elapsed() < REPEAT_WAITS) {
                continue;
            }
            match waits.is_empty() {
                true => info!("nobody is waited for any more"),
                false => info!(waits_for = waits.join("; "), "waiting"),
            }
            (told, told_at) = (waits, Instant::now());
        }
    }

    fn refusals(&self) -> Vec<crate::service::status::Refusals> {
        let mut all = BTreeMap::new();
        let mut add = |refusals: &Refusals| {
            let scope = refusals.scope().name();
            for (refused, count) in refusals.all() {
                let by = if refused.by_us { "us" } else { "them" };
                *all.entry((scope.to_owned(), refused.cause, by)).or_insert(0) += count;
            }
        };
        add(&self.refusals);
        for server in self.servers.iter() {
            add(&server.lan_refusals);
            add(server.board.refusals());
        }
        let refusals = all.into_iter().map(|((scope, cause, by), count)| crate::service::status::Refusals {
            scope,
            cause: cause.to_owned(),
            by: by.to_owned(),
            count,
        });
        refusals.collect()
    }
}

/// The workers that a server does not hear of, and waits for.
fn awaited(server: &ServerStatus) -> impl Iterator<Item = &MissingWorker> {
    server.missing_workers.iter().filter(|missing| missing.state == Absence::Suspected)
}

/// The regions of which no server is known, as they dial us.
fn unheard(server: &ServerStatus) -> impl Iterator<Item = &str> {
    let mirrors = server.shards.first().into_iter().flat_map(|shard| &shard.mirrors);
    let names = mirrors.map(|mirror| mirror.datacenter.as_str());
    let is_known = |name: &str| server.links.iter().any(|link| link.datacenter == name);
    names.filter(move |name| !is_known(name) && !has_left(server, name))
}

/// Its links to regions that have not left for good.
fn expected_links(server: &ServerStatus) -> impl Iterator<Item = &LinkStatus> {
    server.links.iter().filter(|link| !has_left(server, &link.datacenter))
}

fn has_left(server: &ServerStatus, region: &str) -> bool {
    let mut mirrors = server.shards.iter().flat_map(|shard| &shard.mirrors);
    mirrors.any(|mirror| mirror.datacenter == region && mirror.presence == MirrorPresence::Left)
}

fn certificate(identity: &Identity) -> CertificateStatus {
    let certificate = identity.certificate();
    let now = Date::from(identity.dates().now());
    CertificateStatus {
        name: identity.name().to_string(),
        serial: certificate.serial.to_string(),
        seconds_to_expiry: (certificate.not_after.0 - now.0) as f64,
    }
}

/// What a server's task tells of its node.
struct Seen {
    shards: Vec<ShardStatus>,
    links: BTreeMap<ServerId, LinkStatus>,
    live: BTreeSet<WorkerId>,
    suspended: BTreeSet<WorkerId>,
}

impl Server {
    /// How this server is; none if its task is gone.
    pub(super) async fn status(&self) -> Option<ServerStatus> {
        let (names, counting) = (self.setup.clone(), self.counting.clone());
        let now = Instant::now().into_std();
        let look = self.look(move |node| (see(node, &names, now), counting.so_far(node, now)));
        let (mut seen, counts) = look.await?;
        let total = counts.total();
        for shard in &mut seen.shards {
            let counted = counts.shards.get(&shard.shard).cloned().unwrap_or_default();
            (shard.updated_elements, shard.shipped_elements) =
                (counted.updated_elements, counted.shipped_elements);
            shard.held_seconds = counted.held_seconds;
        }
        if let Some(keeper) = &self.keeper {
            for shard in &mut seen.shards {
                shard.checkpoint = Some(keeper.status(ShardId(shard.shard)));
            }
        }
        for (id, note) in self.board.links() {
            let link = seen.links.entry(id).or_insert_with(|| link_to(&self.setup, id));
            link.up = note.session.is_some();
            link.since_seconds = note.since.elapsed().as_secs_f64();
            link.address = note.address.filter(|_| link.up).map(|address| address.to_string());
            link.connects = note.connects;
            link.problem = note.problem;
        }
        for link in seen.links.values_mut() {
            let counted = total.link(&link.datacenter, link.server);
            link.sent_bytes = counted.sent_bytes;
            link.received_bytes = counted.received_bytes;
            link.sent_payload_bytes = counted.payload_bytes;
            link.repeated_bytes = counted.repeated_bytes;
            link.naive_bytes = counted.naive_bytes;
            link.announced_rows = counted.announced_rows;
        }
        // Before it is told.
        self.counting.keep(counts).await;
        let (workers, missing): (Vec<WorkerId>, Vec<WorkerId>) =
            seen.live.iter().partition(|worker| self.is_connected(**worker));
        // Who is connected and not live has started anew, and has yet to join.
        let suspended = seen.suspended.difference(&seen.live).filter(|worker| !self.is_connected(**worker));
        let suspended = suspended.map(|worker| (*worker, Absence::Gone));
        let missing = missing.into_iter().map(|worker| (worker, Absence::Suspected)).chain(suspended);
        let presence = self.presence.borrow().clone();
        let missing = missing.map(|(worker, state)| {
            let loss = presence.loss(worker);
            MissingWorker {
                worker: worker.0,
                state,
                seconds: loss.as_ref().map_or(0.0, |loss| loss.since.elapsed().as_secs_f64()),
                reason: loss.and_then(|loss| loss.why),
            }
        });
        Some(ServerStatus {
            index: self.index,
            shards: seen.shards,
            workers: workers.into_iter().map(|worker| worker.0).collect(),
            missing_workers: missing.collect(),
            suspensions: self.suspensions.so_far(),
            links: seen.links.into_values().collect(),
            wan_sent_bytes: total.sent_bytes,
            wan_received_bytes: total.received_bytes,
        })
    }
}

fn link_to(setup: &Setup, id: ServerId) -> LinkStatus {
    LinkStatus { datacenter: setup.name(id.datacenter).into(), server: id.index, ..LinkStatus::default() }
}

fn see(node: &Node, setup: &Setup, now: std::time::Instant) -> Seen {
    let link = |(at, id): (usize, ServerId)| {
        let round_trip = node.rtt(at);
        let spending = node.spending(at);
        let link = LinkStatus {
            round_trip_seconds: (!round_trip.is_zero()).then_some(round_trip.as_secs_f64()),
            rate_bytes_per_sec: node.drain_bytes_per_sec(at),
            budget_bytes_per_sec: spending.map(|spending| spending.credited / spending.seconds),
            budget_used: spending
                .filter(|spending| spending.credited > 0.0)
                .map(|spending| spending.spent / spending.credited),
            backlog_bytes: node.waiting_bytes(at),
            backlog_seconds: node.backlog(at).as_secs_f64(),
            in_flight_bytes: node.in_flight_bytes(at),
            // What it has carried is counted apart.
            ..link_to(setup, id)
        };
        (id, link)
    };
    let shards = || node.replicas().iter().map(Replica::shard);
    Seen {
        shards: (0..node.replicas().len()).map(|place| shard(node, place, setup, now)).collect(),
        links: node.peers().enumerate().map(link).collect(),
        live: shards().flat_map(Shard::live_workers).map(|(worker, _)| worker).collect(),
        suspended: shards().flat_map(Shard::suspended_workers).map(|(worker, _)| worker).collect(),
    }
}

fn shard(node: &Node, place: usize, setup: &Setup, now: std::time::Instant) -> ShardStatus {
    let replica = &node.replicas()[place];
    let shard = replica.shard();
    let mirrors = node.datacenters().enumerate().map(|(at, id)| {
        let inbox = replica.inbox(at);
        let (presence, silent) = node.presence(place, at, now);
        MirrorStatus {
            datacenter: setup.name(id).into(),
            clock: inbox.arrived_clock().0,
            lead: shard.clock().lead_over(inbox.arrived_clock()),
            lead_limit: replica.lead_limit(at),
            idle: replica.has_left(at) || inbox.is_settled(),
            presence: match presence {
                Presence::Live => MirrorPresence::Live,
                Presence::Suspected => MirrorPresence::Suspected,
                Presence::Behind => MirrorPresence::Behind,
                Presence::Stopped => MirrorPresence::Stopped,
                Presence::Gone => MirrorPresence::Gone,
                Presence::Left => MirrorPresence::Left,
            },
            silent_seconds: silent.unwrap_or_default().as_secs_f64(),
        }
    });
    let holds = shard.waiting_since(now).map(|(worker, why, time)| HoldStatus {
        worker: worker.0,
        reason: why.name().into(),
        datacenter: match why {
            Wait::Barrier(peer) | Wait::MirrorClock(peer) => Some(setup.name(peer).into()),
            Wait::Stale | Wait::Fetching => None,
        },
        seconds: time.as_secs_f64(),
    });
    ShardStatus {
        shard: shard.id().0,
        clock: shard.clock().0,
        fetching: replica.is_fetching(),
        slowest_workers: stragglers(shard, now),
        mirrors: mirrors.collect(),
        holds: holds.collect(),
        // These are counted apart, and its keeper knows of its checkpoints.
        held_seconds: BTreeMap::new(),
        updated_elements: 0,
        shipped_elements: 0,
        release_every: Some(replica.release_every()),
        filters: FilterStatus::of(replica, &setup.specs),
        checkpoint: None,
    }
}

/// The workers that hold the shard's clock where it is, unless all do, with for how long others
/// have waited for them.
fn stragglers(shard: &Shard, now: std::time::Instant) -> Vec<Straggler> {
    let first = shard.live_workers().map(|(_, clock)| clock).max().unwrap_or_default();
    let stale = shard.waiting_since(now).filter(|(_, why, _)| *why == Wait::Stale);
    let waited = stale.map(|(_, _, time)| time).max().unwrap_or_default();
    let slowest = |(_, clock): &(WorkerId, Clock)| *clock <= shard.clock() && *clock < first;
    let straggler = |(worker, clock): (WorkerId, Clock)| Straggler {
        worker: worker.0,
        clocks: first.lead_over(clock),
        seconds: waited.as_secs_f64(),
    };
    shard.live_workers().filter(slowest).map(straggler).collect()
}
