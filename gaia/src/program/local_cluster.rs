//! Three regions as real processes on this machine, joined through emulated links: what `gaia demo`
//! shows, and what tests measure.
//!
//! Every server and every worker is a process of its own, with its own certificate, on loopback
//! ports that were free; what crosses between regions goes through a [`Relay`] in this process,
//! which delays it as the WAN would. The settings are the shipped ones, `configs/regions` and
//! `configs/jobs`, with the addresses of this run over them.
//!
//! Kind: driver.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use datacenter::identity::{Date, Dates, PeerName, Role};
use emulation::link::LinkConfig;
use rand::RngExt;
use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;
use wan::relay::{Direction, Relay, RelayError, RelayLink, RelayRoute};

use crate::service::Part;
use crate::service::certificates::{CertsError, Directory, ProcessName, Validity};
use crate::service::status::fetch::Target;

/// The regions of the shipped job, with their files.
pub const REGIONS: [(&str, &str); 3] = [
    ("virginia", include_str!("../../../configs/regions/virginia.toml")),
    ("ireland", include_str!("../../../configs/regions/ireland.toml")),
    ("singapore", include_str!("../../../configs/regions/singapore.toml")),
];
/// The shipped job.
pub const JOB: &str = include_str!("../../../configs/jobs/digits.toml");
/// The job of the same regions in which most is saved.
pub const DEMO_JOB: &str = include_str!("../../../configs/jobs/digits-mlp.toml");
const DATA: [(&str, &[u8]); 2] = [
    ("digits-train.csv.gz", include_bytes!("../../data/digits-train.csv.gz")),
    ("digits-test.csv.gz", include_bytes!("../../data/digits-test.csv.gz")),
];

/// Workers of each region.
pub const WORKERS: u32 = 3;

/// How long certificates are valid: longer than any cluster.
const VALID_DAYS: u32 = 60;

/// What is rehearsed, and where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The `gaia` program.
    pub program: PathBuf,
    /// Where settings, certificates, data, logs and results go; must exist.
    pub directory: PathBuf,
    /// The job's file: [`JOB`], or another of the same regions.
    pub job: String,
    /// What trains, and its arguments, where the job's model is external; else empty.
    pub worker_command: Vec<OsString>,
    /// Servers of each region.
    pub servers: u16,
    /// Settings over the shipped ones, for all regions.
    pub set: Vec<(String, String)>,
    /// The links, by the places of two regions: virginia 0, ireland 1, singapore 2.
    pub links: [((usize, usize), LinkConfig); 3],
    /// Decides losses and jitter on them.
    pub seed: u64,
    /// Regions whose processes are not started with the others: [`Process::start_again`] does so
    /// when it is time.
    pub late: Vec<&'static str>,
}

impl Plan {
    /// Writes the files of the regions and the job, and the shipped data, into its directory;
    /// [`LocalCluster::start`] does it too.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub fn write_files(&self) -> io::Result<()> {
        for folder in ["regions", "jobs", "data"] {
            fs::create_dir_all(self.directory.join(folder))?;
        }
        for (name, text) in REGIONS {
            fs::write(self.directory.join("regions").join(format!("{name}.toml")), text)?;
        }
        fs::write(self.directory.join("jobs/digits.toml"), &self.job)?;
        for (name, bytes) in DATA {
            fs::write(self.directory.join("data").join(name), bytes)?;
        }
        Ok(())
    }
}

/// The links of `configs/simulations/three-regions.toml`.
pub fn three_regions() -> [((usize, usize), LinkConfig); 3] {
    let link =
        |mbit_per_sec: u64, millis| LinkConfig::clean(mbit_per_sec * 125_000, Duration::from_millis(millis));
    [((0, 1), link(100, 36)), ((0, 2), link(60, 110)), ((1, 2), link(80, 88))]
}

