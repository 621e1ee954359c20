//! Linear regression against its closed form, and the lasso against what makes it an optimum.

use super::*;
use crate::learning::application::TableId;
use crate::learning::data::{DataFile, Observations, Outcome, Scale, load_observations};
use crate::learning::models::{LinearKind, LinearSettings, Optimiser, QuantityMetric};

fn settings(batch: u32, batches: u32, initial: f64) -> LinearSettings {
    LinearSettings {
        l1: 0.0,
        l2: 0.0,
        intercept: true,
        metric: QuantityMetric::Rmse,
        optimiser: Optimiser::Sgd,
        batch,
        batches,
        learning_rate: LearningRate { initial, decay: Decay::Constant },
    }
}

fn job(settings: LinearSettings, root: PathBuf, source: DataSource) -> Job {
    let model = ModelSettings::new(LinearKind, settings);
    Job { model, data: DataSettings::new(root, source), ..crate::job::tests::job() }
}

const PLANTED: DataSource = DataSource::PlantedLinear { examples: 400, features: 12, noise: 0.5 };

/// The features, with a one behind them, and the quantities.
fn rows(data: &Observations) -> (Vec<Vec<f64>>, Vec<f64>) {
    let row = |index: usize| {
        let mut row = vec![0.0; data.features as usize + 1];
        let sparse = data.train.rows.row(index);
        sparse.features.iter().zip(sparse.values).for_each(|(&j, &x)| row[j as usize] = f64::from(x));
        row[data.features as usize] = 1.0;
        row
    };
    let quantities = data.train.quantities.iter().map(|&y| f64::from(y));
    ((0..data.train.len()).map(row).collect(), quantities.collect())
}

/// The weights of ridge regression, the intercept last and free: `(X^T X / n + l2) w = X^T y / n`.
fn closed_form(rows: &[Vec<f64>], quantities: &[f64], l2: f64) -> Vec<f64> {
    let (size, count) = (rows[0].len(), rows.len() as f64);
    let mut matrix = vec![vec![0.0; size]; size];
    let mut right = vec![0.0; size];
    for (row, y) in rows.iter().zip(quantities) {
        for (j, x) in row.iter().enumerate() {
            matrix[j].iter_mut().zip(row).for_each(|(out, other)| *out += x * other / count);
            right[j] += x * y / count;
        }
    }
    (0..size - 1).for_each(|j| matrix[j][j] += l2);
    solve(matrix, right)
}

fn fitted(job: &Job, workers: usize, clocks: u32) -> (Vec<f64>, Evaluation) {
    let application = build(job, 1).expect("the data are sound");
    let mut sequential = Sequential::new(&*application, workers, 1);
    let evaluation = sequential.train(clocks).expect("its steps succeed");
    let weights = sequential.model().table(TableId(0));
    (weights.iter().map(|&weight| f64::from(weight)).collect(), evaluation)
}

