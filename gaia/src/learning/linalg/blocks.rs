//! The loops of a product: which blocks, in which order, and the instructions that they are made
//! of.
//!
//! A block of the result, six rows by two vectors of columns, stays in registers while the inner
//! dimension goes by. The right factor is packed in panels of as many columns, 256 steps of the
//! inner dimension by 256 columns at a time: 256 KiB, which second-level caches hold. The six rows
//! of the left factor are packed too where more than a few panels read them. Blocks of one row
//! follow each other, so that the result is read and written in order.
//!
//! All of it is compiled once for each set of vector instructions, and the widest that the
//! processor has is chosen when the program runs. The width of vectors says how many *different*
//! elements are computed at once and never how one is summed.

use std::ops::Range;

use fearless_simd::{Level, dispatch, f32x4, prelude::*};

use super::{Matrix, Products};

/// Rows of a block of the result: with two vectors of columns, twelve sums, which with two vectors
/// of the right factor, one of the left and a product are the sixteen registers that there are.
const ROWS: usize = 6;

/// Vectors of a block's row.
const VECTORS: usize = 2;

/// Columns of a block where vectors are widest, those of AVX-512.
const MOST_COLUMNS: usize = VECTORS * 16;

/// How much of the inner dimension is packed at a time.
const DEPTH: usize = 256;

/// How many columns of the right factor are packed at a time.
const COLUMNS: usize = 256;

/// `out += left . right`, with the instructions of `level`; shapes have been checked.
pub(super) fn add(level: Level, memory: &mut Products, left: Matrix<'_>, right: Matrix<'_>, out: &mut [f32]) {
    dispatch!(level, simd => add_blocks(simd, memory, left, right, out));
}

#[inline(always)]
fn add_blocks<S: Simd>(simd: S, memory: &mut Products, left: Matrix<'_>, right: Matrix<'_>, out: &mut [f32]) {
    let n = right.columns;
    // Packing takes longer than it saves where two panels read a row.
    let packs_left = n > 2 * VECTORS * S::f32s::LEN;
    for first in (0..n).step_by(COLUMNS) {
        let columns = first..n.min(first + COLUMNS);
        for start in (0..left.columns).step_by(DEPTH) {
            let depth = start..left.columns.min(start + DEPTH);
            let width = VECTORS * S::f32s::LEN;
            pack(simd, right.transposed(), columns.clone(), depth.clone(), width, &mut memory.right);
            let panels =
                Panels { values: &memory.right, depth: depth.len(), columns: columns.clone(), of: n };
            for (row, out) in (0..left.rows).step_by(ROWS).zip(out.chunks_mut(ROWS * n)) {
                let rows = row..left.rows.min(row + ROWS);
                let left = if packs_left {
                    pack(simd, left, rows.clone(), depth.clone(), ROWS, &mut memory.left);
                    Left::Packed(&memory.left)
                } else if left.column_stride == 1 {
                    Left::Rows(&left.values[row * left.row_stride + start..], left.row_stride)
                } else {
                    Left::Columns(&left.values[start * left.column_stride + row..], left.column_stride)
                };
                match rows.len() {
                    6 => add_rows::<S, 6>(simd, left, &panels, out),
                    5 => add_rows::<S, 5>(simd, left, &panels, out),
                    4 => add_rows::<S, 4>(simd, left, &panels, out),
                    3 => add_rows::<S, 3>(simd, left, &panels, out),
                    2 => add_rows::<S, 2>(simd, left, &panels, out),
                    _ => add_rows::<S, 1>(simd, left, &panels, out),
                }
            }
        }
    }
}

/// Panels of the right factor.
struct Panels<'a> {
    /// Shape `[panels, depth, width]`.
    values: &'a [f32],
    depth: usize,
    /// Which columns they are, and of how many.
    columns: Range<usize>,
    of: usize,
}

