//! What the tables of a delta take: in memory, and in its header, which has a limit.

use std::path::Path;

use residua_format::file::{Checkpoint, FileError, SafetensorsWriter, TensorInfo};
use residua_memory::Budget;

use super::write::{Found, MATRIX, may_be_sparse};
use crate::delta::OUTPUT_MEMORY;
use crate::delta::file::Entry;
use crate::delta::row::Layout;
use crate::delta::target::header_bytes;
use crate::{DiffTensor, SplitError};

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

/// Memory of everything whose size the checkpoints decide: the header of the new one, tables, pointers of rows, and the
/// buffers of the output. Short tables belong to the slack of the process.
pub(super) fn fixed(old: &Checkpoint, new: &Checkpoint) -> Result<u64, SplitError> {
    let table = |bytes: u64| bytes.saturating_sub(Budget::SMALL_TABLE);
    let rows: u64 = new.tensors().iter().map(|tensor| Layout::of(tensor).rows()).sum();
    Ok(table(header_bytes(new)?) + table(tables(old, new)) + rows * ROW_POINTERS + OUTPUT_MEMORY)
}

/// Memory of the tables of a comparison, with one row of every tensor that may be stored sparse.
fn tables(old: &Checkpoint, new: &Checkpoint) -> u64 {
    let fixed = (size_of::<Found<'_>>() + size_of::<Entry>() + size_of::<DiffTensor>()) as u64;
    let tensor = |tensor: &TensorInfo| {
        let name = tensor.name.len() as u64;
        let sparse = if may_be_sparse(tensor) { SPARSE + 8 * name } else { 0 };
        fixed + TEXTS + REPORT + WRITTEN + 2 * name + sparse
    };
    let tensors = new.tensors().iter().map(tensor);
    tensors.sum::<u64>() + OLD_HASH * old.tensors().len() as u64
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
