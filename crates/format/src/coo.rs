//! Triplets.

use crate::error::{FormatError, Result};
use crate::index::first_outside;
use crate::{Index, Value};

/// A sparse matrix as (row, column, value) triplets in any order. One place may have several triplets.
///
/// Invariants, always checked: the three arrays have one length; every row is below `rows`, every column below
/// `cols`.
#[derive(Debug, Clone, PartialEq)]
pub struct Coo<V, I = u32> {
    rows: usize,
    cols: usize,
    row_indices: Vec<I>,
    col_indices: Vec<I>,
    values: Vec<V>,
}

impl<V: Value, I: Index> Coo<V, I> {
    /// A `[rows, cols]` matrix without entries.
    pub fn empty(rows: usize, cols: usize) -> Self {
        Self { rows, cols, row_indices: Vec::new(), col_indices: Vec::new(), values: Vec::new() }
    }

    /// A matrix from its triplets.
    ///
    /// # Errors
    /// When the arrays differ in length or an index lies outside the shape.
    pub fn new(
        rows: usize,
        cols: usize,
        row_indices: Vec<I>,
        col_indices: Vec<I>,
        values: Vec<V>,
    ) -> Result<Self> {
        for (what, found) in [("row indices", row_indices.len()), ("column indices", col_indices.len())] {
            if found != values.len() {
                return Err(FormatError::Length { what, found, expected: values.len() });
            }
        }
        for (axis, indices, bound) in [("row", &row_indices, rows), ("column", &col_indices, cols)] {
            if let Some(position) = first_outside(indices, bound) {
                let found = indices[position].signed();
                return Err(FormatError::OutOfRange { position, axis, found, rows, cols });
            }
        }
        Ok(Self { rows, cols, row_indices, col_indices, values })
    }

    /// Number of rows (output features).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (input features).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Number of triplets, duplicates included.
    pub fn nnz(&self) -> usize {
        self.values.len()
    }

    /// Row of every triplet.
    pub fn row_indices(&self) -> &[I] {
        &self.row_indices
    }

    /// Column of every triplet.
    pub fn col_indices(&self) -> &[I] {
        &self.col_indices
    }

    /// Value of every triplet.
    pub fn values(&self) -> &[V] {
        &self.values
    }

    /// The triplets' arrays: rows, columns, values.
    pub fn into_raw(self) -> (Vec<I>, Vec<I>, Vec<V>) {
        (self.row_indices, self.col_indices, self.values)
    }

    /// For conversions of this crate. They keep the invariants by construction.
    pub(crate) fn trusted(
        rows: usize,
        cols: usize,
        row_indices: Vec<I>,
        col_indices: Vec<I>,
        values: Vec<V>,
    ) -> Self {
        Self { rows, cols, row_indices, col_indices, values }
    }
}
