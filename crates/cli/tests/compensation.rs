//! The commands about class statistics, by their output and by what they write.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fs;

use common::{Bench, bundle_features, noise, npy_features, npy_labels, whole_features};
use residua::compensate::{ClassStatistics, Tag};
use residua::format::file::{Checkpoint, Dtype, SafetensorsWriter};
use residua::memory::Budget;
use serde_json::Value;

const DIM: usize = 8;
const CLASSES: usize = 3;
/// Samples of a class.
const EACH: usize = 40;

/// Well separated classes: class c lies around 10 on axis c.
fn features(classes: std::ops::Range<usize>, seed: u64) -> (Vec<f32>, Vec<u32>) {
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for sample in 0..EACH {
        for class in classes.clone() {
            let number = seed + ((sample * 100 + class) * DIM) as u64;
            let centre = |axis: usize| if axis == class { 10.0 } else { 0.0 };
            values.extend((0..DIM).map(|axis| centre(axis) + noise(number + axis as u64)));
            labels.push(class as u32);
        }
    }
    (values, labels)
}

/// What the task does to every feature: linear, so that a linear compensator follows exactly.
fn drift(values: &[f32]) -> Vec<f32> {
    let row = |row: &[f32]| -> Vec<f32> {
        (0..DIM).map(|axis| 1.5 * row[axis] - 0.5 * row[(axis + 1) % DIM] + 2.0).collect()
    };
    values.chunks(DIM).flat_map(row).collect()
}

/// Arrays of a first task, `old`, and of a second one before and after it, `cur`.
fn bench() -> Bench {
    let bench = Bench::new();
    let (old, y_old) = features(0..CLASSES, 0);
    let (cur, y_cur) = features(CLASSES..2 * CLASSES, 7_000_000);
    npy_features(&bench.path("old.npy"), DIM, &old);
    npy_features(&bench.path("old_after.npy"), DIM, &drift(&old));
    npy_labels(&bench.path("y_old.npy"), &y_old);
    npy_features(&bench.path("cur_before.npy"), DIM, &cur);
    npy_features(&bench.path("cur_after.npy"), DIM, &drift(&cur));
    npy_labels(&bench.path("y_cur.npy"), &y_cur);
    bench
}

fn load(bench: &Bench, name: &str) -> ClassStatistics {
    ClassStatistics::load(bench.path(name), &Budget::unlimited()).unwrap()
}

/// Largest difference of means, and of covariances.
fn distance(a: &ClassStatistics, b: &ClassStatistics) -> f64 {
    assert_eq!(a.len(), b.len());
    let classes = a.iter().zip(b.iter()).map(|((label, a), (other, b))| {
        assert_eq!((label, a.count()), (other, b.count()));
        let covariance = (a.covariance().to_dense() - b.covariance().to_dense()).amax();
        covariance.max((a.mean() - b.mean()).amax())
    });
    classes.fold(0.0, f64::max)
}

const STATS: [&str; 6] = ["stats", "old.npy", "--labels", "y_old.npy", "-o", "old.stats.safetensors"];

#[test]
fn stats_of_shards_merge_to_those_of_the_whole() {
    let bench = bench();
    let whole = bench.json(&[&STATS[..], &["--precision", "f64"]].concat());
    assert_eq!((whole["classes"].as_u64(), whole["samples"].as_u64()), (Some(3), Some(120)));
    assert_eq!(whole["dim"], DIM);
    assert!(bench.ok(&STATS).contains("3 of 120 samples, d = 8"));

    let (values, labels) = features(0..CLASSES, 0);
    for (name, range) in [("a", 0..70), ("b", 70..120)] {
        npy_features(&bench.path(&format!("{name}.npy")), DIM, &values[range.start * DIM..range.end * DIM]);
        npy_labels(&bench.path(&format!("y_{name}.npy")), &labels[range]);
        let (features, labels) = (format!("{name}.npy"), format!("y_{name}.npy"));
        let output = format!("{name}.safetensors");
        bench.ok(&["stats", &features, "--labels", &labels, "--precision", "f64", "-o", &output]);
    }
    let merged = bench.json(&["stats", "merge", "a.safetensors", "b.safetensors", "-o", "m.safetensors"]);
    assert_eq!(merged["samples"], 120);
    bench.ok(&[&STATS[..], &["--precision", "f64"]].concat());
    assert!(distance(&load(&bench, "m.safetensors"), &load(&bench, "old.stats.safetensors")) < 1e-10);
    // Both files at once are the same samples in the same order: the same bits.
    let both =
        ["stats", "a.npy", "b.npy", "--labels", "y_a.npy", "--labels", "y_b.npy", "--precision", "f64"];
    bench.ok(&[&both[..], &["-o", "both.safetensors"]].concat());
    assert_eq!(distance(&load(&bench, "both.safetensors"), &load(&bench, "old.stats.safetensors")), 0.0);
}

