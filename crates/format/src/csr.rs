//! Compressed sparse rows.

use rayon::prelude::*;

use crate::error::{FormatError, Result};
use crate::index::first_outside;
use crate::{Index, Value};

/// A sparse matrix in compressed sparse rows.
///
/// Invariants, always checked: `row_ptr` has `rows + 1` elements, starts at 0, never falls and ends at the number of
/// values; columns are below `cols` and rise strictly inside a row (sorted, no duplicates).
///
/// ```
/// use residua_format::Csr;
///
/// // [ 0 5 0 ]
/// // [ 7 0 9 ]
/// let csr = Csr::new(2, 3, vec![0, 1, 3], vec![1u32, 0, 2], vec![5.0f32, 7.0, 9.0])?;
/// assert_eq!((csr.nnz(), csr.row(1)), (3, (&[0, 2][..], &[7.0, 9.0][..])));
///
/// // A row whose columns do not rise is refused, and the error says where.
/// let error = Csr::new(1, 3, vec![0, 2], vec![2u32, 0], vec![1.0f32, 1.0]).unwrap_err();
/// assert_eq!(error.to_string(), "row 0, entry 1: column 0 does not rise above 2");
/// # Ok::<(), residua_format::FormatError>(())
/// ```
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
    /// When an invariant of the type does not hold. The error says where.
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

    /// Stored entries divided by `rows · cols`; 0 for an empty matrix.
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

    /// For conversions of this crate. They keep the invariants by construction.
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
    // The last pointer is right. So no pointer is negative or too large unless some pair falls.
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
    // Few or short rows are not worth a thread each.
    match (0..rows).into_par_iter().with_min_len(64).find_map_first(unsorted) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
