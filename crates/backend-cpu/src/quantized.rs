//! Inputs as 8-bit integers.

use crate::base::PackedView;
use crate::base::packed::{BLOCK, Order};
use crate::kernel::{Path, Rows};
use crate::pool::Pool;

/// Added to a number below 2²², this leaves the nearest integer in the low bits, halves to even.
const ROUND: f32 = 12_582_912.0;
/// Smaller magnitudes count as 0: the reciprocal of a scale must be finite.
const LEAST: f32 = 1e-30;
/// Bits of the smallest magnitude that is not finite.
const NOT_FINITE: u32 = 0x7F80_0000;
/// Words of a block: four columns each.
pub(crate) const WORDS: usize = BLOCK / 4;
/// Blocks that a thread rounds at a time.
const PART: usize = 16;

/// Some vectors of `x`, rounded to integers from −127 to 127 with a scale for every 32 columns. All planes are
/// `[…, width]`, width contiguous.
#[derive(Debug)]
pub(crate) struct Quantized {
    /// Number of vectors.
    pub(crate) width: usize,
    pub(crate) blocks: usize,
    /// `[blocks · 8, width]` words of four columns each, the first in the lowest byte; 0 past the last column.
    pub(crate) words: Vec<u32>,
    /// `[blocks, width]`. NaN for a block with a value that is not finite.
    pub(crate) scales: Vec<f32>,
    /// `[blocks, width]`: what a sum of unsigned codes times the block's integers starts from, so that it is the sum of the
    /// signed codes.
    pub(crate) starts: Vec<i32>,
}

impl Quantized {
    /// Bytes for `width` vectors of `cols` values.
    pub(crate) fn bytes(cols: usize, width: usize) -> usize {
        cols.div_ceil(BLOCK) * width * (4 * WORDS + 8)
    }

    /// The vectors `at..at + width` of `x`, `[cols, batch]`, for a base with codes of this order.
    pub(crate) fn new(
        path: Path,
        pool: &Pool,
        x: &[f32],
        [cols, batch]: [usize; 2],
        (at, width): (usize, usize),
        order: Order,
    ) -> Self {
        let blocks = cols.div_ceil(BLOCK);
        let mut words = vec![0; blocks * WORDS * width];
        let mut scales = vec![0.0; blocks * width];
        let mut starts = vec![0; blocks * width];
        let parts: Vec<_> = x[..cols * batch]
            .chunks(PART * BLOCK * batch)
            .zip(words.chunks_mut(PART * WORDS * width))
            .zip(scales.chunks_mut(PART * width).zip(starts.chunks_mut(PART * width)))
            .collect();
        pool.map(cols * width, parts, |((x, words), (scales, starts))| {
            path.round(Part { x, batch, at, width, offset: order.offset(), words, scales, starts });
        });
        Self { width, blocks, words, scales, starts }
    }
}

impl Quantized {
    /// Checks that it fits the base's blocks, that the rows exist and that `y` has its columns.
    pub(crate) fn check(&self, base: PackedView<'_>, first: usize, at: usize, y: &Rows<'_>) {
        let per_block = self.blocks * self.width;
        assert!(first + y.count() <= base.shape[0] && at + self.width <= y.batch);
        assert!(self.blocks == base.blocks() && self.words.len() == WORDS * per_block);
        assert!(self.scales.len() == per_block && self.starts.len() == per_block);
    }
}

/// Some blocks of columns.
pub(crate) struct Part<'a> {
    /// `[columns, batch]`.
    x: &'a [f32],
    batch: usize,
    at: usize,
    width: usize,
    offset: i32,
    words: &'a mut [u32],
    scales: &'a mut [f32],
    starts: &'a mut [i32],
}

/// Rounds some blocks. It compiles to the vector instructions of its caller.
#[inline(always)]
pub(crate) fn round(part: Part<'_>) {
    let Part { x, batch, at, width, offset, words, scales, starts } = part;
    let planes = words
        .chunks_exact_mut(WORDS * width)
        .zip(scales.chunks_exact_mut(width).zip(starts.chunks_exact_mut(width)));
    for (x, (words, (scales, starts))) in x.chunks(BLOCK * batch).zip(planes) {
        if batch == 1 {
            round_one(x, offset, words, &mut scales[0], &mut starts[0]);
        } else {
            round_many(x, batch, at, offset, words, scales, starts);
        }
    }
}

