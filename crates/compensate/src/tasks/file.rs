//! The state of a [`TaskSequence`] as a safetensors file.
//!
//! Classes have numbers, and each is written once for any number of variants that hold it: tensors `class.{number}.…` as
//! in a file of class statistics. The metadata entry `residua.drift` holds a JSON object: version, dimension, number of
//! finished tasks, samples of each class, for each variant its name and classes by label, and for each task a fingerprint
//! of its samples.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use residua_format::file::{Checkpoint, FileError, SafetensorsWriter};
use residua_memory::{Budget, Reservation};
use serde::{Deserialize, Serialize};

use super::{State, TaskSequence};
use crate::Result;
use crate::error::Content;
use crate::statistics::{
    ClassGaussian, ClassStatistics, MAPS, StatisticsReader, Stored, WRITING, read_class, write_class,
};
use crate::tables::WRITTEN_CLASS;

/// The metadata entry.
pub(crate) const KEY: &str = "residua.drift";
/// Bytes of a class in a variant's table of classes.
pub(super) const STORED: u64 = 32;
/// The version of this layout.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    version: u32,
    dim: usize,
    tasks: u64,
    /// Samples of each class, by number.
    counts: Vec<u64>,
    variants: Vec<VariantMeta>,
    /// Fingerprints of the tasks' samples, the latest last.
    #[serde(default)]
    samples: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct VariantMeta {
    name: String,
    /// Numbers of classes by label.
    classes: BTreeMap<u32, usize>,
}

/// A saved state. Classes are read one by one, on demand.
#[derive(Debug)]
pub struct SequenceReader {
    file: Arc<Checkpoint>,
    meta: Meta,
    _held: Reservation,
}

impl SequenceReader {
    /// Opens what a [`TaskSequence`] wrote.
    ///
    /// # Errors
    /// When the file cannot be read or holds no such state, or the budget has no room for its tables of tensors and classes.
    pub fn open(path: impl AsRef<Path>, budget: &Budget) -> Result<Self> {
        Self::of(Checkpoint::open_within(path, budget)?, budget)
    }

    /// The state in an open file.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn of(file: Checkpoint, budget: &Budget) -> Result<Self> {
        let path = file.path();
        let wrong = |problem: String| FileError::malformed(path, problem);
        let meta = Content::Tasks.expect_in(&file)?;
        let held = budget.reserve(MAPS * meta.len() as u64, "the table of classes")?;
        let meta: Meta =
            serde_json::from_str(meta).map_err(|error| wrong(format!("metadata entry {KEY}: {error}")))?;
        if meta.version != VERSION {
            let problem = format!("saved tasks of version {}, this program reads {VERSION}", meta.version);
            return Err(wrong(problem).into());
        }
        let known = meta.counts.len();
        for VariantMeta { name, classes } in &meta.variants {
            if let Some(number) = classes.values().find(|&&number| number >= known) {
                return Err(wrong(format!("variant {name:?} names class {number} of {known}")).into());
            }
        }
        Ok(Self { file: Arc::new(file), meta, _held: held })
    }

    /// Whether a file holds the state of tasks.
    pub fn is_in(file: &Checkpoint) -> bool {
        Content::of(file) == Content::Tasks
    }

    /// The feature dimension d.
    pub fn dim(&self) -> usize {
        self.meta.dim
    }

    /// Tasks finished so far.
    pub fn tasks(&self) -> u64 {
        self.meta.tasks
    }

    /// Names of the variants, in the order in which they were added.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.meta.variants.iter().map(|variant| variant.name.as_str())
    }

    /// The statistics of a variant; `None` if there is no such variant.
    ///
    /// # Errors
    /// When the budget has no room for a table of its classes.
    pub fn statistics(&self, name: &str, budget: &Budget) -> Result<Option<StatisticsReader>> {
        let Some(variant) = self.variant(name) else { return Ok(None) };
        let held = budget.reserve(STORED * variant.classes.len() as u64, "the table of classes")?;
        let classes = variant.classes.iter().map(|(&label, &number)| (label, self.stored(number)));
        Ok(Some(StatisticsReader::new(Arc::clone(&self.file), self.meta.dim, classes.collect(), held)))
    }

    /// Labels, rising, and numbers of samples of a variant's classes; none if there is no such variant.
    pub fn counts(&self, name: &str) -> impl Iterator<Item = (u32, u64)> {
        let classes = self.variant(name).into_iter().flat_map(|variant| &variant.classes);
        classes.map(|(&label, &number)| (label, self.meta.counts[number]))
    }

    fn variant(&self, name: &str) -> Option<&VariantMeta> {
        self.meta.variants.iter().find(|variant| variant.name == name)
    }

    /// Fingerprints of the finished tasks' samples, the latest last.
    pub(super) fn samples(&self) -> &[String] {
        &self.meta.samples
    }

    fn stored(&self, number: usize) -> Stored {
        Stored { number: number as u64, count: self.meta.counts[number] }
    }
}

/// Bytes of a label of a variant in a state that is written: its entry in the metadata, and its room in the header.
pub(super) const WRITTEN_LABEL: u64 = 400;

