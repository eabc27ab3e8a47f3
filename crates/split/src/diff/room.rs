//! What the tables of a delta take: in memory, and in its header, which has a limit.

use std::path::Path;

use residua_format::file::{Checkpoint, FileError, SafetensorsWriter};

use super::write::Found;
use crate::delta::file::Entry;
use crate::{DiffTensor, SplitError};

/// The fewest bytes that a tensor takes in the header, without its name.
const TENSOR: u64 = 50;
/// The fewest bytes that a sparse matrix takes in the header, without its name: three planes and its metadata.
const MATRIX: u64 = 500;

/// Bytes of the texts of an entry in memory: two hashes; a second time as the table's JSON.
const TEXTS: u64 = 2 * (64 + 16) + 224;
/// Memory of the names, the element type and the shape in the report.
const REPORT: u64 = 128;
/// Memory of a tensor in the header of the output.
const WRITTEN: u64 = 192;
/// Memory of a sparse matrix: its metadata and short planes, and its planes in the header of the output.
const SPARSE: u64 = 4 << 10;
/// A tensor of fewer bytes is never stored sparse: its planes would take more.
const SMALLEST_SPARSE: u64 = 1 << 10;
/// Memory of a hash of the old checkpoint.
const OLD_HASH: u64 = 24 + 80;

/// Memory of the tables of a comparison, with one row of every tensor that may be stored sparse.
pub(super) fn memory(old: &Checkpoint, new: &Checkpoint) -> u64 {
    let fixed = (size_of::<Found<'_>>() + size_of::<Entry>() + size_of::<DiffTensor>()) as u64;
    let tensor = |name: &str, bytes: u64| {
        let sparse = if bytes < SMALLEST_SPARSE { 0 } else { SPARSE + 8 * name.len() as u64 };
        fixed + TEXTS + REPORT + WRITTEN + 2 * name.len() as u64 + sparse
    };
    let tensors = new.tensors().iter().map(|info| tensor(&info.name, info.bytes));
    tensors.sum::<u64>() + OLD_HASH * old.tensors().len() as u64
}

/// Counts the minimum size of the delta's header. A delta that is too long for any reader is refused as soon as that is known.
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
