//! Who a process is, and who its peers are: mutual TLS 1.3, inside a datacenter and between
//! datacenters.
//!
//! Kind: time-free.
//!
//! Both ends of a connection show a certificate of the job's authority, which names the datacenter
//! and the role as a DNS name: `virginia.server.gaia`. The dialer checks it against whom it meant
//! to reach ([`server_name`]); the acceptor asks [`peer_name_of`] who has come, and decides whether
//! that peer belongs here.
//!
//! Certificates are short-lived and jobs are not, so an [`Identity`] can be
//! [replaced](Identity::replace) while connections run. TLS settings are therefore made anew for
//! each connection, which is cheap, and never kept. Established connections go on as they are, but
//! for those of a peer whose certificate is revoked meanwhile. TLS asks only once, so whoever keeps
//! a connection waits for [`Identity::revoked`] as well, and closes it.
//!
//! What is here serves every transport: [`Identity::acceptor`] and [`Identity::connector`] for TLS
//! on TCP, which is the LAN's ([`handshake`] uses them), and [`Identity::server`] and
//! [`Identity::client`] for QUIC, which the `wan` crate makes of them. When a handshake fails,
//! [`Identity::explain`] says who refused whom, and why.

mod certificate;
mod credentials;
mod dates;
pub mod handshake;
mod name;
mod refused;
mod revocations;
mod shown;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, RwLock},
};

use rustls::{
    ClientConfig, ServerConfig,
    pki_types::{CertificateDer, ServerName},
};
use thiserror::Error;
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub use self::{
    certificate::{Certificate, name_in, peer_name_of},
    credentials::Credentials,
    dates::{Date, Dates},
    name::{PeerName, PeerNameError, Role},
    refused::{Cause, Party, Refused},
    revocations::{RevocationError, Revocations},
    shown::Shown,
};
use self::{credentials::Checked, name::DOMAIN};

/// The application protocol of a LAN's connections; its number changes with the first incompatible
/// message.
const LAN_ALPN: &[u8] = b"gaia-lan/1";

