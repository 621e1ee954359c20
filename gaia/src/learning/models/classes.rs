//! What models that tell classes apart have in common: probabilities, scores, and what is said of
//! labels.

use std::collections::BTreeSet;

use crate::learning::application::{Evaluation, Judgement, Metric};
use crate::learning::data::{Classification, Examples, Name, Names, Slice};

/// What a model makes of some examples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Score {
    /// The summed negative log-likelihood.
    pub(crate) loss: f64,
    /// How many are classified correctly.
    pub(crate) correct: usize,
}

/// Scores what was kept of the training data, and judges by the test data where there are any.
///
/// `penalty` is that of the objective; `score` scores the examples with these indexes.
pub(crate) fn evaluate(
    data: &Classification,
    penalty: f64,
    mut score: impl FnMut(&Examples, &mut dyn Iterator<Item = usize>) -> Score,
) -> Evaluation {
    let examples = &data.train;
    let (train, count) = match &data.slice {
        None => (score(examples, &mut (0..examples.len())), examples.len()),
        Some(Slice { kept, .. }) => {
            (score(examples, &mut kept.iter().map(|&index| index as usize)), kept.len())
        }
    };
    let (correct, judged) = match &data.test {
        Some(test) => (score(test, &mut (0..test.len())).correct, test.len()),
        None => (train.correct, count),
    };
    evaluation(train.loss / count as f64 + penalty, correct, judged)
}

/// The same by the test data alone.
pub(crate) fn judge(
    data: &Classification,
    penalty: f64,
    score: impl FnOnce(&Examples, &mut dyn Iterator<Item = usize>) -> Score,
) -> Option<Judgement> {
    let test = data.test.as_ref()?;
    let Score { loss, correct } = score(test, &mut (0..test.len()));
    let evaluation = evaluation(loss / test.len() as f64 + penalty, correct, test.len());
    Some(Judgement { evaluation, examples: test.len() })
}

fn evaluation(objective: f64, correct: usize, judged: usize) -> Evaluation {
    let accuracy = correct as f64 / judged as f64;
    Evaluation { objective, metric: Metric::accuracy(accuracy) }
}

/// The names of what is predicted for an example: its label, the likeliest one, and the probability
/// of each.
pub(crate) fn predicted(labels: &Names) -> Vec<String> {
    let probabilities = labels.all().iter().map(|label| format!("p({label})"));
    ["label", "predicted"].map(str::to_owned).into_iter().chain(probabilities).collect()
}

/// Writes these figures for an example of `class` to `figures`; leaves probabilities in `logits`.
pub(crate) fn figures(class: u32, logits: &mut [f32], figures: &mut Vec<f64>) {
    figures.clear();
    figures.extend([f64::from(class), largest(logits) as f64]);
    softmax(logits);
    figures.extend(logits.iter().map(|&probability| f64::from(probability)));
}

/// Panics if the features of one of `examples` were not kept.
pub(crate) fn assert_kept(data: &Classification, examples: &[u32]) {
    if let Some(slice) = &data.slice {
        let is_kept = |example| slice.kept.binary_search(example).is_ok();
        assert!(examples.iter().all(is_kept), "a worker trains on its own slice");
    }
}

/// What is worth a thought in the labels before a model is trained on them.
pub(crate) fn remarks(labels: &Names, examples: &[u32]) -> Vec<String> {
    let labels = labels.all();
    match (labels.first(), labels.last()) {
        (Some(Name::Number(first)), Some(Name::Number(last)))
            if is_quantity((*first, *last), labels.len(), examples) =>
        {
            vec![format!(
                "the labels are {} different numbers from {first} to {last}, and each is a class of its own, no nearer to \
                 the next than to any other; for a quantity, such as a year or a price, this is not the model",
                labels.len()
            )]
        }
        _ => Vec::new(),
    }
}

