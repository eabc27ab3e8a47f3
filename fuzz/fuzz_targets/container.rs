//! Whatever the bytes: no panic, nothing beyond the budget, and what is read whole is the rows read singly.

#![no_main]

mod file;

use libfuzzer_sys::fuzz_target;
use residua_format::file::Container;
use residua_memory::Budget;

fuzz_target!(|bytes: &[u8]| {
    file::with_file(".safetensors", bytes, |path| {
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
        assert_eq!(budget.used(), 0);
    });
});