/// One block of one vector.
#[inline(always)]
fn round_one(x: &[f32], offset: i32, words: &mut [u32], scale: &mut f32, start: &mut i32) {
    let mut block = [0.0; BLOCK];
    block[..x.len()].copy_from_slice(x);
    let most = block.iter().fold(0, |most, x| magnitude(*x).max(most));
    let factor;
    (*scale, factor) = scale_and_factor(most);
    let mut sum = 0;
    let (quads, _) = block.as_chunks::<4>();
    for (word, quad) in words.iter_mut().zip(quads) {
        let integers = quad.map(|x| integer(x, factor));
        *word = u32::from_le_bytes(integers.map(|i| i as u8));
        sum += integers.iter().map(|&i| i32::from(i)).sum::<i32>();
    }
    *start = -offset * sum;
}

/// One block of `scales.len()` vectors; `scales` and `starts` also hold what is found on the way.
#[inline(always)]
fn round_many(
    x: &[f32],
    batch: usize,
    at: usize,
    offset: i32,
    words: &mut [u32],
    scales: &mut [f32],
    starts: &mut [i32],
) {
    let width = scales.len();
    let columns = || x.chunks_exact(batch).map(|column| &column[at..at + width]);
    // The largest magnitudes, then the factors, then the sums.
    starts.fill(0);
    for column in columns() {
        starts.iter_mut().zip(column).for_each(|(most, x)| *most = (*most).max(magnitude(*x) as i32));
    }
    for (start, scale) in starts.iter_mut().zip(scales.iter_mut()) {
        let factor;
        (*scale, factor) = scale_and_factor(*start as u32);
        *start = factor.to_bits() as i32;
    }
    words.fill(0);
    for (i, column) in columns().enumerate() {
        let words = &mut words[i / 4 * width..][..width];
        for ((word, x), factor) in words.iter_mut().zip(column).zip(starts.iter()) {
            let integer = integer(*x, f32::from_bits(*factor as u32));
            *word |= u32::from(integer as u8) << (i % 4 * 8);
        }
    }
    starts.fill(0);
    for words in words.chunks_exact(width) {
        for (start, word) in starts.iter_mut().zip(words) {
            let [a, b, c, d] = [24, 16, 8, 0].map(|shift| ((word << shift) as i32) >> 24);
            *start -= offset * (a + b + c + d);
        }
    }
}

/// The bits of a magnitude. They order as numbers do.
#[inline(always)]
fn magnitude(x: f32) -> u32 {
    x.to_bits() & 0x7FFF_FFFF
}

/// A block's scale, and what its values are multiplied by.
#[inline(always)]
fn scale_and_factor(most: u32) -> (f32, f32) {
    let largest = f32::from_bits(most);
    if most >= NOT_FINITE {
        (f32::NAN, 0.0)
    } else if largest < LEAST {
        (0.0, 0.0)
    } else {
        (largest / 127.0, 127.0 / largest)
    }
}

#[inline(always)]
fn integer(x: f32, factor: f32) -> i8 {
    (x * factor + ROUND).to_bits() as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantized(x: &[f32], [cols, batch]: [usize; 2], at: usize, width: usize) -> Quantized {
        let pool = Pool::new(1).unwrap();
        Quantized::new(Path::best(), &pool, x, [cols, batch], (at, width), Order::Nibbles)
    }

    #[test]
    fn values_are_within_half_a_step() {
        let (cols, batch) = (75, 5);
        let x: Vec<f32> = (0..cols * batch).map(|i| ((i * 7919) % 1009) as f32 / 100.0 - 5.0).collect();
        let all = quantized(&x, [cols, batch], 1, 3);
        for vector in 0..3 {
            let column: Vec<f32> = x.iter().skip(vector + 1).step_by(batch).copied().collect();
            let one = quantized(&column, [cols, 1], 0, 1);
            for block in 0..3 {
                let (scale, start) = (all.scales[block * 3 + vector], all.starts[block * 3 + vector]);
                assert_eq!((scale, start), (one.scales[block], one.starts[block]));
                let mut sum = 0;
                for i in 0..BLOCK {
                    let word = all.words[(block * WORDS + i / 4) * 3 + vector];
                    assert_eq!(word, one.words[block * WORDS + i / 4]);
                    let integer = word.to_le_bytes()[i % 4] as i8;
                    sum += i32::from(integer);
                    let x = column.get(block * BLOCK + i).copied().unwrap_or(0.0);
                    assert!(
                        (f32::from(integer) * scale - x).abs() <= scale * 0.5001,
                        "{integer} {scale} {x}"
                    );
                }
                assert_eq!(start, -8 * sum);
            }
        }
    }

    #[test]
    fn only_blocks_with_bad_values_are_nan() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0; 64];
            x[40] = bad;
            let found = quantized(&x, [64, 1], 0, 1);
            assert!(found.scales[0] == 1.0 / 127.0 && found.scales[1].is_nan());
        }
        assert_eq!(quantized(&[1e-40; 32], [32, 1], 0, 1).scales, [0.0]);
    }
}
