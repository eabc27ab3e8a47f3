//! Class statistics: against NumPy and scikit-learn, and the laws of merging and storing them.
#![allow(clippy::unwrap_used)]

mod common;

use common::{builder, difference, numbers};
use nalgebra::{DMatrix, DVector};
use proptest::prelude::*;
use residua_compensate::statistics::{Shrinkage, merge_files};
use residua_compensate::*;
use residua_memory::{Budget, ErrorKind};
use serde_json::Value;

/// Statistics of rows `[n, dim]` with labels, in batches of `batch`.
fn collect(dim: usize, rows: &[f32], labels: &[u32], batch: usize, storage: Storage) -> ClassStatistics {
    builder(dim, rows, labels, batch).finish(storage, Precision::F64).unwrap()
}

fn assert_close(a: &ClassStatistics, b: &ClassStatistics, tolerance: f64) {
    assert_eq!(a.len(), b.len());
    for ((label, a), (other, b)) in a.iter().zip(b.iter()) {
        assert_eq!((label, a.count()), (other, b.count()));
        let mean = (a.mean() - b.mean()).amax() / b.mean().amax().max(1.0);
        assert!(mean <= tolerance, "mean of class {label}: {mean:e}");
        let covariance = difference(&a.covariance().to_dense(), &b.covariance().to_dense());
        assert!(covariance <= tolerance, "covariance of class {label}: {covariance:e}");
    }
}

#[test]
fn equal_numpy_and_scikit_learn() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/statistics.json")).unwrap();
    let dim = fixture["dim"].as_u64().unwrap() as usize;
    for case in fixture["cases"].as_array().unwrap() {
        let rows: Vec<f32> = numbers(&case["features"]).into_iter().map(|v| v as f32).collect();
        let count = case["count"].as_u64().unwrap();
        let statistics = collect(dim, &rows, &vec![4; count as usize], 3, Storage::Smallest);
        let class = statistics.get(4).unwrap();
        assert_eq!(class.count(), count);
        let mean = DVector::from_vec(numbers(&case["mean"]));
        assert!((class.mean() - &mean).amax() / mean.amax() < 1e-14);
        let covariance = DMatrix::from_vec(dim, dim, numbers(&case["covariance"]));
        assert!(difference(&class.covariance().to_dense(), &covariance) < 1e-11);
        assert!((class.covariance().trace() / covariance.trace() - 1.0).abs() < 1e-11);
        assert!((class.oas() - case["oas"].as_f64().unwrap()).abs() < 1e-10);
        if class.covariance().form() == "factor" {
            let expected = case["ledoit_wolf"].as_f64().unwrap();
            assert!((class.ledoit_wolf().unwrap() - expected).abs() < 1e-10);
        } else {
            assert!(class.ledoit_wolf().unwrap_err().to_string().contains("OAS"));
        }
        // While a class is collected its samples are there, however it is stored.
        let mut builder = StatisticsBuilder::new(dim, &Budget::unlimited());
        builder.add(&rows, &vec![4; count as usize]).unwrap();
        builder.shrinkage = Some(Shrinkage::LedoitWolf);
        let shrunk = builder.finish(Storage::Packed, Precision::F64);
        if count as usize <= dim {
            let (a, trace) = (case["ledoit_wolf"].as_f64().unwrap(), covariance.trace());
            let expected = &covariance * (1.0 - a) + DMatrix::identity(dim, dim) * (a * trace / dim as f64);
            let found = shrunk.unwrap().get(4).unwrap().covariance().to_dense();
            assert!(difference(&found, &expected) < 1e-9);
        } else {
            let error = shrunk.unwrap_err().to_string();
            assert!(error.contains("class 4") && error.contains("OAS"), "{error}");
        }
    }
}

#[test]
fn one_sample_is_a_small_ball() {
    let statistics = collect(3, &[1.0, 2.0, 3.0], &[9], 1, Storage::Packed);
    let class = statistics.get(9).unwrap();
    assert_eq!(class.mean().as_slice(), [1.0, 2.0, 3.0]);
    assert_eq!(class.covariance().to_dense(), DMatrix::identity(3, 3) * 1e-4);
    assert_eq!(class.covariance().bytes(), 0);
    // Two single samples have the covariance of two samples.
    let other = collect(3, &[3.0, 2.0, 3.0], &[9], 1, Storage::Packed);
    let both = statistics.merge(&other, &Budget::unlimited()).unwrap();
    assert!((both.get(9).unwrap().covariance().to_dense()[(0, 0)] - 2.0).abs() < 1e-14);
}

