//! Calibration files against plain sums, whatever the budget and the number of threads; and what is refused.

#![allow(clippy::unwrap_used, reason = "only tests use it")]

mod split_support;

use std::path::Path;

use half::f16;
use proptest::prelude::*;
use residua_format::file::{self, Checkpoint, Dtype, write_npy};
use residua_memory::{Budget, ErrorKind};
use residua_split::{
    ActivationsAt, CalibrateOptions, CalibrateReport, LayerInputs, NoProgress, Output, SplitError, Statistic,
    calibrate,
};
use split_support::{Bench, Dense, weights};

const MEANS: Statistic = Statistic::MeanSquares;

const fn moments(block: usize) -> Statistic {
    Statistic::SecondMoments { block: Some(block) }
}

fn npy(bench: &Bench, name: &str, width: usize, values: &[f32]) -> ActivationsAt {
    let path = bench.path(name);
    write_npy(&path, &file::Dense::new(vec![values.len() / width, width], values.to_vec()).unwrap()).unwrap();
    ActivationsAt::Npy(path)
}

fn run(
    bench: &Bench,
    layers: &[(&str, &ActivationsAt)],
    statistic: Statistic,
    budget: &Budget,
) -> Result<CalibrateReport, SplitError> {
    let layers: Vec<_> = layers.iter().map(|(name, at)| LayerInputs::new(*name, (*at).clone())).collect();
    let options = CalibrateOptions::default().statistic(statistic);
    calibrate(&layers, Output(bench.path("out")), &options, budget, &NoProgress)
}

fn tensor(path: &Path, name: &str) -> (Vec<usize>, Vec<f32>) {
    let file = Checkpoint::open(path).unwrap();
    let info = file.expect_tensor(name).unwrap();
    assert_eq!(info.dtype, Dtype::F32);
    (info.shape.clone(), split_support::widen(Dtype::F32, &split_support::bytes(path, name)))
}

/// What the file must hold, from a plain sum for each number.
fn expected(x: &[f32], width: usize, block: Option<usize>) -> Vec<f32> {
    let rows = (x.len() / width) as f64;
    let mean = |i: usize, j: usize| {
        let products = x.chunks(width).map(|x| f64::from(x[i]) * f64::from(x[j]));
        (products.sum::<f64>() / rows) as f32
    };
    let Some(block) = block else { return (0..width).map(|i| mean(i, i)).collect() };
    let blocks = width.div_ceil(block);
    (0..blocks * block * block)
        .map(|at| {
            let (first, row, col) = (at / (block * block) * block, at / block % block, at % block);
            let inside = first + row < width && first + col < width;
            if inside { mean(first + row, first + col) } else { 0.0 }
        })
        .collect()
}

fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let most = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= 1e-6 * most, "{at}: {found} {expected}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any shape, in one array or two, in a block or in several.
    #[test]
    fn a_file_holds_the_means(rows in 128usize..400, cut in 0usize..128, width in 1usize..300, seed: u64) {
        let bench = Bench::new();
        let x = weights(rows, width, seed);
        let (one, two) = x.split_at(cut * width);
        let (one, two) = (npy(&bench, "one.npy", width, one), npy(&bench, "two.npy", width, two));
        let (budget, layers) = (Budget::unlimited(), [("w", &one), ("w", &two)]);
        for (statistic, block) in [(MEANS, None), (moments(128), Some(128)), (moments(1 << 20), Some(width))] {
            if block == Some(width) && rows < width {
                continue;
            }
            let block = block.map(|block| block.min(width));
            let report = run(&bench, &layers, statistic, &budget).unwrap();
            prop_assert_eq!((report.tensors[0].rows, report.tensors[0].block), (rows as u64, block));
            assert_close(&tensor(&bench.path("out"), "w").1, &expected(&x, width, block));
        }
    }
}

/// A budget that holds one block at a time and tensors that share an array change no bit; neither do threads.
#[test]
fn the_file_depends_on_the_activations_alone() {
    let bench = Bench::new();
    let (one, two) =
        (npy(&bench, "1.npy", 300, &weights(301, 300, 1)), npy(&bench, "2.npy", 64, &weights(200, 64, 2)));
    let layers = [("q", &one), ("other", &two), ("k", &one)];
    for statistic in [MEANS, moments(128)] {
        let report = run(&bench, &layers, statistic, &Budget::unlimited()).unwrap();
        let names: Vec<_> = report.tensors.iter().map(|tensor| &*tensor.name).collect();
        assert_eq!(names, ["q", "k", "other"]);
        let whole = std::fs::read(bench.path("out")).unwrap();
        assert_eq!(tensor(&bench.path("out"), "q"), tensor(&bench.path("out"), "k"));
        let SplitError::Budget(error) = run(&bench, &layers, statistic, &Budget::new(1000)).unwrap_err()
        else {
            panic!("1000 bytes are not enough")
        };
        let budget = Budget::new(error.minimum);
        assert_eq!(run(&bench, &layers, statistic, &budget).unwrap(), report);
        assert!(std::fs::read(bench.path("out")).unwrap() == whole, "{statistic:?}");
        assert!(budget.peak() <= error.minimum && budget.used() == 0);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(&bench, &layers, statistic, &Budget::unlimited())).unwrap();
            assert!(std::fs::read(bench.path("out")).unwrap() == whole, "{statistic:?}, {threads} threads");
        }
    }
}

