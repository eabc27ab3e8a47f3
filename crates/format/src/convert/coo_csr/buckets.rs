//! Sorts triplets by row: two counting sorts that stay in cache.

use rayon::prelude::*;

use super::key::{Key, Layout, Placed};
use crate::convert::split::fresh;
use crate::{Coo, Index, Value};

/// Triplets per bucket. With its sorted copy a bucket fills about a common L2 cache.
const BUCKET: usize = 1 << 15;
/// The maximum number of buckets. More would scatter into more lines than the first-level cache has.
const MOST_BUCKETS: usize = 1024;
/// Triplets that are sorted into buckets at a time: half a common L2 cache.
const CHUNK: usize = 1 << 15;

/// Triplets in chunks. Every chunk is sorted by bucket (a range of consecutive rows), stably.
pub(super) struct Buckets<K, V> {
    layout: Layout,
    count: usize,
    chunk: usize,
    triplets: Vec<Placed<K, V>>,
    /// `[chunks, count + 1]`: where every bucket starts in every chunk, and where the chunk ends.
    starts: Vec<u32>,
}

/// Rows per bucket of a matrix, as a power of two.
pub(super) fn row_bits(rows: usize, nnz: usize) -> u32 {
    let wanted = (nnz / BUCKET).clamp(1, MOST_BUCKETS);
    rows.div_ceil(wanted).max(1).next_power_of_two().trailing_zeros()
}

impl<K: Key, V: Value> Buckets<K, V> {
    pub(super) fn new<I: Index>(coo: &Coo<V, I>, layout: Layout) -> Self {
        let count = coo.rows().div_ceil(1 << layout.row_bits);
        // Chunks are so long that their tables of starts stay small beside the triplets.
        let chunk = CHUNK.max(64 * count);
        let mut triplets = fresh(coo.nnz());
        let mut starts = vec![0; coo.nnz().div_ceil(chunk) * (count + 1)];
        let sources = (coo.row_indices().par_chunks(chunk))
            .zip(coo.col_indices().par_chunks(chunk))
            .zip(coo.values().par_chunks(chunk));
        let targets = triplets.par_chunks_mut(chunk).zip(starts.par_chunks_mut(count + 1));
        // It is faster to scatter into a buffer that stays in cache and to copy it out than to scatter into memory.
        sources.zip(targets).for_each_init(
            || vec![Placed::default(); chunk.min(coo.nnz())],
            |sorted, (((rows, cols), values), (out, starts))| {
                let sorted = &mut sorted[..out.len()];
                sort_chunk(rows, cols, values, layout, sorted, starts);
                out.copy_from_slice(sorted);
            },
        );
        Self { layout, count, chunk, triplets, starts }
    }

    /// Triplets of every bucket.
    pub(super) fn sizes(&self) -> Vec<usize> {
        let mut sizes = vec![0; self.count];
        for starts in self.starts.chunks_exact(self.count + 1) {
            for (size, pair) in sizes.iter_mut().zip(starts.windows(2)) {
                *size += (pair[1] - pair[0]) as usize;
            }
        }
        sizes
    }

    /// A bucket's piece of every chunk.
    fn runs(&self, bucket: usize) -> impl Iterator<Item = &[Placed<K, V>]> {
        let chunks = self.triplets.chunks(self.chunk).zip(self.starts.chunks_exact(self.count + 1));
        chunks.map(move |(triplets, starts)| &triplets[starts[bucket] as usize..starts[bucket + 1] as usize])
    }

    /// Fills `sorted` with a bucket's `size` triplets in the order of rows, and `ends` with the end of each of its
    /// `rows` rows.
    pub(super) fn collect(
        &self,
        bucket: usize,
        size: usize,
        rows: usize,
        sorted: &mut Vec<Placed<K, V>>,
        ends: &mut Vec<usize>,
    ) {
        sorted.resize(size, Placed::default());
        // Counts stand two places up, so that the cursors, one place up, end as the next row's start.
        ends.clear();
        ends.resize(rows + 2, 0);
        for run in self.runs(bucket) {
            run.iter().for_each(|triplet| ends[triplet.key.row(self.layout) + 2] += 1);
        }
        (2..rows + 2).for_each(|row| ends[row] += ends[row - 1]);
        for run in self.runs(bucket) {
            for triplet in run {
                let place = &mut ends[triplet.key.row(self.layout) + 1];
                sorted[*place] = *triplet;
                *place += 1;
            }
        }
        ends.remove(0);
        ends.truncate(rows);
    }
}

/// Sorts the triplets of one chunk by bucket into `sorted`. Writes the start of each bucket and the end to `starts`.
fn sort_chunk<K: Key, V: Value, I: Index>(
    rows: &[I],
    cols: &[I],
    values: &[V],
    layout: Layout,
    sorted: &mut [Placed<K, V>],
    starts: &mut [u32],
) {
    // Counts stand two places up, so that the cursors, one place up, end as the next bucket's start.
    let mut next = vec![0u32; starts.len() + 1];
    rows.iter().for_each(|row| next[(row.index() >> layout.row_bits) + 2] += 1);
    (2..next.len()).for_each(|bucket| next[bucket] += next[bucket - 1]);
    let mask = (1 << layout.row_bits) - 1;
    for ((row, col), &value) in rows.iter().zip(cols).zip(values) {
        let row = row.index();
        let place = &mut next[(row >> layout.row_bits) + 1];
        sorted[*place as usize] = Placed { key: K::new(row & mask, col.index(), layout), value };
        *place += 1;
    }
    starts.copy_from_slice(&next[..starts.len()]);
}
