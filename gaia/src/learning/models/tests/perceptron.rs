//! The perceptron against numbers computed elsewhere, against differences in double precision, and
//! against itself.
//!
//! Reference numbers: NumPy 2.4 in double precision, a network of widths 7, 6, 4 and 5 on the forty
//! examples of `gradients`, with row `r`, column `c` of table `t` at `0.11 ((5 t + 7 r + 3 c) mod
//! 13) - 0.63`; a script written for this test, from the equations in the module's documentation.

use datacenter::TableId;

use super::gradients::{Rows, examples};
use super::*;
use crate::learning::data::{Classification, Examples, Name, SparseRows};

fn settings(hidden: &[u32], l2: f64, batch: u32, batches: u32, initial: f64) -> PerceptronSettings {
    let learning_rate = LearningRate { initial, decay: Decay::Constant };
    PerceptronSettings { hidden: hidden.to_vec(), l2, batch, batches, learning_rate }
}

fn perceptron(settings: PerceptronSettings, data: Classification) -> Perceptron {
    Perceptron::new(settings, data, Partition::Random, 1).expect("it is small")
}

/// The network of the reference, with a step on all examples in each of `steps` batches of a clock.
fn small(l2: f64, steps: u32, rate: f64) -> (Perceptron, Rows) {
    let application = perceptron(settings(&[6, 4], l2, 1000, steps, rate), examples());
    let value = |table: usize, row: usize, column: usize| {
        ((table * 5 + row * 7 + column * 3) % 13) as f32 * 0.11 - 0.63
    };
    let table = |(table, spec): (usize, datacenter::TableSpec)| {
        let row = |row| (0..spec.width as usize).map(|column| value(table, row, column)).collect();
        (0..spec.rows as usize).map(row).collect()
    };
    let tables = application.tables().into_iter().enumerate().map(table).collect();
    (application, Rows(tables))
}

/// `model` after one clock.
fn after(application: &dyn Application, model: &Rows) -> Rows {
    let mut after = model.clone();
    let mut learner = application.learner(application.partition(1).remove(0), 1.0, 3);
    after.train(application, &mut *learner, 0);
    after
}

fn assert_near(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found} is not {expected}");
}

#[test]
fn tables_are_those_of_a_list_of_linear_layers() {
    let tables = small(0.0, 1, 0.1).0.tables();
    let shapes: Vec<_> = tables.iter().map(|spec| (spec.name.as_str(), spec.rows, spec.width)).collect();
    let expected = [
        ("layers.0.weight", 6, 7),
        ("layers.0.bias", 1, 6),
        ("layers.1.weight", 4, 6),
        ("layers.1.bias", 1, 4),
        ("layers.2.weight", 5, 4),
        ("layers.2.bias", 1, 5),
    ];
    assert_eq!(shapes, expected);
}

#[test]
fn scores_and_predictions_are_those_of_the_reference() {
    let (application, model) = small(0.1, 1, 0.1);
    let evaluation = application.evaluate(&model.model(&application));
    assert_near(evaluation.objective, 2.403_477_237_504_870_5, 1e-6);
    assert_eq!(evaluation.metric.value, 0.0, "no example is classified correctly");
    let mut lines = Vec::new();
    application.predict(&model.model(&application), &mut |figures| lines.push(figures.to_vec()));
    let expected = [
        0.220_678_409_444_658_86,
        0.138_156_045_004_425_96,
        0.111_826_232_918_687_22,
        0.292_546_437_617_653_3,
        0.236_792_875_518_574_5,
    ];
    assert_eq!((lines.len(), lines[7][0], lines[7][1]), (40, 4.0, 3.0));
    lines[7][2..].iter().zip(expected).for_each(|(found, expected)| assert_near(*found, expected, 1e-6));
}

#[test]
fn steps_are_those_of_the_reference() {
    for (steps, objective, accuracy, elements) in [
        (
            1,
            2.149_797_540_755_335,
            0.4,
            [-0.596_900_904_97, 0.240_687_741_67, 0.005_034_160_78, -0.524_538_023_64, -0.132_512_295_77],
        ),
        (
            20,
            1.269_441_188_525_021,
            0.475,
            [-0.245_858_054_53, 0.265_127_055_94, 0.258_917_641_38, -0.572_668_240_58, -0.576_353_764_62],
        ),
    ] {
        let (application, model) = small(0.1, steps, 0.5);
        let after = after(&application, &model);
        let evaluation = application.evaluate(&after.model(&application));
        assert_near(evaluation.objective, objective, 1e-5);
        assert_near(evaluation.metric.value, accuracy, 1e-9);
        let Rows(tables) = after;
        let found = [tables[0][1][2], tables[2][3][1], tables[4][4][3], tables[1][0][3], tables[5][0][2]];
        found
            .iter()
            .zip(elements)
            .for_each(|(found, expected)| assert_near(f64::from(*found), expected, 2e-5));
    }
}

