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
            // Second moments: 1 beside the diagonal, so that the matrix is positive definite.
            let mut file = SafetensorsWriter::create(&folder.join("moments"), 256).unwrap();
            for (name, n) in [("a", 40), ("b", 8)] {
                let values = (0..n * n).map(|i| if i % (n + 1) == 0 { 2.0f32 + i as f32 } else { 1.0 });
                let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
                file.tensor(name, Dtype::F32, &[1, n, n], &bytes).unwrap();
            }
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