#[test]
fn a_far_away_mean_costs_no_precision() {
    // The sum of squares minus n times the mean squared would be off by far more than the variance.
    let rows: Vec<f32> = (0..400).map(|i| 1e6 + (i % 4) as f32).collect();
    let statistics = collect(1, &rows, &[0; 400], 64, Storage::Packed);
    let variance = statistics.get(0).unwrap().covariance().to_dense()[(0, 0)];
    assert!((variance - 1.25 * 400.0 / 399.0).abs() < 1e-9, "{variance}");
}

#[test]
fn wrong_input_is_named() {
    let mut builder = StatisticsBuilder::new(2, &Budget::unlimited());
    let error = builder.add(&[1.0, 2.0, 3.0, f32::NAN], &[0, 0]).unwrap_err();
    assert!(error.to_string().contains("row 1, column 1: NaN"), "{error}");
    assert!(builder.add(&[1.0, 2.0], &[0, 0]).unwrap_err().to_string().contains("labels"));
    assert!(matches!(builder.add(&[1.0, 2.0, 3.0], &[0]).unwrap_err(), CompensateError::Dimension { .. }));
    let negative = DMatrix::from_element(1, 1, -1.0);
    let covariance = Covariance::packed(&negative, Precision::F64).unwrap();
    let error = ClassGaussian::new(3, DVector::zeros(1), covariance, &Budget::unlimited()).unwrap_err();
    assert!(error.to_string().contains("variance 0 is -1"), "{error}");
}

#[test]
fn a_budget_too_small_says_what_would_do() {
    let budget = Budget::new(10_000);
    let mut builder = StatisticsBuilder::new(64, &budget);
    let rows = vec![1.0; 64 * 60];
    let error = builder.add(&rows, &[0; 60]).unwrap_err();
    assert!(matches!(&error, CompensateError::Budget(error) if error.minimum > 10_000), "{error}");
    drop(builder);
    assert_eq!(budget.used(), 0);
}

/// Rows and labels: any number of samples of a few classes, so that small dimensions pass all the forms.
fn samples() -> impl Strategy<Value = (usize, Vec<f32>, Vec<u32>)> {
    (1usize..7, 1usize..60).prop_flat_map(|(dim, n)| {
        let rows = prop::collection::vec(-100f32..100.0, dim * n);
        (Just(dim), rows, prop::collection::vec(0u32..3, n))
    })
}

