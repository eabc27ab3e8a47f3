//! The attention compensator.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Fixture, collect, difference, normal};
use nalgebra::{DMatrix, DMatrixView};
use proptest::prelude::*;
use residua_compensate::*;
use residua_memory::Budget;

#[test]
fn compat_mode_is_the_reference() {
    let (fixture, budget) = (Fixture::methods(), Budget::unlimited());
    let dim = fixture.number("/dim") as usize;
    let (before, after) = (fixture.floats("/before"), fixture.floats("/after"));
    let base = fixture.numbers("/attention/base");
    let method = Attention {
        nearest: fixture.number("/attention/nearest") as usize,
        temperature: fixture.number("/attention/temperature"),
        base: Some(DMatrix::from_vec(dim, base.len() / dim, base)),
        ..Attention::new(Mode::Compat)
    };
    let mut source = MemorySource::new(dim, &before, Some(&after), None).unwrap();
    let fitted = method.fit(&mut source, &budget).unwrap();
    for form in [Storage::Smallest, Storage::Packed] {
        for (label, class) in fitted.apply(&fixture.statistics(form), &budget).unwrap().iter() {
            let mean = DMatrix::from_vec(dim, 1, fixture.numbers(&format!("/attention/means/{label}")));
            let ours = DMatrix::from_column_slice(dim, 1, class.mean().as_slice());
            assert!(difference(&ours, &mean) < 1e-5);
            let covariance = fixture.numbers(&format!("/attention/covariances/{label}"));
            let covariance = DMatrix::from_vec(dim, dim, covariance);
            assert!(difference(&class.covariance().to_dense(), &covariance) < 1e-5);
        }
    }
    let queries = fixture.floats("/queries");
    let queries = DMatrixView::from_slice(&queries, dim, queries.len() / dim);
    let moved = fitted.apply_features(queries, &budget).unwrap().map(f64::from);
    let expected = DMatrix::from_vec(dim, queries.ncols(), fixture.numbers("/attention/features"));
    assert!(difference(&moved, &expected) < 1e-5);
}

/// Samples that drift by a function that is not linear.
fn drifted(dim: usize, count: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let before = normal(dim * count, seed);
    let after = before.chunks(dim).flat_map(|x| {
        let norm = x.iter().map(|v| v * v).sum::<f32>().sqrt();
        x.iter().enumerate().map(move |(i, v)| v + (v / norm + i as f32).sin()).collect::<Vec<_>>()
    });
    let after = after.collect();
    (before, after)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    /// Tiles and the running choice of the nearest give what sorting all of them gives.
    #[test]
    fn tiles_are_the_definition(
        count in 1usize..1300, points in 1usize..150, k in prop_oneof![1usize..700, Just(512)], seed in 0u64..100,
    ) {
        let (dim, temperature, budget) = (3, 0.2, Budget::unlimited());
        let (before, after) = drifted(dim, count, seed);
        let mut source = MemorySource::new(dim, &before, Some(&after), None).unwrap();
        let method = Attention { nearest: k, temperature, precision: Precision::F32, ..Attention::default() };
        let fitted = method.fit(&mut source, &budget).unwrap();
        let queries = normal(dim * points, seed + 1);
        let queries = DMatrixView::from_slice(&queries, dim, points);
        let moved = fitted.apply_features(queries, &budget).unwrap();
        let x = DMatrixView::from_slice(&before, dim, count);
        for (query, moved) in queries.column_iter().zip(moved.column_iter()) {
            let cosine = |i: usize| f64::from(x.column(i).dot(&query) / (x.column(i).norm() * query.norm()));
            let mut order: Vec<_> = (0..count).map(|i| (cosine(i), i)).collect();
            order.sort_by(|a, b| b.0.total_cmp(&a.0));
            order.truncate(k);
            let sum: f64 = order.iter().map(|(cosine, _)| (cosine / temperature).exp()).sum();
            for row in 0..dim {
                let drift: f64 = order.iter().map(|&(cosine, i)| {
                    (cosine / temperature).exp() / sum * f64::from(after[i * dim + row] - before[i * dim + row])
                }).sum();
                prop_assert!((f64::from(query[row] + drift as f32) - f64::from(moved[row])).abs() < 1e-3);
            }
        }
    }

    /// The points of exact mode have exactly the class's moments: a drift that is the same everywhere moves
    /// the mean and leaves the covariance.
    #[test]
    fn constant_drift_is_a_shift(
        dim in 1usize..9, count in 1usize..40, least in 2usize..100, seed in 0u64..100,
        form in prop_oneof![Just(Storage::Smallest), Just(Storage::Packed), Just(Storage::LowRank(2))],
    ) {
        let budget = Budget::unlimited();
        let before = normal(dim * count, seed);
        let after: Vec<f32> = before.iter().map(|v| v + 0.5).collect();
        let labels: Vec<u32> = (0..count as u32).map(|i| i % 3).collect();
        let mut source = MemorySource::new(dim, &before, Some(&after), None).unwrap();
        let method = Attention { points: least, precision: Precision::F32, ..Attention::default() };
        let fitted = method.fit(&mut source, &budget).unwrap();
        let stale = collect(dim, &before, &labels, Storage::Packed).store(form, Precision::F64, &budget).unwrap();
        let moved = fitted.apply(&stale, &budget).unwrap();
        for ((_, stale), (_, moved)) in stale.iter().zip(moved.iter()) {
            prop_assert!((moved.mean() - stale.mean().add_scalar(0.5)).amax() < 1e-5);
            let dense = moved.covariance().to_dense();
            prop_assert!((&dense - stale.covariance().to_dense()).amax() < 1e-5 * dense.amax().max(1.0));
            prop_assert!(dense.symmetric_eigenvalues().min() > -1e-10);
        }
    }

    #[test]
    fn covariances_stay_positive(dim in 1usize..8, count in 1usize..60, seed in 0u64..100, compat in any::<bool>()) {
        let budget = Budget::unlimited();
        let (before, after) = drifted(dim, count, seed);
        let labels: Vec<u32> = (0..count as u32).map(|i| i % 3).collect();
        let mut source = MemorySource::new(dim, &before, Some(&after), None).unwrap();
        let method = Attention { points: 40, ..Attention::new(if compat { Mode::Compat } else { Mode::Exact }) };
        let fitted = method.fit(&mut source, &budget).unwrap();
        let moved = fitted.apply(&collect(dim, &before, &labels, Storage::Smallest), &budget).unwrap();
        for (_, class) in moved.iter() {
            let dense = class.covariance().to_dense();
            prop_assert!(dense.clone().symmetric_eigenvalues().min() >= -1e-10 * dense.amax());
        }
    }
}

