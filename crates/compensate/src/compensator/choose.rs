//! The choice of a ridge from accumulated moments.

use nalgebra::DMatrix;
use rand::{Rng, SeedableRng};

use super::regress::Moments;
use crate::Result;
use crate::algebra::{self, Cholesky};

/// Candidates, relative to the features' mean variance.
const RIDGES: [f64; 8] = [1e-4, 1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0, 10.0];
/// The first candidate that is tried.
const START: usize = 3;
/// A smaller ridge has to be better by this share of the error, or by `1 / n` when n samples can tell smaller gains.
const GAIN: f64 = 1e-3;
/// Sums of targets that represent all targets, and probes of the trace of an inverse.
const PROBES: usize = 64;

/// A ridge that was chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Choice {
    /// Relative to the features' mean variance.
    pub(super) ridge: f64,
    /// Effective parameters for each target.
    pub(super) freedom: f64,
    /// The expected squared error on new samples, up to a factor that all candidates share.
    error: f64,
}

/// The ridge for the first `features` of the features, relative to their mean variance, by generalised cross-validation
/// (Golub, Heath, Wahba 1979). Starts at the middle candidate and moves on while the expected error falls. Larger ridges
/// come first: samples that are too few to choose by end at the largest ridge.
///
/// Two estimates with random signs make the choice cheap beside the regression itself: 64 sums of targets represent all
/// targets, and 64 probes give the effective number of parameters (Hutchinson's trace). With 64 dimensions or less both
/// are exact.
pub(super) fn choose(moments: &Moments, features: usize) -> Result<Choice> {
    moments.expect_finite()?;
    let unit = moments.gram.diagonal().rows(0, features).sum() / features.max(1) as f64;
    let problem = Problem::new(moments, features);
    let start = problem.solve(moments, RIDGES[START], unit)?;
    let mut best = start;
    for ridge in RIDGES.into_iter().skip(START + 1) {
        let new = problem.solve(moments, ridge, unit)?;
        if new.error > best.error {
            break;
        }
        best = new;
    }
    if best == start {
        let gain = GAIN.min(1.0 / moments.count.max(1) as f64);
        for ridge in RIDGES.into_iter().take(START).rev() {
            let new = problem.solve(moments, ridge, unit)?;
            if new.error > best.error * (1.0 - gain) {
                break;
            }
            best = new;
        }
    }
    Ok(best)
}

/// What all candidates share.
struct Problem {
    features: usize,
    /// Right sides of normal equations: cross products with sums of targets, then probes.
    right: DMatrix<f64>,
    /// Number of sums of targets.
    targets: usize,
    /// Of the sums of targets, summed over samples.
    squares: f64,
    /// The weight of a probe in the trace.
    weight: f64,
}

impl Problem {
    fn new(moments: &Moments, features: usize) -> Self {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
        let mut signs = |rows: usize| {
            DMatrix::from_fn(rows, PROBES, |_, _| if rng.next_u32() & 1 == 0 { 1.0 } else { -1.0 })
        };
        let cross = moments.cross.rows(0, features);
        let (cross, squares) = match &moments.targets {
            Some(products) if products.nrows() > PROBES => {
                let signs = signs(products.nrows());
                let mut weights = DMatrix::zeros(products.nrows(), products.nrows());
                algebra::add_gram(&mut weights, 1.0, algebra::n(&signs));
                let cross = cross.into_owned();
                (algebra::product(algebra::n(&cross), algebra::n(&signs)), inner(products, &weights))
            }
            _ => (cross.into_owned(), moments.squares),
        };
        let (probes, weight) = match features > PROBES {
            true => (signs(features), 1.0 / PROBES as f64),
            false => (DMatrix::identity(features, features), 1.0),
        };
        let targets = cross.ncols();
        let mut right = DMatrix::zeros(features, targets + probes.ncols());
        right.columns_mut(0, targets).copy_from(&cross);
        right.columns_mut(targets, probes.ncols()).copy_from(&probes);
        Self { features, right, targets, squares, weight }
    }

