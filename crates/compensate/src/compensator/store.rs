//! Rows of numbers that live as long as a compensator.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::{Mutex, PoisonError};

use half::bf16;
use nalgebra::DMatrix;
use residua_format::file::FileError;

use crate::{Precision, Result};

/// Rows of `dim` numbers, one after the other, in memory or in a temporary file.
#[derive(Debug)]
pub(super) struct Store {
    dim: usize,
    rows: Rows,
}

#[derive(Debug)]
enum Rows {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    /// A file without a name, of bf16 (`short`) or f32. It disappears when the process ends, however it ends.
    File {
        file: Mutex<File>,
        short: bool,
    },
}

impl Store {
    /// No rows yet; in a file for rows that would not fit in memory. f64 counts as f32.
    pub(super) fn new(dim: usize, precision: Precision, in_file: bool) -> Result<Self> {
        let short = precision == Precision::Bf16;
        let rows = if in_file {
            let file =
                tempfile::tempfile().map_err(FileError::io(&std::env::temp_dir(), "create a file in"))?;
            Rows::File { file: Mutex::new(file), short }
        } else if short {
            Rows::Bf16(Vec::new())
        } else {
            Rows::F32(Vec::new())
        };
        Ok(Self { dim, rows })
    }

    /// Whether its numbers are bf16.
    pub(super) fn is_short(&self) -> bool {
        matches!(&self.rows, Rows::Bf16(_) | Rows::File { short: true, .. })
    }

    /// Bytes of a number in memory; 0 in a file.
    pub(super) fn number_bytes(&self) -> u64 {
        match &self.rows {
            Rows::F32(_) => 4,
            Rows::Bf16(_) => 2,
            Rows::File { .. } => 0,
        }
    }

    /// Room for exactly `more` numbers: the budget counts exactly these.
    pub(super) fn reserve(&mut self, more: usize) {
        match &mut self.rows {
            Rows::F32(rows) => rows.reserve_exact(more),
            Rows::Bf16(rows) => rows.reserve_exact(more),
            Rows::File { .. } => {}
        }
    }

    /// Appends numbers.
    pub(super) fn extend(&mut self, values: impl Iterator<Item = f32>) -> Result<()> {
        match &mut self.rows {
            Rows::F32(rows) => rows.extend(values),
            Rows::Bf16(rows) => rows.extend(values.map(bf16::from_f32)),
            Rows::File { file, short } => {
                let mut bytes = Vec::new();
                if *short {
                    values.for_each(|v| bytes.extend_from_slice(&bf16::from_f32(v).to_le_bytes()));
                } else {
                    values.for_each(|v| bytes.extend_from_slice(&v.to_le_bytes()));
                }
                let file = file.get_mut().unwrap_or_else(PoisonError::into_inner);
                file.write_all(&bytes).map_err(FileError::io(&std::env::temp_dir(), "write a file in"))?;
            }
        }
        Ok(())
    }

    /// Rows `first..first + count` as columns `[dim, count]`.
    pub(super) fn matrix(&self, first: usize, count: usize) -> Result<DMatrix<f32>> {
        let range = first * self.dim..(first + count) * self.dim;
        Ok(match &self.rows {
            Rows::F32(rows) => DMatrix::from_column_slice(self.dim, count, &rows[range]),
            Rows::Bf16(rows) => {
                let mut matrix = DMatrix::zeros(self.dim, count);
                for (out, v) in matrix.as_mut_slice().iter_mut().zip(&rows[range]) {
                    *out = widen(v.to_bits());
                }
                matrix
            }
            Rows::File { file, short } => {
                let size = if *short { 2 } else { 4 };
                let mut bytes = vec![0; size * range.len()];
                {
                    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                    let start = SeekFrom::Start((size * range.start) as u64);
                    let read = file.seek(start).and_then(|_| file.read_exact(&mut bytes));
                    read.map_err(FileError::io(&std::env::temp_dir(), "read a file in"))?;
                }
                let mut matrix = DMatrix::zeros(self.dim, count);
                let out = matrix.as_mut_slice();
                if *short {
                    let numbers = bytes.as_chunks::<2>().0;
                    out.iter_mut().zip(numbers).for_each(|(out, v)| *out = widen(u16::from_le_bytes(*v)));
                } else {
                    let numbers = bytes.as_chunks::<4>().0;
                    out.iter_mut().zip(numbers).for_each(|(out, v)| *out = f32::from_le_bytes(*v));
                }
                matrix
            }
        })
    }
}

/// A bf16 as f32. The numbers here are finite, so no NaN needs care.
fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}
