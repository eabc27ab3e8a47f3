//! `residua verify FILE`.

use std::path::PathBuf;

use residua::split::{VerifiedTensor, VerifyOptions, VerifyReport, verify};
use serde::Serialize;

use crate::args::{BaseArgs, BudgetArgs, RunArgs};
use crate::compensation::expect_weights;
use crate::escape;
use crate::failure::{Failure, Kind, Result};
use crate::notes;
use crate::output::{count, percent, print, print_json, print_table, table};

pub(crate) const EXAMPLE: &str = "\
Examples (the second after that of residua calibrate --help):
  residua verify split.safetensors --against model.safetensors
  residua verify split.safetensors --against model.safetensors --calibration calibration.safetensors

The command checks the header, the length of every plane, row pointers, that columns lie inside the matrix, the
count of non-zeros, that every weight fits its type, the hashes of the planes, and the hash of a base in another
file. Where the file stores no hash, for a tensor that passed through or after split --no-hashes, it cannot find a
flipped bit that leaves a valid number. With --against, shapes and types must equal those of the checkpoint, and
tensors that passed through must equal it byte for byte.

Exit code 3 means that the file is damaged, 1 that file and checkpoint do not match. The distance from the
checkpoint is a measurement, never a failure: a residual of 5 % leaves an error by design. With --calibration it is
also measured at the outputs of layers, which says more about the model: the root mean square of the outputs' change over
that of the outputs. The error of all layers together is the root mean square of theirs.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file written by split
    file: PathBuf,
    /// Also measure the distance from this checkpoint
    #[arg(long, value_name = "CHECKPOINT")]
    against: Option<PathBuf>,
    /// Also measure the error of the layers' outputs, with this calibration of their inputs
    #[arg(long, value_name = "FILE", requires = "against")]
    calibration: Option<PathBuf>,
    #[command(flatten)]
    base: BaseArgs,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Serialize)]
struct Done<'a> {
    /// Nothing is wrong with the file.
    valid: bool,
    /// The file has the tensors of the checkpoint; `None` without a checkpoint.
    matches: Option<bool>,
    /// Of all tensors that were split, together; `None` without a checkpoint.
    error: Option<f64>,
    base_error: Option<f64>,
    /// Of the outputs of all layers; `None` without a calibration.
    output_error: Option<f64>,
    #[serde(flatten)]
    report: &'a VerifyReport,
}

pub(crate) fn run(args: &Args) -> Result {
    args.run.start()?;
    let budget = args.budget.budget()?;
    expect_weights(&args.file, &budget)?;
    args.against
        .iter()
        .chain(&args.base.base)
        .chain([&args.file])
        .for_each(|path| notes::tell_path(path, &budget));
    let mut options = VerifyOptions::default();
    options.base = args.base.location();
    options.against.clone_from(&args.against);
    options.calibration.clone_from(&args.calibration);
    let report = verify(&args.file, &options, &budget, &args.run.progress())?;
    if args.run.json {
        let matches = args.against.is_some().then_some(report.matches());
        let (error, base_error, output_error) = (report.error(), report.base_error(), report.output_error());
        let valid = report.is_valid();
        print_json(&Done { valid, matches, error, base_error, output_error, report: &report })?;
    } else {
        show(&report, args.against.is_some(), args.calibration.is_some())?;
    }
    let count =
        |wrong: fn(&VerifiedTensor) -> bool| report.tensors.iter().filter(|tensor| wrong(tensor)).count();
    let (file, all) = (args.file.display(), report.tensors.len());
    let (kind, problem) =
        match (count(|t| t.problem.is_some()), count(|t| t.mismatch.is_some()), &args.against) {
            (0, 0, _) | (0, _, None) => return Ok(()),
            (0, other, Some(against)) => {
                let against = against.display();
                (Kind::Other, format!("{file}: {other} of {all} tensors do not match those of {against}"))
            }
            (problems, ..) => (Kind::Input, format!("{file}: {problems} of {all} tensors have a problem")),
        };
    Err(Failure::new(kind, problem))
}

fn show(report: &VerifyReport, measured: bool, outputs: bool) -> Result {
    if measured {
        let split = report.tensors.iter().filter(|tensor| tensor.split);
        let rows = split.map(|tensor| {
            let share = |error: Option<f64>| error.map_or_else(|| "–".into(), percent);
            let most = tensor.max_abs_error.map_or_else(|| "–".into(), |most| format!("{most:.3e}"));
            let (base, error) = (share(tensor.base_error), share(tensor.error));
            ([tensor.name.clone(), count(tensor.nnz), base, error, most], share(tensor.output_error))
        });
        let [name, nnz, base, error, most] =
            ["tensor", "non-zeros", "base error", "error", "largest difference"];
        if outputs {
            let head = || table([name, nnz, base, error, most, "output error"]);
            print_table(head, rows.map(|([a, b, c, d, e], output)| [a, b, c, d, e, output]))?;
        } else {
            print_table(|| table([name, nnz, base, error, most]), rows.map(|(cells, _)| cells))?;
        }
    }
    for tensor in &report.tensors {
        for problem in tensor.problem.iter().chain(&tensor.mismatch) {
            print(format!("✗ {}", escape::line(&format!("{}: {problem}", tensor.name))))?;
        }
    }
    print(summary(report))
}

fn summary(report: &VerifyReport) -> String {
    let tensors = &report.tensors;
    let split = tensors.iter().filter(|tensor| tensor.split).count();
    let nnz = tensors.iter().map(|tensor| tensor.nnz).sum();
    let verdict = match (report.is_valid(), report.matches()) {
        (true, true) => "✓ sound",
        (true, false) => "✗ sound, but file and checkpoint do not match",
        (false, _) => "✗ damaged",
    };
    let error = report.error().zip(report.base_error()).map_or_else(String::new, |(error, base)| {
        format!("; error {} (base alone {})", percent(error), percent(base))
    });
    let outputs =
        report.output_error().map_or_else(String::new, |error| format!(", of outputs {}", percent(error)));
    format!(
        "{verdict}: {split} split tensors with {} non-zeros, {} passed through{error}{outputs}",
        count(nnz),
        tensors.len() - split
    )
}
