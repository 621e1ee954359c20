//! What is looked at before a request is taken: it may come from anybody.
//!
//! Kind: time-free.

use super::{RequestError, Shard, TableState};
use crate::message::{Flush, Read};
use crate::rows::RowBlock;
use crate::sums::{MAX_SUM, may_add};
use crate::table::what_is;
use crate::usual::UsualDelta;

impl Shard {
    pub(super) fn check_read(&self, read: &Read) -> Result<(), RequestError> {
        // One that has left may look on.
        if read.worker.index() >= self.workers.worker_count() {
            return Err(RequestError::UnknownWorker(read.worker));
        }
        for group in &read.groups {
            let shape = self.shape(group.table)?;
            if let Some(found) = group.slots.last().filter(|slot| *slot >= shape.slots) {
                let allowed = shape.slots as usize;
                return Err(RequestError::OutOfRange { table: group.table, what: "rows", found, allowed });
            }
        }
        Ok(())
    }

    pub(super) fn check_block(&self, block: &RowBlock) -> Result<(), RequestError> {
        let (table, shape) = (block.table(), self.shape(block.table())?);
        if let Some(found) = block.slots().last().filter(|slot| *slot >= shape.slots) {
            let allowed = shape.slots as usize;
            return Err(RequestError::OutOfRange { table, what: "rows", found, allowed });
        }
        match block.slots().is_empty() || block.width() == shape.width as usize {
            true => Ok(()),
            false => Err(RequestError::Width { table, found: block.width(), allowed: shape.width }),
        }
    }

    /// Never trusts a worker to have looked: what is in the table once goes to every other
    /// datacenter.
    pub(super) fn check_finite(&self, flush: &Flush) -> Result<(), RequestError> {
        let broken = flush.deltas.iter().find(|block| !block.largest().is_finite());
        let element =
            broken.and_then(|b| Some((b.table(), b.indexed().find(|(_, value)| !value.is_finite())?)));
        let Some((table, (index, value))) = element else { return Ok(()) };
        let slot = index / self.shape(table)?.width;
        Err(RequestError::NotFinite {
            worker: flush.worker,
            clock: flush.clock,
            table,
            slot,
            what: what_is(value),
        })
    }

    /// By the job's own bounds, where it has some.
    pub(super) fn check_size(&self, flush: &Flush) -> Result<(), RequestError> {
        for block in &flush.deltas {
            let table = block.table();
            let fixed = self.max_delta.get(table.index()).copied().flatten();
            let usual = self.usual(table).and_then(UsualDelta::allowed);
            let Some(allowed) = fixed.into_iter().chain(usual).reduce(f32::min) else { continue };
            if block.largest() <= allowed {
                continue;
            }
            if let Some((index, value)) = block.indexed().find(|(_, value)| value.abs() > allowed) {
                return Err(RequestError::TooLarge {
                    worker: flush.worker,
                    clock: flush.clock,
                    table,
                    slot: index / self.shape(table)?.width,
                    found: format!("{value:e}"),
                    allowed: format!("{allowed:e}"),
                });
            }
        }
        Ok(())
    }

    pub(super) fn check_sums(&self, flush: &Flush) -> Result<(), RequestError> {
        for block in &flush.deltas {
            let TableState { shape, values, .. } = &self.tables[block.table().index()];
            let is_beyond = |(index, value): &(u32, f32)| !may_add(values[*index as usize], *value, MAX_SUM);
            if let Some((index, value)) = block.indexed().find(is_beyond) {
                let sum = values[index as usize];
                return Err(RequestError::sum_too_large(
                    flush,
                    (block.table(), shape.width),
                    (index, value, sum),
                ));
            }
        }
        Ok(())
    }
}

/// That rows come each once and in order, by table and slot.
pub(super) fn check_order(deltas: &[RowBlock]) -> Result<(), RequestError> {
    let mut last = None;
    for block in deltas {
        let (Some(first), Some(end)) = (block.slots().get(0), block.slots().last()) else { continue };
        if last.is_some_and(|last| last >= (block.table(), first)) {
            return Err(RequestError::Disordered { table: block.table() });
        }
        last = Some((block.table(), end));
    }
    Ok(())
}
