//! One class while it is collected.

use nalgebra::{DMatrix, DVector};
use residua_memory::{Budget, Reservation};

use super::forest::Forest;
use super::merge::Weights;
use super::{ClassGaussian, Covariance, Precision, SINGLE_SAMPLE_VARIANCE, Shrinkage, Storage};
use crate::source::{BLOCK, Floats, extend_f64};
use crate::{Result, algebra};

/// The exact state of a class.
#[derive(Debug)]
pub(super) struct Class {
    /// Samples in `mean` and `scatter`.
    pub(super) folded: u64,
    pub(super) mean: DVector<f64>,
    /// Packed lower triangle, column after column; empty before the first fold.
    pub(super) scatter: Vec<f64>,
    /// Samples not folded yet, one after the other.
    pub(super) rows: Rows,
    pub(super) held: Reservation,
}

/// Samples of a class, one after the other: all f32, or all f64 once one of them is.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) single: Vec<f32>,
    pub(super) double: Vec<f64>,
    pub(super) is_double: bool,
}

impl Rows {
    pub(super) fn floats(&self) -> Floats<'_> {
        if self.is_double { Floats::F64(&self.double) } else { Floats::F32(&self.single) }
    }

    /// Number of numbers.
    pub(super) fn len(&self) -> usize {
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

    /// Appends samples. Those of f64 need [`widen`](Self::widen) first.
    fn extend(&mut self, samples: Floats<'_>) {
        match samples {
            Floats::F32(samples) if !self.is_double => self.single.extend_from_slice(samples),
            _ => extend_f64(&mut self.double, samples),
        }
    }

    /// Frees what holds no sample.
    fn trim(&mut self) {
        self.single.shrink_to_fit();
        self.double.shrink_to_fit();
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

/// Bytes of a scatter.
pub(super) fn scatter_bytes(dim: usize) -> u64 {
    (dim as u64).saturating_mul(4 * (dim as u64 + 1))
}

impl Class {
    /// No samples yet.
    pub(super) fn new(dim: usize, forest: &mut Forest) -> Result<Self> {
        let held = forest.reserve(OPEN_BYTES + 8 * dim as u64, "a class's mean")?;
        let (scatter, rows) = Default::default();
        Ok(Self { folded: 0, mean: DVector::zeros(dim), scatter, rows, held })
    }

    /// Number of its samples.
    pub(super) fn count(&self) -> u64 {
        self.folded + (self.rows.len() / self.mean.len().max(1)) as u64
    }

    fn most_rows(&self) -> usize {
        most_rows(self.mean.len(), self.folded > 0)
    }

    /// Adds a sample.
    pub(super) fn push(&mut self, sample: Floats<'_>, forest: &mut Forest) -> Result<()> {
        let dim = self.mean.len();
        self.widen_for(sample, forest)?;
        if self.rows.len() == self.most_rows() * dim {
            self.fold(forest)?;
            self.widen_for(sample, forest)?;
        }
        if self.rows.len() == self.rows.capacity() {
            let more = more_rows(self.rows.len() / dim.max(1), self.most_rows()) * dim;
            self.make_room(more, forest)?;
        }
        self.rows.extend(sample);
        Ok(())
    }

    /// Makes waiting samples f64 if these are.
    fn widen_for(&mut self, samples: Floats<'_>, forest: &mut Forest) -> Result<()> {
        if matches!(samples, Floats::F64(_)) && !self.rows.is_double {
            let single = self.rows.bytes();
            forest.grow(&mut self.held, 2 * single, "a class's samples")?;
            self.rows.widen();
            self.held.shrink(single);
        }
        Ok(())
    }

    fn make_room(&mut self, more: usize, forest: &mut Forest) -> Result<()> {
        forest.grow(&mut self.held, self.rows.width() * more as u64, "a class's samples")?;
        self.rows.reserve_exact(more);
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
    fn fold(&mut self, forest: &mut Forest) -> Result<()> {
        if self.rows.len() == 0 {
            return Ok(());
        }
        let dim = self.mean.len();
        let scratch = fold_bytes(dim, self.rows.len() / dim.max(1));
        let _scratch = forest.reserve(scratch, "adding samples to a class")?;
        let (count, mean, centred) = self.centred();
        self.add(count, &mean, forest)?;
        algebra::add_packed_gram(&mut self.scatter, algebra::n(&centred));
        self.held.shrink(self.rows.bytes());
        self.rows = Rows::default();
        Ok(())
    }

    /// Adds `count` samples that all equal `mean`. Only the scatter around `mean` is left to add.
    fn add(&mut self, count: u64, mean: &DVector<f64>, forest: &mut Forest) -> Result<()> {
        let dim = self.mean.len();
        if self.scatter.is_empty() {
            forest.grow(&mut self.held, scatter_bytes(dim), "a class's covariance")?;
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

    /// Adds all samples of `other`, as if they came after those of `self`.
    pub(super) fn merge(&mut self, other: &Self, forest: &mut Forest) -> Result<()> {
        let dim = self.mean.len();
        if other.folded > 0 {
            self.fold(forest)?;
            self.add(other.folded, &other.mean, forest)?;
            self.scatter.iter_mut().zip(&other.scatter).for_each(|(sum, scatter)| *sum += scatter);
        }
        let mut rest = other.rows.floats();
        while !rest.is_empty() {
            if self.rows.len() == self.most_rows() * dim {
                self.fold(forest)?;
            }
            self.widen_for(rest, forest)?;
            let count = (self.most_rows() * dim - self.rows.len()).min(rest.len());
            let spare = self.rows.capacity() - self.rows.len();
            self.make_room(count.saturating_sub(spare), forest)?;
            self.rows.extend(rest.slice(0..count));
            rest = rest.slice(count..rest.len());
        }
        Ok(())
    }

    /// Frees the room that no sample takes.
    pub(super) fn trim(&mut self) {
        let before = self.rows.bytes();
        self.rows.trim();
        self.held.shrink(before.saturating_sub(self.rows.bytes()));
    }

    /// The class of all its samples.
    pub(super) fn finish(
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
            self.fold(&mut Forest::new(dim, budget))?;
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
