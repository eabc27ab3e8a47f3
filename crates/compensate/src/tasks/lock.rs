//! One job at a time on the file of a saved state.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use residua_format::file::FileError;

use crate::Result;

/// Exclusive access to the file of a saved state, for as long as this lives.
///
/// A task reads the state and replaces it. Of two that do so at once, the one that ends last would lose what the other
/// has added. So take this before you look at the state, and keep it until the task is finished.
///
/// The lock is on the file itself, or on its folder while there is no file: a process that is killed releases it and
/// leaves nothing behind. It binds those who take it, on Unix, and on file systems that have locks; elsewhere it binds
/// nobody.
#[derive(Debug)]
pub struct SequenceLock {
    _held: Option<File>,
}

impl SequenceLock {
    /// Takes the lock of the state at `path`; `None` while somebody else has it.
    ///
    /// # Errors
    /// When the file or its folder cannot be opened.
    pub fn take(path: impl AsRef<Path>) -> Result<Option<Self>> {
        let path = path.as_ref();
        if cfg!(not(unix)) {
            return Ok(Some(Self { _held: None }));
        }
        let lock = lock(path).map_err(FileError::io(path, "lock"))?;
        Ok(lock.map(|file| Self { _held: Some(file) }))
    }
}

fn lock(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = existing(path, |path| File::open(path))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            // Not every file system has locks.
            Err(TryLockError::Error(_)) => return Ok(Some(file)),
            Ok(()) => {}
        }
        // Who held the lock may have replaced the file since it was opened, or made the first one.
        if id(&existing(path, |path| fs::metadata(path))?) == id(&file.metadata()?) {
            return Ok(Some(file));
        }
    }
}

/// `open` of the file, or of its folder where there is no file.
fn existing<T>(path: &Path, open: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
    match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            open(folder.unwrap_or(Path::new(".")))
        }
        other => other,
    }
}

/// What stays the same of a file under any name, and differs between a file and its replacement.
#[cfg(unix)]
fn id(file: &fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (file.dev(), file.ino())
}

#[cfg(not(unix))]
fn id(_: &fs::Metadata) {}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_whether_there_is_a_state_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        for there in [false, true] {
            if there {
                fs::write(&path, "a state").unwrap();
            }
            let first = SequenceLock::take(&path).unwrap();
            assert!(first.is_some());
            assert!(SequenceLock::take(&path).unwrap().is_none());
            drop(first);
            assert!(SequenceLock::take(&path).unwrap().is_some());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_replaced_state_is_locked_under_its_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, new) = (folder.path().join("state"), folder.path().join("new"));
        fs::write(&path, "old").unwrap();
        let first = SequenceLock::take(&path).unwrap();
        fs::write(&new, "new").unwrap();
        fs::rename(&new, &path).unwrap();
        // The first job is done once its file is in place.
        let second = SequenceLock::take(&path).unwrap();
        assert!(first.is_some() && second.is_some());
        assert!(SequenceLock::take(&path).unwrap().is_none());
    }

    #[test]
    fn states_of_one_folder_do_not_wait_for_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| folder.path().join(name));
        paths.iter().for_each(|path| fs::write(path, "a state").unwrap());
        let locks = paths.map(|path| SequenceLock::take(path).unwrap());
        assert!(locks.iter().all(Option::is_some));
    }
}
