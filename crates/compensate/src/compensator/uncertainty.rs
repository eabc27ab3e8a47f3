//! How far the moved means may be off, from the pairs that a method was fitted on.

use std::sync::Arc;

use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;
use residua_memory::Budget;

use super::watch::{self, Watch};
use super::{Compensator, MOVING_ERROR};
use crate::Result;
use crate::algebra::{self, Cholesky};
use crate::statistics::{ClassGaussian, ClassStatistics, Covariance};

/// Added to variances, relative to their mean. A smaller one makes the leverage depend on directions in which the sample
/// hardly varies, and so on the sample.
const RIDGE: f64 = 2.0;
/// Added to variances before spreads are compared, relative to their mean.
const SPREAD_RIDGE: f64 = 0.05;
/// How much nearer the spread after the task has to be to that of the statistics, to seem swapped.
const SWAPPED: f64 = 0.9;
/// Features of which so much is unexplained are unrelated.
const UNRELATED: f64 = 0.9;
/// The share of the groups whose leverage is usual.
const USUAL: f64 = 0.95;

/// How far moved means may be off.
///
/// The **leverage** of a mean is its squared Mahalanobis distance to the cloud of pairs, with a ridge of twice their
/// mean variance: a method has to extrapolate to what lies outside. The **level** is the squared error per leverage that the
/// method has on groups of pairs that are left out: the classes of the pairs where they have labels, single pairs where
/// they have none. To leave a group out is estimated (Sherman–Morrison on the linear part), not repeated. Classes that a
/// model was trained on move more than others, so the level is conservative for old classes.
#[derive(Debug)]
pub struct Uncertainty {
    watch: Watch,
    mean: DVector<f64>,
    cloud: Cholesky,
    level: f64,
    usual: f64,
    held_out: f64,
    unexplained: f64,
    drift: f64,
    by_class: bool,
}

impl Uncertainty {
    /// Bytes that it holds.
    pub(super) fn bytes(dim: usize) -> u64 {
        Covariance::dense_bytes(dim) + 8 * dim as u64
    }

    /// Of a compensator and the pairs that it was fitted on.
    pub(super) fn of(map: &dyn Compensator, mut watch: Watch, budget: &Budget) -> Result<Self> {
        let dim = map.dim();
        // The sample in f32, its products, and their factor.
        let _scratch = budget.reserve(2 * Covariance::dense_bytes(dim), MOVING_ERROR)?;
        let (mean, centred) = watch.centred_before();
        let mut gram = covariance(&centred);
        let unit = gram.trace() / dim.max(1) as f64;
        // Pairs that are one point have no cloud: every other point is far away.
        let ridge = if unit > 0.0 { RIDGE * unit } else { f64::MIN_POSITIVE.sqrt() };
        (0..dim).for_each(|i| gram[(i, i)] += ridge);
        let cloud = Cholesky::new(&gram, "the covariance of the pairs", "scale the features down")?;
        drop((gram, centred));
        let by_class = watch.groups.len() > 1;
        let _groups = budget.reserve(20 * dim as u64 * watch::MOST_GROUPS, MOVING_ERROR)?;
        let groups = watch.take_groups();
        let mut new = Self {
            watch,
            mean,
            cloud,
            level: 0.0,
            usual: f64::INFINITY,
            held_out: 1.0,
            unexplained: 0.0,
            drift: 0.0,
            by_class,
        };
        let leverages = new.leverages(&groups.before);
        let single: Vec<f32> = groups.before.iter().map(|&value| value as f32).collect();
        let moved = map.apply_features(&single, budget)?;
        let centre = groups.after.column_mean();
        let (mut errors, mut outside, mut drift, mut spread) = (0.0, Vec::new(), 0.0, 0.0);
        for (at, ((before, after), leverage)) in
            groups.before.column_iter().zip(groups.after.column_iter()).zip(leverages).enumerate()
        {
            // Pairs without the group are spread less; the group's leverage is larger to them.
            let share = groups.shares[at] * (leverage + 1.0);
            let left = (1.0 - share).max(LEAST);
            let moved = moved.get(at * dim..(at + 1) * dim).unwrap_or_default();
            let off: f64 = moved
                .iter()
                .zip(after.iter())
                .map(|(moved, after)| (f64::from(*moved) - after).powi(2))
                .sum();
            errors += off / (left * left);
            outside.push(leverage / left);
            drift += (after - before).norm_squared();
            spread += (after - &centre).norm_squared();
        }
        let count = outside.len().max(1) as f64;
        let sum: f64 = outside.iter().sum();
        new.level = if sum > 0.0 { errors / sum } else { 0.0 };
        new.held_out = if drift > 0.0 { errors / drift } else { 0.0 };
        new.unexplained = if spread > 0.0 { errors / spread } else { 0.0 };
        new.drift = drift / count;
        outside.sort_by(f64::total_cmp);
        new.usual = outside.get(((count - 1.0) * USUAL).ceil() as usize).copied().unwrap_or(f64::INFINITY);
        Ok(new)
    }

