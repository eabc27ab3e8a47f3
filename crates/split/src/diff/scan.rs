//! Comparing the same tensor of two checkpoints.

use residua_format::file::{Checkpoint, TensorInfo};
use residua_format::gap::{GapPatternBuilder, ModePlanes, RowPlan};
use residua_memory::AlignedVec;

use super::spool::Spool;
use super::write::may_be_sparse;
use crate::delta::row::{Layout, changed, encode};
use crate::delta::tree_hash::TreeHash;
use crate::delta::workers::{Workers, advance, read_row};
use crate::{DeltaOp, Progress, SplitError};

/// The result of a comparison.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) old_hash: String,
    pub(super) new_hash: String,
    /// Elements that differ.
    pub(super) changed: u64,
    /// The sparse matrix, whose long planes are in the spools; `None` if it would not be smaller than the tensor.
    pub(super) sparse: Option<Sparse>,
}

/// A sparse matrix: its short planes, and the lengths of its long ones.
#[derive(Debug)]
pub(super) struct Sparse {
    pub(super) row_ptr: AlignedVec<u32>,
    pub(super) modes: ModePlanes,
    pub(super) nnz: u64,
    pub(super) entries: u64,
    pub(super) index_bytes: u64,
}

/// The index plane and the value plane of every tensor so far, end to end.
#[derive(Debug)]
pub(super) struct Planes {
    pub(super) index: Spool,
    pub(super) values: Spool,
}

impl Planes {
    /// Compares two tensors of equal element type and length, and appends the changes to the planes.
    pub(super) fn scan(
        &mut self,
        workers: &mut Workers<'_>,
        (old_file, old): (&Checkpoint, &TensorInfo),
        (new_file, new): (&Checkpoint, &TensorInfo),
        op: DeltaOp,
        progress: &dyn Progress,
    ) -> Result<Scanned, SplitError> {
        let layout = Layout::of(new);
        let start = (self.index.length(), self.values.length());
        let mut builder = may_be_sparse(new).then(GapPatternBuilder::new);
        let (mut old_hash, mut new_hash) = (TreeHash::default(), TreeHash::default());
        let mut found = 0;
        workers.for_rows(
            layout.rows(),
            |slot, row| {
                read_row(old_file, old, layout, row, &mut slot.old)?;
                read_row(new_file, new, layout, row, &mut slot.new)?;
                let (index, values) = (&mut slot.index, &mut slot.values);
                index.clear();
                values.clear();
                slot.old_part = layout.hash_row(&slot.old, row);
                changed(layout.size, &slot.old, &slot.new, &mut slot.columns);
                let plan = RowPlan::new(&slot.columns, layout.shape()[1], layout.size);
                slot.plan = Some(plan);
                if plan.nnz == 0 {
                    slot.new_part = slot.old_part;
                    return Ok(());
                }
                slot.new_part = layout.hash_row(&slot.new, row);
                index.reserve_exact(plan.index_bytes);
                values.reserve_exact(plan.entries * layout.size);
                encode(&plan, layout, op, (&slot.old, &slot.new), &slot.columns, (index, values));
                Ok(())
            },
            |slot, _| {
                old_hash.push(slot.old_part);
                new_hash.push(slot.new_part);
                advance(progress, &slot.new);
                let Some(plan) = slot.plan.take() else { return Ok(()) };
                found += plan.nnz as u64;
                if let Some(pattern) = &mut builder {
                    // No pattern holds more than 2³² entries. The tensor is stored whole then.
                    let fits = pattern.push(&plan).is_ok();
                    self.index.append(&slot.index)?;
                    self.values.append(&slot.values)?;
                    let spooled = self.index.length() - start.0 + self.values.length() - start.1;
                    if !fits || spooled >= new.bytes {
                        builder = None;
                        self.forget(start)?;
                    }
                }
                Ok(())
            },
        )?;
        let sparse = builder.map(|pattern| {
            let (nnz, entries, index_bytes) = (pattern.nnz(), pattern.entries(), pattern.index_bytes());
            let (row_ptr, modes) = pattern.finish();
            let [nnz, entries, index_bytes] = [nnz, entries, index_bytes].map(|count| count as u64);
            Sparse { row_ptr, modes, nnz, entries, index_bytes }
        });
        let old_hash = old_hash.finish();
        let new_hash = if found == 0 { old_hash.clone() } else { new_hash.finish() };
        Ok(Scanned { old_hash, new_hash, changed: found, sparse })
    }

    /// Cuts the planes back to these lengths.
    pub(super) fn forget(&mut self, (index, values): (u64, u64)) -> Result<(), SplitError> {
        self.index.truncate(index)?;
        self.values.truncate(values)
    }

    pub(super) fn lengths(&self) -> (u64, u64) {
        (self.index.length(), self.values.length())
    }
}
