//! The state of a [`TaskSequence`] as a safetensors file.
//!
//! Classes have numbers, and each is written once for any number of variants that hold it: tensors `class.{number}.…` as
//! in a file of class statistics. The metadata entry `residua.drift` holds a JSON object: version, dimension, number of
//! finished tasks, samples of each class, for each variant its name and classes by label, for each task a fingerprint
//! of its samples, its name and its labels, and the [`Tag`] of the feature space. Estimated squared errors of means are the
//! tensor `errors`, as in a file of class statistics.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use residua_format::file::{Checkpoint, FileError, SafetensorsWriter};
use residua_memory::{Budget, Reservation};
use serde::{Deserialize, Serialize};

use super::{State, TaskRecord, TaskSequence, Variant};
use crate::error::Content;
use crate::statistics::{
    ClassGaussian, ClassStatistics, MAPS, StatisticsReader, Stored, WRITING, read_class, read_errors,
    write_class, write_errors,
};
use crate::tables::WRITTEN_CLASS;
use crate::{Result, Tag};

/// The metadata entry.
pub(crate) const KEY: &str = "residua.drift";
/// Bytes of a class in a variant's table of classes.
pub(super) const STORED: u64 = 32;
/// The version of this layout.
const VERSION: u32 = 1;

/// What a state holds, without its classes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Overview {
    version: u32,
    dim: usize,
    tasks: u64,
    /// Samples of each class, by number.
    counts: Vec<u64>,
    variants: Vec<VariantMeta>,
    /// Fingerprints of the tasks' samples, the latest last.
    #[serde(default)]
    samples: Vec<String>,
    /// The finished tasks, the latest last. Older programs wrote none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    records: Vec<TaskRecord>,
    #[serde(default, skip_serializing_if = "Tag::is_empty")]
    tag: Tag,
    /// Errors of means by number of the class; empty where all are 0.
    #[serde(skip)]
    errors: Vec<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct VariantMeta {
    name: String,
    /// Numbers of classes by label.
    classes: BTreeMap<u32, usize>,
    /// Where it began, if not with the first task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<Start>,
}

/// The beginning of a variant that was added after some tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Start {
    /// The first task that its method has moved classes for, from 1.
    pub task: u64,
    /// The variant whose statistics it took over.
    pub from: String,
}

impl Overview {
    /// The feature dimension d.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Tasks finished so far.
    pub fn tasks(&self) -> u64 {
        self.tasks
    }

    /// Names of the variants, in the order in which they were added.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variants.iter().map(|variant| variant.name.as_str())
    }

    /// Labels, rising, and numbers of samples of a variant's classes; none if there is no such variant.
    pub fn counts(&self, name: &str) -> impl Iterator<Item = (u32, u64)> {
        let classes = self.variant(name).into_iter().flat_map(|variant| &variant.classes);
        classes.map(|(&label, &number)| (label, self.counts[number]))
    }

    /// Labels, rising, and estimated squared errors of means, [`ClassGaussian::error`], of a variant's classes.
    pub fn errors(&self, name: &str) -> impl Iterator<Item = (u32, f64)> {
        let classes = self.variant(name).into_iter().flat_map(|variant| &variant.classes);
        classes.map(|(&label, &number)| (label, self.error(number)))
    }

    /// Where a variant began that was added after some tasks.
    pub fn start(&self, name: &str) -> Option<&Start> {
        self.variant(name)?.start.as_ref()
    }

    /// The finished tasks that the state has records of, the latest last.
    pub fn records(&self) -> &[TaskRecord] {
        &self.records
    }

    /// What is known about the feature space.
    pub fn tag(&self) -> &Tag {
        &self.tag
    }

    fn variant(&self, name: &str) -> Option<&VariantMeta> {
        self.variants.iter().find(|variant| variant.name == name)
    }

    fn error(&self, number: usize) -> f64 {
        self.errors.get(number).copied().unwrap_or(0.0)
    }

    /// The tag of a variant's statistics. Those that no method moves are in the spaces of all tasks.
    fn tag_of(&self, name: &str) -> Tag {
        if name == Variant::SeqFt.name() { self.tag.samples_alone() } else { self.tag.clone() }
    }
}

