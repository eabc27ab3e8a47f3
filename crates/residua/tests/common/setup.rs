/// Files for the examples in the documentation, in a temporary folder that becomes the current one.
#[allow(dead_code)]
mod setup {
    use residua::format::file::{Dtype, SafetensorsWriter};
    use residua::{Budget, Job, Output, SplitOptions};

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::env::set_current_dir(&folder).unwrap();
        folder
    }

    /// A layer of 64 × 256; every `changed`-th weight is another number.
    fn checkpoint(path: &str, changed: usize) {
        let weight = |i: usize| (i * 7919 % 513) as f32 / 256.0 - if i % changed == 0 { 0.99 } else { 1.0 };
        let weights: Vec<u8> = (0..64 * 256).flat_map(|i| weight(i).to_le_bytes()).collect();
        let mut model = SafetensorsWriter::create(path, 256).unwrap();
        model.tensor("layer.weight", Dtype::F32, &[64, 256], &weights).unwrap();
        model.finish().unwrap();
    }

    pub fn checkpoints() -> tempfile::TempDir {
        let folder = folder();
        checkpoint("model.safetensors", usize::MAX);
        checkpoint("tuned.safetensors", 100);
        folder
    }

    pub fn split() -> tempfile::TempDir {
        let folder = checkpoints();
        let job = Job::new(&Budget::unlimited());
        job.split("model.safetensors", Output("split.safetensors"), &SplitOptions::default()).unwrap();
        folder
    }

    /// NumPy arrays: features of 2 classes in 8 dimensions, their labels, and features before and after a fine-tune.
    #[cfg(feature = "compensate")]
    pub fn features() -> tempfile::TempDir {
        use residua::format::file::{Dense, write_npy};
        let folder = folder();
        let array = |rows: usize, scale: f32| {
            let class = |i: usize| if i / 8 % 2 == 0 { 1.0 } else { -1.0 };
            let value = |i: usize| scale * (class(i) + (i * 7919 % 101) as f32 / 100.0);
            Dense::new(vec![rows, 8], (0..rows * 8).map(value).collect()).unwrap()
        };
        write_npy("features.npy", &array(60, 1.0)).unwrap();
        write_npy("before.npy", &array(80, 1.0)).unwrap();
        write_npy("after.npy", &array(80, 1.5)).unwrap();
        let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (60,), }\n";
        let mut labels = b"\x93NUMPY\x01\x00".to_vec();
        labels.extend((header.len() as u16).to_le_bytes());
        labels.extend(header.as_bytes());
        labels.extend((0..60).map(|i| i % 2));
        std::fs::write("labels.npy", labels).unwrap();
        folder
    }
}
