//! Packed codes times inputs of 8-bit integers, without processor-specific instructions.
//!
//! Every path computes the same: the integer sum of a block, exact; its product with the input's scale, and with the group's
//! scale where there are groups, in f32; the sum of blocks in order; and at the end the row's scale. So all paths give the
//! same bits.

use super::output::Rows;
use crate::base::packed::{BLOCK, Order, PackedView, ROWS, STEP};
use crate::quantized::{Quantized, WORDS};

/// Writes `base · x` for the rows from `first` on, as many as `y` has, to its columns from `at` on.
pub(super) fn product(base: PackedView<'_>, first: usize, x: &Quantized, at: usize, y: &mut Rows<'_>) {
    x.check(base, first, at, y);
    for strip in PackedView::strips(first..first + y.count()) {
        let codes = base.strip_codes(strip..strip + 1);
        for vector in 0..x.width {
            let mut totals = [0.0; ROWS];
            for (block, codes) in codes.chunks_exact(BLOCK / STEP * base.order.step()).enumerate() {
                let mut sums = [x.starts[block * x.width + vector]; ROWS];
                for (i, step) in codes.chunks_exact(base.order.step()).enumerate() {
                    for half in 0..2 {
                        let word = x.words[(block * WORDS + 2 * i + half) * x.width + vector];
                        let integers = word.to_le_bytes().map(|byte| i32::from(byte as i8));
                        for (lane, sum) in sums.iter_mut().enumerate() {
                            let codes = four(base.order, step, half, lane);
                            *sum +=
                                codes.iter().zip(integers).map(|(code, x)| i32::from(*code) * x).sum::<i32>();
                        }
                    }
                }
                let scale = x.scales[block * x.width + vector];
                let group = base.grouped().then(|| base.scales(strip, block));
                for lane in 0..ROWS {
                    let sum = sums[lane] as f32 * scale;
                    totals[lane] += group.map_or(sum, |scales| sum * scales[lane]);
                }
            }
            store(base, strip, first, at + vector, totals, y);
        }
    }
}

/// Unsigned codes of four columns of a row.
#[inline(always)]
fn four(order: Order, step: &[u8], half: usize, lane: usize) -> [u8; 4] {
    std::array::from_fn(|i| match order {
        Order::Bytes => step[half * ROWS * STEP / 2 + 4 * lane + i],
        Order::Nibbles => step[4 * lane + i] >> (4 * half) & 0xF,
        Order::Levels(levels) => levels[usize::from(step[4 * lane + i] >> (4 * half) & 0xF)],
    })
}

/// Writes a strip's sums for one vector, times the rows' scales.
#[inline(always)]
pub(super) fn store(
    base: PackedView<'_>,
    strip: usize,
    first: usize,
    column: usize,
    mut totals: [f32; ROWS],
    y: &mut Rows<'_>,
) {
    if !base.grouped() {
        totals.iter_mut().zip(base.scales(strip, 0)).for_each(|(total, scale)| *total *= scale);
    }
    // The strip may begin before these rows and end after them.
    for (lane, total) in totals.into_iter().enumerate() {
        if let Some(row) = (strip * ROWS + lane).checked_sub(first).filter(|&row| row < y.count()) {
            y.y[row * y.batch + column] = total;
        }
    }
}
