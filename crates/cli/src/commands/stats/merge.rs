//! `residua stats merge A B.. -o OUT`.

use std::path::PathBuf;
use std::time::Instant;

use residua::compensate::{ClassStatistics, CompensateError};

use super::Written;
use crate::args::{BudgetArgs, RunArgs};
use crate::failure::{Failure, Result};
use crate::output::{print, print_json};

pub(super) const EXAMPLE: &str = "\
Example (after the first ones of residua stats --help):
  residua stats merge old-stats.safetensors new-stats.safetensors -o all-stats.safetensors

A class that several files have becomes one, as if its samples had been collected together; counts say how
much each weighs. Do not merge a class with itself.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files written by stats or compensate
    #[arg(required = true, num_args = 2..)]
    files: Vec<PathBuf>,
    /// Where to write the merged statistics; replaced only when the run succeeded
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    run: RunArgs,
}

pub(super) fn run(args: &Args) -> Result {
    args.run.start()?;
    let budget = args.budget.budget()?;
    let start = Instant::now();
    let bar = args.run.progress();
    bar.begin_steps("merging", args.files.len());
    let mut merged: Option<ClassStatistics> = None;
    for file in &args.files {
        residua::split::Progress::tensor(&bar, &file.to_string_lossy());
        let next = ClassStatistics::load(file, &budget)?;
        merged = Some(match merged {
            None => next,
            Some(merged) => merged.merge(&next, &budget).map_err(|error| match error {
                CompensateError::Dimension { .. } => Failure::input(file, error),
                other => other.into(),
            })?,
        });
        residua::split::Progress::advance(&bar, 1);
    }
    drop(bar);
    let Some(merged) = merged else { return Err(Failure::usage("name the files to merge")) };
    merged.save(&args.output)?;
    let done = Written::new(&merged, &args.output, start, &budget);
    let files = [("merged", format!("{} files", args.files.len()))];
    if args.run.json { print_json(&done) } else { print(done.text(&files, &args.output)) }
}
