//! One pass over a container: sizes, row lengths, and the sums behind the error curves.

use std::collections::BTreeSet;
use std::ops::Range;

use residua::format::QuantizedBase;
use residua::format::file::{Checkpoint, Container, FileError, MatrixMeta, TensorInfo};
use residua::memory::{Budget, ChunkPolicy};
use residua::split::{Progress, SplitFile, VerifyReport};

use super::curves::{Curves, Sums};
use crate::dense_rows::{read_rows, row_bytes};
use crate::sizes::Sizes;
use crate::summary::MatrixSummary;

/// Rows by their density, in steps of a thousandth.
const DENSITY_STEPS: usize = 1000;
/// Largest number of rows per block.
const BLOCK: usize = 256;
/// Bytes per block to hash.
const HASHED: usize = 1 << 20;
/// Matrices that the page lists, at most.
const LISTED: usize = 100;

/// Sums over all matrices.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) matrices: u64,
    pub(crate) elements: u64,
    pub(crate) nnz: u64,
    pub(crate) residual_bytes: u64,
    pub(crate) base_bytes: u64,
    pub(crate) sizes: Sizes,
    /// Names of value types.
    pub(crate) values: BTreeSet<&'static str>,
    /// Names of kinds of bases.
    pub(crate) bases: BTreeSet<&'static str>,
}

/// The data of the page.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Sums over all matrices.
    pub(crate) totals: Totals,
    /// The largest matrices, in the order of the file.
    pub(crate) largest: Vec<MatrixSummary>,
    /// Rows whose density is `i` thousandths, of all matrices.
    pub(crate) rows_by_density: Vec<u64>,
    /// Errors; empty without the base.
    pub(crate) curves: Curves,
    /// Bytes of all files of the container.
    pub(crate) file_bytes: u64,
    /// Bytes of tensors that passed through.
    pub(crate) dense_bytes: u64,
    /// The error of the outputs of all layers, if it was measured.
    pub(crate) output_error: Option<f64>,
    /// The same of each of the largest matrices; empty if it was not measured.
    pub(crate) output_errors: Vec<Option<f64>>,
}

impl Measured {
    /// Takes over the errors of outputs.
    pub(crate) fn add_outputs(&mut self, report: &VerifyReport) {
        self.output_error = report.output_error();
        let of = |name: &str| report.tensors.iter().find(|tensor| tensor.name == name)?.output_error;
        self.output_errors = self.largest.iter().map(|matrix| of(&matrix.name)).collect();
    }
}

