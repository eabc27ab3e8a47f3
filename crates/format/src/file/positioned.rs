//! Files to read, and reads and writes at a position: they leave the file's cursor alone where the system allows it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use super::{FileError, Result};

/// Opens a regular file for reading; also its length in bytes. Every reader opens its files here.
///
/// # Errors
/// When the file cannot be opened, or is a folder, a pipe, a socket or a device: a pipe would be waited for without
/// end, and none of them can be read at a position.
pub fn open_regular(path: &Path) -> Result<(File, u64)> {
    // Asked before it is opened: opening some devices does something already.
    check_regular(path, &std::fs::metadata(path).map_err(FileError::io(path, "open"))?)?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // A pipe that took the file's place since then is opened at once, and refused below. Of a regular file it
        // changes nothing.
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    }
    let file = options.open(path).map_err(FileError::io(path, "open"))?;
    let metadata = file.metadata().map_err(FileError::io(path, "read"))?;
    check_regular(path, &metadata)?;
    Ok((file, metadata.len()))
}

fn check_regular(path: &Path, metadata: &Metadata) -> Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let what = if metadata.is_dir() { "is a folder, not a regular file" } else { "not a regular file" };
    Err(FileError::malformed(path, what))
}

/// Bytes of a file, read or written from front to back.
#[derive(Debug)]
pub(super) struct Section<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl<'a> Section<'a> {
    /// `length` bytes from `offset` on.
    pub(super) fn new(file: &'a File, offset: u64, length: u64) -> Self {
        Self { file, offset, left: length }
    }

    fn next(&mut self, wanted: usize) -> (u64, usize) {
        let (offset, count) = (self.offset, self.left.min(wanted as u64));
        self.offset += count;
        self.left -= count;
        (offset, count as usize)
    }
}

impl Read for Section<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let (offset, count) = self.next(out.len());
        read_exact_at(self.file, &mut out[..count], offset)?;
        Ok(count)
    }
}

impl Write for Section<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (offset, count) = self.next(bytes.len());
        write_all_at(self.file, &bytes[..count], offset)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(unix)]
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
pub(crate) fn read_exact_at(file: &File, mut out: &mut [u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !out.is_empty() {
        match file.seek_read(out, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                out = &mut out[n..];
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(windows)]
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        match file.seek_write(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Opening a pipe that nobody writes to would wait for ever.
    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, socket) = (folder.path().join("pipe"), folder.path().join("socket"));
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let device = Path::new("/dev/zero");
        for path in [&*pipe, &*socket, device, folder.path()] {
            let error = open_regular(path).unwrap_err();
            assert!(error.to_string().contains("not a regular file"), "{error}");
            assert_eq!(error.kind(), residua_memory::ErrorKind::Input);
        }
        let file = folder.path().join("file");
        std::fs::write(&file, b"abc").unwrap();
        assert_eq!(open_regular(&file).unwrap().1, 3);
        assert_eq!(
            open_regular(&folder.path().join("none")).unwrap_err().kind(),
            residua_memory::ErrorKind::Io
        );
    }
}
