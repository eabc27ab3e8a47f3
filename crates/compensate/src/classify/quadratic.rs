//! Quadratic discriminant analysis: a covariance for each class.

use nalgebra::{DMatrix, DMatrixView, DVector};
use rayon::prelude::*;
use residua_memory::{Budget, Reservation};

use super::counts::Counts;
use super::linear::{mean_variance, pooled};
use super::{Classifier, FEATURES, Pooling, Prior, Ridge, Room};
use crate::Result;
use crate::algebra::{self, Cholesky};
use crate::error::check;
use crate::setters::setters;
use crate::source::columns;
use crate::statistics::{ClassGaussian, ClassStatistics, Covariance, Extent, Form, workers};

/// Options of [`Qda`]: `Σ_c ← ridge.covariance·Σ_c + pooled·Σ̄ + (ridge.identity + ridge.trace·tr(Σ_c)/d +
/// pooled_trace·tr(Σ̄)/d)·I`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct QdaOptions {
    /// Weights of a class's covariance and of the identity: [`Ridge::shrink`] of 0.1 unless set.
    pub ridge: Ridge,
    /// The weight of the average covariance Σ̄: 0 unless set.
    pub pooled: f64,
    /// The weight of the identity, in units of the mean variance of Σ̄: 0 unless set.
    pub pooled_trace: f64,
    /// Keeps only this many directions of largest variance of each class; Σ̄ stays whole. All unless set.
    pub rank: Option<usize>,
    /// Class probabilities.
    pub prior: Prior,
    /// Whether to account for classes of few samples; true unless set. Without effect if all classes have the same number
    /// of samples. Otherwise the classes of fewer samples are credited with the uncertainty of their means. If `pooled` is
    /// 0, every `Σ_c` also gives a part of its weight to `½·(Σ̄ + tr(Σ̄)/d·I)`: the smaller the smallest class is, the more.
    pub uncertainty: bool,
}

impl QdaOptions {
    /// The options of the reference: `0.2·Σ_c + 2·Σ̄ + 0.5·I`.
    pub fn reference() -> Self {
        let ridge = Ridge { covariance: 0.2, identity: 0.5, trace: 0.0 };
        Self::default().with_ridge(ridge).with_pooled(2.0).with_uncertainty(false)
    }

    /// `own·Σ_c + (1 − own)·Σ̄ + ridge·tr(Σ̄)/d·I`.
    pub fn pooled(Pooling { own, ridge }: Pooling) -> Self {
        Self::default()
            .with_ridge(Ridge::relative(0.0).with_covariance(own))
            .with_pooled(1.0 - own)
            .with_pooled_trace(ridge)
    }

    setters! {
        /// With these weights of a class's covariance and of the identity.
        with_ridge: ridge: Ridge,
        /// With this weight of the average covariance.
        with_pooled: pooled: f64,
        /// With this weight of the identity, in units of the mean variance of the average covariance.
        with_pooled_trace: pooled_trace: f64,
        /// With this many directions of each class.
        with_rank: rank: Some(usize),
        /// With these class probabilities.
        with_prior: prior: Prior,
        /// With or without regard to classes of few samples.
        with_uncertainty: uncertainty: bool,
    }
}

impl Default for QdaOptions {
    fn default() -> Self {
        let (ridge, prior) = (Ridge::shrink(0.1), Prior::Uniform);
        Self { ridge, pooled: 0.0, pooled_trace: 0.0, rank: None, prior, uncertainty: true }
    }
}

/// Quadratic (regularised Gaussian) discriminant analysis.
///
/// It keeps no inverse: every call of [`scores`](Classifier::scores) decomposes the matrix of each class, a few at a time.
/// That costs little beside the products with a thousand features. Where the Woodbury identity serves, with
/// `pooled` 0 or `ridge.trace` 0, a class that is stored as a factor of r columns stays one: it takes an r × r
/// decomposition, and r·d operations for each feature instead of d².
#[derive(Debug)]
pub struct Qda {
    pub(super) statistics: ClassStatistics,
    pub(super) labels: Vec<u32>,
    pub(super) ridge: Ridge,
    pub(super) prior: Vec<f64>,
    pub(super) base: Base,
    _held: Reservation,
}

/// The part that the matrices of all classes share.
#[derive(Debug)]
pub(super) enum Base {
    /// Nothing.
    None,
    /// `pooled·Σ̄`, lower triangle, not yet with a diagonal.
    Pooled(DMatrix<f64>),
    /// `pooled·Σ̄ + identity·I`: everything but `Σ_c` itself.
    Whole(DMatrix<f64>),
}

