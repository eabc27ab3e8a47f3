//! The header of a safetensors file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use residua_memory::Budget;
use safetensors::Dtype;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::checkpoint::SHARD;
use super::footprint::Footprint;
use super::hash::Hashed;
use super::header_memory::HeaderMemory;
use super::positioned::{Section, open_regular, read_exact_at};
use super::{FileError, Held, Result, TensorInfo};

/// Bytes of the largest header that the safetensors library reads.
pub(super) const MAX_BYTES: u64 = 100_000_000;
/// The key of the file's own metadata.
pub(super) const METADATA: &str = "__metadata__";

/// A tensor as the header writes it. Offsets count from the end of the header.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry<S = Vec<usize>> {
    pub(super) dtype: Dtype,
    pub(super) shape: S,
    pub(super) data_offsets: (u64, u64),
}

/// Metadata, and tensors in the order of their data. Offsets of tensors count from the end of the header.
#[derive(Debug, Default)]
pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) tensors: Vec<TensorInfo>,
    /// The tensors in the order of their names.
    pub(super) by_name: Vec<u32>,
    /// Of the text that was read.
    pub(super) hash: [u8; 32],
}

impl Header {
    /// Reads and checks the header of an open file. Returns it and the start of the data in the file. `held` grows by
    /// the memory of the header.
    pub(super) fn read(path: &Path, file: &File, held: &mut HeaderMemory) -> Result<(Self, u64)> {
        let length = file.metadata().map_err(FileError::io(path, "read"))?.len();
        let truncated = |what: &str, needed| {
            let what = what.to_owned();
            Err(FileError::Truncated { path: path.to_owned(), what, needed, found: length })
        };
        if length < 8 {
            return truncated("the length of a safetensors header", 8);
        }
        let bytes = text_bytes(file).map_err(FileError::io(path, "read"))?;
        if bytes > MAX_BYTES {
            let problem = format!("is no safetensors file: its header would have {bytes} bytes");
            return Err(FileError::malformed(path, problem));
        }
        let start = 8 + bytes;
        if start > length {
            return truncated("the safetensors header", start);
        }
        let mut hashed = Hashed::new(Section::new(file, 8, bytes));
        let footprint = Footprint::of(&mut hashed).map_err(FileError::io(path, "read"))?;
        let text = Section::new(file, 8, bytes);
        let mut header: Self = parse(path, text, bytes, &footprint, held, "safetensors header")?;
        header.hash = hashed.finish();
        let header = header.checked(path)?;
        let end = header.tensors.last().map_or(0, |tensor| tensor.offset() + tensor.bytes);
        if start + end > length {
            return truncated("the tensor data", start + end);
        }
        if start + end < length {
            let problem = format!("{} bytes follow the last tensor", length - start - end);
            return Err(FileError::malformed(path, problem));
        }
        Ok((header, start))
    }

    /// Sorts the tensors. Checks that names are there once, that tensors lie end to end, and that their bytes match
    /// element type and shape.
    fn checked(mut self, path: &Path) -> Result<Self> {
        // Also by name, because empty tensors share their place.
        let tensors = &mut self.tensors;
        tensors.sort_unstable_by(|a, b| (a.offset(), a.bytes, &a.name).cmp(&(b.offset(), b.bytes, &b.name)));
        self.by_name = by_name(tensors);
        // JSON libraries differ in which of two equal keys they keep, so readers would see different tensors.
        let name = |&i: &u32| &tensors[i as usize].name;
        if let Some(pair) = self.by_name.windows(2).find(|pair| name(&pair[0]) == name(&pair[1])) {
            let problem = format!("safetensors header: {:?} is there twice", name(&pair[0]));
            return Err(FileError::malformed(path, problem));
        }
        let mut end = 0;
        for tensor in &self.tensors {
            let TensorInfo { name, dtype, shape, bytes, .. } = tensor;
            let (from, to) = (tensor.offset(), tensor.offset() + bytes);
            let error = |problem: String| Err(FileError::tensor(path, name, problem));
            if from != end {
                return error(format!(
                    "its data starts at byte {from}, but the data before it ends at {end}"
                ));
            }
            let Some(expected) = byte_length(*dtype, shape) else {
                return error(format!(
                    "shape {shape:?} of {dtype} is not a whole number of bytes below 2^64"
                ));
            };
            if expected != *bytes {
                return error(format!(
                    "shape {shape:?} of {dtype} has {expected} bytes, its data {from}..{to}"
                ));
            }
            end = to;
        }
        // 8 + header + end is compared with the length of the file.
        if end > i64::MAX as u64 {
            return Err(FileError::malformed(path, format!("{end} bytes of tensors")));
        }
        Ok(self)
    }
}

/// Bytes of the text of a header, as the file says.
fn text_bytes(file: &File) -> io::Result<u64> {
    let mut prefix = [0; 8];
    read_exact_at(file, &mut prefix, 0)?;
    Ok(u64::from_le_bytes(prefix))
}

/// The hash of a header's text as it is in the file now; `None` for one that is too long for any file.
pub(super) fn hash_now(file: &File) -> io::Result<Option<[u8; 32]>> {
    let bytes = text_bytes(file)?;
    if bytes > MAX_BYTES {
        return Ok(None);
    }
    let mut hashed = Hashed::new(Section::new(file, 8, bytes));
    io::copy(&mut hashed, &mut io::sink())?;
    Ok(Some(hashed.finish()))
}

