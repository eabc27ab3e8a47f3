//! Shrinkage: how far to pull a covariance from few samples towards a multiple of the identity.

use nalgebra::DMatrix;
use residua_memory::Budget;

use super::{ClassGaussian, ClassStatistics, Covariance};
use crate::error::check;
use crate::{CompensateError, Result, algebra};

/// How far to pull each class's covariance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shrinkage {
    /// By [`ClassGaussian::ledoit_wolf`].
    LedoitWolf,
    /// By [`ClassGaussian::oas`].
    Oas,
    /// This far, 0 to 1.
    Fixed(f64),
}

impl ClassStatistics {
    /// Every covariance as `(1 − a)·Σ + a·tr(Σ)/d·I`; the covariance of a single sample stays the same.
    ///
    /// # Errors
    /// When `a` is not in 0 to 1, Ledoit–Wolf lacks a class's samples, or the budget has no room.
    pub fn shrink(&self, shrinkage: Shrinkage, budget: &Budget) -> Result<Self> {
        self.map(4 * Covariance::dense_bytes(self.dim()), budget, |_, class| {
            ClassGaussian::new(class.count(), class.mean().clone(), class.shrunk(shrinkage)?, budget)
        })
    }
}

impl ClassGaussian {
    /// The covariance after shrinkage.
    pub(super) fn shrunk(&self, shrinkage: Shrinkage) -> Result<Covariance> {
        let a = match shrinkage {
            _ if self.covariance().form() == "isotropic" => return Ok(self.covariance().clone()),
            Shrinkage::Fixed(a) => {
                check((0.0..=1.0).contains(&a), "shrinkage", a, "from 0 to 1").map(|()| a)?
            }
            Shrinkage::Oas => self.oas(),
            Shrinkage::LedoitWolf => self.ledoit_wolf()?,
        };
        Ok(self.covariance().shrink(a))
    }

    /// The Ledoit–Wolf shrinkage towards `tr(Σ)/d·I`, 0 to 1 ("A well-conditioned estimator for
    /// large-dimensional covariance matrices", 2004), as scikit-learn's `ledoit_wolf_shrinkage`.
    ///
    /// # Errors
    /// When the covariance is not stored as the factor of this class's own samples: the estimate needs them. A class of up
    /// to about d/2 samples is stored as that factor, and
    /// [`StatisticsBuilder::shrinkage`](super::StatisticsBuilder::shrinkage) works for classes of up to d samples.
    pub fn ledoit_wolf(&self) -> Result<f64> {
        let samples = self.covariance().pure_factor().filter(|f| f.ncols() as u64 == self.count());
        let Some(mut samples) = samples else {
            let problem = "Ledoit–Wolf shrinkage needs the class's samples; only classes of no more samples than \
                           dimensions keep them; use OAS";
            return Err(CompensateError::Statistics { problem: problem.into() });
        };
        samples *= ((self.count() - 1) as f64).sqrt();
        Ok(ledoit_wolf(&samples))
    }

    /// The oracle-approximating shrinkage towards `tr(Σ)/d·I`, 0 to 1 (Chen, Wiesel, Eldar, Hero,
    /// "Shrinkage algorithms for MMSE covariance estimation", 2010), as scikit-learn's `oas`. It needs no samples, so it
    /// works on every storage form and after compensation.
    pub fn oas(&self) -> f64 {
        let (n, d) = (self.count() as f64, self.dim() as f64);
        // scikit-learn's estimate divides by n.
        let biased = (n - 1.0) / n;
        let mean_square = squared_norm(self) * biased * biased / (d * d);
        let mu_squared = (self.covariance().trace() * biased / d).powi(2);
        let numerator = mean_square + mu_squared;
        let denominator = (n + 1.0) * (mean_square - mu_squared / d);
        if denominator <= 0.0 { 1.0 } else { (numerator / denominator).min(1.0) }
    }
}

/// Squared Frobenius norm of a class's covariance.
fn squared_norm(class: &ClassGaussian) -> f64 {
    // ‖F·Fᵀ‖ = ‖Fᵀ·F‖; the second matrix is smaller for few samples.
    match class.covariance().pure_factor() {
        Some(f) if f.ncols() < f.nrows() => algebra::product(algebra::t(&f), algebra::n(&f)).norm_squared(),
        _ => class.covariance().to_dense().norm_squared(),
    }
}

/// From centred samples `[d, n]`.
fn ledoit_wolf(samples: &DMatrix<f64>) -> f64 {
    let (d, n) = (samples.nrows() as f64, samples.ncols() as f64);
    let gram = algebra::product(algebra::t(samples), algebra::n(samples));
    let norm = gram.norm_squared() / (n * n);
    let mu = gram.trace() / (n * d);
    let fourth: f64 = gram.diagonal().iter().map(|v| v * v).sum();
    let delta = (norm - d * mu * mu) / d;
    let beta = (fourth / n - norm) / (n * d);
    if delta <= 0.0 || beta <= 0.0 { 0.0 } else { beta.min(delta) / delta }
}
