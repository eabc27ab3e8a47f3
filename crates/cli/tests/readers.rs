//! What the readers accept, leave out and refuse, and what the command line prints about it.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Bench, npy, text};
use residua::format::file::{Dtype, SafetensorsWriter};

/// A safetensors file with tensors of one f32 row.
fn shard(bench: &Bench, path: &str, tensors: &[(&str, [f32; 2])]) {
    let path = bench.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = SafetensorsWriter::create(&path, 4096).unwrap();
    for (name, values) in tensors {
        file.tensor(name, Dtype::F32, &[1, 2], &common::bytes(values)).unwrap();
    }
    file.finish().unwrap();
}

/// The values at the end of a `.npy` file of one f32 row.
fn row(bench: &Bench, path: &str) -> Vec<u8> {
    let file = fs::read(bench.path(path)).unwrap();
    file[file.len() - 8..].to_vec()
}

#[test]
fn integers_are_exact_or_refused_by_name() {
    let bench = Bench::new();
    let mtx = |field: &str, body: &str| {
        let text = format!("%%MatrixMarket matrix coordinate {field} general\n{body}");
        fs::write(bench.path("a.mtx"), text).unwrap();
    };
    let large = (1i64 << 53) + 1;
    npy(&bench.path("a.npy"), "<i8", &[1, 2], &[1i64, large].map(i64::to_le_bytes).concat());
    mtx("integer", &format!("1 2 1\n1 2 {large}\n"));
    for input in ["a.mtx", "a.npy"] {
        for output in ["out.npz", "out.mtx", "out.npy", "out.safetensors"] {
            let output = if *output == input.replace('a', "out") { "other.npz" } else { output };
            let error = bench.fails(3, &["convert", input, output]);
            assert!(error.contains(input) && error.contains("9007199254740993 is too large"), "{error}");
        }
    }
    // f32 does not hold it, f64 does.
    mtx("integer", "1 2 1\n1 2 16777217\n");
    assert_eq!(bench.json(&["convert", "a.mtx", "out.npz"])["values"], "f64");
    let error = bench.fails(3, &["convert", "a.mtx", "out.safetensors"]);
    assert!(error.contains("a.mtx: row 0, column 1: 16777217 is too large for f32"), "{error}");
    bench.ok(&["convert", "a.mtx", "out.safetensors", "--values", "f32"]);
    // Each is exact, but their sum is not.
    mtx("integer", "1 2 2\n1 2 9007199254740992\n1 2 1\n");
    let error = bench.fails(3, &["convert", "a.mtx", "out.npz"]);
    assert!(error.contains("add up beyond 2^53"), "{error}");
}

#[test]
fn what_a_narrower_type_cannot_hold_is_told() {
    let bench = Bench::new();
    fs::write(
        bench.path("a.mtx"),
        "%%MatrixMarket matrix coordinate real general\n2 3 3\n1 1 1.0\n2 2 70000\n2 3 1e-30\n",
    )
    .unwrap();
    for output in ["out.npy", "out.npz", "out.mtx"] {
        let error = bench.fails(3, &["convert", "a.mtx", output, "--values", "f16"]);
        assert!(error.contains("a.mtx: row 1, column 1: 70000 is too large for f16"), "{error}");
        assert!(!bench.path(output).exists());
    }
    fs::write(
        bench.path("a.mtx"),
        "%%MatrixMarket matrix coordinate real general\n1 3 3\n1 1 1.0\n1 2 1e-30\n1 3 0.1\n",
    )
    .unwrap();
    let output = bench.run(&["convert", "a.mtx", "out.npy", "--values", "f16"]);
    assert!(text(&output.stderr).contains("note: too small for f16, and 0 now: 1 values"));
    let output = bench.run(&["convert", "a.mtx", "out.safetensors"]);
    assert!(output.status.success());
    assert!(text(&output.stderr).contains("note: rounded to f32"), "{}", text(&output.stderr));
}

