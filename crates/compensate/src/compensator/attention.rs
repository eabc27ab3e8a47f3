//! Drift as attention over the task's samples.

use nalgebra::{DMatrix, DMatrixView};
use residua_memory::Budget;

use super::nearest::{Kernel, Nearest};
use super::saved::{Reader, Writer};
use super::transport::{Count, MOVING, PointMap, Points, STALE, Transport};
use super::{Compensator, Fitted, Method, Mode};
use crate::error::check;
use crate::setters::setters;
use crate::source::{FeatureSource, pair_bytes};
use crate::{Precision, Result};

/// A feature drifts like the samples nearest to it: `x ↦ x + Σ_k p_k·v_k`, where `p` is the softmax of `cos(x, x_k)/T`
/// over the k nearest samples (semantic drift compensation, Yu et al. 2020; a modern Hopfield network, Ramsauer et
/// al. 2020). It follows drift that is no linear function of the feature, but only near the task's samples.
///
/// It computes cosines tile by tile and keeps the k nearest so far: scratch is a few MB per thread for any number of
/// samples. It keeps directions and drifts of all samples; in a temporary file, if they would take more than a quarter
/// of the memory that is left.
///
/// * [`Mode::Exact`] finds class moments by symmetric cubature. The points have exactly the class's mean and covariance,
///   so a few of them suffice. Nothing stale is blended in.
/// * [`Mode::Compat`] takes moments over random draws, `0.9·new + 0.1·old`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Attention {
    /// Which definition.
    pub mode: Mode,
    /// T.
    pub temperature: f64,
    /// k; all samples where there are fewer.
    pub nearest: usize,
    /// Points for each class: the number drawn in compat mode, at least this many in exact mode.
    pub points: usize,
    /// The seed of the draws; compat mode.
    pub seed: u64,
    /// Base points `[d, S]` instead of draws; compat mode.
    pub base: Option<DMatrix<f64>>,
    /// The precision of stored samples; f64 counts as f32.
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

    setters! {
        /// With this temperature.
        with_temperature: temperature: f64,
        /// With this number of nearest samples.
        with_nearest: nearest: usize,
        /// With this number of points for each class.
        with_points: points: usize,
        /// With this seed.
        with_seed: seed: u64,
        /// With these base points `[d, S]`.
        with_base: base: Some(DMatrix<f64>),
        /// With samples stored at this precision.
        with_precision: precision: Precision,
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

    fn learn(&self, source: &mut dyn FeatureSource, budget: &Budget) -> Result<Box<dyn Compensator>> {
        check(self.temperature > 0.0, "temperature", self.temperature, "above 0")?;
        check(self.nearest > 0, "nearest", self.nearest as f64, "1 or more")?;
        let work = self.bytes(source, None);
        let points = match self.mode {
            Mode::Exact => Points::cubature(self.points)?,
            Mode::Compat => {
                // Refused before the work, not when the first class is moved.
                budget.require(work, MOVING)?;
                Points::drawn(source.dim(), self.points, self.seed, self.base.as_ref(), STALE, budget)?
            }
        };
        let nearest = Nearest::read(source, self.precision, work, budget)?;
        Ok(Box::new(Transport { map: Attend { nearest, kernel: self.kernel() }, points, stretch: None }))
    }

    fn bytes(&self, source: &dyn FeatureSource, rank: Option<usize>) -> u64 {
        let (dim, samples) = (source.dim(), source.rows().map_or(u32::MAX as usize, |rows| rows as usize));
        let scratch = |points| Nearest::scratch_bytes(dim, samples, self.kernel(), points);
        // Samples can be in a file.
        Count::of(self.mode, self.points, self.base.as_ref()).bytes(dim, rank, pair_bytes(source), 0, scratch)
    }
}

impl Attention {
    fn kernel(&self) -> Kernel {
        Kernel { k: self.nearest, temperature: self.temperature }
    }
}

pub(super) struct Attend {
    nearest: Nearest,
    kernel: Kernel,
}

impl PointMap for Attend {
    fn dim(&self) -> usize {
        self.nearest.dim()
    }

    fn scratch(&self, points: usize) -> u64 {
        Nearest::scratch_bytes(self.nearest.dim(), self.nearest.count(), self.kernel, points)
    }

    fn kind(&self) -> Fitted {
        Fitted::Attention
    }

    fn write(&self, file: &mut Writer) -> Result<()> {
        file.vector("kernel", &[self.kernel.k as f64, self.kernel.temperature])?;
        self.nearest.write(file)
    }

    fn read(reader: &mut Reader<'_>, budget: &Budget) -> Result<Self> {
        let kernel = reader.vector::<f64>("kernel", 2)?;
        if !(1.0..=f64::from(u32::MAX)).contains(&kernel[0]) || kernel[1] <= 0.0 {
            return Err(reader.wrong(format!("{} nearest samples, temperature {}", kernel[0], kernel[1])));
        }
        let kernel = Kernel { k: kernel[0] as usize, temperature: kernel[1] };
        Ok(Self { nearest: Nearest::restore(reader, budget)?, kernel })
    }

    fn map(&self, points: DMatrixView<'_, f32>) -> Result<DMatrix<f32>> {
        let mut moved = self.nearest.drift(points, self.kernel)?;
        moved += points;
        Ok(moved)
    }
}
