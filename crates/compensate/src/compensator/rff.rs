//! Drift as a ridge regression on random Fourier features.

use nalgebra::{DMatrix, DVector};
use residua_memory::Budget;

use super::lift::{Activation, Lift};
use super::ridge::{self, Exact, RidgeMap};
use super::transport::{Count, MOVING, Points, STALE, Transport};
use super::{Compensator, Method, Mode};
use crate::Result;
use crate::error::check;
use crate::setters::setters;
use crate::source::{FeatureSource, pair_bytes};

/// Kernel ridge regression of the drift by random Fourier features (Rahimi and Recht, "Random features for large-scale
/// kernel machines", 2007). The drift may be any smooth function of the feature. Normal equations are accumulated block
/// by block: memory does not grow with the number of samples.
///
/// * [`Mode::Exact`] regresses on the centred feature itself and on `cos(Ωᵀx + b)`: a linear map follows the linear part
///   of the drift. The kernel is `bandwidth` times as wide as the features' root mean square distance from their mean.
///   Generalised cross-validation chooses the ridge from the accumulated moments. Class moments come from symmetric
///   cubature; nothing stale is blended in.
/// * [`Mode::Compat`] takes `drift = √(2/D)·cos(Ωx̂ + b)·W` with `x̂ = x/|x|`, Ω standard normal, and a fixed ridge;
///   moments over random draws, `0.9·new + 0.1·old`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Rff {
    /// Which definition.
    pub mode: Mode,
    /// D, the number of random features.
    pub features: usize,
    /// γ: absolute in compat mode, 1e-4 unless set; relative to the features' mean variance in exact mode, chosen by
    /// generalised cross-validation unless set.
    pub ridge: Option<f64>,
    /// The kernel's width in units of the root mean square distance of the first 256 samples from their mean; exact mode.
    pub bandwidth: f64,
    /// Points for each class: the number drawn in compat mode, at least this many in exact mode.
    pub points: usize,
    /// The seed of Ω, b, and the draws of compat mode.
    pub seed: u64,
    /// Base points `[d, S]` instead of draws; compat mode.
    pub base: Option<DMatrix<f64>>,
    /// Ω `[d, D]` instead of draws; compat mode.
    pub directions: Option<DMatrix<f64>>,
    /// b `[D]` instead of draws; compat mode.
    pub offsets: Option<DVector<f64>>,
    /// The share of the unexplained covariance that moved covariances are stretched to hold, 0 to 1; exact mode.
    pub noise: f64,
}

impl Rff {
    /// The defaults of a mode.
    pub fn new(mode: Mode) -> Self {
        let (features, points) = match mode {
            Mode::Compat => (2048, 2000),
            Mode::Exact => (1024, 512),
        };
        Self {
            mode,
            features,
            ridge: None,
            bandwidth: 1.0,
            points,
            seed: 0,
            base: None,
            directions: None,
            offsets: None,
            noise: 1.0,
        }
    }

    setters! {
        /// With this number of random features.
        with_features: features: usize,
        /// With this ridge.
        with_ridge: ridge: Some(f64),
        /// With a kernel of this width.
        with_bandwidth: bandwidth: f64,
        /// With this number of points for each class.
        with_points: points: usize,
        /// With this seed.
        with_seed: seed: u64,
        /// With these base points `[d, S]`.
        with_base: base: Some(DMatrix<f64>),
        /// With this Ω `[d, D]`.
        with_directions: directions: Some(DMatrix<f64>),
        /// With this b `[D]`.
        with_offsets: offsets: Some(DVector<f64>),
        /// With this share of the unexplained covariance.
        with_noise: noise: f64,
    }
}

impl Default for Rff {
    fn default() -> Self {
        Self::new(Mode::Exact)
    }
}

impl Method for Rff {
    fn name(&self) -> &'static str {
        "rff"
    }

    fn learn(&self, source: &mut dyn FeatureSource, budget: &Budget) -> Result<Box<dyn Compensator>> {
        let ridge = self.ridge.unwrap_or(1e-4);
        check(ridge >= 0.0 && ridge.is_finite(), "ridge", ridge, "0 or more")?;
        check(self.features > 0, "features", self.features as f64, "1 or more")?;
        check(self.bandwidth > 0.0, "bandwidth", self.bandwidth, "above 0")?;
        check((0.0..=1.0).contains(&self.noise), "noise", self.noise, "from 0 to 1")?;
        match self.mode {
            Mode::Compat => {
                let (dim, base) = (source.dim(), self.base.as_ref());
                // Refused before the work, not when the first class is moved.
                budget.require(self.bytes(source, None), MOVING)?;
                let points = Points::drawn(dim, self.points, self.seed, base, STALE, budget)?;
                let (directions, offsets) = (self.directions.as_ref(), self.offsets.as_ref());
                let numbers = (dim as u64 + 1).saturating_mul(self.features as u64);
                let drawing = budget.reserve(numbers.saturating_mul(12), "drawing random features")?;
                let lift = Lift::reference(dim, self.features, self.seed, directions, offsets)?;
                drop(drawing);
                let map = ridge::reference(lift, ridge, source, budget)?;
                Ok(Box::new(Transport { map, points, stretch: None }))
            }
            Mode::Exact => {
                let points = Points::cubature(self.points)?;
                let (map, stretch) = self.exact().fit(source, budget)?;
                Ok(Box::new(Transport { map, points, stretch }))
            }
        }
    }

    fn bytes(&self, source: &dyn FeatureSource, rank: Option<usize>) -> u64 {
        let dim = source.dim();
        let (fitting, held) = match self.mode {
            Mode::Exact => (self.exact().bytes(source), self.exact().map_bytes(dim)),
            Mode::Compat => {
                let held = RidgeMap::bytes(dim, self.features, false);
                let work = RidgeMap::reference_bytes(dim, self.features).saturating_add(pair_bytes(source));
                (held.saturating_add(work), held)
            }
        };
        let scratch = |points| RidgeMap::scratch_bytes(dim, self.features, points);
        Count::of(self.mode, self.points, self.base.as_ref()).bytes(dim, rank, fitting, held, scratch)
    }
}

impl Rff {
    /// The regression of exact mode.
    fn exact(&self) -> Exact {
        Exact {
            activation: Activation::Cosine,
            features: self.features,
            bandwidth: self.bandwidth,
            seed: self.seed,
            ridge: self.ridge,
            noise: self.noise,
        }
    }
}
