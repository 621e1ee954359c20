//! Keeps one link to each peer, for as long as it is wanted.
//!
//! Who knows where a peer is may dial it; of two that know each other's address, one dials and the other one only where no
//! link has come about, as only it may be able to. The dialer opens the control connection, and the data connection once there
//! is bulk, or at once where that is to be expected; it says hello on each, and the accepting side joins them by their session. When a link breaks, the dialer tries again, waiting a little longer
//! each time. A new link to a peer takes the place of an old one, whose end may not have shown yet.
//!
//! Kind: driver.

mod error;
mod moved;
mod search;
mod siblings;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use datacenter::DatacenterId;
use datacenter::causes::with_causes;
use datacenter::refusals::Refused;
use datacenter::throttle::{Repeats, Throttle};
use quinn::{Connection, RecvStream, SendStream};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rustls::pki_types::CertificateDer;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tracing::{Instrument, debug, info, warn};

pub use self::error::ConnectError;
use self::search::{Attempt, Search};
use crate::driver::address::Address;
use crate::driver::frames::{self, FrameError};
use crate::driver::handshake_limiter::{HandshakeLimiter, HandshakePermit, Known};
use crate::driver::hello::{LEFT, Refusal, Terms};
use crate::driver::job_settings::{JobSettings, MAX_JOB_SETTINGS_BYTES};
use crate::driver::link::{
    self, Awaited, DataConnection, Link, LinkError, LinkTraffic, OpenData, close_code,
};
use crate::driver::link_registry::LinkRegistry;
use crate::driver::names::Names;
use crate::driver::paths::Paths;
use crate::driver::probe::{Answers, Heard, hear};
use crate::driver::queue::EventSender;
use crate::driver::server::Event;
use crate::inbox::PeerError;
use crate::message::ServerId;
use crate::node::Greeting;
use crate::transport::{
    Certificate, DialError, Endpoint, Path, PeerName, carries, peer_certificate, peer_name,
};
use crate::wire::{self, Channel, Hello, MAX_HELLO_BYTES, Shapes};

/// For how long whoever is not the first to dial waits for a link: longer than a handshake takes.
const SECOND: Duration = Duration::from_secs(3);

/// The same when the process has just started, at most: the other side may still take the link to the one before it for up.
const SECOND_AT_FIRST: Duration = Duration::from_millis(500);

/// Where the path is known, so many round trips will do: a link is there one and a half after the other side has dialled.
const SECOND_ROUND_TRIPS: u32 = 2;

/// How long until one that has left for good is told again, if it is there.
const DEPARTED: Duration = Duration::from_secs(60);

/// How long two that run different jobs may take to tell each other their settings, before they refuse each other without.
const SETTINGS: Duration = Duration::from_secs(3);

/// How long an address may not answer if there are others to try.
const OTHERS: Duration = Duration::from_secs(10);

/// How long the answer to a knock may take, on a path of which nothing is known.
const KNOCK: Duration = Duration::from_secs(1);

/// What is taken for the round-trip time where nobody is expected to answer: one packet is sent at first, and after three times
/// as long two more.
const BLIND_ROUND_TRIP: Duration = Duration::from_secs(1);

/// So many of these the answer may take.
const BLIND_ROUND_TRIPS: u32 = 5;

/// A server of another datacenter.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its id.
    pub id: ServerId,
    /// Its name, as in its certificate.
    pub name: PeerName,
    /// Where it may be found, tried in turn; nothing for one that has to find us.
    pub addresses: Vec<Address>,
    /// What is known of the path.
    pub path: Path,
}

/// Who of two datacenters dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// We do.
    First,
    /// The other does, or we do where no link has come about.
    Second,
}

/// What all links of a process share.
#[derive(Clone)]
pub struct Peers {
    endpoint: Endpoint,
    terms: Arc<Terms>,
    shapes: Arc<Shapes>,
    events: EventSender,
    traffic: LinkTraffic,
    registry: LinkRegistry,
    answers: Answers,
    names: Names,
    throttles: Arc<LogThrottles>,
    known: Known,
}

/// What has been logged lately of those to whom there is no link.
struct LogThrottles {
    /// Of strangers,
    strangers: Mutex<Throttle>,
    /// and of those who have proven a certificate, and are none of ours.
    known: Mutex<Throttle>,
    /// Of peers, why there is no link. Both sides dial: what a region and we refuse each other for is one thing, whoever is the
    /// first to say it. Whatever else goes wrong is one for each server.
    peers: Mutex<Repeats<Topic>>,
}

