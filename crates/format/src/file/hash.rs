//! Hashes of tensors and checkpoints.

use std::fmt::Write as _;
use std::io::{self, Read};

use super::{Checkpoint, Result, TensorInfo};

/// Bytes that are hashed while they are read.
#[derive(Debug)]
pub(super) struct Hashed<R> {
    bytes: R,
    hasher: blake3::Hasher,
}

impl<R> Hashed<R> {
    pub(super) fn new(bytes: R) -> Self {
        Self { bytes, hasher: blake3::Hasher::new() }
    }

    /// The hash of what was read.
    pub(super) fn finish(&self) -> [u8; 32] {
        self.hasher.finalize().into()
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(out)?;
        self.hasher.update(&out[..count]);
        Ok(count)
    }
}

impl Checkpoint {
    /// The BLAKE3 hash of a tensor's bytes, in lower-case hexadecimal. It reads through `buffer`. The length of the
    /// buffer does not change the hash; 1 MiB is a good length.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn hash_tensor(&self, tensor: &TensorInfo, buffer: &mut [u8]) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        let mut own = [0; 4096];
        let buffer = if buffer.is_empty() { &mut own[..] } else { buffer };
        let mut offset = 0;
        while offset < tensor.bytes {
            let size = (tensor.bytes - offset).min(buffer.len() as u64);
            let block = &mut buffer[..size as usize];
            self.read_at(tensor, offset, block)?;
            hasher.update(block);
            offset += size;
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// The BLAKE3 hash of names, element types, shapes and contents of all tensors. It does not depend on how they
    /// are spread over files. Reads everything once.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn hash(&self, buffer: &mut [u8]) -> Result<String> {
        let mut hasher = CheckpointHasher::new();
        for (_, tensor) in self.tensors_by_name() {
            hasher.tensor(tensor, &self.hash_tensor(tensor, buffer)?);
        }
        Ok(hasher.finish())
    }
}

/// Builds the hash of a checkpoint from the hashes of its tensors, for callers that have them already.
#[derive(Debug, Default)]
pub struct CheckpointHasher {
    hasher: blake3::Hasher,
    line: String,
}

impl CheckpointHasher {
    /// A hasher without tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor and the hash of its bytes. Add tensors in the bytewise order of their names.
    pub fn tensor(&mut self, tensor: &TensorInfo, hash: &str) {
        // A name may hold any character; its length says where it ends.
        let TensorInfo { name, dtype, shape, .. } = tensor;
        self.line.clear();
        _ = writeln!(self.line, "{} {name} {dtype} {shape:?} {hash}", name.len());
        self.hasher.update(self.line.as_bytes());
    }

    /// The hash, in lower-case hexadecimal.
    pub fn finish(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }
}

/// The BLAKE3 hash of some bytes, in lower-case hexadecimal.
pub fn hash_bytes(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
