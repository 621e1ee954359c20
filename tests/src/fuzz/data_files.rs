//! Training and test data, in every format, plain or gzip-compressed.

use gaia::learning::data::classification::{MAX_CLASSES, MAX_FEATURES};
use gaia::learning::data::{
    BagFormat, Column, DataSettings, DataSource, Delimiter, Layout, Outcome, RatingColumns, Scale,
};
use gaia::learning::data::{
    Classification, Examples, Vocabulary, load_classification, load_classification_slice, load_documents,
    load_ratings, preview,
};

use super::files::{directory, parts};

/// The names of the files: training and test data; those of IDX in pairs.
const NAMES: [&str; 4] = ["train", "test", "train-labels", "test-labels"];

/// Data sets with more features are not read in slices, which count how often each occurs.
const FEW_FEATURES: u32 = 1 << 12;

/// The dialect that the choice of a format leaves open, from a byte.
fn layout(choice: u8) -> Layout {
    let delimiters = [
        None,
        Some(Delimiter::Comma),
        Some(Delimiter::Semicolon),
        Some(Delimiter::Tab),
        Some(Delimiter::Blanks),
        Some(Delimiter::DoubleColon),
    ];
    Layout {
        delimiter: delimiters[usize::from(choice) % delimiters.len()],
        header: [None, Some(false), Some(true)][usize::from(choice) % 3],
        quotes: [None, Some(false), Some(true)][usize::from(choice / 18) % 3],
    }
}

fn column(choice: u8) -> Column {
    match choice % 4 {
        0 => Column::Last,
        1 => Column::Named("class".to_owned()),
        number => Column::Number(number.into()),
    }
}

/// The first bytes of documents.
const UCI_BAG: u8 = 255;
const LDA_C: u8 = 254;

fn documents(data: &DataSettings) {
    let Ok(corpus) = load_documents(data, None, 1) else { return };
    let vocabulary = corpus.vocabulary.as_deref().expect("files have words");
    reread(vocabulary);
    assert_eq!(load_documents(data, Some(vocabulary), 1).expect("all words are known"), corpus);
    for documents in [Some(&corpus.train), corpus.test.as_ref()].into_iter().flatten() {
        assert!(!documents.is_empty());
        let lengths: u64 = (0..documents.len()).map(|at| documents.length(at)).sum();
        assert_eq!(lengths, documents.tokens());
        for at in 0..documents.len() {
            assert!((1..=u64::from(u16::MAX)).contains(&documents.length(at)));
            assert!(documents.document(at).all(|(word, count)| word < corpus.words && count > 0));
        }
    }
}

/// The first byte chooses the format and its dialect, the others are the files.
pub fn data_files(data: &[u8]) {
    let Some((format, files)) = data.split_first() else { return };
    let files = parts(files, NAMES.len());
    let has_test = files.len() > 1;
    let (train, test) = ("train".into(), has_test.then(|| "test".into()));
    let (layout, choice) = (layout(format / 6), format / 6);
    let bag = match *format {
        UCI_BAG => Some(BagFormat::Uci),
        LDA_C => Some(BagFormat::LdaC),
        _ => None,
    };
    if let Some(format) = bag {
        let directory = directory(NAMES.into_iter().zip(files));
        let source = DataSource::Bags { format, train, test, vocabulary: "train-labels".into() };
        return documents(&DataSettings::new(directory.path().to_owned(), source));
    }
    let source = match format % 6 {
        0 => DataSource::Csv { train, test, layout, label: column(choice), scale: Scale::Standard },
        1 => DataSource::Csv { train, test, layout, label: column(choice), scale: Scale::Times(1e30) },
        2 => DataSource::Libsvm { train, test, features: None },
        3 => DataSource::Libsvm { train, test, features: Some(300) },
        4 => {
            let is_named = choice % 7 == 6;
            let name = |name: &str| is_named.then(|| Column::Named(name.to_owned()));
            let rating = is_named.then(|| column(choice));
            let columns = RatingColumns { user: name("user"), item: name("class"), rating };
            DataSource::MovieLens { train, test, layout, columns }
        }
        _ => {
            let test = (files.len() == NAMES.len()).then(|| ["test".into(), "test-labels".into()]);
            DataSource::Idx { train: [train, "train-labels".into()], test }
        }
    };
    let directory = directory(NAMES.into_iter().zip(files));
    let data = DataSettings::new(directory.path().to_owned(), source);
    match data.source {
        DataSource::MovieLens { .. } => ratings(&data),
        _ => classes(&data),
    }
}

fn ratings(data: &DataSettings) {
    _ = preview(data, Outcome::Class);
    let Ok(ratings) = load_ratings(data, None, 1) else { return };
    preview(data, Outcome::Class).expect("the whole could be read");
    let vocabulary = ratings.vocabulary.as_deref().expect("files have names");
    let again = load_ratings(data, Some(vocabulary), 1).expect("all names are known");
    assert_eq!(again, ratings);
    reread(vocabulary);
    for list in [Some(&ratings.train), ratings.test.as_ref()].into_iter().flatten() {
        assert!(!list.values.is_empty());
        assert!(list.users.len() == list.values.len() && list.items.len() == list.values.len());
        assert!(list.users.iter().all(|user| *user < ratings.users));
        assert!(list.items.iter().all(|item| *item < ratings.items));
        assert!(list.values.iter().all(|value| value.is_finite()));
    }
}

fn classes(data: &DataSettings) {
    _ = preview(data, Outcome::Class);
    let Ok(whole) = load_classification(data, None) else { return };
    preview(data, Outcome::Class).expect("the whole could be read");
    assert!(whole.features <= MAX_FEATURES);
    assert!((2..=MAX_CLASSES).contains(&whole.labels.len()));
    assert!(whole.labels.all().is_sorted_by(|a, b| a < b));
    reread(&whole.vocabulary());
    if whole.features <= FEW_FEATURES {
        let again = load_classification(data, Some(&whole.vocabulary())).expect("all names are known");
        assert_eq!(again, whole);
    }
    check_examples(&whole.train, &whole);
    whole.test.iter().for_each(|test| check_examples(test, &whole));
    if whole.features <= FEW_FEATURES {
        slice(data, &whole);
    }
}

/// What is kept beside a model is read back as it was.
fn reread(vocabulary: &Vocabulary) {
    let read = Vocabulary::from_json(&vocabulary.to_json()).expect("it was written so");
    assert_eq!((&read, read.digest()), (vocabulary, vocabulary.digest()));
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
    let part = load_classification_slice(data, None, every_other).expect("the whole could be read");
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
