//! Ridge regression from moments that are accumulated block by block.

use nalgebra::{DMatrix, DVector};

use crate::algebra::{self, Cholesky};
use crate::{CompensateError, Result};

/// Columns of an inverse to compute at a time.
const PANEL: usize = 128;
/// Samples whose products are summed in f32 before they are added in f64: few enough that the error stays below the
/// rounding of the features themselves.
const RECENT: u64 = 2048;

/// Moments of features `x [D]` and targets `t [d]`, about their means or about 0. Memory is 8·(D² + D·d) bytes for any
/// number of samples.
pub(super) struct Moments {
    pub(super) count: u64,
    /// Mean of x; 0 for moments about 0.
    pub(super) mean: DVector<f64>,
    /// Mean of t; 0 for moments about 0.
    pub(super) mean_target: DVector<f64>,
    /// `Σ x·xᵀ`, lower triangle.
    pub(super) gram: DMatrix<f64>,
    /// `Σ x·tᵀ`.
    pub(super) cross: DMatrix<f64>,
    /// `Σ |t|²`.
    pub(super) squares: f64,
    /// `Σ t·tᵀ`, lower triangle, if the noise is wanted.
    pub(super) targets: Option<DMatrix<f64>>,
    recent: Option<Recent>,
}

/// Products that are not part of the moments yet: in f32, twice as fast as f64, about origins near the samples.
struct Recent {
    count: u64,
    features: Origin,
    targets: Origin,
    gram: DMatrix<f32>,
    cross: DMatrix<f32>,
    squares: f64,
    gram_targets: Option<DMatrix<f32>>,
}

/// The point that samples are measured from: the mean of their first block.
#[derive(Default)]
struct Origin {
    at: Vec<f64>,
    /// Sum of all samples, measured from there.
    sum: Vec<f64>,
}

/// The solution for a penalty.
pub(super) struct Solution {
    /// `W [D, d]`, `t ≈ Wᵀ·x`.
    pub(super) weights: DMatrix<f64>,
    /// Effective parameters for each target: the trace of the hat matrix.
    pub(super) freedom: f64,
    /// Generalised cross-validation: the expected mean squared error on new samples, summed over targets.
    pub(super) error: f64,
}

/// Covariances `[d, d]`: the one that a regression explains (lower triangle), and the one that it leaves.
pub(super) type ExplainedAndNoise = (DMatrix<f64>, DMatrix<f64>);

pub(super) const SINGULAR: &str = "the feature matrix of the regression";
pub(super) const REMEDY: &str = "give it more samples or a larger ridge";

fn too_large() -> CompensateError {
    let problem = "the features are so large that their products overflow: scale them down".into();
    CompensateError::Statistics { problem }
}

impl Moments {
    pub(super) fn new(features: usize, targets: usize, noise: bool) -> Self {
        Self {
            count: 0,
            mean: DVector::zeros(features),
            mean_target: DVector::zeros(targets),
            gram: DMatrix::zeros(features, features),
            cross: DMatrix::zeros(features, targets),
            squares: 0.0,
            targets: noise.then(|| DMatrix::zeros(targets, targets)),
            recent: None,
        }
    }

    /// Bytes of the moments and of solving them; recent products take less than solving.
    pub(super) fn bytes(features: usize, targets: usize) -> u64 {
        let (features, targets) = (features as u64, targets as u64);
        let rows = features.saturating_mul(2).saturating_add(3 * targets);
        let all = features.saturating_mul(rows).saturating_add(2 * targets.saturating_mul(targets));
        all.saturating_mul(8)
    }

    /// Adds samples as they are: moments about 0.
    pub(super) fn add(&mut self, x: &DMatrix<f64>, target: &DMatrix<f64>) {
        self.accumulate(x, target);
        self.count += x.ncols() as u64;
    }

