//! scipy's formats whose entries lie in blocks or diagonals, zeros among them.

use std::path::Path;

use residua_memory::Reservation;

use super::archive::Archive;
use super::read::{last, pointers};
use crate::file::dense::grow;
use crate::file::{FileError, Result};
use crate::{Coo, Value};

/// BSR: rows of dense blocks; the entries other than 0.
pub(super) fn block_rows<V: Value>(
    path: &Path,
    archive: &mut Archive,
    held: &mut Reservation,
    shape @ [rows, cols]: [usize; 2],
) -> Result<Coo<V>> {
    let [there, high, wide] = archive.sizes("data")?;
    if high == 0 || wide == 0 || rows % high != 0 || cols % wide != 0 {
        let problem = format!("blocks of {high} by {wide} do not tile {rows} by {cols}");
        return Err(FileError::tensor(path, "data", problem));
    }
    let pointers = pointers(path, archive, held, rows / high, there)?;
    let blocks = pointers[rows / high] as usize;
    let columns = archive.indices("indices", blocks, last(cols / wide), held)?;
    let values = archive.values::<3, V>("data", blocks * high * wide, held)?;
    let mut triplets = Triplets::new(path, held, shape, &values)?;
    for (block_row, range) in pointers.windows(2).enumerate() {
        for block in range[0] as usize..range[1] as usize {
            let (top, left) = (block_row * high, columns[block] as usize * wide);
            for (i, &value) in values[block * high * wide..][..high * wide].iter().enumerate() {
                triplets.push(top + i / wide, left + i % wide, value);
            }
        }
    }
    triplets.finish(path)
}

/// DIA: diagonals in the order of their columns; the entries other than 0 that lie in the matrix.
pub(super) fn diagonals<V: Value>(
    path: &Path,
    archive: &mut Archive,
    held: &mut Reservation,
    shape @ [rows, cols]: [usize; 2],
) -> Result<Coo<V>> {
    let [count, width] = archive.sizes("data")?;
    let offsets = archive.offsets("offsets", held)?;
    if offsets.len() != count {
        let problem = format!("{} offsets, but {count} diagonals", offsets.len());
        return Err(FileError::tensor(path, "offsets", problem));
    }
    let mut sorted = offsets.clone();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(FileError::tensor(path, "offsets", format!("{} is there twice", pair[0])));
    }
    let values = archive.values::<2, V>("data", usize::MAX, held)?;
    let mut triplets = Triplets::new(path, held, shape, &values)?;
    for (&offset, diagonal) in offsets.iter().zip(values.chunks_exact(width.max(1))) {
        for (col, &value) in diagonal.iter().enumerate().take(cols) {
            // Rows and columns are below 2^32; an offset is any number.
            let row = usize::try_from((col as i64).saturating_sub(offset)).unwrap_or(usize::MAX);
            if row < rows {
                triplets.push(row, col, value);
            }
        }
    }
    triplets.finish(path)
}

/// Triplets of the values other than 0.
struct Triplets<V> {
    shape: [usize; 2],
    rows: Vec<u32>,
    cols: Vec<u32>,
    values: Vec<V>,
}

impl<V: Value> Triplets<V> {
    /// Room for those of `values`.
    fn new(path: &Path, held: &mut Reservation, shape: [usize; 2], values: &[V]) -> Result<Self> {
        let count = values.iter().filter(|value| **value != V::default()).count();
        grow::<(u32, u32)>(held, path, "triplets", count)?;
        grow::<V>(held, path, "triplets", count)?;
        let (rows, cols) = (Vec::with_capacity(count), Vec::with_capacity(count));
        Ok(Self { shape, rows, cols, values: Vec::with_capacity(count) })
    }

    /// Row and column are in the matrix, whose sizes are below 2³².
    fn push(&mut self, row: usize, col: usize, value: V) {
        if value != V::default() {
            self.rows.push(row as u32);
            self.cols.push(col as u32);
            self.values.push(value);
        }
    }

    fn finish(self, path: &Path) -> Result<Coo<V>> {
        let [rows, cols] = self.shape;
        Coo::new(rows, cols, self.rows, self.cols, self.values).map_err(FileError::matrix(path, "matrix"))
    }
}