/// A fit of one run moves other statistics in another run, as if both were one.
#[test]
fn a_saved_fit_moves_statistics_again() {
    let bench = bench();
    bench.ok(&STATS);
    let pairs = ["--before", "cur_before.npy", "--after", "cur_after.npy"];
    for method in ["linear", "attention", "rff", "weak-nonlinear"] {
        let line =
            ["compensate", "old.stats.safetensors", "--method", method, "--save-fit", "fit.safetensors"];
        bench.ok(&[&line[..], &pairs, &["-o", "moved.safetensors"]].concat());
        let again =
            ["compensate", "old.stats.safetensors", "--fit", "fit.safetensors", "-o", "again.safetensors"];
        let done = bench.json(&again);
        assert_eq!((done["classes"].as_u64(), done["mode"].as_str()), (Some(3), None));
        assert!(bench.ok(&again).contains("fit.safetensors"));
        // The file of a fit has no place for estimated errors and fingerprints.
        let (again, moved) = (load(&bench, "again.safetensors"), load(&bench, "moved.safetensors"));
        assert_eq!(distance(&again, &moved), 0.0, "{method}");
    }
    let fails = |code: i32, arguments: &[&str], text: &str| {
        let error = bench.fails(code, &[&["compensate", "old.stats.safetensors"], arguments].concat());
        assert!(error.contains(text), "{arguments:?}: {error}");
    };
    fails(3, &["--fit", "old.stats.safetensors", "-o", "x.safetensors"], "--save-fit writes it");
    fails(2, &["--fit", "fit.safetensors", "-o", "fit.safetensors"], "fit.safetensors");
    fails(
        2,
        &[&["--fit", "fit.safetensors", "-o", "x.safetensors"], &pairs[..]].concat(),
        "cannot be used with",
    );
    fails(
        2,
        &[&["--save-fit", "x.safetensors", "-o", "x.safetensors"], &pairs[..]].concat(),
        "x.safetensors",
    );
    let error =
        bench.fails(3, &["compensate", "fit.safetensors", "--fit", "fit.safetensors", "-o", "x.safetensors"]);
    assert!(error.contains("compensate --fit takes it"), "{error}");
    assert!(!bench.path("x.safetensors").exists());
}

