//! `residua inspect FILE`.

mod statistics;

use std::path::{Path, PathBuf};

use residua::compensate::open_checkpoint;
use residua::compensate::statistics::StatisticsReader;
use residua::compensate::tasks::SequenceReader;
use residua::format::file::{Container, TensorInfo};
use residua::split::{DiffReport, Stored, read_delta};
use serde::Serialize;

use self::statistics::Statistics;
use crate::args::{BudgetArgs, RunArgs};
use crate::compensation::state::State;
use crate::escape;
use crate::failure::Result;
use crate::output::{Table, bytes, count, facts, percent, print, print_json, ratio, shape_text, table};
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
struct Inspection {
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
    dense: Vec<Dense>,
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
struct Dense {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    bytes: u64,
}

impl From<&TensorInfo> for Dense {
    fn from(tensor: &TensorInfo) -> Self {
        let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
        Self { name, shape, dtype: tensor.dtype.to_string(), bytes: tensor.bytes }
    }
}

pub(crate) fn run(args: &Args) -> Result {
    args.run.start()?;
    let budget = args.budget.budget()?;
    let file = open_checkpoint(&args.file, &budget)?;
    crate::notes::tell(&file);
    let file_bytes = file.files().filter_map(|path| std::fs::metadata(path).ok()).map(|m| m.len()).sum();
    let (mut statistics, mut tasks) = (None, None);
    let (kind, matrices, dense) = if StatisticsReader::is_in(&file) {
        statistics = Some(Statistics::read(&StatisticsReader::of(file, &budget)?, args.run.json, &budget)?);
        ("statistics", Vec::new(), Vec::new())
    } else if SequenceReader::is_in(&file) {
        tasks = Some(State::new(&SequenceReader::of(file, &budget)?));
        ("tasks", Vec::new(), Vec::new())
    } else if Container::is_container(&file) {
        let (file, _held) = file.into_parts();
        let container = Container::from_file(file)?;
        let mut matrices = Vec::new();
        for (name, meta) in container.matrices() {
            matrices.push(MatrixSummary::read(&container, name, meta, &budget)?.0);
        }
        (container.kind().name(), matrices, container.dense().iter().map(Dense::from).collect())
    } else {
        ("dense", Vec::new(), file.tensors().iter().map(Dense::from).collect())
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
        delta: if kind == "delta" { Some(read_delta(&args.file)?.into()) } else { None },
        statistics,
        tasks,
    };
    if args.run.json { print_json(&inspection) } else { print(text(&inspection, &args.file)) }
}

fn text(all: &Inspection, file: &Path) -> String {
    let mut text = format!("{}: {}, {}\n\n", escape::path(file), all.kind, bytes(all.file_bytes));
    if let Some(delta) = &all.delta {
        return text + &changes(delta);
    }
    if let Some(statistics) = &all.statistics {
        return text + &statistics.text();
    }
    if let Some(tasks) = &all.tasks {
        return text + &tasks.text();
    }
    if !all.matrices.is_empty() {
        text += &format!("{}\n\n{}", matrices(all), facts(&totals(all)));
    }
    if all.kind == "dense" {
        let mut table = table(["tensor", "shape", "dtype", "size"]);
        for tensor in &all.dense {
            let (dtype, size) = (tensor.dtype.clone(), bytes(tensor.bytes));
            table.add_row([tensor.name.clone(), shape_text(&tensor.shape), dtype, size]);
        }
        text += &table.to_string();
    } else if !all.dense.is_empty() {
        let sum = all.dense.iter().map(|tensor| tensor.bytes).sum();
        text += &format!("\n{} more tensors passed through dense, {}", all.dense.len(), bytes(sum));
    }
    text
}

fn matrices(all: &Inspection) -> Table {
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
    let mut table = table(header);
    table.end_with_text();
    for matrix in &all.matrices {
        let times = |other: u64| format!("{:.1}×", ratio(other, matrix.residual_bytes));
        let lengths = &matrix.row_lengths;
        table.add_row([
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
        ]);
    }
    table
}

/// The changes of a delta, tensor by tensor; unchanged tensors are only counted.
fn changes(delta: &Delta) -> String {
    let mut table = table(["tensor", "shape", "dtype", "stored", "changed", "share", "size", "B/change"]);
    let mut same = 0;
    for tensor in &delta.report.tensors {
        if tensor.stored == Stored::Same {
            same += 1;
            continue;
        }
        table.add_row([
            tensor.name.clone(),
            shape_text(&tensor.shape),
            tensor.dtype.clone(),
            format!("{:?}", tensor.stored).to_lowercase(),
            count(tensor.changed),
            percent(ratio(tensor.changed, tensor.elements)),
            bytes(tensor.bytes),
            format!("{:.2}", ratio(tensor.bytes, tensor.changed)),
        ]);
    }
    let DiffReport { op, removed, base_hash, target_hash, target_bytes, .. } = &delta.report;
    let totals = facts(&[
        ("op", op.to_string()),
        ("changed", format!("{} elements, {:.2} bytes each", count(delta.changed), delta.bytes_per_change)),
        ("tensors", format!("{} changed, {same} the same, {} removed", table.row_count(), removed.len())),
        ("checkpoint", format!("{} of tensors", bytes(*target_bytes))),
        ("from", base_hash.clone()),
        ("to", target_hash.clone()),
    ]);
    if table.is_empty() { totals } else { format!("{table}\n\n{totals}") }
}

fn totals(all: &Inspection) -> Vec<(&'static str, String)> {
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
