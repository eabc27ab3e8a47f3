//! A sparse matrix read row by row: for those who write a backend and lay matrices out at upload.

use residua_format::{Csr, GapCsr};

/// A validated sparse matrix whose values have type `V`, read row by row.
pub trait Source<V>: Sync {
    /// `[rows, cols]`.
    fn shape(&self) -> [usize; 2];

    /// Number of non-zeros.
    fn nnz(&self) -> usize;

    /// Entries of a row, give or take its fillers: what to reserve, how to share out work.
    ///
    /// # Panics
    /// When there is no such row.
    fn entries(&self, row: usize) -> usize;

    /// Calls `visit(column, value)` for every entry of a row. Columns rise and are below `shape()[1]`; fillers are
    /// left out.
    ///
    /// # Panics
    /// When there is no such row.
    fn for_each(&self, row: usize, visit: impl FnMut(u32, V));
}

/// A gap-encoded matrix and the values of its plane.
#[derive(Debug, Clone, Copy)]
pub struct GapSource<'a, V> {
    matrix: &'a GapCsr,
    values: &'a [V],
}

impl<'a, V> GapSource<'a, V> {
    /// `values` is what the matrix's [`ValuePlane`](residua_format::ValuePlane) holds: one per entry, fillers counted.
    ///
    /// # Panics
    /// When there are more or fewer.
    pub fn new(matrix: &'a GapCsr, values: &'a [V]) -> Self {
        let entries = matrix.pattern().entries();
        assert_eq!(values.len(), entries, "a value plane has one value per entry");
        Self { matrix, values }
    }
}

impl<V: Copy + Sync> Source<V> for GapSource<'_, V> {
    fn shape(&self) -> [usize; 2] {
        [self.matrix.rows(), self.matrix.cols()]
    }

    fn nnz(&self) -> usize {
        self.matrix.nnz()
    }

    fn entries(&self, row: usize) -> usize {
        self.matrix.pattern().row_entries(row).len()
    }

    fn for_each(&self, row: usize, mut visit: impl FnMut(u32, V)) {
        let pattern = self.matrix.pattern();
        let values = &self.values[pattern.row_entries(row)];
        pattern.row(row).for_each(|(position, column)| visit(column, values[position]));
    }
}

/// A CSR matrix.
#[derive(Debug, Clone, Copy)]
pub struct CsrSource<'a>(pub &'a Csr<f32, u32>);

impl Source<f32> for CsrSource<'_> {
    fn shape(&self) -> [usize; 2] {
        [self.0.rows(), self.0.cols()]
    }

    fn nnz(&self) -> usize {
        self.0.nnz()
    }

    fn entries(&self, row: usize) -> usize {
        self.0.row(row).0.len()
    }

    fn for_each(&self, row: usize, mut visit: impl FnMut(u32, f32)) {
        let (columns, values) = self.0.row(row);
        columns.iter().zip(values).for_each(|(&column, &value)| visit(column, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use residua_format::convert::csr_to_gap;
    use residua_format::{ValuePlane, ValueType};

    fn read(source: &impl Source<f32>) -> Vec<(usize, u32, f32)> {
        let mut entries = Vec::new();
        for row in 0..source.shape()[0] {
            source.for_each(row, |column, value| entries.push((row, column, value)));
        }
        entries
    }

    #[test]
    fn both_sources_tell_the_same_entries() {
        // A gap over 255: the encoded row has a filler.
        let csr = Csr::new(3, 700, vec![0, 2, 2, 3], vec![1, 600, 0], vec![2.0, 3.0, 4.0]).unwrap();
        let gap = csr_to_gap(&csr, ValueType::F32).unwrap();
        let ValuePlane::F32(values) = gap.values() else { panic!("{:?}", gap.value_type()) };
        let (one, other) = (CsrSource(&csr), GapSource::new(&gap, values));
        assert_eq!(read(&one), [(0, 1, 2.0), (0, 600, 3.0), (2, 0, 4.0)]);
        assert_eq!(read(&one), read(&other));
        assert_eq!((one.shape(), one.nnz()), (other.shape(), other.nnz()));
        assert_eq!((0..3).map(|row| one.entries(row)).collect::<Vec<_>>(), [2, 0, 1]);
        assert!((0..3).all(|row| other.entries(row) >= one.entries(row)));
    }
}