/// Parts of any number, merged in any order and in two steps, are one run, byte for byte.
#[test]
fn parts_of_stats_merge_to_the_bytes_of_one_run() {
    let bench = bench();
    let (values, labels) = features(0..CLASSES, 0);
    for (name, range) in [("a", 0..70), ("b", 70..120)] {
        npy_features(&bench.path(&format!("{name}.npy")), DIM, &values[range.start * DIM..range.end * DIM]);
        npy_labels(&bench.path(&format!("y_{name}.npy")), &labels[range]);
    }
    let read = |name: &str| fs::read(bench.path(name)).unwrap();
    let both = ["stats", "a.npy", "b.npy", "--labels", "y_a.npy", "--labels", "y_b.npy", "--leaf-rows", "16"];
    let form = ["--precision", "f64", "--storage", "packed", "--shrinkage", "0.1"];
    bench.ok(&[&both[..], &form, &["-o", "whole.safetensors"]].concat());
    // Only one run over all samples notes which arrays they came from.
    let budget = Budget::unlimited();
    let whole = ClassStatistics::load(bench.path("whole.safetensors"), &budget).unwrap();
    assert_eq!(whole.tag().samples().count(), 2);
    whole.with_tag(Tag::default()).save(bench.path("whole.safetensors"), &budget).unwrap();
    bench.ok(&[&both[..], &["--partial", "1/1", "-o", "state.safetensors"]].concat());
    for parts in [1, 2, 3, 8] {
        let names: Vec<String> = (1..=parts).rev().map(|part| format!("part{part}.safetensors")).collect();
        let mut samples = 0;
        for (name, part) in names.iter().zip((1..=parts).rev()) {
            let part = format!("{part}/{parts}");
            let done = bench.json(&[&both[..], &["--partial", &part, "-o", name]].concat());
            assert_eq!(done["total_samples"], 120);
            samples += done["samples"].as_u64().unwrap();
        }
        assert_eq!(samples, 120);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let merge = |inputs: &[&str], more: &[&str]| bench.ok(&[&["stats", "merge"], inputs, more].concat());
        merge(&names, &[&form[..], &["-o", "merged.safetensors"]].concat());
        assert!(read("merged.safetensors") == read("whole.safetensors"), "{parts} parts");
        if let [first, rest @ ..] = &names[..]
            && !rest.is_empty()
        {
            merge(rest, &["--partial", "-o", "rest.safetensors"]);
            merge(&[first, "rest.safetensors"], &["--partial", "-o", "merged.safetensors"]);
            assert!(read("merged.safetensors") == read("state.safetensors"), "{parts} parts in two steps");
        }
    }
    let fails = |code: i32, arguments: &[&str], text: &str| {
        let error = bench.fails(code, &[arguments, &["-o", "x.safetensors"]].concat());
        assert!(error.contains(text), "{arguments:?}: {error}");
    };
    fails(2, &[&both[..], &["--partial", "1/9"]].concat(), "part 1 of 9 is empty");
    fails(2, &[&both[..], &["--partial", "0/2"]].concat(), "such as 2/8");
    fails(
        3,
        &["stats", "merge", "part1.safetensors", "part3.safetensors"],
        "start at leaf 2; leaf 1 comes next",
    );
    fails(3, &["stats", "merge", "part1.safetensors"], "rows 0 to 16 of 120");
    let pairs = ["--before", "a.npy", "--after", "a.npy"];
    fails(3, &[&["compensate", "part1.safetensors"], &pairs[..]].concat(), "merge all parts");
    fails(3, &["classify", "part1.safetensors", "a.npy"], "partial class statistics");
    bench.ok(&["stats", "a.npy", "--labels", "y_a.npy", "-o", "a.safetensors"]);
    fails(
        2,
        &["stats", "merge", "whole.safetensors", "a.safetensors", "--partial"],
        "holds no partial statistics",
    );
    fails(2, &["stats", "merge", "whole.safetensors"], "two files");
    assert!(!bench.path("x.safetensors").exists());
}

#[test]
fn stats_takes_every_option_and_inspect_shows_it() {
    let bench = bench();
    let options: [(&[&str], &str); 6] = [
        (&["--storage", "packed", "--precision", "bf16"], "packed"),
        (&["--storage", "low-rank:3"], "low-rank"),
        (&["--shrinkage", "oas"], "packed"),
        (&["--shrinkage", "0.25", "--precision", "f64"], "packed"),
        (&["--storage", "smallest", "--threads", "1"], "packed"),
        (&["--storage", "low-rank:2", "--shrinkage", "0.5"], "low-rank"),
    ];
    for (options, form) in options {
        bench.ok(&[&STATS[..], options].concat());
        let found = bench.json(&["inspect", "old.stats.safetensors"]);
        assert_eq!(found["kind"], "statistics", "{options:?}");
        let classes = found["statistics"]["classes"].as_array().unwrap();
        assert_eq!(classes.len(), CLASSES, "{options:?}");
        assert_eq!(classes[0]["form"], form, "{options:?}");
        assert_eq!(classes[0]["samples"], EACH);
    }
    assert!(bench.ok(&["inspect", "old.stats.safetensors"]).contains("low-rank r = 2, f32"));
    // Three samples in eight dimensions are their own factor, which Ledoit–Wolf needs.
    let (values, labels) = features(0..CLASSES, 0);
    npy_features(&bench.path("few.npy"), DIM, &values[..9 * DIM]);
    npy_labels(&bench.path("y_few.npy"), &labels[..9]);
    let few = ["stats", "few.npy", "--labels", "y_few.npy", "-o", "few.safetensors"];
    bench.ok(&few);
    let found = bench.json(&["inspect", "few.safetensors"]);
    assert_eq!(found["statistics"]["classes"][0]["form"], "factor");
    bench.ok(&[&few[..], &["--shrinkage", "ledoit-wolf"]].concat());
}

