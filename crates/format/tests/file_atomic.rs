//! A target is replaced by a complete file or not at all, and keeps its permissions.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;

use residua_format::file::AtomicFile;

#[test]
fn the_old_file_stays_until_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("target");
    fs::write(&path, "old").unwrap();
    let mut file = AtomicFile::create(&path).unwrap();
    file.write_all(b"new").unwrap();
    drop(file);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

    let mut file = AtomicFile::create(&path).unwrap();
    file.write_all(b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"old");
    file.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn directories_and_missing_parents_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = AtomicFile::create(dir.path()).unwrap_err().to_string();
    assert!(error.contains("is not a regular file"), "{error}");
    let error = AtomicFile::create(&dir.path().join("no/such/file")).unwrap_err().to_string();
    assert!(error.contains("no/such/file: cannot create"), "{error}");
}

#[cfg(unix)]
#[test]
fn permissions_are_those_of_any_new_file_or_of_the_old_one() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let dir = tempfile::tempdir().unwrap();
    let (plain, path, link) = (dir.path().join("plain"), dir.path().join("target"), dir.path().join("link"));
    fs::write(&plain, "").unwrap();
    AtomicFile::create(&path).unwrap().commit().unwrap();
    assert_eq!(mode(&path), mode(&plain));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    AtomicFile::create(&path).unwrap().commit().unwrap();
    assert_eq!(mode(&path), 0o640);

    // A link is replaced; what it pointed to stays. A device is not.
    fs::write(&path, "kept").unwrap();
    symlink(&path, &link).unwrap();
    AtomicFile::create(&link).unwrap().commit().unwrap();
    assert_eq!((fs::read(&link).unwrap(), fs::read(&path).unwrap()), (b"".to_vec(), b"kept".to_vec()));
    let error = AtomicFile::create("/dev/null".as_ref()).unwrap_err().to_string();
    assert!(error.contains("/dev/null: is not a regular file"), "{error}");
}
