//! `model.safetensors.index.json`: which shard holds which tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::{Component, Path, PathBuf};

use residua_memory::Budget;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::footprint::Footprint;
use super::header::{MAX_BYTES, parse};
use super::header_memory::HeaderMemory;
use super::positioned::{Section, open_regular};
use super::{FileError, Result};

const WHAT: &str = "index of shards";
/// Bytes of the longest text that an index may hold.
const LONGEST: u64 = 1 << 20;
/// The most shards of an index.
const MOST_SHARDS: usize = 1 << 16;

/// Tensor name → shard, a path relative to the index.
#[derive(Deserialize)]
struct IndexJson<M> {
    weight_map: M,
}

/// The distinct values of the map.
struct ShardNames(BTreeSet<String>);

/// A map that refuses a key given twice.
struct WeightMap(BTreeMap<String, String>);

/// Shard → names of its tensors. A shard is a path relative to the index, with no `.` or `..` in it.
pub(super) type Shards = BTreeMap<PathBuf, Vec<String>>;

/// Reads an index; its shards lie in the folder of the index or below, and names of tensors are sorted. All of that is in
/// the memory that comes with it.
///
/// # Errors
/// When the file cannot be read, is larger than a header may be, or is not an index; when a tensor is there twice,
/// or a shard outside the folder; when the budget does not hold it.
pub(super) fn read(path: &Path, budget: &Budget) -> Result<(Shards, HeaderMemory)> {
    let mut held = HeaderMemory::new(budget);
    let (file, length, footprint) = open(path)?;
    let text = Section::new(&file, 0, length);
    let index: IndexJson<WeightMap> = parse(path, text, length, &footprint, &mut held, WHAT)?;
    let mut shards = Shards::new();
    for (tensor, shard) in index.weight_map.0 {
        shards.entry(inside(path, &tensor, &shard)?).or_default().push(tensor);
    }
    Ok((shards, held))
}

/// The shards that an index names. Takes memory for their distinct names only.
///
/// # Errors
/// As [`read`], except that a tensor may be there twice.
pub(super) fn shards(path: &Path) -> Result<Vec<PathBuf>> {
    let (file, length, _) = open(path)?;
    let text = BufReader::new(Section::new(&file, 0, length));
    let index: IndexJson<ShardNames> = serde_json::from_reader(text)
        .map_err(|error| FileError::malformed(path, format!("{WHAT}: {error}")))?;
    let at = |shard: &String| Ok(path.with_file_name(inside(path, "of an index", shard)?));
    index.weight_map.0.iter().map(at).collect()
}

/// Bytes of memory that an index takes while its shards are opened.
///
/// # Errors
/// When the file cannot be read, or is larger than a header may be.
pub(super) fn memory(path: &Path) -> Result<u64> {
    let (_, _, footprint) = open(path)?;
    Ok(footprint.held() + footprint.passing())
}

/// Opens an index; also its length, and the memory that it takes when it is parsed.
fn open(path: &Path) -> Result<(File, u64, Footprint)> {
    let (file, length) = open_regular(path)?;
    let wrong = |problem: String| Err(FileError::malformed(path, format!("no {WHAT}: {problem}")));
    if length > MAX_BYTES {
        return wrong(format!("{length} bytes, at most {MAX_BYTES} are read"));
    }
    let footprint = Footprint::of(Section::new(&file, 0, length)).map_err(FileError::io(path, "read"))?;
    if footprint.longest() > LONGEST {
        return wrong(format!("a text of {} bytes, at most {LONGEST} are read", footprint.longest()));
    }
    Ok((file, length, footprint))
}

/// The path of a shard relative to the index.
fn inside(index: &Path, tensor: &str, shard: &str) -> Result<PathBuf> {
    let problem = || format!("its shard {shard:?} is no file below the index");
    plain(shard).ok_or_else(|| FileError::tensor(index, tensor, problem()))
}

/// A relative path without `.`; `None` where it is empty or leads out of the folder.
fn plain(shard: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for component in Path::new(shard).components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => path.push(name),
            _ => return None,
        }
    }
    (!path.as_os_str().is_empty()).then_some(path)
}

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = WeightMap;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tensor to file name")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let mut all = BTreeMap::new();
                while let Some((tensor, shard)) = map.next_entry::<String, String>()? {
                    if all.contains_key(&tensor) {
                        return Err(A::Error::custom(format!("{tensor:?} is there twice")));
                    }
                    all.insert(tensor, shard);
                }
                Ok(WeightMap(all))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

impl<'de> Deserialize<'de> for ShardNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values;
        impl<'de> Visitor<'de> for Values {
            type Value = ShardNames;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tensor to file name")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ShardNames, A::Error> {
                let mut all = BTreeSet::new();
                while let Some((_, shard)) = map.next_entry::<IgnoredAny, String>()? {
                    all.insert(shard);
                    if all.len() > MOST_SHARDS {
                        return Err(A::Error::custom(format!("more than {MOST_SHARDS} shards")));
                    }
                }
                Ok(ShardNames(all))
            }
        }
        deserializer.deserialize_map(Values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_lie_below_the_index() {
        for (shard, expected) in [("a", "a"), ("./a", "a"), ("./././b/a", "b/a"), ("b/./a", "b/a")] {
            assert_eq!(plain(shard), Some(expected.into()), "{shard}");
        }
        for shard in ["", ".", "..", "../a", "b/../a", "/a", "a/../../b"] {
            assert_eq!(plain(shard), None, "{shard}");
        }
    }
}