#[test]
fn every_method_follows_a_linear_drift() {
    let bench = bench();
    bench.ok(&STATS);
    bench.ok(&["stats", "old_after.npy", "--labels", "y_old.npy", "-o", "true.safetensors"]);
    let (stale, truth) = (load(&bench, "old.stats.safetensors"), load(&bench, "true.safetensors"));
    for method in ["linear", "attention", "rff", "weak-nonlinear"] {
        for mode in ["exact", "compat"] {
            let pairs = ["--before", "cur_before.npy", "--after", "cur_after.npy", "-o", "moved.safetensors"];
            let line = ["compensate", "old.stats.safetensors", "--method", method, "--mode", mode];
            let done = bench.json(&[&line[..], &pairs].concat());
            assert_eq!((done["method"].as_str(), done["mode"].as_str()), (Some(method), Some(mode)));
            assert_eq!((done["classes"].as_u64(), done["pairs"].as_u64()), (Some(3), Some(120)));
            let moved = load(&bench, "moved.safetensors");
            assert_eq!(moved.samples(), truth.samples());
            if method == "linear" && mode == "exact" {
                let (before, after) = (distance(&stale, &truth), distance(&moved, &truth));
                assert!(after < 0.02 * before, "{method} {mode}: {after} of {before}");
            }
        }
    }
    let pairs = ["--before", "cur_before.npy", "--after", "cur_after.npy", "-o", "noisy.safetensors"];
    let noisy = ["compensate", "old.stats.safetensors", "--method", "rff", "--noise", "0.5"];
    bench.ok(&[&noisy[..], &pairs].concat());
    // The pairs in two pieces are the same pairs.
    let (values, _) = features(CLASSES..2 * CLASSES, 7_000_000);
    for (name, values) in [("cur_before", values.clone()), ("cur_after", drift(&values))] {
        npy_features(&bench.path(&format!("{name}.1.npy")), DIM, &values[..50 * DIM]);
        npy_features(&bench.path(&format!("{name}.2.npy")), DIM, &values[50 * DIM..]);
    }
    let line = ["compensate", "old.stats.safetensors", "--method", "linear"];
    let whole = ["--before", "cur_before.npy", "--after", "cur_after.npy", "-o", "whole.safetensors"];
    bench.ok(&[&line[..], &whole].concat());
    let before = ["--before", "cur_before.1.npy", "--before", "cur_before.2.npy"];
    let after = ["--after", "cur_after.1.npy", "--after", "cur_after.2.npy", "-o", "parts.safetensors"];
    bench.ok(&[&line[..], &before, &after].concat());
    // So are the second ones as auxiliary pairs.
    let own = ["--before", "cur_before.1.npy", "--after", "cur_after.1.npy"];
    let auxiliary = ["--auxiliary", "cur_before.2.npy", "cur_after.2.npy", "-o", "auxiliary.safetensors"];
    bench.ok(&[&line[..], &own, &auxiliary].concat());
    let [whole, parts, auxiliary] =
        ["whole", "parts", "auxiliary"].map(|name| load(&bench, &format!("{name}.safetensors")));
    assert_eq!(distance(&whole, &parts), 0.0);
    assert_eq!(distance(&whole, &auxiliary), 0.0);
}

#[test]
fn classify_predicts_and_measures() {
    let bench = bench();
    bench.ok(&STATS);
    let (_, labels) = features(0..CLASSES, 0);
    for classifier in
        ["ncm", "ncm-cosine", "lda", "lda-shrink", "qda", "qda-shrink", "qda-pooled", "rgda", "rgda-low-rank"]
    {
        let line = ["classify", "old.stats.safetensors", "old.npy", "--classifier", classifier];
        let labelled = [&line[..], &["--labels", "y_old.npy", "--prior", "counts"]].concat();
        let found = bench.json(&[&labelled[..], &["--predictions"]].concat());
        assert_eq!(found["accuracy"].as_f64(), Some(100.0), "{classifier}: {found}");
        let predicted: Vec<u32> = serde_json::from_value(found["predictions"].clone()).unwrap();
        assert_eq!(predicted, labels);
    }
    let pooled = ["classify", "old.stats.safetensors", "old.npy", "--classifier", "qda-pooled"];
    let tune = ["--tune", "old.npy", "--tune-labels", "y_old.npy"];
    for options in [&["--own", "0.5", "--ridge", "0.1"][..], &tune, &["--rank", "3"]] {
        let found = bench.json(&[&pooled[..], options, &["--labels", "y_old.npy"]].concat());
        assert_eq!(found["accuracy"].as_f64(), Some(100.0), "{options:?}: {found}");
        let weights = [found["own"].as_f64().unwrap(), found["ridge"].as_f64().unwrap()];
        assert_eq!(weights == [0.5, 0.1], options.contains(&"--own"), "{found}");
    }
    let line = ["classify", "old.stats.safetensors", "old.npy"];
    let lines: String = labels.iter().map(|label| format!("{label}\n")).collect();
    assert_eq!(bench.ok(&line), lines);
    for name in ["p.npy", "p.txt", "p.safetensors"] {
        assert!(bench.ok(&[&line[..], &["-o", name]].concat()).contains(name));
    }
    assert_eq!(fs::read_to_string(bench.path("p.txt")).unwrap(), lines);
    let raw: Vec<u8> = labels.iter().flat_map(|label| label.to_le_bytes()).collect();
    assert!(fs::read(bench.path("p.npy")).unwrap().ends_with(&raw));
    // What was predicted can be given as labels.
    for predicted in ["p.npy", "p.safetensors"] {
        assert_eq!(bench.json(&[&line[..], &["--labels", predicted]].concat())["correct"], labels.len());
    }
}

