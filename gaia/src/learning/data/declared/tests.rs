use std::error::Error;
use std::fs;

use super::*;
use crate::learning::data::load_classification;
use crate::learning::data::{DataSource, HashedIds};

fn data(text: &str, source: DataSource) -> (tempfile::TempDir, DataSettings) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("train"), text).expect("a file");
    let data = DataSettings::new(folder.path().to_owned(), source);
    (folder, data)
}

fn labels(numbers: impl IntoIterator<Item = i64>) -> Names {
    numbers.into_iter().map(Name::Number).collect()
}

/// The error and its cause, without the folder.
fn message(error: &DataError, folder: &tempfile::TempDir) -> String {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}").replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn declared_labels_are_the_classes_of_whatever_the_file_has() {
    let declared = Declared { labels: Some(labels(0..10)), ..Declared::default() };
    let (_high, mut high) = data("1,2,7\n3,4,9\n", DataSource::csv("train", None));
    high.declared = declared.clone();
    let high = load_classification(&high, None).expect("its labels are declared");
    assert_eq!((high.train.classes.as_slice(), high.labels.len()), (&[7, 9][..], 10));
    // A region with a single label takes part.
    let (_single, mut single) = data("1,2,3\n3,4,3\n", DataSource::csv("train", None));
    single.declared = declared.clone();
    let single = load_classification(&single, None).expect("its label is declared");
    assert_eq!((single.train.classes.as_slice(), &single.vocabulary()), (&[3, 3][..], &high.vocabulary()));
    let (folder, mut other) = data("1,2,3\n3,4,12\n", DataSource::csv("train", None));
    other.declared = declared;
    let error = load_classification(&other, None).expect_err("it has a label that is not declared");
    assert_eq!(
        message(&error, &folder),
        "cannot use train: example 2: label 12 is none of the 10 known labels: 0 to 9"
    );
}

#[test]
fn the_names_of_all_regions_make_one_model_of_ratings() {
    let source = || DataSource::ratings("train", None);
    let parts =
        ["1,100,2\n2,101,4\n", "7,1000,5\n7,100,5\n8,1001,5\n9,1000,5\n"].map(|text| data(text, source()));
    let [here, there] = [0, 1].map(|at: usize| find(&parts[at].1, Outcome::Class).expect("it is sound"));
    let merged = here.clone().merge(there.clone()).expect("both are ratings");
    let expected = Vocabulary::Ratings {
        users: labels([1, 2, 7, 8, 9]),
        items: labels([100, 101, 1000, 1001]),
        mean: 26.0 / 6.0,
        range: (2.0, 5.0),
    };
    assert_eq!((&merged.vocabulary, merged.examples), (&expected, 6));
    assert_eq!(NamesFile::from_json(&merged.to_json()), Ok(merged.clone()));
    for (folder, data) in parts {
        let file = folder.path().join("names.json");
        fs::write(&file, merged.to_json()).expect("a file");
        let own = load_ratings(&data, None, 1).expect("it is sound").vocabulary;
        let declared =
            DataSettings { declared: Declared { file: Some(file.clone()), ..Declared::default() }, ..data };
        let read = load_ratings(&declared, None, 1).expect("its names are declared");
        assert_eq!((read.users, read.items, read.vocabulary.as_deref()), (5, 4, Some(&expected)));
        assert_ne!(own.as_deref(), Some(&expected));
        fs::write(folder.path().join("train"), "1,100,3\n77,100,3\n").expect("a file");
        let error = load_ratings(&declared, None, 1).expect_err("a user is not declared");
        assert!(message(&error, &folder).contains("rating 2: user 77 is none of the 5 known"), "{error:?}");
    }
    let classes = NamesFile {
        vocabulary: Vocabulary::Classes {
            labels: labels(0..2),
            features: 1,
            feature_names: None,
            scaling: None,
        },
        examples: 1,
    };
    assert_eq!(here.merge(classes), Err("it has classes, we have ratings".to_owned()));
}

