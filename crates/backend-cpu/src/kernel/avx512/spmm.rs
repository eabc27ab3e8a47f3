//! Sparse matrix times a tile of `16·W` vectors.

use std::arch::x86_64::*;

use super::LoadValues;
use crate::kernel::{Factor, Output};
use crate::layout::{Gap, LANES, Planes};
use crate::tile::{LANE_WIDTH, MOST};

/// As [`avx2`](crate::kernel::avx2)'s, with registers of 16 vectors.
///
/// # Safety
/// AVX-512 F and what the AVX2 path needs are present; both planes hold `8 · Σ steps` elements; `x` holds `16·W` values for
/// every column that a lane reaches.
#[target_feature(enable = "avx2,fma,f16c,avx512f")]
pub(super) unsafe fn spmm<V: LoadValues, G: Gap, const W: usize, const TOGETHER: usize>(
    planes: &Planes<V, G>,
    factor: Factor<'_>,
    x: &[f32],
    y: &mut Output<'_>,
) {
    const WIDTH: usize = 2 * LANE_WIDTH;
    let (mut gaps, mut values) = (planes.gaps.as_ptr(), planes.values.as_ptr());
    for slice in &planes.slices {
        for lanes in (0..LANES).step_by(TOGETHER) {
            let steps = (lanes..lanes + TOGETHER).map(|lane| slice.lens[lane]).max().unwrap_or(0);
            let mut columns: [usize; TOGETHER] = std::array::from_fn(|i| slice.starts[lanes + i] as usize);
            let mut sums = [[_mm512_setzero_ps(); W]; TOGETHER];
            for step in 0..usize::from(steps) {
                for i in 0..TOGETHER {
                    let at = step * LANES + lanes + i;
                    // SAFETY: `steps` is at most the slice's steps, so both planes have this element; the
                    // column that the lane reaches has 16·W values in x.
                    unsafe {
                        columns[i] += (*gaps.add(at)).get() as usize;
                        let value =
                            _mm512_broadcastss_ps(_mm256_castps256_ps128((*values.add(at)).broadcast()));
                        let from = x.as_ptr().add(columns[i] * W * WIDTH);
                        for w in 0..W {
                            let x = _mm512_loadu_ps(from.add(w * WIDTH));
                            sums[i][w] = _mm512_fmadd_ps(value, x, sums[i][w]);
                        }
                    }
                }
            }
            for i in 0..TOGETHER {
                if slice.lens[lanes + i] == 0 {
                    continue;
                }
                let mut row_sums = [0.0; MOST];
                for w in 0..W {
                    // SAFETY: W is at most 2, so that `row_sums` has 16 places from 16·w on.
                    unsafe { _mm512_storeu_ps(row_sums.as_mut_ptr().add(w * WIDTH), sums[i][w]) };
                }
                let row = usize::from(slice.rows[lanes + i]);
                y.add(row, factor.of(row), &row_sums[..W * WIDTH]);
            }
        }
        // SAFETY: the planes hold the slice's elements, so this is at most one past their end.
        unsafe {
            gaps = gaps.add(slice.steps as usize * LANES);
            values = values.add(slice.steps as usize * LANES);
        }
    }
}
