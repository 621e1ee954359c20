//! From a job to its application.

use std::error::Error;

use super::*;
use crate::learning::application::{Learner, Model, Workspace};

fn job(model: ModelSettings, source: DataSource) -> Job {
    Job { model, data: DataSettings::new(shipped(), source), ..crate::job::tests::job() }
}

fn softmax() -> ModelSettings {
    softmax_with(0.0)
}

fn softmax_with(l2: f64) -> ModelSettings {
    let learning_rate = LearningRate { initial: 1.0, decay: Decay::Constant };
    ModelSettings::new(
        SoftmaxKind,
        SoftmaxSettings { l2, batch: 10, batches: 1, learning_rate, adagrad: false },
    )
}

fn factorisation(rank: u32) -> ModelSettings {
    ModelSettings::new(FactorisationKind, super::factorisation::settings(rank, 0.1, 0.05, 0.9))
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
    let digits = DataSource::scaled_csv("digits-train.csv.gz", None, 0.0625);
    let application = build(&job(softmax(), digits), 1).unwrap();
    let tables = application.tables();
    assert_eq!((tables[0].name.as_str(), tables[0].rows, tables[0].width), ("weights", 65, 10));
    // No test set: the metric is that of the training set, where all-zero weights choose the first
    // class.
    let evaluation = trained(&*application, 2, 0);
    assert!((evaluation.objective - libm::log(10.0)).abs() < 1e-6);
    assert_eq!(evaluation.metric.value, 143.0 / 1437.0);

    let hidden = vec![16];
    let learning_rate = LearningRate { initial: 0.1, decay: Decay::Constant };
    let settings = PerceptronSettings { hidden, l2: 0.0, batch: 10, batches: 1, learning_rate };
    let digits = DataSource::scaled_csv("digits-train.csv.gz", None, 0.0625);
    let application = build(&job(ModelSettings::new(PerceptronKind, settings), digits), 1).unwrap();
    let shapes: Vec<_> = application.tables().into_iter().map(|t| (t.name, t.rows, t.width)).collect();
    assert_eq!(shapes[2], ("layers.1.weight".to_owned(), 10, 16));
    assert!(application.vocabulary().is_some());

    let application = build(&job(factorisation(3), planted(20, 2)), 1).unwrap();
    let shapes: Vec<_> = application.tables().into_iter().map(|t| (t.name, t.rows, t.width)).collect();
    assert_eq!(shapes, [("users".to_owned(), 20, 4), ("items".to_owned(), 10, 4)]);
}

#[test]
fn jobs_that_cannot_be_are_refused() {
    let table = [
        (job(softmax(), planted(20, 2)), "this kind of model trains on classes, not on ratings"),
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
    let missing = DataSource::csv("none.csv", None);
    assert!(message(&job(softmax(), missing)).contains("none.csv: cannot be opened"));
}

#[test]
fn a_worker_learns_from_its_slice_what_it_would_from_all() {
    const PARTS: usize = 6;
    let digits = DataSource::scaled_csv("digits-train.csv.gz", None, 0.0625);
    // The penalty goes by how often a feature occurs in the whole.
    let settings = softmax_with(0.1);
    let zeros = |application: &dyn Application| Model::zeros(&application.tables());
    let learned = |application: &dyn Application, mut learner: Box<dyn Learner + '_>| {
        let (mut model, mut workspace) = (zeros(application), Workspace::new(1));
        for clock in 0..5 {
            workspace.begin(&mut *learner, clock);
            workspace.step(&mut *learner, clock, &mut model).expect("its steps succeed");
        }
        model
    };
    for partition in [Partition::Random, Partition::LabelSkewed, Partition::Dirichlet(0.5)] {
        let job = Job { partition, ..job(settings.clone(), digits.clone()) };
        let whole = build(&job, 1).expect("it is sound");
        let slice = job.input(1).parts(PARTS, &[1, 4]).application().expect("it is sound");
        assert_eq!(slice.tables(), whole.tables());
        let parts = whole.partition(PARTS);
        assert_eq!(slice.partition(PARTS), parts);
        for part in [1, 4] {
            let [from_slice, from_whole] =
                [&slice, &whole].map(|each| learned(&**each, each.learner(parts[part].clone(), 0.5, 3)));
            assert_eq!(from_slice, from_whole);
        }
        let foreign = std::panic::AssertUnwindSafe(|| drop(slice.learner(parts[0].clone(), 0.5, 3)));
        assert!(std::panic::catch_unwind(foreign).is_err(), "its examples have no features here");
        let evaluation = slice.evaluate(&zeros(&*slice));
        assert!((evaluation.objective - libm::log(10.0)).abs() < 1e-6, "what is kept is scored");
    }
}
