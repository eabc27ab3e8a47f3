//! Methods that learn how features move, and move class statistics.

mod affine;
mod attention;
mod choose;
mod estimated;
mod lift;
mod linear;
mod nearest;
mod network;
mod noise;
mod regress;
mod rff;
mod ridge;
mod saved;
mod store;
mod transport;
mod uncertainty;
mod warnings;
mod watch;
mod weak;

use std::path::Path;

use residua_format::file::check_output;
use residua_memory::{Budget, ErrorKind};
use serde::{Deserialize, Serialize};

pub use affine::AffineMap;
pub use attention::Attention;
pub(crate) use lift::draw;
pub use linear::Linear;
pub use rff::Rff;
pub(crate) use saved::KEY;
pub use saved::load;
pub(crate) use transport::factor;
pub use uncertainty::Uncertainty;
pub(crate) use warnings::LabelChecks;
pub use warnings::{Checks, Warning, WarningKind};
pub use weak::WeakNonlinear;

use crate::error::same_dimension;
use crate::source::FeatureSource;
use crate::statistics::{
    ClassGaussian, ClassStatistics, Covariance, StatisticsReader, StatisticsWriter, Written, require_rewrite,
    workers,
};
use crate::tables::WRITTEN_CLASS;
use crate::{CompensateError, Result, Tag};

use estimated::Estimated;

/// What memory is taken for, in errors.
const MOVING_ERROR: &str = "estimating the errors of moved statistics";

/// Which definition of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The definition of the reference implementation, to reproduce its numbers.
    Compat,
    /// The better one: nothing stale is blended in, and integrals are integrals instead of draws.
    #[default]
    Exact,
}

/// A method and its settings.
pub trait Method: Send + Sync {
    /// The method's name, as in tables and on command lines.
    fn name(&self) -> &'static str;

    /// Learns the map from features of the same samples before and after a task, read in passes over `source`. What it
    /// moves has no estimated errors: [`fit`](Self::fit) adds them.
    ///
    /// # Errors
    /// When the source fails, is empty or lacks features after the task, a setting is outside its range, or the budget
    /// has no room.
    fn learn(&self, source: &mut dyn FeatureSource, budget: &Budget) -> Result<Box<dyn Compensator>>;

    /// Learns from features of the same samples before and after a task, read in passes over `source`. If the source has
    /// labels, they serve to estimate the errors of classes that the pairs lack.
    ///
    /// # Errors
    /// As [`learn`](Self::learn).
    fn fit(&self, source: &mut dyn FeatureSource, budget: &Budget) -> Result<Box<dyn Compensator>> {
        Ok(Box::new(Estimated::new(self, source, budget)?))
    }

    /// Bytes of a budget that are enough to learn from `source`, and then to move one class at a time whose covariance is a
    /// factor of `rank` columns (`None`: any other covariance). 0 if the method does not tell.
    fn bytes(&self, source: &dyn FeatureSource, rank: Option<usize>) -> u64 {
        let _ = (source, rank);
        0
    }
}

impl dyn Method + '_ {
    /// Opens a file of class statistics that this method will move to another file, after it was fitted on `source`. A
    /// budget that is too small for all of that is refused at once, with one that is enough.
    ///
    /// # Errors
    /// As [`StatisticsReader::open`].
    pub fn open_statistics(
        &self,
        path: impl AsRef<Path>,
        source: &dyn FeatureSource,
        budget: &Budget,
    ) -> Result<StatisticsReader> {
        let path = path.as_ref();
        let stale = match StatisticsReader::open(path, budget) {
            Err(error) if error.kind() == ErrorKind::Budget => {
                require_rewrite(&[path], self.fit_bytes(source, None), budget)?;
                return Err(error);
            }
            other => other?,
        };
        let work = self.bytes_for(source, &stale)?;
        let written = WRITTEN_CLASS.saturating_mul(stale.len() as u64);
        budget.require(work.saturating_add(written), "moving class statistics")?;
        Ok(stale)
    }

    /// The largest of [`bytes`](Method::bytes) for the classes of a file; 0 if there are none.
    pub(crate) fn bytes_for(&self, source: &dyn FeatureSource, statistics: &StatisticsReader) -> Result<u64> {
        let ranks = statistics.ranks()?;
        Ok(ranks.into_iter().map(|rank| self.fit_bytes(source, rank)).max().unwrap_or(0))
    }

    /// [`bytes`](Method::bytes), and what [`fit`](Method::fit) takes beside.
    fn fit_bytes(&self, source: &dyn FeatureSource, rank: Option<usize>) -> u64 {
        self.bytes(source, rank).saturating_add(watch::bytes(source.dim()))
    }
}

/// What a fitted compensator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Fitted {
    /// An [`AffineMap`], of [`Linear`].
    Affine,
    /// Samples, of [`Attention`].
    Attention,
    /// A regression on random features, of [`Rff`] and [`WeakNonlinear`].
    Ridge,
    /// A trained network, of [`WeakNonlinear`] in [`Mode::Compat`].
    Network,
}