/// f16 and f64 in a checkpoint count as they are.
#[test]
fn activations_come_in_any_type() {
    let bench = Bench::new();
    let x: Vec<f32> = weights(40, 8, 5).iter().map(|&x| f16::from_f32(x).to_f32()).collect();
    let doubles = x.iter().flat_map(|&x| f64::from(x).to_le_bytes()).collect();
    let tensors = [Dense::raw("d", Dtype::F64, &[40, 8], doubles), Dense::new("h", Dtype::F16, &[40, 8], &x)];
    let path = bench.write("x.safetensors", &tensors);
    for name in ["d", "h"] {
        let at = ActivationsAt::Tensor(path.clone(), name.into());
        run(&bench, &[("w", &at)], moments(8), &Budget::unlimited()).unwrap();
        let (shape, values) = tensor(&bench.path("out"), "w");
        assert_eq!(shape, [1, 8, 8]);
        assert_close(&values, &expected(&x, 8, Some(8)));
    }
}

/// A split takes what comes out, with the block size that the budget allowed.
#[test]
fn a_split_reads_the_file_within_the_same_budget() {
    use residua_split::{Importance, SplitOptions};
    let bench = Bench::new();
    let (rows, cols) = (32, 1100);
    bench.write("w", &[Dense::new("w", Dtype::F32, &[rows, cols], &weights(rows, cols, 1))]);
    let inputs = npy(&bench, "x.npy", cols, &weights(1200, cols, 2));
    for mebibytes in [8, 24, 1024] {
        let budget = Budget::new(mebibytes << 20);
        let statistic = Statistic::SecondMoments { block: None };
        let report = run(&bench, &[("w", &inputs)], statistic, &budget).unwrap();
        let block = report.tensors[0].block.unwrap();
        assert_eq!(block == cols, mebibytes == 1024, "{block}");
        let importance = Importance::Calibration(bench.path("out"));
        bench.split_within("w", &SplitOptions::default().importance(importance), &budget).unwrap();
    }
}

#[test]
fn bad_activations_are_refused_with_words() {
    let bench = Bench::new();
    let good = npy(&bench, "good.npy", 20, &weights(40, 20, 1));
    let wide = npy(&bench, "wide.npy", 21, &weights(40, 21, 1));
    let few = npy(&bench, "few.npy", 20, &weights(15, 20, 1));
    let zeros = npy(&bench, "zeros.npy", 20, &[0.0; 800]);
    let huge = npy(&bench, "huge.npy", 20, &[1e20; 800]);
    let mut values = weights(40, 20, 1);
    values[3 * 20 + 7] = f32::NAN;
    let nan = npy(&bench, "nan.npy", 20, &values);
    let flat = bench.path("flat.npy");
    write_npy(&flat, &file::Dense::new(vec![800], vec![1f32; 800]).unwrap()).unwrap();
    let flat = ActivationsAt::Npy(flat);
    let absent = ActivationsAt::Npy(bench.path("absent.npy"));
    let output = ActivationsAt::Npy(bench.path("out"));
    let whole = moments(20);
    type Layers<'a> = &'a [(&'a str, &'a ActivationsAt)];
    let cases: &[(Layers<'_>, Statistic, ErrorKind, &str)] = &[
        (&[("w", &good), ("w", &wide)], MEANS, ErrorKind::Input, "wide.npy: tensor w: 21 features here, 20"),
        (
            &[("w", &few)],
            MEANS,
            ErrorKind::Input,
            "few.npy: tensor w: 15 rows are too few: mean squares need 16",
        ),
        (&[("w", &few)], whole, ErrorKind::Input, "blocks of 20 features need 20"),
        (&[("w", &zeros)], MEANS, ErrorKind::Input, "all features are 0"),
        (&[("w", &zeros)], whole, ErrorKind::Input, "features 0 to 19 are 0 in every row"),
        (&[("w", &huge)], MEANS, ErrorKind::Input, "feature 0: its mean square is too large"),
        (&[("w", &huge)], whole, ErrorKind::Input, "feature 0: its mean square is too large"),
        (&[("w", &nan)], MEANS, ErrorKind::Input, "nan.npy: tensor w at [3, 7]: NaN"),
        (&[("w", &nan)], whole, ErrorKind::Input, "nan.npy: tensor w at [3, 7]: NaN"),
        (&[("w", &flat)], MEANS, ErrorKind::Input, "shape [800], but activations have [rows, in_features]"),
        (&[("w", &absent)], MEANS, ErrorKind::Io, "absent.npy"),
        (&[("w", &good), ("w", &good)], MEANS, ErrorKind::Usage, "twice"),
        (&[("w", &good)], moments(19), ErrorKind::Usage, "take a multiple of 128"),
        (&[], MEANS, ErrorKind::Usage, "no activations"),
        (&[("w", &output)], MEANS, ErrorKind::Usage, "out"),
    ];
    std::fs::write(bench.path("out"), b"old").unwrap();
    for (layers, statistic, kind, part) in cases {
        let error = run(&bench, layers, *statistic, &Budget::unlimited()).unwrap_err();
        assert!(error.to_string().contains(part) && error.kind() == *kind, "{error}");
        assert_eq!(std::fs::read(bench.path("out")).unwrap(), b"old");
    }
}
