//! Class statistics: a count, a mean and a covariance for each class.

mod builder;
mod class;
mod covariance;
mod file;
mod forest;
mod gaussian;
mod leaves;
mod merge;
mod merge_files;
mod options;
mod partial;
mod plan;
mod sample;
mod shrink;
mod spectrum;
mod spread;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;
use residua_memory::Budget;

pub use builder::StatisticsBuilder;
pub use covariance::{Covariance, Storage};
pub(crate) use covariance::{Diagonal, Form};
pub use file::{Extent, StatisticsReader, StatisticsWriter, Written, require_load};
pub(crate) use file::{
    KEY, MAPS, Stored, WRITING, read_class, read_errors, require_rewrite, write_class, write_errors,
};
pub(crate) use gaussian::most_class_bytes;
pub use gaussian::{ClassGaussian, SINGLE_SAMPLE_VARIANCE};
pub use leaves::Leaves;
pub use merge_files::{merge_files, merge_partials};
pub use options::StatisticsOptions;
pub(crate) use partial::KEY as PARTIAL_KEY;
pub use shrink::Shrinkage;
pub use values::Precision;

use crate::error::same_dimension;
use crate::{CompensateError, Result, Tag, algebra};

/// The Gaussians of a set of classes, all of one feature dimension d, by label.
///
/// Cloning shares the classes: variants of a model that have a class in common hold it once.
#[derive(Debug, Clone)]
pub struct ClassStatistics {
    dim: usize,
    classes: BTreeMap<u32, Arc<ClassGaussian>>,
    tag: Tag,
}

impl ClassStatistics {
    /// No classes yet, of features of dimension `dim`.
    pub fn new(dim: usize) -> Self {
        Self { dim, classes: BTreeMap::new(), tag: Tag::default() }
    }

    /// The feature dimension d.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// What is known about the feature space. [`collect`](Self::collect), [`merge`](Self::merge), files and compensators
    /// keep it.
    pub fn tag(&self) -> &Tag {
        &self.tag
    }

    /// The same classes with another tag.
    #[must_use]
    pub fn with_tag(self, tag: Tag) -> Self {
        Self { tag, ..self }
    }

    /// Number of classes.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there is no class.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// Labels and classes, labels rising.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Arc<ClassGaussian>)> {
        self.classes.iter().map(|(&label, class)| (label, class))
    }

    /// One class.
    pub fn get(&self, label: u32) -> Option<&Arc<ClassGaussian>> {
        self.classes.get(&label)
    }

    /// Adds a class or replaces one; returns the one replaced.
    ///
    /// # Errors
    /// When its dimension differs.
    pub fn insert(
        &mut self,
        label: u32,
        class: impl Into<Arc<ClassGaussian>>,
    ) -> Result<Option<Arc<ClassGaussian>>> {
        let class = class.into();
        same_dimension("a class", class.dim(), self.dim)?;
        Ok(self.classes.insert(label, class))
    }

    /// The same classes with these errors of means, labels rising. Classes that are shared with other statistics keep theirs.
    pub(crate) fn with_errors(mut self, errors: impl IntoIterator<Item = f64>) -> Self {
        for (class, error) in self.classes.values_mut().zip(errors) {
            if let Some(class) = Arc::get_mut(class) {
                class.set_error(error);
            }
        }
        self
    }

    /// The classes with these labels, shared with `self`.
    pub fn select(&self, keep: impl Fn(u32) -> bool) -> Self {
        let kept = self.classes.iter().filter(|(label, _)| keep(**label));
        let classes = kept.map(|(&label, class)| (label, Arc::clone(class))).collect();
        Self { dim: self.dim, classes, tag: self.tag.clone() }
    }

    /// Bytes of all classes; classes shared with other statistics count in full.
    pub fn bytes(&self) -> u64 {
        self.classes.values().map(|class| class.bytes()).sum()
    }

    /// Samples of all classes.
    pub fn samples(&self) -> u64 {
        self.classes.values().map(|class| class.count()).sum()
    }

    /// The same statistics stored another way.
    ///
    /// # Errors
    /// When they do not fit the budget.
    pub fn store(&self, storage: Storage, precision: Precision, budget: &Budget) -> Result<Self> {
        let dense = if matches!(storage, Storage::LowRank(_)) { 1 + algebra::EIGEN } else { 2 };
        self.map(dense * Covariance::dense_bytes(self.dim), budget, |_, class| {
            class.store(storage, precision, budget)
        })
    }

    /// New statistics of `f(label, class)`. Works on several classes at a time: as many as there are threads and as
    /// `scratch` bytes for each fit the budget.
    ///
    /// # Errors
    /// The error of `f` for the lowest label; also when the budget has no room for one `scratch`.
    pub fn map(
        &self,
        scratch: u64,
        budget: &Budget,
        f: impl Fn(u32, &ClassGaussian) -> Result<ClassGaussian> + Sync,
    ) -> Result<Self> {
        let classes: Vec<_> = self.iter().collect();
        let (mut new, mut rest) = (Self::new(self.dim).with_tag(self.tag.clone()), &classes[..]);
        while !rest.is_empty() {
            // Asked again for each group: classes that are done stay in memory.
            let (group, more) = rest.split_at(workers(scratch, budget).min(rest.len()));
            rest = more;
            let held = budget.reserve(scratch * group.len() as u64, "working on class statistics")?;
            let done: Vec<_> = group.par_iter().map(|(label, class)| f(*label, class)).collect();
            drop(held);
            for ((label, _), class) in group.iter().zip(done) {
                new.insert(*label, class.map_err(|error| error.of_class(*label))?)?;
            }
        }
        Ok(new)
    }

    /// An error unless there is a class and features of dimension `dim` fit.
    pub(crate) fn expect(&self, dim: usize, what: &str) -> Result<()> {
        if self.is_empty() {
            return Err(CompensateError::Empty("the set of class statistics".into()));
        }
        same_dimension(what, dim, self.dim)
    }
}

/// How many jobs with `scratch` bytes each run at a time: at most one per thread, in half of the budget that is left.
pub(crate) fn workers(scratch: u64, budget: &Budget) -> usize {
    let fit = budget.available() / 2 / scratch.max(1);
    rayon::current_num_threads().min(usize::try_from(fit).unwrap_or(usize::MAX)).max(1)
}
