//! `residua stats merge A B.. -o OUT`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use residua::compensate::statistics::{StatisticsReader, StatisticsWriter};
use residua::compensate::{ClassGaussian, CompensateError};
use residua::split::Progress;

use super::Written;
use crate::args::{BudgetArgs, RunArgs};
use crate::destination;
use crate::failure::{Failure, Result};
use crate::output::{print, print_json};

pub(super) const EXAMPLE: &str = "\
Example (after the first ones of residua stats --help):
  residua stats merge old-stats.safetensors new-stats.safetensors -o all-stats.safetensors

A class that several files have becomes one, as if its samples had been collected together; counts say how
much each weighs. Do not merge a class with itself.";

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
        if args.files[..number].iter().any(|other| destination::same(file, other)) {
            let problem = format!("{} is given twice: its samples would count twice", file.display());
            return Err(Failure::usage(problem));
        }
    }
    args.run.start()?;
    let budget = args.budget.budget()?;
    let start = Instant::now();
    let bar = args.run.progress();
    let files = args.files.iter().map(|path| StatisticsReader::open(path)).collect::<Result<Vec<_>, _>>()?;
    let dim = files.first().map_or(0, StatisticsReader::dim);
    if let Some((path, file)) = args.files.iter().zip(&files).find(|(_, file)| file.dim() != dim) {
        let what = "a set of statistics to merge".into();
        return Err(Failure::input(
            path,
            CompensateError::Dimension { what, found: file.dim(), expected: dim },
        ));
    }
    let labels: BTreeSet<u32> = files.iter().flat_map(|file| file.counts().map(|(label, _)| label)).collect();
    bar.begin_steps("merging", labels.len());
    let mut output = StatisticsWriter::create(&args.output, dim, labels.len())?;
    for label in labels {
        let mut merged: Option<ClassGaussian> = None;
        for file in &files {
            let Some(next) = file.class(label, &budget)? else { continue };
            merged = Some(match merged {
                None => next,
                Some(merged) => merged.merge(&next, &budget)?,
            });
        }
        merged.iter().try_for_each(|class| output.add(label, class))?;
        Progress::advance(&bar, 1);
    }
    output.finish()?;
    drop(bar);
    let done = Written::new(&args.output, start, &budget)?;
    let files = [("merged", format!("{} files", args.files.len()))];
    if args.run.json { print_json(&done) } else { print(done.text(&files, &args.output)) }
}
