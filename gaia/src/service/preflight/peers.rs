//! Asks the other regions, and answers them.
//!
//! Kind: driver.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use datacenter::DatacenterId;
use datacenter::identity::{Identity, PeerName, Role};
use futures_util::future::join_all;
use rand::RngExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use wan::driver::hello::Terms;
use wan::driver::job_settings::JobSettings;
use wan::driver::link_registry::LinkRegistry;
use wan::driver::peers::Peer;
use wan::driver::probe::{Answers, MOST_BYTES, Probe, ProbeError, probe};
use wan::message::ServerId;
use wan::policy::Lead;
use wan::transport::{self, Carries, Endpoint, EndpointConfig, Entropy};
use wan::wire::ProbeRequest;

use super::path::Path;
use super::ports::Open;
use super::{Finding, Known};
use crate::job::region::{PeerRegion, Region};
use crate::service::Part;

/// Between two tries to find somebody.
const AGAIN: Duration = Duration::from_millis(500);
/// For how long we can still be found, once we have found everybody that we waited for.
const LINGER: Duration = Duration::from_secs(5);

/// A region that looks at others and can be looked at, without a run.
pub struct PeerProbe {
    region: Region,
    part: Part,
    posts: Vec<Post>,
    paths: Vec<(Path, Peer)>,
    /// Answers others until it is dropped.
    #[expect(dead_code, reason = "its drop ends the tasks")]
    answering: JoinSet<()>,
}

/// One of our servers.
struct Post {
    server: u16,
    endpoint: Endpoint,
    terms: Terms,
}

impl PeerProbe {
    /// Opens what is needed to look from the servers with these `identities`.
    pub(super) fn open(
        region: Region,
        part: Part,
        known: Known,
        identities: Vec<(u16, Identity)>,
        mut open: Open,
    ) -> Self {
        let (mut posts, mut paths, mut answering) = (Vec::new(), Vec::new(), JoinSet::new());
        let Known { digest, clock_length } = known;
        for (server, identity) in identities {
            let own = open.sockets.remove(&server);
            let is_from_there = own.is_some();
            // Beside a run, and behind a NAT, any port does.
            let Some(socket) =
                own.or_else(|| any_port(region.wan_listen.as_ref().map(|all| all[usize::from(server)])))
            else {
                continue;
            };
            let entropy = Entropy::System;
            let config = EndpointConfig {
                identity,
                entropy,
                accept: transport::Path::default().accepted(Carries::Updates),
            };
            let Ok(endpoint) = Endpoint::over_udp(config, socket) else { continue };
            let terms = terms(&region, server, digest);
            let answers = Answers::new(endpoint.clone(), terms.clone(), LinkRegistry::default());
            for peer_region in &region.peers {
                for peer in peers(&region, peer_region) {
                    answers.know(&peer);
                    if shares_shards(&region, server, peer_region, peer.id.index) {
                        let listen = region.wan_listen.as_ref().map(|all| all[usize::from(server)]);
                        let path = Path {
                            peer: peer_region.name.clone(),
                            their_server: peer.id.index,
                            our_server: server,
                            listen,
                            is_from_there,
                            digest,
                            lead: lead(&region),
                            clock_length,
                        };
                        paths.push((path, peer));
                    }
                }
            }
            answering.spawn(answers.serve());
            posts.push(Post { server, endpoint, terms });
        }
        Self { region, part, posts, paths, answering }
    }

    /// Looks at all paths to others; waits `within` that time for those who do not answer at once.
    pub async fn look(&self, within: Duration) -> Vec<Finding> {
        let mut findings = Vec::new();
        if matches!(self.part, Part::Worker(_)) {
            // Workers talk to the servers of their own region alone.
            return findings;
        }
        for peer in self.region.peers.iter().filter(|peer| peer.servers.is_empty()) {
            let text = "it dials us: check it there; UDP to wan.listen must be open for it";
            findings.push(Finding::ok(&peer.name, text));
        }
        if self.posts.is_empty() && !self.region.peers.is_empty() {
            findings.push(Finding::failed(
                "peers",
                "not asked, as no server here has a certificate to show them",
            ));
        }
        let mut silent = self.wait_for_all(within).await;
        // One after the other, so that bursts do not share our own link.
        for (at, (path, peer)) in self.paths.iter().enumerate() {
            let request =
                ProbeRequest { bytes: MOST_BYTES, call_back: path.is_from_there || path.listen.is_some() };
            let found = match silent.remove(&at) {
                Some(error) => Err(error),
                None => self.ask(path, peer, request).await,
            };
            match found {
                Ok(probe) => findings.extend(path.findings(&probe)),
                Err(error) => findings.push(path.failed(&error)),
            }
        }
        if !within.is_zero() {
            sleep(LINGER).await;
        }
        findings
    }

