//! k-means against Lloyd's algorithm written down plainly, and against published inertias.

use super::*;
use crate::learning::application::{Learner, Model, TableId, Workspace};
use crate::learning::data::{Column, DataFile, Layout, Scale};
use crate::learning::models::{KMeansKind, KMeansSettings};

const SUMS: TableId = TableId(0);
const COUNTS: TableId = TableId(1);
const SEEDS: TableId = TableId(2);

fn settings(clusters: u32) -> KMeansSettings {
    KMeansSettings { clusters, batch: None, sample: 10_000, starts: 3 }
}

fn job(settings: KMeansSettings, root: PathBuf, source: DataSource) -> Job {
    let model = ModelSettings::new(KMeansKind, settings);
    Job { model, data: DataSettings::new(root, source), ..crate::job::tests::job() }
}

fn digits_job(settings: KMeansSettings) -> Job {
    let source = DataSource::scaled_csv("digits-train.csv.gz", Some("digits-test.csv.gz"), 1.0 / 16.0);
    job(settings, shipped(), source)
}

/// The digits to train on.
fn rows() -> Vec<Vec<f64>> {
    let source = DataSource::scaled_csv("digits-train.csv.gz", None, 1.0 / 16.0);
    let data = load_classification(&DataSettings::new(shipped(), source), None).expect("shipped");
    let all: Vec<u32> = (0..data.train.len() as u32).collect();
    let dense = data.train.dense(&all, data.features);
    dense.outer_iter().map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect()
}

fn distance(row: &[f64], center: &[f64]) -> f64 {
    row.iter().zip(center).map(|(x, c)| (x - c) * (x - c)).sum()
}

/// The inertia a row of the centers, and the means of what is nearest to each.
fn lloyd(rows: &[Vec<f64>], centers: &[Vec<f64>]) -> (f64, Vec<Vec<f64>>) {
    let mut sums = vec![(vec![0.0; rows[0].len()], 0.0); centers.len()];
    let mut inertia = 0.0;
    for row in rows {
        let distances = centers.iter().map(|center| distance(row, center));
        let (nearest, least) =
            distances.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b)).expect("there are centers");
        inertia += least / rows.len() as f64;
        sums[nearest].0.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        sums[nearest].1 += 1.0;
    }
    let mean = |((sum, count), center): (&(Vec<f64>, f64), &Vec<f64>)| match *count {
        0.0 => center.clone(),
        count => sum.iter().map(|sum| sum / count).collect(),
    };
    (inertia, sums.iter().zip(centers).map(mean).collect())
}

fn table(model: &Model, table: TableId) -> Vec<Vec<f64>> {
    model.table(table).outer_iter().map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect()
}

/// The centers of a model of which no cluster is empty.
fn centers(model: &Model) -> Vec<Vec<f64>> {
    let counts = &table(model, COUNTS)[0];
    let center = |(sums, count): (Vec<f64>, &f64)| sums.iter().map(|sum| sum / count).collect();
    table(model, SUMS).into_iter().zip(counts).map(center).collect()
}

#[test]
fn a_clock_is_a_pass_of_lloyds_algorithm_with_any_number_of_workers() {
    let rows = rows();
    for workers in [1, 5] {
        let application = build(&digits_job(settings(10)), 1).expect("the shipped data");
        let mut sequential = Sequential::new(&*application, workers, 1);
        let mut expected = table(sequential.model(), SEEDS);
        for clock in 0..12 {
            assert_eq!(sequential.clock().expect("its steps succeed"), 1437);
            expected = lloyd(&rows, &expected).1;
            for (found, expected) in centers(sequential.model()).iter().zip(&expected) {
                assert!(distance(found, expected) < 1e-8, "{workers} workers, clock {clock}");
            }
            assert_eq!(table(sequential.model(), COUNTS)[0].iter().sum::<f64>(), 1437.0, "each once");
        }
        let inertia = lloyd(&rows, &expected).0;
        let found = application.evaluate(sequential.model()).objective;
        assert!((found - inertia).abs() < 1e-5, "{found} {inertia}");
    }
}

#[test]
fn digits_come_to_rest() {
    let application = build(&digits_job(settings(10)), 1).expect("the shipped data");
    let mut sequential = Sequential::new(&*application, 3, 1);
    sequential.train(60).expect("its steps succeed");
    let before = sequential.model().clone();
    let evaluation = sequential.train(1).expect("its steps succeed");
    println!("{evaluation:?}");
    assert_eq!(&before, sequential.model(), "nothing changes any more");
    let mut clusters = [0; 10];
    let mut sum = 0.0;
    application.predict(sequential.model(), &mut |figures| {
        clusters[figures[0] as usize] += 1;
        sum += figures[1];
    });
    assert!(clusters.iter().all(|count| *count > 0), "{clusters:?}");
    assert_eq!(evaluation.metric.name, "inertia");
    assert!((evaluation.metric.value - sum / 360.0).abs() < 1e-9);
    assert_eq!(application.judge(sequential.model()).expect("there are test data").examples, 360);
}

#[test]
fn mini_batches_hold_every_example_once() {
    let batch = KMeansSettings { batch: Some(50), ..settings(10) };
    let application = build(&digits_job(batch), 1).expect("the shipped data");
    let mut sequential = Sequential::new(&*application, 3, 1);
    // A worker has 479 examples: ten clocks are once through them.
    sequential.train(10).expect("its steps succeed");
    assert_eq!(table(sequential.model(), COUNTS)[0].iter().sum::<f64>(), 1437.0);
    let all = trained(&*build(&digits_job(settings(10)), 1).expect("the shipped data"), 3, 60);
    let found = sequential.train(600).expect("its steps succeed");
    assert!(found.objective < all.objective * 1.02, "{found:?} {all:?}");
}

