//! Reading Matrix Market files.

use std::path::Path;

use residua_memory::Budget;

use super::banner::{Banner, Field, Layout, Symmetry};
use super::lines::{Lines, unsigned, word};
use super::number::number;
use crate::file::dense::reserve;
use crate::file::{Dense, FileError, FileMatrix, Held, Result};
use crate::{Coo, Value};

/// Reads a Matrix Market file: `coordinate` or `array`; of `real` (or `double`), `integer`, `unsigned-integer` and, of
/// coordinates, `pattern` (1 at every place); `general`, `symmetric`, `hermitian` (the same without complex numbers)
/// or `skew-symmetric`: both halves come back. Decimals are rounded to `V`, integers are exact; duplicates are kept.
///
/// # Errors
/// When a line is malformed (the error says which), entries are missing or too many, an index lies outside
/// the matrix, a value is not finite, too large for `V` or too small for f64, `V` cannot hold an integer exactly, a
/// skew-symmetric matrix has an entry on its diagonal, the file is complex, or the budget does not allow the matrix.
pub fn read_mtx<V: Value>(path: impl AsRef<Path>, budget: &Budget) -> Result<Held<FileMatrix<V>>> {
    read(path.as_ref(), budget)
}

fn read<V: Value>(path: &Path, budget: &Budget) -> Result<Held<FileMatrix<V>>> {
    let mut lines = Lines::open(path)?;
    let banner = lines.any()?.map(Banner::parse);
    let banner = banner.unwrap_or_else(|| Err("the file is empty".into())).map_err(|e| lines.error(e))?;
    match banner.layout {
        Layout::Coordinate => coordinate(path, &mut lines, banner, budget),
        Layout::Array => array(path, &mut lines, banner, budget),
    }
}

/// The `N` numbers of the size line.
fn sizes<const N: usize>(lines: &mut Lines) -> Result<[u64; N]> {
    let mut sizes = [0; N];
    let line = lines.next()?.map(|mut line| {
        sizes.iter_mut().try_for_each(|size| {
            *size = word(&mut line).and_then(unsigned)?;
            Some(())
        })?;
        line.trim_ascii().is_empty().then_some(())
    });
    match line {
        Some(Some(())) => Ok(sizes),
        Some(None) => Err(lines.error(format!("the line of sizes needs {N} numbers"))),
        None => Err(lines.error("the line of sizes is missing")),
    }
}

fn coordinate<V: Value>(
    path: &Path,
    lines: &mut Lines,
    banner: Banner,
    budget: &Budget,
) -> Result<Held<FileMatrix<V>>> {
    let [rows, cols, entries] = sizes(lines)?;
    let most = u64::from(u32::MAX);
    if rows > most || cols > most || entries > most {
        return Err(
            lines.error(format!("{rows} rows, {cols} columns, {entries} entries: one is above {most}"))
        );
    }
    // An entry takes at least "1 1" and a line feed. Nothing is allocated for more entries than the file can hold.
    if entries > lines.length / 4 + 1 {
        let problem = format!("{entries} entries in a file of {} bytes cannot be", lines.length);
        return Err(lines.error(problem));
    }
    let symmetric = banner.symmetry != Symmetry::General;
    if symmetric && rows != cols {
        return Err(lines.error(format!("a symmetric matrix of shape [{rows}, {cols}]")));
    }
    let capacity = entries as usize * if symmetric { 2 } else { 1 };
    let held = budget
        .reserve(capacity as u64 * (8 + size_of::<V>() as u64), "triplets")
        .map_err(FileError::budget(path))?;
    let (mut row_indices, mut col_indices) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
    let mut values = Vec::with_capacity(capacity);
    for read in 0..entries {
        let Some(line) = lines.next()? else {
            return Err(lines.error(format!("the file ends after {read} of {entries} entries")));
        };
        let (row, col, value) = match entry::<V>(line, banner.field, rows, cols) {
            Ok(entry) => entry,
            Err(problem) => return Err(lines.error(problem)),
        };
        row_indices.push(row);
        col_indices.push(col);
        values.push(value);
        if banner.symmetry == Symmetry::SkewSymmetric && row == col && value != V::default() {
            let problem = format!("a skew-symmetric matrix has 0 on its diagonal, not {}", value.to_f64());
            return Err(lines.error(problem));
        }
        if symmetric && row != col {
            row_indices.push(col);
            col_indices.push(row);
            let skew = banner.symmetry == Symmetry::SkewSymmetric;
            values.push(if skew { negative(value) } else { value });
        }
    }
    if lines.next()?.is_some() {
        return Err(lines.error(format!("more than the {entries} entries of the line of sizes")));
    }
    let coo = Coo::new(rows as usize, cols as usize, row_indices, col_indices, values)
        .map_err(FileError::matrix(path, "matrix"))?;
    Ok(Held::new(FileMatrix::Coo(coo), held))
}