/// A saved state. Classes are read one by one, on demand.
#[derive(Debug)]
pub struct SequenceReader {
    file: Arc<Checkpoint>,
    meta: Overview,
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
        let mut meta: Overview =
            serde_json::from_str(meta).map_err(|error| wrong(format!("metadata entry {KEY}: {error}")))?;
        if meta.version != VERSION {
            let problem = format!("saved tasks of version {}, this program reads {VERSION}", meta.version);
            return Err(wrong(problem).into());
        }
        let known = meta.counts.len();
        for VariantMeta { name, classes, .. } in &meta.variants {
            if let Some(number) = classes.values().find(|&&number| number >= known) {
                return Err(wrong(format!("variant {name:?} names class {number} of {known}")).into());
            }
        }
        meta.errors = read_errors(&file, known)?;
        Ok(Self { file: Arc::new(file), meta, _held: held })
    }

    /// Whether a file holds the state of tasks.
    pub fn is_in(file: &Checkpoint) -> bool {
        Content::of(file) == Content::Tasks
    }

    /// What the state holds, without its classes.
    pub fn overview(&self) -> &Overview {
        &self.meta
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
        self.meta.names()
    }

    /// The statistics of a variant; `None` if there is no such variant.
    ///
    /// # Errors
    /// When the budget has no room for a table of its classes.
    pub fn statistics(&self, name: &str, budget: &Budget) -> Result<Option<StatisticsReader>> {
        let Some(variant) = self.meta.variant(name) else { return Ok(None) };
        let held = budget.reserve(STORED * variant.classes.len() as u64, "the table of classes")?;
        let classes = variant.classes.iter().map(|(&label, &number)| (label, self.stored(number)));
        let tag = self.meta.tag_of(name);
        Ok(Some(StatisticsReader::new(Arc::clone(&self.file), self.meta.dim, classes.collect(), tag, held)))
    }

    /// Labels, rising, and numbers of samples of a variant's classes; none if there is no such variant.
    pub fn counts(&self, name: &str) -> impl Iterator<Item = (u32, u64)> {
        self.meta.counts(name)
    }

    /// The finished tasks.
    pub(super) fn done(&self) -> Done {
        let Overview { tasks, samples, records, tag, .. } = &self.meta;
        Done { tasks: *tasks, samples: samples.clone(), records: records.clone(), tag: tag.clone() }
    }

    fn stored(&self, number: usize) -> Stored {
        Stored { number: number as u64, count: self.meta.counts[number], error: self.meta.error(number) }
    }
}

/// Bytes of a label of a variant in a state that is written: its entry in the metadata, and its room in the header.
pub(super) const WRITTEN_LABEL: u64 = 400;

/// Bytes of memory to write a state of so many classes and labels of all variants together.
pub(super) fn written_bytes(classes: usize, labels: usize) -> u64 {
    WRITTEN_CLASS.saturating_mul(classes as u64).saturating_add(WRITTEN_LABEL.saturating_mul(labels as u64))
}

/// The tasks of a state.
#[derive(Debug, Clone, Default)]
pub(super) struct Done {
    /// Their number.
    pub(super) tasks: u64,
    /// Fingerprints of their samples, the latest last.
    pub(super) samples: Vec<String>,
    /// What is recorded of them, the latest last.
    pub(super) records: Vec<TaskRecord>,
    pub(super) tag: Tag,
}

/// Writes a state class by class.
pub(super) struct SequenceWriter {
    file: SafetensorsWriter,
    meta: Overview,
    _held: Reservation,
}

