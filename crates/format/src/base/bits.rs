//! Codes of a few bits, packed.
//!
//! A row has the numbers of its multipliers, two in a byte, the even block in the low nibble. Its codes follow: code `i`
//! takes bits `i·bits` and on, counted from the lowest bit of their first byte.

use super::BaseKind;

/// Eight codes take as many bytes as a code has bits.
const CODES: usize = 8;

/// The multipliers of a row of `cols` columns, and its codes.
#[inline(always)]
pub(super) fn parts(kind: BaseKind, cols: usize, row: &[u8]) -> (&[u8], &[u8]) {
    row.split_at(kind.multiplier_bytes(cols))
}

/// The number of the multiplier of a block.
#[inline(always)]
pub(super) fn multiplier(multipliers: &[u8], block: usize) -> usize {
    usize::from(multipliers[block / 2] >> (block % 2 * 4) & 15)
}

/// Packs the numbers of a row's multipliers.
pub(super) fn pack_multipliers(numbers: &[u8], out: &mut [u8]) {
    for (out, pair) in out.iter_mut().zip(numbers.chunks(2)) {
        *out = pair[0] | pair.get(1).map_or(0, |high| high << 4);
    }
}

/// The raw codes of columns `8·number` and on; 0 past the end.
#[inline(always)]
pub(super) fn eight(kind: BaseKind, codes: &[u8], number: usize) -> [u8; CODES] {
    let bits = kind.bits();
    let mut bytes = [0; 8];
    let from = &codes[codes.len().min(number * bits)..];
    let from = &from[..from.len().min(bits)];
    bytes[..from.len()].copy_from_slice(from);
    let word = u64::from_le_bytes(bytes);
    let mask = ((1u32 << bits) - 1) as u8;
    std::array::from_fn(|i| (word >> (i * bits)) as u8 & mask)
}

/// The raw code of one column.
pub(super) fn one(kind: BaseKind, codes: &[u8], col: usize) -> u8 {
    eight(kind, codes, col / CODES)[col % CODES]
}

/// Packs the raw codes of one row, which `code` gives by column.
#[inline(always)]
pub(super) fn pack(kind: BaseKind, cols: usize, codes: &mut [u8], code: impl Fn(usize) -> u8) {
    let bits = kind.bits();
    for (number, out) in codes.chunks_mut(bits).enumerate() {
        let first = CODES * number;
        // A loop, because the closure of a fold may not be inlined, and then is not vectorised.
        let mut word = 0u64;
        for col in (first..cols.min(first + CODES)).rev() {
            word = word << bits | u64::from(code(col));
        }
        out.copy_from_slice(&word.to_le_bytes()[..out.len()]);
    }
}

/// The first row that has a bit after its last code which is not 0.
pub(super) fn unclean_row(kind: BaseKind, cols: usize, codes: &[u8]) -> Option<usize> {
    let unused = !kind.last_byte_mask(cols);
    let unclean = |row: &[u8]| row.last().is_some_and(|byte| byte & unused != 0);
    if unused == 0 { None } else { codes.chunks(kind.row_bytes(cols)).position(unclean) }
}
