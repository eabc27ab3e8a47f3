//! Tensors in memory and a delta in, the same tensors with their new values out.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use residua_format::file::{Container, Dtype, FileError, Held, Plane};
use residua_format::{FormatError, GapPattern};
use residua_memory::{Budget, Reservation};

use crate::delta::file::{DeltaFile, Entry, delta_op};
use crate::delta::row::{Layout, apply};
use crate::delta::target::Target;
use crate::delta::tree_hash::TreeHash;
use crate::progress::check_stop;
use crate::{Delta, DeltaOp, PatchReport, PatchedTensor, Progress, SplitError, Stored};

/// A tensor in the caller's memory.
#[derive(Debug)]
pub struct TensorMut<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: &'a [usize],
    /// Its elements, row-major and little-endian.
    pub bytes: &'a mut [u8],
}

/// What a delta changes in one tensor, in memory.
enum Change {
    /// Some elements, with their new bits or what they are xor-ed with.
    Sparse { op: DeltaOp, pattern: Held<GapPattern>, values: Vec<u8>, _held: Reservation },
    /// All elements.
    Whole(Vec<u8>, #[allow(dead_code, reason = "held")] Reservation),
}

/// Applies a delta to tensors in memory. Everything is verified before the first byte changes: the tensors against the
/// hashes of the old checkpoint, and what they become against those of the new one. So they all change or none does.
///
/// Tensors that the delta does not know stay as they are. The job holds the delta in memory, and a row of 65,536
/// elements for each thread.
///
/// # Errors
/// When a tensor is missing or is not the one that the delta was made from, the delta adds, removes or reshapes a
/// tensor (memory cannot follow), it is damaged, it does not fit the budget, or the caller stops the job.
pub fn apply_into(
    tensors: &mut [TensorMut<'_>],
    delta: Delta<impl AsRef<Path>>,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<PatchReport, SplitError> {
    let container = Container::open_within(delta.0.as_ref(), budget)?;
    let delta = &DeltaFile::new(&container)?;
    let places: BTreeMap<&str, usize> = tensors.iter().enumerate().map(|(at, t)| (t.name, at)).collect();
    let mut found = Vec::new();
    for (target, entry) in delta.tensors() {
        found.push(place(delta, target, entry, tensors, &places)?);
    }
    if let Some(removed) = delta.removed.first() {
        let problem = "the delta removes it; tensors in memory cannot follow: patch a file instead";
        return Err(wrong(delta, &removed.name, problem));
    }
    let bytes = delta.tensors().map(|(target, _)| Layout::new(target.dtype, target.bytes).longest_row());
    let rows = bytes.max().unwrap_or(0) as u64 * rayon::current_num_threads() as u64;
    let _rows = budget.reserve(rows, "a row for each thread")?;
    progress.begin("applying", delta.tensors().map(|(target, _)| target.bytes).sum());
    let mut changes = Vec::new();
    let mut report = PatchReport { tensors: Vec::new(), removed: Vec::new(), output_bytes: 0 };
    for ((target, entry), &at) in delta.tensors().zip(&found) {
        progress.tensor(&target.name);
        let change = read(delta, target, entry, budget)?;
        verify(delta, target, entry, tensors[at].bytes, change.as_ref(), progress)?;
        changes.extend(change.map(|change| (at, Layout::new(target.dtype, target.bytes), change)));
        let Target { name, bytes, .. } = target;
        report.tensors.push(PatchedTensor { name: name.clone(), stored: entry.stored, bytes: *bytes });
        report.output_bytes += bytes;
    }
    check_stop(progress)?;
    // From here on nothing can fail: every row was tried.
    for (at, layout, change) in changes {
        write(tensors[at].bytes, layout, &change);
    }
    progress.end();
    Ok(report)
}

/// Where the tensor is that a delta changes.
fn place(
    delta: &DeltaFile<'_>,
    target: &Target,
    entry: &Entry,
    tensors: &[TensorMut<'_>],
    places: &BTreeMap<&str, usize>,
) -> Result<usize, SplitError> {
    let problem = match entry.stored {
        Stored::Added => "adds it",
        Stored::Reshaped => "changes its shape or element type",
        Stored::Same | Stored::Sparse | Stored::Replaced => "",
    };
    if !problem.is_empty() {
        let problem = format!("the delta {problem}; tensors in memory cannot follow: patch a file instead");
        return Err(wrong(delta, &target.name, &problem));
    }
    let Some(&at) = places.get(&*target.name) else {
        return Err(wrong(delta, &target.name, "it is missing among the tensors"));
    };
    let TensorMut { dtype, shape, bytes, .. } = &tensors[at];
    if (*dtype, *shape) != (target.dtype, &*target.shape) {
        let problem = format!("it is {dtype} {shape:?}, not {} {:?}", target.dtype, target.shape);
        return Err(wrong(delta, &target.name, &problem));
    }
    if bytes.len() as u64 != target.bytes {
        let problem = format!("it has {} bytes, not {}", bytes.len(), target.bytes);
        return Err(wrong(delta, &target.name, &problem));
    }
    Ok(at)
}

/// A tensor that is not the one that the delta was made from, or cannot become what the delta says.
fn wrong(delta: &DeltaFile<'_>, tensor: &str, problem: &str) -> SplitError {
    FileError::tensor(delta.container.path(), tensor, problem).into()
}

/// Reads what a delta changes in a tensor; `None` if that stays the same.
fn read(
    delta: &DeltaFile<'_>,
    target: &Target,
    entry: &Entry,
    budget: &Budget,
) -> Result<Option<Change>, SplitError> {
    let (container, name) = (delta.container, &*target.name);
    let bytes = |size: u64, tensor: &residua_format::file::TensorInfo| -> Result<_, SplitError> {
        let held = budget.reserve(size, &format!("the changes of tensor {name}"))?;
        let mut bytes = vec![0; size as usize];
        container.file().read_at(tensor, 0, &mut bytes)?;
        Ok((bytes, held))
    };
    match entry.stored {
        Stored::Same => Ok(None),
        Stored::Sparse => {
            let matrix = container.matrix(name).map(|matrix| (matrix.op, matrix.entries));
            let (op, entries) = matrix.unwrap_or_default();
            let size = Layout::new(target.dtype, target.bytes).size as u64;
            let (values, _held) = bytes(entries * size, container.plane(name, Plane::Values)?)?;
            let pattern = container.read_pattern(name, budget)?;
            Ok(Some(Change::Sparse { op: delta_op(op).unwrap_or_default(), pattern, values, _held }))
        }
        Stored::Replaced | Stored::Reshaped | Stored::Added => {
            let (bytes, held) = bytes(target.bytes, container.file().expect_tensor(name)?)?;
            Ok(Some(Change::Whole(bytes, held)))
        }
    }
}

impl Change {
    /// Turns the old row into the new one. `None` if a column lies beyond its end.
    fn apply(&self, layout: Layout, row: u64, bytes: &mut [u8]) -> Option<()> {
        match self {
            Self::Sparse { op, pattern, values, .. } => {
                let entries = pattern.row_entries(row as usize);
                let values = values.get(entries.start * layout.size..entries.end * layout.size)?;
                apply(layout.size, *op, (pattern, row as usize), values, bytes)
            }
            Self::Whole(new, _) => {
                let (start, length) = layout.row(row);
                bytes.copy_from_slice(new.get(start as usize..start as usize + length)?);
                Some(())
            }
        }
    }
}

/// Fails unless `old` has the hash of the old checkpoint, and the change makes it what has the hash of the new one.
fn verify(
    delta: &DeltaFile<'_>,
    target: &Target,
    entry: &Entry,
    old: &[u8],
    change: Option<&Change>,
    progress: &dyn Progress,
) -> Result<(), SplitError> {
    let layout = Layout::new(target.dtype, target.bytes);
    let hash = |(row, bytes): (usize, &[u8]), scratch: &mut Vec<u8>| {
        check_stop(progress)?;
        let row = row as u64;
        let part = layout.hash_row(bytes, row);
        let Some(change) = change else { return Ok((part, part)) };
        scratch.clear();
        scratch.extend_from_slice(bytes);
        let applied = change.apply(layout, row, scratch).ok_or_else(|| {
            let source =
                FormatError::GapRow { row: row as usize, problem: "a column lies outside the tensor" };
            FileError::matrix(delta.container.path(), &target.name)(source)
        });
        applied?;
        Ok((part, layout.hash_row(scratch, row)))
    };
    let rows = old.par_chunks(layout.row_bytes() as usize).enumerate();
    let parts: Vec<Result<_, SplitError>> =
        rows.map_init(Vec::new, |scratch, row| hash(row, scratch)).collect();
    let (mut before, mut after) = (TreeHash::default(), TreeHash::default());
    for part in parts {
        let (old, new) = part?;
        before.push(old);
        after.push(new);
    }
    progress.advance(target.bytes);
    let (found, expected) = (before.finish(), delta.base_hash(target, entry).unwrap_or_default());
    if found != expected {
        let problem = format!(
            "the tensor in memory is not the one that the delta was made from (BLAKE3 {found}, expected {expected})"
        );
        return Err(wrong(delta, &target.name, &problem));
    }
    let found = after.finish();
    if found != entry.hash {
        let path = delta.container.path().to_owned();
        let what = format!("what tensor {} becomes (the delta is damaged)", target.name);
        return Err(FileError::Hash { path, what, expected: entry.hash.clone(), found }.into());
    }
    Ok(())
}

fn write(bytes: &mut [u8], layout: Layout, change: &Change) {
    bytes.par_chunks_mut(layout.row_bytes() as usize).enumerate().for_each(|(row, bytes)| {
        let applied = change.apply(layout, row as u64, bytes);
        debug_assert!(applied.is_some(), "the row was tried before");
    });
}
