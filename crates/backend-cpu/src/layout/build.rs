//! Builds chunks from a source.

use std::ops::Range;

use residua_backend::BackendError;
use residua_backend::source::Source;
use residua_memory::{ALIGNMENT, AlignedVec, Budget};

use super::segment::{Entries, Segment, fillers, segments, wide_is_smaller};
use super::{AnyPlanes, Chunk, Gap, LANES, Planes, Slice, Sparse, Stored};
use crate::pool::Pool;

/// Entries after which a chunk ends.
const CHUNK_ENTRIES: usize = 64 << 10;
/// Rows after which a chunk ends: few, so that threads share small layers evenly, and a multiple of the rows that kernels of a
/// base take together. A row in a chunk fits u16.
const CHUNK_ROWS: usize = 96;
/// Chunks end at multiples of this where possible: the rows of a packed base's strip.
const CHUNK_MULTIPLE: usize = 2 * LANES;

/// Lays a matrix out; `scales` has a factor per row, or nothing.
pub(crate) fn build<V: Stored>(
    pool: &Pool,
    source: &impl Source<V>,
    scales: &[f32],
    budget: &Budget,
) -> Result<Sparse<V>, BackendError> {
    let ranges = chunk_rows(source);
    let per_chunk = size_of::<Chunk<V>>() * ranges.len();
    let held = budget.reserve((per_chunk + size_of_val(scales)) as u64, "row scales")?;
    let chunks = pool.map(source.nnz(), ranges, |rows| build_chunk(source, rows, budget));
    let chunks = chunks.into_iter().collect::<Result<_, _>>()?;
    let scales = AlignedVec::from_slice(scales);
    Ok(Sparse { shape: source.shape(), nnz: source.nnz(), chunks, scales, _held: held })
}

/// Cuts the rows into chunks of about [`CHUNK_ENTRIES`], at multiples of [`CHUNK_MULTIPLE`] where possible. The cuts depend on the
/// matrix alone, never on the number of threads.
fn chunk_rows<V>(source: &impl Source<V>) -> Vec<Range<usize>> {
    let rows = source.shape()[0];
    let (mut ranges, mut start, mut entries) = (Vec::new(), 0, 0);
    for row in 0..rows {
        entries += source.entries(row);
        let count = row + 1 - start;
        let full = entries >= CHUNK_ENTRIES && count.is_multiple_of(CHUNK_MULTIPLE);
        if full || entries >= 2 * CHUNK_ENTRIES || count == CHUNK_ROWS || row + 1 == rows {
            ranges.push(start..row + 1);
            (start, entries) = (row + 1, 0);
        }
    }
    ranges
}

fn build_chunk<V: Stored>(
    source: &impl Source<V>,
    rows: Range<usize>,
    budget: &Budget,
) -> Result<Chunk<V>, BackendError> {
    let nnz = rows.clone().map(|row| source.entries(row)).sum();
    let scratch = Entries::<V>::bytes(rows.len(), nnz) as u64;
    let _scratch = budget.reserve(scratch, "decoding rows of a sparse matrix")?;
    let mut entries = Entries {
        columns: Vec::with_capacity(nnz),
        values: Vec::with_capacity(nnz),
        row_ptr: Vec::with_capacity(rows.len() + 1),
    };
    entries.row_ptr.push(0);
    for row in rows.clone() {
        source.for_each(row, |column, value| {
            entries.columns.push(column);
            entries.values.push(value);
        });
        entries.row_ptr.push(entries.columns.len());
    }
    let cols = source.shape()[1];
    let (planes, held) = if wide_is_smaller(&entries) {
        let (planes, held) = encode(&entries, cols, budget)?;
        (AnyPlanes::Wide(planes), held)
    } else {
        let (planes, held) = encode(&entries, cols, budget)?;
        (AnyPlanes::Narrow(planes), held)
    };
    Ok(Chunk { rows, planes, _held: held })
}

fn encode<V: Stored, G: Gap>(
    entries: &Entries<V>,
    cols: usize,
    budget: &Budget,
) -> Result<(Planes<V, G>, residua_memory::Reservation), BackendError> {
    let segments = segments::<V, G>(entries, cols);
    let groups = segments.chunks(LANES);
    let steps: usize = groups.clone().map(|group| usize::from(longest(group))).sum();
    let elements = steps * LANES;
    let plane = |size: usize| (elements * size).next_multiple_of(ALIGNMENT);
    let bytes = plane(size_of::<V>()) + plane(size_of::<G>()) + groups.len() * size_of::<Slice>();
    let held = budget.reserve(bytes as u64, "a sparse matrix")?;

    let mut planes = Planes {
        cols,
        slices: Vec::with_capacity(groups.len()),
        gaps: AlignedVec::zeroed(elements),
        values: AlignedVec::zeroed(elements),
    };
    let mut start = 0;
    for group in groups {
        let steps = longest(group);
        let mut slice = Slice { steps: steps.into(), lens: [0; LANES], rows: [0; LANES], starts: [0; LANES] };
        for (lane, segment) in group.iter().enumerate() {
            (slice.lens[lane], slice.rows[lane]) = (segment.len(), segment.row);
            slice.starts[lane] = entries.columns[segment.first];
            let written = fill_lane(entries, segment, start + lane, &mut planes);
            debug_assert_eq!(written, usize::from(segment.len()));
        }
        start += usize::from(steps) * LANES;
        planes.slices.push(slice);
    }
    Ok((planes, held))
}

/// Steps of a slice: those of its longest segment.
fn longest(group: &[Segment]) -> u16 {
    group.iter().map(Segment::len).max().unwrap_or(0)
}

/// Writes a segment at `first`, `first + 8`, …; returns the steps.
fn fill_lane<V: Stored, G: Gap>(
    entries: &Entries<V>,
    segment: &Segment,
    first: usize,
    planes: &mut Planes<V, G>,
) -> usize {
    let mut at = first;
    let mut previous = entries.columns[segment.first];
    for entry in segment.first..segment.first + segment.count {
        let (column, value) = (entries.columns[entry], entries.values[entry]);
        let gap = column - previous;
        let fillers = fillers::<G>(gap, value.is_zero());
        for _ in 0..fillers {
            planes.gaps[at] = G::new(G::MAX);
            at += LANES;
        }
        planes.gaps[at] = G::new(gap - fillers * G::MAX);
        planes.values[at] = value;
        at += LANES;
        previous = column;
    }
    (at - first) / LANES
}
