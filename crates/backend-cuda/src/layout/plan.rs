//! Which rows share a slice.

use super::STEP;
use crate::abi::{LANES, ROWS};

/// Average number of entries per lane in large matrices. More entries make the stored column of a lane cheaper.
const MOST_PER_LANE: usize = 32;
/// The same in small matrices. Fewer entries give work to more multiprocessors.
const LEAST_PER_LANE: usize = 16;
/// Number of lanes that keep a large GPU busy.
const BUSY_LANES: usize = 32 << 10;
/// Maximum number of entries of one row in one slice.
pub(super) const MOST_PER_SLICE: usize = LANES * 2 * MOST_PER_LANE;

/// Average number of entries per lane of a matrix.
pub(super) fn per_lane(nnz: usize) -> usize {
    (nnz / BUSY_LANES).clamp(LEAST_PER_LANE, MOST_PER_LANE)
}

/// A run of a row's entries and fillers that one group of lanes computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Piece {
    /// Binary logarithm of the number of lanes; the first sort key.
    pub(super) log2_lanes: u32,
    pub(super) entries: usize,
    /// Row, counted from the first row of the block.
    pub(super) row: usize,
    /// First entry.
    pub(super) first: usize,
}

impl Piece {
    /// Entries of each lane but the last, a multiple of [`STEP`].
    pub(super) fn per_lane(&self) -> usize {
        self.entries.div_ceil(1 << self.log2_lanes).next_multiple_of(STEP)
    }
}

/// A row block's pieces, slice by slice.
///
/// `lengths` holds the number of entries and fillers of each row; `per_lane` is the matrix's [`per_lane`].
pub(super) fn slices(lengths: &[usize], per_lane: usize) -> Vec<Vec<Piece>> {
    debug_assert!(lengths.len() <= ROWS);
    let filled = lengths.iter().filter(|&&length| length > 0).count().max(1);
    let usual = log2_lanes(lengths.iter().sum::<usize>().div_ceil(filled), per_lane);
    let mut pieces = Vec::new();
    for (row, &length) in lengths.iter().enumerate() {
        // Rows of similar length share slices; a far longer row gets more lanes.
        let lanes = if length > (per_lane << usual) * 2 { log2_lanes(length, per_lane) } else { usual };
        for first in (0..length).step_by(MOST_PER_SLICE) {
            let entries = (length - first).min(MOST_PER_SLICE);
            pieces.push(Piece { log2_lanes: lanes, entries, row, first });
        }
    }
    pieces.sort_unstable_by(|one, other| other.cmp(one));
    let mut slices: Vec<Vec<Piece>> = Vec::new();
    for piece in pieces {
        let has_room = |slice: &Vec<Piece>| {
            slice[0].log2_lanes == piece.log2_lanes && slice.len() < LANES >> piece.log2_lanes
        };
        match slices.last_mut().filter(|slice| has_room(slice)) {
            Some(slice) => slice.push(piece),
            None => slices.push(vec![piece]),
        }
    }
    slices
}

/// Binary logarithm of the number of lanes for a row, from 1 to 5: a slice then has at most 16 pieces.
fn log2_lanes(entries: usize, per_lane: usize) -> u32 {
    let lanes = entries.div_ceil(per_lane).max(1);
    // The nearer power of two by ratio: the lower one if lanes / 2ᵏ is below 2^-½.
    let power = lanes.next_power_of_two();
    let nearest = if 2 * lanes * lanes < power * power { power / 2 } else { power };
    nearest.clamp(2, LANES).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_rows_fill_their_slices() {
        // Sixteen rows of a layer at 5 %: 550 entries, 16 lanes of 35 entries.
        let slices = slices(&[550; 16], 32);
        assert_eq!(slices.len(), 8);
        assert!(slices.iter().all(|slice| slice.len() == 2 && slice[0].per_lane() == 36));
    }

    #[test]
    fn every_entry_is_in_one_piece() {
        let lengths = [0, 1, 3, 40, 60_000, 4096, 4097, 128, 129, 5, 5, 5, 0, 9000, 2, 64];
        let mut seen: Vec<Vec<(usize, usize)>> = vec![vec![]; 16];
        for slice in slices(&lengths, 32) {
            assert!(slice.len() <= ROWS && slice.len() << slice[0].log2_lanes <= LANES);
            for piece in slice {
                assert!(piece.per_lane() << piece.log2_lanes >= piece.entries);
                seen[piece.row].push((piece.first, piece.entries));
            }
        }
        for (row, mut pieces) in seen.into_iter().enumerate() {
            pieces.sort_unstable();
            let end = pieces.iter().fold(0, |end, &(first, entries)| {
                assert_eq!(first, end, "row {row}");
                first + entries
            });
            assert_eq!(end, lengths[row]);
        }
    }
}
