//! How far pooled QDA pulls covariances towards their average, and cross-validation of that.

use nalgebra::DMatrix;
use rayon::prelude::*;
use residua_memory::Budget;

use super::counts::Counts;
use super::linear::{means, pooled};
use crate::Result;
use crate::algebra::Cholesky;
use crate::source::{BLOCK, FeatureSource, Side, extend_f64, for_each_block};
use crate::statistics::{ClassGaussian, ClassStatistics, Covariance, StatisticsOptions, workers};

/// The most samples to leave out, one at a time.
const SAMPLES: usize = 1024;

/// The weights to choose from.
const OWN: [f64; 4] = [0.05, 0.2, 0.5, 0.9];
const RIDGE: [f64; 3] = [0.05, 0.3, 1.0];
/// How many standard errors other weights have to be better than the default ones.
const CERTAIN: f64 = 2.0;

/// What pooled QDA makes of the covariance of a class: `own·Σ_c + (1 − own)·Σ̄ + ridge·tr(Σ̄)/d·I`, with the average
/// covariance Σ̄. Features that are all multiplied by a number get the same predictions.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Pooling {
    /// The weight of a class's own covariance, 0 to 1.
    pub own: f64,
    /// The weight of the identity, in units of the mean variance of Σ̄.
    pub ridge: f64,
}

impl Pooling {
    /// With these weights.
    pub const fn new(own: f64, ridge: f64) -> Self {
        Self { own, ridge }
    }

    /// The default weights for statistics in which the smallest class has n samples: `ridge` is `0.15 + d/(40·n)`, and
    /// `own` is 0.2 if all classes have n samples, less if others have more. On real features they are near the best from
    /// a dozen samples of a class to hundreds, and weights half or twice as large do almost as well.
    pub fn of(statistics: &ClassStatistics) -> Self {
        let (dim, counts) = (statistics.dim(), statistics.iter().map(|(_, class)| class.count()));
        let least = counts.min().unwrap_or(1).max(1) as f64;
        // The weight that a class's own covariance deserves falls with its samples, but far slower beside Σ̄ than alone.
        let share = Counts::unequal(statistics).map_or(1.0, |counts| counts.share(dim).cbrt());
        Self::new(0.2 * share, 0.15 + dim as f64 / (40.0 * least))
    }

    /// Chooses the weights on labelled samples: those that classify most samples right, each left out of the statistics that
    /// classify it. `None` if no weights are better than the default ones by two standard errors. Leaves out up to 1,024
    /// samples, evenly spread over the source, of classes of three samples or more.
    ///
    /// The samples should be ones that the model has not been trained on, such as those of a new task *before* it. A model
    /// crowds the samples that it was trained on more closely around their means than others, and that misleads the choice.
    ///
    /// # Errors
    /// When the source fails, is empty or has no labels, or the budget has no room.
    pub fn choose(source: &mut dyn FeatureSource, budget: &Budget) -> Result<Option<Self>> {
        let statistics = ClassStatistics::collect(source, &StatisticsOptions::default(), budget)?;
        let (dim, classes) = (statistics.dim(), statistics.len());
        let held = (8 * dim as u64).saturating_mul((SAMPLES + classes) as u64);
        let held = held.saturating_add(Covariance::dense_bytes(dim));
        let _held = budget.reserve(held, "samples to leave out")?;
        let left_out = LeftOut::read(source, &statistics, budget)?;
        let default = left_out.right(Self::of(&statistics), budget)?;
        let mut best = (0.0, None);
        for pooling in OWN.iter().flat_map(|&own| RIDGE.map(|ridge| Self::new(own, ridge))) {
            let right = left_out.right(pooling, budget)?;
            let changed =
                |to: bool| right.iter().zip(&default).filter(|(now, old)| now != old && **now == to).count();
            let (gained, lost) = (changed(true) as f64, changed(false) as f64);
            let gain = gained - lost;
            if gain > best.0 && gain > CERTAIN * (gained + lost).sqrt() {
                best = (gain, Some(pooling));
            }
        }
        Ok(best.1)
    }
}

/// Samples, each to be classified by statistics without it.
struct LeftOut<'a> {
    statistics: &'a ClassStatistics,
    counts: Vec<f64>,
    /// Class means `[d, C]`.
    means: DMatrix<f64>,
    /// Σ̄, lower triangle.
    average: DMatrix<f64>,
    /// `[d, n]`.
    features: DMatrix<f64>,
    /// For each sample the position of its class.
    classes: Vec<usize>,
}

