//! Where features come from: the same inputs as the model sees them before and after a task.
//!
//! n features of dimension d are a slice of n·d numbers, row-major `[n, d]`: the same bytes as in NumPy and
//! safetensors, and as a column-major nalgebra matrix `[d, n]`.

mod array;
mod block;
mod chain;
mod file;
mod fingerprint;
mod floats;
mod iter;
mod memory;
mod pairs;

use std::path::PathBuf;

use nalgebra::DMatrixView;
use residua_memory::Budget;

pub use block::{FeatureBlock, Side};
pub use chain::ChainSource;
pub use file::{ArrayAt, FileSource, NpySource, SafetensorsSource, TensorNames};
pub use fingerprint::{Fingerprint, Fingerprinter};
pub use floats::Floats;
pub(crate) use floats::extend_f64;
pub use iter::IterSource;
pub use memory::MemorySource;
pub(crate) use pairs::{for_each_pair, pair_bytes};

use crate::{CompensateError, Result};

/// Samples that a fit works on at a time. The number is fixed, so that neither the budget nor the way a source cuts
/// its batches changes a bit of a result.
pub(crate) const BLOCK: usize = 256;

/// What errors call the features of pairs.
const BEFORE: &str = "features before the task";
const AFTER: &str = "features after the task";

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

    /// Whether blocks have features in double precision.
    fn is_double(&self) -> bool {
        false
    }

    /// Calls `f` with all labels in order, without reading features. `false` if the source cannot do that.
    ///
    /// # Errors
    /// When the labels cannot be read.
    fn for_each_label(&mut self, f: &mut dyn FnMut(&[u32])) -> Result<bool> {
        let _ = f;
        Ok(false)
    }

    /// What errors call the source, such as the file that it reads.
    fn name(&self) -> String {
        "the feature source".into()
    }

    /// The files that it reads. Functions that write a file refuse to replace one of them.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Fingerprints of the arrays that it has read to their end, array by array. None if the source takes none.
    fn fingerprints(&self) -> Vec<Fingerprint> {
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

    fn is_double(&self) -> bool {
        (**self).is_double()
    }

    fn for_each_label(&mut self, f: &mut dyn FnMut(&[u32])) -> Result<bool> {
        (**self).for_each_label(f)
    }

    fn name(&self) -> String {
        (**self).name()
    }

    fn files(&self) -> Vec<PathBuf> {
        (**self).files()
    }

    fn fingerprints(&self) -> Vec<Fingerprint> {
        (**self).fingerprints()
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
    let _held = budget.reserve(block_bytes(rows, dim, source.is_double()), "a block of features")?;
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
        let sides: &[_] = match block.has_after() {
            true => &[(Side::Before, BEFORE), (Side::After, AFTER)],
            false => &[(Side::Before, "features")],
        };
        for &(side, what) in sides {
            block.floats(side)?.check_finite(what, dim, first)?;
        }
        f(&block)?;
        first += block.rows() as u64;
    }
}

/// Bytes of a block of both sides, and of the numbers that a file is read through.
pub(crate) fn block_bytes(rows: usize, dim: usize, is_double: bool) -> u64 {
    let number = if is_double { 48 } else { 32 };
    (rows as u64).saturating_mul((dim as u64).saturating_mul(number).saturating_add(4))
}

/// `features [n, dim]` as columns `[dim, n]`; an error unless they are whole samples.
pub(crate) fn columns<T: nalgebra::Scalar>(features: &[T], dim: usize) -> Result<DMatrixView<'_, T>> {
    Ok(DMatrixView::from_slice(features, dim, samples(features.len(), dim)?))
}

/// Number of samples of dimension `dim` in `numbers` numbers; an error unless they are whole samples.
pub(crate) fn samples(numbers: usize, dim: usize) -> Result<usize> {
    let rows = numbers / dim.max(1);
    if rows * dim == numbers {
        return Ok(rows);
    }
    let what = format!("the last of {rows} samples and a part");
    Err(CompensateError::Dimension { what, found: numbers - rows * dim, expected: dim })
}
