//! Classifiers with flat borders: nearest class mean and linear discriminant analysis.

use nalgebra::{DMatrix, DVector};
use residua_memory::{Budget, Reservation};

use super::counts::Counts;
use super::{Classifier, FEATURES, Prior, Ridge, Room};
use crate::algebra::{self, Cholesky};
use crate::compensator::{AffineMap, Compensator};
use crate::error::same_dimension;
use crate::setters::setters;
use crate::source::columns;
use crate::statistics::{ClassGaussian, ClassStatistics, Covariance, Extent, Precision};
use crate::{CompensateError, Result};

/// `scores = weightsᵀ·x + bias`.
#[derive(Debug)]
struct Scores {
    labels: Vec<u32>,
    /// `[d, C]`.
    weights: DMatrix<f64>,
    bias: DVector<f64>,
    _held: Reservation,
}

/// Class means as columns `[d, C]`.
pub(super) fn means(statistics: &ClassStatistics) -> DMatrix<f64> {
    let numbers = statistics.iter().flat_map(|(_, class)| class.mean().iter().copied());
    DMatrix::from_iterator(statistics.dim(), statistics.len(), numbers)
}

/// Covariances and their weights in the average. Classes weigh n − 1; if all have a single sample, they weigh the same.
fn weighted(statistics: &ClassStatistics) -> impl Iterator<Item = (f64, &Covariance)> {
    let freedom = statistics.samples() - statistics.len() as u64;
    statistics.iter().map(move |(_, class)| {
        let weight = match freedom {
            0 => 1.0 / statistics.len() as f64,
            _ => (class.count() - 1) as f64 / freedom as f64,
        };
        (weight, class.covariance())
    })
}

/// The average covariance, lower triangle.
pub(super) fn pooled(statistics: &ClassStatistics) -> DMatrix<f64> {
    let mut sum = DMatrix::zeros(statistics.dim(), statistics.dim());
    weighted(statistics).for_each(|(weight, covariance)| covariance.add_lower_to(weight, &mut sum));
    sum
}

/// The mean variance of the average covariance, tr(Σ̄)/d.
pub(super) fn mean_variance(statistics: &ClassStatistics) -> f64 {
    let trace: f64 = weighted(statistics).map(|(weight, covariance)| weight * covariance.trace()).sum();
    trace / statistics.dim() as f64
}

impl Scores {
    fn bytes(dim: usize, classes: usize) -> u64 {
        8u64.saturating_mul((dim as u64).saturating_add(2)).saturating_mul(classes as u64)
    }

    fn reserve(statistics: &ClassStatistics, budget: &Budget) -> Result<Reservation> {
        Ok(budget.reserve(Self::bytes(statistics.dim(), statistics.len()), "a classifier")?)
    }

    fn new(
        statistics: &ClassStatistics,
        weights: DMatrix<f64>,
        bias: DVector<f64>,
        held: Reservation,
    ) -> Result<Self> {
        Ok(Self { labels: statistics.iter().map(|(label, _)| label).collect(), weights, bias, _held: held })
    }

    /// Scores of features `[n, d]`, row-major `[n, C]`.
    fn scores(&self, features: &[f64]) -> Vec<f64> {
        let features = algebra::columns(features, self.weights.nrows());
        let mut scores = algebra::product(algebra::t(&self.weights), features);
        scores.column_iter_mut().for_each(|mut column| column += &self.bias);
        scores.data.into()
    }
}

/// How to measure how near a feature is to a class mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Metric {
    /// The cosine of the angle between them, as in the reference.
    #[default]
    Cosine,
    /// The Euclidean distance.
    Euclidean,
}

/// Options of [`Ncm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct NcmOptions {
    /// What is near.
    pub metric: Metric,
    /// Class probabilities.
    pub prior: Prior,
}

impl NcmOptions {
    setters! {
        /// With this metric.
        with_metric: metric: Metric,
        /// With these class probabilities.
        with_prior: prior: Prior,
    }
}

/// Nearest class mean.
#[derive(Debug)]
pub struct Ncm {
    scores: Scores,
    metric: Metric,
}

impl Ncm {
    /// From class means.
    ///
    /// # Errors
    /// When there is no class or the budget has no room.
    pub fn new(statistics: &ClassStatistics, options: NcmOptions, budget: &Budget) -> Result<Self> {
        let NcmOptions { metric, prior } = options;
        statistics.expect(statistics.dim(), "the statistics")?;
        let held = Scores::reserve(statistics, budget)?;
        let mut weights = means(statistics);
        let mut bias = DVector::from_vec(prior.logarithms(statistics));
        for (mut mean, bias) in weights.column_iter_mut().zip(bias.iter_mut()) {
            match metric {
                Metric::Cosine => mean /= mean.norm().max(1e-12),
                // |x − μ|² without |x|², which is the same for all classes.
                Metric::Euclidean => *bias -= 0.5 * mean.norm_squared(),
            }
        }
        Ok(Self { scores: Scores::new(statistics, weights, bias, held)?, metric })
    }

