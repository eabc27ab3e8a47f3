//! Whatever the bytes: no panic, nothing beyond the budget; a patch that succeeds gives the checkpoint that was hashed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use residua_format::file::Checkpoint;
use residua_fuzz::{beside, model, seeds, with_safetensors};
use residua_memory::Budget;
use residua_split::{Delta, DeltaOp, DiffOptions, New, NoProgress, Old, Output, diff, patch, read_delta};

fuzz_target!(
    init: {
        let (old, new) = (beside("old.safetensors"), beside("new.safetensors"));
        model(&old, 0.0);
        model(&new, 1.0);
        seeds(|folder| {
            for (op, name) in [(DeltaOp::Overwrite, "overwrite"), (DeltaOp::Xor, "xor")] {
                let (output, options) = (Output(folder.join(name)), DiffOptions::default().op(op));
                diff(Old(&old), New(&new), output, &options, &Budget::unlimited(), &NoProgress).unwrap();
            }
        });
    },
    |bytes: &[u8]| {
        let budget = Budget::new(1 << 26);
        with_safetensors(bytes, |path| {
            let Ok(report) = read_delta(path) else { return };
            let output = beside("patched.safetensors");
            let old = Old(beside("old.safetensors"));
            if patch(old, Delta(path), Output(&output), &budget, &NoProgress).is_ok() {
                assert_eq!(Checkpoint::open(&output).unwrap().bytes(), report.target_bytes);
            }
        });
        assert_eq!(budget.used(), 0);
    }
);
