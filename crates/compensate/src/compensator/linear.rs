//! Drift as a linear function of the feature.

use nalgebra::{DMatrix, DMatrixView, DVector};
use residua_memory::{Budget, Reservation};

use super::regress::Moments;
use super::{AffineMap, Compensator, Method, Mode, noise, not_empty};
use crate::Result;
use crate::error::check;
use crate::source::{BLOCK, FeatureSource, for_each_block};

/// Ridge regression of the features after on the features before, from normal equations that are
/// accumulated block by block: memory is about 7·8·d² bytes whatever the number of samples.
///
/// * [`Mode::Exact`]: the drift `y − x` is regressed on the centred features, so that the ridge pulls
///   towards *no drift* and the mean is matched; the penalty is relative to the features' mean variance, so
///   that their scale does not matter. Fitted in the space that the statistics live in.
/// * [`Mode::Compat`]: rows are L2-normalised, `W = (XᵀX + γI)⁻¹XᵀY`, blended with the identity by
///   `w = exp(−N/(τ·d))`, applied to raw statistics, and `1e-3·I` is added to every covariance.
///
/// Exact is the default: a `W` fitted on normalised rows is not the map of raw ones, and an addition to old
/// classes' covariances alone biases quadratic classifiers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Linear {
    /// Which definition.
    pub mode: Mode,
    /// γ: absolute in compat mode, relative to the mean variance of the features in exact mode.
    pub ridge: f64,
    /// τ, how slowly the blend with the identity fades with the number of samples; compat mode only.
    pub temperature: f64,
    /// How much of the covariance that the regression leaves unexplained moved covariances are stretched to hold,
    /// 0 to 1; exact mode only.
    pub noise: f64,
}

impl Linear {
    /// The defaults of a mode.
    pub fn new(mode: Mode) -> Self {
        let ridge = match mode {
            Mode::Compat => 0.1,
            Mode::Exact => 1e-4,
        };
        Self { mode, ridge, temperature: 1.0, noise: 1.0 }
    }
}

impl Default for Linear {
    fn default() -> Self {
        Self::new(Mode::Exact)
    }
}

/// What compat mode adds to every variance.
const COMPAT_FLOOR: f64 = 1e-3;

impl Method for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn fit(&self, source: &mut dyn FeatureSource, budget: &Budget) -> Result<Box<dyn Compensator>> {
        Ok(Box::new(self.fit_map(source, budget)?))
    }
}

impl Linear {
    /// As [`fit`](Method::fit), with the map itself.
    ///
    /// # Errors
    /// As [`fit`](Method::fit); also when the normal equations are singular, which a positive ridge rules out.
    pub fn fit_map(&self, source: &mut dyn FeatureSource, budget: &Budget) -> Result<AffineMap> {
        check(self.ridge >= 0.0 && self.ridge.is_finite(), "ridge", self.ridge, "0 or more")?;
        check(self.temperature > 0.0, "temperature", self.temperature, "above 0")?;
        check((0.0..=1.0).contains(&self.noise), "noise", self.noise, "from 0 to 1")?;
        let dim = source.dim();
        // The moments, the decomposition, and a block of both sides in f64.
        let scratch = Moments::bytes(dim, dim) + 3 * 8 * BLOCK as u64 * dim as u64;
        let held = budget.reserve(scratch, "fitting the linear compensator")?;
        let mut moments = Moments::new(dim, dim, self.noise > 0.0 && self.mode == Mode::Exact);
        let (mut x, mut drift) = (DMatrix::zeros(dim, 0), DMatrix::zeros(dim, 0));
        for_each_block(source, budget, |block| {
            let (before, after) = (block.before(), block.after()?);
            match self.mode {
                Mode::Compat => moments.add(&normalised(before), &normalised(after)),
                Mode::Exact => {
                    if x.ncols() != block.rows() {
                        x = DMatrix::zeros(dim, block.rows());
                        drift = x.clone();
                    }
                    x.copy_from(&before);
                    after.sub_to(&before, &mut drift);
                    moments.add_centred(&mut x, &mut drift);
                }
            }
            Ok(())
        })?;
        moments.settle();
        drop((x, drift));
        not_empty(moments.count)?;
        match self.mode {
            Mode::Compat => self.finish_compat(moments, budget),
            Mode::Exact => self.finish_exact(moments, held, budget),
        }
    }

    /// `held` is what was reserved for the moments.
    fn finish_exact(&self, mut moments: Moments, held: Reservation, budget: &Budget) -> Result<AffineMap> {
        let dim = moments.mean.len();
        let penalty = DVector::from_element(dim, self.ridge * moments.gram.trace() / dim as f64);
        let (mut matrix, rest) = if moments.gram.trace() == 0.0 {
            // All samples are one point: it tells a shift, nothing more.
            (DMatrix::zeros(dim, dim), None)
        } else if self.noise > 0.0 {
            let solution = moments.solve(&penalty)?;
            let rest = moments.explained_and_noise(&solution.weights, &penalty, solution.freedom);
            (solution.weights, rest)
        } else {
            (moments.weights(&penalty)?, None)
        };
        matrix.transpose_mut();
        for i in 0..dim {
            matrix[(i, i)] += 1.0;
        }
        // Through the means: mean_x + mean_v = M·mean_x + b.
        let shift = &moments.mean + &moments.mean_target - &matrix * &moments.mean;
        drop((moments, held));
        let map = AffineMap::new(matrix, shift, budget)?;
        match rest {
            Some((explained, noise)) => {
                let spread = noise::stretch(explained, noise * self.noise, map.matrix().clone(), budget)?;
                map.with_spread(spread)
            }
            None => Ok(map),
        }
    }

    fn finish_compat(&self, mut moments: Moments, budget: &Budget) -> Result<AffineMap> {
        let dim = moments.mean.len();
        let blend = (-(moments.count as f64) / (self.temperature * dim as f64)).exp();
        let mut matrix = moments.weights(&DVector::from_element(dim, self.ridge))? * (1.0 - blend);
        matrix.transpose_mut();
        for i in 0..dim {
            matrix[(i, i)] += blend;
        }
        Ok(AffineMap::new(matrix, DVector::zeros(dim), budget)?.with_floor(COMPAT_FLOOR))
    }
}

/// Rows of a block, each divided by its norm.
fn normalised(features: DMatrixView<'_, f32>) -> DMatrix<f64> {
    let mut features = features.map(f64::from);
    for mut column in features.column_iter_mut() {
        // As torch's normalize: a zero row stays zero.
        let norm = column.norm().max(1e-12);
        column /= norm;
    }
    features
}
