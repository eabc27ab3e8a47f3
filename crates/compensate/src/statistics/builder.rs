//! Statistics of features that come batch by batch.

use std::collections::BTreeMap;

use nalgebra::{DMatrix, DVector};
use residua_memory::{Budget, Reservation};

use super::merge::Weights;
use super::{
    ClassGaussian, ClassStatistics, Covariance, Precision, SINGLE_SAMPLE_VARIANCE, Shrinkage, Storage,
};
use crate::error::same_dimension;
use crate::source::{BLOCK, FeatureSource, Floats, Side, extend_f64, for_each_block};
use crate::{CompensateError, Result, algebra};

/// Collects class statistics in one pass.
///
/// A class of up to d samples keeps the samples themselves, f32 or f64 as they came: in f32 they are smaller than its
/// scatter matrix, and they lose nothing. A larger class keeps its scatter in f64 and folds samples in by the hundreds. The
/// places of the folds depend on the order of samples alone, so batches of any size give the same bits.
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
    rows: Rows,
    held: Reservation,
}

/// Samples of a class, one after the other: all f32, or all f64 once one of them is.
#[derive(Debug, Default)]
struct Rows {
    single: Vec<f32>,
    double: Vec<f64>,
    is_double: bool,
}

impl Rows {
    fn floats(&self) -> Floats<'_> {
        if self.is_double { Floats::F64(&self.double) } else { Floats::F32(&self.single) }
    }

    /// Number of numbers.
    fn len(&self) -> usize {
        self.floats().len()
    }

    fn capacity(&self) -> usize {
        if self.is_double { self.double.capacity() } else { self.single.capacity() }
    }

    /// Bytes of a number.
    fn width(&self) -> u64 {
        if self.is_double { 8 } else { 4 }
    }

    /// Bytes of memory.
    fn bytes(&self) -> u64 {
        self.width() * self.capacity() as u64
    }

    fn reserve_exact(&mut self, more: usize) {
        if self.is_double { self.double.reserve_exact(more) } else { self.single.reserve_exact(more) }
    }

    /// Makes the samples f64.
    fn widen(&mut self) {
        self.double.reserve_exact(self.single.capacity());
        extend_f64(&mut self.double, Floats::F32(&self.single));
        (self.single, self.is_double) = (Vec::new(), true);
    }

    /// Appends a sample. One of f64 needs [`widen`](Self::widen) first.
    fn extend(&mut self, sample: Floats<'_>) {
        match sample {
            Floats::F32(sample) if !self.is_double => self.single.extend_from_slice(sample),
            _ => extend_f64(&mut self.double, sample),
        }
    }

    /// Frees the samples.
    fn clear(&mut self) {
        (self.single, self.double) = Default::default();
    }
}

/// How many samples of a class wait at most: as many as take the room of the scatter, and few once the scatter is there.
pub(super) fn most_rows(dim: usize, folded: bool) -> usize {
    if folded { dim.min(BLOCK) } else { dim }
}

/// How many more samples get room when `rows` of `most` have it. Half as much again each time: few moves, and only a small
/// part of the buffer stays unused.
pub(super) fn more_rows(rows: usize, most: usize) -> usize {
    (rows / 2).clamp(8, most.max(8))
}

/// Bytes to fold `rows` waiting samples into the scatter.
pub(super) fn fold_bytes(dim: usize, rows: usize) -> u64 {
    Covariance::dense_bytes(dim) + 16 * (rows * dim) as u64
}

/// Bytes to finish a class beside its samples, from the room of a dense matrix and of the samples.
pub(super) fn finish_bytes(dim: usize, rows: usize, folded: bool, storage: Storage) -> u64 {
    let dense = match storage {
        Storage::LowRank(_) => 1 + algebra::EIGEN,
        // The class stays a factor.
        Storage::Smallest if !folded && 2 * rows <= dim + 1 => 0,
        _ => 2,
    };
    dense * Covariance::dense_bytes(dim) + 16 * (rows * dim) as u64
}