/// The objective in double precision, by plain loops.
fn plain_objective(model: &[Vec<Vec<f64>>], data: &Classification, l2: f64) -> f64 {
    let mut sum = 0.0;
    for (index, class) in data.train.classes.iter().enumerate() {
        let mut values = vec![0.0; data.features as usize];
        let row = data.train.rows.row(index);
        row.features.iter().zip(row.values).for_each(|(f, value)| values[*f as usize] = f64::from(*value));
        for (layer, tables) in model.chunks_exact(2).enumerate() {
            let unit = |(weights, bias): (&Vec<f64>, &f64)| {
                let z = bias + weights.iter().zip(&values).map(|(w, x)| w * x).sum::<f64>();
                if layer + 1 < model.len() / 2 { z.max(0.0) } else { z }
            };
            values = tables[0].iter().zip(&tables[1][0]).map(unit).collect();
        }
        sum += libm::log(values.iter().map(|z| libm::exp(*z)).sum::<f64>()) - values[*class as usize];
    }
    let squares: f64 = model.iter().step_by(2).flatten().flatten().map(|w| w * w).sum();
    sum / data.train.len() as f64 + l2 / 2.0 * squares
}

#[test]
fn a_full_batch_steps_down_the_gradient() {
    let (l2, rate) = (0.1, 1e-3);
    let (application, model) = small(l2, 1, rate);
    let data = examples();
    let doubles = |Rows(tables): &Rows| -> Vec<Vec<Vec<f64>>> {
        let row = |row: &Vec<f32>| row.iter().map(|value| f64::from(*value)).collect();
        tables.iter().map(|table| table.iter().map(row).collect()).collect()
    };
    let (before, after) = (doubles(&model), doubles(&after(&application, &model)));
    let mut moved = before.clone();
    for (t, table) in before.iter().enumerate() {
        for (r, row) in table.iter().enumerate() {
            for (c, value) in row.iter().enumerate() {
                // No unit of the reference is nearer than this to its kink: differences do not go
                // over one.
                const STEP: f64 = 1e-5;
                let mut objective = |step: f64| {
                    moved[t][r][c] = value + step;
                    plain_objective(&moved, &data, l2)
                };
                let gradient = (objective(STEP) - objective(-STEP)) / (2.0 * STEP);
                moved[t][r][c] = *value;
                assert_near((before[t][r][c] - after[t][r][c]) / rate, gradient, 3e-4);
            }
        }
    }
}

#[test]
fn sparse_examples_are_learned_from_as_dense_ones_are() {
    // Feature 0 alone, or features 0 and 1, of 3 or of 30: the same but for columns that nothing
    // goes through.
    let data = |features: u32| {
        let mut train = Examples { rows: SparseRows::default(), classes: Vec::new() };
        for n in 0..50u32 {
            train.rows.push([(0, 1.0 + (n % 7) as f32 / 4.0), (1, (n % 3) as f32 - 1.0)]);
            train.classes.push((n % 7 + n % 3) % 3);
        }
        let labels = (0..3).map(Name::Number).collect();
        Classification {
            train,
            test: None,
            features,
            feature_names: None,
            labels,
            scaling: None,
            slice: None,
        }
    };
    for (l2, hidden) in [(0.0, [5]), (0.2, [8])] {
        let step = |features| {
            let application = perceptron(settings(&hidden, l2, 16, 6, 0.3), data(features));
            let mut tables = small(l2, 1, 0.1).1.0;
            tables.truncate(4);
            let shapes = application.tables();
            for (table, spec) in tables.iter_mut().zip(&shapes) {
                table.resize(spec.rows as usize, vec![0.25; 3]);
                table.iter_mut().for_each(|row| row.resize(spec.width as usize, 0.125));
            }
            let after = after(&application, &Rows(tables));
            (application.evaluate(&after.model(&application)).metric.value, after)
        };
        let ((dense_accuracy, Rows(dense)), (sparse_accuracy, Rows(sparse))) = (step(3), step(30));
        assert_eq!(dense_accuracy, sparse_accuracy);
        for (dense, sparse) in dense.iter().flatten().zip(sparse.iter().flatten()) {
            dense.iter().zip(sparse).for_each(|(a, b)| assert_near(f64::from(*a), f64::from(*b), 1e-5));
        }
        let unseen: Vec<f32> = sparse[0].iter().map(|row| row[29]).collect();
        assert!(
            unseen.iter().all(|weight| (*weight < 0.125) == (l2 > 0.0)),
            "the penalty reaches all: {unseen:?}"
        );
    }
}

fn digits_job(settings: PerceptronSettings) -> Job {
    let source = DataSource::scaled_csv("digits-train.csv.gz", Some("digits-test.csv.gz"), 1.0 / 16.0);
    let model = ModelSettings::new(PerceptronKind, settings);
    Job { model, data: DataSettings::new(shipped(), source), ..crate::job::tests::job() }
}

