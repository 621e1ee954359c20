//! A cluster that intruders come to: starts it, lets them try, and judges what both sides make of
//! it.

#![allow(unreachable_pub, reason = "the tests are in another file of the same binary")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener, UdpSocket};

use datacenter::identity::{Credentials, Date, Dates, Identity, PeerName, Role};
use datacenter::lan::worker::{LinkState, Plan as LanPlan, ServerLink};
use datacenter::lan::{Security, Terms as LanTerms};
use datacenter::refusals::{Refusals, Refused};
use datacenter::{DatacenterId, WorkerId};
use gaia::job::config;
use gaia::learning::models;
use gaia::program::local_cluster::{LocalCluster, Plan, Process};
use gaia::service::certificates::{Authority, Directory, ProcessName, Validity};
use gaia::service::status::LinkStatus;
use gaia::service::{Part, Setup};
use gaia::settings::Overrides;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep, timeout};
use wan::driver::address::Address;
use wan::driver::hello::Terms as WanTerms;
use wan::driver::link::LinkTraffic;
use wan::driver::link_registry::LinkRegistry;
use wan::driver::peers::{Peer, Peers, Turn};
use wan::driver::queue::event_queue;
use wan::driver::server::Event;
use wan::message::ServerId;
use wan::node::Greeting;
use wan::transport::{Carries, Endpoint, EndpointConfig, Entropy, Path as WanPath};

use crate::common::{
    assert_equal, assert_learned, finished, outputs, plan, simulated, statuses, stop_all, until,
};

/// How long anything may take that happens at once on a machine that has nothing else to do.
pub const LIMIT: Duration = Duration::from_secs(60);

pub const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The regions of the shipped job, in its order.
const REGIONS: [&str; 3] = ["virginia", "ireland", "singapore"];

/// A cluster, and the server that intruders come to.
pub struct Scene {
    pub directory: tempfile::TempDir,
    plan: Plan,
    pub cluster: LocalCluster,
    /// What a process of virginia starts from.
    pub setup: Setup,
    pub lan: SocketAddr,
    pub wan: SocketAddr,
}

/// The only address in a list of a setting.
fn address(process: &Process, key: &str) -> SocketAddr {
    let (_, list) = process.set.iter().find(|(known, _)| known == key).expect(key);
    list.trim_matches(['[', ']', '"']).parse().expect("one address")
}

pub fn now() -> Date {
    Date::from(Dates::System.now())
}

pub fn name(text: &str) -> ProcessName {
    text.parse().expect("a process's name")
}

/// One try of somebody who should be refused.
pub struct Seen {
    /// What the intruder says of it.
    pub said: String,
    /// What it counts.
    pub counted: Vec<Refused>,
}

/// How a try should be judged.
pub struct Expected<'a> {
    /// `lan` or `wan`.
    pub scope: &'static str,
    pub cause: &'static str,
    /// Whether it is the server that refuses.
    pub by_server: bool,
    /// What the intruder counts, if it is somebody who counts: the alert of TLS over TCP tells less
    /// than the server knows.
    pub counted: Option<&'static str>,
    /// What both sides say; then only the intruder, then only the server.
    pub both: &'a [&'a str],
    pub said: &'a [&'a str],
    pub logged: &'a [&'a str],
}

impl Scene {
    /// Starts a job, and waits until everybody is linked and trains.
    pub async fn start(clocks: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let set = [("at_end", "stay"), ("job.clocks", clocks)];
        let plan = Plan { servers: 1, ..plan(directory.path(), &set) };
        let cluster = LocalCluster::start(&plan).unwrap();
        let server = &cluster.processes[0];
        assert_eq!((server.region, server.part), ("virginia", Part::Server(0)));
        let (lan, wan) = (address(server, "servers.addresses"), address(server, "wan.listen"));
        let mut overrides = Overrides::default();
        let data = directory.path().join("data").display().to_string();
        overrides.flag("--data-path", "job.data.path", &data);
        for (key, value) in &server.set {
            overrides.flag(key, key, value);
        }
        let region = config::load_region(
            &directory.path().join("regions/virginia.toml"),
            &overrides,
            &models::kinds(),
        )
        .unwrap();
        let setup = Setup::new(region, Part::Server(0)).unwrap();
        let mut scene = Self { directory, plan, cluster, setup, lan, wan };
        until(&mut scene.cluster, |fetched| {
            let servers = || statuses(fetched).flat_map(|s| &s.servers);
            let is_served = servers().count() > 0;
            let trains = is_served && servers().flat_map(|s| &s.shards).all(|shard| shard.clock >= 2);
            let is_linked = |links: &[LinkStatus]| links.len() == 2 && links.iter().all(|link| link.up);
            fetched.iter().all(|f| f.status.is_ok()) && trains && servers().all(|s| is_linked(&s.links))
        })
        .await;
        scene
    }

    pub fn certs(&self) -> Directory {
        Directory::new(self.directory.path().join("certs"))
    }

