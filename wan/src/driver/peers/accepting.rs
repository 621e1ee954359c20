//! The side that accepts: lets dialers in, and answers their hellos.
//!
//! Kind: driver.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use datacenter::DatacenterId;
use datacenter::causes::with_causes;
use quinn::Connection;
use rustls::pki_types::CertificateDer;
use tokio::time::{Instant, timeout};
use tracing::{Instrument, debug, warn};

use super::{ConnectError, Peers, again, check_index, topic};
use crate::driver::frames;
use crate::driver::handshake_limiter::{HandshakeLimiter, HandshakePermit};
use crate::driver::hello::Refusal;
use crate::driver::link::{self, Awaited, Link, close_code};
use crate::driver::paths::Paths;
use crate::driver::probe::{Heard, hear};
use crate::message::ServerId;
use crate::node::Greeting;
use crate::transport::{Certificate, PeerName, carries, peer_certificate, peer_name};
use crate::wire::{self, Channel};

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
    /// Accepts links until the endpoint is closed, with settings for the `paths` by which they
    /// come.
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

    /// Notes that who came from `address`, a server of the region `peer` if that is one of ours,
    /// was refused or broke off.
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
        if let Err(refusal) = self.terms.check(&heard.hello, &certified) {
            return Err(self.refuse(connection, refusal, &certified, heard).await);
        }
        let Heard { mut send, hello: theirs, .. } = heard;
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

    /// Refuses a hello, and yields why: with what differs, where that is the job.
    async fn refuse(
        &self,
        connection: &Connection,
        refusal: Refusal,
        certified: &PeerName,
        heard: Heard,
    ) -> ConnectError {
        let Heard { mut send, hello: theirs, mut receive } = heard;
        if matches!(refusal, Refusal::Job { .. }) {
            // The dialer sees by it that the jobs differ, and tells its settings as well.
            let hello = self.terms.hello(theirs.channel, theirs.session, Greeting::default());
            if let Err(error) = frames::write(&mut send, [wire::encode_hello(&hello)]).await {
                return error.into();
            }
        }
        let refusal = self.with_differences(refusal, certified, &mut send, &mut receive).await;
        let closed = connection.close_reason().and_then(|lost| close_code::refusal(&lost));
        match (&refusal, closed) {
            // It has refused us on the link's other connection, and knows what differs.
            (Refusal::Job { differences: None, .. }, Some((cause, reason))) => {
                ConnectError::ByPeer { cause, reason }
            }
            _ => refusal.into(),
        }
    }
}