    /// Waits until everybody answers, or time is over; yields who does not.
    async fn wait_for_all(&self, within: Duration) -> BTreeMap<usize, ProbeError> {
        let deadline = Instant::now() + within;
        let mut missing: Vec<usize> = (0..self.paths.len()).collect();
        loop {
            let asking = missing.iter().map(async |at| {
                let (path, peer) = &self.paths[*at];
                (*at, self.ask(path, peer, ProbeRequest::default()).await)
            });
            let found = join_all(asking).await.into_iter();
            let silent: BTreeMap<_, _> = found.filter_map(|(at, found)| Some((at, found.err()?))).collect();
            if silent.is_empty() || Instant::now() >= deadline {
                return silent;
            }
            missing = silent.into_keys().collect();
            sleep(AGAIN).await;
        }
    }

    /// Asks at each of the peer's addresses in turn; the first error is the most telling.
    async fn ask(&self, path: &Path, peer: &Peer, request: ProbeRequest) -> Result<Probe, ProbeError> {
        let post =
            self.posts.iter().find(|post| post.server == path.our_server).expect("paths begin at posts");
        let mut first = None;
        for address in &peer.addresses {
            let session = rand::rng().random();
            match probe(&post.endpoint, &post.terms, peer, address, session, request).await {
                Ok(found) => return Ok(found),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.expect("configuration wants an address"))
    }
}

/// A socket of the family of `like`, or of both.
fn any_port(like: Option<SocketAddr>) -> Option<UdpSocket> {
    let v4 = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    let both = || UdpSocket::bind(SocketAddr::from(([0u16; 8], 0)));
    let socket = if like.is_some_and(|like| like.is_ipv4()) { v4() } else { both().or_else(|_| v4()) };
    socket.ok()
}

fn datacenter(region: &Region, name: &str) -> DatacenterId {
    let place = region.members.iter().position(|member| member.name == name);
    DatacenterId(place.expect("configuration checks peers") as u16)
}

fn terms(region: &Region, server: u16, digest: Option<[u8; 32]>) -> Terms {
    let peer = |peer: &PeerRegion| (peer.name.clone(), datacenter(region, &peer.name));
    Terms {
        datacenter: region.name.clone(),
        server,
        job_digest: digest.map(Vec::from).unwrap_or_default(),
        shards: region.job.shards,
        settings: JobSettings::default(),
        peers: region.peers.iter().map(peer).collect(),
    }
}

fn peers(region: &Region, peer: &PeerRegion) -> Vec<Peer> {
    let path = transport::Path {
        rate_bytes_per_sec: peer.rate_bytes_per_sec,
        round_trip: peer.round_trip,
        congestion: region.congestion.into(),
        ..transport::Path::default()
    };
    let servers = (0..).zip(&peer.servers);
    let server = |(index, addresses): (u16, &Vec<_>)| Peer {
        id: ServerId { datacenter: datacenter(region, &peer.name), index },
        name: PeerName::new(&peer.name, Role::Server).expect("configuration checks region names"),
        addresses: addresses.clone(),
        path,
    };
    servers.map(server).collect()
}

/// Whether the two servers host some shard both, and so have a link.
fn shares_shards(region: &Region, ours: u16, peer: &PeerRegion, theirs: u16) -> bool {
    let count = peer.servers.len() as u16;
    (0..region.job.shards).any(|shard| shard % region.servers == ours && shard % count == theirs)
}

fn lead(region: &Region) -> Lead {
    region.strategy.policy(&region.job, &[]).map_or(Lead::Unlimited, |policy| policy.lead)
}
