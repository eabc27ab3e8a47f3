//! Quantised bases: the dense low-precision part of a layer.

mod kind;
mod quantize;

use rayon::prelude::*;
use residua_memory::AlignedVec;

use crate::error::{FormatError, Result};

pub use kind::BaseKind;
pub(crate) use quantize::{code_int8, scale_of};
pub use quantize::{code_row, dequantize_row, quantize_row};

/// A dense matrix of 4- or 8-bit codes with f32 scales: `w = code · scale`.
///
/// Codes are row-major and in two's complement. Two 4-bit codes share a byte, the even column in the low nibble. In a
/// row with an odd number of columns the last high nibble is unused and 0. Scales are `[rows, groups]`, row-major.
///
/// Invariants, always checked: the lengths of both planes follow from shape and kind; unused nibbles are 0; scales
/// lie between 0 and [`BaseKind::max_scale`]. So every weight is finite.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedBase {
    rows: usize,
    cols: usize,
    kind: BaseKind,
    codes: AlignedVec<u8>,
    scales: AlignedVec<f32>,
}

impl QuantizedBase {
    /// A base from its planes.
    ///
    /// # Errors
    /// When a plane has the wrong length, an unused nibble is not 0, or a scale is negative, NaN or above
    /// [`BaseKind::max_scale`].
    pub fn new(
        rows: usize,
        cols: usize,
        kind: BaseKind,
        codes: AlignedVec<u8>,
        scales: AlignedVec<f32>,
    ) -> Result<Self> {
        let lengths = [
            ("base codes", codes.len(), rows.saturating_mul(kind.row_bytes(cols))),
            ("base scales", scales.len(), rows.saturating_mul(kind.groups(cols))),
        ];
        for (what, found, expected) in lengths {
            if found != expected {
                return Err(FormatError::Length { what, found, expected });
            }
        }
        check_scales(&scales, kind.max_scale())?;
        // Two codes in a byte, and an odd number of columns.
        let row_bytes = kind.row_bytes(cols);
        if kind.max_code() == 7 && cols % 2 == 1 {
            let padded = |row: &[u8]| row.last().is_some_and(|byte| byte >> 4 != 0);
            if let Some(row) = codes.chunks(row_bytes).position(padded) {
                let problem = "its last high nibble is unused and must be 0";
                return Err(FormatError::GapRow { row, problem });
            }
        }
        Ok(Self { rows, cols, kind, codes, scales })
    }

    /// Quantises a dense row-major matrix, rows in parallel; see [`quantize_row`].
    ///
    /// # Errors
    /// When `dense` does not have `rows · cols` elements, or one is NaN or infinite.
    pub fn quantize(rows: usize, cols: usize, dense: &[f32], kind: BaseKind) -> Result<Self> {
        let expected = rows.saturating_mul(cols);
        if dense.len() != expected {
            return Err(FormatError::Length { what: "dense values", found: dense.len(), expected });
        }
        let (row_bytes, groups) = (kind.row_bytes(cols), kind.groups(cols));
        let mut codes = AlignedVec::zeroed(rows.saturating_mul(row_bytes));
        let mut scales = AlignedVec::zeroed(rows.saturating_mul(groups));
        if cols > 0 {
            // The error names the first failing row, whatever the number of threads.
            let bad = (dense.par_chunks(cols))
                .zip_eq(codes.par_chunks_mut(row_bytes))
                .zip_eq(scales.par_chunks_mut(groups))
                .enumerate()
                .filter_map(|(row, ((weights, codes), scales))| {
                    quantize_row(weights, kind, codes, scales).err().map(|col| (row, col))
                })
                .find_first(|_| true);
            if let Some((row, col)) = bad {
                let value = dense[row * cols + col].into();
                return Err(FormatError::NotFinite { row, col, value });
            }
        }
        Ok(Self { rows, cols, kind, codes, scales })
    }

