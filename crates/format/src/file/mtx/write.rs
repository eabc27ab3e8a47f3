//! Writing Matrix Market files.

use std::io::Write;
use std::path::Path;

use crate::file::{AtomicFile, FileError, Result};
use crate::{Coo, Csr, FormatError, Value};

/// Writes `coordinate real general`. Every value has the fewest digits that read back as the same value.
///
/// # Errors
/// When a value is NaN or infinite (the format has neither), or the file cannot be written.
pub fn write_mtx_csr<V: Value>(path: impl AsRef<Path>, csr: &Csr<V>) -> Result<()> {
    let entries = (0..csr.rows()).flat_map(|row| {
        let (columns, values) = csr.row(row);
        columns.iter().zip(values).map(move |(&col, &value)| (row, col as usize, value))
    });
    write(path.as_ref(), [csr.rows(), csr.cols()], csr.nnz(), entries)
}

/// As [`write_mtx_csr`], with the entries in their order.
///
/// # Errors
/// As [`write_mtx_csr`].
pub fn write_mtx_coo<V: Value>(path: impl AsRef<Path>, coo: &Coo<V>) -> Result<()> {
    let places = coo.row_indices().iter().zip(coo.col_indices());
    let entries = places.zip(coo.values()).map(|((&row, &col), &value)| (row as usize, col as usize, value));
    write(path.as_ref(), [coo.rows(), coo.cols()], coo.nnz(), entries)
}

fn write<V: Value>(
    path: &Path,
    [rows, cols]: [usize; 2],
    nnz: usize,
    entries: impl Iterator<Item = (usize, usize, V)>,
) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    let io = || FileError::io(path, "write");
    write!(file, "%%MatrixMarket matrix coordinate real general\n{rows} {cols} {nnz}\n").map_err(io())?;
    for (row, col, value) in entries {
        let wide = value.to_f64();
        if !wide.is_finite() {
            return Err(FileError::matrix(path, "matrix")(FormatError::NotFinite { row, col, value: wide }));
        }
        // The fewest digits are those of the narrower type, if `V` is one.
        let written = if size_of::<V>() <= 4 {
            writeln!(file, "{} {} {:e}", row + 1, col + 1, value.to_f32())
        } else {
            writeln!(file, "{} {} {wide:e}", row + 1, col + 1)
        };
        written.map_err(io())?;
    }
    file.commit()
}
