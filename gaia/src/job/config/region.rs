//! Reads a region file: the processes of one region, where they are, and whom they talk to.

use std::net::SocketAddr;
use std::time::Duration;

use datacenter::lan::SILENCE;
use wan::driver::address::Address;

use super::agreement::{Agreement, agreement};
use super::job;
use super::kinds::writable_root;
use super::simulation::compute;
use crate::job::Job;
use crate::job::region::{
    AdminSettings, AtEnd, CheckpointSettings, CheckpointStart, Grace, LogFormat, Member, PeerRegion, Region,
    TlsSettings,
};
use crate::job::scenario::Congestion;
use crate::job::strategy::Strategy;
use crate::learning::application::ModelKinds;
use crate::settings::Section;
use crate::settings::kind::{
    Processes, alternatives, choice, delay, duration, file_template, interval, list, listen_address, name,
    not_empty, parsed, path, patience, rate, whole,
};
use crate::settings::suggest::nearest;

/// Reads the root table.
pub(super) fn region(s: &Section<'_>, kinds: &ModelKinds) -> Option<Region> {
    const AT_END: &[(&str, AtEnd)] = &[("exit", AtEnd::Exit), ("stay", AtEnd::Stay)];
    let called = s.required("datacenter", name());
    let (job, Agreement { seed, strategy, members }) = job_and_agreement(s, kinds);
    let own = called.as_ref().and_then(|called| own(s, called, members.as_deref()?));
    let at_end = s.or("at_end", AtEnd::default(), choice(AT_END));
    let drain = s.or("drain", Duration::from_secs(60), patience());
    let min_regions = s.section("regions", |s| {
        let most = members.as_ref().map_or(u32::MAX, |members| members.len() as u32);
        let kind = whole(1..=most).only(", at most all regions of the job", |_| true);
        Some(s.optional("min", kind))
    });
    let step_retries = s.section("workers", |s| Some(s.or("step_retries", 2, whole(0..=1000))));
    let grace = s.section("grace", |s| Some(grace(s, min_regions.flatten().is_some())));
    let servers = s.section("servers", |s| servers(s, job.as_ref()));
    let wan = s.section("wan", |s| wan(s, servers.as_ref().map(|servers| u32::from(servers.count))));
    let peers = peers(s, own, members.as_deref(), job.as_ref(), wan.as_ref());
    let tls = s.section("tls", |s| Some(tls(s)));
    let admin = s.section("admin", |s| {
        let servers = servers.as_ref().map(|servers| u32::from(servers.count));
        Some(admin(s, servers, own.map(|own| own.workers)))
    });
    let log = s.section("log", |s| {
        const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
        Some(s.or("format", LogFormat::default(), choice(FORMATS)))
    });
    let output = s.section("output", |s| Some(s.optional("directory", path())));
    let checkpoint = s.section_if_there("checkpoint", checkpoint);
    let compute = s.section_if_there("compute", compute);
    own?;
    let (servers, wan) = (servers?, wan?);
    Some(Region {
        name: called?,
        job: job?,
        seed: seed.unwrap_or(1),
        strategy: strategy.unwrap_or(Strategy::Asp),
        members: members?,
        servers: servers.count,
        server_addresses: servers.addresses,
        server_listen: servers.listen,
        wan_listen: wan.listen,
        egress_bytes_per_sec: wan.egress_bytes_per_sec,
        congestion: wan.congestion,
        peers: peers?,
        tls: tls?,
        admin: admin?,
        log: log?,
        at_end,
        step_retries: step_retries?,
        grace: grace?,
        min_regions: min_regions?.unwrap_or(1),
        drain,
        output: output?,
        checkpoint,
        compute,
    })
}

/// Reads the job, which is a table or the path of a file, and what stands beside it.
fn job_and_agreement(s: &Section<'_>, kinds: &ModelKinds) -> (Option<Job>, Agreement) {
    if !s.has(job::KEY) {
        // As an empty table it would lack everything that a job must have.
        s.required(job::KEY, path());
        return (None, Agreement::default());
    }
    let read = s.section(job::KEY, |s| {
        let job = job::job(s, None, kinds);
        let agreement = agreement(s);
        if agreement.members.as_ref().is_some_and(Vec::is_empty) {
            s.problem(
                "regions",
                "missing; allowed: a [[regions]] table for each region of the job".to_owned(),
            );
        }
        Some((job, agreement))
    });
    let (job, agreement) = read.unwrap_or_default();
    let members = agreement.members.filter(|members| !members.is_empty());
    (job, Agreement { members, ..agreement })
}

fn own<'a>(s: &Section<'_>, called: &str, members: &'a [Member]) -> Option<&'a Member> {
    let found = members.iter().find(|member| member.name == called);
    if found.is_none() {
        let message = format!("found {called:?}, which is no region of the job; {}", hint(called, members));
        s.problem("datacenter", message);
    }
    found
}

fn hint(name: &str, members: &[Member]) -> String {
    let names = || members.iter().map(|member| member.name.as_str());
    match nearest(name, names()) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None => format!("allowed: {}", names().collect::<Vec<_>>().join(", ")),
    }
}

/// Reads for how long others are waited for; `has_minimum` if it is said how many regions are to be
/// there at the start.
fn grace(s: &Section<'_>, has_minimum: bool) -> Grace {
    let default = Grace::default();
    const LONGEST: Duration = Duration::from_secs(3600);
    // Less would pass before anybody could notice that a worker is gone.
    let of_workers = duration()
        .only(", from 15 s (after which a silent connection counts as broken) to 1 h", |grace| {
            (SILENCE..=LONGEST).contains(grace)
        });
    let datacenter = s.or("datacenter", default.datacenter, patience());
    Grace {
        worker: s.or("worker", default.worker, of_workers),
        server: s.or("server", default.server, patience()),
        datacenter,
        // Who says how many suffice does not want to wait for all.
        start: s.optional("start", interval()).or(has_minimum.then_some(datacenter)),
    }
}

