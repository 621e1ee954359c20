//! How much memory a replica takes at most (time-free).

use datacenter::ShardTable;

impl super::Replica {
    /// How many bytes a replica of a shard with tables of these shapes takes at most, beside each other datacenter's: the
    /// values and what the filter holds back; what has been released, here and by each of the `mirrors`; and what waits
    /// for each of them. Most of it is touched only once there is something to keep in it.
    pub fn most_bytes(shapes: &[ShardTable], mirrors: u64) -> u64 {
        let elements: u64 = shapes.iter().map(|shape| shape.elements() as u64).sum();
        let rows: u64 = shapes.iter().map(|shape| u64::from(shape.slots)).sum();
        let (ledgers, outboxes) = (1 + mirrors, mirrors);
        let of_elements = elements.saturating_mul(2 + ledgers + outboxes);
        // A stamp of each row in each ledger, and its place in each outbox.
        let of_rows = rows.saturating_mul(ledgers + outboxes);
        of_elements.saturating_add(of_rows).saturating_mul(size_of::<f32>() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Replica;
    use super::*;

    #[test]
    fn ledgers_are_a_copy_for_each_datacenter() {
        let shapes = [ShardTable { slots: 10, width: 8 }, ShardTable { slots: 5, width: 4 }];
        assert_eq!(Replica::most_bytes(&shapes, 0), 4 * (100 * 3 + 15));
        assert_eq!(Replica::most_bytes(&shapes, 10), 4 * (100 * (2 + 11 + 10) + 15 * 21));
        let huge = [ShardTable { slots: u32::MAX, width: u32::MAX }];
        assert_eq!(Replica::most_bytes(&huge, 1000), u64::MAX);
    }
}
