//! Packed codes times a few inputs of 8-bit integers. Lanes are rows.

use std::arch::x86_64::*;

use super::codes::Codes;
use crate::base::packed::{BLOCK, PackedView, ROWS, STEP};
use crate::kernel::integer::store;
use crate::kernel::output::Rows;
use crate::quantized::{Quantized, WORDS};

/// Writes `base · x` for the rows from `first` on.
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
    let strips = PackedView::strips(first..first + y.count());
    // With one vector, four strips hide the latency of sums, and with several, two.
    let together = if x.width == 1 { 4 } else { 2 };
    let mut strip = strips.start;
    while strip < strips.end {
        let here = if strip + together <= strips.end { together } else { 1 };
        let mut vector = 0;
        while vector < x.width {
            let place = Place { strip, first, vector, at };
            // SAFETY: the caller's promise; so many strips and vectors are left.
            unsafe {
                vector += match (here, x.width - vector) {
                    (4, _) => times::<4, 1, C>(codes, base, x, place, y),
                    (2, 1) => times::<2, 1, C>(codes, base, x, place, y),
                    (2, 2..=3) => times::<2, 2, C>(codes, base, x, place, y),
                    (2, _) => times::<2, 4, C>(codes, base, x, place, y),
                    (_, 1) => times::<1, 1, C>(codes, base, x, place, y),
                    (_, 2..=3) => times::<1, 2, C>(codes, base, x, place, y),
                    _ => times::<1, 4, C>(codes, base, x, place, y),
                };
            }
        }
        strip += here;
    }
}

/// Where a product begins.
#[derive(Clone, Copy)]
struct Place {
    strip: usize,
    first: usize,
    vector: usize,
    at: usize,
}

/// `R` strips times `B` vectors; returns `B`.
///
/// # Safety
/// The same as [`product`]; the strips and vectors exist.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
unsafe fn times<const R: usize, const B: usize, C: Codes>(
    codes: C,
    base: PackedView<'_>,
    x: &Quantized,
    place: Place,
    y: &mut Rows<'_>,
) -> usize {
    let Place { strip, first, vector, at } = place;
    let from: [*const u8; R] = std::array::from_fn(|r| base.strip_codes(strip + r..strip + r + 1).as_ptr());
    let mut totals = [[_mm512_setzero_ps(); B]; R];
    for block in 0..base.blocks() {
        // SAFETY: every strip has the block, and x has it for these vectors: eight words, a start and a scale.
        unsafe {
            let of_block = block * x.width + vector;
            let mut sums = [[_mm512_setzero_si512(); B]; R];
            for b in 0..B {
                let start = _mm512_set1_epi32(*x.starts.as_ptr().add(of_block + b));
                for r in 0..R {
                    sums[r][b] = start;
                }
            }
            for step in 0..BLOCK / STEP {
                let words = x.words.as_ptr().add((block * WORDS + 2 * step) * x.width + vector);
                let mut loaded = [[_mm512_setzero_si512(); 2]; R];
                for r in 0..R {
                    let at = (block * BLOCK / STEP + step) * C::STEP_BYTES;
                    loaded[r] = codes.load(from[r].add(at));
                    if B == 1 && R == 4 {
                        // The same place of the next strips; any address is allowed.
                        let ahead = base.strip_codes(strip..strip + R).len();
                        _mm_prefetch::<_MM_HINT_T1>(from[r].wrapping_add(at + ahead).cast());
                    }
                }
                for half in 0..2 {
                    for b in 0..B {
                        let x = _mm512_set1_epi32(*words.add(half * x.width + b) as i32);
                        for r in 0..R {
                            sums[r][b] = _mm512_dpbusd_epi32(sums[r][b], loaded[r][half], x);
                        }
                    }
                }
            }
            for b in 0..B {
                let scale = _mm512_set1_ps(*x.scales.as_ptr().add(of_block + b));
                for r in 0..R {
                    let mut sum = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r][b]), scale);
                    if base.grouped() {
                        let scales = base.scales(strip + r, block);
                        sum = _mm512_mul_ps(sum, _mm512_loadu_ps(scales.as_ptr()));
                    }
                    totals[r][b] = _mm512_add_ps(totals[r][b], sum);
                }
            }
        }
    }
    for r in 0..R {
        for b in 0..B {
            let mut lanes = [0.0; ROWS];
            // SAFETY: `lanes` is 16 f32.
            unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), totals[r][b]) };
            store(base, strip + r, first, at + vector + b, lanes, y);
        }
    }
    B
}
