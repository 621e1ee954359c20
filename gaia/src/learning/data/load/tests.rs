//! Loading, from files to data sets and messages.

use std::error::Error;
use std::fs;

use super::*;
use crate::learning::data::classification_to_judge;
use crate::learning::data::{DataRoot, Declared, RatingColumns};

/// Names and contents.
type Files<'a> = &'a [(&'a str, &'a [u8])];

fn settings(files: Files<'_>, source: DataSource) -> (tempfile::TempDir, DataSettings) {
    let folder = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, content)| fs::write(folder.path().join(name), content).unwrap());
    let root = folder.path().to_owned();
    (folder, DataSettings::new(root, source))
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
    load_classification(&data, None).map_err(|e| chain(&e, &data.root))
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
    assert_eq!((data.labels.summary(), data.features), ("1, 2".to_owned(), 5));
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
    assert_eq!((data.features, data.labels.summary()), (9, "4, 9".to_owned()));
    assert_eq!(load(&images(3, 3), &images(2, 3)).unwrap_err(), "l has 2 examples, i has 3");
    assert_eq!(load(&images(2, 3), &images(2, 2)).unwrap_err(), "ti has 4 features, i has 9");
}

#[test]
fn errors_name_the_file_and_the_place() {
    let train: (&str, &[u8]) = ("train", b"1 1:1\n2 1:2\n");
    let table: [(Files<'_>, &str); 4] = [
        (
            &[train, ("test", b"1 1:1\n3 1:1\n")],
            "cannot use test: example 2: label 3 is none of the 2 known labels: 1, 2",
        ),
        (&[train, ("test", b"")], "cannot use test: has no examples, at least one is needed"),
        (&[("train", b"1 1:1\n1 1:2\n")], "cannot use train: has 1 different labels, 2 to 65536 are allowed"),
        (
            &[("train", b"1 x\n")],
            "cannot use train: line 1: `x`, only index:value is allowed, where the value is a number",
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
    let source = DataSource::csv("a", Some("b"));
    let found = classes(&[("a", b"1,2,0\n1,3,1\n"), ("b", b"1,0\n")], source);
    assert_eq!(found.unwrap_err(), "b has 1 features, a has 2");
    // Columns in another order are found by their names.
    let train: &[u8] = b"x,y,class\n1,2,0\n1,3,1\n";
    let files: Files<'_> = &[("a", train), ("b", b"y,x,class\n7,1,0\n")];
    let found = classes(files, DataSource::csv("a", Some("b"))).expect("it has all features");
    assert_eq!(found.test.expect("there is one").rows.row(0).values, [1.0, 7.0]);
    assert_eq!(found.feature_names, Some(vec!["x".to_owned(), "y".to_owned()]));
    let files: Files<'_> = &[("a", train), ("b", b"y,z,class\n7,1,0\n")];
    let found = classes(files, DataSource::csv("a", Some("b")));
    let missing = "line 1: no column of the feature `x` in the header `y`, `z`, `class`";
    assert_eq!(found.unwrap_err(), format!("cannot use b: {missing}"));
}

#[test]
fn data_of_the_wrong_kind_is_refused() {
    let source = DataSource::ratings("r", None);
    let found = classes(&[], source).unwrap_err();
    assert_eq!(found, "this kind of model trains on classes, not on ratings");
    let (_folder, data) = settings(&[], libsvm());
    let found = load_ratings(&data, None, 1).unwrap_err().to_string();
    assert_eq!(found, "factorisation trains on ratings, not on classes");
    let source = DataSource::Planted { users: 1, items: 0, rank: 1, ratings: 1, noise: 0.0 };
    let (_folder, data) = settings(&[], source);
    assert_eq!(
        load_ratings(&data, None, 1).unwrap_err().to_string(),
        "planted ratings with 0 items, at least 1 is needed"
    );
}

#[test]
fn a_slice_has_the_features_of_its_examples_and_the_places_of_all() {
    let files: Files<'_> = &[("train", b"1 1:1 3:2\n2 2:1\n1 3:5\n"), ("test", b"2 5:1\n")];
    let (_folder, data) = settings(files, libsvm());
    let whole = load_classification(&data, None).expect("it is sound");
    let slice = load_classification_slice(&data, None, |classes| {
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
    let changing = load_classification_slice(&data, None, |_| {
        fs::write(path, "1 1:1 3:2\n2 2:1\n1 1:5\n").expect("a file");
        vec![0]
    });
    let message = changing.expect_err("it is another file now").to_string();
    assert!(message.ends_with("train was changed while it was read"), "{message}");
}

#[test]
fn data_is_read_by_the_names_that_are_known() {
    let known = Vocabulary::Classes {
        labels: [0, 1, 2, 3].map(crate::learning::data::Name::Number).into_iter().collect(),
        features: 7,
        feature_names: None,
        scaling: None,
    };
    let train = |text: &str| {
        let (_folder, data) = settings(
            &[("train", text.as_bytes())],
            DataSource::Libsvm { train: "train".into(), test: None, features: None },
        );
        load_classification(&data, Some(&known)).map_err(|error| chain(&error, &data.root))
    };
    // A single label is enough, and means what it means elsewhere.
    let own = train("3 1:1\n3 2:1\n").expect("its label is known");
    assert_eq!((own.train.classes, own.features, own.labels.len()), (vec![3, 3], 7, 4));
    assert_eq!(
        train("3 1:1\n9 2:1\n").unwrap_err(),
        "cannot use train: example 2: label 9 is none of the 4 known labels: 0, 1, 2, 3"
    );
    assert!(train("3 8:1\n").unwrap_err().contains("index 8, 1 to 7 is allowed here"));
    let (_folder, data) = settings(&[("train", b"1,2,3\n")], DataSource::ratings("train", None));
    let error = load_ratings(&data, Some(&known), 1).expect_err("it has no classes").to_string();
    assert_eq!(error, "the names that are known are those of classes, and the data has ratings");
}

#[test]
fn other_data_is_mapped_by_the_names_of_the_models_features() {
    let (_folder, data) =
        settings(&[("train", b"height,weight,class\n1,2,0\n3,4,1\n")], DataSource::csv("train", None));
    let known = load_classification(&data, None).expect("it is sound").vocabulary();
    let judged = |text: &str| {
        let (_folder, other) = settings(&[("other", text.as_bytes())], DataSource::csv("other", None));
        let files = [other.root.file("other".as_ref())];
        let found =
            classification_to_judge(&known, &other, &files).map_err(|error| chain(&error, &other.root))?;
        let trained =
            load_classification(&other, Some(&known)).map_err(|error| chain(&error, &other.root))?;
        assert_eq!((found.vocabulary(), trained.vocabulary()), (known.clone(), known.clone()));
        let test = found.test.expect("it is there to be judged");
        assert_eq!(test.rows, trained.train.rows, "regions read their own data alike");
        Ok::<_, String>(test.rows.row(0).values.to_vec())
    };
    assert_eq!(judged("weight,height,class\n5,6,0\n"), Ok(vec![6.0, 5.0]));
    assert_eq!(judged("6,5,0\n"), Ok(vec![6.0, 5.0]), "without a header the order tells");
    let missing =
        "cannot use other: line 1: no column of the feature `height` in the header `weight`, `class`";
    assert_eq!(judged("weight,class\n5,0\n").unwrap_err(), missing);
    // Names that somebody declared without those of features leave them to the file.
    let declared = Declared {
        labels: Some([0, 1].map(crate::learning::data::Name::Number).into_iter().collect()),
        ..Declared::default()
    };
    let data = DataSettings { declared, ..data };
    assert_eq!(load_classification(&data, None).expect("it is sound").vocabulary(), known);
}

#[test]
fn a_test_file_is_standardised_by_the_training_files_figures() {
    let mut source = DataSource::csv("train", Some("test"));
    if let DataSource::Csv { scale, .. } = &mut source {
        *scale = Scale::Standard;
    }
    let files: Files<'_> = &[("train", b"1,5,a\n3,5,b\n"), ("test", b"4,7,b\n")];
    let (_folder, data) = settings(files, source);
    let whole = load_classification(&data, None).expect("it is sound");
    assert_eq!(whole.train.rows.row(0).values, [-1.0]);
    assert_eq!(whole.test.as_ref().expect("there is one").rows.row(0).values, [2.0, 2.0]);
    assert_eq!(whole.scaling, Some(Scaling { means: vec![2.0, 5.0], deviations: vec![1.0, 1.0] }));
    let slice = load_classification_slice(&data, None, |_| vec![1]).expect("it is sound");
    assert_eq!((slice.occurrences(), &slice.scaling), (whole.occurrences(), &whole.scaling));
    assert_eq!(slice.train.rows.row(1), whole.train.rows.row(1));
    // Other data is scaled by what is known, and not by figures of its own.
    let known = whole.vocabulary();
    let (_folder, other) = settings(&[("train", b"9,9,b\n"), ("test", b"4,7,b\n")], data.source.clone());
    let other = load_classification(&other, Some(&known)).expect("its label is known");
    assert_eq!(other.train.rows.row(0).values, [7.0, 4.0]);
}

#[test]
fn the_first_rows_are_shown_as_they_are_understood() {
    let shown = |text: &str, source: DataSource| {
        let (_folder, data) = settings(&[("train", text.as_bytes())], source);
        crate::learning::data::preview(&data, Outcome::Class).expect("it is sound")
    };
    assert_eq!(
        shown("x;y;class\n1;2;setosa\n3;4;virginica\n", DataSource::csv("train", None)),
        [
            "columns between `;`, header `x`, `y`, `class`, the class in column 3",
            "line 2: class setosa of 1, 2",
            "line 3: class virginica of 3, 4"
        ]
    );
    assert_eq!(
        shown("rating,user,item\n5,1,10\n3,AX,11\n", DataSource::ratings("train", None)),
        [
            "columns between `,`, header `rating`, `user`, `item`: user 2, item 3, rating 1",
            "line 2: user 1, item 10, rating 5",
            "line 3: user AX, item 11, rating 3"
        ]
    );
    let libsvm = DataSource::Libsvm { train: "train".into(), test: None, features: None };
    assert_eq!(shown("# x\n-1 1:0.5 7:2\n", libsvm)[1..], ["line 2: class -1 of 1:0.5, 7:2"]);
}

/// What a packed file of a megabyte may cost: it took gigabytes.
#[test]
fn a_line_without_end_is_refused_by_every_format() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(b'1'), 40 << 20), &mut encoder).expect("memory");
    let bomb = encoder.finish().expect("memory");
    let files: Files<'_> = &[("train", &bomb)];
    let libsvm = DataSource::Libsvm { train: "train".into(), test: None, features: None };
    for source in [libsvm, DataSource::csv("train", None), DataSource::ratings("train", None)] {
        let (_folder, data) = settings(files, source);
        let error = match data.source.has_ratings() {
            true => load_ratings(&data, None, 1).map(drop),
            false => load_classification(&data, None).map(drop),
        };
        let message = chain(&error.expect_err("it is refused"), &data.root);
        let expected = "cannot use train: line 1: is longer than the 16777216 bytes allowed";
        assert_eq!(message, expected);
    }
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
            _ = libsvm::read(bytes, None, Outcome::Class, Keep::All);
            let [header, quotes] = [cut, cut / 3].map(|choice| [None, Some(true), Some(false)][choice % 3]);
            let layout = Layout { delimiter: None, header, quotes };
            let label = Column::Number(1 + cut as u32 % 3);
            let form = Form {
                layout,
                label: &label,
                outcome: Outcome::Class,
                features: Features::Measured,
                names: None,
            };
            _ = csv::read(bytes, form, Keep::All);
            _ = movielens::read(bytes, layout, &RatingColumns::default());
        }
    }
}
