//! Every command on small files, by its output and by what it writes.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fs;
use std::process::{Command, Stdio};

use common::{Bench, CHANGED, RESIDUA, SHAPE, noise, text};
use residua::format::file::{Checkpoint, Dtype, SafetensorsWriter};

/// Non-zeros at a density of 5 %.
const NNZ: u64 = (SHAPE[0] * SHAPE[1]) as u64 / 20;

fn split() -> Bench {
    let bench = Bench::new();
    bench.ok(&["split", "model.safetensors", "-o", "split.safetensors", "--density", "0.05"]);
    bench
}

#[test]
fn split_says_what_it_did() {
    let bench = Bench::new();
    let arguments = [
        "split",
        "model.safetensors",
        "-o",
        "s.safetensors",
        "--density",
        "0.05",
        "--memory-budget",
        "128MiB",
    ];
    let report = bench.json(&arguments);
    assert_eq!(report["tensors"][0]["nnz"], NNZ);
    assert_eq!(report["tensors"][0]["shape"][1], SHAPE[1]);
    assert_eq!(report["passed"][0]["name"], "layer.bias");
    assert_eq!(report["memory_budget_bytes"], 128 << 20);
    assert_eq!(report["output_bytes"], fs::metadata(bench.path("s.safetensors")).unwrap().len());
    let text = bench.ok(&arguments);
    for part in [
        "819 non-zeros (5.00 %)",
        "1 tensor: 1 vectors and other shapes, 256 B (layer.bias)",
        "residua calibrate",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let squares = common::bytes(&[1.5; SHAPE[1]]);
    let mut file = SafetensorsWriter::create(bench.path("calibration.safetensors"), 256).unwrap();
    file.tensor("layer.weight", Dtype::F32, &[SHAPE[1]], &squares).unwrap();
    file.finish().unwrap();
    let calibrated = bench.ok(&[&arguments[..], &["--calibration", "calibration.safetensors"]].concat());
    assert!(!calibrated.contains("residua calibrate"), "{calibrated}");
}

/// A model's folder gives a folder, and so does a name that ends like one.
#[test]
fn split_writes_folders() {
    let bench = Bench::new();
    fs::create_dir(bench.path("model")).unwrap();
    fs::rename(bench.path("model.safetensors"), bench.path("model/model.safetensors")).unwrap();
    fs::write(bench.path("model/config.json"), "{}").unwrap();
    fs::write(bench.path("model/pytorch_model.bin"), "").unwrap();
    let text = bench.ok(&["split", "model", "-o", "out"]);
    assert!(text.contains("out/model.safetensors and 1 file copied"), "{text}");
    assert!(text.contains("pytorch_model.bin"), "{text}");
    let config = fs::read_to_string(bench.path("out/config.json")).unwrap();
    assert!(config.contains(r#""quant_method": "residua""#), "{config}");
    assert_eq!(bench.json(&["verify", "out", "--against", "model"])["matches"], true);
    let report = bench.json(&["split", "model/model.safetensors", "-o", "alone/"]);
    assert_eq!(
        (&report["file"], &report["copied"]),
        (&"alone/model.safetensors".into(), &serde_json::json!([]))
    );
    bench.ok(&["split", "model", "-o", "file.safetensors"]);
    assert!(bench.path("file.safetensors").is_file());
    bench.ok(&["split", "model", "-o", "by-pattern", "--base", "layer.*=int8", "--base", "int4-g32"]);
    let found = bench.json(&["inspect", "by-pattern"]);
    assert_eq!(found["matrices"][0]["base"], "int8");
}

/// From activations to the error of outputs, in every output that has it.
#[test]
fn calibrated_splits_have_a_smaller_error_of_outputs() {
    let bench = Bench::new();
    let inputs: Vec<f32> =
        (0..300 * SHAPE[1]).map(|i| noise(i as u64) * (1 + i % SHAPE[1] % 9) as f32).collect();
    common::npy_features(&bench.path("x.npy"), SHAPE[1], &inputs);
    let calibrate = ["calibrate", "layer.weight=x.npy", "-o", "c.safetensors", "--second-moments"];
    let report = bench.json(&calibrate);
    assert_eq!((&report["tensors"][0]["rows"], &report["tensors"][0]["block"]), (&300.into(), &256.into()));
    assert!(bench.ok(&calibrate).contains("second moments"));
    let verify =
        ["verify", "s.safetensors", "--against", "model.safetensors", "--calibration", "c.safetensors"];
    let error = |options: &[&str]| {
        bench.ok(&[&["split", "model.safetensors", "-o", "s.safetensors"], options].concat());
        bench.json(&verify)["output_error"].as_f64().unwrap()
    };
    let (plain, calibrated) = (error(&[]), error(&["--calibration", "c.safetensors"]));
    assert!(calibrated < 0.8 * plain, "{calibrated} {plain}");
    let text = bench.ok(&verify);
    assert!(text.contains("output error") && text.contains(", of outputs "), "{text}");
    let report = ["report", "s.safetensors", "-o", "r.html", "--against", "model.safetensors"];
    let report = bench.json(&[&report[..], &["--calibration", "c.safetensors"]].concat());
    assert!((report["output_error"].as_f64().unwrap() - calibrated).abs() < 1e-12);
    assert!(fs::read_to_string(bench.path("r.html")).unwrap().contains("error of the layers"));
}

#[test]
fn split_takes_every_option() {
    let bench = Bench::new();
    let options: [&[&str]; 14] = [
        &["--base", "int4"],
        &["--base", "int4-g32"],
        &["--base", "int4-g64"],
        &["--base", "int4-g128"],
        &["--base", "int8", "--values", "f32"],
        &["--base", "lut2"],
        &["--bits", "4.5", "--base", "*=lut3"],
        &["--size", "40KiB"],
        &["--base", "new.safetensors", "--values", "f16"],
        &["--values", "i8", "--importance", "uniform"],
        &["--importance", "column", "--density", "0.2"],
        &["--threshold", "0.001"],
        &["--calibration", "calibration.safetensors"],
        &["--exclude", "layer.*", "--exclude", "other", "--threads", "1", "--quiet"],
    ];
    let mut file =
        residua::format::file::SafetensorsWriter::create(bench.path("calibration.safetensors"), 256).unwrap();
    let squares = common::bytes(&[1.5; SHAPE[1]]);
    file.tensor("layer.weight", residua::format::file::Dtype::F32, &[SHAPE[1]], &squares).unwrap();
    file.finish().unwrap();
    for options in options {
        let arguments = [&["split", "model.safetensors", "-o", "s.safetensors"], options].concat();
        let report = bench.json(&arguments);
        let excluded = options.contains(&"--exclude");
        assert_eq!(report["tensors"].as_array().unwrap().len(), usize::from(!excluded), "{options:?}");
        if !excluded {
            assert!(report["tensors"][0]["nnz"].as_u64().unwrap() > 0, "{options:?}");
        }
        assert_eq!(bench.json(&["verify", "s.safetensors"])["valid"], true, "{options:?}");
    }
}

#[test]
fn inspect_counts_bytes_and_rows() {
    let bench = split();
    let found = bench.json(&["inspect", "split.safetensors"]);
    assert_eq!((found["kind"].as_str(), found["nnz"].as_u64()), (Some("split"), Some(NNZ)));
    let matrix = &found["matrices"][0];
    assert_eq!(matrix["sizes"]["torch_coo"], NNZ * 18);
    assert_eq!(matrix["sizes"]["dense"], (SHAPE[0] * SHAPE[1] * 4) as u64);
    let rows: u64 =
        matrix["row_lengths"]["rows"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(rows, SHAPE[0] as u64);
    // A gap and an i8 per non-zero, and a pointer and a scale per row; with long rows also a mode and a second pointer.
    let least = NNZ * 2 + 4 * (SHAPE[0] as u64 + 1) + 2 * SHAPE[0] as u64;
    assert!(
        (least..least + 64 + 5 * SHAPE[0] as u64).contains(&matrix["residual_bytes"].as_u64().unwrap()),
        "{matrix}"
    );
    assert!(bench.ok(&["inspect", "split.safetensors"]).contains("layer.weight"));
    // A dense checkpoint has no sparse part, but can be looked at.
    assert_eq!(bench.json(&["inspect", "model.safetensors"])["dense"][1]["name"], "layer.bias");
    assert!(bench.ok(&["inspect", "model.safetensors"]).contains("64×256"));
}

#[test]
fn verify_measures_and_finds_damage() {
    let bench = split();
    let found = bench.json(&["verify", "split.safetensors", "--against", "model.safetensors"]);
    assert_eq!(found["valid"], true);
    let tensor = &found["tensors"].as_array().unwrap().iter().find(|t| t["split"] == true).unwrap();
    let (base, error) = (tensor["base_error"].as_f64().unwrap(), tensor["error"].as_f64().unwrap());
    assert!(0.0 < error && error < base && base < 0.2, "{tensor}");
    // One tensor was split, so that its errors are those of the file.
    assert!((found["error"].as_f64().unwrap() - error).abs() < 1e-12);
    assert!((found["base_error"].as_f64().unwrap() - base).abs() < 1e-12);
    let split = bench.json(&["split", "model.safetensors", "-o", "again.safetensors", "--density", "0.05"]);
    assert!((split["error"].as_f64().unwrap() - error).abs() < 1e-7);
    let against = bench.ok(&["verify", "split.safetensors", "--against", "model.safetensors"]);
    assert!(against.contains("; error "), "{against}");
    let alone = bench.ok(&["verify", "split.safetensors"]);
    assert!(alone.contains("✓ sound") && !alone.contains("; error "), "{alone}");

    // A gap of 255 too many at the end of a row leads out of the matrix.
    let file = Checkpoint::open(bench.path("split.safetensors")).unwrap();
    let offset = file.expect_tensor("layer.weight.gaps").unwrap().offset() as usize;
    let mut damaged = fs::read(bench.path("split.safetensors")).unwrap();
    damaged[offset..offset + 8].fill(255);
    fs::write(bench.path("damaged.safetensors"), damaged).unwrap();
    let output = bench.run(&["verify", "damaged.safetensors"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("✗ layer.weight: "), "{}", text(&output.stdout));
    let json = bench.run(&["verify", "damaged.safetensors", "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((found["valid"].as_bool(), json.status.code()), (Some(false), Some(3)));
}

/// With another checkpoint, the file is not reported as damaged.
#[test]
fn verify_tells_another_checkpoint_from_damage() {
    let bench = split();
    // The same matrix; what passed through is another.
    let mut file =
        residua::format::file::SafetensorsWriter::create(bench.path("other.safetensors"), 256).unwrap();
    let weights = common::bytes(&[0.5; SHAPE[0] * SHAPE[1]]);
    file.tensor("layer.weight", residua::format::file::Dtype::F32, &SHAPE, &weights).unwrap();
    file.tensor("layer.bias", residua::format::file::Dtype::F32, &[3], &common::bytes(&[1.0; 3])).unwrap();
    file.finish().unwrap();
    let line = ["verify", "split.safetensors", "--against", "other.safetensors"];
    let output = bench.run(&line);
    let (shown, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        shown.contains("✗ layer.bias") && shown.contains("✗ sound, but file and checkpoint do"),
        "{shown}"
    );
    assert!(!shown.contains("damaged"), "{shown}");
    let expected = "split.safetensors: 1 of 2 tensors do not match those of other.safetensors";
    assert!(error.contains(expected), "{error}");
    let json = bench.run(&[&line[..], &["--json"]].concat());
    let found: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((found["valid"].as_bool(), found["matches"].as_bool()), (Some(true), Some(false)));
    assert!(bench.json(&["verify", "split.safetensors"])["matches"].is_null());
}

#[test]
fn materialize_scales_the_residual() {
    let bench = split();
    let rebuild = |alpha: &str, base: &str| {
        bench.json(&["materialize", base, "--alpha", alpha, "-o", "dense.safetensors"]);
        let file = Checkpoint::open(bench.path("dense.safetensors")).unwrap();
        let mut raw = vec![0; SHAPE[0] * SHAPE[1] * 4];
        file.read_at(file.expect_tensor("layer.weight").unwrap(), 0, &mut raw).unwrap();
        raw
    };
    let [zero, one, minus] = ["0", "1", "-1"].map(|alpha| rebuild(alpha, "split.safetensors"));
    assert_ne!(zero, one);
    assert_ne!(zero, minus);
    // Against the checkpoint itself there is no residual: alpha 1 gives it back bit for bit.
    bench.ok(&["split", "model.safetensors", "-o", "none.safetensors", "--base", "old.safetensors"]);
    assert_eq!(rebuild("1", "none.safetensors"), {
        let file = Checkpoint::open(bench.path("model.safetensors")).unwrap();
        let mut raw = vec![0; SHAPE[0] * SHAPE[1] * 4];
        file.read_at(file.expect_tensor("layer.weight").unwrap(), 0, &mut raw).unwrap();
        raw
    });
    assert!(bench.ok(&["materialize", "split.safetensors", "-o", "d.safetensors"]).contains("alpha 1"));
}

#[test]
fn diff_and_patch_restore_bit_for_bit() {
    let bench = Bench::new();
    for op in ["overwrite", "xor"] {
        let arguments = ["diff", "old.safetensors", "new.safetensors", "-o", "delta.safetensors", "--op", op];
        let report = bench.json(&arguments);
        assert_eq!((report["changed"].as_u64(), report["op"].as_str()), (Some(CHANGED), Some(op)));
        assert!(bench.ok(&arguments).contains("100 of 16,448 elements"));
        let found = bench.json(&["inspect", "delta.safetensors"]);
        assert_eq!((found["kind"].as_str(), found["nnz"].as_u64()), (Some("delta"), Some(CHANGED)));
        assert_eq!(found["delta"]["changed"], CHANGED);
        let patch = ["patch", "old.safetensors", "delta.safetensors", "-o", "patched.safetensors"];
        bench.json(&patch);
        let [new, patched] =
            ["new.safetensors", "patched.safetensors"].map(|n| fs::read(bench.path(n)).unwrap());
        assert!(new == patched, "{op}");
        assert!(bench.ok(&patch).contains("2 tensors restored"));
    }
}

#[test]
fn convert_keeps_every_value_through_every_format() {
    let bench = Bench::new();
    let mtx = "%%MatrixMarket matrix coordinate real general\n3 4 4\n1 2 0.5\n3 4 -2\n3 1 1.25\n1 2 0.25\n";
    fs::write(bench.path("a.mtx"), mtx).unwrap();
    // The last one twice: read again what was written.
    let chain = ["a.mtx", "b.npz", "c.safetensors", "d.npy", "e.mtx", "f.safetensors", "g.npy"];
    for pair in chain.windows(2) {
        let done = bench.json(&["convert", pair[0], pair[1]]);
        assert_eq!((done["nnz"].as_u64(), done["values"].as_str()), (Some(3), Some("f32")), "{pair:?}");
    }
    for name in ["d.npy", "g.npy"] {
        let file = fs::read(bench.path(name)).unwrap();
        assert!(text(&file[10..80]).contains("'<f4'"), "{name}");
        // Two entries of the same place were added up.
        let dense = [0.0, 0.75, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.25, 0.0, 0.0, -2.0];
        assert!(file.ends_with(&common::bytes(&dense)), "{name}");
    }
    for (values, kept) in [("f16", "f16"), ("bf16", "bf16"), ("f32", "f32"), ("i8", "i8")] {
        let done = bench.json(&["convert", "a.mtx", "v.safetensors", "--values", values]);
        assert_eq!(done["values"], kept);
    }
    // 0.1 is no f32: it stays an f64.
    fs::write(bench.path("h.mtx"), mtx.replace("1.25", "0.1")).unwrap();
    assert_eq!(bench.json(&["convert", "h.mtx", "h.npz"])["values"], "f64");
    assert!(bench.ok(&["convert", "model.safetensors", "m.npz"]).contains("64×256"));
}

#[test]
fn bench_times_every_repetition() {
    let bench = split();
    let common = ["--batch", "1,3", "--threads", "1,2", "--repetitions", "2"];
    let random = ["bench", "--shape", "32x100", "--matrices", "2", "--values", "i8"];
    for arguments in [&random[..], &["bench", "split.safetensors"]] {
        let done = bench.json(&[arguments, &common].concat());
        let timings = done["timings"].as_array().unwrap();
        let configurations: Vec<_> =
            timings.iter().map(|t| (t["threads"].as_u64(), t["batch"].as_u64())).collect();
        let expected = [(1, 1), (1, 3), (2, 1), (2, 3)].map(|(t, b)| (Some(t), Some(b)));
        assert_eq!(configurations, expected);
        assert!(timings.iter().all(|t| t["seconds"].as_array().unwrap().len() == 2));
        assert!(bench.ok(&[arguments, &common].concat()).contains("Gnnz·col/s"));
    }
}

#[test]
fn report_is_one_page_without_scripts() {
    let bench = split();
    for against in [&[][..], &["--against", "model.safetensors"]] {
        bench.ok(&[&["report", "split.safetensors", "-o", "r.html"], against].concat());
        let html = fs::read_to_string(bench.path("r.html")).unwrap();
        assert_eq!(html.matches("<svg").count(), 4);
        assert!(html.contains("layer.weight") && html.ends_with("</html>\n"));
        let foreign = html.replace("http://www.w3.org/2000/svg", "");
        assert!(!foreign.contains("http") && !foreign.contains("<script") && !foreign.contains("url("));
    }
    // With the base in another file, that file is found by the path noted in the split file.
    bench.ok(&["split", "new.safetensors", "-o", "fine.safetensors", "--base", "old.safetensors"]);
    let report = bench.json(&["report", "fine.safetensors", "-o", "r.html"]);
    assert_eq!(report["report"], "r.html");
    assert_eq!(fs::read_to_string(bench.path("r.html")).unwrap().matches("<svg").count(), 4);
}

#[test]
fn demo_goes_the_whole_way() {
    let bench = Bench::new();
    let found = bench.json(&[]);
    assert_eq!(found["split"]["tensors"].as_array().unwrap().len(), 6);
    let stored = found["stored"].as_array().unwrap();
    let of = |name: &str, what: &str| {
        let found = stored.iter().find(|stored| stored["name"].as_str().unwrap().starts_with(name));
        found.unwrap()[what].as_f64().unwrap()
    };
    // NumPy has these, in f64.
    for (name, bits, error) in [
        ("int4, groups of 64", 4.25, 0.111941),
        ("NF4, groups of 64", 4.25, 0.093013),
        ("int4, groups of 32", 4.5, 0.099706),
        ("int5, a scale per row", 5.03125, 0.071939),
    ] {
        let found = (of(name, "bits"), of(name, "error"));
        assert!(found.0 == bits && (found.1 - error).abs() < 1e-5, "{name}: {found:?}");
        // Nothing that takes fewer bits is as good as the split, and neither is int5, which takes more.
        assert!(of("Residua", "error") < 0.98 * error, "{stored:?}");
    }
    assert!(of("Residua", "bits") < 4.7, "{stored:?}");
    for speed in found["speed"].as_array().unwrap() {
        assert!(speed["difference"].as_f64().unwrap() < 1e-5, "{speed}");
    }
    let rows = found["compensation"]["rows"].as_array().unwrap();
    let lda = |statistics: &str| {
        let row = rows.iter().find(|row| row["statistics"] == statistics && row["classifier"] == "lda");
        row.unwrap()["all"].as_f64().unwrap()
    };
    // Every method is far better than doing nothing, and none sees the truth.
    for method in ["linear", "rff", "weak-nonlinear"] {
        assert!(lda(method) > lda("stale") + 8.0, "{method}: {rows:?}");
    }
    assert!(lda("true") > lda("stale") + 8.0);
    for stage in found["compensation"]["stages"].as_array().unwrap() {
        assert!(stage["seconds"].as_f64().unwrap() > 0.0, "{stage}");
    }
    let html = fs::read_to_string(bench.path("residua-demo/report.html")).unwrap();
    assert_eq!(html.matches("<svg").count(), if cfg!(target_os = "linux") { 7 } else { 6 });
    let shown = bench.ok(&["demo", "--output", "elsewhere"]);
    for text in ["✓ sound", "NF4, groups of 64", "elsewhere/report.html", "weak-nonlinear"] {
        assert!(shown.contains(text), "{shown}");
    }
}

#[test]
fn completions_are_there_for_every_shell() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(bench.ok(&["completions", shell]).contains("residua"), "{shell}");
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let bench = split();
    for arguments in [&["completions", "bash"][..], &["inspect", "split.safetensors"]] {
        let mut child = Command::new(RESIDUA)
            .args(arguments)
            .current_dir(&bench.folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {:?}", output.status);
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
    }
}

#[test]
fn a_report_of_many_matrices_lists_the_largest() {
    let bench = Bench::new();
    let mut file = SafetensorsWriter::create(bench.path("many.safetensors"), 256).unwrap();
    for i in 0..101 {
        let rows = if i == 50 { 1 } else { 2 };
        let weights: Vec<f32> = (0..8 * rows).map(|j| noise(j as u64)).collect();
        file.tensor(&format!("layer{i}"), Dtype::F32, &[rows, 8], &common::bytes(&weights)).unwrap();
    }
    file.finish().unwrap();
    bench.ok(&["split", "many.safetensors", "-o", "s.safetensors"]);
    bench.ok(&["report", "s.safetensors", "-o", "r.html"]);
    let page = fs::read_to_string(bench.path("r.html")).unwrap();
    assert!(page.contains("The 100 largest of 101 matrices"), "{page}");
    assert!(page.contains("<td>layer51<") && !page.contains("<td>layer50<"));
    assert!(page.contains("101 matrices with"));
}
