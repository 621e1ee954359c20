//! A grid of settings over a simulation file, run and shown as a Markdown table: what `sweep`
//! prints, and what the tables of docs/MEASUREMENTS.md are made of.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;

use clap::Parser;
use gaia::job::TargetSettings;
use gaia::job::config;
use gaia::job::strategy::Strategy;
use gaia::learning::models;
use gaia::program::progress::Silent;
use gaia::settings::Overrides;
use gaia::settings::suggest::NotOneOf;
use gaia::simulator;
use gaia::simulator::results::{Run, Target};

/// What is to be run, and shown.
#[derive(Parser)]
pub(crate) struct Arguments {
    /// The simulation file
    file: PathBuf,
    /// An axis of the grid: KEY=A,B,C
    #[arg(long)]
    vary: Vec<String>,
    /// Settings that make one row of each point, beside a row without them: NAME: KEY=VALUE;
    /// KEY=VALUE
    #[arg(long)]
    variant: Vec<String>,
    /// What holds for every point: KEY=VALUE
    #[arg(long)]
    set: Vec<String>,
    /// The directory of the data
    #[arg(long)]
    data_path: Option<String>,
    /// What gets rows
    #[arg(long, value_delimiter = ',', default_value = "asp")]
    strategies: Vec<Strategy>,
    /// Which columns there are
    #[arg(long, value_delimiter = ',', default_values_t = COLUMNS.iter().map(|column| column.0.to_owned()), value_parser = column)]
    columns: Vec<String>,
}

/// The columns by the names that `--columns` takes, with their titles.
const COLUMNS: [(&str, &str); 11] = [
    ("strategy", "strategy"),
    ("objective", "objective"),
    ("metric", "metric"),
    ("megabytes", "MB to target"),
    ("fewer", "fewer than bsp"),
    ("seconds", "s to target"),
    ("of-lan", "of lan"),
    ("clock", "a clock, s"),
    ("clock-of-lan", "of lan's"),
    ("shipped", "shipped"),
    ("held", "held by barrier / mirror clock, s"),
];

fn column(name: &str) -> Result<String, NotOneOf> {
    NotOneOf::find(name, COLUMNS, |(name, _)| name).map(|(name, _)| name.to_owned())
}

/// Settings by key: a point of the grid.
type Point = BTreeMap<String, String>;

/// One run: its point and its strategy.
type Task = (Point, Strategy);

/// Why there is no table.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Runs the grid over the settings of `layer`, and shows its results as a Markdown table.
pub(crate) fn table(arguments: &Arguments, layer: &Overrides) -> Result<String, Failure> {
    let axes = arguments.vary.iter().map(|axis| key_and_value(axis)).collect::<Result<Vec<_>, _>>()?;
    let mut fixed = arguments.set.iter().map(|set| key_and_value(set)).collect::<Result<Point, _>>()?;
    fixed.extend(arguments.data_path.iter().map(|path| ("job.data.path".to_owned(), path.clone())));
    let points = axes.iter().fold(vec![Point::new()], |points, (key, values)| {
        let with = |point: &Point, value: &str| {
            let mut point = point.clone();
            point.insert(key.clone(), value.to_owned());
            point
        };
        points.iter().flat_map(|point| values.split(',').map(move |value| with(point, value))).collect()
    });

    let variants = arguments.variant.iter().map(|variant| named(variant)).collect::<Result<Vec<_>, _>>()?;
    let plain = ("as it is".to_owned(), Point::new());
    let variants: Vec<_> = std::iter::once(plain).chain(variants).collect();
    let rows: Vec<(&Point, &str, Point)> = points
        .iter()
        .flat_map(|axes| variants.iter().map(move |(name, settings)| (axes, name, settings)))
        .map(|(axes, name, settings)| {
            (axes, &**name, axes.clone().into_iter().chain(settings.clone()).collect())
        })
        .collect();

    // What must be run, each once.
    let mut tasks: Vec<Task> = Vec::new();
    for (_, _, point) in &rows {
        for strategy in [Strategy::Lan, Strategy::Bsp].iter().chain(&arguments.strategies) {
            let task = (point.clone(), *strategy);
            if !tasks.iter().any(|other| is_same(other, &task)) {
                tasks.push(task);
            }
        }
    }
    let results = run_all(&tasks, |(point, strategy)| {
        let mut overrides = layer.clone();
        fixed.iter().chain(point).for_each(|(key, value)| overrides.flag(key, key, value));
        let simulation = config::load_simulation(&arguments.file, &overrides, &models::kinds())?;
        let application = simulator::load(&simulation)?;
        let run = simulator::run_one(&simulation, &*application, *strategy, &Silent)?;
        Ok((run, simulation.job.target))
    })?;

    let keys = axes.iter().map(|(key, _)| key.rsplit('.').next().unwrap_or(key));
    let has_variants = variants.len() > 1;
    let keys = keys.chain(has_variants.then_some("variant"));
    let shown: Vec<usize> = arguments
        .columns
        .iter()
        .filter_map(|name| COLUMNS.iter().position(|(column, _)| column == name))
        .collect();
    let titles: Vec<&str> = keys.chain(shown.iter().map(|at| COLUMNS[*at].1)).collect();
    let mut text = format!("| {} |\n|{}\n", titles.join(" | "), "---|".repeat(titles.len()));
    for (at_axes, variant, point) in &rows {
        let of = |strategy: Strategy| {
            let at = tasks.iter().position(|task| is_same(task, &(point.clone(), strategy)));
            &results[at.expect("every row and its references are tasks")]
        };
        let [(lan, target), (bsp, _)] = [of(Strategy::Lan), of(Strategy::Bsp)];
        let target = target_of(target, lan);
        for strategy in &arguments.strategies {
            let settings = axes.iter().map(|(key, _)| at_axes[key].clone());
            let settings = settings.chain(has_variants.then(|| (*variant).to_owned()));
            let all = cells(&of(*strategy).0, lan, bsp, &target);
            let cells: Vec<_> = settings.chain(shown.iter().map(|at| all[*at].clone())).collect();
            text += &format!("| {} |\n", cells.join(" | "));
        }
    }
    Ok(text)
}

