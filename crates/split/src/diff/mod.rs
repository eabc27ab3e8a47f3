//! Two checkpoints in, delta out.
//!
//! `scan` compares tensors and puts the changes into spools. `write` writes the delta from the spools.

mod scan;
mod spool;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use residua_format::file::{Checkpoint, CheckpointHasher, MatrixMeta, TensorInfo, check_output};
use residua_memory::Budget;

use self::scan::{Planes, Scanned};
use self::spool::Spool;
use self::write::{Draft, Found, dense_bytes, sparse_bytes};
use crate::delta::OUTPUT_MEMORY;
use crate::delta::file::{Entry, Removed};
use crate::delta::row::Layout;
use crate::delta::target::{header_of, tensors_of};
use crate::delta::workers::{Workers, advance};
use crate::{DeltaOp, DiffOptions, DiffReport, New, Old, Output, Progress, SplitError, Stored, read_delta};

/// Bytes of memory that a row of a sparse matrix takes until the delta is written: two pointers and a mode.
const ROW_POINTERS: u64 = 4 + 4 + 1;

/// Compares two checkpoints of the same model and writes what changed: a delta, from which [`patch`](crate::patch())
/// restores the new checkpoint bit for bit.
///
/// Each checkpoint is a safetensors file, the index of a sharded checkpoint, or its directory. The output is replaced
/// only when the job succeeds.
///
/// # What is stored
/// The job compares bits, never numbers, so a NaN's payload and the sign of a zero count too, for every element type of
/// safetensors. The changed elements of a tensor form a gap-encoded sparse matrix
/// ([`GapPattern`](residua_format::GapPattern)). Its values are the new bits or old xor new ([`DeltaOp`]). Of an
/// unchanged tensor the delta holds the hash alone. It holds a tensor whole when that takes fewer bytes, when its shape
/// or element type changed, or when it is new; and the names of tensors that are gone.
///
/// The delta also holds the header of the new checkpoint and the BLAKE3 hash of every tensor of both checkpoints. The
/// hashes protect against mistakes and damage. They do not say who made a delta.
///
/// # Memory
/// Rows of 65,536 elements are streamed, a few per thread at a time, as the budget allows. One row is the minimum:
/// about 0.8 MiB for 16-bit elements and 1.9 MiB for 64-bit elements. The delta is the same, bit for bit, whatever the
/// budget and the number of threads.
///
/// # Errors
/// When the output is one of the inputs, a file cannot be read or written, a checkpoint is malformed, the budget does
/// not hold one row, or the caller stops the job.
///
/// # Example
/// ```
/// # use residua_format::file::{Dtype, SafetensorsWriter};
/// # let dir = tempfile::tempdir()?;
/// # let [a, b, delta, c] = ["a", "b", "delta", "c"].map(|name| dir.path().join(name));
/// # for (path, last) in [(&a, 7), (&b, 8)] {
/// #     let mut bytes = vec![1; 4000];
/// #     bytes[3999] = last;
/// #     let mut writer = SafetensorsWriter::create(path, 256)?;
/// #     writer.tensor("w", Dtype::BF16, &[40, 50], &bytes)?;
/// #     writer.finish()?;
/// # }
/// use residua_memory::Budget;
/// use residua_split::{Delta, DiffOptions, New, NoProgress, Old, Output, diff, patch};
///
/// let budget = Budget::new(64 << 20);
/// let report = diff(Old(&a), New(&b), Output(&delta), &DiffOptions::default(), &budget, &NoProgress)?;
/// assert_eq!((report.changed(), report.elements()), (1, 2000));
///
/// patch(Old(&a), Delta(&delta), Output(&c), &budget, &NoProgress)?;
/// assert_eq!(std::fs::read(&c)?, std::fs::read(&b)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn diff(
    old: Old<impl AsRef<Path>>,
    new: New<impl AsRef<Path>>,
    delta: Output<impl AsRef<Path>>,
    options: &DiffOptions,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<DiffReport, SplitError> {
    run(old.0.as_ref(), new.0.as_ref(), delta.0.as_ref(), options.op, budget, progress)
}

fn run(
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
            // Progress counts the bytes of new tensors.
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

    /// Hashes a tensor that only the old checkpoint has.
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
