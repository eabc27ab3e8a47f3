//! Whatever an index of shards says: no panic, and every tensor that it leads to can be read or is refused.

#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use residua_format::file::Checkpoint;
use residua_fuzz::{beside, model, seeds};

fuzz_target!(
    init: {
        model(&beside("one.safetensors"), 0.0);
        model(&beside("two.safetensors"), 1.0);
        seeds(|folder| {
            let one = r#"{"weight_map": {"a": "one.safetensors", "b": "one.safetensors"}}"#;
            let two = r#"{"metadata": {"total_size": 12}, "weight_map": {"a": "one.safetensors", "b": "./two.safetensors"}}"#;
            fs::write(folder.join("one"), one).unwrap();
            fs::write(folder.join("two"), two).unwrap();
        });
    },
    |bytes: &[u8]| {
        let index = beside("model.safetensors.index.json");
        fs::write(&index, bytes).unwrap();
        for path in [&*index, residua_fuzz::folder()] {
            let Ok(checkpoint) = Checkpoint::open(path) else { continue };
            for tensor in checkpoint.tensors() {
                let mut data = vec![0; tensor.bytes as usize];
                let _ = checkpoint.read_at(tensor, 0, &mut data);
            }
            assert!(checkpoint.files().all(|file| file.exists()));
        }
    }
);
