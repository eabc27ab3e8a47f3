//! Quantised base times a tile of vectors.

use std::arch::x86_64::*;

use super::codes::{Bytes, Codes, Interleaved, Nibbles};
use super::sum_lanes;
use crate::base::{BaseView, CodeOrder};
use crate::kernel::Output;
use crate::tile::{LANE_WIDTH, Tile};
use crate::vector::BLOCK;

/// Columns decoded at a time by [`gemm`]: their `x` fits the second-level cache with room to spare.
const PANEL: usize = 4 * BLOCK;
/// Rows decoded at a time by [`gemm`].
const ROWS: usize = 6;

/// Writes `base · x` for up to eight vectors: codes are decoded in registers and multiplied with each vector, a few
/// rows at a time so that `x` is loaded once for them.
///
/// # Safety
/// AVX2 and FMA are present; the rows exist; `x` is vector after vector, each with a value for every column,
/// padding included; there are as many vectors as `y` has columns, rounded up to 1, 2, 4 or 8.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn gemv(base: BaseView<'_>, first: usize, x: &[f32], y: &mut Output<'_>) {
    // SAFETY: the caller's promise. The order of the codes is the base's.
    unsafe {
        match base.order {
            CodeOrder::Bytes => gemv_of::<Bytes>(base, first, x, y),
            CodeOrder::Interleaved => gemv_of::<Interleaved>(base, first, x, y),
            CodeOrder::Nibbles => gemv_of::<Nibbles>(base, first, x, y),
        }
    }
}

/// # Safety
/// As [`gemv`]; the codes lie as `C` says.
#[target_feature(enable = "avx2,fma")]
unsafe fn gemv_of<C: Codes>(base: BaseView<'_>, first: usize, x: &[f32], y: &mut Output<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        match y.used {
            1 => gemv_all::<4, 1, C>(base, first, x, y),
            2 => gemv_all::<4, 2, C>(base, first, x, y),
            3..=4 => gemv_all::<2, 4, C>(base, first, x, y),
            _ => gemv_all::<1, 8, C>(base, first, x, y),
        }
    }
}

/// # Safety
/// As [`gemv_of`], for `B` vectors.
#[target_feature(enable = "avx2,fma")]
unsafe fn gemv_all<const R: usize, const B: usize, C: Codes>(
    base: BaseView<'_>,
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
                1 => gemv_rows::<1, B, C>(base, first, row, x, y),
                _ => gemv_rows::<R, B, C>(base, first, row, x, y),
            }
        }
        row += here;
    }
}

/// # Safety
/// As [`gemv_all`]; `row + R` rows of `y` exist.
#[target_feature(enable = "avx2,fma")]
unsafe fn gemv_rows<const R: usize, const B: usize, C: Codes>(
    base: BaseView<'_>,
    first: usize,
    row: usize,
    x: &[f32],
    y: &mut Output<'_>,
) {
    let codes: [&[u8]; R] = std::array::from_fn(|r| base.row_codes(first + row + r));
    let scales: [&[f32]; R] = std::array::from_fn(|r| base.row_scales(first + row + r));
    let stride = base.padded_cols();
    let mut totals = [[_mm256_setzero_ps(); B]; R];
    let mut sums = [[_mm256_setzero_ps(); B]; R];
    // Groups are 32 columns or a multiple of them.
    let halves_per_group = base.group() / (BLOCK / 2);
    let (mut group, mut halves) = (0, 0);
    for block in 0..stride / BLOCK {
        let mut packed = [_mm256_setzero_si256(); R];
        for r in 0..R {
            // SAFETY: the block is one of the row's, whose codes `CpuBase` holds.
            packed[r] = unsafe { C::load_block(codes[r], block) };
            if B == 1 && block * C::BLOCK_BYTES % 64 == 0 {
                // The same place of the next rows: they start anew at another page, where the processor's own
                // prefetch does not follow. A prefetch of any address is allowed.
                let ahead = R * codes[r].len() + block * C::BLOCK_BYTES;
                _mm_prefetch::<_MM_HINT_T1>(codes[r].as_ptr().wrapping_add(ahead).cast());
            }
        }
        for half in 0..2 {
            for part in 4 * half..4 * half + 4 {
                let from = block * BLOCK + part * LANE_WIDTH;
                let mut x_part = [_mm256_setzero_ps(); B];
                for b in 0..B {
                    // SAFETY: every vector has a value for every column, padding included.
                    x_part[b] = unsafe { _mm256_loadu_ps(x.as_ptr().add(b * stride + from)) };
                }
                for r in 0..R {
                    // SAFETY: the block is one of the row's.
                    let code = unsafe { C::eight(codes[r], packed[r], block, part) };
                    for b in 0..B {
                        sums[r][b] = _mm256_fmadd_ps(code, x_part[b], sums[r][b]);
                    }
                }
            }
            halves += 1;
            if halves == halves_per_group {
                for r in 0..R {
                    // A row's padding may start a group that it has no scale for; its codes are 0.
                    let scale = _mm256_set1_ps(scales[r].get(group).copied().unwrap_or(0.0));
                    for b in 0..B {
                        totals[r][b] = _mm256_fmadd_ps(scale, sums[r][b], totals[r][b]);
                        sums[r][b] = _mm256_setzero_ps();
                    }
                }
                (group, halves) = (group + 1, 0);
            }
        }
    }
    for r in 0..R {
        // A group that the row's end cuts short.
        let scale = _mm256_set1_ps(scales[r].get(group).copied().unwrap_or(0.0));
        for (b, y) in y.row(row + r).iter_mut().enumerate() {
            *y = sum_lanes(_mm256_fmadd_ps(scale, sums[r][b], totals[r][b]));
        }
    }
}

