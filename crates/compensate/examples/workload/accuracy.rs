//! How far the moments of a moved class are from those of very many points.

use nalgebra::{DMatrix, DVector};
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use residua_compensate::*;
use residua_memory::Budget;

/// Points that are moved at a time.
const CHUNK: usize = 4096;

/// A mean `[d]` and a covariance `[d, d]`.
pub(crate) type Moments = (DVector<f64>, DMatrix<f64>);

/// Errors of one class: of the mean over how far it moved, of the covariance relative to it (Frobenius norms).
#[derive(Debug, serde::Serialize)]
pub(crate) struct Errors {
    /// Of the compensator.
    pub(crate) exact: [f64; 2],
    /// Of plain draws.
    pub(crate) draws: [f64; 2],
    /// Of the reference itself: half of the difference of its two halves.
    pub(crate) reference: [f64; 2],
}

/// Errors of `exact` for the class of these samples `[d, n]`, measured by moving points with `precise`: twice
/// `points` whitened draws are the reference, `draws` plain ones are compared with it too.
pub(crate) fn of_class(
    exact: &dyn Compensator,
    precise: &dyn Compensator,
    samples: &DMatrix<f64>,
    points: usize,
    draws: usize,
    budget: &Budget,
) -> Result<Errors> {
    let dim = samples.nrows();
    let mut builder = StatisticsBuilder::new(dim, budget);
    builder.add(samples.map(|v| v as f32).as_slice(), &vec![0; samples.ncols()])?;
    let stale = builder.finish(Storage::Smallest, Precision::F64)?;
    let class = stale.get(0).ok_or(CompensateError::NoClass(0))?;
    // Centred samples are a factor of their covariance; more than d of them make it regular.
    let factor = if samples.ncols() <= dim {
        let mut factor = samples.clone();
        factor.column_iter_mut().for_each(|mut column| column -= class.mean());
        factor / ((samples.ncols() - 1) as f64).sqrt()
    } else {
        let what = || CompensateError::Singular { what: "a class covariance".into(), remedy: "more samples" };
        class.covariance().to_dense().cholesky().ok_or_else(what)?.unpack()
    };
    let moments = |base: DMatrix<f64>| moments(precise, class.mean(), &factor, &base, budget);
    let halves = [1, 2].map(|seed| moments(whitened(normal(factor.ncols(), points, seed))));
    let [first, second] = halves;
    let (first, second) = (first?, second?);
    let reference = ((&first.0 + &second.0) / 2.0, (&first.1 + &second.1) / 2.0);
    let drawn = moments(normal(factor.ncols(), draws, 3))?;
    let moved = exact.apply(&stale, budget)?;
    let moved = moved.get(0).ok_or(CompensateError::NoClass(0))?;
    let error = |found: &Moments| {
        let drift = (&reference.0 - class.mean()).norm();
        [(&found.0 - &reference.0).norm() / drift, (&found.1 - &reference.1).norm() / reference.1.norm()]
    };
    Ok(Errors {
        exact: error(&(moved.mean().clone(), moved.covariance().to_dense())),
        draws: error(&drawn),
        reference: error(&first),
    })
}

/// Moments of moved points `mean + factor·base`.
fn moments(
    compensator: &dyn Compensator,
    mean: &DVector<f64>,
    factor: &DMatrix<f64>,
    base: &DMatrix<f64>,
    budget: &Budget,
) -> Result<Moments> {
    let mut builder = StatisticsBuilder::new(mean.len(), budget);
    for first in (0..base.ncols()).step_by(CHUNK) {
        let count = CHUNK.min(base.ncols() - first);
        let mut points = factor * base.columns(first, count);
        points.column_iter_mut().for_each(|mut column| column += mean);
        let moved = compensator.apply_features(points.map(|v| v as f32).as_slice(), budget)?;
        builder.add(&moved, &vec![0; count])?;
    }
    let all = builder.finish(Storage::Packed, Precision::F64)?;
    let class = all.get(0).ok_or(CompensateError::NoClass(0))?;
    Ok((class.mean().clone(), class.covariance().to_dense()))
}

/// Standard normal numbers.
fn normal(rows: usize, cols: usize, seed: u64) -> DMatrix<f64> {
    let rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    DMatrix::from_iterator(rows, cols, StandardNormal.sample_iter(rng).take(rows * cols))
}

/// The same points with a mean of exactly 0 and a covariance of exactly I, so that what is left of their error
/// is that of higher moments.
fn whitened(mut points: DMatrix<f64>) -> DMatrix<f64> {
    let mean = points.column_mean();
    points.column_iter_mut().for_each(|mut column| column -= &mean);
    let covariance = &points * points.transpose() / (points.ncols() - 1) as f64;
    if let Some(cholesky) = covariance.cholesky() {
        cholesky.l_dirty().solve_lower_triangular_mut(&mut points);
    }
    points
}
