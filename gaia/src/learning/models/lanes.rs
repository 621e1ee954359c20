//! Inner loops over slices of f32: fast, and the same bits on every machine.
//!
//! A float sum depends on its order. A compiler may not change that order, so a plain loop gives
//! the same bits everywhere but uses one element of a vector register at a time; libraries reorder
//! and fuse by what the processor offers, so their bits differ between machines. Here each sum has
//! a stated number of lanes, element `i` going to lane `i mod lanes`: a compiler maps lanes to
//! whatever vectors there are, and the result cannot change. There is no fused multiply-add either,
//! since Rust never fuses `a * b + c` by itself.

/// Lanes of a sum over one long slice.
const LANES: usize = 8;

/// Lanes of a block of neighbouring outputs; strides of padded rows are multiples of it.
pub(crate) const BLOCK: usize = 4;

/// `sum(a[i] * b[i])`; both have shape `[n]`.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        sums[lane] += a * b;
    }
    let [s0, s1, s2, s3, s4, s5, s6, s7] = sums;
    ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))
}

/// `y[i] += a * x[i]`; both have shape `[n]`. Elements are independent, so any vectors will do.
pub(crate) fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// `width` rounded up to whole blocks.
pub(crate) fn padded(width: usize) -> usize {
    width.next_multiple_of(BLOCK)
}

/// `out += values . rows[indexes]`: a sparse vector times a dense matrix.
///
/// `indexes` and `values` have shape `[non-zeros]`, `rows` has shape `[rows, stride]`, `out` has
/// shape `[stride]` and `stride` is a multiple of [`BLOCK`]. Every output is summed in the order of
/// `indexes`.
pub(crate) fn sparse_product(indexes: &[u32], values: &[f32], rows: &[f32], out: &mut [f32]) {
    // Outputs stay in registers while the rows go by; four blocks are about as many as there are
    // registers for.
    let stride = out.len();
    let mut start = 0;
    while start < stride {
        let out = &mut out[start..];
        start += match out.len() / BLOCK {
            1 => blocks::<1>(indexes, values, rows, stride, start, out),
            2 => blocks::<2>(indexes, values, rows, stride, start, out),
            3 => blocks::<3>(indexes, values, rows, stride, start, out),
            _ => blocks::<4>(indexes, values, rows, stride, start, out),
        };
    }
}

fn blocks<const N: usize>(
    indexes: &[u32],
    values: &[f32],
    rows: &[f32],
    stride: usize,
    start: usize,
    out: &mut [f32],
) -> usize {
    let mut sums = [[0.0f32; BLOCK]; N];
    for (&index, &value) in indexes.iter().zip(values) {
        let row = &rows[index as usize * stride + start..][..N * BLOCK];
        for (sum, row) in sums.iter_mut().zip(row.as_chunks::<BLOCK>().0) {
            for lane in 0..BLOCK {
                sum[lane] += value * row[lane];
            }
        }
    }
    axpy(1.0, sums.as_flattened(), out);
    N * BLOCK
}

/// `rows[indexes[i]] += values[i] * x`: the outer product of a sparse and a dense vector, added to
/// a dense matrix.
///
/// Shapes as in [`sparse_product`], with `x` of shape `[stride]`.
pub(crate) fn add_outer(indexes: &[u32], values: &[f32], x: &[f32], rows: &mut [f32]) {
    let blocks = x.as_chunks::<BLOCK>().0;
    for (&index, &value) in indexes.iter().zip(values) {
        let row = &mut rows[index as usize * x.len()..][..x.len()];
        for (row, x) in row.as_chunks_mut::<BLOCK>().0.iter_mut().zip(blocks) {
            for lane in 0..BLOCK {
                row[lane] += value * x[lane];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers, so that sums in any order are exact.
    fn integers(count: usize, step: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * step) % 13) as f32 - 6.0).collect()
    }

    #[test]
    fn dot_and_axpy_agree_with_plain_loops_at_every_length() {
        for n in 0..40 {
            let (a, b) = (integers(n, 5), integers(n, 7));
            assert_eq!(dot(&a, &b), a.iter().zip(&b).map(|(a, b)| a * b).sum::<f32>());
            let mut y = b.clone();
            axpy(2.0, &a, &mut y);
            assert!(y.iter().zip(a.iter().zip(&b)).all(|(y, (a, b))| *y == b + 2.0 * a));
        }
    }

    #[test]
    fn dot_sums_in_the_stated_order() {
        // In lanes the two large terms meet first and cancel; in a plain loop they swallow the ones
        // between them.
        let a = [1e8, 1.0, 1.0, 1.0, -1e8, 1.0, 1.0, 1.0];
        assert_eq!(dot(&a, &[1.0; 8]), 6.0);
    }

    #[test]
    fn sparse_products_agree_with_plain_loops_at_every_stride() {
        let (indexes, values) = ([1, 3, 4], [2.0, -1.0, 3.0]);
        for stride in (BLOCK..=9 * BLOCK).step_by(BLOCK) {
            let rows = integers(5 * stride, 3);
            let mut out = vec![1.0; stride];
            sparse_product(&indexes, &values, &rows, &mut out);
            for (column, out) in out.iter().enumerate() {
                let at = |row: usize| rows[row * stride + column];
                assert_eq!(*out, 1.0 + 2.0 * at(1) - at(3) + 3.0 * at(4));
            }

            let (x, mut sums) = (integers(stride, 4), rows.clone());
            add_outer(&indexes, &values, &x, &mut sums);
            for (i, sum) in sums.iter().enumerate() {
                let value = [0.0, 2.0, 0.0, -1.0, 3.0][i / stride];
                assert_eq!(*sum, rows[i] + value * x[i % stride]);
            }
        }
    }
}