/// Labels of a class that the statistics lack, by class, and by task from a state.
#[test]
fn classify_counts_by_class_and_by_task() {
    let bench = bench();
    bench.ok(&["task", "state.safetensors", "--after", "old.npy", "--labels", "y_old.npy", "--name", "one"]);
    let pairs = ["--before", "cur_before.npy", "--after", "cur_after.npy", "--labels", "y_cur.npy"];
    bench.ok(&[&["task", "state.safetensors"], &pairs[..]].concat());
    let (old, y_old) = features(0..CLASSES, 0);
    let (cur, y_cur) = features(CLASSES..2 * CLASSES, 7_000_000);
    npy_features(&bench.path("test.npy"), DIM, &drift(&[&old[..], &cur].concat()));
    // Five samples of class 0 have a label that nobody knows, and ten have a wrong one.
    let mut labels = [y_old, y_cur].concat();
    let zeros: Vec<usize> = (0..labels.len()).filter(|&row| labels[row] == 0).collect();
    zeros[..5].iter().for_each(|&row| labels[row] = 99);
    zeros[5..15].iter().for_each(|&row| labels[row] = 1);
    npy_labels(&bench.path("y_test.npy"), &labels);
    let line = ["classify", "state.safetensors", "test.npy", "--labels", "y_test.npy"];
    let found = bench.json(&[&line[..], &["--by-class"]].concat());
    let all = 2 * CLASSES * EACH;
    assert_eq!((found["unknown"].as_u64(), found["correct"].as_u64()), (Some(5), Some(all as u64 - 15)));
    assert_eq!(found["variant"], "SeqFT + linear");
    assert!(
        (found["accuracy"].as_f64().unwrap() - 100.0 * (all - 15) as f64 / (all - 5) as f64).abs() < 1e-9
    );
    assert!(found.get("predictions").is_none(), "{found}");
    let classes = found["by_class"].as_array().unwrap();
    assert_eq!(classes.len(), 2 * CLASSES);
    assert_eq!((classes[1]["samples"].as_u64(), classes[1]["correct"].as_u64()), (Some(50), Some(40)));
    assert_eq!(classes[1]["accuracy"], 80.0);
    let tasks = found["by_task"].as_array().unwrap();
    assert_eq!((tasks[0]["name"].as_str(), tasks[0]["samples"].as_u64()), (Some("one"), Some(115)));
    assert_eq!((tasks[1]["task"].as_u64(), tasks[1]["accuracy"].as_f64()), (Some(2), Some(100.0)));
    let shown = bench.ok(&[&line[..], &["--by-class"]].concat());
    assert!(shown.contains("1: one") && shown.contains("80.0 %"), "{shown}");
    // Another variant, and one that is not there.
    let stale = bench.json(&[&line[..], &["--method", "none"]].concat());
    assert_eq!(stale["variant"], "SeqFT");
    let error = bench.fails(2, &[&line[..], &["--method", "rff"]].concat());
    assert!(error.contains("--method takes none, linear"), "{error}");
    bench.ok(&STATS);
    let error = bench.fails(2, &["classify", "old.stats.safetensors", "test.npy", "--method", "linear"]);
    assert!(error.contains("for a state of tasks"), "{error}");
}

