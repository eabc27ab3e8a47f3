//! Quantised bases: the dense low-precision part of a layer.

mod bits;
mod coder;
mod grid;
mod kind;
mod quantize;

use rayon::prelude::*;
use residua_memory::AlignedVec;

use crate::error::{FormatError, Result};

pub use coder::Coder;
pub use grid::{Grid, MULTIPLIERS};
pub use kind::BaseKind;
pub use quantize::{code_i8, plain_multipliers, quantize_row, scale_i8};

/// A dense matrix of codes of 2 to 8 bits with f32 scales: `w = multiple · scale`. The multiple is the code itself in
/// two's complement, or what it stands for in a [`Grid`].
///
/// Codes are row-major and packed: code `i` of a row takes bits `i·bits` and on, from the lowest bit of the row's first
/// byte. In a kind with [blocks](BaseKind::block) the numbers of a row's [multipliers](MULTIPLIERS) come before its codes,
/// two in a byte, the even block in the low nibble. Every row starts at a whole byte, and unused bits at its end are 0. Scales are `[rows, groups]`, row-major.
///
/// Invariants, always checked: the lengths of both planes follow from shape and kind; unused bits are 0; scales
/// lie between 0 and [`BaseKind::max_scale`]. So every weight is finite.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedBase {
    rows: usize,
    cols: usize,
    grid: Grid,
    codes: AlignedVec<u8>,
    scales: AlignedVec<f32>,
}

impl QuantizedBase {
    /// A base from its planes. `grid` is a [`BaseKind`], or a [`Grid`] with a codebook.
    ///
    /// # Errors
    /// When a plane has the wrong length, an unused bit is not 0, or a scale is negative, NaN or above
    /// [`BaseKind::max_scale`].
    pub fn new(
        rows: usize,
        cols: usize,
        grid: impl Into<Grid>,
        codes: AlignedVec<u8>,
        scales: AlignedVec<f32>,
    ) -> Result<Self> {
        let grid = grid.into();
        let kind = grid.kind();
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
        if let Some(row) = bits::unclean_row(kind, cols, &codes) {
            return Err(FormatError::GapRow { row, problem: "unused bits after its last code must be 0" });
        }
        Ok(Self { rows, cols, grid, codes, scales })
    }

    /// Quantises a dense row-major matrix, rows in parallel; see [`quantize_row`].
    ///
    /// # Errors
    /// When `dense` does not have `rows · cols` elements, or one is NaN or infinite.
    pub fn quantize(rows: usize, cols: usize, dense: &[f32], grid: impl Into<Grid>) -> Result<Self> {
        let expected = rows.saturating_mul(cols);
        if dense.len() != expected {
            return Err(FormatError::Length { what: "dense values", found: dense.len(), expected });
        }
        let grid = grid.into();
        let (kind, coder) = (grid.kind(), Coder::from(grid));
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
                    quantize_row(weights, &coder, codes, scales).err().map(|col| (row, col))
                })
                .find_first(|_| true);
            if let Some((row, col)) = bad {
                let value = dense[row * cols + col].into();
                return Err(FormatError::NotFinite { row, col, value });
            }
        }
        Ok(Self { rows, cols, grid, codes, scales })
    }

    /// Writes the weights of one row.
    ///
    /// # Panics
    /// When `row` is not below [`rows`](Self::rows) or `weights` does not have [`cols`](Self::cols) elements.
    pub fn dequantize_row(&self, row: usize, weights: &mut [f32]) {
        let groups = self.kind().groups(self.cols);
        assert_eq!(weights.len(), self.cols, "one weight per column");
        let scales = &self.scales[row * groups..(row + 1) * groups];
        self.grid.dequantize_row(self.row_codes(row), scales, weights);
    }

    fn row_codes(&self, row: usize) -> &[u8] {
        let bytes = self.kind().row_bytes(self.cols);
        &self.codes[row * bytes..(row + 1) * bytes]
    }

    /// Writes the multiples of the scale in one row: codes, or the levels that they stand for.
    ///
    /// # Panics
    /// When `row` is not below [`rows`](Self::rows) or `multiples` does not have [`cols`](Self::cols) elements.
    pub fn multiples(&self, row: usize, multiples: &mut [i8]) {
        assert_eq!(multiples.len(), self.cols, "one multiple per column");
        self.grid.multiples(self.row_codes(row), multiples);
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
        self.grid.kind()
    }

    /// What the codes stand for.
    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// The code plane: `rows` × [`BaseKind::row_bytes`] bytes.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// The scales: `rows` × [`BaseKind::groups`].
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The multiple of the scale at one place: the code, or the level that it stands for.
    ///
    /// # Panics
    /// When the place lies outside the matrix.
    pub fn multiple(&self, row: usize, col: usize) -> i8 {
        assert!(row < self.rows && col < self.cols, "[{row}, {col}] of [{}, {}]", self.rows, self.cols);
        self.grid.multiple(self.row_codes(row), self.cols, col)
    }

    /// The weight at one place.
    ///
    /// # Panics
    /// When the place lies outside the matrix.
    pub fn weight(&self, row: usize, col: usize) -> f32 {
        let kind = self.kind();
        let scale = self.scales[row * kind.groups(self.cols) + col / kind.group(self.cols)];
        f32::from(self.multiple(row, col)) * scale
    }

    /// Bytes of codes, scales and levels.
    pub fn bytes(&self) -> usize {
        self.codes.len() + 4 * self.scales.len() + self.grid.levels().len()
    }
}

/// Scales must lie between 0 and `limit`.
pub(crate) fn check_scales(scales: &[f32], limit: f32) -> Result<()> {
    match scales.iter().position(|scale| !(0.0..=limit).contains(scale)) {
        Some(position) => Err(FormatError::Scale { position, value: scales[position], limit }),
        None => Ok(()),
    }
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
