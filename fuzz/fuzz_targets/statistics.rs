//! Whatever the bytes: no panic, nothing beyond the budget, and statistics that are read merge and classify.

#![no_main]

use libfuzzer_sys::fuzz_target;
use residua_compensate::statistics::StatisticsReader;
use residua_compensate::{ClassStatistics, MemorySource, Precision, Side, StatisticsBuilder, Storage};
use residua_fuzz::{beside, seeds, with_safetensors};
use residua_memory::Budget;

fuzz_target!(
    init: {
        seeds(|folder| {
            let features: Vec<f32> = (0..120).map(|i| (i as f32 * 0.7).sin()).collect();
            let labels: Vec<u32> = (0..30).map(|i| i % 3).collect();
            for (name, storage, precision) in [
                ("smallest", Storage::Smallest, Precision::F32),
                ("packed", Storage::Packed, Precision::F64),
                ("low-rank", Storage::LowRank(2), Precision::Bf16),
            ] {
                let budget = Budget::unlimited();
                let mut source = MemorySource::new(4, &features, None, Some(&labels)).unwrap();
                let mut builder = StatisticsBuilder::new(4, &budget);
                builder.add_source(&mut source, Side::Before).unwrap();
                builder.finish(storage, precision).unwrap().save(folder.join(name), &budget).unwrap();
            }
        });
    },
    |bytes: &[u8]| {
        let budget = Budget::new(1 << 26);
        with_safetensors(bytes, |path| {
            let Ok(reader) = StatisticsReader::open(path, &budget) else { return };
            let counts: Vec<_> = reader.counts().collect();
            // What a few bytes claim is refused where it is read; to merge takes the square of it.
            if reader.dim() > 64 {
                return;
            }
            for (label, count) in counts {
                let Ok(Some(class)) = reader.class(label, &budget) else { continue };
                assert_eq!((class.dim(), class.count()), (reader.dim(), count));
                let _ = class.merge(&class, &budget);
            }
            if let Ok(all) = ClassStatistics::load(path, &budget) {
                all.save(&beside("copy.safetensors"), &Budget::unlimited()).unwrap();
                let copy = ClassStatistics::load(&beside("copy.safetensors"), &Budget::unlimited()).unwrap();
                assert_eq!((copy.dim(), copy.len()), (all.dim(), all.len()));
            }
        });
        assert_eq!(budget.used(), 0);
    }
);