/// Reads everything. `against` is the original checkpoint, for the true error.
pub(crate) fn measure(
    file: &SplitFile,
    against: Option<&Checkpoint>,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<Measured, FileError> {
    let container = file.container();
    let elements = |meta: &MatrixMeta| meta.shape[0] as u64 * meta.shape[1] as u64;
    progress.begin("measuring", container.matrices().iter().map(|(_, meta)| elements(meta)).sum());
    let mut rows_by_density = vec![0; DENSITY_STEPS + 1];
    let (mut totals, mut largest, mut curves) = (Totals::default(), Vec::new(), Curves::default());
    for (name, meta) in container.matrices() {
        progress.tensor(name);
        let (summary, lengths) = MatrixSummary::read(container, name, meta, budget)?;
        for length in lengths {
            let density = f64::from(length) / (meta.shape[1] as f64).max(1.0);
            rows_by_density[(density * DENSITY_STEPS as f64) as usize] += 1;
        }
        totals.add(&summary);
        largest.push(summary);
        if largest.len() == 2 * LISTED {
            keep_largest(&mut largest);
        }
        curves.add(&sum_up(file, against, name, meta, budget, progress)?);
    }
    progress.end();
    keep_largest(&mut largest);
    let files = container.file().files().filter_map(|path| std::fs::metadata(path).ok());
    let file_bytes = files.map(|metadata| metadata.len()).sum();
    let dense_bytes = container.dense().map(|tensor| tensor.bytes).sum();
    let (output_error, output_errors) = (None, Vec::new());
    Ok(Measured {
        totals,
        largest,
        rows_by_density,
        curves,
        file_bytes,
        dense_bytes,
        output_error,
        output_errors,
    })
}

/// Keeps the [`LISTED`] matrices with the most elements, in the order of their names.
fn keep_largest(matrices: &mut Vec<MatrixSummary>) {
    matrices.sort_by_key(|matrix| std::cmp::Reverse(matrix.elements()));
    matrices.truncate(LISTED);
    matrices.sort_by(|a, b| a.name.cmp(&b.name));
}

impl Totals {
    fn add(&mut self, matrix: &MatrixSummary) {
        self.matrices += 1;
        self.elements += matrix.elements();
        self.nnz += matrix.nnz;
        self.residual_bytes += matrix.residual_bytes;
        self.base_bytes += matrix.base_bytes;
        self.sizes += matrix.sizes;
        self.values.insert(matrix.value_name());
        self.bases.extend(matrix.base);
    }
}

fn sum_up(
    file: &SplitFile,
    against: Option<&Checkpoint>,
    name: &str,
    meta: &MatrixMeta,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<Sums, FileError> {
    let [rows, cols] = meta.shape;
    let container = file.container();
    let tensor = |file| Ok::<_, FileError>((file, find(file, name, meta)?));
    let (against, base) = (against.map(tensor).transpose()?, file.base().map(tensor).transpose()?);
    if let Some((file, tensor)) = &base {
        check_hash(file, tensor, meta, budget)?;
    }
    let dense = against.iter().chain(&base).map(|(_, tensor)| row_bytes(tensor));
    let dense_bytes = dense.sum::<u64>() + 4 * cols as u64;
    let block = ChunkPolicy::Computed.chunk(budget, dense_bytes, BLOCK);
    let held = budget.reserve(dense_bytes * block as u64, &format!("rows of {name}"));
    let held = held.map_err(FileError::budget(container.path()))?;
    let mut sums = Sums::default();
    let (mut base_rows, mut weights) = (Vec::new(), Vec::new());
    for start in (0..rows).step_by(block) {
        let range = start..rows.min(start + block);
        match &base {
            Some((file, tensor)) => read_rows(file, tensor, start, range.len(), &mut base_rows)?,
            None => dequantize(&*container.read_base_rows(name, range.clone(), budget)?, &mut base_rows),
        }
        if let Some((file, tensor)) = &against {
            read_rows(file, tensor, start, range.len(), &mut weights)?;
        }
        add_rows(container, name, range, cols, (&base_rows, &weights), budget, &mut sums)?;
        progress.advance(block.min(rows - start) as u64 * cols as u64);
    }
    drop(held);
    Ok(sums)
}

/// Adds a block; `weights` is empty without a checkpoint to compare with.
fn add_rows(
    container: &Container,
    name: &str,
    rows: Range<usize>,
    cols: usize,
    (base, weights): (&[f32], &[f32]),
    budget: &Budget,
    sums: &mut Sums,
) -> Result<(), FileError> {
    let residual = container.read_gap_rows(name, rows, budget)?;
    for row in 0..residual.rows() {
        let range = row * cols..(row + 1) * cols;
        sums.add_row(&base[range.clone()], residual.row(row), weights.get(range));
    }
    Ok(())
}

fn dequantize(base: &QuantizedBase, out: &mut Vec<f32>) {
    out.resize(base.rows() * base.cols(), 0.0);
    out.chunks_mut(base.cols()).enumerate().for_each(|(row, out)| base.dequantize_row(row, out));
}

/// The tensor of this name, with the same number of rows and columns.
fn find(file: &Checkpoint, name: &str, meta: &MatrixMeta) -> Result<TensorInfo, FileError> {
    let tensor = file.expect_tensor(name)?;
    let shape = meta.tensor_shape.as_deref().unwrap_or(&meta.shape);
    if tensor.shape != shape {
        let problem = format!("shape {:?}, but the split file has {shape:?}", tensor.shape);
        return Err(FileError::tensor(file.file_of(tensor), name, problem));
    }
    Ok(tensor.clone())
}

/// Checks that a base is the one of the split.
fn check_hash(
    base: &Checkpoint,
    tensor: &TensorInfo,
    meta: &MatrixMeta,
    budget: &Budget,
) -> Result<(), FileError> {
    let Some(expected) = meta.base_hash.clone() else { return Ok(()) };
    let _held = budget.reserve(HASHED as u64, "hashing a base").map_err(FileError::budget(base.path()))?;
    let found = base.hash_tensor(tensor, &mut vec![0; HASHED])?;
    if found != expected {
        let (path, what) = (base.file_of(tensor).to_owned(), format!("tensor {}", tensor.name));
        return Err(FileError::Hash { path, what, expected, found });
    }
    Ok(())
}
