//! What is refused, in which words, and that a refused job changes nothing on the disk.
#![allow(clippy::unwrap_used, reason = "tests")]

mod split_support;

use residua_format::ValueType;
use residua_format::file::{Dtype, Plane};
use residua_memory::Budget;
use residua_split::{
    ErrorKind, Importance, MaterializeOptions, NoProgress, Output, Selection, SplitError, SplitOptions,
    VerifyOptions, materialize, verify,
};
use split_support::{Bench, Dense, weights};

fn matrix(name: &str, dtype: Dtype, values: &[f32]) -> Dense {
    Dense::new(name, dtype, &[values.len() / 10, 10], values)
}

fn with_base(path: std::path::PathBuf) -> SplitOptions {
    SplitOptions::default().base(path)
}

/// Runs a split that must fail, and checks that an older output stays and nothing else is left behind.
fn refused(bench: &Bench, options: &SplitOptions, kind: ErrorKind, words: &[&str]) {
    std::fs::write(bench.split_path("w"), "as it was").unwrap();
    let before = bench.files();
    let error: SplitError = bench.split("w", options).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for word in words {
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    }
    assert_eq!(std::fs::read_to_string(bench.split_path("w")).unwrap(), "as it was");
    assert_eq!(bench.files(), before);
}

#[test]
fn weights_that_are_not_finite() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let bench = Bench::new();
            let mut values = weights(40, 10, 1);
            values[237] = bad;
            values[238] = bad;
            bench.write("w", &[matrix("first", dtype, &weights(5, 10, 2)), matrix("last", dtype, &values)]);
            let place = format!("{bad}");
            refused(&bench, &SplitOptions::default(), ErrorKind::Input, &["tensor last at [23, 7]", &place]);
            let excluded = SplitOptions::default().exclude(["last"]);
            bench.split("w", &excluded).unwrap();
        }
    }
}

#[test]
fn options_without_sense() {
    let bench = Bench::new();
    bench.write("w", &[matrix("w", Dtype::F32, &weights(2, 10, 1))]);
    for selection in [
        Selection::Density(-0.1),
        Selection::Density(1.1),
        Selection::Density(f64::NAN),
        Selection::Threshold(-1.0),
        Selection::Threshold(f32::INFINITY),
    ] {
        let mut options = SplitOptions::default();
        options.selection = selection;
        refused(&bench, &options, ErrorKind::Usage, &[]);
    }
    let options = SplitOptions::default().exclude(["["]);
    refused(&bench, &options, ErrorKind::Usage, &["pattern \"[\""]);
    for name in ["base", "cal"] {
        let missing = bench.path(name);
        let options = match name {
            "base" => with_base(missing),
            _ => SplitOptions::default().importance(Importance::Calibration(missing)),
        };
        refused(&bench, &options, ErrorKind::Io, &[name]);
    }
}

#[test]
fn base_checkpoints_that_do_not_fit() {
    let bench = Bench::new();
    let values = weights(4, 10, 1);
    bench.write("w", &[matrix("w", Dtype::F32, &values)]);
    let other = bench.write("other", &[matrix("x", Dtype::F32, &values)]);
    refused(&bench, &with_base(other), ErrorKind::Input, &["no tensor w"]);
    let shape = bench.write("shape", &[Dense::new("w", Dtype::F32, &[10, 4], &values)]);
    refused(&bench, &with_base(shape), ErrorKind::Input, &["shape: tensor w", "[10, 4]", "[4, 10]"]);
    let dtype = bench.write("dtype", &[matrix("w", Dtype::F16, &values)]);
    refused(&bench, &with_base(dtype), ErrorKind::Input, &["dtype: tensor w", "F16", "F32"]);
    let mut bad = values.clone();
    bad[33] = f32::NAN;
    let nan = bench.write("nan", &[matrix("w", Dtype::F32, &bad)]);
    refused(&bench, &with_base(nan), ErrorKind::Input, &["nan: tensor w at [3, 3]", "NaN"]);
    bad[33] = f32::MAX;
    bench.write("w", &[matrix("w", Dtype::F32, &[-f32::MAX; 40])]);
    let far = bench.write("far", &[matrix("w", Dtype::F32, &bad)]);
    refused(&bench, &with_base(far), ErrorKind::Input, &["tensor w at [3, 3]", "-6.8", "overflows f32"]);
}