/// Why a process or its peer has no usable identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// A root, the chain or the key was refused.
    #[error("certificates or key cannot be used")]
    Tls(#[from] rustls::Error),
    /// The roots cannot check peers.
    #[error("the authority's certificates cannot check peers")]
    Roots(#[from] rustls::server::VerifierBuilderError),
    /// A revocation list cannot be used.
    #[error("the revocation list cannot be used")]
    Revocations(#[from] RevocationError),
    /// The peer showed no certificate, or the handshake is not over.
    #[error("the peer has shown no certificate")]
    NoCertificate,
    /// The certificate is not readable X.509.
    #[error("the certificate cannot be read: {reason}")]
    Unreadable {
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate does not name exactly one datacenter and role.
    #[error("the certificate names {found:?}, and should name one datacenter.role.{DOMAIN}")]
    NotOnePeer {
        /// All DNS names in it.
        found: Vec<String>,
    },
    /// A process stays who it is while it runs.
    #[error("the new certificate is for {found}, and this process is {expected}")]
    OtherName {
        /// Who we are.
        expected: PeerName,
        /// Who the new certificate is for.
        found: PeerName,
    },
}

/// What one process shows to its peers, and how it checks what they show: TLS settings for both
/// ends of connections.
///
/// Clones share it: what replaces one replaces all.
#[derive(Clone)]
pub struct Identity {
    name: PeerName,
    dates: Dates,
    current: Arc<RwLock<Arc<Checked>>>,
    generation: watch::Sender<u64>,
}

impl Identity {
    /// The identity that `credentials` prove; all certificates are judged by `dates`.
    ///
    /// Our own certificate may well have expired: what peers will make of it,
    /// [`check_own`](Self::check_own) says.
    ///
    /// # Errors
    ///
    /// When the leaf names no peer, the key does not fit it, or a certificate or revocation list is
    /// unusable.
    pub fn new(credentials: Credentials, dates: Dates) -> Result<Self, IdentityError> {
        let checked = Checked::new(credentials)?;
        let name = checked.name().clone();
        let (current, generation) = (Arc::new(RwLock::new(Arc::new(checked))), watch::Sender::new(0));
        Ok(Self { name, dates, current, generation })
    }

    /// From now on, handshakes use `credentials`. Established connections are not disturbed, unless
    /// they are with somebody whose certificate the new revocation lists name.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new), and when they are somebody else's; then nothing changes.
    pub fn replace(&self, credentials: Credentials) -> Result<(), IdentityError> {
        let checked = Checked::new(credentials)?;
        if checked.name() != &self.name {
            let (expected, found) = (self.name.clone(), checked.name().clone());
            return Err(IdentityError::OtherName { expected, found });
        }
        *self.current.write().expect("no one panics while replacing") = Arc::new(checked);
        self.generation.send_modify(|generation| *generation += 1);
        Ok(())
    }

    /// Changes with each replacement.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Who we are.
    pub fn name(&self) -> &PeerName {
        &self.name
    }

    /// The date by which certificates are judged.
    pub fn dates(&self) -> Dates {
        self.dates
    }

    /// The certificate that we show now.
    pub fn certificate(&self) -> Certificate {
        self.current().own.clone()
    }

    /// Whether the revocation lists of now name this certificate.
    pub fn is_revoked(&self, certificate: &CertificateDer<'_>) -> bool {
        self.current().revocations.contain(certificate)
    }

    /// Returns once the revocation lists name one of the `certificates` of a peer, and yields that
    /// one; at once if they do now.
    pub async fn revoked(&self, certificates: &[CertificateDer<'_>]) -> Certificate {
        // First, so that a list that comes while the certificates are looked up is a change.
        let mut generations = self.generations();
        loop {
            let named = certificates.iter().find(|certificate| self.is_revoked(certificate));
            if let Some(certificate) = named.and_then(|named| Certificate::read(named).ok()) {
                return certificate;
            }
            generations.changed().await.expect("we hold the other end");
        }
    }

    /// When the next revocation list should have come, if any list says so; the earliest of
    /// several. An outdated list is used all the same: refusing everybody would stop a run because
    /// somebody forgot a date.
    pub fn next_revocation_list(&self) -> Option<Date> {
        self.current().revocations.next_update()
    }

    /// What a peer with our own settings would hold against our certificate today.
    pub fn check_own(&self) -> Option<Refused> {
        let current = self.current();
        let error = current.check_own(&server_name(&self.name), self.dates)?;
        Some(Refused::by_us(&error, Some(current.own.clone())).turned())
    }

    /// TLS settings to dial one connection with, for the application protocol `alpn`; `shown` will
    /// know the other side's certificate, also if it is refused.
    pub fn client(&self, alpn: &[u8], shown: &Shown) -> ClientConfig {
        let mut client = self.current().client(self.dates, shown);
        client.alpn_protocols = vec![alpn.to_vec()];
        client
    }

    /// TLS settings to accept one connection with; see [`client`](Self::client).
    pub fn server(&self, alpn: &[u8], shown: &Shown) -> ServerConfig {
        let mut server = self.current().server(self.dates, shown);
        server.alpn_protocols = vec![alpn.to_vec()];
        server
    }

    /// Accepts one connection of the LAN. Ask for it again for each: it shows the certificate of
    /// that moment.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor_seeing(&Shown::default())
    }

    /// Dials one connection of the LAN, to a peer's [`server_name`]. Ask for it again for each.
    pub fn connector(&self) -> TlsConnector {
        self.connector_seeing(&Shown::default())
    }

    /// An [`acceptor`](Self::acceptor) that keeps the certificate it was shown, for
    /// [`explain`](Self::explain).
    pub fn acceptor_seeing(&self, shown: &Shown) -> TlsAcceptor {
        TlsAcceptor::from(Arc::new(self.server(LAN_ALPN, shown)))
    }

    /// A [`connector`](Self::connector) that keeps the certificate it was shown, for
    /// [`explain`](Self::explain).
    pub fn connector_seeing(&self, shown: &Shown) -> TlsConnector {
        TlsConnector::from(Arc::new(self.client(LAN_ALPN, shown)))
    }

    /// Who refused whom, when TLS on TCP failed with `error`; nothing if it failed otherwise, as
    /// when the network did.
    ///
    /// Ask it of errors of the handshake, and of those of the first read after it: in TLS 1.3 the
    /// dialer is through before the acceptor has seen its certificate, and hears of a refusal only
    /// when it reads.
    pub fn explain(&self, error: &std::io::Error, shown: &Shown) -> Option<Refused> {
        let tls = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(match tls {
            rustls::Error::AlertReceived(alert) => {
                self.explain_alert(Party::Them, (*alert).into(), "", shown)
            }
            error => Refused::by_us(error, shown.certificate()),
        })
    }

    /// What it means that one side ended a handshake with TLS's `alert`, and with `reason` where
    /// the transport can say more.
    pub fn explain_alert(&self, by: Party, alert: u8, reason: &str, shown: &Shown) -> Refused {
        let certificate = match by {
            Party::Us => shown.certificate(),
            Party::Them => Some(self.certificate()),
        };
        Refused::by_alert(by, alert, reason, certificate, Date::from(self.dates.now()))
    }

    fn current(&self) -> Arc<Checked> {
        self.current.read().expect("no one panics while replacing").clone()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.name)
    }
}

/// The name by which TLS checks the other end's certificate.
pub fn server_name(name: &PeerName) -> ServerName<'static> {
    ServerName::try_from(name.to_string()).expect("a peer's name is a name of DNS")
}
