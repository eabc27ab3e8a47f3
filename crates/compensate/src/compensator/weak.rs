//! Drift as a linear function of the feature plus a small non-linear one.

use nalgebra::{DMatrix, DMatrixView};
use rand::{Rng, SeedableRng};
use residua_memory::{Budget, Reservation};

use super::lift::{Activation, draw_uniform};
use super::network::{AdamW, Network, Piece};
use super::ridge::{Exact, RidgeMap};
use super::saved::{Reader, Writer};
use super::transport::{Count, MOVING, PointMap, Points, Transport};
use super::{Compensator, Fitted, Method, Mode, not_empty};
use crate::cache::{CacheOptions, CachePrecision, FeatureCache, SPILLED};
use crate::error::{check, same_dimension};
use crate::setters::setters;
use crate::source::{FeatureSource, for_each_pair, pair_bytes};
use crate::{CompensateError, Result};

/// Samples of a piece of a batch: one piece at a time has a hidden layer in memory.
const PIECE: usize = 64;

/// A linear map plus a hidden layer of rectified units, after SLDC's weak-nonlinear transformation.
///
/// * [`Mode::Exact`] has a closed form. It regresses the drift on the centred feature itself and on random rectified
///   features `relu(Ωᵀx + b)`; generalised cross-validation chooses the ridge. It takes one pass over the source, needs
///   no learning rate, and its memory does not grow with the number of samples. Class moments come from symmetric
///   cubature.
/// * [`Mode::Compat`] trains `f(x) = w₀·A·x + w₁·B₂·relu(B₁x)`, `w = softmax(a/eˢ)`, with AdamW on
///   `mean |f(x) − y|² + ½(w₀ − 1)²`. The rate falls along a cosine to a third of it. Moments are over random draws.
///   The hidden layer of a batch lives until its gradient is there. Minibatches come from a [`FeatureCache`] that keeps
///   in memory what fits the budget, and the rest in a temporary file.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WeakNonlinear {
    /// Which definition.
    pub mode: Mode,
    /// Hidden units: d in compat mode, 1024 in exact mode, unless set.
    pub hidden: Option<usize>,
    /// The ridge of the hidden units relative to their mean variance, chosen by generalised cross-validation unless set;
    /// exact mode.
    pub ridge: Option<f64>,
    /// Steps; compat mode.
    pub steps: usize,
    /// Samples of a step; compat mode.
    pub batch: usize,
    /// The first learning rate; compat mode.
    pub rate: f64,
    /// Weight decay; compat mode.
    pub decay: f64,
    /// Points for each class: the number drawn in compat mode, at least this many in exact mode.
    pub points: usize,
    /// The seed of the hidden layer, the minibatches and the draws.
    pub seed: u64,
    /// Base points `[d, S]` instead of draws; compat mode.
    pub base: Option<DMatrix<f64>>,
    /// The first B₁ `[h, d]` and B₂ `[d, h]` instead of draws; compat mode.
    pub start: Option<(DMatrix<f32>, DMatrix<f32>)>,
    /// The samples of all steps in turn, `batch` for each, instead of draws; compat mode.
    pub batches: Option<Vec<u32>>,
    /// As [`Rff::noise`](super::Rff::noise); exact mode.
    pub noise: f64,
}

impl WeakNonlinear {
    /// The defaults of a mode.
    pub fn new(mode: Mode) -> Self {
        let points = match mode {
            Mode::Compat => 5000,
            Mode::Exact => 512,
        };
        Self {
            mode,
            hidden: None,
            ridge: None,
            steps: 4000,
            batch: 64,
            rate: 1e-3,
            decay: 1e-5,
            points,
            seed: 0,
            base: None,
            start: None,
            batches: None,
            noise: 1.0,
        }
    }

