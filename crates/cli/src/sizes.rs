//! The size of a matrix in other formats.

use serde::Serialize;

/// Bytes of one matrix. Values have the dtype of the original checkpoint unless a field states another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Sizes {
    /// Every element stored, in the original dtype.
    pub(crate) dense: u64,
    /// torch's COO: two i64 indices and a 16-bit value per non-zero.
    pub(crate) torch_coo: u64,
    /// torch's CSR: an i64 column and a 16-bit value per non-zero, `rows + 1` i64 row pointers.
    pub(crate) torch_csr: u64,
    /// cuSPARSE's CSR: an i32 column and a 16-bit value per non-zero, `rows + 1` i32 row pointers.
    pub(crate) cusparse_csr: u64,
}

impl Sizes {
    /// The sizes of a `[rows, cols]` matrix with `nnz` non-zeros and `element` bytes per dense element.
    pub(crate) fn new(rows: u64, cols: u64, nnz: u64, element: u64) -> Self {
        Self {
            dense: rows * cols * element,
            torch_coo: nnz * (2 * 8 + 2),
            torch_csr: nnz * (8 + 2) + (rows + 1) * 8,
            cusparse_csr: nnz * (4 + 2) + (rows + 1) * 4,
        }
    }
}

impl std::ops::AddAssign for Sizes {
    fn add_assign(&mut self, other: Self) {
        self.dense += other.dense;
        self.torch_coo += other.torch_coo;
        self.torch_csr += other.torch_csr;
        self.cusparse_csr += other.cusparse_csr;
    }
}

impl std::iter::Sum for Sizes {
    fn sum<I: Iterator<Item = Self>>(sizes: I) -> Self {
        sizes.fold(Self::default(), |mut sum, size| {
            sum += size;
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn per_non_zero_costs_are_the_documented_ones() {
        let sizes = Sizes::new(10, 100, 50, 2);
        assert_eq!(sizes.dense, 2000);
        assert_eq!(sizes.torch_coo, 50 * 18);
        assert_eq!(sizes.torch_csr, 50 * 10 + 88);
        assert_eq!(sizes.cusparse_csr, 50 * 6 + 44);
    }
}
