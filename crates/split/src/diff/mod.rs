//! Two checkpoints in, delta out.
//!
//! `scan` compares tensors and puts the changes into spools. `write` writes the delta from the spools.

mod room;
mod scan;
mod spool;
mod write;

use std::path::Path;

use residua_format::file::{Checkpoint, CheckpointHasher, MatrixMeta, TensorInfo, check_output};
use residua_memory::{Budget, ErrorKind};

use self::room::{COMPARING, Needs, Room};
use self::scan::{Planes, Scanned};
use self::spool::Spool;
use self::write::{Draft, Found, dense_bytes, sparse_bytes};
use crate::delta::file::{Entry, Removed};
use crate::delta::row::Layout;
use crate::delta::target::{header_bytes, header_of, target_order};
use crate::delta::workers::{Workers, advance};
use crate::{DeltaOp, DiffOptions, DiffReport, New, Old, Output, Progress, SplitError, Stored};

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
/// When the output is one of the inputs, a file cannot be read or written, a checkpoint is malformed or its header changes
/// meanwhile, the budget does not hold one row, or the caller stops the job.
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
    let (old, new) = (old.0.as_ref(), new.0.as_ref());
    run(old, new, delta.0.as_ref(), options.op, budget, progress).or_else(|error| {
        if error.kind() == ErrorKind::Budget {
            // Where not even the headers fit, nothing has told the whole need yet.
            room::require(old, new, budget)?;
        }
        Err(error)
    })
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
    let (old, new) = (&Checkpoint::open_within(old, budget)?, &Checkpoint::open_within(new, budget)?);
    // Asked for all at once: an error then states the whole need.
    let (needs, header_bytes) = (Needs::of(old, new), header_bytes(new)?);
    budget.require(needs.least(header_bytes), COMPARING)?;
    let _fixed = budget.reserve(needs.fixed(header_bytes), "the tables of the delta")?;
    let layouts = old.tensors().iter().chain(new.tensors()).map(Layout::of);
    let header = header_of(new)?;
    let places = target_order(new);
    let targets = || places.iter().map(|&place| &new.tensors()[place]);
    let gone = old.tensors().iter().enumerate().filter(|(i, tensor)| place(new, &tensor.name, *i).is_none());
    let gone: Vec<&TensorInfo> = gone.map(|(_, tensor)| tensor).collect();

    let planes = Planes { index: Spool::new(delta, budget)?, values: Spool::new(delta, budget)? };
    let workers = Workers::new(layouts, budget, progress)?;
    let old_hashes = vec![String::new(); old.tensors().len()];
    let mut differ = Differ { old, new, op, planes, workers, progress, old_hashes };

    progress.begin("comparing", new.bytes() + gone.iter().map(|tensor| tensor.bytes).sum::<u64>());
    let (mut room, mut found) = (Room::new(delta), Vec::with_capacity(places.len()));
    for target in targets() {
        found.push(differ.tensor(target, found.len())?);
        found.last().map_or(Ok(()), |found| room.add(found))?;
    }
    let removed: Vec<Removed> =
        gone.into_iter().map(|tensor| differ.removed(tensor)).collect::<Result<_, _>>()?;
    progress.end();

    let Differ { planes, old_hashes, .. } = differ;
    let mut new_hashes = vec![""; new.tensors().len()];
    places.iter().zip(&found).for_each(|(&place, found)| new_hashes[place] = &found.entry.hash);
    let (base_hash, target_hash) =
        rayon::join(|| whole_hash(old, &old_hashes), || whole_hash(new, &new_hashes));
    drop((old_hashes, new_hashes));
    old.expect_same_headers()?;
    Draft { op, new, header, base_hash, target_hash, found, removed, planes }.write(delta, progress)
}

/// [`Checkpoint::hash`] from the hashes of the tensors, in their order.
fn whole_hash(checkpoint: &Checkpoint, hashes: &[impl AsRef<str>]) -> String {
    let mut whole = CheckpointHasher::new();
    for (place, tensor) in checkpoint.tensors_by_name() {
        whole.tensor(tensor, hashes[place].as_ref());
    }
    whole.finish()
}

/// Where a checkpoint has a tensor. `likely` is the place to look first: most checkpoints have the same order.
fn place(file: &Checkpoint, name: &str, likely: usize) -> Option<usize> {
    match file.tensors().get(likely) {
        Some(tensor) if tensor.name == name => Some(likely),
        _ => file.position(name),
    }
}

struct Differ<'a> {
    old: &'a Checkpoint,
    new: &'a Checkpoint,
    op: DeltaOp,
    planes: Planes,
    workers: Workers<'a>,
    progress: &'a dyn Progress,
    /// In the order of the old checkpoint's tensors.
    old_hashes: Vec<String>,
}

impl Differ<'_> {
    /// Finds how to store a tensor of the new checkpoint. `likely` is its place in the old one.
    fn tensor<'t>(&mut self, new: &'t TensorInfo, likely: usize) -> Result<Found<'t>, SplitError> {
        self.progress.tensor(&new.name);
        let Some(old_place) = place(self.old, &new.name, likely) else {
            let hash = self.hash(self.new, new)?;
            return Ok(Found::whole(new, Entry::new(Stored::Added, hash)));
        };
        let old = &self.old.tensors()[old_place];
        if (old.dtype, &old.shape) != (new.dtype, &new.shape) {
            // Progress counts the bytes of new tensors.
            let base_hash = self.workers.hash(self.old, old, |_| Ok(()))?;
            let mut entry = Entry::new(Stored::Reshaped, self.hash(self.new, new)?);
            entry.base = Some((old.dtype, old.shape.clone()));
            entry.base_hash = Some(base_hash.clone());
            self.old_hashes[old_place] = base_hash;
            return Ok(Found::whole(new, entry));
        }
        let start = self.planes.lengths();
        let Scanned { old_hash, new_hash, changed, sparse } =
            self.planes.scan(&mut self.workers, (self.old, old), (self.new, new), self.op, self.progress)?;
        self.old_hashes[old_place] = old_hash.clone();
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
                return Ok(Found { tensor: new, entry, matrix: Some(Box::new((meta, sparse))) });
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
        if let Some(place) = self.old.position(&tensor.name) {
            self.old_hashes[place] = hash.clone();
        }
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
