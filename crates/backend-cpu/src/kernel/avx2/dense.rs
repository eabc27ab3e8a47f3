//! Quantised base times a tile of vectors.

use std::arch::x86_64::*;

use residua_format::BaseKind;

use crate::base::CpuBase;
use crate::kernel::Output;
use crate::tile::{LANE_WIDTH, MOST, Tile};
use crate::vector::BLOCK;

/// Columns decoded at a time by [`gemm`]: their `x` fits the second-level cache with room to spare.
const PANEL: usize = 4 * BLOCK;

/// Writes `base · x` for one vector, four rows at a time so that `x` is loaded once for them.
///
/// # Safety
/// AVX2 and FMA are present; the rows exist; `x` has a value for every column, padding included.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn gemv(base: &CpuBase, first: usize, x: &[f32], y: &mut Output<'_>) {
    let rows = y.rows();
    let mut row = 0;
    while row < rows {
        // SAFETY: the caller's promise.
        unsafe {
            match base.kind() {
                BaseKind::Int8 if row + 4 <= rows => gemv_rows::<4, false>(base, first, row, x, y),
                BaseKind::Int8 => gemv_rows::<1, false>(base, first, row, x, y),
                _ if row + 4 <= rows => gemv_rows::<4, true>(base, first, row, x, y),
                _ => gemv_rows::<1, true>(base, first, row, x, y),
            }
        }
        row += if row + 4 <= rows { 4 } else { 1 };
    }
}

/// # Safety
/// As [`gemv`]; the base is INT4 if `INT4`, else INT8; `row + R` rows of `y` exist.
#[target_feature(enable = "avx2,fma")]
unsafe fn gemv_rows<const R: usize, const INT4: bool>(
    base: &CpuBase,
    first: usize,
    row: usize,
    x: &[f32],
    y: &mut Output<'_>,
) {
    let codes: [&[u8]; R] = std::array::from_fn(|r| base.row_codes(first + row + r));
    let scales: [&[f32]; R] = std::array::from_fn(|r| base.row_scales(first + row + r));
    let mut totals = [_mm256_setzero_ps(); R];
    let mut sums = [_mm256_setzero_ps(); R];
    // Groups are 32 columns or a multiple of them.
    let halves_per_group = base.group() / (BLOCK / 2);
    let (mut group, mut halves) = (0, 0);
    for block in 0..base.padded_cols() / BLOCK {
        // SAFETY: the block is one of the row's, whose codes `CpuBase` holds.
        let packed: [_; R] = std::array::from_fn(|r| unsafe { load_block::<INT4>(codes[r], block) });
        for half in 0..2 {
            for part in 4 * half..4 * half + 4 {
                // SAFETY: x has a value for every column, padding included.
                let x = unsafe { _mm256_loadu_ps(x.as_ptr().add(block * BLOCK + part * LANE_WIDTH)) };
                for r in 0..R {
                    // SAFETY: the block is one of the row's.
                    let code = unsafe { eight_codes::<INT4>(codes[r], packed[r], block, part) };
                    sums[r] = _mm256_fmadd_ps(code, x, sums[r]);
                }
            }
            halves += 1;
            if halves == halves_per_group {
                for r in 0..R {
                    // A row's padding may start a group that it has no scale for; its codes are 0.
                    let scale = scales[r].get(group).copied().unwrap_or(0.0);
                    totals[r] = _mm256_fmadd_ps(_mm256_set1_ps(scale), sums[r], totals[r]);
                    sums[r] = _mm256_setzero_ps();
                }
                (group, halves) = (group + 1, 0);
            }
        }
    }
    for r in 0..R {
        // A group that the row's end cuts short.
        let scale = scales[r].get(group).copied().unwrap_or(0.0);
        let total = _mm256_fmadd_ps(_mm256_set1_ps(scale), sums[r], totals[r]);
        y.row(row + r)[0] = sum_lanes(total);
    }
}

/// Writes `base · x` for a tile of `8·W` vectors: a panel of a few rows is decoded to f32, then multiplied with as
/// many sums in registers as there are.
///
/// # Safety
/// AVX2 and FMA are present; the rows exist; `x` has a value for every column and vector of the tile.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn gemm(base: &CpuBase, first: usize, x: &Tile<'_>, y: &mut Output<'_>) {
    for row in 0..y.rows() {
        y.row(row).fill(0.0);
    }
    // SAFETY: the caller's promise. The base's kind is checked here.
    unsafe {
        match (x.width, base.kind()) {
            (8, BaseKind::Int8) => gemm_panels::<1, 8, false>(base, first, &x.x, y),
            (8, _) => gemm_panels::<1, 8, true>(base, first, &x.x, y),
            (16, BaseKind::Int8) => gemm_panels::<2, 6, false>(base, first, &x.x, y),
            (16, _) => gemm_panels::<2, 6, true>(base, first, &x.x, y),
            (24, BaseKind::Int8) => gemm_panels::<3, 4, false>(base, first, &x.x, y),
            (24, _) => gemm_panels::<3, 4, true>(base, first, &x.x, y),
            (_, BaseKind::Int8) => gemm_panels::<4, 3, false>(base, first, &x.x, y),
            _ => gemm_panels::<4, 3, true>(base, first, &x.x, y),
        }
    }
}

