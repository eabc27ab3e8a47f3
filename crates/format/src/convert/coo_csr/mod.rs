//! COO → CSR.

mod buckets;
mod key;
mod row;

use rayon::prelude::*;

use super::Duplicates;
use super::split::{check_rows, fresh, pieces, pointers};
use crate::error::{FormatError, Result};
use crate::{Coo, Csr, Index, Value};
use buckets::{Buckets, row_bits};
use key::{Key, Layout, Placed, bits_below};
use row::RowSorter;

/// Sorts triplets into rows. Duplicates are summed in the order of the triplets, in the value type.
///
/// Two counting sorts that stay in cache bring the triplets into rows, in their order. Each row is then spread over a
/// dense row and collected with a bitmap. Besides its output the function holds one copy of the triplets.
///
/// # Errors
/// When two triplets have one place and `duplicates` refuses them (the error names the first such place), the index
/// type cannot hold the number of entries, or memory cannot hold the pointers of so many rows.
pub fn coo_to_csr<V: Value, I: Index>(coo: &Coo<V, I>, duplicates: Duplicates) -> Result<Csr<V, I>> {
    check_rows(coo.rows())?;
    let layout = Layout { row_bits: row_bits(coo.rows(), coo.nnz()), col_bits: bits_below(coo.cols()) };
    match layout.bits() {
        0..32 => sort::<u32, V, I>(coo, duplicates, layout),
        32..64 => sort::<u64, V, I>(coo, duplicates, layout),
        _ => sort::<u128, V, I>(coo, duplicates, layout),
    }
}

fn sort<K: Key, V: Value, I: Index>(
    coo: &Coo<V, I>,
    duplicates: Duplicates,
    layout: Layout,
) -> Result<Csr<V, I>> {
    let (rows, nnz, rows_per_bucket) = (coo.rows(), coo.nnz(), 1 << layout.row_bits);
    let buckets = Buckets::<K, V>::new(coo, layout);
    let sizes = buckets.sizes();
    let mut columns = fresh::<I>(nnz);
    let mut values = fresh::<V>(nnz);
    let mut lengths = vec![0; rows];
    let row_pieces = lengths.chunks_mut(rows_per_bucket);

    // Every bucket writes its rows where they start if no triplets are merged, and returns the number of its entries.
    let outputs: Vec<_> = pieces(&mut columns, sizes.iter().copied())
        .into_iter()
        .zip(pieces(&mut values, sizes.iter().copied()))
        .zip(row_pieces)
        .collect();
    let kept: Vec<Result<usize>> = outputs
        .into_par_iter()
        .enumerate()
        .map_init(
            || (RowSorter::new(coo.cols(), layout), Vec::new(), Vec::new()),
            |(sorter, triplets, ends), (bucket, ((columns, values), lengths))| {
                buckets.collect(bucket, columns.len(), lengths.len(), triplets, ends);
                let (mut kept, mut start) = (0, 0);
                for (row, (&end, length)) in ends.iter().zip(lengths).enumerate() {
                    let entries = &triplets[start..end];
                    let count = sorter.sort(entries, &mut columns[kept..], &mut values[kept..]);
                    if count < entries.len() && duplicates == Duplicates::Refuse {
                        let (row, col) = (bucket * rows_per_bucket + row, first_duplicate(entries, layout));
                        return Err(FormatError::Duplicate { row, col });
                    }
                    kept += count;
                    start = end;
                    *length = count;
                }
                Ok(kept)
            },
        )
        .collect();
    let kept = kept.into_iter().collect::<Result<Vec<usize>>>()?;

    close_gaps(&mut columns, &sizes, &kept);
    close_gaps(&mut values, &sizes, &kept);
    let row_ptr = pointers(&lengths)?;
    Ok(Csr::trusted(rows, coo.cols(), row_ptr, columns, values))
}

/// Keeps the first `kept` elements of each of the pieces with `sizes` elements.
fn close_gaps<T: Copy>(elements: &mut Vec<T>, sizes: &[usize], kept: &[usize]) {
    let (mut from, mut to) = (0, 0);
    for (size, kept) in sizes.iter().zip(kept) {
        if from != to {
            elements.copy_within(from..from + kept, to);
        }
        from += size;
        to += kept;
    }
    elements.truncate(to);
}

fn first_duplicate<K: Key, V>(entries: &[Placed<K, V>], layout: Layout) -> usize {
    let mut keys: Vec<K> = entries.iter().map(|entry| entry.key).collect();
    keys.sort_unstable();
    keys.windows(2).find(|pair| pair[0] == pair[1]).map_or(0, |pair| pair[0].col(layout))
}
