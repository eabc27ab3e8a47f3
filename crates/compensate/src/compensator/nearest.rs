//! Drift of a feature as the weighted drift of the samples nearest to it.

use std::cmp::Ordering;

use nalgebra::{DMatrix, DMatrixView};
use rayon::prelude::*;
use residua_memory::{Budget, Reservation};

use super::not_empty;
use super::saved::{Reader, Writer};
use super::store::Store;
use crate::algebra;
use crate::source::{FeatureSource, for_each_pair};
use crate::{CompensateError, Precision, Result};

/// Points that one thread works on at a time.
const POINTS: usize = 64;
/// Keys that they are compared with at a time.
const KEYS: usize = 512;

/// Directions of samples before a task, and their drift.
#[derive(Debug)]
pub(super) struct Nearest {
    dim: usize,
    count: usize,
    keys: Store,
    drift: Store,
    _held: Reservation,
}

/// The weight of a sample's drift: `softmax(cos/temperature)` over the `k` nearest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Kernel {
    pub(super) k: usize,
    pub(super) temperature: f64,
}

/// A sample's cosine, later its weight, and its number.
type Candidate = (f32, u32);

/// Candidates that a point holds at most.
fn capacity(kernel: Kernel, samples: usize) -> usize {
    2 * kernel.k.min(samples) + KEYS
}

/// Nearest first; of equally near ones the earlier sample first.
fn nearer(a: &Candidate, b: &Candidate) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// Points that are compared with the samples together.
struct Tile {
    /// Directions `[d, n]`.
    points: DMatrix<f32>,
    /// For each point.
    nearest: Vec<Running>,
    /// `[d, n]`.
    drift: DMatrix<f32>,
}

/// The nearest samples so far, and others that were no farther than the k-th nearest when it was last determined.
struct Running {
    candidates: Vec<Candidate>,
    least: f32,
    /// Number of candidates whose drift has been added.
    done: usize,
}

impl Nearest {
    /// Keeps all samples of a source: in memory if they take at most a quarter of the budget that is left and leave the
    /// `work` bytes that follow, else in a temporary file. Moved classes need room too.
    pub(super) fn read(
        source: &mut dyn FeatureSource,
        precision: Precision,
        work: u64,
        budget: &Budget,
    ) -> Result<Self> {
        let dim = source.dim();
        let numbers = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX).saturating_mul(dim);
        let room = (budget.available() / 4).min(budget.available().saturating_sub(work));
        let known = source.rows().map(numbers);
        let size = if precision == Precision::Bf16 { 2 * 2 } else { 2 * 4 };
        let in_file = known.is_some_and(|numbers| (numbers as u64).saturating_mul(size) > room);
        let mut keys = Store::new(dim, precision, in_file)?;
        let mut drift = Store::new(dim, precision, in_file)?;
        let mut held = budget.reserve(0, "stored features")?;
        if let Some(numbers) = known {
            held.grow((2 * keys.number_bytes()).saturating_mul(numbers as u64), "stored features")?;
            keys.reserve(numbers);
            drift.reserve(numbers);
        }
        let mut count = 0;
        for_each_pair(source, budget, |before, after| {
            count += before.ncols();
            let needed = 2 * keys.number_bytes() * (count * dim) as u64;
            if needed > held.bytes() {
                held.grow(needed - held.bytes(), "stored features")?;
                keys.reserve(before.len());
                drift.reserve(before.len());
            }
            for column in before.column_iter() {
                let norm = column.norm().max(1e-12);
                keys.extend(column.iter().map(|value| value / norm))?;
            }
            drift.extend(after.iter().zip(before.iter()).map(|(after, before)| after - before))
        })?;
        not_empty(count as u64, source)?;
        if u32::try_from(count).is_err() {
            let problem = format!("{}: {count} pairs, more than 2^32 - 1", source.name());
            return Err(CompensateError::Statistics { problem });
        }
        Ok(Self { dim, count, keys, drift, _held: held })
    }

    /// Writes all samples.
    pub(super) fn write(&self, file: &mut Writer) -> Result<()> {
        file.vector("precision", &[f32::from(self.keys.is_short())])?;
        for (name, store) in [("keys", &self.keys), ("drift", &self.drift)] {
            let pieces = self.pieces().map(|(first, count)| store.matrix(first, count));
            file.columns(name, (self.dim, self.count), pieces)?;
        }
        Ok(())
    }

    /// Reads what [`write`](Self::write) wrote: to memory if that takes at most a quarter of the budget that is left.
    pub(super) fn restore(reader: &mut Reader<'_>, budget: &Budget) -> Result<Self> {
        let is_short = reader.vector::<f32>("precision", 1)?[0] == 1.0;
        let precision = if is_short { Precision::Bf16 } else { Precision::F32 };
        let (dim, (_, count)) = (reader.dim, reader.shape("keys")?);
        if count == 0 || u32::try_from(count).is_err() {
            return Err(reader.wrong(format!("{count} samples")));
        }
        // The tensors exist, so that the product fits.
        let numbers = dim.saturating_mul(count);
        let bytes = 2 * precision.bytes().saturating_mul(numbers as u64);
        let in_file = bytes > budget.available() / 4;
        // Before the room of hostile numbers is taken: both tensors are there.
        reader.expect::<f32>("keys", dim, count)?;
        reader.expect::<f32>("drift", dim, count)?;
        let held = budget.reserve(if in_file { 0 } else { bytes }, "stored features")?;
        let mut restored = |name: &str| {
            let mut store = Store::new(dim, precision, in_file)?;
            store.reserve(numbers);
            reader.columns::<f32>(name, dim, count, KEYS, |piece| store.extend(piece.iter().copied()))?;
            Ok::<_, CompensateError>(store)
        };
        Ok(Self { dim, count, keys: restored("keys")?, drift: restored("drift")?, _held: held })
    }

    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    /// Number of samples.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Bytes of scratch of [`drift`](Self::drift) for `points` points among `samples` samples.
    pub(super) fn scratch_bytes(dim: usize, samples: usize, kernel: Kernel, points: usize) -> u64 {
        let threads = rayon::current_num_threads().min(points.div_ceil(POINTS));
        let point = 8 * dim + capacity(kernel, samples) * size_of::<Candidate>();
        (points * point + threads * 4 * KEYS * POINTS + 3 * 4 * KEYS * dim) as u64
    }

    /// The drift `[d, n]` of points `[d, n]`. Reads all samples twice: to find the nearest, and to add their drift.
    /// Different threads work on different tiles of points.
    pub(super) fn drift(&self, points: DMatrixView<'_, f32>, kernel: Kernel) -> Result<DMatrix<f32>> {
        let k = kernel.k.min(self.count);
        let mut tiles: Vec<Tile> = (0..points.ncols())
            .step_by(POINTS)
            .map(|first| {
                Tile::new(
                    points.columns(first, POINTS.min(points.ncols() - first)),
                    capacity(kernel, self.count),
                )
            })
            .collect();
        for (first, count) in self.pieces() {
            let keys = self.keys.matrix(first, count)?;
            tiles.par_iter_mut().for_each(|tile| tile.compare(&keys, first, k));
        }
        tiles.par_iter_mut().for_each(|tile| tile.weigh(k, kernel.temperature));
        for (first, count) in self.pieces() {
            let drift = self.drift.matrix(first, count)?;
            tiles.par_iter_mut().for_each(|tile| tile.add(&drift, first));
        }
        let mut all = DMatrix::zeros(self.dim, points.ncols());
        for (tile, first) in tiles.into_iter().zip((0..).step_by(POINTS)) {
            all.columns_mut(first, tile.drift.ncols()).copy_from(&tile.drift);
        }
        Ok(all)
    }

    fn pieces(&self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.count).step_by(KEYS).map(|first| (first, KEYS.min(self.count - first)))
    }
}

