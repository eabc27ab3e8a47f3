//! A base times vectors, whatever its values are.

use super::gemm;
use super::gemm::PANEL;
use crate::kernel::output::{Output, Rows};
use crate::tile::{LANE_WIDTH, Tile};

/// A base: rows of codes or of floats.
pub(crate) trait DenseRows: Copy {
    /// `[rows, cols]`, padding left out.
    fn shape(self) -> [usize; 2];

    /// Writes the rows `first + row..first + row + R` times `B` vectors to `y` from its row `row` on.
    ///
    /// # Safety
    /// AVX2, FMA and F16C are present; the rows exist here and in `y`; `x` is vector after vector, each with a value for
    /// every column, padding included; `B` is the number of vectors.
    unsafe fn times<const R: usize, const B: usize>(
        self,
        first: usize,
        row: usize,
        x: &[f32],
        y: &mut Output<'_>,
    );

    /// Writes the weights of a row from column `start` on, a multiple of 64.
    ///
    /// # Safety
    /// AVX2, FMA and F16C are present; `start + columns` columns and the row exist; `columns` is at most [`PANEL`].
    unsafe fn decode(self, row: usize, start: usize, columns: usize, weights: &mut [f32; PANEL]);
}

/// Writes `base · x` for the rows from `first` on, as many as `y` has.
///
/// # Safety
/// AVX2, FMA and F16C are present; the rows exist; every tile covers the columns.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn product(base: impl DenseRows, first: usize, tiles: &[Tile<'_>], y: &mut Rows<'_>) {
    // Only the last tile may be narrow.
    let (wide, narrow) = tiles.split_at(tiles.partition_point(|tile| tile.width > LANE_WIDTH));
    // SAFETY: the caller's promise; a narrow tile has its vectors one after the other.
    unsafe {
        if !wide.is_empty() {
            gemm::gemm(base, first, wide, y);
        }
        for x in narrow {
            let mut y = y.of(x);
            match x.used {
                1 => gemv::<4, 1>(base, first, &x.by_vector, &mut y),
                2 => gemv::<4, 2>(base, first, &x.by_vector, &mut y),
                3..=4 => gemv::<2, 4>(base, first, &x.by_vector, &mut y),
                _ => gemv::<1, 8>(base, first, &x.by_vector, &mut y),
            }
        }
    }
}

/// Writes `base · x` for `B` vectors. `R` rows at a time share the loads of `x`.
///
/// # Safety
/// The same as [`DenseRows::times`], for all rows of `y`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn gemv<const R: usize, const B: usize>(
    base: impl DenseRows,
    first: usize,
    x: &[f32],
    y: &mut Output<'_>,
) {
    let (rows, mut row) = (y.rows(), 0);
    while row < rows {
        let here = if row + R <= rows { R } else { 1 };
        // SAFETY: the caller's promise; `here` rows of y are left.
        unsafe {
            match here {
                1 => base.times::<1, B>(first, row, x, y),
                _ => base.times::<R, B>(first, row, x, y),
            }
        }
        row += here;
    }
}
