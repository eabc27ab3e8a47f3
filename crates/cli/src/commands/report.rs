//! `residua report FILE -o report.html`.

use std::io::Write;
use std::path::{Path, PathBuf};

use residua::compensate::ClassStatistics;
use residua::compensate::statistics::{StatisticsReader, require_load};
use residua::compensate::tasks::SequenceReader;
use residua::format::file::{AtomicFile, Checkpoint, Container, FileError};
use residua::memory::Budget;
use residua::split::{BaseLocation, Progress, SplitFile, VerifyOptions, verify};
use serde::Serialize;

use crate::args::{BaseArgs, BudgetArgs, RunArgs};
use crate::compensation::methods::{MethodArg, ModeArg};
use crate::compensation::protocol::{Protocol, Variant, is_protocol};
use crate::destination;
use crate::escape;
use crate::failure::{Failure, Kind, Result};
use crate::output::{print, print_json};
use crate::progress::Bar;
use crate::report::measure::{Measured, measure};
use crate::report::page::{Section, page};
use crate::report::{drift, residual, statistics};

pub(crate) const EXAMPLE: &str = "\
Examples (the last two after residua demo and those of residua stats --help):
  residua report split.safetensors -o report.html --against model.safetensors
  residua report residua-demo/drift.safetensors -o drift.html
  residua report old-stats.safetensors -o statistics.html --against moved-stats.safetensors

The page of a split file shows memory and errors. Without --against, errors are distances from base + residual.
The page of class statistics shows spectra and how they moved. The page of a file for evaluate shows accuracies,
spectra and memory.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file written by split, stats (merge and extract too) or compensate, or a file for evaluate
    file: PathBuf,
    /// Where to write the page; replaced only when the run succeeded
    #[arg(short, long, value_name = "HTML")]
    output: PathBuf,
    /// The split checkpoint, to measure the true error; or statistics after a task
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Also measure the error of the layers' outputs, with this calibration of their inputs
    #[arg(long, value_name = "FILE", requires = "against")]
    calibration: Option<PathBuf>,
    #[command(flatten)]
    base: BaseArgs,
    /// Features after the task in a file for evaluate [default: full]
    #[arg(long, value_enum)]
    variant: Option<Variant>,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Serialize)]
struct Done<'a> {
    #[serde(serialize_with = "escape::serialize_path")]
    report: &'a Path,
    /// Of the outputs of all layers; none without a calibration.
    #[serde(skip_serializing_if = "Option::is_none")]
    output_error: Option<f64>,
}

pub(crate) fn run(args: &Args) -> Result {
    args.run.start()?;
    let budget = args.budget.budget()?;
    let files: Vec<_> = [&args.file].into_iter().chain(&args.against).collect();
    require_load(&files, |extent| ClassStatistics::spectrum_bytes(extent.dim), &budget)?;
    // A base that nobody named is where the file says. A file of another kind has none.
    let found = || {
        let container = Container::open_within(&args.file, &budget).ok()?;
        let split = SplitFile::from_container(container, &args.base.location()).ok()?;
        split.base().map(|base| base.path().to_owned())
    };
    let base = args.base.base.clone().or_else(found);
    let others = args.against.iter().chain(&base).chain(&args.calibration).map(|path| &**path);
    destination::check(&args.output, others.chain([&*args.file]))?;
    let bar = args.run.progress();
    let (section, output_error) = section(args, &budget, &bar)?;
    drop(bar);
    write(&[(name(&args.file), section)], &args.output)?;
    match args.run.json {
        true => print_json(&Done { report: &args.output, output_error }),
        false => print(format!("wrote {}", escape::path(&args.output))),
    }
}

/// The section of this kind of file; of a split file also the error of its outputs, if that was measured.
fn section(args: &Args, budget: &Budget, bar: &Bar) -> Result<(Section, Option<f64>)> {
    let file = Checkpoint::open_within(&args.file, budget)?;
    let refuse = |option: Option<&str>, holds: &str| match option {
        Some(option) => Err(Failure::usage(format!("{} holds {holds}: no {option}", args.file.display()))),
        None => Ok(()),
    };
    let variant = args.variant.map(|_| "--variant");
    let calibration = args.calibration.as_ref().map(|_| "--calibration");
    if StatisticsReader::is_in(&file) {
        refuse(args.base.given(), "class statistics")?;
        refuse(variant, "class statistics")?;
        refuse(calibration, "class statistics")?;
        let mut named = vec![(name(&args.file), StatisticsReader::of(file, budget)?.load(budget)?)];
        if let Some(other) = &args.against {
            let statistics = ClassStatistics::load(other, budget)?;
            if statistics.dim() != named[0].1.dim() {
                let (dim, expected) = (statistics.dim(), named[0].1.dim());
                return Err(Failure::input(
                    other,
                    format!("statistics of dimension {dim}, expected {expected}"),
                ));
            }
            named.push((name(other), statistics));
        }
        return Ok((statistics::section(&named, budget)?, None));
    }
    if SequenceReader::is_in(&file) {
        let problem =
            "holds the state of tasks; take one method's statistics out of it with residua stats extract";
        return Err(Failure::input(&args.file, problem));
    }
    if is_protocol(&file) {
        refuse(args.against.as_ref().map(|_| "--against"), "features to evaluate")?;
        refuse(args.base.given(), "features to evaluate")?;
        let (methods, mode) = (MethodArg::all(), ModeArg::Exact);
        let (file, variant) = (&args.file, args.variant.unwrap_or(Variant::Full));
        let protocol = Protocol { file, variant, methods, mode, noise: 1.0, auxiliary: &[], spectra: true };
        return Ok((drift::section(&protocol.run(budget, bar)?).map_err(undrawn)?, None));
    }
    if !Container::is_container(&file) {
        let problem = "is an ordinary safetensors file; report takes those of split, stats and compensate, and \
                       features as evaluate takes them";
        return Err(Failure::input(&args.file, problem));
    }
    let container = Container::from_file(file)?;
    refuse(variant, "weights")?;
    let against = args.against.as_deref();
    let mut measured = read(container, against, &args.base.location(), budget, bar)?;
    if let (Some(against), Some(calibration)) = (against, &args.calibration) {
        let mut options = VerifyOptions::default().against(against).calibration(calibration);
        options.base = args.base.location();
        measured.add_outputs(&verify(&args.file, &options, budget, bar)?);
    }
    let section = residual::section(against, &measured).map_err(undrawn)?;
    Ok((section, measured.output_error))
}

/// Measures a split file for the page.
pub(crate) fn read(
    container: Container,
    against: Option<&Path>,
    base: &BaseLocation,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<Measured> {
    let file = SplitFile::from_container(container, base)?;
    file.require_base()?;
    let against = against.map(|path| Checkpoint::open_within(path, budget)).transpose()?;
    Ok(measure(&file, against.as_ref(), budget, progress)?)
}

/// Writes a page of these sections.
pub(crate) fn write(sections: &[(String, Section)], output: &Path) -> Result {
    let mut out = AtomicFile::create(output)?;
    out.write_all(page(sections).as_bytes()).map_err(FileError::io(output, "write"))?;
    Ok(out.commit()?)
}

/// A plot failed.
pub(crate) fn undrawn(error: String) -> Failure {
    Failure::new(Kind::Other, error)
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
