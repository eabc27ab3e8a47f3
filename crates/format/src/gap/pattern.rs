//! Positions of the entries of a gap-encoded matrix.

use std::ops::Range;

use rayon::prelude::*;
use residua_memory::AlignedVec;

use super::row::{RowIter, RowMode, RowPlan};
use crate::error::{FormatError, Result};

/// The positions of the entries of a gap-encoded matrix: everything but the values.
///
/// - `row_ptr`, `rows + 1` of u32: where each row starts in the value plane, counted in entries (non-zeros
///   and fillers).
/// - `index`, bytes: each row's columns in the row's [`RowMode`].
/// - `row_modes`, one byte a row, and `index_ptr`, `rows + 1` of u32 into `index`: only where some row is
///   not in [`RowMode::Gap`]. Without them all rows are, and `row_ptr` is the pointer into `index` too.
///
/// Invariants, always checked: both pointer arrays start at 0, never fall and end at the length of their plane; every
/// row decodes to exactly its entries; columns rise strictly inside a row and are below `cols`; a row never ends in a
/// filler.
#[derive(Debug, Clone, PartialEq)]
pub struct GapPattern {
    rows: usize,
    cols: usize,
    nnz: usize,
    row_ptr: AlignedVec<u32>,
    index: AlignedVec<u8>,
    modes: Option<Modes>,
}

/// `(row_modes, index_ptr)` where some row is not in [`RowMode::Gap`].
pub type ModePlanes = Option<(AlignedVec<u8>, AlignedVec<u32>)>;

#[derive(Debug, Clone, PartialEq)]
struct Modes {
    row_modes: AlignedVec<u8>,
    index_ptr: AlignedVec<u32>,
}

impl GapPattern {
    /// A pattern from its planes; `modes` is `(row_modes, index_ptr)`.
    ///
    /// # Errors
    /// When an invariant of the type does not hold. The error names the row.
    pub fn new(
        rows: usize,
        cols: usize,
        row_ptr: AlignedVec<u32>,
        index: AlignedVec<u8>,
        modes: ModePlanes,
    ) -> Result<Self> {
        if cols > u32::MAX as usize {
            return Err(FormatError::Overflow { what: "columns", found: cols as u64, width: "u32" });
        }
        let modes = modes.map(|(row_modes, index_ptr)| Modes { row_modes, index_ptr });
        check_pointers("row pointers", &row_ptr, rows, None)?;
        if let Some(modes) = &modes {
            check_pointers("index pointers", &modes.index_ptr, rows, Some(index.len()))?;
            if modes.row_modes.len() != rows {
                let found = modes.row_modes.len();
                return Err(FormatError::Length { what: "row modes", found, expected: rows });
            }
            if let Some(row) = modes.row_modes.iter().position(|&m| RowMode::from_byte(m).is_none()) {
                return Err(FormatError::GapRow { row, problem: "unknown row mode" });
            }
        } else {
            check_pointers("row pointers", &row_ptr, rows, Some(index.len()))?;
        }
        let pattern = Self { rows, cols, nnz: 0, row_ptr, index, modes };
        // Blocks in order, so that the error names the first bad row whatever the number of threads.
        let blocks: Vec<Result<usize>> = (0..rows.div_ceil(CHECKED_ROWS))
            .into_par_iter()
            .map(|block| {
                let first = block * CHECKED_ROWS;
                (first..rows.min(first + CHECKED_ROWS)).map(|row| pattern.check_row(row)).sum()
            })
            .collect();
        let nnz = blocks.into_iter().sum::<Result<usize>>()?;
        Ok(Self { nnz, ..pattern })
    }

