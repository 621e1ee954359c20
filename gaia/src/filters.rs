//! What the filters of shards have come to, and of a table over all of its shards.
//!
//! Kind: time-free.

use datacenter::{TableId, TableSpec};
use serde::{Deserialize, Serialize};
use wan::replica::Replica;

/// What a table is filtered by, and what reads of it expect of other regions. Magnitudes are in
/// units of the table's values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FilterStatus {
    /// The table's name.
    pub table: String,
    /// The significance function, as settings call it.
    pub function: String,
    /// What the significance of an element had to exceed at the last release, as the schedule and
    /// idle links have moved it.
    pub significance_threshold: Option<f64>,
    /// By what a budget had raised that; none without a budget.
    pub raised: Option<f64>,
    /// What its accumulated update had to exceed then, where that is the same for the whole table.
    pub threshold: Option<f64>,
    /// Of what shipped values were multiples then, where they were rounded.
    pub step: Option<f64>,
    /// By how much a clock usually updates an element, where that is measured.
    pub usual_update: Option<f64>,
    /// Where reads anticipate: how many times what is unanswered they add.
    pub gain: Option<f64>,
    /// How alike updates of each other region are: near 1 where it does the same, negative where it
    /// undoes it.
    pub likeness: Option<f64>,
    /// Elements that local updates have touched since the process started, counted once a clock.
    pub updated_elements: u64,
    /// Those of them that were shipped.
    pub shipped_elements: u64,
}

impl FilterStatus {
    /// Those of the tables of `replica`, which are called as `tables` says; none where everything
    /// is shipped.
    pub fn of(replica: &Replica, tables: &[TableSpec]) -> Vec<Self> {
        let of_table = |(id, spec): (TableId, &TableSpec)| {
            let figures = replica.filter().figures(id)?;
            Some(Self {
                table: spec.name.clone(),
                function: figures.config.function.name().to_owned(),
                significance_threshold: figures.significance_threshold,
                raised: replica.raised(),
                threshold: figures.threshold,
                step: figures.step.map(f64::from),
                usual_update: figures.usual_update,
                gain: replica.anticipation().map(|anticipation| anticipation.gain(id).into()),
                likeness: replica.likeness(id),
                updated_elements: figures.counters.elements_updated,
                shipped_elements: figures.counters.elements_shipped,
            })
        };
        (0..).map(TableId).zip(tables).filter_map(of_table).collect()
    }

    /// Which share of the updated elements was shipped.
    pub fn shipped_share(&self) -> Option<f64> {
        (self.updated_elements > 0).then(|| self.shipped_elements as f64 / self.updated_elements as f64)
    }
}

/// One for each table, in the order in which they first come: means over those that have a figure,
/// the coarsest step, sums of elements.
pub fn by_table<'a>(filters: impl IntoIterator<Item = &'a FilterStatus>) -> Vec<FilterStatus> {
    let mut tables: Vec<Vec<&FilterStatus>> = Vec::new();
    for filter in filters {
        match tables.iter_mut().find(|table| table[0].table == filter.table) {
            Some(table) => table.push(filter),
            None => tables.push(vec![filter]),
        }
    }
    tables.iter().map(|shards| of_all(shards)).collect()
}

fn of_all(shards: &[&FilterStatus]) -> FilterStatus {
    let known = |of: fn(&FilterStatus) -> Option<f64>| shards.iter().filter_map(move |filter| of(filter));
    let mean = |of| {
        let count = known(of).count();
        (count > 0).then(|| known(of).sum::<f64>() / count as f64)
    };
    FilterStatus {
        table: shards[0].table.clone(),
        function: shards[0].function.clone(),
        significance_threshold: mean(|filter| filter.significance_threshold),
        raised: mean(|filter| filter.raised),
        threshold: mean(|filter| filter.threshold),
        step: known(|filter| filter.step).reduce(f64::max),
        usual_update: mean(|filter| filter.usual_update),
        gain: mean(|filter| filter.gain),
        likeness: mean(|filter| filter.likeness),
        updated_elements: total(shards.iter().map(|filter| filter.updated_elements)),
        shipped_elements: total(shards.iter().map(|filter| filter.shipped_elements)),
    }
}

/// The sum of what several have counted.
fn total(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_told_of_over_all_its_shards() {
        let filter = |table: &str, threshold, step, elements| FilterStatus {
            table: table.to_owned(),
            threshold,
            step,
            updated_elements: elements,
            shipped_elements: elements / 4,
            ..FilterStatus::default()
        };
        let filters = [
            filter("users", Some(0.25), Some(0.125), 8),
            filter("items", None, None, 0),
            filter("users", Some(0.75), Some(0.5), 16),
            filter("users", None, None, 0),
        ];
        let found = by_table(&filters);
        assert_eq!(found[0], filter("users", Some(0.5), Some(0.5), 24));
        assert_eq!((found[0].shipped_share(), found[1].shipped_share()), (Some(0.25), None));
        assert_eq!(found.len(), 2);
    }
}
