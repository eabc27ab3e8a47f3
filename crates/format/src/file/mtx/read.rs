//! Reading Matrix Market files.

use std::path::Path;

use residua_memory::Budget;

use super::banner::{Banner, Field, Layout, Symmetry};
use super::lines::{Lines, unsigned, word};
use crate::file::dense::reserve;
use crate::file::{Dense, FileError, FileMatrix, Held, Result};
use crate::{Coo, Value};

/// Reads a Matrix Market file. It is `coordinate` with `real`, `integer` or `pattern` entries (a pattern has the
/// value 1), and `general`, `symmetric` or `skew-symmetric` (the result has both halves); or it is `array` of `real`
/// or `integer`, `general`. Values are rounded to `V`. Duplicates are kept.
///
/// # Errors
/// When a line is malformed (the error says which), entries are missing or too many, an index lies outside
/// the matrix, a value is not finite or too large for `V`, the file is complex, or the budget does not allow
/// the matrix.
pub fn read_mtx<V: Value>(path: impl AsRef<Path>, budget: &Budget) -> Result<Held<FileMatrix<V>>> {
    read(path.as_ref(), budget)
}

fn read<V: Value>(path: &Path, budget: &Budget) -> Result<Held<FileMatrix<V>>> {
    let mut lines = Lines::open(path)?;
    let banner = lines.any()?.map(Banner::parse);
    let banner = banner.unwrap_or_else(|| Err("the file is empty".into())).map_err(|e| lines.error(e))?;
    match banner.layout {
        Layout::Coordinate => coordinate(path, &mut lines, banner, budget),
        Layout::Array => array(path, &mut lines, budget),
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
        if banner.symmetry == Symmetry::SkewSymmetric && row == col {
            return Err(lines.error("a skew-symmetric matrix has no entries on its diagonal"));
        }
        if symmetric && row != col {
            row_indices.push(col);
            col_indices.push(row);
            let negative = banner.symmetry == Symmetry::SkewSymmetric;
            values.push(if negative { V::from_f64(-value.to_f64()) } else { value });
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
        Field::Real | Field::Integer => number(word(&mut line), field)?,
    };
    match word(&mut line) {
        None => Ok((row, col, value)),
        Some(more) => Err(format!("{:?} follows the entry", String::from_utf8_lossy(more))),
    }
}

#[inline]
fn number<V: Value>(word: Option<&[u8]>, field: Field) -> Result<V, String> {
    let word = word.ok_or("value missing")?;
    let text = std::str::from_utf8(word).unwrap_or_default();
    let value = match field {
        Field::Integer => text.parse::<i64>().ok().map(|value| value as f64),
        // Fortran writes exponents with a d.
        _ => text.parse().ok().or_else(|| text.replace(['d', 'D'], "e").parse().ok()),
    };
    // Rust parses "nan" and "inf", but the format does not have them.
    let value: f64 = value
        .filter(|value: &f64| value.is_finite())
        .ok_or_else(|| format!("{:?} is no finite number", String::from_utf8_lossy(word)))?;
    let rounded = V::from_f64(value);
    if !rounded.to_f64().is_finite() {
        return Err(format!("{text} is too large for {}", std::any::type_name::<V>()));
    }
    Ok(rounded)
}

/// Column-major in the file, row-major in memory.
fn array<V: Value>(path: &Path, lines: &mut Lines, budget: &Budget) -> Result<Held<FileMatrix<V>>> {
    let [rows, cols] = sizes(lines)?;
    let Some(count) = rows.checked_mul(cols).filter(|&count| count <= lines.length / 2 + 1) else {
        return Err(lines.error(format!("[{rows}, {cols}] in a file of {} bytes cannot be", lines.length)));
    };
    let held = reserve::<V>(budget, path, "array", count as usize)?;
    let (rows, cols) = (rows as usize, cols as usize);
    let mut values = vec![V::default(); count as usize];
    for place in 0..count as usize {
        let Some(mut line) = lines.next()? else {
            return Err(lines.error(format!("the file ends after {place} of {count} values")));
        };
        let value = number(word(&mut line), Field::Real);
        match value {
            Ok(value) if line.trim_ascii().is_empty() => {
                values[place % rows * cols + place / rows] = value;
            }
            Ok(_) => return Err(lines.error("more than one value")),
            Err(problem) => return Err(lines.error(problem)),
        }
    }
    if lines.next()?.is_some() {
        return Err(lines.error(format!("more than the {count} values of the line of sizes")));
    }
    let dense = Dense::new(vec![rows, cols], values).map_err(FileError::matrix(path, "array"))?;
    Ok(Held::new(FileMatrix::Dense(dense), held))
}
