//! `residua stats FEATURES.. -o STATS`, `residua stats merge` and `residua stats extract`.

mod extract;
mod merge;
mod partial;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use clap::{Subcommand, ValueEnum};
use residua::compensate::statistics::{self, Leaves, Shrinkage};
use residua::compensate::{ClassStatistics, Precision, StatisticsOptions, Storage};
use residua::memory::{Budget, process};
use serde::Serialize;

use crate::args::{BudgetArgs, RunArgs};
use crate::compensation::arrays::{ArrayRef, Arrays, SYNTAX};
use crate::compensation::features::Features;
use crate::destination;
use crate::failure::{Failure, Result};
use crate::output::{bytes, count, facts, print, print_json};
use crate::progress::Bar;

pub(crate) const EXAMPLE: &str = "\
Examples (after residua demo):
  residua stats residua-demo/drift.safetensors:old_before --labels y_old -o old-stats.safetensors
  residua stats residua-demo/drift.safetensors:cur_after_full --labels y_cur -o new-stats.safetensors
  residua stats merge old-stats.safetensors new-stats.safetensors -o all-stats.safetensors

In two parts, on one machine or two, with the bits of one run:
  residua stats residua-demo/drift.safetensors:old_before --labels y_old --leaf-rows 256 --partial 1/2 -o part1.safetensors
  residua stats residua-demo/drift.safetensors:old_before --labels y_old --leaf-rows 256 --partial 2/2 -o part2.safetensors
  residua stats merge part1.safetensors part2.safetensors -o both-parts.safetensors

The statistics are the count, mean and covariance of every class. They contain no sample.";

/// Precision of stored covariances.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum PrecisionArg {
    /// 8 bytes for each number: shards merge to the whole within 1e-10
    F64,
    /// 4 bytes for each number
    F32,
    /// 2 bytes for each number
    Bf16,
}

impl From<PrecisionArg> for Precision {
    fn from(precision: PrecisionArg) -> Self {
        match precision {
            PrecisionArg::F64 => Self::F64,
            PrecisionArg::F32 => Self::F32,
            PrecisionArg::Bf16 => Self::Bf16,
        }
    }
}

/// How statistics are stored.
#[derive(Debug, clap::Args)]
struct Form {
    /// Storage of covariances: smallest (a factor or packed, lossless), packed, or low-rank:R [default: smallest]
    #[arg(long, value_name = "FORM", value_parser = storage)]
    storage: Option<Storage>,
    /// Precision of stored covariances [default: f32]
    #[arg(long, value_enum)]
    precision: Option<PrecisionArg>,
    /// Shrink covariances towards a multiple of the identity: ledoit-wolf, oas, or a share from 0 to 1
    #[arg(long, value_name = "HOW", value_parser = shrinkage)]
    shrinkage: Option<Shrinkage>,
}

impl Form {
    const OPTIONS: [&str; 3] = ["storage", "precision", "shrinkage"];

    fn is_given(&self) -> bool {
        self.storage.is_some() || self.precision.is_some() || self.shrinkage.is_some()
    }

    fn storage(&self) -> Storage {
        self.storage.unwrap_or_default()
    }

    fn precision(&self) -> Precision {
        self.precision.map_or(Precision::F32, Into::into)
    }
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_long_help = format!("{EXAMPLE}\n\n{SYNTAX}"))]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Arrays of features [n, d]: .npy files, or tensors as FILE.safetensors:TENSOR
    #[arg(required = true)]
    features: Vec<ArrayRef>,
    /// Labels [n] of the features; a bare name is a tensor in the file of the features. Give one for each array of
    /// features, in the same order [default: the tensor of labels in the same file]
    #[arg(long, value_name = "LABELS")]
    labels: Vec<ArrayRef>,
    /// Where to write the statistics; replaced only when the run succeeded
    #[arg(short, long, value_name = "STATS", required = true)]
    output: Option<PathBuf>,
    /// Collect part I of N alone and write its exact state, for `stats merge`: parts of several machines merge to the bits of
    /// one run
    #[arg(long, value_name = "I/N", value_parser = partial::part, conflicts_with_all = Form::OPTIONS)]
    partial: Option<partial::Part>,
    /// Rows of a leaf. Parts are cut between leaves; the last bits of the statistics depend on it
    #[arg(long, value_name = "ROWS", default_value_t = Leaves::ROWS, value_parser = clap::value_parser!(u64).range(1..))]
    leaf_rows: u64,
    #[command(flatten)]
    form: Form,
    /// The name of the model that made the features, such as base or after-task-2: merge then refuses statistics of
    /// another model
    #[arg(long, value_name = "NAME", conflicts_with = "partial")]
    model: Option<String>,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Merge statistics of shards, tasks or machines into one file
    #[command(after_help = merge::EXAMPLE)]
    Merge(merge::Args),
    /// Take the statistics of one method out of a file written by task
    #[command(after_help = extract::EXAMPLE)]
    Extract(extract::Args),
}