/// Of which region or which server of it, and what.
type Topic = (DatacenterId, Option<u16>, String);

/// Refusals that both sides know of, each in its own words.
const MUTUAL: [&str; 2] = ["job", "version"];

/// What begins what there is to be said of a link that was up, and broke for whatever reason but a refusal: the next one
/// that comes up does not make it news.
const BROKEN: &str = "broken:";

/// What whoever dialled wants.
enum Greeted {
    /// A link.
    Link(Link),
    /// The data connection of one.
    Data,
    /// A look at the path, which it has had.
    Probe,
}

impl Peers {
    /// Links over `endpoint` for the node behind `events`; what crosses them is counted in
    /// `traffic`, and how they are is noted in `registry`.
    pub fn new(
        endpoint: Endpoint,
        terms: Terms,
        shapes: Shapes,
        events: EventSender,
        traffic: LinkTraffic,
        registry: LinkRegistry,
    ) -> Self {
        let answers = Answers::new(endpoint.clone(), terms.clone(), registry.clone());
        let throttle = || Mutex::new(Throttle::new(Instant::now()));
        let throttles =
            Arc::new(LogThrottles { strangers: throttle(), known: throttle(), peers: Mutex::default() });
        Self {
            endpoint,
            terms: Arc::new(terms),
            shapes: Arc::new(shapes),
            events,
            traffic,
            registry,
            answers,
            names: Names::default(),
            throttles,
            known: Known::default(),
        }
    }

    /// The same, looking names of peers up in `names`.
    #[must_use]
    pub fn looking_up(self, names: Names) -> Self {
        Self { names, ..self }
    }

    /// Dials `peer`, again and again, while there is no link to it; `rng` draws sessions and spreads the pauses.
    pub async fn dial(self, peer: Peer, turn: Turn, mut rng: ChaCha8Rng) {
        let mut search = Search::new();
        // It stays with what was good, and goes on from what was not.
        let mut failures = 0;
        self.registry.expect(peer.id);
        self.answers.know(&peer);
        let handshake = peer.path.round_trip.map(|round_trip| SECOND_ROUND_TRIPS * round_trip);
        let mut wait = handshake.map_or(SECOND_AT_FIRST, |handshake| handshake.min(SECOND_AT_FIRST));
        loop {
            self.registry.down(peer.id).await;
            let has_departed = self.has_departed(peer.id.datacenter).await;
            if has_departed {
                // It may live, be unable to dial us, and not know.
                self.registry.departed(peer.id);
            }
            if turn == Turn::Second {
                let second = SECOND.max(SECOND_ROUND_TRIPS * peer.path.first_round_trip());
                let wait = std::mem::replace(&mut wait, second);
                sleep(wait.mul_f64(rng.random_range(1.0..1.5))).await;
                if self.registry.is_up(peer.id) {
                    continue;
                }
            }
            let Some((address, round)) = candidate(&peer.addresses, failures) else { return };
            // A peer that dials us meanwhile is there: a second link would only replace its own.
            let session = rng.random();
            let attempt = search.attempt(Instant::now().into_std());
            let connected = tokio::select! {
                biased;
                connected = self.connect(&peer, address, round, session, attempt) => connected,
                () = self.registry.up_with(peer.id) => continue,
            };
            match connected {
                Ok(None) => failures += 1,
                Ok(Some(link)) => {
                    let up = Instant::now();
                    let is_silent = self.keep_while_there(link, &peer).await;
                    search.had_link(up.elapsed(), is_silent, Instant::now().into_std());
                }
                Err(
                    ConnectError::Stopping
                    | ConnectError::Dial(DialError::Connect(quinn::ConnectError::EndpointStopping)),
                ) => return,
                // We closed the connection that was to be.
                Err(_) if self.endpoint.farewell().is_some() => return,
                Err(error) => {
                    failures += 1;
                    let is_silent = matches!(error.lost(), Some(quinn::ConnectionError::TimedOut));
                    search.tried(is_silent, Instant::now().into_std());
                    self.note_failure(peer.id, address, error).await;
                }
            }
            if self.events.is_closed() {
                return;
            }
            if has_departed {
                sleep(DEPARTED.mul_f64(rng.random_range(0.5..1.0))).await;
                continue;
            }
            sleep(search.pause().mul_f64(rng.random_range(0.5..1.0))).await;
        }
    }

