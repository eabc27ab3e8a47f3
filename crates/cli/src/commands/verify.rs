//! `residua verify FILE`.

use std::path::PathBuf;

use residua::split::{VerifiedTensor, VerifyReport, verify};
use serde::Serialize;

use crate::args::{BudgetArgs, RunArgs};
use crate::failure::{Failure, Kind, Result};
use crate::output::{count, percent, print, print_json, table};

pub(crate) const EXAMPLE: &str = "\
Example:
  residua verify split.safetensors --against model.safetensors

Exit code 1 says that something is wrong with the file. The distance from the checkpoint is a
measurement, never a failure: a residual of 5 % leaves an error by design.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file written by split
    file: PathBuf,
    /// Also measure the distance from this checkpoint
    #[arg(long, value_name = "CHECKPOINT")]
    against: Option<PathBuf>,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Serialize)]
struct Done<'a> {
    valid: bool,
    #[serde(flatten)]
    report: &'a VerifyReport,
}

pub(crate) fn run(args: &Args) -> Result {
    args.run.start()?;
    let budget = args.budget.budget()?;
    let report = verify(&args.file, args.against.as_deref(), &budget, &args.run.progress())?;
    if args.run.json {
        print_json(&Done { valid: report.is_valid(), report: &report })?;
    } else {
        print(text(&report, args.against.is_some()))?;
    }
    let problems = report.tensors.iter().filter(|tensor| tensor.problem.is_some()).count();
    match problems {
        0 => Ok(()),
        _ => Err(Failure::new(
            Kind::Other,
            format!("{}: {problems} of {} tensors have a problem", args.file.display(), report.tensors.len()),
        )),
    }
}

fn text(report: &VerifyReport, measured: bool) -> String {
    let mut text = String::new();
    if measured {
        let mut table = table(["tensor", "non-zeros", "base error", "error", "largest difference"]);
        for tensor in report.tensors.iter().filter(|tensor| tensor.split) {
            let share = |error: Option<f64>| error.map_or_else(|| "–".into(), percent);
            let most = tensor.max_abs_error.map_or_else(|| "–".into(), |most| format!("{most:.3e}"));
            let (base, error) = (share(tensor.base_error), share(tensor.error));
            table.add_row([tensor.name.clone(), count(tensor.nnz), base, error, most]);
        }
        text += &format!("{table}\n");
    }
    for tensor in &report.tensors {
        if let Some(problem) = &tensor.problem {
            text += &format!("✗ {}: {problem}\n", tensor.name);
        }
    }
    text + &summary(&report.tensors)
}

fn summary(tensors: &[VerifiedTensor]) -> String {
    let split = tensors.iter().filter(|tensor| tensor.split).count();
    let nnz = tensors.iter().map(|tensor| tensor.nnz).sum();
    let verdict =
        if tensors.iter().all(|tensor| tensor.problem.is_none()) { "✓ sound" } else { "✗ damaged" };
    format!(
        "{verdict}: {split} split tensors with {} non-zeros, {} passed through",
        count(nnz),
        tensors.len() - split
    )
}
