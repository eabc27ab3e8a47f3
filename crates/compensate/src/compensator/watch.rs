//! What is noted of pairs while a method reads them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nalgebra::{DMatrix, DVector};
use residua_memory::{Budget, Reservation};

use super::MOVING_ERROR;
use super::uncertainty::{Uncertainty, covariance};
use crate::source::{FeatureBlock, FeatureSource, Fingerprint};
use crate::{Result, Side};

/// Pairs of the sample, spread evenly where a source tells its number of rows.
const SAMPLE: usize = 1024;
/// Single pairs that are left out where there are no labels.
const SINGLE: usize = 256;
/// Groups at most.
pub(super) const MOST_GROUPS: u64 = SINGLE as u64;
/// Classes whose means are noted: more would tell little more.
const CLASSES: usize = 64;

/// A source that notes a sample of its pairs and the means of their classes, in its first full pass.
pub(super) struct Watched<'a> {
    source: &'a mut dyn FeatureSource,
    watch: Watch,
    done: bool,
}

/// What was noted.
#[derive(Debug)]
pub(super) struct Watch {
    dim: usize,
    pub(super) pairs: u64,
    /// Every so many-th pair is in the sample.
    stride: u64,
    before: Vec<f32>,
    after: Vec<f32>,
    pub(super) groups: BTreeMap<u32, Group>,
    _held: Reservation,
}

/// Sums of a class's features.
#[derive(Debug)]
pub(super) struct Group {
    count: u64,
    before: DVector<f64>,
    after: DVector<f64>,
}

/// The means of groups.
pub(super) struct Groups {
    /// Columns `[d, groups]`.
    pub(super) before: DMatrix<f64>,
    pub(super) after: DMatrix<f64>,
    /// Shares of the pairs.
    pub(super) shares: Vec<f64>,
}

/// Bytes of a watched source, with the uncertainty that is made of it.
pub(super) fn bytes(dim: usize) -> u64 {
    let (dim64, sample) = (dim as u64, SAMPLE as u64);
    Uncertainty::bytes(dim) + dim64 * (8 * sample + 16 * CLASSES as u64)
}

impl<'a> Watched<'a> {
    pub(super) fn new(source: &'a mut dyn FeatureSource, budget: &Budget) -> Result<Self> {
        let dim = source.dim();
        let held = budget.reserve(bytes(dim), MOVING_ERROR)?;
        let stride = source.rows().map_or(1, |rows| rows.div_ceil(SAMPLE as u64)).max(1);
        let (before, after, groups) = Default::default();
        Ok(Self {
            source,
            watch: Watch { dim, pairs: 0, stride, before, after, groups, _held: held },
            done: false,
        })
    }

    pub(super) fn finish(self) -> Watch {
        self.watch
    }
}

