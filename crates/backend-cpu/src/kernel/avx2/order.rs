//! The orders of codes, and eight codes as a vector.

use std::arch::x86_64::*;

use crate::tile::LANE_WIDTH;
use crate::vector::BLOCK;

/// An order of codes: [`CodeOrder`](crate::base::CodeOrder) as a type.
pub(super) trait Codes {
    /// Bytes of a block of 64 columns.
    const BLOCK_BYTES: usize;

    /// A block's codes, where loading them at once helps.
    ///
    /// # Safety
    /// AVX2 is present; the row has the block.
    unsafe fn load_block(codes: &[u8], block: usize) -> __m256i;

    /// The codes of columns `8·part..8·part + 8` of a block; `packed` is what `load_block` gave.
    ///
    /// # Safety
    /// AVX2 is present; the row has the block; `part` is below 8.
    unsafe fn eight(codes: &[u8], packed: __m256i, block: usize, part: usize) -> __m256;
}

// `inline(always)`: see `load`.

pub(super) struct Bytes;

impl Codes for Bytes {
    const BLOCK_BYTES: usize = BLOCK;

    #[inline(always)]
    unsafe fn load_block(_: &[u8], _: usize) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn eight(codes: &[u8], _: __m256i, block: usize, part: usize) -> __m256 {
        // SAFETY: the row's codes hold 64 bytes per block.
        unsafe {
            let from = codes.as_ptr().add(block * BLOCK + part * LANE_WIDTH);
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast())))
        }
    }
}

pub(super) struct Interleaved;

impl Codes for Interleaved {
    const BLOCK_BYTES: usize = BLOCK / 2;

    #[inline(always)]
    unsafe fn load_block(codes: &[u8], block: usize) -> __m256i {
        // SAFETY: the row's codes hold 32 bytes per block.
        unsafe { _mm256_loadu_si256(codes.as_ptr().add(block * BLOCK / 2).cast()) }
    }

    #[inline(always)]
    unsafe fn eight(_: &[u8], packed: __m256i, _: usize, part: usize) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe {
            let left = _mm256_set1_epi32(28 - 4 * part as i32);
            _mm256_cvtepi32_ps(_mm256_srai_epi32::<28>(_mm256_sllv_epi32(packed, left)))
        }
    }
}

/// A word of eight columns goes to all lanes, and each lane shifts its own nibble to the top.
pub(super) struct Nibbles;

impl Codes for Nibbles {
    const BLOCK_BYTES: usize = BLOCK / 2;

    #[inline(always)]
    unsafe fn load_block(_: &[u8], _: usize) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_setr_epi32(28, 24, 20, 16, 12, 8, 4, 0) }
    }

    #[inline(always)]
    unsafe fn eight(codes: &[u8], packed: __m256i, block: usize, part: usize) -> __m256 {
        // SAFETY: the row's codes hold 32 bytes per block, four for each part.
        unsafe {
            let word = codes.as_ptr().add(block * BLOCK / 2 + 4 * part).cast::<i32>().read_unaligned();
            let top = _mm256_sllv_epi32(_mm256_set1_epi32(word), packed);
            _mm256_cvtepi32_ps(_mm256_srai_epi32::<28>(top))
        }
    }
}
