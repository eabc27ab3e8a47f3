//! Files that appear complete or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, TempPath};

use super::{FileError, Result};

/// Bytes buffered before a write to the operating system.
const BUFFER: usize = 256 << 10;

/// A new file that replaces `target` when [`commit`](Self::commit) is called, and not before.
///
/// The file is written to the target's directory without a name. A commit flushes it to the disk, links it to a
/// temporary name (`.residua-….tmp`) and renames it. If it is dropped without a commit, or the process is killed,
/// nothing is left of it and the old target is intact.
///
/// Files without names exist on Linux and most of its file systems. Elsewhere the file has the temporary name from
/// the start, and a killed process leaves it behind.
///
/// The new file takes the permissions of the file that it replaces, or the defaults of the process. If the target is
/// a symbolic link, the file that the link points to is replaced.
#[derive(Debug)]
pub struct AtomicFile {
    writer: BufWriter<File>,
    /// The temporary name, if the file has one. Dropping it removes the file.
    name: Option<TempPath>,
    target: PathBuf,
    /// The target, links followed.
    place: PathBuf,
}

impl AtomicFile {
    /// Starts a new file that will replace `target`.
    ///
    /// # Errors
    /// When the target exists and is not a regular file, when it is a link to a missing file, or when its directory
    /// is missing or cannot be written to.
    pub fn create(target: impl AsRef<Path>) -> Result<Self> {
        Self::create_as(target.as_ref(), unnamed)
    }

    /// Checks whether `target` can be created. A job calls it before it does any work.
    ///
    /// # Errors
    /// As [`create`](Self::create), except for errors that only a write to the directory reveals.
    pub fn check(target: impl AsRef<Path>) -> Result<()> {
        place(target.as_ref()).map(drop)
    }

    /// As [`create`](Self::create). `unnamed` makes a file without a name in a directory; `None` where the system
    /// cannot.
    fn create_as(target: &Path, unnamed: impl FnOnce(&Path) -> Option<File>) -> Result<Self> {
        let place = place(target)?;
        let (file, name) = match unnamed(directory(&place)) {
            Some(file) => (file, None),
            None => {
                // The library's text names the temporary file. That name means nothing to the caller.
                let create = |error: io::Error| FileError::io(target, "create")(error.kind().into());
                let (file, name) = names().tempfile_in(directory(&place)).map_err(create)?.into_parts();
                (file, Some(name))
            }
        };
        if let Ok(old) = fs::metadata(&place) {
            let copied = file.set_permissions(ordinary(old.permissions()));
            copied.map_err(FileError::io(target, "take over the permissions of"))?;
        }
        Ok(Self { writer: BufWriter::with_capacity(BUFFER, file), name, target: target.to_owned(), place })
    }

    /// The file that will be replaced.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The new file, with everything written so far.
    pub(super) fn flushed(&mut self) -> Result<&File> {
        self.writer.flush().map_err(FileError::io(&self.target, "write"))?;
        Ok(self.writer.get_ref())
    }

    /// Makes the new file the target.
    ///
    /// # Errors
    /// When the file cannot be written to the disk or renamed. The old target stays then.
    pub fn commit(mut self) -> Result<()> {
        self.flushed()?.sync_all().map_err(FileError::io(&self.target, "write"))?;
        let Self { writer, name, target, place } = self;
        let persist = |name: TempPath| name.persist(&place).map_err(|error| error.error);
        let replaced = match name {
            Some(name) => persist(name),
            // If there is nothing to replace, the file gets its name in one step. Otherwise it has a temporary one for
            // the moment before it replaces the old file.
            None => match link_as(writer.get_ref(), &place) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    link(writer.get_ref(), directory(&place)).and_then(persist)
                }
                linked => linked,
            },
        };
        replaced.map_err(FileError::io(&target, "replace"))?;
        // The directory holds the new name and has its own cache.
        #[cfg(unix)]
        File::open(directory(&place))
            .and_then(|directory| directory.sync_all())
            .map_err(FileError::io(&target, "flush the directory of"))?;
        Ok(())
    }
}

