//! The memory budget, seen from outside: the peak of the process as the operating system counts it.
//!
//! A debug build's own code is so large that the smallest budgets are for release builds.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![cfg(target_os = "linux")]

mod common;

use std::process::{Command, Stdio};

use common::{RESIDUA, write_large};

/// Runs the binary to its end; the most memory it held, in bytes.
///
/// The kernel counts what the process held before it became the binary too, so this test must stay small
/// itself: one test a process, files written in pieces.
#[allow(clippy::zombie_processes, reason = "wait4 waits for it")]
fn peak(folder: &std::path::Path, arguments: &[&str]) -> u64 {
    let child =
        Command::new(RESIDUA).args(arguments).current_dir(folder).stdout(Stdio::null()).spawn().unwrap();
    let mut status = 0;
    // SAFETY: rusage is plain data for which all zeroes are valid; wait4 writes to the two places only.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::wait4(child.id() as i32, &mut status, 0, &mut usage), child.id() as i32);
        usage
    };
    assert_eq!(status, 0, "{arguments:?}");
    usage.ru_maxrss as u64 * 1024
}

/// Every streaming command on a tensor that is larger than the budget.
#[test]
fn a_tensor_larger_than_the_budget_is_processed_within_it() {
    const BUDGETS: &[(&str, u64)] = if cfg!(debug_assertions) {
        &[("64MiB", 64 << 20)]
    } else {
        &[("32MiB", 32 << 20), ("64MiB", 64 << 20)]
    };
    let folder = tempfile::tempdir().unwrap();
    write_large(&folder.path().join("model.safetensors"), 128);
    for &(name, bytes) in BUDGETS {
        let commands: [&[&str]; 7] = [
            &["split", "model.safetensors", "-o", "split.safetensors"],
            &["inspect", "split.safetensors"],
            &["verify", "split.safetensors", "--against", "model.safetensors"],
            &["materialize", "split.safetensors", "-o", "dense.safetensors"],
            &["report", "split.safetensors", "-o", "report.html", "--against", "model.safetensors"],
            &["diff", "model.safetensors", "dense.safetensors", "-o", "delta.safetensors"],
            &["patch", "model.safetensors", "delta.safetensors", "-o", "patched.safetensors"],
        ];
        for command in commands {
            let held = peak(folder.path(), &[command, &["--memory-budget", name]].concat());
            println!("{name}: {command:?} held {:.1} MiB", held as f64 / (1 << 20) as f64);
            assert!(held <= bytes, "{command:?} held {held} of {bytes} bytes");
        }
    }
}
