//! `residua split IN -o OUT`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ValueEnum;
use residua::format::{BaseKind, ValueType};
use residua::memory::{ByteSize, process};
use residua::split::{
    BaseSpec, FolderReport, Importance, Output, SplitOptions, SplitReport, split, split_folder,
};
use serde::Serialize;

use crate::args::{BudgetArgs, RunArgs, finite, positive, share, value_type};
use crate::compensation::expect_weights;
use crate::escape;
use crate::failure::{Failure, Result};
use crate::notes;
use crate::output::{bytes, count, facts, number_of, percent, print, print_json, ratio};

pub(crate) const EXAMPLE: &str = "\
Example:
  residua split model.safetensors -o split.safetensors --density 0.05 --memory-budget 512MiB

Matrices of F32, F16 or BF16 and stacks of experts are split. Embeddings, output heads, norms, routers of experts and
biases pass through. They are known by their names: embed, wte, wpe, lm_head, score, norm, router and so on. A low
precision costs most there, or saves little. --include asks for tensors by name, --include '*' for all matrices, and
--base PATTERN=KIND for those that match. With another checkpoint as base all matrices are split. The output says what
passed through, and why.

OUT is a folder if it ends with / or is one, or if the input is a folder with config.json and OUT does not end with
.safetensors. It gets the split as model.safetensors and the model's small files, such as config and tokenizer. The
folder must be new or empty, and appears complete or not at all. The config then names residua as the quantisation, so
that other programs can tell that the file holds no plain weights.

The inputs of layers make a split better at the same size: residua calibrate --help.";

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
    /// Where to write base and residual: a file, replaced only when the run succeeded, or a folder
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Share of every tensor's weights in the residual [default: 0.015, or 0.05 with another checkpoint as base]
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with = "threshold")]
    density: Option<f64>,
    /// Choose base and density of every tensor, for so many bits per weight in all: 2.2 to 7
    #[arg(long, value_name = "BITS", value_parser = positive, conflicts_with_all = ["density", "threshold"])]
    bits: Option<f64>,
    /// Choose base and density of every tensor, for a file of this size
    #[arg(long, value_name = "BYTES", conflicts_with_all = ["density", "threshold", "bits"])]
    size: Option<ByteSize>,
    /// Instead of a density, take every weight with a score of at least T
    #[arg(long, value_name = "T", value_parser = finite)]
    threshold: Option<f32>,
    /// The base: lut2 to lut6 (codes of 2 to 6 bits of a codebook that is fitted to the tensor, a scale for each row),
    /// lut3 to lut5 with -g16 or -g32 (the same with a multiplier for each block of 16 or 32 columns), int4, int4-g32, int4-g64, int4-g128, int8, or another checkpoint. PATTERN=KIND is the base of tensors with such
    /// names; repeat the option for several, of which the first match counts [default: lut4-g16]
    #[arg(long, value_name = "BASE")]
    base: Vec<String>,
    /// Value type of the residual: f32, f16, bf16 or i8 [default: i8, or bf16 with another checkpoint as base]
    #[arg(long, value_name = "TYPE", value_parser = value_type)]
    values: Option<ValueType>,
    /// Mean squares or second moments of every layer's inputs: a .safetensors file with a tensor for each tensor that
    /// is split, of the same name
    #[arg(long, value_name = "FILE", conflicts_with = "importance")]
    calibration: Option<PathBuf>,
    /// Score of a weight when there is no calibration
    #[arg(long, value_enum, default_value = "uniform")]
    importance: ImportanceArg,
    /// Pass tensors with these names (* and ? allowed) through unchanged; repeat the option for several
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Split exactly the matrices with these names, embeddings and heads too; repeat the option for several
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
        let (mut base, mut kinds) = (None, Vec::new());
        for text in &self.base {
            match (text.parse::<BaseSpec>(), pattern(text)) {
                (Ok(_), _) if base.is_some() => {
                    return Err(Failure::usage(format!("--base {text}: the tensors have a base already")));
                }
                (Ok(spec), _) => base = Some(spec),
                (Err(_), Some((pattern, Some(kind)))) => kinds.push((pattern, kind)),
                (Err(error), _) => return Err(Failure::usage(format!("--base: {error}"))),
            }
        }
        if let (Some(base), true) = (&base, self.bits.is_some() || self.size.is_some()) {
            let advice = match base {
                BaseSpec::Checkpoint(_) => "leave the checkpoint out".to_owned(),
                BaseSpec::Quantized(kind) => format!("instead of {kind}, give PATTERN={kind}"),
            };
            return Err(Failure::usage(format!("--bits and --size choose the base; {advice}")));
        }
        let options = base.map_or_else(SplitOptions::default, SplitOptions::for_base);
        let options =
            kinds.into_iter().fold(options, |options, (pattern, kind)| options.base_for(pattern, kind));
        let options = match (self.bits, self.size, self.threshold, self.density) {
            (Some(bits), ..) => options.bits(bits),
            (_, Some(size), ..) => options.size(size.0),
            (_, _, Some(threshold), _) => options.threshold(threshold),
            (.., Some(density)) => options.density(density),
            _ => options,
        };
        let importance = match (&self.calibration, self.importance) {
            (Some(file), _) => Importance::Calibration(file.clone()),
            (None, ImportanceArg::Column) => Importance::ColumnMeanSquare,
            (None, ImportanceArg::Uniform) => Importance::Uniform,
        };
        let values = self.values.unwrap_or(options.values);
        let options = options.importance(importance).values(values);
        Ok(options.exclude(&self.exclude).include(&self.include).hashes(!self.no_hashes))
    }

    /// Whether the output is a folder.
    fn is_folder(&self) -> bool {
        let is_file =
            self.output.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("safetensors"));
        self.output.to_string_lossy().ends_with(std::path::is_separator)
            || self.output.is_dir()
            || !is_file && self.input.join("config.json").is_file()
    }
}

