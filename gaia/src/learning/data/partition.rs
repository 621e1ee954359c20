//! How training examples are dealt out to workers.
//!
//! Data born in many regions is seldom a fair sample in any of them. The kinds of [`Partition`]
//! range from fair (random) to as skewed as it gets (sorted by label), with Dirichlet shares in
//! between: the smaller their concentration, the fewer labels a part sees (Hsu, Qi and Brown,
//! arXiv:1909.06335, section 3).
//!
//! Every example goes to exactly one part, and no part is empty unless there are fewer examples (by
//! key: fewer keys) than parts. Random, contiguous and label-skewed parts differ by at most one
//! example.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use rand::{Rng, RngExt, seq::SliceRandom};
use rand_distr::{Distribution, Gamma};

use super::draw::{Purpose, stream};
use crate::human::counted;
use crate::learning::data::Partition;

/// What the skewed kinds go by; both have one entry for each example.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// What must stay together in [`Partition::ByKey`]: the user, the class.
    pub keys: &'a [u32],
    /// What [`Partition::LabelSkewed`] and [`Partition::Dirichlet`] sort out: the item, the class.
    pub labels: &'a [u32],
}

/// Deals examples out to `parts` parts: `result[p]` has the indexes of part `p`.
///
/// # Panics
///
/// If `parts` is zero: a job without workers is refused before it gets here.
pub fn partition(kind: Partition, attributes: Attributes<'_>, parts: usize, seed: u64) -> Vec<Vec<u32>> {
    assert!(parts > 0, "a job has at least one worker");
    let random = &mut stream(seed, Purpose::Partition, 0);
    let count = attributes.keys.len();
    match kind {
        Partition::Random => cut(&shuffled(count, random), parts),
        Partition::Contiguous => cut(&(0..count as u32).collect::<Vec<_>>(), parts),
        Partition::ByKey => by_key(attributes.keys, parts, random),
        Partition::LabelSkewed => {
            // Stable, so that a part's share of a label is a random one.
            let mut order = shuffled(count, random);
            order.sort_by_key(|&example| attributes.labels[example as usize]);
            cut(&order, parts)
        }
        Partition::Dirichlet(concentration) => dirichlet(attributes.labels, concentration, parts, random),
    }
}

/// What is worth a thought where parts of `sizes` are dealt out to workers: those that have no
/// example, or a single one.
pub(crate) fn idle_workers(sizes: &[usize]) -> Option<String> {
    let count = |size| sizes.iter().filter(|found| **found == size).count();
    let have = |count: usize| if count == 1 { "has" } else { "have" };
    let (none, single) = (count(0), count(1));
    let parts: Vec<_> = [(none, "no example"), (single, "a single example")]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {} {what}", have(count)))
        .collect();
    let they = match none + single {
        0 => return None,
        1 => "it trains next to nothing, and is",
        _ => "they train next to nothing, and are",
    };
    Some(format!(
        "of {} {}: {they} waited for all the same; fewer workers, or another job.partition, would do",
        counted(sizes.len(), "worker"),
        parts.join(" and ")
    ))
}

fn shuffled(count: usize, random: &mut impl Rng) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    order.shuffle(random);
    order
}

fn cut(order: &[u32], parts: usize) -> Vec<Vec<u32>> {
    (0..parts).map(|p| order[p * order.len() / parts..(p + 1) * order.len() / parts].to_vec()).collect()
}

fn groups(attribute: &[u32], order: Vec<u32>) -> Vec<Vec<u32>> {
    let mut groups: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for example in order {
        groups.entry(attribute[example as usize]).or_default().push(example);
    }
    groups.into_values().collect()
}

/// Largest key first, each to the part that has least so far (Graham's rule): at most a third above
/// the best possible.
fn by_key(keys: &[u32], parts: usize, random: &mut impl Rng) -> Vec<Vec<u32>> {
    let mut groups = groups(keys, (0..keys.len() as u32).collect());
    groups.shuffle(random);
    groups.sort_by_key(|group| Reverse(group.len()));
    let mut result = vec![Vec::new(); parts];
    let mut lightest: BinaryHeap<_> = (0..parts).map(|part| Reverse((0, part))).collect();
    for group in groups {
        let Reverse((size, part)) = lightest.pop().expect("there is at least one part");
        lightest.push(Reverse((size + group.len(), part)));
        result[part].extend(group);
    }
    result
}

fn dirichlet(labels: &[u32], concentration: f64, parts: usize, random: &mut impl Rng) -> Vec<Vec<u32>> {
    let mut result = vec![Vec::new(); parts];
    let order = shuffled(labels.len(), random);
    for group in groups(labels, order) {
        let shares = shares(concentration, parts, random);
        let (mut sum, mut start) = (0.0, 0);
        for (part, share) in shares.iter().enumerate() {
            sum += share;
            let end = match part + 1 == parts {
                true => group.len(),
                false => ((sum * group.len() as f64).round() as usize).clamp(start, group.len()),
            };
            result[part].extend(&group[start..end]);
            start = end;
        }
    }
    fill_empty(&mut result);
    result
}

