//! The unsigned codes of 16 rows.

use std::arch::x86_64::*;

use crate::base::packed::Order;

/// An order of packed codes: [`Order`] as a type.
pub(super) trait Codes: Copy {
    /// Bytes of a step.
    const STEP_BYTES: usize;

    /// A step: the first four columns of 16 rows, then the other four.
    ///
    /// # Safety
    /// AVX-512 F and BW are present; `from` points at a step.
    unsafe fn load(self, from: *const u8) -> [__m512i; 2];
}

// `inline(always)`: see `avx2::load`.

#[derive(Clone, Copy)]
pub(super) struct Nibbles;

impl Codes for Nibbles {
    const STEP_BYTES: usize = Order::STEP_NIBBLES;

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> [__m512i; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let packed = _mm512_loadu_si512(from.cast());
            let low = _mm512_set1_epi8(0xF);
            [_mm512_and_si512(packed, low), _mm512_and_si512(_mm512_srli_epi16::<4>(packed), low)]
        }
    }
}

/// A table of levels.
#[derive(Clone, Copy)]
pub(super) struct Levels(__m512i);

impl Levels {
    /// # Safety
    /// AVX-512 F is present.
    #[inline(always)]
    pub(super) unsafe fn new(levels: [u8; 16]) -> Self {
        // SAFETY: the caller's promise; the table has 16 bytes.
        unsafe { Self(_mm512_broadcast_i32x4(_mm_loadu_si128(levels.as_ptr().cast()))) }
    }
}

impl Codes for Levels {
    const STEP_BYTES: usize = Order::STEP_NIBBLES;

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> [__m512i; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let [first, second] = Nibbles.load(from);
            [_mm512_shuffle_epi8(self.0, first), _mm512_shuffle_epi8(self.0, second)]
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Bytes;

impl Codes for Bytes {
    const STEP_BYTES: usize = Order::STEP_BYTES;

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> [__m512i; 2] {
        // SAFETY: the caller's promise.
        unsafe { [_mm512_loadu_si512(from.cast()), _mm512_loadu_si512(from.add(64).cast())] }
    }
}
