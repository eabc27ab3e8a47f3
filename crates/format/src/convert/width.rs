//! Index types: u32, i32, usize.

use rayon::prelude::*;

use super::split::fresh;
use crate::error::Result;
use crate::{Coo, Csr, Index, Value};

/// The same matrix with another index type. u32 and i32 change into each other without a copy.
///
/// # Errors
/// When the new type cannot hold a column or the number of entries.
pub fn csr_width<V: Value, I: Index, J: Index>(csr: Csr<V, I>) -> Result<Csr<V, J>> {
    let (rows, cols) = (csr.rows(), csr.cols());
    let (row_ptr, columns, values) = csr.into_raw();
    J::checked(values.len(), "non-zeros")?;
    Ok(Csr::trusted(rows, cols, indices(row_ptr, "row pointer")?, indices(columns, "column")?, values))
}

/// The same triplets with another index type. u32 and i32 change into each other without a copy.
///
/// # Errors
/// When the new type cannot hold a row or column.
pub fn coo_width<V: Value, I: Index, J: Index>(coo: Coo<V, I>) -> Result<Coo<V, J>> {
    let (rows, cols) = (coo.rows(), coo.cols());
    let (row_indices, col_indices, values) = coo.into_raw();
    Ok(Coo::trusted(rows, cols, indices(row_indices, "row")?, indices(col_indices, "column")?, values))
}

fn indices<I: Index, J: Index>(from: Vec<I>, what: &'static str) -> Result<Vec<J>> {
    if let Some(largest) = from.par_iter().with_min_len(1 << 13).max() {
        J::checked(largest.index(), what)?;
    }
    // Indices are not negative and within both types, so equal widths mean equal bits.
    bytemuck::allocation::try_cast_vec(from).or_else(|(_, from)| {
        let mut to = fresh::<J>(from.len());
        to.par_iter_mut()
            .with_min_len(1 << 13)
            .zip(&from)
            .for_each(|(to, from)| *to = J::from_usize(from.index()));
        Ok(to)
    })
}
