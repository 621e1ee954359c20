//! The command line: what can be asked for, and how it is answered.
//!
//! Kind: driver. Everything that a command does besides talking goes through an [`Engine`], so that
//! the face can be tested without the simulator behind it.

mod arguments;
mod certs;
mod certs_arguments;
mod check;
mod data;
mod demo;
mod evaluate;
mod export;
mod handbook;
mod launch;
mod leave;
mod link;
mod models_arguments;
mod names;
mod run;
mod status;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use datacenter::identity::PeerNameError;
use wan::relay::RelayError;

use self::arguments::{
    Arguments, Command, CompareArguments, ResultArguments, SettingsArguments, SimulateArguments,
};
use crate::human::with_causes;
use crate::job::TargetSettings;
use crate::job::config;
use crate::job::scenario::Simulation;
use crate::job::strategy::Strategy;
use crate::learning::application::{BuildError, ModelKind, ModelKinds};
use crate::learning::data::DataError;
use crate::learning::models;
use crate::program::local_cluster::LocalClusterError;
use crate::program::progress;
use crate::program::report;
use crate::program::report::{Destination, OutputError, Style};
use crate::service::ServiceError;
use crate::service::certificates::CertsError;
use crate::service::logs;
use crate::service::model_files::{OtherModel, ReadError, WriteError};
use crate::settings::{ConfigError, Problem};
use crate::simulator::results::{Comparison, Run, Target};
use crate::simulator::{self, Observer, SimulationError};

/// What does the work.
pub(crate) trait Engine {
    /// Runs `simulation` under one strategy.
    fn simulate(
        &self,
        simulation: &Simulation,
        strategy: Strategy,
        observer: &dyn Observer,
    ) -> Result<Run, SimulationError>;

    /// Runs `simulation` under each of `strategies`.
    fn compare(
        &self,
        simulation: &Simulation,
        strategies: &[Strategy],
        observer: &dyn Observer,
    ) -> Result<Comparison, SimulationError>;

    /// Finds out why `asp` missed the target of `comparison`, which is one of `simulation`.
    fn explain(&self, simulation: &Simulation, comparison: &mut Comparison) -> Result<(), SimulationError>;

    /// Loads what `simulation` trains on, and tells what it found.
    fn check(&self, simulation: &Simulation) -> Result<simulator::Found, SimulationError>;
}

/// The simulator of this crate.
struct Simulator;

impl Engine for Simulator {
    fn simulate(
        &self,
        simulation: &Simulation,
        strategy: Strategy,
        observer: &dyn Observer,
    ) -> Result<Run, SimulationError> {
        simulator::simulate(simulation, strategy, observer)
    }

    fn compare(
        &self,
        simulation: &Simulation,
        strategies: &[Strategy],
        observer: &dyn Observer,
    ) -> Result<Comparison, SimulationError> {
        simulator::compare(simulation, strategies, observer)
    }

    fn explain(&self, simulation: &Simulation, comparison: &mut Comparison) -> Result<(), SimulationError> {
        simulator::explain(simulation, comparison, &progress::Silent)
    }

