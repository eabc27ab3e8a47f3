//! Drift as attention over the task's samples.

use nalgebra::{DMatrix, DMatrixView};
use residua_memory::{Budget, Reservation};

use super::nearest::{Kernel, Nearest};
use super::{Compensator, Method, Mode, transport};
use crate::error::{check, same_dimension};
use crate::source::FeatureSource;
use crate::statistics::ClassStatistics;
use crate::{Precision, Result};

/// A feature drifts as the samples nearest to it did: `x ↦ x + Σ_k p_k·v_k` with `p` the softmax of
/// `cos(x, x_k)/T` over the k nearest samples (semantic drift compensation, Yu et al. 2020, as a modern
/// Hopfield network, Ramsauer et al. 2020). It follows drift that is no linear function of the feature, but
/// only where the task's samples are.
///
/// Cosines are taken a tile at a time with a running choice of the k nearest: scratch is a few MB a thread
/// whatever the number of samples and points. The samples themselves are kept, as direction and drift.
///
/// * [`Mode::Exact`]: class moments by symmetric cubature, points whose mean and covariance are exactly the
///   class's, so that their number can be small; nothing stale is blended in.
/// * [`Mode::Compat`]: moments over random draws, `0.9·new + 0.1·old`.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Which definition.
    pub mode: Mode,
    /// T.
    pub temperature: f64,
    /// k; all samples, if there are fewer.
    pub nearest: usize,
    /// Points a class: the number drawn in compat mode, at least this many in exact mode.
    pub points: usize,
    /// Of the draws of compat mode.
    pub seed: u64,
    /// Base points `[d, S]` to use in compat mode instead of draws.
    pub base: Option<DMatrix<f64>>,
    /// What samples are kept as; f64 counts as f32.
    pub precision: Precision,
}

impl Attention {
    /// The defaults of a mode.
    pub fn new(mode: Mode) -> Self {
        let (points, precision) = match mode {
            Mode::Compat => (2000, Precision::F32),
            Mode::Exact => (512, Precision::Bf16),
        };
        Self { mode, temperature: 0.1, nearest: 1000, points, seed: 0, base: None, precision }
    }
}

impl Default for Attention {
    fn default() -> Self {
        Self::new(Mode::Exact)
    }
}

impl Method for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn fit(&self, source: &mut dyn FeatureSource, budget: &Budget) -> Result<Box<dyn Compensator>> {
        check(self.temperature > 0.0, "temperature", self.temperature, "above 0")?;
        check(self.nearest > 0, "nearest", self.nearest as f64, "1 or more")?;
        check(self.points > 1, "points", self.points as f64, "2 or more")?;
        let dim = source.dim();
        let points = match (&self.base, self.mode) {
            (_, Mode::Exact) => None,
            (base, Mode::Compat) => {
                let count = base.as_ref().map_or(self.points, DMatrix::ncols);
                let held = budget.reserve(8 * (dim * count) as u64, "base points")?;
                let base = base.clone().unwrap_or_else(|| transport::draw(dim, count, self.seed));
                same_dimension("the base points", base.nrows(), dim)?;
                Some((base, held))
            }
        };
        let nearest = Nearest::read(source, self.precision, budget)?;
        let kernel = Kernel { k: self.nearest, temperature: self.temperature };
        Ok(Box::new(Fitted { nearest, kernel, points, least: self.points }))
    }
}

struct Fitted {
    nearest: Nearest,
    kernel: Kernel,
    /// Base points, in compat mode.
    points: Option<(DMatrix<f64>, Reservation)>,
    least: usize,
}

impl Fitted {
    fn scratch(&self) -> u64 {
        self.nearest.scratch(self.kernel) * rayon::current_num_threads() as u64
    }

    fn moved(&self, points: &DMatrix<f32>) -> DMatrix<f32> {
        points + self.nearest.drift(points.as_view(), self.kernel)
    }
}

impl Compensator for Fitted {
    fn dim(&self) -> usize {
        self.nearest.dim()
    }

    fn apply(&self, statistics: &ClassStatistics, budget: &Budget) -> Result<ClassStatistics> {
        same_dimension("the statistics", statistics.dim(), self.dim())?;
        let dim = self.dim();
        let count = self.points.as_ref().map(|(base, _)| base.ncols());
        let most = count.unwrap_or_else(|| transport::most_points(dim, self.least));
        let _held = budget.reserve(self.scratch(), "attention tiles")?;
        statistics.map(transport::scratch(dim, most), budget, |_, class| match &self.points {
            Some((base, _)) => transport::compat(class, base, |points| self.moved(points), budget),
            None => transport::exact(class, self.least, |points| self.moved(points), budget),
        })
    }

    fn apply_features(&self, features: DMatrixView<'_, f32>, budget: &Budget) -> Result<DMatrix<f32>> {
        same_dimension("the features", features.nrows(), self.dim())?;
        let size = 8 * features.len() as u64;
        let _held = budget.reserve(size + self.scratch(), "attention tiles")?;
        Ok(features + self.nearest.drift(features, self.kernel))
    }
}