/// Few cubature points come nearer to the moments of very many draws than many plain draws do.
#[test]
fn cubature_beats_draws() {
    let (dim, budget) = (24, Budget::unlimited());
    let (before, after) = drifted(dim, 600, 9);
    let labels: Vec<u32> = (0..600).map(|i| i % 2).collect();
    let stale = collect(dim, &before, &labels, Storage::Smallest);
    let moved = |method: &Attention| {
        let mut source = MemorySource::new(dim, &before, Some(&after), None).unwrap();
        method.fit(&mut source, &budget).unwrap().apply(&stale, &budget).unwrap()
    };
    // Compat mode's blend taken off again.
    let unblended = |old: &DMatrix<f64>, new: DMatrix<f64>| (new - old * 0.1) / 0.9;
    let moments = |statistics: &ClassStatistics, blended: bool| {
        let (old, class) = (stale.get(0).unwrap(), statistics.get(0).unwrap());
        let matrix = |class: &ClassGaussian| DMatrix::from_column_slice(dim, 1, class.mean().as_slice());
        let (mean, covariance) = (matrix(class), class.covariance().to_dense());
        if !blended {
            return (mean, covariance);
        }
        (unblended(&matrix(old), mean), unblended(&old.covariance().to_dense(), covariance))
    };
    let kernel = Attention { nearest: 200, ..Attention::default() };
    let draws = |points, seed| Attention { points, seed, nearest: 200, ..Attention::new(Mode::Compat) };
    let truth = moments(&moved(&draws(65_536, 1)), true);
    let drift =
        (&truth.0 - DMatrix::from_column_slice(dim, 1, stale.get(0).unwrap().mean().as_slice())).norm();
    let error = |(mean, covariance): (DMatrix<f64>, DMatrix<f64>)| {
        ((mean - &truth.0).norm() / drift, (covariance - &truth.1).norm() / truth.1.norm())
    };
    let cubature = error(moments(&moved(&kernel), false));
    let drawn = error(moments(&moved(&draws(2000, 2)), true));
    println!("cubature {cubature:.4?}, 2000 draws {drawn:.4?}");
    assert!(cubature.0 < 0.02 && cubature.1 < 0.02, "{cubature:?}");
    assert!(cubature.0 < drawn.0 / 2.0 && cubature.1 < drawn.1, "{cubature:?} {drawn:?}");
}

#[test]
fn threads_and_budget_change_no_bit() {
    let dim = 20;
    let (before, after) = drifted(dim, 700, 1);
    let labels: Vec<u32> = (0..700).map(|i| i % 5).collect();
    let stale = collect(dim, &before, &labels, Storage::Smallest);
    let run = |threads, limit| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let budget = Budget::new(limit);
            let mut source = MemorySource::new(dim, &before, Some(&after), None).unwrap();
            let method = Attention { nearest: 100, points: 200, ..Attention::default() };
            let fitted = method.fit(&mut source, &budget).unwrap();
            let moved = fitted.apply(&stale, &budget).unwrap();
            moved
                .iter()
                .map(|(_, class)| (class.mean().clone(), class.covariance().clone()))
                .collect::<Vec<_>>()
        })
    };
    let once = run(1, u64::MAX);
    assert_eq!(once, run(4, u64::MAX));
    assert_eq!(once, run(2, 4 << 20));
}

#[test]
fn wrong_settings_and_sources_are_refused() {
    let budget = Budget::unlimited();
    let (before, after) = drifted(4, 9, 1);
    let fit = |method: Attention, rows: usize, budget: &Budget| {
        let mut source = MemorySource::new(4, &before[..rows * 4], Some(&after[..rows * 4]), None).unwrap();
        method.fit(&mut source, budget).map(drop).unwrap_err().to_string()
    };
    assert!(fit(Attention::default(), 0, &budget).contains("empty"));
    assert!(fit(Attention { temperature: 0.0, ..Attention::default() }, 9, &budget).contains("above 0"));
    assert!(fit(Attention { nearest: 0, ..Attention::default() }, 9, &budget).contains("1 or more"));
    assert!(fit(Attention::default(), 9, &Budget::new(64)).contains("budget too small"));
    let base = Some(DMatrix::zeros(3, 8));
    assert!(fit(Attention { base, ..Attention::new(Mode::Compat) }, 9, &budget).contains("base points"));
}
