//! How many predictions are right, class by class.

use residua::compensate::tasks::TaskRecord;
use residua::memory::{Budget, Reservation};
use serde::Serialize;

use crate::failure::Result;
use crate::output::{Table, count, table};

/// Classes of a table for people.
const SHOWN: usize = 1000;
/// Bytes of the counts of a class.
const COUNTS: u64 = 16;
/// Bytes of a class in the output.
const SHOWN_CLASS: u64 = 400;

/// Counts of predictions by true label.
pub(crate) struct Correct<'a> {
    /// Labels of the classifier's classes, rising.
    known: &'a [u32],
    /// Right predictions and samples of each.
    counts: Vec<(u64, u64)>,
    /// Samples whose label the classifier does not know.
    pub(crate) unknown: u64,
    _held: Reservation,
}

/// The accuracy of a class or a task.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Accuracy {
    /// The label of a class, or the number of a task.
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<u64>,
    /// The user's name of the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    samples: u64,
    correct: u64,
    /// In percent; null without a sample.
    accuracy: Option<f64>,
}

impl Accuracy {
    fn new(class: Option<u32>, task: Option<&TaskRecord>, (correct, samples): (u64, u64)) -> Self {
        let (task, name) = task.map(|task| (task.task, task.name.clone())).unzip();
        let accuracy = percent(correct, samples);
        Self { class, task, name: name.flatten(), samples, correct, accuracy }
    }
}

/// `None` without a sample.
pub(crate) fn percent(correct: u64, samples: u64) -> Option<f64> {
    (samples > 0).then(|| 100.0 * correct as f64 / samples as f64)
}

impl<'a> Correct<'a> {
    /// Bytes for so many classes. `shown` says whether every class is shown.
    pub(crate) fn bytes(classes: usize, shown: bool) -> u64 {
        (COUNTS + if shown { SHOWN_CLASS } else { 0 }) * classes as u64
    }

    pub(crate) fn new(known: &'a [u32], shown: bool, budget: &Budget) -> Result<Self> {
        let held = budget.reserve(Self::bytes(known.len(), shown), "right predictions by class")?;
        Ok(Self { known, counts: vec![(0, 0); known.len()], unknown: 0, _held: held })
    }

    pub(crate) fn add(&mut self, labels: &[u32], predicted: &[u32]) {
        for (label, found) in labels.iter().zip(predicted) {
            match self.known.binary_search(label).ok().and_then(|at| self.counts.get_mut(at)) {
                Some((correct, samples)) => {
                    *correct += u64::from(label == found);
                    *samples += 1;
                }
                None => self.unknown += 1,
            }
        }
    }

    /// Right predictions, and samples of known classes.
    pub(crate) fn sums(&self) -> (u64, u64) {
        self.counts.iter().fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
    }

    /// Of every class that has a sample.
    pub(crate) fn by_class(&self) -> Vec<Accuracy> {
        let seen = self.known.iter().zip(&self.counts).filter(|(_, counts)| counts.1 > 0);
        seen.map(|(&label, &counts)| Accuracy::new(Some(label), None, counts)).collect()
    }

    /// Of every task: of the classes that it had samples of.
    pub(crate) fn by_task(&self, tasks: &[TaskRecord]) -> Vec<Accuracy> {
        let of = |label: &u32| self.known.binary_search(label).ok().map_or((0, 0), |at| self.counts[at]);
        let sums =
            |task: &TaskRecord| task.labels.iter().map(of).fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        tasks.iter().map(|task| Accuracy::new(None, Some(task), sums(task))).collect()
    }
}

/// A table for people.
pub(crate) fn shown(first: &str, rows: &[Accuracy]) -> Table {
    let named = rows.iter().any(|row| row.name.is_some());
    let mut table = table([if named { "task" } else { first }, "samples", "right", "accuracy"]);
    for Accuracy { class, task, name, samples, correct, accuracy } in rows.iter().take(SHOWN) {
        let number = class.map(u64::from).or(*task).map_or_else(String::new, |number| number.to_string());
        let title = name.as_ref().map_or_else(|| number.clone(), |name| format!("{number}: {name}"));
        let accuracy = accuracy.map_or_else(|| "–".into(), |accuracy| format!("{accuracy:.1} %"));
        table.add_row([title, count(*samples), count(*correct), accuracy]);
    }
    table
}
