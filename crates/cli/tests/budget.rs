//! The memory budget, seen from outside: the peak of the process from the operating system.
//!
//! The smallest budgets are for release builds, because the code of a debug build is too large.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![cfg(target_os = "linux")]

mod common;

use common::{peak, write_large};

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
        let inputs = "layer.weight=model.safetensors";
        let commands: [&[&str]; 10] = [
            &["calibrate", inputs, "-o", "squares.safetensors"],
            &["calibrate", inputs, "-o", "moments.safetensors", "--second-moments", "--block", "256"],
            &["split", "model.safetensors", "-o", "split.safetensors"],
            &["inspect", "split.safetensors"],
            &["verify", "split.safetensors", "--against", "model.safetensors"],
            &[
                &["verify", "split.safetensors", "--against", "model.safetensors"][..],
                &["--calibration", "moments.safetensors"],
            ]
            .concat(),
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
