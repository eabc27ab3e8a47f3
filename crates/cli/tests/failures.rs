//! Exit codes and messages.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fs;

use common::{Bench, SHAPE};

#[test]
fn bad_usage_is_2() {
    let bench = Bench::new();
    bench.ok(&["split", "model.safetensors", "-o", "split.safetensors"]);
    let split = ["split", "model.safetensors", "-o", "s.safetensors"];
    let table: [(&[&str], &str); 21] = [
        (&["splat"], "splat"),
        (&["split", "model.safetensors"], "--output"),
        (&[&split[..], &["--density", "1.5"]].concat(), "from 0 to 1"),
        (&[&split[..], &["--density", "0.1", "--threshold", "1"]].concat(), "cannot be used with"),
        (&[&split[..], &["--values", "f8"]].concat(), "f32, f16, bf16, i8"),
        (&[&split[..], &["--base", "int5"]].concat(), "int4-g64"),
        (&[&split[..], &["--base", "*=int5"]].concat(), "int4-g64"),
        (&[&split[..], &["--base", "int4", "--base", "int8"]].concat(), "a base already"),
        (&[&split[..], &["--base", "int4", "--bits", "4"]].concat(), "PATTERN=int4"),
        (&["split", "model.safetensors", "-o", "."], "is a folder with files"),
        (&["calibrate", "x.npy", "-o", "c.safetensors"], "TENSOR=ACTIVATIONS"),
        (&["calibrate", "w=x.npy", "-o", "c.safetensors", "--block", "128"], "--second-moments"),
        (&["verify", "split.safetensors", "--calibration", "c.safetensors"], "--against"),
        (&[&split[..], &["--memory-budget", "5 parsecs"]].concat(), "512MiB"),
        (&[&split[..], &["--threads", "3000"]].concat(), "from 0 to "),
        (&["convert", "model.safetensors", "a.txt"], "known suffixes"),
        (&["convert", "a.mtx", "b.npz", "--values", "i8"], "--values i8"),
        (&["convert", "a.mtx", "b.npz", "--tensor", "w"], "--tensor"),
        (&["bench", "--shape", "12"], "4096x11008"),
        (&["report", "split.safetensors", "--variant", "lora", "-o", "r.html"], "no --variant"),
        (&["bench", "--shape", "8x8", "--batch", "0"], "--batch 0"),
    ];
    for (arguments, message) in table {
        let error = bench.fails(2, arguments);
        assert!(error.contains(message), "{arguments:?}: {error}");
    }
    assert!(!bench.path("s.safetensors").exists());
}

/// The output would replace its own input.
#[test]
fn an_input_as_output_is_2_and_stays_as_it_was() {
    let bench = Bench::new();
    for line in [
        "split model.safetensors -o split.safetensors",
        "split new.safetensors --base old.safetensors -o fine.safetensors",
        "diff old.safetensors new.safetensors -o delta.safetensors",
        "convert model.safetensors a.npz",
    ] {
        bench.ok(&line.split(' ').collect::<Vec<_>>());
    }
    fs::create_dir_all(bench.path("shards/deeper")).unwrap();
    fs::copy(bench.path("model.safetensors"), bench.path("shards/one.safetensors")).unwrap();
    let index = r#"{"weight_map": {"layer.weight": "one.safetensors", "layer.bias": "one.safetensors"}}"#;
    fs::write(bench.path("shards/model.safetensors.index.json"), index).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("model.safetensors", bench.path("link.safetensors")).unwrap();
    let named_otherwise = if cfg!(unix) { "link.safetensors" } else { "./model.safetensors" };
    let table = [
        ("split model.safetensors", "model.safetensors"),
        ("split model.safetensors", named_otherwise),
        ("split model.safetensors", "shards/deeper/../../model.safetensors"),
        ("split shards", "shards/one.safetensors"),
        ("split shards", "shards/model.safetensors.index.json"),
        ("split shards/model.safetensors.index.json", "shards/one.safetensors"),
        ("split model.safetensors --base old.safetensors", "old.safetensors"),
        ("split model.safetensors --calibration new.safetensors", "new.safetensors"),
        ("materialize split.safetensors", "split.safetensors"),
        ("materialize fine.safetensors", "old.safetensors"),
        ("materialize fine.safetensors --base new.safetensors", "new.safetensors"),
        ("diff old.safetensors new.safetensors", "old.safetensors"),
        ("diff old.safetensors shards", "shards/one.safetensors"),
        ("patch old.safetensors delta.safetensors", "old.safetensors"),
        ("patch old.safetensors delta.safetensors", "delta.safetensors"),
        ("report split.safetensors", "split.safetensors"),
        ("report split.safetensors --against model.safetensors", "model.safetensors"),
        ("report fine.safetensors", "old.safetensors"),
    ];
    for (line, output) in table {
        let before = fs::read(bench.path(output)).unwrap();
        let error = bench.fails(2, &line.split(' ').chain(["-o", output]).collect::<Vec<_>>());
        assert!(error.contains(&format!("{output}: the output is the input")), "{line}: {error}");
        assert!(fs::read(bench.path(output)).unwrap() == before, "{line} -o {output}");
    }
    let error = bench.fails(2, &["convert", "a.npz", "a.npz"]);
    assert!(error.contains("a.npz: the output is the input"), "{error}");
}

