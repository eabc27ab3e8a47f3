//! Statistics of features that come batch by batch.

use std::collections::BTreeMap;

use nalgebra::{DMatrix, DVector};
use residua_memory::{Budget, Reservation};

use super::merge::{Weights, add_outer};
use super::{
    ClassGaussian, ClassStatistics, Covariance, Precision, SINGLE_SAMPLE_VARIANCE, Shrinkage, Storage,
};
use crate::error::same_dimension;
use crate::source::{BLOCK, FeatureSource, Side, check_finite, for_each_block, samples};
use crate::{CompensateError, Result, algebra};

/// Collects class statistics in one pass.
///
/// A class of up to d samples keeps the samples themselves in f32: they are smaller than its scatter matrix, and lose
/// nothing. A larger class keeps its scatter in f64 and folds samples in by the hundreds. The places of the folds
/// depend on the order of samples alone, so batches of any size give the same bits.
///
/// ```
/// use residua_compensate::{Precision, StatisticsBuilder, Storage};
/// use residua_memory::Budget;
///
/// # fn main() -> residua_compensate::Result<()> {
/// let mut builder = StatisticsBuilder::new(3, &Budget::new(16 << 20));
/// // Batches of features, row by row, and a label for each.
/// builder.add(&[0.0, 1.0, 2.0, 4.0, 5.0, 6.0], &[0, 1])?;
/// builder.add(&[2.0, 1.0, 0.0], &[0])?;
/// let statistics = builder.finish(Storage::Smallest, Precision::F32)?;
/// assert_eq!(statistics.get(0).unwrap().count(), 2);
/// assert_eq!(statistics.get(0).unwrap().mean().as_slice(), [1.0, 1.0, 1.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StatisticsBuilder {
    dim: usize,
    classes: BTreeMap<u32, Class>,
    budget: Budget,
    /// How far [`finish`](Self::finish) pulls covariances towards a multiple of the identity.
    pub shrinkage: Option<Shrinkage>,
}

#[derive(Debug)]
struct Class {
    /// Samples in `mean` and `scatter`.
    folded: u64,
    mean: DVector<f64>,
    /// Packed lower triangle, column after column; empty before the first fold.
    scatter: Vec<f64>,
    /// Samples not folded yet, one after the other.
    rows: Vec<f32>,
    held: Reservation,
}

impl StatisticsBuilder {
    /// Nothing collected yet, of features of dimension `dim`.
    pub fn new(dim: usize, budget: &Budget) -> Self {
        Self { dim, classes: BTreeMap::new(), budget: budget.clone(), shrinkage: None }
    }

    /// Reads a whole source: statistics of one side of its features by its labels.
    ///
    /// # Errors
    /// When the source fails, lacks labels or that side, holds a number that is not finite, or the budget
    /// has no room.
    pub fn add_source(&mut self, source: &mut dyn FeatureSource, side: Side) -> Result<()> {
        same_dimension("the source", source.dim(), self.dim)?;
        let budget = self.budget.clone();
        for_each_block(source, BLOCK, &budget, |block| self.add(block.side(side)?, block.labels()?))
    }

    /// Adds samples: features row-major `[n, d]` and n labels.
    ///
    /// # Errors
    /// When lengths do not fit, a feature is not finite, or the budget has no room.
    pub fn add(&mut self, features: &[f32], labels: &[u32]) -> Result<()> {
        let (found, expected) = (labels.len() as u64, samples(features, self.dim)? as u64);
        if found != expected {
            return Err(CompensateError::Rows { what: "labels".into(), found, expected });
        }
        check_finite("features", features, self.dim, 0)?;
        for (sample, &label) in features.chunks_exact(self.dim.max(1)).zip(labels) {
            self.push(label, sample)?;
        }
        Ok(())
    }

    fn push(&mut self, label: u32, sample: &[f32]) -> Result<()> {
        let dim = self.dim;
        let class = match self.classes.entry(label) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let held = self.budget.reserve(8 * dim as u64, "a class's mean")?;
                let (scatter, rows) = Default::default();
                entry.insert(Class { folded: 0, mean: DVector::zeros(dim), scatter, rows, held })
            }
        };
        class.push(sample, &self.budget)
    }

    /// Adds all that `other` collected, as if its samples came after those of `self`.
    ///
    /// # Errors
    /// When dimensions differ or the budget has no room.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        same_dimension("a set of statistics to merge", other.dim, self.dim)?;
        for (label, theirs) in other.classes {
            match self.classes.get_mut(&label) {
                Some(ours) => ours.merge(theirs, &self.budget)?,
                None => drop(self.classes.insert(label, theirs)),
            }
        }
        Ok(())
    }

    /// The statistics of all samples. Frees the samples of each class once its statistics are there.
    ///
    /// # Errors
    /// When the budget has no room, a number overflows its precision, or Ledoit–Wolf lacks the samples of a class.
    pub fn finish(mut self, storage: Storage, precision: Precision) -> Result<ClassStatistics> {
        let mut statistics = ClassStatistics::new(self.dim);
        while let Some((label, class)) = self.classes.pop_first() {
            let class = class.finish(self.shrinkage, storage, precision, &self.budget);
            statistics.insert(label, class.map_err(|error| error.of_class(label))?)?;
        }
        Ok(statistics)
    }
}

impl Class {
    /// How many samples wait at most: as many as take the room of the scatter, and few once the scatter is there.
    fn most_rows(&self) -> usize {
        let dim = self.mean.len();
        if self.folded == 0 { dim } else { dim.min(BLOCK) }
    }

