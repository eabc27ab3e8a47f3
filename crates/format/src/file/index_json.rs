//! `model.safetensors.index.json`: which shard holds which tensor.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Component, Path};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::{FileError, Result};

/// Tensor name → shard, a file name relative to the index.
#[derive(Deserialize)]
pub(super) struct IndexJson {
    pub(super) weight_map: WeightMap,
}

/// A map that refuses duplicate keys.
pub(super) struct WeightMap(pub(super) BTreeMap<String, String>);

impl IndexJson {
    /// Reads an index. Its shards must lie in the directory of the index or below.
    pub(super) fn read(path: &Path) -> Result<BTreeMap<String, String>> {
        let text = fs::read(path).map_err(FileError::io(path, "open"))?;
        let index: Self = serde_json::from_slice(&text)
            .map_err(|error| FileError::malformed(path, format!("index of shards: {error}")))?;
        let map = index.weight_map.0;
        for (tensor, shard) in &map {
            let inside = |c| matches!(c, Component::Normal(_));
            if shard.is_empty() || !Path::new(shard).components().all(inside) {
                let problem = format!("its shard {shard:?} is no file below the index");
                return Err(FileError::tensor(path, tensor, problem));
            }
        }
        Ok(map)
    }
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
