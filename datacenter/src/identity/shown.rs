//! What the other side has shown in a handshake.
//!
//! Kind: time-free.
//!
//! When rustls refuses a certificate it says why, but not which one it was, and a failed handshake
//! has no peer to ask. So the verifier of each connection leaves a note. It decides nothing:
//! rustls's own verifiers do.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use super::Certificate;

/// The certificate that the other side of one connection has shown, if it has come to that.
#[derive(Clone, Debug, Default)]
pub struct Shown(Arc<OnceLock<Certificate>>);

impl Shown {
    /// That certificate.
    pub fn certificate(&self) -> Option<Certificate> {
        self.0.get().cloned()
    }

    fn note(&self, certificate: &CertificateDer<'_>) {
        if let Ok(certificate) = Certificate::read(certificate) {
            // A handshake shows one certificate; if there ever were a second, the first is the one
            // to name.
            let _ = self.0.set(certificate);
        }
    }
}

/// A verifier that notes what it is shown.
pub(super) struct Seeing<V> {
    verifier: V,
    shown: Shown,
}

impl<V> Seeing<V> {
    pub(super) fn new(verifier: V, shown: &Shown) -> Self {
        Self { verifier, shown: shown.clone() }
    }
}

impl<V: fmt::Debug> fmt::Debug for Seeing<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.verifier.fmt(f)
    }
}

/// The part that both traits have in common.
macro_rules! delegate_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.verifier.verify_tls12_signature(message, certificate, signature)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.verifier.verify_tls13_signature(message, certificate, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.verifier.supported_verify_schemes()
        }
    };
}

impl ServerCertVerifier for Seeing<Arc<dyn ServerCertVerifier>> {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.shown.note(leaf);
        self.verifier.verify_server_cert(leaf, between, name, ocsp_response, now)
    }

    delegate_signatures!();

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.verifier.root_hint_subjects()
    }
}

impl ClientCertVerifier for Seeing<Arc<dyn ClientCertVerifier>> {
    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.shown.note(leaf);
        self.verifier.verify_client_cert(leaf, between, now)
    }

    delegate_signatures!();
}