#[test]
fn few_seeds_and_equal_rows_do_no_harm() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("train"), "0,1\n0,1\n0,1\n5,5\n").expect("a file");
    let mut source = DataSource::csv("train", None);
    if let DataSource::Csv { label, .. } = &mut source {
        *label = Column::Absent;
    }
    let of = |clusters| job(settings(clusters), directory.path().into(), source.clone());
    let application = build(&of(3), 1).expect("it is sound");
    assert_eq!(application.tables()[0].width, 2, "all columns are features");
    let mut sequential = Sequential::new(&*application, 2, 1);
    let evaluation = sequential.train(5).expect("its steps succeed");
    assert_eq!(evaluation.objective, 0.0);
    let error = build(&of(5), 1).err().expect("too many").to_string();
    assert!(error.contains("job.model.clusters is 5, and there are 4 training examples"), "{error}");
    let by_label = Job { partition: Partition::LabelSkewed, ..of(2) };
    let error = build(&by_label, 1).err().expect("there are no labels").to_string();
    assert!(error.contains("job.partition deals examples out by their labels"), "{error}");
}

/// One worker's clock on the model itself.
fn clock(workspace: &mut Workspace, learner: &mut dyn Learner, clock: u32, model: &mut Model) {
    workspace.begin(learner, clock);
    while workspace.step(learner, clock, model).expect("its steps succeed").is_none() {}
}

#[test]
fn a_process_that_starts_again_takes_its_examples_for_counted() {
    let application = build(&digits_job(settings(10)), 1).expect("the shipped data");
    let mut parts = application.partition(2);
    let (there, mine) = (parts.remove(1), parts.remove(0));
    let share = mine.len() as f64 / 1437.0;
    let mut model = Model::initial(&*application);
    let mut workspace = Workspace::new(3);
    let mut one = application.learner(mine.clone(), share, 1);
    let mut other = application.learner(there, 1.0 - share, 2);
    for at in 0..60 {
        clock(&mut workspace, &mut *one, at, &mut model);
        clock(&mut workspace, &mut *other, at, &mut model);
    }
    let rest = model.clone();
    let mut again = application.learner(mine.clone(), share, 1);
    clock(&mut workspace, &mut *again, 60, &mut model);
    assert_eq!(model, rest, "nothing is counted twice");
    // One whose examples were never counted adds them, whenever it comes.
    let mut alone = Model::initial(&*application);
    let mut other = application.learner(mine, share, 1);
    clock(&mut workspace, &mut *other, 7, &mut alone);
    assert_eq!(f64::from(alone.table(COUNTS).sum()), share * 1437.0);
}

#[test]
fn every_process_finds_the_same_seeds() {
    let job = digits_job(KMeansSettings { sample: 200, ..settings(10) });
    let seeds = |application: &dyn Application| Model::initial(application).table(SEEDS).to_owned();
    let whole = build(&job, 3).expect("the shipped data");
    for mine in [&[][..], &[1], &[0, 3]] {
        let part = job.input(3).parts(4, mine).application().expect("the shipped data");
        assert_eq!(seeds(&*part), seeds(&*whole));
        assert_eq!(part.partition(4), whole.partition(4));
    }
    assert_ne!(seeds(&*build(&job, 4).expect("the shipped data")), seeds(&*whole));
}

#[test]
fn iris_reaches_the_published_inertia() {
    let Some(root) = collected("uci-small") else { return };
    let text = std::fs::read_to_string(root.join("iris.csv"))
        .or_else(|_| std::fs::read_to_string(root.join("iris.data")));
    let Ok(text) = text else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let lines: Vec<&str> = text.lines().skip(1).collect();
    std::fs::write(directory.path().join("train"), lines.join("\n")).expect("a file");
    let layout = Layout { header: Some(false), ..Layout::default() };
    let (label, scale) = (Column::Last, Scale::default());
    let source = DataSource::Csv { train: "train".into(), test: None, layout, label, scale };
    let application = build(&job(settings(3), directory.path().into(), source), 1).expect("it is sound");
    let evaluation = trained(&*application, 2, 30);
    assert!((evaluation.objective * 150.0 - 78.851_441_4).abs() < 1e-3, "{evaluation:?}");
}

#[test]
fn mnist_reaches_a_good_inertia() {
    let Some(root) = collected("mnist") else { return };
    let pair = |set: &str| {
        [format!("{set}-images-idx3-ubyte.gz").into(), format!("{set}-labels-idx1-ubyte.gz").into()]
    };
    let source = DataSource::Idx { train: pair("train"), test: Some(pair("t10k")) };
    let application = build(&job(settings(10), root, source), 1).expect("the data are there");
    let evaluation = trained(&*application, 3, 80);
    // The best of three starts of scikit-learn has 39.214.
    assert!(evaluation.objective <= 39.3, "{evaluation:?}");
}

#[test]
fn other_files_are_judged_without_the_data_that_trained_it() {
    let job = digits_job(settings(10));
    let application = build(&job, 1).expect("the shipped data");
    let mut sequential = Sequential::new(&*application, 2, 1);
    sequential.train(5).expect("its steps succeed");
    let known = application.vocabulary().expect("it has features");
    let files = [DataFile::Path(shipped().join("digits-test.csv.gz"))];
    let nowhere = Job { data: DataSettings::new(PathBuf::from("nowhere"), job.data.source.clone()), ..job };
    let judging = nowhere.input(1).judging(Some(&known), &files).application().expect("the shipped data");
    assert_eq!(judging.judge(sequential.model()), application.judge(sequential.model()));
    assert_eq!(judging.tables().len(), 3);
    assert_eq!(judging.vocabulary().as_deref(), Some(&*known));
}
