//! Whatever the bytes: no panic, and what is read is written and read again as the same matrix.

#![no_main]

use libfuzzer_sys::fuzz_target;
use residua_format::file::{FileMatrix, read_mtx, write_mtx_coo};
use residua_fuzz::{beside, with_file};
use residua_memory::Budget;

fuzz_target!(|bytes: &[u8]| {
    let budget = Budget::new(1 << 26);
    with_file(".mtx", bytes, |path| {
        let Ok(read) = read_mtx::<f32>(path, &budget) else { return };
        let FileMatrix::Coo(coo) = &*read else { return };
        let copy = beside("copy.mtx");
        write_mtx_coo(&copy, coo).unwrap();
        assert_eq!(*read_mtx::<f32>(&copy, &Budget::unlimited()).unwrap(), *read);
    });
    assert_eq!(budget.used(), 0);
});