fn key_and_value(text: &str) -> Result<(String, String), Failure> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text}: there is no `=`"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A variant's name and its settings.
fn named(text: &str) -> Result<(String, Point), Failure> {
    let (name, settings) = text.split_once(':').ok_or_else(|| format!("{text}: there is no `:`"))?;
    let settings = settings.split(';').map(|setting| key_and_value(setting.trim()));
    Ok((name.to_owned(), settings.collect::<Result<_, _>>()?))
}

/// Whether two runs have the same result: strategies without a filter do not depend on its
/// settings.
fn is_same(a: &Task, b: &Task) -> bool {
    let filters = a.1.name().starts_with("asp");
    let matters = |(key, _): &(&String, &String)| filters || !key.starts_with("job.asp.");
    a.1 == b.1 && a.0.iter().filter(matters).eq(b.0.iter().filter(matters))
}

/// Runs the tasks, as many at once as there are processors; results are in the order of tasks.
fn run_all<T: Send>(
    tasks: &[Task],
    run: impl Fn(&Task) -> Result<T, Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    let queue = Mutex::new(tasks.iter().enumerate());
    let results = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no thread panics while it holds the queue").next();
                    let Some((at, task)) = next else { return };
                    let result = run(task);
                    results.lock().expect("no thread panics while it holds the results").insert(at, result);
                }
            });
        }
    });
    results.into_inner().expect("all threads are done").into_values().collect()
}

fn target_of(settings: &TargetSettings, lan: &Run) -> Target {
    match settings {
        TargetSettings::Value { metric, value } => Target { metric: metric.clone(), value: *value },
        TargetSettings::WithinLan(share) => {
            Target { metric: "objective".into(), value: lan.objective + share * lan.objective.abs() }
        }
    }
}

/// A run beside its references, one cell for each of [`COLUMNS`].
fn cells(run: &Run, lan: &Run, bsp: &Run, target: &Target) -> [String; COLUMNS.len()] {
    let reached = |run: &Run| {
        let mut run = run.clone();
        simulator::judge(&mut run, target);
        run.seconds_to_target.zip(run.wan_bytes_to_target)
    };
    let or_never = |cell: Option<String>| cell.unwrap_or_else(|| "never".into());
    let (at, at_lan, at_bsp) = (reached(run), reached(lan), reached(bsp));
    let held = |why: &str| run.holds.get(why).copied().unwrap_or_default();
    [
        run.strategy.clone(),
        format!("{:.4}", run.objective),
        format!("{:.4}", run.metric.value),
        or_never(at.map(|(_, bytes)| format!("{:.3}", bytes as f64 / 1e6))),
        or_never(at.zip(at_bsp).map(|(run, bsp)| match run.1 {
            0 => "-".into(),
            bytes => format!("{:.1}x", bsp.1 as f64 / bytes as f64),
        })),
        or_never(at.map(|(seconds, _)| format!("{seconds:.1}"))),
        or_never(at.zip(at_lan).map(|(run, lan)| format!("{:.2}x", run.0 / lan.0))),
        format!("{:.3}", run.clock_seconds),
        format!("{:.2}x", run.clock_seconds / lan.clock_seconds),
        run.filter_hit_rate.map_or("-".into(), |rate| format!("{:.2} %", 100.0 * rate)),
        format!("{:.1} / {:.1}", held("barrier"), held("mirror_clock")),
    ]
}
