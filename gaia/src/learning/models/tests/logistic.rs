//! Logistic regression against optima computed elsewhere, or by Newton's method here.

use super::softmax::assert_close;
use super::*;
use crate::learning::application::{Model, TableId};
use crate::learning::data::{Column, Name, Scale};
use crate::learning::models::{ClassMetric, LogisticKind, LogisticSettings, Optimiser};

fn settings(l2: f64, batch: u32, batches: u32, initial: f64, decay: Decay) -> LogisticSettings {
    LogisticSettings {
        positive: None,
        l1: 0.0,
        l2,
        intercept: true,
        normalise: false,
        metric: ClassMetric::Accuracy,
        optimiser: Optimiser::Sgd,
        batch,
        batches,
        learning_rate: LearningRate { initial, decay },
    }
}

fn job(settings: LogisticSettings, root: PathBuf, source: DataSource) -> Job {
    let model = ModelSettings::new(LogisticKind, settings);
    Job { model, data: DataSettings::new(root, source), ..crate::job::tests::job() }
}

fn digits_job(settings: LogisticSettings) -> Job {
    let source = DataSource::scaled_csv("digits-train.csv.gz", Some("digits-test.csv.gz"), 1.0 / 16.0);
    job(settings, shipped(), source)
}

/// One against the others among the digits, all data in every step.
fn full(positive: i64) -> LogisticSettings {
    let full = settings(0.05, 10_000_000, 1, 0.5, Decay::Constant);
    LogisticSettings { positive: Some(Name::Number(positive)), ..full }
}

/// The digits to train on, with a one behind their features, and whether each is `digit`.
fn rows(digit: i64) -> (Vec<Vec<f64>>, Vec<f64>) {
    let source = DataSource::scaled_csv("digits-train.csv.gz", None, 1.0 / 16.0);
    let data = load_classification(&DataSettings::new(shipped(), source), None).expect("shipped");
    let all: Vec<u32> = (0..data.train.len() as u32).collect();
    let dense = data.train.dense(&all, data.features);
    let place = data.labels.place(&Name::Number(digit)).expect("a digit");
    let row = |row: ndarray::ArrayView1<'_, f32>| row.iter().map(|&x| f64::from(x)).chain([1.0]).collect();
    let is_it = data.train.classes.iter().map(|&class| f64::from(u8::from(class == place)));
    (dense.outer_iter().map(row).collect(), is_it.collect())
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-z))
}

/// The gradient of the mean loss by every weight, the intercept's last.
fn slopes(rows: &[Vec<f64>], is_it: &[f64], weights: &[f64]) -> Vec<f64> {
    let mut slopes = vec![0.0; weights.len()];
    for (row, y) in rows.iter().zip(is_it) {
        let error = sigmoid(row.iter().zip(weights).map(|(x, w)| x * w).sum()) - y;
        slopes.iter_mut().zip(row).for_each(|(slope, x)| *slope += error * x / rows.len() as f64);
    }
    slopes
}

/// The optimum for an L2 penalty, by Newton's method.
fn optimum(rows: &[Vec<f64>], is_it: &[f64], l2: f64) -> Vec<f64> {
    let size = rows[0].len();
    let mut weights = vec![0.0; size];
    for _ in 0..30 {
        let mut gradient = slopes(rows, is_it, &weights);
        let mut hessian = vec![vec![0.0; size]; size];
        for row in rows {
            let p = sigmoid(row.iter().zip(&weights).map(|(x, w)| x * w).sum());
            let weight = p * (1.0 - p) / rows.len() as f64;
            for (out, x) in hessian.iter_mut().zip(row).filter(|(_, x)| **x != 0.0) {
                out.iter_mut().zip(row).for_each(|(out, other)| *out += weight * x * other);
            }
        }
        for j in 0..size {
            let l2 = if j + 1 < size { l2 } else { 0.0 };
            gradient[j] += l2 * weights[j];
            // A feature that never occurs has no curvature and no gradient.
            hessian[j][j] += l2 + 1e-12;
        }
        let step = solve(hessian, gradient);
        weights.iter_mut().zip(step).for_each(|(weight, step)| *weight -= step);
    }
    weights
}