    pub fn server(&self) -> &Process {
        &self.cluster.processes[0]
    }

    pub fn process(&self, region: &str, part: Part) -> &Process {
        let mut all = self.cluster.processes.iter();
        all.find(|process| process.region == region && process.part == part).expect("it is in the plan")
    }

    /// The authority of the job.
    pub fn authority(&self) -> Authority {
        let read = |file: &str| std::fs::read_to_string(self.certs().path().join(file)).unwrap();
        Authority::load(&read("ca.pem"), &read("ca.key")).unwrap()
    }

    /// Somebody who trusts the job's authority, with a certificate of `issuer`.
    pub fn identity(&self, issuer: &Authority, process: &str, validity: Validity) -> Identity {
        let issued = issuer.issue(&name(process), validity).unwrap();
        self.proven(issued.certificate.as_bytes(), issued.key.as_bytes())
    }

    pub fn valid(&self, process: &str) -> Identity {
        self.identity(&self.authority(), process, Validity { now: now(), days: 9 })
    }

    pub fn proven(&self, certificate: &[u8], key: &[u8]) -> Identity {
        let credentials = Credentials {
            roots: vec![CertificateDer::from_pem_file(self.certs().ca()).unwrap()],
            chain: vec![CertificateDer::from_pem_slice(certificate).unwrap()],
            key: PrivateKeyDer::from_pem_slice(key).unwrap(),
            revocations: Vec::new(),
        };
        Identity::new(credentials, Dates::System).unwrap()
    }

    pub fn lan_terms(&self) -> LanTerms {
        LanTerms { datacenter: "virginia".into(), job_digest: self.setup.digest.to_vec() }
    }

    /// Terms of a server of `datacenter`, which would link with any other region.
    pub fn wan_terms(&self, datacenter: &str) -> WanTerms {
        let others = (0..).map(DatacenterId).zip(REGIONS).filter(|(_, region)| *region != datacenter);
        WanTerms {
            datacenter: datacenter.into(),
            server: 0,
            job_digest: self.setup.digest.to_vec(),
            shards: u16::MAX,
            settings: self.setup.job_settings(),
            peers: others.map(|(id, region)| (region.to_owned(), id)).collect(),
        }
    }

    /// The first try of a worker with this `security` at the server.
    pub async fn as_worker(&self, security: Security, terms: LanTerms, worker: u32) -> Seen {
        let refusals = Refusals::default();
        let plan = LanPlan {
            terms,
            worker: WorkerId(worker),
            incarnation: 0,
            server: 0,
            address: self.lan.to_string(),
            security,
            shapes: self.setup.shapes.clone(),
            refusals: refusals.clone(),
        };
        let (_requests, queue) = mpsc::channel(1);
        let (replies, _answers) = mpsc::channel(1);
        let (line, handle) = ServerLink::new(plan, queue, replies);
        let running = tokio::spawn(line.run());
        let mut state = handle.state.clone();
        let is_tried = |state: &LinkState| match state {
            LinkState::Waiting(why) => why != "not tried yet",
            LinkState::Connected { .. }
            | LinkState::Departed(_)
            | LinkState::Refused(_)
            | LinkState::Lost => {
                panic!("it was let in")
            }
        };
        let state =
            timeout(LIMIT, state.wait_for(is_tried)).await.expect("it says something").unwrap().clone();
        running.abort();
        let LinkState::Waiting(said) = state else { unreachable!("waited for") };
        Seen { said, counted: refusals.all().into_keys().collect() }
    }

    /// The first try of a server with this `identity` at the server, which it takes for one of
    /// `target`.
    pub async fn as_server(&self, identity: &Identity, terms: WanTerms, target: &str) -> Seen {
        let endpoint = endpoint(identity);
        let (events, mut queue) = event_queue();
        tokio::spawn(async move {
            while let Some(event) = queue.recv().await {
                match event {
                    Event::Greet { answer, .. } => _ = answer.send(Greeting::default()),
                    Event::Up { .. } => panic!("it was let in"),
                    _ => {}
                }
            }
        });
        let id = ServerId { datacenter: DatacenterId(0), index: 0 };
        let peer = Peer {
            id,
            name: PeerName::new(target, Role::Server).unwrap(),
            addresses: vec![Address::Socket(self.wan)],
            path: WanPath::default(),
        };
        let (shapes, board) = (wan::wire::Shapes::new(Vec::new()), LinkRegistry::default());
        let peers = Peers::new(endpoint, terms, shapes, events, LinkTraffic::default(), board.clone());
        let dialling = tokio::spawn(peers.dial(peer, Turn::First, ChaCha8Rng::seed_from_u64(1)));
        let started = Instant::now();
        let said = loop {
            if let Some(problem) = board.links().get(&id).and_then(|note| note.problem.clone()) {
                break problem;
            }
            assert!(started.elapsed() < LIMIT, "it says nothing");
            sleep(Duration::from_millis(5)).await;
        };
        dialling.abort();
        Seen { said, counted: board.refusals().all().into_keys().collect() }
    }

