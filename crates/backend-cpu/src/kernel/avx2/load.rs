//! Eight stored values or gaps as a vector.

use std::arch::x86_64::*;

use half::{bf16, f16};

use crate::layout::Stored;

/// A stored value; eight of them load as f32.
pub(crate) trait LoadValues: Stored {
    /// Eight values.
    ///
    /// # Safety
    /// AVX2 and F16C are present; eight values can be read at `from`.
    unsafe fn load(from: *const Self) -> __m256;

    /// One value, eight times.
    ///
    /// # Safety
    /// AVX2 and F16C are present.
    #[inline(always)]
    unsafe fn broadcast(self) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_set1_ps(self.to_f32()) }
    }
}

// `inline(always)`: the caller has the instructions enabled. A trait's method would have to enable them itself otherwise,
// and would not be inlined at every call.

impl LoadValues for f32 {
    #[inline(always)]
    unsafe fn load(from: *const Self) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(from) }
    }
}

impl LoadValues for bf16 {
    #[inline(always)]
    unsafe fn load(from: *const Self) -> __m256 {
        // SAFETY: the caller's promise; bf16 is 16 plain bits.
        unsafe {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        }
    }
}

impl LoadValues for f16 {
    #[inline(always)]
    unsafe fn load(from: *const Self) -> __m256 {
        // SAFETY: the caller's promise; f16 is 16 plain bits.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn broadcast(self) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtph_ps(_mm_set1_epi16(self.to_bits() as i16)) }
    }
}

impl LoadValues for i8 {
    #[inline(always)]
    unsafe fn load(from: *const Self) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
    }
}

/// A gap type; eight gaps load as u32.
pub(crate) trait LoadGaps {
    /// Eight gaps.
    ///
    /// # Safety
    /// AVX2 is present; eight gaps can be read at `from`.
    unsafe fn load(from: *const Self) -> __m256i;
}

impl LoadGaps for u8 {
    #[inline(always)]
    unsafe fn load(from: *const Self) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())) }
    }
}

impl LoadGaps for u16 {
    #[inline(always)]
    unsafe fn load(from: *const Self) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast())) }
    }
}
