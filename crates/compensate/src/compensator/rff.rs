//! Drift as a ridge regression on random Fourier features.

use nalgebra::{DMatrix, DVector};
use residua_memory::Budget;

use super::lift::{Activation, Lift};
use super::ridge::{self, Exact};
use super::transport::{Points, STALE, Transport};
use super::{Compensator, Method, Mode};
use crate::Result;
use crate::error::check;
use crate::source::FeatureSource;

/// Kernel ridge regression of the drift by random Fourier features (Rahimi and Recht, "Random features for
/// large-scale kernel machines", 2007): drift that is any smooth function of the feature, learned from normal
/// equations that are accumulated block by block, so that memory does not grow with the number of samples.
///
/// * [`Mode::Exact`]: regressed on the centred feature itself and `cos(Ωᵀx + b)`, so that what is linear in the
///   drift is left to a linear map; the kernel's width is `bandwidth` times the features' root mean square
///   distance from their mean; the ridge is chosen by generalised cross-validation, which needs nothing but the
///   accumulated moments. Class moments by symmetric cubature, nothing stale blended in.
/// * [`Mode::Compat`]: `drift = √(2/D)·cos(Ωx̂ + b)·W` with `x̂ = x/|x|`, Ω standard normal, a fixed ridge;
///   moments over random draws, `0.9·new + 0.1·old`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rff {
    /// Which definition.
    pub mode: Mode,
    /// D, the number of random features.
    pub features: usize,
    /// γ: absolute in compat mode (1e-4 unless given), relative to the features' mean variance in exact mode
    /// (chosen by generalised cross-validation unless given).
    pub ridge: Option<f64>,
    /// The kernel's width in units of the root mean square distance of the first 256 samples from their mean; exact mode.
    pub bandwidth: f64,
    /// Points a class: the number drawn in compat mode, at least this many in exact mode.
    pub points: usize,
    /// Of Ω, b and the draws of compat mode.
    pub seed: u64,
    /// Base points `[d, S]` to use in compat mode instead of draws.
    pub base: Option<DMatrix<f64>>,
    /// Ω `[d, D]` to use in compat mode instead of draws.
    pub directions: Option<DMatrix<f64>>,
    /// b `[D]` to use in compat mode instead of draws.
    pub offsets: Option<DVector<f64>>,
    /// How much of the covariance that the regression leaves unexplained moved covariances are stretched to hold,
    /// 0 to 1; exact mode.
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

    fn fit(&self, source: &mut dyn FeatureSource, budget: &Budget) -> Result<Box<dyn Compensator>> {
        let ridge = self.ridge.unwrap_or(1e-4);
        check(ridge >= 0.0 && ridge.is_finite(), "ridge", ridge, "0 or more")?;
        check(self.features > 0, "features", self.features as f64, "1 or more")?;
        check(self.bandwidth > 0.0, "bandwidth", self.bandwidth, "above 0")?;
        check((0.0..=1.0).contains(&self.noise), "noise", self.noise, "from 0 to 1")?;
        match self.mode {
            Mode::Compat => {
                let (dim, base) = (source.dim(), self.base.as_ref());
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
                let exact = Exact {
                    activation: Activation::Cosine,
                    features: self.features,
                    bandwidth: self.bandwidth,
                    seed: self.seed,
                    ridge: self.ridge,
                    noise: self.noise,
                };
                let (map, stretch) = exact.fit(source, budget)?;
                Ok(Box::new(Transport { map, points, stretch }))
            }
        }
    }
}
