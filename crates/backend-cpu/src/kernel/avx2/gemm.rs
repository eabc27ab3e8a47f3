//! A base times tiles of 16 to 32 vectors.

use std::arch::x86_64::*;
use std::ops::Range;

use super::dense::DenseRows;
use crate::kernel::output::{Output, Rows};
use crate::tile::{LANE_WIDTH, Tile};
use crate::vector::BLOCK;

/// Columns decoded at a time: their `x` fits the second-level cache with room to spare.
pub(in crate::kernel) const PANEL: usize = 4 * BLOCK;
/// Rows decoded at a time.
const ROWS: usize = 6;

/// Writes `base · x` for tiles of 16 to 32 vectors. It decodes a panel of six rows to f32, once for all tiles, then multiplies
/// it with two registers of vectors at a time: twelve sums in all.
///
/// # Safety
/// AVX2, FMA and F16C are present; the rows exist; every tile has a value for every column and vector.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn gemm(base: impl DenseRows, first: usize, tiles: &[Tile<'_>], y: &mut Rows<'_>) {
    let (rows, cols) = (y.count(), base.shape()[1]);
    for tile in tiles {
        (0..rows).for_each(|row| y.of(tile).row(row).fill(0.0));
    }
    let mut weights = [[0.0f32; PANEL]; ROWS];
    for start in (0..cols).step_by(PANEL) {
        let columns = PANEL.min(cols - start);
        for row in (0..rows).step_by(ROWS) {
            // Rows past the end repeat old weights; their sums are dropped.
            let here = ROWS.min(rows - row);
            for (r, weights) in weights[..here].iter_mut().enumerate() {
                // SAFETY: the row exists, the panel starts inside it.
                unsafe { base.decode(first + row + r, start, columns, weights) };
            }
            for x in tiles {
                let x_panel = &x.x[start * x.width..(start + columns) * x.width];
                let mut y = y.of(x);
                for at in (0..x.width).step_by(2 * LANE_WIDTH) {
                    // SAFETY: the panel has `width` values of x for each of its columns, 16 of them from `at` on, or 8.
                    unsafe {
                        if x.width - at >= 2 * LANE_WIDTH {
                            gemm_rows::<2>(&weights, columns, x_panel, x.width, at, row..row + here, &mut y);
                        } else {
                            gemm_rows::<1>(&weights, columns, x_panel, x.width, at, row..row + here, &mut y);
                        }
                    }
                }
            }
        }
    }
}

/// Adds decoded weights times `x` to some rows of `y`, for the `8·W` vectors from `at` on.
///
/// # Safety
/// AVX2 and FMA are present; `x` has `columns · width` values, and `at + 8·W` is at most `width`.
#[target_feature(enable = "avx2,fma")]
unsafe fn gemm_rows<const W: usize>(
    weights: &[[f32; PANEL]; ROWS],
    columns: usize,
    x: &[f32],
    width: usize,
    at: usize,
    rows: Range<usize>,
    y: &mut Output<'_>,
) {
    let mut sums = [[_mm256_setzero_ps(); W]; ROWS];
    for column in 0..columns.min(PANEL) {
        let mut x_part = [_mm256_setzero_ps(); W];
        for w in 0..W {
            // SAFETY: the caller's promise.
            x_part[w] = unsafe { _mm256_loadu_ps(x.as_ptr().add(column * width + at + w * LANE_WIDTH)) };
        }
        for r in 0..ROWS {
            let weight = _mm256_set1_ps(weights[r][column]);
            for w in 0..W {
                sums[r][w] = _mm256_fmadd_ps(weight, x_part[w], sums[r][w]);
            }
        }
    }
    for (row, sums) in rows.zip(sums) {
        let mut row_sums = [0.0; 2 * LANE_WIDTH];
        for w in 0..W {
            // SAFETY: W is at most 2, so that `row_sums` has eight places from 8·w on.
            unsafe { _mm256_storeu_ps(row_sums.as_mut_ptr().add(w * LANE_WIDTH), sums[w]) };
        }
        // The last vectors of a tile may be padding, or all of this register.
        let y = y.row(row).iter_mut().skip(at);
        y.zip(&row_sums[..W * LANE_WIDTH]).for_each(|(y, sum)| *y += sum);
    }
}
