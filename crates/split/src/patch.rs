//! Old checkpoint and delta in, new checkpoint out.

use std::io::Write;
use std::path::Path;

use residua_format::FormatError;
use residua_format::file::{
    AtomicFile, Checkpoint, CheckpointSizes, Container, FileError, Plane, check_output,
};
use residua_memory::{Budget, BudgetError, ErrorKind};

use crate::delta::OUTPUT_MEMORY;
use crate::delta::file::{DeltaFile, Entry, delta_op};
use crate::delta::row::{Layout, ROW, apply};
use crate::delta::sizes::DeltaSizes;
use crate::delta::target::Target;
use crate::delta::tree_hash::TreeHash;
use crate::delta::workers::{Longest, Slot, Workers, advance, read_row};
use crate::progress::check_stop;
use crate::report::reserve_report;
use crate::{Delta, Old, Output, PatchReport, PatchedTensor, Progress, SplitError, Stored};

/// Writes the new checkpoint of a delta, one safetensors file, from the old checkpoint.
///
/// The old checkpoint is a safetensors file, the index of a sharded checkpoint, or its directory. If the new checkpoint
/// was one file, the output equals it byte by byte, header and metadata included. The output is replaced only when
/// every tensor has the hash that the delta holds for it.
///
/// # Errors
/// When the output is one of the inputs, a file cannot be read or written, the old checkpoint is not the one that the
/// delta was made from (the error names the first tensor that differs), the delta is damaged, the budget does not hold
/// one row, or the caller stops the job.
pub fn patch(
    old: Old<impl AsRef<Path>>,
    delta: Delta<impl AsRef<Path>>,
    new: Output<impl AsRef<Path>>,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<PatchReport, SplitError> {
    let (old, delta) = (old.0.as_ref(), delta.0.as_ref());
    run(old, delta, new.0.as_ref(), budget, progress).or_else(|error| {
        if error.kind() == ErrorKind::Budget {
            // The error says what one of the tables needs, not the whole job.
            require(old, delta, budget)?;
        }
        Err(error)
    })
}

/// An error if the budget is too small for the whole job, with one that is enough. It holds none of the tables.
fn require(old: &Path, delta: &Path, budget: &Budget) -> Result<(), SplitError> {
    let mut longest = Longest::default();
    let old = CheckpointSizes::of(old, &mut |tensor| longest.add(Layout::of(&tensor)))?;
    let delta = DeltaSizes::of(delta, &mut |_| {})?;
    let (reading, read) = delta.tables();
    let slot = longest.slot_bytes().max(delta.longest.slot_bytes());
    let job = read + delta.report::<PatchedTensor>() + OUTPUT_MEMORY + slot;
    let opened = delta.file.opening.max(delta.file.open + reading.max(job));
    Ok(budget.require(old.opening.max(old.open + opened), "restoring the checkpoint")?)
}

fn run(
    old: &Path,
    delta: &Path,
    new: &Path,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<PatchReport, SplitError> {
    check_output(new, [old, delta])?;
    let (old, delta) = (&Checkpoint::open_within(old, budget)?, Container::open_within(delta, budget)?);
    let delta = &DeltaFile::new(&delta)?;
    check_layout(old, delta)?;
    let names = delta.tensors().map(|(target, _)| &*target.name);
    let removed = delta.removed.iter().map(|removed| &*removed.name);
    let _report = reserve_report::<PatchedTensor>(names.chain(removed), budget)?;
    let targets = delta.tensors().map(|(target, _)| Layout::of(target));
    let _output = budget.reserve(OUTPUT_MEMORY, "the output's buffer")?;
    let workers = Workers::new(old.tensors().iter().map(Layout::of).chain(targets), budget, progress)?;
    let output = AtomicFile::create(new)?;
    let mut patcher = Patcher { old, delta, workers, output, progress };

    let removed: u64 = delta.removed.iter().filter_map(|r| old.tensor(&r.name)).map(|t| t.bytes).sum();
    progress.begin("patching", removed + delta.tensors().map(|(target, _)| target.bytes).sum::<u64>());
    for removed in &delta.removed {
        progress.tensor(&removed.name);
        let hash = patcher.hash_old(&removed.name)?;
        patcher.check_base(&removed.name, &removed.hash, hash)?;
    }
    let header = delta.header.as_bytes();
    patcher.write(&(header.len() as u64).to_le_bytes())?;
    patcher.write(header)?;
    let mut report =
        PatchReport { tensors: Vec::new(), removed: Vec::new(), output_bytes: 8 + header.len() as u64 };
    for (target, entry) in delta.tensors() {
        progress.tensor(&target.name);
        patcher.tensor(target, entry)?;
        report.output_bytes += target.bytes;
        let Target { name, bytes, .. } = target;
        report.tensors.push(PatchedTensor { name: name.clone(), stored: entry.stored, bytes: *bytes });
    }
    report.removed = delta.removed.iter().map(|removed| removed.name.clone()).collect();
    check_stop(progress)?;
    patcher.output.commit()?;
    progress.end();
    Ok(report)
}

/// Fails unless the old checkpoint has exactly the tensors that the delta was made from.
fn check_layout(old: &Checkpoint, delta: &DeltaFile<'_>) -> Result<(), SplitError> {
    let mut known = 0;
    let mut check = |name: &str, dtype, shape: &[usize]| {
        let Some(tensor) = old.tensor(name) else {
            return Err(wrong_base(old, delta, name, "it is missing"));
        };
        if (tensor.dtype, &*tensor.shape) != (dtype, shape) {
            let (found, has) = (tensor.dtype, &tensor.shape);
            let problem = format!("it is {found} {has:?}, not {dtype} {shape:?}");
            return Err(wrong_base(old, delta, name, &problem));
        }
        known += 1;
        Ok(())
    };
    for (target, entry) in delta.tensors() {
        match &entry.base {
            _ if entry.stored == Stored::Added => {
                if old.tensor(&target.name).is_some() {
                    return Err(wrong_base(old, delta, &target.name, "the delta's base does not have it"));
                }
            }
            Some((dtype, shape)) if entry.stored == Stored::Reshaped => check(&target.name, *dtype, shape)?,
            _ => check(&target.name, target.dtype, &target.shape)?,
        }
    }
    for removed in &delta.removed {
        check(&removed.name, removed.dtype, &removed.shape)?;
    }
    if known < old.tensors().len() {
        let mut listed = vec![false; old.tensors().len()];
        let targets = delta.tensors().map(|(target, _)| &target.name);
        for name in targets.chain(delta.removed.iter().map(|removed| &removed.name)) {
            if let Some(position) = old.position(name) {
                listed[position] = true;
            }
        }
        if let Some((tensor, _)) = old.tensors().iter().zip(listed).find(|(_, listed)| !listed) {
            return Err(wrong_base(old, delta, &tensor.name, "the delta's base does not have it"));
        }
    }
    Ok(())
}

fn wrong_base(old: &Checkpoint, delta: &DeltaFile<'_>, tensor: &str, problem: &str) -> SplitError {
    let path = old.tensor(tensor).map_or(old.path(), |tensor| old.file_of(tensor));
    let delta = delta.container.path().display();
    FileError::tensor(path, tensor, format!("not the base that {delta} was made from: {problem}")).into()
}

struct Patcher<'a> {
    old: &'a Checkpoint,
    delta: &'a DeltaFile<'a>,
    workers: Workers<'a>,
    output: AtomicFile,
    progress: &'a dyn Progress,
}

impl Patcher<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SplitError> {
        write(&mut self.output, bytes)
    }

    fn hash_old(&mut self, name: &str) -> Result<String, SplitError> {
        let progress = self.progress;
        self.workers.hash(self.old, self.old.expect_tensor(name)?, |row| {
            advance(progress, row);
            Ok(())
        })
    }

    fn check_base(&self, tensor: &str, expected: &str, found: String) -> Result<(), SplitError> {
        if found == expected {
            return Ok(());
        }
        let problem = format!("its content differs (BLAKE3 {found}, expected {expected})");
        Err(wrong_base(self.old, self.delta, tensor, &problem))
    }

    /// Restores and writes one tensor.
    fn tensor(&mut self, target: &Target, entry: &Entry) -> Result<(), SplitError> {
        let name = &target.name;
        let base_hash = self.delta.base_hash(target, entry);
        let found = match entry.stored {
            Stored::Same | Stored::Sparse => {
                let (base, found) = self.restore(target, entry)?;
                self.check_base(name, base_hash.unwrap_or_default(), base)?;
                found
            }
            Stored::Replaced | Stored::Reshaped | Stored::Added => {
                if let Some(expected) = base_hash {
                    let tensor = self.old.expect_tensor(name)?;
                    let base = self.workers.hash(self.old, tensor, |_| Ok(()))?;
                    self.check_base(name, expected, base)?;
                }
                let (file, output, progress) = (self.delta.container.file(), &mut self.output, self.progress);
                self.workers.hash(file, file.expect_tensor(name)?, |row| {
                    advance(progress, row);
                    write(output, row)
                })?
            }
        };
        if found == entry.hash {
            return Ok(());
        }
        let path = self.delta.container.path().to_owned();
        let what = format!("what tensor {name} becomes (the delta is damaged)");
        Err(FileError::Hash { path, what, expected: entry.hash.clone(), found }.into())
    }

    /// Restores and writes a tensor from the old one and its sparse matrix, if it has one. Returns the hashes of
    /// both.
    fn restore(&mut self, target: &Target, entry: &Entry) -> Result<(String, String), SplitError> {
        let (old, delta, output, progress) = (self.old, self.delta, &mut self.output, self.progress);
        let tensor = old.expect_tensor(&target.name)?;
        let layout = Layout::of(tensor);
        let (mut old_hash, mut new_hash) = (TreeHash::default(), TreeHash::default());
        self.workers.for_rows(
            layout.rows(),
            |slot, row| {
                read_row(old, tensor, layout, row, &mut slot.old)?;
                slot.old_part = layout.hash_row(&slot.old, row);
                slot.new_part = slot.old_part;
                if entry.stored == Stored::Sparse && apply_row(delta, &target.name, layout, row, slot)? {
                    slot.new_part = layout.hash_row(&slot.old, row);
                }
                Ok(())
            },
            |slot, _| {
                old_hash.push(slot.old_part);
                new_hash.push(slot.new_part);
                advance(progress, &slot.old);
                write(output, &slot.old)
            },
        )?;
        Ok((old_hash.finish(), new_hash.finish()))
    }
}

