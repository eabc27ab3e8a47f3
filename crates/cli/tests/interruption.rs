//! A killed run leaves the old output as it was, and the next run succeeds.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![cfg(unix)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{RESIDUA, write_large};

/// Bytes of the unfinished file, which lies beside its target; `None` when there is none.
fn unfinished(folder: &Path) -> Option<u64> {
    fs::read_dir(folder).unwrap().find_map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let unfinished = name.starts_with(".residua-") && name.ends_with(".tmp");
        // It may be gone by now.
        unfinished.then(|| entry.metadata().ok().map(|metadata| metadata.len())).flatten()
    })
}

/// Starts the command in `folder` and sends it a signal once it has written something; `None` when it was
/// faster, else its exit code, if it had the chance to choose one.
fn signalled_while_writing(folder: &Path, arguments: &[&str], signal: i32) -> Option<Option<i32>> {
    let mut child = Command::new(RESIDUA)
        .args(arguments)
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while unfinished(folder).is_none_or(|bytes| bytes == 0) {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    // SAFETY: kill takes any numbers; the child has not been waited for, so that its number is still its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
    let status = child.wait().unwrap();
    (!status.success()).then(|| status.code())
}

fn survives(folder: &Path, arguments: &[&str], output: &str) {
    let output = folder.join(output);
    let old = b"the old file".repeat(1000);
    // Files that earlier runs left behind must not matter.
    fs::write(&output, &old).unwrap();
    let mut attempts = 0;
    // The process has no chance to tidy up.
    while signalled_while_writing(folder, arguments, libc::SIGKILL).is_none() {
        attempts += 1;
        assert!(attempts < 20, "{arguments:?} is always done before it can be killed");
        fs::write(&output, &old).unwrap();
    }
    assert!(fs::read(&output).unwrap() == old, "{arguments:?}: the old file was touched");
    assert!(unfinished(folder).is_some(), "{arguments:?}: nothing was left half-written");
    let again = Command::new(RESIDUA).args(arguments).current_dir(folder).output().unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert!(fs::read(&output).unwrap() != old);
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|suffix| suffix == "tmp") {
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn split_and_patch_leave_the_old_file_when_killed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_large(&folder.join("model.safetensors"), 64);
    survives(folder, &["split", "model.safetensors", "-o", "split.safetensors"], "split.safetensors");
    let run = |arguments: &[&str]| {
        assert!(Command::new(RESIDUA).args(arguments).current_dir(folder).output().unwrap().status.success());
    };
    run(&["verify", "split.safetensors"]);
    run(&["materialize", "split.safetensors", "-o", "dense.safetensors"]);
    run(&["diff", "model.safetensors", "dense.safetensors", "-o", "delta.safetensors"]);
    let patch = ["patch", "model.safetensors", "delta.safetensors", "-o", "patched.safetensors"];
    survives(folder, &patch, "patched.safetensors");
    assert!(
        fs::read(folder.join("patched.safetensors")).unwrap()
            == fs::read(folder.join("dense.safetensors")).unwrap()
    );
}

/// Who is asked to end takes the unfinished file along.
#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_run_tidies_up() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_large(&folder.join("model.safetensors"), 64);
    let output = folder.join("split.safetensors");
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut attempts = 0;
        let code = loop {
            fs::write(&output, "the old file").unwrap();
            let arguments = ["split", "model.safetensors", "-o", "split.safetensors"];
            match signalled_while_writing(folder, &arguments, signal) {
                Some(code) => break code,
                None => attempts += 1,
            }
            assert!(attempts < 20, "it is always done before it can be interrupted");
        };
        assert_eq!(code, Some(130));
        assert_eq!(fs::read(&output).unwrap(), b"the old file");
        assert!(unfinished(folder).is_none(), "something half-written was left");
    }
}
