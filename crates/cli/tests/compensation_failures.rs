//! Errors in features, labels and statistics name file, tensor and row.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Bench, bundle_features, bytes, noise, npy, npy_features, npy_labels, stated};
use residua::format::file::{Dtype, SafetensorsWriter};

const DIM: usize = 6;
const ROWS: usize = 60;

fn values(rows: usize, dim: usize) -> Vec<f32> {
    (0..rows * dim).map(|i| noise(i as u64)).collect()
}

fn bench() -> Bench {
    let bench = Bench::new();
    let labels: Vec<u32> = (0..ROWS as u32).map(|row| row % 3).collect();
    npy_features(&bench.path("x.npy"), DIM, &values(ROWS, DIM));
    npy_features(&bench.path("y.npy"), DIM, &values(ROWS, DIM));
    npy_labels(&bench.path("labels.npy"), &labels);
    npy_features(&bench.path("short.npy"), DIM, &values(ROWS - 1, DIM));
    npy_labels(&bench.path("few.npy"), &labels[1..]);
    npy_features(&bench.path("wide.npy"), DIM + 1, &values(ROWS, DIM + 1));
    npy_features(&bench.path("empty.npy"), DIM, &[]);
    npy_labels(&bench.path("none.npy"), &[]);
    let mut nan = values(ROWS, DIM);
    nan[17 * DIM + 4] = f32::NAN;
    npy_features(&bench.path("nan.npy"), DIM, &nan);
    npy(&bench.path("negative.npy"), "<i4", &[ROWS], &[255; 4 * ROWS]);
    npy(&bench.path("deep.npy"), "<f4", &[2, 3, 4], &bytes(&values(6, 4)));
    let mut file = SafetensorsWriter::create(bench.path("x.safetensors"), 512).unwrap();
    file.tensor("before", Dtype::F32, &[ROWS, DIM], &bytes(&values(ROWS, DIM))).unwrap();
    file.tensor("after", Dtype::F32, &[ROWS, DIM], &bytes(&nan)).unwrap();
    file.tensor("y", Dtype::U8, &[ROWS], &[1; ROWS]).unwrap();
    file.finish().unwrap();
    bench.ok(&["stats", "x.npy", "--labels", "labels.npy", "-o", "s.safetensors"]);
    bench.ok(&["stats", "wide.npy", "--labels", "labels.npy", "-o", "wide.safetensors"]);
    bench
}

