//! Drift of a feature as the weighted drift of the samples nearest to it.

use std::cmp::Ordering;

use half::bf16;
use nalgebra::{DMatrix, DMatrixView};
use rayon::prelude::*;
use residua_memory::{Budget, Reservation};

use super::not_empty;
use crate::algebra;
use crate::source::{FeatureSource, for_each_block};
use crate::{Precision, Result};

/// Points that one thread works on at a time.
const POINTS: usize = 64;
/// Keys that are compared with them at a time.
const KEYS: usize = 512;

/// Directions of samples before a task, and their drift.
#[derive(Debug)]
pub(super) struct Nearest {
    dim: usize,
    count: usize,
    keys: Rows,
    drift: Rows,
    _held: Reservation,
}

/// Numbers of samples, one sample after the other.
#[derive(Debug)]
enum Rows {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

impl Rows {
    fn new(precision: Precision) -> Self {
        if precision == Precision::Bf16 { Self::Bf16(Vec::new()) } else { Self::F32(Vec::new()) }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::F32(_) => 4,
            Self::Bf16(_) => 2,
        }
    }

    /// Room for exactly `more`, so that what is held is what was reserved.
    fn reserve(&mut self, more: usize) {
        match self {
            Self::F32(rows) => rows.reserve_exact(more),
            Self::Bf16(rows) => rows.reserve_exact(more),
        }
    }

    fn extend(&mut self, values: impl Iterator<Item = f32>) {
        match self {
            Self::F32(rows) => rows.extend(values),
            Self::Bf16(rows) => rows.extend(values.map(bf16::from_f32)),
        }
    }

    /// Adds `weight` times the `out.len()` numbers from `start` on.
    fn add_to(&self, out: &mut [f32], weight: f32, start: usize) {
        let range = start..start + out.len();
        match self {
            Self::F32(rows) => out.iter_mut().zip(&rows[range]).for_each(|(out, v)| *out += weight * v),
            Self::Bf16(rows) => {
                out.iter_mut().zip(&rows[range]).for_each(|(out, v)| *out += weight * v.to_f32())
            }
        }
    }

    fn matrix(&self, dim: usize, first: usize, count: usize) -> DMatrix<f32> {
        let range = first * dim..(first + count) * dim;
        match self {
            Self::F32(rows) => DMatrix::from_column_slice(dim, count, &rows[range]),
            Self::Bf16(rows) => {
                DMatrix::from_iterator(dim, count, rows[range].iter().map(|value| value.to_f32()))
            }
        }
    }
}

/// How much drift of a sample counts: `softmax(cos/temperature)` over the `k` nearest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Kernel {
    pub(super) k: usize,
    pub(super) temperature: f64,
}

/// A sample's cosine and number.
type Candidate = (f32, u32);

/// Nearest first; of equals the first sample first.
fn nearer(a: &Candidate, b: &Candidate) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

impl Nearest {
    /// Keeps all samples of a source.
    pub(super) fn read(
        source: &mut dyn FeatureSource,
        precision: Precision,
        budget: &Budget,
    ) -> Result<Self> {
        let dim = source.dim();
        let (mut keys, mut drift) = (Rows::new(precision), Rows::new(precision));
        let mut held = budget.reserve(0, "stored features")?;
        if let Some(rows) = source.rows() {
            let numbers = usize::try_from(rows).unwrap_or(usize::MAX).saturating_mul(dim);
            held.grow((2 * keys.bytes()).saturating_mul(numbers as u64), "stored features")?;
            keys.reserve(numbers);
            drift.reserve(numbers);
        }
        let mut count = 0;
        for_each_block(source, budget, |block| {
            let (before, after) = (block.before(), block.after()?);
            count += block.rows();
            let needed = 2 * keys.bytes() * (count * dim) as u64;
            if needed > held.bytes() {
                held.grow(needed - held.bytes(), "stored features")?;
                keys.reserve(before.len());
                drift.reserve(before.len());
            }
            for column in before.column_iter() {
                let norm = column.norm().max(1e-12);
                keys.extend(column.iter().map(|value| value / norm));
            }
            drift.extend(after.iter().zip(before.iter()).map(|(after, before)| after - before));
            Ok(())
        })?;
        not_empty(count as u64)?;
        Ok(Self { dim, count, keys, drift, _held: held })
    }

    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    /// Bytes that [`drift`](Self::drift) of `points` points works in.
    pub(super) fn scratch(&self, kernel: Kernel, points: usize) -> u64 {
        let (k, threads) =
            (kernel.k.min(self.count), rayon::current_num_threads().min(points.div_ceil(POINTS)));
        let thread = 4 * (self.dim * (KEYS + 2 * POINTS) + KEYS * POINTS)
            + POINTS * 2 * (k + KEYS) * size_of::<Candidate>();
        (thread * threads) as u64
    }

    /// The drift `[d, n]` of points `[d, n]`; tiles of points go to different threads.
    pub(super) fn drift(&self, points: DMatrixView<'_, f32>, kernel: Kernel) -> DMatrix<f32> {
        let mut drift = DMatrix::zeros(self.dim, points.ncols());
        drift.as_mut_slice().par_chunks_mut(self.dim * POINTS).enumerate().for_each(|(tile, out)| {
            let points = points.columns(tile * POINTS, out.len() / self.dim);
            for (point, out) in self.candidates(points, kernel.k).iter().zip(out.chunks_mut(self.dim)) {
                self.average(point, kernel.temperature, out);
            }
        });
        drift
    }

    /// The nearest samples of each point, from a tile of cosines at a time.
    fn candidates(&self, points: DMatrixView<'_, f32>, k: usize) -> Vec<Vec<Candidate>> {
        let k = k.min(self.count);
        let mut points = points.into_owned();
        points.column_iter_mut().for_each(|mut column| column /= column.norm().max(1e-12));
        let mut nearest = vec![Vec::with_capacity(k + KEYS); points.ncols()];
        for first in (0..self.count).step_by(KEYS) {
            let keys = self.keys.matrix(self.dim, first, KEYS.min(self.count - first));
            let cosines = algebra::product(algebra::t(&keys), algebra::n(&points));
            for (nearest, cosines) in nearest.iter_mut().zip(cosines.column_iter()) {
                // The k-th so far: whatever is farther is out.
                let least =
                    if nearest.len() == k { nearest.last().map(|last: &Candidate| last.0) } else { None };
                let numbered = cosines.iter().zip(first as u32..).map(|(&cosine, number)| (cosine, number));
                nearest.extend(numbered.filter(|(cosine, _)| least.is_none_or(|least| *cosine > least)));
                // Also when it has k exactly: the last one has to be the farthest.
                if nearest.len() >= k {
                    nearest.select_nth_unstable_by(k - 1, nearer);
                    nearest.truncate(k);
                }
            }
        }
        // In one order, so that sums round alike.
        nearest.iter_mut().for_each(|nearest| nearest.sort_unstable_by_key(|candidate| candidate.1));
        nearest
    }

    /// The softmax-weighted drift of samples.
    fn average(&self, nearest: &[Candidate], temperature: f64, out: &mut [f32]) {
        let largest = nearest.iter().map(|candidate| candidate.0).fold(f32::NEG_INFINITY, f32::max);
        let weight = |cosine: f32| (f64::from(cosine - largest) / temperature).exp();
        let sum: f64 = nearest.iter().map(|candidate| weight(candidate.0)).sum();
        for &(cosine, number) in nearest {
            let weight = (weight(cosine) / sum) as f32;
            self.drift.add_to(out, weight, number as usize * self.dim);
        }
    }
}