    /// Notes why there is no link with `peer`, which was dialled at `address`.
    async fn note_failure(&self, peer: ServerId, address: &Address, error: ConnectError) {
        let error = error.explained(&self.endpoint);
        let refused = error.refused();
        refused.into_iter().for_each(|refused| self.registry.refusals().count(refused));
        self.heed(&error).await;
        let is_lasting = error.is_lasting();
        let (region, server, error) = (self.region(peer), peer.index, with_causes(&error));
        if is_lasting {
            let why = format!("{region} server {server} at {address}: {error}");
            self.registry.refused(peer.datacenter, why);
        }
        let unsaid = match self.registry.has_left(peer) {
            true => None,
            false => self.unsaid(peer, refused, &error, &error),
        };
        match unsaid {
            None => debug!(peer = region, server, %address, error, "still no link"),
            Some(unsaid) => {
                let times = again(unsaid);
                warn!(peer = region, server, %address, times, error, "no link, will try again");
            }
        }
        self.registry.failed(peer, error);
    }

    /// Runs a link that we have dialled to its end, or until its peer is somewhere else. Yields whether it ended for silence.
    async fn keep_while_there(&self, link: Link, peer: &Peer) -> bool {
        let control = link.control.clone();
        let keeping = self.keep(link);
        tokio::pin!(keeping);
        tokio::select! {
            biased;
            is_silent = &mut keeping => is_silent,
            () = self.moved(&control, peer) => {
                let (region, address) = (self.region(peer.id), control.remote_address());
                info!(peer = region, server = peer.id.index, %address, "its name stands for another address now");
                link::close(&control, close_code::REPLACED, "nothing answers, and its name stands for another address");
                keeping.await
            }
        }
    }

    /// Runs a link to its end. Yields whether that was for silence.
    async fn keep(&self, link: Link) -> bool {
        let (control, data) = (link.control.clone(), link.data.clone());
        let (peer, session, address) = (link.peer, link.session, link.control.remote_address());
        let (region, server) = (self.region(peer), peer.index);
        let rtt = link.control.rtt();
        let on_taken = || {
            info!(peer = region, server, %address, ?rtt, "link up");
            self.known.link(peer, address);
            self.registry.up(peer, session, address);
            // What ends links that were up may end this one as well.
            self.peers_throttle().forget(|(datacenter, index, what)| {
                *datacenter == peer.datacenter
                    && match index {
                        Some(index) => *index == peer.index && !what.starts_with(BROKEN),
                        None => MUTUAL.contains(&what.as_str()),
                    }
            });
        };
        let running =
            link.run(&self.endpoint, self.shapes.clone(), self.events.clone(), &self.traffic, on_taken);
        let error = running.await;
        debug!(peer = region, server, %address, ?error, "the connection in QUIC's words");
        let refused = error.refused();
        refused.into_iter().for_each(|refused| self.registry.refusals().count(refused));
        match error {
            LinkError::Left => info!(peer = region, server, %address, "the peer has left"),
            LinkError::Departed | LinkError::Refused(PeerError::Departed(_)) => {
                info!(peer = region, server, %address, "the peer has left for good");
            }
            LinkError::Stopping => debug!(peer = region, server, %address, "link closed"),
            // Who wants it no longer has said why, if there is anything to say.
            LinkError::Unwanted => debug!(peer = region, server, %address, "the link is no longer wanted"),
            _ if self.registry.has_other(peer, session) => {
                debug!(peer = region, server, %address, error = with_causes(&error), "another link has replaced this one");
            }
            _ => {
                let error = with_causes(&error);
                match self.unsaid(peer, refused, &error, &format!("{BROKEN} {error}")) {
                    None => debug!(peer = region, server, %address, error, "link ended"),
                    Some(unsaid) => {
                        let times = again(unsaid);
                        warn!(peer = region, server, %address, times, error, "link ended");
                    }
                }
            }
        }
        self.registry.gone(peer, session, &error);
        if let LinkError::ByPeer { cause, reason } = error {
            self.heed(&ConnectError::ByPeer { cause, reason }).await;
        }
        let mut ends = std::iter::once(control).chain(data.get()).filter_map(|one| one.close_reason());
        ends.any(|end| matches!(end, quinn::ConnectionError::TimedOut))
    }

