//! NumPy's `.npy`: one dense array.

mod header;
mod order;
mod reader;

use std::io::Write;
use std::path::Path;

use residua_memory::Budget;

pub use header::NpyHeader;
pub(super) use order::FortranOrder;
pub use reader::NpyFile;

use super::dense::reserve;
use super::number::Number;
use super::{AtomicFile, Dense, FileError, Held, Result};
use crate::Value;

/// Reads a `.npy` file: one or two dimensions, C or Fortran order, either byte order, booleans, integers,
/// `f2`, `f4`, `f8`. Floats are rounded to `V`. Format versions 1 to 3. Fortran order is turned into row-major
/// while reading.
///
/// # Errors
/// When the file is malformed or truncated, of another type (Python objects, records, complex numbers,
/// text), a finite number is too large for `V`, `V` cannot hold an integer exactly, or the budget does not allow
/// the array.
pub fn read_npy<V: Value>(path: impl AsRef<Path>, budget: &Budget) -> Result<Held<Dense<V>>> {
    read(path.as_ref(), budget)
}

fn read<V: Value>(path: &Path, budget: &Budget) -> Result<Held<Dense<V>>> {
    let file = NpyFile::open(path)?;
    let shape = file.shape();
    if !matches!(shape.len(), 1 | 2) {
        let problem = format!("shape {shape:?}, but one or two dimensions are needed");
        return Err(FileError::malformed(path, problem));
    }
    // The file is as long as its header says: the product fits.
    let elements = shape.iter().product();
    let held = reserve::<V>(budget, path, "array", elements)?;
    let values = file.read_all()?;
    let dense = Dense::new(shape.to_vec(), values).map_err(FileError::matrix(path, "array"))?;
    Ok(Held::new(dense, held))
}

/// Writes a `.npy` file, format version 1, C order. bf16, which NumPy does not have, becomes `f4`.
///
/// # Errors
/// When the file cannot be written.
pub fn write_npy<V: Value>(path: impl AsRef<Path>, dense: &Dense<V>) -> Result<()> {
    write(path.as_ref(), dense)
}

fn write<V: Value>(path: &Path, dense: &Dense<V>) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    write_array(&mut file, dense.shape(), dense.values()).map_err(FileError::io(path, "write"))?;
    file.commit()
}

/// Header and values of an array.
pub(super) fn write_array<V: Value>(
    out: &mut impl Write,
    shape: &[usize],
    values: &[V],
) -> std::io::Result<()> {
    let descr = match Number::of::<V>() {
        Number::F16 => "<f2",
        Number::F64 => "<f8",
        _ => "<f4",
    };
    NpyHeader::write(out, descr, shape)?;
    if Number::of::<V>() != Number::Bf16 {
        return out.write_all(bytemuck::cast_slice(values));
    }
    let mut wide = [0f32; 4096];
    for chunk in values.chunks(wide.len()) {
        wide.iter_mut().zip(chunk).for_each(|(wide, value)| *wide = value.to_f32());
        out.write_all(bytemuck::cast_slice(&wide[..chunk.len()]))?;
    }
    Ok(())
}
