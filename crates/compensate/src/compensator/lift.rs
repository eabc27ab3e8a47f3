//! Random non-linear features for linear regressions.

use nalgebra::{DMatrix, DMatrixView, DVector};
use rand::{Rng, SeedableRng};
use rayon::prelude::*;

use crate::algebra;
use crate::error::same_dimension;
use crate::{CompensateError, Result};

/// Samples whose features one thread finds at a time.
const PANEL: usize = 64;

/// A function of a projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    /// Random Fourier features (Rahimi, Recht 2007).
    Cosine,
    /// Random ReLU features, an untrained hidden layer.
    Relu,
}

/// `x ↦ gain·g(Ωᵀ·x + b)`, with `Ω [d, M]` and `b [M]`.
#[derive(Debug)]
pub(super) struct Lift {
    /// `Ω [d, M]`.
    pub(super) directions: DMatrix<f32>,
    pub(super) offsets: DVector<f32>,
    pub(super) activation: Activation,
    pub(super) gain: f32,
    /// Whether x is divided by its norm first.
    pub(super) normalise: bool,
}

/// `count` standard normal points `[dim, count]`. The generator is counter-based: a seed gives the same numbers on
/// every platform.
pub(crate) fn draw(dim: usize, count: usize, seed: u64) -> DMatrix<f64> {
    use rand_distr::{Distribution, StandardNormal};
    let rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    DMatrix::from_iterator(dim, count, StandardNormal.sample_iter(rng).take(dim * count))
}

/// `count` numbers, evenly distributed from 0 to 1.
pub(super) fn draw_uniform(count: usize, seed: u64) -> DVector<f64> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    // Normal numbers of the same seed come from stream 0.
    rng.set_stream(1);
    DVector::from_fn(count, |_, _| (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64)
}

impl Lift {
    /// The features of the reference: `√(2/D)·cos(Ωᵀ·x/|x| + b)`. Draws Ω and b unless they are given.
    pub(super) fn reference(
        dim: usize,
        count: usize,
        seed: u64,
        directions: Option<&DMatrix<f64>>,
        offsets: Option<&DVector<f64>>,
    ) -> Result<Self> {
        let directions = directions.map_or_else(|| draw(dim, count, seed), DMatrix::clone);
        let count = directions.ncols();
        same_dimension("the directions of the random features", directions.nrows(), dim)?;
        let offsets =
            offsets.map_or_else(|| draw_uniform(count, seed) * std::f64::consts::TAU, DVector::clone);
        if offsets.len() != count {
            let (found, expected) = (offsets.len() as u64, count as u64);
            return Err(CompensateError::Rows {
                what: "the offsets of the random features".into(),
                found,
                expected,
            });
        }
        Ok(Self {
            directions: directions.map(|v| v as f32),
            offsets: offsets.map(|v| v as f32),
            activation: Activation::Cosine,
            gain: (2.0 / count as f64).sqrt() as f32,
            normalise: false,
        }
        .normalised())
    }

    fn normalised(self) -> Self {
        Self { normalise: true, ..self }
    }

    /// Features for samples like `sample [d, n]`: projections of the distance from their mean, in units of `bandwidth`
    /// times the root mean square distance.
    pub(super) fn like(
        sample: DMatrixView<'_, f32>,
        activation: Activation,
        count: usize,
        bandwidth: f64,
        seed: u64,
    ) -> Self {
        let sample = sample.map(f64::from);
        let centre = sample.column_mean();
        let squares: f64 = sample.column_iter().map(|column| (column - &centre).norm_squared()).sum();
        let distance = (squares / sample.ncols().max(1) as f64).sqrt();
        let unit = if distance > 0.0 { bandwidth * distance } else { 1.0 };
        let directions = draw(sample.nrows(), count, seed) / unit;
        let offsets = match activation {
            Activation::Cosine => draw_uniform(count, seed) * std::f64::consts::TAU,
            // Kinks on both sides of the mean, about half of them within half a deviation.
            Activation::Relu => draw_uniform(count, seed).add_scalar(-0.5) * 2.0,
        };
        let offsets = offsets - directions.tr_mul(&centre);
        Self {
            directions: directions.map(|v| v as f32),
            offsets: offsets.map(|v| v as f32),
            activation,
            gain: 1.0,
            normalise: false,
        }
    }

    /// Number of features.
    pub(super) fn count(&self) -> usize {
        self.offsets.len()
    }

    /// The features `[M, n]` of `x [d, n]`.
    pub(super) fn features(&self, x: DMatrixView<'_, f32>) -> DMatrix<f32> {
        let mut out = DMatrix::zeros(self.count(), x.ncols());
        if self.count() == 0 {
            return out;
        }
        out.as_mut_slice().par_chunks_mut(self.count() * PANEL).enumerate().for_each(|(panel, out)| {
            let mut x = x.columns(panel * PANEL, out.len() / self.count()).into_owned();
            if self.normalise {
                x.column_iter_mut().for_each(|mut column| column /= column.norm().max(1e-12));
            }
            let projected = algebra::product(algebra::t(&self.directions), algebra::n(&x));
            for (out, projected) in out.chunks_mut(self.count()).zip(projected.column_iter()) {
                for ((out, projected), offset) in
                    out.iter_mut().zip(projected.iter()).zip(self.offsets.iter())
                {
                    let z = projected + offset;
                    *out = self.gain
                        * match self.activation {
                            Activation::Cosine => z.cos(),
                            Activation::Relu => z.max(0.0),
                        };
                }
            }
        });
        out
    }
}
