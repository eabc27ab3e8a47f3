//! The memory budget of the commands about class statistics, seen from outside: the peak of the process as the
//! operating system counts it. One test, so that this process stays small itself.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![cfg(target_os = "linux")]

mod common;

use std::path::Path;

use common::{noise, peak};
use residua::format::file::{Dtype, SafetensorsWriter};

const ROWS: usize = 20_000;
const DIM: usize = 256;
const CLASSES: usize = 20;

/// Features of one model, row by row; `step` makes another model of it.
fn write_features(file: &mut SafetensorsWriter, name: &str, step: usize) {
    file.begin(name, Dtype::F32, &[ROWS, DIM]).unwrap();
    for row in 0..ROWS {
        let class = row % CLASSES;
        let value =
            |axis: usize| noise((class * DIM + axis) as u64) + noise((row * DIM + axis) as u64 + 9_999);
        let moved = |axis: usize| value(axis) + 0.3 * value((axis + step) % DIM);
        let values: Vec<f32> =
            (0..DIM).map(|axis| if step == 0 { value(axis) } else { moved(axis) }).collect();
        file.write(&common::bytes(&values)).unwrap();
    }
    file.end().unwrap();
}

fn write_all(path: &Path) {
    let mut file = SafetensorsWriter::create(path, 512).unwrap();
    write_features(&mut file, "before", 0);
    write_features(&mut file, "after", 3);
    let labels: Vec<u8> = (0..ROWS).map(|row| (row % CLASSES) as u8).collect();
    file.tensor("labels", Dtype::U8, &[ROWS], &labels).unwrap();
    file.finish().unwrap();
}

/// 20 MB of features a side, 20 classes of 256 dimensions.
#[test]
fn statistics_are_made_moved_and_used_within_the_budget() {
    let folder = tempfile::tempdir().unwrap();
    write_all(&folder.path().join("x.safetensors"));
    let (budget, bytes) = ("96MiB", 96u64 << 20);
    let mut commands: Vec<Vec<&str>> = vec![
        vec!["stats", "x.safetensors:before", "-o", "s.safetensors"],
        vec!["classify", "s.safetensors", "x.safetensors:before", "--classifier", "lda"],
        vec!["classify", "s.safetensors", "x.safetensors:before", "--classifier", "qda-shrink"],
        vec!["stats", "merge", "s.safetensors", "s.safetensors", "-o", "m.safetensors"],
        vec!["inspect", "s.safetensors"],
    ];
    let pairs =
        ["--before", "x.safetensors:before", "--after", "x.safetensors:after", "-o", "moved.safetensors"];
    for method in ["linear", "attention", "rff", "weak-nonlinear"] {
        commands.push([&["compensate", "s.safetensors", "--method", method], &pairs[..]].concat());
    }
    for command in commands {
        let start = std::time::Instant::now();
        let held = peak(folder.path(), &[&command[..], &["--memory-budget", budget]].concat());
        let seconds = start.elapsed().as_secs_f64();
        println!("{command:?} held {:.1} MiB, {seconds:.1} s", held as f64 / (1 << 20) as f64);
        assert!(held <= bytes, "{command:?} held {held} of {bytes} bytes");
    }
}
