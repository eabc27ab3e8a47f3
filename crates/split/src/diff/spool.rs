//! The long planes of all tensors, until the delta is written.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use residua_memory::{Budget, Reservation};
use tempfile::SpooledTempFile;

use crate::SplitError;

/// Bytes that a spool keeps in memory, at most.
const MEMORY: u64 = 16 << 20;
/// Bytes read back at a time.
const BLOCK: usize = 64 << 10;

/// A growing run of bytes. It starts in memory and moves to an unnamed file beside the output when it grows. The
/// system removes the file whatever happens to the process.
#[derive(Debug)]
pub(super) struct Spool {
    file: SpooledTempFile,
    directory: PathBuf,
    length: u64,
    _held: Reservation,
}

impl Spool {
    /// An empty spool for an output at `path`. Its memory is at most an eighth of what is left of the budget.
    pub(super) fn new(path: &Path, budget: &Budget) -> Result<Self, SplitError> {
        let memory = MEMORY.min(budget.available() / 8);
        // A growing vector may hold twice its content.
        let held = budget.reserve(memory, "planes of the delta")?;
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let file = SpooledTempFile::new_in((memory / 2) as usize, &directory);
        Ok(Self { file, directory, length: 0, _held: held })
    }

    /// What a budget must have left so that two new spools leave `bytes` of it.
    pub(super) fn room_before(bytes: u64) -> u64 {
        // Each takes an eighth at most.
        (bytes * 64).div_ceil(49)
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), SplitError> {
        let written = self.file.write_all(bytes);
        self.check(written)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Cuts the spool to its first `length` bytes.
    pub(super) fn truncate(&mut self, length: u64) -> Result<(), SplitError> {
        let cut = self.file.set_len(length).and_then(|()| self.file.seek(SeekFrom::Start(length)));
        self.check(cut)?;
        self.length = length;
        Ok(())
    }

    /// Starts to read at the first byte. Nothing may be appended after that.
    pub(super) fn rewind(&mut self) -> Result<(), SplitError> {
        let rewound = self.file.rewind();
        self.check(rewound)
    }

    /// Passes the next `length` bytes to `write`, block by block.
    pub(super) fn drain(
        &mut self,
        length: u64,
        mut write: impl FnMut(&[u8]) -> Result<(), SplitError>,
    ) -> Result<(), SplitError> {
        let mut block = vec![0; BLOCK.min(length as usize)];
        let mut left = length;
        while left > 0 {
            let piece = &mut block[..left.min(BLOCK as u64) as usize];
            let read = self.file.read_exact(piece);
            self.check(read)?;
            write(piece)?;
            left -= piece.len() as u64;
        }
        Ok(())
    }

    fn check<T>(&self, result: io::Result<T>) -> Result<T, SplitError> {
        result.map_err(|source| SplitError::TemporaryFile { directory: self.directory.clone(), source })
    }
}