    setters! {
        /// With this number of hidden units.
        with_hidden: hidden: Some(usize),
        /// With this ridge of the hidden units.
        with_ridge: ridge: Some(f64),
        /// With this number of steps.
        with_steps: steps: usize,
        /// With this number of samples for each step.
        with_batch: batch: usize,
        /// With this first learning rate.
        with_rate: rate: f64,
        /// With this weight decay.
        with_decay: decay: f64,
        /// With this number of points for each class.
        with_points: points: usize,
        /// With this seed.
        with_seed: seed: u64,
        /// With these base points `[d, S]`.
        with_base: base: Some(DMatrix<f64>),
        /// With these first weights B₁ `[h, d]` and B₂ `[d, h]`.
        with_start: start: Some((DMatrix<f32>, DMatrix<f32>)),
        /// With the samples of all steps.
        with_batches: batches: Some(Vec<u32>),
        /// With this share of the unexplained covariance.
        with_noise: noise: f64,
    }
}

impl Default for WeakNonlinear {
    fn default() -> Self {
        Self::new(Mode::Exact)
    }
}

impl Method for WeakNonlinear {
    fn name(&self) -> &'static str {
        "weak-nonlinear"
    }

    fn learn(&self, source: &mut dyn FeatureSource, budget: &Budget) -> Result<Box<dyn Compensator>> {
        check(self.hidden != Some(0), "hidden", 0.0, "1 or more")?;
        check((0.0..=1.0).contains(&self.noise), "noise", self.noise, "from 0 to 1")?;
        if let Some(ridge) = self.ridge {
            check(ridge >= 0.0 && ridge.is_finite(), "ridge", ridge, "0 or more")?;
        }
        match self.mode {
            Mode::Exact => {
                let points = Points::cubature(self.points)?;
                let (map, stretch) = self.exact().fit(source, budget)?;
                Ok(Box::new(Transport { map, points, stretch }))
            }
            Mode::Compat => {
                // Refused before the work, not when the first class is moved.
                budget.require(self.bytes(source, None), MOVING)?;
                let (dim, base) = (source.dim(), self.base.as_ref());
                let points = Points::drawn(dim, self.points, self.seed, base, 0.0, budget)?;
                let map = self.train(source, budget)?;
                Ok(Box::new(Transport { map, points, stretch: None }))
            }
        }
    }

    fn bytes(&self, source: &dyn FeatureSource, rank: Option<usize>) -> u64 {
        let dim = source.dim();
        let count = Count::of(self.mode, self.points, self.base.as_ref());
        match self.mode {
            Mode::Exact => {
                let exact = self.exact();
                let scratch = |points| RidgeMap::scratch_bytes(dim, exact.features, points);
                count.bytes(dim, rank, exact.bytes(source), exact.map_bytes(dim), scratch)
            }
            Mode::Compat => {
                let hidden = self.width(dim);
                let (network, work) = Self::training_bytes(dim, hidden);
                // A few samples in memory, and where all others are in the file.
                let samples = PIECE as u64 * (8 * dim as u64 + 128);
                let cache = samples.saturating_add(SPILLED.saturating_mul(source.rows().unwrap_or(0)));
                let fitting = network.saturating_add(work + pair_bytes(source)).saturating_add(cache);
                let scratch = |points| Trained::scratch_bytes(dim, hidden, points);
                count.bytes(dim, rank, fitting, network, scratch)
            }
        }
    }
}

impl WeakNonlinear {
    /// The regression of exact mode.
    fn exact(&self) -> Exact {
        Exact {
            activation: Activation::Relu,
            features: self.hidden.unwrap_or(1024),
            bandwidth: 1.0,
            seed: self.seed,
            ridge: self.ridge,
            noise: self.noise,
        }
    }

    /// Hidden units of the network.
    fn width(&self, dim: usize) -> usize {
        self.start.as_ref().map_or(self.hidden.unwrap_or(dim), |(inner, _)| inner.nrows())
    }