#[test]
fn calibrations_that_do_not_fit() {
    let bench = Bench::new();
    bench.write("w", &[matrix("w", Dtype::F32, &weights(4, 10, 1))]);
    let case = |tensor: Dense, words: &[&str]| {
        let path = bench.write("cal", &[tensor]);
        let options = SplitOptions::default().importance(Importance::Calibration(path));
        refused(&bench, &options, ErrorKind::Input, words);
    };
    case(Dense::new("v", Dtype::F32, &[10], &[1.0; 10]), &["no tensor w"]);
    case(Dense::new("w", Dtype::F32, &[9], &[1.0; 9]), &["cal: tensor w", "[9]", "[10]"]);
    case(Dense::new("w", Dtype::F16, &[10], &[1.0; 10]), &["cal: tensor w", "F16"]);
    for bad in [-1.0, f32::NAN, f32::INFINITY] {
        let mut h = [1.0; 10];
        h[6] = bad;
        case(Dense::new("w", Dtype::F32, &[10], &h), &["cal: tensor w", "feature 6"]);
    }
    // Second moments: of another model, in blocks that no group fits, and with no factor.
    for shape in [[1, 9, 9], [2, 10, 10], [1, 10, 9], [2, 5, 5], [0, 0, 0]] {
        let numbers = vec![1.0; shape.iter().product()];
        case(Dense::new("w", Dtype::F32, &shape, &numbers), &["cal: tensor w", "[blocks, n, n]"]);
    }
    let moments = |change: &dyn Fn(&mut [f32])| {
        let mut h: Vec<f32> = (0..100).map(|i| if i % 11 == 0 { 2.0 } else { 0.5 }).collect();
        change(&mut h);
        Dense::new("w", Dtype::F32, &[1, 10, 10], &h)
    };
    case(moments(&|h| h[42] = f32::NAN), &["cal: tensor w", "features 0 to 9", "[4, 2] is NaN"]);
    case(moments(&|h| h[44] = -1.0), &["cal: tensor w", "mean square -1 of input feature 4"]);
    case(moments(&|h| h[42] = 9.0), &["cal: tensor w", "not positive definite", "more samples"]);
}

#[test]
fn residuals_that_their_type_cannot_hold() {
    let bench = Bench::new();
    let mut values = vec![0.0; 40];
    values[21] = 1e6;
    bench.write("w", &[matrix("w", Dtype::F32, &values)]);
    let base = bench.write("zero", &[matrix("w", Dtype::F32, &[0.0; 40])]);
    let options = with_base(base).values(ValueType::F16);
    refused(&bench, &options, ErrorKind::Input, &["tensor w at [2, 1]", "1e6", "f16"]);
}

#[test]
fn a_split_file_is_not_split_again() {
    let bench = Bench::new();
    bench.write("v", &[matrix("w", Dtype::F32, &weights(4, 10, 1))]);
    bench.split("v", &SplitOptions::default()).unwrap();
    std::fs::copy(bench.split_path("v"), bench.path("w")).unwrap();
    refused(&bench, &SplitOptions::default(), ErrorKind::Usage, &["not a dense checkpoint"]);
}

