//! Products of dense matrices of f32: fast, and the same bits on every machine.
//!
//! A library of linear algebra picks its kernel by what the processor offers: one that fuses
//! multiply and add, or cuts its sums into other blocks, rounds differently, and the same job would
//! train another model on another machine (see `lanes`). Here every element of the result is summed
//! in one stated order, that of the inner dimension, and multiplied and added in two roundings,
//! whatever the blocks are: vectors run over *different* elements, so they may be of any width and
//! change nothing. `blocks` chooses the width that the processor has. The price, where a processor
//! has as many units for fused as for other operations, is half of its peak; where adders and
//! multipliers are units of their own there is none.

mod blocks;

use std::cell::RefCell;

use fearless_simd::Level;
use ndarray::{Array2, ArrayView2, CowArray, Ix2};

/// A matrix that lies in a slice, or its transpose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// The matrix of shape `[rows, columns]` whose rows follow each other in `values`.
    ///
    /// # Panics
    ///
    /// If there are not as many values.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix of {rows} x {columns}");
        Self { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The same with rows for columns.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

impl<'a> From<ArrayView2<'a, f32>> for Matrix<'a> {
    /// # Panics
    ///
    /// If neither rows nor columns follow each other in memory: [`Products::add`] copies such a
    /// view.
    fn from(view: ArrayView2<'a, f32>) -> Self {
        let (rows, columns) = view.dim();
        match view.to_slice() {
            Some(values) => Self::new(values, rows, columns),
            None => {
                let values = view.reversed_axes().to_slice().expect("one of both is in standard layout");
                Self::new(values, columns, rows).transposed()
            }
        }
    }
}

/// `left . right`; shapes `[m, k]`, `[k, n]` and `[m, n]`. Every element is summed in the order of
/// the inner dimension, so that it has the same bits on every machine, which [`ndarray`]'s own
/// `dot` does not promise.
///
/// # Panics
///
/// If the shapes do not match.
///
/// ```
/// use gaia::learning::linalg::dot;
/// use gaia::ndarray::array;
///
/// let (a, b) = (array![[1.0, 2.0], [3.0, 4.0]], array![[1.0], [10.0]]);
/// assert_eq!(dot(a.view(), b.view()), array![[21.0], [43.0]]);
/// assert_eq!(dot(b.t(), a.t()), array![[21.0, 43.0]]);
/// ```
pub fn dot(left: ArrayView2<'_, f32>, right: ArrayView2<'_, f32>) -> Array2<f32> {
    let mut product = Array2::zeros([left.nrows(), right.ncols()]);
    let (left, right) = (left.to_contiguous(), right.to_contiguous());
    let out = product.as_slice_mut().expect("a new matrix is in standard layout");
    PRODUCTS.with_borrow_mut(|products| products.add(left.view().into(), right.view().into(), out));
    product
}

thread_local! {
    /// The memory of [`dot`]: a quarter of a mebibyte at most.
    static PRODUCTS: RefCell<Products> = RefCell::default();
}

/// A view whose rows or columns follow each other in memory.
trait ToContiguous<'a> {
    fn to_contiguous(self) -> CowArray<'a, f32, Ix2>;
}

impl<'a> ToContiguous<'a> for ArrayView2<'a, f32> {
    fn to_contiguous(self) -> CowArray<'a, f32, Ix2> {
        match self.is_standard_layout() || self.t().is_standard_layout() {
            true => self.into(),
            false => self.as_standard_layout().into_owned().into(),
        }
    }
}

/// Multiplies matrices; keeps memory between products.
#[derive(Debug, Default)]
pub(crate) struct Products {
    /// What is packed of the left factor.
    left: Vec<f32>,
    /// What is packed of the right factor.
    right: Vec<f32>,
}