/// What would silently give wrong statistics.
#[test]
fn merges_of_different_models_or_the_same_samples_are_refused() {
    let bench = bench();
    bench.ok(&STATS);
    let line = ["compensate", "old.stats.safetensors", "-o", "moved.safetensors", "--model", "tuned"];
    let pairs = ["--before", "cur_before.npy", "--after", "cur_after.npy"];
    bench.ok(&[&line[..], &pairs].concat());
    let stats = |features: &str, labels: &str, output: &str, model: &[&str]| {
        bench.ok(&[&["stats", features, "--labels", labels, "-o", output], model].concat());
    };
    stats("cur_after.npy", "y_cur.npy", "new.safetensors", &[]);
    stats("cur_before.npy", "y_cur.npy", "early.safetensors", &[]);
    stats("cur_after.npy", "y_cur.npy", "other.safetensors", &["--model", "other"]);
    let merge =
        |file: &str| bench.fails(2, &["stats", "merge", "moved.safetensors", file, "-o", "m.safetensors"]);
    assert!(merge("old.stats.safetensors").contains("the same array: they would count twice"));
    assert!(
        merge("early.safetensors")
            .contains("early.safetensors and the files before it: they are of different")
    );
    assert!(merge("other.safetensors").contains("\"tuned\" and \"other\""));
    bench.ok(&["stats", "merge", "moved.safetensors", "new.safetensors", "-o", "all.safetensors"]);
    let found = bench.json(&["inspect", "all.safetensors"]);
    assert_eq!(
        (found["statistics"]["model"].as_str(), found["statistics"]["tasks"].as_u64()),
        (Some("tuned"), Some(1))
    );
    // The same task once more, and its pairs the wrong way round.
    let again = ["compensate", "moved.safetensors", "-o", "m.safetensors"];
    assert!(
        bench.fails(2, &[&again[..], &pairs].concat()).contains("moved.safetensors: the features before")
    );
    let swapped = ["--before", "cur_after.npy", "--after", "cur_before.npy"];
    let new = ["compensate", "early.safetensors", "-o", "m.safetensors"];
    assert!(bench.fails(2, &[&new[..], &swapped].concat()).contains("swapped"));
    assert!(!bench.path("m.safetensors").exists());
}

#[test]
fn tasks_go_on_from_the_saved_state() {
    let bench = bench();
    let methods = ["--method", "linear", "--method", "rff"];
    let first = ["task", "state.safetensors", "--after", "old.npy", "--labels", "y_old.npy"];
    assert_eq!(bench.json(&[&first[..], &methods].concat())["tasks"], 1);
    let shown = bench.ok(&["inspect", "state.safetensors"]);
    assert!(shown.contains(": tasks, ") && shown.contains("1 finished task, d = 8"), "{shown}");
    let error = bench.fails(2, &first);
    assert!(error.contains("knows 1 task: name --before"), "{error}");
    let pairs = ["--before", "cur_before.npy", "--after", "cur_after.npy", "--labels", "y_cur.npy"];
    let second = [&["task", "state.safetensors"], &pairs[..]].concat();
    let done = bench.json(&second);
    assert_eq!(done["tasks"], 2);
    let names: Vec<_> = done["variants"].as_array().unwrap().iter().map(|v| v["name"].clone()).collect();
    assert_eq!(names, ["SeqFT", "SeqFT + linear", "SeqFT + rff"]);
    assert!(done["variants"].as_array().unwrap().iter().all(|v| v["classes"] == 2 * CLASSES));
    let found = bench.json(&["inspect", "state.safetensors"]);
    assert_eq!(found["kind"], "tasks");
    for key in ["tasks", "dim", "variants"] {
        assert_eq!(found["tasks"][key], done[key], "{found}");
    }
    let shown = bench.ok(&["inspect", "state.safetensors"]);
    assert!(shown.contains("2 finished tasks") && shown.contains("SeqFT + rff"), "{shown}");

    // The same by single commands.
    bench.ok(&STATS);
    let line = ["compensate", "old.stats.safetensors", "--method", "linear", "-o", "moved.safetensors"];
    bench.ok(&[&line[..], &pairs[..4]].concat());
    bench.ok(&["stats", "cur_after.npy", "--labels", "y_cur.npy", "-o", "new.safetensors"]);
    bench.ok(&["stats", "merge", "moved.safetensors", "new.safetensors", "-o", "all.safetensors"]);
    bench.ok(&["stats", "extract", "state.safetensors", "--method", "linear", "-o", "linear.safetensors"]);
    assert!(distance(&load(&bench, "linear.safetensors"), &load(&bench, "all.safetensors")) < 1e-6);
    bench.ok(&["stats", "extract", "state.safetensors", "-o", "stale.safetensors"]);
    assert!(distance(&load(&bench, "stale.safetensors"), &load(&bench, "all.safetensors")) > 1.0);

    // A task that fails leaves the state as it was.
    let before = fs::read(bench.path("state.safetensors")).unwrap();
    npy_labels(&bench.path("y_few.npy"), &[3, 4, 5]);
    bench.fails(3, &[&second[..6], &["--labels", "y_few.npy"]].concat());
    assert_eq!(fs::read(bench.path("state.safetensors")).unwrap(), before);
}

