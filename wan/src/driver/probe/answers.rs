//! The side of a probe that is looked at.
//!
//! Kind: driver.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{debug, info};

use super::{BurstLimiter, HANDSHAKE, PAUSE, ProbeError, exchange_bursts, frame_of, probe, unix_millis};
use crate::driver::address::Address;
use crate::driver::frames::{self, FrameError};
use crate::driver::handshake_limiter::{HandshakeLimiter, Known};
use crate::driver::hello::Terms;
use crate::driver::link::{self, HELLO_TIMEOUT, close_code};
use crate::driver::link_registry::LinkRegistry;
use crate::driver::peers::{ConnectError, Peer};
use crate::message::ServerId;
use crate::node::Greeting;
use crate::transport::{Carries, Endpoint, Path, Settings, carries, peer_name};
use crate::wire::{self, CallBack, Channel, Hello, MAX_HELLO_BYTES, ProbeAnswer, ProbeReport, ProbeRequest};

/// Answers probes on behalf of one server.
#[derive(Clone, Debug)]
pub struct Answers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    endpoint: Endpoint,
    terms: Terms,
    registry: LinkRegistry,
    /// Where servers that may ask to be called back can be found.
    known: Mutex<BTreeMap<ServerId, Peer>>,
    /// Where they are let in although others take all places.
    addresses: Known,
    limiter: Mutex<BurstLimiter>,
}

/// A connection whose first hello was read.
#[derive(Debug)]
pub(in crate::driver) struct Heard {
    pub(in crate::driver) send: SendStream,
    pub(in crate::driver) receive: RecvStream,
    pub(in crate::driver) hello: Hello,
}

/// Waits for the hello of whoever dialled, `within` so long.
pub(in crate::driver) async fn hear(
    connection: &Connection,
    within: Duration,
) -> Result<Heard, ConnectError> {
    let hearing = async {
        let (send, mut receive) = connection.accept_bi().await?;
        let frame = frames::read(&mut receive, MAX_HELLO_BYTES).await?.ok_or(FrameError::Truncated)?;
        Ok(Heard { send, receive, hello: wire::decode_hello(frame)? })
    };
    timeout(within, hearing).await.map_err(|_| ConnectError::Silent).flatten()
}

impl Answers {
    /// Answers for the server that `terms` speak of, over `endpoint`; `registry` knows its links.
    pub fn new(endpoint: Endpoint, terms: Terms, registry: LinkRegistry) -> Self {
        let (known, addresses, limiter) = Default::default();
        Self(Arc::new(Shared { endpoint, terms, registry, known, addresses, limiter }))
    }

    /// From now on it is known where `peer` can be found.
    pub fn know(&self, peer: &Peer) {
        self.0.addresses.set(peer.addresses.iter().filter_map(|address| match address {
            Address::Socket(address) => Some(*address),
            Address::Name(_) => None,
        }));
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(peer.id, peer.clone());
    }

    /// Accepts connections and answers probes, until the endpoint is closed: for a process that runs no job. Whoever wants a
    /// link is told so, and tries again later.
    pub async fn serve(self) {
        let mut tasks = JoinSet::new();
        let limiter = HandshakeLimiter::new(self.0.endpoint.clone(), self.0.addresses.clone());
        while let Some((incoming, permit)) = limiter.next().await {
            let this = self.clone();
            while tasks.try_join_next().is_some() {}
            tasks.spawn(async move {
                let settings = this.settings(carries(&incoming));
                let connection = match this.0.endpoint.admit(incoming, &settings).await {
                    Ok(connection) => connection,
                    Err(error) => {
                        debug!(%error, "nobody was let in");
                        return permit.fail(settings.idle_timeout).await;
                    }
                };
                let heard = hear(&connection, settings.handshake_timeout).await;
                drop(permit);
                let answered = match heard {
                    Ok(heard) if heard.hello.channel == Channel::Probe => {
                        this.answer(&connection, heard).await
                    }
                    Ok(_) => {
                        let reason = "no job runs here yet; this process only looks whether one could";
                        link::close(&connection, close_code::LEAVING, reason);
                        Ok(())
                    }
                    Err(error) => Err(error),
                };
                if let Err(error) = answered {
                    let (code, reason) = error.told();
                    link::close(&connection, code, &reason);
                    debug!(%error, "a probe came to nothing");
                }
            });
        }
    }