proptest! {
    #[test]
    fn batches_of_any_size_give_the_same_bits((dim, rows, labels) in samples(), batch in 1usize..60) {
        let once = collect(dim, &rows, &labels, labels.len(), Storage::Smallest);
        let many = collect(dim, &rows, &labels, batch, Storage::Smallest);
        for ((_, a), (_, b)) in once.iter().zip(many.iter()) {
            prop_assert_eq!(a.mean(), b.mean());
            prop_assert_eq!(a.covariance(), b.covariance());
        }
    }

    /// Any partition, merged in any order and grouping, is the single pass.
    #[test]
    fn merging_is_associative_and_commutative(
        (dim, rows, labels) in samples(),
        cuts in (0usize..60, 0usize..60),
        forms in prop::array::uniform3(prop_oneof![Just(Storage::Smallest), Just(Storage::Packed)]),
    ) {
        let n = labels.len();
        let (low, high) = (cuts.0.min(cuts.1).min(n), cuts.0.max(cuts.1).min(n));
        let part = |from: usize, to: usize, form| collect(dim, &rows[from * dim..to * dim], &labels[from..to], 5, form);
        let budget = Budget::unlimited();
        let whole = collect(dim, &rows, &labels, n, Storage::Packed);
        let [a, b, c] = [part(0, low, forms[0]), part(low, high, forms[1]), part(high, n, forms[2])];
        let merge = |x: &ClassStatistics, y: &ClassStatistics| x.merge(y, &budget).unwrap();
        assert_close(&merge(&merge(&a, &b), &c), &whole, 1e-10);
        assert_close(&merge(&a, &merge(&b, &c)), &whole, 1e-10);
        assert_close(&merge(&merge(&c, &a), &b), &whole, 1e-10);
        let mut left = builder(dim, &rows[high * dim..], &labels[high..], 3);
        left.merge(builder(dim, &rows[..high * dim], &labels[..high], 4)).unwrap();
        assert_close(&left.finish(Storage::Smallest, Precision::F64).unwrap(), &whole, 1e-10);
    }

    /// Every storage form holds what it promises, in memory and through a file.
    #[test]
    fn storage_forms_round_trip(
        (dim, rows, labels) in samples(),
        precision in prop_oneof![Just(Precision::F64), Just(Precision::F32), Just(Precision::Bf16)],
        form in prop_oneof![Just(Storage::Smallest), Just(Storage::Packed), (0usize..7).prop_map(Storage::LowRank)],
    ) {
        let budget = Budget::unlimited();
        let exact = collect(dim, &rows, &labels, 7, Storage::Packed);
        let stored = collect(dim, &rows, &labels, 7, Storage::Smallest).store(form, precision, &budget).unwrap();
        let rounding = match precision {
            Precision::F64 => 1e-10,
            Precision::F32 => 1e-6,
            Precision::Bf16 => 2e-2,
        };
        for ((_, exact), (_, stored)) in exact.iter().zip(stored.iter()) {
            let (exact, dense) = (exact.covariance().to_dense(), stored.covariance().to_dense());
            match form {
                // The diagonal is kept whatever the rank.
                Storage::LowRank(rank) if rank < dim => {
                    let lost = DMatrix::from_diagonal(&(exact.diagonal() - dense.diagonal()));
                    prop_assert!(lost.amax() <= rounding * exact.amax().max(1e-30));
                }
                _ => prop_assert!(difference(&dense, &exact) <= rounding),
            }
            if stored.covariance().form() != "packed" {
                prop_assert!(dense.symmetric_eigenvalues().min() >= -1e-12 * exact.amax().max(1.0));
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("statistics.safetensors");
        stored.save(&path, &Budget::unlimited()).unwrap();
        let loaded = ClassStatistics::load(&path, &budget).unwrap();
        prop_assert_eq!(loaded.len(), stored.len());
        for ((label, a), (other, b)) in loaded.iter().zip(stored.iter()) {
            prop_assert_eq!((label, a.count(), a.mean()), (other, b.count(), b.mean()));
            prop_assert_eq!(a.covariance(), b.covariance());
        }
    }

    #[test]
    fn damaged_files_are_refused_or_read(at in 0usize..4000, byte in any::<u8>()) {
        let rows: Vec<f32> = (0..60).map(|i| ((i * 37) % 11) as f32).collect();
        let labels: Vec<u32> = (0..20).map(|i| i % 3).collect();
        let statistics = collect(3, &rows, &labels, 7, Storage::Smallest);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("statistics.safetensors");
        statistics.save(&path, &Budget::unlimited()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at % bytes.len();
        bytes[at] = byte;
        std::fs::write(&path, bytes).unwrap();
        // No panic, and nothing that breaks an invariant.
        if let Ok(loaded) = ClassStatistics::load(&path, &Budget::new(1 << 20)) {
            prop_assert!(loaded.iter().all(|(_, class)| class.mean().iter().all(|v| v.is_finite())));
        }
    }
}

#[test]
fn shrinking_pulls_towards_the_mean_variance() {
    let rows: Vec<f32> = (0..60).map(|i| ((i * 7919) % 101) as f32).collect();
    let labels = [0, 0, 0, 0, 1, 1, 1, 1, 1, 2];
    let budget = Budget::unlimited();
    for storage in [Storage::Smallest, Storage::Packed, Storage::LowRank(2)] {
        let statistics = collect(6, &rows, &labels, 3, storage);
        for shrinkage in [Shrinkage::Fixed(0.3), Shrinkage::Fixed(0.0), Shrinkage::Oas] {
            let shrunk = statistics.shrink(shrinkage, &budget).unwrap();
            for (label, class) in statistics.iter() {
                let a = match shrinkage {
                    Shrinkage::Fixed(a) => a,
                    _ => class.oas(),
                };
                let old = class.covariance().to_dense();
                let target = DMatrix::identity(6, 6) * (old.trace() / 6.0);
                let new = shrunk.get(label).unwrap().covariance().to_dense();
                assert!(difference(&new, &(&old * (1.0 - a) + target * a)) < 1e-12, "{storage:?} {label}");
            }
        }
    }
    // Five samples in six dimensions are no factor any more: it names the class.
    let statistics = collect(6, &rows, &labels, 3, Storage::Smallest);
    let error = statistics.shrink(Shrinkage::LedoitWolf, &budget).unwrap_err().to_string();
    assert!(error.contains("class 0") && error.contains("OAS"), "{error}");
    let few = statistics.select(|label| label == 2).shrink(Shrinkage::LedoitWolf, &budget).unwrap();
    assert_eq!(few.get(2).unwrap().covariance(), statistics.get(2).unwrap().covariance());
    assert!(statistics.shrink(Shrinkage::Fixed(1.5), &budget).is_err());
}

/// Moved classes are many times larger than old ones, and stay; how many are worked on at a time follows.
#[test]
fn threads_do_not_decide_whether_it_fits() {
    let (dim, classes) = (40, 30);
    let rows: Vec<f32> = (0..dim * 2 * classes).map(|i| ((i * 7919) % 101) as f32).collect();
    let labels: Vec<u32> = (0..2 * classes as u32).map(|i| i / 2).collect();
    let small = collect(dim, &rows, &labels, 60, Storage::Smallest);
    let counted = Budget::unlimited();
    let moved = small.store(Storage::Packed, Precision::F64, &counted).unwrap();
    let (moved, held) = (moved.bytes(), counted.used());
    let scratch = 2 * Covariance::dense_bytes(dim);
    for threads in [1, 8] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let budget = Budget::new(held + scratch);
        let done = pool.install(|| small.store(Storage::Packed, Precision::F64, &budget));
        assert_eq!(done.unwrap().bytes(), moved, "{threads}");
    }
}

#[test]
fn classes_of_absurd_counts_and_sizes_are_refused() {
    let budget = Budget::unlimited();
    let new = |count, mean: f64, variance: f64| {
        let covariance = Covariance::packed(&DMatrix::from_element(1, 1, variance), Precision::F32).unwrap();
        ClassGaussian::new(count, DVector::from_element(1, mean), covariance, &budget).map(drop)
    };
    assert!(new(1 << 48, 0.0, 1.0).is_ok());
    assert!(new(u64::MAX, 0.0, 1.0).unwrap_err().to_string().contains("18446744073709551615 samples"));
    assert!(new(2, 0.0, 1e60).unwrap_err().to_string().contains("higher precision"));
    let mut builder = StatisticsBuilder::new(1, &budget);
    builder.add(&[1e25, -1e25, 0.0], &[5, 5, 5]).unwrap();
    let error = builder.finish(Storage::Packed, Precision::F32).unwrap_err().to_string();
    assert!(error.contains("class 5: number 0 of the covariance is inf"), "{error}");
}

#[test]
fn the_spectrum_is_that_of_the_average_covariance() {
    let rows: Vec<f32> = (0..60).map(|i| ((i * 7919) % 101) as f32).collect();
    let labels = [0, 0, 0, 0, 1, 1, 1, 1, 1, 2];
    let statistics = collect(6, &rows, &labels, 3, Storage::Smallest);
    let dense = |label| statistics.get(label).unwrap().covariance().to_dense();
    // Weights n − 1 are 3 and 4; the single sample counts as two.
    let average = (dense(0) * 3.0 + dense(1) * 4.0 + dense(2)) / 8.0;
    let mut expected: Vec<f64> = average.symmetric_eigenvalues().iter().copied().collect();
    expected.sort_by(|a, b| b.total_cmp(a));
    let found = statistics.spectrum(&Budget::unlimited()).unwrap();
    assert_eq!(found.len(), 6);
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-9 * average.trace(), "{found} {expected}");
    }
}

