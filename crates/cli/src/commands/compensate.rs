//! `residua compensate STATS --method M --before X --after Y -o OUT`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use residua::compensate::compensator::{Checks, Warning};
use residua::compensate::source::Fingerprint;
use residua::compensate::statistics::{StatisticsReader, StatisticsWriter};
use residua::compensate::{Compensator, FeatureSource, compensator};
use residua::memory::{Budget, process};
use residua::split::Progress;
use serde::Serialize;

use crate::args::{BudgetArgs, RunArgs, share};
use crate::compensation::advised;
use crate::compensation::arrays::{ArrayRef, Arrays, SYNTAX};
use crate::compensation::errors::{Errors, Estimate, warn};
use crate::compensation::features::Features;
use crate::compensation::methods::{MethodArg, ModeArg, expect_noisy};
use crate::destination;
use crate::failure::{Failure, Result};
use crate::output::{bytes, count, facts, percent, print, print_json};
use crate::progress::Bar;

pub(crate) const EXAMPLE: &str = "\
Example (after residua demo, and the first one of residua stats --help):
  residua compensate old-stats.safetensors --method linear --before residua-demo/drift.safetensors:cur_before --after residua-demo/drift.safetensors:cur_after_full -o moved-stats.safetensors --memory-budget 512MiB

Fit once, move often:
  residua compensate old-stats.safetensors --before residua-demo/drift.safetensors:cur_before --after residua-demo/drift.safetensors:cur_after_full --save-fit fit.safetensors -o moved-stats.safetensors
  residua compensate old-stats.safetensors --fit fit.safetensors -o moved-again.safetensors";

#[derive(Debug, clap::Args)]
#[command(after_long_help = format!("{EXAMPLE}\n\n{SYNTAX}"))]
pub(crate) struct Args {
    /// Statistics of old classes: a file written by stats (merge and extract too) or compensate
    statistics: PathBuf,
    /// Move with a fit of an earlier run, which --save-fit wrote
    #[arg(long, value_name = "FIT", conflicts_with_all = ["method", "mode", "noise", "before", "after", "auxiliary", "save_fit", "keep_if_worse"])]
    fit: Option<PathBuf>,
    /// Also write the fit, to move other statistics with it. It contains samples if the method is attention
    #[arg(long, value_name = "FIT")]
    save_fit: Option<PathBuf>,
    /// Model of how features move
    #[arg(long, value_enum, default_value = "linear")]
    method: MethodArg,
    /// Definition of the method
    #[arg(long, value_enum, default_value = "exact")]
    mode: ModeArg,
    /// Share of the unexplained covariance to restore by stretching moved covariances, 0 to 1; not with attention or
    /// compat mode [default: 1]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    noise: Option<f64>,
    /// Features [n, d] of the new task's samples before the task; repeat the option for several arrays
    #[arg(long, value_name = "FEATURES", required_unless_present = "fit")]
    before: Vec<ArrayRef>,
    /// Features of the same samples after the task, in the same order
    #[arg(long, value_name = "FEATURES", required_unless_present = "fit")]
    after: Vec<ArrayRef>,
    /// Features [n, d] of auxiliary inputs before and after the task: any unlabelled inputs of the same kind. A few
    /// hundred bring more than the choice of a method; repeat the option for several
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"], action = clap::ArgAction::Append)]
    auxiliary: Vec<ArrayRef>,
    /// Keep the statistics as they are if the map is no help on pairs that are left out
    #[arg(long)]
    keep_if_worse: bool,
    /// The name of the model after the task; stats merge then refuses statistics of another model
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Where to write the moved statistics; replaced only when the run succeeded
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Serialize)]
struct Done {
    /// With a fit of an earlier run, its kind.
    method: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    classes: usize,
    dim: usize,
    /// Samples that fitted the method.
    pairs: u64,
    /// Average distance that means moved, as a share of their length.
    mean_shift: f64,
    /// What the pairs tell about the errors of the moved means.
    error: Option<Estimate>,
    /// What may be wrong, and what helps.
    warnings: Vec<Warning>,
    fit_seconds: f64,
    apply_seconds: f64,
    output_bytes: u64,
    peak_memory_bytes: Option<u64>,
    memory_budget_bytes: u64,
}