/// The path of the new file: the target, or the file that it links to.
fn place(target: &Path) -> Result<PathBuf> {
    if fs::metadata(target).is_ok_and(|old| !old.is_file()) {
        return Err(FileError::malformed(target, "is not a regular file and will not be replaced"));
    }
    let place = match target.is_symlink() {
        true => fs::canonicalize(target).map_err(FileError::io(target, "follow the link"))?,
        false => target.to_owned(),
    };
    let folder = directory(&place);
    let create = FileError::io(target, "create");
    match fs::metadata(folder) {
        Ok(found) if !found.is_dir() => {
            let problem = format!("{} is not a folder", folder.display());
            Err(create(io::Error::new(io::ErrorKind::NotADirectory, problem)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(create(io::Error::new(error.kind(), format!("folder {} does not exist", folder.display()))))
        }
        Err(error) => Err(create(error)),
        Ok(_) if place.to_string_lossy().ends_with(std::path::is_separator) => {
            Err(create(io::Error::new(io::ErrorKind::IsADirectory, "it is named like a folder")))
        }
        Ok(_) => Ok(place),
    }
}

fn directory(target: &Path) -> &Path {
    match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Permissions without set-user-ID and set-group-ID: the owner may be another one now.
fn ordinary(permissions: fs::Permissions) -> fs::Permissions {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::Permissions::from_mode(permissions.mode() & 0o777)
    }
    #[cfg(not(unix))]
    permissions
}

/// Names of incomplete files.
fn names() -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    builder.prefix(".residua-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The system applies the process's umask, as for any new file.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder
}

/// A new file without a name in a directory. It can get a name later.
#[cfg(target_os = "linux")]
fn unnamed(folder: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(folder, flags, Mode::from_raw_mode(0o666)).ok()?);
    // The name comes by way of /proc, and /proc may not be mounted.
    Path::new(&path_of(&file)).exists().then_some(file)
}

/// Gives a name to a file without one.
#[cfg(target_os = "linux")]
fn link(file: &File, folder: &Path) -> io::Result<TempPath> {
    Ok(names().make_in(folder, |path| link_as(file, path))?.into_temp_path())
}

/// Gives a file without a name the name `path`, if that is free.
#[cfg(target_os = "linux")]
fn link_as(file: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    Ok(linkat(CWD, path_of(file), CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(target_os = "linux")]
fn path_of(file: &File) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

#[cfg(not(target_os = "linux"))]
fn unnamed(_: &Path) -> Option<File> {
    None
}

#[cfg(not(target_os = "linux"))]
fn link(_: &File, _: &Path) -> io::Result<TempPath> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn link_as(_: &File, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    type Unnamed = fn(&Path) -> Option<File>;

    /// With a name from the start, and without one where the system can do that.
    fn each_way(test: impl Fn(Unnamed)) {
        test(|_| None);
        test(unnamed);
    }

    #[test]
    fn the_old_file_stays_until_the_commit() {
        each_way(|unnamed| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("target");
            fs::write(&path, "old").unwrap();
            let files = || fs::read_dir(dir.path()).unwrap().count();
            let mut file = AtomicFile::create_as(&path, unnamed).unwrap();
            file.write_all(b"new").unwrap();
            assert_eq!(files(), 1 + usize::from(file.name.is_some()));
            drop(file);
            assert_eq!((fs::read(&path).unwrap(), files()), (b"old".to_vec(), 1));

            let mut file = AtomicFile::create_as(&path, unnamed).unwrap();
            file.write_all(b"new").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"old");
            file.commit().unwrap();
            assert_eq!((fs::read(&path).unwrap(), files()), (b"new".to_vec(), 1));
        });
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_any_new_file_or_of_the_old_one() {
        use std::os::unix::fs::PermissionsExt;
        each_way(|unnamed| {
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
            let dir = tempfile::tempdir().unwrap();
            let (plain, path) = (dir.path().join("plain"), dir.path().join("target"));
            fs::write(&plain, "").unwrap();
            AtomicFile::create_as(&path, unnamed).unwrap().commit().unwrap();
            assert_eq!(mode(&path), mode(&plain));
            fs::set_permissions(&path, fs::Permissions::from_mode(0o4640)).unwrap();
            AtomicFile::create_as(&path, unnamed).unwrap().commit().unwrap();
            assert_eq!(mode(&path), 0o640);
        });
    }

    /// Of the systems that this is tested on, so that the way without a name is not lost unseen.
    #[cfg(target_os = "linux")]
    #[test]
    fn linux_has_files_without_names() {
        let dir = tempfile::tempdir().unwrap();
        assert!(unnamed(dir.path()).is_some(), "{} is on a file system without them", dir.path().display());
        assert!(unnamed(&dir.path().join("absent")).is_none());
    }
}
