//! Packed codes times many inputs of 8-bit integers. Lanes are vectors.

use std::arch::x86_64::*;

use super::codes::Codes;
use crate::base::packed::{BLOCK, Order, PackedView, ROWS, STEP};
use crate::kernel::output::Rows;
use crate::quantized::{Quantized, WORDS};

/// Lanes of a register.
const LANES: usize = 16;
/// Rows with sums in registers, for two registers of vectors.
const TOGETHER: usize = 8;

/// Writes `base · x` for the rows from `first` on. The codes of a strip are expanded to bytes once, for all vectors.
///
/// # Safety
/// AVX-512 F, BW and VNNI are present; the rows exist and have codes of this order; `x` has the base's blocks.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn product<C: Codes>(
    codes: C,
    base: PackedView<'_>,
    first: usize,
    x: &Quantized,
    at: usize,
    y: &mut Rows<'_>,
) {
    let mut expanded = vec![0u8; base.blocks() * BLOCK * ROWS];
    for strip in PackedView::strips(first..first + y.count()) {
        let packed = base.strip_codes(strip..strip + 1).chunks_exact(C::STEP_BYTES);
        for (from, to) in packed.zip(expanded.chunks_exact_mut(Order::STEP_BYTES)) {
            // SAFETY: both are a step.
            unsafe {
                let [low, high] = codes.load(from.as_ptr());
                _mm512_storeu_si512(to.as_mut_ptr().cast(), low);
                _mm512_storeu_si512(to.as_mut_ptr().add(64).cast(), high);
            }
        }
        for lane in (0..ROWS).step_by(TOGETHER) {
            for vector in (0..x.width).step_by(2 * LANES) {
                // SAFETY: the caller's promise; at least one of these vectors exists, and masks keep to those that do.
                unsafe {
                    if x.width - vector > LANES {
                        times::<2>(&expanded, base, (strip, lane), first, x, vector, at, y);
                    } else {
                        times::<1>(&expanded, base, (strip, lane), first, x, vector, at, y);
                    }
                }
            }
        }
    }
}

/// Eight rows of a strip times up to `16·W` vectors.
///
/// # Safety
/// The same as [`product`]; more than `16·(W − 1)` vectors are left from `vector` on.
#[allow(clippy::too_many_arguments)]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
unsafe fn times<const W: usize>(
    expanded: &[u8],
    base: PackedView<'_>,
    (strip, lane): (usize, usize),
    first: usize,
    x: &Quantized,
    vector: usize,
    at: usize,
    y: &mut Rows<'_>,
) {
    let left = x.width - vector;
    let mask: [__mmask16; W] = std::array::from_fn(|w| {
        let here = (left - w * LANES).min(LANES);
        (u32::MAX >> (32 - here)) as __mmask16
    });
    let mut totals = [[_mm512_setzero_ps(); W]; TOGETHER];
    for block in 0..x.blocks {
        // SAFETY: `expanded` has eight words of 16 rows for each block; x has `left` vectors from here on, and masks keep to
        // them.
        unsafe {
            let of_block = block * x.width + vector;
            let mut sums = [[_mm512_setzero_si512(); W]; TOGETHER];
            for w in 0..W {
                let starts = _mm512_maskz_loadu_epi32(mask[w], x.starts.as_ptr().add(of_block + w * LANES));
                for r in 0..TOGETHER {
                    sums[r][w] = starts;
                }
            }
            for word in 0..WORDS {
                let words = x.words.as_ptr().add((block * WORDS + word) * x.width + vector);
                let mut integers = [_mm512_setzero_si512(); W];
                for w in 0..W {
                    integers[w] = _mm512_maskz_loadu_epi32(mask[w], words.add(w * LANES).cast());
                }
                let codes = expanded.as_ptr().add((block * WORDS + word) * 4 * ROWS).cast::<i32>();
                for r in 0..TOGETHER {
                    let codes = _mm512_set1_epi32(codes.add(lane + r).read_unaligned());
                    for w in 0..W {
                        sums[r][w] = _mm512_dpbusd_epi32(sums[r][w], codes, integers[w]);
                    }
                }
            }
            for w in 0..W {
                let scales = _mm512_maskz_loadu_ps(mask[w], x.scales.as_ptr().add(of_block + w * LANES));
                for r in 0..TOGETHER {
                    let mut sum = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r][w]), scales);
                    if base.grouped() {
                        sum = _mm512_mul_ps(sum, _mm512_set1_ps(base.scales(strip, block)[lane + r]));
                    }
                    totals[r][w] = _mm512_add_ps(totals[r][w], sum);
                }
            }
        }
    }
    for r in 0..TOGETHER {
        // The strip may begin before these rows and end after them.
        let row = (strip * ROWS + lane + r).checked_sub(first).filter(|&row| row < y.count());
        let Some(row) = row else { continue };
        let to = &mut y.y[row * y.batch + at + vector..][..left.min(W * LANES)];
        for w in 0..W {
            let mut total = totals[r][w];
            if !base.grouped() {
                total = _mm512_mul_ps(total, _mm512_set1_ps(base.scales(strip, 0)[lane + r]));
            }
            // SAFETY: `to` has the vectors of the mask.
            unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr().add(w * LANES), mask[w], total) };
        }
    }
}

const _: () = assert!(ROWS.is_multiple_of(TOGETHER) && 2 * WORDS == BLOCK / 2 && STEP == 8);
