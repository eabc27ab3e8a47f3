//! Cutting a chunk's rows into segments.

use super::{Gap, LANES, Stored};

/// Columns per panel: `x` of a panel takes 12 KiB, less than half of a first-level cache.
const PANEL: usize = 3072;
/// A row segment should have this many entries, so that its metadata is small beside them.
const LEAST_PER_SEGMENT: usize = 96;
/// With more fillers in a row, a new segment is smaller.
const MOST_FILLERS: u32 = 3;

/// A chunk's entries, decoded.
pub(super) struct Entries<V> {
    pub(super) columns: Vec<u32>,
    pub(super) values: Vec<V>,
    /// Where each row starts, rows + 1.
    pub(super) row_ptr: Vec<usize>,
}

impl<V> Entries<V> {
    /// Bytes of `entries` entries in `rows` rows.
    pub(super) fn bytes(rows: usize, entries: usize) -> usize {
        entries * (size_of::<u32>() + size_of::<V>() + size_of::<Segment>() / 16)
            + (rows + 1) * (size_of::<usize>() + size_of::<Segment>())
    }
}

/// A run of a row's entries that one lane follows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    /// The panel of columns. It is the first sort key: kernels work on one panel after the other.
    panel: usize,
    /// Longest first.
    reverse_len: std::cmp::Reverse<u16>,
    /// First entry.
    pub(super) first: usize,
    /// Number of entries, fillers left out.
    pub(super) count: usize,
    /// Row, counted from the chunk's first.
    pub(super) row: u16,
}

impl Segment {
    /// Steps of the lane: entries and fillers.
    pub(super) fn len(&self) -> u16 {
        self.reverse_len.0
    }
}

/// Fillers before an entry `gap` columns after the one before it. A stored zero must not have the largest gap.
pub(super) fn fillers<G: Gap>(gap: u32, zero: bool) -> u32 {
    if zero { gap / G::MAX } else { gap.saturating_sub(1) / G::MAX }
}

/// All segments of a chunk, in the order in which lanes take them.
pub(super) fn segments<V: Stored, G: Gap>(entries: &Entries<V>, cols: usize) -> Vec<Segment> {
    let rows = entries.row_ptr.len() - 1;
    let panels = cols.div_ceil(PANEL).min(entries.columns.len() / rows.max(1) / LEAST_PER_SEGMENT).max(1);
    let width = cols.div_ceil(panels).max(1);
    // Sorted lanes waste at most 7 times the longest segment per panel: an eighth of the entries at worst.
    let longest = entries.columns.len() / (LANES * (LANES - 1) * panels);
    let longest = longest.clamp(16, usize::from(u16::MAX) - MOST_FILLERS as usize - 1);

    let mut segments = Vec::new();
    for row in 0..rows {
        let mut open: Option<(usize, usize, usize)> = None; // panel, first entry, steps
        let mut previous = 0;
        let range = entries.row_ptr[row]..entries.row_ptr[row + 1];
        let mut close = |open: Option<(usize, usize, usize)>, end: usize| {
            if let Some((panel, first, steps)) = open {
                let reverse_len = std::cmp::Reverse(steps as u16);
                segments.push(Segment { panel, reverse_len, first, count: end - first, row: row as u16 });
            }
        };
        for entry in range.clone() {
            let column = entries.columns[entry];
            let panel = column as usize / width;
            let fillers = fillers::<G>(column - previous, entries.values[entry].is_zero());
            match &mut open {
                Some((current, _, steps))
                    if *current == panel && *steps < longest && fillers <= MOST_FILLERS =>
                {
                    *steps += 1 + fillers as usize;
                }
                _ => close(open.replace((panel, entry, 1)), entry),
            }
            previous = column;
        }
        close(open, range.end);
    }
    segments.sort_unstable();
    segments
}

/// Whether two-byte gaps make the entries smaller than one-byte gaps.
pub(super) fn wide_is_smaller<V: Stored>(entries: &Entries<V>) -> bool {
    let mut fillers_narrow = 0;
    for row in entries.row_ptr.windows(2) {
        for entry in row[0] + 1..row[1] {
            let gap = entries.columns[entry] - entries.columns[entry - 1];
            fillers_narrow += fillers::<u8>(gap, entries.values[entry].is_zero()).min(MOST_FILLERS) as usize;
        }
    }
    fillers_narrow * (size_of::<V>() + 1) > entries.columns.len()
}
