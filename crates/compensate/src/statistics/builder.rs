//! Statistics of features that come batch by batch.

use std::collections::{BTreeMap, BTreeSet};

use residua_memory::Budget;

use super::class::Class;
use super::forest::{Classes, Forest, Part};
use super::leaves::Leaves;
use super::{ClassStatistics, Precision, Shrinkage, Storage};
use crate::error::same_dimension;
use crate::source::{BLOCK, FeatureSource, Floats, Side, for_each_block};
use crate::{CompensateError, Result};

/// Collects class statistics in one pass.
///
/// A class of up to d samples keeps the samples themselves, f32 or f64 as they came: in f32 they are smaller than its
/// scatter matrix, and they lose nothing. A larger class keeps its scatter in f64 and folds samples in by the hundreds.
///
/// Samples are collected in [`Leaves`] of 65,536, and leaves merge as a binary tree over their numbers. So the bits depend on
/// the order of samples alone: batches of any size give the same, and so do parts that are collected by several processes and
/// merged. Subtrees that wait for a merge move to temporary files where the budget has no room for them.
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
    pub(super) dim: usize,
    pub(super) leaves: Leaves,
    /// Number of the first leaf.
    pub(super) first: u64,
    /// The complete leaves.
    pub(super) forest: Forest,
    /// The leaf that samples are added to, and how many it has. After [`load`](Self::load) it is the last subtree instead, of
    /// 0 leaves, until a sample is added.
    pub(super) open: BTreeMap<u32, Class>,
    pub(super) open_rows: u64,
    /// Instruction sets of sums that were made elsewhere.
    pub(super) made_on: BTreeSet<String>,
    /// Set while a merge has taken classes apart, and for good if it fails.
    broken: bool,
    /// How far [`finish`](Self::finish) pulls covariances towards a multiple of the identity.
    pub shrinkage: Option<Shrinkage>,
}

impl StatisticsBuilder {
    /// Nothing collected yet, of features of dimension `dim`.
    pub fn new(dim: usize, budget: &Budget) -> Self {
        Self::part(dim, Leaves::default(), 0, budget)
    }

    /// As [`new`](Self::new), for a part of the samples: from leaf number `first` on.
    pub fn part(dim: usize, leaves: Leaves, first: u64, budget: &Budget) -> Self {
        let (forest, (open, made_on)) = (Forest::new(dim, budget), Default::default());
        Self { dim, leaves, first, forest, open, open_rows: 0, made_on, broken: false, shrinkage: None }
    }

    /// The feature dimension d.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How samples are cut into leaves.
    pub fn leaves(&self) -> Leaves {
        self.leaves
    }

    /// Number of the first leaf, 0 unless it is a part.
    pub fn first_leaf(&self) -> u64 {
        self.first
    }

    /// Number of the leaf behind the complete ones.
    pub(super) fn next_leaf(&self) -> u64 {
        self.forest.parts.last().map_or(self.first, |part| part.first + part.leaves)
    }

    /// Number of classes so far.
    pub fn classes(&self) -> usize {
        let parts = self.forest.parts.iter().flat_map(|part| part.classes.counts());
        let labels: BTreeSet<u32> = parts.map(|(label, _)| label).chain(self.open.keys().copied()).collect();
        labels.len()
    }

    /// Samples so far.
    pub fn samples(&self) -> u64 {
        let complete = self.forest.parts.iter().filter(|part| part.leaves > 0);
        complete.flat_map(|part| part.classes.counts()).map(|(_, count)| count).sum::<u64>() + self.open_rows
    }

