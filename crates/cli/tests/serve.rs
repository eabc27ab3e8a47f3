//! The server for `cargo xtask bench`; it takes turns with other programs.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{RESIDUA, bytes, noise};
use residua::format::file::{Dtype, SafetensorsWriter};
use serde_json::Value;

const ROWS: usize = 20;
const COLS: usize = 50;

/// Every third place of every row, like the benchmark's data.
fn write(folder: &Path) -> Vec<(usize, usize, f32)> {
    let mut entries = Vec::new();
    for row in 0..ROWS {
        entries.extend((row % 3..COLS).step_by(3).map(|col| (row, col, noise((row * COLS + col) as u64))));
    }
    let pointers = (0..=ROWS).map(|row| entries.iter().filter(|entry| entry.0 < row).count());
    let integers = |values: &mut dyn Iterator<Item = usize>| -> Vec<u8> {
        values.flat_map(|value| (value as u32).to_le_bytes()).collect()
    };
    let data: Vec<f32> = entries.iter().map(|entry| entry.2).collect();
    let save = |name: &str, tensors: &[(&str, Dtype, Vec<u8>)]| {
        let mut file = SafetensorsWriter::create(folder.join(name), 512).unwrap();
        file.metadata("rows", ROWS.to_string());
        file.metadata("cols", COLS.to_string());
        for (name, dtype, bytes) in tensors {
            file.tensor(name, *dtype, &[bytes.len() / 4], bytes).unwrap();
        }
        file.finish().unwrap();
    };
    let indices = integers(&mut entries.iter().map(|entry| entry.1));
    let pointers = integers(&mut pointers.into_iter());
    let rows = integers(&mut entries.iter().map(|entry| entry.0));
    save(
        "csr-00.safetensors",
        &[
            ("indptr", Dtype::I32, pointers),
            ("indices", Dtype::I32, indices.clone()),
            ("data", Dtype::F32, bytes(&data)),
        ],
    );
    save(
        "coo.safetensors",
        &[("row", Dtype::I32, rows), ("col", Dtype::I32, indices), ("data", Dtype::F32, bytes(&data))],
    );
    entries
}

/// Σ|y|, from the definition.
fn check(entries: &[(usize, usize, f32)], batch: usize) -> f64 {
    let mut y = vec![0.0f64; ROWS * batch];
    for &(row, col, value) in entries {
        for b in 0..batch {
            let step = if batch == 1 { col } else { 31 * col + 7 * b };
            y[row * batch + b] += f64::from(value) * (step % 17) as f64 / 16.0;
        }
    }
    y.iter().map(|y| y.abs()).sum()
}

#[test]
fn requests_are_answered_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let entries = write(folder.path());
    let weights: Vec<f32> = (0..4096).map(noise).collect();
    let mut dense = SafetensorsWriter::create(folder.path().join("dense.safetensors"), 256).unwrap();
    dense.tensor("weight", Dtype::F32, &[64, 64], &bytes(&weights)).unwrap();
    dense.finish().unwrap();
    for (side, step) in [("old", 0.0), ("new", 1.0)] {
        std::fs::create_dir(folder.path().join(side)).unwrap();
        let path = folder.path().join(side).join("model.safetensors");
        let mut file = SafetensorsWriter::create(&path, 256).unwrap();
        let mut weights = weights.clone();
        weights[5] += step;
        file.tensor("weight", Dtype::F32, &[64, 64], &bytes(&weights)).unwrap();
        file.finish().unwrap();
    }

    let requests =
        ["spmv 1", "spmm 1", "spmv 2", "spmm 2", "coo 1", "split 1", "compare 1", "spin 1", "spmv", "spmv x"];
    let mut lines = String::new();
    requests.iter().for_each(|request| writeln!(lines, "{request}").unwrap());
    let mut child = Command::new(RESIDUA)
        .args(["bench", "--serve", "--values", "f32"])
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let replies: Vec<Value> =
        common::text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(replies.len(), 1 + requests.len());
    assert!(replies[0]["ready"].as_str().unwrap().starts_with("residua "));
    for (index, batch) in [(1, 1), (2, 32), (3, 1), (4, 32)] {
        let (found, expected) = (replies[index]["check"].as_f64().unwrap(), check(&entries, batch));
        assert!((found - expected).abs() < 1e-5 * expected, "{}: {found}, {expected}", requests[index - 1]);
        assert!(replies[index]["seconds"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(replies[5]["check"], entries.len());
    assert!(replies[6]["note"].as_str().unwrap().starts_with("61 kept"), "{}", replies[6]);
    assert!(replies[7]["seconds"].as_f64().unwrap() > 0.0, "{}", replies[7]);
    assert!(replies[8]["skip"].is_string());
    assert!(replies[9]["error"].is_string() && replies[10]["error"].is_string());
    // Nothing is left behind.
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 5);
}
