//! Pooled QDA with a few directions of each class.

use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;
use residua_memory::{Budget, Reservation};

use super::quadratic::{Base, REMEDY, centred};
use super::{Classifier, FEATURES, Qda, Room};
use crate::Result;
use crate::algebra::{self, Cholesky};
use crate::error::check;
use crate::source::columns;
use crate::statistics::{ClassGaussian, Covariance, Extent, Precision, workers};

const WHAT: &str = "a classifier";

/// [`Qda`] that keeps of each class the directions in which it has most variance beside the average class;
/// [`Qda::low_rank`] makes it.
///
/// In coordinates in which the part that the matrices of all classes share is the identity, the matrix of a class is I + K.
/// Of K's eigenvalues the r largest stay, and each other one becomes their mean. So a class takes r·d numbers. A feature
/// takes d² operations for the change of coordinates, and then r·d for each class.
#[derive(Debug)]
pub struct LowRankQda {
    labels: Vec<u32>,
    /// Of the shared part.
    cholesky: Cholesky,
    classes: Vec<Class>,
    _held: Reservation,
}

/// A class, in coordinates in which the shared part is the identity.
#[derive(Debug)]
struct Class {
    mean: DVector<f64>,
    /// The squared distance of a feature z from the mean is `scale·|z|² − |directionsᵀ·z|²`; `[d, r]`.
    directions: DMatrix<f32>,
    scale: f64,
    /// The part of the score that is the same for all features.
    bias: f64,
}

impl Class {
    fn bytes(dim: usize, rank: usize) -> u64 {
        (dim as u64).saturating_mul(8 + 4 * rank.min(dim) as u64).saturating_add(128)
    }

    /// `own` is the weight of the class's covariance; `bias` the score beside the Gaussian.
    fn new(class: &ClassGaussian, own: f64, bias: f64, rank: usize, shared: &Cholesky) -> Result<Self> {
        let dim = class.dim();
        let mut mean = DMatrix::from_column_slice(dim, 1, class.mean().as_slice());
        shared.whiten(&mut mean);
        let k = match class.covariance().pure_factor().filter(|factor| factor.ncols() < dim) {
            Some(mut factor) => {
                factor *= own.sqrt();
                shared.whiten(&mut factor);
                Covariance::factor(factor, Precision::F64)
            }
            None => {
                let mut matrix = class.covariance().to_dense() * own;
                shared.whiten(&mut matrix);
                matrix.transpose_mut();
                shared.whiten(&mut matrix);
                Covariance::packed(&matrix, Precision::F64)?
            }
        };
        // Columns √λ·v.
        let mut kept = k.truncate(rank, Precision::F64)?.factor_matrix().unwrap_or_default();
        let values: Vec<f64> = kept.column_iter().map(|column| column.norm_squared()).collect();
        let others = (dim - values.len()) as f64;
        let rest = ((k.trace() - values.iter().sum::<f64>()) / others.max(1.0)).max(0.0);
        let scale = 1.0 / (1.0 + rest);
        for (mut column, value) in kept.column_iter_mut().zip(&values) {
            // What v takes off the square, if it is not there already: a mean may pass the smallest value by rounding.
            let less = (scale - 1.0 / (1.0 + value)).max(0.0);
            column *= if *value > 0.0 { (less / value).sqrt() } else { 0.0 };
        }
        let logarithms = values.iter().map(|value| value.ln_1p()).sum::<f64>() + others * rest.ln_1p();
        Ok(Self {
            mean: mean.column(0).into_owned(),
            directions: kept.map(|number| number as f32),
            scale,
            bias: bias - 0.5 * (shared.log_determinant() + logarithms),
        })
    }

    /// Scores of features `[d, n]`.
    fn scores(&self, features: &DMatrix<f64>) -> DVector<f64> {
        let z = centred(features.as_view(), &self.mean);
        let along = algebra::product(algebra::t(&self.directions.map(f64::from)), algebra::n(&z));
        let squares = z.column_iter().zip(along.column_iter());
        let squares = squares.map(|(z, along)| self.scale * z.norm_squared() - along.norm_squared());
        DVector::from_iterator(z.ncols(), squares.map(|square| self.bias - 0.5 * square))
    }
}

