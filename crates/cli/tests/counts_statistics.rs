//! 200,000 classes: every command for class statistics keeps its budget or refuses at once with a number that is enough.
//! There is only one test, so that this process stays small.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![cfg(target_os = "linux")]

mod common;

use std::path::Path;

use common::{Run, noise, npy_features, npy_labels, run_within, stated};

const CLASSES: usize = 200_000;
fn run(folder: &Path, budget: u64, arguments: &[&str]) -> Run {
    run_within(folder, &[arguments, &["--threads", "2"]].concat(), budget)
}

/// The command refuses a small budget at once; the number that it states is enough, and three quarters of it are not.
fn refuses_and_then_runs(folder: &Path, arguments: &[&str]) {
    let start = std::time::Instant::now();
    let refused = run(folder, 40 << 20, arguments);
    assert_eq!(refused.code, Some(4), "{arguments:?}: {}", refused.stderr);
    let seconds = start.elapsed().as_secs_f64();
    let enough = stated(&refused.stderr);
    let fewer = run(folder, enough / 4 * 3, arguments);
    assert_eq!(fewer.code, Some(4), "{arguments:?}: {}", fewer.stderr);
    let done = run(folder, enough, arguments);
    assert_eq!(done.code, Some(0), "{arguments:?}, {enough} bytes: {}", done.stderr);
    println!("{arguments:?}: refused in {seconds:.1} s, {} of {enough} bytes", done.peak);
    assert!(done.peak <= enough, "{arguments:?} held {} of {enough} bytes", done.peak);
}

#[test]
fn many_classes_keep_the_budget_or_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let rows = 2 * CLASSES;
    let features: Vec<f32> = (0..2 * rows as u64).map(noise).collect();
    npy_features(&folder.join("x.npy"), 2, &features);
    npy_features(&folder.join("few.npy"), 2, &features[..64]);
    npy_labels(&folder.join("y.npy"), &(0..rows).map(|row| (row % CLASSES) as u32).collect::<Vec<_>>());
    drop(features);

    refuses_and_then_runs(folder, &["stats", "x.npy", "--labels", "y.npy", "-o", "s.safetensors"]);
    std::fs::copy(folder.join("s.safetensors"), folder.join("t.safetensors")).unwrap();
    refuses_and_then_runs(folder, &["classify", "s.safetensors", "few.npy", "--classifier", "ncm"]);
    let pairs = ["--before", "few.npy", "--after", "few.npy", "-o", "m.safetensors"];
    refuses_and_then_runs(folder, &[&["compensate", "s.safetensors"], &pairs[..]].concat());
    refuses_and_then_runs(folder, &["task", "state.safetensors", "--after", "x.npy", "--labels", "y.npy"]);

    let commands: [&[&str]; 6] = [
        &["inspect", "s.safetensors"],
        &["report", "s.safetensors", "-o", "report.html"],
        &["compensate", "s.safetensors", "--before", "few.npy", "--after", "few.npy", "-o", "m.safetensors"],
        &["stats", "merge", "s.safetensors", "t.safetensors", "-o", "m.safetensors"],
        &["stats", "extract", "state.safetensors", "-o", "m.safetensors"],
        &["classify", "s.safetensors", "few.npy", "-o", "predicted.npy"],
    ];
    for command in commands {
        for mebibytes in [16, 64, 256] {
            let done = run(folder, mebibytes << 20, command);
            println!("{command:?}, {mebibytes} MiB: exit {:?}, {} bytes", done.code, done.peak);
            assert!(matches!(done.code, Some(0 | 4)), "{command:?}, {mebibytes} MiB: {}", done.stderr);
            assert!(done.code == Some(4) || done.peak <= mebibytes << 20, "{command:?}: {} bytes", done.peak);
        }
    }
}
