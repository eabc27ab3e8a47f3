//! `residua inspect FILE`.

mod room;
mod statistics;

use std::path::{Path, PathBuf};

use residua::compensate::statistics::StatisticsReader;
use residua::compensate::tasks::SequenceReader;
use residua::format::file::{Checkpoint, Container, ContainerKind, Dtype, TensorInfo};
use residua::memory::Budget;
use residua::split::{DiffReport, Stored, report_delta};
use serde::{Serialize, Serializer};

use self::statistics::Statistics;
use crate::args::{BudgetArgs, RunArgs};
use crate::compensation::state::State;
use crate::escape;
use crate::failure::{Kind, Result};
use crate::output::{bytes, count, facts, percent, print, print_json, print_table, ratio, shape_text, table};
use crate::sizes::Sizes;
use crate::summary::MatrixSummary;

pub(crate) const EXAMPLE: &str = "\
Example:
  residua inspect split.safetensors

Bytes per non-zero count everything but the file's header. \"vs COO\" and \"vs CSR\" show how many times larger
the residual is in torch with 16-bit values: COO takes 18 bytes per non-zero; CSR takes 10, plus 8 per row.
The bars count rows by their number of non-zeros, on a logarithmic scale; --json has the numbers.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file written by split, diff, convert, stats (merge and extract too), compensate or task, or any dense
    /// .safetensors checkpoint
    file: PathBuf,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Serialize)]
struct Inspection<'a> {
    #[serde(serialize_with = "escape::serialize_path")]
    file: PathBuf,
    /// split, matrix, delta, statistics, tasks, or dense.
    kind: &'static str,
    file_bytes: u64,
    nnz: u64,
    residual_bytes: u64,
    base_bytes: u64,
    bytes_per_nnz: f64,
    /// Sums over all matrices.
    sizes: Sizes,
    matrices: Vec<MatrixSummary>,
    dense: Vec<Dense<'a>>,
    /// What a delta changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Delta>,
    /// What a file of class statistics holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    statistics: Option<Statistics>,
    /// What the state of tasks holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<State>,
}

#[derive(Serialize)]
struct Delta {
    #[serde(flatten)]
    report: DiffReport,
    changed: u64,
    bytes_per_change: f64,
}

impl From<DiffReport> for Delta {
    fn from(report: DiffReport) -> Self {
        Self { changed: report.changed(), bytes_per_change: report.bytes_per_change(), report }
    }
}

#[derive(Serialize)]
struct Dense<'a> {
    name: &'a str,
    shape: &'a [usize],
    #[serde(serialize_with = "as_text")]
    dtype: Dtype,
    bytes: u64,
}

impl<'a> From<&'a TensorInfo> for Dense<'a> {
    fn from(tensor: &'a TensorInfo) -> Self {
        Self { name: &tensor.name, shape: &tensor.shape, dtype: tensor.dtype, bytes: tensor.bytes }
    }
}

fn as_text<S: Serializer>(dtype: &Dtype, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(dtype)
}

/// The open file.
enum Source {
    Checkpoint(Checkpoint),
    Container(Container),
    Statistics(StatisticsReader),
    Tasks(SequenceReader),
}

pub(crate) fn run(args: &Args) -> Result {
    args.run.start()?;
    let budget = args.budget.budget()?;
    inspect(args, &budget).or_else(|failure| {
        if failure.kind() == Kind::Budget {
            // The error says what one of the tables needs, not the whole command.
            room::require(&args.file, &budget)?;
        }
        Err(failure)
    })
}

fn inspect(args: &Args, budget: &Budget) -> Result {
    let file = Checkpoint::open_within(&args.file, budget)?;
    crate::notes::tell(&file);
    let file_bytes = file.files().filter_map(|path| std::fs::metadata(path).ok()).map(|m| m.len()).sum();
    let source = match file {
        file if StatisticsReader::is_in(&file) => Source::Statistics(StatisticsReader::of(file, budget)?),
        file if SequenceReader::is_in(&file) => Source::Tasks(SequenceReader::of(file, budget)?),
        file if Container::is_container(&file) => Source::Container(Container::from_file(file)?),
        file => Source::Checkpoint(file),
    };
    let _held = budget.reserve_table(source.memory(), "what the file holds, tensor by tensor")?;
    let (mut statistics, mut tasks) = (None, None);
    let (kind, matrices, dense) = match &source {
        Source::Statistics(reader) => {
            statistics = Some(Statistics::read(reader, args.run.json, budget)?);
            ("statistics", Vec::new(), Vec::new())
        }
        Source::Tasks(reader) => {
            tasks = Some(State::new(reader.overview()));
            ("tasks", Vec::new(), Vec::new())
        }
        Source::Container(container) => {
            let mut matrices = Vec::with_capacity(container.matrices().len());
            for (name, meta) in container.matrices() {
                matrices.push(MatrixSummary::read(container, name, meta, budget)?.0);
            }
            (container.kind().name(), matrices, container.dense().map(Dense::from).collect())
        }
        Source::Checkpoint(file) => ("dense", Vec::new(), file.tensors().iter().map(Dense::from).collect()),
    };
    let delta = match &source {
        Source::Container(container) if container.kind() == ContainerKind::Delta => {
            Some(report_delta(container)?.into())
        }
        _ => None,
    };
    let sum = |of: fn(&MatrixSummary) -> u64| matrices.iter().map(of).sum();
    let (nnz, residual_bytes, base_bytes) =
        (sum(|m| m.nnz), sum(|m| m.residual_bytes), sum(|m| m.base_bytes));
    let inspection = Inspection {
        file: args.file.clone(),
        kind,
        file_bytes,
        nnz,
        residual_bytes,
        base_bytes,
        bytes_per_nnz: ratio(residual_bytes, nnz),
        sizes: matrices.iter().map(|m| m.sizes).sum(),
        matrices,
        dense,
        delta,
        statistics,
        tasks,
    };
    if args.run.json { print_json(&inspection) } else { show(&inspection, &args.file) }
}

