//! Sorts the triplets of one row by column and sums duplicates.

use super::key::{Key, Layout, Placed};
use crate::{Index, Value};

/// A row with at least this share of the columns goes through the dense row. Below it, the scan of the bitmap costs
/// more than sorting.
const DENSE_SHARE: usize = 256;

/// Sorts rows of a matrix, one after the other.
pub(super) struct RowSorter<K, V> {
    cols: usize,
    layout: Layout,
    /// A dense row. Its values are valid only where `present` has a bit. Empty until first used.
    dense: Vec<V>,
    /// One bit per column, all 0 between rows.
    present: Vec<u64>,
    sorted: Vec<Placed<K, V>>,
}

impl<K: Key, V: Value> RowSorter<K, V> {
    pub(super) fn new(cols: usize, layout: Layout) -> Self {
        Self { cols, layout, dense: Vec::new(), present: Vec::new(), sorted: Vec::new() }
    }

    /// Writes a row to the front of `columns` and `values` and returns the number of its entries.
    pub(super) fn sort<I: Index>(
        &mut self,
        row: &[Placed<K, V>],
        columns: &mut [I],
        values: &mut [V],
    ) -> usize {
        if row.len().saturating_mul(DENSE_SHARE) >= self.cols {
            self.through_dense(row, columns, values)
        } else {
            self.by_comparison(row, columns, values)
        }
    }

    fn through_dense<I: Index>(
        &mut self,
        row: &[Placed<K, V>],
        columns: &mut [I],
        values: &mut [V],
    ) -> usize {
        if self.dense.is_empty() {
            self.dense = vec![V::zeroed(); self.cols];
            self.present = vec![0; self.cols.div_ceil(64)];
        }
        for triplet in row {
            let col = triplet.key.col(self.layout);
            let (word, bit) = (&mut self.present[col / 64], 1 << (col % 64));
            let mut sum = triplet.value;
            if *word & bit != 0 {
                sum = self.dense[col];
                sum += triplet.value;
            }
            self.dense[col] = sum;
            *word |= bit;
        }
        let mut count = 0;
        for (number, word) in self.present.iter_mut().enumerate() {
            let mut bits = std::mem::take(word);
            while bits != 0 {
                let col = 64 * number + bits.trailing_zeros() as usize;
                columns[count] = I::from_usize(col);
                values[count] = self.dense[col];
                bits &= bits - 1;
                count += 1;
            }
        }
        count
    }

    fn by_comparison<I: Index>(
        &mut self,
        row: &[Placed<K, V>],
        columns: &mut [I],
        values: &mut [V],
    ) -> usize {
        self.sorted.clear();
        self.sorted.extend_from_slice(row);
        // Stable: duplicates keep their order.
        self.sorted.sort_by_key(|triplet| triplet.key);
        let mut count = 0;
        for triplet in &self.sorted {
            let col = I::from_usize(triplet.key.col(self.layout));
            if count > 0 && columns[count - 1] == col {
                values[count - 1] += triplet.value;
            } else {
                columns[count] = col;
                values[count] = triplet.value;
                count += 1;
            }
        }
        count
    }
}
