//! The arguments, and the help that goes with them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand};
use clap_complete::Shell;

use super::certs_arguments::{CERTS_EXAMPLES, CertsCommand};
use super::models_arguments::{EvaluateArguments, ExportArguments};
use crate::job::strategy::Strategy;
use crate::program::report::Destination;
use crate::service::status::fetch::Url;
use crate::settings::{ConfigError, Overrides, units};

const LONG_ABOUT: &str = "\
Trains one machine-learning model over many datacenters as if they were one LAN.

Only updates that matter cross the WAN, and two mechanisms keep the regions' copies of the model \
honest when the WAN is slow: selective barriers and the mirror clock.";

// Lines are short enough for 80 columns: clap would break longer ones anywhere.
const AFTER_HELP: &str = "\
Examples:
  gaia compare configs/simulations/three-regions.toml
  gaia simulate configs/simulations/three-regions.toml --strategy bsp
  gaia check configs/simulations/*.toml
  gaia link configs/links/three-regions.toml
  gaia certs init
  gaia export out --region virginia --out model.safetensors

Settings: every key of a file can be overridden, by the environment
(GAIA__JOB__CLOCKS=50) and by flags (--set job.clocks=50), which win.
docs/CONFIGURATION.md lists the keys.

Exit codes:
  0  done
  1  a run failed or no model came of it, or its result could not be
     written;
     of gaia certs show: something has expired;
     of gaia status: a process does not answer;
     of gaia leave: a server was not told, or nobody has confirmed it
  2  the input has to be put right: command line, settings, data
  3  the job has ended without a region: its result lacks what that one would have done

Styles are for terminals only; NO_COLOR=1 turns them off there too.
RUST_LOG=info shows on standard error what links and servers do.";

const SIMULATE_EXAMPLES: &str = "\
Examples:
  gaia simulate configs/simulations/three-regions.toml --set job.clocks=50
  gaia simulate configs/simulations/three-regions.toml --strategy bsp --csv bsp.csv";

const COMPARE_EXAMPLES: &str = "\
Examples:
  gaia compare configs/simulations/three-regions.toml --json out.json
  gaia compare configs/simulations/three-regions.toml --strategies lan,asp,bsp
  gaia compare configs/simulations/mnist-softmax.toml --data-path ~/data/mnist";

const CHECK_EXAMPLES: &str = "\
Examples:
  gaia check configs/simulations/*.toml
  gaia check configs/regions/virginia.toml --wait 5min
  gaia check configs/regions/virginia.toml --server 0
  gaia check configs/simulations/mnist-softmax.toml --data-path ~/data/mnist

Of a region: settings, data, certificates, ports and names here, and then the
other regions over UDP, in both directions. They answer while they run, and
while they are checked. The exit code is 2 if anything is not right.";

const LINK_EXAMPLES: &str = "\
Examples:
  gaia link configs/links/three-regions.toml
  gaia link configs/links/three-regions.toml --set links.virginia-ireland.loss=1%

Processes dial the addresses that the file listens on instead of each other's.
Ctrl-C or SIGTERM ends it, with exit code 0.";

const RUN_EXAMPLES: &str = "\
Examples:
  gaia run --config configs/regions/virginia.toml
  gaia server --config configs/regions/virginia.toml --index 0
  gaia worker --config configs/regions/virginia.toml --index 2
  gaia worker --config virginia.toml --index 2 -- python train.py

There is no order to start in: whoever is not there yet is waited for. SIGTERM or
Ctrl-C ends a process in order: it finishes its clock and hands over what it has
(exit code 0; 1 if that took too long). A second one ends it at once (143, 130).
docs/OPERATIONS.md leads from nothing to a job that runs.";

const LEAVE_EXAMPLES: &str = "\
Examples:
  gaia leave ireland --config configs/regions/virginia.toml --dry-run
  gaia leave ireland --config configs/regions/virginia.toml
  gaia leave virginia --config configs/regions/virginia.toml --yes

Named with the file of another region: it is lost, and nobody is to wait for it.
With its own file: it hands over what it has, and its processes end.
It cannot come back, so it is done only once the region's name has been typed on
the terminal, or with --yes. The file has to be of the job that runs.
Needs an operator's certificate of the file's region:
  gaia certs issue virginia operator 0
The exit code is 1 if a server was not told; telling it again does no harm.";

const DEMO_EXAMPLES: &str = "\
Examples:
  gaia demo
  gaia demo --set compute.examples_per_second=640 --set job.clocks=200
  gaia demo --directory /tmp/demo --no-view

Six servers and nine workers train the digits that Gaia ships, each a process of
its own, with certificates made for the occasion. Between regions they talk through
links like those of configs/simulations/three-regions.toml. All ends with the command;
Ctrl-C ends it early, with exit code 0.";

const STATUS_EXAMPLES: &str = "\
Examples:
  gaia status configs/regions/*.toml
  gaia status --url http://127.0.0.1:7500 --url http://127.0.0.1:7501
  gaia status --watch --url virginia-0:9464 --url ireland-0:9464
  gaia status --json --url http://127.0.0.1:7500 | jq '.[].status.phase'

Keys of --watch: arrows, Page Up and Page Down scroll; q, Esc, Ctrl-C quit, and
what was shown last stays on the terminal.
The exit code is 1 if a process does not answer.";

const NAMES_EXAMPLES: &str = "\
Examples:
  gaia names --out virginia.json regions/virginia.toml
  gaia names --out names.json virginia.json ireland.json singapore.json

For regions with data of their own (job.data.scope = \"own\"): each finds the names in
its data, which stays where it is, and one puts them together. With that file as
job.data.names, the same row means the same in every region.";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  gaia completions bash > ~/.local/share/bash-completion/completions/gaia
  gaia completions zsh > ~/.zfunc/_gaia
  gaia completions fish > ~/.config/fish/completions/gaia.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  gaia man | man -l -
  gaia man --directory /usr/local/share/man/man1";

/// The program.
#[derive(Debug, Parser)]
#[command(name = "gaia", version, about = LONG_ABOUT.lines().next(), long_about = LONG_ABOUT, after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the regions of a file in virtual time, under one strategy
    Simulate(SimulateArguments),
    /// Run the same job and seed under several strategies, and show what each cost
    Compare(CompareArguments),
    /// Check files without running them: settings, data, and all that a region needs
    Check(CheckArguments),
    /// Run one region: all its servers and workers in one process
    Run(RegionArguments),
    /// Run one server of a region
    Server(ServerArguments),
    /// Run one worker of a region
    Worker(WorkerArguments),
    /// Take a region out of a job for good: another one that is lost, or one's own
    Leave(LeaveArguments),
    /// Make and look after the certificates of a job's processes
    #[command(subcommand, after_help = CERTS_EXAMPLES)]
    Certs(CertsCommand),
    /// Put links of a file between real processes: a relay of UDP datagrams with delay, rate and
    /// loss
    Link(LinkArguments),
    /// Three regions as real processes on this machine, over emulated links, with their status
    Demo(DemoArguments),
    /// Show how the processes of a job are: clocks, holds, links, bytes saved
    Status(StatusArguments),
    /// Find the names of classes, users and items in data, and put those of several regions
    /// together
    Names(NamesArguments),
    /// Score a trained model, and write what it predicts
    Evaluate(EvaluateArguments),
    /// Write a trained model as one file: safetensors, npy or CSV
    Export(ExportArguments),
    /// Print a script by which a shell completes commands and flags
    Completions(CompletionsArguments),
    /// Print the manual page, or write those of all commands
    Man(ManArguments),
}

#[derive(Args, Debug)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(super) struct CompletionsArguments {
    /// For which shell
    pub(super) shell: Shell,
}

#[derive(Args, Debug)]
#[command(after_help = MAN_EXAMPLES)]
pub(super) struct ManArguments {
    /// Write gaia.1 and a page for each command into this directory
    #[arg(long, value_name = "DIR")]
    pub(super) directory: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(after_help = NAMES_EXAMPLES)]
pub(super) struct NamesArguments {
    /// Files of regions or jobs (TOML), whose data is read, and files of names (.json)
    #[arg(required = true)]
    pub(super) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) over: OverArguments,
    /// Where the names go (job.data.names); `-` is standard output
    #[arg(long, short, visible_alias = "output", value_name = "OUT", value_parser = destination)]
    pub(super) out: Destination,
}

/// A file and what goes over it.
#[derive(Args, Debug)]
pub(super) struct SettingsArguments {
    /// The simulation file (TOML)
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) over: OverArguments,
    /// Show no progress
    #[arg(long, short)]
    pub(super) quiet: bool,
}

#[derive(Args, Debug)]
pub(super) struct OverArguments {
    /// Override any key of the file, such as job.clocks=50 or compute.examples_per_second=640; may
    /// be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub(super) set: Vec<(String, String)>,
    /// Where the data is (job.data.path): a directory, or a URL such as s3://bucket/prefix
    #[arg(long, value_name = "PLACE")]
    pub(super) data_path: Option<String>,
    /// The seed of every random choice (seed)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(super) seed: Option<String>,
}

#[derive(Args, Debug)]
#[command(after_help = format!("{}\n\n{SIMULATE_EXAMPLES}", strategies()))]
pub(super) struct SimulateArguments {
    #[command(flatten)]
    pub(super) settings: SettingsArguments,
    /// What may cross the WAN; see below [default: the job's `strategy`, or asp]
    #[arg(long, value_name = "NAME")]
    pub(super) strategy: Option<Strategy>,
    #[command(flatten)]
    pub(super) results: ResultArguments,
}

/// Where else results go.
#[derive(Args, Debug)]
pub(super) struct ResultArguments {
    /// Write the result as JSON; `-` is standard output
    #[arg(long, value_name = "OUT", value_parser = destination)]
    pub(super) json: Option<Destination>,
    /// Write the result as CSV, one line for each point of each strategy; `-` is standard output
    #[arg(long, value_name = "OUT", value_parser = destination)]
    pub(super) csv: Option<Destination>,
}

#[derive(Args, Debug)]
#[command(after_help = format!("{}\n\n{COMPARE_EXAMPLES}", strategies()))]
pub(super) struct CompareArguments {
    #[command(flatten)]
    pub(super) settings: SettingsArguments,
    /// What to compare, with commas; see below [default: the file's `strategies`]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(super) strategies: Option<Vec<Strategy>>,
    /// Where asp misses the target, do not run it again with one setting changed to find out why
    #[arg(long)]
    pub(super) no_explain: bool,
    #[command(flatten)]
    pub(super) results: ResultArguments,
}

#[derive(Args, Debug)]
#[command(after_help = CHECK_EXAMPLES)]
pub(super) struct CheckArguments {
    /// Files of simulations, regions, jobs or links
    #[arg(required = true)]
    pub(super) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) over: OverArguments,
    /// Of a region: check what this server needs of this machine, and no other process
    #[arg(long, value_name = "N", conflicts_with = "worker", allow_hyphen_values = true, value_parser = index::<u16>)]
    pub(super) server: Option<u16>,
    /// Of a region: check what this worker needs of this machine, and no other process
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = index::<u32>)]
    pub(super) worker: Option<u32>,
    /// Of a region: look at this machine alone, and ask no other region
    #[arg(long, conflicts_with = "wait")]
    pub(super) offline: bool,
    /// Of a region: wait so long for other regions to answer, such as 5min; they are checked
    /// meanwhile
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) wait: Option<Duration>,
}

/// A region's file and what goes over it.
#[derive(Args, Debug)]
#[command(after_help = RUN_EXAMPLES)]
pub(super) struct RegionArguments {
    /// The region's file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    #[command(flatten)]
    pub(super) over: OverArguments,
}

#[derive(Args, Debug)]
pub(super) struct ServerArguments {
    #[command(flatten)]
    pub(super) region: RegionArguments,
    /// Which one, from 0 [default: the number at the end of the host's name]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(super) index: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct WorkerArguments {
    #[command(flatten)]
    pub(super) region: RegionArguments,
    /// Which one, from 0 [default: the number at the end of the host's name]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(super) index: Option<String>,
    /// Start so many workers in this one's place, from its index on
    #[arg(long, value_name = "N", requires = "command", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(super) spawn: Option<u32>,
    /// What trains a model of the kind "external", with its arguments: it learns from GAIA_CONFIG,
    /// GAIA_WORKER, RANK, WORLD_SIZE and the like who it is
    #[arg(last = true, value_name = "PROGRAM")]
    pub(super) command: Vec<OsString>,
}

#[derive(Args, Debug)]
#[command(after_help = LEAVE_EXAMPLES)]
pub(super) struct LeaveArguments {
    /// The region that leaves
    #[arg(value_name = "REGION")]
    pub(super) leaving: String,
    /// The file (TOML) of a region that remains, or of the one that leaves while it lives
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    #[command(flatten)]
    pub(super) over: OverArguments,
    /// Whose certificate to show: that of the region's operator N
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true, value_parser = index::<u32>)]
    pub(super) index: u32,
    /// Ask the servers whether it can be done, and change nothing
    #[arg(long, conflicts_with = "yes")]
    pub(super) dry_run: bool,
    /// Do it without asking on the terminal
    #[arg(long, short)]
    pub(super) yes: bool,
    /// The digest of the running job, as gaia status shows it, where the job's data is not here
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    pub(super) job: Option<Digest>,
}

/// The first bytes of a job's digest, or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digest(pub(super) Vec<u8>);

fn digest(text: &str) -> Result<Digest, String> {
    const ALLOWED: &str = "allowed: 16 to 64 hexadecimal digits, an even number";
    let wrong = || format!("found {text:?}; {ALLOWED}");
    let is_hex = text.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !is_hex || !(16..=64).contains(&text.len()) || text.len() % 2 == 1 {
        return Err(wrong());
    }
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong());
    (0..text.len()).step_by(2).map(byte).collect::<Result<_, _>>().map(Digest)
}

#[derive(Args, Debug)]
#[command(after_help = LINK_EXAMPLES)]
pub(super) struct LinkArguments {
    /// The file of links (TOML)
    pub(super) file: PathBuf,
    /// Override any key of the file, such as links.0.rate=10Mbit/s; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub(super) set: Vec<(String, String)>,
    /// Write what went over each link as JSON, every second and at the end
    #[arg(long, value_name = "OUT", value_parser = file)]
    pub(super) counters: Option<Destination>,
    /// Show neither routes nor counters
    #[arg(long, short)]
    pub(super) quiet: bool,
}

#[derive(Args, Debug)]
#[command(after_help = DEMO_EXAMPLES)]
pub(super) struct DemoArguments {
    /// Train this job instead of the shipped one: a job file (TOML) of the regions virginia,
    /// ireland and singapore, with three workers each
    #[arg(long, value_name = "FILE")]
    pub(super) job: Option<PathBuf>,
    /// Where settings, certificates, logs and results go, to be looked at afterwards [default:
    /// nowhere that stays]
    #[arg(long, value_name = "DIR")]
    pub(super) directory: Option<PathBuf>,
    /// Override any key of the regions' files, such as job.clocks=200; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub(super) set: Vec<(String, String)>,
    /// Do not show how it goes, only what came of it
    #[arg(long)]
    pub(super) no_view: bool,
    /// What trains a job's model of the kind "external", as for `gaia worker`
    #[arg(last = true, value_name = "PROGRAM")]
    pub(super) command: Vec<OsString>,
}

#[derive(Args, Debug)]
#[command(after_help = STATUS_EXAMPLES)]
// So that whoever names nobody to ask learns of both ways to do so.
#[command(group(ArgGroup::new("who").args(["files", "urls"]).required(true).multiple(true)))]
pub(super) struct StatusArguments {
    /// Region files (TOML): all their processes are asked
    pub(super) files: Vec<PathBuf>,
    /// The admin listener of a process; may be repeated
    #[arg(long = "url", value_name = "URL")]
    pub(super) urls: Vec<Url>,
    /// Show it again every second, on the whole terminal
    #[arg(long, short)]
    pub(super) watch: bool,
    /// Print what the processes say as JSON
    #[arg(long, conflicts_with = "watch")]
    pub(super) json: bool,
}

impl SettingsArguments {
    /// The environment and the flags.
    pub(super) fn overrides(&self) -> Result<Overrides, ConfigError> {
        self.over.overrides()
    }
}

impl OverArguments {
    /// The environment and the flags.
    pub(super) fn overrides(&self) -> Result<Overrides, ConfigError> {
        let mut overrides = Overrides::from_environment()?;
        for (key, value) in &self.set {
            overrides.flag(&format!("--set {key}"), key, value);
        }
        if let Some(path) = &self.data_path {
            overrides.flag("--data-path", "job.data.path", path);
        }
        if let Some(seed) = &self.seed {
            overrides.flag("--seed", "seed", seed);
        }
        Ok(overrides)
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or("there is no `=`; write KEY=VALUE, such as job.clocks=50")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

pub(super) fn destination(text: &str) -> Result<Destination, String> {
    if text.is_empty() { Err("a file name, or `-`".to_owned()) } else { Ok(Destination::from(text)) }
}

/// A result that is written again and again, which standard output would only pile up.
fn file(text: &str) -> Result<Destination, String> {
    match destination(text)? {
        Destination::Stdout => Err("a file name".to_owned()),
        file @ Destination::File(_) => Ok(file),
    }
}

fn index<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "allowed: a whole number, counted from 0".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).ok_or_else(|| format!("allowed: {}", units::DURATION))
}

fn strategies() -> String {
    let line = |strategy: Strategy| format!("\n  {:<19}  {}", strategy.name(), strategy.summary());
    format!("Strategies:{}", Strategy::ALL.map(line).concat())
}