    /// What it takes for statistics of this size.
    pub fn room(extent: &Extent) -> Room {
        let held = Scores::bytes(extent.dim, extent.classes);
        Room { build: held, held, feature: 8u64.saturating_mul(extent.dim as u64), score: 0 }
    }
}

impl Classifier for Ncm {
    fn dim(&self) -> usize {
        self.scores.weights.nrows()
    }

    fn labels(&self) -> &[u32] {
        &self.scores.labels
    }

    fn scores_f64(&self, features: &[f64], budget: &Budget) -> Result<Vec<f64>> {
        let x = columns(features, self.dim())?;
        if self.metric == Metric::Euclidean {
            return Ok(self.scores.scores(features));
        }
        let _held = budget.reserve(8 * features.len() as u64, FEATURES)?;
        let mut x = x.into_owned();
        x.column_iter_mut().for_each(|mut column| column /= column.norm().max(1e-12));
        Ok(self.scores.scores(x.as_slice()))
    }
}

/// Options of [`Lda`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct LdaOptions {
    /// How the average covariance is regularised: [`Ridge::relative`] of 0.1 unless set.
    pub ridge: Ridge,
    /// Class probabilities.
    pub prior: Prior,
    /// Whether classes of few samples are credited with the uncertainty of their means; true unless set. Without effect
    /// if all classes have the same number of samples.
    pub uncertainty: bool,
}

impl LdaOptions {
    /// The options of the reference: `0.9·Σ̄ + 0.1·I`.
    pub fn reference() -> Self {
        Self::default().with_ridge(Ridge::identity(0.1)).with_uncertainty(false)
    }

    setters! {
        /// With the average covariance regularised like this.
        with_ridge: ridge: Ridge,
        /// With these class probabilities.
        with_prior: prior: Prior,
        /// With or without credit for the uncertainty of means.
        with_uncertainty: uncertainty: bool,
    }
}

impl Default for LdaOptions {
    fn default() -> Self {
        Self { ridge: Ridge::relative(0.1), prior: Prior::Uniform, uncertainty: true }
    }
}

/// Linear discriminant analysis: one covariance for all classes.
///
/// ```
/// use residua_compensate::classify::{Classifier, Lda, LdaOptions};
/// use residua_compensate::{ClassStatistics, MemorySource, StatisticsOptions};
/// use residua_memory::Budget;
///
/// # fn main() -> residua_compensate::Result<()> {
/// let budget = Budget::new(16 << 20);
/// let features = [0.0, 1.0, 1.0, 0.0, 8.0, 9.0, 9.0, 8.0f32];
/// let mut source = MemorySource::labelled(2, &features, &[3, 3, 5, 5])?;
/// let statistics = ClassStatistics::collect(&mut source, &StatisticsOptions::default(), &budget)?;
/// let lda = Lda::new(&statistics, LdaOptions::default(), &budget)?;
/// assert_eq!(lda.predict(&[1.0, 2.0, 7.0, 7.0], &budget)?, [3, 5]);
/// assert_eq!(lda.predict_source(&mut source, &budget)?, [3, 3, 5, 5]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Lda(Scores);

impl Lda {
    /// From class means and the average covariance.
    ///
    /// # Errors
    /// When there is no class, the regularised covariance is singular, or the budget has no room.
    pub fn new(statistics: &ClassStatistics, options: LdaOptions, budget: &Budget) -> Result<Self> {
        statistics.expect(statistics.dim(), "the statistics")?;
        let _scratch = budget.reserve(Covariance::dense_bytes(statistics.dim()), "averaging covariances")?;
        Self::with_covariance(statistics, pooled(statistics), options, budget)
    }