    /// Reads a whole source: statistics of one side of its features by its labels.
    ///
    /// # Errors
    /// When the source fails, lacks labels or that side, holds a number that is not finite, or the budget
    /// has no room.
    pub fn add_source(&mut self, source: &mut dyn FeatureSource, side: Side) -> Result<()> {
        same_dimension("the source", source.dim(), self.dim)?;
        let budget = self.forest.budget().clone();
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
        self.expect_whole()?;
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
        if let Some(mut part) = self.forest.parts.pop_if(|part| part.leaves == 0) {
            self.open = self.merging(|builder| builder.forest.load(&mut part.classes))?;
        }
        let class = match self.open.entry(label) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Class::new(self.dim, &mut self.forest)?)
            }
        };
        if let Err(error) = class.push(sample, &mut self.forest) {
            if class.count() == 0 {
                self.open.remove(&label);
            }
            return Err(error);
        }
        self.open_rows += 1;
        if self.open_rows >= self.leaves.rows() { self.close() } else { Ok(()) }
    }

    /// Ends the open leaf.
    fn close(&mut self) -> Result<()> {
        let part = self.take_open();
        self.merging(|builder| builder.forest.push(part))
    }

    /// The open leaf, ended.
    fn take_open(&mut self) -> Part {
        let first = self.next_leaf();
        let mut classes = std::mem::take(&mut self.open);
        classes.values_mut().for_each(Class::trim);
        self.open_rows = 0;
        Part { first, leaves: 1, classes: Classes::Memory(classes) }
    }

    /// Does what leaves the statistics incomplete if it fails.
    fn merging<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.expect_whole()?;
        self.broken = true;
        let done = work(self)?;
        self.broken = false;
        Ok(done)
    }

    /// An error if a merge has failed.
    pub(super) fn expect_whole(&self) -> Result<()> {
        if !self.broken {
            return Ok(());
        }
        let problem = "an earlier error left these statistics incomplete; collect them again".into();
        Err(CompensateError::Statistics { problem })
    }

    /// All classes as the only subtree.
    fn settle(&mut self) -> Result<()> {
        self.merging(|builder| {
            if !builder.open.is_empty() {
                let open = builder.take_open();
                builder.forest.parts.push(open);
            }
            builder.open_rows = 0;
            builder.forest.settle()
        })
    }

    /// Adds all that `other` collected, as if its samples came after those of `self`.
    ///
    /// If `other` starts at the leaf behind those of `self`, the result has the bits of a single pass. Parts that both start
    /// at leaf 0, such as those of processes that draw their own samples, are merged as they are: the bits depend on where
    /// one ends and the other begins.
    ///
    /// # Errors
    /// When dimensions or leaves differ, another leaf comes next, or the budget has no room. After a lack of room the
    /// statistics are incomplete, and every further call is an error.
    pub fn merge(&mut self, mut other: Self) -> Result<()> {
        other.expect_whole()?;
        same_dimension("a set of statistics to merge", other.dim, self.dim)?;
        self.leaves.expect_same(&other.leaves)?;
        if other.samples() == 0 {
            return Ok(());
        }
        self.made_on.append(&mut other.made_on);
        let next = self.next_leaf();
        if other.first == next && self.open_rows == 0 {
            return self.merging(|builder| {
                for part in std::mem::take(&mut other.forest.parts) {
                    builder.forest.push(part)?;
                }
                builder.open = std::mem::take(&mut other.open);
                builder.open_rows = other.open_rows;
                Ok(())
            });
        }
        if self.first > 0 || other.first > 0 || self.leaves.total().is_some() {
            let of =
                if self.open_rows > 0 { format!(", but leaf {next} is incomplete") } else { String::new() };
            let problem =
                format!("the statistics to merge start at leaf {}; leaf {next} comes next{of}", other.first);
            return Err(CompensateError::Statistics { problem });
        }
        let rows = self.samples() + other.samples();
        self.settle()?;
        other.settle()?;
        self.merging(|builder| {
            builder.forest.parts.append(&mut other.forest.parts);
            builder.forest.settle()?;
            if let Some(mut part) = builder.forest.parts.pop() {
                builder.open = builder.forest.load(&mut part.classes)?;
            }
            builder.open_rows = rows;
            Ok(())
        })
    }

    /// The statistics of all samples. Frees the samples of each class once its statistics are there.
    ///
    /// # Errors
    /// When samples of the [`total`](Leaves::total) are missing, the budget has no room, a number overflows its precision, or
    /// Ledoit–Wolf lacks the samples of a class.
    pub fn finish(mut self, storage: Storage, precision: Precision) -> Result<ClassStatistics> {
        self.expect_whole()?;
        self.leaves.expect_all(self.first, self.samples())?;
        let mut statistics = ClassStatistics::new(self.dim);
        let mut open = std::mem::take(&mut self.open);
        if !self.forest.parts.is_empty() {
            self.open = open;
            self.settle()?;
            open = BTreeMap::new();
        }
        let budget = self.forest.budget().clone();
        loop {
            let Some((label, class)) =
                open.pop_first().map_or_else(|| self.forest.take_last(), |class| Ok(Some(class)))?
            else {
                return Ok(statistics);
            };
            let class = class.finish(self.shrinkage, storage, precision, &budget);
            statistics.insert(label, class.map_err(|error| error.of_class(label))?)?;
        }
    }
}
