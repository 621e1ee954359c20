//! What models predict, against plain computations, and against the score that a run reports.

use datacenter::{TableId, TableSpec};

use super::*;
use crate::job::tests::job;
use crate::learning::application::Model;
use crate::learning::data::DataFile;
use crate::learning::data::{Name, Purpose, Vocabulary, gaussian, stream};

/// The application that judges by `files`, and how many examples it leaves out.
fn build_judging(
    job: &Job,
    seed: u64,
    known: Option<&Vocabulary>,
    files: &[DataFile],
) -> Result<(Box<dyn Application>, u64), BuildError> {
    let input = job.input(seed).judging(known, files);
    let application = input.application()?;
    Ok((application, input.left_out()))
}

/// A model of any numbers.
fn any_model(specs: &[TableSpec]) -> (Model, Vec<Vec<f32>>) {
    let table = |(place, spec): (u64, &TableSpec)| -> Vec<f32> {
        let mut random = stream(5, Purpose::InitialRow, place);
        (0..spec.rows * spec.width).map(|_| gaussian(&mut random) as f32).collect()
    };
    let values: Vec<_> = (0..).zip(specs).map(table).collect();
    (Model::of_tables(specs, values.clone()), values)
}

/// All that is told, a line for each example, with numbers for names.
fn told(application: &dyn Application, model: &Model) -> Vec<Vec<f64>> {
    let mut lines: Vec<Vec<f64>> = Vec::new();
    let figure = |(column, figure): (usize, &f64)| match application.predicted_names(column) {
        Some(names) => match names.get(*figure as usize) {
            Some(Name::Number(number)) => *number as f64,
            other => panic!("{other:?}"),
        },
        None => *figure,
    };
    application.predict(model, &mut |figures| lines.push(figures.iter().enumerate().map(figure).collect()));
    assert!(lines.iter().all(|line| line.len() == application.predicted().len()));
    lines
}

fn digits_job() -> Job {
    let source = DataSource::scaled_csv("digits-train.csv.gz", Some("digits-test.csv.gz"), 1.0 / 16.0);
    Job { data: DataSettings::new(shipped(), source), ..job() }
}

#[test]
fn softmax_predicts_what_a_plain_computation_does() {
    let application = build(&digits_job(), 1).expect("the shipped data");
    let specs = application.tables();
    let (model, values) = any_model(&specs);
    let columns = application.predicted();
    assert_eq!(
        (columns[0].as_str(), columns[1].as_str(), columns[11].as_str()),
        ("label", "predicted", "p(9)")
    );
    let lines = told(&*application, &model);
    let packed = std::fs::File::open(shipped().join("digits-test.csv.gz")).expect("the shipped data");
    let text = std::io::read_to_string(flate2::read::GzDecoder::new(packed)).expect("text");
    let examples: Vec<Vec<f64>> = text
        .lines()
        .map(|line| line.split(',').map(|cell| cell.parse().expect("a number")).collect())
        .collect();
    assert_eq!(lines.len(), examples.len());
    let (classes, mut nll, mut correct) = (10, 0.0, 0);
    for (line, example) in lines.iter().zip(&examples) {
        let (features, label) = (&example[..64], example[64]);
        let logit = |class: usize| {
            let weight = |row: usize| f64::from(values[0][row * classes + class]);
            weight(64) + features.iter().enumerate().map(|(row, x)| x / 16.0 * weight(row)).sum::<f64>()
        };
        let logits: Vec<f64> = (0..classes).map(logit).collect();
        let sum: f64 = logits.iter().map(|logit| libm::exp(*logit)).sum();
        let best = (0..classes).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).expect("there are some");
        assert_eq!((line[0], line[1]), (label, best as f64));
        for (told, logit) in line[2..].iter().zip(&logits) {
            assert!((told - libm::exp(*logit) / sum).abs() < 1e-4, "{told}");
        }
        nll -= logits[label as usize] - libm::log(sum);
        correct += usize::from(label == best as f64);
    }
    let judgement = application.judge(&model).expect("there are test data");
    let accuracy = correct as f64 / 360.0;
    assert_eq!((judgement.examples, judgement.evaluation.metric.value), (360, accuracy));
    assert_eq!(application.evaluate(&model).metric, judgement.evaluation.metric);
    let squares: f64 = values[0][..640].iter().map(|w| f64::from(*w) * f64::from(*w)).sum();
    let objective = nll / 360.0 + 0.5 * 1e-4 * squares;
    assert!(
        (judgement.evaluation.objective / objective - 1.0).abs() < 1e-4,
        "{judgement:?} is not {objective}"
    );

    // The test file in its own place changes nothing; the training file is judged as a run scores
    // it.
    let by = |name: &str| {
        let file = DataFile::Path(shipped().join(name));
        build_judging(&digits_job(), 1, None, &[file]).expect("the shipped data").0
    };
    assert_eq!(by("digits-test.csv.gz").judge(&model), Some(judgement));
    let by_training = by("digits-train.csv.gz").judge(&model).expect("there are data");
    assert_eq!(by_training.evaluation.objective, application.evaluate(&model).objective);
}

