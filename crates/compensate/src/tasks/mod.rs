//! Class statistics of a model that is tuned for one task after the other.

mod file;
mod lock;
mod previous;
mod samples;
mod stream;
mod variant;

use std::path::PathBuf;

use residua_memory::Budget;
use serde::{Deserialize, Serialize};

use file::Done;
pub(crate) use file::KEY;
pub use file::{Overview, SequenceReader, Start};
pub use lock::SequenceLock;
pub use previous::{previous_path, undo};
pub use stream::PreparedTask;
pub use variant::Variant;

use crate::compensator::{Compensator, Method};
use crate::error::same_dimension;
use crate::source::{ChainSource, FeatureSource, Fingerprint, Side};
use crate::statistics::{ClassStatistics, Precision, StatisticsOptions, Storage};
use crate::{CompensateError, Result, Tag};

/// The samples that a compensator learns from: features before and after a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pairs {
    /// The task's own samples.
    Current,
    /// Auxiliary samples of other data.
    Auxiliary,
    /// Both; the task's own alone, if there are no auxiliary samples.
    #[default]
    Both,
}

/// The features of one task.
#[non_exhaustive]
pub struct Task<'a> {
    /// The task's samples: labels, features after the task and, unless it is the first task, before it.
    pub current: &'a mut dyn FeatureSource,
    /// Other samples before and after the task; their labels do not matter.
    pub auxiliary: Option<&'a mut dyn FeatureSource>,
    /// The user's name of the task.
    pub name: Option<String>,
    /// The user's name of the model after the task.
    pub model: Option<String>,
}

/// What a state remembers of a finished task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskRecord {
    /// Its number, from 1.
    pub task: u64,
    /// The user's name of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The labels of its samples, rising.
    pub labels: Vec<u32>,
}

impl<'a> Task<'a> {
    /// A task with these samples: labels, features after the task and, unless it is the first task, before it.
    pub fn new(current: &'a mut dyn FeatureSource) -> Self {
        Self { current, auxiliary: None, name: None, model: None }
    }

    /// With other samples before and after the task, to learn from how features move.
    #[must_use]
    pub fn with_auxiliary(self, auxiliary: &'a mut dyn FeatureSource) -> Self {
        Self { auxiliary: Some(auxiliary), ..self }
    }

    /// With the user's name of the task.
    #[must_use]
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// With the user's name of the model after the task.
    #[must_use]
    pub fn with_model(self, model: impl Into<String>) -> Self {
        Self { model: Some(model.into()), ..self }
    }

    /// Fingerprints of the arrays that its sources have read.
    fn fingerprints(&self) -> Vec<Fingerprint> {
        let auxiliary = self.auxiliary.iter().flat_map(|source| source.fingerprints());
        self.current.fingerprints().into_iter().chain(auxiliary).collect()
    }

    /// The files that its sources read.
    fn files(&self) -> Vec<PathBuf> {
        let auxiliary = self.auxiliary.iter().flat_map(|source| source.files());
        self.current.files().into_iter().chain(auxiliary).collect()
    }
}

impl std::fmt::Debug for Task<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let auxiliary = self.auxiliary.as_ref().map(|source| source.name());
        f.debug_struct("Task").field("current", &self.current.name()).field("auxiliary", &auxiliary).finish()
    }
}

