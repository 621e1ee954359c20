//! A model of one's own: Poisson regression of bicycle trips, with a table of stations and a table
//! of hours.
//!
//! How many trips start at station `s` in hour `h` of the week is taken to be Poisson distributed
//! with the rate `exp(a_s + b_h)`: stations differ by size, hours by habit. The objective is the
//! mean negative log-likelihood of the counts, `mean(exp(a_s + b_h) - k (a_s + b_h))` up to a
//! constant. Each city's counts stay in its own region, and all of them train one model.
//!
//! The counts are synthetic, so the true rates are known and the model can be judged by how near it
//! gets. It is trained over three simulated regions: `cargo run --release --example bicycle_trips`.

use std::error::Error;
use std::time::Duration;

use datacenter::{TableId, TableSpec};
use emulation::link::LinkConfig;
use gaia::job::Job;
use gaia::job::scenario::{ComputeSettings, Simulation};
use gaia::job::strategy::Strategy;
use gaia::learning::application::{
    Application, Evaluation, Learner, Metric, Model, RowSet, StepError, Tables, Work,
};
use gaia::program::progress::Silent;
use gaia::program::report;
use gaia::program::report::Style;
use gaia::simulator::results::Comparison;
use gaia::simulator::{SimulationError, compare_application};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const STATIONS: TableId = TableId(0);
const HOURS: TableId = TableId(1);
const STATION_COUNT: u32 = 2000;
const HOUR_COUNT: u32 = 7 * 24;

/// A station's trips in one hour.
struct Observation {
    station: u32,
    hour: u32,
    trips: f32,
}

/// The model and its data.
struct BicycleTrips {
    observations: Vec<Observation>,
}

/// The rate that the synthetic trips follow: rush hours on weekdays, a slow weekend, larger
/// stations first.
fn true_log_rate(station: u32, hour: u32) -> f64 {
    let size = 1.5 - 2.0 * f64::from(station) / f64::from(STATION_COUNT);
    let rush = match (hour / 24, hour % 24) {
        (0..5, 7..10 | 16..19) => 1.0,
        (_, 0..=5) => -1.0,
        _ => 0.0,
    };
    size + rush
}

impl BicycleTrips {
    fn synthetic(weeks: u32, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut observe = |station, hour| {
            // Knuth's method: events of a Poisson process within one unit of time.
            let limit = libm::exp(-libm::exp(true_log_rate(station, hour)));
            let (mut trips, mut product) = (0.0, random.random::<f64>());
            while product > limit {
                trips += 1.0;
                product *= random.random::<f64>();
            }
            Observation { station, hour, trips }
        };
        let week = || (0..STATION_COUNT).flat_map(|s| (0..HOUR_COUNT).map(move |h| (s, h)));
        Self { observations: (0..weeks).flat_map(|_| week()).map(|(s, h)| observe(s, h)).collect() }
    }
}

impl Application for BicycleTrips {
    fn tables(&self) -> Vec<TableSpec> {
        let table = |name: &str, rows| TableSpec::new(name, rows, 1);
        vec![table("stations", STATION_COUNT), table("hours", HOUR_COUNT)]
    }

    fn initialise(&self, _table: TableId, _row: u32, _out: &mut [f32]) {}

    /// A city is a range of stations, and nobody moves its counts elsewhere.
    fn partition(&self, parts: usize) -> Vec<Vec<u32>> {
        let mut result = vec![Vec::new(); parts];
        for (index, observation) in (0..).zip(&self.observations) {
            result[observation.station as usize * parts / STATION_COUNT as usize].push(index);
        }
        result
    }

    fn learner(&self, examples: Vec<u32>, _share: f64, _seed: u64) -> Box<dyn Learner + '_> {
        Box::new(Counter { data: self, examples })
    }

    fn evaluate(&self, model: &Model) -> Evaluation {
        let (mut loss, mut error) = (0.0, 0.0);
        for o in &self.observations {
            let log_rate = f64::from(model.row(STATIONS, o.station)[0] + model.row(HOURS, o.hour)[0]);
            loss += libm::exp(log_rate) - f64::from(o.trips) * log_rate;
            error += (log_rate - true_log_rate(o.station, o.hour)).abs();
        }
        let count = self.observations.len() as f64;
        let metric =
            Metric { name: "log_rate_error", value: error / count, larger_is_better: false, best: Some(0.0) };
        Evaluation { objective: loss / count, metric }
    }
}

/// One worker: goes through all its counts every clock.
struct Counter<'a> {
    data: &'a BicycleTrips,
    examples: Vec<u32>,
}

impl Learner for Counter<'_> {
    fn rows(&mut self, _clock: u32, rows: &mut RowSet) {
        for &example in &self.examples {
            let observation = &self.data.observations[example as usize];
            rows.insert(STATIONS, observation.station);
            rows.insert(HOURS, observation.hour);
        }
    }

    fn step(&mut self, _clock: u32, tables: &mut dyn Tables) -> Result<Work, StepError> {
        // A row's gradient is summed over all its observations: the step size is for their mean.
        let count = self.data.observations.len() as f32;
        let station_rate = 0.03 * STATION_COUNT as f32 / count;
        let hour_rate = 0.03 * HOUR_COUNT as f32 / count;
        for &example in &self.examples {
            let o = &self.data.observations[example as usize];
            let rate = libm::expf(tables.row(STATIONS, o.station)[0] + tables.row(HOURS, o.hour)[0]);
            let surprise = o.trips - rate;
            tables.add(STATIONS, o.station, &[station_rate * surprise]);
            tables.add(HOURS, o.hour, &[hour_rate * surprise]);
        }
        Ok(Work::examples(self.examples.len() as u64))
    }
}

/// Three regions with two workers each, joined by links of 20 Mbit/s and 80 ms; a clock takes about
/// half a second.
fn over_three_regions(clocks: u32) -> Simulation {
    let mut job = Job::of_own_model("bicycle-trips", clocks);
    job.evaluate_every = 5;
    let regions = [("virginia", 2), ("ireland", 2), ("singapore", 2)];
    let compute = ComputeSettings { examples_per_second: 120_000.0, overhead: Duration::ZERO, jitter: 0.05 };
    Simulation::new(job, &regions, compute, |_, _| LinkConfig::clean(2_500_000, Duration::from_millis(80)))
}

fn compare(simulation: &Simulation) -> Result<Comparison, SimulationError> {
    let application = BicycleTrips::synthetic(1, simulation.seed);
    compare_application(simulation, &application, &[Strategy::Lan, Strategy::Asp, Strategy::Bsp], &Silent)
}

fn main() -> Result<(), Box<dyn Error>> {
    let simulation = over_three_regions(120);
    let comparison = compare(&simulation)?;
    let style = Style { width: 100, styled: false };
    print!("{}", report::comparison(&comparison, &simulation.job.target, style));
    Ok(())
}

#[test]
fn every_strategy_reaches_the_target_and_asp_with_fewer_bytes() {
    let runs = compare(&over_three_regions(60)).expect("it runs").runs;
    let bytes = |strategy: Strategy| {
        let run = runs.iter().find(|run| run.strategy == strategy.name()).expect("it was asked for");
        run.wan_bytes_to_target.expect("it reached the target")
    };
    assert!(bytes(Strategy::Asp) * 2 < bytes(Strategy::Bsp));
}
