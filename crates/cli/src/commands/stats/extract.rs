//! `residua stats extract STATE --method M -o OUT`.

use std::path::PathBuf;
use std::time::Instant;

use residua::compensate::statistics::StatisticsWriter;
use residua::compensate::tasks::SequenceReader;

use super::Written;
use crate::args::{BudgetArgs, RunArgs};
use crate::compensation::advised;
use crate::compensation::load::no_variant;
use crate::compensation::methods::VariantArg;
use crate::destination;
use crate::failure::{Failure, Result};
use crate::output::{number_of, print, print_json};

pub(super) const EXAMPLE: &str = "\
Example (after those of residua task --help):
  residua stats extract model.state.safetensors --method linear -o linear.safetensors";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file written by task
    state: PathBuf,
    /// Extract the statistics of this method
    #[arg(long, value_enum, default_value = "none")]
    method: VariantArg,
    /// Where to write the statistics; replaced only when the run succeeded
    #[arg(short, long, value_name = "STATS")]
    output: PathBuf,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    run: RunArgs,
}

pub(super) fn run(args: &Args) -> Result {
    destination::check(&args.output, [&*args.state])?;
    args.run.start()?;
    let budget = args.budget.budget()?;
    let start = Instant::now();
    let state = SequenceReader::open(&args.state, &budget).map_err(advised)?;
    let name = args.method.variant().name();
    let Some(statistics) = state.statistics(name, &budget)? else {
        return Err(Failure::usage(no_variant(&args.state, name, &state)));
    };
    let (dim, classes) = (statistics.dim(), statistics.len());
    let tag = statistics.tag().clone();
    let mut output = StatisticsWriter::create(&args.output, dim, classes, &budget)?.with_tag(tag);
    for (label, _) in statistics.counts() {
        statistics.class(label, &budget)?.iter().try_for_each(|class| output.add(label, class))?;
    }
    let done = Written::new(output.finish()?, start, &budget);
    let rows = [("variant", format!("{name}, {}", number_of(state.tasks(), "task")))];
    if args.run.json { print_json(&done) } else { print(done.text(&rows, &args.output)) }
}