    /// If it may be logged that there is no link to `peer`, which `refused` us or was refused with this `error`, or for
    /// what is the case `otherwise`: how often it was not said since the last time.
    fn unsaid(&self, peer: ServerId, refused: Option<Refused>, error: &str, otherwise: &str) -> Option<u64> {
        let key = match refused {
            Some(refused) => (peer.datacenter, None, topic(refused, error)),
            None => (peer.datacenter, Some(peer.index), otherwise.to_owned()),
        };
        self.peers_throttle().pass(&key, Instant::now())
    }

    fn peers_throttle(&self) -> MutexGuard<'_, Repeats<Topic>> {
        self.throttles.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a peer says that we have left for good, this process is told.
    async fn heed(&self, error: &ConnectError) {
        if let ConnectError::ByPeer { cause: LEFT, reason } = error {
            // It may be stopping already.
            let _ = self.events.send(Event::Expelled { reason: reason.clone() }).await;
        }
    }

    /// People know regions by their names.
    fn region(&self, peer: ServerId) -> &str {
        let known = self.terms.peers.iter().find(|(_, id)| *id == peer.datacenter);
        known.map_or("?", |(name, _)| name)
    }

    /// Accepts links until the endpoint is closed, with settings for the `paths` by which they come.
    pub async fn accept(self, paths: Paths) {
        self.known.set(paths.addresses());
        let (awaited, paths) = (Arc::<Awaited>::default(), Arc::new(paths));
        let limiter = HandshakeLimiter::new(self.endpoint.clone(), self.known.clone());
        while let Some((incoming, permit)) = limiter.next().await {
            let address = incoming.remote_address();
            let (this, awaited, paths) = (self.clone(), awaited.clone(), paths.clone());
            let serving = async move {
                let settings = paths.accepted(address, carries(&incoming));
                let connection = match this.endpoint.admit(incoming, &settings).await {
                    Ok(connection) => connection,
                    Err(error) => {
                        this.not_let_in(error.into(), address, None, None);
                        return permit.fail(settings.idle_timeout).await;
                    }
                };
                match this.greet(&connection, permit, &awaited, &paths).await {
                    Ok(Greeted::Link(link)) => _ = this.keep(link).await,
                    Ok(Greeted::Data | Greeted::Probe) => {}
                    Err(error) => {
                        let error = error.explained(&this.endpoint);
                        let (code, reason) = error.told();
                        link::close(&connection, code, &reason);
                        if let Some((name, datacenter)) = this.identified(&connection) {
                            this.heed(&error).await;
                            if error.is_another_job() {
                                let why = format!("{name} at {address}: {}", with_causes(&error));
                                this.registry.refused(datacenter, why);
                            }
                            let certificate = peer_certificate(&connection);
                            return this.not_let_in(error, address, certificate, Some(datacenter));
                        }
                        this.not_let_in(error, address, peer_certificate(&connection), None);
                    }
                }
            };
            tokio::spawn(serving.in_current_span());
        }
    }

    /// Which configured region the certificate of a peer is of, with its name.
    fn identified(&self, connection: &Connection) -> Option<(String, DatacenterId)> {
        let name = peer_name(connection).ok()?;
        let datacenter = self.terms.identify(&name).ok()?;
        Some((name.datacenter().to_owned(), datacenter))
    }

    /// Notes that who came from `address`, a server of the region `peer` if that is one of ours, was refused or broke off.
    fn not_let_in(
        &self,
        error: ConnectError,
        address: SocketAddr,
        certificate: Option<CertificateDer<'_>>,
        peer: Option<DatacenterId>,
    ) {
        let error = error.explained(&self.endpoint);
        let refused = error.refused();
        refused.into_iter().for_each(|refused| self.registry.refusals().count(refused));
        if error.is_withdrawn() {
            debug!(%address, error = with_causes(&error), "a peer wants no connection after all");
            return;
        }
        let problem = with_causes(&error);
        let mut times = None;
        if let Some(peer) = peer {
            let what = refused.map_or_else(|| problem.clone(), |refused| topic(refused, &problem));
            let Some(unsaid) = self.peers_throttle().pass(&(peer, None, what), Instant::now()) else {
                debug!(%address, error = problem, "a peer was not let in");
                return;
            };
            times = again(unsaid);
        }
        // Strangers cannot silence what is said of those who have a certificate.
        let throttle = if certificate.is_some() { &self.throttles.known } else { &self.throttles.strangers };
        let Some(unsaid) = throttle.lock().unwrap_or_else(PoisonError::into_inner).pass(Instant::now())
        else {
            return;
        };
        if unsaid > 0 {
            warn!(unsaid, "others were not let in either");
        }
        match certificate.and_then(|certificate| Certificate::read(&certificate).ok()) {
            Some(certificate) => {
                warn!(%address, %certificate, times, error = %problem, "a peer was not let in")
            }
            // Where the certificate is the reason, the error names it.
            None => warn!(%address, error = %problem, "a peer was not let in"),
        }
    }

