//! One worker's connection, as Python holds it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gaia::learning::application::{RowSet, TableId};
use gaia::service::{Connection, ServiceError, Who, logs};
use pyo3::prelude::*;
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::buffers;
use crate::errors::{of_class, of_connect, of_service};

/// How often a wait looks whether a signal has come.
const LOOK: Duration = Duration::from_millis(50);

/// A table's name, rows, width, and whether it takes changes.
type Shape = (String, u32, u32, bool);

/// A worker's connection to the servers of its region. `gaia.Job` is what users see of it.
#[pyclass(frozen, module = "gaia._gaia")]
pub(crate) struct Job {
    runtime: Runtime,
    /// None once it has left. Whoever asks something of it has it alone meanwhile.
    connection: Arc<Mutex<Option<Connection>>>,
    /// Ends what it waits for.
    stopper: Option<watch::Sender<bool>>,
    tables: Vec<Shape>,
    about: About,
}

/// What does not change.
#[derive(Clone)]
struct About {
    name: String,
    region: String,
    regions: Vec<String>,
    worker: u32,
    rank: u32,
    world_size: u32,
    clocks: u32,
    seed: u64,
}

/// The connection, for one call.
type Held = OwnedMutexGuard<Option<Connection>>;

#[pymethods]
impl Job {
    /// Connects as a worker of a region; what is not said, the environment says.
    #[new]
    #[pyo3(signature = (config=None, worker=None, settings=Vec::new(), log=true))]
    fn new(
        py: Python<'_>,
        config: Option<PathBuf>,
        worker: Option<u32>,
        settings: Vec<(String, String)>,
        log: bool,
    ) -> PyResult<Self> {
        let who = Who { config, worker, set: settings };
        let (region, worker) = who.load().map_err(|error| of_connect(py, &error))?;
        if log {
            let process = logs::Process { region: region.name.clone(), role: format!("worker-{worker}") };
            // Another connection of this process may have done so already.
            let _ = logs::try_init_process(region.log, &process);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let regions = region.members.iter().map(|member| member.name.clone()).collect();
        let (name, region_name) = (region.job.name.clone(), region.name.clone());
        let (clocks, seed) = (region.job.clocks, region.seed);
        let task = runtime.spawn(Connection::connect(region, worker));
        let connection = wait(py, &runtime, task)?.map_err(|error| of_service(py, &error))?;
        let about = About {
            name,
            region: region_name,
            regions,
            worker,
            rank: connection.rank(),
            world_size: connection.world_size(),
            clocks,
            seed,
        };
        let shape = |spec: &gaia::learning::application::TableSpec| {
            (spec.name.clone(), spec.rows, spec.width, spec.rule.takes_changes())
        };
        let tables = connection.tables().iter().map(shape).collect();
        let stopper = connection.stopper();
        Ok(Self { runtime, stopper, connection: Arc::new(Mutex::new(Some(connection))), tables, about })
    }

    #[getter]
    fn name(&self) -> &str {
        &self.about.name
    }

    #[getter]
    fn region(&self) -> &str {
        &self.about.region
    }

    #[getter]
    fn regions(&self) -> Vec<String> {
        self.about.regions.clone()
    }

    #[getter]
    fn worker(&self) -> u32 {
        self.about.worker
    }

    #[getter]
    fn rank(&self) -> u32 {
        self.about.rank
    }

    #[getter]
    fn world_size(&self) -> u32 {
        self.about.world_size
    }

    #[getter]
    fn clocks(&self) -> u32 {
        self.about.clocks
    }

    #[getter]
    fn seed(&self) -> u64 {
        self.about.seed
    }

    #[getter]
    fn tables(&self) -> Vec<Shape> {
        self.tables.clone()
    }

    /// How many clocks are completed.
    fn clock_number(&self, py: Python<'_>) -> PyResult<u32> {
        let held = self.hold(py)?;
        Ok(self.held(py, &held)?.clock_number())
    }

    /// Why the last read that was held was held: name, region, seconds.
    fn held_by(&self, py: Python<'_>) -> PyResult<Vec<(&'static str, Option<String>, f64)>> {
        let held = self.hold(py)?;
        let reasons = self.held(py, &held)?.held_by().iter();
        Ok(reasons.map(|held| (held.why, held.region.clone(), held.time.as_secs_f64())).collect())
    }

    /// Makes rows of several tables fresh enough, all at once.
    fn fetch(&self, py: Python<'_>, wanted: Vec<(u16, Option<Bound<'_, PyAny>>)>) -> PyResult<()> {
        let mut set = RowSet::new(self.tables.len());
        for (table, rows) in wanted {
            let (_, count, ..) = self.shape(py, table)?;
            match rows {
                None => set.insert_all(TableId(table), *count),
                Some(rows) => set.extend(TableId(table), buffers::rows(py, Some(&rows), *count)?),
            }
        }
        let connection = self.connection.clone();
        self.wait_for(py, async move {
            let mut held = connection.lock_owned().await;
            match held.as_mut() {
                Some(connection) => connection.fetch(&mut set).await.map(Some),
                None => Ok(None),
            }
        })
    }

