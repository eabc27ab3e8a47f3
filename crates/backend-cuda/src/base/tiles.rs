//! From row-major weights to tiles.

use std::sync::Arc;

use rayon::prelude::*;
use residua_backend::BackendError;
use residua_memory::Budget;

use super::code::Code;
use crate::abi::{LANES, ROWS};
use crate::driver::{Buffer, Driver};

/// Rows that lie together: a lane multiplies each value of `x` that it loads with all of them.
pub(super) const ROWS_TOGETHER: usize = 4;
/// Bytes that are laid out on the host before they go to the device, where four rows do not take more.
const AT_ONCE: usize = 8 << 20;

/// A lane's words, one for each of four rows.
type Words = [u32; ROWS_TOGETHER];

/// Number of groups of four rows, padding included.
pub(super) fn fours(rows: usize) -> usize {
    rows.div_ceil(ROWS) * (ROWS / ROWS_TOGETHER)
}

/// Uploads a matrix in tiles, a few megabytes at a time. `weight(row, column)` is a weight's code.
pub(super) fn tiles(
    driver: &Arc<dyn Driver>,
    budget: &Budget,
    [rows, cols]: [usize; 2],
    code: Code,
    weight: impl Fn(usize, usize) -> u32 + Sync,
) -> Result<Buffer, BackendError> {
    let (fours, per_four) = (fours(rows), cols.div_ceil(code.tile()) * LANES);
    let bytes = fours.saturating_mul(per_four).saturating_mul(size_of::<Words>());
    let buffer = Buffer::new(driver, budget, bytes, "a base")?;
    if bytes == 0 {
        return Ok(buffer);
    }
    let at_once = (AT_ONCE / (per_four * size_of::<Words>())).clamp(1, fours);
    let _held = budget.reserve((at_once * per_four * size_of::<Words>()) as u64, "laying out a base")?;
    let mut words = vec![Words::default(); at_once * per_four];
    for first in (0..fours).step_by(at_once) {
        let words = &mut words[..at_once.min(fours - first) * per_four];
        words.par_chunks_mut(per_four).enumerate().for_each(|(four, words)| {
            fill(words, (first + four) * ROWS_TOGETHER, [rows, cols], code, &weight);
        });
        let offset = first * per_four * size_of::<Words>();
        driver.upload(buffer.address() + offset as u64, bytemuck::cast_slice(words))?;
    }
    Ok(buffer)
}

/// The words of four rows from `first_row`.
fn fill(
    words: &mut [Words],
    first_row: usize,
    [rows, cols]: [usize; 2],
    code: Code,
    weight: impl Fn(usize, usize) -> u32,
) {
    words.fill([code.zeros(); ROWS_TOGETHER]);
    let (tile, bits) = (code.tile(), code.bits());
    for row in first_row..(first_row + ROWS_TOGETHER).min(rows) {
        for column in 0..cols {
            let word = &mut words[column / tile * LANES + column % LANES][row - first_row];
            // What adds half an integer's range is there already: it flips the sign bit. For floats nothing is there.
            *word ^= weight(row, column) << (column % tile / LANES * bits);
        }
    }
}