/// Bytes of memory to write a state of so many classes and labels of all variants together.
pub(super) fn written_bytes(classes: usize, labels: usize) -> u64 {
    WRITTEN_CLASS.saturating_mul(classes as u64).saturating_add(WRITTEN_LABEL.saturating_mul(labels as u64))
}

/// Writes a state class by class.
pub(super) struct SequenceWriter {
    file: SafetensorsWriter,
    meta: Meta,
    _held: Reservation,
}

impl SequenceWriter {
    /// Starts a file that will replace `path`, for about `classes` classes with `labels` labels of all variants together,
    /// and tasks with these samples.
    pub(super) fn create(
        path: &Path,
        dim: usize,
        tasks: u64,
        classes: usize,
        labels: usize,
        samples: Vec<String>,
        budget: &Budget,
    ) -> Result<Self> {
        let held = budget.reserve(written_bytes(classes, labels), WRITING)?;
        // The tensors of a class, its count, a label and a number; the metadata is escaped.
        let bytes = 1024 + (256 + 72) * labels as u64 + 48 * samples.len() as u64;
        let file = SafetensorsWriter::create(path, bytes)?;
        let meta = Meta { version: VERSION, dim, tasks, counts: Vec::new(), variants: Vec::new(), samples };
        Ok(Self { file, meta, _held: held })
    }

    /// Writes a class; returns its number.
    pub(super) fn class(&mut self, class: &ClassGaussian) -> Result<usize> {
        let number = self.meta.counts.len();
        write_class(&mut self.file, number as u64, class)?;
        self.meta.counts.push(class.count());
        Ok(number)
    }

    /// Ends a variant, of these numbers of classes by label.
    pub(super) fn variant(&mut self, name: &str, classes: BTreeMap<u32, usize>) {
        self.meta.variants.push(VariantMeta { name: name.into(), classes });
    }

    /// Puts the file in its place.
    pub(super) fn finish(mut self) -> Result<()> {
        let json = serde_json::to_string(&self.meta)
            .map_err(|error| FileError::malformed(self.file.path(), format!("metadata: {error}")))?;
        self.file.metadata(KEY, json);
        self.file.finish()?;
        Ok(())
    }
}

impl TaskSequence {
    /// Writes the state after the last finished task to a file, which appears complete or not at all.
    ///
    /// # Errors
    /// When the file cannot be written, or the budget has no room for the tables of its tensors. A file that was there stays.
    pub fn save(&self, path: impl AsRef<Path>, budget: &Budget) -> Result<()> {
        let path = path.as_ref();
        let labels = self.variants.iter().map(|state| state.statistics.len()).sum();
        let finished = self.finished.clone();
        let mut file = SequenceWriter::create(path, self.dim, self.tasks, labels, labels, finished, budget)?;
        let mut numbers: HashMap<*const ClassGaussian, usize> = HashMap::new();
        for State { name, statistics, .. } in &self.variants {
            let mut by_label = BTreeMap::new();
            for (label, class) in statistics.iter() {
                let number = match numbers.get(&Arc::as_ptr(class)) {
                    Some(&number) => number,
                    None => file.class(class)?,
                };
                numbers.insert(Arc::as_ptr(class), number);
                by_label.insert(label, number);
            }
            file.variant(name, by_label);
        }
        file.finish()
    }

    /// Continues from a saved state and checks every number. The file gives the statistics of the variants; `self` gives
    /// their methods and all other settings.
    ///
    /// # Errors
    /// When [`save`](Self::save) did not write the file, its dimension or variants differ, or the budget has no room.
    pub fn resume(mut self, path: impl AsRef<Path>, budget: &Budget) -> Result<Self> {
        let saved = self.open(path.as_ref(), budget)?;
        let classes = (0..saved.meta.counts.len())
            .map(|number| read_class(&saved.file, saved.stored(number), self.dim, budget).map(Arc::new))
            .collect::<Result<Vec<_>>>()?;
        for (state, variant) in self.variants.iter_mut().zip(&saved.meta.variants) {
            let mut statistics = ClassStatistics::new(self.dim);
            for (&label, &number) in &variant.classes {
                statistics.insert(label, Arc::clone(&classes[number]))?;
            }
            state.statistics = statistics;
        }
        self.tasks = saved.meta.tasks;
        self.finished = saved.meta.samples;
        Ok(self)
    }

    /// Opens a saved state with the same dimension and variants.
    pub(super) fn open(&self, path: &Path, budget: &Budget) -> Result<SequenceReader> {
        let saved = SequenceReader::open(path, budget)?;
        let wrong = |problem: String| FileError::malformed(path, problem);
        if saved.dim() != self.dim {
            let problem = format!("saved for features of dimension {}, not {}", saved.dim(), self.dim);
            return Err(wrong(problem).into());
        }
        if !self.names().eq(saved.names()) {
            let (names, wanted): (Vec<_>, Vec<_>) = (saved.names().collect(), self.names().collect());
            return Err(wrong(format!("saved for the variants {names:?}, not {wanted:?}")).into());
        }
        Ok(saved)
    }
}
