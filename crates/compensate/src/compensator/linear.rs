//! Drift as a linear function of the feature.

use nalgebra::{DMatrix, DVector};
use residua_memory::Budget;

use super::{AffineMap, Compensator, Method, Mode, not_empty};
use crate::Result;
use crate::algebra::{self, Cholesky};
use crate::error::check;
use crate::source::{BLOCK, FeatureBlock, FeatureSource, for_each_block};
use crate::statistics::Covariance;

/// Ridge regression of the features after on the features before, from normal equations that are
/// accumulated block by block: memory is 3·8·d² bytes whatever the number of samples.
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
}

impl Linear {
    /// The defaults of a mode.
    pub fn new(mode: Mode) -> Self {
        let ridge = match mode {
            Mode::Compat => 0.1,
            Mode::Exact => 1e-4,
        };
        Self { mode, ridge, temperature: 1.0 }
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
        let dim = source.dim();
        // Two accumulators, the decomposition, and a block of both sides in f64 with its centred copy.
        let scratch = 3 * Covariance::dense_bytes(dim) + 2 * 8 * (BLOCK * dim) as u64;
        let _scratch = budget.reserve(scratch, "fitting the linear compensator")?;
        let mut sums = NormalEquations::new(dim);
        for_each_block(source, budget, |block| match self.mode {
            Mode::Compat => sums.add_normalised(block),
            Mode::Exact => sums.add_centred(block),
        })?;
        not_empty(sums.count)?;
        match self.mode {
            Mode::Compat => self.finish_compat(sums, budget),
            Mode::Exact => self.finish_exact(sums, budget),
        }
    }

    fn finish_exact(&self, mut sums: NormalEquations, budget: &Budget) -> Result<AffineMap> {
        let dim = sums.mean.len();
        let penalty = self.ridge * sums.gram.trace() / dim as f64;
        let mut matrix = if sums.gram.trace() == 0.0 {
            // All samples are one point: it tells a shift, nothing more.
            DMatrix::zeros(dim, dim)
        } else {
            sums.solve(penalty)?
        };
        matrix.transpose_mut();
        for i in 0..dim {
            matrix[(i, i)] += 1.0;
        }
        // Through the means: mean_x + mean_v = M·mean_x + b.
        let shift = &sums.mean + &sums.mean_drift - &matrix * &sums.mean;
        AffineMap::new(matrix, shift, budget)
    }

    fn finish_compat(&self, mut sums: NormalEquations, budget: &Budget) -> Result<AffineMap> {
        let dim = sums.mean.len();
        let blend = (-(sums.count as f64) / (self.temperature * dim as f64)).exp();
        let mut matrix = sums.solve(self.ridge)? * (1.0 - blend);
        matrix.transpose_mut();
        for i in 0..dim {
            matrix[(i, i)] += blend;
        }
        Ok(AffineMap::new(matrix, DVector::zeros(dim), budget)?.with_floor(COMPAT_FLOOR))
    }
}

/// Sums over samples `x` (before) and targets `t`: in compat mode `y`, in exact mode `y − x`, both centred.
struct NormalEquations {
    count: u64,
    /// Mean of x; stays 0 in compat mode.
    mean: DVector<f64>,
    /// Mean of t; stays 0 in compat mode.
    mean_drift: DVector<f64>,
    /// `Σ x·xᵀ`, lower triangle.
    gram: DMatrix<f64>,
    /// `Σ x·tᵀ`.
    cross: DMatrix<f64>,
}

impl NormalEquations {
    fn new(dim: usize) -> Self {
        let (mean, mean_drift) = (DVector::zeros(dim), DVector::zeros(dim));
        Self { count: 0, mean, mean_drift, gram: DMatrix::zeros(dim, dim), cross: DMatrix::zeros(dim, dim) }
    }

    fn add(&mut self, x: &DMatrix<f64>, target: &DMatrix<f64>) {
        algebra::add_gram(&mut self.gram, 1.0, algebra::n(x));
        algebra::add_product(&mut self.cross, 1.0, algebra::n(x), algebra::t(target));
    }

    fn add_normalised(&mut self, block: &FeatureBlock) -> Result<()> {
        let normalised = |m: nalgebra::DMatrixView<'_, f32>| {
            let mut m = m.map(f64::from);
            for mut column in m.column_iter_mut() {
                // As torch's normalize: a zero row stays zero.
                let norm = column.norm().max(1e-12);
                column /= norm;
            }
            m
        };
        self.add(&normalised(block.before()), &normalised(block.after()?));
        self.count += block.rows() as u64;
        Ok(())
    }

    /// Chan's pairwise update, of a covariance and a cross-covariance.
    fn add_centred(&mut self, block: &FeatureBlock) -> Result<()> {
        let mut x = block.before().map(f64::from);
        let mut drift = block.after()?.map(f64::from) - &x;
        let (mean, mean_drift) = (x.column_mean(), drift.column_mean());
        x.column_iter_mut().for_each(|mut column| column -= &mean);
        drift.column_iter_mut().for_each(|mut column| column -= &mean_drift);
        self.add(&x, &drift);

        let (before, new) = (self.count as f64, block.rows() as f64);
        let between = (before * new / (before + new)).sqrt();
        let difference = mean - &self.mean;
        let difference_drift = mean_drift - &self.mean_drift;
        self.mean += &difference * (new / (before + new));
        self.mean_drift += &difference_drift * (new / (before + new));
        let column = |v: DVector<f64>| DMatrix::from_column_slice(v.len(), 1, (v * between).as_slice());
        self.add(&column(difference), &column(difference_drift));
        self.count += block.rows() as u64;
        Ok(())
    }

    /// `(gram + penalty·I)⁻¹·cross`; leaves the equations unusable.
    fn solve(&mut self, penalty: f64) -> Result<DMatrix<f64>> {
        for i in 0..self.gram.nrows() {
            self.gram[(i, i)] += penalty;
        }
        let what = "the feature matrix of the linear compensator";
        let cholesky = Cholesky::new(&self.gram, what, "give it more samples or a larger ridge")?;
        let mut solution = std::mem::take(&mut self.cross);
        cholesky.solve(&mut solution);
        Ok(solution)
    }
}