#[test]
fn materialize_refuses_the_wrong_base_and_overflows() {
    let bench = Bench::new();
    let values = weights(4, 10, 1);
    let mut changed = values.clone();
    changed[0] += 1.0;
    let base = bench.write("base", &[matrix("w", Dtype::F16, &values)]);
    bench.write("w", &[matrix("w", Dtype::F16, &changed)]);
    bench.split("w", &with_base(base.clone())).unwrap();
    let (file, out, budget) = (bench.split_path("w"), bench.path("out"), Budget::unlimited());
    std::fs::write(&out, "as it was").unwrap();
    let run = |base: Option<&std::path::Path>, alpha| {
        let before = bench.files();
        let mut options = MaterializeOptions::default().alpha(alpha);
        if let Some(base) = base {
            options = options.base(base);
        }
        let error = materialize(&file, Output(&out), &options, &budget, &NoProgress).unwrap_err();
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "as it was");
        assert_eq!(bench.files(), before);
        (error.kind(), error.to_string())
    };
    for alpha in [0.0, 1.0] {
        let (kind, text) = run(Some(&bench.path("w")), alpha);
        assert_eq!(kind, ErrorKind::Input);
        assert!(text.contains("base of tensor w") && text.contains("hash"), "{text}");
    }
    let (kind, text) = run(None, 1e6);
    assert_eq!(kind, ErrorKind::Input);
    assert!(text.contains("tensor w at [0, 0]") && text.contains("overflows F16"), "{text}");
    assert_eq!(run(None, f32::NAN).0, ErrorKind::Usage);
    // The base moves: without it the file is of no use, with its new path it is.
    let moved = bench.path("moved");
    std::fs::rename(&base, &moved).unwrap();
    assert_eq!(run(None, 1.0).0, ErrorKind::Io);
    let error = verify(&file, &VerifyOptions::default(), &budget, &NoProgress).unwrap_err();
    assert!(matches!(error, SplitError::BaseNotFound { .. }), "{error}");
    let options = MaterializeOptions::default().base(&moved);
    materialize(&file, Output(&out), &options, &budget, &NoProgress).unwrap();
    let options = VerifyOptions::default().base(&moved);
    assert!(verify(&file, &options, &budget, &NoProgress).unwrap().is_valid());
}

/// Any byte of a plane that is changed is found, or makes a measurable difference.
#[test]
fn verify_sees_damage() {
    let bench = Bench::new();
    bench.write(
        "w",
        &[matrix("w", Dtype::F32, &weights(40, 10, 1)), Dense::new("b", Dtype::F32, &[3], &[1.0; 3])],
    );
    bench.split("w", &SplitOptions::default()).unwrap();
    let good = bench.verify("w");
    assert!(good.is_valid());
    let container = bench.container("w");
    let bytes = std::fs::read(bench.split_path("w")).unwrap();
    let planes = [Plane::RowPtr, Plane::Gaps, Plane::Values, Plane::Base, Plane::BaseScales];
    let places = planes.map(|plane| container.plane("w", plane).unwrap().offset());
    for offset in places.into_iter().chain([container.dense().next().unwrap().offset()]) {
        let mut damaged = bytes.clone();
        // A high bit of a little-endian element.
        damaged[offset as usize + 1] ^= 0x41;
        std::fs::write(bench.split_path("w"), damaged).unwrap();
        assert_ne!(bench.verify("w"), good, "byte {offset}");
    }
    std::fs::write(bench.split_path("w"), bytes).unwrap();
    let against = |checkpoint: &std::path::Path| {
        let options = VerifyOptions::default().against(checkpoint);
        verify(bench.split_path("w"), &options, &Budget::unlimited(), &NoProgress).unwrap()
    };
    let fewer = bench.write("fewer", &[matrix("w", Dtype::F32, &weights(40, 10, 1))]);
    let report = against(&fewer);
    assert!(report.is_valid() && !report.matches());
    let more = bench.write(
        "more",
        &[
            matrix("w", Dtype::F32, &weights(40, 10, 1)),
            Dense::new("b", Dtype::F32, &[3], &[1.0; 3]),
            Dense::new("c", Dtype::F32, &[3], &[1.0; 3]),
        ],
    );
    let report = against(&more);
    let missing = report.tensors.iter().find(|tensor| tensor.name == "c").unwrap();
    assert!(missing.mismatch.is_some() && report.is_valid() && !report.matches());
}