#[test]
fn tasks_learn_from_the_pairs_that_are_named() {
    let bench = bench();
    // The task's own samples do not move, the others do.
    let (other, _) = features(0..2 * CLASSES, 9_000_000);
    npy_features(&bench.path("other.npy"), DIM, &other);
    npy_features(&bench.path("other_after.npy"), DIM, &drift(&other));
    bench.ok(&["task", "first.safetensors", "--after", "old.npy", "--labels", "y_old.npy"]);
    bench.ok(&["stats", "old_after.npy", "--labels", "y_old.npy", "-o", "true.safetensors"]);
    bench.ok(&STATS);
    let (truth, stale) = (load(&bench, "true.safetensors"), load(&bench, "old.stats.safetensors"));
    let moved = |options: &[&str]| {
        fs::copy(bench.path("first.safetensors"), bench.path("state.safetensors")).unwrap();
        let task = ["task", "state.safetensors", "--before", "cur_before.npy", "--after", "cur_before.npy"];
        bench.ok(&[&task[..], &["--labels", "y_cur.npy"], options].concat());
        bench.ok(&["stats", "extract", "state.safetensors", "--method", "linear", "-o", "l.safetensors"]);
        load(&bench, "l.safetensors").select(|label| label < CLASSES as u32)
    };
    let others = ["--auxiliary", "other.npy", "other_after.npy"];
    let all = distance(&stale, &truth);
    let found = |pairs: &str| moved(&[&others[..], &["--pairs", pairs]].concat());
    assert!(distance(&found("auxiliary"), &truth) < 0.02 * all);
    assert!(distance(&found("current"), &stale) < 1e-6 * all);
    let both = found("both");
    assert!(distance(&both, &truth) > 0.02 * all && distance(&both, &stale) > 0.02 * all);
    assert_eq!(distance(&moved(&others), &both), 0.0);
}

#[test]
fn evaluate_keeps_to_the_protocol() {
    let bench = Bench::new();
    whole_features(&bench);
    let line = ["evaluate", "drift.safetensors", "--method", "linear"];
    // Measured in Python on the same file: percent of all, old and new classes. A sample or two may differ.
    let expected = [
        ("stale", "ncm", [68.3, 57.5, 79.2]),
        ("stale", "lda", [60.8, 36.8, 84.8]),
        ("stale", "lda-shrink", [63.6, 43.2, 83.9]),
        ("stale", "qda-shrink", [68.4, 52.3, 84.5]),
        ("true", "ncm", [71.5, 67.9, 75.1]),
        ("true", "lda", [74.3, 72.2, 76.5]),
        ("true", "lda-shrink", [74.5, 71.6, 77.3]),
        ("true", "qda-shrink", [75.7, 73.0, 78.4]),
    ];
    let rows = bench.json(&line);
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 15);
    for row in rows {
        let keys: Vec<_> = row.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["all", "classifier", "new", "old", "statistics"]);
    }
    for (statistics, classifier, percents) in expected {
        let found = |row: &&Value| row["statistics"] == statistics && row["classifier"] == classifier;
        let row = rows.iter().find(found).unwrap();
        for (key, percent) in ["all", "old", "new"].into_iter().zip(percents) {
            assert!((row[key].as_f64().unwrap() - percent).abs() < 0.21, "{row}, expected {percents:?}");
        }
    }
    let moved = rows.iter().find(|row| row["statistics"] == "linear" && row["classifier"] == "lda").unwrap();
    assert!(moved["all"].as_f64().unwrap() > 72.0, "{moved}");
    let lora = bench.json(&[&line[..], &["--variant", "lora", "--mode", "compat"]].concat());
    assert_ne!(lora.as_array().unwrap()[0], rows[0]);
    assert!(bench.ok(&line).contains("15 old and 15 new classes, d = 384"));
}

