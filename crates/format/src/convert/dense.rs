//! CSR and COO ↔ dense row-major.

use rayon::prelude::*;

use super::split::{check_rows, fresh, pieces, pointers, row_blocks};
use super::{Duplicates, coo_to_csr, csr_into_coo};
use crate::error::{FormatError, Result};
use crate::{Coo, Csr, Index, Value};

/// Takes the values of a dense row-major matrix that `keep` chooses.
///
/// The function calls `keep` twice for each value; both answers must be the same. `|w| w != 0.0` drops zeros of both
/// signs and keeps NaN.
///
/// ```
/// use residua_format::{Csr, convert::dense_to_csr};
/// let csr: Csr<f32> = dense_to_csr(2, 3, &[0.0, 5.0, 0.0, 0.0, 0.0, -1.0], |w| w != 0.0)?;
/// assert_eq!((csr.row_ptr(), csr.col_indices(), csr.values()), (&[0, 1, 2][..], &[1, 2][..], &[5.0, -1.0][..]));
/// # Ok::<(), residua_format::FormatError>(())
/// ```
///
/// # Errors
/// When `dense` does not have `rows · cols` elements, or the index type cannot hold a column or the number of
/// values kept.
pub fn dense_to_csr<V: Value, I: Index>(
    rows: usize,
    cols: usize,
    dense: &[V],
    keep: impl Fn(V) -> bool + Sync,
) -> Result<Csr<V, I>> {
    check_dense(rows, cols, dense.len())?;
    let row_values = |row: usize| &dense[row * cols..(row + 1) * cols];
    let kept = |row| row_values(row).iter().filter(|&&value| keep(value)).count();
    let lengths: Vec<usize> = (0..rows).into_par_iter().with_min_len(16).map(kept).collect();
    let row_ptr = pointers(&lengths)?;
    if rows > 0 {
        I::checked(cols.saturating_sub(1), "column")?;
    }
    let nnz = lengths.iter().sum();
    let (mut columns, mut values) = (fresh::<I>(nnz), fresh::<V>(nnz));
    let blocks = row_blocks(rows, |_| cols);
    let sizes = || blocks.iter().map(|block| lengths[block.clone()].iter().sum());
    let outputs: Vec<_> =
        blocks.iter().zip(pieces(&mut columns, sizes())).zip(pieces(&mut values, sizes())).collect();
    outputs.into_par_iter().for_each(|((block, columns), values)| {
        let entries = block
            .clone()
            .flat_map(|row| row_values(row).iter().enumerate().filter(|&(_, &value)| keep(value)));
        for ((place, out), (column, &value)) in columns.iter_mut().zip(values).zip(entries) {
            *place = I::from_usize(column);
            *out = value;
        }
    });
    Ok(Csr::trusted(rows, cols, row_ptr, columns, values))
}

/// As [`dense_to_csr`], but gives triplets, in row-major order.
///
/// # Errors
/// As [`dense_to_csr`], and when the index type cannot hold a row.
pub fn dense_to_coo<V: Value, I: Index>(
    rows: usize,
    cols: usize,
    dense: &[V],
    keep: impl Fn(V) -> bool + Sync,
) -> Result<Coo<V, I>> {
    csr_into_coo(dense_to_csr(rows, cols, dense, keep)?)
}

/// Writes a matrix into a dense row-major one. Places without an entry become 0.
///
/// # Errors
/// When `dense` does not have `rows · cols` elements.
pub fn csr_to_dense<V: Value, I: Index>(csr: &Csr<V, I>, dense: &mut [V]) -> Result<()> {
    check_dense(csr.rows(), csr.cols(), dense.len())?;
    let rows = dense.par_chunks_mut(csr.cols().max(1)).with_min_len(4).enumerate();
    rows.for_each(|(row, out)| {
        out.fill(V::zeroed());
        let (columns, values) = csr.row(row);
        columns.iter().zip(values).for_each(|(column, &value)| out[column.index()] = value);
    });
    Ok(())
}

/// As [`coo_to_csr`], then [`csr_to_dense`].
///
/// # Errors
/// When there are duplicates that `duplicates` refuses, or `dense` does not have `rows · cols` elements.
pub fn coo_to_dense<V: Value, I: Index>(
    coo: &Coo<V, I>,
    duplicates: Duplicates,
    dense: &mut [V],
) -> Result<()> {
    check_dense(coo.rows(), coo.cols(), dense.len())?;
    csr_to_dense(&coo_to_csr(coo, duplicates)?, dense)
}

pub(super) fn check_dense(rows: usize, cols: usize, found: usize) -> Result<()> {
    let expected = rows.saturating_mul(cols);
    if found != expected {
        return Err(FormatError::Length { what: "dense values", found, expected });
    }
    check_rows(rows)
}
