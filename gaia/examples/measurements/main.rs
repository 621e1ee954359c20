//! Writes what commands print into the documents that show it: the README's first result, and the
//! tables of docs/MEASUREMENTS.md.
//!
//! ```text
//! cargo run --release --example measurements                        what takes seconds and needs no data
//! cargo run --release --example measurements -- --slow --data DIR   everything; DIR has mnist/ and ml-100k/
//! cargo run --release --example measurements -- --check             tells what is out of date, and changes nothing
//! ```
//!
//! `--only TEXT` takes the commands that contain it. How a document says what is printed by what
//! stands in `document`.

mod document;
#[path = "../sweep/grid.rs"]
mod grid;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use gaia::settings::Overrides;

use self::document::Block;
use self::grid::Failure;

#[derive(Parser)]
struct Arguments {
    /// Change nothing, and fail if anything is out of date
    #[arg(long)]
    check: bool,
    /// Run what takes minutes, too
    #[arg(long)]
    slow: bool,
    /// A directory with mnist/ and ml-100k/
    #[arg(long)]
    data: Option<PathBuf>,
    /// Only commands that contain this
    #[arg(long)]
    only: Option<String>,
    /// The program, if it is not to be built
    #[arg(long)]
    gaia: Option<PathBuf>,
}

/// What stands in a command for the directory of data sets.
const DATA: &str = "DATA/";

fn main() -> Result<ExitCode, Failure> {
    let mut arguments = Arguments::parse();
    arguments.data = arguments.data.map(fs::canonicalize).transpose()?;
    arguments.gaia = arguments.gaia.map(fs::canonicalize).transpose()?;
    env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))?;
    let mut printed = BTreeMap::new();
    let mut is_stale = false;
    for path in documents()? {
        let text = fs::read_to_string(&path)?;
        let blocks = document::blocks(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        for block in blocks.iter().filter(|block| is_wanted(block, &arguments)) {
            if !printed.contains_key(&block.command) {
                eprintln!("{}", block.command);
                printed.insert(block.command.clone(), run(&block.command, &arguments)?);
            }
            let now = &printed[&block.command];
            if *now != block.text {
                let (place, command) = (format!("{}:{}", path.display(), block.line), &block.command);
                eprintln!("{place}: out of date: {command}\n{}", difference(&block.text, now));
                is_stale = true;
            }
        }
        if !arguments.check {
            write(&path, &printed)?;
        }
    }
    let failed = is_stale && arguments.check;
    if failed {
        eprintln!("`cargo run --release --example measurements` brings them up to date");
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Puts what commands have printed into a document, which somebody may have written in while they
/// ran.
fn write(path: &Path, printed: &BTreeMap<String, String>) -> Result<(), Failure> {
    let text = fs::read_to_string(path)?;
    let blocks = document::blocks(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let fresh = blocks.into_iter().filter_map(|block| {
        let now = printed.get(&block.command)?.clone();
        Some((block, now))
    });
    let now = document::replaced(&text, &fresh.collect::<Vec<_>>());
    if now != text {
        fs::write(path, now)?;
    }
    Ok(())
}

fn documents() -> Result<Vec<PathBuf>, Failure> {
    let mut documents = vec![PathBuf::from("README.md")];
    for entry in fs::read_dir("docs")? {
        documents.push(entry?.path());
    }
    documents.sort();
    Ok(documents)
}

fn is_wanted(block: &Block, arguments: &Arguments) -> bool {
    (arguments.slow || !block.is_slow)
        && (arguments.data.is_some() || !block.command.contains(DATA))
        && arguments.only.as_ref().is_none_or(|only| block.command.contains(only))
}

/// What `command` prints.
fn run(command: &str, arguments: &Arguments) -> Result<String, Failure> {
    let data = arguments.data.as_ref().map(|data| format!("{}/", data.display()));
    let words: Vec<String> =
        command.split(' ').map(|word| word.replace(DATA, data.as_deref().unwrap_or(DATA))).collect();
    match words.first().map(String::as_str) {
        Some("sweep") => grid::table(&grid::Arguments::try_parse_from(&words)?, &Overrides::default()),
        Some("gaia") => gaia(&words[1..], arguments.gaia.as_deref()),
        _ => Err(format!("`{command}` is neither sweep nor gaia").into()),
    }
}

/// What the program prints, as it is now and as it looks where there is no terminal.
fn gaia(words: &[String], program: Option<&Path>) -> Result<String, Failure> {
    let mut command = match program {
        Some(program) => Command::new(program),
        None => {
            let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            command.args(["run", "--quiet", "--release", "--bin", "gaia", "--"]);
            command
        }
    };
    command.args(words).stderr(Stdio::inherit());
    for (key, _) in env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("GAIA__")) {
        command.env_remove(key);
    }
    let output = command.env("COLUMNS", "100").output()?;
    if !output.status.success() {
        return Err(format!("gaia {}: {}", words.join(" "), output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The lines that are gone, and those that are new.
fn difference(before: &str, now: &str) -> String {
    let only_in = |here: &str, there: &str, sign: &str| {
        let lines: Vec<&str> = there.lines().collect();
        let only = here.lines().filter(|line| !lines.contains(line));
        only.map(|line| format!("  {sign} {line}\n")).collect::<String>()
    };
    only_in(before, now, "-") + &only_in(now, before, "+")
}