/// A class in coordinates in which all of its matrix but one factor is the identity: `Σ_c ← F·Fᵀ + I`.
struct Whitened {
    /// `F [d, r]`.
    factor: DMatrix<f64>,
    /// Features minus the class mean `[d, n]`.
    features: DMatrix<f64>,
    /// Of the change of coordinates, squared.
    log_determinant: f64,
}

/// The shared matrix of [`Base::Whole`] decomposed, and the features in coordinates in which it is `I`.
struct Common {
    cholesky: Cholesky,
    features: DMatrix<f64>,
}

pub(super) const REMEDY: &str = "use a larger ridge";
/// Bytes of a class beside its matrix.
const CLASS: u64 = 64;

impl Qda {
    /// From class means and covariances. It shares them with `statistics`, unless a rank is set.
    ///
    /// # Errors
    /// When there is no class, a weight is negative, or the budget has no room.
    pub fn new(statistics: &ClassStatistics, options: QdaOptions, budget: &Budget) -> Result<Self> {
        let QdaOptions { mut ridge, pooled: mut pooled_weight, pooled_trace, rank, prior, uncertainty } =
            options;
        statistics.expect(statistics.dim(), "the statistics")?;
        ridge.check()?;
        for (name, value) in [("pooled", pooled_weight), ("pooled_trace", pooled_trace)] {
            check(value >= 0.0 && value.is_finite(), name, value, "a finite number, 0 or more")?;
        }
        let dim = statistics.dim();
        if pooled_trace > 0.0 {
            ridge.identity += pooled_trace * mean_variance(statistics);
        }
        let counts = if uncertainty { Counts::unequal(statistics) } else { None };
        // The average covariance as it is and whitened, the shared matrix decomposed, and a class's matrix and solution.
        let scratch = if counts.is_some() { 7 * Covariance::dense_bytes(dim) } else { 0 };
        let _scratch = budget.reserve(scratch, "weighing classes of few samples")?;
        let average = counts.map(|counts| {
            let mut average = pooled(statistics);
            algebra::mirror(&mut average);
            let variance = average.trace() / dim as f64;
            // Who chose a weight of Σ̄ needs no more of it.
            let lost = if pooled_weight > 0.0 { 0.0 } else { ridge.covariance * (1.0 - counts.share(dim)) };
            // All classes get the same diagonal, so that what they share is decomposed once.
            let identity = ridge.identity + (ridge.trace + 0.5 * lost) * variance;
            ridge = Ridge { covariance: ridge.covariance - lost, identity, trace: 0.0 };
            pooled_weight += 0.5 * lost;
            (counts, average)
        });
        let mut held = budget.reserve(CLASS * statistics.len() as u64, "a classifier")?;
        let base = if pooled_weight == 0.0 {
            Base::None
        } else {
            held.grow(Covariance::dense_bytes(statistics.dim()), "the average covariance")?;
            let mut average = pooled(statistics) * pooled_weight;
            if ridge.trace == 0.0 {
                (0..average.nrows()).for_each(|i| average[(i, i)] += ridge.identity);
                Base::Whole(average)
            } else {
                Base::Pooled(average)
            }
        };
        let labels = statistics.iter().map(|(label, _)| label).collect();
        let prior = prior.logarithms(statistics);
        let statistics = match rank {
            None => statistics.clone(),
            Some(rank) => truncated(statistics, rank, budget)?,
        };
        let mut new = Self { statistics, labels, ridge, prior, base, _held: held };
        if let Some((counts, average)) = average {
            new.credit(counts, &average)?;
        }
        Ok(new)
    }

    /// What it takes for statistics of this size; `rank` says whether a rank is set.
    pub fn room(extent: &Extent, rank: bool) -> Room {
        let dense = Covariance::dense_bytes(extent.dim);
        // A factor of d columns has twice the numbers of a triangle.
        let truncated = if rank { extent.bytes.saturating_mul(2) } else { 0 };
        let held = truncated.saturating_add(dense + CLASS * extent.classes as u64);
        let weighing = if extent.equal { 0 } else { 7 };
        let truncating = if rank { 1 + algebra::EIGEN } else { 0 };
        let build = held.saturating_add((weighing + truncating) * dense);
        Room { build, held, feature: 24u64.saturating_mul(extent.dim as u64), score: 4 * dense }
    }