impl<'a> LeftOut<'a> {
    /// Samples of the source that the statistics were collected from.
    fn read(
        source: &mut dyn FeatureSource,
        statistics: &'a ClassStatistics,
        budget: &Budget,
    ) -> Result<Self> {
        let (dim, step) = (statistics.dim(), statistics.samples().div_ceil(SAMPLES as u64));
        let (labels, counts): (Vec<_>, Vec<_>) =
            statistics.iter().map(|(label, class)| (label, class.count() as f64)).unzip();
        let (mut features, mut classes, mut seen) = (Vec::with_capacity(SAMPLES * dim), Vec::new(), 0);
        for_each_block(source, BLOCK, budget, |block| {
            let floats = block.floats(Side::Before)?;
            for (row, label) in block.labels()?.iter().enumerate() {
                if let Ok(class) = labels.binary_search(label)
                    && seen % step == 0
                    && counts[class] > 2.0
                {
                    extend_f64(&mut features, floats.slice(row * dim..(row + 1) * dim));
                    classes.push(class);
                }
                seen += 1;
            }
            Ok(())
        })?;
        let features = DMatrix::from_vec(dim, classes.len(), features);
        let (means, average) = (means(statistics), pooled(statistics));
        Ok(Self { statistics, counts, means, average, features, classes })
    }

    /// For each sample whether these weights classify it right.
    fn right(&self, pooling: Pooling, budget: &Budget) -> Result<Vec<bool>> {
        let dim = self.features.nrows();
        // A matrix, its decomposition, and features and means in coordinates in which it is the identity.
        let columns = (self.classes.len() + self.counts.len()) as u64;
        let scratch = 2 * Covariance::dense_bytes(dim) + (16 * dim as u64).saturating_mul(columns);
        let classes: Vec<_> = self.statistics.iter().map(|(_, class)| class).enumerate().collect();
        let mut best = vec![(f64::NEG_INFINITY, 0); self.classes.len()];
        for group in classes.chunks(workers(scratch, budget)) {
            let _scratch = budget.reserve(scratch * group.len() as u64, "leaving out samples")?;
            let scores: Vec<_> =
                group.par_iter().map(|(at, class)| self.scores(*at, class, pooling)).collect();
            for (&(at, _), scores) in group.iter().zip(scores) {
                for (best, score) in best.iter_mut().zip(scores?) {
                    if score > best.0 {
                        *best = (score, at);
                    }
                }
            }
        }
        Ok(best.iter().zip(&self.classes).map(|((_, found), class)| found == class).collect())
    }

    /// Scores of a class, one for each sample.
    ///
    /// A sample that is z from the mean of its n samples adds n/(n − 1)·z·zᵀ to their scatter. Without it a matrix is
    /// A − w·z·zᵀ, with A the same for all samples of other classes, and for all of this class. By the formula of Sherman
    /// and Morrison, one decomposition of A serves them.
    fn scores(&self, at: usize, class: &ClassGaussian, Pooling { own, ridge }: Pooling) -> Result<Vec<f64>> {
        let (dim, freedom) =
            (self.means.nrows(), (self.statistics.samples() - self.counts.len() as u64) as f64);
        let mut scores = vec![0.0; self.classes.len()];
        for of_class in [false, true] {
            let samples: Vec<_> =
                (0..scores.len()).filter(|&sample| (self.classes[sample] == at) == of_class).collect();
            if samples.is_empty() {
                continue;
            }
            let fewer = if of_class { own / (self.counts[at] - 2.0) } else { 0.0 };
            let shared = (1.0 - own) / (freedom - 1.0);
            let mut matrix = &self.average * (shared * freedom);
            let weight = if of_class { fewer * (self.counts[at] - 1.0) } else { own };
            class.covariance().add_lower_to(weight, &mut matrix);
            let diagonal = ridge * self.average.trace() / dim as f64;
            (0..dim).for_each(|i| matrix[(i, i)] += diagonal);
            let cholesky = Cholesky::new(&matrix, "the average class covariance", "use a larger ridge")?;
            let mut features = self.features.select_columns(&samples);
            let mut means = self.means.clone();
            cholesky.whiten(&mut features);
            cholesky.whiten(&mut means);
            let log_determinant = cholesky.log_determinant();
            for (feature, sample) in features.column_iter().zip(samples) {
                let count = self.counts[self.classes[sample]];
                let from_own = feature - means.column(self.classes[sample]);
                // The mean moves away from a sample that is left out.
                let from =
                    if of_class { &from_own * (count / (count - 1.0)) } else { feature - means.column(at) };
                let weight = (shared + fewer) * count / (count - 1.0);
                let rest = 1.0 - weight * from_own.norm_squared();
                let square = from.norm_squared() + weight * from.dot(&from_own).powi(2) / rest;
                scores[sample] = -0.5 * (square + log_determinant + rest.ln());
            }
        }
        Ok(scores)
    }
}
