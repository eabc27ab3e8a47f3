//! What is split when nobody says what, bases by pattern, and folders of models.

#![allow(clippy::unwrap_used, reason = "only tests use it")]

mod split_support;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use residua_format::file::{Checkpoint, Container, Dtype};
use residua_format::{BaseKind, ValueType};
use residua_memory::{Budget, ErrorKind};
use residua_split::{
    FolderReport, NoProgress, Output, PassReason, Progress, SplitError, SplitOptions, SplitReport,
    VerifyOptions, split_folder, verify,
};
use serde_json::{Value, json};
use split_support::{Bench, Dense, weights};

/// A small model as they are found, with tied weights: the head is the embedding.
fn model() -> Vec<Dense> {
    let matrix =
        |name: &str, rows, cols| Dense::new(name, Dtype::BF16, &[rows, cols], &weights(rows, cols, 1));
    vec![
        matrix("model.embed_tokens.weight", 50, 64),
        matrix("model.layers.0.self_attn.q_proj.weight", 64, 64),
        matrix("model.layers.0.mlp.down_proj.weight", 64, 96),
        matrix("model.layers.0.mlp.gate.weight", 4, 64),
        Dense::new("model.layers.0.mlp.experts.up_proj", Dtype::BF16, &[4, 32, 64], &weights(128, 64, 2)),
        Dense::new("model.norm.weight", Dtype::BF16, &[64], &weights(1, 64, 3)),
        Dense::new("conv.weight", Dtype::BF16, &[8, 1, 4], &weights(8, 4, 3)),
        Dense::raw("ids", Dtype::I64, &[2], vec![0; 16]),
    ]
}

fn names(report: &SplitReport) -> Vec<&str> {
    report
        .tensors
        .iter()
        .map(|tensor| tensor.name.rsplit_once("0.").unwrap_or(("", &tensor.name)).1)
        .collect()
}

#[test]
fn linear_layers_are_split_and_the_report_says_why_others_are_not() {
    let bench = Bench::new();
    bench.write("w", &model());
    let report = bench.split("w", &SplitOptions::default()).unwrap();
    assert_eq!(names(&report), ["self_attn.q_proj.weight", "mlp.down_proj.weight", "mlp.experts.up_proj"]);
    let reason =
        |part: &str| report.passed.iter().find(|tensor| tensor.name.contains(part)).unwrap().reason.unwrap();
    for (name, expected) in [
        ("embed_tokens", PassReason::Embedding),
        ("mlp.gate", PassReason::Router),
        ("conv", PassReason::NotMatrix),
        ("model.norm", PassReason::NotMatrix),
        ("ids", PassReason::NotFloat),
    ] {
        assert_eq!(reason(name), expected, "{name}");
    }
    // A tensor that is stored once stays once.
    assert_eq!(report.tensors.len() + report.passed.len(), model().len());
    assert!(bench.verify("w").matches());

    let excluded = bench.split("w", &SplitOptions::default().exclude(["*q_proj*"])).unwrap();
    let of = |report: &SplitReport, part: &str| {
        report.passed.iter().find(|tensor| tensor.name.contains(part)).map(|tensor| tensor.reason.unwrap())
    };
    assert_eq!(of(&excluded, "q_proj"), Some(PassReason::Excluded));
    assert_eq!(of(&excluded, "embed"), Some(PassReason::Embedding));
    let all = bench.split("w", &SplitOptions::default().include(["*"])).unwrap();
    assert_eq!((all.tensors.len(), of(&all, "embed")), (5, None));
    let one = bench.split("w", &SplitOptions::default().include(["*embed*"])).unwrap();
    assert_eq!(
        (names(&one), of(&one, "q_proj")),
        (vec!["model.embed_tokens.weight"], Some(PassReason::NotIncluded))
    );
}

