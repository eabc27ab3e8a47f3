//! Ridge regression of drift on the feature itself and random features of it.

use nalgebra::{DMatrix, DMatrixView, DVector};
use residua_memory::{Budget, Reservation};

use super::choose::choose;
use super::lift::{Activation, Lift};
use super::regress::{ExplainedAndNoise, Moments};
use super::saved::{Reader, Writer};
use super::transport::PointMap;
use super::{Fitted, noise, not_empty};
use crate::source::{BLOCK, FeatureSource, for_each_pair, pair_bytes};
use crate::{CompensateError, Result, algebra};

/// Candidate ridges for random features, relative to their mean variance. They rise, so that of equally good ones the
/// smoothest wins.
const RIDGES: [f64; 6] = [1e-3, 1e-2, 1e-1, 0.3, 1.0, 10.0];
/// `x ↦ x + Wᵀ·φ(x) + c`, where `φ(x)` is random features, maybe after x itself.
pub(super) struct RidgeMap {
    lift: Lift,
    /// For x itself `[d, d]`, if it takes part.
    linear: Option<DMatrix<f32>>,
    /// For the random features `[M, d]`.
    weights: DMatrix<f32>,
    /// c.
    shift: DVector<f32>,
    _held: Reservation,
}

impl RidgeMap {
    /// Bytes of a map.
    pub(super) fn bytes(dim: usize, lift: usize, linear: bool) -> u64 {
        let (dim, lift) = (dim as u64, lift as u64);
        let numbers = (2 * dim + 1).saturating_mul(lift).saturating_add(dim);
        4u64.saturating_mul(numbers.saturating_add(if linear { dim * dim } else { 0 }))
    }

    /// Bytes to move `points` points.
    pub(super) fn scratch_bytes(dim: usize, lift: usize, points: usize) -> u64 {
        (4 * points as u64).saturating_mul((lift as u64).saturating_add(dim as u64))
    }

    /// Bytes to fit the map of the reference, beside it.
    pub(super) fn reference_bytes(dim: usize, lift: usize) -> u64 {
        let block = (2 * lift as u64).saturating_add(3 * dim as u64).saturating_mul(8 * BLOCK as u64);
        Moments::bytes(lift, dim).saturating_add(block)
    }
}

impl PointMap for RidgeMap {
    fn dim(&self) -> usize {
        self.shift.len()
    }

    fn scratch(&self, points: usize) -> u64 {
        Self::scratch_bytes(self.dim(), self.lift.count(), points)
    }

    fn kind(&self) -> Fitted {
        Fitted::Ridge
    }

    fn write(&self, file: &mut Writer) -> Result<()> {
        let Lift { directions, offsets, activation, gain, normalise } = &self.lift;
        let is_cosine = *activation == Activation::Cosine;
        file.vector("lift", &[f32::from(is_cosine), *gain, f32::from(*normalise)])?;
        file.matrix("directions", directions)?;
        file.vector("offsets", offsets.as_slice())?;
        self.linear.iter().try_for_each(|linear| file.matrix("linear", linear))?;
        file.matrix("weights", &self.weights)?;
        file.vector("shift", self.shift.as_slice())
    }

    fn read(reader: &mut Reader<'_>, _: &Budget) -> Result<Self> {
        let dim = reader.dim;
        let lift = reader.vector::<f32>("lift", 3)?;
        let activation = if lift[0] == 1.0 { Activation::Cosine } else { Activation::Relu };
        let (_, count) = reader.shape("directions")?;
        let directions = reader.matrix("directions", dim, count)?;
        let offsets = reader.vector("offsets", count)?;
        let linear = reader.has("linear").then(|| reader.matrix("linear", dim, dim)).transpose()?;
        let weights = reader.matrix("weights", count, dim)?;
        let shift = reader.vector("shift", dim)?;
        let lift = Lift { directions, offsets, activation, gain: lift[1], normalise: lift[2] == 1.0 };
        Ok(Self { lift, linear, weights, shift, _held: reader.take_held()? })
    }

    fn map(&self, points: DMatrixView<'_, f32>) -> Result<DMatrix<f32>> {
        let features = self.lift.features(points);
        let mut moved = points.into_owned();
        if let Some(linear) = &self.linear {
            let points = moved.clone();
            algebra::add_product(&mut moved, 1.0, algebra::t(linear), algebra::n(&points));
        }
        algebra::add_product(&mut moved, 1.0, algebra::t(&self.weights), algebra::n(&features));
        moved.column_iter_mut().for_each(|mut column| column += &self.shift);
        Ok(moved)
    }
}

/// A regression on the feature and random features, the ridge chosen by generalised cross-validation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exact {
    pub(super) activation: Activation,
    pub(super) features: usize,
    pub(super) bandwidth: f64,
    pub(super) seed: u64,
    /// Instead of a chosen one.
    pub(super) ridge: Option<f64>,
    /// Share of the noise to keep.
    pub(super) noise: f64,
}

impl Exact {
    /// Bytes of the map, with the stretch of covariances.
    pub(super) fn map_bytes(self, dim: usize) -> u64 {
        RidgeMap::bytes(dim, self.features, true).saturating_add(4 * (dim * dim) as u64)
    }

