//! Whatever the bytes: no panic, nothing beyond the budget, what is read whole is the rows read singly, and what
//! `verify` calls sound `materialize` turns into a checkpoint.

#![no_main]

use libfuzzer_sys::fuzz_target;
use residua_format::file::Container;
use residua_format::{BaseKind, ValueType};
use residua_fuzz::{beside, model, seeds, with_safetensors};
use residua_memory::{Budget, ErrorKind};
use residua_split::{
    BaseSpec, MaterializeOptions, NoProgress, Output, SplitOptions, VerifyOptions, materialize, split, verify,
};

fuzz_target!(
    init: {
        model(&beside("model.safetensors"), 0.0);
        seeds(|folder| {
            let values = [ValueType::Bf16, ValueType::I8, ValueType::F16, ValueType::F32];
            for (index, (base, values)) in BaseKind::ALL.into_iter().zip(values.into_iter().cycle()).enumerate() {
                let options = SplitOptions::default().values(values).base(BaseSpec::Quantized(base));
                let (model, output) = (beside("model.safetensors"), folder.join(format!("split{index}")));
                split(&model, Output(&output), &options, &Budget::unlimited(), &NoProgress).unwrap();
            }
        });
    },
    |bytes: &[u8]| {
        with_safetensors(bytes, |path| {
            let Ok(container) = Container::open(path) else { return };
            let budget = Budget::new(1 << 26);
            for (name, meta) in container.matrices() {
                let _ = container.read_base(name, &budget);
                let _ = container.read_pattern(name, &budget);
                let Ok(gap) = container.read_gap(name, &budget) else { continue };
                for row in 0..meta.shape[0].min(64) {
                    // NaN is not equal to itself: bits are compared.
                    let bits = |(column, value): (u32, f32)| (column, value.to_bits());
                    let single = container.read_gap_rows(name, row..row + 1, &budget).unwrap();
                    assert!(single.row(0).map(bits).eq(gap.row(row).map(bits)));
                }
            }
            // A dense output may be larger than any input.
            if container.matrices().iter().any(|(_, meta)| meta.shape[0].saturating_mul(meta.shape[1]) > 1 << 20) {
                return;
            }
            let verified = verify(path, &VerifyOptions::default(), &budget, &NoProgress);
            let made = {
                let (output, options) = (beside("dense.safetensors"), MaterializeOptions::default());
                materialize(path, Output(output), &options, &budget, &NoProgress)
            };
            if verified.is_ok_and(|report| report.is_valid())
                && let Err(error) = made
            {
                assert_eq!(error.kind(), ErrorKind::Budget, "sound, but {error}");
            }
            assert_eq!(budget.used(), 0);
        });
    }
);
