//! What a regression does not explain.

use nalgebra::DMatrix;
use residua_memory::{Budget, Reservation};

use crate::Result;
use crate::statistics::Covariance;

/// The covariance of the drift that a map of features does not predict, to be added to moved covariances: by
/// the law of total covariance `Cov(y) = Cov(f(x)) + E[Cov(y | x)]`.
#[derive(Debug)]
pub(super) struct Noise {
    /// `[d, d]`, both triangles.
    covariance: DMatrix<f64>,
    _held: Reservation,
}

impl Noise {
    pub(super) fn new(covariance: DMatrix<f64>, budget: &Budget) -> Result<Self> {
        let held = budget.reserve(8 * covariance.len() as u64, "the noise of a regression")?;
        Ok(Self { covariance, _held: held })
    }

    /// The sum, packed: the noise fills every direction.
    pub(super) fn add_to(&self, covariance: Covariance) -> Result<Covariance> {
        let mut sum = self.covariance.clone();
        covariance.add_lower_to(1.0, &mut sum);
        Covariance::packed(&sum, covariance.precision())
    }
}
