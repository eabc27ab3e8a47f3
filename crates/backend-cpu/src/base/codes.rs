//! Rows of 4- or 8-bit codes.

use residua_backend::BackendError;
use residua_format::{BaseKind, QuantizedBase};
use residua_memory::{ALIGNMENT, AlignedVec, Budget, Reservation};

use super::too_large;
use crate::pool::Pool;
use crate::vector::BLOCK;

/// A quantised base as [`CpuBase`](super::CpuBase) lays it out.
#[derive(Debug)]
pub(super) struct Codes {
    shape: [usize; 2],
    kind: BaseKind,
    codes: AlignedVec<u8>,
    scales: AlignedVec<f32>,
    _held: Reservation,
}

impl Codes {
    pub(super) fn new(pool: &Pool, base: &QuantizedBase, budget: &Budget) -> Result<Self, BackendError> {
        let (rows, cols, kind) = (base.rows(), base.cols(), base.kind().expanded());
        let row_bytes = row_bytes(kind, cols);
        let bytes = rows.checked_mul(row_bytes).ok_or_else(|| too_large([rows, cols]))?;
        let plane = |bytes: usize| bytes.next_multiple_of(ALIGNMENT) as u64;
        let held = budget.reserve(plane(bytes) + plane(size_of_val(base.scales())), "a quantised base")?;
        let mut codes = AlignedVec::zeroed(bytes);
        if row_bytes > 0 {
            let from = base.codes().chunks_exact(base.kind().row_bytes(cols));
            let row_pairs = codes.chunks_exact_mut(row_bytes).zip(from).collect();
            pool.map(rows * cols, row_pairs, |(to, from)| match kind {
                BaseKind::Int8 => base.grid().multiples(from, bytemuck::cast_slice_mut(&mut to[..cols])),
                _ => interleave(from, to),
            });
        }
        Ok(Self {
            shape: [rows, cols],
            kind,
            codes,
            scales: AlignedVec::from_slice(base.scales()),
            _held: held,
        })
    }

    pub(super) fn view(&self) -> CodesView<'_> {
        let order = if self.kind == BaseKind::Int8 { CodeOrder::Bytes } else { CodeOrder::Interleaved };
        CodesView { shape: self.shape, kind: self.kind, order, codes: &self.codes, scales: &self.scales }
    }

    pub(super) fn bytes(&self) -> usize {
        self.codes.len() + self.scales.as_bytes().len()
    }
}

/// How the codes of 64 columns lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodeOrder {
    /// A byte each.
    Bytes,
    /// Nibbles in the order of [`CpuBase`](super::CpuBase).
    Interleaved,
    /// Nibbles, column after column, the even ones low: the order of files and of the C API.
    Nibbles,
}

/// Codes as the kernels read them: rows of whole blocks of 64 columns, 0 past the last column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CodesView<'a> {
    pub(crate) shape: [usize; 2],
    pub(crate) kind: BaseKind,
    pub(crate) order: CodeOrder,
    pub(crate) codes: &'a [u8],
    pub(crate) scales: &'a [f32],
}

impl<'a> CodesView<'a> {
    pub(crate) fn cols(&self) -> usize {
        self.shape[1]
    }

    /// Columns of a row with its padding.
    pub(crate) fn padded_cols(&self) -> usize {
        self.cols().next_multiple_of(BLOCK)
    }

    /// Columns that share a scale; a row's padding belongs to its last group.
    pub(crate) fn group(&self) -> usize {
        match self.kind {
            BaseKind::Int4 | BaseKind::Int8 => self.padded_cols().max(BLOCK),
            kind => kind.group(self.cols()),
        }
    }

    /// A row's codes.
    pub(crate) fn row_codes(&self, row: usize) -> &'a [u8] {
        let bytes = row_bytes(self.kind, self.cols());
        &self.codes[row * bytes..(row + 1) * bytes]
    }

    /// A row's scales.
    pub(crate) fn row_scales(&self, row: usize) -> &'a [f32] {
        let groups = self.kind.groups(self.cols());
        &self.scales[row * groups..(row + 1) * groups]
    }
}

/// Bytes of a row's codes with its padding.
pub(crate) fn row_bytes(kind: BaseKind, cols: usize) -> usize {
    let padded = cols.next_multiple_of(BLOCK);
    if kind == BaseKind::Int8 { padded } else { padded / 2 }
}

/// Turns nibbles in the order of columns into words of eight columns that lie eight apart.
fn interleave(from: &[u8], to: &mut [u8]) {
    for (block, to) in from.chunks(BLOCK / 2).zip(to.chunks_exact_mut(BLOCK / 2)) {
        for (pair, &byte) in block.iter().enumerate() {
            for (column, code) in [(2 * pair, byte & 0xF), (2 * pair + 1, byte >> 4)] {
                let (word, nibble) = (column % 8, column / 8);
                to[4 * word + nibble / 2] |= code << (4 * (nibble % 2));
            }
        }
    }
}

/// The codes of columns `8·part..8·part + 8` of a block of 64.
#[inline(always)]
pub(crate) fn eight_codes(order: CodeOrder, codes: &[u8], block: usize, part: usize) -> [f32; 8] {
    // Shift a nibble to the top, then back with its sign.
    let nibble = |word: [u8; 4], at: usize| ((u32::from_le_bytes(word) << (28 - 4 * at)) as i32 >> 28) as f32;
    if order == CodeOrder::Bytes {
        let bytes = &codes[block * BLOCK + 8 * part..][..8];
        return std::array::from_fn(|i| f32::from(bytes[i] as i8));
    }
    let (words, _) = codes[block * BLOCK / 2..][..BLOCK / 2].as_chunks::<4>();
    match order {
        CodeOrder::Nibbles => std::array::from_fn(|i| nibble(words[part], i)),
        _ => std::array::from_fn(|i| nibble(words[i], part)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_again() {
        for kind in BaseKind::ALL {
            for cols in [1, 2, 31, 63, 64, 65, 130] {
                let bytes = kind.row_bytes(cols);
                let codes = (0..2 * bytes).map(|i| {
                    let last = i % bytes == bytes - 1;
                    (i * 37 + 11) as u8 & if last { kind.last_byte_mask(cols) } else { 0xFF }
                });
                let scales = AlignedVec::zeroed(2 * kind.groups(cols));
                let base = QuantizedBase::new(2, cols, kind, codes.collect(), scales).unwrap();
                let laid_out = Codes::new(&Pool::new(1).unwrap(), &base, &Budget::unlimited()).unwrap();
                let view = laid_out.view();
                for row in 0..2 {
                    for column in 0..view.padded_cols() {
                        let (block, part) = (column / BLOCK, column % BLOCK / 8);
                        let found = eight_codes(view.order, view.row_codes(row), block, part)[column % 8];
                        let expected = if column < cols { base.multiple(row, column) } else { 0 };
                        assert_eq!(found, f32::from(expected), "{kind} [{row}, {column}] of {cols}");
                    }
                }
            }
        }
    }
}
