//! Softmax regression against optima computed elsewhere.
//!
//! The optima are of `mean NLL + (l2 / 2) |W|^2` with a free intercept, found by SciPy's L-BFGS-B
//! in double precision on the same files (analytic gradient, all elements of it below 1e-8 at the
//! end).

use super::*;

fn settings(l2: f64, batch: u32, batches: u32, initial: f64, every: u32) -> SoftmaxSettings {
    let learning_rate = LearningRate { initial, decay: Decay::Inverse { every } };
    SoftmaxSettings { l2, batch, batches, learning_rate, adagrad: false }
}

/// The settings that we recommend for the digits that ship: one pass over the data in a clock.
fn digits_settings() -> SoftmaxSettings {
    settings(1e-3, 32, 8, 4.0, 20)
}

pub(super) fn assert_close(found: f64, optimum: f64, share: f64) {
    // Even an optimum may be undercut by rounding, not by more.
    let ratio = found / optimum;
    assert!((1.0 - 1e-5..1.0 + share).contains(&ratio), "{found} is {ratio} of the optimum {optimum}");
}

/// At the optimum: NLL 0.11761451, train accuracy 0.9861, test accuracy 0.8972.
const DIGITS_OPTIMUM: f64 = 0.235_721_49;

#[test]
fn digits_reach_the_optimum_with_any_number_of_workers() {
    let application = digits(digits_settings(), Partition::Random);
    for (workers, clocks) in [(1, 600), (3, 200), (6, 100), (12, 100)] {
        let evaluation = trained(&application, workers, clocks);
        assert_close(evaluation.objective, DIGITS_OPTIMUM, 0.01);
        assert!((evaluation.metric.value - 0.8972).abs() < 0.012, "test accuracy");
    }
}

#[test]
fn digits_reach_the_optimum_exactly_by_full_batches() {
    let full = settings(1e-3, u32::MAX, 4, 4.0, u32::MAX);
    let application = digits(full, Partition::Random);
    assert_close(trained(&application, 1, 1000).objective, DIGITS_OPTIMUM, 1e-4);
}

#[test]
fn uneven_and_skewed_parts_weigh_by_their_size() {
    // With one step a clock, workers' weighted steps are a step on all data, however it is dealt
    // out; but for the penalty's implicit step, which differs in second order.
    let one_step = settings(1e-3, u32::MAX, 1, 2.0, u32::MAX);
    let objective = |partition| trained(&digits(one_step.clone(), partition), 5, 100).objective;
    let fair = objective(Partition::Contiguous);
    for skewed in [Partition::ByKey, Partition::LabelSkewed, Partition::Dirichlet(0.1)] {
        let share = objective(skewed) / fair - 1.0;
        assert!(share.abs() < 1e-3, "{skewed:?} differs by {share}");
    }
}

#[test]
fn adagrad_gets_near_the_optimum_too() {
    let adaptive = SoftmaxSettings { adagrad: true, ..settings(1e-3, 32, 8, 0.5, u32::MAX) };
    assert_close(trained(&digits(adaptive, Partition::Random), 6, 100).objective, DIGITS_OPTIMUM, 0.03);
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    let objective = |seed| {
        let application = digits(digits_settings(), Partition::Dirichlet(0.5));
        Sequential::new(&application, 4, seed).train(10).expect("its steps succeed").objective.to_bits()
    };
    assert_eq!(objective(1), objective(1));
    assert_ne!(objective(1), objective(2));
    // Written down once (x86-64, Linux): no other machine may give anything else.
    assert_eq!(objective(1), 4_598_886_055_375_754_996);
}

#[test]
fn mnist_reaches_the_optimum() {
    let Some(root) = collected("mnist") else { return };
    let pair = |set: &str| {
        [format!("{set}-images-idx3-ubyte.gz").into(), format!("{set}-labels-idx1-ubyte.gz").into()]
    };
    let source = DataSource::Idx { train: pair("train"), test: Some(pair("t10k")) };
    let data = load_classification(&DataSettings::new(root, source), None).unwrap();
    assert_eq!((data.train.len(), data.features, data.labels.len()), (60_000, 784, 10));
    // 2,000 examples of each worker in a clock: 40 passes over the data in 200 clocks.
    let learning_rate = LearningRate { initial: 0.5, decay: Decay::Exponential { factor: 0.985, every: 1 } };
    let settings = SoftmaxSettings { l2: 1e-4, batch: 10, batches: 200, learning_rate, adagrad: false };
    let application = Softmax::new(settings, data, Partition::Random, 1);
    // The optimum's test accuracy is 0.9263.
    let evaluation = trained(&application, 6, 200);
    assert_close(evaluation.objective, 0.259_248, 0.01);
    assert!((evaluation.metric.value - 0.9263).abs() < 0.003, "test accuracy");
}

#[test]
fn two_classes_reach_the_optimum_of_logistic_regression() {
    // With two classes, `w = w_1 - w_0` is logistic regression: at the optimum `w_1 = -w_0 = w /
    // 2`, so that a penalty of `l2` on both columns is one of `l2 / 2` on `w`.
    let Some(root) = collected("libsvm") else { return };
    let source = DataSource::Libsvm { train: "a1a".into(), test: None, features: Some(123) };
    let data = load_classification(&DataSettings::new(root, source), None).unwrap();
    assert_eq!((data.train.len(), data.labels.summary()), (1605, "-1, 1".to_owned()));
    let application = Softmax::new(settings(2e-3, 32, 8, 1.0, 50), data, Partition::Random, 1);
    assert_close(trained(&application, 4, 200).objective, 0.326_394_78, 0.003);
}
