//! The replicas of a node, and the one way to change them.
//!
//! Reads wait in a replica, and whatever changes it may answer them. Whoever changed a replica and did not say so would leave
//! them waiting until something else happens. So everybody may look at replicas, and nobody changes one but through
//! [`Replicas::change`].
//!
//! Kind: time-free.

use std::ops::Deref;

use crate::replica::Replica;

/// Replicas, to look at.
#[derive(Debug)]
pub(super) struct Replicas {
    all: Vec<Replica>,
    /// Those whose waiting reads should be looked at again.
    to_recheck: Vec<bool>,
}

impl Replicas {
    pub(super) fn new(all: Vec<Replica>) -> Self {
        Self { to_recheck: vec![false; all.len()], all }
    }

    /// Does something to a replica that reads may have waited for.
    pub(super) fn change<T>(&mut self, at: usize, act: impl FnOnce(&mut Replica) -> T) -> T {
        self.to_recheck[at] = true;
        act(&mut self.all[at])
    }

    /// The same, for what its own workers do: others' reads wait for their clocks alone, and for somebody to train. Looking at
    /// all waiting reads after each flush and read would cost as much as there are workers, each time.
    pub(super) fn change_workers<T>(&mut self, at: usize, act: impl FnOnce(&mut Replica) -> T) -> T {
        let state = |replica: &Replica| (replica.shard().clock(), replica.shard().is_idle());
        let before = state(&self.all[at]);
        let outcome = act(&mut self.all[at]);
        self.to_recheck[at] |= state(&self.all[at]) != before;
        outcome
    }

    /// Takes something out of a replica that is to be said or sent, or tells it what no read waits for.
    pub(super) fn poll<T>(&mut self, at: usize, act: impl FnOnce(&mut Replica) -> T) -> T {
        act(&mut self.all[at])
    }

    /// The next replica whose waiting reads should be looked at.
    pub(super) fn next_to_recheck(&self) -> Option<usize> {
        (0..self.all.len()).find(|at| self.to_recheck[*at])
    }

    /// The waiting reads of a replica have been looked at.
    pub(super) fn rechecked(&mut self, at: usize) {
        self.to_recheck[at] = false;
    }

    /// The same replicas, each as `act` makes it, before anybody reads.
    pub(super) fn map(self, act: impl FnMut(Replica) -> Replica) -> Self {
        Self { all: self.all.into_iter().map(act).collect(), ..self }
    }
}

impl Deref for Replicas {
    type Target = [Replica];

    fn deref(&self) -> &[Replica] {
        &self.all
    }
}
