//! One class.

use nalgebra::DVector;
use residua_memory::{Budget, Reservation};

use super::{Covariance, Precision, Storage};
use crate::error::same_dimension;
use crate::{CompensateError, Result};

/// The variance of a class of one sample in every direction.
pub const SINGLE_SAMPLE_VARIANCE: f64 = 1e-4;

/// The largest number of samples of a class: sums over many classes do not overflow.
const MOST_SAMPLES: u64 = 1 << 48;

/// Bytes of memory of a class beside its numbers: the structure, its place in a map, and what the allocator adds.
pub(super) const CLASS_BYTES: u64 = 384;

/// Bytes of a class of this dimension, in whatever form and precision.
pub(crate) fn most_class_bytes(dim: usize) -> u64 {
    // The mean and a packed matrix of f64.
    (Covariance::dense_bytes(dim) / 2).saturating_add(12 * dim as u64 + CLASS_BYTES)
}

/// A class: the number of its samples, their mean `[d]` and covariance `[d, d]` (divided by n − 1).
///
/// It holds a reservation for its bytes for as long as it lives.
#[derive(Debug)]
pub struct ClassGaussian {
    count: u64,
    mean: DVector<f64>,
    covariance: Covariance,
    error: f64,
    _held: Reservation,
}

impl ClassGaussian {
    /// A class of `count` samples.
    ///
    /// # Errors
    /// When dimensions differ, a number is not finite, a variance is negative, `count` is 0 or above 2⁴⁸, or the budget
    /// has no room.
    pub fn new(count: u64, mean: DVector<f64>, covariance: Covariance, budget: &Budget) -> Result<Self> {
        same_dimension("a class's covariance", covariance.dim(), mean.len())?;
        let bytes = CLASS_BYTES + 8 * mean.len() as u64 + covariance.bytes();
        let held = budget.reserve(bytes, "class statistics")?;
        if count == 0 {
            return Err(CompensateError::Empty("a class".into()));
        }
        let problem = |problem: String| CompensateError::Statistics { problem };
        if count > MOST_SAMPLES {
            return Err(problem(format!("a class of {count} samples, more than {MOST_SAMPLES}")));
        }
        if let Some(at) = mean.iter().position(|v| !v.is_finite()) {
            return Err(problem(format!("number {at} of the mean is {}", mean[at])));
        }
        covariance.validate().map_err(problem)?;
        Ok(Self { count, mean, covariance, error: 0.0, _held: held })
    }

    /// The same class stored another way.
    pub(super) fn store(&self, storage: Storage, precision: Precision, budget: &Budget) -> Result<Self> {
        let covariance = self.covariance.store(storage, precision)?;
        // A variance that is only rounding of a constant may vanish.
        let counts =
            |axis: usize, variance: f64| variance.sqrt() > f64::EPSILON * 16.0 * self.mean[axis].abs();
        let vanished = self.covariance.vanished(&covariance);
        if let Some((axis, variance)) = vanished.into_iter().find(|&(axis, v)| counts(axis, v)) {
            let problem = format!(
                "variance {axis} is {variance:e}, too small for its precision: it needs a higher precision, or features \
                 of a larger scale"
            );
            return Err(CompensateError::Statistics { problem });
        }
        Ok(Self::new(self.count, self.mean.clone(), covariance, budget)?.with_error(self.error))
    }

    /// The same class with this [`error`](Self::error); one that is no number from 0 to the largest counts as unknown, 0.
    #[must_use]
    pub fn with_error(mut self, error: f64) -> Self {
        self.set_error(error);
        self
    }

    pub(super) fn set_error(&mut self, error: f64) {
        self.error = if error.is_finite() && error > 0.0 { error } else { 0.0 };
    }

    /// The feature dimension d.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// Number of samples.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean `[d]`.
    pub fn mean(&self) -> &DVector<f64> {
        &self.mean
    }

    /// The covariance `[d, d]`.
    pub fn covariance(&self) -> &Covariance {
        &self.covariance
    }

    /// The estimated squared distance between the mean and the one that the class's samples would have now: the sum of what
    /// each move of the class is estimated to have added. 0 for a class that has not been moved.
    pub fn error(&self) -> f64 {
        self.error
    }

    /// Bytes of the mean and the covariance.
    pub fn bytes(&self) -> u64 {
        8 * self.mean.len() as u64 + self.covariance.bytes()
    }
}