/// Whether labels look like measurements, and not like names of classes: of so many different
/// numbers from the first to the last, which examples have these.
///
/// Two things tell. A class has examples to learn it from, and a quantity has nearly as many values
/// as it was measured times. And whoever numbers classes counts them, from 0 or 1, while years,
/// prices and counts of people lie far from zero or far apart.
fn is_quantity((first, last): (i64, i64), labels: usize, examples: &[u32]) -> bool {
    /// So few numbers may always be classes: ten digits, or the parties of a parliament.
    const FEW: usize = 15;
    /// So many are no numbering that somebody thought of, where they lie wide.
    const MANY: usize = 50;
    /// A class with fewer examples is hardly learnt.
    const EXAMPLES_OF_A_CLASS: usize = 4;
    /// Codes leave gaps, but do not use one number in so many.
    const WIDE: u64 = 10;
    // Labels may be declared of which this region has few.
    let found = examples.iter().collect::<BTreeSet<_>>().len();
    let is_rare = found >= FEW && examples.len() < found * EXAMPLES_OF_A_CLASS;
    let is_wide = first.unsigned_abs() > labels as u64 || last.abs_diff(first) > labels as u64 * WIDE;
    is_rare || (labels >= MANY && is_wide)
}

/// The place of the largest; the first of equals.
pub(crate) fn largest(logits: &[f32]) -> usize {
    (1..logits.len()).fold(0, |best, c| if logits[c] > logits[best] { c } else { best })
}

/// Turns logits into probabilities and returns `ln(sum(exp(logits)))`; shape `[classes]`.
pub(crate) fn softmax(logits: &mut [f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0f32;
    for logit in &mut *logits {
        *logit = libm::expf(*logit - largest);
        sum += *logit;
    }
    logits.iter_mut().for_each(|p| *p /= sum);
    f64::from(largest) + libm::log(f64::from(sum))
}

/// Adds one example of `class` to `score`; leaves probabilities in `logits`, shape `[classes]`.
pub(crate) fn add_score(class: u32, logits: &mut [f32], score: &mut Score) {
    score.correct += usize::from(largest(logits) == class as usize);
    let logit = f64::from(logits[class as usize]);
    score.loss += softmax(logits) - logit;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_of_large_logits_does_not_overflow() {
        let mut logits = [1000.0, 1000.0, -1000.0];
        let log_sum = softmax(&mut logits);
        assert_eq!(logits, [0.5, 0.5, 0.0]);
        assert!((log_sum - 1000.0 - std::f64::consts::LN_2).abs() < 1e-6);
    }

    #[test]
    fn quantities_are_told_from_classes() {
        // First and last label, how many there are, and examples.
        let quantities = [
            (1966, 2010, 45, 60, "years among few examples"),
            (1922, 2011, 89, 500_000, "years among many"),
            (100, 4_999, 90, 10_000, "prices"),
            (-40, 45, 60, 120, "degrees"),
            (0, 19, 20, 30, "one example of most"),
        ];
        let classes = [
            (0, 99, 100, 10_000, "a hundred classes"),
            (1, 100, 100, 10_000, "counted from one"),
            (0, 9, 10, 20, "digits of a small file"),
            (-1, 1, 2, 3, "signs"),
            (0, 999, 1000, 50_000, "a thousand classes"),
            (1, 80, 60, 6_000, "classes with gaps"),
            (101, 126, 26, 2_600, "a few codes"),
        ];
        let is_quantity = |(first, last, labels, examples, _): (i64, i64, u32, u32, &str)| {
            let examples: Vec<u32> = (0..examples).map(|example| example % labels).collect();
            super::is_quantity((first, last), labels as usize, &examples)
        };
        for shape in quantities {
            assert!(is_quantity(shape), "{}", shape.4);
        }
        for shape in classes {
            assert!(!is_quantity(shape), "{}", shape.4);
        }
        // Of many declared classes a region may have one.
        assert!(!super::is_quantity((0, 999), 1000, &[7; 20]));
        assert!(!super::is_quantity((0, 999), 1000, &[]), "nothing to train on");
    }
}