#[test]
fn factorisation_predicts_what_a_plain_computation_does() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).expect("a file");
        DataFile::Path(directory.path().join(name))
    };
    write("train", "10,700,1\n10,800,5\n30,700,4\n20,800,2\n");
    write("test", "20,700,3\n30,900,2.5\n");
    let other = write("other", "30,800,4\n20,900,1\n99,700,3\n10,1,3\n");
    let source = DataSource::ratings("train", Some("test"));
    let settings = super::factorisation::settings(3, 0.1, 0.1, 1.0);
    let root = directory.path().to_owned();
    let model = ModelSettings::new(FactorisationKind, settings);
    let job = Job { model, data: DataSettings::new(root, source), ..job() };
    let application = build(&job, 1).expect("files");
    let (model, values) = any_model(&application.tables());
    assert_eq!(application.predicted(), ["user", "item", "rating", "predicted"]);
    let width = 4;
    // Users 10, 20, 30 and items 700, 800, 900, the training mean 3 and range 1 to 5. Nobody has
    // rated item 900, but the model is any: somebody elsewhere may have.
    let predicted = |user: usize, item: usize| {
        let (user, item) = (&values[0][user * width..][..width], &values[1][item * width..][..width]);
        let dot: f64 = (0..3).map(|i| f64::from(user[i]) * f64::from(item[i])).sum();
        (3.0 + f64::from(user[3]) + f64::from(item[3]) + dot).clamp(1.0, 5.0)
    };
    let assert_told = |application: &dyn Application, expected: &[(f64, f64, f64, f64)]| {
        let lines = told(application, &model);
        assert_eq!(lines.len(), expected.len());
        let mut squares = 0.0;
        for (line, (user, item, rating, predicted)) in lines.iter().zip(expected) {
            assert_eq!(line[..3], [*user, *item, *rating]);
            assert!((line[3] - predicted).abs() < 1e-5, "{line:?} is not {predicted}");
            squares += (rating - predicted) * (rating - predicted);
        }
        let judgement = application.judge(&model).expect("there are test data");
        assert_eq!(judgement.examples, expected.len());
        let rmse = (squares / expected.len() as f64).sqrt();
        assert!((judgement.evaluation.metric.value - rmse).abs() < 1e-5, "{judgement:?} is not {rmse}");
    };
    assert_told(&*application, &[(20.0, 700.0, 3.0, predicted(1, 0)), (30.0, 900.0, 2.5, predicted(2, 2))]);
    let judged = application.judge(&model).expect("there are test data").evaluation;
    assert_eq!(application.evaluate(&model).metric, judged.metric);

    let (application, left_out) = build_judging(&job, 1, None, std::slice::from_ref(&other)).expect("files");
    assert_eq!((left_out, application.tables()[TableId(0).index()].rows), (2, 3), "the model stays as it is");
    assert_told(&*application, &[(30.0, 800.0, 4.0, predicted(2, 1)), (20.0, 900.0, 1.0, predicted(1, 2))]);
}

#[test]
fn what_nobody_has_rated_is_predicted_by_biases_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("a file");
    write("train", "1,1,1\n1,2,5\n2,1,3\n");
    write("test", "1,9,3\n8,1,3\n8,9,2\n1,1,1\n");
    let root: crate::learning::data::DataRoot = directory.path().to_owned().into();
    let predictions = |biases: bool, trained_elsewhere: bool| {
        let mut settings = super::factorisation::settings(3, 0.1, 0.1, 1.0);
        settings.biases = biases;
        settings.initial_deviation = 1.0;
        let data = DataSettings::new(root.clone(), DataSource::ratings("train", Some("test")));
        let job = Job { model: ModelSettings::new(FactorisationKind, settings), data, ..job() };
        let application = build(&job, 1).expect("files");
        let specs = application.tables();
        let table = |(at, spec): (usize, &TableSpec)| {
            let mut values = vec![0.0; (spec.rows * spec.width) as usize];
            for (row, out) in values.chunks_exact_mut(spec.width as usize).enumerate() {
                application.initialise(TableId(at as u16), row as u32, out);
                // Users 1, 2, 8 and items 1, 2, 9: the last of each has no training rating.
                if row < 2 || trained_elsewhere {
                    out[0] = 0.5;
                    if biases {
                        out[3] = 0.25;
                    }
                }
            }
            values
        };
        let model = Model::of_tables(&specs, specs.iter().enumerate().map(table));
        told(&*application, &model).iter().map(|line| line[3]).collect::<Vec<_>>()
    };
    let [a, b, c, d] = predictions(true, false)[..] else { panic!() };
    assert_eq!((a, b, c), (3.25, 3.25, 3.0), "the mean and the biases that are known");
    assert!(d != 3.5, "factors count where both are known: {d}");
    let [a, b, c, _] = predictions(false, false)[..] else { panic!() };
    assert_eq!((a, b, c), (3.0, 3.0, 3.0), "without biases, the mean");
    let [a, ..] = predictions(true, true)[..] else { panic!() };
    assert!(a != 3.5, "another region has trained it: {a}");
}