    /// For whoever dials: it may be any of those we know.
    fn settings(&self, carries: Carries) -> Settings {
        let known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        Path::accepted_from_any(&known.values().map(|peer| peer.path).collect::<Vec<_>>(), carries)
    }

    /// Answers one probe, whose hello was `heard`.
    pub(in crate::driver) async fn answer(
        &self,
        connection: &Connection,
        heard: Heard,
    ) -> Result<(), ConnectError> {
        let Shared { endpoint, terms, registry, .. } = &*self.0;
        let Heard { mut send, mut receive, hello: theirs } = heard;
        let certified = peer_name(connection)?;
        let caller = ServerId { datacenter: terms.identify(&certified)?, index: theirs.server };
        terms.check_speaker(&theirs, &certified)?;
        let request = timeout(HELLO_TIMEOUT, frame_of(&mut receive)).await;
        let request = wire::decode_probe_request(request.map_err(|_| ConnectError::Silent).flatten()?)?;
        let is_running = registry.links().values().any(|link| link.session.is_some());
        // One that says to be a server that cannot be would have a burst for each number.
        let wanted = if theirs.server < terms.shards { request.bytes } else { 0 };
        let granted_bytes = self.grant(caller, wanted, is_running);
        info!(%caller, address = %connection.remote_address(), granted_bytes, "probed");

        let hello = terms.hello(Channel::Probe, theirs.session, Greeting::default());
        let unix_millis = unix_millis(endpoint.identity().dates().now());
        let answer = ProbeAnswer { unix_millis, linked: registry.is_up(caller), granted_bytes };
        frames::write(&mut send, [wire::encode_hello(&hello), wire::encode_probe_answer(answer)]).await?;
        let burst = exchange_bursts(connection, granted_bytes).await?;
        let (bytes, time) = burst.later_half().unwrap_or_default();
        let call_back = self.call_back(caller, &request, theirs.session).await;
        let report = ProbeReport { bytes, micros: time.as_micros() as u64, call_back };
        frames::write(&mut send, [wire::encode_probe_report(&report)]).await?;
        // The dialer closes; a connection that is dropped here would take with it what is under way.
        let _ = timeout(PAUSE, connection.closed()).await;
        Ok(())
    }

    fn grant(&self, caller: ServerId, wanted: u64, is_running: bool) -> u64 {
        let mut limiter = self.0.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.grant(caller, wanted, is_running, Instant::now())
    }

    /// Tries to reach the server that asks for it, where we know it.
    async fn call_back(&self, caller: ServerId, request: &ProbeRequest, session: u64) -> CallBack {
        if !request.call_back {
            return CallBack::NotTried;
        }
        let known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner).get(&caller).cloned();
        let Some(peer) = known.filter(|peer| !peer.addresses.is_empty()) else {
            return CallBack::NoAddress;
        };
        let mut problems = Vec::new();
        for address in &peer.addresses {
            let nothing_more = ProbeRequest::default();
            // Boxed, as this is a part of answering a probe, and sends one.
            let called = Box::pin(probe(
                &self.0.endpoint,
                &self.0.terms,
                &peer,
                address,
                session.wrapping_add(1),
                nothing_more,
            ));
            match timeout(HANDSHAKE, called).await {
                Ok(Ok(_)) => return CallBack::Reached,
                Ok(Err(
                    error @ (ProbeError::Silent { .. } | ProbeError::Connect(ConnectError::Resolve { .. })),
                )) => {
                    problems.push(error.to_string());
                }
                Ok(Err(error)) => problems.push(format!("{address}: {error}")),
                Err(_) => problems.push(format!("nothing answers at {address} over UDP")),
            }
        }
        const MOST_CHARACTERS: usize = 1000;
        CallBack::Failed(problems.join("; ").chars().take(MOST_CHARACTERS).collect())
    }
}
