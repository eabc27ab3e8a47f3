//! Memory that grows with the number of things: tensors, rows, shards, metadata. Every command keeps its budget, or refuses
//! it before it is spent. Peaks come from the operating system.
//!
//! `cargo xtask test-all --only counts` runs it, on a release build: the code of a debug build is too large for small
//! budgets.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![cfg(target_os = "linux")]

mod common;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::RESIDUA;
use residua::format::file::{ContainerKind, ContainerWriter, Dtype, MatrixMeta, Plane, SafetensorsWriter};
use residua::format::{BaseKind, ValueType};

/// In MiB.
const BUDGETS: [u64; 3] = [16, 64, 256];
/// Address space beyond the budget, in MiB: code, libraries, stacks of threads.
const ADDRESSES: u64 = 300;

/// What `old`, `new`, `split` and `delta` stand for in a command line.
struct Case {
    name: &'static str,
    commands: &'static [&'static str],
    /// Budgets in MiB at which every command must succeed.
    enough: u64,
}

const STREAMED: [&str; 11] = [
    "split old -o out.safetensors",
    "inspect old",
    "inspect old --json",
    "diff old new -o out.safetensors",
    "patch old delta -o out.safetensors",
    "inspect delta --json",
    "inspect split",
    "verify split --against old --json",
    "verify split",
    "materialize split -o out.safetensors",
    "report split -o out.html --against old",
];
/// Splitting so many tensors takes minutes where the budget allows it.
const MANY: [&str; 10] = {
    let [_, rest @ ..] = STREAMED;
    rest
};
const MATRIX: [&str; 4] = [
    "convert tall.mtx out.safetensors",
    "convert tall.mtx out.npz",
    "bench tall.mtx --batch 1 --repetitions 1 --threads 1",
    "bench wide.mtx --batch 1 --repetitions 1 --threads 1",
];

#[test]
#[ignore = "for release builds; the row `counts` of test-all runs it"]
fn commands_keep_their_budget_whatever_grows() {
    let cases = [
        Case { name: "many", commands: &STREAMED[1..], enough: 256 },
        Case { name: "very many", commands: &MANY, enough: u64::MAX },
        Case { name: "metadata", commands: &STREAMED, enough: 256 },
        Case { name: "shards", commands: &STREAMED, enough: 64 },
        Case { name: "rows", commands: &STREAMED[1..], enough: 64 },
        Case { name: "matrix", commands: &MATRIX, enough: u64::MAX },
    ];
    let mut problems = String::new();
    for case in cases {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path(), case.name);
        for command in case.commands {
            for budget in BUDGETS {
                // The address space is limited in every other run: both ways must do.
                for limited in [false, true] {
                    let run = run(folder.path(), command, budget, limited);
                    println!("{:<10} {budget:>4} MiB {limited:<5} {command:<45} {run}", case.name);
                    let done = run.code == Some(0);
                    let fine = (done && run.peak <= budget << 20)
                        || (run.code == Some(4) && run.peak <= budget << 20 && budget < case.enough);
                    if !fine {
                        _ = writeln!(problems, "{}: {command} within {budget} MiB: {run}", case.name);
                    }
                }
            }
        }
    }
    assert!(problems.is_empty(), "{problems}");
}