#[test]
fn bad_input_is_3_and_named() {
    let bench = bench();
    let out = ["-o", "out.safetensors"];
    let stats = |features, labels| [&["stats", features, "--labels", labels], &out[..]].concat();
    let compensate = |before, after| {
        [&["compensate", "s.safetensors", "--before", before, "--after", after], &out[..]].concat()
    };
    let table: [(Vec<&str>, &[&str]); 16] = [
        (stats("nan.npy", "labels.npy"), &["nan.npy", "row 17", "column 4", "NaN"]),
        (stats("x.safetensors:after", "y"), &["x.safetensors:after", "row 17", "NaN"]),
        (stats("x.npy", "few.npy"), &["few.npy", "59", "60"]),
        (stats("empty.npy", "none.npy"), &["empty.npy", "empty"]),
        (stats("x.npy", "negative.npy"), &["negative.npy", "labels"]),
        (stats("deep.npy", "labels.npy"), &["deep.npy", "[2, 3, 4]"]),
        (stats("x.safetensors:absent", "y"), &["x.safetensors", "absent"]),
        (compensate("x.npy", "short.npy"), &["short.npy", "59", "60"]),
        (compensate("x.npy", "wide.npy"), &["wide.npy", "dimension 7", "6"]),
        (compensate("x.npy", "nan.npy"), &["nan.npy", "row 17", "after the task"]),
        (compensate("wide.npy", "wide.npy"), &["wide.npy", "dimension 7", "s.safetensors", "6"]),
        (compensate("empty.npy", "empty.npy"), &["empty.npy", "empty"]),
        (
            [&["stats", "merge", "s.safetensors", "wide.safetensors"], &out[..]].concat(),
            &["wide.safetensors", "dimension 7", "6"],
        ),
        (["classify", "s.safetensors", "wide.npy"].into(), &["wide.npy", "dimension 7", "s.safetensors"]),
        (["classify", "s.safetensors", "nan.npy"].into(), &["nan.npy", "row 17"]),
        (["classify", "x.safetensors", "x.npy"].into(), &["x.safetensors", "no class statistics"]),
    ];
    for (arguments, messages) in table {
        let error = bench.fails(3, &arguments);
        for message in messages {
            assert!(error.contains(message), "{arguments:?}: no {message:?} in {error}");
        }
    }
    // The third block of the second file: the error counts rows from the start of that file.
    let mut late = values(700, DIM);
    late[600 * DIM] = f32::INFINITY;
    npy_features(&bench.path("late.npy"), DIM, &late);
    let before = ["compensate", "s.safetensors", "--before", "x.npy", "--before", "late.npy"];
    let after = ["--after", "y.npy", "--after", "late.npy"];
    let error = bench.fails(3, &[&before[..], &after, &out].concat());
    assert!(error.contains("late.npy") && error.contains("row 600"), "{error}");
    let error = bench.fails(3, &["classify", "s.safetensors", "late.npy"]);
    assert!(error.contains("late.npy") && error.contains("row 600"), "{error}");
    let first = ["task", "state.safetensors", "--after", "x.npy", "--labels", "labels.npy"];
    bench.ok(&first);
    // The samples are those of the first task.
    let task = [&first[..], &["--again", "--before", "y.npy", "--auxiliary"]].concat();
    for pairs in ["both", "auxiliary"] {
        let error = bench.fails(3, &[&task[..], &["late.npy", "late.npy", "--pairs", pairs]].concat());
        assert!(error.contains("late.npy") && error.contains("row 600"), "{error}");
    }
    let error = bench.fails(3, &[&task[..], &["x.npy", "short.npy"]].concat());
    assert!(error.contains("short.npy") && error.contains("59"), "{error}");
    let error = bench.fails(3, &[&task[..], &["wide.npy", "wide.npy"]].concat());
    assert!(error.contains("wide.npy") && error.contains("dimension 7"), "{error}");
    let error = bench.fails(3, &["evaluate", "x.safetensors"]);
    assert!(error.contains("x.safetensors") && error.contains("y_old"), "{error}");
    assert!(!bench.path("out.safetensors").exists());
}

#[test]
fn weights_are_told_from_files_about_classes() {
    let bench = bench();
    bench.ok(&["task", "state.safetensors", "--after", "x.npy", "--labels", "labels.npy"]);
    bench.ok(&["diff", "old.safetensors", "new.safetensors", "-o", "delta.safetensors"]);
    for (file, holds) in [("s.safetensors", "class statistics"), ("state.safetensors", "the state of tasks")]
    {
        let table = [
            format!("split {file} -o out.safetensors"),
            format!("split model.safetensors --base {file} -o out.safetensors"),
            format!("verify {file}"),
            format!("materialize {file} -o out.safetensors"),
            format!("patch old.safetensors {file} -o out.safetensors"),
        ];
        for line in table {
            let error = bench.fails(3, &line.split(' ').collect::<Vec<_>>());
            assert!(error.contains(&format!("{file}: holds {holds}, no weights;")), "{line}: {error}");
        }
    }
    for line in ["verify model.safetensors", "patch old.safetensors model.safetensors -o out.safetensors"] {
        let error = bench.fails(3, &line.split(' ').collect::<Vec<_>>());
        assert!(error.contains("ordinary safetensors file, not a container"), "{error}");
    }
    let error = bench.fails(3, &["report", "model.safetensors", "-o", "r.html"]);
    assert!(error.contains("report takes those of split, stats and compensate"), "{error}");
    let error = bench.fails(3, &["report", "state.safetensors", "-o", "r.html"]);
    assert!(error.contains("residua stats extract"), "{error}");
    assert!(!bench.path("out.safetensors").exists() && !bench.path("r.html").exists());
}

