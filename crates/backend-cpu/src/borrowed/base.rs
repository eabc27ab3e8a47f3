//! A quantised base in the caller's memory.

use std::borrow::Cow;
use std::ops::Range;

use residua_backend::{BackendError, Shaped};
use residua_format::{BaseKind, FormatError};

use crate::base::{CodeOrder, CodesView, row_bytes};
use crate::vector::BLOCK;

/// A dense matrix `[rows, cols]` of 4- or 8-bit codes with one scale per row, `w = code · scale`, in memory of the
/// caller.
///
/// Always checked: both slices have the lengths that the shape calls for. Any code and any scale is allowed.
#[derive(Debug, Clone, Copy)]
pub struct BorrowedBase<'a> {
    shape: [usize; 2],
    kind: BaseKind,
    codes: &'a [u8],
    scales: &'a [f32],
}

impl<'a> BorrowedBase<'a> {
    /// 4-bit codes, two's complement. Code `n = row · cols + col` lies in byte `n / 2`, an even `n` in the low half. With an
    /// odd number of columns, every other row starts inside a byte.
    ///
    /// # Errors
    /// [`FormatError::Length`] when `codes` does not have ⌈rows·cols / 2⌉ bytes or `scales` not `rows` elements.
    pub fn int4(rows: usize, cols: usize, codes: &'a [u8], scales: &'a [f32]) -> Result<Self, FormatError> {
        let expected = rows.saturating_mul(cols).div_ceil(2);
        Self::new([rows, cols], BaseKind::Int4, expected, codes, scales)
    }

    /// 8-bit codes, row-major.
    ///
    /// # Errors
    /// [`FormatError::Length`] when `codes` does not have rows·cols bytes or `scales` not `rows` elements.
    pub fn int8(rows: usize, cols: usize, codes: &'a [u8], scales: &'a [f32]) -> Result<Self, FormatError> {
        Self::new([rows, cols], BaseKind::Int8, rows.saturating_mul(cols), codes, scales)
    }

    fn new(
        shape: [usize; 2],
        kind: BaseKind,
        expected: usize,
        codes: &'a [u8],
        scales: &'a [f32],
    ) -> Result<Self, FormatError> {
        let lengths = [("base codes", codes.len(), expected), ("base scales", scales.len(), shape[0])];
        for (what, found, expected) in lengths {
            if found != expected {
                return Err(FormatError::Length { what, found, expected });
            }
        }
        Ok(Self { shape, kind, codes, scales })
    }

    /// The codes of some rows in whole blocks. They are copied where a row is not whole blocks.
    pub(super) fn rows(&self, rows: Range<usize>) -> Result<BorrowedRows<'a>, BackendError> {
        let cols = self.shape[1];
        let per_row = row_bytes(self.kind, cols);
        let codes = if cols.is_multiple_of(BLOCK) {
            Cow::Borrowed(&self.codes[rows.start * per_row..rows.end * per_row])
        } else {
            let mut padded = super::zeroed(rows.len() * per_row)?;
            for (row, to) in rows.clone().zip(padded.chunks_exact_mut(per_row)) {
                self.copy_row(row, to);
            }
            Cow::Owned(padded)
        };
        Ok(BorrowedRows { shape: [rows.len(), cols], kind: self.kind, codes, scales: &self.scales[rows] })
    }

    /// Copies a row's codes to the start of `to`. `to` is all zeros before.
    fn copy_row(&self, row: usize, to: &mut [u8]) {
        let cols = self.shape[1];
        let first = row * cols;
        if self.kind == BaseKind::Int8 {
            return to[..cols].copy_from_slice(&self.codes[first..first + cols]);
        }
        let from = &self.codes[first / 2..(first + cols).div_ceil(2)];
        let to = &mut to[..cols.div_ceil(2)];
        if first.is_multiple_of(2) {
            to.copy_from_slice(&from[..to.len()]);
        } else {
            // The row starts in a high nibble.
            for (at, to) in to.iter_mut().enumerate() {
                *to = from[at] >> 4 | from.get(at + 1).map_or(0, |next| next << 4);
            }
        }
        if cols % 2 == 1 {
            // The other half of the last byte belongs to the next row.
            to[cols / 2] &= 0xF;
        }
    }
}

impl Shaped for BorrowedBase<'_> {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }
}

/// Some rows of a base, in whole blocks.
pub(super) struct BorrowedRows<'a> {
    shape: [usize; 2],
    kind: BaseKind,
    codes: Cow<'a, [u8]>,
    scales: &'a [f32],
}

impl BorrowedRows<'_> {
    pub(super) fn view(&self) -> CodesView<'_> {
        let order = if self.kind == BaseKind::Int8 { CodeOrder::Bytes } else { CodeOrder::Nibbles };
        CodesView { shape: self.shape, kind: self.kind, order, codes: &self.codes, scales: self.scales }
    }
}
