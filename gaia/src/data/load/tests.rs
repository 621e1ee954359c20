//! Loading, from files to data sets and messages.

use std::error::Error;
use std::fs;

use super::*;
use crate::job::DataRoot;

/// Names and contents.
type Files<'a> = &'a [(&'a str, &'a [u8])];

fn settings(files: Files<'_>, source: DataSource) -> (tempfile::TempDir, DataSettings) {
    let folder = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, content)| fs::write(folder.path().join(name), content).unwrap());
    let root = folder.path().to_owned().into();
    (folder, DataSettings { root, source })
}

/// The messages of an error and its causes, the folder left out.
fn chain(error: &dyn Error, root: &DataRoot) -> String {
    let mut messages = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        messages.push(error.to_string());
        cause = error.source();
    }
    messages.join(": ").replace(&format!("{}/", root), "")
}

fn classes(files: Files<'_>, source: DataSource) -> Result<Classification, String> {
    let (_folder, data) = settings(files, source);
    load_classification(&data).map_err(|e| chain(&e, &data.root))
}

fn libsvm() -> DataSource {
    DataSource::Libsvm { train: "train".into(), test: Some("test".into()), features: None }
}

fn idx() -> DataSource {
    DataSource::Idx { train: ["i".into(), "l".into()], test: Some(["ti".into(), "tl".into()]) }
}

#[test]
fn a_test_file_is_mapped_by_the_training_files_classes() {
    let data = classes(&[("train", b"2 1:1\n1 2:1\n"), ("test", b"2 5:1\n")], libsvm()).unwrap();
    assert_eq!((&data.labels[..], data.features), (&[1, 2][..], 5));
    assert_eq!((data.train.classes, data.test.unwrap().classes), (vec![1, 0], vec![1]));
}

#[test]
fn idx_files_are_loaded_in_pairs() {
    let images = |count: u8, side: u8| {
        let mut file = vec![0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, side, 0, 0, 0, side];
        file.resize(16 + usize::from(count * side * side), 255);
        file
    };
    let labels = [0, 0, 8, 1, 0, 0, 0, 2, 4, 9];
    let load = |train: &[u8], test: &[u8]| {
        classes(&[("i", train), ("l", &labels), ("ti", test), ("tl", &labels)], idx())
    };
    let data = load(&images(2, 3), &images(2, 3)).unwrap();
    assert_eq!((data.features, &data.labels[..]), (9, &[4, 9][..]));
    assert_eq!(load(&images(3, 3), &images(2, 3)).unwrap_err(), "l has 2 examples, i has 3");
    assert_eq!(load(&images(2, 3), &images(2, 2)).unwrap_err(), "ti has 4 features, i has 9");
}

#[test]
fn errors_name_the_file_and_the_place() {
    let train: (&str, &[u8]) = ("train", b"1 1:1\n2 1:2\n");
    let table: [(Files<'_>, &str); 4] = [
        (
            &[train, ("test", b"1 1:1\n3 1:1\n")],
            "cannot use test: example 2: label 3 is none of the training file's 2 labels",
        ),
        (&[train, ("test", b"")], "cannot use test: has no examples, at least one is needed"),
        (&[("train", b"1 1:1\n1 1:2\n")], "cannot use train: has 1 different labels, 2 to 65536 are allowed"),
        (
            &[("train", b"1 x\n")],
            "cannot use train: line 1: `x`, only index:value with a finite number as value is allowed",
        ),
    ];
    for (files, message) in table {
        let source = match files.len() {
            1 => DataSource::Libsvm { train: "train".into(), test: None, features: None },
            _ => libsvm(),
        };
        assert_eq!(classes(files, source).unwrap_err(), message);
    }
    let missing = classes(&[], libsvm()).unwrap_err();
    assert!(missing.starts_with("cannot use train: cannot be opened: "), "{missing}");
}

#[test]
fn a_csv_test_file_has_the_training_files_features() {
    let source = DataSource::Csv { train: "a".into(), test: Some("b".into()), header: false, scale: 1.0 };
    let found = classes(&[("a", b"1,2,0\n1,3,1\n"), ("b", b"1,0\n")], source);
    assert_eq!(found.unwrap_err(), "b has 1 features, a has 2");
}

#[test]
fn data_of_the_wrong_kind_is_refused() {
    let source = DataSource::MovieLens { train: "r".into(), test: None };
    let found = classes(&[], source).unwrap_err();
    assert_eq!(found, "softmax regression trains on classes, not on ratings");
    let (_folder, data) = settings(&[], libsvm());
    let found = load_ratings(&data, 1).unwrap_err().to_string();
    assert_eq!(found, "factorisation trains on ratings, not on classes");
    let source = DataSource::Planted { users: 1, items: 0, rank: 1, ratings: 1, noise: 0.0 };
    let (_folder, data) = settings(&[], source);
    assert_eq!(
        load_ratings(&data, 1).unwrap_err().to_string(),
        "planted ratings with 0 items, at least 1 is needed"
    );
}

#[test]
fn a_slice_has_the_features_of_its_examples_and_the_places_of_all() {
    let files: Files<'_> = &[("train", b"1 1:1 3:2\n2 2:1\n1 3:5\n"), ("test", b"2 5:1\n")];
    let (_folder, data) = settings(files, libsvm());
    let whole = load_classification(&data).expect("it is sound");
    let slice = load_classification_slice(&data, |classes| {
        assert_eq!(classes, [0, 1, 0]);
        vec![2, 1]
    });
    let slice = slice.expect("it is sound");
    assert!(slice.train.rows.row(0).features.is_empty());
    for index in [1, 2] {
        assert_eq!(slice.train.rows.row(index), whole.train.rows.row(index));
    }
    assert_eq!((&slice.train.classes, slice.features), (&whole.train.classes, 5));
    assert_eq!((&slice.labels, &slice.test), (&whole.labels, &whole.test));
    assert_eq!(slice.occurrences(), whole.occurrences());
    assert_eq!(slice.slice.expect("it is one").kept, [1, 2]);

    let path = data.root.file("train".as_ref()).to_string();
    let changing = load_classification_slice(&data, |_| {
        fs::write(path, "1 1:1 3:2\n2 2:1\n1 1:5\n").expect("a file");
        vec![0]
    });
    let message = changing.expect_err("it is another file now").to_string();
    assert!(message.ends_with("train was changed while it was read"), "{message}");
}

proptest::proptest! {
    /// Whatever the bytes: a data set or an error, at once.
    #[test]
    fn no_input_panics(content: Vec<u8>, cut in 0usize..40) {
        let header = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2];
        let text = String::from_utf8_lossy(&content).replace(|c: char| !c.is_ascii(), "1");
        for bytes in [&content[..], &[&header[..], &content].concat(), text.as_bytes()] {
            let bytes = &bytes[..bytes.len().min(cut)];
            _ = idx::read_images(bytes, Keep::All);
            _ = idx::read_labels(bytes);
            _ = libsvm::read(bytes, None, Keep::All);
            _ = csv::read(bytes, cut % 2 == 0, 1.0, Keep::All);
            _ = movielens::read(bytes);
        }
    }
}