/// Why there is no cluster.
#[derive(Debug, Error)]
pub enum LocalClusterError {
    /// A file, a port or a process could not be made.
    #[error("cannot set up {what}")]
    Setup {
        /// What.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// No certificates.
    #[error(transparent)]
    Certificates(#[from] CertsError),
    /// No links.
    #[error(transparent)]
    Relay(#[from] RelayError),
}

/// One of its processes.
pub struct Process {
    /// The region.
    pub region: &'static str,
    /// Which part of it.
    pub part: Part,
    /// Where it tells how it is.
    pub admin: SocketAddr,
    /// What it logs.
    pub log: PathBuf,
    /// Its settings over those of its region's file.
    pub set: Vec<(String, String)>,
    /// None as long as it has not been started.
    child: Option<Child>,
    ended: Option<ExitStatus>,
}

/// Processes that run, and the links between them. Dropped, all are killed.
pub struct LocalCluster {
    /// All of them: for each region its servers, then its workers.
    pub processes: Vec<Process>,
    /// The links.
    pub relay: Relay,
    links: [((usize, usize), LinkConfig); 3],
}

/// The ports of a region on this machine.
struct Ports {
    lan: Vec<SocketAddr>,
    wan: Vec<SocketAddr>,
    servers: Vec<SocketAddr>,
    workers: Vec<SocketAddr>,
}

/// Sockets on ports that were free. They are held until all ports of a run are known, or one could
/// be found twice.
#[derive(Default)]
struct Held {
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
}

impl Held {
    fn find(&mut self, servers: u16) -> io::Result<Ports> {
        let (servers, workers) = (usize::from(servers), WORKERS as usize);
        Ok(Ports {
            lan: self.tcp(servers)?,
            wan: self.udp(servers)?,
            servers: self.tcp(servers)?,
            workers: self.tcp(workers)?,
        })
    }

    fn tcp(&mut self, count: usize) -> io::Result<Vec<SocketAddr>> {
        let from = self.tcp.len();
        (0..count).try_for_each(|_| free_port(TcpListener::bind).map(|found| self.tcp.push(found)))?;
        self.tcp[from..].iter().map(TcpListener::local_addr).collect()
    }

    fn udp(&mut self, count: usize) -> io::Result<Vec<SocketAddr>> {
        let from = self.udp.len();
        (0..count).try_for_each(|_| free_port(UdpSocket::bind).map(|found| self.udp.push(found)))?;
        self.udp[from..].iter().map(UdpSocket::local_addr).collect()
    }
}

/// A port of loopback that nobody has. None that systems give to connections by themselves: one of
/// those might be given away before the process that it is meant for has started.
fn free_port<T>(bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    const PORTS: Range<u16> = 10_000..32_000;
    const TRIES: usize = 100;
    let mut last = io::ErrorKind::AddrInUse.into();
    for _ in 0..TRIES {
        match bind((Ipv4Addr::LOCALHOST, rand::rng().random_range(PORTS)).into()) {
            Ok(bound) => return Ok(bound),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl LocalCluster {
    /// Starts everything; needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// If something cannot be made.
    pub fn start(plan: &Plan) -> Result<Self, LocalClusterError> {
        let setup = |what: &str| {
            let what = what.to_owned();
            move |source| LocalClusterError::Setup { what, source }
        };
        plan.write_files().map_err(setup("the settings"))?;
        certify(&plan.directory.join("certs"), plan.servers)?;
        let mut held = Held::default();
        let ports = REGIONS.iter().map(|_| held.find(plan.servers)).collect::<io::Result<Vec<_>>>();
        let ports = ports.map_err(setup("ports"))?;
        drop(held);
        let relay = Relay::start(links(plan, &ports), plan.seed)?;
        let mut cluster = Self { processes: Vec::new(), relay, links: plan.links.clone() };
        for (place, (region, _)) in REGIONS.into_iter().enumerate() {
            let overrides = cluster.overrides(plan, &ports, place);
            let servers = (0..plan.servers)
                .map(|index| (Part::Server(index), ports[place].servers[usize::from(index)]));
            let workers =
                (0..WORKERS).map(|index| (Part::Worker(index), ports[place].workers[index as usize]));
            for (part, admin) in servers.chain(workers) {
                let log = plan.directory.join(format!("{region}-{}.log", part.role()));
                let mut process =
                    Process { region, part, admin, log, set: overrides.clone(), child: None, ended: None };
                if !plan.late.contains(&region) {
                    process.start_again(plan).map_err(setup("a process"))?;
                }
                cluster.processes.push(process);
            }
        }
        Ok(cluster)
    }

    /// Loses all that one region sends to another from now on; what is under way arrives.
    ///
    /// # Panics
    ///
    /// If there are no such regions.
    pub fn cut(&self, from: &str, to: &str) {
        let (name, direction, config) = self.way(from, to);
        let config = LinkConfig { loss: 1.0, ..config.clone() };
        self.relay.set_link(&name, direction, config).expect("every two regions have a link");
    }

    /// Carries it again, as well as the plan says.
    ///
    /// # Panics
    ///
    /// As [`cut`](Self::cut).
    pub fn heal(&self, from: &str, to: &str) {
        let (name, direction, config) = self.way(from, to);
        self.relay.set_link(&name, direction, config.clone()).expect("every two regions have a link");
    }

    /// The way from one region to another.
    fn way(&self, from: &str, to: &str) -> (String, Direction, &LinkConfig) {
        let place = |name: &str| {
            let place = REGIONS.iter().position(|(region, _)| *region == name);
            place.unwrap_or_else(|| panic!("there is no region {name}"))
        };
        let (from, to) = (place(from), place(to));
        let ends = (from.min(to), from.max(to));
        let link = self.links.iter().find(|(known, _)| *known == ends);
        let (_, config) = link.expect("every two regions have a link");
        let direction = if from < to { Direction::Forward } else { Direction::Backward };
        (link_name(ends), direction, config)
    }

    /// Whom to ask for their status.
    pub fn targets(&self) -> Vec<Target> {
        let target = |process: &Process| Target {
            url: format!("http://{}", process.admin).parse().expect("an address makes a URL"),
            name: Some((process.region.to_owned(), process.part.role())),
        };
        self.processes.iter().map(target).collect()
    }

    /// The settings of a region in this run: its ports, and the relay's addresses in the place of
    /// the others'.
    fn overrides(&self, plan: &Plan, ports: &[Ports], place: usize) -> Vec<(String, String)> {
        let list = |addresses: &[SocketAddr]| {
            let quoted: Vec<_> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
            format!("[{}]", quoted.join(", "))
        };
        let own = &ports[place];
        let mut set = vec![
            ("servers.count".to_owned(), plan.servers.to_string()),
            ("servers.addresses".to_owned(), list(&own.lan)),
            ("wan.listen".to_owned(), list(&own.wan)),
            ("admin.servers".to_owned(), list(&own.servers)),
            ("admin.workers".to_owned(), list(&own.workers)),
        ];
        for (there, (name, _)) in REGIONS.iter().enumerate().filter(|(there, _)| *there != place) {
            let ends = (place.min(there), place.max(there));
            let direction = if place < there { Direction::Forward } else { Direction::Backward };
            let routes = self
                .relay
                .routes()
                .iter()
                .filter(|route| route.link == link_name(ends) && route.direction == direction);
            let addresses: Vec<_> = routes.map(|route| route.listen).collect();
            set.push((format!("peers.{name}.servers"), list(&addresses)));
            // The shipped settings say what is between real regions.
            if let Some((_, link)) = plan.links.iter().find(|(between, _)| *between == ends) {
                set.push((format!("peers.{name}.rate"), format!("{} B/s", link.rate_bytes_per_sec)));
                let round_trip = 2 * link.one_way_delay.as_micros();
                set.push((format!("peers.{name}.round_trip"), format!("{round_trip} us")));
            }
        }
        set.extend(plan.set.iter().cloned());
        set
    }
}

impl Process {
    /// Starts `part` of `region` in the directory of `plan`, with the settings `set`, which should
    /// say that it answers at `admin`. Those of the cluster are started by it; this is for one
    /// more, such as somebody who does not belong.
    ///
    /// # Errors
    ///
    /// If the log cannot be written, or the program cannot be started.
    pub fn start(
        plan: &Plan,
        region: &'static str,
        part: Part,
        admin: SocketAddr,
        set: Vec<(String, String)>,
        log: PathBuf,
    ) -> io::Result<Self> {
        let mut process = Self { region, part, admin, log, set, child: None, ended: None };
        process.start_again(plan)?;
        Ok(process)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if let (None, Some(child)) = (self.ended, &mut self.child) {
            self.ended = child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// The system's number for it, once it has been started.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Asks it to stop, as SIGTERM does. One that has ended is left alone.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Has it read its certificates again at once, as SIGHUP does.
    pub fn reload(&mut self) {
        self.signal(Signal::HUP);
    }

    /// Kills it, as if its machine had lost power.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        // It is dead once it has been waited for.
        let _ = self.child.as_mut().map(Child::wait);
    }

    /// Starts it again, once it has ended, or for the first time if it is late. What it logs is
    /// added to what it has logged.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_again(&mut self, plan: &Plan) -> io::Result<()> {
        self.child = Some(spawn(plan, self.region, self.part, &self.set, &self.log)?);
        self.ended = None;
        Ok(())
    }

    /// Stops it in the middle of whatever it does, or lets it go on.
    pub fn freeze(&mut self, is_frozen: bool) {
        self.signal(if is_frozen { Signal::STOP } else { Signal::CONT });
    }

    fn signal(&mut self, signal: Signal) {
        let pid = self.id().and_then(|id| Pid::from_raw(id as i32));
        if let (Ok(None), Some(pid)) = (self.ended(), pid) {
            // It may end at the same moment.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // There is nobody to tell if that fails: it has ended already.
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn certify(directory: &Path, servers: u16) -> Result<(), CertsError> {
    let directory = Directory::new(directory);
    let validity = Validity { now: Date::from(Dates::System.now()), days: VALID_DAYS };
    directory.init(validity, true)?;
    let name = |region: &str, role| PeerName::new(region, role).expect("the shipped regions have names");
    let processes = REGIONS.iter().flat_map(|(region, _)| {
        let servers =
            (0..u32::from(servers)).map(move |index| ProcessName::new(name(region, Role::Server), index));
        servers.chain((0..WORKERS).map(move |index| ProcessName::new(name(region, Role::Worker), index)))
    });
    directory.issue(&processes.collect::<Vec<_>>(), validity, true)
}

fn link_name((one, other): (usize, usize)) -> String {
    format!("{}-{}", REGIONS[one].0, REGIONS[other].0)
}

/// Of every two regions, a way to each server of the other, both ways.
fn links(plan: &Plan, ports: &[Ports]) -> Vec<RelayLink> {
    let link = |(ends, config): &((usize, usize), LinkConfig)| {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let routes = |place: usize, direction: Direction| {
            let route =
                move |wan: &SocketAddr| RelayRoute { listen: any, target: wan.to_string(), direction };
            ports[place].wan.iter().map(route)
        };
        RelayLink {
            name: link_name(*ends),
            ends: [REGIONS[ends.0].0.to_owned(), REGIONS[ends.1].0.to_owned()],
            forward: config.clone(),
            backward: config.clone(),
            routes: routes(ends.1, Direction::Forward).chain(routes(ends.0, Direction::Backward)).collect(),
        }
    };
    plan.links.iter().map(link).collect()
}

fn spawn(
    plan: &Plan,
    region: &str,
    part: Part,
    overrides: &[(String, String)],
    log: &Path,
) -> io::Result<Child> {
    let (role, index) = match part {
        Part::Region => ("run", None),
        Part::Server(index) => ("server", Some(u32::from(index))),
        Part::Worker(index) => ("worker", Some(index)),
    };
    let mut command = Command::new(&plan.program);
    command.arg(role).arg("--config").arg(plan.directory.join("regions").join(format!("{region}.toml")));
    command.args(index.map(|index| format!("--index={index}")));
    command.arg("--data-path").arg(plan.directory.join("data"));
    for (key, value) in overrides {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    if let Part::Worker(_) = part
        && !plan.worker_command.is_empty()
    {
        command.arg("--").args(&plan.worker_command);
    }
    let log = File::options().create(true).append(true).open(log)?;
    // Ctrl-C is for whoever started the cluster, which stops its processes in order.
    command.process_group(0);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
}
