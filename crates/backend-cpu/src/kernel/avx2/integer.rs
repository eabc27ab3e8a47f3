//! Packed codes times inputs of 8-bit integers, eight rows at a time.

use std::arch::x86_64::*;

use crate::base::packed::{BLOCK, Order, PackedView, ROWS, STEP};
use crate::kernel::integer::store;
use crate::kernel::output::Rows;
use crate::quantized::{Quantized, WORDS};

/// Eight rows: half a strip.
const HALF: usize = 32;

/// How a block's integer sums are computed.
trait Sums: Copy {
    /// Bytes of a step.
    const STEP_BYTES: usize;

    /// The sums of a block for eight rows and `B` vectors. `codes` points at the rows' codes, `words` at the block's words of
    /// the first vector, `starts` at what its sum starts from.
    ///
    /// # Safety
    /// AVX2 is present; the block's codes and words exist, also those of the next `B − 1` vectors.
    unsafe fn sums<const B: usize>(
        self,
        codes: *const u8,
        words: *const u32,
        width: usize,
        starts: *const i32,
    ) -> [__m256i; B];
}

/// The low nibbles of 32 bytes, and the high ones.
///
/// # Safety
/// AVX2 is present; `from` points at 32 bytes.
#[inline(always)]
unsafe fn nibbles(from: *const u8) -> [__m256i; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let packed = _mm256_loadu_si256(from.cast());
        let low = _mm256_set1_epi8(0xF);
        [_mm256_and_si256(packed, low), _mm256_and_si256(_mm256_srli_epi16::<4>(packed), low)]
    }
}

/// Unsigned nibbles. The sum of a block's products of 0 to 15 and −127 to 127 fits 16 bits: eight times 2 · 15 · 127.
#[derive(Clone, Copy)]
struct Nibbles;

impl Sums for Nibbles {
    const STEP_BYTES: usize = Order::STEP_NIBBLES;

    #[inline(always)]
    unsafe fn sums<const B: usize>(
        self,
        codes: *const u8,
        words: *const u32,
        width: usize,
        starts: *const i32,
    ) -> [__m256i; B] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [_mm256_setzero_si256(); B];
            for step in 0..BLOCK / STEP {
                let codes = nibbles(codes.add(step * Self::STEP_BYTES));
                for half in 0..2 {
                    for b in 0..B {
                        let x = _mm256_set1_epi32(*words.add((2 * step + half) * width + b) as i32);
                        sums[b] = _mm256_add_epi16(sums[b], _mm256_maddubs_epi16(codes[half], x));
                    }
                }
            }
            for b in 0..B {
                let wide = _mm256_madd_epi16(sums[b], _mm256_set1_epi16(1));
                sums[b] = _mm256_add_epi32(wide, _mm256_set1_epi32(*starts.add(b)));
            }
            sums
        }
    }
}

/// Adds the products of signed codes. Two products of a magnitude and an integer fit 16 bits, because integers are never
/// −128.
///
/// # Safety
/// AVX2 is present; `words` points at the words of a step.
#[inline(always)]
unsafe fn signed_step<const B: usize>(
    codes: [__m256i; 2],
    words: *const u32,
    width: usize,
    sums: &mut [__m256i; B],
) {
    // SAFETY: the caller's promise.
    unsafe {
        for half in 0..2 {
            let magnitude = _mm256_abs_epi8(codes[half]);
            for b in 0..B {
                let x = _mm256_set1_epi32(*words.add(half * width + b) as i32);
                let pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(x, codes[half]));
                sums[b] = _mm256_add_epi32(sums[b], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
            }
        }
    }
}

/// Nibbles that are places in a table of signed levels.
#[derive(Clone, Copy)]
struct Levels(__m256i);

impl Sums for Levels {
    const STEP_BYTES: usize = Order::STEP_NIBBLES;

    #[inline(always)]
    unsafe fn sums<const B: usize>(
        self,
        codes: *const u8,
        words: *const u32,
        width: usize,
        _: *const i32,
    ) -> [__m256i; B] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [_mm256_setzero_si256(); B];
            for step in 0..BLOCK / STEP {
                let [first, second] = nibbles(codes.add(step * Self::STEP_BYTES));
                let levels = [_mm256_shuffle_epi8(self.0, first), _mm256_shuffle_epi8(self.0, second)];
                signed_step(levels, words.add(2 * step * width), width, &mut sums);
            }
            sums
        }
    }
}

/// Bytes: the code plus 128.
#[derive(Clone, Copy)]
struct Bytes;

