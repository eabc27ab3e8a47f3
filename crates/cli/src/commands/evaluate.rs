//! `residua evaluate FILE`.

use std::path::PathBuf;

use crate::args::{BudgetArgs, RunArgs, share};
use crate::compensation::arrays::ArrayRef;
use crate::compensation::classifiers::ClassifierArg;
use crate::compensation::methods::{MethodArg, ModeArg, expect_distinct, expect_noisy};
use crate::compensation::protocol::{Evaluation, Protocol, Row, Stage, Variant};
use crate::compensation::sequence::{Sequence, Step};
use crate::escape;
use crate::failure::Result;
use crate::output::{Table, bytes, count, print, print_json, table};

pub(crate) const EXAMPLE: &str = "\
Example (after residua demo):
  residua evaluate residua-demo/drift.safetensors --variant full

The file holds features [n, d] and labels [n] as tensors: old_before and y_old of old classes; cur_before,
cur_after_VARIANT and y_cur of the task's own samples; old_after_VARIANT, the truth that no method sees;
test_after_VARIANT with y_test. The command compares statistics of old classes that are stale (old_before), moved
by each method (fitted on cur_before and cur_after_VARIANT), and true (old_after_VARIANT). With them and the
statistics of the new classes it classifies the test features. Accuracies are in percent.

With --sequence the file holds several tasks, t = 1, 2 and so on: task_t_before, task_t_after and task_t_y of the task's own
samples (none before the first), all_t and all_t_y of every class so far after the task, which no method sees, test_t and
test_t_y, and perhaps aux_t_before and aux_t_after of auxiliary inputs. Statistics move from task to task.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A .safetensors file with the tensors listed below
    file: PathBuf,
    /// The fine-tune that produced the features after the task
    #[arg(long, value_enum, default_value = "full")]
    variant: Variant,
    /// A method to compare; repeat the option for several [default: all]
    #[arg(long, value_enum, value_name = "METHOD")]
    method: Vec<MethodArg>,
    /// Definition of the methods
    #[arg(long, value_enum, default_value = "exact")]
    mode: ModeArg,
    /// Share of the unexplained covariance to restore by stretching moved covariances, 0 to 1; not with attention or
    /// compat mode [default: 1]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    noise: Option<f64>,
    /// Features [n, d] of auxiliary inputs before and after the task, to learn from, too; repeat the option for several
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"], action = clap::ArgAction::Append)]
    auxiliary: Vec<ArrayRef>,
    /// Evaluate a sequence of tasks: accuracies and errors of means after every task
    #[arg(long, conflicts_with_all = ["variant", "auxiliary"])]
    sequence: bool,
    /// Leave out the auxiliary inputs of a sequence
    #[arg(long, requires = "sequence")]
    no_auxiliary: bool,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    run: RunArgs,
}

pub(crate) fn run(args: &Args) -> Result {
    expect_distinct(&args.method)?;
    let methods = if args.method.is_empty() { MethodArg::all() } else { &args.method };
    expect_noisy(methods, args.mode, args.noise)?;
    args.run.start()?;
    let budget = args.budget.budget()?;
    let (file, variant, mode, noise) = (&args.file, args.variant, args.mode, args.noise.unwrap_or(1.0));
    if args.sequence {
        let sequence = Sequence { file, methods, mode, noise, auxiliary: !args.no_auxiliary };
        let steps = sequence.run(&budget, &args.run.progress())?;
        return if args.run.json { print_json(&steps) } else { print(steps_text(&steps)) };
    }
    let auxiliary = &args.auxiliary;
    let protocol = Protocol { file, variant, methods, mode, noise, auxiliary, spectra: false };
    let found = protocol.run(&budget, &args.run.progress())?;
    if args.run.json { print_json(&found.rows().collect::<Vec<_>>()) } else { print(text(&found)) }
}

/// A row for each task and way to get statistics, a column for each classifier, and errors of means.
fn steps_text(steps: &[Step]) -> String {
    let [ncm, lda, lda_shrink, qda_shrink, qda_pooled] = ClassifierArg::EVALUATED.map(ClassifierArg::name);
    let mut table =
        table(["task", "statistics", ncm, lda, lda_shrink, qda_shrink, qda_pooled, "squared error by task"]);
    for steps in steps.chunk_by(|a, b| (a.task, &a.row.statistics) == (b.task, &b.row.statistics)) {
        let Some(first) = steps.first() else { continue };
        let mut cells = vec![first.task.to_string(), first.row.statistics.clone()];
        cells.extend(steps.iter().map(|step| format!("{:.1}", step.row.all)));
        let errors: Vec<_> = first.errors.iter().map(|error| format!("{error:.2}")).collect();
        cells.push(errors.join(" "));
        table.add_row(cells);
    }
    format!(
        "{table}\n\nAccuracy in percent over all classes after each task, and the average squared error of the means of classes \
         that came with task 1, 2 and so on."
    )
}

fn text(found: &Evaluation) -> String {
    format!(
        "{}, {} fine-tune: {} old and {} new classes, d = {}; fitted on {} pairs, {} test samples\n\n{}\n\n\
         Accuracy in percent for all / old / new classes; time and peak memory to get the statistics. qda-pooled \
         weighs a class's own covariance {:.2} and the identity {:.2}.",
        escape::path(&found.file),
        found.variant.name(),
        found.old_classes,
        found.new_classes,
        found.dim,
        count(found.pairs),
        count(found.tests),
        accuracies(found, |row| format!("{:.1} / {:.1} / {:.1}", row.all, row.old, row.new)),
        found.pooling.own,
        found.pooling.ridge
    )
}

/// A row for each way to get the statistics, a column for each classifier.
pub(crate) fn accuracies(found: &Evaluation, cell: impl Fn(&Row) -> String) -> Table {
    let [ncm, lda, lda_shrink, qda_shrink, qda_pooled] = ClassifierArg::EVALUATED.map(ClassifierArg::name);
    let mut table = table(["statistics", ncm, lda, lda_shrink, qda_shrink, qda_pooled, "time", "memory"]);
    for Stage { name, rows, seconds, peak_bytes, .. } in &found.stages {
        let mut cells = vec![name.clone()];
        cells.extend(rows.iter().map(&cell));
        cells.push(format!("{seconds:.2} s"));
        cells.push(peak_bytes.map_or_else(|| "–".into(), bytes));
        table.add_row(cells);
    }
    table
}
