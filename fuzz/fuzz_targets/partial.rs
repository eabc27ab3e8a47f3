//! Whatever the bytes: no panic, nothing beyond the budget, and partial statistics that are read merge, finish and save.

#![no_main]

use libfuzzer_sys::fuzz_target;
use residua_compensate::statistics::Leaves;
use residua_compensate::{Precision, StatisticsBuilder, Storage};
use residua_fuzz::{beside, seeds, with_safetensors};
use residua_memory::Budget;

fuzz_target!(
    init: {
        seeds(|folder| {
            let features: Vec<f32> = (0..120).map(|i| (i as f32 * 0.7).sin()).collect();
            let labels: Vec<u32> = (0..30).map(|i| i % 3).collect();
            for (name, leaf_rows, first) in [("one", 100, 0), ("several", 8, 0), ("behind", 8, 5), ("full", 15, 0)] {
                let leaves = Leaves::new(leaf_rows);
                let mut builder = StatisticsBuilder::part(4, leaves, first, &Budget::unlimited());
                builder.add(&features, &labels).unwrap();
                builder.save(folder.join(name)).unwrap();
            }
        });
    },
    |bytes: &[u8]| {
        let budget = Budget::new(1 << 26);
        with_safetensors(bytes, |path| {
            let Ok(read) = StatisticsBuilder::load(path, &budget) else { return };
            // What a few bytes claim is refused where it is read; to merge takes the square of it.
            if read.dim() > 64 {
                return;
            }
            if read.save(beside("copy.safetensors")).is_ok() {
                let copy = StatisticsBuilder::load(beside("copy.safetensors"), &budget).unwrap();
                assert_eq!((copy.samples(), copy.classes()), (read.samples(), read.classes()));
                let mut other = StatisticsBuilder::load(path, &budget).unwrap();
                let _ = other.merge(copy);
            }
            let _ = read.finish(Storage::Smallest, Precision::F64);
        });
        assert_eq!(budget.used(), 0);
    }
);
