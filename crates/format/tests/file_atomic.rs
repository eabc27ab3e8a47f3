//! What may be a target, and which file a link as a target stands for.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;

use residua_format::file::AtomicFile;

#[test]
fn directories_and_missing_parents_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let table = [
        ("", "is not a regular file"),
        ("no/such/file", "no/such does not exist"),
        ("file/below", "file is not a folder"),
        ("new/", "named like a folder"),
    ];
    for (target, message) in table {
        let target = dir.path().join(target);
        let error = AtomicFile::create(&target).unwrap_err().to_string();
        assert!(error.contains(message) && !error.contains(".residua-"), "{error}");
        assert_eq!(AtomicFile::check(&target).unwrap_err().to_string(), error);
    }
    AtomicFile::check(dir.path().join("file")).unwrap();
    AtomicFile::check(dir.path().join("new")).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn links_are_followed() {
    use std::os::unix::fs::symlink;

    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let (file, link, second) = (folder.join("file"), dir.path().join("link"), dir.path().join("second"));
    fs::write(&file, "old").unwrap();
    symlink("folder/file", &link).unwrap();
    symlink("link", &second).unwrap();
    let mut new = AtomicFile::create(&second).unwrap();
    new.write_all(b"new").unwrap();
    new.commit().unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"new");
    assert!(link.is_symlink() && second.is_symlink());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);

    fs::remove_file(&file).unwrap();
    let error = AtomicFile::create(&link).unwrap_err().to_string();
    assert!(error.contains("cannot follow the link"), "{error}");
    let error = AtomicFile::create("/dev/null").unwrap_err().to_string();
    assert!(error.contains("/dev/null: is not a regular file"), "{error}");
}
