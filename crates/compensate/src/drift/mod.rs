//! Class statistics of a model that is tuned task after task.

mod file;
mod stream;
mod variant;

use residua_memory::Budget;

pub use file::DriftReader;
pub use variant::Variant;

use crate::compensator::{Compensator, Method};
use crate::error::same_dimension;
use crate::source::{ChainSource, FeatureSource, Side};
use crate::statistics::{ClassStatistics, Precision, StatisticsBuilder, Storage};
use crate::{CompensateError, Result};

/// Whose features before and after a task a compensator learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pairs {
    /// The task's own samples.
    Current,
    /// Samples of other data, seen by both models.
    Auxiliary,
    /// Both, as far as there is auxiliary data.
    #[default]
    Both,
}

/// The features of one task.
pub struct Task<'a> {
    /// The task's samples: labels, features after, and features before unless it is the first task.
    pub current: &'a mut dyn FeatureSource,
    /// Other samples before and after the task; labels are not looked at.
    pub auxiliary: Option<&'a mut dyn FeatureSource>,
}

/// What the variants know after some tasks: for each of them the statistics of all classes seen so far, as its
/// method moved them.
///
/// Classes that two variants hold alike, such as those of the latest task, are held once. A task that fails
/// leaves everything as it was, and [`save`](Self::save) replaces its file when the new one is complete, so
/// that a run that is killed goes on from the last finished task. [`finish_task_in`](Self::finish_task_in) does all that
/// to a file whose classes need not fit in memory.
///
/// ```
/// use residua_compensate::*;
/// use residua_memory::Budget;
///
/// # fn main() -> Result<()> {
/// let budget = Budget::new(64 << 20);
/// let mut state = DriftCompensator::new(2, [Variant::SeqFt, Variant::Linear]);
/// let first = [0.0, 1.0, 0.5, 1.5, 4.0, 5.0, 4.5, 4.0f32];
/// let mut task = MemorySource::new(2, &first, Some(&first), Some(&[0, 0, 1, 1]))?;
/// state.finish_task(Task { current: &mut task, auxiliary: None }, &budget)?;
///
/// // The second task doubles every feature.
/// let before = [1.0, 0.0, 0.0, 2.0, 3.0, 1.0, 5.0, 2.0f32];
/// let after = before.map(|v| 2.0 * v);
/// let mut task = MemorySource::new(2, &before, Some(&after), Some(&[2, 2, 3, 3]))?;
/// state.finish_task(Task { current: &mut task, auxiliary: None }, &budget)?;
///
/// let mean = |name| state.statistics(name).unwrap().get(1).unwrap().mean()[0];
/// assert_eq!(mean("SeqFT"), 4.25);
/// assert!((mean("SeqFT + linear") - 8.5).abs() < 0.01);
/// # Ok(())
/// # }
/// ```
pub struct DriftCompensator {
    dim: usize,
    tasks: u64,
    /// Which pairs the methods learn from.
    pub pairs: Pairs,
    /// How new classes are stored.
    pub storage: Storage,
    /// How precise new classes are stored; moved ones stay as precise as they were.
    pub precision: Precision,
    variants: Vec<State>,
}

/// A variant and what it knows.
struct State {
    name: String,
    /// None: old classes stay as they are.
    method: Option<Box<dyn Method>>,
    statistics: ClassStatistics,
}

impl std::fmt::Debug for DriftCompensator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.names().collect();
        f.debug_struct("DriftCompensator").field("tasks", &self.tasks).field("variants", &names).finish()
    }
}

impl DriftCompensator {
    /// No task yet, of features of dimension `dim`; each variant's method in its default mode.
    pub fn new(dim: usize, variants: impl IntoIterator<Item = Variant>) -> Self {
        let mut new = Self {
            dim,
            tasks: 0,
            pairs: Pairs::default(),
            storage: Storage::default(),
            precision: Precision::default(),
            variants: Vec::new(),
        };
        for variant in variants {
            new.add(variant.name(), variant.method());
        }
        new
    }

    /// Adds a variant with a method of its own settings, or replaces the method of the one of that name. A
    /// variant that comes after some tasks starts from nothing.
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
                self.variants.push(State { name: name.into(), method, statistics });
            }
        }
    }

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
        self.variants.iter().map(|state| state.name.as_str())
    }

    /// What a variant knows; `None` if there is no such variant.
    pub fn statistics(&self, name: &str) -> Option<&ClassStatistics> {
        self.variants.iter().find(|state| state.name == name).map(|state| &state.statistics)
    }

    /// Takes in a task: every variant's old classes are moved by its method, fitted on this task's pairs, and
    /// the task's classes are added, collected from the features after it. A class that comes again is merged
    /// with what is known of it.
    ///
    /// # Errors
    /// When a source fails, lacks labels or features, or the budget has no room. Nothing has changed then.
    pub fn finish_task(&mut self, mut task: Task<'_>, budget: &Budget) -> Result<()> {
        let new = self.collect(&mut task, budget)?;
        let mut done = Vec::with_capacity(self.variants.len());
        for state in &self.variants {
            let moved = match &state.method {
                Some(method) if !state.statistics.is_empty() => {
                    let fitted = self.fit(&**method, &mut task, budget)?;
                    fitted.apply(&state.statistics, budget)?
                }
                _ => state.statistics.clone(),
            };
            done.push(moved.merge(&new, budget)?);
        }
        for (state, statistics) in self.variants.iter_mut().zip(done) {
            state.statistics = statistics;
        }
        self.tasks += 1;
        Ok(())
    }

    /// Statistics of the task's classes.
    fn collect(&self, task: &mut Task<'_>, budget: &Budget) -> Result<ClassStatistics> {
        same_dimension("the task's features", task.current.dim(), self.dim)?;
        let mut builder = StatisticsBuilder::new(self.dim, budget);
        builder.add_source(task.current, Side::After)?;
        let new = builder.finish(self.storage, self.precision)?;
        if new.is_empty() { Err(CompensateError::Empty("the task")) } else { Ok(new) }
    }

    /// Fits a method on the pairs that are wanted.
    fn fit(&self, method: &dyn Method, task: &mut Task<'_>, budget: &Budget) -> Result<Box<dyn Compensator>> {
        match (self.pairs, &mut task.auxiliary) {
            (Pairs::Current, _) | (Pairs::Both, None) => method.fit(task.current, budget),
            (Pairs::Auxiliary, Some(auxiliary)) => method.fit(*auxiliary, budget),
            (Pairs::Auxiliary, None) => Err(CompensateError::Missing("auxiliary features")),
            (Pairs::Both, Some(auxiliary)) => {
                method.fit(&mut ChainSource::new(task.current, *auxiliary)?, budget)
            }
        }
    }
}
