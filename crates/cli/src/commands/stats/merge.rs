//! `residua stats merge A B.. -o OUT`.

use std::path::PathBuf;
use std::time::Instant;

use residua::Progress;
use residua::compensate::StatisticsBuilder;
use residua::compensate::statistics::{merge_files, merge_partials};
use residua::format::file::{Checkpoint, same_file};
use residua::memory::Budget;

use super::{Form, Written, partial};
use crate::args::{BudgetArgs, RunArgs};
use crate::compensation::advised;
use crate::destination;
use crate::failure::{Failure, Result};
use crate::output::{print, print_json};
use crate::progress::Bar;

pub(super) const EXAMPLE: &str = "\
Example (after the first ones of residua stats --help):
  residua stats merge old-stats.safetensors new-stats.safetensors -o all-stats.safetensors

A class in several files becomes one class of all its samples. Do not merge a class with itself: its samples
would count twice.

Partial statistics, which stats --partial writes, merge to the bytes that one run over all files writes. Give all parts, in
any order.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files written by stats (merge and extract too) or compensate; or partial statistics alone, one or more
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Where to write the merged statistics; replaced only when the run succeeded
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Write partial statistics, to merge them with other parts; only from partial statistics
    #[arg(long, conflicts_with_all = Form::OPTIONS)]
    partial: bool,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    run: RunArgs,
}

pub(super) fn run(args: &Args) -> Result {
    destination::check(&args.output, args.files.iter().map(|file| &**file))?;
    for (number, file) in args.files.iter().enumerate() {
        if args.files[..number].iter().any(|other| same_file(file, other)) {
            let problem = format!("{} is given twice: its samples would count twice", file.display());
            return Err(Failure::usage(problem));
        }
    }
    args.run.start()?;
    let budget = args.budget.budget()?;
    let start = Instant::now();
    let bar = args.run.progress();
    let is_partial =
        Checkpoint::open_within(&args.files[0], &budget).is_ok_and(|file| StatisticsBuilder::is_in(&file));
    if is_partial {
        return merge_states(args, &budget, start, &bar);
    }
    if args.form.is_given() || args.partial {
        let first = args.files[0].display();
        let problem = format!(
            "{first} holds no partial statistics: only they take --storage, --precision, --shrinkage and --partial"
        );
        return Err(Failure::usage(problem));
    }
    if args.files.len() < 2 {
        return Err(Failure::usage("give two files of class statistics or more"));
    }
    let mut started = false;
    let written = merge_files(&args.files, &args.output, &budget, |_, classes| {
        if !std::mem::replace(&mut started, true) {
            bar.begin_steps("merging", classes);
        }
        Progress::advance(&bar, 1);
        Ok(())
    })
    .map_err(advised)?;
    drop(bar);
    let done = Written::new(written, start, &budget);
    let files = [("merged", format!("{} files", args.files.len()))];
    if args.run.json { print_json(&done) } else { print(done.text(&files, &args.output)) }
}

/// Merges partial statistics, and writes them as asked for.
fn merge_states(args: &Args, budget: &Budget, start: Instant, bar: &Bar) -> Result {
    bar.begin_steps("merging", args.files.len());
    let mut merged = merge_partials(&args.files, budget, |_| {
        Progress::advance(bar, 1);
        Ok(())
    })
    .map_err(advised)?;
    bar.end();
    if args.partial {
        return partial::Written::save(&merged, &args.output)?.print(
            start,
            budget,
            &args.output,
            args.run.json,
        );
    }
    merged.shrinkage = args.form.shrinkage;
    let statistics = merged.finish(args.form.storage(), args.form.precision())?;
    let done = Written::new(statistics.save(&args.output, budget)?, start, budget);
    let files = [("merged", format!("{} files", args.files.len()))];
    if args.run.json { print_json(&done) } else { print(done.text(&files, &args.output)) }
}
