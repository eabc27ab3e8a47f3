//! The memory that collecting statistics will take, known from the labels alone.

use std::collections::BTreeMap;

use residua_memory::Budget;

use super::builder::{OPEN_BYTES, finish_bytes, fold_bytes, more_rows, most_rows};
use super::gaussian::CLASS_BYTES;
use super::{StatisticsOptions, Storage};
use crate::Result;
use crate::source::{BLOCK, FeatureSource, block_bytes};

const WHAT: &str = "class statistics";
/// Bytes of a class in the plan.
const ENTRY: u64 = 64;

/// An error that states the smallest budget that suffices to collect the statistics of a source, and then to hold `saved`
/// bytes more for each class and `work` bytes. It says nothing about a source that does not tell its labels.
pub(super) fn require(
    source: &mut dyn FeatureSource,
    options: &StatisticsOptions,
    saved: u64,
    work: u64,
    budget: &Budget,
) -> Result<()> {
    let width = if source.is_double() { 8 } else { 4 };
    let mut plan = Plan { dim: source.dim(), width, classes: BTreeMap::new(), held: 0, peak: 0 };
    let mut room = budget.reserve(0, WHAT)?;
    let (mut samples, mut largest, mut fits) = (0, 0, true);
    let known = source.for_each_label(&mut |labels| {
        samples += labels.len() as u64;
        for &label in labels {
            largest = largest.max(label);
            fits = fits && (plan.classes.contains_key(&label) || room.grow(ENTRY, WHAT).is_ok());
            if fits {
                plan.add(label);
            }
        }
    })?;
    if !known || samples == 0 {
        return Ok(());
    }
    let (collecting, collected) = if fits {
        plan.finish(options, saved)
    } else {
        let most = plan.at_most(samples.min(u64::from(largest) + 1), samples, options, saved);
        (most, most)
    };
    drop((plan, room));
    let block = block_bytes(BLOCK, source.dim(), source.is_double());
    Ok(budget.require(collecting.saturating_add(block).max(collected.saturating_add(work)), WHAT)?)
}

/// Goes the steps of a [`StatisticsBuilder`](super::StatisticsBuilder) without features.
struct Plan {
    dim: usize,
    /// Bytes of a feature.
    width: u64,
    classes: BTreeMap<u32, Class>,
    held: u64,
    peak: u64,
}

/// A class in the builder: samples, samples that wait, and samples that have room.
#[derive(Default)]
struct Class {
    count: u64,
    rows: usize,
    room: usize,
}

impl Class {
    fn is_folded(&self) -> bool {
        self.count > self.rows as u64
    }
}

impl Plan {
    fn row_bytes(&self) -> u64 {
        self.width * self.dim as u64
    }

    fn scatter_bytes(&self) -> u64 {
        (self.dim as u64).saturating_mul(4 * (self.dim as u64 + 1))
    }

    /// One more sample of a class.
    fn add(&mut self, label: u32) {
        let (dim, row, scatter) = (self.dim, self.row_bytes(), self.scatter_bytes());
        let class = self.classes.entry(label).or_default();
        if class.count == 0 {
            self.held += OPEN_BYTES + 8 * dim as u64;
        }
        if class.rows == most_rows(dim, class.is_folded()) {
            let first = if class.is_folded() { 0 } else { scatter };
            self.peak = self.peak.max(self.held + first + fold_bytes(dim, class.rows));
            self.held = self.held + first - row * class.room as u64;
            (class.rows, class.room) = (0, 0);
        }
        if class.rows == class.room {
            let folded = class.count > class.rows as u64;
            let more = more_rows(class.rows, most_rows(dim, folded));
            class.room += more;
            self.held += row * more as u64;
        }
        class.rows += 1;
        class.count += 1;
        self.peak = self.peak.max(self.held);
    }

    /// The most bytes at one time, and those at the end.
    fn finish(&mut self, options: &StatisticsOptions, saved: u64) -> (u64, u64) {
        let classes = std::mem::take(&mut self.classes);
        let tables = saved * classes.len() as u64;
        for class in classes.into_values() {
            let (folded, rows) = (class.is_folded(), class.rows);
            let scratch = finish_bytes(self.dim, rows, folded, options.storage);
            let fold = if folded && rows > 0 { fold_bytes(self.dim, rows) } else { 0 };
            self.peak = self.peak.max(self.held + scratch + fold);
            let scatter = if folded { self.scatter_bytes() } else { 0 };
            self.held -= OPEN_BYTES + 8 * self.dim as u64 + self.row_bytes() * class.room as u64 + scatter;
            self.held += self.stored_bytes(class.count, folded, options);
            self.peak = self.peak.max(self.held + scratch);
        }
        (self.peak.max(self.held + tables), self.held + tables)
    }

    /// Bytes of a class of `count` samples that is finished.
    fn stored_bytes(&self, count: u64, folded: bool, options: &StatisticsOptions) -> u64 {
        let dim = self.dim as u64;
        let factor = if folded { u64::MAX } else { count };
        let number = options.precision.bytes();
        let covariance = match options.storage {
            _ if count == 1 => 0,
            Storage::LowRank(rank) => number * dim * (rank as u64).min(dim).min(factor) + 8 * dim,
            Storage::Smallest if factor <= dim.div_ceil(2) => number * dim * count,
            _ => number * (dim * (dim + 1) / 2),
        };
        CLASS_BYTES + 8 * dim + covariance
    }

    /// Enough for this many classes and samples, however they are distributed.
    fn at_most(&self, classes: u64, samples: u64, options: &StatisticsOptions, saved: u64) -> u64 {
        let (dim, each) = (self.dim as u64, samples.div_ceil(classes.max(1)));
        let waiting = |rows: u64| self.row_bytes().saturating_mul(rows + rows / 2 + 8);
        let open = waiting(each).min(waiting(dim).max(self.scatter_bytes() + waiting(dim.min(BLOCK as u64))));
        let stored = self.stored_bytes(each.max(2), each > dim, options) + saved;
        let scratch =
            finish_bytes(self.dim, self.dim, true, Storage::LowRank(1)) + fold_bytes(self.dim, self.dim);
        classes.saturating_mul((OPEN_BYTES + 8 * dim + open).max(stored)).saturating_add(scratch)
    }
}
