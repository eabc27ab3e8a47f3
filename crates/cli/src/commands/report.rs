//! `residua report FILE -o report.html`.

use std::io::Write;
use std::path::{Path, PathBuf};

use residua::format::file::{AtomicFile, Container, FileError, Kind as ContainerKind};
use residua::memory::Budget;
use residua::split::Progress;
use serde::Serialize;

use crate::args::{BudgetArgs, RunArgs};
use crate::failure::{Failure, Kind, Result};
use crate::output::{print, print_json};
use crate::report::measure::{Measured, Sources, measure};
use crate::report::page::{Heading, page};

pub(crate) const EXAMPLE: &str = "\
Example:
  residua report split.safetensors -o report.html --against model.safetensors

Without --against, errors are distances from base + residual.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file written by split
    file: PathBuf,
    /// Where to write the page; replaced only when the run succeeded
    #[arg(short, long, value_name = "HTML")]
    output: PathBuf,
    /// The checkpoint that was split, to measure the true error
    #[arg(long, value_name = "CHECKPOINT")]
    against: Option<PathBuf>,
    /// The base, where the file was split against a checkpoint [default: the path noted in the file]
    #[arg(long, value_name = "CHECKPOINT")]
    base: Option<PathBuf>,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Serialize)]
struct Done<'a> {
    report: &'a Path,
}

pub(crate) fn run(args: &Args) -> Result {
    args.run.start()?;
    let budget = args.budget.budget()?;
    let (against, base) = (args.against.as_deref(), args.base.as_deref());
    write(&args.file, (against, base), &args.output, &budget, &args.run.progress())?;
    match args.run.json {
        true => print_json(&Done { report: &args.output }),
        false => print(format!("wrote {}", args.output.display())),
    }
}

/// Writes the page; returns what it shows.
pub(crate) fn write(
    file: &Path,
    (against, base): (Option<&Path>, Option<&Path>),
    output: &Path,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<Measured> {
    let container = Container::open(file)?;
    if container.kind() != ContainerKind::Split {
        let problem =
            format!("is a container of kind {}; report needs one of kind split", container.kind().name());
        return Err(Failure::input(file, problem));
    }
    let sources = Sources::open(&container, against, base)?;
    let measured = measure(&container, &sources, budget, progress)?;
    let html =
        page(&Heading { file, against }, &measured).map_err(|error| Failure::new(Kind::Other, error))?;
    let mut out = AtomicFile::create(output)?;
    out.write_all(html.as_bytes()).map_err(FileError::io(output, "write"))?;
    out.commit()?;
    Ok(measured)
}