#[test]
fn a_model_is_judged_without_the_data_that_it_was_trained_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).expect("a file");
        DataFile::Path(directory.path().join(name))
    };
    let root: crate::learning::data::DataRoot = directory.path().to_owned().into();
    let judged = |job: &Job, other: &DataFile| {
        let application = build(job, 1).expect("files");
        let vocabulary = application.vocabulary().expect("it has names");
        let specs = application.tables();
        let model = any_model(&specs).0;
        let before = build_judging(job, 1, None, std::slice::from_ref(other)).expect("files").0;
        let before = (before.judge(&model), told_places(&*before, &model));
        std::fs::remove_file(directory.path().join("train")).expect("it is there");
        assert!(build(job, 1).is_err(), "it is gone");
        let (after, _) =
            build_judging(job, 1, Some(&vocabulary), std::slice::from_ref(other)).expect("names");
        assert_eq!(after.tables(), specs);
        assert_eq!((after.judge(&model), told_places(&*after, &model)), before);
    };
    write("train", "5.1 3.5 setosa\n4.9 3.0 versicolor\n6.0 2.0 setosa\n");
    let other = write("other", "5.0 3.0 versicolor\n4.0 3.1 setosa\n");
    let mut source = DataSource::csv("train", None);
    if let DataSource::Csv { scale, .. } = &mut source {
        *scale = crate::learning::data::Scale::Standard;
    }
    judged(&Job { data: DataSettings::new(root.clone(), source), ..job() }, &other);

    write("train", "AX,700,1\n10,800,5\nAX,800,4\n");
    let other = write("other", "10,700,4\nAX,700,1\n");
    let settings = super::factorisation::settings(3, 0.1, 0.1, 1.0);
    let data = DataSettings::new(root.clone(), DataSource::ratings("train", None));
    judged(&Job { model: ModelSettings::new(FactorisationKind, settings), data, ..job() }, &other);
}

/// All that is told, as it is.
fn told_places(application: &dyn Application, model: &Model) -> Vec<Vec<f64>> {
    let mut lines = Vec::new();
    application.predict(model, &mut |figures| lines.push(figures.to_vec()));
    lines
}

#[test]
fn data_that_do_not_suit_the_model_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x.csv");
    let refused = |text: &str, count: usize| {
        std::fs::write(&path, text).expect("a file");
        let files = vec![DataFile::Path(path.clone()); count];
        let error = build_judging(&digits_job(), 1, None, &files).err().expect("it is refused");
        crate::human::with_causes(&error).replace(&format!("{}/", directory.path().display()), "")
    };
    let features = |count| "1,".repeat(count);
    assert!(refused("1,2,3\n", 1).starts_with("x.csv has 2 features, "), "{}", refused("1,2,3\n", 1));
    let unknown = format!("{}77\n", features(64));
    assert_eq!(
        refused(&unknown, 1),
        "cannot use x.csv: example 1: label 77 is none of the 10 known labels: 0 to 9"
    );
    assert_eq!(refused("", 2), "found 2 data files; one is needed");
    let planted = DataSource::Planted { users: 2, items: 2, rank: 1, ratings: 9, noise: 0.0 };
    let settings = super::factorisation::settings(3, 0.1, 0.1, 1.0);
    let data = DataSettings::new(PathBuf::new(), planted);
    let job = Job { model: ModelSettings::new(FactorisationKind, settings), data, ..job() };
    let error = build_judging(&job, 1, None, &[DataFile::Path(path.clone())]).err().expect("it has no files");
    assert_eq!(error.to_string(), "found 1 data files; planted ratings have no files");
}