    /// Writes the weights of one row.
    ///
    /// # Panics
    /// When `row` is not below [`rows`](Self::rows) or `weights` does not have [`cols`](Self::cols) elements.
    pub fn dequantize_row(&self, row: usize, weights: &mut [f32]) {
        let (row_bytes, groups) = (self.kind.row_bytes(self.cols), self.kind.groups(self.cols));
        assert_eq!(weights.len(), self.cols, "one weight per column");
        let codes = &self.codes[row * row_bytes..(row + 1) * row_bytes];
        dequantize_row(self.kind, codes, &self.scales[row * groups..(row + 1) * groups], weights);
    }

    /// Number of rows (output features).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (input features).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How the base is quantised.
    pub fn kind(&self) -> BaseKind {
        self.kind
    }

    /// The code plane: `rows` × [`BaseKind::row_bytes`] bytes.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// The scales: `rows` × [`BaseKind::groups`].
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The code at one place, −8 to 7 or −128 to 127.
    ///
    /// # Panics
    /// When the place lies outside the matrix.
    pub fn code(&self, row: usize, col: usize) -> i8 {
        assert!(row < self.rows && col < self.cols, "[{row}, {col}] of [{}, {}]", self.rows, self.cols);
        let start = row * self.kind.row_bytes(self.cols);
        match self.kind {
            BaseKind::Int8 => self.codes[start + col] as i8,
            _ => unpack_int4(self.codes[start + col / 2], col),
        }
    }

    /// The weight at one place.
    ///
    /// # Panics
    /// When the place lies outside the matrix.
    pub fn weight(&self, row: usize, col: usize) -> f32 {
        let scale = self.scales[row * self.kind.groups(self.cols) + col / self.kind.group(self.cols)];
        f32::from(self.code(row, col)) * scale
    }

    /// Bytes of both planes.
    pub fn bytes(&self) -> usize {
        self.codes.len() + 4 * self.scales.len()
    }
}

/// Scales must lie between 0 and `limit`.
pub(crate) fn check_scales(scales: &[f32], limit: f32) -> Result<()> {
    match scales.iter().position(|scale| !(0.0..=limit).contains(scale)) {
        Some(position) => Err(FormatError::Scale { position, value: scales[position], limit }),
        None => Ok(()),
    }
}

/// The 4-bit code of column `col` from the byte that holds it.
pub(crate) fn unpack_int4(byte: u8, col: usize) -> i8 {
    // Shift the nibble to the top, then back with its sign.
    ((byte << (4 * (1 - col % 2))) as i8) >> 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nibbles_are_low_first_and_signed() {
        let scales = AlignedVec::from_slice(&[1.0, 2.0]);
        let codes = AlignedVec::from_slice(&[0x8F, 0x07, 0x21, 0x03]);
        let base = QuantizedBase::new(2, 3, BaseKind::Int4, codes, scales).unwrap();
        let rows: Vec<Vec<f32>> = (0..2).map(|r| (0..3).map(|c| base.weight(r, c)).collect()).collect();
        assert_eq!(rows, [[-1.0, -8.0, 7.0], [2.0, 4.0, 6.0]]);
    }

    #[test]
    fn planes_of_the_wrong_length_and_bad_scales_are_refused() {
        let new = |codes: &[u8], scales: &[f32]| {
            QuantizedBase::new(1, 3, BaseKind::Int4, codes.into(), scales.into()).map(drop)
        };
        assert!(new(&[0, 0], &[1.0]).is_ok());
        assert!(matches!(new(&[0], &[1.0]), Err(FormatError::Length { what: "base codes", .. })));
        assert!(matches!(new(&[0, 0], &[]), Err(FormatError::Length { what: "base scales", .. })));
        for bad in [-1.0, f32::NAN, f32::INFINITY] {
            assert!(matches!(new(&[0, 0], &[bad]), Err(FormatError::Scale { position: 0, .. })));
        }
    }
}