/// The tensors that the text of a safetensors header describes, in the order of their data; empty tensors by name. Their
/// offsets count from the end of the header. It checks that names are there once, that the tensors lie end to end, and that
/// their bytes match element type and shape. Errors name the file `path` and call the header
/// `what`.
///
/// # Errors
/// When the header breaks a rule, or the budget does not hold the tensors.
pub fn header_tensors(path: &Path, text: &str, what: &str, budget: &Budget) -> Result<Held<Vec<TensorInfo>>> {
    let footprint = Footprint::of(text.as_bytes()).map_err(FileError::io(path, "read"))?;
    let held = budget.reserve_table(footprint.held() + footprint.passing(), what);
    let mut held = held.map_err(FileError::budget(path))?;
    let header: Header =
        serde_json::from_str(text).map_err(|error| FileError::malformed(path, format!("{what}: {error}")))?;
    held.shrink(footprint.passing());
    Ok(Held::new(header.checked(path)?.tensors, held))
}

/// The sizes of a safetensors file that is not open yet.
#[derive(Debug)]
#[non_exhaustive]
pub struct HeaderSizes {
    /// The file, at the start of the header's text.
    pub file: File,
    /// Bytes of that text.
    pub text: u64,
    /// Bytes of the data behind it.
    pub data: u64,
    /// Bytes of memory that it takes of a budget while its header is parsed.
    pub opening: u64,
    /// Bytes of memory that it takes of a budget as long as it is open.
    pub open: u64,
}

impl HeaderSizes {
    /// Looks at a file; `None` for what is no safetensors file. Opening that says why.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn of(path: &Path) -> Result<Option<Self>> {
        let Ok((mut file, length)) = open_regular(path) else { return Ok(None) };
        let mut prefix = [0; 8];
        if length < 8 {
            return Ok(None);
        }
        file.read_exact(&mut prefix).map_err(FileError::io(path, "read"))?;
        let text = u64::from_le_bytes(prefix);
        if text > MAX_BYTES.min(length - 8) {
            return Ok(None);
        }
        let footprint = Footprint::of(Section::new(&file, 8, text)).map_err(FileError::io(path, "read"))?;
        let open = footprint.held() + SHARD;
        Ok(Some(Self { file, text, data: length - 8 - text, opening: open + footprint.passing(), open }))
    }
}

/// Parses a JSON text of `bytes` bytes. `held` grows by what stays in memory.
pub(super) fn parse<T: for<'de> Deserialize<'de>>(
    path: &Path,
    mut text: Section<'_>,
    bytes: u64,
    footprint: &Footprint,
    held: &mut HeaderMemory,
    what: &str,
) -> Result<T> {
    let (stays, passing) = (footprint.held(), footprint.passing());
    held.grow(stays + passing, path)?;
    // Faster from memory, if the text fits too.
    let parsed = match held.budget().reserve_table(bytes, what) {
        Ok(_text) => {
            let mut json = vec![0; bytes as usize];
            text.read_exact(&mut json).and_then(|()| Ok(serde_json::from_slice(&json)?))
        }
        Err(_) => serde_json::from_reader(BufReader::new(text)).map_err(Into::into),
    };
    held.shrink(passing);
    parsed.map_err(|error: io::Error| match error.downcast::<serde_json::Error>() {
        Ok(error) => FileError::malformed(path, format!("{what}: {error}")),
        Err(error) => FileError::io(path, "read")(error),
    })
}

/// The tensors in the order of their names.
pub(super) fn by_name(tensors: &[TensorInfo]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..tensors.len() as u32).collect();
    order.sort_unstable_by(|&a, &b| tensors[a as usize].name.cmp(&tensors[b as usize].name));
    order
}

/// Bytes of a tensor; `None` if that is not a whole number below 2⁶⁴.
pub(super) fn byte_length(dtype: Dtype, shape: &[usize]) -> Option<u64> {
    let elements = shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size as u64))?;
    let bits = elements.checked_mul(dtype.bitsize() as u64)?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut header = Self::default();
        let Self { metadata, tensors, .. } = &mut header;
        deserializer
            .deserialize_map(Keys { metadata: Some(metadata), each: |tensor| tensors.push(tensor) })?;
        Ok(header)
    }
}

/// Hands the tensors of a header to `each`, one at a time, and takes its metadata.
pub(super) struct Keys<'a, F> {
    /// Where it goes; `None` to leave it out.
    pub(super) metadata: Option<&'a mut BTreeMap<String, String>>,
    pub(super) each: F,
}

impl<'de, F: FnMut(TensorInfo)> Visitor<'de> for Keys<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut has_metadata = false;
        while let Some(key) = map.next_key::<String>()? {
            if key != METADATA {
                let Entry { dtype, shape, data_offsets: (from, to) } = map.next_value()?;
                let Some(bytes) = to.checked_sub(from) else {
                    let problem = format!("tensor {key}: its data starts at byte {from} and ends at {to}");
                    return Err(A::Error::custom(problem));
                };
                (self.each)(TensorInfo::new(key, dtype, shape, bytes, from));
            } else if has_metadata {
                return Err(A::Error::custom(format!("{key:?} is there twice")));
            } else {
                has_metadata = true;
                match &mut self.metadata {
                    Some(metadata) => **metadata = map.next_value::<Option<_>>()?.unwrap_or_default(),
                    None => drop(map.next_value::<IgnoredAny>()?),
                }
            }
        }
        Ok(())
    }
}
