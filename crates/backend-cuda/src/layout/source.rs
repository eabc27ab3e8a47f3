//! The matrices that a layout is built from.

use residua_format::{Csr, GapCsr};

/// A validated matrix, read row by row.
pub(crate) trait Source<V>: Sync {
    fn shape(&self) -> [usize; 2];
    fn nnz(&self) -> usize;
    /// Calls `visit(column, value)` for every entry of a row. Columns rise and are below `shape()[1]`.
    fn for_each(&self, row: usize, visit: impl FnMut(u32, V));
}

/// A gap-encoded matrix and its values.
pub(crate) struct GapSource<'a, V> {
    pub(crate) matrix: &'a GapCsr,
    pub(crate) values: &'a [V],
}

impl<V: Copy + Sync> Source<V> for GapSource<'_, V> {
    fn shape(&self) -> [usize; 2] {
        [self.matrix.rows(), self.matrix.cols()]
    }

    fn nnz(&self) -> usize {
        self.matrix.nnz()
    }

    fn for_each(&self, row: usize, mut visit: impl FnMut(u32, V)) {
        let pattern = self.matrix.pattern();
        let values = &self.values[pattern.row_entries(row)];
        pattern.row(row).for_each(|(position, column)| visit(column, values[position]));
    }
}

/// A CSR matrix.
pub(crate) struct CsrSource<'a>(pub(crate) &'a Csr<f32, u32>);

impl Source<f32> for CsrSource<'_> {
    fn shape(&self) -> [usize; 2] {
        [self.0.rows(), self.0.cols()]
    }

    fn nnz(&self) -> usize {
        self.0.nnz()
    }

    fn for_each(&self, row: usize, mut visit: impl FnMut(u32, f32)) {
        let (columns, values) = self.0.row(row);
        columns.iter().zip(values).for_each(|(&column, &value)| visit(column, value));
    }
}
