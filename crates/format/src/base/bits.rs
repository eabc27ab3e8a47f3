//! Codes of a few bits, packed.
//!
//! Code `i` of a row takes bits `i·bits` and on, counted from the lowest bit of the first byte.

use super::BaseKind;

/// Eight codes take as many bytes as a code has bits.
const CODES: usize = 8;

/// The raw codes of columns `8·number` and on of a row; 0 past its end.
#[inline(always)]
pub(super) fn eight(kind: BaseKind, row: &[u8], number: usize) -> [u8; CODES] {
    let bits = kind.bits();
    let mut bytes = [0; 8];
    let from = &row[row.len().min(number * bits)..];
    let from = &from[..from.len().min(bits)];
    bytes[..from.len()].copy_from_slice(from);
    let word = u64::from_le_bytes(bytes);
    let mask = ((1u32 << bits) - 1) as u8;
    std::array::from_fn(|i| (word >> (i * bits)) as u8 & mask)
}

/// The raw code of one column.
pub(super) fn one(kind: BaseKind, row: &[u8], col: usize) -> u8 {
    eight(kind, row, col / CODES)[col % CODES]
}

/// Packs the raw codes of one row, which `code` gives by column.
#[inline(always)]
pub(super) fn pack(kind: BaseKind, cols: usize, row: &mut [u8], code: impl Fn(usize) -> u8) {
    let bits = kind.bits();
    for (number, out) in row.chunks_mut(bits).enumerate() {
        let first = CODES * number;
        let codes = first..cols.min(first + CODES);
        let word = codes.rev().fold(0u64, |word, col| word << bits | u64::from(code(col)));
        out.copy_from_slice(&word.to_le_bytes()[..out.len()]);
    }
}

/// The first row that has a bit after its last code which is not 0.
pub(super) fn unclean_row(kind: BaseKind, cols: usize, codes: &[u8]) -> Option<usize> {
    let unused = !kind.last_byte_mask(cols);
    let unclean = |row: &[u8]| row.last().is_some_and(|byte| byte & unused != 0);
    if unused == 0 { None } else { codes.chunks(kind.row_bytes(cols)).position(unclean) }
}
