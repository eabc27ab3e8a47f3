//! COO ↔ CSR.

use super::Duplicates;
use crate::error::{FormatError, Result};
use crate::{Coo, Csr, Index, Value};

/// Sorts triplets into rows.
///
/// # Errors
/// When two triplets stand at one place and `duplicates` refuses them.
pub fn coo_to_csr<V: Value, I: Index>(coo: &Coo<V, I>, duplicates: Duplicates) -> Result<Csr<V, I>> {
    let mut order: Vec<usize> = (0..coo.nnz()).collect();
    order.sort_by_key(|&i| (coo.row_indices()[i], coo.col_indices()[i]));
    let mut row_ptr = vec![0usize; coo.rows() + 1];
    let (mut columns, mut values): (Vec<I>, Vec<V>) = (Vec::new(), Vec::new());
    let mut last = None;
    for i in order {
        let place = (coo.row_indices()[i], coo.col_indices()[i]);
        if last == Some(place) {
            if duplicates == Duplicates::Refuse {
                return Err(FormatError::Duplicate { row: place.0.index(), col: place.1.index() });
            }
            if let Some(value) = values.last_mut() {
                *value += coo.values()[i];
            }
            continue;
        }
        last = Some(place);
        row_ptr[place.0.index() + 1] += 1;
        columns.push(place.1);
        values.push(coo.values()[i]);
    }
    let mut sum = 0;
    let row_ptr = row_ptr
        .into_iter()
        .map(|count| {
            sum += count;
            I::checked(sum, "non-zeros")
        })
        .collect::<Result<Vec<I>>>()?;
    Ok(Csr::trusted(coo.rows(), coo.cols(), row_ptr, columns, values))
}

/// Writes every entry's row out.
///
/// # Errors
/// When the index type cannot hold the number of rows.
pub fn csr_to_coo<V: Value, I: Index>(csr: &Csr<V, I>) -> Result<Coo<V, I>> {
    let mut rows = Vec::with_capacity(csr.nnz());
    for row in 0..csr.rows() {
        let index = I::checked(row, "row")?;
        rows.resize(csr.row_ptr()[row + 1].index(), index);
    }
    let (cols, values) = (csr.col_indices().to_vec(), csr.values().to_vec());
    Ok(Coo::trusted(csr.rows(), csr.cols(), rows, cols, values))
}
