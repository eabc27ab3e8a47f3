//! From checkpoint to file and back: what comes out for each alpha, and what verify says about it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod split_support;

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use residua_format::file::{Checkpoint, Dtype};
use residua_format::{BaseKind, ValueType};
use residua_memory::Budget;
use residua_split::{
    MaterializeOptions, NoProgress, Output, SplitOptions, VerifyOptions, materialize, split, verify,
};
use split_support::{Bench, Dense, base, bytes, entries, narrow, weights, widen};

const FLOATS: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::BF16];

fn options(kind: BaseKind, values: ValueType, density: f64) -> SplitOptions {
    SplitOptions::default().base(kind).density(density).values(values)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// `base + alpha · residual`, element by element, rounded once; at alpha 0 the base to the bit.
    #[test]
    fn materialize_is_base_and_alpha_residuals(
        (rows, cols) in (1usize..50, 1usize..70), seed in any::<u64>(), density in 0.0f64..=1.0,
        kind in prop::sample::select(BaseKind::ALL.to_vec()),
        values in prop::sample::select(ValueType::ALL.to_vec()),
        dtype in prop::sample::select(FLOATS.to_vec()), alpha in -2.0f32..2.0,
    ) {
        let bench = Bench::new();
        let tensor = Dense::new("w", dtype, &[rows, cols], &weights(rows, cols, seed));
        let original = tensor.values();
        bench.write("w", &[tensor]);
        let report = bench.split("w", &options(kind, values, density)).unwrap();
        let base = base(&bench.container("w"), "w");
        let residual: BTreeMap<usize, f32> = entries(&bench.container("w"), "w").into_iter().collect();
        for alpha in [0.0, 1.0, alpha] {
            bench.materialize("w", alpha).unwrap();
            let expected: Vec<u8> = base
                .iter()
                .enumerate()
                .flat_map(|(i, &b)| narrow(dtype, residual.get(&i).map_or(b, |v| b + alpha * v)))
                .collect();
            prop_assert!(bench.dense("w", "w") == expected, "alpha {}", alpha);
        }
        // What verify measures is what split said, and what a plain sum over the tensor gives.
        let verified = bench.verify("w");
        prop_assert!(verified.is_valid(), "{:?}", verified);
        let tensor = &verified.tensors[0];
        let sum = |f: &dyn Fn(usize) -> f64| (0..original.len()).map(|i| f(i).powi(2)).sum::<f64>().sqrt();
        let norm = sum(&|i| original[i].into());
        let base_error = sum(&|i| f64::from(original[i]) - f64::from(base[i])) / norm;
        let both = |i: usize| base[i] + residual.get(&i).unwrap_or(&0.0);
        let error = sum(&|i| f64::from(original[i]) - f64::from(both(i))) / norm;
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b + 1e-8;
        prop_assert!(close(tensor.base_error.unwrap(), base_error) && close(tensor.error.unwrap(), error));
        // Base and value are added in f32 there and not in the report.
        let report = &report.tensors[0];
        prop_assert!(close(report.base_error, base_error), "{} {}", report.base_error, base_error);
        prop_assert!((report.error - error).abs() <= 1e-6, "{} {}", report.error, error);
        let largest = (0..original.len()).map(|i| (original[i] - both(i)).abs()).fold(0.0, f32::max);
        prop_assert!(close(tensor.max_abs_error.unwrap(), largest.into()));
    }

    /// The fine-tune delta: alpha 0 is the base checkpoint, alpha 1 with every change kept the fine-tune.
    #[test]
    fn a_checkpoint_as_base_comes_back_bit_for_bit(
        (rows, cols) in (1usize..60, 1usize..60), seed in any::<u64>(),
        dtype in prop::sample::select(vec![Dtype::F16, Dtype::BF16]),
    ) {
        let bench = Bench::new();
        let mut old = weights(rows, cols, seed);
        old[0] = -0.0;
        let new: Vec<f32> = old.iter().enumerate()
            .map(|(i, w)| if i % 5 == 1 { w * 1.03 + 0.001 } else { *w })
            .collect();
        let dense = |values: &[f32]| Dense::new("w", dtype, &[rows, cols], values);
        let base = bench.write("old", &[dense(&old)]);
        bench.write("new", &[dense(&new)]);
        let options = SplitOptions::default().base(base.clone()).density(1.0).values(ValueType::F32);
        let report = bench.split("new", &options).unwrap();
        let (old, new) = (dense(&old).values(), dense(&new).values());
        let changed = old.iter().zip(&new).filter(|(a, b)| a != b).count();
        prop_assert_eq!(report.nnz(), changed as u64);
        prop_assert_eq!(report.base_bytes(), 0);
        prop_assert!(bench.verify("new").is_valid());
        bench.materialize("new", 0.0).unwrap();
        prop_assert_eq!(bench.dense("new", "w"), bytes(&base, "w"));
        bench.materialize("new", 1.0).unwrap();
        prop_assert_eq!(bench.dense("new", "w"), bytes(&bench.path("new"), "w"));
    }
}

