//! `residua split IN -o OUT`.

use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use residua::format::ValueType;
use residua::memory::process;
use residua::split::{BaseSpec, Importance, Output, SplitOptions, SplitReport, split};
use serde::Serialize;

use crate::args::{BudgetArgs, RunArgs, finite, share, value_type};
use crate::compensation::expect_weights;
use crate::failure::{Failure, Result};
use crate::notes;
use crate::output::{bytes, count, facts, percent, print, print_json, ratio};

pub(crate) const EXAMPLE: &str = "\
Example:
  residua split model.safetensors -o split.safetensors --density 0.05 --memory-budget 512MiB";

/// The choice of the residual's entries.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ImportanceArg {
    /// residual²
    Uniform,
    /// residual² times the mean square of the weight's column
    Column,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A .safetensors file, an index of shards (model.safetensors.index.json) or a folder with either
    input: PathBuf,
    /// Where to write base and residual; replaced only when the run succeeded
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Share of every tensor's weights in the residual [default: 0.05]
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "threshold")]
    density: Option<f64>,
    /// Instead of a density, take every weight with a score of at least T
    #[arg(long, value_name = "T", value_parser = finite)]
    threshold: Option<f32>,
    /// The base: int4, int4-g32, int4-g64, int4-g128, int8, or another checkpoint
    #[arg(long, value_name = "BASE", default_value = "int4")]
    base: String,
    /// Value type of the residual: f32, f16, bf16 or i8
    #[arg(long, value_name = "TYPE", default_value = "bf16", value_parser = value_type)]
    values: ValueType,
    /// Mean squares or second moments of every layer's inputs: a .safetensors file with a tensor for each tensor that is
    /// split, of the same name
    #[arg(long, value_name = "FILE", conflicts_with = "importance")]
    calibration: Option<PathBuf>,
    /// Score of a weight when there is no calibration
    #[arg(long, value_enum, default_value = "uniform")]
    importance: ImportanceArg,
    /// Pass tensors with these names (* and ? allowed) through unchanged; repeat the option for several
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Split only tensors with these names; repeat the option for several
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Store no hashes of the planes; verify cannot find a changed value then
    #[arg(long)]
    no_hashes: bool,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    run: RunArgs,
}

impl Args {
    fn options(&self) -> Result<SplitOptions> {
        let base: BaseSpec = self.base.parse().map_err(|error| Failure::usage(format!("--base: {error}")))?;
        let importance = match (&self.calibration, self.importance) {
            (Some(file), _) => Importance::Calibration(file.clone()),
            (None, ImportanceArg::Column) => Importance::ColumnMeanSquare,
            (None, ImportanceArg::Uniform) => Importance::Uniform,
        };
        let options = SplitOptions::default().base(base).importance(importance).values(self.values);
        let options = match self.threshold {
            Some(threshold) => options.threshold(threshold),
            None => options.density(self.density.unwrap_or(0.05)),
        };
        Ok(options.exclude(&self.exclude).include(&self.include).hashes(!self.no_hashes))
    }
}

#[derive(Serialize)]
struct Done<'a> {
    #[serde(flatten)]
    report: &'a SplitReport,
    /// Of all tensors together.
    error: f64,
    base_error: f64,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
    memory_budget_bytes: u64,
}

pub(crate) fn run(args: &Args) -> Result {
    let options = args.options()?;
    let base = options.base.checkpoint();
    args.run.start()?;
    let budget = args.budget.budget()?;
    [&*args.input].into_iter().chain(base).for_each(|path| notes::tell_path(path, &budget));
    [&*args.input].into_iter().chain(base).try_for_each(|path| expect_weights(path, &budget))?;
    let start = Instant::now();
    let report = split(&args.input, Output(&args.output), &options, &budget, &args.run.progress())?;
    let seconds = start.elapsed().as_secs_f64();
    let peak = process::peak_rss();
    if args.run.json {
        let memory_budget_bytes = budget.limit();
        return print_json(&Done {
            report: &report,
            error: report.error(),
            base_error: report.base_error(),
            seconds,
            peak_memory_bytes: peak,
            memory_budget_bytes,
        });
    }
    let mut rows = vec![
        ("split", what(&report)),
        ("residual", residual(&report)),
        ("base", format!("{}, {}", args.base, bytes(report.base_bytes()))),
        ("error", errors(&report)),
        ("file", format!("{} → {}", bytes(report.input_bytes), bytes(report.output_bytes))),
    ];
    let rate = report.parameters() as f64 / seconds / 1e6;
    rows.push(("took", format!("{seconds:.1} s, {rate:.1} M parameters/s")));
    if let Some(peak) = peak {
        rows.push(("memory", format!("peak {} of {}", bytes(peak), bytes(budget.limit()))));
    }
    rows.push(("wrote", args.output.display().to_string()));
    print(facts(&rows))
}

fn what(report: &SplitReport) -> String {
    let passed = report.passed.len();
    let tensors = report.tensors.len();
    format!("{tensors} tensors, {} parameters; {passed} passed through", count(report.parameters()))
}

fn residual(report: &SplitReport) -> String {
    format!(
        "{} non-zeros ({}), {}, {:.2} bytes per non-zero",
        count(report.nnz()),
        percent(ratio(report.nnz(), report.parameters())),
        bytes(report.residual_bytes()),
        ratio(report.residual_bytes(), report.nnz())
    )
}

/// The error of all tensors together, and that of the worst tensor: a mean would hide it.
pub(crate) fn errors(report: &SplitReport) -> String {
    let worst = report.tensors.iter().max_by(|a, b| a.error.total_cmp(&b.error));
    worst.map_or_else(
        || "nothing was split".into(),
        |worst| {
            let (all, base) = (percent(report.error()), percent(report.base_error()));
            format!("{all} (base alone {base}); at most {}, in {}", percent(worst.error), worst.name)
        },
    )
}
