//! Classifiers rebuilt from class statistics.
//!
//! None of them sees a sample. Prediction takes features chunk by chunk; quadratic classifiers also take a few classes at
//! a time, as the budget allows.

mod counts;
mod linear;
mod low_rank;
mod pooling;
mod quadratic;

use residua_memory::Budget;

pub use linear::{Lda, LdaOptions, Metric, Ncm, NcmOptions};
pub use low_rank::LowRankQda;
pub use pooling::Pooling;
pub use quadratic::{Qda, QdaOptions};

use crate::error::check;
use crate::setters::setters;
use crate::source::{FeatureSource, Floats, Side, block_bytes, for_each_block};
use crate::statistics::{ClassStatistics, Extent};
use crate::{CompensateError, Result};

/// What features take memory for, in errors.
const FEATURES: &str = "features to classify";

/// Features that are scored at a time, if memory allows; a multiple of the pieces that threads work on.
const CHUNK: usize = 1024;
/// The smallest number of them.
const LEAST: usize = 32;

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

/// Bytes of memory that a classifier takes beside the statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// To build it.
    build: u64,
    /// As long as it lives.
    held: u64,
    /// For each feature that is scored, beside the scores.
    feature: u64,
    /// To score features, however many.
    score: u64,
}

impl Room {
    /// The smallest number of bytes to build the classifier of these statistics and to predict the labels of a source.
    pub fn bytes(self, extent: &Extent, source: &dyn FeatureSource) -> u64 {
        let numbers = (extent.dim as u64).saturating_add(extent.classes as u64);
        let feature = 8u64.saturating_mul(numbers).saturating_add(self.feature);
        let block = block_bytes(CHUNK, extent.dim, source.is_double());
        let scoring = feature.saturating_mul(LEAST as u64).saturating_add(self.score).saturating_add(block);
        self.build.max(self.held.saturating_add(scoring))
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
    fn scores_f64(&self, features: &[f64], budget: &Budget) -> Result<Vec<f64>>;

    /// As [`scores_f64`](Self::scores_f64), for features in single precision. All of them compute in f64.
    ///
    /// # Errors
    /// As [`scores_f64`](Self::scores_f64).
    fn scores(&self, features: &[f32], budget: &Budget) -> Result<Vec<f64>> {
        let _held = budget.reserve(8 * features.len() as u64, FEATURES)?;
        self.scores_f64(&features.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), budget)
    }

    /// For each of the features `[n, d]`, row-major, the label of the highest score; of equal scores the lowest label.
    ///
    /// # Errors
    /// As [`scores`](Self::scores); also when a feature is not finite.
    fn predict(&self, features: &[f32], budget: &Budget) -> Result<Vec<u32>> {
        self.predict_floats(Floats::F32(features), budget)
    }

    /// As [`predict`](Self::predict), for features of either precision.
    ///
    /// # Errors
    /// As [`predict`](Self::predict).
    fn predict_floats(&self, features: Floats<'_>, budget: &Budget) -> Result<Vec<u32>> {
        let dim = self.dim();
        features.check_finite("features", dim, 0)?;
        let mut predicted = Vec::with_capacity(features.samples(dim)?);
        let (count, mut rows) = (features.samples(dim)?, CHUNK);
        while predicted.len() < count {
            let first = predicted.len();
            let chunk = features.slice(first * dim..(first + rows).min(count) * dim);
            match self.predict_chunk(chunk, budget, &mut predicted) {
                // Many classes make many scores: take fewer features at a time.
                Err(CompensateError::Budget(_)) if rows > LEAST => rows /= 2,
                done => done?,
            }
        }
        Ok(predicted)
    }

    /// Appends the labels of features that are scored together.
    #[doc(hidden)]
    fn predict_chunk(&self, chunk: Floats<'_>, budget: &Budget, predicted: &mut Vec<u32>) -> Result<()> {
        let labels = self.labels();
        let bytes =
            8u64.saturating_mul(labels.len() as u64).saturating_mul(chunk.samples(self.dim())? as u64);
        let _held = budget.reserve(bytes, "scores")?;
        let scores = match chunk {
            Floats::F32(chunk) => self.scores(chunk, budget)?,
            Floats::F64(chunk) => self.scores_f64(chunk, budget)?,
        };
        predicted.extend(scores.chunks_exact(labels.len()).map(|scores| labels[highest(scores)]));
        Ok(())
    }

    /// Labels of all features of a source: those before the task, or the only ones.
    ///
    /// # Errors
    /// As [`predict`](Self::predict); also when the source cannot be read.
    fn predict_source(&self, source: &mut dyn FeatureSource, budget: &Budget) -> Result<Vec<u32>> {
        let mut predicted = Vec::new();
        for_each_block(source, CHUNK, budget, |block| {
            predicted.extend(self.predict_floats(block.floats(Side::Before)?, budget)?);
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
