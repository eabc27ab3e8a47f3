//! Statistics of two sets of samples combined to statistics of their union.
//!
//! The pairwise update of Chan, Golub and LeVeque ("Updating formulae and a pairwise algorithm for computing
//! sample variances", 1979): the scatters around each set's own mean add up, plus one rank-1 term for the distance of the
//! means. No step squares uncentred features.

use nalgebra::{DMatrix, DVector};
use residua_memory::Budget;

use super::{ClassGaussian, ClassStatistics, Covariance};
use crate::error::same_dimension;
use crate::{Result, algebra};

/// Weights of two sets of samples in their union.
pub(super) struct Weights {
    /// The weight of the second mean in the common mean.
    pub(super) mean: f64,
    /// The weight of the outer product of the means' difference in the common scatter.
    pub(super) between: f64,
}

impl Weights {
    pub(super) fn new(first: u64, second: u64) -> Self {
        let (first, second) = (first as f64, second as f64);
        Self { mean: second / (first + second), between: first * second / (first + second) }
    }
}

impl ClassGaussian {
    /// The class of both sets of samples. A single sample has no scatter; its stored covariance does not count.
    ///
    /// Two factors make a factor if that is the smaller form; anything else becomes packed. The result has the lower
    /// precision of those classes that have a scatter.
    ///
    /// # Errors
    /// When dimensions differ or the budget has no room.
    pub fn merge(&self, other: &Self, budget: &Budget) -> Result<Self> {
        same_dimension("a class to merge", other.dim(), self.dim())?;
        let (count, dim) = (self.count() + other.count(), self.dim());
        let weights = Weights::new(self.count(), other.count());
        let difference = other.mean() - self.mean();
        let mean = self.mean() + &difference * weights.mean;
        let scale = 1.0 / (count - 1) as f64;
        let parts = [self, other].map(|class| (class, (class.count() - 1) as f64 * scale));
        let counted = parts.iter().filter(|&&(_, weight)| weight > 0.0).map(|&(class, _)| class);
        let precisions = counted.map(|class| class.covariance().precision());
        let precision = precisions.min_by_key(|precision| precision.bytes());
        let precision = precision.unwrap_or(self.covariance().precision());

        let rank: Option<usize> = parts.iter().map(|&(class, weight)| factor_rank(class, weight)).sum();
        let covariance = match rank {
            Some(rank) if 2 * (rank + 1) <= dim + 1 => {
                let _held = budget.reserve(8 * (dim * (rank + 1)) as u64, "merging class statistics")?;
                let mut factor = DMatrix::zeros(dim, rank + 1);
                let mut next = 0;
                for (class, weight) in parts {
                    if let (true, Some(part)) = (weight > 0.0, class.covariance().pure_factor()) {
                        factor.columns_mut(next, part.ncols()).copy_from(&(part * weight.sqrt()));
                        next += class.covariance().rank().unwrap_or(0);
                    }
                }
                factor.set_column(rank, &(difference * (weights.between * scale).sqrt()));
                Covariance::factor(factor, precision)
            }
            _ => {
                let _held = budget.reserve(2 * Covariance::dense_bytes(dim), "merging class statistics")?;
                let mut sum = DMatrix::zeros(dim, dim);
                for (class, weight) in parts.into_iter().filter(|&(_, weight)| weight > 0.0) {
                    class.covariance().add_lower_to(weight, &mut sum);
                }
                add_outer(&mut sum, weights.between * scale, &difference);
                Covariance::packed(&sum, precision)?
            }
        };
        // The errors of two means are independent.
        let error = self.error() * (1.0 - weights.mean).powi(2) + other.error() * weights.mean.powi(2);
        Ok(Self::new(count, mean, covariance, budget)?.with_error(error))
    }
}

/// Number of columns that a class adds to a common factor; `None` if it is no factor.
fn factor_rank(class: &ClassGaussian, weight: f64) -> Option<usize> {
    if weight == 0.0 {
        Some(0)
    } else {
        class.covariance().is_pure_factor().then(|| class.covariance().rank())?
    }
}

/// Adds `weight·v·vᵀ` to the lower triangle.
pub(super) fn add_outer(out: &mut DMatrix<f64>, weight: f64, v: &DVector<f64>) {
    let column = DMatrix::from_column_slice(v.len(), 1, v.as_slice());
    algebra::add_gram(out, weight, algebra::n(&column));
}

impl ClassStatistics {
    /// The statistics of both sets of samples. Merges classes that both have, and shares the others.
    ///
    /// For any partition of the samples and in any order, the result equals that of one pass: within 1e-10 relative if
    /// all parts are stored as [`Precision::F64`](super::Precision::F64), else within their rounding.
    ///
    /// # Errors
    /// When dimensions differ, the tags show that both have the same samples or are of different models, or the budget has
    /// no room.
    pub fn merge(&self, other: &Self, budget: &Budget) -> Result<Self> {
        same_dimension("a set of statistics to merge", other.dim(), self.dim())?;
        let mut new = self.clone().with_tag(self.tag().merge(other.tag())?);
        for (label, theirs) in other.iter() {
            match self.get(label) {
                Some(ours) => new.insert(label, ours.merge(theirs, budget)?)?,
                None => new.insert(label, theirs.clone())?,
            };
        }
        Ok(new)
    }
}