    /// Adds to each class's score what the uncertainty of its mean takes off on average; `average` is Σ̄, whole.
    fn credit(&mut self, counts: Counts, average: &DMatrix<f64>) -> Result<()> {
        let Base::Whole(base) = &self.base else { return Ok(()) };
        let cholesky = Cholesky::new(base, "the average class covariance", REMEDY)?;
        // In coordinates in which the shared matrix is the identity.
        let mut whitened = average.clone();
        cholesky.whiten(&mut whitened);
        whitened.transpose_mut();
        cholesky.whiten(&mut whitened);
        let mut credits = Vec::with_capacity(self.prior.len());
        for (label, class) in self.statistics.iter() {
            let excess = counts.excess(class.count());
            let spread =
                if excess == 0.0 { 0.0 } else { self.spread(label, class, average, &cholesky, &whitened)? };
            credits.push(0.5 * excess * spread);
        }
        self.prior.iter_mut().zip(credits).for_each(|(prior, credit)| *prior += credit);
        Ok(())
    }

    /// `tr(M⁻¹·Σ̄)` with a class's matrix M; `whitened` is Σ̄ in coordinates in which the shared matrix is the identity.
    fn spread(
        &self,
        label: u32,
        class: &ClassGaussian,
        average: &DMatrix<f64>,
        cholesky: &Cholesky,
        whitened: &DMatrix<f64>,
    ) -> Result<f64> {
        let what = format!("the covariance of class {label}");
        let Some(mut factor) = class.covariance().pure_factor().filter(|factor| factor.ncols() < class.dim())
        else {
            let mut spread = average.clone();
            Cholesky::new(&self.dense(class), &what, REMEDY)?.solve(&mut spread);
            return Ok(spread.trace());
        };
        // Woodbury: (I + F·Fᵀ)⁻¹ = I − F·(I + Fᵀ·F)⁻¹·Fᵀ.
        factor *= self.ridge.covariance.sqrt();
        cholesky.whiten(&mut factor);
        let mut small = algebra::product(algebra::t(&factor), algebra::n(&factor));
        (0..small.nrows()).for_each(|i| small[(i, i)] += 1.0);
        let moved = algebra::product(algebra::n(whitened), algebra::n(&factor));
        let mut inside = algebra::product(algebra::t(&factor), algebra::n(&moved));
        Cholesky::new(&small, &what, REMEDY)?.solve(&mut inside);
        Ok(whitened.trace() - inside.trace())
    }

    /// Scores of one class.
    fn score(
        &self,
        label: u32,
        class: &ClassGaussian,
        x: DMatrixView<'_, f64>,
        common: Option<&Common>,
    ) -> Result<DVector<f64>> {
        let what = || format!("the covariance of class {label}");
        if let Some(Whitened { factor, features, log_determinant }) = self.whiten(class, x, common) {
            // Woodbury: zᵀ(I + F·Fᵀ)⁻¹z = |z|² − |L⁻¹·Fᵀz|² with L·Lᵀ = I + Fᵀ·F, whose determinant is that of I + F·Fᵀ.
            let mut small = algebra::product(algebra::t(&factor), algebra::n(&factor));
            (0..small.nrows()).for_each(|i| small[(i, i)] += 1.0);
            let cholesky = Cholesky::new(&small, &what(), REMEDY)?;
            let mut inside = algebra::product(algebra::t(&factor), algebra::n(&features));
            cholesky.whiten(&mut inside);
            let log_determinant = log_determinant + cholesky.log_determinant();
            let squares = features.column_iter().zip(inside.column_iter());
            let squares = squares.map(|(z, inside)| z.norm_squared() - inside.norm_squared());
            return Ok(DVector::from_iterator(x.ncols(), squares.map(|q| -0.5 * (q + log_determinant))));
        }
        let cholesky = Cholesky::new(&self.dense(class), &what(), REMEDY)?;
        let mut z = centred(x, class.mean());
        cholesky.whiten(&mut z);
        let log_determinant = cholesky.log_determinant();
        let squares = z.column_iter().map(|z| z.norm_squared());
        Ok(DVector::from_iterator(x.ncols(), squares.map(|q| -0.5 * (q + log_determinant))))
    }

