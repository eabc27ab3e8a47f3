//! What fitting the base together with the residual is worth, and that it never does harm.
#![allow(clippy::unwrap_used, reason = "tests")]

mod split_support;

use std::path::Path;

use proptest::prelude::*;
use residua_format::file::{Dtype, Plane};
use residua_format::{BaseKind, ValueType};
use residua_memory::Budget;
use residua_split::{Importance, NoProgress, Output, SplitOptions, SplitReport, split};
use split_support::{Bench, Dense, base, entries, mean_squares, quantized, weights};

/// The weighted squared error that base and residual leave.
fn left(bench: &Bench, values: &[f32], h: &[f64]) -> f64 {
    let container = bench.container("w");
    let mut rebuilt: Vec<f64> = base(&container, "w").into_iter().map(f64::from).collect();
    entries(&container, "w").into_iter().for_each(|(i, value)| rebuilt[i] += f64::from(value));
    let errors = values.iter().zip(rebuilt).map(|(&w, r)| (f64::from(w) - r).powi(2));
    errors.zip(h.iter().cycle()).map(|(error, h)| error * h).sum()
}

/// The same, for scales that follow from the largest magnitudes, and an exact residual. Also what that residual holds.
fn left_by_plain_scales(values: &[f32], h: &[f64], cols: usize, kind: BaseKind, kept: usize) -> (f64, f64) {
    let base = quantized(values, cols, kind);
    let errors = values.iter().zip(&base).map(|(&w, &b)| (f64::from(w) - f64::from(b)).powi(2));
    let mut errors: Vec<f64> = errors.zip(h.iter().cycle()).map(|(error, h)| error * h).collect();
    errors.sort_by(|a, b| b.total_cmp(a));
    (errors[kept..].iter().sum(), errors[..kept].iter().sum())
}