    /// Bytes of a network, and those that training takes beside it.
    fn training_bytes(dim: usize, hidden: usize) -> (u64, u64) {
        let size = 4 * Network::len(dim, hidden) as u64;
        // The gradient and two moments, or before them the draws of the first weights; a batch's pieces on all layers.
        let work = (3 * size).max(16 * (dim * hidden) as u64) + (8 * PIECE * (5 * dim + 2 * hidden)) as u64;
        (size, work)
    }

    fn train(&self, source: &mut dyn FeatureSource, budget: &Budget) -> Result<Trained> {
        check(self.batch > 0, "batch", self.batch as f64, "1 or more")?;
        check(self.rate > 0.0 && self.rate.is_finite(), "rate", self.rate, "above 0")?;
        check(self.decay >= 0.0 && self.decay.is_finite(), "decay", self.decay, "0 or more")?;
        let (dim, hidden) = (source.dim(), self.width(source.dim()));
        let (size, work) = Self::training_bytes(dim, hidden);
        let held = budget.reserve(size, "a network")?;
        let _work = budget.reserve(work, "training a network")?;
        let mut network = self.initial(dim)?;
        let (mut samples, count) = store(source, budget)?;
        let mut order = Order { batches: self.batches.as_deref(), rng: self.generator(), next: 0 };
        let mut gradient = Network::zeros(dim, hidden);
        let mut optimiser = AdamW::new(dim, hidden);
        let mut row = vec![0.0; 2 * dim];
        // All pieces but the last have one size.
        let (whole, rest) = (self.batch / PIECE, self.batch % PIECE);
        let mut pieces = [(whole, PIECE), (usize::from(rest > 0), rest)]
            .map(|(times, size)| (times, Piece::new(dim, hidden, if times > 0 { size } else { 0 })));
        for step in 0..self.steps {
            let mut add = false;
            for (times, piece) in &mut pieces {
                for _ in 0..*times {
                    for column in 0..piece.x.ncols() {
                        let sample = order.next(count)?;
                        if !samples.get(sample, &mut row)? {
                            return Err(CompensateError::Missing("sample that a batch asks for"));
                        }
                        piece.x.column_mut(column).copy_from_slice(&row[..dim]);
                        piece.y.column_mut(column).copy_from_slice(&row[dim..]);
                    }
                    network.gradient(piece, 1.0 / (self.batch * dim) as f32, add, &mut gradient);
                    add = true;
                }
            }
            network.add_pull(&mut gradient);
            optimiser.step(&mut network, &gradient, self.rate_at(step), self.decay);
        }
        if network.parts().iter().any(|part| part.iter().any(|v| !v.is_finite())) {
            let remedy = "use a smaller learning rate, or features of a smaller scale";
            return Err(CompensateError::Singular {
                what: "the trained network (its weights overflowed)".into(),
                remedy,
            });
        }
        Ok(Trained { network, _held: held })
    }

    /// Falls from the rate to a third of it along half a cosine.
    fn rate_at(&self, step: usize) -> f64 {
        let least = self.rate / 3.0;
        let turn = std::f64::consts::PI * step as f64 / self.steps as f64;
        least + (self.rate - least) * 0.5 * (1.0 + turn.cos())
    }

    fn generator(&self) -> rand_chacha::ChaCha8Rng {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(self.seed);
        // Streams 0 and 1 are for normal and uniform numbers.
        rng.set_stream(2);
        rng
    }

    /// A is the identity, a = (1, 0), s = 0; the hidden layer is drawn like a linear layer in torch.
    fn initial(&self, dim: usize) -> Result<Network> {
        let (inner, outer) = match &self.start {
            Some((inner, outer)) => (inner.clone(), outer.clone()),
            None => {
                let hidden = self.hidden.unwrap_or(dim);
                let numbers = draw_uniform(2 * hidden * dim, self.seed);
                let layer = |rows: usize, cols: usize, from: usize| {
                    let bound = 1.0 / (cols.max(1) as f64).sqrt();
                    let numbers = numbers.rows(from, rows * cols);
                    DMatrix::from_iterator(
                        rows,
                        cols,
                        numbers.iter().map(|u| ((2.0 * u - 1.0) * bound) as f32),
                    )
                };
                (layer(hidden, dim, 0), layer(dim, hidden, hidden * dim))
            }
        };
        same_dimension("the first layer", inner.ncols(), dim)?;
        same_dimension("the second layer", outer.nrows(), dim)?;
        same_dimension("the second layer's hidden side", outer.ncols(), inner.nrows())?;
        Ok(Network { linear: DMatrix::identity(dim, dim), inner, outer, gates: [1.0, 0.0, 0.0] })
    }
}

