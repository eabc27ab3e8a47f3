//! The RFF and weak-nonlinear compensators.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Fixture, collect, difference, normal};
use nalgebra::{DMatrix, DMatrixView, DVector};
use proptest::prelude::*;
use residua_compensate::*;
use residua_memory::Budget;

/// Class moments and features moved by a method equal those of the fixture.
fn assert_reference(method: &dyn Method, expected: &Fixture, name: &str) {
    let (fixture, budget) = (Fixture::methods(), Budget::unlimited());
    let dim = fixture.number("/dim") as usize;
    let (before, after) = (fixture.floats("/before"), fixture.floats("/after"));
    let mut source = MemorySource::new(dim, &before, Some(&after), None).unwrap();
    let fitted = method.fit(&mut source, &budget).unwrap();
    for form in [Storage::Smallest, Storage::Packed] {
        for (label, class) in fitted.apply(&fixture.statistics(form), &budget).unwrap().iter() {
            let mean = DMatrix::from_vec(dim, 1, expected.numbers(&format!("/{name}/means/{label}")));
            let ours = DMatrix::from_column_slice(dim, 1, class.mean().as_slice());
            assert!(difference(&ours, &mean) < 1e-4);
            let covariance = expected.numbers(&format!("/{name}/covariances/{label}"));
            let covariance = DMatrix::from_vec(dim, dim, covariance);
            assert!(difference(&class.covariance().to_dense(), &covariance) < 1e-4);
        }
    }
    let queries = fixture.floats("/queries");
    let queries = DMatrixView::from_slice(&queries, dim, queries.len() / dim);
    let moved = fitted.apply_features(queries, &budget).unwrap().map(f64::from);
    let features = DMatrix::from_vec(dim, queries.ncols(), expected.numbers(&format!("/{name}/features")));
    assert!(difference(&moved, &features) < 1e-4);
}

#[test]
fn rff_compat_is_the_reference() {
    let (expected, dim) = (Fixture::nonlinear(), 6);
    let features = expected.number("/rff/count") as usize;
    let base = expected.numbers("/rff/base");
    let method = Rff {
        features,
        ridge: Some(expected.number("/rff/ridge")),
        base: Some(DMatrix::from_vec(dim, base.len() / dim, base)),
        directions: Some(DMatrix::from_vec(dim, features, expected.numbers("/rff/directions"))),
        offsets: Some(DVector::from_vec(expected.numbers("/rff/offsets"))),
        ..Rff::new(Mode::Compat)
    };
    assert_reference(&method, &expected, "rff");
}

#[test]
fn weak_nonlinear_compat_is_the_reference() {
    let (expected, dim) = (Fixture::nonlinear(), 6);
    let hidden = expected.number("/weak/hidden") as usize;
    let base = expected.numbers("/weak/base");
    let matrix = |name: &str, rows, cols| DMatrix::from_vec(rows, cols, expected.floats(name));
    let method = WeakNonlinear {
        steps: expected.number("/weak/steps") as usize,
        batch: expected.number("/weak/batch") as usize,
        rate: expected.number("/weak/rate"),
        decay: expected.number("/weak/decay"),
        base: Some(DMatrix::from_vec(dim, base.len() / dim, base)),
        start: Some((matrix("/weak/inner", hidden, dim), matrix("/weak/outer", dim, hidden))),
        batches: Some(expected.numbers("/weak/batches").into_iter().map(|v| v as u32).collect()),
        ..WeakNonlinear::new(Mode::Compat)
    };
    assert_reference(&method, &expected, "weak");
}

/// Samples that drift by a smooth function that is not linear.
fn drifted(dim: usize, count: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let before = normal(dim * count, seed);
    let after = before.chunks(dim).flat_map(|x| {
        let first = x[0];
        x.iter().enumerate().map(move |(i, v)| 1.1 * v + 0.5 * (first + i as f32).sin()).collect::<Vec<_>>()
    });
    let after = after.collect();
    (before, after)
}

/// Both methods in a mode, small enough for many runs.
fn methods(mode: Mode) -> [Box<dyn Method>; 2] {
    [
        Box::new(Rff { features: 64, points: 64, ..Rff::new(mode) }),
        Box::new(WeakNonlinear { hidden: Some(32), steps: 30, points: 64, ..WeakNonlinear::new(mode) }),
    ]
}

