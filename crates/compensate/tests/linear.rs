//! The linear compensator.
#![allow(clippy::unwrap_used)]

mod common;

use common::{
    Fixture, affine_drift, are_positive, assert_reference, collect, difference, fit, moments, normal,
};
use proptest::prelude::*;
use residua_compensate::*;
use residua_memory::Budget;

#[test]
fn compat_mode_is_the_reference() {
    assert_reference(&Linear::new(Mode::Compat), &Fixture::methods(), "linear", [1e-12, 1e-6]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// A linear drift is learned exactly, so that moved statistics are those of moved samples; three of a class at
    /// least.
    #[test]
    fn exact_when_the_drift_is_linear(dim in 1usize..12, extra in 6usize..40, seed in 0u64..1000) {
        let budget = Budget::unlimited();
        let (before, after) = affine_drift(dim, 3 * dim + extra, seed);
        let labels: Vec<u32> = (0..(3 * dim + extra) as u32).map(|i| i % 3).collect();
        let map = fit(&Linear::default().with_ridge(1e-12), dim, &before, &after);
        let stale = collect(dim, &before, &labels, Storage::Smallest);
        let truth = collect(dim, &after, &labels, Storage::Packed);
        let moved = map.apply(&stale, &budget).unwrap();
        for ((_, moved), (_, truth)) in moved.iter().zip(truth.iter()) {
            prop_assert!((moved.mean() - truth.mean()).amax() < 1e-4);
            prop_assert!(difference(&moved.covariance().to_dense(), &truth.covariance().to_dense()) < 1e-4);
        }
    }

    /// The maps of tasks composed are the maps in turn, whatever they add and however classes are stored.
    #[test]
    fn composed_maps_are_the_maps_in_turn(
        dim in 1usize..8, count in 2usize..30, seed in 0u64..1000,
        modes in prop::collection::vec(prop_oneof![Just(Mode::Exact), Just(Mode::Compat)], 3),
        form in prop_oneof![Just(Storage::Smallest), Just(Storage::Packed), Just(Storage::LowRank(2))],
    ) {
        let budget = Budget::unlimited();
        let labels: Vec<u32> = (0..count as u32).map(|i| i % 2).collect();
        let stale = collect(dim, &normal(dim * count, seed), &labels, Storage::Packed);
        let stale = stale.store(form, Precision::F64, &budget).unwrap();
        let maps: Vec<_> = (1..).zip(modes).map(|(task, mode)| {
            let (before, after) = affine_drift(dim, 3 * dim + 20, seed + 10 * task);
            let mut source = MemorySource::pairs(dim, &before, &after).unwrap();
            Linear::new(mode).fit_map(&mut source, &budget).unwrap()
        }).collect();
        let mut in_turn = stale.clone();
        for map in &maps {
            in_turn = map.apply(&in_turn, &budget).unwrap();
        }
        let forwards = maps[0].then(&maps[1], &budget).unwrap().then(&maps[2], &budget).unwrap();
        let backwards = maps[0].then(&maps[1].then(&maps[2], &budget).unwrap(), &budget).unwrap();
        for composed in [forwards, backwards] {
            for ((_, a), (_, b)) in composed.apply(&stale, &budget).unwrap().iter().zip(in_turn.iter()) {
                prop_assert!((a.mean() - b.mean()).amax() <= 1e-10 * b.mean().amax().max(1.0));
                prop_assert!(difference(&a.covariance().to_dense(), &b.covariance().to_dense()) < 1e-10);
            }
        }
    }

    /// Whatever the drift, every covariance stays positive semi-definite.
    #[test]
    fn covariances_stay_positive(
        dim in 1usize..8, count in 1usize..30, seed in 0u64..1000,
        mode in prop_oneof![Just(Mode::Exact), Just(Mode::Compat)],
        form in prop_oneof![Just(Storage::Smallest), Just(Storage::Packed), Just(Storage::LowRank(2))],
    ) {
        let budget = Budget::unlimited();
        let (before, after) = (normal(dim * count, seed), normal(dim * count, seed + 1));
        let labels: Vec<u32> = (0..count as u32).map(|i| i % 2).collect();
        let map = fit(&Linear::new(mode), dim, &before, &after);
        let stale = collect(dim, &before, &labels, Storage::Packed).store(form, Precision::F64, &budget).unwrap();
        prop_assert!(are_positive(&map.apply(&stale, &budget).unwrap()));
    }
}

#[test]
fn threads_and_budget_change_no_bit() {
    let dim = 150;
    let (before, after) = affine_drift(dim, 700, 1);
    let labels: Vec<u32> = (0..700).map(|i| i % 3).collect();
    let stale = collect(dim, &before, &labels, Storage::Smallest);
    let run = |threads, limit| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let budget = Budget::new(limit);
            let mut source = MemorySource::pairs(dim, &before, &after).unwrap();
            let map = Linear::default().fit(&mut source, &budget).unwrap();
            moments(&map.apply(&stale, &budget).unwrap())
        })
    };
    let once = run(1, u64::MAX);
    assert_eq!(once, run(4, u64::MAX));
    assert_eq!(once, run(2, 6 << 20));
}