/// Bytes of a class that is collected, beside its numbers: the structure, its place in a map, and what the allocator adds.
pub(super) const OPEN_BYTES: u64 = 512;

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
        for_each_block(source, BLOCK, &budget, |block| self.add_floats(block.floats(side)?, block.labels()?))
    }

    /// Adds samples: features row-major `[n, d]` and n labels.
    ///
    /// # Errors
    /// When lengths do not fit, a feature is not finite, or the budget has no room.
    pub fn add(&mut self, features: &[f32], labels: &[u32]) -> Result<()> {
        self.add_floats(Floats::F32(features), labels)
    }

    /// As [`add`](Self::add), for features of either precision.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_floats(&mut self, features: Floats<'_>, labels: &[u32]) -> Result<()> {
        let (found, expected) = (labels.len() as u64, features.samples(self.dim)? as u64);
        if found != expected {
            return Err(CompensateError::Rows { what: "labels".into(), found, expected });
        }
        features.check_finite("features", self.dim, 0)?;
        for (sample, &label) in features.chunks(self.dim).zip(labels) {
            self.push(label, sample)?;
        }
        Ok(())
    }

    fn push(&mut self, label: u32, sample: Floats<'_>) -> Result<()> {
        let dim = self.dim;
        let class = match self.classes.entry(label) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let held = self.budget.reserve(OPEN_BYTES + 8 * dim as u64, "a class's mean")?;
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
    fn most_rows(&self) -> usize {
        most_rows(self.mean.len(), self.folded > 0)
    }

    fn push(&mut self, sample: Floats<'_>, budget: &Budget) -> Result<()> {
        let dim = self.mean.len();
        if matches!(sample, Floats::F64(_)) && !self.rows.is_double {
            let single = self.rows.bytes();
            self.held.grow(2 * single, "a class's samples")?;
            self.rows.widen();
            self.held.shrink(single);
        }
        if self.rows.len() == self.most_rows() * dim {
            self.fold(budget)?;
        }
        if self.rows.len() == self.rows.capacity() {
            let more = more_rows(self.rows.len() / dim.max(1), self.most_rows()) * dim;
            self.held.grow(self.rows.width() * more as u64, "a class's samples")?;
            self.rows.reserve_exact(more);
        }
        self.rows.extend(sample);
        Ok(())
    }

    /// The waiting samples' number, mean, and centred values (a column each).
    fn centred(&self) -> (u64, DVector<f64>, DMatrix<f64>) {
        let dim = self.mean.len();
        let count = self.rows.len() / dim.max(1);
        let mut numbers = Vec::with_capacity(self.rows.len());
        extend_f64(&mut numbers, self.rows.floats());
        let mut centred = DMatrix::from_vec(dim, count, numbers);
        let mean = centred.column_mean();
        centred.column_iter_mut().for_each(|mut column| column -= &mean);
        (count as u64, mean, centred)
    }

    /// Moves the waiting samples into the scatter.
    fn fold(&mut self, budget: &Budget) -> Result<()> {
        if self.rows.len() == 0 {
            return Ok(());
        }
        let dim = self.mean.len();
        let scratch = fold_bytes(dim, self.rows.len() / dim.max(1));
        let _scratch = budget.reserve(scratch, "adding samples to a class")?;
        let (count, mean, centred) = self.centred();
        self.add(count, &mean)?;
        algebra::add_packed_gram(&mut self.scatter, algebra::n(&centred));
        self.held.shrink(self.rows.bytes());
        self.rows.clear();
        Ok(())
    }

    /// Adds `count` samples that all equal `mean`. Only the scatter around `mean` is left to add.
    fn add(&mut self, count: u64, mean: &DVector<f64>) -> Result<()> {
        let dim = self.mean.len();
        if self.scatter.is_empty() {
            self.held.grow(4 * (dim * (dim + 1)) as u64, "a class's covariance")?;
            self.scatter = vec![0.0; dim * (dim + 1) / 2];
        }
        let weights = Weights::new(self.folded, count);
        let difference = mean - &self.mean;
        let mut rest = &mut *self.scatter;
        for (col, number) in difference.iter().enumerate() {
            let (column, scale) =
                (rest.split_off_mut(..dim - col).unwrap_or_default(), weights.between * number);
            column.iter_mut().zip(&difference.as_slice()[col..]).for_each(|(sum, row)| *sum += scale * row);
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
            self.add(other.folded, &other.mean)?;
            self.scatter.iter_mut().zip(&other.scatter).for_each(|(sum, scatter)| *sum += scatter);
        }
        other.rows.floats().chunks(dim).try_for_each(|sample| self.push(sample, budget))
    }

    fn finish(
        mut self,
        shrinkage: Option<Shrinkage>,
        storage: Storage,
        precision: Precision,
        budget: &Budget,
    ) -> Result<ClassGaussian> {
        let dim = self.mean.len();
        let rows = self.rows.len() / dim.max(1);
        let scratch = finish_bytes(dim, rows, self.folded > 0, storage);
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
        let mut class = ClassGaussian::new(count, mean, covariance, &Budget::unlimited())?;
        if let Some(shrinkage) = shrinkage {
            let covariance = class.shrunk(shrinkage)?;
            class = ClassGaussian::new(count, class.mean().clone(), covariance, &Budget::unlimited())?;
        }
        let storage = if class.covariance().form() == "isotropic" { Storage::Smallest } else { storage };
        class.store(storage, precision, budget)
    }
}
