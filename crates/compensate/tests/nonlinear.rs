//! The RFF and weak-nonlinear compensators.
#![allow(clippy::unwrap_used)]

mod common;

use common::{
    Fixture, affine_drift, are_positive, assert_reference, collect, drift_by, fit, moments, normal,
};
use nalgebra::{DMatrix, DVector};
use proptest::prelude::*;
use residua_compensate::*;
use residua_memory::Budget;

#[test]
fn rff_compat_is_the_reference() {
    let (expected, dim) = (Fixture::nonlinear(), 6);
    let features = expected.number("/rff/count") as usize;
    let base = expected.numbers("/rff/base");
    let method = Rff::new(Mode::Compat)
        .with_features(features)
        .with_ridge(expected.number("/rff/ridge"))
        .with_base(DMatrix::from_vec(dim, base.len() / dim, base))
        .with_directions(DMatrix::from_vec(dim, features, expected.numbers("/rff/directions")))
        .with_offsets(DVector::from_vec(expected.numbers("/rff/offsets")));
    assert_reference(&method, &expected, "rff", [1e-4, 1e-4]);
}

#[test]
fn weak_nonlinear_compat_is_the_reference() {
    let (expected, dim) = (Fixture::nonlinear(), 6);
    let hidden = expected.number("/weak/hidden") as usize;
    let base = expected.numbers("/weak/base");
    let matrix = |name: &str, rows, cols| DMatrix::from_vec(rows, cols, expected.floats(name));
    let method = WeakNonlinear::new(Mode::Compat)
        .with_steps(expected.number("/weak/steps") as usize)
        .with_batch(expected.number("/weak/batch") as usize)
        .with_rate(expected.number("/weak/rate"))
        .with_decay(expected.number("/weak/decay"))
        .with_base(DMatrix::from_vec(dim, base.len() / dim, base))
        .with_start((matrix("/weak/inner", hidden, dim), matrix("/weak/outer", dim, hidden)))
        .with_batches(expected.numbers("/weak/batches").into_iter().map(|v| v as u32).collect());
    assert_reference(&method, &expected, "weak", [1e-4, 1e-4]);
}

/// Samples that drift by a smooth function that is not linear.
fn drifted(dim: usize, count: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
    drift_by(dim, count, seed, |x, i| 1.1 * x[i] + 0.5 * (x[0] + i as f32).sin())
}

/// Both methods in a mode, small enough for many runs.
fn methods(mode: Mode) -> [Box<dyn Method>; 2] {
    [
        Box::new(Rff::new(mode).with_features(64).with_points(64)),
        Box::new(WeakNonlinear::new(mode).with_hidden(32).with_steps(30).with_points(64)),
    ]
}

/// What is not linear in the drift is learned too: far less of it is left than a linear map leaves.
#[test]
fn nonlinear_drift_is_followed() {
    let (dim, budget) = (3, Budget::unlimited());
    let (before, after) = drifted(dim, 3000, 1);
    let (x, y) = drifted(dim, 500, 2);
    let left = |method: &dyn Method| {
        let moved = fit(method, dim, &before, &after).apply_features(&x, &budget).unwrap();
        moved.iter().zip(&y).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
    };
    let linear = left(&Linear::default());
    for method in methods(Mode::Exact) {
        let left = left(&*method);
        assert!(left < 0.1 * linear, "{}: {left} of {linear}", method.name());
    }
}