#[inline]
fn entry<V: Value>(mut line: &[u8], field: Field, rows: u64, cols: u64) -> Result<(u32, u32, V), String> {
    let mut index = |axis, size| {
        let word = word(&mut line).ok_or_else(|| format!("{axis} missing"))?;
        // Counted from 1 in the file.
        match unsigned(word) {
            Some(index) if (1..=size).contains(&index) => Ok((index - 1) as u32),
            _ => Err(format!("{axis} {} is not between 1 and {size}", String::from_utf8_lossy(word))),
        }
    };
    let (row, col) = (index("row", rows)?, index("column", cols)?);
    let value = match field {
        Field::Pattern => V::from_f64(1.0),
        _ => number(word(&mut line), field)?,
    };
    match word(&mut line) {
        None => Ok((row, col, value)),
        Some(more) => Err(format!("{:?} follows the entry", String::from_utf8_lossy(more))),
    }
}

/// Column-major in the file, row-major in memory. Of a symmetric matrix the file has the places from the diagonal
/// downwards, of a skew-symmetric one those below it.
fn array<V: Value>(
    path: &Path,
    lines: &mut Lines,
    banner: Banner,
    budget: &Budget,
) -> Result<Held<FileMatrix<V>>> {
    let [rows, cols] = sizes(lines)?;
    if banner.symmetry != Symmetry::General && rows != cols {
        return Err(lines.error(format!("a symmetric matrix of shape [{rows}, {cols}]")));
    }
    // Half of the places, and the diagonal or not.
    let written = rows.checked_mul(cols).map(|all| match banner.symmetry {
        Symmetry::General => all,
        Symmetry::Symmetric => (all - rows) / 2 + rows,
        Symmetry::SkewSymmetric => (all - rows) / 2,
    });
    let most = u64::from(u32::MAX);
    // A value takes at least a digit and a line feed. Allocate no more than the file can hold.
    let Some(written) =
        written.filter(|&count| count <= lines.length / 2 + 1 && rows <= most && cols <= most)
    else {
        return Err(lines.error(format!("[{rows}, {cols}] in a file of {} bytes cannot be", lines.length)));
    };
    let (rows, cols) = (rows as usize, cols as usize);
    let held = reserve::<V>(budget, path, "array", rows * cols)?;
    let mut values = vec![V::default(); rows * cols];
    let mut read = 0;
    // Without rows there may be billions of columns and nothing to read.
    for col in (0..cols).take_while(|_| rows > 0) {
        let first = match banner.symmetry {
            Symmetry::General => 0,
            Symmetry::Symmetric => col,
            Symmetry::SkewSymmetric => col + 1,
        };
        for row in first..rows {
            let Some(mut line) = lines.next()? else {
                return Err(lines.error(format!("the file ends after {read} of {written} values")));
            };
            let value: V = match number(word(&mut line), banner.field) {
                Ok(value) if line.trim_ascii().is_empty() => value,
                Ok(_) => return Err(lines.error("more than one value")),
                Err(problem) => return Err(lines.error(problem)),
            };
            values[row * cols + col] = value;
            match banner.symmetry {
                Symmetry::General => {}
                Symmetry::Symmetric => values[col * cols + row] = value,
                Symmetry::SkewSymmetric => values[col * cols + row] = negative(value),
            }
            read += 1;
        }
    }
    if lines.next()?.is_some() {
        return Err(lines.error(format!("more than the {written} values of the line of sizes")));
    }
    let dense = Dense::new(vec![rows, cols], values).map_err(FileError::matrix(path, "array"))?;
    Ok(Held::new(FileMatrix::Dense(dense), held))
}

fn negative<V: Value>(value: V) -> V {
    V::from_f64(-value.to_f64())
}