#[test]
fn bad_usage_is_2() {
    let bench = bench();
    bundle_features(&bench);
    let features = "residua-demo/drift.safetensors";
    let out = ["-o", "out.safetensors"];
    let pairs = ["--before", "x.npy", "--after", "y.npy", "-o", "out.safetensors"];
    let noisy = ["compensate", "s.safetensors", "--method", "attention", "--noise", "0.5"];
    let task = ["task", "s.safetensors", "--after", "x.npy", "--labels", "labels.npy"];
    let table: [(&[&str], &str); 28] = [
        (
            &[&["task", "first.safetensors"], &task[2..], &["--before", "x.npy"]].concat(),
            "nothing is before the first",
        ),
        (&[&task[..], &["--pairs", "auxiliary"]].concat(), "--auxiliary"),
        (&[&task[..], &["--auxiliary", "x.npy"]].concat(), "2 values"),
        (&[&noisy[..], &pairs].concat(), "--noise"),
        (&[&["stats", "x.npy"], &out[..]].concat(), "--labels"),
        (
            &[&["stats", "x.npy", "--labels", "a.npy", "--labels", "b.npy"], &out[..]].concat(),
            "1 arrays of features",
        ),
        (&[&["stats", "x.safetensors"], &out[..]].concat(), "x.safetensors:before"),
        (&[&["stats", "x.txt", "--labels", "labels.npy"], &out[..]].concat(), ".npy or .safetensors"),
        (&["stats", "x.npy", "--labels", "labels.npy"], "--output"),
        (
            &[&["stats", "x.npy", "--labels", "labels.npy", "--storage", "tiny"], &out[..]].concat(),
            "low-rank:64",
        ),
        (&[&["stats", "x.npy", "--labels", "labels.npy", "--shrinkage", "2"], &out[..]].concat(), "oas"),
        (
            &[
                &[
                    "compensate",
                    "s.safetensors",
                    "--before",
                    "x.npy",
                    "--before",
                    "y.npy",
                    "--after",
                    "y.npy",
                ],
                &out[..],
            ]
            .concat(),
            "one for each",
        ),
        (
            &[&["compensate", "s.safetensors", "--method", "magic", "--before", "x.npy"], &out[..]].concat(),
            "weak-nonlinear",
        ),
        (&["classify", "s.safetensors", "x.npy", "-o", "p.csv"], ".npy, .safetensors or .txt"),
        (&[&["stats", "merge", "s.safetensors"], &out[..]].concat(), "two files of class statistics"),
        (
            &[&["stats", "merge", "s.safetensors", "./s.safetensors"], &out[..]].concat(),
            "./s.safetensors is given twice",
        ),
        (&["evaluate", "x.safetensors", "--noise", "0.5", "--mode", "compat"], "--noise"),
        (&["evaluate", "x.safetensors", "--noise", "0.5", "--method", "attention"], "--noise"),
        (&["evaluate", "x.safetensors", "--method", "rff", "--method", "rff"], "--method rff is given twice"),
        (&[&task[..], &["--method", "rff", "--method", "rff"]].concat(), "--method rff is given twice"),
        (&["classify", "s.safetensors", "x.npy", "--classifier", "ncm", "--shrink", "0.2"], "--shrink"),
        (&["classify", "s.safetensors", "x.npy", "--classifier", "qda", "--own", "0.2"], "for qda-pooled"),
        (&["classify", "s.safetensors", "x.npy", "--classifier", "lda", "--rank", "2"], "for qda-pooled"),
        (
            &["classify", "s.safetensors", "x.npy", "--classifier", "qda-pooled", "--tune", "x.npy"],
            "--tune-labels",
        ),
        (&["report", "s.safetensors", "--variant", "lora", "-o", "r.html"], "no --variant"),
        (&["report", "s.safetensors", "--base", "x.safetensors", "-o", "r.html"], "no --base"),
        (&["report", features, "--against", "s.safetensors", "-o", "r.html"], "no --against"),
        (&["report", features, "--base", "s.safetensors", "-o", "r.html"], "no --base"),
    ];
    for (arguments, message) in table {
        let error = bench.fails(2, arguments);
        assert!(error.contains(message), "{arguments:?}: {error}");
    }
    assert!(!bench.path("out.safetensors").exists());
}

