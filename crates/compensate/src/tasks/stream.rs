//! A task from file to file.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use residua_format::file::{FileError, check_output};
use residua_memory::Budget;

use super::file::{
    Done, Overview, STORED, SequenceReader, SequenceWriter, Start, WRITTEN_LABEL, written_bytes,
};
use super::previous::keep;
use super::{State, Task, TaskSequence};
use crate::compensator::{Checks, Compensator, LabelChecks, Warning};
use crate::statistics::{
    ClassGaussian, ClassStatistics, Covariance, StatisticsReader, WRITING, most_class_bytes,
};
use crate::tables::WRITTEN_CLASS;
use crate::{Result, Tag};

impl TaskSequence {
    /// [`resume`](Self::resume), [`finish_task`](Self::finish_task) and [`save`](Self::save) in one, with the same bits for
    /// every class. Holds all classes of the task, but no more old classes than it works on at a time. If there is no
    /// file, the task is the first one. The statistics in `self` do not matter.
    ///
    /// # Errors
    /// As those three; also when a source reads the file. Then the file has not changed. Where several jobs may work on
    /// one file, hold its [`SequenceLock`](super::SequenceLock).
    pub fn finish_task_in(
        &self,
        path: impl AsRef<Path>,
        task: Task<'_>,
        budget: &Budget,
    ) -> Result<SequenceReader> {
        self.prepare_task_in(path, task, budget)?.commit(budget)
    }

    /// As [`finish_task_in`](Self::finish_task_in), but for the replacement of the file: that is
    /// [`commit`](PreparedTask::commit). What is dropped before leaves no trace.
    ///
    /// # Errors
    /// As [`finish_task_in`](Self::finish_task_in).
    pub fn prepare_task_in(
        &self,
        path: impl AsRef<Path>,
        mut task: Task<'_>,
        budget: &Budget,
    ) -> Result<PreparedTask> {
        let path = path.as_ref();
        check_output(path, task.files().iter().map(|file| &**file))?;
        // A file that cannot be accessed must not count as missing.
        let there = path.try_exists().map_err(FileError::io(path, "look for"))?;
        let saved = if there { Some(self.open(path, budget)?) } else { None };
        let known = saved.as_ref().map_or(0, |saved| saved.names().count());
        let done = saved.as_ref().map_or_else(Done::default, SequenceReader::done);
        // Where the statistics of a variant are that the file lacks.
        let origin = self.origin(known).and_then(|at| self.variants.get(at));
        let place = |at: usize, state: &State| match origin {
            Some(origin) if at >= known => {
                (origin.name.clone(), Some(Start { task: done.tasks + 1, from: origin.name.clone() }))
            }
            _ => (
                state.name.clone(),
                saved.as_ref().and_then(|saved| saved.overview().start(&state.name).cloned()),
            ),
        };
        let counts =
            |(at, state)| saved.as_ref().map_or(0, |saved| saved.counts(&place(at, state).0).count());
        let old = self.variants.iter().enumerate().map(counts).sum::<usize>();
        let room = budget.reserve(written_bytes(old, old), WRITING)?;
        let written = WRITTEN_CLASS + WRITTEN_LABEL * self.variants.len() as u64;
        let work = match &saved {
            Some(saved) => self.work(saved, &mut task, budget)?,
            None => 0,
        };
        let new = self.collect(&mut task, written, work, budget)?;
        drop(room);
        let samples = self.fingerprint(&new, &done)?;
        let after = self.after(&done, &task, &new, samples.clone())?;
        let stale = |name: &str| -> Result<Option<StatisticsReader>> {
            let Some(saved) = &saved else { return Ok(None) };
            let stale = saved.statistics(name, budget)?;
            // A repeated task has the features of its first time.
            Ok(stale.map(|stale| if self.repeats { stale.with_tag(Tag::default()) } else { stale }))
        };
        let (classes, labels) = (old + new.len(), old + new.len() * self.variants.len());
        let file = SequenceWriter::create(path, self.dim, after, classes, labels, budget)?;
        let mut warnings = Vec::new();
        let mut output = Output { file, new: &new, budget, kept: HashMap::new(), fresh: HashMap::new() };
        for (at, state) in self.variants.iter().enumerate() {
            let mut numbers = BTreeMap::new();
            let (name, start) = place(at, state);
            match (stale(&name)?, &state.method) {
                (Some(stale), Some(method)) if !stale.is_empty() => {
                    let fitted = self.fit(&**method, &mut task, budget)?;
                    let found = self.moved(&stale, &*fitted, &new, budget, &mut |label, moved| {
                        numbers.insert(label, output.old(label, moved)?);
                        Ok(())
                    })?;
                    warnings.extend(found.into_iter().map(|warning| (state.name.clone(), warning)));
                }
                (Some(stale), _) => numbers = output.keep(&stale)?,
                (None, _) => {}
            }
            output.add_new(&mut numbers)?;
            output.file.variant(&state.name, numbers, start);
        }
        let mut file = output.file;
        // Auxiliary samples were read by now.
        file.set_tag(self.after(&done, &task, &new, samples)?.tag);
        let previous = self.keep_previous && saved.is_some();
        Ok(PreparedTask { file, path: path.to_owned(), previous, warnings })
    }

