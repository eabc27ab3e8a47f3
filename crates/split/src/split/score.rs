//! Scores.
//!
//! The order of scores `residual² · h` is that of their square roots, `|residual| · √h`. √h is scaled by a power of
//! two, so that the largest lies in [0.5, 1). So nothing overflows, and nothing underflows that residual² would keep.
//! A comparable score is a non-negative f32, and such floats order as their bits do.

/// The weight of every column in a score.
#[derive(Debug, Default)]
pub(super) struct ColumnWeights {
    weights: Vec<f32>,
    /// The factor of √h, a power of two.
    scale: f64,
}

impl ColumnWeights {
    /// Sets the weights from h. Every h is finite and at least 0. If all are 0, all count as 1.
    pub(super) fn set(&mut self, h: impl Iterator<Item = f64> + Clone) {
        let largest = h.clone().fold(0.0, f64::max).sqrt();
        self.weights.clear();
        if largest == 0.0 {
            self.scale = 1.0;
            self.weights.extend(h.map(|_| 1.0));
            return;
        }
        // The exponent of f64; √h of any f32 matrix is far from f64's subnormals.
        let exponent = ((largest.to_bits() >> 52) & 0x7FF) as i32 - 1022;
        self.scale = 2f64.powi(-exponent);
        // −0 is 0: its sign would make the bits of a score those of a very large one.
        self.weights.extend(h.map(|h| (h.abs().sqrt() * self.scale) as f32));
    }

    pub(super) fn get(&self) -> &[f32] {
        &self.weights
    }

    /// The comparable score of a score `residual² · h`.
    pub(super) fn comparable(&self, score: f32) -> f32 {
        ((f64::from(score)).sqrt() * self.scale) as f32
    }

    /// The score `residual² · h` of a comparable score.
    pub(super) fn score(&self, comparable: f32) -> f64 {
        (f64::from(comparable) / self.scale).powi(2)
    }
}

/// The comparable score of one weight.
#[inline(always)]
pub(super) fn comparable(residual: f32, weight: f32) -> f32 {
    residual.abs() * weight
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Comparable scores order as `residual² · h` does in f64, for weights of any size.
        #[test]
        fn the_order_is_that_of_the_scores(
            entries in prop::collection::vec((-1.0f32..1.0, 0.0f64..1.0), 2..20), exponent in -90i32..90,
        ) {
            let (size, h_size) = (2f32.powi(exponent), 4f64.powi(exponent));
            let mut weights = ColumnWeights::default();
            weights.set(entries.iter().map(|(_, h)| h * h_size));
            let scored: Vec<(f64, f32)> = entries
                .iter()
                .zip(weights.get())
                .map(|(&(r, h), &w)| (f64::from(r * size).powi(2) * h * h_size, comparable(r * size, w)))
                .collect();
            for &(a, x) in &scored {
                prop_assert!(x.is_finite());
                prop_assert!((weights.score(x) - a).abs() <= a * 1e-6);
                for &(b, y) in &scored {
                    prop_assert!(a <= b * (1.0 + 1e-6) || x >= y);
                }
            }
        }
    }

    #[test]
    fn a_negative_zero_is_zero() {
        let mut weights = ColumnWeights::default();
        weights.set([-0.0, 0.25].into_iter());
        assert_eq!(
            weights.get().iter().map(|weight| weight.to_bits()).collect::<Vec<_>>(),
            [0, 0.5f32.to_bits()]
        );
    }

    #[test]
    fn columns_of_no_weight_count_as_equal() {
        let mut weights = ColumnWeights::default();
        weights.set([0.0; 3].into_iter());
        assert_eq!(weights.get(), [1.0; 3]);
    }
}
