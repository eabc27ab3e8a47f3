//! Whatever the bytes: no panic, nothing held beyond the budget.

#![no_main]

use libfuzzer_sys::fuzz_target;
use residua_format::convert::Duplicates;
use residua_format::file::read_npz;
use residua_fuzz::with_file;
use residua_memory::Budget;

fuzz_target!(|bytes: &[u8]| {
    let budget = Budget::new(1 << 26);
    with_file(".npz", bytes, |path| {
        if let Ok(read) = read_npz::<f32>(path, &budget) {
            let matrix = read.into_inner();
            // Row pointers are as many as rows, which a few bytes may claim.
            if matrix.shape()[0] < 1 << 16 {
                let _ = matrix.into_csr(Duplicates::Sum);
            }
        }
    });
    assert_eq!(budget.used(), 0);
});