#[test]
fn a_checkpoint_is_its_folder_its_index_or_its_file() {
    let bench = Bench::new();
    shard(&bench, "f/sub/m-1.safetensors", &[("a", [1.0, 2.0]), ("b", [3.0, 4.0])]);
    shard(&bench, "f/over.safetensors", &[("b", [5.0, 6.0])]);
    shard(&bench, "f/model.safetensors", &[("a", [7.0, 8.0])]);
    let index = r#"{"weight_map":{"a":"./sub/m-1.safetensors","b":"over.safetensors"}}"#;
    fs::write(bench.path("f/diffusion_pytorch_model.safetensors.index.fp16.json"), index).unwrap();
    let by_index = "f/diffusion_pytorch_model.safetensors.index.fp16.json";
    for input in ["f", by_index] {
        for (tensor, expected) in [("a", [1f32, 2.0]), ("b", [5.0, 6.0])] {
            bench.ok(&["convert", input, "o.npy", "--tensor", tensor]);
            assert_eq!(row(&bench, "o.npy"), common::bytes(&expected), "{input} {tensor}");
        }
        // The header of the shard with more tensors than the index places there is not the checkpoint's.
        bench.ok(&["diff", input, input, "-o", "d.safetensors"]);
        bench.ok(&["patch", input, "d.safetensors", "-o", "p.safetensors"]);
        assert_eq!(bench.json(&["inspect", "p.safetensors"])["dense"].as_array().unwrap().len(), 2);
        bench.ok(&["split", input, "-o", "s.safetensors"]);
        bench.ok(&["verify", "s.safetensors", "--against", input]);
    }
    let stray = "is read, not model.safetensors";
    let extra = "left out 1 tensor that the index does not place there";
    let commands: [&[&str]; 4] = [
        &["inspect", "f"],
        &["convert", "f", "o.npy", "--tensor", "a"],
        &["split", "f", "-o", "s.safetensors"],
        &["verify", "s.safetensors", "--against", "f"],
    ];
    for command in commands {
        let stderr = text(&bench.run(command).stderr);
        assert_eq!(
            (stderr.matches(stray).count(), stderr.matches(extra).count()),
            (1, 1),
            "{command:?}: {stderr}"
        );
    }
    fs::write(bench.path("f/model.safetensors.index.json"), index).unwrap();
    let error = bench.fails(3, &["inspect", "f"]);
    assert!(error.contains("2 indices of shards (diffusion_pytorch_model"), "{error}");
}

/// An index names one tensor of a shard with two: diff and patch handle only that tensor.
#[test]
fn a_shard_with_more_tensors_than_the_index_names_is_patched() {
    let bench = Bench::new();
    for (folder, first) in [("old", 1.0), ("new", 9.0)] {
        shard(&bench, &format!("{folder}/m.safetensors"), &[("extra", [0.0, first]), ("w", [first, 2.0])]);
        let index = bench.path(&format!("{folder}/model.safetensors.index.json"));
        fs::write(index, r#"{"weight_map":{"w":"m.safetensors"}}"#).unwrap();
    }
    bench.ok(&["diff", "old", "new", "-o", "d.safetensors"]);
    bench.ok(&["patch", "old", "d.safetensors", "-o", "p.safetensors"]);
    let names = bench.json(&["inspect", "p.safetensors"]);
    assert_eq!(names["dense"].as_array().unwrap().len(), 1, "{names}");
    bench.ok(&["convert", "p.safetensors", "o.npy"]);
    assert_eq!(row(&bench, "o.npy"), common::bytes(&[9.0, 2.0]));
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused_at_once() {
    let bench = Bench::new();
    for name in ["p.npy", "p.npz", "p.mtx", "p.safetensors", "p.json"] {
        assert!(bench.shell(&format!("mkfifo {name}")).status.success());
        let error = bench.fails(3, &["convert", name, "out.npz"]);
        assert!(error.contains(name) && error.contains("not a regular file"), "{error}");
    }
    let commands: [&[&str]; 8] = [
        &["split", "p.safetensors", "-o", "o.safetensors"],
        &["split", "model.safetensors", "-o", "o.safetensors", "--calibration", "p.safetensors"],
        &["inspect", "p.safetensors"],
        &["verify", "p.safetensors"],
        &["diff", "model.safetensors", "p.safetensors", "-o", "o.safetensors"],
        &["materialize", "p.safetensors", "-o", "o.safetensors"],
        &["stats", "p.npy", "--labels", "p.npy", "-o", "o.safetensors"],
        &["inspect", "/dev/zero"],
    ];
    for command in commands {
        let error = bench.fails(3, command);
        assert!(error.contains("not a regular file"), "{command:?}: {error}");
    }
}