#[test]
fn what_is_not_split_passes_through() {
    let bench = Bench::new();
    let tensors = || {
        vec![
            Dense::new("layer.weight", Dtype::BF16, &[20, 30], &weights(20, 30, 1)),
            Dense::new("layer.bias", Dtype::BF16, &[30], &weights(1, 30, 2)),
            Dense::new("embed.weight", Dtype::F32, &[10, 10], &weights(10, 10, 3)),
            Dense::new("conv", Dtype::F16, &[2, 2, 5], &weights(4, 5, 4)),
            Dense::raw("ids", Dtype::I64, &[2, 2], (0..32).collect()),
            Dense::raw("mask", Dtype::BOOL, &[3, 1], vec![1, 0, 1]),
            Dense::raw("fp8", Dtype::F8_E4M3, &[2, 3], (0..6).collect()),
            Dense::raw("empty", Dtype::F32, &[0, 7], Vec::new()),
            Dense::new("nan", Dtype::F32, &[2], &[f32::NAN, 1.0]),
            Dense::raw("scalar", Dtype::F64, &[], vec![7; 8]),
        ]
    };
    bench.write("w", &tensors());
    let options = SplitOptions::default().exclude(["*embed*"]);
    let report = bench.split("w", &options).unwrap();
    assert_eq!(report.tensors.iter().map(|t| &*t.name).collect::<Vec<_>>(), ["layer.weight"]);
    assert_eq!((report.tensors.len(), report.passed.len()), (1, 9));
    assert_eq!(report.output_bytes, std::fs::metadata(bench.split_path("w")).unwrap().len());
    let verified = bench.verify("w");
    assert!(verified.is_valid() && verified.tensors.len() == 10, "{verified:?}");

    bench.materialize("w", 1.0).unwrap();
    for tensor in &tensors()[1..] {
        assert_eq!(bench.dense("w", &tensor.name), tensor.bytes, "{}", tensor.name);
    }
    let back = Checkpoint::open(bench.path("w.dense")).unwrap();
    assert_eq!(back.metadata(), &BTreeMap::from([("format".to_owned(), "pt".to_owned())]));
    for tensor in tensors() {
        let info = back.expect_tensor(&tensor.name).unwrap();
        assert_eq!((info.dtype, &info.shape), (tensor.dtype, &tensor.shape));
    }

    let options = SplitOptions::default().include(["embed.*", "conv"]);
    let report = bench.split("w", &options).unwrap();
    assert_eq!(report.tensors.iter().map(|t| &*t.name).collect::<Vec<_>>(), ["embed.weight"]);
}

