//! One worker at the tables of its region, without the loop: for who has a loop of their own.
//!
//! A [`Connection`] reads rows, adds deltas to them and ends clocks. Servers come and go meanwhile,
//! and it goes on: that a server is away is a read that takes longer. `gaia worker` is a learner and
//! a loop around one of these.
//!
//! ```no_run
//! use gaia::job::config;
//! use gaia::learning::models;
//! use gaia::ndarray::Array2;
//! use gaia::service::{Connection, ServiceError};
//! use gaia::settings::Overrides;
//!
//! # async fn train() -> Result<(), Box<dyn std::error::Error>> {
//! let region = config::load_region("virginia.toml".as_ref(), &Overrides::default(), &models::kinds())?;
//! let mut connection = Connection::connect(region, 0).await?;
//! let items = connection.table("items").ok_or("the job has no items")?;
//! let rows = [7, 3, 12];
//! while !connection.is_done() {
//!     let values = connection.read(items, &rows).await?;
//!     let deltas: Array2<f32> = &values * -0.1;
//!     connection.add(items, &rows, deltas.view())?;
//!     connection.clock().await?;
//! }
//! connection.finish().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Kind: driver; `sessions` is how it joins its servers, leaves them, and joins them again.

mod environment;
mod held;
mod sessions;

use std::panic::resume_unwind;
use std::sync::Arc;

use datacenter::client::Client;
use datacenter::{Clock, TableId, TableSpec};
use ndarray::{Array2, ArrayView2, CowArray, Ix2};
use tokio::sync::watch;
use tokio::time::Instant;

pub use self::environment::{CONFIG_VARIABLE, ConnectError, WORKER_VARIABLE, Who};
pub use self::held::Held;
use self::sessions::{Between, Joined};
pub(super) use self::sessions::{Completion, Ended, Fetched, asked};
use super::notes::Notes;
use super::part::Part;
use super::process::{Front, worker_route};
use super::session::Route;
use super::setup::Setup;
use super::{ServiceError, report};
use crate::job::region::Region;
use crate::learning::application::RowSet;

/// A worker's connection to the servers of its region.
///
/// Its methods wait as the job has it: a read returns once every row is as fresh as `job.staleness`
/// asks for and nothing of another region has to be waited for. Where a server stops, starts anew or
/// is away, they wait for it and go on with the session that follows; what was added since the last
/// [`clock`](Self::clock) is added there again.
///
/// A worker that was cut off for long may find that the others went on without it: the next read
/// then moves [`clock_number`](Self::clock_number) on to where they are.
///
/// Their futures are made to be awaited to the end, by a runtime of several threads: while a learner
/// computes, the others answer for the connection. A read that is dropped before it has ended costs
/// a new session with the servers, and nothing else; of others that are dropped, what was added since
/// the last clock may be lost.
pub struct Connection {
    setup: Arc<Setup>,
    index: u32,
    route: Route,
    stop: watch::Receiver<bool>,
    notes: Notes,
    between: Between,
    joined: Option<Joined>,
    /// Whether a read was begun and has not ended.
    is_reading: bool,
    held: Vec<Held>,
    /// Of a process that has nothing else: what it shows of itself.
    front: Option<Front>,
    /// Asks the connection to stop, where nobody else does.
    stopper: Option<watch::Sender<bool>>,
}

impl Connection {
    /// Connects to the servers of `region` as its worker `index`, and waits until all of them are
    /// there.
    ///
    /// # Errors
    ///
    /// If there is no such worker, its certificates, data or ports cannot be used, or the servers
    /// refuse it.
    pub async fn connect(region: Region, index: u32) -> Result<Self, ServiceError> {
        let part = Part::Worker(index);
        part.check(&region)?;
        let mut front = Front::open(&region, part, Instant::now()).await?;
        #[expect(clippy::disallowed_methods, reason = "this is real time, in which reading takes long")]
        let reading = tokio::task::spawn_blocking(move || Setup::new(region, part)).await;
        let setup = Arc::new(reading.unwrap_or_else(|failed| resume_unwind(failed.into_panic()))?);
        tracing::info!(job = setup.region.job.name, digest = report::short(&setup.digest), "starting");
        let notes = Notes::new(index);
        let refusals = front.answer(&setup, part, Arc::default(), vec![notes.clone()]);
        let route = worker_route(&setup, index, &front.identities, &refusals);
        let (stopper, stop) = watch::channel(false);
        let mut connection = Self::new(setup, index, route, stop, notes);
        (connection.front, connection.stopper) = (Some(front), Some(stopper));
        match connection.join().await? {
            None => Ok(connection),
            Some(_) => Err(connection.ended()),
        }
    }

