//! `residua demo`: everything on bundled real weights and features.

mod dense;
mod drift;
mod plain;
mod speed;

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use plain::Stored;
use residua::format::file::{AtomicFile, Checkpoint, Container, FileError};
use residua::memory::process;
use residua::split::{
    BaseLocation, Output, SplitOptions, SplitReport, VerifiedTensor, VerifyOptions, split, verify,
};
use residua::{Device, DeviceOptions};
use serde::Serialize;
use speed::Speed;

use crate::args::{BudgetArgs, RunArgs};
use crate::commands::report;
use crate::compensation::protocol::Evaluation;
use crate::failure::{Failure, Kind, Result};
use crate::output::{Table, bytes, count, facts, percent, print, print_json, ratio, table};
use crate::report::{drift as drift_report, residual};
use crate::sizes::Sizes;

pub(crate) const EXAMPLE: &str = "\
Example:
  residua demo --output residua-demo";

/// Encoder layer 0 of all-MiniLM-L6-v2 (Apache-2.0), bf16; see `assets/README.md`.
#[cfg(feature = "demo")]
const WEIGHTS: &[u8] = include_bytes!("../../../assets/minilm-layer.safetensors");
#[cfg(not(feature = "demo"))]
const WEIGHTS: &[u8] = &[];
const BATCHES: [usize; 2] = [1, 32];
/// What `split` makes by default, in the table of errors.
const OURS: &str = "Residua, lut4-g16 and a residual";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder for the files and the report
    #[arg(short, long, value_name = "FOLDER", default_value = "residua-demo")]
    output: PathBuf,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Serialize)]
struct Demo {
    device: String,
    split: SplitReport,
    split_seconds: f64,
    /// Relative error of all layers together: base alone, base and residual.
    errors: [f64; 2],
    /// The same weights in plain quantisers and in the split, the fewest bits first.
    stored: Vec<Stored>,
    /// The same layers in other formats.
    sizes: Sizes,
    /// All layers in turn, medians.
    speed: Vec<Speed>,
    /// Class statistics that follow a model.
    compensation: drift::Compensation,
    #[serde(serialize_with = "crate::escape::serialize_path")]
    report: PathBuf,
    peak_memory_bytes: Option<u64>,
}

pub(crate) fn run(args: &Args) -> Result {
    if WEIGHTS.is_empty() {
        let problem = "this build has no data for the demo; `cargo run --release` in the repository has it";
        return Err(Failure::usage(problem));
    }
    args.run.start()?;
    let budget = args.budget.budget()?;
    let bar = args.run.progress();
    let folder = &args.output;
    std::fs::create_dir_all(folder).map_err(FileError::io(folder, "create"))?;
    let [weights, file, features, page] =
        ["model.safetensors", "split.safetensors", "drift.safetensors", "report.html"]
            .map(|n| folder.join(n));
    for (path, content) in [(&weights, WEIGHTS), (&features, drift::FEATURES)] {
        expect_own(path, content)?;
    }
    for path in [&weights, &file, &features, &page] {
        AtomicFile::check(path)?;
    }
    write(&weights, WEIGHTS)?;
    write(&features, drift::FEATURES)?;

    let start = Instant::now();
    let report = split(&weights, Output(&file), &SplitOptions::default(), &budget, &bar)?;
    let split_seconds = start.elapsed().as_secs_f64();
    let found = verify(&file, &VerifyOptions::default().against(&weights), &budget, &bar)?;
    let wrong = |tensor: &VerifiedTensor| tensor.problem.clone().or_else(|| tensor.mismatch.clone());
    if let Some((tensor, problem)) = found.tensors.iter().find_map(|tensor| Some((tensor, wrong(tensor)?))) {
        return Err(Failure::new(Kind::Other, format!("{}: {}: {problem}", file.display(), tensor.name)));
    }
    let measured = report::read(Container::open(&file)?, Some(&weights), &BaseLocation::Near, &budget, &bar)?;
    let errors = measured.curves.by_alpha();

    let cpu = Device::open_with("cpu", &DeviceOptions::default().threads(1), &budget)?;
    let dense = Checkpoint::open(&weights)?;
    let names = report.tensors.iter().map(|tensor| &*tensor.name);
    let mut stored = plain::measure(&dense, names, &budget)?;
    let ours = report.base_bytes() + report.residual_bytes();
    let bits = 8.0 * ratio(ours, report.parameters());
    stored.push(Stored { name: OURS, bits, error: report.error() });
    stored.sort_by(|a, b| a.bits.total_cmp(&b.bits));
    let speed = speed::measure(&file, &dense, &cpu, &BATCHES)?;
    // Every method measures its own peak; the demo's is the largest of all.
    let peak = process::peak_rss();
    let evaluation = drift::evaluate(&features, &budget, &bar)?;
    let sections = [
        ("A checkpoint split".to_owned(), residual::section(Some(&weights), &measured)),
        ("Class statistics that follow a model".to_owned(), drift_report::section(&evaluation)),
    ];
    let sections: Vec<_> = sections
        .into_iter()
        .map(|(name, section)| section.map(|section| (name, section)))
        .collect::<Result<_, _>>()
        .map_err(report::undrawn)?;
    report::write(&sections, &page)?;
    let demo = Demo {
        device: cpu.description(),
        split: report,
        split_seconds,
        errors: [0.0, 1.0]
            .map(|at| errors.iter().find(|(alpha, _)| *alpha == at).map_or(0.0, |point| point.1)),
        stored,
        sizes: measured.totals.sizes,
        speed,
        compensation: drift::Compensation::from(&evaluation),
        report: page,
        peak_memory_bytes: [peak, evaluation.peak_bytes(), process::peak_rss()].into_iter().flatten().max(),
    };
    drop(bar);
    if args.run.json { print_json(&demo) } else { print(text(&demo, &file, &evaluation)) }
}