impl Products {
    /// `out += left . right`; shapes `[m, k]`, `[k, n]` and `[m, n]`.
    ///
    /// Every element is `((out + left[0] right[0]) + left[1] right[1]) + ...`, in this order and
    /// rounded at each step.
    ///
    /// # Panics
    ///
    /// If the shapes do not match.
    pub(crate) fn add(&mut self, left: Matrix<'_>, right: Matrix<'_>, out: &mut [f32]) {
        self.add_with(Level::new(), left, right, out);
    }

    /// The same with the instructions of `level`.
    fn add_with(&mut self, level: Level, left: Matrix<'_>, right: Matrix<'_>, out: &mut [f32]) {
        assert_eq!(left.columns, right.rows, "the inner dimension of both factors");
        assert_eq!(out.len(), left.rows * right.columns, "the shape of the result");
        if !out.is_empty() {
            blocks::add(level, self, left, right, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use fearless_simd::Simd;
    use proptest::prelude::*;
    use rand::RngExt;

    use super::*;
    use crate::learning::data::{Purpose, stream};

    /// Numbers whose sums depend on their order in the last bits.
    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut random = stream(seed, Purpose::InitialRow, 0);
        (0..count).map(|_| random.random::<f32>() - 0.5).collect()
    }

    fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        (0..rows * columns).map(|at| values[at % rows * columns + at / rows]).collect()
    }

    /// All sets of instructions that this processor has and that a product may be computed with.
    fn levels() -> Vec<Level> {
        let mut levels = vec![Level::baseline(), Level::new()];
        #[cfg(target_arch = "x86_64")]
        levels.extend(
            [
                Level::new().as_sse4_2().map(|simd| simd.level()),
                Level::new().as_avx2().map(|simd| simd.level()),
            ]
            .into_iter()
            .flatten(),
        );
        levels
    }

    /// Compares products of this shape, of factors in rows or in columns, with a plain loop.
    fn compare(m: usize, k: usize, n: usize) {
        let (left, right, start) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
        let mut expected = start.clone();
        for i in 0..m {
            for j in 0..n {
                (0..k).for_each(|l| expected[i * n + j] += left[i * k + l] * right[l * n + j]);
            }
        }
        let (left_t, right_t) = (transposed(&left, m, k), transposed(&right, k, n));
        let lefts = [Matrix::new(&left, m, k), Matrix::new(&left_t, k, m).transposed()];
        let rights = [Matrix::new(&right, k, n), Matrix::new(&right_t, n, k).transposed()];
        let mut products = Products::default();
        for level in levels() {
            for (left, right) in lefts.iter().flat_map(|left| rights.iter().map(move |right| (left, right))) {
                let mut out = start.clone();
                products.add_with(level, *left, *right, &mut out);
                let are_same = out.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(are_same, "{m} {k} {n} with {level:?}: {left:?} {right:?}");
            }
        }
    }

    #[test]
    fn products_have_the_bits_of_a_plain_loop_where_blocks_end() {
        for (m, k, n) in [
            (1, 1, 1),
            (1, 1, 2),
            (6, 8, 16),
            (5, 3, 9),
            (3, 300, 17),
            (13, 513, 7),
            (8, 257, 40),
            (7, 20, 289),
        ] {
            compare(m, k, n);
        }
        for (m, k, n) in [(8, 0, 8), (0, 4, 4), (4, 4, 0), (0, 0, 0)] {
            compare(m, k, n);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn products_have_the_bits_of_a_plain_loop_at_every_shape(
            m in 0usize..20, k in 0usize..40, n in 0usize..80,
        ) {
            compare(m, k, n);
        }
    }

    #[test]
    fn what_is_no_number_stays_in_its_row_and_column() {
        let (mut left, right) = (numbers(7 * 5, 1), numbers(5 * 19, 2));
        left[5 * 2] = f32::NAN;
        let mut out = vec![0.0; 7 * 19];
        Products::default().add(Matrix::new(&left, 7, 5), Matrix::new(&right, 5, 19), &mut out);
        assert!(out.iter().enumerate().all(|(at, value)| value.is_nan() == (at / 19 == 2)));
    }
}
