//! Compressed sparse rows.

use rayon::prelude::*;

use crate::error::{FormatError, Result};
use crate::index::first_outside;
use crate::{Index, Value};

/// A sparse matrix in compressed sparse rows.
///
/// Always checked: `row_ptr` has `rows + 1` elements, starts at 0, never falls and ends at the number of
/// values; columns are below `cols` and rise strictly inside a row (sorted, no duplicates).
#[derive(Debug, Clone, PartialEq)]
pub struct Csr<V, I = u32> {
    rows: usize,
    cols: usize,
    row_ptr: Vec<I>,
    col_indices: Vec<I>,
    values: Vec<V>,
}

impl<V: Value, I: Index> Csr<V, I> {
    /// A `[rows, cols]` matrix without entries.
    pub fn empty(rows: usize, cols: usize) -> Self {
        Self { rows, cols, row_ptr: vec![I::zero(); rows + 1], col_indices: Vec::new(), values: Vec::new() }
    }

    /// A matrix from its three arrays.
    ///
    /// # Errors
    /// When an invariant of the type does not hold; the error says where.
    pub fn new(
        rows: usize,
        cols: usize,
        row_ptr: Vec<I>,
        col_indices: Vec<I>,
        values: Vec<V>,
    ) -> Result<Self> {
        check(rows, cols, &row_ptr, &col_indices, values.len())?;
        Ok(Self { rows, cols, row_ptr, col_indices, values })
    }

    /// Number of rows (output features).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (input features).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Number of stored entries.
    pub fn nnz(&self) -> usize {
        self.values.len()
    }

    /// Stored entries over all places; 0 for a matrix without places.
    pub fn density(&self) -> f64 {
        self.nnz() as f64 / (self.rows as f64 * self.cols as f64).max(1.0)
    }

    /// Where each row starts, `rows + 1` elements.
    pub fn row_ptr(&self) -> &[I] {
        &self.row_ptr
    }

    /// Column of every entry.
    pub fn col_indices(&self) -> &[I] {
        &self.col_indices
    }

    /// Value of every entry.
    pub fn values(&self) -> &[V] {
        &self.values
    }

    /// Columns and values of one row.
    ///
    /// # Panics
    /// When `row` is not below [`rows`](Self::rows).
    pub fn row(&self, row: usize) -> (&[I], &[V]) {
        let range = self.row_ptr[row].index()..self.row_ptr[row + 1].index();
        (&self.col_indices[range.clone()], &self.values[range])
    }

    /// The three arrays: row pointers, columns, values.
    pub fn into_raw(self) -> (Vec<I>, Vec<I>, Vec<V>) {
        (self.row_ptr, self.col_indices, self.values)
    }

    /// For conversions inside this crate, which keep the invariants by construction.
    pub(crate) fn trusted(
        rows: usize,
        cols: usize,
        row_ptr: Vec<I>,
        col_indices: Vec<I>,
        values: Vec<V>,
    ) -> Self {
        debug_assert_eq!(check(rows, cols, &row_ptr, &col_indices, values.len()), Ok(()));
        Self { rows, cols, row_ptr, col_indices, values }
    }
}

fn check<I: Index>(rows: usize, cols: usize, row_ptr: &[I], col_indices: &[I], nnz: usize) -> Result<()> {
    // A `rows` of usize::MAX can have no pointer array of rows + 1 elements.
    if row_ptr.len().checked_sub(1) != Some(rows) {
        let expected = rows.saturating_add(1);
        return Err(FormatError::Length { what: "row pointers", found: row_ptr.len(), expected });
    }
    if col_indices.len() != nnz {
        return Err(FormatError::Length { what: "column indices", found: col_indices.len(), expected: nnz });
    }
    let pointer = |position: usize, rule| {
        let found = row_ptr[position].signed();
        FormatError::RowPointer { position, found, rule }
    };
    if row_ptr[0] != I::zero() {
        return Err(pointer(0, "the first is 0"));
    }
    if row_ptr[rows].get() != Some(nnz) {
        return Err(pointer(rows, "the last is the number of entries"));
    }
    // With the last pointer in order, none can be negative or too large unless some pair falls.
    if let Some(fall) = row_ptr.windows(2).position(|pair| pair[1] < pair[0]) {
        return Err(pointer(fall + 1, "they never fall"));
    }
    if let Some(position) = first_outside(col_indices, cols) {
        let found = col_indices[position].signed();
        return Err(FormatError::OutOfRange { position, axis: "column", found, rows, cols });
    }
    let unsorted = |row: usize| {
        let start = row_ptr[row].index();
        let columns = &col_indices[start..row_ptr[row + 1].index()];
        let at = columns.windows(2).position(|pair| pair[1] <= pair[0])?;
        let (found, previous) = (columns[at + 1].index(), columns[at].index());
        Some(FormatError::Unsorted { row, position: start + at + 1, found, previous })
    };
    // Few rows, or short ones, are not worth a thread each.
    match (0..rows).into_par_iter().with_min_len(64).find_map_first(unsorted) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