#[test]
fn bad_input_is_3() {
    let bench = Bench::new();
    fs::write(bench.path("garbage.safetensors"), "this is no safetensors file").unwrap();
    fs::write(bench.path("garbage.mtx"), "%%MatrixMarket matrix coordinate real general\n2 2 1\n3 1 1.0\n")
        .unwrap();
    let mut nan = vec![0.5; SHAPE[0] * SHAPE[1]];
    nan[3 * SHAPE[1] + 7] = f32::NAN;
    common::write(&bench.path("nan.safetensors"), &nan);
    bench.ok(&["diff", "old.safetensors", "new.safetensors", "-o", "delta.safetensors"]);
    let out = ["-o", "out.safetensors"];
    let table: [(&[&str], &[&str]); 8] = [
        (&["inspect", "garbage.safetensors"], &["garbage.safetensors"]),
        (&["convert", "garbage.mtx", "out.npz"], &["garbage.mtx", "line 3"]),
        (&[&["split", "nan.safetensors"], &out[..]].concat(), &["layer.weight", "3", "7", "NaN"]),
        (&["verify", "model.safetensors"], &["model.safetensors", "ordinary safetensors file"]),
        (&["report", "delta.safetensors", "-o", "r.html"], &["delta", "split"]),
        (&[&["patch", "new.safetensors", "delta.safetensors"], &out[..]].concat(), &["layer.weight"]),
        (&[&["patch", "old.safetensors", "model.safetensors"], &out[..]].concat(), &["model.safetensors"]),
        (&["convert", "model.safetensors", "a.npz", "--tensor", "absent"], &["absent", "layer.weight"]),
    ];
    for (arguments, messages) in table {
        let error = bench.fails(3, arguments);
        for message in messages {
            assert!(error.contains(message), "{arguments:?}: {error}");
        }
    }
    assert!(!bench.path("out.safetensors").exists());
}

#[test]
fn too_small_a_budget_is_4_and_says_how_much_is_needed_at_least() {
    let bench = Bench::new();
    bench.ok(&["split", "model.safetensors", "-o", "split.safetensors"]);
    let out = ["-o", "out.safetensors"];
    let table: [&[&str]; 9] = [
        &[&["split", "model.safetensors"], &out[..]].concat(),
        &["inspect", "split.safetensors"],
        &["verify", "split.safetensors"],
        &[&["materialize", "split.safetensors"], &out[..]].concat(),
        &[&["diff", "old.safetensors", "new.safetensors"], &out[..]].concat(),
        &["convert", "model.safetensors", "out.npz"],
        &["bench", "--shape", "64x64"],
        &["report", "split.safetensors", "-o", "r.html"],
        &["demo"],
    ];
    for arguments in table {
        let error = bench.fails(4, &[arguments, &["--memory-budget", "1MiB"]].concat());
        assert!(error.contains("; at least "), "{arguments:?}: {error}");
    }
    // A dense matrix of 1.6 GB does not fit the default budget. The error comes before any output.
    let mtx = "%%MatrixMarket matrix coordinate real general\n20000 20000 1\n1 1 1.0\n";
    fs::write(bench.path("wide.mtx"), mtx).unwrap();
    let error = bench.fails(4, &["convert", "wide.mtx", "wide.npy"]);
    assert!(error.contains("1.49 GiB for the dense matrix"), "{error}");
    assert!(!bench.path("wide.npy").exists());
}

#[test]
fn files_that_cannot_be_read_or_written_are_5() {
    let bench = Bench::new();
    bench.ok(&["split", "model.safetensors", "-o", "split.safetensors"]);
    let table: [&[&str]; 6] = [
        &["split", "absent.safetensors", "-o", "s.safetensors"],
        &["inspect", "absent.safetensors"],
        &["convert", "absent.npz", "a.mtx"],
        &["split", "model.safetensors", "-o", "absent/s.safetensors"],
        &["report", "split.safetensors", "-o", "absent/r.html"],
        &["convert", "model.safetensors", "absent/a.npz"],
    ];
    for arguments in table {
        let error = bench.fails(5, arguments);
        assert!(error.contains("absent"), "{arguments:?}: {error}");
    }
    // The error comes before any computation, with the given name.
    let error = bench.fails(5, &["report", "model.safetensors", "-o", "absent/r.html"]);
    assert!(error.contains("absent/r.html: cannot create: folder absent does not exist"), "{error}");
    let error = bench.fails(5, &["convert", "absent.npz", "model.safetensors/a.npz"]);
    assert!(error.contains("model.safetensors is not a folder"), "{error}");
}

/// People may use the demo's file names for their own files.
#[test]
fn the_demo_replaces_nothing_of_others() {
    let bench = Bench::new();
    fs::write(bench.path("model.safetensors"), "mine").unwrap();
    let error = bench.fails(2, &["demo", "--output", "."]);
    assert!(error.contains("model.safetensors is another file than the demo's"), "{error}");
    assert_eq!(fs::read(bench.path("model.safetensors")).unwrap(), b"mine");
    assert!(!bench.path("drift.safetensors").exists());
}
