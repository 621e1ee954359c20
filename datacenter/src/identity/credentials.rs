//! What proves an identity: certificates, a key, revocation lists.
//!
//! Kind: time-free.
//!
//! Revocation lists are optional. An authority without a list has revoked nothing; a list that is
//! out of date still says what it says; a list that cannot be read, or that none of our authorities
//! has signed, is an error at once, and not a refusal of everybody later.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{Resumption, WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::TimeProvider,
};

use super::{
    Certificate, Dates, IdentityError, PeerName, Shown, name_in, revocations::Revocations, shown::Seeing,
};

/// What proves who a process is, and what it checks its peers against.
#[derive(Debug)]
pub struct Credentials {
    /// The authority's certificates. Several, while one authority succeeds another.
    pub roots: Vec<CertificateDer<'static>>,
    /// Our own certificate first, then those between it and a root, if any.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of our own certificate.
    pub key: PrivateKeyDer<'static>,
    /// Revocation lists of the roots.
    pub revocations: Vec<CertificateRevocationListDer<'static>>,
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        Self {
            roots: self.roots.clone(),
            chain: self.chain.clone(),
            // Keys are copied on purpose only, hence by a method of another name.
            key: self.key.clone_key(),
            revocations: self.revocations.clone(),
        }
    }
}

/// Credentials that fit together.
pub(super) struct Checked {
    name: PeerName,
    pub(super) own: Certificate,
    pub(super) revocations: Revocations,
    provider: Arc<CryptoProvider>,
    key: Arc<CertifiedKey>,
    servers: Arc<WebPkiServerVerifier>,
    clients: Arc<dyn ClientCertVerifier>,
}

/// Both verifiers are built the same way, by builders of different types.
macro_rules! with_policy {
    ($builder:expr, $lists:expr) => {
        $builder
            .with_crls($lists)
            .only_check_end_entity_revocation()
            .allow_unknown_revocation_status()
            .build()
    };
}

impl Checked {
    pub(super) fn new(credentials: Credentials) -> Result<Self, IdentityError> {
        let Credentials { roots, chain, key, revocations: lists } = credentials;
        let leaf = chain.first().ok_or(IdentityError::NoCertificate)?;
        let (name, own) = (name_in(leaf)?, Certificate::read(leaf)?);
        let revocations = Revocations::read(&lists, &roots)?;
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root)?;
        }
        let store = Arc::new(store);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = Arc::new(CertifiedKey::from_der(chain, key, &provider)?);
        let servers = WebPkiServerVerifier::builder_with_provider(store.clone(), provider.clone());
        let clients = WebPkiClientVerifier::builder_with_provider(store, provider.clone());
        let (servers, clients) = (with_policy!(servers, lists.clone())?, with_policy!(clients, lists)?);
        Ok(Self { name, own, revocations, provider, key, servers, clients })
    }

    pub(super) fn name(&self) -> &PeerName {
        &self.name
    }

    /// What we would say if the other side showed us our own certificate.
    pub(super) fn check_own(&self, name: &ServerName<'_>, dates: Dates) -> Option<rustls::Error> {
        let [leaf, between @ ..] = self.key.cert.as_slice() else { return None };
        let Some(now) = dates.current_time() else { return Some(rustls::Error::FailedToGetCurrentTime) };
        let as_server = self.servers.verify_server_cert(leaf, between, name, &[], now).err();
        as_server.or_else(|| self.clients.verify_client_cert(leaf, between, now).err())
    }

    pub(super) fn client(&self, dates: Dates, shown: &Shown) -> ClientConfig {
        let verifier = Seeing::new(self.servers.clone() as Arc<dyn ServerCertVerifier>, shown);
        let mut client = ClientConfig::builder_with_details(self.provider.clone(), Arc::new(dates))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("ring's provider does TLS 1.3")
            .dangerous() // Only in that this verifier also remembers what it has seen.
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(self.key.clone())));
        client.resumption = Resumption::disabled();
        client
    }

    pub(super) fn server(&self, dates: Dates, shown: &Shown) -> ServerConfig {
        let verifier = Seeing::new(self.clients.clone(), shown);
        let mut server = ServerConfig::builder_with_details(self.provider.clone(), Arc::new(dates))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("ring's provider does TLS 1.3")
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(self.key.clone())));
        // A ticket would let a peer come back without showing its certificate, which may have been
        // revoked.
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server
    }
}