    /// As [`new`](Self::new), from classes that no task has moved yet. Each item is a task's statistics and the map from
    /// its feature space to the present one: [`then`](AffineMap::then) of all maps since that task, or `None` for the
    /// last task. Averages covariances before it moves them, so a task costs one product of matrices, however many
    /// classes it has.
    ///
    /// # Errors
    /// As [`new`](Self::new); also when dimensions differ or two tasks have a class in common.
    pub fn of_tasks(
        tasks: &[(&ClassStatistics, Option<&AffineMap>)],
        options: LdaOptions,
        budget: &Budget,
    ) -> Result<Self> {
        let dim = tasks.first().map_or(0, |(statistics, _)| statistics.dim());
        let _scratch = budget.reserve(3 * Covariance::dense_bytes(dim), "averaging covariances")?;
        // The weight of a task in the average, as in `pooled`.
        let freedom = |statistics: &ClassStatistics| statistics.samples() - statistics.len() as u64;
        let all: u64 = tasks.iter().map(|(statistics, _)| freedom(statistics)).sum();
        let classes: usize = tasks.iter().map(|(statistics, _)| statistics.len()).sum();
        let mut covariance = DMatrix::zeros(dim, dim);
        let mut heads = ClassStatistics::new(dim);
        for &(statistics, map) in tasks.iter().filter(|(statistics, _)| !statistics.is_empty()) {
            same_dimension("a task's statistics", statistics.dim(), dim)?;
            let weight = match all {
                0 => statistics.len() as f64 / classes as f64,
                _ => freedom(statistics) as f64 / all as f64,
            };
            // The map moves the average class, and means without covariances.
            let mut average = ClassStatistics::new(dim);
            let pooled = Covariance::packed(&pooled(statistics), Precision::F64)?;
            average.insert(0, ClassGaussian::new(1, DVector::zeros(dim), pooled, budget)?)?;
            if let Some(map) = map {
                average = map.apply(&average, budget)?;
            }
            average.iter().for_each(|(_, class)| class.covariance().add_lower_to(weight, &mut covariance));
            for (label, class) in statistics.iter() {
                let mean = match map {
                    Some(map) => map.matrix() * class.mean() + map.shift(),
                    None => class.mean().clone(),
                };
                let head = ClassGaussian::new(class.count(), mean, Covariance::isotropic(dim, 0.0), budget)?;
                if heads.insert(label, head)?.is_some() {
                    let problem = format!("two tasks have class {label}: merge their statistics first");
                    return Err(CompensateError::Statistics { problem });
                }
            }
        }
        Self::with_covariance(&heads, covariance, options, budget)
    }

    /// From means and the average covariance (lower triangle).
    fn with_covariance(
        statistics: &ClassStatistics,
        mut covariance: DMatrix<f64>,
        LdaOptions { ridge, prior, uncertainty }: LdaOptions,
        budget: &Budget,
    ) -> Result<Self> {
        statistics.expect(statistics.dim(), "the statistics")?;
        ridge.check()?;
        let dim = statistics.dim();
        let held = Scores::reserve(statistics, budget)?;
        let scratch = 2 * Covariance::dense_bytes(dim) + Scores::bytes(dim, statistics.len());
        let counts = if uncertainty { Counts::unequal(statistics) } else { None };
        let more = if counts.is_some() { Covariance::dense_bytes(dim) } else { 0 };
        let _scratch = budget.reserve(scratch + more, "building the linear discriminant")?;
        let average = counts.map(|counts| (counts, covariance.clone()));
        let diagonal = ridge.diagonal(covariance.trace(), dim);
        covariance *= ridge.covariance;
        for i in 0..dim {
            covariance[(i, i)] += diagonal;
        }
        let cholesky = Cholesky::new(&covariance, "the average class covariance", "use a larger ridge")?;
        let means = means(statistics);
        let mut weights = means.clone();
        cholesky.solve(&mut weights);
        let mut bias = DVector::from_vec(prior.logarithms(statistics));
        for (class, bias) in bias.iter_mut().enumerate() {
            *bias -= 0.5 * means.column(class).dot(&weights.column(class));
        }
        if let Some((counts, mut average)) = average {
            algebra::mirror(&mut average);
            cholesky.solve(&mut average);
            for ((_, class), bias) in statistics.iter().zip(bias.iter_mut()) {
                *bias += 0.5 * average.trace() * counts.excess(class.count());
            }
        }
        Ok(Self(Scores::new(statistics, weights, bias, held)?))
    }

    /// What it takes for statistics of this size.
    pub fn room(extent: &Extent) -> Room {
        let (held, dense) = (Scores::bytes(extent.dim, extent.classes), Covariance::dense_bytes(extent.dim));
        let matrices = if extent.equal { 3 } else { 4 };
        Room {
            build: (matrices * dense).saturating_add(held).saturating_add(held),
            held,
            feature: 0,
            score: 0,
        }
    }
}

impl Classifier for Lda {
    fn dim(&self) -> usize {
        self.0.weights.nrows()
    }

    fn labels(&self) -> &[u32] {
        &self.0.labels
    }

    fn scores_f64(&self, features: &[f64], _: &Budget) -> Result<Vec<f64>> {
        columns(features, self.dim())?;
        Ok(self.0.scores(features))
    }
}