/// One draw from the Dirichlet distribution over `parts` parts: gamma draws over their sum.
///
/// `rand_distr` takes `ln` from the platform, which may differ in the last bit. Shares only ever
/// become whole numbers of examples, so that does not show.
fn shares(concentration: f64, parts: usize, random: &mut impl Rng) -> Vec<f64> {
    let draws: Vec<f64> = match Gamma::new(concentration, 1.0) {
        Ok(gamma) => (0..parts).map(|_| gamma.sample(random)).collect(),
        Err(_) => vec![0.0; parts],
    };
    let sum: f64 = draws.iter().sum();
    if sum.is_normal() {
        return draws.iter().map(|draw| draw / sum).collect();
    }
    // The limit of small concentrations, where every draw underflows: one part gets all.
    let all = random.random_range(0..parts);
    (0..parts).map(|part| f64::from(u8::from(part == all))).collect()
}

/// Gives each empty part one example of the largest.
fn fill_empty(parts: &mut [Vec<u32>]) {
    while let Some(empty) = parts.iter().position(Vec::is_empty) {
        let largest = (0..parts.len()).max_by_key(|&part| parts[part].len()).unwrap_or(empty);
        if parts[largest].len() < 2 {
            return;
        }
        let example = parts[largest].pop();
        parts[empty].extend(example);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds() -> impl Strategy<Value = Partition> {
        prop_oneof![
            Just(Partition::Random),
            Just(Partition::Contiguous),
            Just(Partition::ByKey),
            Just(Partition::LabelSkewed),
            (-6.0..3.0).prop_map(|power| Partition::Dirichlet(libm::pow(10.0, power))),
        ]
    }

    fn distinct(values: impl IntoIterator<Item = u32>) -> usize {
        values.into_iter().collect::<std::collections::BTreeSet<_>>().len()
    }

    proptest! {
        #[test]
        fn every_example_goes_to_exactly_one_part(
            kind in kinds(),
            labels in prop::collection::vec(0u32..7, 0..200),
            parts in 1usize..20,
            seed: u64,
        ) {
            let attributes = Attributes { keys: &labels, labels: &labels };
            let result = partition(kind, attributes, parts, seed);
            prop_assert_eq!(result.len(), parts);
            prop_assert_eq!(&result, &partition(kind, attributes, parts, seed));

            let mut all: Vec<u32> = result.iter().flatten().copied().collect();
            all.sort_unstable();
            prop_assert!(all.iter().copied().eq(0..labels.len() as u32));

            let available = match kind {
                Partition::ByKey => distinct(labels.iter().copied()),
                _ => labels.len(),
            };
            prop_assert_eq!(result.iter().filter(|part| !part.is_empty()).count(), parts.min(available));

            let sizes = || result.iter().map(Vec::len);
            if !matches!(kind, Partition::ByKey | Partition::Dirichlet(_)) {
                prop_assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1);
            }
            if kind == Partition::ByKey {
                for key in 0..7 {
                    let holds = |part: &&Vec<u32>| part.iter().any(|&e| labels[e as usize] == key);
                    prop_assert!(result.iter().filter(holds).count() <= 1);
                }
            }
        }
    }

    #[test]
    fn skew_grows_from_random_over_dirichlet_to_sorted() {
        let labels: Vec<u32> = (0..6000).map(|example| example % 10).collect();
        let attributes = Attributes { keys: &labels, labels: &labels };
        let mean_labels = |kind| {
            let parts = partition(kind, attributes, 10, 3);
            // Labels of which a part has more than a token share.
            let seen = |part: &Vec<u32>| {
                (0..10).filter(|&l| part.iter().filter(|&&e| labels[e as usize] == l).count() > 6).count()
            };
            parts.iter().map(seen).sum::<usize>() as f64 / 10.0
        };
        assert_eq!(mean_labels(Partition::Random), 10.0);
        assert!(mean_labels(Partition::Dirichlet(100.0)) > 9.9);
        assert!((1.0..6.0).contains(&mean_labels(Partition::Dirichlet(0.1))));
        assert_eq!(mean_labels(Partition::LabelSkewed), 1.0);
    }

    #[test]
    fn workers_without_examples_are_called_idle() {
        assert_eq!(idle_workers(&[2, 3]), None);
        let remark = idle_workers(&[0, 1, 5, 0]).expect("there are some");
        assert!(
            remark.starts_with("of 4 workers 2 have no example and 1 has a single example: "),
            "{remark}"
        );
        let remark = idle_workers(&[1, 5]).expect("there is one");
        assert!(
            remark
                .starts_with("of 2 workers 1 has a single example: it trains next to nothing, and is waited"),
            "{remark}"
        );
        let remark = idle_workers(&[0]).expect("there is one");
        assert!(remark.starts_with("of 1 worker 1 has no example: it trains"), "{remark}");
    }

    #[test]
    fn keys_of_uneven_size_are_balanced() {
        let keys: Vec<u32> = (0..100u32).flat_map(|key| vec![key; 1 + key as usize % 13]).collect();
        let sizes: Vec<_> = partition(Partition::ByKey, Attributes { keys: &keys, labels: &keys }, 6, 5)
            .iter()
            .map(Vec::len)
            .collect();
        assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 2, "{sizes:?}");
    }
}