    fn check(&self, simulation: &Simulation) -> Result<simulator::Found, SimulationError> {
        simulator::check(simulation)
    }
}

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Simulation(#[from] SimulationError),
    /// A process of a region that could not start, or do its work.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A program that trains, or should have.
    #[error(transparent)]
    Launch(#[from] launch::LaunchError),
    /// A job that has ended, with a result that is not what its file says.
    #[error("the job has ended without all updates of {_0}")]
    Lacking(String),
    /// Processes of a demo that could not be started.
    #[error(transparent)]
    LocalCluster(#[from] LocalClusterError),
    /// A demo that did not come to its end.
    #[error("the demo ended early: {0}")]
    Demo(String),
    /// A place for a result that cannot be one.
    #[error(transparent)]
    Place(OutputError),
    /// A result that could not be written after all.
    #[error(transparent)]
    Output(OutputError),
    /// A comparison from which strategies are missing; their reasons have been shown with the
    /// others' results.
    #[error("no result for {}", _0.join(", "))]
    Incomplete(Vec<String>),
    /// Models that are NaN, infinite, or worse than they began; the results have been shown.
    #[error("{}", diverged(_0))]
    Diverged(Vec<String>),
    /// Certificates cannot be made or read.
    #[error(transparent)]
    Certs(#[from] CertsError),
    /// A datacenter with a name that no certificate can have.
    #[error(transparent)]
    PeerName(PeerNameError),
    /// Some certificates, which have been shown, are over.
    #[error("{_0} expired; `gaia certs renew` renews what the authority here has issued")]
    Expired(usize),
    /// Addresses on which links cannot be served, with the reason of each.
    #[error("cannot listen on {}", one_or_many(_0, "addresses"))]
    Busy(Vec<String>),
    /// Links that cannot be served.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// What the operating system refuses.
    #[error("the system refuses what every process needs")]
    System(#[source] io::Error),
    /// What `check` found has been said already.
    #[error("something is not right")]
    Checked,
    /// Why the process ends is in its log, as programs read it; this is its exit code.
    #[error("see the log")]
    Logged(u8),
    /// Those that do not answer have been shown with the others.
    #[error("{silent} of {asked} processes do not answer")]
    Silent { silent: usize, asked: usize },
    /// A region that does not leave.
    #[error("nobody was told: {_0}")]
    NotTold(String),
    /// A region that leaves, of which not everybody was told.
    #[error("{_0}\nrepeat the command when they can be reached; those that were told go on meanwhile")]
    Untold(String),
    /// Manual pages that could not be written.
    #[error("cannot write the pages into {directory}")]
    Pages { directory: String, source: io::Error },
    /// Nobody can be asked whether it is meant.
    #[error(
        "a region that leaves cannot come back, and there is no terminal to ask on whether that is meant; --yes says so, \
         --dry-run shows what would happen"
    )]
    NobodyToAsk,
    /// It was not meant.
    #[error("not confirmed: nobody was told, and {_0} has not left")]
    NotConfirmed(String),
    /// Which job a file means cannot be said.
    #[error(
        "which job the file means depends on its data; --job DIGEST says it instead, as gaia status shows it"
    )]
    NoDigest(#[source] ServiceError),
    #[error("--watch needs a terminal to show it on; without it, the status is printed once")]
    NoTerminal,
    #[error("the terminal cannot be used")]
    Terminal(#[source] io::Error),
    #[error("the system gives no sockets or timers")]
    Runtime(#[source] io::Error),
    /// A trained model that cannot be had, or not be used.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Why there is nothing to be said of a trained model.
#[derive(Debug, thiserror::Error)]
enum ModelError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(
        "nothing says where the model is; name its files, or a region's file that has checkpoint.location or \
         output.directory"
    )]
    Nowhere,
    #[error(transparent)]
    Build(BuildError),
    #[error(transparent)]
    Data(DataError),
    #[error(transparent)]
    Other(OtherModel),
    #[error("the model knows nothing of whom the data is about: there is nothing to judge it by")]
    NothingToJudge,
    #[error(
        "job.model.kind: found \"external\": only the program that trains such a model can score it; gaia export writes it \
         for that one"
    )]
    External,
    #[error("this model predicts nothing")]
    NoPredictions,
    #[error("cannot write the predictions")]
    Predictions(#[source] io::Error),
    #[error(transparent)]
    Write(WriteError),
}

impl CommandError {
    /// Whose fault it is: the operator's, to be put right in the input, or the run's.
    fn code(&self) -> u8 {
        match self {
            Self::Logged(code) => *code,
            Self::Launch(error) => error.code(),
            Self::Lacking(_) => LACKING,
            Self::Config(_)
            | Self::Simulation(SimulationError::Input(_))
            | Self::Place(_)
            | Self::PeerName(_)
            | Self::Relay(RelayError::Listen(_))
            | Self::Busy(_)
            | Self::NoTerminal
            | Self::NobodyToAsk
            | Self::NoDigest(_)
            | Self::Checked => INPUT,
            Self::Service(error) if error.is_input() => INPUT,
            Self::Model(ModelError::Predictions(_) | ModelError::Write(WriteError::Write { .. })) => FAILED,
            Self::Model(_) => INPUT,
            Self::Certs(error) if error.is_input() => INPUT,
            Self::Simulation(SimulationError::Failed { .. } | SimulationError::NoTarget { .. })
            | Self::Incomplete(_)
            | Self::Diverged(_)
            | Self::Service(_)
            | Self::LocalCluster(_)
            | Self::Demo(_)
            | Self::Certs(_)
            | Self::Expired(_)
            | Self::Relay(RelayError::Thread(_))
            | Self::System(_)
            | Self::Pages { .. }
            | Self::Silent { .. }
            | Self::NotTold(_)
            | Self::NotConfirmed(_)
            | Self::Untold(_)
            | Self::Terminal(_)
            | Self::Runtime(_)
            | Self::Output(_) => FAILED,
        }
    }
}

/// Exit code of a run that failed.
const FAILED: u8 = 1;
/// Exit code of input that has to be put right; clap uses the same for the command line.
const INPUT: u8 = 2;

/// Exit code of a job that has ended without a region: there is a result, and it lacks what that
/// one would have done.
const LACKING: u8 = 3;

/// The whole `gaia` program, to which models of one's own can be added: they are then had in all of
/// its commands, wherever a built-in one is.
///
/// ```no_run
/// # struct MyModel;
/// # impl gaia::learning::application::ModelKind for MyModel {
/// #     type Settings = ();
/// #     fn name(&self) -> &'static str { "mine" }
/// #     fn settings(&self, _: &gaia::settings::Section<'_>) -> Option<()> { Some(()) }
/// #     fn build(&self, (): &(), _: &gaia::learning::application::Input<'_>)
/// #         -> Result<Box<dyn gaia::learning::application::Application>, gaia::learning::application::BuildError> { unimplemented!() }
/// # }
/// fn main() -> std::process::ExitCode {
///     gaia::Program::new().with(MyModel).main()
/// }
/// ```
#[derive(Debug)]
pub struct Program {
    kinds: ModelKinds,
}

impl Default for Program {
    fn default() -> Self {
        Self::new()
    }
}

impl Program {
    /// The program as it ships.
    pub fn new() -> Self {
        Self { kinds: models::kinds() }
    }

    /// The same with one more kind of model.
    ///
    /// # Panics
    ///
    /// If there is one of that name.
    #[must_use]
    pub fn with(self, kind: impl ModelKind) -> Self {
        Self { kinds: self.kinds.with(kind) }
    }

    /// Runs it by the arguments of the process; yields its exit code.
    pub fn main(self) -> ExitCode {
        main(&self.kinds)
    }
}

fn main(kinds: &ModelKinds) -> ExitCode {
    let arguments = Arguments::parse();
    if !matches!(arguments.command, Command::Run(_) | Command::Server(_) | Command::Worker(_)) {
        // The processes of a region log in their own way.
        logs::init_command();
    }
    match run(&arguments.command, &Simulator, kinds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, CommandError::Checked | CommandError::Logged(_)) {
                // There is nobody to tell if that fails too.
                say(&format!("error: {}", with_causes(&error)));
            }
            ExitCode::from(error.code())
        }
    }
}

