//! Whatever a file of features or labels holds: no panic, and as many rows as it says.

#![no_main]

use libfuzzer_sys::fuzz_target;
use residua_compensate::source::{ArrayAt, FileSource};
use residua_compensate::{FeatureBlock, FeatureSource};
use residua_fuzz::with_file;

fuzz_target!(|bytes: &[u8]| {
    with_file(".npy", bytes, |path| {
        let array = ArrayAt::Npy(path.to_owned());
        // As features, and as labels too.
        for labels in [None, Some(&array)] {
            let Ok(mut source) = FileSource::open(&array, None, labels) else { continue };
            let dim = source.dim();
            if dim > 1 << 16 || source.rewind().is_err() {
                continue;
            }
            let (mut block, mut rows) = (FeatureBlock::new(dim), 0);
            while let Ok(count) = source.read(64, &mut block) {
                if count == 0 {
                    assert_eq!(source.rows(), Some(rows));
                    break;
                }
                rows += count as u64;
                block.clear();
                // An array without columns has as many rows as it likes.
                if rows > 1 << 20 {
                    break;
                }
            }
        }
    });
});
