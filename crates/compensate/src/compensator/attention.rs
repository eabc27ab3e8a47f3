//! Drift as attention over the task's samples.

use nalgebra::{DMatrix, DMatrixView};
use residua_memory::Budget;

use super::nearest::{Kernel, Nearest};
use super::transport::{PointMap, Points, STALE, Transport};
use super::{Compensator, Method, Mode};
use crate::error::check;
use crate::source::FeatureSource;
use crate::{Precision, Result};

/// A feature drifts as the samples nearest to it did: `x ↦ x + Σ_k p_k·v_k` with `p` the softmax of
/// `cos(x, x_k)/T` over the k nearest samples (semantic drift compensation, Yu et al. 2020, as a modern
/// Hopfield network, Ramsauer et al. 2020). It follows drift that is no linear function of the feature, but
/// only where the task's samples are.
///
/// Cosines are taken a tile at a time with a running choice of the k nearest: scratch is a few MB a thread
/// whatever the number of samples. The samples themselves are kept, as direction and drift, in a temporary file if
/// they would take more than a quarter of the memory that is left.
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
        let points = match self.mode {
            Mode::Exact => Points::cubature(self.points)?,
            Mode::Compat => {
                Points::drawn(source.dim(), self.points, self.seed, self.base.as_ref(), STALE, budget)?
            }
        };
        let nearest = Nearest::read(source, self.precision, budget)?;
        let kernel = Kernel { k: self.nearest, temperature: self.temperature };
        Ok(Box::new(Transport { map: Attend { nearest, kernel }, points, stretch: None }))
    }
}

struct Attend {
    nearest: Nearest,
    kernel: Kernel,
}

impl PointMap for Attend {
    fn dim(&self) -> usize {
        self.nearest.dim()
    }

    fn scratch(&self, points: usize) -> u64 {
        self.nearest.scratch(self.kernel, points)
    }

    fn map(&self, points: DMatrixView<'_, f32>) -> Result<DMatrix<f32>> {
        let mut moved = self.nearest.drift(points, self.kernel)?;
        moved += points;
        Ok(moved)
    }
}