fn run(command: &Command, engine: &dyn Engine, kinds: &ModelKinds) -> Result<(), CommandError> {
    match command {
        Command::Simulate(arguments) => simulate(arguments, engine, kinds),
        Command::Compare(arguments) => compare(arguments, engine, kinds),
        Command::Check(arguments) => check::check(arguments, engine, kinds),
        Command::Run(arguments) => run::run(arguments, kinds),
        Command::Server(arguments) => run::server(arguments, kinds),
        Command::Worker(arguments) => run::worker(arguments, kinds),
        Command::Leave(arguments) => leave::leave(arguments, kinds),
        Command::Certs(command) => certs::certs(command, kinds),
        Command::Link(arguments) => link::link(arguments),
        Command::Demo(arguments) => demo::demo(arguments, kinds),
        Command::Status(arguments) => status::status(arguments, kinds),
        Command::Names(arguments) => names::names(arguments, kinds),
        Command::Evaluate(arguments) => evaluate::evaluate(arguments, kinds),
        Command::Export(arguments) => export::export(arguments, kinds),
        Command::Completions(arguments) => handbook::completions(arguments),
        Command::Man(arguments) => handbook::man(arguments),
    }
}

/// That nothing came of runs of these strategies.
fn diverged(strategies: &[String]) -> String {
    format!("no model came of it: {} diverged, or ended worse than before training", strategies.join(", "))
}