    /// Starts the program as `part` of `region`, with these settings over those that its process in
    /// the cluster has.
    pub fn intruder(&self, region: &'static str, part: Part, set: &[(&str, String)]) -> Process {
        let own = self.process(region, part);
        let mut all = own.set.clone();
        let admin = free_tcp();
        all.push(("admin.listen".to_owned(), admin.to_string()));
        all.extend(set.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        let log = self.directory.path().join(format!("intruder-{}.log", admin.port()));
        Process::start(&self.plan, region, part, admin, all, log).unwrap()
    }

    /// Has all processes read their certificates again, and waits until they have.
    pub async fn reload(&mut self) {
        let logged: Vec<_> = self.cluster.processes.iter().map(|process| log_of(process).len()).collect();
        self.cluster.processes.iter_mut().for_each(Process::reload);
        for (process, logged) in self.cluster.processes.iter().zip(logged) {
            let what = format!("{} of {} reads its certificates", process.part.role(), process.region);
            eventually(&what, async || log_of(process)[logged..].contains("certificates were read again"))
                .await;
        }
    }

    /// Lets somebody try, and waits until the server has logged and counted it.
    pub async fn refuses(&self, expected: Expected<'_>, trying: impl Future<Output = Seen>) {
        let Expected { scope, cause, by_server, counted: theirs, both, said, logged } = expected;
        let by = if by_server { "us" } else { "them" };
        let before = counted(self.server(), scope, cause, by).await;
        let logged_before = log_of(self.server()).len();
        let seen = trying.await;
        let what = format!("{scope} {cause}");
        for part in both.iter().chain(said) {
            assert!(seen.said.contains(part), "{what}: the intruder says {:?}, without {part:?}", seen.said);
        }
        if let Some(cause) = theirs {
            let refused = Refused { cause, by_us: !by_server };
            assert!(seen.counted.contains(&refused), "{what}: the intruder counts {:?}", seen.counted);
        }
        eventually(&format!("{what} by {by} is counted"), async || {
            counted(self.server(), scope, cause, by).await > before
        })
        .await;
        let log = log_of(self.server())[logged_before..].to_owned();
        let lines = || log.lines().filter(|line| both.iter().chain(logged).all(|part| line.contains(part)));
        assert!(
            lines().next().is_some(),
            "{what}: no line of the server's log has {both:?} and {logged:?}:\n{log}"
        );
    }

    /// Ends the run, and judges it.
    pub async fn ends_well(mut self, clocks: &str) {
        let fetched = finished(&mut self.cluster).await;
        let simulated = simulated(self.directory.path(), 1, &[("job.clocks", clocks)]);
        assert_learned(&fetched, &simulated);
        stop_all(self.cluster).await;
        assert_equal(&outputs(self.directory.path()));
    }
}

pub fn endpoint(identity: &Identity) -> Endpoint {
    let config = EndpointConfig {
        identity: identity.clone(),
        entropy: Entropy::System,
        accept: WanPath::default().accepted(Carries::Updates),
    };
    Endpoint::over_udp(config, UdpSocket::bind(LOOPBACK).unwrap()).unwrap()
}

pub fn free_tcp() -> SocketAddr {
    StdListener::bind(LOOPBACK).unwrap().local_addr().unwrap()
}

pub fn free_udp() -> SocketAddr {
    UdpSocket::bind(LOOPBACK).unwrap().local_addr().unwrap()
}

pub fn log_of(process: &Process) -> String {
    std::fs::read_to_string(&process.log).unwrap_or_default()
}

/// Asks again and again.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a process logs a line with all of these.
pub async fn logs_line(process: &Process, parts: &[&str]) {
    let what = format!("{} of {} logs {parts:?}", process.part.role(), process.region);
    let started = Instant::now();
    while !log_of(process).lines().any(|line| parts.iter().all(|part| line.contains(part))) {
        assert!(started.elapsed() < LIMIT, "{what}: not within {LIMIT:?}:\n{}", log_of(process));
        sleep(Duration::from_millis(20)).await;
    }
}

/// How often `process` has counted such a refusal, as its metrics say.
pub async fn counted(process: &Process, scope: &str, cause: &str, by: &str) -> u64 {
    let asked = async {
        let mut stream = TcpStream::connect(process.admin).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, std::io::Error>(text)
    };
    let text = timeout(LIMIT, asked).await.expect("it answers").expect("it answers");
    let labels = [format!("scope=\"{scope}\""), format!("cause=\"{cause}\""), format!("by=\"{by}\"")];
    let is_it =
        |line: &&str| line.starts_with("gaia_refusals_total{") && labels.iter().all(|l| line.contains(l));
    let line = text.lines().find(is_it).unwrap_or_else(|| panic!("no series for {labels:?}:\n{text}"));
    line.rsplit(' ').next().expect("a value").parse::<f64>().expect("a number") as u64
}