fn weights(model: &Model) -> Vec<f64> {
    model.table(TableId(0)).iter().map(|&weight| f64::from(weight)).collect()
}

#[test]
fn digits_reach_the_optimum_of_newtons_method() {
    let (rows, is_it) = rows(3);
    let expected = optimum(&rows, &is_it, 0.05);
    let application = build(&digits_job(full(3)), 1).expect("the shipped data");
    let specs = application.tables();
    let as_table = expected.iter().map(|&weight| weight as f32).collect();
    let least = application.evaluate(&Model::of_tables(&specs, [as_table])).objective;
    // The intercept, on which there is no penalty, comes last.
    for (workers, batches, clocks) in [(1, 600, 10), (3, 1, 6000)] {
        let settings = LogisticSettings { batches, batch: 1437, ..full(3) };
        let application = build(&digits_job(settings), 1).expect("the shipped data");
        let mut sequential = Sequential::new(&*application, workers, 1);
        let evaluation = sequential.train(clocks).expect("its steps succeed");
        // Of several workers each one's implicit step of the penalty is its own.
        assert_close(evaluation.objective, least, 1e-4);
        let found = weights(sequential.model());
        let far = found.iter().zip(&expected).map(|(w, e)| (w - e).abs()).fold(0.0, f64::max);
        assert!(workers > 1 || far < 1e-4, "{workers} workers are off by {far}");
    }
    let (columns, names) = (application.predicted(), application.predicted_names(0).map(Names::len));
    assert_eq!((columns, names), (vec!["label".to_owned(), "p(3)".to_owned()], Some(10)));
}

/// At the optimum of the elastic net, no weight that is zero has a slope beyond `l1`, and all others
/// have just that, less what the squares pull.
#[test]
fn l1_makes_weights_zero_that_are_not_worth_their_price() {
    let (rows, is_it) = rows(3);
    let (l1, l2) = (5e-3, 0.01);
    let settings = LogisticSettings { l1, l2, batch: 1437, batches: 200, ..full(3) };
    let application = build(&digits_job(settings), 1).expect("the shipped data");
    let mut sequential = Sequential::new(&*application, 1, 1);
    sequential.train(8).expect("its steps succeed");
    let found = weights(sequential.model());
    let slopes = slopes(&rows, &is_it, &found);
    let (zeros, others): (Vec<_>, Vec<_>) = found[..64].iter().zip(&slopes).partition(|(w, _)| **w == 0.0);
    assert!(zeros.len() > 20 && others.len() > 10, "{} of 64 are zero", zeros.len());
    for (weight, slope) in zeros {
        assert!(slope.abs() < l1 * 1.01, "{weight} {slope}");
    }
    for (weight, slope) in others {
        assert!((slope + l2 * weight + l1 * weight.signum()).abs() < l1 * 0.02, "{weight} {slope}");
    }
}

#[test]
fn every_class_against_the_rest_tells_digits_apart() {
    let all = settings(1e-4, 32, 8, 1.0, Decay::Inverse { every: 20 });
    let application = build(&digits_job(all.clone()), 1).expect("the shipped data");
    let evaluation = trained(&*application, 3, 100);
    assert!(evaluation.metric.value > 0.88, "{evaluation:?}");
    // The same by the probabilities that it predicts.
    let log_loss = LogisticSettings { metric: ClassMetric::LogLoss, ..all };
    let application = build(&digits_job(log_loss), 1).expect("the shipped data");
    let mut sequential = Sequential::new(&*application, 3, 100);
    let evaluation = sequential.train(100).expect("its steps succeed");
    let (mut sum, mut correct, mut count) = (0.0, 0, 0);
    application.predict(sequential.model(), &mut |figures| {
        sum -= libm::log(figures[2 + figures[0] as usize]);
        correct += usize::from(figures[0] == figures[1]);
        count += 1;
    });
    assert_eq!((evaluation.metric.name, count), ("log_loss", 360));
    assert!((evaluation.metric.value - sum / 360.0).abs() < 1e-9);
    assert!(correct > 316, "{correct} of 360");
    let judged = application.judge(sequential.model()).expect("there are test data");
    assert_eq!(judged.evaluation.metric, evaluation.metric);
}

