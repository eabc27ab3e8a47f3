//! What a container holds, matrix by matrix.

use std::collections::BTreeMap;

use residua::format::ValueType;
use residua::format::file::{Container, FileError, MatrixMeta};
use residua::format::gap::GapPattern;
use residua::memory::Budget;
use serde::Serialize;

use crate::histogram::Histogram;
use crate::output::{ratio, shape_text};
use crate::sizes::Sizes;

/// Index bytes per block.
const BLOCK: u64 = 1 << 20;
/// Buckets of a matrix's histogram.
const BUCKETS: u32 = 16;

/// A sparse matrix of a container, with its base.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct MatrixSummary {
    pub(crate) name: String,
    /// `[rows, cols]`.
    pub(crate) shape: [usize; 2],
    /// The shape of the tensor if it is not two-dimensional.
    pub(crate) tensor_shape: Option<Vec<usize>>,
    /// The dtype of the dense tensor.
    pub(crate) dtype: String,
    /// How entries apply: add, overwrite or xor.
    pub(crate) op: &'static str,
    /// Value type of the residual; none for raw bits.
    pub(crate) values: Option<ValueType>,
    /// The kind of the quantised base, if the file holds one.
    pub(crate) base: Option<&'static str>,
    pub(crate) nnz: u64,
    pub(crate) density: f64,
    /// Bytes of all sparse planes.
    pub(crate) residual_bytes: u64,
    /// Bytes of the base's planes.
    pub(crate) base_bytes: u64,
    pub(crate) bytes_per_nnz: f64,
    /// The size of the matrix in other formats, with 16-bit values.
    pub(crate) sizes: Sizes,
    /// Number of rows per mode of storing columns.
    pub(crate) row_modes: BTreeMap<&'static str, u64>,
    /// Lengths of rows.
    pub(crate) row_lengths: Histogram,
}

impl MatrixSummary {
    /// Memory of a summary, without its name.
    pub(crate) const MEMORY: u64 = size_of::<Self>() as u64 + 768;

    /// Reads the pattern of a matrix block by block and summarises it; also returns the length of every row.
    pub(crate) fn read(
        container: &Container,
        name: &str,
        meta: &MatrixMeta,
        budget: &Budget,
    ) -> Result<(Self, Vec<u32>), FileError> {
        let [rows, cols] = meta.shape;
        let held =
            budget.reserve(4 * rows as u64, "row lengths").map_err(FileError::budget(container.path()))?;
        let mut lengths = Vec::with_capacity(rows);
        let mut row_modes = BTreeMap::new();
        for_each_block(container, name, meta, budget, |pattern| {
            for row in 0..pattern.rows() {
                lengths.push(pattern.row(row).count() as u32);
                *row_modes.entry(mode_name(pattern, row)).or_insert(0) += 1;
            }
        })?;
        let (residual_bytes, base_bytes) = (container.gap_bytes(name)?, container.base_bytes(name)?);
        let element = (meta.dtype.bitsize() as u64).div_ceil(8);
        let new = Self {
            name: name.to_owned(),
            shape: meta.shape,
            tensor_shape: meta.tensor_shape.clone(),
            dtype: meta.dtype.to_string(),
            op: meta.op.name(),
            values: meta.values,
            base: meta.base.map(|kind| kind.name()),
            nnz: meta.nnz,
            density: meta.density(),
            residual_bytes,
            base_bytes,
            bytes_per_nnz: ratio(residual_bytes, meta.nnz),
            sizes: Sizes::new(rows as u64, cols as u64, meta.nnz, element),
            row_modes,
            row_lengths: Histogram::new(&lengths, BUCKETS),
        };
        drop(held);
        Ok((new, lengths))
    }

    /// Rows times columns.
    pub(crate) fn elements(&self) -> u64 {
        self.shape[0] as u64 * self.shape[1] as u64
    }

    /// The tensor's shape as text.
    pub(crate) fn shape_text(&self) -> String {
        shape_text(self.tensor_shape.as_deref().unwrap_or(&self.shape))
    }

    /// The value type.
    pub(crate) fn value_name(&self) -> &'static str {
        self.values.map_or("raw bits", ValueType::name)
    }
}

/// Calls `visit` for all rows of a matrix's pattern, in blocks. If rows have similar lengths, a block has about
/// [`BLOCK`] bytes. Blocks shrink if the budget is too small for them.
fn for_each_block(
    container: &Container,
    name: &str,
    meta: &MatrixMeta,
    budget: &Budget,
    mut visit: impl FnMut(&GapPattern),
) -> Result<(), FileError> {
    let rows = meta.shape[0];
    let row_bytes = meta.index_bytes / (rows as u64).max(1) + 4;
    let mut block = usize::try_from(BLOCK / row_bytes).unwrap_or(usize::MAX).max(1);
    let mut start = 0;
    while start < rows {
        let end = rows.min(start + block);
        match container.read_pattern_rows(name, start..end, budget) {
            Ok((pattern, _)) => {
                visit(&pattern);
                start = end;
            }
            // A block of long rows: halve it, down to one row.
            Err(FileError::Budget { .. }) if block > 1 => block /= 2,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn mode_name(pattern: &GapPattern, row: usize) -> &'static str {
    use residua::format::gap::RowMode;
    match pattern.row_mode(row) {
        _ if pattern.row_entries(row).is_empty() => "empty",
        RowMode::Gap => "gap",
        RowMode::Absolute16 => "absolute16",
        RowMode::Bitmap => "bitmap",
        RowMode::Absolute32 => "absolute32",
    }
}
