//! Rows of floats times up to eight vectors, and floats as weights.

use std::arch::x86_64::*;

use super::dense::DenseRows;
use super::gemm::PANEL;
use super::{LoadValues, sum_lanes};
use crate::base::FloatsView;
use crate::kernel::Output;
use crate::tile::LANE_WIDTH;
use crate::vector::BLOCK;

/// Values of a cache line.
const fn line<V>() -> usize {
    64 / size_of::<V>()
}

impl<V: LoadValues> DenseRows for FloatsView<'_, V> {
    fn shape(self) -> [usize; 2] {
        self.shape
    }

    #[inline(always)]
    unsafe fn times<const R: usize, const B: usize>(
        self,
        first: usize,
        row: usize,
        x: &[f32],
        y: &mut Output<'_>,
    ) {
        // SAFETY: the caller's promise.
        unsafe { gemv_rows::<R, B, V>(self, first, row, x, y) }
    }

    #[inline(always)]
    unsafe fn decode(self, row: usize, start: usize, columns: usize, weights: &mut [f32; PANEL]) {
        // SAFETY: the caller's promise.
        unsafe { decode_panel(self, row, start, columns, weights) }
    }
}

/// [`DenseRows::times`].
///
/// # Safety
/// The same as [`DenseRows::times`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn gemv_rows<const R: usize, const B: usize, V: LoadValues>(
    base: FloatsView<'_, V>,
    first: usize,
    row: usize,
    x: &[f32],
    y: &mut Output<'_>,
) {
    let weights: [&[V]; R] = std::array::from_fn(|r| base.row(first + row + r));
    let stride = base.padded_cols();
    let mut sums = [[_mm256_setzero_ps(); B]; R];
    for block in (0..stride).step_by(BLOCK) {
        if B == 1 {
            // The same place of the next rows. They begin on another page, and the processor's own prefetch stops at
            // the end of a page. A prefetch of any address is allowed.
            for r in 0..R {
                for at in (block..block + BLOCK).step_by(line::<V>()) {
                    let ahead = weights[r].as_ptr().wrapping_add(R * stride + at);
                    _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                }
            }
        }
        for at in (block..block + BLOCK).step_by(LANE_WIDTH) {
            let mut x_part = [_mm256_setzero_ps(); B];
            for b in 0..B {
                // SAFETY: every vector has a value for every column, padding included.
                x_part[b] = unsafe { _mm256_loadu_ps(x.as_ptr().add(b * stride + at)) };
            }
            for r in 0..R {
                // SAFETY: a row is whole blocks.
                let weight = unsafe { V::load(weights[r].as_ptr().add(at)) };
                for b in 0..B {
                    sums[r][b] = _mm256_fmadd_ps(weight, x_part[b], sums[r][b]);
                }
            }
        }
    }
    for r in 0..R {
        for (b, y) in y.row(row + r).iter_mut().enumerate() {
            *y = sum_lanes(sums[r][b]);
        }
    }
}

/// [`DenseRows::decode`]; prefetches the row's next panel.
///
/// # Safety
/// The same as [`DenseRows::decode`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn decode_panel<V: LoadValues>(
    base: FloatsView<'_, V>,
    row: usize,
    start: usize,
    columns: usize,
    weights: &mut [f32; PANEL],
) {
    let from = &base.row(row)[start..];
    for at in (PANEL..2 * PANEL).step_by(line::<V>()) {
        // A prefetch of any address is allowed.
        _mm_prefetch::<_MM_HINT_T1>(from.as_ptr().wrapping_add(at).cast());
    }
    let weights = weights[..columns.next_multiple_of(BLOCK)].chunks_exact_mut(LANE_WIDTH);
    for (from, to) in from.chunks_exact(LANE_WIDTH).zip(weights) {
        // SAFETY: both chunks are eight values.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), V::load(from.as_ptr())) };
    }
}
