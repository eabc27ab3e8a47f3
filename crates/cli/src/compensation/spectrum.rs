//! Eigenvalues of the average class covariance.

use residua::compensate::{ClassStatistics, Covariance};
use residua::memory::Budget;

use crate::failure::Result;

/// Eigenvalues of the average covariance of all classes, weighted by n − 1, falling.
pub(crate) fn spectrum(statistics: &ClassStatistics, budget: &Budget) -> Result<Vec<f64>> {
    let dim = statistics.dim();
    // The sum, one class's matrix, and the decomposition.
    let _held = budget.reserve(4 * Covariance::dense_bytes(dim), "the average covariance's spectrum")?;
    let weight = |count: u64| (count - 1).max(1) as f64;
    let all: f64 = statistics.iter().map(|(_, class)| weight(class.count())).sum();
    let mut sum = None;
    for (_, class) in statistics.iter() {
        let part = class.covariance().to_dense() * (weight(class.count()) / all);
        sum = Some(match sum {
            None => part,
            Some(sum) => sum + part,
        });
    }
    let mut values: Vec<f64> =
        sum.map(|sum| sum.symmetric_eigenvalues().iter().copied().collect()).unwrap_or_default();
    values.sort_by(|a, b| b.total_cmp(a));
    Ok(values)
}
