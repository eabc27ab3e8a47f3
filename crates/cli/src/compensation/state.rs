//! The state of tasks in the output of commands.

use residua::compensate::Variant as Known;
use residua::compensate::tasks::Overview;
use serde::Serialize;

use super::errors::Errors;
use crate::escape;
use crate::output::{count, number_of, table};

/// The state after the tasks so far.
#[derive(Serialize)]
pub(crate) struct State {
    /// Tasks finished so far.
    tasks: u64,
    dim: usize,
    /// The user's name of the model.
    model: Option<String>,
    variants: Vec<Variant>,
    /// What the state remembers of its tasks.
    history: Vec<Task>,
}

/// The classes of one method.
#[derive(Serialize)]
struct Variant {
    name: String,
    classes: usize,
    samples: u64,
    /// The average of the estimated squared errors of means.
    mean_error: f64,
    #[serde(flatten)]
    errors: Errors,
    /// The first task that the method has moved classes for, if it was added later.
    since: Option<u64>,
    /// The variant whose statistics it took over then.
    from: Option<String>,
}

#[derive(Serialize)]
struct Task {
    task: u64,
    name: Option<String>,
    /// Classes that the task had samples of.
    classes: usize,
}

impl State {
    pub(crate) fn new(saved: &Overview) -> Self {
        let variant = |name: &str| {
            let sums = saved.counts(name).fold((0, 0u64), |(classes, samples), (_, count)| {
                (classes + 1, samples.saturating_add(count))
            });
            let (since, from) = saved.start(name).map(|start| (start.task, start.from.clone())).unzip();
            let mut errors = Errors::default();
            saved.errors(name).for_each(|(label, error)| errors.add(label, error));
            let (classes, samples, mean_error) = (sums.0, sums.1, errors.mean());
            Variant { name: name.to_owned(), classes, samples, mean_error, errors, since, from }
        };
        let task = |record: &residua::compensate::tasks::TaskRecord| Task {
            task: record.task,
            name: record.name.clone(),
            classes: record.labels.len(),
        };
        Self {
            tasks: saved.tasks(),
            dim: saved.dim(),
            model: saved.tag().model().map(str::to_owned),
            variants: saved.names().map(variant).collect(),
            history: saved.records().iter().map(task).collect(),
        }
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}, d = {}", number_of(self.tasks, "finished task"), self.dim);
        if let Some(model) = &self.model {
            text += &format!(", model {}", escape::line(model));
        }
        let mut rows =
            table(["variant", "classes", "samples", "squared error of means, largest (estimates)"]);
        for Variant { name, classes, samples, errors, .. } in &self.variants {
            let error = errors.text().unwrap_or_default();
            rows.add_row([name.clone(), classes.to_string(), count(*samples), error]);
        }
        text += &format!("\n\n{rows}\n\n{EXPLANATION}");
        for Variant { name, since, from, .. } in &self.variants {
            if let (Some(since), Some(from)) = (since, from) {
                text += &format!("\n{name} moves classes from task {since} on; before that it is {from}.");
            }
        }
        if self.history.iter().any(|task| task.name.is_some()) {
            let mut rows = table(["task", "name", "classes"]);
            for Task { task, name, classes } in &self.history {
                rows.add_row([task.to_string(), name.clone().unwrap_or_default(), classes.to_string()]);
            }
            text += &format!("\n\n{rows}");
        }
        text
    }
}

/// What the names of variants mean.
const EXPLANATION: &str = "SeqFT is sequential fine-tuning alone: old classes stay as they were collected. With a method, it moves \
     them after every task.";

/// The variants of a state, in its order; `None` if this program does not know one of them.
pub(crate) fn known<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<Known>, &'a str> {
    names.map(|name| Known::ALL.into_iter().find(|known| known.name() == name).ok_or(name)).collect()
}