/// A stack of experts is split as one matrix, and comes back as a stack.
#[test]
fn stacks_of_experts_are_split() {
    let bench = Bench::new();
    let (stack, matrix) = ([3, 20, 64], [60, 64]);
    let values = weights(60, 64, 1);
    let tensor = |shape: &[usize]| Dense::new("mlp.experts.down_proj", Dtype::BF16, shape, &values);
    let base =
        bench.write("base", &[Dense::new("mlp.experts.down_proj", Dtype::BF16, &stack, &weights(60, 64, 2))]);
    bench.write("stack", &[tensor(&stack)]);
    bench.write("matrix", &[tensor(&matrix)]);
    let options = SplitOptions::default().base(BaseKind::Int4G32);
    let report = bench.split("stack", &options).unwrap();
    assert_eq!(report.tensors, bench.split("matrix", &options).unwrap().tensors);
    let entries = |name: &str| split_support::entries(&bench.container(name), "mlp.experts.down_proj");
    assert_eq!(entries("stack"), entries("matrix"));
    assert!(bench.verify("stack").matches() && bench.verify("stack").is_valid());
    bench.materialize("stack", 1.0).unwrap();
    bench.materialize("matrix", 1.0).unwrap();
    let dense = |name: &str| bench.dense(name, "mlp.experts.down_proj");
    assert_eq!(dense("stack"), dense("matrix"));
    let back = Checkpoint::open(bench.path("stack.dense")).unwrap();
    assert_eq!(back.tensors()[0].shape, stack);
    // The same elements in another shape are another tensor.
    let options = VerifyOptions::default().against(bench.path("matrix"));
    let report = verify(bench.split_path("stack"), &options, &Budget::unlimited(), &NoProgress).unwrap();
    assert!(!report.matches());

    let fine = SplitOptions::default().base(base).density(1.0).values(ValueType::Bf16);
    bench.split("stack", &fine).unwrap();
    assert!(bench.verify("stack").error().unwrap() < 0.01);
    let report = bench.split("stack", &SplitOptions::default().exclude(["*experts*"])).unwrap();
    assert_eq!(report.passed[0].reason, Some(PassReason::Excluded));
}

/// Over another checkpoint the base is exact, and all matrices are split.
#[test]
fn a_fine_tune_is_split_whole() {
    let bench = Bench::new();
    let base = bench.write("base", &model());
    bench.write("w", &model());
    let report = bench.split("w", &SplitOptions::default().base(base.clone())).unwrap();
    assert_eq!((report.tensors.len(), report.nnz()), (5, 0));
    let error =
        bench.split("w", &SplitOptions::default().base(base).base_for("*", BaseKind::Int8)).unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("another checkpoint"), "{error}");
}

