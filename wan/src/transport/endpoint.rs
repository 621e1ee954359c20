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
use rand_chacha::{ChaCha8Rng, rand_core::Rng};
use thiserror::Error;
use tokio::time::timeout;

use crate::transport::{
    Entropy, Identity, Meter, PeerName, Settings,
    cap::Cap,
    entropy::{Purpose, SeededConnectionIds},
    identity::{TokenDates, quic_client, quic_server},
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
    meter: Arc<Meter>,
    identity: Identity,
    first_ids: Option<Arc<Mutex<ChaCha8Rng>>>,
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
        let meter = Meter::new(socket);
        let first_ids = entropy.generator(Purpose::FirstConnectionIds).map(|ids| Arc::new(Mutex::new(ids)));
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
        let socket = Cap::new(runtime.wrap_udp_socket(socket)?, bytes_per_sec);
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
        let mut client = self.client_config(&shown);
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
    /// When the handshake fails or takes longer than 10 s; if one side refused the other, with both sides' particulars.
    pub async fn admit(
        &self,
        incoming: quinn::Incoming,
        settings: &Settings,
    ) -> Result<quinn::Connection, DialError> {
        let shown = Shown::default();
        let connecting = self.accept_seeing(incoming, settings, &shown)?;
        // Dropped, it is over; quinn itself would wait for as long as an established connection may be silent.
        let admitted = timeout(HANDSHAKE_TIMEOUT, connecting).await;
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
    pub fn meter(&self) -> &Meter {
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

    fn client_config(&self, shown: &Shown) -> quinn::ClientConfig {
        let mut client = quinn::ClientConfig::new(quic_client(&self.identity, shown));
        if let Some(generator) = self.first_ids.clone() {
            client.initial_dst_cid_provider(Arc::new(move || {
                let mut bytes = [0; MAX_CONNECTION_ID_BYTES];
                generator.lock().expect("no one panics while drawing").fill_bytes(&mut bytes);
                quinn::ConnectionId::new(&bytes)
            }));
        }
        client
    }

    fn dial_error(&self, error: quinn::ConnectionError, shown: &Shown) -> DialError {
        explain(&self.identity, &error, shown).map_or(DialError::Handshake(error), DialError::Refused)
    }
}

/// How long whoever dials may take for its handshake, over several round trips and losses.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
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
    if let Some(generator) = entropy.generator(Purpose::ConnectionIds) {
        endpoint.cid_generator(move || Box::new(SeededConnectionIds(generator.clone())));
    }
    endpoint
}
