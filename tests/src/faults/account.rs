//! What must be in the model in the end: every delta that a server has taken, but for what died
//! with it.
//!
//! Deltas are positive whole numbers, so that sums are exact in any order, and more of an element
//! is always later. Of what a dead server had taken, what is left is what its checkpoint has, held
//! back or released, or what a mirror had of its releases: an element that was released after the
//! checkpoint was released whole, so that it is the larger of the two.

use datacenter::message::Flush;
use datacenter::{Elements, ShardId, ShardTable, TableId};
use wan::ledger::Ledger;
use wan::state::{OriginState, ReplicaState};

/// By datacenter, shard and table: what its workers have contributed.
type Sums = Vec<Vec<Vec<Vec<f32>>>>;

/// Keeps count of every element.
#[derive(Clone, Debug)]
pub struct Account {
    /// What must be there at least, and at most.
    least: Sums,
    most: Sums,
    /// Everything that was ever made.
    made: Sums,
    /// How many elements something was lost of.
    pub lost_elements: usize,
}

impl Account {
    /// Nothing contributed by so many datacenters to shards of these shapes.
    pub fn new(datacenters: usize, shapes: &[Vec<ShardTable>]) -> Self {
        let shard = |tables: &Vec<ShardTable>| tables.iter().map(|t| vec![0.0; t.elements()]).collect();
        let site: Vec<Vec<Vec<f32>>> = shapes.iter().map(shard).collect();
        let sums = vec![site; datacenters];
        Self { least: sums.clone(), most: sums.clone(), made: sums, lost_elements: 0 }
    }

    /// A worker has made these deltas.
    pub fn make(&mut self, site: usize, shard: ShardId, deltas: &[Elements]) {
        add(&mut self.made[site][shard.index()], deltas);
    }

    /// A server has taken a flush.
    pub fn take(&mut self, site: usize, shard: ShardId, flush: &Flush) {
        add(&mut self.least[site][shard.index()], &flush.elements());
        add(&mut self.most[site][shard.index()], &flush.elements());
    }

    /// The server of a shard has died. `saved` is its checkpoint, `mirrors` what others have of its
    /// releases. Where all others are there to tell, that is exactly what is left; where they are
    /// not, it may be more, and no less than was saved.
    pub fn die<'a>(
        &mut self,
        site: usize,
        shard: ShardId,
        saved: Option<&ReplicaState>,
        mirrors: impl Iterator<Item = &'a Ledger>,
        is_exact: bool,
    ) {
        let mirrors: Vec<&Ledger> = mirrors.collect();
        // A state that was kept while somebody was gone has rows beyond what it covers: neither it
        // nor mirrors have all of those.
        let own = saved.and_then(|saved| saved.origins.iter().find(|own| own.datacenter.index() == site));
        let is_ahead = |own: &OriginState| {
            own.tables.iter().flat_map(|table| &table.stamps).any(|stamp| *stamp > own.covered)
        };
        let is_exact = is_exact && !own.is_some_and(is_ahead);
        for t in 0..self.least[site][shard.index()].len() {
            let table = TableId(t as u16);
            let count = self.least[site][shard.index()][t].len();
            let mut kept = vec![0.0; count];
            if let Some(saved) = saved {
                let own = saved.origins.iter().find(|origin| origin.datacenter.index() == site);
                own.into_iter().for_each(|own| kept.copy_from_slice(&own.tables[t].sums));
                let held = saved.remainders.iter().filter(|held| held.table == table);
                held.for_each(|held| add_to(&mut kept, held));
            }
            if is_exact {
                for ledger in &mirrors {
                    kept.iter_mut().zip(ledger.sums(table)).for_each(|(kept, sum)| *kept = kept.max(*sum));
                }
            }
            let least = &mut self.least[site][shard.index()][t];
            self.lost_elements += least.iter().zip(&kept).filter(|(had, kept)| kept < had).count();
            if is_exact {
                self.most[site][shard.index()][t].clone_from(&kept);
            }
            *least = kept;
        }
    }

    /// Somebody else has died before the server of this shard, which is down or has just come back,
    /// could get from it what it had of its releases: no more than what was `saved` is sure to be
    /// left.
    pub fn weaken(&mut self, site: usize, shard: ShardId, saved: Option<&ReplicaState>) {
        let most = self.most[site][shard.index()].clone();
        let least = self.least[site][shard.index()].clone();
        self.die(site, shard, saved, std::iter::empty(), false);
        for (now, before) in self.least[site][shard.index()].iter_mut().zip(&least) {
            now.iter_mut().zip(before).for_each(|(now, before)| *now = now.min(*before));
        }
        self.most[site][shard.index()] = most;
    }

    /// Compares the values of a table, which began with zeros, with what must be there.
    ///
    /// # Errors
    ///
    /// With the first element that is lost or doubled.
    pub fn check(&self, shard: ShardId, table: TableId, values: &[f32]) -> Result<(), String> {
        let of = |sums: &Sums, index: usize| -> f32 {
            sums.iter().map(|site| site[shard.index()][table.index()][index]).sum()
        };
        for (index, &value) in values.iter().enumerate() {
            let least = of(&self.least, index);
            let most = of(&self.most, index).min(of(&self.made, index));
            if value < least || value > most {
                let each = |sums: &Sums| {
                    let each = sums.iter().map(|site| site[shard.index()][table.index()][index]);
                    each.collect::<Vec<_>>()
                };
                return Err(format!(
                    "law 1: element {index} of {table} of {shard} is {value}, from {least} to {most} were shipped or \
                     saved; by datacenter: least {:?}, most {:?}, made {:?}",
                    each(&self.least),
                    each(&self.most),
                    each(&self.made)
                ));
            }
        }
        Ok(())
    }
}

fn add(tables: &mut [Vec<f32>], deltas: &[Elements]) {
    deltas.iter().for_each(|delta| add_to(&mut tables[delta.table.index()], delta));
}

fn add_to(sums: &mut [f32], delta: &Elements) {
    for (&index, &value) in delta.indexes.iter().zip(&delta.values) {
        sums[index as usize] += value;
    }
}