fn farthest(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn planted() -> Observations {
    let data = DataSettings::new(shipped(), PLANTED);
    load_observations(&data, None, Outcome::Quantity, 1).expect("it is drawn")
}

#[test]
fn planted_quantities_give_the_closed_form_with_any_number_of_workers() {
    let (rows, quantities) = rows(&planted());
    for l2 in [0.0, 0.3] {
        let expected = closed_form(&rows, &quantities, l2);
        for (workers, batches, clocks) in [(1, 50, 20), (4, 1, 400)] {
            let settings = LinearSettings { l2, ..settings(1000, batches, 0.3) };
            let (found, evaluation) = fitted(&job(settings, shipped(), PLANTED), workers, clocks);
            let far = farthest(&found, &expected);
            // Of several workers each one's implicit step of the penalty is its own.
            let near = if workers == 1 || l2 == 0.0 { 1e-5 } else { 2e-2 };
            assert!(far < near, "l2 = {l2}, {workers} workers: off by {far}");
            assert_eq!(evaluation.metric.name, "rmse");
            assert!(l2 > 0.0 || (0.3..0.7).contains(&evaluation.metric.value), "{evaluation:?}");
        }
    }
}

#[test]
fn figures_are_those_of_the_residuals() {
    let data = planted();
    let r2 = LinearSettings { metric: QuantityMetric::R2, l1: 0.01, l2: 0.02, ..settings(1000, 50, 0.3) };
    let application = build(&job(r2, shipped(), PLANTED), 1).expect("it is drawn");
    let mut sequential = Sequential::new(&*application, 2, 1);
    let evaluation = sequential.train(5).expect("its steps succeed");
    let mut told = Vec::new();
    application.predict(sequential.model(), &mut |figures| told.push([figures[0], figures[1]]));
    assert_eq!((application.predicted(), told.len()), (vec!["target".into(), "predicted".into()], 40));
    let mean = told.iter().map(|[y, _]| y).sum::<f64>() / 40.0;
    let sum = |of: &dyn Fn(&[f64; 2]) -> f64| told.iter().map(of).sum::<f64>();
    let expected = 1.0 - sum(&|[y, z]| (y - z) * (y - z)) / sum(&|[y, _]| (y - mean) * (y - mean));
    assert_eq!(evaluation.metric.name, "r2");
    assert!((evaluation.metric.value - expected).abs() < 1e-9, "{evaluation:?} {expected}");

    let (rows, quantities) = rows(&data);
    let weights: Vec<f64> = sequential.model().table(TableId(0)).iter().map(|&w| f64::from(w)).collect();
    let error = |(row, y): (&Vec<f64>, &f64)| {
        let z: f64 = row.iter().zip(&weights).map(|(x, w)| x * w).sum();
        0.5 * (z - y) * (z - y)
    };
    let loss = rows.iter().zip(&quantities).map(error).sum::<f64>() / 400.0;
    let penalty: f64 = weights[..12].iter().map(|w| 0.01 * w.abs() + 0.01 * w * w).sum();
    assert!((evaluation.objective - loss - penalty).abs() < 1e-9);
}

/// At the optimum, no weight that is zero has a slope beyond `l1`, and all others have just that.
#[test]
fn the_lasso_leaves_out_what_counts_for_nothing() {
    let (rows, quantities) = rows(&planted());
    let l1 = 0.1;
    let lasso = LinearSettings { l1, ..settings(1000, 100, 0.3) };
    let (found, _) = fitted(&job(lasso, shipped(), PLANTED), 1, 20);
    let mut slopes = [0.0; 12];
    for (row, y) in rows.iter().zip(&quantities) {
        let error = row.iter().zip(&found).map(|(x, w)| x * w).sum::<f64>() - y;
        slopes.iter_mut().zip(row).for_each(|(slope, x)| *slope += error * x / 400.0);
    }
    for (feature, (weight, slope)) in found[..12].iter().zip(&slopes).enumerate() {
        match *weight == 0.0 {
            true => assert!(slope.abs() <= l1 + 1e-5, "{feature}: {slope}"),
            false => assert!((slope + l1 * weight.signum()).abs() < 1e-4, "{feature}: {slope}"),
        }
    }
    let odd_zeros = (1..12).step_by(2).filter(|feature| found[*feature] == 0.0).count();
    assert!(odd_zeros >= 5, "{found:?}");
}

#[test]
fn skewed_parts_weigh_by_their_size() {
    let (rows, quantities) = rows(&planted());
    let expected = closed_form(&rows, &quantities, 0.0);
    for partition in [Partition::LabelSkewed, Partition::ByKey, Partition::Dirichlet(0.1)] {
        let job = Job { partition, ..job(settings(1000, 1, 0.3), shipped(), PLANTED) };
        let application = job.input(1).application().expect("it is drawn");
        let parts = application.partition(5);
        assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), 400);
        let (found, _) = fitted(&job, 5, 400);
        assert!(farthest(&found, &expected) < 1e-4, "{partition:?}");
    }
}

#[test]
fn a_worker_reads_its_own_part_alone_and_steps_alike() {
    let directory = tempfile::tempdir().expect("a directory");
    let lines = (0..40).map(|i| format!("{},{},{}\n", i % 7, (i * i) % 11, f64::from(i) * 0.25));
    std::fs::write(directory.path().join("train"), lines.collect::<String>()).expect("a file");
    let job = job(settings(100, 1, 0.01), directory.path().into(), DataSource::csv("train", None));
    let whole = build(&job, 1).expect("it is sound");
    let part = job.input(1).parts(4, &[2]).application().expect("it is sound");
    let all = whole.partition(4);
    assert_eq!(all, part.partition(4));
    assert_eq!(whole.tables()[0].rows, 3);
    assert_eq!(whole.vocabulary(), part.vocabulary());
    let model = crate::learning::application::Model::initial(&*whole);
    let kept: f64 =
        all[2].iter().map(|&i| 0.5 * (f64::from(i) * 0.25).powi(2)).sum::<f64>() / all[2].len() as f64;
    assert!((part.evaluate(&model).objective - kept).abs() < 1e-9, "of what it has kept");
}

