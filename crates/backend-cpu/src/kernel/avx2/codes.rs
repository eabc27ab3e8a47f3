//! Codes times up to eight vectors, and codes as weights.

use std::arch::x86_64::*;

use super::dense::DenseRows;
use super::gemm::PANEL;
use super::order::{Bytes, Codes, Interleaved, Nibbles};
use super::sum_lanes;
use crate::base::{CodeOrder, CodesView};
use crate::kernel::Output;
use crate::tile::LANE_WIDTH;
use crate::vector::BLOCK;

impl DenseRows for CodesView<'_> {
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
        // SAFETY: the caller's promise; the order of the codes is the base's.
        unsafe {
            match self.order {
                CodeOrder::Bytes => gemv_rows::<R, B, Bytes>(self, first, row, x, y),
                CodeOrder::Interleaved => gemv_rows::<R, B, Interleaved>(self, first, row, x, y),
                CodeOrder::Nibbles => gemv_rows::<R, B, Nibbles>(self, first, row, x, y),
            }
        }
    }

    #[inline(always)]
    unsafe fn decode(self, row: usize, start: usize, columns: usize, weights: &mut [f32; PANEL]) {
        // SAFETY: the caller's promise; the order of the codes is the base's.
        unsafe {
            match self.order {
                CodeOrder::Bytes => decode_panel::<Bytes>(self, row, start, columns, weights),
                CodeOrder::Interleaved => decode_panel::<Interleaved>(self, row, start, columns, weights),
                CodeOrder::Nibbles => decode_panel::<Nibbles>(self, row, start, columns, weights),
            }
        }
    }
}

/// [`DenseRows::times`]: decodes codes in registers and multiplies them with each vector.
///
/// # Safety
/// The same as [`DenseRows::times`]; the codes have the order `C`.
#[target_feature(enable = "avx2,fma")]
unsafe fn gemv_rows<const R: usize, const B: usize, C: Codes>(
    base: CodesView<'_>,
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
                // The same place of the next rows. They begin on another page, and the processor's own prefetch
                // stops at the end of a page. A prefetch of any address is allowed.
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
        // The row's last group may be shorter.
        let scale = _mm256_set1_ps(scales[r].get(group).copied().unwrap_or(0.0));
        for (b, y) in y.row(row + r).iter_mut().enumerate() {
            *y = sum_lanes(_mm256_fmadd_ps(scale, sums[r][b], totals[r][b]));
        }
    }
}

/// [`DenseRows::decode`]; prefetches the row's next panel.
///
/// # Safety
/// The same as [`DenseRows::decode`]; the codes have the order `C`.
#[target_feature(enable = "avx2")]
unsafe fn decode_panel<C: Codes>(
    base: CodesView<'_>,
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
