//! The rows of a dense tensor in a file, a block at a time.

use std::ops::Range;

use rayon::prelude::*;
use residua_format::file::{Checkpoint, FileError, MatrixMeta, TensorInfo};
use residua_memory::AlignedVec;

use crate::SplitError;
use crate::float::Float;

/// Bytes that one thread reads at a time.
const READ: usize = 1 << 20;

/// A floating-point matrix `[rows, cols]` in a file, or a stack of matrices one below the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) file: &'a Checkpoint,
    pub(crate) info: &'a TensorInfo,
    pub(crate) float: Float,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

impl<'a> Rows<'a> {
    /// `None` if the tensor is not a floating-point matrix or a stack of such, with at least one element.
    pub(crate) fn of(file: &'a Checkpoint, info: &'a TensorInfo) -> Option<Self> {
        let float = Float::of(info.dtype)?;
        match *info.shape {
            [rows, cols] if rows > 0 && cols > 0 => Some(Self { file, info, float, rows, cols }),
            // The header was checked, so the product fits.
            [stack, rows, cols] if stack * rows > 0 && cols > 0 => {
                Some(Self { file, info, float, rows: stack * rows, cols })
            }
            _ => None,
        }
    }

    /// Bytes of a row.
    pub(crate) fn row_bytes(&self) -> usize {
        self.cols * self.float.bytes()
    }

    /// Reads rows from `first` on until `out` is full.
    pub(crate) fn read(&self, first: usize, out: &mut [u8]) -> Result<(), FileError> {
        let start = (first * self.row_bytes()) as u64;
        out.par_chunks_mut(READ)
            .enumerate()
            .try_for_each(|(number, out)| self.file.read_at(self.info, start + (number * READ) as u64, out))
    }

    /// The ranges of rows, in order, with `block` rows each.
    pub(crate) fn blocks(&self, block: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let rows = self.rows;
        (0..rows).step_by(block).map(move |first| first..rows.min(first + block))
    }

    /// The error for the first weight of these rows that is NaN or infinite.
    pub(crate) fn not_finite(&self, first: usize, raw: &[u8]) -> Option<SplitError> {
        let mut weights = vec![0.0; self.cols];
        raw.chunks_exact(self.row_bytes()).zip(first..).find_map(|(raw, row)| {
            self.float.widen(raw, &mut weights);
            let col = weights.iter().position(|w| !w.is_finite())?;
            Some(SplitError::NotFinite {
                file: self.file.file_of(self.info).to_owned(),
                tensor: self.info.name.clone(),
                row,
                col,
                value: weights[col].into(),
            })
        })
    }
}

/// The shape of the tensor that a matrix was made from.
pub(crate) fn tensor_shape(meta: &MatrixMeta) -> &[usize] {
    meta.tensor_shape.as_deref().unwrap_or(&meta.shape)
}

/// A buffer for blocks of rows.
#[derive(Debug)]
pub(crate) struct Block(AlignedVec<u8>);

impl Block {
    pub(crate) fn with_bytes(bytes: usize) -> Self {
        Self(AlignedVec::zeroed(bytes))
    }

    /// Reads some rows and returns their bytes.
    pub(crate) fn load(&mut self, from: &Rows<'_>, rows: Range<usize>) -> Result<&[u8], FileError> {
        let buffer = &mut self.0[..rows.len() * from.row_bytes()];
        from.read(rows.start, buffer)?;
        Ok(buffer)
    }
}
