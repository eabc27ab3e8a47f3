//! sprs ↔ CSR, COO.

use sprs::{CsMatI, SpIndex, TriMatI};

use crate::error::{FormatError, Result};
use crate::{Coo, Csr, Index, Value};

fn foreign(problem: impl ToString) -> FormatError {
    FormatError::Foreign { library: "sprs", problem: problem.to_string() }
}

/// Takes CSR storage without a copy. sprs transposes CSC storage.
impl<V: Value, I: Index + SpIndex> TryFrom<CsMatI<V, I>> for Csr<V, I> {
    type Error = FormatError;

    fn try_from(matrix: CsMatI<V, I>) -> Result<Self> {
        let matrix = if matrix.is_csr() { matrix } else { matrix.to_other_storage() };
        let (rows, cols) = matrix.shape();
        let (row_ptr, columns, values) = matrix.into_raw_storage();
        Self::new(rows, cols, row_ptr, columns, values)
    }
}

/// In CSR storage, without a copy. Fails when the index type cannot hold the numbers of rows and columns; sprs
/// demands that.
impl<V: Value, I: Index + SpIndex> TryFrom<Csr<V, I>> for CsMatI<V, I> {
    type Error = FormatError;

    fn try_from(csr: Csr<V, I>) -> Result<Self> {
        let shape = (csr.rows(), csr.cols());
        let (row_ptr, columns, values) = csr.into_raw();
        Self::try_new(shape, row_ptr, columns, values).map_err(|(_, _, _, error)| foreign(error))
    }
}

/// Copies, because sprs only lends its triplets.
impl<V: Value, I: Index + SpIndex> TryFrom<&TriMatI<V, I>> for Coo<V, I> {
    type Error = FormatError;

    fn try_from(matrix: &TriMatI<V, I>) -> Result<Self> {
        let (rows, cols, values) = (matrix.row_inds(), matrix.col_inds(), matrix.data());
        Self::new(matrix.rows(), matrix.cols(), rows.to_vec(), cols.to_vec(), values.to_vec())
    }
}

/// Without a copy.
impl<V: Value, I: Index + SpIndex> From<Coo<V, I>> for TriMatI<V, I> {
    fn from(coo: Coo<V, I>) -> Self {
        let shape = (coo.rows(), coo.cols());
        let (row_indices, col_indices, values) = coo.into_raw();
        Self::from_triplets(shape, row_indices, col_indices, values)
    }
}
