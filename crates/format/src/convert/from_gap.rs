//! Gap-encoded CSR → CSR, COO and dense.

use rayon::prelude::*;

use super::csr_into_coo;
use super::dense::check_dense;
use super::split::{fresh, pieces, pointers, row_blocks, row_range};
use super::stored::Stored;
use crate::error::Result;
use crate::{Coo, Csr, GapCsr, GapPattern, Index, Value, ValuePlane};

/// Decodes a matrix. Values are exact if `V` can hold every value of the plane, otherwise the nearest.
///
/// # Errors
/// When the index type cannot hold the columns or the number of non-zeros.
pub fn gap_to_csr<V: Value, I: Index>(gap: &GapCsr) -> Result<Csr<V, I>> {
    let pattern = gap.pattern();
    if I::try_from_usize(gap.cols()).is_none() {
        let last = |row| pattern.row(row).last().map_or(0, |(_, column)| column as usize);
        I::checked((0..gap.rows()).into_par_iter().map(last).max().unwrap_or(0), "column")?;
    }
    let lengths: Vec<usize> =
        (0..gap.rows()).into_par_iter().with_min_len(64).map(|row| pattern.row_nnz(row)).collect();
    let row_ptr = pointers::<I>(&lengths)?;
    let mut columns = fresh::<I>(gap.nnz());
    let mut values = fresh::<V>(gap.nnz());
    let blocks = row_blocks(gap.rows(), |row| lengths[row]);
    let sizes = || blocks.iter().map(|block| lengths[block.clone()].iter().sum());
    let outputs: Vec<_> =
        blocks.iter().zip(pieces(&mut columns, sizes())).zip(pieces(&mut values, sizes())).collect();
    outputs.into_par_iter().for_each_init(Vec::new, |scratch, ((block, columns), values)| {
        let first = row_ptr[block.start].index();
        for row in block.clone() {
            let row_values = load_row(gap, row, scratch);
            let start = row_range(&row_ptr, row).start - first;
            let places = columns[start..].iter_mut().zip(&mut values[start..]);
            // A mutable iterator inside `for_each`, so that the decoding loop stays the outer one.
            let mut places = places.take(lengths[row]);
            pattern.row(row).for_each(|(position, column)| {
                if let Some((place, value)) = places.next() {
                    *place = I::from_usize(column as usize);
                    *value = V::from_f32(row_values[position]);
                }
            });
        }
    });
    Ok(Csr::trusted(gap.rows(), gap.cols(), row_ptr, columns, values))
}

/// As [`gap_to_csr`], but gives triplets.
///
/// # Errors
/// When the index type cannot hold the rows, the columns or the number of non-zeros.
pub fn gap_to_coo<V: Value, I: Index>(gap: &GapCsr) -> Result<Coo<V, I>> {
    csr_into_coo(gap_to_csr(gap)?)
}

/// Decodes a matrix into a dense row-major one. Places without an entry become 0.
///
/// # Errors
/// When `dense` does not have `rows · cols` elements.
pub fn gap_to_dense<V: Value>(gap: &GapCsr, dense: &mut [V]) -> Result<()> {
    check_dense(gap.rows(), gap.cols(), dense.len())?;
    let rows = dense.par_chunks_mut(gap.cols().max(1)).with_min_len(4).enumerate();
    rows.for_each_init(Vec::new, |scratch, (row, out)| {
        let row_values = load_row(gap, row, scratch);
        out.fill(V::from_f32(0.0));
        gap.pattern().row(row).for_each(|(position, column)| {
            out[column as usize] = V::from_f32(row_values[position]);
        });
    });
    Ok(())
}

/// A row's entries as f32, fillers included.
fn load_row<'a>(gap: &'a GapCsr, row: usize, scratch: &'a mut Vec<f32>) -> &'a [f32] {
    fn load<'a, P: Stored>(
        pattern: &GapPattern,
        row: usize,
        values: &[P],
        scale: f32,
        out: &'a mut Vec<f32>,
    ) -> &'a [f32] {
        let entries = pattern.row_entries(row);
        out.resize(entries.len(), 0.0);
        P::load(&values[entries], scale, out);
        out
    }
    let pattern = gap.pattern();
    match gap.values() {
        ValuePlane::F32(values) => &values[pattern.row_entries(row)],
        ValuePlane::F16(values) => load(pattern, row, values, 1.0, scratch),
        ValuePlane::Bf16(values) => load(pattern, row, values, 1.0, scratch),
        ValuePlane::I8 { codes, scales } => load(pattern, row, codes, scales[row], scratch),
    }
}
