//! Who does not belong is refused, both sides say why, it is counted, and those who belong train on
//! undisturbed.
//!
//! Three regions run as real processes. Intruders come to the server of one of them: real processes
//! where the program lets itself be started that way, and its own drivers with other certificates,
//! other names or another version where it does not. Both its ports are tried, the workers' (TLS on
//! TCP) and the other regions' (QUIC). Then the run must end as it does without them.
//!
//! Nothing here is a matter of time: whatever should happen is waited for.

mod common;
#[path = "refusals/scene.rs"]
mod scene;

use std::net::UdpSocket;

use bytes::Bytes;
use common::{ONE_AT_A_TIME, ended, finished, logs, statuses, until};
use datacenter::WorkerId;
use datacenter::identity::handshake::{self, HandshakeError};
use datacenter::identity::{Date, PeerName, Role};
use datacenter::lan::{Security, Terms as LanTerms};
use datacenter::refusals::Refused;
use datacenter::wire::{ToServer, ToWorker, WorkerHello};
use gaia::program::local_cluster::LocalCluster;
use gaia::service::Part;
use gaia::service::certificates::{Authority, Directory, Validity};
use scene::{
    Expected, LIMIT, LOOPBACK, Scene, Seen, counted, endpoint, eventually, free_tcp, free_udp, log_of,
    logs_line, name, now,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use wan::driver::frames;
use wan::driver::link::close_code;
use wan::node::Greeting;
use wan::transport::{Carries, DialError, Path as WanPath};
use wan::wire::{Channel, Hello, encode_hello};

/// What happens to real processes that come with the settings of another job, or with certificates
/// of their own.
async fn processes_are_refused(scene: &Scene) {
    // Another job: the digest of each side is said on both.
    let other_job = ("job.clocks", "77".to_owned());
    let ours = scene.setup.digest[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let worker = scene.intruder("virginia", Part::Worker(0), std::slice::from_ref(&other_job));
    let why = ["your job digest is ", &format!(", ours is {ours}")];
    logs_line(&worker, &[&["refused by the other side: "][..], &why].concat()).await;
    logs_line(scene.server(), &[&["refused, and told why: "][..], &why].concat()).await;
    eventually("both count the job", async || {
        counted(scene.server(), "lan", "job", "us").await > 0
            && counted(&worker, "lan", "job", "them").await > 0
    })
    .await;
    drop(worker);

    let own = [
        other_job,
        ("servers.addresses", format!("[\"{}\"]", free_tcp())),
        ("wan.listen", format!("[\"{}\"]", free_udp())),
        ("peers.virginia.servers", format!("[\"{}\"]", scene.wan)),
    ];
    let server = scene.intruder("ireland", Part::Server(0), &own);
    // Between regions both say what differs, and each refuses the other.
    let why = ["we refused it: its job is another one: job.clocks is ", "100 in virginia", "77 in ireland"];
    logs_line(&server, &[&["peer=\"virginia\""][..], &why].concat()).await;
    logs_line(scene.server(), &[&["certificate=ireland.server.gaia"][..], &why].concat()).await;
    eventually("both count the job", async || {
        counted(scene.server(), "wan", "job", "us").await > 0
            && counted(&server, "wan", "job", "us").await > 0
    })
    .await;
    drop(server);

    // A whole authority of its own: the intruder is the first to refuse, and the server hears of
    // it.
    let elsewhere = Directory::new(scene.directory.path().join("elsewhere"));
    let validity = Validity { now: now(), days: 9 };
    elsewhere.init(validity, false).unwrap();
    elsewhere.issue(&[name("virginia-worker-1")], validity, false).unwrap();
    let directory = ("tls.directory", elsewhere.path().display().to_string());
    let worker = scene.intruder("virginia", Part::Worker(1), &[directory]);
    let why = ["certificate virginia.server.gaia (virginia server 0, serial ", "is not a trusted authority"];
    logs_line(&worker, &[&["we refused their "][..], &why].concat()).await;
    logs_line(scene.server(), &[&["they refused our "][..], &why].concat()).await;
    eventually("both count the authority", async || {
        counted(scene.server(), "lan", "unknown_authority", "them").await > 0
            && counted(&worker, "lan", "unknown_authority", "us").await > 0
    })
    .await;
    drop(worker);

    // A process does not even start with a certificate that peers would refuse.
    let past = Validity { now: Date(now().0 - 100 * Date::DAY_SECONDS), days: 90 };
    scene.certs().issue(&[name("virginia-worker-8")], past, false).unwrap();
    let files = |process: &str| {
        [("tls.certificate", format!("{process}.pem")), ("tls.key", format!("{process}.key"))]
    };
    for (process, words) in [
        ("virginia-worker-8", ["virginia-worker-8.pem", "expired on"]),
        ("ireland-worker-0", ["ireland.worker.gaia", "virginia.worker.gaia"]),
        ("virginia-server-0", ["virginia.server.gaia", "virginia.worker.gaia"]),
    ] {
        let mut worker = scene.intruder("virginia", Part::Worker(1), &files(process));
        assert_eq!(ended(&mut worker).await, Some(2), "{process}: {}", log_of(&worker));
        assert!(words.iter().all(|word| log_of(&worker).contains(word)), "{process}: {}", log_of(&worker));
    }
}

/// Certificates that are of the wrong authority, too old or revoked, on both ports.
async fn certificates_are_judged(scene: &mut Scene) {
    let validity = Validity { now: now(), days: 9 };
    let other = Authority::create(validity).unwrap().0;
    let past = Validity { now: Date(now().0 - 100 * Date::DAY_SECONDS), days: 90 };
    let ours = scene.authority();
    // Issued and revoked by the job's authority, and shown all the same.
    let revoked = [name("virginia-worker-9"), name("ireland-server-9")];
    scene.certs().issue(&revoked, validity, false).unwrap();
    scene.certs().revoke(&revoked.each_ref().map(ToString::to_string), now()).unwrap();
    scene.reload().await;
    let revoked = revoked.map(|process| {
        let read = |path: std::path::PathBuf| std::fs::read(path).unwrap();
        scene.proven(&read(scene.certs().certificate(&process)), &read(scene.certs().key(&process)))
    });
    let expiry = format!("it expired on {}, ", Date(now().0 - 10 * Date::DAY_SECONDS));
    let [revoked_worker, revoked_server] = &revoked;
    for (cause, words, worker, server) in [
        (
            "unknown_authority",
            ["its issuer 'Gaia authority ", "is not a trusted authority"],
            &scene.identity(&other, "virginia-worker-0", validity),
            &scene.identity(&other, "ireland-server-0", validity),
        ),
        (
            "expired",
            [expiry.as_str(), " days ago"],
            &scene.identity(&ours, "virginia-worker-0", past),
            &scene.identity(&ours, "ireland-server-0", past),
        ),
        ("revoked", [": it is ", "revoked"], revoked_worker, revoked_server),
    ] {
        for (scope, intruder) in [("lan", worker), ("wan", server)] {
            let certificate = intruder.certificate().to_string();
            let expected = Expected {
                scope,
                cause,
                by_server: true,
                counted: Some(cause),
                both: &[&[certificate.as_str()][..], &words].concat(),
                said: &["they refused our certificate"],
                logged: &["we refused their certificate"],
            };
            match scope {
                "lan" => {
                    let trying = scene.as_worker(Security::Mutual(intruder.clone()), scene.lan_terms(), 0);
                    scene.refuses(expected, trying).await;
                }
                _ => {
                    let trying = scene.as_server(intruder, scene.wan_terms("ireland"), "virginia");
                    scene.refuses(expected, trying).await;
                }
            }
        }
    }
}

/// Good certificates in the wrong place: of another region, or of another role.
async fn names_and_roles_are_judged(scene: &Scene) {
    for (process, terms, cause, words) in [
        (
            "ireland-worker-0",
            scene.lan_terms(),
            "name",
            "your certificate is that of ireland.worker.gaia, this is virginia",
        ),
        (
            "virginia-server-7",
            scene.lan_terms(),
            "role",
            "your certificate virginia.server.gaia is for the role 'server', 'worker' is needed",
        ),
        (
            "virginia-worker-2",
            scene.lan_terms(),
            "name",
            "you say that you are worker 0, your certificate is that of worker 2",
        ),
    ] {
        let expected = Expected {
            scope: "lan",
            cause,
            by_server: true,
            counted: Some(cause),
            both: &[words],
            said: &["refused by the other side"],
            logged: &["refused, and told why"],
        };
        let security = Security::Mutual(scene.valid(process));
        scene.refuses(expected, scene.as_worker(security, terms, 0)).await;
    }
    for (process, datacenter, cause, words, certificate) in [
        (
            "tokyo-server-0",
            "tokyo",
            "unknown_datacenter",
            "datacenter 'tokyo' is not one of our peers (ireland, singapore)",
            "certificate=tokyo.server.gaia (tokyo server 0, serial ",
        ),
        (
            "virginia-server-1",
            "rome",
            "own_name",
            "it calls itself 'virginia', and so do we",
            "certificate=virginia.server.gaia (virginia server 1, serial ",
        ),
        (
            "ireland-server-0",
            "singapore",
            "name",
            "its hello says 'singapore', its certificate 'ireland'",
            "certificate=ireland.server.gaia (ireland server 0, serial ",
        ),
        (
            "ireland-server-1",
            "ireland",
            "name",
            "it says that it is server 0, its certificate is that of server 1",
            "certificate=ireland.server.gaia (ireland server 1, serial ",
        ),
        (
            "ireland-worker-0",
            "ireland",
            "role",
            "its certificate ireland.worker.gaia is for the role 'worker', 'server' is needed",
            "certificate=ireland.worker.gaia (ireland worker 0, serial ",
        ),
        (
            "virginia-worker-0",
            "rome",
            "role",
            "its certificate virginia.worker.gaia is for the role 'worker', 'server' is needed",
            "certificate=virginia.worker.gaia (virginia worker 0, serial ",
        ),
    ] {
        let expected = Expected {
            scope: "wan",
            cause,
            by_server: true,
            counted: Some(cause),
            both: &[words],
            said: &["the peer refused us"],
            logged: &["we refused it", certificate],
        };
        let identity = scene.valid(process);
        scene.refuses(expected, scene.as_server(&identity, scene.wan_terms(datacenter), "virginia")).await;
    }
    // The server is not whom the intruder looks for, so it is the intruder that refuses.
    let certificate = "certificate virginia.server.gaia (virginia server 0, serial ";
    for (scope, meant) in
        [("lan", "rome.server.gaia was to be reached"), ("wan", "rome.server.gaia was to be reached")]
    {
        let expected = Expected {
            scope,
            cause: "name",
            by_server: false,
            counted: Some("name"),
            both: &[certificate],
            said: &["we refused their", meant],
            // Over TCP the alert does not say who was meant.
            logged: &["they refused our", "was to be reached"],
        };
        let terms = LanTerms { datacenter: "rome".into(), ..scene.lan_terms() };
        match scope {
            "lan" => {
                let security = Security::Mutual(scene.valid("rome-worker-0"));
                scene.refuses(expected, scene.as_worker(security, terms, 0)).await;
            }
            _ => {
                let identity = scene.valid("ireland-server-0");
                scene.refuses(expected, scene.as_server(&identity, scene.wan_terms("ireland"), "rome")).await;
            }
        }
    }
}

/// Somebody with a worker's certificate serves where a server should be.
async fn a_worker_does_not_serve(scene: &Scene) {
    let fake = TcpListener::bind(LOOPBACK).await.unwrap();
    let address = fake.local_addr().unwrap();
    let worker =
        scene.intruder("virginia", Part::Worker(2), &[("servers.addresses", format!("[\"{address}\"]"))]);
    let identity = scene.valid("virginia-worker-0");
    let (stream, _) = timeout(LIMIT, fake.accept()).await.expect("it dials").unwrap();
    let refused = match timeout(LIMIT, handshake::accept(&identity, stream)).await.expect("it answers") {
        Err(HandshakeError::Refused(refused)) => refused.to_string(),
        other => panic!("{:?}", other.map(|(_, name)| name)),
    };
    let certificate = identity.certificate().to_string();
    assert!(refused.contains(&format!("they refused our certificate {certificate}")), "{refused}");
    let reason = "virginia.server.gaia was to be reached";
    logs_line(&worker, &[&format!("we refused their certificate {certificate}"), reason]).await;
    eventually("the role is counted", async || counted(&worker, "lan", "role", "us").await > 0).await;
    drop(worker);

    let identity = scene.valid("virginia-worker-0");
    let fake = endpoint(&identity);
    // Singapore would let it in as what it is, and end its link with the real one: so it finds
    // nobody there.
    let own = [
        ("servers.addresses", format!("[\"{}\"]", free_tcp())),
        ("wan.listen", format!("[\"{}\"]", free_udp())),
        ("peers.virginia.servers", format!("[\"{}\"]", fake.local_address().unwrap())),
        ("peers.singapore.servers", format!("[\"{}\"]", free_udp())),
    ];
    let server = scene.intruder("ireland", Part::Server(0), &own);
    let certificate = identity.certificate().to_string();
    let incoming = timeout(LIMIT, fake.incoming()).await.expect("it dials").unwrap();
    match timeout(LIMIT, fake.admit(incoming, &WanPath::default().accepted(Carries::Updates)))
        .await
        .expect("it answers")
    {
        Err(DialError::Refused(refused)) => {
            let refused = refused.to_string();
            assert!(
                refused.contains(&format!("they refused our certificate {certificate}: {reason}")),
                "{refused}"
            );
        }
        other => panic!("{other:?}"),
    }
    logs_line(&server, &[&format!("we refused their certificate {certificate}: {reason}")]).await;
    eventually("the role is counted", async || counted(&server, "wan", "role", "us").await > 0).await;
}

/// Plaintext, garbage, and other versions of the protocol.
async fn other_languages_are_refused(scene: &Scene) {
    let expected = Expected {
        scope: "lan",
        cause: "plaintext",
        by_server: true,
        counted: Some("plaintext"),
        both: &[],
        said: &["they refused us: they speak TLS, and we do not"],
        logged: &["we refused them: TLS is needed, and something else was sent"],
    };
    scene.refuses(expected, scene.as_worker(Security::Plaintext, scene.lan_terms(), 0)).await;

    let garbage = UdpSocket::bind(LOOPBACK).unwrap();
    for length in 0..1200 {
        // With and without the bits that make it look like a packet of QUIC.
        let datagram: Vec<u8> =
            (0..length).map(|at| (at * 31 + length) as u8 | [0, 0xc0][length % 2]).collect();
        garbage.send_to(&datagram, scene.wan).unwrap();
    }

    let version = datacenter::wire::VERSION + 1;
    let words = format!("you speak protocol version {version}, we speak {}", version - 1);
    let expected = Expected {
        scope: "lan",
        cause: "version",
        by_server: true,
        counted: None,
        both: &[&words],
        said: &["version"],
        logged: &["refused, and told why"],
    };
    scene.refuses(expected, worker_of_version(scene, version)).await;

    let version = wan::wire::VERSION + 1;
    let words = format!("it speaks protocol version {version}, we speak {}", version - 1);
    let expected = Expected {
        scope: "wan",
        cause: "version",
        by_server: true,
        counted: Some("version"),
        both: &[&words],
        said: &[],
        logged: &["we refused it", "certificate=ireland.server.gaia (ireland server 0, serial "],
    };
    scene.refuses(expected, server_of_version(scene, version)).await;
}

async fn worker_of_version(scene: &Scene, version: u32) -> Seen {
    let talking = async {
        let stream = TcpStream::connect(scene.lan).await.unwrap();
        let server = PeerName::new("virginia", Role::Server).unwrap();
        let worker = scene.valid("virginia-worker-0");
        let mut stream = handshake::connect(&worker, &server, stream).await.unwrap();
        let LanTerms { datacenter, job_digest } = scene.lan_terms();
        let hello = WorkerHello { version, datacenter, job_digest, worker: WorkerId(0), incarnation: 0 };
        let frame = ToServer::Hello(hello).encode();
        stream.write_all(&(frame.len() as u32).to_be_bytes()).await.unwrap();
        stream.write_all(&frame.to_bytes()).await.unwrap();
        let length = stream.read_u32().await.unwrap();
        let mut answer = vec![0; length as usize];
        stream.read_exact(&mut answer).await.unwrap();
        ToWorker::decode(Bytes::from(answer), &scene.setup.shapes).unwrap()
    };
    match timeout(LIMIT, talking).await.expect("it answers") {
        ToWorker::Refused { cause, reason } => {
            Seen { said: format!("{cause}: {reason}"), counted: Vec::new() }
        }
        other => panic!("{other:?}"),
    }
}

async fn server_of_version(scene: &Scene, version: u32) -> Seen {
    let endpoint = endpoint(&scene.valid("ireland-server-0"));
    let talking = async {
        let server = PeerName::new("virginia", Role::Server).unwrap();
        let settings = WanPath::default().control();
        let connection = endpoint.connect(scene.wan, &server, &settings).await.unwrap();
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        let hello = scene.wan_terms("ireland").hello(Channel::Control, 7, Greeting::default());
        frames::write(&mut send, [encode_hello(&Hello { version, ..hello })]).await.unwrap();
        connection.closed().await
    };
    let ended = timeout(LIMIT, talking).await.expect("it is closed");
    let (cause, said) = close_code::refusal(&ended).unwrap_or_else(|| panic!("{ended}"));
    Seen { said, counted: vec![Refused { cause, by_us: false }] }
}

/// How often each link between the real processes has come up.
async fn connects(cluster: &mut LocalCluster) -> Vec<u64> {
    let fetched = until(cluster, |fetched| fetched.iter().all(|f| f.status.is_ok())).await;
    statuses(&fetched).flat_map(|s| &s.servers).flat_map(|s| &s.links).map(|link| link.connects).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn intruders_are_refused_and_disturb_nobody() {
    let _alone = ONE_AT_A_TIME.lock().await;
    const CLOCKS: &str = "100";
    let mut scene = Scene::start(CLOCKS).await;
    let before = connects(&mut scene.cluster).await;

    processes_are_refused(&scene).await;
    certificates_are_judged(&mut scene).await;
    names_and_roles_are_judged(&scene).await;
    a_worker_does_not_serve(&scene).await;
    other_languages_are_refused(&scene).await;

    finished(&mut scene.cluster).await;
    assert_eq!(connects(&mut scene.cluster).await, before, "no link has broken:\n{}", logs(&scene.cluster));
    scene.ends_well(CLOCKS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_revoked_meanwhile_is_shut_out_until_renewed() {
    let _alone = ONE_AT_A_TIME.lock().await;
    const CLOCKS: &str = "60";
    let mut scene = Scene::start(CLOCKS).await;
    let names = ["virginia-worker-1", "ireland-server-0"];
    scene.certs().revoke(&names.map(str::to_owned), now()).unwrap();
    scene.reload().await;

    let worker = scene.process("virginia", Part::Worker(1));
    let server = scene.process("ireland", Part::Server(0));
    let workers: Vec<_> = (0..3).map(|index| scene.process("ireland", Part::Worker(index))).collect();
    let others = [scene.server(), scene.process("singapore", Part::Server(0))];
    // "Has been" says that it was let in before: later tries hear "it is revoked".
    let of_worker = "your certificate virginia.worker.gaia (virginia worker 1, serial ";
    logs_line(scene.server(), &["refused, and told why: ", of_worker, "has been revoked"]).await;
    logs_line(worker, &["refused by the other side: ", of_worker, "has been revoked"]).await;
    let of_server = "ertificate ireland.server.gaia (ireland server 0, serial ";
    for other in others {
        logs_line(
            other,
            &["link ended", "peer=\"ireland\"", "we refused it: ", of_server, "has been revoked"],
        )
        .await;
    }
    for region in ["virginia", "singapore"] {
        logs_line(
            server,
            &[&format!("peer=\"{region}\""), "the peer refused us: ", of_server, "has been revoked"],
        )
        .await;
    }
    for worker in &workers {
        logs_line(worker, &["refused, and told why: ", of_server, "has been revoked"]).await;
    }
    logs_line(server, &["refused by the other side: ", of_server, "has been revoked"]).await;
    eventually("all of it is counted", async || {
        let mut all = vec![
            counted(scene.server(), "lan", "revoked", "us").await,
            counted(worker, "lan", "revoked", "them").await,
            counted(server, "lan", "revoked", "them").await,
            counted(server, "wan", "revoked", "them").await / 2,
        ];
        for worker in &workers {
            all.push(counted(worker, "lan", "revoked", "us").await);
        }
        for other in others {
            all.push(counted(other, "wan", "revoked", "us").await);
        }
        all.into_iter().all(|count| count > 0)
    })
    .await;

    let validity = Validity { now: now(), days: 9 };
    scene.certs().issue(&names.map(name), validity, true).unwrap();
    scene.reload().await;
    scene.ends_well(CLOCKS).await;
}
