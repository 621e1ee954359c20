//! QUIC endpoints over any socket.
//!
//! Kind: driver.
//!
//! One endpoint both dials and accepts. It runs over an emulated socket in virtual time or over a real one,
//! and what uses it cannot tell.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use datacenter::identity::{Refused, Shown};
use quinn::{AsyncUdpSocket, Runtime};
use quinn_proto::RandomConnectionIdGenerator;
use rand_chacha::{ChaCha8Rng, rand_core::Rng};
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

use crate::transport::{
    Carries, CountingSocket, Entropy, Identity, PeerName, Settings,
    counting_socket::KNOCK_BYTES,
    entropy::{CONNECTION_ID_BYTES, Purpose, SeededConnectionIds},
    identity::{TokenDates, quic_client, quic_server},
    rate_limited_socket::RateLimitedSocket,
    refused::{explain, lost},
};

/// What an endpoint is made of, beside its socket.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Who we are.
    pub identity: Identity,
    /// Where its randomness comes from; a seed must differ from endpoint to endpoint, see
    /// [`Entropy::derive`].
    pub entropy: Entropy,
    /// The settings of accepted connections where [`Endpoint::accept`] is not given others.
    pub accept: Settings,
}

/// Why a connection could not be made.
#[derive(Debug, Error)]
pub enum DialError {
    /// It could not even be tried.
    #[error("cannot dial")]
    Connect(#[from] quinn::ConnectError),
    /// One side refused the other.
    #[error(transparent)]
    Refused(Refused),
    /// The handshake failed.
    #[error("no connection came about: {}", lost(_0))]
    Handshake(quinn::ConnectionError),
}

// No source: what quinn says is told in an operator's words.
impl From<quinn::ConnectionError> for DialError {
    fn from(error: quinn::ConnectionError) -> Self {
        Self::Handshake(error)
    }
}

/// A QUIC endpoint that dials and accepts.
#[derive(Clone, Debug)]
pub struct Endpoint {
    quinn: quinn::Endpoint,
    meter: Arc<CountingSocket>,
    identity: Identity,
    first_ids: FirstIds,
    server: quinn::ServerConfig,
    farewell: Arc<OnceLock<Farewell>>,
}

/// What an endpoint says when it is closed: an application's code of QUIC close frames, and a reason.
pub type Farewell = (quinn::VarInt, &'static str);

impl Endpoint {
    /// An endpoint over `socket`; timers and tasks are those of `runtime`.
    ///
    /// # Errors
    ///
    /// When the socket does not know its address.
    pub fn new(
        config: EndpointConfig,
        socket: Arc<dyn AsyncUdpSocket>,
        runtime: Arc<dyn Runtime>,
    ) -> io::Result<Self> {
        let EndpointConfig { identity, entropy, accept } = config;
        let meter = CountingSocket::new(socket);
        let seeded = entropy.generator(Purpose::FirstConnectionIds);
        let first_ids = FirstIds(seeded.map(|ids| Arc::new(Mutex::new(ids))));
        let mut server = server_config(&identity, entropy);
        server.transport_config(accept.transport());
        let quinn = quinn::Endpoint::new_with_abstract_socket(
            endpoint_config(entropy),
            Some(server.clone()),
            meter.clone(),
            runtime,
        )?;
        Ok(Self { quinn, meter, identity, first_ids, server, farewell: Arc::default() })
    }

    /// An endpoint over a real UDP socket, in a tokio runtime with I/O.
    ///
    /// # Errors
    ///
    /// When the socket cannot be made non-blocking or registered.
    pub fn over_udp(config: EndpointConfig, socket: std::net::UdpSocket) -> io::Result<Self> {
        let runtime = Arc::new(quinn::TokioRuntime);
        let socket = runtime.wrap_udp_socket(socket)?;
        Self::new(config, socket, runtime)
    }

    /// The same over a socket that sends no more than `bytes_per_sec` on the wire, to all peers together.
    ///
    /// # Errors
    ///
    /// When the socket cannot be made non-blocking or registered.
    pub fn over_capped_udp(
        config: EndpointConfig,
        socket: std::net::UdpSocket,
        bytes_per_sec: u64,
    ) -> io::Result<Self> {
        let runtime = Arc::new(quinn::TokioRuntime);
        let socket = RateLimitedSocket::new(runtime.wrap_udp_socket(socket)?, bytes_per_sec);
        Self::new(config, socket, runtime)
    }

    /// Connects to `peer` at `address`.
    ///
    /// # Errors
    ///
    /// When nobody answers, or whoever answers is not `peer`. A peer that does not accept us closes the
    /// connection after the handshake, as TLS 1.3 has it: that shows at first use, and
    /// [`explain`](Self::explain) tells.
    pub async fn connect(
        &self,
        address: SocketAddr,
        peer: &PeerName,
        settings: &Settings,
    ) -> Result<quinn::Connection, DialError> {
        let shown = Shown::default();
        let mut client = self.client_config(&shown, settings.carries);
        client.transport_config(settings.transport());
        let connecting = self.quinn.connect_with(client, address, &peer.to_string())?;
        connecting.await.map_err(|error| self.dial_error(error, &shown))
    }

    /// Waits for a peer that dials; nothing once the endpoint is closed.
    pub async fn incoming(&self) -> Option<quinn::Incoming> {
        self.quinn.accept().await
    }

    /// Answers a peer with settings for its path, and waits for its certificate.
    ///
    /// # Errors
    ///
    /// When the handshake fails or takes too long; if one side refused the other, with both sides' particulars.
    pub async fn admit(
        &self,
        incoming: quinn::Incoming,
        settings: &Settings,
    ) -> Result<quinn::Connection, DialError> {
        let shown = Shown::default();
        let connecting = self.accept_seeing(incoming, settings, &shown)?;
        // Dropped, it is over; quinn itself would wait for as long as an established connection may be silent.
        let admitted = timeout(settings.handshake_timeout, connecting).await;
        let admitted = admitted.unwrap_or(Err(quinn::ConnectionError::TimedOut));
        admitted.map_err(|error| self.dial_error(error, &shown))
    }

    /// Answers a peer with settings for its path; await the result for the connection.
    ///
    /// # Errors
    ///
    /// When its first packet is malformed, or too many connections are open.
    pub fn accept(
        &self,
        incoming: quinn::Incoming,
        settings: &Settings,
    ) -> Result<quinn::Connecting, quinn::ConnectionError> {
        self.accept_seeing(incoming, settings, &Shown::default())
    }

    /// Whether somebody speaks QUIC at `address`, asked with a datagram of a few bytes: yes once it has answered, no if it has not
    /// `within` so long. There may be reasons other than its absence for which it does not answer.
    pub async fn knock(&self, address: SocketAddr, within: Duration) -> bool {
        // A socket for both families knows IPv4 in mapped addresses.
        let address = match (self.local_address(), address) {
            (Ok(SocketAddr::V6(_)), SocketAddr::V4(v4)) => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            _ => address,
        };
        let mut id = [0; KNOCK_BYTES];
        self.first_ids.draw(&mut id);
        let until = Instant::now() + within;
        // Where nothing can be sent, nothing comes back.
        let Ok(Ok(answered)) = timeout(within, self.meter.clone().knock(address, id)).await else {
            return false;
        };
        while Instant::now() < until {
            sleep(KNOCK_POLL.min(within)).await;
            if self.meter.answered(address) > answered {
                return true;
            }
        }
        false
    }

    /// Who refused whom, when a connection ended with `error`; nothing if it ended otherwise.
    pub fn explain(&self, error: &quinn::ConnectionError) -> Option<Refused> {
        explain(&self.identity, error, &Shown::default())
    }

    /// Who we are, and how we check peers; replacing it here replaces it everywhere.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Who we are.
    pub fn name(&self) -> &PeerName {
        self.identity.name()
    }

    /// The address of our socket.
    ///
    /// # Errors
    ///
    /// When the socket does not know it.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.quinn.local_addr()
    }

    /// Bytes on the wire, for each remote address.
    pub fn meter(&self) -> &CountingSocket {
        &self.meter
    }

    /// Closes all connections with these words, or those of a call before this one.
    pub fn close(&self, farewell: Farewell) {
        let (code, reason) = *self.farewell.get_or_init(|| farewell);
        self.quinn.close(code, reason.as_bytes());
    }

    /// With which words it has been closed. Its connections hear of it one after the other: whoever closes one in between says
    /// the same.
    pub fn farewell(&self) -> Option<Farewell> {
        self.farewell.get().copied()
    }

    /// quinn's own endpoint, to wait until its connections are gone.
    pub fn quinn(&self) -> &quinn::Endpoint {
        &self.quinn
    }

    fn accept_seeing(
        &self,
        incoming: quinn::Incoming,
        settings: &Settings,
        shown: &Shown,
    ) -> Result<quinn::Connecting, quinn::ConnectionError> {
        let mut server = self.server.clone();
        // The certificates of this moment: they may have been replaced since the last connection.
        server.crypto = quic_server(&self.identity, shown);
        server.transport_config(settings.transport());
        incoming.accept_with(Arc::new(server))
    }

    fn client_config(&self, shown: &Shown, carries: Carries) -> quinn::ClientConfig {
        let mut client = quinn::ClientConfig::new(quic_client(&self.identity, shown));
        let first_ids = self.first_ids.clone();
        client.initial_dst_cid_provider(Arc::new(move || {
            let mut bytes = [0; MAX_CONNECTION_ID_BYTES];
            first_ids.draw(&mut bytes);
            mark(&mut bytes, carries);
            quinn::ConnectionId::new(&bytes)
        }));
        client
    }

    fn dial_error(&self, error: quinn::ConnectionError, shown: &Shown) -> DialError {
        explain(&self.identity, &error, shown).map_or(DialError::Handshake(error), DialError::Refused)
    }
}

/// Draws ids of connections that there are not yet; without a generator of its own from the operating system.
#[derive(Clone, Debug)]
struct FirstIds(Option<Arc<Mutex<ChaCha8Rng>>>);

impl FirstIds {
    fn draw(&self, bytes: &mut [u8]) {
        match &self.0 {
            Some(generator) => generator.lock().expect("no one panics while drawing").fill_bytes(bytes),
            None => Entropy::System.fill(Purpose::FirstConnectionIds, bytes),
        }
    }
}

/// From one answer to a packet of no connection to the next: a thousand a second, of 49 bytes each. The longer it is, the easier
/// it is for a stranger to have knocks go unanswered.
const MIN_RESET_INTERVAL: Duration = Duration::from_millis(1);

/// How often it is looked whether a knock was answered.
const KNOCK_POLL: Duration = Duration::from_millis(50);

/// What a connection that somebody opens is for, by its very first packet: settings are chosen before anything else is known.
pub fn carries(incoming: &quinn::Incoming) -> Carries {
    if incoming.orig_dst_cid().ends_with(&CONTROL_MARK) { Carries::Control } else { Carries::Updates }
}

/// Marks the first connection id of a connection, which its dialer draws, with what it is for. Enough of it stays random.
fn mark(id: &mut [u8; MAX_CONNECTION_ID_BYTES], carries: Carries) {
    if carries == Carries::Control {
        id[MAX_CONNECTION_ID_BYTES - CONTROL_MARK.len()..].copy_from_slice(&CONTROL_MARK);
    }
}

/// How the first connection id of a control connection ends. RFC 9000, section 7.2, asks for eight bytes that nobody can
/// guess, and there are sixteen. A mark that is not understood, or came about by chance, costs a little speed.
const CONTROL_MARK: [u8; 4] = *b"ctrl";
/// First packets that may wait to be looked at, which is done at once. quinn's own bound is for those who take their time.
const MAX_INCOMING: usize = 1024;

/// RFC 9000, section 17.2: the longest connection id.
const MAX_CONNECTION_ID_BYTES: usize = 20;

fn server_config(identity: &Identity, entropy: Entropy) -> quinn::ServerConfig {
    let mut key = [0; 64];
    entropy.fill(Purpose::TokenKey, &mut key);
    let token_key = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &[]).extract(&key);
    let mut server = quinn::ServerConfig::new(quic_server(identity, &Shown::default()), Arc::new(token_key));
    server.time_source(Arc::new(TokenDates(identity.dates())));
    // Tokens spare a returning client a round trip of address validation, which we do not ask for.
    let mut tokens = quinn::ValidationTokenConfig::default();
    tokens.sent(0);
    server.validation_token_config(tokens);
    server.max_incoming(MAX_INCOMING);
    server
}

fn endpoint_config(entropy: Entropy) -> quinn::EndpointConfig {
    let mut key = [0; 64];
    entropy.fill(Purpose::ResetKey, &mut key);
    let reset_key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
    let mut endpoint = quinn::EndpointConfig::new(Arc::new(reset_key));
    if let Some(mut generator) = entropy.generator(Purpose::Connection) {
        // Skipped packet numbers and greased parameters: without it, no two runs are alike.
        let mut seed = [0; 32];
        generator.fill_bytes(&mut seed);
        endpoint.rng_seed(Some(seed));
    }
    match entropy.generator(Purpose::ConnectionIds) {
        Some(generator) => {
            endpoint.cid_generator(move || Box::new(SeededConnectionIds(generator.clone())));
        }
        // Not quinn's default, by which an endpoint tells ids that it has not made, and answers none of their packets: knocks
        // are to be answered.
        None => {
            endpoint.cid_generator(|| Box::new(RandomConnectionIdGenerator::new(CONNECTION_ID_BYTES)));
        }
    }
    endpoint.min_reset_interval(MIN_RESET_INTERVAL);
    endpoint
}
