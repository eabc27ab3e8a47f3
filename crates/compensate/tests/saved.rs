//! A fitted compensator that was saved and loaded moves statistics and features to the same bits.
#![allow(clippy::unwrap_used)]

mod common;

use common::{affine_drift, collect, normal};
use residua_compensate::compensator::{AffineMap, Fitted, load};
use residua_compensate::*;
use residua_memory::Budget;

const DIM: usize = 12;

fn methods() -> Vec<(Fitted, Box<dyn Method>)> {
    let weak = WeakNonlinear::new(Mode::Compat).with_steps(3).with_points(40);
    vec![
        (Fitted::Affine, Box::new(Linear::default())),
        (Fitted::Affine, Box::new(Linear::new(Mode::Compat))),
        (Fitted::Attention, Box::new(Attention::default())),
        (
            Fitted::Attention,
            Box::new(Attention::new(Mode::Compat).with_points(40).with_precision(Precision::Bf16)),
        ),
        (Fitted::Ridge, Box::new(Rff::default().with_features(32))),
        (Fitted::Ridge, Box::new(Rff::new(Mode::Compat).with_features(32).with_points(40))),
        (Fitted::Ridge, Box::new(WeakNonlinear::default().with_hidden(16))),
        (Fitted::Network, Box::new(weak)),
    ]
}

/// Statistics of a class with many samples, and of one with few.
fn statistics() -> ClassStatistics {
    let labels: Vec<u32> = (0..60).map(|row| u32::from(row % 12 == 0)).collect();
    collect(DIM, &normal(DIM * 60, 5), &labels, Storage::Smallest)
}

fn expect_same(a: &dyn Compensator, b: &dyn Compensator) {
    let budget = Budget::unlimited();
    let (stale, features) = (statistics(), normal(DIM * 9, 8));
    let (first, second) = (a.apply(&stale, &budget).unwrap(), b.apply(&stale, &budget).unwrap());
    for ((_, a), (_, b)) in first.iter().zip(second.iter()) {
        assert_eq!((a.count(), a.mean(), a.covariance()), (b.count(), b.mean(), b.covariance()));
    }
    assert_eq!(a.apply_features(&features, &budget).unwrap(), b.apply_features(&features, &budget).unwrap());
}

#[test]
fn a_loaded_compensator_is_the_saved_one() {
    let folder = tempfile::tempdir().unwrap();
    let (path, again) = (folder.path().join("fit"), folder.path().join("again"));
    let (before, after) = affine_drift(DIM, 700, 1);
    for (kind, method) in methods() {
        let mut pairs = MemorySource::pairs(DIM, &before, &after).unwrap();
        let fitted = method.fit(&mut pairs, &Budget::unlimited()).unwrap();
        let bytes = fitted.save(&path).unwrap();
        assert_eq!(bytes, std::fs::metadata(&path).unwrap().len());
        let budget = Budget::unlimited();
        let (found, loaded) = load(&path, &budget).unwrap();
        assert_eq!(found, kind, "{}", method.name());
        expect_same(&*fitted, &*loaded);
        loaded.save(&again).unwrap();
        assert!(std::fs::read(&again).unwrap() == std::fs::read(&path).unwrap());
        // Samples go to a file where the budget is small, and to the same bits.
        let held = budget.used();
        drop(loaded);
        assert_eq!(budget.used(), 0);
        let small = Budget::new(if kind == Fitted::Attention { 2 * held } else { held + 4096 });
        expect_same(&*fitted, &*load(&path, &small).unwrap().1);
        let refused = load(&path, &Budget::new(400));
        assert!(matches!(refused, Err(CompensateError::Budget(_))), "{}", method.name());
    }
}

/// A composition adds floors, and keeps its spread.
#[test]
fn composed_maps_are_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fit");
    let (before, after) = affine_drift(DIM, 300, 1);
    let budget = Budget::unlimited();
    let map = |mode| -> AffineMap {
        Linear::new(mode).fit_map(&mut MemorySource::pairs(DIM, &before, &after).unwrap(), &budget).unwrap()
    };
    let both = map(Mode::Compat).then(&map(Mode::Exact), &budget).unwrap();
    both.save(&path).unwrap();
    expect_same(&both, &*load(&path, &budget).unwrap().1);
}

#[test]
fn damage_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("fit"), folder.path().join("copy"));
    let (before, after) = affine_drift(DIM, 80, 1);
    for (_, method) in methods() {
        let mut pairs = MemorySource::pairs(DIM, &before, &after).unwrap();
        method.fit(&mut pairs, &Budget::unlimited()).unwrap().save(&path).unwrap();
        let sound = std::fs::read(&path).unwrap();
        for step in 0..60 {
            let mut damaged = sound.clone();
            // Half of the places are in the header.
            let at = if step % 2 == 0 { step * 11 } else { step * 7919 } % damaged.len();
            damaged[at] ^= 1 << (step % 8);
            std::fs::write(&path, &damaged).unwrap();
            if let Ok((_, loaded)) = load(&path, &Budget::new(1 << 22)) {
                loaded.save(&copy).unwrap();
                assert!(std::fs::read(&copy).unwrap() == sound, "{}, byte {at}", method.name());
            }
        }
    }
    statistics().save(&path, &Budget::unlimited()).unwrap();
    let error = load(&path, &Budget::unlimited()).err().unwrap().to_string();
    assert!(error.ends_with("fit: holds class statistics, not a fitted compensator"), "{error}");
}
