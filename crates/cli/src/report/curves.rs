//! The reconstruction error as a function of density and of alpha, from the sums of one pass over a file.
//!
//! With `d = w − base` and the residual's entries `r` (0 if there is none), the squared error at a scale
//! alpha is `Σ(d − alpha·r)² = Σd² − 2·alpha·Σd·r + alpha²·Σr²`: three sums give the whole curve. Keeping only
//! the largest `|r|` turns `d²` into `(d − r)²` at those places. We sum that gain per bucket of `|r|`: this needs
//! no sorting, and its memory does not depend on the matrix.

/// Buckets of `|r|`: the exponent and three bits of the mantissa of an f32.
const SHIFT: u32 = 20;
const BUCKETS: usize = 1 << (31 - SHIFT);

/// The sums of one matrix.
#[derive(Debug, Clone)]
pub(crate) struct Sums {
    /// Σw².
    target: f64,
    /// Σd².
    base: f64,
    /// Σd·r.
    cross: f64,
    /// Σr².
    square: f64,
    /// Number of entries, and the gain from keeping them, by `|r|`.
    buckets: Vec<(u64, f64)>,
    nnz: u64,
    elements: u64,
}

impl Default for Sums {
    fn default() -> Self {
        let buckets = vec![(0, 0.0); BUCKETS];
        Self { target: 0.0, base: 0.0, cross: 0.0, square: 0.0, buckets, nnz: 0, elements: 0 }
    }
}

impl Sums {
    /// Adds a row: its base, its residual, and the original weights (`None`: the sum of base and residual).
    pub(crate) fn add_row(
        &mut self,
        base: &[f32],
        residual: impl Iterator<Item = (u32, f32)>,
        weights: Option<&[f32]>,
    ) {
        self.elements += base.len() as u64;
        let weights = weights.unwrap_or(base);
        let exact = std::ptr::eq(weights, base);
        for (&base, &weight) in base.iter().zip(weights) {
            let (base, weight) = (f64::from(base), f64::from(weight));
            self.target += weight * weight;
            self.base += (weight - base) * (weight - base);
        }
        for (column, r) in residual {
            let (b, r64) = (f64::from(base[column as usize]), f64::from(r));
            let d = if exact { r64 } else { f64::from(weights[column as usize]) - b };
            if exact {
                // So far this place was counted as if the weight were the base.
                self.target += (b + d) * (b + d) - b * b;
                self.base += d * d;
            }
            self.cross += d * r64;
            self.square += r64 * r64;
            self.nnz += 1;
            let bucket = &mut self.buckets[(r.abs().to_bits() >> SHIFT) as usize];
            bucket.0 += 1;
            bucket.1 += d * d - (d - r64) * (d - r64);
        }
    }

    fn squared_error_at(&self, alpha: f64) -> f64 {
        (self.base - 2.0 * alpha * self.cross + alpha * alpha * self.square).max(0.0)
    }

    /// Squared errors with the largest `count` entries kept, for rising counts. Inside a bucket all entries have the same
    /// gain.
    fn squared_errors_keeping(&self, counts: &[f64]) -> Vec<f64> {
        let mut buckets = self.buckets.iter().rev().filter(|bucket| bucket.0 > 0);
        let (mut passed, mut error) = (0.0, self.base);
        let mut bucket = buckets.next();
        let at = |&count: &f64| {
            while let Some(&(entries, gain)) = bucket
                && passed + entries as f64 <= count
            {
                passed += entries as f64;
                error -= gain;
                bucket = buckets.next();
            }
            let rest = bucket.map_or(0.0, |&(entries, gain)| gain * (count - passed) / entries as f64);
            (error - rest).max(0.0)
        };
        counts.iter().map(at).collect()
    }
}

/// Steps of a curve.
const STEPS: usize = 100;
/// The end of the curve over alpha.
const LAST_ALPHA: f64 = 2.0;

/// The curves of all matrices together.
#[derive(Debug)]
pub(crate) struct Curves {
    /// Σw².
    target: f64,
    nnz: u64,
    elements: u64,
    /// Squared errors at each step of alpha.
    alphas: Vec<f64>,
    /// Squared errors with each share of every matrix's entries kept.
    shares: Vec<f64>,
    matrices: usize,
}

impl Default for Curves {
    fn default() -> Self {
        let errors = vec![0.0; STEPS + 1];
        Self { target: 0.0, nnz: 0, elements: 0, alphas: errors.clone(), shares: errors, matrices: 0 }
    }
}