#[test]
fn adagrad_and_the_ranking_of_one_digit() {
    let ranked = LogisticSettings {
        metric: ClassMetric::Auc,
        optimiser: Optimiser::AdaGrad,
        positive: Some(Name::Number(8)),
        ..settings(1e-4, 32, 8, 0.1, Decay::Constant)
    };
    let application = build(&digits_job(ranked), 1).expect("the shipped data");
    let evaluation = trained(&*application, 3, 60);
    assert_eq!(evaluation.metric.name, "auc");
    assert!((0.93..1.0).contains(&evaluation.metric.value), "{evaluation:?}");
}

#[test]
fn what_cannot_be_told_apart_is_refused() {
    let error =
        |settings: LogisticSettings| build(&digits_job(settings), 1).err().expect("wrong").to_string();
    let unknown = error(full(12));
    assert!(
        unknown.contains("job.model.positive is 12, which is none of the 10 labels: 0 to 9"),
        "{unknown}"
    );
    let ranked = LogisticSettings { metric: ClassMetric::Auc, positive: None, ..full(3) };
    let many = error(ranked);
    assert!(many.contains("ranks two classes, and there are 10 labels"), "{many}");
}

#[test]
fn a9a_reaches_the_optimum() {
    let Some(root) = collected("libsvm") else { return };
    let source = DataSource::Libsvm { train: "a9a".into(), test: Some("a9a.t".into()), features: Some(123) };
    let decay = Decay::Exponential { factor: 0.965, every: 1 };
    let plain = LogisticSettings { intercept: false, ..settings(1e-4, 64, 128, 2.0, decay) };
    let application = build(&job(plain, root, source), 1).expect("the data are there");
    let evaluation = trained(&*application, 4, 200);
    assert!((evaluation.objective - 0.324_506_92).abs() < 1e-4, "{evaluation:?}");
    assert!((evaluation.metric.value - 0.8499).abs() < 2e-3, "{evaluation:?}");
}

#[test]
fn news20_is_told_apart_by_every_class_against_the_rest() {
    let Some(root) = collected("libsvm") else { return };
    // The first 12,748 rows train, the others test, as the reference has it.
    let directory = tempfile::tempdir().expect("a directory");
    let packed = std::fs::File::open(root.join("news20.gz")).expect("a file");
    let text = std::io::read_to_string(flate2::read::GzDecoder::new(packed)).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    let (train, test) = lines.split_at(12_748);
    std::fs::write(directory.path().join("train"), train.join("\n")).expect("a file");
    std::fs::write(directory.path().join("test"), test.join("\n")).expect("a file");
    let source =
        DataSource::Libsvm { train: "train".into(), test: Some("test".into()), features: Some(62_061) };
    let adaptive = LogisticSettings {
        normalise: true,
        optimiser: Optimiser::AdaGrad,
        ..settings(1e-6, 32, 100, 0.5, Decay::Constant)
    };
    let application = build(&job(adaptive, directory.path().into(), source), 1).expect("the data are there");
    let evaluation = trained(&*application, 2, 30);
    assert!(evaluation.metric.value >= 0.81, "{evaluation:?}");
}

#[test]
fn covtype_reaches_the_optimum() {
    let Some(root) = collected("covtype") else { return };
    let mut source = DataSource::csv("covtype.data.gz", None);
    if let DataSource::Csv { scale, label, .. } = &mut source {
        (*scale, *label) = (Scale::Standard, Column::Last);
    }
    let decay = Decay::Inverse { every: 2 };
    let binary =
        LogisticSettings { positive: Some(Name::Number(2)), ..settings(1e-6, 100, 1000, 0.05, decay) };
    let application = build(&job(binary, root, source), 1).expect("the data are there");
    let evaluation = trained(&*application, 2, 12);
    assert!((evaluation.objective / 0.513_489 - 1.0).abs() < 5e-3, "{evaluation:?}");
    assert!((evaluation.metric.value - 0.7561).abs() < 3e-3, "{evaluation:?}");
}