/// Refuses to replace a file that no earlier demo wrote.
fn expect_own(path: &Path, content: &[u8]) -> Result {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FileError::io(path, "open")(error).into()),
    };
    // Compare block by block: the file may be larger than the budget.
    let mut block = [0; 1 << 16];
    let holds =
        |part: &[u8]| file.read_exact(&mut block[..part.len()]).is_ok() && block[..part.len()] == *part;
    let length = std::fs::metadata(path).map_err(FileError::io(path, "read"))?.len();
    if length == content.len() as u64 && content.chunks(1 << 16).all(holds) {
        return Ok(());
    }
    Err(Failure::usage(format!("{} is another file than the demo's: name another folder", path.display())))
}

fn write(path: &Path, content: &[u8]) -> Result {
    let mut out = AtomicFile::create(path)?;
    out.write_all(content).map_err(FileError::io(path, "write"))?;
    Ok(out.commit()?)
}

fn text(demo: &Demo, file: &Path, evaluation: &Evaluation) -> String {
    let split = &demo.split;
    let rate = split.parameters() as f64 / demo.split_seconds / 1e6;
    let path = demo.report.canonicalize().unwrap_or_else(|_| demo.report.clone());
    let head = facts(&[
        ("weights", format!("an encoder layer of all-MiniLM-L6-v2, {} of bf16", bytes(split.input_bytes))),
        (
            "split",
            format!(
                "{} matrices, {} weights: lut4-g16 base + {} residual, {:.2} s ({rate:.0} M weights/s)",
                split.tensors.len(),
                count(split.parameters()),
                percent(ratio(split.nnz(), split.parameters())),
                demo.split_seconds
            ),
        ),
        ("file", format!("{}, {}", file.display(), bytes(split.output_bytes))),
        (
            "verify",
            format!("✓ sound; error {} (base alone {})", percent(demo.errors[1]), percent(demo.errors[0])),
        ),
    ]);
    let tail = facts(&[
        ("report", path.display().to_string()),
        (
            "memory",
            format!("peak {} of the process", demo.peak_memory_bytes.map_or_else(|| "?".into(), bytes)),
        ),
        ("next", format!("residua inspect {}; residua evaluate --help; residua --help", file.display())),
    ]);
    let (errors, memory, speeds) = (errors(demo), memory(demo), speeds(demo));
    let drift = drift::text(evaluation);
    format!("{head}\n{errors}\n\n{memory}\n\n{speeds}\n\n{drift}\n\n{tail}")
}

fn errors(demo: &Demo) -> Table {
    let mut table = table(["error of the weights", "bits per weight", "error"]);
    for stored in &demo.stored {
        table.add_row([stored.name.to_owned(), format!("{:.2}", stored.bits), percent(stored.error)]);
    }
    table
}

fn memory(demo: &Demo) -> Table {
    let (split, sizes) = (&demo.split, &demo.sizes);
    let (nnz, ours) = (split.nnz(), split.residual_bytes());
    let mut table = table(["matrices in the file", "size", "bytes per non-zero", "against ours"]);
    let residual = [
        ("residual as torch COO", sizes.torch_coo),
        ("residual as torch CSR", sizes.torch_csr),
        ("residual as cuSPARSE CSR", sizes.cusparse_csr),
        ("residual, gap-encoded CSR", ours),
    ];
    table.add_row(["dense bf16".to_owned(), bytes(sizes.dense), String::new(), String::new()]);
    table.add_row(["base lut4-g16".to_owned(), bytes(split.base_bytes()), String::new(), String::new()]);
    for (name, size) in residual {
        let (each, times) = (format!("{:.2}", ratio(size, nnz)), format!("{:.2}×", ratio(size, ours)));
        table.add_row([name.to_owned(), bytes(size), each, times]);
    }
    table
}

fn speeds(demo: &Demo) -> Table {
    let speed = format!("speed, {}", demo.device);
    let mut table = table([&speed, "dense f32", "residual alone", "whole layer", "largest difference"]);
    for speed in &demo.speed {
        let against = |seconds: f64| format!("{:.3} ms ({:.1}×)", seconds * 1e3, speed.dense / seconds);
        table.add_row([
            match speed.batch {
                1 => "all matrices × 1 vector".to_owned(),
                n => format!("all matrices × {n} vectors"),
            },
            format!("{:.3} ms", speed.dense * 1e3),
            against(speed.residual),
            against(speed.layer),
            format!("{:.0e}", speed.difference),
        ]);
    }
    table
}
