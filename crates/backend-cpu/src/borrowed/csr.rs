//! Compressed sparse rows in the caller's memory.

use residua_backend::Shaped;
use residua_format::FormatError;

/// A sparse matrix `[rows, cols]` in compressed sparse rows, in memory of the caller.
///
/// Always checked: `row_ptr` has `rows + 1` elements, starts at 0, never falls and ends at the number of values;
/// there are as many columns as values, all of them from 0 to `cols − 1`. Columns of a row may come in any order and
/// more than once; values at one place are summed.
#[derive(Debug, Clone, Copy)]
pub struct BorrowedCsr<'a> {
    cols: usize,
    row_ptr: &'a [i32],
    columns: &'a [i32],
    values: &'a [f32],
}

impl<'a> BorrowedCsr<'a> {
    /// A matrix from its three arrays.
    ///
    /// # Errors
    /// [`FormatError`] when an invariant of the type does not hold; it says where.
    pub fn new(
        rows: usize,
        cols: usize,
        row_ptr: &'a [i32],
        columns: &'a [i32],
        values: &'a [f32],
    ) -> Result<Self, FormatError> {
        if row_ptr.len().checked_sub(1) != Some(rows) {
            let expected = rows.saturating_add(1);
            return Err(FormatError::Length { what: "row pointers", found: row_ptr.len(), expected });
        }
        if columns.len() != values.len() {
            let (found, expected) = (columns.len(), values.len());
            return Err(FormatError::Length { what: "column indices", found, expected });
        }
        let pointer = |position: usize, rule| {
            let found = row_ptr[position].into();
            FormatError::RowPointer { position, found, rule }
        };
        if row_ptr[0] != 0 {
            return Err(pointer(0, "the first is 0"));
        }
        if let Some(fall) = row_ptr.windows(2).position(|pair| pair[1] < pair[0]) {
            return Err(pointer(fall + 1, "they never fall"));
        }
        if usize::try_from(row_ptr[rows]) != Ok(values.len()) {
            return Err(pointer(rows, "the last is the number of entries"));
        }
        // As unsigned numbers, negative columns are larger than any.
        let outside = |column: i32| column as u32 as usize >= cols;
        if largest(columns).is_some_and(|largest| largest as usize >= cols) {
            let position = columns.iter().position(|&column| outside(column)).unwrap_or(0);
            let found = columns[position].into();
            return Err(FormatError::OutOfRange { position, axis: "column", found, rows, cols });
        }
        Ok(Self { cols, row_ptr, columns, values })
    }

    /// Number of entries.
    pub fn nnz(&self) -> usize {
        self.values.len()
    }

    /// Where each row starts, `rows + 1` elements.
    pub fn row_ptr(&self) -> &'a [i32] {
        self.row_ptr
    }

    /// Column of every entry.
    pub fn columns(&self) -> &'a [i32] {
        self.columns
    }

    /// A row's columns and values.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> (&'a [i32], &'a [f32]) {
        // Neither pointer is negative: they start at 0 and never fall.
        let range = self.row_ptr[row] as usize..self.row_ptr[row + 1] as usize;
        (&self.columns[range.clone()], &self.values[range])
    }
}

impl Shaped for BorrowedCsr<'_> {
    fn shape(&self) -> [usize; 2] {
        [self.row_ptr.len() - 1, self.cols]
    }
}

/// The largest column as an unsigned number.
fn largest(columns: &[i32]) -> Option<u32> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn with_avx2(columns: &[i32]) -> Option<u32> {
            fold(columns)
        }
        // SAFETY: the processor has AVX2, as just found.
        return unsafe { with_avx2(columns) };
    }
    fold(columns)
}

#[inline(always)]
fn fold(columns: &[i32]) -> Option<u32> {
    // Unlike `max` of an iterator, this compiles to vector instructions.
    (!columns.is_empty()).then(|| columns.iter().fold(0, |most, &column| most.max(column as u32)))
}