/// Writes `base · x` for a tile of 16 to 32 vectors: a panel of six rows is decoded to f32, then multiplied with two
/// registers of vectors at a time, twelve sums in all.
///
/// # Safety
/// AVX2 and FMA are present; the rows exist; `x` has a value for every column and vector of the tile.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn gemm(base: BaseView<'_>, first: usize, x: &Tile<'_>, y: &mut Output<'_>) {
    for row in 0..y.rows() {
        y.row(row).fill(0.0);
    }
    let mut weights = [[0.0f32; PANEL]; ROWS];
    let rows = y.rows();
    for start in (0..base.cols()).step_by(PANEL) {
        let columns = PANEL.min(base.cols() - start);
        for row in (0..rows).step_by(ROWS) {
            // Rows past the end repeat old weights; their sums are dropped.
            let here = ROWS.min(rows - row);
            for (r, weights) in weights[..here].iter_mut().enumerate() {
                let row = first + row + r;
                // SAFETY: the row exists, the panel starts inside it; the order of the codes is the base's.
                unsafe {
                    match base.order {
                        CodeOrder::Bytes => decode_panel::<Bytes>(base, row, start, columns, weights),
                        CodeOrder::Interleaved => {
                            decode_panel::<Interleaved>(base, row, start, columns, weights)
                        }
                        CodeOrder::Nibbles => decode_panel::<Nibbles>(base, row, start, columns, weights),
                    }
                }
            }
            let x_panel = &x.x[start * x.width..(start + columns) * x.width];
            for at in (0..x.width).step_by(2 * LANE_WIDTH) {
                // SAFETY: the panel has `width` values of x for each of its columns, 16 of them from `at` on, or 8.
                unsafe {
                    if x.width - at >= 2 * LANE_WIDTH {
                        gemm_rows::<2>(&weights, columns, x_panel, x.width, at, row..row + here, y);
                    } else {
                        gemm_rows::<1>(&weights, columns, x_panel, x.width, at, row..row + here, y);
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
    rows: std::ops::Range<usize>,
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

/// Weights of a row from column `start` on, a multiple of 64; asks for the row's next panel meanwhile.
///
/// # Safety
/// AVX2 is present; `start + columns` columns and the row exist; `columns` is at most [`PANEL`]; the codes lie as `C`
/// says.
#[target_feature(enable = "avx2")]
unsafe fn decode_panel<C: Codes>(
    base: BaseView<'_>,
    row: usize,
    start: usize,
    columns: usize,
    weights: &mut [f32; PANEL],
) {
    let (codes, scales) = (base.row_codes(row), base.row_scales(row));
    for line in 0..PANEL / 64 {
        let ahead = (start + PANEL + 64 * line) / BLOCK * C::BLOCK_BYTES;
        // A prefetch of any address is allowed.
        _mm_prefetch::<_MM_HINT_T1>(codes.as_ptr().wrapping_add(ahead).cast());
    }
    for (i, weights) in weights[..columns.next_multiple_of(BLOCK)].chunks_exact_mut(BLOCK).enumerate() {
        let block = start / BLOCK + i;
        // SAFETY: the block is one of the row's.
        let packed = unsafe { C::load_block(codes, block) };
        for (part, weights) in weights.chunks_exact_mut(LANE_WIDTH).enumerate() {
            let group = (block * BLOCK + part * LANE_WIDTH) / base.group();
            // A row's padding may start a group that it has no scale for.
            let scale = _mm256_set1_ps(scales.get(group).copied().unwrap_or(0.0));
            // SAFETY: the block is one of the row's; the chunk is eight f32.
            unsafe {
                let code = C::eight(codes, packed, block, part);
                _mm256_storeu_ps(weights.as_mut_ptr(), _mm256_mul_ps(code, scale));
            }
        }
    }
}
