//! Files that appear complete or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use super::{FileError, Result};

/// Bytes that are gathered before they go to the operating system.
const BUFFER: usize = 256 << 10;

/// A new file that takes the place of `target` when [`commit`](Self::commit) is called, and not before.
///
/// It is written beside the target under a name of its own (`.residua-….tmp`), flushed to the disk and
/// renamed. Dropped without a commit it is removed; a killed process leaves it behind and the old target
/// intact. It takes over the permissions of the file that it replaces, else the process's default ones. A
/// target that is a symbolic link is replaced by the new file; what it pointed to stays as it is.
#[derive(Debug)]
pub struct AtomicFile {
    writer: BufWriter<NamedTempFile>,
    target: PathBuf,
}

impl AtomicFile {
    /// Starts a new file that is to replace `target`.
    ///
    /// # Errors
    /// When the target is there and no regular file, or its directory cannot be written to.
    pub fn create(target: &Path) -> Result<Self> {
        let old = fs::metadata(target).ok();
        if old.as_ref().is_some_and(|old| !old.is_file()) {
            return Err(FileError::malformed(target, "is not a regular file, and will not be replaced"));
        }
        let mut builder = Builder::new();
        builder.prefix(".residua-").suffix(".tmp");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // The system takes the process's umask off, as for any new file.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let temp = builder.tempfile_in(directory(target)).map_err(FileError::io(target, "create"))?;
        if let Some(old) = old {
            let copied = temp.as_file().set_permissions(old.permissions());
            copied.map_err(FileError::io(target, "take over the permissions of"))?;
        }
        Ok(Self { writer: BufWriter::with_capacity(BUFFER, temp), target: target.to_owned() })
    }

    /// The file that is to be replaced.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The new file, everything written so far in it.
    pub(super) fn flushed(&mut self) -> Result<&File> {
        self.writer.flush().map_err(FileError::io(&self.target, "write"))?;
        Ok(self.writer.get_ref().as_file())
    }

    /// Makes the new file the target.
    ///
    /// # Errors
    /// When the disk does not take it; the old target stays then.
    pub fn commit(mut self) -> Result<()> {
        self.flushed()?.sync_all().map_err(FileError::io(&self.target, "write"))?;
        let Self { writer, target } = self;
        let temp = writer.into_inner().map_err(|e| FileError::io(&target, "write")(e.into_error()))?;
        temp.persist(&target).map_err(|e| FileError::io(&target, "replace")(e.error))?;
        // The new name lives in the directory, which has a cache of its own.
        #[cfg(unix)]
        File::open(directory(&target))
            .and_then(|directory| directory.sync_all())
            .map_err(FileError::io(&target, "flush the directory of"))?;
        Ok(())
    }
}

fn directory(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.writer.seek(to)
    }
}
