//! The covariance of all samples.

use nalgebra::{DMatrix, DVector};
use residua_memory::{Budget, Reservation};

use super::merge::{Weights, add_outer};
use super::{ClassGaussian, ClassStatistics, Covariance, StatisticsReader};
use crate::{CompensateError, Result};

/// The covariance of the samples of all classes together, gathered class by class.
struct Spread {
    count: u64,
    mean: DVector<f64>,
    scatter: DMatrix<f64>,
    _held: Reservation,
}

impl Spread {
    /// Of no samples yet, of dimension `dim`.
    ///
    /// # Errors
    /// When the budget has no room.
    fn new(dim: usize, budget: &Budget) -> Result<Self> {
        let held = budget
            .reserve(Covariance::dense_bytes(dim) + 16 * dim as u64, "the covariance of all samples")?;
        Ok(Self { count: 0, mean: DVector::zeros(dim), scatter: DMatrix::zeros(dim, dim), _held: held })
    }

    /// Adds the samples of a class.
    fn add(&mut self, class: &ClassGaussian) {
        let freedom = (class.count() - 1) as f64;
        if freedom > 0.0 {
            class.covariance().add_lower_to(freedom, &mut self.scatter);
        }
        let weights = Weights::new(self.count, class.count());
        let apart = class.mean() - &self.mean;
        if self.count > 0 {
            add_outer(&mut self.scatter, weights.between, &apart);
        }
        self.mean += apart * weights.mean;
        self.count += class.count();
    }

    /// The covariance `[d, d]`, lower triangle: zeros for fewer than two samples.
    fn covariance(mut self) -> DMatrix<f64> {
        self.scatter /= self.count.saturating_sub(1).max(1) as f64;
        self.scatter
    }
}

impl ClassStatistics {
    /// The covariance `[d, d]` of the samples of all classes together, lower triangle.
    ///
    /// # Errors
    /// When the budget has no room.
    pub fn spread(&self, budget: &Budget) -> Result<DMatrix<f64>> {
        let mut spread = Spread::new(self.dim(), budget)?;
        self.iter().for_each(|(_, class)| spread.add(class));
        Ok(spread.covariance())
    }
}

impl ClassStatistics {
    /// How far class means are apart, in units of what random labels would give: the F statistic over all dimensions
    /// together. `None` for fewer than two classes or samples that are too few to tell.
    pub(crate) fn separation(&self) -> Option<f64> {
        let (classes, samples) = (self.len() as f64, self.samples() as f64);
        if classes < 2.0 || samples < 2.0 * classes {
            return None;
        }
        let weighted = self.iter().map(|(_, class)| class.mean() * class.count() as f64);
        let mean = weighted.fold(DVector::zeros(self.dim()), |sum, mean| sum + mean) / samples;
        let between: f64 =
            self.iter().map(|(_, class)| class.count() as f64 * (class.mean() - &mean).norm_squared()).sum();
        let within: f64 =
            self.iter().map(|(_, class)| (class.count() - 1) as f64 * class.covariance().trace()).sum();
        (within > 0.0).then(|| between / (classes - 1.0) / (within / (samples - classes)))
    }
}

impl StatisticsReader {
    /// As [`spread`](Self::spread); `None` where the budget has no room.
    ///
    /// # Errors
    /// When the tensors of a class are malformed.
    pub fn spread_if_room(&self, budget: &Budget) -> Result<Option<DMatrix<f64>>> {
        match self.spread(budget) {
            Err(CompensateError::Budget(_)) => Ok(None),
            other => other.map(Some),
        }
    }

    /// As [`ClassStatistics::spread`]; holds one class at a time.
    ///
    /// # Errors
    /// As [`class`](Self::class).
    pub fn spread(&self, budget: &Budget) -> Result<DMatrix<f64>> {
        let mut spread = Spread::new(self.dim(), budget)?;
        for (label, _) in self.counts() {
            self.class(label, budget)?.iter().for_each(|class| spread.add(class));
        }
        Ok(spread.covariance())
    }
}
