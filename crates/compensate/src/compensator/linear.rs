//! Drift as a linear function of the feature.

use nalgebra::{DMatrix, DMatrixView, DVector};
use residua_memory::{Budget, Reservation};

use super::choose::choose;
use super::regress::Moments;
use super::{AffineMap, Compensator, Method, Mode, noise, not_empty};
use crate::Result;
use crate::error::check;
use crate::setters::setters;
use crate::source::{BLOCK, FeatureSource, for_each_pair, pair_bytes};

/// Ridge regression of features after the task on features before it. It accumulates normal equations block by block:
/// memory is about 7·8·d² bytes for any number of samples.
///
/// * [`Mode::Exact`] regresses the drift `y − x` on the centred features. The ridge pulls towards *no drift*, and the map
///   meets the mean. The penalty is relative to the features' mean variance, so their scale does not matter; generalised
///   cross-validation chooses it for any number of samples.
/// * [`Mode::Compat`] normalises rows to length 1, takes `W = (XᵀX + γI)⁻¹XᵀY`, blends it with the identity by
///   `w = exp(−N/(τ·d))`, applies it to raw statistics, and adds `1e-3·I` to every covariance.
///
/// Exact is the default: a `W` fitted on normalised rows is not the map of raw ones, and an addition to the covariances
/// of old classes alone biases quadratic classifiers.
///
/// ```
/// use residua_compensate::{ClassStatistics, Linear, MemorySource, Method, StatisticsOptions};
/// use residua_memory::Budget;
///
/// # fn main() -> residua_compensate::Result<()> {
/// let budget = Budget::new(16 << 20);
/// let old = [0.0, 1.0, 0.5, 1.5, 4.0, 5.0, 4.5, 4.0f32];
/// let mut source = MemorySource::labelled(2, &old, &[0, 0, 1, 1])?;
/// let stale = ClassStatistics::collect(&mut source, &StatisticsOptions::default(), &budget)?;
///
/// // Samples of new classes before and after a task that shifted every feature by 1.
/// let before = [1.0, 0.0, 0.0, 2.0, 3.0, 1.0, 5.0, 2.0f32];
/// let after = before.map(|v| v + 1.0);
/// let map = Linear::default().fit(&mut MemorySource::pairs(2, &before, &after)?, &budget)?;
/// let moved = map.apply(&stale, &budget)?;
/// assert!((moved.get(0).unwrap().mean()[0] - 1.25).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Linear {
    /// Which definition.
    pub mode: Mode,
    /// γ: absolute in compat mode, 0.1 unless set; relative to the mean variance of the features in exact mode, chosen
    /// by generalised cross-validation from 1e-4 to 10 unless set.
    pub ridge: Option<f64>,
    /// τ, how slowly the blend with the identity fades as the number of samples grows; compat mode only.
    pub temperature: f64,
    /// The share of the unexplained covariance that moved covariances are stretched to hold, 0 to 1; exact mode only.
    pub noise: f64,
}

impl Linear {
    /// The defaults of a mode.
    pub fn new(mode: Mode) -> Self {
        Self { mode, ridge: None, temperature: 1.0, noise: 1.0 }
    }

    setters! {
        /// With this ridge.
        with_ridge: ridge: Some(f64),
        /// With a blend that fades this slowly.
        with_temperature: temperature: f64,
        /// With this share of the unexplained covariance.
        with_noise: noise: f64,
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

    fn learn(&self, source: &mut dyn FeatureSource, budget: &Budget) -> Result<Box<dyn Compensator>> {
        Ok(Box::new(self.fit_map(source, budget)?))
    }

    fn bytes(&self, source: &dyn FeatureSource, _rank: Option<usize>) -> u64 {
        // To move a class takes less.
        let stretching = AffineMap::bytes(source.dim()) + noise::bytes(source.dim());
        let stretched = self.noise > 0.0 && self.mode == Mode::Exact;
        (Self::scratch_bytes(source.dim()) + pair_bytes(source)).max(if stretched { stretching } else { 0 })
    }
}

impl Linear {
    /// The moments, the decomposition, and a block of both sides in f64.
    fn scratch_bytes(dim: usize) -> u64 {
        Moments::bytes(dim, dim) + 3 * 8 * BLOCK as u64 * dim as u64
    }

    /// As [`fit`](Method::fit); returns the map itself.
    ///
    /// # Errors
    /// As [`fit`](Method::fit); also when the normal equations are singular, which a positive ridge rules out.
    pub fn fit_map(&self, source: &mut dyn FeatureSource, budget: &Budget) -> Result<AffineMap> {
        let ridge = self.ridge.unwrap_or(0.0);
        check(ridge >= 0.0 && ridge.is_finite(), "ridge", ridge, "0 or more")?;
        check(self.temperature > 0.0, "temperature", self.temperature, "above 0")?;
        check((0.0..=1.0).contains(&self.noise), "noise", self.noise, "from 0 to 1")?;
        let dim = source.dim();
        const WHAT: &str = "fitting the linear compensator";
        // Ask for everything first: an error then states the whole need.
        budget.require(self.bytes(source, None), WHAT)?;
        let held = budget.reserve(Self::scratch_bytes(dim), WHAT)?;
        let mut moments = Moments::new(dim, dim, self.noise > 0.0 && self.mode == Mode::Exact);
        let (mut x, mut drift) = (DMatrix::zeros(dim, 0), DMatrix::zeros(dim, 0));
        for_each_pair(source, budget, |before, after| {
            match self.mode {
                Mode::Compat => moments.add(&normalised(before), &normalised(after)),
                Mode::Exact => {
                    if x.ncols() != before.ncols() {
                        x = DMatrix::zeros(dim, before.ncols());
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
        not_empty(moments.count, source)?;
        match self.mode {
            Mode::Compat => self.finish_compat(moments, budget),
            Mode::Exact => self.finish_exact(moments, held, budget),
        }
    }

    /// `held` is what was reserved for the moments.
    fn finish_exact(&self, mut moments: Moments, held: Reservation, budget: &Budget) -> Result<AffineMap> {
        let dim = moments.mean.len();
        let unit = moments.gram.trace() / dim as f64;
        let chosen = match self.ridge {
            None if unit > 0.0 => Some(choose(&moments, dim)?),
            _ => None,
        };
        let ridge = chosen.map_or(self.ridge.unwrap_or(0.0), |chosen| chosen.ridge);
        let penalty = DVector::from_element(dim, ridge * unit);
        let (mut matrix, rest) = if unit == 0.0 {
            // All samples are one point: it shows a shift and nothing else.
            (DMatrix::zeros(dim, dim), None)
        } else if self.noise > 0.0 {
            // The choice has estimated the freedom already; the exact one takes another decomposition.
            let (weights, freedom) = match chosen {
                Some(chosen) => (moments.weights(&penalty)?, chosen.freedom),
                None => {
                    let solution = moments.solve(&penalty)?;
                    (solution.weights, solution.freedom)
                }
            };
            let rest = moments.explained_and_noise(&weights, &penalty, freedom);
            (weights, rest)
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
                let spread =
                    noise::stretch(explained, noise * self.noise, ridge, map.matrix().clone(), budget)?;
                map.with_spread(spread)
            }
            None => Ok(map),
        }
    }

    fn finish_compat(&self, mut moments: Moments, budget: &Budget) -> Result<AffineMap> {
        let dim = moments.mean.len();
        let blend = (-(moments.count as f64) / (self.temperature * dim as f64)).exp();
        let mut matrix =
            moments.weights(&DVector::from_element(dim, self.ridge.unwrap_or(0.1)))? * (1.0 - blend);
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
