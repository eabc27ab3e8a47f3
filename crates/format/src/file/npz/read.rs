//! Reading scipy's sparse matrices.

use std::path::Path;

use residua_memory::{Budget, Reservation};

use super::archive::Archive;
use crate::file::dense::grow;
use crate::file::{FileError, FileMatrix, Held, Result};
use crate::{Coo, Csr, FormatError, Value};

/// Reads a sparse matrix that `scipy.sparse.save_npz` wrote: CSR, CSC or COO, deflated or stored, with indices of any
/// integer type and values of any real type. Values are rounded to `V`.
///
/// CSR with sorted rows and no duplicates becomes [`FileMatrix::Csr`]. Everything else becomes triplets and keeps its
/// duplicates.
///
/// # Errors
/// When the archive is malformed or damaged, an array is missing or breaks a rule of its format, a finite
/// number is too large for `V`, or the budget does not allow the matrix.
pub fn read_npz<V: Value>(path: impl AsRef<Path>, budget: &Budget) -> Result<Held<FileMatrix<V>>> {
    read(path.as_ref(), budget)
}

fn read<V: Value>(path: &Path, budget: &Budget) -> Result<Held<FileMatrix<V>>> {
    let mut archive = Archive::open(path)?;
    if !archive.has("format") {
        let problem = "is no sparse matrix of scipy.sparse.save_npz, which has an array \"format\"; save a dense one \
                       with numpy.save";
        return Err(FileError::malformed(path, problem));
    }
    let mut held = budget.reserve(0, "arrays").map_err(FileError::budget(path))?;
    let matrix = match &*archive.text("format")? {
        "csr" => csr(compressed(path, &mut archive, &mut held, Axis::Row)?, path, &mut held)?,
        "csc" => {
            let columns = compressed(path, &mut archive, &mut held, Axis::Column)?;
            FileMatrix::Coo(columns.into_coo(path, &mut held)?)
        }
        "coo" => FileMatrix::Coo(coo(path, &mut archive, &mut held)?),
        other => {
            let problem = format!("{other:?} is not read; save the matrix after .tocsr()");
            return Err(FileError::tensor(path, "format", problem));
        }
    };
    Ok(Held::new(matrix, held))
}

fn coo<V: Value>(path: &Path, archive: &mut Archive, held: &mut Reservation) -> Result<Coo<V>> {
    if archive.has("coords") {
        return Err(FileError::tensor(path, "coords", "arrays of other than two dimensions are not read"));
    }
    let [rows, cols] = archive.shape(held)?;
    let values = archive.values("data", held)?;
    let row_indices = archive.indices("row", last(rows), held)?;
    let col_indices = archive.indices("col", last(cols), held)?;
    Coo::new(rows, cols, row_indices, col_indices, values).map_err(FileError::matrix(path, "coo"))
}

/// The largest index along an axis; 0 for an empty axis. The matrix types refuse that index.
fn last(size: usize) -> u64 {
    (size as u64).saturating_sub(1)
}

#[derive(Clone, Copy, PartialEq)]
enum Axis {
    Row,
    Column,
}

/// Entries that are compressed along an axis.
struct Compressed<V> {
    shape: [usize; 2],
    axis: Axis,
    pointers: Vec<u32>,
    indices: Vec<u32>,
    values: Vec<V>,
}

fn compressed<V: Value>(
    path: &Path,
    archive: &mut Archive,
    held: &mut Reservation,
    axis: Axis,
) -> Result<Compressed<V>> {
    let shape = archive.shape(held)?;
    let (major, minor) = if axis == Axis::Row { (shape[0], shape[1]) } else { (shape[1], shape[0]) };
    let values: Vec<V> = archive.values("data", held)?;
    let indices = archive.indices("indices", last(minor), held)?;
    same_length(path, "indices", indices.len(), values.len())?;
    let pointers = archive.indices("indptr", values.len() as u64, held)?;
    same_length(path, "indptr", pointers.len(), major + 1)?;
    let pointer = |position: usize, rule| {
        let error = FormatError::RowPointer { position, found: pointers[position].into(), rule };
        Err(FileError::matrix(path, "indptr")(error))
    };
    if pointers[0] != 0 {
        return pointer(0, "the first is 0");
    }
    if let Some(fall) = pointers.windows(2).position(|pair| pair[1] < pair[0]) {
        return pointer(fall + 1, "they never fall");
    }
    if pointers[major] as usize != values.len() {
        return pointer(major, "the last is the number of entries");
    }
    Ok(Compressed { shape, axis, pointers, indices, values })
}

fn same_length(path: &Path, what: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(FileError::matrix(path, what)(FormatError::Length { what, found, expected }))
}

/// Rows as CSR if they are sorted and have no duplicates, otherwise as triplets. scipy writes both.
fn csr<V: Value>(rows: Compressed<V>, path: &Path, held: &mut Reservation) -> Result<FileMatrix<V>> {
    let sorted = rows.pointers.windows(2).all(|pair| {
        rows.indices[pair[0] as usize..pair[1] as usize].windows(2).all(|pair| pair[0] < pair[1])
    });
    if !sorted {
        return rows.into_coo(path, held).map(FileMatrix::Coo);
    }
    let Compressed { shape: [height, width], pointers, indices, values, .. } = rows;
    Csr::new(height, width, pointers, indices, values)
        .map(FileMatrix::Csr)
        .map_err(FileError::matrix(path, "csr"))
}

impl<V: Value> Compressed<V> {
    fn into_coo(self, path: &Path, held: &mut Reservation) -> Result<Coo<V>> {
        grow::<u32>(held, path, "triplets", self.values.len())?;
        let mut major = Vec::with_capacity(self.values.len());
        for (i, &end) in self.pointers[1..].iter().enumerate() {
            major.resize(end as usize, i as u32);
        }
        let [rows, cols] = self.shape;
        let (row_indices, col_indices) =
            if self.axis == Axis::Row { (major, self.indices) } else { (self.indices, major) };
        Coo::new(rows, cols, row_indices, col_indices, self.values).map_err(FileError::matrix(path, "coo"))
    }
}
