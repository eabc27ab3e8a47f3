//! CSR → COO.

use rayon::prelude::*;

use super::split::{fresh, pieces, row_blocks, row_range};
use crate::error::Result;
use crate::{Coo, Csr, Index, Value};

/// Gives every entry its row.
///
/// # Errors
/// When the index type cannot hold the number of rows.
pub fn csr_to_coo<V: Value, I: Index>(csr: &Csr<V, I>) -> Result<Coo<V, I>> {
    csr_into_coo(csr.clone())
}

/// As [`csr_to_coo`], without copying columns and values.
///
/// # Errors
/// When the index type cannot hold the number of rows.
pub fn csr_into_coo<V: Value, I: Index>(csr: Csr<V, I>) -> Result<Coo<V, I>> {
    let (rows, cols) = (csr.rows(), csr.cols());
    I::checked(rows.saturating_sub(1), "row")?;
    let (row_ptr, columns, values) = csr.into_raw();
    let mut row_indices = fresh::<I>(columns.len());
    let blocks = row_blocks(rows, |row| row_range(&row_ptr, row).len());
    let lengths = blocks.iter().map(|block| row_ptr[block.end].index() - row_ptr[block.start].index());
    let outputs = pieces(&mut row_indices, lengths);
    outputs.into_par_iter().zip(&blocks).for_each(|(out, block)| {
        let first = row_ptr[block.start].index();
        for row in block.clone() {
            let entries = row_ptr[row].index() - first..row_ptr[row + 1].index() - first;
            out[entries].fill(I::from_usize(row));
        }
    });
    Ok(Coo::trusted(rows, cols, row_indices, columns, values))
}
