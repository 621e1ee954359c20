//! Who a process is, and who its peers are: mutual TLS 1.3.
//!
//! Kind: time-free.
//!
//! Both ends of a connection show a certificate of the job's authority, which names the datacenter and the
//! role as a DNS name: `virginia.server.gaia`. The dialer checks it against whom it meant to reach; the
//! acceptor asks [`peer_name`] who has come, and decides whether that peer is configured.

use std::{
    fmt,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    server::WebPkiClientVerifier,
    time_provider::TimeProvider,
};
use thiserror::Error;
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

/// The application protocol; its number changes with the first incompatible message.
const ALPN: &[u8] = b"gaia/1";
/// The domain of all names in certificates.
const DOMAIN: &str = "gaia";
/// The longest label that DNS allows.
const MAX_LABEL_BYTES: usize = 63;

/// What a certificate lets its holder do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Holds shards, and exchanges updates with the servers of other datacenters.
    Server,
    /// Computes deltas inside its datacenter.
    Worker,
    /// Asks for status.
    Operator,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Server, Self::Worker, Self::Operator];

    /// The role as a label of a name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Worker => "worker",
            Self::Operator => "operator",
        }
    }
}

/// The name in a certificate: a datacenter and a role, written `virginia.server.gaia`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerName {
    datacenter: String,
    role: Role,
}

/// Why something is not a [`PeerName`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PeerNameError {
    /// The datacenter's name is no label of DNS.
    #[error(
        "{found:?} cannot name a datacenter: 1 to {MAX_LABEL_BYTES} lower-case letters, digits and inner \
         hyphens can"
    )]
    NotALabel {
        /// What was given.
        found: String,
    },
    /// Not of the form `datacenter.role.gaia`.
    #[error(
        "{found:?} is not of the form datacenter.role.{DOMAIN} with a role of server, worker or operator"
    )]
    NotAPeer {
        /// What was given.
        found: String,
    },
}

impl PeerName {
    /// The name of a role in a datacenter.
    ///
    /// # Errors
    ///
    /// [`PeerNameError::NotALabel`] when the datacenter's name cannot stand in a certificate.
    pub fn new(datacenter: &str, role: Role) -> Result<Self, PeerNameError> {
        let is_label = (1..=MAX_LABEL_BYTES).contains(&datacenter.len())
            && datacenter.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !datacenter.starts_with('-')
            && !datacenter.ends_with('-');
        if !is_label {
            return Err(PeerNameError::NotALabel { found: datacenter.to_owned() });
        }
        Ok(Self { datacenter: datacenter.to_owned(), role })
    }

    /// The datacenter.
    pub fn datacenter(&self) -> &str {
        &self.datacenter
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{DOMAIN}", self.datacenter, self.role.as_str())
    }
}

impl FromStr for PeerName {
    type Err = PeerNameError;

    fn from_str(name: &str) -> Result<Self, PeerNameError> {
        let not_a_peer = || PeerNameError::NotAPeer { found: name.to_owned() };
        let labels: Vec<&str> = name.split('.').collect();
        let &[datacenter, role, DOMAIN] = labels.as_slice() else {
            return Err(not_a_peer());
        };
        let role = Role::ALL.into_iter().find(|known| known.as_str() == role).ok_or_else(not_a_peer)?;
        Self::new(datacenter, role)
    }
}

/// The date that certificates are checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dates {
    /// The machine's.
    System,
    /// Always the same one, in seconds since 1970.
    Fixed(u64),
}

impl Dates {
    /// The date of simulations: the start of 2026.
    pub const SIMULATED: Self = Self::Fixed(1_767_225_600);
}

impl TimeProvider for Dates {
    fn current_time(&self) -> Option<UnixTime> {
        match *self {
            Self::System => Some(UnixTime::now()),
            Self::Fixed(seconds) => Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds))),
        }
    }
}