    /// A connection over `route` that has joined nobody yet. It leaves in order when `stop` turns
    /// true.
    pub(super) fn new(
        setup: Arc<Setup>,
        index: u32,
        route: Route,
        stop: watch::Receiver<bool>,
        notes: Notes,
    ) -> Self {
        Self {
            setup,
            index,
            route,
            stop,
            notes,
            between: Between::default(),
            joined: None,
            is_reading: false,
            held: Vec::new(),
            front: None,
            stopper: None,
        }
    }

    /// What is trained, where and how.
    pub fn region(&self) -> &Region {
        &self.setup.region
    }

    /// Its index among the workers of its region.
    pub fn worker(&self) -> u32 {
        self.index
    }

    /// Its index among the workers of all regions, in the order of the job's file.
    pub fn rank(&self) -> u32 {
        self.setup.region.first_worker() + self.index
    }

    /// How many workers all regions have together.
    pub fn world_size(&self) -> u32 {
        self.setup.region.all_workers()
    }

    /// The tables of the job, in the order of their ids.
    pub fn tables(&self) -> &[TableSpec] {
        &self.setup.specs
    }

    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<TableId> {
        let place = self.setup.specs.iter().position(|spec| spec.name == name)?;
        Some(TableId(place as u16))
    }

    /// How many clocks it has completed, or has left out where others went on without it.
    pub fn clock_number(&self) -> u32 {
        let joined = self.joined.as_ref().map(|joined| joined.session.cache().clock());
        joined.unwrap_or_default().max(self.between.seen).0
    }

    /// Whether all clocks of the job are completed.
    pub fn is_done(&self) -> bool {
        self.clock_number() >= self.setup.region.job.clocks
    }

    /// Why the last read that was held was held, and for how long: the longest reason first. Empty
    /// where none was.
    pub fn held_by(&self) -> &[Held] {
        &self.held
    }

    /// Asks this connection to stop: what it waits for ends with an error, after what was said has
    /// been delivered. Clones ask for the same.
    ///
    /// None for a connection that its process stops.
    pub fn stopper(&self) -> Option<watch::Sender<bool>> {
        self.stopper.clone()
    }

