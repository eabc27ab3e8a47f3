//! nalgebra-sparse ↔ CSR, COO: usize indices, no copy.

use nalgebra_sparse::{CooMatrix, CsrMatrix, SparseFormatError};

use crate::error::{FormatError, Result};
use crate::{Coo, Csr, Value};

fn foreign(error: SparseFormatError) -> FormatError {
    FormatError::Foreign { library: "nalgebra-sparse", problem: error.to_string() }
}

/// Both types have the same rules, so an error would be a fault of the other library.
impl<V: Value> TryFrom<CsrMatrix<V>> for Csr<V, usize> {
    type Error = FormatError;

    fn try_from(matrix: CsrMatrix<V>) -> Result<Self> {
        let (rows, cols) = (matrix.nrows(), matrix.ncols());
        let (row_ptr, columns, values) = matrix.disassemble();
        Self::new(rows, cols, row_ptr, columns, values)
    }
}

impl<V: Value> TryFrom<Csr<V, usize>> for CsrMatrix<V> {
    type Error = FormatError;

    fn try_from(csr: Csr<V, usize>) -> Result<Self> {
        let (rows, cols) = (csr.rows(), csr.cols());
        let (row_ptr, columns, values) = csr.into_raw();
        Self::try_from_csr_data(rows, cols, row_ptr, columns, values).map_err(foreign)
    }
}

impl<V: Value> TryFrom<CooMatrix<V>> for Coo<V, usize> {
    type Error = FormatError;

    fn try_from(matrix: CooMatrix<V>) -> Result<Self> {
        let (rows, cols) = (matrix.nrows(), matrix.ncols());
        let (row_indices, col_indices, values) = matrix.disassemble();
        Self::new(rows, cols, row_indices, col_indices, values)
    }
}

impl<V: Value> TryFrom<Coo<V, usize>> for CooMatrix<V> {
    type Error = FormatError;

    fn try_from(coo: Coo<V, usize>) -> Result<Self> {
        let (rows, cols) = (coo.rows(), coo.cols());
        let (row_indices, col_indices, values) = coo.into_raw();
        Self::try_from_triplets(rows, cols, row_indices, col_indices, values).map_err(foreign)
    }
}
