//! Products of matrices, beside those of the `matrixmultiply` crate, which `ndarray`'s own `dot`
//! calls: it takes the widest fused instructions that there are, and promises no bits.
//!
//! Both are measured by turns, and what counts is the fastest of many short runs of each: what else
//! runs on the machine slows some of them, and none is ever too fast. Shapes are `[m, k] . [k, n]`,
//! with the left, the right or neither factor transposed in memory; each result is new memory.

use std::hint::black_box;
use std::time::{Duration, Instant};

use gaia::learning::linalg::dot;
use gaia::ndarray::Array2;

/// Those of a perceptron on MNIST, batches of 128: layers, gradients and errors passed back; then
/// what is large, and what is small.
const SHAPES: [[usize; 3]; 10] = [
    [128, 784, 256],
    [256, 128, 784],
    [128, 256, 784],
    [128, 128, 10],
    [128, 10, 128],
    [10, 128, 128],
    [512, 512, 512],
    [32, 64, 32],
    [8, 8, 8],
    [1, 784, 256],
];

/// Runs of each product.
const RUNS: usize = 300;

fn main() {
    println!("{:<16} {:>10} {:>10} {:>10}  ratio", "shape", "layout", "GFLOP/s", "theirs");
    for [m, k, n] in SHAPES {
        for (layout, [left_t, right_t]) in
            [("A B", [false, false]), ("A^T B", [true, false]), ("A B^T", [false, true])]
        {
            let (left, right) = (matrix(m, k, left_t), matrix(k, n, right_t));
            let ours = || drop(black_box(dot(black_box(left.view()), black_box(right.view()))));
            let theirs = || drop(black_box(black_box(&left).dot(black_box(&right))));
            let times = fastest(ours, theirs).map(|time| (2 * m * k * n) as f64 / time.as_secs_f64() / 1e9);
            let shape = format!("{m}x{k}x{n}");
            let [ours, theirs] = times;
            println!("{shape:<16} {layout:>10} {ours:>10.1} {theirs:>10.1}  {:>5.2}", ours / theirs);
        }
    }
}

fn matrix(rows: usize, columns: usize, is_transposed: bool) -> Array2<f32> {
    let value = |row: usize, column: usize| (((row * 31 + column * 17) % 101) as f32 - 50.0) / 64.0;
    match is_transposed {
        true => Array2::from_shape_fn([columns, rows], |(column, row)| value(row, column)).reversed_axes(),
        false => Array2::from_shape_fn([rows, columns], |(row, column)| value(row, column)),
    }
}

/// The least time that one of each takes, where they take turns.
fn fastest(mut one: impl FnMut(), mut other: impl FnMut()) -> [Duration; 2] {
    // Long enough for the clock, and short enough to be left alone at times.
    let mut repeats = 1;
    while time(&mut one, repeats) * repeats < Duration::from_micros(100) {
        repeats *= 2;
    }
    (0..RUNS).fold([Duration::MAX; 2], |[best, other_best], _| {
        [best.min(time(&mut one, repeats)), other_best.min(time(&mut other, repeats))]
    })
}

#[expect(clippy::disallowed_methods, reason = "measures")]
fn time(run: &mut impl FnMut(), repeats: u32) -> Duration {
    let start = Instant::now();
    (0..repeats).for_each(|_| run());
    start.elapsed() / repeats
}
