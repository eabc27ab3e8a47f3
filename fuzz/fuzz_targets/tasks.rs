//! Whatever the state of tasks holds: no panic, nothing beyond the budget.

#![no_main]

use libfuzzer_sys::fuzz_target;
use residua_compensate::tasks::SequenceReader;
use residua_compensate::{MemorySource, Task, TaskSequence, Variant};
use residua_fuzz::{seeds, with_safetensors};
use residua_memory::Budget;

fuzz_target!(
    init: {
        seeds(|folder| {
            let budget = Budget::unlimited();
            let mut state = TaskSequence::new(4, [Variant::SeqFt, Variant::Linear]);
            for task in 0..2 {
                let features: Vec<f32> = (0..120).map(|i| ((i + 120 * task) as f32 * 0.7).sin()).collect();
                let after: Vec<f32> = features.iter().map(|value| 1.5 * value).collect();
                let labels: Vec<u32> = (0..30).map(|i| 3 * task + i % 3).collect();
                let mut source = MemorySource::new(4, &features, Some(&after), Some(&labels)).unwrap();
                state.finish_task(Task::new(&mut source), &budget).unwrap();
                state.save(&folder.join(format!("tasks{task}")), &budget).unwrap();
            }
        });
    },
    |bytes: &[u8]| {
        let budget = Budget::new(1 << 26);
        with_safetensors(bytes, |path| {
            let Ok(reader) = SequenceReader::open(path, &budget) else { return };
            let names: Vec<String> = reader.names().map(str::to_owned).collect();
            for name in names {
                // Of two variants of one name the first is meant.
                let Ok(Some(statistics)) = reader.statistics(&name, &budget) else { continue };
                for (label, count) in statistics.counts().collect::<Vec<_>>() {
                    let Ok(Some(class)) = statistics.class(label, &budget) else { continue };
                    assert_eq!((class.dim(), class.count()), (reader.dim(), count));
                }
            }
        });
        assert_eq!(budget.used(), 0);
    }
);
