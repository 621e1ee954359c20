//! One region of a job that runs for real: its processes, where they are, and whom they talk to.
//!
//! Like [`crate::job::scenario`], these are checked settings in code's units: `config` makes them
//! from TOML, and whoever holds one may rely on the stated ranges.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use datacenter::{TableSpec, printable};
use wan::driver::address::Address;
use wan::driver::job_settings::JobSettings;

use crate::job::scenario::{ComputeSettings, Congestion};
use crate::job::strategy::Strategy;
use crate::job::{Job, by_key};
use crate::learning::data::DataRoot;
use crate::learning::data::Vocabulary;

/// The content of one region file, and of the job file that it names.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// Its name, one of those in `members`.
    pub name: String,
    /// What is trained; the same in all regions.
    pub job: Job,
    /// The seed of every random choice; the same in all regions. Default 1.
    pub seed: u64,
    /// What crosses the WAN; the same in all regions, and one that mirrors. Default `asp`.
    pub strategy: Strategy,
    /// All regions of the job, in the order of the job file, with distinct names; the same in all
    /// of them.
    pub members: Vec<Member>,
    /// How many server processes host this region's shards: shard `i` is on server `i` mod this. At
    /// least one, at most as many as there are shards.
    pub servers: u16,
    /// Where the region's workers reach server `i`.
    pub server_addresses: Vec<Address>,
    /// Where server `i` listens for them, where that is not the same.
    pub server_listen: Option<Vec<SocketAddr>>,
    /// The UDP address of server `i`; none for a region that only dials.
    pub wan_listen: Option<Vec<SocketAddr>>,
    /// What each server may send over the WAN, in bytes a second.
    pub egress_bytes_per_sec: Option<u64>,
    /// The congestion controller of the WAN.
    pub congestion: Congestion,
    /// The other members, in the order of `members`.
    pub peers: Vec<PeerRegion>,
    /// Certificates.
    pub tls: TlsSettings,
    /// Where processes tell how they are.
    pub admin: AdminSettings,
    /// How processes log.
    pub log: LogFormat,
    /// What happens when the job is done.
    pub at_end: AtEnd,
    /// How long others wait for who is gone.
    pub grace: Grace,
    /// For how many regions, this one among them, the start of a job waits in any case, once
    /// `grace.start` is over. Default 1.
    pub min_regions: u32,
    /// How often a worker tries a step of the model again that fails, before it ends. Default 2.
    pub step_retries: u32,
    /// How long a process that is asked to stop may take to hand over what it has.
    pub drain: Duration,
    /// Where servers write the trained tables at the end, if anywhere.
    pub output: Option<PathBuf>,
    /// Where servers keep checkpoints, and how often, if they do.
    pub checkpoint: Option<CheckpointSettings>,
    /// A declared cost of computing, to rehearse a job of another size: a clock takes at least this
    /// long.
    pub compute: Option<ComputeSettings>,
}

/// A region of the job, as all regions know it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// How many workers train there; at least one.
    pub workers: u32,
}

/// What this region knows of another.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerRegion {
    /// Its name.
    pub name: String,
    /// For each of its servers, where it may be found, tried in turn; empty if it dials us.
    pub servers: Vec<Vec<Address>>,
    /// What the link to it carries, where that is known.
    pub rate_bytes_per_sec: Option<u64>,
    /// There and back, where that is known.
    pub round_trip: Option<Duration>,
    /// How much of the link each of its servers takes at most for getting back what it has lost;
    /// all of it where not set.
    pub transfer_bytes_per_sec: Option<u64>,
}

/// Where certificates are, and where they are needed.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsSettings {
    /// Holds `ca.pem`, `crl.pem` if there is one, and the files below.
    pub directory: PathBuf,
    /// The certificate of a process, in `directory`, with `{datacenter}`, `{role}` and `{index}` to
    /// be filled in. Default `{datacenter}-{role}-{index}.pem`.
    pub certificate: String,
    /// Its key, likewise. Default `{datacenter}-{role}-{index}.key`.
    pub key: String,
    /// Whether connections inside the region need none of that. The WAN always does.
    pub plaintext_lan: bool,
}

/// Where processes tell how they are, over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminSettings {
    /// Where server `i` can be asked; none for nowhere.
    pub servers: Option<Vec<Address>>,
    /// Where worker `i` can be asked; none for nowhere.
    pub workers: Option<Vec<Address>>,
    /// Where processes listen for that, where that is not the same.
    pub listen: Option<SocketAddr>,
}

/// For how long those are waited for of whom nothing is heard, before the others go on without
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace {
    /// A worker, by each server: counted from when the server last heard of it, and so at least
    /// [`SILENCE`](datacenter::lan::SILENCE), which is what it takes to notice that. Default 20 s.
    pub worker: Duration,
    /// A server of another region. Default 30 s.
    pub server: Duration,
    /// A whole other region. Default 60 s.
    pub datacenter: Duration,
    /// All other regions, at the start of a job; none for as long as it takes. Default none, and
    /// `datacenter` where [`Region::min_regions`] is set.
    pub start: Option<Duration>,
}

impl Default for Grace {
    fn default() -> Self {
        let [worker, server, datacenter] = [20, 30, 60].map(Duration::from_secs);
        Self { worker, server, datacenter, start: None }
    }
}

/// What a process does when the job is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtEnd {
    /// It exits.
    #[default]
    Exit,
    /// It goes on to answer until it is stopped, as an orchestrator wants that would start it
    /// again.
    Stay,
}

/// A process of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Process {
    /// A server, by its index.
    Server(u16),
    /// A worker, by its index.
    Worker(u32),
}