pub(crate) fn run(args: &Args) -> Result {
    if args.before.len() != args.after.len() {
        let (before, after) = (args.before.len(), args.after.len());
        let problem = format!("{before} arrays with --before, but {after} with --after: give one for each");
        return Err(Failure::usage(problem));
    }
    expect_noisy(&[args.method], args.mode, args.noise)?;
    let features = args.before.iter().chain(&args.after).chain(&args.auxiliary).map(ArrayRef::path);
    let inputs: Vec<&Path> = features.chain([&*args.statistics]).chain(args.fit.as_deref()).collect();
    destination::check(&args.output, inputs.iter().copied())?;
    if let Some(fit) = &args.save_fit {
        destination::check(fit, inputs.iter().copied())?;
        // Neither has to exist yet.
        if std::path::absolute(fit).ok() == std::path::absolute(&args.output).ok() {
            let problem = format!("{} would be the fit and the output", fit.display());
            return Err(Failure::usage(problem));
        }
    }
    args.run.start()?;
    let budget = args.budget.budget()?;
    let bar = args.run.progress();
    let start = Instant::now();
    if let Some(fit) = &args.fit {
        let (kind, fitted) = compensator::load(fit, &budget).map_err(advised)?;
        let stale = StatisticsReader::open(&args.statistics, &budget).map_err(advised)?;
        if fitted.dim() != stale.dim() {
            let problem =
                format!("fits dimension {}, {} has {}", fitted.dim(), args.statistics.display(), stale.dim());
            return Err(Failure::input(fit, problem));
        }
        let output = StatisticsWriter::create(&args.output, stale.dim(), stale.len(), &budget)?;
        let fit = Fit {
            method: kind.name(),
            mode: None,
            pairs: 0,
            arrays: Vec::new(),
            seconds: start.elapsed().as_secs_f64(),
        };
        return move_with(args, &*fitted, &stale, output, &fit, &budget, &bar);
    }
    let auxiliary = args.auxiliary.chunks_exact(2).map(|pair| (&pair[0], &pair[1]));
    let arrays = args.before.iter().zip(&args.after).chain(auxiliary);
    let arrays = arrays.map(|(before, after)| Arrays {
        before: before.clone(),
        after: Some(after.clone()),
        labels: None,
    });
    let mut source = Features::open(arrays.collect(), "fitting", &budget, &bar)?;
    let method = args.method.method(args.mode, args.noise.unwrap_or(1.0));
    let stale = method.open_statistics(&args.statistics, &source, &budget).map_err(advised)?;
    source.expect_dim(stale.dim(), &format!("{} holds statistics", args.statistics.display()))?;

    // Before the work: an output that does not fit the budget is refused at once.
    let output = StatisticsWriter::create(&args.output, stale.dim(), stale.len(), &budget)?;
    let start = Instant::now();
    let mut fitted = method.fit(&mut source, &budget)?;
    if args.keep_if_worse {
        fitted.keep_if_worse();
    }
    if let Some(fit) = &args.save_fit {
        fitted.save(fit)?;
    }
    let fit = Fit {
        method: method.name(),
        mode: Some(args.mode.name()),
        pairs: source.rows().unwrap_or(0),
        arrays: source.fingerprints(),
        seconds: start.elapsed().as_secs_f64(),
    };
    move_with(args, &*fitted, &stale, output, &fit, &budget, &bar)
}

/// Where a compensator comes from.
struct Fit {
    method: &'static str,
    mode: Option<&'static str>,
    pairs: u64,
    arrays: Vec<Fingerprint>,
    seconds: f64,
}

/// Moves all classes, and reports.
fn move_with(
    args: &Args,
    fitted: &dyn Compensator,
    stale: &StatisticsReader,
    output: StatisticsWriter,
    fit: &Fit,
    budget: &Budget,
    bar: &Bar,
) -> Result {
    let tag = stale.tag().moved(&fit.arrays, args.model.as_deref());
    let mut output =
        output.with_tag(tag.map_err(|error| Failure::from(error).about(args.statistics.display()))?);
    let start = Instant::now();
    bar.begin_steps("moving", stale.len());
    let (mut shifts, mut errors) = (0.0, Errors::default());
    let checks = fitted.uncertainty().map(|known| Checks::new(known, args.keep_if_worse, budget));
    let mut checks = checks.transpose()?;
    fitted.apply_each(stale, budget, &mut |label, old, new| {
        output.add(label, new)?;
        checks.iter_mut().for_each(|checks| checks.add(label, old, new));
        errors.add(label, new.error());
        let shift = (new.mean() - old.mean()).norm();
        shifts += if shift > 0.0 { shift / old.mean().norm() } else { 0.0 };
        bar.advance(1);
        Ok(())
    })?;
    let warnings = match checks {
        Some(checks) => checks.finish(stale.spread_if_room(budget)?.as_ref(), budget)?,
        None => Vec::new(),
    };
    let output_bytes = output.finish()?.file_bytes;
    bar.end();
    let apply_seconds = start.elapsed().as_secs_f64();

    let done = Done {
        method: fit.method,
        mode: fit.mode,
        classes: stale.len(),
        dim: stale.dim(),
        pairs: fit.pairs,
        mean_shift: shifts / stale.len().max(1) as f64,
        error: fitted.uncertainty().map(|known| Estimate::new(known, errors)),
        warnings,
        fit_seconds: fit.seconds,
        apply_seconds,
        output_bytes,
        peak_memory_bytes: process::peak_rss(),
        memory_budget_bytes: budget.limit(),
    };
    if args.run.json {
        return print_json(&done);
    }
    let mut rows = vec![
        match (fit.mode, &args.fit) {
            (Some(mode), _) => {
                ("method", format!("{}, {mode} mode, {} pairs of features", done.method, count(done.pairs)))
            }
            (None, fit) => {
                ("fit", format!("{}, {}", done.method, fit.as_deref().unwrap_or(Path::new("")).display()))
            }
        },
        ("moved", format!("{} classes, their means by {}", done.classes, percent(done.mean_shift))),
        ("took", format!("{:.1} s to fit, {apply_seconds:.1} s to move", fit.seconds)),
    ];
    rows.extend(done.error.iter().map(|error| ("error", error.text())));
    if let Some(peak) = done.peak_memory_bytes {
        rows.push(("memory", format!("peak {} of {}", bytes(peak), bytes(budget.limit()))));
    }
    rows.push(("wrote", format!("{}, {}", args.output.display(), bytes(done.output_bytes))));
    print(facts(&rows))?;
    done.warnings.iter().for_each(|warning| warn(None, warning));
    Ok(())
}