    /// Non-zeros of a row whose pointers are in order.
    fn check_row(&self, row: usize) -> Result<usize> {
        let error = |problem| Err(FormatError::GapRow { row, problem });
        let entries = self.row_entries(row).len();
        let (mode, index) = (self.row_mode(row), self.row_index(row));
        let expected = match mode {
            RowMode::Gap => entries,
            RowMode::Absolute16 => entries.saturating_mul(2),
            RowMode::Absolute32 => entries.saturating_mul(4),
            RowMode::Bitmap if entries == 0 => 0,
            RowMode::Bitmap => self.cols.div_ceil(8),
        };
        if index.len() != expected {
            return error("its index bytes do not match its entries");
        }
        let outside = "a column lies outside the matrix";
        match mode {
            RowMode::Gap => {
                let (nnz, end) = measure_gaps(index);
                if index.last() == Some(&0) {
                    return error("it ends in a filler");
                }
                return if end > self.cols as u64 { error(outside) } else { Ok(nnz) };
            }
            RowMode::Bitmap => {
                if index.iter().map(|byte| byte.count_ones() as usize).sum::<usize>() != entries {
                    return error("its bitmap does not have as many bits as the row has entries");
                }
                // Bits of the last byte that belong to columns; 0 of 8 means all.
                let used = self.cols % 8;
                return match index.last() {
                    Some(last) if used > 0 && last >> used != 0 => error(outside),
                    _ => Ok(entries),
                };
            }
            RowMode::Absolute16 | RowMode::Absolute32 => {}
        }
        let (rises, end) = self.row(row).fold((true, 0), |(rises, end), (_, column)| {
            (rises & (u64::from(column) >= end), u64::from(column) + 1)
        });
        if !rises {
            return error("its columns do not rise");
        }
        if end > self.cols as u64 { error(outside) } else { Ok(entries) }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Number of non-zeros, without fillers.
    pub fn nnz(&self) -> usize {
        self.nnz
    }

    /// Length of the value plane: non-zeros and fillers.
    pub fn entries(&self) -> usize {
        self.row_ptr[self.rows] as usize
    }

    /// Where each row starts in the value plane, `rows + 1` elements.
    pub fn row_ptr(&self) -> &[u32] {
        &self.row_ptr
    }

    /// The index plane.
    pub fn index(&self) -> &[u8] {
        &self.index
    }

    /// `(row_modes, index_ptr)` where some row is not in [`RowMode::Gap`].
    pub fn modes(&self) -> Option<(&[u8], &[u32])> {
        self.modes.as_ref().map(|m| (&*m.row_modes, &*m.index_ptr))
    }

    /// How a row stores its columns.
    ///
    /// # Panics
    /// When `row` is not below [`rows`](Self::rows).
    pub fn row_mode(&self, row: usize) -> RowMode {
        let byte = self.modes.as_ref().map_or(0, |modes| modes.row_modes[row]);
        RowMode::from_byte(byte).unwrap_or(RowMode::Gap)
    }

    /// A row's range in the value plane.
    ///
    /// # Panics
    /// When `row` is not below [`rows`](Self::rows).
    pub fn row_entries(&self, row: usize) -> std::ops::Range<usize> {
        self.row_ptr[row] as usize..self.row_ptr[row + 1] as usize
    }

    /// A row's index bytes.
    ///
    /// # Panics
    /// When `row` is not below [`rows`](Self::rows).
    pub fn row_index(&self, row: usize) -> &[u8] {
        let pointers = self.modes.as_ref().map_or(&self.row_ptr, |modes| &modes.index_ptr);
        &self.index[pointers[row] as usize..pointers[row + 1] as usize]
    }

    /// A row's non-zeros: `(position in the row's values, column)`.
    ///
    /// # Panics
    /// When `row` is not below [`rows`](Self::rows).
    pub fn row(&self, row: usize) -> RowIter<'_> {
        RowIter::new(self.row_mode(row), self.row_index(row))
    }

    /// Number of non-zeros of a row, without fillers.
    ///
    /// # Panics
    /// When `row` is not below [`rows`](Self::rows).
    pub fn row_nnz(&self, row: usize) -> usize {
        match self.row_mode(row) {
            RowMode::Gap if self.nnz != self.entries() => measure_gaps(self.row_index(row)).0,
            _ => self.row_entries(row).len(),
        }
    }

    /// Bytes of all planes.
    pub fn bytes(&self) -> usize {
        let modes = self.modes.as_ref().map_or(0, |m| m.row_modes.len() + 4 * m.index_ptr.len());
        4 * self.row_ptr.len() + self.index.len() + modes
    }
}

/// Rows that one task checks.
const CHECKED_ROWS: usize = 64;

/// Non-zeros of a gap row, and the column after its last.
fn measure_gaps(index: &[u8]) -> (usize, u64) {
    let (mut nnz, mut steps) = (0, 0);
    // Sums every byte minus one. A filler's 0 wraps to the 255 columns that it skips. A non-zero counts one too few,
    // so adding their number gives the column after the last. The loop has no branch, so it vectorises. Sums are
    // 64-bit, because a wrapped 32-bit column could look valid.
    for &gap in index {
        nnz += usize::from(gap != 0);
        steps += u64::from(gap.wrapping_sub(1));
    }
    (nnz, steps + nnz as u64)
}