fn write(output: &mut AtomicFile, bytes: &[u8]) -> Result<(), SplitError> {
    let written = output.write_all(bytes);
    Ok(written.map_err(FileError::io(output.target(), "write"))?)
}

/// Applies a row of a sparse matrix to the old row in `slot`. Returns `false` if the row is empty.
fn apply_row(
    delta: &DeltaFile<'_>,
    name: &str,
    layout: Layout,
    row: u64,
    slot: &mut Slot,
) -> Result<bool, SplitError> {
    let container = delta.container;
    // The room of a slot: two bytes per column. An encoder never takes a mode that needs more.
    let room = Budget::new(2 * ROW as u64 + 64);
    let at = row as usize;
    let (pattern, entries) =
        container.read_pattern_rows(name, at..at + 1, &room).map_err(|error| at_row(error, at))?;
    if entries.is_empty() {
        return Ok(false);
    }
    // A valid pattern has at most one entry per column.
    slot.values.resize((entries.end - entries.start) as usize * layout.size, 0);
    container.read_plane_at(name, Plane::Values, entries.start * layout.size as u64, &mut slot.values)?;
    let op = container.matrix(name).and_then(|matrix| delta_op(matrix.op)).unwrap_or_default();
    apply(layout.size, op, (&pattern, 0), &slot.values, &mut slot.old).ok_or_else(|| {
        let source = FormatError::GapRow { row: at, problem: "a column lies outside the tensor" };
        FileError::matrix(container.path(), name)(source)
    })?;
    Ok(true)
}

/// Names the real row in an error. Rows are read one at a time, as row 0.
fn at_row(error: FileError, row: usize) -> FileError {
    match error {
        FileError::Matrix { path, tensor, source: FormatError::GapRow { problem, .. } } => {
            FileError::Matrix { path, tensor, source: FormatError::GapRow { row, problem } }
        }
        // The row has more bytes than a row can have, so its pointers are wrong.
        FileError::Budget { path, source: BudgetError { what, .. } } => {
            FileError::tensor(&path, &what, format!("row {row} has more index bytes than a row can have"))
        }
        other => other,
    }
}
