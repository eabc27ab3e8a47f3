//! Pattern and values together.

use rayon::prelude::*;

use super::{GapPattern, RowMode, ValuePlane};
use crate::ValueType;
use crate::base::check_scales;
use crate::error::{FormatError, Result};

/// The largest scale of an i8 plane. Every code times this scale is finite.
const MAX_SCALE: f32 = f32::MAX / 128.0;

/// A sparse matrix in gap-encoded CSR. At 5 % density it takes about 3 bytes per non-zero with 16-bit values, and 2
/// with 8-bit values.
///
/// Invariants, always checked: the value plane has one value per entry of the pattern; fillers hold zero; an i8 plane
/// has one scale per row, from 0 to `f32::MAX / 128`, and no code −128. A float plane may hold any value.
///
/// ```
/// use residua_format::{Csr, ValueType, convert};
///
/// // Row 0: 5 in column 50. Row 1: 7 in column 0, 9 in column 90.
/// let csr = Csr::new(2, 100, vec![0, 1, 3], vec![50u32, 0, 90], vec![5.0f32, 7.0, 9.0])?;
/// let gap = convert::csr_to_gap(&csr, ValueType::Bf16)?;
/// assert_eq!(gap.row(1).collect::<Vec<_>>(), [(0, 7.0), (90, 9.0)]);
/// // Per entry one byte for the column and two for the value; three row pointers of four bytes.
/// assert_eq!(gap.bytes(), 3 * (1 + 2) + 3 * 4);
///
/// let back: Csr<f32> = convert::gap_to_csr(&gap)?;
/// assert_eq!(back, csr);
/// # Ok::<(), residua_format::FormatError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct GapCsr {
    pattern: GapPattern,
    values: ValuePlane,
}

impl GapCsr {
    /// A matrix from its parts.
    ///
    /// # Errors
    /// When an invariant of the type does not hold.
    pub fn new(pattern: GapPattern, values: ValuePlane) -> Result<Self> {
        if values.len() != pattern.entries() {
            return Err(FormatError::Length {
                what: "values",
                found: values.len(),
                expected: pattern.entries(),
            });
        }
        if let ValuePlane::I8 { codes, scales } = &values {
            if scales.len() != pattern.rows() {
                let found = scales.len();
                return Err(FormatError::Length { what: "row scales", found, expected: pattern.rows() });
            }
            check_scales(scales, MAX_SCALE)?;
            if codes.contains(&i8::MIN) {
                let bad = |row: &usize| codes[pattern.row_entries(*row)].contains(&i8::MIN);
                let row = (0..pattern.rows()).find(bad).unwrap_or(0);
                return Err(FormatError::GapRow {
                    row,
                    problem: "the code -128 is not allowed: its negation is no code",
                });
            }
        }
        // Only a gap row can have fillers.
        if pattern.entries() != pattern.nnz() {
            let (size, bytes) = (values.value_type().bytes(), values.as_bytes());
            let filled = |&row: &usize| {
                let entries = pattern.row_entries(row);
                let row_values = bytes[entries.start * size..entries.end * size].chunks_exact(size);
                pattern.row_mode(row) == RowMode::Gap
                    && pattern
                        .row_index(row)
                        .iter()
                        .zip(row_values)
                        .any(|(&gap, value)| gap == 0 && value.iter().any(|&byte| byte != 0))
            };
            if let Some(row) = (0..pattern.rows()).into_par_iter().with_min_len(64).find_first(filled) {
                return Err(FormatError::GapRow { row, problem: "a filler holds a value other than 0" });
            }
        }
        Ok(Self { pattern, values })
    }

    /// For conversions of this crate. They keep the invariants by construction.
    pub(crate) fn trusted(pattern: GapPattern, values: ValuePlane) -> Self {
        debug_assert!(Self::new(pattern.clone(), values.clone()).is_ok());
        Self { pattern, values }
    }

    /// Number of rows (output features).
    pub fn rows(&self) -> usize {
        self.pattern.rows()
    }

    /// Number of columns (input features).
    pub fn cols(&self) -> usize {
        self.pattern.cols()
    }

    /// Number of non-zeros.
    pub fn nnz(&self) -> usize {
        self.pattern.nnz()
    }

    /// Non-zeros divided by `rows · cols`; 0 for an empty matrix.
    pub fn density(&self) -> f64 {
        self.nnz() as f64 / (self.rows() as f64 * self.cols() as f64).max(1.0)
    }

    /// How values are stored.
    pub fn value_type(&self) -> ValueType {
        self.values.value_type()
    }

    /// The positions of the entries.
    pub fn pattern(&self) -> &GapPattern {
        &self.pattern
    }

    /// The values of the entries.
    pub fn values(&self) -> &ValuePlane {
        &self.values
    }

    /// Columns and values of one row.
    ///
    /// # Panics
    /// When `row` is not below [`rows`](Self::rows).
    pub fn row(&self, row: usize) -> impl Iterator<Item = (u32, f32)> + '_ {
        let start = self.pattern.row_entries(row).start;
        self.pattern.row(row).map(move |(position, column)| (column, self.values.get(start + position, row)))
    }

    /// Bytes of all planes.
    pub fn bytes(&self) -> usize {
        self.pattern.bytes() + self.values.bytes()
    }

    /// The parts.
    pub fn into_parts(self) -> (GapPattern, ValuePlane) {
        (self.pattern, self.values)
    }
}
