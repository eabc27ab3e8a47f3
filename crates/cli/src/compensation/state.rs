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
            let counts: Vec<_> = saved.statistics(name).iter().flat_map(|all| all.counts()).collect();
            let samples = counts.iter().map(|(_, count)| count).sum();
            Variant { name: name.to_owned(), classes: counts.len(), samples }
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