    /// Makes a link with `peer`; of several addresses that `to` stands for, each round tries another one. None if nobody answers
    /// a knock there.
    async fn connect(
        &self,
        peer: &Peer,
        to: &Address,
        round: usize,
        session: u64,
        attempt: Attempt,
    ) -> Result<Option<Link>, ConnectError> {
        let unresolved = |source| ConnectError::Resolve { address: to.clone(), source };
        let local = self.endpoint.local_address().map_err(unresolved)?;
        // The system puts them in order, the best one first; but it does not know which of them answers.
        let found = to.resolve_with(&self.names, local).await.map_err(unresolved)?;
        self.known.find(peer.id, &found);
        let address = found[round % found.len()];
        let has_others = found.len() > 1 || peer.addresses.len() > 1;
        let path = peer.path;
        let mut patience = if has_others { OTHERS.max(path.handshake_timeout() / 2) } else { Duration::MAX };
        let mut settings = path.control();
        match attempt {
            Attempt::Dial => {}
            Attempt::Knock => {
                let within = KNOCK.max(2 * path.first_round_trip());
                if !self.endpoint.knock(address, within).await {
                    return Ok(None);
                }
            }
            Attempt::DialBlindly => {
                let round_trip = BLIND_ROUND_TRIP.max(path.first_round_trip());
                settings.initial_round_trip = round_trip;
                patience = BLIND_ROUND_TRIPS * round_trip;
            }
        }
        let dialled = timeout(patience, self.endpoint.connect(address, &peer.name, &settings));
        let silent = || Err(DialError::Handshake(quinn::ConnectionError::TimedOut));
        let control = tokio::select! {
            biased;
            dialled = dialled => dialled.unwrap_or_else(|_| silent()),
            () = self.stands_elsewhere(to, address) => silent(),
        }?;
        let hellos = timeout(path.handshake_timeout(), async {
            let greeting = self.greeting(peer.id.datacenter).await?;
            self.say_hello(&control, Channel::Control, session, greeting).await
        });
        let outcome = hellos.await.map_err(|_| ConnectError::Silent).flatten();
        let theirs = match outcome.and_then(|theirs| expect(peer, theirs)) {
            Ok(theirs) => theirs,
            Err(error) => return Err(self.refused(&control, error).await),
        };
        let data = DataConnection::default();
        if path.expects_bulk() {
            data.want();
        }
        Ok(Some(Link {
            peer: peer.id,
            control,
            data,
            open_data: Some(self.clone().open_data(peer.clone(), address, session)),
            bulk_streams: path.data().bulk_streams,
            small_bytes: path.small_bytes(),
            greeting: Greeting { life: theirs.life, resumes: theirs.resumes, departed: theirs.departed },
            session,
        }))
    }

    /// Closes a connection that was dialled, and yields why: the peer's own words, where it has said any.
    async fn refused(&self, connection: &Connection, error: ConnectError) -> ConnectError {
        let is_cut_short = matches!(error, ConnectError::Frame(FrameError::Truncated));
        let by_peer = match error {
            // Both sides say the same.
            ConnectError::Refused(Refusal::Job { differences: Some(_), .. }) => None,
            _ => link::refusal(std::slice::from_ref(connection), is_cut_short).await,
        };
        let error = by_peer.map_or(error, |(cause, reason)| ConnectError::ByPeer { cause, reason });
        let (code, reason) = error.told();
        link::close(connection, code, &reason);
        error
    }

