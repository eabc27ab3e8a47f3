//! What enters the residual, against the rule done the plain way.
#![allow(clippy::unwrap_used, reason = "tests")]

mod split_support;

use proptest::prelude::*;
use residua_format::file::Dtype;
use residua_format::{BaseKind, ValueType};
use residua_memory::Budget;
use residua_split::{Importance, SplitOptions};
use split_support::{Bench, Dense, base, entries, mean_squares, weights};

/// The positions of the `kept` highest scores in f64, of equals the first, zeros left out; and all scores.
fn plain(residual: &[f32], h: &[f64], kept: usize) -> (Vec<usize>, Vec<f64>) {
    let scores: Vec<f64> =
        residual.iter().enumerate().map(|(i, &r)| f64::from(r).powi(2) * h[i % h.len()]).collect();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let mut positions: Vec<usize> = order[..kept].iter().copied().filter(|&i| residual[i] != 0.0).collect();
    positions.sort_unstable();
    (positions, scores)
}

fn residual(values: &[f32], base: &[f32]) -> Vec<f32> {
    values.iter().zip(base).map(|(w, b)| w - b).collect()
}

fn options(kind: BaseKind, importance: Importance, density: f64) -> SplitOptions {
    SplitOptions::default().base(kind).importance(importance).density(density).values(ValueType::F32)
}

