//! The base of a split file that is another checkpoint: which paths are followed.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;

use common::{Bench, text};

/// The commands that read the base, and the file that they are to read.
const COMMANDS: [&[&str]; 3] = [
    &["verify", "folder/fine.safetensors"],
    &["materialize", "folder/fine.safetensors", "-o", "out.safetensors"],
    &["report", "folder/fine.safetensors", "-o", "r.html"],
];

/// Splits against `base` into `folder/fine.safetensors`.
fn split(bench: &Bench, base: &str) {
    let line = ["split", "new.safetensors", "--base", base, "-o", "folder/fine.safetensors"];
    bench.ok(&line);
}

fn bench() -> Bench {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("folder/below")).unwrap();
    fs::copy(bench.path("old.safetensors"), bench.path("folder/below/old.safetensors")).unwrap();
    bench
}

#[test]
fn a_base_in_the_folder_of_the_file_or_below_is_found() {
    let bench = bench();
    fs::copy(bench.path("old.safetensors"), bench.path("folder/old.safetensors")).unwrap();
    for base in ["folder/old.safetensors", "folder/below/old.safetensors", "folder/../folder/old.safetensors"]
    {
        split(&bench, base);
        COMMANDS.iter().for_each(|line| drop(bench.ok(line)));
    }
}

#[test]
fn a_base_elsewhere_is_read_only_when_asked_for() {
    let bench = bench();
    split(&bench, "old.safetensors");
    let stored = fs::canonicalize(bench.path("old.safetensors")).unwrap().display().to_string();
    for line in COMMANDS {
        let error = bench.fails(2, line);
        for word in ["layer.weight", &stored, "BLAKE3 ", "--base CHECKPOINT", "--follow-base"] {
            assert!(error.contains(word), "{line:?}: {word}: {error}");
        }
        bench.ok(&[line, &["--follow-base"]].concat());
        bench.ok(&[line, &["--base", "folder/below/old.safetensors"]].concat());
        bench.fails(3, &[line, &["--base", "new.safetensors"]].concat());
        bench.fails(2, &[line, &["--base", "old.safetensors", "--follow-base"]].concat());
    }
    // The base is gone: its path is followed and fails.
    fs::remove_file(bench.path("old.safetensors")).unwrap();
    for line in COMMANDS {
        let error = bench.fails(5, &[line, &["--follow-base"]].concat());
        assert!(error.contains(&stored) && error.contains("--base CHECKPOINT"), "{error}");
    }
}

/// A link in the folder leads where its target is, and a pipe stands in for a checkpoint.
#[cfg(unix)]
#[test]
fn links_out_of_the_folder_and_pipes_are_refused() {
    let bench = bench();
    std::os::unix::fs::symlink("../old.safetensors", bench.path("folder/link.safetensors")).unwrap();
    split(&bench, "folder/link.safetensors");
    for line in COMMANDS {
        assert!(bench.fails(2, line).contains("leads out of the file's folder"));
    }
    split(&bench, "folder/below/old.safetensors");
    fs::remove_file(bench.path("folder/below/old.safetensors")).unwrap();
    let made = bench.shell("mkfifo folder/below/old.safetensors");
    assert!(made.status.success(), "{}", text(&made.stderr));
    for line in COMMANDS {
        let error = bench.fails(3, line);
        assert!(error.contains("not a regular file"), "{error}");
    }
}
