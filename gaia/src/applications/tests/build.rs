//! From a job to its application.

use std::error::Error;

use super::*;
use crate::applications::build;
use crate::job::{ApplicationSettings, Job};

fn job(application: ApplicationSettings, source: DataSource) -> Job {
    Job { application, data: DataSettings { root: shipped().into(), source }, ..crate::job::tests::job() }
}

fn softmax() -> ApplicationSettings {
    let learning_rate = LearningRate { initial: 1.0, decay: Decay::Constant };
    ApplicationSettings::Softmax(SoftmaxSettings {
        l2: 0.0,
        batch: 10,
        batches: 1,
        learning_rate,
        adagrad: false,
    })
}

fn factorisation(rank: u32) -> ApplicationSettings {
    ApplicationSettings::Factorisation(super::factorisation::settings(rank, 0.1, 0.05, 0.9))
}

fn planted(users: u32, rank: u32) -> DataSource {
    DataSource::Planted { users, items: 10, rank, ratings: 100, noise: 0.1 }
}

fn message(job: &Job) -> String {
    let error = build(job, 1).err().expect("the job is wrong");
    [Some(error.to_string()), error.source().map(ToString::to_string)]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(": ")
}

#[test]
fn jobs_become_applications() {
    let digits =
        DataSource::Csv { train: "digits-train.csv.gz".into(), test: None, header: false, scale: 0.0625 };
    let application = build(&job(softmax(), digits), 1).unwrap();
    let tables = application.tables();
    assert_eq!((tables[0].name.as_str(), tables[0].rows, tables[0].width), ("weights", 65, 10));
    // No test set: the metric is that of the training set, where all-zero weights choose the first class.
    let evaluation = trained(&*application, 2, 0);
    assert!((evaluation.objective - libm::log(10.0)).abs() < 1e-6);
    assert_eq!(evaluation.metric.value, 143.0 / 1437.0);

    let application = build(&job(factorisation(3), planted(20, 2)), 1).unwrap();
    let shapes: Vec<_> = application.tables().into_iter().map(|t| (t.name, t.rows, t.width)).collect();
    assert_eq!(shapes, [("users".to_owned(), 20, 4), ("items".to_owned(), 10, 4)]);
}

#[test]
fn jobs_that_cannot_be_are_refused() {
    let table = [
        (job(softmax(), planted(20, 2)), "softmax regression trains on classes, not on ratings"),
        (
            job(factorisation(u32::MAX), planted(20, 2)),
            "the model would have 20 rows of 4294967296 elements, at most 1073741824 elements are allowed",
        ),
        (
            job(factorisation(3), planted(u32::MAX, 2)),
            "the model would have 4294967295 rows of 2 elements, at most 1073741824 elements are allowed",
        ),
    ];
    for (job, expected) in table {
        assert_eq!(message(&job), expected);
    }
    let missing = DataSource::Csv { train: "none.csv".into(), test: None, header: false, scale: 1.0 };
    assert!(message(&job(softmax(), missing)).contains("none.csv: cannot be opened"));
}
