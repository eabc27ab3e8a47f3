//! Statistics of a source in one call.

use std::path::Path;

use residua_memory::Budget;

use super::{ClassStatistics, Leaves, Precision, Shrinkage, StatisticsBuilder, Storage, Written, plan};
use crate::setters::setters;
use crate::source::{FeatureSource, Fingerprint, Side};
use crate::tables::WRITTEN_CLASS;
use crate::{CompensateError, Result, Tag};

/// How statistics are collected and stored.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StatisticsOptions {
    /// The side of a source's features: [`Side::Before`] unless set. It is the only side of a source without pairs.
    pub side: Side,
    /// How covariances are stored.
    pub storage: Storage,
    /// How precise stored covariances are.
    pub precision: Precision,
    /// How far covariances are pulled towards a multiple of the identity; not at all unless set.
    pub shrinkage: Option<Shrinkage>,
    /// How samples are cut into leaves: the last bits of statistics of more than one leaf depend on it.
    pub leaves: Leaves,
    /// The user's name of the model that made the features, for the [`Tag`].
    pub model: Option<String>,
}

impl StatisticsOptions {
    setters! {
        /// With features of this side.
        with_side: side: Side,
        /// With covariances stored like this.
        with_storage: storage: Storage,
        /// With covariances of this precision.
        with_precision: precision: Precision,
        /// With covariances pulled towards a multiple of the identity.
        with_shrinkage: shrinkage: Some(Shrinkage),
        /// With samples cut into these leaves.
        with_leaves: leaves: Leaves,
        /// With the user's name of the model that made the features.
        with_model: model: Some(String),
    }
}

impl Default for StatisticsOptions {
    fn default() -> Self {
        let (storage, precision) = (Storage::default(), Precision::default());
        let (leaves, model) = (Leaves::default(), None);
        Self { side: Side::Before, storage, precision, shrinkage: None, leaves, model }
    }
}

impl ClassStatistics {
    /// Statistics of a source's features by its labels, in one pass. If the source tells its labels, a budget that is too
    /// small is refused before the features are read, with the smallest one that is enough.
    ///
    /// # Errors
    /// When the source fails, is empty, lacks labels or the wanted side, or holds a number that is not finite; when a
    /// number overflows its precision, Ledoit–Wolf lacks the samples of a class, or the budget has no room.
    ///
    /// ```
    /// use residua_compensate::{ClassStatistics, MemorySource, StatisticsOptions};
    /// use residua_memory::Budget;
    ///
    /// # fn main() -> residua_compensate::Result<()> {
    /// let budget = Budget::new(16 << 20);
    /// // Four samples of dimension 2, row by row, of classes 0 and 7.
    /// let mut source = MemorySource::labelled(2, &[0.0, 1.0, 2.0, 3.0, 8.0, 8.0, 8.0, 6.0], &[0, 0, 7, 7])?;
    /// let statistics = ClassStatistics::collect(&mut source, &StatisticsOptions::default(), &budget)?;
    /// assert_eq!(statistics.get(7).unwrap().mean().as_slice(), [8.0, 7.0]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn collect(
        source: &mut dyn FeatureSource,
        options: &StatisticsOptions,
        budget: &Budget,
    ) -> Result<Self> {
        Self::collect_to(source, options, 0, 0, budget)
    }

    /// As [`collect`](Self::collect) and [`save`](Self::save). A budget that is too small is refused before the features are
    /// read, with the smallest one that is enough for both, if the source tells its labels.
    ///
    /// # Errors
    /// As those two.
    pub fn collect_and_save(
        source: &mut dyn FeatureSource,
        options: &StatisticsOptions,
        path: impl AsRef<Path>,
        budget: &Budget,
    ) -> Result<Written> {
        Self::collect_to(source, options, WRITTEN_CLASS, 0, budget)?.save(path, budget)
    }

    /// As [`collect`](Self::collect), where each class will then take `saved` bytes more, and what follows `work` bytes.
    pub(crate) fn collect_to(
        source: &mut dyn FeatureSource,
        options: &StatisticsOptions,
        saved: u64,
        work: u64,
        budget: &Budget,
    ) -> Result<Self> {
        plan::require(source, options, saved, work, budget)?;
        let mut builder = StatisticsBuilder::part(source.dim(), options.leaves, 0, budget);
        builder.shrinkage = options.shrinkage;
        builder.add_source(source, options.side)?;
        let statistics = builder.finish(options.storage, options.precision)?;
        if statistics.is_empty() {
            return Err(CompensateError::Empty(source.name()));
        }
        let array = |pair: Fingerprint| match options.side {
            Side::Before => pair.before,
            Side::After => pair.after.unwrap_or(pair.before),
        };
        let tag =
            Tag::collected(source.fingerprints().into_iter().map(array)).with_model(options.model.clone());
        Ok(statistics.with_tag(tag))
    }
}
