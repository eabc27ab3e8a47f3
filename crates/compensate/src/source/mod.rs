//! Where features come from: the same inputs seen by the model before and after a task.
//!
//! A matrix of n features of dimension d is `[d, n]`, a column for each sample: the same bytes as the
//! row-major `[n, d]` of NumPy and safetensors.

mod array;
mod block;
mod file;
mod iter;
mod memory;
mod pairs;

use nalgebra::DMatrixView;
use residua_memory::Budget;

pub use block::{FeatureBlock, Side};
pub use file::{ArrayAt, FileSource, NpySource, SafetensorsSource, TensorNames};
pub use iter::IterSource;
pub use memory::MemorySource;
pub use pairs::ChainSource;

use crate::{CompensateError, Result};

/// Samples that a pass works on at a time. Fixed, so that neither the budget nor the way a source cuts
/// its batches changes a bit of a result.
pub(crate) const BLOCK: usize = 256;

/// Features read progressively.
pub trait FeatureSource {
    /// The feature dimension d.
    fn dim(&self) -> usize;

    /// Number of samples, if it is known before they are read.
    fn rows(&self) -> Option<u64>;

    /// Appends at most `most` samples to `block`; returns how many, 0 at the end.
    ///
    /// # Errors
    /// When the features cannot be read.
    fn read(&mut self, most: usize, block: &mut FeatureBlock) -> Result<usize>;

    /// Goes back to the first sample.
    ///
    /// # Errors
    /// When samples have been read and cannot be read again.
    fn rewind(&mut self) -> Result<()>;
}

/// Calls `f` with all samples of a source from the first on, in blocks of [`BLOCK`]; all numbers are finite.
pub(crate) fn for_each_block(
    source: &mut dyn FeatureSource,
    budget: &Budget,
    mut f: impl FnMut(&FeatureBlock) -> Result<()>,
) -> Result<()> {
    source.rewind()?;
    let dim = source.dim();
    // With what a source that is a file reads it through: bytes, and numbers of its own.
    let bytes = (BLOCK as u64).saturating_mul(4 + 32 * dim as u64);
    let _held = budget.reserve(bytes, "a block of features")?;
    let mut block = FeatureBlock::new(dim);
    let mut first = 0;
    loop {
        block.clear();
        while block.rows() < BLOCK {
            let before = block.rows();
            if source.read(BLOCK - before, &mut block)? == 0 {
                break;
            }
        }
        if block.rows() == 0 {
            return Ok(());
        }
        let what = if block.has_after() { "features before the task" } else { "features" };
        check_finite(what, block.before(), first)?;
        if block.has_after() {
            check_finite("features after the task", block.side(Side::After)?, first)?;
        }
        f(&block)?;
        first += block.rows() as u64;
    }
}

/// An error that names the first number of `features [d, n]` that is not finite; `first` is the number of
/// the first sample.
pub(crate) fn check_finite(what: &'static str, features: DMatrixView<'_, f32>, first: u64) -> Result<()> {
    // Without a branch for each number, which is what costs here.
    let finite = |numbers: &[f32]| numbers.iter().fold(true, |all, value| all & value.is_finite());
    if features.column_iter().all(|column| finite(column.as_slice())) {
        return Ok(());
    }
    let at = features.iter().position(|value| !value.is_finite());
    at.map_or(Ok(()), |at| {
        let (row, column) = (first + (at / features.nrows()) as u64, at % features.nrows());
        Err(CompensateError::NotFinite {
            what,
            row,
            column,
            value: features[(column, at / features.nrows())].into(),
        })
    })
}
