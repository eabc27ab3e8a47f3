//! Dense products in f64. A piece has a fixed size and one thread computes it, so the number of threads changes no bit.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

/// Rows of a result in one piece.
const PIECE: usize = 64;

/// Adds `xᵀ·x` to the lower triangle of `out`, `[n, n]`, where `x` are `n` columns from `first` on of `rows`, which
/// are row-major with `width` columns. Do not read the numbers above the diagonal.
pub(crate) fn add_gram(out: &mut [f64], n: usize, rows: &[f64], width: usize, first: usize) {
    let x = MatRef::from_row_major_slice(rows, rows.len() / width, width).subcols(first, n);
    out.par_chunks_mut(PIECE * n).enumerate().for_each(|(piece, out)| {
        let (start, count) = (piece * PIECE, out.len() / n);
        let end = start + count;
        let out = MatMut::from_row_major_slice_mut(out, count, n).subcols_mut(0, end);
        let left = x.subcols(start, count).transpose();
        matmul(out, Accum::Add, left, x.subcols(0, end), 1.0, Par::Seq);
    });
}

/// The sum of `x[i]·h[i][j]·x[j]` over all rows, for features i of `part` and j of `all`. `rows` are row-major with
/// `width` columns, `h` is `[part, all]`.
pub(crate) fn quadratic(rows: &[f64], width: usize, all: Range<usize>, h: &[f64], part: Range<usize>) -> f64 {
    let count = rows.len() / width;
    let mut products = vec![0.0; count * part.len()];
    let x = MatRef::from_row_major_slice(rows, count, width).subcols(all.start, all.len());
    let h = MatRef::from_row_major_slice(h, part.len(), all.len());
    let out = MatMut::from_row_major_slice_mut(&mut products, count, part.len());
    matmul(out, Accum::Replace, x, h.transpose(), 1.0, Par::Seq);
    let lines = products.chunks_exact(part.len()).zip(rows.chunks_exact(width));
    lines.flat_map(|(products, row)| products.iter().zip(&row[part.clone()])).map(|(p, x)| p * x).sum()
}