/// The output would replace its own input.
#[test]
fn an_input_as_output_is_2_and_stays_as_it_was() {
    let bench = bench();
    bench.ok(&["task", "state.safetensors", "--after", "x.npy", "--labels", "labels.npy"]);
    let table = [
        ("stats x.npy --labels labels.npy", "x.npy"),
        ("stats x.npy --labels labels.npy", "./labels.npy"),
        ("stats x.safetensors:before --labels y", "x.safetensors"),
        ("stats merge s.safetensors wide.safetensors", "wide.safetensors"),
        ("stats extract state.safetensors", "state.safetensors"),
        ("compensate s.safetensors --before x.npy --after y.npy", "s.safetensors"),
        ("compensate s.safetensors --before x.npy --after y.npy", "x.npy"),
        ("compensate s.safetensors --before x.npy --after y.npy", "y.npy"),
        ("classify s.safetensors x.npy", "x.npy"),
        ("classify s.safetensors x.npy", "s.safetensors"),
        ("classify s.safetensors x.npy --labels labels.npy", "labels.npy"),
        ("report s.safetensors", "s.safetensors"),
        ("report s.safetensors --against wide.safetensors", "wide.safetensors"),
    ];
    for (line, output) in table {
        let before = std::fs::read(bench.path(output)).unwrap();
        let error = bench.fails(2, &line.split(' ').chain(["-o", output]).collect::<Vec<_>>());
        assert!(error.contains(&format!("{output}: the output is the input")), "{line}: {error}");
        assert!(std::fs::read(bench.path(output)).unwrap() == before, "{line} -o {output}");
    }
    for state in ["x.npy", "y.npy", "labels.npy", "nan.npy", "wide.npy"] {
        let task = ["task", state, "--before", "x.npy", "--after", "y.npy", "--labels", "labels.npy"];
        let error = bench.fails(2, &[&task[..], &["--auxiliary", "nan.npy", "wide.npy"]].concat());
        assert!(error.contains("the output is the input"), "{state}: {error}");
    }
}

/// The command checks the folder before it reads the features; it would refuse those too.
#[test]
fn a_missing_folder_is_told_before_anything_is_computed() {
    let bench = bench();
    let table = [
        "stats nan.npy --labels labels.npy -o absent/o.safetensors",
        "stats merge s.safetensors wide.safetensors -o absent/o.safetensors",
        "stats extract s.safetensors -o absent/o.safetensors",
        "compensate s.safetensors --before nan.npy --after nan.npy -o absent/o.safetensors",
        "classify s.safetensors nan.npy -o absent/o.npy",
        "task absent/o.safetensors --after nan.npy --labels labels.npy",
        "report x.safetensors -o absent/o.html",
    ];
    for line in table {
        let error = bench.fails(5, &line.split(' ').collect::<Vec<_>>());
        assert!(error.contains("cannot create: folder absent does not exist"), "{line}: {error}");
    }
}

#[test]
fn too_small_a_budget_is_4_and_files_that_are_not_there_are_5() {
    let bench = bench();
    let out = ["-o", "out.safetensors"];
    let pairs = ["--before", "x.npy", "--after", "y.npy"];
    let compensate = [&["compensate", "s.safetensors"], &pairs[..], &out].concat();
    let table: [&[&str]; 6] = [
        &[&["stats", "x.npy", "--labels", "labels.npy"], &out[..]].concat(),
        &[&["stats", "merge", "s.safetensors", "wide.safetensors"], &out[..]].concat(),
        &compensate,
        &["classify", "s.safetensors", "x.npy"],
        &["evaluate", "x.safetensors"],
        &["task", "state.safetensors", "--after", "x.npy", "--labels", "labels.npy"],
    ];
    for arguments in table {
        let error = bench.fails(4, &[arguments, &["--memory-budget", "1MiB"]].concat());
        assert!(error.contains("; at least "), "{arguments:?}: {error}");
    }
    // The job, not the process, is too large: covariances of 16,000 dimensions do not fit.
    npy_features(&bench.path("huge.npy"), 16_000, &values(3, 16_000));
    npy_features(&bench.path("huge_stats.npy"), 16_000, &values(3, 16_000));
    npy_labels(&bench.path("y_huge.npy"), &[0, 0, 1]);
    bench.ok(&["stats", "huge_stats.npy", "--labels", "y_huge.npy", "-o", "huge.safetensors"]);
    let huge = ["compensate", "huge.safetensors", "--before", "huge.npy", "--after", "huge.npy"];
    let error = bench.fails(4, &[&huge[..], &out].concat());
    assert!(error.contains("GiB") && error.contains("; at least "), "{error}");
    let absent: [&[&str]; 5] = [
        &[&["stats", "absent.npy", "--labels", "labels.npy"], &out[..]].concat(),
        &[&["stats", "x.npy", "--labels", "absent.npy"], &out[..]].concat(),
        &["classify", "absent.safetensors", "x.npy"],
        &["evaluate", "absent.safetensors"],
        &["stats", "x.npy", "--labels", "labels.npy", "-o", "absent/out.safetensors"],
    ];
    for arguments in absent {
        let error = bench.fails(5, arguments);
        assert!(error.contains("absent"), "{arguments:?}: {error}");
    }
    assert!(!bench.path("out.safetensors").exists());
}