    /// Opens the data connection of the link with this session.
    fn open_data(self, peer: Peer, address: SocketAddr, session: u64) -> OpenData {
        Box::pin(async move {
            let dialled = self.endpoint.connect(address, &peer.name, &peer.path.data()).await;
            let connection = dialled.map_err(|error| ConnectError::from(error).explained(&self.endpoint))?;
            let hello = self.say_hello(&connection, Channel::Data, session, Greeting::default());
            let outcome = timeout(peer.path.handshake_timeout(), hello).await;
            match outcome.map_err(|_| ConnectError::Silent).flatten().and_then(|theirs| expect(&peer, theirs))
            {
                Ok(_) => Ok(connection),
                Err(error) => Err(self.refused(&connection, error).await.explained(&self.endpoint)),
            }
        })
    }

    /// The dialer's half of the hello.
    async fn say_hello(
        &self,
        connection: &Connection,
        channel: Channel,
        session: u64,
        greeting: Greeting,
    ) -> Result<Hello, ConnectError> {
        let certified = peer_name(connection)?;
        self.terms.identify(&certified)?;
        let (mut send, mut receive) = connection.open_bi().await?;
        let hello = self.terms.hello(channel, session, greeting);
        frames::write(&mut send, [wire::encode_hello(&hello)]).await?;
        let frame = frames::read(&mut receive, MAX_HELLO_BYTES).await?.ok_or(FrameError::Truncated)?;
        let theirs = wire::decode_hello(frame)?;
        if let Err(refusal) = self.terms.check(&theirs, &certified) {
            return Err(self.with_differences(refusal, &certified, &mut send, &mut receive).await.into());
        }
        check_index(connection, theirs.server)?;
        Terms::check_answer(&hello, &theirs)?;
        Ok(theirs)
    }

    /// The accepting side's half.
    async fn greet(
        &self,
        connection: &Connection,
        permit: HandshakePermit,
        awaited: &Awaited,
        paths: &Paths,
    ) -> Result<Greeted, ConnectError> {
        let certified = peer_name(connection)?;
        let datacenter = self.terms.identify(&certified)?;
        let path = paths.settle(connection, datacenter);
        let heard = hear(connection, path.handshake_timeout()).await?;
        // From here on, what a peer costs is bounded for each server.
        drop(permit);
        if heard.hello.channel == Channel::Probe {
            return self.answers.answer(connection, heard).await.map(|()| Greeted::Probe);
        }
        let Heard { mut send, hello: theirs, mut receive } = heard;
        if let Err(refusal) = self.terms.check(&theirs, &certified) {
            if matches!(refusal, Refusal::Job { .. }) {
                // The dialer sees by it that the jobs differ, and tells its settings as well.
                let hello = self.terms.hello(theirs.channel, theirs.session, Greeting::default());
                frames::write(&mut send, [wire::encode_hello(&hello)]).await?;
            }
            let refusal = self.with_differences(refusal, &certified, &mut send, &mut receive).await;
            let closed = connection.close_reason().and_then(|lost| close_code::refusal(&lost));
            return Err(match (&refusal, closed) {
                // It has refused us on the link's other connection, and knows what differs.
                (Refusal::Job { differences: None, .. }, Some((cause, reason))) => {
                    ConnectError::ByPeer { cause, reason }
                }
                _ => refusal.into(),
            });
        }
        check_index(connection, theirs.server)?;
        let peer = ServerId { datacenter, index: theirs.server };
        // Before the dialer hears that it may open the data connection, and that it may use it.
        let data = match theirs.channel {
            Channel::Control => Some(awaited.expect(peer, theirs.session)),
            _ if awaited.offer(peer, theirs.session, connection.clone()) => None,
            _ => return Err(ConnectError::NoLink),
        };
        let hello = timeout(path.handshake_timeout(), async {
            let ours = match theirs.channel {
                Channel::Control => self.greeting(datacenter).await?,
                Channel::Data | Channel::Probe => Greeting::default(),
            };
            let hello = self.terms.hello(theirs.channel, theirs.session, ours);
            frames::write(&mut send, [wire::encode_hello(&hello)]).await?;
            Ok::<_, ConnectError>(hello)
        })
        .await
        .map_err(|_| ConnectError::Silent)
        .flatten()?;
        let Some(data) = data else { return Ok(Greeted::Data) };
        Ok(Greeted::Link(Link {
            peer,
            control: connection.clone(),
            data,
            open_data: None,
            bulk_streams: path.data().bulk_streams,
            small_bytes: path.small_bytes(),
            greeting: Greeting { life: theirs.life, resumes: theirs.resumes, departed: theirs.departed },
            session: hello.session,
        }))
    }