    /// Hands the old classes of a variant, as they are moved, to `done`; returns what may be wrong with them.
    fn moved(
        &self,
        stale: &StatisticsReader,
        fitted: &dyn Compensator,
        new: &ClassStatistics,
        budget: &Budget,
        done: &mut dyn FnMut(u32, &ClassGaussian) -> Result<()>,
    ) -> Result<Vec<Warning>> {
        let checks = fitted.uncertainty().map(|known| Checks::new(known, self.keep_if_worse, budget));
        let (mut checks, mut labels) = (checks.transpose()?, LabelChecks::new(new));
        fitted.apply_each(stale, budget, &mut |label, old, moved| {
            checks.iter_mut().for_each(|checks| checks.add(label, old, moved));
            labels.add(label, moved);
            done(label, moved)
        })?;
        let mut warnings = labels.finish();
        if let Some(mut checks) = checks {
            new.iter().for_each(|(label, class)| checks.add_class(label, class));
            warnings.extend(checks.finish(stale.spread_if_room(budget)?.as_ref(), budget)?);
        }
        Ok(warnings)
    }

    /// Bytes that moving and merging the old classes of a state takes, beside the task's classes.
    fn work(&self, saved: &SequenceReader, task: &mut Task<'_>, budget: &Budget) -> Result<u64> {
        let class = most_class_bytes(self.dim);
        let mut most = 2 * Covariance::dense_bytes(self.dim) + 3 * class;
        for state in &self.variants {
            // A variant that the file lacks takes over statistics of others.
            let (Some(method), Some(stale)) = (&state.method, saved.statistics(&state.name, budget)?) else {
                continue;
            };
            let moving = self.with_pairs(task, |pairs| method.bytes_for(pairs, &stale))?;
            most = most.max(moving.saturating_add(STORED * stale.len() as u64 + class));
        }
        Ok(most)
    }
}

/// A task whose new state is written, but not in its place yet.
pub struct PreparedTask {
    file: SequenceWriter,
    path: PathBuf,
    /// Whether to keep the old state beside the new one.
    previous: bool,
    warnings: Vec<(String, Warning)>,
}

impl std::fmt::Debug for PreparedTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreparedTask").field("path", &self.path).finish_non_exhaustive()
    }
}

impl PreparedTask {
    /// What the new state holds.
    pub fn overview(&self) -> &Overview {
        self.file.overview()
    }

    /// What may be wrong, each with the name of its variant.
    pub fn warnings(&self) -> &[(String, Warning)] {
        &self.warnings
    }

    /// Replaces the old state with the new one.
    ///
    /// # Errors
    /// When the file cannot be written. The old state stays.
    pub fn commit(self, budget: &Budget) -> Result<SequenceReader> {
        if self.previous {
            keep(&self.path)?;
        }
        self.file.finish()?;
        SequenceReader::open(&self.path, budget)
    }
}

/// The file that is written, and the classes in it that variants share.
struct Output<'a> {
    file: SequenceWriter,
    /// The task's classes.
    new: &'a ClassStatistics,
    budget: &'a Budget,
    /// New numbers of old classes that stay as they were, by their old numbers.
    kept: HashMap<u64, usize>,
    /// Numbers of the task's classes that are merged with no old class, by label.
    fresh: HashMap<u32, usize>,
}

impl Output<'_> {
    /// Writes an old class, merged with the task's class of that label; returns its number.
    fn old(&mut self, label: u32, class: &ClassGaussian) -> Result<usize> {
        match self.new.get(label) {
            Some(new) => self.file.class(&class.merge(new, self.budget)?),
            None => self.file.class(class),
        }
    }

    /// Writes the old classes of a variant without a method; returns their numbers.
    fn keep(&mut self, stale: &StatisticsReader) -> Result<BTreeMap<u32, usize>> {
        let mut numbers = BTreeMap::new();
        for (label, stored) in stale.stored() {
            let merged = self.new.get(label).is_some();
            let number = match self.kept.get(&stored.number) {
                Some(&number) if !merged => number,
                _ => {
                    let class = stale.read_stored(stored, self.budget)?;
                    self.old(label, &class)?
                }
            };
            if !merged {
                self.kept.insert(stored.number, number);
            }
            numbers.insert(label, number);
        }
        Ok(numbers)
    }

    /// Writes those of the task's classes that a variant does not have yet.
    fn add_new(&mut self, numbers: &mut BTreeMap<u32, usize>) -> Result<()> {
        for (label, class) in self.new.iter() {
            if numbers.contains_key(&label) {
                continue;
            }
            let number = match self.fresh.get(&label) {
                Some(&number) => number,
                None => self.file.class(class)?,
            };
            self.fresh.insert(label, number);
            numbers.insert(label, number);
        }
        Ok(())
    }
}