/// Pattern and kind of `PATTERN=KIND`.
fn pattern(text: &str) -> Option<(&str, Option<BaseKind>)> {
    let (pattern, kind) = text.rsplit_once('=')?;
    Some((pattern, BaseKind::ALL.into_iter().find(|known| known.name() == kind)))
}

#[derive(Serialize)]
struct Done<'a> {
    #[serde(flatten)]
    report: &'a SplitReport,
    /// Of all tensors together.
    error: f64,
    base_error: f64,
    /// The split file.
    #[serde(serialize_with = "escape::serialize_path")]
    file: &'a Path,
    /// Files of the model's folder that were copied, and files that were left out.
    copied: Vec<String>,
    left_out: Vec<String>,
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
    let (output, bar) = (Output(&args.output), args.run.progress());
    let folder = match args.is_folder() {
        true => split_folder(&args.input, output, &options, &budget, &bar)?,
        false => {
            let mut folder = FolderReport::default();
            folder.split = split(&args.input, output, &options, &budget, &bar)?;
            folder.file.clone_from(&args.output);
            folder
        }
    };
    drop(bar);
    let report = &folder.split;
    let seconds = start.elapsed().as_secs_f64();
    let peak = process::peak_rss();
    if args.run.json {
        let memory_budget_bytes = budget.limit();
        return print_json(&Done {
            report,
            file: &folder.file,
            copied: lossy(&folder.copied),
            left_out: lossy(&folder.left_out),
            error: report.error(),
            base_error: report.base_error(),
            seconds,
            peak_memory_bytes: peak,
            memory_budget_bytes,
        });
    }
    let base = match bases(report) {
        kinds if kinds.is_empty() => args.base.join(", "),
        kinds => kinds,
    };
    let mut rows = vec![("split", what(report))];
    if !report.passed.is_empty() {
        rows.push(("passed", passed(report)));
    }
    rows.extend([
        ("residual", residual(report)),
        ("base", format!("{base}, {}", bytes(report.base_bytes()))),
        ("size", size(report)),
        ("error", errors(report)),
    ]);
    if options.base.checkpoint().is_none()
        && options.importance.file().is_none()
        && !report.tensors.is_empty()
    {
        let advice =
            "not calibrated; residua calibrate and --calibration make a better model of the same size";
        rows.push(("quality", advice.into()));
    }
    rows.push(("file", format!("{} → {}", bytes(report.input_bytes), bytes(report.output_bytes))));
    let rate = report.parameters() as f64 / seconds / 1e6;
    rows.push(("took", format!("{seconds:.1} s, {rate:.1} M parameters/s")));
    if let Some(peak) = peak {
        rows.push(("memory", format!("peak {} of {}", bytes(peak), bytes(budget.limit()))));
    }
    let mut wrote = folder.file.display().to_string();
    if !folder.copied.is_empty() {
        wrote += &format!(" and {} copied", number_of(folder.copied.len() as u64, "file"));
    }
    rows.push(("wrote", wrote));
    if !folder.left_out.is_empty() {
        rows.push(("left out", lossy(&folder.left_out).join(", ")));
    }
    print(facts(&rows))
}

fn lossy(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.to_string_lossy().into_owned()).collect()
}

fn what(report: &SplitReport) -> String {
    let tensors = report.tensors.len();
    format!("{}, {} parameters", number_of(tensors as u64, "tensor"), count(report.parameters()))
}

/// What passed through, by reason: how many, and the first of them.
fn passed(report: &SplitReport) -> String {
    let mut reasons = BTreeMap::<_, (u64, u64, &str)>::new();
    for tensor in &report.passed {
        let (number, size, _) = reasons.entry(tensor.reason).or_insert((0, 0, &tensor.name));
        *number += 1;
        *size += tensor.bytes;
    }
    let parts = reasons.into_iter().map(|(reason, (number, size, first))| {
        let reason = reason.map_or_else(String::new, |reason| reason.to_string());
        let more = if number > 1 { ", …" } else { "" };
        format!("{number} {reason}, {} ({first}{more})", bytes(size))
    });
    let number = report.passed.len();
    format!("{}: {}", number_of(number as u64, "tensor"), parts.collect::<Vec<_>>().join("; "))
}

/// The kinds of bases, and how many tensors have each.
fn bases(report: &SplitReport) -> String {
    let mut kinds = BTreeMap::<_, usize>::new();
    report
        .tensors
        .iter()
        .filter_map(|tensor| tensor.base)
        .for_each(|kind| *kinds.entry(kind.name()).or_default() += 1);
    match kinds.len() {
        1 => kinds.keys().copied().collect(),
        _ => kinds.iter().map(|(kind, number)| format!("{number} {kind}")).collect::<Vec<_>>().join(", "),
    }
}

fn size(report: &SplitReport) -> String {
    let stored = report.base_bytes() + report.residual_bytes();
    format!("{:.2} bits per weight", 8.0 * ratio(stored, report.parameters()))
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