/// What is not linear in the drift is learned too: far less of it is left than a linear map leaves.
#[test]
fn nonlinear_drift_is_followed() {
    let (dim, budget) = (3, Budget::unlimited());
    let (before, after) = drifted(dim, 3000, 1);
    let (x, y) = drifted(dim, 500, 2);
    let left = |method: &dyn Method| {
        let mut source = MemorySource::new(dim, &before, Some(&after), None).unwrap();
        let fitted = method.fit(&mut source, &budget).unwrap();
        let moved = fitted.apply_features(DMatrixView::from_slice(&x, dim, 500), &budget).unwrap();
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
    let methods: [Box<dyn Method>; 2] = [
        Box::new(Rff { points: 4096, ..Rff::default() }),
        Box::new(WeakNonlinear { points: 4096, ..WeakNonlinear::default() }),
    ];
    for method in methods {
        let mut source = MemorySource::new(dim, &before, Some(&after), None).unwrap();
        let fitted = method.fit(&mut source, &budget).unwrap();
        let moved = fitted.apply(&stale, &budget).unwrap();
        let moved = moved.get(0).unwrap();
        let draws = 64_000;
        let base = DMatrix::from_vec(dim, draws, normal(dim * draws, 4)).map(f64::from);
        let factor = class.covariance().to_dense().cholesky().unwrap().l();
        let mut points = factor * base;
        points.column_iter_mut().for_each(|mut column| column += class.mean());
        let drawn =
            fitted.apply_features(points.map(|v| v as f32).as_view(), &budget).unwrap().map(f64::from);
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
        let mut source = MemorySource::new(dim, &before, Some(&after), None).unwrap();
        let moved = method.fit(&mut source, &budget).unwrap().apply(&stale, &budget).unwrap();
        (moved.get(0).unwrap().covariance().to_dense() - &truth).norm() / truth.norm()
    };
    let methods: [(Box<dyn Method>, Box<dyn Method>); 3] = [
        (Box::new(Linear { noise: 0.0, ..Linear::default() }), Box::new(Linear::default())),
        (Box::new(Rff { noise: 0.0, ..Rff::default() }), Box::new(Rff::default())),
        (Box::new(WeakNonlinear { noise: 0.0, ..Default::default() }), Box::new(WeakNonlinear::default())),
    ];
    for (without, with) in methods {
        let (without, with) = (error(&*without), error(&*with));
        assert!(without > 0.2 && with < 0.02, "{without} {with}");
    }
    let few = collect(dim, &before[..3 * dim], &labels[..3], Storage::Smallest);
    let mut source = MemorySource::new(dim, &before, Some(&after), None).unwrap();
    let moved = Linear::default().fit(&mut source, &budget).unwrap().apply(&few, &budget).unwrap();
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
            let mut source = MemorySource::new(dim, &before, Some(&after), None).unwrap();
            for (_, class) in method.fit(&mut source, &budget).unwrap().apply(&stale, &budget).unwrap().iter() {
                let dense = class.covariance().to_dense();
                prop_assert!(dense.clone().symmetric_eigenvalues().min() >= -1e-10 * dense.amax());
            }
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
                    let mut source = MemorySource::new(dim, &before, Some(&after), None).unwrap();
                    let fitted = method.fit(&mut source, &budget).unwrap();
                    let moved = fitted.apply(&stale, &budget).unwrap();
                    let classes = moved.iter();
                    classes
                        .map(|(_, class)| (class.mean().clone(), class.covariance().clone()))
                        .collect::<Vec<_>>()
                })
            };
            let once = run(1, u64::MAX);
            assert_eq!(once, run(4, u64::MAX), "{}", method.name());
            // Too little for the samples: those that do not fit are read from a file.
            let limit = if method.name() == "weak-nonlinear" { 340_000 } else { 1 << 20 };
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
    let fit = |method: &dyn Method, rows: usize, budget: &Budget| {
        let mut source = MemorySource::new(4, &before[..rows * 4], Some(&after[..rows * 4]), None).unwrap();
        method.fit(&mut source, budget).map(drop).unwrap_err().to_string()
    };
    for mode in [Mode::Exact, Mode::Compat] {
        for method in methods(mode) {
            assert!(fit(&*method, 0, &budget).contains("empty"), "{}", method.name());
            assert!(fit(&*method, 9, &Budget::new(64)).contains("budget too small"), "{}", method.name());
        }
    }
    let rff = Rff::default();
    assert!(fit(&Rff { features: 0, ..rff.clone() }, 9, &budget).contains("1 or more"));
    assert!(fit(&Rff { ridge: Some(f64::NAN), ..rff.clone() }, 9, &budget).contains("ridge"));
    assert!(fit(&Rff { noise: 1.5, ..rff }, 9, &budget).contains("from 0 to 1"));
    let compat = Rff::new(Mode::Compat);
    assert!(
        fit(&Rff { directions: Some(DMatrix::zeros(3, 2)), ..compat.clone() }, 9, &budget)
            .contains("random features")
    );
    assert!(fit(&Rff { offsets: Some(DVector::zeros(3)), ..compat.clone() }, 9, &budget).contains("offsets"));
    // 64 features of 9 samples without a ridge.
    assert!(fit(&Rff { features: 64, ridge: Some(0.0), ..compat }, 9, &budget).contains("larger ridge"));
    let weak = WeakNonlinear::new(Mode::Compat);
    assert!(fit(&WeakNonlinear { rate: 0.0, ..weak.clone() }, 9, &budget).contains("above 0"));
    assert!(fit(&WeakNonlinear { rate: 1e38, ..weak.clone() }, 9, &budget).contains("learning rate"));
    assert!(fit(&WeakNonlinear { batches: Some(vec![9]), ..weak.clone() }, 9, &budget).contains("batch"));
    let start = Some((DMatrix::zeros(2, 4), DMatrix::zeros(4, 3)));
    assert!(fit(&WeakNonlinear { start, ..weak }, 9, &budget).contains("second layer"));
}
