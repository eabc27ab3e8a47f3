//! `model.safetensors.index.json`: which shard holds which tensor.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::header::MAX_BYTES;
use super::positioned::{open_regular, read_exact_at};
use super::{FileError, Result};

/// Tensor name → shard, a path relative to the index.
#[derive(Deserialize)]
struct IndexJson {
    weight_map: WeightMap,
}

/// A map that refuses a key given twice.
struct WeightMap(BTreeMap<String, String>);

/// Shard → names of its tensors. A shard is a path relative to the index, with no `.` or `..` in it.
pub(super) type Shards = BTreeMap<PathBuf, Vec<String>>;

/// Reads an index; its shards lie in the folder of the index or below, and names of tensors are sorted.
///
/// # Errors
/// When the file cannot be read, is larger than a header may be, or is not an index; when a tensor is there twice,
/// or a shard outside the folder.
pub(super) fn read(path: &Path) -> Result<Shards> {
    let (file, length) = open_regular(path)?;
    if length > MAX_BYTES {
        let problem = format!("no index of shards: {length} bytes, at most {MAX_BYTES} are read");
        return Err(FileError::malformed(path, problem));
    }
    let mut text = vec![0; length as usize];
    read_exact_at(&file, &mut text, 0).map_err(FileError::io(path, "read"))?;
    let index: IndexJson = serde_json::from_slice(&text)
        .map_err(|error| FileError::malformed(path, format!("index of shards: {error}")))?;
    let mut shards = Shards::new();
    for (tensor, shard) in index.weight_map.0 {
        let Some(inside) = inside(&shard) else {
            let problem = format!("its shard {shard:?} is no file below the index");
            return Err(FileError::tensor(path, &tensor, problem));
        };
        shards.entry(inside).or_default().push(tensor);
    }
    Ok(shards)
}

/// A relative path without `.`; `None` where it is empty or leads out of the folder.
fn inside(shard: &str) -> Option<PathBuf> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_lie_below_the_index() {
        for (shard, expected) in [("a", "a"), ("./a", "a"), ("./././b/a", "b/a"), ("b/./a", "b/a")] {
            assert_eq!(inside(shard), Some(expected.into()), "{shard}");
        }
        for shard in ["", ".", "..", "../a", "b/../a", "/a", "a/../../b"] {
            assert_eq!(inside(shard), None, "{shard}");
        }
    }
}
