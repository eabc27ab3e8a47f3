//! A killed run leaves its folder unchanged, and the next run succeeds.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{RESIDUA, write_large};

/// Bytes of the unfinished file: the process has it open in the folder, without a name. `None` if there is none.
fn unfinished(folder: &Path, process: u32) -> Option<u64> {
    // It may be gone by now.
    fs::read_dir(format!("/proc/{process}/fd")).ok()?.flatten().find_map(|entry| {
        let file = fs::read_link(entry.path()).ok()?;
        let unfinished = file.starts_with(folder) && file.to_string_lossy().ends_with(" (deleted)");
        unfinished.then(|| entry.path().metadata().ok().map(|metadata| metadata.len())).flatten()
    })
}

/// Every file of the folder, with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let path = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().path();
    fs::read_dir(folder).unwrap().map(path).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Starts the command in `folder` and sends it a signal after its first write. Returns `None` if the command was faster,
/// else its exit code, if it could choose one.
fn signalled_while_writing(folder: &Path, arguments: &[&str], signal: i32) -> Option<Option<i32>> {
    let mut child = Command::new(RESIDUA)
        .args(arguments)
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while unfinished(folder, child.id()).is_none_or(|bytes| bytes == 0) {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    // SAFETY: kill takes any numbers; nobody has waited for the child, so it still has its number.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
    let status = child.wait().unwrap();
    (!status.success()).then(|| status.code())
}

fn survives(folder: &Path, arguments: &[&str], output: &str) {
    let output = folder.join(output);
    let old = b"the old file".repeat(1000);
    fs::write(&output, &old).unwrap();
    let before = files(folder);
    let mut attempts = 0;
    // The process has no chance to tidy up.
    while signalled_while_writing(folder, arguments, libc::SIGKILL).is_none() {
        attempts += 1;
        assert!(attempts < 20, "{arguments:?} is always done before it can be killed");
        fs::write(&output, &old).unwrap();
    }
    assert!(files(folder) == before, "{arguments:?}: something was touched or left behind");
    let again = Command::new(RESIDUA).args(arguments).current_dir(folder).output().unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert!(fs::read(&output).unwrap() != old);
}

#[test]
fn split_and_patch_leave_the_old_file_when_killed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = &folder.path().canonicalize().unwrap();
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

/// A program that a signal ends says so with its exit code.
#[test]
fn an_interrupted_run_tidies_up() {
    let folder = tempfile::tempdir().unwrap();
    let folder = &folder.path().canonicalize().unwrap();
    write_large(&folder.join("model.safetensors"), 64);
    let output = folder.join("split.safetensors");
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut attempts = 0;
        fs::write(&output, "the old file").unwrap();
        let before = files(folder);
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
        assert!(files(folder) == before, "something was touched or left behind");
    }
}
