//! The matrices that can be laid out.

use rayon::prelude::*;
use residua_format::{Csr, GapCsr, ValuePlane, ValueType};

/// A validated matrix, read row by row.
pub(crate) trait Source: Sync {
    fn shape(&self) -> [usize; 2];
    fn nnz(&self) -> usize;
    fn value_type(&self) -> ValueType;
    /// The factor of a row's sum.
    fn scale(&self, row: usize) -> f32;
    /// Calls `visit(column, value)` for every entry of a row, in rising order of columns. The stored value is in the
    /// lowest bits.
    fn for_each(&self, row: usize, visit: impl FnMut(u32, u32));

    /// Entries and fillers of every row.
    fn counts(&self) -> Vec<Counts> {
        let count = |row| {
            let (mut counts, mut last) = (Counts::default(), u32::MAX);
            self.for_each(row, |column, _| {
                let gap = column.wrapping_sub(last);
                counts.entries += 1;
                counts.narrow += u64::from(fillers(gap, 8));
                counts.wide += u64::from(fillers(gap, 16));
                last = column;
            });
            counts
        };
        (0..self.shape()[0]).into_par_iter().with_min_len(16).map(count).collect()
    }
}

/// Entries of a row, and the fillers that it needs with gaps of 8 and of 16 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) entries: u64,
    pub(crate) narrow: u64,
    pub(crate) wide: u64,
}

/// Fillers before an entry at distance `gap`, at least 1.
pub(super) fn fillers(gap: u32, bits: u32) -> u32 {
    let most = (1 << bits) - 1;
    if gap <= most { 0 } else { (gap - 1) / most }
}

/// Words that hold the values of four entries.
pub(crate) trait ValueWords {
    fn words(self) -> usize;
}

impl ValueWords for ValueType {
    fn words(self) -> usize {
        self.bytes()
    }
}

/// A gap-encoded matrix.
pub(crate) struct GapSource<'a>(pub(crate) &'a GapCsr);

impl Source for GapSource<'_> {
    fn shape(&self) -> [usize; 2] {
        [self.0.rows(), self.0.cols()]
    }

    fn nnz(&self) -> usize {
        self.0.nnz()
    }

    fn value_type(&self) -> ValueType {
        self.0.value_type()
    }

    fn scale(&self, row: usize) -> f32 {
        self.0.values().scales().get(row).copied().unwrap_or(1.0)
    }

    fn for_each(&self, row: usize, mut visit: impl FnMut(u32, u32)) {
        let (pattern, start) = (self.0.pattern(), self.0.pattern().row_entries(row).start);
        let row = pattern.row(row);
        match self.0.values() {
            ValuePlane::F32(values) => row.for_each(|(i, column)| visit(column, values[start + i].to_bits())),
            ValuePlane::F16(values) => {
                row.for_each(|(i, column)| visit(column, values[start + i].to_bits().into()));
            }
            ValuePlane::Bf16(values) => {
                row.for_each(|(i, column)| visit(column, values[start + i].to_bits().into()));
            }
            ValuePlane::I8 { codes, .. } => {
                row.for_each(|(i, column)| visit(column, u32::from(codes[start + i] as u8)));
            }
        }
    }
}

/// A CSR matrix.
pub(crate) struct CsrSource<'a>(pub(crate) &'a Csr<f32, u32>);

impl Source for CsrSource<'_> {
    fn shape(&self) -> [usize; 2] {
        [self.0.rows(), self.0.cols()]
    }

    fn nnz(&self) -> usize {
        self.0.nnz()
    }

    fn value_type(&self) -> ValueType {
        ValueType::F32
    }

    fn scale(&self, _row: usize) -> f32 {
        1.0
    }

    fn for_each(&self, row: usize, mut visit: impl FnMut(u32, u32)) {
        let (columns, values) = self.0.row(row);
        columns.iter().zip(values).for_each(|(&column, value)| visit(column, value.to_bits()));
    }
}
