//! Products of dense matrices of f32: fast, and the same bits on every machine.
//!
//! A library of linear algebra picks its kernel by what the processor offers: one that fuses
//! multiply and add, or cuts its sums into other blocks, rounds differently, and the same job would
//! train another model on another machine (see `lanes`). Here every element of the result is summed
//! in one stated order, that of the inner dimension, whatever the blocks are: vectors run over
//! *different* elements, so a compiler may take any width and changes nothing. The price: with what
//! every x86-64 processor has, a core does about 12 GFLOP/s; a library with AVX-512 does four times
//! that.
//!
//! The blocks: four rows of the result by eight columns stay in registers while the inner dimension
//! goes by. For that both factors are packed, so that the loop reads them in order, without strides
//! and without checks of bounds.

use ndarray::{Array2, ArrayView2, CowArray, Ix2};

/// Rows of a block of the result.
const ROWS: usize = 4;

/// Columns of a block of the result.
const COLUMNS: usize = 8;

/// How much of the inner dimension is packed at a time: 256 steps of both factors' blocks are 12
/// KiB, a part of any first-level cache.
const DEPTH: usize = 256;

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

    fn at(&self, row: usize, column: usize) -> f32 {
        self.values[row * self.row_stride + column * self.column_stride]
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
    Products::default().add(left.view().into(), right.view().into(), out);
    product
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
    /// Blocks of `ROWS` rows of the left factor, each with `DEPTH` columns at most.
    left: Vec<[f32; ROWS]>,
    /// `COLUMNS` columns of the right factor.
    right: Vec<[f32; COLUMNS]>,
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
        assert_eq!(left.columns, right.rows, "the inner dimension of both factors");
        assert_eq!(out.len(), left.rows * right.columns, "the shape of the result");
        for start in (0..left.columns).step_by(DEPTH) {
            let depth = start..left.columns.min(start + DEPTH);
            self.left.clear();
            for first in (0..left.rows).step_by(ROWS) {
                let row = |offset, column| match first + offset {
                    row if row < left.rows => left.at(row, column),
                    _ => 0.0,
                };
                self.left.extend(depth.clone().map(|k| std::array::from_fn(|offset| row(offset, k))));
            }
            for first in (0..right.columns).step_by(COLUMNS) {
                let width = COLUMNS.min(right.columns - first);
                self.right.clear();
                self.right.extend(depth.clone().map(|k| {
                    let mut columns = [0.0; COLUMNS];
                    (0..width).for_each(|offset| columns[offset] = right.at(k, first + offset));
                    columns
                }));
                self.add_columns(first, width, out, right.columns);
            }
        }
    }

    /// Adds what is packed to the `width` columns of `out`, shape `[m, n]`, that begin at `first`.
    fn add_columns(&self, first: usize, width: usize, out: &mut [f32], n: usize) {
        let blocks = self.left.chunks_exact(self.right.len());
        for (left, out) in blocks.zip(out.chunks_mut(ROWS * n)) {
            let mut sums = [[0.0; COLUMNS]; ROWS];
            for (sums, row) in sums.iter_mut().zip(out.chunks_exact(n)) {
                sums[..width].copy_from_slice(&row[first..][..width]);
            }
            let sums = block(left, &self.right, sums);
            for (sums, row) in sums.iter().zip(out.chunks_exact_mut(n)) {
                row[first..][..width].copy_from_slice(&sums[..width]);
            }
        }
    }
}

/// One block of the result, to which the outer products of `left` and `right` are added one after
/// the other.
fn block(
    left: &[[f32; ROWS]],
    right: &[[f32; COLUMNS]],
    mut sums: [[f32; COLUMNS]; ROWS],
) -> [[f32; COLUMNS]; ROWS] {
    for (left, right) in left.iter().zip(right) {
        for row in 0..ROWS {
            for column in 0..COLUMNS {
                sums[row][column] += left[row] * right[column];
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::learning::data::{Purpose, stream};

    /// Numbers whose sums depend on their order in the last bits.
    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut random = stream(seed, Purpose::InitialRow, 0);
        (0..count).map(|_| random.random::<f32>() - 0.5).collect()
    }

    #[test]
    fn products_have_the_bits_of_a_plain_loop_at_every_shape() {
        let mut products = Products::default();
        for (m, k, n) in
            [(1, 1, 1), (4, 8, 8), (5, 3, 9), (3, 300, 17), (13, 513, 7), (8, 0, 8), (0, 4, 4), (4, 4, 0)]
        {
            let (left, right, start) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
            let mut expected = start.clone();
            for i in 0..m {
                for j in 0..n {
                    (0..k).for_each(|l| expected[i * n + j] += left[i * k + l] * right[l * n + j]);
                }
            }
            let transposed = |values: &[f32], rows: usize, columns: usize| -> Vec<f32> {
                (0..rows * columns).map(|at| values[at % rows * columns + at / rows]).collect()
            };
            let (left_t, right_t) = (transposed(&left, m, k), transposed(&right, k, n));
            for (left, right) in [
                (Matrix::new(&left, m, k), Matrix::new(&right, k, n)),
                (Matrix::new(&left_t, k, m).transposed(), Matrix::new(&right, k, n)),
                (Matrix::new(&left, m, k), Matrix::new(&right_t, n, k).transposed()),
            ] {
                let mut out = start.clone();
                products.add(left, right, &mut out);
                assert!(out.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{m} {k} {n}");
            }
        }
    }
}
