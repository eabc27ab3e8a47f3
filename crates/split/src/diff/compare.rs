//! Two checkpoints in, delta out.

use std::collections::BTreeMap;
use std::path::Path;

use residua_format::file::{Checkpoint, CheckpointHasher, MatrixMeta, TensorInfo, check_output};
use residua_memory::Budget;

use super::DeltaOp;
use super::delta::{Entry, Removed, read_delta};
use super::report::{DiffReport, Stored};
use super::row::Layout;
use super::scan::{Planes, Scanned};
use super::spool::Spool;
use super::target::{header_of, tensors_of};
use super::workers::{Workers, advance};
use super::write::{Draft, Found, OUTPUT_MEMORY, dense_bytes, sparse_bytes};
use crate::{Progress, SplitError};

/// Bytes that a row of a sparse matrix keeps in memory until the delta is written: two pointers and a mode.
const ROW_POINTERS: u64 = 4 + 4 + 1;

/// Writes to `delta` what changed from the checkpoint `old` to the checkpoint `new`, each a safetensors file, a
/// sharded checkpoint's index, or its folder. `delta` is replaced only when all went well.
///
/// # Errors
/// When a file cannot be read or written, a checkpoint is malformed, or the budget does not hold one row.
pub fn diff(
    old: &Path,
    new: &Path,
    delta: &Path,
    op: DeltaOp,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<DiffReport, SplitError> {
    check_output(delta, [old, new])?;
    let (old, new) = (&Checkpoint::open(old)?, &Checkpoint::open(new)?);
    let header = header_of(new)?;
    // The order of the table is the order in which a reader finds the tensors in this header.
    let targets = tensors_of(&header, new.path())?;
    let targets: Vec<_> =
        targets.iter().map(|target| new.expect_tensor(&target.name)).collect::<Result<_, _>>()?;
    let gone = || old.tensors().iter().filter(|tensor| new.tensor(&tensor.name).is_none());

    let rows: u64 = targets.iter().map(|tensor| Layout::of(tensor).rows()).sum();
    let _pointers = budget.reserve(rows * ROW_POINTERS, "row pointers of the delta")?;
    let _output = budget.reserve(OUTPUT_MEMORY, "buffers of the delta's file")?;
    let planes = Planes { index: Spool::new(delta, budget)?, values: Spool::new(delta, budget)? };
    let workers = Workers::new(old.tensors().iter().chain(new.tensors()).map(Layout::of), budget, progress)?;
    let mut differ = Differ { old, new, op, planes, workers, progress, old_hashes: BTreeMap::new() };

    progress.begin("comparing", new.bytes() + gone().map(|tensor| tensor.bytes).sum::<u64>());
    let found: Vec<Found<'_>> =
        targets.iter().map(|target| differ.tensor(target)).collect::<Result<_, _>>()?;
    let removed: Vec<Removed> = gone().map(|tensor| differ.removed(tensor)).collect::<Result<_, _>>()?;
    progress.end();

    let Differ { planes, old_hashes, .. } = differ;
    let new_hashes = found.iter().map(|found| (&*found.tensor.name, &*found.entry.hash)).collect();
    let old_hashes = old_hashes.iter().map(|(name, hash)| (&**name, &**hash)).collect();
    let (base_hash, target_hash) = (whole_hash(old, old_hashes), whole_hash(new, new_hashes));
    Draft { op, new, header, base_hash, target_hash, found, removed, planes }.write(delta, progress)?;
    read_delta(delta)
}

/// [`Checkpoint::hash`] from the hashes of the tensors, by name.
fn whole_hash(checkpoint: &Checkpoint, hashes: BTreeMap<&str, &str>) -> String {
    let mut whole = CheckpointHasher::new();
    for (name, hash) in hashes {
        if let Some(tensor) = checkpoint.tensor(name) {
            whole.tensor(tensor, hash);
        }
    }
    whole.finish()
}

struct Differ<'a> {
    old: &'a Checkpoint,
    new: &'a Checkpoint,
    op: DeltaOp,
    planes: Planes,
    workers: Workers<'a>,
    progress: &'a dyn Progress,
    old_hashes: BTreeMap<String, String>,
}

impl Differ<'_> {
    /// Finds how to store a tensor of the new checkpoint.
    fn tensor<'t>(&mut self, new: &'t TensorInfo) -> Result<Found<'t>, SplitError> {
        self.progress.tensor(&new.name);
        let Some(old) = self.old.tensor(&new.name) else {
            let hash = self.hash(self.new, new)?;
            return Ok(Found::whole(new, Entry::new(Stored::Added, hash)));
        };
        if (old.dtype, &old.shape) != (new.dtype, &new.shape) {
            // The progress counts the new tensors' bytes.
            let base_hash = self.workers.hash(self.old, old, |_| Ok(()))?;
            let mut entry = Entry::new(Stored::Reshaped, self.hash(self.new, new)?);
            entry.base = Some((old.dtype, old.shape.clone()));
            entry.base_hash = Some(base_hash.clone());
            self.old_hashes.insert(old.name.clone(), base_hash);
            return Ok(Found::whole(new, entry));
        }
        let start = self.planes.lengths();
        let Scanned { old_hash, new_hash, changed, sparse } =
            self.planes.scan(&mut self.workers, (self.old, old), (self.new, new), self.op, self.progress)?;
        self.old_hashes.insert(old.name.clone(), old_hash.clone());
        if changed == 0 {
            return Ok(Found::whole(new, Entry::new(Stored::Same, new_hash)));
        }
        if let Some(sparse) = sparse {
            let mut meta = MatrixMeta::new(Layout::of(new).shape(), new.dtype);
            meta.op = self.op.op();
            meta.nnz = sparse.nnz;
            meta.entries = sparse.entries;
            meta.index_bytes = sparse.index_bytes;
            meta.row_modes = sparse.modes.is_some();
            meta.base_hash = Some(old_hash.clone());
            if sparse_bytes(&new.name, &meta) < dense_bytes(new) {
                let entry = Entry::new(Stored::Sparse, new_hash);
                return Ok(Found { tensor: new, entry, matrix: Some((meta, sparse)) });
            }
            self.planes.forget(start)?;
        }
        let mut entry = Entry::new(Stored::Replaced, new_hash);
        entry.base_hash = Some(old_hash);
        entry.changed = Some(changed);
        Ok(Found::whole(new, entry))
    }

    /// Notes a tensor that only the old checkpoint has.
    fn removed(&mut self, tensor: &TensorInfo) -> Result<Removed, SplitError> {
        self.progress.tensor(&tensor.name);
        let hash = self.hash(self.old, tensor)?;
        self.old_hashes.insert(tensor.name.clone(), hash.clone());
        let TensorInfo { name, dtype, shape, .. } = tensor;
        Ok(Removed { name: name.clone(), dtype: *dtype, shape: shape.clone(), hash })
    }

    fn hash(&mut self, file: &Checkpoint, tensor: &TensorInfo) -> Result<String, SplitError> {
        let progress = self.progress;
        self.workers.hash(file, tensor, |row| {
            advance(progress, row);
            Ok(())
        })
    }
}
