//! Parallel work on rows, with results in order.

use rayon::prelude::*;
use residua_format::file::{Checkpoint, TensorInfo};
use residua_format::gap::RowPlan;
use residua_memory::{AlignedVec, Budget, Reservation};

use super::row::{Layout, ROW};
use super::tree_hash::{TreeHash, hash_row};
use crate::progress::check_stop;
use crate::{Progress, SplitError};

/// Rows per thread. Threads work on one half while the results of the other half are taken.
const ROWS_PER_THREAD: usize = 16;

/// The buffers for one row. They keep their memory from row to row.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// The old row. A patch turns it into the new one.
    pub(crate) old: AlignedVec<u8>,
    pub(crate) new: AlignedVec<u8>,
    pub(crate) columns: Vec<u32>,
    pub(crate) index: Vec<u8>,
    pub(crate) values: Vec<u8>,
    pub(crate) plan: Option<RowPlan>,
    /// The parts of the row in the hashes of the tensors.
    pub(crate) old_part: [u8; 32],
    pub(crate) new_part: [u8; 32],
}

/// The longest rows of some tensors.
#[derive(Debug, Default)]
pub(crate) struct Longest {
    cols: usize,
    bytes: usize,
}

impl Longest {
    pub(crate) fn add(&mut self, layout: Layout) {
        self.cols = self.cols.max(layout.shape()[1]);
        self.bytes = self.bytes.max(layout.longest_row());
    }

    /// Bytes of the buffers for any of these rows.
    pub(crate) fn slot_bytes(&self) -> u64 {
        let Self { cols, bytes } = self;
        // Two rows and the values of one; columns; index bytes; bookkeeping. Index bytes are at most an eighth of the
        // columns: a row that needs more is cheaper as a bitmap.
        (3 * bytes + 4 * cols + cols / 8 + 1024) as u64
    }
}

/// Slots for as many rows as threads and budget suggest.
pub(crate) struct Workers<'a> {
    slots: Vec<Slot>,
    progress: &'a dyn Progress,
    _held: Reservation,
}

impl<'a> Workers<'a> {
    /// Slots for the rows of any of `layouts`, from at most three quarters of what is left of the budget.
    ///
    /// # Errors
    /// When the budget does not hold one row.
    pub(crate) fn new(
        layouts: impl Iterator<Item = Layout>,
        budget: &Budget,
        progress: &'a dyn Progress,
    ) -> Result<Self, SplitError> {
        let mut longest = Longest::default();
        layouts.for_each(|layout| longest.add(layout));
        let slot = longest.slot_bytes();
        let most = (ROWS_PER_THREAD * rayon::current_num_threads()) as u64;
        let count = (budget.available() / 4 * 3 / slot).clamp(1, most);
        let held = budget.reserve(count * slot, "rows of the checkpoints")?;
        Ok(Self { slots: (0..count).map(|_| Slot::default()).collect(), progress, _held: held })
    }

    /// Calls `work` for every row, in parallel, and `take` for every row, in order, at the same time. Asks between
    /// the steps whether to stop.
    pub(crate) fn for_rows(
        &mut self,
        rows: u64,
        work: impl Fn(&mut Slot, u64) -> Result<(), SplitError> + Sync,
        mut take: impl FnMut(&mut Slot, u64) -> Result<(), SplitError> + Send,
    ) -> Result<(), SplitError> {
        let work_on = |slots: &mut [Slot], first: u64| {
            let each = slots.par_iter_mut().with_max_len(1).enumerate();
            let results: Vec<_> = each.map(|(i, slot)| work(slot, first + i as u64)).collect();
            // The error of the first row, whichever thread was first.
            results.into_iter().collect::<Result<(), _>>()
        };
        let mut take_from = |slots: &mut [Slot], first: u64| {
            slots.iter_mut().zip(first..).try_for_each(|(slot, row)| take(slot, row))
        };
        let progress = self.progress;
        // A single slot must be taken before it is worked on again.
        let half = self.slots.len().div_ceil(2);
        let (mut done, mut free) = self.slots.split_at_mut(half);
        // A single row is not worth a thread.
        if let ([slot, ..], 1) = (&mut *done, rows) {
            check_stop(progress)?;
            work(slot, 0)?;
            return take(slot, 0);
        }
        if free.is_empty() {
            return (0..rows).try_for_each(|row| {
                check_stop(progress)?;
                work_on(done, row)?;
                take_from(done, row)
            });
        }
        let (mut first, mut count) = (0, 0);
        loop {
            check_stop(progress)?;
            let next = first + count as u64;
            let next_count = free.len().min((rows - next) as usize);
            let (taken, worked) = rayon::join(
                || take_from(&mut done[..count], first),
                || work_on(&mut free[..next_count], next),
            );
            taken?;
            worked?;
            if next_count == 0 {
                return Ok(());
            }
            (first, count) = (next, next_count);
            std::mem::swap(&mut done, &mut free);
        }
    }

    /// The hash of a tensor's bytes. `each` gets the rows in order.
    pub(crate) fn hash(
        &mut self,
        file: &Checkpoint,
        tensor: &TensorInfo,
        mut each: impl FnMut(&[u8]) -> Result<(), SplitError> + Send,
    ) -> Result<String, SplitError> {
        let layout = Layout::of(tensor);
        let mut hash = TreeHash::default();
        self.for_rows(
            layout.rows(),
            |slot, row| {
                read_row(file, tensor, layout, row, &mut slot.old)?;
                slot.old_part = layout.hash_row(&slot.old, row);
                Ok(())
            },
            |slot, _| {
                hash.push(slot.old_part);
                each(&slot.old)
            },
        )?;
        Ok(hash.finish())
    }
}

/// Reads a row of a tensor.
pub(crate) fn read_row(
    file: &Checkpoint,
    tensor: &TensorInfo,
    layout: Layout,
    row: u64,
    out: &mut AlignedVec<u8>,
) -> Result<(), SplitError> {
    let (start, bytes) = layout.row(row);
    out.resize(bytes);
    Ok(file.read_at(tensor, start, out)?)
}

impl Layout {
    /// How a tensor of a checkpoint is cut.
    pub(crate) fn of(tensor: &TensorInfo) -> Self {
        Self::new(tensor.dtype, tensor.bytes)
    }

    /// The part of a row in the hash of its tensor.
    pub(crate) fn hash_row(self, bytes: &[u8], row: u64) -> [u8; 32] {
        hash_row(bytes, row, self.row_bytes(), self.elements <= ROW as u64)
    }
}

/// Reports rows as done.
pub(crate) fn advance(progress: &dyn Progress, bytes: &[u8]) {
    progress.advance(bytes.len() as u64);
}
