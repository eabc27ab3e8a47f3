//! The header of a safetensors file.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::path::Path;

use safetensors::Dtype;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use super::positioned::read_exact_at;
use super::{FileError, Result};

/// Bytes of the largest header that the safetensors library reads.
pub(super) const MAX_BYTES: u64 = 100_000_000;
/// The key of the file's own metadata.
const METADATA: &str = "__metadata__";

/// A tensor of the header. Offsets count from the end of the header.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) data_offsets: (u64, u64),
}

/// Metadata, and tensors in the order of their data.
#[derive(Debug, Default)]
pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) tensors: Vec<(String, Entry)>,
}

impl Header {
    /// Reads and checks the header of an open file. Returns it and the start of the data in the file.
    pub(super) fn read(path: &Path, file: &File) -> Result<(Self, u64)> {
        let length = file.metadata().map_err(FileError::io(path, "read"))?.len();
        let truncated = |what: &str, needed| {
            let what = what.to_owned();
            Err(FileError::Truncated { path: path.to_owned(), what, needed, found: length })
        };
        if length < 8 {
            return truncated("the length of a safetensors header", 8);
        }
        let mut prefix = [0; 8];
        read_exact_at(file, &mut prefix, 0).map_err(FileError::io(path, "read"))?;
        let bytes = u64::from_le_bytes(prefix);
        if bytes > MAX_BYTES {
            let problem = format!("is no safetensors file: its header would have {bytes} bytes");
            return Err(FileError::malformed(path, problem));
        }
        let start = 8 + bytes;
        if start > length {
            return truncated("the safetensors header", start);
        }
        let mut json = vec![0; bytes as usize];
        read_exact_at(file, &mut json, 8).map_err(FileError::io(path, "read"))?;
        let mut header: Self = serde_json::from_slice(&json)
            .map_err(|error| FileError::malformed(path, format!("safetensors header: {error}")))?;
        // Also by name, because empty tensors share their place.
        header.tensors.sort_by(|(a, x), (b, y)| (x.data_offsets, a).cmp(&(y.data_offsets, b)));
        let end = header.check(path)?;
        if start + end > length {
            return truncated("the tensor data", start + end);
        }
        if start + end < length {
            let problem = format!("{} bytes follow the last tensor", length - start - end);
            return Err(FileError::malformed(path, problem));
        }
        Ok((header, start))
    }

    /// Checks that tensors lie end to end and that their bytes match element type and shape. Returns their end.
    pub(super) fn check(&self, path: &Path) -> Result<u64> {
        let mut end = 0;
        for (name, Entry { dtype, shape, data_offsets: (from, to) }) in &self.tensors {
            let error = |problem: String| Err(FileError::tensor(path, name, problem));
            if *from != end {
                return error(format!(
                    "its data starts at byte {from}, but the data before it ends at {end}"
                ));
            }
            let Some(bytes) = byte_length(*dtype, shape) else {
                return error(format!(
                    "shape {shape:?} of {dtype} is not a whole number of bytes below 2^64"
                ));
            };
            if from.checked_add(bytes) != Some(*to) {
                return error(format!("shape {shape:?} of {dtype} has {bytes} bytes, its data {from}..{to}"));
            }
            end = *to;
        }
        // 8 + header + end is compared with the length of the file.
        if end > i64::MAX as u64 {
            return Err(FileError::malformed(path, format!("{end} bytes of tensors")));
        }
        Ok(end)
    }
}

/// Bytes of a tensor; `None` if that is not a whole number below 2⁶⁴.
pub(super) fn byte_length(dtype: Dtype, shape: &[usize]) -> Option<u64> {
    let elements = shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size as u64))?;
    let bits = elements.checked_mul(dtype.bitsize() as u64)?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

impl Serialize for Header {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA, &self.metadata)?;
        }
        self.tensors.iter().try_for_each(|(name, entry)| map.serialize_entry(name, entry))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Header;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header::default();
                let mut names = HashSet::new();
                while let Some(key) = map.next_key::<String>()? {
                    // JSON libraries differ in which of two equal keys they keep, so readers would see different
                    // tensors.
                    if !names.insert(key.clone()) {
                        return Err(A::Error::custom(format!("{key:?} is there twice")));
                    }
                    if key == METADATA {
                        header.metadata = map.next_value::<Option<_>>()?.unwrap_or_default();
                    } else {
                        header.tensors.push((key, map.next_value()?));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}