#[test]
fn labels_and_widths_of_all_regions_make_one_model_of_classes() {
    let source = || DataSource::Libsvm { train: "train".into(), test: None, features: None };
    let parts = ["4 1:1 3:1\n", "8 2:1 7:1\n9 1:1\n"].map(|text| data(text, source()));
    let found = parts.each_ref().map(|(_, data)| find(data, Outcome::Class).expect("a single label will do"));
    let [here, there] = found;
    let merged = there.merge(here).expect("both are classes");
    for (folder, data) in parts {
        let file = folder.path().join("names.json");
        fs::write(&file, merged.to_json()).expect("a file");
        let declared =
            DataSettings { declared: Declared { file: Some(file), ..Declared::default() }, ..data };
        let read = load_classification(&declared, None).expect("its names are declared");
        assert_eq!((read.features, read.labels.summary()), (7, "4, 8, 9".to_owned()));
        assert_eq!(read.vocabulary(), merged.vocabulary);
    }
}

#[test]
fn a_file_of_names_that_is_none_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("names.json");
    let missing = NamesFile::read(&path).expect_err("there is none");
    assert!(message(&missing, &folder).starts_with("cannot use the names in names.json: "), "{missing}");
    let table = [
        ("7", "invalid type"),
        (r#"{"kind":"classes","labels":[1,0],"features":2}"#, "not in ascending order"),
        (r#"{"kind":"classes","labels":[0,1],"features":0}"#, "2 labels and 0 features"),
        (
            r#"{"kind":"classes","labels":["7"],"features":2}"#,
            "`7` is among the labels, and data never has it",
        ),
        (r#"{"kind":"ratings","users":[],"items":[1],"mean":3.0,"range":[1,5]}"#, "there are no users"),
        (r#"{"kind":"classes","labels":[0,1],"features":2,"examples":-1}"#, "invalid value"),
    ];
    for (text, words) in table {
        fs::write(&path, text).expect("a file");
        let error = message(&NamesFile::read(&path).expect_err(text), &folder);
        assert!(error.contains(words), "{text}: {error}");
    }
    fs::write(&path, r#"{"kind":"classes","labels":[4],"features":2}"#).expect("a file");
    let (_folder, mut data) = data("1,2,4\n", DataSource::csv("train", None));
    data.declared.file = Some(path);
    let error = message(&load_classification(&data, None).expect_err("a class is no choice"), &folder);
    assert_eq!(error, "cannot use the names in names.json: 1 label, at least two are needed");
}

fn hashed(text: &str, users: u32, items: u32) -> (tempfile::TempDir, DataSettings) {
    let (folder, mut data) = data(text, DataSource::ratings("train", None));
    let ids = HashedIds { users, items, mean: 3.5, range: (1.0, 5.0) };
    data.declared.hashed = Some(ids);
    (folder, data)
}

#[test]
fn regions_with_hashed_ids_agree_on_rows_without_a_word() {
    let (_here, here) = hashed("1,100,2\n2,101,4\nAX,7,1\n", 1000, 500);
    let (_there, there) = hashed("7,1000,5\nAX,100,5\n2.0,7,5\n", 1000, 500);
    let [one, other] = [&here, &there].map(|data| load_ratings(data, None, 1).expect("it is sound"));
    assert_eq!((one.users, one.items), (1000, 500));
    assert_eq!(one.vocabulary, other.vocabulary, "though they have other ids, and other ratings");
    // `AX` and 2, 100 and 7.
    assert_eq!((one.train.users[2], one.train.users[1]), (other.train.users[1], other.train.users[2]));
    assert_eq!((one.train.items[0], one.train.items[2]), (other.train.items[1], other.train.items[2]));
    // As any other program has them: sha256 of "1", "2" and "AX".
    assert_eq!(one.train.users, [913, 446, 764]);
    let vocabulary = one.vocabulary.expect("files have names");
    assert_eq!(Vocabulary::from_json(&vocabulary.to_json()).as_ref(), Ok(&*vocabulary));
    let (_wider, wider) = hashed("1,100,2\n", 1000, 501);
    let wider = load_ratings(&wider, None, 1).expect("it is sound").vocabulary.expect("files have names");
    assert_eq!(
        vocabulary.difference(&wider).as_deref(),
        Some(
            "it has 1000 rows of users, 501 of items, ratings from 1 to 5 around 3.5, \
             we have 1000 rows of users, 500 of items, ratings from 1 to 5 around 3.5"
        )
    );
}

#[test]
fn how_many_ids_share_a_row_is_counted() {
    // Fifty users, each with a rating of item 0 and one of its own, in twenty rows.
    let text: String = (0..50).map(|user| format!("{user},0,3\n{user},{},4\n", user + 1)).collect();
    let (_folder, crowded) = hashed(&text, 20, 1_000_000);
    let ratings = load_ratings(&crowded, None, 1).expect("it is sound");
    // Two users of one row rate the same item, and both ratings count.
    assert_eq!((ratings.train.len(), ratings.repeated), (100, 0));
    let mut users = std::collections::BTreeMap::<u32, usize>::new();
    for user in ratings.train.users.iter().step_by(2) {
        *users.entry(*user).or_default() += 1;
    }
    let sharing: usize = users.values().filter(|ids| **ids > 1).sum();
    assert!(sharing > 30, "{sharing}");
    let [of_users, of_items] = ratings.shared_rows.expect("rows are hashed").map(|shared| shared.to_string());
    assert_eq!(of_users, format!("50 users in 20 rows: {sharing} share a row ({} %)", 2 * sharing));
    assert_eq!(of_items, "51 items in 1000000 rows: 0 share a row (0 %)");
}

#[test]
fn ratings_beyond_what_is_said_are_refused() {
    let (folder, data) = hashed("1,100,2\n2,101,5.5\n", 10, 10);
    let error = load_ratings(&data, None, 1).expect_err("5.5 is beyond 5");
    assert_eq!(message(&error, &folder), "cannot use train: rating 2 is 5.5; job.data.range allows 1 to 5");
}

#[test]
fn the_features_of_all_regions_have_one_order() {
    let parts = ["height,weight,class\n1,2,0\n", "weight,height,class\n2,1,1\n", "1,2,1\n"]
        .map(|text| data(text, DataSource::csv("train", None)));
    let found = parts.each_ref().map(|(_, data)| find(data, Outcome::Class).expect("a single label will do"));
    assert_ne!(found[0].vocabulary, found[1].vocabulary);
    let [here, there, bare] = found;
    let merged =
        here.clone().merge(there).expect("both have the same features").merge(bare).expect("it has as many");
    assert_eq!(merged.vocabulary.feature_names(), Some(&["height".to_owned(), "weight".to_owned()][..]));
    for (folder, data) in parts {
        let file = folder.path().join("names.json");
        fs::write(&file, merged.to_json()).expect("a file");
        let declared =
            DataSettings { declared: Declared { file: Some(file), ..Declared::default() }, ..data };
        let read = load_classification(&declared, None).expect("its names are declared");
        assert_eq!(
            (read.vocabulary(), read.train.rows.row(0).values),
            (merged.vocabulary.clone(), &[1.0, 2.0][..])
        );
    }
    for (text, message) in [
        ("height,age,class\n1,2,0\n", "it has the feature `age`, those before have not"),
        ("height,class\n1,0\n", "it has 1 features, those before have 2"),
    ] {
        let (_folder, other) = data(text, DataSource::csv("train", None));
        let other = find(&other, Outcome::Class).expect("it is sound");
        assert_eq!(here.clone().merge(other), Err(message.to_owned()));
    }
}