impl Curves {
    /// Adds a matrix.
    pub(crate) fn add(&mut self, sums: &Sums) {
        self.target += sums.target;
        self.nnz += sums.nnz;
        self.elements += sums.elements;
        self.matrices += 1;
        for (step, error) in self.alphas.iter_mut().enumerate() {
            *error += sums.squared_error_at(alpha(step));
        }
        let counts: Vec<f64> = (0..=STEPS).map(|step| share(step) * sums.nnz as f64).collect();
        for (sum, error) in self.shares.iter_mut().zip(sums.squared_errors_keeping(&counts)) {
            *sum += error;
        }
    }

    /// Whether there is no matrix.
    pub(crate) fn is_empty(&self) -> bool {
        self.matrices == 0
    }

    /// Relative error, `√(Σ squared errors / Σw²)`, by alpha from 0 to 2.
    pub(crate) fn by_alpha(&self) -> Vec<(f64, f64)> {
        let errors = self.alphas.iter().enumerate();
        errors.map(|(step, error)| (alpha(step), relative(*error, self.target))).collect()
    }

    /// Relative error with the same share of every matrix's entries kept, the largest first: `(density, error)` from 0 to
    /// the file's density.
    pub(crate) fn by_density(&self) -> Vec<(f64, f64)> {
        let density = self.nnz as f64 / (self.elements as f64).max(1.0);
        let errors = self.shares.iter().enumerate();
        errors.map(|(step, error)| (share(step) * density, relative(*error, self.target))).collect()
    }
}

fn share(step: usize) -> f64 {
    step as f64 / STEPS as f64
}

fn alpha(step: usize) -> f64 {
    LAST_ALPHA * share(step)
}

fn relative(squared: f64, target: f64) -> f64 {
    if target > 0.0 { (squared / target).sqrt() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: [f32; 6] = [1.0, -2.0, 0.5, 0.0, 3.0, -1.0];
    const WEIGHTS: [f32; 6] = [1.5, -2.0, 0.25, 4.0, 3.25, -1.0];
    const RESIDUAL: [(u32, f32); 3] = [(0, 0.5), (3, 3.75), (4, 0.25)];

    /// The error from its definition, keeping the entries for which `keep` holds.
    fn direct(weights: &[f32], alpha: f32, keep: impl Fn(u32) -> bool) -> f64 {
        let mut rebuilt = BASE;
        for (column, value) in RESIDUAL {
            if keep(column) {
                rebuilt[column as usize] += alpha * value;
            }
        }
        let error: f32 = rebuilt.iter().zip(weights).map(|(r, w)| (w - r) * (w - r)).sum();
        f64::from(error / weights.iter().map(|w| w * w).sum::<f32>()).sqrt()
    }

    fn check(weights: Option<&[f32]>, target: &[f32]) {
        let mut sums = Sums::default();
        sums.add_row(&BASE, RESIDUAL.into_iter(), weights);
        let mut curves = Curves::default();
        curves.add(&sums);
        for (alpha, error) in curves.by_alpha() {
            let expected = direct(target, alpha as f32, |_| true);
            assert!((error - expected).abs() < 1e-6, "alpha {alpha}: {error}, {expected}");
        }
        let thirds = sums.squared_errors_keeping(&[0.0, 1.0, 2.0, 3.0]);
        let kept: [&[u32]; 4] = [&[], &[3], &[0, 3], &[0, 3, 4]];
        for (error, kept) in thirds.into_iter().map(|error| relative(error, sums.target)).zip(kept) {
            let expected = direct(target, 1.0, |column| kept.contains(&column));
            assert!((error - expected).abs() < 1e-6, "{kept:?}: {error}, {expected}");
        }
        let ends = curves.by_density();
        assert_eq!((ends[0].0, ends[STEPS].0), (0.0, 0.5));
        assert!((ends[0].1 - direct(target, 0.0, |_| true)).abs() < 1e-6);
        assert!((ends[STEPS].1 - direct(target, 1.0, |_| true)).abs() < 1e-6);
    }

    #[test]
    fn curves_are_what_their_definition_says() {
        check(Some(&WEIGHTS), &WEIGHTS);
        let mut rebuilt = BASE;
        RESIDUAL.iter().for_each(|&(column, value)| rebuilt[column as usize] += value);
        check(None, &rebuilt);
    }
}