impl Source {
    /// Memory of what is shown of it. The report of a delta and the table of classes take their own.
    fn memory(&self) -> u64 {
        let dense = size_of::<Dense<'_>>() as u64;
        match self {
            Self::Checkpoint(file) => file.tensors().len() as u64 * dense,
            Self::Statistics(_) | Self::Tasks(_) => 0,
            Self::Container(container) => {
                let names = container.matrices().iter().map(|(name, _)| name.len() as u64);
                let matrices = names.map(|name| name + MatrixSummary::MEMORY).sum::<u64>();
                matrices + container.dense().len() as u64 * dense
            }
        }
    }
}

fn show(all: &Inspection<'_>, file: &Path) -> Result {
    print(format!("{}: {}, {}\n", escape::path(file), all.kind, bytes(all.file_bytes)))?;
    print("")?;
    if let Some(delta) = &all.delta {
        return show_changes(delta);
    }
    if let Some(statistics) = &all.statistics {
        return print(statistics.text());
    }
    if let Some(tasks) = &all.tasks {
        return print(tasks.text());
    }
    if !all.matrices.is_empty() {
        show_matrices(all)?;
        print(facts(&totals(all)))?;
    }
    if all.kind == "dense" {
        let rows = all.dense.iter().map(|tensor| {
            [tensor.name.to_owned(), shape_text(tensor.shape), tensor.dtype.to_string(), bytes(tensor.bytes)]
        });
        print_table(|| table(["tensor", "shape", "dtype", "size"]), rows)?;
    } else if !all.dense.is_empty() {
        let sum = all.dense.iter().map(|tensor| tensor.bytes).sum();
        print(format!("\n{} more tensors passed through dense, {}", all.dense.len(), bytes(sum)))?;
    }
    Ok(())
}

fn show_matrices(all: &Inspection<'_>) -> Result {
    let header = [
        "tensor",
        "shape",
        "values",
        "density",
        "B/nnz",
        "size",
        "vs dense",
        "vs COO",
        "vs CSR",
        "row nnz",
        "rows by nnz",
    ];
    let empty = || {
        let mut table = table(header);
        table.end_with_text();
        table
    };
    let rows = all.matrices.iter().map(|matrix| {
        let times = |other: u64| format!("{:.1}×", ratio(other, matrix.residual_bytes));
        let lengths = &matrix.row_lengths;
        [
            matrix.name.clone(),
            matrix.shape_text(),
            matrix.value_name().to_owned(),
            percent(matrix.density),
            format!("{:.2}", matrix.bytes_per_nnz),
            bytes(matrix.residual_bytes),
            percent(ratio(matrix.residual_bytes, matrix.sizes.dense)),
            times(matrix.sizes.torch_coo),
            times(matrix.sizes.torch_csr),
            format!("{}–{}", lengths.min, lengths.max),
            lengths.bars(),
        ]
    });
    print_table(empty, rows).map(drop)
}

/// The changes of a delta, tensor by tensor; unchanged tensors are only counted.
fn show_changes(delta: &Delta) -> Result {
    let tensors = &delta.report.tensors;
    let changed = tensors.iter().filter(|tensor| tensor.stored != Stored::Same);
    let rows = changed.map(|tensor| {
        [
            tensor.name.clone(),
            shape_text(&tensor.shape),
            tensor.dtype.clone(),
            format!("{:?}", tensor.stored).to_lowercase(),
            count(tensor.changed),
            percent(ratio(tensor.changed, tensor.elements)),
            bytes(tensor.bytes),
            format!("{:.2}", ratio(tensor.bytes, tensor.changed)),
        ]
    });
    let header = ["tensor", "shape", "dtype", "stored", "changed", "share", "size", "B/change"];
    let changed = print_table(|| table(header), rows)?;
    let same = tensors.len() - changed;
    let DiffReport { op, removed, base_hash, target_hash, target_bytes, .. } = &delta.report;
    print(facts(&[
        ("op", op.to_string()),
        ("changed", format!("{} elements, {:.2} bytes each", count(delta.changed), delta.bytes_per_change)),
        ("tensors", format!("{changed} changed, {same} the same, {} removed", removed.len())),
        ("checkpoint", format!("{} of tensors", bytes(*target_bytes))),
        ("from", base_hash.clone()),
        ("to", target_hash.clone()),
    ]))
}

fn totals(all: &Inspection<'_>) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("residual", format!("{} non-zeros, {}", count(all.nnz), bytes(all.residual_bytes))),
        ("per non-zero", format!("{:.3} bytes", all.bytes_per_nnz)),
        ("torch COO", bytes(all.sizes.torch_coo)),
        ("torch CSR", bytes(all.sizes.torch_csr)),
        ("cuSPARSE CSR", bytes(all.sizes.cusparse_csr)),
        ("dense", bytes(all.sizes.dense)),
    ];
    if all.base_bytes > 0 {
        rows.insert(1, ("base", bytes(all.base_bytes)));
    }
    rows
}