/// Rows that quantise badly, one kind beside the other.
fn row(cols: usize) -> impl Strategy<Value = Vec<f32>> {
    let usual = (any::<u64>(), -3i32..3)
        .prop_map(move |(seed, size)| weights(1, cols, seed).iter().map(|w| w * 2f32.powi(size)).collect());
    let constant = (-1.0f32..1.0).prop_map(move |value| vec![value; cols]);
    let subnormal = (1u32..1000).prop_map(move |bits| vec![f32::from_bits(bits); cols]);
    let largest = prop::collection::vec(any::<bool>(), cols)
        .prop_map(|signs| signs.into_iter().map(|plus| if plus { f32::MAX } else { -f32::MAX }).collect());
    let outlier =
        (any::<u64>(), any::<prop::sample::Index>(), -1f32..8.0).prop_map(move |(seed, at, size)| {
            let mut row = weights(1, cols, seed);
            row[at.index(cols)] = 10f32.powf(size);
            row
        });
    let whole = prop::collection::vec(-7i8..=7, cols)
        .prop_map(|codes| codes.into_iter().map(|code| f32::from(code) * 0.25).collect());
    prop_oneof![
        6 => usual, 1 => constant, 1 => Just(vec![0.0; cols]), 1 => subnormal, 1 => largest, 3 => outlier, 1 => whole
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However bad the weights: the error is at most that of plain scales.
    #[test]
    fn fitting_never_does_harm(
        (cols, rows) in (1usize..150).prop_flat_map(|cols| (Just(cols), prop::collection::vec(row(cols), 1..30))),
        kind in prop::sample::select(BaseKind::ALL.to_vec()), density in prop_oneof![Just(0.0), 0.0f64..0.3],
        values in prop::sample::select(vec![ValueType::F32, ValueType::Bf16]),
        importance in prop::sample::select(vec![Importance::Uniform, Importance::ColumnMeanSquare]),
    ) {
        let bench = Bench::new();
        let tensor = rows.concat();
        bench.write("w", &[Dense::new("w", Dtype::F32, &[rows.len(), cols], &tensor)]);
        let h = match importance {
            Importance::Uniform => vec![1.0; cols],
            _ => mean_squares(&tensor, cols),
        };
        let options = SplitOptions::default().base(kind).density(density).values(values).importance(importance);
        // A residual of the largest floats may be too large for bf16.
        if let Ok(report) = bench.split("w", &options) {
            let kept = (density * tensor.len() as f64).round() as usize;
            let (plain, residual) = left_by_plain_scales(&tensor, &h, cols, kind, kept);
            // What rounding to bf16, 8 significant bits, may lose of the residual.
            let rounding = if values == ValueType::Bf16 { 2f64.powi(-8) * residual.sqrt() } else { 0.0 };
            let norm = tensor.iter().zip(h.iter().cycle()).map(|(&w, h)| f64::from(w).powi(2) * h).sum::<f64>();
            let (found, allowed) = (left(&bench, &tensor, &h).sqrt(), plain.sqrt() * (1.0 + 1e-6) + rounding);
            prop_assert!(found <= allowed + 1e-7 * norm.sqrt(), "{} {} {:?}", found, allowed, report);
        }
    }
}

/// A sample of rows that says nothing about the others: the whole tensor counts.
#[test]
fn a_misleading_sample_does_no_harm() {
    let bench = Bench::new();
    let (rows, cols) = (2000, 256);
    // The sample has 128 rows, the first of them is row 0. Outliers are everywhere else.
    let golden = 0.618_033_988_749_894_9;
    let sampled: Vec<usize> =
        (0..128).map(|i| ((f64::from(i) * golden).fract() * rows as f64) as usize).collect();
    for huge in [3.0, 1000.0] {
        let mut values = weights(rows, cols, 5);
        for (row, values) in values.chunks_mut(cols).enumerate().filter(|(row, _)| !sampled.contains(row)) {
            let outliers = values.iter_mut().skip(row % 2).step_by(2);
            outliers.for_each(|w| *w *= huge);
        }
        bench.write("w", &[Dense::new("w", Dtype::F32, &[rows, cols], &values)]);
        for kind in BaseKind::ALL {
            bench
                .split("w", &SplitOptions::default().base(kind).density(0.05).values(ValueType::F32))
                .unwrap();
            let (plain, _) = left_by_plain_scales(&values, &[1.0], cols, kind, rows * cols / 20);
            let found = left(&bench, &values, &[1.0]);
            assert!(found <= plain * (1.0 + 1e-6), "{kind}, {huge}: {found} {plain}");
        }
    }
}

fn split_layers(options: &SplitOptions) -> SplitReport {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/minilm-layers.safetensors");
    let bench = Bench::new();
    split(assets, Output(bench.path("file")), options, &Budget::unlimited(), &NoProgress).unwrap()
}

/// Root of the mean over the tensors' squared relative errors, and bytes.
fn quality(options: &SplitOptions) -> (f64, u64) {
    let report = split_layers(options);
    let mean = report.tensors.iter().map(|t| t.error.powi(2)).sum::<f64>() / report.tensors.len() as f64;
    (mean.sqrt(), report.base_bytes() + report.residual_bytes())
}

/// On real weights, the default is below the error of plain scales for twice the residual, and no base alone of no more
/// bytes is better.
#[test]
fn the_default_is_worth_its_bytes() {
    let (error, bytes) = quality(&SplitOptions::default());
    assert!(error < 0.0715, "{error}; 0.132 with 4-bit integers, plain scales and 5 % of bf16");
    for kind in BaseKind::ALL {
        let (other, other_bytes) = quality(&SplitOptions::default().base(kind).density(0.0));
        assert!(other_bytes > bytes || error < other, "{kind}: {other} with {other_bytes} of {bytes} bytes");
    }
}

/// A residual is worth more than none, however small it is.
#[test]
fn every_residual_lowers_the_error() {
    for kind in BaseKind::ALL {
        let error = |density| quality(&SplitOptions::default().base(kind).density(density)).0;
        let errors = [0.0, 0.01, 0.05].map(error);
        assert!(errors[0] > errors[1] && errors[1] > errors[2], "{kind}: {errors:?}");
    }
}

/// Scales are f16 where f16 loses nothing, and f32 where it would.
#[test]
fn scales_are_halves_where_halves_do() {
    let bench = Bench::new();
    let ternary: Vec<f32> = (0..64 * 96).map(|i| [0.7, 0.0, -0.7][i * i % 3]).collect();
    let values = weights(64, 96, 1);
    let scaled = |exponent| values.iter().map(|w| w * 2f32.powi(exponent)).collect::<Vec<_>>();
    let tensors = [
        ("usual", values.clone(), Dtype::F16),
        ("zero", vec![0.0; 64 * 96], Dtype::F32),
        ("small", scaled(-14), Dtype::F32),
        ("large", scaled(40), Dtype::F32),
        ("exact", ternary.clone(), Dtype::F32),
    ];
    let dense: Vec<Dense> =
        tensors.iter().map(|(name, values, _)| Dense::new(name, Dtype::F32, &[64, 96], values)).collect();
    bench.write("w", &dense);
    for kind in BaseKind::ALL {
        for density in [0.0, 0.05] {
            let options = SplitOptions::default().base(kind).density(density);
            let report = bench.split("w", &options).unwrap();
            assert!(bench.verify("w").is_valid());
            let container = bench.container("w");
            for ((name, _, dtype), tensor) in tensors.iter().zip(&report.tensors) {
                let plane = container.plane(name, Plane::BaseScales).unwrap();
                assert_eq!(plane.dtype, *dtype, "{kind}, {density}, {name}");
                let bytes = tensor.planes.iter().find(|plane| plane.plane == "base_scales").unwrap().bytes;
                assert_eq!(bytes, (64 * kind.groups(96) * dtype.bitsize() / 8) as u64);
                assert_eq!(tensor.base_bytes(), container.base_bytes(name).unwrap());
            }
            // Levels are as fine as 1/127 of the largest; the largest itself comes from a division.
            let exact = base(&container, "exact");
            let near = |(found, expected): (&f32, &f32)| (found - expected).abs() <= expected.abs() * 1e-6;
            let bad = exact.iter().zip(&ternary).find(|&pair| !near(pair));
            assert_eq!(bad, None, "{kind}, {density}");
        }
    }
}

/// Inputs whose features depend on each other, and their second moments in diagonal blocks.
fn moments(cols: usize, block: usize) -> (Vec<f64>, Vec<f32>) {
    let samples = 2 * cols;
    let own = weights(samples, cols, 11);
    let common = weights(samples, 8, 12);
    let mixed = weights(8, cols, 13);
    let x: Vec<f64> = (0..samples * cols)
        .map(|i| {
            let (sample, col) = (i / cols, i % cols);
            let shared: f32 = (0..8).map(|j| common[sample * 8 + j] * mixed[j * cols + col]).sum();
            f64::from(own[i]) + f64::from(shared * 200.0)
        })
        .collect();
    let mut h = vec![0.0; cols * cols];
    for x in x.chunks(cols) {
        for (row, a) in x.iter().enumerate() {
            h[row * cols..(row + 1) * cols].iter_mut().zip(x).for_each(|(h, b)| *h += a * b / samples as f64);
        }
    }
    let mut stored = vec![0.0; cols.div_ceil(block) * block * block];
    for row in 0..cols {
        let first = row / block * block;
        for col in first..cols.min(first + block) {
            stored[first * block + row % block * block + col - first] = h[row * cols + col] as f32;
        }
    }
    (h, stored)
}

/// `tr(E·H·Eᵀ)` of what base and residual leave.
fn output_error(bench: &Bench, values: &[f32], h: &[f64], cols: usize) -> f64 {
    let container = bench.container("w");
    let mut error: Vec<f64> = base(&container, "w").into_iter().map(f64::from).collect();
    entries(&container, "w").into_iter().for_each(|(i, value)| error[i] += f64::from(value));
    error.iter_mut().zip(values).for_each(|(rebuilt, &w)| *rebuilt -= f64::from(w));
    let rows = error.chunks(cols).map(|e| {
        let products = h.chunks(cols).map(|h| h.iter().zip(e).map(|(h, e)| h * e).sum::<f64>());
        products.zip(e).map(|(product, e)| product * e).sum::<f64>()
    });
    rows.sum::<f64>().sqrt()
}

/// Second moments halve the error of the layer's outputs, for every kind of base. The file does not depend on budget
/// or threads, and the report says what verify finds.
#[test]
fn second_moments_lower_the_output_error() {
    let bench = Bench::new();
    let (rows, cols) = (70, 320);
    let tensor = Dense::new("w", Dtype::BF16, &[rows, cols], &weights(rows, cols, 3));
    let values = tensor.values();
    bench.write("w", &[tensor]);
    let (h, whole) = moments(cols, cols);
    let diagonal: Vec<f32> = (0..cols).map(|i| h[i * cols + i] as f32).collect();
    let squares = bench.write("squares", &[Dense::new("w", Dtype::F32, &[cols], &diagonal)]);
    let whole = bench.write("whole", &[Dense::new("w", Dtype::F32, &[1, cols, cols], &whole)]);
    let blocks = moments(cols, 128).1;
    let blocks = bench.write("blocks", &[Dense::new("w", Dtype::F32, &[3, 128, 128], &blocks)]);
    for kind in BaseKind::ALL {
        for stored in [ValueType::Bf16, ValueType::I8] {
            let options = |path: &Path| {
                let importance = Importance::Calibration(path.to_owned());
                SplitOptions::default().base(kind).density(0.02).values(stored).importance(importance)
            };
            let error = |path: &Path| {
                bench.split("w", &options(path)).unwrap();
                output_error(&bench, &values, &h, cols)
            };
            let [plain, parts, all] = [&squares, &blocks, &whole].map(|path| error(path));
            // An INT8 base leaves so little that rounding the residual's values decides between blocks and the whole.
            let parts_at_most = if kind == BaseKind::Int8 { 1.05 * parts } else { parts };
            assert!(
                all < 0.6 * plain && parts < plain && all < parts_at_most,
                "{kind}: {plain} {parts} {all}"
            );

            let report = bench.split("w", &options(&whole)).unwrap();
            let verified = bench.verify("w");
            assert!((verified.error().unwrap() - report.error()).abs() < 1e-6, "{kind}");
            assert!((verified.base_error().unwrap() - report.base_error()).abs() < 1e-6, "{kind}");
            let expected = std::fs::read(bench.split_path("w")).unwrap();
            let Err(residua_split::SplitError::Budget(error)) =
                bench.split_within("w", &options(&whole), &Budget::new(1000))
            else {
                panic!("a budget of 1000 bytes is not enough")
            };
            for limit in [error.minimum, error.minimum + 50_000] {
                let budget = Budget::new(limit);
                assert_eq!(bench.split_within("w", &options(&whole), &budget).unwrap(), report);
                assert!(std::fs::read(bench.split_path("w")).unwrap() == expected, "{kind}, {limit} bytes");
            }
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                assert_eq!(pool.install(|| bench.split("w", &options(&whole))).unwrap(), report);
                assert!(
                    std::fs::read(bench.split_path("w")).unwrap() == expected,
                    "{kind}, {threads} threads"
                );
            }
        }
    }
}