impl Watch {
    fn add(&mut self, block: &FeatureBlock, count: usize) {
        let first = block.rows() - count;
        let (Ok(after), dim) = (block.after(), self.dim) else { return };
        let before = &block.before()[first * dim..];
        let after = &after[first * dim..];
        let labels = block.labels().ok().map(|labels| &labels[first..]);
        for (row, (before, after)) in before.chunks_exact(dim).zip(after.chunks_exact(dim)).enumerate() {
            if self.pairs.is_multiple_of(self.stride) && self.before.len() < SAMPLE * dim {
                self.before.extend_from_slice(before);
                self.after.extend_from_slice(after);
            }
            self.pairs += 1;
            let Some(&label) = labels.and_then(|labels| labels.get(row)) else { continue };
            if self.groups.len() == CLASSES && !self.groups.contains_key(&label) {
                continue;
            }
            let zero = || DVector::zeros(dim);
            let group =
                self.groups.entry(label).or_insert_with(|| Group { count: 0, before: zero(), after: zero() });
            group.count += 1;
            for (sums, values) in [(&mut group.before, before), (&mut group.after, after)] {
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(*value));
            }
        }
    }

    /// Pairs in the sample.
    pub(super) fn sampled(&self) -> usize {
        self.before.len() / self.dim.max(1)
    }

    fn sample(&self, side: Side) -> DMatrix<f32> {
        let values = if side == Side::Before { &self.before } else { &self.after };
        DMatrix::from_column_slice(self.dim, values.len() / self.dim.max(1), values)
    }

    /// The mean of the sample before the task, and the sample without it.
    pub(super) fn centred_before(&self) -> (DVector<f64>, DMatrix<f32>) {
        centred(self.sample(Side::Before))
    }

    /// The covariances of the sample before and after the task, lower triangles.
    pub(super) fn spreads(&self) -> [DMatrix<f64>; 2] {
        [Side::Before, Side::After].map(|side| covariance(&centred(self.sample(side)).1))
    }

    /// The means of classes, or else single pairs.
    pub(super) fn take_groups(&mut self) -> Groups {
        let dim = self.dim;
        let total = self.pairs.max(1) as f64;
        let (before, after, shares);
        if self.groups.len() > 1 {
            let mean = |sums: &DVector<f64>, count: u64| sums / count as f64;
            let groups = || self.groups.values();
            before = DMatrix::from_columns(
                &groups().map(|group| mean(&group.before, group.count)).collect::<Vec<_>>(),
            );
            after = DMatrix::from_columns(
                &groups().map(|group| mean(&group.after, group.count)).collect::<Vec<_>>(),
            );
            shares = groups().map(|group| group.count as f64 / total).collect();
        } else {
            let rows = self.before.len() / dim.max(1);
            let step = rows.div_ceil(SINGLE).max(1);
            let every = |values: &[f32]| -> DMatrix<f64> {
                let columns: Vec<_> =
                    values.chunks_exact(dim.max(1)).step_by(step).flatten().map(|&v| f64::from(v)).collect();
                DMatrix::from_column_slice(dim, columns.len() / dim.max(1), &columns)
            };
            (before, after) = (every(&self.before), every(&self.after));
            shares = vec![1.0 / total; before.ncols()];
        }
        self.groups.clear();
        Groups { before, after, shares }
    }
}

fn centred(mut sample: DMatrix<f32>) -> (DVector<f64>, DMatrix<f32>) {
    let mut mean = DVector::<f64>::zeros(sample.nrows());
    for column in sample.column_iter() {
        mean.iter_mut().zip(column.iter()).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    mean /= sample.ncols().max(1) as f64;
    for mut column in sample.column_iter_mut() {
        column
            .iter_mut()
            .zip(mean.iter())
            .for_each(|(value, mean)| *value = (f64::from(*value) - mean) as f32);
    }
    (mean, sample)
}

impl FeatureSource for Watched<'_> {
    fn dim(&self) -> usize {
        self.source.dim()
    }

    fn rows(&self) -> Option<u64> {
        self.source.rows()
    }

    fn read(&mut self, most: usize, block: &mut FeatureBlock) -> Result<usize> {
        let count = self.source.read(most, block)?;
        if !self.done {
            self.watch.add(block, count);
            self.done = count == 0;
        }
        Ok(count)
    }

    fn rewind(&mut self) -> Result<()> {
        if !self.done {
            (self.watch.pairs, self.watch.before, self.watch.after, self.watch.groups) = Default::default();
        }
        self.source.rewind()
    }

    fn is_double(&self) -> bool {
        self.source.is_double()
    }

    fn for_each_label(&mut self, f: &mut dyn FnMut(&[u32])) -> Result<bool> {
        self.source.for_each_label(f)
    }

    fn name(&self) -> String {
        self.source.name()
    }

    fn files(&self) -> Vec<PathBuf> {
        self.source.files()
    }

    fn fingerprints(&self) -> Vec<Fingerprint> {
        self.source.fingerprints()
    }
}
