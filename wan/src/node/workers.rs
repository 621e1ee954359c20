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
            Request::Read(read) => self.moving(at, now, |replica| replica.handle_read(read, now)),
            Request::Flush(flush) => {
                let moved = self.replicas[at].handle_flush(&flush)?;
                self.complete(at, moved, now);
                // It may be late, of one who is not waited for any more: then nothing follows that would ship it.
                self.replicas[at].settle();
                Ok(None)
            }
            Request::Leave(worker) => {
                let moved = self.replicas[at].leave(worker);
                self.complete(at, moved, now);
                self.replicas[at].settle();
                if self.is_idle() {
                    // Nothing follows that could carry confirmations along.
                    self.peers.iter_mut().for_each(|peer| peer.confirm_at = peer.confirm_at.map(|_| now));
                }
                Ok(None)
            }
        }
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
            let its_clock = self.moving(at, now, |replica| replica.join(worker, clock));
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
            let moved = self.replicas[at].suspend(worker);
            self.complete(at, moved, now);
            self.replicas[at].settle();
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
            was_suspended |= self.moving(at, now, |replica| replica.resume_worker(worker)).is_some();
        }
        was_suspended
    }

    /// The next waiting read that may be answered.
    pub fn poll_reply(&mut self, now: Instant) -> Option<ReadReply> {
        for (replica, recheck) in self.replicas.iter_mut().zip(&mut self.to_recheck).filter(|(_, r)| **r) {
            match replica.poll_reply(now) {
                None => *recheck = false,
                reply => return reply,
            }
        }
        None
    }
}