impl quinn::TimeSource for Dates {
    #[expect(
        clippy::disallowed_methods,
        reason = "the dates of real certificates are judged by the real date"
    )]
    fn now(&self) -> SystemTime {
        match *self {
            Self::System => SystemTime::now(),
            Self::Fixed(seconds) => SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        }
    }
}

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

/// What one process shows to its peers, and how it checks what they show: TLS settings for both ends of
/// connections.
#[derive(Clone)]
pub struct Identity {
    name: PeerName,
    client: Arc<QuicClientConfig>,
    server: Arc<QuicServerConfig>,
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
        let mut server = rustls::ServerConfig::builder_with_details(provider.clone(), Arc::new(dates))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        // A ticket would let a peer come back without showing its certificate, which may have been revoked.
        server.send_tls13_tickets = 0;
        let mut client = rustls::ClientConfig::builder_with_details(provider, Arc::new(dates))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(store)
            .with_client_auth_cert(chain, key)?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = rustls::client::Resumption::disabled();
        let initial_suite = "TLS 1.3 with ring always has the suite of QUIC's first packets";
        Ok(Self {
            name,
            client: Arc::new(QuicClientConfig::try_from(client).expect(initial_suite)),
            server: Arc::new(QuicServerConfig::try_from(server).expect(initial_suite)),
            dates,
        })
    }

    /// Who we are.
    pub fn name(&self) -> &PeerName {
        &self.name
    }

    pub(super) fn client(&self) -> Arc<QuicClientConfig> {
        self.client.clone()
    }

    pub(super) fn server(&self) -> Arc<QuicServerConfig> {
        self.server.clone()
    }

    pub(super) fn dates(&self) -> Dates {
        self.dates
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.name)
    }
}

/// Which datacenter and role is at the other end of an established connection.
///
/// # Errors
///
/// When the peer's certificate, although signed by the authority, does not name a peer.
pub fn peer_name(connection: &quinn::Connection) -> Result<PeerName, IdentityError> {
    let chain = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .ok_or(IdentityError::NoCertificate)?;
    name_in(chain.first().ok_or(IdentityError::NoCertificate)?)
}

/// The peer that a certificate names among its subject alternative names.
fn name_in(certificate: &CertificateDer<'_>) -> Result<PeerName, IdentityError> {
    let unreadable = |reason: String| IdentityError::Unreadable { reason };
    let (_, parsed) = parse_x509_certificate(certificate).map_err(|error| unreadable(error.to_string()))?;
    let names = parsed.subject_alternative_name().map_err(|error| unreadable(error.to_string()))?;
    let found: Vec<String> = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(dns) => Some((*dns).to_owned()),
            _ => None,
        })
        .collect();
    // Other names may stand beside it, such as the machine's; two peers in one certificate would be
    // ambiguous.
    let mut peers = found.iter().filter_map(|name| name.parse().ok());
    match (peers.next(), peers.next()) {
        (Some(peer), None) => Ok(peer),
        _ => Err(IdentityError::NotOnePeer { found }),
    }
}

/// The name by which TLS checks the other end's certificate.
pub(super) fn server_name(name: &PeerName) -> String {
    let dns_name = name.to_string();
    debug_assert!(ServerName::try_from(dns_name.as_str()).is_ok());
    dns_name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for role in Role::ALL {
            let name = PeerName::new("us-east-1", role).unwrap();
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        let name: PeerName = "virginia.server.gaia".parse().unwrap();
        assert_eq!((name.datacenter(), name.role()), ("virginia", Role::Server));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for label in ["", "Virginia", "a.b", "-a", "a-", "a_b", &"a".repeat(64)] {
            assert!(PeerName::new(label, Role::Server).is_err(), "{label:?}");
        }
        for name in
            ["virginia", "virginia.server", "virginia.king.gaia", "virginia.server.example", ".server.gaia"]
        {
            assert!(name.parse::<PeerName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_certificate_names_its_holder() {
        let name = PeerName::new("virginia", Role::Worker).unwrap();
        let identity = crate::transport::Authority::new(1).issue(&name);
        assert_eq!(identity.name(), &name);
    }
}