/// One thing as it is; of several how many there are, and each on a line of its own.
fn one_or_many(things: &[String], what: &str) -> String {
    match things {
        [one] => one.clone(),
        _ => things.iter().fold(format!("{} {what}:", things.len()), |text, thing| text + "\n  " + thing),
    }
}

fn simulate(
    arguments: &SimulateArguments,
    engine: &dyn Engine,
    kinds: &ModelKinds,
) -> Result<(), CommandError> {
    let simulation = load(&arguments.settings, kinds)?;
    let strategy = arguments.strategy.unwrap_or(simulation.strategy);
    arguments.results.check()?;
    note(&simulation, &[strategy]);
    let observer = progress::observer(arguments.settings.quiet);
    let run = engine.simulate(&simulation, strategy, &*observer)?;
    drop(observer);
    let settings = &simulation.job.target;
    let target = match settings {
        TargetSettings::Value { metric, value } => Target { metric: metric.clone(), value: *value },
        // That is known once `lan` has run.
        TargetSettings::WithinLan(_) => Target { metric: "objective".into(), value: f64::NAN },
    };
    let (job, seed) = (simulation.job.name.clone(), simulation.seed);
    let alone = Comparison { job, seed, target, runs: vec![run], trials: vec![], failed: vec![] };
    let is_taken = arguments.results.write(&alone)?;
    show(is_taken, |style| report::run(&alone.runs[0], settings, style))?;
    trained(&alone.runs)
}

fn compare(
    arguments: &CompareArguments,
    engine: &dyn Engine,
    kinds: &ModelKinds,
) -> Result<(), CommandError> {
    let simulation = load(&arguments.settings, kinds)?;
    let strategies = arguments.strategies.as_ref().unwrap_or(&simulation.strategies);
    unambiguous(arguments.strategies.as_deref().unwrap_or_default())?;
    arguments.results.check()?;
    note(&simulation, strategies);
    let observer = progress::observer(arguments.settings.quiet);
    let mut comparison = engine.compare(&simulation, strategies, &*observer)?;
    drop(observer);
    if comparison.needs_explanation() && !arguments.no_explain {
        if !arguments.settings.quiet {
            say(
                "asp missed the target: running it without its threshold and without its lead, to find out why",
            );
        }
        engine.explain(&simulation, &mut comparison)?;
    }
    let is_taken = arguments.results.write(&comparison)?;
    show(is_taken, |style| report::comparison(&comparison, &simulation.job.target, style))?;
    if !comparison.failed.is_empty() {
        let failed = comparison.failed.into_iter().map(|failure| failure.strategy);
        return Err(CommandError::Incomplete(failed.collect()));
    }
    trained(&comparison.runs)
}

/// Whether anything came of these runs: a job that trains under no strategy was not done, though
/// every run ended.
fn trained(runs: &[Run]) -> Result<(), CommandError> {
    let has_diverged = |run: &Run| {
        let start = run.curve.first().map_or(f64::INFINITY, |start| start.objective);
        !run.objective.is_finite() || run.objective > start
    };
    if !runs.iter().all(has_diverged) {
        return Ok(());
    }
    Err(CommandError::Diverged(runs.iter().map(|run| run.strategy.clone()).collect()))
}

/// Tells what is allowed and yet worth a thought.
fn note(simulation: &Simulation, strategies: &[Strategy]) {
    for remark in simulation.remarks(strategies) {
        say(&format!("note: {remark}"));
    }
}

