//! Columns of a batch that are worked on together.

use std::borrow::Cow;

use residua_backend::BackendError;

use crate::borrowed::zeroed;
use crate::pool::Pool;
use crate::vector::BLOCK;

/// Values of a vector register.
pub(crate) const LANE_WIDTH: usize = 8;
/// Columns of a batch that a kernel works on together, at most: four registers of sums.
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
    /// `cols · width` values; for width 1, padded with zeros to a multiple of [`BLOCK`].
    pub(crate) x: Cow<'a, [f32]>,
    /// For a base and a width of at most 8: the same values vector after vector, [`Tile::vectors`] of them, each padded
    /// with zeros to a multiple of [`BLOCK`]. Empty otherwise.
    pub(crate) by_vector: Cow<'a, [f32]>,
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

/// Values of scratch for a tile of a batch.
pub(crate) fn scratch(
    [cols, batch]: [usize; 2],
    (_, used, width): (usize, usize, usize),
    dense: bool,
) -> usize {
    let packed = if width == batch { 0 } else { padded(cols, width) };
    let by_vector = dense && (2..=LANE_WIDTH).contains(&width);
    packed + if by_vector { vectors(used) * padded(cols, 1) } else { 0 }
}

/// Vectors in the transposed copy of a tile with `used` of them.
fn vectors(used: usize) -> usize {
    used.next_power_of_two()
}

impl<'a> Tile<'a> {
    /// The columns `at..at + used` of `x`, copied unless they are all of it. `x` is `[cols, batch]` followed by
    /// the zeros of a [`CpuVector`](crate::CpuVector). `dense`: the tile will be multiplied with a base.
    pub(crate) fn new(
        pool: &Pool,
        x: &'a [f32],
        [cols, batch]: [usize; 2],
        (at, used, width): (usize, usize, usize),
        dense: bool,
    ) -> Self {
        let whole = &x[..cols * batch];
        let by_vector = match width {
            1 if batch == 1 => Cow::Borrowed(x),
            1..=LANE_WIDTH if dense => Cow::Owned(transpose(pool, whole, [cols, batch], at, used)),
            _ => Cow::Borrowed(&[][..]),
        };
        let x = match width {
            _ if width == batch => Cow::Borrowed(x),
            _ => Cow::Owned(pack(pool, whole, [cols, batch], (at, used, width))),
        };
        let finite = all_finite(pool, &x);
        Self { at, used, width, x, by_vector, finite }
    }

    /// A tile of `used` vectors of `cols` values, one after the other in `x`. They are copied unless they already have the
    /// layout of the kernels.
    pub(crate) fn of_vectors(
        x: &'a [f32],
        cols: usize,
        (used, width): (usize, usize),
    ) -> Result<Self, BackendError> {
        let by_vector = match width {
            1..=LANE_WIDTH if cols.is_multiple_of(BLOCK) && vectors(used) == used => Cow::Borrowed(x),
            1..=LANE_WIDTH => {
                let padded = padded(cols, 1);
                let mut copy = zeroed(vectors(used) * padded)?;
                for (to, from) in copy.chunks_exact_mut(padded.max(1)).zip(x.chunks_exact(cols.max(1))) {
                    to[..cols].copy_from_slice(from);
                }
                Cow::Owned(copy)
            }
            _ => Cow::Borrowed(&[][..]),
        };
        let x = if width == 1 {
            Cow::Borrowed(x)
        } else {
            let mut by_column = zeroed(cols * width)?;
            for (column, to) in by_column.chunks_exact_mut(width).enumerate() {
                to.iter_mut().zip(x[column..].iter().step_by(cols)).for_each(|(to, x)| *to = *x);
            }
            Cow::Owned(by_column)
        };
        // Not used: borrowed rows have no fillers.
        Ok(Self { at: 0, used, width, x, by_vector, finite: false })
    }

    /// Vectors in [`by_vector`](Self::by_vector): `used` rounded up to 1, 2, 4 or 8.
    pub(crate) fn vectors(&self) -> usize {
        vectors(self.used)
    }
}

fn transpose(pool: &Pool, x: &[f32], [cols, batch]: [usize; 2], at: usize, used: usize) -> Vec<f32> {
    let padded = padded(cols, 1);
    let mut transposed = vec![0.0; vectors(used) * padded];
    // No columns, nothing to copy; chunks of 0 are not allowed.
    let parts = transposed.chunks_exact_mut(padded.max(1)).take(used).enumerate().collect();
    pool.map(cols * used, parts, |(vector, to): (usize, &mut [f32])| {
        for (to, from) in to.iter_mut().zip(x.chunks_exact(batch)) {
            *to = from[at + vector];
        }
    });
    transposed
}

fn padded(cols: usize, width: usize) -> usize {
    (cols * width).next_multiple_of(BLOCK)
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
    // One added to an exponent of all ones carries into the sign bit. Without a branch inside a block, it compiles to
    // vector instructions.
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
