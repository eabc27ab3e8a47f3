//! Eigenvalues of the average class covariance.

use nalgebra::DMatrix;
use residua_memory::Budget;

use super::{ClassStatistics, Covariance};
use crate::{Result, algebra};

impl ClassStatistics {
    /// Eigenvalues of the average class covariance, the largest first. Classes weigh n − 1; a single sample counts as two.
    /// Without a class there are none.
    ///
    /// # Errors
    /// When the eigenvalues cannot be computed or the budget has no room.
    pub fn spectrum(&self, budget: &Budget) -> Result<Vec<f64>> {
        let dim = self.dim();
        let _held = budget.reserve(Self::spectrum_bytes(dim), "the average covariance's spectrum")?;
        let weight = |count: u64| (count - 1).max(1) as f64;
        let all: f64 = self.iter().map(|(_, class)| weight(class.count())).sum();
        if self.is_empty() {
            return Ok(Vec::new());
        }
        let mut sum = DMatrix::zeros(dim, dim);
        for (_, class) in self.iter() {
            class.covariance().add_lower_to(weight(class.count()) / all, &mut sum);
        }
        let (values, _) = algebra::eigen(&sum, "the average class covariance")?;
        Ok(values.iter().rev().copied().collect())
    }

    /// Bytes of memory that [`spectrum`](Self::spectrum) takes for features of dimension `dim`.
    pub fn spectrum_bytes(dim: usize) -> u64 {
        (1 + algebra::EIGEN) * Covariance::dense_bytes(dim)
    }
}