/// Small whole numbers: products are exact, ties abound, f32 and f64 agree on every order.
fn whole() -> impl Strategy<Value = (usize, Vec<f32>)> {
    (1usize..40, 1usize..40).prop_flat_map(|(rows, cols)| {
        let number = prop_oneof![3 => (-20i32..20).prop_map(|v| v as f32), 1 => Just(0.0)];
        (Just(cols), prop::collection::vec(number, rows * cols))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Uniform weights and whole numbers: the plain rule to the letter, ties included.
    #[test]
    fn ties_go_to_the_first_position((cols, values) in whole(), density in 0.0f64..=1.0) {
        let bench = Bench::new();
        bench.write("w", &[Dense::new("w", Dtype::F32, &[values.len() / cols, cols], &values)]);
        // Another checkpoint as base, all zeros: the residual is the weight itself.
        let zeros = vec![0.0; values.len()];
        let base = bench.write("base", &[Dense::new("w", Dtype::F32, &[values.len() / cols, cols], &zeros)]);
        let options = options(BaseKind::Int4, Importance::Uniform, density).base(base);
        let report = bench.split("w", &options).unwrap();
        let kept = (density * values.len() as f64).round() as usize;
        let (positions, _) = plain(&values, &vec![1.0; cols], kept);
        let found = entries(&bench.container("w"), "w");
        prop_assert_eq!(found.iter().map(|e| e.0).collect::<Vec<_>>(), &*positions);
        prop_assert!(found.iter().all(|&(i, v)| v == values[i]));
        prop_assert_eq!(report.nnz(), positions.len() as u64);
    }

    /// Real-looking weights of every type, every base: none that was left out scores higher than one that
    /// was kept, by more than rounding.
    #[test]
    fn the_highest_scores_are_kept(
        (rows, cols) in (1usize..60, 1usize..60), seed in any::<u64>(), density in 0.0f64..=1.0,
        kind in prop::sample::select(BaseKind::ALL.to_vec()),
        dtype in prop::sample::select(vec![Dtype::F32, Dtype::F16, Dtype::BF16]),
    ) {
        let bench = Bench::new();
        let tensor = Dense::new("w", dtype, &[rows, cols], &weights(rows, cols, seed));
        let values = tensor.values();
        bench.write("w", &[tensor]);
        let report = bench.split("w", &options(kind, Importance::ColumnMeanSquare, density)).unwrap();
        let base = base(&bench.container("w"), "w");
        let residual = residual(&values, &base);
        let kept = (density * values.len() as f64).round() as usize;
        let (positions, scores) = plain(&residual, &mean_squares(&values, cols), kept);
        let found = entries(&bench.container("w"), "w");
        prop_assert!(found.iter().all(|&(i, v)| v == residual[i]));
        prop_assert_eq!(found.len(), positions.len());
        let is_kept = |i: usize| found.binary_search_by_key(&i, |e| e.0).is_ok();
        let lowest = found.iter().map(|e| scores[e.0]).fold(f64::INFINITY, f64::min);
        let highest_out = (0..scores.len()).filter(|&i| !is_kept(i)).map(|i| scores[i]).fold(0.0, f64::max);
        prop_assert!(highest_out <= lowest * (1.0 + 1e-6), "{} {}", highest_out, lowest);
        if !found.is_empty() {
            prop_assert!((report.tensors[0].lowest_score / lowest - 1.0).abs() < 1e-6);
        }
    }
}

#[test]
fn all_equal_weights_keep_the_first() {
    let bench = Bench::new();
    // One outlier a row. All other weights are equal, and so are their errors.
    let (rows, cols) = (300, 200);
    let values: Vec<f32> = (0..rows * cols).map(|i| if i % cols == 0 { 7.0 } else { 2.25 }).collect();
    bench.write("w", &[Dense::new("w", Dtype::F32, &[rows, cols], &values)]);
    for (density, importance) in [(0.05, Importance::Uniform), (0.5, Importance::ColumnMeanSquare)] {
        bench.split("w", &options(BaseKind::Int4, importance, density)).unwrap();
        let found = entries(&bench.container("w"), "w");
        let (outliers, equal): (Vec<(usize, f32)>, Vec<_>) = found.iter().partition(|(i, _)| i % cols == 0);
        assert_eq!(outliers.len(), rows);
        let kept = (density * (rows * cols) as f64) as usize - rows;
        let expected = (0..rows * cols).filter(|i| i % cols != 0).take(kept).map(|i| (i, equal[0].1));
        assert_eq!(equal, expected.collect::<Vec<_>>());
    }
}

#[test]
fn nothing_all_and_zeros() {
    let bench = Bench::new();
    let values = weights(50, 30, 1);
    bench.write(
        "w",
        &[
            Dense::new("w", Dtype::F32, &[50, 30], &values),
            Dense::new("zero", Dtype::BF16, &[5, 7], &[0.0; 35]),
        ],
    );
    let report = bench.split("w", &options(BaseKind::Int4, Importance::ColumnMeanSquare, 0.0)).unwrap();
    assert_eq!((report.nnz(), report.tensors[0].lowest_score), (0, 0.0));
    let report = bench.split("w", &options(BaseKind::Int4, Importance::ColumnMeanSquare, 1.0)).unwrap();
    // All but those that the base has right.
    let base = base(&bench.container("w"), "w");
    let wrong = values.iter().zip(&base).filter(|(w, b)| w != b).count();
    assert_eq!(report.tensors[0].nnz as usize, wrong);
    assert_eq!(report.tensors[1].nnz, 0);
    assert!(report.tensors[0].error < 1e-7, "{}", report.tensors[0].error);
    assert_eq!((report.tensors[1].base_error, report.tensors[1].error), (0.0, 0.0));
}

/// Weights so small that their squares are not there in f32, and so large that they overflow it.
#[test]
fn tiny_and_huge_weights_are_ranked_as_any() {
    let bench = Bench::new();
    let values = weights(40, 50, 3);
    let split_of = |factor: f32| {
        let values: Vec<f32> = values.iter().map(|v| v * factor).collect();
        bench.write("w", &[Dense::new("w", Dtype::F32, &[40, 50], &values)]);
        bench.split("w", &options(BaseKind::Int8, Importance::ColumnMeanSquare, 0.1)).unwrap();
        entries(&bench.container("w"), "w").into_iter().map(|e| e.0).collect::<Vec<_>>()
    };
    // All three outside of f16, so that no scale is rounded.
    let positions = split_of(2f32.powi(-30));
    assert_eq!(positions.len(), 200);
    assert_eq!(split_of(2f32.powi(-90)), positions);
    assert_eq!(split_of(2f32.powi(120)), positions);
}

#[test]
fn a_threshold_keeps_what_reaches_it() {
    let bench = Bench::new();
    let values = [3.0, -2.0, 1.0, 0.0, 2.0, -1.0];
    bench.write("w", &[Dense::new("w", Dtype::F32, &[2, 3], &values)]);
    let base = bench.write("base", &[Dense::new("w", Dtype::F32, &[2, 3], &[0.0; 6])]);
    let positions = |threshold| {
        let options =
            SplitOptions::default().base(base.clone()).importance(Importance::Uniform).threshold(threshold);
        bench.split("w", &options).unwrap();
        entries(&bench.container("w"), "w").into_iter().map(|e| e.0).collect::<Vec<_>>()
    };
    assert_eq!(positions(4.0), [0, 1, 4]);
    assert_eq!(positions(4.001), [0]);
    assert_eq!(positions(0.0), [0, 1, 2, 4, 5]);
    assert_eq!(positions(10.0), [0; 0]);
}

#[test]
fn calibration_decides_which_columns_matter() {
    let bench = Bench::new();
    let values = weights(64, 20, 9);
    bench.write("w", &[Dense::new("w", Dtype::F32, &[64, 20], &values)]);
    let h: Vec<f32> = (0..20).map(|c| if c < 4 { 1.0 } else { 0.0 }).collect();
    let path = bench.write("h", &[Dense::new("w", Dtype::F32, &[20], &h)]);
    bench.split("w", &options(BaseKind::Int4, Importance::Calibration(path), 0.1)).unwrap();
    let found = entries(&bench.container("w"), "w");
    assert_eq!(found.len(), 128);
    assert!(found.iter().all(|(i, _)| i % 20 < 4));
}

/// The file is the same whatever the budget and the number of threads, and the minimum that an error
/// states is enough.
#[test]
fn budget_and_threads_do_not_change_the_file() {
    let bench = Bench::new();
    let shapes = [(700usize, 300usize), (3, 5000), (2000, 3), (1, 1)];
    let tensors: Vec<Dense> = (0u64..)
        .zip(shapes)
        .map(|(n, (rows, cols))| {
            // Coarse, so that scores tie.
            let values: Vec<f32> =
                weights(rows, cols, n).iter().map(|v| (v * 500.0).round() / 512.0).collect();
            Dense::new(&format!("w{n}"), Dtype::BF16, &[rows, cols], &values)
        })
        .collect();
    bench.write("w", &tensors);
    for values in ValueType::ALL {
        let options = SplitOptions::default().values(values);
        let report = bench.split("w", &options).unwrap();
        let expected = std::fs::read(bench.split_path("w")).unwrap();
        let Err(error) = bench.split_within("w", &options, &Budget::new(1000)) else {
            panic!("a budget of 1000 bytes is not enough")
        };
        let residua_split::SplitError::Budget(error) = error else { panic!("{error}") };
        assert!(bench.split_within("w", &options, &Budget::new(error.minimum - 1)).is_err());
        for limit in [error.minimum, error.minimum + 10_000, error.minimum * 2] {
            let budget = Budget::new(limit);
            assert_eq!(bench.split_within("w", &options, &budget).unwrap(), report);
            assert!(std::fs::read(bench.split_path("w")).unwrap() == expected, "{limit} bytes, {values}");
            assert!(budget.used() == 0 && budget.peak() <= limit);
        }
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| bench.split("w", &options)).unwrap(), report);
            assert!(std::fs::read(bench.split_path("w")).unwrap() == expected, "{threads} threads, {values}");
        }
    }
}