#[test]
fn real_weights_of_a_sentence_encoder() {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/minilm-layers.safetensors");
    let bench = Bench::new();
    let (file, dense, budget) = (bench.path("file"), bench.path("dense"), Budget::unlimited());
    let mut last_error = f64::INFINITY;
    for (kind, values, bytes_per_parameter) in [
        (BaseKind::Int4, ValueType::Bf16, 0.166),
        (BaseKind::Int4G32, ValueType::F32, 0.28),
        (BaseKind::Int8, ValueType::I8, 0.130),
    ] {
        let report =
            split(&assets, Output(&file), &options(kind, values, 0.05), &budget, &NoProgress).unwrap();
        assert_eq!((report.tensors.len(), report.passed.len()), (12, 20));
        let per_parameter = report.residual_bytes() as f64 / report.parameters() as f64;
        assert!(per_parameter < bytes_per_parameter, "{kind}: {per_parameter} B per parameter");
        let verified =
            verify(&file, &VerifyOptions::default().against(&assets), &budget, &NoProgress).unwrap();
        assert!(verified.is_valid());
        for tensor in &report.tensors {
            assert!((tensor.density - 0.05).abs() < 1e-5 && tensor.error < tensor.base_error);
            let seen = verified.tensors.iter().find(|v| v.name == tensor.name).unwrap();
            assert!((seen.base_error.unwrap() - tensor.base_error).abs() < 1e-7);
            assert!((seen.error.unwrap() - tensor.error).abs() < 1e-7);
        }
        // Everything together: one long vector.
        let overall = |error: &dyn Fn(usize) -> f64| {
            let squares = |i: usize| (report.tensors[i].norm * error(i)).powi(2);
            let all = report.tensors.iter().map(|t| t.norm.powi(2)).sum::<f64>();
            ((0..12).map(squares).sum::<f64>() / all).sqrt()
        };
        assert!((report.error() - overall(&|i| report.tensors[i].error)).abs() < 1e-12);
        assert!((verified.error().unwrap() - report.error()).abs() < 1e-7);
        assert!((verified.base_error().unwrap() - report.base_error()).abs() < 1e-7);
        let error = report.tensors.iter().map(|t| t.error).fold(0.0, f64::max);
        assert!(error < last_error, "finer bases are nearer");
        last_error = error;

        materialize(&file, Output(&dense), &MaterializeOptions::default(), &budget, &NoProgress).unwrap();
        for tensor in &report.tensors {
            let original = widen(Dtype::BF16, &bytes(&assets, &tensor.name));
            let rebuilt = widen(Dtype::BF16, &bytes(&dense, &tensor.name));
            let sum = |f: &dyn Fn(f64, f64) -> f64| {
                original
                    .iter()
                    .zip(&rebuilt)
                    .map(|(&a, &b)| f(a.into(), b.into()).powi(2))
                    .sum::<f64>()
                    .sqrt()
            };
            let error = sum(&|a, b| a - b) / sum(&|a, _| a);
            // bf16 adds at most 2⁻⁹ of each weight.
            assert!((error - tensor.error).abs() < 2f64.powi(-9), "{}: {error}", tensor.name);
        }
    }
}

/// Blocks of rows as small as the budget calls for change nothing.
#[test]
fn materialize_and_verify_keep_a_small_budget() {
    let bench = Bench::new();
    let values = weights(900, 400, 5);
    bench.write(
        "w",
        &[
            Dense::new("w", Dtype::F16, &[900, 400], &values),
            Dense::new("b", Dtype::F32, &[100_000], &weights(1, 100_000, 6)),
        ],
    );
    bench.split("w", &SplitOptions::default()).unwrap();
    bench.materialize("w", 0.7).unwrap();
    let expected = std::fs::read(bench.path("w.dense")).unwrap();
    let report = bench.verify("w");
    let (file, out) = (bench.split_path("w"), bench.path("out"));
    let options = MaterializeOptions::default().alpha(0.7);
    let against = VerifyOptions::default().against(bench.path("w"));
    for limit in [600 << 10, 900 << 10] {
        let budget = Budget::new(limit);
        materialize(&file, Output(&out), &options, &budget, &NoProgress).unwrap();
        assert!(std::fs::read(&out).unwrap() == expected);
        assert!(budget.used() == 0 && budget.peak() <= limit);
        assert_eq!(verify(&file, &against, &budget, &NoProgress).unwrap(), report);
    }
    let error = materialize(&file, Output(&out), &options, &Budget::new(1000), &NoProgress).unwrap_err();
    assert_eq!(error.kind(), residua_split::ErrorKind::Budget, "{error}");
}