#[test]
fn reports_show_statistics_and_evaluations() {
    let bench = bench();
    bench.ok(&STATS);
    bench.ok(&["stats", "old_after.npy", "--labels", "y_old.npy", "-o", "true.safetensors"]);
    let shown = |arguments: &[&str], plots: usize, words: &[&str]| {
        bench.ok(&[&["report", "-o", "r.html"], arguments].concat());
        let html = fs::read_to_string(bench.path("r.html")).unwrap();
        assert_eq!(html.matches("<svg").count(), plots, "{arguments:?}");
        for word in words {
            assert!(html.contains(word), "{arguments:?}: {word}");
        }
        let foreign = html.replace("http://www.w3.org/2000/svg", "");
        assert!(!foreign.contains("http") && !foreign.contains("<script") && !foreign.contains("url("));
    };
    shown(&["old.stats.safetensors"], 2, &["Eigenvalues", "3 classes"]);
    shown(&["old.stats.safetensors", "--against", "true.safetensors"], 2, &["before and after", "moved by"]);
    bundle_features(&bench);
    let plots = if cfg!(target_os = "linux") { 3 } else { 2 };
    shown(&["residua-demo/drift.safetensors"], plots, &["Accuracy by method", "weak-nonlinear", "budget"]);
    let file = Checkpoint::open(bench.path("true.safetensors")).unwrap();
    assert!(file.metadata().contains_key("residua.statistics"));
}

/// Three tasks whose drift is linear: moved statistics are as good as true ones, and errors of stale ones grow.
#[test]
fn evaluate_goes_through_a_sequence() {
    let bench = Bench::new();
    let path = bench.path("sequence.safetensors");
    let mut file = SafetensorsWriter::create(&path, 4096).unwrap();
    let moved = |values: &[f32], times: usize| (0..times).fold(values.to_vec(), |values, _| drift(&values));
    let mut write = |name: String, values: &[f32], labels: Option<&[u32]>| {
        let bytes = common::bytes(values);
        file.tensor(&name, Dtype::F32, &[values.len() / DIM, DIM], &bytes).unwrap();
        if let Some(labels) = labels {
            let bytes: Vec<u8> = labels.iter().flat_map(|label| label.to_le_bytes()).collect();
            file.tensor(&format!("{name}_y"), Dtype::U32, &[labels.len()], &bytes).unwrap();
        }
    };
    for task in 1..=3 {
        let classes = 2 * (task - 1)..2 * task;
        let (values, _) = features(classes, 1_000_000 * task as u64);
        write(format!("task_{task}_before"), &moved(&values, task - 1), None);
        write(format!("task_{task}_after"), &moved(&values, task), None);
        let (all, y_all) = features(0..2 * task, 50_000_000);
        write(format!("all_{task}"), &moved(&all, task), Some(&y_all));
        write(format!("test_{task}"), &moved(&all, task), Some(&y_all));
        let (other, _) = features(0..6, 90_000_000);
        write(format!("aux_{task}_before"), &moved(&other, task - 1), None);
        write(format!("aux_{task}_after"), &moved(&other, task), None);
    }
    for task in 1..=3 {
        let (_, labels) = features(2 * (task - 1)..2 * task, 0);
        let bytes: Vec<u8> = labels.iter().flat_map(|label| label.to_le_bytes()).collect();
        file.tensor(&format!("task_{task}_y"), Dtype::U32, &[labels.len()], &bytes).unwrap();
    }
    file.finish().unwrap();
    let line = ["evaluate", "sequence.safetensors", "--sequence", "--method", "linear"];
    let steps = bench.json(&line);
    let steps = steps.as_array().unwrap();
    assert_eq!(steps.len(), 3 * 3 * 5);
    let step = |task: u64, statistics: &str| {
        let found = |step: &&Value| {
            step["task"] == task && step["statistics"] == statistics && step["classifier"] == "lda-shrink"
        };
        steps.iter().find(found).unwrap()
    };
    let errors = |task, statistics| -> Vec<f64> {
        serde_json::from_value(step(task, statistics)["errors"].clone()).unwrap()
    };
    assert_eq!(step(3, "linear")["all"], 100.0);
    assert!(errors(3, "stale")[0] > errors(2, "stale")[0] && errors(2, "stale")[0] > 10.0);
    assert!(errors(3, "linear")[0] < 0.01 * errors(3, "stale")[0]);
    assert_eq!((errors(3, "true"), errors(3, "linear").len()), (vec![0.0; 3], 3));
    // The table, and the same without auxiliary inputs.
    assert!(bench.ok(&line).contains("squared error by task"));
    let without = bench.json(&[&line[..], &["--no-auxiliary"]].concat());
    assert_ne!(without.as_array().unwrap(), steps);
    let error = bench.fails(3, &["evaluate", "old.safetensors", "--sequence"]);
    assert!(error.contains("task_1_after"), "{error}");
}