/// Cubature is near the moments of very many draws.
#[test]
fn moments_are_those_of_many_draws() {
    let (dim, budget) = (8, Budget::unlimited());
    let (before, after) = drifted(dim, 1000, 3);
    let stale = collect(dim, &before, &vec![0; 1000], Storage::Packed);
    let class = stale.get(0).unwrap();
    let methods: [Box<dyn Method>; 2] =
        [Box::new(Rff::default().with_points(4096)), Box::new(WeakNonlinear::default().with_points(4096))];
    for method in methods {
        let fitted = fit(&*method, dim, &before, &after);
        let moved = fitted.apply(&stale, &budget).unwrap();
        let moved = moved.get(0).unwrap();
        let draws = 64_000;
        let base = DMatrix::from_vec(dim, draws, normal(dim * draws, 4)).map(f64::from);
        let factor = class.covariance().to_dense().cholesky().unwrap().l();
        let mut points = factor * base;
        points.column_iter_mut().for_each(|mut column| column += class.mean());
        let drawn = fitted.apply_features(points.map(|v| v as f32).as_slice(), &budget).unwrap();
        let drawn = DMatrix::from_vec(dim, draws, drawn).map(f64::from);
        let mean = drawn.column_mean();
        let mut centred = drawn;
        centred.column_iter_mut().for_each(|mut column| column -= &mean);
        let covariance = &centred * centred.transpose() / (draws - 1) as f64;
        let drift = (&mean - class.mean()).norm();
        let off = (moved.mean() - &mean).norm() / drift;
        assert!(off < 0.05, "{}: {off}", method.name());
        let error = (moved.covariance().to_dense() - &covariance).norm() / covariance.norm();
        assert!(error < 0.03, "{}: {error}", method.name());
    }
}

/// By the law of total covariance: with noise that no map can know, `noise: 1` gives the covariance after, and a
/// class of few samples stays a factor of its rank.
#[test]
fn noise_makes_covariances_whole() {
    let (dim, count, budget) = (5, 4000, Budget::unlimited());
    let before = normal(dim * count, 1);
    let noise = normal(dim * count, 2);
    let after: Vec<f32> = before.iter().zip(&noise).map(|(x, e)| 1.2 * x + 0.8 * e).collect();
    let labels = vec![0; count];
    let stale = collect(dim, &before, &labels, Storage::Packed);
    let truth = collect(dim, &after, &labels, Storage::Packed);
    let truth = truth.get(0).unwrap().covariance().to_dense();
    let error = |method: &dyn Method| {
        let moved = fit(method, dim, &before, &after).apply(&stale, &budget).unwrap();
        (moved.get(0).unwrap().covariance().to_dense() - &truth).norm() / truth.norm()
    };
    let methods: [(Box<dyn Method>, Box<dyn Method>); 3] = [
        (Box::new(Linear::default().with_noise(0.0)), Box::new(Linear::default())),
        (Box::new(Rff::default().with_noise(0.0)), Box::new(Rff::default())),
        (Box::new(WeakNonlinear::default().with_noise(0.0)), Box::new(WeakNonlinear::default())),
    ];
    for (without, with) in methods {
        let (without, with) = (error(&*without), error(&*with));
        assert!(without > 0.2 && with < 0.02, "{without} {with}");
    }
    let few = collect(dim, &before[..3 * dim], &labels[..3], Storage::Smallest);
    let moved = fit(&Linear::default(), dim, &before, &after).apply(&few, &budget).unwrap();
    let covariance = moved.get(0).unwrap().covariance();
    assert_eq!((covariance.form(), covariance.rank()), ("factor", Some(3)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever the drift, every covariance stays positive semi-definite.
    #[test]
    fn covariances_stay_positive(
        dim in 1usize..6, count in 1usize..40, seed in 0u64..100, compat in any::<bool>(),
        form in prop_oneof![Just(Storage::Smallest), Just(Storage::Packed), Just(Storage::LowRank(2))],
    ) {
        let budget = Budget::unlimited();
        let (before, after) = drifted(dim, count, seed);
        let labels: Vec<u32> = (0..count as u32).map(|i| i % 2).collect();
        let stale = collect(dim, &before, &labels, Storage::Packed).store(form, Precision::F64, &budget).unwrap();
        for method in methods(if compat { Mode::Compat } else { Mode::Exact }) {
            let fitted = fit(&*method, dim, &before, &after);
            prop_assert!(are_positive(&fitted.apply(&stale, &budget).unwrap()), "{}", method.name());
        }
    }
}

#[test]
fn threads_and_budget_change_no_bit() {
    let dim = 20;
    let (before, after) = drifted(dim, 700, 1);
    let labels: Vec<u32> = (0..700).map(|i| i % 5).collect();
    let stale = collect(dim, &before, &labels, Storage::Smallest);
    for mode in [Mode::Exact, Mode::Compat] {
        for method in methods(mode) {
            let run = |threads, limit| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let budget = Budget::new(limit);
                    let mut source = MemorySource::pairs(dim, &before, &after).unwrap();
                    let fitted = method.fit(&mut source, &budget).unwrap();
                    moments(&fitted.apply(&stale, &budget).unwrap())
                })
            };
            let once = run(1, u64::MAX);
            assert_eq!(once, run(4, u64::MAX), "{}", method.name());
            // Too little for the samples: those that do not fit are read from a file.
            let limit = if method.name() == "weak-nonlinear" { 530_000 } else { 1 << 20 };
            assert_eq!(
                once,
                run(2, limit.max(if mode == Mode::Exact { 3 << 20 } else { 0 })),
                "{}",
                method.name()
            );
        }
    }
}

