//! Folders that become complete outputs, or nothing.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use tempfile::TempDir;

const PREFIX: &str = ".residua-";
const SUFFIX: &str = ".tmp";
/// Letters and digits between them.
const RANDOM: usize = 6;

/// A folder with a temporary name. Dropping it removes it, unless it was moved; a killed process leaves it behind.
///
/// A living process has a lock on its folder, on Unix and where the file system has locks. So the next one can tell
/// which folders are dead.
#[derive(Debug)]
pub(crate) struct TemporaryFolder {
    folder: TempDir,
    _lock: Option<File>,
}

impl TemporaryFolder {
    /// A new folder in `parent`. Removes the folders there that killed processes left.
    pub(crate) fn create(parent: &Path) -> io::Result<Self> {
        remove_dead(parent);
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).suffix(SUFFIX).rand_bytes(RANDOM);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // The system applies the process's umask, as for any new folder.
            builder.permissions(fs::Permissions::from_mode(0o777));
        }
        loop {
            let folder = builder.tempdir_in(parent)?;
            let lock = lock(folder.path());
            // Another process may have taken it for dead before it was locked.
            if !matches!(lock, Err(TryLockError::WouldBlock)) && folder.path().exists() {
                return Ok(Self { folder, _lock: lock.ok() });
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Moves the folder to `target`, where nothing is.
    pub(crate) fn rename(self, target: &Path) -> io::Result<()> {
        fs::rename(self.path(), target)?;
        // It has moved: there is nothing to remove.
        let _ = self.folder.keep();
        Ok(())
    }
}

/// Locks a folder.
fn lock(folder: &Path) -> Result<File, TryLockError> {
    if cfg!(not(unix)) {
        return Err(TryLockError::Error(io::ErrorKind::Unsupported.into()));
    }
    let file = File::open(folder).map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}

/// Removes the temporary folders that no process works on. Those of other users may stay.
fn remove_dead(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let random = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
        let is_ours = random.is_some_and(|random| {
            random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
        // A link to a folder is no folder here.
        if is_ours
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Ok(_lock) = lock(&entry.path())
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn dead_folders_go_and_all_others_stay() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        for name in [".residua-Ab12cd.tmp", ".residua-longer1.tmp", "residua-Ab12cd.tmp"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("model.safetensors"), "half of it").unwrap();
        }
        fs::write(at(".residua-Ab12ce.tmp"), "a file").unwrap();
        std::os::unix::fs::symlink(at("residua-Ab12cd.tmp"), at(".residua-Ab12cf.tmp")).unwrap();
        let living = TemporaryFolder::create(parent.path()).unwrap();
        assert!(!at(".residua-Ab12cd.tmp").exists());
        let second = TemporaryFolder::create(parent.path()).unwrap();
        assert!(living.path().exists() && second.path() != living.path());
        drop((living, second));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 4);
    }
}
