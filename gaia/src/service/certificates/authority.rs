//! Signs certificates and revocation lists.
//!
//! Kind: time-passed.
//!
//! ECDSA on P-256, which every TLS library reads. Keys and serial numbers are the system's
//! randomness: nothing here can be repeated, and nothing should.

use std::time::Duration;

use datacenter::identity::Date;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber,
};
use time::OffsetDateTime;

use super::{DAY_SECONDS, ProcessName};

/// How long a certificate is valid from before now on, since clocks differ.
const BACKDATED: Duration = Duration::from_secs(10 * 60);
/// How long a revocation list promises to be the newest. It counts also after that.
const LIST_DAYS: u64 = 90;
/// RFC 5280, section 4.1.2.2, allows 20; 8 random ones do not repeat in one authority, and people
/// can still compare them.
const SERIAL_BYTES: usize = 8;

/// From when to when something is valid.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// The date of signing.
    pub now: Date,
    /// How long it is valid from then on.
    pub days: u32,
}

/// A certificate and its key, both as PEM.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The private key (PKCS #8). Not to be shown or logged.
    pub key: String,
    /// The certificate's serial number, in hex.
    pub serial: String,
    /// The end of its validity.
    pub not_after: Date,
}

/// A private certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority, and its own certificate.
    ///
    /// # Errors
    ///
    /// When the system has no randomness.
    pub fn create(validity: Validity) -> Result<(Self, Issued), rcgen::Error> {
        let serial = random_serial()?;
        let mut params = params(validity, &serial);
        // A part of the serial number keeps successive authorities apart: lists are found by their
        // issuer's name.
        let name = format!("Gaia authority {}", hex(&serial[..4]));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let issued = issued(params.self_signed(&key)?.pem(), &key, &serial, &params);
        Ok((Self { issuer: Issuer::new(params, key) }, issued))
    }

    /// The authority with this certificate and key, both PEM.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read.
    pub fn load(certificate: &str, key: &str) -> Result<Self, rcgen::Error> {
        Ok(Self { issuer: Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key)?)? })
    }

    /// A certificate for `process`, with a new key.
    ///
    /// # Errors
    ///
    /// When the system has no randomness.
    pub fn issue(&self, process: &ProcessName, validity: Validity) -> Result<Issued, rcgen::Error> {
        let serial = random_serial()?;
        let mut params = params(validity, &serial);
        // The first is what peers look for; the second keeps a process from speaking for another of
        // its role.
        let names = [process.peer().to_string(), process.peer().with_index(process.index())];
        for name in names {
            params.subject_alt_names.push(rcgen::SanType::DnsName(name.try_into()?));
        }
        params.distinguished_name.push(DnType::CommonName, process.common_name());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Every process dials some and accepts others.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        Ok(issued(params.signed_by(&key, &self.issuer)?.pem(), &key, &serial, &params))
    }

    /// The list of certificates that are revoked, by serial number, each since a date; `number`
    /// must grow from list to list.
    ///
    /// # Errors
    ///
    /// When a serial number is not hex.
    pub fn revocation_list(
        &self,
        revoked_list: &[(String, Date)],
        number: u64,
        now: Date,
    ) -> Result<String, rcgen::Error> {
        let revoked = |(serial, since): &(String, Date)| {
            let serial = bytes(serial).ok_or(rcgen::Error::CouldNotParseCertificate)?;
            Ok(RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: time(*since),
                reason_code: None,
                invalidity_date: None,
            })
        };
        let params = CertificateRevocationListParams {
            this_update: time(now) - BACKDATED,
            next_update: time(now) + Duration::from_secs(LIST_DAYS * DAY_SECONDS),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked_list.iter().map(revoked).collect::<Result<_, rcgen::Error>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer)?.pem()
    }
}

fn params(validity: Validity, serial: &[u8]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.not_before = time(validity.now) - BACKDATED;
    params.not_after = time(validity.now) + Duration::from_secs(u64::from(validity.days) * DAY_SECONDS);
    params
}

fn issued(certificate: String, key: &KeyPair, serial: &[u8], params: &CertificateParams) -> Issued {
    let not_after = Date(params.not_after.unix_timestamp());
    Issued { certificate, key: key.serialize_pem(), serial: hex(serial), not_after }
}

/// A date of the years that certificates know; what is beyond them is the start of 1970.
fn time(date: Date) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(date.0).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn random_serial() -> Result<[u8; SERIAL_BYTES], rcgen::Error> {
    let mut serial = [0; SERIAL_BYTES];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut serial)
        .map_err(|_| rcgen::Error::RingUnspecified)?;
    // Positive, and never shortened: the first byte is 0x40 to 0x7f.
    serial[0] = serial[0] & 0x3f | 0x40;
    Ok(serial)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