    fn accumulate(&mut self, x: &DMatrix<f64>, target: &DMatrix<f64>) {
        algebra::add_gram(&mut self.gram, 1.0, algebra::n(x));
        algebra::add_product(&mut self.cross, 1.0, algebra::n(x), algebra::t(target));
        self.squares += target.norm_squared();
        if let Some(targets) = &mut self.targets {
            algebra::add_gram(targets, 1.0, algebra::n(target));
        }
    }

    /// Adds samples to moments about the means, and leaves the samples centred near 0. Call [`settle`](Self::settle)
    /// before the moments are used.
    pub(super) fn add_centred(&mut self, x: &mut DMatrix<f32>, target: &mut DMatrix<f32>) {
        let recent = self.recent.get_or_insert_with(|| Recent {
            count: 0,
            features: Origin::default(),
            targets: Origin::default(),
            gram: DMatrix::zeros(x.nrows(), x.nrows()),
            cross: DMatrix::zeros(x.nrows(), target.nrows()),
            squares: 0.0,
            gram_targets: self.targets.as_ref().map(|_| DMatrix::zeros(target.nrows(), target.nrows())),
        });
        if recent.count == 0 {
            (recent.features, recent.targets) = (Origin::of(x), Origin::of(target));
        }
        recent.features.centre(x);
        recent.targets.centre(target);
        recent.count += x.ncols() as u64;
        recent.squares += target.column_iter().map(|column| f64::from(column.norm_squared())).sum::<f64>();
        algebra::add_gram(&mut recent.gram, 1.0, algebra::n(x));
        algebra::add_product(&mut recent.cross, 1.0, algebra::n(x), algebra::t(target));
        if let Some(targets) = &mut recent.gram_targets {
            algebra::add_gram(targets, 1.0, algebra::n(target));
        }
        if recent.count >= RECENT {
            self.add_recent();
        }
    }

    /// Chan's pairwise update: moves products from the origins to the means of recent samples, and adds the distance
    /// between these means and the means so far.
    fn add_recent(&mut self) {
        let Some(recent) = self.recent.as_mut().filter(|recent| recent.count > 0) else { return };
        let (before, new) = (self.count as f64, recent.count as f64);
        let between = before * new / (before + new);
        let (x, target) =
            (recent.features.means(new, &self.mean), recent.targets.means(new, &self.mean_target));
        add_about_means(&mut self.gram, &mut recent.gram, [&x, &x], new, between, true);
        add_about_means(&mut self.cross, &mut recent.cross, [&x, &target], new, between, false);
        if let (Some(targets), Some(recent)) = (&mut self.targets, &mut recent.gram_targets) {
            add_about_means(targets, recent, [&target, &target], new, between, true);
        }
        self.squares +=
            recent.squares - new * target.off.norm_squared() + between * target.apart.norm_squared();
        self.mean += x.apart * (new / (before + new));
        self.mean_target += target.apart * (new / (before + new));
        self.count += recent.count;
        (recent.count, recent.squares) = (0, 0.0);
    }

    /// Ends the adding of samples.
    pub(super) fn settle(&mut self) {
        self.add_recent();
        self.recent = None;
    }

    /// An error if products overflowed.
    pub(super) fn expect_finite(&self) -> Result<()> {
        debug_assert!(self.recent.is_none(), "moments used before they were settled");
        let finite = self.gram.diagonal().sum().is_finite() && self.squares.is_finite();
        if finite { Ok(()) } else { Err(too_large()) }
    }

    fn decompose(&mut self, penalty: &DVector<f64>) -> Result<Cholesky> {
        self.expect_finite()?;
        let diagonal = self.gram.diagonal();
        self.gram.set_diagonal(&(&diagonal + penalty));
        let cholesky = Cholesky::new(&self.gram, SINGULAR, REMEDY);
        self.gram.set_diagonal(&diagonal);
        cholesky
    }

    /// `(gram + diag(penalty))⁻¹·cross`.
    pub(super) fn weights(&mut self, penalty: &DVector<f64>) -> Result<DMatrix<f64>> {
        let cholesky = self.decompose(penalty)?;
        self.weights_by(&cholesky)
    }