    /// Reads rows: their values, shape `[rows, width]`, in the order in which they are named, with
    /// what this worker has added. Rows that are named in ascending order without a gap are shown
    /// where they lie; others are copied.
    ///
    /// # Errors
    ///
    /// If a row does not exist, or the connection [has ended](Self#method.fetch).
    pub async fn read(
        &mut self,
        table: TableId,
        rows: &[u32],
    ) -> Result<CowArray<'_, f32, Ix2>, ServiceError> {
        let mut set = RowSet::new(self.setup.specs.len());
        self.check_rows(table, rows)?;
        set.extend(table, rows.iter().copied());
        self.fetch(&mut set).await?;
        self.values(table, rows)
    }

    /// Makes rows of any tables fresh enough, all at once, to be had from
    /// [`values`](Self::values) then.
    ///
    /// # Errors
    ///
    /// If a row does not exist, a server has refused what was said, or the connection has ended:
    /// somebody has asked it to stop, or the region leaves the job for good.
    pub async fn fetch(&mut self, rows: &mut RowSet) -> Result<(), ServiceError> {
        for table in (0..self.setup.specs.len() as u16).map(TableId) {
            self.check_rows(table, rows.declared(table))?;
        }
        loop {
            match self.join().await?.is_some() {
                true => return Err(self.ended()),
                false => match self.fetch_once(rows).await? {
                    Fetched::Ready => return Ok(()),
                    Fetched::Moved => {}
                    Fetched::Ended(_) => return Err(self.ended()),
                },
            }
        }
    }

    /// The values of rows that were read, shape `[rows, width]`, as [`read`](Self::read) gives them.
    ///
    /// # Errors
    ///
    /// If a row does not exist or was never read, or the connection has ended.
    pub fn values(&self, table: TableId, rows: &[u32]) -> Result<CowArray<'_, f32, Ix2>, ServiceError> {
        self.check_rows(table, rows)?;
        let joined = self.joined.as_ref().ok_or_else(|| self.ended())?;
        let client = joined.session.cache();
        if let Some(&row) = rows.iter().find(|row| !client.has_read(table, **row)) {
            let table = self.setup.specs[table.index()].name.clone();
            return Err(ServiceError::Unread { table, row });
        }
        let width = client.width(table);
        let shape = (rows.len(), width);
        let is_block = rows.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        if let Some(first) = rows.first().filter(|_| is_block) {
            let block = &client.values(table)[*first as usize * width..][..rows.len() * width];
            return Ok(ArrayView2::from_shape(shape, block).expect("a block is as long as its rows").into());
        }
        let mut values = Vec::with_capacity(rows.len() * width);
        rows.iter().for_each(|&row| values.extend_from_slice(client.row(table, row)));
        Ok(Array2::from_shape_vec(shape, values).expect("as many rows as are named").into())
    }

    /// Adds `deltas`, shape `[rows, width]`, to rows: seen here at once, by others after
    /// [`clock`](Self::clock). A row that is named twice gets both. Where the table has a
    /// [rule](datacenter::rule), these are gradients, and what came of them is seen when the rows are
    /// read again.
    ///
    /// # Errors
    ///
    /// If a row does not exist, the shape is another, or the connection has ended; then nothing is
    /// added.
    pub fn add(
        &mut self,
        table: TableId,
        rows: &[u32],
        deltas: ArrayView2<'_, f32>,
    ) -> Result<(), ServiceError> {
        self.check_rows(table, rows)?;
        let spec = &self.setup.specs[table.index()];
        let expected = [rows.len(), spec.width as usize];
        if deltas.shape() != expected {
            let found = [deltas.nrows(), deltas.ncols()];
            return Err(ServiceError::DeltaShape { table: spec.name.clone(), found, expected });
        }
        if self.joined.is_none() {
            return Err(self.ended());
        }
        let client = self.client();
        let mut copy = Vec::new();
        for (&row, delta) in rows.iter().zip(deltas.rows()) {
            match delta.as_slice() {
                Some(delta) => client.add(table, row, delta),
                None => {
                    copy.clear();
                    copy.extend(delta);
                    client.add(table, row, &copy);
                }
            }
        }
        Ok(())
    }

    /// Takes back what was added since the last clock.
    pub fn discard(&mut self) {
        self.between.added.clear();
        if let Some(joined) = &mut self.joined {
            joined.session.client().discard();
        }
    }

    /// Ends the clock: what was added goes to the servers. Yields the new number of completed clocks.
    ///
    /// # Errors
    ///
    /// If the job has no more clocks; if what was added is NaN or infinite and the job refuses that:
    /// then nothing is sent, and the clock has not ended; or if the connection
    /// [has ended](Self#method.fetch).
    pub async fn clock(&mut self) -> Result<u32, ServiceError> {
        if self.is_done() {
            return Err(ServiceError::NoMoreClocks { clocks: self.setup.region.job.clocks });
        }
        match self.join().await?.is_some() || self.flush().await?.is_some() {
            true => Err(self.ended()),
            false => Ok(self.clock_number()),
        }
    }

    /// Waits until the job is done everywhere, once all clocks are completed: afterwards all rows are
    /// read anew, and [`values`](Self::values) has the result of the region. Yields what the result
    /// lacks, in words, if it lacks something. Where that is not to be had any more, since the region
    /// leaves or the connection was asked to stop, it is an error.
    ///
    /// To be followed by [`leave`](Self::leave).
    ///
    /// # Errors
    ///
    /// If clocks of the job are left, or the connection [has ended](Self#method.fetch).
    pub async fn finish(&mut self) -> Result<Option<String>, ServiceError> {
        if !self.is_done() {
            let (clock, clocks) = (self.clock_number(), self.setup.region.job.clocks);
            return Err(ServiceError::ClocksLeft { clock, clocks });
        }
        loop {
            match self.complete().await? {
                Completion::Again => {}
                Completion::Ended(_) => return Err(self.ended()),
                Completion::Settled(ended) => match self.fetch_result().await? {
                    None => {}
                    Some(false) => return Err(self.ended()),
                    Some(true) => return Ok(ended.lacks),
                },
            }
        }
    }

    /// Leaves the servers, and returns once they have all that was said. What was added since the
    /// last clock is given up. Before all clocks are completed, the servers wait for nobody in this
    /// worker's place: a connection as the same worker goes on where they are.
    ///
    /// A connection that is dropped says nothing: its servers wait for the worker until `grace` is
    /// over.
    ///
    /// # Errors
    ///
    /// If the servers cannot be told in time.
    pub async fn leave(mut self) -> Result<(), ServiceError> {
        self.notes.lock().is_finished = self.is_done();
        let parted = self.part_for_good().await;
        if let Some(front) = self.front.take() {
            front.close().await;
        }
        parted
    }

    fn check_rows(&self, table: TableId, rows: &[u32]) -> Result<(), ServiceError> {
        let Some(spec) = self.setup.specs.get(table.index()) else {
            return Err(ServiceError::NoTable { found: table, tables: self.setup.specs.len() });
        };
        match rows.iter().find(|row| **row >= spec.rows) {
            None => Ok(()),
            Some(&row) => Err(ServiceError::NoRow { table: spec.name.clone(), row, rows: spec.rows }),
        }
    }

    /// Why nothing can be done any more.
    fn ended(&self) -> ServiceError {
        ServiceError::Ended { worker: self.index, region: self.setup.region.name.clone() }
    }

    /// The worker's cache.
    ///
    /// # Panics
    ///
    /// If it has joined nobody.
    pub(super) fn client(&mut self) -> &mut Client {
        self.joined.as_mut().expect("only a worker that has joined its servers trains").session.client()
    }

    /// The clock that goes on.
    pub(super) fn at(&self) -> Clock {
        Clock(self.clock_number())
    }
}
