//! Keeps one link to each peer, for as long as it is wanted.
//!
//! Who knows where a peer is may dial it; of two that know each other's address, one dials and the other one only where no
//! link has come about, as only it may be able to. The dialer opens the control connection, and the data connection once there
//! is bulk, or at once where that is to be expected; it says hello on each, and the accepting side joins them by their session. When a link breaks, the dialer tries again, waiting a little longer
//! each time. A new link to a peer takes the place of an old one, whose end may not have shown yet.
//!
//! Kind: driver.

mod accepting;
mod dialling;
mod error;
mod moved;
mod search;
mod siblings;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use datacenter::DatacenterId;
use datacenter::causes::with_causes;
use datacenter::refusals::Refused;
use datacenter::throttle::{Repeats, Throttle};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

pub use self::error::ConnectError;
use crate::driver::address::Address;
use crate::driver::frames;
use crate::driver::handshake_limiter::Known;
use crate::driver::hello::{LEFT, Refusal, Terms};
use crate::driver::job_settings::{JobSettings, MAX_JOB_SETTINGS_BYTES};
use crate::driver::link::{self, Link, LinkError, LinkTraffic, close_code};
use crate::driver::link_registry::LinkRegistry;
use crate::driver::names::Names;
use crate::driver::probe::Answers;
use crate::driver::queue::EventSender;
use crate::driver::server::Event;
use crate::inbox::PeerError;
use crate::message::ServerId;
use crate::node::Greeting;
use crate::transport::{Certificate, Endpoint, Path, PeerName, peer_certificate};
use crate::wire::Shapes;

/// How long two that run different jobs may take to tell each other their settings, before they refuse each other without.
const SETTINGS: Duration = Duration::from_secs(3);

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
