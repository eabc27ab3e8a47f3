//! Mean squares of columns: the default importance of input features.

use rayon::prelude::*;
use residua_format::vectorised;

use crate::float::Float;

/// Rows that are added in one step, so that the sums are loaded and stored once for all of them.
const STRIPE: usize = 4;
/// Columns of a stripe. A stripe fits in the first-level cache.
const WIDTH: usize = 512;

/// Sums of squares of columns, in f64. Every square is exact and cannot overflow. Additions follow the order of rows,
/// so the sums do not depend on the size of blocks.
///
/// A sum is finite if and only if every weight of the column is.
#[derive(Debug, Default)]
pub(super) struct ColumnSums(Vec<f64>);

impl ColumnSums {
    /// Bytes for `cols` columns and `threads` threads.
    pub(super) fn bytes(cols: usize, threads: usize) -> u64 {
        8 * cols as u64 + (threads * STRIPE * WIDTH * 4) as u64
    }

    pub(super) fn reset(&mut self, cols: usize) {
        self.0.clear();
        self.0.resize(cols, 0.0);
    }

    /// Adds whole rows.
    pub(super) fn add(&mut self, raw: &[u8], float: Float) {
        let (cols, size) = (self.0.len(), float.bytes());
        self.0.par_chunks_mut(WIDTH).enumerate().for_each(|(number, sums)| {
            let mut stripe = [0.0; STRIPE * WIDTH];
            let (start, width) = (number * WIDTH * size, sums.len());
            for rows in raw.chunks(STRIPE * cols * size) {
                let mut filled = 0;
                for row in rows.chunks_exact(cols * size) {
                    float.widen(&row[start..start + width * size], &mut stripe[filled..filled + width]);
                    filled += width;
                }
                add_squares(sums, &stripe[..filled]);
            }
        });
    }

    pub(super) fn all_finite(&self) -> bool {
        self.0.iter().all(|sum| sum.is_finite())
    }

    /// The sum of all squares.
    pub(super) fn total(&self) -> f64 {
        self.0.iter().sum()
    }

    /// Mean squares over `rows` rows.
    pub(super) fn means(&self, rows: usize) -> impl Iterator<Item = f64> + Clone {
        self.0.iter().map(move |sum| sum / rows as f64)
    }
}

vectorised! {
    fn add_squares(sums: &mut [f64], rows: &[f32]) {
        let width = sums.len();
        let square = |v: f32| f64::from(v) * f64::from(v);
        let stripes = rows.chunks_exact(STRIPE * width);
        let rest = stripes.remainder();
        for stripe in stripes {
            let (ab, cd) = stripe.split_at(2 * width);
            let ((a, b), (c, d)) = (ab.split_at(width), cd.split_at(width));
            for ((((sum, &a), &b), &c), &d) in sums.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *sum = *sum + square(a) + square(b) + square(c) + square(d);
            }
        }
        for row in rest.chunks_exact(width) {
            for (sum, &v) in sums.iter_mut().zip(row) {
                *sum += square(v);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Any cut into blocks gives the bits of the plain loop.
        #[test]
        fn sums_do_not_depend_on_blocks(
            (rows, cols) in (1usize..20, 1usize..1100), seed in any::<u64>(), cut in 1usize..20,
        ) {
            let mut state = seed | 1;
            let values: Vec<f32> = (0..rows * cols)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    // All magnitudes, subnormal to 1e38.
                    f32::from_bits((state >> 32) as u32 & 0xFE7F_FFFF)
                })
                .collect();
            let raw: &[u8] = bytemuck::cast_slice(&values);
            let mut sums = ColumnSums::default();
            sums.reset(cols);
            raw.chunks(cut * cols * 4).for_each(|block| sums.add(block, Float::F32));
            let mut plain = vec![0.0f64; cols];
            for (i, &v) in values.iter().enumerate() {
                plain[i % cols] += f64::from(v).powi(2);
            }
            prop_assert_eq!(&sums.0, &plain);
            prop_assert!(sums.all_finite());
            let total = crate::float::sum_of_squares(&values);
            prop_assert!((total - sums.total()).abs() <= total * 1e-12);
        }
    }

    #[test]
    fn a_weight_that_is_not_finite_shows() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let values = [1.0, f32::MAX, bad, f32::MAX];
            let mut sums = ColumnSums::default();
            sums.reset(2);
            sums.add(bytemuck::cast_slice(&values[..2]), Float::F32);
            assert!(sums.all_finite());
            sums.add(bytemuck::cast_slice(&values[2..]), Float::F32);
            assert!(!sums.all_finite());
        }
    }
}