/// Some rows of the left factor, from where the panels' depth begins.
#[derive(Clone, Copy)]
enum Left<'a> {
    /// Shape `[depth, ROWS]`.
    Packed(&'a [f32]),
    /// Rows that lie so far from each other.
    Rows(&'a [f32], usize),
    /// Columns that lie so far from each other.
    Columns(&'a [f32], usize),
}

/// Adds the products of `R` rows to `out`, shape `[R, n]`.
#[inline(always)]
fn add_rows<S: Simd, const R: usize>(simd: S, left: Left<'_>, panels: &Panels<'_>, out: &mut [f32]) {
    simd.vectorize(
        #[inline(always)]
        || match left {
            Left::Packed(values) => {
                let steps = &values.as_chunks::<ROWS>().0[..panels.depth];
                add_panels::<S, R>(
                    simd,
                    #[inline(always)]
                    |k, row| steps[k][row],
                    panels,
                    out,
                );
            }
            Left::Rows(values, stride) => {
                let rows: [&[f32]; R] = std::array::from_fn(|row| &values[row * stride..][..panels.depth]);
                add_panels::<S, R>(
                    simd,
                    #[inline(always)]
                    |k, row| rows[row][k],
                    panels,
                    out,
                );
            }
            Left::Columns(values, stride) => {
                add_panels::<S, R>(
                    simd,
                    #[inline(always)]
                    |k, row| values[k * stride..][..R][row],
                    panels,
                    out,
                );
            }
        },
    );
}

#[inline(always)]
fn add_panels<S: Simd, const R: usize>(
    simd: S,
    left: impl Fn(usize, usize) -> f32,
    panels: &Panels<'_>,
    out: &mut [f32],
) {
    let Panels { values, depth, ref columns, of } = *panels;
    let width = VECTORS * S::f32s::LEN;
    for (first, panel) in columns.clone().step_by(width).zip(values.chunks_exact(width * depth)) {
        // So that the compiler knows how long it is.
        let panel = &panel[..width * depth];
        let columns = first..columns.end.min(first + width);
        if columns.len() <= S::f32s::LEN {
            add_block::<S, 1, R>(simd, &left, panel, columns, of, out);
        } else {
            add_block::<S, VECTORS, R>(simd, &left, panel, columns, of, out);
        }
    }
}

/// Adds one block, of `V` vectors or a part of them, to its `columns` of the `n` that `out` has.
#[inline(always)]
fn add_block<S: Simd, const V: usize, const R: usize>(
    simd: S,
    left: &impl Fn(usize, usize) -> f32,
    panel: &[f32],
    columns: Range<usize>,
    n: usize,
    out: &mut [f32],
) {
    if columns.len() == V * S::f32s::LEN {
        let mut sums = [[S::f32s::splat(simd, 0.0); V]; R];
        for (sums, out) in sums.iter_mut().zip(out.chunks_exact(n)) {
            load(simd, &out[columns.clone()], sums);
        }
        let sums = multiply(simd, left, panel, sums);
        for (sums, out) in sums.iter().zip(out.chunks_exact_mut(n)) {
            store(sums, &mut out[columns.clone()]);
        }
    } else {
        let mut rows = [[0.0; MOST_COLUMNS]; R];
        for (row, out) in rows.iter_mut().zip(out.chunks_exact(n)) {
            copy_short(&out[columns.clone()], row);
        }
        let mut sums = [[S::f32s::splat(simd, 0.0); V]; R];
        sums.iter_mut().zip(&rows).for_each(|(sums, row)| load(simd, row, sums));
        let sums = multiply(simd, left, panel, sums);
        sums.iter().zip(&mut rows).for_each(|(sums, row)| store(sums, row));
        for (row, out) in rows.iter().zip(out.chunks_exact_mut(n)) {
            copy_short(&row[..columns.len()], &mut out[columns.clone()]);
        }
    }
}

#[inline(always)]
fn load<S: Simd, const V: usize>(simd: S, row: &[f32], sums: &mut [S::f32s; V]) {
    for (sum, values) in sums.iter_mut().zip(row.chunks_exact(S::f32s::LEN)) {
        *sum = S::f32s::from_slice(simd, values);
    }
}

#[inline(always)]
fn store<S: Simd, V: SimdBase<S, Element = f32>, const N: usize>(sums: &[V; N], row: &mut [f32]) {
    for (sum, values) in sums.iter().zip(row.chunks_exact_mut(V::LEN)) {
        sum.store_slice(values);
    }
}

/// The outer products of the rows and the panel, added to `sums` one after the other.
#[inline(always)]
fn multiply<S: Simd, const V: usize, const R: usize>(
    simd: S,
    left: &impl Fn(usize, usize) -> f32,
    panel: &[f32],
    mut sums: [[S::f32s; V]; R],
) -> [[S::f32s; V]; R] {
    let lanes = S::f32s::LEN;
    for (k, right) in panel.chunks_exact(VECTORS * lanes).enumerate() {
        let right: [S::f32s; V] = std::array::from_fn(
            #[inline(always)]
            |v| S::f32s::from_slice(simd, &right[v * lanes..][..lanes]),
        );
        for (row, sums) in sums.iter_mut().enumerate() {
            let left = S::f32s::splat(simd, left(k, row));
            for (sum, right) in sums.iter_mut().zip(right) {
                // Not `mul_add`: what has no fused instruction would round otherwise.
                *sum += left * right;
            }
        }
    }
    sums
}

/// Packs `rows` of `matrix` in panels of `width`, shape `[panels, depth, width]`; zeros fill the
/// last.
#[inline(always)]
fn pack<S: Simd>(
    simd: S,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    depth: Range<usize>,
    width: usize,
    out: &mut Vec<f32>,
) {
    let panel = width * depth.len();
    out.resize(rows.len().div_ceil(width) * panel, 0.0);
    for (first, out) in rows.clone().step_by(width).zip(out.chunks_exact_mut(panel)) {
        let used = width.min(rows.end - first);
        if used < width {
            out.fill(0.0);
        }
        if matrix.row_stride == 1 {
            for (k, out) in depth.clone().zip(out.chunks_exact_mut(width)) {
                let column = &matrix.values[k * matrix.column_stride + first..];
                if used == width {
                    out.copy_from_slice(&column[..width]);
                } else {
                    copy_short(&column[..used], out);
                }
            }
        } else {
            let row = |lane: usize| &matrix.values[(first + lane) * matrix.row_stride..][depth.clone()];
            let whole = used - used % 4;
            for lane in (0..whole).step_by(4) {
                transpose_4(simd, [row(lane), row(lane + 1), row(lane + 2), row(lane + 3)], width, lane, out);
            }
            let pairs = used - used % 2;
            for lane in (whole..pairs).step_by(2) {
                transpose_2([row(lane), row(lane + 1)], width, lane, out);
            }
            for lane in pairs..used {
                row(lane)
                    .iter()
                    .zip(out[lane..].iter_mut().step_by(width))
                    .for_each(|(from, to)| *to = *from);
            }
        }
    }
}

/// Makes four rows of one length the columns from `lane` on of `out`, shape `[depth, width]`.
#[inline(always)]
fn transpose_4<S: Simd>(simd: S, rows: [&[f32]; 4], width: usize, lane: usize, out: &mut [f32]) {
    let (chunks, rest) = (rows.map(|row| row.as_chunks::<4>().0), rows[0].len() % 4);
    let whole = rows[0].len() - rest;
    for (k, out) in out.chunks_exact_mut(4 * width).enumerate().take(whole / 4) {
        let [r0, r1, r2, r3] = chunks.map(|row| f32x4::from_slice(simd, &row[k]));
        let (a, b) = (r0.zip_low(r2), r0.zip_high(r2));
        let (c, d) = (r1.zip_low(r3), r1.zip_high(r3));
        let columns = [a.zip_low(c), a.zip_high(c), b.zip_low(d), b.zip_high(d)];
        for (column, out) in columns.iter().zip(out.chunks_exact_mut(width)) {
            column.store_slice(&mut out[lane..][..4]);
        }
    }
    for (k, out) in out.chunks_exact_mut(width).enumerate().skip(whole) {
        for (row, out) in rows.iter().zip(&mut out[lane..]) {
            *out = row[k];
        }
    }
}

/// The same with two.
#[inline(always)]
fn transpose_2(rows: [&[f32]; 2], width: usize, lane: usize, out: &mut [f32]) {
    for ((a, b), out) in rows[0].iter().zip(rows[1]).zip(out.chunks_exact_mut(width)) {
        out[lane..][..2].copy_from_slice(&[*a, *b]);
    }
}

/// Copies all of `from`: so little that calling `memcpy` would take longer.
#[inline(always)]
fn copy_short(from: &[f32], to: &mut [f32]) {
    let (from, from_rest) = from.as_chunks::<4>();
    let (to, rest) = to.split_at_mut(4 * from.len());
    from.iter().zip(to.as_chunks_mut::<4>().0).for_each(|(from, to)| *to = *from);
    match *from_rest {
        [a, b, c] => rest[..3].copy_from_slice(&[a, b, c]),
        [a, b] => rest[..2].copy_from_slice(&[a, b]),
        [a] => rest[0] = a,
        _ => {}
    }
}
