//! Whatever the calibration: a split or an error, never a panic, and a split that is sound.

#![no_main]

use libfuzzer_sys::fuzz_target;
use residua_format::file::{Dtype, SafetensorsWriter};
use residua_fuzz::{beside, model, seeds, with_safetensors};
use residua_memory::Budget;
use residua_split::{Importance, NoProgress, Output, SplitOptions, VerifyOptions, split, verify};

fuzz_target!(
    init: {
        model(&beside("model.safetensors"), 0.0);
        seeds(|folder| {
            let mut file = SafetensorsWriter::create(&folder.join("squares"), 256).unwrap();
            let bytes = |count: usize| (0..count).flat_map(|i| (i as f32).to_le_bytes()).collect::<Vec<_>>();
            file.tensor("a", Dtype::F32, &[40], &bytes(40)).unwrap();
            file.tensor("b", Dtype::F32, &[8], &bytes(8)).unwrap();
            file.finish().unwrap();
        });
    },
    |bytes: &[u8]| {
        let budget = Budget::new(1 << 26);
        with_safetensors(bytes, |path| {
            let importance = Importance::Calibration(path.to_owned());
            let options = SplitOptions::default().importance(importance);
            let output = beside("split.safetensors");
            let done = split(beside("model.safetensors"), Output(&output), &options, &budget, &NoProgress);
            if done.is_ok() {
                let verified = verify(&output, &VerifyOptions::default(), &budget, &NoProgress);
                assert!(verified.unwrap().is_valid());
            }
        });
        assert_eq!(budget.used(), 0);
    }
);