/// A sequence of tasks and what its variants know after them: for each variant the statistics of all classes so far, as
/// its method moved them.
///
/// Variants share the classes that are the same in them, such as those of the latest task. A task that fails changes
/// nothing. [`save`](Self::save) replaces its file only when the new one is complete, so a run that is killed continues
/// from the last finished task. [`finish_task_in`](Self::finish_task_in) works on a file whose classes need not fit in
/// memory.
///
/// ```
/// use residua_compensate::*;
/// use residua_memory::Budget;
///
/// # fn main() -> Result<()> {
/// let budget = Budget::new(64 << 20);
/// let mut state = TaskSequence::new(2, [Variant::SeqFt, Variant::Linear]);
/// let first = [0.0, 1.0, 0.5, 1.5, 4.0, 5.0, 4.5, 4.0f32];
/// let mut task = MemorySource::new(2, &first, Some(&first), Some(&[0, 0, 1, 1]))?;
/// state.finish_task(Task::new(&mut task), &budget)?;
///
/// // The second task doubles every feature.
/// let before = [1.0, 0.0, 0.0, 2.0, 3.0, 1.0, 5.0, 2.0f32];
/// let after = before.map(|v| 2.0 * v);
/// let mut task = MemorySource::new(2, &before, Some(&after), Some(&[2, 2, 3, 3]))?;
/// state.finish_task(Task::new(&mut task), &budget)?;
///
/// let mean = |name| state.statistics(name).unwrap().get(1).unwrap().mean()[0];
/// assert_eq!(mean("SeqFT"), 4.25);
/// assert!((mean("SeqFT + linear") - 8.5).abs() < 0.01);
/// # Ok(())
/// # }
/// ```
pub struct TaskSequence {
    dim: usize,
    /// The pairs that methods learn from.
    pub pairs: Pairs,
    /// How new classes are stored.
    pub storage: Storage,
    /// The precision of new classes; moved classes keep theirs.
    pub precision: Precision,
    /// Whether a task may have the samples of a finished one, which then count twice.
    pub repeats: bool,
    /// Whether [`finish_task_in`](Self::finish_task_in) keeps the state before the task beside the new one, as
    /// [`previous_path`].
    pub keep_previous: bool,
    /// Whether a variant's old classes stay as they are where its method is no help on pairs that are left out
    /// ([`Compensator::keep_if_worse`]).
    pub keep_if_worse: bool,
    done: Done,
    variants: Vec<State>,
}

/// A variant and its statistics.
struct State {
    name: String,
    /// `None`: old classes stay as they are.
    method: Option<Box<dyn Method>>,
    statistics: ClassStatistics,
    /// Where it began, if not with the first task.
    start: Option<Start>,
}

impl std::fmt::Debug for TaskSequence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.names().collect();
        f.debug_struct("TaskSequence").field("tasks", &self.tasks()).field("variants", &names).finish()
    }
}

impl TaskSequence {
    /// A sequence without a task yet, of features of dimension `dim`. Each variant's method has its default settings.
    pub fn new(dim: usize, variants: impl IntoIterator<Item = Variant>) -> Self {
        let mut new = Self {
            dim,
            pairs: Pairs::default(),
            storage: Storage::default(),
            precision: Precision::default(),
            repeats: false,
            keep_previous: false,
            keep_if_worse: false,
            done: Done::default(),
            variants: Vec::new(),
        };
        for variant in variants {
            new.add(variant.name(), variant.method());
        }
        new
    }

    /// Adds a variant with this method, or replaces the method of the variant with that name. A variant that is added
    /// after some tasks takes over the statistics of the first method, and its own method moves them from then on.
    #[must_use]
    pub fn with_method(mut self, name: &str, method: Option<Box<dyn Method>>) -> Self {
        self.add(name, method);
        self
    }

    fn add(&mut self, name: &str, method: Option<Box<dyn Method>>) {
        match self.variants.iter_mut().find(|state| state.name == name) {
            Some(state) => state.method = method,
            None => {
                let statistics = ClassStatistics::new(self.dim);
                self.variants.push(State { name: name.into(), method, statistics, start: None });
                self.start_new(self.variants.len() - 1);
            }
        }
    }

    /// The number of the variant whose statistics one that is added after some tasks takes over, among the first `known`.
    fn origin(&self, known: usize) -> Option<usize> {
        let known = self.variants.get(..known)?;
        known.iter().position(|state| state.method.is_some()).or(if known.is_empty() {
            None
        } else {
            Some(0)
        })
    }

    /// Lets variants from the number `known` on begin with the next task.
    fn start_new(&mut self, known: usize) {
        if self.tasks() == 0 {
            return;
        }
        let Some(origin) = self.origin(known).and_then(|at| self.variants.get(at)) else { return };
        let (from, statistics) = (origin.name.clone(), origin.statistics.clone());
        let task = self.tasks() + 1;
        for state in self.variants.iter_mut().skip(known) {
            state.statistics = statistics.clone();
            state.start = Some(Start { task, from: from.clone() });
        }
    }

    /// The feature dimension d.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Tasks finished so far.
    pub fn tasks(&self) -> u64 {
        self.done.tasks
    }