/// # Safety
/// As [`gemm`]; the tile's width is `8·W`; the base is INT4 if `INT4`, else INT8.
#[target_feature(enable = "avx2,fma")]
unsafe fn gemm_panels<const W: usize, const R: usize, const INT4: bool>(
    base: &CpuBase,
    first: usize,
    x: &[f32],
    y: &mut Output<'_>,
) {
    let mut weights = [[0.0f32; PANEL]; R];
    let rows = y.rows();
    for start in (0..base.cols()).step_by(PANEL) {
        let columns = PANEL.min(base.cols() - start);
        for row in (0..rows).step_by(R) {
            let here = R.min(rows - row);
            for (r, weights) in weights[..here].iter_mut().enumerate() {
                // SAFETY: the row exists, the panel starts inside it.
                unsafe { decode_panel::<INT4>(base, first + row + r, start, columns, weights) };
            }
            // Rows past the end repeat old weights; their sums are dropped.
            let mut sums = [[_mm256_setzero_ps(); W]; R];
            for column in 0..columns {
                // SAFETY: x has 8·W values for every column.
                unsafe {
                    let from = x.as_ptr().add((start + column) * W * LANE_WIDTH);
                    let x: [_; W] = std::array::from_fn(|w| _mm256_loadu_ps(from.add(w * LANE_WIDTH)));
                    for r in 0..R {
                        let weight = _mm256_set1_ps(*weights.get_unchecked(r).get_unchecked(column));
                        for w in 0..W {
                            sums[r][w] = _mm256_fmadd_ps(weight, x[w], sums[r][w]);
                        }
                    }
                }
            }
            for (r, sums) in sums[..here].iter().enumerate() {
                let mut row_sums = [0.0; MOST];
                for (w, &sum) in sums.iter().enumerate() {
                    // SAFETY: W is at most 4, so that `row_sums` has eight places from 8·w on.
                    unsafe { _mm256_storeu_ps(row_sums.as_mut_ptr().add(w * LANE_WIDTH), sum) };
                }
                y.add(row + r, 1.0, &row_sums[..W * LANE_WIDTH]);
            }
        }
    }
}

/// Weights of a row from column `start` on, a multiple of 64; asks for the row's next panel meanwhile.
///
/// # Safety
/// AVX2 is present; `start + columns` columns and the row exist; `columns` is at most [`PANEL`].
#[target_feature(enable = "avx2")]
unsafe fn decode_panel<const INT4: bool>(
    base: &CpuBase,
    row: usize,
    start: usize,
    columns: usize,
    weights: &mut [f32; PANEL],
) {
    let (codes, scales) = (base.row_codes(row), base.row_scales(row));
    for line in 0..PANEL / 64 {
        let ahead = (start + PANEL + 64 * line) / if INT4 { 2 } else { 1 };
        // A prefetch of any address is allowed.
        _mm_prefetch::<_MM_HINT_T1>(codes.as_ptr().wrapping_add(ahead).cast());
    }
    for (i, weights) in weights[..columns.next_multiple_of(BLOCK)].chunks_exact_mut(BLOCK).enumerate() {
        let block = start / BLOCK + i;
        // SAFETY: the block is one of the row's.
        let packed = unsafe { load_block::<INT4>(codes, block) };
        for (part, weights) in weights.chunks_exact_mut(LANE_WIDTH).enumerate() {
            let group = (block * BLOCK + part * LANE_WIDTH) / base.group();
            // A row's padding may start a group that it has no scale for.
            let scale = _mm256_set1_ps(scales.get(group).copied().unwrap_or(0.0));
            // SAFETY: the block is one of the row's; the chunk is eight f32.
            unsafe {
                let code = eight_codes::<INT4>(codes, packed, block, part);
                _mm256_storeu_ps(weights.as_mut_ptr(), _mm256_mul_ps(code, scale));
            }
        }
    }
}

/// The packed codes of an INT4 block; nothing for INT8.
///
/// # Safety
/// AVX2 is present; the row has the block.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load_block<const INT4: bool>(codes: &[u8], block: usize) -> __m256i {
    if INT4 {
        // SAFETY: the row's codes hold 32 bytes per block.
        unsafe { _mm256_loadu_si256(codes.as_ptr().add(block * BLOCK / 2).cast()) }
    } else {
        _mm256_setzero_si256()
    }
}

/// The codes of columns `8·part..8·part + 8` of a block.
///
/// # Safety
/// AVX2 is present; the row has the block; `part` is below 8.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn eight_codes<const INT4: bool>(codes: &[u8], packed: __m256i, block: usize, part: usize) -> __m256 {
    let codes = if INT4 {
        let left = _mm256_set1_epi32(28 - 4 * part as i32);
        _mm256_srai_epi32::<28>(_mm256_sllv_epi32(packed, left))
    } else {
        // SAFETY: the row's codes hold 64 bytes per block.
        unsafe {
            let from = codes.as_ptr().add(block * BLOCK + part * LANE_WIDTH);
            _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))
        }
    };
    _mm256_cvtepi32_ps(codes)
}

/// The sum of eight lanes, always in the same order.
#[target_feature(enable = "avx2")]
#[inline]
fn sum_lanes(lanes: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}
