//! Reading scipy's sparse matrices.

use std::path::Path;

use residua_memory::{Budget, Reservation};

use super::archive::Archive;
use super::blocks::{block_rows, diagonals};
use crate::file::dense::grow;
use crate::file::{FileError, FileMatrix, Held, Result};
use crate::{Coo, Csr, FormatError, Value};

/// Reads a sparse matrix that `scipy.sparse.save_npz` wrote: CSR, CSC, COO, BSR or DIA, deflated or stored, indices of
/// any integer type, values of any type of numbers. Floats are rounded to `V`. An array of one dimension is read as
/// one row. Entries behind the last row pointer, which scipy allows, are left out.
///
/// CSR with sorted rows and no duplicates comes as [`FileMatrix::Csr`]; everything else as triplets,
/// duplicates kept, but those of booleans: a place is 1 where any of its entries is true. Zeros inside the blocks of
/// BSR and the diagonals of DIA are left out.
///
/// # Errors
/// When the archive is malformed or damaged, an array is missing or breaks a rule of its format, a finite
/// number is too large for `V`, `V` cannot hold an integer exactly, or the budget does not allow the matrix.
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
    let format = archive.text("format")?;
    let sizes = archive.shape(&mut held)?;
    // An array of one dimension is one row.
    let shape = [if sizes.len() == 2 { sizes[0] } else { 1 }, sizes[sizes.len() - 1]];
    let matrix = match (&*format, sizes.len()) {
        ("csr", _) => csr(compressed(path, &mut archive, &mut held, shape, Axis::Row)?, path, &mut held)?,
        ("csc", 2) => {
            let columns = compressed(path, &mut archive, &mut held, shape, Axis::Column)?;
            FileMatrix::Coo(columns.into_coo(path, &mut held)?)
        }
        ("coo", _) => FileMatrix::Coo(coo(path, &mut archive, &mut held, &sizes, shape)?),
        ("bsr", 2) => FileMatrix::Coo(block_rows(path, &mut archive, &mut held, shape)?),
        ("dia", 2) => FileMatrix::Coo(diagonals(path, &mut archive, &mut held, shape)?),
        ("csc" | "bsr" | "dia", _) => {
            let problem = format!("one dimension, but {format:?} has two");
            return Err(FileError::tensor(path, "shape", problem));
        }
        (other, _) => {
            let problem = format!("{other:?} is not read; save the matrix after .tocsr()");
            return Err(FileError::tensor(path, "format", problem));
        }
    };
    let matrix = match matrix {
        FileMatrix::Coo(coo) if archive.is_bool("data")? => FileMatrix::Coo(either(&coo, path, &mut held)?),
        matrix => matrix,
    };
    Ok(Held::new(matrix, held))
}

/// Triplets of booleans, every place once: true where any of its entries is, as scipy adds booleans.
fn either<V: Value>(coo: &Coo<V>, path: &Path, held: &mut Reservation) -> Result<Coo<V>> {
    grow::<(u32, u32)>(held, path, "places of booleans", coo.nnz())?;
    let places = coo.row_indices().iter().zip(coo.col_indices()).zip(coo.values());
    let mut places: Vec<(u32, u32)> =
        places.filter(|(_, value)| **value != V::default()).map(|((&row, &col), _)| (row, col)).collect();
    places.sort_unstable();
    places.dedup();
    grow::<(u32, u32)>(held, path, "triplets", places.len())?;
    grow::<V>(held, path, "triplets", places.len())?;
    let (rows, cols) = places.iter().copied().unzip();
    let values = vec![V::from_f64(1.0); places.len()];
    Coo::new(coo.rows(), coo.cols(), rows, cols, values).map_err(FileError::matrix(path, "coo"))
}

fn coo<V: Value>(
    path: &Path,
    archive: &mut Archive,
    held: &mut Reservation,
    sizes: &[usize],
    [rows, cols]: [usize; 2],
) -> Result<Coo<V>> {
    let values = archive.values::<1, V>("data", usize::MAX, held)?;
    let (row_indices, col_indices) = if archive.has("coords") {
        let most: Vec<u64> = sizes.iter().map(|&size| last(size)).collect();
        let mut coordinates = archive.coordinates("coords", &most, held)?;
        let entries = coordinates.len() / sizes.len();
        // The rows, which there are none of where there is one dimension.
        grow::<u32>(held, path, "row", entries)?;
        let columns = coordinates.split_off(coordinates.len() - entries);
        coordinates.resize(entries, 0);
        (coordinates, columns)
    } else if sizes.len() == 1 {
        return Err(FileError::missing(path, "coords", []));
    } else {
        let row_indices = archive.indices("row", usize::MAX, last(rows), held)?;
        (row_indices, archive.indices("col", usize::MAX, last(cols), held)?)
    };
    Coo::new(rows, cols, row_indices, col_indices, values).map_err(FileError::matrix(path, "coo"))
}

/// The largest index along an axis. Of an empty axis it is still 0, which the matrix types refuse.
pub(super) fn last(size: usize) -> u64 {
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
    shape: [usize; 2],
    axis: Axis,
) -> Result<Compressed<V>> {
    let (major, minor) = if axis == Axis::Row { (shape[0], shape[1]) } else { (shape[1], shape[0]) };
    let [there] = archive.sizes("data")?;
    let pointers = pointers(path, archive, held, major, there)?;
    let entries = pointers[major] as usize;
    let indices = archive.indices("indices", entries, last(minor), held)?;
    let values = archive.values::<1, V>("data", entries, held)?;
    Ok(Compressed { shape, axis, pointers, indices, values })
}

/// Where each of `major` slices starts and the last one ends, among `there` indices. The last may end before the
/// indices do.
pub(super) fn pointers(
    path: &Path,
    archive: &mut Archive,
    held: &mut Reservation,
    major: usize,
    there: usize,
) -> Result<Vec<u32>> {
    let ([indices], [found]) = (archive.sizes("indices")?, archive.sizes("indptr")?);
    same_length(path, "indices", indices, there)?;
    same_length(path, "indptr", found, major + 1)?;
    let pointers = archive.indices("indptr", major + 1, there as u64, held)?;
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
    Ok(pointers)
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