/// `last` is what the last pointer must be.
fn check_pointers(what: &'static str, pointers: &[u32], rows: usize, last: Option<usize>) -> Result<()> {
    if pointers.len().checked_sub(1) != Some(rows) {
        let expected = rows.saturating_add(1);
        return Err(FormatError::Length { what, found: pointers.len(), expected });
    }
    let error = |position: usize, rule| {
        Err(FormatError::RowPointer { position, found: pointers[position].into(), rule })
    };
    if pointers[0] != 0 {
        return error(0, "the first is 0");
    }
    if let Some(fall) = pointers.windows(2).position(|pair| pair[1] < pair[0]) {
        return error(fall + 1, "they never fall");
    }
    if last.is_some_and(|last| pointers[rows] as usize != last) {
        return error(rows, "the last is the length of the plane");
    }
    Ok(())
}

/// Builds the per-row planes of a [`GapPattern`] row by row. The caller keeps the index bytes, so it can write a
/// matrix larger than memory while it builds it.
#[derive(Debug)]
pub struct GapPatternBuilder {
    row_ptr: Vec<u32>,
    index_ptr: Vec<u32>,
    row_modes: Vec<u8>,
    nnz: usize,
}

impl Default for GapPatternBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl GapPatternBuilder {
    /// A builder without rows.
    pub fn new() -> Self {
        Self { row_ptr: vec![0], index_ptr: vec![0], row_modes: Vec::new(), nnz: 0 }
    }

    /// A builder with room for exactly `rows` rows.
    pub(crate) fn with_rows(rows: usize) -> Self {
        let mut new = Self::new();
        new.row_ptr.reserve_exact(rows);
        new.index_ptr.reserve_exact(rows);
        new.row_modes.reserve_exact(rows);
        new
    }

    /// The plan of a row that was pushed and has `nnz` non-zeros.
    pub(crate) fn plan(&self, row: usize, nnz: usize) -> RowPlan {
        let mode = RowMode::from_byte(self.row_modes[row]).unwrap_or(RowMode::Gap);
        let [entries, index_bytes] = self.sizes(row..row + 1);
        RowPlan { mode, nnz, entries, index_bytes }
    }

    /// Entries of the value plane and bytes of the index plane of rows that were pushed.
    pub(crate) fn sizes(&self, rows: Range<usize>) -> [usize; 2] {
        [&self.row_ptr, &self.index_ptr].map(|pointers| (pointers[rows.end] - pointers[rows.start]) as usize)
    }

    /// Appends a row.
    ///
    /// # Errors
    /// When entries or index bytes exceed 2³²−1. Nothing is appended then.
    pub fn push(&mut self, plan: &RowPlan) -> Result<()> {
        let entries = next(&self.row_ptr, plan.entries, "entries")?;
        let index_bytes = next(&self.index_ptr, plan.index_bytes, "index bytes")?;
        self.row_ptr.push(entries);
        self.index_ptr.push(index_bytes);
        self.row_modes.push(plan.mode as u8);
        self.nnz += plan.nnz;
        Ok(())
    }

    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.row_modes.len()
    }

    /// Non-zeros so far.
    pub fn nnz(&self) -> usize {
        self.nnz
    }

    /// Entries of the value plane so far.
    pub fn entries(&self) -> usize {
        self.row_ptr.last().map_or(0, |&entries| entries as usize)
    }

    /// Bytes of the index plane so far.
    pub fn index_bytes(&self) -> usize {
        self.index_ptr.last().map_or(0, |&bytes| bytes as usize)
    }

    /// The pattern of the rows that were pushed. `index` has the bytes that their plans wrote, in order.
    pub(crate) fn build(self, rows: usize, cols: usize, index: AlignedVec<u8>) -> GapPattern {
        let nnz = self.nnz;
        let (row_ptr, modes) = self.finish();
        let modes = modes.map(|(row_modes, index_ptr)| Modes { row_modes, index_ptr });
        let pattern = GapPattern { rows, cols, nnz, row_ptr, index, modes };
        debug_assert_eq!((0..rows).map(|row| pattern.check_row(row)).sum::<Result<usize>>(), Ok(nnz));
        pattern
    }

    /// The planes: `row_ptr`, and `(row_modes, index_ptr)` where some row is not in [`RowMode::Gap`].
    pub fn finish(self) -> (AlignedVec<u32>, ModePlanes) {
        let mixed = self.row_modes.iter().any(|&mode| mode != RowMode::Gap as u8);
        let modes = mixed.then(|| (self.row_modes.into(), self.index_ptr.into()));
        (self.row_ptr.into(), modes)
    }
}

fn next(pointers: &[u32], more: usize, what: &'static str) -> Result<u32> {
    let sum = pointers.last().map_or(0, |&last| u64::from(last)) + more as u64;
    u32::try_from(sum).map_err(|_| FormatError::Overflow { what, found: sum, width: "u32" })
}
