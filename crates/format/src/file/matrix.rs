//! A matrix in the form in which its file stores it.

use super::Dense;
use crate::convert::{Duplicates, coo_to_csr, dense_to_csr};
use crate::error::FormatError;
use crate::{Coo, Csr, Value};

/// A matrix in the form in which its file stores it.
#[derive(Debug, Clone, PartialEq)]
pub enum FileMatrix<V> {
    /// Triplets, or rows that are not sorted or have duplicates.
    Coo(Coo<V>),
    /// Sorted rows.
    Csr(Csr<V>),
    /// A value at every place.
    Dense(Dense<V>),
}

impl<V: Value> FileMatrix<V> {
    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Coo(coo) => [coo.rows(), coo.cols()],
            Self::Csr(csr) => [csr.rows(), csr.cols()],
            Self::Dense(dense) => [dense.rows(), dense.cols()],
        }
    }

    /// Number of stored entries; of a dense matrix the values other than 0.
    pub fn nnz(&self) -> usize {
        match self {
            Self::Coo(coo) => coo.nnz(),
            Self::Csr(csr) => csr.nnz(),
            Self::Dense(dense) => dense.values().iter().filter(|value| **value != V::default()).count(),
        }
    }

    /// The matrix as sorted rows; of a dense matrix the values other than 0.
    ///
    /// # Errors
    /// When two triplets have one place and `duplicates` refuses them, or there are more than 2³²−1 columns or
    /// entries.
    pub fn into_csr(self, duplicates: Duplicates) -> Result<Csr<V>, FormatError> {
        match self {
            Self::Coo(coo) => coo_to_csr(&coo, duplicates),
            Self::Csr(csr) => Ok(csr),
            Self::Dense(dense) => {
                dense_to_csr(dense.rows(), dense.cols(), dense.values(), |value| value != V::default())
            }
        }
    }
}
