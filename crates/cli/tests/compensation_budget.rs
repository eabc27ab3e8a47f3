//! The memory budget of the commands for class statistics, seen from outside: the peak of the process from the
//! operating system. There is only one test, so that this process stays small.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![cfg(target_os = "linux")]

mod common;

use std::path::Path;

use common::{noise, peak};
use residua::compensate::statistics::{StatisticsReader, StatisticsWriter};
use residua::format::file::{Dtype, SafetensorsWriter};
use residua::memory::Budget;

const DIM: usize = 256;
const CLASSES: usize = 20;

/// Features of one model, row by row; `step` makes another model of it.
fn write_features(file: &mut SafetensorsWriter, name: &str, rows: usize, step: usize) {
    file.begin(name, Dtype::F32, &[rows, DIM]).unwrap();
    for row in 0..rows {
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

/// `before` and `after` of `rows` samples, and labels.
fn write_all(path: &Path, rows: usize) {
    write_labelled(path, rows, |row| row % CLASSES);
}

/// Like [`write_all`], with 40 samples per class, labels from `first` on.
fn write_classes(path: &Path, classes: usize, first: usize) {
    write_labelled(path, 40 * classes, |row| first + row % classes);
}

fn write_labelled(path: &Path, rows: usize, label: impl Fn(usize) -> usize) {
    let mut file = SafetensorsWriter::create(path, 512).unwrap();
    write_features(&mut file, "before", rows, 0);
    write_features(&mut file, "after", rows, 3);
    let labels: Vec<u8> = (0..rows).flat_map(|row| (label(row) as u16).to_le_bytes()).collect();
    file.tensor("labels", Dtype::U16, &[rows], &labels).unwrap();
    file.finish().unwrap();
}

/// The classes of a file, each under `times` labels; bytes of the new file.
fn multiply(from: &Path, to: &Path, times: u32) -> u64 {
    let budget = Budget::unlimited();
    let few = StatisticsReader::open(from, &budget).unwrap();
    let mut many = StatisticsWriter::create(to, few.dim(), 0, &budget).unwrap();
    for (label, _) in few.counts() {
        let class = few.class(label, &budget).unwrap().unwrap();
        (0..times).for_each(|time| many.add(label * times + time, &class).unwrap());
    }
    many.finish().unwrap().file_bytes
}

/// Runs a command; it must hold at most `mebibytes`.
fn within(folder: &Path, mebibytes: u64, command: &[&str]) {
    let budget = format!("{mebibytes}MiB");
    let start = std::time::Instant::now();
    let held = peak(folder, &[command, &["--memory-budget", &budget]].concat());
    let seconds = start.elapsed().as_secs_f64();
    println!("{command:?} held {:.1} MiB, {seconds:.1} s", held as f64 / (1 << 20) as f64);
    assert!(held <= mebibytes << 20, "{command:?} held {held} bytes of {budget}");
}

/// First 20 MB of features a side and 20 classes of 256 dimensions; then statistics larger than the budget.
#[test]
fn statistics_are_made_moved_and_used_within_the_budget() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_all(&folder.join("x.safetensors"), 20_000);
    let stats = ["stats", "x.safetensors:before"];
    within(folder, 96, &[&stats[..], &["-o", "s.safetensors"]].concat());
    let classify = ["classify", "s.safetensors", "x.safetensors:before", "--classifier"];
    within(folder, 96, &[&classify[..], &["lda"]].concat());
    within(folder, 96, &[&classify[..], &["qda-shrink"]].concat());
    let tune = ["--tune", "x.safetensors:before", "--tune-labels", "labels"];
    within(folder, 96, &[&classify[..], &["qda-pooled"], &tune].concat());
    let after = ["stats", "x.safetensors:after", "--labels", "labels", "-o", "t.safetensors"];
    within(folder, 96, &after);
    within(folder, 96, &["stats", "merge", "s.safetensors", "t.safetensors", "-o", "m.safetensors"]);
    within(folder, 96, &["inspect", "s.safetensors"]);
    let pairs = ["--before", "x.safetensors:before", "--after", "x.safetensors:after"];
    for method in ["linear", "attention", "rff", "weak-nonlinear"] {
        let compensate = ["compensate", "s.safetensors", "-o", "moved.safetensors", "--method", method];
        within(folder, 96, &[&compensate[..], &pairs].concat());
    }

    let precise = ["--storage", "packed", "--precision", "f64", "-o", "few.safetensors"];
    within(folder, 96, &[&stats[..], &precise].concat());
    let bytes = multiply(&folder.join("few.safetensors"), &folder.join("many.safetensors"), 18);
    assert!(bytes > 80 << 20);
    within(folder, 72, &["inspect", "many.safetensors"]);
    write_all(&folder.join("y.safetensors"), 1000);
    let pairs = ["--before", "y.safetensors:before", "--after", "y.safetensors:after"];
    let compensate = ["compensate", "many.safetensors", "-o", "moved.safetensors"];
    within(folder, 72, &[&compensate[..], &pairs].concat());
    within(folder, 72, &["stats", "merge", "many.safetensors", "moved.safetensors", "-o", "m.safetensors"]);

    // The state of two methods; after a second task it is larger than the budget.
    write_classes(&folder.join("first.safetensors"), 400, 0);
    write_classes(&folder.join("second.safetensors"), 20, 400);
    let task = ["task", "state.safetensors", "--labels", "labels", "--after"];
    let methods = ["--method", "linear", "--method", "rff"];
    within(folder, 72, &[&task[..], &["first.safetensors:before"], &methods].concat());
    let second = ["second.safetensors:after", "--before", "second.safetensors:before"];
    within(folder, 74, &[&task[..], &second].concat());
    assert!(folder.join("state.safetensors").metadata().unwrap().len() > 80 << 20);
    let extract = ["stats", "extract", "state.safetensors", "-o", "extracted.safetensors"];
    within(folder, 72, &[&extract[..], &["--method", "rff"]].concat());
    within(folder, 72, &extract);
}