impl Fitted {
    /// A name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Affine => "affine",
            Self::Attention => "attention",
            Self::Ridge => "ridge",
            Self::Network => "network",
        }
    }
}

/// What a [`Method`] learned.
pub trait Compensator: Send + Sync {
    /// The feature dimension d.
    fn dim(&self) -> usize;

    /// Writes it to a file, which appears complete or not at all; [`load`] reads it. Returns the bytes of the file. What it
    /// knows about errors ([`uncertainty`](Self::uncertainty)) is not in the file.
    ///
    /// # Errors
    /// When the file cannot be written, or this compensator is none of this crate's.
    fn save(&self, path: &Path) -> Result<u64> {
        let problem = format!("{}: this compensator has no file format", path.display());
        Err(CompensateError::Statistics { problem })
    }

    /// An estimate of the statistics that the same samples have after the task.
    ///
    /// # Errors
    /// When the dimension differs or the budget has no room.
    fn apply(&self, statistics: &ClassStatistics, budget: &Budget) -> Result<ClassStatistics>;

    /// As [`apply`](Self::apply), for classes in a file: hands each label, the class as it was and the class as it is
    /// moved to `done`, labels rising. Holds no more classes than it works on at a time.
    ///
    /// # Errors
    /// As [`apply`](Self::apply); also when the file cannot be read, or the first error of `done`.
    fn apply_each(
        &self,
        statistics: &StatisticsReader,
        budget: &Budget,
        done: &mut dyn FnMut(u32, &ClassGaussian, &ClassGaussian) -> Result<()>,
    ) -> Result<()> {
        same_dimension("the statistics", statistics.dim(), self.dim())?;
        let labels: Vec<u32> = statistics.counts().map(|(label, _)| label).collect();
        let class = 2 * Covariance::dense_bytes(self.dim());
        labels
            .chunks(workers(class, budget))
            .try_for_each(|group| apply_group(self, statistics, group, budget, done))
    }

    /// The tag of statistics with this tag after they are moved.
    ///
    /// # Errors
    /// When the statistics cannot be of the model before this task.
    fn moved_tag(&self, tag: &Tag) -> Result<Tag> {
        Ok(tag.samples_alone())
    }

    /// How far moved means may be off; `None` for a map that was not fitted on pairs.
    fn uncertainty(&self) -> Option<&Uncertainty> {
        None
    }

    /// From now on leaves statistics as they are if the map is no help on pairs that are left out
    /// ([`Uncertainty::is_no_help`]), and estimates their errors by the drift. A map without an uncertainty ignores it.
    fn keep_if_worse(&mut self) {}

    /// An estimate of features after the task, from features before it; both row-major `[n, d]`.
    ///
    /// # Errors
    /// When the length is no multiple of d, or the budget has no room.
    fn apply_features(&self, features: &[f32], budget: &Budget) -> Result<Vec<f32>>;
}

/// Moves the classes with these labels at once, or one at a time where the budget has no room for that.
fn apply_group<C: Compensator + ?Sized>(
    compensator: &C,
    statistics: &StatisticsReader,
    labels: &[u32],
    budget: &Budget,
    done: &mut dyn FnMut(u32, &ClassGaussian, &ClassGaussian) -> Result<()>,
) -> Result<()> {
    let stale = statistics.read(labels.iter().copied(), budget)?;
    let moved = match compensator.apply(&stale, budget) {
        Err(CompensateError::Budget(_)) if labels.len() > 1 => {
            drop(stale);
            let mut singles = labels.chunks(1);
            return singles.try_for_each(|label| apply_group(compensator, statistics, label, budget, done));
        }
        moved => moved?,
    };
    stale.iter().zip(moved.iter()).try_for_each(|((label, old), (_, new))| done(label, old, new))
}

impl dyn Compensator {
    /// Moves the statistics in the file `input` to the file `output`, class by class. `each` sees every label, the
    /// class as it was and the class as it is moved; its error stops the job. The output appears complete or not at
    /// all.
    ///
    /// # Errors
    /// As [`apply_each`](Compensator::apply_each); also when the output is the input or cannot be written.
    pub fn apply_file(
        &self,
        input: impl AsRef<Path>,
        output: impl AsRef<Path>,
        budget: &Budget,
        mut each: impl FnMut(u32, &ClassGaussian, &ClassGaussian) -> Result<()>,
    ) -> Result<Written> {
        let (input, output) = (input.as_ref(), output.as_ref());
        check_output(output, [input])?;
        let stale = StatisticsReader::open(input, budget)?;
        let file = StatisticsWriter::create(output, stale.dim(), stale.len(), budget)?;
        let mut file = file.with_tag(self.moved_tag(stale.tag())?);
        self.apply_each(&stale, budget, &mut |label, old, new| {
            file.add(label, new)?;
            each(label, old, new)
        })?;
        // Some systems do not replace a file that is open.
        drop(stale);
        file.finish()
    }
}

/// An error unless samples were read from the source.
pub(crate) fn not_empty(rows: u64, source: &dyn FeatureSource) -> Result<()> {
    if rows == 0 { Err(CompensateError::Empty(source.name())) } else { Ok(()) }
}