#[test]
fn wrong_settings_and_sources_are_refused() {
    let budget = Budget::unlimited();
    let (before, after) = drifted(4, 9, 1);
    let fails = |method: &dyn Method, rows: usize, budget: &Budget| {
        let mut source = MemorySource::new(4, &before[..rows * 4], Some(&after[..rows * 4]), None).unwrap();
        method.fit(&mut source, budget).map(drop).unwrap_err().to_string()
    };
    for mode in [Mode::Exact, Mode::Compat] {
        for method in methods(mode) {
            assert!(fails(&*method, 0, &budget).contains("empty"), "{}", method.name());
            assert!(fails(&*method, 9, &Budget::new(64)).contains("budget too small"), "{}", method.name());
        }
    }
    let rff = Rff::default();
    assert!(fails(&rff.clone().with_features(0), 9, &budget).contains("1 or more"));
    assert!(fails(&rff.clone().with_ridge(f64::NAN), 9, &budget).contains("ridge"));
    assert!(fails(&rff.with_noise(1.5), 9, &budget).contains("from 0 to 1"));
    let compat = Rff::new(Mode::Compat);
    assert!(
        fails(&compat.clone().with_directions(DMatrix::zeros(3, 2)), 9, &budget).contains("random features")
    );
    assert!(fails(&compat.clone().with_offsets(DVector::zeros(3)), 9, &budget).contains("offsets"));
    // 64 features of 9 samples without a ridge.
    assert!(fails(&compat.with_features(64).with_ridge(0.0), 9, &budget).contains("larger ridge"));
    let weak = WeakNonlinear::new(Mode::Compat);
    assert!(fails(&weak.clone().with_rate(0.0), 9, &budget).contains("above 0"));
    assert!(fails(&weak.clone().with_rate(1e38), 9, &budget).contains("learning rate"));
    assert!(fails(&weak.clone().with_batches(vec![9]), 9, &budget).contains("batch"));
    let start = (DMatrix::zeros(2, 4), DMatrix::zeros(4, 3));
    assert!(fails(&weak.with_start(start), 9, &budget).contains("second layer"));
}

/// Drawn points take more than training: a budget without room for them is refused before the steps, which would never end.
#[test]
fn a_budget_too_small_to_move_classes_is_refused_before_training() {
    let (before, after) = affine_drift(24, 300, 1);
    let method = WeakNonlinear::new(Mode::Compat).with_steps(usize::MAX);
    let fit = |bytes| {
        let mut pairs = MemorySource::pairs(24, &before, &after).unwrap();
        method.fit(&mut pairs, &Budget::new(bytes)).map(drop).unwrap_err()
    };
    let CompensateError::Budget(error) = fit(3 << 20) else { panic!("not the budget") };
    assert_eq!(error.what, "moving class statistics");
    // Enough for that, and yet not for endless steps.
    let method = WeakNonlinear::new(Mode::Compat).with_steps(1);
    let budget = Budget::new(error.minimum);
    let stale = collect(24, &before, &[0; 300], Storage::Packed);
    let mut pairs = MemorySource::pairs(24, &before, &after).unwrap();
    method.fit(&mut pairs, &budget).unwrap().apply(&stale, &budget).unwrap();
}
