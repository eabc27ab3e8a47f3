//! Methods that learn how features move, and move class statistics along.

mod affine;
mod attention;
mod lift;
mod linear;
mod nearest;
mod network;
mod noise;
mod regress;
mod rff;
mod ridge;
mod store;
mod transport;
mod weak;

use nalgebra::{DMatrix, DMatrixView};
use residua_memory::Budget;

pub use affine::AffineMap;
pub use attention::Attention;
pub use linear::Linear;
pub use rff::Rff;
pub use weak::WeakNonlinear;

use crate::error::same_dimension;
use crate::source::FeatureSource;
use crate::statistics::{ClassGaussian, ClassStatistics, Covariance, StatisticsReader, workers};
use crate::{CompensateError, Result};

/// Whether to reproduce the published definition or to do what is measurably better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The definition of the reference implementation, for those who must reproduce its numbers.
    Compat,
    /// No stale blends, no draws where integrals are meant.
    #[default]
    Exact,
}

/// A method and its settings.
pub trait Method: Send + Sync {
    /// The method's name, as in tables and on command lines.
    fn name(&self) -> &'static str;

    /// Learns from features of the same samples before and after a task, read in passes over `source`.
    ///
    /// # Errors
    /// When the source fails, is empty or lacks the features after the task, a setting is out of its
    /// range, or the budget has no room.
    fn fit(&self, source: &mut dyn FeatureSource, budget: &Budget) -> Result<Box<dyn Compensator>>;
}

/// What a [`Method`] learned.
pub trait Compensator: Send + Sync {
    /// The feature dimension d.
    fn dim(&self) -> usize;

    /// Statistics as they would be, had they been collected after the task.
    ///
    /// # Errors
    /// When the dimension is another, or the budget has no room.
    fn apply(&self, statistics: &ClassStatistics, budget: &Budget) -> Result<ClassStatistics>;

    /// As [`apply`](Self::apply), for classes in a file: hands each class as it was and as it is moved to `done`,
    /// labels rising, such as to write it with a [`StatisticsWriter`](crate::statistics::StatisticsWriter). Only
    /// as many classes are held as are worked on at a time.
    ///
    /// # Errors
    /// As [`apply`](Self::apply); also when the file cannot be read, or the first error of `done`.
    fn apply_file(
        &self,
        statistics: &StatisticsReader,
        budget: &Budget,
        done: &mut dyn FnMut(u32, &ClassGaussian, &ClassGaussian) -> Result<()>,
    ) -> Result<()> {
        same_dimension("the statistics", statistics.dim(), self.dim())?;
        let labels: Vec<u32> = statistics.counts().map(|(label, _)| label).collect();
        let class = 2 * Covariance::dense_bytes(self.dim());
        for group in labels.chunks(workers(class, budget)) {
            let stale = statistics.read(group.iter().copied(), budget)?;
            let moved = self.apply(&stale, budget)?;
            for ((label, old), (_, new)) in stale.iter().zip(moved.iter()) {
                done(label, old, new)?;
            }
        }
        Ok(())
    }

    /// Features `[d, n]` as they would be after the task.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    fn apply_features(&self, features: DMatrixView<'_, f32>, budget: &Budget) -> Result<DMatrix<f32>>;
}

/// An error unless something was read.
pub(crate) fn not_empty(rows: u64) -> Result<()> {
    if rows == 0 { Err(CompensateError::Empty("the feature source")) } else { Ok(()) }
}
