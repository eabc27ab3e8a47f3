//! From a matrix to planes.

use std::sync::Arc;

use bytemuck::{NoUninit, Zeroable};
use rayon::prelude::*;
use residua_backend::BackendError;
use residua_backend::source::Source;
use residua_memory::Budget;

use super::plan::{Piece, per_lane, slices};
use super::{Planes, STEP, Sliced, head};
use crate::abi::{LANES, ROWS};
use crate::driver::Driver;

/// An integer that holds the gap between two columns; 0 is a filler.
trait Gap: NoUninit + Zeroable + Send + Sync {
    /// The largest gap. A filler adds it to the column.
    const MOST: u32;
    /// A gap from 1 to [`MOST`](Self::MOST).
    fn new(gap: u32) -> Self;

    /// Number of fillers before an entry whose column is `gap` after that of the previous entry.
    fn fillers(gap: u32) -> usize {
        // Most gaps are small and need no division.
        if gap <= Self::MOST { 0 } else { ((gap - 1) / Self::MOST) as usize }
    }
}

impl Gap for u8 {
    const MOST: u32 = 0xFF;
    fn new(gap: u32) -> Self {
        gap as Self
    }
}

impl Gap for u16 {
    const MOST: u32 = 0xFFFF;
    fn new(gap: u32) -> Self {
        gap as Self
    }
}

/// Lays a matrix out on a device. `scales` holds a factor per row, or is empty.
pub(crate) fn build<V: NoUninit + Zeroable + Send + Sync>(
    driver: &Arc<dyn Driver>,
    budget: &Budget,
    source: &impl Source<V>,
    scales: &[f32],
) -> Result<Sliced, BackendError> {
    let lengths = size_of::<[usize; 2]>() * source.shape()[0];
    let _scratch = budget.reserve(lengths as u64, "planning a sparse matrix")?;
    let lengths: Vec<[usize; 2]> =
        (0..source.shape()[0]).into_par_iter().with_min_len(64).map(|row| lengths_of(source, row)).collect();
    let total = |wide: usize| lengths.iter().map(|length| length[wide]).sum::<usize>();
    let bytes = |wide: usize| total(wide) * (size_of::<V>() + 1 + wide);
    if bytes(1) < bytes(0) {
        let planes = encode::<V, u16>(source, &lengths, 1, budget)?;
        Sliced::upload(driver, budget, &planes.0, scales)
    } else {
        let planes = encode::<V, u8>(source, &lengths, 0, budget)?;
        Sliced::upload(driver, budget, &planes.0, scales)
    }
}

/// Number of entries and fillers of a row, with narrow and with wide gaps.
fn lengths_of<V>(source: &impl Source<V>, row: usize) -> [usize; 2] {
    let (mut lengths, mut previous) = ([0; 2], u32::MAX);
    source.for_each(row, |column, _| {
        let gap = column.wrapping_sub(previous);
        lengths[0] += 1 + u8::fillers(gap);
        lengths[1] += 1 + u16::fillers(gap);
        previous = column;
    });
    lengths
}

