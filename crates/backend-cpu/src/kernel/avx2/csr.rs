//! Compressed sparse rows times a tile of vectors.

use std::arch::x86_64::*;

use super::spmv::pick;
use super::sum_lanes;
use crate::borrowed::BorrowedCsr;
use crate::kernel::Output;
use crate::layout::LANES;
use crate::tile::{LANE_WIDTH, MOST};

/// Adds `alpha · (a · x)` for one vector, sixteen entries of a row at a time.
///
/// # Safety
/// AVX2 and FMA are present; `x` has a value for every column of `a`; the rows exist.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn spmv(a: &BorrowedCsr<'_>, first: usize, alpha: f32, x: &[f32], y: &mut Output<'_>) {
    for row in 0..y.rows() {
        let (columns, values) = a.row(first + row);
        let (column_pairs, column_rest) = columns.as_chunks::<{ 2 * LANES }>();
        let (value_pairs, value_rest) = values.as_chunks::<{ 2 * LANES }>();
        let mut sums = [_mm256_setzero_ps(); 2];
        for (columns, values) in column_pairs.iter().zip(value_pairs) {
            for half in 0..2 {
                // SAFETY: both chunks are sixteen elements; every column of `a` has a value in x.
                unsafe {
                    let columns = _mm256_loadu_si256(columns.as_ptr().add(half * LANES).cast());
                    let values = _mm256_loadu_ps(values.as_ptr().add(half * LANES));
                    sums[half] = _mm256_fmadd_ps(values, pick(x.as_ptr(), columns), sums[half]);
                }
            }
        }
        let mut sum = sum_lanes(_mm256_add_ps(sums[0], sums[1]));
        for (&column, &value) in column_rest.iter().zip(value_rest) {
            sum += value * x[column as usize];
        }
        y.add(row, alpha, &[sum]);
    }
}

/// Adds `alpha · (a · x)` for `8·W` vectors, two entries of a row at a time. Two sets of sums hide the latency of the
/// additions.
///
/// # Safety
/// AVX2 and FMA are present; `x` has `8·W` values for every column of `a`; the rows exist.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn spmm<const W: usize>(
    a: &BorrowedCsr<'_>,
    first: usize,
    alpha: f32,
    x: &[f32],
    y: &mut Output<'_>,
) {
    for row in 0..y.rows() {
        let (columns, values) = a.row(first + row);
        let mut sums = [[_mm256_setzero_ps(); W]; 2];
        for (columns, values) in columns.chunks(2).zip(values.chunks(2)) {
            for (i, (&column, &value)) in columns.iter().zip(values).enumerate() {
                let value = _mm256_set1_ps(value);
                for w in 0..W {
                    // SAFETY: every column of `a` has 8·W values in x.
                    let x = unsafe {
                        _mm256_loadu_ps(x.as_ptr().add(column as usize * W * LANE_WIDTH + w * LANE_WIDTH))
                    };
                    sums[i][w] = _mm256_fmadd_ps(value, x, sums[i][w]);
                }
            }
        }
        let mut row_sums = [0.0; MOST];
        for w in 0..W {
            let sum = _mm256_add_ps(sums[0][w], sums[1][w]);
            // SAFETY: W is at most 4, so that `row_sums` has eight places from 8·w on.
            unsafe { _mm256_storeu_ps(row_sums.as_mut_ptr().add(w * LANE_WIDTH), sum) };
        }
        y.add(row, alpha, &row_sums[..W * LANE_WIDTH]);
    }
}
