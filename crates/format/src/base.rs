//! The dense low-precision part of a layer.

use residua_memory::AlignedVec;
use serde::{Deserialize, Serialize};

use crate::error::{FormatError, Result};

/// How a base is quantised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BaseKind {
    /// 4-bit codes, one scale per row.
    Int4,
    /// 4-bit codes, one scale per 32 columns of a row.
    Int4G32,
    /// 4-bit codes, one scale per 64 columns of a row.
    Int4G64,
    /// 4-bit codes, one scale per 128 columns of a row.
    Int4G128,
    /// 8-bit codes, one scale per row.
    Int8,
}

impl BaseKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Int4, Self::Int4G32, Self::Int4G64, Self::Int4G128, Self::Int8];

    /// Its name in files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int4 => "int4",
            Self::Int4G32 => "int4-g32",
            Self::Int4G64 => "int4-g64",
            Self::Int4G128 => "int4-g128",
            Self::Int8 => "int8",
        }
    }

    /// Columns that share a scale, for rows of `cols` columns (at least 1).
    pub const fn group(self, cols: usize) -> usize {
        match self {
            Self::Int4 | Self::Int8 => {
                if cols == 0 {
                    1
                } else {
                    cols
                }
            }
            Self::Int4G32 => 32,
            Self::Int4G64 => 64,
            Self::Int4G128 => 128,
        }
    }

    /// Scales of a row of `cols` columns.
    pub const fn groups(self, cols: usize) -> usize {
        cols.div_ceil(self.group(cols))
    }

    /// Bytes of codes of a row of `cols` columns; every row starts at a whole byte.
    pub const fn row_bytes(self, cols: usize) -> usize {
        match self {
            Self::Int8 => cols,
            _ => cols.div_ceil(2),
        }
    }

    /// The largest code; the smallest is its negative, so that a code's negation is a code.
    pub const fn max_code(self) -> i8 {
        match self {
            Self::Int8 => 127,
            _ => 7,
        }
    }
}

impl std::fmt::Display for BaseKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// A dense matrix of 4- or 8-bit codes with f32 scales: `w = code · scale`.
///
/// Codes are row-major; two 4-bit codes share a byte, the even column in the low nibble, both two's
/// complement; an odd row's last high nibble is 0. Scales are `[rows, groups]`, row-major.
///
/// Always checked: both planes have the lengths that shape and kind call for, scales are finite and at
/// least 0.
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
    /// When a plane has the wrong length or a scale is negative or not finite.
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
        if let Some(position) = scales.iter().position(|s| !(s.is_finite() && *s >= 0.0)) {
            return Err(FormatError::Scale { position, value: scales[position] });
        }
        Ok(Self { rows, cols, kind, codes, scales })
    }

    /// Number of rows (output features).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (input features).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How it is quantised.
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
