//! Handshakes over memory, with certificates made for the case.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::{handshake::HandshakeError, *};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), root }
    }

    fn issue(&self, name: &str, serial: u64) -> Credentials {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = date_time_ymd(2025, 12, 1);
        params.not_after = date_time_ymd(2026, 12, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Credentials {
            roots: vec![self.root.clone()],
            chain: vec![leaf.der().clone()],
            key: PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
            revocations: vec![],
        }
    }

    fn revoke(&self, serials: &[u64]) -> CertificateRevocationListDer<'static> {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2025, 12, 2),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 12, 2),
            next_update: date_time_ymd(2025, 12, 20),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().into()
    }
}

fn identity(credentials: Credentials) -> Identity {
    Identity::new(credentials, Dates::SIMULATED).unwrap()
}

/// What the dialer and the acceptor make of each other, after a byte each way.
async fn shake(dialer: &Identity, to: &str, acceptor: &Identity) -> [Option<Refused>; 2] {
    let (here, there) = duplex(1 << 16);
    let refused = |error| match error {
        HandshakeError::Refused(refused) => refused,
        other => panic!("{other}"),
    };
    let dial = async {
        let mut stream = handshake::connect(dialer, &to.parse().unwrap(), here).await.map_err(refused)?;
        let explain = |error| dialer.explain(&error, &Shown::default()).expect("a refusal");
        stream.write_u8(1).await.map_err(explain)?;
        stream.read_u8().await.map_err(explain)
    };
    let accept = async {
        let (mut stream, peer) = handshake::accept(acceptor, there).await.map_err(refused)?;
        assert_eq!(peer, *dialer.name());
        stream.write_u8(1).await.unwrap();
        Ok(stream.read_u8().await.unwrap())
    };
    let (dialed, accepted) = tokio::join!(dial, accept);
    [dialed.err(), accepted.err()]
}

fn causes(refused: &[Option<Refused>; 2]) -> [Option<(Party, Cause)>; 2] {
    refused.each_ref().map(|refused| refused.as_ref().map(|refused| (refused.by, refused.cause)))
}

#[tokio::test]
async fn peers_of_one_authority_accept_each_other() {
    let authority = Authority::new("one");
    let server = identity(authority.issue("virginia.server.gaia", 1));
    let worker = identity(authority.issue("virginia.worker.gaia", 2));
    assert_eq!(shake(&worker, "virginia.server.gaia", &server).await, [None, None]);
    assert_eq!(server.check_own(), None);
}

#[tokio::test]
async fn both_sides_learn_that_a_certificate_is_revoked() {
    use {Cause::Revoked, Party::*};
    let authority = Authority::new("one");
    let server = authority.issue("virginia.server.gaia", 1);
    let worker = authority.issue("virginia.worker.gaia", 2);
    let leaves = [server.chain[0].clone(), worker.chain[0].clone()];
    let (server, worker) = (identity(server), identity(worker));
    let mut reloads = server.generations();

    // The list is out of date in Dates::SIMULATED, and counts nevertheless.
    let mut renewed = authority.issue("virginia.server.gaia", 3);
    renewed.revocations = vec![authority.revoke(&[2])];
    server.clone().replace(renewed).unwrap();
    assert!(reloads.has_changed().unwrap());
    assert_eq!(*reloads.borrow_and_update(), 1);
    assert_eq!(server.certificate().serial, "03");
    assert_eq!(server.next_revocation_list().unwrap().to_string(), "2025-12-20");
    assert_eq!(leaves.each_ref().map(|leaf| server.is_revoked(leaf)), [false, true]);

    let refused = shake(&worker, "virginia.server.gaia", &server).await;
    assert_eq!(causes(&refused), [Some((Them, Revoked)), Some((Us, Revoked))]);
    assert_eq!(
        refused[1].as_ref().unwrap().to_string(),
        "we refused their certificate virginia.worker.gaia (rcgen self signed cert, serial 02): it is revoked"
    );
    // The other way around, the dialer asks its list.
    let refused = shake(&server, "virginia.worker.gaia", &worker).await;
    assert_eq!(causes(&refused), [Some((Us, Revoked)), Some((Them, Revoked))]);
}

#[tokio::test]
async fn an_established_connection_outlives_what_it_was_made_with() {
    let authority = Authority::new("one");
    let server = identity(authority.issue("virginia.server.gaia", 1));
    let worker = identity(authority.issue("virginia.worker.gaia", 2));
    let (here, there) = duplex(1 << 16);
    let name = server_name(server.name());
    let (dialed, accepted) =
        tokio::join!(worker.connector().connect(name, here), server.acceptor().accept(there));
    let (mut dialed, mut accepted) = (dialed.unwrap(), accepted.unwrap());
    let mut renewed = authority.issue("virginia.server.gaia", 3);
    renewed.revocations = vec![authority.revoke(&[1, 2])];
    server.replace(renewed).unwrap();
    dialed.write_u8(7).await.unwrap();
    assert_eq!(accepted.read_u8().await.unwrap(), 7);
    let peer = accepted.get_ref().1.peer_certificates().unwrap();
    assert_eq!(peer_name_of(Some(peer)).unwrap(), *worker.name());
    assert!(server.is_revoked(&peer[0]), "now the process may close it");
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    let server = identity(one.issue("virginia.server.gaia", 1));
    let other = one.issue("ireland.server.gaia", 2);
    let error = server.replace(other).unwrap_err().to_string();
    assert_eq!(
        error,
        "the new certificate is for ireland.server.gaia, and this process is virginia.server.gaia"
    );
    let mut foreign_list = one.issue("virginia.server.gaia", 3);
    foreign_list.revocations = vec![two.revoke(&[])];
    assert!(matches!(
        server.replace(foreign_list),
        Err(IdentityError::Revocations(RevocationError::NotOurs { issuer })) if issuer.contains("two")
    ));
    let mut torn = one.issue("virginia.server.gaia", 3);
    torn.revocations = vec![CertificateRevocationListDer::from(vec![1, 2, 3])];
    assert!(matches!(
        server.replace(torn),
        Err(IdentityError::Revocations(RevocationError::Unreadable { .. }))
    ));
    let mut other_key = one.issue("virginia.server.gaia", 3);
    other_key.key = one.issue("virginia.server.gaia", 4).key;
    assert!(matches!(server.replace(other_key), Err(IdentityError::Tls(rustls::Error::InconsistentKeys(_)))));
    assert_eq!(server.certificate().serial, "01");
    let mut unsigned = two.issue("virginia.server.gaia", 9);
    unsigned.roots = vec![one.root.clone()];
    let refused = identity(unsigned).check_own().unwrap();
    assert_eq!((refused.by, refused.cause), (Party::Them, Cause::UnknownAuthority));
}
