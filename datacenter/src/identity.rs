//! Who a process is, and who its peers are: mutual TLS 1.3, inside a datacenter and between datacenters.
//!
//! Kind: time-free.
//!
//! Both ends of a connection show a certificate of the job's authority, which names the datacenter and the role as a
//! DNS name: `virginia.server.gaia`. The dialer checks it against whom it meant to reach ([`server_name`]); the
//! acceptor asks [`peer_name_of`] who has come, and decides whether that peer belongs here.
//!
//! What is here serves every transport: [`Identity::acceptor`] and [`Identity::connector`] for TLS on TCP, which is the
//! LAN's, and [`Identity::server`] and [`Identity::client`] for QUIC, which the `wan` crate makes of them.

mod certificate;
mod dates;
mod name;

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    server::WebPkiClientVerifier,
};
use thiserror::Error;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use self::name::DOMAIN;
pub use self::{
    certificate::{name_in, peer_name_of},
    dates::Dates,
    name::{PeerName, PeerNameError, Role},
};

/// The application protocol of a LAN's connections; its number changes with the first incompatible message.
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
}

/// What one process shows to its peers, and how it checks what they show: TLS settings for both ends of connections.
#[derive(Clone)]
pub struct Identity {
    name: PeerName,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    dates: Dates,
}

impl Identity {
    /// An identity from the authority's certificates, our own chain with the leaf first, and the leaf's key.
    ///
    /// # Errors
    ///
    /// When the leaf names no peer, the key does not fit it, or a certificate is unusable.
    pub fn new(
        roots: Vec<CertificateDer<'static>>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        dates: Dates,
    ) -> Result<Self, IdentityError> {
        let name = name_in(chain.first().ok_or(IdentityError::NoCertificate)?)?;
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root)?;
        }
        let store = Arc::new(store);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(store.clone(), provider.clone()).build()?;
        let mut server = ServerConfig::builder_with_details(provider.clone(), Arc::new(dates))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())?;
        // A ticket would let a peer come back without showing its certificate, which may have been revoked.
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_details(provider, Arc::new(dates))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(store)
            .with_client_auth_cert(chain, key)?;
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Self { name, client: Arc::new(client), server: Arc::new(server), dates })
    }

    /// Who we are.
    pub fn name(&self) -> &PeerName {
        &self.name
    }

    /// The date by which certificates are judged.
    pub fn dates(&self) -> Dates {
        self.dates
    }

    /// TLS settings to dial with, for the application protocol `alpn`.
    pub fn client(&self, alpn: &[u8]) -> ClientConfig {
        let mut client = ClientConfig::clone(&self.client);
        client.alpn_protocols = vec![alpn.to_vec()];
        client
    }

    /// TLS settings to accept with, for the application protocol `alpn`.
    pub fn server(&self, alpn: &[u8]) -> ServerConfig {
        let mut server = ServerConfig::clone(&self.server);
        server.alpn_protocols = vec![alpn.to_vec()];
        server
    }

    /// Accepts connections of the LAN. Ask for it again for each connection: it is cheap, and shows the certificate
    /// of that moment.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::new(self.server(LAN_ALPN)))
    }

    /// Dials connections of the LAN, to a peer's [`server_name`]. Ask for it again for each connection.
    pub fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::new(self.client(LAN_ALPN)))
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
