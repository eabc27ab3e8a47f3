//! NumPy's `.npy`: one dense array.

mod header;

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use residua_memory::Budget;

pub(super) use header::NpyHeader;

use super::dense::reserve;
use super::number::Number;
use super::{AtomicFile, Dense, FileError, Held, Result};
use crate::Value;

/// Reads a `.npy` file, format versions 1 to 3: one or two dimensions, C or Fortran order, either byte order,
/// booleans, integers, `f2`, `f4` or `f8`. Values are rounded to `V`. An array in Fortran order becomes row-major.
///
/// # Errors
/// When the file is malformed or truncated, holds another type (Python objects, records, complex numbers, text), a
/// finite number is too large for `V`, or the budget does not allow the array.
pub fn read_npy<V: Value>(path: impl AsRef<Path>, budget: &Budget) -> Result<Held<Dense<V>>> {
    read(path.as_ref(), budget)
}

fn read<V: Value>(path: &Path, budget: &Budget) -> Result<Held<Dense<V>>> {
    let file = File::open(path).map_err(FileError::io(path, "open"))?;
    let length = file.metadata().map_err(FileError::io(path, "read"))?.len();
    let mut reader = BufReader::new(file);
    let header = NpyHeader::read(&mut reader).map_err(|problem| FileError::malformed(path, problem))?;
    let (number, big_endian) = header.number().map_err(|problem| FileError::malformed(path, problem))?;
    if !matches!(header.shape.len(), 1 | 2) {
        let problem = format!("shape {:?}, but one or two dimensions are needed", header.shape);
        return Err(FileError::malformed(path, problem));
    }
    let elements = header.check_length(number.bytes(), length, path, "the array")?;
    let held = reserve::<V>(budget, path, "array", elements)?;
    let values = read_values(&mut reader, &header, number, big_endian, elements)
        .map_err(|trouble| trouble.at(path, "array"))?;
    let dense = Dense::new(header.shape, values).map_err(FileError::matrix(path, "array"))?;
    Ok(Held::new(dense, held))
}

/// The values of an array of one or two dimensions in row-major order.
fn read_values<V: Value>(
    reader: &mut impl Read,
    header: &NpyHeader,
    number: Number,
    big_endian: bool,
    elements: usize,
) -> Result<Vec<V>, super::number::Trouble> {
    if let (true, &[rows, cols]) = (header.fortran, &*header.shape) {
        let mut values = vec![V::default(); elements];
        let (mut row, mut col) = (0, 0);
        number.read(reader, big_endian, elements, |value| {
            values[row * cols + col] = value;
            row += 1;
            if row == rows {
                (row, col) = (0, col + 1);
            }
        })?;
        return Ok(values);
    }
    let mut values = Vec::with_capacity(elements);
    number.read(reader, big_endian, elements, |value| values.push(value))?;
    Ok(values)
}

/// Writes a `.npy` file, format version 1, C order. NumPy has no bf16, so bf16 values become `f4`.
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