impl SequenceWriter {
    /// Starts a file that will replace `path`, for about `classes` classes with `labels` labels of all variants together,
    /// after these tasks.
    pub(super) fn create(
        path: &Path,
        dim: usize,
        done: Done,
        classes: usize,
        labels: usize,
        budget: &Budget,
    ) -> Result<Self> {
        let held = budget.reserve(written_bytes(classes, labels), WRITING)?;
        // The tensors of a class, its count, a label and a number; the metadata is escaped.
        let Done { tasks, samples, records, tag } = done;
        let bytes = 1024 + (256 + 72) * labels as u64 + 256 * samples.len() as u64;
        let file = SafetensorsWriter::create(path, bytes)?;
        let (counts, variants, errors) = Default::default();
        let meta = Overview { version: VERSION, dim, tasks, counts, variants, samples, records, tag, errors };
        Ok(Self { file, meta, _held: held })
    }

    /// Writes a class; returns its number.
    pub(super) fn class(&mut self, class: &ClassGaussian) -> Result<usize> {
        let number = self.meta.counts.len();
        write_class(&mut self.file, number as u64, class)?;
        self.meta.counts.push(class.count());
        self.meta.errors.push(class.error());
        Ok(number)
    }

    /// Ends a variant, of these numbers of classes by label.
    pub(super) fn variant(&mut self, name: &str, classes: BTreeMap<u32, usize>, start: Option<Start>) {
        self.meta.variants.push(VariantMeta { name: name.into(), classes, start });
    }

    /// With this tag instead of the first one.
    pub(super) fn set_tag(&mut self, tag: Tag) {
        self.meta.tag = tag;
    }

    /// What the file will hold.
    pub(super) fn overview(&self) -> &Overview {
        &self.meta
    }

    /// Puts the file in its place.
    pub(super) fn finish(mut self) -> Result<()> {
        write_errors(&mut self.file, self.meta.errors.iter().copied())?;
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
        let mut file = SequenceWriter::create(path, self.dim, self.done.clone(), labels, labels, budget)?;
        let mut numbers: HashMap<*const ClassGaussian, usize> = HashMap::new();
        for State { name, statistics, start, .. } in &self.variants {
            let mut by_label = BTreeMap::new();
            for (label, class) in statistics.iter() {
                let number = match numbers.get(&Arc::as_ptr(class)) {
                    Some(&number) => number,
                    None => file.class(class)?,
                };
                numbers.insert(Arc::as_ptr(class), number);
                by_label.insert(label, number);
            }
            file.variant(name, by_label, start.clone());
        }
        file.finish()
    }

    /// Continues from a saved state and checks every number. The file gives the statistics of the variants; `self` gives
    /// their methods and all other settings. Variants that the file lacks take over the statistics of its first method.
    ///
    /// # Errors
    /// When [`save`](Self::save) did not write the file, its dimension or variants differ, or the budget has no room.
    pub fn resume(mut self, path: impl AsRef<Path>, budget: &Budget) -> Result<Self> {
        let saved = self.open(path.as_ref(), budget)?;
        let classes = (0..saved.meta.counts.len())
            .map(|number| read_class(&saved.file, saved.stored(number), self.dim, budget).map(Arc::new))
            .collect::<Result<Vec<_>>>()?;
        for (state, variant) in self.variants.iter_mut().zip(&saved.meta.variants) {
            let tag = saved.meta.tag_of(&variant.name);
            let mut statistics = ClassStatistics::new(self.dim).with_tag(tag);
            for (&label, &number) in &variant.classes {
                statistics.insert(label, Arc::clone(&classes[number]))?;
            }
            (state.statistics, state.start) = (statistics, variant.start.clone());
        }
        self.done = saved.done();
        self.start_new(saved.meta.variants.len());
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
        // Those that were added later come last.
        if !self.names().take(saved.names().count()).eq(saved.names()) {
            let (names, wanted): (Vec<_>, Vec<_>) = (saved.names().collect(), self.names().collect());
            return Err(wrong(format!("saved for the variants {names:?}, not {wanted:?}")).into());
        }
        Ok(saved)
    }
}
