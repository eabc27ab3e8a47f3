//! Where features come from: the same inputs as the model sees them before and after a task.
//!
//! n features of dimension d are a slice of n·d numbers, row-major `[n, d]`: the same bytes as in NumPy and
//! safetensors, and as a column-major nalgebra matrix `[d, n]`.

mod array;
mod block;
mod chain;
mod file;
mod iter;
mod memory;

use std::path::PathBuf;

use nalgebra::DMatrixView;
use residua_memory::Budget;

pub use block::{FeatureBlock, Side};
pub use chain::ChainSource;
pub use file::{ArrayAt, FileSource, NpySource, SafetensorsSource, TensorNames};
pub use iter::IterSource;
pub use memory::MemorySource;

use crate::{CompensateError, Result};

/// Samples that a fit works on at a time. The number is fixed, so that neither the budget nor the way a source cuts
/// its batches changes a bit of a result.
pub(crate) const BLOCK: usize = 256;

/// Features that are read progressively.
pub trait FeatureSource {
    /// The feature dimension d.
    fn dim(&self) -> usize;

    /// Number of samples, if the source knows it before it reads them.
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

    /// What errors call the source, such as the file that it reads.
    fn name(&self) -> String {
        "the feature source".into()
    }

    /// The files that it reads. Functions that write a file refuse to replace one of them.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// A borrowed source is a source.
impl<S: FeatureSource + ?Sized> FeatureSource for &mut S {
    fn dim(&self) -> usize {
        (**self).dim()
    }

    fn rows(&self) -> Option<u64> {
        (**self).rows()
    }

    fn read(&mut self, most: usize, block: &mut FeatureBlock) -> Result<usize> {
        (**self).read(most, block)
    }

    fn rewind(&mut self) -> Result<()> {
        (**self).rewind()
    }

    fn name(&self) -> String {
        (**self).name()
    }

    fn files(&self) -> Vec<PathBuf> {
        (**self).files()
    }
}

/// Calls `f` with all samples of a source from the first on, in blocks of `rows` samples; only the last block may be
/// smaller. All numbers in a block are finite.
///
/// # Errors
/// When the source cannot be rewound or read, a number is not finite, the budget has no room for a block, or the
/// first error of `f`.
pub fn for_each_block(
    source: &mut dyn FeatureSource,
    rows: usize,
    budget: &Budget,
    mut f: impl FnMut(&FeatureBlock) -> Result<()>,
) -> Result<()> {
    source.rewind()?;
    let dim = source.dim();
    // The block, and the bytes and numbers that a file is read through.
    let bytes = (rows as u64).saturating_mul(4 + 32 * dim as u64);
    let _held = budget.reserve(bytes, "a block of features")?;
    let mut block = FeatureBlock::new(dim);
    let mut first = 0;
    loop {
        block.clear();
        while block.rows() < rows {
            let before = block.rows();
            if source.read(rows - before, &mut block)? == 0 {
                break;
            }
        }
        if block.rows() == 0 {
            return Ok(());
        }
        let what = if block.has_after() { "features before the task" } else { "features" };
        check_finite(what, block.before(), dim, first)?;
        if block.has_after() {
            check_finite("features after the task", block.after()?, dim, first)?;
        }
        f(&block)?;
        first += block.rows() as u64;
    }
}

/// An error that names the first number of `features [n, dim]` that is not finite; `first` is the number of the first
/// sample.
pub(crate) fn check_finite(what: &str, features: &[f32], dim: usize, first: u64) -> Result<()> {
    // A sum without a branch for each number: branches are what costs here.
    if features.iter().fold(true, |all, value| all & value.is_finite()) {
        return Ok(());
    }
    let at = features.iter().position(|value| !value.is_finite()).unwrap_or(0);
    let (row, column) = (first + (at / dim.max(1)) as u64, at % dim.max(1));
    Err(CompensateError::NotFinite { what: what.into(), row, column, value: features[at].into() })
}

/// `features [n, dim]` as columns `[dim, n]`; an error unless they are whole samples.
pub(crate) fn columns(features: &[f32], dim: usize) -> Result<DMatrixView<'_, f32>> {
    Ok(DMatrixView::from_slice(features, dim, samples(features, dim)?))
}

/// Number of samples in `features [n, dim]`; an error unless they are whole samples.
pub(crate) fn samples(features: &[f32], dim: usize) -> Result<usize> {
    let rows = features.len() / dim.max(1);
    if rows * dim == features.len() {
        return Ok(rows);
    }
    let what = format!("the last of {rows} samples and a part");
    Err(CompensateError::Dimension { what, found: features.len() - rows * dim, expected: dim })
}