#[test]
fn weights_begin_as_he_draws_them_and_biases_with_zero() {
    let job = digits_job(settings(&[400], 0.0, 32, 1, 0.1));
    let application = build(&job, 1).expect("the shipped data");
    let drawn = |table: u16, rows: u32, width: usize| -> Vec<f64> {
        let row = |row| {
            let mut out = vec![0.0f32; width];
            application.initialise(TableId(table), row, &mut out);
            out.into_iter().map(f64::from)
        };
        (0..rows).flat_map(row).collect()
    };
    for (table, rows, width) in [(0, 400, 64), (2, 10, 400)] {
        let values = drawn(table, rows, width);
        let variance = values.iter().map(|w| w * w).sum::<f64>() / values.len() as f64;
        assert!((variance * width as f64 / 2.0 - 1.0).abs() < 0.06, "table {table}: {variance}");
    }
    assert!(drawn(1, 1, 400).iter().chain(&drawn(3, 1, 10)).all(|bias| *bias == 0.0));
}

#[test]
fn a_worker_learns_from_its_slice_what_it_would_from_all() {
    let job = digits_job(settings(&[16], 1e-3, 10, 3, 0.3));
    let whole = build(&job, 1).expect("it is sound");
    let slice = job.input(1).parts(6, &[4]).application().expect("it is sound");
    let part = whole.partition(6).remove(4);
    let [from_slice, from_whole] = [&slice, &whole].map(|application| {
        let tables = application.tables();
        let mut rows = Rows(
            tables.iter().map(|spec| vec![vec![0.1; spec.width as usize]; spec.rows as usize]).collect(),
        );
        let mut learner = application.learner(part.clone(), 0.5, 3);
        rows.train(&**application, &mut *learner, 0);
        rows.0
    });
    assert_eq!(from_slice, from_whole);
}

#[test]
fn deltas_are_the_share_of_what_the_steps_have_changed() {
    let (application, model) = small(0.1, 5, 0.3);
    let whole = after(&application, &model);
    let mut half = model.clone();
    let mut learner = application.learner(application.partition(1).remove(0), 0.5, 3);
    assert_eq!(half.train(&application, &mut *learner, 0).examples, 200);
    let [whole, half] = [&whole, &half].map(|Rows(tables)| tables.iter().flatten().flatten());
    let before = model.0.iter().flatten().flatten();
    whole.zip(half).zip(before).for_each(|((whole, half), before)| {
        assert_near(f64::from(half - before), f64::from(whole - before) / 2.0, 1e-6);
    });
}

fn digits_64(batches: u32, partition: Partition) -> Perceptron {
    let job = digits_job(settings(&[64], 1e-4, 32, batches, 0.3));
    let data = load_classification(&job.data, None).expect("the shipped data");
    Perceptron::new(settings(&[64], 1e-4, 32, batches, 0.3), data, partition, 1).expect("it is small")
}

/// The digits to test with are other writers' than those to train on: an objective of zero does not
/// classify them all.
#[test]
fn digits_train_as_the_reference_does() {
    let application = digits_64(8, Partition::Random);
    for workers in [1, 6] {
        let evaluation = trained(&application, workers, 120);
        // The same in NumPy, six workers, five seeds: objective 0.0388 to 0.0399, accuracy 0.908 to
        // 0.922.
        assert_near(evaluation.objective, 0.0392, 0.0025);
        assert_near(evaluation.metric.value, 0.915, 0.015);
    }
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    let application = digits_64(2, Partition::Dirichlet(0.5));
    let objective = |seed| {
        Sequential::new(&application, 4, seed).train(10).expect("its steps succeed").objective.to_bits()
    };
    assert_eq!(objective(1), objective(1));
    assert_ne!(objective(1), objective(2));
    // Written down once (x86-64, Linux): no other machine may give anything else.
    assert_eq!(objective(1), 4_607_226_927_775_193_826);
}

#[test]
fn mnist_is_learned() {
    let Some(root) = collected("mnist") else { return };
    let pair = |set: &str| {
        [format!("{set}-images-idx3-ubyte.gz").into(), format!("{set}-labels-idx1-ubyte.gz").into()]
    };
    let source = DataSource::Idx { train: pair("train"), test: Some(pair("t10k")) };
    let data = load_classification(&DataSettings::new(root, source), None).expect("it is MNIST");
    // 1,000 examples of each worker in a clock: five passes over the data.
    let application = perceptron(settings(&[128], 1e-5, 20, 50, 0.1), data);
    assert!(trained(&application, 6, 50).metric.value > 0.955);
}

#[test]
fn layers_beyond_any_machine_are_refused() {
    let application = settings(&[65_536, 65_536], 0.0, 1, 1, 0.1);
    let error =
        Perceptron::new(application, examples(), Partition::Random, 1).err().expect("it is too large");
    assert_eq!(
        error.to_string(),
        "the model would have 65536 rows of 65536 elements, at most 1073741824 elements are allowed"
    );
}
