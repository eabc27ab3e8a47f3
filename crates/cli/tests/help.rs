//! The commands in `--help` and in the README work.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Bench, text};

/// In order: each command needs outputs of earlier ones.
const COMMANDS: &[&str] = &[
    "demo",
    "calibrate",
    "split",
    "inspect",
    "verify",
    "materialize",
    "diff",
    "patch",
    "convert",
    "stats",
    "compensate",
    "task",
    "classify",
    "evaluate",
    "devices",
    "bench",
    "report",
    "completions",
];

/// A checkpoint, and inputs of its layer.
fn bench() -> Bench {
    let bench = Bench::new();
    let inputs: Vec<f32> = (0..300 * 256).map(common::noise).collect();
    common::npy_features(&bench.path("inputs.npy"), 256, &inputs);
    bench
}

/// Runs a line with a smaller shape and fewer methods: they take most of the time, and have tests of their own.
fn run(bench: &Bench, line: &str) {
    let line = line.replace("4096x11008", "64x100");
    let line = line.replace("residua evaluate", "residua evaluate --method linear");
    let output = bench.shell(&line);
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
}

#[test]
fn every_example_runs() {
    let bench = bench();
    let all = bench.ok(&["--help"]);
    for command in COMMANDS {
        assert!(all.contains(&format!("\n  {command} ")), "{command}: {all}");
        let help = bench.ok(&[command, "--help"]);
        let examples: Vec<&str> = help.lines().filter(|line| line.starts_with("  residua ")).collect();
        assert!(!examples.is_empty(), "{help}");
        examples.iter().for_each(|line| run(&bench, line));
    }
}

#[test]
fn every_line_of_the_readme_runs() {
    let bench = bench();
    let readme = include_str!("../../../README.md");
    let lines: Vec<&str> = readme.lines().filter(|line| line.starts_with("residua ")).collect();
    assert!(lines.len() > 8, "{lines:?}");
    run(&bench, "residua convert model.safetensors layer.npz");
    common::bundle_features(&bench);
    lines.iter().for_each(|line| run(&bench, line));
}

#[test]
fn the_version_names_the_command() {
    assert_eq!(Bench::new().ok(&["--version"]), format!("residua {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn exit_codes_are_documented_alike() {
    let help = Bench::new().ok(&["--help"]);
    let readme = include_str!("../../../README.md");
    for code in 0..=5 {
        assert!(help.contains(&format!("\n  {code}  ")), "{help}");
        assert!(readme.contains(&format!("\n| {code} | ")));
    }
}
