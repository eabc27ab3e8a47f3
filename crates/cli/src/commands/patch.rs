//! `residua patch OLD DELTA -o NEW`.

use std::path::PathBuf;
use std::time::Instant;

use residua::split::{Delta, Old, Output, PatchReport, patch};
use serde::Serialize;

use crate::args::{BudgetArgs, RunArgs};
use crate::compensation::expect_weights;
use crate::escape;
use crate::failure::Result;
use crate::notes;
use crate::output::{bytes, print, print_json};

pub(crate) const EXAMPLE: &str = "\
Example:
  residua patch old.safetensors delta.safetensors -o patched.safetensors

The result equals the new checkpoint bit for bit. The command refuses a delta of another base.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The old checkpoint of the delta
    old: PathBuf,
    /// A file written by diff
    delta: PathBuf,
    /// Where to write the new checkpoint; replaced only when the run succeeded
    #[arg(short, long, value_name = "NEW")]
    output: PathBuf,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Serialize)]
struct Done<'a> {
    #[serde(flatten)]
    report: &'a PatchReport,
    seconds: f64,
}

pub(crate) fn run(args: &Args) -> Result {
    args.run.start()?;
    let budget = args.budget.budget()?;
    notes::tell_path(&args.old, &budget);
    expect_weights(&args.delta, &budget)?;
    let start = Instant::now();
    let (old, delta) = (Old(&args.old), Delta(&args.delta));
    let report = patch(old, delta, Output(&args.output), &budget, &args.run.progress())?;
    let seconds = start.elapsed().as_secs_f64();
    if args.run.json {
        return print_json(&Done { report: &report, seconds });
    }
    print(format!(
        "{} tensors restored and checked; wrote {} to {} in {seconds:.1} s",
        report.tensors.len(),
        bytes(report.output_bytes),
        escape::path(&args.output)
    ))
}