    fn weights_by(&self, cholesky: &Cholesky) -> Result<DMatrix<f64>> {
        let mut weights = self.cross.clone();
        cholesky.solve(&mut weights);
        if weights.iter().all(|v| v.is_finite()) { Ok(weights) } else { Err(too_large()) }
    }

    /// The weights, their effective number of parameters and the error to expect (Golub, Heath, Wahba, "Generalized
    /// cross-validation as a method for choosing a good ridge parameter", 1979).
    pub(super) fn solve(&mut self, penalty: &DVector<f64>) -> Result<Solution> {
        let cholesky = self.decompose(penalty)?;
        let weights = self.weights_by(&cholesky)?;
        // tr((G + P)⁻¹·G) = D − tr((G + P)⁻¹·P); diag((G + P)⁻¹) holds the squared norms of the columns of L⁻¹.
        let shrunk = cholesky.inverse_diagonal(PANEL).component_mul(penalty).sum();
        let freedom = self.mean.len() as f64 - shrunk;
        // |t − Wᵀx|² = |t|² − Wᵀ·cross − Wᵀ·P·W, all summed.
        let fitted: f64 = weights.iter().zip(self.cross.iter()).map(|(w, c)| w * c).sum();
        let pulled: f64 = weights.row_iter().zip(penalty.iter()).map(|(row, p)| p * row.norm_squared()).sum();
        let n = self.count as f64;
        let left = 1.0 - (freedom + 1.0) / n;
        let rest = (self.squares - fitted - pulled).max(0.0) / n;
        let error = if left > 0.0 { rest / (left * left) } else { f64::INFINITY };
        Ok(Solution { weights, freedom, error })
    }

    /// The penalty with the smallest expected error; of equally good ones the last.
    pub(super) fn best(
        &mut self,
        penalties: impl Iterator<Item = DVector<f64>>,
    ) -> Result<(Solution, DVector<f64>)> {
        let mut best: Option<(Solution, DVector<f64>)> = None;
        for penalty in penalties {
            let new = self.solve(&penalty)?;
            if best.as_ref().is_none_or(|(best, _)| new.error <= best.error) {
                best = Some((new, penalty));
            }
        }
        best.ok_or_else(|| CompensateError::Empty("the list of ridges to choose from".into()))
    }

    /// If the targets are the drift of the first d features: the covariances `[d, d]` of the feature plus its predicted
    /// drift (lower triangle), and of the rest of the drift. `None` if products of targets were not collected, or
    /// samples are too few. Uses up the products of targets.
    ///
    /// Both are divided by n − 1, so without a penalty they add up to the covariance after the task. That holds for new
    /// samples too: predictions scatter with the errors of the weights by as much as residuals lack.
    pub(super) fn explained_and_noise(
        &mut self,
        weights: &DMatrix<f64>,
        penalty: &DVector<f64>,
        freedom: f64,
    ) -> Option<ExplainedAndNoise> {
        let samples = self.count as f64 - 1.0;
        let mut noise = self.targets.take().filter(|_| samples - freedom >= 1.0)?;
        // With the Gram matrix G, the penalty P and the cross products C, G·W = C − P·W. Of the targets' products T, the
        // drift explains Wᵀ·G·W = Wᵀ·C − Wᵀ·P·W and leaves T − Wᵀ·C − Wᵀ·P·W; with the feature itself it
        // explains G + G·W + Wᵀ·G + Wᵀ·G·W. All are symmetric: lower triangles suffice.
        let dim = weights.ncols();
        let mut pulled = weights.clone();
        pulled.row_iter_mut().zip(penalty.iter()).for_each(|(mut row, penalty)| row *= penalty.sqrt());
        let mut shrunk = DMatrix::zeros(dim, dim);
        algebra::add_gram(&mut shrunk, 1.0, algebra::t(&pulled));
        drop(pulled);
        let mut explained = algebra::product(algebra::t(weights), algebra::n(&self.cross));
        for col in 0..dim {
            for row in col..dim {
                let moved =
                    |row: usize, col: usize| self.cross[(row, col)] - penalty[row] * weights[(row, col)];
                let (fitted, shrunk) = (explained[(row, col)], shrunk[(row, col)]);
                noise[(row, col)] = (noise[(row, col)] - fitted - shrunk) / samples;
                let drift = moved(row, col) + moved(col, row) + fitted - shrunk;
                explained[(row, col)] = (self.gram[(row, col)] + drift) / samples;
            }
        }
        algebra::mirror(&mut noise);
        Some((explained, noise))
    }
}

