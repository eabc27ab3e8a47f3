//! Classifiers rebuilt from class statistics.
//!
//! None of them sees a sample. Prediction takes features chunk by chunk; quadratic classifiers also take a few classes at
//! a time, as the budget allows.

mod counts;
mod linear;
mod quadratic;

use residua_memory::Budget;

pub use linear::{Lda, LdaOptions, Metric, Ncm, NcmOptions};
pub use quadratic::{Qda, QdaOptions};

use crate::Result;
use crate::error::check;
use crate::setters::setters;
use crate::source::{FeatureSource, check_finite, for_each_block, samples};
use crate::statistics::ClassStatistics;

/// Features that are scored at a time; a multiple of the pieces that threads work on.
const CHUNK: usize = 1024;

/// How a covariance is regularised before it is inverted: `covariance·Σ + (identity + trace·tr(Σ)/d)·I`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
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

    setters! {
        /// With this weight of the covariance itself.
        with_covariance: covariance: f64,
        /// With this weight of the identity.
        with_identity: identity: f64,
        /// With this weight of the identity, in units of the covariance's mean variance.
        with_trace: trace: f64,
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

/// Class probabilities before a feature is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prior {
    /// The same for all classes.
    #[default]
    Uniform,
    /// In proportion to the classes' numbers of samples.
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

    /// The labels of the classes, rising.
    fn labels(&self) -> &[u32];

    /// Scores of features `[n, d]`, row-major `[n, C]`: for each feature one score for each label. The highest score is
    /// the likeliest class.
    ///
    /// # Errors
    /// When the length is no multiple of d, a covariance cannot be inverted, or the budget has no room.
    fn scores(&self, features: &[f32], budget: &Budget) -> Result<Vec<f64>>;

    /// For each of the features `[n, d]`, row-major, the label of the highest score; of equal scores the lowest label.
    ///
    /// # Errors
    /// As [`scores`](Self::scores); also when a feature is not finite.
    fn predict(&self, features: &[f32], budget: &Budget) -> Result<Vec<u32>> {
        let (dim, labels) = (self.dim(), self.labels());
        check_finite("features", features, dim, 0)?;
        let mut predicted = Vec::with_capacity(samples(features, dim)?);
        for chunk in features.chunks((CHUNK * dim).max(1)) {
            let _held = budget.reserve(8 * (labels.len() * (chunk.len() / dim)) as u64, "scores")?;
            let scores = self.scores(chunk, budget)?;
            predicted.extend(scores.chunks_exact(labels.len()).map(|scores| labels[highest(scores)]));
        }
        Ok(predicted)
    }

    /// Labels of all features of a source: those before the task, or the only ones.
    ///
    /// # Errors
    /// As [`predict`](Self::predict); also when the source cannot be read.
    fn predict_source(&self, source: &mut dyn FeatureSource, budget: &Budget) -> Result<Vec<u32>> {
        let mut predicted = Vec::new();
        for_each_block(source, CHUNK, budget, |block| {
            predicted.extend(self.predict(block.before(), budget)?);
            Ok(())
        })?;
        Ok(predicted)
    }
}

/// The index of the highest score; of equal ones the first.
fn highest(scores: &[f64]) -> usize {
    let better = |best, at: usize| if scores[at] > scores[best] { at } else { best };
    (1..scores.len()).fold(0, better)
}
