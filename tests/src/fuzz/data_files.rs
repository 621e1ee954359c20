//! Training and test data, in every format, plain or gzip-compressed.

use gaia::data::classification::{MAX_CLASSES, MAX_FEATURES};
use gaia::data::{Classification, Examples, load_classification, load_classification_slice, load_ratings};
use gaia::job::{DataSettings, DataSource};

use super::files::{directory, parts};

/// The names of the files: training and test data; those of IDX in pairs.
const NAMES: [&str; 4] = ["train", "test", "train-labels", "test-labels"];

/// Data sets with more features are not read in slices, which count how often each occurs.
const FEW_FEATURES: u32 = 1 << 12;

/// The first byte chooses the format, the others are the files.
pub fn data_files(data: &[u8]) {
    let Some((format, files)) = data.split_first() else { return };
    let files = parts(files, NAMES.len());
    let has_test = files.len() > 1;
    let (train, test) = ("train".into(), has_test.then(|| "test".into()));
    let source = match format % 6 {
        0 => DataSource::Csv { train, test, header: false, scale: 1.0 },
        1 => DataSource::Csv { train, test, header: true, scale: 1e30 },
        2 => DataSource::Libsvm { train, test, features: None },
        3 => DataSource::Libsvm { train, test, features: Some(300) },
        4 => DataSource::MovieLens { train, test },
        _ => {
            let test = (files.len() == NAMES.len()).then(|| ["test".into(), "test-labels".into()]);
            DataSource::Idx { train: [train, "train-labels".into()], test }
        }
    };
    let directory = directory(NAMES.into_iter().zip(files));
    let data = DataSettings { root: directory.path().to_owned().into(), source };
    match data.source {
        DataSource::MovieLens { .. } => ratings(&data),
        _ => classes(&data),
    }
}

fn ratings(data: &DataSettings) {
    let Ok(ratings) = load_ratings(data, 1) else { return };
    for list in [Some(&ratings.train), ratings.test.as_ref()].into_iter().flatten() {
        assert!(!list.values.is_empty());
        assert!(list.users.len() == list.values.len() && list.items.len() == list.values.len());
        assert!(list.users.iter().all(|user| *user < ratings.users));
        assert!(list.items.iter().all(|item| *item < ratings.items));
        assert!(list.values.iter().all(|value| value.is_finite()));
    }
}

fn classes(data: &DataSettings) {
    let Ok(whole) = load_classification(data) else { return };
    assert!(whole.features <= MAX_FEATURES);
    assert!((2..=MAX_CLASSES).contains(&whole.labels.len()));
    assert!(whole.labels.is_sorted_by(|a, b| a < b));
    check_examples(&whole.train, &whole);
    whole.test.iter().for_each(|test| check_examples(test, &whole));
    if whole.features <= FEW_FEATURES {
        slice(data, &whole);
    }
}

fn check_examples(examples: &Examples, data: &Classification) {
    assert!(!examples.is_empty() && examples.rows.len() == examples.len());
    for (example, class) in examples.classes.iter().enumerate() {
        let row = examples.rows.row(example);
        assert!((*class as usize) < data.labels.len());
        assert!(row.features.is_sorted_by(|a, b| a < b));
        assert!(row.features.last().is_none_or(|last| *last < data.features));
        assert!(row.values.iter().all(|value| value.is_finite() && *value != 0.0));
    }
}

/// A part of the examples is as in the whole, and what is known of the others too.
fn slice(data: &DataSettings, whole: &Classification) {
    let every_other = |classes: &[u32]| (0..classes.len() as u32).step_by(2).collect();
    let part = load_classification_slice(data, every_other).expect("the whole could be read");
    assert_eq!((part.features, &part.labels), (whole.features, &whole.labels));
    assert_eq!((&part.train.classes, &part.test), (&whole.train.classes, &whole.test));
    assert_eq!(part.occurrences(), whole.occurrences());
    for example in 0..whole.train.len() {
        let row = part.train.rows.row(example);
        match example % 2 {
            0 => assert_eq!(row, whole.train.rows.row(example)),
            _ => assert!(row.features.is_empty()),
        }
    }
}
