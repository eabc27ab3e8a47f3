//! Whatever the bytes: no panic, and an array has as many values as its shape has places.

#![no_main]

use libfuzzer_sys::fuzz_target;
use residua_format::file::read_npy;
use residua_fuzz::with_file;
use residua_memory::Budget;

fuzz_target!(|bytes: &[u8]| {
    let budget = Budget::new(1 << 26);
    with_file(".npy", bytes, |path| {
        if let Ok(dense) = read_npy::<f64>(path, &budget) {
            assert_eq!(dense.values().len(), dense.rows() * dense.cols());
        }
    });
    assert_eq!(budget.used(), 0);
});