/// Shows a result to people: on standard output, unless that is for the program that reads it.
fn show(is_taken: bool, text: impl FnOnce(Style) -> String) -> Result<(), CommandError> {
    if is_taken {
        let _ = io::stderr().write_all(text(style(io::stderr().is_terminal())).as_bytes());
        return Ok(());
    }
    Destination::Stdout.write(&text(style(io::stdout().is_terminal()))).map_err(CommandError::Output)
}

/// Checks what clap cannot: no strategy twice.
fn unambiguous(strategies: &[Strategy]) -> Result<(), ConfigError> {
    let mut named = strategies.iter().enumerate();
    match named.find(|(index, name)| strategies[..*index].contains(name)) {
        Some((_, twice)) => Err(problem("--strategies", format!("names {twice} twice")).into()),
        None => Ok(()),
    }
}

fn problem(place: &str, message: String) -> Problem {
    Problem { place: place.to_owned(), key: None, message }
}

impl ResultArguments {
    /// Sees, before anything runs, that results can be written where they are wanted, each in a
    /// place of its own.
    fn check(&self) -> Result<(), CommandError> {
        if let (Some(json), Some(csv)) = (&self.json, &self.csv)
            && json.is_same(csv)
        {
            let message = "goes where --json goes; allowed: two different places".to_owned();
            return Err(ConfigError::from(problem("--csv", message)).into());
        }
        self.json.iter().chain(&self.csv).try_for_each(|place| place.check().map_err(CommandError::Place))
    }

    /// Writes them; yields whether one of them has taken standard output.
    fn write(&self, comparison: &Comparison) -> Result<bool, CommandError> {
        let mut is_taken = false;
        for (place, text) in
            [(&self.json, report::json as fn(&Comparison) -> String), (&self.csv, report::csv)]
        {
            if let Some(place) = place {
                is_taken |= *place == Destination::Stdout;
                place.write(&text(comparison)).map_err(CommandError::Output)?;
            }
        }
        Ok(is_taken)
    }
}

/// Says something to people on standard error; on a terminal, in lines that fit it.
fn say(text: &str) {
    let width = if io::stderr().is_terminal() { terminal_width() } else { None };
    let text = width.map_or_else(|| text.to_owned(), |width| wrapped(text, width.into()));
    // There is nobody to tell if that fails too.
    let _ = writeln!(io::stderr(), "{text}");
}

fn terminal_width() -> Option<u16> {
    comfy_table::Table::new().width()
}

/// `text` in lines of at most `width`, broken between words alone: paths and keys are to be copied.
/// What goes on is indented a little more than its line.
fn wrapped(text: &str, width: usize) -> String {
    let wrap = |line: &str| {
        let indent = line.len() - line.trim_start_matches(' ').len();
        let next = " ".repeat(if indent == 0 { 0 } else { indent + 2 });
        let options = textwrap::Options::new(width.max(20)).break_words(false).subsequent_indent(&next);
        let options = options.word_splitter(textwrap::WordSplitter::NoHyphenation);
        textwrap::wrap(line, options).join("\n")
    };
    text.lines().map(wrap).collect::<Vec<_>>().join("\n")
}

/// Reads the settings of one file, and checks that the data's files are there.
fn load(arguments: &SettingsArguments, kinds: &ModelKinds) -> Result<Simulation, CommandError> {
    let simulation = config::load_simulation(&arguments.file, &arguments.overrides()?, kinds)?;
    let problems = data::problems(&simulation.job, &arguments.file);
    if problems.is_empty() { Ok(simulation) } else { Err(ConfigError { problems }.into()) }
}

/// How to lay out text: for the terminal at hand, or plainly.
fn style(is_terminal: bool) -> Style {
    const PLAIN_WIDTH: u16 = 100;
    let from_environment = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let from_terminal = || if is_terminal { terminal_width() } else { None };
    let width = from_terminal().or(from_environment).unwrap_or(PLAIN_WIDTH).clamp(80, 200);
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Style { width, styled: is_terminal && !is_plain }
}