/// The place of the mean of recent samples.
struct Means {
    /// From their origin.
    off: DVector<f64>,
    /// From the mean of all samples before them.
    apart: DVector<f64>,
}

impl Origin {
    fn of(columns: &DMatrix<f32>) -> Self {
        let (rows, count) = columns.shape();
        let mut at = vec![0.0; rows];
        // Slices show the compiler that numbers lie side by side.
        for column in columns.as_slice().chunks_exact(rows.max(1)) {
            at.iter_mut().zip(column).for_each(|(sum, v)| *sum += f64::from(*v));
        }
        at.iter_mut().for_each(|sum| *sum /= count as f64);
        Self { at, sum: vec![0.0; rows] }
    }

    /// Subtracts the origin from the columns.
    fn centre(&mut self, columns: &mut DMatrix<f32>) {
        let rows = columns.nrows().max(1);
        for column in columns.as_mut_slice().chunks_exact_mut(rows) {
            for ((v, at), sum) in column.iter_mut().zip(&self.at).zip(&mut self.sum) {
                *v = (f64::from(*v) - at) as f32;
                *sum += f64::from(*v);
            }
        }
    }

    fn means(&self, count: f64, before: &DVector<f64>) -> Means {
        let off = DVector::from_column_slice(&self.sum) / count;
        let apart = DVector::from_column_slice(&self.at) + &off - before;
        Means { off, apart }
    }
}

