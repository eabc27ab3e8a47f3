//! Classifiers rebuilt from class statistics.
//!
//! None of them sees a sample. Prediction works through the features in chunks and, where every class has a
//! matrix of its own, through the classes a few at a time, within the budget.

mod linear;
mod quadratic;

use nalgebra::{DMatrix, DMatrixView};
use residua_memory::Budget;

pub use linear::{Lda, Metric, Ncm};
pub use quadratic::Qda;

use crate::Result;
use crate::error::{check, same_dimension};
use crate::source::check_finite;
use crate::statistics::ClassStatistics;

/// Features that are scored at a time at most; a multiple of the pieces that threads work on.
const CHUNK: usize = 1024;

/// How a covariance is regularised before it is inverted: `covariance·Σ + (identity + trace·tr(Σ)/d)·I`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ridge {
    /// Weight of the covariance itself.
    pub covariance: f64,
    /// Weight of the identity.
    pub identity: f64,
    /// Weight of the identity, in units of the covariance's mean variance.
    pub trace: f64,
}

impl Ridge {
    /// `Σ + a·tr(Σ)/d·I`.
    pub const fn relative(a: f64) -> Self {
        Self { covariance: 1.0, identity: 0.0, trace: a }
    }

    /// `(1 − a)·Σ + a·tr(Σ)/d·I`, as Ledoit–Wolf and OAS shrink.
    pub const fn shrink(a: f64) -> Self {
        Self { covariance: 1.0 - a, identity: 0.0, trace: a }
    }

    /// `(1 − a)·Σ + a·I`.
    pub const fn identity(a: f64) -> Self {
        Self { covariance: 1.0 - a, identity: a, trace: 0.0 }
    }

    pub(crate) fn check(self) -> Result<()> {
        for (name, value) in
            [("covariance", self.covariance), ("identity", self.identity), ("trace", self.trace)]
        {
            check(value >= 0.0 && value.is_finite(), name, value, "a finite number, 0 or more")?;
        }
        Ok(())
    }

    /// The multiple of the identity for a covariance of this trace and dimension.
    fn diagonal(self, trace: f64, dim: usize) -> f64 {
        self.identity + self.trace * trace / dim as f64
    }
}

/// Class probabilities assumed before a feature is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prior {
    /// All classes alike.
    #[default]
    Uniform,
    /// By the classes' numbers of samples.
    Counts,
}

impl Prior {
    /// Logarithms of the probabilities, by class.
    fn logarithms(self, statistics: &ClassStatistics) -> Vec<f64> {
        let all = statistics.samples() as f64;
        let log = |count: u64| if self == Self::Counts { (count as f64 / all).ln() } else { 0.0 };
        statistics.iter().map(|(_, class)| log(class.count())).collect()
    }
}

/// A classifier of features of dimension d.
pub trait Classifier {
    /// The feature dimension d.
    fn dim(&self) -> usize;

    /// The labels it can give, rising.
    fn labels(&self) -> &[u32];

    /// Scores `[C, n]` of features `[d, n]`, a row for each label; higher is likelier.
    ///
    /// # Errors
    /// When the dimension is another, a covariance cannot be inverted, or the budget has no room.
    fn scores(&self, features: DMatrixView<'_, f32>, budget: &Budget) -> Result<DMatrix<f64>>;

    /// The label of the highest score for each feature of `[d, n]`, of equal ones the lowest.
    ///
    /// # Errors
    /// As [`scores`](Self::scores); also when a feature is not finite.
    fn predict(&self, features: DMatrixView<'_, f32>, budget: &Budget) -> Result<Vec<u32>> {
        same_dimension("the features", features.nrows(), self.dim())?;
        check_finite("features", features, 0)?;
        let labels = self.labels();
        let mut predicted = Vec::with_capacity(features.ncols());
        for first in (0..features.ncols()).step_by(CHUNK) {
            let count = CHUNK.min(features.ncols() - first);
            let _held = budget.reserve(8 * (labels.len() * count) as u64, "scores")?;
            let scores = self.scores(features.columns(first, count), budget)?;
            predicted.extend(scores.column_iter().map(|column| labels[column.argmax().0]));
        }
        Ok(predicted)
    }
}