/// The number in the error of a small budget is enough for every classifier, for every method, and for the statistics
/// themselves.
#[test]
fn the_stated_budget_is_enough() {
    const DIM: usize = 96;
    const CLASSES: u32 = 60;
    let bench = Bench::new();
    let rows = 100 * CLASSES as usize;
    npy_features(&bench.path("x.npy"), DIM, &values(rows, DIM));
    let doubles: Vec<u8> = values(rows, DIM).iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect();
    npy(&bench.path("d.npy"), "<f8", &[rows, DIM], &doubles);
    // Classes of different sizes.
    let labels: Vec<u32> = (0..rows as u32).map(|row| (row % 97).min(row % CLASSES)).collect();
    npy_labels(&bench.path("l.npy"), &labels);
    let refused = |command: &[&str], budget: u64| {
        stated(&bench.fails(4, &[command, &["--memory-budget", &format!("{budget}B")]].concat()))
    };
    let mut commands: Vec<Vec<&str>> = vec![
        vec!["stats", "x.npy", "--labels", "l.npy", "-o", "s.safetensors", "--storage", "packed"],
        vec!["stats", "d.npy", "--labels", "l.npy", "-o", "t.safetensors", "--precision", "f64"],
    ];
    for classifier in
        ["ncm", "ncm-cosine", "lda", "lda-shrink", "qda", "qda-shrink", "qda-pooled", "rgda", "rgda-low-rank"]
    {
        commands.push(vec!["classify", "s.safetensors", "d.npy", "--classifier", classifier]);
    }
    npy_features(&bench.path("p.npy"), DIM, &values(300, DIM));
    npy_features(&bench.path("q.npy"), DIM, &values(400, DIM)[100 * DIM..]);
    npy_labels(&bench.path("few.npy"), &(0..300).map(|row| row % 2).collect::<Vec<_>>());
    npy_labels(&bench.path("more.npy"), &(0..300).map(|row| 1 + row % 2).collect::<Vec<_>>());
    let pairs = ["--before", "p.npy", "--after", "q.npy"];
    bench.ok(&["stats", "p.npy", "--labels", "few.npy", "-o", "few.safetensors"]);
    for method in ["linear", "attention"] {
        let compensate = ["compensate", "few.safetensors", "-o", "c.safetensors", "--method", method];
        commands.push([&compensate[..], &pairs].concat());
    }
    let task = ["task", "state.safetensors", "--labels"];
    commands.push([&task[..], &["l.npy", "--after", "x.npy", "--method", "linear"]].concat());
    commands.push([&task[..], &["more.npy"], &pairs].concat());
    commands.push(vec!["classify", "s.safetensors", "d.npy", "--classifier", "qda-pooled", "--rank", "4"]);
    for command in commands {
        // The process itself, and a little more.
        let process = refused(&command, 1 << 20);
        let enough = refused(&command, process + (1 << 20));
        bench.ok(&[&command[..], &["--memory-budget", &format!("{enough}B")]].concat());
    }
}
