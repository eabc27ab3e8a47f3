//! What the tables of a delta take: in memory, and in its header, which has a limit.

use std::path::Path;

use residua_format::file::{Checkpoint, CheckpointSizes, FileError, SafetensorsWriter, TensorInfo};
use residua_memory::Budget;

use super::spool::Spool;
use super::write::{Found, MATRIX, may_be_sparse};
use crate::delta::OUTPUT_MEMORY;
use crate::delta::file::Entry;
use crate::delta::row::Layout;
use crate::delta::workers::Longest;
use crate::{DiffTensor, SplitError};

/// What the memory is for, in errors.
pub(super) const COMPARING: &str = "comparing the checkpoints";

/// The fewest bytes that a tensor takes in the header, without its name.
const TENSOR: u64 = 50;

/// Bytes of the texts of an entry in memory: two hashes; a second time as the table's JSON.
const TEXTS: u64 = 2 * (64 + 16) + 224;
/// Memory of the names, the element type and the shape in the report.
const REPORT: u64 = 128;
/// Memory of a tensor in the header of the output.
const WRITTEN: u64 = 192;
/// Memory of a sparse matrix: its metadata and short planes, and its planes in the header of the output.
const SPARSE: u64 = 4 << 10;
/// Memory of a hash of the old checkpoint.
const OLD_HASH: u64 = 24 + 80;

/// Bytes of memory that a row of a sparse matrix takes until the delta is written: two pointers and a mode.
const ROW_POINTERS: u64 = 4 + 4 + 1;

/// Memory of everything whose size the tensors decide.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// The tables, with one row of every tensor that may be stored sparse.
    tables: u64,
    /// Rows of the new checkpoint.
    rows: u64,
    longest: Longest,
}

impl Needs {
    /// Of two checkpoints.
    pub(super) fn of(old: &Checkpoint, new: &Checkpoint) -> Self {
        let mut needs = Self::default();
        old.tensors().iter().for_each(|tensor| needs.add_old(tensor));
        new.tensors().iter().for_each(|tensor| needs.add_new(tensor));
        needs
    }

    /// Adds a tensor of the old checkpoint.
    fn add_old(&mut self, tensor: &TensorInfo) {
        self.tables += OLD_HASH;
        self.longest.add(Layout::of(tensor));
    }

    /// Adds a tensor of the new checkpoint.
    fn add_new(&mut self, tensor: &TensorInfo) {
        let fixed = (size_of::<Found<'_>>() + size_of::<Entry>() + size_of::<DiffTensor>()) as u64;
        let name = tensor.name.len() as u64;
        let sparse = if may_be_sparse(tensor) { SPARSE + 8 * name } else { 0 };
        self.tables += fixed + TEXTS + REPORT + WRITTEN + 2 * name + sparse;
        self.rows += Layout::of(tensor).rows();
        self.longest.add(Layout::of(tensor));
    }

    /// The header of the new checkpoint, `header` bytes; tables, pointers of rows, and the buffers of the output. Short
    /// tables belong to the slack of the process.
    pub(super) fn fixed(&self, header: u64) -> u64 {
        let table = |bytes: u64| bytes.saturating_sub(Budget::SMALL_TABLE);
        table(header) + table(self.tables) + self.rows * ROW_POINTERS + OUTPUT_MEMORY
    }

    /// All of that, and the least to compare rows with.
    pub(super) fn least(&self, header: u64) -> u64 {
        self.fixed(header) + Spool::room_before(self.longest.slot_bytes())
    }
}

/// An error if the budget is too small to open the checkpoints and to compare them, with one that is enough. It holds
/// neither of them.
pub(super) fn require(old: &Path, new: &Path, budget: &Budget) -> Result<(), SplitError> {
    let mut needs = Needs::default();
    let old = CheckpointSizes::of(old, &mut |tensor| needs.add_old(&tensor))?;
    let new = CheckpointSizes::of(new, &mut |tensor| needs.add_new(&tensor))?;
    let opened = old.open + new.open + needs.least(new.text);
    let needed = old.opening.max(old.open + new.opening).max(opened);
    Ok(budget.require(needed, COMPARING)?)
}

/// Counts the minimum size of the delta's header. A delta that is too long for any reader is refused as soon as that is
/// known.
pub(super) struct Room<'a> {
    delta: &'a Path,
    bytes: u64,
}

impl<'a> Room<'a> {
    pub(super) fn new(delta: &'a Path) -> Self {
        Self { delta, bytes: 0 }
    }

    /// Adds a tensor.
    ///
    /// # Errors
    /// When that is too much.
    pub(super) fn add(&mut self, found: &Found<'_>) -> Result<(), SplitError> {
        let name = found.tensor.name.len() as u64;
        if found.matrix.is_some() {
            self.bytes += MATRIX + 4 * name;
        } else if found.entry.stored.is_whole() {
            self.bytes += TENSOR + name;
        }
        const MOST: u64 = SafetensorsWriter::MAX_HEADER;
        if self.bytes <= MOST {
            return Ok(());
        }
        let problem = format!("its header would have more than {MOST} bytes, which readers do not take");
        Err(FileError::malformed(self.delta, problem).into())
    }
}
