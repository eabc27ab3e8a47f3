//! The state of a [`DriftCompensator`] as a safetensors file.
//!
//! Classes are numbered, each written once however many variants hold it: tensors `class.{number}.…` as in a
//! file of class statistics. The metadata entry `residua.drift` holds a JSON object: version, dimension, number
//! of finished tasks, samples of each class, and for each variant its name and classes by label.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use residua_format::file::{Checkpoint, FileError, SafetensorsWriter};
use residua_memory::Budget;
use serde::{Deserialize, Serialize};

use super::{DriftCompensator, State};
use crate::Result;
use crate::statistics::{ClassGaussian, ClassStatistics, read_class, write_class};

/// The metadata entry.
const KEY: &str = "residua.drift";
/// The version of this layout.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Meta {
    version: u32,
    dim: usize,
    tasks: u64,
    /// Samples of each class, by number.
    counts: Vec<u64>,
    variants: Vec<VariantMeta>,
}

#[derive(Serialize, Deserialize)]
struct VariantMeta {
    name: String,
    /// Numbers of classes by label.
    classes: BTreeMap<u32, usize>,
}

impl DriftCompensator {
    /// Writes the state after the last finished task to a file, which appears complete or not at all.
    ///
    /// # Errors
    /// When the file cannot be written; what was there stays then.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut numbers: HashMap<*const ClassGaussian, usize> = HashMap::new();
        let mut classes: Vec<&ClassGaussian> = Vec::new();
        let mut variants = Vec::new();
        for State { name, statistics, .. } in &self.variants {
            let mut by_label = BTreeMap::new();
            for (label, class) in statistics.iter() {
                let number = *numbers.entry(Arc::as_ptr(class)).or_insert_with(|| {
                    classes.push(class);
                    classes.len() - 1
                });
                by_label.insert(label, number);
            }
            variants.push(VariantMeta { name: name.clone(), classes: by_label });
        }
        let counts = classes.iter().map(|class| class.count()).collect();
        let meta = Meta { version: VERSION, dim: self.dim, tasks: self.tasks, counts, variants };
        let json = serde_json::to_string(&meta)
            .map_err(|error| FileError::malformed(path, format!("metadata: {error}")))?;
        let header = 256 * classes.len() as u64 + SafetensorsWriter::metadata_bytes(KEY, &json);
        let mut file = SafetensorsWriter::create(path, header)?;
        file.metadata(KEY, json);
        for (number, class) in classes.into_iter().enumerate() {
            write_class(&mut file, &format!("class.{number}"), class)?;
        }
        file.finish()?;
        Ok(())
    }

    /// Goes on from a saved state, every number checked: what the variants know is that of the file, their
    /// methods and the other settings those of `self`.
    ///
    /// # Errors
    /// When the file is not one that [`save`](Self::save) writes, is of another dimension or of other
    /// variants, or the budget has no room.
    pub fn resume(mut self, path: &Path, budget: &Budget) -> Result<Self> {
        let file = Checkpoint::open(path)?;
        let wrong = |problem: String| FileError::malformed(path, problem);
        let meta = file
            .metadata()
            .get(KEY)
            .ok_or_else(|| wrong(format!("holds no saved tasks (no metadata entry {KEY})")))?;
        let meta: Meta =
            serde_json::from_str(meta).map_err(|error| wrong(format!("metadata entry {KEY}: {error}")))?;
        if meta.version != VERSION {
            return Err(wrong(format!(
                "saved tasks of version {}, this program reads {VERSION}",
                meta.version
            ))
            .into());
        }
        if meta.dim != self.dim {
            return Err(
                wrong(format!("saved for features of dimension {}, not {}", meta.dim, self.dim)).into()
            );
        }
        let names: Vec<&str> = meta.variants.iter().map(|variant| variant.name.as_str()).collect();
        if !self.names().eq(names.iter().copied()) {
            let wanted: Vec<_> = self.names().collect();
            return Err(wrong(format!("saved for the variants {names:?}, not {wanted:?}")).into());
        }
        let mut classes = Vec::new();
        for (number, &count) in meta.counts.iter().enumerate() {
            classes.push(Arc::new(read_class(&file, &format!("class.{number}"), count, meta.dim, budget)?));
        }
        for (state, variant) in self.variants.iter_mut().zip(&meta.variants) {
            let mut statistics = ClassStatistics::new(meta.dim);
            for (&label, &number) in &variant.classes {
                let class = classes.get(number).ok_or_else(|| {
                    wrong(format!("variant {:?} names class {number} of {}", variant.name, classes.len()))
                })?;
                statistics.insert(label, Arc::clone(class))?;
            }
            state.statistics = statistics;
        }
        self.tasks = meta.tasks;
        Ok(self)
    }
}
