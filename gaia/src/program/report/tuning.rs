//! What a strategy has set by itself in the course of a run.

use wan::budget::NOT_RAISED;

use super::reading::listed;
use crate::filters::FilterStatus;
use crate::human::{magnitude, times};
use crate::simulator::results::Run;

/// "threshold 0.031 to 0.0007, gain 1.9 to 0.2 and a release every 1 to 16 clocks": what followed
/// the updates in `run`, from its beginning to its end; none where settings alone decided. Of
/// several tables it is that of which most was updated.
pub(super) fn tuning(run: &Run) -> Option<String> {
    let last = &run.filter.last()?.tables;
    let filters = last.iter().map(|table| &table.filter);
    let largest = filters.max_by_key(|filter| filter.updated_elements)?;
    let of_largest = |of: fn(&FilterStatus) -> Option<f64>| {
        let tables = run.filter.iter().flat_map(|point| &point.tables);
        let figures = tables.filter(|table| table.filter.table == largest.table);
        figures.filter_map(|table| of(&table.filter)).skip_while(|figure| *figure == 0.0).collect::<Vec<_>>()
    };
    let mut parts = Vec::new();
    if largest.function == "usual-update" {
        parts.extend(course("threshold", &of_largest(|filter| filter.threshold)));
    }
    parts.extend(course("gain", &of_largest(|filter| filter.gain)));
    let raised = of_largest(|filter| filter.raised);
    if let Some(most) = raised.iter().copied().reduce(f64::max).filter(|most| *most > NOT_RAISED) {
        parts.push(format!("thresholds raised up to {} by the budget", times(most)));
    }
    if last.len() > 1 && !parts.is_empty() {
        parts = vec![format!("{} (of {})", parts.join(", "), largest.table)];
    }
    let every = || run.filter.iter().map(|point| point.release_every.round());
    let (least, most) = (every().fold(f64::INFINITY, f64::min), every().fold(1.0, f64::max));
    if least < most {
        parts.push(format!("a release every {least} to {most} clocks"));
    }
    (!parts.is_empty()).then(|| listed(&parts))
}

/// "gain 1.9 to 0.2", or "gain 1.9" where it stayed.
fn course(name: &str, figures: &[f64]) -> Option<String> {
    let (first, last) = (magnitude(*figures.first()?), magnitude(*figures.last()?));
    Some(if first == last { format!("{name} {first}") } else { format!("{name} {first} to {last}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::report::tests::{filter_point, good};

    #[test]
    fn what_followed_the_updates_is_told_from_beginning_to_end() {
        let mut run = good().runs.swap_remove(1);
        assert_eq!(
            tuning(&run).as_deref(),
            Some("threshold 0.031 to 0.0007, gain 1.9 to 0.2 and a release every 1 to 16 clocks")
        );
        // Of two tables, that of which more was updated.
        for point in &mut run.filter {
            let mut bias = point.tables[0].clone();
            bias.filter = FilterStatus { table: "bias".to_owned(), updated_elements: 1, ..bias.filter };
            point.tables.insert(0, bias);
        }
        assert_eq!(
            tuning(&run).as_deref(),
            Some(
                "threshold 0.031 to 0.0007, gain 1.9 to 0.2 (of weights) and a release every 1 to 16 clocks"
            )
        );
        // What stays is told once, and a gain that is not there not at all.
        run.filter = vec![filter_point(2, 0.5, 0.0, 8.0), filter_point(4, 0.5, 0.0, 8.0)];
        assert_eq!(tuning(&run).as_deref(), Some("threshold 0.5"));
    }

    #[test]
    fn what_settings_alone_decide_is_not_told() {
        let mut run = good().runs.swap_remove(1);
        for point in &mut run.filter {
            point.release_every = 4.0;
            let filter = &mut point.tables[0].filter;
            (filter.function, filter.gain) = ("absolute".to_owned(), None);
        }
        assert_eq!(tuning(&run), None);
        run.filter.clear();
        assert_eq!(tuning(&run), None);
    }
}
