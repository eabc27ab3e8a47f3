//! `residua stats merge A B.. -o OUT`.

use std::path::PathBuf;
use std::time::Instant;

use residua::Progress;
use residua::compensate::statistics::merge_files;
use residua::format::file::same_file;

use super::Written;
use crate::args::{BudgetArgs, RunArgs};
use crate::compensation::advised;
use crate::destination;
use crate::failure::{Failure, Result};
use crate::output::{print, print_json};

pub(super) const EXAMPLE: &str = "\
Example (after the first ones of residua stats --help):
  residua stats merge old-stats.safetensors new-stats.safetensors -o all-stats.safetensors

A class in several files becomes one class of all its samples. Do not merge a class with itself: its samples
would count twice.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files written by stats (merge and extract too) or compensate
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
