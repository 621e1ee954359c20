//! Who refuses whom, over real sockets: TLS on TCP and QUIC, with certificates of the real
//! authority.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use datacenter::identity::handshake::{self, HandshakeError};
use datacenter::identity::{
    Cause::{self, *},
    Credentials, Date, Dates, Identity,
    Party::{self, Them, Us},
    Refused, Shown, server_name,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use wan::transport::{DialError, Endpoint, EndpointConfig, Entropy, Path};

use super::tests::{NOW, later, process};
use super::{Authority, Validity};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// An authority with its own certificate.
struct Ca(Authority, CertificateDer<'static>);

impl Ca {
    fn new() -> Self {
        let (authority, issued) = Authority::create(later(-1000, 3650)).unwrap();
        Self(authority, CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap())
    }

    /// Credentials of a process that trusts `self`, issued by `issuer`; and their serial number.
    fn credentials(&self, issuer: &Self, name: &str, validity: Validity) -> (Credentials, String) {
        let issued = issuer.0.issue(&process(name), validity).unwrap();
        let credentials = Credentials {
            roots: vec![self.1.clone()],
            chain: vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()],
            key: PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap(),
            revocations: vec![],
        };
        (credentials, issued.serial)
    }

    fn list(&self, serials: &[&str]) -> Vec<CertificateRevocationListDer<'static>> {
        let revoked: Vec<_> = serials.iter().map(|serial| ((*serial).to_owned(), NOW)).collect();
        let list = self.0.revocation_list(&revoked, 2, NOW).unwrap();
        vec![CertificateRevocationListDer::from_pem_slice(list.as_bytes()).unwrap()]
    }
}

fn identity(credentials: Credentials) -> Identity {
    Identity::new(credentials, Dates::Fixed(NOW.0.unsigned_abs())).unwrap()
}

/// One dialer, one acceptor, whom the dialer means to reach, and what becomes of it.
struct Case {
    name: &'static str,
    dialer: Identity,
    acceptor: Identity,
    target: &'static str,
    /// Who refuses, as the dialer sees it.
    refused: Option<(Party, Cause)>,
}

fn cases() -> Vec<Case> {
    let (ca, other) = (Ca::new(), Ca::new());
    let good = later(0, 90);
    let issue = |name, validity| identity(ca.credentials(&ca, name, validity).0);
    let stranger = |name| identity(ca.credentials(&other, name, good).0);
    let server = || issue("virginia-server-0", good);
    let worker = || issue("virginia-worker-0", good);
    let past = Validity { now: Date(NOW.0 - 100 * Date::DAY_SECONDS), days: 90 };
    let future = later(3, 90);
    let (revoked, serial) = ca.credentials(&ca, "virginia-worker-0", good);
    let (mut strict, _) = ca.credentials(&ca, "virginia-server-0", good);
    strict.revocations = ca.list(&[&serial]);
    let strict = identity(strict);
    let (mut strict_worker, _) = ca.credentials(&ca, "virginia-worker-0", good);
    let (revoked_server, serial) = ca.credentials(&ca, "virginia-server-0", good);
    strict_worker.revocations = ca.list(&[&serial]);
    let target = "virginia.server.gaia";
    let case = |name, dialer, acceptor, refused| Case { name, dialer, acceptor, target, refused };
    vec![
        case("both are good", worker(), server(), None),
        case("good beside a list", worker(), strict.clone(), None),
        case("dialer's authority", stranger("virginia-worker-0"), server(), Some((Them, UnknownAuthority))),
        case("acceptor's authority", worker(), stranger("virginia-server-0"), Some((Us, UnknownAuthority))),
        case("dialer expired", issue("virginia-worker-0", past), server(), Some((Them, Expired))),
        case("acceptor expired", worker(), issue("virginia-server-0", past), Some((Us, Expired))),
        case("dialer too early", issue("virginia-worker-0", future), server(), Some((Them, NotYetValid))),
        case("acceptor too early", worker(), issue("virginia-server-0", future), Some((Us, NotYetValid))),
        case("dialer revoked", identity(revoked), strict, Some((Them, Revoked))),
        case("acceptor revoked", identity(strict_worker), identity(revoked_server), Some((Us, Revoked))),
        case("somebody else", worker(), issue("ireland-server-0", good), Some((Us, Name))),
        case("another role", worker(), issue("virginia-worker-1", good), Some((Us, Role))),
    ]
}

