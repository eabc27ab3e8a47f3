//! A budget that is too small is refused with one that is enough, and with not much more.
#![allow(clippy::unwrap_used)]

mod common;

use common::{affine_drift, normal};
use proptest::prelude::*;
use residua_compensate::statistics::{Leaves, Shrinkage, StatisticsWriter};
use residua_compensate::*;
use residua_memory::Budget;

fn storages() -> impl Strategy<Value = Storage> {
    prop_oneof![Just(Storage::Smallest), Just(Storage::Packed), (1usize..9).prop_map(Storage::LowRank)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_is_stated_is_enough(
        dim in 1usize..40,
        labels in prop::collection::vec(0u32..12, 1..700),
        storage in storages(),
        precision in prop_oneof![Just(Precision::F64), Just(Precision::F32), Just(Precision::Bf16)],
        shrunk in any::<bool>(),
        sorted in any::<bool>(),
        leaf_rows in prop_oneof![Just(Leaves::ROWS), 1u64..300],
    ) {
        let mut labels = labels;
        if sorted {
            labels.sort_unstable();
        }
        let features = normal(dim * labels.len(), 7);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("statistics");
        let mut options = StatisticsOptions::default().with_storage(storage).with_precision(precision);
        options.shrinkage = shrunk.then_some(Shrinkage::Fixed(0.1));
        options.leaves = Leaves::new(leaf_rows);
        let save = |budget: &Budget| {
            let mut source = MemorySource::labelled(dim, &features, &labels).unwrap();
            ClassStatistics::collect_and_save(&mut source, &options, &path, budget)
        };
        // First without room for the labels themselves.
        let mut stated = 0;
        for bytes in [200, 2000] {
            let CompensateError::Budget(error) = save(&Budget::new(bytes)).unwrap_err() else {
                panic!("not the budget")
            };
            prop_assert!(save(&Budget::new(error.minimum)).is_ok(), "{bytes}: {error}");
            stated = error.minimum;
        }
        let counted = Budget::unlimited();
        let mut source = MemorySource::labelled(dim, &features, &labels).unwrap();
        let mut builder = StatisticsBuilder::part(dim, options.leaves, 0, &counted);
        builder.shrinkage = options.shrinkage;
        builder.add_source(&mut source, Side::Before).unwrap();
        builder.finish(storage, precision).unwrap().save(&path, &counted).unwrap();
        // The plan counts a whole block of features, and rounds up.
        let (peak, block) = (counted.peak(), 256 * (4 + 32 * dim as u64));
        prop_assert!(stated <= peak + block + peak / 16, "{stated} of {peak}");
    }
}

/// Fits a method and moves the classes of a file to another file.
fn move_file(
    method: &dyn Method,
    (before, after): &(Vec<f32>, Vec<f32>),
    dim: usize,
    path: &std::path::Path,
    budget: &Budget,
) -> Result<()> {
    let mut pairs = MemorySource::pairs(dim, before, after)?;
    let stale = method.open_statistics(path, &pairs, budget)?;
    let mut file = StatisticsWriter::create(path.with_extension("moved"), dim, stale.len(), budget)?;
    let fitted = method.fit(&mut pairs, budget)?;
    fitted.apply_each(&stale, budget, &mut |label, _, moved| file.add(label, moved))?;
    file.finish().map(drop)
}

/// Every method with classes of every form.
#[test]
fn what_is_stated_is_enough_to_fit_and_to_move() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("statistics");
    let weak = WeakNonlinear::new(Mode::Compat).with_steps(3).with_points(300);
    let methods: [(&str, Box<dyn Method>); 7] = [
        ("linear", Box::new(Linear::default())),
        ("attention", Box::new(Attention::default())),
        ("rff", Box::new(Rff::default().with_features(64))),
        ("weak-nonlinear", Box::new(WeakNonlinear::default().with_hidden(64))),
        ("attention, compat", Box::new(Attention::new(Mode::Compat).with_points(300))),
        ("rff, compat", Box::new(Rff::new(Mode::Compat).with_features(64).with_points(300))),
        ("weak-nonlinear, compat", Box::new(weak)),
    ];
    // The narrow features have more samples than fit in memory; with wide ones the stretch of covariances takes most.
    for (dim, pairs, samples, storage) in [
        (48, 3000, 400, Storage::Packed),
        (48, 3000, 12, Storage::Smallest),
        (48, 3000, 400, Storage::LowRank(4)),
        (700, 20, 6, Storage::Smallest),
    ] {
        let drift = affine_drift(dim, pairs, 1);
        let labels: Vec<u32> = (0..samples).map(|row| row % 2).collect();
        let features = normal(dim * labels.len(), 7);
        let mut source = MemorySource::labelled(dim, &features, &labels).unwrap();
        let options = StatisticsOptions::default().with_storage(storage).with_precision(Precision::F64);
        ClassStatistics::collect_and_save(&mut source, &options, &path, &Budget::unlimited()).unwrap();
        for (name, method) in methods.iter().take(if dim > 48 { 2 } else { 7 }) {
            let refused = move_file(&**method, &drift, dim, &path, &Budget::new(4000));
            let Err(CompensateError::Budget(error)) = refused else { panic!("{name}: {refused:?}") };
            let budget = Budget::new(error.minimum);
            let moved = move_file(&**method, &drift, dim, &path, &budget);
            assert!(moved.is_ok(), "{name}, {dim}, {storage:?}: {moved:?}");
            let (stated, peak) = (error.minimum, budget.peak());
            assert!(stated <= peak + peak / 4, "{name}, {dim}, {storage:?}: {stated} of {peak}");
        }
    }
}