    /// What a ridge gives, in units of the features' mean variance `unit`.
    fn solve(&self, moments: &Moments, ridge: f64, unit: f64) -> Result<Choice> {
        let penalty = ridge * unit;
        let mut matrix = moments.gram.view((0, 0), (self.features, self.features)).into_owned();
        (0..self.features).for_each(|i| matrix[(i, i)] += penalty);
        let cholesky = Cholesky::new(&matrix, super::regress::SINGULAR, super::regress::REMEDY)?;
        drop(matrix);
        let mut solved = self.right.clone();
        cholesky.solve(&mut solved);
        let dot = |column: usize| solved.column(column).dot(&self.right.column(column));
        // As in `Moments::solve`: |t − Wᵀx|² = |t|² − Wᵀ·cross − penalty·|W|², and tr((G + P)⁻¹·G) = D − penalty·tr((G + P)⁻¹).
        let fitted: f64 = (0..self.targets).map(dot).sum();
        let pulled = penalty * solved.columns(0, self.targets).norm_squared();
        let trace: f64 = (self.targets..self.right.ncols()).map(dot).sum();
        let freedom = self.features as f64 - penalty * trace * self.weight;
        let n = moments.count as f64;
        // With less than one degree of freedom left, the residuals say nothing.
        let left = n - 1.0 - freedom;
        let rest = (self.squares - fitted - pulled).max(0.0);
        let error = if left >= 1.0 { rest * n / (left * left) } else { f64::INFINITY };
        Ok(Choice { ridge, freedom, error })
    }
}

/// `Σ a_ij·b_ij` of two symmetric matrices in their lower triangles.
fn inner(a: &DMatrix<f64>, b: &DMatrix<f64>) -> f64 {
    let column = |col: usize| {
        let below = a.view((col, col), (a.nrows() - col, 1)).dot(&b.view((col, col), (a.nrows() - col, 1)));
        2.0 * below - a[(col, col)] * b[(col, col)]
    };
    (0..a.ncols()).map(column).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nalgebra::DVector;

    fn moments(dim: usize, count: usize, noise: f64) -> Moments {
        use rand_distr::{Distribution, StandardNormal};
        let rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        let mut numbers = StandardNormal.sample_iter(rng);
        let mut normal = |rows, cols| DMatrix::from_fn(rows, cols, |_, _| numbers.next().unwrap_or(0.0f64));
        let (x, weights) = (normal(dim, count), normal(dim, dim) * (0.3 / (dim as f64).sqrt()));
        let target = &weights * &x + normal(dim, count) * noise;
        let mut moments = Moments::new(dim, dim, true);
        moments.add_centred(&mut x.map(|v| v as f32), &mut target.map(|v| v as f32));
        moments.settle();
        moments
    }

    /// The estimate is near the definition, and the choice near the best candidate.
    #[test]
    fn estimates_are_near_the_definition() {
        for (dim, count, noise) in [(150, 140, 0.2), (150, 160, 0.2), (150, 1500, 1.0), (20, 25, 0.5)] {
            let mut moments = moments(dim, count, noise);
            let unit = moments.gram.trace() / dim as f64;
            let problem = Problem::new(&moments, dim);
            // A sum with random signs has the squares of all targets on average.
            let scale = if dim > PROBES { PROBES as f64 } else { 1.0 };
            let mut exact = Vec::new();
            for ridge in RIDGES {
                let penalty = DVector::from_element(dim, ridge * unit);
                let error = moments.solve(&penalty).unwrap().error;
                let estimate = problem.solve(&moments, ridge, unit).unwrap().error;
                if ridge >= 0.1 {
                    let off = estimate / error / scale;
                    assert!((0.75..1.3).contains(&off), "{dim} {count} {ridge}: {estimate} {error} {off}");
                }
                exact.push(error);
            }
            let chosen = choose(&moments, dim).unwrap().ridge;
            let at = RIDGES.iter().position(|&ridge| ridge == chosen).unwrap();
            let least = exact.iter().copied().fold(f64::INFINITY, f64::min);
            assert!(exact[at] <= 1.1 * least, "{dim} {count}: {chosen}, {exact:?}");
        }
    }

    /// Samples that are too few get the largest ridge, exact drift the smallest.
    #[test]
    fn extremes() {
        assert_eq!(choose(&moments(10, 2, 0.1), 10).unwrap().ridge, 10.0);
        assert_eq!(choose(&moments(10, 200, 0.0), 10).unwrap().ridge, 1e-4);
    }
}