/// As in memory, class by class; no input is replaced or counted twice.
#[test]
fn files_merge_as_statistics_do() {
    let budget = Budget::unlimited();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let rows: Vec<f32> = (0..60).map(|i| ((i * 7919) % 101) as f32).collect();
    let a = collect(3, &rows[..30], &[0, 0, 1, 1, 0, 1, 2, 2, 2, 2], 3, Storage::Smallest);
    let b = collect(3, &rows[30..], &[1, 1, 1, 1, 4, 4, 4, 4, 4, 4], 3, Storage::Smallest);
    a.save(path("a"), &Budget::unlimited()).unwrap();
    b.save(path("b"), &Budget::unlimited()).unwrap();
    let mut labels = Vec::new();
    merge_files(&[path("a"), path("b")], path("c"), &budget, |label, _| {
        labels.push(label);
        Ok(())
    })
    .unwrap();
    assert_eq!(labels, [0, 1, 2, 4]);
    let merged = ClassStatistics::load(path("c"), &budget).unwrap();
    assert_close(&merged, &a.merge(&b, &budget).unwrap(), 0.0);
    let fails = |inputs: &[std::path::PathBuf], output: &str| {
        let error = merge_files(inputs, path(output), &budget, |_, _| Ok(())).unwrap_err();
        (error.kind(), error.to_string())
    };
    let before = std::fs::read(path("a")).unwrap();
    assert_eq!(fails(&[path("b"), path("a")], "a").0, ErrorKind::Usage);
    assert!(fails(&[path("b"), folder.path().join(".").join("b")], "d").1.contains("twice"));
    assert!(fails(&[], "d").1.contains("empty"));
    collect(2, &rows, &[0; 30], 3, Storage::Smallest).save(path("e"), &Budget::unlimited()).unwrap();
    assert!(fails(&[path("a"), path("e")], "d").1.contains("dimension 2, expected 3"));
    assert_eq!(std::fs::read(path("a")).unwrap(), before);
    assert!(!path("d").exists());
}
