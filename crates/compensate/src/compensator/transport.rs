//! Gaussians through a function that is no affine map: by points that stand for the Gaussian.

use nalgebra::{DMatrix, DVector};
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use residua_memory::Budget;

use crate::Result;
use crate::algebra::{self, Cholesky};
use crate::statistics::{ClassGaussian, Covariance};

/// What compat mode adds to a covariance before it draws from it.
const DRAW_RIDGE: f64 = 1e-4;
/// How much of the old moments compat mode keeps.
const STALE: f64 = 0.1;
/// Directions whose variance is below this share of the largest are not varied.
const NEGLIGIBLE: f64 = 1e-13;

/// `count` standard normal points `[dim, count]`.
pub(super) fn draw(dim: usize, count: usize, seed: u64) -> DMatrix<f64> {
    let rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    DMatrix::from_iterator(dim, count, StandardNormal.sample_iter(rng).take(dim * count))
}

/// Bytes for one class of `points` points.
pub(super) fn scratch(dim: usize, points: usize) -> u64 {
    5 * Covariance::dense_bytes(dim) + 20 * (dim * points) as u64
}

/// Compat mode: moments of `f` over `base` points through the Cholesky factor, blended with the old ones.
pub(super) fn compat(
    class: &ClassGaussian,
    base: &DMatrix<f64>,
    f: impl Fn(&DMatrix<f32>) -> DMatrix<f32>,
    budget: &Budget,
) -> Result<ClassGaussian> {
    let mut covariance = class.covariance().to_dense();
    let mut ridged = covariance.clone();
    (0..class.dim()).for_each(|i| ridged[(i, i)] += DRAW_RIDGE);
    let cholesky = Cholesky::new(&ridged, "a class covariance", "store it at a higher precision")?;
    let mut points = algebra::product(algebra::n(&cholesky.lower()), algebra::n(base));
    points.column_iter_mut().for_each(|mut column| column += class.mean());
    let (mean, centred) = moments(&points, f);
    covariance *= STALE;
    let freedom = (base.ncols().max(2) - 1) as f64;
    algebra::add_gram(&mut covariance, (1.0 - STALE) / freedom, algebra::n(&centred));
    let mean = mean * (1.0 - STALE) + class.mean() * STALE;
    let covariance = Covariance::packed(&covariance, class.covariance().precision())?;
    ClassGaussian::new(class.count(), mean, covariance, budget)
}

/// Exact mode: symmetric cubature. For `Σ = F·Fᵀ` with r columns, the 2r points `μ ± √r·F·q_i` have exactly
/// this mean and covariance for every orthogonal matrix of columns `q_i`; as many such sets are taken as make
/// `least` points.
pub(super) fn exact(
    class: &ClassGaussian,
    least: usize,
    f: impl Fn(&DMatrix<f32>) -> DMatrix<f32>,
    budget: &Budget,
) -> Result<ClassGaussian> {
    let factor = factor(class.covariance())?;
    let (dim, rank) = factor.shape();
    let rotations = least.div_ceil(2 * rank.max(1)).max(1);
    let mut points = DMatrix::zeros(dim, 2 * rank * rotations);
    for rotation in 0..rotations {
        let rotated = algebra::product(algebra::n(&factor), algebra::n(&orthogonal(rank, rotation)));
        for (i, direction) in rotated.column_iter().enumerate() {
            let (at, step) = (2 * (rotation * rank + i), direction * (rank as f64).sqrt());
            points.set_column(at, &(class.mean() + &step));
            points.set_column(at + 1, &(class.mean() - step));
        }
    }
    let (mean, mut centred) = moments(&points, f);
    centred /= (points.ncols() as f64).sqrt();
    let precision = class.covariance().precision();
    let covariance = if 2 * centred.ncols() <= dim {
        Covariance::factor(centred, precision)
    } else {
        let mut sum = DMatrix::zeros(dim, dim);
        algebra::add_gram(&mut sum, 1.0, algebra::n(&centred));
        Covariance::packed(&sum, precision)?
    };
    ClassGaussian::new(class.count(), mean, covariance, budget)
}

/// Points one class takes in exact mode at most.
pub(super) fn most_points(dim: usize, least: usize) -> usize {
    least + 2 * dim
}

/// The mean of `f(points)`, and `f(points)` minus it.
fn moments(points: &DMatrix<f64>, f: impl Fn(&DMatrix<f32>) -> DMatrix<f32>) -> (DVector<f64>, DMatrix<f64>) {
    let mut moved = f(&points.map(|v| v as f32)).map(f64::from);
    let mean = moved.column_mean();
    moved.column_iter_mut().for_each(|mut column| column -= &mean);
    (mean, moved)
}

/// `F` with `F·Fᵀ = Σ` and no column that says nothing; one column at least.
fn factor(covariance: &Covariance) -> Result<DMatrix<f64>> {
    let dim = covariance.dim();
    if let Some(factor) = covariance.pure_factor().filter(|f| (1..=dim).contains(&f.ncols())) {
        return Ok(factor);
    }
    let (values, vectors) = algebra::eigen(&covariance.to_dense(), "a class covariance")?;
    let first = (0..dim).position(|i| values[i] > NEGLIGIBLE * values[dim - 1]).unwrap_or(dim - 1);
    Ok(DMatrix::from_fn(dim, dim - first, |r, c| vectors[(r, first + c)] * values[first + c].max(0.0).sqrt()))
}

/// An orthogonal matrix without large entries: a cosine transform after random signs, so that no point lies
/// far out on one axis.
fn orthogonal(n: usize, which: usize) -> DMatrix<f64> {
    let signs = draw(n, 1, which as u64).map(f64::signum);
    let size = n as f64;
    DMatrix::from_fn(n, n, |row, col| {
        let scale = if col == 0 { 1.0 } else { 2.0 };
        let angle = std::f64::consts::PI * (row as f64 + 0.5) * col as f64 / size;
        signs[row] * (scale / size).sqrt() * angle.cos()
    })
}
