//! The memory that collecting statistics will take, known from the labels alone.

use std::collections::BTreeMap;

use residua_memory::Budget;

use super::class::{OPEN_BYTES, finish_bytes, fold_bytes, more_rows, most_rows, scatter_bytes};
use super::forest::PLACE_BYTES;
use super::gaussian::CLASS_BYTES;
use super::{Leaves, StatisticsOptions, Storage};
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
    let mut plan = Plan::new(source.dim(), width, options.leaves);
    let mut room = budget.reserve(0, WHAT)?;
    let (mut samples, mut largest, mut fits) = (0, 0, true);
    let known = source.for_each_label(&mut |labels| {
        samples += labels.len() as u64;
        for &label in labels {
            largest = largest.max(label);
            fits = fits && (plan.open.contains_key(&label) || room.grow(ENTRY, WHAT).is_ok());
            if !fits {
                continue;
            }
            plan.add(label);
            if plan.open.is_empty() {
                room.shrink(room.bytes().saturating_sub(ENTRY * plan.entries()));
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

/// Goes the steps of a [`StatisticsBuilder`](super::StatisticsBuilder) without features, with all subtrees that wait in files.
struct Plan {
    dim: usize,
    /// Bytes of a feature.
    width: u64,
    leaves: Leaves,
    /// The leaf that samples are added to, and how many it has.
    open: BTreeMap<u32, Class>,
    open_rows: u64,
    /// Subtrees: how many leaves, and classes. They start at leaf 0, so sizes that fall are all that tells their places.
    parts: Vec<(u64, BTreeMap<u32, Class>)>,
    held: u64,
    peak: u64,
}

/// A class in the builder: samples, samples that wait, and samples that have room.
#[derive(Clone, Copy, Default)]
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
    fn new(dim: usize, width: u64, leaves: Leaves) -> Self {
        let (open, parts) = Default::default();
        Self { dim, width, leaves, open, open_rows: 0, parts, held: 0, peak: 0 }
    }

    /// Classes in the plan.
    fn entries(&self) -> u64 {
        (self.open.len() + self.parts.iter().map(|(_, classes)| classes.len()).sum::<usize>()) as u64
    }

    fn row_bytes(&self) -> u64 {
        self.width * self.dim as u64
    }

    /// Bytes of a class in the builder.
    fn class_bytes(&self, class: &Class) -> u64 {
        let scatter = if class.is_folded() { scatter_bytes(self.dim) } else { 0 };
        OPEN_BYTES + 8 * self.dim as u64 + self.row_bytes() * class.room as u64 + scatter
    }

    /// One more sample of a class.
    fn add(&mut self, label: u32) {
        let mut class = self.open.get(&label).copied().unwrap_or_default();
        if class.count == 0 {
            self.held += self.class_bytes(&class);
        }
        if class.rows == most_rows(self.dim, class.is_folded()) {
            self.fold(&mut class);
        }
        if class.rows == class.room {
            let more = more_rows(class.rows, most_rows(self.dim, class.is_folded()));
            self.make_room(&mut class, more);
        }
        class.rows += 1;
        class.count += 1;
        self.peak = self.peak.max(self.held);
        self.open.insert(label, class);
        self.open_rows += 1;
        if self.open_rows == self.leaves.rows() {
            self.close();
            while let [.., (left, _), (right, _)] = *self.parts
                && left == right
            {
                self.merge_last();
            }
        }
    }

    fn make_room(&mut self, class: &mut Class, more: usize) {
        class.room += more;
        self.held += self.row_bytes() * more as u64;
        self.peak = self.peak.max(self.held);
    }

    /// The waiting samples of a class go into its scatter.
    fn fold(&mut self, class: &mut Class) {
        let first = if class.is_folded() { 0 } else { scatter_bytes(self.dim) };
        self.peak = self.peak.max(self.held + first + fold_bytes(self.dim, class.rows));
        self.held += first;
        self.held -= self.row_bytes() * class.room as u64;
        (class.rows, class.room) = (0, 0);
    }

    /// Ends the open leaf. Older subtrees may be in files by then.
    fn close(&mut self) {
        let mut classes = std::mem::take(&mut self.open);
        for class in classes.values_mut() {
            self.held -= self.row_bytes() * (class.room - class.rows) as u64;
            class.room = class.rows;
        }
        self.open_rows = 0;
        self.wait(classes.values());
        self.parts.push((1, classes));
    }

    /// Classes go to a file.
    fn wait<'a>(&mut self, classes: impl Iterator<Item = &'a Class>) {
        for class in classes {
            self.held += PLACE_BYTES;
            self.held -= self.class_bytes(class);
        }
    }

    /// A class comes back.
    fn load(&mut self, class: &Class) {
        self.held -= PLACE_BYTES;
        self.held += self.class_bytes(class);
        self.peak = self.peak.max(self.held);
    }

    /// The last two subtrees become one.
    fn merge_last(&mut self) {
        let (Some((leaves, mut merged)), Some((more, left))) = (self.parts.pop(), self.parts.pop()) else {
            return;
        };
        merged.values().for_each(|class| self.load(class));
        for (label, mut class) in left {
            self.load(&class);
            if let Some(other) = merged.get(&label).copied() {
                self.merge(&mut class, &other);
            }
            merged.insert(label, class);
        }
        self.wait(merged.values());
        self.parts.push((leaves + more, merged));
    }

    fn merge(&mut self, class: &mut Class, other: &Class) {
        let folded = other.count - other.rows as u64;
        if folded > 0 {
            self.fold(class);
            class.count += folded;
        }
        let mut rest = other.rows;
        while rest > 0 {
            if class.rows == most_rows(self.dim, class.is_folded()) {
                self.fold(class);
            }
            let count = rest.min(most_rows(self.dim, class.is_folded()) - class.rows);
            self.make_room(class, count);
            class.rows += count;
            class.count += count as u64;
            rest -= count;
        }
        self.held -= self.class_bytes(other);
    }

    /// The most bytes at one time, and those at the end.
    fn finish(&mut self, options: &StatisticsOptions, saved: u64) -> (u64, u64) {
        if !self.parts.is_empty() {
            if self.open_rows > 0 {
                self.close();
            }
            while self.parts.len() > 1 {
                self.merge_last();
            }
            self.open = self.parts.pop().map(|(_, classes)| classes).unwrap_or_default();
            let classes: Vec<Class> = self.open.values().copied().collect();
            classes.iter().for_each(|class| self.load(class));
        }
        let classes = std::mem::take(&mut self.open);
        let tables = saved * classes.len() as u64;
        for class in classes.into_values() {
            let (folded, rows) = (class.is_folded(), class.rows);
            let scratch = finish_bytes(self.dim, rows, folded, options.storage);
            let fold = if folded && rows > 0 { fold_bytes(self.dim, rows) } else { 0 };
            self.peak = self.peak.max(self.held + scratch + fold);
            self.held -= self.class_bytes(&class);
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
        let full = waiting(dim).max(scatter_bytes(self.dim) + waiting(dim.min(BLOCK as u64)));
        let mut open = waiting(each).min(full);
        let stored = self.stored_bytes(each.max(2), each > dim, options) + saved;
        let mut scratch =
            finish_bytes(self.dim, self.dim, true, Storage::LowRank(1)) + fold_bytes(self.dim, self.dim);
        if samples > self.leaves.rows() {
            // Places of a class in subtrees that wait, as many as the number of leaves has bits; a class that comes back.
            open += PLACE_BYTES * u64::from(1 + (samples / self.leaves.rows()).ilog2());
            scratch += OPEN_BYTES + 8 * dim + full;
        }
        classes.saturating_mul((OPEN_BYTES + 8 * dim + open).max(stored)).saturating_add(scratch)
    }
}
