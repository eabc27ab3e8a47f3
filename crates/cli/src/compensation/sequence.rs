//! The evaluation of a sequence of tasks: accuracy after every task with statistics of old classes that are stale, moved
//! task after task, or true, and how far the means are off.
//!
//! | tensor, t = 1, 2, .. | what |
//! |---|---|
//! | `task_t_before`, `task_t_after` `[n, d]`, `task_t_y` `[n]` | the task's samples, before and after it; none before the first |
//! | `aux_t_before`, `aux_t_after` `[n, d]` | auxiliary inputs before and after the task, if there are any |
//! | `all_t` `[n, d]`, `all_t_y` `[n]` | samples of every class so far, after the task: the truth |
//! | `test_t` `[n, d]`, `test_t_y` `[n]` | test samples of every class so far, after the task |

use std::path::Path;

use residua::compensate::{ClassStatistics, StatisticsOptions};
use residua::format::file::Checkpoint;
use residua::memory::Budget;
use residua::split::Progress;
use serde::Serialize;

use super::arrays::{ArrayRef, Arrays};
use super::classifiers::Settings;
use super::features::Features;
use super::methods::{MethodArg, ModeArg};
use super::protocol::{Row, measure};
use crate::failure::{Failure, Result};
use crate::progress::Bar;

/// The settings of an evaluation.
pub(crate) struct Sequence<'a> {
    pub(crate) file: &'a Path,
    pub(crate) methods: &'a [MethodArg],
    pub(crate) mode: ModeArg,
    pub(crate) noise: f64,
    /// Whether to learn from auxiliary pairs, too.
    pub(crate) auxiliary: bool,
}

/// What was found after a task.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    /// The task, from 1.
    pub(crate) task: usize,
    /// Accuracies; `old` are the classes of earlier tasks.
    #[serde(flatten)]
    pub(crate) row: Row,
    /// The average squared error of the means of classes that came with each task, from the first on.
    pub(crate) errors: Vec<f64>,
}

/// One way to get statistics of old classes.
struct Way {
    name: String,
    method: Option<MethodArg>,
    statistics: ClassStatistics,
}

impl Sequence<'_> {
    /// Runs the evaluation.
    pub(crate) fn run(&self, budget: &Budget, bar: &Bar) -> Result<Vec<Step>> {
        let tensors = Checkpoint::open_within(self.file, budget)?;
        let has = |name: &str| tensors.tensor(name).is_some();
        let tasks = (1..).take_while(|task| has(&format!("task_{task}_after"))).count();
        if tasks == 0 {
            return Err(Failure::input(self.file, "no tensor task_1_after: it holds no sequence of tasks"));
        }
        bar.begin_steps("evaluating", tasks);
        let quiet = Bar::new(true);
        let collect = |features: String, labels: String| -> Result<ClassStatistics> {
            let mut source = Features::open(vec![self.labelled(&features, &labels)], "", budget, &quiet)?;
            Ok(ClassStatistics::collect(&mut source, &StatisticsOptions::default(), budget)?)
        };
        // Which classes came with which task.
        let (mut ways, mut came): (Vec<Way>, Vec<Vec<u32>>) = (Vec::new(), Vec::new());
        let mut steps = Vec::new();
        for task in 1..=tasks {
            bar.tensor(&format!("task {task}"));
            let new = collect(format!("task_{task}_after"), format!("task_{task}_y"))?;
            if ways.is_empty() {
                let names = self.methods.iter().map(|method| Some(*method));
                ways = std::iter::once(None)
                    .chain(names)
                    .map(|method| Way {
                        name: method
                            .map_or("stale", |method| method.method(self.mode, self.noise).name())
                            .into(),
                        method,
                        statistics: ClassStatistics::new(new.dim()),
                    })
                    .collect();
            }
            for way in &mut ways {
                let moved = match way.method.filter(|_| task > 1) {
                    Some(method) => self.moved(
                        method,
                        task,
                        &way.statistics,
                        has(&format!("aux_{task}_after")),
                        budget,
                        &quiet,
                    )?,
                    None => way.statistics.clone(),
                };
                // The stale ones are in the spaces of all tasks: their tags do not fit together.
                way.statistics = moved
                    .with_tag(Default::default())
                    .merge(&new.clone().with_tag(Default::default()), budget)?;
            }
            let is_new = |label: &u32| came.iter().flatten().all(|known| known != label);
            came.push(new.iter().map(|(label, _)| label).filter(is_new).collect());
            let truth = collect(format!("all_{task}"), format!("all_{task}_y"))?;
            let latest = came.last().cloned().unwrap_or_default();
            let all = ways.iter().map(|way| (way.name.as_str(), &way.statistics)).chain([("true", &truth)]);
            for (name, statistics) in all {
                let errors = came.iter().map(|labels| error(labels, statistics, &truth)).collect::<Vec<_>>();
                let test = self.labelled(&format!("test_{task}"), &format!("test_{task}_y"));
                let is_old = |label: u32| !latest.contains(&label);
                let (rows, _) =
                    measure(name, statistics, &is_old, Settings::default(), test, budget, &quiet)?;
                steps.extend(rows.into_iter().map(|row| Step { task, row, errors: errors.clone() }));
            }
            bar.advance(1);
        }
        bar.end();
        Ok(steps)
    }

    fn moved(
        &self,
        method: MethodArg,
        task: usize,
        statistics: &ClassStatistics,
        auxiliary: bool,
        budget: &Budget,
        bar: &Bar,
    ) -> Result<ClassStatistics> {
        let pairs = |name: &str| Arrays {
            before: self.tensor(&format!("{name}_{task}_before")),
            after: Some(self.tensor(&format!("{name}_{task}_after"))),
            labels: None,
        };
        let mut parts = vec![pairs("task")];
        if self.auxiliary && auxiliary {
            parts.push(pairs("aux"));
        }
        let mut source = Features::open(parts, "", budget, bar)?;
        source.expect_dim(statistics.dim(), "the old classes")?;
        let fitted = method.method(self.mode, self.noise).fit(&mut source, budget)?;
        Ok(fitted.apply(statistics, budget)?)
    }

    fn tensor(&self, name: &str) -> ArrayRef {
        ArrayRef::tensor(self.file, name)
    }

    fn labelled(&self, features: &str, labels: &str) -> Arrays {
        Arrays { before: self.tensor(features), after: None, labels: Some(self.tensor(labels)) }
    }
}

/// The average squared distance between the means of these classes.
fn error(labels: &[u32], found: &ClassStatistics, truth: &ClassStatistics) -> f64 {
    let distances = labels
        .iter()
        .filter_map(|&label| Some((found.get(label)?.mean() - truth.get(label)?.mean()).norm_squared()));
    let (sum, count) = distances.fold((0.0, 0u32), |(sum, count), distance| (sum + distance, count + 1));
    sum / f64::from(count.max(1))
}
