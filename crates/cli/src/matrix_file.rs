//! Reads one matrix from any file that can hold one.

use std::path::Path;

use residua::format::Csr;
use residua::format::convert::gap_to_csr;
use residua::format::file::{
    Checkpoint, Container, FileError, FileMatrix, Held, TensorInfo, read_mtx, read_npy, read_npz,
};
use residua::format::gap::RowPlan;
use residua::memory::{Budget, Reservation};

use crate::failure::{Failure, Result};

/// The file formats; the suffix selects one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Npz,
    Mtx,
    Npy,
    Safetensors,
}

impl Format {
    /// The format of a path.
    ///
    /// # Errors
    /// When the suffix is unknown.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        match path.extension().map(|suffix| suffix.to_string_lossy().to_ascii_lowercase()).as_deref() {
            Some("npz") => Ok(Self::Npz),
            Some("mtx") => Ok(Self::Mtx),
            Some("npy") => Ok(Self::Npy),
            Some("safetensors") => Ok(Self::Safetensors),
            _ => Err(Failure::usage(format!(
                "{}: known suffixes are .npz, .mtx, .npy and .safetensors",
                path.display()
            ))),
        }
    }

    /// The format of an input, by its suffix; a folder or an index of shards is a checkpoint.
    ///
    /// # Errors
    /// When the suffix is unknown.
    pub(crate) fn of_input(path: &Path) -> Result<Self> {
        let is_index = path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("json"));
        if path.is_dir() || is_index { Ok(Self::Safetensors) } else { Self::of(path) }
    }
}

/// A matrix, its name in the file (if any), and its reservation.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) name: Option<String>,
    pub(crate) matrix: FileMatrix<f64>,
    pub(crate) held: Reservation,
}

/// Reads a matrix; `tensor` names one if the file holds several.
pub(crate) fn read(path: &Path, tensor: Option<&str>, budget: &Budget) -> Result<Loaded> {
    let format = Format::of_input(path)?;
    if format != Format::Safetensors && tensor.is_some() {
        return Err(Failure::usage("--tensor is for checkpoints; other files hold one matrix"));
    }
    let (name, (matrix, held)) = match format {
        Format::Npz => (None, read_npz(path, budget)?.into_parts()),
        Format::Mtx => (None, read_mtx(path, budget)?.into_parts()),
        Format::Npy => {
            let (dense, held) = read_npy(path, budget)?.into_parts();
            (None, (FileMatrix::Dense(dense), held))
        }
        Format::Safetensors => {
            let file = Checkpoint::open_within(path, budget)?;
            let (name, matrix) = if Container::is_container(&file) {
                sparse(Container::from_file(file)?, tensor, budget)?
            } else {
                dense(&file, tensor, budget)?
            };
            (Some(name), matrix)
        }
    };
    Ok(Loaded { name, matrix, held })
}

/// Memory of sorted rows of f64.
pub(crate) fn csr_bytes(rows: usize, nnz: usize) -> u64 {
    (nnz as u64 * (4 + 8)).saturating_add(4 * (rows as u64 + 1))
}

/// Memory to bring a matrix into sorted rows, without the matrix.
pub(crate) fn sorting_bytes(matrix: &FileMatrix<f64>) -> u64 {
    match matrix {
        FileMatrix::Csr(_) => 0,
        // A copy of the triplets by row, a copy of the largest group of rows, and the result; lengths, ends and pointers of
        // rows; a dense row for every thread if rows are long enough for it.
        FileMatrix::Coo(coo) => {
            let (rows, cols, entries) = (coo.rows() as u64, coo.cols() as u64, coo.nnz() as u64);
            let dense =
                if entries * 256 >= cols { 9 * cols * rayon::current_num_threads() as u64 } else { 0 };
            (16 + 16 + 12) * entries + (8 + 8 + 4) * rows + dense
        }
        // Lengths and pointers of rows, and the entries.
        FileMatrix::Dense(dense) => {
            (dense.rows() as u64).saturating_add(matrix.nnz() as u64).saturating_mul(12)
        }
    }
}

/// Memory to encode sorted rows, without them: two pointers, a mode and a scale of every row, and one of the pointers
/// twice while they are copied; plans of some rows; a row's columns and values; both planes, which never take more than
/// four index bytes an entry beside its value.
pub(crate) fn encoding_bytes(rows: usize, nnz: usize) -> u64 {
    nnz as u64 * 16
        + rows as u64 * (4 + 4 + 1 + 4 + 4)
        + (rows as u64).min(1 << 16) * size_of::<RowPlan>() as u64
}

type Parts = (String, (FileMatrix<f64>, Reservation));

/// Reads the sparse part of a matrix from a container.
fn sparse(container: Container, tensor: Option<&str>, budget: &Budget) -> Result<Parts> {
    let names = container.matrices().iter().map(|(name, _)| name.as_str());
    let name = choose(container.path(), names, tensor)?;
    let gap = container.read_gap(&name, budget)?;
    let bytes = gap.nnz() as u64 * (4 + 8) + 4 * (gap.rows() as u64 + 1);
    let held = budget.reserve(bytes, &format!("matrix {name}"))?;
    let csr: Csr<f64> = gap_to_csr(&gap)?;
    Ok((name, (FileMatrix::Csr(csr), held)))
}

fn dense(file: &Checkpoint, tensor: Option<&str>, budget: &Budget) -> Result<Parts> {
    let matrices = file.tensors().iter().filter(|tensor: &&TensorInfo| tensor.shape.len() == 2);
    let name = choose(file.path(), matrices.map(|tensor| tensor.name.as_str()), tensor)?;
    let dense: Held<_> = file.read_dense(&name, budget)?;
    let (dense, held) = dense.into_parts();
    Ok((name, (FileMatrix::Dense(dense), held)))
}

fn choose<'a>(path: &Path, mut names: impl Iterator<Item = &'a str>, wanted: Option<&str>) -> Result<String> {
    if let Some(wanted) = wanted {
        // Reading it reports a name that does not exist.
        return Ok(wanted.to_owned());
    }
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name.to_owned()),
        (None, _) => Err(FileError::malformed(path, "holds no matrix").into()),
        (Some(first), Some(second)) => Err(Failure::usage(format!(
            "{} holds {} matrices: name one with --tensor, such as {first} or {second}",
            path.display(),
            names.count() + 2
        ))),
    }
}