    /// The feature dimension d.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// The number of pairs.
    pub fn pairs(&self) -> u64 {
        self.watch.pairs
    }

    /// The squared error per leverage.
    pub fn level(&self) -> f64 {
        self.level
    }

    /// The leverage that 95 % of the groups do not exceed when they are left out.
    pub fn usual_leverage(&self) -> f64 {
        self.usual
    }

    /// The squared error of groups that are left out, as a share of what it would be without a move. Where it is 1 or more,
    /// moved statistics are no better than stale ones.
    pub fn held_out_error(&self) -> f64 {
        self.held_out
    }

    /// The squared error of groups that are left out, as a share of how far features after the task are spread. Near 1,
    /// features before the task tell nothing about those after it.
    pub fn unexplained(&self) -> f64 {
        self.unexplained
    }

    /// Whether moved statistics are no better than stale ones, by [`held_out_error`](Self::held_out_error), or features
    /// before the task tell next to nothing about those after it, by [`unexplained`](Self::unexplained).
    pub fn is_no_help(&self) -> bool {
        self.held_out >= 1.0 || self.is_unrelated()
    }

    /// Whether features before the task tell next to nothing about those after it.
    pub(super) fn is_unrelated(&self) -> bool {
        self.unexplained >= UNRELATED && self.drift > 0.0
    }

    /// How far the means of groups moved: the mean squared distance.
    pub fn drift(&self) -> f64 {
        self.drift
    }

    /// Whether the groups are classes of the pairs, not single pairs.
    pub fn by_class(&self) -> bool {
        self.by_class
    }

    /// Whether the pairs seem to be swapped: features before the task are spread less like the statistics than features after
    /// it. `spread [d, d]` is [`ClassStatistics::spread`].
    ///
    /// It says no where the sample of pairs is too small to tell, or the budget has no room.
    ///
    /// # Errors
    /// When a covariance cannot be decomposed.
    pub fn seems_swapped(&self, spread: &DMatrix<f64>, budget: &Budget) -> Result<bool> {
        if 2 * self.watch.sampled() < self.mean.len() {
            return Ok(false);
        }
        let Ok(_scratch) = budget.reserve(7 * Covariance::dense_bytes(self.mean.len()), MOVING_ERROR) else {
            return Ok(false);
        };
        let [before, after] = self.watch.spreads();
        Ok(divergence(spread, &after)? < SWAPPED * divergence(spread, &before)?)
    }

    /// The leverages of the columns of `means [d, n]`.
    fn leverages(&self, means: &DMatrix<f64>) -> Vec<f64> {
        let mut centred = means.clone();
        centred.column_iter_mut().for_each(|mut column| column -= &self.mean);
        self.cloud.whiten(&mut centred);
        centred.column_iter().map(|column| column.norm_squared()).collect()
    }

    /// The leverages of the means of classes, by rising label.
    ///
    /// # Errors
    /// When the budget has no room.
    pub fn leverages_of(&self, statistics: &ClassStatistics, budget: &Budget) -> Result<Vec<f64>> {
        let dim = self.mean.len();
        let _held = budget.reserve(16 * (dim * statistics.len()) as u64, MOVING_ERROR)?;
        let classes: Vec<_> = statistics.iter().collect();
        // One by one: the number of classes that are moved together must not change a bit.
        let leverage = |(_, class): &(u32, &Arc<ClassGaussian>)| {
            let mean = DMatrix::from_column_slice(dim, 1, class.mean().as_slice());
            self.leverages(&mean).first().copied().unwrap_or(0.0)
        };
        Ok(classes.par_iter().map(leverage).collect())
    }
}

/// The least share of the pairs that counts as left when a group is left out: the estimate is worthless below.
const LEAST: f64 = 0.1;

/// The covariance of centred columns, lower triangle.
pub(super) fn covariance(centred: &DMatrix<f32>) -> DMatrix<f64> {
    let mut gram = DMatrix::<f32>::zeros(centred.nrows(), centred.nrows());
    algebra::add_gram(&mut gram, 1.0, algebra::n(centred));
    gram.map(f64::from) / centred.ncols().max(1) as f64
}

/// How different Gaussians of two covariances (lower triangles) are: the Kullback–Leibler divergence per dimension, twice.
pub(super) fn divergence(one: &DMatrix<f64>, other: &DMatrix<f64>) -> Result<f64> {
    let dim = one.nrows();
    let factor = |matrix: &DMatrix<f64>| {
        let mut ridged = matrix.clone();
        let ridge = SPREAD_RIDGE * matrix.trace() / dim.max(1) as f64;
        (0..dim).for_each(|i| ridged[(i, i)] += ridge);
        Cholesky::new(&ridged, "a covariance", "scale the features down")
    };
    let (one, other) = (factor(one)?, factor(other)?);
    // tr(A⁻¹·B) = |L_A⁻¹·L_B|².
    let mut ratio = other.lower();
    one.whiten(&mut ratio);
    Ok((ratio.norm_squared() - dim as f64 + one.log_determinant() - other.log_determinant())
        / dim.max(1) as f64)
}