impl Qda {
    /// The same classifier with `rank` directions of each class. It no longer needs the statistics.
    ///
    /// # Errors
    /// When the identity's weight differs from class to class (`ridge.trace` is not 0), the part that all classes share is
    /// singular, or the budget has no room.
    pub fn low_rank(&self, rank: usize, budget: &Budget) -> Result<LowRankQda> {
        check(self.ridge.trace == 0.0, "ridge.trace", self.ridge.trace, "0 for a low rank")?;
        let (dim, count) = (self.dim(), self.labels.len());
        let dense = Covariance::dense_bytes(dim);
        let held = dense.saturating_add(Class::bytes(dim, rank).saturating_mul(count as u64));
        let held = budget.reserve(held, WHAT)?;
        let cholesky = {
            let _scratch = budget.reserve(dense, WHAT)?;
            let diagonal = || DMatrix::from_diagonal_element(dim, dim, self.ridge.identity);
            let shared = if let Base::Whole(base) = &self.base { base.clone() } else { diagonal() };
            Cholesky::new(&shared, "the average class covariance", REMEDY)?
        };
        let all: Vec<_> = self.statistics.iter().zip(&self.prior).collect();
        let (scratch, mut classes) = (Self::LOW_RANK * dense, Vec::with_capacity(count));
        for group in all.chunks(workers(scratch, budget)) {
            let _scratch = budget.reserve(scratch * group.len() as u64, WHAT)?;
            let done: Vec<_> = group
                .par_iter()
                .map(|((_, class), prior)| Class::new(class, self.ridge.covariance, **prior, rank, &cholesky))
                .collect();
            for class in done {
                classes.push(class?);
            }
        }
        Ok(LowRankQda { labels: self.labels.clone(), cholesky, classes, _held: held })
    }

    /// Square matrices that a class takes to be cut to a low rank.
    const LOW_RANK: u64 = 3 + algebra::EIGEN;
}

impl LowRankQda {
    /// What it takes for statistics of this size.
    pub fn room(extent: &Extent, rank: usize) -> Room {
        let dense = Covariance::dense_bytes(extent.dim);
        let classes = Class::bytes(extent.dim, rank).saturating_mul(extent.classes as u64);
        let held = dense.saturating_add(classes);
        let build = Qda::room(extent, false).build.saturating_add(held);
        let build = build.saturating_add(Qda::LOW_RANK * dense);
        let score = (8 * rank.min(extent.dim) as u64).saturating_mul(extent.dim as u64);
        Room { build, held, feature: 32u64.saturating_mul(extent.dim as u64), score }
    }
}

impl Classifier for LowRankQda {
    fn dim(&self) -> usize {
        self.classes.first().map_or(0, |class| class.mean.len())
    }

    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn scores_f64(&self, features: &[f64], budget: &Budget) -> Result<Vec<f64>> {
        let size = 8 * features.len() as u64;
        let _held = budget.reserve(size, FEATURES)?;
        let mut features = columns(features, self.dim())?.into_owned();
        self.cholesky.whiten(&mut features);
        // Centred features, directions, and the product of both.
        let rank = self.classes.iter().map(|class| class.directions.ncols()).max().unwrap_or(0) as u64;
        let scratch = size.saturating_add(8 * rank * self.dim() as u64).saturating_add(size);
        let (mut scores, mut next) = (DMatrix::zeros(self.classes.len(), features.ncols()), 0);
        for group in self.classes.chunks(workers(scratch, budget)) {
            let _scratch = budget.reserve(scratch * group.len() as u64, "scoring classes")?;
            let rows: Vec<_> = group.par_iter().map(|class| class.scores(&features)).collect();
            for row in rows {
                scores.set_row(next, &row.transpose());
                next += 1;
            }
        }
        Ok(scores.data.into())
    }
}