/// All samples of a source by number, each `[before, after]`: in memory up to half of the budget that is left, the rest
/// in a temporary file.
fn store(source: &mut dyn FeatureSource, budget: &Budget) -> Result<(FeatureCache, u64)> {
    let dim = source.dim();
    // The other half has room for the block of the source that is read meanwhile.
    let bytes = (budget.available() / 2).max(16 * dim as u64 + 256);
    let options = CacheOptions {
        entries: usize::MAX,
        bytes,
        precision: CachePrecision::F32,
        lifetime: None,
        spill: true,
    };
    let mut samples = FeatureCache::new(2 * dim, options, budget)?;
    let mut count = 0;
    let mut row = Vec::with_capacity(2 * dim);
    for_each_pair(source, budget, |before, after| {
        for (before, after) in before.column_iter().zip(after.column_iter()) {
            row.clear();
            row.extend(before.iter().chain(after.iter()));
            samples.insert(count, &row)?;
            count += 1;
        }
        Ok(())
    })?;
    not_empty(count, source)?;
    Ok((samples, count))
}

/// The order of samples.
struct Order<'a> {
    batches: Option<&'a [u32]>,
    rng: rand_chacha::ChaCha8Rng,
    next: usize,
}

impl Order<'_> {
    fn next(&mut self, count: u64) -> Result<u64> {
        let Some(batches) = self.batches else {
            // The bias of a 64-bit remainder is below 2^-32 for any number of samples that fits a disk.
            return Ok(self.rng.next_u64() % count);
        };
        let sample = batches.get(self.next).copied().map(u64::from).filter(|&sample| sample < count);
        self.next += 1;
        sample.ok_or(CompensateError::Missing("sample that a given batch names"))
    }
}

/// A network that has been trained.
pub(super) struct Trained {
    network: Network,
    _held: Reservation,
}

impl Trained {
    fn scratch_bytes(dim: usize, hidden: usize, points: usize) -> u64 {
        4 * (points * (dim + 2 * hidden)) as u64
    }
}

impl PointMap for Trained {
    fn dim(&self) -> usize {
        self.network.linear.nrows()
    }

    fn scratch(&self, points: usize) -> u64 {
        Self::scratch_bytes(self.dim(), self.network.inner.nrows(), points)
    }

    fn kind(&self) -> Fitted {
        Fitted::Network
    }

    fn write(&self, file: &mut Writer) -> Result<()> {
        let Network { linear, inner, outer, gates } = &self.network;
        file.vector("gates", gates)?;
        file.matrix("linear", linear)?;
        file.matrix("inner", inner)?;
        file.matrix("outer", outer)
    }

    fn read(reader: &mut Reader<'_>, _: &Budget) -> Result<Self> {
        let dim = reader.dim;
        let gates = reader.vector::<f32>("gates", 3)?;
        let (hidden, _) = reader.shape("inner")?;
        let network = Network {
            gates: [gates[0], gates[1], gates[2]],
            linear: reader.matrix("linear", dim, dim)?,
            inner: reader.matrix("inner", hidden, dim)?,
            outer: reader.matrix("outer", dim, hidden)?,
        };
        Ok(Self { network, _held: reader.take_held()? })
    }

    fn map(&self, points: DMatrixView<'_, f32>) -> Result<DMatrix<f32>> {
        Ok(self.network.forward(points))
    }
}