    /// The moments, the decomposition, and a block.
    fn scratch_bytes(self, dim: usize) -> u64 {
        let all = dim.saturating_add(self.features);
        let block = 8 * BLOCK as u64 * (3 * all as u64 + 4 * dim as u64);
        Moments::bytes(all, dim).saturating_add(block)
    }

    /// Bytes to fit on a source, with the map.
    pub(super) fn bytes(self, source: &dyn FeatureSource) -> u64 {
        let fitting = self.scratch_bytes(source.dim()).saturating_add(pair_bytes(source));
        self.map_bytes(source.dim()).saturating_add(fitting.max(noise::bytes(source.dim())))
    }

    pub(super) fn fit(
        self,
        source: &mut dyn FeatureSource,
        budget: &Budget,
    ) -> Result<(RidgeMap, Option<DMatrix<f32>>)> {
        let (dim, all) = (source.dim(), source.dim() + self.features);
        // Ask for everything first: an error then states the whole need.
        budget.require(self.bytes(source), "fitting a ridge regression")?;
        let held = budget.reserve(self.map_bytes(dim), "a map of random features")?;
        let scratch = budget.reserve(self.scratch_bytes(dim), "fitting a ridge regression")?;
        let mut lift: Option<Lift> = None;
        let mut moments = Moments::new(all, dim, self.noise > 0.0);
        for_each_pair(source, budget, |before, after| {
            // There is one pass only, so the first block shows where features lie and how far apart.
            let lift = lift.get_or_insert_with(|| {
                Lift::like(before, self.activation, self.features, self.bandwidth, self.seed)
            });
            let random = lift.features(before);
            let mut x = DMatrix::zeros(all, before.ncols());
            x.rows_mut(0, dim).copy_from(&before);
            x.rows_mut(dim, self.features).copy_from(&random);
            moments.add_centred(&mut x, &mut (after - before));
            Ok(())
        })?;
        moments.settle();
        not_empty(moments.count, source)?;
        let lift = lift.ok_or_else(|| CompensateError::Empty(source.name()))?;
        let Solved { weights, rest, ridge } = self.solve(&mut moments, dim)?;
        let shift = &moments.mean_target - weights.tr_mul(&moments.mean);
        drop((moments, scratch));
        let map = RidgeMap {
            lift,
            linear: Some(weights.rows(0, dim).map(|v| v as f32)),
            weights: weights.rows(dim, self.features).map(|v| v as f32),
            shift: shift.map(|v| v as f32),
            _held: held,
        };
        drop(weights);
        let stretch = rest.map(|(explained, noise)| {
            noise::stretch(explained, noise * self.noise, ridge, DMatrix::identity(dim, dim), budget)
        });
        Ok((map, stretch.transpose()?.map(|stretch| stretch.map(|v| v as f32))))
    }

    /// The feature itself gets a ridge first, as if it were alone: most drift is linear. Random features follow.
    fn solve(self, moments: &mut Moments, dim: usize) -> Result<Solved> {
        let diagonal = moments.gram.diagonal();
        let mean = |from: usize, count: usize| diagonal.rows(from, count).sum() / count.max(1) as f64;
        let (linear, random) = (mean(0, dim), mean(dim, self.features));
        if linear == 0.0 {
            // All samples are one point: it shows a shift and nothing else.
            return Ok(Solved { weights: DMatrix::zeros(diagonal.len(), dim), rest: None, ridge: 0.0 });
        }
        let own = choose(moments, dim)?.ridge;
        let penalty = |ridge: f64| {
            // A constant lift has no effect; its penalty only has to keep the matrix regular.
            let random = ridge * if random > 0.0 { random } else { 1.0 };
            DVector::from_fn(diagonal.len(), |i, _| if i < dim { own * linear } else { random })
        };
        let (best, penalty) = match self.ridge {
            Some(ridge) => moments.best([penalty(ridge)].into_iter())?,
            None => moments.best(RIDGES.into_iter().map(penalty))?,
        };
        let rest = if self.noise > 0.0 {
            moments.explained_and_noise(&best.weights, &penalty, best.freedom)
        } else {
            None
        };
        Ok(Solved { weights: best.weights, rest, ridge: own })
    }
}

/// A solved regression.
struct Solved {
    weights: DMatrix<f64>,
    /// The covariances that the weights explain and leave.
    rest: Option<ExplainedAndNoise>,
    /// For the feature itself, relative to its mean variance.
    ridge: f64,
}

/// The regression of the reference: on random features alone, about 0, with an absolute ridge.
pub(super) fn reference(
    lift: Lift,
    ridge: f64,
    source: &mut dyn FeatureSource,
    budget: &Budget,
) -> Result<RidgeMap> {
    let (dim, count) = (source.dim(), lift.count());
    let held = budget.reserve(RidgeMap::bytes(dim, count, false), "a map of random features")?;
    let _scratch = budget.reserve(RidgeMap::reference_bytes(dim, count), "fitting a ridge regression")?;
    let mut moments = Moments::new(count, dim, false);
    for_each_pair(source, budget, |before, after| {
        let features = lift.features(before).map(f64::from);
        moments.add(&features, &(after.map(f64::from) - before.map(f64::from)));
        Ok(())
    })?;
    not_empty(moments.count, source)?;
    let weights = moments.weights(&DVector::from_element(count, ridge))?.map(|v| v as f32);
    Ok(RidgeMap { lift, linear: None, weights, shift: DVector::zeros(dim), _held: held })
}
