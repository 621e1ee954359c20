//! A training loop of one's own around a worker's connection: linear regression on data that each
//! worker draws for itself.
//!
//! The job's file says `model.kind = "external"` and which tables there are; `gaia server` serves
//! them, and this program trains in the place of `gaia worker`:
//!
//! ```text
//! gaia worker --config virginia.toml --index 0 -- own_loop
//! gaia demo --job gaia/examples/own_loop.toml -- target/debug/examples/own_loop
//! ```

use std::error::Error;
use std::process::ExitCode;

use gaia::ndarray::{Array1, Array2, Axis};
use gaia::service::{Connection, logs};

const FEATURES: usize = 32;
const BATCH: usize = 64;

/// A generator that is good enough for an example: splitmix64.
struct Random(u64);

impl Random {
    /// Uniform from -1 to 1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// What is to be found out; shape `[features]`.
fn truth() -> Array1<f32> {
    (0..FEATURES).map(|feature| (feature % 7) as f32 - 3.0).collect()
}

async fn train() -> Result<ExitCode, Box<dyn Error>> {
    let mut job = Connection::from_environment().await?;
    let weights = job.table("weights").ok_or("the job has no table weights")?;
    let rows: Vec<u32> = (0..FEATURES as u32).collect();
    let mut random = Random(job.rank().into());
    let rate = 0.5 / job.world_size() as f32;
    while !job.is_done() {
        let w = job.read(weights, &rows).await?.index_axis(Axis(1), 0).to_owned();
        let x = Array2::from_shape_fn((BATCH, FEATURES), |_| random.next());
        // The gradient of the mean squared error over the batch.
        let error = x.dot(&(w - truth()));
        let gradient = x.t().dot(&error) * (2.0 / BATCH as f32);
        job.add(weights, &rows, (gradient * -rate).insert_axis(Axis(1)).view())?;
        job.clock().await?;
    }
    let lacks = job.finish().await?;
    let found = job.values(weights, &rows)?;
    let furthest =
        (&found.index_axis(Axis(1), 0) - &truth()).fold(0.0_f32, |most, apart| most.max(apart.abs()));
    println!("rank {} of {}: within {furthest:.4} of the truth", job.rank(), job.world_size());
    job.leave().await?;
    if let Some(lacks) = lacks {
        eprintln!("error: the job has ended without all updates of {lacks}");
        // As gaia worker says it.
        return Ok(ExitCode::from(3));
    }
    Ok(ExitCode::SUCCESS)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    // Logs as those of `gaia worker`, on standard error.
    if let (Ok(region), Ok(rank)) = (std::env::var("GAIA_REGION"), std::env::var("GAIA_WORKER")) {
        let process = logs::Process { region, role: format!("worker-{rank}") };
        logs::init_process(gaia::job::region::LogFormat::Text, &process);
    }
    // The connection answers for this worker while it computes: so it needs threads of its own.
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(train())
}