    /// Writes the values of rows that were fetched into `out`.
    fn values_into(
        &self,
        py: Python<'_>,
        table: u16,
        rows: Option<&Bound<'_, PyAny>>,
        out: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let rows = buffers::rows(py, rows, self.shape(py, table)?.1)?;
        let held = self.hold(py)?;
        let values = self.held(py, &held)?.values(TableId(table), &rows);
        buffers::write(py, &values.map_err(|error| of_service(py, &error))?, out)
    }

    /// Adds to rows; all or nothing.
    fn add(
        &self,
        py: Python<'_>,
        table: u16,
        rows: Option<&Bound<'_, PyAny>>,
        deltas: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (_, count, width, _) = self.shape(py, table)?;
        let rows = buffers::rows(py, rows, *count)?;
        let deltas = buffers::values(py, deltas, [rows.len(), *width as usize])?;
        let mut held = self.hold(py)?;
        let added = held.as_mut().ok_or_else(|| left(py))?.add(TableId(table), &rows, deltas.view());
        added.map_err(|error| of_service(py, &error))
    }

    /// Takes back what was added since the last clock.
    fn discard(&self, py: Python<'_>) -> PyResult<()> {
        let mut held = self.hold(py)?;
        held.as_mut().ok_or_else(|| left(py))?.discard();
        Ok(())
    }

    /// Ends the clock; yields how many are completed.
    fn clock(&self, py: Python<'_>) -> PyResult<u32> {
        let connection = self.connection.clone();
        self.wait_for(py, async move {
            let mut held = connection.lock_owned().await;
            match held.as_mut() {
                Some(connection) => connection.clock().await.map(Some),
                None => Ok(None),
            }
        })
    }

    /// Waits until the job is done everywhere; yields what the result lacks.
    fn finish(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let connection = self.connection.clone();
        self.wait_for(py, async move {
            let mut held = connection.lock_owned().await;
            match held.as_mut() {
                Some(connection) => connection.finish().await.map(Some),
                None => Ok(None),
            }
        })
    }

    /// Leaves the servers. A wait that is still going on is asked to end first.
    fn leave(&self, py: Python<'_>, stop: bool) -> PyResult<()> {
        if let (true, Some(stopper)) = (stop, &self.stopper) {
            stopper.send_replace(true);
        }
        let connection = self.connection.clone();
        let left = async move {
            let taken = connection.lock_owned().await.take();
            match taken {
                Some(connection) => connection.leave().await.map(Some),
                None => Ok(Some(())),
            }
        };
        self.wait_for(py, left)
    }
}

/// What is asked of a connection that has left.
fn left(py: Python<'_>) -> PyErr {
    of_class(py, "EndedError", "this worker has left its servers already".to_owned())
}

impl Job {
    fn shape(&self, py: Python<'_>, table: u16) -> PyResult<&Shape> {
        self.tables.get(usize::from(table)).ok_or_else(|| {
            let error = ServiceError::NoTable { found: TableId(table), tables: self.tables.len() };
            of_service(py, &error)
        })
    }

    fn held<'a>(&self, py: Python<'_>, held: &'a Held) -> PyResult<&'a Connection> {
        held.as_ref().ok_or_else(|| left(py))
    }

    /// The connection, once no other call has it.
    fn hold(&self, py: Python<'_>) -> PyResult<Held> {
        if let Ok(held) = self.connection.clone().try_lock_owned() {
            return Ok(held);
        }
        let connection = self.connection.clone();
        wait(py, &self.runtime, self.runtime.spawn(async move { connection.lock_owned().await }))
    }

    /// What `task` yields; none stands for a connection that has left.
    fn wait_for<T: Send + 'static>(
        &self,
        py: Python<'_>,
        task: impl Future<Output = Result<Option<T>, ServiceError>> + Send + 'static,
    ) -> PyResult<T> {
        let done = wait(py, &self.runtime, self.runtime.spawn(task))?;
        done.map_err(|error| of_service(py, &error))?.ok_or_else(|| left(py))
    }
}

/// What `task` yields, unless a signal's handler raises something before.
fn wait<T: Send + 'static>(py: Python<'_>, runtime: &Runtime, mut task: JoinHandle<T>) -> PyResult<T> {
    loop {
        let looked = py.detach(|| runtime.block_on(async { timeout(LOOK, &mut task).await }));
        match looked {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(failed)) => std::panic::resume_unwind(failed.into_panic()),
            Err(_) => py.check_signals()?,
        }
    }
}
