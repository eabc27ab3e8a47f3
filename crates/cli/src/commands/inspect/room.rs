//! The memory that a file takes to be shown, counted without opening it.

use std::path::Path;

use residua::format::file::Plane;
use residua::memory::Budget;
use residua::split::delta_sizes;

use super::Dense;
use crate::failure::Result;
use crate::summary::MatrixSummary;

/// An error if the budget is too small to open and show the file, with one that is enough. It holds nothing of the file.
/// The tables of class statistics do not count.
pub(super) fn require(path: &Path, budget: &Budget) -> Result {
    let (mut tables, mut rows, mut classes) = (0, 0, false);
    let (file, delta) = delta_sizes(path, &mut |tensor| {
        tables += size_of::<Dense<'_>>() as u64;
        if let Some(matrix) = tensor.name.strip_suffix(&Plane::Gaps.tensor("")) {
            tables += matrix.len() as u64 + MatrixSummary::MEMORY;
        }
        if tensor.name.ends_with(&Plane::RowPtr.tensor("")) {
            // The length of every row of one matrix.
            rows = tensor.bytes.max(rows);
        }
        classes |= tensor.name.starts_with("class.") && tensor.name.ends_with(".mean");
    })?;
    let shown = if classes { 0 } else { tables.saturating_sub(Budget::SMALL_TABLE) + delta.max(rows) };
    Ok(budget.require(file.opening.max(file.open + shown), "what the file holds, tensor by tensor")?)
}