impl Tile {
    fn new(points: DMatrixView<'_, f32>, capacity: usize) -> Self {
        let mut points = points.into_owned();
        points.column_iter_mut().for_each(|mut column| column /= column.norm().max(1e-12));
        let running =
            || Running { candidates: Vec::with_capacity(capacity), least: f32::NEG_INFINITY, done: 0 };
        let nearest = (0..points.ncols()).map(|_| running()).collect();
        let drift = DMatrix::zeros(points.nrows(), points.ncols());
        Self { points, nearest, drift }
    }

    /// Compares with the samples `first..`, whose directions are `keys`.
    fn compare(&mut self, keys: &DMatrix<f32>, first: usize, k: usize) {
        let cosines = algebra::product(algebra::t(keys), algebra::n(&self.points));
        for (nearest, cosines) in self.nearest.iter_mut().zip(cosines.column_iter()) {
            if nearest.candidates.len() + cosines.len() > nearest.candidates.capacity() {
                nearest.narrow(k);
            }
            // A sample that is farther than the k-th so far, or as far and later, is out.
            let (least, candidates) = (nearest.least, &mut nearest.candidates);
            for (&cosine, number) in cosines.iter().zip(first as u32..) {
                if cosine > least {
                    candidates.push((cosine, number));
                }
            }
        }
    }

    /// Determines the nearest samples and their weights, in the order of samples so that sums round the same way.
    fn weigh(&mut self, k: usize, temperature: f64) {
        for nearest in &mut self.nearest {
            nearest.narrow(k);
            let candidates = &mut nearest.candidates;
            candidates.sort_unstable_by_key(|candidate| candidate.1);
            let largest = candidates.iter().map(|candidate| candidate.0).fold(f32::NEG_INFINITY, f32::max);
            let weight = |cosine: f32| (f64::from(cosine - largest) / temperature).exp();
            let sum: f64 = candidates.iter().map(|candidate| weight(candidate.0)).sum();
            candidates.iter_mut().for_each(|candidate| candidate.0 = (weight(candidate.0) / sum) as f32);
        }
    }

    /// Adds the drift of those of the samples `first..` that are among the nearest.
    fn add(&mut self, drift: &DMatrix<f32>, first: usize) {
        let dim = drift.nrows();
        for (nearest, out) in self.nearest.iter_mut().zip(self.drift.as_mut_slice().chunks_mut(dim.max(1))) {
            while let Some(&(weight, number)) = nearest.candidates.get(nearest.done) {
                let at = number as usize - first;
                if at >= drift.ncols() {
                    break;
                }
                let sample = &drift.as_slice()[at * dim..(at + 1) * dim];
                out.iter_mut().zip(sample).for_each(|(out, v)| *out += weight * v);
                nearest.done += 1;
            }
        }
    }
}

impl Running {
    /// Keeps the k nearest.
    fn narrow(&mut self, k: usize) {
        if self.candidates.len() >= k {
            self.candidates.select_nth_unstable_by(k - 1, nearer);
            self.candidates.truncate(k);
            self.least = self.candidates[k - 1].0;
        }
    }
}
