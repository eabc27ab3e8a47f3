//! Rows of floats.

use residua_backend::BackendError;
use residua_memory::{ALIGNMENT, AlignedVec, Budget, Reservation};

use super::too_large;
use crate::layout::Stored;
use crate::pool::Pool;
use crate::vector::BLOCK;

/// A dense matrix in its stored type, rows padded with zeros to whole blocks of 64 columns.
#[derive(Debug)]
pub(super) struct Floats<V: Stored> {
    shape: [usize; 2],
    values: AlignedVec<V>,
    _held: Reservation,
}

impl<V: Stored> Floats<V> {
    pub(super) fn new(
        pool: &Pool,
        shape: [usize; 2],
        values: &[V],
        budget: &Budget,
    ) -> Result<Self, BackendError> {
        let [rows, cols] = shape;
        let padded = cols.checked_next_multiple_of(BLOCK).ok_or_else(|| too_large(shape))?;
        let len = rows.checked_mul(padded).ok_or_else(|| too_large(shape))?;
        let bytes = len
            .checked_mul(size_of::<V>())
            .and_then(|bytes| bytes.checked_next_multiple_of(ALIGNMENT))
            .filter(|&bytes| bytes <= isize::MAX as usize)
            .ok_or_else(|| too_large(shape))?;
        let held = budget.reserve(bytes as u64, "a dense base")?;
        let mut to = AlignedVec::zeroed(len);
        if len > 0 {
            let rows = to.chunks_exact_mut(padded).zip(values.chunks_exact(cols)).collect();
            pool.map(values.len(), rows, |(to, from): (&mut [V], &[V])| to[..cols].copy_from_slice(from));
        }
        Ok(Self { shape, values: to, _held: held })
    }

    pub(super) fn view(&self) -> FloatsView<'_, V> {
        FloatsView { shape: self.shape, values: &self.values }
    }

    pub(super) fn bytes(&self) -> usize {
        self.values.as_bytes().len()
    }
}

/// Floats as the kernels read them: rows of whole blocks of 64 columns, 0 past the last column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FloatsView<'a, V> {
    pub(crate) shape: [usize; 2],
    values: &'a [V],
}

impl<'a, V> FloatsView<'a, V> {
    pub(crate) fn cols(&self) -> usize {
        self.shape[1]
    }

    /// Columns of a row with its padding.
    pub(crate) fn padded_cols(&self) -> usize {
        self.cols().next_multiple_of(BLOCK)
    }

    /// A row with its padding.
    pub(crate) fn row(&self, row: usize) -> &'a [V] {
        let cols = self.padded_cols();
        &self.values[row * cols..(row + 1) * cols]
    }
}