fn encode<V: NoUninit + Zeroable + Send + Sync, G: Gap>(
    source: &impl Source<V>,
    lengths: &[[usize; 2]],
    wide: usize,
    budget: &Budget,
) -> Result<(Planes<V, G>, residua_memory::Reservation), BackendError> {
    let per_lane = per_lane(source.nnz());
    let plan: Vec<Vec<Vec<Piece>>> = lengths
        .par_chunks(ROWS)
        .map(|rows| {
            let lengths: Vec<usize> = rows.iter().map(|length| length[wide]).collect();
            slices(&lengths, per_lane)
        })
        .collect();
    let slices: usize = plan.iter().map(Vec::len).sum();
    let steps: usize = plan.iter().flatten().map(|slice| longest(slice)).sum();
    if u32::try_from(steps).is_err() || u32::try_from(slices).is_err() {
        let limit = u64::from(u32::MAX) * (LANES * STEP) as u64;
        return Err(BackendError::TooLarge {
            what: "a sparse matrix",
            shape: source.shape(),
            limit,
            unit: "entries",
        });
    }
    let per_slice = size_of::<[u32; 4]>() + LANES * size_of::<u32>();
    let bytes = steps * LANES * STEP * (size_of::<V>() + size_of::<G>()) + slices * per_slice;
    let held = budget.reserve(bytes as u64, "laying out a sparse matrix")?;
    let mut planes = Planes {
        blocks: Vec::with_capacity(plan.len() + 1),
        slices: vec![[0; 4]; slices],
        starts: vec![0; slices * LANES],
        gaps: vec![G::zeroed(); steps * LANES * STEP],
        values: vec![V::zeroed(); steps * LANES * STEP],
    };

    // The part of every plane that belongs to each row block.
    let mut parts = Vec::with_capacity(plan.len());
    let (mut heads, mut starts) = (&mut planes.slices[..], &mut planes.starts[..]);
    let (mut gaps, mut values) = (&mut planes.gaps[..], &mut planes.values[..]);
    let (mut slice_count, mut step_count) = (0, 0);
    for (block, slices) in plan.iter().enumerate() {
        planes.blocks.push(slice_count);
        let block_steps: usize = slices.iter().map(|slice| longest(slice)).sum();
        let entries = block_steps * LANES * STEP;
        parts.push(Part {
            first_row: block * ROWS,
            first_step: step_count,
            slices,
            heads: heads.split_off_mut(..slices.len()).unwrap_or_default(),
            starts: starts.split_off_mut(..slices.len() * LANES).unwrap_or_default(),
            gaps: gaps.split_off_mut(..entries).unwrap_or_default(),
            values: values.split_off_mut(..entries).unwrap_or_default(),
        });
        slice_count += slices.len() as u32;
        step_count += block_steps as u32;
    }
    planes.blocks.push(slice_count);
    parts.into_par_iter().with_min_len(4).for_each(|part| part.fill(source, lengths.len()));
    Ok((planes, held))
}

/// Steps of a slice: the steps of its longest lane.
fn longest(slice: &[Piece]) -> usize {
    slice.iter().map(|piece| piece.per_lane() / STEP).max().unwrap_or(0)
}

/// The part of the planes that belongs to a row block.
struct Part<'a, V, G> {
    first_row: usize,
    first_step: u32,
    slices: &'a [Vec<Piece>],
    heads: &'a mut [[u32; 4]],
    starts: &'a mut [u32],
    gaps: &'a mut [G],
    values: &'a mut [V],
}

/// An entry or filler of a row.
#[derive(Clone, Copy)]
struct Entry<V, G> {
    before: u32,
    gap: G,
    value: V,
}

impl<V: NoUninit + Zeroable, G: Gap> Part<'_, V, G> {
    fn fill(self, source: &impl Source<V>, rows: usize) {
        let block_rows = ROWS.min(rows - self.first_row);
        let entries: Vec<Vec<Entry<V, G>>> =
            (0..block_rows).map(|row| decode(source, self.first_row + row)).collect();
        let mut step = 0;
        for (slice, pieces) in self.slices.iter().enumerate() {
            let log2_lanes = pieces[0].log2_lanes;
            let mut row_numbers = 0u64;
            for (place, piece) in pieces.iter().enumerate() {
                row_numbers |= (piece.row as u64) << (4 * place);
                let run = &entries[piece.row][piece.first..piece.first + piece.entries];
                for (i, lane_entries) in run.chunks(piece.per_lane()).enumerate() {
                    let lane = (place << log2_lanes) + i;
                    self.starts[slice * LANES + lane] = lane_entries[0].before;
                    for (i, entry) in lane_entries.iter().enumerate() {
                        let at = (step + i / STEP) * LANES * STEP + lane * STEP + i % STEP;
                        (self.gaps[at], self.values[at]) = (entry.gap, entry.value);
                    }
                }
            }
            self.heads[slice] = [
                self.first_step + step as u32,
                head(longest(pieces), pieces.len(), log2_lanes),
                row_numbers as u32,
                (row_numbers >> 32) as u32,
            ];
            step += longest(pieces);
        }
    }
}

/// The entries and fillers of a row.
fn decode<V: Zeroable, G: Gap>(source: &impl Source<V>, row: usize) -> Vec<Entry<V, G>> {
    let mut entries = Vec::new();
    let mut previous = u32::MAX;
    source.for_each(row, |column, value| {
        let gap = column.wrapping_sub(previous);
        let fillers = G::fillers(gap);
        for _ in 0..fillers {
            entries.push(Entry { before: previous, gap: G::zeroed(), value: V::zeroed() });
            previous = previous.wrapping_add(G::MOST);
        }
        entries.push(Entry { before: previous, gap: G::new(gap - fillers as u32 * G::MOST), value });
        previous = column;
    });
    entries
}