    fn push(&mut self, sample: &[f32], budget: &Budget) -> Result<()> {
        let dim = self.mean.len();
        if self.rows.len() == self.most_rows() * dim {
            self.fold(budget)?;
        }
        if self.rows.len() == self.rows.capacity() {
            // Half as much again each time: few moves, and only a small part of the buffer stays unused.
            let more = (self.rows.len() / dim.max(1) / 2).clamp(8, self.most_rows().max(8)) * dim;
            self.held.grow(4 * more as u64, "a class's samples")?;
            self.rows.reserve_exact(more);
        }
        self.rows.extend_from_slice(sample);
        Ok(())
    }

    /// The waiting samples' number, mean, and centred values (a column each).
    fn centred(&self) -> (u64, DVector<f64>, DMatrix<f64>) {
        let dim = self.mean.len();
        let count = self.rows.len() / dim.max(1);
        let rows = self.rows.iter().map(|&v| f64::from(v));
        let mut centred = DMatrix::from_iterator(dim, count, rows);
        let mean = centred.column_mean();
        centred.column_iter_mut().for_each(|mut column| column -= &mean);
        (count as u64, mean, centred)
    }

    /// Moves the waiting samples into the scatter.
    fn fold(&mut self, budget: &Budget) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let dim = self.mean.len();
        let scratch = Covariance::dense_bytes(dim) + 2 * self.rows.len() as u64 * 8;
        let _scratch = budget.reserve(scratch, "adding samples to a class")?;
        let (count, mean, centred) = self.centred();
        let mut sum = DMatrix::zeros(dim, dim);
        algebra::add_gram(&mut sum, 1.0, algebra::n(&centred));
        self.add_scatter(count, &mean, sum)?;
        self.held.shrink(4 * self.rows.capacity() as u64);
        self.rows = Vec::new();
        Ok(())
    }

    /// Adds `count` samples with `mean` and the scatter in the lower triangle of `sum`.
    fn add_scatter(&mut self, count: u64, mean: &DVector<f64>, mut sum: DMatrix<f64>) -> Result<()> {
        let dim = self.mean.len();
        if self.scatter.is_empty() {
            self.held.grow(4 * (dim * (dim + 1)) as u64, "a class's covariance")?;
            self.scatter = vec![0.0; dim * (dim + 1) / 2];
        }
        let weights = Weights::new(self.folded, count);
        let difference = mean - &self.mean;
        add_outer(&mut sum, weights.between, &difference);
        let lower = (0..dim).flat_map(|col| (col..dim).map(move |row| (row, col)));
        for (scatter, at) in self.scatter.iter_mut().zip(lower) {
            *scatter += sum[at];
        }
        self.mean += difference * weights.mean;
        self.folded += count;
        Ok(())
    }

    fn scatter_matrix(&self) -> DMatrix<f64> {
        let dim = self.mean.len();
        let mut matrix = DMatrix::zeros(dim, dim);
        let lower = (0..dim).flat_map(|col| (col..dim).map(move |row| (row, col)));
        for (&scatter, at) in self.scatter.iter().zip(lower) {
            matrix[at] = scatter;
        }
        matrix
    }

    fn merge(&mut self, other: Self, budget: &Budget) -> Result<()> {
        let dim = self.mean.len();
        if other.folded > 0 {
            self.fold(budget)?;
            let _scratch = budget.reserve(Covariance::dense_bytes(dim), "merging a class")?;
            self.add_scatter(other.folded, &other.mean, other.scatter_matrix())?;
        }
        other.rows.chunks_exact(dim.max(1)).try_for_each(|sample| self.push(sample, budget))
    }

    fn finish(
        mut self,
        shrinkage: Option<Shrinkage>,
        storage: Storage,
        precision: Precision,
        budget: &Budget,
    ) -> Result<ClassGaussian> {
        let dim = self.mean.len();
        let dense = match storage {
            Storage::LowRank(_) => 1 + algebra::EIGEN,
            // The class stays a factor.
            Storage::Smallest if self.folded == 0 && 2 * self.rows.len() <= dim * (dim + 1) => 0,
            _ => 2,
        };
        let scratch = dense * Covariance::dense_bytes(dim) + 16 * self.rows.len() as u64;
        let _scratch = budget.reserve(scratch, "finishing a class's statistics")?;
        let (count, mean, covariance) = if self.folded == 0 {
            let (count, mean, mut factor) = self.centred();
            if count == 1 {
                (count, mean, Covariance::isotropic(dim, SINGLE_SAMPLE_VARIANCE))
            } else {
                factor /= ((count - 1) as f64).sqrt();
                (count, mean, Covariance::factor(factor, Precision::F64))
            }
        } else {
            self.fold(budget)?;
            let covariance = self.scatter_matrix() / (self.folded - 1) as f64;
            (self.folded, self.mean.clone(), Covariance::packed(&covariance, Precision::F64)?)
        };
        // Free the samples before the statistics need room.
        drop(self);
        let class = ClassGaussian::new(count, mean, covariance, &Budget::unlimited())?;
        let shrunk = shrinkage.map(|shrinkage| class.shrunk(shrinkage)).transpose()?;
        let covariance = shrunk.as_ref().unwrap_or(class.covariance());
        let storage = if covariance.form() == "isotropic" { Storage::Smallest } else { storage };
        let covariance = covariance.store(storage, precision)?;
        ClassGaussian::new(count, class.mean().clone(), covariance, budget)
    }
}