fn check(case: &Case, [dialer, acceptor]: [Option<Refused>; 2], transport: &str) {
    let name = format!("{} over {transport}: {dialer:?}, {acceptor:?}", case.name);
    let seen = |refused: &Option<Refused>| refused.as_ref().map(|refused| (refused.by, refused.cause));
    assert_eq!(seen(&dialer), case.refused, "{name}");
    let turned = |(by, cause)| (if by == Us { Them } else { Us }, cause);
    match (case.refused, seen(&acceptor)) {
        // TCP's alert does not say which name was meant.
        (Some((Us, Role)), Some((Them, Name))) if transport == "TCP" => {}
        (refused, seen) => assert_eq!(seen, refused.map(turned), "{name}"),
    }
    // Both name the same certificate.
    let serial = |refused: Option<Refused>| Some(refused?.certificate?.serial);
    assert_eq!(serial(dialer), serial(acceptor), "{name}");
}

#[tokio::test]
async fn over_tcp_both_sides_know_who_refused_whom_and_why() {
    for case in cases() {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (dialed, accepted) =
            tokio::join!(dial_tcp(&case.dialer, case.target, address), accept_tcp(&case.acceptor, &listener));
        check(&case, [dialed, accepted], "TCP");
    }
}

/// Sends something before it listens, as an impatient dialer would.
async fn dial_tcp(identity: &Identity, target: &str, address: SocketAddr) -> Option<Refused> {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = match handshake::connect(identity, &target.parse().unwrap(), stream).await {
        Ok(stream) => stream,
        Err(HandshakeError::Refused(refused)) => return Some(refused),
        Err(other) => panic!("{other:?}"),
    };
    stream.write_all(&[7; 1000]).await.unwrap();
    let error = stream.read_u8().await.err()?;
    Some(identity.explain(&error, &Shown::default()).unwrap_or_else(|| panic!("{error}")))
}

