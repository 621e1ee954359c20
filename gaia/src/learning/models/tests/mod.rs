//! The applications against plain references: known optima, published errors, finite differences.

use std::path::{Path, PathBuf};

use super::{
    Factorisation, FactorisationKind, FactorisationSettings, Perceptron, PerceptronKind, PerceptronSettings,
    Softmax, SoftmaxKind, SoftmaxSettings,
};
use crate::job::Job;
use crate::learning::application::{Application, BuildError, Evaluation, ModelSettings};
use crate::learning::data::{DataSettings, DataSource, Names, Partition};
use crate::learning::data::{load_classification, load_ratings};
use crate::learning::sequential::Sequential;
use crate::learning::{Decay, LearningRate};

mod build;
mod factorisation;
mod gradients;
mod k_means;
mod linear;
mod logistic;
mod perceptron;
mod predictions;
mod softmax;

/// The data sets that ship with the crate.
fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data")
}

/// The application of `job`.
fn build(job: &Job, seed: u64) -> Result<Box<dyn Application>, BuildError> {
    job.input(seed).application()
}

/// A folder of larger data sets, which cannot ship: that of `GAIA_DATA`, else `shared/data` beside
/// the workspace. Tests that need one pass without it, and say so.
fn collected(name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let folder = std::env::var_os("GAIA_DATA").map_or_else(beside, PathBuf::from).join(name);
    if !folder.is_dir() {
        println!("skipped: {} is not there", folder.display());
        return None;
    }
    Some(folder)
}

fn trained(application: &dyn Application, workers: usize, clocks: u32) -> Evaluation {
    let evaluation =
        Sequential::new(application, workers, 100).train(clocks).expect("built-in steps succeed");
    println!("{workers} workers, {clocks} clocks: {evaluation:?}");
    evaluation
}

fn digits(settings: SoftmaxSettings, partition: Partition) -> Softmax {
    let source = DataSource::scaled_csv("digits-train.csv.gz", Some("digits-test.csv.gz"), 1.0 / 16.0);
    let data =
        load_classification(&DataSettings::new(shipped(), source), None).expect("the shipped data is sound");
    Softmax::new(settings, data, partition, 1)
}

/// `x` such that `matrix x = right`, by elimination with row pivots; shapes `[n, n]` and `[n]`.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let size = right.len();
    for column in 0..size {
        let largest = |a: &usize, b: &usize| matrix[*a][column].abs().total_cmp(&matrix[*b][column].abs());
        let pivot = (column..size).max_by(largest).expect("there are rows left");
        matrix.swap(column, pivot);
        right.swap(column, pivot);
        for row in column + 1..size {
            let factor = matrix[row][column] / matrix[column][column];
            let (above, below) = matrix.split_at_mut(row);
            below[0].iter_mut().zip(&above[column]).for_each(|(value, above)| *value -= factor * above);
            right[row] -= factor * right[column];
        }
    }
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size).map(|column| matrix[row][column] * right[column]).sum();
        right[row] = (right[row] - known) / matrix[row][row];
    }
    right
}
