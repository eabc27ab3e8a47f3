//! The attention compensator.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Fixture, are_positive, assert_reference, collect, drift_by, fit, moments, normal};
use nalgebra::{DMatrix, DMatrixView};
use proptest::prelude::*;
use residua_compensate::*;
use residua_memory::Budget;

#[test]
fn compat_mode_is_the_reference() {
    let fixture = Fixture::methods();
    let (dim, base) = (fixture.number("/dim") as usize, fixture.numbers("/attention/base"));
    let method = Attention::new(Mode::Compat)
        .with_nearest(fixture.number("/attention/nearest") as usize)
        .with_temperature(fixture.number("/attention/temperature"))
        .with_base(DMatrix::from_vec(dim, base.len() / dim, base));
    assert_reference(&method, &fixture, "attention", [1e-5, 1e-5]);
}

/// Samples whose drift is no linear function of them.
fn drifted(dim: usize, count: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
    drift_by(dim, count, seed, |x, i| {
        let norm = x.iter().map(|v| v * v).sum::<f32>().sqrt();
        x[i] + (x[i] / norm + i as f32).sin()
    })
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
        let method = Attention::default().with_nearest(k).with_temperature(temperature).with_precision(Precision::F32);
        let queries = normal(dim * points, seed + 1);
        let moved = fit(&method, dim, &before, &after).apply_features(&queries, &budget).unwrap();
        let queries = DMatrixView::from_slice(&queries, dim, points);
        let moved = DMatrixView::from_slice(&moved, dim, points);
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
        let method = Attention::default().with_points(least).with_precision(Precision::F32);
        let fitted = fit(&method, dim, &before, &after);
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
        let fitted = fit(&Attention::new(if compat { Mode::Compat } else { Mode::Exact }).with_points(40), dim, &before, &after);
        let moved = fitted.apply(&collect(dim, &before, &labels, Storage::Smallest), &budget).unwrap();
        prop_assert!(are_positive(&moved));
    }
}

/// Few cubature points come nearer to the moments of very many draws than many plain draws do.
#[test]
fn cubature_beats_draws() {
    let (dim, budget) = (24, Budget::unlimited());
    let (before, after) = drifted(dim, 600, 9);
    let labels: Vec<u32> = (0..600).map(|i| i % 2).collect();
    let stale = collect(dim, &before, &labels, Storage::Smallest);
    let moved = |method: &Attention| fit(method, dim, &before, &after).apply(&stale, &budget).unwrap();
    // Compat mode's blend taken off again.
    let unblended = |old: &DMatrix<f64>, new: DMatrix<f64>| (new - old * 0.1) / 0.9;
    let unblended_moments = |statistics: &ClassStatistics, blended: bool| {
        let (old, class) = (stale.get(0).unwrap(), statistics.get(0).unwrap());
        let matrix = |class: &ClassGaussian| DMatrix::from_column_slice(dim, 1, class.mean().as_slice());
        let (mean, covariance) = (matrix(class), class.covariance().to_dense());
        if !blended {
            return (mean, covariance);
        }
        (unblended(&matrix(old), mean), unblended(&old.covariance().to_dense(), covariance))
    };
    let kernel = Attention::default().with_nearest(200);
    let draws =
        |points, seed| Attention::new(Mode::Compat).with_points(points).with_seed(seed).with_nearest(200);
    let truth = unblended_moments(&moved(&draws(65_536, 1)), true);
    let drift =
        (&truth.0 - DMatrix::from_column_slice(dim, 1, stale.get(0).unwrap().mean().as_slice())).norm();
    let error = |(mean, covariance): (DMatrix<f64>, DMatrix<f64>)| {
        ((mean - &truth.0).norm() / drift, (covariance - &truth.1).norm() / truth.1.norm())
    };
    let cubature = error(unblended_moments(&moved(&kernel), false));
    let drawn = error(unblended_moments(&moved(&draws(2000, 2)), true));
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
            let mut source = MemorySource::pairs(dim, &before, &after).unwrap();
            let method = Attention::default().with_nearest(100).with_points(200);
            let fitted = method.fit(&mut source, &budget).unwrap();
            moments(&fitted.apply(&stale, &budget).unwrap())
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
    let fails = |method: Attention, rows: usize, budget: &Budget| {
        let mut source = MemorySource::new(4, &before[..rows * 4], Some(&after[..rows * 4]), None).unwrap();
        method.fit(&mut source, budget).map(drop).unwrap_err().to_string()
    };
    assert!(fails(Attention::default(), 0, &budget).contains("empty"));
    assert!(fails(Attention::default().with_temperature(0.0), 9, &budget).contains("above 0"));
    assert!(fails(Attention::default().with_nearest(0), 9, &budget).contains("1 or more"));
    assert!(fails(Attention::default(), 9, &Budget::new(64)).contains("budget too small"));
    let base = DMatrix::zeros(3, 8);
    assert!(fails(Attention::new(Mode::Compat).with_base(base), 9, &budget).contains("base points"));
}