async fn accept_tcp(identity: &Identity, listener: &TcpListener) -> Option<Refused> {
    let (stream, _) = listener.accept().await.unwrap();
    match handshake::accept(identity, stream).await {
        Ok((mut stream, _)) => {
            stream.write_all(&[1]).await.unwrap();
            stream.read_exact(&mut [0; 1000]).await.unwrap();
            None
        }
        Err(HandshakeError::Refused(refused)) => Some(refused),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn over_quic_both_sides_know_who_refused_whom_and_why() {
    for case in cases() {
        let (dialer, acceptor) = (endpoint(&case.dialer), endpoint(&case.acceptor));
        let address = acceptor.local_address().unwrap();
        let (dialed, accepted) =
            tokio::join!(dial_quic(&dialer, case.target, address), accept_quic(&acceptor));
        check(&case, [dialed, accepted], "QUIC");
    }
}

fn endpoint(identity: &Identity) -> Endpoint {
    let config = EndpointConfig {
        identity: identity.clone(),
        entropy: Entropy::System,
        accept: Path::default().control(),
    };
    Endpoint::over_udp(config, UdpSocket::bind(LOOPBACK).unwrap()).unwrap()
}

async fn dial_quic(endpoint: &Endpoint, target: &str, address: SocketAddr) -> Option<Refused> {
    let settings = Path::default().control();
    let connection = match endpoint.connect(address, &target.parse().unwrap(), &settings).await {
        Ok(connection) => connection,
        Err(DialError::Refused(refused)) => return Some(refused),
        Err(other) => panic!("{other:?}"),
    };
    // The acceptor closes, one way or the other.
    endpoint.explain(&connection.closed().await)
}

async fn accept_quic(endpoint: &Endpoint) -> Option<Refused> {
    let incoming = endpoint.incoming().await.unwrap();
    let refused = match endpoint.admit(incoming, &Path::default().control()).await {
        Ok(connection) => {
            connection.close(0u32.into(), b"welcome");
            None
        }
        Err(DialError::Refused(refused)) => Some(refused),
        Err(other) => panic!("{other:?}"),
    };
    endpoint.close((0u32.into(), ""));
    endpoint.quinn().wait_idle().await;
    refused
}

#[tokio::test]
async fn a_dialer_without_certificate_is_told() {
    let ca = Ca::new();
    let server = identity(ca.credentials(&ca, "virginia-server-0", later(0, 90)).0);
    let worker = identity(ca.credentials(&ca, "virginia-worker-0", later(0, 90)).0);
    let mut config = worker.client(b"gaia-lan/1", &Shown::default());
    config.client_auth_cert_resolver = Arc::new(Nobody);
    let refused = odd_dialer(&server, &worker, config).await;
    assert_eq!(refused.each_ref().map(|r| (r.by, r.cause)), [(Them, NoCertificate), (Us, NoCertificate)]);
    assert_eq!(refused[1].to_string(), "we refused them: a certificate is needed, and none was shown");
}

#[tokio::test]
async fn another_protocol_is_told() {
    let ca = Ca::new();
    let server = identity(ca.credentials(&ca, "virginia-server-0", later(0, 90)).0);
    let worker = identity(ca.credentials(&ca, "virginia-worker-0", later(0, 90)).0);
    let config = worker.client(b"gaia-lan/2", &Shown::default());
    let refused = odd_dialer(&server, &worker, config).await;
    assert_eq!(refused.each_ref().map(|r| (r.by, r.cause)), [(Them, Protocol), (Us, Protocol)]);
}

/// What both make of a dialer with settings of its own.
async fn odd_dialer(server: &Identity, worker: &Identity, config: rustls::ClientConfig) -> [Refused; 2] {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let dial = async {
        let connecting = TlsConnector::from(Arc::new(config)).connect(server_name(server.name()), stream);
        let error = match connecting.await {
            Ok(mut stream) => stream.read_u8().await.unwrap_err(),
            Err(error) => error,
        };
        worker.explain(&error, &Shown::default()).unwrap()
    };
    let (dialed, accepted) = tokio::join!(dial, accept_tcp(server, &listener));
    [dialed, accepted.unwrap()]
}

/// Has no certificate to show.
#[derive(Debug)]
struct Nobody;

impl rustls::client::ResolvesClientCert for Nobody {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn plaintext_against_tls_is_told_on_both_sides() {
    let ca = Ca::new();
    let server = identity(ca.credentials(&ca, "virginia-server-0", later(0, 90)).0);
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let mut plain = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let dial = async {
        // A frame as the LAN's would be: its length first.
        plain.write_all(&[0, 0, 0, 12, 8, 1, 18, 8, 118, 105, 114, 103, 105, 110, 105, 97]).await.unwrap();
        let mut first = [0; 3];
        plain.read_exact(&mut first).await.unwrap();
        Refused::in_plaintext(&first).unwrap()
    };
    let (dialed, accepted) = tokio::join!(dial, accept_tcp(&server, &listener));
    assert_eq!((dialed.by, dialed.cause), (Them, Plaintext));
    let accepted = accepted.unwrap();
    assert_eq!((accepted.by, accepted.cause), (Us, Plaintext));
    assert_eq!(accepted.to_string(), "we refused them: TLS is needed, and something else was sent");
}

#[tokio::test]
async fn tls_against_plaintext_is_told() {
    let ca = Ca::new();
    let worker = identity(ca.credentials(&ca, "virginia-worker-0", later(0, 90)).0);
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut first = [0; 3];
        stream.read_exact(&mut first).await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        (Refused::in_plaintext(&first).unwrap(), stream)
    };
    let (dialed, (accepted, _stream)) =
        tokio::join!(dial_tcp(&worker, "virginia.server.gaia", address), accept);
    assert_eq!(dialed.map(|refused| (refused.by, refused.cause)), Some((Us, Plaintext)));
    assert_eq!((accepted.by, accepted.cause), (Them, Plaintext));
}