fn storage(text: &str) -> Result<Storage, String> {
    let rank = text.strip_prefix("low-rank:").map(usize::from_str);
    match (text, rank) {
        ("smallest", _) => Ok(Storage::Smallest),
        ("packed", _) => Ok(Storage::Packed),
        (_, Some(Ok(rank))) if rank > 0 => Ok(Storage::LowRank(rank)),
        _ => Err("write smallest, packed, or low-rank:R such as low-rank:64".into()),
    }
}

fn shrinkage(text: &str) -> Result<Shrinkage, String> {
    match (text, f64::from_str(text)) {
        ("ledoit-wolf", _) => Ok(Shrinkage::LedoitWolf),
        ("oas", _) => Ok(Shrinkage::Oas),
        (_, Ok(share)) if (0.0..=1.0).contains(&share) => Ok(Shrinkage::Fixed(share)),
        _ => Err("write ledoit-wolf, oas, or a share from 0 to 1 such as 0.1".into()),
    }
}

/// The report of a command that wrote statistics.
#[derive(Serialize)]
pub(super) struct Written {
    classes: usize,
    samples: u64,
    dim: usize,
    /// Bytes of all means and covariances.
    statistics_bytes: u64,
    output_bytes: u64,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
    memory_budget_bytes: u64,
}

impl Written {
    pub(super) fn new(file: statistics::Written, start: Instant, budget: &Budget) -> Self {
        Self {
            classes: file.classes,
            samples: file.samples,
            dim: file.dim,
            statistics_bytes: file.bytes,
            output_bytes: file.file_bytes,
            seconds: start.elapsed().as_secs_f64(),
            peak_memory_bytes: process::peak_rss(),
            memory_budget_bytes: budget.limit(),
        }
    }

    /// The facts for people; `more` comes first.
    pub(super) fn text(&self, more: &[(&str, String)], output: &Path) -> String {
        let mut rows = more.to_vec();
        rows.push((
            "classes",
            format!("{} of {} samples, d = {}", count(self.classes as u64), count(self.samples), self.dim),
        ));
        let dense = 4 * (self.dim as u64).pow(2) * self.classes as u64;
        rows.push((
            "size",
            format!("{} (full f32 covariances: {})", bytes(self.statistics_bytes), bytes(dense)),
        ));
        rows.push(("took", format!("{:.1} s", self.seconds)));
        if let Some(peak) = self.peak_memory_bytes {
            rows.push(("memory", format!("peak {} of {}", bytes(peak), bytes(self.memory_budget_bytes))));
        }
        rows.push(("wrote", output.display().to_string()));
        facts(&rows)
    }
}

pub(crate) fn run(args: &Args) -> Result {
    match &args.command {
        Some(Command::Merge(args)) => return merge::run(args),
        Some(Command::Extract(args)) => return extract::run(args),
        None => {}
    }
    let Some(output) = &args.output else { return Err(Failure::usage("--output is missing")) };
    destination::check(output, args.features.iter().chain(&args.labels).map(ArrayRef::path))?;
    let arrays = arrays(&args.features, &args.labels)?;
    args.run.start()?;
    let budget = args.budget.budget()?;
    let start = Instant::now();
    if let Some(part) = args.partial {
        let leaves = Leaves::new(args.leaf_rows);
        let done = partial::collect(arrays, part, leaves, output, &budget, &args.run.progress())?;
        return done.print(start, &budget, output, args.run.json);
    }
    let written = collect(arrays, args, output, &budget, &args.run.progress())?;
    let done = Written::new(written, start, &budget);
    if args.run.json { print_json(&done) } else { print(done.text(&[], output)) }
}

fn arrays(features: &[ArrayRef], labels: &[ArrayRef]) -> Result<Vec<Arrays>> {
    if !labels.is_empty() && labels.len() != features.len() && labels.len() != 1 {
        return Err(Failure::usage(format!(
            "{} arrays of features, but {} of labels: give one for each",
            features.len(),
            labels.len()
        )));
    }
    let one = |(index, before): (usize, &ArrayRef)| {
        let labels = match (labels.get(index), labels) {
            (Some(labels), _) => Some(labels.beside(before)),
            // One bare name serves several files with the same tensors.
            (None, [name]) if name.is_bare() => Some(name.beside(before)),
            (None, []) => ArrayRef::labels_of(before),
            (None, _) => None,
        };
        if labels.is_none() {
            return Err(Failure::usage(format!("{before}: name its labels with --labels")));
        }
        Ok(Arrays { before: before.clone(), after: None, labels })
    };
    features.iter().enumerate().map(one).collect()
}

/// Writes the statistics of all files, one after the other.
fn collect(
    parts: Vec<Arrays>,
    args: &Args,
    output: &Path,
    budget: &Budget,
    bar: &Bar,
) -> Result<statistics::Written> {
    let mut source = Features::open(parts, "collecting", budget, bar)?;
    let options = StatisticsOptions::default().with_leaves(Leaves::new(args.leaf_rows));
    let mut options = options.with_storage(args.form.storage()).with_precision(args.form.precision());
    (options.shrinkage, options.model) = (args.form.shrinkage, args.model.clone());
    Ok(ClassStatistics::collect_and_save(&mut source, &options, output, budget)?)
}
