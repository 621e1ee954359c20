//! Keeps one link to each peer, for as long as it is wanted.
//!
//! Of two datacenters exactly one dials the other. The dialer opens both connections at once and says hello on each;
//! the accepting side joins them by their session. When a link breaks, the dialer tries again, waiting a little longer
//! each time.
//!
//! Kind: driver.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use datacenter::DatacenterId;
use quinn::Connection;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tracing::{Instrument, debug, info, warn};

use crate::driver::frames::{self, FrameError};
use crate::driver::hello::{Refusal, Terms};
use crate::driver::link::{self, HELLO_TIMEOUT, Link, Tally, close_code};
use crate::driver::server::Event;
use crate::message::Resume;
use crate::transport::{DialError, Endpoint, IdentityError, Path, PeerName, peer_name};
use crate::wire::{self, Channel, Hello, MAX_HELLO_BYTES, Shapes};

/// Connections of one peer that wait for their other half; a peer that opens more loses one of its own.
const MAX_HALVES: usize = 16;

/// The first pause before dialling again, and the longest.
const BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// A link that lasted this long was a good one: when it breaks, dialling starts with the first pause again.
const STABLE: Duration = Duration::from_secs(10);

/// A peer to keep a link to.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its id.
    pub id: DatacenterId,
    /// Its name, as in its certificate.
    pub name: PeerName,
    /// Where it listens.
    pub address: SocketAddr,
    /// What is known of the path.
    pub path: Path,
}

