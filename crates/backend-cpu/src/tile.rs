//! Columns of a batch that are worked on together.

use std::borrow::Cow;

use crate::pool::Pool;

/// Values of a vector register.
pub(crate) const LANE_WIDTH: usize = 8;
/// The most columns of a batch that are worked on together: four registers of sums.
pub(crate) const MOST: usize = 4 * LANE_WIDTH;

/// Columns that a thread prepares at a time.
const PART: usize = 4096;

/// Some columns of `x`, `[cols, width]`, width contiguous.
pub(crate) struct Tile<'a> {
    /// First column of the batch.
    pub(crate) at: usize,
    /// Columns of the batch.
    pub(crate) used: usize,
    /// `used` rounded up: 1, 8, 16, 24 or 32. Columns past `used` are zero.
    pub(crate) width: usize,
    /// `cols · width` values; for width 1, padded with zeros to a multiple of [`crate::vector::BLOCK`].
    pub(crate) x: Cow<'a, [f32]>,
    /// Whether every value is finite, so that 0 times it is 0.
    pub(crate) finite: bool,
}

/// `(first, used, width)` of every tile of a batch.
pub(crate) fn cut(batch: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..batch).step_by(MOST).map(move |at| {
        let used = (batch - at).min(MOST);
        (at, used, if used == 1 { 1 } else { used.next_multiple_of(LANE_WIDTH) })
    })
}

/// Values of scratch that the tiles of a batch need, one at a time.
pub(crate) fn scratch(cols: usize, batch: usize) -> usize {
    let needed = cut(batch).filter(|&(.., width)| width != batch).map(|(.., width)| padded(cols, width));
    needed.max().unwrap_or(0)
}

impl<'a> Tile<'a> {
    /// The columns `at..at + used` of `x`, copied unless they are all of it. `x` is `[cols, batch]` followed by
    /// the zeros of a [`CpuVector`](crate::CpuVector).
    pub(crate) fn new(
        pool: &Pool,
        x: &'a [f32],
        [cols, batch]: [usize; 2],
        (at, used, width): (usize, usize, usize),
    ) -> Self {
        let x = if width == batch {
            Cow::Borrowed(x)
        } else {
            Cow::Owned(pack(pool, &x[..cols * batch], [cols, batch], (at, used, width)))
        };
        let finite = all_finite(pool, &x);
        Self { at, used, width, x, finite }
    }
}

fn padded(cols: usize, width: usize) -> usize {
    (cols * width).next_multiple_of(crate::vector::BLOCK)
}

fn pack(
    pool: &Pool,
    x: &[f32],
    [cols, batch]: [usize; 2],
    (at, used, width): (usize, usize, usize),
) -> Vec<f32> {
    let mut packed = vec![0.0; padded(cols, width)];
    let to = packed[..cols * width].chunks_mut(width * PART);
    let parts: Vec<_> = to.zip(x.chunks(batch * PART)).collect();
    pool.map(cols * width, parts, |(to, from)| {
        for (to, from) in to.chunks_exact_mut(width).zip(from.chunks_exact(batch)) {
            to[..used].copy_from_slice(&from[at..at + used]);
        }
    });
    packed
}

/// Whether no value is NaN or infinite.
fn all_finite(pool: &Pool, x: &[f32]) -> bool {
    // Adding one to an exponent of all ones carries into the sign bit. No branch inside a block, so that it
    // compiles to vector instructions.
    let block = |values: &[f32]| {
        values.iter().fold(0, |seen, v| seen | ((v.to_bits() & 0x7FFF_FFFF) + 0x0080_0000)) >> 31 == 0
    };
    let parts = x.chunks(LANE_WIDTH * PART).collect();
    pool.map(x.len(), parts, |part: &[f32]| part.chunks(1024).all(block)).into_iter().all(|finite| finite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finite_means_finite() {
        let pool = Pool::new(2).unwrap();
        for (bad, ok) in
            [(f32::NAN, 0.0), (f32::INFINITY, f32::MAX), (-f32::INFINITY, f32::MIN), (-f32::NAN, -0.0)]
        {
            let mut x = vec![ok; 500_000];
            assert!(all_finite(&pool, &x));
            x[432_100] = bad;
            assert!(!all_finite(&pool, &x));
        }
    }

    #[test]
    fn tiles_cover_the_batch_once() {
        for batch in 0..200 {
            let mut next = 0;
            for (at, used, width) in cut(batch) {
                assert_eq!(at, next);
                assert!((1..=width).contains(&used) && [1, 8, 16, 24, 32].contains(&width));
                next += used;
            }
            assert_eq!(next, batch);
        }
    }
}
