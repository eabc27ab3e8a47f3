//! Planes that wait for their turn in the output, on disk.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use residua_format::file::ContainerWriter;

use crate::SplitError;

/// Bytes buffered before a write to the operating system.
const BUFFER: usize = 64 << 10;

/// One plane of the current tensor, in an unnamed temporary file. The system removes the file whatever happens to the
/// process. Every tensor uses the same file again.
#[derive(Debug)]
pub(super) struct WaitingPlane {
    file: BufWriter<File>,
    directory: PathBuf,
}

impl WaitingPlane {
    /// Bytes of memory that it takes.
    pub(super) const BYTES: u64 = BUFFER as u64;

    /// An empty plane, in the directory of the output.
    pub(super) fn beside(output: &Path) -> Result<Self, SplitError> {
        let directory = match output.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        match tempfile::tempfile_in(&directory) {
            Ok(file) => Ok(Self { file: BufWriter::with_capacity(BUFFER, file), directory }),
            Err(source) => Err(SplitError::TemporaryFile { directory, source }),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), SplitError> {
        let result = self.file.write_all(bytes);
        self.check(result)
    }

    /// Reads some of its content. The next write goes where the read ended.
    pub(super) fn read_at(&mut self, offset: u64, out: &mut [u8]) -> Result<(), SplitError> {
        let result = self.file.flush().and_then(|()| {
            let file = self.file.get_mut();
            file.seek(SeekFrom::Start(offset))?;
            file.read_exact(out)
        });
        self.check(result)
    }

    /// Replaces some of its content. The next write goes where this one ended.
    pub(super) fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SplitError> {
        let result = self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.write_all(bytes));
        self.check(result)
    }

    /// Makes it empty.
    pub(super) fn clear(&mut self) -> Result<(), SplitError> {
        let flushed = self.file.flush();
        self.check(flushed)?;
        let file = self.file.get_mut();
        let emptied = file.set_len(0).and_then(|()| file.rewind());
        self.check(emptied)
    }

    /// Writes its content to the output and becomes empty again.
    pub(super) fn drain(&mut self, output: &mut ContainerWriter) -> Result<(), SplitError> {
        self.drain_with(|bytes| Ok(output.write(bytes)?))
    }

    /// Gives its content to `write`, in pieces of [`BUFFER`] bytes, and becomes empty again.
    pub(super) fn drain_with(
        &mut self,
        mut write: impl FnMut(&[u8]) -> Result<(), SplitError>,
    ) -> Result<(), SplitError> {
        let rewound = self.file.flush().and_then(|()| self.file.get_mut().rewind());
        self.check(rewound)?;
        let mut buffer = Vec::with_capacity(BUFFER);
        loop {
            buffer.clear();
            let read = self.file.get_mut().take(BUFFER as u64).read_to_end(&mut buffer);
            match self.check(read)? {
                0 => break,
                _ => write(&buffer)?,
            }
        }
        self.clear()
    }

    fn check<T>(&self, result: std::io::Result<T>) -> Result<T, SplitError> {
        result.map_err(|source| SplitError::TemporaryFile { directory: self.directory.clone(), source })
    }
}
