//! The state of tasks in the output of commands.

use residua::compensate::tasks::SequenceReader;
use serde::Serialize;

use crate::output::{count, number_of, table};

/// The state after the tasks so far.
#[derive(Serialize)]
pub(crate) struct State {
    /// Tasks finished so far.
    tasks: u64,
    dim: usize,
    variants: Vec<Variant>,
}

/// The classes of one method.
#[derive(Serialize)]
struct Variant {
    name: String,
    classes: usize,
    samples: u64,
}

impl State {
    pub(crate) fn new(saved: &SequenceReader) -> Self {
        let variant = |name: &str| {
            let sums = saved.counts(name).fold((0, 0u64), |(classes, samples), (_, count)| {
                (classes + 1, samples.saturating_add(count))
            });
            Variant { name: name.to_owned(), classes: sums.0, samples: sums.1 }
        };
        Self { tasks: saved.tasks(), dim: saved.dim(), variants: saved.names().map(variant).collect() }
    }

    pub(crate) fn text(&self) -> String {
        let mut table = table(["variant", "classes", "samples"]);
        for Variant { name, classes, samples } in &self.variants {
            table.add_row([name.clone(), classes.to_string(), count(*samples)]);
        }
        format!("{}, d = {}\n\n{table}", number_of(self.tasks, "finished task"), self.dim)
    }
}
