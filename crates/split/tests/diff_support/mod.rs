//! Checkpoints for the tests of diff and patch, written by hand so that the code under test has no part in it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use residua_format::file::Dtype;

/// Every element type of safetensors.
pub const DTYPES: [Dtype; 22] = [
    Dtype::BOOL,
    Dtype::F4,
    Dtype::F6_E2M3,
    Dtype::F6_E3M2,
    Dtype::U8,
    Dtype::I8,
    Dtype::F8_E5M2,
    Dtype::F8_E4M3,
    Dtype::F8_E8M0,
    Dtype::F8_E4M3FNUZ,
    Dtype::F8_E5M2FNUZ,
    Dtype::I16,
    Dtype::U16,
    Dtype::F16,
    Dtype::BF16,
    Dtype::I32,
    Dtype::U32,
    Dtype::F32,
    Dtype::C64,
    Dtype::F64,
    Dtype::I64,
    Dtype::U64,
];

#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// A tensor of pseudo-random bits.
    pub fn random(name: &str, dtype: Dtype, shape: &[usize], seed: u64) -> Self {
        let mut bytes = vec![0; shape.iter().product::<usize>() * dtype.bitsize() / 8];
        let mut random = Random(seed);
        bytes.iter_mut().for_each(|byte| *byte = random.next() as u8);
        Self { name: name.into(), dtype, shape: shape.to_vec(), bytes }
    }

    /// The same with about `share` of its elements (bytes, where those are larger) changed; how many were.
    pub fn changed(&self, share: f64, seed: u64) -> (Self, u64) {
        let mut new = self.clone();
        let mut random = Random(seed);
        let mut changed = 0;
        for element in new.bytes.chunks_mut((self.dtype.bitsize() / 8).max(1)) {
            if (random.next() >> 11) as f64 / (1u64 << 53) as f64 >= share {
                continue;
            }
            let at = random.next() as usize % element.len();
            element[at] ^= 1 << (random.next() % 8);
            changed += 1;
        }
        (new, changed)
    }
}

/// Splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// The bytes of a safetensors file with these tensors, in this order of data; its header names them in reverse
/// and has its own padding.
pub fn file(tensors: &[Tensor], metadata: &str) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut data = Vec::new();
    for Tensor { name, dtype, shape, bytes } in tensors {
        let start = data.len();
        data.extend_from_slice(bytes);
        let (name, dtype) = (serde_json::to_string(name).unwrap(), serde_json::to_string(dtype).unwrap());
        let end = data.len();
        entries.push(format!(
            "{name}: {{\"data_offsets\": [{start}, {end}], \"shape\": {shape:?}, \"dtype\": {dtype}}}"
        ));
    }
    entries.reverse();
    if !metadata.is_empty() {
        entries.push(format!("\"__metadata__\": {metadata}"));
    }
    let mut header = format!("{{{}}}", entries.join(", "));
    while header.len() % 8 != 0 {
        header.push(' ');
    }
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// Writes a checkpoint of one file.
pub fn write(path: &Path, tensors: &[Tensor], metadata: &str) -> PathBuf {
    std::fs::write(path, file(tensors, metadata)).unwrap();
    path.to_owned()
}

/// Writes a checkpoint of `shards` files and an index into a new directory.
pub fn write_shards(directory: &Path, tensors: &[Tensor], shards: usize, metadata: &str) -> PathBuf {
    std::fs::create_dir(directory).unwrap();
    let mut map = serde_json::Map::new();
    for (i, part) in tensors.chunks(tensors.len().div_ceil(shards).max(1)).enumerate() {
        let name = format!("model-{:05}.safetensors", i + 1);
        write(&directory.join(&name), part, metadata);
        part.iter().for_each(|tensor| drop(map.insert(tensor.name.clone(), name.clone().into())));
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    std::fs::write(directory.join("model.safetensors.index.json"), index.to_string()).unwrap();
    directory.to_owned()
}

/// Names of all files in a directory.
pub fn listing(directory: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = std::fs::read_dir(directory).unwrap().map(name).collect();
    names.sort();
    names
}
