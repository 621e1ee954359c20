//! How the shipped simulations were tuned: runs a grid of settings over a simulation file, as many
//! runs at once as there are processors, and prints a Markdown table.
//!
//! ```text
//! cargo run --release --example sweep -- configs/simulations/three-regions.toml \
//!     --vary job.asp.function=absolute,table-rms --vary job.asp.threshold=0.02,0.05,0.1 --set job.clocks=100
//! ```
//!
//! `--vary KEY=A,B,C` makes one axis of the grid (every combination is run), `--set KEY=VALUE`
//! holds for all of it, and `--data-path DIR` is short for `--set job.data.path=DIR`. `--strategies
//! asp,bsp` says what gets rows (default `asp`), `--columns objective,seconds` which columns there
//! are (default all).
//!
//! `--variant "NAME: KEY=VALUE; KEY=VALUE"` makes a row of its own at every point of the grid: what
//! one thing less costs.
//!
//! What a clock costs is swept as an axis too: with examples that cost nothing, only the overhead
//! is left.
//!
//! ```text
//! cargo run --release --example sweep -- configs/simulations/three-regions.toml --strategies asp,bsp,stretched \
//!     --set compute.examples_per_second=1e12 --vary compute.overhead=20ms,100ms,500ms,5s
//! ```
//!
//! Every row is judged by `lan` (target, time) and `bsp` (bytes) of the same settings; those are
//! run once for all rows that differ in `job.asp` alone, since neither has a filter. Times and
//! bytes are those to the target. The results are in docs/MEASUREMENTS.md, whose tables the example
//! `measurements` keeps up to date.

mod grid;

use clap::Parser;
use gaia::settings::Overrides;

fn main() -> Result<(), grid::Failure> {
    print!("{}", grid::table(&grid::Arguments::parse(), &Overrides::from_environment()?)?);
    Ok(())
}
