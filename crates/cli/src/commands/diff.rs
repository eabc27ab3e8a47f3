//! `residua diff OLD NEW -o DELTA`.

use std::path::PathBuf;
use std::time::Instant;

use residua::split::{DeltaOp, DiffOptions, DiffReport, New, Old, Output, Stored, diff};
use serde::Serialize;

use crate::args::{BudgetArgs, RunArgs};
use crate::failure::Result;
use crate::notes;
use crate::output::{bytes, count, facts, percent, print, print_json, ratio};

pub(crate) const EXAMPLE: &str = "\
Example:
  residua diff old.safetensors new.safetensors -o delta.safetensors";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The checkpoint that receivers have: a file, an index of shards, or a folder
    old: PathBuf,
    /// The checkpoint that receivers will get
    new: PathBuf,
    /// Where to write the delta; replaced only when the run succeeded
    #[arg(short, long, value_name = "DELTA")]
    output: PathBuf,
    /// overwrite stores the new bits; xor stores old bits xor new bits (general compressors shrink them further)
    #[arg(long, value_name = "OP", default_value = "overwrite")]
    op: DeltaOp,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Serialize)]
struct Done<'a> {
    #[serde(flatten)]
    report: &'a DiffReport,
    changed: u64,
    elements: u64,
    bytes_per_change: f64,
    seconds: f64,
}

pub(crate) fn run(args: &Args) -> Result {
    args.run.start()?;
    let budget = args.budget.budget()?;
    [&args.old, &args.new].into_iter().for_each(|path| notes::tell_path(path, &budget));
    let start = Instant::now();
    let (old, new, options) = (Old(&args.old), New(&args.new), DiffOptions::default().op(args.op));
    let report = diff(old, new, Output(&args.output), &options, &budget, &args.run.progress())?;
    let seconds = start.elapsed().as_secs_f64();
    let (changed, elements) = (report.changed(), report.elements());
    if args.run.json {
        let bytes_per_change = report.bytes_per_change();
        return print_json(&Done { report: &report, changed, elements, bytes_per_change, seconds });
    }
    let share = percent(ratio(changed, elements));
    let of_target = percent(ratio(report.delta_bytes, report.target_bytes));
    let read = 2.0 * report.target_bytes as f64 / seconds / 1e6;
    print(facts(&[
        ("changed", format!("{} of {} elements ({share})", count(changed), count(elements))),
        ("tensors", tensors(&report)),
        ("delta", format!("{}, {of_target} of the checkpoint", bytes(report.delta_bytes))),
        ("per change", format!("{:.2} bytes", report.bytes_per_change())),
        ("took", format!("{seconds:.1} s, {read:.0} MB/s read")),
        ("wrote", args.output.display().to_string()),
    ]))
}

/// The number of tensors per kind of storage.
fn tensors(report: &DiffReport) -> String {
    let names = [
        (Stored::Same, "unchanged"),
        (Stored::Sparse, "sparse"),
        (Stored::Replaced, "stored whole"),
        (Stored::Reshaped, "reshaped"),
        (Stored::Added, "added"),
    ];
    let mut parts: Vec<String> = Vec::new();
    for (stored, name) in names {
        match report.tensors.iter().filter(|tensor| tensor.stored == stored).count() {
            0 => {}
            n => parts.push(format!("{n} {name}")),
        }
    }
    if !report.removed.is_empty() {
        parts.push(format!("{} removed", report.removed.len()));
    }
    parts.join(", ")
}