    /// Names of the variants, in the order in which they were added.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variants.iter().map(|state| state.name.as_str())
    }

    /// The statistics of a variant; `None` if there is no such variant.
    pub fn statistics(&self, name: &str) -> Option<&ClassStatistics> {
        self.variants.iter().find(|state| state.name == name).map(|state| &state.statistics)
    }

    /// Finishes a task. Fits every variant's method on the task's pairs, moves the variant's old classes by it, and adds
    /// the task's classes, collected from the features after it. A class that comes again is merged with its old
    /// statistics.
    ///
    /// # Errors
    /// When a source fails, lacks labels or features, the samples are those of a finished task, or the budget has no
    /// room. Then nothing has changed.
    pub fn finish_task(&mut self, mut task: Task<'_>, budget: &Budget) -> Result<()> {
        let new = self.collect(&mut task, 0, 0, budget)?;
        let samples = self.fingerprint(&new, &self.done)?;
        // The state compares samples by itself, and may be asked not to.
        let new = new.with_tag(Tag::default());
        let mut done = Vec::with_capacity(self.variants.len());
        for state in &self.variants {
            let moved = match &state.method {
                Some(method) if !state.statistics.is_empty() => {
                    let fitted = self.fit(&**method, &mut task, budget)?;
                    fitted.apply(&state.statistics.clone().with_tag(Tag::default()), budget)?
                }
                _ => state.statistics.clone(),
            };
            done.push(moved.with_tag(Tag::default()).merge(&new, budget)?);
        }
        let after = self.after(&self.done, &task, &new, samples)?;
        for (state, statistics) in self.variants.iter_mut().zip(done) {
            let tag = if state.method.is_some() { after.tag.clone() } else { after.tag.samples_alone() };
            state.statistics = statistics.with_tag(tag);
        }
        self.done = after;
        Ok(())
    }

    /// The fingerprint of a task's samples, which may have to differ from those of the tasks that are finished.
    fn fingerprint(&self, new: &ClassStatistics, done: &Done) -> Result<String> {
        let fingerprint = samples::fingerprint(new);
        if !self.repeats {
            samples::expect_new(&fingerprint, &done.samples, done.tasks)?;
        }
        Ok(fingerprint)
    }

    /// The tasks after this one, whose sources were read; an error if its features cannot be those of the next task.
    fn after(&self, done: &Done, task: &Task<'_>, new: &ClassStatistics, samples: String) -> Result<Done> {
        let (pairs, model) = (task.fingerprints(), task.model.as_deref());
        let own = task.current.fingerprints().into_iter().map(|pair| pair.after.unwrap_or(pair.before));
        let mut next = done.clone();
        next.tag = match done.tasks {
            0 => Tag::collected(own).with_model(task.model.clone()),
            _ if self.repeats => done.tag.clone(),
            _ => done.tag.moved(&pairs, model)?.with_task(own),
        };
        next.tasks = next.tasks.saturating_add(1);
        next.samples.push(samples);
        let labels = new.iter().map(|(label, _)| label).collect();
        next.records.push(TaskRecord { task: next.tasks, name: task.name.clone(), labels });
        Ok(next)
    }

    /// Statistics of the task's classes, each of which will then take `saved` bytes more, and what follows `work` bytes.
    fn collect(
        &self,
        task: &mut Task<'_>,
        saved: u64,
        work: u64,
        budget: &Budget,
    ) -> Result<ClassStatistics> {
        same_dimension("the task's features", task.current.dim(), self.dim)?;
        let options = StatisticsOptions::default().with_side(Side::After).with_storage(self.storage);
        let options = options.with_precision(self.precision);
        ClassStatistics::collect_to(task.current, &options, saved, work, budget)
    }

    /// Fits a method on the chosen pairs.
    fn fit(&self, method: &dyn Method, task: &mut Task<'_>, budget: &Budget) -> Result<Box<dyn Compensator>> {
        let mut fitted = self.with_pairs(task, |pairs| method.fit(pairs, budget))?;
        if self.keep_if_worse {
            fitted.keep_if_worse();
        }
        Ok(fitted)
    }

    /// Hands the chosen pairs to `f`.
    fn with_pairs<T>(
        &self,
        task: &mut Task<'_>,
        f: impl FnOnce(&mut dyn FeatureSource) -> Result<T>,
    ) -> Result<T> {
        match (self.pairs, &mut task.auxiliary) {
            (Pairs::Current, _) | (Pairs::Both, None) => f(task.current),
            (Pairs::Auxiliary, Some(auxiliary)) => f(*auxiliary),
            (Pairs::Auxiliary, None) => Err(CompensateError::Missing("auxiliary features")),
            (Pairs::Both, Some(auxiliary)) => {
                let sources: Vec<Box<dyn FeatureSource + '_>> =
                    vec![Box::new(&mut *task.current), Box::new(&mut **auxiliary)];
                f(&mut ChainSource::new(sources)?.without_labels())
            }
        }
    }
}