impl Region {
    /// How many workers train here.
    pub fn workers(&self) -> u32 {
        self.own().workers
    }

    /// This region's place among the members.
    pub fn place(&self) -> usize {
        self.members.iter().position(|member| member.name == self.name).expect("a region is a member")
    }

    fn own(&self) -> &Member {
        &self.members[self.place()]
    }

    /// Workers over all regions.
    pub fn all_workers(&self) -> u32 {
        self.members.iter().map(|member| member.workers).sum()
    }

    /// How many workers the members before this one have: by it, workers are numbered over all
    /// regions.
    pub fn first_worker(&self) -> u32 {
        self.members[..self.place()].iter().map(|member| member.workers).sum()
    }

    /// What [`digest`](Self::digest) is made of, by key, for a region whose digest differs.
    pub fn job_settings(&self, tables: &[TableSpec], vocabulary: Option<&Vocabulary>) -> JobSettings {
        let rest = [
            ("job.seed".to_owned(), self.seed.to_string()),
            ("job.strategy".to_owned(), self.strategy.name().to_owned()),
        ];
        let members = self.members.iter().enumerate();
        let members = members
            .map(|(at, m)| (format!("job.regions[{at}]"), format!("{} with {} workers", m.name, m.workers)));
        let tables = tables.iter().map(|t| {
            (
                format!("table {}", t.name),
                format!(
                    "{} x {}{}",
                    t.rows,
                    t.width,
                    kind(t).map(|kind| format!(", {kind}")).unwrap_or_default()
                ),
            )
        });
        let names = vocabulary.into_iter().flat_map(|vocabulary| self.names_by_key(vocabulary));
        let features = vocabulary.into_iter().flat_map(features_by_key);
        let all = by_key(&self.job).into_iter().chain(rest).chain(members).chain(tables).chain(names);
        all.chain(features).collect()
    }

    /// What the rows and columns of the model stand for, by the keys that declare it.
    fn names_by_key(&self, vocabulary: &Vocabulary) -> impl Iterator<Item = (String, String)> {
        let declared = &self.job.data.declared;
        let is_declared = declared.labels.is_some();
        vocabulary.summary().into_iter().map(move |(what, names)| match what {
            "labels" if is_declared => ("job.data.labels".to_owned(), format!("declared: {names}")),
            "labels" => ("job.data.labels".to_owned(), names),
            "features" => ("job.data.features".to_owned(), names),
            what => (format!("job.data.names ({what})"), names),
        })
    }

    /// SHA-256 of everything that regions must agree on before they exchange updates: the job with
    /// its members, the seed, the strategy, the tables that each makes of its data, and what their
    /// rows and columns stand for.
    pub fn digest(&self, tables: &[TableSpec], vocabulary: Option<&Vocabulary>) -> [u8; 32] {
        let tables: Vec<_> = tables.iter().map(|t| (&t.name, t.rows, t.width, kind(t))).collect();
        let names = vocabulary.map(Vocabulary::digest);
        let agreed = (&self.job, &self.members, self.seed, self.strategy.name(), tables, names);
        let agreed = serde_json::to_vec(&agreed).expect("settings are plain data");
        let digest = ring::digest::digest(&ring::digest::SHA256, &agreed);
        digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

/// By which rule what workers push to a table becomes changes, where it is not simply added; and
/// that it holds whole numbers, where it does.
fn kind(table: &TableSpec) -> Option<String> {
    let rule = (!table.rule.takes_changes()).then(|| format!("{:?}", table.rule).to_lowercase());
    rule.or_else(|| table.is_whole().then(|| "whole".to_owned()))
}

/// What each feature is called, so that regions can say which is the first that differs; of many
/// the first, since a frame of settings has room for so many bytes alone. That others differ shows
/// in the digest of all.
fn features_by_key(vocabulary: &Vocabulary) -> impl Iterator<Item = (String, String)> {
    const MOST_BYTES: usize = 24 << 10;
    let mut left = MOST_BYTES;
    let names = vocabulary.feature_names().unwrap_or_default().iter().enumerate();
    // Keys in the order of their texts.
    let lines = names
        .map(|(at, name)| (format!("job.data.features ({:04})", at + 1), printable::line(name).into_owned()));
    lines.take_while(move |(key, name)| {
        let bytes = key.len() + name.len() + " = \n".len();
        let has_room = bytes <= left;
        left = left.saturating_sub(bytes);
        has_room
    })
}

/// Where a region keeps its checkpoints, and how often it makes them.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointSettings {
    /// A directory, or a place in an object store.
    pub location: DataRoot,
    /// A checkpoint is made every this many clocks, at least one: the same clocks on all servers.
    pub every_clocks: Option<u32>,
    /// And when the last one is as old as this. Default five minutes, where neither is said.
    pub every: Option<Duration>,
    /// How many of each shard are kept; at least one. Default 2, since the newest may turn out to
    /// be damaged.
    pub keep: u32,
    /// What a server begins with.
    pub start: CheckpointStart,
}

impl CheckpointSettings {
    /// The default of `every`, where there is no `every_clocks` either.
    pub const EVERY: Duration = Duration::from_secs(300);
    /// The default of `keep`.
    pub const KEEP: u32 = 2;
}

/// What a server begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckpointStart {
    /// With the newest checkpoint that can be used. Where there are some and none can be used, it
    /// does not begin.
    #[default]
    Newest,
    /// At clock 0, whatever there is. The first checkpoint that is made then replaces those of
    /// later clocks.
    Zero,
}

/// What lines of a log look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object on each line.
    Json,
}

impl LogFormat {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Text, Self::Json];

    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}