/// Why no link could be made.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nobody there, or not who we want.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection broke.
    #[error("the connection ended: {0}")]
    Connection(#[from] quinn::ConnectionError),
    /// The hello could not be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The hello could not be sent.
    #[error("the hello could not be sent: {0}")]
    Write(#[from] quinn::WriteError),
    /// The certificate names nobody.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// We do not talk to this peer.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The hello does not decode.
    #[error("no valid hello: {0}")]
    Hello(#[from] datacenter::wire::WireError),
    /// It took too long.
    #[error("no hello within {HELLO_TIMEOUT:?}")]
    Silent,
    /// The node's task is gone.
    #[error("this process is stopping")]
    Stopping,
}

/// What all links of a process share.
#[derive(Clone)]
pub struct Peers {
    endpoint: Endpoint,
    terms: Arc<Terms>,
    shapes: Arc<Shapes>,
    events: mpsc::Sender<Event>,
    tally: Tally,
}

impl Peers {
    /// Links over `endpoint` for the node behind `events`; their losses are counted in `tally`.
    pub fn new(
        endpoint: Endpoint,
        terms: Terms,
        shapes: Shapes,
        events: mpsc::Sender<Event>,
        tally: Tally,
    ) -> Self {
        Self { endpoint, terms: Arc::new(terms), shapes: Arc::new(shapes), events, tally }
    }

    /// Dials `peer`, again and again; `rng` draws sessions and spreads the pauses.
    pub async fn dial(self, peer: Peer, mut rng: ChaCha8Rng) {
        let mut pause = BACKOFF[0];
        loop {
            match self.connect(&peer, rng.random()).await {
                Ok(link) => {
                    let up = Instant::now();
                    let error = link.run(self.shapes.clone(), self.events.clone(), &self.tally).await;
                    info!(peer = %peer.name, %error, "link ended");
                    if up.elapsed() >= STABLE {
                        pause = BACKOFF[0];
                    }
                }
                Err(ConnectError::Stopping) => return,
                Err(error) => {
                    warn!(peer = %peer.name, address = %peer.address, %error, "no link, will try again")
                }
            }
            if self.events.is_closed() {
                return;
            }
            sleep(pause.mul_f64(rng.random_range(0.5..1.0))).await;
            pause = (pause * 2).min(BACKOFF[1]);
        }
    }

    /// Accepts links from `peers` until the endpoint is closed.
    pub async fn accept(self, peers: Vec<Peer>) {
        let peers = Arc::new(peers);
        let halves = Arc::new(Halves::default());
        while let Some(incoming) = self.endpoint.incoming().await {
            let address = incoming.remote_address();
            let by_address = peers.iter().find(|p| p.address == address);
            let path = by_address.map(|p| p.path).unwrap_or_default();
            let connecting = match self.endpoint.accept(incoming, &path.accepted()) {
                Ok(connecting) => connecting,
                Err(error) => {
                    debug!(%address, %error, "not a connection");
                    continue;
                }
            };
            let (this, halves) = (self.clone(), halves.clone());
            let serving = async move {
                let connection = match connecting.await {
                    Ok(connection) => connection,
                    Err(error) => return warn!(%address, %error, "a connection failed in its handshake"),
                };
                match this.greet(&connection, &halves, &path).await {
                    Ok(Some(link)) => {
                        let peer = link.peer;
                        let error = link.run(this.shapes.clone(), this.events.clone(), &this.tally).await;
                        info!(%peer, %error, "link ended");
                    }
                    Ok(None) => {
                        sleep(HELLO_TIMEOUT).await;
                        halves.give_up(&connection);
                    }
                    Err(error) => {
                        warn!(%address, %error, "a peer was not let in");
                        link::close(&connection, close_code::REFUSED, &error.to_string());
                    }
                }
            };
            tokio::spawn(serving.in_current_span());
        }
    }

    async fn connect(&self, peer: &Peer, session: u64) -> Result<Link, ConnectError> {
        let (control_settings, data_settings) = (peer.path.control(), peer.path.data());
        let (control, data) = tokio::try_join!(
            self.endpoint.connect(peer.address, &peer.name, &control_settings),
            self.endpoint.connect(peer.address, &peer.name, &data_settings),
        )?;
        let resumes = self.resumes(peer.id).await?;
        let hellos = timeout(HELLO_TIMEOUT, async {
            tokio::try_join!(
                self.say_hello(&control, Channel::Control, session, resumes),
                self.say_hello(&data, Channel::Data, session, Vec::new()),
            )
        });
        let outcome = hellos.await.map_err(|_| ConnectError::Silent).flatten();
        let theirs = match outcome {
            Ok((theirs, _)) => theirs,
            Err(error) => {
                for connection in [&control, &data] {
                    link::close(connection, close_code::REFUSED, &error.to_string());
                }
                return Err(error);
            }
        };
        let bulk_streams = data_settings.bulk_streams;
        Ok(Link { peer: peer.id, control, data, bulk_streams, resumes: theirs.resumes, session })
    }

    /// The dialer's half of the hello.
    async fn say_hello(
        &self,
        connection: &Connection,
        channel: Channel,
        session: u64,
        resumes: Vec<Resume>,
    ) -> Result<Hello, ConnectError> {
        let certified = peer_name(connection)?;
        self.terms.identify(&certified)?;
        let (mut send, mut receive) = connection.open_bi().await?;
        let hello = self.terms.hello(channel, session, resumes);
        frames::write(&mut send, [wire::encode_hello(&hello)]).await?;
        let frame = frames::read(&mut receive, MAX_HELLO_BYTES).await?.ok_or(FrameError::Truncated)?;
        let theirs = wire::decode_hello(frame)?;
        self.terms.check(&theirs, &certified)?;
        Terms::check_answer(&hello, &theirs)?;
        Ok(theirs)
    }

    /// The accepting side's half; yields the link once both of its connections are there.
    async fn greet(
        &self,
        connection: &Connection,
        halves: &Halves,
        path: &Path,
    ) -> Result<Option<Link>, ConnectError> {
        let certified = peer_name(connection)?;
        let peer = self.terms.identify(&certified)?;
        let (hello, resumes) = timeout(HELLO_TIMEOUT, async {
            let (mut send, mut receive) = connection.accept_bi().await?;
            let frame = frames::read(&mut receive, MAX_HELLO_BYTES).await?.ok_or(FrameError::Truncated)?;
            let theirs = wire::decode_hello(frame)?;
            self.terms.check(&theirs, &certified)?;
            let ours = match theirs.channel {
                Channel::Control => self.resumes(peer).await?,
                Channel::Data => Vec::new(),
            };
            let hello = self.terms.hello(theirs.channel, theirs.session, ours);
            frames::write(&mut send, [wire::encode_hello(&hello)]).await?;
            Ok::<_, ConnectError>((hello, theirs.resumes))
        })
        .await
        .map_err(|_| ConnectError::Silent)
        .flatten()?;
        let half = Half { connection: connection.clone(), resumes };
        Ok(halves.join(peer, hello.session, hello.channel, half).map(|(control, data)| Link {
            peer,
            control: control.connection,
            data: data.connection,
            bulk_streams: path.data().bulk_streams,
            resumes: control.resumes,
            session: hello.session,
        }))
    }

    async fn resumes(&self, peer: DatacenterId) -> Result<Vec<Resume>, ConnectError> {
        let (answer, resumes) = oneshot::channel();
        self.events.send(Event::Resumes { peer, answer }).await.map_err(|_| ConnectError::Stopping)?;
        resumes.await.map_err(|_| ConnectError::Stopping)
    }
}

/// A connection that waits for the other one of its link.
struct Half {
    connection: Connection,
    resumes: Vec<Resume>,
}

#[derive(Default)]
struct Halves(Mutex<BTreeMap<(DatacenterId, u64), (Channel, Half)>>);

impl Halves {
    /// Keeps a half, or yields both as `(control, data)`.
    fn join(&self, peer: DatacenterId, session: u64, channel: Channel, half: Half) -> Option<(Half, Half)> {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those whose dialer has given up will never be joined.
        halves.retain(|_, (_, half)| half.connection.close_reason().is_none());
        match halves.remove(&(peer, session)) {
            Some((Channel::Control, control)) if channel == Channel::Data => return Some((control, half)),
            Some((Channel::Data, data)) if channel == Channel::Control => return Some((half, data)),
            _ => {}
        }
        let of_peer = halves.range((peer, 0)..=(peer, u64::MAX));
        let (count, first) = (of_peer.clone().count(), of_peer.map(|(key, _)| *key).next());
        if count >= MAX_HALVES
            && let Some((_, surplus)) = first.and_then(|key| halves.remove(&key))
        {
            link::close(
                &surplus.connection,
                close_code::REPLACED,
                "too many connections wait for their other half",
            );
        }
        halves.insert((peer, session), (channel, half));
        None
    }

    /// Closes a connection if it still waits for its other half.
    fn give_up(&self, connection: &Connection) {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |(_, half): &(Channel, Half)| half.connection.stable_id() == connection.stable_id();
        if let Some(key) = halves.iter().find_map(|(key, half)| waits(half).then_some(*key)) {
            halves.remove(&key);
            link::close(connection, close_code::REPLACED, "the other connection of the link never came");
        }
    }
}
