//! The number of threads and the budget change no bit of moved statistics, whatever the method and its mode.
#![allow(clippy::unwrap_used)]

mod common;

use common::{affine_drift, collect, normal};
use residua_compensate::*;
use residua_memory::Budget;

const DIM: usize = 24;
const PAIRS: usize = 700;

/// The defaults, with fewer steps and points where that makes a test short.
fn method(variant: Variant, mode: Mode) -> Option<Box<dyn Method>> {
    Some(match variant {
        Variant::SeqFt => return None,
        Variant::WeakNonlinear => Box::new(WeakNonlinear::new(mode).with_steps(40).with_points(400)),
        Variant::Rff => Box::new(Rff::new(mode).with_features(300).with_points(400)),
        Variant::Attention => Box::new(Attention::new(mode).with_nearest(100).with_points(400)),
        other => other.method_in(mode)?,
    })
}

#[test]
fn threads_and_budgets_change_no_bit() {
    let (before, after) = affine_drift(DIM, PAIRS, 1);
    // Classes of 5, 12 and 83 samples: two factors and a packed one.
    let labels: Vec<u32> = (0..100).map(|i| u32::from(i >= 5) + u32::from(i >= 17)).collect();
    let stale = collect(DIM, &normal(100 * DIM, 2), &labels, Storage::Smallest);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("moved");
    let moved = |method: &dyn Method, threads: usize, budget: &Budget| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut pairs = MemorySource::pairs(DIM, &before, &after).unwrap();
            let moved = method.fit(&mut pairs, budget)?.apply(&stale, budget)?;
            moved.save(&path, budget).map(|_| std::fs::read(&path).unwrap())
        })
    };
    for variant in Variant::ALL {
        for mode in [Mode::Exact, Mode::Compat] {
            let Some(method) = method(variant, mode) else { continue };
            let expected = moved(&*method, 1, &Budget::unlimited()).unwrap();
            // About the smallest budget: pieces are small, and samples that fit no more are in files.
            let enough = |bytes: u64| moved(&*method, 1, &Budget::new(bytes)).is_ok();
            let least = (10..).map(|power| 1u64 << power).find(|&bytes| enough(bytes)).unwrap();
            for threads in [1, 2, 5] {
                for budget in [least, 1 << 28] {
                    let name = format!("{} {mode:?}, {threads} threads, {budget} bytes", variant.name());
                    assert!(moved(&*method, threads, &Budget::new(budget)).unwrap() == expected, "{name}");
                }
            }
        }
    }
}