impl Sums for Bytes {
    const STEP_BYTES: usize = Order::STEP_BYTES;

    #[inline(always)]
    unsafe fn sums<const B: usize>(
        self,
        codes: *const u8,
        words: *const u32,
        width: usize,
        _: *const i32,
    ) -> [__m256i; B] {
        // SAFETY: the caller's promise; the second four columns of all 16 rows follow the first.
        unsafe {
            let sign = _mm256_set1_epi8(-128);
            let mut sums = [_mm256_setzero_si256(); B];
            for step in 0..BLOCK / STEP {
                let from = codes.add(step * Self::STEP_BYTES);
                let first = _mm256_xor_si256(_mm256_loadu_si256(from.cast()), sign);
                let second = _mm256_xor_si256(_mm256_loadu_si256(from.add(2 * HALF).cast()), sign);
                signed_step([first, second], words.add(2 * step * width), width, &mut sums);
            }
            sums
        }
    }
}

/// Writes `base · x` for the rows from `first` on.
///
/// # Safety
/// AVX2 is present; the rows exist; `x` has the base's blocks; `y` has the columns from `at` on.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn product(base: PackedView<'_>, first: usize, x: &Quantized, at: usize, y: &mut Rows<'_>) {
    // SAFETY: the caller's promise; the order of the codes is the base's.
    unsafe {
        match base.order {
            Order::Nibbles => rows(Nibbles, base, first, x, at, y),
            Order::Bytes => rows(Bytes, base, first, x, at, y),
            Order::Levels(levels) => {
                let levels = _mm_loadu_si128(levels.as_ptr().cast());
                let signed = _mm_xor_si128(levels, _mm_set1_epi8(-128));
                rows(Levels(_mm256_broadcastsi128_si256(signed)), base, first, x, at, y);
            }
        }
    }
}

/// # Safety
/// The same as [`product`]; the codes have the order of `sums`.
#[target_feature(enable = "avx2")]
unsafe fn rows<S: Sums>(
    sums: S,
    base: PackedView<'_>,
    first: usize,
    x: &Quantized,
    at: usize,
    y: &mut Rows<'_>,
) {
    for strip in PackedView::strips(first..first + y.count()) {
        let mut vector = 0;
        while vector < x.width {
            // SAFETY: the caller's promise; so many vectors are left.
            unsafe {
                match x.width - vector {
                    1 => {
                        strip_times::<1, S>(sums, base, strip, first, x, vector, at, y);
                        vector += 1;
                    }
                    _ => {
                        strip_times::<2, S>(sums, base, strip, first, x, vector, at, y);
                        vector += 2;
                    }
                }
            }
        }
    }
}

/// A strip times `B` vectors.
///
/// # Safety
/// The same as [`rows`]; the strip and the vectors from `vector` on exist.
#[allow(clippy::too_many_arguments)]
#[target_feature(enable = "avx2")]
unsafe fn strip_times<const B: usize, S: Sums>(
    sums: S,
    base: PackedView<'_>,
    strip: usize,
    first: usize,
    x: &Quantized,
    vector: usize,
    at: usize,
    y: &mut Rows<'_>,
) {
    let codes = base.strip_codes(strip..strip + 1).as_ptr();
    let mut totals = [[_mm256_setzero_ps(); 2]; B];
    for block in 0..base.blocks() {
        let place = block * x.width + vector;
        for half in 0..2 {
            // SAFETY: the strip has the block, and x the vectors in it.
            unsafe {
                let codes = codes.add(block * BLOCK / STEP * S::STEP_BYTES + half * HALF);
                let words = x.words.as_ptr().add(block * WORDS * x.width + vector);
                let sums = sums.sums::<B>(codes, words, x.width, x.starts.as_ptr().add(place));
                for b in 0..B {
                    let scale = _mm256_set1_ps(*x.scales.as_ptr().add(place + b));
                    let mut sum = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[b]), scale);
                    if base.grouped() {
                        let scales = base.scales(strip, block);
                        sum = _mm256_mul_ps(sum, _mm256_loadu_ps(scales.as_ptr().add(half * 8)));
                    }
                    totals[b][half] = _mm256_add_ps(totals[b][half], sum);
                }
            }
        }
    }
    for b in 0..B {
        let mut lanes = [0.0; ROWS];
        for half in 0..2 {
            // SAFETY: `lanes` is two times eight f32.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr().add(half * 8), totals[b][half]) };
        }
        store(base, strip, first, at + vector + b, lanes, y);
    }
}