/// A multiple of the identity has a precision too, for what it becomes.
#[test]
fn a_moved_class_of_one_sample_is_as_precise_as_others() {
    let (budget, dim) = (Budget::unlimited(), 30);
    let (before, after) = affine_drift(dim, 100, 3);
    let mut pairs = MemorySource::pairs(dim, &before, &after).unwrap();
    let mut builder = StatisticsBuilder::new(dim, &budget);
    builder
        .add_source(&mut MemorySource::labelled(dim, &before[..dim], &[0]).unwrap(), Side::Before)
        .unwrap();
    let one = builder.finish(Storage::Smallest, Precision::F32).unwrap();
    let moved = Linear::default().fit(&mut pairs, &budget).unwrap().apply(&one, &budget).unwrap();
    assert_eq!(moved.get(0).unwrap().bytes(), (8 * dim + 4 * dim * (dim + 1) / 2) as u64);
}

#[test]
fn a_refused_fit_states_a_budget_that_is_enough() {
    let dim = 40;
    let (before, after) = affine_drift(dim, 600, 1);
    let methods: [&dyn Method; 4] =
        [&Linear::default(), &Rff::default(), &WeakNonlinear::default(), &Attention::default()];
    for method in methods {
        let fit = |bytes| {
            let mut pairs = MemorySource::pairs(dim, &before, &after).unwrap();
            method.fit(&mut pairs, &Budget::new(bytes)).map(drop)
        };
        let Err(CompensateError::Budget(error)) = fit(1000) else { panic!("{}", method.name()) };
        fit(error.minimum).unwrap_or_else(|error| panic!("{}: {error}", method.name()));
    }
}

#[test]
fn wrong_sources_are_refused() {
    let budget = Budget::unlimited();
    let fails = |linear: Linear, source: &mut MemorySource<'_>, budget: &Budget| {
        linear.fit(source, budget).map(drop).unwrap_err().to_string()
    };
    let rows = normal(12, 1);
    let mut empty = MemorySource::new(3, &[], Some(&[]), None).unwrap();
    assert!(fails(Linear::default(), &mut empty, &budget).contains("empty"));
    let mut one_sided = MemorySource::new(3, &rows, None, None).unwrap();
    assert!(fails(Linear::default(), &mut one_sided, &budget).contains("after the task"));
    let mut bad = rows.clone();
    bad[7] = f32::INFINITY;
    let mut not_finite = MemorySource::new(3, &rows, Some(&bad), None).unwrap();
    assert!(fails(Linear::default(), &mut not_finite, &budget).contains("row 2, column 1"));
    let mut good = MemorySource::new(6, &rows, Some(&rows), None).unwrap();
    let singular = Linear::default().with_ridge(0.0);
    assert!(fails(singular, &mut good, &budget).contains("larger ridge"));
    assert!(fails(singular.with_ridge(-1.0), &mut good, &budget).contains("0 or more"));
    assert!(fails(Linear::default(), &mut good, &Budget::new(100)).contains("budget too small"));
    // No drift is learned from samples that did not move.
    let map = Linear::default().fit(&mut good, &budget).unwrap();
    let moved = map.apply_features(&rows, &budget).unwrap();
    assert!(moved.iter().zip(&rows).all(|(a, b)| (a - b).abs() < 1e-6));
    assert!(map.apply(&ClassStatistics::new(5), &budget).is_err());
}