    /// The same, with what differs where that is the job: both sides tell their settings on the stream of their hellos.
    async fn with_differences(
        &self,
        refusal: Refusal,
        certified: &PeerName,
        send: &mut SendStream,
        receive: &mut RecvStream,
    ) -> Refusal {
        let Refusal::Job { ours, theirs, differences: None } = refusal else { return refusal };
        let told = timeout(SETTINGS, async {
            frames::write(send, [self.terms.settings.encode()]).await.ok()?;
            frames::read(receive, MAX_JOB_SETTINGS_BYTES).await.ok()?
        });
        let told = told.await.ok().flatten();
        if told.is_some() && send.finish().is_ok() {
            // Whoever is the first to close the connection would take back what the other has not got yet.
            let _ = timeout(SETTINGS, send.stopped()).await;
        }
        let differences = told.and_then(|told| {
            let (here, there) = (&self.terms.datacenter, certified.datacenter());
            self.terms.settings.differences(here, &JobSettings::decode(&told), there)
        });
        Refusal::Job { ours, theirs, differences }
    }

    async fn greeting(&self, datacenter: DatacenterId) -> Result<Greeting, ConnectError> {
        let (answer, greeting) = oneshot::channel();
        self.events.send(Event::Greet { datacenter, answer }).await.map_err(|_| ConnectError::Stopping)?;
        let greeting = greeting.await.map_err(|_| ConnectError::Stopping)?;
        if greeting.departed.contains(&datacenter) {
            let known = self.terms.peers.iter().find(|(_, id)| *id == datacenter);
            let name = known.map_or_else(|| datacenter.to_string(), |(name, _)| name.clone());
            return Err(Refusal::Left { name }.into());
        }
        Ok(greeting)
    }

    async fn has_departed(&self, datacenter: DatacenterId) -> bool {
        matches!(self.greeting(datacenter).await, Err(ConnectError::Refused(Refusal::Left { .. })))
    }
}

/// Checks that the server that has answered is the one that is looked for.
fn expect(peer: &Peer, theirs: Hello) -> Result<Hello, ConnectError> {
    match theirs.server {
        found if found != peer.id.index => Err(ConnectError::Server { expected: peer.id.index, found }),
        _ => Ok(theirs),
    }
}

/// What a refusal is about, as far as it is one thing. What others say of us may be in other words each time.
fn topic(refused: Refused, error: &str) -> String {
    let is_named = !refused.by_us || MUTUAL.contains(&refused.cause);
    if is_named { refused.cause.to_owned() } else { error.to_owned() }
}

/// How often something has happened since it was last said, this time included; nothing where that is once.
fn again(unsaid: u64) -> Option<u64> {
    (unsaid > 0).then_some(unsaid + 1)
}

/// Checks that the peer's certificate is that of the server that it says it is. One without an index is for any.
fn check_index(connection: &Connection, said: u16) -> Result<(), ConnectError> {
    let Some(certificate) = peer_certificate(connection) else { return Ok(()) };
    let indexes = Certificate::read(&certificate)?.indexes();
    match indexes.first() {
        Some(&certified) if !indexes.contains(&said.into()) => Err(Refusal::Index { said, certified }.into()),
        _ => Ok(()),
    }
}

/// Which address to try after so many failures, and in which round: each in turn, and then all of them again.
fn candidate(addresses: &[Address], failures: usize) -> Option<(&Address, usize)> {
    let round = failures.checked_div(addresses.len())?;
    Some((&addresses[failures % addresses.len()], round))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_leads_to_another_address_and_each_round_to_another_one_of_a_name() {
        let addresses: Vec<Address> = ["a:1", "b:2"].map(|name| name.parse().unwrap()).into();
        let tried: Vec<_> = (0..5)
            .filter_map(|failures| candidate(&addresses, failures))
            .map(|(address, round)| (address.to_string(), round))
            .collect();
        let expected = [("a:1", 0), ("b:2", 0), ("a:1", 1), ("b:2", 1), ("a:1", 2)];
        assert_eq!(tried, expected.map(|(address, round)| (address.to_owned(), round)));
        assert_eq!(candidate(&[], 3), None);
    }
}
