//! Workers: what they ask, and which of them are waited for.
//!
//! Kind: time-passed.

use std::time::Instant;

use datacenter::message::{ReadReply, Request};
use datacenter::shard::RequestError;
use datacenter::{Clock, ShardId, WorkerId};

use super::Node;
use crate::replica::Replica;

impl Node {
    /// A worker's request to one of the shards. Yields the answer of a read that can be answered at once.
    ///
    /// # Errors
    ///
    /// If it makes no sense; then nothing has changed.
    pub fn handle_request(
        &mut self,
        shard: ShardId,
        request: Request,
        now: Instant,
    ) -> Result<Option<ReadReply>, RequestError> {
        let at = self.position(shard).ok_or(RequestError::UnknownShard(shard))?;
        self.check_request(&request)?;
        match request {
            Request::Read(read) => {
                let before = self.replicas[at].shard().clock();
                let reply = self.replicas.change_workers(at, |replica| replica.handle_read(read, now));
                self.complete_since(at, before, now);
                reply
            }
            Request::Flush(flush) => {
                // It may be late, of one who is not waited for any more: then nothing follows that would ship it.
                self.change_workers(at, now, |replica| replica.handle_flush(&flush)).map(|_| None)
            }
            Request::Leave(worker) => {
                self.change_workers(at, now, |replica| replica.leave(worker));
                Ok(None)
            }
        }
    }

    /// Workers come, go, or say something: does to a replica what that is, and what follows if its clock has moved, or nobody
    /// trains any more. There is no other way to either.
    fn change_workers<T>(&mut self, at: usize, now: Instant, act: impl FnOnce(&mut Replica) -> T) -> T {
        let before = self.replicas[at].shard().clock();
        let was_idle = self.replicas[at].shard().is_idle();
        let outcome = self.replicas.change_workers(at, act);
        self.complete_since(at, before, now);
        let is_idle = self.replicas[at].shard().is_idle();
        self.replicas.poll(at, Replica::settle);
        if is_idle != was_idle {
            self.watch_workers(now);
        }
        if is_idle && self.is_idle() {
            // Nothing follows that could carry confirmations along.
            self.links_up().for_each(|up| up.confirm_at = up.confirm_at.map(|_| now));
        }
        outcome
    }

    fn check_request(&self, request: &Request) -> Result<(), RequestError> {
        let (worker, found) = match request {
            Request::Read(read) => (read.worker, read.clock),
            Request::Flush(flush) => (flush.worker, flush.clock),
            Request::Leave(_) => return Ok(()),
        };
        let end = self.end.filter(|end| found > *end);
        end.map_or(Ok(()), |end| Err(RequestError::BeyondEnd { worker, found, end }))
    }

    /// Counts a worker among those that train here, at `clock` or later. Yields its clock on each shard: where they differ,
    /// it joins again at the latest of them. Empty if there is no such worker. What is beyond the end of the job counts as that.
    pub fn join(&mut self, worker: WorkerId, clock: Clock, now: Instant) -> Vec<(ShardId, Clock)> {
        let clock = self.end.map_or(clock, |end| clock.min(end));
        let mut joined = Vec::new();
        self.follow_if_deserted(now);
        for at in 0..self.replicas.len() {
            let id = self.replicas[at].shard().id();
            let its_clock = self.change_workers(at, now, |replica| replica.join(worker, clock));
            joined.extend(its_clock.map(|clock| (id, clock)));
        }
        joined
    }

    /// Nobody waits for a worker, of which nothing is heard, until it [resumes](Self::resume_worker). Yields whether
    /// anybody did.
    pub fn suspend(&mut self, worker: WorkerId, now: Instant) -> bool {
        let is_live = |replica: &Replica| replica.shard().clock_of(worker).is_some();
        let live: Vec<usize> = (0..self.replicas.len()).filter(|at| is_live(&self.replicas[*at])).collect();
        for &at in &live {
            self.change_workers(at, now, |replica| replica.suspend(worker));
        }
        !live.is_empty()
    }

    /// A worker is back, and if it was suspended, goes on at the shards' clocks or its own. Yields whether it was.
    pub fn resume_worker(&mut self, worker: WorkerId, now: Instant) -> bool {
        let mut was_suspended = false;
        let suspended = |replica: &Replica| replica.shard().suspended_workers().any(|(id, _)| id == worker);
        if self.replicas.iter().any(suspended) {
            self.follow_if_deserted(now);
        }
        for at in 0..self.replicas.len() {
            was_suspended |= self.change_workers(at, now, |replica| replica.resume_worker(worker)).is_some();
        }
        was_suspended
    }

    /// The next waiting read that may be answered.
    pub fn poll_reply(&mut self, now: Instant) -> Option<ReadReply> {
        while let Some(at) = self.replicas.next_to_recheck() {
            match self.replicas.poll(at, |replica| replica.poll_reply(now)) {
                None => self.replicas.rechecked(at),
                reply => return reply,
            }
        }
        None
    }
}