/// `sums += recent − new·off·offᵀ + between·apart·apartᵀ`, for a symmetric matrix in the lower triangle only; clears the
/// recent products.
fn add_about_means(
    sums: &mut DMatrix<f64>,
    recent: &mut DMatrix<f32>,
    [rows, cols]: [&Means; 2],
    new: f64,
    between: f64,
    symmetric: bool,
) {
    let height = sums.nrows().max(1);
    let pairs =
        sums.as_mut_slice().chunks_exact_mut(height).zip(recent.as_mut_slice().chunks_exact_mut(height));
    for (col, (sums, recent)) in pairs.enumerate() {
        let first = if symmetric { col } else { 0 };
        let (off, apart) = (-new * cols.off[col], between * cols.apart[col]);
        let means = rows.off.as_slice()[first..].iter().zip(&rows.apart.as_slice()[first..]);
        let numbers = sums[first..].iter_mut().zip(&recent[first..]);
        for ((sum, recent), (row_off, row_apart)) in numbers.zip(means) {
            *sum += f64::from(*recent) + off * row_off + apart * row_apart;
        }
        recent.fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean of the samples wanders, so an error between blocks or groups of blocks would show.
    #[test]
    fn moments_are_about_the_means() {
        let (count, block) = (2_500, 100);
        let number = |row: usize, at: usize| ((at * 7919 + row * 104_729) % 1000) as f64 / 1000.0;
        let x = DMatrix::from_fn(3, count, |r, c| number(r, c) + (c * (r + 1)) as f64 / 400.0);
        let target = DMatrix::from_fn(2, count, |r, c| number(r + 5, c) - (c / 300) as f64);
        let mut moments = Moments::new(3, 2, true);
        for first in (0..count).step_by(block) {
            let part = |of: &DMatrix<f64>| of.columns(first, block).map(|v| v as f32);
            moments.add_centred(&mut part(&x), &mut part(&target));
        }
        moments.settle();
        let centred = |of: &DMatrix<f64>| {
            let mean = of.column_mean();
            DMatrix::from_columns(&of.column_iter().map(|column| column - &mean).collect::<Vec<_>>())
        };
        let (x0, target0) = (centred(&x), centred(&target));
        let close = |found: &DMatrix<f64>, expected: &DMatrix<f64>| {
            assert!((found - expected).norm() <= 1e-6 * expected.norm(), "{found} {expected}");
        };
        let lower = |of: &DMatrix<f64>| of.lower_triangle();
        close(&lower(&moments.gram), &lower(&(&x0 * x0.transpose())));
        close(&moments.cross, &(&x0 * target0.transpose()));
        close(&lower(moments.targets.as_ref().unwrap()), &lower(&(&target0 * target0.transpose())));
        assert!((moments.squares / target0.norm_squared() - 1.0).abs() < 1e-6);
        assert_eq!(moments.count, count as u64);
        assert!((moments.mean - x.column_mean()).norm() < 1e-6);
        assert!((moments.mean_target - target.column_mean()).norm() < 1e-6);
    }

    /// Against the samples themselves: few of them and a strong penalty, so every term counts.
    #[test]
    fn explained_and_noise_are_those_of_the_residuals() {
        let (features, dim, count) = (7, 4, 12);
        let number = |row: usize, at: usize| ((at * 7919 + row * 104_729) % 1000) as f64 / 1000.0 - 0.5;
        let centred = |first: usize, rows: usize| {
            let all = DMatrix::from_fn(rows, count, |r, c| number(first + r, c));
            let mean = all.column_mean();
            DMatrix::from_columns(&all.column_iter().map(|column| column - &mean).collect::<Vec<_>>())
        };
        let (x, noise) = (centred(0, features), centred(20, dim));
        let target = x.rows(1, dim) * 0.7 + noise;
        let mut moments = Moments::new(features, dim, true);
        moments.add_centred(&mut x.map(|v| v as f32), &mut target.map(|v| v as f32));
        moments.settle();
        let penalty = DVector::from_fn(features, |i, _| 0.2 + 0.1 * i as f64);
        let Solution { weights, freedom, .. } = moments.solve(&penalty).unwrap();
        let penalised = &x * x.transpose() + DMatrix::from_diagonal(&penalty);
        let expected = penalised.try_inverse().unwrap() * &x * target.transpose();
        assert!((&weights - &expected).amax() < 1e-5, "{weights} {expected}");
        let (explained, noise) = moments.explained_and_noise(&weights, &penalty, freedom).unwrap();
        let covariance = |of: DMatrix<f64>| &of * of.transpose() / (count as f64 - 1.0);
        let moved = covariance(x.rows(0, dim) + expected.transpose() * &x);
        let rest = covariance(&target - expected.transpose() * &x);
        assert!((explained.lower_triangle() - moved.lower_triangle()).amax() < 1e-5, "{explained} {moved}");
        assert!((&noise - &rest).amax() < 1e-5, "{noise} {rest}");
        assert!(moments.explained_and_noise(&weights, &penalty, freedom).is_none());
    }

    #[test]
    fn overflow_is_an_error() {
        let large = DMatrix::from_fn(2, 8, |r, c| 1e25 * (r + c * c) as f32);
        let small = large.map(|v| v * 1e-25);
        for (x, target) in [(&large, &small), (&small, &large)] {
            let mut moments = Moments::new(2, 2, false);
            moments.add_centred(&mut x.clone(), &mut target.clone());
            moments.settle();
            let error = moments.weights(&DVector::from_element(2, 0.1)).unwrap_err();
            assert!(error.to_string().contains("overflow"), "{error}");
        }
    }
}
