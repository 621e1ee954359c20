//! A certificate authority for simulations and tests.
//!
//! Kind: time-free.
//!
//! A simulation wants the real handshake, with real certificates, and the same bytes each time. So keys come
//! from the run's seed, serial numbers from names, and all validity from fixed dates. Ed25519 rather than
//! ECDSA, whose signatures vary in length. Nothing here is a secret: real certificates come from files, into
//! [`Identity::new`].

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use emulation::seed;

use crate::transport::{Credentials, Dates, Entropy, Identity, PeerName, entropy::Purpose};

/// A certificate authority whose keys come from a seed.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    seed: u64,
}

impl Authority {
    /// The authority of the simulation with this seed.
    pub fn new(seed: u64) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(SerialNumber::from(1));
        params.distinguished_name.push(DnType::CommonName, "gaia simulation");
        let key = key_pair(seed, "");
        let certificate = params.self_signed(&key).expect("parameters of our own can be signed");
        Self { certificate: certificate.der().clone(), issuer: Issuer::new(params, key), seed }
    }

    /// A certificate and key for `name`, with this authority as the only root.
    pub fn issue(&self, name: &PeerName) -> Identity {
        let dns_name = name.to_string();
        let mut params =
            CertificateParams::new(vec![dns_name.clone()]).expect("the name of a peer is a name in DNS");
        params.serial_number = Some(SerialNumber::from(label(&dns_name) >> 1));
        params.distinguished_name.push(DnType::CommonName, dns_name.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = key_pair(self.seed, &dns_name);
        let leaf = params.signed_by(&key, &self.issuer).expect("parameters of our own can be signed");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let credentials = Credentials {
            roots: vec![self.certificate.clone()],
            chain: vec![leaf.der().clone()],
            key,
            revocations: vec![],
        };
        Identity::new(credentials, Dates::SIMULATED).expect("a certificate of our own is a valid identity")
    }
}

fn label(name: &str) -> u64 {
    name.bytes().fold(seed::derive(0, &[]), |state, byte| seed::derive(state, &[u64::from(byte)]))
}

/// An Ed25519 key from the seed, one for each name.
fn key_pair(seed: u64, name: &str) -> KeyPair {
    /// RFC 8410, section 7: the DER of a PKCS #8 private key up to its 32 bytes.
    const PKCS8_PREFIX: [u8; 16] =
        [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let mut der = [0; 48];
    der[..16].copy_from_slice(&PKCS8_PREFIX);
    Entropy::Seeded(seed).derive(label(name)).fill(Purpose::Certificate, &mut der[16..]);
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der.to_vec()), &rcgen::PKCS_ED25519)
        .expect("any 32 bytes are an Ed25519 key")
}
