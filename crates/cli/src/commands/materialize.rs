//! `residua materialize FILE --alpha A -o DENSE`.

use std::path::PathBuf;

use residua::split::{MaterializeOptions, Output, materialize};

use crate::args::{BaseArgs, BudgetArgs, RunArgs, finite};
use crate::compensation::expect_weights;
use crate::escape;
use crate::failure::Result;
use crate::notes;
use crate::output::{bytes, print, print_json};

pub(crate) const EXAMPLE: &str = "\
Example:
  residua materialize split.safetensors --alpha 1 -o dense.safetensors

alpha 1 gives the whole model; alpha 0 gives the base, bit for bit.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file written by split
    file: PathBuf,
    /// The residual's scale
    #[arg(long, value_name = "A", default_value = "1", value_parser = finite, allow_negative_numbers = true)]
    alpha: f32,
    /// Where to write the dense checkpoint; replaced only when the run succeeded
    #[arg(short, long, value_name = "DENSE")]
    output: PathBuf,
    #[command(flatten)]
    base: BaseArgs,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    run: RunArgs,
}

pub(crate) fn run(args: &Args) -> Result {
    args.run.start()?;
    let budget = args.budget.budget()?;
    args.base.base.iter().for_each(|path| notes::tell_path(path, &budget));
    expect_weights(&args.file, &budget)?;
    let mut options = MaterializeOptions::default().alpha(args.alpha);
    options.base = args.base.location();
    let report = materialize(&args.file, Output(&args.output), &options, &budget, &args.run.progress())?;
    if args.run.json {
        return print_json(&report);
    }
    print(format!(
        "{} tensors rebuilt at alpha {}, {} passed through; wrote {} to {}",
        report.tensors.len(),
        report.alpha,
        report.passed.len(),
        bytes(report.output_bytes),
        escape::path(&args.output)
    ))
}
