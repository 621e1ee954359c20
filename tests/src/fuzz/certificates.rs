//! What proves who somebody is: certificates that peers show, and the PEM files of a process.

use datacenter::identity::{Certificate, Date, Dates, PeerName, Revocations, Role, name_in, peer_name_of};
use gaia::service::certificates::{Directory, ProcessName, TlsFiles};
use quinn::rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use super::files::{directory, parts};

/// The first byte chooses: a certificate, or a revocation list, in DER; or the PEM files of a
/// process.
pub fn certificates(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    match choice % 3 {
        0 => shown(rest),
        1 => list(rest),
        _ => files(rest),
    }
}

/// A peer shows this in a handshake.
fn shown(der: &[u8]) {
    let der = CertificateDer::from(der);
    let named = name_in(&der).ok();
    assert_eq!(peer_name_of(Some(std::slice::from_ref(&der))).ok(), named);
    assert!(!Revocations::default().contain(&der));
    let Ok(certificate) = Certificate::read(&der) else {
        assert_eq!(named, None);
        return;
    };
    assert_eq!(certificate.peer(), named);
    let indexes = certificate.indexes();
    assert!(indexes.iter().all(|index| certificate.check_index(*index).is_ok()));
    assert_eq!(certificate.check_index(77).is_ok(), indexes.is_empty() || indexes.contains(&77));
    // What people are told of it.
    let now = Date::from(Dates::SIMULATED.now());
    for date in [certificate.not_before, certificate.not_after] {
        let _ = (date.to_string(), date.from_here(now), date.days_since(now));
    }
    let _ = certificate.to_string();
}

/// Nobody has signed it whom we know, so whatever it says does not count.
fn list(der: &[u8]) {
    let list = CertificateRevocationListDer::from(der);
    assert!(Revocations::read(&[list], &[]).is_err());
}

/// The authority's certificates, the process's own, its key, and revocation lists.
fn files(data: &[u8]) {
    let process = "virginia-server-0".parse::<ProcessName>().expect("a name");
    let names = ["ca.pem", "virginia-server-0.pem", "virginia-server-0.key", "crl.pem"];
    let directory = directory(names.into_iter().zip(parts(data, names.len())));
    let files = TlsFiles::in_directory(directory.path(), &process);
    let expected = PeerName::new("virginia", Role::Server).expect("a name");
    match files.load(&expected, Dates::SIMULATED) {
        Ok(loaded) => {
            assert_eq!(loaded.identity.name(), &expected);
            assert!(loaded.identity.check_own().is_none());
            loaded.warnings.iter().for_each(|warning| drop(warning.to_string()));
            files.reload(&loaded.identity).expect("they have not changed");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let _ = Directory::new(directory.path()).show(Date::from(Dates::SIMULATED.now()));
}