#[test]
fn what_is_no_quantity_is_told_with_its_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let message = |text: &str, source: DataSource| {
        std::fs::write(directory.path().join("train"), text).expect("a file");
        let error =
            build(&job(settings(10, 1, 0.1), directory.path().into(), source), 1).err().expect("wrong");
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {cause}").replace(&format!("{}/", directory.path().display()), "")
    };
    let csv = || DataSource::csv("train", None);
    let number = "a number from -3.4e38 to 3.4e38 is allowed";
    let column = "job.data.label says which column it is";
    let libsvm = || DataSource::Libsvm { train: "train".into(), test: None, features: None };
    let ratings = DataSource::ratings("train", None);
    let mut none = csv();
    if let DataSource::Csv { label, .. } = &mut none {
        *label = crate::learning::data::Column::Absent;
    }
    let table = [
        (
            "1,2\n3,x\n",
            csv(),
            format!("cannot use train: line 2, column 2: quantity `x`, {number}; {column}"),
        ),
        ("1,2\n3,\n", csv(), format!("cannot use train: line 2, column 2: quantity ``, {number}; {column}")),
        ("1,nan\n", csv(), format!("cannot use train: line 1, column 2: quantity `nan`, {number}; {column}")),
        ("1.5 1:1\ny 1:2\n", libsvm(), format!("cannot use train: line 2: quantity `y`, {number}")),
        ("", libsvm(), "cannot use train: has no examples, at least one is needed".to_owned()),
        ("1 1 3\n", ratings, "this kind of model trains on quantities, not on ratings: ".to_owned()),
    ];
    for (text, source, expected) in table {
        assert_eq!(message(text, source), expected, "{text}");
    }
    let absent = message("1,2\n", none);
    assert!(absent.contains("`none`") && absent.contains("one of labels is needed"), "{absent}");
}

#[test]
fn diabetes_gives_the_closed_form() {
    let Some(root) = collected("uci-small") else { return };
    let unpacked = |name: &str| {
        let packed = std::fs::File::open(root.join(name)).expect("a file");
        std::io::read_to_string(flate2::read::GzDecoder::new(packed)).expect("text")
    };
    // Its quantities lie in a file of their own.
    let (features, targets) = (unpacked("diabetes_data_raw.csv.gz"), unpacked("diabetes_target.csv.gz"));
    let joined =
        features.lines().zip(targets.lines()).map(|(row, target)| format!("{} {target}\n", row.trim()));
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("train"), joined.collect::<String>()).expect("a file");
    let mut source = DataSource::csv("train", None);
    if let DataSource::Csv { scale, .. } = &mut source {
        *scale = Scale::Standard;
    }
    let data = DataSettings::new(directory.path().to_owned(), source.clone());
    let (rows, quantities) = rows(&load_observations(&data, None, Outcome::Quantity, 1).expect("sound"));
    assert_eq!((rows.len(), rows[0].len()), (442, 11));
    let expected = closed_form(&rows, &quantities, 0.0);
    // The features are nearly collinear, with a condition number of 470: steps a clock are many.
    let (found, evaluation) = fitted(&job(settings(442, 2000, 0.4), directory.path().into(), source), 1, 6);
    let far = farthest(&found, &expected);
    assert!(far < 1e-4, "off by {far}: {found:?} {expected:?}");
    // 0.5 MSE and the root of MSE, which is 2859.6963 at the optimum.
    assert!((2.0 * evaluation.objective - 2859.6963).abs() < 1e-3, "{evaluation:?}");
    assert!((evaluation.metric.value - libm::sqrt(2859.6963)).abs() < 1e-4, "{evaluation:?}");
}

#[test]
fn other_files_are_judged_by_the_features_of_the_model() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).expect("a file");
        DataFile::Path(directory.path().join(name))
    };
    write("train", "a,b,y\n1,2,3.5\n2,2,5.5\n4,1,9.25\n0,3,1.5\n");
    let mut source = DataSource::csv("train", None);
    if let DataSource::Csv { scale, .. } = &mut source {
        *scale = Scale::Standard;
    }
    let job = job(settings(4, 100, 0.3), directory.path().into(), source);
    let application = build(&job, 1).expect("it is sound");
    let mut sequential = Sequential::new(&*application, 1, 1);
    sequential.train(20).expect("its steps succeed");
    let known = application.vocabulary().expect("it has features");
    let told = |application: &dyn Application| {
        let mut told = Vec::new();
        application.predict(sequential.model(), &mut |figures| told.push([figures[0], figures[1]]));
        told
    };
    // The same examples with their columns in another order, without the data that trained it.
    let other = write("other", "b,a,y\n2,1,3.5\n2,2,5.5\n1,4,9.25\n3,0,1.5\n");
    std::fs::remove_file(directory.path().join("train")).expect("it was there");
    let same = write("same", "a,b,y\n1,2,3.5\n2,2,5.5\n4,1,9.25\n0,3,1.5\n");
    let judging = |file: DataFile| {
        let files = [file];
        job.input(1).judging(Some(&known), &files).application().map_err(|error| error.to_string())
    };
    let (label, same) = (told(&*judging(other).expect("it is sound")), judging(same).expect("it is sound"));
    assert_eq!((label.len(), &label), (4, &told(&*same)));
    let judged = same.judge(sequential.model()).expect("there are data");
    let error: f64 = label.iter().map(|[y, z]| (y - z) * (y - z)).sum::<f64>() / 4.0;
    assert!((judged.evaluation.metric.value - error.sqrt()).abs() < 1e-9);
    assert_eq!(same.vocabulary().as_deref(), Some(&*known), "the digest of the model is that of its data");
    let wider = judging(write("wider", "a,b,c,y\n1,2,3,4\n"));
    assert!(wider.is_err_and(|error| error.contains("cannot use")), "a feature too many");
}