struct Servers {
    count: u16,
    addresses: Vec<Address>,
    listen: Option<Vec<SocketAddr>>,
}

fn servers(s: &Section<'_>, job: Option<&Job>) -> Option<Servers> {
    let most = job.map_or(u16::MAX, |job| job.shards);
    let kind = whole(1..=most).only(", at most one for each shard (job.shards)", |_| true);
    let count = if s.has("count") { s.optional("count", kind) } else { Some(1) };
    let servers = Processes { called: "servers", count: count.map(u32::from) };
    let addresses = s.required("addresses", servers.addresses());
    let listen = s.optional("listen", servers.listen());
    Some(Servers { count: count?, addresses: addresses?, listen })
}

struct Wan {
    listen: Option<Vec<SocketAddr>>,
    /// Whether peers can dial us, though it may have been said wrongly where.
    listens: bool,
    egress_bytes_per_sec: Option<u64>,
    congestion: Congestion,
}

fn wan(s: &Section<'_>, count: Option<u32>) -> Option<Wan> {
    Some(Wan {
        listen: s.optional("listen", Processes { called: "servers", count }.listen()),
        listens: s.has("listen"),
        egress_bytes_per_sec: s.optional("egress_limit", rate()),
        congestion: s.or(
            "congestion",
            Congestion::default(),
            parsed(Congestion::ALL.map(Congestion::name).into_iter()),
        ),
    })
}

/// Reads what is known of the other members, in their order.
fn peers(
    s: &Section<'_>,
    own: Option<&Member>,
    members: Option<&[Member]>,
    job: Option<&Job>,
    wan: Option<&Wan>,
) -> Option<Vec<PeerRegion>> {
    let most = job.map_or(usize::MAX, |job| usize::from(job.shards));
    let found = s.entries("peers", "<region>", |name, s| {
        if own.is_some_and(|own| own.name == name) {
            s.problem_of_all("is this region itself; allowed: the other regions of the job".to_owned());
        } else if let Some(members) =
            members.filter(|members| members.iter().all(|member| member.name != name))
        {
            s.problem_of_all(format!("is no region of the job; {}", hint(name, members)));
        }
        let servers = s.optional(
            "servers",
            not_empty(list(alternatives()))
                .only(", at most one for each shard (job.shards)", move |servers| servers.len() <= most),
        );
        if !s.has("servers") && wan.is_some_and(|wan| !wan.listens) {
            let message =
                "missing; allowed: where its servers are, as without wan.listen they cannot dial us";
            s.problem("servers", message.to_owned());
        }
        let rate_bytes_per_sec = s.optional("rate", rate());
        let round_trip = s.optional("round_trip", delay());
        let transfer_bytes_per_sec = s.optional("transfer_rate", rate());
        let servers = servers.unwrap_or_default();
        let name = name.to_owned();
        Some(PeerRegion { name, servers, rate_bytes_per_sec, round_trip, transfer_bytes_per_sec })
    });
    let mut found: Vec<_> = found.into_iter().collect::<Option<_>>()?;
    let (own, members) = (own?.name.as_str(), members?);
    let place = |name: &str| members.iter().position(|member| member.name == name);
    for member in members.iter().filter(|member| member.name != own) {
        if found.iter().all(|peer| peer.name != member.name) {
            let message = "missing; allowed: a table for every other region, an empty one if it dials us";
            s.problem(&format!("peers.{}", member.name), message.to_owned());
        }
    }
    found.sort_by_key(|peer| place(&peer.name));
    Some(found)
}

fn checkpoint(s: &Section<'_>) -> Option<CheckpointSettings> {
    const START: &[(&str, CheckpointStart)] =
        &[("newest", CheckpointStart::Newest), ("zero", CheckpointStart::Zero)];
    let location = s.required("location", writable_root());
    let every_clocks = s.optional("every_clocks", whole(1..=u32::MAX));
    let by_default = (!s.has("every_clocks")).then_some(CheckpointSettings::EVERY);
    let every = s.optional("every", interval()).or(by_default);
    let keep = s.or("keep", CheckpointSettings::KEEP, whole(1..=1000));
    let start = s.or("start", CheckpointStart::default(), choice(START));
    Some(CheckpointSettings { location: location?, every_clocks, every, keep, start })
}

fn tls(s: &Section<'_>) -> TlsSettings {
    const LAN: &[(&str, bool)] = &[("mutual", false), ("plaintext", true)];
    TlsSettings {
        directory: s.or("directory", s.beside_the_file("certs"), path()),
        certificate: s.or("certificate", "{datacenter}-{role}-{index}.pem".to_owned(), file_template()),
        key: s.or("key", "{datacenter}-{role}-{index}.key".to_owned(), file_template()),
        plaintext_lan: s.or("lan", false, choice(LAN)),
    }
}

fn admin(s: &Section<'_>, servers: Option<u32>, workers: Option<u32>) -> AdminSettings {
    AdminSettings {
        servers: s.optional("servers", Processes { called: "servers", count: servers }.addresses()),
        workers: s.optional("workers", Processes { called: "workers", count: workers }.addresses()),
        listen: s.optional("listen", listen_address()),
    }
}