    /// The class in whitened coordinates, if Woodbury's identity saves work there and stays precise.
    fn whiten(
        &self,
        class: &ClassGaussian,
        x: DMatrixView<'_, f64>,
        common: Option<&Common>,
    ) -> Option<Whitened> {
        let covariance = class.covariance();
        let dim = covariance.dim();
        let mut factor = covariance.factor_matrix().filter(|f| f.ncols() < dim)?;
        factor *= self.ridge.covariance.sqrt();
        if let Some(Common { cholesky, features }) = common {
            if !covariance.is_pure_factor() {
                return None;
            }
            cholesky.whiten(&mut factor);
            let mut mean = DMatrix::from_column_slice(dim, 1, class.mean().as_slice());
            cholesky.whiten(&mut mean);
            let features = centred(features.as_view(), &mean.column(0).into_owned());
            return Some(Whitened { factor, features, log_determinant: cholesky.log_determinant() });
        }
        let (Base::None, Form::Factor { diagonal, .. }) = (&self.base, &covariance.form) else { return None };
        let trace = covariance.trace();
        let ridge = self.ridge.diagonal(trace, dim);
        let variances = DVector::from_fn(dim, |i, _| self.ridge.covariance * diagonal.get(i) + ridge);
        // The difference of two squares loses as many digits as the smallest variance is below the largest.
        if variances.min() < 1e-6 * self.ridge.covariance * trace {
            return None;
        }
        let deviations = variances.map(f64::sqrt);
        let mut features = centred(x, class.mean());
        features.column_iter_mut().for_each(|mut column| column.component_div_assign(&deviations));
        factor.column_iter_mut().for_each(|mut column| column.component_div_assign(&deviations));
        Some(Whitened { factor, features, log_determinant: variances.map(f64::ln).sum() })
    }

    /// The class's matrix, whole: lower triangle.
    fn dense(&self, class: &ClassGaussian) -> DMatrix<f64> {
        let dim = class.dim();
        let (mut matrix, diagonal) = match &self.base {
            Base::Whole(base) => (base.clone(), 0.0),
            Base::Pooled(base) => (base.clone(), self.ridge.diagonal(class.covariance().trace(), dim)),
            Base::None => (DMatrix::zeros(dim, dim), self.ridge.diagonal(class.covariance().trace(), dim)),
        };
        class.covariance().add_lower_to(self.ridge.covariance, &mut matrix);
        (0..dim).for_each(|i| matrix[(i, i)] += diagonal);
        matrix
    }
}

/// Statistics with the `rank` directions of largest variance of each class.
fn truncated(statistics: &ClassStatistics, rank: usize, budget: &Budget) -> Result<ClassStatistics> {
    let scratch = (1 + algebra::EIGEN) * Covariance::dense_bytes(statistics.dim());
    statistics.map(scratch, budget, |_, class| {
        let covariance = class.covariance().truncate(rank, class.covariance().precision())?;
        ClassGaussian::new(class.count(), class.mean().clone(), covariance, budget)
    })
}

/// `x − mean`, column by column.
pub(super) fn centred(x: DMatrixView<'_, f64>, mean: &DVector<f64>) -> DMatrix<f64> {
    let mut x = x.into_owned();
    x.column_iter_mut().for_each(|mut column| column -= mean);
    x
}

impl Classifier for Qda {
    fn dim(&self) -> usize {
        self.statistics.dim()
    }

    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn scores_f64(&self, features: &[f64], budget: &Budget) -> Result<Vec<f64>> {
        let dim = self.dim();
        let x = columns(features, dim)?;
        let count = x.ncols();
        let size = 8 * features.len() as u64;
        let _held = budget.reserve(size + Covariance::dense_bytes(dim), FEATURES)?;
        let common = match &self.base {
            Base::Whole(base) => {
                let cholesky = Cholesky::new(base, "the average class covariance", REMEDY)?;
                let mut features = x.into_owned();
                cholesky.whiten(&mut features);
                Some(Common { cholesky, features })
            }
            _ => None,
        };
        // For each class the centred features, its matrix, and the decomposition.
        let scratch = 2 * size + 3 * Covariance::dense_bytes(dim);
        let classes: Vec<_> = self.statistics.iter().collect();
        let mut scores = DMatrix::zeros(classes.len(), count);
        let mut next = 0;
        for group in classes.chunks(workers(scratch, budget)) {
            let _scratch = budget.reserve(scratch * group.len() as u64, "scoring classes")?;
            let rows: Vec<_> = group
                .par_iter()
                .map(|(label, class)| self.score(*label, class, x, common.as_ref()))
                .collect();
            for row in rows {
                scores.set_row(next, &row?.add_scalar(self.prior[next]).transpose());
                next += 1;
            }
        }
        Ok(scores.data.into())
    }
}