/// The first pattern that matches counts. Each tensor is as if its kind were the only one, whatever the budget.
#[test]
fn bases_follow_patterns() {
    let bench = Bench::new();
    bench.write("w", &model());
    let options = || {
        let default = SplitOptions::default().base(BaseKind::Int4G32);
        default
            .base_for("*embed*", BaseKind::Int8)
            .base_for("*_proj*", BaseKind::Int4)
            .base_for("*q_*", BaseKind::Int8)
    };
    let report = bench.split("w", &options().include(["*"])).unwrap();
    let file = fs::read(bench.split_path("w")).unwrap();
    let container = bench.container("w");
    let kind = |name: &str| container.matrix(name).unwrap().base;
    assert_eq!(kind("model.embed_tokens.weight"), Some(BaseKind::Int8));
    assert_eq!(kind("model.layers.0.self_attn.q_proj.weight"), Some(BaseKind::Int4));
    assert_eq!(kind("model.layers.0.mlp.gate.weight"), Some(BaseKind::Int4G32));
    assert!(bench.verify("w").is_valid());
    for tensor in &report.tensors {
        let alone = SplitOptions::default().base(kind(&tensor.name).unwrap()).include([&*tensor.name]);
        assert_eq!(bench.split("w", &alone).unwrap().tensors.first(), Some(tensor));
    }
    let Err(SplitError::Budget(error)) =
        bench.split_within("w", &options().include(["*"]), &Budget::new(1000))
    else {
        panic!("1000 bytes are not enough")
    };
    bench.split_within("w", &options().include(["*"]), &Budget::new(error.minimum)).unwrap();
    assert!(fs::read(bench.split_path("w")).unwrap() == file);

    // A pattern asks for its tensors.
    let report = bench.split("w", &options()).unwrap();
    assert_eq!(report.tensors.len(), 4);
    let error = bench.split("w", &SplitOptions::default().base_for("[", BaseKind::Int8)).unwrap_err();
    assert!(error.to_string().contains("pattern \"[\""), "{error}");
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A model's folder: weights, config, tokenizer, and what else lies in such folders.
fn folder(bench: &Bench) -> std::path::PathBuf {
    let folder = bench.path("model");
    fs::create_dir(&folder).unwrap();
    bench.write("model/model.safetensors", &model());
    write(&folder.join("config.json"), r#"{"model_type": "llama", "tie_word_embeddings": true}"#);
    write(&folder.join("tokenizer.json"), "{}");
    write(&folder.join("1_Pooling/config.json"), "{}");
    write(&folder.join("pytorch_model.bin"), "weights");
    write(&folder.join("onnx/model.onnx"), "weights");
    write(&folder.join(".git/config"), "");
    folder
}

fn split_model(bench: &Bench, output: &str) -> Result<FolderReport, SplitError> {
    let output = Output(bench.path(output));
    split_folder(bench.path("model"), output, &SplitOptions::default(), &Budget::unlimited(), &NoProgress)
}

#[test]
fn a_models_folder_becomes_a_folder() {
    let bench = Bench::new();
    let model = folder(&bench);
    fs::create_dir(bench.path("empty")).unwrap();
    for name in ["out", "new/", "empty"] {
        let report = split_model(&bench, name).unwrap();
        let paths = |paths: &[std::path::PathBuf]| -> Vec<_> {
            paths.iter().map(|p| p.display().to_string()).collect()
        };
        assert_eq!(paths(&report.copied), ["1_Pooling/config.json", "config.json", "tokenizer.json"]);
        assert_eq!(paths(&report.left_out), ["onnx/model.onnx", "pytorch_model.bin"]);
        let output = bench.path(name);
        let mut found: Vec<_> =
            fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        found.sort();
        assert_eq!(found, ["1_Pooling", "config.json", "model.safetensors", "tokenizer.json"]);
        let config: Value = serde_json::from_slice(&fs::read(output.join("config.json")).unwrap()).unwrap();
        let expected = json!({
            "model_type": "llama", "tie_word_embeddings": true, "quantization_config": { "quant_method": "residua" }
        });
        assert_eq!(config, expected);
        // The folder is as good as the file.
        let container = Container::open(&output).unwrap();
        assert_eq!(container.matrices().len(), 3);
        let checked = VerifyOptions::default().against(&model);
        let report = verify(&output, &checked, &Budget::unlimited(), &NoProgress).unwrap();
        assert!(report.is_valid() && report.matches());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |name: &str| fs::metadata(bench.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("out"), mode("model"));
    }
    assert_eq!(bench.files(), ["empty", "model", "new", "out"]);
}

/// A single file goes into a folder alone. Links to files, as in caches of models, count as files.
#[test]
fn a_file_and_links_are_inputs_too() {
    let bench = Bench::new();
    let model = folder(&bench);
    let (budget, options) = (Budget::unlimited(), SplitOptions::default());
    let output = Output(bench.path("alone"));
    let report =
        split_folder(model.join("model.safetensors"), output, &options, &budget, &NoProgress).unwrap();
    assert!(report.copied.is_empty() && Checkpoint::open(bench.path("alone")).is_ok());
    #[cfg(unix)]
    {
        fs::create_dir(bench.path("links")).unwrap();
        for name in ["model.safetensors", "config.json"] {
            std::os::unix::fs::symlink(model.join(name), bench.path("links").join(name)).unwrap();
        }
        let output = Output(bench.path("linked"));
        split_folder(bench.path("links"), output, &options, &budget, &NoProgress).unwrap();
        assert!(fs::symlink_metadata(bench.path("linked/config.json")).unwrap().is_file());
    }
}

/// Asks to stop once files are copied.
#[derive(Default)]
struct StopsCopying(AtomicBool);

impl Progress for StopsCopying {
    fn begin(&self, what: &str, _: u64) {
        self.0.store(what == "copying", Ordering::Relaxed);
    }

    fn stop(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn a_stopped_copy_leaves_nothing() {
    let bench = Bench::new();
    folder(&bench);
    let (output, options) = (Output(bench.path("out")), SplitOptions::default());
    let progress = StopsCopying::default();
    let error =
        split_folder(bench.path("model"), output, &options, &Budget::unlimited(), &progress).unwrap_err();
    assert!(matches!(error, SplitError::Interrupted), "{error}");
    assert_eq!(bench.files(), ["model"]);
}

/// Whatever goes wrong, nothing is left and nothing is replaced.
#[test]
fn a_folder_appears_complete_or_not_at_all() {
    let bench = Bench::new();
    let model = folder(&bench);
    write(&bench.path("full/file"), "");
    write(&bench.path("file"), "");
    for (output, part) in [
        ("full", "is a folder with files"),
        ("model", "is a folder with files"),
        ("file", "is a file"),
        ("absent/out", "absent"),
    ] {
        let error = split_model(&bench, output).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let config = |text: &str| write(&model.join("config.json"), text);
    for (text, part) in [
        ("[1]", "is no JSON object"),
        ("{", "is no JSON object"),
        (r#"{"quantization_config": {"quant_method": "awq"}}"#, "quantised already, with awq"),
    ] {
        config(text);
        let error = split_model(&bench, "out").unwrap_err();
        assert!(error.to_string().contains(part) && error.kind() == ErrorKind::Input, "{error}");
    }
    config(r#"{"quantization_config": null}"#);
    let mut broken = weights(64, 64, 1);
    broken[0] = f32::NAN;
    bench.write("model/model.safetensors", &[Dense::new("w", Dtype::F32, &[64, 64], &broken)]);
    assert!(split_model(&bench, "out").unwrap_err().to_string().contains("NaN"));
    assert_eq!(bench.files(), ["file", "full", "model"]);
}
