//! A budget that is too small is refused with one that is enough, and with not much more.
#![allow(clippy::unwrap_used)]

mod common;

use common::normal;
use proptest::prelude::*;
use residua_compensate::statistics::Shrinkage;
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
        let mut builder = StatisticsBuilder::new(dim, &counted);
        builder.shrinkage = options.shrinkage;
        builder.add_source(&mut source, Side::Before).unwrap();
        builder.finish(storage, precision).unwrap().save(&path, &counted).unwrap();
        // The plan counts a whole block of features, and rounds up.
        let (peak, block) = (counted.peak(), 256 * (4 + 32 * dim as u64));
        prop_assert!(stated <= peak + block + peak / 16, "{stated} of {peak}");
    }
}
