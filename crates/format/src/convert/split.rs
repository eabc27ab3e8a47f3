//! Cuts work and buffers into pieces for threads.

use std::ops::Range;

use bytemuck::Zeroable;
use residua_memory::prefer_huge_pages;

use crate::Index;
use crate::error::{FormatError, Result};

/// Entries that are worth a task.
pub(super) const TASK: usize = 1 << 14;

/// Cuts rows into ranges of about [`TASK`] entries each. The cut depends on the matrix alone.
pub(super) fn row_blocks(rows: usize, entries: impl Fn(usize) -> usize) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    let (mut first, mut work) = (0, 0);
    for row in 0..rows {
        // Empty rows cost something too.
        work += 1 + entries(row);
        if work >= TASK || row + 1 == rows {
            blocks.push(first..row + 1);
            (first, work) = (row + 1, 0);
        }
    }
    blocks
}

/// Fails for more rows than a pointer array can have. Such a number may come from a file without entries.
pub(super) fn check_rows(rows: usize) -> Result<()> {
    let reserved = Vec::<usize>::new().try_reserve_exact(rows.saturating_add(1));
    reserved.map_err(|_| FormatError::Overflow { what: "rows", found: rows as u64, width: "memory" })
}

/// A row of a pointer array.
pub(super) fn row_range<I: Index>(row_ptr: &[I], row: usize) -> Range<usize> {
    row_ptr[row].index()..row_ptr[row + 1].index()
}

/// Pointers from lengths: running sums, from 0.
///
/// # Errors
/// When the last sum does not fit the index type.
pub(super) fn pointers<I: Index>(lengths: &[usize]) -> Result<Vec<I>> {
    let mut sum = 0;
    let mut row_ptr = Vec::with_capacity(lengths.len() + 1);
    row_ptr.push(I::zero());
    for length in lengths {
        sum += length;
        row_ptr.push(I::checked(sum, "non-zeros")?);
    }
    Ok(row_ptr)
}

/// Cuts a slice into consecutive pieces of these lengths. Together they are at most as long as the slice.
pub(super) fn pieces<T>(mut slice: &mut [T], lengths: impl Iterator<Item = usize>) -> Vec<&mut [T]> {
    lengths
        .map(|length| {
            let (piece, rest) = std::mem::take(&mut slice).split_at_mut(length);
            slice = rest;
            piece
        })
        .collect()
}

/// A vector of zeros, to be filled at once.
pub(super) fn fresh<T: Zeroable>(len: usize) -> Vec<T> {
    let mut vec = bytemuck::allocation::zeroed_vec(len);
    prefer_huge_pages(&mut vec);
    vec
}
