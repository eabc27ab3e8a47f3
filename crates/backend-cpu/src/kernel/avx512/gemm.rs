//! A base times tiles of 16 to 32 vectors.

use std::arch::x86_64::*;

use super::DenseRows;
use crate::kernel::avx2::PANEL;
use crate::kernel::output::Rows;
use crate::tile::{LANE_WIDTH, Tile};

/// Rows decoded at a time.
const ROWS: usize = 12;
/// Lanes of a register.
const LANES: usize = 2 * LANE_WIDTH;

/// As [`avx2`](crate::kernel::avx2)'s, with twelve rows and registers of 16 vectors: 24 sums in all.
///
/// # Safety
/// AVX-512 F and what the AVX2 path needs are present; the rows exist; every tile has 16 to 32 vectors and a value for every
/// column.
#[target_feature(enable = "avx2,fma,f16c,avx512f")]
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
            for tile in tiles {
                let x = &tile.x[start * tile.width..(start + columns) * tile.width];
                let sums = match tile.width {
                    // SAFETY: the panel has so many values of x for each of its columns.
                    LANES => unsafe { panel::<1>(&weights, columns, x, LANES) },
                    // SAFETY: the same.
                    width => unsafe { panel::<2>(&weights, columns, x, width) },
                };
                let mut y = y.of(tile);
                for (r, sums) in sums[..here].iter().enumerate() {
                    y.row(row + r).iter_mut().zip(sums).for_each(|(y, sum)| *y += sum);
                }
            }
        }
    }
}

/// Decoded weights times the `width` vectors of a panel, at most `16·W`.
///
/// # Safety
/// AVX-512 F is present; `x` has `columns · width` values; `width` is `16·W`, or 8 less.
#[target_feature(enable = "avx512f")]
unsafe fn panel<const W: usize>(
    weights: &[[f32; PANEL]; ROWS],
    columns: usize,
    x: &[f32],
    width: usize,
) -> [[f32; 2 * LANES]; ROWS] {
    // The last register may be half full.
    let last: __mmask16 = if width == W * LANES { 0xFFFF } else { 0xFF };
    let mut sums = [[_mm512_setzero_ps(); W]; ROWS];
    for column in 0..columns.min(PANEL) {
        let mut x_part = [_mm512_setzero_ps(); W];
        for w in 0..W {
            let mask = if w + 1 == W { last } else { 0xFFFF };
            // SAFETY: the caller's promise; the mask keeps to the panel's vectors.
            x_part[w] = unsafe { _mm512_maskz_loadu_ps(mask, x.as_ptr().add(column * width + w * LANES)) };
        }
        for r in 0..ROWS {
            let weight = _mm512_set1_ps(weights[r][column]);
            for w in 0..W {
                sums[r][w] = _mm512_fmadd_ps(weight, x_part[w], sums[r][w]);
            }
        }
    }
    let mut stored = [[0.0; 2 * LANES]; ROWS];
    for r in 0..ROWS {
        for w in 0..W {
            // SAFETY: W is at most 2, so that a row has 16 places from 16·w on.
            unsafe { _mm512_storeu_ps(stored[r].as_mut_ptr().add(w * LANES), sums[r][w]) };
        }
    }
    stored
}
