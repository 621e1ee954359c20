//! A worker's session with the shards of its datacenter, over channels.
//!
//! Requests go into one channel for each shard, answers come back through one of the worker's own.
//! Whether a shard's task reads the channel directly or a socket stands in between is not visible
//! from here.
//!
//! Channels are bounded: a shard that does not keep up slows its workers down. A worker has at most
//! one read waiting on each shard, so a channel for answers needs room for one from each.
//!
//! Kind: driver.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::client::{Client, NotFinite, UnexpectedReply};
use crate::message::{ReadReply, Request, Standing, Wait};
use crate::{Clock, ShardId, TableId, WorkerId};

/// Requests that may wait for a shard's task.
pub const REQUEST_QUEUE: usize = 1024;

/// Both directions of a worker's conversation with all shards.
#[derive(Debug)]
pub struct Port {
    /// Where requests to shard `i` go.
    pub shards: Vec<mpsc::Sender<(ShardId, Request)>>,
    /// Where answers come from.
    pub replies: mpsc::Receiver<ReadReply>,
}

/// What a worker's process, or its connection, asks of the task that owns the shards, besides
/// requests to them.
#[derive(Debug)]
pub enum Call {
    /// A session begins, or is resumed.
    Attach {
        /// Who.
        worker: WorkerId,
        /// Whether it is the first of its process, which trains once it has joined.
        is_new: bool,
        /// Where its answers go from now on.
        replies: mpsc::Sender<ReadReply>,
        /// Where to say why, if the task ends the session.
        refusal: Refusal,
        /// Where to tell how far the shards are.
        answer: oneshot::Sender<Vec<Standing>>,
    },
    /// Nothing has been heard of a worker for long: nobody should wait for it until it is back.
    Suspend {
        /// Who.
        worker: WorkerId,
        /// Where to tell whether that is so: it may have come back meanwhile, or have left.
        answer: oneshot::Sender<bool>,
    },
    /// A worker begins to train.
    Join {
        /// Who.
        worker: WorkerId,
        /// At which clock.
        clock: Clock,
        /// Where to tell its clock on each shard: where they differ, it joins again at the latest
        /// of them.
        answer: oneshot::Sender<Vec<(ShardId, Clock)>>,
    },
}

/// Why a session has been ended by the task that owns the shards: a request of it made no sense.
/// Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Refusal(Arc<OnceLock<String>>);

impl Refusal {
    /// Says why; what was said first counts.
    pub fn give(&self, reason: String) {
        let _ = self.0.set(reason);
    }

    /// Why, if the session has been ended.
    pub fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

/// A worker at its tables.
#[derive(Debug)]
pub struct Session {
    client: Client,
    port: Port,
}

/// Why a session ended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SessionError {
    /// A shard is gone.
    #[error("the connection to {0} is closed")]
    Closed(ShardId),
    /// All shards are gone.
    #[error("the shards closed the connection")]
    NoReply,
    /// A shard does not keep to the protocol.
    #[error(transparent)]
    Unexpected(#[from] UnexpectedReply),
    /// A server has refused what the worker said.
    #[error("a server of its region has ended the session: {0}")]
    Refused(String),
    /// The worker's own model has diverged.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
}

impl Session {
    /// A session of `client` over `port`.
    ///
    /// # Panics
    ///
    /// If the port does not have a channel for each shard.
    pub fn new(client: Client, port: Port) -> Self {
        assert_eq!(client.shard_count(), port.shards.len(), "a channel for each shard");
        Self { client, port }
    }

    /// The cache, to read and add to.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// The cache, to read.
    pub fn cache(&self) -> &Client {
        &self.client
    }

    /// Makes `wanted` rows (ascending) fresh enough. Yields for how long reads were held, by
    /// reason; shards hold at the same time, so that of each reason the longest counts.
    ///
    /// Afterwards the worker's clock may be further than it was, where shards are: then it goes on
    /// there, and what is fresh enough may be less.
    ///
    /// # Errors
    ///
    /// If a shard is gone or answers nonsense.
    pub async fn fetch<'a>(
        &mut self,
        wanted: impl Iterator<Item = (TableId, &'a [u32])>,
    ) -> Result<Vec<(Wait, Duration)>, SessionError> {
        let reads = self.client.plan(wanted);
        let mut unanswered = reads.len();
        for (shard, read) in reads {
            self.send(shard, Request::Read(read)).await?;
        }
        let mut held: Vec<(Wait, Duration)> = Vec::new();
        while unanswered > 0 {
            let reply = self.port.replies.recv().await.ok_or(SessionError::NoReply)?;
            self.client.absorb(&reply)?;
            unanswered -= usize::from(reply.is_last);
            for (why, time) in reply.held {
                match held.iter_mut().find(|(known, _)| *known == why) {
                    Some((_, longest)) => *longest = time.max(*longest),
                    None => held.push((why, time)),
                }
            }
        }
        self.client.catch_up();
        Ok(held)
    }

    /// Ends the iteration: sends every shard its deltas and the clock.
    ///
    /// # Errors
    ///
    /// If a shard is gone, or the worker's deltas are NaN or infinite; then nothing is sent.
    pub async fn clock(&mut self) -> Result<(), SessionError> {
        for (shard, flush) in self.client.flush()? {
            self.send(shard, Request::Flush(flush)).await?;
        }
        Ok(())
    }

    /// Says to every shard that this worker trains no more; it may still read.
    ///
    /// # Errors
    ///
    /// If a shard is gone.
    pub async fn leave(&mut self) -> Result<(), SessionError> {
        let worker = self.client.worker();
        for shard in (0..self.client.shard_count() as u16).map(ShardId) {
            self.send(shard, Request::Leave(worker)).await?;
        }
        Ok(())
    }

    async fn send(&mut self, shard: ShardId, request: Request) -> Result<(), SessionError> {
        let channel = &self.port.shards[shard.index()];
        channel.send((shard, request)).await.map_err(|_| SessionError::Closed(shard))
    }
}
